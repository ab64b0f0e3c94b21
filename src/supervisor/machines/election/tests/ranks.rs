//! Ranks: for whom they are measured and when, who is told, and whom a winner lets lead.

use std::time::Duration;

use super::stage::*;
use crate::supervisor::machines::election::event::{Acquisition, ElectionEvent};
use crate::supervisor::machines::election::record::{Last, Lock, Rank, Term};
use crate::supervisor::machines::election::{Ranking, Settings};
use crate::supervisor::vocabulary::Notice;

fn ranked() -> Settings {
    Settings { rank: Some(ranking()), ..settings() }
}

fn quorum(of: usize) -> Settings {
    Settings { rank: Some(Ranking { quorum: Some(of), ..ranking() }), ..settings() }
}

/// Won the lock for term 7, and measured this.
fn winner(settings: Settings, rank: &str) -> Stage {
    let mut stage = Stage::new(settings);
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Won(Term(7)));
    stage.expect(&["open", "acquire by 1", "measure", "read ranks"]);
    stage.measured(rank);
    stage.expect(&[]);
    stage
}

fn warnings(stage: &Stage) -> usize {
    stage.said.iter().filter(|notice| matches!(notice, Notice::RanksMissing { .. })).count()
}

#[test]
fn a_fresh_winner_yields_once_to_a_peer_that_is_further_ahead() {
    let mut stage = winner(ranked(), "5");
    stage.until(300);
    stage.heard();
    stage.reads(7, &["behind 4", "ahead 9", "unfit 11 not standing"]);
    stage.expect(&["release 7 to ahead"]);

    // The one yielded to doesn't yield again, whoever is ahead of it.
    let mut ahead = named();
    ahead.measured("5");
    ahead.expect(&["guard 9000", "promote 7"]);
}

/// Handed the lock, and won it for term 7.
fn named() -> Stage {
    let mut stage = Stage::new(ranked());
    stage.sees(after(Last { released: true, to: Some("me".into()), ..last("other", 9, 3) }));
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Won(Term(7)));
    stage.expect(&["open", "acquire by 1", "measure", "read ranks"]);
    stage
}

#[test]
fn one_that_is_named_never_leads_with_data_that_must_never_lead() {
    let mut stage = named();
    stage.measured("never");
    stage.reads(7, &["other 4"]);
    stage.until(300);
    assert_eq!(stage.heard().last().map(String::as_str), Some("release 7 to other"));
    // A command that fails has no rank to tell.
    let mut stage = named();
    stage.measured("");
    stage.expect(&["guard 9000", "promote 7"]);
}

#[test]
fn without_a_quorum_a_winner_goes_on_as_soon_as_all_who_were_heard_of_have_answered() {
    let mut stage = winner(ranked(), "5");
    stage.reads(7, &["slow"]);
    stage.until(350);
    stage.expect(&["read ranks"]);
    stage.reads(7, &["slow 4"]);
    stage.expect(&["guard 9000", "promote 7"]);
    // One that never answers is waited for no longer than the timeout.
    let mut stage = winner(ranked(), "5");
    stage.until(499);
    stage.heard();
    stage.reads(7, &["slow"]);
    stage.expect(&[]);
    stage.until(500);
    assert_eq!(stage.heard().last().map(String::as_str), Some("promote 7"));
}

/// It may have to say that it must never lead.
#[test]
fn a_winner_whose_own_rank_cannot_be_measured_yet_waits_and_one_whose_command_fails_leads() {
    for quorum in [None, Some(1)] {
        let mut stage = Stage::new(Settings { rank: Some(Ranking { quorum, ..ranking() }), ..settings() });
        stage.sees(free());
        stage.opened(1, LEASE);
        stage.acquired(Acquisition::Won(Term(7)));
        stage.heard();
        stage.reads(7, &[]);
        stage.until_renewing(60_000);
        assert!(!stage.heard().iter().any(|heard| heard.starts_with("promote")));
        stage.measured("5");
        assert_eq!(stage.heard().last().map(String::as_str), Some("promote 7"), "{quorum:?}");
    }
    let mut stage = winner(ranked(), "");
    stage.until_renewing(1_000);
    assert_eq!(stage.heard().iter().filter(|heard| *heard == "promote 7").count(), 1);
}

#[test]
fn with_a_quorum_a_winner_waits_until_it_knows_so_many_and_says_so_once() {
    let mut stage = winner(quorum(2), "5");
    stage.reads(7, &[]);
    stage.until_renewing(60_000);
    let heard = stage.heard();
    assert!(heard.iter().all(|heard| heard == "read ranks" || heard == "measure"), "{heard:?}");
    assert_eq!(warnings(&stage), 1, "{:?}", stage.said);
    let waits = stage.core.waits_for_ranks().expect("it waits");
    assert_eq!((waits.known.len(), waits.quorum, waits.own_missing), (1, Some(2), None));
    // It goes on by itself.
    stage.reads(7, &["other 4"]);
    let heard = stage.heard();
    assert_eq!(heard.last().map(String::as_str), Some("promote 7"), "{heard:?}");
    assert!(matches!(stage.said.last(), Some(Notice::RanksKnown { .. })), "{:?}", stage.said);
}

#[test]
fn a_winner_that_waits_knows_why_its_own_rank_is_missing() {
    for (measured, why) in [("", "exited with code 1"), ("never", "by its rank its data must never lead")] {
        let mut stage = winner(quorum(2), measured);
        stage.reads(7, &[]);
        stage.until(500);
        let waits = stage.core.waits_for_ranks().expect("it waits");
        assert_eq!(waits.own_missing.as_deref(), Some(why));
    }
}

#[test]
fn what_was_measured_for_another_term_counts_for_nothing() {
    let mut stage = winner(quorum(2), "5");
    stage.reads(6, &["other 4", "third 9"]);
    stage.until(500);
    assert_eq!(stage.core.waits_for_ranks().expect("it waits").known.len(), 1);
    stage.heard();
    stage.reads(7, &["other 4"]);
    stage.expect(&["guard 9000", "promote 7"]);
}

#[test]
fn whoever_has_nothing_knows_nothing_of_what_others_had() {
    let mut stage = winner(quorum(2), "5");
    stage.reads(7, &["empty never", "broken -"]);
    stage.until(500);
    let waits = stage.core.waits_for_ranks().expect("it waits");
    let missing: Vec<&str> = waits.missing.iter().map(|id| &**id).collect();
    assert_eq!(missing, ["broken", "empty"]);
}

#[test]
fn data_that_must_never_lead_leave_the_lock_to_the_furthest_and_wait_for_one() {
    for settings in [ranked(), quorum(1), quorum(2)] {
        let mut stage = winner(settings, "never");
        stage.reads(7, &["other never"]);
        stage.until_renewing(5_000);
        assert!(!stage.core.is_acting());
        stage.heard();
        stage.reads(7, &["other never", "third 0"]);
        stage.expect(&["release 7 to third"]);
    }
}

#[test]
fn a_winner_that_has_no_rank_leaves_the_lock_to_one_that_has() {
    let mut stage = winner(quorum(2), "");
    stage.reads(7, &["other 1", "third 0"]);
    stage.expect(&["release 7 to other"]);
}

#[test]
fn one_that_is_further_ahead_and_cant_take_the_lock_is_waited_for() {
    let mut stage = winner(quorum(2), "5");
    stage.reads(7, &["behind 4", "maintained 9 not standing"]);
    stage.until_renewing(3_000);
    let ahead = stage.core.waits_for_ranks().and_then(|waits| waits.ahead);
    assert_eq!(ahead.as_deref(), Some("maintained"));
    stage.heard();
    // Nor does one that is only further than we are, and not the furthest, get it.
    stage.reads(7, &["between 6", "maintained 9 not standing"]);
    stage.expect(&[]);
    stage.until_renewing(4_000);
    stage.heard();
    stage.reads(7, &["between 6", "maintained 9"]);
    stage.expect(&["release 7 to maintained"]);
}

#[test]
fn of_thousands_of_ranks_the_highest_are_kept_and_a_few_are_named() {
    let mut stage = winner(quorum(2), "5");
    let flood: Vec<String> = (0..10_000).map(|n| format!("x{n:05} {n} not standing")).collect();
    let flood: Vec<&str> = flood.iter().map(String::as_str).collect();
    stage.reads(7, &flood);
    stage.until_renewing(3_000);
    let waits = stage.core.waits_for_ranks().expect("one is ahead");
    assert_eq!(waits.ahead.as_deref(), Some("x09999"));
    assert!(waits.known.len() < 200 && waits.missing.len() < 200, "{} {}", waits.known.len(), waits.missing.len());
    let [Notice::RanksMissing { known, missing, .. }] = &stage.said[..] else { panic!("{:?}", stage.said) };
    assert!(known.len() < 20 && missing.len() < 20, "{known:?} {missing:?}");
    assert_eq!(known.last().map(String::as_str), Some("113 more"));
}

#[test]
fn who_is_named_must_know_a_quorum_too() {
    let mut stage = Stage::new(quorum(2));
    stage.sees(after(Last { released: true, to: Some("me".into()), ..last("other", 9, 3) }));
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Won(Term(7)));
    stage.expect(&["open", "acquire by 1", "measure", "read ranks"]);
}

#[test]
fn a_person_is_not_taken_at_their_word_before_it_is_known_whether_there_is_anything_to_lead_with() {
    let mut stage = Stage::new(quorum(2));
    stage.sees(after(Last { released: true, ..last("other", 9, 3) }));
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Won(Term(7)));
    stage.expect(&["open", "acquire by 1", "measure", "read ranks"]);
    stage.tell(ElectionEvent::AcceptLoss);
    stage.expect(&[]);
    assert!(!stage.core.accepts_loss());
}

#[test]
fn a_person_can_have_a_winner_lead_that_knows_too_few_but_none_that_has_nothing() {
    let mut stage = winner(quorum(2), "5");
    stage.reads(7, &["ahead 9 not standing"]);
    stage.expect(&[]);
    stage.tell(ElectionEvent::AcceptLoss);
    stage.expect(&["accept loss by 1", "renew 1", "guard 9000", "promote 7"]);
    assert!(stage.core.accepts_loss() && matches!(stage.said.last(), Some(Notice::AcceptsLoss { .. })));

    let mut stage = winner(quorum(2), "never");
    stage.reads(7, &[]);
    stage.tell(ElectionEvent::AcceptLoss);
    stage.expect(&[]);

    // Who holds off must not act, whoever says so.
    let mut stage = Stage::new(quorum(2));
    stage.sees(after(last("other", 9, 3)));
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Won(Term(7)));
    stage.tell(ElectionEvent::AcceptLoss);
    stage.until_renewing(5_000);
    assert!(!stage.core.is_acting());
}

#[test]
fn a_rank_is_measured_once_who_led_before_can_act_no_more() {
    // The winner's own.
    let mut stage = Stage::new(quorum(2));
    stage.sees(after(last("other", 9, 3)));
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Won(Term(7)));
    stage.expect(&["open", "acquire by 1 owing 10101"]);
    stage.until_renewing(10_100);
    stage.expect(&[]);
    stage.until_renewing(10_200);
    stage.expect(&["measure", "read ranks"]);
    // A peer's: by what the winner wrote when it took the lock, and two per cent, for clocks.
    let owing = |owes| {
        let mut view = held("other", 9, 7);
        if let Lock::Held(holder) = &mut view.lock {
            holder.owes = owes;
        }
        view
    };
    let mut peer = Stage::new(quorum(2));
    peer.sees(owing(Some(Duration::from_secs(10))));
    peer.expect(&["publish measuring for 7"]);
    peer.published();
    peer.until(10_199);
    peer.expect(&[]);
    peer.until(10_200);
    peer.expect(&["measure"]);
    peer.measured("12");
    peer.expect(&["publish rank 12 for 7"]);
    // Where it doesn't say, as where it says too much, it waits for what anybody may owe.
    for owes in [None, Some(Duration::MAX)] {
        let mut peer = Stage::new(quorum(2));
        peer.sees(owing(owes));
        peer.heard();
        peer.published();
        peer.until(61_199);
        peer.expect(&[]);
        peer.until(61_200);
        peer.expect(&["measure"]);
    }
}

#[test]
fn a_peer_measures_for_each_winner_and_no_more_once_that_one_acts() {
    let mut stage = Stage::new(ranked());
    stage.sees(held("other", 9, 8));
    stage.expect(&["measure", "publish measuring for 8"]);
    stage.published();
    stage.measured("12");
    stage.expect(&["publish rank 12 for 8"]);
    stage.published();
    stage.until(60_000);
    stage.expect(&[]);
    // And for the next one again; where a quorum is asked for, again and again, for something may be repaired.
    let mut stage = Stage::new(quorum(2));
    stage.sees(held("other", 9, 8));
    stage.published();
    stage.measured("");
    stage.published();
    stage.expect(&["measure", "publish measuring for 8", "publish no rank for 8"]);
    stage.until(5_000);
    stage.measured("3");
    stage.published();
    stage.expect(&["measure", "publish rank 3 for 8"]);
    // Were it the same, for the store forgets it by its time.
    stage.until(10_000);
    stage.measured("3");
    stage.published();
    stage.expect(&["measure", "publish rank 3 for 8"]);
    stage.tell(ElectionEvent::Acts { term: Term(8) });
    stage.until(60_000);
    stage.expect(&[]);
    stage.sees(held("third", 11, 12));
    stage.expect(&["measure", "publish measuring for 12"]);
}

#[test]
fn one_in_maintenance_or_unhealthy_and_one_that_has_just_stepped_down_are_counted_too() {
    for event in [ElectionEvent::Maintenance { on: true }, ElectionEvent::Health { healthy: false }] {
        let mut stage = Stage::new(ranked());
        stage.tell(event);
        stage.sees(held("other", 9, 8));
        stage.published();
        stage.measured("5");
        stage.published();
        stage.expect(&["measure", "publish measuring for 8, not standing", "publish rank 5 for 8, not standing"]);
        stage.tell(ElectionEvent::Maintenance { on: false });
        stage.tell(ElectionEvent::Health { healthy: true });
        stage.expect(&["publish rank 5 for 8"]);
    }
    let mut stage = Stage::new(ranked());
    stage.core.eligibility.stepped_down(stage.time());
    stage.sees(held("other", 9, 8));
    stage.published();
    stage.measured("5");
    stage.published();
    stage.heard();
    stage.until(5_000);
    stage.expect(&["publish rank 5 for 8"]);
}

#[test]
fn a_rank_that_couldnt_be_published_is_published_again() {
    let mut stage = Stage::new(ranked());
    stage.sees(held("other", 9, 8));
    stage.measured("5");
    stage.expect(&["measure", "publish measuring for 8"]);
    // Nobody answers: the next one says what is so by then.
    stage.until(2_500);
    stage.expect(&["publish rank 5 for 8"]);
}

#[test]
fn numbers_are_compared_as_numbers_other_text_byte_by_byte_and_nothing_is_behind_never() {
    let rank = |text: &str| Rank::read(text).expect("a rank");
    let sorted = ["never", "-3", " 7\n", "10", "00000001/0000000A", "00000002/00000001"];
    assert!(sorted.map(rank).is_sorted());
    assert_eq!(rank(" 7\n"), Rank::Number(7));
    for none in ["", " ", "1\n2", "\u{e9}", &"x".repeat(129)] {
        assert_eq!(Rank::read(none), None, "{none:?}");
    }
}
