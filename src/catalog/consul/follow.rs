//! Follows a query by blocking queries: each answer names the index that the next question waits behind. Consul's
//! rules for that index are kept here: the same one is no news, a smaller one means to start again, and 0 counts as 1.

use std::time::Duration;

use tokio::time::Instant;

use crate::catalog::border::LeftOut;
use crate::catalog::rate::{RateLimit, rest_after};
use crate::catalog::{ObservationSender, bounds};
use crate::config::{Backoff, Query};
use crate::net::backoff::{self, Pace};
use crate::supervisor::vocabulary::Observation;

use super::answer::Answer;
use super::client::Client;
use super::error::Error;
use super::health::Sight;

/// Between questions that fail. The first is what a thousand agents spread over whose connections broke and whose backend
/// is there at once, the longest what they spread over after its restart.
pub(super) const RETRY: Backoff = Backoff { first: Duration::from_millis(400), most: Duration::from_secs(5) };

/// Tells what the query sees, for ever.
pub(super) async fn follow(client: &Client, query: &Query, seen: &mut ObservationSender) -> ! {
    let mut pace = Pace::new(RETRY);
    let mut rate = RateLimit::new();
    let mut index = 0;
    let mut asker = Asker { query, partial: Partial::default(), left_out: LeftOut::of(query) };
    let want_a_value = seen.want_a_value();
    loop {
        let pause = match asker.look(client, index, want_a_value).await {
            Ok((observation, next)) => {
                pace.reset();
                if next < index {
                    seen.looks_anew();
                }
                index = next;
                let began = Instant::now();
                seen.saw(observation).await;
                rate.answered(Instant::now()).max(rest_after(began.elapsed()))
            }
            // It comes back to the end of the queue, with the same index: nothing is missed.
            Err(Error::Full { .. }) => pace.pause(),
            Err(error) => {
                // A question that was waiting when its connection broke proves no outage: the next one tells. But a Consul that
                // is killed and there again at once may be without its data.
                let waited = std::mem::take(&mut index) > 0;
                if waited {
                    seen.looks_anew();
                } else {
                    seen.failed(&error).await;
                }
                match error {
                    Error::TooMuch(_) | Error::TooLarge { .. } => backoff::jittered(bounds::AGAIN),
                    _ => pace.pause(),
                }
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Says once that the token sees some of a service's instances and perhaps not all.
#[derive(Debug, Default)]
struct Partial {
    said: bool,
}

impl Partial {
    fn seen(&mut self, service: &str) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!(
                event = "catalog.partial",
                "the consul token may not read all nodes: instances of service {service} on the others can't be seen"
            );
        }
    }
}

/// Who asks for one query.
struct Asker<'a> {
    query: &'a Query,
    partial: Partial,
    left_out: LeftOut,
}

impl Asker<'_> {
    async fn look(&mut self, client: &Client, index: u64, want_a_value: bool) -> Result<(Observation, u64), Error> {
        let left_out = &mut self.left_out;
        let (observation, answer) = match self.query {
            Query::Service { name, tag, datacenter } => {
                let (tag, datacenter) = (tag.as_deref(), datacenter.as_deref());
                let (instances, answer) = client.passing(name, tag, datacenter, index, left_out).await?;
                let sight = match instances.is_empty() {
                    true => client.sight(name, datacenter).await?,
                    false => Sight::All,
                };
                match sight {
                    Sight::NotTheService => return Err(Error::BlindToService { service: name.clone() }),
                    Sight::NoNode => return Err(Error::BlindToNodes { service: name.clone() }),
                    Sight::SomeNodes => self.partial.seen(name),
                    Sight::All if answer.filtered => self.partial.seen(name),
                    Sight::All => {}
                }
                (Observation::Instances(instances.into()), answer)
            }
            Query::Key { key } => {
                let (value, answer) = client.key(key, index, want_a_value).await?;
                (Observation::Key(value), answer)
            }
            Query::KeyPrefix { prefix } => {
                let (keys, answer) = client.keys(prefix, index, left_out).await?;
                (Observation::Keys(keys.into()), answer)
            }
            Query::Leader { .. } => unreachable!("Backend::follow watches locks itself"),
        };
        let next = next_index(index, &answer)?;
        Ok((observation, next))
    }
}

/// What to wait behind, after waiting behind `index`.
pub(super) fn next_index(index: u64, answer: &Answer) -> Result<u64, Error> {
    let Some(got) = answer.index else {
        return Err(Error::NoIndex { endpoint: answer.endpoint.clone() });
    };
    match got.max(1) {
        // The store was restored or began anew: what it has now may be behind a smaller index than ours.
        smaller if smaller < index => Ok(0),
        same_or_newer => Ok(same_or_newer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(index: Option<u64>) -> Answer {
        Answer {
            endpoint: "GET /v1/x".to_owned(),
            status: reqwest::StatusCode::OK,
            index,
            filtered: false,
            leaderless: false,
            body: Vec::new(),
        }
    }

    #[test]
    fn the_same_and_a_newer_index_are_waited_behind() {
        assert_eq!(next_index(7, &answer(Some(7))).unwrap(), 7);
        assert_eq!(next_index(7, &answer(Some(8))).unwrap(), 8);
    }

    #[test]
    fn a_smaller_index_starts_again() {
        assert_eq!(next_index(7, &answer(Some(6))).unwrap(), 0);
    }

    #[test]
    fn index_zero_counts_as_one_because_zero_would_never_wait() {
        assert_eq!(next_index(0, &answer(Some(0))).unwrap(), 1);
    }

    #[test]
    fn an_answer_without_an_index_is_an_error() {
        assert!(matches!(next_index(7, &answer(None)), Err(Error::NoIndex { .. })));
    }
}
