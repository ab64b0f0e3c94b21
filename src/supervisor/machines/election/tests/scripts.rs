//! What a candidate does when, told as scripts. Times are milliseconds; the lease is ten seconds, of which the last is
//! the kill margin and the one before that for stepping down.

use std::time::Duration;

use super::stage::*;
use crate::supervisor::machines::election::event::{Acquisition, ElectionEvent, Renewal};
use crate::supervisor::machines::election::record::{Guarantee, Last, Lock, Revision, SessionId, Term, View};
use crate::supervisor::machines::election::{Preference, Settings};

fn won() -> Acquisition {
    Acquisition::Won(Term(7))
}

#[test]
fn a_free_lock_is_tried_for_at_once_and_a_first_winner_leads_at_once() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.expect(&["open"]);
    stage.opened(1, LEASE);
    stage.expect(&["acquire by 1"]);
    stage.acquired(won());
    stage.expect(&["guard 9000", "promote 7"]);
}

#[test]
fn a_lock_that_is_held_is_left_alone() {
    let mut stage = Stage::new(settings());
    stage.sees(held("other", 9, 3));
    stage.until(60_000);
    stage.expect(&[]);
    assert_eq!(stage.core.leader().map(|leader| &*leader.id), Some("other"));
}

#[test]
fn who_comes_back_to_a_lock_of_its_life_before_has_that_ended_once() {
    let mut stage = Stage::new(settings());
    stage.sees(held("me", 9, 3));
    stage.expect(&["end former life 9"]);
    stage.sees(held("me", 9, 3));
    stage.expect(&[]);
    // Another's is left alone, and so is one that got our name later: we didn't stand then.
    stage.sees(held("other", 10, 4));
    stage.sees(held("me", 11, 5));
    stage.expect(&[]);
}

#[test]
fn a_lock_that_is_taken_while_the_session_opens_is_not_tried_for() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.expect(&["open"]);
    stage.sees(held("other", 9, 3));
    stage.opened(1, LEASE);
    stage.expect(&["close 1"]);
}

#[test]
fn a_lease_counts_from_before_its_request_was_sent() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.until(1_500);
    stage.acquired(won());
    stage.expect(&["open", "acquire by 1", "renew 1", "guard 9000", "promote 7"]);
    stage.until(2_500);
    stage.renewed(Renewal::Alive(held("me", 1, 7)));
    // It was sent at 1,500.
    stage.expect(&["guard 10500", "renew 1"]);
}

#[test]
fn a_lock_that_could_not_be_given_back_in_an_outage_is_once_it_is_seen_again() {
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::StepDown { to: None });
    stage.tell(ElectionEvent::OutOfRole);
    stage.until(6_000);
    assert_eq!(stage.heard().iter().rev().take(2).map(String::as_str).collect::<Vec<_>>(), ["look", "close 1"]);
    stage.looked(held("me", 1, 7));
    stage.expect(&["release 7"]);
    // As often as it is.
    stage.until(7_000);
    stage.expect(&["look"]);
    stage.looked(held("me", 1, 7));
    stage.expect(&["release 7"]);
    stage.until(8_000);
    stage.looked(held("other", 9, 8));
    stage.until(20_000);
    assert!(!stage.heard().iter().any(|heard| heard.starts_with("release")));
}

/// It never acted, and who led before may still.
#[test]
fn a_forgotten_lock_is_given_back_with_what_is_owed() {
    let mut stage = Stage::new(settings());
    stage.sees(after(last("other", 9, 3)));
    stage.opened(1, LEASE);
    stage.acquired(won());
    stage.until(9_001);
    assert_eq!(stage.heard().last().map(String::as_str), Some("look"));
    stage.looked(held("me", 1, 7));
    let heard = stage.heard();
    assert!(heard.len() == 1 && heard[0].starts_with("release 7 owing 1"), "{heard:?}");
}

/// On the shortest lease that is allowed.
#[test]
fn a_store_that_answers_each_time_as_late_as_it_may_keeps_its_leader() {
    const LATE: u64 = 1_999;
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, Guarantee::For(Duration::from_nanos(7_070_707_072)));
    stage.until(LATE);
    stage.acquired(Acquisition::Won(Term(7)));
    stage.expect(&["open", "acquire by 1", "renew 1", "guard 6000", "promote 7"]);
    for answer in 2..20 {
        stage.until(answer * LATE);
        stage.renewed(Renewal::Alive(held("me", 1, 7)));
        assert!(!stage.heard().iter().any(|heard| heard.starts_with("demote")), "after {answer} answers");
    }
}

#[test]
fn a_silent_engine_demotes_before_the_kill_and_kills_before_another_may_lead() {
    let mut stage = Stage::leading(settings());
    stage.until(7_999);
    assert!(stage.heard().iter().all(|order| order.starts_with("renew")));
    stage.until(8_001);
    stage.expect(&["demote by 9000: the catalog hasn't confirmed the lease in time"]);
    stage.until(9_500);
    assert!(stage.heard().contains(&"kill".to_owned()));
    stage.tell(ElectionEvent::OutOfRole);
    stage.expect(&["guard off", "close 1", "look"]);
}

#[test]
fn errors_of_the_engine_end_nothing_before_the_deadline() {
    let mut stage = Stage::leading(settings());
    for second in 1..8 {
        stage.until(second * 1000);
        stage.renewed(Renewal::Unknown("403".to_owned()));
        stage.expect(&["renew 1"]);
    }
}

#[test]
fn a_renewal_that_doesnt_show_our_term_on_the_key_counts_for_nothing() {
    let mut stage = Stage::leading(settings());
    stage.until(1_000);
    stage.heard();
    stage.renewed(Renewal::Alive(after(last("me", 1, 7))));
    stage.expect(&["demote by 9000: the lock is somebody else's or nobody's"]);
    stage.until(5_000);
    stage.expect(&[]);
}

#[test]
fn a_lost_lock_demotes_at_once_and_isnt_released() {
    let mut stage = Stage::leading(settings());
    stage.until(1_000);
    stage.heard();
    stage.renewed(Renewal::Gone { void: true });
    stage.expect(&["demote by 9000: the lock is somebody else's or nobody's", "kill"]);
    stage.tell(ElectionEvent::OutOfRole);
    stage.expect(&["guard off", "close 1", "look"]);
}

#[test]
fn a_lease_ended_by_hand_kills_at_once_for_nobody_holds_off_for_it() {
    let mut stage = Stage::leading(settings());
    let ended = after(Last { ended: true, ..last("me", 1, 7) });
    stage.sees(ended);
    stage.expect(&["demote by 9000: the lock is somebody else's or nobody's", "kill"]);
}

#[test]
fn a_lock_held_by_another_kills_at_once() {
    let mut stage = Stage::leading(settings());
    stage.sees(held("other", 9, 8));
    stage.expect(&["demote by 9000: the lock is somebody else's or nobody's", "kill"]);
}

#[test]
fn a_view_from_before_the_term_takes_nothing_away() {
    let mut stage = Stage::leading(settings());
    stage.sees(free());
    stage.expect(&[]);
}

#[test]
fn an_acquire_of_unknown_outcome_is_read_back_and_adopted() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.heard();
    stage.until(500);
    stage.acquired(Acquisition::Unknown("timeout".to_owned()));
    stage.expect(&["look"]);
    stage.looked(held("me", 1, 7));
    stage.expect(&["guard 9000", "promote 7"]);
}

#[test]
fn an_acquire_that_may_still_arrive_costs_its_session() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Unknown("timeout".to_owned()));
    stage.heard();
    stage.looked(free());
    stage.expect(&["close 1"]);
    stage.until(600);
    stage.expect(&["open"]);
}

#[test]
fn an_acquire_without_an_answer_is_read_back_until_it_is_known() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.expect(&["open", "acquire by 1"]);
    stage.until(2_000);
    stage.expect(&["look"]);
    stage.until(5_001);
    stage.expect(&["look"]);
    // Of the first question.
    stage.acquired(won());
    stage.expect(&[]);
    stage.looked(held("me", 1, 7));
    // Less than three seconds of lease are left, too few to begin with.
    stage.expect(&["renew 1"]);
}

#[test]
fn a_lock_deleted_by_hand_is_held_off_for_what_its_holder_was_promised() {
    let mut stage = Stage::new(settings());
    stage.sees(after(last("other", 9, 3)));
    stage.opened(1, LEASE);
    stage.acquired(won());
    stage.expect(&["open", "acquire by 1 owing 10101"]);
    stage.until_renewing(10_101);
    stage.expect(&[]);
    stage.until_renewing(10_102);
    assert_eq!(stage.heard().last().map(String::as_str), Some("promote 7"));
}

#[test]
fn one_that_gives_up_while_it_holds_off_tells_its_successor_to_go_on_holding_off() {
    let mut stage = Stage::new(settings());
    stage.sees(after(last("other", 9, 3)));
    stage.opened(1, LEASE);
    stage.acquired(won());
    stage.heard();
    stage.tell(ElectionEvent::Maintenance { on: true });
    stage.expect(&["release 7 owing 10101"]);
    let mut successor = Stage::new(settings());
    let hold_off_left = Duration::from_millis(10_101);
    successor.sees(after(Last { released: true, hold_off_left, ..last("first", 4, 5) }));
    successor.opened(1, LEASE);
    successor.expect(&["open", "acquire by 1 owing 10101"]);
}

#[test]
fn nobody_is_held_off_for_one_that_released_or_whose_lease_is_over() {
    let released = after(Last { released: true, ..last("other", 9, 3) });
    let ended = after(Last { ended: true, ..last("other", 9, 3) });
    for view in [released, ended] {
        let mut stage = Stage::new(settings());
        stage.sees(view);
        stage.opened(1, LEASE);
        stage.acquired(won());
        stage.expect(&["open", "acquire by 1", "guard 9000", "promote 7"]);
    }
}

#[test]
fn a_lock_that_a_person_made_anew_is_held_off_for() {
    let mut stage = Stage::new(settings());
    // The key is there, but the session in its value isn't the one that led last.
    let lock = Lock::Free { version: Revision(4), taken_from: None };
    stage.sees(View { lock, ..after(last("other", 9, 3)) });
    stage.opened(1, LEASE);
    stage.expect(&["open", "acquire by 1 owing 10101"]);
}

#[test]
fn stepping_down_demotes_then_releases_and_leaves_the_lock_to_others() {
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::StepDown { to: Some("other".into()) });
    stage.expect(&["demote by 9000: asked to"]);
    stage.until_renewing(20_000);
    stage.expect(&[]);
    stage.tell(ElectionEvent::OutOfRole);
    stage.expect(&["guard off", "release 7 to other"]);
    stage.released();
    stage.expect(&["close 1", "look"]);
    let released = Last { released: true, to: Some("other".into()), ..last("me", 1, 7) };
    stage.looked(after(released));
    stage.until(24_999);
    stage.expect(&[]);
    stage.until(25_000);
    stage.expect(&["open"]);
}

#[test]
fn the_one_named_as_successor_stands_at_once_and_others_wait() {
    let handed = |to: &str| after(Last { released: true, to: Some(to.into()), ..last("other", 9, 3) });
    let mut handed_to_us = Stage::new(Settings { prefer: Preference::Low, ..settings() });
    handed_to_us.sees(handed("me"));
    handed_to_us.expect(&["open"]);
    let mut other = Stage::new(settings());
    other.sees(handed("third"));
    other.until(4_999);
    other.expect(&[]);
    other.until(5_000);
    other.expect(&["open"]);
}

/// It stepped down for another one, a lease that ended made it pause, or both; then the lock is handed back to it.
#[test]
fn a_lock_that_is_handed_back_ends_the_pause_after_a_step_down_and_no_other() {
    let handed_back =
        || View { at: 12, ..after(Last { released: true, to: Some("me".into()), ..last("other", 9, 9) }) };
    let mut stage = handing_over();
    stage.heard();
    stage.sees(View { at: 10, ..held("other", 9, 9) });
    stage.until(22_000);
    stage.sees(handed_back());
    stage.expect(&["open"]);
    // One that fell unhealthy may be no better by then.
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::Health { healthy: false });
    stage.tell(ElectionEvent::OutOfRole);
    stage.released();
    stage.tell(ElectionEvent::Health { healthy: true });
    stage.looked(View { at: 10, ..held("other", 9, 9) });
    stage.heard();
    stage.sees(handed_back());
    stage.expect(&[]);
}

#[test]
fn a_low_candidate_waits_two_seconds_and_one_that_never_stands_for_ever() {
    let mut low = Stage::new(Settings { prefer: Preference::Low, ..settings() });
    low.sees(free());
    low.until(1_999);
    low.expect(&[]);
    low.until(2_000);
    low.expect(&["open"]);
    let mut never = Stage::new(Settings { prefer: Preference::Never, ..settings() });
    never.sees(free());
    never.until(100_000);
    never.expect(&[]);
    assert!(never.core.is_settled());
}

#[test]
fn one_that_isnt_ready_leaves_the_lock_to_those_who_are_for_two_seconds() {
    let free_again = || after(Last { released: true, ..last("other", 9, 3) });
    let mut stage = Stage::new(settings());
    stage.tell(ElectionEvent::Ready { ready: false });
    stage.sees(free_again());
    stage.until(1_999);
    stage.expect(&[]);
    stage.until(2_000);
    stage.expect(&["open"]);

    // It needs no longer wait once it is.
    let mut stage = Stage::new(settings());
    stage.tell(ElectionEvent::Ready { ready: false });
    stage.sees(free_again());
    stage.until(1_000);
    stage.tell(ElectionEvent::Ready { ready: true });
    stage.expect(&["open"]);
}

#[test]
fn where_nobody_has_led_or_it_was_named_one_that_isnt_ready_stands_at_once() {
    let handed_to_us = after(Last { released: true, to: Some("me".into()), ..last("other", 9, 3) });
    for view in [free(), handed_to_us] {
        let mut stage = Stage::new(settings());
        stage.tell(ElectionEvent::Ready { ready: false });
        stage.sees(view);
        stage.expect(&["open"]);
    }
}

/// It stepped down for another one, and sees the lock free.
fn handing_over() -> Stage {
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::StepDown { to: Some("other".into()) });
    stage.tell(ElectionEvent::OutOfRole);
    stage.released();
    stage.looked(after(Last { released: true, to: Some("other".into()), ..last("me", 1, 7) }));
    stage
}

#[test]
fn a_handover_that_nobody_takes_is_told_of() {
    let failed = |stage: &Stage| stage.said.iter().filter(|said| said.name() == "election.handover_failed").count();
    let mut stage = handing_over();
    stage.until(4_900);
    assert_eq!(failed(&stage), 0);
    stage.until(5_000);
    assert_eq!(failed(&stage), 1);

    let mut stage = handing_over();
    stage.sees(held("third", 5, 8));
    stage.until(9_000);
    assert_eq!(failed(&stage), 1);

    let mut stage = handing_over();
    stage.sees(held("other", 5, 8));
    stage.until(9_000);
    assert_eq!(failed(&stage), 0);
}

/// Its time is told by a clock that went on while the host slept, whatever the timers that wait for it say.
#[test]
fn an_answer_that_comes_after_a_sleep_longer_than_a_request_may_take_counts_for_nothing() {
    let mut stage = Stage::leading(settings());
    stage.until(1_000);
    stage.expect(&["renew 1"]);
    let ask = stage.last_ask();
    stage.sleeps_until(3_100);
    stage.tell(ElectionEvent::Renewed { ask, result: Renewal::Alive(held("me", 1, 7)) });
    stage.expect(&["renew 1"]);
    stage.renewed(Renewal::Alive(held("me", 1, 7)));
    stage.expect(&["guard 12100"]);
}

#[test]
fn a_handover_that_came_to_nothing_on_the_way_is_told_of() {
    let failed = |stage: &Stage| stage.said.iter().filter(|said| said.name() == "election.handover_failed").count();
    // The lock goes before main is out of the role.
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::StepDown { to: Some("other".into()) });
    stage.sees(after(last("me", 1, 7)));
    stage.tell(ElectionEvent::OutOfRole);
    assert_eq!(failed(&stage), 1);

    // Nobody knows whether it was released.
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::StepDown { to: Some("other".into()) });
    stage.tell(ElectionEvent::OutOfRole);
    stage.until(4_900);
    assert_eq!(failed(&stage), 0);
    stage.until(5_000);
    assert_eq!(failed(&stage), 1);
}

#[test]
fn an_unhealthy_candidate_doesnt_stand_and_an_unhealthy_leader_steps_down() {
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::Health { healthy: false });
    stage.expect(&["demote by 9000: main is unhealthy"]);
    stage.tell(ElectionEvent::OutOfRole);
    stage.released();
    stage.heard();
    stage.looked(after(Last { released: true, ..last("me", 1, 7) }));
    stage.until(60_000);
    stage.expect(&[]);
    stage.tell(ElectionEvent::Health { healthy: true });
    stage.expect(&["open"]);
}

#[test]
fn a_promotion_that_fails_is_taken_back_and_tried_again_later() {
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::Promoted { result: Err("exited with code 1".to_owned()) });
    stage.expect(&["demote by 9000: on_promote failed: exited with code 1"]);
    stage.tell(ElectionEvent::OutOfRole);
    stage.released();
    stage.expect(&["guard off", "release 7", "close 1", "look"]);
    stage.looked(after(Last { released: true, ..last("me", 1, 7) }));
    stage.expect(&[]);
    stage.until(1_000);
    stage.expect(&["open"]);
}

#[test]
fn mains_own_end_releases_the_lock_at_once() {
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::OutOfRole);
    stage.expect(&["guard off", "release 7"]);
}

#[test]
fn a_stop_releases_after_the_demotion_and_then_wants_nothing_more() {
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::Stop);
    stage.expect(&["demote by 9000: the container stops"]);
    assert!(!stage.core.is_over());
    stage.tell(ElectionEvent::OutOfRole);
    stage.released();
    stage.expect(&["guard off", "release 7", "close 1"]);
    assert!(stage.core.is_over());
    stage.sees(after(Last { released: true, ..last("me", 1, 7) }));
    stage.until(60_000);
    stage.expect(&[]);
}

#[test]
fn a_stop_while_acquiring_closes_the_session() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.heard();
    stage.tell(ElectionEvent::Stop);
    stage.expect(&["close 1"]);
    stage.acquired(won());
    stage.expect(&[]);
    assert!(stage.core.is_over());
}

#[test]
fn without_a_guard_nobody_stands_and_no_renewal_counts() {
    let mut stage = Stage::new(settings());
    stage.tell(ElectionEvent::Guard { stands: false });
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.expect(&["open", "close 1"]);

    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::Guard { stands: false });
    stage.until(1_000);
    stage.renewed(Renewal::Alive(held("me", 1, 7)));
    stage.expect(&["renew 1"]);
}

#[test]
fn a_kernel_lock_needs_no_guard_and_has_no_deadline() {
    let mut stage = Stage::new(settings());
    stage.tell(ElectionEvent::Guard { stands: false });
    stage.sees(free());
    stage.opened(1, Guarantee::WhileAlive { linger: Duration::ZERO });
    stage.acquired(won());
    stage.expect(&["open", "acquire by 1", "guard while it lives", "promote 7"]);
    stage.until(600_000);
    let said = |order: &String| order.starts_with("renew") || order == "guard while it lives";
    assert!(stage.heard().iter().all(said));
}

#[test]
fn an_engine_that_promises_too_little_is_refused_with_the_sum() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, Guarantee::For(Duration::from_secs(7)));
    stage.expect(&["open", "close 1"]);
    assert!(stage.said[0].to_string().contains("6s 930ms"), "{}", stage.said[0]);
    assert!(stage.said[0].to_string().contains("a leader needs 7s"), "{}", stage.said[0]);
}

#[test]
fn an_agent_that_slept_past_its_deadline_is_no_leader_whatever_the_answer_says() {
    let mut stage = Stage::leading(settings());
    stage.until(1_000);
    stage.heard();
    stage.sleeps_until(9_001);
    stage.renewed(Renewal::Alive(held("me", 1, 7)));
    stage.expect(&["demote by 9000: this container stood still past its lease's end", "kill"]);
    assert!(stage.said.iter().any(|said| said.to_string().contains("stood still")), "and why is said");
    stage.tell(ElectionEvent::OutOfRole);
    stage.expect(&["guard off", "close 1", "look"]);
}

#[test]
fn a_term_that_went_back_is_given_back_until_a_person_accepts_it() {
    let mut stage = Stage::new(settings());
    stage.sees(held("other", 9, 30));
    // An older revision may be late news; a read asked for now is not.
    stage.sees(free());
    stage.expect(&["look"]);
    stage.looked(free());
    // It goes back after that.
    stage.opened_at(1, LEASE, 30);
    stage.acquired(won());
    stage.expect(&["open", "acquire by 1", "release 7"]);
    stage.released();
    stage.heard();
    stage.looked(after(Last { released: true, ..last("me", 1, 7) }));
    stage.until(60_000);
    stage.expect(&[]);
    stage.tell(ElectionEvent::AcceptTerm);
    stage.expect(&["open"]);
}

#[test]
fn a_candidate_that_will_not_lead_by_what_the_store_counts_takes_no_lock() {
    let mut stage = Stage::new(settings());
    stage.sees(held("other", 9, 30));
    stage.sees(free());
    stage.looked(free());
    stage.opened(1, LEASE);
    stage.expect(&["look", "open", "close 1"]);
    assert!(stage.core.refuses() && stage.said.iter().any(|said| said.name() == "election.term_went_back"));
    stage.until(60_000);
    stage.expect(&[]);
    stage.tell(ElectionEvent::AcceptTerm);
    stage.expect(&["open"]);

    // One that has restored its keys, and counts on: by when the session was opened that is known.
    let mut stage = Stage::new(settings());
    stage.sees(held("other", 9, 30));
    stage.sees(free());
    stage.looked(free());
    stage.opened_at(1, LEASE, 30);
    stage.acquired(Acquisition::Won(Term(31)));
    stage.expect(&["look", "open", "acquire by 1", "guard 9000", "promote 31"]);
}

#[test]
fn the_watch_may_show_our_own_term_before_the_answer_does() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.heard();
    stage.sees(held("me", 1, 7));
    stage.acquired(won());
    stage.expect(&["guard 9000", "promote 7"]);
}

#[test]
fn while_the_engine_holds_everyone_back_it_is_asked_again_soon() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::HeldBack);
    stage.expect(&["open", "acquire by 1"]);
    stage.until(249);
    stage.expect(&[]);
    stage.until(500);
    stage.expect(&["acquire by 1"]);
}

#[test]
fn a_candidate_that_saw_the_engine_take_the_lock_asks_rarely_until_it_gives_it_back() {
    let taken = |from: u128| {
        let lock = Lock::Free { version: Revision(4), taken_from: Some(SessionId(from)) };
        View { lock, ..after(last("other", from, 3)) }
    };
    let acquires = |stage: &mut Stage, from: u64, until: u64| {
        let mut tries = Vec::new();
        for millis in (from..=until).step_by(10) {
            stage.until(millis);
            for order in stage.heard() {
                match order.as_str() {
                    // As old as that it holds nothing for long.
                    "open" => stage.opened(u128::from(millis), LEASE),
                    order if order.starts_with("acquire") => {
                        tries.push(millis);
                        stage.acquired(Acquisition::HeldBack);
                    }
                    _ => {}
                }
            }
        }
        tries
    };
    let mut stage = Stage::new(settings());
    stage.sees(held("other", 9, 3));
    stage.sees(taken(9));
    // Ten seconds, and two hundred others that ask as well.
    let tries = acquires(&mut stage, 0, 9_500);
    assert!(tries[0] <= 20 && tries.len() <= 5, "{tries:?}");
    assert!(tries[1..].iter().all(|at| *at >= 5_000), "{tries:?}");
    // What was promised is about over.
    let tries = acquires(&mut stage, 9_510, 12_000);
    assert!(tries.iter().zip(&tries[1..]).all(|(one, next)| next - one <= 510), "{tries:?}");

    // One that came later doesn't know since when, nor one for which the lock was another's before.
    for seen in [None, Some(8)] {
        let mut stage = Stage::new(settings());
        if let Some(session) = seen {
            stage.sees(View { at: 2, ..held("another", session, 2) });
        }
        stage.sees(taken(9));
        let tries = acquires(&mut stage, 0, 9_500);
        assert!(tries.iter().zip(&tries[1..]).all(|(one, next)| next - one <= 510), "{tries:?}");
    }
}

#[test]
fn a_release_of_unknown_outcome_is_tried_again_and_given_up_in_time() {
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::OutOfRole);
    stage.expect(&["guard off", "release 7"]);
    stage.tell(ElectionEvent::Released { ask: stage.last_ask(), result: Err("cut".to_owned()) });
    stage.until(250);
    stage.expect(&["release 7"]);
    stage.until(5_000);
    assert_eq!(stage.heard().iter().filter(|order| *order == "close 1").count(), 1);
}

#[test]
fn a_term_that_went_back_below_our_own_is_given_back_too() {
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::OutOfRole);
    stage.released();
    stage.heard();
    stage.looked(free());
    stage.until(1_000);
    stage.opened_at(2, LEASE, 7);
    stage.acquired(Acquisition::Won(Term(7)));
    stage.expect(&["open", "acquire by 2", "release 7"]);
}

#[test]
fn to_hold_the_lock_and_not_to_act_yet_is_no_first_result() {
    let mut stage = Stage::new(settings());
    assert!(!stage.core.is_settled());
    stage.sees(after(last("other", 9, 3)));
    stage.opened(1, LEASE);
    stage.acquired(won());
    stage.sees(held("me", 1, 7));
    assert!(!stage.core.is_settled(), "it holds off");
    assert_eq!(stage.core.follows(), None);
    assert!(stage.core.leader().is_some());
    stage.until_renewing(10_102);
    assert!(stage.core.is_settled() && stage.core.is_acting());
}

#[test]
fn one_that_another_leads_is_settled_and_one_that_sees_its_own_earlier_life_is_not() {
    let mut stage = Stage::new(settings());
    stage.sees(held("me", 4, 3));
    assert!(!stage.core.is_settled());
    stage.sees(held("other", 9, 5));
    assert!(stage.core.is_settled());
    assert_eq!(stage.core.follows().map(|leader| &*leader.id), Some("other"));
}

#[test]
fn one_that_turns_unhealthy_on_its_way_to_the_lock_leaves_it() {
    // While its session is opened.
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.tell(ElectionEvent::Maintenance { on: true });
    stage.opened(1, LEASE);
    stage.until(60_000);
    stage.expect(&["open", "close 1"]);
    stage.tell(ElectionEvent::Maintenance { on: false });
    stage.expect(&["open"]);
}

#[test]
fn one_that_turns_unhealthy_while_it_acquires_gives_back_what_it_wins() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.tell(ElectionEvent::Health { healthy: false });
    stage.expect(&["open", "acquire by 1"]);
    stage.acquired(won());
    stage.expect(&["release 7"]);

    // Nobody knows whether it won: it is read back first, as ever.
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.tell(ElectionEvent::Health { healthy: false });
    stage.acquired(Acquisition::Unknown("cut".to_owned()));
    stage.expect(&["open", "acquire by 1", "look"]);
    stage.looked(held("me", 1, 7));
    stage.expect(&["release 7"]);

    // It lost: it doesn't try again.
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.tell(ElectionEvent::Health { healthy: false });
    stage.acquired(Acquisition::HeldBack);
    stage.until(60_000);
    stage.expect(&["open", "acquire by 1"]);
}

#[test]
fn a_stop_waits_for_nothing_that_was_only_begun() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Unknown("cut".to_owned()));
    stage.heard();
    stage.tell(ElectionEvent::Stop);
    stage.expect(&["close 1"]);
    assert!(stage.core.is_over());
    assert_eq!(stage.core.deadline(), None);
}

#[test]
fn old_news_neither_makes_nor_unmakes_a_leader() {
    let mut stage = Stage::new(settings());
    stage.sees(held("other", 9, 8));
    // From before: it costs a read, to know that the store hasn't gone back.
    stage.sees(after(Last { released: true, ..last("first", 4, 5) }));
    stage.expect(&["look"]);
    assert_eq!(stage.core.leader().map(|leader| &*leader.id), Some("other"));
    stage.looked(held("other", 9, 8));
    stage.until(60_000);
    stage.expect(&[]);

    // A read that was asked for before the watch told something newer is asked for again.
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::OutOfRole);
    stage.released();
    stage.heard();
    let asked = stage.last_ask();
    stage.sees(after(Last { released: true, ..last("other", 9, 12) }));
    stage.tell(ElectionEvent::Looked { ask: asked, result: Ok(held("other", 9, 12)) });
    stage.expect(&["look"]);
    assert_eq!(stage.core.leader(), None);
}

#[test]
fn a_read_that_nobody_answers_is_asked_for_until_somebody_does() {
    let mut stage = Stage::leading(settings());
    stage.tell(ElectionEvent::OutOfRole);
    stage.released();
    stage.expect(&["guard off", "release 7", "close 1", "look"]);
    // The watch told that it is free while it was released, and doesn't say so twice.
    stage.tell(ElectionEvent::Looked { ask: stage.last_ask(), result: Err("cut".to_owned()) });
    stage.until(1_000);
    stage.expect(&["look"]);
    stage.until(4_000);
    stage.expect(&["look"]);
    stage.looked(after(Last { released: true, ..last("me", 1, 7) }));
    stage.expect(&["open"]);
}

#[test]
fn a_lock_won_and_lost_before_the_answer_came_is_no_lock() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.heard();
    stage.sees(held("other", 9, 9));
    stage.acquired(won());
    stage.expect(&["close 1", "look"]);
}

#[test]
fn a_hold_off_begins_when_the_lock_of_the_one_who_led_last_was_seen_free() {
    let mut stage = Stage::new(Settings { prefer: Preference::Low, ..settings() });
    stage.sees(after(last("first", 4, 3)));
    stage.until(1_500);
    // Another took it and lost it, and this candidate saw only the end.
    stage.sees(after(last("other", 9, 5)));
    stage.until(3_500);
    stage.opened(1, LEASE);
    stage.expect(&["open", "acquire by 1 owing 8101"]);
}

#[test]
fn who_comes_too_late_for_a_lock_leaves_it_to_the_one_it_was_handed_to() {
    let handed = || after(Last { released: true, to: Some("third".into()), ..last("other", 9, 3) });
    // The lock it tried for was taken and handed over meanwhile.
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Changed);
    stage.heard();
    stage.looked(handed());
    stage.until(4_999);
    stage.expect(&[]);
    stage.until(5_000);
    // What was opened for the first try is too old by now.
    stage.expect(&["close 1", "open"]);

    // It was handed over while a session was opened.
    let mut stage = Stage::new(settings());
    stage.sees(free());
    stage.sees(handed());
    stage.opened(1, LEASE);
    stage.until(4_999);
    stage.expect(&["open"]);
    stage.until(5_000);
    stage.expect(&["close 1", "open"]);

    // A low one leaves it to the others, too.
    let mut low = Stage::new(Settings { prefer: Preference::Low, ..settings() });
    low.sees(handed());
    low.until(6_999);
    low.expect(&[]);
    low.until(7_000);
    low.expect(&["open"]);
}

/// How long it is from the end of a term until it stands again.
fn pause_after(stage: &mut Stage, term: u64) -> u64 {
    stage.tell(ElectionEvent::OutOfRole);
    stage.released();
    stage.heard();
    stage.looked(after(Last { released: true, ..last("me", 1, term) }));
    let from = stage.millis();
    while stage.heard().is_empty() {
        stage.until(stage.millis() + 50);
    }
    stage.millis() - from
}

#[test]
fn a_leadership_that_comes_to_nothing_pauses_longer_each_time_until_one_lasts() {
    let mut stage = Stage::leading(settings());
    let mut pauses = vec![pause_after(&mut stage, 7)];
    for term in [17, 27, 37, 47, 57, 67] {
        stage.opened(1, LEASE);
        stage.acquired(Acquisition::Won(Term(term)));
        pauses.push(pause_after(&mut stage, term));
    }
    for (failures, pause) in pauses.iter().enumerate() {
        let most = (1_000 << failures).min(30_000);
        assert!((most / 2..=most + 50).contains(pause), "{pauses:?}");
    }

    let mut stage = Stage::leading(settings());
    stage.core.eligibility.failures = 6;
    stage.until_renewing(61_000);
    let pause = pause_after(&mut stage, 7);
    assert!(pause <= 1_050, "{pause}");
}

#[test]
fn a_lock_that_was_released_while_it_was_asked_for_is_asked_for_again_at_once() {
    let mut stage = Stage::new(settings());
    stage.sees(View { last_revision: Revision(5), ..after(last("other", 9, 5)) });
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Changed);
    stage.expect(&["open", "acquire by 1 owing 10101", "look"]);
    let released = Last { released: true, ..last("other", 9, 5) };
    stage.looked(View { at: 6, last_revision: Revision(6), ..after(released.clone()) });
    stage.expect(&["acquire by 1"]);
    // What is as it was asked for is no news.
    stage.acquired(Acquisition::Changed);
    stage.expect(&["look"]);
    stage.looked(View { at: 6, last_revision: Revision(6), ..after(released) });
    stage.until(240);
    stage.expect(&[]);
    stage.until(500);
    stage.expect(&["acquire by 1"]);
}

#[test]
fn a_lock_held_under_our_id_by_another_container_is_left_to_it_and_followed() {
    let mut stage = Stage::new(settings());
    stage.tell(ElectionEvent::IdShared { shared: true });
    stage.sees(held("me", 9, 3));
    stage.until(200_000);
    stage.expect(&[]);
    assert_eq!(stage.core.follows().map(|holder| holder.session), Some(SessionId(9)));
    assert!(stage.core.is_settled());
    let said: Vec<_> = stage.said.iter().map(|notice| notice.name()).collect();
    assert_eq!(said, ["election.id_shared"]);
    // It is gone, and its lock free.
    stage.tell(ElectionEvent::IdShared { shared: false });
    stage.sees(after(Last { released: true, ..last("me", 9, 3) }));
    stage.expect(&["open"]);
}

#[test]
fn a_life_before_that_outlasts_all_that_one_can_is_told_of_once() {
    let mut stage = Stage::new(settings());
    // No store says beside a held lock what its holder was promised.
    let unsaid = || View { last: None, ..held("me", 9, 3) };
    stage.sees(unsaid());
    stage.expect(&["end former life 9"]);
    let said = |stage: &Stage| stage.said.iter().map(|notice| notice.name()).collect::<Vec<_>>();
    // The lease that this one asks for, and what a dead session may outlast it by.
    stage.until(31_900);
    assert_eq!(said(&stage), ["election.former_life"]);
    stage.until(32_100);
    assert_eq!(said(&stage), ["election.former_life", "election.id_shared"]);
    assert!(stage.core.follows().is_none());
    // A kernel takes back what a dead container held.
    let mut stage = Stage::new(Settings { lease: None, ..settings() });
    stage.sees(unsaid());
    stage.until(9_900);
    assert_eq!(said(&stage), ["election.former_life"]);
    stage.until(10_100);
    assert_eq!(said(&stage), ["election.former_life", "election.id_shared"]);
}

#[test]
fn what_keeps_the_lock_from_being_taken_is_told_until_it_is_or_nobody_wants_it() {
    let fails = || Acquisition::Unknown("the disk is full".to_owned());
    let failing = || {
        let mut stage = Stage::new(settings());
        stage.sees(free());
        stage.opened(1, LEASE);
        stage.acquired(fails());
        // It can be read, and a session can be opened, all the time.
        stage.looked(free());
        assert_eq!(stage.core.error(), Some("the disk is full"));
        stage.until(600);
        stage.sees(free());
        stage.opened(2, LEASE);
        assert_eq!(stage.core.error(), Some("the disk is full"));
        stage
    };
    let mut stage = failing();
    stage.acquired(fails());
    stage.looked(free());
    assert_eq!(stage.core.error(), Some("the disk is full"));
    // Once another has it nobody is kept from anything.
    stage.sees(held("other", 9, 3));
    assert_eq!(stage.core.error(), None);

    let mut stage = failing();
    stage.acquired(won());
    assert_eq!(stage.core.error(), None);
    stage.until(1_700);
    stage.renewed(Renewal::Unknown("the disk is full".to_owned()));
    stage.sees(held("me", 2, 7));
    assert_eq!(stage.core.error(), Some("the disk is full"));
    stage.until(2_900);
    stage.renewed(Renewal::Alive(held("me", 2, 7)));
    assert_eq!(stage.core.error(), None);

    let mut stage = failing();
    stage.acquired(fails());
    stage.looked(free());
    stage.tell(ElectionEvent::Maintenance { on: true });
    assert_eq!(stage.core.error(), None);
}
