//! The program's first lines and its exit code.
//!
//! It has a C main of its own. std's start code would ignore SIGPIPE and reopen closed standard descriptors before
//! anything could note what was given, and main must get just that; and arguments come from here byte for byte with
//! every C library (musl hands none to std's `args` in a static binary without std's start code).

#![no_main]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::panic::catch_unwind;

use pilotfish::config::{Process, Signal};
use pilotfish::process::Processes;
use pilotfish::process::signals::{Inherited, Signals};
use pilotfish::supervisor::Event;
use pilotfish::supervisor::event::{RunId, Target};

/// EX_SOFTWARE of sysexits.h: the agent's own loop has panicked.
const BROKEN: u8 = 70;

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

/// `pilotfish -- CMD ARGS`: a plain init.
fn run(args: Vec<OsString>, inherited: Inherited) -> u8 {
    let exec = args.into_iter().skip(1).skip_while(|arg| arg == "--").collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.and_then(|runtime| runtime.block_on(supervise(exec, inherited)));
    result.unwrap_or_else(|error| {
        eprintln!("pilotfish: {error}");
        BROKEN
    })
}

async fn supervise(exec: Vec<OsString>, inherited: Inherited) -> std::io::Result<u8> {
    let mut signals = Signals::new()?;
    let mut processes = Processes::new(inherited)?;
    if let Event::SpawnFailed { error, .. } = processes.spawn_main(RunId(0), &Process::new(exec), &[]) {
        eprintln!("pilotfish: {}", error.message);
        return Ok(error.code);
    }
    processes.warnings().iter().for_each(|warning| eprintln!("pilotfish: {warning}"));
    loop {
        let signal = signals.next().await;
        if signal != Signal::CHLD {
            let _ = processes.kill(Target::Process(RunId(0)), signal);
        }
        for event in processes.reap() {
            if let Event::Exited { status, .. } = event {
                return Ok(status.code());
            }
        }
    }
}
