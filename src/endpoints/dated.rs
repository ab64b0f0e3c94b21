//! What of a status has a date: the core knows the kernel's time only, people want the calendar's.

use std::fmt;

use serde::Serialize;

use crate::clock;
use crate::supervisor::vocabulary::{MaintenanceStatus, Status, Time};

/// A status as `/status` tells it.
#[derive(Debug, Serialize)]
pub struct Dated<'a> {
    #[serde(flatten)]
    status: &'a Status,
    maintenance: Option<Maintenance<'a>>,
}

impl<'a> Dated<'a> {
    /// Dated now: a calendar that was set right meanwhile counts.
    pub fn of(status: &'a Status) -> Dated<'a> {
        Dated { status, maintenance: status.maintenance.as_ref().map(Maintenance::of) }
    }
}

/// Maintenance under way; its times as RFC 3339 has them, in UTC.
#[derive(Debug, Serialize)]
pub struct Maintenance<'a> {
    since: String,
    until: Option<String>,
    reason: Option<&'a str>,
}

impl<'a> Maintenance<'a> {
    /// Dated now.
    pub fn of(status: &'a MaintenanceStatus) -> Maintenance<'a> {
        let date = |time: Time| humantime::format_rfc3339_seconds(clock::calendar(time)).to_string();
        Maintenance { since: date(status.since), until: status.until.map(date), reason: status.reason.as_deref() }
    }
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

    use super::*;

    #[test]
    fn times_are_dates() {
        let now = clock::now();
        let maintenance = MaintenanceStatus { since: now, until: None, reason: Some("disk".to_owned()) };
        let mut status = Status { maintenance: Some(maintenance), ..Status::default() };
        let json = serde_json::to_value(Dated::of(&status)).unwrap();
        assert_eq!((json["phase"].as_str(), json["maintenance"]["reason"].as_str()), (Some("starting"), Some("disk")));
        let since = humantime::parse_rfc3339(json["maintenance"]["since"].as_str().unwrap()).unwrap();
        let age = SystemTime::now().duration_since(since).unwrap();
        assert!(age < Duration::from_secs(60), "{age:?}");
        status.maintenance = None;
        assert!(serde_json::to_value(Dated::of(&status)).unwrap()["maintenance"].is_null());
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
