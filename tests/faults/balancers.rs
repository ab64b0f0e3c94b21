//! nginx and HAProxy with backends from a catalog, over many changes on IPv4 and IPv6, with outages and restarts in
//! between: no config is rejected by the program it is for, and no file ever holds a list that nobody reported.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::lab::Lab;
use crate::support::namespace::{Container, eventually};
use crate::support::servers::{Consul, Etcd, free_port};

/// Backends, as a config names them.
type Backends = BTreeSet<String>;

/// A catalog in which instances come and go, and that fails.
trait Catalog {
    fn settings(&self) -> String;
    fn add(&self, id: usize, host: &str, port: u16);
    fn remove(&self, id: usize);
    fn fail(&mut self);
    fn recover(&mut self);
}

impl Catalog for Consul {
    fn settings(&self) -> String {
        format!("backend = \"consul\"\naddress = \"http://{}\"\n", self.http)
    }

    fn add(&self, id: usize, host: &str, port: u16) {
        let service = format!("{{\"Service\": \"app\", \"ID\": \"app-{id}\", \"Port\": {port}}}");
        let body = format!("{{\"Node\": \"node{id}\", \"Address\": \"{host}\", \"Service\": {service}}}");
        assert_eq!(self.ask("PUT", "/v1/catalog/register", &body).0, 200);
    }

    fn remove(&self, id: usize) {
        let body = format!("{{\"Node\": \"node{id}\"}}");
        assert_eq!(self.ask("PUT", "/v1/catalog/deregister", &body).0, 200);
    }

    // It keeps nothing on a disk, so it must not end.
    fn fail(&mut self) {
        self.process().signal(Signal::SIGSTOP);
    }

    fn recover(&mut self) {
        self.process().signal(Signal::SIGCONT);
    }
}

impl Catalog for Etcd {
    fn settings(&self) -> String {
        format!("backend = \"etcd\"\nendpoints = [\"http://{}\"]\n", self.client())
    }

    fn add(&self, id: usize, host: &str, port: u16) {
        let value = format!(
            "{{\"id\": \"app-{id}\", \"name\": \"app\", \"address\": \"{host}\", \"port\": {port}, \"status\": \"passing\"}}"
        );
        self.ctl(&["put", &format!("pilotfish/services/app/app-{id}"), &value]).unwrap();
    }

    fn remove(&self, id: usize) {
        self.ctl(&["del", &format!("pilotfish/services/app/app-{id}")]).unwrap();
    }

    fn fail(&mut self) {
        self.down();
    }

    fn recover(&mut self) {
        self.up();
    }
}

/// What a config has its traffic go to; `None` while there is no file.
fn backends(config: &Path) -> Option<Backends> {
    let text = fs::read_to_string(config).ok()?;
    let servers = text.lines().map(str::trim).filter(|line| line.starts_with("server ") && line.contains(':'));
    let words = servers.filter_map(|line| line.split_whitespace().find(|word| word.contains(':')));
    Some(words.map(|word| word.trim_end_matches(';').to_owned()).filter(|word| word != "127.0.0.1:1").collect())
}

/// Looks at a file again and again: every list that was ever in it, each time it was another one.
struct Witness {
    stop: Arc<AtomicBool>,
    seen: std::thread::JoinHandle<Vec<Backends>>,
}

impl Witness {
    fn of(config: PathBuf) -> Witness {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let seen = std::thread::spawn(move || {
            let mut seen: Vec<Backends> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if let Some(now) = backends(&config)
                    && seen.last() != Some(&now)
                {
                    seen.push(now);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        Witness { stop, seen }
    }

    fn end(self) -> Vec<Backends> {
        self.stop.store(true, Ordering::Relaxed);
        self.seen.join().unwrap()
    }
}

fn lab(catalog: &dyn Catalog) -> Lab {
    let nginx = fs::read_to_string("config-examples/nginx/nginx.conf.j2").unwrap();
    let watch = |name: &str, check: &str| {
        format!(
            "[[watch]]\nname = \"{name}\"\nservice = \"app\"\nsettle = \"20ms\"\n\
             template = {{ source = \"DIR/{name}.j2\", destination = \"DIR/{name}.conf\", check = {check} }}\n"
        )
    };
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n[catalog]\n{}{}{}",
        catalog.settings(),
        watch("nginx", "[\"nginx\", \"-t\", \"-q\", \"-g\", \"pid DIR/nginx.pid;\", \"-c\", \"{}\"]"),
        watch("haproxy", "[\"haproxy\", \"-c\", \"-q\", \"-f\", \"{}\"]"),
    ));
    // nginx binds what it listens to even when it only looks at a config.
    let listen = format!("listen 127.0.0.1:{};", free_port());
    assert!(nginx.contains("listen 80;"));
    fs::write(lab.path("nginx.j2"), nginx.replace("listen 80;", &listen)).unwrap();
    fs::copy("config-examples/haproxy.cfg.j2", lab.path("haproxy.j2")).unwrap();
    lab
}

fn run(lab: &Lab) -> Container {
    lab.run_as(lab.start().env("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
}

/// So many changes; each fifth is followed by an outage, and in every second one the container is started again.
fn over(changes: usize, mut catalog: impl Catalog) {
    let lab = lab(&catalog);
    let files = ["nginx.conf", "haproxy.conf"].map(|name| lab.path(name));
    let (mut now, mut reported, mut log) = (Backends::new(), Vec::new(), String::new());
    let mut there: Vec<(usize, String)> = Vec::new();
    let mut change = |catalog: &dyn Catalog, index: usize, now: &mut Backends, reported: &mut Vec<Backends>| {
        // Up to four at a time, IPv4 and IPv6 in turn; never none, so that an empty list is nobody's.
        if there.len() > 3 || (index % 3 == 2 && there.len() > 1) {
            let (id, backend) = there.remove(index % there.len());
            now.remove(&backend);
            reported.push(now.clone());
            catalog.remove(id);
        } else {
            let port = 8000 + u16::try_from(index).unwrap();
            let (host, shown) = match index % 2 {
                0 => (format!("192.0.2.{}", index % 250 + 1), format!("192.0.2.{}:{port}", index % 250 + 1)),
                _ => (format!("2001:db8::{index:x}"), format!("[2001:db8::{index:x}]:{port}")),
            };
            now.insert(shown.clone());
            reported.push(now.clone());
            catalog.add(index, &host, port);
            there.push((index, shown));
        }
    };
    change(&catalog, 0, &mut now, &mut reported);
    let witnesses = files.clone().map(Witness::of);
    let mut container = run(&lab);
    for index in 1..=changes {
        change(&catalog, index, &mut now, &mut reported);
        for file in &files {
            eventually("the change", || (backends(file).as_ref() == Some(&now)).then_some(()))
                .unwrap_or_else(|error| panic!("{error} {index}: {now:?} {:?} {}", backends(file), container.stderr()));
        }
        if index.is_multiple_of(5) {
            catalog.fail();
            if index.is_multiple_of(10) {
                container.signal(libc::SIGTERM);
                container.wait().unwrap();
                log += &container.stderr();
                container = run(&lab);
                eventually("main", || container.children().first().copied()).unwrap();
            }
            std::thread::sleep(Duration::from_millis(100));
            catalog.recover();
        }
    }
    log += &container.stderr();
    for (witness, file) in witnesses.into_iter().zip(&files) {
        let seen = witness.end();
        let unreported: Vec<_> = seen.iter().filter(|list| !reported.contains(list)).collect();
        assert!(unreported.is_empty(), "{}: {unreported:?}", file.display());
        assert!(seen.len() > changes / 2, "it was looked at: {} lists of {changes} changes", seen.len());
    }
    let rejected: Vec<&str> = log.lines().filter(|line| line.contains("the template failed")).collect();
    assert!(rejected.is_empty(), "{rejected:?}");
}

#[test]
fn every_list_in_the_files_of_nginx_and_haproxy_was_reported_and_none_is_rejected_on_consul() {
    over(40, Consul::start());
}

#[test]
fn every_list_in_the_files_of_nginx_and_haproxy_was_reported_and_none_is_rejected_on_etcd() {
    over(40, Etcd::start("etcd35"));
}

#[test]
#[ignore = "minutes: make faults"]
fn two_hundred_changes_on_consul_and_etcd() {
    over(200, Consul::start());
    over(200, Etcd::start("etcd35"));
}
