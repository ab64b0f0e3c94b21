//! The binary in containers of a real Docker engine. `make e2e` builds the images and runs these (tests/e2e.sh);
//! `cargo test` alone leaves them out and says so.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the bans are the agent's; this drives the docker command"
)]

mod agent;
mod catalog;
mod confined;
mod engine;
mod examples;
mod health;
mod init;
mod init_path;
mod stop;
mod terminal;
mod witness;
