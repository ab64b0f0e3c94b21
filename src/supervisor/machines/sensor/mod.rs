//! One sensor: when its command measures, and what the values are that it printed or that were pushed. The values are
//! bounded, whatever is printed or pushed.

pub mod lines;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, SensorKind};

use crate::supervisor::vocabulary::{Job, Labels, MOST_PRINTED, Reading, RunId, SensorStatus, Time};

use lines::Sample;

/// So many sets of labels a metric has at most: each is a series in Prometheus.
pub const MOST_SERIES: usize = 1_000;
/// So many bytes of a page its labels take at most: a histogram repeats them for each bucket.
const MOST_OF_A_PAGE: usize = 1024 * 1024;
/// How soon a sensor that waits for its last run's end looks again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A sensor's life: idle without main, then measuring every so often; or pushed.
#[derive(Debug)]
pub struct Sensor {
    config: Arc<config::Sensor>,
    job: Job,
    state: SensorState,
    readings: Arc<BTreeMap<Labels, Reading>>,
    /// What is wrong with it, said when it began to be.
    error: Option<String>,
    succeeded: u64,
    failed: u64,
}

#[derive(Debug, Clone, PartialEq)]
enum SensorState {
    /// Main doesn't run, or it is pushed.
    Idle,
    /// It measures then.
    Until(Time),
    /// This run measures, and has printed so much.
    Measuring { run: RunId, printed: String },
}

/// What a metric's series take of what they may.
struct Room {
    /// Of a page, for each series.
    lines: usize,
    series: usize,
    bytes: usize,
}

impl Room {
    fn take(&mut self, labels: &Labels) {
        self.series += 1;
        self.bytes += self.lines * labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    }

    /// Takes one more, or says of what there would be too many.
    fn refuses(&mut self, labels: &Labels) -> Option<String> {
        if self.series >= MOST_SERIES {
            return Some(format!("more than {MOST_SERIES} sets of labels"));
        }
        self.take(labels);
        (self.bytes > MOST_OF_A_PAGE)
            .then(|| format!("labels that take more than {} KiB of a page", MOST_OF_A_PAGE / 1024))
    }
}

/// What is to be said of a sensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SensorNews {
    /// Nothing, or it was said.
    None,
    /// It fails, or gives more than is kept, from now on.
    Wrong(String),
    /// It is as it should be again.
    Right,
}

impl Sensor {
    /// One that has measured nothing.
    pub fn new(config: Arc<config::Sensor>) -> Sensor {
        Sensor {
            job: Job::Sensor { sensor: config.name.clone() },
            config,
            state: SensorState::Idle,
            readings: Arc::default(),
            error: None,
            succeeded: 0,
            failed: 0,
        }
    }

    /// As configured.
    pub fn config(&self) -> &Arc<config::Sensor> {
        &self.config
    }

    /// What its runs are for.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Another config for the same name: values of the same kind stay.
    pub fn reconfigure(&mut self, now: Time, config: Arc<config::Sensor>) {
        if config.kind != self.config.kind {
            self.readings = Arc::default();
        }
        self.config = config;
        if matches!(self.state, SensorState::Until(_)) {
            self.state = self.next(now, Duration::ZERO);
        }
    }

    /// Main runs.
    pub fn main_started(&mut self, now: Time) {
        // One that measures the main that this one follows goes on.
        if self.state == SensorState::Idle {
            self.state = self.next(now, Duration::ZERO);
        }
    }

    /// Main is gone: nothing is measured, and nothing that was is so any more. The run that measures.
    pub fn main_gone(&mut self) -> Option<RunId> {
        let run = self.measuring();
        self.state = SensorState::Idle;
        self.forget();
        run
    }

    /// What was printed is no longer so; observations have been made.
    fn forget(&mut self) {
        let printed = self.config.command.is_some();
        if printed && !matches!(self.config.kind, SensorKind::Histogram(_)) && !self.readings.is_empty() {
            self.readings = Arc::default();
        }
    }

    fn next(&self, now: Time, after: Duration) -> SensorState {
        if self.config.command.is_some() { SensorState::Until(now + after) } else { SensorState::Idle }
    }

    /// When it measures next.
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            SensorState::Until(at) => Some(at),
            SensorState::Idle | SensorState::Measuring { .. } => None,
        }
    }

    /// The run that measures now.
    pub fn measuring(&self) -> Option<RunId> {
        match self.state {
            SensorState::Measuring { run, .. } => Some(run),
            SensorState::Idle | SensorState::Until(_) => None,
        }
    }

    /// A run measures from now on.
    pub fn measure(&mut self, run: RunId) {
        self.state = SensorState::Measuring { run, printed: String::new() };
    }

    /// What its last run left behind is being ended: it measures a little later.
    pub fn put_off(&mut self, now: Time) {
        self.state = SensorState::Until(now + ASK_AGAIN_AFTER);
    }

    /// Its run printed this.
    pub fn printed(&mut self, text: String) {
        if let SensorState::Measuring { printed, .. } = &mut self.state {
            *printed = text;
        }
    }

    /// Its run has ended.
    pub fn measured(&mut self, now: Time, result: Result<(), String>) -> SensorNews {
        let every = self.config.command.as_ref().map_or(Duration::ZERO, |command| command.every);
        let next = self.next(now, every);
        let printed = match std::mem::replace(&mut self.state, next) {
            SensorState::Measuring { printed, .. } => printed,
            SensorState::Idle | SensorState::Until(_) => String::new(),
        };
        match result.and_then(|()| self.take(&printed)) {
            Ok(too_many) => {
                self.succeeded += 1;
                self.is(too_many)
            }
            Err(error) => {
                self.failed += 1;
                self.forget();
                self.is(Some(error))
            }
        }
    }

    fn is(&mut self, wrong: Option<String>) -> SensorNews {
        let before = std::mem::replace(&mut self.error, wrong);
        match (before, &self.error) {
            (None, Some(error)) => SensorNews::Wrong(error.clone()),
            (Some(_), None) => SensorNews::Right,
            (None, None) | (Some(_), Some(_)) => SensorNews::None,
        }
    }

    /// Takes what was printed, all of it or nothing; what is wrong although it was.
    fn take(&mut self, printed: &str) -> Result<Option<String>, String> {
        let mut readings = match self.config.kind {
            // Observations add to those before.
            SensorKind::Histogram(_) => (*self.readings).clone(),
            SensorKind::Gauge | SensorKind::Counter => BTreeMap::new(),
        };
        let (mut any, mut too_many) = (false, None);
        let mut room = self.room(&readings);
        let mut whole = printed;
        if printed.len() >= MOST_PRINTED {
            whole = printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
            too_many = Some(format!("it prints more than {} KiB: the rest is left out", MOST_PRINTED / 1024));
        }
        for (index, line) in whole.lines().enumerate() {
            let sample = lines::read(line).map_err(|error| format!("line {}: {error}", index + 1))?;
            let Some(sample) = sample else { continue };
            if let Some(name) = sample.name.as_ref().filter(|name| !self.is_called(name)) {
                return Err(format!("line {}: it is a value of `{name}`, not of `{}`", index + 1, self.config.name));
            }
            any = true;
            let twice = readings.contains_key(&sample.labels);
            if !twice && let Some(why) = room.refuses(&sample.labels) {
                too_many = Some(format!("it prints {why}: the rest is left out"));
                break;
            }
            if twice && !matches!(self.config.kind, SensorKind::Histogram(_)) {
                return Err(format!("line {}: a second value of the same labels", index + 1));
            }
            self.add(&mut readings, sample, false)?;
        }
        if !any {
            return Err("it printed no number".to_owned());
        }
        self.readings = Arc::new(readings);
        Ok(too_many)
    }

    fn is_called(&self, name: &str) -> bool {
        self.config.name == name || self.config.samples().iter().take(2).any(|sample| sample == name)
    }

    fn add(&self, readings: &mut BTreeMap<Labels, Reading>, sample: Sample, adds: bool) -> Result<(), String> {
        let Sample { labels, value, .. } = sample;
        match &self.config.kind {
            SensorKind::Gauge => {
                readings.insert(labels, Reading::Number(value));
            }
            SensorKind::Counter if value < 0.0 => {
                return Err(format!("{value} is less than 0, and `{}` is a counter", self.config.name));
            }
            SensorKind::Counter => {
                let reading = readings.entry(labels).or_insert(Reading::Number(0.0));
                if let Reading::Number(total) = reading {
                    *total = if adds { *total + value } else { value };
                }
            }
            SensorKind::Histogram(bounds) => {
                readings.entry(labels).or_insert_with(|| Reading::none_of(bounds.len())).observe(value, bounds);
            }
        }
        Ok(())
    }

    /// Takes a value that was pushed: a gauge's is so now, a counter's comes on top, a histogram's is one observation.
    ///
    /// # Errors
    /// Why not.
    pub fn push(&mut self, sample: Sample) -> Result<(), String> {
        if self.config.command.is_some() {
            return Err(format!("`{}` is measured by its own command", self.config.name));
        }
        if !self.readings.contains_key(&sample.labels)
            && let Some(why) = self.room(&self.readings).refuses(&sample.labels)
        {
            return Err(format!("`{}` takes no more: it would have {why}", self.config.name));
        }
        let mut readings = std::mem::take(&mut self.readings);
        let added = self.add(Arc::make_mut(&mut readings), sample, true);
        self.readings = readings;
        added
    }

    /// What fits beside these.
    fn room(&self, readings: &BTreeMap<Labels, Reading>) -> Room {
        let lines = match &self.config.kind {
            // Each bucket, one without a bound, the sum and the count.
            SensorKind::Histogram(bounds) => bounds.len() + 3,
            SensorKind::Gauge | SensorKind::Counter => 1,
        };
        let mut room = Room { lines, series: 0, bytes: 0 };
        readings.keys().for_each(|labels| room.take(labels));
        room
    }

    /// Its values.
    pub fn readings(&self) -> Arc<BTreeMap<Labels, Reading>> {
        self.readings.clone()
    }

    /// Back to values that it had.
    pub fn restore(&mut self, readings: Arc<BTreeMap<Labels, Reading>>) {
        self.readings = readings;
    }

    /// For `/status` and the metrics.
    pub fn status(&self) -> SensorStatus {
        SensorStatus {
            name: self.config.name.clone(),
            config: self.config.clone(),
            values: self.readings.len(),
            readings: self.readings.clone(),
            succeeded: self.succeeded,
            failed: self.failed,
            error: self.error.clone(),
        }
    }
}
