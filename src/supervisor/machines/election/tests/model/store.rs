//! The store: one lock, one `last`, sessions, and the promise of its kind. Its clock runs as much faster than the
//! candidates' as the drift they allow for.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::supervisor::machines::election::event::{Acquisition, Certification, Id, Renewal};
use crate::supervisor::machines::election::record::{
    Guarantee, Holder, Last, Lock, PeerRank, Revision, SessionId, Term, View, Witness,
};
use crate::supervisor::vocabulary::Time;

use super::Kind;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Store {
    kind: Kind,
    revision: u64,
    lock: Option<Key>,
    last: Option<(Last, Revision)>,
    /// Each live session with the candidate's name and the time it was last renewed. On etcd it is the lease that the
    /// lock is under.
    sessions: BTreeMap<SessionId, (Id, Time)>,
    /// Which of a session's leases that is.
    leases: BTreeMap<SessionId, u64>,
    /// How often etcd has elected a leader.
    raft_term: u8,
    /// Everyone is withheld the lock until then.
    withheld_until: Time,
    /// How long main may outlive the file that tells its end, as `last` says.
    linger: Duration,
    /// How far candidates are.
    ranks: BTreeMap<Id, PeerRank>,
    opened: u128,
}

/// The lock's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    version: Revision,
    /// The session in its value, and whether it holds the lock.
    session: SessionId,
    held: bool,
    holder: Holder,
}

/// What a candidate asks for when it acquires.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AcquireRequest {
    pub id: Id,
    pub session: SessionId,
    pub guarantee: Guarantee,
    pub seen: Option<(Revision, Revision)>,
    pub hold_off_left: Duration,
    pub witness: Option<std::sync::Arc<Witness>>,
    pub linger: Duration,
}

/// A promise as the candidates' slow clocks see it.
fn as_seen(promise: Duration) -> Duration {
    promise - promise / 100
}

impl Store {
    pub fn new(kind: Kind) -> Store {
        Store {
            kind,
            revision: 0,
            lock: None,
            last: None,
            sessions: BTreeMap::new(),
            leases: BTreeMap::new(),
            raft_term: 0,
            withheld_until: Time::default(),
            linger: Duration::ZERO,
            ranks: BTreeMap::new(),
            opened: 0,
        }
    }

    /// Whoever reads it has a clock that runs as much faster than the holder's as the drift they allow for.
    pub fn view(&self) -> View {
        let lock = match &self.lock {
            None => Lock::Free { version: Revision::default(), taken_from: None },
            Some(key) if key.held => Lock::Held(Holder { owes: key.holder.owes.map(as_seen), ..key.holder.clone() }),
            Some(key) => Lock::Free { version: key.version, taken_from: Some(key.session) },
        };
        let last = self.last.as_ref().map(|(last, _)| last.clone());
        let read = |last: Last| Last {
            ended: self.kind == Kind::Etcd && !self.sessions.contains_key(&last.session),
            guarantee: match last.guarantee {
                Guarantee::For(promised) => Guarantee::For(as_seen(promised)),
                Guarantee::WhileAlive { linger } => Guarantee::WhileAlive { linger },
            },
            hold_off_left: as_seen(last.hold_off_left),
            ..last
        };
        let last_revision = self.last.as_ref().map(|(_, version)| *version).unwrap_or_default();
        View { at: self.revision, lock, last: last.map(read), last_revision }
    }

    /// The second of two reads: the lock as it was seen, and `last` as it is now.
    pub fn view_with(&self, at: u64, lock: Lock) -> View {
        View { at, lock, ..self.view() }
    }

    /// A server forgets that it holds everyone back.
    pub fn forget(&mut self, now: Time) {
        self.withheld_until = self.withheld_until.min(now);
    }

    /// Ages are owed.
    pub fn scribble(&mut self) {
        self.revision += 1;
        if let Some((last, version)) = &mut self.last {
            (last.hold_off_left, *version) = (Duration::from_millis(u64::MAX), Revision(self.revision));
        }
    }

    /// Another server leads from now on.
    pub fn depose(&mut self) {
        self.raft_term += 1;
    }

    /// Since when its leading server leads.
    pub fn raft_term(&self) -> u8 {
        self.raft_term
    }

    /// A keep-alive that reached the leading server.
    pub fn keep_alive(&mut self, now: Time, session: SessionId, lease: u64) {
        if self.lease(session) == lease
            && let Some((_, renewed)) = self.sessions.get_mut(&session)
        {
            *renewed = now;
        }
    }

    /// Which of its leases a session holds the lock by; the first is the acquire's.
    fn lease(&self, session: SessionId) -> u64 {
        self.leases.get(&session).copied().unwrap_or_default()
    }

    /// What etcd says of a lock that this session held.
    pub fn prove(&self, session: SessionId, lease: u64) -> Renewal {
        match self.lock.as_ref().is_some_and(|key| key.held && key.session == session) {
            true if self.lease(session) == lease => Renewal::Alive(self.view()),
            true => Renewal::Unknown("under another lease".to_owned()),
            false => Renewal::Gone { void: true },
        }
    }

    /// A lease of a session is ended.
    pub fn end_lease(&mut self, now: Time, session: SessionId, lease: u64, promise: Duration) {
        if self.lease(session) == lease {
            self.end(now, session, promise);
        }
    }

    pub fn open(&mut self, now: Time, id: Id) -> SessionId {
        self.opened += 1;
        let session = SessionId(self.opened);
        // An etcd lease is granted by the acquire itself.
        if self.kind != Kind::Etcd {
            self.sessions.insert(session, (id, now));
        }
        session
    }

    /// Ends a session, with what it holds.
    pub fn end(&mut self, now: Time, session: SessionId, promise: Duration) {
        self.sessions.remove(&session);
        self.leases.remove(&session);
        let Some(key) = self.lock.as_mut().filter(|key| key.held && key.session == session) else { return };
        self.revision += 1;
        match self.kind {
            Kind::Consul => {
                key.held = false;
                key.version = Revision(self.revision);
                self.withheld_until = now + as_seen(promise);
            }
            Kind::Etcd | Kind::Local => self.lock = None,
        }
    }

    /// Sessions that the store may end now by itself.
    pub fn may_end(&self, now: Time, promise: Duration) -> impl Iterator<Item = SessionId> {
        let kind = self.kind;
        self.sessions.iter().filter_map(move |(session, (_, renewed))| {
            let may = match kind {
                Kind::Consul => true,
                Kind::Etcd => *renewed + as_seen(promise) <= now,
                Kind::Local => false,
            };
            may.then_some(*session)
        })
    }

    /// When the next of its promises runs out.
    pub fn next(&self, now: Time, promise: Duration) -> Option<Time> {
        let leases = self.sessions.values().map(|(_, renewed)| *renewed + as_seen(promise));
        let leases = leases.filter(|_| self.kind == Kind::Etcd);
        leases.chain([self.withheld_until]).filter(|at| *at > now).min()
    }

    /// Whether the lock is withheld: asked before the write, and not in it.
    pub fn withholds(&self, now: Time) -> bool {
        now < self.withheld_until
    }

    /// `granted` is when the lease that comes with it was granted (etcd).
    pub fn acquire(&mut self, now: Time, wanted: &AcquireRequest, granted: Option<Time>) -> Acquisition {
        let AcquireRequest { id, session, guarantee, seen, hold_off_left, witness, linger } = wanted.clone();
        let lives = match granted {
            Some(granted) => now < granted + as_seen(guarantee.grace_after_release()),
            None => self.sessions.contains_key(&session),
        };
        if !lives {
            return Acquisition::Unknown("no such session".to_owned());
        }
        let version = self.lock.as_ref().map(|key| key.version).unwrap_or_default();
        let last_revision = self.last.as_ref().map(|(_, version)| *version).unwrap_or_default();
        let as_seen = seen.is_none_or(|seen| seen == (version, last_revision));
        if self.lock.as_ref().is_some_and(|key| key.held) || !as_seen {
            return Acquisition::Changed;
        }
        if let Some(granted) = granted {
            self.sessions.insert(session, (id.clone(), granted));
        }
        self.revision += 1;
        let (term, version) = (Term(self.revision), Revision(self.revision));
        let holder = Holder { id: id.clone(), session, term, address: None, owes: Some(hold_off_left), witness };
        self.lock = Some(Key { version, session, held: true, holder });
        let last = Last { id, session, term, guarantee, released: false, to: None, ended: false, hold_off_left };
        self.last = Some((last, version));
        self.linger = linger;
        Acquisition::Won(term)
    }

    pub fn renew(&mut self, now: Time, session: SessionId) -> Renewal {
        match self.sessions.get_mut(&session) {
            Some((_, renewed)) => {
                *renewed = now;
                Renewal::Alive(self.view())
            }
            None => Renewal::Gone { void: self.kind != Kind::Consul },
        }
    }

    /// As which the lock's key was written, when this session holds it.
    pub fn held_as(&self, session: SessionId) -> Option<Revision> {
        self.lock.as_ref().filter(|key| key.held && key.session == session).map(|key| key.version)
    }

    /// etcd's renewal: the key is put anew with a lease granted before, and `last` with it, so that it names the lease
    /// that counts. Only if nobody has written the key since: a renewal that comes late would put it back under a
    /// lease that ends sooner.
    pub fn put_anew(
        &mut self,
        now: Time,
        session: SessionId,
        seen: Option<Revision>,
        lease: (u64, Time, Duration),
    ) -> Renewal {
        let (lease, granted, promise) = lease;
        if granted + as_seen(promise) <= now {
            return Renewal::Unknown("no such lease".to_owned());
        }
        let Some(key) = self.lock.as_mut().filter(|key| key.held && key.session == session) else {
            return Renewal::Gone { void: true };
        };
        if seen.is_some_and(|seen| seen != key.version) {
            return Renewal::Unknown("written since".to_owned());
        }
        self.revision += 1;
        key.version = Revision(self.revision);
        if let Some((_, written)) = &mut self.last {
            *written = key.version;
        }
        if let Some((_, renewed)) = self.sessions.get_mut(&session) {
            *renewed = granted;
        }
        self.leases.insert(session, lease);
        Renewal::Alive(self.view())
    }

    pub fn release(&mut self, session: SessionId, term: Option<Term>, to: Option<Id>, hold_off_left: Duration) {
        let Some(key) = self.lock.as_mut().filter(|key| key.held && key.session == session) else { return };
        if term.is_some_and(|term| term != key.holder.term) {
            return;
        }
        self.revision += 1;
        let version = Revision(self.revision);
        match self.kind {
            Kind::Consul => {
                key.held = false;
                key.version = version;
            }
            Kind::Etcd | Kind::Local => self.lock = None,
        }
        if let Some((last, written)) = &mut self.last {
            (last.released, last.to, last.hold_off_left) = (true, to, hold_off_left);
            *written = version;
        }
    }

    /// Frees the lock of a container that is gone; `None`: whatever its term.
    pub fn certify(&mut self, session: SessionId, term: Option<Term>, gone_for: Duration) -> Certification {
        let Some(key) = self.lock.as_ref().filter(|key| key.held) else { return Certification::Changed };
        let (holder, own) = (key.session, key.holder.term);
        if term.is_some_and(|term| (session, term) != (holder, own)) {
            return Certification::Changed;
        }
        if gone_for < self.linger {
            return Certification::Lingers(self.linger);
        }
        // What it owed it may still owe.
        let hold_off_left = self.last.as_ref().map(|(last, _)| last.hold_off_left).unwrap_or_default();
        self.release(holder, Some(own), None, hold_off_left);
        Certification::Done
    }

    pub fn publish(&mut self, rank: PeerRank) {
        self.ranks.insert(rank.id.clone(), rank);
    }

    pub fn ranks(&self) -> Vec<PeerRank> {
        self.ranks.values().cloned().collect()
    }

    pub fn has_lock_key(&self) -> bool {
        self.lock.is_some()
    }

    pub fn is_held(&self) -> bool {
        self.lock.as_ref().is_some_and(|key| key.held)
    }

    /// An operator frees the lock; its session lives on, nothing is withheld.
    pub fn free(&mut self) {
        self.revision += 1;
        if let Some(key) = &mut self.lock {
            (key.held, key.version) = (false, Revision(self.revision));
        }
    }

    /// Whether the lock is held by this session for this term.
    pub fn is_held_by(&self, session: SessionId, term: Term) -> bool {
        self.lock.as_ref().is_some_and(|key| key.held && key.session == session && key.holder.term == term)
    }

    /// An operator deletes the lock; sessions live on, nothing is withheld.
    pub fn delete(&mut self) {
        self.revision += 1;
        self.lock = None;
    }

    /// The store comes back empty, and counts from the start again.
    pub fn wipe(&mut self) {
        *self = Store { opened: self.opened, ..Store::new(self.kind) };
    }

    /// Sessions of a candidate whose processes are all gone.
    /// The session by which this candidate holds the lock.
    pub fn held_by(&self, id: &Id) -> Option<SessionId> {
        let holds = |session: &SessionId| self.lock.as_ref().is_some_and(|key| key.held && key.session == *session);
        self.of(id).into_iter().find(holds)
    }

    pub fn of(&self, id: &Id) -> Vec<SessionId> {
        self.sessions.iter().filter(|(_, (of, _))| of == id).map(|(session, _)| *session).collect()
    }

    pub fn times(&mut self) -> Vec<&mut Time> {
        let renewed = self.sessions.values_mut().map(|(_, renewed)| renewed);
        renewed.chain([&mut self.withheld_until]).collect()
    }

    /// Sessions renewed too long ago for any store to keep them.
    pub fn overdue(&self, now: Time, after: Duration) -> Vec<SessionId> {
        self.sessions.iter().filter(|(_, (_, at))| *at + after <= now).map(|(session, _)| *session).collect()
    }
}
