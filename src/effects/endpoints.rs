//! Our own endpoints: opened, closed, and answered.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::{Control, Listen, Telemetry};
use crate::endpoints::{self, Handle};
use crate::net::address::advertised;
use crate::supervisor::Event;
use crate::supervisor::vocabulary::{Answer, ReplyId, Request};

use super::{Adapters, degraded};

/// Between two tries for an address: the container before may still have it, or it is yet to come.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Between two looks at an address that is found by its interface: the network may give it another.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// As long the container's end waits for its last answers: each fits into a socket's buffer.
const SENT_WITHIN: Duration = Duration::from_millis(100);

/// An endpoint for as long as this lives: open, or to be opened as soon as its address can be had.
pub(super) enum Opened {
    Now { _handle: Handle },
    Later { trying: JoinHandle<()> },
}

/// Whether what is open is to be opened elsewhere.
type Elsewhere = Box<dyn Fn(&Handle) -> bool + Send>;

impl Drop for Opened {
    fn drop(&mut self) {
        if let Opened::Later { trying } = self {
            trying.abort();
        }
    }
}

/// Opens what is called this. `without` says what is so until that can be done; `elsewhere` is asked now and then.
fn opened(
    what: String,
    without: &str,
    open: impl Fn() -> io::Result<Handle> + Send + 'static,
    elsewhere: Option<Elsewhere>,
) -> Opened {
    let mut handle = match open() {
        Ok(handle) if elsewhere.is_none() => return Opened::Now { _handle: handle },
        Ok(handle) => Some(handle),
        Err(error) => {
            degraded(format!("{what} can't be listened on yet, and {without}: {error}"));
            None
        }
    };
    let trying = tokio::spawn(async move {
        loop {
            let (is_open, may_move) = (handle.is_some(), elsewhere.is_some());
            match (is_open, may_move) {
                (false, _) => tokio::time::sleep(AGAIN_AFTER).await,
                (true, true) => tokio::time::sleep(LOOK_EVERY).await,
                (true, false) => return std::future::pending().await,
            }
            let stays = |open: &Handle| !elsewhere.as_ref().is_some_and(|is_elsewhere| is_elsewhere(open));
            if handle.as_ref().is_some_and(stays) {
                continue;
            }
            if let Ok(another) = open() {
                handle = Some(another);
                tracing::info!(event = "endpoint.back", "{what} is listened on");
            }
        }
    });
    Opened::Later { trying }
}

/// Where an endpoint is to listen now.
fn address(listen: &Listen) -> io::Result<SocketAddr> {
    match listen {
        Listen::At(at) => Ok(*at),
        Listen::On { addresses, port } => match advertised(addresses) {
            Ok(chosen) => Ok((chosen.address, *port).into()),
            Err(error) => Err(io::Error::other(error)),
        },
    }
}

/// Whether one that is open would listen elsewhere by now. An address that is gone may come back: that isn't elsewhere.
fn is_elsewhere(listen: &Listen, open: &Handle) -> bool {
    let ip = |at: SocketAddr| at.ip();
    matches!((address(listen).map(ip), open.local_addr().map(ip)), (Ok(now), Some(then)) if now != then)
}

impl Adapters {
    pub(super) fn endpoints(&mut self, telemetry: Option<Telemetry>, control: Control) {
        if self.telemetry.as_ref().map(|(config, _)| config) != telemetry.as_ref() {
            self.telemetry = None;
            if let Some(config) = telemetry {
                let (endpoint, named) = (self.endpoint.clone(), config.clone());
                let open = move || endpoints::telemetry::open(address(&named.listen)?, endpoint.clone());
                let what = format!("[telemetry] listen {}", config.listen);
                let asked = config.clone();
                let elsewhere = move |open: &Handle| is_elsewhere(&asked.listen, open);
                let elsewhere = matches!(config.listen, Listen::On { .. }).then(|| Box::new(elsewhere) as Elsewhere);
                self.telemetry = Some((config, opened(what, "nothing of it is served", open, elsewhere)));
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
                handles.push(opened(what, "the socket serves on", open, None));
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
