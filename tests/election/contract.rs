//! What holds for a lock on every engine: one list of sentences, and each engine says all of them.

use std::sync::Arc;
use std::time::Duration;

use pilotfish::catalog::election::{CandidateSettings, LockClient};
use pilotfish::catalog::{Amended, Changed};
use pilotfish::config::{AddressSpec, Query};
use pilotfish::supervisor::machines::election::event::{Acquisition, Renewal};
use pilotfish::supervisor::machines::election::record::{Answer, Lock, PeerRank, Rank, Revision, Term, View};
use pilotfish::supervisor::machines::election::rules::Rules;
use pilotfish::supervisor::vocabulary::{KeyChange, Value};
use tokio::time::{Instant, sleep};

use super::bench::{
    Candidate, Engine, PATIENCE, SUCCESSION, Won, agent_on, bytes, candidate, candidate_of, free, held_by, holder,
    service,
};
use super::specimen;

/// Hands the list to a macro, after what that macro needs besides.
macro_rules! sentences {
    ($with:ident!($($arguments:tt)*)) => {
        $with! { $($arguments)*;
            a_free_lock_is_seen_free
            a_lock_that_is_won_is_seen_held_by_its_winner
            one_of_two_wins_and_the_other_sees_the_holder
            one_of_many_wins
            an_acquire_of_a_lock_that_is_held_is_refused
            an_acquire_of_what_has_changed_is_refused
            an_acquire_by_a_closed_session_wins_nothing
            who_only_looks_makes_no_acquire_fail
            terms_grow_from_holder_to_holder
            a_release_frees_at_once_and_says_so_in_last
            a_release_names_the_successor
            a_release_of_an_older_term_frees_nothing
            what_is_fenced_is_written_by_the_term_that_holds_the_lock_alone
            what_is_amended_replaces_what_was_seen_and_nothing_else
            releasing_twice_is_harmless
            a_release_of_a_lock_that_was_lost_is_done
            a_closed_session_frees_its_lock
            closing_a_session_that_holds_nothing_is_harmless
            ending_a_former_life_gives_nobody_the_lock_before_its_time
            a_renewal_shows_the_own_lock
            a_renewal_keeps_the_term
            a_renewal_after_the_lock_was_taken_away_says_gone
            a_lock_that_was_taken_away_can_be_won_by_another
            what_must_be_waited_for_after_a_loss_is_seen
            a_lock_deleted_by_hand_is_seen_to_be_gone
            a_lock_overwritten_by_hand_is_not_seen_free
            last_tells_what_the_holder_was_promised
            an_owed_hold_off_is_handed_on
            a_watch_tells_held_free_and_held_again
            a_watch_tells_of_a_loss
            a_watch_begun_while_the_lock_changes_hands_tells_how_it_ends
            a_watch_tells_the_holder_s_address
            two_watches_tell_the_same
            a_renewal_is_nothing_new_to_an_onlooker
            an_onlooker_sees_the_leader_as_an_instance
            an_onlooker_sees_one_leader_after_the_other
            ranks_are_read_back_as_they_were_published
            a_rank_that_is_published_again_replaces_the_one_before
            the_rank_of_one_that_is_gone_is_forgotten
            two_elections_do_not_mix
            elections_with_unusual_names_are_kept_apart
            candidates_with_unusual_names_are_kept_apart
            a_holder_killed_with_sigkill_is_succeeded
            an_outage_is_told_once_and_recovered_from
            in_an_outage_nothing_is_known_and_nothing_is_lost
        }
    };
}

/// A module named for an engine, with a test for each sentence.
macro_rules! contract {
    ($engine:ident, $bench:ty; $($sentence:ident)*) => {
        mod $engine {
            $(
                #[test]
                fn $sentence() {
                    $crate::backend::bench::run::<$bench>(super::$sentence);
                }
            )*
        }
    };
}

sentences!(contract!(local, super::super::backends::SharedDirectory));
sentences!(contract!(consul, super::super::backends::OneConsul));
sentences!(contract!(etcd34, super::super::backends::Etcd34));
sentences!(contract!(etcd35, super::super::backends::Etcd35));

// In Consul every write of the lock's key is another term's: what it does instead is in consul.rs.
contract! { local_alone, super::super::backends::SharedDirectory; a_leader_that_moves_says_so_in_its_term }
contract! { etcd34_alone, super::super::backends::Etcd34; a_leader_that_moves_says_so_in_its_term }
contract! { etcd35_alone, super::super::backends::Etcd35; a_leader_that_moves_says_so_in_its_term }

fn two(engine: &impl Engine) -> (Candidate, Candidate) {
    (candidate(engine, "db", "one"), candidate(engine, "db", "two"))
}

/// The answer to a renewal, when the session lives.
fn alive(renewal: Renewal) -> View {
    match renewal {
        Renewal::Alive(view) => view,
        other => panic!("not alive: {other:?}"),
    }
}

/// Whether a renewal says that the lock is lost.
fn lost(renewal: &Renewal, won: Won) -> bool {
    match renewal {
        Renewal::Gone { .. } => true,
        Renewal::Alive(view) => !view.shows(won.session, won.term) && view.at >= won.term.0,
        Renewal::Unknown(_) => false,
    }
}

async fn a_free_lock_is_seen_free(engine: &impl Engine) {
    let view = candidate(engine, "db", "one").look().await;
    assert_eq!(view.lock, Lock::Free { version: Revision(0), taken_from: None });
    assert_eq!((view.last, view.last_revision), (None, Revision(0)));
}

async fn a_lock_that_is_won_is_seen_held_by_its_winner(engine: &impl Engine) {
    let (one, two) = two(engine);
    let won = one.win().await;
    assert!(won.term > Term(0));
    for candidate in [&one, &two] {
        let view = candidate.look().await;
        assert_eq!(view.lock, Lock::Held(holder(&one, won)));
        assert!(view.at >= won.term.0, "{view:?}");
        assert!(view.shows(won.session, won.term));
    }
}

async fn one_of_two_wins_and_the_other_sees_the_holder(engine: &impl Engine) {
    let (one, two) = two(engine);
    let (mine, yours) = (one.open().await, two.open().await);
    let (seen, also) = (one.look().await, two.look().await);
    let (first, second) = tokio::join!(one.acquire(mine, &seen), two.acquire(yours, &also));
    let (winner, term) = match (first, second) {
        (Acquisition::Won(term), Acquisition::Changed) => ("one", term),
        (Acquisition::Changed, Acquisition::Won(term)) => ("two", term),
        other => panic!("not one of two: {other:?}"),
    };
    for candidate in [&one, &two] {
        let view = candidate.look().await;
        let holder = view.holder().expect("held");
        assert_eq!((&*holder.id, holder.term), (winner, term));
    }
}

async fn one_of_many_wins(engine: &impl Engine) {
    let mut candidates = Vec::new();
    for n in 0..12 {
        let candidate = candidate(engine, "db", &format!("db-{n}"));
        let (by, seen) = (candidate.open().await, candidate.look().await);
        candidates.push((candidate, by, seen));
    }
    let acquire = |(candidate, by, seen): (Candidate, _, _)| async move {
        let got = candidate.acquire(by, &seen).await;
        // With it, where a kernel keeps the lock, would go what it won.
        (candidate, got)
    };
    let tasks: Vec<_> = candidates.into_iter().map(acquire).map(tokio::spawn).collect();
    let mut all = Vec::new();
    let mut won = 0;
    for task in tasks {
        let (candidate, got) = task.await.expect("no panic");
        all.push(candidate);
        match got {
            Acquisition::Won(_) => won += 1,
            Acquisition::Changed => {}
            other => panic!("neither won nor lost: {other:?}"),
        }
    }
    assert_eq!(won, 1);
}

async fn an_acquire_of_a_lock_that_is_held_is_refused(engine: &impl Engine) {
    let (one, two) = two(engine);
    let seen = two.look().await;
    let by = two.open().await;
    let won = one.win().await;
    for view in [&seen, &two.look().await, &seen] {
        assert_eq!(two.acquire(by, view).await, Acquisition::Changed);
    }
    assert!(one.look().await.shows(won.session, won.term));
}

async fn an_acquire_of_what_has_changed_is_refused(engine: &impl Engine) {
    let (one, two) = two(engine);
    let before = two.look().await;
    let by = two.open().await;
    let won = one.win().await;
    one.release(won).await;
    // Free again, but not as it was seen.
    assert_eq!(two.acquire(by, &before).await, Acquisition::Changed);
    let now = two.look().await;
    assert!(free(&now));
    assert!(matches!(two.acquire(by, &now).await, Acquisition::Won(term) if term > won.term));
}

async fn an_acquire_by_a_closed_session_wins_nothing(engine: &impl Engine) {
    let (one, two) = two(engine);
    let by = one.open().await;
    let seen = one.look().await;
    one.close(by.0).await;
    let got = one.acquire(by, &seen).await;
    assert!(!matches!(got, Acquisition::Won(_)), "{got:?}");
    two.succeed(PATIENCE).await;
}

async fn who_only_looks_makes_no_acquire_fail(engine: &impl Engine) {
    let (one, two) = two(engine);
    let onlookers: Vec<_> = (0..3)
        .map(|n| {
            let onlooker = candidate(engine, "db", &format!("onlooker-{n}"));
            tokio::spawn(async move {
                loop {
                    onlooker.look().await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for _ in 0..20 {
        for candidate in [&one, &two] {
            // Panics when it isn't won.
            let won = candidate.win().await;
            candidate.release(won).await;
            candidate.close(won.session).await;
        }
    }
    for onlooker in onlookers {
        assert!(!onlooker.is_finished(), "each look was answered");
        onlooker.abort();
    }
}

async fn terms_grow_from_holder_to_holder(engine: &impl Engine) {
    let (one, two) = two(engine);
    let mut terms = Vec::new();
    for candidate in [&one, &two, &two, &one, &one] {
        let won = candidate.win().await;
        candidate.release(won).await;
        candidate.close(won.session).await;
        let last = candidate.look().await.last.expect("somebody led");
        assert_eq!(last.term, won.term);
        terms.push(won.term);
    }
    assert!(terms.windows(2).all(|pair| pair[0] < pair[1]), "{terms:?}");
}

async fn a_release_frees_at_once_and_says_so_in_last(engine: &impl Engine) {
    let (one, two) = two(engine);
    let won = one.win().await;
    one.release(won).await;
    let view = two.look().await;
    assert!(free(&view), "{view:?}");
    let last = view.last.clone().expect("somebody led");
    assert_eq!((&*last.id, last.session, last.term), ("one", won.session, won.term));
    assert!(last.released && last.to.is_none() && last.hold_off_left.is_zero());
    assert_eq!(view.hold_off(won.guarantee, Rules::default()), Duration::ZERO);
    assert!(two.win().await.term > won.term);
}

async fn a_release_names_the_successor(engine: &impl Engine) {
    let (one, two) = two(engine);
    let won = one.win().await;
    one.try_release(won, Some("two"), Duration::ZERO).await.expect("released");
    let last = two.look().await.last.expect("somebody led");
    assert_eq!(last.to.as_deref(), Some("two"));
    // The next one names nobody.
    let next = two.win().await;
    two.release(next).await;
    let last = one.look().await.last.expect("somebody led");
    assert_eq!((&*last.id, last.to), ("two", None));
}

async fn a_release_of_an_older_term_frees_nothing(engine: &impl Engine) {
    let (one, two) = two(engine);
    let first = one.win().await;
    one.release(first).await;
    let second = one.win().await;
    one.release(first).await;
    assert!(two.look().await.shows(second.session, second.term), "the older session's");
    let mixed = Won { term: first.term, ..second };
    one.release(mixed).await;
    assert!(two.look().await.shows(second.session, second.term), "the same session's");
    one.release(second).await;
    assert!(free(&two.look().await));
}

async fn what_is_fenced_is_written_by_the_term_that_holds_the_lock_alone(engine: &impl Engine) {
    let (one, two) = two(engine);
    let put = |value: &str| KeyChange::Put(bytes(value));
    let first = one.win().await;
    assert_eq!(one.change("k", &put("1"), first).await, Changed::Done);
    assert_eq!(one.change("k", &KeyChange::Create(bytes("x")), first).await, Changed::Exists);
    one.release(first).await;
    for change in [put("2"), KeyChange::Create(bytes("2")), KeyChange::Delete] {
        assert_eq!(one.change("k", &change, first).await, Changed::Fenced, "nobody leads");
    }
    let second = two.win().await;
    for stale in [first, Won { term: first.term, session: first.session, ..second }] {
        assert_eq!(one.change("k", &put("3"), stale).await, Changed::Fenced, "another leads");
        assert_eq!(one.change("other", &KeyChange::Create(bytes("3")), stale).await, Changed::Fenced);
    }
    assert_eq!(two.agent.get("k").await.as_deref(), Some("1"));
    assert_eq!(two.agent.get("other").await, None);
    assert_eq!(two.change("k", &KeyChange::Delete, second).await, Changed::Done);
    assert_eq!(two.change("k", &KeyChange::Create(bytes("4")), second).await, Changed::Done);
    assert_eq!(one.agent.get("k").await.as_deref(), Some("4"));
    engine.take_away("db", second.session).await;
    assert_eq!(two.change("k", &put("5"), second).await, Changed::Fenced, "it was taken away");
}

async fn what_is_amended_replaces_what_was_seen_and_nothing_else(engine: &impl Engine) {
    let (one, two) = two(engine);
    let first = one.win().await;
    let becomes = |value: &'static str| move |_: Option<&[u8]>| Some(Value(value.as_bytes().into()));
    assert_eq!(one.amend("k", first, becomes("1")).await, Ok(Amended::Written));
    let stays = |stands: Option<&[u8]>| {
        assert_eq!(stands, Some(b"1".as_slice()));
        None
    };
    assert_eq!(one.amend("k", first, stays).await, Ok(Amended::Left));
    // Of many at once each counts on from what another has written, or is told that it couldn't.
    let counts = |stands: Option<&[u8]>| {
        let number: u64 = std::str::from_utf8(stands.expect("it is there")).unwrap().parse().unwrap();
        Some(Value((number + 1).to_string().into_bytes().into()))
    };
    let [a, b, c, d] = [(); 4].map(|()| one.amend("k", first, counts));
    let (a, b, c, d) = tokio::join!(a, b, c, d);
    let written = [a, b, c, d].iter().filter(|amended| **amended == Ok(Amended::Written)).count();
    assert!(written >= 1);
    assert_eq!(one.agent.get("k").await, Some((1 + written).to_string()));
    one.release(first).await;
    assert_eq!(one.amend("k", first, becomes("x")).await, Ok(Amended::Fenced), "nobody leads");
    let second = two.win().await;
    assert_eq!(one.amend("k", first, becomes("x")).await, Ok(Amended::Fenced), "another leads");
    assert_eq!(two.amend("other", second, |stands| stands.is_none().then(|| bytes("2"))).await, Ok(Amended::Written));
    assert_eq!(one.agent.get("other").await.as_deref(), Some("2"));
}

async fn releasing_twice_is_harmless(engine: &impl Engine) {
    let (one, two) = two(engine);
    let won = one.win().await;
    one.release(won).await;
    one.release(won).await;
    let next = two.win().await;
    one.release(won).await;
    let view = one.look().await;
    assert!(view.shows(next.session, next.term), "{view:?}");
    two.release(next).await;
    let last = one.look().await.last.expect("somebody led");
    assert_eq!((&*last.id, last.term), ("two", next.term));
}

async fn a_release_of_a_lock_that_was_lost_is_done(engine: &impl Engine) {
    let (one, two) = two(engine);
    let won = one.win().await;
    engine.take_away("db", won.session).await;
    let next = two.succeed(PATIENCE).await;
    one.release(won).await;
    one.close(won.session).await;
    let view = two.look().await;
    assert!(view.shows(next.session, next.term), "{view:?}");
    two.release(next).await;
    let last = two.look().await.last.expect("somebody led");
    assert_eq!((&*last.id, last.term), ("two", next.term));
}

async fn a_closed_session_frees_its_lock(engine: &impl Engine) {
    let (one, two) = two(engine);
    let won = one.win().await;
    one.close(won.session).await;
    let view = two.until("a free lock", free).await;
    let last = view.last.expect("somebody led");
    assert_eq!((&*last.id, last.session, last.released), ("one", won.session, false));
    assert!(two.succeed(PATIENCE).await.term > won.term);
}

async fn closing_a_session_that_holds_nothing_is_harmless(engine: &impl Engine) {
    let (one, two) = two(engine);
    let (session, _) = one.open().await;
    one.close(session).await;
    one.close(session).await;
    let (spare, _) = one.open().await;
    let won = one.win().await;
    one.close(spare).await;
    assert!(two.look().await.shows(won.session, won.term));
}

async fn ending_a_former_life_gives_nobody_the_lock_before_its_time(engine: &impl Engine) {
    let (one, two) = (candidate(engine, "db", "one"), candidate(engine, "db", "two"));
    let won = one.win().await;
    candidate(engine, "db", "one").lock_client.end_former_life(won.session).await.expect("ended, or left alone");
    let view = two.look().await;
    let tried = two.acquire(two.open().await, &view).await;
    assert!(matches!(tried, Acquisition::Changed | Acquisition::HeldBack), "{tried:?} for {view:?}");
}

async fn a_renewal_shows_the_own_lock(engine: &impl Engine) {
    let one = candidate(engine, "db", "one");
    let won = one.win().await;
    for _ in 0..5 {
        let view = alive(one.renew(won).await);
        assert!(view.shows(won.session, won.term), "{view:?}");
        assert!(view.at >= won.term.0, "{view:?}");
    }
}

async fn a_renewal_keeps_the_term(engine: &impl Engine) {
    let (one, two) = two(engine);
    let won = one.win().await;
    for _ in 0..5 {
        alive(one.renew(won).await);
        assert_eq!(two.look().await.lock, Lock::Held(holder(&one, won)));
    }
    one.release(won).await;
    let view = two.look().await;
    assert!(free(&view));
    assert_eq!(view.last.expect("somebody led").term, won.term);
}

async fn a_renewal_after_the_lock_was_taken_away_says_gone(engine: &impl Engine) {
    let one = candidate(engine, "db", "one");
    for renewed_before in [false, true] {
        let won = one.succeed(PATIENCE).await;
        if renewed_before {
            alive(one.renew(won).await);
        }
        engine.take_away("db", won.session).await;
        let renewal = one.renew(won).await;
        assert!(lost(&renewal, won), "{renewal:?}");
        one.close(won.session).await;
    }
}

async fn a_lock_that_was_taken_away_can_be_won_by_another(engine: &impl Engine) {
    let (one, two) = two(engine);
    let won = one.win().await;
    engine.take_away("db", won.session).await;
    let next = two.succeed(PATIENCE).await;
    assert!(next.term > won.term);
    let renewal = one.renew(won).await;
    assert!(lost(&renewal, won), "{renewal:?}");
    assert!(alive(two.renew(next).await).shows(next.session, next.term));
}

async fn what_must_be_waited_for_after_a_loss_is_seen<E: Engine>(engine: &E) {
    let (one, two) = two(engine);
    let won = one.win().await;
    engine.take_away("db", won.session).await;
    let view = two.until("a free lock", free).await;
    assert_eq!(view.hold_off(won.guarantee, Rules::default()), E::hold_off(), "{view:?}");
}

async fn a_lock_deleted_by_hand_is_seen_to_be_gone<E: Engine>(engine: &E) {
    let (one, two) = two(engine);
    let won = one.win().await;
    let mut watch = one.watch();
    watch.until("the own lock", held_by("one")).await;
    engine.delete_lock("db").await;
    let told = watch.until("a free lock", free).await;
    assert!(told.at >= won.term.0, "it is no older than the term: {told:?}");
    let renewal = one.renew(won).await;
    assert!(lost(&renewal, won), "{renewal:?}");
    // Nothing has held others back but what `last` says.
    let view = two.look().await;
    assert!(free(&view));
    let last = view.last.clone().expect("somebody led");
    assert_eq!((&*last.id, last.released), ("one", false));
    assert_eq!(view.hold_off(won.guarantee, Rules::default()), last.guarantee.grace_after_release());
}

async fn a_lock_overwritten_by_hand_is_not_seen_free(engine: &impl Engine) {
    let (one, two) = two(engine);
    let won = one.win().await;
    let by = two.open().await;
    let before = two.look().await;
    engine.overwrite_lock("db").await;
    let view = two.look().await;
    assert!(!free(&view), "{view:?}");
    assert!(!view.shows(won.session, won.term), "{view:?}");
    assert_eq!(two.acquire(by, &before).await, Acquisition::Changed);
}

async fn last_tells_what_the_holder_was_promised(engine: &impl Engine) {
    let (one, two) = two(engine);
    for renewed_before in [false, true] {
        let won = one.succeed(PATIENCE).await;
        if renewed_before {
            alive(one.renew(won).await);
        }
        one.close(won.session).await;
        let last = two.until("a free lock", free).await.last.expect("somebody led");
        assert_eq!((last.session, last.term, last.guarantee), (won.session, won.term, won.guarantee));
    }
}

async fn an_owed_hold_off_is_handed_on(engine: &impl Engine) {
    let (one, two) = two(engine);
    let hold_off_left = Duration::from_secs(30);
    // By one that loses the lock, and by one that gives it back.
    let won = one.win_owing(hold_off_left).await;
    one.close(won.session).await;
    let view = two.until("a free lock", free).await;
    assert!(view.hold_off(won.guarantee, Rules::default()) >= hold_off_left - PATIENCE, "{view:?}");
    let next = two.succeed(PATIENCE).await;
    let rest = Duration::from_secs(20);
    two.try_release(next, None, rest).await.expect("released");
    let view = one.look().await;
    assert_eq!(view.hold_off(won.guarantee, Rules::default()), rest, "{view:?}");
}

async fn a_watch_tells_held_free_and_held_again(engine: &impl Engine) {
    let (one, two) = two(engine);
    let mut watch = two.watch();
    assert!(free(&watch.told(PATIENCE).await.expect("a view")));
    for (candidate, id) in [(&one, "one"), (&two, "two"), (&one, "one")] {
        let won = candidate.win().await;
        let held = watch.until("the holder", held_by(id)).await;
        assert!(held.shows(won.session, won.term), "{held:?}");
        candidate.release(won).await;
        let view = watch.until("the release", free).await;
        assert!(view.last.is_some_and(|last| last.released && last.term == won.term));
        candidate.close(won.session).await;
    }
}

async fn a_watch_tells_of_a_loss(engine: &impl Engine) {
    let (one, two) = two(engine);
    let mut watch = two.watch();
    let won = one.win().await;
    watch.until("the holder", held_by("one")).await;
    one.close(won.session).await;
    let view = watch.until("a free lock", free).await;
    assert!(view.last.is_some_and(|last| !last.released));
}

async fn a_watch_begun_while_the_lock_changes_hands_tells_how_it_ends(engine: &impl Engine) {
    let (one, two) = two(engine);
    for n in 0..40 {
        let mut watch = two.watch();
        // At another moment of its beginning each time.
        sleep(Duration::from_micros(n * 250)).await;
        let won = one.win().await;
        one.release(won).await;
        one.close(won.session).await;
        watch.until("the end", |view| free(view) && view.last.as_ref().is_some_and(|last| last.term == won.term)).await;
    }
}

async fn a_watch_tells_the_holder_s_address<E: Engine>(engine: &E) {
    let mut db = service("db", "db-1");
    db.port = 3306;
    let one = candidate_of(&engine.address(), "db", "one", E::lease(), Some(Arc::new(db.clone())));
    one.agent.pass(&db).await;
    one.win().await;
    let view = candidate(engine, "db", "two").watch().until("the holder", held_by("one")).await;
    assert_eq!(view.holder().and_then(|holder| holder.address.as_deref()), Some("192.0.2.1:3306"));
}

async fn a_leader_that_moves_says_so_in_its_term<E: Engine>(engine: &E) {
    let (here, mut elsewhere) = (service("db", "db-1"), service("db", "db-1"));
    elsewhere.address = vec![AddressSpec::Static("192.0.2.9".parse().expect("an address"))];
    let one = candidate_of(&engine.address(), "db", "one", E::lease(), Some(Arc::new(here)));
    let two = candidate(engine, "db", "two");
    let (mut watch, query) = (two.watch(), Query::Leader { election: "db".to_owned() });
    let mut seen = agent_on(&engine.address()).follow(query);
    let won = one.win().await;
    one.acts(won).await;
    seen.until_ids(&["one"], PATIENCE).await;
    let contest = CandidateSettings { service: Some(Arc::new(elsewhere)), ..one.contest.clone() };
    let moved = LockClient::new(one.agent.backend.clone(), contest);
    for _ in 0..2 {
        assert!(alive(moved.renew(won.session, won.term).await).shows(won.session, won.term));
    }
    let at = |view: &View| view.holder().and_then(|holder| holder.address.as_deref()) == Some("192.0.2.9:8000");
    assert!(watch.until("the other address", at).await.shows(won.session, won.term));
    assert_eq!(seen.instances().await[0].address, "192.0.2.9");
    one.release(won).await;
    watch.until("the release", free).await;
}

async fn two_watches_tell_the_same(engine: &impl Engine) {
    let (one, two) = two(engine);
    // Two of one agent.
    let (mut watch, mut other) = (two.watch(), two.watch());
    let won = one.win().await;
    let held = watch.until("the holder", held_by("one")).await;
    assert_eq!(other.until("the holder", held_by("one")).await.lock, held.lock);
    drop(watch);
    one.release(won).await;
    other.until("the release", free).await;
}

async fn a_renewal_is_nothing_new_to_an_onlooker(engine: &impl Engine) {
    let one = candidate(engine, "db", "one");
    let won = one.win().await;
    one.acts(won).await;
    let mut seen = agent_on(&engine.address()).follow(Query::Leader { election: "db".to_owned() });
    assert_eq!(seen.ids().await, ["one"]);
    for _ in 0..3 {
        alive(one.renew(won).await);
    }
    sleep(Duration::from_millis(200)).await;
    assert_eq!(seen.rest(), 0);
}

async fn an_onlooker_sees_the_leader_as_an_instance<E: Engine>(engine: &E) {
    let db = service("db", "db-1");
    let one = candidate_of(&engine.address(), "db", "one", E::lease(), Some(Arc::new(db.clone())));
    let mut seen = agent_on(&engine.address()).follow(Query::Leader { election: "db".to_owned() });
    assert!(seen.ids().await.is_empty());
    one.agent.pass(&db).await;
    let won = one.win().await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(seen.rest(), 0, "it doesn't act yet");
    one.acts(won).await;
    let instances = seen.instances().await;
    let [leader] = &instances[..] else { panic!("one leads: {instances:?}") };
    assert_eq!((leader.id.as_str(), leader.name.as_str()), ("one", "db"));
    assert_eq!((leader.address.as_str(), leader.port), ("192.0.2.1", 8000));
    assert_eq!(leader.meta.get("term"), Some(&won.term.0.to_string()));
    one.release(won).await;
    assert!(seen.ids().await.is_empty());
}

async fn an_onlooker_sees_one_leader_after_the_other(engine: &impl Engine) {
    let mut seen = agent_on(&engine.address()).follow(Query::Leader { election: "db".to_owned() });
    let (one, two) = two(engine);
    for (candidate, id) in [(&one, "one"), (&two, "two"), (&one, "one")] {
        let won = candidate.win().await;
        candidate.acts(won).await;
        seen.until_ids(&[id], PATIENCE).await;
        candidate.release(won).await;
        candidate.close(won.session).await;
    }
    seen.until_ids(&[], PATIENCE).await;
}

fn known(rank: i128) -> Answer {
    Answer::Known(Rank::Number(rank))
}

async fn ranks_are_read_back_as_they_were_published(engine: &impl Engine) {
    let ids = ["five", "four", "one", "three", "two"];
    let candidates = ids.map(|id| candidate(engine, "db", id));
    assert!(candidates[0].lock_client.ranks().await.expect("read").is_empty());
    let answers = [
        Answer::Measuring,
        Answer::Failed,
        known(i128::MIN),
        Answer::Known(Rank::Text("00000003/0000000A \"b\"".into())),
        Answer::Known(Rank::Never),
    ];
    let mut published = Vec::new();
    for ((term, candidate), answer) in (7..).zip(&candidates).zip(answers) {
        let (term, stands) = (Term(term), term % 2 == 0);
        candidate.lock_client.publish_rank(term, &answer, stands).await.expect("published");
        published.push(PeerRank { id: candidate.contest.id.as_str().into(), term, answer, stands });
    }
    let mut ranks = candidates[0].lock_client.ranks().await.expect("read");
    ranks.sort();
    assert_eq!(ranks, published);
}

async fn a_rank_that_is_published_again_replaces_the_one_before(engine: &impl Engine) {
    let one = candidate(engine, "db", "one");
    for (term, rank) in [(1, 1), (1, 2), (9, 3)] {
        one.lock_client.publish_rank(Term(term), &known(rank), true).await.expect("published");
        let ranks = one.lock_client.ranks().await.expect("read");
        assert_eq!(ranks, [PeerRank { id: "one".into(), term: Term(term), answer: known(rank), stands: true }]);
    }
}

async fn the_rank_of_one_that_is_gone_is_forgotten(engine: &impl Engine) {
    let one = candidate(engine, "db", "one");
    let ids = async || {
        let ranks = one.lock_client.ranks().await.expect("read");
        ranks.into_iter().map(|peer| peer.id.to_string()).collect::<Vec<_>>()
    };
    let mut gone = specimen::ranked(&engine.address(), "db", "gone", 7);
    assert_eq!(ids().await, ["gone"]);
    gone.kill();
    let since = Instant::now();
    while !ids().await.is_empty() {
        assert!(since.elapsed() < SUCCESSION, "it is still counted");
        sleep(Duration::from_millis(100)).await;
    }
    println!("forgotten {:?} after its candidate's death", since.elapsed());
    let kept = engine.ranks("db").await;
    assert!(kept.is_empty(), "{kept:?} pile up");
}

async fn two_elections_do_not_mix(engine: &impl Engine) {
    let (db, db2) = (candidate(engine, "db", "one"), candidate(engine, "db-2", "one"));
    let won = db.win().await;
    assert!(free(&db2.look().await));
    let also = db2.win().await;
    db.release(won).await;
    let view = db2.look().await;
    assert!(view.shows(also.session, also.term), "{view:?}");
    assert!(free(&db.look().await));
    db.lock_client.publish_rank(Term(1), &known(1), true).await.expect("published");
    assert!(db2.lock_client.ranks().await.expect("read").is_empty());
}

async fn elections_with_unusual_names_are_kept_apart(engine: &impl Engine) {
    let names = ["a b", "a%20b", "a+b", "größe", "a.b", "a-b", "a_b", "a:b", "日本", "db/1", "db/2"];
    let candidates: Vec<_> = names.iter().map(|name| candidate(engine, name, "one")).collect();
    for (candidate, name) in candidates.iter().zip(names) {
        assert!(free(&candidate.look().await), "{name}");
        let won = candidate.win().await;
        assert!(alive(candidate.renew(won).await).shows(won.session, won.term), "{name}");
    }
    for (one, name) in candidates.iter().zip(names) {
        let mut watch = candidate(engine, name, "two").watch();
        watch.until(name, held_by("one")).await;
        one.lock_client.publish_rank(Term(1), &known(1), true).await.expect(name);
        assert_eq!(one.lock_client.ranks().await.expect(name).len(), 1, "{name}");
    }
}

async fn candidates_with_unusual_names_are_kept_apart(engine: &impl Engine) {
    let ids = ["a b", "a%20b", "a+b", "größe", "db-1.host.example-3306", "a/b", "\"quoted\"", "日本"];
    let mut alive = Vec::new();
    for (n, id) in (0_i128..).zip(ids) {
        let candidate = candidate(engine, "db", id);
        let won = candidate.win().await;
        assert_eq!(candidate.look().await.lock, Lock::Held(holder(&candidate, won)));
        candidate.try_release(won, Some(id), Duration::ZERO).await.expect("released");
        let last = candidate.look().await.last.expect("somebody led");
        assert_eq!((&*last.id, last.to.as_deref()), (id, Some(id)));
        candidate.lock_client.publish_rank(Term(1), &known(n), true).await.expect("published");
        alive.push(candidate);
    }
    let mut ranks = candidate(engine, "db", "one").lock_client.ranks().await.expect("read");
    ranks.sort_by(|one, two| one.answer.cmp(&two.answer));
    assert_eq!(ranks.iter().map(|peer| &*peer.id).collect::<Vec<_>>(), ids);
}

async fn a_holder_killed_with_sigkill_is_succeeded(engine: &impl Engine) {
    let (mut leader, term) = specimen::leading(&engine.address(), "db", "one");
    let two = candidate(engine, "db", "two");
    let mut watch = two.watch();
    watch.until("the holder", held_by("one")).await;
    // It lives longer than all it was promised once.
    sleep(Duration::from_secs(3)).await;
    assert!(watch.rest().iter().all(|seen| seen.as_ref().is_ok_and(held_by("one"))), "it renews");
    leader.kill();
    assert!(two.succeed(SUCCESSION).await.term.0 > term);
}

async fn an_outage_is_told_once_and_recovered_from(engine: &impl Engine) {
    let (one, two) = two(engine);
    one.win().await;
    let mut watch = two.watch();
    watch.until("the holder", held_by("one")).await;
    watch.rest();
    engine.cut_election("db").await;
    let error = watch.told(PATIENCE).await.expect_err("an outage is no free lock");
    assert!(!error.is_empty());
    // Long enough for several tries.
    sleep(Duration::from_millis(1500)).await;
    let more = watch.rest();
    assert!(more.iter().all(Result::is_err), "{more:?}");
    assert!(more.len() <= 1, "each failure is told once: {more:?}");
    engine.mend_election("db").await;
    // What an engine without a disk forgets in an outage isn't judged here.
    while watch.told(PATIENCE).await.is_err() {}
}

async fn in_an_outage_nothing_is_known_and_nothing_is_lost(engine: &impl Engine) {
    let (one, two) = two(engine);
    let won = one.win().await;
    let by = two.open().await;
    let seen = two.look().await;
    engine.cut_election("db").await;
    two.try_look().await.expect_err("nothing can be read");
    let renewal = one.renew(won).await;
    assert!(matches!(renewal, Renewal::Unknown(_)), "{renewal:?}");
    let acquired = two.acquire(by, &seen).await;
    assert!(matches!(acquired, Acquisition::Unknown(_)), "{acquired:?}");
    one.try_release(won, None, Duration::ZERO).await.expect_err("nobody knows");
    one.lock_client.ranks().await.expect_err("nothing can be read");
    one.lock_client.publish_rank(Term(0), &known(1), true).await.expect_err("nothing can be written");
    engine.mend_election("db").await;
}
