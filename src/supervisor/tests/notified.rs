//! What main says by sd_notify, and what a supervisor above is told.

use std::time::Duration;

use super::script::*;
use crate::config::{Background, Config, OnFailure, Probe, RestartPolicy, Signal};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::*;

/// Main speaks for itself: it says that it lives each 5 s, and has 30 s to start.
fn speaking() -> Config {
    let mut config =
        Config { services: vec![service("web")], health: vec![check("notify", OnFailure::Restart)], ..config() };
    config.process.restart.policy = RestartPolicy::Always;
    config.health[0].probe = Probe::Notify;
    config.health[0].grace = Duration::from_secs(30);
    config
}

fn says(script: &mut Script, said: Notification) {
    script.send(Event::Notified(said));
}

fn ready() -> Notification {
    Notification { ready: true, ..Notification::default() }
}

/// A main that is ready.
fn up(config: Config) -> Script {
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    says(&mut script, ready());
    script.published("web", Ok(()));
    script.published("web", Ok(()));
    script.heard();
    script.outer.clear();
    script
}

#[test]
fn main_is_told_how_often_to_say_that_it_lives_by_the_check_that_waits_for_it() {
    let script = Script::start(speaking());
    assert_eq!(script.env["main"]["WATCHDOG_USEC"], "5000000");
    assert!(!Script::start(config()).env["main"].contains_key("WATCHDOG_USEC"));
}

#[test]
fn a_main_that_finds_itself_unhealthy_is_believed_at_once() {
    let mut config = speaking();
    config.health[0].failures = 3;
    let mut script = up(config);
    says(&mut script, Notification { triggered: true, ..Notification::default() });
    assert!(script.heard().contains(&"SIGTERM to main".to_owned()));
    assert_eq!(script.core.status().health[0].note, "main said WATCHDOG=trigger");
}

#[test]
fn a_main_that_finds_itself_unhealthy_while_it_starts_is_believed_at_once() {
    let mut config = speaking();
    config.health[0].failures = 3;
    let mut script = Script::start(config);
    says(&mut script, Notification { triggered: true, ..Notification::default() });
    assert!(script.heard().contains(&"SIGTERM to main".to_owned()));
    // One that is only reported recovers once it says that it is ready.
    let mut config = speaking();
    config.health[0].on_failure = OnFailure::Report;
    let mut script = Script::start(config);
    says(&mut script, Notification { triggered: true, ..Notification::default() });
    assert_eq!(script.core.status().health[0].note, "main said WATCHDOG=trigger");
    says(&mut script, ready());
    assert!(script.core.status().health[0].passing);
}

#[test]
fn main_may_say_how_long_it_is_silent_from_now_on() {
    let mut script = up(speaking());
    let slower = Some(Duration::from_secs(60));
    says(&mut script, Notification { watchdog: true, watchdog_within: slower, ..Notification::default() });
    script.until(60_000);
    assert!(script.core.status().health[0].passing);
    script.until(70_000);
    assert!(!script.core.status().health[0].passing);
}

#[test]
fn a_reload_that_ends_is_none_of_the_catalogs_business_and_one_that_doesnt_is_a_failure() {
    let mut script = up(speaking());
    says(&mut script, Notification { reloading: true, ..Notification::default() });
    assert!(script.core.status().main.reloading && script.core.status().ready());
    script.until(20_000);
    says(&mut script, ready());
    assert!(!script.core.status().main.reloading);
    script.until(100_000);
    script.expect(&[]);
    says(&mut script, Notification { reloading: true, ..Notification::default() });
    script.until(125_000);
    says(&mut script, Notification { extend: Some(Duration::from_secs(60)), ..Notification::default() });
    script.until(180_000);
    script.expect(&[]);
    script.when("SIGTERM to main");
    let note = script.core.status().health[0].note.clone();
    assert!(note.contains("RELOADING=1"), "{note}");
}

#[test]
fn a_main_that_needs_longer_to_start_gets_it() {
    let mut script = Script::start(speaking());
    script.heard();
    script.until(25_000);
    says(&mut script, Notification { extend: Some(Duration::from_secs(60)), ..Notification::default() });
    script.until(84_000);
    assert!(!script.heard().contains(&"SIGTERM to main".to_owned()));
    script.until(90_000);
    assert!(script.heard().contains(&"SIGTERM to main".to_owned()));
}

#[test]
fn a_main_that_stops_itself_leaves_the_rotation_is_asked_nothing_and_runs_again() {
    let mut config = speaking();
    config.health.push(check("web", OnFailure::Restart));
    let mut script = up(config);
    says(&mut script, Notification { stopping: true, ..Notification::default() });
    script.expect(&["publish web draining"]);
    script.published("web", Ok(()));
    // Its port is shut, which nobody holds against it.
    script.answer("probe", Err("refused"));
    script.until(5_000);
    script.expect(&[]);
    script.ends("main", 0);
    script.when("spawn main");
    assert!(!script.core.status().main.stopping);
}

#[test]
fn a_main_that_says_it_stops_and_does_not_is_killed_in_time() {
    let mut script = up(speaking());
    says(&mut script, Notification { stopping: true, ..Notification::default() });
    script.until(5_000);
    says(&mut script, Notification { extend: Some(Duration::from_secs(60)), ..Notification::default() });
    assert_eq!(script.when("SIGKILL to main"), 10_000);
    script.ends_as("main", ExitStatus::Killed(Signal::KILL));
    script.when("spawn main");
}

#[test]
fn a_stop_gives_main_the_time_that_it_asks_for_and_no_more_than_there_is() {
    let mut config = speaking();
    config.process.stop_timeout = Some(Duration::from_secs(2));
    let mut script = up(config);
    script.signal(Signal::TERM);
    script.until(1_000);
    says(&mut script, Notification { extend: Some(Duration::from_secs(3)), ..Notification::default() });
    assert_eq!(script.when("SIGKILL to main"), 4_000);

    let mut config = speaking();
    config.process.stop_timeout = Some(Duration::from_secs(2));
    let mut script = up(config);
    script.signal(Signal::TERM);
    says(&mut script, Notification { extend: Some(Duration::from_secs(3600)), ..Notification::default() });
    assert_eq!(script.when("SIGKILL to main"), 9_000, "a second of `within` is for what comes after");
}

#[test]
fn the_supervisor_above_hears_that_the_container_lives_unless_main_says_so_itself() {
    let mut script = up(speaking());
    script.send(Event::OuterWatchdog { every: Duration::from_secs(4) });
    script.until(10_000);
    assert_eq!(script.outer, [OuterWord::Alive; 6]);
    says(&mut script, Notification { watchdog: true, ..Notification::default() });
    script.outer.clear();
    script.until(15_000);
    assert!(script.outer.is_empty(), "main feeds it");
    script.ends("main", 1);
    script.until(20_000);
    assert!(script.outer.contains(&OuterWord::Alive), "main doesn't run");
}

#[test]
fn a_supervisor_above_that_asks_for_a_word_each_microsecond_takes_up_no_time() {
    let mut script = up(speaking());
    script.send(Event::OuterWatchdog { every: Duration::from_micros(1) });
    script.until(1_000);
    assert!(script.outer.len() <= 101, "{}", script.outer.len());
}

#[test]
fn the_supervisor_above_hears_when_the_container_is_ready_and_when_it_stops() {
    let mut script = Script::start(Config { health: vec![check("ping", OnFailure::Report)], ..config() });
    assert!(script.outer.is_empty());
    script.heard();
    script.answer("probe", Ok(()));
    script.when("probe");
    script.answer("probe", Err("refused"));
    script.when("probe");
    script.answer("probe", Ok(()));
    assert_eq!(script.outer, [OuterWord::Ready]);
    script.signal(Signal::TERM);
    assert_eq!(script.outer, [OuterWord::Ready, OuterWord::Stopping]);
}

#[test]
fn what_main_says_of_itself_makes_the_container_ready_only_where_no_check_judges_it() {
    let mut script = Script::start(config());
    assert!(script.outer.is_empty());
    says(&mut script, ready());
    says(&mut script, ready());
    assert_eq!(script.outer, [OuterWord::Ready]);

    let mut config = speaking();
    config.health.push(check("ping", OnFailure::Report));
    let mut script = Script::start(config);
    script.heard();
    says(&mut script, ready());
    assert!(script.outer.is_empty());
    script.answer("probe", Ok(()));
    assert_eq!(script.outer, [OuterWord::Ready]);
}

/// A launcher that leaves a daemon, of which both may say something.
fn launching() -> Script {
    let mut config = speaking();
    config.process.background = Background::Follow;
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    script
}

fn launcher_ends(script: &mut Script) {
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::Strays { left: 1 });
    assert_eq!(script.core.status().main.pid, Some(101));
}

#[test]
fn what_was_said_before_the_daemon_is_followed_was_said_of_the_daemon() {
    let mut script = launching();
    says(&mut script, Notification { main_pid: Some((101, 7)), ..ready() });
    launcher_ends(&mut script);
    assert!(script.core.status().health[0].passing);
    script.until(60_000);
    assert!(script.core.status().health[0].passing && script.core.status().main.pid == Some(101));

    // The daemon itself may say so while its launcher has ended and nobody is followed yet.
    let mut script = launching();
    script.followable = None;
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    says(&mut script, ready());
    script.send(Event::Strays { left: 1 });
    script.send(Event::Followed { run, pid: Some(101) });
    assert!(script.core.status().health[0].passing);
}

#[test]
fn a_main_that_hands_over_and_stops_is_followed_by_who_it_named_whatever_it_says_first() {
    let stops = || Notification { stopping: true, ..Notification::default() };
    let named = || Notification { main_pid: Some((101, 7)), ..Notification::default() };
    let both = || Notification { main_pid: Some((101, 7)), ..stops() };
    for said in [vec![named(), stops()], vec![stops(), named()], vec![both()]] {
        let mut script = launching();
        says(&mut script, ready());
        script.until(5_000);
        said.into_iter().for_each(|said| says(&mut script, said));
        script.heard();
        launcher_ends(&mut script);
        script.until(60_000);
        let heard = script.heard();
        assert!(!heard.iter().any(|heard| heard.starts_with("SIG") || heard.starts_with("exit")), "{heard:?}");
        assert!(!script.core.status().main.stopping);
    }
}

#[test]
fn one_that_only_stops_itself_leaves_nobody_to_be_followed() {
    let mut script = launching();
    says(&mut script, Notification { stopping: true, ..Notification::default() });
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::Strays { left: 1 });
    assert!(script.heard().contains(&"SIGTERM to strays".to_owned()));
}

#[test]
fn a_main_that_is_ready_after_it_said_that_it_stops_runs_on() {
    let mut script = up(speaking());
    says(&mut script, Notification { stopping: true, ..Notification::default() });
    script.expect(&["publish web draining"]);
    script.published("web", Ok(()));
    says(&mut script, ready());
    script.expect(&["publish web passing"]);
    script.until(60_000);
    assert!(!script.heard().iter().any(|heard| heard.starts_with("SIG")));
    // But not one that was told to.
    says(&mut script, Notification { stopping: true, ..Notification::default() });
    script.signal(Signal::TERM);
    says(&mut script, ready());
    let told = script.now();
    assert!(script.when("SIGKILL to main") <= told + 10_000);
}

#[test]
fn a_daemon_that_is_followed_owes_what_was_said_before() {
    let mut script = launching();
    says(&mut script, Notification { watchdog: true, ..ready() });
    launcher_ends(&mut script);
    script.until(6_000);
    assert!(script.core.status().health[0].passing);
    script.until(10_000);
    assert_eq!(script.core.status().health[0].note, "no WATCHDOG=1 for 7s");

    let mut script = launching();
    says(&mut script, ready());
    says(&mut script, Notification { reloading: true, ..Notification::default() });
    launcher_ends(&mut script);
    assert!(script.core.status().main.reloading);
    script.until(31_000);
    assert!(script.core.status().health[0].note.contains("RELOADING=1"));
}

#[test]
fn what_a_main_said_is_none_of_the_next_ones() {
    let mut script = up(speaking());
    let status = Some("warm".to_owned());
    says(&mut script, Notification { status, reloading: true, ..Notification::default() });
    script.ends("main", 1);
    assert_eq!(script.core.status().main.notified.as_deref(), Some("warm"), "it may be why");
    script.when("spawn main");
    let status = script.core.status();
    assert!(!status.health[0].passing && !status.main.reloading && status.main.notified.is_none(), "{status:?}");
}
