//! One try for the lock, and the session that it is made by.

use crate::supervisor::vocabulary::Time;

use super::InFlight;
use super::record::{Guarantee, Revision, SessionId};

/// A session that holds nothing yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct IdleSession {
    pub(super) session: SessionId,
    pub(super) guarantee: Guarantee,
    pub(super) opened: Time,
    /// As which the store was known then: a term won by it is greater.
    pub(super) at: Revision,
}

/// One try for the lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) idle_session: IdleSession,
    pub(super) asked: InFlight,
    /// Until then the one who led before may act, whatever the store says.
    pub(super) act_from: Time,
    /// The one before handed over to us.
    pub(super) handed_to_us: bool,
    /// The `last` that was found.
    pub(super) vacancy: Revision,
}

impl Attempt {
    pub(super) fn session(&self) -> SessionId {
        self.idle_session.session
    }

    pub(super) fn guarantee(&self) -> Guarantee {
        self.idle_session.guarantee
    }
}
