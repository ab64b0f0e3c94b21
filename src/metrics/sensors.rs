//! Sensors' own metrics, under the names that the config gives them, and how each sensor does.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::config::SensorKind;
use crate::plain;
use crate::supervisor::vocabulary::{Labels, Reading, SensorStatus};

use super::{counters, gauges};

/// How each sensor does.
pub fn about(pilotfish: &mut Registry, sensors: &[SensorStatus]) {
    let sensor = |s: &SensorStatus| ("sensor", s.name.clone());
    let runs = sensors.iter().filter(|s| s.config.command.is_some()).flat_map(|s| {
        let of = |result: &str, count| (vec![sensor(s), ("result", result.to_owned())], count);
        [of("succeeded", s.succeeded), of("failed", s.failed)]
    });
    counters(pilotfish, "sensor_runs", "How often a sensor measured", runs);
    let failing = sensors.iter().map(|s| (vec![sensor(s)], s.error.is_some().into()));
    gauges(pilotfish, "sensor_failing", "Whether a sensor fails, or gives more than is kept", failing);
}

/// What they have read.
#[derive(Debug)]
pub struct Readings(pub Vec<SensorStatus>);

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        for sensor in self.0.iter().filter(|sensor| !sensor.readings.is_empty()) {
            let config = &sensor.config;
            let (kind, bounds) = match &config.kind {
                SensorKind::Gauge => (MetricType::Gauge, &[][..]),
                SensorKind::Counter => (MetricType::Counter, &[][..]),
                SensorKind::Histogram(bounds) => (MetricType::Histogram, bounds.as_slice()),
            };
            // The form's own sign in it is doubled.
            let help = config.help.replace('\\', "\\\\");
            let mut metric = encoder.encode_descriptor(config.family(), &help, None, kind)?;
            for (labels, reading) in sensor.readings.iter() {
                // Somebody may look at it in a terminal.
                let labels: Labels =
                    labels.iter().map(|(name, value)| (name.clone(), plain::lines(value).into_owned())).collect();
                match labels.as_slice() {
                    [] => one(&mut metric, reading, &config.kind, bounds)?,
                    _ => one(&mut metric.encode_family(&labels)?, reading, &config.kind, bounds)?,
                }
            }
        }
        Ok(())
    }
}

fn one(metric: &mut MetricEncoder<'_>, reading: &Reading, kind: &SensorKind, bounds: &[f64]) -> std::fmt::Result {
    match reading {
        Reading::Number(value) if *kind == SensorKind::Counter => {
            metric.encode_counter::<NoLabelSet, f64, f64>(value, None)
        }
        Reading::Number(value) => metric.encode_gauge(value),
        Reading::Observations { sum, count, buckets } => {
            let inside: u64 = buckets.iter().sum();
            let above = (f64::INFINITY, count.saturating_sub(inside));
            let all: Vec<(f64, u64)> = bounds.iter().copied().zip(buckets.iter().copied()).chain([above]).collect();
            metric.encode_histogram::<NoLabelSet>(*sum, *count, &all, None)
        }
    }
}
