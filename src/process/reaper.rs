//! The only caller of waitpid: takes from the kernel what has become of children, one at a time. It knows no runs.

use nix::errno::Errno;

use crate::config::Signal;
use crate::supervisor::event::{ExitStatus, Pid};

/// What has become of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has ended, and is reaped.
    Ended(ExitStatus),
    /// It was stopped by this signal; it is still there.
    Stopped(Signal),
}

/// The next change of any child that hasn't been taken yet; `None` when there is none now.
#[allow(unsafe_code)]
pub fn next() -> Option<(Pid, Change)> {
    loop {
        let mut status = 0;
        // `__WALL` also takes children that announce their end by another signal than SIGCHLD, as the guard does.
        let flags = libc::WNOHANG | libc::WUNTRACED | libc::__WALL;
        // SAFETY: `status` is a valid place for the answer. nix's waitpid fails on a death by a real-time signal.
        match unsafe { libc::waitpid(-1, &mut status, flags) } {
            0 => return None,
            -1 if Errno::last() == Errno::EINTR => {}
            // ECHILD; waitpid(2) names no other for these arguments.
            -1 => return None,
            pid => {
                if let Some(change) = change(status) {
                    return Some((pid, change));
                }
            }
        }
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

/// Whether this process has any child but the guard, dead or alive, without taking anything. The guard is none without
/// `__WALL`, for it announces its end by another signal; who comes to us as an orphan has SIGCHLD
/// (`reparent_leader` in kernel/exit.c).
#[allow(unsafe_code)]
pub fn any_child() -> bool {
    // SAFETY: an all-zero siginfo_t is a valid one to be filled in. WNOWAIT leaves a dead child to be reaped.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_ALL, 0, &mut info, flags) == 0
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
