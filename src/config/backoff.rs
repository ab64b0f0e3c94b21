//! The pauses between tries.

use std::time::Duration;

/// Exponential: starts at `first`, doubles, never above `most`; each is drawn with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) }
    }
}
