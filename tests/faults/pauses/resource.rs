//! What a leader acts on, as docs/election.md asks it to be: it refuses a lower term than the highest it has seen, and
//! compares and writes in one step. It keeps what it refused too, for the tests.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::faults::nemesis::register::Act;

/// An act somebody asked for.
#[derive(Debug)]
pub struct Asked {
    /// The act, with main's own time.
    pub act: Act,
    /// Whether it was done.
    pub accepted: bool,
}

#[derive(Default)]
struct Ledger {
    highest: u64,
    asked: Vec<Asked>,
}

/// Listens on a unix socket until this program ends.
pub struct Resource {
    ledger: Arc<Mutex<Ledger>>,
    directory: tempfile::TempDir,
}

impl Resource {
    /// One that has seen no term yet.
    pub fn new() -> Resource {
        let resource = Resource { ledger: Arc::default(), directory: tempfile::tempdir().expect("a directory") };
        let listener = UnixListener::bind(resource.path()).expect("a socket");
        let ledger = Arc::clone(&resource.ledger);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let ledger = Arc::clone(&ledger);
                // Ends with its client.
                std::thread::spawn(move || serve(client, &ledger));
            }
        });
        resource
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("resource")
    }

    /// What was asked for since the last look, in the order in which it was decided.
    pub fn news(&self) -> Vec<Asked> {
        std::mem::take(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner).asked)
    }
}

/// A name and a newline, then acts: term and time, eight bytes each, answered by a byte each. See the actor.
fn serve(client: UnixStream, ledger: &Mutex<Ledger>) -> Option<()> {
    let mut requests = BufReader::new(client.try_clone().ok()?);
    let mut answers = client;
    let mut who = String::new();
    requests.read_line(&mut who).ok()?;
    loop {
        let (mut term, mut at) = ([0; 8], [0; 8]);
        requests.read_exact(&mut term).and_then(|()| requests.read_exact(&mut at)).ok()?;
        let act = Act { who: who.trim_end().to_owned(), term: u64::from_ne_bytes(term), at: u64::from_ne_bytes(at) };
        let accepted = {
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            let accepted = act.term >= ledger.highest;
            ledger.highest = ledger.highest.max(act.term);
            ledger.asked.push(Asked { act, accepted });
            accepted
        };
        answers.write_all(&[accepted.into()]).ok()?;
    }
}

#[test]
fn a_term_below_the_highest_seen_is_refused() {
    let resource = Resource::new();
    let open = |name: &str| {
        let mut stream = UnixStream::connect(resource.path()).unwrap();
        writeln!(stream, "{name}").unwrap();
        stream
    };
    let ask = |stream: &mut UnixStream, term: u64| {
        stream.write_all(&[term.to_ne_bytes(), 7u64.to_ne_bytes()].concat()).unwrap();
        let mut answer = [9];
        stream.read_exact(&mut answer).unwrap();
        answer[0]
    };
    let (mut one, mut two) = (open("one"), open("two"));
    assert_eq!([ask(&mut one, 3), ask(&mut two, 5), ask(&mut one, 3), ask(&mut two, 5)], [1, 1, 0, 1]);
    let news = resource.news();
    assert_eq!(news[2].act, Act { who: "one".to_owned(), term: 3, at: 7 });
    assert_eq!(news.iter().map(|asked| asked.accepted).collect::<Vec<_>>(), [true, true, false, true]);
}
