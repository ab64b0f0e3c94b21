//! One dependency: what it was when last acted on, what it is now, and the steps of acting on the difference: render
//! the template, check it, put it in place, run `on_change`, signal main. Changes that come meanwhile gather; nothing
//! is queued. A signal that main would die of waits beside all that, and keeps no change from being acted on.
//!
//! [`mod@file`] makes the file, [`telling`] tells `on_change` and main, [`reload`] takes another config. [`doubt`] is who is
//! missing as a store comes back, [`told`] what `on_change` knows, [`hint`] that signal.

mod doubt;
mod file;
mod hint;
mod reload;
mod telling;
mod told;

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Backoff, Query, Watch as Config, When};

use self::doubt::Doubt;
use self::hint::Hint;
use self::told::Told;
use super::commands::Commands;
use super::jitter::{self, Jitter};
use super::main::Main;
use super::outage::Outage;
use crate::supervisor::vocabulary::{Effect, Follow, Notice, Observation, RunId, Staged, Step, Time, WatchStatus};

/// Tries after a template or a hook failed: what it lacked (a name its check looks up, say) may come by itself.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(30) };

/// One dependency.
#[derive(Debug)]
pub struct Watch {
    config: Arc<Config>,
    /// What is seen, and who is only missing as the store came back.
    believed: Option<Observation>,
    /// What main and the file know of.
    acted: Observation,
    /// What `on_change` does.
    told: Told,
    stage: WatchStage,
    /// The signal that main is still to get.
    hint: Hint,
    /// What a store that came back seems to have lost.
    doubt: Doubt,
    /// The store may have lost what it held before the next answer.
    anew: bool,
    /// Nobody has said yet what to make the file of, which is one of a life before.
    kept: bool,
    /// Not acted again before this: the end of a run's quiet spell, or another try.
    hold_until: Option<Time>,
    /// A template has been rendered once, or given up on, so that main may start.
    prepared: bool,
    /// The file, or what a hook that failed or was cut short was told, is newer than what main and the hook know of.
    pending: bool,
    /// The file may not be what it was made to be, or not be made of an answer: it is to be looked at again.
    doubtful: bool,
    failures: u32,
    /// What the last run of `on_change` failed on, or was cut short at.
    failed_on: Option<Observation>,
    changes: u64,
    error: Option<String>,
    outage: Outage,
    /// Why what was seen couldn't be acted on, until it is.
    trouble: Option<String>,
}

#[derive(Debug)]
enum WatchStage {
    Quiet,
    Rendering {
        on: Observation,
        since: Time,
    },
    Checking {
        on: Observation,
        run: RunId,
        staged: Staged,
    },
    Installing {
        on: Observation,
        since: Time,
    },
    Hook {
        on: Observation,
        run: RunId,
    },
    /// What is being made, or put in place, is of a config before this one: its end is awaited, and nothing follows from it.
    Outdated,
}

/// What a watch may use of the rest of the core while it acts.
pub struct Context<'a, 'b> {
    /// To run commands.
    pub commands: &'a mut Commands,
    /// The next run's id.
    pub next_run: &'a mut dyn FnMut() -> RunId,
    /// Who gets the signal; hooks wait until it is up.
    pub main: &'a Main,
    /// Whether this container leads; `None`: it has led, and comes to no role any more.
    pub leads: Option<bool>,
    /// Whether the container is in maintenance: no change is acted on.
    pub paused: bool,
    /// Whether main and `on_change` are told of changes. A main that something else ends may take a signal for another one:
    /// reload, and serve on.
    pub tells: bool,
    /// How main is signalled.
    pub scope: crate::config::SignalScope,
    /// Variables every hook gets.
    pub env: Vec<(String, String)>,
    /// Scatter.
    pub jitter: &'a mut Jitter,
    /// Orders go here.
    pub step: &'a mut Step<'b>,
}

impl Context<'_, '_> {
    /// Whether what is done in this role is done now.
    fn is_for(&self, role: When) -> bool {
        self.leads.map_or(role == When::Always, |leads| role.applies(leads))
    }
}

impl Watch {
    /// A watch that has seen nothing.
    pub fn new(config: Arc<Config>) -> Watch {
        let acted = nothing(&config.query);
        let prepared = config.template.is_none();
        Watch {
            config,
            believed: None,
            told: Told::nothing(&acted),
            acted,
            stage: WatchStage::Quiet,
            hint: Hint::default(),
            hold_until: None,
            doubt: Doubt::default(),
            anew: false,
            kept: false,
            prepared,
            pending: false,
            doubtful: false,
            failures: 0,
            failed_on: None,
            changes: 0,
            error: None,
            outage: Outage::default(),
            trouble: None,
        }
    }

    /// As configured.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The order to look.
    pub fn follow(&self) -> Effect {
        Effect::Follow { follow: Follow::Watch(self.config.name.clone()), query: self.config.query.clone() }
    }

    /// The order to look no more.
    pub fn unfollow(&self) -> Effect {
        Effect::Unfollow { follow: Follow::Watch(self.config.name.clone()) }
    }

    /// Looks no more, and no file of it goes live. The run under way, which is to be ended.
    pub fn end(&mut self, out: &mut Vec<Effect>) -> Option<RunId> {
        out.push(self.unfollow());
        let check = self.give_up_file(out);
        match std::mem::replace(&mut self.stage, WatchStage::Quiet) {
            WatchStage::Hook { run, .. } => Some(run),
            _ => check,
        }
    }

    /// A config was read: what a file is made from may have changed, or the file itself, or who is told. What failed may be
    /// mended.
    pub fn refresh(&mut self, context: &mut Context<'_, '_>) {
        self.doubtful |= self.config.template.is_some();
        if self.trouble.is_some() && matches!(self.stage, WatchStage::Quiet) {
            (self.failures, self.hold_until) = (0, None);
        }
        self.act(context);
    }

    /// The way to the store broke, or it began anew: what is seen next may lack what was lost.
    pub fn begins_anew(&mut self) {
        self.anew = true;
    }

    /// The follower saw something.
    pub fn observed(&mut self, seen: Result<Observation, String>, context: &mut Context<'_, '_>) {
        match seen {
            Ok(seen) => {
                let back = self.error.take().is_some();
                self.outage.over();
                self.doubt.goes_on(context.step.now);
                if back {
                    context.step.out.push(Effect::Say(Notice::CatalogBack { what: self.what() }));
                }
                let back = std::mem::take(&mut self.anew) || back;
                let believed = self.believe(seen, back, context);
                let is_news = self.believed.as_ref() != Some(&believed);
                self.believed = Some(believed);
                // What failed for what was seen before needn't fail for this.
                if is_news && self.trouble.is_some() && matches!(self.stage, WatchStage::Quiet) {
                    let soon = context.step.now + self.config.settle;
                    self.hold_until = self.hold_until.map(|at| at.min(soon));
                }
                self.failures = 0;
                self.act(context);
            }
            // What was seen last stays: a store that doesn't answer says nothing about the dependency.
            Err(error) => {
                if self.outage.is_news(&error) {
                    let what = self.what();
                    context.step.out.push(Effect::Say(Notice::CatalogFailed { what, error: error.clone() }));
                }
                self.error = Some(error);
                self.doubt.rests(context.step.now);
            }
        }
    }

    /// What there is, as far as is known.
    fn believe(&mut self, seen: Observation, back: bool, context: &mut Context<'_, '_>) -> Observation {
        // Who leads is a word of the store's own.
        let (Observation::Instances(there), Query::Service { .. }) = (&seen, &self.config.query) else { return seen };
        let now = context.step.now;
        let Some(Observation::Instances(before)) = &self.believed else {
            // Where main isn't to start without an answer, it starts with this one.
            let is_there_perhaps = self.config.template.is_some() && self.required().is_none();
            if back && is_there_perhaps && (self.kept || (there.is_empty() && !self.prepared)) {
                self.doubt.is_of_all(now);
            }
            return seen;
        };
        match self.doubt.believes(now, there, before, back) {
            Ok(believed) => Observation::Instances(believed),
            Err(_) => {
                let what = format!(
                    "{}: with those who are missing as the catalog came back there is more than is taken in: they count as gone",
                    self.what()
                );
                context.step.out.push(Effect::Say(Notice::Degraded { what }));
                seen
            }
        }
    }

    /// Acts when there is something new, nothing is under way and the quiet spell is over.
    pub fn act(&mut self, context: &mut Context<'_, '_>) {
        if self.hint.is_aside() {
            self.send_hint(context);
        }
        let Some(seen) = self.believed.clone() else { return };
        // A main that waits for its file gets it as it is.
        let unanswered = self.config.template.is_some() && self.doubt.is_of_all_until().is_some();
        let held = self.hold_until.is_some_and(|at| at > context.step.now) || (unanswered && self.prepared);
        // A main that waits for its file gets it.
        let paused = context.paused && self.prepared;
        if held || paused || !matches!(self.stage, WatchStage::Quiet) || !context.is_for(self.config.when) {
            return;
        }
        self.hold_until = None;
        if self.is_clearing(context.commands) {
            return;
        }
        if self.config.template.is_some() {
            if seen != self.acted || !self.prepared || self.pending || self.doubtful || self.trouble.is_some() {
                self.render(seen, unanswered, context);
            }
        } else if (seen != self.acted || self.pending) && context.main.is_up() {
            self.hook(seen, context);
        }
    }

    /// Goes on when a quiet spell ends, and with a signal that main is still to get.
    pub fn tick(&mut self, context: &mut Context<'_, '_>) {
        let now = context.step.now;
        if self.hint.due().is_some_and(|at| at <= now) {
            self.send_hint(context);
        }
        let (held, doubted) = (self.hold_until.take_if(|at| *at <= now), self.doubt.ends(now, &mut self.believed));
        if held.is_some() || doubted {
            self.act(context);
        }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn deadline(&self) -> Option<Time> {
        self.hold_until.into_iter().chain(self.doubt.until()).chain(self.hint.due()).min()
    }

    /// For `/status`.
    pub fn status(&self) -> WatchStatus {
        WatchStatus {
            name: self.config.name.clone(),
            seen: self.believed.as_ref().map(|believed| believed.len() - self.doubt.missing()),
            changes: self.changes,
            making_since: match self.stage {
                WatchStage::Rendering { since, .. } | WatchStage::Installing { since, .. } => Some(since),
                WatchStage::Quiet | WatchStage::Checking { .. } | WatchStage::Hook { .. } | WatchStage::Outdated => {
                    None
                }
            },
            error: self.error.clone().or_else(|| self.trouble.clone()),
        }
    }

    fn done(&mut self, on: Observation, context: &mut Context<'_, '_>) {
        self.acted = on;
        self.prepared = true;
        self.kept = false;
        self.doubt.knows_the_file();
        self.pending = false;
        self.failures = 0;
        self.trouble = None;
        self.hold_until = Some(context.step.now + self.config.settle);
    }

    /// The role that it was for is gone: the change is acted on when that comes again.
    fn set_aside(&mut self, context: &mut Context<'_, '_>) {
        self.hold_until = Some(context.step.now + self.config.settle);
    }

    /// What was seen isn't acted on yet: another try comes, after a pause, or with the next change.
    fn try_again(&mut self, error: String, context: &mut Context<'_, '_>) {
        self.trouble = Some(error);
        self.failures += 1;
        self.hold_until = Some(context.step.now + context.jitter.scatter(jitter::pause(RETRY, self.failures)));
    }

    fn what(&self) -> String {
        format!("watching {}", self.config.name)
    }
}

fn nothing(query: &Query) -> Observation {
    match query {
        Query::Service { .. } | Query::Leader { .. } => Observation::Instances([].into()),
        Query::Key { .. } => Observation::Key(None),
        Query::KeyPrefix { .. } => Observation::Keys([].into()),
    }
}
