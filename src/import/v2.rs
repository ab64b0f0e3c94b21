//! ContainerPilot 2, and Containerbuddy before it: one main process on the command line, with services, backends,
//! coprocesses, tasks and sensors around it.

use super::common::{self, Check, NO_LIMIT, Restarts};
use super::document::{Document, Note, Value};
use super::json::{Node, Value as Json};
use super::read::{At, Notes, Time};
use super::text::Text;

const KEYS: [&str; 13] = [
    "consul",
    "etcd",
    "logging",
    "onStart",
    "preStart",
    "preStop",
    "postStop",
    "stopTimeout",
    "services",
    "backends",
    "tasks",
    "coprocesses",
    "telemetry",
];

/// Whether this is its kind of file.
pub(super) fn is(root: &Node) -> bool {
    root.get("services").is_some()
}

/// The document that a file comes to.
pub(super) fn document(root: &Node) -> Document {
    let root = At::new(root, "");
    let mut document = Document::default();
    let mut notes = Notes::default();
    root.only(&KEYS, &mut notes);
    process(&root, &mut document);
    hooks(&root, &mut document);
    services(&root, &mut document, &mut notes);
    backends(&root, &mut document, &mut notes);
    tasks(&root, &mut document, &mut notes);
    coprocesses(&root, &mut document, &mut notes);
    catalog(&root, &mut document, &mut notes);
    telemetry(&root, &mut document, &mut notes);
    document.one("control").set("signals", Value::Bool(true));
    common::logging(&root, &mut document);
    common::unique_names(&mut document);
    document.notes.extend(notes.take());
    document
}

fn process(root: &At<'_>, document: &mut Document) {
    document.one("process").notes.push(Note {
        span: root.node.span.start..root.node.span.start + 1,
        key: "main".to_owned(),
        what: "stands on the command line as before: pilotfish -c FILE -- CMD".to_owned(),
        lost: false,
    });
    common::stop_timeout(root, document);
}

fn hooks(root: &At<'_>, document: &mut Document) {
    let mut notes = Notes::default();
    let old = root.get("onStart").filter(|_| root.get("preStart").is_some());
    if let Some(entry) = old {
        notes.say(&entry.key_span, "onStart", "preStart stands beside it, and counts alone");
    }
    let key = if root.get("preStart").is_some() { "preStart" } else { "onStart" };
    if let (Some(entry), Some(exec)) = (root.get(key), root.command(key, &mut notes)) {
        let table = document.another("hooks.pre_start", entry.value.span.start);
        table.set("exec", Value::words(&exec));
        table.set("timeout", Value::text(NO_LIMIT));
        table.notes.extend(notes.take());
        table.notes.push(unlimited(&entry.key_span, key));
    }
    for (theirs, ours) in [("preStop", "pre_stop"), ("postStop", "post_stop")] {
        if let (Some(entry), Some(exec)) = (root.get(theirs), root.command(theirs, &mut notes)) {
            let key = document.one("hooks").set(ours, common::hook(&exec, None));
            key.notes.extend(notes.take());
            key.notes.push(common::ends_with_the_stop(entry.key_span.clone(), theirs));
        }
    }
    document.notes.extend(notes.take());
}

fn unlimited(span: &super::go::Span, key: impl Into<String>) -> Note {
    let what = format!("ContainerPilot gave it no limit; it has {NO_LIMIT} here");
    Note { span: span.clone(), key: key.into(), what, lost: false }
}

fn services(root: &At<'_>, document: &mut Document, notes: &mut Notes) {
    let all = root.tables("services", notes);
    let several = all.len() > 1;
    let mut entries = Vec::new();
    let mut checks = Vec::new();
    for at in &all {
        at.only(
            &["name", "port", "poll", "ttl", "health", "timeout", "interfaces", "tags", "consul", "publicIp"],
            notes,
        );
        if let Some(entry) = at.get("publicIp") {
            notes.say(&entry.key_span, at.key("publicIp"), "ContainerPilot 2 knows it no longer, and it did nothing");
        }
        for key in ["name", "port", "poll", "ttl"] {
            if at.get(key).is_none() {
                let what = format!("ContainerPilot refuses a service without `{key}`");
                let lost = key == "name" || key == "port";
                let note = Note { span: at.node.span.clone(), key: at.key(key), what, lost };
                notes.0.push(note);
            }
        }
        // An empty one is written as it is: who has it is told by the check of the config, as ContainerPilot told it.
        let Some(name) = at.text("name", notes) else { continue };
        nameless(at, &name, notes);
        let port = at.whole("port", notes);
        let ttl = at.seconds("ttl", notes);
        let interval = at.seconds("poll", notes);
        let mut about = Notes::default();
        let exec = at.command("health", &mut about);
        // Without a timeout of its own a check had until its TTL was over. As many failures as fit into a TTL, each of them
        // as long as one, would leave an instance that hangs in the catalog for several.
        let timeout = at.duration("timeout", &mut about).or(interval.clone());
        if let (Some(entry), Some(_), None) = (at.get("health"), &exec, at.get("timeout")) {
            let what = "may take as long as `poll` here; it had its TTL there";
            about.say(&entry.key_span, at.key("health"), what);
        }
        let origin = at.node.span.start;
        let check = Check { exec, interval, ttl: ttl.clone(), timeout, origin, notes: about.take() };
        let port = match port {
            Some(Value::Integer(1..=65_535)) | Some(Value::Text(_)) => port,
            Some(_) => {
                if let Some(entry) = at.get("port") {
                    notes.lose(
                        &entry.value.span,
                        at.key("port"),
                        "isn't a port: `port` must be > 0; the service is left out",
                    );
                }
                None
            }
            None => None,
        };
        let Some(port) = port else { continue };
        let entry = common::entry(at, name, port, ttl);
        checks.push((entry.name.clone(), check));
        entries.push(entry);
    }
    let called = common::services(entries, document);
    for ((name, check), called) in checks.into_iter().zip(called) {
        if let Some(table) = check.write(&name, None, document)
            && several
        {
            table.set("services", Value::words(&[called]));
        }
    }
}

/// What is said of a service or backend without one.
pub(super) const NAMELESS: &str =
    "is empty, so that ContainerPilot refuses the file; pilotfish refuses what it becomes";

/// Says so of a name that is empty.
fn nameless(at: &At<'_>, name: &Text, notes: &mut Notes) {
    if let (Some(""), Some(entry)) = (name.as_plain(), at.get("name")) {
        notes.lose(&entry.value.span, at.key("name"), NAMELESS);
    }
}

fn backends(root: &At<'_>, document: &mut Document, notes: &mut Notes) {
    for at in root.tables("backends", notes) {
        let mut about = Notes::default();
        at.only(&["name", "poll", "onChange", "tag", "timeout"], &mut about);
        let name = at.text("name", &mut about).map(|name| common::catalog_name(&name, &at, &mut about));
        match &name {
            Some(name) => nameless(&at, name, &mut about),
            None => about.lose(
                &at.node.span,
                at.key("name"),
                "`name` is required (so ContainerPilot refuses the file); left out",
            ),
        }
        let exec = at.command("onChange", &mut about);
        if at.get("onChange").is_none() {
            about.lose(
                &at.node.span,
                at.key("onChange"),
                "`onChange` is required (so ContainerPilot refuses the file); left out",
            );
        }
        if at.get("poll").is_none() {
            about.say(
                &at.node.span,
                at.key("poll"),
                "`poll` must be > 0, says ContainerPilot, and refuses the file; changes are pushed here",
            );
        }
        let timeout = at.duration("timeout", &mut about);
        let (Some(name), Some(exec)) = (name, exec) else {
            notes.0.extend(about.take());
            continue;
        };
        let tag = at.some_text("tag", &mut about);
        let table = document.another("watch", at.node.span.start);
        table.set("service", Value::Text(name));
        table.maybe("tag", tag.map(Value::Text));
        let limited = timeout.is_some();
        let timeout = timeout.map_or(Value::text(NO_LIMIT), |timeout| timeout.value());
        table.set("on_change", common::hook(&exec, Some(timeout)));
        table.notes.extend(about.take());
        if !limited && let Some(entry) = at.get("onChange") {
            table.notes.push(unlimited(&entry.key_span, at.key("onChange")));
        }
    }
    twins(document, notes);
}

/// Two watches of one service get names of their own.
fn twins(document: &mut Document, notes: &mut Notes) {
    let mut seen: Vec<Value> = Vec::new();
    for table in document.tables.iter_mut().filter(|table| table.path == "watch") {
        let Some(service) = table.keys.iter().find(|key| key.name == "service").map(|key| key.value.clone()) else {
            continue;
        };
        let before = seen.iter().filter(|known| **known == service).count();
        if before > 0
            && let Value::Text(name) = &service
        {
            let name = name.clone().and(&format!("-{}", before + 1));
            table.keys.insert(
                0,
                super::document::Key { name: "name".to_owned(), value: Value::Text(name), notes: notes.take() },
            );
        }
        seen.push(service);
    }
}

fn tasks(root: &At<'_>, document: &mut Document, notes: &mut Notes) {
    for at in root.tables("tasks", notes) {
        let mut about = Notes::default();
        at.only(&["name", "command", "frequency", "timeout"], &mut about);
        let exec = at.command("command", &mut about);
        let every = at.duration("frequency", &mut about);
        let timeout = at.duration("timeout", &mut about).or(every.clone());
        let (Some(exec), Some(every)) = (exec, every) else {
            about.lose(&at.node.span, at.path.clone(), "a task needs a `command` and a `frequency`; left out");
            notes.0.extend(about.take());
            continue;
        };
        let name = at.some_text("name", &mut about).unwrap_or_else(|| program(&exec));
        let name = common::own_name(&name, &at, &mut about);
        let table = document.another("task", at.node.span.start);
        table.set("name", Value::Text(name));
        table.set("exec", Value::words(&exec));
        let (often, told) = common::often(&every, &at.node.span, at.key("frequency"));
        table.set("every", often);
        table.maybe("timeout", timeout.as_ref().map(Time::value));
        table.notes.extend(about.take().into_iter().chain(told));
    }
}

/// A program's own name.
fn program(exec: &[Text]) -> Text {
    let path = exec.first().map(Text::sample).unwrap_or_default();
    Text::plain(path.rsplit('/').next().unwrap_or_default())
}

fn coprocesses(root: &At<'_>, document: &mut Document, notes: &mut Notes) {
    for at in root.tables("coprocesses", notes) {
        let mut about = Notes::default();
        at.only(&["name", "command", "restarts"], &mut about);
        let exec = at.command("command", &mut about);
        let restarts = common::restarts(&at, &mut about);
        let name = at.some_text("name", &mut about);
        let Some(exec) = exec else {
            about.lose(&at.node.span, at.path.clone(), "coprocess did not provide a command; left out");
            notes.0.extend(about.take());
            continue;
        };
        let name = common::own_name(&name.unwrap_or_else(|| program(&exec)), &at, &mut about);
        let table = document.another("coprocess", at.node.span.start);
        table.set("name", Value::Text(name));
        table.set("exec", Value::words(&exec));
        table.set("restart", restarts.value());
        table.notes.extend(about.take());
        if let Restarts::Times(_) = restarts.usual
            && let Some(entry) = at.get("restarts")
        {
            let what = "counted over the container's whole life; over a year here".to_owned();
            table.notes.push(Note { span: entry.value.span.clone(), key: at.key("restarts"), what, lost: false });
        }
    }
}

fn catalog(root: &At<'_>, document: &mut Document, notes: &mut Notes) {
    common::consul(root, document, &mut Notes::default());
    let Some(entry) = root.get("etcd") else {
        if root.get("consul").is_none() {
            let what = "ContainerPilot refuses the file: No discovery backend defined";
            notes.lose(&(root.node.span.start..root.node.span.start + 1), "consul", what);
        }
        return;
    };
    let at = At::new(&entry.value, "etcd");
    if root.get("consul").is_some() {
        notes.lose(&entry.key_span, "etcd", "ContainerPilot refuses the file: More than one discovery backend defined");
        return;
    }
    at.only(&["endpoints", "prefix"], notes);
    let table = document.one("catalog");
    table.set("backend", Value::text("etcd"));
    if !matches!(entry.value.value, Json::Object(_)) {
        return;
    }
    let endpoints = at.strings("endpoints", notes).map(|endpoints| Value::words(&endpoints));
    table.maybe("endpoints", endpoints);
    if let Some(prefix) = at.some_text("prefix", notes) {
        let prefix = match prefix.as_plain() {
            Some(plain) => Text::plain(plain.trim_matches('/')),
            None => prefix,
        };
        table.set("prefix", Value::Text(prefix));
    }
    let what =
        "ContainerPilot spoke version 2 of etcd's API and pilotfish speaks version 3: neither sees the other's entries";
    notes.lose(&entry.key_span, "etcd", what);
    table.notes.extend(notes.take());
}

fn telemetry(root: &At<'_>, document: &mut Document, notes: &mut Notes) {
    let Some(at) = common::telemetry(root, &["port", "interfaces", "tags", "sensors"], document) else { return };
    for sensor in at.tables("sensors", notes) {
        let mut about = Notes::default();
        let known = ["namespace", "subsystem", "name", "help", "type", "poll", "check", "timeout"];
        sensor.only(&known, &mut about);
        let exec = sensor.command("check", &mut about);
        let every = sensor.seconds("poll", &mut about);
        if exec.is_none() {
            about.lose(&sensor.node.span, sensor.key("check"), "could not parse check in sensor; left out");
            notes.0.extend(about.take());
            continue;
        }
        if let Some(entry) = sensor.get("timeout") {
            about.say(&entry.key_span, sensor.key("timeout"), "ContainerPilot read it and kept to none");
        }
        let counts = sensor.some_text("type", &mut Notes::default()).is_some_and(|kind| kind.sample() == "counter");
        if counts && let Some(entry) = sensor.get("type") {
            let what = "ContainerPilot added up what the check printed; here a counter's command prints the total";
            about.lose(&entry.value.span, sensor.key("type"), what);
        }
        let table = common::sensor(&sensor, document);
        table.maybe("exec", exec.map(|exec| Value::words(&exec)));
        table.maybe("every", every.as_ref().map(Time::value));
        table.notes.extend(about.take());
    }
}
