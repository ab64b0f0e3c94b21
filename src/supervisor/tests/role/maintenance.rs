//! A candidate in maintenance.

use super::*;

#[test]
fn a_leader_in_maintenance_leaves_the_rotation_then_the_role_and_stands_again_after_it() {
    let config = Config { hooks: hooks(), services: vec![service("web")], ..candidate() };
    let mut script = Script::leading(config);
    script.published("web", Ok(()));
    script.told();
    script.maintenance(None, Some("disk"));
    script.tells(&["publish web passing, in maintenance: disk", "reply ok", "spawn on_demote"]);
    script.published("web", Ok(()));
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release"]);
    script.released();
    script.sees_lock(View { at: 9, ..free() });
    script.told();
    script.until(60_000);
    // It looks, as every follower does, and takes nothing.
    script.tells(&[]);
    script.maintenance_off();
    script.published("web", Ok(()));
    script.tells(&["publish web passing", "open", "reply ok"]);
}

#[test]
fn a_follower_in_maintenance_leaves_a_free_lock_to_others() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.maintenance(Some(60_000), None);
    script.told();
    script.sees_lock(View { at: 9, ..free() });
    script.until(59_000);
    script.tells(&[]);
    assert_eq!(script.when("open"), 60_000);
}

#[test]
fn a_leader_without_on_demote_runs_on_as_a_replica_in_maintenance() {
    let mut script = Script::leading(candidate());
    script.maintenance(None, None);
    script.tells(&["reply ok", "SIGTERM to main"]);
    script.ends("main", 0);
    script.tells(&["guard off", "release", "spawn main"]);
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
}

#[test]
fn a_leader_that_stops_in_the_midst_of_a_demotion_for_maintenance_releases_once() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    script.maintenance(None, None);
    script.signal(Signal::TERM);
    script.ends("on_demote", 0);
    script.ends("main", 0);
    script.tells(&["reply ok", "spawn on_demote", "guard off", "release", "SIGTERM to main"]);
    script.released();
    script.tells(&["close", "exit 0"]);
}
