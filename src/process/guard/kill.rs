//! What happens when a leader's time is over and nobody has moved it on. Runs in the guard: system calls only, on
//! memory that is there.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use libc::c_int;

use crate::supervisor::vocabulary::Pid;

use super::{Fence, Page, SeqCst};
use crate::process::kill::{self, Sent};

/// While somebody is left the guard looks again this soon...
const AGAIN: Duration = Duration::from_millis(50);
/// ...for so long; what is still there then has been dealt with as well as can be.
const EAGER_FOR: Duration = Duration::from_secs(5);
/// From then on, and when nobody is left, this often.
const SELDOM: Duration = Duration::from_secs(1);
/// So long what was killed may still be seen, at most. Then either PID 1 doesn't reap, or they could not be killed:
/// kill(-1) doesn't say so (0 when all it met was EPERM).
const SEEN_FOR: Duration = Duration::from_millis(500);
/// So long a main that surely was killed may take to give its memory back (687 ms at 4 GiB resident).
const DYING_FOR: Duration = Duration::from_secs(10);

/// How to strike. No part of it lies in the heap, which a guard lets go of.
pub struct KillPlan {
    /// At what.
    pub at: KillScope,
    /// The agent.
    pub agent: Pid,
    /// With CAP_KILL, nobody can have been spared for another user's sake.
    pub may_kill_anybody: bool,
    /// How long what was killed may still be seen, where somebody may have been spared.
    pub patience: Duration,
    /// Sabotage.
    pub off: bool,
}

/// What a [`Fence`] comes to.
#[derive(Clone, Copy)]
pub enum KillScope {
    /// The namespace.
    Namespace,
    /// The cgroup of this `cgroup.kill`.
    Cgroup(RawFd),
    /// Main's group.
    ProcessGroup,
}

/// Half of what there is before another may act: ending PID 1 takes some of it too.
pub fn patience(kill_margin: Duration) -> Duration {
    SEEN_FOR.min(kill_margin / 2)
}

impl From<&Fence> for KillScope {
    fn from(fence: &Fence) -> KillScope {
        match fence {
            Fence::Namespace => KillScope::Namespace,
            Fence::Cgroup(kill) => KillScope::Cgroup(kill.as_raw_fd()),
            Fence::ProcessGroup => KillScope::ProcessGroup,
        }
    }
}

impl KillPlan {
    /// Kills, the time having been over for `since` when it was first struck; when to look again.
    ///
    /// # Safety
    /// Only in the guard.
    #[allow(unsafe_code)]
    pub unsafe fn kill(&self, page: &Page, since: Duration) -> Duration {
        if self.off {
            return SELDOM;
        }
        // SAFETY: system calls. kill(-1) is made only by a child of PID 1 which the agent is: what it reaches is the
        // agent's own namespace, never a machine's.
        let (left, refused) = unsafe {
            match self.at {
                KillScope::Namespace if self.agent == 1 && libc::getppid() == 1 => namespace(page),
                KillScope::Namespace => return SELDOM,
                KillScope::ProcessGroup => group(page),
                KillScope::Cgroup(kill) => {
                    libc::write(kill, c"1".as_ptr().cast(), 1);
                    // It ends the guard as well: who comes here was refused, and does what it can.
                    let seen = group(page);
                    kill::process(self.agent, libc::SIGKILL);
                    seen
                }
            }
        };
        if !left {
            return SELDOM;
        }
        if self.agent == 1 {
            // A stopped init is resumed even by its own namespace (`prepare_signal` in kernel/signal.c comes before
            // `sig_ignored`), so that it can reap.
            kill::process(1, libc::SIGCONT);
            if refused || self.is_stuck(page, since) {
                // The agent has a handler that ends it (signals::end_on_abort), and the kernel ends what is left in the
                // namespace.
                kill::process(1, libc::SIGABRT);
            }
        }
        match since < EAGER_FOR {
            true if self.may_kill_anybody => AGAIN,
            true => AGAIN.min(self.patience / 2),
            false => SELDOM,
        }
    }

    /// Kills what an agent that has ended left behind: once, for what is left of it has its numbers no longer to itself.
    ///
    /// # Safety
    /// Only in the guard.
    #[allow(unsafe_code)]
    pub unsafe fn kill_survivors(&self, page: &Page) {
        if self.off {
            return;
        }
        // SAFETY: system calls.
        unsafe {
            match self.at {
                // The kernel kills it.
                KillScope::Namespace => {}
                KillScope::ProcessGroup => drop(group(page)),
                KillScope::Cgroup(kill) => drop(libc::write(kill, c"1".as_ptr().cast(), 1)),
            }
        }
    }

    /// Whether what was killed should be gone by now.
    fn is_stuck(&self, page: &Page, since: Duration) -> bool {
        let patience = match self.may_kill_anybody {
            true if is_dying(page.main.load(SeqCst)) => DYING_FOR,
            // All have been sent it; what is still seen does nothing more.
            true => SEEN_FOR,
            false => self.patience,
        };
        matches!(self.at, KillScope::Namespace) && since >= patience
    }
}

/// SIGKILL to everybody but PID 1 and the guard; whether anybody is there, and whether somebody can't be killed.
///
/// # Safety
/// That of [`kill::namespace`].
#[allow(unsafe_code)]
unsafe fn namespace(page: &Page) -> (bool, bool) {
    // SAFETY: as the caller promises.
    let all = unsafe { kill::namespace(libc::SIGKILL) };
    if all == Sent::Nobody {
        return (false, false);
    }
    let main = page.main.load(SeqCst);
    (true, all == Sent::Refused || main > 1 && kill::process(main, libc::SIGKILL) == Sent::Refused)
}

/// The same for main and its process group, and for what runs beside main for the leader only: a keeper takes that along.
fn group(page: &Page) -> (bool, bool) {
    // Without a process it is 0, and 1 is init.
    let kill = |pid: libc::pid_t| if pid > 1 { kill::process(pid, libc::SIGKILL) } else { Sent::Nobody };
    let (main, group) = (page.main.load(SeqCst), page.group.load(SeqCst));
    let group = if is_of(group, main) { group } else { 0 };
    let mut sent = [kill::group(group, libc::SIGKILL), kill(main)];
    for keeper in &page.keepers {
        match kill(keeper.load(SeqCst)) {
            Sent::Nobody => {}
            other => sent[1] = if sent[1] == Sent::Refused { Sent::Refused } else { other },
        }
    }
    (sent != [Sent::Nobody; 2], sent.contains(&Sent::Refused))
}

/// Whether a process group is still the one that main (0: reaped) was in. Its number is no process's once its leader is
/// reaped, and another's only when nobody is left in it: whose id it is then made a group of its own (setpgid(2)).
#[allow(unsafe_code)]
pub fn is_of(group: Pid, main: Pid) -> bool {
    main == group
        // SAFETY: a system call.
        || main > 1 && unsafe { libc::getpgid(main) } == group
        || group > 1 && kill::process(group, 0) == Sent::Nobody
}

/// Whether a process that was killed hasn't become a zombie yet (pidfd_open(2): readable when it has).
#[allow(unsafe_code)]
fn is_dying(pid: Pid) -> bool {
    // SAFETY: system calls, with a valid place for poll's answer.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0) as c_int;
        // Gone, or a kernel before 5.3.
        if process == -1 {
            return false;
        }
        let mut asked = libc::pollfd { fd: process, events: libc::POLLIN, revents: 0 };
        let dead = libc::poll(&raw mut asked, 1, 0) == 1;
        libc::close(process);
        !dead
    }
}

/// Whether this process has CAP_KILL (capget(2)).
#[allow(unsafe_code)]
pub fn may_kill_anybody() -> bool {
    const VERSION_3: u32 = 0x2008_0522;
    const CAP_KILL: u32 = 5;
    let header = [VERSION_3, 0];
    // Effective, permitted and inheritable ones, of the first 32 and of the others.
    let mut sets = [0u32; 6];
    // SAFETY: two structs as capget(2) describes them.
    let done = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) } == 0;
    done && sets[0] & 1 << CAP_KILL != 0
}
