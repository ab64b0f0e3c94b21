//! Slow work beside the loop: a task that answers with an event, or with the failure its panic stands for, and one that
//! goes on for ever.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::clock::{self, CalendarWatch};
use crate::supervisor::Event;

use super::{Adapters, degraded};

/// Between two looks at a calendar's clock that nobody tells of.
const LOOK_AT_CALENDAR: Duration = Duration::from_secs(60);
/// Before a follower whose task panicked is started again.
const AFTER_PANIC: Duration = Duration::from_secs(1);

impl Adapters {
    pub(super) fn follow_calendar(&self) {
        let tell = self.tell.clone();
        let failed = |error| async move { degraded(format!("the calendar isn't followed for a moment: {error}")) };
        again_and_again(failed, move || follow_calendar(tell.clone()));
    }

    /// Runs slow work beside the loop, which hears its event or that of its panic.
    pub(super) fn task(
        &self,
        failed: impl FnOnce(String) -> Event + Send + 'static,
        work: impl Future<Output = Event> + Send + 'static,
    ) {
        beside(self.tell.clone(), failed, work);
    }
}

/// Runs slow work beside the loop; its event, or that of its panic, comes to the loop when there is room.
pub(super) fn beside(
    tell: mpsc::Sender<Event>,
    failed: impl FnOnce(String) -> Event + Send + 'static,
    work: impl Future<Output = Event> + Send + 'static,
) {
    let work = tokio::spawn(work);
    tokio::spawn(async move {
        let event = work.await.unwrap_or_else(|error| failed(format!("the task failed: {error}")));
        // The loop that would hear it may have ended.
        let _ = tell.send(event).await;
    });
}

/// Begins work that should never end, and again when it panics, having said so.
pub(super) fn again_and_again<F, S>(
    failed: impl Fn(String) -> S + Send + 'static,
    begin: impl Fn() -> F + Send + 'static,
) -> AbortHandle
where
    F: Future<Output = ()> + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let follower = tokio::spawn(async move {
        loop {
            // In a set, so that aborting this task ends the one in it too.
            let mut inner = JoinSet::new();
            inner.spawn(begin());
            if let Some(Err(error)) = inner.join_next().await {
                failed(format!("the follower failed: {error}")).await;
            }
            tokio::time::sleep(AFTER_PANIC).await;
        }
    });
    follower.abort_handle()
}

/// Tells how the calendar's clock goes, now and whenever it is set.
async fn follow_calendar(tell: mpsc::Sender<Event>) {
    let watch = CalendarWatch::new();
    // The loop that would hear it may have ended.
    let told = async || tell.send(Event::Calendar(clock::calendar_now())).await.is_ok();
    match watch {
        Ok(mut watch) => while told().await && watch.set().await.is_ok() {},
        // Without a descriptor nobody says when it is set: it is looked at.
        Err(_) => {
            while told().await && !tell.is_closed() {
                tokio::time::sleep(LOOK_AT_CALENDAR).await;
            }
        }
    }
}

pub(super) fn no_answer(within: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(within))
}

#[cfg(test)]
pub(super) mod tests {
    use crate::supervisor::vocabulary::RunId;

    use super::*;

    /// One thread, and time that goes on as soon as everybody waits.
    pub(in crate::effects) fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
    }

    #[test]
    fn a_task_that_panics_answers_with_the_failure_it_stands_for() {
        block_on(async {
            let (tell, mut events) = mpsc::channel(1);
            let failed = |error| Event::Probed { run: RunId(7), result: Err(error) };
            beside(tell, failed, async { panic!("a fault in a probe") });
            let Some(Event::Probed { run: RunId(7), result: Err(error) }) = events.recv().await else {
                panic!("nothing came")
            };
            assert!(error.contains("a fault in a probe"), "{error}");
        });
    }
}
