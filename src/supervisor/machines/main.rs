//! The main process and all it leaves behind: started, told to stop, killed, and gone only when nothing of it is left.
//! It doesn't decide whether main starts again; that is [`restarts`](super::restarts)'s.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Process, Signal, SignalScope};

use crate::supervisor::vocabulary::{
    Effect, ExitStatus, Notice, Pid, ProcessId, RunId, Secrets, SpawnError, Step, Target, Time, earliest,
};

/// How long SIGKILL may take to show before main counts as unkillable (another user's without CAP_KILL, or stuck in
/// the kernel). A 4 GiB process was gone after 0.7 s.
const KILL_SHOWS_WITHIN: Duration = Duration::from_secs(1);
/// A process that forks faster than one round of SIGKILL finds it gets another.
const KILL_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How soon it is asked again what main left, while that is only about to end.
const COUNT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// A daemon is where it will be this soon after its launcher's end; what ends later is main. And what is only about to end
/// has ended by then, or is held by somebody: a tracer its zombie, a cgroup it frozen.
pub const LAUNCHED_WITHIN: Duration = Duration::from_secs(1);

/// Why something can outlive SIGKILL for as long as there is.
pub const UNENDED: &str = "(no right to signal it, it is stuck in the kernel, or too much to be gone in time)";

/// Main is gone, and all it left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// How main ended.
    pub status: ExitStatus,
    /// How long it ran.
    pub lived: Duration,
    /// SIGKILL didn't end it, so another must not be started beside it.
    pub unkillable: bool,
    /// Why it couldn't be started; `None` when it ran, or was told to stop before.
    pub failed: Option<SpawnError>,
}

impl Gone {
    /// For people: how it ended, or that it never ran.
    pub fn why(&self) -> String {
        match &self.failed {
            Some(error) => Notice::MainFailedToStart { error: error.message.clone() },
            None => Notice::MainExited { status: self.status },
        }
        .to_string()
    }
}

/// What to do with processes main left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrayAction {
    /// TERM, then KILL.
    Kill,
    /// Wait, then KILL.
    Wait,
    /// They are main now.
    Follow,
}

/// The main process.
#[derive(Debug, Default)]
pub struct Main {
    state: MainState,
    /// Who main is, as it said.
    announced_pid: Option<ProcessId>,
    /// SIGKILL has shown by then, or never will: the container ends.
    hopeless_from: Option<Time>,
    /// When it was said last who main is from now on: two that name each other in turn say no more than one.
    followed_said: Option<Time>,
}

/// How often it is said at most who somebody is from now on.
pub const FOLLOWED_SAID_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
enum MainState {
    /// There is none.
    #[default]
    Idle,
    /// What it is to find in its environment is being read; there is no process yet.
    Reading { run: RunId, since: Time, process: Arc<Process>, env: Vec<(String, String)>, pending: Option<Ending> },
    /// Ordered, not answered. What it is told meanwhile it is told once it runs.
    Starting { run: RunId, since: Time, pending: Option<Ending> },
    Running {
        run: RunId,
        pid: Pid,
        since: Time,
        /// When the one ended that left it to be followed.
        followed: Option<Time>,
        stop: Option<Ending>,
    },
    /// Ended and reaped; the answer to how much it left, or who of them is main, is waited for.
    Counting {
        run: RunId,
        since: Time,
        followed: Option<Time>,
        end: Ended,
        /// It ended before it was told to stop: who is followed in its place is told what it is told since.
        by_itself: bool,
        stop: Option<Ending>,
        /// It is asked again then: what is about to end is no answer.
        again_at: Time,
        /// Until then who it named in its place is looked for, and what is about to end is waited for.
        settles_at: Time,
        /// One of them is to be main, unless none is left.
        follows: bool,
        /// That was said.
        said: bool,
    },
    /// What it left is being ended.
    Clearing { end: Ended, stop: Ending, left: usize },
}

#[derive(Debug, Clone, Copy)]
struct Ended {
    status: ExitStatus,
    lived: Duration,
}

/// Main was told to stop, or is to be once there is somebody to tell.
#[derive(Debug, Clone, Copy)]
struct Ending {
    /// By which signal, and whom; `None` when it stops by itself, or is only killed.
    signal: Option<(Signal, SignalScope)>,
    /// SIGKILL then; `None` is never (a plain init).
    kill_at: Option<Time>,
    /// SIGKILL was sent first at this time.
    killed: Option<Time>,
    /// Nobody told it: it said so itself.
    own: bool,
}

impl Ending {
    const fn kill(at: Time) -> Ending {
        Ending { signal: None, kill_at: Some(at), killed: None, own: false }
    }

    /// The last signal counts, and the earlier of the times.
    fn add(stop: &mut Option<Ending>, signal: Option<(Signal, SignalScope)>, kill_at: Option<Time>) {
        let before = stop.unwrap_or(Ending { signal: None, kill_at: None, killed: None, own: false });
        let kill_at = earliest(before.kill_at, kill_at);
        *stop = Some(Ending { signal: signal.or(before.signal), kill_at, own: false, ..before });
    }

    /// How it counts as ended when it never began.
    fn status(self) -> ExitStatus {
        ExitStatus::Killed(self.signal.map_or(Signal::KILL, |(signal, _)| signal))
    }
}

impl Main {
    /// Orders main's start.
    pub fn start(&mut self, step: &mut Step<'_>, run: RunId, process: &Arc<Process>, env: Vec<(String, String)>) {
        let process = process.clone();
        self.followed_said = None;
        if process.env_from_files.is_empty() {
            self.state = MainState::Starting { run, since: step.now, pending: None };
            step.out.push(Effect::SpawnMain { run, process, files: Secrets::default(), env });
        } else {
            step.out.push(Effect::ReadFiles { run, process: process.clone() });
            self.state = MainState::Reading { run, since: step.now, process, env, pending: None };
        }
    }

    /// What main is to find in its environment was read, or can't be.
    pub fn files_read(&mut self, step: &mut Step<'_>, run: RunId, result: Result<Secrets, SpawnError>) -> Option<Gone> {
        match (&mut self.state, result) {
            (MainState::Reading { run: ordered, process, env, pending: None, .. }, Ok(files)) if *ordered == run => {
                let (process, env) = (process.clone(), std::mem::take(env));
                self.state = MainState::Starting { run, since: step.now, pending: None };
                step.out.push(Effect::SpawnMain { run, process, files, env });
                None
            }
            (MainState::Reading { run: ordered, pending: None, .. }, Err(error)) if *ordered == run => {
                Some(self.failed(&error, step.out))
            }
            // Nobody waits for it any more.
            _ => None,
        }
    }

    /// Main runs.
    pub fn spawned(&mut self, run: RunId, pid: Pid, out: &mut Vec<Effect>) -> bool {
        match self.state {
            MainState::Starting { run: ordered, since, pending } if ordered == run => {
                self.announced_pid = None;
                self.state = MainState::Running { run, pid, since, followed: None, stop: pending };
                out.push(Effect::Say(Notice::MainStarted { pid }));
                tell_pending(run, pending, out);
                true
            }
            _ => false,
        }
    }

    /// Main couldn't be started: its exit code is the shell's 126 or 127, unless it was told to stop meanwhile.
    pub fn not_started(&mut self, run: RunId, error: &SpawnError, out: &mut Vec<Effect>) -> Option<Gone> {
        match self.state {
            MainState::Starting { run: ordered, pending: Some(pending), .. } if ordered == run => {
                Some(self.gone(Ended { status: pending.status(), lived: Duration::ZERO }, false))
            }
            MainState::Starting { run: ordered, pending: None, .. } if ordered == run => Some(self.failed(error, out)),
            _ => None,
        }
    }

    fn failed(&mut self, error: &SpawnError, out: &mut Vec<Effect>) -> Gone {
        out.push(Effect::Say(Notice::MainFailedToStart { error: error.message.clone() }));
        let end = Ended { status: ExitStatus::Exited(error.code), lived: Duration::ZERO };
        Gone { failed: Some(error.clone()), ..self.gone(end, false) }
    }

    /// A run's process was reaped; `true` when it was main. Unless `alone` (nothing is asked about what it left), it
    /// is gone only once [`strays`](Self::strays) has said so.
    pub fn exited(&mut self, step: &mut Step<'_>, run: RunId, status: ExitStatus, alone: bool) -> (bool, Option<Gone>) {
        let MainState::Running { run: running, pid, since, followed, stop } = self.state else { return (false, None) };
        if running != run {
            return (false, None);
        }
        // Who named itself has named nobody in its place.
        self.announced_pid.take_if(|(named, _)| *named == pid);
        let end = Ended { status, lived: step.now.since(since) };
        step.out.push(Effect::Say(Notice::MainExited { status }));
        if alone {
            return (true, Some(self.gone(end, false)));
        }
        let (again_at, settles_at) = (step.now + COUNT_AGAIN_AFTER, step.now + LAUNCHED_WITHIN);
        // One that only says that it stops launches nobody, but may have named who is main in its place.
        let stop = stop.filter(|stop| !(stop.own && self.announced_pid.is_some()));
        let by_itself = stop.is_none();
        let (follows, said) = (false, false);
        self.state =
            MainState::Counting { run, since, followed, end, by_itself, stop, again_at, settles_at, follows, said };
        step.out.push(Effect::CountStrays { may_wait: true });
        (true, None)
    }

    /// Whether one of those that main left may be followed: who it named in its place (a binary upgrade's new master), or a
    /// launcher's daemon.
    pub fn may_be_followed(&self, now: Time) -> bool {
        self.launched_a_daemon(now) || self.named_another(now)
    }

    /// Whether main named in its place one that may be there still, however it ended itself.
    fn named_another(&self, now: Time) -> bool {
        match self.state {
            MainState::Counting { settles_at, .. } => {
                self.announced_pid.is_some() && now < settles_at && self.may_have_a_successor(now)
            }
            _ => false,
        }
    }

    /// Whether a launcher that succeeded left a daemon, perhaps by way of another that ends at once.
    fn launched_a_daemon(&self, now: Time) -> bool {
        match self.state {
            MainState::Counting { end, followed, .. } => {
                let launched = followed.is_none_or(|at| now.since(at) <= LAUNCHED_WITHIN);
                end.status.success() && launched && self.may_have_a_successor(now)
            }
            _ => false,
        }
    }

    /// Whether main didn't end because it was told to, and who may be main in its place isn't to be killed yet.
    fn may_have_a_successor(&self, now: Time) -> bool {
        match self.state {
            MainState::Counting { by_itself, stop, .. } => {
                by_itself && stop.and_then(|stop| stop.kill_at).is_none_or(|at| now < at)
            }
            _ => false,
        }
    }

    /// One of those that a launcher left ended before it could be followed.
    pub fn stray_ended(&mut self, now: Time, status: ExitStatus) {
        if self.launched_a_daemon(now)
            && let MainState::Counting { end, .. } = &mut self.state
        {
            end.status = status;
        }
    }

    fn say_followed(&mut self, step: &mut Step<'_>, pid: Pid) {
        if self.followed_said.is_none_or(|said| step.now.since(said) >= FOLLOWED_SAID_EVERY) {
            self.followed_said = Some(step.now);
            step.out.push(Effect::Say(Notice::MainFollowed { pid }));
        }
    }

    /// One of those that main left is main now, or there is none to be found (`None`), which `true` answers when main
    /// runs.
    pub fn followed(&mut self, step: &mut Step<'_>, run: RunId, pid: Option<Pid>) -> bool {
        match (&mut self.state, pid) {
            (MainState::Counting { run: own, since, followed, stop, .. }, Some(pid)) if *own == run => {
                let (followed, stop) = (Some(followed.unwrap_or(step.now)), *stop);
                self.state = MainState::Running { run, pid, since: *since, followed, stop };
                self.say_followed(step, pid);
                // What main was told meanwhile reached nobody, and who is followed is none of the strays any more.
                tell_pending(run, stop, step.out);
                stop.is_none()
            }
            (MainState::Running { run: own, pid: before, stop, .. }, Some(pid)) if *own == run => {
                *before = pid;
                let stop = *stop;
                self.say_followed(step, pid);
                tell_pending(run, stop, step.out);
                false
            }
            (MainState::Running { run: own, .. }, None) if *own == run => {
                self.announced_pid = None;
                false
            }
            // Who it named has ended (an upgrade that failed): what is left is looked at without them.
            (MainState::Counting { run: own, .. }, None) if *own == run && self.announced_pid.take().is_some() => {
                step.out.push(Effect::CountStrays { may_wait: true });
                false
            }
            (MainState::Counting { run: own, end, stop, .. }, None) if *own == run => {
                let what =
                    "what main left can't be followed (it is another user's, or there is no /proc), so it is ended"
                        .to_owned();
                step.out.push(Effect::Say(Notice::Degraded { what }));
                step.out.extend(Effect::ask_to_end(Target::Strays, Signal::TERM));
                let kill_at = stop.and_then(|stop| stop.kill_at).unwrap_or(step.now + COUNT_AGAIN_AFTER);
                self.state = MainState::Clearing { end: *end, stop: Ending::kill(kill_at), left: 1 };
                false
            }
            _ => false,
        }
    }

    /// Main said who it is (sd_notify(3), MAINPID).
    pub fn named(&mut self, named: ProcessId, out: &mut Vec<Effect>) {
        self.announced_pid = Some(named);
        if let MainState::Running { run, pid: own, followed: Some(_), .. } = self.state
            && own != named.0
        {
            out.push(Effect::FollowStray { run, told: Some(named), only: true });
        }
    }

    /// So many processes are left of main. `kill_at` bounds their end unless a stop already does.
    pub fn strays(
        &mut self,
        step: &mut Step<'_>,
        left: usize,
        what: StrayAction,
        kill_at: Option<Time>,
    ) -> Option<Gone> {
        let only = !self.launched_a_daemon(step.now);
        let out = &mut *step.out;
        match (&mut self.state, left) {
            (MainState::Counting { end, .. } | MainState::Clearing { end, .. }, 0) => {
                let end = *end;
                Some(self.gone(end, false))
            }
            (MainState::Counting { run, said, .. }, left) if what == StrayAction::Follow => {
                if !std::mem::replace(said, true) && !only {
                    out.push(Effect::Say(Notice::MainWentToBackground { left, followed: true, by_itself: true }));
                }
                out.push(Effect::FollowStray { run: *run, told: self.announced_pid, only });
                None
            }
            (MainState::Counting { end, stop, followed, .. }, left) => {
                if stop.is_none() && what == StrayAction::Kill {
                    let by_itself = end.status.success() && followed.is_none() && self.announced_pid.is_none();
                    out.push(Effect::Say(Notice::MainWentToBackground { left, followed: false, by_itself }));
                }
                if what != StrayAction::Wait {
                    out.extend(Effect::ask_to_end(Target::Strays, Signal::TERM));
                }
                let kill_at = stop.and_then(|stop| stop.kill_at).or(kill_at);
                let stop = Ending { signal: None, kill_at, killed: None, own: false };
                self.state = MainState::Clearing { end: *end, stop, left };
                None
            }
            (MainState::Clearing { left: before, .. }, left) => {
                *before = left;
                None
            }
            (
                MainState::Idle | MainState::Reading { .. } | MainState::Starting { .. } | MainState::Running { .. },
                _,
            ) => None,
        }
    }

    /// Tells main to stop by this signal, and kills it at `kill_at`. Told again, it gets the signal again and the
    /// earlier of the two times.
    pub fn stop(&mut self, signal: Signal, scope: SignalScope, kill_at: Option<Time>, out: &mut Vec<Effect>) {
        match &mut self.state {
            MainState::Idle => {}
            MainState::Reading { pending: stop, .. }
            | MainState::Starting { pending: stop, .. }
            | MainState::Counting { stop, .. } => Ending::add(stop, Some((signal, scope)), kill_at),
            MainState::Running { run, stop, .. } => {
                tell(scope_target(*run, scope), signal, out);
                Ending::add(stop, Some((signal, scope)), kill_at);
            }
            MainState::Clearing { stop, .. } => stop.kill_at = earliest(stop.kill_at, kill_at),
        }
    }

    /// Kills one that was told to stop no later than this, and tells it nothing more; `false` when it wasn't told.
    pub fn kill_by(&mut self, at: Time) -> bool {
        let MainState::Running { stop: Some(stop), .. } = &mut self.state else { return false };
        stop.kill_at = Some(stop.kill_at.map_or(at, |before| before.min(at)));
        true
    }

    /// It is on its way out by itself, and killed at `kill_at`.
    pub fn stops_itself(&mut self, kill_at: Time) {
        if let MainState::Running { stop: stop @ None, .. } = &mut self.state {
            *stop = Some(Ending { own: true, ..Ending::kill(kill_at) });
        }
    }

    /// It runs on after all, if nobody has told it to stop meanwhile.
    pub fn goes_on(&mut self) -> bool {
        match &mut self.state {
            MainState::Running { stop, .. } => stop.take_if(|stop| stop.own && stop.killed.is_none()).is_some(),
            _ => false,
        }
    }

    /// Whether it has named another in its place, so that what it says of its end is no end of main's.
    pub fn hands_over(&self) -> bool {
        let own = self.pid();
        self.announced_pid.is_some_and(|(named, _)| Some(named) != own)
    }

    /// One that is to be killed is killed no sooner than this.
    pub fn postpone_kill(&mut self, at: Time) {
        if let MainState::Running { stop: Some(Ending { kill_at: Some(kill_at), killed: None, .. }), .. } =
            &mut self.state
        {
            *kill_at = at.max(*kill_at);
        }
    }

    /// The container ends, and is to go on without main from then, if SIGKILL hasn't ended it.
    pub fn hopeless_from(&mut self, at: Time) {
        self.hopeless_from = Some(at);
    }

    /// Who a signal for main goes to; `None` when there is nobody to take it.
    pub fn target(&self, scope: SignalScope) -> Option<Target> {
        match &self.state {
            MainState::Running { run, .. } => Some(scope_target(*run, scope)),
            MainState::Clearing { .. } => Some(Target::Strays),
            MainState::Idle | MainState::Reading { .. } | MainState::Starting { .. } | MainState::Counting { .. } => {
                None
            }
        }
    }

    /// SIGKILL now.
    pub fn kill(&mut self, step: &mut Step<'_>) {
        let now = Some(step.now);
        match &mut self.state {
            MainState::Running { stop, .. } => stop.get_or_insert(Ending::kill(step.now)).kill_at = now,
            MainState::Clearing { stop, .. } => stop.kill_at = now,
            MainState::Counting { stop, .. } => Ending::add(stop, None, now),
            // There is nobody to kill; the next tick tells that it is gone.
            MainState::Reading { pending, .. } | MainState::Starting { pending, .. } => {
                return Ending::add(pending, None, now);
            }
            MainState::Idle => {}
        }
        self.tick(step);
    }

    /// Acts on the times that have passed.
    pub fn tick(&mut self, step: &mut Step<'_>) -> Option<Gone> {
        let (target, alone, stop) = match &mut self.state {
            MainState::Reading { pending: Some(pending), .. } => {
                let end = Ended { status: pending.status(), lived: Duration::ZERO };
                return Some(self.gone(end, false));
            }
            MainState::Running { run, stop: Some(stop), .. } => {
                (Target::Group(*run), Some(Target::Process(*run)), stop)
            }
            MainState::Clearing { stop, .. } => (Target::Strays, None, stop),
            MainState::Idle
            | MainState::Reading { pending: None, .. }
            | MainState::Starting { .. }
            | MainState::Running { stop: None, .. } => return None,
            MainState::Counting { again_at, settles_at, stop, .. } => {
                if *again_at <= step.now {
                    *again_at = step.now + COUNT_AGAIN_AFTER;
                    let until = earliest(Some(*settles_at), stop.and_then(|stop| stop.kill_at));
                    step.out.push(Effect::CountStrays { may_wait: until.is_some_and(|until| step.now < until) });
                }
                return None;
            }
        };
        if stop.kill_at.is_none_or(|at| at > step.now) {
            return None;
        }
        let what = if target == Target::Strays { "what main left behind" } else { "main" };
        let first = *stop.killed.get_or_insert_with(|| {
            step.out.push(Effect::Say(Notice::Killing { what: what.to_owned() }));
            step.now
        });
        let hopeless = self.hopeless_from.map(|at| at.max(first + KILL_AGAIN_AFTER));
        let shows_by = earliest(Some(first + KILL_SHOWS_WITHIN), hopeless).filter(|at| step.now < *at);
        if shows_by.is_some() {
            stop.kill_at = earliest(Some(step.now + KILL_AGAIN_AFTER), shows_by);
            // Main may have left the group it was given; its workers are mostly still in it.
            let targets = alone.into_iter().chain([target]);
            step.out.extend(targets.map(|target| Effect::Kill { target, signal: Signal::KILL }));
            return None;
        }
        let what = format!("SIGKILL doesn't end {what} {UNENDED}");
        step.out.push(Effect::Say(Notice::Degraded { what }));
        let end = match self.state {
            MainState::Clearing { end, .. } => end,
            MainState::Running { since, .. } => {
                Ended { status: ExitStatus::Killed(Signal::KILL), lived: step.now.since(since) }
            }
            MainState::Idle | MainState::Reading { .. } | MainState::Starting { .. } | MainState::Counting { .. } => {
                return None;
            }
        };
        Some(self.gone(end, true))
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn deadline(&self) -> Option<Time> {
        match &self.state {
            MainState::Running { stop: Some(stop), .. } | MainState::Clearing { stop, .. } => stop.kill_at,
            MainState::Reading { since, pending: Some(_), .. } => Some(*since),
            MainState::Idle
            | MainState::Reading { pending: None, .. }
            | MainState::Starting { .. }
            | MainState::Running { stop: None, .. } => None,
            MainState::Counting { again_at, .. } => Some(*again_at),
        }
    }

    /// Whether this is its run, and it lives.
    pub fn runs(&self, run: RunId) -> bool {
        matches!(self.state, MainState::Running { run: own, .. } if own == run)
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<Pid> {
        match self.state {
            MainState::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Whether it runs and was not told to stop.
    pub fn is_up(&self) -> bool {
        matches!(self.state, MainState::Running { stop: None, .. })
    }

    /// Whether it was ordered and hasn't answered.
    pub fn is_starting(&self) -> bool {
        matches!(self.state, MainState::Reading { .. } | MainState::Starting { .. })
    }

    /// Whether what it is to find in its environment is being read: there is no process yet.
    pub fn is_being_read_for(&self) -> bool {
        matches!(self.state, MainState::Reading { .. })
    }

    /// Whether its process has ended, and not yet what that left.
    pub fn is_left(&self) -> bool {
        matches!(self.state, MainState::Counting { .. } | MainState::Clearing { .. })
    }

    /// Its process has ended, and one of those that it left is to be main in its place.
    pub fn follow(&mut self) {
        if let MainState::Counting { follows, .. } = &mut self.state {
            *follows = true;
        }
    }

    /// Whether one of those that it left is to be main: for the rest of the world it runs on.
    pub fn is_following(&self) -> bool {
        matches!(self.state, MainState::Counting { follows: true, .. })
    }

    /// Whether nothing of it is left.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, MainState::Idle)
    }

    fn gone(&mut self, end: Ended, unkillable: bool) -> Gone {
        self.state = MainState::Idle;
        Gone { status: end.status, lived: end.lived, unkillable, failed: None }
    }
}

fn tell(target: Target, signal: Signal, out: &mut Vec<Effect>) {
    out.push(Effect::Say(Notice::MainTold { signal }));
    out.extend(Effect::ask_to_end(target, signal));
}

/// Who is there at last is told what was to be told before.
fn tell_pending(run: RunId, stop: Option<Ending>, out: &mut Vec<Effect>) {
    if let Some((signal, scope)) = stop.and_then(|stop| stop.signal) {
        tell(scope_target(run, scope), signal, out);
    }
}

fn scope_target(run: RunId, scope: SignalScope) -> Target {
    match scope {
        SignalScope::Process => Target::Process(run),
        SignalScope::Group => Target::Group(run),
    }
}
