//! Turns at an agent that takes only so many connections of one client (`http_max_conns_per_client` in its `[limits]`,
//! 200 by default): each question that waits for a change holds one. It counts, and lets the next one go; it sends
//! nothing itself.
//!
//! Consul frees a connection's place only when the question on it is answered, whoever hung up; so nothing can be taken
//! back, and what must never wait (heartbeats, renewals) has its connections before anybody else asks.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// More connections than any agent takes.
const PLENTY: usize = 1 << 20;

/// How long a question waits where others wait for its connection.
const SHORT: Duration = Duration::from_secs(5);

/// After so long, one connection more is tried: the limit may have been raised.
const TRIED_AGAIN: Duration = Duration::from_secs(60);

/// Who may ask now.
#[derive(Debug)]
pub(super) struct Turns {
    places: Semaphore,
    asking: AtomicUsize,
    crowded: AtomicBool,
    tried: std::sync::Mutex<Option<Instant>>,
    settled: Mutex<Settled>,
}

/// Whether what may not wait has its connections.
#[derive(Debug, Default)]
pub(super) struct Settled {
    done: bool,
    failed: Option<Instant>,
}

impl Settled {
    /// Whether it is to be seen to now: not again and again while nobody answers.
    pub(super) fn is_due(&self) -> bool {
        !self.done && self.failed.is_none_or(|at| at.elapsed() >= SHORT)
    }

    /// What came of it.
    pub(super) fn came_to(&mut self, done: bool) {
        *self = Settled { done, failed: (!done).then(Instant::now) };
    }
}

/// A place, as long as it lives.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    place: Option<SemaphorePermit<'a>>,
    began: Instant,
}

impl Turns {
    pub(super) fn new() -> Turns {
        Turns {
            places: Semaphore::new(PLENTY),
            asking: AtomicUsize::new(0),
            crowded: AtomicBool::new(false),
            tried: std::sync::Mutex::default(),
            settled: Mutex::default(),
        }
    }

    /// Whether what may not wait has its connections; one at a time looks after that.
    pub(super) async fn settled(&self) -> MutexGuard<'_, Settled> {
        self.settled.lock().await
    }

    /// A connection broke: perhaps all did.
    pub(super) async fn unsettle(&self) {
        self.settled.lock().await.done = false;
    }

    /// Waits for a place; who came first has it first.
    pub(super) async fn take(&self) -> Turn<'_> {
        // It is never closed.
        let place = self.places.acquire().await.ok();
        self.asking.fetch_add(1, Ordering::Relaxed);
        Turn { turns: self, place, began: Instant::now() }
    }

    /// How long a question may wait for a change that else would wait for so long.
    pub(super) fn patience(&self, wait: Duration) -> Duration {
        if self.crowded.load(Ordering::Relaxed) { wait.min(SHORT) } else { wait }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.tried.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Turn<'_> {
    /// Whether others have connections while this one asks, and it has asked only just now: what is cut then, was not
    /// taken.
    pub(super) fn is_one_of_many(&self) -> bool {
        self.turns.asking.load(Ordering::Relaxed) > 1 && self.began.elapsed() < Duration::from_secs(1)
    }

    /// The agent took no connection more: there are as many places as it took. Whether that is news.
    pub(super) fn turned_away(mut self) -> bool {
        if let Some(place) = self.place.take() {
            place.forget();
        }
        *self.turns.lock() = Some(Instant::now());
        let news = !self.turns.crowded.swap(true, Ordering::Relaxed);
        if news {
            self.turns.places.forget_permits(PLENTY);
        }
        news
    }

    /// It was answered.
    pub(super) fn answered(self) {
        let mut tried = self.turns.lock();
        if tried.is_some_and(|at| at.elapsed() >= TRIED_AGAIN) {
            *tried = Some(Instant::now());
            self.turns.places.add_permits(1);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.asking.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn there_are_as_many_places_as_the_agent_took_and_who_came_first_has_the_next() {
        let turns = Turns::new();
        let (first, second, third) = (turns.take().await, turns.take().await, turns.take().await);
        assert_eq!(turns.patience(Duration::from_secs(60)), Duration::from_secs(60));
        assert!(third.is_one_of_many());
        assert!(third.turned_away());
        assert_eq!(turns.patience(Duration::from_secs(60)), SHORT);
        let (mut next, mut last) = (pin!(turns.take()), pin!(turns.take()));
        assert!(timeout(SOON, &mut next).await.is_err());
        assert!(timeout(SOON, &mut last).await.is_err());
        first.answered();
        let next = timeout(SOON, next).await.expect("it came first");
        assert!(timeout(SOON, &mut last).await.is_err());
        drop(next);
        timeout(SOON, last).await.expect("its turn");
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_stay_are_seen_to_once_and_not_again_and_again_in_an_outage() {
        let turns = Turns::new();
        assert!(turns.settled().await.is_due());
        turns.settled().await.came_to(false);
        assert!(!turns.settled().await.is_due());
        tokio::time::sleep(SHORT).await;
        assert!(turns.settled().await.is_due());
        turns.settled().await.came_to(true);
        tokio::time::sleep(SHORT).await;
        assert!(!turns.settled().await.is_due());
        turns.unsettle().await;
        assert!(turns.settled().await.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_was_raised_is_found_out_in_time() {
        let turns = Turns::new();
        let (only, other) = (turns.take().await, turns.take().await);
        assert!(other.turned_away());
        only.answered();
        let only = turns.take().await;
        assert!(timeout(SOON, turns.take()).await.is_err());
        tokio::time::sleep(TRIED_AGAIN).await;
        only.answered();
        let _one = turns.take().await;
        let more = timeout(SOON, turns.take()).await.expect("one more is tried");
        assert!(!more.turned_away(), "that is no news");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_breaks_alone_or_late_was_not_turned_away() {
        let turns = Turns::new();
        let alone = turns.take().await;
        assert!(!alone.is_one_of_many());
        let _other = turns.take().await;
        assert!(alone.is_one_of_many());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!alone.is_one_of_many());
    }
}
