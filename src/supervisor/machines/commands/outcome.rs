//! What came of a command, and what the log says of it.

use std::time::Duration;

use crate::config::Signal;
use crate::exit_codes;
use crate::supervisor::vocabulary::{Effect, ExitStatus, Job, Notice, SpawnError};

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ended by itself.
    Ended(ExitStatus),
    /// It ran past its timeout.
    TimedOut(Duration),
    /// It was ended because its result is no longer wanted.
    Cancelled,
    /// It never ran.
    NotStarted(SpawnError),
}

impl Outcome {
    /// The exit code it stands for.
    pub fn code(&self) -> u8 {
        match self {
            Outcome::Ended(status) => status.code(),
            Outcome::TimedOut(_) => exit_codes::TOO_LATE,
            Outcome::Cancelled => exit_codes::of_signal(Signal::TERM.number()),
            Outcome::NotStarted(error) => error.code,
        }
    }

    /// Whether it ended with code 0, or what went wrong.
    pub fn result(&self) -> Result<(), String> {
        match self {
            Outcome::Ended(status) if status.success() => Ok(()),
            Outcome::Ended(status) => Err(status.to_string()),
            Outcome::TimedOut(timeout) => Err(format!("timed out after {}", humantime::format_duration(*timeout))),
            Outcome::Cancelled => Err("was cut short".to_owned()),
            Outcome::NotStarted(error) => Err(error.message.clone()),
        }
    }
}

/// Hooks are reported here, once for all of them; checks speak for themselves.
pub(super) fn report(job: &Job, outcome: &Outcome, took: Duration, out: &mut Vec<Effect>) {
    if !job.is_told_of() {
        return;
    }
    let hook = job.clone();
    match outcome {
        Outcome::TimedOut(_) | Outcome::Cancelled => {}
        Outcome::Ended(_) | Outcome::NotStarted(_) => out.push(Effect::Say(match outcome.result() {
            Ok(()) => Notice::HookSucceeded { hook, took },
            Err(error) => Notice::HookFailed { hook, error },
        })),
    }
}
