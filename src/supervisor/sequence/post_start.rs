//! `post_start`: once main is healthy for the first time after a start. It runs for the role that main has then, and ends
//! with that, with main, and with the container; nothing waits for it. A launcher's end is none of main's: who is followed
//! is the main that was started.

use crate::config::{Hook, When};
use crate::supervisor::Supervisor;
use crate::supervisor::machines::check::Check;
use crate::supervisor::machines::commands::{Launch, Outcome};
use crate::supervisor::sequence::duties::{Duty, keeps};
use crate::supervisor::vocabulary::{Job, RunId, Step};

/// Whether it is yet to run for the main that was started last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PostStart {
    /// There is no such main, or it has run.
    #[default]
    Done,
    /// Main hasn't been healthy yet, or its role is on the way to another.
    Due,
    /// It runs.
    Running(RunId),
}

impl Supervisor {
    /// Runs it as soon as nothing holds it back any more, and ends it with main.
    pub(in crate::supervisor) fn advance_post_start(&mut self, step: &mut Step<'_>) {
        if self.main.is_left() && !self.is_to_follow(step.now) {
            self.cut_post_start_short(step);
        }
        if self.post_start != PostStart::Due || self.is_stopping() || !self.is_main_healthy() {
            return;
        }
        let Some(leads) = self.settled_role() else { return };
        let Some(hook) = self.config.hooks.post_start.clone().filter(|hook| hook.when.applies(leads)) else {
            self.post_start = PostStart::Done;
            return;
        };
        // What the last one left would work on beside this one.
        if self.commands.end_last(step, &Job::PostStart) {
            return;
        }
        let run = self.next_run();
        self.post_start = PostStart::Running(run);
        let env = self.env(&Job::PostStart);
        let when = match keeps(Duty::BindToRole) {
            true if leads => When::Leader,
            true => When::Replica,
            false => When::Always,
        };
        self.commands.start(step, run, Launch { job: Job::PostStart, hook: Hook { when, ..hook }, env, stdin: None });
    }

    /// It ended. One that was cut short by a change of role runs anew in the next.
    pub(in crate::supervisor) fn post_start_ended(&mut self, run: RunId, outcome: &Outcome) {
        if self.post_start == PostStart::Running(run) {
            self.post_start = if *outcome == Outcome::Cancelled { PostStart::Due } else { PostStart::Done };
        }
    }

    /// Main is gone or goes, and it with main.
    pub(in crate::supervisor) fn cut_post_start_short(&mut self, step: &mut Step<'_>) {
        if let PostStart::Running(run) = std::mem::take(&mut self.post_start) {
            self.commands.cancel(step, run);
        }
    }

    /// Whether main is up, and each of its checks that counts passes.
    pub(in crate::supervisor) fn is_main_healthy(&self) -> bool {
        let counts = |check: &&Check| check.counts() && check.is_of(None);
        self.main.is_up() && self.checks.iter().filter(counts).all(Check::is_passing)
    }
}
