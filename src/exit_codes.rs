//! The exit codes that the program has of its own. Otherwise a container ends with main's, or with a hook's.

use std::ffi::c_int;

/// A subcommand worked on, or talked to, something and found it wanting. In place of main's 0 where a health check ended
/// the container, and what tini's own name has for a main that can't be started.
pub const FAILED: u8 = 1;
/// `pilotfish import` couldn't carry something over.
pub const LOSSY_IMPORT: u8 = 3;
/// sysexits.h EX_USAGE: the command line makes no sense, or says nothing to do.
pub const BAD_USAGE: u8 = 64;
/// sysexits.h EX_UNAVAILABLE: what the container waits for, or who a subcommand is to ask, isn't there.
pub const UNAVAILABLE: u8 = 69;
/// sysexits.h EX_SOFTWARE: the kernel refuses what every agent needs, or the agent's loop has panicked.
pub const BROKEN: u8 = 70;
/// sysexits.h EX_CONFIG.
pub const BAD_CONFIG: u8 = 78;
/// A command ran out of time, as timeout(1) has it.
pub const TOO_LATE: u8 = 124;
/// What runs another program couldn't, as timeout(1) and `docker run` have it.
pub const NOT_RUN: u8 = 125;
/// A command is there and can't be run, as a shell has it.
pub const CANT_RUN: u8 = 126;
/// There is no such command, as a shell has it.
pub const NOT_FOUND: u8 = 127;

/// The code of what a signal killed, as a shell has it.
pub const fn of_signal(number: c_int) -> u8 {
    // Signals end at 64, so the sum fits.
    (128 + number) as u8
}
