//! Coprocesses beside main: who starts when, who waits for whom, and what follows when one ends; [`ending`] is how they end
//! with the container, [`orders`] what people want of them.

mod ending;
mod orders;

use std::sync::Arc;
use std::time::Duration;

use crate::config::coprocess::{OnGivingUp, StartPoint};
use crate::config::{Coprocess as Config, Hook, OnFailure, Probe, When};

use crate::exit_codes::UNAVAILABLE;
use crate::supervisor::Supervisor;
use crate::supervisor::machines::commands::{JobState, Launch, Outcome};
use crate::supervisor::machines::coprocess::{ANSWER_WITHIN, Coprocess, NextStep};
use crate::supervisor::sequence::duties::{Duty, keeps};
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::sequence::role::{Promotion, Role};
use crate::supervisor::sequence::stopping::Cause;
use crate::supervisor::vocabulary::{
    Answer, CoprocessStatus, Effect, ExitStatus, Job, Notice, Notification, Pid, RunId, SpawnError, Step, Time,
    earliest,
};

/// A command that says whether a coprocess is ready may take longer to start than a connection (a JVM, say).
const COMMAND_ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Coprocesses, and how far main has come for them.
#[derive(Debug, Default)]
pub struct Coprocesses {
    all: Vec<Coprocess>,
    /// How many have been started first.
    places: u64,
    main_was_started: bool,
    main_was_healthy: bool,
}

impl Coprocesses {
    /// None of them runs.
    pub fn new(configs: &[Config]) -> Coprocesses {
        let all = configs.iter().cloned().map(|config| Coprocess::new(Arc::new(config))).collect();
        Coprocesses { all, ..Coprocesses::default() }
    }

    /// That of this name.
    pub fn find(&self, name: &str) -> Option<&Coprocess> {
        self.all.iter().find(|coprocess| coprocess.config().name == name)
    }

    /// Main starts.
    pub fn main_starts(&mut self) {
        self.main_was_started = true;
    }

    fn named(&mut self, name: &str) -> Option<&mut Coprocess> {
        self.all.iter_mut().find(|coprocess| coprocess.config().name == name)
    }

    /// When one of them has something to do next.
    pub fn deadline(&self) -> Option<Time> {
        self.all.iter().map(Coprocess::deadline).fold(None, earliest)
    }

    /// The same config as these: new ones start, and those that were given up and are changed; what is gone stops; and
    /// what is changed otherwise counts from its next start on: their names are returned.
    pub fn reconfigure(&mut self, configs: &[Config]) -> Vec<String> {
        let mut changed = Vec::new();
        for config in configs {
            match self.all.iter_mut().find(|coprocess| coprocess.config().name == config.name) {
                Some(coprocess) => {
                    if **coprocess.config() != *config && !coprocess.is_gone() {
                        changed.push(config.name.clone());
                    }
                    coprocess.reconfigure(Arc::new(config.clone()));
                }
                None => self.all.push(Coprocess::new(Arc::new(config.clone()))),
            }
        }
        for coprocess in &mut self.all {
            if configs.iter().all(|config| config.name != coprocess.config().name) {
                coprocess.is_configured_no_more();
            }
        }
        changed
    }

    /// Whether anything of one that runs for this role only is there, or is to come.
    pub fn is_any_left_of(&self, role: When) -> bool {
        self.all.iter().any(|coprocess| coprocess.is_left_of(role))
    }

    /// The last started first.
    fn by_place(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(self.all[*index].place()));
        order
    }
}

/// In which role one runs, for people.
fn in_role(when: When) -> &'static str {
    match when {
        When::Leader => "this container leads",
        When::Replica => "this container is a replica",
        When::Always => "it is in the config",
    }
}

impl Supervisor {
    /// Takes every step of every coprocess that nothing holds back any more.
    pub(in crate::supervisor) fn advance_coprocesses(&mut self, step: &mut Step<'_>) {
        if self.coprocesses.all.is_empty() {
            return;
        }
        self.coprocesses.main_was_healthy |= self.is_main_healthy();
        for index in 0..self.coprocesses.all.len() {
            if let Some(run) = self.coprocesses.all[index].is_followed_by_nobody(step.now) {
                self.coprocess_followed(step, run, None);
            }
        }
        let mut moves = true;
        while std::mem::take(&mut moves) {
            for index in self.coprocesses.by_place() {
                moves |= self.advance_coprocess(step, index);
            }
        }
        self.judge_coprocesses(step);
        let is_over = |coprocess: &Coprocess| !coprocess.is_configured() && coprocess.is_gone();
        self.coprocesses.all.retain(|coprocess| !is_over(coprocess));
        for index in 0..self.coprocesses.all.len() {
            self.ask_ready(step, index);
        }
    }

    fn advance_coprocess(&mut self, step: &mut Step<'_>, index: usize) -> bool {
        let coprocess = &self.coprocesses.all[index];
        let wanted = self.is_wanted(coprocess);
        let may_start = wanted && self.may_start(coprocess);
        let config = coprocess.config().clone();
        let name = config.name.clone();
        let Some(next) = coprocess.next(step.now, wanted, may_start) else {
            if coprocess.is_ordered() && coprocess.is_gone() {
                let when = if wanted { "those that it needs are there" } else { in_role(config.when) };
                let answer = Answer::Done(format!("{name} has ended, and runs again once {when}"));
                self.coprocesses.all[index].answer_order(step, answer);
            }
            if !wanted && !self.is_stopping() {
                self.coprocesses.all[index].forget();
            }
            return false;
        };
        let of_role = |hook: Hook| Hook { when: config.when, ..hook };
        let place = self.coprocesses.places + 1;
        match next {
            NextStep::Prepare => {
                let job = Job::CoprocessPreStart { name };
                let Some(hook) = config.pre_start.clone().map(of_role) else { return false };
                if self.commands.end_last(step, &job) {
                    self.coprocesses.all[index].waits(step.now);
                    return false;
                }
                let (run, env) = (self.next_run(), self.env(&job));
                self.coprocesses.all[index].prepares(run, place);
                self.commands.start(step, run, Launch { job, hook, env, stdin: None });
            }
            NextStep::Start => {
                let (run, env) = (self.next_run(), self.env(&Job::Coprocess { name }));
                let is_listened_to = self.is_listened_to(Some(&config.name));
                self.coprocesses.all[index].starts(step.now, run, place, is_listened_to);
                let role = if keeps(Duty::AwaitCoprocesses) { config.when } else { When::Always };
                self.commands.start_coprocess(step, run, &config, role, env);
            }
            NextStep::Cancel(run) => {
                self.coprocesses.all[index].cancelled();
                self.commands.cancel(step, run);
            }
            NextStep::Stop(run) => {
                let kill_at = self.kill_coprocess_at(step.now, &config);
                self.coprocess_stops(step, index, false);
                self.commands.stop(step, run, kill_at);
                self.tell_catalog(step.out);
            }
            NextStep::Finish => self.finish_coprocess(step, index),
        }
        self.coprocesses.places = place;
        true
    }

    /// Its `post_stop` comes, if anything of it has run: but nothing is done for a leader whose time is over.
    fn finish_coprocess(&mut self, step: &mut Step<'_>, index: usize) {
        let coprocess = &self.coprocesses.all[index];
        let config = coprocess.config().clone();
        let may_act = config.when != When::Leader || !self.is_time_over() || !keeps(Duty::BeginNothingMore);
        let Some(hook) = config.post_stop.clone().filter(|_| coprocess.has_begun() && may_act) else {
            return self.coprocesses.all[index].rests();
        };
        let timeout = match self.is_stopping() {
            true => hook.timeout.min(step.now.until(self.kill_coprocess_at(step.now, &config))),
            false => hook.timeout.min(self.time_beside_leaving(step.now).unwrap_or(Duration::MAX)),
        };
        let hook = Hook { when: config.when, timeout, ..hook };
        let job = Job::CoprocessPostStop { name: config.name.clone() };
        let (run, env) = (self.next_run(), self.env(&job));
        self.coprocesses.all[index].finishes();
        self.commands.start(step, run, Launch { job, hook, env, stdin: None });
    }

    /// Nothing is asked of one that is told to stop.
    fn coprocess_stops(&mut self, step: &mut Step<'_>, index: usize, again: bool) {
        let asking = self.coprocesses.all[index].asking();
        self.coprocesses.all[index].told(again);
        self.coprocess_is_asked_nothing(step, index, asking);
    }

    /// One ends: nothing is asked of it, and who was `asking` whether it is ready is called back.
    fn coprocess_is_asked_nothing(&mut self, step: &mut Step<'_>, index: usize, asking: Option<RunId>) {
        if let Some(run) = asking {
            self.commands.cancel(step, run);
        }
        let name = self.coprocesses.all[index].config().name.clone();
        self.checks_rest(step, Some(&name));
    }

    /// Whether one is to run, as things are. A stop starts nothing more, and ends each when its turn has come.
    pub(in crate::supervisor) fn is_wanted(&self, coprocess: &Coprocess) -> bool {
        let in_role = match (coprocess.config().when, self.leadership.as_ref().map(|leadership| leadership.role())) {
            (When::Always, _) | (_, None) => true,
            (When::Leader, Some(Role::Leader { promotion, .. })) => !matches!(promotion, Promotion::Clearing { .. }),
            (When::Leader, Some(Role::Replica | Role::Leaving { .. })) => false,
            (When::Replica, Some(role)) => matches!(role, Role::Replica),
        };
        let stops = match self.life.stage() {
            LifeStage::Stopping(stopping) => coprocess.run().is_none() || self.is_its_turn(coprocess, stopping),
            LifeStage::Ended => true,
            _ => false,
        };
        coprocess.is_configured() && !coprocess.is_of_another_role() && in_role && !stops
    }

    fn may_start(&self, coprocess: &Coprocess) -> bool {
        let config = coprocess.config();
        let reached = match config.start {
            StartPoint::BeforeCatalog => !matches!(self.life.stage(), LifeStage::Created),
            StartPoint::WithMain => self.coprocesses.main_was_started,
            StartPoint::AfterMain => self.coprocesses.main_was_healthy,
        };
        // A leader's serves the main that leads.
        let role = self.leadership.as_ref().map(|leadership| leadership.role());
        let serves = match (config.when, config.start, role) {
            (When::Leader, StartPoint::AfterMain, Some(role)) => {
                matches!(role, Role::Leader { promotion: Promotion::Done, .. }) && self.is_main_healthy()
            }
            (When::Leader, _, _) => !self.main.is_gone(),
            (When::Always | When::Replica, ..) => true,
        };
        let is_there = |name: &String| self.coprocesses.find(name).is_none_or(Coprocess::lets_others_start);
        reached && serves && config.after.iter().all(is_there) && !self.lives_on(&config.name)
    }

    /// Whether a former life of it can't be ended: nothing starts beside that.
    fn lives_on(&self, name: &str) -> bool {
        self.commands.of_job(&Job::Coprocess { name: name.to_owned() }) == JobState::Stuck
    }

    /// Whether all are ready that main's start waits for.
    pub(in crate::supervisor) fn are_first_ready(&self) -> bool {
        let first = |coprocess: &&Coprocess| coprocess.config().start == StartPoint::BeforeCatalog;
        self.coprocesses.all.iter().filter(first).all(Coprocess::lets_others_start)
    }

    /// Whether main's start waits for any.
    pub(in crate::supervisor) fn has_first(&self) -> bool {
        self.coprocesses.all.iter().any(|coprocess| coprocess.config().start == StartPoint::BeforeCatalog)
    }

    /// Those that main's start waits for now, for people.
    pub(in crate::supervisor) fn first_awaited(&self) -> String {
        let first = |coprocess: &&Coprocess| {
            coprocess.config().start == StartPoint::BeforeCatalog && !coprocess.lets_others_start()
        };
        let names: Vec<&str> =
            self.coprocesses.all.iter().filter(first).map(|coprocess| coprocess.config().name.as_str()).collect();
        names.join(", ")
    }

    /// Whether anything can't start before this one is ready.
    fn is_waited_for(&self, coprocess: &Coprocess) -> bool {
        let own = coprocess.config();
        let main = own.start == StartPoint::BeforeCatalog && matches!(self.life.stage(), LifeStage::BeforeCatalog);
        let waits = |other: &Coprocess| {
            other.config().after.contains(&own.name) && !other.has_begun() && other.has_ended().is_none()
        };
        main || self.coprocesses.all.iter().any(waits)
    }

    /// What follows where one wasn't ready in time, or has ended for good.
    fn judge_coprocesses(&mut self, step: &mut Step<'_>) {
        if self.is_stopping() {
            return;
        }
        for index in 0..self.coprocesses.all.len() {
            let late = self.coprocesses.all[index].is_late(step.now);
            let ended = self.coprocesses.all[index].ends();
            let coprocess = &self.coprocesses.all[index];
            let config = coprocess.config().clone();
            let exits = config.on_giving_up == OnGivingUp::Exit;
            let waited_for = !coprocess.lets_others_start() && self.is_waited_for(coprocess);
            if let Some(ended) = ended.filter(|_| exits || waited_for) {
                let code = if exits { ended.code } else { UNAVAILABLE };
                return self.stop(step, ended.why, Cause::Failed(code));
            }
            if let Some(ready) = config.ready.as_ref().filter(|_| late) {
                let (name, within) = (config.name.clone(), ready.timeout);
                let because = coprocess.not_ready().map(str::to_owned);
                let notice = Notice::CoprocessNotReady { name, within, because };
                let why = notice.to_string();
                step.out.push(Effect::Say(notice));
                if exits || waited_for {
                    return self.stop(step, why, Cause::Failed(UNAVAILABLE));
                }
            }
        }
    }

    fn ask_ready(&mut self, step: &mut Step<'_>, index: usize) {
        let coprocess = &self.coprocesses.all[index];
        let config = coprocess.config().clone();
        match coprocess.question(step.now) {
            _ if self.is_stopping() => {}
            None | Some(Probe::Notify) => {}
            Some(Probe::Exec { exec, run_as }) => {
                let job = Job::CoprocessReady { name: config.name.clone() };
                if self.commands.of_job(&job) != JobState::Clear {
                    return self.coprocesses.all[index].put_off(step.now);
                }
                let (run, env) = (self.next_run(), self.env(&job));
                self.coprocesses.all[index].asks(run);
                let hook = Hook { run_as, when: config.when, ..Hook::new(exec, COMMAND_ANSWERS_WITHIN) };
                self.commands.start(step, run, Launch { job, hook, env, stdin: None });
            }
            Some(probe) => {
                let run = self.next_run();
                self.coprocesses.all[index].asks(run);
                step.out.push(Effect::Probe { run, probe, timeout: ANSWER_WITHIN });
            }
        }
    }

    /// Whether one is ready was answered.
    pub(in crate::supervisor) fn ready_answered(
        &mut self,
        step: &mut Step<'_>,
        run: RunId,
        result: Result<(), String>,
    ) {
        if let Some(coprocess) = self.coprocesses.all.iter_mut().find(|coprocess| coprocess.asking() == Some(run)) {
            coprocess.heard(step, result);
            self.tell_catalog(step.out);
        }
    }

    /// One spoke by sd_notify.
    pub(in crate::supervisor) fn coprocess_notified(&mut self, step: &mut Step<'_>, name: &str, said: &Notification) {
        if let Some(coprocess) = self.coprocesses.named(name) {
            if let Some(told) = said.main_pid
                && let Some((run, another)) = coprocess.named(told)
                && self.commands.names(run, another)
            {
                step.out.push(Effect::FollowStray { run, told: Some(told), only: true });
            }
            coprocess.notified(step, said);
            self.tell_catalog(step.out);
            self.checks_notified(step, Some(name), said);
        }
    }

    /// A run that isn't main's has a process.
    pub(in crate::supervisor) fn coprocess_spawned(&mut self, step: &mut Step<'_>, run: RunId, pid: Pid) {
        let spawned = self.coprocesses.all.iter_mut().find_map(|coprocess| {
            let is_it = coprocess.spawned(step, run, pid);
            is_it.then(|| coprocess.config().name.clone())
        });
        if let Some(name) = spawned {
            self.checks_begin(step, Some(&name));
            self.tell_catalog(step.out);
        }
    }

    /// A run that isn't main's couldn't be started.
    pub(in crate::supervisor) fn coprocess_not_started(&mut self, step: &mut Step<'_>, run: RunId, error: &SpawnError) {
        self.coprocesses.all.iter_mut().for_each(|coprocess| coprocess.not_started(step, run, error));
    }

    /// The process of a run that isn't main's has ended.
    pub(in crate::supervisor) fn coprocess_exited(&mut self, step: &mut Step<'_>, run: RunId, status: ExitStatus) {
        let all = &self.coprocesses.all;
        let Some(index) = all.iter().position(|coprocess| coprocess.run() == Some(run)) else { return };
        let asking = all[index].asking();
        let launched = self.commands.may_go_on(run);
        self.coprocesses.all[index].exited(step, run, status, launched);
        if self.coprocesses.all[index].is_ending() {
            self.coprocess_is_asked_nothing(step, index, asking);
        }
        self.tell_catalog(step.out);
    }

    /// A command of a coprocess's has ended.
    pub(in crate::supervisor) fn coprocess_prepared(
        &mut self,
        step: &mut Step<'_>,
        run: RunId,
        name: &str,
        outcome: &Outcome,
    ) {
        let all = &mut self.coprocesses.all;
        if let Some(coprocess) = all.iter_mut().find(|coprocess| coprocess.config().name == name) {
            coprocess.prepared(step, run, outcome, &mut self.jitter);
        }
    }

    /// Nothing is left of a run of one, or nothing that is to go, or that can be ended.
    pub(in crate::supervisor) fn coprocess_is_over(&mut self, step: &mut Step<'_>, run: RunId) {
        let all = &self.coprocesses.all;
        let Some(index) = all.iter().position(|coprocess| coprocess.run() == Some(run)) else { return };
        let name = all[index].config().name.clone();
        if self.commands.is_kept(run) {
            let only = self.commands.follows_only_the_named(run);
            self.coprocesses.all[index].goes_to_background(step, run, only);
            if self.coprocesses.all[index].is_up() {
                self.checks_begin(step, Some(&name));
            }
        } else {
            // One that is to run on may be in no state to be started, as the container stops.
            let wanted = !self.is_stopping() && self.is_wanted(&self.coprocesses.all[index]);
            let (stuck, asking) = (self.commands.has(run), self.coprocesses.all[index].asking());
            self.coprocesses.all[index].run_is_over(step, run, stuck, wanted, &mut self.jitter);
            self.coprocess_is_asked_nothing(step, index, asking);
        }
        self.tell_catalog(step.out);
    }

    /// One of those that the launcher of one left is it from now on, or can't be found (`None`).
    pub(in crate::supervisor) fn coprocess_followed(&mut self, step: &mut Step<'_>, run: RunId, pid: Option<Pid>) {
        let all = &self.coprocesses.all;
        let Some(index) = all.iter().position(|coprocess| coprocess.run() == Some(run)) else { return };
        if self.commands.followed(step, run, pid) {
            let asking = all[index].asking();
            self.coprocesses.all[index].followed(step, run, pid);
            if self.coprocesses.all[index].is_ending() {
                self.coprocess_is_asked_nothing(step, index, asking);
            }
            self.tell_catalog(step.out);
        }
    }

    /// Nothing is left of the `post_stop` of one.
    pub(in crate::supervisor) fn coprocess_finished(&mut self, name: &str) {
        let all = &mut self.coprocesses.all;
        if let Some(coprocess) = all.iter_mut().find(|coprocess| coprocess.config().name == name) {
            coprocess.finished();
        }
    }

    /// A check of one has turned critical.
    pub(in crate::supervisor) fn coprocess_unhealthy(
        &mut self,
        step: &mut Step<'_>,
        name: &str,
        on_failure: OnFailure,
        reason: String,
    ) {
        let all = &self.coprocesses.all;
        let Some(index) = all.iter().position(|coprocess| coprocess.config().name == name) else { return };
        match (on_failure, all[index].run()) {
            (OnFailure::Restart, Some(run)) if all[index].is_up() => {
                let kill_at = self.kill_coprocess_at(step.now, &all[index].config().clone());
                self.coprocess_stops(step, index, true);
                self.commands.stop(step, run, kill_at);
                self.tell_catalog(step.out);
            }
            (OnFailure::Exit, _) => self.stop(step, reason, Cause::Unhealthy),
            (OnFailure::Restart | OnFailure::Report, _) => {}
        }
    }

    /// For `/status`.
    pub(in crate::supervisor) fn coprocess_statuses(&self) -> Vec<CoprocessStatus> {
        self.coprocesses.all.iter().map(|coprocess| coprocess.status(self.is_wanted(coprocess))).collect()
    }
}
