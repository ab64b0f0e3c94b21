//! Coprocesses beside main, as scripts. Those of an election are in [`role`](super::role).

use std::time::Duration;

use super::script::*;
use crate::config::coprocess::{OnGivingUp, OutputMode, Ready, StartPoint, StopPoint};
use crate::config::{
    Background, Config, Coprocess, Health, Hook, Hooks, OnFailure, Probe, Restart, RestartPolicy, RunAs, Service,
    ServiceOf, Signal, SignalScope, When,
};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::*;

pub fn coprocess(name: &str) -> Coprocess {
    Coprocess {
        name: name.to_owned(),
        exec: exec(name),
        run_as: RunAs::default(),
        directory: None,
        limits: Default::default(),
        start: StartPoint::WithMain,
        after: Vec::new(),
        when: When::Always,
        ready: None,
        pre_start: None,
        post_stop: None,
        restart: Restart { policy: RestartPolicy::Always, ..Restart::default() },
        background: Background::Kill,
        on_giving_up: OnGivingUp::Ignore,
        stop: StopPoint::AfterMain,
        stop_signal: Signal::TERM,
        stop_timeout: None,
        signal_scope: SignalScope::Process,
        output: OutputMode::Log,
    }
}

/// One that is ready when its port answers.
fn agent() -> Coprocess {
    let probe = Probe::Tcp { address: "127.0.0.1:8500".to_owned() };
    let ready = Some(Ready { probe, timeout: Duration::from_secs(30) });
    Coprocess { start: StartPoint::BeforeCatalog, ready, ..coprocess("agent") }
}

const SEGV: i32 = 11;

fn with(coprocesses: Vec<Coprocess>) -> Config {
    Config { coprocesses, ..config() }
}

fn status(script: &Script, name: &str) -> CoprocessStatus {
    let all = script.core.status().coprocesses;
    all.into_iter().find(|status| status.name == name).unwrap_or_else(|| panic!("there is no {name}"))
}

#[test]
fn one_starts_with_main_and_stops_after_it() {
    let mut script = Script::start(with(vec![coprocess("exporter")]));
    script.expect(&["spawn main", "spawn coprocess exporter"]);
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to main"]);
    script.ends_as("main", ExitStatus::Killed(Signal::TERM));
    script.expect(&["SIGTERM to coprocess exporter"]);
    script.ends_as("coprocess exporter", ExitStatus::Killed(Signal::TERM));
    script.expect(&["exit 143"]);
}

#[test]
fn main_waits_until_what_comes_before_the_catalog_is_ready_and_no_longer() {
    let mut script =
        Script::start(Config { services: vec![service("web")], watches: vec![watch("app")], ..with(vec![agent()]) });
    script.expect(&["spawn coprocess agent", "probe"]);
    script.answer("probe", Err("refused"));
    script.until(99);
    script.expect(&[]);
    script.until(100);
    script.expect(&["probe"]);
    script.answer("probe", Ok(()));
    script.expect(&["follow Watch(\"app\")", "spawn main", "publish web passing"]);
    script.until(60_000);
    script.expect(&[]);
}

#[test]
fn one_that_takes_long_to_be_ready_is_asked_more_and_more_rarely() {
    let mut script = Script::start(with(vec![agent()]));
    let mut asked = vec![0];
    while script.now() < 25_000 {
        script.answer("probe", Err("refused"));
        script.heard();
        asked.push(script.when("probe"));
    }
    assert!(asked.windows(2).all(|two| two[1] - two[0] <= 2_000), "{asked:?}");
    assert!(asked.iter().filter(|at| **at <= 1_000).count() == 11 && asked.len() < 60, "{asked:?}");
}

#[test]
fn one_that_main_waits_for_and_that_is_never_ready_ends_the_container_with_69_and_its_deadline() {
    let mut script = Script::start(with(vec![agent()]));
    for second in 0..30 {
        script.answer("probe", Err("refused"));
        script.until(second * 1_000 + 999);
    }
    script.heard();
    script.until(30_000);
    assert_eq!(script.heard()[0], "SIGTERM to coprocess agent");
    script.ends_as("coprocess agent", ExitStatus::Killed(Signal::TERM));
    script.expect(&["exit 69"]);
    let reason = script.said.iter().map(ToString::to_string).find(|said| said.starts_with("stopping")).unwrap();
    assert!(reason.contains("agent wasn't ready within 30s: refused"), "{reason}");
}

#[test]
fn one_that_nobody_waits_for_is_only_told_of_when_it_is_never_ready() {
    let late = Coprocess { start: StartPoint::WithMain, ..agent() };
    let mut script = Script::start(with(vec![late.clone()]));
    script.until(31_000);
    assert!(!script.heard().iter().any(|heard| heard.starts_with("exit")));
    let late_ones = |script: &Script| {
        script.said.iter().filter(|said| matches!(said, crate::supervisor::Notice::CoprocessNotReady { .. })).count()
    };
    assert_eq!(late_ones(&script), 1);
    // It may still become that.
    script.answer("probe", Ok(()));
    assert!(status(&script, "agent").ready);

    let mut script = Script::start(with(vec![Coprocess { on_giving_up: OnGivingUp::Exit, ..late }]));
    script.until(31_000);
    assert!(script.heard().contains(&"SIGTERM to main".to_owned()));
}

#[test]
fn one_comes_after_another_that_is_ready() {
    let first = Coprocess { start: StartPoint::WithMain, ..agent() };
    let second = Coprocess { after: vec!["agent".to_owned()], ..coprocess("second") };
    let mut script = Script::start(with(vec![second, first]));
    script.expect(&["spawn main", "spawn coprocess agent", "probe"]);
    script.answer("probe", Ok(()));
    script.expect(&["spawn coprocess second"]);
    // In reverse order of start.
    script.signal(Signal::TERM);
    script.ends("main", 0);
    script.expect(&["SIGTERM to main", "SIGTERM to coprocess second"]);
    script.ends("coprocess second", 0);
    script.expect(&["SIGTERM to coprocess agent"]);
    script.ends("coprocess agent", 0);
    script.expect(&["exit 0"]);
}

#[test]
fn one_comes_once_main_is_healthy() {
    let after = Coprocess { start: StartPoint::AfterMain, ..coprocess("exporter") };
    let mut script = Script::start(Config {
        health: vec![check("ping", OnFailure::Report)],
        services: vec![service("web")],
        ..with(vec![after])
    });
    script.heard();
    script.answer("probe", Ok(()));
    script.expect(&["spawn coprocess exporter"]);
    // It stays though main is unhealthy for a while.
    script.until(5_000);
    script.answer("probe", Err("500"));
    assert!(status(&script, "exporter").pid.is_some());
}

#[test]
fn one_that_crashes_starts_again_after_a_pause_and_is_given_up_beyond_its_budget() {
    let mut script = Script::start(with(vec![coprocess("exporter")]));
    script.heard();
    for _ in 0..5 {
        script.ends("coprocess exporter", 3);
        script.expect(&[]);
        let next = script.core.next_deadline().unwrap().from_boot().as_millis() as u64;
        script.until(next + 1);
        script.expect(&["spawn coprocess exporter"]);
    }
    script.ends("coprocess exporter", 3);
    script.until(600_000);
    script.expect(&[]);
    let status = status(&script, "exporter");
    assert_eq!((status.state.as_str(), status.restarts), ("given up", 5));
    assert_eq!(status.error.as_deref(), Some("coprocess exporter exited with code 3, after 5 restarts within 1m"));
}

#[test]
fn one_given_up_may_end_the_container_with_its_code() {
    let once = Restart { policy: RestartPolicy::Never, ..Restart::default() };
    let vital = Coprocess { restart: once, on_giving_up: OnGivingUp::Exit, ..coprocess("proxy") };
    let mut script = Script::start(with(vec![vital]));
    script.heard();
    script.ends("coprocess proxy", 7);
    script.expect(&["SIGTERM to main"]);
    script.ends("main", 0);
    script.expect(&["exit 7"]);
}

#[test]
fn one_that_cannot_be_started_is_no_longer_waited_for() {
    let error = SpawnError { code: 127, message: "`agent` isn't found".to_owned(), hope: Hope::None };
    let never = Coprocess { start: StartPoint::BeforeCatalog, ..coprocess("agent") };
    let mut config = with(vec![never]);
    config.coprocesses[0].pre_start = Some(hook("prepare"));
    let mut script = Script::start(config);
    script.coprocess_fails = vec![error];
    script.expect(&["spawn pre_start of agent"]);
    script.ends("pre_start of agent", 0);
    script.expect(&["spawn coprocess agent", "exit 69"]);
}

#[test]
fn a_hook_before_the_first_start_and_one_after_the_last_end() {
    let hooked = Coprocess { pre_start: Some(hook("prepare")), post_stop: Some(hook("clean")), ..coprocess("agent") };
    let mut script = Script::start(with(vec![hooked]));
    script.expect(&["spawn main", "spawn pre_start of agent"]);
    // A failure counts as an end.
    script.ends("pre_start of agent", 1);
    assert!(script.when("spawn pre_start of agent") > 0);
    script.ends("pre_start of agent", 0);
    script.expect(&["spawn coprocess agent"]);
    script.ends("coprocess agent", 1);
    script.when("spawn coprocess agent");
    script.signal(Signal::TERM);
    script.ends("main", 0);
    script.expect(&["SIGTERM to main", "SIGTERM to coprocess agent"]);
    script.ends("coprocess agent", 0);
    script.expect(&["spawn post_stop of agent"]);
    script.ends("post_stop of agent", 0);
    script.expect(&["exit 0"]);
}

#[test]
fn one_that_ignores_its_stop_is_killed_in_time_and_leaves_the_next_its_part() {
    let first = coprocess("first");
    let second = Coprocess { after: vec!["first".to_owned()], ..coprocess("second") };
    let mut script = Script::start(with(vec![first, second]));
    script.heard();
    script.signal(Signal::TERM);
    script.ends("main", 0);
    script.heard();
    assert_eq!(script.when("SIGKILL to all of coprocess second"), 4_850);
    script.ends_as("coprocess second", ExitStatus::Killed(Signal::KILL));
    script.expect(&["SIGTERM to coprocess first"]);
    assert_eq!(script.when("SIGKILL to all of coprocess first"), 9_700);
    script.until(9_999);
    assert_eq!(script.when("exit 0"), 10_000);
}

#[test]
fn a_main_that_ignores_its_stop_leaves_time_to_those_after_it() {
    let mut script = Script::start(with(vec![coprocess("agent")]));
    script.heard();
    script.signal(Signal::TERM);
    script.heard();
    let killed = script.when("SIGKILL to main");
    assert!((5_600..5_700).contains(&killed), "{killed}");
    script.ends_as("main", ExitStatus::Killed(Signal::KILL));
    assert_eq!(script.heard().last().unwrap(), "SIGTERM to coprocess agent");
    script.ends("coprocess agent", 0);
    script.expect(&["exit 137"]);
}

#[test]
fn one_may_stop_before_main_is_told() {
    let front = Coprocess { stop: StopPoint::BeforeMain, ..coprocess("proxy") };
    let mut script = Script::start(with(vec![front, coprocess("exporter")]));
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to coprocess proxy"]);
    script.ends("coprocess proxy", 0);
    script.expect(&["SIGTERM to main"]);
    script.ends("main", 0);
    script.expect(&["SIGTERM to coprocess exporter"]);
    script.ends("coprocess exporter", 0);
    script.expect(&["exit 0"]);
}

#[test]
fn a_second_stop_signal_waits_for_none_of_them_and_a_third_kills() {
    let front = Coprocess { stop: StopPoint::BeforeMain, ..coprocess("proxy") };
    let mut script = Script::start(with(vec![front]));
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to coprocess proxy"]);
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to main"]);
    script.signal(Signal::TERM);
    assert!(script.heard().contains(&"SIGKILL to main".to_owned()));
}

#[test]
fn the_catalog_is_left_before_what_came_before_it_stops() {
    let mut script = Script::start(Config { services: vec![service("web")], ..with(vec![agent()]) });
    script.answer("probe", Ok(()));
    script.published("web", Ok(()));
    script.heard();
    script.signal(Signal::TERM);
    script.published("web", Ok(()));
    script.ends("main", 0);
    script.expect(&["publish web draining", "SIGTERM to main", "withdraw web"]);
    script.withdrawn("web");
    script.expect(&["SIGTERM to coprocess agent"]);
    script.ends("coprocess agent", 0);
    script.expect(&["exit 0"]);
}

#[test]
fn sigterm_while_main_waits_for_one_stops_it_and_the_container() {
    let mut script = Script::start(with(vec![agent()]));
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to coprocess agent"]);
    script.ends("coprocess agent", 0);
    script.expect(&["exit 143"]);
}

#[test]
fn what_one_leaves_is_ended_before_it_starts_again() {
    let mut script = Script::start(with(vec![coprocess("agent")]));
    script.heard();
    script.ends_leaving("coprocess agent", ExitStatus::Exited(1));
    script.until(100);
    script.expect(&["SIGTERM to all of coprocess agent"]);
    script.until(2_000);
    script.expect(&[]);
    script.group_ends("coprocess agent");
    script.when("spawn coprocess agent");
}

#[test]
fn one_that_daemonises_is_followed_where_it_is_to_be() {
    let daemon = Coprocess { background: Background::Follow, ..coprocess("daemon") };
    let mut script = Script::start(with(vec![daemon]));
    script.heard();
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.expect(&["follow a stray"]);
    script.until(60_000);
    script.expect(&[]);
    assert_eq!((status(&script, "daemon").state.as_str(), status(&script, "daemon").pid), ("running", Some(101)));
    // Its end is the coprocess's, and what it leaves is ended.
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.until(60_100);
    script.expect(&["SIGTERM to all of coprocess daemon"]);
    script.group_ends("coprocess daemon");
    script.when("spawn coprocess daemon");
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.signal(Signal::TERM);
    script.ends("main", 0);
    script.expect(&["follow a stray", "SIGTERM to main", "SIGTERM to coprocess daemon"]);
    script.ends("coprocess daemon", 0);
    script.expect(&["exit 0"]);
}

/// One that waits to be ready, and a reload after which something else says so, or nothing.
fn waiting(before: Probe, ready: Option<Probe>) -> Script {
    let ready_of = |probe| Ready { probe, timeout: Duration::from_secs(30) };
    let one = |probe: Option<Probe>| Coprocess { ready: probe.map(ready_of), ..coprocess("agent") };
    let mut script = Script::start(with(vec![one(Some(before))]));
    script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
    script.send(Event::ConfigLoaded(Ok(Box::new(with(vec![one(ready)]).into()))));
    script.until(1_000);
    script
}

#[test]
fn a_reload_decides_what_one_that_isnt_ready_waits_for() {
    let tcp = || Probe::Tcp { address: "127.0.0.1:8500".to_owned() };
    assert!(status(&waiting(tcp(), None), "agent").ready);
    assert!(status(&waiting(Probe::Notify, None), "agent").ready);
    let mut script = waiting(tcp(), Some(Probe::Notify));
    assert!(!status(&script, "agent").ready);
    let said = Notification { ready: true, ..Notification::default() };
    script.send(Event::CoprocessNotified { name: "agent".to_owned(), said });
    assert!(status(&script, "agent").ready);
    let mut script = waiting(Probe::Notify, Some(tcp()));
    script.answer("probe", Ok(()));
    assert!(status(&script, "agent").ready);
}

fn followed(on_giving_up: OnGivingUp) -> Script {
    let restart = Restart { policy: RestartPolicy::Never, ..coprocess("daemon").restart };
    let daemon = Coprocess { background: Background::Follow, restart, on_giving_up, ..coprocess("daemon") };
    let mut script = Script::start(with(vec![daemon]));
    script.heard();
    script
}

fn says_ready(script: &mut Script, name: &str) {
    let said = Notification { ready: true, ..Notification::default() };
    script.send(Event::CoprocessNotified { name: name.to_owned(), said });
}

#[test]
fn a_followed_daemon_is_ready_in_each_life_only_if_that_was_said_in_it() {
    let ready = Some(Ready { probe: Probe::Notify, timeout: Duration::from_secs(5) });
    let of = Some("daemon".to_owned());
    let said = Health { of, probe: Probe::Notify, services: Vec::new(), ..check("said", OnFailure::Report) };
    let daemon = Coprocess { background: Background::Follow, ready, ..coprocess("daemon") };
    let mut script = Script::start(Config { health: vec![said], ..with(vec![daemon]) });
    script.heard();
    // By the launcher, while it runs.
    says_ready(&mut script, "daemon");
    assert!(script.core.status().health[0].passing);
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    assert!(status(&script, "daemon").ready && script.core.status().health[0].passing);
    // By nobody.
    script.until(60_000);
    script.ends("coprocess daemon", 1);
    script.when("spawn coprocess daemon");
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.until(70_000);
    assert!(!status(&script, "daemon").ready && !script.core.status().health[0].passing);
    says_ready(&mut script, "daemon");
    assert!(status(&script, "daemon").ready && script.core.status().health[0].passing);
    // By the daemon, once its launcher has ended and before it is followed.
    script.ends("coprocess daemon", 1);
    script.when("spawn coprocess daemon");
    let run = script.run("coprocess daemon");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    says_ready(&mut script, "daemon");
    script.send(Event::RunLeft { run, any: true });
    assert!(status(&script, "daemon").ready && script.core.status().health[0].passing);
}

#[test]
fn a_reload_by_which_one_says_itself_when_it_is_ready_knows_that_it_has_said_so() {
    let with_ready = |probe| {
        let ready = Some(Ready { probe, timeout: Duration::from_secs(5) });
        with(vec![Coprocess { ready, ..coprocess("daemon") }])
    };
    let mut script = Script::start(with_ready(Probe::Tcp { address: "127.0.0.1:1".to_owned() }));
    says_ready(&mut script, "daemon");
    assert!(!status(&script, "daemon").ready, "it is asked");
    script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
    script.send(Event::ConfigLoaded(Ok(Box::new(with_ready(Probe::Notify).into()))));
    assert!(status(&script, "daemon").ready);
}

#[test]
fn the_entry_of_one_stays_as_it_is_while_what_its_launcher_left_is_looked_for() {
    let ready =
        Some(Ready { probe: Probe::Tcp { address: "127.0.0.1:1".to_owned() }, timeout: Duration::from_secs(5) });
    for ready in [None, ready] {
        let daemon = Coprocess { background: Background::Follow, ready: ready.clone(), ..coprocess("daemon") };
        let service = Service { of: ServiceOf::Coprocess("daemon".to_owned()), ..service("side") };
        let mut script = Script::start(Config { services: vec![service], ..with(vec![daemon]) });
        if ready.is_some() {
            script.answer("probe", Ok(()));
        }
        script.published("side", Ok(()));
        if ready.is_some() {
            script.published("side", Ok(()));
        }
        script.heard();
        script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
        script.until(30_000);
        script.expect(&["follow a stray"]);
        // What was followed has ended, and left nothing.
        script.ends("coprocess daemon", 0);
        script.expect(&["publish side critical"]);
    }
}

#[test]
fn the_code_of_a_followed_daemon_is_its_coprocesss() {
    let mut script = followed(OnGivingUp::Exit);
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.until(60_000);
    script.ends_as("coprocess daemon", ExitStatus::Killed(Signal::new(SEGV).unwrap()));
    script.ends("main", 0);
    script.expect(&["follow a stray", "SIGTERM to main", "exit 139"]);
}

#[test]
fn a_daemon_that_ends_before_it_can_be_followed_stands_for_its_coprocess() {
    let mut script = followed(OnGivingUp::Exit);
    script.followable = None;
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.ends("coprocess daemon", 3);
    script.ends("main", 0);
    script.expect(&["follow a stray", "SIGTERM to main", "exit 3"]);
}

#[test]
fn a_launcher_in_two_steps_is_followed_to_its_daemon() {
    let mut script = followed(OnGivingUp::Ignore);
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.until(900);
    script.followable = Some(102);
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.expect(&["follow a stray", "follow a stray"]);
    assert_eq!(status(&script, "daemon").pid, Some(102));
    // What ends later has daemonised already.
    script.until(2_000);
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.until(2_100);
    script.expect(&["SIGTERM to all of coprocess daemon"]);
}

#[test]
fn what_a_launcher_left_is_ended_if_nobody_of_it_is_seen_within_a_second() {
    let mut script = followed(OnGivingUp::Ignore);
    script.followable = None;
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.expect(&["follow a stray"]);
    script.until(script.now() + 900);
    script.expect(&[]);
    script.until(script.now() + 100);
    script.expect(&["SIGTERM to all of coprocess daemon"]);
    assert!(script.said.iter().any(|notice| notice.to_string().contains("can't be followed")), "{:?}", script.said);
    // Who reaped what it left tells of the last of that.
    let run = script.run("coprocess daemon");
    script.send(Event::Exited { run, status: ExitStatus::Killed(Signal::TERM) });
    script.group_ends("coprocess daemon");
    let status = status(&script, "daemon");
    assert_eq!((status.state.as_str(), status.last_exit), ("ended", Some(ExitStatus::Exited(0))));
}

fn names(script: &mut Script, pid: Pid) {
    let said = Notification { main_pid: Some((pid, 7)), ..Notification::default() };
    script.send(Event::CoprocessNotified { name: "daemon".to_owned(), said });
}

#[test]
fn who_a_coprocess_names_in_its_place_is_followed_however_often_and_however_it_ends() {
    let mut script = followed(OnGivingUp::Ignore);
    names(&mut script, 101);
    script.expect(&[]);
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    assert_eq!(script.sought, Some((Some((101, 7)), false)), "of what a launcher leaves another will do");
    script.expect(&["follow a stray"]);
    for (pid, status) in [(102, ExitStatus::Exited(0)), (103, ExitStatus::Exited(1))] {
        script.until(script.now() + 60_000);
        // It isn't the keeper's child yet.
        script.followable = None;
        names(&mut script, pid);
        script.followable = Some(pid);
        script.ends_leaving("coprocess daemon", status);
        script.expect(&["follow a stray", "follow a stray"]);
        assert_eq!((script.sought, status_of(&script)), (Some((Some((pid, 7)), true)), Some(pid)));
    }
    // It is the keeper's child already, as its launcher's.
    script.followable = Some(104);
    names(&mut script, 104);
    assert_eq!(status_of(&script), Some(104));
    script.until(script.now() + 60_000);
    names(&mut script, 104);
    script.expect(&["follow a stray"]);
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.until(script.now() + 100);
    script.expect(&["SIGTERM to all of coprocess daemon"]);
}

/// The process id that is known of the only coprocess.
fn status_of(script: &Script) -> Option<Pid> {
    status(script, "daemon").pid
}

#[test]
fn nobody_stands_in_for_who_a_coprocess_named_and_is_not_there() {
    let mut script = followed(OnGivingUp::Ignore);
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.until(60_000);
    script.followable = None;
    names(&mut script, 102);
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    let run = script.run("coprocess daemon");
    script.send(Event::Followed { run, pid: None });
    script.expect(&["follow a stray", "follow a stray", "follow a stray", "SIGTERM to all of coprocess daemon"]);
    assert!(script.said.iter().any(|said| said.to_string().contains("who it named isn't there")));
}

#[test]
fn one_that_is_not_to_be_followed_names_nobody() {
    let mut script = Script::start(with(vec![coprocess("daemon")]));
    names(&mut script, 102);
    script.heard();
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    script.until(200);
    script.expect(&["SIGTERM to all of coprocess daemon"]);
}

#[test]
fn where_no_daemon_can_be_found_what_its_launcher_left_is_ended() {
    let mut script = followed(OnGivingUp::Ignore);
    script.followable = None;
    script.ends_leaving("coprocess daemon", ExitStatus::Exited(0));
    let run = script.run("coprocess daemon");
    script.send(Event::Followed { run, pid: None });
    script.expect(&["follow a stray", "SIGTERM to all of coprocess daemon"]);
    let told = |said: &Notice| said.to_string().contains("/proc doesn't show it");
    assert!(script.said.iter().any(told), "{:?}", script.said);
    script.group_ends("coprocess daemon");
    assert_eq!(status(&script, "daemon").state, "ended");
}

#[test]
fn a_check_restarts_what_it_checks_and_its_service_says_how_that_is() {
    let of = Some("proxy".to_owned());
    let mut script = Script::start(Config {
        services: vec![service("web"), Service { of: of.clone().into(), ..service("edge") }],
        health: vec![Health { of, services: vec!["edge".to_owned()], ..check("ping", OnFailure::Restart) }],
        ..with(vec![coprocess("proxy")])
    });
    assert_eq!(
        script.heard(),
        ["spawn main", "spawn coprocess proxy", "publish edge critical", "probe", "publish web passing"]
    );
    script.published("edge", Ok(()));
    script.published("web", Ok(()));
    script.answer("probe", Ok(()));
    script.expect(&["publish edge passing"]);
    script.published("edge", Ok(()));
    script.until(5_000);
    script.answer("probe", Err("500"));
    script.expect(&["probe", "publish edge critical", "SIGTERM to coprocess proxy"]);
    script.published("edge", Ok(()));
    script.ends_as("coprocess proxy", ExitStatus::Killed(Signal::TERM));
    assert_eq!(script.notes["edge"], "proxy doesn't run");
    script.when("spawn coprocess proxy");
    assert!(script.core.status().main.pid.is_some());
}

#[test]
fn the_readiness_of_the_container_counts_checks_of_coprocesses() {
    let of = Some("proxy".to_owned());
    let mut script = Script::start(Config {
        health: vec![Health { of, services: Vec::new(), ..check("ping", OnFailure::Report) }],
        ..with(vec![coprocess("proxy")])
    });
    assert!(!script.core.status().ready());
    script.answer("probe", Ok(()));
    assert!(script.core.status().ready());
}

#[test]
fn one_says_itself_that_it_is_ready() {
    let ready = Some(Ready { probe: Probe::Notify, timeout: Duration::from_secs(5) });
    let mut script = Script::start(with(vec![Coprocess { ready, ..agent() }]));
    script.expect(&["spawn coprocess agent"]);
    let said = Notification { ready: true, ..Notification::default() };
    script.send(Event::CoprocessNotified { name: "agent".to_owned(), said });
    script.expect(&["spawn main"]);
}

#[test]
fn a_reload_starts_what_is_new_stops_what_is_gone_and_leaves_the_rest() {
    let mut script = Script::start(with(vec![coprocess("kept"), coprocess("gone")]));
    script.heard();
    script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
    let changed = Coprocess { exec: exec("other"), ..coprocess("kept") };
    script.send(Event::ConfigLoaded(Ok(Box::new(with(vec![changed, coprocess("new")]).into()))));
    let mut heard = script.heard();
    heard.sort();
    assert_eq!(heard, ["SIGTERM to coprocess gone", "load config", "reply ok", "spawn coprocess new"]);
    let said = script.said.iter().map(ToString::to_string).find(|said| said.starts_with("config")).unwrap();
    assert!(said.contains("coprocess kept"), "{said}");
    script.ends("coprocess gone", 0);
    let names: Vec<String> = script.core.status().coprocesses.into_iter().map(|status| status.name).collect();
    assert_eq!(names, ["kept", "new"]);
}

#[test]
fn one_that_was_given_up_starts_again_with_what_a_reload_has_changed_of_it() {
    let never = Restart { policy: RestartPolicy::Never, ..Restart::default() };
    let broken = Coprocess { restart: never.clone(), post_stop: Some(hook("tidy")), ..coprocess("agent") };
    let reload = |script: &mut Script, with_it: Coprocess| {
        script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
        script.send(Event::ConfigLoaded(Ok(Box::new(with(vec![with_it]).into()))));
        let heard = script.heard();
        heard.into_iter().filter(|heard| heard.starts_with("spawn")).collect::<Vec<_>>()
    };
    let mut script = Script::start(with(vec![broken.clone()]));
    script.heard();
    script.ends("coprocess agent", 1);
    script.ends("post_stop of agent", 0);
    assert_eq!(status(&script, "agent").state, "given up");
    script.heard();
    assert!(reload(&mut script, broken.clone()).is_empty(), "it is as it was");
    assert_eq!(reload(&mut script, Coprocess { exec: exec("mended"), ..broken.clone() }), ["spawn coprocess agent"]);
    assert!(!script.said.iter().any(|said| said.to_string().contains("next start: coprocess agent")));

    // The same while its post_stop runs, which comes first.
    script.ends("coprocess agent", 1);
    script.heard();
    assert!(reload(&mut script, broken.clone()).is_empty());
    script.ends("post_stop of agent", 0);
    script.expect(&["spawn coprocess agent"]);

    // One that has done what was wanted of it is done, unless it is wanted for ever now.
    script.ends("coprocess agent", 0);
    script.ends("post_stop of agent", 0);
    script.heard();
    assert!(reload(&mut script, Coprocess { exec: exec("mended"), ..broken.clone() }).is_empty());
    assert_eq!(status(&script, "agent").state, "ended");
    assert_eq!(reload(&mut script, coprocess("agent")), ["spawn coprocess agent"]);
}

#[test]
fn a_main_that_is_gone_for_good_takes_them_along_and_its_code_stays() {
    let mut script = Script::start(Config {
        hooks: Hooks { post_stop: Some(hook("cleanup")), ..Hooks::default() },
        ..with(vec![coprocess("agent")])
    });
    script.heard();
    script.ends("main", 4);
    script.expect(&["spawn post_stop"]);
    script.ends("post_stop", 0);
    script.expect(&["SIGTERM to coprocess agent"]);
    script.ends("coprocess agent", 0);
    script.expect(&["exit 4"]);
}

#[test]
fn what_a_coprocess_says_by_sd_notify_is_no_word_of_mains() {
    let of = Some("agent".to_owned());
    let check = Health { of, probe: Probe::Notify, services: Vec::new(), ..check("said", OnFailure::Report) };
    let script = Script::start(Config { health: vec![check], ..with(vec![coprocess("agent")]) });
    assert!(!script.env["main"].contains_key("WATCHDOG_USEC"));
}

/// `[stop] within` is 10 s there: main is told in time, whatever clears up, or dies slowly, before it.
fn main_is_told_in_time_after(script: &mut Script) {
    let begun = script.now();
    script.heard();
    script.signal(Signal::TERM);
    let told = script.when("SIGTERM to main") - begun;
    assert!(told < 7_500, "told after {told} ms");
}

#[test]
fn a_post_stop_that_runs_already_does_not_hold_mains_stop() {
    let slow = Hook { timeout: Duration::from_secs(60), ..hook("clean") };
    let once = Restart { policy: RestartPolicy::Never, ..Restart::default() };
    let front = Coprocess { stop: StopPoint::BeforeMain, post_stop: Some(slow), restart: once, ..coprocess("proxy") };
    let mut script = Script::start(with(vec![front]));
    script.ends("coprocess proxy", 1);
    assert_eq!(script.heard().last().unwrap(), "spawn post_stop of proxy");
    main_is_told_in_time_after(&mut script);
}

#[test]
fn one_that_is_ending_as_the_stop_begins_does_not_hold_mains_stop() {
    let front = Coprocess { stop: StopPoint::BeforeMain, ..coprocess("proxy") };
    let check = Health { of: Some("proxy".to_owned()), ..check("answers", OnFailure::Restart) };
    let mut script = Script::start(Config { health: vec![check], ..with(vec![front]) });
    while !script.heard().contains(&"SIGTERM to coprocess proxy".to_owned()) {
        script.answer("probe", Err("refused"));
        script.until(script.now() + 5_000);
    }
    main_is_told_in_time_after(&mut script);
}

#[test]
fn what_clears_up_late_leaves_the_others_their_time_to_stop() {
    let slow = Hook { timeout: Duration::from_secs(60), ..hook("clean") };
    let once = Restart { policy: RestartPolicy::Never, ..Restart::default() };
    let after = Coprocess { after: vec!["agent".to_owned()], post_stop: Some(slow), restart: once, ..coprocess("log") };
    let mut script = Script::start(with(vec![coprocess("agent"), after]));
    script.ends("coprocess log", 1);
    script.heard();
    script.signal(Signal::TERM);
    script.ends("main", 0);
    let told = script.when("SIGTERM to coprocess agent");
    assert!(told < 6_000, "told after {told} ms");
}

#[test]
fn a_deaf_pre_stop_coprocess_and_post_stop_leave_main_a_third_of_the_time() {
    let slow = Hook { timeout: Duration::from_secs(60), ..hook("clean") };
    let front = Coprocess { stop: StopPoint::BeforeMain, post_stop: Some(slow.clone()), ..coprocess("proxy") };
    let hooks = Hooks { pre_stop: Some(slow), ..Hooks::default() };
    let mut script = Script::start(Config { hooks, ..with(vec![front]) });
    script.heard();
    script.signal(Signal::TERM);
    let killed = script.when("SIGKILL to all of pre_stop");
    script.ends_as("pre_stop", ExitStatus::Killed(Signal::KILL));
    let next = script.when("SIGKILL to all of coprocess proxy");
    script.ends_as("coprocess proxy", ExitStatus::Killed(Signal::KILL));
    let last = script.when("SIGKILL to all of post_stop of proxy");
    script.ends_as("post_stop of proxy", ExitStatus::Killed(Signal::KILL));
    let told = script.now();
    assert!(script.heard().contains(&"SIGTERM to main".to_owned()));
    let main_killed = script.when("SIGKILL to main");
    assert!(main_killed - told >= 2_900, "{killed} {next} {last}; told at {told}, killed at {main_killed}");
    assert!(next - killed >= 700 && last - next >= 700, "each has a part: {killed} {next} {last}");
}

#[test]
fn a_deaf_one_that_stops_after_main_leaves_its_own_post_stop_its_time() {
    let slow = Hook { timeout: Duration::from_secs(60), ..hook("clean") };
    let mut script = Script::start(with(vec![Coprocess { post_stop: Some(slow), ..coprocess("agent") }]));
    script.heard();
    script.signal(Signal::TERM);
    script.ends("main", 0);
    let killed = script.when("SIGKILL to all of coprocess agent");
    script.ends_as("coprocess agent", ExitStatus::Killed(Signal::KILL));
    let told = script.when("SIGTERM to all of post_stop of agent");
    assert!(told - killed >= 3_000, "{killed} {told}");
}

#[test]
fn the_entry_of_one_that_says_when_it_is_ready_is_not_passing_before() {
    let services = vec![Service { of: Some("agent".to_owned()).into(), ..service("edge") }];
    let late = Coprocess { start: StartPoint::WithMain, ..agent() };
    let mut script = Script::start(Config { services, ..with(vec![late]) });
    assert!(!script.heard().iter().any(|heard| heard.starts_with("publish")));
    script.answer("probe", Ok(()));
    script.expect(&["publish edge passing"]);
    script.published("edge", Ok(()));
    script.ends("coprocess agent", 1);
    script.expect(&["publish edge critical"]);
    script.published("edge", Ok(()));
    script.when("probe");
    script.heard();
    assert_eq!(script.core.status().services[0].status, "critical");
    // In other words.
    script.published("edge", Ok(()));
    script.answer("probe", Ok(()));
    script.when("publish edge passing");
}
