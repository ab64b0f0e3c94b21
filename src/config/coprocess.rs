//! `[[coprocess]]`, made safe: what is supervised beside main, when it starts and stops, and what waits for it.

use super::choice::words_alone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

use super::{Background, Exec, Hook, Limits, Probe, Restart, RunAs, Signal, SignalScope, When, duration};

/// As many coprocesses may be a leader's: the guard has room for so many.
pub const MOST_OF_A_LEADER: usize = 16;

/// One process supervised beside main.
#[derive(Debug, Clone, PartialEq)]
pub struct Coprocess {
    /// Its name, unique in the config, and never `main`.
    pub name: String,
    /// Program and arguments.
    pub exec: Exec,
    /// As whom, with which variables.
    pub run_as: RunAs,
    /// Its working directory; `None` keeps the agent's.
    pub directory: Option<PathBuf>,
    /// Its resource limits and umask.
    pub limits: Limits,
    /// When it starts.
    pub start: StartPoint,
    /// The names of those that must be ready first. There are no circles, and none of them starts at a later point than
    /// this one.
    pub after: Vec<String>,
    /// In which role it runs.
    pub when: When,
    /// What says that it is ready; `None`: that it runs.
    pub ready: Option<Ready>,
    /// Before its first start.
    pub pre_start: Option<Hook>,
    /// Once it has ended for good.
    pub post_stop: Option<Hook>,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// What happens when it ends while processes it left behind live on.
    pub background: Background,
    /// What its end for good means for the container.
    pub on_giving_up: OnGivingUp,
    /// When it stops.
    pub stop: StopPoint,
    /// What it gets then.
    pub stop_signal: Signal,
    /// How long it has after that; `None` is its part of what `[stop] within` leaves.
    pub stop_timeout: Option<Duration>,
    /// Whether that signal goes to its process alone or to its group.
    pub signal_scope: SignalScope,
    /// Where its output goes.
    pub output: OutputMode,
}

/// What says that a coprocess is ready.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    /// What is asked until it says yes.
    pub probe: Probe,
    /// For how long from its first start.
    pub timeout: Duration,
}

/// When a coprocess starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum StartPoint {
    /// Before anything is asked of a catalog.
    BeforeCatalog,
    /// With main's first start.
    WithMain,
    /// Once main is healthy for the first time.
    AfterMain,
}

/// When a coprocess stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum StopPoint {
    /// Once main is gone.
    AfterMain,
    /// Before main is told to stop.
    BeforeMain,
}

/// What a coprocess's end for good means for the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum OnGivingUp {
    /// Nothing.
    Ignore,
    /// The container ends, too.
    Exit,
}

/// Where a coprocess's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum OutputMode {
    /// Line by line into the log, under its name.
    Log,
    /// Where the agent's own goes.
    Raw,
}

/// Whether none of these starts later than this one, or after it, so that it stops first. What a reload has left of two
/// configs may know no order: then all are last.
pub fn is_last(coprocess: &Coprocess, of: &[&Coprocess]) -> bool {
    let last = |one: &Coprocess| of.iter().all(|other| other.start <= one.start && !other.after.contains(&one.name));
    last(coprocess) || !of.iter().any(|other| last(other))
}

/// Whether this one waits for none of these.
fn is_first(coprocess: &Coprocess, of: &[&Coprocess]) -> bool {
    !of.iter().any(|other| other.start < coprocess.start || coprocess.after.contains(&other.name))
}

/// In which order main and its coprocesses start and stop, for people; nothing where main is alone.
pub fn order(coprocesses: &[Coprocess]) -> String {
    if coprocesses.is_empty() {
        return String::new();
    }
    let at = |points: &[StartPoint]| coprocesses.iter().filter(|one| points.contains(&one.start)).collect::<Vec<_>>();
    let first = rounds(at(&[StartPoint::BeforeCatalog]), is_first, Coprocess::start_in_words);
    let mut with_main = rounds(at(&[StartPoint::WithMain]), is_first, Coprocess::start_in_words).into_iter();
    let main = with_main.next().map_or_else(|| "main".to_owned(), |others| format!("main with {others}"));
    let later = rounds(at(&[StartPoint::AfterMain]), is_first, Coprocess::start_in_words);
    let starts: Vec<String> = first.into_iter().chain([main]).chain(with_main).chain(later).collect();

    let (front, rest) = coprocesses.iter().partition(|one| one.stop == StopPoint::BeforeMain);
    let name = |one: &Coprocess| one.name.clone();
    let front = rounds(front, is_last, name).into_iter();
    let stops: Vec<String> = front.chain(["main".to_owned()]).chain(rounds(rest, is_last, name)).collect();
    format!("starts: {}\nstops: {}\n", starts.join(", then "), stops.join(", then "))
}

/// Those of each round together, in words.
fn rounds(
    mut left: Vec<&Coprocess>,
    comes: impl Fn(&Coprocess, &[&Coprocess]) -> bool,
    word: impl Fn(&Coprocess) -> String,
) -> Vec<String> {
    let mut rounds = Vec::new();
    while !left.is_empty() {
        let all = left.clone();
        let words: Vec<String> = all.iter().filter(|one| comes(one, &all)).map(|one| word(one)).collect();
        left.retain(|one| !comes(one, &all));
        rounds.push(together(&words));
    }
    rounds
}

/// "a, b and c".
fn together(words: &[String]) -> String {
    match words {
        [all @ .., before, last] => [all, &[format!("{before} and {last}")]].concat().join(", "),
        one => one.concat(),
    }
}

impl Coprocess {
    fn start_in_words(&self) -> String {
        let healthy = (self.start == StartPoint::AfterMain).then(|| "once main is healthy".to_owned());
        let ready = self.ready.as_ref().map(|ready| format!("ready within {}", duration::print(ready.timeout)));
        let role = match self.when {
            When::Always => None,
            When::Leader => Some("in the leader's role".to_owned()),
            When::Replica => Some("in a replica's role".to_owned()),
        };
        let remarks: Vec<String> = [healthy, role, ready].into_iter().flatten().collect();
        if remarks.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, remarks.join(", ")) }
    }
}
