//! Going through a directory on the agent's own loop: a few files a turn, so that whoever fills a directory can't make
//! a signal wait; and never most of the time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Opening, locking and reading so many files takes some 300 µs.
const FILES_A_TURN: usize = 16;
/// After going through a directory nothing is looked at for so many times as long as that took.
const REST: u32 = 4;
/// At least this must have been taken: what is quicker needs no rest.
const QUICK: Duration = Duration::from_millis(5);
/// No rest is longer, or news would be late.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Counts files, and lets everybody else have a turn.
#[derive(Debug, Default)]
pub(super) struct ScanBudget {
    files: usize,
}

impl ScanBudget {
    /// Before each file.
    pub(super) async fn next(&mut self) {
        self.files += 1;
        if self.files.is_multiple_of(FILES_A_TURN) {
            tokio::task::yield_now().await;
        }
    }
}

/// After a look that began at this time.
pub(super) async fn rest_after(began: Instant) {
    let took = began.elapsed();
    match took > QUICK {
        true => sleep((took * REST).min(LONGEST_REST)).await,
        // Directories that change without end must not keep the task from ever waiting.
        false => tokio::task::yield_now().await,
    }
}
