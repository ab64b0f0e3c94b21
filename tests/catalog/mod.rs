//! The catalog, on every engine there is.

pub mod bench;
mod contract;
mod engines;
mod local;
mod secured;
mod specimen;
