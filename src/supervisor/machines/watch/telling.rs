//! Who is told of a change: `on_change`, then main by its signal.

use crate::config::Hook;

use super::{Context, Watch, WatchStage};
use crate::supervisor::machines::commands::{Commands, JobState, Launch, Outcome};
use crate::supervisor::vocabulary::{Announcement, Change, Effect, Job, Notice, Observation, RunId};

impl Watch {
    /// Whether what a command of this watch left is being ended: the next run would act beside it.
    pub(super) fn is_clearing(&self, commands: &Commands) -> bool {
        let watch = || self.config.name.clone();
        let jobs = [Job::OnChange { watch: watch() }, Job::TemplateCheck { watch: watch() }];
        jobs.iter().any(|job| commands.of_job(job) == JobState::Busy)
    }

    /// Main reads a file that was there before it at its start, and needs no telling.
    pub(super) fn tell(&mut self, on: Observation, context: &mut Context<'_, '_>) {
        match context.main.is_up() {
            true => self.hook(on, context),
            // Who follows it is told.
            false if context.main.is_following() => {}
            false => self.done(on, context),
        }
    }

    pub(super) fn hook(&mut self, on: Observation, context: &mut Context<'_, '_>) {
        if !context.tells {
            return self.done(on, context);
        }
        if !context.is_for(self.config.when) {
            return self.set_aside(context);
        }
        // What the last run was allowed to leave ends first, which is an event.
        let job = Job::OnChange { watch: self.config.name.clone() };
        if self.config.on_change.is_some() && context.commands.end_last(context.step, &job) {
            self.pending = true;
            return;
        }
        let watch = self.config.name.clone();
        // Another try at what failed is no change.
        if self.failed_on.take().as_ref() != Some(&on) {
            self.changes += 1;
            self.tell_of_change(&on, context);
        }
        let Some(hook) = self.config.on_change.clone() else { return self.signal(on, context) };
        let told = Announcement { watch: watch.clone(), before: self.told.before(&on), now: on.clone() };
        let run = self.command(Job::OnChange { watch }, hook, Some(told), context);
        self.stage = WatchStage::Hook { on, run };
    }

    fn tell_of_change(&self, on: &Observation, context: &mut Context<'_, '_>) {
        let change = Change::between(&self.acted, on);
        let watch = self.config.name.clone();
        let what = match change.is_empty() {
            true if self.config.template.is_some() => "its file was made anew from what was seen before".to_owned(),
            // A change that was taken back after a hook that failed was told of it.
            true => "it is again as it was".to_owned(),
            false => change.in_words(),
        };
        context.step.out.push(Effect::Say(Notice::DependencyChanged { watch, what }));
    }

    pub(super) fn command(
        &self,
        job: Job,
        hook: Hook,
        stdin: Option<Announcement>,
        context: &mut Context<'_, '_>,
    ) -> RunId {
        let run = (context.next_run)();
        let mut env = context.env.clone();
        env.push(("PILOTFISH_EVENT".to_owned(), job.event().to_owned()));
        env.push(("PILOTFISH_WATCH".to_owned(), self.config.name.clone()));
        let hook = Hook { when: self.config.when, ..hook };
        context.commands.start(context.step, run, Launch { job, hook, env, stdin });
        run
    }

    /// `on_change` ended.
    pub fn hook_ended(&mut self, run: RunId, outcome: &Outcome, context: &mut Context<'_, '_>) {
        match std::mem::replace(&mut self.stage, WatchStage::Quiet) {
            WatchStage::Hook { on, run: own } if own == run => match outcome.result() {
                Ok(()) => {
                    self.told.was_taken(on.clone());
                    self.signal(on, context);
                }
                Err(error) => {
                    if !matches!(outcome, Outcome::NotStarted(_)) {
                        self.told.was_in_vain(&on);
                    }
                    self.pending = true;
                    self.failed_on = Some(on);
                    if *outcome == Outcome::Cancelled {
                        return self.set_aside(context);
                    }
                    self.try_again(format!("on_change {error}"), context);
                    let hook = Job::OnChange { watch: self.config.name.clone() };
                    let after = self.hold_until.map(|at| at.since(context.step.now)).unwrap_or_default();
                    context.step.out.push(Effect::Say(Notice::HookRetrying { hook, after }));
                }
            },
            other => self.stage = other,
        }
    }

    /// Nobody asks any more what comes of a run.
    pub(super) fn give_up_hook(&mut self) {
        if let WatchStage::Hook { on, .. } = &self.stage {
            self.told.was_in_vain(on);
            self.stage = WatchStage::Quiet;
        }
    }

    fn signal(&mut self, on: Observation, context: &mut Context<'_, '_>) {
        if self.config.signal.is_some() && context.tells && (context.main.is_up() || context.main.is_following()) {
            self.hint.call(context.step.now);
            self.send_hint(context);
        }
        self.done(on, context);
    }

    /// A main that went away meanwhile reads its files when it comes again.
    pub(super) fn send_hint(&mut self, context: &mut Context<'_, '_>) {
        if !self.hint.is_called() {
            return;
        }
        if !context.tells {
            return self.hint.forget();
        }
        let target = context.main.target(context.scope).filter(|_| context.main.is_up());
        match (self.config.signal, target) {
            (Some(signal), Some(target)) if context.is_for(self.config.when) => {
                self.hint.asks();
                context.step.out.push(Effect::Hint { watch: self.config.name.clone(), target, signal });
            }
            (Some(_), Some(_)) => self.hint.waits(),
            (Some(_), None) if context.main.is_following() => self.hint.waits(),
            (_, None) | (None, _) => self.hint.forget(),
        }
    }

    /// Main was signalled, or would still die of the signal.
    pub fn hinted(&mut self, sent: bool, context: &mut Context<'_, '_>) {
        let given_up = self.hint.answered(context.step.now, sent);
        if let (true, Some(signal)) = (given_up, self.config.signal) {
            let what = format!("watch {}: {signal} isn't sent, for main would die of it", self.config.name);
            context.step.out.push(Effect::Say(Notice::Degraded { what }));
        }
    }
}
