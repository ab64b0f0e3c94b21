//! `[[telemetry.sensor]]` as it is written.

use std::collections::BTreeMap;
use std::time::Duration;

use super::in_order;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Command, Enabled, one_pair};
use crate::config::format::{FilePath, Parsed, User};

/// A metric of one's own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Sensor {
    /// Whether this table is there at all: `false`, `no`, `off`, `0` and an empty value leave it out, as if it weren't
    /// written; `true`, `yes`, `on` and `1` keep it. Of use with a template: `"{{ env.NAME | default('') }}"`.
    ///
    /// What is written is meant, unless it says otherwise.
    pub(crate) enabled: Enabled,
    /// The metric's name, as Prometheus has names; unique. A counter's samples end in `_total`, whether or not it says so.
    #[schemars(example = &"connections", extend("x-required" = true))]
    pub(crate) name: Option<String>,
    /// A `gauge` is what is so now, a `counter` only grows, a `histogram` counts observations by how large they are.
    ///
    /// Most of what a command can print is so now.
    #[serde(rename = "type")]
    pub(crate) kind: SensorKind,
    /// What it is about, in one line.
    #[schemars(example = &"Open connections", extend("x-default" = "`A sensor of the config`"))]
    pub(crate) help: Option<String>,
    /// A command that prints a number, or lines such as `connections{state="idle"} 5`. Of a counter the number is the total,
    /// of a histogram each line is one observation. Without it the metric is pushed by `pilotfish metric NAME=VALUE`.
    #[schemars(example = ["/bin/count-connections"], extend("x-default" = "pushed"))]
    pub(crate) exec: Option<Command>,
    /// From the end of one run to the start of the next, while the main process runs.
    #[schemars(example = &"1m", extend("x-default" = "`\"15s\"`, as often as Prometheus asks"))]
    pub(crate) every: Option<Parsed<Duration>>,
    /// Past this one run has failed.
    #[schemars(example = &"2s", extend("x-default" = "`\"5s\"`"))]
    pub(crate) timeout: Option<Parsed<Duration>>,
    /// The upper bounds of a histogram's buckets, in order.
    #[schemars(example = [0.1, 1.0, 10.0], extend("x-default" = "Prometheus' own for seconds, from 0.005 to 10"))]
    pub(crate) buckets: Option<Vec<f64>>,
    /// Who the command runs as.
    #[schemars(example = &"nobody", extend("x-default" = "`[hooks] user`"))]
    pub(crate) user: Option<Parsed<User>>,
    /// Variables set for it, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGUSER", "postgres"))]
    pub(crate) env: BTreeMap<String, String>,
    /// Variables whose values are read from files when it starts, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGPASSWORD", "/run/secrets/db"))]
    pub(crate) env_from_files: BTreeMap<String, Parsed<FilePath>>,
}

impl Default for Sensor {
    fn default() -> Sensor {
        Sensor {
            enabled: Enabled::default(),
            name: None,
            kind: SensorKind::Gauge,
            help: None,
            exec: None,
            every: None,
            timeout: None,
            buckets: None,
            user: None,
            env: BTreeMap::new(),
            env_from_files: BTreeMap::new(),
        }
    }
}

/// What a sensor's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum SensorKind {
    Gauge,
    Counter,
    Histogram,
}
