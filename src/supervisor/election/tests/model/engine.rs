//! The engine: one lock, one `last`, sessions, and the promise of its kind. Its clock runs as much faster than the
//! candidates' as the drift they allow for.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::supervisor::election::fact::{Acquisition, Id, Renewal};
use crate::supervisor::election::record::{Guarantee, Holder, Last, Lock, SessionId, Term, Version, View};
use crate::supervisor::time::Time;

use super::Kind;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Engine {
    kind: Kind,
    revision: u64,
    lock: Option<Key>,
    last: Option<(Last, Version)>,
    /// Each live session with the candidate's name and the time it was last renewed.
    sessions: BTreeMap<SessionId, (Id, Time)>,
    /// Everyone is withheld the lock until then.
    withheld_until: Time,
    /// How far candidates are, each with the vacancy it was measured for.
    ranks: BTreeMap<Id, (Version, i64)>,
    opened: u128,
}

/// The lock's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    version: Version,
    /// The session in its value, and whether it holds the lock.
    session: SessionId,
    held: bool,
    holder: Holder,
}

/// What a candidate asks for when it acquires.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    pub id: Id,
    pub session: SessionId,
    pub guarantee: Guarantee,
    pub seen: Option<(Version, Version)>,
    pub owed: Duration,
}

/// A promise as the candidates' slow clocks see it.
fn as_seen(promise: Duration) -> Duration {
    promise - promise / 100
}

impl Engine {
    pub fn new(kind: Kind) -> Engine {
        Engine {
            kind,
            revision: 0,
            lock: None,
            last: None,
            sessions: BTreeMap::new(),
            withheld_until: Time::default(),
            ranks: BTreeMap::new(),
            opened: 0,
        }
    }

    pub fn view(&self) -> View {
        let lock = match &self.lock {
            None => Lock::Free { version: Version::default(), taken_from: None },
            Some(key) if key.held => Lock::Held(key.holder.clone()),
            Some(key) => Lock::Free { version: key.version, taken_from: Some(key.session) },
        };
        let last = self.last.as_ref().map(|(last, _)| last.clone());
        let ended = |last: Last| match self.kind {
            Kind::Etcd => Last { ended: !self.sessions.contains_key(&last.session), ..last },
            Kind::Consul | Kind::Local => last,
        };
        let last_version = self.last.as_ref().map(|(_, version)| *version).unwrap_or_default();
        View { at: self.revision, lock, last: last.map(ended), last_version }
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
        let Some(key) = self.lock.as_mut().filter(|key| key.held && key.session == session) else { return };
        self.revision += 1;
        match self.kind {
            Kind::Consul => {
                key.held = false;
                key.version = Version(self.revision);
                self.withheld_until = now + as_seen(promise);
            }
            Kind::Etcd | Kind::Local => self.lock = None,
        }
    }

    /// Sessions that the engine may end now by itself.
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
    pub fn acquire(&mut self, now: Time, wanted: &Wanted, granted: Option<Time>) -> Acquisition {
        let Wanted { id, session, guarantee, seen, owed } = wanted.clone();
        let lives = match granted {
            Some(granted) => now < granted + as_seen(guarantee.lingers()),
            None => self.sessions.contains_key(&session),
        };
        if !lives {
            return Acquisition::Unknown("no such session".to_owned());
        }
        let version = self.lock.as_ref().map(|key| key.version).unwrap_or_default();
        let last_version = self.last.as_ref().map(|(_, version)| *version).unwrap_or_default();
        let as_seen = seen.is_none_or(|seen| seen == (version, last_version));
        if self.lock.as_ref().is_some_and(|key| key.held) || !as_seen {
            return Acquisition::Changed;
        }
        if let Some(granted) = granted {
            self.sessions.insert(session, (id.clone(), granted));
        }
        self.revision += 1;
        let (term, version) = (Term(self.revision), Version(self.revision));
        let holder = Holder { id: id.clone(), session, term, address: None, vacancy: Some(last_version) };
        self.lock = Some(Key { version, session, held: true, holder });
        let last = Last { id, session, term, guarantee, released: false, to: None, ended: false, owed };
        self.last = Some((last, version));
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
    pub fn held_as(&self, session: SessionId) -> Option<Version> {
        self.lock.as_ref().filter(|key| key.held && key.session == session).map(|key| key.version)
    }

    /// etcd's renewal: the key is put anew with a lease granted before, and `last` with it, so that it names the lease
    /// that counts. Only if nobody has written the key since: a renewal that comes late would put it back under a
    /// lease that ends sooner.
    pub fn put_anew(
        &mut self,
        now: Time,
        session: SessionId,
        seen: Option<Version>,
        lease: (Time, Duration),
    ) -> Renewal {
        let (granted, promise) = lease;
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
        key.version = Version(self.revision);
        if let Some((_, written)) = &mut self.last {
            *written = key.version;
        }
        if let Some((_, renewed)) = self.sessions.get_mut(&session) {
            *renewed = granted;
        }
        Renewal::Alive(self.view())
    }

    pub fn release(&mut self, session: SessionId, term: Option<Term>, to: Option<Id>, owed: Duration) {
        let Some(key) = self.lock.as_mut().filter(|key| key.held && key.session == session) else { return };
        if term.is_some_and(|term| term != key.holder.term) {
            return;
        }
        self.revision += 1;
        let version = Version(self.revision);
        match self.kind {
            Kind::Consul => {
                key.held = false;
                key.version = version;
            }
            Kind::Etcd | Kind::Local => self.lock = None,
        }
        if let Some((last, written)) = &mut self.last {
            (last.released, last.to, last.owed) = (true, to, owed);
            *written = version;
        }
    }

    pub fn publish(&mut self, id: Id, vacancy: Version, rank: i64) {
        self.ranks.insert(id, (vacancy, rank));
    }

    pub fn ranks(&self, vacancy: Version) -> Vec<(Id, i64)> {
        let measured = self.ranks.iter().filter(|(_, (of, _))| *of == vacancy);
        measured.map(|(id, (_, rank))| (id.clone(), *rank)).collect()
    }

    pub fn has_lock_key(&self) -> bool {
        self.lock.is_some()
    }

    pub fn is_held(&self) -> bool {
        self.lock.as_ref().is_some_and(|key| key.held)
    }

    /// An operator deletes the lock; sessions live on, nothing is withheld.
    pub fn delete(&mut self) {
        self.revision += 1;
        self.lock = None;
    }

    /// The store comes back empty, and counts from the start again.
    pub fn wipe(&mut self) {
        *self = Engine { opened: self.opened, ..Engine::new(self.kind) };
    }

    /// Sessions of a candidate whose processes are all gone.
    pub fn of(&self, id: &Id) -> Vec<SessionId> {
        self.sessions.iter().filter(|(_, (of, _))| of == id).map(|(session, _)| *session).collect()
    }

    pub fn times(&mut self) -> Vec<&mut Time> {
        let renewed = self.sessions.values_mut().map(|(_, renewed)| renewed);
        renewed.chain([&mut self.withheld_until]).collect()
    }

    /// Sessions renewed too long ago for any engine to keep them.
    pub fn overdue(&self, now: Time, after: Duration) -> Vec<SessionId> {
        self.sessions.iter().filter(|(_, (_, at))| *at + after <= now).map(|(session, _)| *session).collect()
    }
}
