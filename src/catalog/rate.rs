//! How often a follower may look and tell: one that is flooded must not keep two processors busy, nor the agent's loop. It
//! never waits itself.

use std::time::Duration;

use tokio::time::Instant;

/// This many looks may come at once...
const BURST: u32 = 20;

/// ...and after those one each so often: a prefix that is written to all the time, or a proxy that doesn't wait,
/// must not keep two processors busy.
pub(super) const SPACING: Duration = Duration::from_millis(50);

/// After a long look none follows for so many times as long as that took.
const REST: u32 = 4;

/// At least this must have been taken: what is quicker needs no rest.
const QUICK: Duration = Duration::from_millis(5);

/// No rest is longer, or news would be late.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Keeps looks apart once too many came at once.
#[derive(Debug)]
pub(super) struct RateLimit {
    burst: u32,
    tokens: u32,
    last: Instant,
}

impl RateLimit {
    pub(super) fn new() -> RateLimit {
        RateLimit::after(BURST)
    }

    /// The same, where so many looks may come at once.
    pub(super) fn after(burst: u32) -> RateLimit {
        RateLimit { burst, tokens: burst, last: Instant::now() }
    }

    /// An answer came; how long to wait before the next question.
    pub(super) fn answered(&mut self, now: Instant) -> Duration {
        let earned = now.duration_since(self.last).as_millis() / SPACING.as_millis();
        self.last = now;
        self.tokens = self.tokens.saturating_add(u32::try_from(earned).unwrap_or(self.burst)).min(self.burst);
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                Duration::ZERO
            }
            None => {
                // What is waited for is no quiet.
                self.last = now + SPACING;
                SPACING
            }
        }
    }
}

/// How long to rest after a look, and after telling what it showed, that took so long: never is most of the time spent so.
pub(super) fn rest_after(took: Duration) -> Duration {
    match took > QUICK {
        true => (took * REST).min(LONGEST_REST),
        false => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_without_end_are_kept_apart_and_quiet_earns_a_new_burst() {
        let start = Instant::now();
        let mut rate = RateLimit { last: start, ..RateLimit::new() };
        let waits = (0..BURST + 5).filter(|_| rate.answered(start) > Duration::ZERO).count();
        assert_eq!(waits, 5);
        assert_eq!(rate.answered(start + Duration::from_secs(60)), Duration::ZERO);
    }

    #[test]
    fn after_a_burst_there_is_one_answer_for_each_span() {
        let start = Instant::now();
        let (mut rate, mut now) = (RateLimit { last: start, ..RateLimit::new() }, start);
        let mut answers = 0;
        while now < start + SPACING * 100 {
            now += rate.answered(now);
            answers += 1;
        }
        assert_eq!(answers, BURST + 100);
    }

    #[test]
    fn what_takes_long_is_rested_from_and_news_are_never_more_than_a_second_late() {
        let rests = [1, 10, 100, 1_000].map(|took| rest_after(Duration::from_millis(took)).as_millis());
        assert_eq!(rests, [0, 40, 400, 1_000]);
    }
}
