//! What a candidate has in etcd by each of its sessions: the lease its lock is under now, leases that hold nothing any
//! more and are still to be revoked, as which the lock was last written, and by which server of which leader's time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::supervisor::election::record::{Guarantee, SessionId, Version};

/// More leases than this are left to their time.
const MOST_LEASES: usize = 16;

/// By session.
#[derive(Debug, Default)]
pub(super) struct Tenures(Mutex<BTreeMap<SessionId, Tenure>>);

/// What one session has.
#[derive(Debug, Clone)]
pub(super) struct Tenure {
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
    /// The `last` it was, or is to be, won after.
    pub(super) vacancy: Option<Version>,
    /// Until then one who led before may still act.
    owed_until: Option<Instant>,
    /// `last` tells of it.
    told_owed: bool,
}

/// A server, and the term of the leader it knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) member: u64,
    pub(super) raft_term: u64,
}

impl Tenure {
    /// The lease to keep alive, and by whom; `None`: the lock is to be put under another.
    pub(super) fn kept_by(&self) -> Option<(i64, Server)> {
        Some((*self.leases.first()?, self.by?))
    }

    /// Whether `last` says that nothing is owed, or is right about it.
    pub(super) fn owes_nothing(&self) -> bool {
        !self.told_owed
    }

    /// How long one who led before may still act.
    pub(super) fn owed(&self) -> Duration {
        self.owed_until.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default()
    }
}

impl Tenures {
    /// A session that has nothing yet.
    pub(super) fn open(&self, session: SessionId, guarantee: Guarantee) {
        let mut tenures = self.lock();
        // A core has one session at a time, and perhaps one that it has not closed yet.
        while tenures.len() >= MOST_LEASES {
            tenures.pop_first();
        }
        tenures.insert(
            session,
            Tenure {
                guarantee,
                leases: Vec::new(),
                idle: Vec::new(),
                version: None,
                by: None,
                vacancy: None,
                owed_until: None,
                told_owed: false,
            },
        );
    }

    /// A session is used to acquire the lock.
    pub(super) fn stands(&self, session: SessionId, vacancy: Option<Version>, owed: Duration) {
        if let Some(tenure) = self.lock().get_mut(&session) {
            tenure.vacancy = vacancy;
            tenure.owed_until = Some(Instant::now() + owed);
            tenure.told_owed = !owed.is_zero();
        }
    }

    /// What a session has.
    pub(super) fn of(&self, session: SessionId) -> Option<Tenure> {
        self.lock().get(&session).cloned()
    }

    /// A lease was granted for a session. Noted before it is used: a write whose answer is lost must still be undone.
    /// `false` when the session is over.
    pub(super) fn granted(&self, session: SessionId, lease: i64) -> bool {
        let mut tenures = self.lock();
        let Some(tenure) = tenures.get_mut(&session) else { return false };
        tenure.leases.push(lease);
        if tenure.leases.len() > MOST_LEASES {
            tenure.leases.remove(0);
        }
        true
    }

    /// A lease is no more.
    pub(super) fn revoked(&self, session: SessionId, lease: i64) {
        if let Some(tenure) = self.lock().get_mut(&session) {
            tenure.leases.retain(|held| *held != lease);
            tenure.idle.retain(|held| *held != lease);
        }
    }

    /// The lock was seen as this; `None`: it is to be written, and perhaps is.
    pub(super) fn seen(&self, session: SessionId, version: Option<i64>) {
        if let Some(tenure) = self.lock().get_mut(&session) {
            (tenure.version, tenure.by) = (version, None);
        }
    }

    /// A session is over; its leases.
    pub(super) fn close(&self, session: SessionId) -> Vec<i64> {
        let Some(tenure) = self.lock().remove(&session) else { return Vec::new() };
        // First those that may hold the lock.
        tenure.leases.into_iter().rev().chain(tenure.idle).collect()
    }

    /// The lock was put under this lease, so that those granted before hold nothing: one on its way there names an older
    /// version. One granted later may hold it by now: its renewal was begun when this one's was given up.
    pub(super) fn holds_by(&self, session: SessionId, lease: i64, version: i64, by: Option<Server>, owed: Duration) {
        if let Some(tenure) = self.lock().get_mut(&session) {
            // Or it is the answer to a renewal that was given up, and overtaken.
            let Some(earlier) = tenure.leases.iter().position(|held| *held == lease) else { return };
            tenure.idle.extend(tenure.leases.drain(..earlier));
            (tenure.version, tenure.by) = (Some(version), by);
            tenure.told_owed = !owed.is_zero();
            let surplus = tenure.idle.len().saturating_sub(MOST_LEASES);
            tenure.idle.drain(..surplus);
        }
    }

    /// Leases of a session that hold nothing.
    pub(super) fn idle(&self, session: SessionId) -> Vec<i64> {
        self.of(session).map(|tenure| tenure.idle).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Tenure>> {
        // Each change is one assignment: a panic can't have left it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const BY: Server = Server { member: 1, raft_term: 2 };

    impl Tenures {
        fn confirmed(&self, lease: i64) {
            self.holds_by(A, lease, lease, Some(BY), Duration::ZERO);
        }
    }

    #[test]
    fn a_lease_is_kept_alive_only_while_the_lock_is_known_to_be_under_it() {
        let tenures = Tenures::default();
        tenures.open(A, Guarantee::For(Duration::from_secs(15)));
        let kept = || tenures.of(A).unwrap().kept_by();
        tenures.granted(A, 1);
        assert_eq!(kept(), None);
        tenures.confirmed(1);
        assert_eq!(kept(), Some((1, BY)));
        // It is to be put under another, and whether it is nobody knows.
        tenures.granted(A, 2);
        tenures.seen(A, None);
        assert_eq!(kept(), None);
        tenures.granted(A, 3);
        tenures.confirmed(3);
        // The second's answer comes at last.
        tenures.confirmed(2);
        assert_eq!((kept(), tenures.of(A).unwrap().version), (Some((3, BY)), Some(3)));
    }

    #[test]
    fn a_lease_is_idle_only_when_the_lock_is_known_to_be_under_another() {
        let tenures = Tenures::default();
        tenures.open(A, Guarantee::For(Duration::from_secs(15)));
        tenures.granted(A, 1);
        tenures.confirmed(1);
        // One whose fate nobody knows, and one that did it.
        tenures.granted(A, 2);
        tenures.granted(A, 3);
        assert!(tenures.idle(A).is_empty());
        tenures.confirmed(3);
        assert_eq!(tenures.idle(A), [1, 2]);
        tenures.revoked(A, 2);
        assert_eq!(tenures.close(A), [3, 1]);
        assert!(tenures.close(A).is_empty());
    }

    /// Two renewals overlap, for the machine slept, and the first's answer comes between the second's grant and its own.
    #[test]
    fn a_lease_granted_later_is_not_idle_because_an_older_one_was_confirmed() {
        let tenures = Tenures::default();
        tenures.open(A, Guarantee::For(Duration::from_secs(15)));
        for lease in 1..=3 {
            tenures.granted(A, lease);
        }
        tenures.confirmed(2);
        assert_eq!(tenures.idle(A), [1]);
        tenures.confirmed(3);
        assert_eq!(tenures.idle(A), [1, 2]);
        // And late, when it is idle itself.
        tenures.confirmed(2);
        assert_eq!(tenures.idle(A), [1, 2]);
        assert_eq!(tenures.close(A)[0], 3);
    }

    #[test]
    fn leases_that_cannot_be_revoked_do_not_pile_up() {
        let tenures = Tenures::default();
        tenures.open(A, Guarantee::For(Duration::from_secs(15)));
        for lease in 0..100 {
            tenures.granted(A, lease);
            tenures.confirmed(lease);
        }
        assert_eq!(tenures.idle(A).len(), MOST_LEASES);
        assert_eq!(tenures.close(A)[..2], [99, 83]);
    }
}
