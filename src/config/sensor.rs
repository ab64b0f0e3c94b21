//! `[[telemetry.sensor]]`: a metric of the user's own.

use std::time::Duration;

use super::{Exec, RunAs};

/// `[[telemetry.sensor]]`: a metric of the user's own, measured by a command or pushed.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    /// The metric's name, unique in the config.
    pub name: String,
    /// What its values are.
    pub kind: SensorKind,
    /// What it is about, in one line.
    pub help: String,
    /// Who measures it; `None`: it is pushed.
    pub command: Option<SensorCommand>,
}

impl Sensor {
    /// The name of its family: OpenMetrics has a counter's samples end in `_total`, and its family not.
    pub fn family(&self) -> &str {
        match self.kind {
            SensorKind::Counter => self.name.strip_suffix("_total").unwrap_or(&self.name),
            SensorKind::Gauge | SensorKind::Histogram(_) => &self.name,
        }
    }

    /// Every name that its samples may have.
    pub fn samples(&self) -> Vec<String> {
        let family = self.family();
        match self.kind {
            SensorKind::Gauge => vec![family.to_owned()],
            SensorKind::Counter => [family.to_owned(), format!("{family}_total")].into(),
            SensorKind::Histogram(_) => {
                ["", "_bucket", "_sum", "_count"].map(|suffix| format!("{family}{suffix}")).into()
            }
        }
    }
}

/// What a sensor's values are.
#[derive(Debug, Clone, PartialEq)]
pub enum SensorKind {
    /// What is so now.
    Gauge,
    /// How often something has happened: only more.
    Counter,
    /// Observations, counted by how large they are: the upper bounds, in order.
    Histogram(Vec<f64>),
}

/// The command that measures, by what it prints.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorCommand {
    /// Program and arguments.
    pub exec: Exec,
    /// As whom.
    pub run_as: RunAs,
    /// From the end of one run to the start of the next.
    pub every: Duration,
    /// Past this one run has failed.
    pub timeout: Duration,
}
