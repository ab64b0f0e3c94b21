//! All tests against the world outside in one binary, a folder a subject: README.md beside this file tells them apart.

mod backend;
mod container;
mod docker;
mod election;
mod endpoints;
mod faults;
mod init;
mod meta;
mod support;
