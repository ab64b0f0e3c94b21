//! A store that keeps its word: what etcd promises, one request after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::supervisor::machines::election::event::{Acquisition, ElectionEvent, Renewal, StoreRequest};
use crate::supervisor::machines::election::record::{Guarantee, Holder, Last, Lock, Revision, SessionId, Term, View};

pub const LEASE: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub struct Store {
    revision: u64,
    holder: Option<Holder>,
    /// When it was last written or freed.
    lock_version: u64,
    last: Option<Last>,
    last_revision: u64,
    /// What stands beside the lock.
    pub acting: Option<String>,
    /// As which that was last written.
    pub acting_revision: u64,
    /// When each ends.
    sessions: BTreeMap<u128, Duration>,
}

impl Store {
    pub fn view(&self) -> View {
        let lock = match &self.holder {
            Some(holder) => Lock::Held(holder.clone()),
            None => Lock::Free { version: Revision(self.lock_version), taken_from: None },
        };
        let last = self.last.clone().map(|last| Last { ended: !self.sessions.contains_key(&last.session.0), ..last });
        View { at: self.revision, lock, last, last_revision: Revision(self.last_revision) }
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

    /// A term's word beside the lock is written.
    pub fn is_told(&mut self, acting: String) {
        self.revision += 1;
        (self.acting, self.acting_revision) = (Some(acting), self.revision);
    }

    fn free(&mut self) {
        self.revision += 1;
        self.lock_version = self.revision;
        self.holder = None;
    }

    /// What an order comes to when it arrives; `None`: nobody waits for an answer.
    pub fn take(&mut self, now: Duration, id: &str, order: &StoreRequest) -> Option<ElectionEvent> {
        match order.clone() {
            StoreRequest::OpenSession { ask } => {
                self.revision += 1;
                let session = SessionId(u128::from(self.revision));
                self.sessions.insert(session.0, now + LEASE);
                Some(ElectionEvent::Opened { ask, result: Ok((session, Guarantee::For(LEASE), Revision(0))) })
            }
            // An etcd lease is what its holder was promised.
            StoreRequest::EndFormerLife { .. } => None,
            StoreRequest::CloseSession { session } => {
                self.sessions.remove(&session.0);
                self.pass(now);
                None
            }
            StoreRequest::Look { ask } => Some(ElectionEvent::Looked { ask, result: Ok(self.view()) }),
            StoreRequest::Acquire { ask, session, guarantee, seen, hold_off_left } => {
                let as_seen = seen == (Revision(self.lock_version), Revision(self.last_revision));
                let result = if self.holder.is_none() && as_seen && self.sessions.contains_key(&session.0) {
                    self.revision += 1;
                    let term = Term(self.revision);
                    let id: std::sync::Arc<str> = id.into();
                    self.holder = Some(Holder {
                        id: id.clone(),
                        session,
                        term,
                        address: None,
                        owes: Some(Duration::ZERO),
                        witness: None,
                    });
                    self.last_revision = self.revision;
                    self.last = Some(Last {
                        id,
                        session,
                        term,
                        guarantee,
                        released: false,
                        to: None,
                        ended: false,
                        hold_off_left,
                    });
                    Acquisition::Won(term)
                } else {
                    Acquisition::Changed
                };
                Some(ElectionEvent::Acquired { ask, result })
            }
            StoreRequest::Renew { ask, session, term } => {
                let mine = self.view().shows(session, term) && self.sessions.contains_key(&session.0);
                let result = if mine {
                    self.sessions.insert(session.0, now + LEASE);
                    Renewal::Alive(self.view())
                } else {
                    Renewal::Gone { void: !self.sessions.contains_key(&session.0) }
                };
                Some(ElectionEvent::Renewed { ask, result })
            }
            StoreRequest::Release { ask, session, term, to, hold_off_left } => {
                let mine = self.view().shows(session, term);
                if mine {
                    self.free();
                    self.last_revision = self.revision;
                    if let Some(last) = &mut self.last {
                        (last.released, last.to, last.hold_off_left) = (true, to, hold_off_left);
                    }
                }
                Some(ElectionEvent::Released { ask, result: if mine { Ok(()) } else { Err("another's".to_owned()) } })
            }
            StoreRequest::PublishRank { ask, .. } => Some(ElectionEvent::Published { ask, result: Ok(()) }),
            StoreRequest::ReadRanks { ask } => Some(ElectionEvent::Ranks { ask, result: Ok(Vec::new()) }),
            _ => None,
        }
    }
}
