//! The program's first lines and its exit code.
//!
//! It has a C main of its own. std's start code would ignore SIGPIPE and reopen closed standard descriptors before
//! anything could note what was given, and main must get just that; and arguments come from here byte for byte with
//! every C library (musl hands none to std's `args` in a static binary without std's start code).

#![no_main]

mod names;

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::catch_unwind;

use pilotfish::cli;
use pilotfish::exit_codes::BROKEN;
use pilotfish::process::signals::Inherited;

#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let inherited = Inherited::take();
    // SAFETY: the C library calls this once, with `argc` pointers to C strings that live as long as the program.
    let args: Vec<OsString> = (0..usize::try_from(argc).unwrap_or(0))
        .map(|i| unsafe { OsStr::from_bytes(CStr::from_ptr(*argv.add(i)).to_bytes()).to_owned() })
        .collect();
    catch_unwind(|| cli::run(args, inherited)).unwrap_or(BROKEN).into()
}
