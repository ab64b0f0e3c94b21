//! Consul and etcd under the contract: a fresh server for each sentence.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use pilotfish::config::backends::{Consul as ConsulSettings, ConsulAddress, Endpoint, Etcd as EtcdSettings, Tls};
use pilotfish::config::{self, Service};

use super::bench::Bench;
use crate::support::servers::{Consul, Etcd};

/// The config of an agent on the engine at an address, or at several, as [`Bench::address`] wrote it.
pub fn backend(engine: &str, place: &str) -> Option<config::Backend> {
    let endpoint = |place: &str| {
        let at: SocketAddr = place.parse().ok()?;
        Some(Endpoint { https: false, host: at.ip().to_string(), port: at.port() })
    };
    let endpoints: Vec<Endpoint> = place.split(',').map(endpoint).collect::<Option<_>>()?;
    let tls = Tls::default();
    Some(match engine {
        "consul" => config::Backend::Consul(Box::new(ConsulSettings {
            address: ConsulAddress::Tcp(endpoints.into_iter().next()?),
            token: None,
            basic: None,
            tls,
        })),
        "etcd" => config::Backend::Etcd(Box::new(EtcdSettings { endpoints, login: None, tls })),
        _ => return None,
    })
}

/// A TTL of 5 s, which engines let run out a little late, on a machine that is busy with other tests.
pub const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Consul 1.8, one server in memory.
pub struct OneConsul {
    consul: Mutex<Consul>,
    address: String,
}

impl OneConsul {
    /// The server, for what a test does behind the agents' backs.
    pub fn server(&self) -> MutexGuard<'_, Consul> {
        self.consul.lock().expect("no other test has it")
    }
}

impl Bench for OneConsul {
    async fn start() -> OneConsul {
        let consul = Consul::start();
        let address = format!("consul={}", consul.http);
        OneConsul { consul: Mutex::new(consul), address }
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn gone_within(&self) -> Duration {
        GONE_WITHIN
    }

    async fn delete_entry(&self, service: &Service) {
        let (status, body) = self.server().ask("PUT", &format!("/v1/agent/service/deregister/{}", service.id), "");
        assert_eq!(status, 200, "{body}");
    }

    async fn cut(&self, _service: &str) {
        self.server().down();
    }

    async fn mend(&self, _service: &str) {
        self.server().up();
    }
}

/// etcd, one server: 3.4, or 3.5 when `NEW`.
pub struct OneEtcd<const NEW: bool> {
    etcd: Mutex<Etcd>,
    address: String,
}

/// etcd 3.4.
pub type Etcd34 = OneEtcd<false>;
/// etcd 3.5.
pub type Etcd35 = OneEtcd<true>;

impl<const NEW: bool> OneEtcd<NEW> {
    /// The server, for what a test does behind the agents' backs.
    pub fn server(&self) -> MutexGuard<'_, Etcd> {
        self.etcd.lock().expect("no other test has it")
    }
}

impl<const NEW: bool> Bench for OneEtcd<NEW> {
    async fn start() -> OneEtcd<NEW> {
        let etcd = Etcd::start(if NEW { "etcd35" } else { "etcd" });
        let address = format!("etcd={}", etcd.client());
        OneEtcd { etcd: Mutex::new(etcd), address }
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn gone_within(&self) -> Duration {
        GONE_WITHIN
    }

    async fn delete_entry(&self, service: &Service) {
        let key = format!("pilotfish/services/{}/{}", service.name, service.id);
        let deleted = self.server().ctl(&["del", &key]).expect("deleted");
        assert_eq!(deleted.trim(), "1");
    }

    async fn cut(&self, _service: &str) {
        self.server().down();
    }

    async fn mend(&self, _service: &str) {
        self.server().up();
    }
}
