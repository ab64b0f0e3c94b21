//! The child's side, between fork and exec: system calls on memory that was made ready before, and nothing else.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

use crate::exit_codes::{self, CANT_RUN, NOT_FOUND};
use crate::files::Way;
use crate::supervisor::vocabulary::Pid;

use super::descriptors::{Withhold, pipe};
use super::guard::Deadline;
use super::keeper::Telling;
use super::limits;
use super::signals::Inherited;

/// All a child needs, made ready.
pub struct Launch {
    /// Its arguments, the program's name first.
    pub argv: Vec<CString>,
    /// What to execute, tried in this order as execvp(3) does.
    pub candidates: Vec<CString>,
    /// Its environment.
    pub envp: Vec<CString>,
    /// Entries of `envp`, with their names, that are to hold the child's process id.
    pub own_pid: Vec<(usize, &'static str)>,
    /// Its working directory.
    pub directory: Option<Way>,
    /// Its file mode creation mask.
    pub umask: Option<libc::mode_t>,
    /// Its resource limits.
    pub limits: limits::Prepared,
    /// Whom it becomes.
    pub identity: Option<Ids>,
    /// It has no capability at all: an ordinary user's process, whatever the agent may do.
    pub without_capabilities: bool,
    /// Its standard descriptors; `None` keeps the agent's.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Descriptors from 3 on that it must not get: `None` lets it have every one the agent was given.
    pub withhold: Option<Withhold>,
    /// A descriptor of the agent's that it gets too, under the same number; it must be open until it is started.
    pub keep: Option<RawFd>,
    /// Make it the foreground group of the terminal on descriptor 0.
    pub foreground: bool,
    /// What the terminal sends it is heard, from the moment that it has the foreground.
    pub heard: bool,
    /// It leads a session of its own, with the terminal on descriptor 0 where that is nobody's.
    pub session: bool,
    /// It is killed when the agent ends. What has a keeper dies with that.
    pub dies_with_us: bool,
    /// What its keeper tells of its end; `None`: it has none, and is the agent's own child.
    pub keeper: Option<Telling>,
    /// Until when anything may act here. Whoever has its exec before it stands in time is killed like all others; a
    /// child whose fork took longer than that ends itself.
    pub deadline: Option<Deadline>,
    /// The mask and dispositions it gets.
    pub inherited: Inherited,
}

/// Numbers a child switches to.
pub struct Ids {
    /// User.
    pub uid: libc::uid_t,
    /// Group.
    pub gid: libc::gid_t,
    /// Supplementary groups.
    pub groups: Vec<libc::gid_t>,
}

/// What a child does before its exec, as told when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum LaunchStep {
    /// setpgid(2)
    Group,
    /// dup2(2)
    Descriptors,
    /// setrlimit(2); the index says which.
    Limit,
    /// chdir(2)
    Directory,
    /// prctl(2) PR_SET_NO_NEW_PRIVS
    NoNewPrivileges,
    /// setgroups(2)
    Groups,
    /// setresgid(2)
    Gid,
    /// setresuid(2)
    Uid,
    /// capset(2)
    Capabilities,
    /// prctl(2) PR_SET_PDEATHSIG
    DeathSignal,
    /// Comparing the clock with the deadline
    Deadline,
    /// execve(2)
    Exec,
}

/// What comes through it. Each is written at once (pipe(7)): the step, one of several, why.
pub type RawReport = [i32; 3];

/// A child waits here for the agent to have made ready what it must not begin without: a pipe that says so by closing.
pub struct Gate(Option<(OwnedFd, OwnedFd)>);

impl Gate {
    /// One that is shut, where there is something to wait for.
    pub fn shut(needed: bool) -> io::Result<Gate> {
        Ok(Gate(needed.then(pipe).transpose()?))
    }

    /// In the agent: lets the child through.
    pub fn open(self) {
        if let Some((_, writer)) = self.0 {
            // Who was forked meanwhile may have the pipe open for a while yet; so it is said.
            let _ = nix::unistd::write(&writer, &[0]);
        }
    }

    /// In the child: until it is open, or the agent is gone.
    #[allow(unsafe_code)]
    fn pass(&self) {
        let Some((reader, writer)) = &self.0 else { return };
        // SAFETY: system calls, on descriptors that are this process's own and not used again.
        unsafe {
            libc::close(writer.as_raw_fd());
            let mut byte = 0u8;
            while libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1) == -1
                && *libc::__errno_location() == libc::EINTR
            {}
        }
    }
}

/// The pointer lists execve wants. They point into the `Launch` they were made of.
pub struct Image {
    argv: Vec<*const libc::c_char>,
    /// `/bin/sh FILE ARGS`, for a file that is no program the kernel knows; index 1 is put in when it is known.
    shell_argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    own_pid: Vec<Stamp>,
}

const SHELL: &std::ffi::CStr = c"/bin/sh";

impl Image {
    /// That of a launch, which must outlive it.
    pub fn new(launch: &Launch) -> Image {
        let end = std::iter::once(ptr::null());
        let arguments = launch.argv.iter().map(|a| a.as_ptr());
        Image {
            argv: arguments.clone().chain(end.clone()).collect(),
            shell_argv: [SHELL.as_ptr(), ptr::null()].into_iter().chain(arguments.skip(1)).chain(end.clone()).collect(),
            envp: launch.envp.iter().map(|e| e.as_ptr()).chain(end).collect(),
            own_pid: launch.own_pid.iter().map(|(entry, name)| Stamp::new(*entry, name)).collect(),
        }
    }

    /// Puts the child's own process id where it belongs (sd_listen_fds(3) and sd_watchdog_enabled(3) compare it).
    /// Only digits into memory made ready: safe between fork and exec.
    fn stamp(&mut self, pid: Pid) {
        for stamp in &mut self.own_pid {
            stamp.fill_in(pid);
            if let Some(slot) = self.envp.get_mut(stamp.entry) {
                *slot = stamp.text.as_ptr().cast();
            }
        }
    }
}

/// `NAME=PID`, with room for the number.
struct Stamp {
    entry: usize,
    text: Vec<u8>,
    digits_at: usize,
}

impl Stamp {
    fn new(entry: usize, name: &str) -> Stamp {
        /// The digits of a process id, and a zero.
        const ROOM: usize = 11;
        let mut text = format!("{name}=").into_bytes();
        let digits_at = text.len();
        text.resize(digits_at + ROOM, 0);
        Stamp { entry, text, digits_at }
    }

    fn fill_in(&mut self, pid: Pid) {
        let mut digits = [0u8; 10];
        let mut count = 0;
        let mut rest = pid.unsigned_abs();
        while count == 0 || rest > 0 {
            digits[count] = b'0' + (rest % 10) as u8;
            rest /= 10;
            count += 1;
        }
        for (place, digit) in self.text[self.digits_at..].iter_mut().zip(digits[..count].iter().rev()) {
            *place = *digit;
        }
    }
}

/// The child's side. Every signal is blocked until just before the exec, and no handler exists, so a signal sent to
/// the child from its first instant on waits and then does what it does to any new program.
///
/// # Safety
/// Only in a fresh child of fork, with `report` open.
#[allow(unsafe_code)]
pub unsafe fn become_program(launch: &Launch, image: &mut Image, parent: Pid, report: RawFd, gate: &Gate) -> ! {
    // SAFETY: system calls on memory that was made ready before the fork; nothing allocates, locks or panics.
    unsafe {
        let (step, index) = match prepare(launch, image, parent, gate) {
            Err(failed) => failed,
            Ok(()) => {
                launch.inherited.restore();
                execute(launch, image);
                (LaunchStep::Exec, 0)
            }
        };
        let errno = *libc::__errno_location();
        let words: RawReport = [step as i32, index, errno];
        libc::write(report, words.as_ptr().cast(), size_of_val(&words));
        libc::_exit(exit_code(step, Errno::from_raw(errno)).into())
    }
}

/// What a shell would exit with: 127 when there is no such program, 126 for every other failure.
pub fn exit_code(step: LaunchStep, errno: Errno) -> u8 {
    match (step, errno) {
        (LaunchStep::Exec, Errno::ENOENT | Errno::ENOTDIR) => NOT_FOUND,
        _ => CANT_RUN,
    }
}

/// capset(2): version 3 of its structures, and the calling process.
const CAPABILITIES_OF_OURSELVES: [u32; 2] = [0x2008_0522, 0];
/// Effective, permitted and inheritable ones, in two halves.
const NO_CAPABILITY: [u32; 6] = [0; 6];

#[allow(unsafe_code)]
unsafe fn prepare(launch: &Launch, image: &mut Image, parent: Pid, gate: &Gate) -> Result<(), (LaunchStep, i32)> {
    let done = |result: libc::c_long, step: LaunchStep| if result == -1 { Err((step, 0)) } else { Ok(()) };
    // SAFETY: as for `become_program`.
    unsafe {
        if launch.session {
            done(libc::setsid().into(), LaunchStep::Group)?;
            libc::ioctl(0, libc::TIOCSCTTY, 0);
        } else {
            done(libc::setpgid(0, 0).into(), LaunchStep::Group)?;
        }
        if launch.foreground {
            gate.pass();
            // SIGTTOU is blocked here, so a background group may do this. Without success main is where it would be
            // without a terminal of ours.
            libc::tcsetpgrp(0, libc::getpid());
        }
        if let Some(stdio) = &launch.stdio {
            // The sources are above 2, for 0 to 2 are always occupied, so no dup2 overwrites one of them.
            for (target, source) in stdio.iter().enumerate() {
                done(libc::dup2(source.as_raw_fd(), target as i32).into(), LaunchStep::Descriptors)?;
            }
        }
        match &launch.withhold {
            None => {}
            Some(Withhold::Range) => {
                let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_uint;
                done(libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, flags), LaunchStep::Descriptors)?;
            }
            Some(Withhold::Each(descriptors)) => {
                for descriptor in descriptors {
                    libc::fcntl(*descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
                }
            }
        }
        if let Some(keep) = launch.keep {
            done(libc::fcntl(keep, libc::F_SETFD, 0).into(), LaunchStep::Descriptors)?;
        }
        for (index, (_, resource, limit)) in launch.limits.iter().enumerate() {
            if libc::setrlimit(*resource, limit) == -1 {
                return Err((LaunchStep::Limit, index as i32));
            }
        }
        if let Some(mask) = launch.umask {
            libc::umask(mask);
        }
        // Another user leads root nowhere by what they put on the way: it is left to them to enter it.
        let outside = launch.directory.as_ref().filter(|way| match launch.without_capabilities {
            true => !way.enter_where_it_is_ours(),
            false => way.enter().is_err(),
        });
        if let Some(ids) = &launch.identity {
            // prctl(2) wants unsigned longs, and refuses anything but zero in those it doesn't use.
            let (yes, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
            let result = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, unused, unused, unused);
            done(result.into(), LaunchStep::NoNewPrivileges)?;
            // The raw calls: glibc's want to tell other threads, of which a child has none.
            done(libc::syscall(libc::SYS_setgroups, ids.groups.len(), ids.groups.as_ptr()), LaunchStep::Groups)?;
            done(libc::syscall(libc::SYS_setresgid, ids.gid, ids.gid, ids.gid), LaunchStep::Gid)?;
            done(libc::syscall(libc::SYS_setresuid, ids.uid, ids.uid, ids.uid), LaunchStep::Uid)?;
        }
        if launch.without_capabilities {
            // The kernel clears capabilities only where a switch leaves uid 0; and with the inheritable ones go the
            // ambient ones (capabilities(7)), which would outlive the exec.
            done(
                libc::syscall(libc::SYS_capset, &CAPABILITIES_OF_OURSELVES, NO_CAPABILITY.as_ptr()),
                LaunchStep::Capabilities,
            )?;
        }
        // Nor may root without its capabilities, or away from its own storage (NFS), enter what is that user's alone.
        outside.map_or(Ok(()), Way::enter).map_err(|_| (LaunchStep::Directory, 0))?;
        if launch.dies_with_us {
            // After setresuid, which clears it (prctl(2)). A parent that ended before this line sends nothing more.
            done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong).into(), LaunchStep::DeathSignal)?;
            if libc::getppid() != parent {
                libc::_exit(exit_codes::of_signal(libc::SIGKILL).into());
            }
        }
        // Last, for a pause may come anywhere before it.
        if launch.deadline.is_some_and(Deadline::is_over) {
            *libc::__errno_location() = libc::ETIME;
            return Err((LaunchStep::Deadline, 0));
        }
        image.stamp(libc::getpid());
    }
    Ok(())
}

/// execvp(3)'s rules. Returns only when nothing could be executed, with errno telling why.
#[allow(unsafe_code)]
unsafe fn execute(launch: &Launch, image: &mut Image) {
    let mut denied = false;
    // SAFETY: as for `become_program`; the lists are null-terminated.
    unsafe {
        for candidate in &launch.candidates {
            libc::execve(candidate.as_ptr(), image.argv.as_ptr(), image.envp.as_ptr());
            match *libc::__errno_location() {
                libc::ENOEXEC => {
                    if !is_for_a_shell(candidate) {
                        *libc::__errno_location() = libc::ENOEXEC;
                        return;
                    }
                    if let Some(file) = image.shell_argv.get_mut(1) {
                        *file = candidate.as_ptr();
                    }
                    libc::execve(SHELL.as_ptr(), image.shell_argv.as_ptr(), image.envp.as_ptr());
                    // No shell: the file's own failure is what matters.
                    *libc::__errno_location() = libc::ENOEXEC;
                    return;
                }
                libc::EACCES => denied = true,
                libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
                _ => return,
            }
        }
        if denied {
            *libc::__errno_location() = libc::EACCES;
        }
    }
}

/// Whether a file the kernel can't execute may be a script without a first line that says so. One with a zero byte in
/// its first line is a program of another machine (as bash has it); one whose interpreter is such a program isn't
/// written for /bin/sh; and what can't be read, a shell can't read either.
#[allow(unsafe_code)]
unsafe fn is_for_a_shell(file: &std::ffi::CStr) -> bool {
    let mut start = [0u8; 128];
    // SAFETY: as for `become_program`: system calls on a valid path and a place of our own.
    let count = unsafe {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        let file = libc::open(file.as_ptr(), flags);
        let count = libc::read(file, start.as_mut_ptr().cast(), start.len());
        libc::close(file);
        count
    };
    usize::try_from(count).is_ok_and(|count| reads_as_a_script(&start[..count]))
}

fn reads_as_a_script(start: &[u8]) -> bool {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let interpreter = line.strip_prefix(b"#!").map(<[u8]>::trim_ascii).unwrap_or_default();
    !line.contains(&0) && interpreter.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_another_machine_is_no_script() {
        for script in [&b""[..], b"echo hello\n", b"# a comment\necho", b"#!\necho", b"echo\n\0\0tail of an archive"] {
            assert!(reads_as_a_script(script), "{script:?}");
        }
        for other in [&b"\x7fELF\x02\x01\x01\0\0"[..], b"MZ\x90\0", b"#!/opt/foreign/python\nprint(1)", b"#! /x"] {
            assert!(!reads_as_a_script(other), "{other:?}");
        }
    }

    #[test]
    fn a_process_id_of_any_length_is_stamped() {
        for pid in [1, 42, Pid::MAX] {
            let mut stamp = Stamp::new(0, "WATCHDOG_PID");
            stamp.fill_in(pid);
            let text = std::ffi::CStr::from_bytes_until_nul(&stamp.text).unwrap();
            assert_eq!(text.to_str(), Ok(&*format!("WATCHDOG_PID={pid}")));
        }
    }
}
