//! Health questions to real servers: healthy, unhealthy, hostile.

#![allow(clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pilotfish::config::{HttpProbe, Probe};
use pilotfish::probe::probe;

use crate::support::namespace::{Start, copy_program, eventually, pilotfish, specimen};

const SOON: Duration = Duration::from_secs(5);

/// Serves each connection by `script` on a thread, for as long as the test runs.
fn server(script: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let script = script.clone();
            thread::spawn(move || script(stream));
        }
    });
    address
}

/// Reads a request's head and says `answer`.
fn saying(answer: impl Into<String>) -> SocketAddr {
    let answer: String = answer.into();
    server(move |mut stream| {
        head_of(&mut stream);
        let _ = stream.write_all(answer.as_bytes());
    })
}

fn head_of(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn http(url: impl Into<String>) -> HttpProbe {
    HttpProbe {
        url: url.into(),
        method: "GET".into(),
        headers: BTreeMap::new(),
        expect_status: Vec::new(),
        expect_body: None,
        ca: None,
        insecure: false,
    }
}

async fn ask(question: HttpProbe) -> Result<(), String> {
    probe(&Probe::Http(question), SOON).await
}

fn tcp(address: impl ToString) -> Probe {
    Probe::Tcp { address: address.to_string() }
}

/// An address nobody listens at: just freed, and not to be given out again within a moment.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_port_that_answers_is_healthy_and_one_that_refuses_is_not() {
    let address = server(drop);
    assert_eq!(probe(&tcp(address), SOON).await, Ok(()));
    assert_eq!(probe(&tcp(format!("localhost:{}", address.port())), SOON).await, Ok(()));
    let (first, second) = (nobody(), nobody());
    let refused = |address: &str| Err(format!("can't connect to {address}: connection refused"));
    assert_eq!(probe(&tcp(first), SOON).await, refused(&first.to_string()));
    assert_eq!(ask(http(format!("http://{second}/"))).await, refused(&second.to_string()));
    assert_eq!(probe(&tcp("no port"), SOON).await, Err("no port has no port".into()));
}

#[tokio::test]
async fn statuses_from_200_to_399_are_healthy_unless_others_are_expected() {
    for (status, healthy) in [(200, true), (204, true), (302, true), (399, true), (400, false), (503, false)] {
        let address =
            saying(format!("HTTP/1.1 {status} x\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"));
        let expected = if healthy { Ok(()) } else { Err(format!("status {status}")) };
        assert_eq!(ask(http(format!("http://{address}/"))).await, expected);
        let question = HttpProbe { expect_status: vec![status], ..http(format!("http://{address}/")) };
        assert_eq!(ask(question).await, Ok(()), "{status} was expected");
        let question = HttpProbe { expect_status: vec![201], ..http(format!("http://{address}/")) };
        assert_eq!(ask(question).await, Err(format!("status {status}")));
    }
}

#[tokio::test]
async fn the_request_is_what_was_written() {
    let (sent, heard) = std::sync::mpsc::channel();
    let address = server(move |mut stream| {
        sent.send(head_of(&mut stream)).unwrap();
        stream.write_all(ok("").as_bytes()).unwrap();
    });
    let mut question = http(format!("http://{address}/health?full=1#part"));
    question.method = "POST".into();
    question.headers = BTreeMap::from([("x-token".into(), "abc".into()), ("Host".into(), "site.example".into())]);
    assert_eq!(ask(question).await, Ok(()));
    let head = heard.recv().unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post /health?full=1 http/1.1\r\n"), "{head}");
    for header in ["x-token: abc", "host: site.example", "connection: close", "user-agent: pilotfish/"] {
        assert!(head.contains(&format!("\r\n{header}")), "{header} in {head}");
    }
    assert_eq!(head.matches("host:").count(), 1);
}

#[tokio::test]
async fn a_part_of_the_body_can_be_expected_within_its_first_64_kib() {
    let body = format!("{}needle{}", "x".repeat(60_000), "y".repeat(60_000));
    let address = saying(ok(&body));
    let ask_for = |part: &str| ask(HttpProbe { expect_body: Some(part.into()), ..http(format!("http://{address}/")) });
    assert_eq!(ask_for("needle").await, Ok(()));
    assert_eq!(ask_for("xneedley").await, Ok(()));
    assert_eq!(ask_for("pin").await, Err("status 200, but no \"pin\" in the body".into()));
    let late = saying(ok(&format!("{}needle", "x".repeat(70_000))));
    let question = HttpProbe { expect_body: Some("needle".into()), ..http(format!("http://{late}/")) };
    assert!(ask(question).await.is_err());
}

#[tokio::test]
async fn a_part_that_comes_in_pieces_is_found() {
    let address = server(|mut stream| {
        head_of(&mut stream);
        stream.set_nodelay(true).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in ["3\r\nnee\r\n", "1\r\nd\r\n", "2\r\nle\r\n", "0\r\n\r\n"] {
            let _ = stream.write_all(piece.as_bytes());
        }
    });
    let question = HttpProbe { expect_body: Some("needle".into()), ..http(format!("http://{address}/")) };
    assert_eq!(ask(question).await, Ok(()));
}

#[tokio::test]
async fn an_endpoint_that_never_answers_fails_at_the_timeout() {
    let accepts = server(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let drips = server(|mut stream| {
        head_of(&mut stream);
        while stream.write_all(b"H").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    let body = server(|mut stream| {
        head_of(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let short = Duration::from_millis(200);
    for address in [accepts, drips, body] {
        let question = HttpProbe { expect_body: Some("y".into()), ..http(format!("http://{address}/")) };
        let result = probe(&Probe::Http(question), short).await;
        let expected = ["no answer within 200ms", "the answer isn't HTTP"];
        assert!(result.as_ref().is_err_and(|error| expected.contains(&error.as_str())), "{result:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_read_within_bounds() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let flood = move |mut stream: TcpStream, start: &str, more: &[u8]| {
        head_of(&mut stream);
        let _ = stream.write_all(start.as_bytes());
        while stream.write_all(more).is_ok() {
            counted.fetch_add(more.len(), Ordering::Relaxed);
        }
    };
    let heads = flood.clone();
    let heads = server(move |stream| heads(stream, "HTTP/1.1 200 OK\r\n", b"X-More: and more and more and more\r\n"));
    let error = ask(http(format!("http://{heads}/"))).await.unwrap_err();
    assert!(error.contains("head is too large") || error.contains("isn't HTTP"), "{error}");
    let bodies = server(move |stream| flood(stream, "HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4096]));
    let question = HttpProbe { expect_body: Some("y".into()), ..http(format!("http://{bodies}/")) };
    assert!(ask(question).await.unwrap_err().contains("no \"y\""));
    // Who doesn't look at the body doesn't wait for it.
    assert_eq!(ask(http(format!("http://{bodies}/"))).await, Ok(()));
    assert!(sent.load(Ordering::Relaxed) < 64 << 20, "the sockets' buffers at most");
}

#[tokio::test]
async fn what_is_no_http_or_breaks_off_is_said_plainly() {
    let broken = ask(http(format!("http://{}/", saying("SSH-2.0-OpenSSH\r\n")))).await.unwrap_err();
    assert_eq!(broken, "the answer isn't HTTP");
    let closed = ask(http(format!("http://{}/", saying("")))).await.unwrap_err();
    assert_eq!(closed, "connection closed before the answer was complete");
    let half = HttpProbe {
        expect_body: Some("x".into()),
        ..http(format!("http://{}/", saying("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")))
    };
    assert!(ask(half).await.is_err());
}

/// An https server with a certificate of its own for this name; answers its address and the certificate's file.
fn https(name: &str) -> (SocketAddr, PathBuf, tempfile::TempDir) {
    https_with(rcgen::generate_simple_self_signed([name.to_owned()]).unwrap())
}

fn https_with(made: rcgen::CertifiedKey<rcgen::KeyPair>) -> (SocketAddr, PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let address = server(move |mut stream| {
        let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut stream);
        if !head_of(&mut stream).is_empty() {
            let _ = stream.write_all(ok("").as_bytes());
        }
    });
    (address, ca, dir)
}

#[tokio::test]
async fn https_is_verified_by_the_given_authority_and_the_name() {
    let (address, ca, _dir) = https("localhost");
    let url = format!("https://localhost:{}/", address.port());
    let by = |url: &str, ca: &PathBuf| HttpProbe { ca: Some(ca.clone()), ..http(url) };
    assert_eq!(ask(by(&url, &ca)).await, Ok(()));
    // A second time from what was kept.
    assert_eq!(ask(by(&url, &ca)).await, Ok(()));
    let error = ask(by(&format!("https://{address}/"), &ca)).await.unwrap_err();
    assert!(error.starts_with("tls: ") && error.contains("not valid for"), "{error}");
    let (_, other, _other_dir) = https("localhost");
    let error = ask(by(&url, &other)).await.unwrap_err();
    assert!(error.starts_with("tls: ") && error.contains("certificate"), "{error}");
    // The file's new content counts at the next check.
    std::fs::copy(&ca, &other).unwrap();
    assert_eq!(ask(by(&url, &other)).await, Ok(()));
    let insecure = HttpProbe { insecure: true, ..http(format!("https://{address}/")) };
    assert_eq!(ask(insecure).await, Ok(()));
}

#[tokio::test]
async fn https_that_cannot_be_verified_says_what_to_change() {
    let (address, ca, dir) = https("localhost");
    let url = format!("https://localhost:{}/", address.port());
    let missing = HttpProbe { ca: Some(dir.path().join("missing.pem")), ..http(url.as_str()) };
    let error = ask(missing).await.unwrap_err();
    assert!(error.contains("missing.pem: no such file"), "{error}");
    std::fs::write(&ca, "no pem").unwrap();
    let empty = HttpProbe { ca: Some(ca), ..http(url.as_str()) };
    assert!(ask(empty).await.unwrap_err().contains("holds no usable certificate"));
    // As `openssl req -x509` makes it.
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let signing_key = rcgen::KeyPair::generate().unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
    let (address, ca, _dir) = https_with(rcgen::CertifiedKey { cert, signing_key });
    let authoritys = HttpProbe { ca: Some(ca), ..http(format!("https://localhost:{}/", address.port())) };
    let error = ask(authoritys).await.unwrap_err();
    assert!(error.contains("CA:TRUE") && error.contains("basicConstraints=CA:FALSE"), "{error}");
    let plain = server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let error = ask(HttpProbe { insecure: true, ..http(format!("https://{plain}/")) }).await.unwrap_err();
    assert!(error.starts_with("tls: "), "{error}");
}

#[tokio::test]
async fn a_probe_leaves_no_connection_behind() {
    let closed = Arc::new(AtomicUsize::new(0));
    let counted = closed.clone();
    let address = server(move |mut stream| {
        head_of(&mut stream);
        let _ = stream.write_all(ok("").as_bytes());
        // Keeps its side open: only the probe can end it.
        let _ = stream.read_to_end(&mut Vec::new());
        counted.fetch_add(1, Ordering::Relaxed);
    });
    for _ in 0..20 {
        assert_eq!(ask(http(format!("http://{address}/"))).await, Ok(()));
    }
    let deadline = tokio::time::Instant::now() + SOON;
    while closed.load(Ordering::Relaxed) < 20 {
        assert!(tokio::time::Instant::now() < deadline, "{} of 20 closed", closed.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What static binaries died of: the C library's lookups, in a root made for another one.
#[test]
fn a_check_by_name_works_in_a_root_with_nothing_but_the_binary_and_a_hosts_file() {
    let address = saying(ok("fine"));
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str| root.path().join(name);
    std::fs::create_dir(file("etc")).unwrap();
    std::fs::write(file("etc/hosts"), "127.0.0.1 web.test\n").unwrap();
    std::fs::write(file("etc/nsswitch.conf"), "hosts: foreign files\npasswd: foreign\ngroup: foreign\n").unwrap();
    copy_program(&pilotfish(), &file("pilotfish"));
    copy_program(&specimen(), &file("specimen"));
    let check = |name: &str, host: &str| {
        format!("[[health]]\nname = \"{name}\"\nhttp = \"http://{host}:{}/\"\ninterval = \"100ms\"\n", address.port())
            + "grace = \"0s\"\nfailures = 1\n"
    };
    let config =
        "[control]\nsocket = \"/control.sock\"\n[process]\nexec = [\"/specimen\", \"record\", \"/record\", \"15\"]\n";
    let config = config.to_owned() + &check("known", "web.test") + &check("unknown", "no.such.test");
    std::fs::write(file("pilotfish.toml"), config).unwrap();
    let mut container = Start::new(["/pilotfish", "-c", "/pilotfish.toml"]).root(root.path()).run().unwrap();
    let table = eventually("both checks", || {
        let mut ask = std::process::Command::new(pilotfish());
        let table = ask.args(["status", "--socket"]).arg(file("control.sock")).output().unwrap().stdout;
        let table = String::from_utf8(table).unwrap();
        (table.contains("known    passing") && table.contains("no.such.test can't be looked up")).then_some(table)
    });
    assert!(table.is_ok(), "{table:?} {}", container.stderr());
    container.signal(libc::SIGTERM);
    assert!(container.wait().is_ok());
}

/// What `pilotfish probe` answers: its code and its stderr.
fn asked(arguments: &[&str]) -> (i32, String) {
    let output = std::process::Command::new(pilotfish()).arg("probe").args(arguments).output().unwrap();
    assert!(output.stdout.is_empty(), "it prints nothing but what is wrong");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_probe_from_the_command_line_ends_with_0_and_silently_if_all_is_well() {
    let http = saying("HTTP/1.1 204 No Content\r\n\r\n");
    let body = saying("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nis up");
    let listening = server(|_| thread::sleep(SOON));
    for line in [
        vec![format!("http://{http}/x")],
        vec![format!("http://{http}/"), "--expect".into(), "200,204".into()],
        vec![format!("http://{body}/"), "--expect=up".into(), "--expect=200".into(), "--timeout=2s".into()],
        vec![format!("tcp://{listening}")],
    ] {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        assert_eq!(asked(&line), (0, String::new()), "{line:?}");
    }
}

#[test]
fn a_probe_from_the_command_line_ends_with_1_and_one_line_if_not() {
    let ill = saying("HTTP/1.1 503 Service Unavailable\r\n\r\n");
    let silent = server(|_| thread::sleep(SOON));
    for (line, said) in [
        (vec![format!("http://{ill}/")], "status 503"),
        (vec![format!("http://{ill}/"), "--expect=200".into()], "status 503"),
        (
            vec![format!("http://{ill}/"), "--expect=503".into(), "--expect=up".into()],
            "status 503, but no \"up\" in the body",
        ),
        (vec![format!("http://{silent}/"), "--timeout=100ms".into()], "no answer within 100ms"),
        (vec!["tcp://127.0.0.1:1".into()], "can't connect to 127.0.0.1:1: connection refused"),
        (vec!["http://127.0.0.1:1/".into()], "can't connect to 127.0.0.1:1: connection refused"),
    ] {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let (code, text) = asked(&line);
        assert_eq!((code, text.lines().count()), (1, 1), "{text}");
        assert_eq!(text, format!("{}: {said}\n", line[0]));
    }
}

#[test]
fn a_question_that_cant_be_asked_ends_with_64() {
    for line in [&["localhost:80"][..], &["grpc://localhost"], &["tcp://x:1", "--insecure"], &[]] {
        assert_eq!(asked(line).0, 64, "{line:?}");
    }
}
