//! The catalog in a directory on a volume shared by the containers of one host: an instance is a file held by a kernel
//! lock, so a crash is seen by the kernel and not by a clock. It needs no server, and knows no other host.
//!
//! ```text
//! DIRECTORY/PREFIX/boot                the boot id of the kernel whose locks these are
//! DIRECTORY/PREFIX/services/NAME/ID    one instance, JSON, locked by its agent
//! DIRECTORY/PREFIX/keys/KEY            one value
//! DIRECTORY/PREFIX/elections/NAME/     the lock of an election, and what belongs to it
//! DIRECTORY/PREFIX/witnesses/NAME/     files by which the ends of containers are known (whatever the backend)
//! DIRECTORY/PREFIX/tmp/                files on their way to their place
//! ```
//!
//! A ttl means nothing here: an entry ends with its agent.

mod boot;
mod budget;
mod entries;
mod error;
mod files;
mod filesystem;
mod follow;
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::catalog) mod fuzz;
mod inotify;
mod kv;
mod lock;
mod lock_file;
mod name;
mod publish;
mod ranks;
mod root;
mod solitude;
mod witness;

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{sleep, timeout};

use crate::config::{Query, Service};
use crate::supervisor::vocabulary::{Fence, KeyChange, Registration, Value};

use super::{Amended, Changed, ObservationSender};
pub use error::Error;
use inotify::{Hub, Watching};
use publish::{PublishOutcome, Publisher};
use root::Root;
pub use solitude::survey;
pub use witness::{WitnessDirectory, survey as survey_witness};

/// Between attempts at an entry somebody holds: long enough for whoever only looks at it, or for a kernel that is
/// still taking down its last holder.
const BUSY: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(125),
    Duration::from_millis(500),
];

/// How long a disk may take to keep a value.
const PATIENCE: Duration = Duration::from_secs(5);

/// A shared directory and what this agent holds in it.
#[derive(Debug)]
pub struct Local {
    root: Root,
    publisher: Mutex<Publisher>,
    lock_file: lock_file::LockFile,
    rank: Mutex<ranks::Published>,
    watches: Mutex<Watches>,
}

#[derive(Debug, Default)]
struct Watches {
    hub: Option<Arc<Hub>>,
    /// That inotify is exhausted has been said.
    said: bool,
}

impl Local {
    /// Looks at nothing yet.
    ///
    /// `shared`: what a container may have for itself (overlayfs, a tmpfs) is known not to be so here.
    pub fn new(directory: &Path, prefix: &str, shared: bool) -> Local {
        Local {
            root: Root::new(directory, prefix, shared),
            publisher: Mutex::default(),
            lock_file: lock_file::LockFile::default(),
            rank: Mutex::default(),
            watches: Mutex::default(),
        }
    }

    /// See [`Backend::publish`](super::Backend::publish).
    ///
    /// # Errors
    /// The directory can't be used, or another live agent holds the id.
    pub async fn publish(&self, registration: &Registration, address: IpAddr) -> Result<(), Error> {
        let opened = self.root.open_to_write().await;
        let root = opened.inspect_err(|_| self.publisher().cant_publish(registration, address))?;
        let mut pauses = BUSY.into_iter();
        loop {
            let attempt = self.publisher().publish(&root, registration, address)?;
            match (attempt, pauses.next()) {
                (PublishOutcome::Done, _) => return Ok(()),
                (PublishOutcome::Busy { .. }, Some(pause)) => sleep(pause).await,
                (PublishOutcome::Busy { there }, None) => {
                    return Err(Error::Held { id: registration.service.id.clone(), there });
                }
            }
        }
    }

    /// See [`Backend::withdraw`](super::Backend::withdraw). Where the directory can't be used, what was there is nobody's
    /// from now on, as if this agent were dead, and so out of everybody's sight.
    ///
    /// # Errors
    /// Its file can't be removed.
    pub async fn withdraw(&self, service: &Service) -> Result<(), Error> {
        match self.root.open_to_write().await {
            Ok(root) => self.publisher().withdraw(&root, service),
            Err(_) => {
                self.publisher().cant_withdraw(service);
                Ok(())
            }
        }
    }

    /// See [`Backend::follow`](super::Backend::follow).
    pub async fn follow(&self, query: &Query, seen: &mut ObservationSender) {
        follow::follow(self, query, seen).await;
    }

    /// See [`Backend::get`](super::Backend::get).
    ///
    /// # Errors
    /// The directory can't be used.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        kv::get(&self.root.open().await?, key)
    }

    /// See [`Backend::change`](super::Backend::change). Whoever holds the lock keeps it for as long as this takes.
    ///
    /// # Errors
    /// The directory can't be used; the key is longer than a file's name may be, or the value than 512 KiB.
    pub async fn change(&self, key: &str, change: &KeyChange, fence: Option<&Fence>) -> Result<Changed, Error> {
        let root = self.root.open().await?;
        let (key, change, fence) = (key.to_owned(), change.clone(), fence.cloned());
        let held = match &fence {
            Some(_) => Some(self.lock_file.write_lock.clone().lock_owned().await),
            None => None,
        };
        self.on_disk(move || {
            if let (Some(fence), Some(held)) = (&fence, &held)
                && !lock::stands(&root, held, fence)?
            {
                return Ok(Changed::Fenced);
            }
            kv::change(&root, &key, &change)
        })
        .await
    }

    /// See [`Backend::amend`](super::Backend::amend). Whoever holds the lock keeps it for as long as this takes, and writes
    /// nothing else by it.
    ///
    /// # Errors
    /// As [`change`](Local::change).
    pub async fn amend(
        &self,
        key: &str,
        fence: &Fence,
        next: impl Fn(Option<&[u8]>) -> Option<Value> + Send + 'static,
    ) -> Result<Amended, Error> {
        let root = self.root.open().await?;
        let (key, fence) = (key.to_owned(), fence.clone());
        let held = self.lock_file.write_lock.clone().lock_owned().await;
        self.on_disk(move || {
            if !lock::stands(&root, &held, &fence)? {
                return Ok(Amended::Fenced);
            }
            match next(kv::get(&root, &key)?.as_deref()) {
                Some(value) => kv::change(&root, &key, &KeyChange::Put(value)).map(|_| Amended::Written),
                None => Ok(Amended::Left),
            }
        })
        .await
    }

    /// Works on the disk, which may take its time to sync, in a thread of its own.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match timeout(PATIENCE, crate::files::beside(work)).await {
            Ok(done) => done.map_err(|source| Error::NoThread { directory: self.root.path().to_owned(), source })?,
            Err(_) => Err(Error::Silent { directory: self.root.path().to_owned(), waited: PATIENCE }),
        }
    }

    /// Watches a directory with the agent's one inotify instance.
    fn watch(&self, directory: &Path) -> Result<Watching, Errno> {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let hub = match &watches.hub {
            Some(hub) => Ok(Arc::clone(hub)),
            None => Hub::open().map(|hub| Arc::clone(watches.hub.insert(Arc::new(hub)))),
        };
        let watching = hub.and_then(|hub| hub.watch(directory));
        if let Err(error @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC | Errno::ENOSYS)) = watching
            && !std::mem::replace(&mut watches.said, true)
        {
            tracing::warn!(
                event = "degraded",
                "inotify is exhausted ({}): {} is looked at every second (raise fs.inotify.max_user_instances and \
                 max_user_watches)",
                error.desc(),
                self.root.path().display()
            );
        }
        watching
    }

    fn publisher(&self) -> MutexGuard<'_, Publisher> {
        // Files are put in after, and taken out before, they are what they should be: a panic leaves nothing false.
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
