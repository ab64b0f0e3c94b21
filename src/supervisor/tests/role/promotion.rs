//! Into the leader's role.

use super::*;
use crate::config::Leftovers;
use crate::config::election::Mode;

#[test]
fn a_leader_prepares_starts_and_promotes_main_in_this_order() {
    let hooks = Hooks { pre_start: vec![pre_start(0)], ..hooks() };
    let mut script = Script::candidate(Config { hooks, ..candidate() });
    script.wins(7);
    script.tells(&["join db", "open", "acquire", "spawn pre_start"]);
    assert_eq!(script.variable("pre_start", "PILOTFISH_ROLE"), Some("leader"));
    assert_eq!(script.variable("pre_start", "PILOTFISH_TERM"), Some("7"));
    script.ends("pre_start", 0);
    script.tells(&["spawn main", "spawn on_promote"]);
    assert_eq!(script.variable("on_promote", "PILOTFISH_TERM"), Some("7"));
    script.ends("on_promote", 0);
    script.tells(&[]);
    let status = script.core.status().election.unwrap();
    assert_eq!((status.role.as_str(), status.promoted, status.doing.as_str()), ("leader", true, "leading"));
}

#[test]
fn main_is_promoted_once_its_checks_pass() {
    let health = vec![check("ping", OnFailure::Report)];
    let mut script = Script::candidate(Config { hooks: hooks(), health, ..candidate() });
    script.wins(7);
    script.tells(&["join db", "open", "acquire", "spawn main", "probe"]);
    script.answer("probe", Ok(()));
    script.tells(&["spawn on_promote"]);
}

#[test]
fn main_is_promoted_unhealthy_where_the_election_doesnt_ask_for_health_once_that_is_known() {
    let health = vec![check("ping", OnFailure::Report)];
    let election = Some(Election { require_health: false, ..election() });
    let mut script = Script::candidate(Config { hooks: hooks(), health, election, ..config() });
    script.wins(7);
    script.tells(&["join db", "open", "acquire", "spawn main", "probe"]);
    script.answer("probe", Err("no answer"));
    script.tells(&["spawn on_promote"]);
}

#[test]
fn a_replica_that_comes_to_lead_is_promoted_and_main_runs_on() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    let last = Last {
        id: "other".into(),
        session: SessionId(9),
        term: Term(3),
        guarantee: LEASE,
        released: true,
        to: None,
        ended: false,
        hold_off_left: Duration::ZERO,
    };
    script.told();
    script.sees_lock(View { at: 4, last: Some(last), last_revision: Revision(4), ..free() });
    script.takes(7);
    script.tells(&["open", "acquire", "spawn on_promote"]);
}

#[test]
fn a_failed_promotion_is_undone_and_given_back() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.wins(7);
    script.told();
    script.ends("on_promote", 1);
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release"]);
}

#[test]
fn main_is_promoted_only_when_the_hook_that_had_it_follow_another_is_gone() {
    let mut script = leading_while_it_follows(Config { hooks: hooks(), ..candidate() });
    script.tells(&["acquire", "SIGTERM to all of on_leader_change"]);
    script.ends_leaving("on_leader_change", TERMINATED);
    script.tells(&[]);
    script.until(21_000);
    script.group_ends("on_leader_change");
    script.tells(&["spawn on_promote"]);
}

#[test]
fn a_hook_for_replicas_that_ignores_sigterm_holds_a_promotion_until_it_is_killed() {
    let on_promote = crate::config::Hook { timeout: Duration::from_secs(4), ..hook("promote") };
    let hooks = Hooks { on_promote: Some(on_promote), ..hooks() };
    let mut script = leading_while_it_follows(Config { hooks, ..candidate() });
    assert_eq!(script.when("SIGKILL to all of on_leader_change"), 22_000);
    script.ends_as("on_leader_change", ExitStatus::Killed(Signal::KILL));
    script.tells(&["spawn on_promote"]);
    // Its own time begins only now.
    assert_eq!(script.when("SIGTERM to all of on_promote"), 26_000);
}

#[test]
fn a_hook_for_replicas_that_nothing_ends_makes_the_promotion_fail() {
    let mut script = leading_while_it_follows(Config { hooks: hooks(), ..candidate() });
    // Main is a replica still, and stays one.
    assert_eq!(script.when("release"), 23_000);
    script.released();
    let told = script.told();
    assert!(!told.iter().any(|order| order.contains("on_promote") || order.contains("main")), "{told:?}");
    assert!(script.said.iter().any(|notice| notice.to_string().contains("what ran for a replica doesn't end")));
}

#[test]
fn a_change_acted_on_for_replicas_only_is_cut_short_by_a_promotion() {
    let watches = vec![crate::config::Watch { when: When::Replica, ..watch("app") }];
    let mut script = Script::candidate(Config { watches, hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.sees("app", &["a"]);
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(20_000);
    script.told();
    script.takes(7);
    script.tells(&["acquire", "SIGTERM to all of on_change of app"]);
    script.ends_as("on_change of app", TERMINATED);
    script.tells(&["spawn on_promote"]);
    script.ends("on_promote", 0);
    script.until(25_000);
    script.tells(&[]);
    // It was cut short, so that it isn't done.
    step_down(&mut script);
    script.ends("on_demote", 0);
    assert!(script.told().contains(&"spawn on_change of app".to_owned()));
}

/// A check that says whether the replica replicates.
fn replicating(stand: bool) -> Config {
    let mut health = vec![check("replicates", OnFailure::Report)];
    health[0].stand = stand;
    Config { hooks: hooks(), health, services: vec![service("web")], ..candidate() }
}

#[test]
fn a_replica_whose_check_does_not_bear_on_its_standing_is_out_of_the_rotation_and_is_chosen() {
    let mut script = Script::candidate(replicating(false));
    script.sees_lock(held("other", 9, 3));
    script.published("web", Ok(()));
    script.answer("probe", Err("behind"));
    script.published("web", Ok(()));
    assert_eq!(script.notes["web"], "replicates: behind");
    script.told();
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(20_000);
    assert!(script.told().contains(&"open".to_owned()));
    script.takes(7);
    script.tells(&["acquire", "spawn on_promote"]);
}

#[test]
fn a_replica_whose_check_bears_on_its_standing_does_not_stand_while_it_fails() {
    let mut script = Script::candidate(replicating(true));
    script.sees_lock(held("other", 9, 3));
    script.answer("probe", Err("behind"));
    script.told();
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(4_000);
    assert!(!script.told().contains(&"open".to_owned()));
}

#[test]
fn a_leader_whose_check_does_not_bear_on_its_standing_leads_on_while_it_fails() {
    for (of_stand, goes) in [(false, false), (true, true)] {
        let mut script = Script::candidate(replicating(of_stand));
        script.wins(7);
        script.answer("probe", Ok(()));
        script.ends("on_promote", 0);
        (0..3).for_each(|_| script.published("web", Ok(())));
        script.told();
        script.when("probe");
        script.told();
        script.answer("probe", Err("behind"));
        let told = script.told();
        assert_eq!(told.contains(&"spawn on_demote".to_owned()), goes, "{told:?}");
        assert!(told.contains(&"publish web critical".to_owned()), "{told:?}");
    }
}

#[test]
fn a_check_that_does_not_count_bears_on_no_role() {
    let mut config = replicating(true);
    config.health[0].counts = false;
    let mut script = Script::candidate(config);
    script.wins(7);
    assert_eq!(script.told().last().unwrap(), "spawn on_promote");
    script.ends("on_promote", 0);
    script.answer("probe", Err("behind"));
    assert!(!script.told().contains(&"spawn on_demote".to_owned()));
}

/// It holds the leader's lock, where that is the kernel's.
#[test]
fn what_runs_for_the_leader_is_ordered_as_such_unless_it_may_leave_something_for_the_container() {
    let cases = [
        (Leftovers::End, When::Always, When::Leader),
        (Leftovers::Keep, When::Always, When::Always),
        (Leftovers::Keep, When::Leader, When::Leader),
    ];
    for (leftovers, when, role) in cases {
        let mut pre_start = pre_start(0);
        pre_start.hook.leftovers = leftovers;
        pre_start.hook.when = when;
        let hooks = Hooks { pre_start: vec![pre_start], ..hooks() };
        let mut script = Script::candidate(Config { hooks, ..candidate() });
        script.wins(7);
        assert_eq!(script.roles["pre_start"], role);
        script.ends("pre_start", 0);
        script.ends("on_promote", 0);
        step_down(&mut script);
        assert_eq!([script.roles["on_promote"], script.roles["on_demote"]], [When::Leader; 2]);
    }
}

/// All of a standby is the leader's, what its `pre_start` keeps too: on `local` it is to hold the lock as main does.
#[test]
fn what_a_standbys_pre_start_keeps_is_ordered_as_the_leaders() {
    let mut pre_start = pre_start(0);
    pre_start.hook.leftovers = Leftovers::Keep;
    let hooks = Hooks { pre_start: vec![pre_start], ..hooks() };
    let mut config = Config { hooks, ..candidate() };
    config.election.as_mut().unwrap().mode = Mode::Standby;
    let mut script = Script::candidate(config);
    script.wins(7);
    assert_eq!(script.roles["pre_start"], When::Leader);
}
