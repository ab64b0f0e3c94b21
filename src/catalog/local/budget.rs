//! Going through a directory on the agent's own loop: a few files a turn, so that whoever fills a directory can't make
//! a signal wait; and never most of the time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::catalog::rate;

/// Opening, locking and reading so many files takes some 300 µs.
const FILES_A_TURN: usize = 16;

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
    rest(rate::rest_after(began.elapsed())).await;
}

/// For so long.
pub(super) async fn rest(span: Duration) {
    match span {
        // Directories that change without end must not keep the task from ever waiting.
        Duration::ZERO => tokio::task::yield_now().await,
        rest => sleep(rest).await,
    }
}
