//! Who acts, told on and seen.

use super::*;

#[test]
fn a_leader_says_that_it_acts_once_its_promotion_has_succeeded() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.wins(7);
    assert!(!script.heard().iter().any(|heard| heard.starts_with("tell that")));
    script.ends("on_promote", 0);
    assert!(script.heard().contains(&"tell that term 7 acts".to_owned()));
    script.until(script.now() + 10_000);
    assert!(!script.heard().iter().any(|heard| heard.starts_with("tell that")), "once");
}

#[test]
fn a_promotion_that_fails_is_told_to_nobody() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.wins(7);
    script.ends("on_promote", 1);
    assert!(!script.heard().iter().any(|heard| heard.starts_with("tell that")));
    let said = |name: &str| script.said.iter().any(|notice| notice.name() == name);
    assert!(said("election.promoting") && !said("election.leads"));
    script.ends("on_demote", 0);
    script.released();
    script.sees_lock(free());
    let doing = script.core.status().election.unwrap().doing;
    assert_eq!(doing, "waiting for a leader, after leading has failed once here");
}

#[test]
fn what_could_not_be_told_is_told_again_while_it_is_so() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    script.send(Event::ActingTold { term: Term(7), result: Err("no server".to_owned()) });
    let begun = script.now();
    assert_eq!(script.when("tell that term 7 acts"), begun + 1_000);
    script.send(Event::ActingTold { term: Term(7), result: Err("no server".to_owned()) });
    step_down(&mut script);
    script.ends("on_demote", 0);
    script.until(script.now() + 3_000);
    assert!(!script.heard().iter().any(|heard| heard.starts_with("tell that")), "it is so no more");
    let said = |name: &str| script.said.iter().filter(|notice| notice.name() == name).count();
    assert_eq!((said("catalog.failed"), said("catalog.back")), (2, 1));
}

#[test]
fn a_leader_whose_word_was_deleted_says_it_again_as_long_as_it_leads() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    let told = |script: &mut Script| script.heard().iter().filter(|heard| *heard == "tell that term 7 acts").count();
    told(&mut script);
    for _second in 0..60 {
        script.until(script.now() + 1_000);
        if let Some(ask) = script.try_asked("renew") {
            script.event(ElectionEvent::Renewed { ask, result: Renewal::Alive(held("me", 7, 7)) });
        }
    }
    let times = told(&mut script);
    assert!((3..=5).contains(&times), "each 15 s: {times}");
    step_down(&mut script);
    script.ends("on_demote", 0);
    told(&mut script);
    script.until(script.now() + 60_000);
    assert_eq!(told(&mut script), 0, "it leads no more");
}

#[test]
fn a_replica_is_told_of_a_leader_once_it_acts() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.told();
    script.sees_holder(held("third", 10, 4));
    script.sees_acting(Some("3 other"));
    script.tells(&[]);
    assert!(!script.core.status().election.unwrap().leader.unwrap().acts);
    script.sees_acting(Some("4 third"));
    script.tells(&["spawn on_leader_change"]);
    assert_eq!(script.variable("on_leader_change", "PILOTFISH_LEADER"), Some("third:3306"));
    assert!(script.core.status().election.unwrap().leader.unwrap().acts);
    // What stands there of another term takes nothing back.
    script.sees_acting(Some("3 other"));
    assert!(script.core.status().election.unwrap().leader.unwrap().acts);
}

#[test]
fn a_replica_that_starts_before_the_leader_acts_has_no_address_and_is_told_when_it_does() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.sees_holder(held("other", 9, 3));
    script.tells(&["join db"]);
    script.sees_acting(None);
    script.tells(&["spawn main"]);
    assert_eq!(script.variable("main", "PILOTFISH_LEADER"), Some(""));
    assert_eq!(script.variable("main", "PILOTFISH_LEADER_ID"), Some("other"));
    script.sees_acting(Some("3 other"));
    script.tells(&["spawn on_leader_change"]);
    assert_eq!(script.variable("on_leader_change", "PILOTFISH_LEADER"), Some("other:3306"));
}

#[test]
fn whether_the_leader_acts_is_not_waited_for_without_end() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.sees_holder(held("other", 9, 3));
    assert_eq!(script.when("spawn main"), 2_000);
}

#[test]
fn who_comes_to_lead_before_anybody_has_acted_is_the_first() {
    let first = |acted_before: Result<ElectionPast, String>| {
        let hooks = Hooks { pre_start: vec![pre_start(0)], ..hooks() };
        let mut script = Script::candidate(Config { hooks, ..candidate() });
        script.acted_before = acted_before;
        script.wins(7);
        script.until(script.now() + 3_000);
        let first = script.variable("pre_start", "PILOTFISH_FIRST").map(str::to_owned);
        script.ends("pre_start", 0);
        assert_eq!(script.variable("on_promote", "PILOTFISH_FIRST").map(str::to_owned), first);
        assert_eq!(script.variable("main", "PILOTFISH_FIRST").map(str::to_owned), first);
        script.ends("on_promote", 0);
        step_down(&mut script);
        assert_eq!(script.variable("on_demote", "PILOTFISH_FIRST"), Some(""));
        first
    };
    assert_eq!(first(Ok(ElectionPast::Unled)).as_deref(), Some("1"));
    assert_eq!(first(Ok(ElectionPast::Led)).as_deref(), Some(""));
    // Who doesn't know isn't to initialise.
    assert_eq!(first(Err("no server".to_owned())).as_deref(), Some(""));
}

#[test]
fn what_the_store_does_not_answer_at_once_is_asked_again_until_the_time_is_over() {
    let hooks = || Hooks { pre_start: vec![pre_start(0)], ..hooks() };
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.acted_before = Err("no cluster leader".to_owned());
    script.wins(7);
    script.until(script.now() + 400);
    assert!(!script.heard().contains(&"spawn pre_start".to_owned()), "it is asked again");
    script.acted_before = Ok(ElectionPast::Unled);
    script.when("spawn pre_start");
    assert_eq!(script.variable("pre_start", "PILOTFISH_FIRST"), Some("1"));
    let said: Vec<&str> = script.said.iter().map(Notice::name).filter(|name| name.starts_with("catalog")).collect();
    assert_eq!(said, ["catalog.failed", "catalog.back"]);

    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.acted_before = Err("no cluster leader".to_owned());
    script.wins(7);
    let begun = script.now();
    assert_eq!(script.when("spawn pre_start"), begun + 3_000, "nobody waits for it without end");
    // An answer that comes then changes nothing, nor does one to an older term.
    for term in [7, 3] {
        script.send(Event::ActedBefore { term: Term(term), result: Ok(ElectionPast::Unled) });
    }
    script.ends("pre_start", 0);
    assert_eq!(script.variable("main", "PILOTFISH_FIRST"), Some(""));
    assert!(script.heard().contains(&"tell that term 7 begins".to_owned()), "it may be the first all the same");
}

#[test]
fn who_has_seen_a_leader_act_asks_nothing_before_it_leads() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    // An answer that never comes would cost the time it is asked for.
    script.acted_before = Err("no cluster leader".to_owned());
    script.sees_lock(held("other", 9, 3));
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(20_000);
    script.heard();
    script.takes(7);
    let heard = script.heard();
    assert!(heard.contains(&"spawn on_promote".to_owned()), "{heard:?}");
    assert_eq!(script.variable("on_promote", "PILOTFISH_FIRST"), Some(""));
}

#[test]
fn the_first_leader_says_so_before_it_acts() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.acted_before = Ok(ElectionPast::Unled);
    script.acting_told = Err("no server".to_owned());
    script.wins(7);
    let heard = script.heard();
    assert!(heard.contains(&"tell that term 7 begins".to_owned()), "{heard:?}");
    assert!(!heard.iter().any(|heard| heard.starts_with("spawn")), "nothing acts before: {heard:?}");
    script.acting_told = Ok(());
    let begun = script.now();
    assert_eq!(script.when("spawn main"), begun + 1_000, "it is said again");
    script.ends("on_promote", 0);
    assert!(script.heard().contains(&"tell that term 7 acts".to_owned()));
}

#[test]
fn a_first_leader_that_was_a_replica_says_so_before_it_is_promoted() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.acted_before = Ok(ElectionPast::Unled);
    script.sees_holder(held("other", 9, 3));
    script.sees_acting(None);
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(20_000);
    script.heard();
    script.acting_told = Err("no server".to_owned());
    script.takes(7);
    let heard = script.heard();
    assert!(!heard.contains(&"spawn on_promote".to_owned()), "{heard:?}");
    script.acting_told = Ok(());
    script.when("spawn on_promote");
}

#[test]
fn a_first_leader_that_cannot_say_so_gives_the_lock_back() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.acted_before = Ok(ElectionPast::Unled);
    script.acting_told = Err("not permitted".to_owned());
    script.wins(7);
    let begun = script.now();
    assert_eq!(script.when("release"), begun + 5_000);
    assert!(!script.heard().iter().any(|heard| heard == "spawn main" || heard == "spawn on_promote"));
}

#[test]
fn a_term_never_says_less_of_itself_than_it_has_said() {
    use LeaderMark::{Acts, Begins, Prepares};
    let value = |mark: LeaderMark| mark.value("db-1", Term(7));
    let over = |mark: LeaderMark, stands: Option<&str>| mark.over("db-1", Term(7), stands.map(str::as_bytes));
    for mark in [Prepares, Begins, Acts] {
        assert_eq!(over(mark, None), Some(value(mark)));
        assert_eq!(over(mark, Some("3 other prepares")), Some(value(mark)));
    }
    // Its own, late or again.
    for (mark, said) in [(Prepares, Begins), (Prepares, Acts), (Begins, Begins), (Begins, Acts), (Acts, Acts)] {
        assert_eq!(over(mark, Some(&value(said))), None, "{mark:?} over {said:?}");
    }
    for (mark, said) in [(Prepares, Prepares), (Begins, Prepares), (Acts, Prepares), (Acts, Begins)] {
        assert_eq!(over(mark, Some(&value(said))), Some(value(mark)), "{mark:?} over {said:?}");
    }
    // Another term's, be it one of a store's past.
    for said in ["3 other begins", "3 other", "9 other", "9 db-1"] {
        assert_eq!(over(Prepares, Some(said)), None, "{said}");
        assert_eq!(over(Acts, Some(said)), Some(value(Acts)), "{said}");
    }
}

#[test]
fn what_stands_there_while_the_first_prepares_leaves_it_to_the_next_to_be_that() {
    let led = |mark: LeaderMark| has_anybody_led(Some(mark.value("db-1", Term(7)).as_bytes()));
    assert!(!has_anybody_led(None));
    assert!(!led(LeaderMark::Prepares));
    assert!(led(LeaderMark::Begins) && led(LeaderMark::Acts));
    assert!(has_anybody_led(Some(b"")) && has_anybody_led(Some(b"\xff")), "whatever else is there");
}
