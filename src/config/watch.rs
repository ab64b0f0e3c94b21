//! What is looked at in a catalog, checked: what is waited for, what is watched, and what a change brings about.

use std::path::PathBuf;
use std::time::Duration;

use super::{Exec, Hook, RunAs, Signal, When};

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

impl Template {
    /// Whether its check is shown the new file.
    pub fn shows_file(&self) -> bool {
        self.check.iter().flatten().any(|word| word.to_str().is_some_and(|word| word.contains("{}")))
    }
}

/// How long main waits for a template that it must not start without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Required {
    /// Past this the container ends.
    For(Duration),
    /// As long as it takes.
    Forever,
}
