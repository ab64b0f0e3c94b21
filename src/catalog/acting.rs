//! A leader as those see it who follow it from outside its election: whoever holds the lock, once it is said beside it that
//! this term acts.

use std::future::Future;

use tokio::sync::mpsc;

use crate::config::Query;
use crate::supervisor::vocabulary::{Event, Follow, Instance, Observation, acting_key, acting_value};

use super::election::{self, LockViewSender};
use super::{Backend, ObservationSender};
use crate::supervisor::machines::election::record::Term;

/// Room for what the two followers see.
const SEEN: usize = 2;

/// What the one who is told calls the two followers.
const LOCK: &str = "lock";

/// The last that was seen of the lock, and of what stands beside it.
#[derive(Debug, Default)]
struct Both {
    holder: Option<Result<Option<Instance>, String>>,
    acting: Option<Result<Option<String>, String>>,
}

impl Both {
    fn take(&mut self, event: Event) {
        match event {
            Event::Observed { follow: Follow::Watch(_), seen } => {
                self.holder = Some(seen.map(|seen| match seen {
                    Observation::Instances(holder) => holder.first().cloned(),
                    Observation::Key(_) | Observation::Keys(_) => None,
                }));
            }
            Event::Observed { follow: Follow::Acting, seen } => {
                self.acting = Some(seen.map(|seen| match seen {
                    Observation::Key(value) => value,
                    Observation::Instances(_) | Observation::Keys(_) => None,
                }));
            }
            _ => {}
        }
    }

    /// The leader that acts, if any; `None`: not known yet.
    fn leader(&self) -> Option<Result<Option<Instance>, String>> {
        match (self.holder.as_ref()?, self.acting.as_ref()?) {
            (Err(error), _) | (_, Err(error)) => Some(Err(error.clone())),
            (Ok(holder), Ok(acting)) => {
                let acts = |holder: &&Instance| acting.as_ref() == value_of(holder).as_ref();
                Some(Ok(holder.as_ref().filter(acts).cloned()))
            }
        }
    }
}

/// What stands beside the lock when this holder acts.
fn value_of(holder: &Instance) -> Option<String> {
    let term = holder.meta.get("term")?.parse().ok()?;
    Some(acting_value(&holder.id, Term(term)))
}

/// Tells who leads an election and acts: at once, then at each change. Never returns.
pub(super) async fn follow(backend: &Backend, election: &str, mut seen: ObservationSender) {
    let (events, mut told) = mpsc::channel(SEEN);
    let lock = ObservationSender::new(events.clone(), Follow::Watch(LOCK.to_owned()));
    let mut acting = ObservationSender::new(events, Follow::Acting);
    let key = Query::Key { key: acting_key(election) };
    let both = async {
        let mut both = Both::default();
        while let Some(event) = told.recv().await {
            both.take(event);
            match both.leader() {
                Some(Ok(leader)) => seen.saw(Observation::Instances(leader.into_iter().collect())).await,
                Some(Err(error)) => seen.failed_as(error).await,
                None => {}
            }
        }
    };
    all(
        election::watch(backend, election, LockViewSender::of_observer(election, lock)),
        backend.follow_catalog(&key, &mut acting),
        both,
    )
    .await;
}

/// None of them ends before the others do.
async fn all(lock: impl Future<Output = ()>, acting: impl Future<Output = ()>, both: impl Future<Output = ()>) {
    // Boxed: each is large, and every future around them would be as large again.
    tokio::join!(Box::pin(lock), Box::pin(acting), both);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn holder(id: &str, term: u64) -> Event {
        let instance = Instance {
            id: id.to_owned(),
            node: None,
            name: "db".to_owned(),
            address: "10.0.0.1".to_owned(),
            port: 80,
            tags: Vec::new(),
            meta: BTreeMap::from([("term".to_owned(), term.to_string())]),
        };
        let seen = Ok(Observation::Instances([instance].into()));
        Event::Observed { follow: Follow::Watch(LOCK.to_owned()), seen }
    }

    fn acting(value: Option<&str>) -> Event {
        Event::Observed { follow: Follow::Acting, seen: Ok(Observation::Key(value.map(str::to_owned))) }
    }

    #[test]
    fn only_the_term_that_acts_is_a_leader() {
        let mut both = Both::default();
        let mut leader = |event| {
            both.take(event);
            both.leader().map(|leader| leader.map(|leader| leader.map(|leader| leader.id)))
        };
        assert_eq!(leader(holder("one", 7)), None, "not known yet");
        assert_eq!(leader(acting(None)), Some(Ok(None)));
        assert_eq!(leader(acting(Some("5 one"))), Some(Ok(None)), "of a term before");
        assert_eq!(leader(acting(Some("7 one"))), Some(Ok(Some("one".to_owned()))));
        assert_eq!(leader(holder("two", 9)), Some(Ok(None)));
        let failed = Event::Observed { follow: Follow::Acting, seen: Err("no server".to_owned()) };
        assert_eq!(leader(failed), Some(Err("no server".to_owned())));
        assert_eq!(leader(acting(Some("9 two"))), Some(Ok(Some("two".to_owned()))));
    }
}
