use std::time::Duration;

use super::coprocess::coprocess;
use super::script::*;
use super::watch::running_with_template_and;
use crate::config::coprocess::StopPoint;
use crate::config::{
    Background, Config, Coprocess, Hooks, Leftovers, OnFailure, RestartPolicy, Signal, SignalScope, Stop, Strays, Watch,
};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::*;

fn everything() -> Config {
    Config {
        hooks: Hooks { pre_stop: Some(hook("drain")), post_stop: Some(hook("cleanup")), ..Hooks::default() },
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
fn what_is_registered_nowhere_holds_no_stop_up() {
    let catalog = Config::plain(Vec::new()).catalog;
    let mut script = Script::start(Config { catalog, ..everything() });
    script.expect(&["spawn main"]);
    script.signal(Signal::TERM);
    assert_eq!(script.when("spawn pre_stop"), 2_000);
    script.ends("pre_stop", 0);
    script.ends("main", 0);
    script.expect(&["SIGTERM to main", "spawn post_stop"]);
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
fn what_main_gets_in_place_of_a_signal_it_gets_when_that_stops_it_too() {
    let mut rewriting = Config { health: vec![check("ping", OnFailure::Restart)], ..config() };
    rewriting.process.restart.policy = RestartPolicy::Always;
    rewriting.process.rewrite_signals.insert(Signal::TERM, Some(Signal::QUIT));
    let running = |config: &Config| {
        let mut script = Script::start(config.clone());
        script.answer("probe", Ok(()));
        script.heard();
        script
    };
    let mut script = running(&rewriting);
    script.signal(Signal::TERM);
    script.expect(&["SIGQUIT to main"]);
    // Where no signal came it would be TERM.
    let mut script = running(&rewriting);
    script.send(Event::Control { reply: ReplyId(1), request: Request::Stop });
    script.expect(&["reply ok", "SIGQUIT to main"]);
    let mut script = running(&rewriting);
    script.when("probe");
    script.answer("probe", Err("down"));
    script.expect(&["SIGQUIT to main"]);
    let mut script = running(&rewriting);
    script.send(Event::Control { reply: ReplyId(1), request: Request::Restart { name: None } });
    script.expect(&["SIGQUIT to main"]);
    // What is said of a stop alone is meant as it is.
    rewriting.process.stop_signal = Some(Signal::INT);
    rewriting.process.rewrite_signals.insert(Signal::INT, Some(Signal::HUP));
    let mut script = running(&rewriting);
    script.signal(Signal::TERM);
    script.expect(&["SIGINT to main"]);
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

fn keeping() -> Config {
    let mut kept = pre_start(0);
    kept.hook.leftovers = Leftovers::Keep;
    Config { hooks: Hooks { pre_start: vec![kept], ..Hooks::default() }, ..config() }
}

#[test]
fn what_pre_start_left_is_spared_when_main_starts_again_and_told_at_the_containers_end() {
    let mut script = Script::start(keeping());
    script.ends_leaving("pre_start", ExitStatus::Exited(0));
    script.until(5_000);
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to main"]);
    script.ends("main", 7);
    script.expect(&["SIGTERM to all of pre_start"]);
    script.until(6_000);
    script.expect(&[]);
    script.group_ends("pre_start");
    script.expect(&["exit 7"]);
}

#[test]
fn what_pre_start_left_is_killed_when_time_is_up() {
    let mut script = Script::start(keeping());
    script.ends_leaving("pre_start", ExitStatus::Exited(0));
    script.heard();
    script.ends("main", 7);
    script.expect(&["SIGTERM to all of pre_start"]);
    let killed = script.when("SIGKILL to all of pre_start");
    assert!(killed < script.when("exit 7"));
}

#[test]
fn what_was_there_before_the_agent_is_told_at_the_containers_end_after_post_stop() {
    let hooks = Hooks { post_stop: Some(hook("cleanup")), ..Hooks::default() };
    let mut script = Script::start(Config { hooks, ..config() });
    script.there_before = 2;
    script.heard();
    script.ends("main", 7);
    script.expect(&["spawn post_stop"]);
    script.ends("post_stop", 0);
    script.expect(&["SIGTERM to strays"]);
    script.until(500);
    script.expect(&[]);
    script.send(Event::Strays { left: 0 });
    script.expect(&["exit 7"]);
}

#[test]
fn what_was_there_before_the_agent_holds_no_end_past_its_time() {
    let mut script = Script::start(config());
    script.there_before = 1;
    script.signal(Signal::TERM);
    script.heard();
    script.ends("main", 0);
    script.expect(&["SIGTERM to strays"]);
    assert_eq!(script.when("exit 0"), 9_000);
}

#[test]
fn main_is_told_once_nothing_of_pre_stop_is_left() {
    let hooks = Hooks { pre_stop: Some(hook("drain")), ..Hooks::default() };
    let mut script = Script::start(Config { hooks, ..config() });
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["spawn pre_stop"]);
    script.ends_leaving("pre_stop", ExitStatus::Exited(0));
    assert_eq!(script.when("SIGTERM to all of pre_stop"), 100);
    script.group_ends("pre_stop");
    script.expect(&["SIGTERM to main"]);
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
fn what_main_left_and_cannot_be_killed_is_not_called_main() {
    let mut script = Script::start(config());
    script.heard();
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(5) });
    script.send(Event::Strays { left: 1 });
    script.until(12_000);
    let said: Vec<String> = script.said.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|said| said.starts_with("SIGKILL doesn't end what main left behind")), "{said:?}");
    assert!(said.iter().any(|said| said == "main ended but left a process, which is ended now"), "{said:?}");
}

#[test]
fn a_container_leaves_the_catalog_without_a_main_that_sigkill_does_not_end() {
    for (within, hopeless) in [(9, 8_820), (3, 2_940), (30, 30_000 - 1_000 + 800)] {
        let hooks = Hooks { post_stop: Some(hook("cleanup")), ..Hooks::default() };
        let mut config = Config { services: vec![service("web")], hooks, ..config() };
        config.stop.within = Some(Duration::from_secs(within));
        let mut script = Script::start(config);
        script.published("web", Ok(()));
        script.signal(Signal::TERM);
        script.published("web", Ok(()));
        script.heard();
        assert_eq!(script.when("withdraw web"), hopeless);
        let said: Vec<String> = script.said.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|said| said.starts_with("SIGKILL doesn't end main")), "{said:?}");
        script.withdrawn("web");
        script.expect(&["spawn post_stop"]);
        script.ends("post_stop", 0);
        script.expect(&["exit 137"]);
    }
}

#[test]
fn what_main_left_and_is_held_dead_by_its_tracer_is_waited_for_a_second() {
    let mut script = Script::start(config());
    let run = script.run("main");
    script.held_dead = true;
    script.send(Event::Exited { run, status: ExitStatus::Exited(5) });
    assert_eq!(script.when("exit 5"), 1_000);
}

#[test]
fn what_main_left_is_waited_for_no_longer_than_the_stop_has() {
    let mut script = Script::start(config());
    script.signal(Signal::TERM);
    script.until(9_500);
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(5) });
    assert_eq!(script.when("exit 5"), 10_000);
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

fn following() -> Script {
    let mut follow = config();
    follow.process.background = Background::Follow;
    follow.process.restart.policy = RestartPolicy::OnFailure;
    let mut script = Script::start(follow);
    script.heard();
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::Strays { left: 2 });
    script.expect(&["follow a stray"]);
    script
}

#[test]
fn a_main_that_daemonises_is_followed_when_configured() {
    let mut script = following();
    assert_eq!(script.core.status().main.pid, Some(101));
    script.until(60_000);
    script.expect(&[]);
    script.signal(Signal::HUP);
    script.signal(Signal::TERM);
    script.expect(&["SIGHUP to main", "SIGTERM to main"]);
    script.ends("main", 3);
    script.expect(&["exit 3"]);
}

#[test]
fn a_followed_main_that_crashes_is_started_again_once_nothing_of_it_is_left() {
    let mut script = following();
    script.until(5_000);
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Killed(Signal::KILL) });
    script.send(Event::Strays { left: 3 });
    script.expect(&["SIGTERM to strays"]);
    script.send(Event::Strays { left: 0 });
    assert!(script.when("spawn main") <= 5_300);
}

#[test]
fn who_follows_already_is_not_told_to_follow() {
    let mut script = following();
    script.until(5_000);
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::Strays { left: 3 });
    let said = script.said.iter().map(ToString::to_string);
    let ended: Vec<String> = said.filter(|said| said.contains("which are ended now")).collect();
    assert_eq!(ended, ["main ended but left 3 processes, which are ended now"]);
}

#[test]
fn a_launcher_in_two_steps_is_followed_to_the_daemon() {
    let mut script = following();
    let run = script.run("main");
    script.followable = Some(102);
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::Strays { left: 1 });
    script.expect(&["follow a stray"]);
    assert_eq!(script.core.status().main.pid, Some(102));
}

/// Main names another in its place.
fn names(script: &mut Script, pid: Pid) {
    script.send(Event::Notified(Notification { main_pid: Some((pid, 7)), ..Notification::default() }));
}

/// Main ends like this, and leaves two.
fn ends_leaving(script: &mut Script, status: ExitStatus) {
    let run = script.run("main");
    script.send(Event::Exited { run, status });
    script.send(Event::Strays { left: 2 });
}

#[test]
fn who_main_names_in_its_place_is_followed_however_often_and_however_it_ends() {
    let mut script = following();
    for (pid, status) in [(102, ExitStatus::Exited(0)), (103, ExitStatus::Exited(1))] {
        script.until(script.now() + 60_000);
        // It is nobody's child of ours yet.
        script.followable = None;
        names(&mut script, pid);
        script.expect(&["follow a stray"]);
        script.followable = Some(pid);
        // A worker's end is no word of who was named.
        let run = script.run("main");
        script.send(Event::Exited { run, status });
        script.send(Event::StrayEnded { status: ExitStatus::Exited(9) });
        script.send(Event::Strays { left: 2 });
        script.expect(&["follow a stray"]);
        assert_eq!(script.core.status().main.pid, Some(pid));
    }
    script.until(script.now() + 60_000);
    ends_leaving(&mut script, ExitStatus::Exited(0));
    script.expect(&["SIGTERM to strays"]);
}

#[test]
fn nobody_stands_in_for_who_was_named_and_is_not_there() {
    let mut script = following();
    script.until(60_000);
    script.followable = None;
    names(&mut script, 102);
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::Strays { left: 2 });
    assert_eq!(script.heard(), ["follow a stray", "follow a stray"]);
    // It may be a moment before it is our child.
    script.until(61_000);
    script.heard();
    script.send(Event::Strays { left: 2 });
    script.expect(&["SIGTERM to strays"]);
    script.send(Event::Strays { left: 0 });
    script.expect(&["exit 0"]);
}

#[test]
fn who_named_itself_has_named_nobody_in_its_place() {
    let mut script = following();
    names(&mut script, 101);
    script.until(60_000);
    script.heard();
    ends_leaving(&mut script, ExitStatus::Exited(0));
    script.expect(&["SIGTERM to strays"]);
}

#[test]
fn nobody_is_followed_where_main_was_told_to_stop() {
    let mut script = following();
    script.until(60_000);
    script.followable = None;
    names(&mut script, 102);
    script.signal(Signal::TERM);
    script.heard();
    ends_leaving(&mut script, ExitStatus::Exited(0));
    script.expect(&["SIGTERM to strays"]);
}

/// A launcher whose daemon is followed, and told to stop by these.
fn launching(change: impl FnOnce(&mut Config)) -> Script {
    let mut follow = config();
    follow.process.background = Background::Follow;
    change(&mut follow);
    let mut script = Script::start(follow);
    script.heard();
    script
}

fn launched(script: &mut Script) {
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
}

#[test]
fn a_daemon_that_is_followed_after_main_was_told_to_stop_gets_what_main_would() {
    let told = |change: fn(&mut Config)| {
        let mut script = launching(change);
        script.followable = None;
        launched(&mut script);
        script.send(Event::Strays { left: 1 });
        script.signal(Signal::TERM);
        script.expect(&["follow a stray"]);
        let run = script.run("main");
        script.send(Event::Followed { run, pid: Some(101) });
        script.heard()
    };
    assert_eq!(told(|_| {}), ["SIGTERM to main"]);
    assert_eq!(told(|config| config.process.stop_signal = Some(Signal::QUIT)), ["SIGQUIT to main"]);
    let rewritten = |config: &mut Config| {
        config.process.rewrite_signals.insert(Signal::TERM, Some(Signal::INT));
        config.process.signal_scope = SignalScope::Group;
    };
    assert_eq!(told(rewritten), ["SIGINT to main's group"]);
}

#[test]
fn a_stop_between_a_launchers_end_and_its_daemon_goes_its_way_with_the_daemon() {
    let mut script = launching(|config| {
        config.process.stop_signal = Some(Signal::QUIT);
        config.stop.drain = Duration::from_secs(1);
        config.hooks.pre_stop = Some(hook("leave"));
    });
    launched(&mut script);
    script.signal(Signal::TERM);
    script.send(Event::Strays { left: 1 });
    script.expect(&["follow a stray"]);
    script.until(1_000);
    script.expect(&["spawn pre_stop"]);
    script.ends("pre_stop", 0);
    script.expect(&["SIGQUIT to main"]);
    script.ends("main", 3);
    script.expect(&["exit 3"]);
}

#[test]
fn a_daemon_whose_launcher_ends_while_the_container_drains_is_told_as_main() {
    let mut script = launching(|config| {
        config.process.stop_signal = Some(Signal::QUIT);
        config.stop.drain = Duration::from_secs(1);
    });
    script.signal(Signal::TERM);
    launched(&mut script);
    script.send(Event::Strays { left: 1 });
    script.expect(&["follow a stray"]);
    script.until(1_000);
    script.expect(&["SIGQUIT to main"]);
}

#[test]
fn who_main_names_in_its_place_once_it_was_told_to_stop_is_told_as_well() {
    let mut script = following();
    script.until(60_000);
    script.followable = Some(102);
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to main"]);
    names(&mut script, 102);
    script.expect(&["follow a stray", "SIGTERM to main"]);
}

#[test]
fn a_daemon_that_is_not_found_is_killed_when_mains_time_to_stop_is_over() {
    let mut script = launching(|_| {});
    script.followable = None;
    launched(&mut script);
    script.signal(Signal::TERM);
    script.send(Event::Strays { left: 1 });
    script.until(8_999);
    script.expect(&["follow a stray"]);
    script.until(9_050);
    script.send(Event::Strays { left: 1 });
    script.expect(&["SIGTERM to strays", "SIGKILL to strays"]);
}

#[test]
fn a_daemon_that_ends_before_it_is_followed_counts_by_its_own_code() {
    let mut follow = config();
    follow.process.background = Background::Follow;
    let mut script = Script::start(follow);
    script.heard();
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::StrayEnded { status: ExitStatus::Exited(4) });
    script.send(Event::Strays { left: 0 });
    script.expect(&["exit 4"]);
}

#[test]
fn a_launcher_that_fails_is_not_followed() {
    let mut follow = config();
    follow.process.background = Background::Follow;
    let mut script = Script::start(follow);
    script.heard();
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(1) });
    script.send(Event::Strays { left: 1 });
    script.expect(&["SIGTERM to strays"]);
    script.send(Event::Strays { left: 0 });
    script.expect(&["exit 1"]);
}

#[test]
fn stop_at_the_control_endpoint_is_a_stop() {
    let mut script = Script::start(config());
    script.heard();
    script.send(Event::Control { reply: ReplyId(1), request: Request::Stop });
    let heard = script.heard();
    assert!(heard.contains(&"SIGTERM to main".to_owned()) && heard.contains(&"reply ok".to_owned()), "{heard:?}");
}

/// A plain init with something changed.
fn plain(change: impl FnOnce(&mut Config)) -> Script {
    let mut config = Config::plain(exec("main"));
    change(&mut config);
    let mut script = Script::start(config);
    script.heard();
    script
}

#[test]
fn a_plain_init_that_waits_for_all_passes_signals_on_to_what_main_left() {
    let mut script = plain(|config| config.process.strays = Strays::Wait);
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(3) });
    script.send(Event::Strays { left: 1 });
    script.signal(Signal::TERM);
    assert!(script.heard().contains(&"SIGTERM to strays".to_owned()));
    assert_eq!(script.core.next_deadline(), None);
    script.send(Event::Strays { left: 0 });
    script.expect(&["exit 3"]);
}

#[test]
fn a_plain_inits_stop_signal_is_the_one_main_gets_in_its_place() {
    let mut script = plain(|config| {
        config.stop.within = Some(Duration::from_secs(5));
        config.process.stop_on = vec![Signal::TERM];
        config.process.rewrite_signals.insert(Signal::TERM, Some(Signal::QUIT));
    });
    script.signal(Signal::TERM);
    script.expect(&["SIGQUIT to main"]);
}

#[test]
fn an_init_that_stops_with_main_tells_it_first() {
    let mut script = plain(|config| {
        config.process.manner.stops_with_main = true;
        config.process.rewrite_signals.insert(Signal::TSTP, Some(Signal::STOP));
        config.process.rewrite_signals.insert(Signal::TTIN, None);
    });
    script.signal(Signal::TSTP);
    script.signal(Signal::TTIN);
    script.signal(Signal::WINCH);
    script.expect(&["SIGSTOP to main", "suspend", "suspend", "SIGWINCH to main"]);
}

#[test]
fn mains_group_gets_a_last_word_where_there_is_one_as_it_is_rewritten() {
    let ended = |rewrite: Option<Option<Signal>>| {
        let mut script = plain(|config| {
            config.process.manner.last_word = Some(Signal::TERM);
            config.process.rewrite_signals.extend(rewrite.map(|to| (Signal::TERM, to)));
        });
        let run = script.run("main");
        script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
        script.heard()
    };
    assert_eq!(ended(None), ["SIGTERM to main's group", "exit 0"]);
    assert_eq!(ended(Some(Some(Signal::QUIT))), ["SIGQUIT to main's group", "exit 0"]);
    assert_eq!(ended(Some(None)), ["exit 0"]);
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

#[test]
fn nothing_is_asked_of_a_main_that_comes_up_while_the_container_stops() {
    let restart = crate::config::Restart { policy: RestartPolicy::Always, ..crate::config::Restart::default() };
    let process = crate::config::Process { restart, ..config().process };
    let health = vec![check("ping", crate::config::OnFailure::Report)];
    let mut script = Script::start(Config { process, health, ..config() });
    script.starts_slowly = true;
    script.ends("main", 1);
    script.until(1_000);
    script.signal(Signal::TERM);
    script.main_starts();
    script.heard();
    // A check's deadline that nobody meets would have the agent wake without end.
    script.until(5_000);
    assert!(!script.heard().iter().any(|order| order.contains("ping")), "a check asks");
}

/// Kubernetes sends its one TERM after a preStop that ran `pilotfish stop`, or to a container whose main has just ended.
#[test]
fn the_first_signal_hurries_no_stop_that_began_otherwise() {
    let hooks = Hooks { pre_stop: Some(hook("leave")), post_stop: Some(hook("upload")), ..Hooks::default() };
    let mut script = Script::start(Config { hooks, ..config() });
    script.heard();
    script.send(Event::Control { reply: ReplyId(1), request: Request::Stop });
    script.expect(&["reply ok", "spawn pre_stop"]);
    script.signal(Signal::TERM);
    script.expect(&[]);
    script.ends("pre_stop", 0);
    script.expect(&["SIGTERM to main"]);
    script.ends("main", 0);
    script.expect(&["spawn post_stop"]);
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to all of post_stop"]);
}

/// Two seconds of drain, then `pre_stop`, and a watch.
fn watched() -> Config {
    let hooks = Hooks { pre_stop: Some(hook("drain")), ..Hooks::default() };
    let stop = Stop { within: Some(Duration::from_secs(10)), drain: Duration::from_secs(2) };
    Config { hooks, stop, watches: vec![watch("app")], ..config() }
}

fn draining() -> Script {
    let mut script = Script::start(watched());
    script.sees("app", &["a", "b"]);
    script.ends("on_change of app", 0);
    script.until(1_000);
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&[]);
    script
}

const FREEZES: &str = "unfollow Watch(\"app\")";

#[test]
fn changes_are_acted_on_while_the_container_drains() {
    let mut script = draining();
    script.sees("app", &["a"]);
    script.expect(&["spawn on_change of app"]);
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "b left");
    script.ends("on_change of app", 0);
    // One that comes within the settle time comes when that is over, for all that stops.
    script.sees("app", &["c"]);
    assert_eq!(script.when("spawn on_change of app"), 1_100);
    script.ends("on_change of app", 0);
    assert_eq!(script.when("spawn pre_stop"), 3_000);
    script.sees("app", &[]);
    script.expect(&[]);
    script.ends("pre_stop", 0);
    script.expect(&[FREEZES, "SIGTERM to main"]);
    script.sees("app", &["a"]);
    script.until(5_000);
    script.expect(&[]);
}

/// Its signal would have an HAProxy that `pre_stop` ends softly begin anew.
#[test]
fn once_pre_stop_has_begun_files_are_made_and_main_is_told_of_none() {
    let mut script = running_with_template_and(Config { watches: Vec::new(), ..watched() });
    script.signal(Signal::TERM);
    script.when("spawn pre_stop");
    script.sees("app", &[]);
    script.staged("app");
    script.ends("template_check of app", 0);
    script.installed("app");
    script.until(3_900);
    script.expect(&["render app", "spawn template_check of app", "install app"]);
    // One that was asked about before, and an on_change that ends by then.
    let watches = vec![Watch { signal: Some(Signal::HUP), ..watch("app") }];
    let mut script = Script::start(Config { watches, ..watched() });
    script.until(1_000);
    script.signal(Signal::TERM);
    script.until(2_900);
    script.sees("app", &["a"]);
    script.when("spawn pre_stop");
    script.ends("on_change of app", 0);
    script.until(3_900);
    script.expect(&[]);
}

#[test]
fn while_the_container_drains_a_file_is_made_anew_and_main_told() {
    let mut script = running_with_template_and(Config { watches: Vec::new(), ..watched() });
    script.signal(Signal::TERM);
    script.sees("app", &[]);
    script.staged("app");
    script.ends("template_check of app", 0);
    script.installed("app");
    script.expect(&["render app", "spawn template_check of app", "install app", "SIGHUP to main"]);
}

#[test]
fn no_file_goes_live_once_main_is_told() {
    // Its check runs.
    let plain = || Config { watches: Vec::new(), hooks: Hooks::default(), ..watched() };
    let mut script = running_with_template_and(plain());
    script.signal(Signal::TERM);
    script.sees("app", &[]);
    script.staged("app");
    script.heard();
    script.when(FREEZES);
    script.expect(&["discard", "SIGTERM to all of template_check of app", "SIGTERM to main"]);
    script.ends("template_check of app", 0);
    script.expect(&[]);
    // It is being made.
    let mut script = running_with_template_and(plain());
    script.signal(Signal::TERM);
    script.until(2_900);
    script.sees("app", &[]);
    script.heard();
    script.when("SIGTERM to main");
    script.staged("app");
    script.expect(&["discard"]);
}

#[test]
fn an_on_change_that_hangs_delays_no_step_of_a_stop_and_ends_beside_main() {
    let post_stop = Some(hook("cleanup"));
    let hooks = Hooks { post_stop, ..Hooks::default() };
    let mut script = Script::start(Config { hooks, services: vec![service("web")], ..watched() });
    script.published("web", Ok(()));
    script.until(1_000);
    script.signal(Signal::TERM);
    script.published("web", Ok(()));
    script.sees("app", &["a"]);
    script.heard();
    assert_eq!(script.when(FREEZES), 3_000);
    script.expect(&["SIGTERM to all of on_change of app", "SIGTERM to main"]);
    script.until(3_500);
    script.ends("main", 0);
    script.expect(&["withdraw web"]);
    script.withdrawn("web");
    script.expect(&["spawn post_stop"]);
    script.ends("post_stop", 0);
    script.expect(&[]);
    // Before its own end the container kills what is left of it.
    assert_eq!(script.when("SIGKILL to all of on_change of app"), 5_000);
    script.ends_as("on_change of app", ExitStatus::Killed(Signal::KILL));
    script.expect(&["exit 0"]);
}

#[test]
fn an_on_change_that_is_tried_again_holds_no_stop() {
    let mut script = draining();
    script.sees("app", &["a"]);
    script.ends("on_change of app", 1);
    assert!(script.when("spawn on_change of app") <= 2_000);
    script.ends("on_change of app", 1);
    assert_eq!(script.when("spawn pre_stop"), 3_000);
    script.ends("pre_stop", 0);
    assert_eq!(script.when("SIGTERM to main"), 3_000);
    script.until(9_000);
    assert!(!script.heard().contains(&"spawn on_change of app".to_owned()));
}

#[test]
fn the_second_signal_ends_what_watches_do_with_the_drain() {
    let mut script = draining();
    script.sees("app", &["a"]);
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&[FREEZES, "SIGTERM to all of on_change of app", "SIGTERM to main"]);
}

#[test]
fn changes_are_acted_on_while_what_stops_before_main_does() {
    let front = Coprocess { stop: StopPoint::BeforeMain, ..coprocess("front") };
    let mut script = Script::start(Config { coprocesses: vec![front], hooks: Hooks::default(), ..watched() });
    script.signal(Signal::TERM);
    script.when("SIGTERM to coprocess front");
    script.sees("app", &["a"]);
    script.expect(&["spawn on_change of app"]);
    script.ends("on_change of app", 0);
    script.ends("coprocess front", 0);
    script.expect(&[FREEZES, "SIGTERM to main"]);
}

#[test]
fn nothing_is_acted_on_for_a_main_that_ends_by_itself_while_the_container_stops_or_was_not_up() {
    let mut script = draining();
    script.when("spawn pre_stop");
    script.ends("main", 0);
    script.expect(&[FREEZES]);
    script.sees("app", &["a"]);
    script.until(4_000);
    script.expect(&[]);

    let mut script = Script::start(watched());
    script.heard();
    script.ends("main", 0);
    script.expect(&[FREEZES, "exit 0"]);

    let mut script = Script::start(Config { watches: vec![super::watch::templated()], ..watched() });
    script.sees("app", &["a"]);
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&[FREEZES, "exit 143"]);
}

#[test]
fn who_begins_maintenance_before_a_stop_has_nothing_acted_on_in_it() {
    let mut script = Script::start(watched());
    let request = Request::BeginMaintenance { lasts: Some(Duration::from_secs(1)), reason: None };
    script.send(Event::Control { reply: ReplyId(1), request });
    script.signal(Signal::TERM);
    script.heard();
    script.sees("app", &["a"]);
    script.until(1_900);
    script.expect(&[]);
}

#[test]
fn a_signal_that_main_would_die_of_is_not_sent_once_it_is_told_to_stop() {
    let watches = vec![Watch { on_change: None, signal: Some(Signal::HUP), ..watch("app") }];
    let mut script = Script::start(Config { watches, hooks: Hooks::default(), ..watched() });
    script.until(1_000);
    script.signal(Signal::TERM);
    script.until(2_900);
    script.catches = false;
    script.heard();
    script.sees("app", &["a"]);
    script.expect(&["no SIGHUP yet"]);
    script.when("SIGTERM to main");
    script.catches = true;
    script.until(5_000);
    script.expect(&[]);
}
