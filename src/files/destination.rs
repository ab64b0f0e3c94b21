//! A file replaced as a whole: by renaming one beside it, and where nothing may be beside it, or its name not be moved,
//! by writing in place. What was there stays until the new one is complete, or is put back.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FallocateFlags, OFlag, fallocate, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, geteuid, unlinkat};

use super::acl::Acl;
use super::hand::{Hand, is_trusted};
use super::walk::{find_making_parents, refused};
use super::{Place, find, is_plain, no_plain_file, same};

/// Of a file that is new, unless something else is asked for.
const NEW: u32 = 0o644;
/// Nobody reads a file before it is complete.
const UNFINISHED: Mode = Mode::from_bits_truncate(0o600);
/// No right to run as its owner is carried over to new content.
const RIGHTS: u32 = 0o777;
const RUNS_AS_OWNER: u32 = 0o6000;
/// The group's rights in a mode.
const GROUPS: u32 = 0o070;
/// All that chmod(2) sets.
const MODE: u32 = 0o7777;
const SETS_USER: u32 = 0o4000;
const SETS_GROUP: u32 = 0o2000;
const GROUP_RUNS: u32 = 0o010;
/// What lies beside a file for so many seconds was left there: making and checking one takes less.
const LEFT_AFTER: i64 = 600;
/// So many names of a directory are looked through for that.
const MOST_NAMES: usize = 10_000;
/// A file that can only be written in place and is larger isn't touched: what was there couldn't be put back.
const LARGEST_IN_PLACE: u64 = 16 << 20;

/// Who may do what with the new file; what isn't asked for is as with the file before, unless a stranger put that there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// Its mode.
    pub mode: Option<u32>,
    /// Its user and group.
    pub owner: Option<(u32, Option<u32>)>,
}

/// Where a file shall be.
#[derive(Debug)]
pub struct Destination {
    place: Place,
}

impl Destination {
    /// Walks there; `parents` makes missing directories.
    ///
    /// # Errors
    /// The way can't be walked, something that isn't a plain file is there, or whoever may change where the path leads may
    /// not put a file there.
    pub fn find(path: &Path, parents: bool) -> io::Result<Destination> {
        let place = if parents { find_making_parents(path)? } else { find(path)? };
        if place.entry.as_ref().is_some_and(|entry| !is_plain(entry)) {
            return Err(no_plain_file());
        }
        // What whoever moved a file into the last directory could do with it they could do where it was.
        if let Some(hand) = place.led_to_directory_by
            && !hand.may_replace(&place.about_directory, place.entry.as_ref())
        {
            return Err(refused(hand, "may not put a file there"));
        }
        place.not_of_the_kernel()?;
        Ok(Destination { place })
    }

    /// Whether a file is there.
    pub fn is_there(&self) -> bool {
        self.place.entry.is_some()
    }

    /// What is there, but for what a stranger put there: in a directory for all somebody may have been first, and would own
    /// what is written. Whose the directory is may have anything in it.
    fn before(&self) -> Option<&FileStat> {
        let whose = self.place.about_directory.st_uid;
        // Root's own may have been moved there, as one that others may write to.
        let is_roots = |entry: &FileStat| is_trusted(entry.st_uid) && Hand::on(entry).is_none();
        let is_known = |entry: &&FileStat| entry.st_uid == whose && !is_trusted(whose) || is_roots(entry);
        self.place.entry.as_ref().filter(|entry| self.place.led_by.is_none() || is_known(entry))
    }

    /// Whether the new file takes after none.
    pub fn is_new(&self) -> bool {
        self.before().is_none()
    }

    /// Whether nobody else may change what is beside it.
    pub fn is_ours(&self) -> bool {
        self.place.led_by.is_none() && Hand::on(&self.place.about_directory).is_none()
    }

    /// Whether it has this content.
    ///
    /// # Errors
    /// It can't be read.
    pub fn has(&self, text: &[u8]) -> io::Result<bool> {
        let Some(entry) = self.before() else { return Ok(false) };
        if entry.st_size != i64::try_from(text.len()).unwrap_or(i64::MAX) {
            return Ok(false);
        }
        let mut old = Vec::with_capacity(text.len());
        self.place.open(OFlag::O_RDONLY)?.take(text.len() as u64 + 1).read_to_end(&mut old)?;
        Ok(old == text)
    }

    /// Whether it has the mode and owner that are asked for.
    pub fn is_accessible_as(&self, access: Access) -> bool {
        let Some(entry) = &self.place.entry else { return false };
        let owner = access
            .owner
            .is_none_or(|(user, group)| entry.st_uid == user && group.is_none_or(|group| entry.st_gid == group));
        owner && access.mode.is_none_or(|mode| entry.st_mode & MODE == mode)
    }

    /// The mode a new file gets.
    pub fn mode(&self, access: Access) -> u32 {
        access.mode.or(self.before().map(|entry| entry.st_mode & RIGHTS)).unwrap_or(NEW)
    }

    fn put(&self, staged: &OsStr) -> io::Result<bool> {
        match renameat(&self.place.directory, staged, &self.place.directory, self.place.name.as_os_str()) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(Errno::EBUSY) => {
                self.discard(staged);
                Ok(false)
            }
            Err(error) => {
                self.discard(staged);
                Err(error.into())
            }
        }
    }

    fn discard(&self, staged: &OsStr) {
        let _ = unlinkat(&self.place.directory, staged, UnlinkatFlags::NoRemoveDir);
    }

    /// Makes it a file of this content, one way or the other.
    ///
    /// # Errors
    /// It isn't: what was there is still there, unless the error says otherwise.
    pub fn replace(&self, text: &[u8], access: Access) -> io::Result<()> {
        let name = self.place.beside();
        match self.write_beside(&name, text, access) {
            Ok(new) => {
                // In another's directory it may have been moved meanwhile.
                let there = fstatat(&self.place.directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
                if !same(&there, &fstat(&new)?) {
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, "somebody moves the files beside it"));
                }
                match self.put(&name)? {
                    true => Ok(()),
                    false => self.write_in_place(text, access),
                }
            }
            Err(error) if is_closed(&error) && self.is_there() => self.write_in_place(text, access),
            Err(error) => Err(error),
        }
    }

    fn write_beside(&self, name: &OsStr, text: &[u8], access: Access) -> io::Result<File> {
        self.sweep();
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut new = File::from(openat(&self.place.directory, name, flags, UNFINISHED)?);
        let mut complete = || {
            new.write_all(text)?;
            self.give(&new, access)?;
            new.sync_all()
        };
        match complete() {
            Ok(()) => Ok(new),
            Err(error) => {
                self.discard(name);
                Err(error)
            }
        }
    }

    /// Removes what crashes have left beside it. Another container that has this directory may have just made its own.
    pub fn sweep(&self) {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let Ok(mut directory) = Dir::openat(&self.place.directory, ".", flags, Mode::empty()) else { return };
        let names = directory.iter().take(MOST_NAMES).filter_map(Result::ok);
        let mine = names.filter(|entry| self.place.is_beside(entry.file_name().to_bytes()));
        let mine: Vec<_> = mine.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned()).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
        for name in mine {
            let about = fstatat(&self.place.directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
            let is_old = |about: &FileStat| about.st_mtime + LEFT_AFTER < now;
            if about.is_ok_and(|about| is_plain(&about) && about.st_uid == geteuid().as_raw() && is_old(&about)) {
                self.discard(&name);
            }
        }
    }

    /// Gives a complete file its owner, as far as one may, and then its mode.
    fn give(&self, new: &File, access: Access) -> io::Result<()> {
        let ours = fstat(new)?;
        match (access.owner, self.before()) {
            (Some((user, group)), _) => chown(new, &ours, user, group)?,
            (None, Some(old)) if chown(new, &ours, old.st_uid, Some(old.st_gid)).is_err() => {
                let _ = chown(new, &ours, ours.st_uid, Some(old.st_gid));
            }
            (None, _) => {}
        }
        self.open_up(new, access)
    }

    /// Gives a file with its owner the mode that is asked for, or the mode and the ACL of the one before. Where that one's
    /// ACL can't be given, nobody may do by the mode what they couldn't before.
    fn open_up(&self, new: &File, access: Access) -> io::Result<()> {
        let mode = self.mode(access);
        let old = self.before().filter(|_| access.mode.is_none());
        let Some(old) = old else { return new.set_permissions(Permissions::from_mode(mode)) };
        let acl = match self.place.open(OFlag::O_RDONLY) {
            Ok(old) => Acl::of(old),
            // Who may put another in its place and not read it knows its mode alone.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            Err(error) => return Err(error),
        };
        let Some(acl) = acl else {
            Acl::take(new);
            return new.set_permissions(Permissions::from_mode(mode));
        };
        Acl::take(new);
        new.set_permissions(Permissions::from_mode(mode & !GROUPS | acl.group() << 3))?;
        let now = fstat(new)?;
        if (now.st_uid, now.st_gid) == (old.st_uid, old.st_gid) {
            // Some file systems of network storage take none.
            let _ = acl.give(new);
        }
        Ok(())
    }

    fn write_in_place(&self, text: &[u8], access: Access) -> io::Result<()> {
        let Some(entry) = &self.place.entry else { return Err(Errno::ENOENT.into()) };
        if let Some(hand) = self.place.led_by {
            // Another name of it may be anywhere.
            if entry.st_nlink > 1 || !hand.may_write(entry) {
                return Err(refused(hand, "may not write to the file there"));
            }
            if self.before().is_none() {
                let what = format!("the file there is of uid {}, whose the directory isn't", entry.st_uid);
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
            }
        }
        let mut file = self.place.open(OFlag::O_RDWR)?;
        let mut old = Vec::new();
        Read::by_ref(&mut file).take(LARGEST_IN_PLACE + 1).read_to_end(&mut old)?;
        if old.len() as u64 > LARGEST_IN_PLACE {
            let what = format!("it can only be written in place, and is longer than {LARGEST_IN_PLACE} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        // A full disk is found out before anything is overwritten.
        match fallocate(file.as_fd(), FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, text.len().max(1) as i64) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {}
            Err(error) => {
                // What was reserved so far.
                let _ = file.set_len(old.len() as u64);
                return Err(error.into());
            }
        }
        // Who isn't to read it any more doesn't read what is new, and nobody runs it as its owner (for root, write(2) leaves
        // those bits where they are); and what can't be done is found out before.
        let has = entry.st_mode & MODE;
        let meanwhile = has & access.mode.unwrap_or(has) & !RUNS_AS_OWNER;
        let only_runs_as_owner = has & !RUNS_AS_OWNER == meanwhile && access.mode.is_none_or(|mode| mode == meanwhile);
        let given = match meanwhile != has || access.mode.is_some_and(|mode| mode != has) {
            true => file.set_permissions(Permissions::from_mode(meanwhile)),
            false => Ok(()),
        };
        let is_left_to_the_kernel = match given {
            Ok(()) => false,
            // From who may write and not change the mode, write(2) takes what the file would run as its owner by.
            Err(error) => match error.raw_os_error() == Some(libc::EPERM) && only_runs_as_owner {
                true => true,
                false => return Err(error),
            },
        };
        if access.owner.is_some() && !self.is_accessible_as(Access { mode: None, ..access }) {
            let (user, group) = access.owner.unwrap_or_default();
            chown(&file, entry, user, group)?;
        }
        let written = overwrite(&mut file, text).and_then(|()| match is_left_to_the_kernel {
            true => runs_as_nobody(&file, access),
            false => Ok(()),
        });
        if let Err(error) = written {
            return Err(match overwrite(&mut file, &old) {
                Ok(()) => error,
                Err(worse) => io::Error::new(
                    error.kind(),
                    format!("{error}; it is damaged, for what was there can't be put back: {worse}"),
                ),
            });
        }
        match access.mode.filter(|mode| *mode != meanwhile) {
            Some(mode) => file.set_permissions(Permissions::from_mode(mode)),
            None => Ok(()),
        }
    }
}

/// Whether a file that was just written runs as its owner or its group no more, and has the mode that is asked for. The setgid
/// bit without the group's right to run it makes nobody anything.
fn runs_as_nobody(file: &File, access: Access) -> io::Result<()> {
    let mode = fstat(file)?.st_mode & MODE;
    let as_group = mode & SETS_GROUP != 0 && mode & GROUP_RUNS != 0;
    match mode & SETS_USER != 0 || as_group || access.mode.is_some_and(|asked| asked != mode) {
        true => Err(Errno::EPERM.into()),
        false => Ok(()),
    }
}

fn overwrite(file: &mut File, text: &[u8]) -> io::Result<()> {
    file.rewind()?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

fn chown(file: &File, about: &FileStat, user: u32, group: Option<u32>) -> io::Result<()> {
    let group = group.unwrap_or(about.st_gid);
    if (user, group) == (about.st_uid, about.st_gid) {
        return Ok(());
    }
    let user = (user != about.st_uid).then(|| Uid::from_raw(user));
    Ok(fchown(file, user, Some(Gid::from_raw(group)))?)
}

/// No file may be made in this directory.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EROFS | Errno::EACCES | Errno::EPERM))
}
