//! Consul: one server in memory, or three on disk.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{Process, eventually, free_port, http, program};

/// A single server in memory (`-dev`): ready in a fifth of a second; a restart forgets everything.
pub struct Consul {
    /// Where its HTTP API is.
    pub http: SocketAddr,
    /// Its node's name.
    pub node: String,
    args: Vec<String>,
    token: String,
    process: Option<Process>,
    dir: tempfile::TempDir,
}

impl Consul {
    /// Starts one and waits until it takes writes.
    pub fn start() -> Consul {
        Consul::start_with("", "")
    }

    /// Starts one with more config (JSON), asks it with a token, and waits until it takes writes.
    pub fn start_with(config: &str, token: &str) -> Consul {
        let dir = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let node = format!("node-{port}");
        let mut args: Vec<String> = ["agent", "-dev", "-bind", "127.0.0.1", "-client", "127.0.0.1", "-dns-port", "-1"]
            .map(str::to_owned)
            .to_vec();
        for (key, value) in [
            ("-http-port", port.to_string()),
            ("-grpc-port", "-1".to_owned()),
            ("-server-port", free_port().to_string()),
            ("-serf-lan-port", free_port().to_string()),
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
        let mut consul = Consul { http, node, args, token: token.to_owned(), process: None, dir };
        consul.up();
        consul
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

fn node_is_healthy(at: SocketAddr, node: &str, token: &str) -> bool {
    let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("X-Consul-Token", token)] };
    http(at, "GET", &format!("/v1/health/node/{node}"), headers, "")
        .is_some_and(|(status, body)| status == 200 && body.contains("serfHealth") && body.contains("\"passing\""))
}

/// Three servers on disk.
pub struct ConsulCluster {
    /// Where each one's HTTP API is.
    pub http: Vec<SocketAddr>,
    args: Vec<Vec<String>>,
    processes: Vec<Option<Process>>,
    dir: tempfile::TempDir,
}

impl ConsulCluster {
    /// Starts three and waits until each sees itself healthy.
    pub fn start() -> ConsulCluster {
        let dir = tempfile::tempdir().expect("a directory");
        let serf: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let mut cluster = ConsulCluster { http: Vec::new(), args: Vec::new(), processes: Vec::new(), dir };
        for (index, lan) in serf.iter().enumerate() {
            let home = cluster.home(index);
            std::fs::create_dir_all(&home).expect("a directory");
            let port = free_port();
            let joins: Vec<String> = serf.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
            // cleanup_dead_servers: the default wedged two of three live servers for minutes in a lab.
            // raft_multiplier 2: elections stay quick, and don't flap beside compiles.
            let config = format!(
                r#"{{"server": true, "bootstrap_expect": 3, "node_name": "s{index}", "data_dir": "{home}/data",
                    "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "retry_join": [{joins}],
                    "retry_interval": "300ms", "performance": {{"raft_multiplier": 2}},
                    "autopilot": {{"cleanup_dead_servers": false}}, "disable_update_check": true,
                    "ports": {{"http": {port}, "dns": -1, "grpc": -1, "server": {server}, "serf_lan": {lan},
                    "serf_wan": {wan}}}}}"#,
                home = home.display(),
                joins = joins.join(", "),
                server = free_port(),
                wan = free_port(),
            );
            let file = home.join("config.json");
            std::fs::write(&file, config).expect("a config file");
            cluster.http.push(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            cluster.args.push(["agent", "-config-file"].map(str::to_owned).to_vec());
            cluster.args[index].push(file.display().to_string());
            cluster.processes.push(None);
        }
        for index in 0..3 {
            cluster.spawn(index);
        }
        for index in 0..3 {
            cluster.wait_ready(index);
        }
        cluster
    }

    fn home(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("s{index}"))
    }

    /// Starts one with what it has on disk.
    pub fn spawn(&mut self, index: usize) {
        let log = self.home(index).join("log");
        self.processes[index] = Some(Process::start(&program("consul"), &self.args[index], &log));
    }

    /// Waits until one sees itself healthy in the catalog.
    pub fn wait_ready(&self, index: usize) {
        eventually("a consul server is ready", Duration::from_secs(60), || {
            node_is_healthy(self.http[index], &format!("s{index}"), "")
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

    /// Which one leads now, as the one at `ask` sees it.
    pub fn leader(&self, ask: usize) -> Option<usize> {
        let (_, leader) = http(self.http[ask], "GET", "/v1/status/leader", &[], "")?;
        let (_, raft) = http(self.http[ask], "GET", "/v1/operator/raft/configuration", &[], "")?;
        let raft: serde_json::Value = serde_json::from_str(&raft).ok()?;
        let leader = leader.trim().trim_matches('"').to_owned();
        let server = raft["Servers"].as_array()?.iter().find(|server| server["Address"] == leader.as_str())?;
        server["Node"].as_str()?.strip_prefix('s')?.parse().ok()
    }
}
