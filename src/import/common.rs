//! What both versions of ContainerPilot have, as pilotfish's config says it: where Consul is, how an entry in the
//! catalog and its check are made, the log, telemetry, restarts.

use std::time::Duration;

use super::document::{Document, Note, Table, Value};
pub(super) use super::entry::{Entry, catalog_name, entry, own_name, services, unique_names};
use super::go::Span;
use super::json::Value as Json;
use super::read::{At, Notes, Time};
use super::text::{Piece, Template, Text};

/// What ContainerPilot gave no limit; nobody waits for longer.
pub(super) const NO_LIMIT: &str = "1h";

/// `consul`: a string, or in version 3 an object.
pub(super) fn consul(root: &At<'_>, document: &mut Document, notes: &mut Notes) {
    let Some(entry) = root.get("consul") else { return };
    let table = document.one("catalog");
    table.set("backend", Value::text("consul"));
    let at = At::new(&entry.value, "consul");
    if !matches!(entry.value.value, Json::Object(_)) {
        if let Some(address) = root.some_text("consul", notes) {
            let address = with_a_host(address);
            let secure = address.sample().starts_with("https://");
            table.set("address", Value::Text(address)).notes.extend(notes.take());
            if secure {
                unverified(&At::new(&entry.value, "consul"), table, &[]);
            }
        }
        return;
    }
    at.only(&["address", "scheme", "token", "tls"], notes);
    if let Some(mut address) = at.some_text("address", notes) {
        address = with_a_host(address);
        if let Some(scheme) = at.some_text("scheme", notes) {
            let mut whole = scheme.and("://");
            address.0.drain(..).for_each(|piece| whole.push(piece));
            address = whole;
        }
        table.set("address", Value::Text(address));
    }
    if let (Some(entry), Some(token)) = (at.get("token"), at.some_text("token", notes)) {
        let variable =
            matches!(token.0.as_slice(), [Piece::Template(template)] if template.needs == ["CONSUL_HTTP_TOKEN"]);
        let what = "a token doesn't stand in a config: set CONSUL_HTTP_TOKEN, or `token_file` to a file that holds it";
        match variable {
            true => notes.say(&entry.value.span, at.key("token"), "CONSUL_HTTP_TOKEN counts by itself"),
            false => notes.lose(&entry.value.span, at.key("token"), what),
        }
    }
    let scheme_is_https = at.text("scheme", &mut Notes::default()).is_some_and(|scheme| scheme.sample() == "https");
    let address_is_https =
        at.text("address", &mut Notes::default()).is_some_and(|address| address.sample().starts_with("https://"));
    let tls = at.table("tls");
    let mut authorities = Vec::new();
    if let Some(tls) = &tls {
        tls.only(&["cafile", "capath", "clientcert", "clientkey", "servername", "verify"], notes);
        let mut keys = Vec::new();
        for (theirs, ours) in
            [("cafile", "ca"), ("clientcert", "certificate"), ("clientkey", "key"), ("servername", "server_name")]
        {
            if let Some(text) = tls.some_text(theirs, notes) {
                if ours == "ca" {
                    authorities.push(text.sample());
                }
                keys.push((ours.to_owned(), Value::Text(text)));
            }
        }
        if let Some(entry) = tls.get("capath") {
            notes.lose(
                &entry.key_span,
                tls.key("capath"),
                "a directory of authorities isn't read: put them into one file, `ca`",
            );
        }
        if !keys.is_empty() {
            table.set("tls", Value::Inline(keys));
        }
    }
    let verifies = tls.as_ref().and_then(|tls| tls.flag("verify", &mut Notes::default())).unwrap_or(false);
    if (scheme_is_https || address_is_https) && !verifies {
        unverified(tls.as_ref().unwrap_or(&at), table, &authorities);
    }
    table.notes.extend(notes.take());
}

/// Go takes an address without a host for this one's own, be it that its variable is empty.
fn with_a_host(mut address: Text) -> Text {
    let begins_a_port = |piece: &Piece| matches!(piece, Piece::Plain(text) if text.starts_with(':'));
    if let Some(Piece::Plain(text)) = address.0.first_mut()
        && text.starts_with(':')
    {
        text.insert_str(0, "localhost");
    } else if address.0.get(1).is_some_and(begins_a_port)
        && let Some(Piece::Template(host)) = address.0.first_mut()
        && let [name] = host.needs.as_slice()
        && host.strict == format!("{{{{ env.{name} }}}}")
    {
        host.strict = format!("{{{{ env.{name} or 'localhost' }}}}");
        host.lenient = format!("{{{{ env.{name} | default('localhost', true) }}}}");
        host.sample = "localhost".to_owned();
    }
    address
}

/// ContainerPilot's https is left unverified unless it is told otherwise.
fn unverified(at: &At<'_>, table: &mut Table, authorities: &[String]) {
    let mut notes = Notes::default();
    let span = at.get("verify").map_or(&at.node.span, |entry| &entry.key_span);
    let key = if at.path.ends_with("tls") { at.key("verify") } else { at.path.clone() };
    match authorities.is_empty() {
        false => notes.say(span, key, "the certificate was taken unverified there; it is verified here"),
        true => notes.lose(
            span,
            key,
            "the certificate was taken unverified there; it is verified here: name the authority, `tls = { ca = \"...\" }`",
        ),
    }
    table.notes.extend(notes.take());
}

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
            "stderr" => {}
            "stdout" => notes.say(&entry.value.span, at.key("output"), "the log goes to stderr here"),
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
    let listen = match port {
        None => Text::plain("0.0.0.0:9090"),
        Some(Value::Text(port)) => {
            let mut listen = Text::plain("0.0.0.0:");
            port.0.into_iter().for_each(|piece| listen.push(piece));
            listen
        }
        Some(Value::Integer(port)) => Text::plain(format!("0.0.0.0:{port}")),
        Some(_) => Text::plain("0.0.0.0:9090"),
    };
    table.set("listen", Value::Text(listen));
    let mut advertise = vec![("name".to_owned(), Value::text("containerpilot"))];
    if let Some(tags) = tags.filter(|tags| !tags.is_empty()) {
        advertise.push(("tags".to_owned(), Value::words(&tags)));
    }
    table.set("advertise", Value::Inline(advertise));
    if let (Some(entry), Some(interfaces)) = (at.get("interfaces"), interfaces) {
        let shown: Vec<String> = interfaces.iter().map(Text::sample).collect();
        let what = format!(
            "listened on the address of {} alone and advertised that; here it listens on all of them and advertises the \
             one that is chosen by default, eth0's",
            shown.join(", ")
        );
        let may_be_that = shown.iter().any(|spec| ["eth0", "eth0:inet", "inet"].contains(&spec.as_str()));
        notes.add(&entry.value.span, at.key("interfaces"), what, !may_be_that);
    }
    table.notes.extend(notes.take());
    Some(at)
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
    let kind = at.some_text("type", &mut notes);
    let help = at.some_text("help", &mut notes);
    let table = document.another("telemetry.sensor", at.node.span.start);
    table.set("name", Value::Text(name));
    if let Some(kind) = kind {
        let summary = kind.sample() == "summary";
        if summary && let Some(entry) = at.get("type") {
            notes.lose(
                &entry.value.span,
                at.key("type"),
                "a summary is a histogram here: its quantiles are the reader's to count",
            );
        }
        table.set("type", if summary { Value::text("histogram") } else { Value::Text(kind) });
    }
    table.maybe("help", help.map(Value::Text));
    table.notes.extend(notes.take());
    table
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
    fn failures(&self) -> Option<i64> {
        let (interval, ttl) = (self.interval.as_ref()?.sample?, self.ttl.as_ref()?.sample?);
        let failures = ttl.as_millis().div_ceil(interval.as_millis().max(1));
        i64::try_from(failures.clamp(1, 1_000_000)).ok()
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
        table.maybe("failures", self.failures().map(Value::Integer));
        table.notes.extend(self.notes.iter().cloned());
        Some(table)
    }
}

/// How often something is started again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Restarts {
    Never,
    Unlimited,
    Times(i64),
}

/// `restarts`: `"unlimited"`, `"never"`, or how many.
pub(super) fn restarts(at: &At<'_>, notes: &mut Notes) -> Restarts {
    let Some(entry) = at.get("restarts") else { return Restarts::Never };
    let text = super::read::as_text(&entry.value).map(|text| text.sample());
    match text.as_deref() {
        Some("unlimited") => Restarts::Unlimited,
        Some("never") => Restarts::Never,
        Some(text) => match text.parse() {
            Ok(0) => Restarts::Never,
            Ok(times @ 1..) => Restarts::Times(times),
            _ => {
                let what = "accepts positive integers, \"unlimited\", or \"never\" (so ContainerPilot refuses the file); \
                            it is \"never\" here";
                notes.lose(&entry.value.span, at.key("restarts"), what);
                Restarts::Never
            }
        },
        None => {
            notes.lose(&entry.value.span, at.key("restarts"), "is no number of restarts; it is \"never\" here");
            Restarts::Never
        }
    }
}

impl Restarts {
    /// As `restart` says it. ContainerPilot restarts at once, whatever the end was.
    pub(super) fn value(self) -> Value {
        let pair = |name: &str, value: Value| (name.to_owned(), value);
        Value::Inline(match self {
            Restarts::Never => vec![pair("policy", Value::text("never"))],
            Restarts::Unlimited => vec![
                pair("policy", Value::text("always")),
                pair("max", Value::Integer(1_000_000)),
                pair("backoff", Value::text("100ms")),
            ],
            Restarts::Times(times) => vec![
                pair("policy", Value::text("always")),
                pair("max", Value::Integer(times.min(i64::from(u32::MAX)))),
                pair("within", Value::text("365d")),
                pair("backoff", Value::text("100ms")),
            ],
        })
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
    let counted =
        |seconds: &str| format!("{{% set seconds %}}{seconds}{{% endset %}}{{{{ [seconds | int + 4, 9] | max }}}}");
    let mut whole = Template {
        span: 0..0,
        strict: String::new(),
        lenient: String::new(),
        sample: seconds.sample(),
        needs: Vec::new(),
    };
    if let Some(template) = seconds.templates().next() {
        whole.span = template.span.clone();
    }
    whole.needs = seconds.templates().flat_map(|template| template.needs.clone()).collect();
    whole.strict = counted(&seconds.write(false));
    whole.lenient = counted(&seconds.write(true));
    Text(vec![Piece::Template(whole)])
}

/// What is said of a hook of the stop that had no limit.
pub(super) fn ends_with_the_stop(span: Span, key: impl Into<String>) -> Note {
    let what = "ContainerPilot gave it no limit; it ends with the time of the stop here: `[stop] within`".to_owned();
    Note { span, key: key.into(), what, lost: false }
}

/// A hook's table.
pub(super) fn hook(exec: &[Text], timeout: Option<Value>) -> Value {
    let mut keys = vec![("exec".to_owned(), Value::words(exec))];
    keys.extend(timeout.map(|timeout| ("timeout".to_owned(), timeout)));
    Value::Inline(keys)
}

/// Whether a command is a Consul agent.
pub(super) fn is_consul_agent(exec: &[Text], name: &str) -> bool {
    let program = exec.first().map(Text::sample).unwrap_or_default();
    let is_consul = program.rsplit('/').next() == Some("consul");
    let agent = exec.iter().skip(1).take(2).any(|word| word.sample() == "agent");
    is_consul && agent || name.to_lowercase().replace(['_', '-'], "").contains("consulagent")
}
