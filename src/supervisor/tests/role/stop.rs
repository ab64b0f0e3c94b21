//! The end of a candidate's container.

use super::*;

/// What is left once nothing acts: the lock, the service, the container, in this order.
#[track_caller]
fn releases_and_ends(script: &mut Script) {
    script.tells(&["guard off", "release"]);
    script.released();
    script.tells(&["close", "withdraw web"]);
    script.withdrawn("web");
    script.tells(&["exit 0"]);
}

#[test]
fn hooks_of_the_stop_go_by_the_role_it_began_in() {
    let of = |name: &str, when: When| Some(Hook { when, ..hook(name) });
    let hooks = |when| Hooks { pre_stop: of("pre", when), post_stop: of("post", when), ..Hooks::default() };
    let mut leader = Script::leading(Config { hooks: hooks(When::Leader), ..candidate() });
    leader.signal(Signal::TERM);
    leader.tells(&["spawn pre_stop"]);
    leader.ends("pre_stop", 0);
    leader.tells(&["SIGTERM to main"]);
    leader.ends("main", 0);
    leader.tells(&["guard off", "release"]);
    leader.released();
    leader.tells(&["close", "spawn post_stop"]);

    let mut replica = Script::candidate(Config { hooks: hooks(When::Leader), ..candidate() });
    replica.sees_lock(held("other", 9, 3));
    replica.told();
    replica.signal(Signal::TERM);
    replica.tells(&["SIGTERM to main"]);
    replica.ends("main", 0);
    replica.tells(&["exit 0"]);
}

#[test]
fn a_stop_while_the_role_is_left_runs_no_hook_of_the_leaders_before_main() {
    let pre_stop = Some(Hook { when: When::Leader, ..hook("pre") });
    let hooks = Hooks { pre_stop, ..hooks() };
    let mut script = Script::leading(Config { hooks, ..candidate() });
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.signal(Signal::TERM);
    script.ends("on_demote", 0);
    assert!(!script.told().contains(&"spawn pre_stop".to_owned()));
}

#[test]
fn a_main_that_ended_as_leader_ends_the_container_after_the_leaders_post_stop() {
    let post_stop = Some(Hook { when: When::Leader, ..hook("post") });
    let mut script = Script::leading(Config { hooks: Hooks { post_stop, ..Hooks::default() }, ..candidate() });
    script.ends("main", 0);
    script.released();
    script.tells(&["guard off", "release", "close", "spawn post_stop"]);
    script.ends("post_stop", 0);
    script.tells(&["exit 0"]);
}

#[test]
fn a_graceful_stop_demotes_stops_main_and_then_releases() {
    let hooks = Hooks { pre_stop: Some(hook("drain")), ..hooks() };
    let services = vec![service("web")];
    let mut script = Script::leading(Config { hooks, services, ..candidate() });
    script.published("web", Ok(()));
    script.signal(Signal::TERM);
    script.tells(&["publish web draining", "spawn pre_stop"]);
    script.ends("pre_stop", 0);
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    // Out of the role, the lock is free for the next while main still ends.
    script.tells(&["guard off", "release", "SIGTERM to main"]);
    script.released();
    script.ends("main", 0);
    script.published("web", Ok(()));
    assert_eq!(script.told(), ["close", "withdraw web"]);
}

#[test]
fn a_stop_whose_on_demote_fails_releases_only_when_main_is_gone() {
    let services = vec![service("web")];
    let mut script = Script::leading(Config { hooks: hooks(), services, ..candidate() });
    script.published("web", Ok(()));
    script.signal(Signal::TERM);
    script.ends("on_demote", 1);
    script.tells(&["publish web draining", "spawn on_demote", "SIGTERM to main"]);
    script.published("web", Ok(()));
    script.ends("main", 0);
    releases_and_ends(&mut script);
}

#[test]
fn an_engine_that_does_not_answer_holds_a_leaders_end_for_half_a_second() {
    let mut script = Script::leading(candidate());
    script.signal(Signal::TERM);
    script.ends("main", 0);
    script.told();
    assert_eq!(script.when("exit 0"), 500);
}

#[test]
fn a_second_signal_waits_for_no_on_demote() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    script.signal(Signal::TERM);
    script.signal(Signal::TERM);
    script.tells(&["spawn on_demote", "SIGTERM to all of on_demote", "SIGTERM to main"]);
}

#[test]
fn a_container_that_stops_comes_to_lead_no_more() {
    let mut script = Script::candidate(candidate());
    script.sees_lock(held("other", 9, 3));
    script.told();
    script.signal(Signal::TERM);
    script.sees_lock(View { at: 9, ..free() });
    script.until(3_000);
    script.tells(&["SIGTERM to main"]);
    script.ends("main", 0);
    script.tells(&["exit 0"]);
}

#[test]
fn a_main_that_sigkill_does_not_end_keeps_the_lock_until_the_container_ends() {
    let mut script = Script::leading(candidate());
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    let mut told = Vec::new();
    while !told.iter().any(|order: &String| order.starts_with("exit")) {
        let now = script.core.next_deadline().expect("it goes on");
        script.until(now.from_boot().as_millis() as u64 + 1);
        told.extend(script.told());
        if let Some(ask) = script.try_asked("renew") {
            script.event(ElectionEvent::Renewed { ask, result: Renewal::Alive(held("me", 7, 7)) });
        }
    }
    assert!(!told.contains(&"release".to_owned()), "{told:?}");
}

#[test]
fn a_main_that_on_demote_stops_ends_the_container_only_after_on_demote_and_the_release() {
    let config = Config { hooks: hooks(), services: vec![service("web")], ..candidate() };
    let mut script = Script::leading(config);
    script.published("web", Ok(()));
    script.told();
    step_down(&mut script);
    script.until(1_000);
    script.ends("main", 0);
    script.published("web", Ok(()));
    script.published("web", Ok(()));
    script.until(3_000);
    script.tells(&["reply ok", "spawn on_demote", "publish web critical", "publish web draining"]);
    script.ends("on_demote", 0);
    releases_and_ends(&mut script);
}

#[test]
fn an_on_demote_that_hangs_when_main_is_gone_leaves_the_time_to_release() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    step_down(&mut script);
    script.ends("main", 0);
    script.told();
    // Two thirds of what there is before main would be killed, as in any stop.
    assert_eq!(script.when("SIGTERM to all of on_demote"), 6_000);
    script.tells(&[]);
    // That is over, and a last chance is all there is.
    assert_eq!(script.when("SIGKILL to all of on_demote"), 6_100);
    script.ends_as("on_demote", ExitStatus::Killed(Signal::KILL));
    script.tells(&["guard off", "release"]);
    script.released();
    script.tells(&["close", "exit 0"]);
}

#[test]
fn an_on_demote_that_began_before_the_stop_leaves_main_its_chance() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    step_down(&mut script);
    script.signal(Signal::TERM);
    script.told();
    assert_eq!(script.when("SIGTERM to main"), 6_000);
}

#[test]
fn the_second_signal_cuts_an_on_demote_short_whose_main_is_gone() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    step_down(&mut script);
    script.ends("main", 0);
    script.told();
    script.signal(Signal::TERM);
    script.tells(&[]);
    script.signal(Signal::TERM);
    script.tells(&["SIGTERM to all of on_demote"]);
    script.ends_as("on_demote", ExitStatus::Killed(Signal::TERM));
    script.tells(&["guard off", "release"]);
}

/// What a stop by this says of the container's end: its code and why.
fn end_by(script: &mut Script, stop: Event) -> (String, String) {
    script.said.clear();
    script.send(stop);
    let code = script.told().pop().unwrap();
    let why = script.said.iter().find_map(|notice| match notice {
        Notice::Ended { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    (code, why.unwrap())
}

/// A leader whose main is restarted when it fails, and which failed.
fn crashed(of: Config) -> Script {
    let mut config = Config { hooks: Hooks { pre_start: vec![pre_start(0)], ..Hooks::default() }, ..of };
    config.process.restart.policy = crate::config::RestartPolicy::OnFailure;
    let mut script = Script::candidate(config);
    script.wins(7);
    script.ends("pre_start", 0);
    script.ends_as("main", ExitStatus::Killed(Signal::KILL));
    script.released();
    script
}

#[test]
fn a_container_whose_main_is_not_to_run_now_ends_as_one_whose_main_never_ran() {
    let term = || Event::Signal(Signal::TERM);
    let asked = || Event::Control { reply: ReplyId(1), request: Request::Stop };
    let ends = |script: &mut Script, event| end_by(script, event);
    let as_never_run = ("exit 143".to_owned(), "SIGTERM came".to_owned());

    let mut never_led = Script::candidate(standby());
    never_led.sees_lock(held("other", 9, 3));
    assert_eq!(ends(&mut never_led, term()), as_never_run);
    let mut mapped = standby();
    mapped.process.exit_codes.insert(143, 0);
    let mut mapped = Script::candidate(mapped);
    mapped.sees_lock(held("other", 9, 3));
    assert_eq!(ends(&mut mapped, term()).0, "exit 0", "as a leader's");

    // It crashed as leader, and stands by.
    for stop in [term(), asked()] {
        let mut script = crashed(standby());
        script.sees_lock(held("other", 9, 8));
        script.until(60_000);
        let (code, why) = ends(&mut script, stop.clone());
        match stop {
            Event::Signal(_) => assert_eq!((code, why), as_never_run),
            _ => assert_eq!((code, why), ("exit 0".to_owned(), "asked for at the control endpoint".to_owned())),
        }
    }

    // It was stopped to step down, and is prepared as a replica.
    let mut script =
        Script::leading(Config { hooks: Hooks { pre_start: vec![pre_start(0)], ..Hooks::default() }, ..candidate() });
    script.ends("pre_start", 0);
    step_down(&mut script);
    script.ends_as("main", TERMINATED);
    script.released();
    script.sees_lock(held("other", 9, 8));
    assert_eq!(script.told().last().unwrap(), "spawn pre_start");
    script.send(term());
    script.ends_as("pre_start", TERMINATED);
    assert_eq!(script.told().last().unwrap(), "exit 143");
}

#[test]
fn a_stop_in_the_pause_after_a_crash_ends_with_its_code() {
    let mut script = crashed(standby());
    let (code, why) = end_by(&mut script, Event::Signal(Signal::TERM));
    assert_eq!((code.as_str(), why.as_str()), ("exit 137", "SIGTERM came; main was killed by SIGKILL"));
}

#[test]
fn a_lock_that_is_left_behind_is_said_with_what_the_store_answered() {
    let said = |answers: bool| {
        let mut script = Script::leading(super::start::on_etcd());
        script.signal(Signal::TERM);
        script.ends("main", 0);
        if answers {
            let refused = Err("no space".to_owned());
            script.event(ElectionEvent::Released { ask: script.asked("release"), result: refused });
        }
        script.when("exit 0");
        let left = script.said.iter().find(|notice| notice.name() == "election.left_behind");
        left.unwrap().to_string()
    };
    let left = "nobody can lead db for about 15s more, counted from when the store is up";
    assert_eq!(said(true), format!("{left}: the lock isn't given back: no space"));
    assert_eq!(said(false), format!("{left}: the lock's release wasn't answered in time"));
}
