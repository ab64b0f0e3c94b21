//! Who acts: a leader that does says so beside the lock, and replicas follow nobody before. What was never said there says
//! that nobody has led yet, and so who may initialise.

use std::time::Duration;

use crate::config::Query;
use crate::supervisor::Supervisor;
use crate::supervisor::machines::election::event::Id;
use crate::supervisor::machines::election::record::{Holder, Term};
use crate::supervisor::sequence::duties::{Duty, keeps};
use crate::supervisor::vocabulary::{
    Effect, Follow, Notice, Observation, Step, Time, acting_key, acting_value, earliest,
};

use super::{Leadership, Promotion, Role};

/// How long a start waits to know whether the leader acts.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// Between two tries to tell that this container acts.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// What is tried, for people.
const TELLING: &str = "telling that this container acts as leader";

/// What is known of who acts.
#[derive(Debug, Default)]
pub struct Acting {
    /// Of the leader that another container is.
    other: Option<OtherLeader>,
    /// Whether this container is the first that leads; `None`: not known yet.
    first: Option<(Term, bool)>,
    told: Option<Telling>,
}

#[derive(Debug)]
struct OtherLeader {
    id: Id,
    term: Term,
    since: Time,
    acts: Option<bool>,
}

/// Others are told that this container acts for a term.
#[derive(Debug)]
struct Telling {
    term: Term,
    /// When it is tried again; `None`: it is done, or under way.
    again_at: Option<Time>,
    error: Option<String>,
}

impl Acting {
    /// When something must happen next.
    pub fn deadline(&self) -> Option<Time> {
        let unseen = self.other.as_ref().filter(|other| other.acts.is_none());
        let again = self.told.as_ref().and_then(|told| told.again_at);
        earliest(unseen.map(|other| other.since + SEEN_WITHIN), again)
    }

    /// Whether it is known if the leader acts, should another container lead.
    pub fn is_seen(&self) -> bool {
        self.other.as_ref().is_none_or(|other| other.acts.is_some())
    }

    /// Whether this container is known to be the first that leads, or not to be.
    pub fn first(&self, term: Term) -> Option<bool> {
        self.first.filter(|(of, _)| *of == term).map(|(_, first)| first)
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
}

impl Supervisor {
    /// What follows from who leads, and from main's promotion.
    pub(super) fn advance_acting(&mut self, step: &mut Step<'_>) {
        self.look_at_leader(step);
        self.tell_acting(step);
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
        let Some(other) = self.leadership.as_mut().and_then(|leadership| leadership.acting.other.as_mut()) else {
            return;
        };
        let Ok(Observation::Key(value)) = seen else { return };
        let acts = value.is_some_and(|value| value == acting_value(&other.id, other.term));
        if acts && other.acts != Some(true) {
            // It acts until it leads no more.
            step.out.push(Effect::Unfollow { follow: Follow::Acting });
        }
        if other.acts != Some(true) {
            other.acts = Some(acts);
        }
    }

    /// Who comes to lead wants to know whether anybody has before.
    pub(super) fn ask_who_acted(&mut self, step: &mut Step<'_>, term: Term) {
        if let Some(leadership) = &mut self.leadership {
            (leadership.acting.first, leadership.acting.told) = (None, None);
            step.out.push(Effect::AskWhoActed { election: leadership.config.name.clone(), term });
        }
    }

    /// Whether anybody has. Where that can't be known, nobody is called the first.
    pub(in crate::supervisor) fn acted_before(&mut self, term: Term, result: Result<bool, String>) {
        if let Some(leadership) = &mut self.leadership {
            leadership.acting.first = Some((term, result == Ok(false)));
        }
    }

    /// Others are told once the promotion has succeeded, until they can know.
    fn tell_acting(&mut self, step: &mut Step<'_>) {
        let Some(leadership) = &mut self.leadership else { return };
        let term = match leadership.role {
            Role::Leader { term, promotion } if promotion == Promotion::Done || !keeps(Duty::TellOncePromoted) => term,
            Role::Leader { .. } | Role::Leaving { .. } | Role::Replica => {
                leadership.acting.told = None;
                return;
            }
        };
        let due = match &leadership.acting.told {
            Some(told) if told.term == term => told.again_at.is_some_and(|at| at <= step.now),
            Some(_) | None => true,
        };
        if let Some(fence) = leadership.fence().filter(|_| due) {
            let error = leadership.acting.told.take().and_then(|told| told.error);
            leadership.acting.told = Some(Telling { term, again_at: None, error });
            step.out.push(Effect::TellActing { fence, id: leadership.config.id.clone() });
        }
    }

    /// Others can know, or can't.
    pub(in crate::supervisor) fn acting_told(&mut self, step: &mut Step<'_>, term: Term, result: Result<(), String>) {
        let Some(told) = self.leadership.as_mut().and_then(|leadership| leadership.acting.told.as_mut()) else {
            return;
        };
        if told.term != term {
            return;
        }
        match result {
            Ok(()) if told.error.take().is_some() => {
                step.out.push(Effect::Say(Notice::CatalogBack { what: TELLING.to_owned() }));
            }
            Ok(()) => {}
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
