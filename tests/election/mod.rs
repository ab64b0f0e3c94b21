//! Elections: the contract of a lock on every store there is, what only one store does, and the real program that leads.

mod backends;
mod bench;
mod consul;
mod contract;
mod etcd;
mod first;
mod guard;
mod leaders_crew;
pub mod leading;
mod local;
pub mod lock;
mod maintenance;
mod ranks;
mod roles;
pub mod specimen;
mod witness;
