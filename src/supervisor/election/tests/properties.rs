//! Whatever facts come in whatever order, be they answers to questions never asked: what one candidate orders keeps to
//! the rules, and its deadlines move on.

use std::time::Duration;

use proptest::prelude::*;

use super::stage::{LEASE, PACE, after, free, held, last, settings};
use crate::supervisor::election::fact::{Acquisition, Ask, Fact, Order, Renewal};
use crate::supervisor::election::record::{Last, Lock, SessionId, Term, Version, View};
use crate::supervisor::election::{Election, Settings};
use crate::supervisor::time::Time;

fn view() -> impl Strategy<Value = View> {
    prop_oneof![
        Just(free()),
        (1u128..4, 1u64..20).prop_map(|(session, term)| held("me", session, term)),
        (1u64..20, 0u64..4, any::<bool>()).prop_map(|(term, vacancy, late)| {
            let mut view = held("other", 9, term);
            if let Lock::Held(holder) = &mut view.lock {
                holder.vacancy = Some(Version(vacancy));
            }
            View { at: if late { 1 } else { term }, ..view }
        }),
        (1u64..20)
            .prop_map(|term| { after(Last { released: true, to: Some("other".into()), ..last("third", 9, term) }) }),
        (1u64..20, any::<bool>()).prop_map(|(term, released)| after(Last { released, ..last("other", 9, term) })),
    ]
}

/// Facts; an ask of zero stands for the last one asked.
fn fact() -> impl Strategy<Value = Fact> {
    let ask = || (0u64..8).prop_map(|ask| Ask(ask / 4 * ask));
    let err = || Err("cut".to_owned());
    prop_oneof![
        (ask(), 1u128..4).prop_map(|(ask, session)| Fact::Opened { ask, result: Ok((SessionId(session), LEASE)) }),
        ask().prop_map(move |ask| Fact::Opened { ask, result: err() }),
        (ask(), view()).prop_map(|(ask, view)| Fact::Looked { ask, result: Ok(view) }),
        view().prop_map(|view| Fact::Saw(Ok(view))),
        (ask(), 1u64..20).prop_map(|(ask, term)| Fact::Acquired { ask, result: Acquisition::Won(Term(term)) }),
        ask().prop_map(|ask| Fact::Acquired { ask, result: Acquisition::Changed }),
        ask().prop_map(|ask| Fact::Acquired { ask, result: Acquisition::HeldBack }),
        ask().prop_map(|ask| Fact::Acquired { ask, result: Acquisition::Unknown("cut".to_owned()) }),
        (ask(), view()).prop_map(|(ask, view)| Fact::Renewed { ask, result: Renewal::Alive(view) }),
        ask().prop_map(|ask| Fact::Renewed { ask, result: Renewal::Alive(held("me", 1, 1)) }),
        (ask(), any::<bool>()).prop_map(|(ask, void)| Fact::Renewed { ask, result: Renewal::Gone { void } }),
        ask().prop_map(|ask| Fact::Released { ask, result: Ok(()) }),
        (ask(), -3i64..3).prop_map(|(ask, rank)| Fact::Measured { ask, result: Ok(rank) }),
        (ask(), -3i64..3).prop_map(|(ask, rank)| Fact::Ranks { ask, result: Ok(vec![("other".into(), rank)]) }),
        any::<bool>().prop_map(|stands| Fact::Guard { stands }),
        any::<bool>().prop_map(|ok| Fact::Promoted { result: if ok { Ok(()) } else { Err("1".to_owned()) } }),
        Just(Fact::OutOfRole),
        any::<bool>().prop_map(|well| Fact::Health { well }),
        any::<bool>().prop_map(|on| Fact::Maintenance { on }),
        Just(Fact::StepDown { to: None }),
        Just(Fact::StepDown { to: Some("other".into()) }),
        ask().prop_map(move |ask| Fact::Looked { ask, result: Err("cut".to_owned()) }),
        Just(Fact::Saw(Err("cut".to_owned()))),
        Just(Fact::AcceptTerm),
    ]
}

/// One candidate, and what its orders have made of its container.
struct Container {
    core: Election,
    now: Time,
    last_ask: Ask,
    acting: Option<Term>,
    killed: bool,
    page: Option<Time>,
    well: bool,
    maintained: bool,
}

impl Container {
    fn new(settings: Settings) -> Container {
        Container {
            core: Election::new(settings, 1),
            now: Time::since_boot(Duration::from_secs(100)),
            last_ask: Ask(0),
            acting: None,
            killed: false,
            page: None,
            well: true,
            maintained: false,
        }
    }

    fn tell(&mut self, fact: Fact) {
        match fact {
            Fact::OutOfRole => self.acting = None,
            Fact::Health { well } => self.well = well,
            Fact::Maintenance { on } => self.maintained = on,
            _ => {}
        }
        let own = self.core.session();
        for order in self.core.handle(self.now, fact) {
            match order {
                Order::Promote { term } => {
                    assert_eq!(self.acting, None, "promoted twice");
                    assert!(self.page.is_some_and(|at| at > self.now), "promoted without a deadline");
                    assert!(self.well && !self.maintained, "promoted unfit");
                    (self.acting, self.killed) = (Some(term), false);
                }
                Order::Guard { deadline } => {
                    assert!(deadline.is_some() || self.acting.is_none(), "the guard was sent off while main acts");
                    self.page = deadline;
                }
                Order::Kill { .. } => self.killed = true,
                Order::Release { term, .. } => {
                    assert!(term.is_some(), "a release of any term");
                    assert_eq!(self.acting, None, "released while main acts");
                }
                Order::CloseSession { session } => {
                    assert!(self.acting.is_none() || own != Some(session), "the session closed while main acts");
                }
                Order::EndFormerLife { session } => {
                    assert!(own != Some(session), "its own session taken for a former life's");
                }
                Order::Acquire { ask, .. }
                | Order::OpenSession { ask }
                | Order::Look { ask }
                | Order::Renew { ask, .. }
                | Order::MeasureRank { ask }
                | Order::ReadRanks { ask, .. } => {
                    assert!(ask > self.last_ask, "a question was used twice");
                    self.last_ask = ask;
                }
                Order::PublishRank { .. } | Order::Demote { .. } | Order::Leader(_) | Order::Say(_) => {}
            }
        }
        assert!(self.core.follows().is_none_or(|leader| &*leader.id != "me"), "it follows itself");
        assert!(!self.core.is_acting() || self.core.is_settled(), "it leads, and isn't settled");
        assert_eq!(self.core.is_acting(), self.acting.is_some(), "the core and the world differ on who acts");
    }

    fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        for _ in 0..10_000 {
            match self.core.deadline() {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    self.tell(Fact::Tick);
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
        facts in prop::collection::vec((fact(), 0u64..4_000), 0..80),
    ) {
        let rank = ranked.then_some(Duration::from_millis(500));
        let mut container = Container::new(Settings { rank, ..settings() });
        container.tell(Fact::Guard { stands: true });
        for (fact, wait) in facts {
            let last = container.last_ask;
            container.tell(recent(fact, last));
            container.wait(wait);
        }
        // Nothing in the world answers any more, but what was killed is gone.
        container.tell(Fact::Stop);
        container.wait(PACE.least().as_millis() as u64 * 3);
        container.tell(Fact::OutOfRole);
        container.wait(60_000);
        prop_assert!(container.core.is_over(), "{:?}", container.core);
        prop_assert_eq!(container.core.deadline(), None);
    }
}

/// The same fact about the question last asked, where it was about none.
fn recent(mut fact: Fact, last: Ask) -> Fact {
    match &mut fact {
        Fact::Opened { ask, .. }
        | Fact::Looked { ask, .. }
        | Fact::Acquired { ask, .. }
        | Fact::Renewed { ask, .. }
        | Fact::Released { ask, .. }
        | Fact::Measured { ask, .. }
        | Fact::Ranks { ask, .. }
            if *ask == Ask(0) =>
        {
            *ask = last;
        }
        _ => {}
    }
    fact
}
