//! Why main ended, where it has a terminal: what a key has sent it is a requested stop however main answers, and what no
//! key has sent isn't.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::lab::Lab;
use crate::support::namespace::{Container, eventually, processes, within};

const AT_ONCE: Duration = Duration::from_secs(5);
const CTRL_C: &[u8] = b"\x03";
const CTRL_BACKSLASH: &[u8] = b"\x1c";

/// A container on a terminal, and its keyboard.
struct Session {
    lab: Lab,
    container: Container,
    keys: fs::File,
    screen: Arc<Mutex<String>>,
}

impl Session {
    /// Main is this shell script, and is restarted whatever its end. It says `up` when it can be typed at.
    fn start(script: &str, more: &str) -> Session {
        let config = format!(
            "[process]\nexec = [\"sh\", \"DIR/main\"]\nrestart = {{ policy = \"always\", backoff = \"50ms\" }}\n{more}\n\
             [hooks]\npre_stop = {{ exec = [\"sh\", \"-c\", \"echo pre_stop >> DIR/story\"] }}\n"
        );
        let lab = Lab::new(&config);
        let directory = lab.path("").to_str().unwrap().trim_end_matches('/').to_owned();
        fs::write(lab.path("main"), script.replace("DIR", &directory)).unwrap();
        let pty = nix::pty::openpty(None, None).unwrap();
        let keys = fs::File::from(pty.master);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut reader, shown) = (keys.try_clone().unwrap(), screen.clone());
        // Who writes to a screen that isn't read waits; this ends with the container.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        let container = lab.run_as(lab.start().on_terminal(pty.slave));
        let session = Session { lab, container, keys, screen };
        session.tells("up", 1);
        session
    }

    fn types(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
    }

    fn times(&self, line: &str) -> usize {
        self.lab.story().iter().filter(|told| *told == line).count()
    }

    fn tells(&self, line: &str, times: usize) {
        within(AT_ONCE, line, || (self.times(line) >= times).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {:?} {}", self.lab.story(), self.screen.lock().unwrap()));
    }

    fn shows(&self, text: &str) {
        within(AT_ONCE, text, || self.screen.lock().unwrap().contains(text).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}", self.screen.lock().unwrap()));
    }

    #[track_caller]
    fn ends_in_order(mut self, code: i32) {
        assert_eq!(self.container.wait_for(AT_ONCE), Ok(code), "{:?}", self.lab.story());
        assert_eq!((self.times("up"), self.times("pre_stop")), (1, 1), "{:?}", self.lab.story());
    }
}

#[test]
fn ctrl_c_stops_the_container_in_order() {
    let mut session = Session::start("echo up >> DIR/story; exec sleep 1000", "");
    session.types(CTRL_C);
    session.ends_in_order(130);
}

#[test]
fn ctrl_c_that_main_handles_stops_the_container_in_order_with_mains_own_code() {
    for code in [0, 1, 9] {
        let handles = format!("trap 'sleep 0.3; exit {code}' INT; echo up >> DIR/story; while :; do sleep 0.05; done");
        let mut session = Session::start(&handles, "");
        session.types(CTRL_C);
        session.ends_in_order(code);
    }
}

#[test]
fn ctrl_backslash_does_as_ctrl_c() {
    let mut session = Session::start("trap 'exit 7' QUIT; echo up >> DIR/story; while :; do sleep 0.05; done", "");
    session.types(CTRL_BACKSLASH);
    session.ends_in_order(7);
}

#[test]
fn a_main_that_goes_on_after_ctrl_c_runs_on_and_a_later_crash_is_a_crash() {
    let prompt = "trap 'echo cleared >> DIR/story' INT; echo up >> DIR/story\n\
                  while :; do read -r line || continue; [ \"$line\" = crash ] && { sleep 1.2; exit 1; }; echo \"$line\" >> DIR/story; done";
    let mut session = Session::start(prompt, "stop_timeout = \"1s\"");
    session.types(CTRL_C);
    session.tells("cleared", 1);
    session.types(b"hello\n");
    session.tells("hello", 1);
    session.types(b"crash\n");
    session.tells("up", 2);
    assert_eq!((session.times("pre_stop"), session.container.ended()), (0, None));
}

#[test]
fn the_same_signal_from_elsewhere_and_a_crash_at_the_terminal_are_no_requested_stop() {
    // Of itself, to all of its group.
    let crashes = "echo up >> DIR/story; [ $(grep -c up DIR/story) -gt 1 ] && exec sleep 1000\n\
                   trap 'exit 1' INT; kill -INT 0; sleep 0.2; exit 1";
    let mut session = Session::start(crashes, "");
    session.tells("up", 2);
    assert_eq!((session.times("pre_stop"), session.container.ended()), (0, None));
}

#[test]
fn each_main_is_heard_anew_and_none_of_what_hears_it_is_left() {
    let mut session = Session::start(
        "trap 'exit 4' INT; echo up >> DIR/story; while [ ! -e DIR/again$(grep -c up DIR/story) ]; do sleep 0.05; done",
        "",
    );
    let hearing = |session: &Session| {
        let named =
            |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "pilotfish-tty\n");
        let agent = session.container.pid;
        processes().iter().filter(|process| process.parent == agent && named(process.pid)).count()
    };
    for round in 1..4 {
        eventually("somebody who hears", || (hearing(&session) == 1).then_some(())).unwrap();
        fs::write(session.lab.path(&format!("again{round}")), "").unwrap();
        session.tells("up", round + 1);
    }
    eventually("one who hears", || (hearing(&session) == 1).then_some(())).unwrap();
    session.types(CTRL_C);
    assert_eq!(session.container.wait_for(AT_ONCE), Ok(4));
    assert_eq!(session.times("pre_stop"), 1);
}

#[test]
fn the_drain_comes_after_ctrl_c_too_and_a_second_one_skips_it() {
    let mut session = Session::start(
        "trap 'echo ends >> DIR/story; exit 5' INT; echo up >> DIR/story; while :; do sleep 0.05; done",
        "[stop]\nwithin = \"60s\"\ndrain = \"50s\"",
    );
    session.types(CTRL_C);
    session.tells("ends", 1);
    session.shows("stop.started");
    assert_eq!((session.times("pre_stop"), session.container.ended()), (0, None));
    session.types(CTRL_C);
    assert_eq!(session.container.wait_for(AT_ONCE), Ok(5));
}

#[test]
fn what_main_left_in_its_group_keeps_no_later_ctrl_c_from_the_agent() {
    // A worker that outlives main by a while, in the terminal's foreground.
    let mut session = Session::start(
        "(trap '' INT TERM; sleep 0.7) & trap 'echo ends >> DIR/story; exit 5' INT; echo up >> DIR/story; wait; wait",
        "[stop]\nwithin = \"60s\"\ndrain = \"50s\"",
    );
    session.types(CTRL_C);
    session.tells("ends", 1);
    session.shows("stop.started");
    session.types(CTRL_C);
    assert_eq!(session.container.wait_for(AT_ONCE), Ok(5));
}

#[test]
fn a_hook_has_no_terminal_to_wait_at() {
    let session = Session::start(
        "echo up >> DIR/story; exec sleep 1000",
        "[[health]]\nname = \"asks\"\nexec = [\"sh\", \"-c\", \"read word < /dev/tty || echo none >> DIR/story\"]\n\
         interval = \"100ms\"\ntimeout = \"60s\"",
    );
    session.tells("none", 2);
}
