//! One job of a file, read.

use crate::import::common::{self, Check, Entry, Restarting, Restarts};
use crate::import::document::{Note, Value};
use crate::import::go::Span;
use crate::import::read::{At, Flag, Notes, Time, settled};
use crate::import::text::Text;

/// A job.
#[derive(Debug)]
pub(super) struct Job {
    /// As pilotfish takes it.
    pub(super) name: Text,
    /// What others call it.
    pub(super) label: String,
    /// The same as it is written.
    pub(super) written: Text,
    pub(super) path: String,
    pub(super) span: Span,
    pub(super) origin: usize,
    pub(super) exec: Option<Vec<Text>>,
    pub(super) when: When,
    pub(super) when_span: Span,
    pub(super) when_timeout: Option<Time>,
    /// The job or watch that its event is of, as it is written.
    pub(super) source: Option<Text>,
    /// Where nothing is set.
    pub(super) restarts: Restarts,
    pub(super) restarting: Restarting,
    pub(super) timeout: Option<Time>,
    pub(super) entry: Option<Entry>,
    pub(super) check: Option<Check>,
    pub(super) raw: Option<Flag>,
    pub(super) notes: Vec<Note>,
}

/// When a job is started.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum When {
    Startup,
    Interval(Time),
    Event { source: String, code: Code, each: bool },
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    ExitSuccess,
    ExitFailed,
    Stopping,
    Stopped,
    Healthy,
    Unhealthy,
    Changed,
    /// A signal, maintenance, a timer: nothing that a job can be made of here.
    Other,
}

impl Job {
    /// The command's words; none for what only is in the catalog.
    pub(super) fn words(&self) -> &[Text] {
        self.exec.as_deref().unwrap_or_default()
    }

    pub(super) fn all_notes(&self) -> Vec<Note> {
        self.notes.clone()
    }

    /// Whether it runs once and has an end that others can wait for.
    pub(super) fn is_a_one_shot(&self) -> bool {
        let alone = self.entry.is_none() && self.check.is_none() && !self.restarting.may_be();
        self.exec.is_some() && alone && !matches!(self.when, When::Interval(_))
    }

    /// Whether its end is what others wait for.
    pub(super) fn waits_for(&self) -> Option<(&str, Code)> {
        match &self.when {
            When::Event { source, code, .. } => Some((source, *code)),
            When::Startup | When::Interval(_) => None,
        }
    }
}

const KEYS: [&str; 14] = [
    "name",
    "exec",
    "port",
    "initial_status",
    "interfaces",
    "tags",
    "consul",
    "health",
    "timeout",
    "restarts",
    "stopTimeout",
    "when",
    "logging",
    "restart",
];

/// Reads a job.
pub(super) fn read(at: &At<'_>, index: usize) -> Job {
    let mut notes = Notes::default();
    at.only(&KEYS[..13], &mut notes);
    let exec = at.command("exec", &mut notes);
    let named = at.some_text("name", &mut notes);
    let written = named.clone().unwrap_or_else(|| {
        let program = exec.as_ref().and_then(|words| words.first()).map(Text::sample);
        Text::plain(program.unwrap_or_else(|| format!("job{index}")))
    });
    let mut label = written.identity();
    if label.is_empty() {
        label = format!("job{index}");
    }
    let (when, when_span) = when(at, &mut notes);
    let when_timeout = at.table("when").and_then(|when| when.duration("timeout", &mut notes));
    let source = at.table("when").and_then(|when| when.some_text("source", &mut Notes::default()));
    let restarting = common::restarts(at, &mut notes);
    if restarting.usual == Restarts::Unlimited && matches!(&when, When::Event { each: true, .. }) {
        let span = at.get("restarts").map_or(at.node.span.clone(), |entry| entry.value.span.clone());
        let what = "may not be used when 'job.when.each' is set, says ContainerPilot, and refuses the file; left out";
        notes.say(&span, at.key("restarts"), what);
    }
    let timeout = at.duration("timeout", &mut notes);
    let check = check(at);
    let port = at.whole("port", &mut notes).filter(|port| *port != Value::Integer(0));
    let port = match port {
        Some(Value::Integer(number)) if !(1..=65_535).contains(&number) => {
            let span = at.get("port").map_or(at.node.span.clone(), |entry| entry.value.span.clone());
            notes.lose(&span, at.key("port"), format!("{number} isn't a port; left out"));
            None
        }
        port => port,
    };
    if port.is_some() && check.is_none() {
        let what = "ContainerPilot refuses the file: health must be set if 'port' is set";
        notes.say(&at.node.span, at.key("health"), what);
    }
    if port.is_some() && named.is_none() {
        notes.say(&at.node.span, at.key("name"), "ContainerPilot refuses the file: 'name' must not be blank");
    }
    let entry = port.map(|port| {
        let ttl = check.as_ref().and_then(|check| check.ttl.clone());
        common::entry(at, written.clone(), port, ttl)
    });
    let name = match (&entry, &named) {
        (Some(entry), _) => entry.name.clone(),
        (None, Some(name)) => common::own_name(name, at, &mut notes),
        (None, None) => Text::plain(label.rsplit('/').next().unwrap_or_default()),
    };
    if let Some(status) = at.get("initial_status") {
        let text = at.text("initial_status", &mut notes).unwrap_or_default();
        let is_critical = text.sample() == "critical";
        if !is_critical || text.is_template() {
            let what = "an entry is critical until its first check has passed here";
            notes.add(&status.value.span, at.key("initial_status"), what, !is_critical);
        }
    }
    if let Some(timeout) = at.get("stopTimeout") {
        let what = "how long it waits for what runs when it stops; `[stop] within` bounds all of that here";
        notes.say(&timeout.value.span, at.key("stopTimeout"), what);
    }
    let raw = at.table("logging").and_then(|logging| {
        logging.only(&["raw"], &mut notes);
        logging.flag("raw", &mut notes)
    });
    Job {
        name,
        label,
        written,
        path: at.path.clone(),
        span: at.node.span.clone(),
        origin: at.node.span.start,
        exec,
        when,
        when_span,
        when_timeout,
        source,
        restarts: restarting.usual,
        restarting,
        timeout,
        entry,
        check,
        raw,
        notes: notes.take(),
    }
}

fn check(at: &At<'_>) -> Option<Check> {
    let health = at.table("health")?;
    let mut notes = Notes::default();
    health.only(&["exec", "interval", "ttl", "timeout", "logging"], &mut notes);
    for key in ["interval", "ttl"] {
        if health.get(key).is_none() {
            let what =
                format!("ContainerPilot refuses the file: health.{key} must be > 0; it has pilotfish's own here");
            notes.say(&health.node.span, health.key(key), what);
        }
    }
    Some(Check {
        exec: health.command("exec", &mut notes),
        interval: health.seconds("interval", &mut notes),
        ttl: health.seconds("ttl", &mut notes),
        timeout: health.duration("timeout", &mut notes),
        origin: health.node.span.start,
        notes: notes.take(),
    })
}

fn when(at: &At<'_>, notes: &mut Notes) -> (When, Span) {
    let Some(when) = at.table("when") else { return (When::Startup, at.node.span.clone()) };
    let span = when.node.span.clone();
    when.only(&["interval", "source", "once", "each", "timeout"], notes);
    if when.get("interval").is_some() {
        if when.get("once").is_some() || when.get("each").is_some() {
            let what = "ContainerPilot refuses the file: can have only one of 'interval', 'once', or 'each'; `interval` counts here";
            notes.say(&span, when.path.clone(), what);
        }
        return match when.duration("interval", notes) {
            Some(every) => (When::Interval(every), span),
            None => (When::Startup, span),
        };
    }
    let source = when.some_text("source", notes).map(|source| source.identity()).unwrap_or_default();
    let once = when.some_text("once", notes);
    let each = when.some_text("each", notes);
    for (key, event) in [("once", &once), ("each", &each)] {
        if let (Some(entry), Some(event)) = (when.get(key), event.as_ref().filter(|event| event.is_template())) {
            notes.lose(&entry.value.span, when.key(key), settled(event));
        }
    }
    let event = match (&once, &each) {
        (Some(event), _) | (None, Some(event)) => event.sample(),
        (None, None) if source.is_empty() => return (When::Startup, span),
        (None, None) => String::new(),
    };
    let code = match event.as_str() {
        "exitSuccess" => Code::ExitSuccess,
        "exitFailed" => Code::ExitFailed,
        "stopping" => Code::Stopping,
        "stopped" => Code::Stopped,
        "healthy" => Code::Healthy,
        "unhealthy" => Code::Unhealthy,
        "changed" => Code::Changed,
        "startup" => return (When::Startup, span),
        _ => Code::Other,
    };
    (When::Event { source, code, each: once.is_none() }, span)
}
