//! When commands are ended, and how long each has before SIGKILL: one that nobody wants any more, those of a role that is
//! gone, and all, as the container ends.

use std::time::Duration;

use crate::config::{Signal, When};

use super::{Commands, EndReason, JobState, KILL_AFTER, KeptFor, LEAST_PATIENCE, LiveRun, RunState};
use crate::supervisor::vocabulary::{Effect, Job, Notice, RunId, Step, Target, Time};

impl Commands {
    /// Tells a coprocess to stop, or what is left of it, and kills it at this time.
    pub fn stop(&mut self, step: &mut Step<'_>, run: RunId, kill_at: Time) {
        if let Some(command) = self.live.get_mut(&run)
            && let RunState::Running { .. } | RunState::Kept | RunState::Lingering { .. } = command.state
        {
            command.tell(run, kill_at, EndReason::Cancelled, step.out);
        }
    }

    /// Kills what was told to end no later than this.
    pub fn kill_by(&mut self, run: RunId, at: Time) {
        if let Some(LiveRun { state: RunState::Ending { kill_at, .. }, .. }) = self.live.get_mut(&run) {
            *kill_at = at.min(*kill_at);
        }
    }

    /// A job's run, and all it leaves, is killed no later than this; it is told half way there.
    pub fn end_job_by(&mut self, now: Time, job: &Job, at: Time) {
        let told = now + now.until(at) / 2;
        for command in self.live.values_mut().filter(|command| command.job.is_like(job)) {
            match &mut command.state {
                RunState::Running { until } => *until = Some(until.map_or(told, |until| until.min(told))),
                RunState::Ending { kill_at, .. } => *kill_at = at.min(*kill_at),
                RunState::Ended { .. } | RunState::Lingering { .. } | RunState::Kept | RunState::Stuck { .. } => {}
            }
        }
    }

    /// Tells a command to end, since its result is no longer wanted.
    pub fn cancel(&mut self, step: &mut Step<'_>, run: RunId) {
        self.cancel_within(step, run, self.patience(step.now));
    }

    fn cancel_within(&mut self, step: &mut Step<'_>, run: RunId, patience: Duration) {
        if let Some(command) = self.live.get_mut(&run)
            && let RunState::Running { .. } = command.state
        {
            if command.job.is_told_of() {
                step.out.push(Effect::Say(Notice::HookSkipped { hook: command.job.clone() }));
            }
            // Only a leader's may have all its time: the election counts on it. Others hold somebody up.
            let own = command.stop.and_then(|stop| stop.timeout).filter(|_| command.role == When::Leader);
            let most = self.hurry.map_or(Duration::MAX, |until| step.now.until(until) / 2);
            let patience = own.map_or(patience, |own| own.min(most).max(LEAST_PATIENCE));
            command.tell(run, step.now + patience, EndReason::Cancelled, step.out);
        }
    }

    /// A job is bound to this role from now on: a run of it that isn't, ends.
    pub fn bind(&mut self, step: &mut Step<'_>, job: &Job, role: When) {
        let others = self.live.iter().filter(|(_, command)| command.job == *job && command.role != role);
        let others: Vec<RunId> = others.map(|(run, _)| *run).collect();
        for run in others {
            self.cancel(step, run);
        }
    }

    /// Tells what runs for this role only to end, and what such left behind: the role is gone. Where others have to end
    /// after it, by a time of their own, this takes a third of that at most.
    pub fn leave(&mut self, step: &mut Step<'_>, role: When, by: Option<Time>) {
        let third = by.map_or(Duration::MAX, |by| step.now.until(by) / 3);
        let patience = self.patience(step.now).min(third).max(LEAST_PATIENCE);
        let of_role: Vec<RunId> =
            self.live.iter().filter(|(_, command)| command.role == role).map(|(run, _)| *run).collect();
        for run in of_role {
            self.cancel_within(step, run, patience);
        }
        self.end_kept_within(step, role, patience, false);
    }

    /// Tells what commands of this role only left behind to end: it worked with main, which has ended.
    pub fn end_kept(&mut self, step: &mut Step<'_>, role: When) {
        self.end_kept_within(step, role, self.patience(step.now), true);
    }

    fn end_kept_within(&mut self, step: &mut Step<'_>, role: When, patience: Duration, main_ended: bool) {
        for (run, command) in self.live.iter_mut().filter(|(_, command)| command.role == role) {
            match &mut command.state {
                RunState::Kept if command.keeps_for == KeptFor::RoleAndMain && !main_ended => {}
                RunState::Kept | RunState::Lingering { .. } => {
                    command.tell(*run, step.now + patience, EndReason::Cancelled, step.out)
                }
                RunState::Ended { keep } => *keep = false,
                RunState::Running { .. } | RunState::Ending { .. } | RunState::Stuck { .. } => {}
            }
        }
    }

    /// Tells what commands of this role only were allowed to leave to end, and has none leave anything from now on: the
    /// role is being left, and what they keep would act beside whoever has it next. What one leaves otherwise has its
    /// moment, and what goes with main ends once that has.
    pub fn keep_nothing(&mut self, step: &mut Step<'_>, role: When) {
        let patience = self.patience(step.now);
        for (run, command) in self.live.iter_mut().filter(|(_, command)| command.role == role) {
            match &mut command.state {
                RunState::Kept if command.keeps_for == KeptFor::RoleAndMain => {}
                RunState::Kept => command.tell(*run, step.now + patience, EndReason::Cancelled, step.out),
                RunState::Ended { keep } => *keep = false,
                RunState::Running { .. }
                | RunState::Lingering { .. }
                | RunState::Ending { .. }
                | RunState::Stuck { .. } => {}
            }
        }
    }

    /// Tells what this job's last run was allowed to leave to end, since the job is to run again. Whether there is
    /// something to wait for.
    pub fn end_last(&mut self, step: &mut Step<'_>, job: &Job) -> bool {
        let kill_at = step.now + self.patience(step.now);
        for (run, command) in self.live.iter_mut().filter(|(_, command)| command.job.is_like(job)) {
            if command.state == RunState::Kept {
                command.tell(*run, kill_at, EndReason::Cancelled, step.out);
            }
        }
        self.of_job(job) == JobState::Busy
    }

    /// Kills whatever runs now, and what such left behind, but what is the container's, as coprocesses of any role are;
    /// each end is still waited for.
    pub fn kill(&mut self, step: &mut Step<'_>) {
        for command in self.live.values_mut() {
            let (why, reaped) = match command.state {
                RunState::Kept if command.role == When::Always => continue,
                _ if command.role == When::Always && command.stop.is_some() => continue,
                RunState::Stuck { .. } | RunState::Ending { killed: Some(_), .. } => continue,
                RunState::Running { .. } => (EndReason::Cancelled, false),
                RunState::Ending { why, reaped, .. } => (why, reaped),
                RunState::Ended { .. } | RunState::Lingering { .. } | RunState::Kept => (EndReason::Cancelled, true),
            };
            command.state = RunState::Ending { why, reaped, kill_at: step.now, killed: None };
        }
        // Nothing is given up by a first SIGKILL.
        self.tick(step);
    }

    /// Tells all there still is to end, by this time or soon, which is returned: the container ends.
    pub fn end_rest(&mut self, step: &mut Step<'_>, kill_at: Option<Time>) -> Time {
        let kill_at = kill_at.map_or(step.now + KILL_AFTER, |at| at.max(step.now + LEAST_PATIENCE));
        for (run, command) in &mut self.live {
            match &mut command.state {
                RunState::Kept | RunState::Lingering { .. } | RunState::Running { .. } => {
                    command.tell(*run, kill_at, EndReason::Cancelled, step.out);
                }
                RunState::Ended { keep } => *keep = false,
                RunState::Ending { .. } | RunState::Stuck { .. } => {}
            }
        }
        kill_at
    }

    /// Kills whatever there is: the container ends.
    pub fn kill_all(&mut self, out: &mut Vec<Effect>) {
        for (run, _) in std::mem::take(&mut self.live) {
            out.push(Effect::Kill { target: Target::All(run), signal: Signal::KILL });
        }
    }

    /// Main is to be told by then: commands that are ended from now on have a part of that time.
    pub fn hurry(&mut self, until: Option<Time>) {
        self.hurry = until;
    }

    /// How long what is told to end now has before SIGKILL.
    pub(super) fn patience(&self, now: Time) -> Duration {
        self.hurry.map_or(KILL_AFTER, |until| KILL_AFTER.min(now.until(until) / 2).max(LEAST_PATIENCE))
    }
}
