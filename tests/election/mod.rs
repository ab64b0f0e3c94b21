//! A candidate's way to an election's lock, on every engine there is.

mod bench;
mod contract;
mod engines;
mod local;
pub mod lock;
pub mod specimen;
