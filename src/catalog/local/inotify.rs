//! One inotify instance for all the followers of an agent: a user has 128 of them on a whole host
//! (fs.inotify.max_user_instances), and a host may run more containers than that. Says that something changed in a
//! directory; what it is, whoever is told looks up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::readable::{self, Readable};

/// Names of files that were closed by who wrote them; beyond this many the sweep has to do.
const MOST_CLOSED: usize = 1000;

/// What a directory's change looks like. No IN_CREATE: files come by rename, complete. IN_EXCL_UNLINK: the end of a
/// file that was replaced long ago is no news.
fn wanted() -> AddWatchFlags {
    AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
        | AddWatchFlags::IN_DONT_FOLLOW
        // nix doesn't name it.
        | AddWatchFlags::from_bits_retain(nix::libc::IN_EXCL_UNLINK)
}

/// The instance and who waits for which of its watches.
#[derive(Debug)]
pub(super) struct Hub {
    inotify: AsyncFd<Readable<Inotify>>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    by_watch: HashMap<WatchDescriptor, BTreeMap<u64, Arc<Bell>>>,
}

/// Where one follower is told.
#[derive(Debug, Default)]
struct Bell {
    rung: Notify,
    news: Mutex<News>,
}

/// What happened in a directory since the last time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Files closed by who had them open for writing: perhaps a dead holder's, whose lock may be there a moment
    /// longer.
    pub(super) closed: BTreeSet<String>,
    /// The directory is no longer at its path.
    pub(super) lost: bool,
}

/// A follower's interest in a directory; dropping it ends it.
#[derive(Debug)]
pub(super) struct Watching {
    hub: Arc<Hub>,
    watch: WatchDescriptor,
    number: u64,
    bell: Arc<Bell>,
}

impl Hub {
    /// Takes one of the user's inotify instances.
    ///
    /// # Errors
    /// EMFILE: there is none left.
    pub(super) fn open() -> Result<Hub, Errno> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let inotify = readable::watch(inotify).map_err(|error| super::files::errno(&error))?;
        Ok(Hub { inotify, waiting: Mutex::default() })
    }

    /// Watches a directory from now on.
    ///
    /// # Errors
    /// ENOSPC: the user has no watch left; ENOENT, ENOTDIR: there is no such directory.
    pub(super) fn watch(self: &Arc<Hub>, directory: &Path) -> Result<Watching, Errno> {
        let mut waiting = self.lock();
        // The same directory has one watch, however many follow it.
        let watch = self.inotify.get_ref().0.add_watch(directory, wanted())?;
        let number = waiting.next;
        waiting.next += 1;
        let bell = Arc::<Bell>::default();
        waiting.by_watch.entry(watch).or_default().insert(number, Arc::clone(&bell));
        Ok(Watching { hub: Arc::clone(self), watch, number, bell })
    }

    /// Waits for the kernel and rings every follower it has news for. All followers wait here; whoever wakes first
    /// reads for all, so nothing has to run for the instance alone.
    async fn write_lock(&self) -> Result<(), Errno> {
        let mut ready = self.inotify.readable().await.map_err(|e| super::files::errno(&e))?;
        match ready.try_io(|inotify| inotify.get_ref().0.read_events().map_err(std::io::Error::from)) {
            Ok(Ok(events)) => events.iter().for_each(|event| self.dispatch(event)),
            Ok(Err(error)) => return Err(super::files::errno(&error)),
            Err(_another_follower_was_first) => {}
        }
        Ok(())
    }

    fn dispatch(&self, event: &InotifyEvent) {
        let mut waiting = self.lock();
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            // Events were dropped: everyone looks.
            waiting.by_watch.values().flat_map(BTreeMap::values).for_each(|bell| bell.ring(|_| {}));
            return;
        }
        let lost = event.mask.intersects(
            AddWatchFlags::IN_IGNORED
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_UNMOUNT,
        );
        let Some(bells) = waiting.by_watch.get(&event.wd) else { return };
        let closed = event.mask.contains(AddWatchFlags::IN_CLOSE_WRITE);
        let name = event.name.as_ref().filter(|_| closed).and_then(|name| name.to_str());
        for bell in bells.values() {
            bell.ring(|news| {
                news.lost |= lost;
                if let Some(name) = name
                    && news.closed.len() < MOST_CLOSED
                {
                    news.closed.insert(name.to_owned());
                }
            });
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            waiting.by_watch.remove(&event.wd);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Insertions and removals of one item: a panic can't have left it half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell {
    fn ring(&self, news: impl FnOnce(&mut News)) {
        news(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.rung.notify_one();
    }
}

impl Watching {
    /// Waits until something happened in the directory.
    ///
    /// # Errors
    /// The kernel tells nothing any more.
    pub(super) async fn news(&self) -> Result<News, Errno> {
        loop {
            tokio::select! {
                () = self.bell.rung.notified() => {
                    let mut news = self.bell.news.lock().unwrap_or_else(PoisonError::into_inner);
                    return Ok(std::mem::take(&mut *news));
                }
                turned = self.hub.write_lock() => turned?,
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut waiting = self.hub.lock();
        let Some(bells) = waiting.by_watch.get_mut(&self.watch) else { return };
        bells.remove(&self.number);
        if bells.is_empty() {
            waiting.by_watch.remove(&self.watch);
            // EINVAL when the directory went and took its watch along.
            let _ = self.hub.inotify.get_ref().0.rm_watch(self.watch);
        }
    }
}
