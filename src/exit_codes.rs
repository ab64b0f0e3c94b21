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

/// What a container's exit code tells, for people.
#[cfg(test)]
pub(crate) fn of_containers() -> Vec<(String, &'static str)> {
    let number = |code: u8| code.to_string();
    vec![
        (
            "main's own".to_owned(),
            "main ended by itself, or when it was told to; `[process] exit_codes` maps it to another",
        ),
        (
            format!("{} + n", of_signal(0)),
            "signal n killed main, or stopped the container while no main was there to run (`stop`: 0)",
        ),
        (format!("{CANT_RUN}, {NOT_FOUND}"), "the command couldn't be run; it wasn't found"),
        ("`pre_start`'s own".to_owned(), "it failed, and so did its retries (124 if it ran out of time)"),
        (format!("{FAILED} in place of 0"), "a health check with `on_failure = \"exit\"` ended it, and main obeyed"),
        (number(BAD_USAGE), "the command line makes no sense, or there is nothing to run"),
        (
            number(UNAVAILABLE),
            "what `[[wait_for]]` waits for wasn't there in time, or a coprocess that is waited for wasn't ready",
        ),
        ("a coprocess's own".to_owned(), "it was given up, and its `on_giving_up` is `exit`"),
        (number(BROKEN), "pilotfish itself can't run: the kernel refuses what it needs, or it has a bug"),
        (
            number(BAD_CONFIG),
            "the config is wrong (every mistake is on stderr), or asks for a fence that can't be had here",
        ),
    ]
}

/// What a subcommand's tells.
#[cfg(test)]
pub(crate) fn of_subcommands() -> Vec<(String, &'static str)> {
    let number = |code: u8| code.to_string();
    vec![
        ("0".to_owned(), "done; for `health`, `probe` and `leader`: yes"),
        (number(FAILED), "it failed, or the answer is no"),
        (number(LOSSY_IMPORT), "`import` wrote the config, and something couldn't be carried over"),
        (number(BAD_USAGE), "the command line makes no sense"),
        (number(UNAVAILABLE), "`kv`: the agent, or its catalog, can't be asked"),
        (number(BROKEN), "the kernel refuses what it needs"),
        (number(BAD_CONFIG), "the config is wrong; `check` says so too"),
        (number(TOO_LATE), "`wait`, `step-down --wait`: it isn't so in time"),
        (number(NOT_RUN), "`task run`: the task wasn't run; otherwise the task's own code"),
    ]
}
