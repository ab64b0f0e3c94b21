//! The catalog, on every engine there is.

pub mod bench;
mod contract;
pub mod engines;
pub mod local;
mod secured;
pub mod specimen;
