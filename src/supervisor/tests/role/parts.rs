//! The role that main is started in is the one that it was prepared for.

use super::*;
use crate::config::RestartPolicy;

/// Restarted whatever happens, prepared before.
fn prepared() -> Config {
    let mut config = candidate();
    config.process.restart.policy = RestartPolicy::Always;
    config.hooks = Hooks { pre_start: vec![pre_start(0)], ..hooks() };
    config
}

fn leader(config: Config) -> Script {
    let mut script = Script::candidate(config);
    script.wins(7);
    script.ends("pre_start", 0);
    script.ends("on_promote", 0);
    script.told();
    script
}

/// A replica of another's, whose main runs.
fn replica(config: Config) -> Script {
    let mut script = Script::candidate(config);
    script.sees_lock(held("other", 9, 3));
    script.ends("pre_start", 0);
    script.told();
    script
}

/// The lock falls free and is won, and nobody has to wait for anybody.
fn comes_to_lead(script: &mut Script) {
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(script.now() + 20_000);
    let session = SessionId(7);
    script.event(ElectionEvent::Opened { ask: script.asked("open"), result: Ok((session, LEASE, Revision(0))) });
    script.event(ElectionEvent::Acquired { ask: script.asked("acquire"), result: Acquisition::Won(Term(7)) });
}

#[test]
fn a_leader_that_crashed_is_prepared_again_before_main_is_a_replica() {
    let mut script = leader(prepared());
    script.ends("main", 1);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.until(1_000);
    script.tells(&["guard off", "release", "close", "spawn pre_start"]);
    assert_eq!(script.variable("pre_start", "PILOTFISH_ROLE"), Some("replica"));
    assert_eq!(script.variable("pre_start", "PILOTFISH_LEADER"), Some("other:3306"));
    script.ends("pre_start", 0);
    script.tells(&["spawn main"]);
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
}

#[test]
fn a_leader_that_crashed_does_not_run_again_before_its_role_is_known() {
    let mut script = leader(prepared());
    script.ends("main", 1);
    script.released();
    script.until(60_000);
    let told = script.told();
    assert!(!told.iter().any(|order| order.starts_with("spawn")), "{told:?}");
}

#[test]
fn a_leader_that_crashed_and_leads_again_is_prepared_as_a_leader() {
    let mut script = leader(prepared());
    script.ends("main", 1);
    script.released();
    let ask = script.asked("look");
    script.event(ElectionEvent::Looked { ask, result: Ok(View { at: 8, last_revision: Revision(8), ..free() }) });
    script.when("open");
    script.takes(9);
    assert_eq!(script.told().last().unwrap(), "spawn pre_start");
    assert_eq!(script.variable("pre_start", "PILOTFISH_ROLE"), Some("leader"));
    script.ends("pre_start", 0);
    script.tells(&["spawn main", "spawn on_promote"]);
}

#[test]
fn what_a_replica_waits_for_is_waited_for_again_after_a_leaders_crash() {
    let query = Query::Leader { election: "db".to_owned() };
    let wait = WaitFor { query, count: 1, timeout: Duration::from_secs(60), when: When::Replica };
    let mut script = leader(Config { wait_for: vec![wait], ..prepared() });
    script.ends("main", 1);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.until(1_000);
    script.tells(&["guard off", "release", "close", "follow WaitFor(0)"]);
    let seen = Ok(Observation::Instances([instance("other")].into()));
    script.send(Event::Observed { follow: Follow::WaitFor(0), seen });
    script.tells(&["unfollow WaitFor(0)", "spawn pre_start"]);
}

#[test]
fn a_replica_that_crashed_is_prepared_still() {
    let mut script = replica(prepared());
    script.ends("main", 1);
    script.until(1_000);
    script.tells(&["spawn main"]);
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
}

#[test]
fn one_that_on_demote_made_a_replica_is_prepared_again_when_it_crashes() {
    let mut script = leader(prepared());
    step_down(&mut script);
    script.ends("on_demote", 0);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.ends("on_leader_change", 0);
    script.told();
    script.ends("main", 1);
    script.until(script.now() + 1_000);
    script.tells(&["spawn pre_start"]);
}

#[test]
fn a_replica_promoted_in_place_is_prepared_again_when_it_crashes() {
    let mut script = replica(prepared());
    comes_to_lead(&mut script);
    script.ends("on_promote", 0);
    script.told();
    script.ends("main", 1);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.until(script.now() + 1_000);
    script.tells(&["guard off", "release", "close", "spawn pre_start"]);
}

#[test]
fn a_replica_never_promoted_is_out_of_the_role_at_once_and_runs_on() {
    let health = vec![check("ping", OnFailure::Report)];
    let stepped_down = |script: &mut Script| step_down(script);
    let outage = |script: &mut Script| script.until(script.now() + 14_000);
    let lost = |script: &mut Script| script.sees_lock(held("third", 10, 8));
    let leaves: [&dyn Fn(&mut Script); 3] = [&stepped_down, &outage, &lost];
    for leave in leaves {
        let mut script = replica(Config { health: health.clone(), ..prepared() });
        comes_to_lead(&mut script);
        script.told();
        leave(&mut script);
        let told = script.told();
        assert!(told.contains(&"guard off".to_owned()), "{told:?}");
        assert!(!told.iter().any(|order| order.contains("main") || order.contains("on_demote")), "{told:?}");
        assert_eq!(script.core.status().election.unwrap().role, "replica");
    }
}

#[test]
fn one_started_as_leader_is_stopped_though_it_was_never_promoted() {
    let health = vec![check("ping", OnFailure::Report)];
    let hooks = Hooks { on_demote: None, pre_start: vec![pre_start(0)], ..hooks() };
    let mut script = Script::candidate(Config { health, hooks, ..candidate() });
    script.wins(7);
    script.ends("pre_start", 0);
    script.told();
    step_down(&mut script);
    script.tells(&["reply ok", "SIGTERM to main"]);
}

#[test]
fn who_comes_to_lead_in_a_replicas_pre_start_ends_that_first_and_prepares_as_a_leader() {
    let mut script = Script::candidate(prepared());
    script.sees_lock(held("other", 9, 3));
    script.tells(&["join db", "spawn pre_start"]);
    comes_to_lead(&mut script);
    let told = script.told();
    assert!(told.ends_with(&["acquire".to_owned(), "SIGTERM to all of pre_start".to_owned()]), "{told:?}");
    script.ends_leaving("pre_start", TERMINATED);
    script.until(script.now() + 500);
    script.tells(&[]);
    script.group_ends("pre_start");
    script.tells(&["spawn pre_start"]);
    assert_eq!(script.variable("pre_start", "PILOTFISH_ROLE"), Some("leader"));
    script.ends("pre_start", 0);
    script.tells(&["spawn main", "spawn on_promote"]);
}

#[test]
fn who_steps_down_in_a_leaders_pre_start_prepares_anew_only_when_that_is_gone() {
    let mut script = Script::candidate(prepared());
    script.wins(7);
    script.told();
    step_down(&mut script);
    let first = script.run("pre_start");
    script.sees_lock(held("me", 7, 7));
    script.tells(&["SIGTERM to all of pre_start", "reply ok"]);
    // Who asks again may wait for the same; another successor it is too late for.
    step_down(&mut script);
    let to = Some("other".to_owned());
    script.send(Event::Control { reply: ReplyId(2), request: Request::StepDown { to } });
    script.tells(&["reply ok", "reply error"]);
    script.ends("pre_start", 143);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.tells(&["guard off", "release", "close", "spawn pre_start"]);
    // The end of the first, told again, starts nothing.
    script.send(Event::Exited { run: first, status: ExitStatus::Exited(0) });
    script.tells(&[]);
    script.ends("pre_start", 0);
    script.tells(&["spawn main"]);
}

#[test]
fn a_pre_start_past_its_timeout_is_tried_again_only_when_all_of_it_has_ended() {
    let tried =
        crate::config::PreStart { hook: Hook { timeout: Duration::from_secs(3), ..hook("prepare") }, ..pre_start(3) };
    let mut script = Script::start(Config { hooks: Hooks { pre_start: vec![tried], ..Hooks::default() }, ..config() });
    assert_eq!(script.when("SIGTERM to all of pre_start"), 3_000);
    script.ends_leaving("pre_start", TERMINATED);
    script.until(4_900);
    script.tells(&[]);
    assert_eq!(script.when("SIGKILL to all of pre_start"), 5_000);
    script.tells(&[]);
    script.group_ends("pre_start");
    script.when("spawn pre_start");
}

#[test]
fn a_pre_start_that_fails_in_the_new_role_ends_the_container_with_its_code() {
    let mut script = leader(prepared());
    script.ends("main", 1);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.until(1_000);
    script.told();
    script.ends("pre_start", 3);
    assert_eq!(script.told().last().unwrap(), "exit 3");
}

#[test]
fn a_health_restart_in_the_midst_of_a_demotion_waits_for_its_end_and_prepares_anew() {
    let health = vec![check("ping", OnFailure::Restart)];
    let mut script = Script::candidate(Config { health, ..prepared() });
    script.wins(7);
    script.ends("pre_start", 0);
    script.answer("probe", Ok(()));
    script.ends("on_promote", 0);
    script.told();
    script.when("probe");
    step_down(&mut script);
    script.told();
    script.answer("probe", Err("down"));
    script.tells(&["SIGTERM to main"]);
    script.ends("main", 0);
    script.until(script.now() + 1_000);
    assert!(!script.told().iter().any(|order| order.starts_with("spawn")));
    script.ends("on_demote", 0);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.until(script.now() + 1_000);
    script.tells(&["guard off", "release", "close", "spawn pre_start"]);
}

#[test]
fn a_leader_restarted_for_its_health_is_told_to_stop_once() {
    let health = vec![check("ping", OnFailure::Restart)];
    let mut script = Script::candidate(Config { health, ..prepared() });
    script.wins(7);
    script.ends("pre_start", 0);
    script.answer("probe", Ok(()));
    script.ends("on_promote", 0);
    script.told();
    script.when("probe");
    script.told();
    script.answer("probe", Err("down"));
    script.tells(&["SIGTERM to main"]);
    script.ends("main", 0);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.until(script.now() + 1_000);
    script.tells(&["guard off", "release", "close", "spawn pre_start"]);
}

#[test]
fn sigterm_while_a_crashed_leader_is_prepared_again_ends_the_container_there() {
    let mut script = leader(prepared());
    script.ends("main", 9);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.until(1_000);
    script.told();
    script.signal(Signal::TERM);
    script.tells(&["SIGTERM to all of pre_start"]);
    script.ends_as("pre_start", TERMINATED);
    assert_eq!(script.told().last().unwrap(), "exit 143");
}

fn leaders_pre_stop(drain: u64) -> Config {
    let pre_stop = Some(Hook { when: When::Leader, ..hook("pre") });
    let stop = crate::config::Stop { drain: Duration::from_millis(drain), ..prepared().stop };
    Config { hooks: Hooks { pre_stop, ..Hooks::default() }, stop, ..prepared() }
}

#[test]
fn a_leader_stopped_from_the_terminal_runs_the_leaders_pre_stop_and_gives_the_lock_back() {
    for drain in [0, 2_000] {
        let mut script = Script::leading(leaders_pre_stop(drain));
        script.send(Event::FromTerminal { run: script.run("main"), signal: Signal::INT });
        script.ends_as("main", ExitStatus::Killed(Signal::INT));
        script.until(script.now() + drain);
        script.tells(&["spawn pre_stop"]);
        script.ends("pre_stop", 0);
        script.tells(&["guard off", "release"]);
        script.released();
        script.tells(&["close", "exit 130"]);
    }
}

#[test]
fn a_leader_whose_lock_is_lost_while_it_drains_runs_no_pre_stop_of_a_leaders() {
    let mut script = Script::leading(leaders_pre_stop(2_000));
    script.send(Event::FromTerminal { run: script.run("main"), signal: Signal::INT });
    script.ends_as("main", ExitStatus::Killed(Signal::INT));
    script.sees_lock(held("other", 9, 8));
    script.until(script.now() + 3_000);
    let told = script.told();
    assert!(!told.iter().any(|order| order.contains("pre_stop")), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("exit 130"), "{told:?}");
}

#[test]
fn a_leader_that_fails_to_start_for_a_moment_gives_the_lock_back_and_is_prepared_anew() {
    let mut script = Script::candidate(prepared());
    script.main_fails = vec![SpawnError { code: 126, message: "no".to_owned(), hope: Hope::Soon }];
    script.wins(7);
    script.told();
    script.ends("pre_start", 0);
    script.tells(&["spawn main", "guard off", "release"]);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.until(1_000);
    script.tells(&["close", "spawn pre_start"]);
}

/// A leader whose `pre_start` left something that may stay, and whose main crashes.
fn to_be_prepared_again() -> Script {
    let mut config = prepared();
    for pre_start in &mut config.hooks.pre_start {
        pre_start.hook.leftovers = crate::config::Leftovers::Keep;
    }
    let mut script = Script::candidate(config);
    script.wins(7);
    script.ends_leaving("pre_start", ExitStatus::Exited(0));
    script.ends("on_promote", 0);
    script.ends("main", 1);
    script.released();
    script.told();
    script.sees_lock(held("other", 9, 8));
    script
}

#[test]
fn a_pre_start_that_runs_again_first_ends_what_its_last_run_was_allowed_to_leave() {
    let mut script = to_be_prepared_again();
    script.until(script.now() + 1_000);
    script.tells(&["SIGTERM to all of pre_start"]);
    script.group_ends("pre_start");
    script.tells(&["spawn pre_start"]);
    script.ends_leaving("pre_start", ExitStatus::Exited(0));
    script.tells(&["spawn main"]);
}

#[test]
fn what_pre_start_was_allowed_to_leave_and_cannot_be_ended_keeps_no_container_from_going_on() {
    let mut script = to_be_prepared_again();
    let told = script.when("SIGTERM to all of pre_start");
    assert_eq!(script.when("SIGKILL to all of pre_start"), told + 2_000);
    script.when("spawn pre_start");
    assert!(script.now() < told + 5_000, "{}", script.now());
}

#[test]
fn what_a_standbys_pre_start_was_allowed_to_leave_ends_after_main_and_before_the_lock_is_given_back() {
    let mut keeping = pre_start(0);
    keeping.hook.leftovers = crate::config::Leftovers::Keep;
    let mut script = Script::candidate(Config { hooks: Hooks { pre_start: vec![keeping], ..hooks() }, ..standby() });
    script.wins(7);
    script.ends_leaving("pre_start", ExitStatus::Exited(0));
    script.ends("on_promote", 0);
    script.told();
    script.event(ElectionEvent::StepDown { to: None });
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    script.tells(&["SIGTERM to main"]);
    script.ends("main", 0);
    script.tells(&["SIGTERM to all of pre_start"]);
    script.when("SIGKILL to all of pre_start");
    script.told();
    script.group_ends("pre_start");
    script.tells(&["guard off", "release"]);
}

#[test]
fn what_a_pre_start_of_one_role_was_allowed_to_leave_stays_no_longer_than_the_role() {
    let mut keeping = pre_start(0);
    (keeping.hook.leftovers, keeping.hook.when) = (crate::config::Leftovers::Keep, When::Leader);
    let mut script = Script::candidate(Config { hooks: Hooks { pre_start: vec![keeping], ..hooks() }, ..candidate() });
    script.wins(7);
    script.ends_leaving("pre_start", ExitStatus::Exited(0));
    script.ends("on_promote", 0);
    script.told();
    script.event(ElectionEvent::StepDown { to: None });
    script.tells(&["SIGTERM to all of pre_start"]);
    script.group_ends("pre_start");
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release"]);
}
