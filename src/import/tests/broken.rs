//! What nothing can read is refused with the line in the input.

use super::*;

/// The lines, by file.
const LINES: [(&str, usize, &str); 10] = [
    ("jinja-variable.json", 2, "no template function is called `consul_host`"),
    ("jinja.json", 3, "this isn't JSON"),
    ("missing-brace.json", 6, "this isn't JSON"),
    ("missing-comma.json5", 4, "expected comma"),
    ("newline-in-a-string.json5", 3, "a string isn't closed in its line"),
    ("nothing-of-containerpilot.json", 1, "neither `jobs` nor `services`"),
    ("open-if.json5", 3, "isn't closed by an `{{ end }}`"),
    ("placeholder.json", 4, "this isn't JSON"),
    ("preview-of-3.json", 4, "a preview of ContainerPilot 3"),
    ("supervisord.conf", 4, "isn't closed by `]`"),
];

#[test]
fn a_broken_file_is_refused_with_its_line_and_a_caret() {
    let files = files("broken");
    assert_eq!(files.iter().map(|(file, _)| name(file)).collect::<Vec<_>>(), LINES.map(|(name, ..)| name));
    for ((file, text), (_, line, what)) in files.iter().zip(LINES) {
        let report = import(text, file, &BTreeMap::new()).unwrap_err();
        let mistake = &report.mistakes()[0];
        assert!(mistake.line == line && mistake.message.contains(what), "{report}");
        assert!(report.to_string().contains('^'), "{report}");
    }
}

#[test]
fn what_is_too_long_too_deep_or_goes_on_for_ever_is_refused_at_once() {
    let long = format!("{{ consul: '{}' }}", "x".repeat(5 << 20));
    let deep = format!("{{ jobs: {}{} }}", "[".repeat(50_000), "]".repeat(50_000));
    let objects = format!("{{ jobs: {}1{} }}", "{a:".repeat(50_000), "}".repeat(50_000));
    for (text, what) in [
        (long.as_str(), "is longer than"),
        (&deep, "more than 64 deep"),
        (&objects, "more than 64 deep"),
        ("{ jobs: [ {{ range loop 100000000 }} 1, {{ end }} ] }", "more than 100000 elements"),
        ("{ jobs: [ {{ range loop 90000 }} 'aaaaaaaaaaaaaaaaaaaaaaaaaaaa', {{ end }} ] }", "too long"),
        (&format!("{{ jobs: [{}] }}", "{},".repeat(1_001)), "more than 1000 elements"),
        ("{ jobs: '\u{f0000}' }", "stands for nothing"),
        ("", "there is nothing in it"),
        ("[]", "neither `jobs` nor `services`"),
    ] {
        let report = attempt(text, &[]).unwrap_err().to_string();
        assert!(report.contains(what), "{report}");
    }
}

#[test]
fn what_is_of_none_of_these_programs_is_called_so() {
    for text in [
        "services:\n  web:\n    image: nginx\n",
        "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/x\n",
        "* * * * * root /bin/x\n",
    ] {
        let report = attempt(text, &[]).unwrap_err().to_string();
        assert!(
            report.contains("a config of ContainerPilot's") && report.contains("nor one of supervisord's"),
            "{report}"
        );
    }
    for text in ["[process]\nexec = [\"a\"]\n", "[[service]]\nname = \"a\"\n", "{ \"process\": { \"exec\": [\"a\"] } }"]
    {
        let report = attempt(text, &[]).unwrap_err().to_string();
        assert!(report.contains("a config of pilotfish's own"), "{report}");
    }
}

#[test]
fn a_value_that_a_template_left_out_is_what_is_missing() {
    for text in ["{ \"port\": , \"x\": 1 }", "{ jobs: [ { port: } ] }"] {
        let report = attempt(text, &[]).unwrap_err().to_string();
        assert!(report.contains("there is no value") && !report.contains("add a comma"), "{report}");
    }
}

#[test]
fn where_one_way_of_an_if_is_no_json_the_others_are_imported() {
    let text =
        "{ consul: 'c', jobs: [ { name: 'a', exec: '/bin/a' }\n{{ if .X }}{ name: 'b', exec: '/bin/b' }{{ end }} ] }";
    let imported = imported(text);
    assert!(imported.toml.contains("/bin/a") && !imported.toml.contains("/bin/b"), "{}", imported.toml);
    assert!(imported.is_lossy() && imported.notes.iter().any(|note| note.what.contains("isn't JSON")));
}
