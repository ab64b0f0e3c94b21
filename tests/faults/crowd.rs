//! Ten thousand instances, and more keys than are taken in, on each store: what the agent's memory comes to, what the
//! user is told, and how long a change takes to its hook. `make crowd`: minutes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::cell::RefCell;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

use crate::support::lab::Lab;
use crate::support::namespace::{Container, within};
use crate::support::servers::{Consul, Etcd, http};

const INSTANCES: usize = 10_000;
/// 50 MB in pieces that every store takes.
const KEYS: usize = 250;
const VALUE: usize = 200_000;
/// For all of them, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is taken in once, twice while it changes, and what was asked for on the way.
const MOST_MEMORY: u64 = 160 * 1024;

trait Store {
    fn config(&self) -> String;
    fn register(&self, n: usize, port: u16);
    fn put(&self, key: &str, value: &str);
}

fn address(n: usize) -> String {
    format!("10.0.{}.{}", n / 250, n % 250 + 1)
}

fn entry(n: usize, port: u16) -> String {
    let id = format!("a-{n:05}");
    json!({"id": id, "name": "app", "address": address(n), "port": port, "tags": ["v1"], "status": "passing"})
        .to_string()
}

impl Store for Consul {
    fn config(&self) -> String {
        format!("backend = \"consul\"\naddress = \"http://{}\"", self.http)
    }

    fn register(&self, n: usize, port: u16) {
        let service = json!({"ID": format!("a-{n:05}"), "Service": "app", "Address": address(n), "Port": port});
        let entry = json!({"Node": format!("n{}", n / 1000), "Address": "10.0.0.1", "Service": service});
        let (status, body) = self.ask("PUT", "/v1/catalog/register", &entry.to_string());
        assert_eq!(status, 200, "{body}");
    }

    fn put(&self, key: &str, value: &str) {
        assert_eq!(self.ask("PUT", &format!("/v1/kv/{key}"), value).0, 200);
    }
}

impl Store for Etcd {
    fn config(&self) -> String {
        format!("backend = \"etcd\"\nendpoints = [\"http://{}\"]", self.client())
    }

    fn register(&self, n: usize, port: u16) {
        write(self, &format!("pilotfish/services/app/a-{n:05}"), &entry(n, port));
    }

    fn put(&self, key: &str, value: &str) {
        write(self, &format!("pilotfish/keys/{key}"), value);
    }
}

fn write(etcd: &Etcd, key: &str, value: &str) {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let body = json!({"key": base64(key), "value": base64(value)}).to_string();
    let (status, body) = http(etcd.client(), "POST", "/v3/kv/put", &[], &body).expect("etcd answers");
    assert_eq!(status, 200, "{body}");
}

/// A directory, with the files of live instances.
struct Directory {
    directory: tempfile::TempDir,
    held: RefCell<Vec<Option<Flock<File>>>>,
}

impl Directory {
    fn new() -> Directory {
        // A descriptor for each instance.
        let most = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("a limit").1;
        let most = most.max(INSTANCES as u64 + 2000);
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most).expect("root");
        let new = Directory { directory: tempfile::tempdir().unwrap(), held: RefCell::default() };
        // As agents make them.
        for name in ["", "tmp", "services", "services/app", "keys"] {
            std::fs::create_dir_all(new.path(name)).unwrap();
            std::fs::set_permissions(new.path(name), Permissions::from_mode(0o777)).unwrap();
        }
        new.held.borrow_mut().resize_with(INSTANCES, || None);
        new
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("shared/pilotfish").join(name)
    }
}

impl Store for Directory {
    fn config(&self) -> String {
        format!("backend = \"local\"\ndirectory = \"{}\"", self.directory.path().join("shared").display())
    }

    fn register(&self, n: usize, port: u16) {
        let draft = self.path("tmp/by-hand");
        let mut file = Flock::lock(File::create(&draft).unwrap(), FlockArg::LockExclusive).unwrap();
        file.write_all(entry(n, port).as_bytes()).unwrap();
        std::fs::rename(draft, self.path(&format!("services/app/a-{n:05}"))).unwrap();
        self.held.borrow_mut()[n] = Some(file);
    }

    fn put(&self, key: &str, value: &str) {
        let draft = self.path("tmp/key");
        std::fs::write(&draft, value).unwrap();
        std::fs::rename(draft, self.path("keys").join(key.replace('/', "%2F"))).unwrap();
    }
}

fn follow(store: &dyn Store, what: &str) -> (Lab, Container) {
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n[[watch]]\nname = \"w\"\n{what}\nsettle = \"1ms\"\n\
         on_change = {{ exec = [\"sh\", \"-c\", \"cat >DIR/draft; mv DIR/draft DIR/seen\"] }}\n[catalog]\n{}\n",
        store.config()
    ));
    let container = lab.run();
    (lab, container)
}

fn kilobytes(container: &Container, file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/{file}", container.pid)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

fn sees(lab: &Lab, what: &str) {
    let seen = |file: &Path| std::fs::read_to_string(file).unwrap_or_default().contains(what);
    within(PATIENCE, what, || seen(&lab.path("seen")).then_some(())).unwrap();
}

fn crowd(name: &str, store: &dyn Store) {
    for n in 0..INSTANCES {
        store.register(n, 80);
    }
    let began = Instant::now();
    let (lab, mut container) = follow(store, "service = \"app\"");
    sees(&lab, &format!("a-{:05}", INSTANCES - 1));
    let first = began.elapsed();
    let mut took: Vec<Duration> = (1..=10)
        .map(|n| {
            let began = Instant::now();
            store.register(INSTANCES / 2, 10_000 + n);
            sees(&lab, &format!(":{}", 10_000 + n));
            began.elapsed()
        })
        .collect();
    took.sort();
    let [pss, peak] =
        [("smaps_rollup", "Pss:"), ("status", "VmHWM:")].map(|(file, field)| kilobytes(&container, file, field));
    println!(
        "{name}: {INSTANCES} instances: first seen after {first:?}; a change to its hook: median {:?}, longest {:?}; \
         PSS {pss} kB, at most {peak} kB resident",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    assert!(peak < MOST_MEMORY, "{peak} kB");
    container.signal(libc::SIGTERM);
    assert!(container.wait_for(Duration::from_secs(15)).is_ok());

    let value = "x".repeat(VALUE);
    for n in 0..KEYS {
        store.put(&format!("cfg/{n:04}"), &value);
    }
    let (lab, mut container) = follow(store, "key_prefix = \"cfg/\"");
    let told = || container.stderr().contains("more than pilotfish takes in").then_some(());
    within(PATIENCE, "what is too much", told).unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
    let status = lab.ask(&["status"]).1;
    assert!(status.contains("there is more than pilotfish takes in"), "{status}");
    let peak = kilobytes(&container, "status", "VmHWM:");
    println!("{name}: 50 MB of keys: told, and at most {peak} kB resident");
    assert!(peak < MOST_MEMORY, "{peak} kB");
    container.signal(libc::SIGTERM);
    assert!(container.wait_for(Duration::from_secs(15)).is_ok());
}

#[test]
#[ignore = "minutes: make crowd"]
fn ten_thousand_instances_in_a_directory_are_followed_within_bounds() {
    crowd("local", &Directory::new());
}

#[test]
#[ignore = "minutes: make crowd"]
fn ten_thousand_instances_in_consul_are_followed_within_bounds() {
    crowd("consul 1.8", &Consul::start());
}

#[test]
#[ignore = "minutes: make crowd"]
fn ten_thousand_instances_in_etcd_are_followed_within_bounds() {
    crowd("etcd 3.5", &Etcd::start("etcd35"));
}
