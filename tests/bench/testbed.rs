//! What the measuring programs share: a clock, real servers on loopback, agents that are PID 1 of namespaces of their own,
//! and the hook that says when it began. It measures nothing.

#![allow(dead_code, reason = "each of them uses a part")]

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub mod kernel {
    //! The calls that std doesn't have.
    #![allow(unsafe_code)]

    use std::ffi::{c_char, c_int, c_ulong};
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    const CLOCK_MONOTONIC: c_int = 1;
    const CLONE_NEWNS: c_int = 0x0002_0000;
    const CLONE_NEWPID: c_int = 0x2000_0000;
    const MS_REC_PRIVATE: c_ulong = (1 << 14) | (1 << 18);
    const PR_SET_PDEATHSIG: c_int = 1;
    const RLIMIT_NOFILE: c_int = 7;
    const LOCK_EX: c_int = 2;
    pub const SIGKILL: c_int = 9;
    pub const SIGTERM: c_int = 15;
    pub const SIGCONT: c_int = 18;
    pub const SIGSTOP: c_int = 19;

    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }

    unsafe extern "C" {
        fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
        fn unshare(flags: c_int) -> c_int;
        fn setns(descriptor: c_int, kind: c_int) -> c_int;
        fn mount(
            source: *const c_char,
            target: *const c_char,
            kind: *const c_char,
            flags: c_ulong,
            data: *const c_char,
        ) -> c_int;
        fn prctl(option: c_int, ...) -> c_int;
        fn flock(descriptor: c_int, operation: c_int) -> c_int;
        fn setrlimit(resource: c_int, limit: *const [u64; 2]) -> c_int;
        #[link_name = "kill"]
        fn send_signal(pid: c_int, signal: c_int) -> c_int;
    }

    fn checked(answer: c_int) -> io::Result<()> {
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Nanoseconds on a clock that all processes share.
    pub fn now() -> i64 {
        let mut time = Timespec { seconds: 0, nanoseconds: 0 };
        // SAFETY: `time` is ours, and has the layout of the 64-bit struct timespec.
        unsafe { clock_gettime(CLOCK_MONOTONIC, &raw mut time) };
        time.seconds * 1_000_000_000 + time.nanoseconds
    }

    pub fn kill(pid: u32, signal: c_int) -> io::Result<()> {
        // SAFETY: takes two numbers.
        checked(unsafe { send_signal(pid.cast_signed(), signal) })
    }

    /// As an agent holds its entry; for as long as the file is open.
    pub fn lock(file: &File) -> io::Result<()> {
        // SAFETY: takes two numbers.
        checked(unsafe { flock(file.as_raw_fd(), LOCK_EX) })
    }

    /// A crowd's sockets, here and in what is started from here; where that isn't allowed, there are fewer.
    pub fn many_descriptors() {
        let limit = [20_000; 2];
        // SAFETY: reads two numbers of ours.
        let _ = checked(unsafe { setrlimit(RLIMIT_NOFILE, &raw const limit) });
    }

    /// The next child of this thread is PID 1 of a new PID namespace, until the value is dropped.
    pub struct NewPidNamespace(File);

    impl NewPidNamespace {
        pub fn enter() -> io::Result<NewPidNamespace> {
            let own = File::open("/proc/self/ns/pid")?;
            // SAFETY: takes a number and touches no memory of ours.
            checked(unsafe { unshare(CLONE_NEWPID) })?;
            Ok(NewPidNamespace(own))
        }
    }

    impl Drop for NewPidNamespace {
        fn drop(&mut self) {
            // SAFETY: takes two numbers; the descriptor is ours.
            let back = checked(unsafe { setns(self.0.as_raw_fd(), CLONE_NEWPID) });
            back.expect("the way back to one's own namespace is always free");
        }
    }

    /// Between fork and exec: its end comes with its parent's, however that ends.
    pub fn end_with_parent() -> io::Result<()> {
        // SAFETY: takes two numbers.
        checked(unsafe { prctl(PR_SET_PDEATHSIG, SIGKILL as c_ulong) })
    }

    /// The same for the first process of a PID namespace, with a /proc that shows it. Allocates nothing.
    pub fn be_contained() -> io::Result<()> {
        end_with_parent()?;
        let none = std::ptr::null();
        // SAFETY: all strings end in NUL and outlive the calls.
        unsafe {
            checked(unshare(CLONE_NEWNS))?;
            checked(mount(none, c"/".as_ptr(), none, MS_REC_PRIVATE, none))?;
            checked(mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, none))
        }
    }
}

/// No answer is waited for longer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Who is changed has a port from here on, all others a lower one.
pub const MARKED: u16 = 10_000;

/// The hook of these programs, `hook SOCKET [WORD]`: says when it began, and WORD, or else the marked port that it was
/// told of, if any.
pub fn play_hook(began: i64, socket: &str, word: Option<&str>) -> io::Result<()> {
    let told = match word {
        Some(word) => word.to_owned(),
        None => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            let ports = text.split("\"port\":").skip(1).filter_map(|rest| {
                let rest = rest.trim_start();
                rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
            });
            ports.filter(|port| *port >= MARKED).max().unwrap_or(0).to_string()
        }
    };
    UnixDatagram::unbound()?.send_to(format!("{began} {told}").as_bytes(), socket).map(drop)
}

/// Where hooks say when they began.
pub struct Hooks(UnixDatagram);

impl Hooks {
    pub fn listen(socket: &Path) -> io::Result<Hooks> {
        let hooks = UnixDatagram::bind(socket)?;
        hooks.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(Hooks(hooks))
    }

    /// The next one that began, and its word; none within a moment.
    pub fn next(&self) -> Option<(i64, String)> {
        let mut message = [0; 256];
        let length = self.0.recv(&mut message).ok()?;
        let text = String::from_utf8_lossy(&message[..length]).into_owned();
        let (began, word) = text.split_once(' ')?;
        Some((began.parse().ok()?, word.to_owned()))
    }

    /// When the hook began that has this word.
    pub fn began(&self, wanted: &str, patience: Duration) -> io::Result<i64> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match self.next() {
                Some((began, word)) if word == wanted => return Ok(began),
                _ => {}
            }
        }
        Err(io::Error::other(format!("no hook with {wanted} was started within {patience:?}")))
    }
}

/// A catalog that is changed from outside.
pub enum Store {
    Local(PathBuf),
    Consul(SocketAddr, Running),
    Etcd(SocketAddr, Running),
}

/// The files whose locks say that instances on `local` live.
pub type Held = HashMap<String, File>;

impl Store {
    pub fn start(name: &str, servers: &Path, home: &Path) -> io::Result<Store> {
        let log = home.join("store.log");
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        match name {
            "consul" => {
                let mut consul = Command::new(servers.join("consul"));
                consul.args(["agent", "-dev", "-bind", "127.0.0.1", "-dns-port", "-1", "-grpc-port", "-1"]);
                // A crowd comes from one address here.
                kernel::many_descriptors();
                consul.args(["-log-level", "err", "-hcl", "limits { http_max_conns_per_client = 15000 }"]);
                consul.args(["-http-port", &at.port().to_string()]);
                for port in ["-server-port", "-serf-lan-port", "-serf-wan-port"] {
                    consul.args([port, &free_port()?.to_string()]);
                }
                let running = Running::start(&mut consul, &log)?;
                ready(at, "/v1/status/leader", |body| body.contains(':'))?;
                Ok(Store::Consul(at, running))
            }
            "etcd" => {
                let peer = format!("http://127.0.0.1:{}", free_port()?);
                let client = format!("http://{at}");
                let mut etcd = Command::new(servers.join("etcd35"));
                etcd.args(["--name", "one", "--log-level", "warn", "--unsafe-no-fsync", "--data-dir"]);
                etcd.arg(home.join("etcd")).args(["--listen-client-urls", &client]);
                etcd.args(["--advertise-client-urls", &client, "--listen-peer-urls", &peer]);
                etcd.args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("one={peer}")]);
                let running = Running::start(&mut etcd, &log)?;
                ready(at, "/health", |body| body.contains("true"))?;
                Ok(Store::Etcd(at, running))
            }
            _ => {
                let directory = home.join("catalog");
                // As agents make them: any other is taken for somebody else's.
                for name in ["", "tmp", "services", "keys"] {
                    open_to_all(&directory.join("pilotfish").join(name))?;
                }
                Ok(Store::Local(directory))
            }
        }
    }

    /// The `[catalog]` of who speaks to it.
    pub fn config(&self) -> String {
        match self {
            Store::Local(directory) => format!("backend = \"local\"\ndirectory = \"{}\"\n", directory.display()),
            Store::Consul(at, _) | Store::Etcd(at, _) => self.config_by(*at),
        }
    }

    /// The same by way of a relay.
    pub fn config_by(&self, at: SocketAddr) -> String {
        match self {
            Store::Local(_) => self.config(),
            Store::Consul(..) => format!("backend = \"consul\"\naddress = \"http://{at}\"\n"),
            Store::Etcd(..) => format!("backend = \"etcd\"\nendpoints = [\"http://{at}\"]\n"),
        }
    }

    pub fn server(&self) -> Option<(SocketAddr, u32)> {
        match self {
            Store::Local(_) => None,
            Store::Consul(at, running) | Store::Etcd(at, running) => Some((*at, running.0.id())),
        }
    }

    /// Registers an instance of a service, or gives it another port.
    pub fn register(&self, service: &str, id: &str, port: u16, held: &mut Held) -> io::Result<()> {
        let entry = format!(
            r#"{{"id":"{id}","name":"{service}","address":"192.0.2.1","port":{port},"tags":[],"meta":{{}},"status":"passing"}}"#
        );
        match self {
            Store::Local(directory) => {
                let service = directory.join("pilotfish/services").join(service);
                if !service.exists() {
                    open_to_all(&service)?;
                }
                let draft = directory.join("pilotfish/tmp/draft");
                let mut file = File::create_new(&draft)?;
                kernel::lock(&file)?;
                file.write_all(entry.as_bytes())?;
                fs::rename(&draft, service.join(id))?;
                held.insert(id.to_owned(), file);
                Ok(())
            }
            Store::Consul(at, _) => {
                let body = format!(
                    r#"{{"ID":"{id}","Name":"{service}","Address":"192.0.2.1","Port":{port},
                        "Check":{{"CheckID":"{id}","TTL":"1h","Status":"passing"}}}}"#
                );
                ask(*at, "PUT", "/v1/agent/service/register", &body).map(drop)
            }
            Store::Etcd(at, _) => {
                let key = base64(format!("pilotfish/services/{service}/{id}").as_bytes());
                let body = format!(r#"{{"key":"{key}","value":"{}"}}"#, base64(entry.as_bytes()));
                ask(*at, "POST", "/v3/kv/put", &body).map(drop)
            }
        }
    }

    /// One of many that nobody changes: on Consul of a node without an agent, whose server has it at once.
    pub fn fill(&self, service: &str, id: &str, held: &mut Held) -> io::Result<()> {
        let Store::Consul(at, _) = self else { return self.register(service, id, 80, held) };
        let body = format!(
            r#"{{"Node":"elsewhere","Address":"192.0.2.1","Service":{{"ID":"{id}","Service":"{service}",
                "Address":"192.0.2.1","Port":80}}}}"#
        );
        ask(*at, "PUT", "/v1/catalog/register", &body).map(drop)
    }
}

fn open_to_all(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o777))
}

pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn ready(at: SocketAddr, path: &str, so: impl Fn(&str) -> bool) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if ask(at, "GET", path, "").is_ok_and(|body| so(&body)) {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    Err(io::Error::other(format!("{at}{path} isn't ready after 30 s")))
}

/// One exchange: what came, if its status is 200.
pub fn ask(at: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(&mut stream, method, path, body)
}

/// The same on a connection that is there.
pub fn exchange(stream: &mut (impl Read + Write), method: &str, path: &str, body: &str) -> io::Result<String> {
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_whitespace().nth(1) {
        Some("200") => Ok(answer),
        _ => Err(io::Error::other(format!("{method} {path}: {answer}"))),
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().enumerate().fold(0u32, |bits, (n, byte)| bits | u32::from(*byte) << (16 - 8 * n));
        for letter in 0..4 {
            let index = (bits >> (18 - 6 * letter) & 63) as usize;
            text.push(if letter > three.len() { '=' } else { char::from(LETTERS[index]) });
        }
    }
    text
}

/// A process that ends with this value, by SIGTERM and then by SIGKILL.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Running> {
        let log = File::create(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        #[allow(unsafe_code)]
        // SAFETY: what runs between fork and exec calls the kernel alone.
        unsafe {
            command.pre_exec(kernel::end_with_parent)
        };
        command.spawn().map(Running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kernel::kill(self.0.id(), kernel::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && matches!(self.0.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program as PID 1 of a namespace of its own, killed with all that is in it when the value is dropped.
pub struct Container {
    child: Child,
    program: PathBuf,
}

impl Container {
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> io::Result<Container> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        #[allow(unsafe_code)]
        // SAFETY: what runs between fork and exec calls the kernel alone.
        unsafe {
            command.pre_exec(kernel::be_contained)
        };
        let _namespace = kernel::NewPidNamespace::enter()?;
        Ok(Container { child: command.spawn()?, program: program.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Its own process, and a leader's guard.
    fn own_processes(&self) -> Vec<u32> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).unwrap_or_default();
        let is_own = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == self.program);
        let guards = children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_own);
        std::iter::once(self.pid()).chain(guards).collect()
    }

    /// KiB: its share of what is mapped, and what only it holds.
    pub fn memory(&self) -> (u64, u64) {
        let (mut share, mut own) = (0, 0);
        for pid in self.own_processes() {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            share += kibibytes(&rollup, "Pss:");
            own += kibibytes(&rollup, "Private_Dirty:");
        }
        (share, own)
    }

    /// Nanoseconds that its threads have run.
    pub fn spent(&self) -> u64 {
        self.own_processes().into_iter().map(spent).sum()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nanoseconds that the threads of a process have run.
pub fn spent(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    times.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
}

pub fn kibibytes(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// A directory that goes with this value.
pub struct Home(pub PathBuf);

impl Home {
    pub fn new(name: &str) -> io::Result<Home> {
        let home = Home(std::env::temp_dir().join(format!("pilotfish-{name}.{}", std::process::id())));
        fs::create_dir_all(&home.0)?;
        Ok(home)
    }

    /// A copy of a program, as an image holds one: not shared with others who run the original, and on the disk, or its
    /// pages count as dirty.
    pub fn copy(&self, program: &Path, name: &str) -> io::Result<PathBuf> {
        let copy = self.0.join(name);
        fs::copy(program, &copy)?;
        File::open(&copy)?.sync_all()?;
        Ok(copy)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `values` are below in so many per cent; they must be sorted.
pub fn percentile(values: &[i64], part: usize) -> Option<i64> {
    values.get((values.len() * part / 100).min(values.len().saturating_sub(1))).copied()
}

pub mod targets {
    //! What agents check: an HTTP server that notes when each check came. An agent's number is its path.

    use super::kernel;
    use std::collections::HashMap;
    use std::io::{self, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};
    use std::thread;
    use std::time::Duration;

    /// Each has a thread, and the checks of one number always come to the same.
    const THREADS: usize = 4;

    type Came = Arc<Mutex<HashMap<u32, Vec<i64>>>>;

    pub struct Targets {
        at: Vec<SocketAddr>,
        came: Vec<Came>,
    }

    impl Targets {
        pub fn listen() -> io::Result<Targets> {
            let mut targets = Targets { at: Vec::new(), came: Vec::new() };
            for _ in 0..THREADS {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                targets.at.push(listener.local_addr()?);
                let came = Came::default();
                targets.came.push(Arc::clone(&came));
                thread::spawn(move || {
                    for stream in listener.incoming().flatten() {
                        let at = kernel::now();
                        if let Ok(number) = answer(stream) {
                            came.lock().expect("nobody panics with it").entry(number).or_default().push(at);
                        }
                    }
                });
            }
            Ok(targets)
        }

        pub fn url(&self, number: u32) -> String {
            format!("http://{}/{number}", self.at[number as usize % THREADS])
        }

        /// Forgets what came.
        pub fn forget(&self) {
            for came in &self.came {
                came.lock().expect("nobody panics with it").clear();
            }
        }

        /// By number, when its checks came.
        pub fn came(&self) -> HashMap<u32, Vec<i64>> {
            let lock = |came: &Came| came.lock().expect("nobody panics with it").clone();
            self.came.iter().flat_map(lock).collect()
        }
    }

    fn answer(mut stream: TcpStream) -> io::Result<u32> {
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        let mut head = [0; 1024];
        let mut length = 0;
        while !head[..length].ends_with(b"\r\n\r\n") && length < head.len() {
            match stream.read(&mut head[length..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => length += read,
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head[..length]);
        let path = head.split(' ').nth(1).unwrap_or_default();
        path.trim_start_matches('/').parse().map_err(io::Error::other)
    }

    /// By how many nanoseconds checks of one number came late, between `from` and `until`: what passed between two of
    /// them beyond `interval`. Who never came in all that time is late by all of it.
    pub fn lateness(came: &[i64], from: i64, until: i64, interval: i64) -> Vec<i64> {
        let inside = came.iter().copied().filter(|at| (from..until).contains(at));
        let mut times: Vec<i64> = inside.collect();
        times.sort_unstable();
        if times.is_empty() {
            return vec![until - from];
        }
        let late = |gap: i64| (gap - interval).max(0);
        // What is missing at either end is late, too.
        let edges = [late(times[0] - from), late(until - times[times.len() - 1])];
        let edges = edges.into_iter().filter(|late| *late > 0);
        times.windows(2).map(|two| late(two[1] - two[0])).chain(edges).collect()
    }
}
