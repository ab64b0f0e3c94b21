//! What a candidate says beside the lock: read, then written over what was read, each a request of its own. One may arrive
//! when nobody waits for it any more, and even when its agent is gone.

use std::time::Duration;

use crate::supervisor::vocabulary::*;
use crate::supervisor::{Effect, Event};

use super::Lie;
use super::world::World;

/// How long the adapters wait for the store where the core doesn't say.
const CALL_WITHIN: Duration = Duration::from_secs(10);

/// What is under way of it.
#[derive(Debug)]
pub struct Marking {
    /// Whose it is, and in which of its lives.
    pub of: usize,
    life: u32,
    fence: Fence,
    id: String,
    mark: LeaderMark,
    /// When the adapter's patience ends; `None`: it has.
    until: Option<Duration>,
    /// What is to be written, over which revision, once that is read.
    next: Option<(String, u64)>,
    /// When it gets on.
    at: Duration,
}

impl Marking {
    /// When something comes of it next.
    pub fn due(&self) -> Duration {
        self.until.map_or(self.at, |until| until.min(self.at))
    }

    /// Whether the store has it.
    pub fn gets_on(&self, now: Duration) -> bool {
        self.at <= now
    }
}

impl World {
    /// An order to say something beside the lock, or to ask whether anybody has.
    pub fn marks(&mut self, index: usize, effect: Effect) {
        let (fence, id, mark, within) = match effect {
            Effect::AskWhoActed { fence, id, within } => (fence, id, LeaderMark::Prepares, within),
            Effect::TellActing { fence, id, mark } => (fence, id, mark, CALL_WITHIN),
            _ => return,
        };
        if mark == LeaderMark::Acts && !self.containers[index].promoted.contains(&fence.term.0) {
            return self
                .breaks(format!("{id} is said to act for term {} before on_promote has succeeded", fence.term.0));
        }
        let (life, until) = (self.lives[index], Some(self.now + within));
        let at = self.now;
        self.marks.push(Marking { of: index, life, fence, id, mark, until, next: None, at });
    }

    /// Whose patience is over.
    pub fn impatient(&self) -> Option<usize> {
        self.marks.iter().position(|marking| marking.until.is_some_and(|until| until <= self.now))
    }

    /// It hears that there was no answer; the request goes on its way.
    pub fn loses_patience(&mut self, index: usize) {
        self.answers(index, Err("no answer".to_owned()));
        self.marks[index].until = None;
    }

    /// The store reads for it, or writes.
    pub fn marks_on(&mut self, index: usize) {
        if self.containers[self.marks[index].of].cut_until.is_some() {
            return self.loses_patience(index);
        }
        let Marking { fence, id, mark, next, .. } = &self.marks[index];
        let stands = self.store.acting.as_deref().map(str::as_bytes);
        let Some((value, over)) = next.clone() else {
            let next = mark.over(id, fence.term, stands).map(|value| (value, self.store.acting_revision));
            return match next {
                Some(_) => {
                    let late = if self.random.once_in(2) { self.random.span() } else { Duration::ZERO };
                    let at = self.now + late;
                    (self.marks[index].next, self.marks[index].at) = (next, at);
                }
                None => self.is_marked(index, Ok(ElectionPast::Led)),
            };
        };
        if !self.store.view().shows(fence.session, fence.term) {
            return self.is_marked(index, Err("another's".to_owned()));
        }
        if over != self.store.acting_revision && !self.play.lies.contains(&Lie::MarksOverWhatever) {
            return self.marks[index].next = None;
        }
        self.store.is_told(value);
        self.is_marked(index, Ok(ElectionPast::Unled));
    }

    fn is_marked(&mut self, index: usize, result: Result<ElectionPast, String>) {
        self.answers(index, result);
        self.marks.swap_remove(index);
    }

    fn answers(&mut self, index: usize, result: Result<ElectionPast, String>) {
        let Marking { of, life, mark, ref fence, until, .. } = self.marks[index];
        let term = fence.term;
        if until.is_some() && self.lives[of] == life {
            let event = match mark {
                LeaderMark::Prepares => Event::ActedBefore { term, result },
                LeaderMark::Begins | LeaderMark::Acts => Event::ActingTold { term, result: result.map(|_| ()) },
            };
            self.hears(of, event);
        }
    }
}
