//! The stop sequence: out of the rotation, drain, `pre_stop`, coprocesses that stop before main, a leader's `on_demote`,
//! main and all it left, the election's lock, deregister, `post_stop`, all other coprocesses, exit; each step takes from
//! what `[stop] within` leaves, and nothing can hold the container past it. Until main is told it serves on, and
//! [watches](super::watches) act for it.

use std::time::Duration;

use crate::config::{Hook, Signal, Strays, When};
use crate::exit_codes::FAILED;

use crate::supervisor::Supervisor;
use crate::supervisor::machines::commands::Launch;
use crate::supervisor::machines::election::ElectionEvent;
use crate::supervisor::machines::entry::Entry;
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::sequence::role::Leadership;
use crate::supervisor::sequence::stopping::{Cause, StopStage, Stopping};
use crate::supervisor::vocabulary::{Effect, ExitStatus, Job, Notice, OuterWord, RunId, Step, Target, Time, earliest};

/// A catalog that doesn't answer costs a stop no more than this: half for the election's lock, half for the entries.
const CATALOG_WITHIN: Duration = Duration::from_secs(1);
/// The part of `[stop] within` kept for what comes after main: its strays' SIGKILL, deregistering, `post_stop`...
const KEPT_SHARE: u32 = 10;
/// ...but no more than this.
const KEPT_AT_MOST: Duration = Duration::from_secs(1);

/// The part of that by when a main that SIGKILL doesn't end has become hopeless: the container leaves the catalog without it.
const HOPELESS_SHARE: u32 = 5;

/// What comes before main's end leaves main a third of the time that there is, so that it gets its chance to obey.
fn told_latest(now: Time, kill_at: Time) -> Time {
    now + now.until(kill_at) * 2 / 3
}

impl Supervisor {
    /// Whether the container is on its way out.
    pub(in crate::supervisor) fn is_stopping(&self) -> bool {
        matches!(self.life.stage(), LifeStage::Stopping(_) | LifeStage::Ended)
    }

    /// Stops, or, when it does already and a signal says so again, escalates.
    pub(in crate::supervisor) fn stop(&mut self, step: &mut Step<'_>, reason: String, cause: Cause) {
        match (self.life.stage(), cause) {
            (LifeStage::Stopping(_), Cause::Signal(_)) => self.escalate(step),
            (LifeStage::Stopping(_) | LifeStage::Ended, _) => {}
            _ => self.begin_stop(step, reason, cause),
        }
    }

    fn begin_stop(&mut self, step: &mut Step<'_>, reason: String, cause: Cause) {
        let signal = match cause {
            Cause::Signal(signal) => Some(signal),
            Cause::Control | Cause::MainEnded { .. } | Cause::Terminal | Cause::Failed(_) | Cause::Unhealthy => None,
        };
        let within = self.config.stop.within;
        let kept = |within: Duration| (within / KEPT_SHARE).min(KEPT_AT_MOST);
        let by_within =
            within.map(|within| step.now + (within - kept(within)).saturating_sub(self.time_after_main(within)));
        if let Some(within) = within {
            self.main.hopeless_from(step.now + (within - kept(within) / HOPELESS_SHARE));
        }
        let told_by = self.told_by(signal);
        let pre_start = match *self.life.stage() {
            LifeStage::PreStart { run, .. } => run,
            _ => None,
        };
        let led = self.leads() || self.is_leaving_role();
        let code = match cause {
            Cause::Failed(code) => Some(code),
            Cause::Unhealthy if self.has_no_main() => Some(FAILED),
            // The signal's code stands for main's, as a shell would have it.
            _ if self.has_no_main() => Some(signal.map_or(0, |signal| self.exit_code(ExitStatus::Killed(signal)))),
            _ => None,
        };
        if !self.process.manner.silent {
            step.out.push(Effect::Say(Notice::Stopping { reason: reason.clone(), within }));
        }
        self.commands.hurry(by_within.map(|at| told_latest(step.now, at)));
        self.kill_latest = by_within;
        step.out.push(Effect::TellOuter(OuterWord::Stopping));
        self.stop_waiting(step.out);
        self.refuse_orders(step);
        self.all_checks_rest(step);
        self.end_tasks(step);
        if let Some(run) = pre_start {
            self.commands.cancel(step, run);
        }
        // Ctrl-C has taken main's end to itself; the rest of the stop comes in its order all the same.
        let in_order = self.main.is_up() || self.main.is_following() || matches!(cause, Cause::Terminal);
        let drain = if in_order { self.config.stop.drain } else { Duration::ZERO };
        self.life.stop(Stopping {
            stage: StopStage::Draining { until: step.now + drain },
            reason,
            deadline: within.map(|within| step.now + within),
            tell_at: by_within.map(|at| told_latest(step.now, at)),
            kill_at: by_within,
            signal: told_by,
            cause,
            code,
            led,
            stops_asked: matches!(cause, Cause::Signal(_) | Cause::Terminal).into(),
            hurries: false,
            watches: true,
            tells: true,
        });
        self.end_watches_without_main(step);
        self.tell_catalog(step.out);
        self.hurry_demotion(step.now);
        if !self.leads() {
            // It doesn't come to lead any more. A leader goes on until its turn comes.
            self.elect(step, ElectionEvent::Stop);
        }
        if !in_order {
            self.tell_main(step, pre_start);
        }
    }

    /// Whether main neither runs nor was to run again: it was never started, or another start is being prepared, or
    /// awaits its role. How main once ended says nothing of the container's end then; in a pause between two restarts it
    /// does.
    fn has_no_main(&self) -> bool {
        let runs_again = matches!(self.life.stage(), LifeStage::Running { .. });
        self.main.is_gone() && (!runs_again || self.main_status.last_exit.is_none())
    }

    /// The second stop signal skips the hook that runs and tells main at once; the third kills.
    fn escalate(&mut self, step: &mut Step<'_>) {
        let Some(stopping) = self.life.stopping_mut() else { return };
        stopping.stops_asked += 1;
        if stopping.stops_asked == 1 {
            // The stop began otherwise, and whoever sends one signal gives it its time.
            return;
        }
        stopping.hurries = true;
        let second = stopping.stops_asked == 2;
        match stopping.stage {
            StopStage::Draining { .. } => self.tell_main(step, None),
            StopStage::PreStop { run } => {
                self.commands.cancel(step, run);
                self.tell_main(step, None);
            }
            StopStage::BeforeMain { pre_start } => self.tell_main(step, pre_start),
            StopStage::AfterMain => self.kill_coprocesses(step),
            StopStage::Demoting | StopStage::Main { .. } => {
                if !self.cut_demotion_short(step) {
                    self.tell_main_now(step);
                }
            }
            StopStage::PostStop { run } if second => self.commands.cancel(step, run),
            StopStage::Releasing { .. }
            | StopStage::Withdrawing { .. }
            | StopStage::PostStop { .. }
            | StopStage::Rest { .. }
            | StopStage::Done => {}
        }
        if !second {
            self.main.kill(step);
            self.commands.kill_all(step.out);
            if let Some(Stopping { stage, .. }) = self.life.stopping_mut()
                && let StopStage::PostStop { .. }
                | StopStage::Releasing { .. }
                | StopStage::Withdrawing { .. }
                | StopStage::AfterMain
                | StopStage::Rest { .. } = stage
            {
                *stage = StopStage::Done;
            }
        }
    }

    /// `pre_stop` or `post_stop` ended, and all it left behind.
    pub(in crate::supervisor) fn stop_hook_ended(&mut self, step: &mut Step<'_>, run: RunId) {
        let Some(stopping) = self.life.stopping_mut() else { return };
        match stopping.stage {
            StopStage::PreStop { run: own } if own == run => self.tell_main(step, None),
            StopStage::PostStop { run: own } if own == run => self.stop_coprocesses(step.now),
            _ => {}
        }
    }

    /// Takes every step of the stop sequence that nothing holds back any more.
    pub(in crate::supervisor) fn advance_stop(&mut self, step: &mut Step<'_>) {
        self.end_watches_without_main(step);
        if let Some(&Stopping { stage: StopStage::Draining { until }, cause, .. }) = self.life.stopping() {
            match self.main.is_gone() && !matches!(cause, Cause::Terminal) {
                true => self.tell_main(step, None),
                false if until <= step.now => self.pre_stop(step),
                false => {}
            }
        }
        if let Some(&Stopping { stage: StopStage::BeforeMain { pre_start }, .. }) = self.life.stopping()
            && !self.is_any_left_before_main()
        {
            self.tell_main(step, pre_start);
        }
        if let Some(&Stopping { stage: StopStage::Demoting, .. }) = self.life.stopping()
            && !self.is_demoting()
        {
            self.tell_main_now(step);
        }
        if let Some(Stopping { stage, .. }) = self.life.stopping_mut()
            && let StopStage::Main { pre_start } = *stage
            && self.main.is_gone()
            && !self.leadership.as_ref().is_some_and(Leadership::may_act)
            && pre_start.is_none_or(|run| !self.commands.runs(run))
        {
            *stage = StopStage::Releasing { until: step.now + CATALOG_WITHIN / 2 };
        }
        if let Some(&Stopping { stage: StopStage::Releasing { until }, .. }) = self.life.stopping()
            && (until <= step.now || self.leadership.as_ref().is_none_or(Leadership::is_over))
        {
            self.leave_catalog(step);
        }
        if let Some(&Stopping { stage: StopStage::Withdrawing { until }, .. }) = self.life.stopping()
            && (until <= step.now || self.entries.iter().chain(&self.leaving).all(Entry::is_out))
        {
            self.post_stop(step);
        }
        if let Some(&Stopping { stage: StopStage::AfterMain, .. }) = self.life.stopping()
            && !self.is_any_left()
        {
            self.end_rest(step);
        }
        if let Some(stopping) = self.life.stopping_mut()
            && let StopStage::Rest { others } = &mut stopping.stage
        {
            *others = others.filter(|until| *until > step.now);
            if others.is_none() && self.commands.is_over() {
                stopping.stage = StopStage::Done;
            }
        }
        if let Some(stopping) = self.life.stopping()
            && (matches!(stopping.stage, StopStage::Done) || stopping.deadline.is_some_and(|at| at <= step.now))
        {
            self.exit(step);
        }
    }

    fn pre_stop(&mut self, step: &mut Step<'_>) {
        let (leads, leaves) = (self.leads(), self.is_leaving_role());
        let Some(stopping) = self.life.stopping_mut() else { return };
        // A main that is gone took the role along; the lock is still kept, unless it was lost.
        let leads = leads || (leaves && matches!(stopping.cause, Cause::Terminal));
        let Some(hook) = self.config.hooks.pre_stop.clone().filter(|hook| hook.when.applies(leads)) else {
            return self.tell_main(step, None);
        };
        let run = self.last_run.one_more();
        (stopping.stage, stopping.tells) = (StopStage::PreStop { run }, false);
        let timeout = match self.is_any_left_before_main() || leads {
            // What follows has its half.
            true => hook.timeout.min(self.stop_hook_timeout(step.now, Duration::MAX) / 2),
            false => self.stop_hook_timeout(step.now, hook.timeout),
        };
        let hook = Hook { timeout, ..hook };
        let env = self.env(&Job::PreStop);
        self.commands.start(step, run, Launch { job: Job::PreStop, hook, env, stdin: None });
    }

    /// Whether main, a leader's, is gone by Ctrl-C and the leader's `pre_stop` comes after the drain.
    pub(in crate::supervisor) fn leaders_pre_stop_is_to_run(&self) -> bool {
        let comes = matches!(
            self.life.stopping(),
            Some(Stopping { stage: StopStage::Draining { .. }, cause: Cause::Terminal, led: true, .. })
        );
        comes && self.config.hooks.pre_stop.as_ref().is_some_and(|hook| hook.when == When::Leader)
    }

    /// How long a hook may take that is the last to come before main's end.
    pub(in crate::supervisor) fn stop_hook_timeout(&self, now: Time, timeout: Duration) -> Duration {
        let tell_at = self.life.stopping().and_then(|stopping| stopping.tell_at);
        tell_at.map_or(timeout, |at| timeout.min(now.until(at)))
    }

    /// Has main stop, once it is out of the leader's role.
    fn tell_main(&mut self, step: &mut Step<'_>, pre_start: Option<RunId>) {
        let waits = self.is_any_left_before_main();
        let Some(stopping) = self.life.stopping_mut() else { return };
        if waits && !stopping.hurries {
            stopping.stage = StopStage::BeforeMain { pre_start };
            return self.hurry_coprocesses(step.now);
        }
        if self.main.is_gone() {
            stopping.stage = StopStage::Main { pre_start };
            return self.elect(step, ElectionEvent::Stop);
        }
        stopping.stage = StopStage::Demoting;
        self.hurry_coprocesses(step.now);
        self.elect(step, ElectionEvent::Stop);
    }

    /// Has main stop.
    pub(in crate::supervisor) fn tell_main_now(&mut self, step: &mut Step<'_>) {
        self.end_watches(step);
        let patience = self.process.stop_timeout.map(|timeout| step.now + timeout);
        let Some(stopping) = self.life.stopping_mut() else { return };
        if !matches!(stopping.stage, StopStage::Main { .. }) {
            stopping.stage = StopStage::Main { pre_start: None };
        }
        stopping.kill_at = earliest(stopping.kill_at, patience);
        self.main.stop(stopping.signal, self.process.signal_scope, stopping.kill_at, step.out);
    }

    fn leave_catalog(&mut self, step: &mut Step<'_>) {
        let Some(stopping) = self.life.stopping_mut() else { return };
        let within = if self.leadership.is_some() { CATALOG_WITHIN / 2 } else { CATALOG_WITHIN };
        stopping.stage = StopStage::Withdrawing { until: step.now + within };
        for entry in &mut self.entries {
            entry.withdraw(step.out);
        }
    }

    fn post_stop(&mut self, step: &mut Step<'_>) {
        let others = self.is_any_left();
        let Some(stopping) = self.life.stopping_mut() else { return };
        let Some(hook) = self.config.hooks.post_stop.clone().filter(|hook| hook.when.applies(stopping.led)) else {
            return self.stop_coprocesses(step.now);
        };
        let left = stopping.deadline.map_or(hook.timeout, |at| step.now.until(at));
        // Those that stop after it have a chance, too.
        let left = if others { left / 2 } else { left };
        let run = self.last_run.one_more();
        stopping.stage = StopStage::PostStop { run };
        let hook = Hook { timeout: hook.timeout.min(left), ..hook };
        let env = self.env(&Job::PostStop);
        self.commands.start(step, run, Launch { job: Job::PostStop, hook, env, stdin: None });
    }

    /// What main, and its `post_stop`, may have needed goes last.
    fn stop_coprocesses(&mut self, now: Time) {
        if let Some(stopping) = self.life.stopping_mut() {
            stopping.stage = StopStage::AfterMain;
        }
        self.hurry_coprocesses(now);
    }

    /// The kernel would kill without warning what is left as PID 1 leaves.
    fn end_rest(&mut self, step: &mut Step<'_>) {
        let Some(stopping) = self.life.stopping_mut() else { return };
        let until = self.commands.end_rest(step, stopping.kill_at);
        let others = (!self.config.is_plain()).then_some(until);
        stopping.stage = StopStage::Rest { others };
        if others.is_some() {
            step.out.push(Effect::CountRest);
        }
    }

    /// So many of those that were there before the agent are left.
    pub(in crate::supervisor) fn rest(&mut self, left: usize, out: &mut Vec<Effect>) {
        if let Some(Stopping { stage: StopStage::Rest { others }, .. }) = self.life.stopping_mut() {
            match left {
                0 => *others = None,
                _ if self.process.strays == Strays::Wait => {}
                _ => out.extend(Effect::ask_to_end(Target::Strays, Signal::TERM)),
            }
        }
    }
}
