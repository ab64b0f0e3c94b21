//! What a signal to the agent means: stop, reload, maintenance, or a word for main.

use crate::config::{RestartPolicy, Signal};

use crate::supervisor::Supervisor;
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::sequence::stopping::Cause;
use crate::supervisor::vocabulary::{Effect, ExitStatus, Notice, Step, Time};

/// Who sends one of these wants an end, whatever main does about it.
const MEAN_AN_END: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::QUIT];

/// What a terminal's driver stops a job with.
const FROM_THE_KEYBOARD: [Signal; 3] = [Signal::TSTP, Signal::TTIN, Signal::TTOU];

/// A signal was passed on to main.
#[derive(Debug, Clone, Copy)]
pub struct PassedOn {
    /// When.
    at: Time,
    /// Main catches it, or ignores it.
    heeded: bool,
}

/// How a program ends that ends by itself as if by this signal.
fn as_if_by(signal: Signal) -> ExitStatus {
    ExitStatus::Exited(ExitStatus::Killed(signal).code())
}

impl Supervisor {
    /// A signal came.
    pub(in crate::supervisor) fn signalled(&mut self, step: &mut Step<'_>, signal: Signal) {
        if self.config.control.signals && signal == Signal::HUP {
            return self.reload(None, step.out);
        }
        if self.config.control.signals && signal == Signal::USR1 {
            return self.toggle_maintenance(step, format!("{signal} came"));
        }
        // The signals of the config main runs by: a changed [process] counts at its next start.
        if self.process.stop_on.contains(&signal) {
            return self.stop(step, format!("{signal} came"), Cause::Signal(signal));
        }
        if let Some(sent) = self.rewritten(signal) {
            self.pass_on(step, signal, sent);
        }
        if self.process.manner.stops_with_main && FROM_THE_KEYBOARD.contains(&signal) {
            step.out.push(Effect::Suspend);
        }
    }

    /// What main gets in place of a signal; `None` is nothing.
    pub(in crate::supervisor) fn rewritten(&self, signal: Signal) -> Option<Signal> {
        self.process.rewrite_signals.get(&signal).copied().unwrap_or(Some(signal))
    }

    /// By what main is told to stop: by what it gets in place of the signal that came, unless the config names another. One
    /// that is dropped stops nothing; what stops main then comes from elsewhere, and tells it as it is.
    pub(in crate::supervisor) fn told_by(&self, came: Option<Signal>) -> Signal {
        let came = came.unwrap_or(Signal::TERM);
        self.process.stop_signal.or_else(|| self.rewritten(came)).unwrap_or(came)
    }

    fn pass_on(&mut self, step: &mut Step<'_>, signal: Signal, sent: Signal) {
        let means_an_end = MEAN_AN_END.contains(&signal);
        if let Some(target) = self.main.target(self.process.signal_scope) {
            // Only where main may be started again does it matter what main makes of it, and asking takes time.
            let asks = sent.terminates_by_default() && self.process.restart.policy != RestartPolicy::Never;
            step.out.push(match asks {
                true => Effect::Forward { target, signal: sent, reply: None },
                false => Effect::Kill { target, signal: sent },
            });
            step.out.push(Effect::Say(Notice::SignalForwarded { received: signal, sent }));
            if sent.terminates_by_default() && !asks {
                self.forwarded(step.now, sent, false);
            }
            if means_an_end && !self.main.is_up() {
                // Main ends already, perhaps to run again: that isn't what this one wants.
                self.held_back.insert(signal, sent);
            }
        } else if means_an_end && self.is_before_main() {
            // There is nobody to pass it on to, and whoever sent it wants an end: `stop_on = ["QUIT"]` must not make a
            // container that waits for its database deaf to `docker stop`.
            self.stop(step, format!("{signal} came"), Cause::Signal(signal));
        } else if self.main.is_left() || means_an_end || !sent.terminates_by_default() {
            // A reload or a rotation is nothing to a main that reads its files and opens its logs anyway, and would be the
            // end of one that has only just been started.
            self.held_back.insert(signal, sent);
        }
    }

    /// Main runs, and gets what came for it while it couldn't be reached.
    pub(in crate::supervisor) fn pass_on_held_back(&mut self, step: &mut Step<'_>) {
        for (signal, sent) in std::mem::take(&mut self.held_back) {
            self.pass_on(step, signal, sent);
        }
    }

    /// Main is gone: who wanted an end while it couldn't be reached, or ended, doesn't want another one started.
    pub(in crate::supervisor) fn end_as_asked(&mut self, step: &mut Step<'_>) {
        if let Some(signal) = MEAN_AN_END.into_iter().find(|signal| self.held_back.contains_key(signal)) {
            self.stop(step, format!("{signal} came"), Cause::Signal(signal));
        }
    }

    /// A signal whose default is to end main was passed on.
    pub(in crate::supervisor) fn forwarded(&mut self, now: Time, signal: Signal, heeded: bool) {
        self.passed_on.insert(signal, PassedOn { at: now, heeded });
    }

    /// Whether somebody asked for this end of main's, by a signal that was passed on or from the terminal: it was a
    /// requested stop then. What ends a main that heeds the signal is an answer to it only if the signal means an end
    /// and main ended as those do that obey; everything else is a crash.
    pub(in crate::supervisor) fn requested(&self, now: Time, status: ExitStatus) -> bool {
        let by = |signal: Signal| status == ExitStatus::Killed(signal);
        let obeyed = |signal: Signal| by(signal) || status.success() || status == as_if_by(signal);
        let ended_at = self.main_ended_at.unwrap_or(now);
        let soon = |at: Time| self.config.stop.within.is_none_or(|within| ended_at.since(at) <= within);
        let passed_on = self.passed_on.iter().any(|(signal, PassedOn { at, heeded })| match heeded {
            false if by(*signal) => true,
            _ => MEAN_AN_END.contains(signal) && soon(*at) && obeyed(*signal),
        });
        passed_on || self.is_from_terminal(now, status)
    }

    /// Whether what the terminal sent explains this end of main's. A program that handles Ctrl-C ends with whatever code
    /// it likes, and in the time that a stop has; one that goes on after it, as a shell's prompt does, ends for another
    /// reason later. A signal that nobody has pressed a key for (SEGV, the kernel's KILL) is a crash at any time.
    pub(in crate::supervisor) fn is_from_terminal(&self, now: Time, status: ExitStatus) -> bool {
        let ended_at = self.main_ended_at.unwrap_or(now);
        let patience = self.process.stop_timeout.or(self.config.stop.within);
        let soon = |at: Time| patience.is_none_or(|patience| ended_at.since(at) <= patience);
        let explains = |signal: Signal| match status {
            ExitStatus::Exited(_) => MEAN_AN_END.contains(&signal) || status == as_if_by(signal),
            ExitStatus::Killed(by) => by == signal || (MEAN_AN_END.contains(&signal) && MEAN_AN_END.contains(&by)),
        };
        self.from_terminal.iter().any(|(signal, at)| soon(*at) && explains(*signal))
    }

    /// Whether no main runs, and one is to be started: there is no process yet.
    fn is_before_main(&self) -> bool {
        match self.life.stage() {
            LifeStage::Created
            | LifeStage::BeforeCatalog
            | LifeStage::Waiting
            | LifeStage::Electing { .. }
            | LifeStage::WaitingInRole
            | LifeStage::Preparing { .. }
            | LifeStage::PreStart { .. }
            | LifeStage::Prepared => true,
            LifeStage::Running { start_at } => start_at.is_some() || self.main.is_being_read_for(),
            LifeStage::Stopping(_) | LifeStage::Ended => false,
        }
    }
}
