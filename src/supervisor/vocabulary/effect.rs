//! What the core orders: each is one call into an adapter.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{
    Control, Coprocess, Election, Exec, Log, Probe, Process, Query, RunAs, Service, Signal, Telemetry, Template, When,
};
use crate::supervisor::machines::election;

use super::{
    Announcement, Answer, Fence, Follow, Job, KeyRequest, LeaderMark, Notice, Observation, ProcessId, Registration,
    ReplyId, RunId, Secrets, Staged, Target, Time,
};

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
    /// Start a command in a process group of its own.
    Spawn {
        /// Which run.
        run: RunId,
        /// What it is for.
        job: Job,
        /// The role that it runs for, and that all of it ends with, whatever it leaves.
        role: When,
        /// Program and arguments.
        exec: Exec,
        /// As whom.
        run_as: RunAs,
        /// `PILOTFISH_*` variables the core knows.
        env: Vec<(String, String)>,
        /// What it reads; `None` is /dev/null.
        stdin: Option<Announcement>,
    },
    /// Start a coprocess, as a hook is started.
    SpawnCoprocess {
        /// Which run.
        run: RunId,
        /// As configured.
        coprocess: Arc<Coprocess>,
        /// `PILOTFISH_*` variables the core knows.
        env: Vec<(String, String)>,
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
        /// Who sends it, and is to be answered whether it went.
        reply: Option<ReplyId>,
    },
    /// Send a coprocess a signal that somebody has for it, and answer whether it went.
    Signal {
        /// The coprocess.
        name: String,
        /// To whom.
        target: Target,
        /// Which.
        signal: Signal,
        /// Who sends it.
        reply: ReplyId,
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
    /// Take one of those that a launcher, main's or a coprocess's, left behind for what it launched: who says so themselves,
    /// or the only one, or the oldest that leads a session. From a main that is followed already, only to who says so.
    FollowStray {
        /// The launcher's run.
        run: RunId,
        /// Who main is, as it said (sd_notify(3), MAINPID).
        told: Option<ProcessId>,
        /// Nobody else is: it was no launcher that ended.
        only: bool,
    },
    /// Stop the agent itself, as a shell's job that was told to.
    Suspend,
    /// Send what is left of main's process group, now that main has ended, a signal.
    EndGroup {
        /// Which.
        signal: Signal,
    },
    /// Say how many processes main left behind, and when none is left any more.
    CountStrays {
        /// Nothing needs to be said while they only seem about to end.
        may_wait: bool,
    },
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
    /// Read or write a key of the catalog, and answer who asked for it.
    Key {
        /// Whom.
        reply: ReplyId,
        /// What.
        request: KeyRequest,
        /// Only while this term holds.
        fence: Option<Fence>,
    },
    /// Take part in an election: watch its lock, and be ready for what [`Effect::Elect`] asks. Comes once.
    JoinElection(Arc<Election>),
    /// Ask whether anybody has acted in the election yet, as the majority has it, and whether this candidate could say that
    /// it does: where nobody has, it says that it prepares.
    AskWhoActed {
        /// The term that wants to know.
        fence: Fence,
        /// The candidate.
        id: String,
        /// Nobody waits longer for the answer.
        within: Duration,
    },
    /// Find out whether anybody has ever begun to act in the election, for a candidate that measures its rank.
    AskWhetherLed {
        /// The election.
        election: String,
        /// The term it is measured for.
        term: election::record::Term,
    },
    /// Let others see how far this candidate is as a leader, as long as its term holds.
    TellActing {
        /// By which term.
        fence: Fence,
        /// The candidate.
        id: String,
        /// How far.
        mark: LeaderMark,
    },
    /// Ask the election's store.
    Elect(election::StoreRequest),
    /// The guard kills at this time; `None`: never.
    Guard {
        /// When.
        deadline: Option<Time>,
    },
    /// Start another guard in place of one that has ended.
    StartGuard,
    /// Read the config again.
    LoadConfig,
    /// Say how the calendar's clock goes, and again whenever it is set. Comes once.
    FollowCalendar,
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
        answer: Answer,
    },
    /// Tell people what happened.
    Say(Notice),
    /// Tell the supervisor above this one (sd_notify(3)), if there is one.
    TellOuter(OuterWord),
    /// End the agent, and so the container. Nothing comes after it.
    Exit {
        /// The container's exit code.
        code: u8,
        /// Why, in one line.
        reason: String,
    },
}

impl Effect {
    /// The orders that ask somebody to end. A stopped process can't obey before it goes on (a plain kill of a stopped job
    /// has the same trap).
    pub fn ask_to_end(target: Target, signal: Signal) -> [Effect; 2] {
        [Effect::Kill { target, signal }, Effect::Kill { target, signal: Signal::CONT }]
    }
}

/// What a supervisor above this one is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OuterWord {
    /// Main is healthy, for the first time.
    Ready,
    /// The container is on its way out.
    Stopping,
    /// The container lives.
    Alive,
}
