//! One service, kept as it shall be: a key under a lease. A heartbeat renews the lease and proves in one read that the
//! key is as we wrote it; only a difference is written. When the agent dies, the lease runs out and takes the key along.
//! So it does when the key says "passing" of what isn't, and etcd takes no other word: such a key is never kept alive.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};

use crate::config::Service;
use crate::supervisor::vocabulary::{Instance, Registration};

use super::error::Error;
use super::layout::{EntryValue, Layout};
use super::members::Members;

/// The lease of each service that was published, by the service's id.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<BTreeMap<String, HeldLease>>);

#[derive(Debug, Clone)]
struct HeldLease {
    lease: i64,
    /// What is written under it.
    key: String,
    /// The TTL that was asked for: another one needs another lease.
    ttl: i64,
    /// Whether the key has been seen to be ours.
    ours: bool,
    /// The instance that others may be sent to by what stands there.
    passing: Appearance,
}

/// What the key may say to who reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Appearance {
    /// That nothing is there to be used.
    Nothing,
    /// That this instance is there to be used.
    Passing(Instance),
    /// One of both: the answer to a write was lost.
    Unknown,
}

impl Appearance {
    /// Whether who reads it sends to an instance that isn't to be sent to, or isn't there.
    fn misleads(&self, wanted: &Appearance) -> bool {
        *self != Appearance::Nothing && self != wanted
    }
}

impl Leases {
    fn of(&self, id: &str) -> Option<HeldLease> {
        self.lock().get(id).cloned()
    }

    fn hold(&self, id: &str, held: HeldLease) {
        self.lock().insert(id.to_owned(), held);
    }

    fn drop(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, HeldLease>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Makes etcd say what the registration says. What misleads is neither renewed before it is put right nor left there when
/// it can't be: a cluster without room, and a user who may no longer write, still renew a lease.
pub(super) async fn publish(
    members: &Members,
    layout: &Layout,
    leases: &Leases,
    registration: &Registration,
    address: IpAddr,
) -> Result<(), Error> {
    let service = &*registration.service;
    let key = layout.instance(&service.name, &service.id);
    let instance = Instance {
        id: service.id.clone(),
        node: None,
        name: service.name.clone(),
        address: address.to_string(),
        port: service.port,
        tags: service.tags.clone(),
        meta: service.meta.clone(),
    };
    let entry = EntryValue::new(instance.clone(), registration);
    let shown = if entry.is_passing() { Appearance::Passing(instance) } else { Appearance::Nothing };
    let wanted = Wanted { value: entry.json(), key, shown };
    if let Some(held) = leases.of(&service.id).filter(|held| held.key != wanted.key) {
        // A reload gave the service another name. Under the old one it isn't renewed any more, whatever becomes of this.
        end(members, leases, &service.id, held.lease).await?;
    }
    if let Some(held) = leases.of(&service.id).filter(|held| held.passing.misleads(&wanted.shown)) {
        match write(members, leases, service, &held, &wanted).await {
            Ok(()) => {}
            // Gone with its lease: nothing misleads any more.
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                if error.is_final() {
                    take_back(members, leases, &service.id).await;
                }
                return Err(error);
            }
        }
    }
    let held = lease(members, leases, service, &wanted.key).await?;
    write(members, leases, service, &held, &wanted).await
}

/// How a key is to be.
struct Wanted {
    key: String,
    value: String,
    shown: Appearance,
}

/// Makes the key say what is wanted, under a lease.
async fn write(
    members: &Members,
    leases: &Leases,
    service: &Service,
    held: &HeldLease,
    wanted: &Wanted,
) -> Result<(), Error> {
    let done = HeldLease { ours: true, passing: wanted.shown.clone(), ..held.clone() };
    let as_written = members.call("look at a service", |mut client: Client| {
        let same = [
            Compare::value(wanted.key.as_str(), CompareOp::Equal, wanted.value.as_str()),
            Compare::lease(wanted.key.as_str(), CompareOp::Equal, held.lease),
        ];
        let txn = Txn::new().when(same).or_else([TxnOp::get(wanted.key.as_str(), None)]);
        async move { client.txn(txn).await }
    });
    let answer = as_written.await?;
    if answer.succeeded() {
        leases.hold(&service.id, done);
        return Ok(());
    }
    let there = answer.op_responses().into_iter().find_map(|response| match response {
        TxnOpResponse::Get(mut got) => got.take_kvs().pop(),
        _ => None,
    });
    // The one that came last keeps the id, and the other says so instead of fighting. An entry of our own container's
    // former life looks the same, so the first publish takes whatever is there. Lease 0 is a person's hand.
    if held.ours && there.is_some_and(|there| there.lease() != held.lease && there.lease() != 0) {
        leases.hold(&service.id, HeldLease { passing: Appearance::Nothing, ..held.clone() });
        return Err(Error::Taken { id: service.id.clone() });
    }
    // Noted before: a write whose answer is lost may have been done.
    if held.passing != wanted.shown {
        leases.hold(&service.id, HeldLease { passing: Appearance::Unknown, ..held.clone() });
    }
    let put = members.call("register a service", |mut client: Client| {
        let (key, value) = (wanted.key.clone(), wanted.value.clone());
        async move { client.put(key, value, Some(PutOptions::new().with_lease(held.lease))).await }
    });
    let put = put.await;
    match &put {
        Ok(_) => leases.hold(&service.id, done),
        // "requested lease not found": gone since it was renewed. The next publish gets a new one.
        Err(error) if error.is_not_found() => leases.drop(&service.id),
        Err(error) if error.is_final() => leases.hold(&service.id, held.clone()),
        Err(_) => {}
    }
    put.map(drop)
}

/// Ends the lease of a key that misleads and can't be written, and with it the key: that takes no room. Where the user may
/// not even do that, the lease runs out, since nobody renews it.
async fn take_back(members: &Members, leases: &Leases, id: &str) {
    let Some(held) = leases.of(id) else { return };
    match revoke(members, held.lease).await {
        // Whose it was is remembered: somebody who took the id meanwhile isn't fought.
        Ok(()) => leases.hold(id, HeldLease { passing: Appearance::Nothing, ..held }),
        Err(error) => tracing::debug!(event = "catalog.left_behind", "{}", crate::catalog::report(&error)),
    }
}

/// Removes the key with its lease, if there is one of ours.
pub(super) async fn withdraw(members: &Members, leases: &Leases, service: &Service) -> Result<(), Error> {
    match leases.of(&service.id) {
        Some(held) => end(members, leases, &service.id, held.lease).await,
        None => Ok(()),
    }
}

/// Ends a service's lease, and with it the key.
async fn end(members: &Members, leases: &Leases, id: &str, lease: i64) -> Result<(), Error> {
    revoke(members, lease).await?;
    leases.drop(id);
    Ok(())
}

/// Done also when there is no such lease.
async fn revoke(members: &Members, lease: i64) -> Result<(), Error> {
    let revoked =
        members.call("withdraw a service", |client: Client| async move { client.lease_client().revoke(lease).await });
    match revoked.await {
        Err(error) if !error.is_not_found() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A lease that has just been renewed or granted.
async fn lease(members: &Members, leases: &Leases, service: &Service, key: &str) -> Result<HeldLease, Error> {
    let ttl = seconds(service.ttl);
    let held = leases.of(&service.id);
    if let Some(held) = &held
        && held.ttl == ttl
        && renewed(members, held.lease).await?
    {
        return Ok(held.clone());
    }
    let granted =
        members.call("get a lease", |client: Client| async move { client.lease_client().grant(ttl, None).await });
    let lease = granted.await?.id();
    let ours = held.is_some_and(|held| held.ours && held.ttl == ttl);
    let fresh = HeldLease { lease, key: key.to_owned(), ttl, ours, passing: Appearance::Nothing };
    // Noted before the key is written: a write whose answer is lost must still be found to be withdrawn.
    leases.hold(&service.id, fresh.clone());
    Ok(fresh)
}

/// Renews a lease; `false` when it is gone.
async fn renewed(members: &Members, lease: i64) -> Result<bool, Error> {
    let renewed = members.call("renew a lease", |client: Client| async move {
        // It sends one renewal and waits for its answer. A lease that is gone is answered with a TTL of 0, which the
        // client makes this error.
        match client.lease_client().keep_alive(lease).await {
            Ok(_) => Ok(true),
            Err(etcd_client::Error::LeaseKeepAliveError(_)) => Ok(false),
            Err(error) => Err(error),
        }
    });
    match renewed.await {
        Err(error) if error.is_not_found() => Ok(false),
        other => other,
    }
}

/// Leases count in whole seconds, at least one; the server may grant more.
fn seconds(span: Duration) -> i64 {
    let whole = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    i64::try_from(whole.max(1)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_misleads_when_it_may_say_passing_of_what_is_not_so() {
        let instance = |address: &str| Instance {
            id: "web-1".to_owned(),
            node: None,
            name: "web".to_owned(),
            address: address.to_owned(),
            port: 80,
            tags: vec![],
            meta: BTreeMap::new(),
        };
        let (here, there) = (Appearance::Passing(instance("10.0.0.1")), Appearance::Passing(instance("10.0.0.2")));
        for wanted in [&Appearance::Nothing, &there] {
            assert!(here.misleads(wanted) && Appearance::Unknown.misleads(wanted), "{wanted:?}");
            assert!(!Appearance::Nothing.misleads(wanted), "{wanted:?}");
        }
        assert!(!here.misleads(&here));
    }

    #[test]
    fn a_ttl_is_rounded_up_to_seconds() {
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_millis(1500)), 2);
        assert_eq!(seconds(Duration::from_secs(15)), 15);
        assert_eq!(seconds(Duration::ZERO), 1);
    }
}
