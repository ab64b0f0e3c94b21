//! Coprocesses of a candidate.

use super::*;
use crate::config::coprocess::StartPoint;
use crate::config::{Coprocess, Hook, Leftovers, OnFailure};
use crate::supervisor::tests::coprocess::coprocess;

fn with(coprocesses: Vec<Coprocess>) -> Config {
    Config { coprocesses, hooks: hooks(), ..candidate() }
}

fn leaders() -> Coprocess {
    Coprocess { when: When::Leader, ..coprocess("vip") }
}

#[test]
fn one_of_any_role_runs_through_every_change() {
    let mut script = Script::candidate(with(vec![coprocess("exporter")]));
    script.sees_lock(held("other", 9, 3));
    assert_eq!(script.told().last_chunk(), Some(&["spawn main".to_owned(), "spawn coprocess exporter".to_owned()]));
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(20_000);
    script.takes(7);
    script.ends("on_promote", 0);
    step_down(&mut script);
    script.ends("on_demote", 0);
    script.released();
    assert!(!script.told().iter().any(|told| told.contains("exporter")));
}

#[test]
fn a_leaders_one_starts_once_it_leads_and_is_ended_before_main_is_demoted_and_the_lock_given_back() {
    let mut script = Script::candidate(with(vec![leaders()]));
    script.sees_lock(held("other", 9, 3));
    assert!(!script.told().iter().any(|told| told.contains("vip")));
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(20_000);
    script.told();
    script.takes(7);
    script.tells(&["acquire", "spawn on_promote", "spawn coprocess vip"]);
    assert_eq!(script.variable("coprocess vip", "PILOTFISH_TERM"), Some("7"));
    script.ends("on_promote", 0);
    step_down(&mut script);
    script.tells(&["SIGTERM to coprocess vip", "reply ok"]);
    script.ends_leaving("coprocess vip", ExitStatus::Exited(0));
    script.tells(&["SIGTERM to all of coprocess vip"]);
    script.group_ends("coprocess vip");
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release"]);
}

#[test]
fn a_leaders_one_that_comes_after_main_waits_for_the_promotion() {
    let after = Coprocess { start: StartPoint::AfterMain, ..leaders() };
    let mut script = Script::candidate(with(vec![after]));
    script.wins(7);
    assert!(!script.told().iter().any(|told| told.contains("vip")));
    script.ends("on_promote", 0);
    script.tells(&["spawn coprocess vip"]);
}

#[test]
fn a_leaders_one_that_doesnt_obey_is_killed_in_two_seconds_or_its_own_time() {
    let mut script = Script::leading(with(vec![leaders()]));
    step_down(&mut script);
    script.told();
    assert_eq!(script.when("SIGKILL to all of coprocess vip"), 2_000);

    let patient = Coprocess { stop_timeout: Some(Duration::from_secs(4)), ..leaders() };
    let mut script = Script::leading(with(vec![patient]));
    step_down(&mut script);
    script.told();
    assert_eq!(script.when("SIGKILL to all of coprocess vip"), 4_000);
}

#[test]
fn a_lost_lease_kills_a_leaders_one_like_main_and_leaves_the_others_alone() {
    let hooked = Coprocess { post_stop: Some(hook("clean")), ..leaders() };
    let mut script = Script::leading(with(vec![hooked, coprocess("exporter")]));
    script.until(1_000);
    script.sleeps_until(20_000);
    let ask = script.asked("renew");
    script.event(ElectionEvent::Renewed { ask, result: Renewal::Alive(held("me", 7, 7)) });
    let told = script.told();
    assert!(told.contains(&"SIGKILL to main".to_owned()), "{told:?}");
    assert!(told.contains(&"SIGKILL to all of coprocess vip".to_owned()), "{told:?}");
    assert!(!told.iter().any(|told| told.contains("exporter")), "{told:?}");
    // Nothing is done for a leader whose time is over.
    script.ends_as("coprocess vip", ExitStatus::Killed(Signal::KILL));
    assert!(!script.told().iter().any(|told| told.contains("post_stop")));
}

#[test]
fn what_clears_up_after_a_leaders_one_comes_before_the_lock_is_given_back() {
    let hooked = Coprocess { post_stop: Some(hook("clean")), ..leaders() };
    let mut script = Script::leading(with(vec![hooked]));
    step_down(&mut script);
    script.ends("coprocess vip", 0);
    script.tells(&["SIGTERM to coprocess vip", "reply ok", "spawn post_stop of vip"]);
    script.ends("post_stop of vip", 0);
    script.tells(&["spawn on_demote"]);
}

#[test]
fn a_crashed_one_of_a_leaders_starts_again_while_it_leads_and_no_longer() {
    let mut script = Script::leading(with(vec![leaders()]));
    script.ends("coprocess vip", 1);
    assert!(script.when("spawn coprocess vip") < 1_000);
    script.ends("coprocess vip", 1);
    script.told();
    step_down(&mut script);
    script.tells(&["reply ok", "spawn on_demote"]);
    script.ends("on_demote", 0);
    script.released();
    script.until(60_000);
    assert!(!script.told().iter().any(|told| told.contains("vip")));
}

#[test]
fn one_restarted_by_hand_starts_again_only_in_the_role_that_it_is_for() {
    let hooked = Coprocess { pre_start: Some(hook("prepare")), ..leaders() };
    // While it ends, and while it is prepared anew.
    for prepares in [false, true] {
        let mut script = Script::leading(with(vec![hooked.clone()]));
        script.ends("pre_start of vip", 0);
        script.told();
        script.restart_of("vip");
        if prepares {
            script.ends("coprocess vip", 0);
        }
        script.told();
        step_down(&mut script);
        if prepares {
            script.tells(&["SIGTERM to all of pre_start of vip", "reply ok"]);
            script.ends_as("pre_start of vip", TERMINATED);
        } else {
            script.tells(&["reply ok"]);
            script.ends("coprocess vip", 0);
        }
        // Who waits for the restart is told that there is none yet.
        script.tells(&["reply ok", "spawn on_demote"]);
        script.ends("on_demote", 0);
        script.released();
        script.restart_of("vip");
        script.tells(&["guard off", "release", "close", "reply error"]);
    }
}

#[test]
fn a_leaders_one_that_is_being_restarted_is_killed_with_the_lost_lease() {
    let mut script = Script::leading(with(vec![leaders()]));
    script.until(1_000);
    script.restart_of("vip");
    script.told();
    script.sleeps_until(20_000);
    let ask = script.asked("renew");
    script.event(ElectionEvent::Renewed { ask, result: Renewal::Alive(held("me", 7, 7)) });
    let told = script.told();
    assert!(told.contains(&"SIGKILL to all of coprocess vip".to_owned()), "{told:?}");
    script.ends_as("coprocess vip", ExitStatus::Killed(Signal::KILL));
    let told = script.told();
    assert!(!told.iter().any(|told| told.contains("spawn coprocess vip")), "{told:?}");
    assert!(told.contains(&"reply ok".to_owned()), "{told:?}");
}

#[test]
fn a_replicas_one_ends_before_main_is_promoted() {
    let replicas = Coprocess { when: When::Replica, ..coprocess("reader") };
    let mut script = Script::candidate(with(vec![replicas]));
    script.sees_lock(held("other", 9, 3));
    assert_eq!(script.told().last().unwrap(), "spawn coprocess reader");
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(20_000);
    script.told();
    script.takes(7);
    script.tells(&["acquire", "SIGTERM to coprocess reader"]);
    script.ends("coprocess reader", 0);
    script.tells(&["spawn on_promote"]);
}

#[test]
fn the_entry_of_a_leaders_one_is_in_the_catalog_while_it_leads() {
    let of = Some("vip".to_owned());
    let services = vec![crate::config::Service { of: of.into(), ..service("edge") }];
    let mut script = Script::candidate(Config { services, ..with(vec![leaders()]) });
    script.wins(7);
    assert!(script.told().contains(&"publish edge passing".to_owned()));
    script.published("edge", Ok(()));
    script.ends("on_promote", 0);
    step_down(&mut script);
    script.ends("coprocess vip", 0);
    let told = script.told();
    assert!(told.contains(&"withdraw edge".to_owned()), "{told:?}");
}

#[test]
fn one_that_has_crashed_is_cleared_up_after_before_a_leader_that_was_never_promoted_goes() {
    let hooked = Coprocess { post_stop: Some(hook("clean")), ..leaders() };
    let mut script =
        Script::candidate(Config { health: vec![check("answers", OnFailure::Report)], ..with(vec![hooked]) });
    script.sees_lock(held("other", 9, 3));
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(20_000);
    script.takes(7);
    script.ends("coprocess vip", 1);
    script.told();
    step_down(&mut script);
    script.tells(&["reply ok", "spawn post_stop of vip"]);
    script.ends("post_stop of vip", 0);
    let told = script.told();
    assert!(told.contains(&"release".to_owned()), "{told:?}");
}

#[test]
fn what_a_leaders_post_stop_may_leave_ends_before_the_lock_is_given_back() {
    let keeps = Hook { leftovers: Leftovers::Keep, ..hook("clean") };
    let hooked = Coprocess { post_stop: Some(keeps), ..leaders() };
    let mut script = Script::leading(with(vec![hooked]));
    step_down(&mut script);
    script.ends("coprocess vip", 0);
    script.tells(&["SIGTERM to coprocess vip", "reply ok", "spawn post_stop of vip"]);
    script.ends_leaving("post_stop of vip", ExitStatus::Exited(0));
    assert_eq!(script.when("SIGTERM to all of post_stop of vip"), script.now());
    assert!(!script.told().contains(&"spawn on_demote".to_owned()));
    script.group_ends("post_stop of vip");
    script.tells(&["spawn on_demote"]);
}

#[test]
fn what_a_replicas_post_stop_may_leave_ends_before_main_is_promoted() {
    let keeps = Hook { leftovers: Leftovers::Keep, ..hook("clean") };
    let replicas = Coprocess { when: When::Replica, post_stop: Some(keeps), ..coprocess("reader") };
    let mut script = Script::candidate(with(vec![replicas]));
    script.sees_lock(held("other", 9, 3));
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(20_000);
    script.takes(7);
    script.ends("coprocess reader", 0);
    script.ends_leaving("post_stop of reader", ExitStatus::Exited(0));
    assert!(!script.told().contains(&"spawn on_promote".to_owned()));
    script.group_ends("post_stop of reader");
    assert!(script.told().contains(&"spawn on_promote".to_owned()));
}

fn reloads(script: &mut Script, config: Config) {
    script.send(Event::Control { reply: ReplyId(9), request: Request::Reload });
    script.send(Event::ConfigLoaded(Ok(Box::new(config.into()))));
}

#[test]
fn one_that_a_reload_makes_a_leaders_runs_as_that_from_then_on() {
    let of_any = coprocess("vip");
    let mut script = Script::leading(with(vec![of_any.clone()]));
    script.told();
    reloads(&mut script, with(vec![Coprocess { when: When::Leader, ..of_any }]));
    assert!(script.told().contains(&"SIGTERM to coprocess vip".to_owned()));
    step_down(&mut script);
    let told = script.told();
    assert!(!told.contains(&"spawn on_demote".to_owned()), "it may still act: {told:?}");
    script.ends("coprocess vip", 0);
    let told = script.told();
    assert!(told.contains(&"spawn on_demote".to_owned()), "{told:?}");
}

#[test]
fn a_leaders_one_that_a_reload_makes_of_any_role_holds_the_lock_until_it_has_ended() {
    let mut script = Script::leading(with(vec![leaders()]));
    script.told();
    reloads(&mut script, with(vec![coprocess("vip")]));
    step_down(&mut script);
    let told = script.told();
    assert!(!told.contains(&"spawn on_demote".to_owned()), "{told:?}");
    script.ends("coprocess vip", 0);
    script.when("spawn on_demote");
}

/// `on_demote` has 5 s there.
#[test]
fn what_acts_beside_a_leader_takes_no_more_than_a_third_of_what_an_outage_leaves() {
    let mut script = Script::leading(Config { hooks: hooks(), ..with(vec![leaders()]) });
    let told = script.when("SIGTERM to coprocess vip");
    let killed = script.when("SIGKILL to all of coprocess vip");
    assert!((1_600..1_700).contains(&(killed - told)), "{told} {killed}");
    script.ends_as("coprocess vip", ExitStatus::Killed(Signal::KILL));
    assert!(script.told().contains(&"spawn on_demote".to_owned()));
}
