//! Out of the leader's role.

use super::*;
use crate::config::Coprocess;
use crate::supervisor::tests::coprocess::coprocess;

#[test]
fn a_peaceful_step_down_releases_only_after_on_demote_and_main_lives() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: Some("other".to_owned()) } });
    script.tells(&["reply ok", "spawn on_demote"]);
    assert_eq!(script.variable("on_demote", "PILOTFISH_ROLE"), Some("replica"));
    assert_eq!(script.variable("on_demote", "PILOTFISH_TERM"), Some("7"));
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release"]);
    script.released();
    script.tells(&["close"]);
    script.sees_lock(held("other", 9, 8));
    script.tells(&["spawn on_leader_change"]);
}

#[test]
fn without_on_demote_main_is_stopped_and_starts_again_as_a_replica() {
    let hooks = Hooks { pre_start: vec![pre_start(0)], ..Hooks::default() };
    let mut script = Script::candidate(Config { hooks, ..candidate() });
    script.wins(7);
    script.ends("pre_start", 0);
    script.told();
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.tells(&["reply ok", "SIGTERM to main"]);
    script.ends("main", 0);
    script.tells(&["guard off", "release"]);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.tells(&["close", "spawn pre_start"]);
    assert_eq!(script.variable("pre_start", "PILOTFISH_ROLE"), Some("replica"));
    script.ends("pre_start", 0);
    script.tells(&["spawn main"]);
}

#[test]
fn main_is_stopped_for_its_role_by_what_it_gets_in_place_of_term() {
    let mut rewriting = candidate();
    rewriting.process.rewrite_signals.insert(crate::config::Signal::TERM, Some(crate::config::Signal::QUIT));
    let mut script = Script::candidate(rewriting);
    script.wins(7);
    script.told();
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.tells(&["reply ok", "SIGQUIT to main"]);
}

#[test]
fn an_on_demote_that_fails_or_hangs_has_main_stopped() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.ends("on_demote", 1);
    script.tells(&["reply ok", "spawn on_demote", "SIGTERM to main"]);

    let short =
        Hooks { on_demote: Some(crate::config::Hook { timeout: Duration::from_secs(3), ..hook("demote") }), ..hooks() };
    let mut script = Script::leading(Config { hooks: short, ..candidate() });
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.told();
    assert_eq!(script.when("SIGTERM to main"), 3_000);
}

#[test]
fn a_silent_engine_has_the_leader_demoted_in_time_and_killed_at_the_deadline() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    // 14.85 s to act on, one to kill, five to step down.
    let told = script.when("spawn on_demote");
    assert!((8_800..9_000).contains(&told), "{told}");
    let killed = script.when("SIGKILL to main");
    assert!((13_800..13_900).contains(&killed), "{killed}");
    script.ends_as("main", ExitStatus::Killed(Signal::KILL));
    script.ends_as("on_demote", ExitStatus::Killed(Signal::KILL));
    assert!(script.told().contains(&"guard off".to_owned()));
    // The container lives on, and main runs again once it is known who leads.
    script.sees_lock(held("other", 9, 8));
    assert!(script.told().contains(&"spawn main".to_owned()));
}

#[test]
fn an_agent_that_slept_past_its_lease_kills_before_it_listens() {
    let mut script = Script::leading(candidate());
    script.until(1_000);
    script.sleeps_until(20_000);
    let ask = script.asked("renew");
    script.event(ElectionEvent::Renewed { ask, result: Renewal::Alive(held("me", 7, 7)) });
    assert_eq!(script.told()[0], "SIGKILL to main");
}

#[test]
fn mains_own_end_gives_the_lock_back_before_main_starts_again() {
    let mut restarted = Config { hooks: hooks(), ..candidate() };
    restarted.process.restart.policy = crate::config::RestartPolicy::Always;
    let mut script = Script::leading(restarted);
    script.ends("main", 1);
    script.tells(&["guard off", "release"]);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.until(1_000);
    script.tells(&["close", "spawn main"]);
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
}

#[test]
fn an_unhealthy_leader_steps_down_and_stands_again_when_well() {
    let health = vec![check("ping", OnFailure::Report)];
    let mut script = Script::candidate(Config { hooks: hooks(), health, ..candidate() });
    script.wins(7);
    script.answer("probe", Ok(()));
    script.ends("on_promote", 0);
    script.told();
    script.when("probe");
    script.told();
    script.answer("probe", Err("down"));
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    script.released();
    script.tells(&["guard off", "release", "close"]);
    let ask = script.asked("look");
    script.event(ElectionEvent::Looked { ask, result: Ok(free()) });
    script.until(9_000);
    assert!(!script.told().contains(&"open".to_owned()), "it doesn't stand while it is unhealthy");
    script.when("probe");
    script.answer("probe", Ok(()));
    script.when("open");
}

#[test]
fn a_leader_that_must_go_while_it_prepares_ends_that_first() {
    let hooks = Hooks { pre_start: vec![pre_start(0)], ..Hooks::default() };
    let mut script = Script::candidate(Config { hooks, ..candidate() });
    script.wins(7);
    script.told();
    script.sees_lock(held("other", 9, 8));
    // Others may act already.
    script.tells(&["SIGTERM to all of pre_start", "SIGKILL to all of pre_start"]);
    script.ends_as("pre_start", ExitStatus::Killed(Signal::KILL));
    script.until(100);
    script.tells(&["guard off", "close", "spawn pre_start"]);
    assert_eq!(script.variable("pre_start", "PILOTFISH_ROLE"), Some("replica"));
}

#[test]
fn the_lock_is_kept_while_a_child_of_a_cancelled_on_promote_lives() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.wins(7);
    script.told();
    step_down(&mut script);
    script.ends_leaving("on_promote", TERMINATED);
    script.tells(&["SIGTERM to all of on_promote", "reply ok"]);
    assert_eq!(script.when("SIGKILL to all of on_promote"), 2_000);
    script.tells(&[]);
    script.group_ends("on_promote");
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release"]);
}

#[test]
fn what_on_promote_left_after_its_success_is_ended_a_moment_later() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.wins(7);
    script.told();
    script.ends_leaving("on_promote", ExitStatus::Exited(0));
    assert_eq!(script.when("SIGTERM to all of on_promote"), 100);
    script.until(1_000);
    script.told();
    step_down(&mut script);
    script.tells(&["reply ok"]);
    script.group_ends("on_promote");
    script.tells(&["spawn on_demote"]);
}

#[test]
fn what_on_promote_may_leave_is_ended_with_the_role() {
    let on_promote = crate::config::Hook { leftovers: crate::config::Leftovers::Keep, ..hook("promote") };
    let mut script =
        Script::candidate(Config { hooks: Hooks { on_promote: Some(on_promote), ..hooks() }, ..candidate() });
    script.wins(7);
    script.told();
    script.ends_leaving("on_promote", ExitStatus::Exited(0));
    script.until(1_000);
    script.tells(&[]);
    step_down(&mut script);
    script.tells(&["SIGTERM to all of on_promote", "reply ok"]);
    script.group_ends("on_promote");
    script.tells(&["spawn on_demote"]);
}

#[test]
fn what_on_promote_may_leave_is_told_together_with_what_a_crashed_main_left() {
    let on_promote = crate::config::Hook { leftovers: crate::config::Leftovers::Keep, ..hook("promote") };
    let mut script =
        Script::candidate(Config { hooks: Hooks { on_promote: Some(on_promote), ..hooks() }, ..candidate() });
    script.wins(7);
    script.ends_leaving("on_promote", ExitStatus::Exited(0));
    script.told();
    script.send(Event::Exited { run: script.run("main"), status: ExitStatus::Exited(1) });
    script.send(Event::Strays { left: 1 });
    script.tells(&["SIGTERM to all of on_promote", "SIGTERM to strays"]);
}

#[test]
fn what_on_demote_left_is_gone_before_the_lock_is_given_back() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    step_down(&mut script);
    script.told();
    script.ends_leaving("on_demote", ExitStatus::Exited(0));
    assert_eq!(script.when("SIGTERM to all of on_demote"), 100);
    assert_eq!(script.when("SIGKILL to all of on_demote"), 2_100);
    script.tells(&[]);
    script.group_ends("on_demote");
    script.tells(&["guard off", "release"]);
}

#[test]
fn what_a_leaders_hook_left_without_its_keeper_ends_with_main_before_the_lock_is_given_back() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.wins(7);
    script.told();
    let run = script.run("on_promote");
    script.send(Event::RunLost { run });
    script.ends_as("on_promote", ExitStatus::Killed(Signal::KILL));
    let heard = script.heard();
    assert!(heard.contains(&"SIGTERM to main".to_owned()), "{heard:?}");
    assert!(!heard.iter().any(|heard| heard == "release" || heard == "spawn on_demote"), "{heard:?}");
    script.ends("main", 0);
    assert!(script.heard().contains(&"release".to_owned()));
}

#[test]
fn a_leaders_hook_that_kill_does_not_end_keeps_the_lock_and_ends_main_and_the_container() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.wins(7);
    script.told();
    step_down(&mut script);
    assert_eq!(script.when("SIGKILL to all of on_promote"), 2_000);
    assert_eq!(script.when("SIGTERM to main"), 3_000);
    script.told();
    script.ends("main", 0);
    let heard = script.heard();
    assert!(!heard.contains(&"release".to_owned()), "{heard:?}");
    script.when("exit 1");
    assert!(!script.heard().contains(&"release".to_owned()));
}

#[test]
fn the_lock_is_kept_while_an_on_promote_past_its_timeout_lives() {
    let on_promote = crate::config::Hook { timeout: Duration::from_secs(3), ..hook("promote") };
    let mut script =
        Script::candidate(Config { hooks: Hooks { on_promote: Some(on_promote), ..hooks() }, ..candidate() });
    script.wins(7);
    assert_eq!(script.when("SIGTERM to all of on_promote"), 3_000);
    script.ends_leaving("on_promote", TERMINATED);
    script.tells(&[]);
    script.until(4_000);
    script.group_ends("on_promote");
    script.tells(&["spawn on_demote"]);
}

#[test]
fn what_a_killed_leaders_hook_left_is_killed_too() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.wins(7);
    script.told();
    step_down(&mut script);
    script.ends_leaving("on_promote", TERMINATED);
    script.told();
    script.sees_lock(held("other", 9, 8));
    assert!(script.told().contains(&"SIGKILL to all of on_promote".to_owned()));
}

#[test]
fn a_leader_that_is_followed_as_it_is_to_go_is_told_and_waited_for() {
    let mut config = candidate();
    config.process.background = crate::config::Background::Follow;
    let mut script = Script::leading(config);
    script.followable = None;
    let run = script.run_of("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.send(Event::Strays { left: 2 });
    script.tells(&["follow a stray"]);
    step_down(&mut script);
    script.send(Event::Followed { run, pid: Some(101) });
    // The other one, asked for before.
    script.send(Event::Strays { left: 1 });
    script.tells(&["reply ok", "SIGTERM to main"]);
    script.ends("main", 0);
    assert!(script.told().contains(&"release".to_owned()), "what acts for the leader is gone");
}

#[test]
fn what_main_leaves_as_it_ends_during_on_demote_keeps_the_lock() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    step_down(&mut script);
    script.tells(&["reply ok", "spawn on_demote"]);
    let run = script.run_of("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(1) });
    script.ends("on_demote", 0);
    script.tells(&[]);
    script.send(Event::Strays { left: 2 });
    script.tells(&["SIGTERM to strays"]);
    script.send(Event::Strays { left: 0 });
    assert!(script.told().contains(&"release".to_owned()), "what acted for the leader is gone");
}

#[test]
fn what_a_launcher_leaves_during_on_demote_is_ended_and_not_followed_and_main_runs_again() {
    let mut config = Config { hooks: hooks(), ..candidate() };
    config.process.background = crate::config::Background::Follow;
    let mut script = Script::leading(config);
    step_down(&mut script);
    script.tells(&["reply ok", "spawn on_demote"]);
    let run = script.run_of("main");
    script.send(Event::Exited { run, status: ExitStatus::Exited(0) });
    script.ends("on_demote", 0);
    script.send(Event::Strays { left: 1 });
    script.tells(&["SIGTERM to strays"]);
    script.send(Event::Strays { left: 0 });
    script.tells(&["guard off", "release"]);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.tells(&["close", "spawn main"]);
}

/// One whose lease, on etcd, has 5 s for all that a demotion takes.
fn on_etcd(on_demote: u64) -> Config {
    let etcd = "process.exec = [\"a\"]\n[catalog]\nbackend = \"etcd\"\nendpoints = [\"http://127.0.0.1:2379\"]\n";
    let context = crate::config::Context::default();
    let etcd = Config::from_text(etcd, std::path::Path::new("t.toml"), None, &context).unwrap().config;
    let on_demote = Some(Hook { timeout: Duration::from_secs(on_demote), ..hook("demote") });
    Config { catalog: etcd.catalog, hooks: Hooks { on_demote, ..Hooks::default() }, ..candidate() }
}

/// Reads this config again, which has to say that the lease has no room for all of it.
fn reload_what_takes_too_long(script: &mut Script, config: Config) {
    script.send(Event::Control { reply: ReplyId(9), request: Request::Reload });
    script.send(Event::ConfigLoaded(Ok(Box::new(config.into()))));
    let told = |notice: &Notice| matches!(notice, Notice::Reloaded { later, .. } if later.iter().any(|what| what.contains("has no room for")));
    assert!(script.said.iter().any(told), "{:?}", script.said);
    script.told();
}

#[test]
fn a_reload_gives_a_leaders_coprocess_no_longer_than_its_lease_has_room_for() {
    let vip = |stop_timeout| Config {
        coprocesses: vec![Coprocess { when: When::Leader, stop_timeout, ..coprocess("vip") }],
        ..on_etcd(4)
    };
    let mut script = Script::leading(vip(None));
    reload_what_takes_too_long(&mut script, vip(Some(Duration::from_secs(60))));
    script.ends("coprocess vip", 1);
    script.when("spawn coprocess vip");
    step_down(&mut script);
    let begun = script.now();
    assert_eq!(script.when("SIGKILL to all of coprocess vip") - begun, 1_000, "on_demote keeps its 4 s");
}

#[test]
fn a_reload_gives_on_demote_no_longer_than_its_lease_has_room_for() {
    let mut script = Script::leading(on_etcd(1));
    reload_what_takes_too_long(&mut script, on_etcd(600));
    step_down(&mut script);
    let begun = script.now();
    let cancelled = script.when("SIGTERM to all of on_demote");
    assert_eq!(cancelled - begun, election().pace.demote.as_millis() as u64);
}

/// A leader that leads on has no other word for it.
#[test]
fn that_the_lease_is_renewed_again_is_said_once_it_has_been_for_a_while() {
    let mut script = Script::leading(candidate());
    let mut renewed = |result: fn() -> Renewal| {
        script.until(script.now() + 3_000);
        script.event(ElectionEvent::Renewed { ask: script.asked("renew"), result: result() });
        let said = script.said.drain(..).filter(|notice| ["election.failed", "catalog.back"].contains(&notice.name()));
        said.map(|notice| notice.to_string()).collect::<Vec<_>>()
    };
    let (fails, works) = (|| Renewal::Unknown("no answer".to_owned()), || Renewal::Alive(held("me", 7, 7)));
    assert!(renewed(works).is_empty());
    assert_eq!(renewed(fails), ["renewing the lease failed; trying again: no answer"]);
    for quiet in [works, works, works, works] {
        assert!(renewed(quiet).is_empty());
    }
    assert_eq!(renewed(works), ["renewing the lease works again"]);
    assert!(renewed(works).is_empty());
}
