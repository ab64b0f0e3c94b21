//! What watches act on, and what they are told to act with.

use crate::supervisor::Supervisor;
use crate::supervisor::machines::watch::{Context, Watch};
use crate::supervisor::vocabulary::{RunId, Step};

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

    /// Does it for each watch, unless the container is stopping: then nothing is acted on any more.
    pub(in crate::supervisor) fn each_watch(
        &mut self,
        step: &mut Step<'_>,
        mut act: impl FnMut(&mut Watch, &mut Context<'_, '_>),
    ) {
        if self.is_stopping() {
            return;
        }
        let env = self.common_env();
        let scope = self.process.signal_scope;
        let leads = self.leads();
        let paused = self.maintenance.is_some();
        let Supervisor { watches, commands, main, jitter, last_run, .. } = self;
        let mut next_run = || {
            *last_run += 1;
            RunId(*last_run)
        };
        for watch in watches {
            let (env, next_run) = (env.clone(), &mut next_run);
            act(watch, &mut Context { commands, next_run, main, scope, leads, paused, env, jitter, step });
        }
    }
}
