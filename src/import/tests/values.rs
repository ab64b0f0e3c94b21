//! Values that come from a template: what ContainerPilot took, pilotfish takes.

use super::*;

fn in_the_log(keys: &str) -> Imported {
    imported(&format!("{{ consul: 'c', logging: {{ {keys} }}, jobs: [ {{ name: 'app', exec: '/bin/app' }} ] }}"))
}

/// ContainerPilot rendered a file before it read the JSON.
#[test]
fn what_a_template_writes_into_a_string_is_read_as_more_of_the_string() {
    let exec =
        |words: &str| imported(&format!("{{ consul: 'c', jobs: [ {{ name: 'app', exec: [\"a\", {words}] }} ] }}"));
    for (written, becomes) in [
        (r#""-bind={{`{{ GetInterfaceIP \"eth0\" }}`}}""#, r#""-bind={{ '{' }}{ GetInterfaceIP \"eth0\" }}""#),
        (r#""{{ .X | default `\"b\"` }}""#, r#""{{ env.X | default('\"b\"', true) }}""#),
        (r#""{{ if .X }}{{ `c\\d` }}{{ end }}""#, r"\\"),
    ] {
        let imported = exec(written);
        assert!(imported.toml.contains(becomes), "{written}:\n{}", imported.toml);
        assert!(!imported.is_lossy(), "{:#?}", imported.notes);
    }
    // Two words, whatever is set.
    assert!(exec(r#""{{ "b\", \"c" }}""#).toml.contains(r#"exec = ["a", "b", "c"]"#));
    for several in [r#""{{ env "X" | split "," | join "\", \"" }}""#, r#""{{ .X | default "b\", \"c" }}""#] {
        let imported = exec(several);
        let note = imported.notes.iter().find(|note| note.what.contains("as the string's end")).expect(several);
        assert!(note.lost, "{note}");
    }
    assert!(!exec(r#""{{ .X | default `it's` }}""#).is_lossy());
}
