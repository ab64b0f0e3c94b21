//! A file of ours in a directory of ours, for commands that look at what isn't live yet. It lies apart from where it is to be:
//! who reads all that is in that directory (a `conf.d`) would read it unchecked. What lies beside its destination is found
//! beside it all the same, by links, for what it names by relative paths. Nobody else may put another in its place: whoever
//! checks it may be root.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::find;
use super::walk::refused;

/// Where temporary directories may be made; containers with a read-only root have at least the second. Where there is none
/// of them, a hidden one in the directory where the file is to be is seen by fewer than a file there.
const PLACES: [&str; 4] = ["/run", "/dev/shm", "/tmp", "/var/tmp"];
const NAME: &str = ".pilotfish-";

/// Of a file that is for one reader, and of its directory where that is whoever made it: the destination's directory may have
/// kept from others what its mode would let them read.
const READER: u32 = 0o400;
/// Where it is a program, for a check that runs it.
const RUNS: u32 = 0o100;
const OURS: u32 = 0o700;
/// Another reader must be able to get at it.
const ENTERED: u32 = 0o711;
const LISTED: u32 = 0o044;
/// What others may do with it beside its destination.
const READABLE: u32 = 0o555;
/// Of a directory's files so many are found beside the copy; where there are more, no config names them by a relative path.
const NEIGHBOURS: usize = 4_096;
const OTHERS_WRITE: u32 = 0o022;
/// So many names of a temporary directory are looked through for what crashes have left...
const MOST_NAMES: usize = 10_000;
/// ...which is what is older: making and checking a file takes less.
const LEFT_AFTER: Duration = Duration::from_secs(600);

/// Those that there are: what isn't removed by whoever made it is, by the agent's end.
static MADE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn made() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who looks at a file, and at what besides.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look<'a> {
    /// The mode it will have; where anybody may run it then, its reader may already.
    pub mode: u32,
    /// It is for this user alone, and theirs to change, as what they make of it is; without one it is for root and us.
    pub reader: Option<u32>,
    /// What is in this directory is found beside it.
    pub neighbours: Option<&'a Path>,
}

impl Look<'_> {
    fn runs(&self) -> bool {
        self.mode & 0o111 != 0
    }
}

/// A directory with one file; both are gone with it.
#[derive(Debug)]
pub struct Scratch;

impl Scratch {
    /// Makes a file of this name and content, that nobody else may change.
    ///
    /// # Errors
    /// No temporary directory can be written.
    pub fn make(name: &OsStr, text: &[u8], look: &Look<'_>) -> io::Result<PathBuf> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        let own = look.neighbours.map(where_it_is);
        let mut places: Vec<&Path> = PLACES.map(Path::new).into_iter().chain(own.as_deref()).collect();
        // The others come last, for a check that only reads it (`sh -n`).
        places.sort_by_key(|place| look.runs() && runs_nothing(place));
        for place in places {
            match make_in(place, name, text, look) {
                Ok(path) => return Ok(path),
                Err(error) => last = error,
            }
        }
        let what = format!("no temporary directory can be written (tried {}): {last}", PLACES.join(", "));
        Err(io::Error::new(last.kind(), what))
    }

    /// Removes what [`make`](Self::make) made.
    pub fn remove(path: &Path) {
        if let Some(directory) = path.parent() {
            // Links in it are removed, and not what they lead to.
            let _ = fs::remove_dir_all(directory);
        }
        made().remove(path);
    }

    /// Whether there is any.
    pub fn is_any() -> bool {
        !made().is_empty()
    }

    /// Removes all that there are.
    pub fn remove_all() {
        let all = made().clone();
        all.iter().for_each(|path| Scratch::remove(path));
    }
}

pub(super) fn make_in(place: &Path, name: &OsStr, text: &[u8], look: &Look<'_>) -> io::Result<PathBuf> {
    let directory = place.join(format!("{NAME}{:016x}", random()));
    if let Some(hand) = find(&directory)?.led_by {
        return Err(refused(hand, "may move what is in it"));
    }
    sweep(place);
    let path = directory.join(name);
    // Fails on whatever is there already, links too.
    DirBuilder::new().mode(OURS).create(&directory)?;
    made().insert(path.clone());
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text)?;
        file.set_permissions(Permissions::from_mode(if look.runs() { READER | RUNS } else { READER }))?;
        let listed = match look.neighbours {
            Some(neighbours) => link_neighbours(neighbours, &directory, name)?,
            None => 0,
        };
        let Some(reader) = look.reader else { return Ok(()) };
        // Given away last, for its mode is its owner's to set. Who may not give it away (CAP_CHOWN) lets them read what its
        // mode lets them, but only where its own directory keeps others out as ever.
        if let Err(error) = fchown(&file, Some(reader), None) {
            if look.neighbours.map(where_it_is).as_deref() != Some(place) {
                return Err(io::Error::new(error.kind(), format!("uid {reader} can't be given a file: {error}")));
            }
            file.set_permissions(Permissions::from_mode(look.mode & READABLE))?;
        }
        fs::set_permissions(&directory, Permissions::from_mode(ENTERED | listed))
    };
    write().inspect_err(|_| Scratch::remove(&path))?;
    Ok(path)
}

/// Whether it is mounted `noexec`, as /run, /dev/shm and /tmp often are.
fn runs_nothing(place: &Path) -> bool {
    statvfs(place).is_ok_and(|about| about.flags().contains(FsFlags::ST_NOEXEC))
}

/// A directory's path for whoever works elsewhere.
fn where_it_is(directory: &Path) -> PathBuf {
    std::env::current_dir().unwrap_or_default().join(directory)
}

/// Leads from here to what lies there, but for what is to be replaced. Who may list the one may list the other: their mode
/// bits.
fn link_neighbours(there: &Path, here: &Path, name: &OsStr) -> io::Result<u32> {
    let there = where_it_is(there);
    for neighbour in fs::read_dir(&there)?.filter_map(Result::ok).take(NEIGHBOURS) {
        let neighbour = neighbour.file_name();
        if neighbour != name && !is_name(neighbour.as_bytes()) {
            symlink(there.join(&neighbour), here.join(&neighbour))?;
        }
    }
    let about = fs::metadata(&there)?;
    let is_given = chown(here, None, Some(about.gid())).is_ok();
    Ok(about.mode() & if is_given { LISTED } else { LISTED & 0o007 })
}

/// Removes what crashes have left in a temporary directory. Another container that has it may have just made its own.
fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.take(MOST_NAMES).filter_map(Result::ok).filter(|entry| is_name(entry.file_name().as_bytes())) {
        let is_left = |about: fs::Metadata| {
            let age = about.modified().ok().and_then(|at| at.elapsed().ok());
            let is_ours = about.is_dir() && about.uid() == nix::unistd::geteuid().as_raw();
            // One that others may write in they may have renamed to this; any other they can't move.
            is_ours && about.mode() & OTHERS_WRITE == 0 && age.is_some_and(|age| age > LEFT_AFTER)
        };
        if entry.metadata().is_ok_and(is_left) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_name(name: &[u8]) -> bool {
    let random = name.strip_prefix(NAME.as_bytes());
    random.is_some_and(|random| random.len() == 16 && random.iter().all(u8::is_ascii_hexdigit))
}

/// From std's keys of hash maps, which are the kernel's random numbers.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
