//! What a catalog that stays away costs an agent: its memory and its descriptors don't grow, however the catalog fails.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use crate::support::lab::Lab;
use crate::support::namespace::Container;

/// How a catalog fails.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Nobody listens.
    Refused,
    /// The kernel accepts; nobody reads.
    HalfOpen,
    /// An error or garbage in turn, a megabyte long.
    Nonsense,
}

/// A listener that fails so, as long as the test program lives; for `Refused`, a port that is nobody's.
fn failing(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    match fault {
        Fault::Refused => {}
        Fault::HalfOpen => drop(std::thread::spawn(move || {
            let mut held = Vec::new();
            // Held open, read never; bounded all the same.
            for stream in listener.incoming().take(10_000) {
                held.push(stream);
            }
        })),
        Fault::Nonsense => drop(std::thread::spawn(move || {
            for (turn, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let _ = stream.read(&mut [0; 4096]);
                let status = if turn % 2 == 0 { "500 Internal Server Error" } else { "200 OK" };
                let body = "garbage ".repeat(1 << 17);
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            }
        })),
    }
    at
}

/// The agent's memory in KiB, as resident and as its share, and its descriptors.
#[derive(Debug, Clone, Copy)]
struct Size {
    rss: u64,
    pss: u64,
    descriptors: usize,
}

fn size(container: &Container) -> Size {
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", container.pid)).expect("it lives");
    let line = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).expect("a line of it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    let descriptors = fs::read_dir(format!("/proc/{}/fd", container.pid)).expect("it lives").count();
    Size { rss: line("Rss:"), pss: line("Pss:"), descriptors }
}

fn agent(backend: &str, fault: Fault) -> (Lab, Container) {
    let at = failing(fault);
    let place = match backend {
        "consul" => format!("address = \"http://{at}\""),
        _ => format!("endpoints = [\"http://{at}\"]"),
    };
    let service = |name: &str| {
        format!("[[service]]\nname = \"{name}\"\nport = 80\naddress = [\"static:192.0.2.1\"]\nttl = \"3s\"\n")
    };
    let watch = |name: &str| {
        format!("[[watch]]\nname = \"{name}\"\nservice = \"{name}\"\non_change = {{ exec = [\"true\"] }}\n")
    };
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n{}{}{}{}{}\
         [[health]]\nname = \"one\"\nexec = [\"true\"]\ninterval = \"1s\"\n\
         [[health]]\nname = \"two\"\nhttp = \"http://{}/\"\ninterval = \"1s\"\ntimeout = \"500ms\"\n\
         [catalog]\nbackend = \"{backend}\"\n{place}\n",
        service("a"),
        service("b"),
        watch("x"),
        watch("y"),
        watch("z"),
        failing(Fault::Refused),
    ));
    let container = lab.run();
    (lab, container)
}

/// The most of each within a span: between two answers it comes and goes by what is being read.
fn most(agents: &[(Lab, Container)], span: Duration) -> Vec<Size> {
    let mut most = vec![Size { rss: 0, pss: 0, descriptors: 0 }; agents.len()];
    let start = Instant::now();
    while start.elapsed() < span {
        for ((_, container), most) in agents.iter().zip(&mut most) {
            let now = size(container);
            most.rss = most.rss.max(now.rss);
            most.pss = most.pss.max(now.pss);
            most.descriptors = most.descriptors.max(now.descriptors);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    most
}

/// All of them side by side: the most within the first span, and within as long a one at the end.
fn outages(span: Duration, between: Duration) {
    let faults = [Fault::Refused, Fault::HalfOpen, Fault::Nonsense];
    let kinds: Vec<_> =
        ["consul", "etcd"].into_iter().flat_map(|backend| faults.map(|fault| (backend, fault))).collect();
    let mut agents: Vec<_> = kinds.iter().map(|(backend, fault)| agent(backend, *fault)).collect();
    let before = most(&agents, span);
    std::thread::sleep(between);
    let after = most(&agents, span);
    println!("  {:<8} {:<10} {:>18} {:>18} {:>12}", "catalog", "fault", "RSS KiB", "PSS KiB", "descriptors");
    for (index, (backend, fault)) in kinds.into_iter().enumerate() {
        let (before, now, (_, container)) = (before[index], after[index], &mut agents[index]);
        let fault = format!("{fault:?}");
        println!(
            "  {backend:<8} {fault:<10} {:>7} -> {:>7} {:>7} -> {:>7} {:>4} -> {:>4}",
            before.rss, now.rss, before.pss, now.pss, before.descriptors, now.descriptors
        );
        assert_eq!(container.ended(), None, "{}", container.stderr());
        assert!(now.rss < before.rss + SLACK, "{backend} {fault}: {before:?} became {now:?}");
        // Two services and three watches with a connection each, and what an idle agent has.
        assert!(now.descriptors < 40, "{backend} {fault}: {before:?} became {now:?}");
        // A line an attempt would fill a disk; where each answer is another one, each is told.
        let lines = container.stderr().lines().count();
        assert!(lines < 60 || fault == "Nonsense", "{backend} {fault}: {lines} lines\n{}", container.stderr());
    }
}

/// In KiB: two services and three watches may read a megabyte each at once, or not.
const SLACK: u64 = 5 * 1024;

#[test]
fn a_catalog_that_stays_away_takes_no_memory_and_no_descriptors() {
    outages(Duration::from_secs(4), Duration::from_secs(1));
}

#[test]
#[ignore = "takes a minute: make faults"]
fn for_a_minute_a_catalog_that_stays_away_takes_no_memory_and_no_descriptors() {
    outages(Duration::from_secs(10), Duration::from_secs(40));
}
