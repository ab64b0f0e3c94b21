//! By what a container's end is known on its own host: a file that all of the container holds locked, whatever store the
//! election is in. It decides nothing: it makes this container's file, and tells when another's is locked no more.
//!
//! The file has a random name and is locked before it has that. Byte 0 is locked by the agent's description for as long as
//! the container lives, and all hooks inherit it; each main gets a description of its own, on a byte of its own, which the
//! agent keeps none of, so that it can see whether anything of main still has it. Who waits for the end asks for a read
//! lock on the whole: for that one need only be able to read, no other reader is in the way, and the kernel wakes it when
//! the last description is closed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::sys::stat::Mode;
use tokio::sync::watch;

use crate::net::backoff;
use crate::supervisor::machines::election::record::Witness;

use super::Error;
use super::files::{self, FileId, Folder, errno, whole};
use super::name::of_election;
use super::root::Root;
use super::{boot, lock_file, solitude};

/// Below the directory, as with the `local` catalog's default.
const PREFIX: &str = "pilotfish";
/// What of main has closed the file dies by the SIGKILL that ends what had it, and the scheduler may take a moment for
/// that (5 ms at worst in 400 rounds).
const SETTLE: Duration = Duration::from_millis(20);
/// Lives that are waited for at once, a thread each that the kernel keeps asleep; beyond that nobody is certified here.
const MOST_AWAITED: usize = 64;
/// It makes one call and sleeps.
const STACK: usize = 64 * 1024;
/// More are left to who starts next.
const MOST_SWEPT: usize = 1000;
/// Files that nobody held at the start are of containers long gone after this: no lease lasts so long.
const SWEPT_AFTER: Duration = Duration::from_secs(600);

/// A directory of this host for the containers of one election.
#[derive(Debug)]
pub struct WitnessDirectory {
    root: Root,
    election: String,
    /// How long main may live on without its description.
    linger: Duration,
    own: Mutex<Option<Own>>,
    inherited_by: Mutex<Option<InheritedBy>>,
    awaited: Mutex<BTreeMap<Witness, watch::Receiver<bool>>>,
}

/// This container's file.
#[derive(Debug)]
struct Own {
    witness: Witness,
    file: Arc<File>,
}

/// What main was given.
#[derive(Debug, Clone, Copy)]
struct InheritedBy {
    /// Main, once it is started.
    main: Option<i32>,
    number: RawFd,
    byte: i64,
}

impl WitnessDirectory {
    /// Looks at nothing yet. `linger` is how long main may live on when its agent is gone.
    pub fn new(directory: &Path, election: &str, linger: Duration) -> WitnessDirectory {
        WitnessDirectory {
            root: Root::new(directory, PREFIX, false),
            election: election.to_owned(),
            linger,
            own: Mutex::default(),
            inherited_by: Mutex::default(),
            awaited: Mutex::default(),
        }
    }

    /// Makes this container's file, unless it is there already.
    ///
    /// # Errors
    /// The directory can't be used, or no lock in it shows whether its holder lives.
    pub async fn open(&self) -> Result<(), Error> {
        if held(&self.own).is_some() {
            return Ok(());
        }
        let boot = boot::boot_id().ok_or(Error::NoBootId)?;
        let root = self.root.open_to_write().await.map_err(in_other_words)?;
        let (folder, scratch) = (root.make_witnesses(&of_election(&self.election)?)?, root.scratch()?);
        self.sweep_later(&folder);
        let name = format!("{:016x}{:016x}", backoff::random(), backoff::random());
        let staged = scratch.stage(b"", files::readable())?;
        let path = folder.path_of(&name);
        let refused = |action| Error::refused(action, &path);
        set(&staged.file, libc::F_UNLCK, 1, 0).map_err(refused("unlock"))?;
        let file = scratch.put_new(staged, &folder, &name)?.ok_or_else(|| refused("make")(Errno::EEXIST))?;
        let FileId { device, inode } = FileId::of_file(&file).map_err(refused("look at"))?;
        let witness = Witness { boot: boot.into(), file: name.into(), device, inode };
        *held(&self.own) = Some(Own { witness, file: Arc::new(file) });
        Ok(())
    }

    /// This container's, if it has one.
    pub fn own(&self) -> Option<Witness> {
        held(&self.own).as_ref().map(|own| own.witness.clone())
    }

    /// Whether others find this container's file by its record: its name leads to it still. No new one is made while the
    /// container lives, for what main and hooks inherited, and what they left, is the old one.
    ///
    /// # Errors
    /// They don't, or that can't be looked at.
    pub fn stands(&self) -> Result<(), Error> {
        let gone = |file| Error::WitnessGone { file };
        let witness = self.own().ok_or_else(|| gone(self.path()))?;
        let path = self.path().join(&*witness.file);
        let folder = self.root.find_witnesses(&of_election(&self.election)?)?;
        let file = match folder {
            Some(folder) => folder.file(&witness.file)?,
            None => None,
        };
        let found = file.as_ref().map(FileId::of_file).transpose().map_err(Error::refused("look at", &path))?;
        match found.is_some_and(|found| (found.device, found.inode) == (witness.device, witness.inode)) {
            true => Ok(()),
            false => Err(gone(path)),
        }
    }

    /// Whether a file that isn't there may be: it is another container's of this host.
    pub fn may_come(&self, witness: &Witness) -> bool {
        boot::boot_id().as_deref() == Some(&*witness.boot) && self.own().as_ref() != Some(witness)
    }

    /// What hooks inherit.
    pub fn file(&self) -> Option<Arc<File>> {
        held(&self.own).as_ref().map(|own| own.file.clone())
    }

    /// What the next main inherits: to be closed here once that is started.
    pub fn for_main(&self) -> Option<Arc<File>> {
        *held(&self.inherited_by) = None;
        let own = self.file()?;
        match WitnessDirectory::new_description(&own) {
            Ok((file, byte)) => {
                *held(&self.inherited_by) = Some(InheritedBy { main: None, number: file.as_raw_fd(), byte });
                Some(Arc::new(file))
            }
            // /proc is missing, say. It serves as well, but nobody can see what main does with it.
            Err(_) => Some(own),
        }
    }

    /// Opened anew, and locked on a byte that nothing of an earlier main has.
    fn new_description(own: &File) -> Result<(File, i64), Errno> {
        /// Mains before this one of which something is left.
        const EARLIER: i64 = 64;
        // The very file, whatever has become of its name: what stands there by now may be another's, who may keep us waiting.
        let path = format!("/proc/self/fd/{}", own.as_raw_fd());
        let file =
            File::from(open(path.as_str(), OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?);
        for byte in 1..EARLIER {
            match set(&file, libc::F_WRLCK, byte, 1) {
                Ok(()) => return Ok((file, byte)),
                Err(Errno::EAGAIN | Errno::EACCES) => {}
                Err(source) => return Err(source),
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Main was started with it, as this process.
    pub fn main_inherits(&self, main: i32) {
        if let Some(inherited_by) = &mut *held(&self.inherited_by) {
            inherited_by.main = Some(main);
        }
    }

    /// How long main may outlive the lock on this container's file; `None`: there is no such file.
    pub fn linger(&self) -> Option<Duration> {
        let own = self.file()?;
        // Not under the lock: main may have put a file of a disk that hangs at its number.
        let inherited_by = *held(&self.inherited_by);
        let kept = inherited_by.is_some_and(|inherited_by| inherited_by.keeps(&own));
        Some(if kept { Duration::ZERO } else { self.linger })
    }

    /// Waits until nothing is left of a container, for as long as that takes.
    ///
    /// # Errors
    /// It can't be known here: it is another host's or another boot's, its file isn't there, or too many are waited for.
    pub async fn gone(&self, witness: &Witness) -> Result<(), Error> {
        let mut told = self.wait_for(witness).await?;
        // A thread that failed has said so.
        if told.wait_for(|gone| *gone).await.is_err() {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn wait_for(&self, witness: &Witness) -> Result<watch::Receiver<bool>, Error> {
        let known = held(&self.awaited).get(witness).cloned();
        if let Some(told) = known {
            return Ok(told);
        }
        let not_here = || Error::NotHere { file: self.path().join(&*witness.file) };
        if boot::boot_id().as_deref() != Some(&*witness.boot) || self.own().as_ref() == Some(witness) {
            return Err(not_here());
        }
        let root = self.root.open().await.map_err(in_other_words)?;
        let folder = root.witnesses(&of_election(&self.election)?)?.ok_or_else(not_here)?;
        let file = folder.file(&witness.file)?.ok_or_else(not_here)?;
        let path = folder.path_of(&witness.file);
        let found = FileId::of_file(&file).map_err(Error::refused("look at", &path))?;
        if (found.device, found.inode) != (witness.device, witness.inode) {
            return Err(not_here());
        }
        let mut awaited = held(&self.awaited);
        awaited.retain(|_, told| !*told.borrow());
        if awaited.len() >= MOST_AWAITED {
            return Err(Error::TooMuch {
                what: "the number of leaders waited for".into(),
                limit: MOST_AWAITED.to_string(),
            });
        }
        let (tell, told) = watch::channel(false);
        let wait = move || match wait_unlocked(&file) {
            Ok(()) => {
                std::thread::sleep(SETTLE);
                tell.send_replace(true);
            }
            Err(source) => {
                tracing::warn!(event = "degraded", "can't wait for the lock of {}: {}", path.display(), source.desc())
            }
        };
        let thread = std::thread::Builder::new().name("witness".to_owned()).stack_size(STACK).spawn(wait);
        thread.map_err(|error| Error::refused("wait for", self.path())(errno(&error)))?;
        awaited.insert(witness.clone(), told.clone());
        Ok(told)
    }

    /// Where the files are.
    fn path(&self) -> PathBuf {
        self.root.path_of_witnesses(&of_election(&self.election).unwrap_or_default())
    }

    /// Each life leaves a file. Those that nobody holds now can still tell of the last leader's end, so they are removed
    /// when no lease of that time runs any more.
    fn sweep_later(&self, folder: &Folder) {
        let is_dead = |name: &String| {
            let file = folder.file(name).ok().flatten();
            file.is_some_and(|file| files::is_write_locked(&file) == Ok(false))
        };
        let names = folder.names().unwrap_or_default().into_iter().take(MOST_SWEPT);
        let dead: Vec<String> = names.filter(is_dead).collect();
        let (root, election) = (self.root.clone(), self.election.clone());
        tokio::spawn(async move {
            tokio::time::sleep(SWEPT_AFTER).await;
            let Ok(root) = root.open_to_write().await else { return };
            let Some(folder) = of_election(&election).ok().and_then(|name| root.witnesses(&name).ok().flatten()) else {
                return;
            };
            if !matches!(folder.is_anybodys_to_tidy(), Ok(true)) {
                return;
            }
            for name in dead {
                // Whoever starts next tries again.
                if let Ok(Some(file)) = folder.file(&name) {
                    let _ = folder.take_away(&name, &file);
                }
            }
        });
    }
}

impl InheritedBy {
    /// Whether main still has what it was given. Where /proc doesn't let us look at another user's process, the lock tells
    /// whether anything of main has.
    fn keeps(&self, own: &File) -> bool {
        let Some(main) = self.main else { return false };
        match lock_file::has(main, self.number, own) {
            Ok(has) => has,
            Err(Errno::EACCES | Errno::EPERM) => is_locked(own, self.byte) == Ok(true),
            Err(_) => false,
        }
    }
}

/// As far as a container's own directory is concerned.
///
/// # Errors
/// Only this container would see it, or it can't be looked at.
pub fn survey(directory: &Path) -> Result<(), Error> {
    solitude::survey(directory).map_err(in_other_words)
}

/// What `[catalog]` says of its directory isn't said of this one.
fn in_other_words(error: Error) -> Error {
    match error {
        Error::Alone { directory, kind } => Error::AloneWithWitness { directory, kind },
        other => other,
    }
}

fn bytes(kind: libc::c_int, from: i64, length: i64) -> libc::flock {
    libc::flock { l_start: from, l_len: length, ..whole(kind) }
}

fn set(file: &File, kind: libc::c_int, from: i64, length: i64) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&bytes(kind, from, length))).map(drop)
}

/// Whether another description has this byte.
fn is_locked(file: &File, byte: i64) -> Result<bool, Errno> {
    let mut asked = bytes(libc::F_RDLCK, byte, 1);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked))?;
    Ok(i32::from(asked.l_type) != libc::F_UNLCK)
}

/// Sleeps until no description has a write lock on any of it.
fn wait_unlocked(file: &File) -> Result<(), Errno> {
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLKW(&whole(libc::F_RDLCK))) {
            Err(Errno::EINTR) => {}
            done => return done.map(drop),
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one assignment: a panic can't have left it half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
