//! A network of hosts, to be cut: each host is a network namespace of its own on one switch, which is a bridge in a
//! namespace too. Nothing of it touches the machine's own interfaces, and several labs stand side by side.
//!
//! A partition drops frames on the switch, as a broken network does: open connections aren't reset, they go silent.
//! Each change is one nft transaction, so no host sees half a partition. Address resolution passes always, as if
//! routers stood between the hosts: a silent peer, not one the kernel knows to be gone.
#![allow(dead_code, reason = "what one subject leaves unused, another needs")]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::support::namespace::within as in_time;

/// Where ip(8) keeps the namespaces it has named.
const NAMESPACES: &str = "/run/netns";

/// Begins the name of each namespace of a lab, before the number of its test program, which tells who left it behind.
const MARK: &str = "pilotfish-test";

/// The switch's namespace, among those of the hosts.
const SWITCH: &str = "switch.";

/// Hosts on one switch. Dropping it ends what runs in them and removes everything.
pub struct Lab {
    name: String,
    hosts: Vec<String>,
    third: u8,
    wires: Mutex<Wires>,
}

/// What the switch drops.
#[derive(Default)]
struct Wires {
    /// What the first sends to the second.
    cut: BTreeSet<(String, String)>,
    /// The percentage of what a host sends and gets.
    loss: BTreeMap<String, u8>,
}

impl Lab {
    /// A network of these hosts (lower-case, at most 15 characters), where everyone reaches everyone.
    pub fn new(hosts: &[&str]) -> Lab {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        remove_what_the_dead_left();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let born = birth(pid).expect("this process lives");
        let lab = Lab {
            name: format!("{MARK}.{pid}.{born}.{count}."),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            third: count,
            wires: Mutex::default(),
        };
        let switch = lab.full(SWITCH);
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0"]);
        ip(&["-n", &switch, "link", "set", "dev", "br0", "up"]);
        for host in hosts {
            let (name, address) = (lab.full(host), format!("{}/24", lab.ip(host)));
            ip(&["netns", "add", &name]);
            // Both ends are born where they belong: the machine's own namespace never sees them.
            let peer = ["type", "veth", "peer", "name", host, "netns", &switch];
            ip(&[&["link", "add", "name", "eth0", "netns", &name], &peer[..]].concat());
            ip(&["-n", &switch, "link", "set", "dev", host, "master", "br0", "up"]);
            ip(&["-n", &name, "link", "set", "dev", "lo", "up"]);
            ip(&["-n", &name, "addr", "add", &address, "dev", "eth0"]);
            ip(&["-n", &name, "link", "set", "dev", "eth0", "up"]);
        }
        lab
    }

    /// A host's address.
    pub fn ip(&self, host: &str) -> Ipv4Addr {
        let index = self.hosts.iter().position(|known| known == host).unwrap_or_else(|| panic!("no host {host}"));
        Ipv4Addr::new(10, 77, self.third, u8::try_from(index + 1).expect("a lab is small"))
    }

    /// A host's network namespace, for [`Start::network`](crate::support::namespace::Start::network) and [`inside`].
    pub fn namespace(&self, host: &str) -> PathBuf {
        Path::new(NAMESPACES).join(self.full(host))
    }

    /// A command on a host.
    pub fn command(&self, host: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        command_in(&self.namespace(host), program)
    }

    /// Carries something out as if this thread were on a host: every socket made meanwhile is the host's.
    pub fn on<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.namespace(host), work)
    }

    /// Each of these alone, the others together. Like each of the following it takes the place of the last partition.
    pub fn isolate(&self, hosts: &[&str]) {
        let alone: Vec<&[&str]> = hosts.chunks(1).collect();
        self.split(&alone);
    }

    /// These groups; hosts that are in none form one more.
    pub fn split(&self, groups: &[&[&str]]) {
        let group = |host: &String| groups.iter().position(|group| group.contains(&host.as_str()));
        self.cut_where(|from, to| group(from) != group(to));
    }

    /// Between these pairs nothing passes.
    pub fn cut(&self, pairs: &[(&str, &str)]) {
        self.cut_where(|from, to| {
            pairs.iter().any(|(one, other)| (one == from && other == to) || (one == to && other == from))
        });
    }

    /// What the first of each pair sends to the second is lost; the other way it arrives.
    pub fn one_way(&self, pairs: &[(&str, &str)]) {
        self.cut_where(|from, to| pairs.iter().any(|(one, other)| one == from && other == to));
    }

    /// That percentage of what a host sends and gets is lost; 0 ends it. Partitions neither end it nor begin it.
    pub fn loss(&self, host: &str, percent: u8) {
        self.change(|wires| {
            wires.loss.insert(host.to_owned(), percent.min(100));
        });
    }

    /// Everyone reaches everyone, and nothing is lost.
    pub fn heal(&self) {
        self.change(|wires| *wires = Wires::default());
    }

    fn cut_where(&self, apart: impl Fn(&String, &String) -> bool) {
        let pairs = || self.hosts.iter().flat_map(|from| self.hosts.iter().map(move |to| (from, to)));
        let cut = pairs().filter(|(from, to)| from != to && apart(from, to));
        let cut = cut.map(|(from, to)| (from.clone(), to.clone())).collect();
        self.change(|wires| wires.cut = cut);
    }

    fn change(&self, how: impl FnOnce(&mut Wires)) {
        let mut wires = self.wires.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        how(&mut wires);
        let mut rules = String::new();
        for (from, to) in &wires.cut {
            rules += &format!("meta iifname \"{from}\" meta oifname \"{to}\" counter drop\n");
        }
        for (host, percent) in wires.loss.iter().filter(|(_, percent)| **percent > 0) {
            // "Less than 100 of 100" is refused.
            let which = if *percent < 100 { format!("numgen random mod 100 < {percent}") } else { String::new() };
            for end in ["iifname", "oifname"] {
                rules += &format!("meta {end} \"{host}\" {which} counter drop\n");
            }
        }
        // Naming it first lets it be deleted where it isn't yet.
        let table = format!(
            "table bridge wires\ndelete table bridge wires\ntable bridge wires {{\nchain forward {{\n\
             type filter hook forward priority 0; policy accept;\nether type arp accept\n{rules}}}\n}}\n"
        );
        let mut nft = self.command(SWITCH, tool("nft"));
        let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft can be run");
        nft.stdin.take().expect("just made").write_all(table.as_bytes()).expect("nft reads");
        assert!(nft.wait().expect("nft ends").success(), "nft refused:\n{table}");
    }

    fn full(&self, host: &str) -> String {
        format!("{}{host}", self.name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// A command in a network namespace.
pub fn command_in(namespace: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(tool("ip"));
    command.args(["netns", "exec"]).arg(namespace.file_name().expect("a name")).arg(program);
    command
}

/// Carries something out in a network namespace, on a thread of its own: a namespace is a thread's.
pub fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            let namespace = File::open(namespace).expect("the host is there");
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may go there");
            work()
        });
        done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn ip(arguments: &[&str]) {
    let output = run(arguments);
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn run(arguments: &[&str]) -> Output {
    Command::new(tool("ip")).args(arguments).stdin(Stdio::null()).output().expect("ip can be run: see tests/setup.sh")
}

/// Where a tool is: an ordinary user's PATH needn't hold sbin.
fn tool(name: &str) -> PathBuf {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|place| Path::new(place).join(name));
    places.into_iter().find(|place| place.exists()).unwrap_or_else(|| name.into())
}

/// When a living process began, in ticks since boot: its number alone may be another's by now (proc_pid_stat(5)).
fn birth(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    // A zombie has died, though nobody has asked yet.
    fields.next().filter(|state| *state != "Z")?;
    fields.nth(18)?.parse().ok()
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn remove_what_the_dead_left() {
    for name in names() {
        let mut parts = name.split('.');
        if parts.next() != Some(MARK) {
            continue;
        }
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (Some(pid), Some(born)) = (number(), number()) else { continue };
        if birth(u32::try_from(pid).unwrap_or(0)) != Some(born) {
            remove(&name);
        }
    }
}

/// Ends what runs in the namespaces whose names begin so, and removes them. What another removes meanwhile is no harm.
fn remove(prefix: &str) {
    for name in names().into_iter().filter(|name| name.starts_with(prefix)) {
        let empty = in_time(Duration::from_secs(5), "the host's end", || {
            let pids = String::from_utf8(run(&["netns", "pids", &name]).stdout).unwrap_or_default();
            let pids = pids.split_whitespace().filter_map(|pid| pid.parse().ok());
            let living = pids.map(|pid| kill(nix::unistd::Pid::from_raw(pid))).count();
            (living == 0).then_some(())
        });
        if let Err(error) = empty {
            eprintln!("{name}: {error}");
        }
        let _ = run(&["netns", "del", &name]);
    }
}

fn kill(pid: nix::unistd::Pid) {
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
}

#[test]
fn a_cut_goes_silent_one_way_or_both_and_heals() {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    let lab = Lab::new(&["a", "b", "c"]);
    let at = SocketAddr::from((lab.ip("b"), 7000));
    let listener = lab.on("b", || TcpListener::bind(at).unwrap());
    let mut far = lab.on("a", || TcpStream::connect_timeout(&at, Duration::from_secs(5)).unwrap());
    let (mut near, _) = listener.accept().unwrap();
    let soon = Some(Duration::from_millis(300));
    far.set_read_timeout(soon).unwrap();
    near.set_read_timeout(soon).unwrap();
    let passes = |from: &mut TcpStream, to: &mut TcpStream| {
        from.write_all(b"x").unwrap();
        let mut byte = [0];
        // What was cut off comes again by itself (TCP): once it is whole, it comes late.
        in_time(Duration::from_secs(1), "a byte", || to.read(&mut byte).ok()).is_ok()
    };
    assert!(passes(&mut far, &mut near) && passes(&mut near, &mut far));
    lab.isolate(&["c"]);
    assert!(passes(&mut far, &mut near), "c is alone, and only c");
    lab.one_way(&[("a", "b")]);
    assert!(!passes(&mut far, &mut near));
    // B's own words arrive; the receipts for them don't come back, and that is TCP's matter.
    assert!(passes(&mut near, &mut far));
    lab.heal();
    assert!(in_time(Duration::from_secs(5), "the lost byte", || passes(&mut far, &mut near).then_some(())).is_ok());
    lab.split(&[&["a", "c"], &["b"]]);
    assert!(!lab.on("c", || TcpStream::connect_timeout(&at, Duration::from_millis(500)).is_ok()));
    lab.loss("c", 100);
    lab.cut(&[("a", "b")]);
    assert!(!lab.on("c", || TcpStream::connect_timeout(&at, Duration::from_millis(500)).is_ok()));
    lab.heal();
    assert!(lab.on("c", || TcpStream::connect_timeout(&at, Duration::from_secs(5)).is_ok()));
    assert!(lab.command("c", "true").status().unwrap().success());
    let name = lab.name.clone();
    let mut left = lab.command("c", "sleep").arg("1000").spawn().unwrap();
    in_time(Duration::from_secs(5), "the sleeper", || {
        (!run(&["netns", "pids", &lab.full("c")]).stdout.is_empty()).then_some(())
    })
    .unwrap();
    drop(lab);
    assert!(!left.wait().unwrap().success());
    assert!(!names().iter().any(|left| left.starts_with(&name)));
}

#[test]
fn clusters_and_agents_stand_on_hosts_and_a_leader_that_is_cut_off_loses_its_office() {
    use crate::support::namespace::Start;
    use crate::support::servers::{ConsulCluster, EtcdCluster};
    let lab = Lab::new(&["s0", "s1", "s2", "a0"]);
    let etcd = EtcdCluster::start_in("etcd35", &lab, &["s0", "s1", "s2"]);
    let leader = in_time(Duration::from_secs(20), "a leader", || etcd.leader()).unwrap();
    lab.isolate(&[["s0", "s1", "s2"][leader]]);
    let other = || (0..3).find(|index| *index != leader && etcd.ctl(*index, &["put", "key", "value"]).is_ok());
    in_time(Duration::from_secs(20), "another leader", other).unwrap();
    assert!(etcd.ctl(leader, &["--command-timeout=1s", "get", "key"]).is_err(), "it is alone");
    lab.heal();
    in_time(Duration::from_secs(20), "the truth", || etcd.ctl(leader, &["get", "key"]).ok()).unwrap();
    drop(etcd);
    let consul = ConsulCluster::start_in(&lab, &["s0", "s1", "s2", "a0"]);
    assert!(consul.leader(3).is_some(), "the client on a0 knows who leads");
    let script = format!(
        "exec 3<>/dev/tcp/{}/8500; printf 'GET /v1/status/leader HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3",
        lab.ip("a0")
    );
    let mut asking = Start::new(["/bin/bash", "-c", &script]).network(&lab.namespace("a0")).run().unwrap();
    assert_eq!(asking.wait(), Ok(0), "{}", asking.stderr());
    assert!(asking.stdout().contains(":8300"), "{}", asking.stdout());
}
