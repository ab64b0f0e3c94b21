//! A death certificate: when this host's kernel says that nothing is left of the container that holds the lock, the lock
//! is freed in its name, and nobody waits for a lease to end. Nothing but the kernel's word counts; what can't be known
//! is waited for as ever.

use std::time::Duration;

use crate::supervisor::vocabulary::{Notice, Time};

use super::event::{Certification, ElectionEffect, RequestId, StoreRequest};
use super::record::{Holder, SessionId, Term, Witness};
use super::rules::Rule;
use super::trouble::Write;
use super::{Election, InFlight, LOOK_AGAIN};

/// How long a container that was started again waits for the certificate of its life before, which frees the lock at once,
/// until it ends that life's session, for which Consul holds everyone back.
const CERTIFIED_WITHIN: Duration = Duration::from_secs(1);

/// The lock is held for a container that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Certificate {
    pub(super) witness: Witness,
    pub(super) session: SessionId,
    pub(super) term: Term,
    /// Since when it has been known to be gone.
    pub(super) since: Time,
    pub(super) asked: Option<InFlight>,
    /// When to ask next.
    pub(super) at: Time,
}

/// The lock is held by this container's life before, by a session that will be ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FormerLife {
    pub(super) session: SessionId,
    pub(super) end_at: Time,
}

impl Election {
    /// Another one holds the lock now, or nobody does.
    pub(super) fn await_end(&mut self, now: Time, before: Option<Holder>, out: &mut Vec<ElectionEffect>) {
        // The watch may tell that it is free before the answer to who freed it comes.
        let freed = self.certificate.take().filter(|certificate| certificate.asked.is_some() && self.leader.is_none());
        if let (Some(Certificate { term, .. }), Some(before)) = (freed, before) {
            out.push(ElectionEffect::Say(Notice::Certified { id: before.id.to_string(), term }));
        }
        let holds = |session: SessionId| self.leader.as_ref().is_some_and(|leader| leader.session == session);
        self.former_life = self.former_life.take().filter(|former| holds(former.session));
        self.namesake.held_by(self.leader.as_ref().map(|leader| leader.session));
        let Some(witness) = self.others_witness().cloned() else { return };
        if !self.rules.hold(Rule::KernelCertifies) {
            self.gone(now, &witness);
        }
        out.push(ElectionEffect::Store(StoreRequest::AwaitEnd { witness }));
    }

    fn others_witness(&self) -> Option<&Witness> {
        let other = self.leader.as_ref().filter(|leader| Some(leader.session) != self.session());
        other.filter(|_| self.settings.witness && !self.eligibility.stopped)?.witness.as_deref()
    }

    /// The lock is held by this container's life before.
    pub(super) fn end_former_life(&mut self, now: Time, former: &Holder, out: &mut Vec<ElectionEffect>) {
        let session = former.session;
        match self.others_witness() {
            Some(_) => self.former_life = Some(FormerLife { session, end_at: now + CERTIFIED_WITHIN }),
            None => out.push(ElectionEffect::Store(StoreRequest::EndFormerLife { session })),
        }
    }

    /// The kernel says that nothing is left of a container.
    pub(super) fn gone(&mut self, now: Time, witness: &Witness) {
        let Some(held_by) = self.others_witness() else { return };
        if held_by != witness && self.rules.hold(Rule::CertifyNoOther) {
            return;
        }
        let witness = witness.clone();
        let holder = self.leader.as_ref().filter(|_| self.certificate.is_none());
        self.certificate = holder.map(|Holder { session, term, .. }| Certificate {
            witness,
            session: *session,
            term: *term,
            since: now,
            asked: None,
            at: now,
        });
    }

    /// What came of it. The lock is read again at once: the watch may take longer.
    pub(super) fn certified(
        &mut self,
        now: Time,
        ask: RequestId,
        result: Certification,
        out: &mut Vec<ElectionEffect>,
    ) {
        let Some(certificate) = &mut self.certificate else { return };
        if certificate.asked.take_if(|asked| asked.ask == ask).is_none() {
            return;
        }
        match result {
            Certification::Done => {
                let id = self.leader.as_ref().map(|leader| leader.id.to_string()).unwrap_or_default();
                out.push(ElectionEffect::Say(Notice::Certified { id, term: certificate.term }));
                self.certificate = None;
                self.trouble.writes(Write::Lock);
                self.look(now, out);
            }
            Certification::Changed => {
                self.certificate = None;
                self.look(now, out);
            }
            Certification::Lingers(linger) => {
                let again = now + self.jitter.scatter(LOOK_AGAIN);
                certificate.at = if certificate.since + linger > now { certificate.since + linger } else { again };
            }
            Certification::Unknown(error) => {
                certificate.at = now + self.jitter.scatter(LOOK_AGAIN);
                self.cant_write(Write::Lock, "freeing the lock of a container that is gone", error, out);
            }
        }
    }

    pub(super) fn certificate_tick(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        if let Some(certificate) = &mut self.certificate {
            let patience = self.settings.pace.patience;
            if certificate.asked.take_if(|asked| asked.at + patience <= now).is_some() {
                certificate.at = now;
            }
            if certificate.asked.is_none() && certificate.at <= now {
                let Certificate { witness, session, term, since, .. } = certificate.clone();
                let asked = self.ask(now);
                if let Some(certificate) = &mut self.certificate {
                    certificate.asked = Some(asked);
                }
                out.push(ElectionEffect::Store(StoreRequest::Certify {
                    ask: asked.ask,
                    witness,
                    session,
                    term,
                    gone_for: now.since(since),
                }));
            }
            return;
        }
        if let Some(FormerLife { session, .. }) = self.former_life.take_if(|former| former.end_at <= now) {
            out.push(ElectionEffect::Store(StoreRequest::EndFormerLife { session }));
        }
    }

    pub(super) fn certificate_deadline(&self) -> Option<Time> {
        match &self.certificate {
            Some(certificate) => Some(certificate.asked.map_or(certificate.at, |asked| self.overdue_at(asked))),
            None => self.former_life.as_ref().map(|former| former.end_at),
        }
    }
}
