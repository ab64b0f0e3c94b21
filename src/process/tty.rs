//! The terminal the agent was started on: main gets its foreground, and it goes back when main is stopped or gone.
//! Reads and writes nothing on it.
//!
//! Main is in a process group of its own and not in a new session: the terminal stays its controlling one, so Ctrl-C
//! and Ctrl-Z reach it, once, and a hangup is not made by us (TIOCNOTTY sends HUP and CONT).

use std::io;
use std::os::fd::BorrowedFd;

use nix::unistd::{self, Pid as NixPid};

use crate::config::Signal;
use crate::supervisor::vocabulary::Pid;

use super::kill::{self, Sent};

/// Descriptor 0 as a controlling terminal, if it is one.
#[derive(Debug)]
pub struct Terminal {
    /// The agent's own process group.
    own: NixPid,
    /// Main's group, while it has had the foreground.
    lent_to: Option<NixPid>,
}

impl Terminal {
    /// Looks at nothing yet.
    pub fn new() -> Terminal {
        Terminal { own: unistd::getpgrp(), lent_to: None }
    }

    /// Whether main shall have the foreground: we have it, or a main of before had it.
    pub fn may_lend(&self) -> bool {
        foreground().is_some_and(|group| group == self.own || Some(group) == self.lent_to)
    }

    /// Main, started with the foreground, has this pid.
    pub fn lent(&mut self, main: Pid) {
        self.lent_to = Some(NixPid::from_raw(main));
    }

    /// Whether this group of main's was given the foreground: what the keyboard sends reaches it alone.
    pub fn is_lent_to(&self, group: Pid) -> bool {
        self.lent_to == Some(NixPid::from_raw(group))
    }

    /// Takes the foreground back when nobody is left in the group that had it.
    pub fn take_back(&mut self) {
        let Some(group) = self.lent_to else { return };
        let empty = kill::group(group.as_raw(), 0) == Sent::Nobody;
        if empty && foreground() == Some(group) {
            let _ = set_foreground(self.own);
        }
    }

    /// The agent leaves: the terminal is its starter's again.
    pub fn give_back(&mut self) {
        if self.lent_to.take().is_some_and(|group| foreground() == Some(group)) {
            let _ = set_foreground(self.own);
        }
    }

    /// Main was stopped from the keyboard. When a shell waits for us it is told by stopping as well, and main goes on
    /// when we do; otherwise nobody would ever resume it, so it goes on at once.
    ///
    /// # Errors
    /// Main can't be resumed.
    pub fn main_stopped(&mut self, main: Pid, signal: Signal) -> io::Result<()> {
        let group = NixPid::from_raw(main);
        let Some(front) = foreground() else { return Ok(()) };
        if self.somebody_can_resume_us() {
            if front == group {
                let _ = set_foreground(self.own);
            }
            // The rest of our job stops as Ctrl-Z would have it; for us that signal is blocked.
            kill::own_group(Signal::TSTP.number()).result()?;
            signal_hook::low_level::emulate_default_handler(libc::SIGTSTP)?;
            // Here we were resumed: by `fg`, which made us the foreground, or by `bg`.
            if foreground() == Some(self.own) && set_foreground(group).is_ok() {
                self.lent_to = Some(group);
            }
            return kill::group(main, Signal::CONT.number()).result();
        }
        if self.lent_to != Some(group) {
            return Ok(());
        }
        // TTIN and TTOU are about a background that main shouldn't be in; resumed there it would stop again at once.
        if signal != Signal::TSTP && front != group && set_foreground(group).is_err() {
            return Ok(());
        }
        kill::group(main, Signal::CONT.number()).result()
    }

    /// setpgid(2): a group is orphaned, and nobody does job control for it, unless the parent of one of its members is
    /// in another group of the same session. PID 1's parent is outside its namespace.
    fn somebody_can_resume_us(&self) -> bool {
        let parent = unistd::getppid();
        let same_session = unistd::getsid(Some(parent)).ok() == unistd::getsid(None).ok();
        parent.as_raw() > 0 && same_session && unistd::getpgid(Some(parent)).is_ok_and(|group| group != self.own)
    }
}

/// Gives the controlling terminal up, so that main's session can have it. A session's leader and its foreground get HUP
/// and CONT by that (tty_ioctl(4), TIOCNOTTY), which nobody sent: they wait, for all is blocked, and are taken here.
#[allow(unsafe_code)]
pub fn detach() {
    // SAFETY: system calls on places of our own.
    unsafe {
        if libc::ioctl(libc::STDIN_FILENO, libc::TIOCNOTTY) == -1 || libc::getsid(0) != libc::getpid() {
            return;
        }
        let mut made: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut made);
        libc::sigaddset(&raw mut made, libc::SIGHUP);
        libc::sigaddset(&raw mut made, libc::SIGCONT);
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        while libc::sigtimedwait(&raw const made, std::ptr::null_mut(), &raw const now) > 0 {}
    }
}

/// The foreground group of the terminal on descriptor 0, if that is our controlling terminal (tcgetpgrp(3)).
fn foreground() -> Option<NixPid> {
    unistd::tcgetpgrp(stdin()).ok()
}

/// SIGTTOU is blocked in the agent, so this works from the background.
fn set_foreground(group: NixPid) -> nix::Result<()> {
    unistd::tcsetpgrp(stdin(), group)
}

/// Descriptor 0, without the buffer std's own would make.
#[allow(unsafe_code)]
fn stdin() -> BorrowedFd<'static> {
    // SAFETY: `Inherited::take` sees to it that 0 is open, and nothing in the agent closes it.
    unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) }
}
