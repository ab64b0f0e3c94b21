//! Commands that run beside main (hooks, exec checks, template checks, coprocesses): who they run for and until when. Past its
//! timeout all of a command gets SIGTERM, then SIGKILL, and so does what one that has ended left behind, unless that is
//! to be kept.
//!
//! Here is what there is of them, and what becomes of it by itself; [`ending`] is how they are ended, [`outcome`] what came
//! of one.

mod ending;
mod outcome;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Background, Coprocess, Hook, Leftovers, Signal, SignalScope, When};

use self::outcome::report;
use super::main::{LAUNCHED_WITHIN, UNENDED};
use crate::supervisor::vocabulary::{
    Announcement, Effect, ExitStatus, Job, Notice, Pid, RunId, SpawnError, Step, Target, Time, earliest,
};

pub use self::outcome::Outcome;

/// Between SIGTERM and SIGKILL of a command past its timeout: long enough to clean up, too short to hold a stop.
pub const KILL_AFTER: Duration = Duration::from_secs(2);

/// What a command left behind has this long to end by itself, as what wrote its last lines to a `tee` does.
const LINGER: Duration = Duration::from_millis(100);
/// How long SIGKILL may take to show before a command counts as one that can't be ended (another user's without
/// CAP_KILL, or stuck in the kernel).
const KILL_SHOWS_WITHIN: Duration = Duration::from_secs(1);
/// What forks faster than one round of SIGKILL finds it gets another.
const KILL_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// What is told to end when hardly any time is left has at least this before SIGKILL.
pub const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// A command to run: what, as whom, for how long, with what.
#[derive(Debug)]
pub struct Launch {
    /// What it is for.
    pub job: Job,
    /// The command, its timeout, and the role that it runs for.
    pub hook: Hook,
    /// `PILOTFISH_*` variables.
    pub env: Vec<(String, String)>,
    /// What it reads.
    pub stdin: Option<Announcement>,
}

/// Every command of which something is there now.
#[derive(Debug, Default)]
pub struct Commands {
    live: BTreeMap<RunId, LiveRun>,
    /// The container stops: what holds main's stop has a part of the time that is left until then, when main is told.
    hurry: Option<Time>,
}

#[derive(Debug)]
struct LiveRun {
    job: Job,
    role: When,
    started: Time,
    timeout: Duration,
    leftovers: Leftovers,
    /// Whose that is which may stay.
    keeps_for: KeptFor,
    /// A coprocess's; all of anything else is told at once.
    stop: Option<StopOrder>,
    /// When what its launcher left was followed first.
    followed: Option<Time>,
    /// It has named one in its place, who is followed however it ends; without that nobody was launched.
    names: bool,
    state: RunState,
}

/// For how long what a command was allowed to leave stays, unless the container ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptFor {
    /// As long as the container.
    Container,
    /// As long as the role that the command ran for.
    Role,
    /// As long as the role, and until main has ended with it: main works with it.
    RoleAndMain,
}

/// How a coprocess's own process is told to stop, before what it leaves is.
#[derive(Debug, Clone, Copy)]
struct StopOrder {
    signal: Signal,
    scope: SignalScope,
    timeout: Option<Duration>,
}

/// What there is of a job's runs, and of what they left behind that is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Nothing.
    Clear,
    /// Something runs, or is being ended.
    Busy,
    /// There is only what can't be ended, and is waited for no longer.
    Stuck,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum RunState {
    Running {
        /// `None` is for ever.
        until: Option<Time>,
    },
    /// Its process is reaped; what is left of it comes next.
    Ended {
        /// It may stay.
        keep: bool,
    },
    /// Its process is reaped, and what it left is told to end then.
    Lingering { until: Time },
    /// SIGTERM was sent, or, from `killed` on, SIGKILL, again and again.
    Ending { why: EndReason, reaped: bool, kill_at: Time, killed: Option<Time> },
    /// Its process is reaped, and what it left lives on as it may.
    Kept,
    /// SIGKILL doesn't end it.
    Stuck { reaped: bool },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum EndReason {
    Timeout,
    Cancelled,
}

/// What [`Commands::tick`] has come to.
#[derive(Debug, PartialEq)]
pub struct GivenUp {
    /// A run that SIGKILL doesn't end.
    pub run: RunId,
    /// What it was for.
    pub job: Job,
    /// What came of it, when its process is what doesn't end.
    pub outcome: Option<Outcome>,
}

impl Commands {
    /// Starts a command; its outcome comes from [`exited`](Self::exited) or [`not_started`](Self::not_started).
    pub fn start(&mut self, step: &mut Step<'_>, run: RunId, order: Launch) {
        self.start_keeping(step, run, order, KeptFor::Role);
    }

    /// Starts one that may leave something for so long, if its hook says so.
    pub fn start_keeping(&mut self, step: &mut Step<'_>, run: RunId, order: Launch, keeps_for: KeptFor) {
        let Launch { job, hook, env, stdin } = order;
        if job.is_told_of() {
            step.out.push(Effect::Say(Notice::HookStarted { hook: job.clone() }));
        }
        let state = RunState::Running { until: Some(step.now + hook.timeout) };
        let Hook { when: role, timeout, leftovers, .. } = hook;
        let (job_too, started) = (job.clone(), step.now);
        let (stop, followed, names) = (None, None, false);
        let live = LiveRun { job: job_too, role, started, timeout, leftovers, keeps_for, stop, followed, names, state };
        self.live.insert(run, live);
        let role = match (leftovers, keeps_for) {
            // What it keeps is the container's from then on, whoever leads.
            (Leftovers::Keep, KeptFor::Container) => When::Always,
            _ => role,
        };
        step.out.push(Effect::Spawn { run, job, role, exec: hook.exec, run_as: hook.run_as, env, stdin });
    }

    /// Starts a coprocess for a role: it has no timeout, and its own process is told first when it is to end.
    pub fn start_coprocess(
        &mut self,
        step: &mut Step<'_>,
        run: RunId,
        coprocess: &Arc<Coprocess>,
        role: When,
        env: Vec<(String, String)>,
    ) {
        let Coprocess { stop_signal: signal, signal_scope: scope, stop_timeout: timeout, .. } = **coprocess;
        let live = LiveRun {
            job: Job::Coprocess { name: coprocess.name.clone() },
            role,
            started: step.now,
            timeout: Duration::MAX,
            leftovers: match coprocess.background {
                Background::Kill => Leftovers::End,
                Background::Follow => Leftovers::Keep,
            },
            keeps_for: KeptFor::Role,
            stop: Some(StopOrder { signal, scope, timeout }),
            followed: None,
            names: false,
            state: RunState::Running { until: None },
        };
        self.live.insert(run, live);
        step.out.push(Effect::SpawnCoprocess { run, coprocess: coprocess.clone(), env });
    }

    /// Whether what a run's process left behind is there, and may stay.
    pub fn is_kept(&self, run: RunId) -> bool {
        self.live.get(&run).is_some_and(|command| command.state == RunState::Kept)
    }

    /// Whether a run's process has ended, and what it left may stay, if it left anything.
    pub fn may_go_on(&self, run: RunId) -> bool {
        self.live.get(&run).is_some_and(|command| command.state == RunState::Ended { keep: true })
    }

    /// Whether of what such a run left only who it named is to be followed: it was no launcher that ended.
    pub fn follows_only_the_named(&self, run: RunId) -> bool {
        self.live.get(&run).is_some_and(|command| command.names)
    }

    /// A coprocess has named itself, or `another` in its place; whether that one is to be followed at once, for this one
    /// launches nobody.
    pub fn names(&mut self, run: RunId, another: bool) -> bool {
        match self.live.get_mut(&run) {
            Some(command) if command.leftovers == Leftovers::Keep => {
                command.names = another;
                another && command.followed.is_some() && matches!(command.state, RunState::Running { .. })
            }
            Some(_) | None => false,
        }
    }

    /// Whether something of a run is there.
    pub fn has(&self, run: RunId) -> bool {
        self.live.contains_key(&run)
    }

    /// The command's process is reaped.
    pub fn exited(&mut self, step: &mut Step<'_>, run: RunId, status: ExitStatus) -> Option<(Job, Outcome)> {
        let command = self.live.get_mut(&run)?;
        let outcome = match &mut command.state {
            RunState::Running { .. } => {
                // What a command that failed has begun isn't anything to build on; and a daemon is where it will be soon.
                let launched = command.followed.is_none_or(|at| step.now.since(at) <= LAUNCHED_WITHIN);
                let launched = status.success() && launched;
                let keep = command.leftovers == Leftovers::Keep && (launched || command.names);
                command.names &= !launched;
                command.state = RunState::Ended { keep };
                Outcome::Ended(status)
            }
            RunState::Ending { why, reaped: reaped @ false, .. } => {
                *reaped = true;
                why.outcome(command.timeout)
            }
            // Its outcome was told when it was given up.
            RunState::Stuck { reaped } => {
                *reaped = true;
                return None;
            }
            // The last of those of whom one was to be followed.
            RunState::Kept => {
                command.state = RunState::Ended { keep: false };
                Outcome::Ended(status)
            }
            RunState::Ending { .. } | RunState::Ended { .. } | RunState::Lingering { .. } => return None,
        };
        report(&command.job, &outcome, step.now.since(command.started), step.out);
        Some((command.job.clone(), outcome))
    }

    /// What a command whose process is reaped left behind. What it was for, once nothing is left of it, or only what may
    /// stay.
    pub fn left(&mut self, step: &mut Step<'_>, run: RunId, any: bool) -> Option<Job> {
        if !any {
            return self.live.remove(&run).map(|command| command.job);
        }
        let command = self.live.get_mut(&run)?;
        match command.state {
            RunState::Ended { keep: true } => {
                command.state = RunState::Kept;
                if command.keeps_for == KeptFor::Container {
                    command.role = When::Always;
                }
                return Some(command.job.clone());
            }
            RunState::Ended { keep: false } => command.state = RunState::Lingering { until: step.now + LINGER },
            // Only its process was told yet.
            RunState::Ending { killed: None, .. } if command.stop.is_some() => {
                step.out.extend(Effect::ask_to_end(Target::All(run), Signal::TERM));
            }
            RunState::Running { .. }
            | RunState::Lingering { .. }
            | RunState::Ending { .. }
            | RunState::Kept
            | RunState::Stuck { .. } => {}
        }
        None
    }

    /// One of those that a launcher left is the run's process now; `None`: it can't be found, and all of them end. `false`
    /// when none is to be followed any more.
    pub fn followed(&mut self, step: &mut Step<'_>, run: RunId, pid: Option<Pid>) -> bool {
        let patience = self.patience(step.now);
        let Some(command) = self.live.get_mut(&run) else { return false };
        match (command.state, pid) {
            (RunState::Kept | RunState::Running { .. }, Some(_)) => {
                command.followed.get_or_insert(step.now);
                command.names = false;
                command.state = RunState::Running { until: None };
            }
            (RunState::Kept, None) => {
                let why = if command.names { "who it named isn't there" } else { "/proc doesn't show it" };
                let what = format!("what {} left can't be followed, for {why}: it is ended", command.job);
                step.out.push(Effect::Say(Notice::Degraded { what }));
                command.tell(run, step.now + patience, EndReason::Cancelled, step.out);
            }
            _ => return false,
        }
        true
    }

    /// The command couldn't be started.
    pub fn not_started(&mut self, run: RunId, error: SpawnError, out: &mut Vec<Effect>) -> Option<(Job, Outcome)> {
        let command = self.live.remove(&run)?;
        let outcome = match command.state {
            RunState::Ending { why, .. } => why.outcome(command.timeout),
            // Its outcome was told when it was given up.
            RunState::Stuck { .. } => return None,
            _ => Outcome::NotStarted(error),
        };
        report(&command.job, &outcome, Duration::ZERO, out);
        Some((command.job, outcome))
    }

    /// Whether anything acts for this role only, be it what a command left behind.
    pub fn act_for(&self, role: When) -> bool {
        let acts = |command: &LiveRun| command.state != RunState::Kept || command.stop.is_some();
        self.live.values().any(|command| command.role == role && acts(command))
    }

    /// Whether a run acts for this role only.
    pub fn acts_for(&self, run: RunId, role: When) -> bool {
        self.live.get(&run).is_some_and(|command| command.role == role)
    }

    /// Whether a run of this job is there, or something of one that is to go. What was the container's and can't be ended
    /// holds nobody up.
    pub fn any(&self, job: &Job) -> bool {
        self.live.values().any(|command| {
            let goes = match command.state {
                RunState::Kept => false,
                RunState::Stuck { .. } => command.role != When::Always,
                _ => true,
            };
            command.job.is_like(job) && goes
        })
    }

    /// Whether something acts for this role only that SIGKILL doesn't end.
    pub fn is_stuck(&self, role: When) -> bool {
        self.live.values().any(|command| command.role == role && matches!(command.state, RunState::Stuck { .. }))
    }

    /// What there is of this job's runs.
    pub fn of_job(&self, job: &Job) -> JobState {
        let mut state = JobState::Clear;
        for command in self.live.values().filter(|command| command.job.is_like(job)) {
            match command.state {
                RunState::Kept => {}
                RunState::Stuck { .. } => state = JobState::Stuck,
                // One that can't be ended hides none that is waited for.
                _ => return JobState::Busy,
            }
        }
        state
    }

    /// Whether nothing is left, or nothing that can be ended.
    pub fn is_over(&self) -> bool {
        self.live.values().all(|command| matches!(command.state, RunState::Stuck { .. }))
    }

    /// Whether a run is one of these and its process still wanted.
    pub fn runs(&self, run: RunId) -> bool {
        self.live.get(&run).is_some_and(|command| {
            matches!(command.state, RunState::Running { .. } | RunState::Ending { reaped: false, .. })
        })
    }

    /// Acts on the times that have passed; what can't be ended is waited for no longer.
    pub fn tick(&mut self, step: &mut Step<'_>) -> Vec<GivenUp> {
        let patience = self.patience(step.now);
        let mut given_up = Vec::new();
        for (run, command) in &mut self.live {
            match &mut command.state {
                RunState::Running { until: Some(until) } if *until <= step.now => {
                    if command.job.is_told_of() {
                        let (hook, timeout) = (command.job.clone(), command.timeout);
                        step.out.push(Effect::Say(Notice::HookTimedOut { hook, timeout }));
                    }
                    command.tell(*run, step.now + patience, EndReason::Timeout, step.out);
                }
                RunState::Ending { why, reaped, kill_at, killed } if *kill_at <= step.now => {
                    if step.now.since(*killed.get_or_insert(step.now)) < KILL_SHOWS_WITHIN {
                        *kill_at = step.now + KILL_AGAIN_AFTER;
                        step.out.push(Effect::Kill { target: Target::All(*run), signal: Signal::KILL });
                        continue;
                    }
                    let (why, reaped) = (*why, *reaped);
                    let what = if reaped { "what it left behind" } else { "it" };
                    let what = format!("{}: SIGKILL doesn't end {what} {UNENDED}", command.job);
                    step.out.push(Effect::Say(Notice::Degraded { what }));
                    command.state = RunState::Stuck { reaped };
                    let outcome = (!reaped).then(|| why.outcome(command.timeout));
                    given_up.push(GivenUp { run: *run, job: command.job.clone(), outcome });
                }
                RunState::Lingering { until } if *until <= step.now => {
                    command.tell(*run, step.now + patience, EndReason::Cancelled, step.out);
                }
                RunState::Running { .. }
                | RunState::Lingering { .. }
                | RunState::Ending { .. }
                | RunState::Ended { .. }
                | RunState::Kept
                | RunState::Stuck { .. } => {}
            }
        }
        given_up
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn deadline(&self) -> Option<Time> {
        let due = |command: &LiveRun| match command.state {
            RunState::Running { until } => until,
            RunState::Lingering { until } => Some(until),
            RunState::Ending { kill_at, .. } => Some(kill_at),
            RunState::Ended { .. } | RunState::Kept | RunState::Stuck { .. } => None,
        };
        self.live.values().map(due).fold(None, earliest)
    }
}

impl LiveRun {
    fn tell(&mut self, run: RunId, kill_at: Time, why: EndReason, out: &mut Vec<Effect>) {
        let reaped = !matches!(self.state, RunState::Running { .. });
        self.state = RunState::Ending { why, reaped, kill_at, killed: None };
        match (self.stop, &self.job) {
            (Some(StopOrder { signal, scope, .. }), Job::Coprocess { name }) if !reaped => {
                out.push(Effect::Say(Notice::CoprocessTold { name: name.clone(), signal }));
                let target = match scope {
                    SignalScope::Process => Target::Process(run),
                    SignalScope::Group => Target::Group(run),
                };
                out.extend(Effect::ask_to_end(target, signal));
            }
            (Some(_) | None, _) => out.extend(Effect::ask_to_end(Target::All(run), Signal::TERM)),
        }
    }
}

impl EndReason {
    fn outcome(self, timeout: Duration) -> Outcome {
        match self {
            EndReason::Timeout => Outcome::TimedOut(timeout),
            EndReason::Cancelled => Outcome::Cancelled,
        }
    }
}
