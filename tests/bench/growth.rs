//! Measures how memory, processor and latency grow with what an agent has to do: `growth PILOTFISH SERVERS STEPS AXIS...`,
//! STEPS being `1,10,100`. It judges nothing.
//!
//! Prints lines of `axis,series,n,memory_kib,cpu_ms,latency_ms`; a field is empty where there is nothing to measure. The
//! memory is the agent's PSS at rest, of a copy of the program that nobody else runs; the rest by axis:
//!
//! | axis | series | processor | latency |
//! | --- | --- | --- | --- |
//! | `instances` of a watched service | store | a change | from a change to the hook's first instruction, median |
//! | `checks` each second | kind | a second | by how much a check comes late, 99th percentile |
//! | `watches` | store | a second at rest | as of instances, of one of them |
//! | `orphans` that wait for PID 1 together | init | all of them | until all are reaped, median |
//! | `members` of an election | store | a second of the leader at rest | from `step-down` to the next `on_promote`, median |

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program of its own: the bans are the agent's"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

mod testbed;

use testbed::targets::{Targets, lateness};
use testbed::{Container, Held, Home, Hooks, MARKED, Store, exchange, kernel, percentile, play_hook};

const STORES: [&str; 3] = ["consul", "etcd", "local"];

/// A second after its start an agent lets go of what only that needed.
const SETTLED: Duration = Duration::from_secs(3);

/// At rest, so long is measured.
const WINDOW: Duration = Duration::from_secs(6);

/// So many changes and successions.
const CHANGES: u16 = 11;
const SUCCESSIONS: u16 = 5;
const ROUNDS: usize = 5;

/// Longer than the default settle of 100 ms: the next change comes after a quiet spell.
const QUIET: Duration = Duration::from_millis(250);

/// A thousand of anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const SECOND: i64 = 1_000_000_000;

fn main() -> io::Result<()> {
    let now = kernel::now();
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "hook", socket] => play_hook(now, socket, None),
        [_, "hook", socket, word] => play_hook(now, socket, Some(word)),
        [_, pilotfish, servers, steps, axes @ ..] => {
            kernel::many_descriptors();
            let steps: Result<Vec<usize>, _> = steps.split(',').map(str::parse).collect();
            let bench = Bench { pilotfish: Path::new(pilotfish), servers: Path::new(servers) };
            axes.iter().try_for_each(|axis| bench.measure(axis, &steps.clone().map_err(io::Error::other)?))
        }
        _ => Err(io::Error::other("usage: growth PILOTFISH SERVERS STEPS AXIS...")),
    }
}

/// What was measured; the processor and the latency in nanoseconds.
#[derive(Default)]
struct Growth {
    memory: u64,
    cpu: u64,
    latencies: Vec<i64>,
    percentile: usize,
}

struct Bench<'a> {
    pilotfish: &'a Path,
    servers: &'a Path,
}

/// One run: its own directory, and hooks that speak there.
struct Run {
    home: Home,
    hooks: Hooks,
    hook: String,
    pilotfish: PathBuf,
}

impl Bench<'_> {
    fn measure(&self, axis: &str, steps: &[usize]) -> io::Result<()> {
        let series: &[&str] = match axis {
            "checks" => &["http", "exec"],
            "orphans" => &["pilotfish", "tini"],
            _ => &STORES,
        };
        for series in series {
            for n in steps {
                let run = self.run()?;
                let growth = match axis {
                    "instances" => run.instances(&Store::start(series, self.servers, &run.home.0)?, *n),
                    "checks" => run.checks(series, *n),
                    "watches" => run.watches(&Store::start(series, self.servers, &run.home.0)?, *n),
                    "orphans" => run.orphans(series, *n),
                    "members" => run.members(&Store::start(series, self.servers, &run.home.0)?, *n),
                    _ => return Err(io::Error::other(format!("{axis}: no such axis"))),
                };
                let growth = growth.map_err(|error| {
                    let log = fs::read_to_string(run.log()).unwrap_or_default();
                    io::Error::other(format!("{axis}, {series}, {n}: {error}\n{log}"))
                })?;
                growth.print(axis, series, *n)?;
            }
        }
        Ok(())
    }

    fn run(&self) -> io::Result<Run> {
        let home = Home::new("growth")?;
        let socket = home.0.join("socket");
        Ok(Run {
            hooks: Hooks::listen(&socket)?,
            hook: format!("\"{}\", \"hook\", \"{}\"", std::env::current_exe()?.display(), socket.display()),
            pilotfish: home.copy(self.pilotfish, "pilotfish")?,
            home,
        })
    }
}

impl Growth {
    fn print(mut self, axis: &str, series: &str, n: usize) -> io::Result<()> {
        self.latencies.sort_unstable();
        let milliseconds = |nanoseconds: f64| format!("{:.3}", nanoseconds / 1e6);
        let latency = percentile(&self.latencies, self.percentile).map(|latency| milliseconds(latency as f64));
        let line = [
            axis.to_owned(),
            series.to_owned(),
            n.to_string(),
            self.memory.to_string(),
            milliseconds(self.cpu as f64),
            latency.unwrap_or_default(),
        ];
        println!("{}", line.join(","));
        io::stdout().flush()
    }
}

impl Run {
    fn log(&self) -> PathBuf {
        self.home.0.join("agents.log")
    }

    /// An agent with this config, by a program of its own or that of a crowd.
    fn agent(&self, program: &Path, name: &str, config: &str) -> io::Result<Container> {
        let file = self.home.0.join(format!("{name}.toml"));
        let socket = self.home.0.join(format!("{name}.sock"));
        fs::write(
            &file,
            format!(
                "[process]\nexec = [\"sleep\", \"infinity\"]\n[control]\nsocket = \"{}\"\n[log]\nlevel = \"error\"\n{config}",
                socket.display()
            ),
        )?;
        Container::start(program, &["-c", &file.to_string_lossy()], &self.log())
    }

    fn instances(&self, store: &Store, n: usize) -> io::Result<Growth> {
        let mut held = Held::new();
        for other in 1..n {
            store.fill("app", &format!("app-{other}"), &mut held)?;
        }
        store.register("app", "app-0", MARKED, &mut held)?;
        let agent = self.agent(&self.pilotfish, "agent", &(self.watch("app") + "[catalog]\n" + &store.config()))?;
        self.hooks.began(&MARKED.to_string(), PATIENCE)?;
        sleep(SETTLED);
        let before = agent.spent();
        let latencies = self.changes(store, |_| "app".to_owned(), &mut held)?;
        let cpu = (agent.spent() - before) / u64::from(CHANGES);
        sleep(SETTLED);
        Ok(Growth { memory: agent.memory().0, cpu, latencies, percentile: 50 })
    }

    fn watches(&self, store: &Store, n: usize) -> io::Result<Growth> {
        let mut held = Held::new();
        let mut config = String::new();
        for watch in 0..n {
            let service = format!("app{watch}");
            store.register(&service, &format!("{service}-0"), MARKED, &mut held)?;
            config += &self.watch(&service);
        }
        let agent = self.agent(&self.pilotfish, "agent", &(config + "[catalog]\n" + &store.config()))?;
        let deadline = Instant::now() + PATIENCE;
        let mut told = 0;
        while told < n {
            told += usize::from(self.hooks.next().is_some());
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{told} hooks were run")));
            }
        }
        // On Consul an agent tells its server of fifty entries a second, and each is a change.
        sleep(SETTLED + Duration::from_millis(30) * n as u32);
        while self.hooks.next().is_some() {}
        let before = agent.spent();
        sleep(WINDOW);
        let cpu = a_second(agent.spent() - before);
        let memory = agent.memory().0;
        let one = |change: u16| format!("app{}", usize::from(change) * 89 % n);
        Ok(Growth { memory, cpu, latencies: self.changes(store, one, &mut held)?, percentile: 50 })
    }

    fn watch(&self, service: &str) -> String {
        format!("[[watch]]\nname = \"{service}\"\nservice = \"{service}\"\non_change = {{ exec = [{}] }}\n", self.hook)
    }

    /// Changes the first instance of a service again and again, and says how long each took to its hook.
    fn changes(&self, store: &Store, of: impl Fn(u16) -> String, held: &mut Held) -> io::Result<Vec<i64>> {
        let mut latencies = Vec::new();
        for change in 1..=CHANGES {
            let (service, port) = (of(change), MARKED + change);
            let begun = kernel::now();
            store.register(&service, &format!("{service}-0"), port, held)?;
            latencies.push(self.hooks.began(&port.to_string(), PATIENCE)? - begun);
            // Not in step with anything that ticks.
            sleep(QUIET + Duration::from_micros(u64::from(change) * 7919 % 40_000));
        }
        Ok(latencies)
    }

    fn checks(&self, kind: &str, n: usize) -> io::Result<Growth> {
        let targets = Targets::listen()?;
        let mut config = String::new();
        for check in 0..n {
            let what = match kind {
                "http" => format!("http = \"{}\"", targets.url(check as u32)),
                _ => format!("exec = [{}, \"{check}\"]", self.hook),
            };
            let _ = write!(config, "[[health]]\nname = \"c{check}\"\n{what}\ninterval = \"1s\"\n");
        }
        let agent = self.agent(&self.pilotfish, "agent", &config)?;
        self.came(SETTLED);
        targets.forget();
        let (from, before) = (kernel::now(), agent.spent());
        let mut came = self.came(WINDOW);
        let (until, after) = (kernel::now(), agent.spent());
        came.extend(targets.came());
        let latencies = (0..n as u32)
            .flat_map(|check| lateness(came.get(&check).map_or(&[][..], |came| came), from, until, SECOND))
            .collect();
        Ok(Growth { memory: agent.memory().0, cpu: a_second(after - before), latencies, percentile: 99 })
    }

    /// By number, when checks that are programs began within this time.
    fn came(&self, window: Duration) -> HashMap<u32, Vec<i64>> {
        let deadline = Instant::now() + window;
        let mut came: HashMap<u32, Vec<i64>> = HashMap::new();
        while Instant::now() < deadline {
            if let Some((began, word)) = self.hooks.next()
                && let Ok(check) = word.parse()
            {
                came.entry(check).or_default().push(began);
            }
        }
        came
    }

    fn orphans(&self, init: &str, n: usize) -> io::Result<Growth> {
        let (order, done) = (self.home.0.join("order"), self.home.0.join("done"));
        let leave = format!(
            "while :; do until read n 2>/dev/null <{order}; do sleep 0.01; done; rm {order}; \
             while [ $n -gt 0 ]; do (: &); n=$((n - 1)); done; touch {done}; done",
            order = order.display(),
            done = done.display()
        );
        let program = if init == "tini" { Path::new("/usr/bin/tini") } else { &self.pilotfish };
        let agent = Container::start(program, &["--", "sh", "-c", &leave], &self.log())?;
        sleep(SETTLED);
        let children = || fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.pid()));
        let (mut latencies, before) = (Vec::new(), agent.spent());
        for _ in 0..ROUNDS {
            kernel::kill(agent.pid(), kernel::SIGSTOP)?;
            fs::write(self.home.0.join("draft"), n.to_string() + "\n")?;
            fs::rename(self.home.0.join("draft"), &order)?;
            let deadline = Instant::now() + PATIENCE;
            while !done.exists() && Instant::now() < deadline {
                sleep(Duration::from_millis(5));
            }
            fs::remove_file(&done)?;
            // The last of them ends.
            sleep(Duration::from_millis(50));
            let begun = kernel::now();
            kernel::kill(agent.pid(), kernel::SIGCONT)?;
            while children()?.split_whitespace().count() > 1 {
                sleep(Duration::from_micros(50));
            }
            latencies.push(kernel::now() - begun);
        }
        let cpu = (agent.spent() - before) / ROUNDS as u64;
        sleep(SETTLED);
        Ok(Growth { memory: agent.memory().0, cpu, latencies, percentile: 50 })
    }

    fn members(&self, store: &Store, n: usize) -> io::Result<Growth> {
        let crowd = self.home.copy(&self.pilotfish, "crowd")?;
        let catalog = store.config();
        let config = |member: usize| {
            format!(
                "[hooks]\non_promote = {{ exec = [{}, \"{member}\"] }}\n[election]\nname = \"lead\"\n[catalog]\n{catalog}",
                self.hook
            )
        };
        let first = self.agent(&self.pilotfish, "0", &config(0))?;
        self.hooks.began("0", PATIENCE)?;
        let others: io::Result<Vec<Container>> = (1..n)
            .map(|member| {
                sleep(Duration::from_millis(10));
                self.agent(&crowd, &member.to_string(), &config(member))
            })
            .collect();
        let _others = others?;
        sleep(SETTLED + Duration::from_millis(10) * n as u32);
        let before = first.spent();
        sleep(WINDOW);
        let mut growth = Growth {
            memory: first.memory().0,
            cpu: a_second(first.spent() - before),
            percentile: 50,
            ..Growth::default()
        };
        let mut leader = "0".to_owned();
        while n > 1 && growth.latencies.len() < usize::from(SUCCESSIONS) {
            let mut socket = UnixStream::connect(self.home.0.join(format!("{leader}.sock")))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let begun = kernel::now();
            exchange(&mut socket, "POST", "/step-down", "")?;
            let deadline = Instant::now() + PATIENCE;
            (leader, growth.latencies) = loop {
                match self.hooks.next() {
                    Some((began, next)) => {
                        growth.latencies.push(began - begun);
                        break (next, growth.latencies);
                    }
                    None if Instant::now() > deadline => return Err(io::Error::other("nobody leads")),
                    None => {}
                }
            };
            // The losers are done with it.
            sleep(Duration::from_secs(2) + Duration::from_millis(3) * n as u32);
        }
        Ok(growth)
    }
}

/// Of what was spent in the window.
fn a_second(spent: u64) -> u64 {
    spent / WINDOW.as_secs()
}
