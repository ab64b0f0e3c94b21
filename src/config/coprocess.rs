//! `[[coprocess]]`, made safe: what is supervised beside main, when it starts and stops, and what waits for it.

use super::choice::words_alone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

use super::{Background, Exec, Hook, Limits, Probe, Restart, RunAs, Signal, SignalScope, When};

/// As many coprocesses may be a leader's: the guard has room for so many.
pub const MOST_OF_A_LEADER: usize = 16;

/// One process supervised beside main.
#[derive(Debug, Clone, PartialEq)]
pub struct Coprocess {
    /// Its name, unique in the config, and never `main`.
    pub name: String,
    /// Program and arguments.
    pub exec: Exec,
    /// As whom, with which variables.
    pub run_as: RunAs,
    /// Its working directory; `None` keeps the agent's.
    pub directory: Option<PathBuf>,
    /// Its resource limits and umask.
    pub limits: Limits,
    /// When it starts.
    pub start: StartPoint,
    /// The names of those that must be ready first. There are no circles, and none of them starts at a later point than this one.
    pub after: Vec<String>,
    /// In which role it runs.
    pub when: When,
    /// What says that it is ready; `None`: that it runs.
    pub ready: Option<Ready>,
    /// Before its first start.
    pub pre_start: Option<Hook>,
    /// Once it has ended for good.
    pub post_stop: Option<Hook>,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// What happens when it ends while processes it left behind live on.
    pub background: Background,
    /// What its end for good means for the container.
    pub on_giving_up: OnGivingUp,
    /// When it stops.
    pub stop: StopPoint,
    /// What it gets then.
    pub stop_signal: Signal,
    /// How long it has after that; `None` is its part of what `[stop] within` leaves.
    pub stop_timeout: Option<Duration>,
    /// Whether that signal goes to its process alone or to its group.
    pub signal_scope: SignalScope,
    /// Where its output goes.
    pub output: OutputMode,
}

/// What says that a coprocess is ready.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    /// What is asked until it says yes.
    pub probe: Probe,
    /// For how long from its first start.
    pub timeout: Duration,
}

/// When a coprocess starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum StartPoint {
    /// Before anything is asked of a catalog.
    BeforeCatalog,
    /// With main's first start.
    WithMain,
    /// Once main is healthy for the first time.
    AfterMain,
}

/// When a coprocess stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum StopPoint {
    /// Once main is gone.
    AfterMain,
    /// Before main is told to stop.
    BeforeMain,
}

/// What a coprocess's end for good means for the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum OnGivingUp {
    /// Nothing.
    Ignore,
    /// The container ends, too.
    Exit,
}

/// Where a coprocess's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum OutputMode {
    /// Line by line into the log, under its name.
    Log,
    /// Where the agent's own goes.
    Raw,
}
