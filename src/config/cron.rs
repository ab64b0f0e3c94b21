//! A crontab's five fields, and the dates that they name in a time zone. It knows no clock and reads no file.
//!
//! Fields are read as cron(8) of Debian has them, and so is what happens where a zone's clock is put forward or back: what
//! names its hours is neither left out nor run twice, what comes each hour goes by the clock as it is.

use std::fmt;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// 29 February of a year that isn't a leap year, on a Monday: nothing rarer than that recurs within so many months.
const LONGEST_SEARCH: u32 = 12 * 40;

/// When something is due: minutes, hours, days of the month, months, and days of the week, as a crontab has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// The field of days begins with `*`...
    any_day: bool,
    /// ...or that of weekdays: only then both must agree.
    any_weekday: bool,
    /// It comes each hour, or each so many.
    hourly: bool,
}

/// The text is no crontab's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// There are too few fields or too many.
    #[error("has {0} fields, not five")]
    Fields(usize),
    /// A word that stands for five fields, which isn't known.
    #[error("can't be `{0}`")]
    Word(String),
    /// A field can't be read.
    #[error("has `{part}` for {field}")]
    Part {
        /// What is written.
        part: String,
        /// Which field it stands in.
        field: &'static str,
        /// What may stand there.
        range: &'static str,
    },
    /// There is no such day.
    #[error("names no day that exists")]
    Never,
}

impl CronError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match self {
            CronError::Fields(6 | 7) => {
                "minute, hour, day, month and weekday; there are no seconds: `every = \"10s\"` has them".to_owned()
            }
            CronError::Fields(_) => {
                "minute, hour, day, month and weekday: `\"30 2 * * *\"` is each day at 2:30".to_owned()
            }
            CronError::Word(word) if word == "@reboot" => "`at_start = true` has it run at the start".to_owned(),
            CronError::Word(_) => {
                "there are `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`, or five fields".to_owned()
            }
            CronError::Part { range, .. } => format!("{range}; `*`, `1-5`, `1,15` and `*/10` are understood"),
            CronError::Never => "months have 28 to 31 days".to_owned(),
        }
    }
}

/// One of the five fields.
struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    /// Words for its numbers, from the first on.
    words: &'static [&'static str],
    range: &'static str,
}

const FIELDS: [Field; 5] = [
    Field { name: "the minute", first: 0, last: 59, words: &[], range: "minutes go from 0 to 59" },
    Field { name: "the hour", first: 0, last: 23, words: &[], range: "hours go from 0 to 23" },
    Field { name: "the day", first: 1, last: 31, words: &[], range: "days go from 1 to 31" },
    Field {
        name: "the month",
        first: 1,
        last: 12,
        words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
        range: "months go from 1 to 12, or from `jan` to `dec`",
    },
    Field {
        name: "the weekday",
        first: 0,
        last: 7,
        words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
        range: "weekdays go from 0 to 7 (0 and 7 are Sunday), or from `sun` to `sat`",
    },
];

impl Field {
    fn read(&self, text: &str) -> Result<u64, CronError> {
        let wrong = || CronError::Part { part: text.to_owned(), field: self.name, range: self.range };
        let mut set = 0;
        for part in text.split(',') {
            let (span, step) = match part.split_once('/') {
                Some((span, step)) => (span, Some(number(step).filter(|step| *step > 0).ok_or_else(wrong)?)),
                None => (part, None),
            };
            let (first, last) = match span.split_once('-') {
                _ if span == "*" => (self.first, self.last),
                Some((first, last)) => (self.value(first).ok_or_else(wrong)?, self.value(last).ok_or_else(wrong)?),
                None => {
                    let first = self.value(span).ok_or_else(wrong)?;
                    // `5/10` is from 5 on, as most have it.
                    (first, if step.is_some() { self.last } else { first })
                }
            };
            if first > last {
                return Err(wrong());
            }
            (first..=last).step_by(step.unwrap_or(1) as usize).for_each(|value| set |= 1 << value);
        }
        Ok(set)
    }

    fn value(&self, text: &str) -> Option<u32> {
        let word = || self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let value = number(text).or_else(|| word().map(|at| at as u32 + self.first))?;
        (self.first..=self.last).contains(&value).then_some(value)
    }
}

/// Digits alone: no sign, no space.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Cron {
    /// Reads five fields, or a word that stands for them.
    ///
    /// # Errors
    /// What can't be read, or names no day.
    pub fn parse(text: &str) -> Result<Cron, CronError> {
        let fields: Vec<&str> = match text.trim() {
            "@yearly" | "@annually" => vec!["0", "0", "1", "1", "*"],
            "@monthly" => vec!["0", "0", "1", "*", "*"],
            "@weekly" => vec!["0", "0", "*", "*", "0"],
            "@daily" | "@midnight" => vec!["0", "0", "*", "*", "*"],
            "@hourly" => vec!["0", "*", "*", "*", "*"],
            word if word.starts_with('@') => return Err(CronError::Word(word.to_owned())),
            fields => fields.split_ascii_whitespace().collect(),
        };
        let Ok([minutes, hours, days, months, weekdays]) = <[&str; 5]>::try_from(fields.as_slice()) else {
            return Err(CronError::Fields(fields.len()));
        };
        let mut cron = Cron {
            text: text.trim().to_owned(),
            minutes: FIELDS[0].read(minutes)?,
            hours: FIELDS[1].read(hours)?,
            days: FIELDS[2].read(days)?,
            months: FIELDS[3].read(months)?,
            weekdays: FIELDS[4].read(weekdays)?,
            any_day: days.starts_with('*'),
            any_weekday: weekdays.starts_with('*'),
            hourly: hours.starts_with('*'),
        };
        cron.weekdays |= cron.weekdays >> 7 & 1;
        match cron.day_from(Date::constant(2000, 1, 1)) {
            Some(_) => Ok(cron),
            None => Err(CronError::Never),
        }
    }

    /// Each day at midnight.
    pub fn daily() -> Cron {
        let every = |field: &Field| (field.first..=field.last).fold(0, |set, value| set | 1 << value);
        Cron {
            text: "@daily".to_owned(),
            minutes: 1,
            hours: 1,
            days: every(&FIELDS[2]),
            months: every(&FIELDS[3]),
            weekdays: every(&FIELDS[4]),
            any_day: true,
            any_weekday: true,
            hourly: false,
        }
    }

    /// Whether it comes each hour, or each so many, so that it goes by the clock as it is.
    pub fn is_hourly(&self) -> bool {
        self.hourly
    }

    /// The first time after this one at which it is due in a zone; `None`: never again.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut offset = zone.to_offset(after);
        let mut shown = next_minute(offset.to_datetime(after));
        // What the clock shows for the second time was due the first time.
        if !self.hourly
            && let Some(change) = zone.preceding(after.checked_add(SignedDuration::from_nanos(1)).ok()?).next()
        {
            let before = zone.to_offset(change.timestamp().checked_sub(SignedDuration::from_nanos(1)).ok()?);
            shown = shown.max(before.to_datetime(change.timestamp()));
        }
        let mut changes = zone.following(after);
        loop {
            let due = self.from(shown)?;
            let at = offset.to_timestamp(due).ok()?;
            let Some(change) = changes.next().filter(|change| change.timestamp() <= at) else { return Some(at) };
            let (old, new) = (offset.to_datetime(change.timestamp()), change.offset().to_datetime(change.timestamp()));
            // It would have come while the clock was put forward.
            if !self.hourly && due < new {
                return Some(change.timestamp());
            }
            shown = if self.hourly { new } else { old.max(new) };
            offset = change.offset();
        }
    }

    /// The first date of its own that is this or later, on a clock that goes its way.
    fn from(&self, shown: DateTime) -> Option<DateTime> {
        let shown = if shown.second() == 0 && shown.subsec_nanosecond() == 0 { shown } else { next_minute(shown) };
        let day = self.day_from(shown.date())?;
        if day == shown.date()
            && let Some(time) = self.time_from(shown.hour(), shown.minute())
        {
            return Some(day.to_datetime(time));
        }
        let day = if day == shown.date() { self.day_from(day.tomorrow().ok()?)? } else { day };
        Some(day.to_datetime(self.time_from(0, 0)?))
    }

    fn time_from(&self, hour: i8, minute: i8) -> Option<Time> {
        (hour..24).filter(|at| self.hours >> at & 1 == 1).find_map(|at| {
            let from = if at == hour { minute } else { 0 };
            (from..60)
                .find(|minute| self.minutes >> minute & 1 == 1)
                .and_then(|minute| Time::new(at, minute, 0, 0).ok())
        })
    }

    fn day_from(&self, day: Date) -> Option<Date> {
        let mut month = day;
        for _ in 0..LONGEST_SEARCH {
            if self.months >> month.month() & 1 == 1
                && let Some(found) = (month.day()..=month.days_in_month()).find_map(|day| {
                    let date = Date::new(month.year(), month.month(), day).ok()?;
                    self.is_day(date).then_some(date)
                })
            {
                return Some(found);
            }
            month = month.last_of_month().tomorrow().ok()?;
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        let day = self.days >> date.day() & 1 == 1;
        let weekday = self.weekdays >> date.weekday().to_sunday_zero_offset() & 1 == 1;
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The minute that begins next.
fn next_minute(shown: DateTime) -> DateTime {
    let begun = shown.date().at(shown.hour(), shown.minute(), 0, 0);
    begun.saturating_add(SignedDuration::from_mins(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    /// The next so many dates after one, as the zone's clock shows them.
    fn dates(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let (cron, zone) = (Cron::parse(cron).unwrap(), TimeZone::posix(zone).unwrap());
        let mut at: Timestamp = after.parse().unwrap();
        let mut next = || {
            at = cron.next(at, &zone).unwrap();
            let offset = zone.to_offset(at);
            format!("{} {:+}", offset.to_datetime(at).strftime("%m-%d %H:%M"), offset.seconds() / 3600)
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn five_fields_name_dates() {
        let next = |cron: &str| dates(cron, "UTC0", "2026-11-27T17:42:45Z", 2).join(", ");
        assert_eq!(next("30 2 * * *"), "11-28 02:30 +0, 11-29 02:30 +0");
        assert_eq!(next("*/20 * * * *"), "11-27 18:00 +0, 11-27 18:20 +0");
        assert_eq!(next("43 17 * * *"), "11-27 17:43 +0, 11-28 17:43 +0");
        assert_eq!(next("0 9-17/4 * * mon-fri"), "11-30 09:00 +0, 11-30 13:00 +0");
        assert_eq!(next("0 0 1,15 * *"), "12-01 00:00 +0, 12-15 00:00 +0");
        assert_eq!(next("0 0 29 2 *"), "02-29 00:00 +0, 02-29 00:00 +0");
        assert_eq!(next("5/25 4 * Dec *"), "12-01 04:05 +0, 12-01 04:30 +0");
        assert_eq!(next("@weekly"), "11-29 00:00 +0, 12-06 00:00 +0");
        assert_eq!(next("0 0 * * 7"), next("@weekly"));
        assert_eq!(next("@yearly"), "01-01 00:00 +0, 01-01 00:00 +0");
    }

    #[test]
    fn a_day_and_a_weekday_are_one_or_the_other_and_a_star_is_both() {
        let next = |cron: &str| dates(cron, "UTC0", "2026-11-27T00:00:00Z", 3).join(", ");
        assert_eq!(next("0 0 13 * fri"), "12-04 00:00 +0, 12-11 00:00 +0, 12-13 00:00 +0");
        assert_eq!(next("0 0 */10 * sun"), "01-31 00:00 +0, 02-21 00:00 +0, 03-21 00:00 +0");
    }

    #[test]
    fn what_is_no_crontabs_is_refused_with_what_to_write() {
        let hint = |text: &str| {
            let error = Cron::parse(text).unwrap_err();
            format!("{error}; {}", error.hint())
        };
        assert!(hint("0 0 30 2 *").starts_with("names no day that exists"));
        assert!(hint("0 */5 * * * *").contains("every = \"10s\""));
        assert!(hint("@reboot").contains("at_start"));
        assert!(hint("60 * * * *").contains("`60` for the minute; minutes go from 0 to 59"));
        assert!(hint("0 0 * * fun").contains("from `sun` to `sat`"));
        for bad in ["", "* * * *", "5-1 * * * *", "*/0 * * * *", "+5 * * * *", "1, * * * *", "- * * * *", "0 0 0 * *"] {
            assert!(Cron::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_falls_into_a_clock_put_forward_comes_when_that_is_over_and_once() {
        let spring = |cron: &str, count: usize| dates(cron, BERLIN, "2026-03-28T12:00:00Z", count).join(", ");
        assert_eq!(spring("30 2 * * *", 2), "03-29 03:00 +2, 03-30 02:30 +2");
        assert_eq!(spring("*/10 2 * * *", 2), "03-29 03:00 +2, 03-30 02:00 +2");
        assert_eq!(spring("0 2-4 * * *", 3), "03-29 03:00 +2, 03-29 04:00 +2, 03-30 02:00 +2");
        assert_eq!(spring("0 3 * * *", 2), "03-29 03:00 +2, 03-30 03:00 +2");
    }

    #[test]
    fn what_a_clock_put_back_shows_twice_comes_once() {
        let autumn = |cron: &str, count: usize| dates(cron, BERLIN, "2026-10-24T12:00:00Z", count).join(", ");
        assert_eq!(autumn("30 2 * * *", 2), "10-25 02:30 +2, 10-26 02:30 +1");
        assert_eq!(autumn("0 2,3 * * *", 3), "10-25 02:00 +2, 10-25 03:00 +1, 10-26 02:00 +1");
        // One that starts within the hour that is shown again.
        assert_eq!(dates("50 2 * * *", BERLIN, "2026-10-25T01:05:00Z", 1), ["10-26 02:50 +1"]);
    }

    #[test]
    fn what_comes_each_hour_goes_by_the_clock_as_it_is() {
        let spring = dates("30 * * * *", BERLIN, "2026-03-29T00:00:00Z", 3);
        assert_eq!(spring, ["03-29 01:30 +1", "03-29 03:30 +2", "03-29 04:30 +2"]);
        let autumn = dates("30 * * * *", BERLIN, "2026-10-25T00:00:00Z", 3);
        assert_eq!(autumn, ["10-25 02:30 +2", "10-25 02:30 +1", "10-25 03:30 +1"]);
        let quarters = dates("*/15 * * * *", BERLIN, "2026-10-25T00:40:00Z", 3);
        assert_eq!(quarters, ["10-25 02:45 +2", "10-25 02:00 +1", "10-25 02:15 +1"]);
    }

    #[test]
    fn a_zone_that_changes_at_midnight_or_by_half_an_hour_is_no_exception() {
        // Lord Howe: half an hour. A zone that skips midnight, as Cuba and Chile had.
        let lord_howe = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";
        assert_eq!(dates("15 2 * * *", lord_howe, "2026-10-03T00:00:00Z", 2), ["10-04 02:30 +11", "10-05 02:15 +11"]);
        let midnight = "<-04>4<-03>,M9.1.6/24,M4.1.6/24";
        assert_eq!(dates("0 0 * * *", midnight, "2026-09-06T00:00:00Z", 2), ["09-06 01:00 -3", "09-07 00:00 -3"]);
    }

    #[test]
    fn dates_only_go_forward_whatever_the_zone_does() {
        for zone in [BERLIN, "UTC0", "<-04>4<-03>,M9.1.6/24,M4.1.6/24", "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"] {
            let zone = TimeZone::posix(zone).unwrap();
            for cron in ["*/7 * * * *", "*/7 1-3 * * *", "59 23 * * *", "0 0 31 * *", "30 2 * * sun"] {
                let cron = Cron::parse(cron).unwrap();
                let mut at: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
                for _ in 0..500 {
                    let next = cron.next(at, &zone).unwrap();
                    assert!(next > at, "{cron} in {zone:?} after {at}");
                    at = next;
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_and_no_time_panics(text in "[-*/,0-9a-z@ ]{0,24}", second in -377_705_023_201i64..=253_402_207_200) {
            let after = Timestamp::from_second(second).unwrap();
            let cron = Cron::parse(&text).unwrap_or(Cron::daily());
            for zone in [TimeZone::UTC, TimeZone::posix(BERLIN).unwrap()] {
                if let Some(next) = cron.next(after, &zone) {
                    proptest::prop_assert!(next > after, "{} after {}", next, after);
                }
            }
        }
    }
}
