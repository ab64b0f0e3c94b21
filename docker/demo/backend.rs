//! A small web backend for the demo: `backend NAME LISTEN LEDGER`. It knows nothing of pilotfish, nginx or graceful
//! shutdown, and dies at once of SIGTERM, as many real programs do.
//!
//! `GET /health` is 200. `GET /bytes/SEED/LENGTH` answers with bytes made from the seed. `POST /order/ID` writes ID
//! into the ledger, a line each, and answers with the body backwards. Each answer says who gave it (`X-Backend`).

#![allow(clippy::disallowed_methods, reason = "a program of its own: the bans are the agent's")]

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

mod bytes;

/// No body of the demo is longer.
const LONGEST_BODY: usize = 1 << 20;

struct Backend {
    name: String,
    ledger: File,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, listen, ledger] = &arguments[..] else {
        return Err(io::Error::other("usage: backend NAME LISTEN LEDGER"));
    };
    let listener = TcpListener::bind(listen)?;
    let ledger = OpenOptions::new().create(true).append(true).open(ledger)?;
    let backend = Arc::new(Backend { name: name.clone(), ledger });
    println!("{name} listens on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let (stream, backend) = (stream?, Arc::clone(&backend));
        // A connection that breaks is its client's to notice.
        thread::Builder::new().stack_size(128 << 10).spawn(move || drop(backend.serve(stream)))?;
    }
    Ok(())
}

impl Backend {
    /// Answers the requests of one connection until the other side closes it.
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some((method, path, body)) = read_request(&mut reader)? {
            let (status, answer) = self.answer(&method, &path, body);
            let mut message = format!(
                "HTTP/1.1 {status}\r\nX-Backend: {}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
                self.name,
                answer.len()
            )
            .into_bytes();
            message.extend_from_slice(&answer);
            writer.write_all(&message)?;
        }
        Ok(())
    }

    fn answer(&self, method: &str, path: &str, mut body: Vec<u8>) -> (&'static str, Vec<u8>) {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, &parts[..]) {
            ("GET", ["health"]) => ("200 OK", b"well\n".to_vec()),
            ("GET", ["bytes", seed, length]) => match (seed.parse(), length.parse()) {
                (Ok(seed), Ok(length)) if length <= LONGEST_BODY => {
                    work(seed);
                    ("200 OK", bytes::bytes(seed, length))
                }
                _ => ("400 Bad Request", Vec::new()),
            },
            ("POST", ["order", id]) => {
                work(body.len() as u64);
                // One write a line, in append mode: lines of several connections don't mix.
                match (&self.ledger).write_all(format!("{id}\n").as_bytes()) {
                    Ok(()) => {
                        body.reverse();
                        ("200 OK", body)
                    }
                    Err(_) => ("500 Internal Server Error", Vec::new()),
                }
            }
            _ => ("404 Not Found", Vec::new()),
        }
    }
}

/// Takes 2 to 17 ms, so that at any moment some request is half done.
fn work(seed: u64) {
    thread::sleep(Duration::from_millis(2 + seed % 16));
}

/// The next request of a connection: method, path, body. `None` when the other side has closed it.
fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<(String, String, Vec<u8>)>> {
    let mut line = String::new();
    if reader.take(8 << 10).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next().map(str::to_owned), words.next().map(str::to_owned)) else {
        return Err(io::Error::other("not a request line"));
    };
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.take(8 << 10).read_line(&mut header)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    if length > LONGEST_BODY {
        return Err(io::Error::other("the body is too long"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((method, path, body)))
}
