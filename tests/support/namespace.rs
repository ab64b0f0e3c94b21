//! Runs a program as PID 1 of a PID and mount namespace of its own, or as an ordinary process, with exactly the
//! descriptors, signals, arguments and environment a test wants it to have; and ends it with all below it.
//!
//! Not with std's Command, which changes some of these, and not with unshare(1), which stands between.
#![allow(unsafe_code, clippy::disallowed_methods, clippy::disallowed_types)]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longer than anything here should take, also beside a compiler.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until there is a value; says what didn't come in time.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    within(PATIENCE, what, &mut look)
}

/// Polls until there is a value or `patience` has ended.
pub fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        if Instant::now() > deadline {
            return Err(format!("{what} didn't come within {patience:?}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The program under test: what was built with the tests, unless another is named, such as the release.
pub fn pilotfish() -> PathBuf {
    std::env::var_os("PILOTFISH").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_pilotfish")), PathBuf::from)
}

/// Copies a program that is about to be executed, by a process that ends: were it written by this one, whatever another
/// thread forks meanwhile would have it open for writing, and who executes it then is told "text file busy".
#[track_caller]
pub fn copy_program(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success(), "{} isn't copied to {}", from.display(), to.display());
}

/// The awkward child (tests/fixtures/specimen.rs).
pub fn specimen() -> PathBuf {
    example("specimen")
}

/// A program of tests/fixtures/. A plain `cargo test` has built it; one of this binary alone (`--test pilotfish`)
/// hasn't.
pub fn example(name: &str) -> PathBuf {
    static BUILDING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let agent = Path::new(env!("CARGO_BIN_EXE_pilotfish"));
    let built = agent.with_file_name("examples").join(name);
    let age = |file: &Path| file.metadata().and_then(|meta| meta.modified()).ok();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).with_extension("rs");
    // Those that use the library are older than the agent when that has changed.
    let newest = age(&source).max(if matches!(name, "guarded" | "manual") { age(agent) } else { None });
    if age(&built) < newest {
        let arguments = ["build", "--quiet", "--example", name];
        let status = std::process::Command::new(env!("CARGO")).args(arguments).status();
        assert!(status.is_ok_and(|status| status.success()), "{name} can't be built");
        // Cargo leaves a program alone that would be the same.
        let _ = std::fs::File::options()
            .append(true)
            .open(&built)
            .map(|file| file.set_modified(std::time::SystemTime::now()));
    }
    built
}

/// What is to be run, and with what.
pub struct Start {
    argv: Vec<CString>,
    env: Vec<CString>,
    namespace: bool,
    proc: bool,
    terminal: Option<OwnedFd>,
    blocked: u64,
    ignored: u64,
    descriptors: Vec<(RawFd, Option<OwnedFd>)>,
    root: Option<CString>,
    directory: Option<CString>,
    capability_dropped: Option<libc::c_ulong>,
    network: Option<CString>,
    cgroups: Vec<std::fs::File>,
}

impl Start {
    /// This program with these arguments, as PID 1, with nothing special about it. PATH is the only variable.
    pub fn new(argv: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Start {
        Start {
            argv: argv.into_iter().map(|arg| c(arg.as_ref())).collect(),
            env: vec![c(OsStr::new("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))],
            namespace: true,
            proc: true,
            terminal: None,
            blocked: 0,
            ignored: 0,
            descriptors: Vec::new(),
            root: None,
            directory: None,
            capability_dropped: None,
            network: None,
            cgroups: Vec::new(),
        }
    }

    /// One more entry of the environment, byte for byte.
    pub fn env(mut self, entry: impl AsRef<[u8]>) -> Start {
        self.env.push(c(OsStr::from_bytes(entry.as_ref())));
        self
    }

    /// No environment at all.
    pub fn no_env(mut self) -> Start {
        self.env.clear();
        self
    }

    /// An ordinary process of this machine's own namespace.
    pub fn ordinary(mut self) -> Start {
        self.namespace = false;
        self
    }

    /// /proc is an empty directory.
    pub fn without_proc(mut self) -> Start {
        self.proc = false;
        self
    }

    /// With this as controlling terminal, on 0, 1 and 2, as leader of a session.
    pub fn on_terminal(mut self, terminal: OwnedFd) -> Start {
        self.terminal = Some(terminal);
        self
    }

    /// These signals are blocked.
    pub fn blocked(mut self, signals: &[i32]) -> Start {
        self.blocked = mask(signals);
        self
    }

    /// These signals are ignored.
    pub fn ignored(mut self, signals: &[i32]) -> Start {
        self.ignored = mask(signals);
        self
    }

    /// This descriptor is closed.
    pub fn closed(mut self, descriptor: RawFd) -> Start {
        self.descriptors.push((descriptor, None));
        self
    }

    /// This descriptor is this.
    pub fn descriptor(mut self, descriptor: RawFd, what: OwnedFd) -> Start {
        // Out of the way of every target: dup2 onto itself would leave it to be closed on exec.
        let high = nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(500);
        let high = nix::fcntl::fcntl(&what, high).expect("a descriptor can be duplicated");
        // SAFETY: just made, and nobody else's.
        self.descriptors.push((descriptor, Some(unsafe { OwnedFd::from_raw_fd(high) })));
        self
    }

    /// Its root directory.
    pub fn root(mut self, root: &Path) -> Start {
        self.root = Some(c(root.as_os_str()));
        self
    }

    /// Without this capability (capabilities(7)), of it or of anything below it.
    pub fn without_capability(mut self, number: libc::c_ulong) -> Start {
        self.capability_dropped = Some(number);
        self
    }

    /// In this network namespace (a host's of [`netlab`](crate::support::netlab)).
    pub fn network(mut self, namespace: &Path) -> Start {
        self.network = Some(c(namespace.as_os_str()));
        self
    }

    /// In the cgroup whose `cgroup.procs` this is, and in one of each other hierarchy.
    pub fn in_cgroup(mut self, processes: std::fs::File) -> Start {
        self.cgroups.push(processes);
        self
    }

    /// Its working directory.
    pub fn directory(mut self, directory: &Path) -> Start {
        self.directory = Some(c(directory.as_os_str()));
        self
    }

    /// Runs it. What it prints is kept in files.
    pub fn run(self) -> Result<Container, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let file = |name: &str| std::fs::File::create(directory.path().join(name)).map_err(|error| error.to_string());
        let (stdout, stderr) = (file("stdout")?, file("stderr")?);
        let stdin = std::fs::File::open("/dev/null").map_err(|error| error.to_string())?;
        let stdio = match &self.terminal {
            Some(terminal) => [terminal.as_raw_fd(); 3],
            None => [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()],
        };
        let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argv, envp) = (pointers(&self.argv), pointers(&self.env));
        let mut pipe = [0; 2];
        // SAFETY: the children make system calls on memory made ready above, and nothing else.
        let outer = unsafe {
            libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC);
            match libc::fork() {
                0 => self.outer(stdio, &argv, &envp, pipe[1]),
                outer => outer,
            }
        };
        // SAFETY: made by pipe2 above, and nobody else's.
        let (reader, writer) = unsafe { (OwnedFd::from_raw_fd(pipe[0]), OwnedFd::from_raw_fd(pipe[1])) };
        drop(writer);
        if outer == -1 {
            return Err("no process could be made".to_owned());
        }
        let mut container = Container { outer, pid: 0, status: None, directory };
        let mut number = [0; 4];
        std::io::Read::read_exact(&mut std::fs::File::from(reader), &mut number)
            .map_err(|_| format!("the namespace couldn't be made: {:?} {}", container.wait(), container.stderr()))?;
        container.pid = i32::from_ne_bytes(number);
        Ok(container)
    }

    unsafe fn outer(
        &self,
        stdio: [RawFd; 3],
        argv: &[*const libc::c_char],
        envp: &[*const libc::c_char],
        report: RawFd,
    ) -> ! {
        unsafe {
            libc::setpgid(0, 0);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if let Some(network) = &self.network {
                let network = libc::open(network.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
                if network == -1 || libc::setns(network, libc::CLONE_NEWNET) == -1 {
                    fail(stdio[2], c"the network can't be entered\n");
                }
            }
            let mut pid = libc::getpid();
            if self.namespace {
                if libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) == -1 {
                    fail(stdio[2], c"unshare: not root?\n");
                }
                pid = libc::fork();
            }
            if pid != 0 {
                libc::write(report, (&raw const pid).cast(), 4);
            }
            if pid == 0 || !self.namespace {
                self.inner(stdio, argv, envp);
            }
            // Between the test and PID 1: holds nothing open, and passes on how PID 1 ended.
            libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
            let mut status = 0;
            while libc::waitpid(pid, &mut status, 0) != pid {}
            libc::_exit(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) })
        }
    }

    unsafe fn inner(&self, stdio: [RawFd; 3], argv: &[*const libc::c_char], envp: &[*const libc::c_char]) -> ! {
        unsafe {
            for cgroup in &self.cgroups {
                // 0: who writes it.
                if libc::write(cgroup.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1 {
                    fail(stdio[2], c"the cgroup can't be entered\n");
                }
            }
            if self.namespace {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                let nothing = std::ptr::null();
                let private = libc::MS_REC | libc::MS_PRIVATE;
                libc::mount(c"none".as_ptr(), c"/".as_ptr(), nothing, private, nothing.cast());
                let kind = if self.proc { c"proc" } else { c"tmpfs" };
                if libc::mount(kind.as_ptr(), c"/proc".as_ptr(), kind.as_ptr(), 0, nothing.cast()) == -1 {
                    fail(stdio[2], c"mounting /proc failed\n");
                }
                if self.terminal.is_some() {
                    libc::setsid();
                    libc::ioctl(stdio[0], libc::TIOCSCTTY, 0);
                }
            }
            if let Some(root) = &self.root
                && (libc::chroot(root.as_ptr()) == -1 || libc::chdir(c"/".as_ptr()) == -1)
            {
                fail(stdio[2], c"chroot failed\n");
            }
            if let Some(directory) = &self.directory {
                libc::chdir(directory.as_ptr());
            }
            if let Some(number) = self.capability_dropped {
                // Root's exec gets what the bounding set lets it have.
                libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0);
            }
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            // Sources may lie on 0 to 2 only if a test wants them there.
            for (target, source) in stdio.iter().enumerate() {
                libc::dup2(*source, target as RawFd);
            }
            for (target, source) in &self.descriptors {
                match source {
                    Some(source) => libc::dup2(source.as_raw_fd(), *target),
                    None => libc::close(*target),
                };
            }
            for signal in 1..=64 {
                let handler = if self.ignored & 1 << (signal - 1) != 0 { libc::SIG_IGN } else { libc::SIG_DFL };
                // The raw call, for 32 and 33; the kernel's struct begins with the handler.
                let action = [handler as u64, 0, 0, 0];
                libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), 0, 8);
            }
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const self.blocked, 0, 8);
            libc::execve(argv[0], argv.as_ptr(), envp.as_ptr());
            fail(2, c"the program under test can't be executed\n")
        }
    }
}

unsafe fn fail(stderr: RawFd, text: &CStr) -> ! {
    unsafe {
        libc::write(stderr, text.as_ptr().cast(), text.to_bytes().len());
        libc::_exit(99)
    }
}

fn c(text: &OsStr) -> CString {
    CString::new(text.as_bytes()).expect("no NUL byte in a test")
}

fn mask(signals: &[i32]) -> u64 {
    signals.iter().fold(0, |mask, signal| mask | 1 << (signal - 1))
}

/// A running program, and what is below it.
pub struct Container {
    outer: libc::pid_t,
    /// Its process id, as this test sees it.
    pub pid: libc::pid_t,
    status: Option<i32>,
    directory: tempfile::TempDir,
}

impl Container {
    /// A file of its own directory, which lives as long as this.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What it has printed.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.file("stdout")).unwrap_or_default()
    }

    /// What it has complained of.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.file("stderr")).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: no memory involved; the pid is our child's or grandchild's and not reaped before `wait`.
        unsafe { libc::kill(self.pid, signal) };
    }

    /// Its exit code, or 128 and the signal that killed it, if it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        let mut status = 0;
        // SAFETY: a valid place for the answer.
        if self.status.is_none() && unsafe { libc::waitpid(self.outer, &mut status, libc::WNOHANG) } == self.outer {
            let exited = libc::WIFEXITED(status);
            self.status = Some(if exited { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) });
        }
        self.status
    }

    /// Waits for its exit code.
    pub fn wait(&mut self) -> Result<i32, String> {
        self.wait_for(PATIENCE)
    }

    /// Waits for its exit code for at most this long.
    pub fn wait_for(&mut self, patience: Duration) -> Result<i32, String> {
        within(patience, "its end", || self.ended())
    }

    /// Living children of the program, as this test sees them.
    pub fn children(&self) -> Vec<libc::pid_t> {
        processes().into_iter().filter(|p| p.parent == self.pid && p.state != 'Z').map(|p| p.pid).collect()
    }

    /// Waits for its first child and returns it.
    pub fn main(&self) -> Result<libc::pid_t, String> {
        eventually("a main process", || self.children().first().copied())
    }

    /// A line of its /proc/PID/status.
    pub fn status_line(&self, name: &str) -> Option<String> {
        status_line(self.pid, name)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // SAFETY: both are unreaped children of ours, or below one. The kernel ends a namespace with its PID 1.
            unsafe {
                if self.pid > 0 {
                    libc::kill(self.pid, libc::SIGKILL);
                }
                if self.pid == self.outer {
                    libc::kill(-self.outer, libc::SIGKILL);
                }
                let _ = within(Duration::from_secs(5), "its end", || self.ended());
                if self.status.is_none() {
                    libc::kill(self.outer, libc::SIGKILL);
                }
            }
        }
    }
}

/// A line of a process's /proc/PID/status.
pub fn status_line(pid: libc::pid_t, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// A process of this machine.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub pid: libc::pid_t,
    /// Its parent's.
    pub parent: libc::pid_t,
    /// `Z` for a zombie, `T` for a stopped one (proc_pid_stat(5)). One whose first thread alone has ended is none.
    pub state: char,
}

/// Every process of this machine.
pub fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    let read = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        // A name may be cut in the middle of a character.
        let stat = std::fs::read(entry.path().join("stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let state = fields.first()?.chars().next()?;
        let works_on = state == 'Z' && fields.get(17)?.parse::<u32>().ok()? > 1;
        Some(Process { pid, state: if works_on { 'S' } else { state }, parent: fields.get(1)?.parse().ok()? })
    };
    entries.filter_map(read).collect()
}

/// What the specimen reported of itself.
pub struct Report(Vec<(String, String)>);

impl Report {
    /// Waits for the report in this file.
    pub fn read(file: &Path) -> Result<Report, String> {
        let text = eventually("the specimen's report", || std::fs::read_to_string(file).ok())?;
        Ok(Report(text.lines().map(|l| l.split_once(' ').unwrap_or((l, ""))).map(own).collect()))
    }

    /// The value of one key.
    pub fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(k, _)| k == key).map_or("", |(_, value)| value)
    }

    /// Every value of a key (`arg`, `env`), decoded.
    pub fn all(&self, key: &str) -> Vec<Vec<u8>> {
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        self.0.iter().filter(|(k, _)| k == key).map(|(_, hex)| hex.as_bytes().chunks(2).map(byte).collect()).collect()
    }
}

fn own((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// A directory for a test's files, and names in it as arguments.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// A new one.
    pub fn new() -> Scratch {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Mains that become other users write here too.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory.path(), mode).expect("its mode can be set");
        Scratch(directory)
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file in it, as an argument.
    pub fn arg(&self, name: &str) -> OsString {
        self.file(name).into_os_string()
    }
}
