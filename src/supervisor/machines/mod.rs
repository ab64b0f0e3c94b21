//! Machines, each with a state of its own. They know nothing of each other, and nothing of the sequence that drives them:
//! each can be read alone. [`election`] decides who leads.

pub mod check;
pub mod commands;
pub mod coprocess;
pub mod election;
pub mod entry;
pub mod jitter;
pub mod main;
pub mod outage;
pub mod reported;
pub mod restarts;
pub mod sensor;
pub mod task;
pub mod watch;
