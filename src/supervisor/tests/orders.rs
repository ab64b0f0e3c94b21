//! What people order of a running container.

use std::time::Duration;

use super::script::*;
use crate::config::{Backend, Config, OnFailure, Query, RestartPolicy, Signal};
use crate::supervisor::vocabulary::*;
use crate::supervisor::{Event, Notice};

impl Script {
    fn restart(&mut self) {
        self.send(Event::Control { reply: ReplyId(1), request: Request::Restart { name: None } });
    }

    fn orders_signal(&mut self, signal: Signal) {
        self.send(Event::Control { reply: ReplyId(1), request: Request::Signal { signal, name: None } });
    }

    pub fn orders_key(&mut self, fenced: bool) {
        let change = KeyChange::Put(Value(b"value".as_slice().into()));
        let request = KeyRequest { key: "k".to_owned(), operation: KeyOperation::Change(change) };
        self.send(Event::Control { reply: ReplyId(1), request: Request::Key { request, fenced } });
    }

    fn awaits(&mut self, reply: u64, key: &str) {
        let (query, within) = (Query::Key { key: key.to_owned() }, Duration::from_secs(20));
        self.send(Event::Control { reply: ReplyId(reply), request: Request::Await { query, within } });
    }

    fn sees_key(&mut self, reply: u64, seen: Result<Option<&str>, &str>) {
        let seen = seen.map(|value| Observation::Key(value.map(str::to_owned))).map_err(str::to_owned);
        self.send(Event::Observed { follow: Follow::Await(ReplyId(reply)), seen });
    }
}

#[test]
fn a_restart_stops_main_and_starts_it_again_at_once_whatever_its_policy() {
    let mut script = Script::start(config());
    script.heard();
    script.restart();
    script.expect(&["SIGTERM to main"]);
    script.restart();
    script.expect(&["reply ok"]);
    script.ends("main", 143);
    script.expect(&["spawn main", "reply ok"]);
    assert_eq!((script.now(), script.core.status().main.restarts), (0, 1));
    // It was that once.
    script.ends("main", 1);
    script.expect(&["exit 1"]);
}

#[test]
fn a_main_that_ignores_a_restart_is_killed_and_what_it_left_goes_first() {
    let mut script = Script::start(config());
    script.heard();
    script.restart();
    script.expect(&["SIGTERM to main"]);
    assert_eq!(script.when("SIGKILL to main"), 10_000);
    script.heard();
    script.send(Event::Exited { run: script.run_of("main"), status: ExitStatus::Killed(Signal::KILL) });
    script.send(Event::Strays { left: 1 });
    script.expect(&["SIGTERM to strays"]);
    script.send(Event::Strays { left: 0 });
    script.expect(&["spawn main", "reply ok"]);
}

#[test]
fn a_restart_takes_nothing_from_the_budget_and_ends_its_pause() {
    let mut limited = config();
    limited.process.restart.policy = RestartPolicy::Always;
    limited.process.restart.max = 1;
    let mut script = Script::start(limited);
    for _ in 0..3 {
        script.restart();
        script.ends("main", 0);
    }
    script.heard();
    script.ends("main", 1);
    script.expect(&[]);
    script.restart();
    script.expect(&["spawn main", "reply ok"]);
    script.ends("main", 1);
    script.expect(&["exit 1"]);
}

#[test]
fn nothing_is_restarted_that_does_not_run_or_stops() {
    let mut script = Script::start(Config {
        hooks: crate::config::Hooks { pre_start: vec![pre_start(0)], ..Default::default() },
        ..config()
    });
    script.heard();
    script.restart();
    script.expect(&["reply error"]);
    script.ends("pre_start", 0);
    script.heard();
    script.restart();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to main", "reply error", "SIGTERM to main"]);
    script.restart();
    script.expect(&["reply error"]);
    script.ends("main", 0);
    script.expect(&["exit 0"]);
}

#[test]
fn no_other_process_is_restarted_or_signalled_in_mains_place() {
    let mut script = Script::start(config());
    script.heard();
    let name = || Some("other".to_owned());
    script.send(Event::Control { reply: ReplyId(1), request: Request::Restart { name: name() } });
    script.send(Event::Control { reply: ReplyId(1), request: Request::Signal { signal: Signal::HUP, name: name() } });
    script.expect(&["reply error", "reply error"]);
    script.send(Event::Control { reply: ReplyId(1), request: Request::Restart { name: Some("main".to_owned()) } });
    script.expect(&["SIGTERM to main"]);
}

#[test]
fn a_check_that_restarts_main_too_adds_nothing_to_an_order() {
    let mut script = Script::start(Config {
        health: vec![check("ping", OnFailure::Restart)],
        services: vec![service("web")],
        ..config()
    });
    script.until(1_000);
    script.answer("probe", Err("down"));
    script.heard();
    script.restart();
    script.expect(&[]);
    script.ends("main", 143);
    let heard = script.heard();
    assert!(heard.contains(&"spawn main".to_owned()) && heard.contains(&"reply ok".to_owned()), "{heard:?}");
}

#[test]
fn a_signal_by_hand_reaches_main_as_it_is() {
    let mut rewriting = config();
    rewriting.process.rewrite_signals.insert(Signal::HUP, Some(Signal::USR1));
    rewriting.process.restart.policy = RestartPolicy::Always;
    let mut script = Script::start(rewriting);
    script.heard();
    script.orders_signal(Signal::HUP);
    script.expect(&["SIGHUP to main"]);
    let sent = |notice: &Notice| matches!(notice, Notice::SignalForwarded { sent: Signal::HUP, .. });
    assert!(script.said.iter().any(sent));
    // One of those that start the container's stop, too: it is main's.
    script.orders_signal(Signal::TERM);
    script.expect(&["SIGTERM to main"]);
    script.ends_as("main", ExitStatus::Killed(Signal::TERM));
    script.expect(&["exit 143"]);
}

#[test]
fn without_a_main_there_is_nobody_to_signal() {
    let mut waiting = config();
    waiting.process.restart.policy = RestartPolicy::Always;
    let mut script = Script::start(waiting);
    script.ends("main", 1);
    script.heard();
    script.orders_signal(Signal::HUP);
    script.expect(&["reply error"]);
}

#[test]
fn who_waits_for_a_key_is_answered_as_soon_as_it_is_there() {
    let mut script = Script::start(config());
    script.heard();
    script.awaits(1, "k");
    script.awaits(2, "other");
    script.expect(&["follow Await(ReplyId(1))", "follow Await(ReplyId(2))"]);
    script.sees_key(1, Ok(None));
    script.sees_key(1, Err("no server"));
    script.expect(&[]);
    script.sees_key(1, Ok(Some("")));
    script.expect(&["unfollow Await(ReplyId(1))", "reply ok"]);
    script.sees_key(1, Ok(Some("again")));
    script.expect(&[]);
    assert_eq!(script.when("unfollow Await(ReplyId(2))"), 20_000);
    script.expect(&["reply not yet"]);
}

#[test]
fn waiting_ends_with_the_container_and_needs_a_catalog() {
    let mut script = Script::start(config());
    script.awaits(1, "k");
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["unfollow Await(ReplyId(1))", "reply error", "SIGTERM to main"]);
    script.awaits(2, "k");
    script.expect(&["reply error"]);

    let mut without = config();
    without.catalog.backend = Backend::None;
    let mut script = Script::start(without);
    script.heard();
    script.awaits(1, "k");
    script.expect(&["reply error"]);
}

#[test]
fn so_many_wait_at_once_and_no_more() {
    let mut script = Script::start(config());
    for reply in 0..16 {
        script.awaits(reply, "k");
    }
    script.heard();
    script.awaits(16, "k");
    script.expect(&["reply error"]);
    script.sees_key(3, Ok(Some("")));
    script.heard();
    script.awaits(17, "k");
    script.expect(&["follow Await(ReplyId(17))"]);
}

#[test]
fn a_key_is_read_and_written_without_an_election_but_never_fenced() {
    let mut script = Script::start(config());
    script.heard();
    script.orders_key(false);
    script.orders_key(true);
    script.expect(&["key", "reply error"]);
}

#[test]
fn a_coprocess_is_neither_restarted_nor_signalled_by_hand_and_that_is_said() {
    let coprocesses = vec![super::coprocess::coprocess("agent")];
    let mut script = Script::start(Config { coprocesses, ..config() });
    script.heard();
    let name = Some("agent".to_owned());
    for request in [Request::Restart { name: name.clone() }, Request::Signal { signal: Signal::HUP, name }] {
        let effects = script.core.handle(Time::default(), Event::Control { reply: ReplyId(1), request });
        let said = "`agent` is a coprocess: by hand only `main` is restarted and signalled".to_owned();
        let refused = Effect::Reply { reply: ReplyId(1), answer: Answer::Refused(said) };
        assert!(effects.contains(&refused), "{effects:?}");
    }
}
