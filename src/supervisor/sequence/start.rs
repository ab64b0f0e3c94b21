//! From the first event to main's last end: wait, be given a role, prepare, `pre_start`, run, restart. How it ends is
//! [`stop`](super::stop)'s.

use std::time::Duration;

use crate::config::{Background, Health, Hook, OnFailure, Query, Required, Restart, Strays, WaitFor, When};

use crate::exit_codes::UNAVAILABLE;
use crate::supervisor::Supervisor;
use crate::supervisor::machines::check::Check;
use crate::supervisor::machines::commands::{JobState, KeptFor, Launch, Outcome};
use crate::supervisor::machines::election::ElectionEvent;
use crate::supervisor::machines::main::{Gone, StrayAction};
use crate::supervisor::machines::restarts::{self, RestartDecision};
use crate::supervisor::machines::watch::Watch;
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::sequence::post_start::PostStart;
use crate::supervisor::sequence::stopping::Cause;
use crate::supervisor::vocabulary::{
    Effect, Follow, Hope, Job, Notice, Observation, RunId, StartReason, Step, Time, earliest,
};

/// How long main's start waits for a catalog's first answer before templates are rendered without one.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Each `pre_start`, whichever number it has.
const ANY_PRE_START: Job = Job::PreStart { number: None };

/// One `[[wait_for]]` under way.
#[derive(Debug)]
pub struct Wait {
    /// Which of the config's.
    index: usize,
    config: WaitFor,
    until: Time,
    done: bool,
    error: Option<String>,
}

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

    /// Begins to wait for what the config asks for: in any role, or in this one.
    fn begin_waiting(&mut self, step: &mut Step<'_>, in_role: bool) {
        self.waits.clear();
        for (index, config) in self.config.wait_for.iter().cloned().enumerate() {
            let is_met = self.leads() && self.is_of_own_leader(&config);
            if self.is_of_role(&config) != in_role || (in_role && (is_met || !config.when.applies(self.leads()))) {
                continue;
            }
            step.out.push(Effect::Say(Notice::Waiting { what: what(&config) }));
            step.out.push(Effect::Follow { follow: Follow::WaitFor(index), query: config.query.clone() });
            self.waits.push(Wait { index, until: step.now + config.timeout, config, done: false, error: None });
        }
    }

    /// Whether something can only be waited for once the role is known. The own election has no leader while all its
    /// candidates wait for one.
    fn is_of_role(&self, wait: &WaitFor) -> bool {
        wait.when != When::Always || self.is_of_own_leader(wait)
    }

    /// Whether it asks for a leader of this container's election. Who leads can't wait for it: it acts once main runs.
    fn is_of_own_leader(&self, wait: &WaitFor) -> bool {
        let own = self.leadership.as_ref().map(|leadership| &leadership.config().name);
        matches!(&wait.query, Query::Leader { election } if Some(election) == own)
    }

    /// Nothing is waited for any more.
    pub(in crate::supervisor) fn stop_waiting(&mut self, out: &mut Vec<Effect>) {
        let open = std::mem::take(&mut self.waits).into_iter().filter(|wait| !wait.done);
        out.extend(open.map(|wait| Effect::Unfollow { follow: Follow::WaitFor(wait.index) }));
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

    /// Whether all that is waited for is there; what isn't in time ends the container.
    fn has_waited(&mut self, step: &mut Step<'_>) -> bool {
        if let Some(wait) = self.waits.iter().find(|wait| !self.is_over(wait) && wait.until <= step.now) {
            let because = wait.error.as_deref().map(|error| format!(" ({error})")).unwrap_or_default();
            let timeout = humantime::format_duration(wait.config.timeout);
            let reason = format!("{} wasn't there within {timeout}{because}", what(&wait.config));
            self.stop(step, reason, Cause::Failed(UNAVAILABLE));
            return false;
        }
        self.waits.iter().all(|wait| self.is_over(wait))
    }

    /// Whether what is waited for is there. The own election's leader is there once what starts then is told of it.
    fn is_over(&self, wait: &Wait) -> bool {
        wait.done && (!self.is_of_own_leader(&wait.config) || self.knows_acting_leader())
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

    /// Whether what an earlier `pre_start` left holds this one up no longer: before the first nothing may act for another
    /// role.
    fn may_pre_start(&self, done: usize) -> bool {
        if done == 0 { !self.commands.any(&ANY_PRE_START) } else { self.is_cleared_of_pre_start() }
    }

    /// Whether all that was left of a `pre_start` has ended, or may stay. What can't be ended is told of, and waited for no
    /// longer.
    fn is_cleared_of_pre_start(&self) -> bool {
        self.commands.of_job(&ANY_PRE_START) != JobState::Busy
    }

    /// A reload has changed the hooks: those that have yet to run are taken from it, unless what has run, or does, isn't
    /// where it was: then the preparation goes on as it was begun, which `false` answers.
    pub(in crate::supervisor) fn take_pre_starts(&mut self) -> bool {
        let LifeStage::PreStart { done, run, .. } = *self.life.stage() else { return true };
        let new = &self.config.hooks.pre_start;
        // Where fewer are there now, nothing is left to run.
        let begun = (done + usize::from(run.is_some())).min(new.len());
        let stands = new.get(..begun) == self.preparation.get(..begun);
        if stands {
            self.preparation.clone_from(new);
        }
        stands
    }

    /// What the `pre_start` of this index is called: by its number, where there are several.
    fn pre_start_job(&self, index: usize) -> Job {
        Job::PreStart { number: (self.preparation.len() > 1).then_some(index + 1) }
    }

    /// Runs the next `pre_start` of this role, if there is one.
    fn pre_start(&mut self, step: &mut Step<'_>, done: usize) {
        let leads = self.leads();
        let mut left = self.preparation.iter().enumerate().skip(done);
        let next = left.find(|(_, pre_start)| pre_start.hook.when.applies(leads));
        let Some((index, hook)) = next.map(|(index, pre_start)| (index, pre_start.hook.clone())) else {
            return self.life.prepared();
        };
        // A daemon that the last preparation kept: this one would start one more beside it.
        if done == 0 && self.commands.end_last(step, &ANY_PRE_START) {
            return;
        }
        let run = self.next_run();
        self.life.pre_start_runs(index, run);
        self.preparation_begins(done == 0);
        let job = self.pre_start_job(index);
        let env = self.env(&job);
        // It prepares for the role that it was told, and ends with it.
        let when = if leads { When::Leader } else { When::Replica };
        let keeps_for = match hook.when {
            // Main and all that it is prepared with are the leader's.
            When::Always | When::Leader if self.is_standby() => KeptFor::RoleAndMain,
            When::Leader | When::Replica => KeptFor::Role,
            When::Always => KeptFor::Container,
        };
        let order = Launch { job, hook: Hook { when, ..hook }, env, stdin: None };
        self.commands.start_keeping(step, run, order, keeps_for);
    }

    /// A `pre_start` ended. One that was cut short by a change of role starts nothing.
    pub(in crate::supervisor) fn pre_start_ended(&mut self, step: &mut Step<'_>, run: RunId, outcome: &Outcome) {
        let LifeStage::PreStart { done, run: Some(own), failures, .. } = *self.life.stage() else { return };
        if own != run {
            return;
        }
        let hook = self.pre_start_job(done);
        match (outcome.result(), self.preparation.get(done)) {
            (Ok(()), _) => self.life.next_pre_start(step.now),
            (Err(_), Some(config)) if failures < config.retries => {
                let failures = failures + 1;
                let after = self.jitter.pause(config.backoff, failures);
                step.out.push(Effect::Say(Notice::HookRetrying { hook, after }));
                self.life.pre_start_again(failures, step.now, after);
            }
            (Err(error), _) => {
                self.stop(step, format!("{hook} failed: {error}"), Cause::Failed(outcome.code()));
            }
        }
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

    /// What to do with processes main left, and until when they may live.
    pub(in crate::supervisor) fn leftovers(&self, now: Time) -> (StrayAction, Option<Time>) {
        let kill_at = match self.life.stopping() {
            Some(stopping) => stopping.kill_at(),
            None => self.config.stop.within.map(|within| now + within),
        };
        let wanted = |status| restarts::wanted(self.process.restart.policy, status) && !self.requested(now, status);
        let restarts = self.is_restarting() || self.is_leaving_role() || self.main_status.last_exit.is_some_and(wanted);
        let what = match (self.process.background, self.process.strays) {
            // Who is followed as main leaves the leader's role was told nothing of that.
            (Background::Follow, _) if !self.is_leaving_role() && self.main.may_be_followed(now) => StrayAction::Follow,
            (_, Strays::Wait) if !restarts => StrayAction::Wait,
            (_, Strays::Kill | Strays::Wait) => StrayAction::Kill,
        };
        (what, kill_at)
    }

    /// Whether main has ended and one of those that it left is to be main.
    pub(in crate::supervisor) fn is_to_follow(&self, now: Time) -> bool {
        self.main.is_left() && self.leftovers(now).0 == StrayAction::Follow
    }

    /// Nobody is to be main any more in place of one that was to be followed: main doesn't run.
    pub(in crate::supervisor) fn may_follow_no_more(&mut self, step: &mut Step<'_>, followed: bool) {
        if followed && !self.main.is_following() {
            self.checks_rest(step, None);
            self.tell_catalog(step.out);
        }
    }

    /// Main couldn't be started: it is tried again as after a crash, if there is hope.
    fn main_failed_to_start(&mut self, step: &mut Step<'_>, gone: Gone, hope: Hope) {
        let status = gone.status;
        let may_pass = match hope {
            Hope::None => false,
            Hope::IfItWasThere => self.main_status.last_exit.is_some(),
            Hope::Soon => true,
        };
        let again = may_pass && restarts::wanted(self.process.restart.policy, status);
        let last_exit = self.main_status.last_exit;
        self.main_ended(step, &gone);
        if last_exit.is_none() && again {
            // It hasn't ended yet: it never ran.
            self.main_status.last_exit = None;
        }
        if self.is_stopping() {
            return;
        }
        let cause = Cause::Failed(status.code());
        match again {
            true => self.restart(step, &gone, gone.why(), cause),
            false => self.stop(step, gone.why(), cause),
        }
    }

    /// Main and all it left are gone, or it never ran: start it again, or end.
    pub(in crate::supervisor) fn main_is_gone(&mut self, step: &mut Step<'_>, gone: Gone) {
        self.after_main(step, gone);
        if !self.is_stopping() {
            self.end_as_asked(step);
        }
    }

    /// What follows main's end as such.
    fn after_main(&mut self, step: &mut Step<'_>, gone: Gone) {
        if let Some(hope) = gone.failed.as_ref().map(|error| error.hope) {
            return self.main_failed_to_start(step, gone, hope);
        }
        let for_role = self.main_ended(step, &gone);
        if self.is_stopping() {
            return;
        }
        let requested = self.requested(step.now, gone.status);
        let ordered = self.main_ended_for_order();
        if for_role && self.restarting.is_none() && !gone.unkillable && !self.is_from_terminal(step.now, gone.status) {
            // Stopped to leave its role, it runs again in whatever role it is given next.
            self.start_reason = if ordered { StartReason::Restart } else { StartReason::Demotion };
            if ordered {
                self.elect(step, ElectionEvent::StandAgain);
            }
            self.life.elect(step.now);
            return;
        }
        if ordered && !gone.unkillable && !self.is_from_terminal(step.now, gone.status) {
            // What a person wants takes nothing from the budget, and waits for nothing.
            self.restarting = None;
            self.start_reason = StartReason::Restart;
            self.elect(step, ElectionEvent::StandAgain);
            return self.life.run_again(step.now);
        }
        // Who presses a key wants an end, whatever a check had wanted.
        let restarting = self.restarting.take().filter(|_| !self.is_from_terminal(step.now, gone.status));
        let wanted = restarts::wanted(self.process.restart.policy, gone.status) && !requested;
        if gone.unkillable || !(restarting.is_some() || wanted) {
            let cause = match self.is_from_terminal(step.now, gone.status) {
                true => Cause::Terminal,
                false => Cause::MainEnded { asked: requested },
            };
            return self.stop(step, gone.why(), cause);
        }
        self.start_reason = match (restarting.is_some(), self.remakes()) {
            (true, true) => StartReason::LeaderChange,
            (true, false) => StartReason::Restart,
            (false, _) => StartReason::Crash,
        };
        let cause = if restarting.is_some() { Cause::Unhealthy } else { Cause::MainEnded { asked: false } };
        self.restart(step, &gone, restarting.unwrap_or_else(|| gone.why()), cause);
    }

    /// What follows from main's end whatever comes next; whether it ended for its role's sake.
    fn main_ended(&mut self, step: &mut Step<'_>, gone: &Gone) -> bool {
        self.main_status.last_exit = Some(gone.status);
        self.main_why = gone.why();
        self.cut_post_start_short(step);
        self.checks_rest(step, None);
        let for_role = self.main_left_role(step, gone.unkillable);
        self.tell_catalog(step.out);
        for_role
    }

    /// Main starts again after a pause, as long as the budget lasts; then the container ends, because of this.
    fn restart(&mut self, step: &mut Step<'_>, gone: &Gone, why: String, cause: Cause) {
        let restart = self.process.restart.clone();
        match self.restarts.ask(step.now, gone.lived, &restart, &mut self.jitter) {
            RestartDecision::After { pause, attempt } => {
                step.out.push(Effect::Say(Notice::MainRestarting { after: pause, attempt, max: restart.max }));
                self.life.run_again(step.now + pause);
            }
            RestartDecision::Spent => {
                let Restart { max, within, .. } = restart;
                let spent = Notice::RestartBudgetSpent { max, within };
                let why = format!("{why}; {spent}");
                step.out.push(Effect::Say(spent));
                self.stop(step, why, cause);
            }
        }
    }

    /// Whether main ends, or is about to, to run again.
    fn is_restarting(&self) -> bool {
        self.restarting.is_some() || self.orders.restart_main()
    }

    /// A check has turned critical.
    pub(in crate::supervisor) fn unhealthy(&mut self, step: &mut Step<'_>, check: &Health, error: &str) {
        if self.is_stopping() {
            return;
        }
        let reason = format!("check {} is critical: {error}", check.name);
        if let Some(name) = &check.of {
            return self.coprocess_unhealthy(step, name, check.on_failure, reason);
        }
        if !self.main.is_up() {
            return;
        }
        match check.on_failure {
            OnFailure::Report => {}
            OnFailure::Restart => {
                self.restarting = Some(reason);
                self.stop_main_to_restart(step);
            }
            OnFailure::Exit => self.stop(step, reason, Cause::Unhealthy),
        }
    }

    /// What is here doesn't fit the leader: main is stopped, and prepared anew, if there is anything to prepare it with. It
    /// takes from the budget for restarts, so that it can't go on for ever.
    pub(in crate::supervisor) fn remake_replica(&mut self, step: &mut Step<'_>, error: String) {
        let prepares = self.config.hooks.pre_start.iter().any(|pre_start| pre_start.hook.when.applies(false));
        if !prepares || self.is_stopping() || !self.main.is_up() || self.is_restarting() {
            return;
        }
        step.out.push(Effect::Say(Notice::ReplicaRemade { error: error.clone() }));
        self.restarting = Some(format!("on_leader_change failed: {error}"));
        self.unprepare();
        self.stop_main_to_restart(step);
    }

    /// Has main stop, to run again.
    pub(in crate::supervisor) fn stop_main_to_restart(&mut self, step: &mut Step<'_>) {
        let patience = self.process.stop_timeout.or(self.config.stop.within);
        let signal = self.told_by(None);
        // A main that has gone on after a key ends for this.
        self.from_terminal.clear();
        self.kill_latest = self.config.stop.within.map(|within| step.now + within);
        self.main.stop(signal, self.process.signal_scope, patience.map(|patience| step.now + patience), step.out);
        self.tell_catalog(step.out);
    }

    /// A follower of a `[[wait_for]]` saw something.
    pub(in crate::supervisor) fn waited(
        &mut self,
        index: usize,
        seen: Result<Observation, String>,
        out: &mut Vec<Effect>,
    ) {
        let Some(wait) = self.waits.iter_mut().find(|wait| wait.index == index && !wait.done) else { return };
        match seen {
            Ok(seen) if seen.len() >= wait.config.count => {
                wait.done = true;
                out.push(Effect::Say(Notice::Waited { what: what(&wait.config) }));
                out.push(Effect::Unfollow { follow: Follow::WaitFor(index) });
            }
            Ok(_) => wait.error = None,
            Err(error) => {
                if wait.error.as_ref() != Some(&error) {
                    let what = format!("waiting for {}", what(&wait.config));
                    out.push(Effect::Say(Notice::CatalogFailed { what, error: error.clone() }));
                }
                wait.error = Some(error);
            }
        }
    }

    /// When [`advance_start`](Self::advance_start) has something to do next.
    pub(in crate::supervisor) fn life_deadline(&self) -> Option<Time> {
        match self.life.stage() {
            // What `pre_start` left ends, which is an event.
            LifeStage::Created | LifeStage::BeforeCatalog | LifeStage::Prepared | LifeStage::Ended => None,
            LifeStage::Electing { until } => self.electing_deadline(*until),
            LifeStage::Waiting | LifeStage::WaitingInRole => {
                self.waits.iter().filter(|wait| !self.is_over(wait)).map(|wait| Some(wait.until)).fold(None, earliest)
            }
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
                let open: Vec<String> =
                    self.waits.iter().filter(|wait| !self.is_over(wait)).map(|wait| what(&wait.config)).collect();
                format!("waiting for {}", open.join(", "))
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

fn what(wait: &WaitFor) -> String {
    match (&wait.query, wait.count) {
        (Query::Service { .. }, count) if count != 1 => format!("{count} instances of {}", subject(&wait.query)),
        (query, _) => subject(query),
    }
}

/// What is waited for, for people.
pub fn subject(query: &Query) -> String {
    match query {
        Query::Service { name, tag, datacenter } => {
            let tag = tag.as_ref().map(|tag| format!(" with tag {tag}")).unwrap_or_default();
            let place = datacenter.as_ref().map(|datacenter| format!(" in {datacenter}")).unwrap_or_default();
            format!("service {name}{tag}{place}")
        }
        Query::Key { key } => format!("key {key}"),
        Query::KeyPrefix { prefix } => format!("a key below {prefix}"),
        Query::Leader { election } => format!("a leader of {election}"),
    }
}
