//! Who acts: a leader that does says so beside the lock, and replicas follow nobody before. What was never said there says
//! that nobody has led yet, and so who may initialise.

use std::time::Duration;

use crate::config::Query;
use crate::supervisor::Supervisor;
use crate::supervisor::machines::election::ElectionEvent;
use crate::supervisor::machines::election::event::Id;
use crate::supervisor::machines::election::record::{Holder, Term};
use crate::supervisor::sequence::duties::{Duty, keeps};
use crate::supervisor::vocabulary::{
    Effect, ElectionPast, Follow, LeaderMark, Notice, Observation, Step, Time, acting_key, acting_value, earliest,
};

use super::{Leadership, Promotion, Role};

/// How long a start waits to know whether the leader acts.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// Between two tries to tell that this container acts.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// Between two looks whether it still stands there: it may have been deleted, or overwritten.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// Between two questions to a store that doesn't answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long the first of all leaders tries to say that it is about to act: a store that hears nothing for so long renews no
/// lease either.
const BEGINS_WITHIN: Duration = Duration::from_secs(5);
/// What is tried, for people.
const TELLING: &str = "telling that this container acts as leader";
const ASKING: &str = "asking whether anybody has led";

/// What is known of who acts.
#[derive(Debug, Default)]
pub struct Acting {
    /// Of the leader that another container is.
    other: Option<OtherLeader>,
    /// Whether somebody has been seen to act, this container included: who comes to lead then asks nothing.
    seen: bool,
    /// What is known of who led before this term: `Some(None)` is that it can't be known.
    past: Option<(Term, Option<ElectionPast>)>,
    asks_past: Question,
    /// Since when main could act, were it told on that it does so, perhaps as the first.
    begins: Option<Time>,
    /// The term for which that is told on.
    begun: Option<Term>,
    told: Option<Telling>,
    /// Whether nobody had ever begun to act, as of this term.
    unled: Option<(Term, bool)>,
    asks_unled: Question,
}

/// A question to the store that is asked until it is answered.
#[derive(Debug, Default)]
struct Question {
    again_at: Option<Time>,
    /// Why it wasn't the last time.
    error: Option<String>,
}

impl Question {
    /// Whether it is to be asked now.
    fn take_due(&mut self, now: Time) -> bool {
        self.again_at.take_if(|at| *at <= now).is_some()
    }

    /// What is known by this answer; without one it is asked again.
    fn answered<T>(&mut self, step: &mut Step<'_>, result: Result<T, String>) -> Option<T> {
        let what = || ASKING.to_owned();
        match result {
            Ok(known) => {
                if self.error.take().is_some() {
                    step.out.push(Effect::Say(Notice::CatalogBack { what: what() }));
                }
                self.again_at = None;
                Some(known)
            }
            Err(error) => {
                if self.error.as_ref() != Some(&error) {
                    step.out.push(Effect::Say(Notice::CatalogFailed { what: what(), error: error.clone() }));
                }
                (self.again_at, self.error) = (Some(step.now + ASK_AGAIN), Some(error));
                None
            }
        }
    }
}

#[derive(Debug)]
struct OtherLeader {
    id: Id,
    term: Term,
    since: Time,
    acts: Option<bool>,
}

/// Others are told how far this container is for a term.
#[derive(Debug)]
struct Telling {
    term: Term,
    mark: LeaderMark,
    /// When it is told again; `None`: it is under way, or needn't be.
    again_at: Option<Time>,
    error: Option<String>,
}

impl Acting {
    /// When something must happen next.
    pub fn deadline(&self) -> Option<Time> {
        let unseen = self.other.as_ref().filter(|other| other.acts.is_none());
        let again = self.told.as_ref().and_then(|told| told.again_at);
        let begins = self.begins.map(|since| since + BEGINS_WITHIN);
        let unseen = unseen.map(|other| other.since + SEEN_WITHIN);
        [unseen, again, begins, self.asks_past.again_at].into_iter().fold(self.asks_unled.again_at, earliest)
    }

    /// Whether it is known if the leader acts, should another container lead.
    pub fn is_seen(&self) -> bool {
        self.other.as_ref().is_none_or(|other| other.acts.is_some())
    }

    /// Whether nobody had ever begun to act as of this term; `None`: not known yet.
    pub fn unled(&self, term: Term) -> Option<bool> {
        match self.seen {
            true => Some(false),
            false => self.unled.filter(|(of, _)| *of == term).map(|(_, unled)| unled),
        }
    }

    /// What can be known of who led before this term, once that is settled.
    fn past(&self, term: Term) -> Option<Option<ElectionPast>> {
        self.past.filter(|(of, _)| *of == term).map(|(_, past)| past)
    }

    /// Whether it is settled.
    pub fn is_past_settled(&self, term: Term) -> bool {
        self.past(term).is_some()
    }

    /// Settles it, unless it is.
    pub fn settle_past(&mut self, term: Term, past: Option<ElectionPast>) {
        if !self.is_past_settled(term) {
            self.past = Some((term, past));
        }
    }

    /// Whether this container is known to be the first that leads.
    pub fn is_first(&self, term: Term) -> bool {
        self.past(term) == Some(Some(ElectionPast::Unled))
    }

    /// Whether it may be the first, and is to say so before it acts: else the next one would be called the first.
    fn may_be_first(&self, term: Term) -> bool {
        matches!(self.past(term), Some(None | Some(ElectionPast::Unled)))
    }

    fn acts(&self, leader: &Holder) -> bool {
        let other = self.other.as_ref().filter(|other| (&other.id, other.term) == (&leader.id, leader.term));
        other.is_some_and(|other| other.acts == Some(true))
    }
}

impl Leadership {
    /// Whether this leader acts: its promotion has succeeded.
    pub fn acts(&self, leader: &Holder) -> bool {
        match *leader.id == *self.config.id {
            true => matches!(self.role, Role::Leader { promotion: Promotion::Done, .. }),
            false => self.acting.acts(leader),
        }
    }

    /// Until when it is of use to this term to know who has led before; `None`: it isn't any more.
    fn asks_until(&self, term: Term) -> Option<Time> {
        match self.role {
            Role::Leader { term: own, promotion: Promotion::Clearing { until } } if own == term => {
                Some(until).filter(|_| !self.acting.is_past_settled(term))
            }
            Role::Leader { .. } | Role::Leaving { .. } | Role::Replica => None,
        }
    }
}

impl Supervisor {
    /// What follows from who leads, and from main's promotion.
    pub(super) fn advance_acting(&mut self, step: &mut Step<'_>) {
        self.look_at_leader(step);
        self.tell_acting(step);
        self.ask_again(step);
    }

    /// Another leader is looked at until it acts.
    fn look_at_leader(&mut self, step: &mut Step<'_>) {
        let stopping = self.is_stopping();
        let Some(leadership) = &mut self.leadership else { return };
        let replica = matches!(leadership.role, Role::Replica) && !stopping;
        let leader = leadership.leader.as_ref().filter(|leader| replica && *leader.id != *leadership.config.id);
        let acting = &mut leadership.acting;
        let now = leader.map(|leader| (&leader.id, leader.term));
        if now != acting.other.as_ref().map(|other| (&other.id, other.term)) {
            if acting.other.take().is_some_and(|other| other.acts != Some(true)) {
                step.out.push(Effect::Unfollow { follow: Follow::Acting });
            }
            if let Some(leader) = leader {
                let query = Query::Key { key: acting_key(&leadership.config.name) };
                step.out.push(Effect::Follow { follow: Follow::Acting, query });
                let (id, term) = (leader.id.clone(), leader.term);
                acting.other = Some(OtherLeader { id, term, since: step.now, acts: None });
            }
        }
        if let Some(other) = acting.other.as_mut().filter(|other| other.since + SEEN_WITHIN <= step.now) {
            other.acts.get_or_insert(false);
        }
    }

    /// What stands beside the lock.
    pub(in crate::supervisor) fn saw_acting(&mut self, step: &mut Step<'_>, seen: Result<Observation, String>) {
        let Some(leadership) = &mut self.leadership else { return };
        let Some(other) = &mut leadership.acting.other else { return };
        let Ok(Observation::Key(value)) = seen else { return };
        let acts = value.is_some_and(|value| value == acting_value(&other.id, other.term));
        if acts && other.acts != Some(true) {
            // It acts until it leads no more.
            step.out.push(Effect::Unfollow { follow: Follow::Acting });
        }
        if other.acts != Some(true) {
            other.acts = Some(acts);
        }
        let term = other.term;
        if acts {
            leadership.acting.seen = true;
            self.tell_election(ElectionEvent::Acts { term });
        }
    }

    /// Who comes to lead wants to know whether anybody has before.
    pub(super) fn ask_who_acted(&mut self, step: &mut Step<'_>) {
        let Some(leadership) = &mut self.leadership else { return };
        let acting = &mut leadership.acting;
        (acting.past, acting.begins, acting.begun, acting.told) = (None, None, None, None);
        acting.asks_past = Question::default();
        // The answer would take as long as the store does, and nobody leads meanwhile.
        match leadership.role {
            Role::Leader { term, .. } if acting.seen => acting.settle_past(term, Some(ElectionPast::Led)),
            _ => self.ask_past(step),
        }
    }

    /// Whether anybody has. Where that can't be known, nobody is called the first.
    pub(in crate::supervisor) fn acted_before(
        &mut self,
        step: &mut Step<'_>,
        term: Term,
        result: Result<ElectionPast, String>,
    ) {
        let Some(leadership) = &mut self.leadership else { return };
        if leadership.asks_until(term).is_some()
            && let Some(past) = leadership.acting.asks_past.answered(step, result)
        {
            leadership.acting.settle_past(term, Some(past));
        }
    }

    /// Whether anybody has ever begun to, as who only measures a rank is told.
    pub(in crate::supervisor) fn led_before(&mut self, step: &mut Step<'_>, term: Term, result: Result<bool, String>) {
        let Some(leadership) = &mut self.leadership else { return };
        if let Some(led) = leadership.acting.asks_unled.answered(step, result) {
            leadership.acting.unled = Some((term, !led));
            self.measure_once_known(step);
        }
    }

    /// Who measures a rank wants to know whether anybody has ever begun to act.
    pub(super) fn ask_whether_led(&mut self, step: &mut Step<'_>, term: Term) {
        let Some(leadership) = &mut self.leadership else { return };
        leadership.acting.asks_unled.again_at = None;
        step.out.push(Effect::AskWhetherLed { election: leadership.config.name.clone(), term });
    }

    /// What the store didn't answer.
    fn ask_again(&mut self, step: &mut Step<'_>) {
        let Some(leadership) = &mut self.leadership else { return };
        let asks_past = leadership.acting.asks_past.take_due(step.now);
        if leadership.acting.asks_unled.take_due(step.now) {
            self.measure_once_known(step);
        }
        if asks_past {
            self.ask_past(step);
        }
    }

    fn ask_past(&self, step: &mut Step<'_>) {
        let Some(leadership) = &self.leadership else { return };
        if let Some(fence) = leadership.fence()
            && let Some(until) = leadership.asks_until(fence.term)
        {
            let (id, within) = (leadership.config.id.clone(), step.now.until(until));
            step.out.push(Effect::AskWhoActed { fence, id, within });
        }
    }

    /// Whether main may act as leader now.
    pub(in crate::supervisor) fn may_begin_to_lead(&mut self, step: &mut Step<'_>) -> bool {
        let Some(leadership) = &mut self.leadership else { return true };
        let Role::Leader { term, .. } = leadership.role else { return true };
        let acting = &mut leadership.acting;
        if !acting.may_be_first(term) || acting.begun == Some(term) || !keeps(Duty::TellBeforeFirst) {
            acting.begins = None;
            return true;
        }
        acting.begins.get_or_insert(step.now);
        self.tell_acting(step);
        false
    }

    /// The store can't be told, so main never acts.
    pub(super) fn give_up_beginning(&mut self, now: Time) {
        let Some(leadership) = &mut self.leadership else { return };
        let Role::Leader { promotion: promotion @ Promotion::Due, .. } = &mut leadership.role else {
            leadership.acting.begins = None;
            return;
        };
        if leadership.acting.begins.is_some_and(|since| since + BEGINS_WITHIN <= now) {
            leadership.acting.begins = None;
            *promotion = Promotion::Done;
            let result = Err("the store can't be told that it is about to act".to_owned());
            self.tell_election(ElectionEvent::Promoted { result });
        }
    }

    /// Others are told once the promotion has succeeded, and by the first of all before main acts, until they can know.
    fn tell_acting(&mut self, step: &mut Step<'_>) {
        let Some(leadership) = &mut self.leadership else { return };
        let (term, mark) = match leadership.role {
            Role::Leader { term, promotion } if promotion == Promotion::Done || !keeps(Duty::TellOncePromoted) => {
                (term, LeaderMark::Acts)
            }
            Role::Leader { term, .. } if leadership.acting.begins.is_some() => (term, LeaderMark::Begins),
            Role::Leader { .. } | Role::Leaving { .. } | Role::Replica => {
                leadership.acting.told = None;
                return;
            }
        };
        let due = match &leadership.acting.told {
            Some(told) if (told.term, told.mark) == (term, mark) => told.again_at.is_some_and(|at| at <= step.now),
            Some(_) | None => true,
        };
        if let Some(fence) = leadership.fence().filter(|_| due) {
            let error = leadership.acting.told.take().and_then(|told| told.error);
            leadership.acting.told = Some(Telling { term, mark, again_at: None, error });
            step.out.push(Effect::TellActing { fence, id: leadership.config.id.clone(), mark });
        }
    }

    /// Others can know, or can't.
    pub(in crate::supervisor) fn acting_told(&mut self, step: &mut Step<'_>, term: Term, result: Result<(), String>) {
        let Some(acting) = self.leadership.as_mut().map(|leadership| &mut leadership.acting) else { return };
        let Some(told) = acting.told.as_mut().filter(|told| told.term == term) else { return };
        if result.is_ok() && told.mark == LeaderMark::Begins {
            acting.begun = Some(term);
        }
        match result {
            Ok(()) => {
                if told.error.take().is_some() {
                    step.out.push(Effect::Say(Notice::CatalogBack { what: TELLING.to_owned() }));
                }
                // Nothing is written where it stands.
                told.again_at = (told.mark == LeaderMark::Acts).then_some(step.now + LOOK_AGAIN);
                acting.seen |= told.mark == LeaderMark::Acts;
            }
            Err(error) => {
                if told.error.as_ref() != Some(&error) {
                    let what = TELLING.to_owned();
                    step.out.push(Effect::Say(Notice::CatalogFailed { what, error: error.clone() }));
                }
                told.error = Some(error);
                told.again_at = Some(step.now + TELL_AGAIN);
            }
        }
    }
}
