//! The way to a file, part by part. Links are followed as the kernel does, but never is one followed that somebody put
//! there to lead where they couldn't go themselves: the rule of systemd's unsafe transitions (`chase()`, CHASE_SAFE),
//! made exact by what whoever led there may open. It needs no more than openat(2), so that it holds on any kernel.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown, geteuid};

use super::fresh::make_in;
use super::hand::{Hand, is_trusted, sticky};
use super::outside;
use super::pseudo::is_pseudo;
use super::{is_plain, kind, no_plain_file, open_seen, replaced, same};

/// What the names of files beside others end with, after a random number: `.NAME.0123456789abcdef.pilotfish`.
const BESIDE: &str = ".pilotfish";
const RANDOM: usize = 16;
const ADDED: usize = 2 + RANDOM + BESIDE.len();
/// As many as the kernel follows (path_resolution(7)).
const MOST_LINKS: u32 = 40;
/// Of directories that are made on the way.
const DIRECTORY: u32 = 0o755;
/// Who else may write in a directory, and rename only what is their own.
const OPEN: u32 = 0o1022;

/// Where a path leads: a directory, and a name in it.
#[derive(Debug)]
pub struct Place {
    pub(super) directory: OwnedFd,
    pub(super) about_directory: FileStat,
    /// The directory's path, without links.
    pub(super) path: PathBuf,
    pub(super) name: OsString,
    /// What is there; `None` when nothing is.
    pub(super) entry: Option<FileStat>,
    /// Who else had a hand in the way, and in what is there.
    pub(super) led_by: Option<Hand>,
    /// The same without what is there: who may have led to this directory.
    pub(super) led_to_directory_by: Option<Hand>,
    /// What keeps them out.
    mend: Option<Mend>,
    /// By a link of theirs: without them it would lead elsewhere.
    by_link: bool,
    /// Whether it is the kernel itself that answers there, whatever the modes say.
    is_pseudo: bool,
}

/// Walks to a place; what is at its end needn't be there.
///
/// # Errors
/// A part of the way can't be walked.
pub fn find(path: &Path) -> io::Result<Place> {
    walk(path, false)
}

/// The same, and makes missing directories.
pub(super) fn find_making_parents(path: &Path) -> io::Result<Place> {
    walk(path, true)
}

struct Walk {
    directory: OwnedFd,
    path: PathBuf,
    about: FileStat,
    left: VecDeque<OsString>,
    led_by: Option<Hand>,
    mend: Option<Mend>,
    /// By a link that somebody else put there: wherever it goes on, it is they who lead.
    by_link: bool,
}

fn walk(path: &Path, make_parents: bool) -> io::Result<Place> {
    let mut links = 0;
    let directory = start(path)?;
    let about = outside::about(&directory)?;
    let at = PathBuf::from(if path.is_absolute() { "/" } else { "" });
    let mut walk = Walk { directory, path: at, about, left: parts(path), led_by: None, mend: None, by_link: false };
    while let Some(name) = walk.left.pop_front() {
        let is_last = walk.left.is_empty();
        let entry = match openat(&walk.directory, name.as_os_str(), AT_A_TIME, Mode::empty()) {
            Ok(entry) => entry,
            Err(Errno::ENOENT) if is_last => {
                let led_by = Hand::joined(walk.led_by, Hand::of(&walk.about, None));
                let is_pseudo = is_pseudo(&walk.directory);
                return Ok(walk.at(name, None, led_by, is_pseudo));
            }
            Err(Errno::ENOENT) if make_parents => {
                walk.make(&name)?;
                walk.left.push_front(name);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let about = outside::about(&entry)?;
        // What is mounted was put there by who may mount, and here no name is moved while it is a mount's, whoever owns the
        // directory around it. Those further up can be moved, and what is mounted below them goes along; and on a volume
        // another container can move the name, for which it is no mount's.
        let mounted = name != ".." && is_mounted(&entry, &about, &walk.about);
        let is_fixed =
            || mounted || (Hand::is_sticky_for_others(&walk.about) && outside::is_read_only(&walk.directory));
        let here = match () {
            () if name == ".." => None,
            () if mounted && is_of_the_root(&walk.directory) && !walk.by_link => None,
            () if is_fixed() => Hand::of_unmoved(&walk.about, &about),
            () => Hand::of(&walk.about, Some(&about)),
        };
        if here.is_some() && walk.mend.is_none() {
            walk.mend = Some(Mend::of(&walk.path, &walk.about, &about));
        }
        let led_by = Hand::joined(walk.led_by, here);
        match kind(&about) {
            SFlag::S_IFLNK => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::ELOOP.into());
                }
                walk.by_link |= led_by.is_some();
                let target = readlinkat(&entry, "")?;
                let target = Path::new(&target);
                if target.is_absolute() {
                    walk.enter(start(target)?, led_by)?;
                    walk.path = PathBuf::from("/");
                } else {
                    walk.led_by = led_by;
                }
                let mut parts = parts(target);
                parts.append(&mut walk.left);
                walk.left = parts;
            }
            SFlag::S_IFDIR if !is_last => {
                walk.enter(entry, led_by)?;
                // There is no link left in it.
                if name != ".." {
                    walk.path.push(name);
                } else if !walk.path.pop() {
                    walk.path.push("..");
                }
            }
            _ if !is_last => return Err(Errno::ENOTDIR.into()),
            _ => return Ok(walk.at(name, Some(about), led_by, is_pseudo(&entry))),
        }
    }
    // "/", or a link to it.
    Err(no_plain_file())
}

/// Whether something is mounted here. A kernel before 5.8 tells only by the device, and of files an overlay may tell that
/// of the layer they are in.
fn is_mounted(entry: &OwnedFd, about: &FileStat, around: &FileStat) -> bool {
    let by_device = about.st_dev != around.st_dev && kind(about) == SFlag::S_IFDIR;
    let root = libc::STATX_ATTR_MOUNT_ROOT as u64;
    match statx(entry.as_raw_fd(), c"", libc::STATX_INO) {
        Some(told) if told.stx_attributes_mask & root != 0 => told.stx_attributes & root != 0,
        Some(_) | None => by_device,
    }
}

/// Whether a directory lies on what is mounted at `/`, which a container has for itself. A kernel before 5.8 tells by the
/// device.
fn is_of_the_root(directory: &OwnedFd) -> bool {
    let (here, root) = (statx(directory.as_raw_fd(), c"", MOUNT), statx(libc::AT_FDCWD, c"/", MOUNT));
    here.zip(root).is_some_and(|(here, root)| {
        let by_mount = here.stx_mask & root.stx_mask & libc::STATX_MNT_ID != 0;
        let device = |told: &libc::statx| (told.stx_dev_major, told.stx_dev_minor);
        device(&here) == device(&root) && (!by_mount || here.stx_mnt_id == root.stx_mnt_id)
    })
}

const MOUNT: u32 = libc::STATX_INO | libc::STATX_MNT_ID;

#[allow(unsafe_code)]
fn statx(at: RawFd, path: &CStr, wanted: u32) -> Option<libc::statx> {
    // SAFETY: a struct of numbers.
    let mut told: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
    // SAFETY: a descriptor, a path and a place for the answer. The raw call, as not every C library has it.
    let result = unsafe { libc::syscall(libc::SYS_statx, at, path.as_ptr(), flags, wanted, &raw mut told) };
    (result == 0).then_some(told)
}

/// To look at without opening: no pipe waits, no device does anything.
const AT_A_TIME: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn start(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(openat(AT_FDCWD, if path.is_absolute() { "/" } else { "." }, flags, Mode::empty())?)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

impl Walk {
    fn enter(&mut self, directory: OwnedFd, led_by: Option<Hand>) -> io::Result<()> {
        let about = outside::about(&directory)?;
        if let Some(hand) = led_by.filter(|hand| !hand.may_search(&about)) {
            return Err(refused(hand, "may not enter a directory on it"));
        }
        self.directory = directory;
        self.about = about;
        self.led_by = led_by;
        Ok(())
    }

    /// Makes a directory, which belongs to whose directory it is in, and is as open where others led here: what is put there
    /// for them has to be within their reach.
    fn make(&self, name: &OsStr) -> io::Result<()> {
        let led_by = Hand::joined(self.led_by, Hand::of(&self.about, None));
        if let Some(hand) = led_by.filter(|hand| !hand.may_replace(&self.about, None)) {
            return Err(refused(hand, "may not make a directory there"));
        }
        let owner = led_by.map(|hand| hand.user().unwrap_or(self.about.st_uid)).filter(|user| !is_trusted(*user));
        let open = led_by.map_or(0, |_| self.about.st_mode & OPEN);
        make_in(&self.directory, name, |made| {
            if let Some(user) = owner {
                fchown(made, Some(Uid::from_raw(user)), Some(Gid::from_raw(self.about.st_gid)))?;
            }
            fchmod(made, Mode::from_bits_truncate(DIRECTORY | open))
        })?;
        Ok(())
    }

    fn at(self, name: OsString, entry: Option<FileStat>, led_by: Option<Hand>, is_pseudo: bool) -> Place {
        let Walk { directory, path, about: about_directory, led_by: led_to_directory_by, by_link, mend, .. } = self;
        Place { directory, about_directory, path, name, entry, led_by, led_to_directory_by, mend, by_link, is_pseudo }
    }
}

impl Place {
    /// Whether whoever led here, if anybody did, may read what is here by their own right.
    pub(super) fn readable_by_whoever_led_here(&self) -> io::Result<()> {
        let (Some(hand), Some(entry)) = (self.led_by, &self.entry) else { return Ok(()) };
        // An ordinary user's own secret, in a directory that all may write to, as Kubernetes makes them. It has no other
        // name, so nobody brought it there that may not write where it was.
        let is_own = is_plain(entry) && entry.st_nlink == 1 && !self.by_link && owns_as_ordinary_user(entry);
        // The kernel asks who reads, not only what the mode is.
        self.not_of_the_kernel()?;
        if is_own {
            return Ok(());
        }
        if !hand.may_read(entry) {
            let mend = self.mend.as_ref().map(|mend| format!("; {mend}")).unwrap_or_default();
            return Err(refused(hand, &format!("may not read it{mend}")));
        }
        Ok(())
    }

    /// Whether nobody else led to what is the kernel's own: it does for root what it wouldn't for them.
    pub(super) fn not_of_the_kernel(&self) -> io::Result<()> {
        match self.led_by.filter(|_| self.is_pseudo) {
            Some(hand) => Err(refused(hand, "what is there is the kernel's own")),
            None => Ok(()),
        }
    }

    /// Who else may have put there what is here, or written into it, and what keeps them out, if anybody may.
    pub(super) fn not_ours(&self) -> Option<String> {
        let mend = || self.mend.as_ref().map(|mend| format!(": {mend}")).unwrap_or_default();
        match (self.led_by, &self.entry) {
            (Some(_), _) => Some(format!("another user may have put it there{}", mend())),
            (None, Some(entry)) => match Hand::on(entry)? {
                Hand::User(user) => Some(format!("it belongs to uid {user}")),
                hand => Some(format!("{hand} may write to it (`chmod go-w {}`)", self.path.join(&self.name).display())),
            },
            (None, None) => None,
        }
    }

    /// Opens the directory that is here. Somebody else's link leads only to where they may write themselves.
    pub(super) fn open_directory(&self) -> io::Result<OwnedFd> {
        let Some(entry) = &self.entry else { return Err(Errno::ENOENT.into()) };
        if kind(entry) != SFlag::S_IFDIR {
            return Err(Errno::ENOTDIR.into());
        }
        if let Some(hand) = self.linked_by().filter(|hand| !(hand.may_write(entry) && hand.may_search(entry))) {
            return Err(refused(hand, "may not write to that directory"));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = openat(&self.directory, self.name.as_os_str(), flags, Mode::empty())?;
        match same(entry, &fstat(&directory)?) {
            true => Ok(directory),
            false => Err(replaced()),
        }
    }

    /// Who led here by a link of theirs.
    pub(super) fn linked_by(&self) -> Option<Hand> {
        self.led_by.filter(|_| self.by_link)
    }

    /// Opens the plain file that is here, to add to it.
    pub(super) fn open_to_append(&self) -> io::Result<File> {
        self.not_of_the_kernel()?;
        if let (Some(hand), Some(entry)) = (self.led_by, &self.entry)
            && (entry.st_nlink > 1 || !hand.may_write(entry))
        {
            return Err(refused(hand, "may not write to it"));
        }
        self.open(OFlag::O_WRONLY | OFlag::O_APPEND)
    }

    /// Opens the plain file that is here.
    pub(super) fn open(&self, how: OFlag) -> io::Result<File> {
        let Some(entry) = &self.entry else { return Err(Errno::ENOENT.into()) };
        if !is_plain(entry) {
            return Err(no_plain_file());
        }
        open_seen(self.directory.as_fd(), &self.name, entry, how)
    }

    /// The name of a file beside: hidden, another each time (others may make theirs in this directory), and with an ending of
    /// its own: many programs read all files of a directory that end as theirs do, hidden or not (Go's `filepath.Glob`).
    pub(super) fn beside(&self) -> OsString {
        let random = format!(".{:016x}", RandomState::new().hash_one(&self.path));
        OsString::from_vec([b".", self.short_name(), random.as_bytes(), BESIDE.as_bytes()].concat())
    }

    /// Whether such a file was made for this one.
    pub(super) fn is_beside(&self, other: &[u8]) -> bool {
        let rest = other.strip_suffix(BESIDE.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
        let random =
            rest.and_then(|rest| rest.strip_prefix(self.short_name())).and_then(|rest| rest.strip_prefix(b"."));
        random.is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_hexdigit))
    }

    /// As much of the name as leaves room for what is added to it.
    fn short_name(&self) -> &[u8] {
        let name = self.name.as_bytes();
        &name[..name.len().min(libc::NAME_MAX as usize - ADDED)]
    }
}

/// What keeps others' hands off the way to a file. Whose a file is isn't enough: who may rename what is in a directory may
/// have another file of root's take its place.
#[derive(Debug)]
struct Mend {
    directory: PathBuf,
    lack: Lack,
}

#[derive(Debug)]
enum Lack {
    /// The sticky bit is all that the directory lacks.
    Sticky,
    /// That bit, and a directory below it for the file: a file may be moved to a name that is free.
    StickyAndOneBelow,
    /// A directory below it for the file.
    OneBelow,
    /// It is another user's.
    All,
}

impl Mend {
    fn of(directory: &Path, about: &FileStat, entry: &FileStat) -> Mend {
        let lack = match Hand::of_unmoved(&sticky(about), entry) {
            None if kind(entry) == SFlag::S_IFDIR => Lack::Sticky,
            None if Hand::is_sticky_for_others(about) => Lack::OneBelow,
            None => Lack::StickyAndOneBelow,
            Some(_) => Lack::All,
        };
        Mend { directory: directory.to_owned(), lack }
    }
}

impl std::fmt::Display for Mend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A relative path's own directory has no name.
        let directory = if self.directory.as_os_str().is_empty() { Path::new(".") } else { &self.directory };
        let directory = directory.display();
        match self.lack {
            Lack::Sticky => write!(
                f,
                "others may rename what is in {directory} (`chmod +t {directory}`, or mount the file straight into it)"
            ),
            Lack::StickyAndOneBelow => write!(
                f,
                "others may rename what is in {directory} (`chmod +t {directory}`, and keep the file in a directory of its \
                 own there, of mode 755, or mount it straight into it)"
            ),
            Lack::OneBelow => write!(
                f,
                "others may move any file into {directory} (keep it in a directory of its own there, of mode 755, or mount \
                 it straight into it)"
            ),
            Lack::All => write!(
                f,
                "others may change what is in {directory} (keep the file elsewhere, or mount it straight into it)"
            ),
        }
    }
}

fn owns_as_ordinary_user(about: &FileStat) -> bool {
    let user = geteuid();
    !user.is_root() && user.as_raw() == about.st_uid
}

pub(super) fn refused(hand: Hand, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("refused: {hand} may change where the path leads, and {what}"),
    )
}
