//! Templates where ContainerPilot took a word, a number or a command: none counts for ever as where nothing is set.

use super::jobs::{CHECK, a_job, beside_main, jobs_of};
use super::*;

/// A table of a config as it comes to where these are set; where it is nothing.
fn comes_to(imported: &Imported, path: &str, set: &[(&str, &str)]) -> Option<toml::Value> {
    let set: Vec<(&str, &str)> = set.iter().copied().chain([("PATH", "/bin")]).collect();
    let config = ways::rendered(&imported.toml, &set.into_iter().collect())?;
    let mut at = toml::Value::Table(config);
    for part in path.split('.') {
        at = match part.parse::<usize>() {
            Ok(index) => at.as_array()?.get(index)?.clone(),
            Err(_) => at.get(part)?.clone(),
        };
    }
    Some(at)
}

fn text(imported: &Imported, path: &str, set: &[(&str, &str)]) -> String {
    let value = comes_to(imported, path, set).unwrap_or_else(|| panic!("no {path}:\n{}", imported.toml));
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn how_often_something_is_started_again_stays_its_variables() {
    let main = |restarts: &str| jobs_of(&format!("{{ name: 'app', exec: '/bin/app', restarts: {restarts} }}"));
    for written in
        ["{{ .R | default 10 }}", "'{{ .R | default \"10\" }}'", "'{{ if .R }}{{ .R }}{{ else }}10{{ end }}'"]
    {
        let imported = main(written);
        assert!(!imported.is_lossy(), "{:#?}", imported.notes);
        for (value, policy, max, within) in [
            ("", "always", "10", "365d"),
            ("3", "always", "3", "365d"),
            ("unlimited", "always", "1000000", "1m"),
            ("never", "never", "1000000", "365d"),
            ("0", "never", "0", "365d"),
        ] {
            let set = [("R", value)];
            for (key, expected) in [("policy", policy), ("max", max), ("within", within)] {
                assert_eq!(
                    text(&imported, &format!("process.restart.{key}"), &set),
                    expected,
                    "{written} of {value:?}"
                );
            }
            let wrong = mistakes(&imported.toml, &set);
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        }
        assert!(!mistakes(&imported.toml, &[("R", "often")]).is_empty(), "ContainerPilot refuses it");
    }
    let side = "restarts: '{{ if .ALWAYS }}unlimited{{ else }}never{{ end }}'";
    let imported = beside_main(&a_job("side", side));
    assert_eq!(text(&imported, "coprocess.0.restart.policy", &[]), "never");
    assert_eq!(text(&imported, "coprocess.0.restart.policy", &[("ALWAYS", "1")]), "always");
    let old = imported_of_2("\"coprocesses\": [ { \"command\": \"/bin/side\", \"restarts\": \"{{ .R }}\" } ]");
    assert_eq!(text(&old, "coprocess.0.restart.max", &[("R", "5")]), "5");
    assert_eq!(said(&old, "R").0, "must be set; ContainerPilot took it for empty");
}

fn imported_of_2(keys: &str) -> Imported {
    imported(&format!("{{ \"consul\": \"c\", \"services\": [], {keys} }}"))
}

#[test]
fn a_hook_whose_restarts_are_a_template_says_that_they_are_settled() {
    let when = "when: { source: 'watch.db', each: 'changed' }";
    let imported = beside_main(&a_job("hook", &format!("restarts: '{{{{ .R | default \"2\" }}}}', {when}")));
    assert!(imported.notes.iter().any(|note| note.key == "jobs[hook].restarts" && note.what.contains("settled here")));
    assert!(imported.is_lossy());
}

#[test]
fn a_fraction_of_restarts_is_cut_off_as_go_cut_it() {
    let max = |restarts: &str| {
        let imported = beside_main(&a_job("side", &format!("restarts: {restarts}")));
        (comes_to(&imported, "coprocess.0.restart.max", &[]).map(|max| max.to_string()), imported.is_lossy())
    };
    assert_eq!(max("1.2"), (Some("1".to_owned()), false));
    assert_eq!(max("0.5"), (None, false));
    assert_eq!(max("1e3"), (Some("1000".to_owned()), false));
    assert_eq!(max("-1"), (None, true));
    assert_eq!(max("'1.2'"), (None, true));
}

#[test]
fn a_command_that_a_template_gives_is_split_when_it_is_known() {
    let exec = |exec: &str| jobs_of(&format!("{{ name: 'app', exec: '{exec}' }}"));
    for (written, set, line) in [
        ("{{ .APP_EXEC }}", vec![("APP_EXEC", "node --inspect .")], "node --inspect ."),
        ("{{env \"X\"}}", vec![("X", "a b")], "a b"),
        ("{{ .START | default \"node .\" }}", vec![], "node ."),
        ("{{ .CMD }} --x {{ .ARGS }}", vec![("CMD", "a"), ("ARGS", "b c")], "a --x b c"),
        ("/bin/app {{ .APP_OPTS }}", vec![("APP_OPTS", "-a -b")], "/bin/app -a -b"),
    ] {
        let imported = exec(written);
        let words = comes_to(&imported, "process.exec", &set).unwrap();
        let words: Vec<&str> = words.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(words, ["sh", "-c", "set -f; exec ${0:?}", line], "{written}");
        let (what, lost) = said(&imported, "jobs[app].exec");
        assert!(what.contains("an `sh` splits") && !lost, "{what}");
        assert!(mistakes(&imported.toml, &set).is_empty());
    }
    // One word of several stays one.
    let imported = exec("/bin/app -p {{ .PORT }} {{ .DIR }}/x");
    assert!(imported.toml.contains("\"-p\", \"{{ env.PORT }}\", \"{{ env.DIR }}/x\"]"), "{}", imported.toml);
    let check = "{ name: 'app', port: 80, exec: '/bin/app', health: { exec: '{{ .CHECK }}', interval: 1, ttl: 5 } }";
    let imported = jobs_of(check);
    assert_eq!(text(&imported, "health.0.exec.3", &[("CHECK", "curl -f x")]), "curl -f x");
    // What is an array was never split.
    let array = jobs_of("{ name: 'app', exec: ['{{ .X }}', 'a'] }");
    assert!(array.toml.contains("exec = [\"{{ env.X }}\", \"a\"]"), "{}", array.toml);
}

#[test]
fn yes_and_no_stay_their_variables() {
    let app = |more: &str| jobs_of(&format!("{{ name: 'app', port: 80, exec: '/bin/app', {CHECK}, {more} }}"));
    let imported = app("consul: { enableTagOverride: {{ .TAGS | default \"true\" }} }");
    for (value, expected) in [("", "true"), ("false", "false"), ("1", "true"), ("T", "true"), ("0", "false")] {
        let set = [("TAGS", value)];
        assert_eq!(text(&imported, "service.0.consul.enable_tag_override", &set), expected, "{value:?}");
        assert!(mistakes(&imported.toml, &set).is_empty() && !imported.is_lossy());
    }
    let imported = beside_main(&a_job("side", "restarts: 'unlimited', logging: { raw: '{{ .RAW }}' }"));
    assert_eq!(text(&imported, "coprocess.0.output", &[("RAW", "true")]), "raw");
    assert_eq!(text(&imported, "coprocess.0.output", &[("RAW", "")]), "log");
    assert_eq!(said(&imported, "RAW").0, "must be set; ContainerPilot took it for empty");
    let status = |status: &str| app(&format!("initial_status: '{{{{ .S | default \"{status}\" }}}}'"));
    assert!(!said(&status("critical"), "jobs[app].initial_status").1);
    assert!(said(&status("passing"), "jobs[app].initial_status").1);
}

#[test]
fn failures_are_counted_by_what_a_template_comes_to() {
    let imported = jobs_of(
        "{ name: 'app', port: 80, exec: '/bin/app', health: { exec: 'true', interval: {{ .INT | default 10 }}, ttl: {{ .TTL | default 25 }} } }",
    );
    for (interval, ttl, failures) in
        [("", "", "3"), ("5", "", "5"), ("5", "11", "3"), ("20", "5", "1"), ("10", "30", "3")]
    {
        let set = [("INT", interval), ("TTL", ttl)];
        assert_eq!(text(&imported, "health.0.failures", &set), failures, "{interval} {ttl}");
        assert!(mistakes(&imported.toml, &set).is_empty());
    }
}

#[test]
fn where_the_log_goes_is_told_of_whatever_says_so() {
    let output = |output: &str| {
        let keys = format!("logging: {{ output: '{output}' }}");
        let imported = imported(&format!("{{ consul: 'c', {keys}, jobs: [ {{ name: 'app', exec: '/bin/app' }} ] }}"));
        imported.notes.into_iter().find(|note| note.key == "logging.output").map(|note| note.lost)
    };
    assert_eq!(output("stderr"), None);
    assert_eq!(output("{{ .OUT | default \"stderr\" }}"), Some(false));
    assert_eq!(output("{{ .OUT }}"), Some(false));
    assert_eq!(output("{{ .OUT | default \"/x.log\" }}"), Some(true));
}

#[test]
fn what_starts_a_job_is_settled_only_aloud() {
    let after = |when: &str| {
        jobs_of(&format!("{},\n{}", a_job("pre", ""), a_job("app", &format!("port: 80, {CHECK}, when: {{ {when} }}"))))
    };
    let imported = after("source: 'pre', once: '{{ .WHEN | default \"exitSuccess\" }}'");
    let (what, lost) = said(&imported, "jobs[app].when.once");
    assert!(lost && what.contains("`exitSuccess`") && what.contains("--set"), "{what}");
    let imported = after("source: '{{ .SRC | default \"pre\" }}', once: 'exitSuccess'");
    assert!(said(&imported, "jobs[app].when.source").1);
    // One that is called so by the same template is it, whatever it comes to.
    let imported = jobs_of(&format!(
        "{{ name: '{{{{ .N | default \"pre\" }}}}', exec: '/bin/pre' }},\n{}",
        a_job(
            "app",
            &format!("port: 80, {CHECK}, when: {{ source: '{{{{ .N | default \"pre\" }}}}', once: 'exitSuccess' }}")
        )
    ));
    assert!(!imported.is_lossy(), "{:#?}", imported.notes);
}

#[test]
fn what_must_be_set_is_what_must_be_set() {
    let must = |imported: &Imported| -> Vec<(String, bool)> {
        let notes = imported.notes.iter().filter(|note| note.what.starts_with("must be set"));
        notes.map(|note| (note.key.clone(), note.what.contains("where what it names is there"))).collect()
    };
    // Asked for before it is used, be it around words.
    let imported = jobs_of("{ name: 'app', exec: ['/bin/app'{{ if .TLS }}, '--tls', '{{ .TLS }}'{{ end }}] }");
    assert_eq!(must(&imported), []);
    let imported = jobs_of("{ name: 'app', exec: '/bin/app {{ if .TLS }}x{{ else }}-v {{ .OTHER }}{{ end }}' }");
    assert_eq!(must(&imported), [("OTHER".to_owned(), false)]);
    // A name and a port aren't empty where they are there.
    let app = format!("{{ name: 'app', exec: '/bin/app', port: 79, restarts: 'unlimited', {CHECK} }}");
    let imported = jobs_of(&format!(
        "{app},\n{{{{ if .WEB }}}}{{ name: '{{{{ .NAME }}}}', port: {{{{ .PORT }}}}, exec: '/bin/web {{{{ .X }}}}', {CHECK} }}{{{{ end }}}}"
    ));
    assert!(must(&imported).contains(&("NAME".to_owned(), true)), "{:#?}", must(&imported));
    assert!(
        must(&imported).contains(&("PORT".to_owned(), true)) && !must(&imported).iter().any(|(name, _)| name == "X")
    );
    let set = jobs_of(&format!(
        "{app},\n{{{{ if .NAME }}}}{{ name: '{{{{ .NAME }}}}', port: 81, exec: '/bin/web', {CHECK} }}{{{{ end }}}}"
    ));
    assert_eq!(must(&set), []);
}

#[test]
fn a_main_that_is_only_started_again_where_an_if_says_so_is_not_otherwise() {
    let imported = jobs_of("{ name: 'app', exec: '/bin/app'{{ if .ALWAYS }}, restarts: 'unlimited'{{ end }} }");
    assert!(!imported.is_lossy(), "{:#?}", imported.notes);
    for (set, policy) in [(vec![], "never"), (vec![("ALWAYS", "1")], "always")] {
        assert_eq!(text(&imported, "process.restart.policy", &set), policy);
        assert!(mistakes(&imported.toml, &set).is_empty());
    }
}

#[test]
fn a_loop_of_an_unknown_length_is_told_of() {
    let text = "{ consul: 'c', jobs: [ {{ range $i := loop .N }}{ name: 'w{{ $i }}', exec: '/bin/w' },{{ end }}\n\
                { name: 'app', exec: '/bin/app' } ] }";
    let imported = imported(text);
    let note = imported.notes.iter().find(|note| note.what.contains("how often this `range`")).unwrap();
    assert!(note.lost && note.line == 1 && imported.toml.contains("/bin/app"), "{note}");
    let known = with(text, &[("N", "2")]);
    assert!(known.toml.contains("name = \"w1\"") && !known.is_lossy(), "{}", known.toml);
    assert!(attempt(text, &[("N", "many")]).unwrap_err().to_string().contains("wants numbers"));
}

#[test]
fn a_difference_is_told_of_at_the_question_that_makes_it() {
    let file = "{ consul: 'c', jobs: [ { name: 'app', exec: '/bin/app' } ],\n\
                {{ if .LOG }}logging: { level: 'DEBUG' },{{ end }}\n\
                {{ if .CONTROL }}control: { socket: '/x.sock' },{{ end }}\n\
                {{ if .STOP }}stopTimeout: 30,{{ end }} }";
    let imported = imported(file);
    let told: Vec<(&str, usize)> =
        imported.notes.iter().filter(|note| note.lost).map(|note| (note.key.as_str(), note.line)).collect();
    assert_eq!(told, [("process.stop_timeout", 4)]);
    // What the key is otherwise can be said.
    for (key, set, value, otherwise) in
        [("log.level", "LOG", "debug", "info"), ("control.socket", "CONTROL", "/x.sock", "/run/pilotfish.sock")]
    {
        assert_eq!(text(&imported, key, &[(set, "1")]), value);
        assert_eq!(text(&imported, key, &[]), otherwise);
    }
}
