//! What of a status has a date: maintenance and tasks. The core knows the kernel's time only, and people want the
//! calendar's.

use std::fmt;

use serde::Serialize;

use crate::clock;
use crate::supervisor::vocabulary::{MaintenanceStatus, TaskEnd, TaskStatus, Time};

/// Maintenance under way; its times as RFC 3339 has them, in UTC.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Maintenance<'a> {
    /// When it began.
    since: String,
    /// When it ends by itself, if it does.
    until: Option<String>,
    /// Why, if somebody said so.
    reason: Option<&'a str>,
}

impl<'a> Maintenance<'a> {
    /// Dated now.
    pub fn of(status: &'a MaintenanceStatus) -> Maintenance<'a> {
        Maintenance { since: date(status.since), until: status.until.map(date), reason: status.reason.as_deref() }
    }
}

/// A task; its times as maintenance's are.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Task<'a> {
    /// Its name.
    name: &'a str,
    /// Whether it runs now.
    running: bool,
    /// When it is due next, if that is known.
    next: Option<String>,
    /// How many runs succeeded.
    succeeded: u64,
    /// How many runs failed.
    failed: u64,
    /// How often it was due and not run.
    left_out: u64,
    /// Its last run.
    last: Option<LastRun<'a>>,
    /// The last runs of `pilotfish task run` that have ended, 16 at most, the newest last.
    out_of_turn: Vec<LastRun<'a>>,
}

/// How a task's run ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LastRun<'a> {
    /// Its number; no other run has it.
    run: u64,
    /// When it ended.
    ended: String,
    /// How long it ran.
    seconds: f64,
    /// Its exit code; 124 when it ran past its timeout, 143 when it was cut short.
    code: u8,
    /// What went wrong.
    error: Option<&'a str>,
}

impl<'a> LastRun<'a> {
    fn of(end: &'a TaskEnd) -> LastRun<'a> {
        LastRun {
            run: end.run.0,
            ended: date(end.at),
            seconds: end.took.as_millis() as f64 / 1e3,
            code: end.code,
            error: end.error.as_deref(),
        }
    }
}

impl<'a> Task<'a> {
    /// Dated now.
    pub fn of(status: &'a TaskStatus) -> Task<'a> {
        Task {
            name: &status.name,
            running: status.running,
            next: status.next.map(date),
            succeeded: status.succeeded,
            failed: status.failed,
            left_out: status.left_out,
            last: status.last.as_ref().map(LastRun::of),
            out_of_turn: status.out_of_turn.iter().map(LastRun::of).collect(),
        }
    }

    /// In one line: what it does now or did last, and when it comes next.
    pub fn lines(&self) -> [String; 2] {
        let last = match &self.last {
            Some(last) => format!("code {} at {} after {} s", last.code, last.ended, last.seconds),
            None => "hasn't run yet".to_owned(),
        };
        let next = match &self.next {
            _ if self.running => "runs".to_owned(),
            Some(next) => format!("next at {next}"),
            None => "waits for its turn".to_owned(),
        };
        [last, next]
    }
}

pub(super) fn date(time: Time) -> String {
    humantime::format_rfc3339_seconds(clock::calendar(time)).to_string()
}

impl fmt::Display for Maintenance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in maintenance since {}", self.since)?;
        if let Some(until) = &self.until {
            write!(f, " until {until}")?;
        }
        self.reason.map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::status::StatusBody;
    use super::*;
    use crate::supervisor::vocabulary::Status;

    #[test]
    fn times_are_dates() {
        let now = clock::now();
        let maintenance = MaintenanceStatus { since: now, until: None, reason: Some("disk".to_owned()) };
        let mut status = Status { maintenance: Some(maintenance), ..Status::default() };
        let json = serde_json::to_value(StatusBody::of(&status)).unwrap();
        assert_eq!((json["phase"].as_str(), json["maintenance"]["reason"].as_str()), (Some("starting"), Some("disk")));
        let since = humantime::parse_rfc3339(json["maintenance"]["since"].as_str().unwrap()).unwrap();
        let age = SystemTime::now().duration_since(since).unwrap();
        assert!(age < Duration::from_secs(60), "{age:?}");
        status.maintenance = None;
        assert!(serde_json::to_value(StatusBody::of(&status)).unwrap()["maintenance"].is_null());
    }

    #[test]
    fn a_tasks_last_run_has_its_date_its_length_and_its_code() {
        use crate::supervisor::vocabulary::RunId;
        let (at, took) = (clock::now(), Duration::from_millis(1_500));
        let last = TaskEnd { run: RunId(9), at, took, code: 3, error: Some("exited with code 3".to_owned()) };
        let task = TaskStatus {
            name: "backup".to_owned(),
            running: false,
            next: Some(at + Duration::from_secs(60)),
            succeeded: 1,
            failed: 2,
            left_out: 3,
            last: Some(last.clone()),
            out_of_turn: vec![TaskEnd { run: RunId(7), ..last }],
        };
        let status = Status { tasks: vec![task], ..Status::default() };
        let json = serde_json::to_value(StatusBody::of(&status)).unwrap();
        let task = &json["tasks"][0];
        assert_eq!(
            (&task["last"]["code"], &task["last"]["seconds"], &task["last"]["run"]),
            (&3.into(), &1.5.into(), &9.into())
        );
        assert_eq!(task["out_of_turn"][0]["run"], 7);
        let date = |text: &serde_json::Value| humantime::parse_rfc3339(text.as_str().unwrap()).unwrap();
        assert_eq!(date(&task["next"]).duration_since(date(&task["last"]["ended"])).unwrap().as_secs(), 60);
        let [last, next] = Task::of(&status.tasks[0]).lines();
        assert!(last.starts_with("code 3 at 20") && last.ends_with(" after 1.5 s"), "{last}");
        assert!(next.starts_with("next at 20"), "{next}");
    }

    #[test]
    fn maintenance_is_a_sentence() {
        let (since, until) = ("2026-11-25T10:00:00Z".to_owned(), Some("2026-11-25T11:00:00Z".to_owned()));
        let mut maintenance = Maintenance { since, until, reason: Some("disk") };
        assert_eq!(
            maintenance.to_string(),
            "in maintenance since 2026-11-25T10:00:00Z until 2026-11-25T11:00:00Z: disk"
        );
        (maintenance.until, maintenance.reason) = (None, None);
        assert_eq!(maintenance.to_string(), "in maintenance since 2026-11-25T10:00:00Z");
    }
}
