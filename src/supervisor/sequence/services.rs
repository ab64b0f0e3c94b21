//! What the catalog shall say of each service: it follows from main, or the coprocess whose it is, and the checks.

use std::sync::Arc;

use crate::config::ServiceOf;
use crate::supervisor::Supervisor;
use crate::supervisor::machines::check::Check;
use crate::supervisor::machines::entry::{Desired, Entry};
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::sequence::orders::MAIN;
use crate::supervisor::vocabulary::{Effect, ServiceStatus};

/// What main, or a coprocess, does whose entry is in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Runs,
    /// It runs, and isn't ready yet.
    NotReady,
    /// It is told to stop, or about to be, for another reason than its health.
    Stopping,
    /// It will again, or would if it could.
    Down,
    /// It isn't to run in this role.
    Unwanted,
}

impl Supervisor {
    /// What the catalog shall say of each service follows from whose it is and the checks.
    pub(in crate::supervisor) fn tell_catalog(&mut self, out: &mut Vec<Effect>) {
        let desired = self.desired();
        let stopping = self.is_stopping();
        if matches!(self.life.stage(), LifeStage::BeforeCatalog) {
            return;
        }
        let stood = !matches!(self.life.stage(), LifeStage::Created | LifeStage::Waiting);
        let candidate = self.leadership.as_ref().and_then(|leadership| leadership.config().service.as_ref());
        let candidate = candidate.filter(|_| stood).cloned();
        let owners: Vec<Owner> = self.entries.iter().map(|entry| self.owner(entry)).collect();
        for ((entry, desired), owner) in self.entries.iter_mut().zip(desired).zip(owners) {
            let id = &entry.service().id;
            // Nothing is registered before its owner has run, but a candidate: what it holds the lock by may be bound to its
            // service. And nothing is registered anew on the way out.
            let stands = candidate.as_ref().is_some_and(|candidate| candidate == id);
            if entry.is_out() && (stopping || !(owner == Owner::Runs || stands)) {
                continue;
            }
            // A leader's is none of a replica's.
            if owner == Owner::Unwanted && !stands && !stopping {
                entry.withdraw(out);
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

    /// What whose entry this is does.
    fn owner(&self, entry: &Entry) -> Owner {
        let name = match &entry.service().of {
            ServiceOf::Main if self.is_main_stopping() && self.restarting.is_none() => return Owner::Stopping,
            ServiceOf::Main if self.main.is_up() || self.main.is_following() => return Owner::Runs,
            ServiceOf::Main => return Owner::Down,
            ServiceOf::Telemetry => return Owner::Runs,
            ServiceOf::Coprocess(name) => name,
        };
        match self.coprocesses.find(name) {
            Some(coprocess) if coprocess.is_draining() => Owner::Stopping,
            Some(coprocess) if coprocess.is_serving() => Owner::Runs,
            Some(coprocess) if coprocess.is_up() => Owner::NotReady,
            Some(coprocess) if self.is_wanted(coprocess) => Owner::Down,
            Some(_) | None => Owner::Unwanted,
        }
    }

    /// Whether main is about to end: it is told to stop, or will be once those who watch look elsewhere, or it said so.
    pub(in crate::supervisor) fn is_main_stopping(&self) -> bool {
        let told = self.orders.will_stop_main();
        self.main.pid().is_some() && (told || !self.main.is_up()) || self.main.is_following() && told
    }

    /// What there is to advertise an address of, be it to main alone.
    pub(in crate::supervisor) fn services(&self) -> Effect {
        Effect::Services(self.config.services.iter().cloned().map(Arc::new).collect())
    }

    /// What the catalog should say of each service.
    pub(in crate::supervisor) fn desired(&self) -> Vec<Desired> {
        let maintenance = self.maintenance.as_ref().map(|maintenance| maintenance.reason().to_owned());
        let desired = |entry: &Entry| {
            let failing = |check: &&Check| check.speaks_for(&entry.service().id) && !check.is_passing();
            let complaints: Vec<String> = self.checks.iter().filter(failing).map(Check::complaint).collect();
            let whom = match &entry.service().of {
                ServiceOf::Coprocess(name) => name,
                ServiceOf::Main | ServiceOf::Telemetry => MAIN,
            };
            let unhealthy = self.restarting.as_ref().filter(|_| whom == MAIN && self.main.pid().is_some());
            let (status, note) = match (self.owner(entry), complaints.as_slice()) {
                _ if self.is_stopping() => (ServiceStatus::Draining, "stopping".to_owned()),
                (Owner::Stopping, _) => (ServiceStatus::Draining, format!("{whom} is stopping")),
                (Owner::NotReady, _) => (ServiceStatus::Critical, format!("{whom} isn't ready yet")),
                (Owner::Down | Owner::Unwanted, _) if unhealthy.is_none() => {
                    (ServiceStatus::Critical, format!("{whom} doesn't run"))
                }
                (Owner::Runs | Owner::Down | Owner::Unwanted, []) => match unhealthy {
                    Some(reason) => (ServiceStatus::Critical, reason.clone()),
                    None => (ServiceStatus::Passing, "passing".to_owned()),
                },
                (Owner::Runs | Owner::Down | Owner::Unwanted, complaints) => {
                    (ServiceStatus::Critical, complaints.join("; "))
                }
            };
            // What shows how the container is stays to be found.
            let maintenance = maintenance.clone().filter(|_| entry.service().of != ServiceOf::Telemetry);
            Desired { status, note, maintenance }
        };
        self.entries.iter().map(desired).collect()
    }
}
