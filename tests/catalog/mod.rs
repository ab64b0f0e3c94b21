//! The catalog, on every engine there is.

pub mod backends;
pub mod bench;
mod clusters;
mod contract;
pub mod local;
pub mod secured;
pub mod specimen;
mod strange;
