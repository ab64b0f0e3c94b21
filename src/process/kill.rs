//! kill(2), for everyone here who sends a signal: the agent, what stands between fork and exec, the guard, a signal's
//! handler. System calls only, which the last three depend on.
//!
//! A number that names more than one process (0, -1, a group) never gets here by way of a process's: who is sent what is
//! in the function's name.

use std::io;

use libc::c_int;

use crate::supervisor::vocabulary::Pid;

/// What came of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Somebody has got it.
    Somebody,
    /// Nobody is there.
    Nobody,
    /// Whoever is there may not be signalled.
    Refused,
}

impl Sent {
    /// The same as a result, for which somebody who is gone already is no error.
    pub fn result(self) -> io::Result<()> {
        match self {
            Sent::Somebody | Sent::Nobody => Ok(()),
            Sent::Refused => Err(io::Error::last_os_error()),
        }
    }
}

/// Sends a process a signal; 0 only asks whether one could be sent.
pub fn process(pid: Pid, signal: c_int) -> Sent {
    if pid > 0 { send(pid, signal) } else { Sent::Nobody }
}

/// Sends each process of a group a signal. There is no group 1 but init's, which is everybody's.
pub fn group(group: Pid, signal: c_int) -> Sent {
    if group > 1 { send(-group, signal) } else { Sent::Nobody }
}

/// Sends each process of the caller's own group a signal.
pub fn own_group(signal: c_int) -> Sent {
    send(0, signal)
}

/// Sends everybody but the caller and PID 1 of its namespace a signal.
///
/// # Safety
/// Only where PID 1 is the agent, in whose own namespace this is: anywhere else it hits every process of the machine.
#[allow(unsafe_code)]
pub unsafe fn namespace(signal: c_int) -> Sent {
    send(-1, signal)
}

#[allow(unsafe_code)]
fn send(target: Pid, signal: c_int) -> Sent {
    // SAFETY: no memory is involved but errno of this thread. nix's kill knows no real-time signals.
    match unsafe { (libc::kill(target, signal), *libc::__errno_location()) } {
        (0, _) => Sent::Somebody,
        (_, libc::ESRCH) => Sent::Nobody,
        _ => Sent::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_that_names_many_is_taken_for_a_process_or_a_group() {
        for many in [0, -1, -2, Pid::MIN] {
            assert_eq!(process(many, 0), Sent::Nobody, "{many}");
        }
        for many in [1, 0, -1, Pid::MIN] {
            assert_eq!(group(many, 0), Sent::Nobody, "{many}");
        }
        let own = Pid::try_from(std::process::id()).unwrap();
        assert_eq!((process(own, 0), process(Pid::MAX, 0)), (Sent::Somebody, Sent::Nobody));
    }
}
