//! What the terminal sends main's process group. The keyboard's signals reach the foreground group, which is main's and
//! not the agent's, and nothing of a process that ends tells that they came. So a small process of the agent's own is in
//! that group too: the kernel sends to all of a group under one lock, before any of it can be reaped (`__kill_pgrp_info`
//! in kernel/signal.c), and marks as its own what a key has made (sigaction(2), SI_KERNEL), which a kill(2) can't.
//! It decides nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use libc::c_ulong;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::config::Signal;
use crate::supervisor::vocabulary::Pid;

use super::apart;
use super::descriptors::{self, Withhold};
use super::kill;
use super::signals::KIN_ENDED;

/// What is told of. Others of the terminal's (TSTP, WINCH...) explain no end.
const TOLD: [libc::c_int; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT];
/// What it leaves at. The kernel hands out what is pending from the lowest number up, so all others come before.
const LEAVE: libc::c_int = 64;
/// It needs a few system calls to leave, on a machine that may be out of breath; it is asked so often to go on...
const ROUNDS: u32 = 50;
/// ...each time so many milliseconds later.
const EACH: u8 = 20;

/// The process in main's group, while main runs.
#[derive(Debug)]
pub struct Keyboard {
    pid: Pid,
    reader: File,
}

impl Keyboard {
    /// Starts it in this group, which is there until its last member is reaped.
    ///
    /// # Errors
    /// There is no process or no descriptor to be had, or main has left the agent's session.
    #[allow(unsafe_code)]
    pub fn start(group: Pid) -> io::Result<Keyboard> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let (withhold, heap) = (descriptors::withhold(), apart::heap());
        // SAFETY: as for a keeper: fork(2) with another signal at the child's end, which makes system calls only.
        let pid = unsafe {
            let agent = libc::getpid();
            match libc::syscall(libc::SYS_clone, KIN_ENDED as c_ulong, 0, 0, 0, 0) {
                -1 => return Err(io::Error::last_os_error()),
                0 => hear(agent, group, writer.as_raw_fd(), &withhold, heap),
                pid => pid as Pid,
            }
        };
        let keyboard = Keyboard { pid, reader: reader.into() };
        // Here and not there, so that from now on nothing is missed.
        let (own, group) = (nix::unistd::Pid::from_raw(pid), nix::unistd::Pid::from_raw(group));
        if let Err(error) = nix::unistd::setpgid(own, group) {
            let _ = kill::process(pid, Signal::KILL.number()).result();
            return Err(error.into());
        }
        Ok(keyboard)
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The next signal that the terminal has sent; `None` when there is none now.
    pub fn next(&mut self) -> Option<Signal> {
        let mut number = [0];
        self.reader.read_exact(&mut number).ok()?;
        Signal::new(number[0].into())
    }

    /// All that was sent until now, which is all main was. It has left main's group then.
    #[allow(unsafe_code)]
    pub fn end(mut self) -> Vec<Signal> {
        // SAFETY: a system call. Its process id is its own until it is reaped.
        let asked = unsafe { libc::sigqueue(self.pid, LEAVE, libc::sigval { sival_ptr: std::ptr::null_mut() }) } == 0;
        let left = asked && self.has_left();
        if !left {
            let _ = kill::process(self.pid, Signal::KILL.number()).result();
        }
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Whether its end of the pipe is closed, in a while.
    fn has_left(&self) -> bool {
        for _ in 0..ROUNDS {
            // Stopped with the rest of main's group it couldn't leave.
            let _ = kill::process(self.pid, Signal::CONT.number()).result();
            let mut pipe = [PollFd::new(self.reader.as_fd(), PollFlags::empty())];
            // Without any event asked for, POLLHUP alone ends it (poll(2)).
            if poll(&mut pipe, PollTimeout::from(EACH)).is_ok_and(|ready| ready > 0) {
                return true;
            }
        }
        false
    }
}

#[allow(unsafe_code)]
unsafe fn hear(agent: Pid, group: Pid, writer: RawFd, withhold: &Withhold, heap: [(usize, usize); 2]) -> ! {
    // SAFETY: as for `start`; valid places.
    unsafe {
        apart::block_all();
        apart::die_with(agent);
        libc::setpgid(0, group);
        libc::prctl(libc::PR_SET_NAME, c"pilotfish-tty".as_ptr());
        apart::withdraw(&mut [writer], withhold, heap);
        let all = u64::MAX;
        loop {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let none = std::ptr::null::<libc::timespec>();
            let size = size_of_val(&all);
            let came = libc::syscall(libc::SYS_rt_sigtimedwait, &raw const all, &raw mut info, none, size);
            let from_kernel = info.si_code > 0;
            match libc::c_int::try_from(came) {
                Ok(LEAVE) if info.si_code == libc::SI_QUEUE && info.si_pid() == agent => {
                    // Who asks whether main's group is empty must not find this process there.
                    libc::setpgid(0, 0);
                    libc::_exit(0)
                }
                Ok(signal) if from_kernel && TOLD.contains(&signal) => {
                    let number = [signal as u8];
                    // A pipe that is full holds enough of them.
                    libc::write(writer, number.as_ptr().cast(), 1);
                    kill::process(agent, libc::SIGCHLD);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
}
