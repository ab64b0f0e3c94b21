//! Where Consul is: what pilotfish can take, or a word at its line.

use super::*;

fn at(consul: &str) -> Imported {
    imported(&format!("{{\n consul: {consul},\n jobs: [ {{ name: 'app', exec: '/bin/app' }} ] }}"))
}

fn address(imported: &Imported) -> Option<String> {
    let config: toml::Table = imported.toml.parse().unwrap();
    Some(config["catalog"].get("address")?.as_str()?.to_owned())
}

#[test]
fn an_address_that_is_meant_well_is_taken() {
    for (written, becomes) in [
        ("' c:8500 '", "c:8500"),
        ("'HTTP://c:8500'", "http://c:8500"),
        ("'Https://c:8501'", "https://c:8501"),
        ("'tcp://c:8500'", "c:8500"),
        ("'http://c:8500/'", "http://c:8500"),
        ("'c:'", "c"),
        ("'::1'", "[::1]"),
        ("'[::1]:8500'", "[::1]:8500"),
        ("'consul_host:8500'", "consul_host:8500"),
        ("'unix:///run/c.sock'", "unix:///run/c.sock"),
        ("{ address: ' c:8501', scheme: 'HTTP' }", "http://c:8501"),
        ("{ address: 'https://c:8501', scheme: 'http' }", "https://c:8501"),
    ] {
        let imported = at(written);
        assert_eq!(address(&imported).as_deref(), Some(becomes), "{written}");
        assert!(mistakes(&imported.toml, &[("X", "x")]).is_empty(), "{written}: {}", imported.toml);
        assert!(!imported.is_lossy() || written.contains("ttps"), "{written}: {:#?}", imported.notes);
    }
}

#[test]
fn what_is_no_address_is_told_of_at_its_line() {
    for (written, becomes, what) in [
        ("'[consul]'", None, "`consul` isn't one"),
        ("'c:99999'", None, "isn't a host with a port"),
        ("'c:8500:1'", None, "isn't a host with a port"),
        ("'c:8500/path'", Some("c:8500"), "not below `/path`"),
        ("'c:8500,d:8500'", Some("c:8500"), "the first of these is"),
        ("'user:pw@c:8500'", Some("c:8500"), "CONSUL_HTTP_AUTH"),
        ("'http://user:pw@c:8500'", Some("http://c:8500"), "CONSUL_HTTP_AUTH"),
        ("''", None, "is empty"),
        ("'{{ .CONSUL }}:85000'", None, "can't be where a Consul agent listens"),
    ] {
        let imported = at(written);
        assert_eq!(address(&imported).as_deref(), becomes, "{written}");
        let note = imported.notes.iter().find(|note| note.key == "consul").expect(written);
        assert!(note.lost && note.line == 2 && note.what.contains(what), "{note}");
        assert!(!note.what.contains("pw"), "{note}");
        assert!(mistakes(&imported.toml, &[("CONSUL", "c")]).is_empty(), "{written}: {}", imported.toml);
    }
    let old = imported("{ \"consul\": \"[consul]\", \"services\": [] }");
    assert!(old.is_lossy() && mistakes(&old.toml, &[("X", "x")]).is_empty());
}

#[test]
fn https_that_a_template_leaves_unverified_is_told_of() {
    let verify = |scheme: &str, tls: &str| {
        let imported = at(&format!("{{ address: 'c:8501', scheme: '{scheme}', tls: {{ {tls} }} }}"));
        let note = imported.notes.into_iter().find(|note| note.key == "consul.tls.verify" || note.key == "consul.tls");
        note.map(|note| note.lost)
    };
    assert_eq!(verify("https", "verify: {{ .V | default \"false\" }}"), Some(true));
    assert_eq!(verify("https", "verify: {{ .V | default \"true\" }}"), Some(false));
    assert_eq!(verify("https", "verify: {{ .V }}, cafile: '/ca'"), Some(false));
    assert_eq!(verify("{{ .S | default \"https\" }}", ""), Some(true));
    assert_eq!(verify("{{ .S | default \"http\" }}", ""), Some(false));
    assert_eq!(verify("https", "verify: true"), None);
}
