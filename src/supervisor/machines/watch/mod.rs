//! One dependency: what it was when last acted on, what it is now, and the steps of acting on the difference: render
//! the template, check it, put it in place, run `on_change`, signal main. Changes that come meanwhile gather; nothing
//! is queued. A signal that main would die of waits beside all that, and keeps no change from being acted on.
//!
//! [`doubt`] is who is missing as a store comes back, [`told`] what `on_change` knows, [`hint`] that signal.

mod doubt;
mod hint;
mod told;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Backoff, Exec, Hook, Query, Required, Watch as Config, When};

use self::doubt::Doubt;
use self::hint::Hint;
use self::told::Told;
use super::commands::{Commands, JobState, Launch, Outcome};
use super::jitter::{self, Jitter};
use super::main::Main;
use super::outage::Outage;
use crate::supervisor::vocabulary::{
    Announcement, Change, Effect, Follow, Job, Notice, Observation, Rendering, RunId, Staged, Step, Time, WatchStatus,
};

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

    /// Whether one so configured sees what this one does.
    pub fn serves(&self, config: &Config) -> bool {
        (&self.config.name, &self.config.query) == (&config.name, &config.query)
    }

    /// Goes on, as configured now: what was told stays told, and its file is looked at again. A check of one that is to be
    /// made otherwise, or not at all, which is to be ended.
    pub fn reconfigure(&mut self, config: Arc<Config>, out: &mut Vec<Effect>) -> Option<RunId> {
        let run = if self.config.template == config.template { None } else { self.give_up_file(out) };
        if self.config.template.is_some() != config.template.is_some() {
            self.prepared = config.template.is_none();
        }
        self.doubtful |= config.template.is_some();
        let another = command_of(&self.config) != command_of(&config);
        self.config = config;
        if another {
            self.tells_another();
        }
        run
    }

    /// Another command is told all there is. The one before, should it run, is waited for, and nothing follows from it.
    fn tells_another(&mut self) {
        self.give_up_hook();
        self.told.begins_anew();
        self.failed_on = None;
        if self.config.template.is_none() {
            self.acted = nothing(&self.config.query);
            self.pending |= self.told.is_any();
        }
    }

    /// One that looks at something else, in place of another. Its command, if it is the same, hears what is no more of what
    /// that one saw.
    pub fn in_place_of(mut other: Watch, config: Arc<Config>) -> Watch {
        let mut watch = Watch::new(config);
        if let WatchStage::Outdated = other.stage {
            (watch.stage, watch.pending) = (WatchStage::Outdated, other.pending);
        }
        if command_of(&other.config) == command_of(&watch.config) && other.told.is_like(&watch.acted) {
            other.give_up_hook();
            watch.told = other.told;
            watch.pending |= watch.config.template.is_none() && watch.told.is_any();
        }
        watch
    }

    /// No file of it goes live any more, but for one that is being put in place. Its check, which is to be ended.
    pub fn give_up_file(&mut self, out: &mut Vec<Effect>) -> Option<RunId> {
        match std::mem::replace(&mut self.stage, WatchStage::Outdated) {
            WatchStage::Checking { run, staged, .. } => {
                self.stage = WatchStage::Quiet;
                out.push(Effect::Discard(staged));
                return Some(run);
            }
            // Main and the hook know nothing of that.
            WatchStage::Installing { .. } => self.pending = true,
            WatchStage::Rendering { .. } | WatchStage::Outdated => {}
            other @ (WatchStage::Quiet | WatchStage::Hook { .. }) => self.stage = other,
        }
        None
    }

    /// Nobody asks any more what comes of a run.
    fn give_up_hook(&mut self) {
        if let WatchStage::Hook { on, .. } = &self.stage {
            self.told.was_in_vain(on);
            self.stage = WatchStage::Quiet;
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

    /// Whether main need not wait for this watch's file.
    pub fn is_prepared(&self, leads: bool) -> bool {
        self.prepared || !self.config.when.applies(leads)
    }

    /// Whether only a first answer keeps main waiting, and not for longer than it may.
    pub fn awaits_answer(&self, leads: bool) -> bool {
        !self.is_prepared(leads)
            && matches!(self.stage, WatchStage::Quiet)
            && self.believed.is_none()
            && self.required().is_none()
    }

    /// How long main waits for this watch's file; `None` when it isn't to start without.
    pub fn required(&self) -> Option<Required> {
        self.config.template.as_ref().and_then(|template| template.required)
    }

    /// Why main couldn't start, for people.
    pub fn missing(&self) -> String {
        let destination = self.config.template.as_ref().map(|template| template.destination.display().to_string());
        let why = self.trouble.as_deref().or(self.error.as_deref()).unwrap_or("the catalog gave no answer");
        format!("watch {}: {} isn't made: {why}", self.config.name, destination.unwrap_or_default())
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

    /// Main shall not wait longer for a first answer: the file is made with what is known, be it nothing.
    pub fn prepare_without_answer(&mut self, context: &mut Context<'_, '_>) {
        if self.awaits_answer(context.leads == Some(true)) {
            let on = self.acted.clone();
            self.render(on, true, context);
        }
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

    /// Whether what a command of this watch left is being ended: the next run would act beside it.
    fn is_clearing(&self, commands: &Commands) -> bool {
        let watch = || self.config.name.clone();
        let jobs = [Job::OnChange { watch: watch() }, Job::TemplateCheck { watch: watch() }];
        jobs.iter().any(|job| commands.of_job(job) == JobState::Busy)
    }

    /// The template was rendered.
    pub fn rendered(&mut self, outcome: Rendering, context: &mut Context<'_, '_>) {
        let on = match std::mem::replace(&mut self.stage, WatchStage::Quiet) {
            WatchStage::Rendering { on, .. } => on,
            other => {
                if let Rendering::Staged(staged) = outcome {
                    context.step.out.push(Effect::Discard(staged));
                }
                return self.is_over(other, context);
            }
        };
        match outcome {
            Rendering::Unchanged if self.pending => self.tell(on, context),
            Rendering::Unchanged => self.done(on, context),
            Rendering::Kept => self.kept(context),
            Rendering::Failed(error) => self.failed(error, context),
            Rendering::Staged(staged) if !context.is_for(self.config.when) => {
                context.step.out.push(Effect::Discard(staged));
                self.set_aside(context);
            }
            Rendering::Staged(staged) => {
                let Some(template) = &self.config.template else { return };
                let Some(check) = &template.check else { return self.install(on, staged, context) };
                let exec = with_path(check, staged.path.as_deref().unwrap_or(&template.destination));
                let run_as = template.check_as.clone();
                let hook = Hook { run_as, ..Hook::new(exec, template.check_timeout) };
                let job = Job::TemplateCheck { watch: self.config.name.clone() };
                let run = self.command(job, hook, None, context);
                self.stage = WatchStage::Checking { on, run, staged };
            }
        }
    }

    /// The check of a rendered file ended.
    pub fn checked(&mut self, run: RunId, outcome: &Outcome, context: &mut Context<'_, '_>) {
        let (on, staged) = match std::mem::replace(&mut self.stage, WatchStage::Quiet) {
            WatchStage::Checking { on, run: own, staged } if own == run => (on, staged),
            other => return self.stage = other,
        };
        // Another role's file doesn't go live, and a check that was cut short says nothing of the template.
        let in_vain = !context.is_for(self.config.when) || *outcome == Outcome::Cancelled;
        match outcome.result() {
            Ok(()) | Err(_) if in_vain => {
                context.step.out.push(Effect::Discard(staged));
                self.set_aside(context);
            }
            Ok(()) => self.install(on, staged, context),
            Err(error) => {
                // By a relative path the file finds nothing of what lies beside its destination there.
                let apart = match staged.path.is_some() && !staged.beside {
                    true => format!(
                        " (it looked at a copy apart from {}, where what the file names by relative paths isn't)",
                        staged.template.destination.display()
                    ),
                    false => String::new(),
                };
                context.step.out.push(Effect::Discard(staged));
                self.failed(format!("its check {error}{apart}"), context);
            }
        }
    }

    /// What is over isn't what this one waits for now; but what it had begun as configured before may be.
    fn is_over(&mut self, stage: WatchStage, context: &mut Context<'_, '_>) {
        match stage {
            WatchStage::Outdated => self.act(context),
            other => self.stage = other,
        }
    }

    /// The file is in place, or couldn't be put there.
    pub fn installed(&mut self, result: Result<(), String>, context: &mut Context<'_, '_>) {
        let on = match std::mem::replace(&mut self.stage, WatchStage::Quiet) {
            WatchStage::Installing { on, .. } => on,
            other => return self.is_over(other, context),
        };
        match result {
            Err(error) => self.failed(error, context),
            Ok(()) => {
                if let Some(template) = &self.config.template {
                    let destination = template.destination.display().to_string();
                    let watch = self.config.name.clone();
                    context.step.out.push(Effect::Say(Notice::TemplateWritten { watch, destination }));
                }
                self.pending = true;
                self.tell(on, context);
            }
        }
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

    /// Main was signalled, or would still die of the signal.
    pub fn hinted(&mut self, sent: bool, context: &mut Context<'_, '_>) {
        let given_up = self.hint.answered(context.step.now, sent);
        if let (true, Some(signal)) = (given_up, self.config.signal) {
            let what = format!("watch {}: {signal} isn't sent, for main would die of it", self.config.name);
            context.step.out.push(Effect::Say(Notice::Degraded { what }));
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

    fn render(&mut self, on: Observation, unanswered: bool, context: &mut Context<'_, '_>) {
        let Some(template) = self.config.template.clone() else { return };
        let watch = self.config.name.clone();
        self.doubtful = unanswered;
        context.step.out.push(Effect::Render { watch, template, seen: on.clone(), unanswered });
        self.stage = WatchStage::Rendering { on, since: context.step.now };
    }

    fn install(&mut self, on: Observation, staged: Staged, context: &mut Context<'_, '_>) {
        context.step.out.push(Effect::Install { watch: self.config.name.clone(), staged });
        self.stage = WatchStage::Installing { on, since: context.step.now };
    }

    /// Main reads a file that was there before it at its start, and needs no telling.
    fn tell(&mut self, on: Observation, context: &mut Context<'_, '_>) {
        match context.main.is_up() {
            true => self.hook(on, context),
            // Who follows it is told.
            false if context.main.is_following() => {}
            false => self.done(on, context),
        }
    }

    fn hook(&mut self, on: Observation, context: &mut Context<'_, '_>) {
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

    fn command(&self, job: Job, hook: Hook, stdin: Option<Announcement>, context: &mut Context<'_, '_>) -> RunId {
        let run = (context.next_run)();
        let mut env = context.env.clone();
        env.push(("PILOTFISH_EVENT".to_owned(), job.event().to_owned()));
        env.push(("PILOTFISH_WATCH".to_owned(), self.config.name.clone()));
        let hook = Hook { when: self.config.when, ..hook };
        context.commands.start(context.step, run, Launch { job, hook, env, stdin });
        run
    }

    fn signal(&mut self, on: Observation, context: &mut Context<'_, '_>) {
        if self.config.signal.is_some() && context.tells && (context.main.is_up() || context.main.is_following()) {
            self.hint.call(context.step.now);
            self.send_hint(context);
        }
        self.done(on, context);
    }

    /// A main that went away meanwhile reads its files when it comes again.
    fn send_hint(&mut self, context: &mut Context<'_, '_>) {
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

    /// Nobody has said what to make the file of, or a store that may have lost it, and there is one: no answer isn't an empty
    /// one.
    fn kept(&mut self, context: &mut Context<'_, '_>) {
        if let Some(template) = &self.config.template {
            let destination = template.destination.display().to_string();
            context.step.out.push(Effect::Say(Notice::TemplateKept { watch: self.config.name.clone(), destination }));
        }
        (self.prepared, self.kept) = (true, true);
        // An answer that came meanwhile.
        self.act(context);
    }

    /// The role that it was for is gone: the change is acted on when that comes again.
    fn set_aside(&mut self, context: &mut Context<'_, '_>) {
        self.hold_until = Some(context.step.now + self.config.settle);
    }

    fn failed(&mut self, error: String, context: &mut Context<'_, '_>) {
        // It is tried again for as long as it fails: that is news only if it is for another reason.
        if self.trouble.as_ref() != Some(&error) {
            let watch = self.config.name.clone();
            context.step.out.push(Effect::Say(Notice::TemplateFailed { watch, error: error.clone() }));
        }
        // Main starts with the file there is: a fault in a template must not keep a database down.
        self.prepared |= self.required().is_none();
        self.try_again(error, context);
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

/// What is told of changes: how, and for how long it may, says nothing of what it knows.
fn command_of(config: &Config) -> Option<&Exec> {
    config.on_change.as_ref().map(|hook| &hook.exec)
}

fn nothing(query: &Query) -> Observation {
    match query {
        Query::Service { .. } | Query::Leader { .. } => Observation::Instances([].into()),
        Query::Key { .. } => Observation::Key(None),
        Query::KeyPrefix { .. } => Observation::Keys([].into()),
    }
}

fn with_path(check: &Exec, path: &Path) -> Exec {
    let filled = |arg: &std::ffi::OsString| match arg.to_str() {
        Some(text) if text.contains("{}") => text.replace("{}", &path.to_string_lossy()).into(),
        _ => arg.clone(),
    };
    check.iter().map(filled).collect()
}
