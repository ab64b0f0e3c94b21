//! Who is called the first, whatever becomes of the questions to the store: Consul behind somebody who has an answer come
//! late, or none.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::support::lab::Lab;
use crate::support::namespace::eventually;
use crate::support::servers::Consul;

/// What becomes of an answer.
enum Answer {
    Comes,
    Late(Duration),
    Fails,
}

/// Stands before a Consul until the test ends; each request is a connection of its own there.
fn before(consul: SocketAddr, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let answer = std::sync::Arc::new(answer);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let answer = answer.clone();
            // Whoever asked may have gone.
            thread::spawn(move || drop(pass_on(client, consul, &*answer)));
        }
    });
    at
}

fn pass_on(mut client: TcpStream, consul: SocketAddr, answer: &dyn Fn(&str) -> Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut head = request.clone() + "Connection: close\r\n";
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if !line.to_ascii_lowercase().starts_with("connection:") {
            head += &line;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let answer = answer(&request);
    if matches!(answer, Answer::Fails) {
        return client.write_all(
            b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 17\r\n\r\nNo cluster leader",
        );
    }
    let mut server = TcpStream::connect(consul)?;
    server.write_all(head.as_bytes())?;
    server.write_all(&body)?;
    let mut answered = Vec::new();
    server.read_to_end(&mut answered)?;
    if let Answer::Late(by) = answer {
        thread::sleep(by);
    }
    client.write_all(&answered)
}

/// Whether it asks who has acted, and doesn't follow that.
fn asks_who_acted(request: &str) -> bool {
    request.starts_with("GET /v1/kv/db/acting") && request.contains("consistent") && !request.contains("index=")
}

fn candidate(consul: SocketAddr, id: &str, more: &str) -> Lab {
    let tells = |what: &str| format!("echo {what} first=$PILOTFISH_FIRST >> DIR/story");
    Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n\
         [hooks]\non_promote = {{ exec = [\"sh\", \"-c\", \"{}\"], timeout = \"2s\" }}\n\
         on_demote = {{ exec = [\"true\"], timeout = \"1s\" }}\n\
         [[service]]\nname = \"db\"\nid = \"{id}\"\nport = 3306\naddress = [\"static:192.0.2.1\"]\n\
         [catalog]\nbackend = \"consul\"\naddress = \"http://{consul}\"\n\
         [election]\nname = \"db\"\nlease = \"12s\"\nalive_ttl = \"1s\"\n{more}",
        tells("promoted")
    ))
}

/// A Consul that changes its own leader holds a question for as long. The leader goes on without the answer.
#[test]
fn an_answer_that_comes_late_takes_back_nothing_of_what_the_leader_has_said_since() {
    let consul = Consul::start();
    let late = std::sync::Mutex::new(true);
    let slow = before(consul.http, move |request| {
        match asks_who_acted(request) && std::mem::take(&mut *late.lock().unwrap()) {
            true => Answer::Late(Duration::from_secs(5)),
            false => Answer::Comes,
        }
    });
    let one = candidate(slow, "one", "");
    let running = one.run();
    one.told("promoted first=");
    eventually("it says that it acts", || one.ask(&["kv", "get", "db/acting"]).1.ends_with(" one").then_some(()))
        .unwrap();
    // Longer than the answer takes.
    thread::sleep(Duration::from_secs(4));
    let acting = one.ask(&["kv", "get", "db/acting"]).1;
    assert!(acting.trim_end().ends_with(" one"), "{acting}");
    running.signal(libc::SIGKILL);
    let two = candidate(consul.http, "two", "");
    let _second = two.run();
    two.told("promoted first=");
}

#[test]
fn a_question_that_fails_once_leaves_an_election_neither_without_a_leader_nor_without_a_first() {
    let consul = Consul::start();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    // The rank's first question, and the winner's own.
    let failing = before(consul.http, move |request| {
        let number = if asks_who_acted(request) { asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) } else { 1 };
        if matches!(number, 0 | 2) { Answer::Fails } else { Answer::Comes }
    });
    let rank = "[ \\\"$PILOTFISH_FIRST\\\" = 1 ] && echo 0 || echo never";
    let one = candidate(failing, "one", &format!("rank = {{ exec = [\"sh\", \"-c\", \"{rank}\"] }}"));
    let _running = one.run();
    one.told("promoted first=1");
}
