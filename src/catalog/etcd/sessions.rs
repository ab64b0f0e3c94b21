//! What a candidate has in etcd by each of its sessions: the lease its lock is under now, leases that hold nothing any
//! more and are still to be revoked, as which the lock was last written, and by which server of which leader's time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::supervisor::machines::election::event::Id;
use crate::supervisor::machines::election::record::{Guarantee, SessionId};

/// More leases than this are left to their time.
const MOST_LEASES: usize = 16;

/// By session.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<BTreeMap<SessionId, SessionLeases>>);

/// What one session has.
#[derive(Debug, Clone)]
pub(super) struct SessionLeases {
    /// What the core was told that is promised.
    pub(super) guarantee: Guarantee,
    /// Leases that the lock is or may be under, the newest last.
    leases: Vec<i64>,
    /// Leases that it will never be under again, still to be revoked.
    idle: Vec<i64>,
    /// As which the lock was last seen or written; `None` when an answer was lost.
    pub(super) version: Option<i64>,
    /// Who put the lock under the first of the leases; `None` from when it is to be put under another until that is
    /// known: a keep-alive in between wouldn't keep one that comes late from putting it back.
    by: Option<Server>,
    /// Until then one who led before may still act.
    hold_off_until: Option<Instant>,
    /// `last` tells of it.
    announced_hold_off: bool,
    /// What `last` says of how long main may outlive the lock on the witness's file.
    pub(super) told_linger: Option<Duration>,
    /// Whether `last` says that a person has it lead, whatever is lost by it.
    pub(super) told_loss: bool,
    /// Where the lock says that the candidate can be reached.
    pub(super) told_address: Option<Id>,
}

/// A server, and the term of the leader it knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) member: u64,
    pub(super) raft_term: u64,
}

impl SessionLeases {
    /// The lease to keep alive, and by whom; `None`: the lock is to be put under another.
    pub(super) fn kept_by(&self) -> Option<(i64, Server)> {
        Some((*self.leases.first()?, self.by?))
    }

    /// Whether `last` says that nothing is owed, or is right about it.
    pub(super) fn has_no_hold_off(&self) -> bool {
        !self.announced_hold_off
    }

    /// How long one who led before may still act.
    pub(super) fn hold_off_left(&self) -> Duration {
        self.hold_off_until.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default()
    }
}

impl Sessions {
    /// A session that has nothing yet.
    pub(super) fn open(&self, session: SessionId, guarantee: Guarantee) {
        let mut sessions = self.lock();
        // A core has one session at a time, and perhaps one that it has not closed yet.
        while sessions.len() >= MOST_LEASES {
            sessions.pop_first();
        }
        sessions.insert(
            session,
            SessionLeases {
                guarantee,
                leases: Vec::new(),
                idle: Vec::new(),
                version: None,
                by: None,
                hold_off_until: None,
                announced_hold_off: false,
                told_linger: None,
                told_loss: false,
                told_address: None,
            },
        );
    }

    /// A session is used to acquire the lock.
    pub(super) fn stands(&self, session: SessionId, hold_off_left: Duration) {
        if let Some(session_leases) = self.lock().get_mut(&session) {
            session_leases.hold_off_until = Some(Instant::now() + hold_off_left);
            session_leases.announced_hold_off = !hold_off_left.is_zero();
        }
    }

    /// `last` says this, or is about to.
    pub(super) fn tells_linger(&self, session: SessionId, linger: Option<Duration>) {
        if let Some(session_leases) = self.lock().get_mut(&session) {
            session_leases.told_linger = linger;
        }
    }

    /// `last` says this.
    pub(super) fn tells_loss(&self, session: SessionId, loss_accepted: bool) {
        if let Some(session_leases) = self.lock().get_mut(&session) {
            session_leases.told_loss = loss_accepted;
        }
    }

    /// The lock says this, or is about to.
    pub(super) fn tells_address(&self, session: SessionId, address: Option<Id>) {
        if let Some(session_leases) = self.lock().get_mut(&session) {
            session_leases.told_address = address;
        }
    }

    /// What a session has.
    pub(super) fn of(&self, session: SessionId) -> Option<SessionLeases> {
        self.lock().get(&session).cloned()
    }

    /// A lease was granted for a session. Noted before it is used: a write whose answer is lost must still be undone.
    /// `false` when the session is over.
    pub(super) fn granted(&self, session: SessionId, lease: i64) -> bool {
        let mut sessions = self.lock();
        let Some(session_leases) = sessions.get_mut(&session) else { return false };
        session_leases.leases.push(lease);
        if session_leases.leases.len() > MOST_LEASES {
            session_leases.leases.remove(0);
        }
        true
    }

    /// A lease is no more.
    pub(super) fn revoked(&self, session: SessionId, lease: i64) {
        if let Some(session_leases) = self.lock().get_mut(&session) {
            session_leases.leases.retain(|held| *held != lease);
            session_leases.idle.retain(|held| *held != lease);
        }
    }

    /// The lock was seen as this; `None`: it is to be written, and perhaps is.
    pub(super) fn seen(&self, session: SessionId, version: Option<i64>) {
        if let Some(session_leases) = self.lock().get_mut(&session) {
            (session_leases.version, session_leases.by) = (version, None);
        }
    }

    /// A session is over; its leases.
    pub(super) fn close(&self, session: SessionId) -> Vec<i64> {
        let Some(session_leases) = self.lock().remove(&session) else { return Vec::new() };
        // First those that may hold the lock.
        session_leases.leases.into_iter().rev().chain(session_leases.idle).collect()
    }

    /// The lock was put under this lease, so that those granted before hold nothing: one on its way there names an older
    /// version. One granted later may hold it by now: its renewal was begun when this one's was given up.
    pub(super) fn holds_by(
        &self,
        session: SessionId,
        lease: i64,
        version: i64,
        by: Option<Server>,
        hold_off_left: Duration,
    ) {
        if let Some(session_leases) = self.lock().get_mut(&session) {
            // Or it is the answer to a renewal that was given up, and overtaken.
            let Some(earlier) = session_leases.leases.iter().position(|held| *held == lease) else { return };
            session_leases.idle.extend(session_leases.leases.drain(..earlier));
            (session_leases.version, session_leases.by) = (Some(version), by);
            session_leases.announced_hold_off = !hold_off_left.is_zero();
            let surplus = session_leases.idle.len().saturating_sub(MOST_LEASES);
            session_leases.idle.drain(..surplus);
        }
    }

    /// Leases of a session that hold nothing.
    pub(super) fn idle(&self, session: SessionId) -> Vec<i64> {
        self.of(session).map(|session_leases| session_leases.idle).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, SessionLeases>> {
        // Each change is one assignment: a panic can't have left it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const BY: Server = Server { member: 1, raft_term: 2 };

    impl Sessions {
        fn confirmed(&self, lease: i64) {
            self.holds_by(A, lease, lease, Some(BY), Duration::ZERO);
        }
    }

    #[test]
    fn a_lease_is_kept_alive_only_while_the_lock_is_known_to_be_under_it() {
        let sessions = Sessions::default();
        sessions.open(A, Guarantee::For(Duration::from_secs(15)));
        let kept = || sessions.of(A).unwrap().kept_by();
        sessions.granted(A, 1);
        assert_eq!(kept(), None);
        sessions.confirmed(1);
        assert_eq!(kept(), Some((1, BY)));
        // It is to be put under another, and whether it is nobody knows.
        sessions.granted(A, 2);
        sessions.seen(A, None);
        assert_eq!(kept(), None);
        sessions.granted(A, 3);
        sessions.confirmed(3);
        // The second's answer comes at last.
        sessions.confirmed(2);
        assert_eq!((kept(), sessions.of(A).unwrap().version), (Some((3, BY)), Some(3)));
    }

    #[test]
    fn a_lease_is_idle_only_when_the_lock_is_known_to_be_under_another() {
        let sessions = Sessions::default();
        sessions.open(A, Guarantee::For(Duration::from_secs(15)));
        sessions.granted(A, 1);
        sessions.confirmed(1);
        // One whose fate nobody knows, and one that did it.
        sessions.granted(A, 2);
        sessions.granted(A, 3);
        assert!(sessions.idle(A).is_empty());
        sessions.confirmed(3);
        assert_eq!(sessions.idle(A), [1, 2]);
        sessions.revoked(A, 2);
        assert_eq!(sessions.close(A), [3, 1]);
        assert!(sessions.close(A).is_empty());
    }

    /// Two renewals overlap, for the machine slept, and the first's answer comes between the second's grant and its own.
    #[test]
    fn a_lease_granted_later_is_not_idle_because_an_older_one_was_confirmed() {
        let sessions = Sessions::default();
        sessions.open(A, Guarantee::For(Duration::from_secs(15)));
        for lease in 1..=3 {
            sessions.granted(A, lease);
        }
        sessions.confirmed(2);
        assert_eq!(sessions.idle(A), [1]);
        sessions.confirmed(3);
        assert_eq!(sessions.idle(A), [1, 2]);
        // And late, when it is idle itself.
        sessions.confirmed(2);
        assert_eq!(sessions.idle(A), [1, 2]);
        assert_eq!(sessions.close(A)[0], 3);
    }

    #[test]
    fn leases_that_cannot_be_revoked_do_not_pile_up() {
        let sessions = Sessions::default();
        sessions.open(A, Guarantee::For(Duration::from_secs(15)));
        for lease in 0..100 {
            sessions.granted(A, lease);
            sessions.confirmed(lease);
        }
        assert_eq!(sessions.idle(A).len(), MOST_LEASES);
        assert_eq!(sessions.close(A)[..2], [99, 83]);
    }
}
