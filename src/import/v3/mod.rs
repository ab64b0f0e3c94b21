//! ContainerPilot 3: jobs that start when something happens. [`job`] reads them, [`roles`] finds out what each is for
//! pilotfish (main, a hook, a coprocess, a task, an entry), and [`mod@write`] writes that down.

mod chains;
mod commands;
mod job;
mod roles;
mod write;

use super::command::shell_line;
use super::common;
use super::document::{Document, Note, Value};
use super::json::Node;
use super::read::{At, Notes};
use super::text::{Piece, Text};
use job::Job;

/// Of a unix socket, without its final NUL (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

const KEYS: [&str; 7] = ["consul", "logging", "stopTimeout", "control", "jobs", "watches", "telemetry"];

/// Whether this is its kind of file.
pub(super) fn is(root: &Node) -> bool {
    root.get("jobs").is_some()
}

/// A service that is watched.
pub(super) struct Watched {
    pub(super) name: Text,
    pub(super) label: String,
    /// Its name as the file has it.
    pub(super) written: Text,
    tag: Option<Text>,
    datacenter: Option<Text>,
    origin: usize,
    path: String,
    notes: Vec<Note>,
}

/// The document that a file comes to.
pub(super) fn document(root: &Node) -> Document {
    let root = At::new(root, "");
    let mut document = Document::default();
    let mut notes = Notes::default();
    root.only(&KEYS, &mut notes);
    if root.get("consul").is_none() {
        let what = "ContainerPilot refuses the file: no discovery backend defined";
        notes.say(&(root.node.span.start..root.node.span.start + 1), "consul", what);
    }
    let watches = watches(&root, &mut notes);
    let mut jobs: Vec<Job> =
        root.tables("jobs", &mut notes).iter().enumerate().map(|(index, at)| job::read(at, index)).collect();
    if jobs.is_empty() {
        let what = "there is none that could be main: name it on the command line, pilotfish -c FILE -- CMD";
        notes.lose(&(root.node.span.start..root.node.span.start + 1), "jobs", what);
    }
    chains::settled_sources(&jobs, &watches, &mut notes);
    chains::ends_of_one_shots(&mut jobs);
    let roles = roles::of(&jobs, &watches, &mut notes);
    common::stop_timeout(&root, &mut document);
    let used = write::jobs(&jobs, &watches, &roles, &mut document);
    let gone: Vec<&Job> = jobs.iter().filter(|job| is_gone(job, &document, &notes)).collect();
    for job in gone {
        notes.lose(&job.span, job.path.clone(), "nothing is left of it: what starts it never happens here");
    }
    chains::circles(&jobs, &mut notes);
    for watch in watches.iter().filter(|watch| !used.contains(&watch.label)) {
        let named = |job: &Job| job.waits_for().is_some_and(|(source, _)| source == format!("watch.{}", watch.label));
        let what = match jobs.iter().any(named) {
            true => "nothing runs on it or waits for it here; left out",
            false => "nothing happens when it changes; left out",
        };
        notes.say(&(watch.origin..watch.origin + 1), watch.path.clone(), what);
    }
    common::consul(&root, &mut document, &mut Notes::default());
    telemetry(&root, &mut document, &mut notes);
    if let Some(control) = root.table("control") {
        control.only(&["socket"], &mut notes);
        if let (Some(entry), Some(socket)) = (control.get("socket"), control.some_text("socket", &mut notes)) {
            let sample = socket.sample();
            // What a template begins with may be a directory.
            let from_the_root = sample.starts_with('/') || matches!(socket.0.first(), Some(Piece::Template(_)));
            if from_the_root && sample.len() <= LONGEST_SOCKET_PATH {
                document.one("control").set("socket", Value::Text(socket));
            } else {
                let what = format!(
                    "a socket's path begins with `/` here, and has at most {LONGEST_SOCKET_PATH} bytes: left out, so that it \
                     is pilotfish's own, /run/pilotfish.sock"
                );
                notes.lose(&entry.value.span, control.key("socket"), what);
            }
        }
    }
    common::logging(&root, &mut document);
    document.notes.extend(notes.take());
    document
}

/// Whether a command is nowhere, and nothing says why.
fn is_gone(job: &Job, document: &Document, notes: &Notes) -> bool {
    let exec = Value::words(job.words());
    let line = shell_line(job.words()).write(true);
    let is = |value: &Value| match value {
        // One of several that a shell runs.
        Value::List(words) if words.len() == 3 && words[..2] == ["sh", "-c"].map(Value::text) => {
            *value == exec || matches!(&words[2], Value::Text(of) if of.write(true).contains(&line))
        }
        value => *value == exec,
    };
    let has = |value: &Value| match value {
        Value::Inline(pairs) => pairs.iter().any(|(_, value)| is(value)),
        value => is(value),
    };
    let of_tables = document.tables.iter().flat_map(|table| &table.keys);
    let about = |note: &Note| note.key.strip_prefix(&job.path).is_some_and(|key| key.is_empty() || key == ".when");
    let told = document.notes.iter().chain(&notes.0).any(about)
        || document.tables.iter().any(|table| table.notes.iter().any(about))
        || of_tables.clone().any(|key| key.notes.iter().any(about));
    job.exec.is_some() && !told && !of_tables.clone().any(|key| has(&key.value))
}

fn watches(root: &At<'_>, notes: &mut Notes) -> Vec<Watched> {
    let mut watches = Vec::new();
    for at in root.tables("watches", notes) {
        let mut about = Notes::default();
        at.only(&["name", "interval", "tag", "dc"], &mut about);
        let Some(name) = at.some_text("name", &mut about) else {
            about.lose(&at.node.span, at.key("name"), "'name' must not be blank; left out");
            notes.0.extend(about.take());
            continue;
        };
        if at.get("interval").is_none() {
            let what = "ContainerPilot refuses the file: interval must be > 0; changes are pushed here";
            about.say(&at.node.span, at.key("interval"), what);
        }
        let (label, written) = (name.identity(), name.clone());
        let name = common::catalog_name(&name, &at, &mut about);
        let tag = at.some_text("tag", &mut about);
        let datacenter = at.some_text("dc", &mut about);
        watches.push(Watched {
            name,
            label,
            written,
            tag,
            datacenter,
            origin: at.node.span.start,
            path: at.path.clone(),
            notes: about.take(),
        });
    }
    watches
}

fn telemetry(root: &At<'_>, document: &mut Document, notes: &mut Notes) {
    let Some(at) = common::telemetry(root, &["port", "interfaces", "tags", "metrics"], document) else { return };
    let metrics = at.tables("metrics", notes);
    for metric in &metrics {
        let mut about = Notes::default();
        metric.only(&["namespace", "subsystem", "name", "help", "type"], &mut about);
        let table = common::sensor(metric, document);
        table.notes.extend(about.take());
    }
    if let (Some(entry), false) = (at.get("metrics"), metrics.is_empty()) {
        let what = "are pushed: `containerpilot -putmetric NAME=VALUE` is `pilotfish metric NAME=VALUE`, \
                    and what POSTs to the control socket does so here";
        document.one("telemetry").notes.push(Note {
            span: entry.key_span.clone(),
            key: at.key("metrics"),
            what: what.to_owned(),
            lost: false,
        });
    }
}
