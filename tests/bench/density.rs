//! Measures how many agents one machine holds: `density PILOTFISH SERVERS STORE AGENTS`, each the real program as PID 1 of
//! a namespace of its own, with a main, an HTTP check each second and a service that it registers. How late checks come is
//! noted by the server that is checked; what the store is asked by a relay before it, for one agent in a few dozen. It
//! judges nothing.
//!
//! Prints one line of KEY=VALUE:
//!
//! | key | what |
//! | --- | --- |
//! | `agents`, `registered` | how many run; how many the store knows to be healthy |
//! | `late50`, `late99`, `latest` | by how much a check is late: median, 99th percentile, most, in milliseconds |
//! | `checks` | that came in a second, of each agent |
//! | `cpu`, `server`, `others` | processor of an agent, of the store's server, of all else on the machine: ms a second |
//! | `pss`, `private` | KiB of an agent: its share of what is mapped, and what only it holds |
//! | `requests`, `sent`, `received` | of an agent to the store in a second, and bytes |

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program of its own: the bans are the agent's"
)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

mod testbed;

use testbed::targets::{Targets, lateness};
use testbed::{Container, Home, Store, ask, kernel, kibibytes, percentile, spent};

const INTERVAL: i64 = 1_000_000_000;

/// At rest, so long is measured.
const WINDOW: Duration = Duration::from_secs(30);

/// A Consul agent tells its server of about fifty entries a second, and each service has three.
const REGISTERED_WITHIN: Duration = Duration::from_secs(300);

/// After that: heartbeats spread, and a start's pages are let go of.
const SETTLED: Duration = Duration::from_secs(10);

/// As containers come: not all at one instant.
const BETWEEN_STARTS: Duration = Duration::from_millis(10);

/// One in so many speaks to the store by the relay.
const SAMPLED: u32 = 25;

/// So many have one service, as replicas do.
const GROUP: u32 = 10;

/// KiB that the machine must have left: no measurement is worth an end by the kernel.
const MEMORY_LEFT: u64 = 2 << 20;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, pilotfish, servers, store, agents] => {
            measure(pilotfish, Path::new(servers), store, agents.parse().map_err(io::Error::other)?)
        }
        _ => Err(io::Error::other("usage: density PILOTFISH SERVERS STORE AGENTS")),
    }
}

fn measure(pilotfish: &str, servers: &Path, store: &str, count: u32) -> io::Result<()> {
    kernel::many_descriptors();
    let home = Home::new("density")?;
    let pilotfish = home.copy(Path::new(pilotfish), "pilotfish")?;
    let store = Store::start(store, servers, &home.0)?;
    let targets = Targets::listen()?;
    let relay = store.server().map(|(server, _)| Relay::before(server)).transpose()?;
    let catalog = |number: u32| match &relay {
        Some(relay) if number.is_multiple_of(SAMPLED) => store.config_by(relay.at),
        _ => store.config(),
    };

    let log = home.0.join("agents.log");
    let mut agents = Vec::new();
    for number in 0..count {
        let config = home.0.join(format!("{number}.toml"));
        fs::write(
            &config,
            format!(
                "[process]\nexec = [\"sleep\", \"infinity\"]\n[[service]]\nname = \"app-{}\"\nid = \"app-{number}\"\n\
                 port = 80\naddress = [\"static:192.0.2.1\"]\n[[health]]\nhttp = \"{}\"\ninterval = \"1s\"\n\
                 [catalog]\n{}[control]\nsocket = \"\"\n[log]\nlevel = \"error\"\n",
                number / GROUP,
                targets.url(number),
                catalog(number),
            ),
        )?;
        agents.push(Container::start(&pilotfish, &["-c", &config.to_string_lossy()], &log)?);
        if kibibytes(&fs::read_to_string("/proc/meminfo")?, "MemAvailable:") < MEMORY_LEFT {
            return Err(io::Error::other(format!("{number} agents leave no memory")));
        }
        sleep(BETWEEN_STARTS);
    }
    let begun = Instant::now();
    let registered = loop {
        // A server that a crowd has just come to may turn us away.
        let registered = registered(&store).unwrap_or(0);
        if registered >= count as usize || begun.elapsed() > REGISTERED_WITHIN {
            break registered;
        }
        sleep(Duration::from_secs(3));
    };
    sleep(SETTLED);
    if let Some(ended) = agents.iter_mut().position(Container::has_ended) {
        return Err(io::Error::other(format!("agent {ended} has ended: {}", fs::read_to_string(&log)?)));
    }

    let spent_by = |agents: &[Container]| agents.iter().map(Container::spent).sum::<u64>();
    let spent_by_server = || store.server().map_or(0, |(_, pid)| spent(pid));
    targets.forget();
    let before = (spent_by(&agents), spent_by_server(), busy()?);
    let asked = relay.as_ref().map(Relay::counted);
    let from = kernel::now();
    sleep(WINDOW);
    let until = kernel::now();
    let asked_then = relay.as_ref().map(Relay::counted);
    let after = (spent_by(&agents), spent_by_server(), busy()?);
    let came = targets.came();
    let (mut late, mut checks) = (Vec::new(), 0);
    for number in 0..count {
        let came = came.get(&number).map_or(&[][..], |came| came);
        checks += came.len();
        late.extend(lateness(came, from, until, INTERVAL));
    }
    late.sort_unstable();
    let (mut pss, mut private) = (0, 0);
    for agent in &agents {
        let (share, own) = agent.memory();
        pss += share;
        private += own;
    }

    let seconds = (until - from) as f64 / 1e9;
    let each = |value: u64| value as f64 / f64::from(count);
    let a_second = |nanoseconds: u64| nanoseconds as f64 / 1e6 / seconds;
    let at = |part: usize| percentile(&late, part).unwrap_or_default() as f64 / 1e6;
    let (agents_spent, server_spent) = (after.0 - before.0, after.1 - before.1);
    let others = (after.2 - before.2).saturating_sub(agents_spent + server_spent);
    print!(
        "agents={count} registered={registered} late50={:.1} late99={:.1} latest={:.1} checks={:.3} cpu={:.3} server={:.1} \
         others={:.1} pss={:.0} private={:.0}",
        at(50),
        at(99),
        at(100),
        checks as f64 / f64::from(count) / seconds,
        a_second(agents_spent) / f64::from(count),
        a_second(server_spent),
        a_second(others),
        each(pss),
        each(private),
    );
    if let (Some(before), Some(after)) = (asked, asked_then) {
        let sampled = f64::from(count.div_ceil(SAMPLED));
        let [requests, sent, received] = [0, 1, 2].map(|n| (after[n] - before[n]) as f64 / sampled / seconds);
        print!(" requests={requests:.3} sent={sent:.0} received={received:.0}");
    }
    println!();
    Ok(())
}

/// How many instances the store knows to be healthy.
fn registered(store: &Store) -> io::Result<usize> {
    Ok(match store {
        Store::Local(directory) => {
            let services = fs::read_dir(directory.join("pilotfish/services"))?.flatten();
            services.filter_map(|service| fs::read_dir(service.path()).ok()).map(Iterator::count).sum()
        }
        // Its check by our health checks, and that by which it lives.
        Store::Consul(at, _) => ask(*at, "GET", "/v1/health/state/passing", "")?.matches("\"CheckID\"").count() / 2,
        Store::Etcd(..) => return Err(io::Error::other("density is measured on consul and local")),
    })
}

/// Nanoseconds that all processors have worked.
fn busy() -> io::Result<u64> {
    const TICK: u64 = 10_000_000;
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<u64> = stat.lines().next().unwrap_or_default().split_whitespace().flat_map(str::parse).collect();
    // user, nice, system, idle, iowait, irq, softirq
    Ok(fields.iter().enumerate().filter(|(n, _)| ![3, 4].contains(n)).take(5).map(|(_, ticks)| ticks * TICK).sum())
}

/// Stands before a server and counts what passes.
struct Relay {
    at: SocketAddr,
    counts: Arc<[AtomicU64; 3]>,
}

impl Relay {
    fn before(server: SocketAddr) -> io::Result<Relay> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let relay = Relay { at: listener.local_addr()?, counts: Arc::default() };
        let counts = Arc::clone(&relay.counts);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let _ = Relay::join(client, server, &counts);
            }
        });
        Ok(relay)
    }

    /// A thread each way.
    fn join(client: TcpStream, server: SocketAddr, counts: &Arc<[AtomicU64; 3]>) -> io::Result<()> {
        let server = TcpStream::connect(server)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        for (mut from, mut to, is_asking) in [(client.try_clone()?, server.try_clone()?, true), (server, client, false)]
        {
            let counts = Arc::clone(counts);
            thread::Builder::new().stack_size(64 << 10).spawn(move || {
                let mut buffer = [0; 8 << 10];
                while let Ok(length @ 1..) = from.read(&mut buffer) {
                    let bytes = &buffer[..length];
                    if is_asking {
                        // A request's head begins a piece: a client writes it at once, and waits for the answer.
                        let begins = [&b"GET "[..], b"PUT ", b"POST ", b"DELETE "].iter().any(|m| bytes.starts_with(m));
                        counts[0].fetch_add(u64::from(begins), Ordering::Relaxed);
                    }
                    counts[if is_asking { 1 } else { 2 }].fetch_add(length as u64, Ordering::Relaxed);
                    if to.write_all(bytes).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(std::net::Shutdown::Both);
                let _ = from.shutdown(std::net::Shutdown::Both);
            })?;
        }
        Ok(())
    }

    /// Requests, bytes sent to the server, bytes received from it.
    fn counted(&self) -> [u64; 3] {
        [0, 1, 2].map(|n| self.counts[n].load(Ordering::Relaxed))
    }
}
