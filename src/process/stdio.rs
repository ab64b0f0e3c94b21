//! Standard descriptors given to the user of who gets them, as runc does for a container's own user: /dev/stdout and
//! /dev/stderr lead to them, and opening those by name is a question of whose they are.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::{Uid, fchown, isatty};

/// Gives a child's standard descriptors, or the agent's own where it has none, to this user: pipes, and the terminal
/// of a container (`terminals`). Everything else stays whose it is: /dev/null is everybody's, a file is somebody's log,
/// and a terminal outside a container is somebody's session. What can't be given (a read-only file system, no right to)
/// stays too, as with runc.
pub fn give(stdio: Option<&[OwnedFd; 3]>, uid: libc::uid_t, terminals: bool) {
    for standard in 0..3 {
        let number = stdio.map_or(standard, |stdio| stdio[standard as usize].as_raw_fd());
        // SAFETY: it is only looked at and given away; whether it is open is what is being asked.
        #[allow(unsafe_code)]
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        if fstat(descriptor).is_ok_and(|about| about.st_uid != uid && may_be_given(&about, descriptor, terminals)) {
            let _ = fchown(descriptor, Some(Uid::from_raw(uid)), None);
        }
    }
}

fn may_be_given(about: &FileStat, descriptor: BorrowedFd<'_>, terminals: bool) -> bool {
    match SFlag::from_bits_truncate(about.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFIFO => true,
        SFlag::S_IFCHR => terminals && isatty(descriptor).unwrap_or(false),
        _ => false,
    }
}
