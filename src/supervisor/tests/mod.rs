//! Scripts for the core: what happens at which time, and what it orders. No process, clock or file takes part.

mod catalog;
mod coprocess;
mod following;
mod health;
mod maintenance;
mod model;
mod notified;
mod orders;
pub(crate) mod picture;
mod post_start;
mod properties;
mod reload;
pub(crate) mod replay;
mod restart;
mod role;
pub(crate) mod script;
mod sensors;
mod signals;
mod start;
mod stop;
mod tasks;
mod watch;
