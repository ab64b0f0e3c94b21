//! pilotfish: the init process that makes a container able to run itself.
//!
//! The layers; each may use only what stands to its right:
//!
//! `main` → `cli` → `agent` → `effects` → { `process`, `catalog`, `probe`, `endpoints`, `render` } → `supervisor` → `config`
//!
//! - [`cli`]: the command line; [`agent`]: the one loop; `effects`: does what is ordered.
//! - [`witness`]: frees the locks of leaders whose containers are gone from this host; an agent without a container.
//! - [`config`]: what the user wrote, made safe.
//! - [`supervisor`]: decides. Pure: events in, effects out, time an argument.
//! - [`process`]: Linux: spawning, reaping, signals, terminals, users.
//! - [`catalog`]: where services are registered and dependencies seen.
//! - [`net`]: names, addresses, TLS and pauses, for backends and probes.
//! - [`probe`]: health questions asked without a child process.
//! - [`endpoints`]: our own endpoints: control and telemetry; [`metrics`] is what it tells Prometheus.
//! - `render`: a template made a file.
//! - `clock`: the time, suspended or not, and its alarm; `readable`: a descriptor to wait for.
//! - [`exit_codes`]: those of our own; [`errors`]: how an error is told.
//! - [`files`]: files that somebody else may have a hand in, opened so that they gain nothing; below all layers that do.
//! - [`import`]: other programs' configs, made pilotfish's.
//! - `survey`: what a config names that isn't here, for `check` and a reload.
//! - [`recorder`]: the last events, for a person who asks how the agent came to where it is.
//! - [`logging`]: the log, which never waits for who reads it.
//! - `fuzzing`: what the fuzz targets throw bytes at (tests/fuzz); nothing in a release.
//! - `generated`: files that are made from the source, and whether they are current; nothing in a release.
//! - `plain`: text of others, made fit for a terminal and a log.
//! - `sabotage`: rules broken on purpose, for tests that must fail; nothing in a release.

pub mod agent;
pub mod catalog;
pub mod cli;
mod clock;
pub mod config;
mod effects;
pub mod endpoints;
pub mod errors;
pub mod exit_codes;
pub mod files;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod generated;
pub mod import;
pub mod logging;
pub mod metrics;
pub mod net;
mod plain;
pub mod probe;
pub mod process;
mod readable;
mod recorder;
mod render;
mod sabotage;
pub mod supervisor;
mod survey;
pub mod witness;
