use std::time::Duration;

use super::script::*;
use crate::config::{Background, Config, Hooks, Signal, Stop, Strays};
use crate::supervisor::Event;
use crate::supervisor::event::*;

fn everything() -> Config {
    Config {
        hooks: Hooks {
            pre_start: None,
            pre_stop: Some(hook("drain")),
            post_stop: Some(hook("cleanup")),
            ..Hooks::default()
        },
        services: vec![service("web")],
        stop: Stop { within: Some(Duration::from_secs(10)), drain: Duration::from_secs(2) },
        ..config()
    }
}

#[test]
fn the_steps_come_in_order_rotation_drain_pre_stop_main_catalog_post_stop() {
    let mut script = Script::start(everything());
    script.published("web", Ok(()));
    script.expect(&["spawn main", "publish web passing"]);
    script.signal(Signal::TERM);
    script.expect(&["publish web draining"]);
    script.published("web", Ok(()));
    assert_eq!(script.when("spawn pre_stop"), 2_000);
    script.ends("pre_stop", 0);
    script.expect(&["SIGTERM to main"]);
    script.ends("main", 0);
    script.expect(&["withdraw web"]);
    script.withdrawn("web");
    script.expect(&["spawn post_stop"]);
    script.ends("post_stop", 0);
    script.expect(&["exit 0"]);
}

#[test]
fn main_that_obeys_is_waited_for_and_gives_the_exit_code() {
    let mut script = Script::start(config());
    script.signal(Signal::TERM);
    script.expect(&["spawn main", "SIGTERM to main"]);
    script.ends_as("main", ExitStatus::Killed(Signal::TERM));
    script.expect(&["exit 143"]);
}

#[test]
fn main_gets_the_signal_that_came_unless_another_is_configured() {
    let mut script = Script::start(config());
    script.heard();
    script.signal(Signal::INT);
    script.expect(&["SIGINT to main"]);
    let mut other = config();
    other.process.stop_signal = Some(Signal::QUIT);
    let mut script = Script::start(other);
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGQUIT to main"]);
}

#[test]
fn main_that_ignores_sigterm_is_killed_within_the_time() {
    let mut script = Script::start(config());
    script.heard();
    script.signal(Signal::TERM);
    assert_eq!(script.when("SIGKILL to main's group"), 9_000);
    script.ends_as("main", ExitStatus::Killed(Signal::KILL));
    assert_eq!(script.heard().last().unwrap(), "exit 137");
}

#[test]
fn stop_timeout_kills_main_earlier() {
    let mut short = config();
    short.process.stop_timeout = Some(Duration::from_secs(3));
    let mut script = Script::start(short);
    script.heard();
    script.signal(Signal::TERM);
    assert_eq!(script.when("SIGKILL to main's group"), 3_000);
}

#[test]
fn a_main_that_sigkill_does_not_end_cannot_hold_the_container() {
    let mut script = Script::start(config());
    script.heard();
    script.signal(Signal::TERM);
    assert!(script.when("exit 137") <= 10_100);
}

#[test]
fn a_pre_stop_that_hangs_leaves_main_its_chance_and_the_container_ends_in_time() {
    let mut script = Script::start(everything());
    script.heard();
    script.signal(Signal::TERM);
    script.when("spawn pre_stop");
    let cut = script.when("SIGTERM to all of pre_stop");
    assert!((6_000..7_000).contains(&cut), "{cut}");
    script.until(cut + 2_000);
    script.ends_as("pre_stop", ExitStatus::Killed(Signal::KILL));
    assert!(script.heard().contains(&"SIGTERM to main".to_owned()));
    let end = script.when("exit 137");
    assert!(end <= 10_000, "{end}");
}

#[test]
fn the_second_signal_skips_the_hook_and_tells_main_at_once() {
    let mut script = Script::start(everything());
    script.signal(Signal::TERM);
    script.when("spawn pre_stop");
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to all of pre_stop", "SIGTERM to main"]);
}

#[test]
fn the_second_signal_skips_the_drain() {
    let mut script = Script::start(everything());
    script.signal(Signal::TERM);
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to main"]);
}

#[test]
fn the_third_signal_kills() {
    let mut script = Script::start(config());
    script.heard();
    script.signal(Signal::TERM);
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to main", "SIGTERM to main"]);
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to main", "SIGKILL to main", "SIGKILL to main's group"]);
}

#[test]
fn a_catalog_that_never_answers_costs_a_second() {
    let mut script = Script::start(Config { services: vec![service("web")], ..config() });
    script.signal(Signal::TERM);
    script.until(500);
    script.ends("main", 0);
    assert_eq!(script.when("exit 0"), 1_500);
}

#[test]
fn main_ending_by_itself_ends_the_container_at_once_with_its_code() {
    let mut script = Script::start(config());
    script.until(1_000);
    script.ends("main", 7);
    script.expect(&["spawn main", "exit 7"]);
}

#[test]
fn main_ending_by_itself_is_deregistered_and_cleaned_up_after() {
    let mut script = Script::start(everything());
    script.published("web", Ok(()));
    script.heard();
    script.ends("main", 7);
    assert_eq!(script.heard().first().unwrap(), "publish web critical");
    script.published("web", Ok(()));
    script.expect(&["withdraw web"]);
    script.withdrawn("web");
    script.expect(&["spawn post_stop"]);
    script.ends("post_stop", 1);
    script.expect(&["exit 7"]);
}

#[test]
fn exit_codes_are_mapped() {
    let mut mapped = config();
    mapped.process.exit_codes.insert(143, 0);
    let mut script = Script::start(mapped);
    script.signal(Signal::TERM);
    script.ends_as("main", ExitStatus::Killed(Signal::TERM));
    assert_eq!(script.heard().last().unwrap(), "exit 0");
}

#[test]
fn a_failing_post_stop_does_not_hide_mains_code() {
    let mut script = Script::start(everything());
    script.ends("main", 7);
    script.published("web", Ok(()));
    script.withdrawn("web");
    script.ends("post_stop", 99);
    assert_eq!(script.heard().last().unwrap(), "exit 7");
}

#[test]
fn a_post_stop_that_hangs_ends_with_the_time() {
    let mut script = Script::start(Config { services: Vec::new(), ..everything() });
    script.ends("main", 7);
    assert!(script.when("exit 7") <= 10_000);
}

#[test]
fn what_main_left_behind_gets_term_then_kill_when_time_is_up() {
    let mut script = Script::start(config());
    script.heard();
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(5) });
    script.send(Event::Strays { left: 3 });
    script.expect(&["SIGTERM to strays"]);
    assert_eq!(script.when("SIGKILL to strays"), 10_000);
    script.send(Event::Strays { left: 0 });
    script.expect(&["exit 5"]);
}

#[test]
fn the_end_waits_for_strays_only_while_any_is_left() {
    let mut script = Script::start(config());
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(5) });
    script.send(Event::Strays { left: 1 });
    script.until(40);
    script.heard();
    script.send(Event::Strays { left: 0 });
    script.expect(&["exit 5"]);
}

#[test]
fn strays_may_be_waited_for_instead() {
    let mut patient = config();
    patient.process.strays = Strays::Wait;
    let mut script = Script::start(patient);
    script.heard();
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::Strays { left: 1 });
    script.until(9_000);
    script.expect(&[]);
    script.send(Event::Strays { left: 0 });
    script.expect(&["exit 0"]);
}

#[test]
fn a_main_that_daemonises_is_followed_when_configured() {
    let mut follow = config();
    follow.process.background = Background::Follow;
    let mut script = Script::start(follow);
    script.heard();
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::Strays { left: 2 });
    script.until(60_000);
    script.expect(&[]);
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to strays"]);
    script.send(Event::Strays { left: 0 });
    script.expect(&["exit 0"]);
}

#[test]
fn stop_at_the_control_door_is_a_stop() {
    let mut script = Script::start(config());
    script.heard();
    script.send(Event::Control { reply: ReplyId(1), request: Request::Stop });
    let heard = script.heard();
    assert!(heard.contains(&"SIGTERM to main".to_owned()) && heard.contains(&"reply ok".to_owned()), "{heard:?}");
}

#[test]
fn a_plain_init_forwards_every_signal_and_never_kills() {
    let mut script = Script::start(Config::plain(exec("main")));
    script.heard();
    for _ in 0..3 {
        script.signal(Signal::TERM);
    }
    script.expect(&["SIGTERM to main", "SIGTERM to main", "SIGTERM to main"]);
    assert_eq!(script.core.next_deadline(), None);
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.expect(&["exit 0"]);
}
