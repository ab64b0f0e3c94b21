//! The demo's load and its witness: `load PORT RATE DIRECTORY` sends RATE requests a second to the nginx on
//! 127.0.0.1:PORT until its standard input ends, and counts what came of each. It retries nothing that may have been
//! done, and hides nothing: every failure is a line in DIRECTORY/failures.
//!
//! Half of the requests go over new connections, half over kept ones; half are GETs, half POSTs; every byte of every
//! answer is checked. A kept connection that nginx has closed between two requests is no failure (HTTP allows it at
//! any time): the request goes over a new one, and is counted as resent when it had been written already. That is
//! safe only because not one byte came back; that no order was carried out twice is proven by the backends' ledgers
//! against DIRECTORY/orders, the orders that were confirmed.
//!
//! Commands on standard input, a line each, answered with `ok`: `phase NAME` counts what starts from now on under
//! that name; `backend ADDRESS NAME` names an upstream. At the end come the counts, one line a phase and backend:
//! `count PHASE BACKEND GET_NEW GET_KEPT POST_NEW POST_KEPT FAILED RESENT`, and `pace PHASE REQUESTS_A_SECOND
//! MEDIAN_US P99_US WORST_US`.
//!
//! DIRECTORY/pool has a line (microseconds since 1970, backends) for each change of what nginx answers to GET /pool,
//! asked every 2 ms over a new connection.

#![allow(clippy::disallowed_methods, reason = "a program of its own: the bans are the agent's")]

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

mod bytes;

const WORKERS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(5);
const POOL_INTERVAL: Duration = Duration::from_millis(2);

/// What is counted of one backend in one phase.
#[derive(Default)]
struct Count {
    /// By method (GET, POST) and connection (new, kept).
    served: [[u64; 2]; 2],
    failed: u64,
    resent: u64,
}

struct Phase {
    name: String,
    started: Instant,
    counts: BTreeMap<String, Count>,
    micros: Vec<u32>,
}

struct Load {
    nginx: SocketAddr,
    started: Instant,
    ended: AtomicBool,
    next: AtomicU64,
    phases: Mutex<Vec<Phase>>,
    names: Mutex<HashMap<String, String>>,
    failures: Mutex<File>,
    orders: Mutex<File>,
}

/// One answer of nginx, or what went wrong with it.
struct Answer {
    status: u16,
    backend: Option<String>,
    upstream: Option<String>,
    keep: bool,
    body: Vec<u8>,
}

struct Failure {
    upstream: Option<String>,
    what: String,
    /// Nothing of an answer came.
    silent: bool,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, count] = &arguments[..]
        && word == "ports"
    {
        return print_free_ports(count.parse().map_err(io::Error::other)?);
    }
    let [_, port, rate, directory] = &arguments[..] else {
        return Err(io::Error::other("usage: load PORT RATE DIRECTORY | load ports COUNT"));
    };
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let rate: u32 = rate.parse().map_err(io::Error::other)?;
    let directory = PathBuf::from(directory);
    let load = Arc::new(Load {
        nginx: (Ipv4Addr::LOCALHOST, port).into(),
        started: Instant::now(),
        ended: AtomicBool::new(false),
        next: AtomicU64::new(0),
        phases: Mutex::new(vec![Phase::new("warm-up")]),
        names: Mutex::default(),
        failures: Mutex::new(File::create(directory.join("failures"))?),
        orders: Mutex::new(File::create(directory.join("orders"))?),
    });

    let mut threads = Vec::new();
    for worker in 0..WORKERS {
        let load = Arc::clone(&load);
        threads.push(thread::spawn(move || {
            load.work(worker, rate);
            Ok(())
        }));
    }
    let watcher = Arc::clone(&load);
    threads.push(thread::spawn(move || watcher.watch_pool(&directory)));

    for line in io::stdin().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["phase", name] => lock(&load.phases).push(Phase::new(name)),
            ["backend", address, name] => drop(lock(&load.names).insert(address.to_owned(), name.to_owned())),
            _ => return Err(io::Error::other(format!("no such command: {line}"))),
        }
        println!("ok");
    }
    load.ended.store(true, Ordering::Relaxed);
    let ended = Instant::now();
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a thread of the load panicked"))??;
    }
    load.print_counts(ended);
    Ok(())
}

/// Prints ports that were free a moment ago, a line each.
fn print_free_ports(count: usize) -> io::Result<()> {
    let mut listeners = Vec::new();
    for _ in 0..count {
        listeners.push(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    for listener in &listeners {
        println!("{}", listener.local_addr()?.port());
    }
    Ok(())
}

/// A panic in another thread ends the demo anyway; what was counted until then still holds.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn now_micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros())
}

impl Phase {
    fn new(name: &str) -> Phase {
        Phase { name: name.to_owned(), started: Instant::now(), counts: BTreeMap::new(), micros: Vec::new() }
    }
}

impl Load {
    /// One of the workers: a request each `WORKERS / rate` seconds, by the clock and not by the answers.
    fn work(&self, worker: u32, rate: u32) {
        let period = Duration::from_secs(1) * WORKERS / rate;
        let mut due = self.started + period * worker / WORKERS;
        let mut kept: Option<TcpStream> = None;
        let mut turn = worker;
        while !self.ended.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += period;
            self.request(turn & 1 == 1, turn & 2 == 2, &mut kept);
            turn = turn.wrapping_add(1);
        }
    }

    /// One request and its place in the counts.
    fn request(&self, post: bool, keep: bool, kept: &mut Option<TcpStream>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let phase = lock(&self.phases).len() - 1;
        let length = 1 + (id.wrapping_mul(7919) % 40_000) as usize;
        let bytes = bytes::bytes(id, length);
        let connection = if keep { "keep-alive" } else { "close" };
        let (message, expected) = if post {
            let mut message = format!(
                "POST /order/{id} HTTP/1.1\r\nHost: demo\r\nConnection: {connection}\r\nContent-Length: {length}\r\n\r\n"
            )
            .into_bytes();
            message.extend_from_slice(&bytes);
            (message, bytes.into_iter().rev().collect())
        } else {
            let message =
                format!("GET /bytes/{id}/{length} HTTP/1.1\r\nHost: demo\r\nConnection: {connection}\r\n\r\n");
            (message.into_bytes(), bytes)
        };

        let begun = Instant::now();
        let mut resent = false;
        let mut result =
            if keep { self.over_kept(&message, kept, &mut resent) } else { self.over_new(&message, &mut None) };
        if let Ok(answer) = &result {
            let wrong = if answer.status != 200 {
                Some(format!("status {}", answer.status))
            } else if answer.body != expected {
                Some(format!("{} wrong bytes", answer.body.len()))
            } else {
                None
            };
            if let Some(what) = wrong {
                result = Err(Failure { upstream: answer.upstream.clone(), what, silent: false });
            }
        }

        let micros = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
        if result.is_ok() && post {
            // A full disk would show as orders that are missing from the list, and the demo would fail.
            let _ = lock(&self.orders).write_all(format!("{id}\n").as_bytes());
        }
        let mut phases = lock(&self.phases);
        let phase = &mut phases[phase];
        phase.micros.push(micros);
        match result {
            Ok(answer) => {
                let backend = answer.backend.unwrap_or_else(|| "unnamed".to_owned());
                let count = phase.counts.entry(backend).or_default();
                count.served[usize::from(post)][usize::from(keep)] += 1;
                count.resent += u64::from(resent);
            }
            Err(failure) => {
                let backend = failure
                    .upstream
                    .and_then(|address| lock(&self.names).get(&address).cloned())
                    .unwrap_or_else(|| "nginx".to_owned());
                let method = if post { "POST" } else { "GET" };
                let line =
                    format!("{} {} {backend} {method} {connection} {}\n", now_micros(), phase.name, failure.what);
                let _ = lock(&self.failures).write_all(line.as_bytes());
                let count = phase.counts.entry(backend).or_default();
                count.failed += 1;
                count.resent += u64::from(resent);
            }
        }
    }

    /// Over the kept connection while it stands, else over a new one that is kept.
    fn over_kept(&self, message: &[u8], kept: &mut Option<TcpStream>, resent: &mut bool) -> Result<Answer, Failure> {
        if let Some(mut stream) = kept.take().filter(stands) {
            match exchange(&mut stream, message) {
                Ok(answer) => {
                    *kept = answer.keep.then_some(stream);
                    return Ok(answer);
                }
                Err(failure) if failure.silent => *resent = true,
                Err(failure) => return Err(failure),
            }
        }
        self.over_new(message, kept)
    }

    fn over_new(&self, message: &[u8], keep_in: &mut Option<TcpStream>) -> Result<Answer, Failure> {
        let mut stream = self.connect().map_err(|error| Failure::of("connect", &error, false))?;
        let answer = exchange(&mut stream, message)?;
        *keep_in = answer.keep.then_some(stream);
        Ok(answer)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.nginx, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Notes each change of nginx's own word on whom it knows.
    fn watch_pool(&self, directory: &Path) -> io::Result<()> {
        let mut log = File::create(directory.join("pool"))?;
        let mut last = String::new();
        let ask = b"GET /pool HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n";
        while !self.ended.load(Ordering::Relaxed) {
            let pool = match self.over_new(ask, &mut None) {
                Ok(answer) => String::from_utf8_lossy(&answer.body).trim().to_owned(),
                Err(failure) => format!("? {}", failure.what),
            };
            if pool != last {
                writeln!(log, "{} {pool}", now_micros())?;
                last = pool;
            }
            thread::sleep(POOL_INTERVAL);
        }
        Ok(())
    }

    fn print_counts(&self, ended: Instant) {
        let mut phases = lock(&self.phases);
        let ends: Vec<Instant> = phases.iter().skip(1).map(|phase| phase.started).chain([ended]).collect();
        for (phase, end) in phases.iter_mut().zip(ends) {
            for (backend, count) in &phase.counts {
                let [[get_new, get_kept], [post_new, post_kept]] = count.served;
                println!(
                    "count {} {backend} {get_new} {get_kept} {post_new} {post_kept} {} {}",
                    phase.name, count.failed, count.resent
                );
            }
            phase.micros.sort_unstable();
            let seconds = end.duration_since(phase.started).as_secs_f64();
            let at = |part: f64| {
                let index = (phase.micros.len() as f64 * part) as usize;
                phase.micros.get(index.min(phase.micros.len().saturating_sub(1))).copied().unwrap_or(0)
            };
            println!(
                "pace {} {:.0} {} {} {}",
                phase.name,
                phase.micros.len() as f64 / seconds,
                at(0.5),
                at(0.99),
                at(1.0)
            );
        }
    }
}

impl Failure {
    fn of(step: &str, error: &io::Error, silent: bool) -> Failure {
        Failure { upstream: None, what: format!("{step}: {error}"), silent }
    }
}

/// Whether nginx hasn't closed this idle connection.
fn stands(stream: &TcpStream) -> bool {
    let quiet = stream.set_nonblocking(true).is_ok()
        && matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    quiet && stream.set_nonblocking(false).is_ok()
}

/// Sends one request and reads its whole answer.
fn exchange(stream: &mut TcpStream, message: &[u8]) -> Result<Answer, Failure> {
    // Broken by the other side before the first byte of an answer; a timeout is not that.
    let broken = |error: &io::Error| {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionAborted | UnexpectedEof)
    };
    stream.write_all(message).map_err(|error| Failure::of("write", &error, broken(&error)))?;
    let mut reader = BufReader::new(stream);
    match reader.fill_buf() {
        Ok([]) => Err(Failure::of("read", &io::ErrorKind::UnexpectedEof.into(), true)),
        Ok(_) => read_answer(&mut reader).map_err(|error| Failure::of("in mid-answer", &error, false)),
        Err(error) => Err(Failure::of("read", &error, broken(&error))),
    }
}

fn read_answer(reader: &mut BufReader<&mut TcpStream>) -> io::Result<Answer> {
    let mut line = String::new();
    read_line(reader, &mut line)?;
    let status = line.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("not a status line"))?;
    let mut answer = Answer { status, backend: None, upstream: None, keep: true, body: Vec::new() };
    let mut length = None;
    loop {
        read_line(reader, &mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse::<u64>().ok(),
            "connection" => answer.keep = value.eq_ignore_ascii_case("keep-alive"),
            "x-backend" => answer.backend = Some(value.to_owned()),
            "x-upstream" => answer.upstream = Some(value.to_owned()),
            _ => {}
        }
    }
    let length = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
    let read = reader.take(length).read_to_end(&mut answer.body)?;
    if (read as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

fn read_line(reader: &mut BufReader<&mut TcpStream>, line: &mut String) -> io::Result<()> {
    line.clear();
    if reader.take(8 << 10).read_line(line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
