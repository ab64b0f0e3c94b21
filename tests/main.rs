//! All tests against the world outside, one module a subject, one binary.

mod catalog;
mod command_line;
mod consul;
mod direction;
mod docker;
mod doors;
mod init;
mod namespace;
mod probes;
mod process;
mod readme;
mod servers;
