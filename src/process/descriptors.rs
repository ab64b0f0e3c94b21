//! Descriptors for a child: pipes, what stands in for an empty stdin, and those that it must not get.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// How descriptors are withheld from a child.
pub enum Withhold {
    /// By close_range(2) (Linux 5.11).
    Range,
    /// One by one, on older kernels.
    Each(Vec<RawFd>),
}

/// How descriptors can be withheld on this kernel.
#[allow(unsafe_code)]
pub fn withhold() -> Withhold {
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_uint;
    // SAFETY: a range in which no descriptor can be: the call changes nothing and tells whether it exists.
    match unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, flags) } {
        0 => Withhold::Range,
        _ => Withhold::Each(open_descriptors()),
    }
}

/// Every descriptor from 3 on that may be open.
#[allow(unsafe_code)]
fn open_descriptors() -> Vec<RawFd> {
    /// Without /proc and with a higher limit than this, what lies above is taken as not open.
    const MOST: libc::rlim_t = 65_536;
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        return numbers.filter(|number| *number > 2).collect();
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid place for the answer.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    (3..limit.rlim_cur.min(MOST) as RawFd).collect()
}

/// A pipe whose two ends are closed on exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// A descriptor for a child's empty stdin: /dev/null, or a pipe nobody writes to where there is no /dev.
pub fn nothing_to_read() -> io::Result<OwnedFd> {
    #[allow(unsafe_code)]
    // SAFETY: a valid path and flags; a descriptor that was returned is nobody else's.
    unsafe {
        match libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) {
            -1 => Ok(pipe()?.0),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}
