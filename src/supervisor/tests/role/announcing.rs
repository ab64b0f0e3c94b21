//! What is told to whom, and what is asked.

use super::*;

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
    script.sees_lock(free());
    script.tells(&["join db", "spawn rank"]);
    let run = script.run("rank");
    script.send(Event::Printed { run, text: " 42\n".to_owned() });
    script.ends("rank", 0);
    script.tells(&["publish rank", "open"]);
}

#[test]
fn a_rank_is_not_measured_beside_what_the_last_measuring_left() {
    let election = Election { rank: Some(hook("rank")), ..election() };
    let mut script = Script::candidate(Config { election: Some(election), ..config() });
    let won = |id: &str, session, term, vacancy| {
        let mut view = held(id, session, term);
        if let Lock::Held(holder) = &mut view.lock {
            holder.vacancy = Some(Revision(vacancy));
        }
        view
    };
    script.sees_lock(won("other", 9, 8, 7));
    script.told();
    let run = script.run("rank");
    script.send(Event::Printed { run, text: "42".to_owned() });
    script.ends_leaving("rank", ExitStatus::Exited(0));
    script.tells(&["publish rank"]);
    script.sees_lock(won("third", 11, 10, 9));
    script.tells(&[]);
    script.group_ends("rank");
    script.tells(&["spawn rank"]);
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
fn a_standby_is_well_while_it_could_lead_and_not_while_it_refuses_or_asks_in_vain() {
    let mut script = Script::candidate(standby());
    script.sees_lock(held("other", 9, 3));
    let status = script.core.status();
    assert!(status.standing_by && !status.ready());
    script.event(ElectionEvent::Saw(Err("cut".to_owned())));
    assert!(!script.core.status().standing_by);
    let mut script = Script::candidate(standby());
    script.wins(7);
    assert!(!script.core.status().standing_by, "it leads");
}
