//! All tests against the world outside, one module a subject, one binary.

mod consul;
mod direction;
mod servers;
