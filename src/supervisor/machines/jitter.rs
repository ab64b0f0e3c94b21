//! Pauses that grow and scatter: exponential backoff with jitter, from a seed given once, so that a run can be
//! repeated exactly.

use std::time::Duration;

use crate::config::Backoff;

/// A source of scatter: SplitMix64, seeded by the agent. Not for secrets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Jitter(u64);

impl Jitter {
    /// One that always gives the same numbers for the same seed.
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// Some duration between half of `full` and all of it.
    pub fn scatter(&mut self, full: Duration) -> Duration {
        let half = full / 2;
        let part = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        half + half.mul_f64(part)
    }

    /// Some duration between none and all of `most`.
    pub fn part(&mut self, most: Duration) -> Duration {
        most.mul_f64((self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// The pause after `failures` failures in a row (1 or more). One whose length was set, not its growth, is that long.
    pub fn pause(&mut self, backoff: Backoff, failures: u32) -> Duration {
        let full = pause(backoff, failures);
        if backoff.first == backoff.most { full } else { self.scatter(full) }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The pause after `failures` failures in a row (1 or more), before jitter.
pub fn pause(backoff: Backoff, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    backoff.first.saturating_mul(1 << doublings).min(backoff.most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(1) };
        let pauses: Vec<u128> = (1..=5).map(|n| pause(backoff, n).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1000, 1000]);
        assert_eq!(pause(backoff, u32::MAX), backoff.most);
    }

    #[test]
    fn a_pause_of_one_length_is_always_that_long() {
        let mut jitter = Jitter::new(7);
        let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(1) };
        assert!((1..100).all(|n| jitter.pause(backoff, n) == Duration::from_secs(1)));
        let grows = Backoff { most: Duration::from_secs(2), ..backoff };
        assert!((1..100).any(|n| jitter.pause(grows, n) != pause(grows, n)));
    }

    #[test]
    fn scatter_stays_between_half_and_whole_and_moves() {
        let mut jitter = Jitter::new(7);
        let full = Duration::from_secs(1);
        let drawn: Vec<Duration> = (0..1000).map(|_| jitter.scatter(full)).collect();
        assert!(drawn.iter().all(|d| (full / 2..=full).contains(d)));
        assert!(drawn.iter().max().unwrap().saturating_sub(*drawn.iter().min().unwrap()) > full / 4);
    }
}
