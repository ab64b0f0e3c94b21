//! Real Consul and etcd servers for tests: from signed Debian packages, on loopback and free ports, in directories of
//! their own, ended by pid when dropped (and by the kernel should the test program die). Contains no test.

// What one subject leaves unused, another needs; nothing here runs inside the agent.
#![allow(dead_code, unused_imports)]
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod certificates;
mod consul;
mod etcd;
mod names;
mod off;
mod relay;
mod tally;

pub use certificates::{Certificates, tls_in};
pub use consul::{Consul, ConsulCluster, MANY};
pub use etcd::{Etcd, EtcdCluster};
pub use names::Names;
pub use off::Off;
pub use relay::Relay;
pub use tally::{Passed, Tally, fullest, many_descriptors};

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::support::netlab::{Lab, inside};

/// The path of a server's program; fetched on first use.
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let directory = root.join(".servers");
        let status = Command::new(root.join("tests/get-servers.sh"))
            .arg(&directory)
            .stdin(Stdio::null())
            .status()
            .expect("tests/get-servers.sh can be run");
        assert!(status.success(), "tests/get-servers.sh failed: see its words above");
        directory
    });
    directory.join(name)
}

/// A port of loopback that nobody uses now, for TCP and UDP. Below the kernel's ephemeral range, so that no outgoing
/// connection takes it before the server does.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..4000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        // Two test programs at a time start far from each other.
        let port = 20_000 + ((std::process::id() as u16 % 97) * 123 + step) % 12_000;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok() {
            return port;
        }
    }
    panic!("no free port between 20000 and 32000");
}

/// Where a server is: on loopback, or on a host of a lab.
#[derive(Clone)]
struct Site {
    network: Option<PathBuf>,
    ip: Ipv4Addr,
}

impl Site {
    fn loopback() -> Site {
        Site { network: None, ip: Ipv4Addr::LOCALHOST }
    }

    fn host(lab: &Lab, host: &str) -> Site {
        Site { network: Some(lab.namespace(host)), ip: lab.ip(host) }
    }

    /// A port of its own on loopback, the usual one on a host.
    fn at(&self, usual: u16) -> SocketAddr {
        let port = if self.network.is_some() { usual } else { free_port() };
        SocketAddr::from((self.ip, port))
    }

    /// Carries something out where the server is, so that no partition stands between it and the test.
    fn beside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.network {
            Some(network) => inside(network, work),
            None => work(),
        }
    }
}

/// Asks again until it is so; panics with `what` when it isn't within `limit`.
pub fn eventually(what: &str, limit: Duration, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server's process.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it; what it says goes to `log`.
    pub fn start<A: AsRef<OsStr>>(program: &Path, args: &[A], log: &Path) -> Process {
        Process::start_in(None, program, args, log)
    }

    /// The same in a network namespace, if one is given.
    pub fn start_in<A: AsRef<OsStr>>(network: Option<&Path>, program: &Path, args: &[A], log: &Path) -> Process {
        let out = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        // ip(8) becomes the program, so the process id stays.
        let mut command = match network {
            Some(network) => crate::support::netlab::command_in(network, program),
            None => Command::new(program),
        };
        command.args(args).stdin(Stdio::null()).stdout(out.try_clone().expect("a descriptor")).stderr(out);
        command.current_dir(log.parent().expect("the log is in a directory"));
        Process { child: keeper(command).expect("the server can be started") }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends it a signal. A stop takes a moment to reach every thread, and any of them may answer until then.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).expect("the server is ours");
        if signal == nix::sys::signal::Signal::SIGSTOP {
            eventually("a server stops", Duration::from_secs(5), || self.is_stopped());
        }
    }

    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the server is there");
        let mut states =
            threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok());
        states.all(|status| status.lines().any(|line| line.starts_with("State:\tT")))
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a command from the one thread that lives as long as this program: "parent" in a parent-death signal is a
/// thread, and a test's thread ends before the server it shares with others.
fn keeper(command: Command) -> std::io::Result<Child> {
    use std::os::unix::process::CommandExt;
    use std::sync::{Mutex, mpsc};
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static ORDERS: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                // SAFETY: prctl is async-signal-safe and touches no memory.
                #[allow(unsafe_code)]
                unsafe {
                    command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?));
                }
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (sender, answer) = mpsc::channel();
    orders.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).send((command, sender)).expect("the keeper lives");
    answer.recv().expect("the keeper answers")
}

/// One HTTP/1.1 exchange, for the tests' own questions: status and body, or `None` when nobody answers.
pub fn http(at: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {at}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
