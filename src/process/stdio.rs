//! Standard descriptors given to the user of who gets them, as runc does for a container's own user: /dev/stdout and
//! /dev/stderr lead to them, and opening those by name is a question of whose they are.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Uid, fchown, isatty};

/// Where pipes without a name are (PIPEFS_MAGIC, linux/magic.h).
const PIPEFS: FsType = FsType(0x5049_5045);

/// Gives a child's standard descriptors, or the agent's own where it has none, to this user: pipes without a name, and the
/// terminal of a container (`terminals`). Everything else stays whose it is: /dev/null is everybody's, a file is somebody's
/// log, a pipe with a name is in somebody's directory, and a terminal outside a container is somebody's session. What can't
/// be given (a read-only file system, no right to) stays too, as with runc.
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
        SFlag::S_IFIFO => fstatfs(descriptor).is_ok_and(|about| about.filesystem_type() == PIPEFS),
        SFlag::S_IFCHR => terminals && isatty(descriptor).unwrap_or(false),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn a_pipe_without_a_name_is_given_and_one_with_a_name_stays_whose_it_is() {
        const OTHER: u32 = 65_534;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let named = OwnedFd::from(OpenOptions::new().read(true).write(true).open(&path).unwrap());
        let (reads, writes) = std::io::pipe().unwrap();
        let stdio = [OwnedFd::from(reads), OwnedFd::from(writes), named];
        give(Some(&stdio), OTHER, true);
        let own = nix::unistd::geteuid().as_raw();
        let given = if own == 0 { OTHER } else { own };
        assert_eq!(stdio.each_ref().map(|one| fstat(one).unwrap().st_uid), [given, given, own]);
    }
}
