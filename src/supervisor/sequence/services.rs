//! What the catalog shall say of each service: it follows from main and its checks.

use crate::supervisor::Supervisor;
use crate::supervisor::machines::check::Check;
use crate::supervisor::machines::entry::{Desired, Entry};
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::vocabulary::{Effect, ServiceStatus};

impl Supervisor {
    /// What the catalog shall say of each service follows from main and its checks.
    pub(in crate::supervisor) fn tell_catalog(&mut self, out: &mut Vec<Effect>) {
        let desired = self.desired();
        let stopping = self.is_stopping();
        let stood = !matches!(self.life.stage(), LifeStage::Created | LifeStage::Waiting);
        let candidate = self.leadership.as_ref().and_then(|leadership| leadership.config().service.as_ref());
        let candidate = candidate.filter(|_| stood);
        for (entry, desired) in self.entries.iter_mut().zip(desired) {
            let id = &entry.service().id;
            // Nothing is registered before main has run, but a candidate: what it holds the lock by may be bound to its
            // service. And nothing is registered anew on the way out.
            let stands = candidate.is_some_and(|candidate| candidate == id);
            if entry.is_out() && (stopping || !(self.main.is_up() || stands)) {
                continue;
            }
            entry.desired(desired, out);
        }
    }

    /// Checks say the same in other words: nothing has turned, and there is no hurry.
    pub(in crate::supervisor) fn reword_catalog(&mut self) {
        let desired = self.desired();
        for (entry, desired) in self.entries.iter_mut().zip(desired) {
            entry.reword(desired.note);
        }
    }

    /// What the catalog should say of each service.
    pub(in crate::supervisor) fn desired(&self) -> Vec<Desired> {
        let maintenance = self.maintenance.as_ref().map(|maintenance| maintenance.reason().to_owned());
        let desired = |entry: &Entry| {
            let failing = |check: &&Check| check.speaks_for(&entry.service().id) && !check.is_passing();
            let complaints: Vec<String> = self.checks.iter().filter(failing).map(Check::complaint).collect();
            let (status, note) = match complaints.as_slice() {
                _ if self.is_stopping() => (ServiceStatus::Draining, "stopping".to_owned()),
                _ if self.main_status.stopping && self.main.pid().is_some() => {
                    (ServiceStatus::Draining, "main is stopping".to_owned())
                }
                _ if !self.main.is_up() => (ServiceStatus::Critical, "main doesn't run".to_owned()),
                [] => (ServiceStatus::Passing, "passing".to_owned()),
                complaints => (ServiceStatus::Critical, complaints.join("; ")),
            };
            Desired { status, note, maintenance: maintenance.clone() }
        };
        self.entries.iter().map(desired).collect()
    }
}
