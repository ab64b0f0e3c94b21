//! All endpoints are asked which cluster they belong to, until most have named one: any one alone may be a stray. What is
//! said late counts as well.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::clusters::{Change, Clusters};
use super::dialer::{CONNECT_TIMEOUT, Dialer};

/// Nobody who has something to ask waits longer for it: endpoints that are far away are late then, or dead.
const WAITED_FOR: Duration = Duration::from_millis(250);

/// Between two rounds, at first and in the end.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// Whoever is asked, and what is made of it.
#[derive(Debug)]
pub(super) struct Canvass {
    dialer: Arc<Dialer>,
    clusters: Arc<Clusters>,
    rounds: Mutex<Option<JoinHandle<()>>>,
}

impl Canvass {
    /// Asks nobody yet.
    pub(super) fn new(dialer: Arc<Dialer>, clusters: Arc<Clusters>) -> Canvass {
        Canvass { dialer, clusters, rounds: Mutex::default() }
    }

    /// Begins to ask, unless that is under way, and waits a moment for what is said.
    pub(super) async fn hold(&self) {
        self.begin();
        let _ = timeout(WAITED_FOR, self.clusters.are_heard()).await;
        self.clusters.settle(Instant::now());
    }

    fn begin(&self) {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        if rounds.as_ref().is_none_or(JoinHandle::is_finished) {
            *rounds = Some(tokio::spawn(ask_until_sure(Arc::clone(&self.dialer), Arc::clone(&self.clusters))));
        }
    }
}

impl Drop for Canvass {
    fn drop(&mut self) {
        if let Some(rounds) = self.rounds.get_mut().unwrap_or_else(PoisonError::into_inner) {
            rounds.abort();
        }
    }
}

async fn ask_until_sure(dialer: Arc<Dialer>, clusters: Arc<Clusters>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let someone_names_none = ask_all(&dialer, &clusters).await;
        clusters.all_were_asked();
        clusters.settle(Instant::now());
        // Where members don't say their cluster there is nothing to know.
        if clusters.is_named_by_most() || someone_names_none && clusters.is_unknown() {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Whether one of them has answered without naming any.
async fn ask_all(dialer: &Dialer, clusters: &Clusters) -> bool {
    // Whoever calls is told what is wrong with them.
    let Ok(Ok(credentials)) = timeout(CONNECT_TIMEOUT, dialer.credentials()).await else { return false };
    let ask = |index: usize| {
        let pems = credentials.pems.as_ref();
        async move {
            let named = timeout(CONNECT_TIMEOUT, async { dialer.named(index, &dialer.channel(index, pems)?).await });
            named.await.is_ok_and(|named| match named {
                Ok(Some(id)) => {
                    clusters.name(index, id, Instant::now()).iter().for_each(tell);
                    false
                }
                Ok(None) => true,
                Err(_) => false,
            })
        }
    };
    let open = (0..dialer.endpoints().len()).filter(|index| clusters.is_open(*index));
    open.map(ask)
        .collect::<FuturesUnordered<_>>()
        .fold(false, |none, names_none| async move { none || names_none })
        .await
}

/// Says that another cluster is asked from now on.
pub(super) fn tell(change: &Change) {
    let Change { from, to, was_sure } = change;
    let why = if *was_sure { "was silent for long" } else { "was named by few" };
    tracing::warn!(
        event = "catalog.cluster",
        "etcd's cluster {from:x} {why}, and most endpoints belong to {to:x}: that one is asked"
    );
}
