//! The catalog in Consul, through one agent: what is registered belongs to that agent, which tells its servers. Only
//! what Consul 1.8 and today's have in common is used. It decides nothing, and retries only what it follows.

mod agent;
mod answer;
mod call;
mod client;
mod credentials;
mod elements;
mod error;
mod follow;
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::catalog) mod fuzz;
mod health;
mod kv;
mod lock;
mod measure;
mod names;
mod presence;
mod publish;
mod session;
mod sighting;
mod sink;
mod slots;
mod txn;

use std::net::IpAddr;

use crate::config::{Query, Service, backends};
use crate::supervisor::vocabulary::{Fence, KeyChange, Registration, Value};

use super::election::record::uuid;
use super::{Amended, Changed, ObservationSender};

pub use error::Error;

/// One Consul agent.
#[derive(Debug)]
pub struct Consul {
    client: client::Client,
    life: publish::LifeMark,
    pins: publish::Pins,
    registered: publish::Registered,
    presence: presence::Presence,
    told: lock::ToldInLast,
}

impl Consul {
    /// Reaches nobody yet.
    pub fn new(settings: &backends::Consul) -> Consul {
        let client = client::Client::new(settings);
        Consul {
            client,
            life: publish::LifeMark::new(),
            pins: publish::Pins::default(),
            registered: publish::Registered::default(),
            presence: presence::Presence::default(),
            told: lock::ToldInLast::default(),
        }
    }

    /// See [`Backend::publish`](super::Backend::publish).
    pub async fn publish(&self, registration: &Registration, address: IpAddr) -> Result<(), Error> {
        let ours = publish::Ours {
            client: &self.client,
            life: &self.life,
            registered: &self.registered,
            presence: &self.presence,
            pins: &self.pins,
        };
        publish::publish(ours, registration, address).await
    }

    /// See [`Backend::withdraw`](super::Backend::withdraw).
    pub async fn withdraw(&self, service: &Service) -> Result<(), Error> {
        publish::withdraw(&self.client, &self.life, &self.pins, service).await
    }

    /// See [`Backend::follow`](super::Backend::follow).
    pub async fn follow(&self, query: &Query, seen: &mut ObservationSender) -> ! {
        follow::follow(&self.client, query, seen).await
    }

    /// See [`Backend::get`](super::Backend::get).
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.client.get(key).await
    }

    /// See [`Backend::change`](super::Backend::change). A session serves one term, so whoever holds the lock by it does so
    /// for that.
    pub async fn change(&self, key: &str, change: &KeyChange, fence: Option<&Fence>) -> Result<Changed, Error> {
        let held = fence.map(|fence| (lock::leader_key(&fence.election), uuid::text(fence.session)));
        self.client.change(key, change, held.as_ref().map(|(lock, session)| (lock.as_str(), session.as_str()))).await
    }

    /// See [`Backend::amend`](super::Backend::amend).
    pub async fn amend(
        &self,
        key: &str,
        fence: &Fence,
        next: impl Fn(Option<&[u8]>) -> Option<Value> + Sync,
    ) -> Result<Amended, Error> {
        let (lock, session) = (lock::leader_key(&fence.election), uuid::text(fence.session));
        self.client.amend(key, (&lock, &session), next).await
    }
}
