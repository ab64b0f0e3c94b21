//! Follows a query: reads once, then watches from the revision after that read, so that no change falls between.
//! When the watch ends (its member died or lost its leader, or the revision was compacted) it reads again.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{Client, EventType, GetOptions, KeyValue, WatchOptions, WatchStream};
use tokio::time::Instant;

use crate::catalog::Sightings;
use crate::catalog::election::Views;
use crate::catalog::election::record::Leader;
use crate::catalog::pace::Pace;
use crate::config::{Backoff, Query};
use crate::supervisor::election::record::SessionId;
use crate::supervisor::event::{Instance, Observation};

use super::Etcd;
use super::error::Error;
use super::layout::{self, Entry, Layout};
use super::members::{At, Members};

/// Between reads that fail. The first is what a thousand agents spread over whose connections broke and whose engine is
/// there at once, the longest what they spread over after its restart.
const RETRY: Backoff = Backoff { first: Duration::from_millis(400), most: Duration::from_secs(5) };

/// A watch has so long to begin.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(2);

/// So long an election within etcd is no outage: it takes one to two seconds at etcd's own settings.
const ELECTION: Duration = Duration::from_secs(3);

/// One query's keys.
struct Range {
    start: String,
    prefix: bool,
}

/// Tells what the query sees, for ever.
pub(super) async fn follow(members: &Members, layout: &Layout, query: &Query, seen: &mut Sightings) -> ! {
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
    let strip = layout.key("");
    let mut pace = Pace::new(RETRY);
    // Since when there has been no leader.
    let mut electing = None;
    loop {
        // Only a read tells of an outage: a watch that ended proves none.
        match read(members, &range).await {
            Ok((mut found, revision, at)) => {
                electing = None;
                tell(query, &strip, &found, seen).await;
                let begun = Instant::now();
                let ended = match Watch::begin(&range, revision, at).await {
                    Ok(mut watch) => loop {
                        match watch.change(&mut found).await {
                            Ok(Change::Values | Change::Keys) => {
                                pace.reset();
                                tell(query, &strip, &found, seen).await;
                            }
                            Err(error) => break error,
                        }
                    },
                    Err(error) => error,
                };
                pace.lived(begun.elapsed());
                tracing::debug!(event = "catalog.watch_ended", "{}", crate::catalog::report(&ended));
            }
            Err(error) if error.is_an_election() => {
                let since = electing.get_or_insert_with(|| {
                    pace.reset();
                    Instant::now()
                });
                if since.elapsed() >= ELECTION {
                    seen.failed(&error).await;
                }
            }
            Err(error) => seen.failed(&error).await,
        }
        tokio::time::sleep(pace.pause()).await;
    }
}

/// Tells what the lock of an election shows, for ever. A leader's renewals write its key again and again: what is told,
/// and read anew, is only another term, another's hand, or none.
pub(super) async fn follow_lock(etcd: &Etcd, election: &str, views: &mut Views) -> ! {
    let range = Range { start: etcd.keys(election).leader, prefix: false };
    let mut pace = Pace::new(RETRY);
    loop {
        match look_at_lock(etcd, &range, election, views).await {
            Ok((mut watch, mut found)) => loop {
                let (by, begun) = (session(&found), Instant::now());
                // Not what is left of it: a lock that came and went in one message was perhaps told by the first look.
                let changed = match watch.change(&mut found).await {
                    Ok(change) => change == Change::Keys || session(&found) != by,
                    Err(error) => {
                        pace.lived(begun.elapsed());
                        tracing::debug!(event = "catalog.watch_ended", "{}", crate::catalog::report(&error));
                        break;
                    }
                };
                pace.reset();
                if changed {
                    match etcd.look(election).await {
                        Ok(view) => views.saw(view).await,
                        // What it is can be told by the next read only.
                        Err(_) => break,
                    }
                }
            },
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
    views: &mut Views,
) -> Result<(Watch<'a>, Found), Error> {
    let (found, revision, at) = read(&etcd.members, range).await?;
    let watch = Watch::begin(range, revision, at).await?;
    views.saw(etcd.look(election).await?).await;
    Ok((watch, found))
}

/// What one message of a watch tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Keys that were there have other values.
    Values,
    /// Keys came or went.
    Keys,
}

/// By which session a lock is held, as its value says: a person may have overwritten that.
fn session(found: &Found) -> Option<SessionId> {
    Leader::read(found.values().next()?.value()).map(|leader| leader.session)
}

type Found = BTreeMap<Vec<u8>, KeyValue>;

async fn read<'a>(members: &'a Members, range: &Range) -> Result<(Found, i64, At<'a>), Error> {
    let options = || match range.prefix {
        true => Some(GetOptions::new().with_prefix()),
        false => None,
    };
    let got = members.call_at("read what is followed", |mut client: Client| {
        let (start, options) = (range.start.clone(), options());
        async move { client.get(start, options).await }
    });
    let (mut got, at) = got.await?;
    let revision = got.header().map_or(0, |header| header.revision());
    let found = got.take_kvs().into_iter().map(|pair| (pair.key().to_vec(), pair)).collect();
    Ok((found, revision, at))
}

/// A watch at one member.
struct Watch<'a> {
    at: At<'a>,
    stream: WatchStream,
}

impl<'a> Watch<'a> {
    /// Tells of everything after a revision.
    async fn begin(range: &Range, revision: i64, mut at: At<'a>) -> Result<Watch<'a>, Error> {
        let mut options = WatchOptions::new().with_start_revision(revision + 1);
        if range.prefix {
            options = options.with_prefix();
        }
        let begun = tokio::time::timeout(BEGIN_TIMEOUT, at.client.watch(range.start.as_str(), Some(options))).await;
        match begun {
            Ok(Ok(stream)) => Ok(Watch { at, stream }),
            Ok(Err(error)) => Err(failed(&at, error)),
            Err(_) => {
                at.part();
                Err(Error::TimedOut { what: "watch", member: at.place().to_owned(), after: BEGIN_TIMEOUT })
            }
        }
    }

    /// Waits until something changed, and changes `found` the same; why the watch ended, when it did.
    async fn change(&mut self, found: &mut Found) -> Result<Change, Error> {
        let ended = |reason: String| Err(Error::Watch { member: self.at.place().to_owned(), reason });
        loop {
            // No deadline of its own: the connection's keep-alive finds a silent member within 8 s.
            let message = match self.stream.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return ended("the stream ended".to_owned()),
                Err(error) => return Err(failed(&self.at, error)),
            };
            if message.canceled() {
                return match message.compact_revision() {
                    0 => {
                        // Perhaps the login's fault.
                        self.at.part();
                        ended(message.cancel_reason().to_owned())
                    }
                    revision => ended(format!("history before revision {revision} is compacted")),
                };
            }
            let mut change = Change::Values;
            for event in message.events() {
                let Some(pair) = event.kv() else { continue };
                if event.event_type() == EventType::Delete || pair.create_revision() == pair.mod_revision() {
                    change = Change::Keys;
                }
                match event.event_type() {
                    EventType::Put => found.insert(pair.key().to_vec(), pair.clone()),
                    EventType::Delete => found.remove(pair.key()),
                };
            }
            if !message.events().is_empty() {
                return Ok(change);
            }
        }
    }
}

fn failed(at: &At<'_>, error: etcd_client::Error) -> Error {
    at.part();
    Error::of("watch", at.place(), error)
}

async fn tell(query: &Query, strip: &str, found: &Found, seen: &mut Sightings) {
    match observation(query, strip, found) {
        Ok(observation) => seen.saw(observation).await,
        Err(error) => seen.failed(&error).await,
    }
}

fn observation(query: &Query, strip: &str, found: &Found) -> Result<Observation, Error> {
    match query {
        Query::Service { tag, .. } => {
            let mut instances: Vec<Instance> = found
                .values()
                // What isn't an entry, nobody of us wrote.
                .filter_map(|pair| serde_json::from_slice::<Entry>(pair.value()).ok()?.passing())
                .filter(|instance| tag.as_ref().is_none_or(|tag| instance.tags.contains(tag)))
                .collect();
            instances.sort();
            Ok(Observation::Instances(instances))
        }
        Query::Key { .. } => Ok(Observation::Key(found.values().next().map(layout::text).transpose()?)),
        Query::KeyPrefix { .. } => {
            let keys = found.values().map(|pair| {
                let key = String::from_utf8_lossy(pair.key());
                Ok((key.strip_prefix(strip).unwrap_or(&key).to_owned(), layout::text(pair)?))
            });
            Ok(Observation::Keys(keys.collect::<Result<_, Error>>()?))
        }
        Query::Leader { .. } => unreachable!("Backend::follow watches locks itself"),
    }
}
