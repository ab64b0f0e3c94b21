//! The agent's last events, for who wants to know how it came to where it is (`pilotfish record`). As the core is pure,
//! they can be played through it again, each at its time: src/supervisor/tests/replay.rs.
//!
//! It keeps text, so that its bound is one in bytes. Secrets aren't kept: of variables read from files there is only the
//! name, and values of the catalog are hashes, by a key of this process's own, so that a change can still be told.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};

use serde::Serialize;

use crate::config::Written;
use crate::supervisor::vocabulary::{HEARD, Instance, Observation};
use crate::supervisor::{Event, Time};

/// So many events are kept.
const MOST_EVENTS: usize = 1000;
/// And no more text than this: a thousand events are 60 KB as a rule.
const MOST_BYTES: usize = 256 * 1024;
/// One event's text; of a longer one, which saw some hundred instances, only its name is kept.
const LONGEST: usize = 16 * 1024;
/// What was seen of a catalog isn't looked at if it is more than could fit.
const MOST_SEEN: usize = 500;

/// What happened lately.
#[derive(Debug)]
pub struct Recorder {
    written: Written,
    seed: u64,
    /// A line for each event, oldest first.
    lines: VecDeque<u8>,
    events: usize,
    /// How many there were before them.
    missing: u64,
    key: RandomState,
}

/// What a record begins with.
#[derive(Serialize)]
struct Head<'a> {
    pilotfish: &'static str,
    events: usize,
    missing: u64,
    seed: u64,
    config: &'a Written,
}

impl Recorder {
    /// A recorder of an agent that begins with this config and this seed of its core.
    pub fn new(written: Written, seed: u64) -> Recorder {
        Recorder { written, seed, lines: VecDeque::new(), events: 0, missing: 0, key: RandomState::new() }
    }

    /// Keeps an event that the core is about to handle, or only to hear, as there is more to come that came in time.
    pub fn note(&mut self, now: Time, event: &Event, heard: bool) {
        while self.events == MOST_EVENTS || self.lines.len() + LONGEST > MOST_BYTES {
            self.forget();
        }
        let now = now.from_boot().as_nanos();
        let masked = self.masked(event);
        let event = match &masked {
            Masked::Shown => Ok(event),
            Masked::Instead(event) => Ok(&**event),
            Masked::TooLong => Err("Observed"),
        };
        let start = self.lines.len();
        let written = event.is_ok_and(|event| match heard {
            true => self.write(&(now, event, HEARD)).is_ok(),
            false => self.write(&(now, event)).is_ok(),
        });
        if !written {
            let name = event.err().map_or_else(|| self.name(start), str::to_owned);
            self.lines.truncate(start);
            // A short line always fits, and writing into memory doesn't fail otherwise.
            let _ = self.write(&(now, (), name));
        }
        self.lines.push_back(b'\n');
        self.events += 1;
    }

    /// Everything, for a person or for the core: a line that says what it is of, and one for each event, with its time
    /// since the kernel's boot in nanoseconds.
    pub fn hand_out(&self) -> String {
        let (config, seed, events, missing) = (&self.written, self.seed, self.events, self.missing);
        let head = Head { pilotfish: env!("CARGO_PKG_VERSION"), events, missing, seed, config };
        let mut text = serde_json::to_string(&head).expect("strings and numbers are JSON");
        text.push('\n');
        let (first, second) = self.lines.as_slices();
        let lines = [first, second].concat();
        text.push_str(&String::from_utf8_lossy(&lines));
        text
    }

    fn write(&mut self, line: &impl Serialize) -> serde_json::Result<()> {
        serde_json::to_writer(Room { lines: &mut self.lines, left: LONGEST }, line)
    }

    /// What the event is called whose text began here: `[TIME,{"NAME":`.
    fn name(&self, start: usize) -> String {
        let quoted = self.lines.iter().skip(start).skip_while(|byte| **byte != b'"').skip(1);
        quoted.take_while(|byte| **byte != b'"').map(|byte| char::from(*byte)).collect()
    }

    fn forget(&mut self) {
        let end = self.lines.iter().position(|byte| *byte == b'\n').map_or(self.lines.len(), |end| end + 1);
        self.lines.drain(..end);
        self.events -= 1;
        self.missing += 1;
    }

    fn masked(&self, event: &Event) -> Masked {
        match event {
            Event::Observed { seen: Ok(seen), .. } if seen.len() > MOST_SEEN => Masked::TooLong,
            Event::Observed { follow, seen: Ok(seen) } => {
                Masked::Instead(Box::new(Event::Observed { follow: follow.clone(), seen: Ok(self.hidden(seen)) }))
            }
            // A rank that is a number is shown; whatever else was printed is nobody's business.
            Event::Printed { run, text } if text.trim().parse::<i64>().is_err() => {
                Masked::Instead(Box::new(Event::Printed { run: *run, text: self.hash(text) }))
            }
            _ => Masked::Shown,
        }
    }

    fn hidden(&self, seen: &Observation) -> Observation {
        match seen {
            Observation::Instances(instances) => {
                let hidden = |instance: &Instance| Instance {
                    meta: instance.meta.iter().map(|(name, value)| (name.clone(), self.hash(value))).collect(),
                    ..instance.clone()
                };
                Observation::Instances(instances.iter().map(hidden).collect())
            }
            Observation::Key(value) => Observation::Key(value.as_ref().map(|value| self.hash(value))),
            Observation::Keys(keys) => {
                Observation::Keys(keys.iter().map(|(key, value)| (key.clone(), self.hash(value))).collect())
            }
        }
    }

    fn hash(&self, value: &str) -> String {
        format!("{:016x}", self.key.hash_one(value))
    }
}

/// An event as it may be kept.
enum Masked {
    /// As it is.
    Shown,
    /// With something hidden.
    Instead(Box<Event>),
    /// It would be too long.
    TooLong,
}

/// Room for one line.
struct Room<'a> {
    lines: &'a mut VecDeque<u8>,
    left: usize,
}

impl Write for Room<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.lines.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::supervisor::vocabulary::{Follow, RunId, Secrets};

    fn recorder() -> Recorder {
        Recorder::new(Written::default(), 7)
    }

    fn at(seconds: u64) -> Time {
        Time::since_boot(Duration::from_secs(seconds))
    }

    fn lines(recorder: &Recorder) -> Vec<String> {
        recorder.hand_out().lines().map(str::to_owned).collect()
    }

    fn saw(seen: Observation) -> Event {
        Event::Observed { follow: Follow::Watch("app".to_owned()), seen: Ok(seen) }
    }

    fn instances(number: usize) -> Observation {
        let instance = |id: usize| Instance {
            id: format!("app-{id}"),
            node: None,
            name: "app".to_owned(),
            address: "10.0.0.1".to_owned(),
            port: 80,
            tags: vec!["a tag of some length".to_owned(); 3],
            meta: BTreeMap::from([("weight".to_owned(), "s3cret".to_owned())]),
        };
        Observation::Instances((0..number).map(instance).collect())
    }

    #[test]
    fn the_last_thousand_events_are_kept_and_those_before_are_counted() {
        let mut recorder = recorder();
        for second in 0..1500 {
            recorder.note(at(second), &Event::Tick, false);
        }
        let lines = lines(&recorder);
        assert_eq!(lines.len(), 1001);
        assert!(lines[0].contains("\"events\":1000,\"missing\":500,\"seed\":7"), "{}", lines[0]);
        assert_eq!((lines[1].as_str(), lines[1000].as_str()), ("[500000000000,\"Tick\"]", "[1499000000000,\"Tick\"]"));
    }

    #[test]
    fn whatever_is_seen_a_record_has_its_bound() {
        let mut recorder = recorder();
        for second in 0..=300 {
            recorder.note(at(second), &saw(instances(second as usize * 2)), false);
            assert!(recorder.lines.len() <= MOST_BYTES && recorder.lines.capacity() <= MOST_BYTES, "{second}");
        }
        let lines = lines(&recorder);
        // What is too long for a line is named all the same.
        assert_eq!(lines.last().unwrap(), "[300000000000,null,\"Observed\"]");
        for line in &lines {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }

    #[test]
    fn no_value_of_a_file_a_key_or_an_instance_is_kept_but_that_it_changed() {
        let mut recorder = recorder();
        let secrets = Secrets(vec![("PASSWORD".to_owned(), b"s3cret".to_vec())]);
        recorder.note(at(1), &Event::FilesRead { run: RunId(1), result: Ok(secrets) }, false);
        recorder.note(at(2), &saw(instances(1)), false);
        for value in ["s3cret", "s3cret", "other"] {
            recorder.note(at(3), &saw(Observation::Key(Some(value.to_owned()))), false);
            recorder.note(at(4), &saw(Observation::Keys([("app/key".to_owned(), value.to_owned())].into())), false);
        }
        recorder.note(at(5), &Event::Printed { run: RunId(1), text: "s3cret".to_owned() }, false);
        recorder.note(at(6), &Event::Printed { run: RunId(1), text: "42\n".to_owned() }, false);
        let lines = lines(&recorder);
        assert!(!lines.concat().contains("s3cret"), "{lines:?}");
        assert!(lines[1].contains("PASSWORD") && lines[2].contains("weight") && lines[10].contains("42"), "{lines:?}");
        assert!(lines[3] == lines[5] && lines[5] != lines[7] && lines[4] == lines[6] && lines[6] != lines[8]);
    }
}
