//! A container is gone, says the kernel: what a candidate does with that, and what it doesn't.

use std::time::Duration;

use super::stage::*;
use crate::supervisor::machines::election::Settings;
use crate::supervisor::machines::election::event::{Acquisition, Certification, ElectionEvent, Renewal};
use crate::supervisor::machines::election::record::{Last, Lock, Term, View, Witness};
use crate::supervisor::vocabulary::Notice;

fn witnessed() -> Settings {
    Settings { witness: true, ..settings() }
}

fn file(name: &str) -> Witness {
    Witness { boot: "boot".into(), file: name.into(), device: 1, inode: 2 }
}

/// Held by one whose end can be known.
fn held_by(id: &str, session: u128, term: u64, name: &str) -> View {
    let mut view = held(id, session, term);
    if let Lock::Held(holder) = &mut view.lock {
        holder.witness = Some(file(name).into());
    }
    view
}

fn gone(name: &str) -> ElectionEvent {
    ElectionEvent::Gone { witness: file(name) }
}

fn certified(stage: &mut Stage, result: Certification) {
    let ask = stage.last_ask();
    stage.tell(ElectionEvent::Certified { ask, result });
}

#[test]
fn a_lock_whose_container_is_gone_is_freed_and_won_without_waiting_for_the_lease() {
    let mut stage = Stage::new(witnessed());
    stage.sees(held_by("other", 9, 3, "a"));
    stage.expect(&["await the end of a"]);
    stage.until(1_000);
    stage.tell(gone("a"));
    stage.expect(&["certify the end of a, term 3, gone for 0"]);
    certified(&mut stage, Certification::Done);
    stage.expect(&["look"]);
    stage.looked(View { at: 9, ..after(Last { released: true, ..last("other", 9, 3) }) });
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Won(Term(10)));
    stage.expect(&["open", "acquire by 1", "guard 10000", "promote 10"]);
}

#[test]
fn why_a_lock_was_freed_is_said_once_whether_the_watch_or_the_answer_tells_of_it_first() {
    let said = |stage: &Stage| {
        stage.said.iter().filter(|notice| matches!(notice, Notice::Certified { id, .. } if id == "other")).count()
    };
    for watch_first in [true, false] {
        let mut stage = Stage::new(witnessed());
        stage.sees(held_by("other", 9, 3, "a"));
        stage.tell(gone("a"));
        let ask = stage.last_ask();
        if watch_first {
            stage.sees(View { at: 9, ..after(Last { released: true, ..last("other", 9, 3) }) });
        }
        stage.tell(ElectionEvent::Certified { ask, result: Certification::Done });
        assert_eq!(said(&stage), 1, "watch first: {watch_first}");
    }
}

#[test]
fn without_a_witness_in_the_config_no_end_is_waited_for() {
    let mut stage = Stage::new(settings());
    stage.sees(held_by("other", 9, 3, "a"));
    stage.tell(gone("a"));
    stage.until(60_000);
    stage.expect(&[]);
}

#[test]
fn an_end_is_no_news_of_who_holds_the_lock_by_another_file() {
    let mut stage = Stage::new(witnessed());
    stage.sees(held_by("other", 9, 3, "a"));
    stage.sees(held_by("third", 10, 4, "b"));
    stage.heard();
    stage.tell(gone("a"));
    // The same name on another boot's kernel, or another file of that name.
    for elsewhere in [Witness { boot: "other".into(), ..file("b") }, Witness { inode: 3, ..file("b") }] {
        stage.tell(ElectionEvent::Gone { witness: elsewhere });
    }
    stage.until(60_000);
    stage.expect(&[]);
    // And of one without any.
    stage.sees(held("fourth", 11, 5));
    stage.tell(gone("b"));
    stage.expect(&[]);
}

#[test]
fn a_main_that_may_have_closed_the_file_is_waited_for() {
    let mut stage = Stage::new(witnessed());
    stage.sees(held_by("other", 9, 3, "a"));
    stage.tell(gone("a"));
    stage.heard();
    stage.until(20);
    certified(&mut stage, Certification::Lingers(Duration::from_secs(1)));
    stage.until(999);
    stage.expect(&[]);
    stage.until(1_000);
    stage.expect(&["certify the end of a, term 3, gone for 1000"]);
}

#[test]
fn a_certificate_of_unknown_outcome_is_written_again_until_the_lock_says_otherwise() {
    let mut stage = Stage::new(witnessed());
    stage.sees(held_by("other", 9, 3, "a"));
    stage.tell(gone("a"));
    stage.heard();
    certified(&mut stage, Certification::Unknown("timeout".to_owned()));
    stage.until(1_000);
    let again = stage.heard();
    assert!(matches!(again.as_slice(), [again] if again.starts_with("certify")), "{again:?}");
    // Nobody answers.
    stage.until(4_000);
    assert!(stage.heard().iter().all(|heard| heard.starts_with("certify the end of a, term 3")));
    stage.sees(held_by("third", 10, 4, "b"));
    stage.until(60_000);
    stage.expect(&["await the end of b"]);
}

#[test]
fn one_that_is_beaten_to_it_looks_again() {
    let mut stage = Stage::new(witnessed());
    stage.sees(held_by("other", 9, 3, "a"));
    stage.tell(gone("a"));
    stage.heard();
    certified(&mut stage, Certification::Changed);
    stage.expect(&["look"]);
}

#[test]
fn a_container_that_was_started_again_certifies_its_own_life_before() {
    let mut stage = Stage::new(witnessed());
    stage.sees(held_by("me", 9, 3, "a"));
    // To end its session would have Consul hold everyone back.
    stage.expect(&["await the end of a"]);
    stage.tell(gone("a"));
    stage.expect(&["certify the end of a, term 3, gone for 0"]);
    certified(&mut stage, Certification::Done);
    stage.looked(View { at: 9, ..after(Last { released: true, ..last("me", 9, 3) }) });
    stage.until(5_000);
    assert!(!stage.heard().iter().any(|heard| heard.starts_with("end former life")));
}

#[test]
fn a_life_before_whose_end_nobody_certifies_has_its_session_ended() {
    let mut stage = Stage::new(witnessed());
    stage.sees(held_by("me", 9, 3, "a"));
    stage.heard();
    stage.until(999);
    stage.expect(&[]);
    stage.until(1_000);
    stage.expect(&["end former life 9"]);
    stage.until(60_000);
    stage.expect(&[]);
}

#[test]
fn a_leader_waits_for_no_end_but_anothers() {
    let mut stage = Stage::new(witnessed());
    stage.sees(free());
    stage.opened(1, LEASE);
    stage.acquired(Acquisition::Won(Term(7)));
    stage.sees(held_by("me", 1, 7, "own"));
    stage.tell(gone("own"));
    stage.until(1_000);
    stage.renewed(Renewal::Alive(held_by("me", 1, 7, "own")));
    assert!(!stage.heard().iter().any(|heard| heard.contains("the end of")));
}

#[test]
fn one_that_stops_certifies_nothing() {
    let mut stage = Stage::new(witnessed());
    stage.sees(held_by("other", 9, 3, "a"));
    stage.tell(ElectionEvent::Stop);
    stage.heard();
    stage.tell(gone("a"));
    stage.until(60_000);
    stage.expect(&[]);
}
