//! Each file with the TOML that it becomes: `NAME.toml` beside it, made anew where IMPORT_UPDATE is set.

use super::*;

#[test]
fn each_shape_of_published_files_becomes_the_config_that_stands_beside_it() {
    let mut wrong = Vec::new();
    for (file, text) in files("") {
        let imported = import(&text, &file, &BTreeMap::new()).unwrap_or_else(|report| panic!("{report}"));
        let beside = file.with_extension("toml");
        if std::env::var_os("IMPORT_UPDATE").is_some() {
            std::fs::write(&beside, &imported.toml).unwrap();
        }
        if std::fs::read_to_string(&beside).ok().as_deref() != Some(imported.toml.as_str()) {
            wrong.push(format!("{} is otherwise now:\n{}", beside.display(), imported.toml));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_comes_out_is_what_pilotfish_takes() {
    for (file, text) in files("") {
        let imported = import(&text, &file, &BTreeMap::new()).unwrap_or_else(|report| panic!("{report}"));
        for others in ["", "8080"] {
            let value = |name| match name {
                "PORT" => "8080",
                "CONSUL" => "consul",
                // With these unset their defaults count.
                "INTERVAL" | "EVERY" | "LOG_LEVEL" => "",
                _ => others,
            };
            let named = ways::variables(&text).into_iter().map(|name| (name, value(name)));
            let variables: Vec<(&str, &str)> =
                named.chain([("HOST", "h"), ("HOSTNAME", "h"), ("PORT", "8080")]).collect();
            let wrong = mistakes(&imported.toml, &variables);
            assert!(wrong.is_empty(), "{}: {}\n{}", file.display(), wrong.join("\n"), imported.toml);
        }
    }
}

#[test]
fn every_note_stands_in_the_config_and_has_a_key_and_a_line() {
    for (file, text) in files("") {
        let imported = import(&text, &file, &BTreeMap::new()).unwrap_or_else(|report| panic!("{report}"));
        let comments: String =
            imported.toml.lines().filter_map(|line| line.strip_prefix("# ")).collect::<Vec<_>>().join(" ");
        for note in &imported.notes {
            assert!(note.line > 0 && note.line <= text.lines().count() && !note.key.is_empty(), "{note}");
            let is_there = comments.contains(&format!("{} (line {}): ", note.key, note.line))
                || note.what.starts_with("must be set");
            assert!(is_there, "{}: {note}\n{}", name(&file), imported.toml);
        }
    }
}

#[test]
fn set_decides_what_a_template_asks_and_says_which_way_was_taken() {
    let text = "{ consul: 'c', jobs: [ { name: 'app', exec: '/bin/app {{ .X | default \"x\" }}' },\n\
                {{ if .AGENT }}{ name: 'agent', exec: 'consul agent', restarts: 'unlimited' }{{ end }} ] }";
    let both = imported(text);
    assert!(both.toml.contains("enabled = \"{% if env.AGENT | default('') %}true{% endif %}\""), "{}", both.toml);
    let on = with(text, &[("AGENT", "1"), ("X", "y")]);
    assert!(
        !on.toml.contains("enabled") && on.toml.contains("\"agent\"") && on.toml.contains("\"/bin/app\", \"y\""),
        "{}",
        on.toml
    );
    assert!(
        on.notes.iter().any(|note| note.what.starts_with("taken") && note.line == 2 && note.key.contains(".AGENT"))
    );
    let off = with(text, &[("AGENT", "")]);
    assert!(!off.toml.contains("coprocess"), "{}", off.toml);
    assert!(off.notes.iter().any(|note| note.what.starts_with("left out") && note.line == 2));
}
