//! Both engines by name, asked of a name server behind one that is silent, with TLS, from a root that holds the agent,
//! `hosts`, `resolv.conf` and nothing else: no /dev, no libc, no authorities. And what a half-open engine, and storage
//! that hangs, cost the stop.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::ffi::{CStr, CString};
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use crate::support::lab::Lab;
use crate::support::namespace::{Container, Start, copy_program, pilotfish, specimen};
use crate::support::servers::{Certificates, Consul, Etcd, Names, Off, eventually, free_port};

const SOON: Duration = Duration::from_secs(15);

/// Runs the agent in such a root, with the catalog's config.
fn bare(certificates: &Certificates, names: &Names, catalog: &str) -> (tempfile::TempDir, Container) {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str| root.path().join(name);
    fs::create_dir(file("etc")).unwrap();
    fs::write(file("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(file("etc/resolv.conf"), names.resolv_conf()).unwrap();
    for name in ["ca.pem", "client.pem", "client-key.pem"] {
        fs::copy(certificates.path(name), file(name)).unwrap();
    }
    copy_program(&pilotfish(), &file("pilotfish"));
    copy_program(&specimen(), &file("main"));
    let config = format!(
        "[process]\nexec = [\"/main\", \"record\", \"/record\", \"15\"]\n[control]\nsocket = \"\"\n\
         [[service]]\nname = \"web\"\nid = \"web-1\"\nport = 80\naddress = [\"static:192.0.2.1\"]\n[catalog]\n{catalog}\
         tls = {{ ca = \"/ca.pem\", certificate = \"/client.pem\", key = \"/client-key.pem\" }}\n"
    );
    fs::write(file("pilotfish.toml"), config).unwrap();
    let container = Start::new(["/pilotfish", "-c", "/pilotfish.toml"]).root(root.path()).run().unwrap();
    (root, container)
}

#[test]
fn consul_is_reached_by_name_with_tls_from_a_root_with_nothing_in_it() {
    let certificates = Certificates::new(&["engine.test"]);
    let port = free_port();
    let config = serde_json::json!({
        "ports": {"https": port}, "verify_incoming_https": true, "ca_file": certificates.text("ca.pem"),
        "cert_file": certificates.text("server.pem"), "key_file": certificates.text("server-key.pem"),
    });
    let consul = Consul::start_with(&config.to_string(), "");
    let catalog = format!("backend = \"consul\"\naddress = \"https://engine.test:{port}\"\n");
    let names = Names::new("engine.test", vec![Ipv4Addr::LOCALHOST]);
    let (_root, mut container) = bare(&certificates, &names, &catalog);
    let registered = || consul.ask("GET", "/v1/health/service/web?passing", "").1.contains("web-1");
    until(&container, registered);
    container.signal(libc::SIGTERM);
    assert!(container.wait().is_ok(), "{}", container.stderr());
    assert!(!registered(), "it left: {}", container.stderr());
}

#[test]
fn etcd_is_reached_by_name_with_tls_from_a_root_with_nothing_in_it() {
    let certificates = Certificates::new(&["engine.test", "localhost"]);
    let etcd = Etcd::start_with_tls("etcd35", &certificates);
    let catalog = format!("backend = \"etcd\"\nendpoints = [\"https://engine.test:{}\"]\n", etcd.client().port());
    // The first of the members behind the name is off.
    let off = Off::new(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), etcd.client().port()));
    let names = Names::new("engine.test", vec![off.ip(), Ipv4Addr::LOCALHOST]);
    let (_root, mut container) = bare(&certificates, &names, &catalog);
    let registered = || etcd.ctl(&["get", "pilotfish/services/web/web-1"]).expect("an answer").contains("passing");
    until(&container, registered);
    container.signal(libc::SIGTERM);
    assert!(container.wait().is_ok(), "{}", container.stderr());
    assert!(!registered(), "it left: {}", container.stderr());
}

#[test]
fn a_name_server_that_is_silent_is_told_and_not_an_etcd() {
    let certificates = Certificates::new(&["engine.test"]);
    let names = Names::new("engine.test", vec![Ipv4Addr::LOCALHOST]);
    let catalog = format!("backend = \"etcd\"\nendpoints = [\"https://engine.test:{}\"]\n", free_port());
    let (root, container) = bare(&certificates, &names, &catalog);
    // It is read at each lookup.
    fs::write(root.path().join("etc/resolv.conf"), names.silent_resolv_conf()).unwrap();
    until(&container, || container.stderr().contains("engine.test can't be looked up: no answer within 1.8s"));
}

fn until(container: &Container, so: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !so() {
        assert!(Instant::now() < deadline, "{}", container.stderr());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Main that ends as soon as it is told to, on this catalog, with something to register and something to watch.
fn obedient(catalog: &str) -> Lab {
    Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", \"trap 'exit 3' TERM; echo main >> DIR/story; while :; do sleep 0.02; done\"]\n\
         [[service]]\nname = \"web\"\nid = \"web-1\"\nport = 80\naddress = [\"static:192.0.2.1\"]\n\
         [[watch]]\nname = \"app\"\nservice = \"app\"\non_change = {{ exec = [\"true\"] }}\n[catalog]\n{catalog}"
    ))
}

/// The catalog may cost the stop a second; the rest is main's shell and a busy machine.
#[track_caller]
fn ends_in_time(mut container: Container) {
    let begun = Instant::now();
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait(), Ok(3), "{}", container.stderr());
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}: {}", begun.elapsed(), container.stderr());
}

#[test]
fn an_engine_that_accepts_and_never_answers_costs_the_stop_a_second_at_most() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    for catalog in [
        format!("backend = \"consul\"\naddress = \"http://{at}\"\n"),
        format!("backend = \"consul\"\naddress = \"https://{at}\"\ntls = {{ server_name = \"x\" }}\n"),
        format!("backend = \"etcd\"\nendpoints = [\"http://{at}\"]\n"),
    ] {
        let lab = obedient(&catalog);
        let container = lab.run();
        lab.told("main");
        ends_in_time(container);
    }
}

#[test]
fn a_consul_that_hangs_with_us_registered_costs_the_stop_a_second_at_most() {
    let consul = Consul::start();
    let lab = obedient(&format!("backend = \"consul\"\naddress = \"http://{}\"\n", consul.http));
    let container = lab.run();
    lab.told("main");
    eventually("it is registered", SOON, || {
        consul.ask("GET", "/v1/health/service/web?passing", "").1.contains("web-1")
    });
    consul.process().signal(Signal::SIGSTOP);
    ends_in_time(container);
}

#[test]
fn an_etcd_that_hangs_with_us_registered_costs_the_stop_a_second_at_most() {
    let etcd = Etcd::start("etcd35");
    let lab = obedient(&format!("backend = \"etcd\"\nendpoints = [\"http://{}\"]\n", etcd.client()));
    let container = lab.run();
    lab.told("main");
    eventually("it is registered", SOON, || {
        etcd.ctl(&["get", "pilotfish/services/web/web-1"]).is_ok_and(|got| got.contains("passing"))
    });
    etcd.process().signal(Signal::SIGSTOP);
    ends_in_time(container);
}

/// Carries something out in a thread that sees storage that hangs at this directory: a file system in user space whose
/// server never says a word.
fn beside_hung_storage(at: &Path, work: impl FnOnce() + Send) {
    let place = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    let (root, at) = (place(Path::new("/")), place(at));
    let hung = move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&CStr>, root.as_c_str(), None::<&CStr>, private, None::<&CStr>).unwrap();
        let server = fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let kind = Some(c"fuse");
        mount(kind, at.as_c_str(), kind, MsFlags::empty(), Some(options.as_str())).unwrap();
        work();
    };
    // The namespace goes with its thread.
    std::thread::scope(|scope| scope.spawn(hung).join().unwrap_or_else(|panic| resume_unwind(panic)));
}

#[test]
fn credentials_on_storage_that_hangs_are_told_and_cost_the_stop_a_second_at_most() {
    for files in ["username = \"web\"\npassword_file = \"DIR/hung/secret\"", "tls = { ca = \"DIR/hung/ca.pem\" }"] {
        let catalog = format!("backend = \"etcd\"\nendpoints = [\"https://127.0.0.1:{}\"]\n{files}\n", free_port());
        let lab = obedient(&catalog);
        fs::create_dir(lab.path("hung")).unwrap();
        beside_hung_storage(&lab.path("hung"), || {
            let container = lab.run();
            lab.told("main");
            eventually("it is told", SOON, || container.stderr().contains("their storage hangs"));
            ends_in_time(container);
        });
    }
}
