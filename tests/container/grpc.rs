//! gRPC's health protocol, asked of servers of other makes: gRPC's own C core, and etcd (gRPC for Go).
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use pilotfish::config::{GrpcProbe, Probe, Trust};
use pilotfish::probe::probe;

use crate::support::lab::Lab;
use crate::support::namespace::{eventually, pilotfish};
use crate::support::servers::{Certificates, Etcd};

const SOON: Duration = Duration::from_secs(10);
const TERM: i32 = 15;

/// A server whose services have these statuses.
struct Server {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Server {
    fn start(tls: Option<&Certificates>, services: &[&str]) -> Server {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/health_server.py");
        // Debian's own: another python3 before it on PATH hasn't its packages.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script);
        if let Some(certificates) = tls {
            command.arg("--tls").args([certificates.path("server-key.pem"), certificates.path("server.pem")]);
        }
        let dir = tempfile::tempdir().unwrap();
        command.arg(dir.path().join("changes")).args(services).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("python3-grpcio is there (tests/setup.sh test)");
        Server { child, dir, port }
    }

    fn says(&self, status: &str) {
        std::fs::write(self.dir.path().join("changes"), status).unwrap();
    }

    async fn asked(&self, service: &str) -> Result<(), String> {
        let address = format!("127.0.0.1:{}", self.port);
        probe(&Probe::Grpc(GrpcProbe { address, service: service.to_owned(), tls: None }), SOON).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `pilotfish probe` answers: its code and its stderr.
fn asked(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(pilotfish()).arg("probe").args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_server_and_each_of_its_services_have_a_health_of_their_own() {
    let server =
        Server::start(None, &["=1", "a.Good=1", "a.Bad=2", "odd=0", "new=7", "shy=fail:UNAUTHENTICATED:no token\n"]);
    assert_eq!(server.asked("").await, Ok(()));
    assert_eq!(server.asked("a.Good").await, Ok(()));
    assert_eq!(server.asked("a.Bad").await, Err("NOT_SERVING".into()));
    assert_eq!(server.asked("odd").await, Err("UNKNOWN".into()));
    assert_eq!(server.asked("new").await, Err("serving status 7".into()));
    assert_eq!(server.asked("none").await, Err("the server knows no service `none`".into()));
    assert_eq!(server.asked("shy").await, Err("grpc status UNAUTHENTICATED: no token\n".into()));
}

#[tokio::test]
async fn over_tls_the_server_is_verified_by_the_given_authority_and_its_name() {
    let certificates = Certificates::new(&["localhost"]);
    let server = Server::start(Some(&certificates), &["=1"]);
    let ask = |host: &str, trust: Trust| {
        let question =
            GrpcProbe { address: format!("{host}:{}", server.port), service: String::new(), tls: Some(trust) };
        async move { probe(&Probe::Grpc(question), SOON).await }
    };
    let ours = Trust { ca: Some(certificates.path("ca.pem")), insecure: false };
    assert_eq!(ask("localhost", ours.clone()).await, Ok(()));
    let other = Certificates::new(&["localhost"]);
    let error = ask("localhost", Trust { ca: Some(other.path("ca.pem")), insecure: false }).await.unwrap_err();
    assert!(error.starts_with("tls: "), "{error}");
    assert_eq!(ask("localhost", Trust { ca: None, insecure: true }).await, Ok(()));
    let plain =
        Probe::Grpc(GrpcProbe { address: format!("localhost:{}", server.port), service: String::new(), tls: None });
    let error = probe(&plain, SOON).await.unwrap_err();
    assert!(!error.is_empty(), "{error}");
    let url = format!("grpcs://localhost:{}", server.port);
    assert_eq!(asked(&[&url, "--ca", &certificates.text("ca.pem")]), (0, String::new()));
}

#[tokio::test]
async fn etcd_says_that_it_is_healthy_by_the_same_protocol() {
    let etcd = Etcd::start("etcd");
    let address = etcd.client().to_string();
    let question = GrpcProbe { address: address.clone(), service: String::new(), tls: None };
    eventually("etcd", || (asked(&[&format!("grpc://{address}")]).0 == 0).then_some(())).unwrap();
    assert_eq!(probe(&Probe::Grpc(question.clone()), SOON).await, Ok(()));
    let none = GrpcProbe { service: "none".into(), ..question };
    assert_eq!(probe(&Probe::Grpc(none), SOON).await, Err("the server knows no service `none`".into()));
}

#[tokio::test]
async fn what_is_no_grpc_server_is_said_to_be_none_and_one_that_hangs_costs_the_timeout() {
    let short = Duration::from_millis(300);
    let says = |answer: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.write_all(answer);
                thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
            }
        });
        Probe::Grpc(GrpcProbe { address, service: String::new(), tls: None })
    };
    let http1 = says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(probe(&http1, SOON).await, Err("the answer isn't HTTP/2".into()));
    let silent = says(b"");
    assert_eq!(probe(&silent, short).await, Err("no answer within 300ms".into()));
    let hanging = Server::start(None, &["=hang"]);
    let question = GrpcProbe { address: format!("127.0.0.1:{}", hanging.port), service: String::new(), tls: None };
    // It is told how long anybody waits, and may say so first.
    let error = probe(&Probe::Grpc(question), short).await.unwrap_err();
    assert!(error == "no answer within 300ms" || error.starts_with("grpc status DEADLINE_EXCEEDED"), "{error}");
}

#[test]
fn a_grpc_check_follows_its_service_and_the_command_line_asks_the_same() {
    let server = Server::start(None, &["my.App=1"]);
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\nstop_signal = \"KILL\"\n[[health]]\ngrpc = \"127.0.0.1:{}/my.App\"\n\
         interval = \"100ms\"\nfailures = 1\n",
        server.port
    ));
    let mut container = lab.run();
    let url = format!("grpc://127.0.0.1:{}/my.App", server.port);
    eventually("the check", || (lab.ask(&["health"]).0 == 0).then_some(())).unwrap();
    assert_eq!(asked(&[&url]), (0, String::new()));
    server.says("my.App=2");
    let ill = eventually("its failure", || Some(lab.ask(&["health"])).filter(|(code, ..)| *code == 1)).unwrap();
    assert!(format!("{ill:?}").contains("check grpc fails: NOT_SERVING"), "{ill:?}");
    assert_eq!(asked(&[&url]), (1, format!("{url}: NOT_SERVING\n")));
    container.signal(TERM);
    container.wait().unwrap();
}
