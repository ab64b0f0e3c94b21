//! A status as `/status` tells it: its names are an interface, the core's own may change. And what of it has a date, since
//! the core knows the kernel's time only, and people want the calendar's.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::clock;
use crate::supervisor::machines::election::record::Term;
use crate::supervisor::vocabulary::{
    CheckStatus, CoprocessStatus, ElectionStatus, ExitStatus, HookCount, LeaderStatus, MainStatus, MaintenanceStatus,
    Phase, Pid, RanksStatus, SensorStatus, ServiceReport, Status, TaskEnd, TaskStatus, Time, WatchStatus,
    WitnessStatus,
};

/// A status as `/status` tells it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StatusBody<'a> {
    /// Where in its life the container is.
    phase: PhaseName,
    /// What it is doing or waiting for there, for people.
    doing: &'a str,
    /// The main process.
    main: Main<'a>,
    /// Each coprocess.
    coprocesses: Vec<Coprocess<'a>>,
    /// Each health check.
    health: Vec<Check<'a>>,
    /// Each service.
    services: Vec<Service<'a>>,
    /// Each watch.
    watches: Vec<Watch<'a>>,
    /// Each sensor.
    sensors: Vec<Sensor<'a>>,
    /// Its part in an election.
    election: Option<Election<'a>>,
    /// Whether main doesn't run because another container leads, and could be started as soon as this one does.
    standing_by: bool,
    /// How often each hook was run, and failed.
    hooks: BTreeMap<&'a str, Hook>,
    /// Its maintenance, if it is in any.
    maintenance: Option<Maintenance<'a>>,
    /// Which ranks this container knows, while it holds its election's lock and isn't promoted for want of others.
    ranks: Option<Ranks<'a>>,
    /// Each task.
    tasks: Vec<Task<'a>>,
}

impl<'a> StatusBody<'a> {
    /// Dated now: a calendar that was set right meanwhile counts.
    pub fn of(status: &'a Status) -> StatusBody<'a> {
        StatusBody {
            phase: PhaseName::of(status.phase),
            doing: &status.doing,
            main: Main::of(&status.main),
            coprocesses: status.coprocesses.iter().map(Coprocess::of).collect(),
            health: status.health.iter().map(Check::of).collect(),
            services: status.services.iter().map(Service::of).collect(),
            watches: status.watches.iter().map(Watch::of).collect(),
            sensors: status.sensors.iter().map(Sensor::of).collect(),
            election: status.election.as_ref().map(Election::of),
            standing_by: status.standing_by,
            hooks: status.hooks.iter().map(|(name, count)| (name.as_str(), Hook::of(count))).collect(),
            maintenance: status.maintenance.as_ref().map(Maintenance::of),
            ranks: status.election.as_ref().and_then(|election| election.ranks.as_ref()).map(Ranks::of),
            tasks: status.tasks.iter().map(Task::of).collect(),
        }
    }
}

/// Where in its life a container is.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum PhaseName {
    /// Main has not been started yet.
    Starting,
    /// Main doesn't run, for another container leads; it could be started as soon as this one does.
    Standby,
    /// Main runs, or will again.
    Running,
    /// The stop sequence runs.
    Stopping,
}

impl PhaseName {
    fn of(phase: Phase) -> PhaseName {
        match phase {
            Phase::Starting => PhaseName::Starting,
            Phase::Standby => PhaseName::Standby,
            Phase::Running => PhaseName::Running,
            Phase::Stopping => PhaseName::Stopping,
        }
    }
}

/// How a process ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LastExit {
    /// Its exit code; that of a signal is 128 and its number.
    code: u8,
    /// Which signal killed it, if one did.
    signal: Option<String>,
}

impl LastExit {
    fn of(status: ExitStatus) -> LastExit {
        let signal = match status {
            ExitStatus::Exited(_) => None,
            ExitStatus::Killed(signal) => Some(signal.to_string()),
        };
        LastExit { code: status.code(), signal }
    }
}

/// The main process.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Main<'a> {
    /// Its process id while it runs.
    pid: Option<Pid>,
    /// How often it was started again.
    restarts: u64,
    /// How it last ended.
    last_exit: Option<LastExit>,
    /// What it said of itself by sd_notify `STATUS=`.
    notified: Option<&'a str>,
    /// It said `RELOADING=1`, and no `READY=1` since.
    reloading: bool,
    /// It is told to stop, or about to be, or said `STOPPING=1`.
    stopping: bool,
}

impl<'a> Main<'a> {
    fn of(status: &'a MainStatus) -> Main<'a> {
        Main {
            pid: status.pid,
            restarts: status.restarts,
            last_exit: status.last_exit.map(LastExit::of),
            notified: status.notified.as_deref(),
            reloading: status.reloading,
            stopping: status.stopping,
        }
    }
}

/// A process supervised beside main.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Coprocess<'a> {
    /// Its name.
    name: &'a str,
    /// What it is, for people.
    state: &'a str,
    /// Its process id while it runs.
    pid: Option<Pid>,
    /// Whether it runs and is ready.
    ready: bool,
    /// How often it was started again.
    restarts: u64,
    /// How it last ended.
    last_exit: Option<LastExit>,
    /// Why it was given up, or isn't ready.
    error: Option<&'a str>,
}

impl<'a> Coprocess<'a> {
    fn of(status: &'a CoprocessStatus) -> Coprocess<'a> {
        Coprocess {
            name: &status.name,
            state: &status.state,
            pid: status.pid,
            ready: status.ready,
            restarts: status.restarts,
            last_exit: status.last_exit.map(LastExit::of),
            error: status.error.as_deref(),
        }
    }
}

/// A health check.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Check<'a> {
    /// Its name.
    name: &'a str,
    /// The coprocess that it checks; `None` is main.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<&'a str>,
    /// Whether it passes.
    passing: bool,
    /// Whether main is unhealthy while it doesn't.
    counts: bool,
    /// What it last said.
    note: &'a str,
    /// How many runs passed.
    passed: u64,
    /// How many runs failed.
    failed: u64,
}

impl<'a> Check<'a> {
    fn of(status: &'a CheckStatus) -> Check<'a> {
        Check {
            name: &status.name,
            of: status.of.as_deref(),
            passing: status.passing,
            counts: status.counts,
            note: &status.note,
            passed: status.passed,
            failed: status.failed,
        }
    }
}

/// A service.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Service<'a> {
    /// Its id in the catalog.
    id: &'a str,
    /// Its name.
    name: &'a str,
    /// What it is: passing, critical, draining or maintenance.
    status: &'static str,
    /// Whether the catalog says so.
    published: bool,
    /// Why the catalog couldn't be told.
    error: Option<&'a str>,
    /// The address it was last registered with.
    address: Option<&'a str>,
    /// Why that one.
    address_because: Option<&'a str>,
}

impl<'a> Service<'a> {
    fn of(status: &'a ServiceReport) -> Service<'a> {
        Service {
            id: &status.id,
            name: &status.name,
            status: status.status,
            published: status.published,
            error: status.error.as_deref(),
            address: status.address.as_deref(),
            address_because: status.address_because.as_deref(),
        }
    }
}

/// A watch.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Watch<'a> {
    /// Its name.
    name: &'a str,
    /// How many instances or keys it sees; nothing before the first answer.
    seen: Option<usize>,
    /// How many changes were acted on.
    changes: u64,
    /// Since when its template is rendered or put in place, while it is.
    making_since: Option<String>,
    /// Why the catalog can't be asked now, or what was seen not be acted on yet.
    error: Option<&'a str>,
}

impl<'a> Watch<'a> {
    fn of(status: &'a WatchStatus) -> Watch<'a> {
        Watch {
            name: &status.name,
            seen: status.seen,
            changes: status.changes,
            making_since: status.making_since.map(date),
            error: status.error.as_deref(),
        }
    }
}

/// A sensor.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Sensor<'a> {
    /// The metric's name.
    name: &'a str,
    /// How many values it has.
    values: usize,
    /// How often it measured well.
    succeeded: u64,
    /// How often it failed, timed out or printed garbage.
    failed: u64,
    /// What is wrong with it now.
    error: Option<&'a str>,
}

impl<'a> Sensor<'a> {
    fn of(status: &'a SensorStatus) -> Sensor<'a> {
        Sensor {
            name: &status.name,
            values: status.values,
            succeeded: status.succeeded,
            failed: status.failed,
            error: status.error.as_deref(),
        }
    }
}

/// A container's part in an election.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Election<'a> {
    /// The election's name.
    name: &'a str,
    /// The candidate's.
    id: &'a str,
    /// `leader` or `replica`.
    role: &'a str,
    /// Whether main acts as leader: `on_promote`, if there is one, has succeeded.
    promoted: bool,
    /// What it is doing, for people.
    doing: &'a str,
    /// Who leads, as far as is known.
    leader: Option<Leader<'a>>,
    /// How often this container came to lead.
    leaderships: u64,
    /// Why the catalog can't be asked now.
    error: Option<&'a str>,
    /// Whether a person had it lead for this term although it knew too few ranks.
    loss_accepted: bool,
    /// By what this container's end is known on its host, if the config says so.
    witness: Option<Witness<'a>>,
}

impl<'a> Election<'a> {
    fn of(status: &'a ElectionStatus) -> Election<'a> {
        Election {
            name: &status.name,
            id: &status.id,
            role: &status.role,
            promoted: status.promoted,
            doing: &status.doing,
            leader: status.leader.as_ref().map(Leader::of),
            leaderships: status.leaderships,
            error: status.error.as_deref(),
            loss_accepted: status.loss_accepted,
            witness: status.witness.as_ref().map(Witness::of),
        }
    }
}

/// Which ranks a winner knows.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Ranks<'a> {
    /// Whose ranks are known, its own included.
    known: &'a [String],
    /// How many are needed.
    quorum: Option<usize>,
    /// Other candidates known by name.
    missing: &'a [String],
    /// One that is further ahead, and doesn't take the lock now.
    ahead: Option<&'a str>,
    /// Why its own rank isn't known, if it isn't.
    own_missing: Option<&'a str>,
    /// Since when it waits.
    since: String,
}

impl<'a> Ranks<'a> {
    /// Dated now.
    fn of(status: &'a RanksStatus) -> Ranks<'a> {
        Ranks {
            known: &status.known,
            quorum: status.quorum,
            missing: &status.missing,
            ahead: status.ahead.as_deref(),
            own_missing: status.own_missing.as_deref(),
            since: date(status.waiting_since),
        }
    }
}

/// By what a container's end is known on its host.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Witness<'a> {
    /// Where the containers of the host have their files.
    directory: &'a str,
    /// Whether this container's is there for others. Otherwise its end costs the lease.
    stands: bool,
    /// Why not, once that is known.
    error: Option<&'a str>,
}

impl<'a> Witness<'a> {
    fn of(status: &'a WitnessStatus) -> Witness<'a> {
        Witness { directory: &status.directory, stands: status.stands, error: status.error.as_deref() }
    }
}

/// Who leads.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Leader<'a> {
    /// The candidate.
    id: &'a str,
    /// Where it can be reached, `host:port`.
    address: Option<&'a str>,
    /// For which term: the fencing token.
    term: Term,
    /// Whether it acts: its promotion has succeeded.
    acts: bool,
}

impl<'a> Leader<'a> {
    fn of(status: &'a LeaderStatus) -> Leader<'a> {
        Leader { id: &status.id, address: status.address.as_deref(), term: status.term, acts: status.acts }
    }
}

/// How often a hook was run.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Hook {
    /// How often it succeeded.
    succeeded: u64,
    /// How often it failed or timed out.
    failed: u64,
}

impl Hook {
    fn of(status: &HookCount) -> Hook {
        Hook { succeeded: status.succeeded, failed: status.failed }
    }
}

/// Maintenance under way; its times as RFC 3339 has them, in UTC.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Maintenance<'a> {
    /// When it began.
    since: String,
    /// When it ends by itself, if it does.
    until: Option<String>,
    /// Why, if somebody said so.
    reason: Option<&'a str>,
}

impl<'a> Maintenance<'a> {
    /// Dated now.
    pub fn of(status: &'a MaintenanceStatus) -> Maintenance<'a> {
        Maintenance { since: date(status.since), until: status.until.map(date), reason: status.reason.as_deref() }
    }
}

/// A task; its times as maintenance's are.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Task<'a> {
    /// Its name.
    name: &'a str,
    /// Whether it runs now.
    running: bool,
    /// When it is due next, if that is known.
    next: Option<String>,
    /// How many runs succeeded.
    succeeded: u64,
    /// How many runs failed.
    failed: u64,
    /// How often it was due and not run.
    left_out: u64,
    /// Its last run.
    last: Option<LastRun<'a>>,
    /// The last runs of `pilotfish task run` that have ended, 16 at most, the newest last.
    out_of_turn: Vec<LastRun<'a>>,
}

/// How a task's run ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LastRun<'a> {
    /// Its number; no other run has it.
    run: u64,
    /// When it ended.
    ended: String,
    /// How long it ran.
    seconds: f64,
    /// Its exit code; 124 when it ran past its timeout, 143 when it was cut short.
    code: u8,
    /// What went wrong.
    error: Option<&'a str>,
}

impl<'a> LastRun<'a> {
    fn of(end: &'a TaskEnd) -> LastRun<'a> {
        LastRun {
            run: end.run.0,
            ended: date(end.at),
            seconds: end.took.as_millis() as f64 / 1e3,
            code: end.code,
            error: end.error.as_deref(),
        }
    }
}

impl<'a> Task<'a> {
    /// Dated now.
    pub fn of(status: &'a TaskStatus) -> Task<'a> {
        Task {
            name: &status.name,
            running: status.running,
            next: status.next.map(date),
            succeeded: status.succeeded,
            failed: status.failed,
            left_out: status.left_out,
            last: status.last.as_ref().map(LastRun::of),
            out_of_turn: status.out_of_turn.iter().map(LastRun::of).collect(),
        }
    }

    /// In one line: what it does now or did last, and when it comes next.
    pub fn lines(&self) -> [String; 2] {
        let last = match &self.last {
            Some(last) => format!("code {} at {} after {} s", last.code, last.ended, last.seconds),
            None => "hasn't run yet".to_owned(),
        };
        let next = match &self.next {
            _ if self.running => "runs".to_owned(),
            Some(next) => format!("next at {next}"),
            None => "waits for its turn".to_owned(),
        };
        [last, next]
    }
}

pub(super) fn date(time: Time) -> String {
    humantime::format_rfc3339_seconds(clock::calendar(time)).to_string()
}

impl fmt::Display for Maintenance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in maintenance since {}", self.since)?;
        if let Some(until) = &self.until {
            write!(f, " until {until}")?;
        }
        self.reason.map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn times_are_dates() {
        let now = clock::now();
        let maintenance = MaintenanceStatus { since: now, until: None, reason: Some("disk".to_owned()) };
        let mut status = Status { maintenance: Some(maintenance), ..Status::default() };
        let json = serde_json::to_value(StatusBody::of(&status)).unwrap();
        assert_eq!((json["phase"].as_str(), json["maintenance"]["reason"].as_str()), (Some("starting"), Some("disk")));
        let since = humantime::parse_rfc3339(json["maintenance"]["since"].as_str().unwrap()).unwrap();
        let age = SystemTime::now().duration_since(since).unwrap();
        assert!(age < Duration::from_secs(60), "{age:?}");
        status.maintenance = None;
        assert!(serde_json::to_value(StatusBody::of(&status)).unwrap()["maintenance"].is_null());
    }

    #[test]
    fn a_tasks_last_run_has_its_date_its_length_and_its_code() {
        use crate::supervisor::vocabulary::RunId;
        let (at, took) = (clock::now(), Duration::from_millis(1_500));
        let last = TaskEnd { run: RunId(9), at, took, code: 3, error: Some("exited with code 3".to_owned()) };
        let task = TaskStatus {
            name: "backup".to_owned(),
            running: false,
            next: Some(at + Duration::from_secs(60)),
            succeeded: 1,
            failed: 2,
            left_out: 3,
            last: Some(last.clone()),
            out_of_turn: vec![TaskEnd { run: RunId(7), ..last }],
        };
        let status = Status { tasks: vec![task], ..Status::default() };
        let json = serde_json::to_value(StatusBody::of(&status)).unwrap();
        let task = &json["tasks"][0];
        assert_eq!(
            (&task["last"]["code"], &task["last"]["seconds"], &task["last"]["run"]),
            (&3.into(), &1.5.into(), &9.into())
        );
        assert_eq!(task["out_of_turn"][0]["run"], 7);
        let date = |text: &serde_json::Value| humantime::parse_rfc3339(text.as_str().unwrap()).unwrap();
        assert_eq!(date(&task["next"]).duration_since(date(&task["last"]["ended"])).unwrap().as_secs(), 60);
        let [last, next] = Task::of(&status.tasks[0]).lines();
        assert!(last.starts_with("code 3 at 20") && last.ends_with(" after 1.5 s"), "{last}");
        assert!(next.starts_with("next at 20"), "{next}");
    }

    #[test]
    fn maintenance_is_a_sentence() {
        let (since, until) = ("2026-11-25T10:00:00Z".to_owned(), Some("2026-11-25T11:00:00Z".to_owned()));
        let mut maintenance = Maintenance { since, until, reason: Some("disk") };
        assert_eq!(
            maintenance.to_string(),
            "in maintenance since 2026-11-25T10:00:00Z until 2026-11-25T11:00:00Z: disk"
        );
        (maintenance.until, maintenance.reason) = (None, None);
        assert_eq!(maintenance.to_string(), "in maintenance since 2026-11-25T10:00:00Z");
    }
}
