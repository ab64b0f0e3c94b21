//! The sequence of a container's life, as methods of [`Supervisor`](super::Supervisor): it drives the machines and lets
//! them know of each other. [`life`] owns every transition.

pub mod checks;
pub mod command_ends;
pub mod coprocesses;
pub(in crate::supervisor) mod duties;
pub(in crate::supervisor) mod exit;
pub mod life;
pub(in crate::supervisor) mod main_end;
pub mod maintenance;
pub mod notified;
pub mod orders;
pub mod post_start;
pub(in crate::supervisor) mod pre_start;
pub mod reload;
pub mod role;
pub mod sensors;
pub mod services;
pub mod signals;
pub mod start;
pub mod stop;
pub mod stopping;
pub mod tasks;
pub mod waits;
pub mod watches;
