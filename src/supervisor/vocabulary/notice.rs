//! The event vocabulary: each thing the agent tells people, once, with one name and one text (in `sentence.rs`).

use std::time::Duration;

use crate::config::{Level, Signal};

use super::{ExitStatus, Job, Pid, ServiceStatus};
use crate::supervisor::machines::election::DemotionReason;
use crate::supervisor::machines::election::record::Term;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// Main runs.
    MainStarted {
        /// Its process id.
        pid: Pid,
    },
    /// Main couldn't be started.
    MainFailedToStart {
        /// Which step failed, and why.
        error: String,
    },
    /// Main said by sd_notify that it is on its way out.
    MainStopsItself,
    /// Main ended.
    MainExited {
        /// How.
        status: ExitStatus,
    },
    /// Main ended but left processes behind.
    MainWentToBackground {
        /// How many.
        left: usize,
        /// Whether they are followed (or ended).
        followed: bool,
        /// Whether main ended by itself and well, as what goes to the background does, and isn't followed yet.
        by_itself: bool,
    },
    /// A process that main left is main from now on.
    MainFollowed {
        /// Its process id.
        pid: Pid,
    },
    /// Somebody wants main to be started again.
    RestartOrdered,
    /// Main will be started again.
    MainRestarting {
        /// The pause before it.
        after: Duration,
        /// How many restarts the window has seen, this one included.
        attempt: u32,
        /// How many it may see.
        max: u32,
    },
    /// Main ended too often.
    RestartBudgetSpent {
        /// How many restarts...
        max: u32,
        /// ...within how long.
        within: Duration,
    },
    /// A coprocess runs.
    CoprocessStarted {
        /// Which.
        name: String,
        /// Its process id.
        pid: Pid,
    },
    /// A coprocess couldn't be started.
    CoprocessFailedToStart {
        /// Which.
        name: String,
        /// Why.
        error: String,
    },
    /// A coprocess is ready.
    CoprocessReady {
        /// Which.
        name: String,
        /// How long that took from its start.
        took: Duration,
    },
    /// A coprocess wasn't ready in time.
    CoprocessNotReady {
        /// Which.
        name: String,
        /// How long it had.
        within: Duration,
        /// What its `ready` heard last.
        because: Option<String>,
    },
    /// The process of a coprocess ended.
    CoprocessExited {
        /// Which.
        name: String,
        /// How.
        status: ExitStatus,
    },
    /// A daemon that the launcher of a coprocess left behind is the coprocess from now on.
    CoprocessFollowed {
        /// Which.
        name: String,
        /// Its process id.
        pid: Pid,
    },
    /// A coprocess starts again after a pause.
    CoprocessRestarting {
        /// Which.
        name: String,
        /// The pause.
        after: Duration,
        /// Which restart of the window this is.
        attempt: u32,
        /// How many there may be.
        max: u32,
    },
    /// A coprocess isn't started again.
    CoprocessGivenUp {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// A coprocess was told to stop.
    CoprocessTold {
        /// Which.
        name: String,
        /// The signal.
        signal: Signal,
    },
    /// Somebody wants a coprocess to be started again.
    CoprocessRestartOrdered {
        /// Which.
        name: String,
    },
    /// Somebody sends a coprocess a signal.
    CoprocessSignalled {
        /// Which.
        name: String,
        /// The signal.
        signal: Signal,
    },
    /// Somebody sends main a signal.
    MainSignalled {
        /// The signal.
        signal: Signal,
    },
    /// A signal is passed on to main.
    SignalForwarded {
        /// As it came.
        received: Signal,
        /// As it goes.
        sent: Signal,
    },
    /// Stopping began.
    Stopping {
        /// Why.
        reason: String,
        /// How long it may take; `None` is without limit.
        within: Option<Duration>,
    },
    /// Main was told to stop.
    MainTold {
        /// The signal.
        signal: Signal,
    },
    /// Main, or what it left behind, didn't stop in time.
    Killing {
        /// What is killed.
        what: String,
    },
    /// A hook or task started.
    HookStarted {
        /// Which.
        hook: Job,
    },
    /// A hook or task ended with code 0.
    HookSucceeded {
        /// Which.
        hook: Job,
        /// How long it took.
        took: Duration,
    },
    /// A hook or task failed.
    HookFailed {
        /// Which.
        hook: Job,
        /// How.
        error: String,
    },
    /// A hook or task ran past its timeout.
    HookTimedOut {
        /// Which.
        hook: Job,
        /// Its timeout.
        timeout: Duration,
    },
    /// A hook or task was cut short: the container stops, or the role that it ran for is gone.
    HookSkipped {
        /// Which.
        hook: Job,
    },
    /// `pre_start` will be tried again.
    HookRetrying {
        /// Which.
        hook: Job,
        /// The pause before it.
        after: Duration,
    },
    /// A task was due and isn't run; said once until it runs again.
    TaskLeftOut {
        /// Which.
        task: Job,
        /// Why.
        because: &'static str,
    },
    /// A sensor fails, prints garbage or more than is kept; said when that begins.
    SensorFailed {
        /// Which.
        sensor: String,
        /// What is wrong.
        error: String,
    },
    /// A sensor is as it should be again.
    SensorBack {
        /// Which.
        sensor: String,
    },
    /// Waiting for something before `pre_start`.
    Waiting {
        /// For what.
        what: String,
    },
    /// What was waited for is so.
    Waited {
        /// For what.
        what: String,
    },
    /// A check passes, or is critical, and wasn't before.
    CheckChanged {
        /// Which.
        check: String,
        /// Healthy now, or what is wrong.
        error: Option<String>,
    },
    /// A check failed but doesn't count yet.
    CheckFailing {
        /// Which.
        check: String,
        /// What is wrong.
        error: String,
        /// Why it doesn't count.
        because: &'static str,
    },
    /// A service's status in the catalog changed.
    Published {
        /// Its id.
        service: String,
        /// Its status.
        status: &'static str,
    },
    /// A service is registered with this address, for the first time or in place of another.
    Advertised {
        /// Its id.
        service: String,
        /// The address.
        address: String,
        /// Why that one.
        why: String,
    },
    /// A service's entry was removed.
    Withdrawn {
        /// Its id.
        service: String,
    },
    /// The container ends, and the catalog may still hold a service's entry.
    EntryLeft {
        /// Its id.
        service: String,
        /// What it says there, as far as is known.
        status: Option<&'static str>,
        /// For how long, at most, before the catalog takes it for dead.
        ttl: Duration,
        /// Why, if the catalog said so.
        because: Option<String>,
    },
    /// The container ends, and the store may still hold its lock.
    LockLeft {
        /// The election.
        election: String,
        /// For about how long, while the store is up.
        lease: Duration,
        /// What went wrong, if the store said so.
        because: Option<String>,
    },
    /// Something asked of the catalog failed, and is tried again.
    CatalogFailed {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: String,
    },
    /// The catalog answers again.
    CatalogBack {
        /// What works again.
        what: String,
    },
    /// A dependency changed.
    DependencyChanged {
        /// The watch's name.
        watch: String,
        /// Who came, left or is not as before.
        what: String,
    },
    /// A template's file changed.
    TemplateWritten {
        /// The watch's name.
        watch: String,
        /// The file.
        destination: String,
    },
    /// A template takes long, because of its text or of where its files are. Others don't wait for it; it fails after
    /// 10 s.
    TemplateSlow {
        /// The watch's name.
        watch: String,
        /// The file.
        destination: String,
        /// How long it has taken so far.
        after: Duration,
    },
    /// The catalog gave no answer, or an empty one as it came back, and a template's file was there.
    TemplateKept {
        /// The watch's name.
        watch: String,
        /// The file.
        destination: String,
    },
    /// A template couldn't be made a file.
    TemplateFailed {
        /// The watch's name.
        watch: String,
        /// Why; the old file stays.
        error: String,
    },
    /// The config was read again, and counts from now on.
    Reloaded {
        /// What changed.
        changed: Vec<String>,
        /// What changed but counts at main's next start only.
        later: Vec<String>,
    },
    /// The config couldn't be read again; the old one stays.
    ReloadFailed {
        /// The whole report.
        error: String,
    },
    /// Something is not as it should be, and the agent goes on.
    Degraded {
        /// What, and what follows.
        what: String,
    },
    /// Nobody on this host could learn at once that this container is gone.
    WitnessLost {
        /// Why.
        error: String,
    },
    /// Others on this host could again learn at once that this container is gone.
    WitnessBack,
    /// A leader steps down, or a winner doesn't lead.
    Demoting {
        /// Why.
        why: DemotionReason,
    },
    /// The one that the lock was given back for hasn't taken it.
    HandoverFailed {
        /// Which.
        to: String,
        /// How long it was left to it.
        within: Duration,
    },
    /// `on_leader_change` failed: main is stopped, and prepared again for the leader there is.
    ReplicaRemade {
        /// How it failed.
        error: String,
    },
    /// It holds the lock and isn't promoted: it knows too few ranks, or of one that is higher and doesn't take the lock. Said
    /// once for a term.
    RanksMissing {
        /// Whose ranks are known.
        known: Vec<String>,
        /// How many are needed.
        quorum: Option<usize>,
        /// Other candidates known by name.
        missing: Vec<String>,
        /// One that is further ahead.
        ahead: Option<String>,
        /// Its own data must never lead.
        never: bool,
    },
    /// Enough ranks are known now.
    RanksKnown {
        /// Whose.
        known: Vec<String>,
    },
    /// A person has it lead, though it may lack what was acknowledged.
    AcceptsLoss {
        /// For which term.
        term: Term,
        /// Whose ranks were known.
        known: Vec<String>,
    },
    /// This container has won the lock, nobody else acts any more, and its main is promoted.
    Promoting {
        /// For which term.
        term: Term,
    },
    /// This container leads: its main has been promoted.
    Leads {
        /// For which term.
        term: Term,
    },
    /// Another container leads, or nobody.
    LeaderChanged {
        /// Who.
        id: Option<String>,
        /// Where it can be reached.
        address: Option<String>,
    },
    /// The lock's value isn't a record of an agent's: somebody has written there, or another program locks the key.
    LockForeign {
        /// The election.
        election: String,
        /// The key, as the store has it.
        key: String,
        /// Whether it stays so until somebody deletes the key.
        stays: bool,
    },
    /// The container led before it was started again, and the lock isn't free yet.
    FormerLifeHolds,
    /// Another container has this one's id in the election and holds the lock; or the lock has been held under this id
    /// for longer than the container's last run could. Said once.
    IdShared {
        /// The id.
        id: String,
        /// It is another container: it is in this network namespace.
        certainly: bool,
    },
    /// The kernel said that nothing is left of the leader's container, and its lock was freed.
    Certified {
        /// Who led.
        id: String,
        /// For which term.
        term: Term,
    },
    /// The store couldn't do what the election asked of it.
    ElectionFailed {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: String,
    },
    /// The store promises too little for anyone to lead by.
    LeaseTooShort {
        /// How long a leader might act on it.
        usable: Duration,
        /// How long it must be.
        least: Duration,
    },
    /// The store gives a term that isn't above one seen before.
    TermWentBack {
        /// Which it gives.
        term: Term,
        /// Which was seen.
        seen: Term,
    },
    /// Maintenance began, or its end or reason has changed.
    MaintenanceBegan {
        /// For how long; `None`: until somebody ends it.
        lasts: Option<Duration>,
        /// Why, if somebody said so.
        reason: Option<String>,
    },
    /// Maintenance is over.
    MaintenanceEnded {
        /// Why.
        because: &'static str,
    },
    /// The container's end.
    Ended {
        /// Its exit code.
        code: u8,
        /// Why, in one line.
        reason: String,
        /// Whether somebody asked for it: then a code that isn't 0 (143, say) is no alarm.
        asked: bool,
    },
}

impl Notice {
    /// Its name in logs and events, stable across versions.
    pub fn name(&self) -> &'static str {
        self.face().0
    }

    /// How important it is.
    pub fn level(&self) -> Level {
        self.face().1
    }

    fn face(&self) -> (&'static str, Level) {
        use Level::{Debug, Error, Info, Warn};
        match self {
            Notice::MainStarted { .. } => ("main.started", Info),
            Notice::MainFailedToStart { .. } => ("main.failed_to_start", Error),
            Notice::MainStopsItself => ("main.stopping", Info),
            Notice::MainExited { .. } => ("main.exited", Info),
            Notice::MainWentToBackground { .. } => ("main.background", Warn),
            Notice::MainFollowed { .. } => ("main.followed", Info),
            Notice::RestartOrdered => ("main.restart_ordered", Info),
            Notice::MainRestarting { .. } => ("main.restarting", Warn),
            Notice::RestartBudgetSpent { .. } => ("main.restart_budget_spent", Error),
            Notice::CoprocessStarted { .. } => ("coprocess.started", Info),
            Notice::CoprocessFailedToStart { .. } => ("coprocess.failed_to_start", Error),
            Notice::CoprocessReady { .. } => ("coprocess.ready", Info),
            Notice::CoprocessNotReady { .. } => ("coprocess.not_ready", Error),
            Notice::CoprocessExited { .. } => ("coprocess.exited", Info),
            Notice::CoprocessFollowed { .. } => ("coprocess.followed", Info),
            Notice::CoprocessRestarting { .. } => ("coprocess.restarting", Warn),
            Notice::CoprocessGivenUp { .. } => ("coprocess.given_up", Error),
            Notice::CoprocessTold { .. } => ("coprocess.told", Info),
            Notice::CoprocessRestartOrdered { .. } => ("coprocess.restart_ordered", Info),
            Notice::CoprocessSignalled { .. } => ("coprocess.signalled", Info),
            Notice::MainSignalled { .. } => ("main.signalled", Info),
            Notice::SignalForwarded { .. } => ("signal.forwarded", Debug),
            Notice::Stopping { .. } => ("stop.started", Info),
            Notice::MainTold { .. } => ("stop.main_told", Info),
            Notice::Killing { .. } => ("stop.killing", Warn),
            Notice::HookStarted { hook, .. } if hook.is_task() => ("task.started", Debug),
            Notice::HookStarted { .. } => ("hook.started", Debug),
            Notice::HookSucceeded { hook, .. } if hook.is_task() => ("task.succeeded", Info),
            Notice::HookSucceeded { .. } => ("hook.succeeded", Info),
            Notice::HookFailed { hook, .. } if hook.is_task() => ("task.failed", Error),
            Notice::HookFailed { .. } => ("hook.failed", Error),
            Notice::HookTimedOut { hook, .. } if hook.is_task() => ("task.timed_out", Error),
            Notice::HookTimedOut { .. } => ("hook.timed_out", Error),
            Notice::HookSkipped { hook, .. } if hook.is_task() => ("task.skipped", Warn),
            Notice::HookSkipped { .. } => ("hook.skipped", Warn),
            Notice::HookRetrying { .. } => ("hook.retrying", Warn),
            Notice::TaskLeftOut { .. } => ("task.left_out", Warn),
            Notice::SensorFailed { .. } => ("sensor.failed", Warn),
            Notice::SensorBack { .. } => ("sensor.back", Info),
            Notice::Waiting { .. } => ("wait.started", Info),
            Notice::Waited { .. } => ("wait.done", Info),
            Notice::CheckChanged { error: None, .. } => ("health.passing", Info),
            Notice::CheckChanged { error: Some(_), .. } => ("health.critical", Warn),
            Notice::CheckFailing { .. } => ("health.failing", Debug),
            Notice::Published { .. } => ("catalog.published", Info),
            Notice::Advertised { .. } => ("catalog.advertised", Info),
            Notice::Withdrawn { .. } => ("catalog.withdrawn", Info),
            Notice::EntryLeft { .. } => ("catalog.left_behind", Warn),
            Notice::LockLeft { .. } => ("election.left_behind", Warn),
            Notice::CatalogFailed { .. } => ("catalog.failed", Warn),
            Notice::CatalogBack { .. } => ("catalog.back", Info),
            Notice::DependencyChanged { .. } => ("watch.changed", Info),
            Notice::TemplateWritten { .. } => ("template.written", Info),
            Notice::TemplateSlow { .. } => ("template.slow", Warn),
            Notice::TemplateKept { .. } => ("template.kept", Warn),
            Notice::TemplateFailed { .. } => ("template.failed", Error),
            Notice::Reloaded { .. } => ("config.reloaded", Info),
            Notice::ReloadFailed { .. } => ("config.reload_failed", Error),
            Notice::Degraded { .. } => ("degraded", Warn),
            Notice::WitnessLost { .. } => ("degraded", Warn),
            Notice::WitnessBack => ("election.witness_back", Info),
            Notice::Demoting { why } if why.is_ordered() => ("election.demoting", Info),
            Notice::Demoting { .. } => ("election.demoting", Warn),
            Notice::HandoverFailed { .. } => ("election.handover_failed", Warn),
            Notice::ReplicaRemade { .. } => ("main.prepared_anew", Warn),
            Notice::RanksMissing { .. } => ("election.ranks_missing", Warn),
            Notice::RanksKnown { .. } => ("election.ranks_known", Info),
            Notice::AcceptsLoss { .. } => ("election.accepts_loss", Warn),
            Notice::Promoting { .. } => ("election.promoting", Info),
            Notice::Leads { .. } => ("election.leads", Info),
            Notice::LeaderChanged { .. } => ("election.leader_changed", Info),
            Notice::LockForeign { .. } => ("election.lock_foreign", Warn),
            Notice::FormerLifeHolds => ("election.former_life", Info),
            Notice::IdShared { .. } => ("election.id_shared", Warn),
            Notice::Certified { .. } => ("election.certified", Info),
            Notice::ElectionFailed { .. } => ("election.failed", Warn),
            Notice::LeaseTooShort { .. } => ("election.lease_too_short", Error),
            Notice::TermWentBack { .. } => ("election.term_went_back", Error),
            Notice::MaintenanceBegan { .. } => ("maintenance.began", Info),
            Notice::MaintenanceEnded { .. } => ("maintenance.ended", Info),
            Notice::Ended { code: 0, .. } | Notice::Ended { asked: true, .. } => ("ended", Info),
            Notice::Ended { .. } => ("ended", Error),
        }
    }
}

impl ServiceStatus {
    /// Its name in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            ServiceStatus::Passing => "passing",
            ServiceStatus::Critical => "critical",
            ServiceStatus::Draining => "draining",
        }
    }

    /// The same where maintenance may keep the service out of the rotation. A service on its way out doesn't come back
    /// from maintenance.
    pub fn word(self, in_maintenance: bool) -> &'static str {
        match self {
            ServiceStatus::Passing | ServiceStatus::Critical if in_maintenance => "maintenance",
            status => status.as_str(),
        }
    }
}
