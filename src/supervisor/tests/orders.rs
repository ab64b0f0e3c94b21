//! What people order of a running container.

use std::time::Duration;

use super::coprocess::coprocess;
use super::script::*;
use crate::config::coprocess::{Ready, StopPoint};
use crate::config::{
    Backend, Background, Config, Coprocess, OnFailure, Probe, Query, Restart, RestartPolicy, Service, ServiceOf,
    Signal, SignalScope,
};
use crate::supervisor::vocabulary::*;
use crate::supervisor::{Event, Notice};

impl Script {
    fn restart(&mut self) {
        self.send(Event::Control { reply: ReplyId(1), request: Request::Restart { name: None } });
    }

    pub fn restart_of(&mut self, name: &str) {
        let name = Some(name.to_owned());
        self.send(Event::Control { reply: ReplyId(1), request: Request::Restart { name } });
    }

    fn signals_of(&mut self, name: &str, signal: Signal) {
        let name = Some(name.to_owned());
        self.send(Event::Control { reply: ReplyId(1), request: Request::Signal { signal, name } });
    }

    fn orders_signal(&mut self, signal: Signal) {
        self.send(Event::Control { reply: ReplyId(1), request: Request::Signal { signal, name: None } });
    }

    pub fn orders_key(&mut self, fenced: bool) {
        let change = KeyChange::Put(Value(b"value".as_slice().into()));
        self.orders("k", KeyOperation::Change(change), fenced);
    }

    pub fn orders(&mut self, key: &str, operation: KeyOperation, fenced: bool) {
        let request = KeyRequest { key: key.to_owned(), operation };
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
    // Whoever wants the same is answered when it is so.
    script.restart();
    script.expect(&[]);
    script.ends("main", 143);
    script.expect(&["spawn main", "reply ok", "reply ok"]);
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

/// A config with this service, and a second for those who watch to look elsewhere.
fn draining(service: Service) -> Config {
    let mut config = Config { services: vec![service], ..config() };
    config.stop.drain = Duration::from_secs(1);
    config
}

#[test]
fn a_main_restarted_by_hand_leaves_the_rotation_first_and_is_told_once_others_know() {
    let mut script = Script::start(draining(service("web")));
    script.published("web", Ok(()));
    script.heard();
    assert!(script.core.status().ready());
    script.restart();
    script.expect(&["publish web draining"]);
    script.published("web", Ok(()));
    assert!(!script.core.status().ready() && script.core.status().main.stopping);
    assert_eq!(script.when("SIGTERM to main"), 1_000);
    script.until(5_000);
    script.expect(&[]);
    script.ends("main", 0);
    script.expect(&["publish web critical", "spawn main", "reply ok"]);
    script.published("web", Ok(()));
    script.expect(&["publish web passing"]);
    assert!(script.core.status().ready());
}

#[test]
fn a_restart_by_hand_drains_nobody_who_is_sent_nothing() {
    let mut script =
        Script::start(Config { health: vec![check("ping", OnFailure::Report)], ..draining(service("web")) });
    script.answer("probe", Err("down"));
    script.heard();
    script.restart();
    assert!(script.heard().contains(&"SIGTERM to main".to_owned()));

    let mut script = Script::start(draining(service("web")));
    script.send(Event::Control { reply: ReplyId(2), request: Request::BeginMaintenance { lasts: None, reason: None } });
    script.heard();
    script.restart();
    assert!(script.heard().contains(&"SIGTERM to main".to_owned()));
}

#[test]
fn a_stop_that_comes_while_a_restart_drains_drains_as_any_stop() {
    let mut script = Script::start(draining(service("web")));
    script.published("web", Ok(()));
    script.restart();
    script.until(500);
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["reply error"]);
    assert_eq!(script.when("SIGTERM to main"), 1_500);
}

#[test]
fn a_coprocess_restarted_by_hand_leaves_the_rotation_first_and_is_told_once_others_know() {
    let own = Service { of: ServiceOf::Coprocess("agent".to_owned()), ..service("agent") };
    let mut script =
        Script::start(Config { coprocesses: vec![coprocess("agent"), coprocess("other")], ..draining(own) });
    script.published("agent", Ok(()));
    script.heard();
    // One that nobody is sent to isn't held up.
    script.restart_of("other");
    script.expect(&["SIGTERM to coprocess other"]);
    script.restart_of("agent");
    script.expect(&["publish agent draining"]);
    script.published("agent", Ok(()));
    assert_eq!(script.when("SIGTERM to coprocess agent"), 1_000);
    script.until(5_000);
    script.expect(&[]);
    script.ends("coprocess agent", 0);
    script.expect(&["publish agent critical", "spawn coprocess agent", "reply ok"]);
    script.published("agent", Ok(()));
    script.expect(&["publish agent passing"]);
}

#[test]
fn nothing_of_a_main_that_ends_for_its_health_stays_in_the_rotation() {
    let mut script = Script::start(Config {
        health: vec![check("ping", OnFailure::Restart)],
        services: vec![service("web"), service("admin")],
        ..config()
    });
    for service in ["web", "admin"] {
        script.published(service, Ok(()));
    }
    script.answer("probe", Ok(()));
    script.published("web", Ok(()));
    script.heard();
    script.when("probe");
    script.answer("probe", Err("down"));
    script.expect(&["publish web critical", "SIGTERM to main", "publish admin critical"]);
    assert_eq!(script.notes["admin"], "check ping is critical: down");
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
    let sent = |notice: &Notice| matches!(notice, Notice::MainSignalled { signal: Signal::HUP });
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
    script.expect(&["reply not yet"]);
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
    script.expect(&["key", "reply unmet"]);
}

/// A config with these beside main.
fn crew(coprocesses: Vec<Coprocess>) -> Config {
    Config { coprocesses, ..config() }
}

fn hooked() -> Coprocess {
    Coprocess { pre_start: Some(hook("prepare")), post_stop: Some(hook("clean")), ..coprocess("agent") }
}

#[test]
fn a_coprocess_restarted_by_hand_ends_as_for_good_and_starts_as_at_first() {
    let mut script = Script::start(crew(vec![hooked(), coprocess("other")]));
    script.ends("pre_start of agent", 0);
    script.heard();
    script.restart_of("agent");
    script.expect(&["SIGTERM to coprocess agent"]);
    script.restart_of("agent");
    script.expect(&[]);
    script.ends("coprocess agent", 0);
    script.expect(&["spawn post_stop of agent"]);
    script.ends("post_stop of agent", 0);
    script.expect(&["spawn pre_start of agent"]);
    script.ends("pre_start of agent", 0);
    script.expect(&["spawn coprocess agent", "reply ok", "reply ok"]);
    assert_eq!(script.now(), 0);
    assert!(script.said.iter().any(|said| matches!(said, Notice::CoprocessRestartOrdered { .. })));
}

#[test]
fn a_coprocess_that_ignores_a_restart_is_killed_in_its_own_time_and_what_it_left_goes_first() {
    let own = Some(Duration::from_secs(3));
    let quits = Coprocess { stop_signal: Signal::QUIT, stop_timeout: own, ..coprocess("agent") };
    let mut script = Script::start(crew(vec![quits]));
    script.heard();
    script.restart_of("agent");
    script.expect(&["SIGQUIT to coprocess agent"]);
    assert_eq!(script.when("SIGKILL to all of coprocess agent"), 3_000);
    script.heard();
    script.ends_leaving("coprocess agent", ExitStatus::Killed(Signal::KILL));
    script.expect(&[]);
    script.group_ends("coprocess agent");
    script.expect(&["spawn coprocess agent", "reply ok"]);
}

#[test]
fn a_restart_by_hand_takes_nothing_from_a_coprocesss_budget_and_ends_its_pause() {
    let once = Restart { policy: RestartPolicy::Always, max: 1, ..Restart::default() };
    let mut script = Script::start(crew(vec![Coprocess { restart: once, ..coprocess("agent") }]));
    for _ in 0..3 {
        script.restart_of("agent");
        script.ends("coprocess agent", 0);
    }
    script.heard();
    script.ends("coprocess agent", 1);
    script.expect(&[]);
    script.restart_of("agent");
    script.expect(&["spawn coprocess agent", "reply ok"]);
    script.ends("coprocess agent", 1);
    let state = |script: &Script| script.core.status().coprocesses[0].state.clone();
    assert_eq!(state(&script), "given up");
    // What has ended for good begins anew, with all of its budget.
    script.restart_of("agent");
    script.expect(&["spawn coprocess agent", "reply ok"]);
    script.ends("coprocess agent", 1);
    assert_eq!(state(&script), "about to start again");
}

#[test]
fn a_restart_cuts_a_coprocesss_pre_start_short_that_hangs() {
    let mut script = Script::start(crew(vec![hooked()]));
    script.expect(&["spawn main", "spawn pre_start of agent"]);
    script.restart_of("agent");
    script.restart_of("agent");
    script.expect(&["SIGTERM to all of pre_start of agent"]);
    assert_eq!(script.when("SIGKILL to all of pre_start of agent"), 2_000);
    script.ends_as("pre_start of agent", ExitStatus::Killed(Signal::KILL));
    script.ends("post_stop of agent", 0);
    script.ends("pre_start of agent", 0);
    let heard = script.heard();
    assert_eq!(heard.last_chunk(), Some(&["spawn coprocess agent", "reply ok", "reply ok"].map(str::to_owned)));
}

#[test]
fn a_restart_is_refused_when_its_pre_start_fails_or_its_program_is_gone() {
    let mut script = Script::start(crew(vec![Coprocess { post_stop: None, ..hooked() }]));
    script.ends("pre_start of agent", 0);
    script.restart_of("agent");
    script.ends("coprocess agent", 0);
    script.heard();
    script.ends("pre_start of agent", 1);
    script.expect(&["reply error"]);
    // It is tried again as its policy says, for nobody.
    script.when("spawn pre_start of agent");
    script.ends("pre_start of agent", 0);
    script.expect(&["spawn coprocess agent"]);

    let mut script = Script::start(crew(vec![coprocess("agent")]));
    script.coprocess_fails =
        vec![SpawnError { code: 127, message: "`agent` isn't found".to_owned(), hope: Hope::None }];
    script.heard();
    script.restart_of("agent");
    script.ends("coprocess agent", 0);
    script.expect(&["SIGTERM to coprocess agent", "spawn coprocess agent", "reply error"]);
}

#[test]
fn a_coprocess_that_cannot_be_ended_is_not_started_beside_itself_by_hand() {
    let mut script = Script::start(crew(vec![coprocess("agent")]));
    script.heard();
    script.restart_of("agent");
    script.until(60_000);
    let heard = script.heard();
    assert_eq!(heard.last().unwrap(), "reply error");
    assert!(!heard.contains(&"spawn coprocess agent".to_owned()), "{heard:?}");
    // Not when it is asked for once more either, nor by a reload that takes it away and brings it back.
    script.restart_of("agent");
    script.expect(&["reply error"]);
    for config in [config(), crew(vec![coprocess("agent")])] {
        script.send(Event::Control { reply: ReplyId(2), request: Request::Reload });
        script.send(Event::ConfigLoaded(Ok(Box::new(config.into()))));
    }
    assert!(!script.heard().contains(&"spawn coprocess agent".to_owned()));
    // At last the kernel lets it go.
    script.ends_as("coprocess agent", ExitStatus::Killed(Signal::KILL));
    assert!(script.heard().contains(&"spawn coprocess agent".to_owned()));
}

#[test]
fn a_stop_during_a_restart_by_hand_starts_nothing_more() {
    // While it ends, while its post_stop runs, and while it is prepared.
    for ended in 0..3 {
        let mut script = Script::start(crew(vec![hooked()]));
        script.ends("pre_start of agent", 0);
        script.restart_of("agent");
        if ended > 0 {
            script.ends("coprocess agent", 0);
        }
        if ended > 1 {
            script.ends("post_stop of agent", 0);
        }
        script.heard();
        script.signal(Signal::TERM);
        assert_eq!(script.heard()[0], "reply error", "{ended}");
        script.restart_of("agent");
        script.ends("main", 0);
        script.until(20_000);
        let heard = script.heard();
        assert!(!heard.contains(&"spawn coprocess agent".to_owned()), "{ended}: {heard:?}");
        assert!(heard.iter().any(|heard| heard == "exit 0"), "{ended}: {heard:?}");
    }
}

/// What was on its way out before holds a stop no longer than what is told then.
#[test]
fn a_coprocess_that_was_being_restarted_leaves_main_its_time_to_stop() {
    let front = Coprocess { stop: StopPoint::BeforeMain, ..hooked() };
    for ended in [false, true] {
        let mut script = Script::start(crew(vec![front.clone()]));
        script.ends("pre_start of agent", 0);
        script.restart_of("agent");
        if ended {
            script.ends("coprocess agent", 0);
        }
        script.until(100);
        script.heard();
        script.signal(Signal::TERM);
        // The kernel ends at once what is killed.
        let (what, killed) = match ended {
            false => ("coprocess agent", "SIGKILL to all of coprocess agent"),
            true => ("post_stop of agent", "SIGTERM to all of post_stop of agent"),
        };
        let at = script.when(killed);
        assert!(at <= 6_100, "{what} at {at}");
        script.ends_as(what, ExitStatus::Killed(Signal::KILL));
        if !ended {
            script.when("SIGTERM to all of post_stop of agent");
            script.ends_as("post_stop of agent", ExitStatus::Killed(Signal::TERM));
        }
        script.until(9_000);
        let heard = script.heard();
        assert!(heard.contains(&"SIGTERM to main".to_owned()), "{what}: {heard:?}");
    }
}

#[test]
fn a_coprocess_is_not_restarted_by_hand_where_it_could_not_start_again() {
    let ready = Some(Ready { probe: Probe::Notify, timeout: Duration::from_secs(60) });
    let first = Coprocess { ready, ..coprocess("first") };
    let second = Coprocess { after: vec!["first".to_owned()], ..coprocess("second") };
    let mut script = Script::start(crew(vec![first, second]));
    script.heard();
    script.restart_of("second");
    script.expect(&["reply error"]);
    let ready = Notification { ready: true, ..Notification::default() };
    let says_ready = |script: &mut Script| {
        script.send(Event::CoprocessNotified { name: "first".to_owned(), said: ready.clone() });
    };
    says_ready(&mut script);
    script.expect(&["spawn coprocess second"]);
    script.restart_of("second");
    // It is gone when the other isn't ready: nobody waits for that at the command line.
    script.ends("coprocess first", 1);
    script.ends("coprocess second", 0);
    script.expect(&["SIGTERM to coprocess second", "reply ok"]);
    script.when("spawn coprocess first");
    says_ready(&mut script);
    script.expect(&["spawn coprocess second"]);
}

#[test]
fn a_reload_that_takes_a_coprocess_away_answers_who_waits_for_its_restart() {
    let mut script = Script::start(crew(vec![coprocess("agent")]));
    script.restart_of("agent");
    script.heard();
    script.send(Event::Control { reply: ReplyId(2), request: Request::Reload });
    script.send(Event::ConfigLoaded(Ok(Box::new(config().into()))));
    script.heard();
    script.ends("coprocess agent", 0);
    script.expect(&["reply ok"]);
    script.restart_of("agent");
    script.expect(&["reply error"]);
}

#[test]
fn a_signal_by_hand_reaches_a_coprocess_and_what_comes_of_that_is_its_own_end() {
    let group = Coprocess { signal_scope: SignalScope::Group, ..coprocess("agent") };
    let mut script = Script::start(crew(vec![group]));
    script.heard();
    script.signals_of("agent", Signal::HUP);
    script.expect(&["SIGHUP to coprocess agent's group"]);
    script.signals_of("agent", Signal::TERM);
    script.ends_as("coprocess agent", ExitStatus::Killed(Signal::TERM));
    script.expect(&["SIGTERM to coprocess agent's group"]);
    script.signals_of("agent", Signal::HUP);
    script.expect(&["reply error"]);
    script.when("spawn coprocess agent");
    // Main's end by a forwarded signal is a requested stop; this was none of main's.
    script.ends_as("main", ExitStatus::Killed(Signal::TERM));
    assert!(script.heard().contains(&"SIGTERM to coprocess agent's group".to_owned()));
}

#[test]
fn a_coprocess_that_was_followed_gets_a_signal_as_any_other() {
    let daemon = Coprocess { background: Background::Follow, ..coprocess("daemon") };
    let mut script = Script::start(crew(vec![daemon]));
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.heard();
    script.signals_of("daemon", Signal::HUP);
    script.expect(&["SIGHUP to coprocess daemon"]);
    script.restart_of("daemon");
    script.expect(&["SIGTERM to coprocess daemon"]);
    script.ends("coprocess daemon", 0);
    script.expect(&["spawn coprocess daemon", "reply ok"]);
}
