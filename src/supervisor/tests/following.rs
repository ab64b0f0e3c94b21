//! From a main's end to the one that is followed in its place: for the rest of the world, main runs on.

use std::time::Duration;

use super::script::*;
use super::watch::{staged, templated};
use crate::config::{Background, Config, OnFailure, RestartPolicy, Signal, Watch};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::*;

/// A main that is to be followed, and the first of what is asked of it answered well.
fn launching(change: impl FnOnce(&mut Config)) -> Script {
    let mut config = Config { services: vec![service("web")], ..config() };
    config.health = vec![check("ping", OnFailure::Restart)];
    config.process.background = Background::Follow;
    change(&mut config);
    let mut script = Script::start(config);
    script.answer("probe", Ok(()));
    script.published("web", Ok(()));
    script.published("web", Ok(()));
    script.heard();
    script
}

/// Main has ended, and who follows it is yet to be found.
fn ended(script: &mut Script, code: u8) -> RunId {
    let run = script.run("main");
    script.followable = None;
    script.send(Event::Exited { run, status: ExitStatus::Exited(code) });
    run
}

#[test]
fn a_main_that_is_followed_is_never_seen_to_be_down() {
    let mut script = launching(|_| {});
    let run = ended(&mut script, 0);
    script.send(Event::Strays { left: 1 });
    let status = script.core.status();
    assert!(status.ready() && status.doing == "following what main left", "{status:?}");
    script.send(Event::Followed { run, pid: Some(101) });
    let status = script.core.status();
    assert!(status.ready() && status.doing == "running main" && status.main.pid == Some(101), "{status:?}");
    script.expect(&["follow a stray"]);
    // What it passed before counts on.
    script.until(5_000);
    script.answer("probe", Err("refused"));
    script.expect(&["probe", "publish web critical", "SIGTERM to main"]);
}

#[test]
fn what_a_launcher_has_yet_to_pass_its_daemon_has_all_its_grace_for() {
    let mut script = launching(|_| {});
    script.until(5_000);
    script.answer("probe", Err("refused"));
    script.ends("main", 1);
    assert!(script.heard().contains(&"publish web critical".to_owned()));

    let mut script = launching(|config| config.health.push(check("late", OnFailure::Report)));
    let run = ended(&mut script, 0);
    script.send(Event::Strays { left: 1 });
    script.send(Event::Followed { run, pid: Some(101) });
    script.expect(&["follow a stray", "probe"]);
}

#[test]
fn a_main_with_nobody_to_follow_is_down_as_soon_as_that_is_known() {
    for left in [0, 1] {
        let mut script = launching(|config| config.process.restart.policy = RestartPolicy::Always);
        let run = ended(&mut script, 0);
        assert!(script.core.status().main.runs());
        script.send(Event::Strays { left });
        if left > 0 {
            script.send(Event::Followed { run, pid: None });
        }
        let status = script.core.status();
        assert!(!status.main.runs() && !status.ready() && !status.health[0].passing, "{status:?}");
        assert!(script.heard().contains(&"publish web critical".to_owned()));
    }
    let mut script = launching(|_| {});
    ended(&mut script, 1);
    assert!(!script.core.status().main.runs());
    script.expect(&["publish web critical"]);
}

#[test]
fn one_that_main_named_and_that_has_ended_holds_nothing_up() {
    let mut script = launching(|config| config.process.restart.policy = RestartPolicy::Always);
    script.send(Event::Notified(Notification { main_pid: Some((101, 7)), ..Notification::default() }));
    let run = ended(&mut script, 1);
    script.send(Event::Strays { left: 1 });
    assert_eq!(script.sought, Some((Some((101, 7)), true)));
    script.expect(&["follow a stray"]);
    script.send(Event::Followed { run, pid: None });
    script.expect(&[]);
    script.send(Event::Strays { left: 1 });
    script.expect(&["SIGTERM to strays", "publish web critical"]);
}

#[test]
fn one_that_main_names_while_it_runs_on_is_forgotten_once_it_has_ended() {
    let mut script = launching(|_| {});
    let run = ended(&mut script, 0);
    script.send(Event::Strays { left: 1 });
    script.send(Event::Followed { run, pid: Some(101) });
    script.send(Event::Notified(Notification { main_pid: Some((102, 7)), ..Notification::default() }));
    script.expect(&["follow a stray", "follow a stray"]);
    script.send(Event::Followed { run, pid: None });
    script.until(60_000);
    script.heard();
    script.send(Event::Exited { run, status: ExitStatus::Exited(1) });
    script.send(Event::Strays { left: 1 });
    assert!(script.heard().contains(&"SIGTERM to strays".to_owned()));
}

#[test]
fn who_is_followed_is_told_of_what_changed_before_it_was() {
    let mut process = config().process;
    process.background = Background::Follow;
    let mut script = Script::start(Config { process, watches: vec![templated()], ..config() });
    script.sees("app", &["a"]);
    script.rendered("app", Rendering::Unchanged);
    script.until(1_000);
    script.sees("app", &["a", "b"]);
    script.rendered("app", Rendering::Staged(staged()));
    script.ends("template_check of app", 0);
    let run = ended(&mut script, 0);
    script.heard();
    script.installed("app");
    script.send(Event::Strays { left: 1 });
    script.expect(&["follow a stray"]);
    script.send(Event::Followed { run, pid: Some(101) });
    script.expect(&["render app"]);
    script.rendered("app", Rendering::Unchanged);
    script.expect(&["SIGHUP to main"]);

    // Its hook ended before it was followed, and the signal is yet to come.
    let signalled = Watch { signal: Some(Signal::HUP), ..watch("app") };
    let mut script = launching(|config| config.watches = vec![signalled]);
    script.sees("app", &["a"]);
    let run = ended(&mut script, 0);
    script.ends("on_change of app", 0);
    script.heard();
    script.send(Event::Strays { left: 1 });
    script.send(Event::Followed { run, pid: Some(101) });
    script.expect(&["follow a stray", "SIGHUP to main"]);
}

#[test]
fn a_restart_that_is_ordered_while_main_is_followed_restarts_who_is_followed() {
    let mut script = launching(|_| {});
    let run = ended(&mut script, 0);
    script.send(Event::Strays { left: 1 });
    script.send(Event::Control { reply: ReplyId(1), request: Request::Restart { name: None } });
    script.expect(&["follow a stray", "publish web draining"]);
    script.send(Event::Followed { run, pid: Some(101) });
    script.expect(&["SIGTERM to main"]);
    script.ends("main", 0);
    assert!(script.heard().contains(&"reply ok".to_owned()));
}

#[test]
fn two_that_name_each_other_in_turn_fill_no_log() {
    let mut script = launching(|_| {});
    let run = ended(&mut script, 0);
    script.send(Event::Followed { run, pid: Some(101) });
    for turn in 0..1_000 {
        script.until(script.now() + 5);
        script.send(Event::Followed { run, pid: Some(102 + turn % 2) });
    }
    let said = script.said.iter().filter(|notice| matches!(notice, Notice::MainFollowed { .. })).count();
    assert!((4..=6).contains(&said), "{said}");
}

#[test]
fn what_drains_before_a_restart_drains_on_while_main_is_followed() {
    let mut script = launching(|config| config.stop.drain = Duration::from_secs(5));
    script.send(Event::Control { reply: ReplyId(1), request: Request::Restart { name: None } });
    script.expect(&["publish web draining"]);
    script.published("web", Ok(()));
    let run = ended(&mut script, 0);
    script.send(Event::Strays { left: 1 });
    script.send(Event::Followed { run, pid: Some(101) });
    let heard = script.heard();
    assert!(!heard.iter().any(|heard| heard.starts_with("publish")), "{heard:?}");
    script.when("SIGTERM to main");
}
