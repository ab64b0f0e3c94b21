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
pub(super) struct Complaints(BTreeMap<String, (Outage, Time)>);

impl Complaints {
    /// Whether people are to be told.
    pub(super) fn is_news(&mut self, now: Time, what: &str, error: &str) -> bool {
        let (outage, last) = self.0.entry(what.to_owned()).or_insert_with(|| (Outage::default(), now));
        if now.since(*last) >= QUIET {
            outage.over();
        }
        *last = now;
        outage.is_news(error)
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
}
