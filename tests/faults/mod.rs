//! What must hold when something else doesn't: bad input, floods, harm, outages, cuts, pauses, crowds. Those that take
//! minutes are ignored by default; each has a target of the Makefile.

mod balancers;
mod candidates;
mod crowd;
mod engine_load;
mod failover;
mod failovers;
mod fault_table;
mod floods;
mod hostile;
mod nemesis;
mod outage;
mod pauses;
mod world;
