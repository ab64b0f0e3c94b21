//! Files that aren't the image's own: the config names them, and somebody else may write on the way to them. Whoever
//! may, gains nothing by it: through their links and directories only that is opened which they could open themselves,
//! nothing but plain files, and none is waited for. It knows nothing of what the files mean.
//!
//! - [`find`]: walks to a place part by part, and sees in whose hands the way is.
//! - [`read`]: a plain file's content, up to a bound.
//! - [`directory`], [`make_directory`], [`make_in`]: one that is shared with others.
//! - [`Destination`]: a file replaced as a whole.
//! - [`SocketPlace`]: where a socket listens.
//! - [`Way`]: to where a child works, entered between fork and exec.
//! - [`beside`]: works on files beside the agent's only thread. [`Reader`]: reads there, one thread for each reader.

mod acl;
mod destination;
mod fresh;
mod hand;
mod outside;
mod pseudo;
mod reader;
mod scratch;
mod socket;
mod thread;
mod walk;
mod way;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};

pub use destination::{Access, Destination};
pub use fresh::make_in;
pub use hand::{share_own_group, share_private_groups};
pub use reader::Reader;
pub use scratch::{Look, Scratch};
pub use socket::{HeldSocket, SocketPlace};
#[cfg(test)]
pub(crate) use thread::where_no_thread_can_be_had;
pub use thread::{Turn, beside, beside_as_template, in_a_thread, no_thread};
pub use walk::{Place, find};
pub use way::Way;

/// A plain file's content, up to `most` bytes. A pipe or a device at the path is refused instead of waited for.
///
/// # Errors
/// It can't be read, isn't a plain file or longer than that; or who may write on the way to it may not read it.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_and_see_whose(path, most).map(|(bytes, _)| bytes)
}

/// The same, and why it may be somebody else's, if it may.
///
/// # Errors
/// As [`read`].
pub fn read_and_see_whose(path: &Path, most: u64) -> io::Result<(Vec<u8>, Option<String>)> {
    let (place, file) = open_place(path)?;
    Ok((read_all(file, most)?, place.not_ours()))
}

/// The same of one that is mounted from the host, as a rule, where it may be: /etc/passwd. Its way there counts as any file's.
///
/// # Errors
/// As [`read`].
pub fn read_hosts_and_see_whose(path: &Path, most: u64) -> io::Result<(Vec<u8>, Option<String>)> {
    let (mut place, file) = open_place(path)?;
    place.entry = Some(outside::about_hosts(&file)?);
    Ok((read_all(file, most)?, place.not_ours()))
}

fn read_all(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {most} bytes")));
    }
    Ok(bytes)
}

/// What keeps a file from being read, or, if it must, from being nobody else's; one that isn't there may come.
pub fn survey(path: &Path, must_be_ours: bool) -> Option<String> {
    match open_place(path) {
        Ok((place, _)) => place.not_ours().filter(|_| must_be_ours),
        // Whoever asks needn't have the right that the agent will have.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EACCES)) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// Opens a plain file for reading.
///
/// # Errors
/// As [`read`].
pub fn open(path: &Path) -> io::Result<File> {
    open_place(path).map(|(_, file)| file)
}

fn open_place(path: &Path) -> io::Result<(Place, File)> {
    while_replaced(|| {
        let place = find(path)?;
        place.readable_by_whoever_led_here()?;
        let file = place.open(OFlag::O_RDONLY)?;
        Ok((place, file))
    })
}

/// Looks again when a file was replaced between the look and the opening, as whoever rotates a secret does with rename(2).
fn while_replaced<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let (mut replaced, mut missing) = (0..20, 0..2);
    loop {
        let again = match open() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => (replaced.next(), error),
            // Behind a link that was just turned to another directory, it may have been in the one before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (missing.next(), error),
            result => return result,
        };
        if let (None, error) = again {
            return Err(error);
        }
    }
}

/// Opens a plain file that is there, to add to it.
///
/// # Errors
/// It isn't there, isn't a plain file, or whoever may change where the path leads may not write to it.
pub fn append(path: &Path) -> io::Result<File> {
    while_replaced(|| find(path)?.open_to_append())
}

/// Opens a directory.
///
/// # Errors
/// It can't be opened, or somebody's link led there who may not write there.
pub fn directory(path: &Path) -> io::Result<OwnedFd> {
    if path == Path::new("/") {
        return Ok(File::open(path)?.into());
    }
    while_replaced(|| find(path)?.open_directory())
}

/// Makes a directory of this mode, and those it is in; `false` when there is something at its path already.
///
/// # Errors
/// It can't be made, or whoever may change where the path leads may make none there.
pub fn make_directory(path: &Path, mode: u32) -> io::Result<bool> {
    let place = walk::find_making_parents(path)?;
    if place.entry.is_some() {
        return Ok(false);
    }
    if let Some(hand) = place.led_by.filter(|hand| !hand.may_replace(&place.about_directory, None)) {
        return Err(walk::refused(hand, "may make no directory there"));
    }
    let give = |made: &OwnedFd| fchmod(made, Mode::from_bits_truncate(mode));
    Ok(make_in(&place.directory, place.name.as_os_str(), give)?)
}

/// Where a file is by its path; one that is only a name is where we work.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What is said of anything but a plain file.
fn no_plain_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it isn't a plain file")
}

fn kind(about: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(about.st_mode & SFlag::S_IFMT.bits())
}

fn is_plain(about: &FileStat) -> bool {
    kind(about) == SFlag::S_IFREG
}

fn same(one: &FileStat, other: &FileStat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Opens an entry of a directory that was seen to be a plain file; fails when it is another one meanwhile.
fn open_seen(directory: impl AsFd, name: &std::ffi::OsStr, seen: &FileStat, how: OFlag) -> io::Result<File> {
    // O_NONBLOCK: should a pipe stand there by now, it isn't waited for. It means nothing to a plain file.
    let flags = how | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let now = fstat(&file)?;
    if !is_plain(&now) || !same(seen, &now) {
        return Err(replaced());
    }
    Ok(file)
}

fn replaced() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "it was replaced meanwhile")
}

#[cfg(test)]
mod tests;
