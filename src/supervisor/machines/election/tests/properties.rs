//! Whatever events come in whatever order, be they answers to questions never asked: what one candidate orders keeps to
//! the rules, and its deadlines move on.

use std::time::Duration;

use proptest::prelude::*;

use super::stage::{LEASE, PACE, after, free, held, last, ranking, settings};
use crate::supervisor::machines::election::event::{
    Acquisition, ElectionEffect, ElectionEvent, Renewal, RequestId, StoreRequest,
};
use crate::supervisor::machines::election::record::{
    Answer, Last, Lock, PeerRank, Rank, Revision, SessionId, Term, View,
};
use crate::supervisor::machines::election::{Election, Ranking, Settings};
use crate::supervisor::vocabulary::Time;

fn view() -> impl Strategy<Value = View> {
    prop_oneof![
        Just(free()),
        (1u128..4, 1u64..20).prop_map(|(session, term)| held("me", session, term)),
        (1u64..20, prop::option::of(0u64..4_000), any::<bool>()).prop_map(|(term, owes, late)| {
            let mut view = held("other", 9, term);
            if let Lock::Held(holder) = &mut view.lock {
                holder.owes = owes.map(Duration::from_millis);
            }
            View { at: if late { 1 } else { term }, ..view }
        }),
        (1u64..20)
            .prop_map(|term| { after(Last { released: true, to: Some("other".into()), ..last("third", 9, term) }) }),
        (1u64..20, any::<bool>()).prop_map(|(term, released)| after(Last { released, ..last("other", 9, term) })),
    ]
}

fn rank() -> impl Strategy<Value = Rank> {
    prop_oneof![Just(Rank::Never), (-3i128..3).prop_map(Rank::Number), Just(Rank::Text("a".into()))]
}

fn peer() -> impl Strategy<Value = PeerRank> {
    let answer = prop_oneof![Just(Answer::Measuring), Just(Answer::Failed), rank().prop_map(Answer::Known)];
    (prop_oneof![Just("me"), Just("other"), Just("third")], 1u64..20, answer, any::<bool>())
        .prop_map(|(id, term, answer, stands)| PeerRank { id: id.into(), term: Term(term), answer, stands })
}

/// Events; an ask of zero stands for the last one asked.
fn event() -> impl Strategy<Value = ElectionEvent> {
    let ask = || (0u64..8).prop_map(|ask| RequestId(ask / 4 * ask));
    let err = || Err("cut".to_owned());
    prop_oneof![
        (ask(), 1u128..4).prop_map(|(ask, session)| ElectionEvent::Opened {
            ask,
            result: Ok((SessionId(session), LEASE, Revision(0)))
        }),
        ask().prop_map(move |ask| ElectionEvent::Opened { ask, result: err() }),
        (ask(), view()).prop_map(|(ask, view)| ElectionEvent::Looked { ask, result: Ok(view) }),
        view().prop_map(|view| ElectionEvent::Saw(Ok(view))),
        (ask(), 1u64..20).prop_map(|(ask, term)| ElectionEvent::Acquired { ask, result: Acquisition::Won(Term(term)) }),
        ask().prop_map(|ask| ElectionEvent::Acquired { ask, result: Acquisition::Changed }),
        ask().prop_map(|ask| ElectionEvent::Acquired { ask, result: Acquisition::HeldBack }),
        ask().prop_map(|ask| ElectionEvent::Acquired { ask, result: Acquisition::Unknown("cut".to_owned()) }),
        (ask(), view()).prop_map(|(ask, view)| ElectionEvent::Renewed { ask, result: Renewal::Alive(view) }),
        ask().prop_map(|ask| ElectionEvent::Renewed { ask, result: Renewal::Alive(held("me", 1, 1)) }),
        (ask(), any::<bool>()).prop_map(|(ask, void)| ElectionEvent::Renewed { ask, result: Renewal::Gone { void } }),
        ask().prop_map(|ask| ElectionEvent::Released { ask, result: Ok(()) }),
        (ask(), rank()).prop_map(|(ask, rank)| ElectionEvent::Measured { ask, result: Ok(rank) }),
        ask().prop_map(move |ask| ElectionEvent::Measured { ask, result: Err("cut".to_owned()) }),
        (ask(), peer(), peer()).prop_map(|(ask, one, two)| ElectionEvent::Ranks { ask, result: Ok(vec![one, two]) }),
        (ask(), any::<bool>()).prop_map(move |(ask, done)| ElectionEvent::Published {
            ask,
            result: if done { Ok(()) } else { Err("cut".to_owned()) }
        }),
        (1u64..20).prop_map(|term| ElectionEvent::Acts { term: Term(term) }),
        Just(ElectionEvent::AcceptLoss),
        any::<bool>().prop_map(|stands| ElectionEvent::Guard { stands }),
        any::<bool>().prop_map(|shared| ElectionEvent::IdShared { shared }),
        any::<bool>().prop_map(|ok| ElectionEvent::Promoted { result: if ok { Ok(()) } else { Err("1".to_owned()) } }),
        Just(ElectionEvent::OutOfRole),
        any::<bool>().prop_map(|healthy| ElectionEvent::Health { healthy }),
        any::<bool>().prop_map(|on| ElectionEvent::Maintenance { on }),
        Just(ElectionEvent::StepDown { to: None }),
        Just(ElectionEvent::StepDown { to: Some("other".into()) }),
        ask().prop_map(move |ask| ElectionEvent::Looked { ask, result: Err("cut".to_owned()) }),
        Just(ElectionEvent::Saw(Err("cut".to_owned()))),
        Just(ElectionEvent::AcceptTerm),
    ]
}

/// One candidate, and what its orders have made of its container.
struct Container {
    core: Election,
    now: Time,
    last_ask: RequestId,
    acting: Option<Term>,
    killed: bool,
    page: Option<Time>,
    healthy: bool,
    maintained: bool,
    /// Another container was ever known to have its id.
    namesake: bool,
}

impl Container {
    fn new(settings: Settings) -> Container {
        Container {
            core: Election::new(settings, 1),
            now: Time::since_boot(Duration::from_secs(100)),
            last_ask: RequestId(0),
            acting: None,
            killed: false,
            page: None,
            healthy: true,
            maintained: false,
            namesake: false,
        }
    }

    fn tell(&mut self, event: ElectionEvent) {
        match event {
            ElectionEvent::OutOfRole => self.acting = None,
            ElectionEvent::Health { healthy } => self.healthy = healthy,
            ElectionEvent::Maintenance { on } => self.maintained = on,
            ElectionEvent::IdShared { shared } => self.namesake |= shared,
            _ => {}
        }
        let own = self.core.session();
        for order in self.core.handle(self.now, event) {
            match order {
                ElectionEffect::Promote { term } => {
                    assert_eq!(self.acting, None, "promoted twice");
                    assert!(self.page.is_some_and(|at| at > self.now), "promoted without a deadline");
                    assert!(self.healthy && !self.maintained, "promoted unfit");
                    (self.acting, self.killed) = (Some(term), false);
                }
                ElectionEffect::Guard { deadline } => {
                    assert!(deadline.is_some() || self.acting.is_none(), "the guard was sent off while main acts");
                    self.page = deadline;
                }
                ElectionEffect::Kill { .. } => self.killed = true,
                ElectionEffect::Store(StoreRequest::Release { .. }) => {
                    assert_eq!(self.acting, None, "released while main acts");
                }
                ElectionEffect::Store(StoreRequest::CloseSession { session }) => {
                    assert!(self.acting.is_none() || own != Some(session), "the session closed while main acts");
                }
                ElectionEffect::Store(StoreRequest::EndFormerLife { session }) => {
                    assert!(own != Some(session), "its own session taken for a former life's");
                }
                ElectionEffect::Store(StoreRequest::Acquire { ask, .. })
                | ElectionEffect::Store(StoreRequest::OpenSession { ask })
                | ElectionEffect::Store(StoreRequest::Look { ask })
                | ElectionEffect::Store(StoreRequest::Renew { ask, .. })
                | ElectionEffect::Store(StoreRequest::Certify { ask, .. })
                | ElectionEffect::MeasureRank { ask }
                | ElectionEffect::Store(StoreRequest::PublishRank { ask, .. })
                | ElectionEffect::Store(StoreRequest::ReadRanks { ask }) => {
                    assert!(ask > self.last_ask, "a question was used twice");
                    self.last_ask = ask;
                }
                ElectionEffect::Store(StoreRequest::AcceptLoss { session }) => {
                    assert_eq!(own, Some(session), "loss accepted by a session that holds nothing");
                }
                ElectionEffect::Store(StoreRequest::AwaitEnd { .. })
                | ElectionEffect::Demote { .. }
                | ElectionEffect::Leader(_)
                | ElectionEffect::Say(_) => {}
            }
        }
        assert!(self.core.follows().is_none_or(|leader| &*leader.id != "me" || self.namesake), "it follows itself");
        assert!(!self.core.is_acting() || self.core.is_settled(), "it leads, and isn't settled");
        assert_eq!(self.core.is_acting(), self.acting.is_some(), "the core and the world differ on who acts");
    }

    fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        for _ in 0..10_000 {
            match self.core.deadline() {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    self.tell(ElectionEvent::Tick);
                    if self.acting.is_some() && self.page.is_some_and(|page| page <= self.now) {
                        assert!(self.killed, "main acts past the deadline");
                    }
                }
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("the deadline {:?} doesn't move", self.core.deadline());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn whatever_happens_nobody_acts_past_a_deadline_or_gives_up_what_acts(
        ranked in any::<bool>(),
        quorum in prop_oneof![Just(None), (1usize..4).prop_map(Some)],
        events in prop::collection::vec((event(), 0u64..4_000), 0..80),
    ) {
        let rank = ranked.then_some(Ranking { quorum, ..ranking() });
        let mut container = Container::new(Settings { rank, ..settings() });
        container.tell(ElectionEvent::Guard { stands: true });
        for (event, wait) in events {
            let last = container.last_ask;
            container.tell(recent(event, last));
            container.wait(wait);
        }
        // Nothing in the world answers any more, but what was killed is gone.
        container.tell(ElectionEvent::Stop);
        container.wait(PACE.least().as_millis() as u64 * 3);
        container.tell(ElectionEvent::OutOfRole);
        container.wait(60_000);
        prop_assert!(container.core.is_over(), "{:?}", container.core);
        prop_assert_eq!(container.core.deadline(), None);
    }
}

/// The same event about the question last asked, where it was about none.
fn recent(mut event: ElectionEvent, last: RequestId) -> ElectionEvent {
    match &mut event {
        ElectionEvent::Opened { ask, .. }
        | ElectionEvent::Looked { ask, .. }
        | ElectionEvent::Acquired { ask, .. }
        | ElectionEvent::Renewed { ask, .. }
        | ElectionEvent::Released { ask, .. }
        | ElectionEvent::Measured { ask, .. }
        | ElectionEvent::Published { ask, .. }
        | ElectionEvent::Ranks { ask, .. }
            if *ask == RequestId(0) =>
        {
            *ask = last;
        }
        _ => {}
    }
    event
}
