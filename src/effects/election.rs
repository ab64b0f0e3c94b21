//! An election's requests to its store, each a task of its own that answers in the time a request has.

use std::future::Future;
use std::sync::Arc;

use crate::catalog::election::{
    AcceptedLoss, AcquireRequest, CandidateSettings, Certificate, LockClient, LockViewSender,
};
use crate::catalog::local::WitnessDirectory;
use crate::catalog::{self, report};
use crate::config::Election;
use crate::supervisor::Event;
use crate::supervisor::machines::election::event::{Acquisition, Certification, ElectionEvent, Renewal, StoreRequest};

use super::Adapters;
use super::catalog::CATALOG_CALL_WITHIN;
use super::tasks::{again_and_again, no_answer};

impl Adapters {
    pub(super) fn settings(&mut self, election: &Election) {
        let service = self.services.iter().find(|service| Some(&service.id) == election.service.as_ref());
        let settings = CandidateSettings {
            name: election.name.clone(),
            id: election.id.clone(),
            lease: election.lease,
            kill_margin: election.pace.kill_margin,
            service: service.cloned(),
            witness: witness_of(election),
            loss: AcceptedLoss::default(),
        };
        let lock_client = Arc::new(LockClient::new(self.backend.clone(), settings));
        self.lock_client = Some(lock_client.clone());
        self.request_within = election.pace.patience;
        if election.witness.is_some() {
            let (lock_client, tell, failed) = (lock_client.clone(), self.tell.clone(), self.tell.clone());
            again_and_again(
                move |error| {
                    let tell = failed.clone();
                    async move {
                        // The loop that would hear it may have ended.
                        let _ = tell.send(Event::Witness { stands: Err(error) }).await;
                    }
                },
                move || {
                    let (lock_client, tell) = (lock_client.clone(), tell.clone());
                    async move { lock_client.watch_witness(tell).await }
                },
            );
        }
        let (tell, store) = (self.tell.clone(), self.store.clone());
        let failed = self.tell.clone();
        again_and_again(
            move |error| {
                let tell = failed.clone();
                async move {
                    // The loop that would hear it may have ended.
                    let _ = tell.send(Event::Election(ElectionEvent::Saw(Err(error)))).await;
                }
            },
            move || {
                let (lock_client, views) = (lock_client.clone(), LockViewSender::of_candidate(tell.clone()));
                let (tell, store) = (tell.clone(), store.clone());
                // The claim first: what the first view shows is judged by it.
                async move {
                    tokio::join!(lock_client.claim_id(&store, &tell), lock_client.watch(views));
                }
            },
        );
    }

    /// Each request is a task of its own, and answers in the time a request has.
    pub(super) fn elect(&mut self, request: StoreRequest) {
        let Some(lock_client) = self.lock_client.clone() else { return };
        match request {
            StoreRequest::OpenSession { ask } => self
                .request(move |error| ElectionEvent::Opened { ask, result: Err(error) }, async move {
                    ElectionEvent::Opened { ask, result: lock_client.open().await.map_err(|e| report(&e)) }
                }),
            StoreRequest::CloseSession { session } => {
                self.unanswered("closing a session", async move { lock_client.close(session).await })
            }
            StoreRequest::EndFormerLife { session } => {
                self.unanswered(
                    "closing a former life's session",
                    async move { lock_client.end_former_life(session).await },
                )
            }
            StoreRequest::Look { ask } => self
                .request(move |error| ElectionEvent::Looked { ask, result: Err(error) }, async move {
                    ElectionEvent::Looked { ask, result: lock_client.look().await.map_err(|e| report(&e)) }
                }),
            StoreRequest::Acquire { ask, session, guarantee, seen, hold_off_left } => self.request(
                move |error| ElectionEvent::Acquired { ask, result: Acquisition::Unknown(error) },
                async move {
                    let wanted = AcquireRequest { session, guarantee, seen, hold_off_left };
                    ElectionEvent::Acquired { ask, result: lock_client.acquire(wanted).await }
                },
            ),
            StoreRequest::AcceptLoss { session } => lock_client.accept_loss(session),
            StoreRequest::Renew { ask, session, term } => self
                .request(move |error| ElectionEvent::Renewed { ask, result: Renewal::Unknown(error) }, async move {
                    ElectionEvent::Renewed { ask, result: lock_client.renew(session, term).await }
                }),
            StoreRequest::Release { ask, session, term, to, hold_off_left } => {
                self.request(move |error| ElectionEvent::Released { ask, result: Err(error) }, async move {
                    let released = lock_client.release(session, term, to, hold_off_left).await;
                    ElectionEvent::Released { ask, result: released.map_err(|error| report(&error)) }
                })
            }
            StoreRequest::AwaitEnd { witness } => {
                let tell = self.tell.clone();
                let waiting = tokio::spawn(async move {
                    if lock_client.gone(&witness).await {
                        // The loop that would hear it may have ended.
                        let _ = tell.send(Event::Election(ElectionEvent::Gone { witness })).await;
                    }
                });
                // Nobody asks for the end of who held the lock before.
                if let Some(before) = self.end_awaited.replace(waiting.abort_handle()) {
                    before.abort();
                }
            }
            StoreRequest::Certify { ask, witness, session, term, gone_for } => self.request(
                move |error| ElectionEvent::Certified { ask, result: Certification::Unknown(error) },
                async move {
                    let certificate = Certificate { witness, session, term, gone_for };
                    ElectionEvent::Certified { ask, result: lock_client.certify(certificate).await }
                },
            ),
            StoreRequest::PublishRank { ask, term, answer, stands } => {
                self.request(move |error| ElectionEvent::Published { ask, result: Err(error) }, async move {
                    let published = lock_client.publish_rank(term, &answer, stands).await;
                    ElectionEvent::Published { ask, result: published.map_err(|error| report(&error)) }
                })
            }
            StoreRequest::ReadRanks { ask } => {
                self.request(move |error| ElectionEvent::Ranks { ask, result: Err(error) }, async move {
                    let ranks = lock_client.ranks().await;
                    ElectionEvent::Ranks { ask, result: ranks.map_err(|error| report(&error)) }
                })
            }
        }
    }

    fn request(
        &self,
        failed: impl Fn(String) -> ElectionEvent + Clone + Send + 'static,
        work: impl Future<Output = ElectionEvent> + Send + 'static,
    ) {
        let (panicked, within) = (failed.clone(), self.request_within);
        self.task(move |error| Event::Election(panicked(error)), async move {
            let answer = tokio::time::timeout(within, work).await;
            Event::Election(answer.unwrap_or_else(|_| failed(no_answer(within))))
        });
    }

    /// What nobody waits for: its failure is logged, and its consequence is seen elsewhere.
    fn unanswered(&self, what: &'static str, work: impl Future<Output = Result<(), catalog::Error>> + Send + 'static) {
        tokio::spawn(async move {
            match tokio::time::timeout(CATALOG_CALL_WITHIN, work).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(event = "election.failed", "{what}: {}", report(&error)),
                Err(_) => tracing::warn!(event = "election.failed", "{what}: {}", no_answer(CATALOG_CALL_WITHIN)),
            }
        });
    }
}

/// Where the end of a leader's container is known at once, if the config says so.
fn witness_of(election: &Election) -> Option<Arc<WitnessDirectory>> {
    let directory = election.witness.as_ref()?;
    Some(Arc::new(WitnessDirectory::new(directory, &election.name, election.pace.kill_margin)))
}
