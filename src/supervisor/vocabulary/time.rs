//! The core's clock: a point in time is an argument, never read here.

use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

/// A point in time: how long the kernel has been up, time asleep included (CLOCK_BOOTTIME; leases go on while a
/// laptop or VM sleeps, so CLOCK_MONOTONIC, which std's `Instant` is, would count too little).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(Duration);

impl Time {
    /// Later than all that will be.
    pub const NEVER: Time = Time(Duration::MAX);

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

/// How the kernel's time and the calendar's go together, as long as nobody sets the calendar's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    booted: Timestamp,
}

impl Calendar {
    /// By what the calendar would have shown when the kernel's time began.
    pub const fn booted_at(booted: Timestamp) -> Calendar {
        Calendar { booted }
    }

    /// What the calendar shows then.
    pub fn date(self, time: Time) -> Timestamp {
        let since = SignedDuration::try_from(time.0).unwrap_or(SignedDuration::MAX);
        self.booted.saturating_add(since).unwrap_or(Timestamp::MAX)
    }

    /// When the calendar shows that; zero for what lies before the kernel's time.
    pub fn time(self, date: Timestamp) -> Time {
        Time(Duration::try_from(date.duration_since(self.booted)).unwrap_or_default())
    }
}

impl Serialize for Calendar {
    /// When the kernel's time began: seconds, and nanoseconds beside them.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.booted.as_second(), self.booted.subsec_nanosecond()).serialize(serializer)
    }
}

#[cfg(test)]
impl<'de> serde::Deserialize<'de> for Calendar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Calendar, D::Error> {
        let (seconds, nanoseconds) = serde::Deserialize::deserialize(deserializer)?;
        Timestamp::new(seconds, nanoseconds).map(Calendar::booted_at).map_err(serde::de::Error::custom)
    }
}

/// The earlier of two deadlines, either of which may be missing.
pub fn earliest(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
