//! Durations, ranges of them and crontabs' fields, as formats.

use std::time::Duration;

use super::{Format, Wrong};
use crate::config::{Backoff, Cron, Required, duration};

impl Format for Duration {
    const NAME: &'static str = "duration";
    const WHAT: &'static str = "a duration with its unit, such as `\"5s\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        duration::parse(text).map_err(|error| Wrong { what: format!("isn't a duration: {error}"), hint: error.hint() })
    }

    fn write(&self) -> String {
        duration::print(*self)
    }
}

impl Format for Required {
    const NAME: &'static str = "duration-or-forever";
    const WHAT: &'static str = "a duration with its unit, such as `\"30s\"`, or `\"forever\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        if text == "forever" { Ok(Required::Forever) } else { Duration::read(text).map(Required::For) }
    }

    fn write(&self) -> String {
        match self {
            Required::For(within) => within.write(),
            Required::Forever => "forever".to_owned(),
        }
    }
}

impl Format for Cron {
    const NAME: &'static str = "cron";
    const WHAT: &'static str = "a crontab's five fields, such as `\"30 2 * * *\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        Cron::parse(text).map_err(|error| Wrong { what: error.to_string(), hint: Some(error.hint()) })
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Format for Backoff {
    const NAME: &'static str = "backoff";
    const WHAT: &'static str = "a range of durations, such as `\"200ms..30s\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        duration::parse_backoff(text)
            .map_err(|error| Wrong { what: format!("isn't a range of durations: {error}"), hint: error.hint() })
    }

    fn write(&self) -> String {
        duration::print_backoff(*self)
    }
}
