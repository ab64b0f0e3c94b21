//! Into the leader's role and out of it: what acts beside main ends first, then main is promoted, or demoted or stopped.

use std::time::Duration;

use crate::config::election::Mode;
use crate::config::{Background, Hook, When};
use crate::supervisor::Supervisor;
use crate::supervisor::machines::check::Check;
use crate::supervisor::machines::commands::{Launch, Outcome};
use crate::supervisor::machines::election::ElectionEvent;
use crate::supervisor::sequence::duties::{Duty, keeps};
use crate::supervisor::sequence::stopping::Cause;
use crate::supervisor::vocabulary::{Job, RunId, Step, Time};

use super::{Leadership, Leaving, Part, Promotion, Role};

/// How long main has to end for its role's sake where nothing else says so (a plain `[stop]` without `within`): what
/// Docker gives a container, less a second for what comes after.
const STOP_WITHIN: Duration = Duration::from_secs(9);

impl Supervisor {
    /// The lock isn't ours to act by any more: whatever acts for the leader must end.
    pub(super) fn leave_role(&mut self, step: &mut Step<'_>) {
        let Some(leadership) = &mut self.leadership else { return };
        let Role::Leader { term, .. } = leadership.role else { return };
        leadership.role = Role::Leaving { term, stage: Leaving::Clearing };
        let by = leadership.leave_by;
        self.prepare_anew(step);
        self.commands.leave(step, When::Leader, by);
    }

    /// Whether main is on its way out of the leader's role.
    pub(in crate::supervisor) fn is_leaving_role(&self) -> bool {
        self.leadership.as_ref().is_some_and(Leadership::is_leaving)
    }

    /// Main is gone, whatever the reason; `true` when that is what its role wanted.
    pub(in crate::supervisor) fn main_left_role(&mut self, step: &mut Step<'_>, unkillable: bool) -> bool {
        if let Some(leadership) = &mut self.leadership {
            leadership.stuck |= unkillable;
        }
        if keeps(Duty::LeaveWithMain) {
            self.leave_role(step);
        }
        matches!(&self.leadership, Some(Leadership { role: Role::Leaving { stage: Leaving::Stopping, .. }, .. }))
    }

    /// A hook that still has main follow another would have it do so once it is promoted.
    pub(super) fn clear_for_promotion(&mut self, step: &mut Step<'_>) {
        let Some(leadership) = &mut self.leadership else { return };
        let Role::Leader { term, promotion } = &mut leadership.role else { return };
        let Promotion::Clearing { until } = *promotion else { return };
        self.commands.keep_nothing(step, When::Replica);
        let runs = self.commands.act_for(When::Replica) || self.coprocesses.is_any_left_of(When::Replica);
        let known = leadership.acting.is_past_settled(*term);
        if !runs && (known || until <= step.now) {
            *promotion = Promotion::Due;
            // Nobody waits for that any more, and `pre_start` isn't to be told otherwise than `on_promote`.
            let term = *term;
            leadership.acting.settle_past(term, None);
        } else if until <= step.now {
            *promotion = Promotion::Done;
            self.tell_election(ElectionEvent::Promoted {
                result: Err("what ran for a replica doesn't end".to_owned()),
            });
        }
    }

    /// Whether main is up, and as healthy as one must be that is promoted.
    pub(super) fn is_main_ready(&self) -> bool {
        let may_be_unhealthy = self.leadership.as_ref().is_some_and(|leadership| !leadership.config.require_health);
        let healthy = |check: &Check| check.is_passing() || (may_be_unhealthy && check.is_unhealthy());
        self.main.is_up() && self.checks.iter().filter(|check| check.bears_on_role()).all(healthy)
    }

    pub(super) fn promote(&mut self, step: &mut Step<'_>) {
        let due = matches!(
            self.leadership.as_ref().map(Leadership::role),
            Some(Role::Leader { promotion: Promotion::Due, .. })
        );
        let ready = due && self.is_main_ready() && !self.is_stopping() && self.may_begin_to_lead(step);
        let Some(Leadership { role: Role::Leader { promotion: promotion @ Promotion::Due, .. }, part, .. }) =
            &mut self.leadership
        else {
            return;
        };
        if !ready {
            return;
        }
        let Some(hook) = self.config.hooks.on_promote.clone() else {
            *promotion = Promotion::Done;
            *part = Part::Leader;
            return self.tell_election(ElectionEvent::Promoted { result: Ok(()) });
        };
        let run = self.last_run.one_more();
        *promotion = Promotion::Running(run);
        *part = Part::Leader;
        let env = self.env(&Job::OnPromote);
        let hook = Hook { when: When::Leader, ..hook };
        self.commands.start(step, run, Launch { job: Job::OnPromote, hook, env, stdin: None });
    }

    /// `on_promote` ended.
    pub(in crate::supervisor) fn promoted(&mut self, run: RunId, outcome: &Outcome) {
        if let Some(Leadership { role: Role::Leader { promotion, .. }, .. }) = &mut self.leadership
            && *promotion == Promotion::Running(run)
        {
            *promotion = Promotion::Done;
            self.tell_election(ElectionEvent::Promoted { result: outcome.result() });
        }
    }

    /// From "must go" to "nothing acts any more".
    pub(super) fn advance_demotion(&mut self, step: &mut Step<'_>) {
        if !self.is_leaving_role() {
            return;
        }
        if keeps(Duty::KeepNothing) {
            self.commands.keep_nothing(step, When::Leader);
            if self.main.is_gone() || self.main.is_left() {
                self.commands.end_kept(step, When::Leader);
            }
        }
        let hook_comes = self.leaders_pre_stop_is_to_run();
        // One that is yet to clear up has a command to come.
        let to_come = self.coprocesses.is_any_left_of(When::Leader) && keeps(Duty::AwaitCoprocesses);
        let cleared = !(self.commands.act_for(When::Leader) || to_come) || !keeps(Duty::AwaitHooks);
        let Some(leadership) = &mut self.leadership else { return };
        let gone = self.main.is_gone() || (self.main.is_left() && !keeps(Duty::AwaitStrays));
        let stuck = leadership.stuck;
        let replica = leadership.part == Part::Replica;
        let jammed = self.commands.is_stuck(When::Leader);
        let lost = leadership.lost;
        let Role::Leaving { stage, .. } = leadership.role else { return };
        match stage {
            Leaving::Clearing | Leaving::Stopping | Leaving::Demoted if stuck => {}
            // It is a leader's, so the lock is kept until it has run.
            Leaving::Clearing if hook_comes => {}
            Leaving::Clearing | Leaving::Stopping | Leaving::Demoted if cleared && gone => {
                self.out_of_role();
            }
            // It ends with main, and with nothing less.
            Leaving::Clearing | Leaving::Demoted if lost => self.stop_main_for_role(step),
            // Main's word is good for main, not for what one that has ended meanwhile left behind.
            Leaving::Demoted if cleared && self.main.pid().is_some() => self.out_of_role(),
            // Main isn't to act beside it any longer, and only the container's end can help.
            Leaving::Clearing | Leaving::Demoted if jammed => self.stop_main_for_role(step),
            Leaving::Stopping if jammed && self.main.is_gone() => {
                leadership.stuck = true;
                let reason = "what acts for the leader can't be ended".to_owned();
                self.stop(step, reason, Cause::Unhealthy);
            }
            // Nothing of the promotion had begun.
            Leaving::Clearing if cleared && replica => self.out_of_role(),
            Leaving::Clearing if cleared => match self.config.hooks.on_demote.clone() {
                Some(hook) if self.main.is_up() => self.start_on_demote(step, hook),
                Some(_) | None => self.stop_main_for_role(step),
            },
            Leaving::Demoting { run, until } if until <= step.now => {
                self.commands.cancel(step, run);
                self.stop_main_for_role(step);
                // It may be gone already.
                self.advance_demotion(step);
            }
            Leaving::Clearing | Leaving::Demoting { .. } | Leaving::Demoted | Leaving::Stopping => {}
        }
    }

    fn start_on_demote(&mut self, step: &mut Step<'_>, hook: Hook) {
        let timeout = self.stop_hook_timeout(step.now, hook.timeout);
        let run = self.next_run();
        let env = self.env(&Job::OnDemote);
        if let Some(Leadership { role: Role::Leaving { stage, .. }, .. }) = &mut self.leadership {
            *stage = Leaving::Demoting { run, until: step.now + timeout };
        }
        // What it leaves must not act beside the next leader.
        let hook = Hook { timeout, when: When::Leader, ..hook };
        self.commands.start(step, run, Launch { job: Job::OnDemote, hook, env, stdin: None });
    }

    /// `on_demote` ended: its success leaves main running, out of the role.
    pub(in crate::supervisor) fn demoted(&mut self, step: &mut Step<'_>, run: RunId, outcome: &Outcome) {
        let Some(Leadership { config, role: Role::Leaving { stage, .. }, .. }) = &self.leadership else { return };
        if !matches!(*stage, Leaving::Demoting { run: own, .. } if own == run) {
            return;
        }
        match (outcome.result(), config.mode) {
            (Ok(()), Mode::Role) => self.demoted_but_for_leftovers(),
            (Ok(()), Mode::Standby) if !keeps(Duty::StopStandbys) => self.demoted_but_for_leftovers(),
            (Err(_), Mode::Role) if !keeps(Duty::BelieveSuccessOnly) => self.demoted_but_for_leftovers(),
            (Ok(()) | Err(_), _) => self.stop_main_for_role(step),
        }
    }

    fn demoted_but_for_leftovers(&mut self) {
        if let Some(Leadership { role: Role::Leaving { stage, .. }, .. }) = &mut self.leadership {
            *stage = Leaving::Demoted;
        }
    }

    /// A stop in haste waits for no `on_demote`; whether one ran.
    pub(in crate::supervisor) fn cut_demotion_short(&mut self, step: &mut Step<'_>) -> bool {
        let Some(Leadership { role: Role::Leaving { stage: Leaving::Demoting { run, .. }, .. }, .. }) = self.leadership
        else {
            return false;
        };
        self.commands.cancel(step, run);
        self.stop_main_for_role(step);
        true
    }

    /// The container stops: an `on_demote` that began before has the time that it would have in the stop.
    pub(in crate::supervisor) fn hurry_demotion(&mut self, now: Time) {
        let Some(Leadership { role: Role::Leaving { stage: Leaving::Demoting { until, .. }, .. }, .. }) =
            &self.leadership
        else {
            return;
        };
        let shorter = now + self.stop_hook_timeout(now, now.until(*until));
        if let Some(Leadership { role: Role::Leaving { stage: Leaving::Demoting { until, .. }, .. }, .. }) =
            &mut self.leadership
        {
            *until = shorter;
        }
    }

    /// Whether main must not be told to stop yet: what acts for the leader, or `on_demote`, goes first.
    pub(in crate::supervisor) fn is_demoting(&self) -> bool {
        let role = self.leadership.as_ref().map(|leadership| &leadership.role);
        matches!(
            role,
            Some(Role::Leaving { stage: Leaving::Clearing | Leaving::Demoting { .. } | Leaving::Demoted, .. })
        )
    }

    /// Main has ended as it leaves the leader's role, and left who would be main in its place in any other: they were told
    /// nothing of the role's end, so they are ended for it, and main runs again.
    pub(in crate::supervisor) fn ends_for_role_if_not_followed(&mut self, now: Time) {
        if self.process.background == Background::Follow
            && !self.is_stopping()
            && self.main.may_be_followed(now)
            && let Some(Leadership { role: Role::Leaving { stage, .. }, .. }) = &mut self.leadership
        {
            *stage = Leaving::Stopping;
        }
    }

    fn stop_main_for_role(&mut self, step: &mut Step<'_>) {
        if let Some(Leadership { role: Role::Leaving { stage, .. }, .. }) = &mut self.leadership {
            *stage = Leaving::Stopping;
        }
        if self.is_stopping() {
            return self.tell_main_now(step);
        }
        // A main that has gone on after a key ends for this.
        self.from_terminal.clear();
        // The lease's own deadline is the election's to keep: it orders the kill.
        let patience = self.process.stop_timeout.or(self.config.stop.within).unwrap_or(STOP_WITHIN);
        if !self.main.kill_by(step.now + patience) {
            let signal = self.told_by(None);
            self.main.stop(signal, self.process.signal_scope, Some(step.now + patience), step.out);
        }
        self.tell_catalog(step.out);
    }

    /// The keeper of a run was killed.
    pub(in crate::supervisor) fn run_lost(&mut self, run: RunId) {
        if self.commands.acts_for(run, When::Leader)
            && let Some(leadership) = &mut self.leadership
        {
            leadership.lost = true;
        }
    }

    /// Nothing acts any more.
    fn out_of_role(&mut self) {
        let stopping = self.is_stopping();
        let Some(leadership) = &mut self.leadership else { return };
        leadership.role = Role::Replica;
        leadership.lost = false;
        if leadership.part == Part::Leader {
            leadership.part = Part::Replica;
            leadership.prepared = leadership.prepared.filter(|_| !keeps(Duty::PrepareAnew));
        }
        leadership.events.push_back(ElectionEvent::OutOfRole);
        if stopping {
            leadership.events.push_back(ElectionEvent::Stop);
        }
    }
}
