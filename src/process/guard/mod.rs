//! The guard: a second small process that kills when a leader's time is over, whatever has become of the agent. It
//! decides nothing; the agent tells it the time by a page of memory both share.
//!
//! A thread isn't enough: with PID 1 alone stopped (SIGSTOP, a tracer, a core dump) a thread let main act for 2.3 s past
//! the deadline. And a process that is asked by messages could find the agent unable to send any; a page is always
//! there to be read.
//!
//! - `fence`: what can be killed here. `process`: the guard's own life, after its fork. `kill`: the killing.

pub(in crate::process) mod fence;
mod kill;
mod process;

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::signal::{Signal, kill};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

use crate::config::coprocess::MOST_OF_A_LEADER;
use crate::sabotage;
use crate::supervisor::Time;
use crate::supervisor::vocabulary::Pid;

use super::signals;

pub use fence::{Fence, FenceError};

/// While there is a deadline the guard looks at the page this often, to be seen to.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Not seen for so long, it may be held (by a tracer, say) or starved...
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// What the agent and every guard it ever starts have in common. Times are nanoseconds of CLOCK_BOOTTIME.
#[repr(C)]
struct Page {
    /// When everything is killed; 0: never.
    deadline: AtomicU64,
    /// When the guard looks at the page again by itself.
    asleep_until: AtomicU64,
    /// When the guard looked last.
    seen_at: AtomicU64,
    /// Main's process id; 0: there is none.
    main: AtomicI32,
    /// Main's process group, while it has a member; 0: there is none.
    group: AtomicI32,
    /// The keepers of a leader's coprocesses; 0: there is none. Their numbers are theirs until the agent has reaped them.
    keepers: [AtomicI32; MOST_OF_A_LEADER],
}

/// The deadline, for who has to compare it with the clock by itself: a child between its fork and its exec.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(&'static Page);

impl Deadline {
    /// Whether it has passed since then: what was decided before is an ended term's.
    pub fn passed_since(self, decided: Time) -> bool {
        self.0.deadline.load(SeqCst) > nanoseconds(decided) && self.is_over()
    }

    /// Whether it has passed. Two system calls at most, and no memory but the shared page.
    pub fn is_over(self) -> bool {
        match self.0.deadline.load(SeqCst) {
            0 => false,
            deadline => deadline <= process::now(),
        }
    }
}

/// The agent's side of the guard.
#[derive(Debug)]
pub struct Guard {
    page: &'static Page,
    fence: Fence,
    /// Wakes the guard before its time.
    wake: EventFd,
    agent: Pid,
    /// How long what can't be seen to have been killed is waited for.
    patience: Duration,
    pid: Option<Pid>,
    /// Killed for their silence, and not reaped yet.
    dismissed: Vec<Pid>,
    /// Since when it is to be seen.
    due_since: u64,
    /// ...which it is given one more chance to deny: all may have slept together.
    suspected: bool,
}

/// Whether a leader can rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// It looks, or there is none whose silence would be news.
    Paid,
    /// It hasn't looked for so long.
    Silent(Duration),
}

/// Whose end it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The one that stood.
    Standing,
    /// One that had been replaced.
    Dismissed,
    /// No guard.
    Other,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Guard {
    /// Starts it. Best before anything else has memory or threads; it never strikes before it is told a time.
    /// `kill_margin` is how long after that time another may act.
    ///
    /// # Errors
    /// There is no page, no descriptor or no process to be had.
    pub fn start(fence: Fence, kill_margin: Duration) -> io::Result<Guard> {
        let page = shared_page()?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        // What the guard does to an agent that doesn't come to its senses; the default would do nothing to PID 1.
        signals::end_on_abort();
        let mut guard = Guard {
            page,
            fence,
            wake,
            agent: std::process::id() as Pid,
            patience: kill::patience(kill_margin),
            pid: None,
            dismissed: Vec::new(),
            due_since: 0,
            suspected: false,
        };
        guard.restart()?;
        if let Fence::ProcessGroup = guard.fence {
            tracing::warn!(
                event = "election.fence",
                "what leaves main's process group (setsid) is not killed when a leader's time is over, and may act on beside the next leader: the fence is that group"
            );
        }
        Ok(guard)
    }

    /// Starts another one in place of one that has ended. It knows the time.
    ///
    /// # Errors
    /// There is no descriptor or no process to be had.
    pub fn restart(&mut self) -> io::Result<()> {
        if self.pid.is_none() {
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
            let outlived = self.outlived()?;
            let process = process::GuardProcess {
                page: self.page,
                timer: timer.as_fd().as_raw_fd(),
                wake: self.wake.as_fd().as_raw_fd(),
                outlived: outlived.as_ref().map_or(-1, AsRawFd::as_raw_fd),
                kill: kill::KillPlan {
                    at: (&self.fence).into(),
                    agent: self.agent,
                    may_kill_anybody: kill::may_kill_anybody(),
                    patience: self.patience,
                    off: sabotage::is_on("guard"),
                },
                unwatched: sabotage::is_on("heartbeat"),
            };
            self.pid = Some(process::spawn(process)?);
            (self.due_since, self.suspected) = (process::now(), false);
        }
        Ok(())
    }

    /// By what the guard sees the agent's end, where not all ends with it: without PID 1, and PID 1's namespace, main is
    /// killed (prctl(2), PR_SET_PDEATHSIG), but its own children aren't.
    fn outlived(&self) -> io::Result<Option<OwnedFd>> {
        match (&self.fence, own_pidfd()) {
            _ if self.agent == 1 => Ok(None),
            (_, Ok(agent)) => Ok(Some(agent)),
            // It promises less, and Linux before 5.3 has none.
            (Fence::ProcessGroup, Err(_)) => Ok(None),
            (Fence::Cgroup(_) | Fence::Namespace, Err(error)) => {
                Err(io::Error::new(error.kind(), format!("a guard beside PID 1 needs pidfd_open(2): {error}")))
            }
        }
    }

    /// Everything is killed at this time; `None`: never. Tells whether the guard has looked at the page of late, as it
    /// does each second while there is a deadline.
    pub fn until(&mut self, deadline: Option<Time>) -> Attention {
        let deadline = deadline.map(nanoseconds);
        let before = self.page.deadline.swap(deadline.unwrap_or(0), SeqCst);
        // The guard writes when it will look, then reads the deadline once more before it sleeps: in the one order of
        // all these accesses either it has seen this deadline or we see for how long it sleeps. So a renewal, which
        // only moves the time on, wakes nobody.
        if deadline.is_some_and(|deadline| deadline < self.page.asleep_until.load(SeqCst)) {
            // It can only fail when its counter is full, and then the guard is being woken already.
            let _ = self.wake.write(1);
        }
        if before == 0 || deadline.is_none() {
            (self.due_since, self.suspected) = (process::now(), false);
        }
        self.attention()
    }

    fn attention(&mut self) -> Attention {
        if sabotage::is_on("heartbeat") {
            return Attention::Paid;
        }
        let seen = self.page.seen_at.load(SeqCst).max(self.due_since);
        let silence = Duration::from_nanos(process::now().saturating_sub(seen));
        let suspected = std::mem::replace(&mut self.suspected, self.pid.is_some() && silence > SILENT_AFTER);
        match self.suspected && suspected {
            true => Attention::Silent(silence),
            false => Attention::Paid,
        }
    }

    /// Lets it go on after a stop. It would by itself when it is to look next.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn resume(&self) -> io::Result<()> {
        match self.pid.filter(|_| !sabotage::is_on("heartbeat")) {
            Some(pid) => Ok(kill(nix::unistd::Pid::from_raw(pid), Signal::SIGCONT)?),
            None => Ok(()),
        }
    }

    /// Kills one that can't be relied on, and lets another take its place. Even a tracer can't keep it.
    pub fn dismiss(&mut self) {
        if let Some(pid) = self.pid.take() {
            // Our own child, not reaped: it can't be another's, and may always be killed.
            let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            self.dismissed.push(pid);
        }
    }

    /// The deadline as children see it.
    pub fn deadline(&self) -> Deadline {
        Deadline(self.page)
    }

    /// Main runs, in this process group.
    pub fn main_runs(&self, pid: Pid, group: Pid) {
        self.page.main.store(pid, SeqCst);
        self.page.group.store(group, SeqCst);
    }

    /// Main has ended and is reaped; others of its process group may live on.
    pub fn main_ended(&self) {
        self.page.main.store(0, SeqCst);
    }

    /// This is the keeper of a coprocess that runs for the leader only; `false`: there is no room for more.
    pub fn leads_beside(&self, keeper: Pid) -> bool {
        self.replace_keeper(0, keeper)
    }

    /// It has ended and is reaped.
    pub fn leads_no_more(&self, keeper: Pid) {
        // Most keepers are no leader's.
        let _ = self.replace_keeper(keeper, 0);
    }

    fn replace_keeper(&self, before: Pid, after: Pid) -> bool {
        let replace = |slot: &AtomicI32| slot.compare_exchange(before, after, SeqCst, SeqCst).is_ok();
        self.page.keepers.iter().any(replace)
    }

    /// Whether this group, in which main was, which has ended, is still that.
    pub fn is_mains(group: Pid) -> bool {
        kill::is_of(group, 0)
    }

    /// Nobody is left in main's process group. Its number may become another's from now on.
    pub fn group_ended(&self) {
        self.page.group.store(0, SeqCst);
    }

    /// Its process id while it stands.
    pub fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Notes that this child has ended and is reaped.
    pub fn ended(&mut self, pid: Pid) -> Ended {
        if self.pid.take_if(|guard| *guard == pid).is_some() {
            return Ended::Standing;
        }
        match self.dismissed.iter().position(|dismissed| *dismissed == pid) {
            Some(at) => {
                self.dismissed.swap_remove(at);
                Ended::Dismissed
            }
            None => Ended::Other,
        }
    }

    /// Every guard that isn't reaped.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.pid.into_iter().chain(self.dismissed.iter().copied())
    }
}

fn nanoseconds(time: Time) -> u64 {
    // Past the year 2554; 0 means something else, and before the last of all a guard that sleeps without end is woken.
    u64::try_from(time.from_boot().as_nanos()).unwrap_or(u64::MAX).clamp(1, u64::MAX - 1)
}

/// pidfd_open(2): readable when the process has ended.
#[allow(unsafe_code)]
fn own_pidfd() -> io::Result<OwnedFd> {
    // SAFETY: a new descriptor, closed on exec, that nobody else owns.
    unsafe {
        match libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor as RawFd)),
        }
    }
}

/// A page that every guard inherits. It stays for the agent's life.
#[allow(unsafe_code)]
fn shared_page() -> io::Result<&'static Page> {
    let size = std::num::NonZeroUsize::new(size_of::<Page>()).ok_or(io::ErrorKind::InvalidInput)?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice, all zero, which is a valid `Page`; it is aligned to a
    // page's size, never unmapped, and only ever accessed by atomic operations.
    unsafe { Ok(mmap_anonymous(None, size, access, MapFlags::MAP_SHARED)?.cast::<Page>().as_ref()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_was_over_when_something_was_decided_speaks_of_another_term() {
        let page = shared_page().unwrap();
        let (now, second) = (process::now(), 1_000_000_000);
        let decided = |at: u64| Time::since_boot(Duration::from_nanos(at));
        let passed_since = |at| Deadline(page).passed_since(decided(at));
        assert!(!passed_since(now), "there is none");
        page.deadline.store(now + 60 * second, SeqCst);
        assert!(!passed_since(now), "it is to come");
        page.deadline.store(now - second, SeqCst);
        assert!(passed_since(now - 2 * second) && !passed_since(now));
    }

    /// The number of a group that nobody is left in may be a process's again, which makes a group of its own of it.
    #[test]
    #[allow(clippy::disallowed_types, reason = "a child of the test's own, which nobody else reaps")]
    fn a_group_whose_number_is_a_process_that_is_not_main_is_another() {
        use std::os::unix::process::CommandExt;
        let spawn = |group| std::process::Command::new("sleep").arg("60").process_group(group).spawn().unwrap();
        let mut main = spawn(0);
        let group = main.id() as Pid;
        let mut worker = spawn(group);
        assert!(kill::is_of(group, group) && kill::is_of(group, worker.id() as Pid));
        // As if main had been reaped, and this were another one.
        assert!(!Guard::is_mains(group));
        main.kill().unwrap();
        main.wait().unwrap();
        assert!(Guard::is_mains(group), "its worker is left");
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
}
