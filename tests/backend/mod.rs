//! The catalog on every backend there is: the contract that all keep, what only one does, and the ways to reach it.

pub mod backends;
pub mod bench;
mod by_name;
mod clusters;
mod consul;
mod consul_servers;
mod contract;
mod etcd;
pub mod local;
mod locked;
pub mod secured;
pub mod specimen;
mod strange;
mod tls;
