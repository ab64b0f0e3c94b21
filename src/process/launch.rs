//! fork, and what the agent hears until the exec. Everything a child needs is made ready before; what it does itself is
//! [`child`](super::child)'s. Knows no runs and no config.
//!
//! std's Command can't do this: it sorts and cleans the environment, can't keep the signals a child gets before its
//! exec, and waits for the exec without limit.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::time::Instant;

use crate::config::Signal;
use crate::supervisor::vocabulary::Pid;

use super::child::{Gate, Image, Launch, LaunchStep, RawReport, become_program};
use super::descriptors::pipe;
use super::keeper;
use super::keyboard::Keyboard;
use super::kill;

/// How long an exec may take before the agent goes on without knowing how it ends: dead storage must not hold PID 1.
const EXEC_PATIENCE: Duration = Duration::from_secs(1);
/// Of all time, this part may be spent on that; the other half is enough for renewals and signals.
const PART: u32 = 2;
/// How long a keeper may take to say whom it has started. It needs two system calls, on a machine that may be out of
/// breath.
const KEEPER_PATIENCE: Duration = Duration::from_secs(5);
/// How often a keeper is resumed meanwhile, for who runs as its user may stop it.
const RESUME_EVERY: Duration = Duration::from_millis(20);

const STEPS: [LaunchStep; 12] = [
    LaunchStep::Group,
    LaunchStep::Descriptors,
    LaunchStep::Limit,
    LaunchStep::Directory,
    LaunchStep::NoNewPrivileges,
    LaunchStep::Groups,
    LaunchStep::Gid,
    LaunchStep::Uid,
    LaunchStep::Capabilities,
    LaunchStep::DeathSignal,
    LaunchStep::Deadline,
    LaunchStep::Exec,
];

/// What went wrong in a child before its exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// What it was doing.
    pub step: LaunchStep,
    /// Which of several, for `LaunchStep::Limit`.
    pub index: usize,
    /// Why it failed.
    pub errno: Errno,
}

/// A child right after its start.
pub struct Started {
    /// Its process id.
    pub pid: Pid,
    /// The agent's own child, which is to be reaped in every case: its keeper, or itself.
    pub child: Pid,
    /// How far it came.
    pub progress: Progress,
    /// By which is heard what the terminal sends it, or why it isn't.
    pub keyboard: Option<io::Result<Keyboard>>,
}

/// How far a child came.
pub enum Progress {
    /// It runs its program (or was killed before it could).
    Running,
    /// It failed and is ending.
    Failed(Failure),
    /// It hasn't got through its exec yet; this tells when it fails.
    Executing(LaunchReport),
}

/// The pipe through which a child says why it failed; it closes at the exec.
pub struct LaunchReport(std::fs::File);

/// In place of a step: a keeper's word of the process it has started, which comes in place of the index.
const STARTED: i32 = -1;
/// In place of a step: a keeper couldn't start any.
const NOT_STARTED: i32 = -2;

/// How long the agent may still wait for programs to be executed: no longer for many, one after the other, than for one.
/// Else eight checks on dead storage would hold it for eight seconds, and a lease would end with nobody to renew it.
#[derive(Debug)]
pub struct Patience {
    left: Duration,
    /// As of then.
    at: Instant,
}

impl Patience {
    /// All of it.
    pub fn new() -> Patience {
        Patience { left: EXEC_PATIENCE, at: Instant::now() }
    }

    /// Waits as long as is left; once nothing is, no longer than [`RESUME_EVERY`].
    fn spent_by(&mut self, wait: impl FnOnce(Duration) -> bool) -> bool {
        let begun = Instant::now();
        self.left = EXEC_PATIENCE.min(self.left + begun.duration_since(self.at) / PART);
        let answered = wait(self.left);
        self.at = Instant::now();
        let waited = self.at.duration_since(begun);
        // What any exec may take isn't the storage's fault.
        self.left = self.left.saturating_sub(if waited < RESUME_EVERY { Duration::ZERO } else { waited });
        answered
    }
}

impl LaunchReport {
    /// What a child that has ended said of its failure.
    pub fn failure(mut self) -> Option<Failure> {
        read_failure(&mut self.0)
    }
}

fn read_words(pipe: &mut impl Read) -> Option<RawReport> {
    let mut bytes = [0u8; size_of::<RawReport>()];
    pipe.read_exact(&mut bytes).ok()?;
    let word = |i: usize| i32::from_ne_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    Some([word(0), word(4), word(8)])
}

fn read_failure(pipe: &mut impl Read) -> Option<Failure> {
    failure(read_words(pipe)?)
}

fn failure([step, index, errno]: RawReport) -> Option<Failure> {
    let step = *STEPS.get(usize::try_from(step).ok()?)?;
    Some(Failure { step, index: usize::try_from(index).unwrap_or(0), errno: Errno::from_raw(errno) })
}

/// Starts a child and waits, at most a second and as `patience` allows, until it runs its program or has failed.
///
/// # Errors
/// No pipe or no process could be made. There is no child then, but perhaps an ending keeper, to be reaped.
#[allow(unsafe_code)]
pub fn launch(launch: Launch, patience: &mut Patience) -> io::Result<Started> {
    let (reader, writer) = pipe()?;
    let mut image = Image::new(&launch);
    let report = writer.as_raw_fd();
    let gate = Gate::shut(launch.heard)?;
    let child = match launch.keeper {
        // SAFETY: in a fresh child, with the report open.
        Some(telling) => keeper::start(
            telling,
            |pid| tell_start(report, pid),
            |keeper| unsafe { become_program(&launch, &mut image, keeper, report, &gate) },
        )?,
        // SAFETY: getpid has no preconditions. The child only makes system calls on memory made ready above.
        None => unsafe {
            let agent = libc::getpid();
            match libc::fork() {
                -1 => return Err(io::Error::last_os_error()),
                0 => become_program(&launch, &mut image, agent, report, &gate),
                pid => pid,
            }
        },
    };
    drop(writer);
    let mut file = std::fs::File::from(reader);
    if launch.session {
        // A group's leader can't make a session: it is left to the child.
        return Ok(Started { pid: child, child, progress: progress(file, None, patience), keyboard: None });
    }
    if launch.keeper.is_none() {
        // The child does it as well; whoever comes second changes nothing. So the group is there when we return, even
        // if the exec hangs. EACCES says it has executed, ESRCH that it has ended.
        let _ = nix::unistd::setpgid(nix::unistd::Pid::from_raw(child), nix::unistd::Pid::from_raw(child));
        let keyboard = launch.heard.then(|| Keyboard::start(child));
        gate.open();
        let progress = progress(file, None, patience);
        return Ok(Started { pid: child, child, progress, keyboard });
    }
    // A keeper says at once whom it has started, and its child perhaps before that why it fails.
    let mut failed = None;
    loop {
        if !wait_readable(&file, KEEPER_PATIENCE, Some(child)) {
            // Its child goes with it.
            let _ = kill::process(child, Signal::KILL.number()).result();
            return Err(io::Error::other("its keeper makes no progress (is it traced?)"));
        }
        match read_words(&mut file) {
            Some([STARTED, pid, _]) => {
                let progress = failed.map_or_else(|| progress(file, Some(child), patience), Progress::Failed);
                return Ok(Started { pid, child, progress, keyboard: None });
            }
            Some([NOT_STARTED, _, errno]) => return Err(io::Error::from_raw_os_error(errno)),
            Some(words) => failed = failure(words),
            None => return Err(io::Error::other("its keeper was killed")),
        }
    }
}

fn progress(mut pipe: std::fs::File, keeper: Option<Pid>, patience: &mut Patience) -> Progress {
    match patience.spent_by(|left| wait_readable(&pipe, left, keeper)) {
        false => Progress::Executing(LaunchReport(pipe)),
        true => read_failure(&mut pipe).map_or(Progress::Running, Progress::Failed),
    }
}

#[allow(unsafe_code)]
fn tell_start(report: RawFd, started: Result<Pid, i32>) {
    let words: RawReport = match started {
        Ok(pid) => [STARTED, pid, 0],
        Err(errno) => [NOT_STARTED, 0, errno],
    };
    // SAFETY: the array lives for the call. An agent that is gone is told nothing.
    unsafe { libc::write(report, words.as_ptr().cast(), size_of_val(&words)) };
}

/// Whether the pipe has something to read, or is closed, before patience ends. A failing poll counts as not. Whoever is
/// stopped before that, and can't be told from who is slow, is resumed.
fn wait_readable(pipe: &impl AsFd, patience: Duration, keeper: Option<Pid>) -> bool {
    let each = PollTimeout::try_from(RESUME_EVERY).unwrap_or(PollTimeout::ZERO);
    // Counted, not timed: while all of the container is frozen, none of it has a chance to answer.
    for _ in 0..(patience.as_millis() / RESUME_EVERY.as_millis()).max(1) {
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], each) {
            Ok(0) => {
                if let Some(keeper) = keeper {
                    // It heeds no signal, so this does nothing else. One that is gone closes the pipe.
                    let _ = kill::process(keeper, Signal::CONT.number()).result();
                }
            }
            Err(Errno::EINTR) => {}
            ready => return ready.is_ok(),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_types, reason = "a child of the test's own, which nobody else reaps")]
    fn one_that_is_stopped_before_it_has_said_a_word_is_resumed() {
        let mut stopped = std::process::Command::new("sh");
        let mut stopped =
            stopped.args(["-c", "kill -STOP $$; echo"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let pipe = stopped.stdout.take().unwrap();
        assert!(wait_readable(&pipe, KEEPER_PATIENCE, Some(stopped.id() as Pid)));
        assert!(stopped.wait().unwrap().success());
    }

    #[test]
    fn many_that_are_not_executed_hold_the_agent_no_longer_than_one() {
        let mut patience = Patience::new();
        let (reader, _writer) = pipe().unwrap();
        let begun = Instant::now();
        for _ in 0..20 {
            assert!(!patience.spent_by(|left| wait_readable(&reader, left, None)));
        }
        assert!(begun.elapsed() < EXEC_PATIENCE * 10, "{:?}", begun.elapsed());
    }

    #[test]
    fn one_that_says_nothing_is_not_waited_for_without_end() {
        let (reader, _writer) = pipe().unwrap();
        assert!(!wait_readable(&reader, RESUME_EVERY * 3, None));
    }
}
