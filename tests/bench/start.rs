//! Measures what an init adds to a container's start and end: `start ROUNDS NAME=COMMAND...`, COMMAND split at
//! spaces, empty for no init at all. Each round runs every command once, as PID 1 of a PID namespace of its own, so
//! that whatever the machine does meanwhile falls on all of them alike. It judges nothing.
//!
//! Prints a line for each: name, then microseconds from just before PID 1 is started to main's first instruction
//! (median, 90th percentile), then from main's last instruction to PID 1 gone (the same).

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program of its own: the bans are the agent's"
)]

use std::io;
use std::process::{Command, Stdio};

mod kernel {
    //! The two calls that std doesn't have.
    #![allow(unsafe_code)]

    use std::io;

    const CLONE_NEWPID: i32 = 0x2000_0000;
    const CLOCK_MONOTONIC: i32 = 1;

    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }

    unsafe extern "C" {
        fn unshare(flags: i32) -> i32;
        fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    }

    /// The next child is PID 1 of a new PID namespace.
    pub fn new_pid_namespace() -> io::Result<()> {
        // SAFETY: takes a number and touches no memory of ours.
        if unsafe { unshare(CLONE_NEWPID) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Nanoseconds on a clock that all processes share.
    pub fn now() -> i64 {
        let mut time = Timespec { seconds: 0, nanoseconds: 0 };
        // SAFETY: `time` is ours, and has the layout of the 64-bit struct timespec.
        unsafe { clock_gettime(CLOCK_MONOTONIC, &raw mut time) };
        time.seconds * 1_000_000_000 + time.nanoseconds
    }
}

fn main() -> io::Result<()> {
    let now = kernel::now();
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // Main: says how long its start took, and when it ends.
        [_, "main", stamp] => {
            let begun: i64 = stamp.parse().map_err(io::Error::other)?;
            println!("{} {}", now - begun, kernel::now());
            Ok(())
        }
        [_, "as-pid-1", command @ ..] => as_pid_1(command),
        [_, rounds, inits @ ..] => compare(rounds.parse().map_err(io::Error::other)?, inits),
        _ => Err(io::Error::other("usage: start ROUNDS NAME=COMMAND...")),
    }
}

/// Starts the command, with main and a stamp behind it, and says when it was gone.
fn as_pid_1(command: &[&str]) -> io::Result<()> {
    let own = std::env::current_exe()?;
    let own = own.to_str().ok_or_else(|| io::Error::other("the path of this program is no text"))?;
    kernel::new_pid_namespace()?;
    let stamp = kernel::now().to_string();
    let words: Vec<&str> = command.iter().copied().chain([own, "main", &stamp]).collect();
    let status = Command::new(words[0]).args(&words[1..]).status()?;
    let gone = kernel::now();
    if !status.success() {
        return Err(io::Error::other(format!("{command:?}: {status}")));
    }
    println!("{gone}");
    Ok(())
}

/// One init with what was measured of it, in nanoseconds.
struct Init<'a> {
    name: &'a str,
    command: Vec<&'a str>,
    starts: Vec<i64>,
    ends: Vec<i64>,
}

fn compare(rounds: usize, inits: &[&str]) -> io::Result<()> {
    let mut inits: Vec<Init> = inits
        .iter()
        .filter_map(|init| init.split_once('='))
        .map(|(name, command)| Init {
            name,
            command: command.split_whitespace().collect(),
            starts: Vec::new(),
            ends: Vec::new(),
        })
        .collect();
    let own = std::env::current_exe()?;
    for _ in 0..rounds {
        for Init { name, command, starts, ends } in &mut inits {
            let output = Command::new(&own)
                .arg("as-pid-1")
                .args(&*command)
                .stdin(Stdio::null())
                .stderr(Stdio::inherit())
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let numbers: Vec<i64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
            let [start, last, gone] = numbers[..] else {
                return Err(io::Error::other(format!("{name} said {text:?}")));
            };
            starts.push(start);
            ends.push(gone - last);
        }
        // Who comes after whom changes each round.
        inits.rotate_left(1);
    }
    inits.sort_by_key(|init| init.name);
    for Init { name, starts, ends, .. } in &mut inits {
        let at = |values: &mut Vec<i64>, part: usize| {
            values.sort_unstable();
            values[(values.len() * part / 100).min(values.len() - 1)] / 1000
        };
        println!("{name} {} {} {} {}", at(starts, 50), at(starts, 90), at(ends, 50), at(ends, 90));
    }
    Ok(())
}
