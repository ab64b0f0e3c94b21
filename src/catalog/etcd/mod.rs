//! The catalog in etcd, API version 3: instances are keys under leases, followers are watches. It decides nothing, and
//! retries only what it follows.
//!
//! `PREFIX/services/NAME/ID` holds an instance as JSON, `PREFIX/keys/KEY` a key's value, `PREFIX/elections/NAME/` the
//! lock of an election and what belongs to it.

mod error;
mod follow;
mod found;
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::catalog) mod fuzz;
mod layout;
mod lock;
mod members;
mod pages;
mod publish;
mod reach;
mod sessions;
mod space;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use etcd_client::{Client, Compare, CompareOp, KeyValue, Txn, TxnOp, TxnOpResponse};

use crate::config::{Query, Service, backends};
use crate::supervisor::vocabulary::{Fence, KeyChange, Registration};

use super::{Changed, ObservationSender};

pub use error::Error;

/// An etcd cluster.
#[derive(Debug)]
pub struct Etcd {
    members: members::Members,
    layout: layout::Layout,
    leases: publish::Leases,
    sessions: sessions::Sessions,
    space: space::Space,
}

impl Etcd {
    /// Reaches nobody yet. Everything is kept below `prefix`.
    pub fn new(settings: &backends::Etcd, prefix: &str) -> Etcd {
        Etcd {
            members: members::Members::new(settings),
            layout: layout::Layout::new(prefix),
            leases: publish::Leases::default(),
            sessions: sessions::Sessions::default(),
            space: space::Space::default(),
        }
    }

    /// See [`Backend::publish`](super::Backend::publish).
    pub async fn publish(&self, registration: &Registration, address: IpAddr) -> Result<(), Error> {
        publish::publish(&self.members, &self.layout, &self.leases, registration, address).await?;
        self.space.look(&self.members).await;
        Ok(())
    }

    /// See [`Backend::withdraw`](super::Backend::withdraw).
    pub async fn withdraw(&self, service: &Service) -> Result<(), Error> {
        publish::withdraw(&self.members, &self.leases, service).await
    }

    /// See [`Backend::follow`](super::Backend::follow).
    pub async fn follow(&self, query: &Query, seen: &mut ObservationSender) -> ! {
        follow::follow(&self.members, &self.layout, query, seen).await
    }

    /// See [`Backend::get`](super::Backend::get).
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.layout.key(key);
        let got = self.members.call("read a key", |mut client: Client| {
            let path = path.clone();
            async move { client.get(path, None).await }
        });
        Ok(got.await?.kvs().first().map(|found| found.value().to_vec()))
    }

    /// See [`Backend::change`](super::Backend::change).
    pub async fn change(&self, key: &str, change: &KeyChange, fence: Option<&Fence>) -> Result<Changed, Error> {
        let path = self.layout.key(key);
        let created = |key: &str, revision| Compare::create_revision(key, CompareOp::Equal, revision);
        let lock = fence.map(|fence| (self.keys(&fence.election).leader, lock::revision(fence.term.0)));
        let held = lock.as_ref().map(|(lock, term)| created(lock, *term));
        let absent = matches!(change, KeyChange::Create(_)).then(|| created(&path, 0));
        let write = match change {
            KeyChange::Put(value) | KeyChange::Create(value) => TxnOp::put(path.as_str(), &*value.0, None),
            KeyChange::Delete => TxnOp::delete(path.as_str(), None),
        };
        let tries = AtomicUsize::new(0);
        let written = self.members.call("write a key", |mut client: Client| {
            tries.fetch_add(1, Ordering::Relaxed);
            let conditions: Vec<Compare> = held.iter().chain(&absent).cloned().collect();
            let reads: Vec<TxnOp> = lock.iter().map(|(lock, _)| TxnOp::get(lock.as_str(), None)).collect();
            let txn = Txn::new().when(conditions).and_then([write.clone()]).or_else(reads);
            async move { client.txn(txn).await }
        });
        let answer = written.await?;
        if answer.succeeded() {
            return Ok(Changed::Done);
        }
        let shown = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(got) => got.kvs().first().map(KeyValue::create_revision),
            _ => None,
        });
        match &lock {
            Some((_, term)) if shown != Some(*term) => Ok(Changed::Fenced),
            // It may have been this call's own first try, whose answer was lost.
            _ if tries.into_inner() > 1 => Err(Error::Doubtful { key: key.to_owned() }),
            _ => Ok(Changed::Exists),
        }
    }
}
