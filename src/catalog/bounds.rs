//! How much of one query is taken in: the same on every store, so that what works on one works on another, and no store
//! takes the container's memory. Over it the follower is told, and keeps what it saw last.

use std::time::Duration;

/// Instances or keys of one query.
pub const MOST_ITEMS: usize = 20_000;

/// Their words together, in bytes: names, addresses, tags, meta, keys and values. What is seen is kept once, and twice
/// while it changes; `on_change` gets as much again on its standard input.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;

/// One instance or value, in bytes: what etcd takes in a request by default, and more than Consul (512 KiB) and `local`
/// do.
pub const LARGEST_ITEM: usize = 1536 * 1024;

/// Before a query that had too much is asked again: reading it costs as much each time.
pub const AGAIN: Duration = Duration::from_secs(30);

/// There is more than is taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is more than pilotfish takes in ({MOST_ITEMS} instances or keys, {} MiB together): what was seen before stays",
    MOST_BYTES / 1024 / 1024
)]
pub struct TooMuch;

/// What is left of a query's bound.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    items: usize,
    bytes: usize,
}

impl Allowance {
    /// Takes one more in.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), TooMuch> {
        self.items += 1;
        self.bytes += bytes;
        if self.items > MOST_ITEMS || self.bytes > MOST_BYTES { Err(TooMuch) } else { Ok(()) }
    }

    /// One that was taken in is gone.
    pub(super) fn give(&mut self, bytes: usize) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// What an instance takes of a bound.
pub(super) fn size(instance: &crate::supervisor::vocabulary::Instance) -> usize {
    let tags: usize = instance.tags.iter().map(String::len).sum();
    let meta: usize = instance.meta.iter().map(|(key, value)| key.len() + value.len()).sum();
    instance.id.len() + instance.name.len() + instance.address.len() + tags + meta
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_the_number_and_the_bytes_are_bounded() {
        let mut allowance = Allowance::default();
        for _ in 0..MOST_ITEMS {
            allowance.take(1).unwrap();
        }
        assert_eq!(allowance.take(0), Err(TooMuch));
        let mut allowance = Allowance::default();
        allowance.take(MOST_BYTES).unwrap();
        assert_eq!(allowance.take(1), Err(TooMuch));
        allowance.give(1);
        allowance.give(MOST_BYTES);
        allowance.take(MOST_BYTES).unwrap();
    }
}
