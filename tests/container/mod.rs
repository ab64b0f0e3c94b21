//! One container without a store: its life from start to end, its processes and what they may do, its checks and files.

mod addresses;
mod at_terminal;
mod belonging;
mod crew;
mod grpc;
mod hooks;
mod leftovers;
mod life;
mod notified;
mod orders;
mod patterns;
mod probes;
mod process;
mod tasks;
mod trust;
