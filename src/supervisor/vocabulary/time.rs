//! The core's clock: a point in time is an argument, never read here.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time: how long the kernel has been up, time asleep included (CLOCK_BOOTTIME; leases go on while a
/// laptop or VM sleeps, so CLOCK_MONOTONIC, which std's `Instant` is, would count too little).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(Duration);

impl Time {
    /// The point this long after boot.
    pub const fn since_boot(elapsed: Duration) -> Time {
        Time(elapsed)
    }

    /// How long after boot this is.
    pub const fn from_boot(self) -> Duration {
        self.0
    }

    /// How long it is from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// How long it is from here to `later`; zero when that has passed.
    pub fn until(self, later: Time) -> Duration {
        later.since(self)
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, duration: Duration) -> Time {
        Time(self.0.saturating_sub(duration))
    }
}

/// The earlier of two deadlines, either of which may be missing.
pub fn earliest(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
