//! `pilotfish witness`: one for a host, it waits for the ends of leaders' containers there and frees their locks at once,
//! for candidates that are all on other hosts, or see no directory of this one. It runs no main, registers nothing and
//! never stands: it is the election's own core, with a preference for never.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::catalog::election::{AcceptedLoss, CandidateSettings, Certificate, LockClient, LockViewSender};
use crate::catalog::local::WitnessDirectory;
use crate::catalog::{self, Backend};
use crate::clock::{self, Alarm};
use crate::config::election::{DEMOTE_WITHIN, RENEW_EVERY, REQUEST_WITHIN};
use crate::config::{self, Signal};
use crate::logging;
use crate::process::signals::Signals;
use crate::supervisor::Event;
use crate::supervisor::machines::election::event::{Certification, ElectionEffect, ElectionEvent, Pace, StoreRequest};
use crate::supervisor::machines::election::{Election, Preference, Settings};

/// Under which it asks; it never stands in a record.
const NAME: &str = "(witness)";
/// Room for what the tasks of one election have to tell.
const EVENTS: usize = 16;
/// Before a watch that panicked is begun again.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// Why it can't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The catalog can't even be opened.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// No lock in the directory shows whether its holder lives, or it can't be used.
    #[error(transparent)]
    Directory(#[from] catalog::local::Error),
    /// The kernel refuses what it needs.
    #[error("the kernel refuses a signal descriptor, a timer or an event queue")]
    Kernel(#[from] io::Error),
}

/// Waits for ends until it is told to stop.
///
/// # Errors
/// It can't begin.
pub fn run(config: &config::Catalog, directory: &Path, elections: &[String]) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut signals = Signals::new(false)?;
        let backend = Arc::new(Backend::open(config)?);
        for name in elections {
            let witness = Arc::new(WitnessDirectory::new(directory, name, Duration::ZERO));
            witness.open().await?;
            tracing::info!(event = "witness", "waiting for the ends of {name}'s leaders in {}", directory.display());
            tokio::spawn(attend(backend.clone(), name.clone(), witness));
        }
        while !matches!(signals.next().await, Signal::TERM | Signal::INT | Signal::QUIT) {}
        Ok(())
    });
    runtime.shutdown_background();
    done
}

/// One election, for ever.
async fn attend(backend: Arc<Backend>, name: String, witness: Arc<WitnessDirectory>) {
    let pace = Pace {
        renew: RENEW_EVERY,
        request: REQUEST_WITHIN,
        patience: REQUEST_WITHIN,
        demote: DEMOTE_WITHIN,
        kill_margin: Duration::ZERO,
    };
    let settings =
        Settings { id: NAME.into(), prefer: Preference::Never, rank: None, pace, witness: true, lease: None };
    let mut core = Election::new(settings, RandomState::new().hash_one(&name));
    let settings = CandidateSettings {
        name,
        id: NAME.to_owned(),
        lease: Duration::ZERO,
        kill_margin: Duration::ZERO,
        service: None,
        witness: Some(witness),
        loss: AcceptedLoss::default(),
    };
    let lock_client = Arc::new(LockClient::new(backend, settings));
    let (tell, mut events) = mpsc::channel(EVENTS);
    tokio::spawn(watch(lock_client.clone(), tell.clone()));
    let Ok(mut alarm) = Alarm::new() else { return };
    let mut end_awaited: Option<JoinHandle<()>> = None;
    loop {
        let event = tokio::select! {
            Some(event) = events.recv() => match event {
                Event::Election(event) => event,
                _ => continue,
            },
            _ = alarm.rang() => ElectionEvent::Tick,
        };
        for order in core.handle(clock::now(), event) {
            let waiting = obey(&lock_client, &tell, order);
            // Nobody asks for the end of who held the lock before.
            if let Some(before) = waiting.and_then(|waiting| end_awaited.replace(waiting)) {
                before.abort();
            }
        }
        if alarm.set(core.deadline()).is_err() {
            return;
        }
    }
}

async fn watch(lock_client: Arc<LockClient>, tell: mpsc::Sender<Event>) {
    loop {
        let (lock_client, views) = (lock_client.clone(), LockViewSender::of_candidate(tell.clone()));
        let watching = tokio::spawn(async move { lock_client.watch(views).await });
        if let Err(error) = watching.await {
            tracing::error!(event = "degraded", "the watch on the lock failed: {error}");
        }
        tokio::time::sleep(AFTER_PANIC).await;
    }
}

/// Each order is a task of its own; the one that waits for an end is returned. One that panics, or takes too long, is asked
/// for again by the core.
fn obey(lock_client: &Arc<LockClient>, tell: &mpsc::Sender<Event>, order: ElectionEffect) -> Option<JoinHandle<()>> {
    let (lock_client, tell) = (lock_client.clone(), tell.clone());
    let answer = async move |event| {
        // Who would hear it may have ended.
        let _ = tell.send(Event::Election(event)).await;
    };
    match order {
        ElectionEffect::Store(StoreRequest::Look { ask }) => {
            tokio::spawn(async move {
                let looked = tokio::time::timeout(REQUEST_WITHIN, lock_client.look()).await;
                let result = match looked {
                    Ok(result) => result.map_err(|error| catalog::report(&error)),
                    Err(_) => Err("no answer".to_owned()),
                };
                answer(ElectionEvent::Looked { ask, result }).await;
            });
        }
        ElectionEffect::Store(StoreRequest::AwaitEnd { witness }) => {
            return Some(tokio::spawn(async move {
                if lock_client.gone(&witness).await {
                    answer(ElectionEvent::Gone { witness }).await;
                }
            }));
        }
        ElectionEffect::Store(StoreRequest::Certify { ask, witness, session, term, gone_for }) => {
            tokio::spawn(async move {
                let certificate = Certificate { witness, session, term, gone_for };
                let certified = tokio::time::timeout(REQUEST_WITHIN, lock_client.certify(certificate)).await;
                let result = certified.unwrap_or_else(|_| Certification::Unknown("no answer".to_owned()));
                answer(ElectionEvent::Certified { ask, result }).await;
            });
        }
        ElectionEffect::Say(notice) => logging::say(&notice),
        // A witness never stands, so it has nothing to hold, to rank or to do.
        ElectionEffect::Store(
            StoreRequest::OpenSession { .. }
            | StoreRequest::CloseSession { .. }
            | StoreRequest::EndFormerLife { .. }
            | StoreRequest::Acquire { .. }
            | StoreRequest::AcceptLoss { .. }
            | StoreRequest::Renew { .. }
            | StoreRequest::Release { .. }
            | StoreRequest::PublishRank { .. }
            | StoreRequest::ReadRanks { .. },
        )
        | ElectionEffect::MeasureRank { .. }
        | ElectionEffect::Guard { .. }
        | ElectionEffect::Promote { .. }
        | ElectionEffect::Demote { .. }
        | ElectionEffect::Kill { .. }
        | ElectionEffect::Leader(_) => {}
    }
    None
}
