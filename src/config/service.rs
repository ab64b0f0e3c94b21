//! The checked services: names by which the main process, or a coprocess, is found, and where.

use std::collections::BTreeMap;
use std::time::Duration;

/// `[[service]]`: a name under which the main process, or a coprocess, is in the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// The service's name.
    pub name: String,
    /// Unique in the catalog; `<name>-<hostname>-<port>` unless set.
    pub id: String,
    /// Where it listens.
    pub port: u16,
    /// Whose entry it is.
    pub of: ServiceOf,
    /// Labels others filter by.
    pub tags: Vec<String>,
    /// Free pairs.
    pub meta: BTreeMap<String, String>,
    /// Which of the container's addresses is advertised: first match wins, looked up at each registration.
    pub address: Vec<AddressSpec>,
    /// How long the entry outlives a dead agent.
    pub ttl: Duration,
    /// What only Consul knows.
    pub consul: ConsulService,
}

/// Whose an entry of the catalog is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ServiceOf {
    /// The main process's.
    #[default]
    Main,
    /// This coprocess's.
    Coprocess(String),
    /// Pilotfish's own, for its telemetry endpoint.
    Telemetry,
}

impl From<Option<String>> for ServiceOf {
    fn from(coprocess: Option<String>) -> ServiceOf {
        coprocess.map_or(ServiceOf::Main, ServiceOf::Coprocess)
    }
}

/// What only Consul knows of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulService {
    /// Whether others may change its tags in the catalog.
    pub enable_tag_override: bool,
    /// Consul removes the entry after it has been critical this long (Consul's own least is a minute).
    pub deregister_critical_after: Option<Duration>,
}

/// One way to choose an address of the container (the specs ContainerPilot's users know).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressSpec {
    /// `eth0`, `eth0:inet`: the best IPv4 address of an interface; `eth0:inet6` the best IPv6 address.
    Interface {
        /// The interface's name.
        name: String,
        /// Which family.
        family: Family,
    },
    /// `eth0[1]`: zero-based over all of an interface's addresses, IPv4 first, best first.
    Indexed {
        /// The interface's name.
        name: String,
        /// Which of its addresses.
        index: usize,
    },
    /// `inet`, `inet6`: the best that isn't loopback, where the default route goes out if there is one.
    Any(Family),
    /// `10.0.0.0/8`: the best inside a network.
    Network {
        /// The network's address.
        address: std::net::IpAddr,
        /// Its prefix length in bits.
        prefix: u8,
    },
    /// `static:192.0.2.7`: this one, whatever the interfaces say (NAT).
    Static(std::net::IpAddr),
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}
