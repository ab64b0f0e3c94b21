//! Descriptors of the kernel's (timers, signals, inotify, datagrams) that the runtime waits for. It reads nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The owner of a descriptor, as the runtime takes it.
#[derive(Debug)]
pub struct Readable<T>(pub T);

impl<T: AsFd> AsRawFd for Readable<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Has the runtime wait until the descriptor can be read. It must be non-blocking, and `T` its owner.
///
/// # Errors
/// The kernel refuses, or its table of watched descriptors is full.
#[allow(unsafe_code)]
pub fn watch<T: AsFd>(owner: T) -> io::Result<AsyncFd<Readable<T>>> {
    // SAFETY: `AsyncFd` wants a descriptor that stays the same and open until it is dropped; each owner in this crate
    // (TimerFd, SignalFd, Inotify, OwnedFd) holds one for its whole life, and `Readable` gives out no other.
    Ok(unsafe { AsyncFd::register_with_interest(Readable(owner), Interest::READABLE) }?)
}
