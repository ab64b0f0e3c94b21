//! A few descriptors that are open for nothing, until something is started: so a limit that others have used up (an endpoint
//! full of silent guests) keeps no process from being started. It opens nothing else.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, fcntl};

/// What the start of a hook takes: its three streams, reports of its keeper's and its own, and a file to read on the
/// way; a start of main takes less.
const ENOUGH: usize = 16;

/// Descriptors in reserve.
#[derive(Debug)]
pub struct Reserve {
    held: Vec<OwnedFd>,
    most: usize,
}

impl Reserve {
    /// Of an agent that opens nothing but what it starts.
    pub fn none() -> Reserve {
        Reserve { held: Vec::new(), most: 0 }
    }

    /// As many as one start takes.
    pub fn new() -> Reserve {
        let mut reserve = Reserve { most: ENOUGH, ..Reserve::none() };
        reserve.refill();
        reserve
    }

    /// Gives all of them up: what is opened next finds room.
    pub fn lend(&mut self) {
        self.held.clear();
    }

    /// Takes back as many as there is room for.
    pub fn refill(&mut self) {
        while self.held.len() < self.most
            && let Some(descriptor) = another()
        {
            self.held.push(descriptor);
        }
    }
}

/// One more of what descriptor 0 is, closed on exec; `None` at the limit.
#[allow(unsafe_code)]
fn another() -> Option<OwnedFd> {
    // SAFETY: `Inherited::take` sees to it that 0 is open, and nothing in the agent closes it.
    let stdin = unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) };
    let descriptor = fcntl(stdin, FcntlArg::F_DUPFD_CLOEXEC(3)).ok()?;
    // SAFETY: just made, and nobody else's.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_is_lent_is_closed_and_what_is_held_is_open() {
        let mut reserve = Reserve::new();
        reserve.refill();
        assert_eq!(reserve.held.len(), ENOUGH);
        assert!(reserve.held.iter().all(|held| held.as_raw_fd() > 2));
        reserve.lend();
        assert!(reserve.held.is_empty());
    }
}
