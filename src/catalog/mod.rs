//! Where services are registered and dependencies seen: one enum [`Backend`], one method per effect. It decides
//! nothing: what is to be published or followed, and when a failed call is tried again, is the core's to say (only
//! following retries by itself).

mod acting;
mod border;
pub mod bounds;
mod cause;
pub mod consul;
pub mod election;
pub mod etcd;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod local;
mod observations;
mod rate;

use crate::config::{self, Query, Service};
pub use crate::errors::chain as report;
use crate::net::address;
use crate::supervisor::vocabulary::{Advertised, Fence, KeyChange, Registration, ServiceStatus, Value};

pub use cause::Cause;
pub use observations::{Audience, ObservationSender, wants_a_value};

/// The backend that keeps the catalog. Shared by the tasks that call it; a call never waits for another one.
#[derive(Debug)]
pub enum Backend {
    /// None: nothing can be registered or seen.
    None,
    /// A directory shared by the containers of one host.
    Local(local::Local),
    /// One Consul agent.
    Consul(Box<consul::Consul>),
    /// An etcd cluster.
    Etcd(Box<etcd::Etcd>),
}

/// Why the catalog couldn't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no catalog.
    #[error("no catalog is configured ([catalog] backend = \"none\")")]
    NotConfigured,
    /// None of the container's addresses can be advertised.
    #[error("service {service} has no address to advertise")]
    Address {
        /// The service's id.
        service: String,
        /// What was looked for, and what is there.
        #[source]
        source: address::AddressError,
    },
    /// The directory couldn't be used.
    #[error(transparent)]
    Local(local::Error),
    /// Consul couldn't be used.
    #[error(transparent)]
    Consul(consul::Error),
    /// etcd couldn't be used.
    #[error(transparent)]
    Etcd(etcd::Error),
}

impl Error {
    /// Whether the catalog was reached, and doesn't allow what it was asked for.
    pub fn is_denial(&self) -> bool {
        match self {
            Error::NotConfigured | Error::Address { .. } => false,
            Error::Local(error) => error.is_denial(),
            Error::Consul(error) => error.is_denial(),
            Error::Etcd(error) => error.is_denial(),
        }
    }
}

impl Backend {
    /// Makes a backend ready to be called. Quick: it reaches no server and no disk, that happens in the calls; so a
    /// catalog that is down is no error here.
    ///
    /// # Errors
    /// What is wrong with the config itself, and no later call could mend.
    pub fn open(config: &config::Catalog) -> Result<Backend, Error> {
        match &config.backend {
            config::Backend::None => Ok(Backend::None),
            config::Backend::Local { directory, shared } => {
                Ok(Backend::Local(local::Local::new(directory, &config.prefix, *shared)))
            }
            config::Backend::Consul(settings) => Ok(Backend::Consul(Box::new(consul::Consul::new(settings)))),
            config::Backend::Etcd(settings) => Ok(Backend::Etcd(Box::new(etcd::Etcd::new(settings, &config.prefix)))),
        }
    }

    /// Looks whether the place of this config is one that others can share, as seen from here. It may wait for a disk.
    ///
    /// # Errors
    /// It isn't, or can't be looked at.
    pub fn survey(config: &config::Catalog) -> Result<(), Error> {
        match &config.backend {
            config::Backend::Local { directory, shared: false } => local::survey(directory).map_err(Error::Local),
            config::Backend::Local { .. }
            | config::Backend::None
            | config::Backend::Consul(_)
            | config::Backend::Etcd(_) => Ok(()),
        }
    }

    /// Makes the catalog say what the registration says: registers what isn't there, mends what differs, renews what
    /// expires. The address is looked up anew each time. When nothing differs, nobody who follows the service
    /// notices.
    ///
    /// # Errors
    /// The catalog can't be asked, refuses, or another live agent has the same id.
    pub async fn publish(&self, registration: &Registration) -> Result<Advertised, Error> {
        if let Backend::None = self {
            return Err(Error::NotConfigured);
        }
        let service = &registration.service;
        let found = match address::advertised(&service.address) {
            Ok(found) => found,
            Err(source) => {
                self.forget_address(registration, &source).await;
                return Err(Error::Address { service: service.id.clone(), source });
            }
        };
        match self {
            Backend::None => return Err(Error::NotConfigured),
            Backend::Local(local) => local.publish(registration, found.address).await.map_err(Error::Local)?,
            Backend::Consul(consul) => consul.publish(registration, found.address).await.map_err(Error::Consul)?,
            Backend::Etcd(etcd) => etcd.publish(registration, found.address).await.map_err(Error::Etcd)?,
        }
        Ok(Advertised { address: found.address.to_string(), why: found.why })
    }

    /// Nobody is sent any more to an address that isn't there, nor, where it can't be known, to what isn't to be sent to.
    async fn forget_address(&self, registration: &Registration, why: &address::AddressError) {
        let is_known = !matches!(why, address::AddressError::List { .. });
        let is_passing = registration.in_short().0 == ServiceStatus::Passing.as_str();
        if (is_known || !is_passing)
            && let Err(error) = self.withdraw(&registration.service).await
        {
            tracing::debug!(event = "catalog.left_behind", "{}", report(&error));
        }
    }

    /// Removes what [`publish`](Self::publish) registered. Done also when nothing is there.
    ///
    /// # Errors
    /// The catalog can't be asked or refuses.
    pub async fn withdraw(&self, service: &Service) -> Result<(), Error> {
        match self {
            Backend::None => Err(Error::NotConfigured),
            Backend::Local(local) => local.withdraw(service).await.map_err(Error::Local),
            Backend::Consul(consul) => consul.withdraw(service).await.map_err(Error::Consul),
            Backend::Etcd(etcd) => etcd.withdraw(service).await.map_err(Error::Etcd),
        }
    }

    /// Tells what the query sees: at once, then after each change, and why the catalog can't be asked when it can't.
    /// Retries by itself with jittered backoff. Never returns: to stop following, drop the future.
    pub async fn follow(&self, query: &Query, mut seen: ObservationSender) {
        match query {
            Query::Leader { election } => acting::follow(self, election, seen).await,
            Query::Service { .. } | Query::Key { .. } | Query::KeyPrefix { .. } => {
                self.follow_catalog(query, &mut seen).await;
            }
        }
    }

    /// The same of what isn't a leader.
    async fn follow_catalog(&self, query: &Query, seen: &mut ObservationSender) {
        match self {
            Backend::None => {
                seen.failed(&Error::NotConfigured).await;
                std::future::pending().await
            }
            Backend::Local(local) => local.follow(query, seen).await,
            Backend::Consul(consul) => consul.follow(query, seen).await,
            Backend::Etcd(etcd) => etcd.follow(query, seen).await,
        }
    }

    /// A key's value; `None` when there is no such key.
    ///
    /// # Errors
    /// The catalog can't be asked or refuses.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Backend::None => Err(Error::NotConfigured),
            Backend::Local(local) => local.get(key).await.map_err(Error::Local),
            Backend::Consul(consul) => consul.get(key).await.map_err(Error::Consul),
            Backend::Etcd(etcd) => etcd.get(key).await.map_err(Error::Etcd),
        }
    }

    /// Writes a key, or removes it: whoever reads sees what was there before or all of what is there now. With a fence, only
    /// if that term holds its election's lock in the same moment.
    ///
    /// # Errors
    /// The catalog can't be asked, and whether the key is written isn't known; or it refuses, or key or value are too long
    /// for it.
    pub async fn change(&self, key: &str, change: &KeyChange, fence: Option<&Fence>) -> Result<Changed, Error> {
        match self {
            Backend::None => Err(Error::NotConfigured),
            Backend::Local(local) => local.change(key, change, fence).await.map_err(Error::Local),
            Backend::Consul(consul) => consul.change(key, change, fence).await.map_err(Error::Consul),
            Backend::Etcd(etcd) => etcd.change(key, change, fence).await.map_err(Error::Etcd),
        }
    }

    /// Writes a key by what stands there, or leaves it, as `next` says, which may be asked more than once: what is written
    /// replaces what it was asked about, and nothing else. Only if the fence's term holds its election's lock in the same
    /// moment; a request of it that arrives late, or twice, undoes nothing that it has written since.
    ///
    /// # Errors
    /// The catalog can't be asked, and whether the key is written isn't known; or it refuses.
    pub async fn amend(
        &self,
        key: &str,
        fence: &Fence,
        next: impl Fn(Option<&[u8]>) -> Option<Value> + Send + Sync + 'static,
    ) -> Result<Amended, Error> {
        match self {
            Backend::None => Err(Error::NotConfigured),
            Backend::Local(local) => local.amend(key, fence, next).await.map_err(Error::Local),
            Backend::Consul(consul) => consul.amend(key, fence, next).await.map_err(Error::Consul),
            Backend::Etcd(etcd) => etcd.amend(key, fence, next).await.map_err(Error::Etcd),
        }
    }
}

/// How often a key is read anew that somebody else writes meanwhile.
const AMENDED_AT_MOST: usize = 4;

/// What came of a key that was to be written by what stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amended {
    /// It is written.
    Written,
    /// It was to be left.
    Left,
    /// The term doesn't hold the lock.
    Fenced,
}

/// What came of writing a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is as it was to be.
    Done,
    /// It was to be created, and is there.
    Exists,
    /// The term doesn't hold the lock.
    Fenced,
}
