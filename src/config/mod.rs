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
mod endpoints;
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

mod backoff;
mod choice;
mod document;
mod expand;
mod format;
mod health;
mod hooks;
pub mod ids;
mod parse;
mod planned;
mod process;
mod raw;
mod render;
mod service;
pub(crate) mod suggest;
mod tree;
mod users;
mod validate;
mod watch;
mod when;

use std::ffi::OsString;
use std::time::Duration;

pub use backends::{Backend, Catalog, DEFAULT_PREFIX};
pub use backoff::Backoff;
pub use context::{Context, Variables};
pub use coprocess::Coprocess;
pub use cron::Cron;
pub use document::read;
pub use election::Election;
pub use endpoints::{Control, ControlListen, Level, Listen, Log, LogFormat, Telemetry};
pub(crate) use format::is_consul_address;
pub use format::user;
pub use health::{GrpcProbe, Health, HttpProbe, OnFailure, Probe, Trust};
pub use hooks::{Hook, Hooks, Leftovers, PreStart, RunAs};
pub use load::{DEFAULT_FILES, FILE_VARIABLE, Loaded, Written, find};
pub use manner::{FailedStart, Manner};
pub(crate) use parse::STRICT;
pub use parse::Syntax;
pub use process::{Background, Limits, Process, Restart, RestartPolicy, SignalScope, Stop, Strays};
pub use render::render;
pub use report::{Mistake, Report};
pub use sensor::{Sensor, SensorCommand, SensorKind};
pub use service::{AddressSpec, ConsulService, Family, Service, ServiceOf};
pub use signal::Signal;
pub use source::{Source, Translate, Translated};
pub use task::{Task, TaskWhen, Timetable};
pub use watch::{Query, Required, Template, WaitFor, Watch};
pub use when::When;
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
            control: Control { socket: None, listen: None, signals: false },
            log: Log { level: Level::Warn, format: LogFormat::Text },
        }
    }

    /// The services that a catalog is told of: none where there is no catalog.
    pub fn registered(&self) -> &[Service] {
        match self.catalog.backend {
            Backend::None => &[],
            Backend::Consul(_) | Backend::Etcd(_) | Backend::Local { .. } => &self.services,
        }
    }

    /// Whether this is [`Config::plain`]'s kind of agent: nothing but an init.
    pub fn is_plain(&self) -> bool {
        self.stop.within.is_none()
    }
}

/// A command as an argument vector: the program and what it is given, never a shell line.
pub type Exec = Vec<OsString>;

#[cfg(test)]
mod tests;
