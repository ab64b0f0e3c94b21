use super::script::*;
use crate::config::{Background, Config, Hooks, Leftovers, OnFailure, RestartPolicy, Signal};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::*;

fn settling(mut config: Config) -> Config {
    config.hooks = Hooks { post_start: Some(hook("settle")), ..Hooks::default() };
    config
}

fn checked() -> Config {
    let mut config = settling(config());
    config.process.restart.policy = RestartPolicy::Always;
    config.health = vec![check("ping", OnFailure::Report)];
    config
}

#[test]
fn without_checks_post_start_runs_once_main_runs() {
    let mut script = Script::start(settling(config()));
    script.expect(&["spawn main", "spawn post_start"]);
    assert_eq!(script.env["post_start"]["PILOTFISH_EVENT"], "post_start");
    assert_eq!(script.env["post_start"]["PILOTFISH_MAIN_PID"], "100");
    script.ends("post_start", 0);
    script.until(3_600_000);
    script.expect(&[]);
}

#[test]
fn post_start_waits_for_the_first_time_that_each_check_passes_and_for_no_other() {
    let mut script = Script::start(checked());
    script.expect(&["spawn main", "probe"]);
    script.answer("probe", Err("refused"));
    script.when("probe");
    script.answer("probe", Ok(()));
    script.expect(&["spawn post_start"]);
    script.ends("post_start", 0);
    script.when("probe");
    script.answer("probe", Err("refused"));
    script.when("probe");
    script.answer("probe", Ok(()));
    script.expect(&[]);
}

#[test]
fn post_start_runs_after_each_start_of_main() {
    let mut script = Script::start(checked());
    script.answer("probe", Ok(()));
    script.ends("post_start", 0);
    script.heard();
    script.ends("main", 1);
    script.when("spawn main");
    script.expect(&["probe"]);
    script.answer("probe", Ok(()));
    script.expect(&["spawn post_start"]);
}

#[test]
fn a_post_start_that_fails_changes_nothing_and_one_that_hangs_is_ended() {
    let mut script = Script::start(settling(config()));
    script.ends("post_start", 1);
    script.until(60_000);
    script.expect(&["spawn main", "spawn post_start"]);
    assert_eq!(script.core.status().hooks["post_start"], HookCount { succeeded: 0, failed: 1 });

    let mut script = Script::start(settling(config()));
    script.heard();
    assert_eq!(script.when("SIGTERM to all of post_start"), 30_000);
    assert_eq!(script.when("SIGKILL to all of post_start"), 32_000);
    script.ends_as("post_start", ExitStatus::Killed(Signal::KILL));
    script.until(60_000);
    script.expect(&[]);
}

#[test]
fn a_post_start_ends_with_main_and_runs_beside_no_other() {
    let mut script = Script::start(checked());
    script.answer("probe", Ok(()));
    script.heard();
    script.ends("main", 1);
    script.expect(&["SIGTERM to all of post_start"]);
    script.when("spawn main");
    script.expect(&["probe"]);
    script.answer("probe", Ok(()));
    script.expect(&[]);
    let first = script.run("post_start");
    script.send(Event::Exited { run: first, status: ExitStatus::Killed(Signal::TERM) });
    script.send(Event::RunLeft { run: first, any: false });
    script.expect(&["spawn post_start"]);
}

#[test]
fn what_a_post_start_kept_ends_before_it_runs_again() {
    let mut config = checked();
    config.hooks.post_start.as_mut().unwrap().leftovers = Leftovers::Keep;
    let mut script = Script::start(config);
    script.answer("probe", Ok(()));
    script.ends_leaving("post_start", ExitStatus::Exited(0));
    script.heard();
    script.ends("main", 1);
    script.when("spawn main");
    script.answer("probe", Ok(()));
    script.expect(&["probe", "SIGTERM to all of post_start"]);
    script.group_ends("post_start");
    script.expect(&["spawn post_start"]);
}

#[test]
fn a_stop_ends_post_start_at_once_and_is_held_up_by_nothing_of_it() {
    let mut script = Script::start(settling(config()));
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to all of post_start", "SIGTERM to main"]);
    script.ends("main", 0);
    script.expect(&[]);
    // One that ignores all is killed, and the exit waits only for that.
    assert!(script.when("SIGKILL to all of post_start") <= 2_000);
    script.ends_as("post_start", ExitStatus::Killed(Signal::KILL));
    script.expect(&["exit 0"]);
}

#[test]
fn a_stop_before_main_is_healthy_runs_no_post_start() {
    let mut script = Script::start(checked());
    script.heard();
    script.signal(Signal::TERM);
    script.answer("probe", Ok(()));
    script.expect(&["SIGTERM to main"]);
}

/// The launcher ends, and the daemon that it left is followed.
fn launcher_ends(script: &mut Script) {
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::Strays { left: 1 });
    assert_eq!(script.core.status().main.pid, Some(101));
}

#[test]
fn a_launchers_end_takes_no_post_start_away() {
    let following = |mut config: Config| {
        config.process.background = Background::Follow;
        config
    };
    // It waits for the daemon to be healthy.
    let mut script = Script::start(following(checked()));
    launcher_ends(&mut script);
    script.expect(&["spawn main", "probe", "follow a stray", "probe"]);
    script.answer("probe", Ok(()));
    script.expect(&["spawn post_start"]);
    assert_eq!(script.env["post_start"]["PILOTFISH_MAIN_PID"], "101");

    // It runs on.
    let mut script = Script::start(following(settling(config())));
    launcher_ends(&mut script);
    script.expect(&["spawn main", "spawn post_start", "follow a stray"]);
    script.ends("post_start", 0);
    script.until(60_000);
    script.expect(&[]);

    // And ends with the daemon.
    let mut script = Script::start(following(settling(config())));
    launcher_ends(&mut script);
    script.heard();
    script.until(5_000);
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.expect(&["SIGTERM to all of post_start"]);

    // Or with what was to be followed, and can't be found.
    let mut script = Script::start(following(settling(config())));
    script.heard();
    script.followable = None;
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::Strays { left: 1 });
    script.expect(&["follow a stray"]);
    script.send(Event::Followed { run, pid: None });
    script.expect(&["SIGTERM to strays", "SIGTERM to all of post_start"]);
}

#[test]
fn a_main_that_is_told_to_end_for_its_health_has_no_post_start_any_more() {
    let mut config = checked();
    config.health.push(check("web", OnFailure::Restart));
    config.health[0].probe = crate::config::Probe::Exec { exec: exec("ask"), run_as: Default::default() };
    let mut script = Script::start(config);
    script.answer("probe", Err("refused"));
    assert!(script.heard().contains(&"SIGTERM to main".to_owned()));
    script.ends("health of ping", 0);
    assert!(!script.heard().contains(&"spawn post_start".to_owned()));
}
