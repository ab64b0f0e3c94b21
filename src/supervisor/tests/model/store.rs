//! A store that keeps its word: what etcd promises, one request after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::supervisor::election::fact::{Acquisition, Fact, Order, Renewal};
use crate::supervisor::election::record::{Guarantee, Holder, Last, Lock, SessionId, Term, Version, View};

pub const LEASE: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub struct Store {
    revision: u64,
    holder: Option<Holder>,
    /// When it was last written or freed.
    lock_version: u64,
    last: Option<Last>,
    last_version: u64,
    /// When each ends.
    sessions: BTreeMap<u128, Duration>,
}

impl Store {
    pub fn view(&self) -> View {
        let lock = match &self.holder {
            Some(holder) => Lock::Held(holder.clone()),
            None => Lock::Free { version: Version(self.lock_version), taken_from: None },
        };
        let last = self.last.clone().map(|last| Last { ended: !self.sessions.contains_key(&last.session.0), ..last });
        View { at: self.revision, lock, last, last_version: Version(self.last_version) }
    }

    /// When something ends by itself next.
    pub fn deadline(&self) -> Option<Duration> {
        self.sessions.values().min().copied()
    }

    /// Leases that weren't renewed end, and the lock with them.
    pub fn pass(&mut self, now: Duration) {
        self.sessions.retain(|_, ends| *ends > now);
        if self.holder.as_ref().is_some_and(|holder| !self.sessions.contains_key(&holder.session.0)) {
            self.free();
        }
    }

    /// An operator's hand, or a session's end without a reason.
    pub fn delete(&mut self) {
        if self.holder.is_some() {
            self.free();
        }
    }

    fn free(&mut self) {
        self.revision += 1;
        self.lock_version = self.revision;
        self.holder = None;
    }

    /// What an order comes to when it arrives; `None`: nobody waits for an answer.
    pub fn take(&mut self, now: Duration, id: &str, order: &Order) -> Option<Fact> {
        match order.clone() {
            Order::OpenSession { ask } => {
                self.revision += 1;
                let session = SessionId(u128::from(self.revision));
                self.sessions.insert(session.0, now + LEASE);
                Some(Fact::Opened { ask, result: Ok((session, Guarantee::For(LEASE))) })
            }
            Order::CloseSession { session } | Order::EndFormerLife { session } => {
                self.sessions.remove(&session.0);
                self.pass(now);
                None
            }
            Order::Look { ask } => Some(Fact::Looked { ask, result: Ok(self.view()) }),
            Order::Acquire { ask, session, guarantee, seen, owed } => {
                let as_seen = seen == Some((Version(self.lock_version), Version(self.last_version)));
                let result = if self.holder.is_none() && as_seen && self.sessions.contains_key(&session.0) {
                    self.revision += 1;
                    let term = Term(self.revision);
                    let id: std::sync::Arc<str> = id.into();
                    self.holder = Some(Holder { id: id.clone(), session, term, address: None, vacancy: None });
                    self.last_version = self.revision;
                    self.last =
                        Some(Last { id, session, term, guarantee, released: false, to: None, ended: false, owed });
                    Acquisition::Won(term)
                } else {
                    Acquisition::Changed
                };
                Some(Fact::Acquired { ask, result })
            }
            Order::Renew { ask, session, term } => {
                let mine = self.view().shows(session, term) && self.sessions.contains_key(&session.0);
                let result = if mine {
                    self.sessions.insert(session.0, now + LEASE);
                    Renewal::Alive(self.view())
                } else {
                    Renewal::Gone { void: !self.sessions.contains_key(&session.0) }
                };
                Some(Fact::Renewed { ask, result })
            }
            Order::Release { ask, session, term, to, owed } => {
                let mine = term.is_some_and(|term| self.view().shows(session, term));
                if mine {
                    self.free();
                    self.last_version = self.revision;
                    if let Some(last) = &mut self.last {
                        (last.released, last.to, last.owed) = (true, to, owed);
                    }
                }
                Some(Fact::Released { ask, result: if mine { Ok(()) } else { Err("another's".to_owned()) } })
            }
            Order::ReadRanks { ask, .. } => Some(Fact::Ranks { ask, result: Ok(Vec::new()) }),
            _ => None,
        }
    }
}
