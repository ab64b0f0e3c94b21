//! Records of real agents (`pilotfish record`), played through the core once more: what it decides is written down, an
//! event a line and what it orders below it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

use super::script::Script;
use crate::config::{Config, Context, Loaded, RunAs, Signal, Template, Written};
use crate::supervisor::vocabulary::{HEARD, Rendering, Secrets, Staged, Text};
use crate::supervisor::{Event, Supervisor, Time};

/// What a record begins with.
#[derive(serde::Deserialize)]
struct Head {
    events: usize,
    missing: u64,
    seed: u64,
    config: Written,
}

/// What the core decides of what is recorded.
pub(crate) fn replay(record: &str) -> String {
    let (head, events) = record.split_once('\n').expect("a head, and events");
    let head: Head = serde_json::from_str(head).expect("the head of a record");
    let config = load(&head.config).unwrap_or_else(|report| panic!("the config of the record: {report}")).config;
    let mut script = Script::of(Supervisor::new(config.clone(), head.seed));
    let mut told = String::new();
    if head.missing > 0 {
        writeln!(told, "{} events are missing: this core begins at those it has", head.missing).unwrap();
    }
    assert_eq!(events.lines().count(), head.events, "the record isn't whole");
    let mut began = None;
    for line in events.lines() {
        // Not by way of `Value`: a session's number is longer than any of its numbers.
        let handled = serde_json::from_str::<(u64, Event)>(line).map(|(nanos, event)| (nanos, event, String::new()));
        let event = handled.or_else(|_| serde_json::from_str::<(u64, Event, String)>(line));
        let nanos = event.as_ref().map_or_else(|_| too_long(line).0, |(nanos, ..)| *nanos);
        let now = Time::since_boot(Duration::from_nanos(nanos));
        let seconds = now.since(*began.get_or_insert(now)).as_secs_f64();
        let (_, shown) = line.strip_suffix(']').and_then(|line| line.split_once(',')).expect("a time, and an event");
        writeln!(told, "{seconds:.6} {shown}").unwrap();
        let Ok((_, event, how)) = event else { continue };
        for order in script.is_told(now, with_template(event, &config), how == HEARD) {
            writeln!(told, "    {}", order.replace('\n', "\n    ")).unwrap();
        }
    }
    told
}

/// Of an event that was too long to be kept there is the name only, and nothing can be decided.
fn too_long(line: &str) -> (u64, (), String) {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// A template is the config's, and no part of what is recorded.
fn with_template(event: Event, config: &Config) -> Event {
    match event {
        Event::Rendered { watch, outcome: Rendering::Staged(staged) } => {
            let template = config.watches.iter().find(|one| one.name == watch).and_then(|one| one.template.clone());
            let template = Arc::new(template.expect("what was rendered is a watch's template"));
            Event::Rendered { watch, outcome: Rendering::Staged(Staged { template, ..staged }) }
        }
        event => event,
    }
}

fn load(written: &Written) -> Result<Loaded, crate::config::Report> {
    let context = Context { hostname: written.hostname.clone(), ..Context::default() };
    let command = written.program.as_ref().map(|program| vec![program.into()]);
    Config::from_text(&written.text, Path::new(&written.file), command, &context)
}

impl<'de> Deserialize<'de> for Loaded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Loaded, D::Error> {
        load(&Written::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Signal, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secrets, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Ok(Secrets(names.into_iter().map(|name| (name, Vec::new())).collect()))
    }
}

impl<'de> Deserialize<'de> for Staged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Staged, D::Error> {
        let (path, beside) = Deserialize::deserialize(deserializer)?;
        let template = Template {
            source: PathBuf::new(),
            destination: PathBuf::new(),
            check: None,
            check_as: RunAs::default(),
            check_timeout: Duration::ZERO,
            mode: None,
            owner: None,
            parents: false,
            required: None,
        };
        Ok(Staged { path, beside, text: Text("".into()), template: Arc::new(template) })
    }
}
