//! The container's end: its exit code and why, and what is left behind.

use crate::config::{Backend, Signal};
use crate::exit_codes;
use crate::supervisor::Supervisor;
use crate::supervisor::machines::entry::Entry;
use crate::supervisor::sequence::stopping::Cause;
use crate::supervisor::vocabulary::{Effect, ExitStatus, Notice, Step};

impl Supervisor {
    pub(super) fn exit(&mut self, step: &mut Step<'_>) {
        let Some(stopping) = self.life.end() else { return };
        if !self.main.is_gone() {
            self.main.kill(step);
        }
        // What main left may have, and its own end is known all the same; unless one of those is to be main.
        let outlived = !self.main.is_gone() && (!self.main.is_left() || self.main.is_following());
        self.commands.kill_all(step.out);
        let status = self.main_status.last_exit.filter(|_| stopping.code.is_none() && !outlived);
        let code = match (stopping.code, status) {
            (Some(code), _) => code,
            (None, Some(status)) if matches!(stopping.cause, Cause::Unhealthy) => self.failure_code(status),
            (None, Some(status)) => self.exit_code(status),
            // Main outlived every deadline, and the kernel's SIGKILL is the last thing that happens to it.
            (None, None) => self.exit_code(ExitStatus::Killed(Signal::KILL)),
        };
        let reason = match status {
            Some(_) if !stopping.reason.starts_with("main ") => format!("{}; {}", stopping.reason, self.main_why),
            _ => stopping.reason,
        };
        if let Some(signal) = self.process.manner.last_word.and_then(|signal| self.rewritten(signal)) {
            step.out.push(Effect::EndGroup { signal });
        }
        step.out.extend(self.entries.iter().chain(&self.leaving).filter_map(Entry::left_behind).map(Effect::Say));
        // The kernel gives back the lock of a local one.
        if let Some(leadership) = self.leadership.as_ref().filter(|leadership| !leadership.is_over())
            && let Backend::Consul(_) | Backend::Etcd(_) = self.config.catalog.backend
        {
            step.out.push(Effect::Say(leadership.left_behind()));
        }
        if !self.process.manner.silent {
            let asked = matches!(
                stopping.cause,
                Cause::Signal(_) | Cause::Control | Cause::Terminal | Cause::MainEnded { asked: true }
            );
            step.out.push(Effect::Say(Notice::Ended { code, reason: reason.clone(), asked }));
        }
        step.out.push(Effect::Exit { code, reason });
    }

    /// The container's code for main's end, as `exit_codes` has it.
    pub(super) fn exit_code(&self, status: ExitStatus) -> u8 {
        let code = status.code();
        self.process.exit_codes.get(&code).copied().unwrap_or(code)
    }

    /// The same, but never 0: a main that obeys its stop signal with 0 doesn't make an unhealthy container a healthy one.
    pub(in crate::supervisor) fn failure_code(&self, status: ExitStatus) -> u8 {
        match self.exit_code(status) {
            0 => exit_codes::FAILED,
            code => code,
        }
    }
}
