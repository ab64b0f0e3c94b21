//! The way from a follower to the agent's loop: tells each observation once. It looks at nothing itself.

use tokio::sync::mpsc;

use crate::supervisor::vocabulary::{Event, Follow, Observation};

use super::report;

/// Where a follower tells what it sees. Waits for room in the channel, so a loop that is busy slows its followers
/// down and nothing piles up; whoever follows should read again after waiting.
#[derive(Debug)]
pub struct ObservationSender {
    events: mpsc::Sender<Event>,
    follow: Follow,
    last: Option<Result<Observation, String>>,
}

impl ObservationSender {
    /// Observations become [`Event::Observed`] of this follower.
    pub fn new(events: mpsc::Sender<Event>, follow: Follow) -> ObservationSender {
        ObservationSender { events, follow, last: None }
    }

    /// Tells what is seen, unless that was the last thing told. After a failure it is told again, so that the other
    /// side knows the failure is over.
    pub async fn saw(&mut self, observation: Observation) {
        self.tell(Ok(observation)).await;
    }

    /// Tells why nothing can be seen, with all causes, unless that was the last thing told.
    pub async fn failed(&mut self, error: &(dyn std::error::Error + Sync)) {
        self.tell(Err(report(error))).await;
    }

    /// Whether a key's value is of use; otherwise it is enough that there is one.
    pub fn want_a_value(&self) -> bool {
        matches!(self.follow, Follow::Watch(_))
    }

    /// Whether the last thing told was a failure.
    pub fn failing(&self) -> bool {
        matches!(self.last, Some(Err(_)))
    }

    async fn tell(&mut self, seen: Result<Observation, String>) {
        if self.last.as_ref() == Some(&seen) {
            return;
        }
        self.last = Some(seen.clone());
        if self.events.send(Event::Observed { follow: self.follow.clone(), seen }).await.is_err() {
            // The loop has ended and took the receiver along: this task is about to be dropped too.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &str) -> Observation {
        Observation::Key(Some(value.to_owned()))
    }

    fn told(events: &mut mpsc::Receiver<Event>) -> Vec<Result<Observation, String>> {
        std::iter::from_fn(|| events.try_recv().ok())
            .map(|event| match event {
                Event::Observed { seen, .. } => seen,
                other => panic!("not an observation: {other:?}"),
            })
            .collect()
    }

    #[tokio::test]
    async fn the_same_observation_is_told_once() {
        let (sender, mut events) = mpsc::channel(8);
        let mut seen = ObservationSender::new(sender, Follow::WaitFor(0));
        seen.saw(key("a")).await;
        seen.saw(key("a")).await;
        seen.saw(key("b")).await;
        seen.saw(key("a")).await;
        assert_eq!(told(&mut events), [Ok(key("a")), Ok(key("b")), Ok(key("a"))]);
    }

    #[tokio::test]
    async fn a_failure_is_told_once_and_what_follows_it_always() {
        let (sender, mut events) = mpsc::channel(8);
        let mut seen = ObservationSender::new(sender, Follow::WaitFor(0));
        let error = std::io::Error::other("cut");
        seen.saw(key("a")).await;
        seen.failed(&error).await;
        seen.failed(&error).await;
        assert!(seen.failing());
        seen.saw(key("a")).await;
        assert!(!seen.failing());
        assert_eq!(told(&mut events), [Ok(key("a")), Err("cut".to_owned()), Ok(key("a"))]);
    }
}
