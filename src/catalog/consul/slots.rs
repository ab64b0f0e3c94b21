//! Turns at an agent that takes only so many connections of one client (`http_max_conns_per_client` in its `[limits]`,
//! 200 by default): each question that waits for a change holds one. It counts, and lets the next one go; it sends
//! nothing itself.
//!
//! Consul frees a connection's place only when the question on it is answered, whoever hung up; so nothing can be taken
//! back, and what must never wait (heartbeats, renewals) has its connections before anybody else asks.

use std::sync::{MutexGuard as StdMutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// More connections than any agent takes.
const PLENTY: usize = 1 << 20;

/// How long a question waits where others wait for its connection.
const SHORT: Duration = Duration::from_secs(5);

/// So many are left to other containers of this address, for their heartbeats; but no more than a third of what is had. They
/// are the agent's to give when what was asked on them is answered.
const LEFT_TO_OTHERS: usize = 6;

/// So long after one was turned away, one connection more is tried: the limit may have been raised, or others have left.
/// One that was taken has the next tried as soon as its question is sure to have been answered.
const TRIED_AGAIN: Duration = Duration::from_secs(60);

/// Who may ask now.
#[derive(Debug)]
pub(super) struct ConnectionSlots {
    free: Semaphore,
    count: std::sync::Mutex<Count>,
    settled: Mutex<Settled>,
}

#[derive(Debug, Default)]
struct Count {
    /// Who asks now.
    asking: usize,
    /// The most that asked at once.
    most: usize,
    /// How many connections the agent takes: those who rest between two questions have their places still. `None`: as many
    /// as were asked for.
    places: Option<usize>,
    /// When one connection more is tried.
    try_at: Option<Instant>,
    /// So many of those that are had are given up when they are free.
    owed: usize,
}

/// Whether what may not wait has its connections.
#[derive(Debug, Default)]
pub(super) struct Settled {
    done: bool,
    failed: Option<Instant>,
    /// The last look whether the agent answers.
    looked: Option<Look>,
}

/// What came of a question to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// It answers.
    Answered,
    /// It took no connection, or no notice.
    Cut,
    /// Nobody is there.
    Nobody,
}

/// A look whether the agent answers.
#[derive(Debug, Clone, Copy)]
struct Look {
    began: Instant,
    ended: Instant,
    reach: Reach,
}

impl Settled {
    /// Whether it is to be seen to now: not again and again while nobody answers.
    pub(super) fn is_due(&self) -> bool {
        !self.done && self.failed.is_none_or(|at| at.elapsed() >= SHORT)
    }

    /// What came of it.
    pub(super) fn came_to(&mut self, done: bool) {
        *self = Settled { done, failed: (!done).then(Instant::now), ..*self };
    }

    /// Whether the agent answered, if somebody has looked since. That nobody was there counts until the look's end: who
    /// waited for it needn't wait for another one.
    pub(super) fn looked_since(&self, time: Instant) -> Option<Reach> {
        let counts = |look: &Look| match look.reach {
            Reach::Answered => look.began >= time,
            Reach::Cut | Reach::Nobody => look.ended >= time,
        };
        self.looked.filter(counts).map(|look| look.reach)
    }

    /// What came of a look that began then.
    pub(super) fn looked(&mut self, began: Instant, reach: Reach) {
        self.looked = Some(Look { began, ended: Instant::now(), reach });
    }
}

/// A place, as long as it lives.
#[derive(Debug)]
pub(super) struct ConnectionSlot<'a> {
    slots: &'a ConnectionSlots,
    place: Option<SemaphorePermit<'a>>,
    began: Instant,
}

impl ConnectionSlots {
    pub(super) fn new() -> ConnectionSlots {
        ConnectionSlots { free: Semaphore::new(PLENTY), count: std::sync::Mutex::default(), settled: Mutex::default() }
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
    pub(super) async fn take(&self) -> ConnectionSlot<'_> {
        // It is never closed.
        let place = self.free.acquire().await.ok();
        let mut count = self.count();
        count.asking += 1;
        count.most = count.most.max(count.asking);
        ConnectionSlot { slots: self, place, began: Instant::now() }
    }

    /// How long a question may wait for a change that else would wait for so long.
    pub(super) fn patience(&self, wait: Duration) -> Duration {
        if self.are_crowded() { wait.min(SHORT) } else { wait }
    }

    /// Whether the agent takes no more than there are places.
    pub(super) fn are_crowded(&self) -> bool {
        self.count().places.is_some()
    }

    /// Nobody knows any more how many connections the agent takes: it may be another.
    pub(super) fn forget(&self) {
        let mut count = self.count();
        if count.places.take().is_some() {
            (count.most, count.try_at, count.owed) = (count.asking, None, 0);
            self.free.add_permits(PLENTY);
        }
    }

    fn count(&self) -> StdMutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionSlot<'_> {
    /// Whether others have connections while this one asks, and it has asked only just now: what is cut then, was not
    /// taken.
    pub(super) fn is_one_of_many(&self) -> bool {
        self.slots.count().asking > 1 && self.began.elapsed() < Duration::from_secs(1)
    }

    /// The agent took no connection more: there is a place less than were had at once. Whether that is news.
    pub(super) fn turned_away(mut self) -> bool {
        let mut count = self.slots.count();
        count.try_at = Some(Instant::now() + TRIED_AGAIN);
        let (news, places) = match count.places {
            Some(places) => (false, places),
            None => {
                self.slots.free.forget_permits(Semaphore::MAX_PERMITS);
                self.slots.free.add_permits(count.most - count.asking);
                (true, count.most)
            }
        };
        // Without the last one nobody would ever ask again.
        let left = if places > 1 { places - 1 } else { 1 };
        if left < places
            && let Some(place) = self.place.take()
        {
            place.forget();
        }
        let to_others = if count.owed == 0 { LEFT_TO_OTHERS.min(left / 3) } else { 0 };
        count.owed += to_others - self.slots.free.forget_permits(to_others);
        count.places = Some(left - to_others);
        news
    }

    /// It was answered.
    pub(super) fn answered(self) {
        let mut count = self.slots.count();
        let due = count.try_at.is_some_and(|at| Instant::now() >= at);
        if let Some(places) = count.places.filter(|_| due) {
            count.places = Some(places + 1);
            count.try_at = Some(Instant::now() + SHORT * 2);
            self.slots.free.add_permits(1);
        }
    }
}

impl Drop for ConnectionSlot<'_> {
    fn drop(&mut self) {
        let mut count = self.slots.count();
        count.asking -= 1;
        if count.owed > 0
            && let Some(place) = self.place.take()
        {
            place.forget();
            count.owed -= 1;
        }
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
        let slots = ConnectionSlots::new();
        let (first, second, third) = (slots.take().await, slots.take().await, slots.take().await);
        assert_eq!(slots.patience(Duration::from_secs(60)), Duration::from_secs(60));
        assert!(third.is_one_of_many());
        assert!(third.turned_away());
        assert_eq!(slots.patience(Duration::from_secs(60)), SHORT);
        let (mut next, mut last) = (pin!(slots.take()), pin!(slots.take()));
        assert!(timeout(SOON, &mut next).await.is_err());
        assert!(timeout(SOON, &mut last).await.is_err());
        first.answered();
        let next = timeout(SOON, next).await.expect("it came first");
        assert!(timeout(SOON, &mut last).await.is_err());
        drop(next);
        timeout(SOON, last).await.expect("its turn");
        drop(second);
    }

    /// Each had its first answer at once, and will ask again: the agent has their connections.
    #[tokio::test(start_paused = true)]
    async fn who_rests_between_two_questions_keeps_a_place() {
        let slots = ConnectionSlots::new();
        let (first, second, third) = (slots.take().await, slots.take().await, slots.take().await);
        first.answered();
        second.answered();
        assert!(third.turned_away());
        let (_first, _second) = (slots.take().await, slots.take().await);
        assert!(timeout(SOON, slots.take()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_place_stays_where_the_agent_takes_nobody() {
        let slots = ConnectionSlots::new();
        let (first, second) = (slots.take().await, slots.take().await);
        assert!(first.turned_away());
        assert!(!second.turned_away());
        for _ in 0..3 {
            let only = timeout(SOON, slots.take()).await.expect("one may try");
            assert!(timeout(SOON, slots.take()).await.is_err(), "and no more");
            assert!(!only.turned_away());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_stay_are_seen_to_once_and_not_again_and_again_in_an_outage() {
        let slots = ConnectionSlots::new();
        assert!(slots.settled().await.is_due());
        slots.settled().await.came_to(false);
        assert!(!slots.settled().await.is_due());
        tokio::time::sleep(SHORT).await;
        assert!(slots.settled().await.is_due());
        slots.settled().await.came_to(true);
        tokio::time::sleep(SHORT).await;
        assert!(!slots.settled().await.is_due());
        slots.unsettle().await;
        assert!(slots.settled().await.is_due());
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_was_raised_is_found_out_in_time() {
        let slots = ConnectionSlots::new();
        let (only, other) = (slots.take().await, slots.take().await);
        assert!(other.turned_away());
        only.answered();
        let only = slots.take().await;
        assert!(timeout(SOON, slots.take()).await.is_err());
        tokio::time::sleep(TRIED_AGAIN).await;
        only.answered();
        let _one = slots.take().await;
        let more = timeout(SOON, slots.take()).await.expect("one more is tried");
        assert!(!more.turned_away(), "that is no news");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_has_more_tried_at_once_and_what_was_not_has_not() {
        let slots = ConnectionSlots::new();
        let (only, other) = (slots.take().await, slots.take().await);
        assert!(other.turned_away());
        tokio::time::sleep(TRIED_AGAIN).await;
        only.answered();
        let (one, two) = (slots.take().await, slots.take().await);
        tokio::time::sleep(SHORT * 2).await;
        one.answered();
        let (_one, three) = (slots.take().await, slots.take().await);
        assert!(!three.turned_away());
        tokio::time::sleep(SHORT * 2).await;
        two.answered();
        let _two = slots.take().await;
        assert!(timeout(SOON, slots.take()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_is_another_has_room_for_all_and_its_limit_is_found_out_anew() {
        let slots = ConnectionSlots::new();
        let (first, second) = (slots.take().await, slots.take().await);
        assert!(second.turned_away());
        slots.forget();
        assert_eq!(slots.patience(Duration::from_secs(60)), Duration::from_secs(60));
        let (second, third) = (slots.take().await, slots.take().await);
        assert!(third.turned_away(), "that is news again");
        drop(first);
        let _first = slots.take().await;
        assert!(timeout(SOON, slots.take()).await.is_err());
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_were_cut_together_believe_one_look() {
        let slots = ConnectionSlots::new();
        let before = Instant::now();
        slots.settled().await.looked(before, Reach::Answered);
        assert_eq!(slots.settled().await.looked_since(before), Some(Reach::Answered));
        tokio::time::sleep(SOON).await;
        assert_eq!(slots.settled().await.looked_since(Instant::now()), None, "that was before");
        let (began, cut) = (Instant::now(), Instant::now() + SOON);
        tokio::time::sleep(SOON * 2).await;
        slots.settled().await.looked(began, Reach::Answered);
        assert_eq!(slots.settled().await.looked_since(cut), None, "it may have been asked before the cut");
        slots.settled().await.looked(began, Reach::Nobody);
        assert_eq!(slots.settled().await.looked_since(cut), Some(Reach::Nobody), "nobody answers");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_breaks_alone_or_late_was_not_turned_away() {
        let slots = ConnectionSlots::new();
        let alone = slots.take().await;
        assert!(!alone.is_one_of_many());
        let _other = slots.take().await;
        assert!(alone.is_one_of_many());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!alone.is_one_of_many());
    }
}
