//! What the core is told: each comes from one adapter, or from a person.

use std::time::Duration;

use serde::Serialize;

use crate::config::{Loaded, Query, Signal};
use crate::supervisor::machines::election::ElectionEvent;
use crate::supervisor::machines::election::record::Term;

use super::{
    Advertised, Calendar, ElectionPast, ExitStatus, Follow, KeyRequest, Observation, Pid, ProcessId, Rendering,
    ReplyId, RunId, Secrets, SpawnError,
};

#[cfg(doc)]
use super::Effect;

/// Stands in a record behind an event that was heard before times that were over
/// ([`Supervisor::hear`](crate::supervisor::Supervisor::hear)).
pub const HEARD: &str = "heard";

/// An event from outside.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Event {
    /// The agent is up and catches signals. Comes first, and once.
    Started,
    /// A deadline of [`next_deadline`](crate::supervisor::Supervisor::next_deadline) has come.
    Tick,
    /// A signal came to the agent.
    Signal(Signal),
    /// The files of main's environment were read, or can't be (answers [`Effect::ReadFiles`]).
    FilesRead {
        /// For which run.
        run: RunId,
        /// What is in them.
        result: Result<Secrets, SpawnError>,
    },
    /// A process runs (answers [`Effect::SpawnMain`], [`Effect::Spawn`]).
    Spawned {
        /// Which run.
        run: RunId,
        /// Its process id.
        pid: Pid,
    },
    /// A process couldn't be started (answers the same).
    SpawnFailed {
        /// Which run.
        run: RunId,
        /// Why.
        error: SpawnError,
    },
    /// The process of a run has ended and is reaped. Processes it left behind may live on.
    Exited {
        /// Which run.
        run: RunId,
        /// How.
        status: ExitStatus,
    },
    /// A signal that came for main was sent to it (answers [`Effect::Forward`]).
    Forwarded {
        /// Which.
        signal: Signal,
        /// Main does something about it, or ignores it; `false` where its default ends it, or nobody knows.
        heeded: bool,
    },
    /// The terminal sent this signal to main's process group: INT or QUIT for a key, HUP because it is gone. All that main
    /// was sent comes before its [`Event::Exited`].
    FromTerminal {
        /// Main's run.
        run: RunId,
        /// Which.
        signal: Signal,
    },
    /// A run's keeper was killed: what the run started is among what main leaves, and can't be told from that.
    RunLost {
        /// Of which run.
        run: RunId,
    },
    /// What a command whose process has ended left behind: it comes right after its [`Event::Exited`], and again when
    /// nothing is left any more of what was.
    RunLeft {
        /// Which run.
        run: RunId,
        /// Something that it started lives; else nothing does.
        any: bool,
    },
    /// What a run whose output is asked for has printed on its standard output (its first 4 KiB; of a sensor 128 KiB).
    /// Comes before its [`Event::Exited`].
    Printed {
        /// Which run.
        run: RunId,
        /// What.
        text: String,
    },
    /// How many processes that main left behind are alive (answers [`Effect::CountStrays`] or
    /// [`Effect::CountRest`], and comes again when none is left).
    Strays {
        /// How many.
        left: usize,
    },
    /// A process that main left behind, and whose parent the agent is since main's end, has ended and is reaped: the last
    /// of those reaped at one time.
    StrayEnded {
        /// How.
        status: ExitStatus,
    },
    /// One of those that a launcher left behind is main, or the coprocess, from now on (answers [`Effect::FollowStray`],
    /// where any is left).
    Followed {
        /// The launcher's run.
        run: RunId,
        /// Its process id; `None`: it can't be found, there is no /proc, or who was named isn't there.
        pid: Option<Pid>,
    },
    /// A supervisor above this one wants to hear as often that the container lives (sd_watchdog_enabled(3)).
    OuterWatchdog {
        /// How often.
        every: Duration,
    },
    /// A probe came to its end (answers [`Effect::Probe`], always within its timeout and a little).
    Probed {
        /// Which run.
        run: RunId,
        /// Healthy, or what was wrong.
        result: Result<(), String>,
    },
    /// Main spoke sd_notify.
    Notified(Notification),
    /// A coprocess spoke sd_notify.
    CoprocessNotified {
        /// Its name.
        name: String,
        /// What it said.
        said: Notification,
    },
    /// The catalog is what the registration said (answers [`Effect::Publish`]), or couldn't be made so.
    Published {
        /// The service's id.
        service: String,
        /// With which address, or why not.
        result: Result<Advertised, String>,
    },
    /// The entry is gone (answers [`Effect::Withdraw`]), or couldn't be removed.
    Withdrawn {
        /// The service's id.
        service: String,
        /// Done, or why not.
        result: Result<(), String>,
    },
    /// What a follower sees: once after [`Effect::Follow`], then at each change.
    Observed {
        /// Which follower.
        follow: Follow,
        /// What it saw; `Err` when the catalog can't be asked now (the follower goes on trying by itself).
        seen: Result<Observation, String>,
    },
    /// The way to the store broke, or the store began anew, so that it may have lost what it held: said of a service before
    /// [`Observed`](Event::Observed), if that is news.
    SeenAnew {
        /// Which follower.
        follow: Follow,
    },
    /// A template was rendered (answers [`Effect::Render`]).
    Rendered {
        /// The watch's name.
        watch: String,
        /// What came of it.
        outcome: Rendering,
    },
    /// A rendered file is live (answers [`Effect::Install`]), or couldn't be put in place.
    Installed {
        /// The watch's name.
        watch: String,
        /// Done, or why not.
        result: Result<(), String>,
    },
    /// Main was signalled of a change (answers [`Effect::Hint`]), or would die of the signal.
    Hinted {
        /// The watch's name.
        watch: String,
        /// Whether it was signalled.
        sent: bool,
    },
    /// Others of the host find the file by which this container's end is known, or don't from now on.
    Witness {
        /// Why not.
        stands: Result<(), String>,
    },
    /// What the store, or the way to it, says of the election (answers [`Effect::Elect`], and what
    /// [`Effect::JoinElection`] watches).
    Election(ElectionEvent),
    /// Whether anybody has acted in the election yet (answers [`Effect::AskWhoActed`]).
    ActedBefore {
        /// The term that wants to know.
        term: Term,
        /// Whether somebody has; or why that can't be known.
        result: Result<ElectionPast, String>,
    },
    /// Whether anybody has ever begun to act in the election (answers [`Effect::AskWhetherLed`]).
    LedBefore {
        /// The term that wants to know.
        term: Term,
        /// Whether somebody has; or why that can't be known.
        result: Result<bool, String>,
    },
    /// Others can see how far this term is (answers [`Effect::TellActing`]), or can't.
    ActingTold {
        /// Which.
        term: Term,
        /// They can, or why not.
        result: Result<(), String>,
    },
    /// The guard stands (answers [`Effect::StartGuard`], or did so from the start), or has ended.
    Guard {
        /// It stands.
        stands: bool,
    },
    /// How the calendar's clock goes (answers [`Effect::FollowCalendar`]), and again when it is set.
    Calendar(Calendar),
    /// Somebody at the control endpoint asks for something.
    Control {
        /// Who waits for the answer.
        reply: ReplyId,
        /// What is asked.
        request: Request,
    },
    /// The config was read again (answers [`Effect::LoadConfig`]); the error is the full report.
    ConfigLoaded(Result<Box<Loaded>, String>),
}

/// What main said by sd_notify(3).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Notification {
    /// `READY=1`.
    pub ready: bool,
    /// `RELOADING=1`, and no `READY=1` since.
    pub reloading: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
    /// `WATCHDOG=1`.
    pub watchdog: bool,
    /// `WATCHDOG=trigger`: main finds itself unhealthy.
    pub triggered: bool,
    /// `WATCHDOG_USEC=...`: how long `WATCHDOG=1` may be missing from now on.
    pub watchdog_within: Option<Duration>,
    /// `EXTEND_TIMEOUT_USEC=...`: main starts, reloads or stops, and may take so long from now on.
    pub extend: Option<Duration>,
    /// `STATUS=...`.
    pub status: Option<String>,
    /// `MAINPID=...`: who that was then.
    pub main_pid: Option<ProcessId>,
}

impl Notification {
    /// Adds what was said later.
    pub fn add(&mut self, later: Notification) {
        self.reloading = later.reloading || (self.reloading && !later.ready);
        self.ready |= later.ready;
        self.stopping |= later.stopping;
        self.watchdog |= later.watchdog;
        self.triggered |= later.triggered;
        self.watchdog_within = later.watchdog_within.or(self.watchdog_within);
        self.extend = later.extend.or(self.extend);
        self.status = later.status.or(self.status.take());
        self.main_pid = later.main_pid.or(self.main_pid);
    }

    /// What counts of it where another process than main said it: nothing that ends main, or gives it more time.
    pub fn of_another(self) -> Notification {
        let Notification { ready, watchdog, status, main_pid, .. } = self;
        Notification { ready, watchdog, status, main_pid, ..Notification::default() }
    }
}

/// What can be asked at the control endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Request {
    /// Read the config again.
    Reload,
    /// Stop the container.
    Stop,
    /// Stop a process and start it again.
    Restart {
        /// Which process; `None`: main.
        name: Option<String>,
    },
    /// Send a process a signal.
    Signal {
        /// Which.
        signal: Signal,
        /// Which process; `None`: main.
        name: Option<String>,
    },
    /// Answer as soon as a query sees something.
    Await {
        /// Which.
        query: Query,
        /// Past this it isn't so yet.
        within: Duration,
    },
    /// Read or write a key of the catalog.
    Key {
        /// What.
        request: KeyRequest,
        /// Only while this container's term holds.
        fenced: bool,
    },
    /// Lead no longer.
    StepDown {
        /// Who shall lead next; `None`: anybody else.
        to: Option<String>,
    },
    /// Lead although the store's terms went back.
    AcceptTerm,
    /// Lead although too few ranks are known, or a higher one is.
    AcceptLoss,
    /// Be in maintenance from now on, or for longer, or shorter, than was said before.
    BeginMaintenance {
        /// For how long; `None`: until somebody ends it.
        lasts: Option<Duration>,
        /// Why, for people; `None`: as was said before, if anything.
        reason: Option<String>,
    },
    /// Be in maintenance no longer.
    EndMaintenance,
    /// Take values of sensors that have no command.
    PushMetrics {
        /// What each is of, with its labels, and the number.
        values: Vec<(String, String)>,
    },
    /// Run a task out of turn.
    RunTask {
        /// Its name.
        name: String,
    },
}
