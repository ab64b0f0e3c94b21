//! The catalog in Consul, through one agent: what is registered belongs to that agent, which tells its servers. Only
//! what Consul 1.8 and today's have in common is used. It decides nothing, and retries only what it follows.

mod agent;
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
mod names;
mod publish;
mod session;
mod slots;
mod txn;

use std::net::IpAddr;

use crate::config::{Query, Service, backends};
use crate::supervisor::vocabulary::Registration;

use super::ObservationSender;

pub use error::Error;

/// One Consul agent.
#[derive(Debug)]
pub struct Consul {
    client: client::Client,
    life: publish::LifeMark,
    pins: publish::Pins,
    registered: publish::Registered,
    lingers: lock::Lingers,
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
            lingers: lock::Lingers::default(),
        }
    }

    /// See [`Backend::publish`](super::Backend::publish).
    pub async fn publish(&self, registration: &Registration, address: IpAddr) -> Result<(), Error> {
        publish::publish(&self.client, &self.life, &self.pins, &self.registered, registration, address).await
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
    pub async fn get(&self, key: &str) -> Result<Option<String>, Error> {
        self.client.get(key).await
    }

    /// See [`Backend::put`](super::Backend::put).
    pub async fn put(&self, key: &str, value: &str) -> Result<(), Error> {
        self.client.put(key, value).await
    }

    /// See [`Backend::delete`](super::Backend::delete).
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.client.delete(key).await
    }
}
