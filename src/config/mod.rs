//! What the user wrote, made safe: files become [`raw`] (the shape serde knows), [`validate`] turns that into
//! [`Config`], and nothing after that ever checks again. Reports every mistake at once. It starts no process and
//! opens no socket; it reads only the files named to it.
//!
//! A `Config` can't be wrong: durations are `Duration`s, signals exist, names are unique, every reference
//! (`[[health]] services`, say) points at something.

pub mod address;
pub mod backends;
pub mod context;
pub mod coprocess;
pub mod cron;
pub mod duration;
pub mod election;
pub mod load;
pub mod manner;
mod redact;
pub mod report;
pub mod schema;
pub mod sensor;
pub mod signal;
pub mod source;
pub mod task;
pub mod template;
pub mod words;
pub mod zone;

mod expand;
mod format;
pub mod ids;
mod parse;
mod planned;
mod raw;
mod render;
mod suggest;
mod tree;
mod users;
mod validate;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub use context::{Context, Variables};
pub use coprocess::Coprocess;
pub use cron::Cron;
pub use election::{Election, When};
pub use load::{Loaded, Written, find, read};
pub use manner::{FailedStart, Manner};
pub use parse::Syntax;
pub use render::render;
pub use report::{Mistake, Report};
pub use sensor::{Sensor, SensorCommand, SensorKind};
pub use signal::Signal;
pub use source::{Source, Translate, Translated};
pub use task::{Task, TaskWhen, Timetable};
pub use zone::Zone;

/// Everything an agent does, decided by its config file and command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The one main process.
    pub process: Process,
    /// How the container ends.
    pub stop: Stop,
    /// Commands run at fixed points of the container's life.
    pub hooks: Hooks,
    /// What must be so before `pre_start`, in the order written.
    pub wait_for: Vec<WaitFor>,
    /// What is supervised beside the main process, in the order written.
    pub coprocesses: Vec<Coprocess>,
    /// Names under which the main process, or a coprocess, is in the catalog.
    pub services: Vec<Service>,
    /// Health checks of the main process, and of coprocesses.
    pub health: Vec<Health>,
    /// Dependencies whose changes are acted on.
    pub watches: Vec<Watch>,
    /// Periodic work.
    pub tasks: Vec<Task>,
    /// Whether, and how, one of several containers leads.
    pub election: Option<Election>,
    /// Where services are registered and dependencies looked up.
    pub catalog: Catalog,
    /// Metrics of the user's own.
    pub sensors: Vec<Sensor>,
    /// The read-only endpoint; `None` keeps it shut.
    pub telemetry: Option<Telemetry>,
    /// The endpoint that can change things.
    pub control: Control,
    /// What is logged, and how.
    pub log: Log,
}

impl Config {
    /// The config of `pilotfish -- CMD ARGS` without a file: a plain init like tini. It forwards and reaps, and has
    /// no timeouts, no SIGKILL and no endpoint of its own.
    pub fn plain(exec: Vec<OsString>) -> Config {
        Config {
            process: Process {
                stop_on: Vec::new(),
                manner: Manner { silent: true, ..Manner::default() },
                ..Process::new(exec)
            },
            stop: Stop { within: None, drain: Duration::ZERO },
            hooks: Hooks::default(),
            wait_for: Vec::new(),
            coprocesses: Vec::new(),
            services: Vec::new(),
            health: Vec::new(),
            watches: Vec::new(),
            tasks: Vec::new(),
            election: None,
            catalog: Catalog { backend: Backend::None, prefix: DEFAULT_PREFIX.to_owned() },
            sensors: Vec::new(),
            telemetry: None,
            control: Control { socket: None, signals: false },
            log: Log { level: Level::Warn, format: LogFormat::Text },
        }
    }

    /// Whether this is [`Config::plain`]'s kind of agent: nothing but an init.
    pub fn is_plain(&self) -> bool {
        self.stop.within.is_none()
    }
}

/// Keys of every backend start with this unless `[catalog] prefix` says otherwise.
pub const DEFAULT_PREFIX: &str = "pilotfish";

/// A command as an argument vector: the program and what it is given, never a shell line.
pub type Exec = Vec<OsString>;

/// `[process]`: the one main process.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Program and arguments; the program is looked up in `PATH` when it has no slash.
    pub exec: Exec,
    /// Who it runs as; `None` keeps the agent's own user.
    pub user: Option<String>,
    /// Its working directory; `None` keeps the agent's.
    pub directory: Option<PathBuf>,
    /// Variables set on top of the agent's own environment.
    pub env: BTreeMap<String, String>,
    /// Variables whose values are read from files at each start, and never logged.
    pub env_from_files: BTreeMap<String, PathBuf>,
    /// Resource limits and umask, of main and of hooks.
    pub limits: Limits,
    /// Signals that start the stop sequence; every other one is forwarded.
    pub stop_on: Vec<Signal>,
    /// What main gets when the container stops; `None` is the one received (TERM when none was).
    pub stop_signal: Option<Signal>,
    /// How long main has after the stop signal; `None` is what `[stop] within` leaves.
    pub stop_timeout: Option<Duration>,
    /// Whether signals go to main alone or to its process group.
    pub signal_scope: SignalScope,
    /// What main receives instead of a signal; `None` drops it.
    pub rewrite_signals: BTreeMap<Signal, Option<Signal>>,
    /// What happens when main ends by itself.
    pub restart: Restart,
    /// What happens when main ends while processes it left behind live on.
    pub background: Background,
    /// What happens to leftovers at the container's end.
    pub strays: Strays,
    /// The container's exit code in place of main's.
    pub exit_codes: BTreeMap<u8, u8>,
    /// What the agent gets, as if somebody had sent it, when its own parent ends.
    pub parent_death: Option<Signal>,
    /// What a plain init does otherwise.
    pub manner: Manner,
}

impl Process {
    /// A process with every default of the key reference.
    pub fn new(exec: Exec) -> Process {
        Process {
            exec,
            user: None,
            directory: None,
            env: BTreeMap::new(),
            env_from_files: BTreeMap::new(),
            limits: Limits::default(),
            stop_on: vec![Signal::TERM, Signal::INT],
            stop_signal: None,
            stop_timeout: None,
            signal_scope: SignalScope::Process,
            rewrite_signals: BTreeMap::new(),
            restart: Restart::default(),
            background: Background::Kill,
            strays: Strays::Kill,
            exit_codes: BTreeMap::new(),
            parent_death: None,
            manner: Manner::default(),
        }
    }
}

/// Whether signals go to main alone or to its process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalScope {
    /// Main alone: a master process stops its own workers.
    Process,
    /// Main's whole process group.
    Group,
}

/// What happens when main ends while processes it left behind live on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// They are ended, and main counts as ended.
    Kill,
    /// They are main now: it has ended when the last of them has.
    Follow,
}

/// What happens to leftovers at the container's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strays {
    /// TERM, then KILL when stop's time is up.
    Kill,
    /// They may end by themselves until stop's time is up.
    Wait,
}

/// Resource limits and umask; `None` leaves what the agent was given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// By rlimit name in small letters (`nofile`, `core`, ...): soft and hard limit; `None` is unlimited.
    pub rlimits: BTreeMap<String, (Option<u64>, Option<u64>)>,
    /// File mode creation mask.
    pub umask: Option<u32>,
}

/// When main is started again after it ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// After which ends.
    pub policy: RestartPolicy,
    /// How many restarts...
    pub max: u32,
    /// ...within how long; one more and the container ends with main's code.
    pub within: Duration,
    /// The pause before a restart.
    pub backoff: Backoff,
}

impl Default for Restart {
    fn default() -> Restart {
        Restart { policy: RestartPolicy::Never, max: 5, within: Duration::from_secs(60), backoff: Backoff::default() }
    }
}

/// After which ends main is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never: main's end is the container's.
    Never,
    /// When it ended with another code than 0, or by a signal.
    OnFailure,
    /// Always, but for a requested stop.
    Always,
}

/// Exponential: starts at `first`, doubles, never above `most`; each is drawn with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) }
    }
}

/// `[stop]`: how the container ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The whole sequence; `None` (plain init only) is without limit.
    pub within: Option<Duration>,
    /// The pause between leaving the rotation and `pre_stop`.
    pub drain: Duration,
}

/// `[hooks]`: commands run at fixed points of the container's life.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hooks {
    /// Before each first start of main, one after the other; the failure of one ends the container.
    pub pre_start: Vec<PreStart>,
    /// Once main is healthy for the first time after a start.
    pub post_start: Option<Hook>,
    /// Before main is told to stop.
    pub pre_stop: Option<Hook>,
    /// After main and all it left behind are gone.
    pub post_stop: Option<Hook>,
    /// When this container leads, once main is up and healthy.
    pub on_promote: Option<Hook>,
    /// When it leads no longer; its success leaves main running.
    pub on_demote: Option<Hook>,
    /// On replicas, when another one leads.
    pub on_leader_change: Option<Hook>,
}

/// One command with its deadline.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// Program and arguments.
    pub exec: Exec,
    /// Past this all of it gets SIGTERM, then SIGKILL.
    pub timeout: Duration,
    /// As whom.
    pub run_as: RunAs,
    /// In which role it runs.
    pub when: When,
    /// What becomes of processes that it leaves behind.
    pub leftovers: Leftovers,
}

impl Hook {
    /// A command of any role, run as the agent, of which nothing is to be left.
    pub fn new(exec: Exec, timeout: Duration) -> Hook {
        Hook { exec, timeout, run_as: RunAs::default(), when: When::Always, leftovers: Leftovers::End }
    }
}

/// What becomes of processes that a hook leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// They are ended with it.
    End,
    /// They stay, if it succeeded, as long as its role lasts.
    Keep,
}

/// Who a command other than main runs as, and the variables of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunAs {
    /// The user; `None` is the agent's own.
    pub user: Option<String>,
    /// Variables set on top of the container's environment.
    pub env: BTreeMap<String, String>,
    /// Variables whose values are read from files at each start.
    pub env_from_files: BTreeMap<String, PathBuf>,
}

/// `pre_start`: a hook that may be tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct PreStart {
    /// The command.
    pub hook: Hook,
    /// How many times more after the first failure.
    pub retries: u32,
    /// The pause between two tries.
    pub backoff: Backoff,
}

/// `[[wait_for]]`: held before `pre_start` until it is so, with a deadline.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitFor {
    /// What is looked at.
    pub query: Query,
    /// How many passing instances; 1 for a key.
    pub count: usize,
    /// Past this the container ends.
    pub timeout: Duration,
    /// In which role it is waited for; but for `Always` that is after the election's first result.
    pub when: When,
}

/// What can be looked at in a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Query {
    /// The passing instances of a service.
    Service {
        /// Its name.
        name: String,
        /// Only those with this tag.
        tag: Option<String>,
        /// In this datacenter; `None` is the agent's own.
        datacenter: Option<String>,
    },
    /// One key of the key/value store.
    Key {
        /// Its path.
        key: String,
    },
    /// Every key below a prefix.
    KeyPrefix {
        /// The prefix.
        prefix: String,
    },
    /// Who leads an election: one instance, or none.
    Leader {
        /// The election's name.
        election: String,
    },
}

/// `[[service]]`: a name under which the main process, or a coprocess, is in the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// The service's name.
    pub name: String,
    /// Unique in the catalog; `<name>-<hostname>-<port>` unless set.
    pub id: String,
    /// Where it listens.
    pub port: u16,
    /// The coprocess whose entry it is; `None` is the main process.
    pub of: Option<String>,
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

/// `[[health]]`: one check of the main process, or of a coprocess.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// Its name, unique in the config.
    pub name: String,
    /// The coprocess that it checks; `None` is the main process.
    pub of: Option<String>,
    /// What is asked.
    pub probe: Probe,
    /// From the end of one check to the start of the next.
    pub interval: Duration,
    /// Past this one check has failed.
    pub timeout: Duration,
    /// Failures don't count until the first success or this long after the start of what is checked.
    pub grace: Duration,
    /// In place of `interval` while in grace.
    pub start_interval: Duration,
    /// Consecutive failures that turn it critical.
    pub failures: u32,
    /// Consecutive successes that turn it passing again.
    pub successes: u32,
    /// What turning critical does beyond the catalog.
    pub on_failure: OnFailure,
    /// Ids of the services it speaks for.
    pub services: Vec<String>,
    /// Whether readiness, roles and entries depend on it; otherwise it is only told.
    pub counts: bool,
    /// Whether its failure keeps a candidate from standing and has a leader step down.
    pub stand: bool,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// A command: exit 0 is healthy.
    Exec {
        /// Program and arguments.
        exec: Exec,
        /// As whom.
        run_as: RunAs,
    },
    /// An HTTP request made by the agent itself.
    Http(HttpProbe),
    /// A TCP connection made by the agent itself.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// A question of the standard health protocol of gRPC, asked by the agent itself.
    Grpc(GrpcProbe),
    /// Main says so itself by sd_notify: READY=1, WATCHDOG=1.
    Notify,
}

impl Probe {
    /// A GET of this URL, as an `http` check without other keys asks it.
    ///
    /// # Errors
    /// It is no such URL, in words for people.
    pub fn http(url: &str) -> Result<Probe, String> {
        let format::HttpUrl(url) = format::Format::read(url).map_err(|wrong: format::Wrong| wrong.of(url))?;
        Ok(Probe::get(url))
    }

    /// The same of a URL that has been read.
    fn get(url: String) -> Probe {
        Probe::Http(HttpProbe {
            url,
            method: "GET".to_owned(),
            headers: BTreeMap::new(),
            expect_status: Vec::new(),
            expect_body: None,
            ca: None,
            insecure: false,
        })
    }

    /// The health of a gRPC server, `grpc://host:port/service`, as a `grpc` check without other keys asks for it.
    ///
    /// # Errors
    /// It is no such address, in words for people.
    pub fn grpc(url: &str) -> Result<Probe, String> {
        let url: format::GrpcUrl = format::Format::read(url).map_err(|wrong: format::Wrong| wrong.of(url))?;
        Ok(Probe::Grpc(url.probe(Trust::default())))
    }

    /// A connection to this `host:port`.
    ///
    /// # Errors
    /// It is none, in words for people.
    pub fn tcp(address: &str) -> Result<Probe, String> {
        let format::HostPort(address) =
            format::Format::read(address).map_err(|wrong: format::Wrong| wrong.of(address))?;
        Ok(Probe::Tcp { address })
    }
}

/// One HTTP health request.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProbe {
    /// `http://` or `https://`.
    pub url: String,
    /// `GET` unless set.
    pub method: String,
    /// Headers sent.
    pub headers: BTreeMap<String, String>,
    /// Statuses that are healthy; empty is 200 to 399, as Docker's and Mesos' users expect.
    pub expect_status: Vec<u16>,
    /// A part of the body that must be there (looked for in its first 64 KiB).
    pub expect_body: Option<String>,
    /// A certificate authority in PEM for https; `None` is the system's.
    pub ca: Option<PathBuf>,
    /// Don't verify https.
    pub insecure: bool,
}

/// One question of the standard health protocol of gRPC.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpcProbe {
    /// `host:port`.
    pub address: String,
    /// Whose health is asked for; empty is the whole server's.
    pub service: String,
    /// Who is believed to be the server; `None` is plain text.
    pub tls: Option<Trust>,
}

/// Who is believed to be the server that a check asks over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    /// A certificate authority in PEM; `None` is the system's.
    pub ca: Option<PathBuf>,
    /// Anybody: nothing is verified.
    pub insecure: bool,
}

/// What a check that turns critical does beyond the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing.
    Report,
    /// What is checked is stopped and started again, within its restart budget.
    Restart,
    /// The container ends.
    Exit,
}

/// `[[watch]]`: a dependency whose changes are acted on.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// Its name, unique in the config.
    pub name: String,
    /// What is looked at.
    pub query: Query,
    /// The first change after a quiet spell acts at once; those within this of a run gather into the next.
    pub settle: Duration,
    /// A command that gets the change as JSON on stdin.
    pub on_change: Option<Hook>,
    /// A file made from the instances.
    pub template: Option<Template>,
    /// A signal to main.
    pub signal: Option<Signal>,
    /// In which role its changes are acted on.
    pub when: When,
}

/// A file made from a watch's instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The minijinja template.
    pub source: PathBuf,
    /// The file, replaced atomically where its directory allows it.
    pub destination: PathBuf,
    /// A command that must exit 0 before the file goes live; `{}` in it stands for the new file's path.
    pub check: Option<Exec>,
    /// As whom it is checked.
    pub check_as: RunAs,
    /// Past this the check has failed.
    pub check_timeout: Duration,
    /// The file's mode; `None` is that of the one before.
    pub mode: Option<u32>,
    /// Whose the file is, `user:group`; `None` is the owner of the one before.
    pub owner: Option<String>,
    /// Whether missing directories are made.
    pub parents: bool,
    /// Whether main must not start before it is made of an answer.
    pub required: Option<Required>,
}

/// How long main waits for a template that it must not start without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Required {
    /// Past this the container ends.
    For(Duration),
    /// As long as it takes.
    Forever,
}

/// `[catalog]`: where services are registered and dependencies looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    /// Which backend, and what it needs.
    pub backend: Backend,
    /// Keys start with this (etcd, local).
    pub prefix: String,
}

/// Which backend keeps the catalog.
#[derive(Debug, Clone, PartialEq)]
pub enum Backend {
    /// None: nothing is registered.
    None,
    /// A directory shared by the containers of one host.
    Local {
        /// The directory; made when it isn't there.
        directory: PathBuf,
        /// Other containers see it, though it lies where a container's own files do.
        shared: bool,
    },
    /// One Consul agent.
    Consul(Box<backends::Consul>),
    /// An etcd cluster, API version 3.
    Etcd(Box<backends::Etcd>),
}

/// `[telemetry]`: the read-only endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Where it listens.
    pub listen: std::net::SocketAddr,
}

/// `[control]`: the endpoint that can change things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The unix socket (0600); `None` turns it off.
    pub socket: Option<PathBuf>,
    /// HUP reloads, as in ContainerPilot, in place of being forwarded.
    pub signals: bool,
}

/// `[log]`: what is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is logged.
    pub level: Level,
    /// Text for people or JSON for machines.
    pub format: LogFormat,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What happened.
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests;
