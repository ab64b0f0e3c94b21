//! How a small process of the agent's own lives beside it, from its fork on: it makes system calls on memory that was
//! there before and nothing else, for the runtime may have threads that held locks; it keeps no descriptor, no mount and
//! no heap that it doesn't need, and heeds no signal.

use std::os::fd::RawFd;
use std::ptr;

use libc::c_ulong;

use crate::supervisor::vocabulary::Pid;

use super::descriptors::Withhold;

/// From now on only SIGKILL and SIGSTOP reach this process.
///
/// # Safety
/// Only in a fresh child of the agent's.
#[allow(unsafe_code)]
pub unsafe fn block_all() {
    let all = u64::MAX;
    // SAFETY: a mask of the size given; nothing is written.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, ptr::null_mut::<u64>(), 8) };
}

/// This process is killed when the agent ends, and has ended already if the agent has.
///
/// # Safety
/// Only in a fresh child of the agent's.
#[allow(unsafe_code)]
pub unsafe fn die_with(agent: Pid) {
    // SAFETY: system calls.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong);
        // An agent that ended before this line sends nothing more.
        if libc::getppid() != agent {
            libc::_exit(0);
        }
    }
}

/// Leaves the agent's session: what is sent to its group isn't meant for this process.
///
/// # Safety
/// Only in a fresh child of the agent's.
#[allow(unsafe_code)]
pub unsafe fn leave_session() {
    // SAFETY: a system call.
    unsafe { libc::setsid() };
}

/// Leaves the agent's directory, to pin no mount; closes all but its `own` descriptors, which are put in order; lets go
/// of the agent's heap, which would become this process's alone, page by page, as the agent writes to its own.
///
/// # Safety
/// Only in a fresh child of the agent's, which from then on may touch nothing that lies in the heap.
#[allow(unsafe_code)]
pub unsafe fn withdraw(own: &mut [RawFd], withhold: &Withhold, heap: [(usize, usize); 2]) {
    // SAFETY: system calls; what lies in the heap parts is not used again.
    unsafe {
        libc::chdir(c"/".as_ptr());
        close_all_but(own, withhold);
        for (start, length) in heap {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
}

#[allow(unsafe_code)]
unsafe fn close_all_but(own: &mut [RawFd], withhold: &Withhold) {
    own.sort_unstable();
    // SAFETY: system calls.
    unsafe {
        match withhold {
            Withhold::Range => {
                let mut from = 0;
                for own in own.iter().copied() {
                    if own > from {
                        libc::syscall(libc::SYS_close_range, from, own - 1, 0);
                    }
                    from = own + 1;
                }
                libc::syscall(libc::SYS_close_range, from, RawFd::MAX, 0);
            }
            Withhold::Each(descriptors) => {
                for descriptor in [0, 1, 2].iter().chain(descriptors).filter(|descriptor| !own.contains(descriptor)) {
                    libc::close(*descriptor);
                }
            }
        }
    }
}

/// The heap as it is, in two parts: without what lies around the calling thread's own block, which a static C library
/// takes from the heap, and in which errno is. Empty parts where /proc doesn't tell.
#[allow(unsafe_code)]
pub fn heap() -> [(usize, usize); 2] {
    /// More than the block measures on either side of where the C library says it is.
    const AROUND: usize = 16 * 1024;
    const PAGE: usize = 4096;
    // SAFETY: neither changes anything.
    let (end, thread) = unsafe { (libc::syscall(libc::SYS_brk, 0) as usize, libc::pthread_self() as usize) };
    // proc_pid_stat(5): field 47, counted from field 3.
    let stat = std::fs::read("/proc/self/stat").unwrap_or_default();
    let start = super::tree::fields(&stat).and_then(|fields| fields.split_ascii_whitespace().nth(44)?.parse().ok());
    let Some(start) = start.filter(|start: &usize| *start > 0 && *start < end) else { return [(0, 0); 2] };
    let part = |from: usize, to: usize| {
        // Pages of 64 KiB, where there are such, only make the kernel refuse.
        let (from, to) = (from.next_multiple_of(PAGE), to / PAGE * PAGE);
        (from, to.saturating_sub(from))
    };
    [part(start, end.min(thread.saturating_sub(AROUND))), part(start.max(thread.saturating_add(AROUND)), end)]
}
