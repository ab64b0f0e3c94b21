//! What watches act on, what they are told to act with, and when they end: main serves on while the container drains, and
//! until it is told to stop what it reads is kept as things are.

use crate::supervisor::Supervisor;
use crate::supervisor::machines::watch::{Context, Watch};
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::vocabulary::{Effect, Rendering, Step};

impl Supervisor {
    pub(in crate::supervisor) fn with_watch(
        &mut self,
        step: &mut Step<'_>,
        name: &str,
        act: impl FnOnce(&mut Watch, &mut Context<'_, '_>),
    ) {
        let mut act = Some(act);
        self.each_watch(step, |watch, context| {
            if watch.config().name == name
                && let Some(act) = act.take()
            {
                act(watch, context);
            }
        });
    }

    /// Does it for each watch, unless nothing is acted on any more.
    pub(in crate::supervisor) fn each_watch(
        &mut self,
        step: &mut Step<'_>,
        mut act: impl FnMut(&mut Watch, &mut Context<'_, '_>),
    ) {
        if !self.watches_act() {
            return;
        }
        let env = self.common_env();
        let scope = self.process.signal_scope;
        let leads = self.leads_for_watches();
        let paused = self.maintenance.is_some();
        let tells = self.life.stopping().is_none_or(|stopping| stopping.tells);
        let Supervisor { watches, commands, main, jitter, last_run, .. } = self;
        let mut next_run = || last_run.one_more();
        for watch in watches {
            let (env, next_run) = (env.clone(), &mut next_run);
            act(watch, &mut Context { commands, next_run, main, scope, leads, paused, tells, env, jitter, step });
        }
    }

    /// A template was rendered. A file that comes too late, or whose watch a reload has taken away, goes live no more.
    pub(in crate::supervisor) fn rendered(&mut self, step: &mut Step<'_>, name: &str, outcome: Rendering) {
        let is_wanted = self.watches_act() && self.watches.iter().any(|watch| watch.config().name == name);
        match outcome {
            Rendering::Staged(staged) if !is_wanted => step.out.push(Effect::Discard(staged)),
            outcome => self.with_watch(step, name, |watch, context| watch.rendered(outcome, context)),
        }
    }

    /// Whether changes are acted on: until main is told to stop for good.
    pub(in crate::supervisor) fn watches_act(&self) -> bool {
        match self.life.stage() {
            LifeStage::Stopping(stopping) => stopping.watches,
            LifeStage::Ended => false,
            _ => true,
        }
    }

    /// Whether it is a leader that watches act for. One that has left its role as it stops comes to no other: `None`.
    fn leads_for_watches(&self) -> Option<bool> {
        let leads = self.leads();
        match self.life.stopping() {
            Some(stopping) if stopping.led && !leads => None,
            Some(_) | None => Some(leads),
        }
    }

    /// The container stops, and nobody is there who serves on: main was told before, has ended or was never up.
    pub(in crate::supervisor) fn end_watches_without_main(&mut self, step: &mut Step<'_>) {
        if !self.main.is_up() && !self.main.is_following() {
            self.end_watches(step);
        }
    }

    /// The container stops, and main is told, or gone: nothing is followed any more, no file goes live, and what runs is told
    /// to end: it might have a main go on that is to stop. Nothing waits for that before the container's own end.
    pub(in crate::supervisor) fn end_watches(&mut self, step: &mut Step<'_>) {
        let Some(stopping) = self.life.stopping_mut() else { return };
        if !std::mem::take(&mut stopping.watches) {
            return;
        }
        for watch in &mut self.watches {
            if let Some(run) = watch.end(step.out) {
                self.commands.cancel(step, run);
            }
        }
    }
}
