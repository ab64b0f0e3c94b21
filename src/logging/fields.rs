//! What a notice tells machines beside its sentence: the fields of its JSON line, each with one name and type wherever it
//! stands. Spans are in seconds, and say so by their names.

use std::time::Duration;

use crate::supervisor::Notice;
use crate::supervisor::vocabulary::{ExitStatus, Job};

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number, a boolean, a list: JSON as it is.
    Bare(String),
    /// Anything else.
    Text(String),
}

/// A field and its value.
pub type Field = (&'static str, Value);

/// The fields of a notice.
pub fn of(notice: &Notice) -> Vec<Field> {
    match notice {
        Notice::MainStarted { pid } | Notice::MainFollowed { pid } => vec![number("pid", pid)],
        Notice::MainFailedToStart { error } => vec![text("error", error)],
        Notice::MainExited { status } => exit(*status),
        Notice::MainWentToBackground { left, followed, by_itself: _ } => {
            vec![number("left", left), number("followed", followed)]
        }
        Notice::MainRestarting { after, attempt, max } => {
            vec![seconds("after_seconds", *after), number("attempt", attempt), number("max", max)]
        }
        Notice::RestartBudgetSpent { max, within } => vec![number("max", max), seconds("within_seconds", *within)],
        Notice::CoprocessStarted { name, pid } => vec![coprocess(name), number("pid", pid)],
        Notice::CoprocessFailedToStart { name, error } => vec![coprocess(name), text("error", error)],
        Notice::CoprocessReady { name, took } => vec![coprocess(name), seconds("took_seconds", *took)],
        Notice::CoprocessNotReady { name, within, because } => {
            let because = because.as_ref().map(|because| text("because", because));
            [coprocess(name), seconds("within_seconds", *within)].into_iter().chain(because).collect()
        }
        Notice::CoprocessExited { name, status } => [coprocess(name)].into_iter().chain(exit(*status)).collect(),
        Notice::CoprocessFollowed { name, pid } => vec![coprocess(name), number("pid", pid)],
        Notice::CoprocessRestarting { name, after, attempt, max } => {
            vec![coprocess(name), seconds("after_seconds", *after), number("attempt", attempt), number("max", max)]
        }
        Notice::CoprocessGivenUp { name, why } => vec![coprocess(name), text("because", why)],
        Notice::CoprocessTold { name, signal } | Notice::CoprocessSignalled { name, signal } => {
            vec![coprocess(name), text("signal", signal)]
        }
        Notice::CoprocessRestartOrdered { name } => vec![coprocess(name)],
        Notice::MainSignalled { signal } => vec![text("signal", signal)],
        Notice::SignalForwarded { received, sent } => vec![text("received", received), text("sent", sent)],
        Notice::Stopping { reason, within } => {
            [text("reason", reason)].into_iter().chain(within.map(|within| seconds("within_seconds", within))).collect()
        }
        Notice::MainTold { signal } => vec![text("signal", signal)],
        Notice::Killing { what } => vec![text("what", what)],
        Notice::HookStarted { hook } | Notice::HookSkipped { hook } => vec![job(hook)],
        Notice::HookSucceeded { hook, took } => vec![job(hook), seconds("took_seconds", *took)],
        Notice::HookFailed { hook, error } => vec![job(hook), text("error", error)],
        Notice::HookTimedOut { hook, timeout } => vec![job(hook), seconds("timeout_seconds", *timeout)],
        Notice::HookRetrying { hook, after } => vec![job(hook), seconds("after_seconds", *after)],
        Notice::TaskLeftOut { task, because } => vec![job(task), text("because", because)],
        Notice::SensorFailed { sensor, error } => vec![text("sensor", sensor), text("error", error)],
        Notice::SensorBack { sensor } => vec![text("sensor", sensor)],
        Notice::Waiting { what } | Notice::Waited { what } => vec![text("what", what)],
        Notice::CheckChanged { check, error } => {
            [text("check", check)].into_iter().chain(error.as_ref().map(|error| text("error", error))).collect()
        }
        Notice::CheckFailing { check, error, because } => {
            vec![text("check", check), text("error", error), text("because", because)]
        }
        Notice::Published { service, status } => vec![text("service", service), text("status", status)],
        Notice::Advertised { service, address, why } => {
            vec![text("service", service), text("address", address), text("because", why)]
        }
        Notice::Withdrawn { service } => vec![text("service", service)],
        Notice::EntryLeft { service, status, ttl, because } => {
            let status = status.map(|status| text("status", status));
            let because = because.as_ref().map(|because| text("because", because));
            let fields = [Some(text("service", service)), status, Some(seconds("ttl_seconds", *ttl)), because];
            fields.into_iter().flatten().collect()
        }
        Notice::LockLeft { election, lease, because } => {
            let because = because.as_ref().map(|because| text("because", because));
            let fields = [Some(text("election", election)), Some(seconds("lease_seconds", *lease)), because];
            fields.into_iter().flatten().collect()
        }
        Notice::LockForeign { election, key, .. } => vec![text("election", election), text("key", key)],
        Notice::CatalogFailed { what, error } | Notice::ElectionFailed { what, error } => {
            vec![text("what", what), text("error", error)]
        }
        Notice::CatalogBack { what } | Notice::Degraded { what } => vec![text("what", what)],
        Notice::DependencyChanged { watch, what } => vec![text("watch", watch), text("what", what)],
        Notice::TemplateWritten { watch, destination } | Notice::TemplateKept { watch, destination } => {
            vec![text("watch", watch), text("destination", destination)]
        }
        Notice::TemplateSlow { watch, destination, after: _ } => {
            vec![text("watch", watch), text("destination", destination)]
        }
        Notice::TemplateFailed { watch, error } => vec![text("watch", watch), text("error", error)],
        Notice::Reloaded { changed, later } => {
            vec![list("changed", changed), list("later", later)]
        }
        Notice::ReloadFailed { error } | Notice::WitnessLost { error } | Notice::ReplicaRemade { error } => {
            vec![text("error", error)]
        }
        Notice::WitnessBack | Notice::FormerLifeHolds | Notice::RestartOrdered | Notice::MainStopsItself => Vec::new(),
        Notice::IdShared { id, certainly: _ } => vec![text("id", id)],
        Notice::Demoting { why } => vec![text("because", why)],
        Notice::HandoverFailed { to, within } => vec![text("to", to), seconds("within_seconds", *within)],
        Notice::RanksMissing { known, quorum, missing, ahead, never: _ } => {
            let quorum = quorum.map(|quorum| number("quorum", quorum as u64));
            let ahead = ahead.as_ref().map(|ahead| text("ahead", ahead));
            [list("known", known), list("missing", missing)].into_iter().chain(quorum).chain(ahead).collect()
        }
        Notice::RanksKnown { known } => vec![list("known", known)],
        Notice::AcceptsLoss { term, known } => vec![number("term", term.0), list("known", known)],
        Notice::Leads { term } | Notice::Promoting { term } => vec![number("term", term.0)],
        Notice::LeaderChanged { id, address } => {
            let fields = [("leader", id), ("address", address)];
            fields.into_iter().filter_map(|(name, value)| Some(text(name, value.as_ref()?))).collect()
        }
        Notice::Certified { id, term } => vec![text("leader", id), number("term", term.0)],
        Notice::LeaseTooShort { usable, least } => {
            vec![seconds("usable_seconds", *usable), seconds("least_seconds", *least)]
        }
        Notice::TermWentBack { term, seen } => vec![number("term", term.0), number("seen", seen.0)],
        Notice::MaintenanceBegan { lasts, reason } => {
            let lasts = lasts.map(|lasts| seconds("lasts_seconds", lasts));
            lasts.into_iter().chain(reason.as_ref().map(|reason| text("reason", reason))).collect()
        }
        Notice::MaintenanceEnded { because } => vec![text("because", because)],
        Notice::Ended { code, reason, asked } => {
            vec![number("code", code), text("reason", reason), number("asked", asked)]
        }
    }
}

fn exit(status: ExitStatus) -> Vec<Field> {
    let signal = match status {
        ExitStatus::Exited(_) => None,
        ExitStatus::Killed(signal) => Some(text("signal", signal)),
    };
    [number("code", status.code())].into_iter().chain(signal).collect()
}

fn job(job: &Job) -> Field {
    match job {
        Job::Task { task } => text("task", task),
        hook => text("hook", hook),
    }
}

fn coprocess(name: &str) -> Field {
    text("coprocess", name)
}

fn number(name: &'static str, value: impl ToString) -> Field {
    (name, Value::Bare(value.to_string()))
}

fn seconds(name: &'static str, value: Duration) -> Field {
    number(name, value.as_secs_f64())
}

fn list(name: &'static str, values: &[String]) -> Field {
    number(name, serde_json::Value::from(values))
}

fn text(name: &'static str, value: impl ToString) -> Field {
    (name, Value::Text(value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Signal;

    #[test]
    fn numbers_are_numbers_and_spans_are_seconds() {
        let status = ExitStatus::Killed(Signal::KILL);
        assert_eq!(of(&Notice::MainExited { status }), [number("code", 137), text("signal", "SIGKILL")]);
        let timeout = Duration::from_millis(1500);
        let fields = of(&Notice::HookTimedOut { hook: Job::PreStop, timeout });
        assert_eq!(fields, [text("hook", "pre_stop"), number("timeout_seconds", "1.5")]);
        let fields = of(&Notice::Reloaded { changed: vec!["log".to_owned(), "a \"b\"".to_owned()], later: Vec::new() });
        assert_eq!(fields, [number("changed", r#"["log","a \"b\""]"#), number("later", "[]")]);
    }
}
