//! fork and exec. Everything a child needs is made ready before the fork; between fork and exec it makes system calls
//! and nothing else. Knows no runs and no config.
//!
//! std's Command can't do this: it sorts and cleans the environment, can't keep the signals a child gets before its
//! exec, and waits for the exec without limit.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::config::Signal;
use crate::exit_codes::{self, CANT_RUN, NOT_FOUND};
use crate::supervisor::vocabulary::Pid;

use super::guard::Deadline;
use super::keeper;
use super::keyboard::Keyboard;
use super::kill;
use super::limits;
use super::signals::Inherited;

/// How long an exec may take before the agent goes on without knowing how it ends: dead storage must not hold PID 1.
const EXEC_PATIENCE: Duration = Duration::from_secs(1);
/// How long a keeper may take to say whom it has started. It needs two system calls, on a machine that may be out of
/// breath.
const KEEPER_PATIENCE: Duration = Duration::from_secs(5);
/// How often a keeper is resumed meanwhile, for who runs as its user may stop it.
const RESUME_EVERY: Duration = Duration::from_millis(20);

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
    pub directory: Option<CString>,
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
    /// Where its keeper tells of its end; `None`: it has none, and is the agent's own child.
    pub keeper: Option<RawFd>,
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

/// How descriptors are withheld from a child.
pub enum Withhold {
    /// By close_range(2) (Linux 5.11).
    Range,
    /// One by one, on older kernels.
    Each(Vec<RawFd>),
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

const STEPS: [LaunchStep; 12] = [
    LaunchStep::Group,
    LaunchStep::Descriptors,
    LaunchStep::Limit,
    LaunchStep::Directory,
    LaunchStep::NoNewPrivileges,
    LaunchStep::Groups,
    LaunchStep::Gid,
    LaunchStep::Uid,
    LaunchStep::Capabilities,
    LaunchStep::DeathSignal,
    LaunchStep::Deadline,
    LaunchStep::Exec,
];

/// What went wrong in a child before its exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// What it was doing.
    pub step: LaunchStep,
    /// Which of several, for `LaunchStep::Limit`.
    pub index: usize,
    /// Why it failed.
    pub errno: Errno,
}

/// A child right after its start.
pub struct Started {
    /// Its process id.
    pub pid: Pid,
    /// The agent's own child, which is to be reaped in every case: its keeper, or itself.
    pub child: Pid,
    /// How far it came.
    pub progress: Progress,
    /// By which is heard what the terminal sends it, or why it isn't.
    pub keyboard: Option<io::Result<Keyboard>>,
}

/// How far a child came.
pub enum Progress {
    /// It runs its program (or was killed before it could).
    Running,
    /// It failed and is ending.
    Failed(Failure),
    /// It hasn't got through its exec yet; this tells when it fails.
    Executing(LaunchReport),
}

/// The pipe through which a child says why it failed; it closes at the exec.
pub struct LaunchReport(std::fs::File);

/// What comes through it. Each is written at once (pipe(7)): the step, one of several, why.
type RawReport = [i32; 3];
/// In place of a step: a keeper's word of the process it has started, which comes in place of the index.
const STARTED: i32 = -1;
/// In place of a step: a keeper couldn't start any.
const NOT_STARTED: i32 = -2;

impl LaunchReport {
    /// What a child that has ended said of its failure.
    pub fn failure(mut self) -> Option<Failure> {
        read_failure(&mut self.0)
    }
}

fn read_words(pipe: &mut impl Read) -> Option<RawReport> {
    let mut bytes = [0u8; size_of::<RawReport>()];
    pipe.read_exact(&mut bytes).ok()?;
    let word = |i: usize| i32::from_ne_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    Some([word(0), word(4), word(8)])
}

fn read_failure(pipe: &mut impl Read) -> Option<Failure> {
    failure(read_words(pipe)?)
}

fn failure([step, index, errno]: RawReport) -> Option<Failure> {
    let step = *STEPS.get(usize::try_from(step).ok()?)?;
    Some(Failure { step, index: usize::try_from(index).unwrap_or(0), errno: Errno::from_raw(errno) })
}

/// Starts a child and waits, at most a second, until it runs its program or has failed.
///
/// # Errors
/// No pipe or no process could be made. There is no child then, but perhaps an ending keeper, to be reaped.
#[allow(unsafe_code)]
pub fn launch(launch: Launch) -> io::Result<Started> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let mut image = Image::new(&launch);
    let report = writer.as_raw_fd();
    let gate = Gate(launch.heard.then(|| nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)).transpose()?);
    let child = match launch.keeper {
        // SAFETY: in a fresh child, with the report open.
        Some(words) => keeper::start(
            words,
            |pid| tell_start(report, pid),
            |keeper| unsafe { become_program(&launch, &mut image, keeper, report, &gate) },
        )?,
        // SAFETY: getpid has no preconditions. The child only makes system calls on memory made ready above.
        None => unsafe {
            let agent = libc::getpid();
            match libc::fork() {
                -1 => return Err(io::Error::last_os_error()),
                0 => become_program(&launch, &mut image, agent, report, &gate),
                pid => pid,
            }
        },
    };
    drop(writer);
    let mut file = std::fs::File::from(reader);
    if launch.session {
        // A group's leader can't make a session: it is left to the child.
        return Ok(Started { pid: child, child, progress: progress(file, None), keyboard: None });
    }
    if launch.keeper.is_none() {
        // The child does it as well; whoever comes second changes nothing. So the group is there when we return, even
        // if the exec hangs. EACCES says it has executed, ESRCH that it has ended.
        let _ = nix::unistd::setpgid(nix::unistd::Pid::from_raw(child), nix::unistd::Pid::from_raw(child));
        let keyboard = launch.heard.then(|| Keyboard::start(child));
        gate.open();
        let progress = progress(file, None);
        return Ok(Started { pid: child, child, progress, keyboard });
    }
    // A keeper says at once whom it has started, and its child perhaps before that why it fails.
    let mut failed = None;
    loop {
        if !wait_readable(&file, KEEPER_PATIENCE, Some(child)) {
            // Its child goes with it.
            let _ = kill::process(child, Signal::KILL.number()).result();
            return Err(io::Error::other("its keeper doesn't get on (is it traced?)"));
        }
        match read_words(&mut file) {
            Some([STARTED, pid, _]) => {
                let progress = failed.map_or_else(|| progress(file, Some(child)), Progress::Failed);
                return Ok(Started { pid, child, progress, keyboard: None });
            }
            Some([NOT_STARTED, _, errno]) => return Err(io::Error::from_raw_os_error(errno)),
            Some(words) => failed = failure(words),
            None => return Err(io::Error::other("its keeper was killed")),
        }
    }
}

fn progress(mut pipe: std::fs::File, keeper: Option<Pid>) -> Progress {
    match wait_readable(&pipe, EXEC_PATIENCE, keeper) {
        false => Progress::Executing(LaunchReport(pipe)),
        true => read_failure(&mut pipe).map_or(Progress::Running, Progress::Failed),
    }
}

#[allow(unsafe_code)]
fn tell_start(report: RawFd, started: Result<Pid, i32>) {
    let words: RawReport = match started {
        Ok(pid) => [STARTED, pid, 0],
        Err(errno) => [NOT_STARTED, 0, errno],
    };
    // SAFETY: the array lives for the call. An agent that is gone is told nothing.
    unsafe { libc::write(report, words.as_ptr().cast(), size_of_val(&words)) };
}

/// Whether the pipe has something to read, or is closed, before patience ends. A failing poll counts as not. Whoever is
/// stopped before that, and can't be told from who is slow, is resumed.
fn wait_readable(pipe: &impl AsFd, patience: Duration, keeper: Option<Pid>) -> bool {
    let each = PollTimeout::try_from(RESUME_EVERY).unwrap_or(PollTimeout::ZERO);
    // Counted, not timed: while all of the container is frozen, none of it has a chance to answer.
    for _ in 0..patience.as_millis() / RESUME_EVERY.as_millis() {
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], each) {
            Ok(0) => {
                if let Some(keeper) = keeper {
                    // It heeds no signal, so this does nothing else. One that is gone closes the pipe.
                    let _ = kill::process(keeper, Signal::CONT.number()).result();
                }
            }
            Err(Errno::EINTR) => {}
            ready => return ready.is_ok(),
        }
    }
    false
}

/// A child waits here for the agent to have made ready what it must not begin without: a pipe that says so by closing.
struct Gate(Option<(OwnedFd, OwnedFd)>);

impl Gate {
    fn open(self) {
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
struct Image {
    argv: Vec<*const libc::c_char>,
    /// `/bin/sh FILE ARGS`, for a file that is no program the kernel knows; index 1 is put in when it is known.
    shell_argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    own_pid: Vec<Stamp>,
}

const SHELL: &std::ffi::CStr = c"/bin/sh";

impl Image {
    fn new(launch: &Launch) -> Image {
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
unsafe fn become_program(launch: &Launch, image: &mut Image, parent: Pid, report: RawFd, gate: &Gate) -> ! {
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
        let enter = |directory: &CString| done(libc::chdir(directory.as_ptr()).into(), LaunchStep::Directory);
        let outside = launch.directory.as_ref().filter(|directory| enter(directory).is_err());
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
        // Root without its capabilities, or away from its own storage (NFS), may enter no directory of that user's alone.
        outside.map_or(Ok(()), enter)?;
        if launch.without_capabilities {
            // The kernel clears capabilities only where a switch leaves uid 0; and with the inheritable ones go the
            // ambient ones (capabilities(7)), which would outlive the exec.
            done(
                libc::syscall(libc::SYS_capset, &CAPABILITIES_OF_OURSELVES, NO_CAPABILITY.as_ptr()),
                LaunchStep::Capabilities,
            )?;
        }
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

/// A pipe whose two ends are closed on exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// How descriptors can be withheld on this kernel.
#[allow(unsafe_code)]
pub fn withhold() -> Withhold {
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_uint;
    // SAFETY: a range in which no descriptor can be: the call changes nothing and tells whether it exists.
    match unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, flags) } {
        0 => Withhold::Range,
        _ => Withhold::Each(open_descriptors()),
    }
}

/// Every descriptor from 3 on that may be open.
#[allow(unsafe_code)]
fn open_descriptors() -> Vec<RawFd> {
    /// Without /proc and with a higher limit than this, what lies above is taken as not open.
    const MOST: libc::rlim_t = 65_536;
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        return numbers.filter(|number| *number > 2).collect();
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid place for the answer.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    (3..limit.rlim_cur.min(MOST) as RawFd).collect()
}

/// A descriptor for a child's empty stdin: /dev/null, or a pipe nobody writes to where there is no /dev.
pub fn nothing_to_read() -> io::Result<OwnedFd> {
    #[allow(unsafe_code)]
    // SAFETY: a valid path and flags; a descriptor that was returned is nobody else's.
    unsafe {
        match libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) {
            -1 => Ok(pipe()?.0),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
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
    #[allow(clippy::disallowed_types, reason = "a child of the test's own, which nobody else reaps")]
    fn one_that_is_stopped_before_it_has_said_a_word_is_resumed() {
        let mut stopped = std::process::Command::new("sh");
        let mut stopped =
            stopped.args(["-c", "kill -STOP $$; echo"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let pipe = stopped.stdout.take().unwrap();
        assert!(wait_readable(&pipe, KEEPER_PATIENCE, Some(stopped.id() as Pid)));
        assert!(stopped.wait().unwrap().success());
    }

    #[test]
    fn one_that_says_nothing_is_not_waited_for_without_end() {
        let (reader, _writer) = pipe().unwrap();
        assert!(!wait_readable(&reader, RESUME_EVERY * 3, None));
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
