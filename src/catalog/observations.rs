//! The way from a follower to the agent's loop: tells each observation once, to everyone who follows the same query. It
//! looks at nothing itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::supervisor::vocabulary::{Event, Follow, Observation};

use super::report;

type Seen = Result<Observation, String>;

/// Those who follow one query, and what they were told last.
#[derive(Debug, Clone, Default)]
pub struct Audience(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    members: Vec<Follow>,
    last: Option<Seen>,
}

impl Audience {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more follows. What the others know already it is told at once.
    pub fn join(&self, follow: Follow) -> Option<Event> {
        let mut told = self.told();
        told.members.push(follow.clone());
        told.last.clone().map(|seen| Event::Observed { follow, seen })
    }

    /// One follows no more; whether nobody does.
    pub fn leave(&self, follow: &Follow) -> bool {
        let mut told = self.told();
        told.members.retain(|member| member != follow);
        told.members.is_empty()
    }

    /// Whether this one is told.
    pub fn has(&self, follow: &Follow) -> bool {
        self.told().members.contains(follow)
    }

    /// Who is to be told of it: nobody, if it was told last.
    fn of_news(&self, seen: &Seen) -> Vec<Follow> {
        let mut told = self.told();
        if told.last.as_ref() == Some(seen) {
            return Vec::new();
        }
        told.last = Some(seen.clone());
        told.members.clone()
    }
}

/// Where a follower tells what it sees. Waits for room in the channel, so a loop that is busy slows its followers
/// down and nothing piles up; whoever follows should read again after waiting.
#[derive(Debug)]
pub struct ObservationSender {
    events: mpsc::Sender<Event>,
    audience: Audience,
    want_a_value: bool,
    /// What is seen next may lack what the store has lost.
    anew: bool,
}

impl ObservationSender {
    /// Observations become [`Event::Observed`] of this follower.
    pub fn new(events: mpsc::Sender<Event>, follow: Follow) -> ObservationSender {
        let (audience, want_a_value) = (Audience::default(), wants_a_value(&follow));
        audience.join(follow);
        ObservationSender::shared(events, audience, want_a_value)
    }

    /// Observations become [`Event::Observed`] of everyone in the audience.
    pub fn shared(events: mpsc::Sender<Event>, audience: Audience, want_a_value: bool) -> ObservationSender {
        ObservationSender { events, audience, want_a_value, anew: false }
    }

    /// The way to the store broke, or the store began anew: it may have lost what it held. That is no outage, and is told with
    /// what is seen next, if that is news. (After a failure that was told it goes without saying.)
    pub fn looks_anew(&mut self) {
        self.anew = true;
    }

    /// Tells what is seen, unless that was the last thing told. After a failure it is told again, so that the other
    /// side knows the failure is over.
    pub async fn saw(&mut self, observation: Observation) {
        self.tell(Ok(observation)).await;
    }

    /// Tells why nothing can be seen, with all causes, unless that was the last thing told.
    pub async fn failed(&mut self, error: &(dyn std::error::Error + Sync)) {
        self.failed_as(report(error)).await;
    }

    /// The same, in words.
    pub async fn failed_as(&mut self, error: String) {
        self.tell(Err(error)).await;
    }

    /// Whether a key's value is of use; otherwise it is enough that there is one.
    pub fn want_a_value(&self) -> bool {
        self.want_a_value
    }

    /// Whether the last thing told was a failure.
    pub fn failing(&self) -> bool {
        matches!(self.audience.told().last, Some(Err(_)))
    }

    async fn tell(&mut self, seen: Seen) {
        // Only instances register again.
        let anew = seen.is_ok() && std::mem::take(&mut self.anew) && matches!(&seen, Ok(Observation::Instances(_)));
        for follow in self.audience.of_news(&seen) {
            if anew {
                self.send(Event::SeenAnew { follow: follow.clone() }, &follow).await;
            }
            self.send(Event::Observed { follow: follow.clone(), seen: seen.clone() }, &follow).await;
        }
    }

    async fn send(&self, event: Event, follow: &Follow) {
        let Ok(allowance) = self.events.reserve().await else {
            // The loop has ended and took the receiver along: this task is about to be dropped too.
            return std::future::pending().await;
        };
        // It may have left meanwhile, and follow something else.
        if self.audience.has(follow) {
            allowance.send(event);
        }
    }
}

/// Whether who follows so acts on a key's value, and not only on its being there.
pub fn wants_a_value(follow: &Follow) -> bool {
    matches!(follow, Follow::Watch(_) | Follow::Acting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &str) -> Observation {
        Observation::Key(Some(value.to_owned()))
    }

    fn observed(event: Event) -> (Follow, Seen) {
        match event {
            Event::Observed { follow, seen } => (follow, seen),
            other => panic!("not an observation: {other:?}"),
        }
    }

    fn told(events: &mut mpsc::Receiver<Event>) -> Vec<Result<Observation, String>> {
        std::iter::from_fn(|| events.try_recv().ok()).map(|event| observed(event).1).collect()
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

    #[tokio::test]
    async fn that_a_store_may_have_lost_what_it_held_is_told_with_what_is_seen_then_if_that_is_news() {
        let (sender, mut events) = mpsc::channel(8);
        let mut seen = ObservationSender::new(sender, Follow::Watch("app".to_owned()));
        let none = || Observation::Instances([].into());
        seen.saw(none()).await;
        seen.looks_anew();
        seen.saw(none()).await;
        seen.failed_as("cut".to_owned()).await;
        seen.looks_anew();
        seen.saw(none()).await;
        seen.looks_anew();
        seen.saw(key("a")).await;
        let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
        let follow = || Follow::Watch("app".to_owned());
        let observed = |seen| Event::Observed { follow: follow(), seen };
        let expected = [
            observed(Ok(none())),
            observed(Err("cut".to_owned())),
            Event::SeenAnew { follow: follow() },
            observed(Ok(none())),
            observed(Ok(key("a"))),
        ];
        assert_eq!(format!("{told:?}"), format!("{expected:?}"));
    }

    #[tokio::test]
    async fn all_who_follow_one_query_are_told_and_who_comes_late_at_once() {
        let (sender, mut events) = mpsc::channel(8);
        let (first, late) = (Follow::WaitFor(0), Follow::Watch("app".to_owned()));
        let audience = Audience::default();
        assert!(audience.join(first.clone()).is_none(), "nothing is known yet");
        let mut seen = ObservationSender::shared(sender, audience.clone(), true);
        seen.saw(key("a")).await;
        let known = audience.join(late.clone()).map(observed);
        assert_eq!(known, Some((late.clone(), Ok(key("a")))));
        seen.saw(key("a")).await;
        seen.saw(key("b")).await;
        assert!(!audience.leave(&first));
        seen.saw(key("c")).await;
        assert!(audience.leave(&late));
        let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).map(observed).collect();
        let expected = [(&first, "a"), (&first, "b"), (&late, "b"), (&late, "c")];
        assert_eq!(told, expected.map(|(follow, value)| (follow.clone(), Ok(key(value)))));
    }
}
