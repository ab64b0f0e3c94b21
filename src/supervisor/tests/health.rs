use super::script::*;
use crate::config::{Config, OnFailure, Probe, RestartPolicy, Signal};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::*;

fn checked(on_failure: OnFailure) -> Config {
    Config { services: vec![service("web")], health: vec![check("ping", on_failure)], ..config() }
}

#[test]
fn a_service_is_critical_until_its_first_pass() {
    let mut script = Script::start(checked(OnFailure::Report));
    script.expect(&["spawn main", "publish web critical", "probe"]);
    script.published("web", Ok(()));
    script.answer("probe", Ok(()));
    script.expect(&["publish web passing"]);
}

#[test]
fn a_failing_check_is_told_at_once() {
    let mut script = Script::start(checked(OnFailure::Report));
    script.published("web", Ok(()));
    script.answer("probe", Ok(()));
    script.published("web", Ok(()));
    script.until(5_000);
    script.heard();
    script.answer("probe", Err("status 503"));
    script.expect(&["publish web critical"]);
}

#[test]
fn what_a_check_complains_of_is_told_though_the_service_is_as_critical_as_before() {
    let mut script = Script::start(checked(OnFailure::Report));
    script.published("web", Ok(()));
    assert_eq!(script.notes["web"], "ping: not checked yet");
    script.heard();
    script.answer("probe", Err("refused"));
    script.expect(&["publish web critical"]);
    assert_eq!(script.notes["web"], "ping: refused");
    script.published("web", Ok(()));
    script.expect(&[]);
}

#[test]
fn each_check_that_fails_is_told_of_and_none_that_has_recovered() {
    let mut config = checked(OnFailure::Report);
    config.health.push(check("disk", OnFailure::Report));
    config.health[1].probe = Probe::Exec { exec: exec("df"), run_as: Default::default() };
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    script.answer("probe", Err("refused"));
    script.published("web", Ok(()));
    script.ends("health of disk", 1);
    script.published("web", Ok(()));
    assert_eq!(script.notes["web"], "ping: refused; disk: exited with code 1");
    script.until(5_000);
    script.heard();
    script.answer("probe", Ok(()));
    script.expect(&["publish web critical"]);
    assert_eq!(script.notes["web"], "disk: exited with code 1");
}

#[test]
fn words_that_change_while_nothing_turns_wait_for_the_next_heartbeat() {
    let mut config = checked(OnFailure::Report);
    config.services[0].ttl = std::time::Duration::from_secs(15);
    config.health[0].interval = std::time::Duration::from_millis(100);
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    script.answer("probe", Err("status 503"));
    script.published("web", Ok(()));
    script.heard();
    for round in 1..=44 {
        script.until(round * 100);
        script.expect(&["probe"]);
        script.answer("probe", Err(&format!("no answer, {round}")));
    }
    script.until(5_000);
    assert_eq!(script.heard().iter().filter(|order| *order == "publish web critical").count(), 1);
    assert_eq!(script.notes["web"], "ping: no answer, 44");
}

#[test]
fn words_that_change_during_a_long_call_make_no_call_of_their_own() {
    let mut config = checked(OnFailure::Report);
    config.health[0].interval = std::time::Duration::from_millis(100);
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    script.answer("probe", Err("status 503"));
    script.until(100);
    script.answer("probe", Err("status 504"));
    script.heard();
    script.published("web", Ok(()));
    script.expect(&[]);
    assert!(script.core.status().services[0].published);
}

#[test]
fn what_fails_in_its_grace_period_is_told_with_the_next_heartbeat() {
    let mut config = checked(OnFailure::Report);
    config.services[0].ttl = std::time::Duration::from_secs(15);
    config.health[0].grace = std::time::Duration::from_secs(60);
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    script.heard();
    script.answer("probe", Err("refused"));
    script.expect(&[]);
    script.when("publish web critical");
    assert_eq!(script.notes["web"], "ping: starting: refused");
}

#[test]
fn a_check_is_asked_again_an_interval_after_its_answer_and_never_twice_at_once() {
    let mut script = Script::start(checked(OnFailure::Report));
    script.heard();
    script.until(60_000);
    assert!(!script.heard().contains(&"probe".to_owned()));
    script.answer("probe", Ok(()));
    assert_eq!(script.when("probe"), 65_000);
}

#[test]
fn a_service_passes_only_when_each_of_its_checks_does() {
    let mut config = checked(OnFailure::Report);
    config.health.push(check("second", OnFailure::Report));
    config.health[1].probe = Probe::Exec { exec: exec("ask"), run_as: Default::default() };
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    script.answer("probe", Ok(()));
    let started = ["spawn main", "publish web critical", "probe", "spawn health of second"];
    script.expect(&[started.as_slice(), &["publish web critical"]].concat());
    script.published("web", Ok(()));
    script.ends("health of second", 0);
    script.expect(&["publish web passing"]);
}

#[test]
fn an_exec_check_past_its_timeout_is_ended_and_failed() {
    let mut config = checked(OnFailure::Report);
    config.health[0].probe = Probe::Exec { exec: exec("ask"), run_as: Default::default() };
    let mut script = Script::start(config);
    script.heard();
    assert_eq!(script.when("SIGTERM to all of health of ping"), 2_000);
    assert_eq!(script.when("SIGKILL to all of health of ping"), 4_000);
    script.ends_as("health of ping", ExitStatus::Killed(Signal::KILL));
    assert!(!script.core.status().health[0].passing);
    assert!(script.core.status().health[0].note.contains("timed out after 2s"));
}

#[test]
fn an_unhealthy_main_is_restarted_when_configured_whatever_its_policy() {
    let mut script = Script::start(checked(OnFailure::Restart));
    script.heard();
    script.answer("probe", Err("refused"));
    assert!(script.heard().contains(&"SIGTERM to main".to_owned()));
    script.ends("main", 0);
    script.when("spawn main");
}

#[test]
fn an_unhealthy_main_that_ignores_its_restart_is_killed() {
    let mut script = Script::start(checked(OnFailure::Restart));
    script.heard();
    script.answer("probe", Err("refused"));
    assert_eq!(script.when("SIGKILL to main's group"), 10_000);
    script.ends_as("main", ExitStatus::Killed(Signal::KILL));
    script.when("spawn main");
}

#[test]
fn restarts_for_health_come_from_the_same_budget() {
    let mut config = checked(OnFailure::Restart);
    config.process.restart.policy = RestartPolicy::Always;
    config.process.restart.max = 1;
    let mut script = Script::start(config);
    script.answer("probe", Err("refused"));
    script.ends("main", 0);
    script.heard();
    script.when("probe");
    script.answer("probe", Err("refused"));
    script.ends("main", 0);
    script.published("web", Ok(()));
    script.withdrawn("web");
    assert_eq!(script.heard().last().unwrap(), "exit 1");
    let last = script.said.last().unwrap().to_string();
    let why = "check ping is critical: refused; main was restarted once within 1m: giving up; main exited with code 0";
    assert!(last.contains(why), "{last}");
}

#[test]
fn an_unhealthy_main_ends_the_container_when_configured_and_never_with_0() {
    let mut script = Script::start(checked(OnFailure::Exit));
    script.published("web", Ok(()));
    script.answer("probe", Err("refused"));
    assert!(script.heard().contains(&"SIGTERM to main".to_owned()));
    script.published("web", Ok(()));
    script.published("web", Ok(()));
    script.ends("main", 0);
    script.withdrawn("web");
    assert_eq!(script.heard().last().unwrap(), "exit 1");
}

#[test]
fn main_says_by_itself_that_it_is_ready() {
    let mut config = checked(OnFailure::Report);
    config.health[0].probe = Probe::Notify;
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    script.expect(&["spawn main", "publish web critical", "publish web critical"]);
    assert_eq!(script.notes["web"], "ping: main hasn't said READY=1");
    script.published("web", Ok(()));
    script.send(Event::Notified(Notification { ready: true, ..Default::default() }));
    script.expect(&["publish web passing"]);
    script.published("web", Ok(()));
    script.until(4_000);
    assert!(script.core.status().health[0].passing);
}

#[test]
fn a_watchdog_that_falls_silent_is_a_failure() {
    let mut config = checked(OnFailure::Report);
    config.health[0].probe = Probe::Notify;
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    script.send(Event::Notified(Notification { ready: true, watchdog: true, ..Default::default() }));
    script.published("web", Ok(()));
    script.heard();
    script.until(6_000);
    script.send(Event::Notified(Notification { watchdog: true, ..Default::default() }));
    script.published("web", Ok(()));
    script.heard();
    let silent = script.when("publish web critical");
    assert!((13_000..=18_000).contains(&silent), "{silent}");
}

#[test]
fn checks_rest_while_main_is_down() {
    let mut config = checked(OnFailure::Report);
    config.process.restart.policy = RestartPolicy::Always;
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    script.answer("probe", Ok(()));
    script.published("web", Ok(()));
    script.heard();
    script.ends("main", 1);
    script.expect(&["publish web critical"]);
    script.when("spawn main");
    script.published("web", Ok(()));
    script.expect(&["probe", "publish web critical"]);
    assert_eq!(script.notes["web"], "ping: not checked yet");
}

#[test]
fn the_answer_of_a_run_that_is_over_counts_for_nothing() {
    let mut script = Script::start(checked(OnFailure::Report));
    script.send(Event::Probed { run: RunId(999), result: Ok(()) });
    assert!(!script.core.status().health[0].passing);
}

#[test]
fn a_check_that_does_not_count_is_shown_and_nothing_depends_on_it() {
    let mut config = checked(OnFailure::Report);
    config.health[0].counts = false;
    config.hooks.post_start = Some(hook("settle"));
    let mut script = Script::start(config);
    script.expect(&["spawn main", "publish web passing", "probe", "spawn post_start"]);
    script.published("web", Ok(()));
    script.answer("probe", Err("refused"));
    script.expect(&[]);
    let status = script.core.status();
    assert!(status.ready());
    assert_eq!((status.health[0].passing, status.health[0].counts), (false, false));
    assert!(script.said.iter().any(|notice| notice.to_string().contains("refused")), "it is told of");
}

#[test]
fn a_check_that_does_not_count_still_does_what_on_failure_says() {
    let mut config = checked(OnFailure::Restart);
    config.health[0].counts = false;
    let mut script = Script::start(config);
    script.heard();
    script.answer("probe", Err("refused"));
    assert!(script.heard().contains(&"SIGTERM to main".to_owned()));
}
