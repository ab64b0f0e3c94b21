//! The end of this process's own parent, which is a signal like another (`[process] parent_death`). What follows from the
//! signal isn't decided here.
//!
//! The kernel has a signal for it (prctl(2), PR_SET_PDEATHSIG), but that comes when the *thread* ends that started this
//! process, as threads of Go, Java or Python programs do while the program lives on. So the parent is watched by a pidfd,
//! and the kernel's signal is for where there is none: Linux before 5.3, and a parent outside the PID namespace.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::unistd::getppid;
use tokio::io::unix::AsyncFd;

use crate::config::Signal;
use crate::readable::{self, Readable};
use crate::supervisor::vocabulary::Pid;

use super::{kill, signals};

/// The end of the parent, while it is to come.
#[derive(Debug)]
pub struct ParentsEnd {
    signal: Signal,
    watch: Option<ParentsWatch>,
}

#[derive(Debug)]
enum ParentsWatch {
    /// Readable when it has ended (pidfd_open(2)).
    Lives(AsyncFd<Readable<OwnedFd>>),
    /// It ended as this process began.
    HasEnded,
}

impl ParentsEnd {
    /// From now on this process gets a signal when its parent ends. Its only thread calls it, inside the runtime.
    ///
    /// # Errors
    /// The kernel refuses, or there is no descriptor left.
    pub fn hear(signal: Signal) -> io::Result<ParentsEnd> {
        let parent = getppid();
        let watch = match open(parent.as_raw()) {
            // Who ended before it was opened may have left its number to another.
            _ if parent.as_raw() != 0 && getppid() != parent => Some(ParentsWatch::HasEnded),
            Ok(parent) => Some(ParentsWatch::Lives(readable::watch(parent)?)),
            // EINVAL: there is no process 0, which a parent outside the namespace is; EPERM: a filter of system calls.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL) => {
                by_thread(signal)?;
                None
            }
            Err(error) => return Err(error.into()),
        };
        Ok(ParentsEnd { signal, watch })
    }

    /// The signal, when the parent has ended; never again after that. Cancel-safe.
    pub async fn comes(&mut self) -> Signal {
        match &self.watch {
            // Nothing is read: it stays readable.
            Some(ParentsWatch::Lives(parent)) => match parent.readable().await {
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(event = "degraded", %error, "the parent's end can't be waited for any more");
                    self.watch = None;
                }
            },
            Some(ParentsWatch::HasEnded) | None => {}
        }
        if self.watch.take().is_none() {
            return std::future::pending().await;
        }
        if !signals::is_caught(self.signal) {
            // KILL and the like do what they do.
            kill::process(std::process::id() as i32, self.signal.number());
            return std::future::pending().await;
        }
        self.signal
    }
}

/// A pidfd: readable once the process has ended.
///
/// # Errors
/// There is no such process, or the kernel has none (before Linux 5.3).
#[allow(unsafe_code)]
pub(super) fn open(process: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: a new descriptor, closed on exec, that nobody else owns.
    unsafe {
        let opened = Errno::result(libc::syscall(libc::SYS_pidfd_open, process, 0))?;
        Ok(OwnedFd::from_raw_fd(opened as RawFd))
    }
}

#[allow(unsafe_code)]
fn by_thread(signal: Signal) -> io::Result<()> {
    // SAFETY: takes a number.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number() as libc::c_ulong) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
