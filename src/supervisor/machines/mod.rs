//! Machines, each with a state of its own. They know nothing of the sequence that drives them, and of each other no more
//! than parts ([`jitter`], [`outage`], [`reported`], [`restarts`], how a command ended) and what a watch acts with:
//! [`commands`], and whether [`main`] is up. [`election`] decides who leads.

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
