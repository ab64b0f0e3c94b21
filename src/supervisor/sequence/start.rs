//! From the first event to a main that runs: wait, be given a role, prepare, `pre_start`, run. What follows its end is
//! [`main_end`](super::main_end)'s.

use std::time::Duration;

use crate::config::Required;
use crate::exit_codes::UNAVAILABLE;
use crate::supervisor::Supervisor;
use crate::supervisor::machines::check::Check;
use crate::supervisor::machines::watch::Watch;
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::sequence::post_start::PostStart;
use crate::supervisor::sequence::pre_start::ANY_PRE_START;
use crate::supervisor::sequence::stopping::Cause;
use crate::supervisor::vocabulary::{Effect, Job, StartReason, Step, Time, earliest};

/// How long main's start waits for a catalog's first answer before templates are rendered without one.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(2);

impl Supervisor {
    /// The first event.
    pub(in crate::supervisor) fn begin(&mut self, step: &mut Step<'_>) {
        if !matches!(self.life.stage(), LifeStage::Created) {
            return;
        }
        if !self.config.services.is_empty() {
            step.out.push(self.services());
        }
        let control = &self.config.control;
        if self.config.telemetry.is_some() || control.socket.is_some() || control.listen.is_some() {
            let (telemetry, control) = (self.config.telemetry.clone(), self.config.control.clone());
            step.out.push(Effect::Endpoints { telemetry, control });
        }
        match self.has_first() {
            true => self.life.begin_before_catalog(),
            false => self.begin_with_catalog(step),
        }
    }

    /// The catalog is asked from now on.
    fn begin_with_catalog(&mut self, step: &mut Step<'_>) {
        step.out.extend(self.watches.iter().map(|watch| watch.follow()));
        self.follow_calendar(step);
        self.begin_waiting(step, false);
        self.life.wait();
        self.tell_catalog(step.out);
    }

    /// Takes every step that nothing holds back any more.
    pub(in crate::supervisor) fn advance_start(&mut self, step: &mut Step<'_>) {
        if matches!(self.life.stage(), LifeStage::BeforeCatalog) && self.are_first_ready() {
            self.begin_with_catalog(step);
        }
        if matches!(self.life.stage(), LifeStage::Waiting) && self.has_waited(step) {
            self.life.elect(step.now + FIRST_ANSWER_WITHIN);
            if let Some(leadership) = &self.leadership {
                step.out.push(Effect::JoinElection(leadership.config().clone()));
                // What it stands by may be bound to its service.
                self.tell_catalog(step.out);
            }
        }
        if let LifeStage::Electing { until } = *self.life.stage()
            && self.role_is_known(step.now, until)
            && !self.commands.any(&ANY_PRE_START)
        {
            self.begin_waiting(step, true);
            self.life.wait_in_role();
        }
        if matches!(self.life.stage(), LifeStage::WaitingInRole) && self.has_waited(step) {
            self.life.prepare(step.now);
        }
        if let LifeStage::Preparing { since } = *self.life.stage() {
            if since + FIRST_ANSWER_WITHIN <= step.now {
                self.each_watch(step, |watch, context| watch.prepare_without_answer(context));
            }
            let leads = self.leads();
            let too_late = |watch: &&Watch| required_until(watch, leads, since).is_some_and(|until| until <= step.now);
            if let Some(watch) = self.watches.iter().find(too_late) {
                let reason = watch.missing();
                self.stop(step, reason, Cause::Failed(UNAVAILABLE));
            } else if self.watches.iter().all(|watch| watch.is_prepared(leads)) {
                self.preparation = self.config.hooks.pre_start.clone();
                self.life.pre_start(step.now);
            }
        }
        if let LifeStage::PreStart { done, run: None, retry_at: Some(at), .. } = *self.life.stage()
            && at <= step.now
            && self.may_pre_start(done)
        {
            self.pre_start(step, done);
        }
        if matches!(self.life.stage(), LifeStage::Prepared)
            && self.is_cleared_of_pre_start()
            && self.may_begin_to_lead(step)
        {
            self.start_main(step);
        }
    }

    /// A main whose pause is over runs again, or is prepared anew. The election learns that it may stand before its
    /// result is asked for.
    pub(in crate::supervisor) fn run_again(&mut self, step: &mut Step<'_>) {
        if let LifeStage::Running { start_at: Some(at) } = *self.life.stage()
            && at <= step.now
        {
            match self.may_run() {
                true => self.start_main(step),
                false => self.life.elect(step.now),
            }
        }
    }

    /// A start under way goes back to where the role is known: it is, or will be, another one.
    pub(in crate::supervisor) fn prepare_anew(&mut self, step: &mut Step<'_>) {
        match *self.life.stage() {
            LifeStage::WaitingInRole | LifeStage::Preparing { .. } => self.stop_waiting(step.out),
            LifeStage::PreStart { run, .. } => {
                if let Some(run) = run {
                    self.commands.cancel(step, run);
                }
            }
            LifeStage::Prepared => {}
            LifeStage::Created
            | LifeStage::BeforeCatalog
            | LifeStage::Waiting
            | LifeStage::Electing { .. }
            | LifeStage::Running { .. }
            | LifeStage::Stopping(_)
            | LifeStage::Ended => return,
        }
        self.start_reason = if self.leads() { StartReason::Promotion } else { StartReason::Demotion };
        self.life.elect(step.now);
    }

    /// Starts main by the newest config.
    fn start_main(&mut self, step: &mut Step<'_>) {
        self.life.run();
        self.main_status.restarts += u64::from(self.main_status.last_exit.is_some());
        self.process = std::sync::Arc::new(self.config.process.clone());
        self.passed_on.clear();
        self.held_back.clear();
        self.from_terminal.clear();
        self.main_ended_at = None;
        self.main_takes_part();
        self.post_start = PostStart::Due;
        self.main_has_said_nothing();
        self.coprocesses.main_starts();
        let run = self.next_run();
        // A plain init's has no word of ours.
        let mut env = if self.config.is_plain() { Vec::new() } else { self.env(&Job::Main) };
        env.extend(self.checks.iter().find_map(Check::watchdog));
        self.main.start(step, run, &self.process.clone(), env);
    }

    /// Main runs: its checks begin, the catalog learns of it, and what changed meanwhile is acted on.
    pub(in crate::supervisor) fn main_runs(&mut self, step: &mut Step<'_>) {
        self.pass_on_held_back(step);
        self.checks_begin(step, None);
        self.tell_catalog(step.out);
        self.restarted(step);
        self.each_watch(step, |watch, context| watch.act(context));
    }

    /// When [`advance_start`](Self::advance_start) has something to do next.
    pub(in crate::supervisor) fn life_deadline(&self) -> Option<Time> {
        match self.life.stage() {
            // What `pre_start` left ends, which is an event.
            LifeStage::Created | LifeStage::BeforeCatalog | LifeStage::Prepared | LifeStage::Ended => None,
            LifeStage::Electing { until } => self.electing_deadline(*until),
            LifeStage::Waiting | LifeStage::WaitingInRole => self.waits_deadline(),
            // Once rendering without an answer has begun, its own events go on.
            LifeStage::Preparing { since } => {
                let leads = self.leads();
                let awaits = self.watches.iter().any(|watch| watch.awaits_answer(leads));
                let required = self.watches.iter().map(|watch| required_until(watch, leads, *since));
                required.fold(awaits.then_some(*since + FIRST_ANSWER_WITHIN), earliest)
            }
            // What is left of the last try ends first, which is an event.
            LifeStage::PreStart { done, retry_at, .. } => retry_at.filter(|_| self.may_pre_start(*done)),
            LifeStage::Running { start_at } => *start_at,
            LifeStage::Stopping(stopping) => stopping.deadline(),
        }
    }

    /// What it is doing or waiting for, for people.
    pub(in crate::supervisor) fn doing(&self) -> String {
        match self.life.stage() {
            LifeStage::Created => "starting".to_owned(),
            LifeStage::BeforeCatalog => format!("waiting until {} is ready", self.first_awaited()),
            LifeStage::Electing { .. } => match self.leadership.as_ref().filter(|_| self.stands_by()) {
                Some(leadership) => leadership.stands_by_for(),
                None => "waiting for the election's result".to_owned(),
            },
            LifeStage::Waiting | LifeStage::WaitingInRole => {
                format!("waiting for {}", self.waited_for())
            }
            LifeStage::Preparing { .. } => {
                let leads = self.leads();
                match self.watches.iter().find(|watch| watch.required().is_some() && !watch.is_prepared(leads)) {
                    Some(watch) => format!("waiting for the template of watch {}", watch.config().name),
                    None => "rendering templates".to_owned(),
                }
            }
            LifeStage::PreStart { done, run: Some(_), .. } => format!("running {}", self.pre_start_job(*done)),
            LifeStage::PreStart { done, run: None, .. } if self.may_pre_start(*done) => {
                format!("about to run {} again", self.pre_start_job(*done))
            }
            LifeStage::PreStart { run: None, .. } | LifeStage::Prepared => "ending what pre_start left".to_owned(),
            LifeStage::Running { start_at: Some(_) } => "about to start main again".to_owned(),
            LifeStage::Running { start_at: None } if self.orders.will_stop_main() && self.main.is_up() => {
                "about to stop main, to start it again".to_owned()
            }
            LifeStage::Running { start_at: None } if self.is_restarting() => {
                "stopping main to start it again".to_owned()
            }
            LifeStage::Running { start_at: None } if self.main.is_up() => "running main".to_owned(),
            LifeStage::Running { start_at: None } if self.main.is_following() => "following what main left".to_owned(),
            LifeStage::Running { start_at: None } => "clearing up after main".to_owned(),
            LifeStage::Stopping(stopping) => stopping.doing(),
            LifeStage::Ended => "ending".to_owned(),
        }
    }
}

/// Until when main may wait for this watch's file, when it isn't to start without and hasn't got it.
fn required_until(watch: &Watch, leads: bool, since: Time) -> Option<Time> {
    match watch.required().filter(|_| !watch.is_prepared(leads))? {
        Required::For(within) => Some(since + within),
        Required::Forever => None,
    }
}
