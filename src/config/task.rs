//! `[[task]]`: periodic work.

use super::choice::words_alone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::{Cron, Exec, RunAs, Zone};

/// `[[task]]`: a command that runs again and again, and never beside itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name, unique in the config.
    pub name: String,
    /// Program and arguments.
    pub exec: Exec,
    /// As whom.
    pub run_as: RunAs,
    /// When it is due.
    pub timetable: Timetable,
    /// The first run comes at once, as soon as it may run at all.
    pub at_start: bool,
    /// Each run is put off by a part of this, drawn anew.
    pub jitter: Duration,
    /// Past this all of it gets SIGTERM, then SIGKILL.
    pub timeout: Duration,
    /// When it may run.
    pub when: TaskWhen,
}

/// When a task is due.
#[derive(Debug, Clone, PartialEq)]
pub enum Timetable {
    /// Each time so much has passed, however the calendar's clock is set.
    Every(Duration),
    /// At dates of a time zone.
    Cron(Cron, Zone),
}

/// When a task may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum TaskWhen {
    /// In every role.
    Always,
    /// While this container acts as leader; ended before another may.
    Leader,
    /// While another container leads, or nobody.
    Replica,
    /// While main runs and every check passes.
    Healthy,
}
