//! One dependency: what it was when last acted on, what it is now, and the steps of acting on the difference: render
//! the template, check it, put it in place, run `on_change`, signal main. Changes that come meanwhile gather; nothing
//! is queued.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Backoff, Exec, Hook, Query, Required, Watch as Config};

use super::change::Change;
use super::command::{Commands, Order, Outcome};
use super::event::{Effect, Follow, Job, Observation, Rendering, RunId, Staged};
use super::jitter::{self, Jitter};
use super::main_process::Main;
use super::notice::Notice;
use super::status::WatchStatus;
use super::time::Time;

/// Tries after a template or a hook failed: what it lacked (a name its check looks up, say) may come by itself.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(30) };

/// A main that doesn't catch the signal is looked at again after this...
const HINT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// ...for so long: a start that takes longer is told nothing, having read its files late enough.
const HINT_WITHIN: Duration = Duration::from_secs(30);

/// One dependency.
#[derive(Debug)]
pub struct Watch {
    config: Arc<Config>,
    seen: Option<Observation>,
    /// What main, the hook and the file know of.
    acted: Observation,
    stage: Stage,
    /// Not acted again before this: the end of a run's quiet spell, or another try.
    hold_until: Option<Time>,
    /// A template has been rendered once, or given up on, so that main may start.
    prepared: bool,
    /// The file, or what a hook that failed was told, is newer than what main and the hook know of.
    untold: bool,
    /// The file may not be what it was made to be, or not be made of an answer: it is to be looked at again.
    doubtful: bool,
    failures: u32,
    changes: u64,
    error: Option<String>,
    /// Why what was seen couldn't be acted on, until it is.
    trouble: Option<String>,
}

#[derive(Debug)]
enum Stage {
    Quiet,
    Rendering { on: Observation },
    Checking { on: Observation, run: RunId, staged: Staged },
    Installing { on: Observation },
    Hook { on: Observation, run: RunId },
    Hinting { on: Observation, since: Time },
}

/// What a watch may use of the rest of the core while it acts.
pub struct Hands<'a> {
    /// When it is.
    pub now: Time,
    /// To run commands.
    pub commands: &'a mut Commands,
    /// The next run's id.
    pub next_run: &'a mut dyn FnMut() -> RunId,
    /// Who gets the signal; hooks wait until it is up.
    pub main: &'a Main,
    /// Whether this container leads.
    pub leads: bool,
    /// Whether the container is in maintenance: no change is acted on.
    pub paused: bool,
    /// How main is signalled.
    pub scope: crate::config::SignalScope,
    /// Variables every hook gets.
    pub env: Vec<(String, String)>,
    /// Scatter.
    pub jitter: &'a mut Jitter,
    /// Orders go here.
    pub out: &'a mut Vec<Effect>,
}

impl Watch {
    /// A watch that has seen nothing.
    pub fn new(config: Arc<Config>) -> Watch {
        let acted = nothing(&config.query);
        let prepared = config.template.is_none();
        Watch {
            config,
            seen: None,
            acted,
            stage: Stage::Quiet,
            hold_until: None,
            prepared,
            untold: false,
            doubtful: false,
            failures: 0,
            changes: 0,
            error: None,
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

    /// Whether main need not wait for this watch's file.
    pub fn is_prepared(&self, leads: bool) -> bool {
        self.prepared || !self.config.when.applies(leads)
    }

    /// Whether only a first answer keeps main waiting, and not for longer than it may.
    pub fn awaits_answer(&self, leads: bool) -> bool {
        !self.is_prepared(leads)
            && matches!(self.stage, Stage::Quiet)
            && self.seen.is_none()
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

    /// Looks at the file again: what it is made from may have changed, or the file itself.
    pub fn refresh(&mut self, hands: &mut Hands<'_>) {
        if self.config.template.is_some() {
            self.doubtful = true;
            self.act(hands);
        }
    }

    /// Main shall not wait longer for a first answer: the file is made with what is known, be it nothing.
    pub fn prepare_without_answer(&mut self, hands: &mut Hands<'_>) {
        if self.awaits_answer(hands.leads) {
            let on = self.acted.clone();
            self.render(on, true, hands);
        }
    }

    /// The follower saw something.
    pub fn observed(&mut self, seen: Result<Observation, String>, hands: &mut Hands<'_>) {
        match seen {
            Ok(seen) => {
                if self.error.take().is_some() {
                    hands.out.push(Effect::Say(Notice::CatalogBack { what: self.what() }));
                }
                let is_news = self.seen.replace(seen.clone()).is_none_or(|before| before != seen);
                // What failed for what was seen before needn't fail for this.
                if is_news && self.trouble.is_some() && matches!(self.stage, Stage::Quiet) {
                    let soon = hands.now + self.config.settle;
                    self.hold_until = self.hold_until.map(|at| at.min(soon));
                }
                self.failures = 0;
                self.act(hands);
            }
            // What was seen last stays: an engine that doesn't answer says nothing about the dependency.
            Err(error) => {
                if self.error.as_ref() != Some(&error) {
                    hands.out.push(Effect::Say(Notice::CatalogFailed { what: self.what(), error: error.clone() }));
                }
                self.error = Some(error);
            }
        }
    }

    /// Acts when there is something new, nothing is under way and the quiet spell is over.
    pub fn act(&mut self, hands: &mut Hands<'_>) {
        let Some(seen) = self.seen.clone() else { return };
        let held = self.hold_until.is_some_and(|at| at > hands.now);
        // A main that waits for its file gets it.
        let paused = hands.paused && self.prepared;
        if held || paused || !matches!(self.stage, Stage::Quiet) || !self.config.when.applies(hands.leads) {
            return;
        }
        self.hold_until = None;
        if self.is_clearing(hands.commands) {
            return;
        }
        if self.config.template.is_some() {
            if seen != self.acted || !self.prepared || self.untold || self.doubtful || self.trouble.is_some() {
                self.render(seen, false, hands);
            }
        } else if (seen != self.acted || self.untold) && hands.main.is_up() {
            self.hook(seen, hands);
        }
    }

    /// Whether what a command of this watch left is being ended: the next run would act beside it.
    fn is_clearing(&self, commands: &Commands) -> bool {
        let watch = || self.config.name.clone();
        let jobs = [Job::OnChange { watch: watch() }, Job::TemplateCheck { watch: watch() }];
        jobs.iter().any(|job| commands.of_job(job) == Some(false))
    }

    /// The template was rendered.
    pub fn rendered(&mut self, outcome: Rendering, hands: &mut Hands<'_>) {
        let Stage::Rendering { on } = std::mem::replace(&mut self.stage, Stage::Quiet) else { return };
        match outcome {
            Rendering::Unchanged if self.untold => self.tell(on, hands),
            Rendering::Unchanged => self.done(on, hands),
            Rendering::Kept => self.kept(hands),
            Rendering::Failed(error) => self.failed(error, hands),
            Rendering::Staged(staged) if !self.config.when.applies(hands.leads) => {
                hands.out.push(Effect::Discard(staged));
                self.undone(hands);
            }
            Rendering::Staged(staged) => {
                let Some(template) = &self.config.template else { return };
                let Some(check) = &template.check else { return self.install(on, staged, hands) };
                let exec = with_path(check, staged.path.as_deref().unwrap_or(&template.destination));
                let run_as = template.check_as.clone();
                let hook = Hook { run_as, ..Hook::new(exec, template.check_timeout) };
                let job = Job::TemplateCheck { watch: self.config.name.clone() };
                let run = self.command(job, hook, None, hands);
                self.stage = Stage::Checking { on, run, staged };
            }
        }
    }

    /// The check of a rendered file ended.
    pub fn checked(&mut self, run: RunId, outcome: &Outcome, hands: &mut Hands<'_>) {
        let (on, staged) = match std::mem::replace(&mut self.stage, Stage::Quiet) {
            Stage::Checking { on, run: own, staged } if own == run => (on, staged),
            other => return self.stage = other,
        };
        // Another role's file doesn't go live, and a check that was cut short says nothing of the template.
        let in_vain = !self.config.when.applies(hands.leads) || *outcome == Outcome::Cancelled;
        match outcome.result() {
            Ok(()) | Err(_) if in_vain => {
                hands.out.push(Effect::Discard(staged));
                self.undone(hands);
            }
            Ok(()) => self.install(on, staged, hands),
            Err(error) => {
                hands.out.push(Effect::Discard(staged));
                self.failed(format!("its check {error}"), hands);
            }
        }
    }

    /// The file is in place, or couldn't be put there.
    pub fn installed(&mut self, result: Result<(), String>, hands: &mut Hands<'_>) {
        let Stage::Installing { on } = std::mem::replace(&mut self.stage, Stage::Quiet) else { return };
        match result {
            Err(error) => self.failed(error, hands),
            Ok(()) => {
                if let Some(template) = &self.config.template {
                    let destination = template.destination.display().to_string();
                    let watch = self.config.name.clone();
                    hands.out.push(Effect::Say(Notice::TemplateWritten { watch, destination }));
                }
                self.untold = true;
                self.tell(on, hands);
            }
        }
    }

    /// `on_change` ended.
    pub fn hook_ended(&mut self, run: RunId, outcome: &Outcome, hands: &mut Hands<'_>) {
        match std::mem::replace(&mut self.stage, Stage::Quiet) {
            Stage::Hook { run: own, .. } if own == run && *outcome == Outcome::Cancelled => self.undone(hands),
            Stage::Hook { on, run: own } if own == run => match outcome.result() {
                Ok(()) => self.signal(on, hands),
                Err(error) => {
                    self.untold = true;
                    self.try_again(format!("on_change {error}"), hands);
                }
            },
            other => self.stage = other,
        }
    }

    /// Main was signalled, or doesn't catch the signal yet.
    pub fn hinted(&mut self, sent: bool, hands: &mut Hands<'_>) {
        let Stage::Hinting { on, since } = std::mem::replace(&mut self.stage, Stage::Quiet) else { return };
        if sent {
            return self.done(on, hands);
        }
        if hands.now.since(since) < HINT_WITHIN {
            self.stage = Stage::Hinting { on, since };
            self.hold_until = Some(hands.now + HINT_AGAIN_AFTER);
            return;
        }
        if let Some(signal) = self.config.signal {
            let what = format!("watch {}: main doesn't catch {signal}, which would end it: not sent", self.config.name);
            hands.out.push(Effect::Say(Notice::Degraded { what }));
        }
        self.done(on, hands);
    }

    /// Goes on when a quiet spell ends.
    pub fn tick(&mut self, hands: &mut Hands<'_>) {
        if self.hold_until.is_some_and(|at| at <= hands.now) {
            self.hold_until = None;
            match std::mem::replace(&mut self.stage, Stage::Quiet) {
                Stage::Hinting { on, since } => self.hint(on, since, hands),
                other => {
                    self.stage = other;
                    self.act(hands);
                }
            }
        }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn deadline(&self) -> Option<Time> {
        self.hold_until
    }

    /// For `/status`.
    pub fn status(&self) -> WatchStatus {
        WatchStatus {
            name: self.config.name.clone(),
            seen: self.seen.as_ref().map(Observation::len),
            changes: self.changes,
            error: self.error.clone().or_else(|| self.trouble.clone()),
        }
    }

    fn render(&mut self, on: Observation, unanswered: bool, hands: &mut Hands<'_>) {
        let Some(template) = self.config.template.clone() else { return };
        let watch = self.config.name.clone();
        self.doubtful = unanswered;
        hands.out.push(Effect::Render { watch, template, seen: on.clone(), unanswered });
        self.stage = Stage::Rendering { on };
    }

    fn install(&mut self, on: Observation, staged: Staged, hands: &mut Hands<'_>) {
        hands.out.push(Effect::Install { watch: self.config.name.clone(), staged });
        self.stage = Stage::Installing { on };
    }

    /// Main reads a file that was there before it at its start, and needs no telling.
    fn tell(&mut self, on: Observation, hands: &mut Hands<'_>) {
        if hands.main.is_up() { self.hook(on, hands) } else { self.done(on, hands) }
    }

    fn hook(&mut self, on: Observation, hands: &mut Hands<'_>) {
        if !self.config.when.applies(hands.leads) {
            return self.undone(hands);
        }
        self.changes += 1;
        let change = Change::between(&self.acted, &on);
        let watch = self.config.name.clone();
        hands.out.push(Effect::Say(Notice::DependencyChanged { watch: watch.clone(), what: change.in_words() }));
        let Some(hook) = self.config.on_change.clone() else { return self.signal(on, hands) };
        let stdin = change.to_json(&watch, &on);
        let run = self.command(Job::OnChange { watch }, hook, Some(stdin), hands);
        self.stage = Stage::Hook { on, run };
    }

    fn command(&self, job: Job, hook: Hook, stdin: Option<String>, hands: &mut Hands<'_>) -> RunId {
        let run = (hands.next_run)();
        let mut env = hands.env.clone();
        env.push(("PILOTFISH_EVENT".to_owned(), job.event().to_owned()));
        env.push(("PILOTFISH_WATCH".to_owned(), self.config.name.clone()));
        let hook = Hook { when: self.config.when, ..hook };
        hands.commands.start(hands.now, run, Order { job, hook, env, stdin }, hands.out);
        run
    }

    fn signal(&mut self, on: Observation, hands: &mut Hands<'_>) {
        self.hint(on, hands.now, hands);
    }

    /// A main that went away meanwhile reads its files when it comes again.
    fn hint(&mut self, on: Observation, since: Time, hands: &mut Hands<'_>) {
        if !self.config.when.applies(hands.leads) {
            return self.undone(hands);
        }
        let target = hands.main.target(hands.scope).filter(|_| hands.main.is_up());
        let (Some(signal), Some(target)) = (self.config.signal, target) else { return self.done(on, hands) };
        hands.out.push(Effect::Hint { watch: self.config.name.clone(), target, signal });
        self.stage = Stage::Hinting { on, since };
    }

    fn done(&mut self, on: Observation, hands: &mut Hands<'_>) {
        self.acted = on;
        self.prepared = true;
        self.untold = false;
        self.failures = 0;
        self.trouble = None;
        self.hold_until = Some(hands.now + self.config.settle);
    }

    /// Nobody has said what to make the file of, and there is one: no answer isn't an empty one.
    fn kept(&mut self, hands: &mut Hands<'_>) {
        if let Some(template) = &self.config.template {
            let destination = template.destination.display().to_string();
            hands.out.push(Effect::Say(Notice::TemplateKept { watch: self.config.name.clone(), destination }));
        }
        self.prepared = true;
        // An answer that came meanwhile.
        self.act(hands);
    }

    /// The role that it was for is gone: the change is acted on when that comes again.
    fn undone(&mut self, hands: &mut Hands<'_>) {
        self.hold_until = Some(hands.now + self.config.settle);
    }

    fn failed(&mut self, error: String, hands: &mut Hands<'_>) {
        hands.out.push(Effect::Say(Notice::TemplateFailed { watch: self.config.name.clone(), error: error.clone() }));
        // Main starts with the file there is: a fault in a template must not keep a database down.
        self.prepared |= self.required().is_none();
        self.try_again(error, hands);
    }

    /// What was seen isn't acted on yet: another try comes, after a pause, or with the next change.
    fn try_again(&mut self, error: String, hands: &mut Hands<'_>) {
        self.trouble = Some(error);
        self.failures += 1;
        self.hold_until = Some(hands.now + hands.jitter.scatter(jitter::pause(RETRY, self.failures)));
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

fn with_path(check: &Exec, path: &Path) -> Exec {
    let filled = |arg: &std::ffi::OsString| match arg.to_str() {
        Some(text) if text.contains("{}") => text.replace("{}", &path.to_string_lossy()).into(),
        _ => arg.clone(),
    };
    check.iter().map(filled).collect()
}
