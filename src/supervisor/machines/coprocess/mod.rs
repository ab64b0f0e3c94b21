//! One coprocess: whether it is to run, runs, is being ended, or has ended for good; [`readiness`] says whether it is
//! ready, [`ends`] what follows when it ends, [`following`] which process it is, [`orders`] who wants it restarted. Its
//! processes are among [`Commands`](crate::supervisor::machines::commands::Commands), as those of hooks are; this says
//! what comes next, and starts nothing itself.

mod ends;
mod following;
mod orders;
mod readiness;

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Coprocess as Config, RestartPolicy, SignalScope, When};

use self::orders::RestartOrder;
use self::readiness::{ASK_AGAIN_AFTER, Readiness};
use super::commands::Outcome;
use super::jitter::Jitter;
use super::reported::Reported;
use super::restarts::{self, Restarts};
use crate::supervisor::vocabulary::{
    Answer, CoprocessStatus, Effect, ExitStatus, Notice, Pid, ProcessId, RunId, Step, Target, Time, earliest,
};

/// Past this such a question has no answer. What is ready answers in milliseconds.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A process supervised beside main.
#[derive(Debug)]
pub struct Coprocess {
    config: Arc<Config>,
    stage: Stage,
    restarts: Restarts,
    readiness: Readiness,
    /// What it has said of itself since it was started last.
    reported: Reported,
    /// Who it is, as it said since then.
    announced_pid: Option<ProcessId>,
    /// By then one of those that its launcher left is followed, or can't be.
    followed_by: Option<Time>,
    /// When it was said last who it is from now on.
    followed_said: Option<Time>,
    /// What is known since it was to run.
    life: CoprocessLife,
    /// For which role it was started, or its `pre_start` was: a reload may have given it another since.
    begun_for: When,
    order: Option<RestartOrder>,
    /// A reload took it out of the config.
    removed: bool,
    started: u64,
    last_exit: Option<ExitStatus>,
}

/// What is known of a coprocess from when it is first to run until it is to run no longer.
#[derive(Debug, Default)]
struct CoprocessLife {
    /// Its place in the order of first starts, once something of it has run; its `post_stop` is due then.
    place: Option<u64>,
    /// Its `pre_start` has succeeded.
    prepared: bool,
    /// It isn't started again.
    ended: Option<EndedForGood>,
    /// What follows from that has been seen to.
    judged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing of it is there.
    Idle,
    /// `pre_start` runs, and may have been told to end.
    Preparing { run: RunId, told: bool },
    /// It starts then, if it is still to run.
    Due { at: Time },
    /// Ordered, not answered.
    Starting { run: RunId, since: Time },
    /// It runs; `None`: what its launcher left behind does, and one of those is yet to be followed.
    Running { run: RunId, since: Time, pid: Option<Pid> },
    /// Its launcher has ended by itself, and what it left, which may be it from now on, is looked at.
    Launched { run: RunId, since: Time },
    /// It was told to stop, or what its process left is being ended.
    Ending { run: RunId, since: Time, why: EndCause },
    /// It has ended, and doesn't start again. `post_stop` is next, where there is one.
    Over,
    /// `post_stop` runs.
    Finishing,
}

/// Why it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndCause {
    /// By itself.
    Itself,
    /// It couldn't be started; whether it may be a moment later.
    NotStarted { hope: bool, code: u8 },
    /// To be started again.
    Restart,
    /// It is to run no longer.
    Unwanted,
}

/// How a coprocess ended for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedForGood {
    /// The code it stands for.
    pub code: u8,
    /// Why, for people.
    pub why: String,
    /// Nothing else was wanted of it.
    pub as_wanted: bool,
}

/// What comes next for a coprocess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Its `pre_start` runs.
    Prepare,
    /// It starts.
    Start,
    /// This run of its `pre_start` is cut short.
    Cancel(RunId),
    /// This run is told to stop.
    Stop(RunId),
    /// Its `post_stop` runs, if it has one and something of it has run.
    Finish,
}

impl Coprocess {
    /// One that has yet to run.
    pub fn new(config: Arc<Config>) -> Coprocess {
        Coprocess {
            begun_for: config.when,
            config,
            stage: Stage::Idle,
            restarts: Restarts::default(),
            readiness: Readiness::default(),
            reported: Reported::default(),
            announced_pid: None,
            followed_by: None,
            followed_said: None,
            life: CoprocessLife::default(),
            order: None,
            removed: false,
            started: 0,
            last_exit: None,
        }
    }

    /// As configured.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Another config for the same name: it counts from its next start on. One that was given up starts again with it,
    /// and so does one that ended as the old one wanted, but the new one doesn't.
    pub fn reconfigure(&mut self, config: Arc<Config>) {
        let wanted = |status| restarts::wanted(config.restart.policy, status);
        let is_over = |ended: &EndedForGood| ended.as_wanted && !self.last_exit.is_some_and(wanted);
        if *self.config != *config && self.life.ended.as_ref().is_some_and(|ended| !is_over(ended)) {
            // Its `post_stop` may be due still.
            self.life = CoprocessLife { place: self.life.place, ..CoprocessLife::default() };
            self.readiness.forget();
            self.restarts = Restarts::default();
        }
        self.config = config;
        self.removed = false;
        self.readiness.waits_otherwise(self.config.ready.as_ref(), self.reported.ready);
    }

    /// It is in the config no more.
    pub fn is_configured_no_more(&mut self) {
        self.removed = true;
    }

    /// Whether it is in the config.
    pub fn is_configured(&self) -> bool {
        !self.removed
    }

    /// Whether what there is of it runs for another role than it is configured for: it is bound to that one until it has
    /// ended.
    pub fn is_of_another_role(&self) -> bool {
        !self.is_gone() && self.begun_for != self.config.when
    }

    /// Whether anything of it is there, or is to come, that is bound to this role.
    pub fn is_left_of(&self, role: When) -> bool {
        !self.is_gone() && (self.begun_for == role || self.config.when == role)
    }

    /// In how many parts it is yet to end, for those who divide the time.
    pub fn parts_left(&self) -> u32 {
        let last = u32::from(self.config.post_stop.is_some());
        match self.stage {
            Stage::Idle => 0,
            Stage::Due { .. } | Stage::Over | Stage::Finishing => last.max(1),
            Stage::Preparing { .. }
            | Stage::Starting { .. }
            | Stage::Running { .. }
            | Stage::Launched { .. }
            | Stage::Ending { .. } => 1 + last,
        }
    }

    /// What comes next, if anything does.
    pub fn next(&self, now: Time, wanted: bool, may_start: bool) -> Option<NextStep> {
        let wanted = wanted && self.order_due().is_none_or(|at| at > now);
        let begin = match self.config.pre_start {
            Some(_) if !self.life.prepared => NextStep::Prepare,
            Some(_) | None => NextStep::Start,
        };
        match self.stage {
            Stage::Idle if wanted && may_start && self.life.ended.is_none() => Some(begin),
            Stage::Due { at } if wanted => (at <= now).then_some(begin),
            Stage::Due { .. } | Stage::Over => Some(NextStep::Finish),
            Stage::Preparing { run, told: false } if !wanted => Some(NextStep::Cancel(run)),
            Stage::Starting { run, .. } | Stage::Running { run, .. } if !wanted => Some(NextStep::Stop(run)),
            Stage::Idle
            | Stage::Preparing { .. }
            | Stage::Starting { .. }
            | Stage::Running { .. }
            | Stage::Launched { .. }
            | Stage::Ending { .. }
            | Stage::Finishing => None,
        }
    }

    /// It is to run no longer and nothing of it is there: when it is to run again, it is as if for the first time.
    pub fn forget(&mut self) {
        if self.stage == Stage::Idle {
            self.life = CoprocessLife::default();
            self.readiness.forget();
            self.restarts = Restarts::default();
        }
    }

    /// Who gets a signal that somebody sends it.
    pub fn target(&self) -> Option<Target> {
        match (self.stage, self.config.signal_scope) {
            // Nobody of what was left behind is more it than others are.
            (Stage::Running { run, pid: None, .. }, _) => Some(Target::All(run)),
            (Stage::Running { run, .. }, SignalScope::Process) => Some(Target::Process(run)),
            (Stage::Running { run, .. }, SignalScope::Group) => Some(Target::Group(run)),
            _ => None,
        }
    }

    /// Its `pre_start` was ordered.
    pub fn prepares(&mut self, run: RunId, place: u64) {
        self.life.place.get_or_insert(place);
        self.begun_for = self.config.when;
        self.stage = Stage::Preparing { run, told: false };
    }

    /// What its last `pre_start` left is being ended: it starts a little later.
    pub fn waits(&mut self, now: Time) {
        self.stage = Stage::Due { at: now + ASK_AGAIN_AFTER };
    }

    /// Its `pre_start` was cut short.
    pub fn cancelled(&mut self) {
        if let Stage::Preparing { told, .. } = &mut self.stage {
            *told = true;
        }
    }

    /// Its `pre_start` ended, which counts as an end of its own unless it succeeded.
    pub fn prepared(&mut self, step: &mut Step<'_>, run: RunId, outcome: &Outcome, jitter: &mut Jitter) {
        let Stage::Preparing { run: own, told } = self.stage else { return };
        match outcome.result() {
            _ if own != run => {}
            _ if told => self.stage = Stage::Over,
            Ok(()) => {
                self.life.prepared = true;
                self.stage = Stage::Due { at: step.now };
            }
            Err(error) => {
                let why = format!("pre_start of {} failed: {error}", self.config.name);
                self.order_failed(step, &why);
                let ended = EndedForGood { code: outcome.code(), why, as_wanted: false };
                match self.config.restart.policy {
                    RestartPolicy::Never => self.give_up(step, ended),
                    RestartPolicy::OnFailure | RestartPolicy::Always => {
                        self.again(step, Duration::ZERO, ended, jitter);
                    }
                }
            }
        }
    }

    /// Its start was ordered; a check may listen to what it says.
    pub fn starts(&mut self, now: Time, run: RunId, place: u64, is_listened_to: bool) {
        self.stage = Stage::Starting { run, since: now };
        self.reported = Reported::at_start(is_listened_to || self.says_when_ready(), None);
        (self.announced_pid, self.followed_said) = (None, None);
        self.begun_for = self.config.when;
        self.started += 1;
        self.life.place.get_or_insert(place);
        self.readiness.starts(now, self.config.ready.as_ref());
    }

    /// A process runs; `true`: it is this one.
    pub fn spawned(&mut self, step: &mut Step<'_>, run: RunId, pid: Pid) -> bool {
        let Stage::Starting { run: ordered, since } = self.stage else { return false };
        if ordered != run {
            return false;
        }
        self.stage = Stage::Running { run, since, pid: Some(pid) };
        step.out.push(Effect::Say(Notice::CoprocessStarted { name: self.config.name.clone(), pid }));
        if !self.is_to_end_for_order() {
            let runs = format!("{} runs again, as process {pid}", self.config.name);
            self.answer_order(step, Answer::Done(runs));
        }
        self.readiness.runs(step.now, self.config.ready.as_ref());
        true
    }

    /// Nothing of it is there any more, and nothing is to come.
    pub fn rests(&mut self) {
        self.stage = Stage::Idle;
        self.life.place = None;
        self.life.prepared = false;
        self.begin_anew();
    }

    /// Whether its `post_stop` is due at its end.
    pub fn has_begun(&self) -> bool {
        self.life.place.is_some()
    }

    fn has_run_for(&self, now: Time) -> Duration {
        match self.stage {
            Stage::Running { since, .. } => now.since(since),
            _ => Duration::ZERO,
        }
    }

    /// Its run, while its process, or who is followed in its place, is there.
    pub fn run(&self) -> Option<RunId> {
        match self.stage {
            Stage::Starting { run, .. }
            | Stage::Running { run, .. }
            | Stage::Launched { run, .. }
            | Stage::Ending { run, .. } => Some(run),
            Stage::Idle | Stage::Preparing { .. } | Stage::Due { .. } | Stage::Over | Stage::Finishing => None,
        }
    }

    /// Whether it runs, and is ready where it says when it is.
    pub fn is_serving(&self) -> bool {
        let runs = self.is_up() || matches!(self.stage, Stage::Launched { .. });
        runs && (self.readiness.is_ready() || self.config.ready.is_none())
    }

    /// Whether it was told to stop, or what its process left is being ended.
    pub fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending { .. })
    }

    /// Whether it runs and was not told to stop.
    pub fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }

    /// Whether nothing of it is there, and nothing is to come.
    pub fn is_gone(&self) -> bool {
        self.stage == Stage::Idle
    }

    /// Its place in the order of first starts.
    pub fn place(&self) -> u64 {
        self.life.place.unwrap_or_default()
    }

    /// When [`next`](Self::next), [`question`](Self::question), [`is_late`](Self::is_late) or
    /// [`is_followed_by_nobody`](Self::is_followed_by_nobody) has something to say.
    pub fn deadline(&self) -> Option<Time> {
        let due = match self.stage {
            Stage::Due { at } => Some(at),
            _ => None,
        };
        let followed = match self.stage {
            Stage::Running { pid: None, .. } => self.followed_by,
            _ => None,
        };
        let drained = self.order_due().filter(|_| self.is_up());
        let due = earliest(due, earliest(drained, followed));
        earliest(due, earliest(self.readiness.asked_at(), self.readiness.late_at()))
    }

    /// For `/status`.
    pub fn status(&self, wanted: bool) -> CoprocessStatus {
        let state = match self.stage {
            Stage::Idle => match &self.life.ended {
                Some(ended) if ended.as_wanted => "ended",
                Some(_) => "given up",
                None if wanted => "waiting",
                None => "not wanted",
            },
            Stage::Preparing { .. } => "running pre_start",
            Stage::Due { .. } if self.started > 0 => "about to start again",
            Stage::Due { .. } | Stage::Starting { .. } => "starting",
            Stage::Running { .. } | Stage::Launched { .. } if self.readiness.is_ready() => "running",
            Stage::Running { .. } | Stage::Launched { .. } => "not ready yet",
            Stage::Ending { .. } => "ending",
            Stage::Over | Stage::Finishing => "running post_stop",
        };
        let pid = match self.stage {
            Stage::Running { pid, .. } => pid,
            _ => None,
        };
        let given_up = self.life.ended.as_ref().filter(|ended| !ended.as_wanted).map(|ended| ended.why.clone());
        let not_ready = self.readiness.why_not().filter(|_| pid.is_some()).map(str::to_owned);
        CoprocessStatus {
            name: self.config.name.clone(),
            state: state.to_owned(),
            pid,
            ready: self.readiness.is_ready(),
            restarts: self.started.saturating_sub(1),
            last_exit: self.last_exit,
            error: given_up.or(not_ready),
        }
    }
}
