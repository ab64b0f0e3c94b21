//! Everything that others may write to the agent, flooded at once: datagrams to the notify socket, output of checks,
//! connections at both doors, entries of a shared directory; and by itself, for a container has one catalog, what comes from
//! whoever answers in a store's place. The container goes on, hears its signals and ends.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::lab::Lab;
use crate::support::namespace::{Container, Start, eventually, pilotfish, specimen, within};
use nix::fcntl::{Flock, FlockArg};

/// Even beside a compiler a signal takes no longer, and neither does the end of a main that obeys at once; what a
/// starved loop did was never to hear them.
const BEARABLE: Duration = Duration::from_secs(5);
/// The same beside a flood of one source only. What a loop did that parsed it was to hear a signal 2 to 6 s late.
const BEARABLE_OF_ONE: Duration = Duration::from_secs(1);
/// `ulimit -n` of the container.
const DESCRIPTORS: usize = 64;
/// How long the floods last, at least.
const LASTS: Duration = Duration::from_secs(4);

/// Threads that flood until this is dropped.
struct Floods {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Floods {
    fn new() -> Floods {
        Floods { over: Arc::new(AtomicBool::new(false)), threads: Vec::new() }
    }

    fn add(&mut self, mut once: impl FnMut() + Send + 'static) {
        let over = Arc::clone(&self.over);
        self.threads.push(std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                once();
            }
        }));
    }
}

impl Drop for Floods {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Where main speaks to the agent, as it stands in its environment.
fn notify_socket(main: i32) -> SocketAddr {
    let name = eventually("NOTIFY_SOCKET", || {
        let environment = std::fs::read(format!("/proc/{main}/environ")).ok()?;
        let entry = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"NOTIFY_SOCKET=@"))?;
        Some(entry.to_vec())
    });
    SocketAddr::from_abstract_name(name.unwrap()).unwrap()
}

/// A message with as many descriptors as the kernel lets travel.
fn send_with_descriptors(socket: &UnixDatagram, to: &SocketAddr) {
    let descriptors = [socket.as_raw_fd(); 253];
    let to = nix::sys::socket::UnixAddr::new_abstract(to.as_abstract_name().unwrap()).unwrap();
    let rights = [nix::sys::socket::ControlMessage::ScmRights(&descriptors)];
    let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
    // A full queue is what a flood is for.
    let _ = nix::sys::socket::sendmsg(socket.as_raw_fd(), &[IoSlice::new(b"X=1")], &rights, flags, Some(&to));
}

/// A neighbour's instance, as long as the file is open.
fn register(services: &Path, id: &str, version: u64) -> Flock<File> {
    let draft = services.with_file_name(format!("{id}.draft"));
    let mut file = Flock::lock(File::create(&draft).unwrap(), FlockArg::LockExclusive).unwrap();
    let entry = format!(
        r#"{{"id":"{id}","name":"app","address":"192.0.2.1","port":1,"tags":["{version}"],"status":"passing"}}"#
    );
    file.write_all(entry.as_bytes()).unwrap();
    std::fs::rename(draft, services.join(id)).unwrap();
    file
}

fn heard(record: &Path) -> usize {
    std::fs::read_to_string(record).unwrap_or_default().lines().filter(|line| *line == "10").count()
}

/// From SIGUSR1 to the agent until main has it.
fn signal(container: &Container, record: &Path) -> Duration {
    let (before, sent) = (heard(record), Instant::now());
    container.signal(libc::SIGUSR1);
    within(BEARABLE, "SIGUSR1", || (heard(record) > before).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", last_lines(&container.stderr())));
    sent.elapsed()
}

fn percentiles(mut took: Vec<Duration>) -> String {
    took.sort();
    let [p50, p99, longest] = [took.len() / 2, took.len() * 99 / 100, took.len() - 1].map(|at| took[at]);
    format!("p50 {p50:?}, p99 {p99:?}, longest {longest:?}, of {}", took.len())
}

/// A cgroup of 64 MiB, for the agent and all that it starts.
struct Memory(PathBuf);

impl Memory {
    /// `None` where no cgroup can be made, which is said.
    fn limited() -> Option<Memory> {
        for (hierarchy, limit) in [("memory", "memory.limit_in_bytes"), ("", "memory.max")] {
            let directory = Path::new("/sys/fs/cgroup").join(hierarchy).join(format!("floods-{}", std::process::id()));
            if std::fs::create_dir(&directory).is_ok() {
                let memory = Memory(directory);
                if std::fs::write(memory.0.join(limit), "67108864").is_ok() {
                    return Some(memory);
                }
            }
        }
        println!("no cgroup can be made: memory is measured and not limited");
        None
    }

    fn entrance(&self) -> File {
        File::options().write(true).open(self.0.join("cgroup.procs")).unwrap()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // It can't be removed before the last process in it is gone.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn kilobytes(pid: i32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

fn config() -> String {
    let specimen = specimen();
    let noisy =
        ["\"yes\"", "\"cat\", \"/dev/zero\"", "\"sh\", \"-c\", \"yes >&2\"", "\"yes\", \"\\u001b[2J\\u009b31m\""];
    let checks = noisy.iter().enumerate().map(|(n, exec)| {
        format!("[[health]]\nname = \"noisy{n}\"\nexec = [{exec}]\ntimeout = \"20s\"\ninterval = \"100ms\"\n")
    });
    format!(
        "[process]\nexec = [\"{}\", \"record\", \"DIR/record\", \"15\"]\n\
         [[health]]\nname = \"said\"\nnotify = true\n{}\
         [catalog]\nbackend = \"local\"\ndirectory = \"DIR/shared\"\n\
         [[watch]]\nname = \"app\"\nservice = \"app\"\non_change = {{ exec = [\"true\"] }}\n\
         [telemetry]\nlisten = \"127.0.0.1:0\"\n",
        specimen.display(),
        checks.collect::<String>()
    )
}

#[test]
fn all_floods_at_once_delay_neither_a_signal_nor_the_end() {
    let lab = Lab::new(&config());
    let agent = pilotfish();
    let start =
        format!("ulimit -n {DESCRIPTORS}; exec {} -c {}", agent.display(), lab.path("pilotfish.toml").display());
    let start = Start::new(["/bin/sh", "-c", &start]);
    let memory = Memory::limited();
    let mut container = lab.run_as(match &memory {
        Some(memory) => start.in_cgroup(memory.entrance()),
        None => start,
    });
    let main = container.main().unwrap();
    let record = lab.path("record");
    eventually("main", || std::fs::read_to_string(&record).ok()?.contains("ready").then_some(())).unwrap();
    let services: PathBuf = lab.path("shared/pilotfish/services/app");
    eventually("the watch", || services.exists().then_some(())).unwrap();

    let at_rest = (0..100).map(|_| signal(&container, &record)).collect();
    println!("at rest, signal to main: {}", percentiles(at_rest));

    let mut floods = Floods::new();
    let to = notify_socket(main);
    for size in [1, 1, 5000] {
        let (socket, to, text) = (UnixDatagram::unbound().unwrap(), to.clone(), vec![b'x'; size]);
        socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        floods.add(move || {
            let _ = socket.send_to_addr(&text, &to);
        });
    }
    let socket = UnixDatagram::unbound().unwrap();
    floods.add(move || send_with_descriptors(&socket, &to));
    let relay = lab.path("control.sock");
    floods.add(move || {
        if let Ok(mut stream) = UnixStream::connect(&relay) {
            let _ = stream.write_all(b"GET /status HTTP/1.1\r\nHost: x\r\n");
        }
        std::thread::sleep(Duration::from_micros(200));
    });
    let mut entries: Vec<_> = (0..2000).map(|n| register(&services, &format!("a{n}"), 0)).collect();
    let mut version = 0;
    floods.add(move || {
        version += 1;
        entries[0] = register(&services, "a0", version);
        std::thread::sleep(Duration::from_millis(2));
    });

    let began = Instant::now();
    let mut took = Vec::new();
    while began.elapsed() < LASTS || took.len() < 10 {
        took.push(signal(&container, &record));
    }
    println!("flooded, signal to main: {}", percentiles(took));
    let agent = container.pid;
    let descriptors = std::fs::read_dir(format!("/proc/{agent}/fd")).unwrap().count();
    let memory = kilobytes(agent, "VmHWM:");
    assert!(descriptors <= DESCRIPTORS, "{descriptors} descriptors");
    assert!(memory < 64 * 1024, "{memory} kB");

    let sent = Instant::now();
    container.signal(libc::SIGTERM);
    let code = container.wait_for(BEARABLE);
    let log = container.stderr();
    assert_eq!(code, Ok(42), "{}", last_lines(&log));
    println!("SIGTERM to the end: {:?}; {descriptors} descriptors, {memory} kB", sent.elapsed());
    drop(floods);

    // Eight streams of at most 200 lines a second each, and little beside them.
    let (lines, seconds) = (log.lines().count(), began.elapsed().as_secs() as usize + 2);
    println!("{} lines a second", lines / seconds);
    assert!(lines < seconds * 8 * 200 + 300, "{lines} lines in {seconds} s");
    assert!(log.len() < seconds * 8 * 200 * 1024, "{} bytes in {seconds} s", log.len());
    let foreign = log.lines().filter(|line| line.contains("sd_notify")).count();
    assert!((1..=4).contains(&foreign), "{foreign} lines of sd_notify: {}", last_lines(&log));
    assert!(!log.contains('\u{9b}') && !log.contains('\u{1b}'), "what checks print is escaped");
}

/// What comes to no answer, however long it is parsed: from whom, a beginning, and what comes again and again. Of Consul heads
/// that say that more is to come, a chunk's size, and a body by one byte a chunk; of etcd, frames of a kind that HTTP/2 doesn't
/// know, and more room for what nobody sends.
const NEVER_AN_ANSWER: [(&str, &[u8], &[u8]); 5] = [
    (CONSUL, b"", b"HTTP/1.1 103 x\r\n\r\n"),
    (CONSUL, CHUNKED, b"0"),
    (CONSUL, CHUNKED, b"1\r\na\r\n"),
    (ETCD, SETTINGS, b"\0\0\0\xfa\0\0\0\0\0"),
    (ETCD, SETTINGS, b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01"),
];
const CONSUL: &str = "backend = \"consul\"\naddress = \"http://AT\"\n";
const ETCD: &str = "backend = \"etcd\"\nendpoints = [\"http://AT\"]\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// Floods whoever asks here, until they go.
fn flood(mut stream: TcpStream, (begins, again): (&[u8], &[u8]), sent: &AtomicU64) {
    let more = again.repeat(16 * 1024);
    let mut written = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(begins));
    while written.is_ok() {
        written = stream.write_all(&more);
        sent.fetch_add(more.len() as u64, Ordering::Relaxed);
    }
}

/// Where each connection is flooded, and how much it was sent.
fn flooding(begins: &'static [u8], again: &'static [u8]) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, sent) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let counter = Arc::clone(&sent);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sent = Arc::clone(&counter);
            std::thread::spawn(move || flood(stream, (begins, again), &sent));
        }
    });
    (at.to_string(), sent)
}

#[test]
fn who_answers_in_a_stores_place_without_end_delays_neither_a_signal_nor_the_end() {
    for (backend, begins, again) in NEVER_AN_ANSWER {
        let (at, sent) = flooding(begins, again);
        let lab = Lab::new(&format!(
            "[process]\nexec = [\"{}\", \"record\", \"DIR/record\", \"15\"]\n[catalog]\n{}\
             [[service]]\nname = \"app\"\nport = 80\naddress = [\"static:192.0.2.1\"]\n\
             [[watch]]\nname = \"app\"\nkey = \"k\"\non_change = {{ exec = [\"true\"] }}\n",
            specimen().display(),
            backend.replace("AT", &at)
        ));
        let mut container = lab.run();
        let record = lab.path("record");
        eventually("main", || std::fs::read_to_string(&record).ok()?.contains("ready").then_some(())).unwrap();
        eventually("the flood", || (sent.load(Ordering::Relaxed) > 4 << 20).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}", last_lines(&container.stderr())));
        let began = Instant::now();
        let mut took = Vec::new();
        while began.elapsed() < LASTS || took.len() < 10 {
            took.push(signal(&container, &record));
        }
        let (longest, sent) = (took.iter().copied().max().unwrap(), sent.load(Ordering::Relaxed) >> 20);
        let flood = String::from_utf8_lossy(again).escape_debug().to_string();
        println!("flooded with {flood:?}, {sent} MiB, signal to main: {}", percentiles(took));
        assert!(longest < BEARABLE_OF_ONE, "{longest:?}: {}", last_lines(&container.stderr()));
        let terminated = Instant::now();
        container.signal(libc::SIGTERM);
        assert_eq!(container.wait_for(BEARABLE), Ok(42), "{}", last_lines(&container.stderr()));
        println!("SIGTERM to the end: {:?}", terminated.elapsed());
    }
}

#[test]
fn what_main_says_is_heard_beside_a_flood_of_strangers() {
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", \"until [ -e DIR/go ]; do sleep 0.05; done; {} notify READY=1; exec sleep 1000\"]\n\
         [[health]]\nname = \"said\"\nnotify = true\n",
        specimen().display()
    ));
    let container = lab.run();
    let to = notify_socket(container.main().unwrap());
    let mut floods = Floods::new();
    for _ in 0..2 {
        let (socket, to) = (UnixDatagram::unbound().unwrap(), to.clone());
        socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        floods.add(move || {
            let _ = socket.send_to_addr(b"READY=1", &to);
        });
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(!container.stderr().contains("check said passes"), "strangers aren't believed");
    std::fs::write(lab.path("go"), "").unwrap();
    eventually("main's word", || container.stderr().contains("check said passes").then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", last_lines(&container.stderr())));
}

#[test]
fn a_main_that_floods_signals_is_killed_when_time_is_up() {
    let flood = "while :; do kill -36 1; kill -37 1; kill -WINCH 1; done";
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", \"trap '' TERM 36 37; ({flood}) & ({flood}) & touch DIR/ready; {flood}\"]\n\
         [stop]\nwithin = \"2s\"\n[[health]]\nname = \"beside\"\nexec = [\"true\"]\ninterval = \"200ms\"\n"
    ));
    let mut container = lab.run();
    eventually("main", || lab.path("ready").exists().then_some(())).unwrap();
    // A check runs, and the door answers.
    eventually("health", || (lab.ask(&["health"]).0 == 0).then_some(())).unwrap();
    let sent = Instant::now();
    container.signal(libc::SIGTERM);
    let code = container.wait_for(Duration::from_secs(2) + BEARABLE);
    assert_eq!(code, Ok(137), "{}", last_lines(&container.stderr()));
    println!("SIGTERM to the end, [stop] within 2s: {:?}", sent.elapsed());
}
