//! What begins once main is healthy, through changes of role.

use super::*;

fn settling() -> Config {
    Config { hooks: Hooks { post_start: Some(hook("settle")), ..hooks() }, ..candidate() }
}

/// A replica whose `post_start` runs.
fn following(config: Config) -> Script {
    let mut script = Script::candidate(config);
    script.sees_lock(held("other", 9, 3));
    assert_eq!(script.told().last().unwrap(), "spawn post_start");
    assert_eq!(script.variable("post_start", "PILOTFISH_ROLE"), Some("replica"));
    script
}

/// It comes to lead.
fn taken_over(script: &mut Script) {
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(20_000);
    script.told();
    script.takes(7);
}

#[test]
fn a_leaders_post_start_comes_after_on_promote() {
    let mut script = Script::candidate(settling());
    script.wins(7);
    script.tells(&["join db", "open", "acquire", "spawn main", "spawn on_promote"]);
    script.ends("on_promote", 0);
    script.tells(&["spawn post_start"]);
    assert_eq!(script.variable("post_start", "PILOTFISH_ROLE"), Some("leader"));
    assert_eq!(script.variable("post_start", "PILOTFISH_TERM"), Some("7"));
}

#[test]
fn a_promotion_waits_for_a_replicas_post_start_to_end_and_it_runs_anew_for_the_leader() {
    let mut script = following(settling());
    taken_over(&mut script);
    script.tells(&["acquire", "SIGTERM to all of post_start"]);
    script.ends_as("post_start", TERMINATED);
    script.tells(&["spawn on_promote"]);
    script.ends("on_promote", 0);
    script.tells(&["spawn post_start"]);
    assert_eq!(script.variable("post_start", "PILOTFISH_ROLE"), Some("leader"));
}

#[test]
fn one_that_has_run_for_the_replica_does_not_run_again_for_the_leader_of_the_same_start() {
    let mut script = following(settling());
    script.ends("post_start", 0);
    taken_over(&mut script);
    script.tells(&["acquire", "spawn on_promote"]);
    script.ends("on_promote", 0);
    script.tells(&[]);
}

#[test]
fn the_lock_is_kept_until_a_leaders_post_start_has_ended() {
    let mut script = Script::leading(settling());
    step_down(&mut script);
    script.tells(&["SIGTERM to all of post_start", "reply ok"]);
    script.ends_as("post_start", TERMINATED);
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release", "spawn post_start"]);
    assert_eq!(script.variable("post_start", "PILOTFISH_ROLE"), Some("replica"));
}

#[test]
fn what_a_leaders_post_start_may_keep_ends_with_the_role() {
    let mut config = settling();
    config.hooks.post_start.as_mut().unwrap().leftovers = crate::config::Leftovers::Keep;
    let mut script = Script::leading(config);
    script.ends_leaving("post_start", ExitStatus::Exited(0));
    step_down(&mut script);
    script.tells(&["SIGTERM to all of post_start", "reply ok"]);
    script.group_ends("post_start");
    script.tells(&["spawn on_demote"]);
}

#[test]
fn one_for_leaders_does_not_run_for_a_replica() {
    let mut config = settling();
    config.hooks.post_start.as_mut().unwrap().when = When::Leader;
    let mut script = Script::candidate(config);
    script.sees_lock(held("other", 9, 3));
    script.tells(&["join db", "spawn main"]);
}
