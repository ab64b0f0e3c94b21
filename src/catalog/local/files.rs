//! Directories and files of the catalog, by descriptor: no symbolic link inside the shared directory is ever
//! followed. It knows nothing of what the files mean.
//!
//! **Who may do what.** Containers of one host run as different users, and each must be able to remove what a dead one
//! of another user left. So the directories the catalog makes are 0777 without the sticky bit, and its files 0644: to
//! lock a file one need only be able to read it. Whoever may write in the shared directory may therefore register
//! anything, as with a Consul without ACL; to narrow that, give the directory itself (or its parent) a group and a
//! mode: a directory that is already there keeps them.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, RenameFlags, open, openat, renameat, renameat2};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use super::Error;
use crate::catalog::pace;

/// The largest instance or value, as in Consul.
pub(super) const LARGEST: u64 = 512 * 1024;

/// The most names read from one directory.
pub(super) const MOST_NAMES: usize = 10_000;

const EVERYONE: Mode = Mode::from_bits_truncate(0o777);
const READABLE: Mode = Mode::from_bits_truncate(0o644);
/// An exclusive lock needs a descriptor to write by.
const LOCKABLE: Mode = Mode::from_bits_truncate(0o666);

/// An open directory and the path it was reached by.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// A new file under a name of its own in the scratch directory, locked since before it had content.
#[derive(Debug)]
pub(super) struct Staged {
    /// The open, locked file.
    pub(super) file: Flock<File>,
    name: String,
}

impl Folder {
    /// Opens the user's own directory; links on the way to it are the user's business. `None` when there is none.
    pub(super) fn at(path: &Path) -> Result<Option<Folder>, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Folder { fd, path: path.to_owned() })),
            Err(Errno::ENOENT) => Ok(None),
            Err(source) => Err(Error::refused("open", path)(source)),
        }
    }

    /// The directory of this name in this one; `None` when there is none.
    pub(super) fn sub(&self, name: &str) -> Result<Option<Folder>, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Folder { fd, path: self.path_of(name) })),
            Err(Errno::ENOENT) => Ok(None),
            Err(source) => Err(Error::refused("open", self.path_of(name))(source)),
        }
    }

    /// The same, and makes it, open to everyone, when there is none.
    pub(super) fn make(&self, name: &str) -> Result<Folder, Error> {
        if let Some(folder) = self.sub(name)? {
            return Ok(folder);
        }
        let made = match mkdirat(&self.fd, name, EVERYONE) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(source) => return Err(Error::refused("make", self.path_of(name))(source)),
        };
        let folder = self.sub(name)?.ok_or_else(|| Error::refused("open", self.path_of(name))(Errno::ENOENT))?;
        if made {
            folder.open_to_everyone()?;
        }
        Ok(folder)
    }

    /// Takes back what the umask took.
    pub(super) fn open_to_everyone(&self) -> Result<(), Error> {
        fchmod(&self.fd, EVERYONE).map_err(Error::refused("open to everyone", &self.path))
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
    pub(super) fn identity(&self) -> Result<Identity, Error> {
        fstat(&self.fd).map(Identity::of).map_err(Error::refused("look at", &self.path))
    }

    /// Opens a regular file for reading. `None` when there is none, or something that is no file of the catalog (a
    /// link, a pipe, a directory).
    pub(super) fn file(&self, name: &str) -> Result<Option<File>, Error> {
        // O_NONBLOCK: somebody's pipe must not be waited for. It means nothing to a regular file.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
            Err(source) => return Err(Error::refused("open", self.path_of(name))(source)),
        };
        let about = file.metadata().map_err(|e| Error::refused("look at", self.path_of(name))(errno(&e)))?;
        Ok(about.is_file().then_some(file))
    }

    /// Opens a file to be locked by anyone, and makes it when there is none.
    pub(super) fn lockable(&self, name: &str) -> Result<File, Error> {
        let refused = |action| Error::refused(action, self.path_of(name));
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.fd, name, flags, LOCKABLE).map_err(refused("open"))?);
        // What the umask took. Whoever isn't its owner has nothing to give back.
        let _ = fchmod(&file, LOCKABLE);
        Ok(file)
    }

    /// Whether this open file is the one at the path now.
    pub(super) fn holds(&self, name: &str, file: &File) -> Result<bool, Error> {
        let there = match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) => Identity::of(there),
            Err(Errno::ENOENT) => return Ok(false),
            Err(source) => return Err(Error::refused("look at", self.path_of(name))(source)),
        };
        let here = fstat(file).map_err(Error::refused("look at", self.path_of(name)))?;
        Ok(there == Identity::of(here))
    }

    /// Removes a file; whether there was one.
    pub(super) fn remove(&self, name: &str) -> Result<bool, Error> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(source) => Err(Error::refused("remove", self.path_of(name))(source)),
        }
    }

    /// Removes a file nobody holds a lock on; whether it did. Several may try at once, and somebody may put a new
    /// file there meanwhile: only who holds the lock of the file at the path removes or replaces it.
    pub(super) fn remove_dead(&self, name: &str, file: File) -> Result<bool, Error> {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) if self.holds(name, &lock)? => self.remove(name),
            Ok(_) | Err((_, Errno::EWOULDBLOCK)) => Ok(false),
            Err((_, source)) => Err(Error::refused("lock", self.path_of(name))(source)),
        }
    }

    /// The names in it that are UTF-8 and don't begin with a dot.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let refused = |source| Error::refused("list", &self.path)(source);
        // A second descriptor: the position in a directory belongs to the open description.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = openat(&self.fd, ".", flags, Mode::empty()).and_then(Dir::from_fd).map_err(refused)?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(refused)?;
            if let Ok(name) = entry.file_name().to_str()
                && !name.starts_with('.')
            {
                names.push(name.to_owned());
            }
            if names.len() > MOST_NAMES {
                let what = format!("the number of files in {}", self.path.display());
                return Err(Error::TooMuch { what, limit: MOST_NAMES.to_string() });
            }
        }
        Ok(names)
    }

    /// Makes a locked file with this content here, in the scratch directory. It is held for writing, so that the
    /// kernel tells of its closing (IN_CLOSE_WRITE) when its holder dies.
    pub(super) fn stage(&self, content: &[u8], mode: Mode) -> Result<Staged, Error> {
        let name = format!("{:016x}", pace::random());
        let refused = |action| Error::refused(action, self.path_of(&name));
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = File::from(openat(&self.fd, name.as_str(), flags, READABLE).map_err(refused("make"))?);
        let written = (|| {
            let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, source)| source)?;
            fchmod(&*file, mode)?;
            std::io::Write::write_all(&mut *file, content).map_err(|e| errno(&e))?;
            Ok(file)
        })();
        match written {
            Ok(file) => Ok(Staged { file, name }),
            Err(source) => {
                // The first error is the one to tell; what can't be removed now is swept later.
                let _ = self.remove(&name);
                Err(refused("write")(source))
            }
        }
    }

    /// Puts a staged file where none is. `None` when meanwhile there is one.
    pub(super) fn put_new(&self, staged: Staged, to: &Folder, name: &str) -> Result<Option<Flock<File>>, Error> {
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(&self.fd, staged.name.as_str(), &to.fd, name, flags) {
            Ok(()) => Ok(Some(staged.file)),
            Err(Errno::EEXIST) => {
                self.remove(&staged.name)?;
                Ok(None)
            }
            // zfs before 2.2 can't: two agents with one id that start in the same microsecond then both succeed, and
            // the heartbeat of the one that lost tells.
            Err(Errno::EINVAL | Errno::ENOSYS) => self.put_over(staged, to, name).map(Some),
            Err(source) => self.give_up(staged, to, name, source),
        }
    }

    /// Puts a staged file where one may be: whoever opens the path sees the old file or the new one.
    pub(super) fn put_over(&self, staged: Staged, to: &Folder, name: &str) -> Result<Flock<File>, Error> {
        match renameat(&self.fd, staged.name.as_str(), &to.fd, name) {
            Ok(()) => Ok(staged.file),
            Err(source) => self.give_up(staged, to, name, source),
        }
    }

    fn give_up<T>(&self, staged: Staged, to: &Folder, name: &str, source: Errno) -> Result<T, Error> {
        // As in `stage`.
        let _ = self.remove(&staged.name);
        Err(Error::refused("put in place", to.path_of(name))(source))
    }
}

/// Everyone may read, its owner write.
pub(super) fn readable() -> Mode {
    READABLE
}

/// All of a file's text. `None` when it is no UTF-8.
pub(super) fn text(file: &mut File, path: PathBuf) -> Result<Option<String>, Error> {
    let mut bytes = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::refused("read", &path)(errno(&e)))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::TooMuch { what: path.display().to_string(), limit: format!("{LARGEST} bytes") });
    }
    Ok(String::from_utf8(bytes).ok())
}

/// Brings a file's content to the disk.
pub(super) fn sync(file: &File, path: &Path) -> Result<(), Error> {
    fsync(file).map_err(Error::refused("sync", path))
}

/// Which file it is, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    // The fields' types differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    fn of(about: FileStat) -> Identity {
        Identity { device: about.st_dev as u64, inode: about.st_ino as u64 }
    }

    /// Of an open file.
    pub(super) fn of_file(file: impl AsFd) -> Result<Identity, Errno> {
        fstat(file).map(Identity::of)
    }
}

/// The kernel's number of an error of std's; those without one come from no system call here.
pub(super) fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
