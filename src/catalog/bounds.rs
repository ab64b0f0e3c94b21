//! How much is read of one query, and how often where that is too much.

use std::time::Duration;

pub use crate::supervisor::vocabulary::bounds::*;

/// One instance or value, in bytes: what etcd takes in a request by default, and more than Consul (512 KiB) and `local`
/// do.
pub const LARGEST_ITEM: usize = 1536 * 1024;

// One of control characters only, as JSON writes it, is within the bound of a query.
const _: () = assert!(6 * LARGEST_ITEM < MOST_BYTES);

/// Before a query that had too much is asked again: reading it costs as much each time.
pub const AGAIN: Duration = Duration::from_secs(30);
