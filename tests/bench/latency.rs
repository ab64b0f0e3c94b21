//! Measures how long a change of a dependency takes to start the hook that waits for it: `latency PILOTFISH SERVERS
//! CHANGES`, on each catalog, with the real agent and the real engine, at rest and with the default settle. The clock
//! runs from just before the change is sent to the engine to the hook's first instruction. It judges nothing.
//!
//! Prints a line for each: catalog, changes, then microseconds: median, 99th percentile, most, and the median of what
//! the engine itself took to answer the write.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program of its own: the bans are the agent's"
)]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

mod kernel {
    //! The one call that std doesn't have.
    #![allow(unsafe_code)]

    const CLOCK_MONOTONIC: i32 = 1;

    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }

    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    }

    /// Nanoseconds on a clock that all processes share.
    pub fn now() -> i64 {
        let mut time = Timespec { seconds: 0, nanoseconds: 0 };
        // SAFETY: `time` is ours, and has the layout of the 64-bit struct timespec.
        unsafe { clock_gettime(CLOCK_MONOTONIC, &raw mut time) };
        time.seconds * 1_000_000_000 + time.nanoseconds
    }
}

/// Longer than the default settle of 100 ms: the next change comes after a quiet spell.
const QUIET: Duration = Duration::from_millis(130);

/// No change is waited for longer.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> io::Result<()> {
    let now = kernel::now();
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // The hook: says when it began, and what it was told.
        [_, "hook", socket] => {
            let mut told = String::new();
            io::stdin().read_to_string(&mut told)?;
            UnixDatagram::unbound()?.send_to(format!("{now} {told}").as_bytes(), socket).map(drop)
        }
        [_, pilotfish, servers, changes] => {
            let changes = changes.parse().map_err(io::Error::other)?;
            for catalog in ["local", "consul", "etcd"] {
                measure(catalog, pilotfish, Path::new(servers), changes)?;
            }
            Ok(())
        }
        _ => Err(io::Error::other("usage: latency PILOTFISH SERVERS CHANGES")),
    }
}

fn measure(catalog: &str, pilotfish: &str, servers: &Path, changes: u16) -> io::Result<()> {
    let home = Home(std::env::temp_dir().join(format!("pilotfish-latency.{}", std::process::id())));
    fs::create_dir_all(&home.0)?;
    let engine = Engine::start(catalog, servers, &home.0)?;
    let socket = home.0.join("socket");
    let hooks = UnixDatagram::bind(&socket)?;
    hooks.set_read_timeout(Some(Duration::from_millis(200)))?;
    let own = std::env::current_exe()?;
    let config = home.0.join("pilotfish.toml");
    fs::write(
        &config,
        format!(
            "[process]\nexec = [\"sleep\", \"3600\"]\n[[watch]]\nname = \"app\"\nservice = \"app\"\n\
             on_change = {{ exec = [\"{}\", \"hook\", \"{}\"] }}\n[catalog]\n{}[control]\nsocket = \"\"\n\
             [log]\nlevel = \"warn\"\n",
            own.display(),
            socket.display(),
            engine.config(),
        ),
    )?;
    let _agent = Running::start(Command::new(pilotfish).arg("-c").arg(&config), &home.0.join("agent.log"))?;

    let mut held = None;
    let (mut spans, mut writes) = (Vec::new(), Vec::new());
    // The first changes find caches cold and the agent still starting; they aren't counted.
    for change in 0..changes + 10 {
        let port = 10_000 + change;
        let begun = kernel::now();
        engine.change(port, &mut held)?;
        let written = kernel::now();
        let started = hook_start(&hooks, port).map_err(|error| {
            let log = fs::read_to_string(home.0.join("agent.log")).unwrap_or_default();
            io::Error::other(format!("{catalog}, change {change}: {error}\n{log}"))
        })?;
        if change >= 10 {
            spans.push(started - begun);
            writes.push(written - begun);
        }
        // Not in step with anything that ticks.
        sleep(QUIET + Duration::from_micros(u64::from(change) * 7919 % 40_000));
    }
    spans.sort_unstable();
    writes.sort_unstable();
    let at = |values: &[i64], part: usize| values[(values.len() * part / 100).min(values.len() - 1)] / 1000;
    let most = at(&spans, 100);
    println!("{catalog} {changes} {} {} {most} {}", at(&spans, 50), at(&spans, 99), at(&writes, 50));
    Ok(())
}

/// When the hook began that was told of this port.
fn hook_start(hooks: &UnixDatagram, port: u16) -> io::Result<i64> {
    let deadline = Instant::now() + PATIENCE;
    let mut message = [0; 16 * 1024];
    while Instant::now() < deadline {
        let Ok(length) = hooks.recv(&mut message) else { continue };
        let text = String::from_utf8_lossy(&message[..length]).replace(": ", ":");
        if text.contains(&format!("\"port\":{port}")) {
            let (stamp, _) = text.split_once(' ').unwrap_or_default();
            return stamp.parse().map_err(io::Error::other);
        }
    }
    Err(io::Error::other(format!("no hook was started within {PATIENCE:?}")))
}

/// A catalog in which one instance of the service `app` is changed from outside.
enum Engine {
    Local(PathBuf),
    Consul(SocketAddr, #[allow(dead_code, reason = "ends with this")] Running),
    Etcd(SocketAddr, #[allow(dead_code, reason = "ends with this")] Running),
}

impl Engine {
    fn start(catalog: &str, servers: &Path, home: &Path) -> io::Result<Engine> {
        let log = home.join("engine.log");
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        match catalog {
            "consul" => {
                let mut consul = Command::new(servers.join("consul"));
                consul.args(["agent", "-dev", "-bind", "127.0.0.1", "-dns-port", "-1", "-grpc-port", "-1"]);
                consul.args(["-http-port", &at.port().to_string()]);
                for port in ["-server-port", "-serf-lan-port", "-serf-wan-port"] {
                    consul.args([port, &free_port()?.to_string()]);
                }
                let running = Running::start(&mut consul, &log)?;
                ready(at, "/v1/status/leader", |body| body.contains(':'))?;
                Ok(Engine::Consul(at, running))
            }
            "etcd" => {
                let peer = format!("http://127.0.0.1:{}", free_port()?);
                let client = format!("http://{at}");
                let mut etcd = Command::new(servers.join("etcd35"));
                etcd.args(["--name", "one", "--log-level", "warn", "--unsafe-no-fsync", "--data-dir"]);
                etcd.arg(home.join("etcd")).args(["--listen-client-urls", &client]);
                etcd.args(["--advertise-client-urls", &client, "--listen-peer-urls", &peer]);
                etcd.args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("one={peer}")]);
                let running = Running::start(&mut etcd, &log)?;
                ready(at, "/health", |body| body.contains("true"))?;
                Ok(Engine::Etcd(at, running))
            }
            _ => Ok(Engine::Local(home.join("catalog"))),
        }
    }

    fn config(&self) -> String {
        match self {
            Engine::Local(directory) => format!("backend = \"local\"\ndirectory = \"{}\"\n", directory.display()),
            Engine::Consul(at, _) => format!("backend = \"consul\"\naddress = \"http://{at}\"\n"),
            Engine::Etcd(at, _) => format!("backend = \"etcd\"\nendpoints = [\"http://{at}\"]\n"),
        }
    }

    /// Gives the instance another port. `held` is the file whose lock says that the instance lives.
    fn change(&self, port: u16, held: &mut Option<File>) -> io::Result<()> {
        let id = "app-1";
        let entry = format!(
            r#"{{"id":"{id}","name":"app","address":"192.0.2.1","port":{port},"tags":[],"meta":{{}},"status":"passing"}}"#
        );
        match self {
            Engine::Local(directory) => {
                let service = directory.join("pilotfish/services/app");
                fs::create_dir_all(&service)?;
                let draft = directory.join("draft");
                let mut file = File::create_new(&draft)?;
                file.lock()?;
                file.write_all(entry.as_bytes())?;
                fs::rename(&draft, service.join(id))?;
                *held = Some(file);
                Ok(())
            }
            Engine::Consul(at, _) => {
                let body = format!(
                    r#"{{"ID":"{id}","Name":"app","Address":"192.0.2.1","Port":{port},
                        "Check":{{"CheckID":"app","TTL":"1h","Status":"passing"}}}}"#
                );
                ask(*at, "PUT", "/v1/agent/service/register", &body).map(drop)
            }
            Engine::Etcd(at, _) => {
                let (key, value) = (base64(b"pilotfish/services/app/app-1"), base64(entry.as_bytes()));
                ask(*at, "POST", "/v3/kv/put", &format!(r#"{{"key":"{key}","value":"{value}"}}"#)).map(drop)
            }
        }
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn ready(at: SocketAddr, path: &str, so: impl Fn(&str) -> bool) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if ask(at, "GET", path, "").is_ok_and(|body| so(&body)) {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    Err(io::Error::other(format!("{at}{path} isn't ready after 30 s")))
}

/// One exchange: what came, if its status is 200.
fn ask(at: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("{method} {path} HTTP/1.0\r\nHost: {at}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_whitespace().nth(1) {
        Some("200") => Ok(answer),
        _ => Err(io::Error::other(format!("{method} {path}: {answer}"))),
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().enumerate().fold(0u32, |bits, (n, byte)| bits | u32::from(*byte) << (16 - 8 * n));
        for letter in 0..4 {
            let index = (bits >> (18 - 6 * letter) & 63) as usize;
            text.push(if letter > three.len() { '=' } else { char::from(LETTERS[index]) });
        }
    }
    text
}

/// A process that ends with this value, by SIGTERM and then by SIGKILL.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, log: &Path) -> io::Result<Running> {
        let log = File::create(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().map(Running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && matches!(self.0.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory that goes with this value.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
