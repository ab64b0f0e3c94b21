//! `pre_start`, one after another, each with its retries; and that nothing goes on beside what one left that is to end.

use crate::config::{Hook, When};
use crate::supervisor::Supervisor;
use crate::supervisor::machines::commands::{JobState, KeptFor, Launch, Outcome};
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::sequence::stopping::Cause;
use crate::supervisor::vocabulary::{Effect, Job, Notice, RunId, Step};

/// Each `pre_start`, whichever number it has.
pub(super) const ANY_PRE_START: Job = Job::PreStart { number: None };

impl Supervisor {
    /// Whether what an earlier `pre_start` left holds this one up no longer: before the first nothing may act for another
    /// role.
    pub(super) fn may_pre_start(&self, done: usize) -> bool {
        if done == 0 { !self.commands.any(&ANY_PRE_START) } else { self.is_cleared_of_pre_start() }
    }

    /// Whether all that was left of a `pre_start` has ended, or may stay. What can't be ended is told of, and waited for no
    /// longer.
    pub(super) fn is_cleared_of_pre_start(&self) -> bool {
        self.commands.of_job(&ANY_PRE_START) != JobState::Busy
    }

    /// A reload has changed the hooks: those that have yet to run are taken from it, unless what has run, or does, isn't
    /// where it was: then the preparation goes on as it was begun, which `false` answers.
    pub(in crate::supervisor) fn take_pre_starts(&mut self) -> bool {
        let LifeStage::PreStart { done, run, .. } = *self.life.stage() else { return true };
        let new = &self.config.hooks.pre_start;
        // Where fewer are there now, nothing is left to run.
        let begun = (done + usize::from(run.is_some())).min(new.len());
        let stands = new.get(..begun) == self.preparation.get(..begun);
        if stands {
            self.preparation.clone_from(new);
        }
        stands
    }

    /// What the `pre_start` of this index is called: by its number, where there are several.
    pub(super) fn pre_start_job(&self, index: usize) -> Job {
        Job::PreStart { number: (self.preparation.len() > 1).then_some(index + 1) }
    }

    /// Runs the next `pre_start` of this role, if there is one.
    pub(super) fn pre_start(&mut self, step: &mut Step<'_>, done: usize) {
        let leads = self.leads();
        let mut left = self.preparation.iter().enumerate().skip(done);
        let next = left.find(|(_, pre_start)| pre_start.hook.when.applies(leads));
        let Some((index, hook)) = next.map(|(index, pre_start)| (index, pre_start.hook.clone())) else {
            return self.life.prepared();
        };
        // A daemon that the last preparation kept: this one would start one more beside it.
        if done == 0 && self.commands.end_last(step, &ANY_PRE_START) {
            return;
        }
        let run = self.next_run();
        self.life.pre_start_runs(index, run);
        self.preparation_begins(done == 0);
        let job = self.pre_start_job(index);
        let env = self.env(&job);
        // It prepares for the role that it was told, and ends with it.
        let when = if leads { When::Leader } else { When::Replica };
        let keeps_for = match hook.when {
            // Main and all that it is prepared with are the leader's.
            When::Always | When::Leader if self.is_standby() => KeptFor::RoleAndMain,
            When::Leader | When::Replica => KeptFor::Role,
            When::Always => KeptFor::Container,
        };
        let order = Launch { job, hook: Hook { when, ..hook }, env, stdin: None };
        self.commands.start_keeping(step, run, order, keeps_for);
    }

    /// A `pre_start` ended. One that was cut short by a change of role starts nothing.
    pub(in crate::supervisor) fn pre_start_ended(&mut self, step: &mut Step<'_>, run: RunId, outcome: &Outcome) {
        let LifeStage::PreStart { done, run: Some(own), failures, .. } = *self.life.stage() else { return };
        if own != run {
            return;
        }
        let hook = self.pre_start_job(done);
        match (outcome.result(), self.preparation.get(done)) {
            (Ok(()), _) => self.life.next_pre_start(step.now),
            (Err(_), Some(config)) if failures < config.retries => {
                let failures = failures + 1;
                let after = self.jitter.pause(config.backoff, failures);
                step.out.push(Effect::Say(Notice::HookRetrying { hook, after }));
                self.life.pre_start_again(failures, step.now, after);
            }
            (Err(error), _) => {
                self.stop(step, format!("{hook} failed: {error}"), Cause::Failed(outcome.code()));
            }
        }
    }
}
