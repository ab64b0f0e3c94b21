//! What is told to whom, and what is asked.

use super::*;
use crate::config::RestartPolicy;

#[test]
fn a_replica_is_told_of_each_new_leader_and_not_of_the_one_it_started_with() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.tells(&["join db", "spawn main"]);
    script.sees_lock(held("third", 10, 4));
    script.tells(&["spawn on_leader_change"]);
    assert_eq!(script.variable("on_leader_change", "PILOTFISH_LEADER"), Some("third:3306"));
    // One at a time; the last one counts.
    script.sees_lock(held("other", 11, 5));
    script.sees_lock(held("fourth", 12, 6));
    script.tells(&[]);
    script.ends("on_leader_change", 0);
    script.tells(&["spawn on_leader_change"]);
    assert_eq!(script.variable("on_leader_change", "PILOTFISH_LEADER_ID"), Some("fourth"));
}

#[test]
fn the_catalog_tells_the_role_once_it_is_taken() {
    let tags = RoleTags { leader: "primary".to_owned(), replica: "standby".to_owned() };
    let election = Election { service: Some("web".to_owned()), role_tags: Some(tags), ..election() };
    let services = vec![service("web")];
    let mut script = Script::candidate(Config { election: Some(election), services, hooks: hooks(), ..config() });
    // A candidate is in the catalog before main runs: what it stands by is bound to its service.
    script.expect(&["join db", "publish web critical"]);
    script.published("web", Ok(()));
    assert_eq!(script.tags["web"], ["standby"]);
    script.wins(7);
    script.published("web", Ok(()));
    assert_eq!(script.tags["web"], ["standby"]);
    script.ends("on_promote", 0);
    script.published("web", Ok(()));
    assert_eq!(script.tags["web"], ["primary"]);
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    assert_eq!(script.tags["web"], ["standby"]);
}

#[test]
fn a_rank_is_what_its_command_prints() {
    let election = Election { rank: Some(hook("rank")), ..election() };
    let mut script = Script::candidate(Config { election: Some(election), ..config() });
    script.sees_holder(held("other", 9, 3));
    script.told();
    assert_eq!(script.variable("rank", "PILOTFISH_ROLE"), Some("replica"));
    let run = script.run("rank");
    script.send(Event::Printed { run, text: " 00000003/0000A0\n".to_owned() });
    script.event(ElectionEvent::Published { ask: script.asked("publish rank"), result: Ok(()) });
    script.told();
    script.ends("rank", 0);
    script.tells(&["publish rank"]);
}

#[test]
fn a_rank_is_not_measured_beside_what_the_last_measuring_left() {
    let election = Election { rank: Some(hook("rank")), ..election() };
    let mut script = Script::candidate(Config { election: Some(election), ..config() });
    script.sees_holder(held("other", 9, 8));
    script.told();
    let run = script.run("rank");
    script.event(ElectionEvent::Published { ask: script.asked("publish rank"), result: Ok(()) });
    script.send(Event::Printed { run, text: "42".to_owned() });
    script.ends_leaving("rank", ExitStatus::Exited(0));
    script.tells(&["publish rank"]);
    script.event(ElectionEvent::Published { ask: script.asked("publish rank"), result: Ok(()) });
    script.sees_holder(held("third", 11, 10));
    script.tells(&["publish rank"]);
    script.group_ends("rank");
    script.tells(&["spawn rank"]);
}

#[test]
fn a_rank_knows_whether_anybody_has_ever_led() {
    let election = Election { rank: Some(hook("rank")), ..election() };
    for (acted_before, first) in [(Ok(ElectionPast::Unled), "1"), (Ok(ElectionPast::Led), "")] {
        let mut script = Script::candidate(Config { election: Some(election.clone()), ..config() });
        script.acted_before = acted_before;
        script.sees_holder(held("other", 9, 3));
        assert_eq!(script.variable("rank", "PILOTFISH_FIRST"), Some(first));
    }
}

#[test]
fn a_rank_is_measured_once_the_store_says_whether_anybody_has_ever_led() {
    let election = Election { rank: Some(hook("rank")), ..election() };
    let mut script = Script::candidate(Config { election: Some(election), ..config() });
    script.acted_before = Err("no server".to_owned());
    script.sees_holder(held("other", 9, 3));
    script.until(20_000);
    assert!(!script.heard().contains(&"spawn rank".to_owned()));
    let said = |script: &Script, name: &str| script.said.iter().filter(|said| said.name() == name).count();
    assert_eq!((said(&script, "catalog.failed"), said(&script, "catalog.back")), (1, 0));
    script.acted_before = Ok(ElectionPast::Unled);
    assert!(script.when("spawn rank") <= 20_500);
    assert_eq!(script.variable("rank", "PILOTFISH_FIRST"), Some("1"));
    assert_eq!(said(&script, "catalog.back"), 1);
    // Of another term it is another question.
    script.acted_before = Ok(ElectionPast::Led);
    script.ends("rank", 0);
    script.sees_holder(held("third", 11, 10));
    assert_eq!(script.variable("rank", "PILOTFISH_FIRST"), Some(""));
}

#[test]
fn a_person_can_only_have_one_lead_that_waits_for_ranks() {
    let accepts = |script: &mut Script| {
        script.send(Event::Control { reply: ReplyId(1), request: Request::AcceptLoss });
        script.heard().contains(&"reply error".to_owned())
    };
    let mut script = Script::candidate(candidate());
    script.sees_lock(held("other", 9, 3));
    assert!(accepts(&mut script), "another one holds the lock");
    let election = Election { rank: Some(hook("rank")), quorum: Some(2), ..election() };
    let mut script = Script::candidate(Config { election: Some(election), ..config() });
    script.sees_lock(free());
    script.takes(7);
    let run = script.run("rank");
    script.send(Event::Printed { run, text: "42".to_owned() });
    script.ends("rank", 0);
    script.heard();
    assert_eq!(script.core.status().election.map(|election| election.ranks.is_some()), Some(true));
    assert!(!accepts(&mut script));
    assert!(script.core.status().election.is_some_and(|election| election.loss_accepted));
}

#[test]
fn a_guard_that_ended_is_started_again_and_not_in_a_hurry() {
    let mut script = Script::candidate(candidate());
    script.until(5_000);
    script.heard();
    script.send(Event::Guard { stands: false });
    script.expect(&["start guard"]);
    script.send(Event::Guard { stands: true });
    script.send(Event::Guard { stands: false });
    script.expect(&[]);
    assert_eq!(script.when("start guard"), 6_000);
}

#[test]
fn only_a_leader_can_step_down() {
    let mut script = Script::candidate(candidate());
    script.sees_lock(held("other", 9, 3));
    script.told();
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.tells(&["reply error"]);
    let mut script = Script::start(config());
    script.heard();
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.send(Event::Control { reply: ReplyId(2), request: Request::AcceptTerm });
    script.expect(&["reply error", "reply error"]);
}

#[test]
fn every_variable_of_the_election_is_there_whether_or_not_somebody_leads() {
    let pre_start = vec![pre_start(0)];
    let mut script = Script::candidate(Config { hooks: Hooks { pre_start, ..hooks() }, ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.ends("pre_start", 0);
    let said = |script: &Script, job: &str| {
        ["ROLE", "LEADER", "LEADER_ID", "TERM"].map(|name| {
            let variable = script.variable(job, &format!("PILOTFISH_{name}"));
            variable.unwrap_or_else(|| panic!("{job} has no {name}")).to_owned()
        })
    };
    assert_eq!(said(&script, "main"), ["replica", "other:3306", "other", "3"]);
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.wins(7);
    let [role, _, id, term] = said(&script, "on_promote");
    assert_eq!((role.as_str(), id.as_str(), term.as_str()), ("leader", "me", "7"));
}

#[test]
fn who_starts_while_nobody_leads_sees_empty_variables() {
    let election = Election { without_catalog: WithoutCatalog::Replica, ..election() };
    let mut script = Script::candidate(Config { election: Some(election), hooks: hooks(), ..config() });
    script.event(ElectionEvent::Saw(Err("cut".to_owned())));
    script.when("spawn main");
    for name in ["LEADER", "LEADER_ID", "TERM"] {
        assert_eq!(script.variable("main", &format!("PILOTFISH_{name}")), Some(""), "{name}");
    }
}

#[test]
fn a_standby_is_well_through_an_outage_and_not_while_it_has_yet_to_be_answered() {
    let mut script = Script::candidate(standby());
    script.event(ElectionEvent::Saw(Err("cut".to_owned())));
    let status = script.core.status();
    assert!(!status.standing_by && status.phase == Phase::Starting);
    script.sees_lock(held("other", 9, 3));
    let status = script.core.status();
    assert!(status.standing_by && !status.ready());
    assert_eq!((status.phase, &*status.doing), (Phase::Standby, "other leads"));
    script.event(ElectionEvent::Saw(Err("cut".to_owned())));
    let status = script.core.status();
    assert!(status.standing_by);
    assert_eq!(status.why_not_ready().unwrap(), "standing by: other leads, as far as is known: cut");
    let mut script = Script::candidate(standby());
    script.wins(7);
    assert!(!script.core.status().standing_by, "it leads");
    // Nor did it when the store was lost to it in the middle of that.
    let mut script = Script::leading(standby());
    script.when("SIGTERM to main");
    script.ends("main", 0);
    script.until(60_000);
    assert!(script.core.status().standing_by, "{}", script.core.status().doing);
}

fn following() -> Config {
    let query = Query::Leader { election: "db".to_owned() };
    let wait = WaitFor { query, count: 1, timeout: Duration::from_secs(60), when: When::Replica };
    let hooks = Hooks { pre_start: vec![pre_start(0)], ..hooks() };
    Config { wait_for: vec![wait], hooks, ..candidate() }
}

/// The one it waits for is there.
fn leader_is_there(script: &mut Script) {
    let seen = Ok(Observation::Instances([instance("other")].into()));
    script.send(Event::Observed { follow: Follow::WaitFor(0), seen });
}

#[test]
fn a_wait_for_the_own_leader_is_over_once_what_starts_then_is_told_of_it() {
    let mut script = Script::candidate(following());
    script.sees_holder(held("other", 9, 3));
    script.sees_acting(None);
    leader_is_there(&mut script);
    assert!(!script.told().iter().any(|told| told.starts_with("spawn")), "nobody is known to act yet");
    assert_eq!(script.core.status().doing, "waiting for a leader of db");
    script.sees_acting(Some("3 other"));
    script.tells(&["spawn pre_start"]);
    assert_eq!(script.variable("pre_start", "PILOTFISH_LEADER"), Some("other:3306"));
    assert_eq!(script.variable("pre_start", "PILOTFISH_EVENT"), Some("first_start"));
    // Who was told of it there isn't told again.
    script.ends("pre_start", 0);
    script.tells(&["spawn main"]);

    // A leader that is gone again when its acting is seen doesn't end the wait, and the wait ends.
    let mut script = Script::candidate(following());
    script.sees_holder(held("other", 9, 3));
    script.sees_acting(None);
    leader_is_there(&mut script);
    script.until(60_000);
    assert!(script.heard().iter().any(|heard| heard.starts_with("exit")));
}

#[test]
fn a_leader_that_changed_while_main_was_prepared_or_down_is_told_once_main_is_up() {
    let mut config = Config { wait_for: Vec::new(), ..following() };
    config.process.restart.policy = RestartPolicy::OnFailure;
    let mut script = Script::candidate(config);
    script.sees_lock(held("other", 9, 3));
    script.tells(&["join db", "spawn pre_start"]);
    script.sees_lock(held("third", 10, 4));
    script.ends("pre_start", 0);
    script.tells(&["spawn main", "spawn on_leader_change"]);
    assert_eq!(script.variable("on_leader_change", "PILOTFISH_LEADER"), Some("third:3306"));
    script.ends("on_leader_change", 0);
    script.ends("main", 1);
    script.sees_lock(held("other", 11, 5));
    script.told();
    script.until(script.now() + 2_000);
    script.tells(&["spawn main", "spawn on_leader_change"]);
}

#[test]
fn a_replica_whose_on_leader_change_fails_is_prepared_anew() {
    let mut script = Script::candidate(following());
    script.sees_lock(held("other", 9, 3));
    leader_is_there(&mut script);
    script.ends("pre_start", 0);
    script.told();
    script.sees_lock(held("third", 10, 4));
    script.tells(&["spawn on_leader_change"]);
    script.ends("on_leader_change", 3);
    script.tells(&["SIGTERM to main"]);
    script.ends("main", 0);
    script.until(script.now() + 2_000);
    script.tells(&["follow WaitFor(0)"]);
    leader_is_there(&mut script);
    script.tells(&["unfollow WaitFor(0)", "spawn pre_start"]);
    assert_eq!(script.variable("pre_start", "PILOTFISH_EVENT"), Some("leader_change"));
    assert_eq!(script.variable("pre_start", "PILOTFISH_LEADER"), Some("third:3306"));
    script.ends("pre_start", 0);
    script.tells(&["spawn main"]);

    // Where nothing prepares main, it is only logged.
    let hooks = Hooks { pre_start: Vec::new(), ..hooks() };
    let mut script = Script::candidate(Config { hooks, ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.sees_lock(held("third", 10, 4));
    script.ends("on_leader_change", 3);
    assert!(!script.told().contains(&"SIGTERM to main".to_owned()));
}

#[test]
fn a_pre_start_is_told_why_it_runs() {
    let event = |script: &Script| script.variable("pre_start", "PILOTFISH_EVENT").map(str::to_owned);
    let without_demote = Hooks { pre_start: vec![pre_start(0)], on_demote: None, ..hooks() };
    let config = Config { hooks: without_demote, ..candidate() };
    let mut script = Script::candidate(config);
    script.sees_lock(held("other", 9, 3));
    assert_eq!(event(&script).as_deref(), Some("first_start"));
    // It wins while it is prepared as a replica.
    script.sees_lock(View { at: 9, last_revision: Revision(9), ..free() });
    script.takes(10);
    script.ends("pre_start", 143);
    script.until(script.now() + 1_000);
    assert_eq!(event(&script).as_deref(), Some("promotion"));
    script.ends("pre_start", 0);
    script.ends("on_promote", 0);
    step_down(&mut script);
    script.ends("main", 0);
    script.released();
    script.sees_lock(held("other", 11, 12));
    script.until(script.now() + 1_000);
    assert_eq!(event(&script).as_deref(), Some("demotion"));
}

#[test]
fn a_standby_that_is_given_the_role_again_is_told_so_however_its_main_ended() {
    let event = |script: &Script| script.variable("pre_start", "PILOTFISH_EVENT").map(str::to_owned);
    let mut config = Config { hooks: Hooks { pre_start: vec![pre_start(0)], ..Hooks::default() }, ..standby() };
    config.process.restart.policy = crate::config::RestartPolicy::OnFailure;
    for (crashes, another_leads, told) in
        [(false, true, "promotion"), (false, false, "promotion"), (true, true, "promotion"), (true, false, "crash")]
    {
        let mut script = Script::leading(config.clone());
        assert_eq!(event(&script).as_deref(), Some("first_start"));
        script.ends("pre_start", 0);
        if !crashes {
            step_down(&mut script);
        }
        script.ends_as("main", if crashes { ExitStatus::Killed(Signal::KILL) } else { TERMINATED });
        script.released();
        if another_leads {
            script.sees_lock(held("other", 9, 8));
            script.until(script.now() + 60_000);
        }
        script.told();
        script.sees_lock(View { at: 9, last_revision: Revision(9), ..free() });
        script.when("open");
        script.takes(10);
        assert_eq!(script.told().last().unwrap(), "spawn pre_start");
        assert_eq!(script.variable("pre_start", "PILOTFISH_ROLE"), Some("leader"));
        assert_eq!(event(&script).as_deref(), Some(told), "crashes: {crashes}, another leads: {another_leads}");
    }
}
