//! A candidate's way to an election's lock, on every engine there is.

mod backends;
mod bench;
mod contract;
mod local;
pub mod lock;
pub mod specimen;
