//! What both versions of ContainerPilot have, as pilotfish's config says it: checks, the log, telemetry, the stop.

use std::net::Ipv4Addr;
use std::time::Duration;

pub(super) use super::consul::consul;
use super::document::{Document, Note, Table, Value};
pub(super) use super::entry::{Entry, catalog_name, entry, own_name, services, unique_names};
use super::entry::{first_by_name, sound_specs};
use super::go::Span;
use super::read::{At, Notes, Time};
pub(super) use super::restarts::{Restarting, Restarts, restarts};
use super::text::{Piece, Text};

/// What ContainerPilot gave no limit; nobody waits for longer.
pub(super) const NO_LIMIT: &str = "1h";

/// `logging`.
pub(super) fn logging(root: &At<'_>, document: &mut Document) {
    let Some(at) = root.table("logging") else { return };
    let mut notes = Notes::default();
    at.only(&["level", "format", "output"], &mut notes);
    let table = document.one("log");
    if let (Some(entry), Some(level)) = (at.get("level"), at.some_text("level", &mut notes)) {
        if level.is_template() {
            // Levels are read in any letters here, too.
            let known = ["debug", "info", "warn", "warning", "error", "fatal", "panic"];
            let known = known.contains(&level.sample().to_lowercase().as_str());
            table.set("level", Value::Text(level)).notes.extend(known.then(Vec::new).unwrap_or_else(|| {
                vec![Note {
                    span: entry.value.span.clone(),
                    key: at.key("level"),
                    what: "must come to error, warn, info, debug or trace".to_owned(),
                    lost: false,
                }]
            }));
        } else {
            match level.sample().to_lowercase().as_str() {
                "debug" => drop(table.set("level", Value::text("debug"))),
                "info" => {}
                "warn" | "warning" => drop(table.set("level", Value::text("warn"))),
                "error" | "fatal" | "panic" => drop(table.set("level", Value::text("error"))),
                other => {
                    let what = format!("ContainerPilot knows no level `{other}`; left out");
                    notes.lose(&entry.value.span, at.key("level"), what);
                }
            }
        }
    }
    if let (Some(entry), Some(format)) = (at.get("format"), at.some_text("format", &mut notes)) {
        match format.sample().to_lowercase().as_str() {
            word if format.is_template() => {
                if !["text", "default", "json"].contains(&word) {
                    notes.say(&entry.value.span, at.key("format"), "must come to text, default or json");
                }
                let format = format.filtered("lower | replace('default', 'text')");
                table.set("format", Value::Text(format));
            }
            "json" => drop(table.set("format", Value::text("json"))),
            "text" | "default" => {}
            other => {
                let what = format!("ContainerPilot knows no format `{other}`; left out");
                notes.lose(&entry.value.span, at.key("format"), what);
            }
        }
    }
    if let (Some(entry), Some(output)) = (at.get("output"), at.some_text("output", &mut notes)) {
        match output.sample().to_lowercase().as_str() {
            "stderr" if !output.is_template() => {}
            "stdout" | "stderr" | "" => notes.say(&entry.value.span, at.key("output"), "the log goes to stderr here"),
            _ => notes.lose(&entry.value.span, at.key("output"), "the log goes to stderr here, and to no file"),
        }
    }
    table.notes.extend(notes.take());
}

/// `telemetry`, but for what measures.
pub(super) fn telemetry<'n>(root: &At<'n>, known: &[&str], document: &mut Document) -> Option<At<'n>> {
    let at = root.table("telemetry")?;
    let mut notes = Notes::default();
    at.only(known, &mut notes);
    let port = at.whole("port", &mut notes);
    let interfaces = at.strings("interfaces", &mut notes);
    let tags = at.strings("tags", &mut notes);
    let table = document.one("telemetry");
    let span = at.get("interfaces").map_or(&at.node.span, |entry| &entry.value.span);
    let interfaces = interfaces.map(|specs| sound_specs(specs, span, &at.key("interfaces"), &mut notes));
    let mut listen = listen_at(interfaces.unwrap_or_default());
    match port {
        Some(Value::Text(port)) => port.0.into_iter().for_each(|piece| listen.push(piece)),
        Some(Value::Integer(port)) => listen.push(Piece::Plain(port.to_string())),
        _ => listen.push(Piece::Plain("9090".to_owned())),
    }
    table.set("listen", Value::Text(listen));
    let mut advertise = vec![("name".to_owned(), Value::text("containerpilot"))];
    if let Some(tags) = tags.filter(|tags| !tags.is_empty()) {
        advertise.push(("tags".to_owned(), Value::words(&tags)));
    }
    table.set("advertise", Value::Inline(advertise));
    table.notes.extend(notes.take());
    Some(at)
}

/// Where telemetry listens, up to its port: the first of these that there is, or everywhere.
fn listen_at(interfaces: Vec<Text>) -> Text {
    if let Some(address) = own_address(&interfaces) {
        return Text::plain(format!("{address}:"));
    }
    let mut listen = Text::default();
    for (index, spec) in first_by_name(interfaces).into_iter().enumerate() {
        if index > 0 {
            listen.push(Piece::Plain(",".to_owned()));
        }
        spec.0.into_iter().for_each(|piece| listen.push(piece));
    }
    if listen.0.is_empty() { Text::plain("0.0.0.0:") } else { listen.and(":") }
}

/// The one address that is known without a look at the container's interfaces.
fn own_address(interfaces: &[Text]) -> Option<String> {
    let [only] = interfaces else { return None };
    let spec = only.as_plain()?;
    let address = match spec {
        "lo" | "lo:inet" => "127.0.0.1",
        spec => spec.strip_prefix("static:")?,
    };
    address.parse::<Ipv4Addr>().is_ok().then(|| address.to_owned())
}

/// What measures, but for how.
pub(super) fn sensor<'d>(at: &At<'_>, document: &'d mut Document) -> &'d mut Table {
    let mut notes = Notes::default();
    let parts: Vec<Text> =
        ["namespace", "subsystem", "name"].iter().filter_map(|key| at.some_text(key, &mut notes)).collect();
    let mut name = Text::default();
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            name.push(Piece::Plain("_".to_owned()));
        }
        part.0.into_iter().for_each(|piece| name.push(piece));
    }
    let name = metric_name(name, at, &mut notes);
    let kind = at.some_text("type", &mut notes);
    let help = at.some_text("help", &mut notes);
    let table = document.another("telemetry.sensor", at.node.span.start);
    table.set("name", Value::Text(name));
    if let (Some(kind), Some(entry)) = (kind, at.get("type")) {
        let kind = match kind.as_plain() {
            Some("summary") => {
                let what = "a summary is a histogram here: its quantiles are the reader's to count";
                notes.lose(&entry.value.span, at.key("type"), what);
                Text::plain("histogram")
            }
            Some(other) if !["gauge", "counter", "histogram"].contains(&other) => {
                let what = format!("ContainerPilot refuses the file: there is no type `{other}`; it is a gauge here");
                notes.lose(&entry.value.span, at.key("type"), what);
                Text::plain("gauge")
            }
            Some(_) => kind,
            None => {
                let what = "must come to gauge, counter or histogram; a summary is a histogram here";
                notes.say(&entry.value.span, at.key("type"), what);
                kind.filtered("replace('summary', 'histogram')")
            }
        };
        table.set("type", Value::Text(kind));
    }
    table.maybe("help", help.map(Value::Text));
    table.notes.extend(notes.take());
    table
}

/// A metric's name as Prometheus takes it.
fn metric_name(name: Text, at: &At<'_>, notes: &mut Notes) -> Text {
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut fit, mut changed) = (Text::default(), false);
    for (index, piece) in name.0.iter().enumerate() {
        fit.push(match piece {
            Piece::Plain(text) => {
                let mut plain: String = text.chars().map(|c| if sound(c) { c } else { '_' }).collect();
                if index == 0 && plain.starts_with(|c: char| c.is_ascii_digit()) {
                    plain.insert(0, '_');
                }
                changed |= plain != *text;
                Piece::Plain(plain)
            }
            template => template.clone(),
        });
    }
    if fit.0.is_empty() {
        fit = Text::plain("unnamed");
        changed = true;
    }
    if changed {
        let what = format!("no metric can be called `{}`; it is `{}` here", name.sample().escape_debug(), fit.sample());
        let span = at.get("name").map_or(&at.node.span, |entry| &entry.value.span);
        notes.lose(span, at.key("name"), what);
    }
    fit
}

/// How something is checked.
#[derive(Debug, Clone)]
pub(super) struct Check {
    pub(super) exec: Option<Vec<Text>>,
    pub(super) interval: Option<Time>,
    pub(super) ttl: Option<Time>,
    pub(super) timeout: Option<Time>,
    pub(super) origin: usize,
    pub(super) notes: Vec<Note>,
}

impl Check {
    /// How many failures in a row are as long as ContainerPilot took to let a TTL run out.
    fn failures(&self) -> Option<Value> {
        let (interval, ttl) = (self.interval.as_ref()?, self.ttl.as_ref()?);
        let usual = || {
            let failures = ttl.sample?.as_millis().div_ceil(interval.sample?.as_millis().max(1));
            i64::try_from(failures.clamp(1, 1_000_000)).ok()
        };
        if !interval.text.is_template() && !ttl.text.is_template() {
            return usual().map(Value::Integer);
        }
        let (interval, ttl) = (interval.seconds()?, ttl.seconds()?);
        let named = [("interval", &interval), ("ttl", &ttl)];
        let number = |(name, text): (&str, &Text)| text.as_plain().map_or(format!("{name} | int"), str::to_owned);
        let [of_interval, of_ttl] = named.map(number);
        let made = format!("{{{{ [({of_ttl} + {of_interval} - 1) // ({of_interval}), 1] | max }}}}");
        let unknown: Vec<_> = named.into_iter().filter(|(_, text)| text.is_template()).collect();
        Some(Value::Text(Text::computed(&unknown, &made, usual().unwrap_or(1).to_string())))
    }

    /// `[[health]]`, if there is something to ask.
    pub(super) fn write<'d>(
        &self,
        name: &Text,
        of: Option<&Text>,
        document: &'d mut Document,
    ) -> Option<&'d mut Table> {
        let Some(exec) = &self.exec else {
            // What is wrong with it is all that is left.
            document.notes.extend(self.notes.iter().cloned());
            return None;
        };
        let table = document.another("health", self.origin);
        table.set("name", Value::Text(name.clone()));
        table.maybe("of", of.cloned().map(Value::Text));
        table.set("exec", Value::words(exec));
        table.maybe("interval", self.interval.as_ref().map(Time::value));
        // A check that takes longer lets its TTL run out.
        let timeout = self.timeout.as_ref().or(self.interval.as_ref());
        table.maybe("timeout", timeout.map(Time::value));
        table.maybe("failures", self.failures());
        table.notes.extend(self.notes.iter().cloned());
        Some(table)
    }
}

/// `stopTimeout`, in seconds.
pub(super) fn stop_timeout(root: &At<'_>, document: &mut Document) {
    let Some(entry) = root.get("stopTimeout") else { return };
    let mut notes = Notes::default();
    match root.whole("stopTimeout", &mut notes) {
        Some(Value::Integer(0)) | None => {}
        Some(Value::Integer(..0)) => {
            let key = document.one("process").set("stop_signal", Value::text("KILL"));
            key.notes.push(Note {
                span: entry.value.span.clone(),
                key: "stopTimeout".to_owned(),
                what: "less than 0: main is killed at once".to_owned(),
                lost: false,
            });
        }
        Some(Value::Integer(seconds)) => {
            let time = Duration::from_secs(seconds.unsigned_abs().min(86_400));
            document.one("process").set("stop_timeout", Time::of(time).value());
            // With what the hooks and the catalog need besides.
            let within = time + Duration::from_secs(4);
            if within > Duration::from_secs(9) {
                let key = document.one("stop").set("within", Time::of(within).value());
                key.notes.push(Note {
                    span: entry.value.span.clone(),
                    key: "stopTimeout".to_owned(),
                    what: "raise the scheduler's own timeout above this: `docker stop -t`, `stop_grace_period`"
                        .to_owned(),
                    lost: false,
                });
            }
        }
        Some(Value::Text(text)) => {
            let text = text.trimmed();
            document.one("process").set("stop_timeout", Value::Text(text.clone().and("s")));
            let what = "raise the scheduler's own timeout above this: `docker stop -t`, `stop_grace_period`";
            document.one("stop").set("within", Value::Text(within_of(text).and("s"))).notes.push(Note {
                span: entry.value.span.clone(),
                key: "stopTimeout".to_owned(),
                what: what.to_owned(),
                lost: false,
            });
        }
        Some(_) => {}
    }
    document.notes.extend(notes.take());
}

/// What a whole stop may take where main may take what a template says, in seconds: as much more as where the number is
/// known, and no less than by default.
fn within_of(seconds: Text) -> Text {
    let sample = seconds.sample();
    Text::computed(&[("seconds", &seconds)], "{{ [seconds | int + 4, 9] | max }}", sample)
}

/// What is said of a hook of the stop that had no limit.
pub(super) fn ends_with_the_stop(span: Span, key: impl Into<String>) -> Note {
    let what = "ContainerPilot gave it no limit; it ends with the time of the stop here: `[stop] within`".to_owned();
    Note { span, key: key.into(), what, lost: false }
}

/// How often a task runs: not more often than a task can.
pub(super) fn often(every: &Time, span: &Span, key: impl Into<String>) -> (Value, Option<Note>) {
    const LEAST: Duration = Duration::from_millis(100);
    match every.sample {
        Some(time) if time < LEAST && !every.text.is_template() => {
            let what =
                "a task runs every 100ms at most; what is to run all the time is a process of its own".to_owned();
            (Time::of(LEAST).value(), Some(Note { span: span.clone(), key: key.into(), what, lost: true }))
        }
        _ => (every.value(), None),
    }
}

/// A hook's table.
pub(super) fn hook(exec: &[Text], timeout: Option<Value>) -> Value {
    let mut keys = vec![("exec".to_owned(), Value::words(exec))];
    keys.extend(timeout.map(|timeout| ("timeout".to_owned(), timeout)));
    Value::Inline(keys)
}
