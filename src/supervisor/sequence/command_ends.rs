//! What follows when a command ends, and when nothing of it is left.

use crate::supervisor::Supervisor;
use crate::supervisor::machines::check::Check;
use crate::supervisor::machines::commands::Outcome;
use crate::supervisor::vocabulary::{Job, RunId, Step};

impl Supervisor {
    /// A command ended: whoever ordered it goes on.
    pub(in crate::supervisor) fn command_ended(
        &mut self,
        step: &mut Step<'_>,
        run: RunId,
        ended: Option<(Job, Outcome)>,
    ) {
        let Some((job, outcome)) = ended else { return };
        if job.is_told_of() && !job.is_task() {
            let count = self.hook_counts.entry(job.to_string()).or_default();
            match outcome.result() {
                Ok(()) => count.succeeded += 1,
                Err(_) => count.failed += 1,
            }
        }
        match job {
            Job::Main | Job::Coprocess { .. } | Job::CoprocessPostStop { .. } => {}
            Job::CoprocessPreStart { name } => self.coprocess_prepared(step, run, &name, &outcome),
            Job::CoprocessReady { .. } => self.ready_answered(step, run, outcome.result()),
            Job::OnPromote => self.promoted(run, &outcome),
            Job::OnDemote => self.demoted(step, run, &outcome),
            Job::OnLeaderChange => self.told_of_leader(step, run, &outcome),
            Job::Rank => self.measured(run, &outcome),
            Job::PreStart { .. } => self.pre_start_ended(step, run, &outcome),
            Job::PostStart => self.post_start_ended(run, &outcome),
            Job::Task { .. } => self.task_ended(step, run, &outcome),
            Job::Sensor { .. } => self.sensor_measured(step, run, &outcome),
            // What it left is waited for, too.
            Job::PreStop | Job::PostStop => {}
            Job::OnChange { watch } => {
                self.with_watch(step, &watch, |watch, context| watch.hook_ended(run, &outcome, context));
            }
            Job::TemplateCheck { watch } => {
                self.with_watch(step, &watch, |watch, context| watch.checked(run, &outcome, context));
            }
            Job::Health { check } => {
                let asked = |c: &Check| c.config().name == check && c.asking() == Some(run);
                if let Some(index) = self.checks.iter().position(asked) {
                    self.check_heard(step, index, outcome.result());
                }
            }
        }
    }

    /// Nothing is left of a command, or nothing that can be ended: who waited for that goes on.
    pub(in crate::supervisor) fn command_is_over(&mut self, step: &mut Step<'_>, run: RunId, job: &Job) {
        match job {
            Job::PreStop | Job::PostStop => self.stop_hook_ended(step, run),
            Job::OnChange { watch } | Job::TemplateCheck { watch } => {
                self.with_watch(step, watch, |watch, context| watch.act(context));
            }
            Job::Rank => self.measure_next(step),
            Job::Coprocess { .. } => self.coprocess_is_over(step, run),
            Job::CoprocessPostStop { name } => self.coprocess_finished(name),
            Job::Main
            | Job::OnPromote
            | Job::OnDemote
            | Job::OnLeaderChange
            | Job::PreStart { .. }
            | Job::PostStart
            | Job::Health { .. }
            | Job::Task { .. }
            | Job::Sensor { .. }
            | Job::CoprocessPreStart { .. }
            | Job::CoprocessReady { .. } => {}
        }
    }
}
