//! What clients were told, against what is there.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, as the clients write them: one kernel's clock.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    u64::try_from(since.as_millis()).expect("milliseconds fit")
}

/// One acknowledged row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acknowledged {
    at: u64,
    id: String,
    server: String,
    /// Grows with each leader: a timeline, a term.
    epoch: u64,
}

/// All that was acknowledged, in order.
pub struct Journal {
    rows: Vec<Acknowledged>,
}

impl Journal {
    /// A line each: milliseconds, id, server, epoch in hexadecimal. The last one may be half written.
    pub fn read(files: &[PathBuf]) -> Journal {
        let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default());
        let mut rows: Vec<_> = texts
            .flat_map(|text| {
                let whole = text.rfind('\n').map_or("", |end| &text[..end]);
                whole.lines().map(parsed).collect::<Vec<_>>()
            })
            .collect();
        rows.sort();
        Journal { rows }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The longest time without a write that touches this span.
    pub fn longest_pause(&self, from: u64, until: u64) -> Duration {
        let before = self.rows.iter().map(|row| row.at).filter(|at| *at < from).max().unwrap_or(from);
        let within = self.rows.iter().map(|row| row.at).filter(|at| (from..=until).contains(at));
        let mut last = before;
        let mut longest = 0;
        for at in within.chain([until]) {
            longest = longest.max(at - last);
            last = at;
        }
        Duration::from_millis(longest)
    }

    /// What was acknowledged and isn't there.
    pub fn lost(&self, there: &HashSet<String>) -> Vec<&Acknowledged> {
        self.rows.iter().filter(|row| !there.contains(&row.id)).collect()
    }

    /// What was acknowledged in an epoch that was over, or by another server than that epoch's.
    pub fn of_two_primaries(&self) -> Vec<&Acknowledged> {
        let mut of: BTreeMap<u64, &str> = BTreeMap::new();
        let mut newest = 0;
        let mut stale = Vec::new();
        for row in &self.rows {
            newest = newest.max(row.epoch);
            if row.epoch < newest || *of.entry(row.epoch).or_insert(&row.server) != row.server {
                stale.push(row);
            }
        }
        stale
    }
}

fn parsed(line: &str) -> Acknowledged {
    let mut words = line.split_whitespace();
    let mut next = || words.next().unwrap_or_else(|| panic!("half a line in a journal: {line:?}"));
    let at = next().parse().expect("a line begins with its time");
    let (id, server) = (next().to_owned(), next().to_owned());
    Acknowledged { at, id, server, epoch: u64::from_str_radix(next(), 16).expect("a line ends with its epoch") }
}

/// Seconds without a write, by kind.
#[derive(Default)]
pub struct Table {
    kinds: BTreeMap<&'static str, Vec<Duration>>,
}

impl Table {
    pub fn add(&mut self, kind: &'static str, gap: Duration) {
        self.kinds.entry(kind).or_default().push(gap);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| what | times | seconds without a write: least | median | most |\n| --- | --- | --- | --- | --- |"
        )?;
        for (kind, gaps) in &self.kinds {
            let mut gaps: Vec<f64> = gaps.iter().map(Duration::as_secs_f64).collect();
            gaps.sort_by(f64::total_cmp);
            let (least, median, most) = (gaps[0], gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
            writeln!(f, "| {kind} | {} | {least:.1} | {median:.1} | {most:.1} |", gaps.len())?;
        }
        Ok(())
    }
}

#[test]
fn a_row_that_is_gone_and_one_of_an_old_epoch_are_found() {
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(file.path(), "100 a-1 pg1 1\n200 a-2 pg2 2\n900 a-3 pg1 1\n950 a-4 pg3 2\n990 a-").expect("written");
    let journal = Journal::read(&[file.path().to_owned()]);
    assert_eq!(journal.len(), 4);
    assert_eq!(journal.longest_pause(150, 950), Duration::from_millis(700));
    let there = ["a-1", "a-3", "a-4"].map(str::to_owned).into();
    assert_eq!(journal.lost(&there).iter().map(|row| &*row.id).collect::<Vec<_>>(), ["a-2"]);
    let stale: Vec<_> = journal.of_two_primaries().iter().map(|row| &*row.id).collect();
    assert_eq!(stale, ["a-3", "a-4"]);
}
