//! Commands that run beside main (hooks, exec checks, template checks): who they run for and until when. Past its
//! timeout a command's process group gets SIGTERM, then SIGKILL.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{Hook, Signal, When};

use super::event::{Effect, ExitStatus, Job, RunId, SpawnError, Target};
use super::notice::Notice;
use super::time::{Time, earliest};

/// Between SIGTERM and SIGKILL of a command past its timeout: long enough to clean up, too short to hold a stop.
pub const KILL_AFTER: Duration = Duration::from_secs(2);

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
    /// The exit code it stands for; a timeout is 124, as with timeout(1).
    pub fn code(&self) -> u8 {
        match self {
            Outcome::Ended(status) => status.code(),
            Outcome::TimedOut(_) => 124,
            Outcome::Cancelled => 143,
            Outcome::NotStarted(error) => error.code,
        }
    }

    /// Whether it ended with code 0, or what went wrong.
    pub fn result(&self) -> Result<(), String> {
        match self {
            Outcome::Ended(status) if status.success() => Ok(()),
            Outcome::Ended(status) => Err(status.to_string()),
            Outcome::TimedOut(timeout) => Err(format!("no end within {}", humantime::format_duration(*timeout))),
            Outcome::Cancelled => Err("was cut short".to_owned()),
            Outcome::NotStarted(error) => Err(error.message.clone()),
        }
    }
}

/// A command to run: what, as whom, for how long, with what.
#[derive(Debug)]
pub struct Order {
    /// What it is for.
    pub job: Job,
    /// The command, its timeout, and the role that it runs for.
    pub hook: Hook,
    /// `PILOTFISH_*` variables.
    pub env: Vec<(String, String)>,
    /// What it reads.
    pub stdin: Option<String>,
}

/// Every command that runs now.
#[derive(Debug, Default)]
pub struct Commands {
    live: BTreeMap<RunId, Command>,
}

#[derive(Debug)]
struct Command {
    job: Job,
    role: When,
    started: Time,
    timeout: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Running {
        until: Time,
    },
    Told {
        kill_at: Time,
        why: Why,
    },
    Killed {
        why: Why,
    },
    /// Its process is reaped; what it forked lives on, and gets SIGKILL at this time too.
    Reaped {
        kill_at: Time,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Why {
    Timeout,
    Cancelled,
}

impl Commands {
    /// Starts a command; its outcome comes from [`exited`](Self::exited) or [`not_started`](Self::not_started).
    pub fn start(&mut self, now: Time, run: RunId, order: Order, out: &mut Vec<Effect>) {
        let Order { job, hook, env, stdin } = order;
        if job.is_hook() {
            out.push(Effect::Say(Notice::HookStarted { hook: job.to_string() }));
        }
        let state = State::Running { until: now + hook.timeout };
        self.live
            .insert(run, Command { job: job.clone(), role: hook.when, started: now, timeout: hook.timeout, state });
        out.push(Effect::Spawn { run, job, exec: hook.exec, user: hook.user, env, stdin });
    }

    /// The command's process is reaped.
    pub fn exited(
        &mut self,
        now: Time,
        run: RunId,
        status: ExitStatus,
        out: &mut Vec<Effect>,
    ) -> Option<(Job, Outcome)> {
        let command = self.live.remove(&run)?;
        let outcome = match command.state {
            State::Reaped { .. } => return None,
            State::Running { .. } => Outcome::Ended(status),
            State::Told { why, .. } | State::Killed { why } => match why {
                Why::Timeout => Outcome::TimedOut(command.timeout),
                Why::Cancelled => Outcome::Cancelled,
            },
        };
        if let State::Told { kill_at, .. } = command.state {
            let reaped = Command { state: State::Reaped { kill_at }, job: command.job.clone(), ..command };
            self.live.insert(run, reaped);
        }
        report(&command.job, &outcome, now.since(command.started), out);
        Some((command.job, outcome))
    }

    /// Nothing is left of what a command forked.
    pub fn group_ended(&mut self, run: RunId) {
        if let Some(Command { state: State::Reaped { .. }, .. }) = self.live.get(&run) {
            self.live.remove(&run);
        }
    }

    /// The command couldn't be started.
    pub fn not_started(&mut self, run: RunId, error: SpawnError, out: &mut Vec<Effect>) -> Option<(Job, Outcome)> {
        let command = self.live.remove(&run)?;
        let outcome = Outcome::NotStarted(error);
        report(&command.job, &outcome, Duration::ZERO, out);
        Some((command.job, outcome))
    }

    /// Tells a command to end, since its result is no longer wanted.
    pub fn cancel(&mut self, now: Time, run: RunId, out: &mut Vec<Effect>) {
        if let Some(command) = self.live.get_mut(&run)
            && let State::Running { .. } = command.state
        {
            if command.job.is_hook() {
                out.push(Effect::Say(Notice::HookSkipped { hook: command.job.to_string() }));
            }
            command.state = State::Told { kill_at: now + KILL_AFTER, why: Why::Cancelled };
            out.push(Effect::Kill { target: Target::Group(run), signal: Signal::TERM });
        }
    }

    /// Tells what runs for this role only to end: the role is gone.
    pub fn leave(&mut self, now: Time, role: When, out: &mut Vec<Effect>) {
        let of_role: Vec<RunId> =
            self.live.iter().filter(|(_, command)| command.role == role).map(|(run, _)| *run).collect();
        for run in of_role {
            self.cancel(now, run, out);
        }
    }

    /// Whether anything acts for this role only, be it what a command left behind.
    pub fn act_for(&self, role: When) -> bool {
        self.live.values().any(|command| command.role == role)
    }

    /// Whether anything of this job is left, be it what a command left behind.
    pub fn any(&self, job: &Job) -> bool {
        self.live.values().any(|command| command.job == *job)
    }

    /// Kills whatever runs now; each end is still waited for.
    pub fn kill(&mut self, out: &mut Vec<Effect>) {
        self.live.retain(|run, command| {
            let left = matches!(command.state, State::Reaped { .. });
            if !matches!(command.state, State::Killed { .. }) {
                command.state = State::Killed { why: Why::Cancelled };
                out.push(Effect::Kill { target: Target::Group(*run), signal: Signal::KILL });
            }
            !left
        });
    }

    /// Kills whatever still runs: the container ends.
    pub fn kill_all(&mut self, out: &mut Vec<Effect>) {
        for (run, _) in std::mem::take(&mut self.live) {
            out.push(Effect::Kill { target: Target::Group(run), signal: Signal::KILL });
        }
    }

    /// Whether a run is one of these and still wanted.
    pub fn runs(&self, run: RunId) -> bool {
        self.live.get(&run).is_some_and(|command| !matches!(command.state, State::Reaped { .. }))
    }

    /// Acts on the timeouts that have passed.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.live.retain(|run, command| {
            match command.state {
                State::Running { until } if until <= now => {
                    if command.job.is_hook() {
                        let (hook, timeout) = (command.job.to_string(), command.timeout);
                        out.push(Effect::Say(Notice::HookTimedOut { hook, timeout }));
                    }
                    command.state = State::Told { kill_at: now + KILL_AFTER, why: Why::Timeout };
                    out.push(Effect::Kill { target: Target::Group(*run), signal: Signal::TERM });
                }
                State::Told { kill_at, why } if kill_at <= now => {
                    command.state = State::Killed { why };
                    out.push(Effect::Kill { target: Target::Group(*run), signal: Signal::KILL });
                }
                State::Reaped { kill_at } if kill_at <= now => {
                    out.push(Effect::Kill { target: Target::Group(*run), signal: Signal::KILL });
                    return false;
                }
                State::Running { .. } | State::Told { .. } | State::Killed { .. } | State::Reaped { .. } => {}
            }
            true
        });
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn deadline(&self) -> Option<Time> {
        let due = |command: &Command| match command.state {
            State::Running { until } => Some(until),
            State::Told { kill_at, .. } | State::Reaped { kill_at } => Some(kill_at),
            State::Killed { .. } => None,
        };
        self.live.values().map(due).fold(None, earliest)
    }
}

/// Hooks are reported here, once for all of them; checks speak for themselves.
fn report(job: &Job, outcome: &Outcome, took: Duration, out: &mut Vec<Effect>) {
    if !job.is_hook() {
        return;
    }
    let hook = job.to_string();
    match outcome {
        Outcome::TimedOut(_) | Outcome::Cancelled => {}
        Outcome::Ended(_) | Outcome::NotStarted(_) => out.push(Effect::Say(match outcome.result() {
            Ok(()) => Notice::HookSucceeded { hook, took },
            Err(error) => Notice::HookFailed { hook, error },
        })),
    }
}
