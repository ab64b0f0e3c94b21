//! Decides. [`Supervisor::handle`] takes what happened and when, and says what is to be done; it contains no clock, no
//! process, no socket, no file and no task, and never learns the time from the operating system.
//!
//! Three floors, each of which uses only those below:
//!
//! - [`sequence`]: the container's life, from its first event to its exit. It drives the machines.
//! - [`machines`]: main, commands, checks, entries, watches, the election; each has a state of its own.
//! - [`vocabulary`]: events, effects, and what both speak of.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod machines;
pub mod sequence;
pub mod vocabulary;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Background, Config, PreStart, Process, Signal, Strays, When};

use machines::check::Check;
use machines::commands::{Commands, GivenUp};
use machines::election::ElectionEvent;
use machines::entry::Entry;
use machines::jitter::Jitter;
use machines::main::{Main, StrayAction};
use machines::reported::Reported;
use machines::restarts::Restarts;
use machines::sensor::Sensor;
use machines::task::Task;
use machines::watch::Watch;
use sequence::coprocesses::Coprocesses;
use sequence::life::{Life, LifeStage, StageName};
use sequence::maintenance::Maintenance;
use sequence::notified::Outer;
use sequence::orders::Orders;
use sequence::post_start::PostStart;
use sequence::role::{self, Leadership, Role};
use sequence::signals::PassedOn;
use sequence::stopping::{StopStage, Stopping};
use sequence::waits::Wait;
use vocabulary::{
    Calendar, ExitStatus, Follow, HookCount, Job, LastRun, MainStatus, Phase, ReplyId, RunId, StartReason, Step,
    earliest,
};

pub use vocabulary::{Effect, Event, Notice, Status, Time};

/// Everything the agent knows and decides. Feed it events; carry out its effects in order.
#[derive(Debug)]
pub struct Supervisor {
    config: Config,
    /// What main is started by next; a reload doesn't touch the running one.
    process: Arc<Process>,
    life: Life,
    main: Main,
    restarts: Restarts,
    commands: Commands,
    coprocesses: Coprocesses,
    waits: Vec<Wait>,
    checks: Vec<Check>,
    entries: Vec<Entry>,
    /// Entries of services a reload took away.
    leaving: Vec<Entry>,
    watches: Vec<Watch>,
    tasks: Vec<Task>,
    /// Main was started once, or waits for its turn.
    tasks_begin: bool,
    sensors: Vec<Sensor>,
    calendar: Option<Calendar>,
    /// That the calendar's clock is followed was ordered.
    follows_calendar: bool,
    leadership: Option<Leadership>,
    maintenance: Option<Maintenance>,
    post_start: PostStart,
    /// What main has said of itself since it was started last.
    reported: Reported,
    outer: Outer,
    /// Main, which is on its way out, is killed no later, whatever it asks for.
    kill_latest: Option<Time>,
    /// What was passed on to main of signals whose default is to end it, each the last time.
    passed_on: BTreeMap<Signal, PassedOn>,
    /// What came for main while it couldn't be reached, and what main got in place of it; each once.
    held_back: BTreeMap<Signal, Signal>,
    /// What the terminal sent main, each the last time.
    from_terminal: BTreeMap<Signal, Time>,
    /// When main's process ended. What it left may take its time.
    main_ended_at: Option<Time>,
    /// Why main is being restarted, when it is.
    restarting: Option<String>,
    /// Why main is prepared next.
    start_reason: StartReason,
    /// The `pre_start` hooks of the preparation under way: which of them is done goes by this list.
    preparation: Vec<PreStart>,
    /// What people ordered of it and aren't answered yet.
    orders: Orders,
    /// Who asked for a reload under way.
    reloading: Option<Vec<ReplyId>>,
    jitter: Jitter,
    last_run: LastRun,
    main_status: MainStatus,
    /// What became of main last, for people.
    main_why: String,
    hook_counts: BTreeMap<String, HookCount>,
}

impl Supervisor {
    /// A core that has seen nothing. The same seed and events give the same effects.
    pub fn new(config: Config, seed: u64) -> Supervisor {
        Supervisor {
            process: Arc::new(config.process.clone()),
            life: Life::created(),
            main: Main::default(),
            restarts: Restarts::default(),
            commands: Commands::default(),
            coprocesses: Coprocesses::new(&config.coprocesses),
            waits: Vec::new(),
            checks: config.health.iter().cloned().map(|check| Check::new(Arc::new(check))).collect(),
            entries: config.registered().iter().cloned().map(|service| Entry::new(Arc::new(service))).collect(),
            leaving: Vec::new(),
            watches: config.watches.iter().cloned().map(|watch| Watch::new(Arc::new(watch))).collect(),
            tasks: config.tasks.iter().cloned().map(|task| Task::new(Arc::new(task))).collect(),
            tasks_begin: false,
            sensors: config.sensors.iter().cloned().map(|sensor| Sensor::new(Arc::new(sensor))).collect(),
            calendar: None,
            follows_calendar: false,
            leadership: config
                .election
                .clone()
                .map(|election| Leadership::new(election, &config.catalog.backend, seed)),
            maintenance: None,
            post_start: PostStart::default(),
            reported: Reported::default(),
            outer: Outer::default(),
            kill_latest: None,
            passed_on: BTreeMap::new(),
            held_back: BTreeMap::new(),
            from_terminal: BTreeMap::new(),
            main_ended_at: None,
            restarting: None,
            start_reason: StartReason::default(),
            preparation: Vec::new(),
            orders: Orders::default(),
            reloading: None,
            jitter: Jitter::new(seed),
            last_run: LastRun::default(),
            main_status: MainStatus::default(),
            main_why: String::new(),
            hook_counts: BTreeMap::new(),
            config,
        }
    }

    /// Takes what happened at `now` and says what is to be done, in order.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let mut out = self.hear(now, event);
        self.advance(&mut Step { now, out: &mut out });
        out
    }

    /// The same while there is more to be heard that came in time, though other times are over by now: nothing is too late
    /// yet but a lease. [`Supervisor::handle`] has to follow.
    pub fn hear(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        let step = &mut Step { now, out: &mut out };
        // A lease that has run out while the agent slept comes before whatever it wakes up to.
        self.elect(step, ElectionEvent::Tick);
        match event {
            Event::Started => self.begin(step),
            Event::Tick => {}
            Event::Signal(signal) => self.signalled(step, signal),
            Event::FilesRead { run, result } => {
                if let Some(gone) = self.main.files_read(step, run, result) {
                    self.main_is_gone(step, gone);
                }
            }
            Event::Spawned { run, pid } => match self.main.spawned(run, pid, step.out) {
                true => self.main_runs(step),
                false => self.coprocess_spawned(step, run, pid),
            },
            Event::SpawnFailed { run, error } => match self.main.not_started(run, &error, step.out) {
                Some(gone) => self.main_is_gone(step, gone),
                None => {
                    self.coprocess_not_started(step, run, &error);
                    let ended = self.commands.not_started(run, error, step.out);
                    let job = ended.as_ref().map(|(job, _)| job.clone());
                    self.command_ended(step, run, ended);
                    if let Some(job) = job {
                        self.command_is_over(step, run, &job);
                    }
                }
            },
            Event::Forwarded { signal, heeded } => self.forwarded(step.now, signal, heeded),
            Event::FromTerminal { run, signal } if self.main.runs(run) => {
                self.from_terminal.insert(signal, step.now);
            }
            Event::FromTerminal { .. } => {}
            Event::Exited { run, status } => self.exited(step, run, status),
            Event::RunLost { run } => self.run_lost(run),
            Event::RunLeft { run, any } => {
                if let Some(job) = self.commands.left(step, run, any) {
                    self.command_is_over(step, run, &job);
                }
            }
            Event::Strays { left } => {
                self.rest(left, step.out);
                let (what, kill_at) = self.leftovers(step.now);
                if what == StrayAction::Kill && !self.main.is_up() {
                    // A leader's main takes its role with it; the leftovers of both have the same time to end.
                    self.commands.end_kept(step, When::Leader);
                }
                let follows = self.main.is_following();
                match self.main.strays(step, left, what, kill_at) {
                    Some(gone) => self.main_is_gone(step, gone),
                    None => self.may_follow_no_more(step, follows),
                }
            }
            Event::StrayEnded { status } if self.process.background == Background::Follow => {
                self.main.stray_ended(step.now, status);
            }
            Event::StrayEnded { .. } => {}
            Event::Followed { run, pid } => {
                let follows = self.main.is_following();
                if self.main.followed(step, run, pid) {
                    self.main_runs(step);
                } else {
                    self.may_follow_no_more(step, follows && pid.is_none());
                    self.coprocess_followed(step, run, pid);
                }
            }
            Event::Probed { run, result } => {
                if let Some(index) = self.checks.iter().position(|check| check.asking() == Some(run)) {
                    self.check_heard(step, index, result);
                } else {
                    self.ready_answered(step, run, result);
                }
            }
            Event::Notified(said) => self.notified(step, said),
            Event::OuterWatchdog { every } => self.outer_watches(step.now, every),
            Event::CoprocessNotified { name, said } => self.coprocess_notified(step, &name, &said),
            Event::Published { service, result } => {
                if let Some(entry) = find(&mut self.entries, &mut self.leaving, &service) {
                    entry.published(step, result, &mut self.jitter);
                }
            }
            Event::Withdrawn { service, result } => {
                if let Some(entry) = find(&mut self.leaving, &mut self.entries, &service) {
                    entry.withdrawn(step, result, &mut self.jitter);
                }
                self.leaving.retain(|entry| !entry.is_out());
            }
            Event::Observed { follow: Follow::Watch(name), seen } => {
                self.with_watch(step, &name, |watch, context| watch.observed(seen, context));
            }
            Event::Observed { follow: Follow::WaitFor(index), seen } => self.waited(index, seen, step.out),
            Event::Observed { follow: Follow::Acting, seen } => self.saw_acting(step, seen),
            Event::Observed { follow: Follow::Await(reply), seen } => self.awaited(step, reply, seen),
            Event::SeenAnew { follow: Follow::Watch(name) } => {
                self.with_watch(step, &name, |watch, _| watch.begins_anew());
            }
            // Who only waits for somebody to come believes what is seen.
            Event::SeenAnew { follow: Follow::WaitFor(_) | Follow::Acting | Follow::Await(_) } => {}
            Event::Rendered { watch, outcome } => self.rendered(step, &watch, outcome),
            Event::Installed { watch, result } => {
                self.with_watch(step, &watch, |watch, context| watch.installed(result, context));
            }
            Event::Hinted { watch, sent } => {
                self.with_watch(step, &watch, |watch, context| watch.hinted(sent, context));
            }
            Event::Witness { stands } => self.witness_stands(step, stands),
            Event::Control { reply, request } => self.ordered(step, reply, request),
            Event::ConfigLoaded(result) => self.loaded(step, result.map(|loaded| loaded.config)),
            Event::Calendar(calendar) => self.calendar_is_set(step, calendar),
            Event::Printed { run, text } => {
                if !self.sensor_printed(run, &text) {
                    self.printed(run, text);
                }
            }
            Event::Election(event) => self.elect(step, event),
            Event::ActedBefore { term, result } => self.acted_before(step, term, result),
            Event::LedBefore { term, result } => self.led_before(step, term, result),
            Event::ActingTold { term, result } => self.acting_told(step, term, result),
            Event::Guard { stands } => self.guarded(step, stands),
        }
        out
    }

    /// What is due is done, and role, start and stop each take every step that nothing holds back any more, until none of
    /// them moves.
    fn advance(&mut self, step: &mut Step<'_>) {
        loop {
            let before = self.position();
            self.tick(step);
            self.run_again(step);
            self.advance_coprocesses(step);
            self.advance_role(step);
            self.advance_restart(step);
            self.advance_start(step);
            self.advance_post_start(step);
            self.tell_outer(step);
            self.advance_stop(step);
            let now = self.position();
            if now == before || matches!(now, (StageName::Ended, ..)) {
                return;
            }
        }
    }

    /// How far the container has come.
    fn position(&self) -> (StageName, Option<StopStage>, Option<Role>) {
        (
            self.life.stage().name(),
            self.life.stopping().map(Stopping::stage),
            self.leadership.as_ref().map(Leadership::role),
        )
    }

    /// When the core wants [`Event::Tick`] next.
    pub fn next_deadline(&self) -> Option<Time> {
        let entries = self.entries.iter().chain(&self.leaving).map(Entry::deadline);
        let checks = self.checks.iter().filter(|_| !self.is_stopping()).map(Check::deadline);
        let watches = self.watches.iter().filter(|_| self.watches_act()).map(Watch::deadline);
        let tasks = self.tasks.iter().filter(|_| !self.is_stopping()).map(|task| task.deadline(self.calendar));
        let sensors = self.sensors.iter().filter(|_| !self.is_stopping()).map(Sensor::deadline);
        let leading = self.leadership.as_ref().and_then(Leadership::deadline);
        let maintenance = self.maintenance.as_ref().filter(|_| !self.is_stopping()).and_then(Maintenance::deadline);
        let coprocesses = Some(&self.coprocesses).filter(|_| !self.is_stopping()).and_then(Coprocesses::deadline);
        let of_life = [self.life_deadline(), self.outer_deadline(), self.orders.deadline()];
        let own = [self.main.deadline(), self.commands.deadline(), leading, maintenance, coprocesses];
        let own = own.into_iter().chain(of_life);
        entries.chain(checks).chain(watches).chain(tasks).chain(sensors).chain(own).fold(None, earliest)
    }

    fn stands_by(&self) -> bool {
        let waits = matches!(self.life.stage(), LifeStage::Electing { .. }) && !self.main.is_up();
        waits && self.leadership.as_ref().is_some_and(Leadership::stands_by)
    }

    /// What there is to tell about everything, now.
    pub fn status(&self) -> Status {
        let standing_by = self.stands_by();
        Status {
            phase: if standing_by { Phase::Standby } else { self.life.stage().name().phase() },
            doing: self.doing(),
            main: MainStatus {
                pid: self.main.pid(),
                following: self.main.is_following(),
                reloading: self.reported.reloading.is_some(),
                stopping: self.is_main_stopping(),
                ..self.main_status.clone()
            },
            coprocesses: self.coprocess_statuses(),
            health: self.check_statuses(),
            services: self.entries.iter().map(Entry::report).collect(),
            watches: self.watches.iter().map(Watch::status).collect(),
            tasks: self.tasks.iter().map(|task| task.status(self.calendar)).collect(),
            sensors: self.sensors.iter().map(Sensor::status).collect(),
            election: self.leadership.as_ref().map(Leadership::status),
            standing_by,
            maintenance: self.maintenance.as_ref().map(Maintenance::status),
            hooks: self.hook_counts.clone(),
        }
    }

    /// Everything whose time has come.
    fn tick(&mut self, step: &mut Step<'_>) {
        for GivenUp { run, job, outcome } in self.commands.tick(step) {
            self.command_ended(step, run, outcome.map(|outcome| (job.clone(), outcome)));
            self.command_is_over(step, run, &job);
        }
        if let Some(gone) = self.main.tick(step) {
            self.main_is_gone(step, gone);
        }
        for entry in self.entries.iter_mut().chain(&mut self.leaving) {
            entry.tick(step);
        }
        let goes_on = !self.is_stopping();
        if goes_on {
            self.tick_maintenance(step);
            self.tick_orders(step);
            for index in 0..self.checks.len() {
                if self.checks[index].is_due(step.now) {
                    self.check_asks(step, index);
                }
            }
        }
        self.each_watch(step, |watch, context| watch.tick(context));
        if goes_on {
            self.tick_tasks(step);
            self.tick_sensors(step);
        }
    }

    fn exited(&mut self, step: &mut Step<'_>, run: RunId, status: ExitStatus) {
        // A plain init waits for what main left only if it was asked to.
        let alone = self.config.is_plain() && self.process.strays != Strays::Wait;
        let (was_main, gone) = self.main.exited(step, run, status, alone);
        if was_main {
            self.main_status.last_exit = Some(status);
            self.main_ended_at = Some(step.now);
            self.ends_for_role_if_not_followed(step.now);
            match self.is_to_follow(step.now) {
                true => self.main.follow(),
                false => self.checks_rest(step, None),
            }
        }
        match gone {
            Some(gone) => self.main_is_gone(step, gone),
            None if was_main => self.tell_catalog(step.out),
            None => {
                let ended = self.commands.exited(step, run, status);
                self.coprocess_exited(step, run, status);
                self.command_ended(step, run, ended);
            }
        }
    }

    /// Variables the core knows, for main and every command.
    fn env(&self, job: &Job) -> Vec<(String, String)> {
        let mut env = self.common_env();
        let event = match job {
            Job::PreStart { .. } => self.start_reason.event(),
            _ => job.event(),
        };
        env.push(("PILOTFISH_EVENT".to_owned(), event.to_owned()));
        env.push(("PILOTFISH_WATCH".to_owned(), String::new()));
        env
    }

    /// All of them, empty where there is nothing to say: a script may ask for each under `set -u`.
    fn common_env(&self) -> Vec<(String, String)> {
        let mut env = self.leadership.as_ref().map_or_else(role::no_env, Leadership::env);
        env.push(("PILOTFISH_MAIN_PID".to_owned(), self.main.pid().map(|pid| pid.to_string()).unwrap_or_default()));
        env
    }

    /// Whether this container leads; without an election, nobody does.
    fn leads(&self) -> bool {
        self.leadership.as_ref().is_some_and(Leadership::leads)
    }

    fn next_run(&mut self) -> RunId {
        self.last_run.one_more()
    }
}

/// The entry of an id: among the first, else among the second.
fn find<'a>(first: &'a mut [Entry], second: &'a mut [Entry], id: &str) -> Option<&'a mut Entry> {
    first.iter_mut().chain(second).find(|entry| entry.service().id == id)
}

#[cfg(test)]
pub(crate) mod tests;
