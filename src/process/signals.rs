//! Signals: what the agent was given at its start, and one stream of all that come to it. It decides nothing about
//! them and sends none.
//!
//! All catchable signals are blocked from the first instruction on and read from a signalfd. The kernel drops a
//! signal for PID 1 whose action is the default one, but never one that is blocked (`sig_ignored` in
//! kernel/signal.c), so none is lost however early it comes; it also keeps each real-time signal's count and order.
//! With no handler that returns, no system call of the agent is ever interrupted, and being in a terminal's background
//! can't stop it: a blocked TTOU or TTIN is not raised (`__tty_check_change` in drivers/tty). Handlers would cost
//! more as well: 53 registrations by signal-hook took 230 µs, the signalfd 5 µs.

use std::io;

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use tokio::io::unix::AsyncFd;

use crate::config::Signal;
use crate::exit_codes::BROKEN;
use crate::readable::{self, Readable};

use super::kill;

/// A set of signals as the kernel has it: signal n is bit n - 1.
type Mask = u64;

/// What the kernel's `sigset_t` measures in bytes on every architecture this is built for.
const MASK_SIZE: usize = size_of::<Mask>();

/// Signals that stay as they are: a fault of the agent's own must end it (as in tini), KILL and STOP can't be blocked,
/// and 32 and 33 are glibc's, for its threads.
const LEFT_ALONE: [i32; 11] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGKILL,
    libc::SIGSTOP,
    32,
    33,
];

/// Those that a fault raises.
const FAULTS: Mask = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 30;

/// What the kernel tells the agent with when its guard or a keeper ends, in place of SIGCHLD: so who waits for children
/// can do without these (waitpid(2), `__WCLONE`), and no child is left then but main or what it left. No program sends
/// it (signal(7): "unused"), and other than a real-time signal it comes through whatever RLIMIT_SIGPENDING says.
pub(super) const KIN_ENDED: i32 = libc::SIGSTKFLT;

/// What this process was given at its start and hands on to its children: the signal mask, and whether SIGCHLD and
/// SIGABRT were ignored.
#[derive(Debug, Clone, Copy)]
pub struct Inherited {
    mask: Mask,
    child_ignored: bool,
    abort_ignored: bool,
    /// Main gets no signal blocked or ignored, whatever was given.
    as_new: bool,
}

impl Inherited {
    /// Notes what was given, blocks every signal the agent catches, and occupies closed standard descriptors, so that
    /// none the agent opens lands there. Must come before anything else in the process, and from its only thread.
    pub fn take() -> Inherited {
        let mask = change_mask(libc::SIG_BLOCK, caught());
        occupy_standard_descriptors();
        Inherited { mask, child_ignored: heed_children(), abort_ignored: is_ignored(libc::SIGABRT), as_new: false }
    }

    /// The same, but main finds every signal unblocked and at its default.
    pub fn as_new(self) -> Inherited {
        Inherited { as_new: true, ..self }
    }

    /// In a child before its exec, and where no agent is to run: the mask and the dispositions of SIGCHLD and SIGABRT
    /// become what this process was given. No other disposition was ever changed, and a handler becomes the default by
    /// the exec. Safe between fork and exec.
    pub fn restore(&self) {
        if self.as_new {
            forget_dispositions();
            change_mask(libc::SIG_SETMASK, 0);
            return;
        }
        if self.child_ignored {
            set_child_disposition(libc::SIG_IGN);
        }
        if self.abort_ignored {
            ignore_abort();
        }
        change_mask(libc::SIG_SETMASK, self.mask);
    }
}

/// Those of the standard signals: no real-time one is ever ignored by a shell.
#[allow(unsafe_code)]
fn forget_dispositions() {
    for signal in 1..32 {
        // SAFETY: SIG_DFL is no handler; KILL and STOP are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Every signal the agent catches.
fn caught() -> Mask {
    (1..=64).filter(|n| !LEFT_ALONE.contains(n)).fold(0, |mask, n| mask | 1 << (n - 1))
}

/// Whether the agent catches a signal.
pub(super) fn is_caught(signal: Signal) -> bool {
    caught() & bit(signal) != 0
}

/// Changes the calling thread's mask and returns the one before. The raw call, because glibc's hides 32 and 33.
#[allow(unsafe_code)]
fn change_mask(how: libc::c_int, set: Mask) -> Mask {
    let mut old: Mask = 0;
    // SAFETY: both pointers are to masks of the size given; `how` is valid, so the call can't fail.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut old, MASK_SIZE) };
    old
}

/// While SIGCHLD is ignored the kernel reaps children by itself and their exit codes are lost: makes it the default,
/// and says whether it was ignored.
fn heed_children() -> bool {
    set_child_disposition(libc::SIG_DFL) == libc::SIG_IGN
}

#[allow(unsafe_code)]
fn set_child_disposition(disposition: libc::sighandler_t) -> libc::sighandler_t {
    // SAFETY: the two values passed here, SIG_DFL and SIG_IGN, are no handlers, so no code of ours can be run by it.
    unsafe { libc::signal(libc::SIGCHLD, disposition) }
}

#[allow(unsafe_code)]
fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: a valid place for the answer; nothing is set.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

#[allow(unsafe_code)]
fn ignore_abort() {
    // SAFETY: SIG_IGN is no handler.
    unsafe { libc::signal(libc::SIGABRT, libc::SIG_IGN) };
}

/// From now on SIGABRT ends this process, with code 70 and a line on stderr: PID 1 would ignore it if it came from its
/// own namespace, and the guard must be able to end an agent that does nothing any more.
#[allow(unsafe_code)]
pub(super) fn end_on_abort() {
    AGENT.store(std::process::id() as i32, Ordering::Relaxed);
    // SAFETY: the handler makes system calls only. SA_NODEFER: a second signal gets through while the first one's line
    // waits for a reader.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_abort as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_NODEFER;
        libc::sigaction(libc::SIGABRT, &raw const action, std::ptr::null_mut());
    }
}

/// Whose handler it is: a child has it too, until its exec.
static AGENT: AtomicI32 = AtomicI32::new(0);
/// The handler has been here before.
static ABORTED: AtomicBool = AtomicBool::new(false);

#[allow(unsafe_code)]
extern "C" fn on_abort(_: libc::c_int) {
    const WORDS: &str = "pilotfish: ended by SIGABRT, as the guard does when what a leader must not leave running can't be ended otherwise\n";
    // SAFETY: system calls only.
    unsafe {
        if libc::getpid() != AGENT.load(Ordering::Relaxed) {
            libc::signal(libc::SIGABRT, libc::SIG_DFL);
            kill::process(libc::getpid(), libc::SIGABRT);
        }
        let mut stderr = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
        if !ABORTED.swap(true, Ordering::Relaxed) && libc::poll(&raw mut stderr, 1, 0) == 1 {
            libc::write(2, WORDS.as_ptr().cast(), WORDS.len());
        }
        libc::_exit(BROKEN.into())
    }
}

/// Puts something on each of the descriptors 0 to 2 that is closed. It is closed on exec: main finds them as they were.
#[allow(unsafe_code)]
fn occupy_standard_descriptors() {
    for descriptor in 0..3 {
        // SAFETY: F_GETFD takes any number; open and eventfd get valid arguments. In ascending order the lowest free
        // descriptor, which both return, is this one.
        unsafe {
            if libc::fcntl(descriptor, libc::F_GETFD) != -1 {
                continue;
            }
            if libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) == -1 {
                // A root without /dev: reads would block and writes of lines fail, both without harm.
                libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            }
        }
    }
}

/// Every signal that comes to the agent, in the kernel's order. Standard signals coalesce while they wait, real-time
/// ones keep their count.
#[derive(Debug)]
pub struct Signals {
    fd: AsyncFd<Readable<SignalFd>>,
    own_pid: u32,
    /// Children that died before the agent was there raise no SIGCHLD any more.
    look_for_children: bool,
    /// The same, after one other signal, if there is any.
    look_again: bool,
}

impl Signals {
    /// Opens the stream; call it inside the runtime. With `faults`, those of faults that somebody sends are in it too:
    /// a fault of the agent's own ends it all the same (`force_sig_info` in kernel/signal.c). The first signal it gives
    /// is SIGCHLD, so that what died before is reaped.
    ///
    /// # Errors
    /// Those of signalfd(2) and epoll_ctl(2): only for want of descriptors or memory.
    pub fn new(faults: bool) -> io::Result<Signals> {
        let mask = if faults { caught() | FAULTS } else { caught() };
        // But for faults a no-op after `Inherited::take`, and what makes signalfd work without it.
        change_mask(libc::SIG_BLOCK, mask);
        let fd = SignalFd::with_flags(&sigset(mask), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let fd = readable::watch(fd)?;
        Ok(Signals { fd, own_pid: std::process::id(), look_for_children: true, look_again: false })
    }

    /// There is more to reap than was taken: SIGCHLD is given again, but what has come meanwhile first.
    pub fn look_again(&mut self) {
        self.look_again = true;
    }

    /// The next signal. Cancel-safe: dropping the future loses none.
    pub async fn next(&mut self) -> Signal {
        if std::mem::take(&mut self.look_again) {
            self.look_for_children = true;
            if let Some(signal) = read(self.fd.get_ref()).ok().and_then(|info| self.meant(&info)) {
                return signal;
            }
        }
        if std::mem::take(&mut self.look_for_children) {
            return Signal::CHLD;
        }
        loop {
            let read = match self.fd.readable().await {
                Ok(mut guard) => guard.try_io(|fd| read(fd.get_ref())),
                Err(error) => Ok(Err(error)),
            };
            match read {
                Ok(Ok(info)) => {
                    if let Some(signal) = self.meant(&info) {
                        return signal;
                    }
                }
                Ok(Err(error)) => {
                    // signalfd(2) and epoll(7) name no error that could come here. Without signals the agent still
                    // supervises, so it says so rather than ends.
                    tracing::error!(event = "degraded", %error, "signals can't be read any more");
                    std::future::pending::<()>().await;
                }
                Err(_would_block) => {}
            }
        }
    }

    /// What was read means this signal, or nothing.
    fn meant(&mut self, info: &siginfo) -> Option<Signal> {
        let signal = Signal::new(info.ssi_signo as i32)?;
        if signal.number() != KIN_ENDED {
            return Some(signal).filter(|signal| !self.made_by_ourselves(*signal, info));
        }
        // The kernel's own word of a child (sigaction(2), CLD_EXITED and its like), or somebody's signal that hid it.
        let from_kernel = info.ssi_code > 0;
        self.look_for_children |= !from_kernel;
        Some(if from_kernel { Signal::CHLD } else { signal })
    }

    /// PIPE and XFSZ are what the agent's own writes raise, TSTP what it sends its own group when main was stopped.
    /// None of these is meant for main; the same signals from anyone else are.
    fn made_by_ourselves(&self, signal: Signal, info: &siginfo) -> bool {
        let raised = [libc::SIGPIPE, libc::SIGXFSZ, libc::SIGTSTP].contains(&signal.number());
        raised && info.ssi_pid == self.own_pid
    }
}

fn read(fd: &Readable<SignalFd>) -> io::Result<siginfo> {
    fd.0.read_signal()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
}

#[allow(unsafe_code)]
fn sigset(mask: Mask) -> SigSet {
    // SAFETY: all bits zero is an empty set; sigaddset then only sets bits of it. nix's own `add` knows no real-time
    // signals.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for number in (1..=64).filter(|n| mask & 1 << (n - 1) != 0) {
            libc::sigaddset(&mut set, number);
        }
        set
    };
    // SAFETY: made by sigemptyset.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

/// Waits for the next signal that the agent catches, without a runtime; its number.
#[allow(unsafe_code)]
pub(super) fn wait() -> i32 {
    // SAFETY: a valid set, and no place for more than the number.
    unsafe { libc::sigwaitinfo((&raw const *sigset(caught()).as_ref()).cast(), std::ptr::null_mut()) }
}

/// Whether a process catches or ignores a signal; `None` where that can't be read. One that only blocks it may die of it
/// yet.
pub(super) fn heeds(pid: i32, signal: Signal) -> Option<bool> {
    heeded_in(&status(&format!("/proc/{pid}"))?, signal)
}

/// Whether a process wouldn't die now of a signal whose default that is: it catches or ignores it, or each of its threads
/// blocks it, or waits for it by sigwait(3) or sigtimedwait(2), which unblocks it as long as it waits. (A signal is for
/// any thread that doesn't block it, and its default action ends them all: `complete_signal` in kernel/signal.c.) `None`
/// where that can't be read.
pub(super) fn withstands(pid: i32, signal: Signal) -> Option<bool> {
    Some(heeds(pid, signal)? || each_thread_holds_back(pid, signal))
}

/// A main of more threads isn't looked through while the agent does nothing else.
const MOST_THREADS: usize = 1000;

fn each_thread_holds_back(pid: i32, signal: Signal) -> bool {
    let holds_back = |thread: &str| {
        status(thread).and_then(|status| blocked_in(&status, signal)).unwrap_or(false)
            || waits_for(pid, thread, signal).unwrap_or(false)
    };
    // Mostly its first thread doesn't, which settles it.
    if !holds_back(&format!("/proc/{pid}")) {
        return false;
    }
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let mut others = 0;
    threads.take(MOST_THREADS + 1).all(|thread| {
        others += 1;
        let thread = thread.ok().and_then(|thread| thread.path().into_os_string().into_string().ok());
        others <= MOST_THREADS && thread.is_some_and(|thread| holds_back(&thread))
    })
}

/// Bytes: the name in it may be cut in the middle of a character.
fn status(of: &str) -> Option<Vec<u8>> {
    std::fs::read(format!("{of}/status")).ok()
}

/// Whether a thread is in sigtimedwait(2) for a signal. Only who may trace the process may look: its own user, as far as
/// Yama lets it, and root with CAP_SYS_PTRACE.
fn waits_for(pid: i32, thread: &str, signal: Signal) -> Option<bool> {
    let set = awaited_set(&std::fs::read_to_string(format!("{thread}/syscall")).ok()?)?;
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut mask = [0; MASK_SIZE];
    std::os::unix::fs::FileExt::read_exact_at(&memory, &mut mask, set).ok()?;
    Some(Mask::from_ne_bytes(mask) & bit(signal) != 0)
}

/// Where the set is that a thread waits for, if it does (proc_pid_syscall(5)): the call's number, then its arguments.
pub(super) fn awaited_set(syscall: &str) -> Option<u64> {
    let mut words = syscall.split_whitespace();
    let number: libc::c_long = words.next()?.parse().ok()?;
    let set = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    (number == libc::SYS_rt_sigtimedwait).then_some(set)
}

pub(super) fn heeded_in(status: &[u8], signal: Signal) -> Option<bool> {
    Some((mask_in(status, b"SigCgt:")? | mask_in(status, b"SigIgn:")?) & bit(signal) != 0)
}

pub(super) fn blocked_in(status: &[u8], signal: Signal) -> Option<bool> {
    Some(mask_in(status, b"SigBlk:")? & bit(signal) != 0)
}

fn mask_in(status: &[u8], name: &[u8]) -> Option<Mask> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
    Mask::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 16).ok()
}

fn bit(signal: Signal) -> Mask {
    1 << (signal.number() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_but_faults_and_glibcs_own_is_caught() {
        let caught = caught();
        for signal in Signal::all() {
            let left_alone = [4, 5, 6, 7, 8, 9, 11, 19, 31, 32, 33].contains(&signal.number());
            assert_eq!(caught & 1 << (signal.number() - 1) == 0, left_alone, "{signal}");
        }
    }

    /// Whether a process that does this, with these signals blocked, comes to withstand HUP.
    fn withstands(blocked: Mask, what: impl FnOnce()) -> bool {
        // A process of its own: every thread of this one would have to block it.
        let (begun, begins) = nix::unistd::pipe().unwrap();
        // SAFETY: the child makes system calls only, and ends without coming back.
        #[allow(unsafe_code)]
        let pid = match unsafe { libc::fork() } {
            0 => {
                // Another test may have it caught.
                unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
                change_mask(libc::SIG_BLOCK, blocked);
                let _ = nix::unistd::write(&begins, b".");
                what();
                unsafe { libc::_exit(0) }
            }
            pid => pid,
        };
        // The C library blocks all signals while it forks.
        assert_eq!(nix::unistd::read(&begun, &mut [0]), Ok(1));
        // It does so within these two seconds.
        let withstands = (0..400).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            super::withstands(pid, Signal::HUP).unwrap()
        });
        kill::process(pid, libc::SIGKILL);
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
        withstands
    }

    #[allow(unsafe_code)]
    fn sigwait(mask: Mask) {
        // SAFETY: valid sets that outlive the call.
        unsafe { libc::sigwaitinfo((&raw const *sigset(mask).as_ref()).cast(), std::ptr::null_mut()) };
    }

    #[allow(unsafe_code)]
    fn pause() {
        // SAFETY: no memory is involved.
        unsafe { libc::pause() };
    }

    #[test]
    fn who_blocks_a_signal_or_waits_for_it_doesnt_die_of_it() {
        let (hup, usr1) = (bit(Signal::HUP), bit(Signal::USR1));
        assert!(withstands(hup, pause));
        assert!(withstands(hup | usr1, || sigwait(hup | usr1)));
        assert!(withstands(hup | usr1, || sigwait(usr1)), "it is blocked still");
        assert!(!withstands(usr1, || sigwait(usr1)));
    }

    #[tokio::test]
    async fn what_comes_while_there_is_more_to_reap_is_heard_in_between() {
        let mut signals = Signals::new(false).unwrap();
        assert_eq!(signals.next().await, Signal::CHLD);
        // To this thread alone, which has it blocked.
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR2).unwrap();
        signals.look_again();
        assert_eq!(signals.next().await, Signal::USR2);
        assert_eq!(signals.next().await, Signal::CHLD);
        signals.look_again();
        assert_eq!(signals.next().await, Signal::CHLD);
    }
}
