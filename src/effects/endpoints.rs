//! Our own endpoints: opened, closed, and answered.

use std::io;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::{Control, Telemetry};
use crate::endpoints::{self, Handle};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::{Answer, ReplyId, Request};

use super::{Adapters, degraded};

/// Between two tries for an address: the container before may still have it, or it is yet to come.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// As long the container's end waits for its last answers: each fits into a socket's buffer.
const SENT_WITHIN: Duration = Duration::from_millis(100);

/// An endpoint for as long as this lives: open, or to be opened as soon as its address can be had.
pub(super) enum Opened {
    Now { _handle: Handle },
    Later { trying: JoinHandle<()> },
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Opened::Later { trying } = self {
            trying.abort();
        }
    }
}

/// Opens what is called this. `without` says what is so until that can be done.
fn opened(what: String, without: &str, open: impl Fn() -> io::Result<Handle> + Send + 'static) -> Opened {
    let error = match open() {
        Ok(handle) => return Opened::Now { _handle: handle },
        Err(error) => error,
    };
    degraded(format!("{what} can't be listened on yet, and {without}: {error}"));
    let trying = tokio::spawn(async move {
        let _handle = loop {
            tokio::time::sleep(AGAIN_AFTER).await;
            if let Ok(handle) = open() {
                break handle;
            }
        };
        tracing::info!(event = "endpoint.back", "{what} is listened on");
        std::future::pending().await
    });
    Opened::Later { trying }
}

impl Adapters {
    pub(super) fn endpoints(&mut self, telemetry: Option<Telemetry>, control: Control) {
        if self.telemetry.as_ref().map(|(config, _)| config) != telemetry.as_ref() {
            self.telemetry = None;
            if let Some(config) = telemetry {
                let (endpoint, named) = (self.endpoint.clone(), config.clone());
                let open = move || endpoints::telemetry::open(&named, endpoint.clone());
                let what = format!("[telemetry] listen {}", config.listen);
                self.telemetry = Some((config, opened(what, "nothing of it is served", open)));
            }
        }
        if self.control.as_ref().map(|(config, _)| config) != Some(&control) {
            self.control = None;
            let mut handles = Vec::new();
            match endpoints::control::open(&control, self.endpoint.clone()) {
                Ok(handle) => handles.extend(handle.map(|handle| Opened::Now { _handle: handle })),
                Err(error) => {
                    let socket = control.socket.clone().unwrap_or_default();
                    degraded(format!("there is no control socket: can't open {}: {error}", socket.display()));
                }
            }
            if let Some(listen) = control.listen.clone() {
                let (endpoint, what) = (self.endpoint.clone(), format!("[control] listen {}", listen.at));
                let open = move || endpoints::control::open_tcp(&listen, endpoint.clone());
                handles.push(opened(what, "the socket serves on", open));
            }
            if !handles.is_empty() {
                self.control = Some((control, handles));
            }
        }
    }

    /// Somebody asks at the control endpoint.
    pub fn asked(&mut self, request: Request, answer: oneshot::Sender<Answer>) -> Event {
        self.last_reply += 1;
        let reply = ReplyId(self.last_reply);
        self.replies.insert(reply, answer);
        Event::Control { reply, request }
    }

    pub(super) fn answer(&mut self, reply: ReplyId, answer: Answer) {
        if let Some(waiting) = self.replies.remove(&reply) {
            // Who asked may have gone; nobody is left to tell then.
            let _ = waiting.send(answer);
        }
    }

    /// Who asked and has no answer gets none but that the agent ends; and all have theirs before it does, but for who
    /// doesn't read it.
    pub async fn answers_are_sent(&mut self) {
        self.replies.clear();
        let _ = tokio::time::timeout(SENT_WITHIN, self.endpoint.unsent().are_sent()).await;
    }

    /// Whether anybody can look at the status.
    pub fn has_endpoints(&self) -> bool {
        self.telemetry.is_some() || self.control.is_some()
    }
}
