//! Whether Consul's servers still have what the agent told them. What somebody removes from the catalog itself (`PUT
//! /v1/catalog/deregister`, a snapshot that is restored) the agent puts back once a minute or so, when it compares; who asks
//! the agent alone sees nothing of it. Registering anew makes the agent tell it at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use tokio::time::Instant;

use super::agent::KnownCheck;
use super::client::{Call, Client};
use super::error::Error;

/// What is known of each service, by its id.
#[derive(Debug, Default)]
pub(super) struct Presence(Mutex<BTreeMap<String, Listing>>);

#[derive(Debug, Clone, Copy)]
struct Listing {
    /// When it was registered, or last looked at.
    at: Instant,
    /// It was looked at since it was registered.
    looked: bool,
    /// It was there then.
    there: bool,
    /// It is gone.
    lost: bool,
}

impl Presence {
    /// It was registered: the agent tells its servers of it.
    pub(super) fn registered(&self, id: &str) {
        let listing = Listing { at: Instant::now(), looked: false, there: false, lost: false };
        self.lock().insert(id.to_owned(), listing);
    }

    /// The servers don't have it, as they have said.
    pub(super) fn missed(&self, id: &str) {
        if let Some(listing) = self.lock().get_mut(id) {
            listing.lost = true;
        }
    }

    /// Whether it is to be registered anew.
    pub(super) fn is_lost(&self, id: &str) -> bool {
        self.lock().get(id).is_some_and(|listing| listing.lost)
    }

    /// Whether it is time to look: the first time with the next heartbeat, since only what was there can be missed.
    pub(super) fn is_due(&self, id: &str, every: Duration) -> bool {
        let after = |listing: &Listing| if listing.looked { every } else { every / 4 };
        self.lock().get(id).is_some_and(|listing| listing.at.elapsed() >= after(listing))
    }

    /// What a look has shown; `None`: it couldn't be asked. What was never there may be there, and hidden from the token.
    pub(super) fn looked(&self, id: &str, there: Option<bool>) {
        if let Some(listing) = self.lock().get_mut(id) {
            (listing.at, listing.looked) = (Instant::now(), true);
            listing.lost |= listing.there && there == Some(false);
            listing.there |= there == Some(true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Listing>> {
        // Each change is one assignment: a panic can't have left it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    checks: Vec<KnownCheck>,
}

impl Client {
    /// Whether the servers have an instance of this id with all these checks, of which the first has these notes. Any
    /// server may answer: nothing hangs on how new that is.
    pub(super) async fn servers_have(
        &self,
        (name, id): (&str, &str),
        checks: [&str; 2],
        notes: &str,
        within: Duration,
    ) -> Result<bool, Error> {
        let ask = Call::new(Method::GET, &["health", "service", name])
            .with("stale", "")
            .with("filter", &format!("Service.ID == `{id}`"))
            .within(within);
        let entries: Vec<Entry> = self.ask(ask).await?.good()?.parse()?;
        let has = |entry: &Entry, id: &str, notes: Option<&str>| {
            entry.checks.iter().any(|check| check.id == id && notes.is_none_or(|notes| check.notes == notes))
        };
        let [first, second] = checks;
        Ok(entries.iter().any(|entry| has(entry, first, Some(notes)) && has(entry, second, None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(6);

    #[tokio::test(start_paused = true)]
    async fn what_was_there_and_is_there_no_more_is_lost_until_it_is_registered_anew() {
        let presence = Presence::default();
        assert!(!presence.is_due("app", TTL), "it isn't registered");
        presence.registered("app");
        assert!(!presence.is_due("app", TTL));
        tokio::time::advance(TTL / 3).await;
        assert!(presence.is_due("app", TTL));
        presence.looked("app", Some(true));
        tokio::time::advance(TTL / 3).await;
        assert!(!presence.is_due("app", TTL) && !presence.is_lost("app"));
        tokio::time::advance(TTL).await;
        assert!(presence.is_due("app", TTL));
        presence.looked("app", None);
        assert!(!presence.is_lost("app"), "nobody answered");
        presence.looked("app", Some(false));
        assert!(presence.is_lost("app"));
        presence.registered("app");
        assert!(!presence.is_lost("app"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_seen_is_perhaps_hidden() {
        let presence = Presence::default();
        presence.registered("app");
        presence.looked("app", Some(false));
        assert!(!presence.is_lost("app"));
        presence.missed("app");
        assert!(presence.is_lost("app"), "the servers say that it isn't there");
    }
}
