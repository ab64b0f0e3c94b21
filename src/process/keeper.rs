//! The keeper of a run: a tiny process between the agent and a command. All that the run starts stays below it,
//! whatever it does (prctl(2), PR_SET_CHILD_SUBREAPER: orphans come to the nearest subreaper), so the keeper has ended
//! when, and only when, nothing of the run is left; the kernel counts, in waitpid(2). And as long as the agent hasn't
//! reaped it, its process id is nobody else's, so who is below it is of the run. It decides nothing.
//!
//! One that is killed takes the run's own process with it; what that had started comes to the agent.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use libc::c_ulong;
use nix::fcntl::OFlag;

use crate::exit_codes::CANT_RUN;
use crate::supervisor::vocabulary::Pid;

use super::apart;
use super::descriptors::{self, Withhold};
use super::kill;
use super::signals::KIN_ENDED;

/// Through which every keeper tells the agent of its run's end.
#[derive(Debug)]
pub struct ReportPipe {
    reader: File,
    writer: OwnedFd,
}

/// A process of a run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Who says so.
    pub keeper: Pid,
    /// Which: the run's own process first.
    pub pid: Pid,
    /// How, as waitpid(2) has it.
    pub status: libc::c_int,
    /// Whether something of the run lives on.
    pub left: bool,
}

/// What a keeper writes; pipe(7) keeps it in one piece.
type Record = [i32; 4];

/// What a keeper tells, and where.
#[derive(Debug, Clone, Copy)]
pub struct Telling {
    /// A [`ReportPipe`]'s writer.
    pub words: RawFd,
    /// Not only how the run's own process has ended, but how each has that it left behind and that came to the keeper:
    /// one of them is followed.
    pub rest: bool,
}

impl ReportPipe {
    /// A new pipe.
    ///
    /// # Errors
    /// There are no descriptors to be had.
    pub fn new() -> io::Result<ReportPipe> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        // The reader's alone: a keeper that finds the pipe full waits.
        nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(ReportPipe { reader: reader.into(), writer })
    }

    /// Where a keeper writes.
    pub fn writer(&self) -> RawFd {
        self.writer.as_raw_fd()
    }

    /// The next word that was said; `None` when there is none now.
    pub fn next(&mut self) -> Option<Word> {
        let mut record = [0u8; size_of::<Record>()];
        self.reader.read_exact(&mut record).ok()?;
        let word = |i: usize| i32::from_ne_bytes([record[i], record[i + 1], record[i + 2], record[i + 3]]);
        Some(Word { keeper: word(0), pid: word(4), status: word(8), left: word(12) != 0 })
    }
}

/// Starts a keeper, whose own child does `run`, which gets the keeper's process id. That child's id, or why there is
/// none, is told by `started`; the keeper's is returned, and is to be reaped in every case.
///
/// # Errors
/// There is no process to be had.
#[allow(unsafe_code)]
pub fn start(telling: Telling, started: impl Fn(Result<Pid, i32>), run: impl FnOnce(Pid)) -> io::Result<Pid> {
    let withhold = descriptors::withhold();
    let heap = apart::heap();
    // SAFETY: clone(2) without any flag is fork(2) with another signal at the child's end. The raw call, so nothing of
    // the C library's runs in the child; `stand`, and what it is given, make system calls only.
    unsafe {
        let agent = libc::getpid();
        match libc::syscall(libc::SYS_clone, KIN_ENDED as c_ulong, 0, 0, 0, 0) {
            -1 => Err(io::Error::last_os_error()),
            0 => stand(agent, telling, &withhold, heap, started, run),
            pid => Ok(pid as Pid),
        }
    }
}

#[allow(unsafe_code)]
unsafe fn stand(
    agent: Pid,
    telling: Telling,
    withhold: &Withhold,
    heap: [(usize, usize); 2],
    started: impl Fn(Result<Pid, i32>),
    run: impl FnOnce(Pid),
) -> ! {
    // SAFETY: as for `start`.
    unsafe {
        apart::block_all();
        apart::die_with(agent);
        // Before its child is there, which has no terminal then either: a hook in the background of main's would be
        // stopped as it reads, until its time is over.
        apart::leave_session();
        let (yes, unused): (c_ulong, c_ulong) = (1, 0);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, yes, unused, unused, unused);
        let own = libc::getpid();
        let child = match libc::syscall(libc::SYS_clone, libc::SIGCHLD as c_ulong, 0, 0, 0, 0) {
            -1 => {
                started(Err(*libc::__errno_location()));
                libc::_exit(0)
            }
            0 => {
                run(own);
                libc::_exit(CANT_RUN.into())
            }
            child => child as Pid,
        };
        // The child does it as well; whoever comes second changes nothing. So the group is there when it is told of.
        libc::setpgid(child, child);
        started(Ok(child));
        libc::prctl(libc::PR_SET_NAME, c"pilotfish-keep".as_ptr());
        apart::withdraw(&mut [telling.words], withhold, heap);
        keep(agent, telling, own, child)
    }
}

#[allow(unsafe_code)]
unsafe fn keep(agent: Pid, telling: Telling, own: Pid, child: Pid) -> ! {
    let words = telling.words;
    let mut child_ended = false;
    // Not told yet: all that has ended too is reaped before it is told whether any is left.
    let mut news: Option<(Pid, i32)> = None;
    loop {
        let mut status = 0;
        let flags = if news.is_some() { libc::__WALL | libc::WNOHANG } else { libc::__WALL };
        // SAFETY: valid places; system calls.
        unsafe {
            match libc::waitpid(-1, &raw mut status, flags) {
                -1 if *libc::__errno_location() == libc::EINTR => {}
                // ECHILD: nothing is left. Its own end tells the agent to listen.
                -1 => {
                    if let Some((pid, status)) = news {
                        say(words, [own, pid, status, 0]);
                    }
                    libc::_exit(0)
                }
                0 => {
                    if let Some((pid, status)) = news.take() {
                        say(words, [own, pid, status, 1]);
                        // Its own end, by which it is heard otherwise, may be far.
                        kill::process(agent, libc::SIGCHLD);
                    }
                }
                pid => {
                    let is_news = if child_ended { telling.rest } else { pid == child };
                    child_ended |= pid == child;
                    if is_news && let Some((before, status)) = news.replace((pid, status)) {
                        // This one lived on then.
                        say(words, [own, before, status, 1]);
                    }
                }
            }
        }
    }
}

#[allow(unsafe_code)]
unsafe fn say(words: RawFd, record: Record) {
    // SAFETY: the array lives for the call. An agent that is gone hears nothing, and takes this process with it.
    unsafe { libc::write(words, record.as_ptr().cast(), size_of_val(&record)) };
}
