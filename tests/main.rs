//! All tests against the world outside, one module a subject, one binary.

mod by_name;
mod catalog;
mod command_line;
mod consul;
mod consul_lock;
mod direction;
mod docker;
mod doors;
mod election;
mod engine_load;
mod etcd;
mod fault_table;
mod faults;
mod guard;
mod init;
mod lab;
mod leading;
mod life;
mod namespace;
mod netlab;
mod outage;
mod probes;
mod process;
mod readme;
mod servers;
mod tls;
