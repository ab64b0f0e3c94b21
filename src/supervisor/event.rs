//! What can happen and what can be done about it: the whole language between the core and the adapters.
//!
//! An [`Event`] is a fact; an [`Effect`] is an order. Every order that can fail or take time is answered by an event
//! that names the same run, watch or service, so an answer that comes too late is told from one that is waited for.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::config::{
    Config, Control, Election, Exec, Log, Probe, Process, Query, RunAs, Service, Signal, Telemetry, Template,
};

use super::election::{self, ElectionEvent};
use super::notice::Notice;

/// One run of a process or probe; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RunId(pub u64);

/// A process id in the agent's own PID namespace.
pub type Pid = i32;

/// Who waits for an answer at the control endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplyId(pub u64);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
            // Signals end at 64, so the sum fits.
            ExitStatus::Killed(signal) => (128 + signal.number()) as u8,
        }
    }

    /// Whether it ended with code 0.
    pub fn success(self) -> bool {
        self == ExitStatus::Exited(0)
    }
}

/// Why a command couldn't be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnError {
    /// 127 when the program wasn't found, 126 otherwise, as a shell has it.
    pub code: u8,
    /// Which step failed on what, and why.
    pub message: String,
    /// Whether another try may do better.
    pub hope: Hope,
}

/// Whether a command that couldn't be started may start a moment later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// What a run is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// The main process.
    Main,
    /// `[hooks] pre_start`.
    PreStart,
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
}

impl Job {
    /// Whether it is one of the user's hooks, which are told of when they start and end (checks aren't: they run
    /// every few seconds).
    pub fn is_hook(&self) -> bool {
        match self {
            Job::PreStart
            | Job::PreStop
            | Job::PostStop
            | Job::OnChange { .. }
            | Job::OnPromote
            | Job::OnDemote
            | Job::OnLeaderChange => true,
            Job::Main | Job::TemplateCheck { .. } | Job::Health { .. } | Job::Rank => false,
        }
    }

    /// Its `PILOTFISH_EVENT`.
    pub fn event(&self) -> &'static str {
        match self {
            Job::Main => "main",
            Job::PreStart => "pre_start",
            Job::PreStop => "pre_stop",
            Job::PostStop => "post_stop",
            Job::OnChange { .. } => "on_change",
            Job::TemplateCheck { .. } => "template_check",
            Job::Health { .. } => "health",
            Job::OnPromote => "on_promote",
            Job::OnDemote => "on_demote",
            Job::OnLeaderChange => "on_leader_change",
            Job::Rank => "rank",
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Job::OnChange { watch: of } | Job::TemplateCheck { watch: of } | Job::Health { check: of } => {
                write!(f, "{} of {of}", self.event())
            }
            Job::Main
            | Job::PreStart
            | Job::PreStop
            | Job::PostStop
            | Job::OnPromote
            | Job::OnDemote
            | Job::OnLeaderChange
            | Job::Rank => write!(f, "{}", self.event()),
        }
    }
}

/// A fact from outside.
#[derive(Debug, Clone)]
pub enum Event {
    /// The agent is up and catches signals. Comes first, and once.
    Started,
    /// A deadline of [`next_deadline`](super::Supervisor::next_deadline) has come.
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
    /// Main had the terminal's foreground to its end. Comes before its [`Event::Exited`].
    HadTerminal {
        /// Main's run.
        run: RunId,
    },
    /// A run's keeper was killed: what the run started is among what main leaves, and can't be told from that.
    RunLost {
        /// Of which run.
        run: RunId,
    },
    /// What a hook or check whose process has ended left behind: it comes right after its [`Event::Exited`], and again
    /// when nothing is left any more of what was.
    RunLeft {
        /// Which run.
        run: RunId,
        /// Something that it started lives; else nothing does.
        any: bool,
    },
    /// What a run whose output is asked for has printed on its standard output (its first 4 KiB). Comes before its
    /// [`Event::Exited`].
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
    /// One of those that main left behind is main from now on (answers [`Effect::FollowStray`], where any is left).
    Followed {
        /// Main's run.
        run: RunId,
        /// Its process id; `None`: it can't be found, there is no /proc.
        pid: Option<Pid>,
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
    /// Main was signalled of a change (answers [`Effect::Hint`]), or doesn't catch the signal.
    Hinted {
        /// The watch's name.
        watch: String,
        /// Whether it was signalled.
        sent: bool,
    },
    /// What the store, or the way to it, says of the election (answers [`Effect::Elect`], and what
    /// [`Effect::JoinElection`] watches).
    Election(ElectionEvent),
    /// The guard stands (answers [`Effect::StartGuard`], or did so from the start), or has ended.
    Guard {
        /// It stands.
        stands: bool,
    },
    /// Somebody at the control endpoint asks for something.
    Control {
        /// Who waits for the answer.
        reply: ReplyId,
        /// What is asked.
        request: Request,
    },
    /// The config was read again (answers [`Effect::LoadConfig`]); the error is the full report.
    ConfigLoaded(Result<Box<Config>, String>),
}

/// What main said by sd_notify(3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notification {
    /// `READY=1`.
    pub ready: bool,
    /// `WATCHDOG=1`.
    pub watchdog: bool,
    /// `STATUS=...`.
    pub status: Option<String>,
    /// `MAINPID=...`.
    pub main_pid: Option<Pid>,
}

/// What can be asked at the control endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Read the config again.
    Reload,
    /// Stop the container.
    Stop,
    /// Lead no longer.
    StepDown {
        /// Who shall lead next; `None`: anybody else.
        to: Option<String>,
    },
    /// Lead although the store's terms went back.
    AcceptTerm,
    /// Be in maintenance from now on, or for longer, or shorter, than was said before.
    BeginMaintenance {
        /// For how long; `None`: until somebody ends it.
        lasts: Option<Duration>,
        /// Why, for people; `None`: as was said before, if anything.
        reason: Option<String>,
    },
    /// Be in maintenance no longer.
    EndMaintenance,
}

/// Who follows a query.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Follow {
    /// The `[[watch]]` of this name.
    Watch(String),
    /// The `[[wait_for]]` of this index.
    WaitFor(usize),
}

/// What a query sees. It may be many megabytes: it is shared and never copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The passing instances of a service, sorted by id.
    Instances(Arc<[Instance]>),
    /// A key's value, or that there is no such key.
    Key(Option<String>),
    /// Every key below a prefix with its value, sorted by key.
    Keys(Arc<[(String, String)]>),
}

/// One passing instance of a service. Hooks and templates see its fields, and its [`host_port`](Self::host_port).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    /// Unique in the catalog, or on its node where there are nodes.
    pub id: String,
    /// Consul's node that it is registered on: several may have the same id.
    pub node: Option<String>,
    /// The service's name.
    pub name: String,
    /// Its advertised address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Its tags, as registered.
    pub tags: Vec<String>,
    /// Its free pairs.
    pub meta: std::collections::BTreeMap<String, String>,
}

impl Instance {
    /// What it is known by: two looks that see this see the same instance.
    pub fn identity(&self) -> (&str, Option<&str>) {
        (&self.id, self.node.as_deref())
    }

    /// Where it can be reached, as nearly everything writes it: `10.0.0.1:80`, `[2001:db8::5]:80`.
    pub fn host_port(&self) -> String {
        let Instance { address, port, .. } = self;
        // Only an IPv6 address has a colon.
        if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
    }
}

impl Serialize for Instance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Instance { id, node, name, address, port, tags, meta } = self;
        let mut instance = serializer.serialize_struct("Instance", 7 + usize::from(node.is_some()))?;
        instance.serialize_field("id", id)?;
        if let Some(node) = node {
            instance.serialize_field("node", node)?;
        }
        instance.serialize_field("name", name)?;
        instance.serialize_field("address", address)?;
        instance.serialize_field("port", port)?;
        instance.serialize_field("host_port", &self.host_port())?;
        instance.serialize_field("tags", tags)?;
        instance.serialize_field("meta", meta)?;
        instance.end()
    }
}

/// The address a service is registered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// The IP address.
    pub address: String,
    /// Why it and no other, in one phrase.
    pub why: String,
}

/// What the catalog shall say of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// As configured.
    pub service: Arc<Service>,
    /// Its status now.
    pub status: ServiceStatus,
    /// Why it has that status, for people.
    pub note: String,
    /// Why it is kept out of the rotation whatever its status, for people; `None`: it isn't.
    pub maintenance: Option<String>,
}

impl Registration {
    /// What an entry with room for one word and one reason says.
    pub fn in_short(&self) -> (&'static str, &str) {
        let reason = match (self.status, &self.maintenance) {
            (ServiceStatus::Passing | ServiceStatus::Critical, Some(reason)) => reason,
            (_, _) => &self.note,
        };
        (self.status.word(self.maintenance.is_some()), reason)
    }
}

/// A service's status in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceStatus {
    /// May be used.
    Passing,
    /// Not (yet) healthy.
    Critical,
    /// On its way out.
    Draining,
}

/// A rendered file that isn't live yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Where its check sees it; `None` when it lies nowhere yet.
    pub path: Option<PathBuf>,
    /// Whether that is where it can be put in place from.
    pub beside: bool,
    /// Its content.
    pub text: Text,
    /// What it was made from, and for where.
    pub template: std::sync::Arc<Template>,
}

/// A file's content, which no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(pub std::sync::Arc<str>);

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What came of rendering a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rendering {
    /// A new file is there, not live yet.
    Staged(Staged),
    /// The destination already has this content.
    Unchanged,
    /// Nothing was known to render, and there is a file: it stays.
    Kept,
    /// It couldn't be rendered or written.
    Failed(String),
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The process of a run alone.
    Process(RunId),
    /// The process group of a run.
    Group(RunId),
    /// Every process of a hook or check, whatever it did to get away.
    All(RunId),
    /// Every process main left behind.
    Strays,
}

/// An order to the adapters.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Read the files of main's environment.
    ReadFiles {
        /// For which run.
        run: RunId,
        /// As configured.
        process: Arc<Process>,
    },
    /// Start main.
    SpawnMain {
        /// Which run.
        run: RunId,
        /// As configured.
        process: Arc<Process>,
        /// What was read for it.
        files: Secrets,
        /// `PILOTFISH_*` variables the core knows.
        env: Vec<(String, String)>,
    },
    /// Start a hook or check in a process group of its own.
    Spawn {
        /// Which run.
        run: RunId,
        /// What it is for.
        job: Job,
        /// Program and arguments.
        exec: Exec,
        /// As whom.
        run_as: RunAs,
        /// `PILOTFISH_*` variables the core knows.
        env: Vec<(String, String)>,
        /// What it reads; `None` is /dev/null.
        stdin: Option<String>,
    },
    /// Send a signal.
    Kill {
        /// To whom.
        target: Target,
        /// Which.
        signal: Signal,
    },
    /// Send main a signal that came for it, and say whether main heeds it.
    Forward {
        /// To whom.
        target: Target,
        /// Which.
        signal: Signal,
    },
    /// Signal main that a dependency changed, unless that would end it: a main that has only just been started may
    /// not catch the signal yet.
    Hint {
        /// The watch's name.
        watch: String,
        /// To whom.
        target: Target,
        /// Which.
        signal: Signal,
    },
    /// Take one of those that main left behind for main: who says so himself, or the only one, or the oldest that leads
    /// a session. From a main that is followed already, only to who says so.
    FollowStray {
        /// Main's run.
        run: RunId,
        /// Who main is, as it said (sd_notify(3), MAINPID).
        told: Option<Pid>,
    },
    /// Say how many processes main left behind, and when none is left any more.
    CountStrays,
    /// Say the same of all that is left in a container whose PID 1 the agent is, what was there before it included.
    CountRest,
    /// Ask a check's question without a child process.
    Probe {
        /// Which run.
        run: RunId,
        /// What to ask; never `Exec` or `Notify`.
        probe: Probe,
        /// Past this it has failed.
        timeout: Duration,
    },
    /// Make the catalog say this: register what isn't there, mend what differs, renew what expires. At most one is
    /// under way for a service.
    Publish(Registration),
    /// Remove the entry.
    Withdraw {
        /// As configured.
        service: Arc<Service>,
    },
    /// Look at a query from now on and tell each change.
    Follow {
        /// Who.
        follow: Follow,
        /// At what.
        query: Query,
    },
    /// Stop looking.
    Unfollow {
        /// Who.
        follow: Follow,
    },
    /// Render a template beside its destination.
    Render {
        /// The watch's name.
        watch: String,
        /// From where to where.
        template: Template,
        /// What it may use.
        seen: Observation,
        /// Whether that is no answer: a file that is there stays then.
        unanswered: bool,
    },
    /// Put a rendered file in place.
    Install {
        /// The watch's name.
        watch: String,
        /// The file.
        staged: Staged,
    },
    /// Remove a rendered file.
    Discard(Staged),
    /// Take part in an election: watch its lock, and be ready for what [`Effect::Elect`] orders. Comes once.
    JoinElection(Arc<Election>),
    /// An order of the election's that a store or the guard carries out: any but those the core carries out itself
    /// (`MeasureRank`, `Promote`, `Demote`, `Kill`, `Leader`, `Say`).
    Elect(election::ElectionEffect),
    /// Start another guard in place of one that has ended.
    StartGuard,
    /// Read the config again.
    LoadConfig,
    /// From now on main and hooks are told these services' addresses (`PILOTFISH_<SERVICE>_ADDRESS`).
    Services(Vec<Arc<Service>>),
    /// Open, move or shut the endpoints, so that they are as configured.
    Endpoints {
        /// The read-only one.
        telemetry: Option<Telemetry>,
        /// The one that can change things.
        control: Control,
    },
    /// Log as configured.
    Logging(Log),
    /// Answer at the control endpoint.
    Reply {
        /// Whom.
        reply: ReplyId,
        /// What.
        result: Result<String, String>,
    },
    /// Tell people what happened.
    Say(Notice),
    /// End the agent, and so the container. Nothing comes after it.
    Exit {
        /// The container's exit code.
        code: u8,
        /// Why, in one line.
        reason: String,
    },
}
