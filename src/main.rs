//! The program's first lines and its exit code.
//!
//! It has a C main of its own. std's start code would ignore SIGPIPE and reopen closed standard descriptors before
//! anything could note what was given, and main must get just that; and arguments come from here byte for byte with
//! every C library (musl hands none to std's `args` in a static binary without std's start code).

#![no_main]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::catch_unwind;

use pilotfish::agent;
use pilotfish::config::{self, Source, Surroundings};
use pilotfish::logging;
use pilotfish::process::signals::Inherited;

/// EX_SOFTWARE of sysexits.h: the agent's own loop has panicked.
const BROKEN: u8 = 70;
/// EX_CONFIG of sysexits.h.
const BAD_CONFIG: u8 = 78;

#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let inherited = Inherited::take();
    // SAFETY: the C library calls this once, with `argc` pointers to C strings that live as long as the program.
    let args: Vec<OsString> = (0..usize::try_from(argc).unwrap_or(0))
        .map(|i| unsafe { OsStr::from_bytes(CStr::from_ptr(*argv.add(i)).to_bytes()).to_owned() })
        .collect();
    catch_unwind(|| run(args, inherited)).unwrap_or(BROKEN).into()
}

/// `pilotfish [-c FILE] [-- CMD ARGS]`.
fn run(args: Vec<OsString>, inherited: Inherited) -> u8 {
    let surroundings = Surroundings::of_this_process();
    let mut args = args.into_iter().skip(1).peekable();
    let named = args.next_if(|arg| arg == "-c").and_then(|_| args.next()).map(std::path::PathBuf::from);
    let command: Option<Vec<OsString>> = args.next_if(|arg| arg == "--").map(|_| args.collect());
    let source = config::find(named.as_deref(), &surroundings).map(|file| Source { file, command, surroundings });
    let loaded = source.and_then(|source| source.read().map(|loaded| (loaded.config, source)));
    match loaded {
        Err(report) => {
            logging::last_words(&format!("{report}\n"));
            BAD_CONFIG
        }
        Ok((config, source)) => {
            logging::init(&config.log);
            agent::run(config, source, inherited).unwrap_or_else(|error| {
                logging::last_words(&format!("pilotfish: {error}\n"));
                BROKEN
            })
        }
    }
}
