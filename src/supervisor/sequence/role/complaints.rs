//! What has been said of an election's store while it fails, by what was tried. Between two failures of one thing another may
//! go well (the lock is read, and can't be acquired), so what ends an outage is that nobody has complained for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::supervisor::machines::outage::Outage;
use crate::supervisor::vocabulary::Time;

/// What fails is tried again every few seconds at most.
const QUIET: Duration = Duration::from_secs(15);

/// What was complained of.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeMap<String, Complaint>);

#[derive(Debug)]
struct Complaint {
    outage: Outage,
    last: Time,
    /// That it failed was said, and not yet that it works again.
    open: bool,
}

impl Complaints {
    /// Whether people are to be told.
    pub(super) fn is_news(&mut self, now: Time, what: &str, error: &str) -> bool {
        let complaint = self.0.entry(what.to_owned()).or_insert_with(|| Complaint {
            outage: Outage::default(),
            last: now,
            open: false,
        });
        if now.since(complaint.last) >= QUIET {
            complaint.outage.over();
        }
        complaint.last = now;
        let is_news = complaint.outage.is_news(error);
        complaint.open |= is_news;
        is_news
    }

    /// What works now: whether people are to be told that it does again.
    pub(super) fn is_over(&mut self, now: Time, what: &str) -> bool {
        let quiet = |complaint: &&mut Complaint| now.since(complaint.last) >= QUIET;
        self.0.get_mut(what).filter(quiet).is_some_and(|complaint| std::mem::take(&mut complaint.open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_is_said_once_until_it_is_quiet() {
        let mut complaints = Complaints::default();
        let mut at = |seconds: u64, what: &str, error: &str| {
            complaints.is_news(Time::default() + Duration::from_secs(seconds), what, error)
        };
        assert!(at(0, "acquiring", "full") && at(0, "reading", "full"));
        assert!((1..100).all(|second| !at(second, "acquiring", "full")));
        assert!(at(100, "acquiring", "denied") && !at(101, "acquiring", "full"));
        assert!(at(120, "acquiring", "full"));
    }

    #[test]
    fn that_it_works_again_is_said_once_and_when_it_has_been_quiet() {
        let (mut complaints, at) = (Complaints::default(), |seconds| Time::default() + Duration::from_secs(seconds));
        assert!(!complaints.is_over(at(0), "renewing"));
        assert!(complaints.is_news(at(0), "renewing", "no answer"));
        assert!(!complaints.is_over(at(1), "renewing"));
        assert!(!complaints.is_news(at(10), "renewing", "no answer"));
        assert!(!complaints.is_over(at(24), "renewing") && complaints.is_over(at(25), "renewing"));
        assert!(!complaints.is_over(at(26), "renewing"));
    }
}
