//! An init that runs nothing: it holds a PID namespace that others are put into (a pod's, podman's and Kubernetes'
//! "pause"), reaps what ends in it, and ends at TERM or INT.

use super::reaper::{self, Next, Which};
use super::{adopts_orphans, signals};

/// Does it, and answers the exit code. `Inherited::take` has blocked every signal.
pub fn pause() -> u8 {
    if !adopts_orphans() && nix::sys::prctl::set_child_subreaper(true).is_err() {
        return 1;
    }
    // The directory it was started in may be a mount that somebody wants to be rid of.
    let _ = nix::unistd::chdir("/");
    loop {
        // Those that have ended before the first signal, too.
        while let Next::Changed(..) = reaper::next(Which::Others) {}
        match signals::wait() {
            libc::SIGTERM | libc::SIGINT => return 0,
            _ => {}
        }
    }
}
