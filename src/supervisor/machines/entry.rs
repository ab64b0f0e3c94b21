//! One service's entry in the catalog: what it shall say, what it says, and when it is told again. What is desired is kept
//! here and sent until the catalog has it, however long that takes.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Backoff, Service};

use super::jitter::{self, Jitter};
use super::outage::Outage;
use crate::supervisor::vocabulary::{
    Advertised, Effect, Notice, Registration, ServiceReport, ServiceStatus, Step, Time,
};

/// The entry is renewed three times within its TTL, so that two heartbeats may be lost.
const HEARTBEATS_PER_TTL: u32 = 3;
/// Tries after a failure: soon, then rarer; scattered, so that a thousand agents don't come back at once.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(10) };

/// One service's entry.
#[derive(Debug)]
pub struct Entry {
    service: Arc<Service>,
    /// What the catalog shall say; `None`: nothing.
    desired: Option<Desired>,
    /// What it was last known to say.
    published: Option<PublishedEntry>,
    /// What is being sent.
    sending: Option<Sending>,
    /// It may hold an entry of ours: a publish that failed may yet have arrived.
    perhaps_there: bool,
    /// What changed since the last call began is worth one of its own.
    dirty: bool,
    next: Option<Time>,
    /// When the heartbeat was sent that waits for its answer.
    beat_sent: Option<Time>,
    failures: u32,
    error: Option<String>,
    outage: Outage,
    /// What it was last registered with.
    advertised: Option<Advertised>,
}

/// What the catalog shall say.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// The service's status.
    pub status: ServiceStatus,
    /// Why it has that status.
    pub note: String,
    /// Why it is kept out of the rotation, if it is.
    pub maintenance: Option<String>,
}

impl Desired {
    fn word(&self) -> &'static str {
        self.status.word(self.maintenance.is_some())
    }
}

/// What the catalog was told.
#[derive(Debug, Clone, PartialEq)]
struct PublishedEntry {
    service: Arc<Service>,
    desired: Desired,
}

impl PublishedEntry {
    /// Whether it comes to the same, whatever the words.
    fn means(&self, service: &Arc<Service>, desired: &Desired) -> bool {
        self.service == *service
            && (self.desired.status, &self.desired.maintenance) == (desired.status, &desired.maintenance)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Sending {
    Publish(PublishedEntry),
    Withdraw,
}

impl Entry {
    /// An entry the catalog hasn't been told of.
    pub fn new(service: Arc<Service>) -> Entry {
        Entry {
            service,
            desired: None,
            published: None,
            sending: None,
            perhaps_there: false,
            dirty: false,
            next: None,
            beat_sent: None,
            failures: 0,
            error: None,
            outage: Outage::default(),
            advertised: None,
        }
    }

    /// As configured.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Another config for the same id: the catalog is told again.
    pub fn reconfigure(&mut self, service: Arc<Service>, out: &mut Vec<Effect>) {
        if *self.service != *service {
            self.service = service;
            self.dirty = true;
            if self.desired.is_some() {
                self.send(out);
            }
        }
    }

    /// What the catalog shall say from now on.
    pub fn desired(&mut self, desired: Desired, out: &mut Vec<Effect>) {
        if self.desired.as_ref() == Some(&desired) {
            return;
        }
        self.desired = Some(desired);
        self.dirty = true;
        self.failures = 0;
        self.send(out);
    }

    /// The same for another reason. Words may change with each answer of a check, by a number in them: they are worth
    /// no call of their own, and go with the next heartbeat.
    pub fn reword(&mut self, note: String) {
        if let Some(desired) = &mut self.desired {
            desired.note = note;
        }
    }

    /// The entry shall go.
    pub fn withdraw(&mut self, out: &mut Vec<Effect>) {
        self.desired = None;
        if self.perhaps_there {
            self.failures = 0;
            self.send(out);
        }
    }

    /// Whether others are to use what it stands for.
    pub fn is_in_rotation(&self) -> bool {
        self.desired.as_ref().is_some_and(|desired| desired.word() == ServiceStatus::Passing.as_str())
    }

    /// Whether the catalog surely holds no entry of ours, and shall hold none.
    pub fn is_out(&self) -> bool {
        self.desired.is_none() && !self.perhaps_there
    }

    /// That the container ends without knowing it out of the catalog; `None` when it is.
    pub fn left_behind(&self) -> Option<Notice> {
        let status = self.published.as_ref().map(|said| said.desired.word());
        let (service, ttl, because) = (self.service.id.clone(), self.service.ttl, self.error.clone());
        self.perhaps_there.then_some(Notice::EntryLeft { service, status, ttl, because })
    }

    /// The catalog answered a publish.
    pub fn published(&mut self, step: &mut Step<'_>, result: Result<Advertised, String>, jitter: &mut Jitter) {
        let Some(Sending::Publish(sent)) = self.sending.take() else { return };
        match result {
            Ok(advertised) => {
                self.outage.over();
                if self.error.take().is_some() {
                    step.out.push(Effect::Say(Notice::CatalogBack { what: self.what("registering") }));
                }
                let differs =
                    |said: &PublishedEntry| said.service != sent.service || said.desired.word() != sent.desired.word();
                if self.published.as_ref().is_none_or(differs) {
                    let service = self.service.id.clone();
                    step.out.push(Effect::Say(Notice::Published { service, status: sent.desired.word() }));
                }
                self.published = Some(sent);
                self.is_advertised_at(advertised, step.out);
                self.failures = 0;
                // Counted from the last one, not from its answer: a store that answers late is no reason to beat rarer. A
                // tenth of scatter keeps agents that started together from beating together.
                let beat = self.service.ttl / HEARTBEATS_PER_TTL;
                let sent = self.beat_sent.take().unwrap_or(step.now);
                self.next = Some((sent + beat - jitter.scatter(beat / 10)).max(step.now));
            }
            Err(error) => self.failed(step, "registering", error, jitter),
        }
        let behind = match self.desired {
            Some(_) => self.dirty && self.failures == 0,
            None => self.perhaps_there,
        };
        if behind {
            self.send(step.out);
        }
    }

    /// The catalog answered a withdrawal.
    pub fn withdrawn(&mut self, step: &mut Step<'_>, result: Result<(), String>, jitter: &mut Jitter) {
        if self.sending != Some(Sending::Withdraw) {
            return;
        }
        self.sending = None;
        match result {
            Ok(()) => {
                let was_there = self.published.take().is_some();
                self.perhaps_there = false;
                self.error = None;
                self.outage.over();
                self.next = None;
                // Of what was never known to be there it can't be said that it is out.
                if was_there {
                    step.out.push(Effect::Say(Notice::Withdrawn { service: self.service.id.clone() }));
                }
            }
            Err(error) => self.failed(step, "removing", error, jitter),
        }
        if self.desired.is_some() {
            self.send(step.out);
        }
    }

    /// Sends a heartbeat or another try when its time has come.
    pub fn tick(&mut self, step: &mut Step<'_>) {
        if self.next.is_some_and(|at| at <= step.now) {
            self.send(step.out);
            self.beat_sent = Some(step.now);
        }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn deadline(&self) -> Option<Time> {
        if self.sending.is_some() { None } else { self.next }
    }

    /// For `/status`.
    pub fn report(&self) -> ServiceReport {
        let said = |desired: &Desired| self.published.as_ref().is_some_and(|said| said.means(&self.service, desired));
        ServiceReport {
            id: self.service.id.clone(),
            name: self.service.name.clone(),
            status: self.desired.as_ref().map_or(ServiceStatus::Critical.as_str(), Desired::word),
            published: self.desired.as_ref().is_some_and(said) && self.error.is_none(),
            error: self.error.clone(),
            address: self.advertised.as_ref().map(|found| found.address.clone()),
            // It may be gone: whoever failed to say it anew may have found none.
            address_because: self.advertised.as_ref().map(|found| match &self.error {
                None => found.why.clone(),
                Some(_) => format!("advertised last; {}", found.why),
            }),
        }
    }

    fn is_advertised_at(&mut self, advertised: Advertised, out: &mut Vec<Effect>) {
        if self.advertised.as_ref().is_none_or(|before| before.address != advertised.address) {
            let service = self.service.id.clone();
            let Advertised { address, why } = advertised.clone();
            out.push(Effect::Say(Notice::Advertised { service, address, why }));
        }
        self.advertised = Some(advertised);
    }

    fn send(&mut self, out: &mut Vec<Effect>) {
        if self.sending.is_some() {
            return;
        }
        self.next = None;
        self.beat_sent = None;
        self.dirty = false;
        let service = self.service.clone();
        match self.desired.clone() {
            Some(desired) => {
                self.sending =
                    Some(Sending::Publish(PublishedEntry { service: service.clone(), desired: desired.clone() }));
                self.perhaps_there = true;
                let Desired { status, note, maintenance } = desired;
                out.push(Effect::Publish(Registration { service, status, note, maintenance }));
            }
            None => {
                self.sending = Some(Sending::Withdraw);
                out.push(Effect::Withdraw { service });
            }
        }
    }

    fn failed(&mut self, step: &mut Step<'_>, doing: &str, error: String, jitter: &mut Jitter) {
        self.failures += 1;
        // Never later than a heartbeat: once the store is back, the entry must not run out for want of one.
        let pause = jitter::pause(RETRY, self.failures).min(self.service.ttl / HEARTBEATS_PER_TTL);
        self.next = Some(step.now + jitter.scatter(pause));
        if self.outage.is_news(&error) {
            let what = self.what(doing);
            step.out.push(Effect::Say(Notice::CatalogFailed { what, error: error.clone() }));
        }
        self.error = Some(error);
    }

    fn what(&self, doing: &str) -> String {
        format!("{doing} {}", self.service.id)
    }
}
