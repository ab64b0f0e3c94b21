//! What follows main's end: those that it left, a restart after a pause, or the container's end, which is
//! [`stop`](super::stop)'s; and who has it end to start it again.

use crate::config::{Background, Health, OnFailure, Restart, Strays};
use crate::supervisor::Supervisor;
use crate::supervisor::machines::election::ElectionEvent;
use crate::supervisor::machines::main::{Gone, StrayAction};
use crate::supervisor::machines::restarts::{self, RestartDecision};
use crate::supervisor::sequence::stopping::Cause;
use crate::supervisor::vocabulary::{Effect, Hope, Notice, StartReason, Step, Time};

impl Supervisor {
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
    pub(super) fn is_restarting(&self) -> bool {
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
}
