//! The checked main process, how it is started again, and how the container ends.

use super::choice::words_alone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Backoff, Exec, Manner, Signal};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum SignalScope {
    /// Main alone: a master process stops its own workers.
    Process,
    /// Main's whole process group.
    Group,
}

/// What happens when main ends while processes it left behind live on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum Background {
    /// They are ended, and main counts as ended.
    Kill,
    /// They are main now: it has ended when the last of them has.
    Follow,
}

/// What happens to leftovers at the container's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum RestartPolicy {
    /// Never: main's end is the container's.
    Never,
    /// When it ended with another code than 0, or by a signal.
    OnFailure,
    /// Always, but for a requested stop.
    Always,
}

/// `[stop]`: how the container ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The whole sequence; `None` (plain init only) is without limit.
    pub within: Option<Duration>,
    /// The pause between leaving the rotation and `pre_stop`.
    pub drain: Duration,
}
