//! Calls to the catalog: services, keys, and what is followed. Each has a deadline; none is tried again here but what
//! follows.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::catalog::{self, Audience, ObservationSender};
use crate::config::{Query, Service};
use crate::supervisor::Event;
use crate::supervisor::machines::election::record::Term;
use crate::supervisor::vocabulary::{Answer, Fence, Follow, KeyRequest, LeaderMark, Registration, ReplyId};

use super::tasks::{again_and_again, no_answer};
use super::{Adapters, keys};

/// One call to the catalog; a healthy backend may take as long to choose a new leader (8.7 s measured on Consul).
pub(super) const CATALOG_CALL_WITHIN: Duration = Duration::from_secs(10);

/// What follows a query, and for whom.
#[derive(Debug)]
pub(super) struct Follower {
    audience: Audience,
    task: AbortHandle,
}

impl Adapters {
    pub(super) fn publish(&self, registration: Registration) {
        let service = registration.service.id.clone();
        let backend = self.backend.clone();
        self.catalog_call(async move { backend.publish(&registration).await }, move |result| Event::Published {
            service: service.clone(),
            result,
        });
    }

    pub(super) fn withdraw(&self, service: Arc<Service>) {
        let id = service.id.clone();
        let backend = self.backend.clone();
        self.catalog_call(async move { backend.withdraw(&service).await }, move |result| Event::Withdrawn {
            service: id.clone(),
            result,
        });
    }

    pub(super) fn ask_who_acted(&self, fence: Fence, id: String, within: Duration) {
        let (backend, term) = (self.backend.clone(), fence.term);
        let asked = async move { keys::ask_who_acted(&backend, &fence, &id).await };
        self.call_within(within, asked, move |result| Event::ActedBefore { term, result });
    }

    pub(super) fn ask_whether_led(&self, election: String, term: Term) {
        let backend = self.backend.clone();
        let asked = async move { keys::ask_whether_led(&backend, &election).await };
        self.catalog_call(asked, move |result| Event::LedBefore { term, result });
    }

    pub(super) fn tell_acting(&self, fence: Fence, id: String, mark: LeaderMark) {
        let (backend, term) = (self.backend.clone(), fence.term);
        let told = async move { keys::tell_acting(&backend, &fence, &id, mark).await };
        self.catalog_call(told, move |result| Event::ActingTold { term, result: result.and_then(|told| told) });
    }

    fn catalog_call<T>(
        &self,
        call: impl Future<Output = Result<T, catalog::Error>> + Send + 'static,
        event: impl Fn(Result<T, String>) -> Event + Clone + Send + 'static,
    ) {
        self.call_within(CATALOG_CALL_WITHIN, call, event);
    }

    fn call_within<T>(
        &self,
        within: Duration,
        call: impl Future<Output = Result<T, catalog::Error>> + Send + 'static,
        event: impl Fn(Result<T, String>) -> Event + Clone + Send + 'static,
    ) {
        let failed = event.clone();
        self.task(move |error| failed(Err(error)), async move {
            let result = match tokio::time::timeout(within, call).await {
                Ok(result) => result.map_err(|error| catalog::report(&error)),
                Err(_) => Err(no_answer(within)),
            };
            event(result)
        });
    }

    /// The answer takes no way through the loop: nothing follows from it.
    pub(super) fn key(&mut self, reply: ReplyId, request: KeyRequest, fence: Option<Fence>) {
        let Some(waiting) = self.replies.remove(&reply) else { return };
        let backend = self.backend.clone();
        let work = tokio::spawn(async move {
            match tokio::time::timeout(CATALOG_CALL_WITHIN, keys::carry_out(&backend, request, fence)).await {
                Ok(answer) => answer,
                Err(_) => Answer::Unavailable(no_answer(CATALOG_CALL_WITHIN)),
            }
        });
        tokio::spawn(async move {
            let answer = work.await.unwrap_or_else(|error| Answer::Unavailable(format!("the task failed: {error}")));
            // Who asked may have gone.
            let _ = waiting.send(answer);
        });
    }

    /// Who follows what somebody follows already is told by the same follower: a query costs its backend one question.
    pub(super) fn follow(&mut self, follow: Follow, query: Query) -> Option<Event> {
        self.unfollow(&follow);
        let want_a_value = catalog::wants_a_value(&follow) || !matches!(query, Query::Key { .. });
        let key = (query.clone(), want_a_value);
        if let Some(follower) = self.followers.get(&key) {
            return follower.audience.join(follow);
        }
        let audience = Audience::default();
        audience.join(follow);
        let backend = self.backend.clone();
        let task = following(self.observe.clone(), audience.clone(), want_a_value, move |observations| {
            let (backend, query) = (backend.clone(), query.clone());
            async move { backend.follow(&query, observations).await }
        });
        self.followers.insert(key, Follower { audience, task });
        None
    }

    pub(super) fn unfollow(&mut self, follow: &Follow) {
        self.followers.retain(|_, follower| {
            let over = follower.audience.has(follow) && follower.audience.leave(follow);
            if over {
                follower.task.abort();
            }
            !over
        });
    }
}

/// Follows for ever, by a task that is started again when it panics.
fn following<F>(
    tell: mpsc::Sender<Event>,
    audience: Audience,
    want_a_value: bool,
    look: impl Fn(ObservationSender) -> F + Send + 'static,
) -> AbortHandle
where
    F: Future<Output = ()> + Send + 'static,
{
    let observations = move || ObservationSender::shared(tell.clone(), audience.clone(), want_a_value);
    let failed = {
        let observations = observations.clone();
        move |error| {
            let mut observations = observations();
            async move { observations.failed_as(error).await }
        }
    };
    again_and_again(failed, move || look(observations()))
}

#[cfg(test)]
mod tests {
    use crate::effects::tasks::tests::block_on;
    use crate::supervisor::vocabulary::Observation;

    use super::*;

    #[test]
    fn a_follower_that_panics_says_so_and_looks_again() {
        block_on(async {
            let (tell, mut events) = mpsc::channel(1);
            let looks = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let audience = Audience::default();
            audience.join(Follow::Watch("app".to_owned()));
            let _follower = following(tell, audience, true, move |mut observations| {
                let look = looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                async move {
                    assert!(look > 0, "a fault in a follower");
                    observations.saw(Observation::Key(None)).await;
                    std::future::pending().await
                }
            });
            let mut seen = Vec::new();
            while seen.len() < 2 {
                let Some(Event::Observed { seen: one, .. }) = events.recv().await else { panic!("nothing came") };
                seen.push(one);
            }
            assert!(seen[0].as_ref().is_err_and(|error| error.contains("a fault in a follower")), "{seen:?}");
            assert_eq!(seen[1], Ok(Observation::Key(None)));
        });
    }
}
