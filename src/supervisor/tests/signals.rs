use super::script::*;
use crate::config::{RestartPolicy, Signal, SignalScope};
use crate::supervisor::event::ExitStatus;

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
    script.send(crate::supervisor::Event::ConfigLoaded(Ok(Box::new(with))));
    script.signal(Signal::HUP);
    script.expect(&["load config"]);
}
