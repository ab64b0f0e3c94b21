//! A directory made where others may rename. No call makes and opens one at once, and by the time it is opened by its name
//! another one may be in its place, root's own and private, which is not to be given away for it. So it is known by a mode
//! that nothing else has, until it gets its own.

use std::os::fd::{AsFd, OwnedFd};

use nix::NixPath;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::geteuid;

/// Sticky, which says who may remove what in it, and for nobody to put anything there.
const FRESH: Mode = Mode::from_bits_truncate(0o1555);
/// What no umask and no default ACL changes of it; some file systems don't keep the sticky bit, for mkdir(2) needn't.
const UNWRITABLE: Mode = Mode::from_bits_truncate(0o222);

/// Makes a directory, to which `finish` then gives the owner and the mode it is to have; `false` when there is something
/// already. What has taken its place meanwhile stays as it is.
pub fn make_in(
    directory: impl AsFd,
    name: &(impl NixPath + ?Sized),
    finish: impl FnOnce(&OwnedFd) -> nix::Result<()>,
) -> nix::Result<bool> {
    match mkdirat(&directory, name, FRESH) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return Ok(false),
        Err(error) => return Err(error),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    finish_fresh(&openat(&directory, name, flags, Mode::empty())?, finish)?;
    Ok(true)
}

/// The second half: of a directory that is there.
pub(super) fn finish_fresh(made: &OwnedFd, finish: impl FnOnce(&OwnedFd) -> nix::Result<()>) -> nix::Result<()> {
    let about = fstat(made)?;
    let mode = Mode::from_bits_truncate(about.st_mode);
    // Where there is no sticky bit it is one of our own all the same, with nothing in it and for nobody to put anything
    // there: whoever makes that of another one gives nothing away.
    let is_fresh = || mode.contains(Mode::S_ISVTX) || (about.st_uid == geteuid().as_raw() && is_empty(made));
    match !mode.intersects(UNWRITABLE) && is_fresh() {
        true => finish(made),
        false => Ok(()),
    }
}

fn is_empty(directory: &OwnedFd) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let names = |entry: Result<nix::dir::Entry, Errno>| {
        entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))
    };
    Dir::openat(directory, ".", flags, Mode::empty()).is_ok_and(|mut entries| entries.iter().all(names))
}
