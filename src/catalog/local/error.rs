//! What can go wrong with a shared directory.

use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use crate::catalog::border::Flaw;
use crate::catalog::bounds::TooMuch;

/// Why the shared directory couldn't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("can't {action} {}", .path.display())]
    Refused {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// Locks on this file system aren't one kernel's.
    #[error(
        "{} is on {kind}, where a lock doesn't show whether its holder lives; the directory must be on a disk of \
         this host or a tmpfs (a volume such as docker's `-v pilotfish:{}`)",
        .directory.display(), .directory.display()
    )]
    FileSystem {
        /// The directory.
        directory: PathBuf,
        /// The file system's name, or its magic number.
        kind: String,
    },
    /// No other container sees it, as far as can be known.
    #[error(
        "{} is on {kind}, which is taken for this container's own, so no other container could see what is there: mount \
         a volume that they share (docker's `-v pilotfish:{}`), or set `shared = true` in [catalog] if they do share it",
        .directory.display(), .directory.display()
    )]
    Alone {
        /// The directory.
        directory: PathBuf,
        /// What it lies on.
        kind: &'static str,
    },
    /// No other container sees the witness's, as far as can be known.
    #[error(
        "{} is on {kind}, which is taken for this container's own, so nobody could learn there that its main process is \
         gone: mount a directory of the host that its containers share (docker's `-v /run/pilotfish:{}`)",
        .directory.display(), .directory.display()
    )]
    AloneWithWitness {
        /// The directory.
        directory: PathBuf,
        /// What it lies on.
        kind: &'static str,
    },
    /// Which boot this is can't be known.
    #[error("/proc is missing, so no lock can be told from one of before the host's last boot")]
    NoBootId,
    /// Another kernel's, or a file that isn't there any more.
    #[error("{} isn't a file of this host", .file.display())]
    NotHere {
        /// The file.
        file: PathBuf,
    },
    /// Removed, or its directory was, or another stands in its place.
    #[error("{} is gone (a new one is made when the container is started again)", .file.display())]
    WitnessGone {
        /// The file.
        file: PathBuf,
    },
    /// Containers of another host use the directory.
    #[error(
        "{} is in use under another kernel (boot id {boot_id}), whose locks can't be seen from here: give each host a \
         directory of its own, or wait: after {} s without a sign of life it is taken over",
        .directory.display(), .silence.as_secs()
    )]
    OtherKernel {
        /// The directory.
        directory: PathBuf,
        /// The other kernel's.
        boot_id: String,
        /// How long it has to be silent.
        silence: Duration,
    },
    /// Somebody else's directory, as far as can be known.
    #[error(
        "{} is taken for somebody else's: {name:?} is in it, which no agent made so, and no agent's mark (a file `boot`): \
         give it another name ([catalog] prefix), or empty it",
        .directory.display()
    )]
    NotOurs {
        /// The directory.
        directory: PathBuf,
        /// What no agent makes there.
        name: String,
    },
    /// Somebody has put another file in the place of an election's lock.
    #[error(
        "{} isn't a lock that an agent made, which is a plain file with one name, for everybody to read and write: remove it",
        .path.display()
    )]
    NoLock {
        /// The file.
        path: PathBuf,
    },
    /// Somebody has leased a file, which they can't if it is a live agent's.
    #[error("{} can't be opened: another process has leased it (F_SETLEASE)", .path.display())]
    Leased {
        /// The file.
        path: PathBuf,
    },
    /// Two live agents have one id.
    #[error("{id} is held by another live agent ({there}): each container needs an id of its own ([[service]] id)")]
    Held {
        /// The id.
        id: String,
        /// What the other one registered.
        there: String,
    },
    /// A name can't be a file's.
    #[error("{what} {name:?} {problem}")]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is more than is kept or read.
    #[error("{what} exceeds the limit of {limit}")]
    TooMuch {
        /// Of what.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// There is more than is followed.
    #[error(transparent)]
    TooMuchToFollow(TooMuch),
    /// A value isn't UTF-8.
    #[error("the value of key {key:?} is not UTF-8")]
    NotText {
        /// The key.
        key: String,
    },
    /// A directory knows no other datacenter.
    #[error("datacenter {datacenter:?} can't be asked: the local catalog knows its own host only")]
    Datacenter {
        /// The one wanted.
        datacenter: String,
    },
    /// Nobody can be sent to the disk.
    #[error("{} can't be used: there is no thread for it", .directory.display())]
    NoThread {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The disk doesn't answer.
    #[error("{} didn't answer within {} s", .directory.display(), .waited.as_secs())]
    Silent {
        /// The directory.
        directory: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
}

impl Error {
    /// Whether the directory isn't this user's to write in.
    pub(in crate::catalog) fn is_denial(&self) -> bool {
        matches!(self, Error::Refused { source: Errno::EACCES | Errno::EPERM | Errno::EROFS, .. })
    }

    /// For `map_err`: what was tried with what.
    pub(super) fn refused(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(Errno) -> Error {
        move |source| Error::Refused { action, path: path.into(), source }
    }

    /// What is wrong with a value, when it is that and nothing with the directory.
    pub(super) fn is_the_values(&self) -> Option<Flaw> {
        match self {
            Error::NotText { .. } => Some(Flaw::NotText),
            Error::TooMuch { .. } => Some(Flaw::TooLarge),
            Error::Refused { source: Errno::EACCES | Errno::EPERM, .. } | Error::Leased { .. } => {
                Some(Flaw::Unreadable)
            }
            _ => None,
        }
    }

    /// Whether it may be otherwise the next time, for nothing is wrong with what was opened: there was no room for it.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Error::Refused { source: Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EINTR, .. })
    }

    /// Whether the directory may be read but not changed: a volume mounted read-only, or another user's.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Error::Refused { source: Errno::EROFS | Errno::EACCES | Errno::EPERM, .. })
    }
}
