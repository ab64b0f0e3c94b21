//! Following a query in a shared directory: looks, tells, and waits for a reason to look again. A reason is an inotify
//! event; behind it stands a slow sweep, for what no event tells.
//!
//! A holder's death is told by the closing of its file, and that comes a moment *before* the kernel frees its lock (so
//! `__fput` has it). So a file that was closed but is still locked is in doubt, and is looked at again soon.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, sleep, sleep_until};

use crate::catalog::border::LeftOut;
use crate::catalog::{ObservationSender, bounds};
use crate::config::{Backoff, Query};
use crate::net::backoff::{Pace, jittered};
use crate::supervisor::vocabulary::Observation;

use super::files::FileId;
use super::inotify::{News, Watching};
use super::name::escape;
use super::{Error, Local, budget, entries, kv};

/// Between two looks without a reason.
const SWEEP: Duration = Duration::from_secs(30);

/// Between two looks where inotify is exhausted.
pub(super) const POLL: Duration = Duration::from_secs(1);

/// Between looks at a file that was closed but is still locked, for the kernel tells of a closing first; the last one
/// repeats.
pub(super) const IN_DOUBT: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(125),
    Duration::from_secs(1),
];

/// After so many looks a file in doubt is somebody's who lives (an editor closed it, say): the sweep has to do.
const MOST_LOOKS: usize = 30;

/// Who found out that a directory is of before a reboot has begun to follow by then.
const STARTING: Duration = Duration::from_secs(10);

/// After a failure.
pub(super) const RETRY: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(5) };

/// See [`Backend::follow`](crate::catalog::Backend::follow).
pub(super) async fn follow(local: &Local, query: &Query, seen: &mut ObservationSender) {
    let mut follower = match Follower::new(local, query, seen.want_a_value()) {
        Ok(follower) => follower,
        Err(error) => {
            // The query itself is wrong: no later look would find more.
            seen.failed(&error).await;
            return pending().await;
        }
    };
    let mut pace = Pace::new(RETRY);
    let mut is_first = true;
    loop {
        let began = Instant::now();
        match follower.look().await {
            Ok(observation) => {
                pace.reset();
                if std::mem::take(&mut is_first) && local.root.began_anew_within(STARTING) {
                    seen.looks_anew();
                }
                seen.saw(observation).await;
                budget::rest_after(began).await;
                follower.wait().await;
            }
            Err(error) => {
                follower.watching = None;
                seen.failed(&error).await;
                let pause = match error {
                    Error::TooMuchToFollow(_) | Error::TooMuch { .. } => jittered(bounds::AGAIN),
                    _ => pace.pause(),
                };
                sleep(pause).await;
            }
        }
    }
}

/// What is looked at, by the names of its files.
#[derive(Debug)]
enum FollowTarget {
    Service { file: String, tag: Option<String> },
    Key(String),
    KeyPrefix(String),
}

#[derive(Debug)]
struct Follower<'a> {
    local: &'a Local,
    target: FollowTarget,
    watching: Option<Watching>,
    doubt: Doubt,
    sweep_at: Instant,
    /// Dead files are removed, until that turns out to be forbidden.
    tidy: bool,
    want_a_value: bool,
    left_out: LeftOut,
}

impl Follower<'_> {
    fn new<'a>(local: &'a Local, query: &Query, want_a_value: bool) -> Result<Follower<'a>, Error> {
        let target = match query {
            Query::Service { datacenter: Some(datacenter), .. } => {
                return Err(Error::Datacenter { datacenter: datacenter.clone() });
            }
            Query::Service { name, tag, datacenter: None } => {
                FollowTarget::Service { file: escape("service name", name)?, tag: tag.clone() }
            }
            Query::Key { key } => {
                escape("key", key)?;
                FollowTarget::Key(key.clone())
            }
            Query::KeyPrefix { prefix } => FollowTarget::KeyPrefix(prefix.clone()),
            Query::Leader { .. } => unreachable!("Backend::follow watches locks itself"),
        };
        Ok(Follower {
            local,
            target,
            watching: None,
            doubt: Doubt::default(),
            sweep_at: Instant::now() + jittered(SWEEP),
            tidy: true,
            want_a_value,
            left_out: LeftOut::of(query),
        })
    }

    async fn look(&mut self) -> Result<Observation, Error> {
        // What the dead left is removed as it is seen.
        let root = self.local.root.open_to_write().await?;
        let now = Instant::now();
        if now >= self.sweep_at {
            self.sweep_at = now + jittered(SWEEP);
            let (root, opened) = (self.local.root.clone(), self.local.root.open().await?);
            ignore_read_only(self.local.on_disk(move || root.sweep(&opened)).await)?;
        }
        // The watch comes first: what changes between watching and looking is then an event.
        let path = match &self.target {
            FollowTarget::Service { file, .. } => {
                ignore_read_only(root.make_service(file).map(drop))?;
                self.local.root.path_of_service(file)
            }
            FollowTarget::Key(_) | FollowTarget::KeyPrefix(_) => {
                ignore_read_only(root.make_keys().map(drop))?;
                self.local.root.path_of_keys()
            }
        };
        if self.watching.is_none() {
            self.watching = match self.local.watch(&path) {
                Ok(watching) => Some(watching),
                // Exhausted, or a read-only directory without this service yet: looked at each second.
                Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC | Errno::ENOENT | Errno::ENOSYS) => None,
                Err(source) => return Err(Error::refused("watch", path)(source)),
            };
        }
        match &self.target {
            FollowTarget::Service { file, tag } => {
                let scan = match root.service(file)? {
                    Some(service) => entries::scan(&service, tag.as_deref(), self.tidy, &mut self.left_out).await?,
                    None => entries::Scan::default(),
                };
                self.doubt.settle(&scan.alive, now);
                if let Some(error) = scan.stuck {
                    self.tidy = false;
                    tracing::debug!(
                        event = "catalog.dead_stay",
                        "dead entries stay: {}",
                        crate::catalog::report(&error)
                    );
                }
                Ok(Observation::Instances(scan.passing.into()))
            }
            FollowTarget::Key(key) => match kv::text(&root, key) {
                Err(error) if !self.want_a_value && error.is_the_values().is_some() => {
                    Ok(Observation::Key(Some(String::new())))
                }
                value => value.map(Observation::Key),
            },
            FollowTarget::KeyPrefix(prefix) => {
                let keys = kv::below(&root, prefix, &mut self.left_out).await?;
                Ok(Observation::Keys(keys.into()))
            }
        }
    }

    /// Until there is a reason to look.
    async fn wait(&mut self) {
        let mut deadline = self.sweep_at;
        if let Some(at) = self.doubt.next {
            deadline = deadline.min(at);
        }
        let Some(watching) = &self.watching else {
            return sleep_until(deadline.min(Instant::now() + POLL)).await;
        };
        let news = tokio::select! {
            news = watching.news() => news,
            () = sleep_until(deadline) => Ok(News::default()),
        };
        match news {
            Ok(News { closed, lost }) => {
                self.doubt.raise(closed, Instant::now());
                if lost {
                    self.watching = None;
                }
            }
            Err(error) => {
                tracing::warn!(
                    event = "degraded",
                    "inotify has stopped telling of changes ({}): looking every second",
                    error.desc()
                );
                self.watching = None;
                sleep(POLL).await;
            }
        }
    }
}

/// Files whose holder may just have died.
#[derive(Debug, Default)]
struct Doubt {
    /// By name; which file it was at the first look since.
    files: BTreeMap<String, Option<FileId>>,
    looks: usize,
    next: Option<Instant>,
}

impl Doubt {
    fn raise(&mut self, closed: impl IntoIterator<Item = String>, now: Instant) {
        for name in closed {
            self.files.insert(name, None);
            self.looks = 0;
            self.next = Some(now);
        }
    }

    /// After a look: forgets what is gone or replaced, and says when to look again at the rest.
    fn settle(&mut self, alive: &BTreeMap<String, FileId>, now: Instant) {
        self.files.retain(|name, file| match alive.get(name) {
            Some(there) => *file.get_or_insert(*there) == *there,
            None => false,
        });
        if self.files.is_empty() || self.looks >= MOST_LOOKS {
            *self = Doubt::default();
            return;
        }
        if self.next.is_none_or(|at| at <= now) {
            let pause = IN_DOUBT[self.looks.min(IN_DOUBT.len() - 1)];
            self.looks += 1;
            self.next = Some(now + pause);
        }
    }
}

fn ignore_read_only(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_read_only() => Ok(()),
        other => other,
    }
}
