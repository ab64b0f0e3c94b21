//! Durations as a config file writes them: the unit is in the value (`"500ms"`, `"1h30m"`), so that nobody has to know
//! whether 5 means seconds. It reads and writes text and knows no clock.

use std::time::Duration;

use super::Backoff;

/// Nothing in a container's life is longer; a longer one is a slip, and this keeps sums of a few from overflowing.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The text isn't a duration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DurationError {
    /// There is no text.
    #[error("it is empty")]
    Empty,
    /// A number alone.
    #[error("`{0}` has no unit")]
    NoUnit(String),
    /// A number with a fraction.
    #[error("`{0}` has a fraction")]
    Fraction(String),
    /// It is longer than a year.
    #[error("`{0}` is longer than a year")]
    TooLong(String),
    /// Two durations in the wrong order.
    #[error("`{first}` is longer than `{most}`")]
    Backwards {
        /// What should be the shorter one.
        first: String,
        /// What should be the longer one.
        most: String,
    },
    /// Anything else.
    #[error("`{text}` can't be read")]
    Unreadable {
        /// The text.
        text: String,
        /// What is wrong with it.
        #[source]
        source: humantime::DurationError,
    },
}

impl DurationError {
    /// What to write instead, where that can be told.
    pub fn hint(&self) -> Option<String> {
        match self {
            DurationError::NoUnit(number) => Some(format!("write the unit: `\"{number}s\"` for seconds")),
            DurationError::Fraction(text) => Some(match in_milliseconds(text) {
                Some(whole) => format!("use a smaller unit: `\"{whole}\"`"),
                None => "use a smaller unit: `\"1500ms\"`, not `\"1.5s\"`".to_owned(),
            }),
            DurationError::Backwards { .. } => Some("the first pause comes first: `\"200ms..30s\"`".to_owned()),
            DurationError::Empty | DurationError::TooLong(_) | DurationError::Unreadable { .. } => {
                Some("units are ns, us, ms, s, m, h, d; several may follow each other: `\"1h30m\"`".to_owned())
            }
        }
    }
}

/// `1.5s` as `1500ms`, if that is exact.
fn in_milliseconds(text: &str) -> Option<String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let factor = match text[unit_at..].trim() {
        "s" => 1e3,
        "m" | "min" => 60e3,
        "h" => 3_600e3,
        _ => return None,
    };
    let milliseconds = text[..unit_at].trim().parse::<f64>().ok()? * factor;
    let whole = milliseconds.round();
    ((milliseconds - whole).abs() < 1e-6 && (1.0..1e12).contains(&whole))
        .then(|| print(Duration::from_millis(whole as u64)))
}

/// Reads one duration: `"500ms"`, `"1h30m"`.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return if text == "0" { Ok(Duration::ZERO) } else { Err(DurationError::NoUnit(text.to_owned())) };
    }
    if text.contains('.') {
        return Err(DurationError::Fraction(text.to_owned()));
    }
    let duration = humantime::parse_duration(text)
        .map_err(|source| DurationError::Unreadable { text: text.to_owned(), source })?;
    if duration > LONGEST {
        return Err(DurationError::TooLong(text.to_owned()));
    }
    Ok(duration)
}

/// Writes a duration as [`parse`] reads it, without spaces: `1h30m`.
pub fn print(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// Reads the pauses of a backoff: `"200ms..30s"` doubles from the first to the second; `"1s"` is always the same.
pub fn parse_backoff(text: &str) -> Result<Backoff, DurationError> {
    let Some((first, most)) = text.split_once("..") else {
        let pause = parse(text)?;
        return Ok(Backoff { first: pause, most: pause });
    };
    let backoff = Backoff { first: parse(first)?, most: parse(most)? };
    if backoff.first > backoff.most {
        return Err(DurationError::Backwards { first: first.trim().to_owned(), most: most.trim().to_owned() });
    }
    Ok(backoff)
}

/// Writes a backoff as [`parse_backoff`] reads it.
pub fn print_backoff(backoff: Backoff) -> String {
    if backoff.first == backoff.most {
        return print(backoff.first);
    }
    format!("{}..{}", print(backoff.first), print(backoff.most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_carries_its_unit() {
        for (text, milliseconds) in
            [("500ms", 500), ("5s", 5_000), ("1h30m", 5_400_000), ("1m 30s", 90_000), ("0", 0), ("0s", 0)]
        {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_refused_with_the_unit_to_write() {
        assert_eq!(parse("5").unwrap_err().hint().unwrap(), "write the unit: `\"5s\"` for seconds");
    }

    #[test]
    fn a_fraction_is_refused_with_the_smaller_unit() {
        assert_eq!(parse("1.5s").unwrap_err().hint().unwrap(), "use a smaller unit: `\"1s500ms\"`");
        assert_eq!(parse("0.5h").unwrap_err().hint().unwrap(), "use a smaller unit: `\"30m\"`");
        assert!(parse("1.5parsecs").unwrap_err().hint().unwrap().contains("1500ms"));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", " ", "s", "5x", "-5s", "5s5", "99999999999999999999s", "2years", "1s..2s", "ä"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_backoff_is_a_range_or_one_pause() {
        let range = parse_backoff("200ms..30s").unwrap();
        assert_eq!(range, Backoff::default());
        assert_eq!(print_backoff(range), "200ms..30s");
        assert_eq!(print_backoff(parse_backoff("1s").unwrap()), "1s");
        for text in ["30s..1s", "1s..", "..1s", "1..2", ""] {
            assert!(parse_backoff(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_duration_reads_back_what_it_prints() {
        for milliseconds in [0, 1, 999, 1_000, 61_001, 86_400_000, 31_000_000_000] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse(&print(duration)), Ok(duration));
        }
    }
}
