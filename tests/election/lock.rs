//! A lock in a candidate's bare hands: what the tests of one engine's lock share.

use std::time::Duration;

use pilotfish::catalog::election::{AcquireRequest, LockClient, LockViewSender};
use pilotfish::supervisor::Event;
use pilotfish::supervisor::machines::election::event::{Acquisition, ElectionEvent};
use pilotfish::supervisor::machines::election::record::{Guarantee, Lock, Revision, SessionId, Term, View};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer than anything here should take.
pub const SOON: Duration = Duration::from_secs(10);

/// What one needs to ask for the lock of a view.
pub fn seen(view: &View) -> Option<(Revision, Revision)> {
    match view.lock {
        Lock::Free { version, .. } => Some((version, view.last_revision)),
        Lock::Held(_) => None,
    }
}

/// The lock as it is.
pub async fn look(candidate: &LockClient) -> View {
    candidate.look().await.expect("looked")
}

/// Asks for a lock that was seen free.
pub async fn try_as(
    candidate: &LockClient,
    view: &View,
    (session, guarantee, _): (SessionId, Guarantee, Revision),
) -> Acquisition {
    let seen = seen(view).expect("the lock was free");
    candidate.acquire(AcquireRequest { session, guarantee, seen, hold_off_left: Duration::ZERO }).await
}

/// A session and the term it holds the lock for.
pub async fn lead(candidate: &LockClient) -> (SessionId, Term) {
    let opened = candidate.open().await.expect("opened");
    let view = look(candidate).await;
    match try_as(candidate, &view, opened).await {
        Acquisition::Won(term) => (opened.0, term),
        other => panic!("not won: {other:?} of {view:?}"),
    }
}

/// What the watch tells, one by one.
pub struct Watch(mpsc::Receiver<Event>, tokio::task::JoinHandle<()>);

impl Watch {
    pub fn start(candidate: LockClient) -> Watch {
        let (sender, events) = mpsc::channel(64);
        Watch(events, tokio::spawn(async move { candidate.watch(LockViewSender::of_candidate(sender)).await }))
    }

    pub async fn next(&mut self) -> Result<View, String> {
        self.next_within(SOON).await
    }

    pub async fn next_within(&mut self, limit: Duration) -> Result<View, String> {
        match timeout(limit, self.0.recv()).await.expect("told in time") {
            Some(Event::Election(ElectionEvent::Saw(seen))) => seen,
            other => panic!("not a view: {other:?}"),
        }
    }

    pub async fn until(&mut self, so: impl Fn(&View) -> bool) -> View {
        loop {
            match self.next().await {
                Ok(view) if so(&view) => return view,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.1.abort();
    }
}
