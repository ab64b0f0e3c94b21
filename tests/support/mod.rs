//! What helps the tests, and is none itself: namespaces, networks, servers, and a directory that an agent runs on.

pub mod compose;
pub mod hang;
pub mod lab;
pub mod lease;
pub mod namespace;
pub mod netlab;
pub mod servers;
