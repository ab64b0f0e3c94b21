//! How long to wait before trying again: backoff with jitter, so that a thousand agents cut off together don't come
//! back together. It never waits itself.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::config::Backoff;

/// The pauses of one row of failures.
#[derive(Debug, Clone)]
pub struct Pace {
    backoff: Backoff,
    next: Duration,
}

impl Pace {
    /// Starts at the first pause.
    pub fn new(backoff: Backoff) -> Pace {
        Pace { backoff, next: backoff.first }
    }

    /// The next pause: between half and all of it, doubling each time up to the longest.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.backoff.most);
        jittered(pause)
    }

    /// Success: the next failure starts at the first pause again.
    pub fn reset(&mut self) {
        self.next = self.backoff.first;
    }
}

/// Between half and all of a span, evenly.
pub fn jittered(span: Duration) -> Duration {
    let half = span / 2;
    half + half.mul_f64(random() as f64 / u64::MAX as f64)
}

/// A number nobody can foresee well enough to collide with on purpose; not for secrets. std seeds its hashers from
/// the kernel, and each [`RandomState`] differs from the one before.
pub fn random() -> u64 {
    RandomState::new().hash_one(0_u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_anew_after_success() {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_millis(350) };
        let mut pace = Pace::new(backoff);
        for longest in [100, 200, 350, 350] {
            let pause = pace.pause().as_millis();
            assert!((longest / 2..=longest).contains(&pause), "{pause} for {longest}");
        }
        pace.reset();
        assert!(pace.pause().as_millis() <= 100);
    }

    #[test]
    fn jitter_spreads() {
        let span = Duration::from_secs(1);
        let drawn: std::collections::BTreeSet<_> = (0..50).map(|_| jittered(span)).collect();
        assert!(drawn.len() > 40);
        assert!(drawn.iter().all(|d| (span / 2..=span).contains(d)));
    }
}
