//! Hooks around main's start on the real program: several `pre_start`, and `post_start`.
#![allow(clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::time::{Duration, Instant};

use crate::support::lab::Lab;
use crate::support::namespace::{eventually, specimen};

const TERM: i32 = 15;

/// Main that tells when it starts, is healthy once the file `ok` is there, and crashes once `crash` is.
const MAIN: &str = r#"
[process]
exec = ["sh", "-c", "echo main >> DIR/story; trap 'echo term >> DIR/story; exit 3' TERM; while sleep 0.02; do [ -e DIR/crash ] && rm DIR/crash DIR/ok && exit 7; done"]
restart = { policy = "on-failure", backoff = "10ms" }
[[health]]
exec = ["test", "-e", "DIR/ok"]
start_interval = "50ms"
interval = "50ms"
"#;

#[test]
fn several_pre_starts_run_one_after_the_other_and_the_next_sees_what_the_last_one_left() {
    let lab = Lab::new(
        r#"
        [process]
        exec = ["sh", "-c", "echo main >> DIR/story"]
        [[hooks.pre_start]]
        exec = ["sh", "-c", "sleep 0.3; echo one >> DIR/story; sleep 1000 & echo $! > DIR/pid"]
        [[hooks.pre_start]]
        exec = ["sh", "-c", "kill -0 $(cat DIR/pid) && echo $PILOTFISH_EVENT two >> DIR/story"]
        "#,
    );
    let mut container = lab.start().run().unwrap();
    assert_eq!(container.wait(), Ok(0), "{}", container.stderr());
    assert_eq!(lab.story(), ["one", "first_start two", "main"]);
}

#[test]
fn a_second_pre_start_that_fails_ends_the_container_with_its_code_and_its_number() {
    let lab = Lab::new(
        r#"
        [process]
        exec = ["sh", "-c", "echo main >> DIR/story"]
        [hooks]
        pre_start = [{ exec = ["true"] }, { exec = ["sh", "-c", "echo no; exit 5"] }]
        "#,
    );
    let mut container = lab.start().run().unwrap();
    assert_eq!(container.wait(), Ok(5));
    assert!(lab.story().is_empty());
    let log = container.stderr();
    assert!(log.contains("pre_start 2 failed: exited with code 5"), "{log}");
    assert!(log.lines().any(|line| line.contains("hook: no hook=pre_start 2")), "{log}");
}

#[test]
fn a_reload_lets_no_pre_start_run_twice_that_was_put_behind_another() {
    let config = |names: &[&str]| {
        let hook = |name: &&str| {
            format!("[[hooks.pre_start]]\nexec = [\"sh\", \"-c\", \"echo {name} >> DIR/story; sleep 1\"]\n")
        };
        let main = "[process]\nexec = [\"sh\", \"-c\", \"echo main >> DIR/story\"]\n";
        main.to_owned() + &names.iter().map(hook).collect::<String>()
    };
    let lab = Lab::new(&config(&["restore"]));
    let mut container = lab.run();
    lab.told("restore");
    lab.write(&config(&["fetch", "restore"]));
    let (code, said, _) = lab.ask(&["reload"]);
    assert!(code == 0 && said.contains("next start: [[hooks.pre_start]]"), "{code} {said}");
    assert_eq!(container.wait(), Ok(0), "{}", container.stderr());
    assert_eq!(lab.story(), ["restore", "main"]);
}

#[test]
fn a_post_start_outlives_the_launcher_of_a_daemon_that_is_followed() {
    let lab = Lab::new(
        r#"
        [process]
        exec = ["sh", "-c", "setsid sleep 1000 & until grep -q begun DIR/story; do sleep 0.02; done; exit 0"]
        background = "follow"
        [hooks.post_start]
        exec = ["sh", "-c", "echo begun >> DIR/story; until grep -q followed DIR/story; do sleep 0.02; done; echo done >> DIR/story"]
        "#,
    );
    let mut container = lab.run();
    let follows = || container.stderr().contains("main is process").then_some(());
    eventually("a daemon that is followed", follows).unwrap();
    fs::write(lab.path("story"), "begun\nfollowed\n").unwrap();
    lab.told("done");
    container.signal(TERM);
    container.wait().unwrap();
}

#[test]
fn post_start_runs_once_main_is_healthy_after_each_of_its_starts() {
    let lab = Lab::new(&format!(
        "{MAIN}[hooks.post_start]\nexec = [\"sh\", \"-c\", \"kill -0 $PILOTFISH_MAIN_PID && echo healthy >> DIR/story\"]\n"
    ));
    let mut container = lab.run();
    lab.told("main");
    assert_eq!(lab.story(), ["main"]);
    fs::write(lab.path("ok"), "").unwrap();
    lab.told("healthy");
    fs::write(lab.path("crash"), "").unwrap();
    eventually("another start", || (lab.story().len() == 3).then_some(())).unwrap();
    fs::write(lab.path("ok"), "").unwrap();
    eventually("another post_start", || (lab.story().len() == 4).then_some(())).unwrap();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    assert_eq!(lab.story(), ["main", "healthy", "main", "healthy", "term"]);
}

#[test]
fn a_post_start_that_ignores_everything_ends_with_main_and_holds_up_no_stop() {
    let lab = Lab::new(&format!(
        "{MAIN}[hooks.post_start]\ntimeout = \"10m\"\n\
         exec = [\"sh\", \"-c\", \"echo begins >> DIR/story; {0} hold DIR/own & setsid {0} hold DIR/other & wait\"]\n\
         [stop]\nwithin = \"6s\"\n",
        specimen().display()
    ));
    fs::write(lab.path("ok"), "").unwrap();
    let mut container = lab.run();
    lab.told("begins");
    let held = |name: &str| lab.path(name).exists();
    eventually("what it starts", || (held("own") && held("other")).then_some(())).unwrap();
    fs::write(lab.path("crash"), "").unwrap();
    eventually("another start", || (lab.story().iter().filter(|line| *line == "main").count() == 2).then_some(()))
        .unwrap();
    fs::write(lab.path("ok"), "").unwrap();
    let again = || (lab.story().iter().filter(|line| *line == "begins").count() == 2).then_some(());
    eventually("another post_start", again).unwrap();
    let begun = Instant::now();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3), "{}", container.stderr());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
