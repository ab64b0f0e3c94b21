use std::time::Duration;

use super::script::*;
use crate::config::{Config, RestartPolicy, Signal};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::*;

fn policy(policy: RestartPolicy) -> Config {
    let mut config = config();
    config.process.restart.policy = policy;
    config
}

#[test]
fn on_failure_restarts_failures_only() {
    let mut script = Script::start(policy(RestartPolicy::OnFailure));
    script.heard();
    script.ends("main", 1);
    script.when("spawn main");
    script.ends("main", 0);
    script.expect(&["exit 0"]);
}

#[test]
fn always_restarts_a_main_that_ended_well() {
    let mut script = Script::start(policy(RestartPolicy::Always));
    script.heard();
    script.ends("main", 0);
    script.when("spawn main");
    assert_eq!(script.core.status().main.restarts, 1);
}

#[test]
fn past_its_budget_the_container_ends_with_mains_code() {
    let mut limited = policy(RestartPolicy::Always);
    limited.process.restart.max = 2;
    let mut script = Script::start(limited);
    for _ in 0..2 {
        script.ends("main", 9);
        script.heard();
        script.when("spawn main");
    }
    script.ends("main", 9);
    script.expect(&["exit 9"]);
    assert!(script.said.iter().any(|notice| notice.name() == "main.restart_budget_spent"));
    let last = script.said.last().unwrap().to_string();
    assert!(last.ends_with("main exited with code 9; main was restarted 2 times within 1m: giving up"), "{last}");
}

#[test]
fn a_stop_during_the_backoff_ends_there_with_mains_last_code() {
    let mut script = Script::start(policy(RestartPolicy::Always));
    script.ends("main", 9);
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["exit 9"]);
}

#[test]
fn restarting_needs_no_catalog() {
    let mut script = Script::start(Config { services: vec![service("web")], ..policy(RestartPolicy::Always) });
    script.published("web", Err("no server"));
    script.ends("main", 1);
    script.heard();
    script.when("spawn main");
}

#[test]
fn what_main_left_is_ended_before_it_starts_again() {
    let mut script = Script::start(policy(RestartPolicy::Always));
    script.heard();
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::Strays { left: 2 });
    script.expect(&["SIGTERM to strays"]);
    script.until(3_000);
    script.expect(&[]);
    script.send(Event::Strays { left: 0 });
    script.when("spawn main");
}

#[test]
fn a_binary_that_cannot_be_run_is_not_tried_again() {
    let mut core = crate::supervisor::Supervisor::new(policy(RestartPolicy::Always), 1);
    let now = crate::supervisor::Time::default() + Duration::from_secs(1);
    core.handle(now, Event::Started);
    let error = SpawnError { code: 126, message: "main: permission denied".to_owned(), hope: Hope::None };
    core.handle(now, Event::SpawnFailed { run: RunId(1), error });
    let effects = core.handle(now, Event::Strays { left: 0 });
    assert!(matches!(effects.last(), Some(crate::supervisor::Effect::Exit { code: 126, .. })), "{effects:?}");
}

fn fails(code: u8, hope: Hope) -> SpawnError {
    SpawnError { code, message: "main: no".to_owned(), hope }
}

#[test]
fn a_restart_that_fails_for_a_moment_counts_like_a_crash() {
    for error in [fails(126, Hope::Soon), fails(127, Hope::IfItWasThere)] {
        let mut script = Script::start(policy(RestartPolicy::OnFailure));
        script.main_fails = vec![error.clone(), error];
        script.ends("main", 1);
        script.heard();
        for _ in 0..3 {
            script.when("spawn main");
        }
        script.until(60_000);
        script.expect(&[]);
        assert_eq!(script.core.status().main.pid, Some(100));
    }
}

#[test]
fn a_restart_that_keeps_failing_spends_the_budget_and_ends_with_its_code() {
    let mut script = Script::start(policy(RestartPolicy::Always));
    script.main_fails = vec![fails(127, Hope::IfItWasThere); 9];
    script.ends("main", 1);
    script.heard();
    script.when("exit 127");
    let last = script.said.last().unwrap().to_string();
    assert_eq!(
        last, "ending with code 127: main can't be started: main: no; main was restarted 5 times within 1m: giving up",
        "it hasn't exited with anything"
    );
}

#[test]
fn a_program_that_was_never_there_ends_the_container_at_once() {
    let mut core = crate::supervisor::Supervisor::new(policy(RestartPolicy::Always), 1);
    let now = crate::supervisor::Time::default();
    core.handle(now, Event::Started);
    core.handle(now, Event::SpawnFailed { run: RunId(1), error: fails(127, Hope::IfItWasThere) });
    let effects = core.handle(now, Event::Strays { left: 0 });
    assert!(matches!(effects.last(), Some(crate::supervisor::Effect::Exit { code: 127, .. })), "{effects:?}");
}

#[test]
fn a_first_start_that_a_limit_refuses_is_tried_again_where_failures_are() {
    for (policy_of, again) in [(RestartPolicy::Never, false), (RestartPolicy::OnFailure, true)] {
        let mut core = crate::supervisor::Supervisor::new(policy(policy_of), 1);
        let now = crate::supervisor::Time::default();
        core.handle(now, Event::Started);
        core.handle(now, Event::SpawnFailed { run: RunId(1), error: fails(126, Hope::Soon) });
        core.handle(now, Event::Strays { left: 0 });
        assert_eq!(core.next_deadline().is_some(), again);
    }
}

#[test]
fn sigterm_between_two_failing_starts_ends_the_container() {
    let mut script = Script::start(policy(RestartPolicy::Always));
    script.main_fails = vec![fails(126, Hope::Soon)];
    script.ends("main", 9);
    script.heard();
    script.when("spawn main");
    script.signal(Signal::TERM);
    script.expect(&["exit 126"]);
    let last = script.said.last().unwrap().to_string();
    assert_eq!(last, "ending with code 126: SIGTERM came; main can't be started: main: no");
}
