//! Directories and files of the catalog, by descriptor: no symbolic link inside the shared directory is ever
//! followed. It knows nothing of what the files mean.
//!
//! **Who may do what.** Containers of one host run as different users, and each must be able to remove what a dead one
//! of another user left. So the directories the catalog makes are 0777 without the sticky bit, and its files can be read
//! by everyone. Whoever may write in the shared directory may therefore register anything, as with a Consul without ACL;
//! to narrow that, give the directory itself (or its parent) a group and a mode: a directory that is already there keeps
//! them. They may do no more than that: no link is followed, nothing is read that isn't for everyone to read, no file that
//! has a second name is touched, and nothing removed that doesn't look like an agent's, in a directory that does.
//!
//! **Who can only read changes nothing.** What a lock decides is decided by write locks of open file descriptions
//! (fcntl(2), F_OFD_SETLK), which need a descriptor to write by, and they are asked for as a reader would ask: so no
//! read lock, and no flock(2), makes a dead file live or keeps anybody from its place. A file is locked before it has
//! its name. A reader who is the agents' own user may also lease a file (F_SETLEASE), so that nobody can open it; but
//! none that anybody else has open, and so what elections rest on stays open at each agent that has seen it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, Flock, FlockArg, OFlag, RenameFlags, fcntl, openat, renameat, renameat2};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use super::Error;
use crate::catalog::bounds;
use crate::files::make_in;
use crate::net::backoff;

/// The largest instance or value, as in Consul.
pub(super) const LARGEST: u64 = 512 * 1024;

/// The most names read from one directory.
pub(super) const MOST_NAMES: usize = bounds::MOST_ITEMS;

/// And the most that are read for them, those that mean nothing included.
const MOST_READ: usize = 2 * MOST_NAMES;

const EVERYONE: Mode = Mode::from_bits_truncate(0o777);
const READABLE: Mode = Mode::from_bits_truncate(0o644);
/// A file that lives as long as its holder; that nobody else may write it says that it is held by a write lock.
const HELD: Mode = Mode::from_bits_truncate(0o444);
/// Until it is complete and locked.
const UNFINISHED: Mode = Mode::from_bits_truncate(0o600);
/// Who reads along in the scratch directory may lock a new file before its maker does, now and then.
const STAGINGS: usize = 5;
/// An exclusive lock needs a descriptor to write by.
const LOCKABLE: Mode = Mode::from_bits_truncate(0o666);
/// More than an agent's own election, those whose leaders it follows, and the directory's mark need.
const MOST_KEPT: usize = 64;

/// Files that stay open, by their paths.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<BTreeMap<PathBuf, Arc<File>>>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<File>>> {
        // Each change is one assignment: a panic can't have left it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open directory and the path it was reached by.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    kept: Kept,
}

/// A new file under a name of its own in the scratch directory, locked since before it had content.
#[derive(Debug)]
pub(super) struct Staged {
    /// The open, locked file.
    pub(super) file: File,
    name: String,
}

impl Folder {
    /// Opens the user's own directory; a link that somebody else put on the way leads only to where they may write.
    /// `None` when there is none.
    pub(super) fn at(path: &Path, kept: &Kept) -> Result<Option<Folder>, Error> {
        match crate::files::directory(path) {
            Ok(fd) => Ok(Some(Folder { fd, path: path.to_owned(), kept: kept.clone() })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::refused("open", path)(errno(&error))),
        }
    }

    /// The directory of this name in this one; `None` when there is none.
    pub(super) fn sub(&self, name: &str) -> Result<Option<Folder>, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Folder { fd, path: self.path_of(name), kept: self.kept.clone() })),
            Err(Errno::ENOENT) => Ok(None),
            Err(source) => Err(Error::refused("open", self.path_of(name))(source)),
        }
    }

    /// The same, and makes it, open to everyone, when there is none.
    pub(super) fn make(&self, name: &str) -> Result<Folder, Error> {
        if let Some(folder) = self.sub(name)? {
            return Ok(folder);
        }
        let opened = make_in(&self.fd, name, |made| fchmod(made, EVERYONE));
        opened.map_err(Error::refused("make", self.path_of(name)))?;
        self.sub(name)?.ok_or_else(|| Error::refused("open", self.path_of(name))(Errno::ENOENT))
    }

    /// Its descriptor, for what isn't in this file.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Brings the names in it to the disk.
    pub(super) fn sync(&self) -> Result<(), Error> {
        fsync(&self.fd).map_err(Error::refused("sync", &self.path))
    }

    /// How it was reached.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How a file in it is reached, for people.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Which directory it is, whatever its path.
    pub(super) fn identity(&self) -> Result<FileId, Error> {
        fstat(&self.fd).map(FileId::of).map_err(Error::refused("look at", &self.path))
    }

    /// Opens a regular file for reading. `None` when there is none, or something that is no file of the catalog: a link,
    /// a pipe, a directory, or a file somebody brought here to have it read for them, by a second name or by moving it.
    pub(super) fn file(&self, name: &str) -> Result<Option<File>, Error> {
        // O_NONBLOCK: somebody's pipe must not be waited for. It means nothing to a regular file.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
            Err(Errno::EWOULDBLOCK) => return Err(Error::Leased { path: self.path_of(name) }),
            Err(source) => return Err(Error::refused("open", self.path_of(name))(source)),
        };
        let about = file.metadata().map_err(|e| Error::refused("look at", self.path_of(name))(errno(&e)))?;
        let for_everyone = Mode::from_bits_truncate(about.mode()).contains(Mode::S_IROTH);
        Ok((about.is_file() && about.nlink() <= 1 && for_everyone).then_some(file))
    }

    /// The same, of one that is replaced and never written again: it stays open from the first time on.
    pub(super) fn kept(&self, name: &str) -> Result<Option<Arc<File>>, Error> {
        let path = self.path_of(name);
        let known = self.kept.lock().get(&path).cloned();
        if let Some(file) = known
            && self.holds(name, &file)?
        {
            return Ok(Some(file));
        }
        let file = self.file(name)?.map(Arc::new);
        let mut kept = self.kept.lock();
        match &file {
            Some(file) if kept.len() < MOST_KEPT || kept.contains_key(&path) => drop(kept.insert(path, file.clone())),
            Some(_) => {}
            None => drop(kept.remove(&path)),
        }
        Ok(file)
    }

    /// Opens a file to be locked by anyone, and makes it when there is none.
    pub(super) fn lockable(&self, name: &str) -> Result<File, Error> {
        let refused = |action| Error::refused(action, self.path_of(name));
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        // Somebody may remove it between the two.
        for _ in 0..5 {
            match openat(&self.fd, name, flags | OFlag::O_CREAT | OFlag::O_EXCL, LOCKABLE) {
                Ok(made) => {
                    // What the umask took.
                    fchmod(&made, LOCKABLE).map_err(refused("open to everyone"))?;
                    return Ok(File::from(made));
                }
                Err(Errno::EEXIST) => {}
                Err(source) => return Err(refused("make")(source)),
            }
            let file = match openat(&self.fd, name, flags, Mode::empty()) {
                Ok(file) => File::from(file),
                Err(Errno::ENOENT) => continue,
                Err(source) => return Err(refused("open")(source)),
            };
            let about = file.metadata().map_err(|e| refused("look at")(errno(&e)))?;
            // An agent's is for everybody to write. Another was moved here, perhaps by who may not, and main gets this
            // descriptor.
            let for_everyone = Mode::from_bits_truncate(about.mode()).contains(LOCKABLE);
            return match about.is_file() && about.nlink() <= 1 && for_everyone {
                true => Ok(file),
                false => Err(Error::NoLock { path: self.path_of(name) }),
            };
        }
        Err(refused("make")(Errno::EAGAIN))
    }

    /// Whether this open file is the one at the path now.
    pub(super) fn holds(&self, name: &str, file: &File) -> Result<bool, Error> {
        self.is(name, file).map_err(Error::refused("look at", self.path_of(name)))
    }

    fn is(&self, name: &str, file: &File) -> Result<bool, Errno> {
        let there = match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) => FileId::of(there),
            Err(Errno::ENOENT) => return Ok(false),
            Err(source) => return Err(source),
        };
        Ok(there == FileId::of_file(file)?)
    }

    /// Removes a file; whether there was one.
    pub(super) fn remove(&self, name: &str) -> Result<bool, Error> {
        self.unlink(name).map_err(Error::refused("remove", self.path_of(name)))
    }

    fn unlink(&self, name: &str) -> Result<bool, Errno> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(source) => Err(source),
        }
    }

    /// For `map_err`: what was tried with a file in it whose name is another each time. The error doesn't tell the name,
    /// so that a failure that goes on is said once.
    fn refused_in_it(&self, action: &'static str) -> impl FnOnce(Errno) -> Error {
        Error::refused(action, &self.path)
    }

    /// Whether anybody may put something into it.
    pub(super) fn is_for_others(&self) -> Result<bool, Error> {
        Ok(self.mode()?.contains(Mode::S_IWOTH))
    }

    /// Whether anybody may remove whatever is in it, as in each directory that agents make: only there may an agent do so by
    /// its own rights, for another may be somebody's that was moved here.
    pub(super) fn is_anybodys_to_tidy(&self) -> Result<bool, Error> {
        let mode = self.mode()?;
        Ok(mode.contains(Mode::S_IWOTH) && !mode.contains(Mode::S_ISVTX))
    }

    fn mode(&self) -> Result<Mode, Error> {
        let about = fstat(&self.fd).map_err(Error::refused("look at", &self.path))?;
        Ok(Mode::from_bits_truncate(about.st_mode))
    }

    /// Removes a file of an agent's that nobody holds; whether it did. What no agent can have written stays, and so does all
    /// in a directory that no agent can have made.
    pub(super) fn remove_dead(&self, name: &str, file: File) -> Result<bool, Error> {
        if !self.is_anybodys_to_tidy()? {
            return Ok(false);
        }
        let is_ours = match text(&file, self.path_of(name)) {
            Ok(Some(text)) => text.is_empty() || serde_json::from_str::<serde_json::Map<_, _>>(&text).is_ok(),
            Ok(None) | Err(Error::TooMuch { .. }) => false,
            Err(error) => return Err(error),
        };
        if is_ours { self.take_away(name, &file) } else { Ok(false) }
    }

    /// Removes a file nobody holds; whether it did. Several may try at once, and somebody may put a new file there
    /// meanwhile. No lock keeps them apart, for a reader could hold it for ever: each moves what is there to a name of
    /// its own, looks what it got, and brings back what it wasn't to take. (Should another new one be there by then, the
    /// holder of the one that can't be brought back learns at its next heartbeat that it isn't registered.)
    pub(super) fn take_away(&self, name: &str, file: &File) -> Result<bool, Error> {
        let refused = |action| Error::refused(action, self.path_of(name));
        let gone = format!(".{:016x}", backoff::random());
        match renameat(&self.fd, name, &self.fd, gone.as_str()) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Ok(false),
            Err(source) => return Err(refused("remove")(source)),
        }
        let is_it = self.is(&gone, file).map_err(refused("look at"))?
            && !is_held(file).map_err(refused("ask for the lock of"))?;
        if !is_it {
            match renameat2(&self.fd, gone.as_str(), &self.fd, name, RenameFlags::RENAME_NOREPLACE) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(false),
                Err(_) => {}
            }
        }
        self.unlink(&gone).map(|_| is_it).map_err(refused("remove"))
    }

    /// Puts a locked file in the place of one that nobody holds, though a reader's lock keeps everybody from locking it;
    /// `None` when it is another one, or held, by now. At no moment is there none.
    pub(super) fn change_obstructed(
        &self,
        staged: Staged,
        to: &Folder,
        name: &str,
        old: &File,
    ) -> Result<Option<File>, Error> {
        let refused = |action| Error::refused(action, to.path_of(name));
        let exchange = || {
            let flags = RenameFlags::RENAME_EXCHANGE;
            renameat2(&self.fd, staged.name.as_str(), &to.fd, name, flags).map_err(refused("put another in place of"))
        };
        let changed = exchange().and_then(|()| {
            let is_it = self.is(&staged.name, old).map_err(refused("look at"))?
                && !is_write_locked(old).map_err(refused("ask for the lock of"))?;
            if !is_it {
                exchange()?;
            }
            Ok(is_it)
        });
        self.unlink(&staged.name).map_err(self.refused_in_it("remove a file in"))?;
        changed.map(|is_it| is_it.then_some(staged.file))
    }

    /// The names in it that are UTF-8 and don't begin with a dot.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        self.names_of(|_| true)
    }

    /// Those of them that mean something.
    pub(super) fn names_of(&self, means: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        match self.read_names(MOST_READ, |name| {
            if means(name) {
                names.push(name.to_owned());
            }
            names.len() <= MOST_NAMES
        })? {
            true => Ok(names),
            false => {
                let what = format!("the number of files in {}", self.path.display());
                Err(Error::TooMuch { what, limit: MOST_NAMES.to_string() })
            }
        }
    }

    /// Some of the names that mean something, of the first ones that are there.
    pub(super) fn some_names(&self, most: usize, means: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        self.read_names(most, |name| {
            if means(name) {
                names.push(name.to_owned());
            }
            true
        })?;
        Ok(names)
    }

    /// Reads names for as long as more are wanted, and so many at most; whether that was all.
    fn read_names(&self, most: usize, mut wants_more: impl FnMut(&str) -> bool) -> Result<bool, Error> {
        let refused = |source| Error::refused("list", &self.path)(source);
        // A second descriptor: the position in a directory belongs to the open description.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = openat(&self.fd, ".", flags, Mode::empty()).and_then(Dir::from_fd).map_err(refused)?;
        for (read, entry) in dir.iter().enumerate() {
            let entry = entry.map_err(refused)?;
            let name = entry.file_name().to_str().ok().filter(|name| !name.starts_with('.'));
            // What isn't kept is read all the same.
            if read > most || name.is_some_and(|name| !wants_more(name)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes a locked file with this content here, in the scratch directory. It is held for writing, so that the
    /// kernel tells of its closing (IN_CLOSE_WRITE) when its holder dies.
    pub(super) fn stage(&self, content: &[u8], mode: Mode) -> Result<Staged, Error> {
        let mut last = Errno::EAGAIN;
        for _ in 0..STAGINGS {
            let name = format!("{:016x}", backoff::random());
            let refused = |action| self.refused_in_it(action);
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mut file =
                File::from(openat(&self.fd, name.as_str(), flags, UNFINISHED).map_err(refused("make a file in"))?);
            let written = (|| {
                fcntl(&file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK)))?;
                std::io::Write::write_all(&mut file, content).map_err(|e| errno(&e))?;
                fchmod(&file, mode)
            })();
            match written {
                Ok(()) => return Ok(Staged { file, name }),
                Err(source) => {
                    // The first error is the one to tell; what can't be removed now is swept later.
                    let _ = self.unlink(&name);
                    if !matches!(source, Errno::EAGAIN | Errno::EACCES) {
                        return Err(refused("write a file in")(source));
                    }
                    last = source;
                }
            }
        }
        Err(self.refused_in_it("lock a new file in")(last))
    }

    /// Puts a staged file where none is. `None` when meanwhile there is one.
    pub(super) fn put_new(&self, staged: Staged, to: &Folder, name: &str) -> Result<Option<File>, Error> {
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(&self.fd, staged.name.as_str(), &to.fd, name, flags) {
            Ok(()) => Ok(Some(staged.file)),
            Err(Errno::EEXIST) => {
                self.unlink(&staged.name).map_err(self.refused_in_it("remove a file in"))?;
                Ok(None)
            }
            // zfs before 2.2 can't: two agents with one id that start in the same microsecond then both succeed, and
            // the heartbeat of the one that lost tells.
            Err(Errno::EINVAL | Errno::ENOSYS) => self.put_over(staged, to, name).map(Some),
            Err(source) => self.give_up(staged, to, name, source),
        }
    }

    /// Puts a staged file where one may be: whoever opens the path sees the old file or the new one.
    pub(super) fn put_over(&self, staged: Staged, to: &Folder, name: &str) -> Result<File, Error> {
        match renameat(&self.fd, staged.name.as_str(), &to.fd, name) {
            Ok(()) => Ok(staged.file),
            Err(source) => self.give_up(staged, to, name, source),
        }
    }

    fn give_up<T>(&self, staged: Staged, to: &Folder, name: &str, source: Errno) -> Result<T, Error> {
        // As in `stage`.
        let _ = self.unlink(&staged.name);
        Err(Error::refused("put in place", to.path_of(name))(source))
    }
}

/// Everyone may read, its owner write.
pub(super) fn readable() -> Mode {
    READABLE
}

/// Everyone may lock it: that takes a descriptor to write by.
pub(super) fn lockable() -> Mode {
    LOCKABLE
}

/// Everyone may read, and nobody write: a file that lives as long as its holder.
pub(super) fn held() -> Mode {
    HELD
}

/// Whether somebody holds a file. A write lock, which needs a descriptor to write by, always counts; a flock(2), which
/// doesn't, only for a file that its owner may write: such are made by other programs than agents.
pub(super) fn is_held(file: &File) -> Result<bool, Errno> {
    if is_write_locked(file)? {
        return Ok(true);
    }
    let about = fstat(file)?;
    if !Mode::from_bits_truncate(about.st_mode).contains(Mode::S_IWUSR) {
        return Ok(false);
    }
    let again = file.try_clone().map_err(|e| errno(&e))?;
    match Flock::lock(again, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, source)) => Err(source),
    }
}

/// Whether another description has a write lock on a file. Asked for as a reader would: its likes are no answer.
pub(super) fn is_write_locked(file: impl AsFd) -> Result<bool, Errno> {
    let mut asked = whole(libc::F_RDLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked))?;
    Ok(i32::from(asked.l_type) != libc::F_UNLCK)
}

/// The whole file.
pub(super) fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        // Must be 0 (fcntl(2)).
        l_pid: 0,
    }
}

/// All of a file's text. `None` when it isn't UTF-8.
pub(super) fn text(file: &File, path: PathBuf) -> Result<Option<String>, Error> {
    Ok(String::from_utf8(bytes(file, path)?).ok())
}

/// All of a file's content.
pub(super) fn bytes(file: &File, path: PathBuf) -> Result<Vec<u8>, Error> {
    up_to(LARGEST, file, path)
}

/// The same, of a file that is no longer than this.
pub(super) fn up_to(most: u64, file: &File, path: PathBuf) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = FromStart { file, at: 0 }.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::refused("read", &path)(errno(&e)))?;
    if bytes.len() as u64 > most {
        return Err(Error::TooMuch { what: path.display().to_string(), limit: format!("{most} bytes") });
    }
    Ok(bytes)
}

/// A file as it is read by nobody else meanwhile: several may read one description.
struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Brings a file's content to the disk.
pub(super) fn sync(file: &File, path: &Path) -> Result<(), Error> {
    fsync(file).map_err(Error::refused("sync", path))
}

/// Which file it is, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    // The fields' types differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    fn of(about: FileStat) -> FileId {
        FileId { device: about.st_dev as u64, inode: about.st_ino as u64 }
    }

    /// Of an open file.
    pub(super) fn of_file(file: impl AsFd) -> Result<FileId, Errno> {
        fstat(file).map(FileId::of)
    }
}

/// The kernel's number of an error of std's; those without one are refusals of [`crate::files`].
pub(super) fn errno(error: &std::io::Error) -> Errno {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => Errno::EACCES,
        _ => error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
    }
}
