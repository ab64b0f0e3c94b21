//! What commands print that run again and again (checks, ranks): it is logged when it, or how the command ended, is
//! another than at the run before. It reads nothing itself.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::supervisor::vocabulary::ExitStatus;

/// Of one run so many lines are gathered, of both streams together...
const MOST_LINES: usize = 200;
/// ...and so many bytes.
const MOST_BYTES: usize = 64 * 1024;
/// Output that is never the same (a clock, a counter) is logged so often at first...
const BURST: u32 = 10;
/// ...and then once in this time.
const EACH: Duration = Duration::from_secs(60);
/// Names that a config had before its reloads are forgotten then.
const MOST_NAMES: usize = 1000;

/// What one run prints, each line with its stream.
#[derive(Debug, Default)]
pub struct Run {
    lines: Vec<(&'static str, String)>,
    bytes: usize,
    dropped: u64,
}

impl Run {
    /// Takes a line.
    pub fn take(&mut self, stream: &'static str, line: &str) {
        if self.lines.len() >= MOST_LINES || self.bytes + line.len() > MOST_BYTES {
            self.dropped += 1;
            return;
        }
        self.bytes += line.len();
        self.lines.push((stream, line.to_owned()));
    }

    /// In one order, whichever stream was read first.
    fn sorted(mut self) -> Run {
        self.lines.sort_by_key(|(stream, _)| *stream != "stdout");
        self
    }
}

/// What each command printed last.
#[derive(Debug, Default)]
pub struct Before(HashMap<String, Last>);

#[derive(Debug)]
struct Last {
    lines: Vec<(&'static str, String)>,
    status: ExitStatus,
    /// How many runs' output has not been logged since.
    unlogged: u64,
    /// Why it isn't has been said.
    hinted: bool,
    tokens: u32,
    earned: Instant,
}

impl Before {
    /// A run has ended: what of it is to be logged.
    pub fn ended(&mut self, name: &str, run: Run, status: ExitStatus, now: Instant) -> Vec<(&'static str, String)> {
        let Run { lines, dropped, .. } = run.sorted();
        if self.0.len() >= MOST_NAMES && !self.0.contains_key(name) {
            self.0.clear();
        }
        let Some(last) = self.0.get_mut(name) else {
            let last = Last { lines: lines.clone(), status, unlogged: 0, hinted: false, tokens: BURST, earned: now };
            self.0.insert(name.to_owned(), last);
            return with_dropped(lines, dropped);
        };
        let other_end = last.status != status;
        let same = last.lines == lines && !other_end;
        if lines.is_empty() && last.lines.is_empty() {
            last.status = status;
            return Vec::new();
        }
        last.earn(now);
        if same || (!other_end && last.tokens == 0) {
            last.lines = lines;
            last.unlogged += 1;
            return match std::mem::replace(&mut last.hinted, true) {
                true => Vec::new(),
                false => vec![(last.stream(), hint(same))],
            };
        }
        last.tokens -= u32::from(!other_end);
        let unlogged = match std::mem::take(&mut last.unlogged) {
            0 => None,
            1 => Some((last.stream(), "(printed once more since, and not logged)".to_owned())),
            times => Some((last.stream(), format!("(printed {times} times more since; not logged)"))),
        };
        last.lines.clone_from(&lines);
        last.status = status;
        unlogged.into_iter().chain(with_dropped(lines, dropped)).collect()
    }
}

impl Last {
    /// Where what is said of its lines belongs.
    fn stream(&self) -> &'static str {
        self.lines.first().map_or("stdout", |(stream, _)| stream)
    }

    fn earn(&mut self, now: Instant) {
        let earned = now.duration_since(self.earned).as_millis() / EACH.as_millis();
        if earned > 0 {
            self.earned = now;
            self.tokens = self.tokens.saturating_add(u32::try_from(earned).unwrap_or(BURST)).min(BURST);
        }
    }
}

fn hint(same: bool) -> String {
    match same {
        true => "(printed again; not logged until it changes)".to_owned(),
        false => "(prints something else each time: logged once a minute, and when it ends otherwise)".to_owned(),
    }
}

fn with_dropped(lines: Vec<(&'static str, String)>, dropped: u64) -> Vec<(&'static str, String)> {
    let told = (dropped > 0).then(|| {
        ("stdout", format!("{dropped} lines dropped (more than {MOST_LINES} or {} KiB a run)", MOST_BYTES / 1024))
    });
    lines.into_iter().chain(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: ExitStatus = ExitStatus::Exited(0);
    const BAD: ExitStatus = ExitStatus::Exited(1);

    fn run(lines: &[&str]) -> Run {
        let mut run = Run::default();
        lines.iter().for_each(|line| run.take("stdout", line));
        run
    }

    fn texts(logged: Vec<(&'static str, String)>) -> Vec<String> {
        logged.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn what_is_printed_again_is_logged_once_with_a_hint_and_then_counted() {
        let now = Instant::now();
        let mut before = Before::default();
        let mut logged = |lines: &[&str], status| texts(before.ended("health a", run(lines), status, now));
        assert_eq!(logged(&["ok"], GOOD), ["ok"]);
        assert_eq!(logged(&["ok"], GOOD), ["(printed again; not logged until it changes)"]);
        for _ in 0..98 {
            assert!(logged(&["ok"], GOOD).is_empty());
        }
        assert_eq!(logged(&["slow"], GOOD), ["(printed 99 times more since; not logged)", "slow"]);
        assert!(logged(&["slow"], GOOD).is_empty());
        assert_eq!(logged(&["slow"], BAD), ["(printed once more since, and not logged)", "slow"]);
        assert!(logged(&["slow"], BAD).is_empty());
    }

    #[test]
    fn each_command_is_compared_with_itself_and_the_order_of_its_streams_is_none() {
        let now = Instant::now();
        let mut before = Before::default();
        let both = |first: &'static str, second: &'static str| {
            let mut run = Run::default();
            run.take(first, first);
            run.take(second, second);
            run
        };
        assert_eq!(before.ended("a", both("stderr", "stdout"), GOOD, now).len(), 2);
        assert_eq!(before.ended("b", both("stderr", "stdout"), GOOD, now).len(), 2);
        assert_eq!(before.ended("a", both("stdout", "stderr"), GOOD, now).len(), 1, "the hint");
    }

    #[test]
    fn output_that_is_never_the_same_is_logged_once_a_minute() {
        let start = Instant::now();
        let mut before = Before::default();
        let mut lines = 0;
        for second in 0..3600_u64 {
            let now = start + Duration::from_secs(second);
            lines += before.ended("a", run(&[&second.to_string()]), GOOD, now).len();
        }
        assert!((60..150).contains(&lines), "{lines}");
        let failed = texts(before.ended("a", run(&["broken"]), BAD, start + Duration::from_secs(3600)));
        assert_eq!(failed.last().map(String::as_str), Some("broken"));
    }

    #[test]
    fn silence_is_no_output() {
        let now = Instant::now();
        let mut before = Before::default();
        for status in [GOOD, GOOD, BAD, GOOD] {
            assert!(before.ended("a", run(&[]), status, now).is_empty());
        }
    }

    #[test]
    fn a_flood_of_one_run_is_bounded() {
        let now = Instant::now();
        let logged = texts(Before::default().ended("a", run(&vec!["y"; 1000]), GOOD, now));
        assert_eq!(logged.len(), MOST_LINES + 1);
        assert_eq!(logged.last().unwrap(), "800 lines dropped (more than 200 or 64 KiB a run)");
    }
}
