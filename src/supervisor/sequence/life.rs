//! Where in its life the container is, and every way on from there. [`TRANSITIONS`] is the whole of it; nothing outside
//! this file can set it.

use std::time::Duration;

use crate::supervisor::sequence::stopping::Stopping;
use crate::supervisor::vocabulary::{Phase, RunId, Time};

/// Each transition: from where, because of what, where to.
#[rustfmt::skip]
pub const TRANSITIONS: [(StageName, &str, StageName); 26] = {
    use StageName::*;
    [
        (Created,       "the agent has started",            Waiting),
        (Created,       "a coprocess comes first",          BeforeCatalog),
        (BeforeCatalog, "those that come first are ready",  Waiting),
        (Waiting,       "all that is waited for is there",  Electing),
        (Electing,      "the role is known",                WaitingInRole),
        (WaitingInRole, "all that is waited for is there",  Preparing),
        (Preparing,     "templates are rendered",           PreStart),
        (PreStart,      "one runs, or again, or the next",  PreStart),
        (PreStart,      "each pre_start has succeeded",     Prepared),
        (Prepared,      "what pre_start left has ended",    Running),
        (Running,       "main ended and runs again",        Running),

        (WaitingInRole, "the role is another",              Electing),
        (Preparing,     "the role is another",              Electing),
        (PreStart,      "the role is another",              Electing),
        (Prepared,      "the role is another",              Electing),
        (Running,       "main ended for its role's sake",   Electing),

        (Created,       "it stops",                         Stopping),
        (BeforeCatalog, "it stops",                         Stopping),
        (Waiting,       "it stops",                         Stopping),
        (Electing,      "it stops",                         Stopping),
        (WaitingInRole, "it stops",                         Stopping),
        (Preparing,     "it stops",                         Stopping),
        (PreStart,      "it stops",                         Stopping),
        (Prepared,      "it stops",                         Stopping),
        (Running,       "it stops",                         Stopping),
        (Stopping,      "all is done, or time is up",       Ended),
    ]
};

/// A stage of the container's life, as [`TRANSITIONS`] names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are those of [`LifeStage`]")]
pub enum StageName {
    Created,
    BeforeCatalog,
    Waiting,
    Electing,
    WaitingInRole,
    Preparing,
    PreStart,
    Prepared,
    Running,
    Stopping,
    Ended,
}

/// A stage of the container's life, and what is known in it.
#[derive(Debug)]
pub enum LifeStage {
    /// Before the first event.
    Created,
    /// For the coprocesses that are to be ready before anything is asked of a catalog.
    BeforeCatalog,
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
    /// A `pre_start` runs, or will.
    PreStart {
        /// How many of them are done, or of the other role.
        done: usize,
        /// The run under way.
        run: Option<RunId>,
        /// How often this one has failed.
        failures: u32,
        /// When it runs.
        retry_at: Option<Time>,
    },
    /// Each `pre_start` has succeeded. Main starts once what it left has ended, or is what may stay.
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

/// The container's life.
#[derive(Debug)]
pub struct Life {
    stage: LifeStage,
}

impl Life {
    /// One that has yet to begin.
    pub const fn created() -> Life {
        Life { stage: LifeStage::Created }
    }

    /// Where it is.
    pub const fn stage(&self) -> &LifeStage {
        &self.stage
    }

    /// The stop sequence under way.
    pub const fn stopping(&self) -> Option<&Stopping> {
        match &self.stage {
            LifeStage::Stopping(stopping) => Some(stopping),
            _ => None,
        }
    }

    /// The same, to take its next step.
    pub const fn stopping_mut(&mut self) -> Option<&mut Stopping> {
        match &mut self.stage {
            LifeStage::Stopping(stopping) => Some(stopping),
            _ => None,
        }
    }

    /// The first event has come, and coprocesses come first.
    pub fn begin_before_catalog(&mut self) {
        self.change(LifeStage::BeforeCatalog);
    }

    /// The first event has come, and those that come first are ready.
    pub fn wait(&mut self) {
        self.change(LifeStage::Waiting);
    }

    /// The role is asked for, for the first time or anew.
    pub fn elect(&mut self, until: Time) {
        self.change(LifeStage::Electing { until });
    }

    /// The role is known.
    pub fn wait_in_role(&mut self) {
        self.change(LifeStage::WaitingInRole);
    }

    /// Nothing is waited for any more.
    pub fn prepare(&mut self, now: Time) {
        self.change(LifeStage::Preparing { since: now });
    }

    /// Templates are rendered.
    pub fn pre_start(&mut self, now: Time) {
        self.change(LifeStage::PreStart { done: 0, run: None, failures: 0, retry_at: Some(now) });
    }

    /// A `pre_start` runs, with so many before it.
    pub fn pre_start_runs(&mut self, done: usize, run: RunId) {
        if let LifeStage::PreStart { failures, .. } = self.stage {
            self.change(LifeStage::PreStart { done, run: Some(run), failures, retry_at: None });
        }
    }

    /// The `pre_start` that ran has failed so often, and runs again.
    pub fn pre_start_again(&mut self, failures: u32, now: Time, after: Duration) {
        if let LifeStage::PreStart { done, .. } = self.stage {
            self.change(LifeStage::PreStart { done, run: None, failures, retry_at: Some(now + after) });
        }
    }

    /// The `pre_start` that ran has succeeded, and the next one runs.
    pub fn next_pre_start(&mut self, now: Time) {
        if let LifeStage::PreStart { done, .. } = self.stage {
            self.change(LifeStage::PreStart { done: done + 1, run: None, failures: 0, retry_at: Some(now) });
        }
    }

    /// Each `pre_start` has succeeded.
    pub fn prepared(&mut self) {
        self.change(LifeStage::Prepared);
    }

    /// Main starts.
    pub fn run(&mut self) {
        self.change(LifeStage::Running { start_at: None });
    }

    /// Main has ended, and starts again.
    pub fn run_again(&mut self, at: Time) {
        self.change(LifeStage::Running { start_at: Some(at) });
    }

    /// The stop sequence begins.
    pub fn stop(&mut self, stopping: Stopping) {
        self.change(LifeStage::Stopping(stopping));
    }

    /// The exit is ordered. The stop sequence that was under way; `None`: none was, and nothing has changed.
    pub fn end(&mut self) -> Option<Stopping> {
        match self.stage {
            LifeStage::Stopping(_) => match self.change(LifeStage::Ended) {
                Some(LifeStage::Stopping(stopping)) => Some(stopping),
                _ => None,
            },
            _ => None,
        }
    }

    /// The only place where a life changes; what it was before. What isn't in the table is a fault of the caller's: tests
    /// end there, the product stays where it is.
    fn change(&mut self, to: LifeStage) -> Option<LifeStage> {
        let (from, next) = (self.stage.name(), to.name());
        let allowed = TRANSITIONS.iter().any(|(a, _, b)| (*a, *b) == (from, next));
        debug_assert!(allowed, "no way from {from:?} to {next:?}");
        allowed.then(|| std::mem::replace(&mut self.stage, to))
    }
}

impl StageName {
    /// For `/status`.
    pub const fn phase(self) -> Phase {
        match self {
            StageName::Created
            | StageName::BeforeCatalog
            | StageName::Waiting
            | StageName::Electing
            | StageName::WaitingInRole
            | StageName::Preparing
            | StageName::PreStart
            | StageName::Prepared => Phase::Starting,
            StageName::Running => Phase::Running,
            StageName::Stopping | StageName::Ended => Phase::Stopping,
        }
    }
}

impl LifeStage {
    /// Which it is.
    pub const fn name(&self) -> StageName {
        match self {
            LifeStage::Created => StageName::Created,
            LifeStage::BeforeCatalog => StageName::BeforeCatalog,
            LifeStage::Waiting => StageName::Waiting,
            LifeStage::Electing { .. } => StageName::Electing,
            LifeStage::WaitingInRole => StageName::WaitingInRole,
            LifeStage::Preparing { .. } => StageName::Preparing,
            LifeStage::PreStart { .. } => StageName::PreStart,
            LifeStage::Prepared => StageName::Prepared,
            LifeStage::Running { .. } => StageName::Running,
            LifeStage::Stopping(_) => StageName::Stopping,
            LifeStage::Ended => StageName::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_can_come_from_everywhere_and_nothing_but_the_end_after_it() {
        let ways = |from, to| TRANSITIONS.iter().filter(|(a, _, b)| (*a, *b) == (from, to)).count();
        for (from, ..) in TRANSITIONS {
            let goes_on = from != StageName::Stopping;
            assert_eq!(ways(from, StageName::Stopping), usize::from(goes_on), "{from:?}");
            assert_eq!(ways(from, StageName::Ended), usize::from(!goes_on), "{from:?}");
        }
        assert_eq!(TRANSITIONS.iter().filter(|(from, ..)| *from == StageName::Stopping).count(), 1);
        assert!(TRANSITIONS.iter().all(|(from, ..)| *from != StageName::Ended));
    }

    #[test]
    fn a_transition_stands_in_the_table_once() {
        for (index, (from, _, to)) in TRANSITIONS.iter().enumerate() {
            assert!(!TRANSITIONS[..index].iter().any(|(a, _, b)| (a, b) == (from, to)), "{from:?} to {to:?}");
        }
    }

    #[test]
    #[should_panic(expected = "no way from Created to Running")]
    fn main_does_not_run_before_anything_else_has_happened() {
        Life::created().run();
    }
}
