//! The lock is held under this candidate's own id, by a session it never opened. As a rule that is its container's life
//! before. It may be another container that was given the same id by mistake, and that one is well: what is known to be
//! another's is not ended, and what outlasts every life before is told of.

use std::time::Duration;

use crate::supervisor::vocabulary::{Notice, Time};

use super::Election;
use super::event::ElectionEffect;
use super::record::{Guarantee, Holder, SessionId, View};

/// How long what a dead container held may outlast its promise: a Consul session that nobody renews ends after twice its
/// TTL of 10 s.
const OUTLASTS: Duration = Duration::from_secs(20);
/// What a record may say of a promise is believed up to this.
const LONGEST_PROMISE: Duration = Duration::from_secs(60);
/// How long a kernel may take to end what is left of a container.
const KERNEL_TAKES: Duration = Duration::from_secs(10);

/// What is known of others of this candidate's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Namesake {
    /// One lives in this network namespace.
    pub(super) shares_id: bool,
    /// It holds the lock by this session.
    session: Option<SessionId>,
    /// By then the life before must have ended, unless it is none.
    pub(super) overstays: Option<(SessionId, Time)>,
}

impl Namesake {
    /// Whether the session is known to be another container's.
    pub(super) fn is(&self, session: SessionId) -> bool {
        self.session == Some(session)
    }

    /// Whether one holds the lock, or what the life before held; `true`: another container for certain.
    pub(super) fn seen(&self) -> Option<bool> {
        (self.session.is_some() || self.overstays.is_some()).then_some(self.session.is_some())
    }

    /// By which session the lock is held now.
    pub(super) fn held_by(&mut self, session: Option<SessionId>) {
        self.session = self.session.filter(|known| Some(*known) == session);
        self.overstays = self.overstays.filter(|(known, _)| Some(*known) == session);
    }

    pub(super) fn stop(&mut self) {
        self.overstays = None;
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.overstays.map(|(_, at)| at)
    }
}

impl Election {
    /// The first view shows the lock held under our own id.
    pub(super) fn see_own_name(&mut self, now: Time, holder: &Holder, view: &View, out: &mut Vec<ElectionEffect>) {
        if self.namesake.shares_id {
            self.namesake.session = Some(holder.session);
            let id = holder.id.to_string();
            return out.push(ElectionEffect::Say(Notice::IdShared { id, certainly: true }));
        }
        let promise = view.last.as_ref().filter(|last| last.session == holder.session).map(|last| last.guarantee);
        // Where the store doesn't say, the life before asked for what this one asks for.
        let promised = match promise {
            Some(Guarantee::WhileAlive { .. }) => None,
            Some(Guarantee::For(promised)) => Some(promised),
            None => self.settings.lease,
        };
        let lasts = promised.map_or(KERNEL_TAKES, |promised| promised.min(LONGEST_PROMISE) + OUTLASTS);
        self.namesake.overstays = Some((holder.session, now + lasts));
        out.push(ElectionEffect::Say(Notice::FormerLifeHolds));
        self.end_former_life(now, holder, out);
    }

    pub(super) fn namesake_tick(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        if self.namesake.overstays.take_if(|(_, at)| *at <= now).is_some() {
            let id = self.settings.id.to_string();
            out.push(ElectionEffect::Say(Notice::IdShared { id, certainly: false }));
        }
    }
}
