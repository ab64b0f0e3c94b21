//! Our own endpoints. [`telemetry`] only tells, over TCP; [`control`], a unix socket and, with a token, TCP, also takes
//! orders; [`client`] is how the command line talks to it. No endpoint decides anything: what is told comes from the
//! last [`Status`], and an order is handed to the agent's loop, which answers.

pub mod client;
pub mod control;
mod dated;
mod fallback;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod listener;
mod page;
pub mod peer;
pub mod routes;
mod server;
pub(crate) mod status;
pub mod telemetry;
mod token;
pub mod wait;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::supervisor::Status;
use crate::supervisor::vocabulary::{Answer, Request};

/// What an endpoint is connected to.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// What the agent is doing, as of its last event.
    pub status: watch::Receiver<Status>,
    /// Where questions go that the status doesn't answer.
    pub asked: mpsc::Sender<ControlRequest>,
    /// Held by who is being answered from the status, which takes the loop's own time: one at a time, and the next no sooner
    /// than this.
    turn: Arc<tokio::sync::Mutex<Option<Instant>>>,
    unsent: Unsent,
    /// That of this connection, once the loop was asked.
    own: Arc<Mutex<Option<UnsentAnswer>>>,
}

/// How many wait for an answer of the agent's loop, or for the last byte of it.
#[derive(Debug, Clone, Default)]
pub struct Unsent(Arc<watch::Sender<usize>>);

/// One of those, for as long as this lives.
#[derive(Debug)]
struct UnsentAnswer(Unsent);

impl Unsent {
    /// Waits until there are none.
    pub async fn are_sent(&self) {
        // It can't be closed while this has a sender.
        let _ = self.0.subscribe().wait_for(|unsent| *unsent == 0).await;
    }
}

impl UnsentAnswer {
    fn one_of(all: &Unsent) -> UnsentAnswer {
        all.0.send_modify(|unsent| *unsent += 1);
        UnsentAnswer(all.clone())
    }
}

impl Drop for UnsentAnswer {
    fn drop(&mut self) {
        self.0.0.send_modify(|unsent| *unsent -= 1);
    }
}

impl Endpoint {
    /// Nobody has asked yet.
    pub fn new(status: watch::Receiver<Status>, asked: mpsc::Sender<ControlRequest>) -> Endpoint {
        Endpoint { status, asked, turn: Arc::default(), unsent: Unsent::default(), own: Arc::default() }
    }

    /// The same for one connection more.
    pub fn of_a_connection(&self) -> Endpoint {
        Endpoint { own: Arc::default(), ..self.clone() }
    }

    /// What the agent waits for before it ends.
    pub fn unsent(&self) -> Unsent {
        self.unsent.clone()
    }

    /// The loop is asked: its answer is unsent until this connection ends.
    fn asks(&self) {
        let unsent = UnsentAnswer::one_of(&self.unsent);
        self.own.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(unsent);
    }
}

/// What can be asked of the agent's loop.
#[derive(Debug, PartialEq, Eq)]
pub enum Question {
    /// To do something.
    Order(Request),
    /// What happened lately.
    Record,
}

/// A question, and who waits for the answer.
#[derive(Debug)]
pub struct ControlRequest {
    /// What is asked.
    pub question: Question,
    /// Where the answer goes. Nobody may be waiting any more.
    pub answer: oneshot::Sender<Answer>,
}

/// An open endpoint; dropping it shuts the endpoint at once, and its address is free for the one that replaces it. Who has
/// asked by then has the answer still: the order may be what shut it.
#[derive(Debug)]
pub struct Handle {
    endpoint: listener::Listener,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.endpoint.shut();
    }
}
