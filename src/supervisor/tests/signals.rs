use super::script::*;
use crate::config::{Background, Config, Hooks, OnFailure, RestartPolicy, Signal, SignalScope};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::{ExitStatus, Hope, Secrets, SpawnError};

fn always() -> Config {
    let mut always = config();
    always.process.restart.policy = RestartPolicy::Always;
    always
}

fn killed(by: Signal) -> ExitStatus {
    ExitStatus::Killed(by)
}

/// Main's group is sent this by its terminal.
fn terminal_sends(script: &mut Script, signal: Signal) {
    script.send(Event::FromTerminal { run: script.run("main"), signal });
}

#[test]
fn a_signal_that_does_not_stop_is_forwarded() {
    let mut script = Script::start(config());
    script.heard();
    for signal in ["USR1", "USR2", "WINCH", "QUIT", "HUP", "RTMIN+3"] {
        script.signal(signal.parse().unwrap());
    }
    script.expect(&[
        "SIGUSR1 to main",
        "SIGUSR2 to main",
        "SIGWINCH to main",
        "SIGQUIT to main",
        "SIGHUP to main",
        "SIGRTMIN+3 to main",
    ]);
}

#[test]
fn rewritten_signals_arrive_as_others_or_not_at_all() {
    let mut rewriting = config();
    rewriting.process.rewrite_signals.insert(Signal::HUP, Some(Signal::USR1));
    rewriting.process.rewrite_signals.insert(Signal::USR2, None);
    let mut script = Script::start(rewriting);
    script.heard();
    script.signal(Signal::HUP);
    script.signal(Signal::USR2);
    script.expect(&["SIGUSR1 to main"]);
}

#[test]
fn the_group_gets_signals_when_configured() {
    let mut group = config();
    group.process.signal_scope = SignalScope::Group;
    let mut script = Script::start(group);
    script.heard();
    script.signal(Signal::USR1);
    script.signal(Signal::TERM);
    script.expect(&["SIGUSR1 to main's group", "SIGTERM to main's group"]);
}

#[test]
fn a_main_that_ends_by_a_forwarded_signal_is_not_restarted() {
    let mut always = config();
    always.process.restart.policy = RestartPolicy::Always;
    let mut script = Script::start(always);
    script.signal(Signal::QUIT);
    script.until(500);
    script.ends("main", 0);
    script.expect(&["spawn main", "SIGQUIT to main", "exit 0"]);
}

#[test]
fn a_main_that_dies_long_after_a_forwarded_signal_is_restarted() {
    let mut always = config();
    always.process.restart.policy = RestartPolicy::Always;
    let mut script = Script::start(always);
    script.signal(Signal::USR1);
    script.until(60_000);
    script.ends("main", 0);
    script.heard();
    script.when("spawn main");
}

#[test]
fn a_signal_of_its_own_kills_main_and_shows_in_the_code() {
    let mut script = Script::start(config());
    script.ends_as("main", ExitStatus::Killed("SEGV".parse().unwrap()));
    script.expect(&["spawn main", "exit 139"]);
}

#[test]
fn hup_reloads_only_when_the_config_says_so() {
    let mut with = config();
    with.control.signals = true;
    let mut script = Script::start(with);
    script.heard();
    script.signal(Signal::HUP);
    script.expect(&["load config"]);
}

#[test]
fn three_hundred_hups_are_one_reload_at_a_time() {
    let mut with = config();
    with.control.signals = true;
    let mut script = Script::start(with.clone());
    script.heard();
    for _ in 0..300 {
        script.signal(Signal::HUP);
    }
    script.expect(&["load config"]);
    script.send(crate::supervisor::Event::ConfigLoaded(Ok(Box::new(with.into()))));
    script.signal(Signal::HUP);
    script.expect(&["load config"]);
}

#[test]
fn a_crash_after_a_signal_that_main_handles_is_a_crash() {
    for signal in [Signal::HUP, Signal::USR1, Signal::QUIT] {
        for status in [ExitStatus::Exited(9), killed("SEGV".parse().unwrap())] {
            let mut script = Script::start(always());
            script.signal(signal);
            script.until(2_000);
            script.heard();
            script.ends_as("main", status);
            script.when("spawn main");
        }
    }
}

#[test]
fn a_main_that_handles_hup_and_ends_well_is_started_again() {
    let mut script = Script::start(always());
    script.signal(Signal::HUP);
    script.heard();
    script.ends("main", 0);
    script.when("spawn main");
}

#[test]
fn a_signal_left_at_its_default_that_kills_main_is_a_requested_stop() {
    for signal in [Signal::HUP, Signal::USR1, Signal::QUIT] {
        let mut script = Script::start(always());
        script.catches = false;
        script.signal(signal);
        script.heard();
        script.ends_as("main", killed(signal));
        script.expect(&[&format!("exit {}", 128 + signal.number())]);
    }
}

#[test]
fn a_signal_left_at_its_default_explains_no_other_end() {
    let mut script = Script::start(always());
    script.catches = false;
    script.signal(Signal::HUP);
    script.heard();
    script.ends("main", 9);
    script.when("spawn main");
}

#[test]
fn who_obeys_a_signal_that_means_an_end_is_not_started_again() {
    let mut quit = always();
    quit.process.stop_on = Vec::new();
    let ends = [ExitStatus::Exited(0), ExitStatus::Exited(143), killed(Signal::TERM)];
    for status in ends {
        let mut script = Script::start(quit.clone());
        script.signal(Signal::TERM);
        script.until(1_000);
        script.signal(Signal::HUP);
        script.heard();
        script.ends_as("main", status);
        assert!(script.heard().last().unwrap().starts_with("exit"), "{status}");
    }
}

#[test]
fn nobody_asks_what_main_makes_of_a_signal_where_that_changes_nothing() {
    let mut core = crate::supervisor::Supervisor::new(config(), 1);
    let now = crate::supervisor::Time::default();
    core.handle(now, Event::Started);
    core.handle(now, Event::Spawned { run: crate::supervisor::vocabulary::RunId(1), pid: 100 });
    let effects = core.handle(now, Event::Signal(Signal::HUP));
    assert!(effects.iter().all(|effect| !matches!(effect, crate::supervisor::Effect::Forward { .. })), "{effects:?}");
}

#[test]
fn what_the_terminal_sends_main_stops_the_container_in_order() {
    let hooks = Hooks { pre_stop: Some(hook("drain")), post_stop: Some(hook("clean")), ..Hooks::default() };
    let stop = crate::config::Stop { drain: std::time::Duration::from_secs(3), ..config().stop };
    for (sent, status, code) in [
        (Signal::INT, killed(Signal::INT), 130),
        (Signal::QUIT, killed(Signal::QUIT), 131),
        (Signal::INT, ExitStatus::Exited(130), 130),
        (Signal::QUIT, ExitStatus::Exited(131), 131),
        // Who handles it ends as it likes.
        (Signal::INT, ExitStatus::Exited(0), 0),
        (Signal::INT, ExitStatus::Exited(1), 1),
        (Signal::QUIT, ExitStatus::Exited(3), 3),
        // What a handler passes on to itself.
        (Signal::INT, killed(Signal::TERM), 143),
        // The terminal is gone.
        (Signal::HUP, killed(Signal::HUP), 129),
        (Signal::HUP, ExitStatus::Exited(129), 129),
    ] {
        for policy in [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always] {
            let mut config =
                Config { hooks: hooks.clone(), stop: stop.clone(), services: vec![service("web")], ..config() };
            config.process.restart.policy = policy;
            let mut script = Script::start(config);
            script.published("web", Ok(()));
            terminal_sends(&mut script, sent);
            script.heard();
            script.ends_as("main", status);
            script.expect(&["publish web critical"]);
            script.published("web", Ok(()));
            script.expect(&["publish web draining"]);
            script.published("web", Ok(()));
            script.until(2_999);
            script.expect(&[]);
            script.until(3_000);
            script.expect(&["spawn pre_stop"]);
            script.ends("pre_stop", 0);
            script.expect(&["withdraw web"]);
            script.withdrawn("web");
            script.expect(&["spawn post_stop"]);
            script.ends("post_stop", 0);
            script.expect(&[&format!("exit {code}")]);
        }
    }
}

#[test]
fn a_crash_at_the_terminal_is_a_crash() {
    let segv = killed("SEGV".parse().unwrap());
    for (sent, status) in [
        (None, ExitStatus::Exited(1)),
        (None, ExitStatus::Exited(130)),
        (None, killed(Signal::INT)),
        // Nobody has pressed a key for these.
        (Some(Signal::INT), segv),
        (Some(Signal::INT), killed(Signal::KILL)),
        (Some(Signal::HUP), ExitStatus::Exited(1)),
    ] {
        let mut script = Script::start(always());
        if let Some(sent) = sent {
            terminal_sends(&mut script, sent);
        }
        script.heard();
        script.ends_as("main", status);
        script.when("spawn main");
    }
}

#[test]
fn a_main_that_goes_on_after_ctrl_c_runs_on_and_its_later_crash_is_a_crash() {
    let mut script = Script::start(always());
    script.heard();
    terminal_sends(&mut script, Signal::INT);
    script.until(10_001);
    script.expect(&[]);
    script.ends("main", 1);
    script.when("spawn main");
    // What was sent to the one before says nothing of this one.
    script.ends("main", 1);
    script.heard();
    script.when("spawn main");
}

#[test]
fn after_ctrl_c_main_has_the_time_to_end_that_a_stop_gives_it() {
    let mut longer = always();
    longer.process.stop_timeout = Some(std::time::Duration::from_secs(2));
    for (after, restarted) in [(2_000, false), (2_001, true)] {
        let mut script = Script::start(longer.clone());
        terminal_sends(&mut script, Signal::INT);
        script.until(after);
        script.heard();
        script.ends("main", 1);
        assert_eq!(script.heard().last().map(String::as_str), (!restarted).then_some("exit 1"), "{after}");
    }
}

#[test]
fn how_long_what_main_left_takes_does_not_make_a_requested_stop_a_crash() {
    for from_terminal in [true, false] {
        let mut config = always();
        config.process.stop_on = vec![Signal::TERM];
        let mut script = Script::start(config);
        match from_terminal {
            true => terminal_sends(&mut script, Signal::INT),
            false => script.signal(Signal::INT),
        }
        script.until(9_000);
        let run = script.run("main");
        script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
        script.send(Event::Strays { left: 1 });
        script.until(15_000);
        script.heard();
        script.send(Event::Strays { left: 0 });
        script.expect(&["exit 0"]);
    }
}

#[test]
fn a_second_ctrl_c_skips_the_drain_and_the_pre_stop_of_the_first() {
    let hooks = Hooks { pre_stop: Some(hook("drain")), ..Hooks::default() };
    let stop = crate::config::Stop { drain: std::time::Duration::from_secs(3), ..config().stop };
    let mut script = Script::start(Config { hooks: hooks.clone(), stop, ..always() });
    terminal_sends(&mut script, Signal::INT);
    script.heard();
    script.ends_as("main", killed(Signal::INT));
    script.expect(&[]);
    script.signal(Signal::INT);
    script.expect(&["exit 130"]);

    let mut script = Script::start(Config { hooks, ..always() });
    terminal_sends(&mut script, Signal::INT);
    script.heard();
    script.ends_as("main", killed(Signal::INT));
    script.signal(Signal::INT);
    script.expect(&["spawn pre_stop", "SIGTERM to all of pre_stop"]);
    script.ends_as("pre_stop", killed(Signal::TERM));
    script.expect(&["exit 130"]);
}

#[test]
fn ctrl_c_while_a_check_has_main_restarted_ends_the_container() {
    let mut script = Script::start(Config { health: vec![check("ping", OnFailure::Restart)], ..always() });
    script.answer("probe", Ok(()));
    script.heard();
    script.when("probe");
    script.answer("probe", Err("down"));
    script.expect(&["SIGTERM to main"]);
    terminal_sends(&mut script, Signal::INT);
    script.ends_as("main", killed(Signal::TERM));
    script.expect(&["exit 143"]);
}

#[test]
fn a_main_that_went_on_after_ctrl_c_is_restarted_where_a_check_wants_it() {
    let mut script = Script::start(Config { health: vec![check("ping", OnFailure::Restart)], ..always() });
    script.answer("probe", Ok(()));
    terminal_sends(&mut script, Signal::INT);
    script.heard();
    script.when("probe");
    script.answer("probe", Err("down"));
    script.expect(&["SIGTERM to main"]);
    script.ends_as("main", killed(Signal::TERM));
    script.when("spawn main");
}

/// A main that is restarted, and whose container stops by QUIT alone, as an image's STOPSIGNAL has it.
fn stopped_by_quit() -> Config {
    let mut config = always();
    config.process.stop_on = vec![Signal::QUIT];
    config
}

fn reading_files(mut config: Config) -> Config {
    config.process.env_from_files = [("SECRET".to_owned(), "/run/secret".into())].into();
    config
}

#[test]
fn what_comes_for_main_while_it_starts_reaches_it_once_when_it_runs_unless_it_would_end_it() {
    let signal = |name: &str| name.parse().unwrap();
    let mut config = reading_files(always());
    config.process.rewrite_signals.insert(signal("WINCH"), None);
    config.process.rewrite_signals.insert(signal("TTOU"), Some(signal("URG")));
    let mut script = Script::start(config);
    script.starts_slowly = true;
    script.expect(&["read files"]);
    // A log rotation's: main opens its logs anew anyway, and has no handler yet.
    for sent in [Signal::USR1, signal("TTOU"), signal("WINCH"), signal("TTOU")] {
        script.signal(sent);
    }
    script.expect(&[]);
    script.reads(Ok(Secrets::default()));
    script.signal(Signal::HUP);
    script.expect(&["spawn main"]);
    script.main_starts();
    script.expect(&["SIGURG to main"]);
    // The next main has nothing to do with it.
    script.ends("main", 1);
    script.when("read files");
    script.reads(Ok(Secrets::default()));
    script.heard();
    script.main_starts();
    script.expect(&[]);
}

#[test]
fn who_wants_an_end_while_mains_files_are_read_has_it_at_once() {
    let mut script = Script::start(reading_files(stopped_by_quit()));
    script.signal(Signal::TERM);
    script.expect(&["read files", "exit 143"]);
}

#[test]
fn who_wants_an_end_while_main_starts_has_it_when_it_runs_or_does_not() {
    let starting = || {
        let mut script = Script::start(stopped_by_quit());
        script.starts_slowly = true;
        script.heard();
        script.ends("main", 1);
        script.when("spawn main");
        script.heard();
        script.signal(Signal::TERM);
        script.expect(&[]);
        script
    };
    let mut script = starting();
    script.main_starts();
    script.expect(&["SIGTERM to main"]);
    script.ends_as("main", killed(Signal::TERM));
    script.expect(&["exit 143"]);
    let mut script = starting();
    let error = SpawnError { code: 126, message: "no process".to_owned(), hope: Hope::Soon };
    script.send(Event::SpawnFailed { run: script.run("main"), error });
    script.expect(&["exit 126"]);
}

#[test]
fn who_wants_an_end_while_main_ends_to_run_again_does_not_want_another_one() {
    // What a main that crashed left is counted, then ended.
    for counted in [false, true] {
        let mut script = Script::start(stopped_by_quit());
        let run = script.run("main");
        script.send(Event::Exited { run, status: ExitStatus::Exited(1) });
        if counted {
            script.send(Event::Strays { left: 1 });
        }
        script.heard();
        script.signal(Signal::TERM);
        script.expect(if counted { &["SIGTERM to strays"] } else { &[] });
        script.send(Event::Strays { left: 0 });
        script.expect(&["exit 1"]);
    }
    // A check has had it stopped.
    let mut script = Script::start(Config { health: vec![check("ping", OnFailure::Restart)], ..stopped_by_quit() });
    script.answer("probe", Ok(()));
    script.when("probe");
    script.answer("probe", Err("down"));
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to main"]);
    script.ends_as("main", killed(Signal::TERM));
    script.expect(&["exit 143"]);
}

#[test]
fn what_comes_between_a_launchers_end_and_its_daemon_reaches_the_daemon() {
    let mut config = always();
    config.process.background = Background::Follow;
    let mut script = Script::start(config);
    let run = script.run("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.heard();
    script.signal(Signal::HUP);
    script.expect(&[]);
    script.followable = Some(101);
    script.send(Event::Strays { left: 1 });
    script.expect(&["follow a stray", "SIGHUP to main"]);
}
