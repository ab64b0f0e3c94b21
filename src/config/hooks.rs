//! The checked hooks: commands at fixed points of the container's life, and as whom a command runs.

use super::choice::words_alone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Backoff, Exec, When};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
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
