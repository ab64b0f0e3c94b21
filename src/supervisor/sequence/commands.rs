//! What follows when a command ends, and when nothing of it is left.

use crate::supervisor::Supervisor;
use crate::supervisor::machines::check::Check;
use crate::supervisor::machines::commands::Outcome;
use crate::supervisor::vocabulary::{Effect, Job, RunId, Time};

impl Supervisor {
    /// A command ended: whoever ordered it goes on.
    pub(in crate::supervisor) fn command_ended(
        &mut self,
        now: Time,
        run: RunId,
        ended: Option<(Job, Outcome)>,
        out: &mut Vec<Effect>,
    ) {
        let Some((job, outcome)) = ended else { return };
        if job.is_hook() {
            let count = self.hook_counts.entry(job.to_string()).or_default();
            match outcome.result() {
                Ok(()) => count.succeeded += 1,
                Err(_) => count.failed += 1,
            }
        }
        match job {
            Job::Main => {}
            Job::OnPromote => self.promoted(run, &outcome),
            Job::OnDemote => self.demoted(now, run, &outcome, out),
            Job::OnLeaderChange => self.told_of_leader(run),
            Job::Rank => self.measured(run, &outcome),
            Job::PreStart => self.pre_start_ended(now, run, &outcome, out),
            // What it left is waited for, too.
            Job::PreStop | Job::PostStop => {}
            Job::OnChange { watch } => {
                self.with_watch(now, &watch, out, |watch, context| watch.hook_ended(run, &outcome, context));
            }
            Job::TemplateCheck { watch } => {
                self.with_watch(now, &watch, out, |watch, context| watch.checked(run, &outcome, context));
            }
            Job::Health { check } => {
                let asked = |c: &Check| c.config().name == check && c.asking() == Some(run);
                if let Some(index) = self.checks.iter().position(asked) {
                    self.check_heard(now, index, outcome.result(), out);
                }
            }
        }
    }

    /// Nothing is left of a command, or nothing that can be ended: who waited for that goes on.
    pub(in crate::supervisor) fn command_is_over(&mut self, now: Time, run: RunId, job: &Job, out: &mut Vec<Effect>) {
        match job {
            Job::PreStop | Job::PostStop => self.stop_hook_ended(now, run, out),
            Job::OnChange { watch } | Job::TemplateCheck { watch } => {
                self.with_watch(now, watch, out, |watch, context| watch.act(context));
            }
            Job::Main
            | Job::OnPromote
            | Job::OnDemote
            | Job::OnLeaderChange
            | Job::Rank
            | Job::PreStart
            | Job::Health { .. } => {}
        }
    }
}
