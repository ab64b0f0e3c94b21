//! Values that come from a template: what ContainerPilot took, pilotfish takes.

use super::*;

fn in_the_log(keys: &str) -> Imported {
    imported(&format!("{{ consul: 'c', logging: {{ {keys} }}, jobs: [ {{ name: 'app', exec: '/bin/app' }} ] }}"))
}

#[test]
fn every_level_and_format_of_containerpilots_is_one_here_whatever_template_gives_it() {
    for template in ["{{ if .V }}{{ .V }}{{ else }}INFO{{ end }}", "{{ .V | default \"INFO\" }}"] {
        let imported = in_the_log(&format!("level: '{template}'"));
        for value in ["", "DEBUG", "Info", "warn", "WARNING", "error", "FATAL", "panic"] {
            let wrong = mistakes(&imported.toml, &[("V", value)]);
            assert!(wrong.is_empty() && imported.notes.len() == 1, "{value}: {}\n{}", wrong.join("\n"), imported.toml);
        }
    }
    for template in ["{{ if .V }}{{ .V }}{{ else }}default{{ end }}", "{{ .V | default \"text\" }}"] {
        let imported = in_the_log(&format!("format: '{template}'"));
        for value in ["", "text", "JSON", "default"] {
            let wrong = mistakes(&imported.toml, &[("V", value)]);
            assert!(wrong.is_empty() && imported.notes.len() == 1, "{value}: {}\n{}", wrong.join("\n"), imported.toml);
        }
    }
}

#[test]
fn a_stop_may_take_as_long_as_its_variable_says() {
    let imported = imported("{ \"consul\": \"c\", \"services\": [], \"stopTimeout\": {{ .T }} }");
    for seconds in ["1", "9", "300"] {
        let wrong = mistakes(&imported.toml, &[("T", seconds)]);
        assert!(wrong.is_empty() && !imported.is_lossy(), "{}\n{}", wrong.join("\n"), imported.toml);
    }
}

#[test]
fn containerpilots_own_pid_needs_no_variable() {
    let imported = imported("{ consul: 'c', jobs: [ { name: 'app', exec: '/bin/app {{ .CONTAINERPILOT_PID }}' } ] }");
    assert!(imported.toml.contains("\"{{ env.CONTAINERPILOT_PID | default('1') }}\""), "{}", imported.toml);
    assert!(!imported.notes.iter().any(|note| note.what.contains("must be set")), "{:#?}", imported.notes);
    let note = imported.notes.iter().find(|note| note.key == "environment").unwrap();
    assert!(note.what.contains("PILOTFISH_PID") && note.what.contains("PILOTFISH_MAIN_PID") && !note.lost, "{note}");
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

#[test]
fn variables_whose_names_are_put_together_are_told_apart() {
    let text = "{ consul: 'c', jobs: [ { name: 'app', exec: '/bin/app' },\n\
                {{ range $i := loop 0 2 -}}{{ if (env (printf \"NAME_%d\" $i)) }}\n\
                { name: 'on-{{ env (printf \"NAME_%d\" $i) }}', exec: '/bin/changed',\n\
                when: { source: 'watch.{{ env (printf \"NAME_%d\" $i) }}', each: 'changed' } },\n\
                {{- end }}{{- end }} ],\n\
                watches: [ {{ range $i := loop 0 2 -}}{{ if (env (printf \"NAME_%d\" $i)) }}\n\
                { name: '{{ env (printf \"NAME_%d\" $i) }}', interval: 5 },{{- end }}{{- end }} ] }";
    let toml = imported(text).toml;
    for set in [vec![], vec!["NAME_0"], vec!["NAME_1"], vec!["NAME_0", "NAME_1"]] {
        // Each is called as its variable is.
        let config = ways::rendered(&toml, &set.iter().map(|name| (*name, *name)).collect()).unwrap();
        let watches = config.get("watch").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        let services: Vec<&str> = watches.iter().filter_map(|watch| watch.get("service")?.as_str()).collect();
        assert_eq!(services, set, "{toml}");
    }
    let decided = with(text, &[("NAME_0", "db"), ("NAME_1", "")]).toml;
    assert!(decided.contains("service = \"db\"") && !decided.contains("enabled"), "{decided}");
}

#[test]
fn a_name_that_no_template_asks_for_is_told_of() {
    let text = "{ consul: 'c', jobs: [ { name: 'app', exec: '/bin/app {{ .AGENT }}' } ] }";
    let said = |set| with(text, &[(set, "1")]).notes.iter().any(|note| note.key == format!("--set {set}"));
    assert!(said("AGNET") && !said("AGENT"));
}

#[test]
fn a_check_that_hangs_is_found_out_in_about_two_ttls() {
    let imported = imported(
        "{ \"consul\": \"c\", \"services\": [ { \"name\": \"web\", \"port\": 80, \"poll\": 5, \"ttl\": 25, \"health\": \"/bin/true\" } ] }",
    );
    assert!(imported.toml.contains("interval = \"5s\"\ntimeout = \"5s\"\nfailures = 5"), "{}", imported.toml);
    assert!(imported.notes.iter().any(|note| note.key == "services[web].health" && note.what.contains("its TTL")));
}

#[test]
fn what_has_no_name_doesnt_vanish() {
    let service = |name: &str| format!("{{ \"name\": \"{name}\", \"port\": 80, \"poll\": 5, \"ttl\": 25 }}");
    let of = |services: &str, backends: &str| {
        imported(&format!("{{ \"consul\": \"c\", \"services\": [ {services} ], \"backends\": [ {backends} ] }}"))
    };
    let backend = "{ \"name\": \"\", \"poll\": 5, \"onChange\": \"/bin/true\" }";
    for nameless in [of(&service(""), ""), of(&service("web"), backend)] {
        assert!(nameless.is_lossy() && !mistakes(&nameless.toml, &[]).is_empty(), "{}", nameless.toml);
    }
    let unnamed = of(&service("web"), "{ \"poll\": 5, \"onChange\": \"/bin/true\" }");
    assert!(unnamed.notes.iter().any(|note| note.key == "backends[0].name" && note.lost), "{:#?}", unnamed.notes);
    let check = "{ consul: 'c', jobs: [ { name: 'app', port: 80, exec: '/bin/app', health: { exec: '', interval: 1, ttl: 5 } } ] }";
    let checked = imported(check);
    assert!(checked.notes.iter().any(|note| note.key == "jobs[app].health.exec" && note.lost), "{:#?}", checked.notes);
}

#[test]
fn two_that_run_one_program_get_names_of_their_own() {
    let imported = imported(
        "{ \"consul\": \"c\", \"services\": [],\n\
         \"coprocesses\": [ { \"command\": [\"sh\", \"-c\", \"a\"] }, { \"command\": [\"sh\", \"-c\", \"b\"] } ],\n\
         \"tasks\": [ { \"command\": \"python x\", \"frequency\": \"1h\" }, { \"command\": \"python y\", \"frequency\": \"1h\" } ] }",
    );
    for name in ["sh", "sh-2", "python", "python-2"] {
        assert!(imported.toml.contains(&format!("name = \"{name}\"\n")), "{name}:\n{}", imported.toml);
    }
    assert!(mistakes(&imported.toml, &[]).is_empty() && !imported.is_lossy());
}

#[test]
fn inet_is_eth0s_address_where_there_is_one() {
    let address = |interfaces: &str| {
        let service =
            format!("\"name\": \"web\", \"port\": 80, \"poll\": 5, \"ttl\": 25, \"interfaces\": {interfaces}");
        let toml = imported(&format!("{{ \"consul\": \"c\", \"services\": [ {{ {service} }} ] }}")).toml;
        toml.lines().find_map(|line| line.strip_prefix("address = [")).map(str::to_owned)
    };
    for (interfaces, becomes) in [
        ("\"inet\"", "\"eth0:inet\", \"inet\"]"),
        ("[\"eth1\", \"inet6\"]", "\"eth1\", \"eth0:inet6\", \"inet6\"]"),
        ("[\"eth0\", \"inet\"]", "\"eth0\", \"inet\"]"),
    ] {
        assert_eq!(address(interfaces).as_deref(), Some(becomes));
    }
}

#[test]
fn a_consul_whose_host_is_empty_is_this_ones_own() {
    for text in ["consul: '{{ .CONSUL }}:8500'", "consul: { address: '{{ .CONSUL }}:8500' }", "consul: ':8500'"] {
        let imported = imported(&format!("{{ {text}, jobs: [ {{ name: 'app', exec: '/bin/app' }} ] }}"));
        for (host, becomes) in [("", "localhost:8500"), ("consul", "consul:8500")] {
            let config = ways::rendered(&imported.toml, &[("CONSUL", host)].into_iter().collect()).unwrap();
            let address = config["catalog"]["address"].as_str().unwrap();
            assert!(address == becomes || text.contains("':8500") && address == "localhost:8500", "{text}: {address}");
        }
        let unset = ways::rendered(&imported.toml, &[("A", "b")].into_iter().collect());
        assert_eq!(unset.is_none(), text.contains(".CONSUL"), "unset is a mistake: {text}");
    }
}

#[test]
fn keys_count_in_any_letters() {
    let imported = imported(
        "{ consul: 'c', jobs: [ { Name: 'app', EXEC: '/bin/app', Port: 80, health: { Exec: 'true', interval: 1, TTL: 5 } } ] }",
    );
    for part in ["exec = [\"/bin/app\"]", "port = 80", "ttl = \"5s\"", "address = \"c\""] {
        assert!(imported.toml.contains(part), "{part}:\n{}", imported.toml);
    }
    assert!(!imported.is_lossy());
}

#[test]
fn a_socket_that_pilotfish_cant_take_is_told_of() {
    let long = format!("/{}", "x".repeat(120));
    for (socket, taken) in [("./cp.sock", false), ("cp.sock", false), (long.as_str(), false), ("/run/cp.sock", true)] {
        let imported = imported(&format!(
            "{{ consul: 'c', control: {{ socket: '{socket}' }}, jobs: [ {{ name: 'a', exec: '/bin/a' }} ] }}"
        ));
        assert_eq!(imported.toml.contains(socket), taken, "{}", imported.toml);
        let told = imported.notes.iter().any(|note| note.key == "control.socket" && note.lost);
        assert!(told != taken && mistakes(&imported.toml, &[("X", "x")]).is_empty(), "{socket}");
    }
}

#[test]
fn telemetry_listens_and_is_registered_at_the_interface_that_it_had() {
    let of = |interfaces: &str| {
        imported(&format!(
            "{{ consul: 'c', jobs: [ {{ name: 'app', exec: '/bin/app' }} ],\n\
             telemetry: {{ port: 9100, interfaces: ['{interfaces}'] }} }}"
        ))
    };
    for (interfaces, listen) in [
        ("lo", "127.0.0.1"),
        ("static:192.0.2.7", "192.0.2.7"),
        ("eth1", "eth1"),
        ("net1', 'eth0:inet", "net1,eth0:inet"),
        ("inet", "eth0:inet,inet"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("{{ .NET }}", "{{ env.NET }}"),
        ("eth1', 'inet\\b", "eth1"),
    ] {
        let imported = of(interfaces);
        assert!(imported.toml.contains(&format!("listen = \"{listen}:9100\"")), "{interfaces}: {}", imported.toml);
        assert_eq!(imported.is_lossy(), interfaces.ends_with('b'), "{interfaces}: {:?}", imported.notes);
        assert!(mistakes(&imported.toml, &[("NET", "eth2")]).is_empty(), "{}", imported.toml);
    }
    assert!(said(&of("eth1', 'inet\\b"), "telemetry.interfaces").0.contains("can't read"));
}

#[test]
fn no_value_of_the_wrong_kind_is_gone_without_a_word() {
    let check = "health: { exec: '/bin/true', interval: 1, ttl: 5 }";
    let imported_app = |more: &str| {
        imported(&format!(
            "{{ consul: 'c', jobs: [ {{ name: 'app', exec: '/bin/app', port: 80, {check}, {more} }} ] }}"
        ))
    };
    for (more, key) in [("interfaces: { a: 1 }", "jobs[app].interfaces"), ("tags: { b: 2 }", "jobs[app].tags")] {
        assert!(said(&imported_app(more), key).1, "{more}");
    }
    let often = imported(
        "{ consul: 'c', jobs: [ { name: 'app', exec: '/bin/app' },\n\
         { name: 't', exec: '/bin/t', when: { interval: '1ms' } } ] }",
    );
    assert!(said(&often, "jobs[t].when.interval").1 && often.toml.contains("every = \"100ms\""), "{}", often.toml);
    assert!(mistakes(&often.toml, &[("X", "x")]).is_empty(), "{}", often.toml);
    for none in ["{ consul: 'c', jobs: [] }", "{ consul: 'c' }"] {
        let (what, lost) = said(&imported(none), "jobs");
        assert!(what.contains("none that could be main") && lost, "{what}");
    }
    let sensor = |name: &str, kind: &str| {
        imported(&format!(
            "{{ \"consul\": \"c\", \"services\": [], \"telemetry\": {{ \"port\": 9090, \"sensors\": [\n\
             {{ \"name\": \"{name}\", \"type\": \"{kind}\", \"poll\": 5, \"check\": \"/bin/c\" }} ] }} }}"
        ))
    };
    for (name, kind, becomes) in [("a b", "gauge", "a_b"), ("9x", "gauge", "_9x"), ("x", "odd", "x")] {
        let imported = sensor(name, kind);
        assert!(imported.is_lossy() && imported.toml.contains(&format!("name = \"{becomes}\"")), "{}", imported.toml);
        assert!(mistakes(&imported.toml, &[("X", "x")]).is_empty(), "{}", imported.toml);
    }
    assert!(!sensor("a_b", "counter").toml.contains("it is a gauge here"));
}
