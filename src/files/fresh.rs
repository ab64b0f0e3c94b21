//! A directory made where others may rename. No call makes and opens one at once, and by the time it is opened by its name
//! another one may be in its place, root's own and private, which is not to be given away for it. So it is known by a mode
//! that nothing else has, until it gets its own.

use std::os::fd::{AsFd, OwnedFd};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};

/// Sticky, which says who may remove what in it, and for nobody to put anything there.
const FRESH: Mode = Mode::from_bits_truncate(0o1555);
/// What no umask and no default ACL changes of it.
const TELLING: Mode = Mode::from_bits_truncate(0o1222);

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
    match Mode::from_bits_truncate(fstat(made)?.st_mode) & TELLING == FRESH & TELLING {
        true => finish(made),
        false => Ok(()),
    }
}
