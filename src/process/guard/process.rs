//! The guard's own life: apart from the agent, from its fork on.

use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_ulong};

use crate::supervisor::vocabulary::Pid;

use super::kill::{KillPlan, KillScope};
use super::{LOOK_EVERY, Page, SeqCst};
use crate::process::apart;
use crate::process::descriptors::{self, Withhold};
use crate::process::signals::KIN_ENDED;

/// When nothing but the agent wakes the guard.
const NEVER: u64 = u64::MAX;

/// All the guard needs. It must lie on the stack, for the guard lets go of the heap.
pub struct GuardProcess {
    /// What it shares with the agent.
    pub page: &'static Page,
    /// A timer of CLOCK_BOOTTIME.
    pub timer: RawFd,
    /// The agent writes to it to be looked at.
    pub wake: RawFd,
    /// The agent's pidfd, where others outlive it; -1: the guard is killed when the agent ends.
    pub outlived: RawFd,
    /// How it kills.
    pub kill: KillPlan,
    /// Sabotage: nobody resumes it.
    pub unwatched: bool,
}

/// Starts the process.
///
/// # Errors
/// There is none to be had.
#[allow(unsafe_code)]
pub fn spawn(process: GuardProcess) -> io::Result<Pid> {
    let withhold = descriptors::withhold();
    let heap = apart::heap();
    // SAFETY: clone(2) without any flag is fork(2) with another signal at the child's end. The raw call, so nothing of
    // the C library's runs in the child; `stand` makes system calls only.
    unsafe {
        match libc::syscall(libc::SYS_clone, KIN_ENDED as c_ulong, 0, 0, 0, 0) {
            -1 => Err(io::Error::last_os_error()),
            0 => run(&process, &withhold, heap),
            pid => Ok(pid as Pid),
        }
    }
}

#[allow(unsafe_code)]
unsafe fn run(process: &GuardProcess, withhold: &Withhold, heap: [(usize, usize); 2]) -> ! {
    // SAFETY: as for `spawn`.
    unsafe {
        apart::block_all();
        if process.outlived == -1 {
            apart::die_with(process.kill.agent);
        }
        libc::prctl(libc::PR_SET_NAME, c"pilotfish-guard".as_ptr());
        let kill = match process.kill.at {
            KillScope::Cgroup(kill) => kill,
            KillScope::Namespace | KillScope::ProcessGroup => process.wake,
        };
        apart::leave_session();
        apart::withdraw(&mut [process.timer, process.wake, process.outlived, kill], withhold, heap);
        // Not to wait for storage when it counts. Where all isn't allowed (RLIMIT_MEMLOCK), the page may be.
        if libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT) == -1 {
            libc::mlock(ptr::from_ref(process.page).cast(), size_of::<Page>());
        }
        // Nor for a processor, where that is allowed (CAP_SYS_NICE).
        let mut first: libc::sched_param = std::mem::zeroed();
        first.sched_priority = 1;
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_RR, &raw const first);
        watch(process, if process.unwatched { None } else { resumption() })
    }
}

#[allow(unsafe_code)]
unsafe fn watch(process: &GuardProcess, resumption: Option<c_int>) -> ! {
    let page = process.page;
    let mut killed: Option<u64> = None;
    loop {
        let mut count = 0u64;
        // SAFETY: a valid place for eight bytes; the descriptor doesn't block.
        unsafe { libc::read(process.wake, (&raw mut count).cast(), size_of::<u64>()) };
        let now = now();
        page.seen_at.store(now, SeqCst);
        let deadline = page.deadline.load(SeqCst);
        // Read again each time it wakes: a time that was moved on while it slept is no time to strike.
        let look_again = match deadline {
            0 => {
                killed = None;
                NEVER
            }
            deadline if deadline > now => {
                killed = None;
                deadline.min(now.saturating_add(LOOK_EVERY.as_nanos() as u64))
            }
            _ => {
                let first = *killed.get_or_insert(now);
                // SAFETY: this is the guard.
                let pause = unsafe { process.kill.kill(page, Duration::from_nanos(now.saturating_sub(first))) };
                now.saturating_add(pause.as_nanos() as u64)
            }
        };
        page.asleep_until.store(look_again, SeqCst);
        // See `Guard::until`.
        if page.deadline.load(SeqCst) != deadline {
            continue;
        }
        // SAFETY: valid structs. Setting a timer also forgets that it has rung.
        unsafe {
            let at = if look_again == NEVER { 0 } else { look_again };
            let mut when: libc::itimerspec = std::mem::zeroed();
            when.it_value.tv_sec = (at / 1_000_000_000) as libc::time_t;
            when.it_value.tv_nsec = (at % 1_000_000_000) as _;
            libc::timerfd_settime(process.timer, libc::TFD_TIMER_ABSTIME, &raw const when, ptr::null_mut());
            if let Some(timer) = resumption {
                let none = ptr::null_mut::<libc::itimerspec>();
                libc::syscall(libc::SYS_timer_settime, timer, libc::TIMER_ABSTIME, &raw const when, none);
            }
            let look = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // poll(2) passes over -1.
            let mut asked = [look(process.outlived), look(process.timer), look(process.wake)];
            libc::poll(asked.as_mut_ptr(), 3, -1);
            if asked[0].revents & libc::POLLIN != 0 {
                // Whom it leaves acting nobody but the guard can end, and nobody renews any more. Without a deadline
                // there is nothing to end.
                if page.deadline.load(SeqCst) != 0 {
                    process.kill.kill_survivors(page);
                }
                libc::_exit(0);
            }
        }
    }
}

/// A timer that resumes this process when it is stopped, by a SIGCONT that the kernel sends: who stops the agent as well
/// leaves nobody else to do it. SIGCONT resumes when it is sent, blocked or not (`prepare_signal` in kernel/signal.c).
#[allow(unsafe_code)]
unsafe fn resumption() -> Option<c_int> {
    // SAFETY: a valid struct, and a valid place for the answer.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGCONT;
        let mut timer: c_int = 0;
        let made = libc::syscall(libc::SYS_timer_create, libc::CLOCK_BOOTTIME, &raw const event, &raw mut timer);
        (made == 0).then_some(timer)
    }
}

/// Nanoseconds of CLOCK_BOOTTIME.
#[allow(unsafe_code)]
pub fn now() -> u64 {
    // SAFETY: a valid place for the answer; the clock is there since Linux 2.6.39.
    let now = unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now);
        now
    };
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}
