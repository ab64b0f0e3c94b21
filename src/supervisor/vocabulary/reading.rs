//! What sensors read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config;

/// Of what a sensor prints so many bytes are read: a thousand lines with long labels.
pub const MOST_PRINTED: usize = 128 * 1024;

/// What tells one value of a metric from its others, in order.
pub type Labels = Vec<(String, String)>;

/// One value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// Of a gauge or counter.
    Number(f64),
    /// Of a histogram.
    Observations {
        /// Of all that was observed.
        sum: f64,
        /// How many observations there were.
        count: u64,
        /// How many fell into each bucket; those above the last bound are in none.
        buckets: Vec<u64>,
    },
}

impl Reading {
    /// A histogram with so many bounds that has observed nothing.
    pub fn none_of(bounds: usize) -> Reading {
        Reading::Observations { sum: 0.0, count: 0, buckets: vec![0; bounds] }
    }

    /// One more observation.
    pub fn observe(&mut self, value: f64, bounds: &[f64]) {
        if let Reading::Observations { sum, count, buckets } = self {
            *sum += value;
            *count += 1;
            if let Some(bucket) = bounds.iter().position(|bound| value <= *bound).and_then(|at| buckets.get_mut(at)) {
                *bucket += 1;
            }
        }
    }
}

/// A sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorStatus {
    /// The metric's name.
    pub name: String,
    /// How many values it has.
    pub values: usize,
    /// How often it measured well.
    pub succeeded: u64,
    /// How often it failed, timed out or printed garbage.
    pub failed: u64,
    /// What is wrong with it now.
    pub error: Option<String>,
    /// As configured. The metrics show what it has read.
    pub config: Arc<config::Sensor>,
    /// What it has read.
    pub readings: Arc<BTreeMap<Labels, Reading>>,
}
