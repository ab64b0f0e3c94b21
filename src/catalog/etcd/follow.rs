//! Follows a query: reads once, then watches from the revision after that read, so that no change falls between.
//! When the watch ends (its member died or lost its leader, or the revision was compacted) it reads again.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use etcd_client::{EventType, KeyValue, WatchOptions, WatchStream};
use tokio::time::Instant;

use crate::catalog::border::LeftOut;
use crate::catalog::election::LockViewSender;
use crate::catalog::election::record::Leader;
use crate::catalog::rate::{self, RateLimit};
use crate::catalog::{ObservationSender, bounds};
use crate::config::{Backoff, Query};
use crate::net::backoff::{self, Pace};
use crate::supervisor::machines::election::event::Id;
use crate::supervisor::machines::election::record::SessionId;

use super::Etcd;
use super::error::Error;
use super::found::Found;
use super::layout::Layout;
use super::members::{Members, Reached};
use super::pages::{self, Page, Range};

/// Between reads that fail. The first is what a thousand agents spread over whose connections broke and whose backend is
/// there at once, the longest what they spread over after its restart.
const RETRY: Backoff = Backoff { first: Duration::from_millis(400), most: Duration::from_secs(5) };

/// A watch has so long to begin.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(4);

/// So long an election within etcd is no outage: it takes one to two seconds at etcd's own settings.
const ELECTION: Duration = Duration::from_secs(3);

/// Tells what the query sees, for ever.
pub(super) async fn follow(members: &Members, layout: &Layout, query: &Query, seen: &mut ObservationSender) -> ! {
    if let Query::Service { datacenter: Some(name), .. } = query {
        seen.failed(&Error::Datacenter { name: name.clone() }).await;
        std::future::pending::<()>().await;
    }
    let range = match query {
        Query::Service { name, .. } => Range { start: layout.instances(name), prefix: true },
        Query::Key { key } => Range { start: layout.key(key), prefix: false },
        Query::KeyPrefix { prefix } => Range { start: layout.key(prefix), prefix: true },
        Query::Leader { .. } => unreachable!("Backend::follow watches locks itself"),
    };
    let mut left_out = LeftOut::of(query);
    let mut pace = Pace::new(RETRY);
    // Since when there has been no leader.
    let mut electing = None;
    loop {
        // Only a read tells of an outage: a watch that ended proves none. But what it ended with may be the store's data.
        let mut found = Found::of(query, layout);
        let read = pages::read(members, &range, |page| {
            let taken = match page {
                Page::Pair(pair) => found.put(pair.key(), pair.value(), &mut left_out),
                Page::TooLong(key) => found.too_large(key, &mut left_out),
            };
            taken.map_err(Error::TooMuch)
        });
        match read.await {
            Ok((revision, at)) => {
                electing = None;
                let mut telling = Telling::new();
                telling.tell(&found, seen).await;
                let begun = Instant::now();
                let ended = match KeyWatch::begin(&range, revision, at).await {
                    Ok(mut watch) => loop {
                        let changed = watch.change(|pair: &KeyValue, event| match event {
                            EventType::Put => {
                                found.put(pair.key(), pair.value(), &mut left_out).map_err(Error::TooMuch)
                            }
                            EventType::Delete => {
                                found.gone(pair.key());
                                Ok(())
                            }
                        });
                        match telling.or(changed).await {
                            Some(Ok(KeyChange::Values | KeyChange::Keys)) => {
                                pace.reset();
                                telling.changed();
                            }
                            Some(Err(error)) => break error,
                            None => telling.tell(&found, seen).await,
                        }
                    },
                    Err(error) => error,
                };
                if let Error::TooMuch(_) = &ended {
                    seen.failed(&ended).await;
                    tokio::time::sleep(backoff::jittered(bounds::AGAIN)).await;
                    continue;
                }
                seen.looks_anew();
                pace.lived(begun.elapsed());
                tracing::debug!(event = "catalog.watch_ended", "{}", crate::catalog::report(&ended));
            }
            Err(error) if error.is_an_election() => {
                let since = electing.get_or_insert_with(|| {
                    pace.reset();
                    Instant::now()
                });
                match since.elapsed() >= ELECTION {
                    true => seen.failed(&error).await,
                    false => seen.looks_anew(),
                }
            }
            Err(error @ Error::TooMuch(_)) => {
                seen.failed(&error).await;
                tokio::time::sleep(backoff::jittered(bounds::AGAIN)).await;
            }
            Err(error) => seen.failed(&error).await,
        }
        tokio::time::sleep(pace.pause()).await;
    }
}

/// Tells what the lock of an election shows, for ever. A leader's renewals write its key again and again: what is told,
/// and read anew, is only another term, another's hand, another address, or none.
pub(super) async fn follow_lock(etcd: &Etcd, election: &str, views: &mut LockViewSender) -> ! {
    let range = Range { start: etcd.keys(election).leader, prefix: false };
    let mut pace = Pace::new(RETRY);
    loop {
        match look_at_lock(etcd, &range, election, views).await {
            Ok((mut watch, mut found)) => {
                let mut telling = Telling::new();
                loop {
                    let (by, begun) = (holder(&found), Instant::now());
                    // Not what is left of it: a lock that came and went in one message was perhaps told by the first look.
                    let change = |pair: &KeyValue, event| {
                        match event {
                            EventType::Put => found.insert(pair.key().to_vec(), pair.clone()),
                            EventType::Delete => found.remove(pair.key()),
                        };
                        Ok(())
                    };
                    match telling.or(watch.change(change)).await {
                        Some(Ok(change)) => {
                            pace.reset();
                            if change == KeyChange::Keys || holder(&found) != by {
                                telling.changed();
                            }
                        }
                        Some(Err(error)) => {
                            pace.lived(begun.elapsed());
                            tracing::debug!(event = "catalog.watch_ended", "{}", crate::catalog::report(&error));
                            break;
                        }
                        None => {
                            telling.begins();
                            match etcd.look(election).await {
                                Ok(view) => views.saw(view).await,
                                // What it is can be told by the next read only.
                                Err(_) => break,
                            }
                            telling.told();
                        }
                    }
                }
            }
            Err(error) => views.failed(&error).await,
        }
        tokio::time::sleep(pace.pause()).await;
    }
}

/// Begins to watch a lock, and tells what it shows; between the two nothing is missed.
async fn look_at_lock<'a>(
    etcd: &'a Etcd,
    range: &Range,
    election: &str,
    views: &mut LockViewSender,
) -> Result<(KeyWatch<'a>, LockKeys), Error> {
    let mut found = LockKeys::new();
    let read = pages::read(&etcd.members, range, |page| match page {
        Page::Pair(pair) => {
            found.insert(pair.key().to_vec(), pair.clone());
            Ok(())
        }
        Page::TooLong(key) => Err(Error::TooLarge { key: String::from_utf8_lossy(key).into_owned() }),
    });
    let (revision, at) = read.await?;
    let watch = KeyWatch::begin(range, revision, at).await?;
    views.saw(etcd.look(election).await?).await;
    Ok((watch, found))
}

/// What one message of a watch tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyChange {
    /// Keys that were there have other values.
    Values,
    /// Keys came or went.
    Keys,
}

/// By which session a lock is held and where its holder can be reached, as its value says: a person may have overwritten
/// that.
fn holder(found: &LockKeys) -> Option<(SessionId, Option<Id>)> {
    Leader::read(found.values().next()?.value()).map(|leader| (leader.session, leader.address))
}

type LockKeys = BTreeMap<Vec<u8>, KeyValue>;

/// A watch at one member.
struct KeyWatch<'a> {
    at: Reached<'a>,
    stream: WatchStream,
}

impl<'a> KeyWatch<'a> {
    /// Tells of everything after a revision.
    async fn begin(range: &Range, revision: i64, mut at: Reached<'a>) -> Result<KeyWatch<'a>, Error> {
        // In pieces: one message of many changes would be longer than a client takes.
        let mut options = WatchOptions::new().with_start_revision(revision + 1).with_fragment();
        if range.prefix {
            options = options.with_prefix();
        }
        let begun = tokio::time::timeout(BEGIN_TIMEOUT, at.client.watch(range.start.as_str(), Some(options))).await;
        match begun {
            Ok(Ok(stream)) => Ok(KeyWatch { at, stream }),
            Ok(Err(error)) => Err(failed(&at, error)),
            Err(_) => {
                at.part();
                Err(Error::TimedOut { what: "watch", member: at.place().to_owned(), after: BEGIN_TIMEOUT })
            }
        }
    }

    /// Waits until something changed, and gives each change; why the watch ended, when it did.
    async fn change(
        &mut self,
        mut each: impl FnMut(&KeyValue, EventType) -> Result<(), Error>,
    ) -> Result<KeyChange, Error> {
        let ended = |reason: String| Err(Error::Watch { member: self.at.place().to_owned(), reason });
        loop {
            // No deadline of its own: the connection's keep-alive finds a silent member within 8 s.
            let message = tokio::select! {
                biased;
                () = self.at.is_left() => {
                    self.at.part();
                    return Err(Error::Replaced { what: "watch", member: self.at.place().to_owned() });
                }
                message = self.stream.message() => message,
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return ended("the stream ended".to_owned()),
                Err(error) => return Err(failed(&self.at, error)),
            };
            if message.canceled() {
                return match message.compact_revision() {
                    0 => {
                        // Perhaps the login's fault.
                        self.at.part();
                        ended(crate::errors::cut(message.cancel_reason()))
                    }
                    revision => ended(format!("history before revision {revision} is compacted")),
                };
            }
            let mut change = KeyChange::Values;
            for event in message.events() {
                let Some(pair) = event.kv() else { continue };
                if event.event_type() == EventType::Delete || pair.create_revision() == pair.mod_revision() {
                    change = KeyChange::Keys;
                }
                each(pair, event.event_type())?;
            }
            if !message.events().is_empty() {
                return Ok(change);
            }
        }
    }
}

fn failed(at: &Reached<'_>, error: etcd_client::Error) -> Error {
    let error = Error::of("watch", at.place(), error);
    // A message that is longer than a client takes (one value of such a length, or many changes together) is its writer's
    // doing, and not the connection's: the next read passes it over.
    if !error.is_too_long() {
        at.part();
    }
    error
}

/// When to tell of what has changed: at once, but not of each of many changes. Whoever writes one key again and again has
/// no version of the whole made of each write.
#[derive(Debug)]
struct Telling {
    rate: RateLimit,
    /// Nothing is told before that.
    rested: Instant,
    /// Since when there is something to tell.
    dirty: Option<Instant>,
}

impl Telling {
    fn new() -> Telling {
        Telling { rate: RateLimit::new(), rested: Instant::now(), dirty: None }
    }

    fn changed(&mut self) {
        self.dirty.get_or_insert_with(Instant::now);
    }

    /// The next change; `None` when it is time to tell: nothing more is ready, or so much is that it doesn't end.
    async fn or<T>(&self, change: impl Future<Output = T>) -> Option<T> {
        // Changes that are always ready must not keep the task from ever waiting.
        tokio::task::yield_now().await;
        let Some(dirty) = self.dirty else { return Some(change.await) };
        if Instant::now() >= self.rested.max(dirty + rate::SPACING) {
            return None;
        }
        tokio::time::timeout_at(self.rested, change).await.ok()
    }

    /// What changes from now on is to be told another time.
    fn begins(&mut self) {
        self.dirty = None;
    }

    /// One telling more.
    fn told(&mut self) {
        let now = Instant::now();
        self.rested = now + self.rate.answered(now);
    }

    async fn tell(&mut self, found: &Found<'_>, seen: &mut ObservationSender) {
        self.begins();
        let began = Instant::now();
        match found.observation(seen.want_a_value()) {
            Ok(observation) => seen.saw(observation).await,
            Err(error) => seen.failed(&error).await,
        }
        self.told();
        self.rested = self.rested.max(Instant::now() + rate::rest_after(began.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_that_are_ready_are_told_together_and_those_without_end_all_the_same() {
        let mut telling = Telling::new();
        assert_eq!(telling.or(ready(1)).await, Some(1));
        telling.changed();
        assert_eq!(telling.or(ready(2)).await, Some(2));
        assert_eq!(telling.or(pending::<u32>()).await, None, "nothing more is ready");
        tokio::time::advance(rate::SPACING).await;
        assert_eq!(telling.or(ready(3)).await, None, "it doesn't end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_changes_without_end_is_told_at_once_and_then_twenty_times_a_second() {
        let begun = Instant::now();
        let (mut telling, mut told) = (Telling::new(), 0);
        while begun.elapsed() < Duration::from_secs(10) {
            let write = tokio::time::sleep(Duration::from_millis(1));
            match telling.or(write).await {
                Some(()) => telling.changed(),
                None => {
                    assert!(told > 0 || begun.elapsed() < Duration::from_millis(10), "the first is told at once");
                    told += 1;
                    telling.begins();
                    telling.told();
                }
            }
        }
        assert!((150..=230).contains(&told), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_while_a_follower_rests_is_told_after_that() {
        let begun = Instant::now();
        let rest = Duration::from_millis(400);
        let mut telling = Telling { rested: begun + rest, ..Telling::new() };
        telling.changed();
        assert_eq!(telling.or(ready(1)).await, Some(1));
        assert_eq!(telling.or(pending::<u32>()).await, None);
        assert_eq!(begun.elapsed(), rest);
    }
}
