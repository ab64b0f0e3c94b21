//! The only caller of waitpid: takes from the kernel what has become of children, one at a time. It knows no runs.

use nix::errno::Errno;

use crate::config::Signal;
use crate::supervisor::vocabulary::{ExitStatus, Pid};

/// What has become of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has ended, and is reaped.
    Ended(ExitStatus),
    /// It was stopped by this signal; it is still there.
    Stopped(Signal),
}

/// So many are taken in one turn. A container can end tens of thousands of processes at once, each of which costs some
/// microseconds, and a signal must not wait for all of them.
pub const MOST_IN_A_TURN: usize = 1000;

/// Which children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Main, and what comes to the agent as an orphan, which has SIGCHLD (`reparent_leader` in kernel/exit.c).
    Others,
    /// The guard and keepers, which announce their ends by another signal.
    Kin,
}

/// What there is to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next change that hasn't been taken yet.
    Changed(Pid, Change),
    /// None now; there are such children, and they live.
    Quiet,
    /// There is no such child at all.
    Nobody,
}

/// Takes the next change of these children.
#[allow(unsafe_code)]
pub fn next(which: Which) -> Next {
    let which = match which {
        Which::Others => 0,
        Which::Kin => libc::__WCLONE,
    };
    loop {
        let mut status = 0;
        let flags = libc::WNOHANG | libc::WUNTRACED | which;
        // SAFETY: `status` is a valid place for the answer. nix's waitpid fails on a death by a real-time signal.
        match unsafe { libc::waitpid(-1, &mut status, flags) } {
            0 => return Next::Quiet,
            -1 if Errno::last() == Errno::EINTR => {}
            // ECHILD; waitpid(2) names no other for these arguments.
            -1 => return Next::Nobody,
            pid => {
                if let Some(change) = change(status) {
                    return Next::Changed(pid, change);
                }
            }
        }
    }
}

/// Whether this process has any child but the guard and keepers, dead or alive, without taking anything.
#[allow(unsafe_code)]
pub fn any_other() -> bool {
    // SAFETY: an all-zero siginfo_t is a valid one to be filled in. WNOWAIT leaves a dead child to be reaped.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_ALL, 0, &mut info, flags) == 0
    }
}

/// How a process ended, by what waitpid(2) says of one that has.
pub fn end(status: libc::c_int) -> Option<ExitStatus> {
    match change(status) {
        Some(Change::Ended(status)) => Some(status),
        Some(Change::Stopped(_)) | None => None,
    }
}

fn change(status: libc::c_int) -> Option<Change> {
    if libc::WIFEXITED(status) {
        Some(Change::Ended(ExitStatus::Exited(libc::WEXITSTATUS(status) as u8)))
    } else if libc::WIFSIGNALED(status) {
        Signal::new(libc::WTERMSIG(status)).map(|signal| Change::Ended(ExitStatus::Killed(signal)))
    } else if libc::WIFSTOPPED(status) {
        Signal::new(libc::WSTOPSIG(status)).map(Change::Stopped)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_child_is_not_taken_for_an_ended_one() {
        let stopped = |signal: i32| signal << 8 | 0x7f;
        assert_eq!(change(stopped(libc::SIGTSTP)), Some(Change::Stopped(Signal::TSTP)));
        assert_eq!(change(7 << 8), Some(Change::Ended(ExitStatus::Exited(7))));
        assert_eq!(change(libc::SIGTERM), Some(Change::Ended(ExitStatus::Killed(Signal::TERM))));
        assert_eq!(change(libc::SIGQUIT | 0x80), Some(Change::Ended(ExitStatus::Killed(Signal::QUIT))), "core dumped");
        assert_eq!(change(0xffff), None, "continued");
    }

    #[test]
    fn a_death_by_a_real_time_signal_is_understood() {
        assert_eq!(change(40), Some(Change::Ended(ExitStatus::Killed(Signal::new(40).unwrap()))));
    }
}
