//! The reference of all that the program tells others: its exit codes, what main and hooks are given, the log, the metrics,
//! the status. What can be read off the source or asked of the code is; the rest is held against the source by the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::of_the_repository;
use super::samples::{a_full_status, an_instance, samples};
use crate::effects::on_change;
use crate::endpoints::status::StatusBody;
use crate::exit_codes;
use crate::logging::fields;
use crate::metrics;
use crate::supervisor::Notice;
use crate::supervisor::vocabulary::*;

const INTRODUCTION: &str = "# What pilotfish tells others

Exit codes, the environment of main and hooks, the standard input of `on_change`, the log, the metrics and the status. All of
it is an interface: what changes here is in the [changelog](../CHANGELOG.md).

This page is made from the source by `make reference`; don't edit it.
";

/// Variables of main and of all that runs beside it: name, meaning.
const VARIABLES: [(&str, &str); 11] = [
    ("PILOTFISH_PID", "The agent's process id."),
    ("PILOTFISH_EVENT", "What this is run for: see below."),
    ("PILOTFISH_MAIN_PID", "Main's process id, while it runs."),
    ("PILOTFISH_WATCH", "The watch's name, for `on_change` and a template's `check`."),
    ("PILOTFISH_TASK", "The task's name; only tasks have it."),
    (
        "PILOTFISH_<SERVICE>_ADDRESS",
        "The address that this container advertises for a service; one for each. The service's name in capitals, with `_` for what is neither letter nor digit.",
    ),
    ("PILOTFISH_ROLE", "With an election: `leader` or `replica`."),
    ("PILOTFISH_LEADER", "Who leads, as `host:port`; on a replica once that one acts."),
    ("PILOTFISH_LEADER_ID", "Who leads, as the candidate's id."),
    ("PILOTFISH_TERM", "The term of who leads, a number that grows with each: the fencing token."),
    (
        "PILOTFISH_FIRST",
        "`1` for a leader before anybody has ever begun to act, which may initialise what the leader writes to.",
    ),
];

/// What else is logged: name, levels, meaning.
const OTHER_EVENTS: [(&str, &str, &str); 28] = [
    ("catalog.alarm", "warn", "etcd has raised an alarm, or its database is nearly full."),
    (
        "catalog.cluster",
        "info, warn",
        "An endpoint of etcd belongs to another cluster and isn't asked; or that is over.",
    ),
    ("catalog.connections", "warn", "Consul takes no more connections from here."),
    ("catalog.dead_stay", "debug", "On `local`, what a container that is gone left in the directory can't be removed."),
    ("catalog.files", "warn", "Files that `[catalog]` names can't be read for a while; what was read last is used."),
    ("catalog.left_behind", "debug, warn", "An entry of this container may be left in a catalog."),
    (
        "catalog.left_out",
        "debug, warn",
        "What somebody wrote into the catalog isn't an instance or key, or can't be read, and is left out.",
    ),
    ("catalog.login", "warn", "etcd's authentication is turned off, so the login of the config isn't used."),
    ("catalog.moved", "warn", "The address of Consul leads to another of its agents."),
    ("catalog.partial", "warn", "The Consul token may see only a part of what is asked for."),
    ("catalog.taken_over", "info", "On `local`, the directory was left from before a reboot, and is used again."),
    ("catalog.tls", "warn", "New certificates can't be used, so the old ones are."),
    ("catalog.watch_ended", "debug", "A watch on etcd ended, and is begun again."),
    ("config.imported", "info, warn", "The config is another program's, or something of it isn't carried over."),
    ("config.left_out", "info", "A table in double brackets isn't there, because its `enabled` says so."),
    ("config.warning", "warn", "Something in the config may not be as meant."),
    ("degraded", "warn, error", "Something is not as it should be, and the agent goes on."),
    ("election.failed", "warn", "The store couldn't do what the election asked of it."),
    ("election.fence", "warn", "What the fence can't reach when a leader's time is over."),
    ("election.last_failed", "debug", "News of this leader couldn't be told beside the lock yet."),
    ("election.witness", "debug", "By what the end of this container is known on its host."),
    ("endpoint.accept_failed", "debug", "A connection to an endpoint couldn't be taken."),
    (
        "endpoint.back",
        "info",
        "An endpoint listens at last whose address could not be had before, or at the other one that its interface has now.",
    ),
    ("memory.exhausted", "warn", "The kernel has killed processes of this container for want of memory."),
    ("notify.failed", "debug, warn, error", "sd_notify can't be heard, or passed on, for a moment."),
    ("notify.ignored", "warn", "An sd_notify message that isn't main's, or is too long."),
    ("panic", "error", "A fault in pilotfish. A task's is survived; the loop's own ends the agent with code 70."),
    ("witness", "info", "`pilotfish witness` waits for the ends of leaders' containers."),
];

/// The page.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    page += "\n## Exit codes\n\nA container's:\n\n";
    table(
        &mut page,
        ["code", "why the container ended"],
        exit_codes::of_containers().into_iter().map(|(a, b)| [a, b.to_owned()]),
    );
    page += "\nA subcommand's:\n\n";
    table(&mut page, ["code", "meaning"], exit_codes::of_subcommands().into_iter().map(|(a, b)| [a, b.to_owned()]));
    page += "\n## Environment\n\nMain, hooks, checks, tasks and sensors have the agent's own environment, what the config sets, and these, empty where there is\nnothing to say:\n\n";
    let variables = VARIABLES.iter().map(|(name, meaning)| [format!("`{name}`"), (*meaning).to_owned()]);
    table(&mut page, ["variable", "meaning"], variables);
    let mut events: Vec<String> = jobs().iter().map(|job| format!("`{}`", job.event())).collect();
    // A coprocess's hooks are called as main's are.
    let mut seen = BTreeSet::new();
    events.retain(|event| seen.insert(event.clone()));
    let reasons = StartReason::ALL.map(|reason| format!("`{}`", reason.event())).join(", ");
    let _ = write!(
        page,
        "\n`PILOTFISH_EVENT` is one of {}. For main's `pre_start` it says why main is prepared: {reasons}.\n",
        events.join(", ")
    );
    page += "\n## Standard input of `on_change`\n\nOne JSON document, on one line. `added`, `removed` and `changed` say what is different from what `on_change` was told before\n\
             (`changed` as it is now), `instances` all there is now. What a run was told that failed or was cut short, or a command in\n\
             whose place `on_change` is since a reload, may have been done or not: as far as it is there it is `added` again, and what\n\
             has left is `removed`. For a watch on a service:\n\n";
    let _ = write!(page, "```json\n{}```\n", pretty(&of_instances()));
    let fields = instance_fields().into_iter().map(|(name, meaning)| [format!("`{name}`"), meaning]);
    page += "\nOf an instance:\n\n";
    table(&mut page, ["field", "meaning"], fields);
    page +=
        "\nFor a watch on keys the items are `key` and `value`; on one key there is one with a `value`, or none:\n\n";
    let _ = write!(page, "```json\n{}```\n", pretty(&of_keys()));
    page += "\n## The log\n\nOne line for each event, on standard error. As text: `TIME LEVEL EVENT: SENTENCE`. With `[log] format = \"json\"` an object with\n\
             `time` (RFC 3339, UTC), `level`, `event` and `message`, which is the sentence, and with the fields below. Names, levels and\n\
             fields stay what they are; sentences may change.\n\n";
    table(&mut page, ["event", "level", "fields", "what has happened"], notices());
    page += "\nLines that hooks and checks print are events of level `info` called `hook`, with the fields `hook` and `stream`. And:\n\n";
    let others = OTHER_EVENTS
        .iter()
        .map(|(name, level, meaning)| [format!("`{name}`"), (*level).to_owned(), (*meaning).to_owned()]);
    table(&mut page, ["event", "level", "what has happened"], others);
    page += "\n## Metrics\n\nAt `/metrics`, in the form of OpenMetrics 1.0. A counter's sample has `_total` behind its name. What there is nothing to tell of\n(no checks, no election) is left out.\n\n";
    table(&mut page, ["metric", "type", "labels", "meaning"], metric_rows());
    page += "\n## The status\n\n`/status`, and `pilotfish status --json`, is one JSON object. Its schema is [status.schema.json](status.schema.json).\n\n";
    table(&mut page, ["field", "type", "meaning"], status_rows());
    page
}

/// The schema of `/status`.
pub fn status_schema() -> String {
    let mut schema = schemars::schema_for!(StatusBody<'_>);
    schema.insert("title".to_owned(), "The status of a container under pilotfish".into());
    pretty(schema.as_value())
}

fn table<const N: usize>(page: &mut String, head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    *page += &line(&head.map(str::to_owned));
    *page += &line(&head.map(|_| "---".to_owned()));
    page.extend(rows.into_iter().map(|row| line(&row.map(|cell| cell.replace('|', "\\|")))));
}

fn pretty(value: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).expect("strings and numbers are JSON"))
}

fn jobs() -> Vec<Job> {
    let name = String::new;
    vec![
        Job::Main,
        Job::PreStart { number: None },
        Job::PostStart,
        Job::PreStop,
        Job::PostStop,
        Job::OnPromote,
        Job::OnDemote,
        Job::OnLeaderChange,
        Job::OnChange { watch: name() },
        Job::TemplateCheck { watch: name() },
        Job::Health { check: name() },
        Job::Rank,
        Job::Task { task: name() },
        Job::Sensor { sensor: name() },
        Job::Coprocess { name: name() },
        Job::CoprocessPreStart { name: name() },
        Job::CoprocessPostStop { name: name() },
        Job::CoprocessReady { name: name() },
    ]
}

fn told(watch: &str, before: &Observation, now: &Observation) -> Value {
    let announcement = Announcement { watch: watch.to_owned(), before: before.clone(), now: now.clone() };
    serde_json::from_str(&on_change::json(&announcement)).expect("JSON")
}

fn of_instances() -> Value {
    told("app", &Observation::Instances([].into()), &Observation::Instances([an_instance()].into()))
}

fn of_keys() -> Value {
    let keys = |value: &str| Observation::Keys([("app/limits/memory".to_owned(), value.to_owned())].into());
    told("limits", &keys("1G"), &keys("2G"))
}

/// The fields of an instance, in the order they are told, as the source describes them.
fn instance_fields() -> Vec<(String, String)> {
    let source = source("src/supervisor/vocabulary/observation.rs");
    let mut described: BTreeMap<String, String> = documented(&source, "pub struct Instance {").into_iter().collect();
    described.insert(
        "host_port".to_owned(),
        "Where it can be reached: `10.0.0.1:80`, `[2001:db8::5]:80`; without a port, the host alone.".to_owned(),
    );
    let told = serde_json::to_string(&an_instance()).expect("JSON");
    let mut fields: Vec<(usize, (String, String))> = described
        .into_iter()
        .map(|field| (told.find(&format!("\"{}\":", field.0)).expect("it is told"), field))
        .collect();
    fields.sort();
    fields.into_iter().map(|(_, field)| field).collect()
}

/// The name of a variant.
fn variant(notice: &Notice) -> String {
    format!("{notice:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// A row for each name: levels, fields and what the source says of the variant.
fn notices() -> Vec<[String; 4]> {
    let source = source("src/supervisor/vocabulary/notice.rs");
    let described: BTreeMap<String, String> = documented(&source, "pub enum Notice {").into_iter().collect();
    let mut rows: Vec<[String; 4]> = Vec::new();
    for notice in samples() {
        let (name, level) = (format!("`{}`", notice.name()), notice.level().word().to_owned());
        let fields: Vec<String> = fields::of(&notice).into_iter().map(|(name, _)| format!("`{name}`")).collect();
        let meaning = described.get(&variant(&notice)).unwrap_or_else(|| panic!("{notice:?} has no comment")).clone();
        match rows.iter_mut().find(|[known, ..]| *known == name) {
            Some([_, levels, known, meanings]) => {
                for (all, one) in [(levels, level), (known, fields.join(", ")), (meanings, meaning)] {
                    match all.contains(&one) {
                        true => {}
                        false if one.ends_with('.') => *all = format!("{all} {one}"),
                        false => *all = format!("{all}, {one}"),
                    }
                }
            }
            None => rows.push([name, level, fields.join(", "), meaning]),
        }
    }
    rows
}

/// A row for each metric that there is: name, type, labels, help.
fn metric_rows() -> Vec<[String; 4]> {
    let text = metrics::render(&a_full_status());
    let mut rows: Vec<[String; 4]> = Vec::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                rows.push([format!("`{name}`"), String::new(), String::new(), help.to_owned()]);
            }
            (Some("#"), Some("TYPE"), Some(_), Some(kind)) => {
                kind.clone_into(&mut rows.last_mut().expect("a type comes behind its help")[1]);
            }
            (Some(sample), ..) if !line.starts_with('#') => {
                let labels = sample.split_once('{').map(|(_, labels)| labels).unwrap_or_default();
                let names =
                    labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| format!("`{name}`"));
                rows.last_mut().expect("a sample comes behind its help")[2] = names.collect::<Vec<_>>().join(", ");
            }
            _ => {}
        }
    }
    rows
}

/// A row for each field of the status, as its schema has it.
fn status_rows() -> Vec<[String; 3]> {
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<StatusBody<'_>>();
    let mut rows = Vec::new();
    add_rows("", schema.as_value(), &mut rows);
    rows
}

fn add_rows(path: &str, schema: &Value, rows: &mut Vec<[String; 3]>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        // What may be null is a choice of two.
        let choices = field["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
        let inner = choices.iter().find(|choice| choice["type"] != "null").unwrap_or(field);
        let may_be_null = !choices.is_empty()
            || field["type"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "null"));
        let kind = match &inner["type"] {
            Value::String(kind) => kind.clone(),
            Value::Array(kinds) => {
                kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("any").to_owned()
            }
            _ => "string".to_owned(),
        };
        let kind = if may_be_null { format!("{kind} or null") } else { kind };
        let said = field["description"].as_str().or(inner["description"].as_str()).unwrap_or_default();
        rows.push([format!("`{path}`"), kind, said.split_whitespace().collect::<Vec<_>>().join(" ")]);
        add_rows(&path, inner, rows);
        add_rows(&format!("{path}[]"), &inner["items"], rows);
        add_rows(&format!("{path}.NAME"), &inner["additionalProperties"], rows);
    }
}

pub fn source(file: &str) -> String {
    fs::read_to_string(of_the_repository(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The fields or variants of an item, with their comments, in order.
pub fn documented(source: &str, item: &str) -> Vec<(String, String)> {
    let (_, body) = source.split_once(item).unwrap_or_else(|| panic!("there is no `{item}`"));
    let (body, _) = body.split_once("\n}").expect("it ends");
    let (mut found, mut comment) = (Vec::new(), String::new());
    for line in
        body.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| !line.starts_with([' ', '}', '#']))
    {
        match line.strip_prefix("/// ") {
            Some(more) => comment = format!("{comment} {more}").trim_start().to_owned(),
            None => {
                let name = line.trim_start_matches("pub ");
                let name = name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                found.push((name, std::mem::take(&mut comment)));
            }
        }
    }
    found
}

/// Every source file that isn't a test, without the tests at its end.
fn sources() -> Vec<(PathBuf, String)> {
    let (mut files, mut folders) = (Vec::new(), vec![of_the_repository("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            let is_test = ["tests", "tests.rs", "generated", "generated.rs"].iter().any(|name| path.ends_with(name));
            match path.is_dir() {
                _ if is_test => {}
                true => folders.push(path),
                false => {
                    let text = fs::read_to_string(&path).expect("a source file is readable");
                    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
                    files.push((path, text));
                }
            }
        }
    }
    files
}

/// What stands between `open` and the next `close`, each time.
fn between<'t>(text: &'t str, open: &'t str, close: char) -> impl Iterator<Item = &'t str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split(close).next())
}

#[test]
fn the_readme_has_the_exit_codes_of_a_container_and_no_others() {
    let readme = source("README.md");
    let (_, table) = readme.split_once("| exit code | why the container ended |\n| --- | --- |\n").unwrap();
    let rows = exit_codes::of_containers().into_iter().map(|(code, meaning)| format!("| {code} | {meaning} |"));
    assert_eq!(table.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>(), rows.collect::<Vec<_>>());
}

#[test]
fn every_kind_of_notice_is_in_the_reference() {
    let source = source("src/supervisor/vocabulary/notice.rs");
    let all: BTreeSet<String> = documented(&source, "pub enum Notice {").into_iter().map(|(name, _)| name).collect();
    assert!(all.len() > 40, "{all:?}");
    let missing: Vec<&String> =
        all.iter().filter(|name| !samples().iter().any(|notice| variant(notice) == **name)).collect();
    assert!(missing.is_empty(), "src/generated/samples.rs has none of {missing:?}");
    // A kind may have several names.
    let names: BTreeSet<&str> = between(&source, "=> (\"", '"').collect();
    assert_eq!(samples().iter().map(Notice::name).collect::<BTreeSet<_>>(), names);
}

#[test]
fn every_other_event_of_the_log_has_a_name_and_is_in_the_reference_with_its_levels() {
    let mut found = BTreeMap::<String, BTreeSet<&str>>::new();
    for (file, text) in sources() {
        for level in ["error", "warn", "info", "debug", "trace"] {
            for call in between(&text, &format!("tracing::{level}!("), ';') {
                if call.contains("target: \"hook\"") {
                    continue;
                }
                let name = between(call, "event = \"", '"').next();
                let name = name.unwrap_or_else(|| panic!("{}: an event without a name: {call}", file.display()));
                found.entry(name.to_owned()).or_default().insert(level);
            }
        }
    }
    let listed: BTreeMap<String, BTreeSet<&str>> =
        OTHER_EVENTS.iter().map(|(name, levels, _)| ((*name).to_owned(), levels.split(", ").collect())).collect();
    assert_eq!(listed, found);
}

#[test]
fn every_metric_that_the_source_names_is_in_the_reference() {
    let is_of_metrics = |file: &Path| file.ends_with("src/metrics.rs") || file.ends_with("src/metrics/sensors.rs");
    let mut named = BTreeSet::new();
    for (_, text) in sources().iter().filter(|(file, _)| is_of_metrics(file)) {
        for (call, unit) in [("gauges", ""), ("counters", ""), ("flag", ""), ("seconds", "_seconds")] {
            let names = between(text, &format!("{call}(pilotfish, \""), '"').map(str::to_owned).collect::<Vec<_>>();
            named.extend(names.into_iter().map(|name| format!("`pilotfish_{name}{unit}`")));
        }
        named.extend(between(text, "pilotfish.register(\"", '"').map(|name| format!("`pilotfish_{name}`")));
    }
    assert!(named.len() > 10, "{named:?}");
    let mut told: BTreeSet<String> = metric_rows().into_iter().map(|[name, ..]| name).collect();
    assert!(told.remove("`process_start_time_seconds`"));
    assert_eq!(told, named);
}

#[test]
fn every_variable_that_the_source_names_is_in_the_reference() {
    let mut named = BTreeSet::new();
    for (file, text) in sources() {
        // What the agent itself is told, and what only tests are.
        if file.ends_with("src/sabotage.rs") || file.components().any(|part| part.as_os_str() == "config") {
            continue;
        }
        named.extend(between(&text, "\"PILOTFISH_", '"').map(|name| name.replace("{name}", "<SERVICE>")));
        if file.ends_with("sequence/role/mod.rs") {
            named.extend(between(&text, "set(\"", '"').map(str::to_owned));
        }
    }
    // Where the names of the others are put together.
    named.remove("<SERVICE>");
    assert_eq!(VARIABLES.iter().map(|(name, _)| name.replace("PILOTFISH_", "")).collect::<BTreeSet<_>>(), named);
}

#[test]
fn every_job_has_its_event_in_the_reference() {
    let source = source("src/supervisor/vocabulary/run.rs");
    let all: BTreeSet<String> = documented(&source, "pub enum Job {").into_iter().map(|(name, _)| name).collect();
    let listed =
        jobs().iter().map(|job| format!("{job:?}").chars().take_while(char::is_ascii_alphanumeric).collect()).collect();
    assert_eq!(all, listed);
}

#[test]
fn a_status_is_what_its_schema_says() {
    let status = serde_json::to_value(StatusBody::of(&a_full_status())).unwrap();
    let rows = status_rows();
    let mut fields = BTreeSet::new();
    name_fields("", &status, &mut fields);
    let listed: BTreeSet<String> = rows.iter().map(|[name, ..]| name.trim_matches('`').to_owned()).collect();
    // Of maintenance there is none here, and of the one hook its name is its key.
    let listed: BTreeSet<String> = listed.into_iter().filter(|name| !name.starts_with("maintenance.")).collect();
    let fields: BTreeSet<String> = fields
        .into_iter()
        .map(|name| name.replace("hooks....", "hooks.NAME"))
        .filter(|name| name != "hooks.NAME")
        .collect();
    assert_eq!(fields, listed);
    assert!(rows.iter().all(|[_, _, meaning]| !meaning.is_empty()), "{rows:?}");
}

fn name_fields(path: &str, value: &Value, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                fields.insert(path.clone());
                name_fields(&path, value, fields);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| name_fields(&format!("{path}[]"), item, fields)),
        _ => {}
    }
}
