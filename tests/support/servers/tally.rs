//! A forwarder before an engine that notes when each connection and each request passed, in HTTP/1.1 and in HTTP/2
//! without TLS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What passed.
#[derive(Debug, Clone)]
pub struct Passed {
    /// When.
    pub at: Instant,
    /// The request's first line, `h2` for one of HTTP/2, or nothing for a new connection.
    pub request: Option<String>,
}

/// Counts until it is dropped, on a thread of its own. Who comes while nobody listens behind it is sent away.
pub struct Tally {
    /// Where it is.
    pub at: SocketAddr,
    passed: Arc<Mutex<Vec<Passed>>>,
    _end: oneshot::Sender<()>,
}

impl Tally {
    /// Leads to this engine.
    pub fn before(engine: SocketAddr) -> Tally {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("it is bound");
        let passed = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = oneshot::channel::<()>();
        let notes = Arc::clone(&passed);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                listener.set_nonblocking(true).expect("a socket");
                let listener = TcpListener::from_std(listener).expect("a socket");
                tokio::select! {
                    _ = serve(listener, engine, notes) => {}
                    _ = ended => {}
                }
            });
        });
        Tally { at, passed, _end: end }
    }

    /// All that passed since then.
    pub fn since(&self, then: Instant) -> Vec<Passed> {
        let passed = self.passed.lock().expect("nobody panics with it");
        passed.iter().filter(|passed| passed.at >= then).cloned().collect()
    }
}

/// How many of these came in the fullest tenth of a second, and when that was.
pub fn fullest(passed: impl Iterator<Item = Instant>, start: Instant) -> (usize, f64) {
    let mut buckets: BTreeMap<u128, usize> = BTreeMap::new();
    for at in passed {
        *buckets.entry(at.duration_since(start).as_millis() / 100).or_default() += 1;
    }
    let fullest = buckets.into_iter().max_by_key(|(_, count)| *count).unwrap_or((0, 0));
    (fullest.1, fullest.0 as f64 / 10.0)
}

/// Lets this program have as many descriptors as a crowd's connections need.
pub fn many_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).expect("below the hard one");
}

async fn serve(listener: TcpListener, engine: SocketAddr, notes: Arc<Mutex<Vec<Passed>>>) {
    loop {
        // Out of descriptors, perhaps: those that close will make room.
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        };
        let notes = Arc::clone(&notes);
        tokio::spawn(async move {
            let note = |request: Option<String>| {
                notes.lock().expect("nobody panics with it").push(Passed { at: Instant::now(), request });
            };
            let Ok(server) = TcpStream::connect(engine).await else { return };
            note(None);
            let (mut from, mut back) = client.into_split();
            let (mut answers, mut to) = server.into_split();
            let forth = async {
                let (mut reader, mut bytes) = (Reader::default(), [0; 4096]);
                while let Ok(count @ 1..) = from.read(&mut bytes).await {
                    reader.read(&bytes[..count], |request| note(Some(request)));
                    if to.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                }
            };
            // Whoever ends first ends both.
            tokio::select! {
                () = forth => {}
                _ = tokio::io::copy(&mut answers, &mut back) => {}
            }
        });
    }
}

/// Finds the requests in what a client sends.
#[derive(Default)]
struct Reader {
    line: Vec<u8>,
    h2: bool,
    /// What is left of an HTTP/2 frame or preface, or of a body.
    skip: usize,
    /// How long the body will be.
    body: usize,
}

impl Reader {
    fn read(&mut self, bytes: &[u8], mut found: impl FnMut(String)) {
        for byte in bytes {
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.line.push(*byte);
            if self.h2 {
                // RFC 9113, 4.1: three bytes of length, the type (1 is HEADERS), flags, the stream.
                if self.line.len() == 9 {
                    self.skip =
                        usize::from(self.line[0]) << 16 | usize::from(self.line[1]) << 8 | usize::from(self.line[2]);
                    if self.line[3] == 1 {
                        found("h2".to_owned());
                    }
                    self.line.clear();
                }
            } else if *byte == b'\n' {
                let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
                self.line.clear();
                if line == "PRI * HTTP/2.0" {
                    self.h2 = true;
                    self.skip = "\r\nSM\r\n\r\n".len();
                } else if line.is_empty() {
                    self.skip = std::mem::take(&mut self.body);
                } else if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    self.body = length.trim().parse().unwrap_or(0);
                } else if let Some(request) = line.strip_suffix(" HTTP/1.1") {
                    found(request.to_owned());
                }
            }
        }
    }
}
