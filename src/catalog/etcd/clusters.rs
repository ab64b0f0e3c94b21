//! Which cluster the endpoints belong to. A member that has lost its disk and came back as a cluster of its own answers like
//! any other, and knows of no lock and no lease: what it says is no answer. This remembers and decides, and asks nobody.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The known cluster has been silent for so long before another one can take its place: longer than members take to
/// restart, and than most leases. And so long one that few have named is in doubt.
const SILENCE: Duration = Duration::from_secs(30);

/// A cluster's own number.
pub(super) type ClusterId = u64;

/// The cluster that is believed, and what the endpoints name.
#[derive(Debug)]
pub(super) struct Clusters {
    belief: Mutex<Belief>,
    /// That there is news of any of it.
    news: watch::Sender<()>,
}

#[derive(Debug)]
struct Belief {
    known: Option<KnownCluster>,
    /// What each endpoint named last, and when.
    named: Vec<Option<(ClusterId, Instant)>>,
    /// Whether all endpoints have had the time to name one.
    all_asked: bool,
    /// Since when another one is named, and nothing heard of the known one.
    silent_since: Option<Instant>,
    /// Of which endpoints it was said that they belong to which other cluster.
    announced: Vec<Option<ClusterId>>,
}

/// The cluster that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KnownCluster {
    id: ClusterId,
    since: Instant,
    /// Whether more than half of the endpoints have named it at some time. A stray never comes to that.
    by_most: bool,
}

/// Another cluster in the known one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// The one before.
    pub(super) from: ClusterId,
    /// The one that is believed now.
    pub(super) to: ClusterId,
    /// Whether most had named the one before, too: it was silent for long.
    pub(super) was_sure: bool,
}

/// What to make of an endpoint by the cluster that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The known one.
    Known,
    /// The same, of an endpoint that was said to belong to another.
    KnownAgain,
    /// Another one.
    Stray {
        /// `None`: which one to believe isn't known yet.
        known: Option<ClusterId>,
        /// Whether most have named the known one.
        is_sure: bool,
        /// It wasn't said yet.
        is_news: bool,
    },
}

impl Clusters {
    /// Of so many endpoints, nothing known.
    pub(super) fn new(endpoints: usize) -> Clusters {
        let (named, announced) = (vec![None; endpoints], vec![None; endpoints]);
        let belief = Belief { known: None, named, all_asked: false, silent_since: None, announced };
        Clusters { belief: Mutex::new(belief), news: watch::Sender::new(()) }
    }

    /// Whether no cluster is known yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.lock().known.is_none()
    }

    /// Whether most endpoints have named the known one, so that nobody needs to be asked any more.
    pub(super) fn is_named_by_most(&self) -> bool {
        self.lock().known.is_some_and(|known| known.by_most)
    }

    /// Whether the known one may be trusted with a lock: most endpoints have named it; or none has named another, and half
    /// of them this one (of two endpoints one may be down for ever), or this one has been all that is to be had for long.
    /// (Where no member says its cluster there is nothing to be sure of.)
    pub(super) fn is_sure(&self, now: Instant) -> bool {
        let belief = self.lock();
        let Some(known) = belief.known else { return true };
        let (own, others) = belief.count(known.id, now);
        let is_half = belief.all_asked && own * 2 >= belief.named.len();
        known.by_most || others == 0 && (is_half || now.duration_since(known.since) >= SILENCE)
    }

    /// Whether as many endpoints name another cluster as the known one, which most have never named: whoever leads there may
    /// lead beside another.
    pub(super) fn is_contested(&self, now: Instant) -> bool {
        let belief = self.lock();
        belief.known.is_some_and(|known| {
            let (own, others) = belief.count(known.id, now);
            !known.by_most && others >= own
        })
    }

    /// Whether the endpoint has still to say that it belongs to the known one.
    pub(super) fn is_open(&self, endpoint: usize) -> bool {
        let belief = self.lock();
        let named = belief.named[endpoint].map(|(id, _)| id);
        named.is_none() || named != belief.known.map(|known| known.id)
    }

    /// An endpoint names a cluster; what changes by that. What more endpoints name takes the place of what few did at once,
    /// and what most name that of what most did once that has been silent for long.
    pub(super) fn name(&self, endpoint: usize, id: ClusterId, now: Instant) -> Option<Change> {
        let mut belief = self.lock();
        belief.named[endpoint] = Some((id, now));
        let change = belief.weigh(id, now);
        drop(belief);
        self.news.send_replace(());
        change
    }

    /// All endpoints have had the time to name one.
    pub(super) fn all_were_asked(&self) {
        self.lock().all_asked = true;
        self.news.send_replace(());
    }

    /// While most have named none: the first one is the one that more have named than any other, and none as long as two are
    /// named alike.
    pub(super) fn settle(&self, now: Instant) {
        let mut belief = self.lock();
        if belief.known.is_none()
            && let Some(most) = belief.plurality(now)
        {
            belief.known = Some(KnownCluster { id: most, since: now, by_most: false });
            drop(belief);
            self.news.send_replace(());
        }
    }

    /// What to make of an endpoint that has just named this one.
    pub(super) fn judge(&self, endpoint: usize, id: ClusterId) -> Verdict {
        let mut belief = self.lock();
        let known = belief.known;
        if known.is_some_and(|known| known.id == id) {
            return match belief.announced[endpoint].take() {
                Some(_) => Verdict::KnownAgain,
                None => Verdict::Known,
            };
        }
        let is_news = belief.announced[endpoint].replace(id) != Some(id);
        let is_sure = known.is_some_and(|known| known.by_most);
        Verdict::Stray { known: known.map(|known| known.id), is_sure, is_news }
    }

    /// A member of this cluster has answered; `false`: it isn't the known one any more. `None`: it doesn't say.
    pub(super) fn hear(&self, id: Option<ClusterId>) -> bool {
        let mut belief = self.lock();
        let is_known = belief.is_known(id);
        if is_known && id.is_some() {
            belief.silent_since = None;
        }
        is_known
    }

    /// Returns once this one isn't the known one any more.
    pub(super) async fn is_left(&self, id: Option<ClusterId>) {
        self.once(|belief| !belief.is_known(id)).await;
    }

    /// Returns once more needn't be waited for: most endpoints have named one, or all have had the time to.
    pub(super) async fn are_heard(&self) {
        self.once(|belief| belief.all_asked || belief.known.is_some_and(|known| known.by_most)).await;
    }

    async fn once(&self, is_so: impl Fn(&Belief) -> bool) {
        let mut news = self.news.subscribe();
        while !is_so(&self.lock()) {
            // The sender lives as long as this.
            let _ = news.changed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Belief> {
        // Each change is an assignment: a panic can't have left it half done.
        self.belief.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Belief {
    fn is_known(&self, id: Option<ClusterId>) -> bool {
        id.is_none_or(|id| self.known.is_some_and(|known| known.id == id))
    }

    /// An endpoint has just named this one.
    fn weigh(&mut self, id: ClusterId, now: Instant) -> Option<Change> {
        let names_it = self.count(id, now).0;
        let by_most = names_it * 2 > self.named.len();
        let Some(known) = self.known else {
            self.known = by_most.then_some(KnownCluster { id, since: now, by_most });
            return None;
        };
        if known.id == id {
            self.known = Some(KnownCluster { by_most: known.by_most || by_most, ..known });
            self.silent_since = None;
            return None;
        }
        let (from, was_sure) = (known.id, known.by_most);
        let silent_since = *self.silent_since.get_or_insert(now);
        let is_silent = now.duration_since(silent_since) >= SILENCE;
        let comes_next = match was_sure {
            true => by_most && is_silent,
            false => names_it > self.count(from, now).0,
        };
        if !comes_next {
            return None;
        }
        self.known = Some(KnownCluster { id, since: now, by_most });
        self.silent_since = None;
        self.announced.fill(None);
        Some(Change { from, to: id, was_sure })
    }

    /// How many endpoints have named this one last, and how many another one. One that has said nothing for long has ended,
    /// perhaps; but nobody asks again who has named the known one.
    fn count(&self, id: ClusterId, now: Instant) -> (usize, usize) {
        let known = self.known.map(|known| known.id);
        let counts = |named: ClusterId, at: Instant| Some(named) == known || now.duration_since(at) < SILENCE;
        let named = || self.named.iter().flatten().filter(|(named, at)| counts(*named, *at));
        let own = named().filter(|(named, _)| *named == id).count();
        (own, named().count() - own)
    }

    /// The one that more endpoints have named than any other.
    fn plurality(&self, now: Instant) -> Option<ClusterId> {
        let count = |id: ClusterId| self.count(id, now).0;
        let ids = || self.named.iter().flatten().map(|(id, _)| *id);
        let most = ids().max_by_key(|id| count(*id)).filter(|most| count(*most) > 0)?;
        let is_alone = ids().all(|id| id == most || count(id) < count(most));
        is_alone.then_some(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: ClusterId = 1;
    const NEW: ClusterId = 2;

    fn named(names: &[(usize, ClusterId)]) -> (Clusters, Instant) {
        let (clusters, now) = (Clusters::new(3), Instant::now());
        for (endpoint, id) in names {
            assert_eq!(clusters.name(*endpoint, *id, now), None);
        }
        clusters.settle(now);
        (clusters, now)
    }

    fn known(clusters: &Clusters) -> Option<ClusterId> {
        clusters.lock().known.map(|known| known.id)
    }

    #[test]
    fn a_stray_member_never_takes_the_clusters_place_and_is_said_once() {
        let (clusters, now) = named(&[(0, OLD), (1, OLD)]);
        for second in 0..1000 {
            assert_eq!(clusters.name(2, NEW, now + Duration::from_secs(second)), None);
            let stray = Verdict::Stray { known: Some(OLD), is_sure: true, is_news: second == 0 };
            assert_eq!(clusters.judge(2, NEW), stray);
        }
        assert_eq!(clusters.judge(2, OLD), Verdict::KnownAgain);
        assert_eq!(clusters.judge(2, OLD), Verdict::Known);
    }

    #[test]
    fn what_most_endpoints_name_takes_the_place_of_a_cluster_that_was_silent_for_long() {
        let (clusters, now) = named(&[(0, OLD), (1, OLD)]);
        assert_eq!(clusters.name(0, NEW, now), None);
        assert_eq!(clusters.name(1, NEW, now + SILENCE / 2), None);
        // Heard of in between.
        assert!(clusters.hear(Some(OLD)));
        assert_eq!(clusters.name(0, NEW, now + SILENCE), None);
        assert_eq!(clusters.name(1, NEW, now + SILENCE * 3 / 2), None);
        let change = Change { from: OLD, to: NEW, was_sure: true };
        assert_eq!(clusters.name(0, NEW, now + SILENCE * 2), Some(change));
        assert_eq!(clusters.judge(0, NEW), Verdict::Known);
        assert!(!clusters.hear(Some(OLD)), "an answer of the old one comes late");
    }

    #[test]
    fn the_first_one_is_the_one_that_most_name_and_none_where_two_are_named_alike() {
        for (names, first) in [
            (&[(0, NEW), (1, OLD), (2, OLD)][..], Some(OLD)),
            (&[(1, NEW)], Some(NEW)),
            (&[(0, NEW), (1, OLD)], None),
            (&[], None),
        ] {
            assert_eq!(known(&named(names).0), first, "{names:?}");
        }
    }

    #[test]
    fn one_that_few_have_named_is_in_doubt_for_long_and_for_ever_if_another_is_named_too() {
        let (clusters, now) = named(&[(0, NEW)]);
        clusters.all_were_asked();
        assert!(!clusters.is_sure(now) && clusters.is_sure(now + SILENCE));
        assert_eq!(clusters.name(1, OLD, now + SILENCE), None);
        assert!(clusters.hear(Some(NEW)) && !clusters.is_sure(now + SILENCE) && clusters.is_contested(now + SILENCE));
        // Whatever it was trusted with: most name another.
        let change = Change { from: NEW, to: OLD, was_sure: false };
        assert_eq!(clusters.name(2, OLD, now + SILENCE), Some(change));
        assert!(clusters.hear(Some(OLD)) && !clusters.hear(Some(NEW)) && clusters.is_sure(now + SILENCE));
        assert_eq!(clusters.name(1, NEW, now + SILENCE), None);
        assert!(clusters.is_sure(now + SILENCE), "most have named it");
    }

    #[test]
    fn of_two_endpoints_one_is_enough_once_the_other_had_its_time_and_named_no_other() {
        let (clusters, now) = (Clusters::new(2), Instant::now());
        clusters.name(0, OLD, now);
        clusters.settle(now);
        assert!(!clusters.is_sure(now));
        clusters.all_were_asked();
        assert!(clusters.is_sure(now));
        clusters.name(1, NEW, now);
        assert!(!clusters.is_sure(now), "which one is the stray can't be known");
        assert!(clusters.is_contested(now) && known(&clusters) == Some(OLD));
        // It has ended, as nobody hears of it any more.
        assert!(clusters.is_sure(now + SILENCE) && !clusters.is_contested(now + SILENCE));
    }

    #[test]
    fn of_five_endpoints_two_lead_away_from_one_and_two_that_ended_keep_nobody() {
        let (clusters, now) = (Clusters::new(5), Instant::now());
        clusters.name(0, NEW, now);
        clusters.settle(now);
        assert_eq!(clusters.name(1, OLD, now), None);
        assert_eq!(clusters.name(2, OLD, now), Some(Change { from: NEW, to: OLD, was_sure: false }));

        let (clusters, now) = (Clusters::new(2), Instant::now());
        clusters.name(0, NEW, now);
        clusters.name(1, OLD, now);
        clusters.settle(now);
        assert_eq!(known(&clusters), None, "two are named alike");
        clusters.name(1, OLD, now + SILENCE);
        clusters.settle(now + SILENCE);
        assert_eq!(known(&clusters), Some(OLD), "the other has ended");
    }

    #[tokio::test]
    async fn who_waits_at_a_cluster_hears_that_it_is_left() {
        let (clusters, now) = named(&[(0, NEW)]);
        clusters.name(1, OLD, now);
        let both = async {
            tokio::join!(clusters.is_left(Some(NEW)), async { clusters.name(2, OLD, now) });
            clusters.are_heard().await;
        };
        tokio::time::timeout(Duration::from_secs(5), both).await.expect("at once");
        let stays = tokio::time::timeout(Duration::from_millis(20), clusters.is_left(Some(OLD)));
        assert!(stays.await.is_err() && clusters.is_named_by_most());
    }
}
