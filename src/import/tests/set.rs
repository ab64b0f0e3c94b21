//! What `--set` names is decided for the whole file: no part of it asks again.

use toml::{Table, Value};

use super::*;
use crate::config::Variables;
use crate::import::go;

/// Whether a config asks for a variable.
fn asks(toml: &str, name: &str) -> bool {
    let mut rest = toml;
    while let Some((_, behind)) = rest.split_once(&format!("env.{name}")) {
        if !behind.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            return true;
        }
        rest = behind;
    }
    false
}

#[test]
fn an_address_and_the_agent_that_it_is_of_go_the_same_way() {
    let text = "{ consul: '{{ if .CONSUL_AGENT }}localhost{{ else }}{{ .CONSUL | default \"consul\"}}{{ end }}:8500', jobs: [\n\
                { name: 'app', exec: '/bin/app -x {{ if .CONSUL_AGENT }}on{{ else }}{{ .MODE }}{{ end }}' },\n\
                {{ if .CONSUL_AGENT }}{ name: 'consul-agent', exec: 'consul agent', restarts: 'unlimited' },{{ end }} ] }";
    let with_agent = with(text, &[("CONSUL_AGENT", "1")]).toml;
    for part in ["address = \"localhost:8500\"", "exec = [\"/bin/app\", \"-x\", \"on\"]", "[[coprocess]]"] {
        assert!(with_agent.contains(part), "{part}:\n{with_agent}");
    }
    assert!(!with_agent.contains("env."), "{with_agent}");
    let without = with(text, &[("CONSUL_AGENT", "")]).toml;
    assert!(without.contains("address = \"{{ env.CONSUL | default('consul', true) }}:8500\""), "{without}");
    assert!(!without.contains("[[coprocess]]") && without.contains("\"{{ env.MODE }}\""), "{without}");
}

#[test]
fn what_is_compared_with_something_known_is_compared_with_its_value() {
    let text = "{ consul: 'c', jobs: [ { name: 'app', exec: '/bin/app' },\n\
                {{ if eq .A .B }}{ name: 'side', exec: '/bin/side', restarts: 'unlimited' }{{ end }} ] }";
    let imported = with(text, &[("B", "x")]).toml;
    assert!(imported.contains("env.A | default('') == 'x'") && !asks(&imported, "B"), "{imported}");
}

#[test]
fn what_set_decides_and_what_is_set_at_the_start_come_to_the_same() {
    let mut compared = 0;
    for (file, text) in files("").into_iter().filter(|(file, _)| !name(file).ends_with(".conf")) {
        let names = ways::variables(&text);
        let value = |name: &str| match name {
            "PORT" | "INTERVAL" => "30",
            "EVERY" => "5s",
            _ => "own",
        };
        for decided in &names {
            for known in ["", value(decided)] {
                let imported = with(&text, &[(decided, known)]);
                assert!(!asks(&imported.toml, decided), "{} with {decided}={known}:\n{}", name(&file), imported.toml);
                for others in [true, false] {
                    let rest = names.iter().filter(|name| *name != decided);
                    let rest: Vec<(&str, &str)> =
                        rest.map(|name| (*name, if others { value(name) } else { "" })).collect();
                    let environment = rest.iter().copied().chain([(*decided, known)]);
                    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                    let theirs = go::render(&go::parse(&text).unwrap(), &environment).unwrap();
                    let Ok(theirs) = import(&theirs, &file, &BTreeMap::new()) else { continue };
                    let lost = |imported: &Imported| imported.notes.iter().filter(|note| note.lost).count();
                    if lost(&theirs) > lost(&imported) {
                        continue;
                    }
                    let variables: Variables = rest.iter().copied().collect();
                    let all = |toml: &str| -> Option<Table> { ways::rendered(toml, &variables) };
                    let (Some(ours), Some(theirs)) = (all(&imported.toml), all(&theirs.toml)) else { continue };
                    let (ours, theirs) = (ways::normal(Value::Table(ours)), ways::normal(Value::Table(theirs)));
                    assert_eq!(
                        toml::to_string_pretty(&ours).unwrap(),
                        toml::to_string_pretty(&theirs).unwrap(),
                        "{} with {decided}={known} and {others}",
                        name(&file)
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 60, "only {compared} were compared");
}
