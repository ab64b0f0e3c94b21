//! What a candidate has in the shared directory: one open description of the lock's file, for the container's whole
//! life, and the session that holds the lock by it.
//!
//! The lock is an open file description's (fcntl(2), F_OFD_SETLK): main inherits the description when it is started, so
//! that a lock taken later is held by main, too, and by all that main starts; it is free when the last of them is gone.
//! And unlike flock(2) it can be asked for without being taken (F_OFD_GETLK), so that nobody who only looks makes
//! another's acquire fail.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use tokio::time::Instant;

use crate::supervisor::machines::election::event::Id;
use crate::supervisor::machines::election::record::{Guarantee, SessionId, Term};

use super::Error;
use super::files::{self, Folder, errno, whole};

/// The lock's file.
pub(super) const LOCK: &str = "lock";

/// A candidate's lock file.
#[derive(Debug, Default)]
pub(super) struct LockFile {
    /// Taken by whoever changes the lock: it may wait for a disk meanwhile.
    pub(super) write_lock: Arc<tokio::sync::Mutex<HeldLock>>,
    file: Arc<Mutex<Option<Arc<File>>>>,
    open: Arc<Mutex<BTreeSet<SessionId>>>,
    /// The main process that was given the description, by its id; 0 is none.
    inherited_by: Arc<AtomicI32>,
}

/// What holds the lock.
pub(super) type HeldLock = Option<OwnLock>;

/// A lock that is ours.
#[derive(Debug)]
pub(super) struct OwnLock {
    pub(super) session: SessionId,
    pub(super) term: Term,
    /// Where it was taken, and on which file: at the path there may be another one meanwhile.
    pub(super) election: Folder,
    pub(super) lock: Arc<File>,
    /// What `last` says was promised.
    pub(super) told: Guarantee,
    /// Whether it says that a person has it lead, whatever is lost by it.
    pub(super) told_loss: bool,
    /// Where the holder's record says that it can be reached.
    pub(super) address: Option<Id>,
    /// Until then one who led before may still act; `None` when `last` says so no more.
    pub(super) hold_off_until: Option<Instant>,
}

impl OwnLock {
    /// Whether it is this one, and what is locked is what everyone looks at.
    pub(super) fn stands(&self, session: SessionId, term: Term, election: &Folder) -> Result<bool, Error> {
        Ok(self.session == session && self.term == term && election.holds(LOCK, &self.lock)?)
    }
}

impl LockFile {
    /// The same file, for a thread.
    pub(super) fn share(&self) -> LockFile {
        LockFile {
            write_lock: self.write_lock.clone(),
            file: self.file.clone(),
            open: self.open.clone(),
            inherited_by: self.inherited_by.clone(),
        }
    }

    /// The lock's file as this agent holds it open, if it does.
    pub(super) fn file(&self) -> Option<Arc<File>> {
        lock(&self.file).clone()
    }

    /// The lock's file at its path, opened when it isn't yet, or when somebody has put another one there.
    pub(super) fn open_at(&self, election: &Folder) -> Result<Arc<File>, Error> {
        loop {
            let known = self.file();
            if let Some(file) = &known
                && election.holds(LOCK, file)?
            {
                return Ok(file.clone());
            }
            // Not under the lock, for which the loop would wait as long as for the disk.
            let opened = Arc::new(election.lockable(LOCK)?);
            let mut file = lock(&self.file);
            // Whoever opened it meanwhile was first: main inherits one description, and that is the one to be locked.
            if file.as_ref().map(Arc::as_ptr) == known.as_ref().map(Arc::as_ptr) {
                return Ok(file.insert(opened).clone());
            }
        }
    }

    /// Sits down on a new file, locked, where whoever can only read keeps the lock from everybody by a lock of their own;
    /// `None` when it isn't so any more. A main that runs keeps the description it has.
    pub(super) fn clear(
        &self,
        election: &Folder,
        scratch: &Folder,
        old: &Arc<File>,
    ) -> Result<Option<Arc<File>>, Error> {
        if is_held(&**old, election)? {
            return Ok(None);
        }
        let staged = scratch.stage(b"", files::lockable())?;
        let new = scratch.change_obstructed(staged, election, LOCK, old)?;
        Ok(new.map(|new| lock(&self.file).insert(Arc::new(new)).clone()))
    }

    /// This process was started with the description.
    pub(super) fn main_inherits(&self, main: i32) {
        self.inherited_by.store(main, Ordering::Relaxed);
    }

    /// What a successor may rely on. As long as main has the description, the lock falls free only when main is gone;
    /// a main that has closed it may outlive the lock by a moment, for which `linger` is ample.
    pub(super) fn guarantee(&self, lock: &File, linger: Duration) -> Guarantee {
        let has = has(self.inherited_by.load(Ordering::Relaxed), lock.as_raw_fd(), lock) == Ok(true);
        let linger = if has { Duration::ZERO } else { linger };
        Guarantee::WhileAlive { linger }
    }

    /// A session begins.
    pub(super) fn open(&self, session: SessionId) {
        lock(&self.open).insert(session);
    }

    /// A session is over: what comes late by it counts no more.
    pub(super) fn close(&self, session: SessionId) {
        lock(&self.open).remove(&session);
    }

    /// Whether a session is not over.
    pub(super) fn is_open(&self, session: SessionId) -> bool {
        lock(&self.open).contains(&session)
    }
}

/// Locks a file; `false` when another description holds it.
pub(super) fn take(file: &File, election: &Folder) -> Result<bool, Error> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(source) => Err(Error::refused("lock", election.path_of(LOCK))(source)),
    }
}

/// Unlocks a file, for everyone who has this description.
pub(super) fn give_back(file: &File, election: &Folder) -> Result<(), Error> {
    let unlocked = fcntl(file, FcntlArg::F_OFD_SETLK(&whole(libc::F_UNLCK)));
    unlocked.map(drop).map_err(Error::refused("unlock", election.path_of(LOCK)))
}

/// Whether any other description holds this lock; a read lock, for which one need only be able to read, is none.
pub(super) fn is_held(file: impl AsFd, election: &Folder) -> Result<bool, Error> {
    files::is_write_locked(file).map_err(Error::refused("ask for", election.path_of(LOCK)))
}

/// Whether another process has a locked description of this file, by this number; main may have put something else there
/// since it was given that.
///
/// # Errors
/// /proc can't tell.
pub(super) fn has(process: i32, number: RawFd, lock: &File) -> Result<bool, Errno> {
    let ours = lock.metadata().map_err(|e| errno(&e))?;
    let theirs = match std::fs::metadata(format!("/proc/{process}/fd/{number}")) {
        Ok(theirs) => theirs,
        Err(error) if errno(&error) == Errno::ENOENT => return Ok(false),
        Err(error) => return Err(errno(&error)),
    };
    if (ours.dev(), ours.ino()) != (theirs.dev(), theirs.ino()) {
        return Ok(false);
    }
    // Of one open file description the kernel lists the locks it holds (proc_pid_fdinfo(5)).
    let locks = std::fs::read_to_string(format!("/proc/{process}/fdinfo/{number}")).map_err(|e| errno(&e))?;
    Ok(locks.contains("OFDLCK"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one assignment: a panic can't have left it half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
