//! The catalog, on every engine there is.

mod bench;
mod contract;
mod local;
mod specimen;
