//! Durations and ranges of them, as formats.

use std::time::Duration;

use super::{Format, Wrong};
use crate::config::{Backoff, duration};

impl Format for Duration {
    const NAME: &'static str = "duration";
    const WHAT: &'static str = "a duration with its unit, such as `\"5s\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        duration::parse(text).map_err(|error| Wrong { what: format!("is no duration: {error}"), hint: error.hint() })
    }

    fn write(&self) -> String {
        duration::print(*self)
    }
}

impl Format for Backoff {
    const NAME: &'static str = "backoff";
    const WHAT: &'static str = "a range of durations, such as `\"200ms..30s\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        duration::parse_backoff(text)
            .map_err(|error| Wrong { what: format!("is no range of durations: {error}"), hint: error.hint() })
    }

    fn write(&self) -> String {
        duration::print_backoff(*self)
    }
}
