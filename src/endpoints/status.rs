//! A status as `/status` tells it: its names are an interface, the core's own may change.

use std::collections::BTreeMap;

use serde::Serialize;

use super::dated::{Maintenance, Task, date};
use crate::supervisor::machines::election::record::Term;
use crate::supervisor::vocabulary::{
    CheckStatus, CoprocessStatus, ElectionStatus, ExitStatus, HookCount, LeaderStatus, MainStatus, Phase, Pid,
    RanksStatus, SensorStatus, ServiceReport, Status, WatchStatus, WitnessStatus,
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
    /// The coprocess that it checks; left out for main.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<&'a str>,
    /// Whether it passes.
    passing: bool,
    /// Whether main is unhealthy while it doesn't pass.
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
    /// Why the catalog can't be asked now, or why what was seen can't be acted on yet.
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
    /// How many measurements succeeded.
    succeeded: u64,
    /// How many failed, timed out or printed garbage.
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
    /// Why the catalog can't be asked now, or the lock can't be written.
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
    /// Why it isn't there, once that is known.
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
