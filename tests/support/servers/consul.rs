//! Consul: one server in memory, or three on disk.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tempfile::TempDir;

use super::{Process, Site, eventually, free_port, http, program};
use crate::support::netlab::Lab;

/// A Consul agent refuses the 201st connection of one address unless told otherwise, and all of ours come from one.
pub const MANY: &str = r#"{"limits": {"http_max_conns_per_client": 8000}}"#;

/// A single server in memory (`-dev`): ready in a fifth of a second; a restart forgets everything.
pub struct Consul {
    /// Where its HTTP API is.
    pub http: SocketAddr,
    /// Its node's name.
    pub node: String,
    args: Vec<String>,
    token: String,
    serf: u16,
    process: Option<Process>,
    dir: TempDir,
}

impl Consul {
    /// One server for all tests at a time; it ends with the last of them.
    pub fn shared() -> Arc<Consul> {
        static SHARED: Mutex<Weak<Consul>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let consul = Arc::new(Consul::start());
            *shared = Arc::downgrade(&consul);
            consul
        })
    }

    /// Starts one and waits until it takes writes.
    pub fn start() -> Consul {
        Consul::start_with("", "")
    }

    /// Starts one that takes a crowd's connections.
    pub fn start_for_many() -> Consul {
        Consul::start_with(MANY, "")
    }

    /// Starts one with more config (JSON), asks it with a token, and waits until it takes writes.
    pub fn start_with(config: &str, token: &str) -> Consul {
        let mut consul = Consul::place("-dev", config, token);
        consul.up();
        consul
    }

    /// Starts one that is no server and knows none, and waits until it answers.
    pub fn without_servers() -> Consul {
        let mut consul = Consul::place("-data-dir=data", "", "");
        consul.spawn();
        eventually("consul answers", Duration::from_secs(20), || {
            http(consul.http, "GET", "/v1/agent/self", &[], "").is_some_and(|(status, _)| status == 200)
        });
        consul
    }

    /// Makes it one of another's cluster.
    pub fn join(&self, other: &Consul) {
        let (status, body) = self.ask("PUT", &format!("/v1/agent/join/127.0.0.1:{}", other.serf), "");
        assert_eq!(status, 200, "{body}");
    }

    fn place(manner: &str, config: &str, token: &str) -> Consul {
        let dir = tempfile::tempdir().expect("a directory");
        let (port, serf) = (free_port(), free_port());
        let node = format!("node-{port}");
        let mut args: Vec<String> = ["agent", manner, "-bind", "127.0.0.1", "-client", "127.0.0.1", "-dns-port", "-1"]
            .map(str::to_owned)
            .to_vec();
        for (key, value) in [
            ("-http-port", port.to_string()),
            ("-grpc-port", "-1".to_owned()),
            ("-server-port", free_port().to_string()),
            ("-serf-lan-port", serf.to_string()),
            ("-serf-wan-port", free_port().to_string()),
            ("-node", node.clone()),
        ] {
            args.extend([key.to_owned(), value]);
        }
        if !config.is_empty() {
            let file = dir.path().join("more.json");
            std::fs::write(&file, config).expect("a config file");
            args.extend(["-config-file".to_owned(), file.display().to_string()]);
        }
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Consul { http, node, args, token: token.to_owned(), serf, process: None, dir }
    }

    /// Starts it where it was, empty, and waits until it takes writes.
    pub fn up(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Starts it where it was, empty, and waits for nothing.
    pub fn spawn(&mut self) {
        self.process = Some(Process::start(&program("consul"), &self.args, &self.dir.path().join("log")));
    }

    /// Waits until its node is in the catalog, healthy.
    pub fn wait_ready(&self) {
        eventually("consul is ready", Duration::from_secs(20), || node_is_healthy(self.http, &self.node, &self.token));
    }

    /// Kills it.
    pub fn down(&mut self) {
        self.process = None;
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it is up")
    }

    /// A request of the test's own: status and body.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        http(self.http, method, path, &[("X-Consul-Token", &self.token)], body).expect("consul answers")
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

fn on_disk() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn numbered(kind: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |index| format!("{kind}{index}"))
}

fn node_is_healthy(at: SocketAddr, node: &str, token: &str) -> bool {
    let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("X-Consul-Token", token)] };
    http(at, "GET", &format!("/v1/health/node/{node}"), headers, "")
        .is_some_and(|(status, body)| status == 200 && body.contains("serfHealth") && body.contains("\"passing\""))
}

/// Servers on disk, and perhaps clients beside them.
pub struct ConsulCluster {
    /// Where each one's HTTP API is.
    pub http: Vec<SocketAddr>,
    /// Their nodes' names.
    pub nodes: Vec<String>,
    sites: Vec<Site>,
    args: Vec<Vec<String>>,
    processes: Vec<Option<Process>>,
    token: String,
    dir: TempDir,
}

impl ConsulCluster {
    /// Starts three and waits until each sees itself healthy.
    pub fn start() -> ConsulCluster {
        ConsulCluster::start_with("{}", "")
    }

    /// The same with more config (JSON), asked with a token.
    pub fn start_with(config: &str, token: &str) -> ConsulCluster {
        ConsulCluster::start_at(3, vec![Site::loopback(); 3], numbered("s", 3).collect(), config, token, on_disk())
    }

    /// Three servers, and a client after them.
    pub fn start_with_agent() -> ConsulCluster {
        let nodes = numbered("s", 3).chain(numbered("a", 1)).collect();
        ConsulCluster::start_at(3, vec![Site::loopback(); 4], nodes, "{}", "", on_disk())
    }

    /// One server, and so many clients, on loopback: as many hosts as there are clients, to the agents on them. In
    /// memory: hosts have a disk each, and here all of them would wait for one.
    pub fn start_hosts(clients: usize, config: &str) -> ConsulCluster {
        let nodes = numbered("s", 1).chain(numbered("a", clients)).collect();
        let memory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        ConsulCluster::start_at(1, vec![Site::loopback(); 1 + clients], nodes, config, "", memory)
    }

    /// Starts one on each of these hosts, which give the nodes their names: three servers, and clients on the others.
    pub fn start_in(lab: &Lab, hosts: &[&str]) -> ConsulCluster {
        let sites = hosts.iter().map(|host| Site::host(lab, host)).collect();
        let nodes = hosts.iter().map(|host| (*host).to_owned()).collect();
        ConsulCluster::start_at(3, sites, nodes, "{}", "", on_disk())
    }

    /// The first ones are servers.
    fn start_at(
        servers: usize,
        sites: Vec<Site>,
        nodes: Vec<String>,
        more: &str,
        token: &str,
        dir: TempDir,
    ) -> ConsulCluster {
        let more_file = dir.path().join("more.json");
        std::fs::write(&more_file, more).expect("a config file");
        let serf: Vec<SocketAddr> = sites.iter().map(|site| site.at(8301)).collect();
        let joins: Vec<String> = serf[..servers].iter().map(|at| format!("\"{at}\"")).collect();
        let count = sites.len();
        let mut cluster = ConsulCluster {
            http: sites.iter().map(|site| site.at(8500)).collect(),
            nodes,
            sites,
            args: Vec::new(),
            processes: (0..count).map(|_| None).collect(),
            token: token.to_owned(),
            dir,
        };
        for (index, serf) in serf.iter().enumerate() {
            let (home, site) = (cluster.home(index), &cluster.sites[index]);
            std::fs::create_dir_all(&home).expect("a directory");
            let role = match index < servers {
                true => format!(r#""server": true, "bootstrap_expect": {servers},"#),
                false => String::new(),
            };
            // cleanup_dead_servers: the default wedged two of three live servers for minutes in a lab.
            // raft_multiplier 2: elections stay quick, and don't flap beside compiles.
            let config = format!(
                r#"{{{role} "node_name": "{node}", "data_dir": "{home}/data",
                    "bind_addr": "{ip}", "client_addr": "{ip}", "retry_join": [{joins}],
                    "retry_interval": "300ms", "performance": {{"raft_multiplier": 2}},
                    "autopilot": {{"cleanup_dead_servers": false}}, "disable_update_check": true,
                    "ports": {{"http": {port}, "dns": -1, "grpc": -1, "server": {server}, "serf_lan": {lan},
                    "serf_wan": {wan}}}}}"#,
                node = cluster.nodes[index],
                home = home.display(),
                ip = site.ip,
                joins = joins.join(", "),
                port = cluster.http[index].port(),
                server = site.at(8300).port(),
                lan = serf.port(),
                wan = site.at(8302).port(),
            );
            let file = home.join("config.json");
            std::fs::write(&file, config).expect("a config file");
            let args = ["agent".to_owned(), "-config-file".to_owned(), file.display().to_string()];
            cluster.args.push([&args[..], &["-config-file".to_owned(), more_file.display().to_string()]].concat());
        }
        for index in 0..count {
            cluster.spawn(index);
        }
        for index in 0..count {
            cluster.wait_ready(index);
        }
        cluster
    }

    fn home(&self, index: usize) -> PathBuf {
        self.dir.path().join(&self.nodes[index])
    }

    /// Starts one with what it has on disk.
    pub fn spawn(&mut self, index: usize) {
        let (log, network) = (self.home(index).join("log"), self.sites[index].network.as_deref());
        self.processes[index] = Some(Process::start_in(network, &program("consul"), &self.args[index], &log));
    }

    /// Waits until one sees itself healthy in the catalog.
    pub fn wait_ready(&self, index: usize) {
        eventually("a consul agent is ready", Duration::from_secs(60), || {
            self.beside(index, |at| node_is_healthy(at, &self.nodes[index], &self.token))
        });
    }

    /// Kills one.
    pub fn down(&mut self, index: usize) {
        self.processes[index] = None;
    }

    /// Whether one has been started and not killed since.
    pub fn is_up(&self, index: usize) -> bool {
        self.processes[index].is_some()
    }

    /// One's process.
    pub fn process(&self, index: usize) -> &Process {
        self.processes[index].as_ref().expect("it is up")
    }

    /// Forgets what one has on disk (it must be down).
    pub fn wipe(&mut self, index: usize) {
        let _ = std::fs::remove_dir_all(self.home(index).join("data"));
    }

    /// A request of the test's own to one, from beside it: status and body, or `None` when it doesn't answer.
    pub fn ask(&self, index: usize, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        self.beside(index, |at| http(at, method, path, &[("X-Consul-Token", &self.token)], body))
    }

    fn beside<T: Send>(&self, index: usize, work: impl FnOnce(SocketAddr) -> T + Send) -> T {
        self.sites[index].beside(|| work(self.http[index]))
    }

    /// Which one leads now, as the one at `ask` sees it.
    pub fn leader(&self, ask: usize) -> Option<usize> {
        let (_, leader) = self.ask(ask, "GET", "/v1/status/leader", "")?;
        let (_, raft) = self.ask(ask, "GET", "/v1/operator/raft/configuration", "")?;
        let raft: serde_json::Value = serde_json::from_str(&raft).ok()?;
        let leader = leader.trim().trim_matches('"').to_owned();
        let server = raft["Servers"].as_array()?.iter().find(|server| server["Address"] == leader.as_str())?;
        self.nodes.iter().position(|node| server["Node"] == node.as_str())
    }
}
