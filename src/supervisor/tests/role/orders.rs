//! What people order of a candidate's main.

use super::*;

fn restart(script: &mut Script) {
    script.send(Event::Control { reply: ReplyId(1), request: Request::Restart { name: None } });
}

#[test]
fn a_restarted_leader_leaves_its_role_in_peace_and_runs_again_as_a_replica() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    restart(&mut script);
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release", "SIGTERM to main"]);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.ends("main", 0);
    // It has led: for a replica it is prepared anew, which is nothing here.
    script.tells(&["close", "spawn main", "reply ok"]);
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
}

#[test]
fn a_restarted_leader_that_nobody_succeeds_leads_again_with_the_main_that_starts() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    restart(&mut script);
    script.ends("on_demote", 0);
    script.released();
    script.ends("main", 0);
    script.told();
    script.starts_slowly = true;
    script.sees_lock(View { at: 9, last_revision: Revision(9), ..free() });
    assert_eq!(script.when("open"), 1_000, "others go first");
    script.takes(10);
    let told = script.told();
    assert!(told.contains(&"spawn main".to_owned()) && !told.contains(&"release".to_owned()), "{told:?}");
    script.send(Event::Spawned { run: script.run_of("main"), pid: 100 });
    script.tells(&["reply ok", "spawn on_promote"]);
}

#[test]
fn a_restarted_leader_drains_before_it_leaves_its_role() {
    let mut draining = Config { services: vec![service("web")], hooks: hooks(), ..candidate() };
    draining.stop.drain = Duration::from_secs(1);
    let mut script = Script::leading(draining);
    script.published("web", Ok(()));
    restart(&mut script);
    script.tells(&["publish web draining"]);
    assert_eq!(script.when("spawn on_demote"), 1_000);
}

#[test]
fn a_main_that_ends_for_its_role_is_in_no_rotation_meanwhile() {
    let mut script = Script::leading(Config { services: vec![service("web")], ..standby() });
    script.published("web", Ok(()));
    step_down(&mut script);
    let told = script.told();
    assert!(
        told.contains(&"SIGTERM to main".to_owned()) && told.contains(&"publish web draining".to_owned()),
        "{told:?}"
    );
}

#[test]
fn a_leader_without_on_demote_is_restarted_by_leaving_its_role() {
    let mut script = Script::leading(candidate());
    restart(&mut script);
    script.tells(&["SIGTERM to main"]);
    script.ends("main", 0);
    script.tells(&["guard off", "release"]);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.tells(&["close", "spawn main", "reply ok"]);
}

#[test]
fn a_standby_that_led_has_ended_and_stands_by() {
    let mut script = Script::leading(standby());
    restart(&mut script);
    script.tells(&["SIGTERM to main"]);
    script.ends("main", 0);
    script.tells(&["guard off", "release", "reply ok"]);
    // It doesn't run, and there is nothing to restart.
    restart(&mut script);
    script.tells(&["reply error"]);
}

#[test]
fn a_restarted_leader_whose_main_ends_for_its_role_stands_again_as_soon() {
    for config in [standby(), candidate()] {
        let mut script = Script::leading(config);
        restart(&mut script);
        script.ends("main", 0);
        script.released();
        script.told();
        script.sees_lock(View { at: 9, last_revision: Revision(9), ..free() });
        assert_eq!(script.when("open"), 1_000, "others go first");
    }
}

#[test]
fn a_replica_that_is_being_restarted_takes_no_lock() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.told();
    restart(&mut script);
    script.tells(&["SIGTERM to main"]);
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(8_000);
    script.tells(&[]);
    script.ends("main", 0);
    script.tells(&["spawn main", "open", "reply ok"]);
}

#[test]
fn what_an_election_writes_itself_nobody_else_changes_by_its_agent() {
    let mut script = Script::leading(candidate());
    script.orders("db/acting", KeyOperation::Get, false);
    script.tells(&["key"]);
    for change in [KeyChange::Delete, KeyChange::Put(Value(b"me".as_slice().into()))] {
        script.orders("db/acting", KeyOperation::Change(change.clone()), false);
        script.tells(&["reply unmet"]);
        // Another election's, or a user's.
        script.orders("db/acting/since", KeyOperation::Change(change), false);
        script.tells(&["key"]);
    }
    let own = |key: &str, one_space: bool| is_elections_own(key, "db", one_space);
    for key in ["db/leader", "db/last", "db/ranks/me"] {
        assert!(own(key, true) && !own(key, false), "{key}");
    }
    assert!(!own("db2/acting", true) && !own("db", true) && !own("leader", true));
}

#[test]
fn what_is_fenced_is_written_by_the_term_that_acts_and_until_nothing_does() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.told();
    script.orders_key(true);
    script.orders_key(false);
    script.tells(&["reply unmet", "key"]);

    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    script.orders_key(true);
    script.tells(&["key for term 7"]);
    step_down(&mut script);
    script.told();
    // on_demote may note how far it came.
    script.orders_key(true);
    script.tells(&["key for term 7"]);
    script.ends("on_demote", 0);
    script.told();
    script.orders_key(true);
    script.tells(&["reply unmet"]);
}
