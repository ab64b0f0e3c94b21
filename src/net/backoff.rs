//! How long to wait before trying again: backoff with jitter, so that a thousand agents cut off together don't come
//! back together. It never waits itself.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::config::Backoff;
use crate::supervisor::machines::jitter;

/// A connection that lasted so long and breaks is no failure to get one. Longer than any pause: what lasts shorter each
/// time mustn't be tried more often.
const LIVED: Duration = Duration::from_secs(10);

/// The pauses of one row of failures.
#[derive(Debug, Clone)]
pub struct Pace {
    backoff: Backoff,
    failures: u32,
}

impl Pace {
    /// Starts at the first pause.
    pub fn new(backoff: Backoff) -> Pace {
        Pace { backoff, failures: 0 }
    }

    /// The next pause: the first between nothing and all of it, each other one between half and all of it, doubling
    /// each time up to the longest. A connection that breaks breaks for everyone at one instant, and the backend may be
    /// there again at once: half a pause that all keep would bring them back together.
    pub fn pause(&mut self) -> Duration {
        self.failures += 1;
        let pause = jitter::pause(self.backoff, self.failures);
        match self.failures {
            1 => scattered(pause),
            _ => jittered(pause),
        }
    }

    /// What has just failed had worked for so long: whether that was a success.
    pub fn lived(&mut self, span: Duration) {
        if span >= LIVED {
            self.reset();
        }
    }

    /// Success: the next failure starts at the first pause again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Between half and all of a span, evenly.
pub fn jittered(span: Duration) -> Duration {
    let half = span / 2;
    half + scattered(half)
}

/// Between nothing and all of a span, evenly.
fn scattered(span: Duration) -> Duration {
    span.mul_f64(random() as f64 / u64::MAX as f64)
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
        for (shortest, longest) in [(0, 100), (100, 200), (175, 350), (175, 350)] {
            let pause = pace.pause().as_millis();
            assert!((shortest..=longest).contains(&pause), "{pause} for {longest}");
        }
        pace.reset();
        assert!(pace.pause().as_millis() <= 100);
    }

    #[test]
    fn a_quiet_connection_that_breaks_once_a_day_is_no_row_of_failures() {
        let mut pace = Pace::new(Backoff { first: Duration::from_millis(400), most: Duration::from_secs(5) });
        for _ in 0..20 {
            pace.lived(Duration::from_secs(24 * 60 * 60));
            assert!(pace.pause().as_millis() <= 400);
        }
        for _ in 0..20 {
            pace.lived(Duration::from_secs(1));
            pace.pause();
        }
        assert!(pace.pause().as_millis() >= 2500);
    }

    /// When somebody comes back whose connection broke, and whose backend is there again after so long.
    fn comes_back(after: Duration) -> Duration {
        let mut pace = Pace::new(Backoff { first: Duration::from_millis(400), most: Duration::from_secs(5) });
        let mut now = pace.pause();
        while now < after {
            now += pace.pause();
        }
        now
    }

    #[test]
    fn a_crowd_cut_off_together_comes_back_spread_however_soon_it_may() {
        const CROWD: usize = 1000;
        for outage in [0, 50, 200, 400, 700, 1000, 2000, 5000, 10_000] {
            let mut back: Vec<_> = (0..CROWD).map(|_| comes_back(Duration::from_millis(outage))).collect();
            back.sort();
            let within = |from: usize| back[from..].iter().take_while(|at| **at - back[from] < TENTH).count();
            let fullest = (0..CROWD).map(within).max().unwrap();
            assert!(fullest < CROWD * 2 / 5, "{fullest} in a tenth of a second after {outage} ms");
        }
    }

    const TENTH: Duration = Duration::from_millis(100);

    #[test]
    fn jitter_spreads() {
        let span = Duration::from_secs(1);
        let drawn: std::collections::BTreeSet<_> = (0..50).map(|_| jittered(span)).collect();
        assert!(drawn.len() > 40);
        assert!(drawn.iter().all(|d| (span / 2..=span).contains(d)));
    }
}
