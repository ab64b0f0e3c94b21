//! The examples of config-examples/ that keep no data, brought up as their READMEs say, and what they promise. Those that keep
//! data are struck by tests/faults/failovers.

mod cron;
mod haproxy;
mod logs;
mod nginx;

use std::time::Duration;

/// For what should take seconds, on a machine that compiles meanwhile.
const SOON: Duration = Duration::from_secs(40);
