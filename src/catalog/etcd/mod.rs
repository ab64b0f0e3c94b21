//! The catalog in etcd, API version 3: instances are keys under leases, followers are watches. It decides nothing, and
//! retries only what it follows.
//!
//! `PREFIX/services/NAME/ID` holds an instance as JSON, `PREFIX/keys/KEY` a key's value, `PREFIX/elections/NAME/` the
//! lock of an election and what belongs to it.

mod canvass;
mod clusters;
mod dialer;
mod error;
mod follow;
mod found;
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::catalog) mod fuzz;
mod keeper;
mod kv;
mod layout;
mod lock;
mod members;
mod pages;
mod publish;
mod reach;
mod sessions;
mod space;

use std::net::IpAddr;

use crate::config::{Query, Service, backends};
use crate::supervisor::vocabulary::{Fence, KeyChange, Registration, Value};

use super::{Amended, Changed, ObservationSender};

pub use error::Error;

/// An etcd cluster.
#[derive(Debug)]
pub struct Etcd {
    members: members::Members,
    layout: layout::Layout,
    leases: publish::Leases,
    sessions: sessions::Sessions,
    keeper: keeper::Keeper,
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
            keeper: keeper::Keeper::default(),
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
        kv::get(&self.members, &self.layout, key).await
    }

    /// See [`Backend::change`](super::Backend::change).
    pub async fn change(&self, key: &str, change: &KeyChange, fence: Option<&Fence>) -> Result<Changed, Error> {
        let held = fence.map(|fence| (self.keys(&fence.election).leader, lock::revision(fence.term.0)));
        kv::change(&self.members, &self.layout, key, change, held).await
    }

    /// See [`Backend::amend`](super::Backend::amend).
    pub async fn amend(
        &self,
        key: &str,
        fence: &Fence,
        next: impl Fn(Option<&[u8]>) -> Option<Value> + Sync,
    ) -> Result<Amended, Error> {
        let held = (self.keys(&fence.election).leader, lock::revision(fence.term.0));
        kv::amend(&self.members, &self.layout, key, held, next).await
    }
}
