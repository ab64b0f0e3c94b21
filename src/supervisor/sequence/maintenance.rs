//! Maintenance: a person works on the container, or on what it needs. While it lasts no service is in the rotation, no
//! watch acts, and the container neither leads nor stands; main runs on and is checked as ever. It ends when somebody
//! says so or when its time is up. It is written down nowhere, so that a restart of the container ends it, too.

use std::time::Duration;

use crate::supervisor::Supervisor;
use crate::supervisor::machines::election::ElectionEvent;
use crate::supervisor::vocabulary::{Effect, MaintenanceStatus, Notice, Time};

/// What is said where no reason was given.
const NO_REASON: &str = "maintenance";

/// Maintenance under way.
#[derive(Debug)]
pub struct Maintenance {
    since: Time,
    /// It ends by itself then; `None`: never.
    until: Option<Time>,
    reason: Option<String>,
}

impl Maintenance {
    /// When it ends by itself.
    pub fn deadline(&self) -> Option<Time> {
        self.until
    }

    /// Why, for people; there is always something to say.
    pub fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or(NO_REASON)
    }

    /// For `/status`.
    pub fn status(&self) -> MaintenanceStatus {
        MaintenanceStatus { since: self.since, until: self.until, reason: self.reason.clone() }
    }
}

impl Supervisor {
    /// Somebody begins maintenance, or says anew how long it lasts and why.
    pub(in crate::supervisor) fn begin_maintenance(
        &mut self,
        now: Time,
        lasts: Option<Duration>,
        reason: Option<String>,
        out: &mut Vec<Effect>,
    ) -> Result<String, String> {
        if self.is_stopping() {
            return Err("the container is stopping".to_owned());
        }
        let (since, before) = match self.maintenance.take() {
            Some(before) => (before.since, before.reason),
            None => (now, None),
        };
        let reason = reason.or(before);
        let notice = Notice::MaintenanceBegan { lasts, reason: reason.clone() };
        let said = notice.to_string();
        out.push(Effect::Say(notice));
        self.maintenance = Some(Maintenance { since, until: lasts.map(|lasts| now + lasts), reason });
        // Out of the rotation first, as when the container stops.
        self.tell_catalog(out);
        self.elect(now, ElectionEvent::Maintenance { on: true }, out);
        Ok(said)
    }

    /// Somebody ends maintenance; that there is none is what they want.
    pub(in crate::supervisor) fn end_maintenance(
        &mut self,
        now: Time,
        out: &mut Vec<Effect>,
    ) -> Result<String, String> {
        if self.is_stopping() {
            return Err("the container is stopping".to_owned());
        }
        match self.maintenance {
            Some(_) => Ok(self.leave_maintenance(now, "ended by request", out)),
            None => Ok("not in maintenance".to_owned()),
        }
    }

    /// A signal begins maintenance, or ends it.
    pub(in crate::supervisor) fn toggle_maintenance(&mut self, now: Time, because: String, out: &mut Vec<Effect>) {
        // A container that stops has said so already.
        let _ = match self.maintenance {
            Some(_) => self.end_maintenance(now, out),
            None => self.begin_maintenance(now, None, Some(because), out),
        };
    }

    /// Ends maintenance when its time is up.
    pub(in crate::supervisor) fn tick_maintenance(&mut self, now: Time, out: &mut Vec<Effect>) {
        let deadline = self.maintenance.as_ref().and_then(Maintenance::deadline);
        if deadline.is_some_and(|at| at <= now) {
            self.leave_maintenance(now, "its time is up", out);
        }
    }

    fn leave_maintenance(&mut self, now: Time, because: &'static str, out: &mut Vec<Effect>) -> String {
        self.maintenance = None;
        let notice = Notice::MaintenanceEnded { because };
        let said = notice.to_string();
        out.push(Effect::Say(notice));
        self.tell_catalog(out);
        self.elect(now, ElectionEvent::Maintenance { on: false }, out);
        // What changed meanwhile.
        self.each_watch(now, out, |watch, context| watch.act(context));
        said
    }
}
