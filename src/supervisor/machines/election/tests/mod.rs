//! The election's core by itself: scripts, properties over random events, and a model checker that plays it against
//! stores, a network and misfortune.

mod certificates;
mod model;
mod properties;
mod ranks;
mod scripts;
mod stage;
mod stores;
