//! What runs: main and commands, how they end, and why one can't start.

use std::fmt;

use serde::Serialize;

use crate::config::Signal;
use crate::exit_codes;

/// One run of a process or probe; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct RunId(pub u64);

/// The run that was numbered last.
#[derive(Debug, Default)]
pub struct LastRun(u64);

impl LastRun {
    /// The number of another one.
    pub fn one_more(&mut self) -> RunId {
        self.0 += 1;
        RunId(self.0)
    }
}

/// A process id in the agent's own PID namespace.
pub type Pid = i32;

/// A process, told from a later one with the same id: that, and when it was started, in clock ticks since boot.
pub type ProcessId = (Pid, u64);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum ExitStatus {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal.
    Killed(Signal),
}

impl ExitStatus {
    /// The code a shell would show: the process's own, or 128 + the signal's number.
    pub fn code(self) -> u8 {
        match self {
            ExitStatus::Exited(code) => code,
            ExitStatus::Killed(signal) => exit_codes::of_signal(signal.number()),
        }
    }

    /// Whether it ended with code 0.
    pub fn success(self) -> bool {
        self == ExitStatus::Exited(0)
    }
}

/// Why a command couldn't be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct SpawnError {
    /// 127 when the program wasn't found, 126 otherwise, as a shell has it.
    pub code: u8,
    /// Which step failed on what, and why.
    pub message: String,
    /// Whether another try may do better.
    pub hope: Hope,
}

/// Whether a command that couldn't be started may start a moment later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Hope {
    /// Nothing changes by itself.
    None,
    /// A file isn't there: where it was before, it may be in the midst of being replaced.
    IfItWasThere,
    /// A limit is reached, or the program is being written.
    Soon,
}

/// Variables whose values were read from files. It never shows them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secrets(pub Vec<(String, Vec<u8>)>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Serialize for Secrets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(name, _)| name))
    }
}

/// What a run is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// The main process.
    Main,
    /// One of `[[hooks.pre_start]]`.
    PreStart {
        /// Which of several, from 1; `None`: it is the only one.
        number: Option<usize>,
    },
    /// `[hooks] post_start`.
    PostStart,
    /// `[hooks] pre_stop`.
    PreStop,
    /// `[hooks] post_stop`.
    PostStop,
    /// A watch's `on_change`.
    OnChange {
        /// The watch's name.
        watch: String,
    },
    /// A template's `check`.
    TemplateCheck {
        /// The watch's name.
        watch: String,
    },
    /// An exec health check.
    Health {
        /// The check's name.
        check: String,
    },
    /// `[hooks] on_promote`.
    OnPromote,
    /// `[hooks] on_demote`.
    OnDemote,
    /// `[hooks] on_leader_change`.
    OnLeaderChange,
    /// `[election] rank`.
    Rank,
    /// A `[[task]]`.
    Task {
        /// The task's name.
        task: String,
    },
    /// A `[[telemetry.sensor]]`.
    Sensor {
        /// The metric's name.
        sensor: String,
    },
    /// A coprocess itself.
    Coprocess {
        /// Its name.
        name: String,
    },
    /// A coprocess's `pre_start`.
    CoprocessPreStart {
        /// The coprocess's name.
        name: String,
    },
    /// A coprocess's `post_stop`.
    CoprocessPostStop {
        /// The coprocess's name.
        name: String,
    },
    /// Whether a coprocess is ready.
    CoprocessReady {
        /// The coprocess's name.
        name: String,
    },
}

impl Job {
    /// Whether people are told when it starts and ends: of hooks and tasks they are, of checks they aren't, which run every
    /// few seconds.
    pub fn is_told_of(&self) -> bool {
        match self {
            Job::PreStart { .. }
            | Job::PostStart
            | Job::PreStop
            | Job::PostStop
            | Job::OnChange { .. }
            | Job::OnPromote
            | Job::OnDemote
            | Job::OnLeaderChange
            | Job::Task { .. }
            | Job::CoprocessPreStart { .. }
            | Job::CoprocessPostStop { .. } => true,
            Job::Main
            | Job::TemplateCheck { .. }
            | Job::Health { .. }
            | Job::Rank
            | Job::Sensor { .. }
            | Job::Coprocess { .. }
            | Job::CoprocessReady { .. } => false,
        }
    }

    /// Whether it is another of the same, or another of those that come one after the other.
    pub fn is_like(&self, other: &Job) -> bool {
        matches!((self, other), (Job::PreStart { .. }, Job::PreStart { .. })) || self == other
    }

    /// Whether it is a task's run.
    pub fn is_task(&self) -> bool {
        matches!(self, Job::Task { .. })
    }

    /// Its `PILOTFISH_EVENT`.
    pub fn event(&self) -> &'static str {
        match self {
            Job::Main => "main",
            Job::PreStart { .. } | Job::CoprocessPreStart { .. } => "pre_start",
            Job::PostStart => "post_start",
            Job::PreStop => "pre_stop",
            Job::PostStop | Job::CoprocessPostStop { .. } => "post_stop",
            Job::OnChange { .. } => "on_change",
            Job::TemplateCheck { .. } => "template_check",
            Job::Health { .. } => "health",
            Job::OnPromote => "on_promote",
            Job::OnDemote => "on_demote",
            Job::OnLeaderChange => "on_leader_change",
            Job::Rank => "rank",
            Job::Task { .. } => "task",
            Job::Sensor { .. } => "sensor",
            Job::Coprocess { .. } => "coprocess",
            Job::CoprocessReady { .. } => "ready",
        }
    }
}

/// Why main is prepared to start: the `PILOTFISH_EVENT` of its `pre_start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartReason {
    /// The container has just been started.
    #[default]
    FirstStart,
    /// It comes to lead before main runs, or runs again.
    Promotion,
    /// It led, and main was stopped for that, or ended on the way.
    Demotion,
    /// Main crashed, or was killed, in the leader's role.
    Crash,
    /// `on_leader_change` failed: what is here doesn't fit the new leader.
    LeaderChange,
    /// A person or a check had main started again.
    Restart,
}

impl StartReason {
    /// All there are.
    pub const ALL: [StartReason; 6] = [
        StartReason::FirstStart,
        StartReason::Promotion,
        StartReason::Demotion,
        StartReason::Crash,
        StartReason::LeaderChange,
        StartReason::Restart,
    ];

    /// As `pre_start` is told.
    pub fn event(self) -> &'static str {
        match self {
            StartReason::FirstStart => "first_start",
            StartReason::Promotion => "promotion",
            StartReason::Demotion => "demotion",
            StartReason::Crash => "crash",
            StartReason::LeaderChange => "leader_change",
            StartReason::Restart => "restart",
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Job::OnChange { watch: of }
            | Job::TemplateCheck { watch: of }
            | Job::Health { check: of }
            | Job::CoprocessPreStart { name: of }
            | Job::CoprocessPostStop { name: of }
            | Job::CoprocessReady { name: of } => write!(f, "{} of {of}", self.event()),
            Job::PreStart { number: Some(number) } => write!(f, "{} {number}", self.event()),
            Job::Task { task: name } | Job::Sensor { sensor: name } | Job::Coprocess { name } => {
                write!(f, "{} {name}", self.event())
            }
            Job::Main
            | Job::PreStart { number: None }
            | Job::PostStart
            | Job::PreStop
            | Job::PostStop
            | Job::OnPromote
            | Job::OnDemote
            | Job::OnLeaderChange
            | Job::Rank => write!(f, "{}", self.event()),
        }
    }
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The process of a run alone.
    Process(RunId),
    /// The process group of a run.
    Group(RunId),
    /// Every process of a command, whatever it did to get away.
    All(RunId),
    /// Every process main left behind.
    Strays,
}
