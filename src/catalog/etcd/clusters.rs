//! Which cluster the members belong to. One that has lost its disk and came back as a cluster of its own answers like any
//! other, and knows of no lock and no lease: what it says is no answer. This remembers and decides, and asks nobody.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The known cluster has been silent for so long before another one can take its place: longer than members take to
/// restart, and than most leases.
const SILENCE: Duration = Duration::from_secs(30);

/// A cluster's own number.
pub(super) type ClusterId = u64;

/// The cluster that is believed, and what the endpoints name.
#[derive(Debug)]
pub(super) struct Clusters(Mutex<Belief>);

#[derive(Debug)]
struct Belief {
    known: Option<ClusterId>,
    /// Since when it is known though less than half of the endpoints have named it.
    doubtful_since: Option<Instant>,
    /// What each endpoint named last, and when.
    named: Vec<Option<(ClusterId, Instant)>>,
    /// Since when another one is named, and nothing heard of the known one.
    silent_since: Option<Instant>,
    /// Of which endpoints it was said that they belong to which other cluster.
    announced: Vec<Option<ClusterId>>,
}

/// What to make of the cluster that an endpoint names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The known one.
    Known,
    /// The same, of an endpoint that was said to belong to another.
    KnownAgain,
    /// Another one in the known one's place.
    TakenOver {
        /// The one before.
        from: ClusterId,
    },
    /// Another one.
    Stray {
        /// `None`: which one to believe isn't known yet.
        known: Option<ClusterId>,
        /// It wasn't said yet.
        is_news: bool,
    },
}

impl Clusters {
    /// Of so many endpoints, nothing known.
    pub(super) fn new(endpoints: usize) -> Clusters {
        let (named, announced) = (vec![None; endpoints], vec![None; endpoints]);
        Clusters(Mutex::new(Belief { known: None, doubtful_since: None, named, silent_since: None, announced }))
    }

    /// Whether no cluster is known yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.lock().known.is_none()
    }

    /// Whether half of the endpoints have named the known one, or none has named another for long. (Where no member says its
    /// cluster there is nothing to be sure of.)
    pub(super) fn is_sure(&self, now: Instant) -> bool {
        self.lock().doubtful_since.is_none_or(|since| now.duration_since(since) >= SILENCE)
    }

    /// All endpoints were asked, and these have answered. The first one is the one that most of them name; `None` as long as
    /// two are named alike.
    pub(super) fn begin(&self, votes: &[ClusterId], now: Instant) {
        let mut belief = self.lock();
        let count = |id: ClusterId| votes.iter().filter(|vote| **vote == id).count();
        let Some(most) = votes.iter().copied().max_by_key(|id| count(*id)) else { return };
        let is_alone = votes.iter().all(|vote| *vote == most || count(*vote) < count(most));
        let is_sure = belief.known.is_some() && belief.doubtful_since.is_none();
        if is_sure || !is_alone {
            return;
        }
        // Of two endpoints one may be down for ever.
        if count(most) * 2 >= belief.named.len() {
            (belief.known, belief.doubtful_since) = (Some(most), None);
        } else if belief.known.is_none() {
            (belief.known, belief.doubtful_since) = (Some(most), Some(now));
        }
    }

    /// An endpoint names a cluster.
    pub(super) fn name(&self, endpoint: usize, id: ClusterId, now: Instant) -> Verdict {
        let mut belief = self.lock();
        belief.named[endpoint] = Some((id, now));
        let known = belief.known;
        if known == Some(id) {
            belief.silent_since = None;
            return match belief.announced[endpoint].take() {
                Some(_) => Verdict::KnownAgain,
                None => Verdict::Known,
            };
        }
        let silent_since = *belief.silent_since.get_or_insert(now);
        if let Some(from) = known
            && now.duration_since(silent_since) >= SILENCE
            && belief.is_named_by_most(id, now)
        {
            (belief.known, belief.doubtful_since) = (Some(id), None);
            belief.silent_since = None;
            belief.announced.fill(None);
            return Verdict::TakenOver { from };
        }
        let is_news = belief.announced[endpoint].replace(id) != Some(id);
        Verdict::Stray { known, is_news }
    }

    /// A member of this cluster has answered; `false`: it isn't the known one any more. `None`: it doesn't say.
    pub(super) fn hear(&self, id: Option<ClusterId>) -> bool {
        let mut belief = self.lock();
        match id {
            Some(id) if belief.known == Some(id) => {
                belief.silent_since = None;
                true
            }
            Some(_) => false,
            None => true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Belief> {
        // Each change is an assignment: a panic can't have left it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Belief {
    /// More than half of the endpoints: a stray member alone takes no cluster's place, however long the others are cut off.
    fn is_named_by_most(&self, id: ClusterId, now: Instant) -> bool {
        let fresh = |at: Instant| now.duration_since(at) < SILENCE;
        let count = self.named.iter().flatten().filter(|(named, at)| *named == id && fresh(*at)).count();
        count * 2 > self.named.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: ClusterId = 1;
    const NEW: ClusterId = 2;

    fn knowing_old() -> (Clusters, Instant) {
        let (clusters, now) = (Clusters::new(3), Instant::now());
        clusters.begin(&[OLD, OLD], now);
        assert_eq!(clusters.name(0, OLD, now), Verdict::Known);
        (clusters, now)
    }

    #[test]
    fn a_stray_member_never_takes_the_clusters_place_and_is_said_once() {
        let (clusters, now) = knowing_old();
        for second in 0..1000 {
            let is_news = second == 0;
            let verdict = clusters.name(1, NEW, now + Duration::from_secs(second));
            assert_eq!(verdict, Verdict::Stray { known: Some(OLD), is_news });
        }
        assert_eq!(clusters.name(1, OLD, now), Verdict::KnownAgain);
        assert_eq!(clusters.name(1, OLD, now), Verdict::Known);
    }

    #[test]
    fn what_most_endpoints_name_takes_the_place_of_a_cluster_that_was_silent_for_long() {
        let (clusters, now) = knowing_old();
        let stray = |is_news| Verdict::Stray { known: Some(OLD), is_news };
        assert_eq!(clusters.name(0, NEW, now), stray(true));
        assert_eq!(clusters.name(1, NEW, now + SILENCE / 2), stray(true));
        // Heard of in between.
        assert!(clusters.hear(Some(OLD)));
        assert_eq!(clusters.name(0, NEW, now + SILENCE), stray(false));
        assert_eq!(clusters.name(1, NEW, now + SILENCE * 3 / 2), stray(false));
        assert_eq!(clusters.name(0, NEW, now + SILENCE * 2), Verdict::TakenOver { from: OLD });
        assert_eq!(clusters.name(1, NEW, now + SILENCE * 2), Verdict::Known);
        assert!(!clusters.hear(Some(OLD)), "an answer of the old one comes late");
    }

    #[test]
    fn the_first_one_is_the_one_that_most_name_and_none_where_two_are_named_alike() {
        for (votes, known) in [(&[NEW, OLD, OLD][..], Some(OLD)), (&[NEW], Some(NEW)), (&[NEW, OLD], None), (&[], None)]
        {
            let clusters = Clusters::new(3);
            clusters.begin(votes, Instant::now());
            assert_eq!(clusters.lock().known, known, "{votes:?}");
        }
    }

    #[test]
    fn one_that_few_endpoints_have_named_is_in_doubt_until_half_do_or_none_names_another_for_long() {
        let (clusters, now) = (Clusters::new(3), Instant::now());
        clusters.begin(&[NEW], now);
        assert!(!clusters.is_unknown() && !clusters.is_sure(now) && clusters.is_sure(now + SILENCE));
        clusters.begin(&[NEW, OLD], now);
        assert!(clusters.hear(Some(NEW)) && !clusters.is_sure(now));
        clusters.begin(&[NEW, OLD, OLD], now);
        assert!(clusters.hear(Some(OLD)) && !clusters.hear(Some(NEW)) && clusters.is_sure(now));
        clusters.begin(&[NEW, NEW], now);
        assert!(clusters.hear(Some(OLD)), "it is sure");
    }
}
