//! Our own endpoints: opened, closed, and answered.

use tokio::sync::oneshot;

use crate::config::{Control, Telemetry};
use crate::endpoints;
use crate::supervisor::Event;
use crate::supervisor::vocabulary::{Answer, ReplyId, Request};

use super::{Adapters, degraded};

impl Adapters {
    pub(super) fn endpoints(&mut self, telemetry: Option<Telemetry>, control: Control) {
        if self.telemetry.as_ref().map(|(config, _)| config) != telemetry.as_ref() {
            self.telemetry = None;
            if let Some(config) = telemetry {
                match endpoints::telemetry::open(&config, self.endpoint.clone()) {
                    Ok(handle) => self.telemetry = Some((config, handle)),
                    Err(error) => degraded(format!(
                        "[telemetry] can't listen on {}, and nothing of it is served: {error}",
                        config.listen
                    )),
                }
            }
        }
        if self.control.as_ref().map(|(config, _)| config) != Some(&control) {
            self.control = None;
            let mut handles = Vec::new();
            match endpoints::control::open(&control, self.endpoint.clone()) {
                Ok(handle) => handles.extend(handle),
                Err(error) => {
                    let socket = control.socket.clone().unwrap_or_default();
                    degraded(format!("there is no control socket: can't open {}: {error}", socket.display()));
                }
            }
            if let Some(listen) = &control.listen {
                match endpoints::control::open_tcp(listen, self.endpoint.clone()) {
                    Ok(handle) => handles.push(handle),
                    Err(error) => {
                        degraded(format!("[control] can't listen on {}; the socket serves on: {error}", listen.at))
                    }
                }
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

    /// Whether anybody can look at the status.
    pub fn has_endpoints(&self) -> bool {
        self.telemetry.is_some() || self.control.is_some()
    }
}
