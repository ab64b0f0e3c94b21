//! The catalog, on every engine there is.

mod bench;
mod contract;
mod engines;
mod local;
mod specimen;
