//! A door on a host between a candidate and its Consul agent, which can keep acquires back and let them go late: what a
//! network does to requests under way, at a moment of the test's choice.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

use crate::support::netlab::inside;

/// How the request for a lock begins.
const ACQUIRE: &[u8] = b"PUT /v1/txn";

/// Forwards what comes, as long as it isn't closed.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
    at: SocketAddr,
}

#[derive(Default)]
struct Shared {
    closed: AtomicBool,
    /// How many acquires are kept back now.
    kept: AtomicUsize,
    /// Whether acquires are kept back.
    keeping: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// From `at` to `to`, both in this network namespace.
    pub fn new(network: &Path, at: SocketAddr, to: SocketAddr) -> Gate {
        let shared = Arc::<Shared>::default();
        let listener = inside(network, || TcpListener::bind(at).expect("a port"));
        let (network, shares) = (network.to_owned(), Arc::clone(&shared));
        std::thread::spawn(move || {
            // Threads begun here are of the same namespace.
            inside(&network, || {
                while let Ok((client, _)) = listener.accept()
                    && !shares.closed.load(SeqCst)
                {
                    let Ok(server) = TcpStream::connect(to) else { continue };
                    let (answers, back) =
                        (server.try_clone().expect("one more"), client.try_clone().expect("one more"));
                    let shares = Arc::clone(&shares);
                    std::thread::spawn(move || pass(client, server, |bytes| shares.wait(bytes)));
                    std::thread::spawn(move || pass(answers, back, |_| ()));
                }
            });
        });
        Gate { shared, at }
    }

    /// Keeps acquires back from now on, or lets all of them go at once.
    pub fn keep(&self, keep: bool) {
        *self.shared.keeping.lock().unwrap() = keep;
        self.shared.changed.notify_all();
    }

    /// How many acquires are kept back.
    pub fn kept(&self) -> usize {
        self.shared.kept.load(SeqCst)
    }

    /// Takes no connection any more.
    pub fn close(&self, network: &Path) {
        self.keep(false);
        self.shared.closed.store(true, SeqCst);
        // Wakes the one that waits for a connection.
        let _ = inside(network, || TcpStream::connect(self.at));
    }
}

impl Shared {
    fn wait(&self, bytes: &[u8]) {
        let keeping = self.keeping.lock().unwrap();
        if *keeping && bytes.starts_with(ACQUIRE) {
            self.kept.fetch_add(1, SeqCst);
            drop(self.changed.wait_while(keeping, |keeping| *keeping).unwrap());
            self.kept.fetch_sub(1, SeqCst);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, before: impl Fn(&[u8])) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        before(&bytes[..length]);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
