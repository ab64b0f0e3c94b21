//! How far the stop sequence has come. Its steps are taken in [`super::stop`].

use crate::config::Signal;
use crate::supervisor::vocabulary::{RunId, Time, earliest};

/// Why the container stops.
#[derive(Debug, Clone, Copy)]
pub enum Cause {
    /// A signal came.
    Signal(Signal),
    /// Somebody asked at the control endpoint.
    Control,
    /// Main is gone for good; `asked` when a signal passed on to it did that.
    MainEnded {
        /// Whether somebody asked for it.
        asked: bool,
    },
    /// Main is gone, for the terminal sent it INT or QUIT.
    Terminal,
    /// Something failed that main's code says nothing of; this one does.
    Failed(u8),
    /// Main is unhealthy: a 0 it obeys with isn't believed.
    Unhealthy,
}

/// The stop sequence under way.
#[derive(Debug)]
pub struct Stopping {
    pub(super) stage: StopStage,
    pub(super) reason: String,
    /// The exit is ordered then, whatever is still under way; `None` (a plain init) is never.
    pub(super) deadline: Option<Time>,
    /// Main is told then, whatever comes before it.
    pub(super) tell_at: Option<Time>,
    /// Main is killed then.
    pub(super) kill_at: Option<Time>,
    /// What main is told by.
    pub(super) signal: Signal,
    pub(super) cause: Cause,
    /// The exit code, when it isn't main's.
    pub(super) code: Option<u8>,
    /// It was the leader's role that main had as this began; `post_stop` goes by that.
    pub(super) led: bool,
    /// How many stop signals came.
    pub(super) stops_asked: u32,
    /// Main waits for no coprocess any more.
    pub(super) hurries: bool,
    /// Changes are acted on still, for main serves on.
    pub(super) watches: bool,
    /// Main and `on_change` are told of them: not once `pre_stop` may have begun main's end.
    pub(super) tells: bool,
}

/// A stage of the stop sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopStage {
    /// Out of the rotation; nothing else yet.
    Draining {
        /// For so long.
        until: Time,
    },
    /// `pre_stop` runs.
    PreStop {
        /// As this.
        run: RunId,
    },
    /// Coprocesses end that stop before main is told.
    BeforeMain {
        /// Main's `pre_start`, which may have to end, too.
        pre_start: Option<RunId>,
    },
    /// What acts for the leader ends, and `on_demote` runs; main has not been told yet.
    Demoting,
    /// Main was told, or was gone before; its `pre_start` may have to end, too.
    Main {
        /// It is waited for.
        pre_start: Option<RunId>,
    },
    /// The election's lock is given back, before anything its session may be bound to goes.
    Releasing {
        /// For so long at most.
        until: Time,
    },
    /// The services leave the catalog.
    Withdrawing {
        /// For so long at most.
        until: Time,
    },
    /// `post_stop` runs.
    PostStop {
        /// As this.
        run: RunId,
    },
    /// The coprocesses that are left end, the last started first.
    AfterMain,
    /// What hooks left to the container is told to end, and killed when time is up.
    Rest {
        /// What was there before the agent is waited for until then; `None` when nothing is left of it.
        others: Option<Time>,
    },
    /// Nothing is left to do.
    Done,
}

impl Stopping {
    /// How far it has come.
    pub const fn stage(&self) -> StopStage {
        self.stage
    }

    /// When main is told at the latest.
    pub fn tell_at(&self) -> Option<Time> {
        self.tell_at
    }

    /// When what is left of main is killed.
    pub fn kill_at(&self) -> Option<Time> {
        self.kill_at
    }

    /// Main may live until then.
    pub fn postpone_kill(&mut self, at: Time) {
        self.kill_at = self.kill_at.map(|before| before.max(at));
    }

    /// When the exit is ordered, whatever is still under way.
    pub fn exit_at(&self) -> Option<Time> {
        self.deadline
    }

    /// When something must happen next.
    pub fn deadline(&self) -> Option<Time> {
        let stage = match self.stage {
            StopStage::Draining { until } | StopStage::Releasing { until } | StopStage::Withdrawing { until } => {
                Some(until)
            }
            StopStage::PreStop { .. }
            | StopStage::BeforeMain { .. }
            | StopStage::Demoting
            | StopStage::Main { .. }
            | StopStage::PostStop { .. }
            | StopStage::AfterMain => None,
            StopStage::Rest { others } => others,
            StopStage::Done => return None,
        };
        earliest(stage, self.deadline)
    }

    /// For people.
    pub fn doing(&self) -> String {
        let stage = match self.stage {
            StopStage::Draining { .. } => "draining",
            StopStage::PreStop { .. } => "running pre_stop",
            StopStage::BeforeMain { .. } => "stopping what stops before main",
            StopStage::Demoting => "leaving the leader's role",
            StopStage::Main { .. } => "waiting for main to end",
            StopStage::Releasing { .. } => "giving the leader's lock back",
            StopStage::Withdrawing { .. } => "leaving the catalog",
            StopStage::PostStop { .. } => "running post_stop",
            StopStage::AfterMain => "stopping coprocesses",
            StopStage::Rest { .. } => "ending what is left in the container",
            StopStage::Done => "ending",
        };
        format!("{stage} ({})", self.reason)
    }
}
