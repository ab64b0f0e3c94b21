//! Measures inits beside each other: `inits WORK ROUNDS ORPHANS INIT...`, an INIT being NAME=COMMAND, split at spaces.
//! Each round runs every one once, as PID 1 of a PID namespace of its own, so that whatever the machine does meanwhile
//! falls on all of them alike. It judges nothing.
//!
//! Main is this program: `inits main SOCKET` does what it is told on that socket. It stands behind COMMAND, unless
//! NAME ends in `:`, for supervisors, which find it in their own files, start it again, and forward no signals.
//!
//! Prints a line for each: NAME, then KEY=VALUE, medians over all rounds:
//!
//! | key | what, in microseconds unless said |
//! | --- | --- |
//! | `start`, `start90` | from just before PID 1 executes to main's first instruction; its 90th percentile |
//! | `end` | from main's last instruction to PID 1 gone |
//! | `signal` | from a USR1 for PID 1 to main |
//! | `term` | from a TERM for PID 1 to main |
//! | `stream`, `backlog` | nanoseconds of PID 1 for an orphan, of those that come one by one, of those that wait |
//! | `pss`, `dirty` | KiB of PID 1 at rest: its share of what is mapped, and what only it holds |
//! | `restart` | from main's end, by KILL, to the next one's first instruction |

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program of its own: the bans are the agent's"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

mod kernel {
    //! The calls that std doesn't have.
    #![allow(unsafe_code)]

    use std::ffi::c_char;
    use std::io;

    const CLONE_NEWNS: i32 = 0x0002_0000;
    const CLONE_NEWPID: i32 = 0x2000_0000;
    const CLOCK_MONOTONIC: i32 = 1;
    const MS_REC_PRIVATE: u64 = (1 << 14) | (1 << 18);
    const SIG_BLOCK: i32 = 0;
    pub const SIGKILL: i32 = 9;
    pub const SIGUSR1: i32 = 10;
    pub const SIGTERM: i32 = 15;
    pub const SIGCONT: i32 = 18;
    pub const SIGSTOP: i32 = 19;

    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }

    /// glibc's, of 1024 bits.
    type SignalSet = [u64; 16];

    unsafe extern "C" {
        fn unshare(flags: i32) -> i32;
        fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
        fn mount(
            source: *const c_char,
            target: *const c_char,
            kind: *const c_char,
            flags: u64,
            data: *const c_char,
        ) -> i32;
        #[link_name = "kill"]
        fn send_signal(pid: i32, signal: i32) -> i32;
        fn fork() -> i32;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn pipe(ends: *mut i32) -> i32;
        fn close(descriptor: i32) -> i32;
        fn read(descriptor: i32, buffer: *mut u8, size: usize) -> isize;
        fn _exit(code: i32) -> !;
        fn sigprocmask(how: i32, set: *const SignalSet, old: *mut SignalSet) -> i32;
        fn sigwaitinfo(set: *const SignalSet, info: *mut u8) -> i32;
    }

    fn checked(answer: i32) -> io::Result<i32> {
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
    }

    /// The next child is PID 1 of a new PID namespace.
    pub fn new_pid_namespace() -> io::Result<()> {
        // SAFETY: takes a number and touches no memory of ours.
        checked(unsafe { unshare(CLONE_NEWPID) }).map(drop)
    }

    /// Gives this process, the first of a PID namespace, a /proc that shows it. Allocates nothing.
    pub fn own_proc() -> io::Result<()> {
        let none = std::ptr::null();
        // SAFETY: all strings end in NUL and outlive the calls.
        unsafe {
            checked(unshare(CLONE_NEWNS))?;
            checked(mount(none, c"/".as_ptr(), none, MS_REC_PRIVATE, none))?;
            checked(mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, none))?;
        }
        Ok(())
    }

    /// Nanoseconds on a clock that all processes share.
    pub fn now() -> i64 {
        let mut time = Timespec { seconds: 0, nanoseconds: 0 };
        // SAFETY: `time` is ours, and has the layout of the 64-bit struct timespec.
        unsafe { clock_gettime(CLOCK_MONOTONIC, &raw mut time) };
        time.seconds * 1_000_000_000 + time.nanoseconds
    }

    pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
        // SAFETY: takes two numbers.
        checked(unsafe { send_signal(pid, signal) }).map(drop)
    }

    fn both() -> SignalSet {
        let mut set = [0; 16];
        set[0] = (1 << (SIGUSR1 - 1)) | (1 << (SIGTERM - 1));
        set
    }

    /// USR1 and TERM wait until `next_signal` takes them.
    pub fn hold_signals() {
        // SAFETY: reads a set of ours.
        unsafe { sigprocmask(SIG_BLOCK, &both(), std::ptr::null_mut()) };
    }

    pub fn next_signal() -> io::Result<i32> {
        // SAFETY: reads a set of ours, and may be told to write nothing.
        checked(unsafe { sigwaitinfo(&both(), std::ptr::null_mut()) })
    }

    /// Leaves a process whose parent is gone, which ends as soon as it is: an orphan, then a zombie of PID 1's.
    pub fn leave_orphan() -> io::Result<()> {
        let (mut ends, mut byte) = ([0; 2], 0_u8);
        // SAFETY: the buffers are ours; this program has one thread, so its children may go on as they like.
        unsafe {
            checked(pipe(ends.as_mut_ptr()))?;
            let child = checked(fork())?;
            if child == 0 {
                if fork() == 0 {
                    close(ends[1]);
                    // Until its parent's end closes the pipe; main's is closed by then.
                    read(ends[0], &raw mut byte, 1);
                }
                _exit(0);
            }
            close(ends[1]);
            close(ends[0]);
            checked(waitpid(child, std::ptr::null_mut(), 0))?;
        }
        Ok(())
    }
}

/// No answer is waited for longer: supervisord takes seconds to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// After its start an init may let go of what only that needed.
const SETTLED: Duration = Duration::from_secs(2);

const SIGNALS: usize = 100;

const RESTARTS: usize = 5;

fn main() -> io::Result<()> {
    let began = kernel::now();
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "main", socket] => play_main(began, Path::new(socket)),
        [_, "start", work, init] => Session::begin(work, init)?.start(),
        [_, "paths", work, init, orphans] => {
            Session::begin(work, init)?.paths(orphans.parse().map_err(io::Error::other)?)
        }
        [_, work, rounds, orphans, inits @ ..] => {
            compare(work, rounds.parse().map_err(io::Error::other)?, orphans, inits)
        }
        _ => Err(io::Error::other("usage: inits WORK ROUNDS ORPHANS NAME=COMMAND...")),
    }
}

/// Does as it is told, and says when.
fn play_main(began: i64, harness: &Path) -> io::Result<()> {
    kernel::hold_signals();
    let own = harness.with_extension("main");
    let _ = fs::remove_file(&own);
    let socket = UnixDatagram::bind(&own)?;
    let say = |text: String| socket.send_to(text.as_bytes(), harness);
    say(format!("{began}"))?;
    loop {
        match &receive(&socket)?.split(' ').collect::<Vec<_>>()[..] {
            ["signal"] => {
                say("listening".into())?;
                kernel::next_signal()?;
                let came = kernel::now();
                say(format!("{came}"))?;
            }
            ["orphans", number] => {
                for _ in 0..number.parse().map_err(io::Error::other)? {
                    kernel::leave_orphan()?;
                }
                say("left".into())?;
            }
            ["crash"] => {
                say(format!("{}", kernel::now()))?;
                kernel::kill(std::process::id().cast_signed(), kernel::SIGKILL)?;
            }
            // "end"
            _ => {
                say(format!("{}", kernel::now()))?;
                return Ok(());
            }
        }
    }
}

fn receive(socket: &UnixDatagram) -> io::Result<String> {
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// An init at work, in a PID namespace of this process.
struct Session {
    init: Child,
    /// Supervisors start main again and keep signals for themselves.
    supervises: bool,
    socket: UnixDatagram,
    main: PathBuf,
    started: i64,
    began: i64,
}

impl Session {
    fn begin(work: &str, init: &str) -> io::Result<Self> {
        let (name, command) = init.split_once('=').ok_or_else(|| io::Error::other("an init is NAME=COMMAND"))?;
        let supervises = name.ends_with(':');
        let own = std::env::current_exe()?;
        let path = Path::new(work).join("socket");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(PATIENCE))?;

        let mut words: Vec<&str> = command.split_whitespace().collect();
        let text = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| io::Error::other("a path isn't text"));
        let (own, address) = (text(&own)?, text(&path)?);
        if !supervises {
            words.extend([own.as_str(), "main", &address]);
        }
        kernel::new_pid_namespace()?;
        let (mut reader, writer) = io::pipe()?;
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        #[allow(unsafe_code)]
        // SAFETY: what runs between fork and exec calls the kernel alone.
        unsafe {
            command.pre_exec(move || {
                kernel::own_proc()?;
                io::Write::write_all(&mut &writer, &kernel::now().to_ne_bytes())
            })
        };
        let init = command.spawn()?;
        let mut stamp = [0; 8];
        reader.read_exact(&mut stamp)?;
        let mut session = Self {
            init,
            supervises,
            socket,
            main: path.with_extension("main"),
            started: i64::from_ne_bytes(stamp),
            began: 0,
        };
        session.began = session.time()?;
        Ok(session)
    }

    fn tell(&self, words: &str) -> io::Result<()> {
        self.socket.send_to(words.as_bytes(), &self.main).map(drop)
    }

    fn time(&self) -> io::Result<i64> {
        receive(&self.socket)?.parse().map_err(io::Error::other)
    }

    fn pid(&self) -> i32 {
        self.init.id().cast_signed()
    }

    /// Waits for its end, and says when that was.
    fn gone(&mut self) -> io::Result<i64> {
        let status = self.init.wait()?;
        let gone = kernel::now();
        if status.success() || self.supervises {
            return Ok(gone);
        }
        Err(io::Error::other(format!("ended with {:?}, signal {:?}", status.code(), status.signal())))
    }

    fn start(mut self) -> io::Result<()> {
        println!("start={}", self.began - self.started);
        if self.supervises {
            kernel::kill(self.pid(), kernel::SIGKILL)?;
        } else {
            self.tell("end")?;
            let last = self.time()?;
            println!("end={}", self.gone()? - last);
            return Ok(());
        }
        self.gone().map(drop)
    }

    fn paths(mut self, orphans: u32) -> io::Result<()> {
        sleep(SETTLED);
        let memory = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()))?;
        println!("pss={}", kibibytes(&memory, "Pss:"));
        println!("dirty={}", kibibytes(&memory, "Private_Dirty:"));

        if !self.supervises {
            for _ in 0..SIGNALS {
                println!("signal={}", self.signal(kernel::SIGUSR1)?);
            }
        }
        let per_orphan = |spent: u64| spent / u64::from(orphans);
        let before = self.spent()?;
        self.leave_orphans(orphans)?;
        self.have_been_reaped()?;
        println!("stream={}", per_orphan(self.spent()? - before));

        kernel::kill(self.pid(), kernel::SIGSTOP)?;
        let before = self.spent()?;
        self.leave_orphans(orphans)?;
        kernel::kill(self.pid(), kernel::SIGCONT)?;
        self.have_been_reaped()?;
        println!("backlog={}", per_orphan(self.spent()? - before));

        if self.supervises {
            for _ in 0..RESTARTS {
                self.tell("crash")?;
                let last = self.time()?;
                println!("restart={}", self.time()? - last);
            }
            kernel::kill(self.pid(), kernel::SIGKILL)?;
        } else {
            println!("term={}", self.signal(kernel::SIGTERM)?);
            self.tell("end")?;
            self.time()?;
        }
        self.gone().map(drop)
    }

    fn signal(&self, signal: i32) -> io::Result<i64> {
        self.tell("signal")?;
        receive(&self.socket)?;
        // By then main listens, and all are at rest.
        sleep(Duration::from_millis(2));
        let sent = kernel::now();
        kernel::kill(self.pid(), signal)?;
        Ok(self.time()? - sent)
    }

    fn leave_orphans(&self, number: u32) -> io::Result<()> {
        self.tell(&format!("orphans {number}"))?;
        receive(&self.socket).map(drop)
    }

    /// Waits until what main is, is all that PID 1 has.
    fn have_been_reaped(&self) -> io::Result<()> {
        let (path, begun) = (format!("/proc/{0}/task/{0}/children", self.pid()), Instant::now());
        while fs::read_to_string(&path)?.split_whitespace().count() > 2 {
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other("orphans are left"));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Nanoseconds that its threads have run.
    fn spent(&self) -> io::Result<u64> {
        let mut spent = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            spent += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(spent)
    }
}

impl Drop for Session {
    /// Whatever failed: no namespace is left.
    fn drop(&mut self) {
        let _ = self.init.kill();
        let _ = self.init.wait();
    }
}

fn kibibytes(rollup: &str, field: &str) -> u64 {
    let line = rollup.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Of one init, all that was measured.
type Values = BTreeMap<String, Vec<i64>>;

fn compare(work: &str, rounds: usize, orphans: &str, inits: &[&str]) -> io::Result<()> {
    let asked = inits;
    let mut inits: Vec<(&str, Values)> = asked.iter().map(|init| (*init, Values::new())).collect();
    for round in 0..rounds {
        for (init, values) in &mut inits {
            let mut ask = Vec::new();
            // Some take seconds to start.
            if !init.contains(":=") || round % 10 == 0 {
                ask.push(vec!["start", work, init]);
            }
            // What is measured many times in one session needs few of them; and no init at all has nothing of this.
            if round % 100 == 0 && !init.ends_with('=') {
                ask.push(vec!["paths", work, init, orphans]);
            }
            for words in ask {
                session(&words, values)?;
            }
        }
        // Who comes after whom changes each round.
        inits.rotate_left(1);
    }
    inits.sort_by_key(|(init, _)| asked.iter().position(|known| known == init));
    for (init, values) in &mut inits {
        let name = init.split_once('=').map_or(*init, |(name, _)| name).trim_end_matches(':');
        let mut line = name.to_owned();
        for (key, values) in values {
            values.sort_unstable();
            let in_nanoseconds = ["pss", "dirty", "stream", "backlog"].contains(&key.as_str());
            let at = |part: usize| values[values.len() * part / 100] / if in_nanoseconds { 1 } else { 1000 };
            line += &format!(" {key}={}", at(50));
            if key == "start" {
                line += &format!(" start90={}", at(90));
            }
        }
        println!("{line}");
    }
    Ok(())
}

/// One init once, in a process of its own: a process has one PID namespace for its children.
fn session(words: &[&str], values: &mut Values) -> io::Result<()> {
    let output =
        Command::new(std::env::current_exe()?).args(words).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{words:?}: {}", output.status)));
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        values.entry(key.to_owned()).or_default().push(value.parse().map_err(io::Error::other)?);
    }
    Ok(())
}
