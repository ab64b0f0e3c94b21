//! What the agent can tell about itself at any moment: what `/status` and the metrics tell.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ExitStatus, Pid, RunId, SensorStatus, Time};
use crate::supervisor::machines::election::record::Term;

/// Everything there is to tell, as of the last event.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// Where in its life the container is.
    pub phase: Phase,
    /// What it is doing or waiting for there, for people.
    pub doing: String,
    /// The main process.
    pub main: MainStatus,
    /// Each coprocess.
    pub coprocesses: Vec<CoprocessStatus>,
    /// Each health check.
    pub health: Vec<CheckStatus>,
    /// Each service.
    pub services: Vec<ServiceReport>,
    /// Each watch.
    pub watches: Vec<WatchStatus>,
    /// Each task. Its times are the kernel's, as maintenance's are.
    pub tasks: Vec<TaskStatus>,
    /// Each sensor.
    pub sensors: Vec<SensorStatus>,
    /// Its part in an election.
    pub election: Option<ElectionStatus>,
    /// Whether main doesn't run because another container leads, and could be started as soon as this one does.
    pub standing_by: bool,
    /// Its maintenance, if it is in any. Its times are the kernel's, which mean nothing outside: the endpoints tell it.
    pub maintenance: Option<MaintenanceStatus>,
    /// How often each hook was run, and failed.
    pub hooks: BTreeMap<String, HookCount>,
}

impl Status {
    /// Whether main runs and every check that counts passes of what is to run (`/readyz`; `/healthz` and
    /// `pilotfish health` are content with one that stands by).
    pub fn ready(&self) -> bool {
        self.phase == Phase::Running
            && self.main.runs()
            && !self.main.stopping
            && self.health.iter().all(|check| check.passing || check.idle || !check.counts)
    }

    /// Why [`Status::ready`] says no; `None` when it says yes.
    pub fn why_not_ready(&self) -> Option<String> {
        if self.ready() {
            return None;
        }
        let doing = if self.doing.is_empty() { String::new() } else { format!(": {}", self.doing) };
        Some(match self.phase {
            Phase::Starting => format!("starting{doing}"),
            Phase::Standby => format!("standing by{doing}"),
            Phase::Stopping => format!("stopping{doing}"),
            Phase::Running if !self.main.runs() => format!("main doesn't run{doing}"),
            Phase::Running if self.main.stopping => format!("main is stopping{doing}"),
            Phase::Running => {
                let unhealthy = self.health.iter().filter(|check| check.counts && !check.passing);
                let unhealthy: Vec<String> =
                    unhealthy.map(|check| format!("check {} fails: {}", check.name, check.note)).collect();
                unhealthy.join("; ")
            }
        })
    }
}

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Main has not been started yet.
    #[default]
    Starting,
    /// Main doesn't run, for another container leads; it could be started as soon as this one does.
    Standby,
    /// Main runs, or will again.
    Running,
    /// The stop sequence runs.
    Stopping,
}

/// The main process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MainStatus {
    /// Its process id while it runs.
    pub pid: Option<Pid>,
    /// Its process has ended, and one of those that it left is to be main in its place.
    pub following: bool,
    /// How often it was started again.
    pub restarts: u64,
    /// How it last ended.
    pub last_exit: Option<ExitStatus>,
    /// What it said of itself by sd_notify `STATUS=`.
    pub notified: Option<String>,
    /// It said `RELOADING=1`, and no `READY=1` since.
    pub reloading: bool,
    /// It is told to stop, or about to be, or said `STOPPING=1`.
    pub stopping: bool,
}

impl MainStatus {
    /// Whether it runs, be it in one that is yet to be known.
    pub fn runs(&self) -> bool {
        self.pid.is_some() || self.following
    }
}

/// A process supervised beside main.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoprocessStatus {
    /// Its name.
    pub name: String,
    /// What it is, for people.
    pub state: String,
    /// Its process id while it runs.
    pub pid: Option<Pid>,
    /// Whether it runs and is ready.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u64,
    /// How it last ended.
    pub last_exit: Option<ExitStatus>,
    /// Why it was given up, or isn't ready.
    pub error: Option<String>,
}

/// A health check.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckStatus {
    /// Its name.
    pub name: String,
    /// The coprocess that it checks; `None` is main.
    pub of: Option<String>,
    /// That isn't to run in this role, so the check means nothing.
    pub idle: bool,
    /// Whether it passes.
    pub passing: bool,
    /// Whether main is unhealthy while it doesn't.
    pub counts: bool,
    /// What it last said.
    pub note: String,
    /// How many runs passed.
    pub passed: u64,
    /// How many runs failed.
    pub failed: u64,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceReport {
    /// Its id in the catalog.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is: passing, critical, draining or maintenance.
    pub status: &'static str,
    /// Whether the catalog says so.
    pub published: bool,
    /// Why the catalog couldn't be told.
    pub error: Option<String>,
    /// The address it was last registered with.
    pub address: Option<String>,
    /// Why that one.
    pub address_because: Option<String>,
}

/// A watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchStatus {
    /// Its name.
    pub name: String,
    /// How many instances or keys it sees; nothing before the first answer.
    pub seen: Option<usize>,
    /// How many changes were acted on.
    pub changes: u64,
    /// Since when its template is rendered or put in place, while it is. The kernel's time.
    pub making_since: Option<Time>,
    /// Why the catalog can't be asked now, or why what was seen can't be acted on yet.
    pub error: Option<String>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatus {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// When it comes next, if that is known.
    pub next: Option<Time>,
    /// How often it succeeded.
    pub succeeded: u64,
    /// How often it failed or timed out.
    pub failed: u64,
    /// How often it was due and left out.
    pub left_out: u64,
    /// How it last ended.
    pub last: Option<TaskEnd>,
    /// How the last runs ended that somebody had ordered, the newest last.
    pub out_of_turn: Vec<TaskEnd>,
}

/// How a task's run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEnd {
    /// Which run.
    pub run: RunId,
    /// When.
    pub at: Time,
    /// How long it ran.
    pub took: Duration,
    /// Its exit code, as a shell has it; 124 when it ran past its timeout, 143 when it was cut short.
    pub code: u8,
    /// What went wrong.
    pub error: Option<String>,
}

/// A container's part in an election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElectionStatus {
    /// The election's name.
    pub name: String,
    /// The candidate's.
    pub id: String,
    /// `leader` or `replica`.
    pub role: String,
    /// Whether main acts as leader: `on_promote`, if there is one, has succeeded.
    pub promoted: bool,
    /// What it is doing, for people.
    pub doing: String,
    /// Who leads, as far as is known.
    pub leader: Option<LeaderStatus>,
    /// How often this container came to lead.
    pub leaderships: u64,
    /// Why the catalog can't be asked now, or the lock can't be written.
    pub error: Option<String>,
    /// What keeps it from being promoted although it holds the lock, if ranks do.
    pub ranks: Option<RanksStatus>,
    /// Whether a person had it lead for this term although it knew too few ranks.
    pub loss_accepted: bool,
    /// By what this container's end is known on its host, if the config says so.
    pub witness: Option<WitnessStatus>,
}

/// Which ranks a winner knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RanksStatus {
    /// Whose ranks are known, its own included.
    pub known: Vec<String>,
    /// How many are needed.
    pub quorum: Option<usize>,
    /// Other candidates known by name.
    pub missing: Vec<String>,
    /// One that is further ahead, and doesn't take the lock now.
    pub ahead: Option<String>,
    /// Why its own rank isn't known, if it isn't.
    pub own_missing: Option<String>,
    /// Since when it waits.
    pub waiting_since: Time,
}

impl RanksStatus {
    /// How many more are needed; one where a higher one is known.
    pub fn lacking(&self) -> usize {
        let needed = self.quorum.unwrap_or(1);
        needed.saturating_sub(self.known.len()).max(usize::from(self.ahead.is_some()))
    }
}

/// By what a container's end is known on its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessStatus {
    /// Where the containers of the host have their files.
    pub directory: String,
    /// Whether this container's is there for others. Otherwise its end costs the lease.
    pub stands: bool,
    /// Why not, once that is known.
    pub error: Option<String>,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderStatus {
    /// The candidate.
    pub id: String,
    /// Where it can be reached, `host:port`.
    pub address: Option<String>,
    /// For which term: the fencing token.
    pub term: Term,
    /// Whether it acts: its promotion has succeeded.
    pub acts: bool,
}

/// Maintenance under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceStatus {
    /// When it began.
    pub since: Time,
    /// When it ends by itself, if it does.
    pub until: Option<Time>,
    /// Why, if somebody said so.
    pub reason: Option<String>,
}

/// How often a hook was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HookCount {
    /// How often it succeeded.
    pub succeeded: u64,
    /// How often it failed or timed out.
    pub failed: u64,
}
