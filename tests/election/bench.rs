//! What a sentence of the contract needs besides the catalog's bench: candidates, the terms they win, and what an
//! operator, or the engine itself, does to a lock.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use pilotfish::catalog::election::{AcceptedLoss, AcquireRequest, CandidateSettings, LockClient, LockViewSender};
use pilotfish::catalog::{Amended, Changed};
use pilotfish::config::Service;
use pilotfish::supervisor::machines::election::event::{Acquisition, ElectionEvent, Renewal};
use pilotfish::supervisor::machines::election::record::{Guarantee, Holder, Lock, SessionId, Term, View};
use pilotfish::supervisor::vocabulary::{Event, Fence, KeyChange, Value, acting_key, acting_value};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub use crate::backend::bench::{Agent, Bench, PATIENCE, agent_on, bytes, service};

/// An engine whose locks can be meddled with.
pub trait Engine: Bench {
    /// What candidates ask to be promised: so long that none loses its lock on a busy machine, and so short that a test
    /// can wait for its end.
    fn lease() -> Duration;

    /// How long a successor waits after a lock was lost that nobody released.
    fn hold_off() -> Duration;

    /// Ends a session behind its candidate's back, as the engine would.
    fn take_away(&self, election: &str, session: SessionId) -> impl Future<Output = ()>;

    /// Deletes a lock, as an operator would.
    fn delete_lock(&self, election: &str) -> impl Future<Output = ()>;

    /// Writes something else into a lock.
    fn overwrite_lock(&self, election: &str) -> impl Future<Output = ()>;

    /// Whose ranks are in the store, counted or not.
    fn ranks(&self, election: &str) -> impl Future<Output = Vec<String>>;

    /// Makes the engine unable to answer questions about this election.
    fn cut_election(&self, election: &str) -> impl Future<Output = ()>;

    /// Ends what [`cut_election`](Self::cut_election) began.
    fn mend_election(&self, election: &str) -> impl Future<Output = ()>;
}

/// How long a killed leader before the next one leads, on a machine that is busy with other tests.
pub const SUCCESSION: Duration = Duration::from_secs(25);

/// Between two tries for a lock that is held back.
pub const AGAIN: Duration = Duration::from_millis(50);

/// A candidate, with an agent of its own.
pub struct Candidate {
    pub agent: Agent,
    pub lock_client: Arc<LockClient>,
    pub contest: CandidateSettings,
}

/// What a candidate won.
#[derive(Debug, Clone, Copy)]
pub struct Won {
    pub session: SessionId,
    pub guarantee: Guarantee,
    pub term: Term,
}

/// A candidate of an election.
pub fn candidate<E: Engine>(engine: &E, election: &str, id: &str) -> Candidate {
    candidate_of(&engine.address(), election, id, E::lease(), None)
}

/// A candidate of `db` on the engine at an address, with all there is to say.
pub fn candidate_of(
    address: &str,
    election: &str,
    id: &str,
    lease: Duration,
    service: Option<Arc<Service>>,
) -> Candidate {
    let kill_margin = Duration::from_millis(500);
    let (name, id, loss) = (election.to_owned(), id.to_owned(), AcceptedLoss::default());
    let contest = CandidateSettings { name, id, lease, kill_margin, service, witness: None, loss };
    let agent = agent_on(address);
    Candidate { lock_client: Arc::new(LockClient::new(agent.backend.clone(), contest.clone())), agent, contest }
}

/// In time. Boxed: a call to an engine is large, and a sentence makes many on a test's small stack.
fn answer<T>(asked: impl Future<Output = T>) -> impl Future<Output = T> {
    let answered = timeout(PATIENCE, Box::pin(asked));
    async move { answered.await.expect("an answer") }
}

/// For a failure.
fn told(error: &pilotfish::catalog::Error) -> String {
    pilotfish::catalog::report(error)
}

impl Candidate {
    pub async fn try_open(&self) -> Result<(SessionId, Guarantee), String> {
        answer(self.lock_client.open()).await.map(|(session, guarantee, _)| (session, guarantee)).map_err(|e| told(&e))
    }

    pub async fn open(&self) -> (SessionId, Guarantee) {
        self.try_open().await.expect("a session")
    }

    /// Writes a key by a term.
    pub async fn change(&self, key: &str, change: &KeyChange, by: Won) -> Changed {
        let fence = Fence { election: self.contest.name.clone(), session: by.session, term: by.term };
        self.agent.change(key, change, Some(&fence)).await
    }

    /// Writes a key by a term and by what stands there.
    pub async fn amend(
        &self,
        key: &str,
        by: Won,
        next: impl Fn(Option<&[u8]>) -> Option<Value> + Send + Sync + 'static,
    ) -> Result<Amended, String> {
        let fence = Fence { election: self.contest.name.clone(), session: by.session, term: by.term };
        answer(self.agent.backend.amend(key, &fence, next)).await.map_err(|error| told(&error))
    }

    /// Says that it acts.
    pub async fn acts(&self, won: Won) {
        let put = KeyChange::Put(bytes(acting_value(&self.contest.id, won.term)));
        assert_eq!(self.change(&acting_key(&self.contest.name), &put, won).await, Changed::Done);
    }

    pub async fn close(&self, session: SessionId) {
        answer(self.lock_client.close(session)).await.expect("closed");
    }

    pub async fn try_look(&self) -> Result<View, String> {
        answer(self.lock_client.look()).await.map_err(|e| told(&e))
    }

    pub async fn look(&self) -> View {
        self.try_look().await.expect("a view")
    }

    /// Tries for a lock, as it was seen.
    pub async fn acquire(&self, by: (SessionId, Guarantee), view: &View) -> Acquisition {
        self.acquire_owing(by, view, Duration::ZERO).await
    }

    pub async fn acquire_owing(&self, by: (SessionId, Guarantee), view: &View, hold_off_left: Duration) -> Acquisition {
        let version = match view.lock {
            Lock::Free { version, .. } => version,
            // As who lies about what it saw.
            Lock::Held(_) => Default::default(),
        };
        let (session, guarantee) = by;
        answer(self.lock_client.acquire(AcquireRequest {
            session,
            guarantee,
            seen: (version, view.last_revision),
            hold_off_left,
        }))
        .await
    }

    /// Wins a lock that is free.
    pub async fn win(&self) -> Won {
        self.win_owing(Duration::ZERO).await
    }

    pub async fn win_owing(&self, hold_off_left: Duration) -> Won {
        let by = self.open().await;
        let view = self.look().await;
        match self.acquire_owing(by, &view, hold_off_left).await {
            Acquisition::Won(term) => Won { session: by.0, guarantee: by.1, term },
            other => panic!("{} got {other:?} for {view:?}", self.contest.id),
        }
    }

    /// Wins a lock as soon as it is to be had.
    pub async fn succeed(&self, within: Duration) -> Won {
        let campaign = async {
            let (session, guarantee) = self.open().await;
            loop {
                let view = self.look().await;
                if view.holder().is_none() {
                    match self.acquire((session, guarantee), &view).await {
                        Acquisition::Won(term) => {
                            return Won { session, guarantee, term };
                        }
                        Acquisition::Changed | Acquisition::HeldBack => {}
                        Acquisition::Unknown(error) => panic!("{error}"),
                    }
                }
                sleep(AGAIN).await;
            }
        };
        let lost = || format!("{} wins {} within {within:?}", self.contest.id, self.contest.name);
        timeout(within, campaign).await.unwrap_or_else(|_| panic!("{}", lost()))
    }

    pub async fn renew(&self, won: Won) -> Renewal {
        answer(self.lock_client.renew(won.session, won.term)).await
    }

    pub async fn try_release(&self, won: Won, to: Option<&str>, hold_off_left: Duration) -> Result<(), String> {
        let released = self.lock_client.release(won.session, won.term, to.map(Into::into), hold_off_left);
        answer(released).await.map_err(|e| told(&e))
    }

    /// Gives a lock back, to anybody.
    pub async fn release(&self, won: Won) {
        self.try_release(won, None, Duration::ZERO).await.expect("released");
    }

    /// Looks until it shows this.
    pub async fn until(&self, what: &str, so: impl Fn(&View) -> bool) -> View {
        let seen = timeout(PATIENCE, async {
            loop {
                let view = self.look().await;
                if so(&view) {
                    return view;
                }
                sleep(AGAIN).await;
            }
        });
        seen.await.unwrap_or_else(|_| panic!("{what} is seen"))
    }

    pub fn watch(&self) -> Watch {
        let (sender, views) = mpsc::channel(64);
        let lock_client = self.lock_client.clone();
        let task = tokio::spawn(async move { lock_client.watch(LockViewSender::of_candidate(sender)).await });
        Watch { views, task }
    }
}

/// What one candidate's watch tells.
pub struct Watch {
    views: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// The next thing told.
    pub async fn told(&mut self, within: Duration) -> Result<View, String> {
        let told = timeout(within, self.views.recv()).await.expect("something is told in time");
        match told.expect("a watch doesn't end by itself") {
            Event::Election(ElectionEvent::Saw(seen)) => seen,
            other => panic!("not a view: {other:?}"),
        }
    }

    /// The first view told that is so.
    pub async fn until(&mut self, what: &str, so: impl Fn(&View) -> bool) -> View {
        let told = timeout(PATIENCE, async {
            loop {
                let view = self.told(PATIENCE).await.expect("a view");
                if so(&view) {
                    return view;
                }
            }
        });
        told.await.unwrap_or_else(|_| panic!("{what} is told"))
    }

    /// Everything told so far.
    pub fn rest(&mut self) -> Vec<Result<View, String>> {
        let told = std::iter::from_fn(|| self.views.try_recv().ok());
        told.map(|event| match event {
            Event::Election(ElectionEvent::Saw(seen)) => seen,
            other => panic!("not a view: {other:?}"),
        })
        .collect()
    }
}

/// The lock is free.
pub fn free(view: &View) -> bool {
    view.holder().is_none()
}

/// The lock is held by this candidate.
pub fn held_by(id: &str) -> impl Fn(&View) -> bool {
    move |view| view.holder().is_some_and(|holder| &*holder.id == id)
}

/// As a view shows it.
pub fn holder(candidate: &Candidate, won: Won) -> Holder {
    let Won { session, term, .. } = won;
    Holder {
        id: candidate.contest.id.as_str().into(),
        session,
        term,
        address: None,
        owes: Some(Duration::ZERO),
        witness: None,
    }
}
