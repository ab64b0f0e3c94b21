//! One service, kept as it shall be on the agent: what is missing is registered, what differs is mended, and the
//! checks are fed. Two checks a service: `alive`, a TTL fed by each heartbeat and passing from the first instant, and
//! `health`, critical until the core says otherwise.
//!
//! A heartbeat is two questions to the local agent: what it knows, and that we live. What the servers have of it is asked
//! beside that ([`presence`](super::presence)): only what they have is in the catalog. Nothing is written there unless
//! something changed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::Service;
use crate::config::backends::Secret;
use crate::supervisor::vocabulary::{Registration, ServiceStatus};

use super::agent::{self, Known, NewCheck};
use super::client::Client;
use super::error::{Error, Lack};
use super::health::Sight;
use super::presence::Presence;
use super::sighting::{LookAt, OUR_REASON, Sighting, WantedEntry, can_be_asked_for};

/// `health` is told only when it changes, but only a TTL check can be told at all: so long a TTL never runs out while
/// `alive` passes.
const HEALTH_TTL: &str = "87600h";

/// What `alive` says; always the same, so that a heartbeat changes nothing in the catalog.
const ALIVE: &str = "pilotfish lives";

/// Around the mark of who registered a service, in the notes of its `alive` check: ids are a user's, and two containers
/// may have the same one.
const FED_BY: (&str, &str) = ("fed by pilotfish, life ", "; critical when the container has gone");

/// Who registers: one life of one container. A container that starts again is another one, and takes over what its life
/// before left.
#[derive(Debug)]
pub(super) struct LifeMark(String);

impl LifeMark {
    /// Of this process.
    pub(super) fn new() -> LifeMark {
        LifeMark(format!("{:016x}", crate::net::backoff::random()))
    }

    fn notes(&self) -> String {
        [FED_BY.0, &self.0, FED_BY.1].concat()
    }

    /// Whether another one registered the service that the agent knows, and not a person or an agent without marks.
    fn is_anothers(&self, known: &Known, alive: &str) -> bool {
        let notes = known.check(alive).map(|check| check.notes.as_str()).unwrap_or_default();
        let life = notes.strip_prefix(FED_BY.0).and_then(|rest| rest.strip_suffix(FED_BY.1));
        life.is_some_and(|life| life != self.0)
    }
}

/// Whose entry it is is asked on the way out, when time is short.
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(5);

/// So long the servers are asked whether an entry is out of the catalog: a stop waits a second for the catalog.
const GONE_WITHIN: Duration = Duration::from_millis(300);

/// What the agent was told just now its servers are asked for no shorter, however short a `ttl` is.
const FRESH_WITHIN: Duration = Duration::from_secs(1);

/// Consul cuts a check's output at 4 KiB.
const LONGEST_NOTE: usize = 4000;

/// Which agent each service is registered with, by the service's id: the agents' node names.
#[derive(Debug, Default)]
pub(super) struct Pins {
    pins: Mutex<BTreeMap<String, Pin>>,
    /// It was said that the address leads to several agents.
    several: AtomicBool,
}

#[derive(Debug)]
struct Pin {
    node: String,
    /// The agent before, as long as the catalog still has its entry.
    left: Option<String>,
}

impl Pins {
    /// Notes the agent's name, and gives that of the one before when it was another.
    fn take(&self, id: &str, node: &str) -> Option<String> {
        let mut pins = self.lock();
        match pins.get_mut(id) {
            Some(pin) if pin.node == node => None,
            Some(pin) => {
                let before = std::mem::replace(&mut pin.node, node.to_owned());
                pin.left = Some(before.clone());
                Some(before)
            }
            None => {
                pins.insert(id.to_owned(), Pin { node: node.to_owned(), left: None });
                None
            }
        }
    }

    /// The agent before, whose entry is still to be removed.
    fn left(&self, id: &str) -> Option<String> {
        self.lock().get(id).and_then(|pin| pin.left.clone())
    }

    /// There is nothing more to remove.
    fn settled(&self, id: &str) {
        if let Some(pin) = self.lock().get_mut(id) {
            pin.left = None;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Pin>> {
        self.pins.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What the agent has of a service and doesn't tell: with which token it tells its servers of it (the one it was last
/// registered with, whatever token later calls come with, and whether or not that was revoked), and by when its `alive`
/// check must be fed.
#[derive(Debug, PartialEq, Eq)]
struct Pending {
    token: Option<Secret>,
    ttl: Duration,
    deregister_critical_after: Option<Duration>,
}

/// What each service was last registered with in this life, by the service's id.
#[derive(Debug, Default)]
pub(super) struct Registered(Mutex<BTreeMap<String, Pending>>);

impl Registered {
    /// Whether this life has registered it.
    fn has(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    /// Whether the agent has it, as far as we know: of what a life before registered, we don't.
    fn with(&self, id: &str, pending: &Pending) -> bool {
        self.lock().get(id) == Some(pending)
    }

    fn note(&self, id: &str, pending: Pending) {
        self.lock().insert(id.to_owned(), pending);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Pending>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What is ours at the agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ours<'a> {
    pub(super) client: &'a Client,
    pub(super) life: &'a LifeMark,
    pub(super) registered: &'a Registered,
    pub(super) presence: &'a Presence,
    pub(super) pins: &'a Pins,
}

/// Makes the agent say what the registration says, and looks whether its servers do.
pub(super) async fn publish(ours: Ours<'_>, registration: &Registration, address: IpAddr) -> Result<(), Error> {
    let Ours { client, life, presence, pins, .. } = ours;
    let service = &*registration.service;
    let id = &service.id;
    let address = address.to_string();
    let (alive, health, maintenance) = (alive_id(service), health_id(service), maintenance_id(service));
    let notes = life.notes();
    let wanted = WantedEntry {
        service,
        address: &address,
        tags: (!service.consul.enable_tag_override).then_some(&service.tags),
        alive: (&alive, &notes),
        health: (&health, status_of(registration)),
        maintenance: (&maintenance, reason_of(registration).is_some()),
    };
    tell_agent(ours, registration, &wanted).await?;
    // Last: they may take as long as the servers do, and what is so now goes first.
    if let Err(left) = forget_before(client, pins, id).await {
        tracing::warn!(event = "catalog.left_behind", "{}", crate::catalog::report(&left));
    }
    let lack = look(ours, &wanted).await?;
    if lack.is_some() && presence.is_lost(id) && presence.was_there(id) {
        // Once: what isn't there then the next heartbeat tells again.
        tell_agent(ours, registration, &wanted).await?;
        return look(ours, &wanted).await?.map_or(Ok(()), Err);
    }
    lack.map_or(Ok(()), Err)
}

/// What `health` says, if anything: leaving says nothing of health.
fn status_of(registration: &Registration) -> Option<&'static str> {
    match registration.status {
        ServiceStatus::Passing => Some("passing"),
        ServiceStatus::Critical => Some("critical"),
        ServiceStatus::Draining => None,
    }
}

/// Why it is out of the rotation whatever its health.
fn reason_of(registration: &Registration) -> Option<&str> {
    match (registration.status, &registration.maintenance) {
        (_, Some(reason)) => Some(cut(reason)),
        (ServiceStatus::Draining, None) => Some(cut(&registration.note)),
        (ServiceStatus::Passing | ServiceStatus::Critical, None) => None,
    }
}

/// Makes the agent say what the registration says.
async fn tell_agent(ours: Ours<'_>, registration: &Registration, wanted: &WantedEntry<'_>) -> Result<(), Error> {
    let Ours { client, life, registered, presence, pins } = ours;
    let service = &*registration.service;
    let (address, (alive, _), (health, status)) = (wanted.address, wanted.alive, wanted.health);
    let (note, out) = (cut(&registration.note), reason_of(registration));
    let within = within(service);

    // Read before it is used: when the file changes meanwhile, the next heartbeat finds another one.
    let pending = Pending {
        token: client.token(within).await?,
        ttl: service.ttl,
        deregister_critical_after: service.consul.deregister_critical_after,
    };
    let mut known = client.known(&service.id, within).await?;
    // The one that came last keeps the id, and the other says so instead of fighting; until nobody feeds it any more.
    let taken = |known: &Known| {
        life.is_anothers(known, alive) && known.check(alive).is_some_and(|check| check.status == "passing")
    };
    if registered.has(&service.id) && known.as_ref().is_some_and(taken) {
        return Err(Error::Taken { id: service.id.clone() });
    }
    let as_wanted = !presence.is_lost(&service.id)
        && registered.with(&service.id, &pending)
        && known.as_ref().is_some_and(|known| is_as_wanted(known, life, service, address));
    let fed = as_wanted && client.update(alive, "passing", ALIVE, within).await?;
    if !fed {
        move_here(client, pins, &service.id).await?;
        // One that is to be out of the rotation must not be in it between this call and the next.
        let first = status.filter(|_| out.is_none()).unwrap_or("critical");
        let theirs = known.as_ref().and_then(Known::others_tags).filter(|_| service.consul.enable_tag_override);
        let tags = theirs.unwrap_or(&service.tags);
        client.register(&entry(service, life, address, tags, first)).await?;
        registered.note(&service.id, pending);
        presence.registered(&service.id);
        // Checks that were there kept their status; new ones have no words yet.
        known = client.known(&service.id, within).await?;
        client.update(alive, "passing", ALIVE, within).await?;
    }
    let maintenance = known.as_ref().and_then(|known| known.check(wanted.maintenance.0));
    if let (Some(reason), None) = (out, maintenance) {
        client.maintenance(&service.id, Some(&format!("{OUR_REASON}{reason}"))).await?;
        presence.changed(&service.id);
    }
    let check = known.as_ref().and_then(|known| known.check(health));
    if let Some(status) = status {
        let turned = check.is_none_or(|check| check.status != status);
        if turned || check.is_none_or(|check| check.output != note) {
            client.update(health, status, note, within).await?;
        }
        // Words alone its servers learn when it suits the agent.
        if turned {
            presence.changed(&service.id);
        }
    }
    // Ours, of before, perhaps of an agent that was restarted meanwhile. Last, so that the health that counts is there.
    if let (None, Some(check)) = (out, maintenance)
        && check.notes.starts_with(OUR_REASON)
    {
        client.maintenance(&service.id, None).await?;
        presence.changed(&service.id);
    }
    Ok(())
}

/// A heartbeat that hangs must end in time for another one.
fn within(service: &Service) -> Duration {
    service.ttl * 2 / 3
}

/// Looks, if it is time, whether the servers have what the agent was told; what they lack, if they do.
async fn look(ours: Ours<'_>, wanted: &WantedEntry<'_>) -> Result<Option<Error>, Error> {
    let Ours { client, presence, .. } = ours;
    let Service { id, ttl, .. } = wanted.service;
    let Some(look) = presence.due(id, *ttl).filter(|_| can_be_asked_for(id)) else { return Ok(None) };
    let within = match look {
        LookAt::AtOnce => (within(wanted.service) / 4).max(FRESH_WITHIN),
        LookAt::Whole | LookAt::Checks(_) => within(wanted.service) / 4,
    };
    let mut asked = client.sighting(wanted, &look, within).await;
    if let Ok(sighting) = &asked
        && presence.looked(id, &look, sighting)
    {
        asked = client.sighting(wanted, &LookAt::Whole, within).await;
        if let Ok(sighting) = &asked {
            presence.looked(id, &LookAt::Whole, sighting);
        }
    }
    if let Ok(Sighting { node: Some(one), also: Some(other), .. }) = &asked
        && presence.is_settled(id, *ttl)
        && !ours.pins.several.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(
            event = "catalog.moved",
            "[catalog] address leads now to consul agent {one}, now to {other}, and {id} is registered with both: what \
             reaches one is lost on the other, so its entries are critical now and then. It must lead to one agent, the \
             host's own, and not to several behind a balancer"
        );
    }
    match asked {
        Ok(Sighting { lack: None, .. }) => Ok(None),
        Ok(Sighting { lack: Some(Lack::Entry), .. }) if !presence.was_there(id) && is_hidden(client, wanted).await => {
            presence.hidden(id);
            Ok(None)
        }
        Ok(Sighting { lack: Some(lack), leaderless, .. }) => {
            Ok(Some(Error::NotInCatalog { id: id.clone(), lack, leaderless }))
        }
        Err(error) if error.is_denial() => {
            presence.hidden(id);
            Ok(None)
        }
        Err(error) if presence.unasked(id, &look) => Err(Error::Unasked { id: id.clone(), source: Box::new(error) }),
        Err(_) => Ok(None),
    }
}

/// Whether the token may not see the entry, as far as is known.
async fn is_hidden(client: &Client, wanted: &WantedEntry<'_>) -> bool {
    !matches!(client.sight(&wanted.service.name, None).await, Ok(Sight::All))
}

/// The check by which Consul has a service in maintenance.
fn maintenance_id(service: &Service) -> String {
    format!("_service_maintenance:{}", service.id)
}

/// Removes the entry, unless it is another's or in a maintenance that a person began, and the one at the agent before, if
/// there is one still. Maintenance goes with its entry, so that the next start would end it; without a heartbeat Consul
/// removes both by `deregister_critical_after`.
pub(super) async fn withdraw(client: &Client, life: &LifeMark, pins: &Pins, service: &Service) -> Result<(), Error> {
    let id = &service.id;
    let known = match client.known(id, WITHDRAWN_WITHIN).await {
        Ok(known) => known,
        Err(Error::Refused { status: 403, .. }) => None,
        Err(error) => return Err(error),
    };
    let anothers = known.as_ref().is_some_and(|known| life.is_anothers(known, &alive_id(service)));
    let maintenance = known.as_ref().and_then(|known| known.check(&maintenance_id(service)));
    if !anothers && maintenance.is_some_and(|check| !check.notes.starts_with(OUR_REASON)) {
        tracing::warn!(
            event = "catalog.left_behind",
            "{id} stays in the catalog, critical: somebody has put it into maintenance in consul"
        );
        return forget_left(client, pins, id).await;
    } else if !anothers {
        client.deregister(id).await?;
    }
    // What another agent was told goes or stays by that agent's name.
    if !anothers && pins.left(id).is_none() {
        return is_gone(client, life, service).await;
    }
    forget_left(client, pins, id).await
}

/// The same as [`forget_before`], for the last time.
async fn forget_left(client: &Client, pins: &Pins, id: &str) -> Result<(), Error> {
    match forget_before(client, pins, id).await {
        // A right that isn't there won't come by asking again.
        Err(error @ Error::LeftBehind { .. }) if pins.left(id).is_none() => {
            tracing::warn!(event = "catalog.left_behind", "{}", crate::catalog::report(&error));
            Ok(())
        }
        forgotten => forgotten,
    }
}

/// Deregistering, the agent tells its servers; where it can't, it says yes all the same.
async fn is_gone(client: &Client, life: &LifeMark, service: &Service) -> Result<(), Error> {
    let id = || service.id.clone();
    if !can_be_asked_for(&service.id) {
        return Ok(());
    }
    match client.servers_have(service, (&alive_id(service), &life.notes()), GONE_WITHIN).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::StillThere { id: id() }),
        Err(error) if error.is_denial() => Ok(()),
        Err(error) => Err(Error::NotRemoved { id: id(), source: Box::new(error) }),
    }
}

/// Notes which agent is registered with.
async fn move_here(client: &Client, pins: &Pins, id: &str) -> Result<(), Error> {
    let node = match client.node_name().await {
        Ok(node) => node,
        // `agent:read` is no part of the least policy: without it, no move is noticed.
        Err(Error::Refused { status: 403, .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Some(before) = pins.take(id, &node)
        && !pins.several.load(Ordering::Relaxed)
    {
        tracing::warn!(
            event = "catalog.moved",
            "[catalog] address led to consul agent {before} and now leads to {node}: registering {id} there"
        );
    }
    Ok(())
}

/// Behind an address that leads to another agent than before, the entry at the first would go critical by its TTL and
/// stay: it is removed, where the token may do that. While the servers can't, each heartbeat tries again, and the
/// withdrawal.
async fn forget_before(client: &Client, pins: &Pins, id: &str) -> Result<(), Error> {
    let Some(before) = pins.left(id) else { return Ok(()) };
    let result = client.forget(&before, id).await;
    if matches!(result, Ok(()) | Err(Error::Refused { status: 403, .. })) {
        pins.settled(id);
    }
    result.map_err(|error| Error::LeftBehind { id: id.to_owned(), agent: before, source: Box::new(error) })
}

fn is_as_wanted(known: &Known, life: &LifeMark, service: &Service, address: &str) -> bool {
    let Some(there) = &known.service else { return false };
    there.service == service.name
        && there.address == address
        && there.port == i64::from(service.port)
        && there.enable_tag_override == service.consul.enable_tag_override
        // With tag override the catalog's tags are others' to change.
        && (service.consul.enable_tag_override || there.tags.as_deref().unwrap_or_default() == service.tags)
        && there.meta.as_ref().map_or(service.meta.is_empty(), |meta| *meta == service.meta)
        && known.check(&alive_id(service)).is_some_and(|check| check.notes == life.notes())
        && known.check(&health_id(service)).is_some()
}

fn entry<'a>(
    service: &'a Service,
    life: &LifeMark,
    address: &'a str,
    tags: &'a [String],
    health: &'static str,
) -> agent::RegisterBody<'a> {
    let alive = NewCheck {
        id: alive_id(service),
        name: "alive",
        ttl: span(service.ttl),
        status: "passing",
        notes: life.notes(),
        // On `alive` alone: an entry whose container lives would come back with the next heartbeat.
        deregister_critical_service_after: service.consul.deregister_critical_after.map(span),
    };
    let health = NewCheck {
        id: health_id(service),
        name: "health",
        ttl: HEALTH_TTL.to_owned(),
        status: health,
        notes: "told by pilotfish when it changes".to_owned(),
        deregister_critical_service_after: None,
    };
    agent::RegisterBody {
        id: &service.id,
        name: &service.name,
        address,
        port: service.port,
        tags,
        meta: &service.meta,
        enable_tag_override: service.consul.enable_tag_override,
        checks: vec![alive, health],
    }
}

/// The check that says that the agent lives; sessions bind to it.
pub(super) fn alive_id(service: &Service) -> String {
    format!("{}:alive", service.id)
}

fn health_id(service: &Service) -> String {
    format!("{}:health", service.id)
}

/// A span as Go reads it.
fn span(span: Duration) -> String {
    format!("{}ms", span.as_millis())
}

fn cut(note: &str) -> &str {
    let mut end = note.len().min(LONGEST_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_node_name_is_a_move_of_each_service_until_its_old_entry_is_gone() {
        let pins = Pins::default();
        for id in ["a", "b"] {
            assert_eq!(pins.take(id, "n1"), None);
            assert_eq!(pins.take(id, "n1"), None);
            assert_eq!(pins.left(id), None);
            assert_eq!(pins.take(id, "n2"), Some("n1".to_owned()));
            assert_eq!(pins.take(id, "n2"), None);
            assert_eq!(pins.left(id), Some("n1".to_owned()));
        }
        pins.settled("a");
        assert_eq!((pins.left("a"), pins.left("b")), (None, Some("n1".to_owned())));
        // Back again: what is there now must not be removed.
        pins.take("b", "n1");
        assert_eq!(pins.left("b"), Some("n2".to_owned()));
    }

    #[test]
    fn an_entry_is_anothers_by_its_mark_alone() {
        let (ours, theirs) = (LifeMark("a".to_owned()), LifeMark("b".to_owned()));
        let known = |notes: &str| {
            let check = serde_json::json!({"CheckID": "web:alive", "Status": "passing", "Notes": notes});
            serde_json::from_value::<Known>(serde_json::json!({"Service": null, "Checks": [check]})).unwrap()
        };
        assert!(ours.is_anothers(&known(&theirs.notes()), "web:alive"));
        for notes in [ours.notes(), String::new(), "a person's".to_owned(), FED_BY.0.to_owned()] {
            assert!(!ours.is_anothers(&known(&notes), "web:alive"), "{notes}");
        }
        assert!(!ours.is_anothers(&known(&theirs.notes()), "other:alive"));
        assert_ne!(LifeMark::new().0, LifeMark::new().0);
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let note = "é".repeat(3000);
        assert_eq!(cut(&note).len(), LONGEST_NOTE);
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn spans_are_written_as_go_reads_them() {
        assert_eq!(span(Duration::from_millis(1500)), "1500ms");
    }
}
