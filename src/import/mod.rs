//! From another program's config to pilotfish's: ContainerPilot 2 (and Containerbuddy, its first name) and 3, and
//! supervisord's, with a note on everything that is different or couldn't be carried over. It starts nothing and reads
//! only the text it is given.
//!
//! text → [`go`] (templates) → [`branches`] (one JSON text for each way the `{{ if }}`s between values can go) →
//! [`json`] → [`v2`], [`v3`] (what the keys mean: a [`document`] for each way) → [`merge`] (one document; what is only
//! there in some ways gets `enabled`) → [`mod@write`].

mod branches;
mod command;
mod common;
mod consul;
mod document;
mod entry;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod go;
mod json;
mod merge;
mod quoted;
mod read;
mod restarts;
mod supervisord;
mod text;
mod v2;
mod v3;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::report::{Problem, Report};
use document::{Document, Key, Note, Value};
use go::GoError;
use json::{JsonError, Node};
use text::Text;

/// A config is written by people; what is longer was named by mistake.
pub const LONGEST: usize = 256 << 10;

/// Keys of pilotfish's own, of which none is ContainerPilot's.
const OWN: [&str; 8] = ["process", "service", "health", "watch", "catalog", "stop", "hooks", "log"];

/// What an import comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The config, as TOML.
    pub toml: String,
    /// What to know about it, in the order of the source.
    pub notes: Vec<Remark>,
}

impl Imported {
    /// Whether it does less than what was imported.
    #[cfg(test)]
    fn is_lossy(&self) -> bool {
        self.notes.iter().any(|note| note.lost)
    }
}

/// Something to know about an imported config: a line for stderr.
#[derive(Debug, Clone, PartialEq)]
pub struct Remark {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The key, as a path in the source.
    pub key: String,
    /// What there is to know.
    pub what: String,
    /// Whether something couldn't be carried over.
    pub lost: bool,
    file: PathBuf,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.lost { "not carried over" } else { "note" };
        let Remark { file, line, column, key, what, .. } = self;
        write!(f, "{}:{line}:{column}: {word}: {key}: {what}", file.display())
    }
}

/// Whether a text is a config of supervisord.
pub fn is_supervisords(text: &str) -> bool {
    supervisord::is(text)
}

/// Imports a text; `file` names it in reports and `set` decides its templates as far as it goes.
///
/// # Errors
/// It is nothing that can be imported: no template, no JSON, no config of ContainerPilot's; with the place.
pub fn import(text: &str, file: &Path, set: &BTreeMap<String, String>) -> Result<Imported, Report> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source { text, file };
    if text.len() > LONGEST {
        return Err(Report::whole(file, format!("is longer than {LONGEST} bytes; that isn't a config"), None));
    }
    if let Some((at, sign)) = branches::taken(text) {
        let what = format!("{} stands for nothing that a config could mean", sign.escape_unicode());
        return Err(source.error(Problem::error(at..at + sign.len_utf8(), what)));
    }
    if supervisord::is(text) {
        let broken = |(span, what)| source.error(Problem::error(span, what));
        let mut document = supervisord::document(text, file).map_err(broken)?;
        document.notes.extend(unasked(text, set));
        return Ok(source.finish(document, "a config of supervisord"));
    }
    if let Some(foreign) = foreign(text) {
        return Err(source.error(foreign));
    }
    let nodes = go::parse(text).map_err(|error| source.template(error))?;
    let (mut document, version) = source.document(&nodes, set)?;
    document.notes.push(variables(text, &document, version));
    document.notes.extend(unasked(text, set));
    Ok(source.finish(document, &kind(version)))
}

/// What became of the variables that ContainerPilot set for what it ran. Nobody sees from outside whether a script reads
/// them.
fn variables(text: &str, document: &Document, version: u8) -> Note {
    let at = text.len() - text.trim_start().len();
    let mut what = "what main and hooks read as CONTAINERPILOT_PID is PILOTFISH_PID here".to_owned();
    if document.tables.iter().any(|table| table.path == "service") {
        what += ", and CONTAINERPILOT_<SERVICE>_IP is PILOTFISH_<SERVICE>_ADDRESS";
    }
    if version == 3 {
        what += "; of CONTAINERPILOT_<JOB>_PID there is only main's, PILOTFISH_MAIN_PID";
    }
    Note { span: at..at + 1, key: "environment".to_owned(), what, lost: false }
}

/// Names given by `--set` that stand nowhere in the file.
fn unasked(text: &str, set: &BTreeMap<String, String>) -> Vec<Note> {
    let at = text.len() - text.trim_start().len();
    // `printf` puts names together.
    let may_be = |name: &str| text.contains(name) || text.contains("printf");
    set.keys()
        .filter(|name| !may_be(name))
        .map(move |name| {
            let what = "no template asks for it".to_owned();
            Note { span: at..at + 1, key: format!("--set {name}"), what, lost: false }
        })
        .collect()
}

/// What is said of a text that no JSON can begin with.
fn foreign(text: &str) -> Option<Problem> {
    let at = text.len() - text.trim_start().len();
    let rest = &text[at..];
    let line = rest.lines().next().unwrap_or_default().trim_end();
    // A section's name, be it of a systemd unit or of TOML, begins as an array does.
    let is_a_section = line.starts_with('[') && line.ends_with(']') && line.contains(char::is_alphabetic);
    let begins = !is_a_section && ["{", "[", "\"", "//", "/*"].iter().any(|sign| rest.starts_with(sign));
    let own = text.parse::<toml::Table>().is_ok_and(|table| OWN.iter().any(|key| table.contains_key(*key)));
    if rest.is_empty() || begins && !own {
        return None;
    }
    let span = at..at + line.len();
    if own {
        return Some(self::own(span));
    }
    let problem =
        Problem::error(span, "this isn't a config of ContainerPilot's, which is JSON, nor one of supervisord's");
    Some(problem.hint("nothing else can be imported"))
}

fn own(span: go::Span) -> Problem {
    Problem::error(span, "this is a config of pilotfish's own").hint("there is nothing to import")
}

fn kind(version: u8) -> String {
    format!("a config of ContainerPilot {version}")
}

/// A config of ContainerPilot's, rendered as it did: the whole file before it is read, and what isn't set empty.
///
/// # Errors
/// A template that Go couldn't render.
pub fn render(text: &str, file: &Path, environment: &BTreeMap<String, String>) -> Result<String, Report> {
    let source = Source { text, file };
    let rendered = go::parse(text).and_then(|nodes| go::render(&nodes, environment));
    rendered.map_err(|error| source.template(error))
}

/// Whether a text, as [`render`] makes it, is a config of ContainerPilot's, and of which version.
pub fn recognise(rendered: &str) -> Option<u8> {
    let nodes = plain(rendered);
    let ways = branches::branches(&nodes, &BTreeMap::new()).ok()?.ways;
    let root = json::read(&ways.first()?.flat, &mut Vec::new()).ok()?;
    if OWN.iter().any(|key| root.get(key).is_some()) { None } else { version(&root) }
}

/// Imports a config of ContainerPilot 2 as [`render`] made it, to be run: `variables` are those that it set for what it
/// ran.
///
/// # Errors
/// It is no such config.
pub fn as_it_runs(rendered: &str, file: &Path, variables: &BTreeMap<String, String>) -> Result<Imported, Report> {
    let source = Source { text: rendered, file };
    let (mut document, version) = source.document(&plain(rendered), &BTreeMap::new())?;
    let mut notes = document.tables.iter().flat_map(|table| &table.notes).chain(&document.notes);
    if let Some(note) = notes.find(|note| note.what == v2::NAMELESS) {
        let problem = Problem::error(note.span.clone(), format!("`{}` is empty", note.key));
        return Err(source.error(problem.hint("is what its template names set?")));
    }
    // Without a command ContainerPilot stayed for what else it does, beside a process of somebody else's. One on the command
    // line counts before this.
    let words = ["sleep", "infinity"].map(Value::text);
    document.one("process").set("exec", Value::List(words.into()));
    if !variables.is_empty() {
        let pairs = variables.iter().map(|(name, value)| (name.clone(), Value::text(value.as_str()))).collect();
        let pairs = Value::Inline(pairs);
        document.one("process").set("env", pairs.clone());
        document.one("hooks").set("env", pairs);
    }
    Ok(source.finish(document, &kind(version)))
}

/// A text in which nothing is a template.
fn plain(text: &str) -> Vec<go::Node> {
    vec![go::Node { kind: go::Kind::Text(text.to_owned()), span: 0..text.len() }]
}

/// Which ContainerPilot a file is of, by its keys.
fn version(root: &Node) -> Option<u8> {
    let has = |keys: &[&str]| keys.iter().any(|key| root.get(key).is_some());
    if v3::is(root) {
        return Some(3);
    }
    if v2::is(root) || has(&["preStart", "onStart", "preStop", "postStop", "backends", "tasks", "coprocesses", "etcd"])
    {
        return Some(2);
    }
    has(&["consul", "watches", "control"]).then_some(3)
}

/// Where a config of 3.0-dev has what no other has.
fn dev(root: &Node) -> Option<go::Span> {
    let services = root.get("services")?;
    let json::Value::List(elements) = &services.value.value else { return None };
    elements.iter().find_map(|service| service.get("exec")).map(|exec| exec.key_span.clone())
}

fn unique(notes: Vec<Note>) -> Vec<Note> {
    let mut seen = Vec::new();
    for note in notes {
        if !seen.contains(&note) {
            seen.push(note);
        }
    }
    seen
}

/// Ways through a file, read.
#[derive(Default)]
struct Reading {
    read: Vec<(BTreeMap<usize, bool>, Node)>,
    broken: Vec<JsonError>,
    /// Keys that are there twice.
    doubles: Vec<(String, go::Span)>,
    /// Where it isn't strict JSON.
    loose: Option<JsonError>,
}

impl Reading {
    fn take(&mut self, ways: Vec<branches::Branch>) {
        for way in ways {
            self.loose = self.loose.take().or_else(|| json::strict(&way.flat).err());
            match json::read(&way.flat, &mut self.doubles) {
                Ok(root) => self.read.push((way.answers, root)),
                Err(error) => self.broken.push(error),
            }
        }
    }

    fn documents(&self, version: u8) -> Vec<merge::Way> {
        self.documents_from(0, version)
    }

    /// What those come to that were read after so many.
    fn documents_from(&self, from: usize, version: u8) -> Vec<merge::Way> {
        let document = |root: &Node| if version == 3 { v3::document(root) } else { v2::document(root) };
        let way = |(answers, root): &(BTreeMap<usize, bool>, Node)| merge::Way {
            answers: answers.clone(),
            document: document(root),
        };
        self.read[from..].iter().map(way).collect()
    }
}

struct Source<'s> {
    text: &'s str,
    file: &'s Path,
}

impl Source<'_> {
    /// What a file comes to, and of which version it is.
    fn document(&self, nodes: &[go::Node], set: &BTreeMap<String, String>) -> Result<(Document, u8), Report> {
        let all = branches::branches(nodes, set).map_err(|error| self.template(error))?;
        if all.are_too_many
            && let Some(whole) = self.by_samples(nodes, set)?
        {
            return Ok(whole);
        }
        let mut reading = Reading::default();
        reading.take(all.ways);
        let version = self.version(&reading)?;
        let mut merged = merge::merge(&reading.documents(version), &all.questions);
        merged.notes.splice(0..0, unique(self.notes(&all.remarks, reading, version)));
        Ok((merged, version))
    }

    /// The same where there are too many ways to go them all: from some of them, if further ones come to what those say
    /// that they do.
    fn by_samples(&self, nodes: &[go::Node], set: &BTreeMap<String, String>) -> Result<Option<(Document, u8)>, Report> {
        /// How often what doesn't come to that is learned from.
        const LESSONS: usize = 5;
        const TRIED: usize = 64;
        /// Of them as many are learned from, with all that is beside each.
        const LEARNED: usize = 4;
        let mut sampler = branches::Sampler::new(nodes, set);
        let mut reading = Reading::default();
        reading.take(sampler.first().map_err(|error| self.template(error))?);
        let version = self.version(&reading)?;
        let mut learned = reading.documents(version);
        for _ in 0..LESSONS {
            let tried = sampler.some(TRIED).map_err(|error| self.template(error))?;
            let known = reading.read.len();
            reading.take(tried);
            let ways: Vec<merge::Way> = learned.into_iter().chain(reading.documents_from(known, version)).collect();
            if !sampler.may_go_on() {
                return Ok(None);
            }
            let (mut merged, misjudged) = merge::merge_some(&ways, known, &sampler.all.questions);
            if misjudged.is_empty() {
                merged.notes.splice(0..0, unique(self.notes(&sampler.all.remarks, reading, version)));
                return Ok(Some((merged, version)));
            }
            for way in misjudged.iter().take(LEARNED) {
                let beside = sampler.beside(&ways[*way].answers).map_err(|error| self.template(error))?;
                reading.take(beside);
            }
            let known = ways.len();
            learned = ways.into_iter().chain(reading.documents_from(known, version)).collect();
        }
        Ok(None)
    }

    /// Which ContainerPilot a file is of, if all of it is of one.
    fn version(&self, reading: &Reading) -> Result<u8, Report> {
        let Some((_, first)) = reading.read.first() else {
            let first = reading.broken.iter().min_by_key(|error| error.at);
            return Err(match first {
                Some(error) => self.json(error.clone()),
                None => Report::whole(self.file, "there is nothing in it", None),
            });
        };
        for (_, root) in &reading.read {
            if let Some(exec) = dev(root) {
                let problem =
                    Problem::error(exec, "this is a config of a preview of ContainerPilot 3, which no release reads");
                return Err(self.error(problem.hint("`services` with an `exec` became `jobs`")));
            }
        }
        version(first).ok_or_else(|| self.unknown(first))
    }

    /// What there is to know of a file's text.
    fn notes(&self, remarks: &[branches::Remark], reading: Reading, version: u8) -> Vec<Note> {
        let mut notes: Vec<Note> = Vec::new();
        for remark in remarks {
            let key = self.line_of(remark.span.start).to_owned();
            notes.push(Note { span: remark.span.clone(), key, what: remark.what.clone(), lost: remark.lost });
        }
        for error in reading.broken {
            let what = format!("one way that the `if`s can go isn't JSON, and is left out: {}", error.what);
            notes.push(Note { span: error.span, key: "{{ if }}".to_owned(), what, lost: true });
        }
        for (key, span) in reading.doubles {
            notes.push(Note { span, key, what: "is there twice; the last counts".to_owned(), lost: false });
        }
        if let (2, Some(JsonError { span, what, .. })) = (version, reading.loose) {
            let what = format!("ContainerPilot 2 reads strict JSON, and refuses the file: {what}");
            notes.push(Note { span, key: "JSON".to_owned(), what, lost: false });
        }
        notes
    }

    fn error(&self, problem: Problem) -> Report {
        match Report::of(self.file, self.text, vec![problem]) {
            Err(report) => report,
            Ok(_) => Report::whole(self.file, "can't be imported", None),
        }
    }

    fn template(&self, error: GoError) -> Report {
        let problem = Problem::error(
            error.span,
            format!("this isn't a template that ContainerPilot could render: {}", error.what),
        );
        self.error(problem.label("in this template"))
    }

    fn json(&self, error: JsonError) -> Report {
        let problem = Problem::error(error.span, format!("this isn't JSON: {}", error.what));
        self.error(problem.maybe_hint(error.hint.map(str::to_owned)))
    }

    fn unknown(&self, root: &Node) -> Report {
        let span = root.span.start..root.span.start + 1;
        if OWN.iter().any(|key| root.get(key).is_some()) {
            return self.error(own(span));
        }
        let problem =
            Problem::error(span, "this isn't a config of ContainerPilot's: it has neither `jobs` nor `services`");
        self.error(problem.hint("version 3 has `jobs`, version 2 `services`"))
    }

    /// What stands at a place, for notes on templates.
    fn line_of(&self, at: usize) -> &str {
        let rest = &self.text[at.min(self.text.len())..];
        let end = rest.find("}}").map_or(rest.len(), |end| end + 2);
        rest[..end].lines().next().unwrap_or_default()
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.text[..at];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }

    fn finish(&self, mut document: Document, kind: &str) -> Imported {
        let needs = needs(&document);
        let name = self.file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let mut head = format!("Imported from {name}, {kind}.");
        if document.tables.iter().any(|table| table.path == "service") {
            head += "\nIds in the catalog end in the port here: NAME-HOSTNAME-PORT.";
        }
        for (sometimes, what) in [
            (false, "Must be set, where ContainerPilot took them for empty"),
            (true, "Must be set where what they name is there"),
        ] {
            let of = needs.iter().filter(|need| need.sometimes == sometimes);
            let names: Vec<&str> = of.map(|need| need.name.as_str()).collect();
            if !names.is_empty() {
                head += &format!("\n{what}: {}", names.join(", "));
            }
        }
        let toml = write::toml(&document, &head, &|note| self.position(note.span.start).0);
        for Need { name, span, sometimes } in needs {
            let what = match sometimes {
                false => "must be set; ContainerPilot took it for empty",
                true => "must be set where what it names is there; ContainerPilot took it for empty",
            };
            document.notes.push(Note { span, key: name, what: what.to_owned(), lost: false });
        }
        let mut notes: Vec<Note> = document.notes;
        for table in document.tables {
            notes.extend(table.notes);
            notes.extend(table.keys.into_iter().flat_map(|key| key.notes));
        }
        notes.sort_by_key(|note| note.span.start);
        let notes = unique(notes)
            .into_iter()
            .map(|Note { span, key, what, lost }| {
                let (line, column) = self.position(span.start);
                Remark { line, column, key, what, lost, file: self.file.to_owned() }
            })
            .collect();
        Imported { toml, notes }
    }
}

/// A variable that must be set.
struct Need {
    name: String,
    /// Where it is first asked for.
    span: go::Span,
    /// Whether only for a table that isn't always there.
    sometimes: bool,
}

/// What can't be empty in a table that isn't always there; what else is unset in one is empty.
const NEVER_EMPTY: [&str; 7] = ["name", "service", "port", "every", "interval", "timeout", "ttl"];

/// The variables that must be set.
fn needs(document: &Document) -> Vec<Need> {
    let mut found: Vec<Need> = Vec::new();
    for table in &document.tables {
        let sometimes = table.enabled.is_some();
        let mut guards: Vec<&str> = table.enabled.iter().map(String::as_str).collect();
        let counts = |key: &&Key| !sometimes || NEVER_EMPTY.contains(&key.name.as_str());
        for key in table.keys.iter().filter(counts) {
            each_text(&key.value, &mut guards, &mut |text, guards| {
                for template in text.templates() {
                    let set_anyway = |name: &&String| guards.iter().any(|guard| go::is_set_where(guard, name));
                    for name in template.needs.iter().filter(|name| !set_anyway(name)) {
                        let span = template.span.clone();
                        match found.iter_mut().find(|need| need.name == *name) {
                            Some(need) => {
                                need.sometimes &= sometimes;
                                need.span = if span.start < need.span.start { span } else { need.span.clone() };
                            }
                            None => found.push(Need { name: name.clone(), span, sometimes }),
                        }
                    }
                }
            });
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// Goes through texts, with the conditions under which each counts.
fn each_text<'v>(value: &'v Value, guards: &mut Vec<&'v str>, see: &mut dyn FnMut(&Text, &[&str])) {
    match value {
        Value::Text(text) => see(text, guards),
        Value::Integer(_) | Value::Bool(_) => {}
        Value::List(elements) => elements.iter().for_each(|element| each_text(element, guards, see)),
        Value::Inline(pairs) => pairs.iter().for_each(|(_, value)| each_text(value, guards, see)),
        Value::Choice(condition, yes, no) => {
            guards.push(condition);
            each_text(yes, guards, see);
            guards.pop();
            each_text(no, guards, see);
        }
    }
}
