//! Two ways to one config: the import with its templates rendered by pilotfish, and the file rendered as ContainerPilot
//! did and then imported. With the same variables unset, empty and set both come to the same.

use toml::{Table, Value};

use super::*;
use crate::config::Variables;
use crate::config::template::render_value;
use crate::import::go;

/// The variables that a file's templates name.
pub(super) fn variables(text: &str) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for action in text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
        for part in action.split('.').skip(1) {
            let end = part.find(|c: char| !(c.is_ascii_uppercase() || c == '_')).unwrap_or(part.len());
            if end > 0 && !names.contains(&&part[..end]) {
                names.push(&part[..end]);
            }
        }
    }
    names
}

/// A config with its templates rendered and what isn't enabled left out; nothing where a variable is missing.
pub(super) fn rendered(toml: &str, variables: &Variables) -> Option<Table> {
    fn each(value: Value, variables: &Variables) -> Option<Value> {
        Some(match value {
            Value::String(text) if text.contains("{{") || text.contains("{%") => {
                Value::String(render_value(&text, variables).ok()?)
            }
            Value::Array(elements) => {
                let elements: Vec<Value> =
                    elements.into_iter().map(|element| each(element, variables)).collect::<Option<_>>()?;
                let on = |element: &Value| {
                    !matches!(element.get("enabled").and_then(Value::as_str), Some("" | "0" | "false"))
                };
                Value::Array(elements.into_iter().filter(on).collect())
            }
            Value::Table(table) => Value::Table(
                table.into_iter().map(|(key, inner)| Some((key, each(inner, variables)?))).collect::<Option<_>>()?,
            ),
            other => other,
        })
    }
    let table: Table = toml.parse().unwrap_or_else(|error| panic!("{error}\n{toml}"));
    match each(Value::Table(table), variables)? {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

/// Only what differs in the config's own sense: numbers are their texts, what is enabled is there, one pre_start may
/// stand in either place, and a shell that becomes a command is that command.
pub(super) fn normal(value: Value) -> Value {
    match value {
        Value::Integer(number) => Value::String(number.to_string()),
        Value::Array(elements) => {
            if let [Value::String(shell), Value::String(flag), Value::String(line)] = elements.as_slice()
                && shell == "sh"
                && flag == "-c"
                && let Some(words) = line.strip_prefix("exec ")
            {
                return Value::Array(shell_words(words));
            }
            Value::Array(elements.into_iter().map(normal).collect())
        }
        Value::Table(table) => {
            let mut table: Table = table.into_iter().map(|(key, inner)| (key, normal(inner))).collect();
            table.remove("enabled");
            let level = table.get("level").and_then(Value::as_str).map(str::to_lowercase);
            if level.as_deref() == Some("info") {
                table.remove("level");
            } else if let Some(level) = level {
                table.insert("level".to_owned(), Value::String(level));
            }
            // Said where there are several in any way.
            table.remove("services");
            if let Some(Value::Array(one)) = table.get("pre_start").cloned() {
                match one.as_slice() {
                    [] => drop(table.remove("pre_start")),
                    [only] => drop(table.insert("pre_start".to_owned(), only.clone())),
                    _ => {}
                }
            }
            table.retain(|_, inner| {
                let nothing = inner.get("exec").and_then(|exec| exec.get(0)).and_then(Value::as_str) == Some("true");
                let empty =
                    inner.as_array().is_some_and(Vec::is_empty) || inner.as_table().is_some_and(Table::is_empty);
                !(nothing && inner.get("timeout").is_none() || empty)
            });
            Value::Table(table)
        }
        other => other,
    }
}

/// A shell's words, as far as quotes go.
fn shell_words(line: &str) -> Vec<Value> {
    let (mut words, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in line.chars() {
        match c {
            _ if escaped => {
                escaped = false;
                words.last_mut().unwrap().push(c);
            }
            '\\' if !quoted => escaped = true,
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.into_iter().map(Value::String).collect()
}

#[test]
fn the_import_rendered_is_what_the_rendered_file_imports_to() {
    let mut compared = 0;
    for (file, text) in files("").into_iter().filter(|(file, _)| !name(file).ends_with(".conf")) {
        let names = variables(&text);
        let ours = import(&text, &file, &BTreeMap::new()).unwrap_or_else(|report| panic!("{report}"));
        for choice in 0..3_usize.pow(u32::try_from(names.len().min(5)).unwrap()) {
            let value = |name: &str, at: u32| {
                let full = if name == "PORT" || name == "INTERVAL" {
                    "81"
                } else if name == "EVERY" {
                    "5s"
                } else {
                    "own"
                };
                [None, Some(""), Some(full)][(choice / 3_usize.pow(at)) % 3]
            };
            let set: Vec<(&str, &str)> =
                names.iter().zip(0..).filter_map(|(name, at)| Some((*name, value(name, at)?))).collect();
            compared += usize::from(is_the_same(&file, &text, &ours, &set));
        }
    }
    assert!(compared > 300, "only {compared} were compared");
}

/// Compares both ways to one config; whether there was something to compare.
fn is_the_same(file: &Path, text: &str, ours: &Imported, set: &[(&str, &str)]) -> bool {
    let environment = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let theirs = go::render(&go::parse(text).unwrap(), &environment).unwrap();
    let Ok(theirs) = import(&theirs, file, &BTreeMap::new()) else { return false };
    // With such variables ContainerPilot refuses the file: an empty port.
    let lost = |imported: &Imported| imported.notes.iter().filter(|note| note.lost).count();
    if lost(&theirs) > lost(ours) {
        return false;
    }
    let names = variables(text);
    let variables: Variables = set.iter().copied().collect();
    let Some(ours) = rendered(&ours.toml, &variables) else {
        let needed = names.iter().any(|name| !set.iter().any(|(known, _)| known == name));
        assert!(needed, "{}: {set:?}\n{}", name(file), ours.toml);
        return false;
    };
    let theirs = rendered(&theirs.toml, &variables).unwrap();
    let (ours, theirs) = (normal(Value::Table(ours)), normal(Value::Table(theirs)));
    assert_eq!(
        toml::to_string_pretty(&ours).unwrap(),
        toml::to_string_pretty(&theirs).unwrap(),
        "{} with {set:?}",
        name(file)
    );
    true
}

/// Nine `if`s, of 512 ways: around whole jobs and what stands in them, a second in one, words of main's command and of
/// another's, a key, and a choice of two.
const NINE: &str = r#"{
  consul: 'localhost:8500',
  {{ if .LOG }}logging: { level: "{{ .LOG }}" },{{ end }}
  jobs: [
    { name: 'app', port: 80, exec: '/bin/app --port 80{{ if .DEBUG }} --debug {{ .DEBUG }}{{ end }}{{ if .TLS }} --tls{{ end }}',
      health: { exec: 'true', interval: {{ if .SLOW }}30{{ else }}10{{ end }}, ttl: 30 } },
    {{ if .AGENT }}{ name: 'agent', exec: ['/bin/agent', '-client'{{ if .JOIN }}, '-join', '{{ .JOIN }}'{{ end }}], restarts: 'unlimited' },{{ end }}
    {{ if .TASK }}{ name: 'task', exec: '/bin/task', when: { interval: "{{ .TASK }}" } },{{ end }}
    {{ if .HOOK }}{ name: 'hook', exec: '/bin/hook', when: { source: 'watch.db', each: 'changed' } },{{ end }}
    {{ if .SIDE }}{ name: 'side', exec: '/bin/side{{ if .DEBUG }} -v{{ end }}', restarts: 'unlimited' },
    { name: 'third', exec: '/bin/third', restarts: 'unlimited' },{{ else }}{ name: 'other', exec: '/bin/other', restarts: 'unlimited' },{{ end }}
  ],
  watches: [ { name: 'db', interval: 5 } ],
}"#;

const ITS_VARIABLES: [(&str, &str); 9] = [
    ("LOG", "debug"),
    ("DEBUG", "all"),
    ("TLS", "1"),
    ("SLOW", "1"),
    ("AGENT", "1"),
    ("JOIN", "a"),
    ("TASK", "5s"),
    ("HOOK", "1"),
    ("SIDE", "1"),
];

#[test]
fn more_ifs_than_can_be_gone_each_way_are_translated_in_their_places() {
    let ours = imported(NINE);
    assert!(!ours.is_lossy(), "{:#?}", ours.notes);
    for enabled in ["TASK", "HOOK", "AGENT", "SIDE"] {
        assert!(
            ours.toml.contains(&format!("enabled = \"{{% if env.{enabled} | default('') %}}true{{% endif %}}\"")),
            "{}",
            ours.toml
        );
    }
    let mut compared = 0;
    // All of them take a minute.
    for choice in (0..1 << ITS_VARIABLES.len()).step_by(7) {
        let set: Vec<(&str, &str)> =
            ITS_VARIABLES.iter().zip(0..).filter(|(_, bit)| choice >> bit & 1 == 1).map(|(pair, _)| *pair).collect();
        compared += usize::from(is_the_same(Path::new("nine.json5"), NINE, &ours, &set));
    }
    assert_eq!(compared, 74);
    assert!(
        ours.notes.iter().any(|note| note.what.contains("a shell's choice here, which becomes main") && note.line == 5)
    );
}

#[test]
fn of_ifs_that_are_too_many_and_hang_together_it_is_said_which_is_left_out() {
    // Blanks in a string may be those between a command's words, so that each of ten changes the whole.
    let keys: String = (0..10).map(|n| format!("{{{{ if .V{n} }}}} {n}{{{{ end }}}}")).collect();
    let text = format!(
        "{{ consul: 'c', jobs: [ {{ name: 'app', exec: '/bin/app', port: 80,\ntags: ['all{keys}'], health: {{ exec: 'true', interval: 1, ttl: 5 }} }} ] }}"
    );
    let imported = imported(&text);
    let left_out = imported.notes.iter().find(|note| note.what.contains("this one is left out")).unwrap();
    assert!(left_out.lost && left_out.line > 1 && left_out.key.starts_with("{{ if .V"), "{left_out}");
}
