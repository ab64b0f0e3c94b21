//! etcd 3.4 and 3.5: one server, or three.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Certificates, Process, Site, eventually, http, program};
use crate::support::netlab::{Lab, command_in};

/// One server on disk.
pub struct Etcd {
    cluster: EtcdCluster,
}

impl Etcd {
    /// Starts one (`etcd` is 3.4, `etcd35` is 3.5) and waits until it takes writes.
    pub fn start(version: &'static str) -> Etcd {
        Etcd::start_with(version, &[])
    }

    /// Starts one with more flags.
    pub fn start_with(version: &'static str, flags: &[String]) -> Etcd {
        Etcd { cluster: EtcdCluster::start_of(version, vec![Site::loopback()], None, flags) }
    }

    /// Starts one that its clients reach by TLS, with certificates of their own.
    pub fn start_with_tls(version: &'static str, certificates: &Certificates) -> Etcd {
        Etcd { cluster: EtcdCluster::start_of(version, vec![Site::loopback()], Some(certificates), &[]) }
    }

    /// Where its clients connect.
    pub fn client(&self) -> SocketAddr {
        self.cluster.clients[0]
    }

    /// Kills it.
    pub fn down(&mut self) {
        self.cluster.down(0);
    }

    /// Starts it with what it has on disk, and waits until it takes writes.
    pub fn up(&mut self) {
        self.cluster.spawn(0);
        self.cluster.wait_ready(0);
    }

    /// Forgets what it has on disk (it must be down).
    pub fn wipe(&mut self) {
        self.cluster.wipe(0);
    }

    /// Starts it with an empty disk (it must be down), as another cluster.
    pub fn up_as_another(&mut self) {
        self.cluster.spawn_stray(0);
        self.cluster.wait_ready(0);
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        self.cluster.process(0)
    }

    /// Runs etcdctl against it: what it prints, or what it says when it fails.
    pub fn ctl(&self, args: &[&str]) -> Result<String, String> {
        self.cluster.ctl(0, args)
    }

    /// The same with something to read.
    pub fn ctl_fed(&self, args: &[&str], input: &str) -> Result<String, String> {
        self.cluster.ctl_fed(0, args, input)
    }
}

/// Several servers on disk.
pub struct EtcdCluster {
    /// Where each one's clients connect.
    pub clients: Vec<SocketAddr>,
    sites: Vec<Site>,
    /// What etcdctl needs to get in.
    ctl: Vec<String>,
    version: &'static str,
    args: Vec<Vec<String>>,
    processes: Vec<Option<Process>>,
    dir: tempfile::TempDir,
}

impl EtcdCluster {
    /// Starts three (`etcd` is 3.4, `etcd35` is 3.5) and waits until each takes writes.
    pub fn start(version: &'static str) -> EtcdCluster {
        EtcdCluster::start_of(version, vec![Site::loopback(); 3], None, &[])
    }

    /// Starts one on each of these hosts.
    pub fn start_in(version: &'static str, lab: &Lab, hosts: &[&str]) -> EtcdCluster {
        EtcdCluster::start_of(version, hosts.iter().map(|host| Site::host(lab, host)).collect(), None, &[])
    }

    fn start_of(version: &'static str, sites: Vec<Site>, tls: Option<&Certificates>, flags: &[String]) -> EtcdCluster {
        let dir = tempfile::tempdir().expect("a directory");
        let count = sites.len();
        let peers: Vec<String> = sites.iter().map(|site| format!("http://{}", site.at(2380))).collect();
        let all: Vec<String> = peers.iter().enumerate().map(|(index, peer)| format!("s{index}={peer}")).collect();
        let all = all.join(",");
        let mut cluster = EtcdCluster {
            clients: Vec::new(),
            sites,
            ctl: Vec::new(),
            version,
            args: Vec::new(),
            processes: Vec::new(),
            dir,
        };
        for (index, peer) in peers.iter().enumerate() {
            let client = cluster.sites[index].at(2379);
            let name = format!("s{index}");
            let home = cluster.home(index);
            std::fs::create_dir_all(&home).expect("a directory");
            let data = home.join("data").display().to_string();
            let url = format!("http{}://{client}", if tls.is_some() { "s" } else { "" });
            let args = [
                ("--name", name.as_str()),
                ("--data-dir", &data),
                ("--listen-client-urls", &url),
                ("--advertise-client-urls", &url),
                ("--listen-peer-urls", peer),
                ("--initial-advertise-peer-urls", peer),
                ("--initial-cluster", &all),
                ("--initial-cluster-state", "new"),
                ("--log-level", "warn"),
            ];
            cluster.clients.push(client);
            let mut args: Vec<String> =
                args.iter().flat_map(|(key, value)| [(*key).to_owned(), (*value).to_owned()]).collect();
            if count == 1 {
                // A lone server waits an election's time before it leads.
                args.extend(["--election-timeout=250", "--heartbeat-interval=25"].map(str::to_owned));
            }
            if let Some(certificates) = tls {
                for (flag, file) in [("trusted-ca", "ca"), ("cert", "server"), ("key", "server-key")] {
                    args.push(format!("--{flag}-file={}", certificates.text(&format!("{file}.pem"))));
                }
                // Passwords needn't cost a tenth of a second each.
                args.extend(["--client-cert-auth", "--bcrypt-cost=4"].map(str::to_owned));
                let flags = [("cacert", "ca"), ("cert", "client"), ("key", "client-key")];
                let flag =
                    |(flag, file): (&str, &str)| format!("--{flag}={}", certificates.text(&format!("{file}.pem")));
                cluster.ctl = flags.map(flag).into();
            }
            if version != "etcd" {
                // Throw-away data: losing them with the machine's power is no concern of a test. 3.4 can't do without.
                args.push("--unsafe-no-fsync".to_owned());
            }
            args.extend_from_slice(flags);
            cluster.args.push(args);
            cluster.processes.push(None);
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
        self.dir.path().join(format!("s{index}"))
    }

    /// Starts one with what it has on disk.
    pub fn spawn(&mut self, index: usize) {
        let (log, network) = (self.home(index).join("log"), self.sites[index].network.as_deref());
        self.processes[index] = Some(Process::start_in(network, &program(self.version), &self.args[index], &log));
    }

    /// Waits until one takes writes.
    pub fn wait_ready(&self, index: usize) {
        if !self.ctl.is_empty() {
            // The tests' own questions don't speak TLS. Where a login is asked for, that is an answer too.
            return eventually("an etcd server is ready", Duration::from_secs(60), || {
                let answer = self.ctl(index, &["--command-timeout=2s", "get", "ready"]);
                answer
                    .map_or_else(|error| error.contains("user name is empty") || error.contains("permission"), |_| true)
            });
        }
        // A health check is a read that its cluster agreed to.
        eventually("an etcd server is ready", Duration::from_secs(60), || {
            let health = self.sites[index].beside(|| http(self.clients[index], "GET", "/health", &[], ""));
            health.is_some_and(|(_, body)| body.contains("\"true\""))
        });
    }

    /// Kills one.
    pub fn down(&mut self, index: usize) {
        self.processes[index] = None;
    }

    /// Forgets what one has on disk (it must be down).
    pub fn wipe(&mut self, index: usize) {
        let _ = std::fs::remove_dir_all(self.home(index).join("data"));
    }

    /// Starts one that is down with an empty disk, as a cluster of its own.
    pub fn spawn_stray(&mut self, index: usize) {
        self.wipe(index);
        let args = &mut self.args[index];
        let behind = |flag: &str| args.iter().position(|arg| arg == flag).expect("it is given") + 1;
        let (cluster, peer) = (behind("--initial-cluster"), behind("--initial-advertise-peer-urls"));
        args[cluster] = format!("s{index}={}", args[peer]);
        args.push("--initial-cluster-token=stray".to_owned());
        self.spawn(index);
    }

    /// Whether one has been started and not killed since.
    pub fn is_up(&self, index: usize) -> bool {
        self.processes[index].is_some()
    }

    /// One's process.
    pub fn process(&self, index: usize) -> &Process {
        self.processes[index].as_ref().expect("it is up")
    }

    /// Which one leads now.
    pub fn leader(&self) -> Option<usize> {
        (0..self.clients.len()).filter(|index| self.processes[*index].is_some()).find(|index| {
            let Ok(status) = self.ctl(*index, &["--command-timeout=2s", "-w", "json", "endpoint", "status"]) else {
                return false;
            };
            let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
            let status = &status[0]["Status"];
            !status["leader"].is_null() && status["leader"] == status["header"]["member_id"]
        })
    }

    /// Runs etcdctl against one: what it prints, or what it says when it fails.
    pub fn ctl(&self, index: usize, args: &[&str]) -> Result<String, String> {
        self.ctl_fed(index, args, "")
    }

    fn ctl_fed(&self, index: usize, args: &[&str], input: &str) -> Result<String, String> {
        let ctl = if self.version == "etcd" { "etcdctl" } else { "etcdctl35" };
        // The certificates of tests are for names.
        let (site, port) = (&self.sites[index], self.clients[index].port());
        let at = match self.ctl.is_empty() {
            true => format!("http://{}:{port}", site.ip),
            false => format!("https://localhost:{port}"),
        };
        let command = match &site.network {
            Some(network) => command_in(network, program(ctl)),
            None => Command::new(program(ctl)),
        };
        ctl_at(command, &at, &self.ctl, args, input)
    }
}

fn ctl_at(mut command: Command, at: &str, flags: &[String], args: &[&str], input: &str) -> Result<String, String> {
    let mut running = command
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", at])
        .args(flags)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcdctl can be run");
    // Closed at once; most commands end without having looked at it.
    let _ = running.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let output = running.wait_with_output().expect("etcdctl ends");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
