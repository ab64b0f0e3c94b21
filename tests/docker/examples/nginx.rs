//! config-examples/nginx: what clients of it are told while applications come and go.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::SOON;
use crate::support::compose::{Project, docker, succeeds, within};

const PATIENCE: Duration = Duration::from_secs(10);
const CLIENTS: usize = 4;

/// What the answer to one request says, or what became of it.
fn ask(address: &str) -> Result<String, String> {
    let told = |error: std::io::Error| error.to_string();
    let address = address.parse().expect("an address of the engine's");
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(told)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n").map_err(told)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(told)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.trim().to_owned()),
        _ => Err(answer.lines().next().unwrap_or("nothing").to_owned()),
    }
}

/// Clients that ask all the time.
struct Crowd {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, Vec<String>)>>,
}

impl Crowd {
    fn start(address: &str) -> Crowd {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (stop, address) = (stop.clone(), address.to_owned());
            std::thread::spawn(move || {
                let (mut answered, mut failed) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    match ask(&address) {
                        Ok(_) => answered += 1,
                        Err(error) => failed.push(error),
                    }
                    std::thread::sleep(Duration::from_millis(3));
                }
                (answered, failed)
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Crowd { stop, clients }
    }

    /// How many requests were answered, and what the others were told.
    fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.clients.into_iter().map(|client| client.join().expect("a client doesn't panic"));
        ended.fold((0, Vec::new()), |(sum, all), (answered, failed)| (sum + answered, [all, failed].concat()))
    }
}

/// Waits until so many applications answer, and no others.
fn answered_by(project: &Project, address: &str, count: usize) -> BTreeSet<String> {
    within(project, SOON, &format!("{count} answer"), || {
        let names: BTreeSet<_> = (0..count * 6).filter_map(|_| ask(address).ok()).collect();
        (names.len() == count).then_some(names)
    })
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn no_request_fails_while_applications_join_leave_and_are_restarted_and_few_when_one_is_killed() {
    let project = Project::up("nginx", None);
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = format!("{}:80", docker(&["inspect", "--format", format, &project.container("nginx")]));
    let scale = |count: usize| {
        let up = "docker compose up --detach --no-build --no-recreate --scale";
        succeeds(&mut project.shell(&format!("{up} app={count}")));
        answered_by(&project, &address, count)
    };
    answered_by(&project, &address, 3);

    let crowd = Crowd::start(&address);
    scale(5);
    let left = scale(2);
    let one = left.first().expect("two are left").clone();
    docker(&["restart", &one]);
    answered_by(&project, &address, 2);
    let (answered, failed) = crowd.end();
    println!("nginx: {answered} requests over joins, stops and a restart, {} failed", failed.len());
    assert!(answered > 500, "too few to show anything: {answered}");
    assert!(failed.is_empty(), "{failed:?}\n{}", project.last_words());

    let crowd = Crowd::start(&address);
    docker(&["kill", &one]);
    answered_by(&project, &address, 1);
    docker(&["start", &one]);
    answered_by(&project, &address, 2);
    let (answered, failed) = crowd.end();
    println!("nginx: {answered} requests over a kill and a start, {} failed", failed.len());
    assert!(failed.len() <= CLIENTS, "more than those that it had begun: {failed:?}");
}
