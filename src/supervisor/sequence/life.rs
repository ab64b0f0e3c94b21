//! Where in its life the container is.

use crate::supervisor::sequence::stop::Stopping;
use crate::supervisor::vocabulary::{Phase, RunId, Time};

/// Where in its life the container is.
#[derive(Debug)]
pub enum Life {
    /// Before the first event.
    Created,
    /// `[[wait_for]]`.
    Waiting,
    /// For the election's first result, or its next.
    Electing {
        /// A start that doesn't need the catalog waits no longer for it.
        until: Time,
    },
    /// What `[[wait_for]]` asks for in this role.
    WaitingInRole,
    /// Templates are rendered for the first time.
    Preparing {
        /// Since when.
        since: Time,
    },
    /// `pre_start` runs, or will again.
    PreStart {
        /// The run under way.
        run: Option<RunId>,
        /// How often it has failed.
        failures: u32,
        /// When it is tried again.
        retry_at: Option<Time>,
    },
    /// `pre_start` has succeeded. Main starts once what it left has ended, or is what may stay.
    Prepared,
    /// Main runs, or will again.
    Running {
        /// When it starts again.
        start_at: Option<Time>,
    },
    /// The stop sequence.
    Stopping(Stopping),
    /// The exit was ordered.
    Ended,
}

impl Life {
    /// For `/status`.
    pub fn phase(&self) -> Phase {
        match self {
            Life::Created
            | Life::Waiting
            | Life::Electing { .. }
            | Life::WaitingInRole
            | Life::Preparing { .. }
            | Life::PreStart { .. }
            | Life::Prepared => Phase::Starting,
            Life::Running { .. } => Phase::Running,
            Life::Stopping(_) | Life::Ended => Phase::Stopping,
        }
    }
}
