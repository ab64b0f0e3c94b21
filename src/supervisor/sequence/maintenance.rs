//! Maintenance: a person works on the container, or on what it needs. While it lasts no service is in the rotation, no
//! watch acts, and the container neither leads nor stands; main runs on and is checked as ever. It ends when somebody
//! says so or when its time is up. It is written down nowhere, so that a restart of the container ends it, too.

use std::time::Duration;

use crate::supervisor::Supervisor;
use crate::supervisor::machines::election::ElectionEvent;
use crate::supervisor::vocabulary::{Effect, MaintenanceStatus, Notice, Step, Time};

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
        step: &mut Step<'_>,
        lasts: Option<Duration>,
        reason: Option<String>,
    ) -> Result<String, String> {
        if self.is_stopping() {
            return Err("the container is stopping".to_owned());
        }
        let (since, before) = match self.maintenance.take() {
            Some(before) => (before.since, before.reason),
            None => (step.now, None),
        };
        let reason = reason.or(before);
        let notice = Notice::MaintenanceBegan { lasts, reason: reason.clone() };
        let said = notice.to_string();
        step.out.push(Effect::Say(notice));
        self.maintenance = Some(Maintenance { since, until: lasts.map(|lasts| step.now + lasts), reason });
        // Out of the rotation first, as when the container stops.
        self.tell_catalog(step.out);
        self.elect(step, ElectionEvent::Maintenance { on: true });
        Ok(said)
    }

    /// Somebody ends maintenance; that there is none is what they want.
    pub(in crate::supervisor) fn end_maintenance(&mut self, step: &mut Step<'_>) -> Result<String, String> {
        if self.is_stopping() {
            return Err("the container is stopping".to_owned());
        }
        match self.maintenance {
            Some(_) => Ok(self.leave_maintenance(step, "ended by request")),
            None => Ok("not in maintenance".to_owned()),
        }
    }

    /// A signal begins maintenance, or ends it.
    pub(in crate::supervisor) fn toggle_maintenance(&mut self, step: &mut Step<'_>, because: String) {
        // A container that stops has said so already.
        let _ = match self.maintenance {
            Some(_) => self.end_maintenance(step),
            None => self.begin_maintenance(step, None, Some(because)),
        };
    }

    /// Ends maintenance when its time is up.
    pub(in crate::supervisor) fn tick_maintenance(&mut self, step: &mut Step<'_>) {
        let deadline = self.maintenance.as_ref().and_then(Maintenance::deadline);
        if deadline.is_some_and(|at| at <= step.now) {
            self.leave_maintenance(step, "its time is up");
        }
    }

    fn leave_maintenance(&mut self, step: &mut Step<'_>, because: &'static str) -> String {
        self.maintenance = None;
        let notice = Notice::MaintenanceEnded { because };
        let said = notice.to_string();
        step.out.push(Effect::Say(notice));
        self.tell_catalog(step.out);
        self.elect(step, ElectionEvent::Maintenance { on: false });
        // What changed meanwhile.
        self.each_watch(step, |watch, context| watch.act(context));
        said
    }
}
