//! Consul and etcd under the contract as they are run in earnest: three servers each, and before Consul's the agent of
//! a host. A fresh cluster for each sentence.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use pilotfish::config::Service;

use super::backends::GONE_WITHIN;
use super::bench::Bench;
use crate::support::servers::{ConsulCluster, EtcdCluster};

/// Consul 1.8: three servers, and the agent that pilotfish talks to.
pub struct ThreeConsuls {
    cluster: Mutex<ConsulCluster>,
    agent: usize,
}

impl ThreeConsuls {
    fn cluster(&self) -> MutexGuard<'_, ConsulCluster> {
        self.cluster.lock().expect("no other test has it")
    }
}

impl Bench for ThreeConsuls {
    async fn start() -> ThreeConsuls {
        ThreeConsuls { cluster: Mutex::new(ConsulCluster::start_with_agent()), agent: 3 }
    }

    fn address(&self) -> String {
        format!("consul={}", self.cluster().http[self.agent])
    }

    fn gone_within(&self) -> Duration {
        GONE_WITHIN
    }

    async fn delete_entry(&self, service: &Service) {
        let path = format!("/v1/agent/service/deregister/{}", service.id);
        let (status, body) = self.cluster().ask(self.agent, "PUT", &path, "").expect("the agent answers");
        assert_eq!(status, 200, "{body}");
    }

    /// All servers: of a majority one may be left that nobody's question is lost with.
    async fn cut(&self, _service: &str) {
        let mut cluster = self.cluster();
        (0..self.agent).for_each(|server| cluster.down(server));
    }

    /// The agent's connection breaks, cannot be made anew, and in the end it knows no servers.
    fn reasons(&self) -> usize {
        3
    }

    async fn mend(&self, _service: &str) {
        let mut cluster = self.cluster();
        (0..self.agent).for_each(|server| cluster.spawn(server));
        (0..=self.agent).for_each(|node| cluster.wait_ready(node));
    }
}

/// Without a majority of its members etcd answers nothing.
const MAJORITY: [usize; 2] = [1, 2];

/// etcd 3.5, three members; pilotfish knows all of them.
pub struct ThreeEtcds {
    cluster: Mutex<EtcdCluster>,
}

impl ThreeEtcds {
    fn cluster(&self) -> MutexGuard<'_, EtcdCluster> {
        self.cluster.lock().expect("no other test has it")
    }
}

impl Bench for ThreeEtcds {
    async fn start() -> ThreeEtcds {
        ThreeEtcds { cluster: Mutex::new(EtcdCluster::start("etcd35")) }
    }

    fn address(&self) -> String {
        let members: Vec<String> = self.cluster().clients.iter().map(ToString::to_string).collect();
        format!("etcd={}", members.join(","))
    }

    fn gone_within(&self) -> Duration {
        GONE_WITHIN
    }

    async fn delete_entry(&self, service: &Service) {
        let key = format!("pilotfish/services/{}/{}", service.name, service.id);
        assert_eq!(self.cluster().ctl(0, &["del", &key]).expect("deleted").trim(), "1");
    }

    async fn cut(&self, _service: &str) {
        let mut cluster = self.cluster();
        MAJORITY.into_iter().for_each(|member| cluster.down(member));
    }

    async fn mend(&self, _service: &str) {
        let mut cluster = self.cluster();
        MAJORITY.into_iter().for_each(|member| cluster.spawn(member));
        MAJORITY.into_iter().for_each(|member| cluster.wait_ready(member));
    }
}
