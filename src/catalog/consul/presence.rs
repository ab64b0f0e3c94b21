//! When Consul's servers are asked whether they have what their agent was told, and what they have said so far. An agent
//! that reaches no server, or whose servers have no leader, takes everything and says yes; and what is taken from the
//! catalog itself (`PUT /v1/catalog/deregister`, a snapshot that is restored) it puts back once a minute or so, when it
//! compares. Who asks the agent alone sees nothing of either. Registering anew makes the agent tell its servers at once.
//!
//! Each time something was told that changes the entry, the server that leads is asked for all of it. Afterwards any server
//! is asked for the checks of one host, with each heartbeat but no more often than each four seconds, and for the whole
//! entry once in a `ttl`, or where the store has gone back.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::sighting::{LookAt, Sighting};

/// No more often are the checks of a host asked for, however short a `ttl` is: so that an entry that is lost is missed
/// within ten seconds, and a thousand agents ask their servers no more than 250 times a second.
const NO_SOONER: Duration = Duration::from_secs(4);

/// So many looks in a row that nobody answers are an outage: one may have come too late.
const UNASKED: u32 = 2;

/// What is known of each service, by its id.
#[derive(Debug, Default)]
pub(super) struct Presence(Mutex<BTreeMap<String, Listing>>);

#[derive(Debug)]
struct Listing {
    /// When it was registered.
    since: Instant,
    /// When it was last looked at.
    at: Instant,
    /// When it was last looked at as a whole; `None`: not since the agent was told something.
    whole_at: Option<Instant>,
    /// The last look left nothing open.
    settled: bool,
    /// Where it was seen.
    place: Option<Place>,
    /// It was there since it was registered.
    there: bool,
    /// It is gone, or another.
    lost: bool,
    /// So many looks in a row have had no answer.
    unasked: u32,
}

#[derive(Debug)]
struct Place {
    /// The host it is on, as the servers name it.
    node: String,
    /// How far their store was, by the index of the question for the checks of this host.
    index: u64,
    /// By which write its own check was as it was.
    written_at: Option<u64>,
}

impl Place {
    /// Whether the store is another than it was: it has gone back, or the check was written by somebody else than us. Either
    /// may be hidden: by what others on this host have written since, or where only the address differs.
    fn differs(&mut self, sighting: &Sighting) -> bool {
        let back = std::mem::replace(&mut self.index, sighting.index) > sighting.index;
        back || self.written_at != sighting.written_at
    }
}

impl Presence {
    /// It was registered: the agent tells its servers of it.
    pub(super) fn registered(&self, id: &str) {
        let listing = Listing {
            since: Instant::now(),
            at: Instant::now(),
            whole_at: None,
            settled: false,
            place: None,
            there: false,
            lost: false,
            unasked: 0,
        };
        self.lock().insert(id.to_owned(), listing);
    }

    /// The agent was told something else of it.
    pub(super) fn changed(&self, id: &str) {
        if let Some(listing) = self.lock().get_mut(id) {
            listing.whole_at = None;
        }
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

    /// How it is to be looked at now, if it is.
    pub(super) fn due(&self, id: &str, ttl: Duration) -> Option<LookAt> {
        let listings = self.lock();
        let listing = listings.get(id)?;
        let Some(whole_at) = listing.whole_at else { return Some(LookAt::AtOnce) };
        if !listing.settled {
            return Some(LookAt::Whole);
        }
        if listing.at.elapsed() < ttl.min((ttl / 4).max(NO_SOONER)) {
            return None;
        }
        match &listing.place {
            Some(place) if whole_at.elapsed() < ttl => Some(LookAt::Checks(place.node.clone())),
            _ => Some(LookAt::Whole),
        }
    }

    /// What a look has shown. Whether the store is another than at the one before, so that the whole entry is to be looked at.
    pub(super) fn looked(&self, id: &str, look: &LookAt, sighting: &Sighting) -> bool {
        let mut listings = self.lock();
        let Some(listing) = listings.get_mut(id) else { return false };
        (listing.at, listing.unasked, listing.settled) = (Instant::now(), 0, sighting.lack.is_none());
        listing.there |= sighting.lack.is_none();
        // Who knows no leader doesn't know what is so by now, and takes nothing either.
        listing.lost = sighting.lack.is_some() && !sighting.leaderless;
        match look {
            LookAt::Checks(_) => listing.place.as_mut().is_some_and(|place| place.differs(sighting)),
            LookAt::Whole | LookAt::AtOnce => {
                // Who was asked at once and lacks it is asked at once again.
                if listing.settled || *look == LookAt::Whole {
                    listing.whole_at = Some(listing.at);
                }
                // The index is another question's: the next one of the checks begins anew.
                let written_at = sighting.written_at;
                listing.place = sighting.node.clone().map(|node| Place { node, index: 0, written_at });
                false
            }
        }
    }

    /// Nobody answered a look. Whether that is to be told: what the agent was told just now isn't known to be there.
    pub(super) fn unasked(&self, id: &str, look: &LookAt) -> bool {
        let mut listings = self.lock();
        let Some(listing) = listings.get_mut(id) else { return false };
        listing.at = Instant::now();
        listing.unasked = listing.unasked.saturating_add(1);
        let told = *look == LookAt::AtOnce || listing.unasked >= UNASKED;
        listing.settled &= !told;
        told
    }

    /// Whether it was seen since it was registered. What never was may be hidden from the token.
    pub(super) fn was_there(&self, id: &str) -> bool {
        self.lock().get(id).is_some_and(|listing| listing.there)
    }

    /// Whether what else there is of it would be critical by now, if it weren't fed.
    pub(super) fn is_settled(&self, id: &str, ttl: Duration) -> bool {
        self.lock().get(id).is_some_and(|listing| listing.since.elapsed() >= ttl * 2)
    }

    /// It is hidden from the token, or may be: nothing is known of it.
    pub(super) fn hidden(&self, id: &str) {
        if let Some(listing) = self.lock().get_mut(id) {
            (listing.at, listing.whole_at) = (Instant::now(), Some(Instant::now()));
            (listing.settled, listing.lost) = (true, false);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Listing>> {
        // Plain values, each of which says something by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Lack;
    use super::*;

    const TTL: Duration = Duration::from_secs(15);

    fn seen(index: u64, lack: Option<Lack>) -> Sighting {
        Sighting { node: Some("n1".to_owned()), index, written_at: Some(7), lack, leaderless: false, also: None }
    }

    fn checks() -> LookAt {
        LookAt::Checks("n1".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_is_looked_at_at_once_then_its_checks_with_each_heartbeat_and_the_whole_once_in_a_ttl() {
        let presence = Presence::default();
        assert_eq!(presence.due("app", TTL), None, "it isn't registered");
        presence.registered("app");
        assert_eq!(presence.due("app", TTL), Some(LookAt::AtOnce));
        presence.looked("app", &LookAt::AtOnce, &seen(90, None));
        assert_eq!(presence.due("app", TTL), None);
        let mut looks = Vec::new();
        for _ in 0..6 {
            // Heartbeats are scattered by a tenth.
            tokio::time::advance(TTL * 3 / 10).await;
            let look = presence.due("app", TTL).expect("each heartbeat");
            presence.looked("app", &look, &seen(7, None));
            looks.push(look);
        }
        assert_eq!(looks, [checks(), checks(), checks(), LookAt::Whole, checks(), checks()]);
        presence.changed("app");
        assert_eq!(presence.due("app", TTL), Some(LookAt::AtOnce));
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_ttl_asks_no_more_often_than_each_four_seconds_but_once_in_it() {
        for (ttl, every) in [(1, 1), (3, 3), (6, 4), (12, 4), (30, 8)] {
            let (presence, ttl) = (Presence::default(), Duration::from_secs(ttl));
            presence.registered("app");
            presence.looked("app", &LookAt::AtOnce, &seen(1, None));
            tokio::time::advance(Duration::from_secs(every) - Duration::from_secs(1)).await;
            assert_eq!(presence.due("app", ttl), None, "{ttl:?}");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(presence.due("app", ttl).is_some(), "{ttl:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_or_another_is_lost_until_it_is_registered_anew() {
        let presence = Presence::default();
        presence.registered("app");
        presence.looked("app", &LookAt::AtOnce, &seen(1, None));
        for lack in [Lack::Entry, Lack::Part("the status")] {
            assert!(!presence.is_lost("app"));
            presence.looked("app", &checks(), &seen(1, Some(lack)));
            assert!(presence.is_lost("app"));
            presence.registered("app");
        }
        presence.missed("app");
        assert!(presence.is_lost("app"), "the servers say that it isn't there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_went_back_is_noticed_by_the_same_question_alone() {
        let presence = Presence::default();
        presence.registered("app");
        assert!(!presence.looked("app", &LookAt::AtOnce, &seen(90, None)));
        assert!(!presence.looked("app", &checks(), &seen(50, None)), "another question's index");
        assert!(!presence.looked("app", &checks(), &seen(51, None)));
        assert!(presence.looked("app", &checks(), &seen(40, None)));
        assert!(!presence.looked("app", &LookAt::Whole, &seen(39, None)));
        assert!(!presence.looked("app", &checks(), &seen(38, None)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_somebody_else_wrote_is_noticed_whatever_others_on_this_host_write() {
        let presence = Presence::default();
        let written_at = |index, at| Sighting { written_at: Some(at), ..seen(index, None) };
        presence.registered("app");
        presence.looked("app", &LookAt::AtOnce, &written_at(90, 7));
        assert!(!presence.looked("app", &checks(), &written_at(50, 7)));
        assert!(presence.looked("app", &checks(), &written_at(60, 5)));
        presence.looked("app", &LookAt::Whole, &written_at(60, 5));
        assert!(!presence.looked("app", &checks(), &written_at(61, 5)), "it is right all the same");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_without_an_answer_is_told_at_once_of_what_was_told_just_now_and_else_the_second_time() {
        let presence = Presence::default();
        presence.registered("app");
        assert!(presence.unasked("app", &LookAt::AtOnce));
        assert_eq!(presence.due("app", TTL), Some(LookAt::AtOnce));
        presence.looked("app", &LookAt::AtOnce, &seen(1, None));
        assert!(!presence.unasked("app", &checks()));
        assert_eq!(presence.due("app", TTL), None);
        assert!(presence.unasked("app", &checks()));
        assert_eq!(presence.due("app", TTL), Some(LookAt::Whole), "until somebody answers");
        presence.looked("app", &LookAt::Whole, &seen(1, None));
        assert!(!presence.unasked("app", &checks()));
        assert!(!presence.is_lost("app"), "nobody has said so");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_server_without_a_leader_lacks_is_asked_for_again_and_not_registered_anew() {
        let presence = Presence::default();
        presence.registered("app");
        presence.looked("app", &LookAt::AtOnce, &seen(1, None));
        presence.looked("app", &checks(), &Sighting { leaderless: true, ..seen(1, Some(Lack::Entry)) });
        assert!(!presence.is_lost("app"));
        assert_eq!(presence.due("app", TTL), Some(LookAt::Whole));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_hidden_from_the_token_is_neither_there_nor_lost() {
        let presence = Presence::default();
        presence.registered("app");
        presence.looked("app", &LookAt::AtOnce, &seen(1, Some(Lack::Entry)));
        assert_eq!(presence.due("app", TTL), Some(LookAt::AtOnce));
        presence.hidden("app");
        assert!(!presence.is_lost("app") && !presence.was_there("app"));
        assert_eq!(presence.due("app", TTL), None);
        tokio::time::advance(TTL).await;
        assert_eq!(presence.due("app", TTL), Some(LookAt::Whole));
    }
}
