//! What stores do and say that isn't so: each as a short script.

use std::time::Duration;

use super::stage::*;
use crate::supervisor::machines::election::event::{Acquisition, ElectionEvent, Renewal};
use crate::supervisor::machines::election::record::{Guarantee, Last, Lock, Revision, SessionId, Term, View};
use crate::supervisor::machines::election::{Preference, Settings};

/// Consul's session 9, of the term 3, has ended: its key is there, and nobody holds it.
fn taken() -> View {
    View { lock: Lock::Free { version: Revision(4), taken_from: Some(SessionId(9)) }, ..after(last("other", 9, 3)) }
}

#[test]
fn a_winner_waits_itself_though_the_engine_may_have_waited_for_it() {
    let mut stage = Stage::new(settings());
    stage.sees(taken());
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Won(Term(7)));
    stage.expect(&["open", "acquire by 1 owing 10101"]);
}

#[test]
fn who_saw_the_lock_fall_free_loses_nothing_by_waiting_itself() {
    let mut stage = Stage::new(settings());
    stage.sees(held("other", 9, 3));
    stage.sees(taken());
    let mut led = None;
    for millis in (0..=11_000).step_by(10) {
        stage.until(millis);
        for order in stage.heard() {
            match order.as_str() {
                "open" => stage.opened(u128::from(millis) + 1, LEASE),
                order if order.starts_with("acquire") && millis < 10_101 => stage.acquired(Acquisition::HeldBack),
                order if order.starts_with("acquire") => stage.acquired(Acquisition::Won(Term(7))),
                order if order.starts_with("promote") => led = Some(millis),
                _ => {}
            }
        }
        if led.is_some() {
            break;
        }
    }
    // The half second between two tries, and nothing else.
    assert!(led.is_some_and(|led| led <= 10_620), "{led:?}");
}

#[test]
fn a_lock_read_before_last_was_written_begins_no_vacancy() {
    let mut stage = Stage::new(settings());
    // The lock as of index 4; `last` as of 5, when another had won it.
    stage.sees(View { last: Some(last("other", 9, 5)), last_revision: Revision(5), ..taken() });
    stage.expect(&["look"]);
    // And again.
    stage.looked(View { last: Some(last("other", 9, 5)), last_revision: Revision(5), ..taken() });
    stage.expect(&["look"]);
    stage.looked(held("other", 9, 5));
    stage.until(9_000);
    stage.expect(&[]);
    // A person deletes it; its holder renewed until now.
    stage.sees(View { at: 20, ..after(last("other", 9, 5)) });
    stage.opened(1, LEASE);
    stage.expect(&["open", "acquire by 1 owing 10101"]);
}

#[test]
fn an_engine_that_knows_no_session_is_asked_for_the_lock_before_that_is_believed() {
    let mut stage = Stage::leading(settings());
    stage.until(1_000);
    stage.renewed(Renewal::Gone { void: false });
    stage.expect(&["renew 1", "look"]);
    // It had just been restarted.
    stage.looked(held("me", 1, 7));
    stage.until(2_000);
    stage.expect(&["renew 1"]);
    // And this time it is so.
    stage.renewed(Renewal::Gone { void: false });
    stage.expect(&["look"]);
    stage.looked(View { at: 9, ..after(last("me", 1, 7)) });
    stage.expect(&["demote by 9000: the lock is somebody else's or nobody's"]);
}

#[test]
fn one_that_knows_no_session_and_no_lock_takes_nothing_away_while_it_replays() {
    let mut stage = Stage::leading(settings());
    stage.until(1_000);
    stage.renewed(Renewal::Gone { void: false });
    stage.looked(View { at: 3, ..free() });
    stage.heard();
    stage.until(2_000);
    stage.expect(&["renew 1"]);
}

#[test]
fn a_low_candidate_counts_its_pause_from_when_others_can_have_the_lock() {
    for seen in [true, false] {
        let mut low = Stage::new(Settings { prefer: Preference::Low, ..settings() });
        if seen {
            low.sees(held("other", 9, 3));
        }
        low.sees(taken());
        // The lock delay, and two seconds.
        low.until(12_101);
        low.expect(&[]);
        low.until(12_102);
        low.expect(&["open"]);
    }
}

#[test]
fn one_that_the_lock_is_handed_to_stands_before_it_has_measured_its_rank() {
    let mut stage = Stage::new(Settings { rank: Some(ranking()), ..settings() });
    stage.sees(after(Last { released: true, to: Some("me".into()), ..last("other", 9, 3) }));
    // A command that takes longer than others leave it the lock would lose it.
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Won(Term(7)));
    stage.expect(&["open", "acquire by 1", "measure", "read ranks"]);
    stage.measured("5");
    stage.expect(&["guard 9000", "promote 7"]);
}

#[test]
fn an_acquire_that_arrives_after_it_was_given_up_is_given_back_at_once() {
    let mut stage = Stage::new(settings());
    stage.sees(View { last_revision: Revision(3), ..after(last("other", 9, 3)) });
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Unknown("timeout".to_owned()));
    stage.looked(after(last("other", 9, 3)));
    stage.expect(&["open", "acquire by 1 owing 10101", "look", "close 1"]);
    // To close its session failed.
    stage.until(100);
    stage.sees(held("me", 1, 7));
    // With what was owed before.
    stage.expect(&["release 7 owing 10001"]);
    stage.released();
    stage.expect(&["close 1", "look"]);
    stage.looked(View { at: 9, ..after(Last { released: true, ..last("me", 1, 7) }) });
    stage.expect(&["open"]);
}

#[test]
fn whichever_of_the_acquires_given_up_arrives_is_given_back() {
    let mut stage = Stage::new(settings());
    stage.sees(free());
    for session in 1..=3 {
        stage.opened(session, LEASE);
        stage.acquired(Acquisition::Unknown("timeout".to_owned()));
        stage.looked(free());
        stage.until(stage.millis() + 500);
    }
    stage.heard();
    stage.sees(held("me", 1, 7));
    stage.expect(&["release 7"]);
}

#[test]
fn what_no_honest_record_could_owe_is_waited_for_a_minute_at_most() {
    const EVER: Duration = Duration::from_millis(u64::MAX);
    let hold_off_left = after(Last { released: true, hold_off_left: EVER, ..last("other", 9, 3) });
    let promised = after(Last { guarantee: Guarantee::For(EVER), ..last("other", 9, 3) });
    let lingers = after(Last { guarantee: Guarantee::WhileAlive { linger: EVER }, ..last("other", 9, 3) });
    for view in [hold_off_left, promised, lingers] {
        let mut stage = Stage::new(settings());
        stage.sees(view.clone());
        stage.opened(1, LEASE);
        stage.expect(&["open", "acquire by 1 owing 60000"]);
        // Who may lead for longer by its own lease may have followed one that could.
        let mut stage = Stage::new(settings());
        stage.sees(view);
        stage.opened(1, Guarantee::For(Duration::from_secs(300)));
        stage.expect(&["open", "acquire by 1 owing 300000"]);
    }
}

#[test]
fn a_debt_that_is_handed_on_gets_smaller() {
    let mut stage = Stage::new(settings());
    let hold_off_left = Duration::from_millis(u64::MAX);
    stage.sees(after(Last { released: true, hold_off_left, ..last("other", 9, 3) }));
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Won(Term(7)));
    stage.heard();
    stage.until_renewing(20_000);
    stage.tell(ElectionEvent::StepDown { to: None });
    stage.expect(&["release 7 owing 40000"]);
}
