//! Configs that mean something, and what.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{context, good, load};
use crate::config::*;

const MINIMAL: &str = "[process]\nexec = [\"a\"]\n";

#[test]
fn a_minimal_config_has_the_defaults_of_the_reference() {
    let config = good(MINIMAL);
    assert_eq!(config.process, Process::new(vec!["a".into()]));
    assert_eq!(config.stop, Stop { within: Some(Duration::from_secs(9)), drain: Duration::ZERO });
    assert_eq!(config.hooks, Hooks::default());
    assert_eq!(config.control.socket, Some(PathBuf::from("/run/pilotfish.sock")));
    assert!(!config.control.signals);
    assert_eq!(config.log, Log { level: Level::Info, format: LogFormat::Text });
    assert_eq!(config.catalog, Catalog { backend: Backend::None, prefix: "pilotfish".to_owned() });
    assert_eq!(config.telemetry, None);
    assert!(!config.is_plain());
}

#[test]
fn a_level_is_read_as_other_programs_write_it() {
    for (written, level) in [
        ("INFO", Level::Info),
        ("Debug", Level::Debug),
        ("WARNING", Level::Warn),
        ("fatal", Level::Error),
        ("panic", Level::Error),
        ("{{ env.UNSET | default('WARN', true) }}", Level::Warn),
    ] {
        assert_eq!(good(&format!("log.level = \"{written}\"\n{MINIMAL}")).log.level, level, "{written}");
    }
}

#[test]
fn the_command_line_overrides_exec() {
    let command = vec![OsString::from("b"), OsString::from("c")];
    for text in [MINIMAL, "", "[stop]\nwithin = \"5s\"\n"] {
        let loaded = Config::from_text(text, Path::new("t.toml"), Some(command.clone()), &context()).unwrap();
        assert_eq!(loaded.config.process.exec, command);
    }
}

#[test]
fn json_says_the_same_as_toml() {
    let toml = good(
        r#"
        [process]
        exec = ["mysqld", "--console"]
        stop_signal = "QUIT"
        exit_codes = { 143 = 0 }
        [[service]]
        name = "mysql"
        port = 3306
        [[health]]
        tcp = "127.0.0.1:3306"
        [catalog]
        backend = "local"
        directory = "/shared"
        "#,
    );
    let json = r#"{
        "process": {"exec": ["mysqld", "--console"], "stop_signal": "QUIT", "exit_codes": {"143": 0}},
        "service": [{"name": "mysql", "port": 3306}],
        "health": [{"tcp": "127.0.0.1:3306"}],
        "catalog": {"backend": "local", "directory": "/shared"}
    }"#;
    assert_eq!(load(json, "t.json").unwrap().config, toml);
    assert_eq!(load(json, "no-extension").unwrap().config, toml, "a brace at the start is JSON");
}

#[test]
fn templated_values_stand_for_any_type_and_keep_every_character() {
    let config = good(
        r#"
        [process]
        exec = ["a", "--dsn={{ env.DSN }}", "{{ env.NONE | default('x') }}", "${#array}"]
        env = { COPY = "{{ env.EMPTY }}", DSN = "{{ env.DSN }}" }
        limits = { nofile = "{{ env.PORT }}" }
        stop_timeout = "{{ env.NONE | default('3s') }}"
        [[service]]
        name = "w-{{ env.WORD }}"
        port = "{{ env.PORT }}"
        [[health]]
        notify = "{{ env.YES }}"
        failures = "{{ env.TEN }}"
        [catalog]
        backend = "{{ env.NONE | default('local') }}"
        directory = "/shared"
        "#,
    );
    assert_eq!(config.process.exec, ["a", "--dsn=a=b c", "x", "${#array}"]);
    assert_eq!(config.process.env["COPY"], "");
    assert_eq!(config.process.env["DSN"], "a=b c");
    assert_eq!(config.process.limits.rlimits["nofile"], (Some(8080), Some(8080)));
    assert_eq!(config.process.stop_timeout, Some(Duration::from_secs(3)));
    assert_eq!((config.services[0].port, config.services[0].id.as_str()), (8080, "w-abc-web1-8080"));
    assert_eq!((&config.health[0].probe, config.health[0].failures), (&Probe::Notify, 10));
}

#[test]
fn a_template_is_split_at_commas_where_a_list_of_texts_is_wanted() {
    let load = |endpoints: &str, tags: &str| {
        let text = format!(
            "process.exec = [\"a\"]\n[[service]]\nname = \"web\"\nport = 80\ntags = {tags}\naddress = \"{{{{ env.IN }}}}\"\n\
             [catalog]\nbackend = \"etcd\"\nendpoints = {endpoints}\n"
        );
        let peers = "http://127.0.0.1:2379, http://127.0.0.2:2379,";
        let variables = [("PEERS", peers), ("TAGS", "a,b"), ("ONE", "1"), ("IN", "eth1,inet")].into_iter().collect();
        let context = Context { variables, hostname: "h".to_owned() };
        Config::from_text(&text, Path::new("t.toml"), None, &context).map(|loaded| loaded.config)
    };
    let written = "[\"http://127.0.0.1:2379\", \"http://127.0.0.2:2379\"]";
    let config = load("\"{{ env.PEERS }}\"", "\"{{ env.TAGS }}\"").unwrap();
    assert_eq!(config, load(written, "[\"a\", \"b\"]").unwrap());
    assert_eq!(config.services[0].tags, ["a", "b"]);
    assert_eq!(config.services[0].address.len(), 2);
    let tags = |tags: &str| load(written, tags).unwrap().services.remove(0).tags;
    assert_eq!(tags("\"{{ env.ONE }}\""), ["1"]);
    assert_eq!(tags("\"{{ env.NONE | default('') }}\""), [""; 0]);
    assert_eq!(tags("\"x, {{ env.TAGS }}\""), ["x", "a", "b"]);
    assert_eq!(tags("[\"{{ env.TAGS }}\"]"), ["a,b"], "an element is one as ever");
    // What isn't a template is said to be no list, and what a list is made of is checked.
    let refused = |endpoints: &str, tags: &str| load(endpoints, tags).unwrap_err().to_string();
    assert!(refused(written, "\"a,b\"").contains("`tags` is a string, not an array of strings"));
    let wrong = refused("\"{{ env.PEERS }}, :\"", "[]");
    assert!(wrong.contains("an element of `endpoints`"), "{wrong}");
    let command = Config::from_text("process.exec = \"{{ 'a,b' }}\"", Path::new("t.toml"), None, &Context::default());
    assert!(command.unwrap_err().to_string().contains("there is no hidden shell"));
}

#[test]
fn a_grpc_check_has_a_service_and_trusts_whom_it_is_told() {
    let config = good(
        r#"
        process.exec = ["a"]
        [[health]]
        grpc = "127.0.0.1:50051"
        counts = false
        [[health]]
        name = "db"
        grpc = "grpcs://localhost:50052/my.Database"
        ca = "/etc/ca.pem"
        "#,
    );
    let of = |address: &str, service: &str, tls| {
        Probe::Grpc(GrpcProbe { address: address.to_owned(), service: service.to_owned(), tls })
    };
    assert_eq!(config.health[0].probe, of("127.0.0.1:50051", "", None));
    assert_eq!(
        (config.health[0].name.as_str(), config.health[0].counts, config.health[0].stand),
        ("grpc", false, true)
    );
    let trust = Trust { ca: Some("/etc/ca.pem".into()), insecure: false };
    assert_eq!(config.health[1].probe, of("localhost:50052", "my.Database", Some(trust)));
}

#[test]
fn a_process_takes_every_key() {
    let process = good(
        r#"
        [process]
        exec = ["a"]
        user = "mysql:mysql"
        directory = "/d"
        env_from_files = { P = "/run/secrets/p" }
        limits = { nofile = "1024:4096", core = 0, stack = "unlimited", umask = "027" }
        stop_on = ["QUIT"]
        signal_scope = "group"
        rewrite_signals = { HUP = "USR1", WINCH = "" }
        restart = { policy = "on-failure", max = 2, within = "10s", backoff = "1s" }
        background = "follow"
        strays = "wait"
        "#,
    )
    .process;
    assert_eq!(process.user.as_deref(), Some("mysql:mysql"));
    assert_eq!(process.limits.umask, Some(0o27));
    assert_eq!(process.limits.rlimits["nofile"], (Some(1024), Some(4096)));
    assert_eq!(process.limits.rlimits["stack"], (None, None));
    assert_eq!(process.stop_on, [Signal::QUIT]);
    assert_eq!(process.rewrite_signals[&Signal::HUP], Some(Signal::USR1));
    assert_eq!(process.rewrite_signals[&Signal::WINCH], None);
    assert_eq!(process.restart.backoff, Backoff { first: Duration::from_secs(1), most: Duration::from_secs(1) });
    assert_eq!((process.background, process.strays), (Background::Follow, Strays::Wait));
    assert_eq!(process.signal_scope, SignalScope::Group);
}

#[test]
fn a_signal_that_is_dropped_stops_nothing() {
    let process = good("[process]\nexec = [\"a\"]\nrewrite_signals = { TERM = \"\" }\n").process;
    assert_eq!(process.stop_on, [Signal::INT]);
}

#[test]
fn checks_speak_for_services_by_name_or_id_and_for_all_by_default() {
    let config = good(
        r#"
        process.exec = ["a"]
        catalog = { backend = "local", directory = "/shared" }
        service = [{ name = "a", port = 1, id = "a-one" }, { name = "b", port = 2 }]
        health = [
            { tcp = "localhost:1", services = ["a"] },
            { name = "two", tcp = "localhost:2", services = ["b-web1-2"] },
            { name = "all", exec = ["check"] },
        ]
        "#,
    );
    let services: Vec<&[String]> = config.health.iter().map(|check| check.services.as_slice()).collect();
    assert_eq!(services, [&["a-one".to_owned()][..], &["b-web1-2".to_owned()], &["a-one".into(), "b-web1-2".into()]]);
    assert_eq!(config.health[0].name, "tcp", "a check is called after its kind unless named");
}

#[test]
fn a_watch_is_called_after_what_it_looks_at() {
    let config = good(
        r#"
        process.exec = ["a"]
        catalog = { backend = "local", directory = "/shared" }
        [[watch]]
        service = "app"
        tag = "web"
        on_change = { exec = ["reload"] }
        [[watch]]
        key_prefix = "app/"
        signal = "HUP"
        [[wait_for]]
        key = "ready"
        [[wait_for]]
        service = "db"
        count = 2
        "#,
    );
    assert_eq!(config.watches[0].name, "app");
    assert_eq!(config.watches[0].on_change.as_ref().unwrap().timeout, Duration::from_secs(30));
    assert_eq!(config.watches[1].query, Query::KeyPrefix { prefix: "app/".to_owned() });
    assert_eq!(config.wait_for[0].query, Query::Key { key: "ready".to_owned() });
    assert_eq!((config.wait_for[0].count, config.wait_for[1].count), (1, 2));
}

#[test]
fn pre_start_is_one_table_or_several_in_the_order_written() {
    let words = |text: &str| -> Vec<String> {
        let hooks = good(&format!("{MINIMAL}{text}")).hooks;
        hooks.pre_start.iter().map(|one| one.hook.exec[0].to_string_lossy().into_owned()).collect()
    };
    assert_eq!(words("[hooks]\npre_start = { exec = [\"a\"] }"), ["a"]);
    assert_eq!(words("[hooks.pre_start]\nexec = [\"a\"]\nretries = 3"), ["a"]);
    assert_eq!(words("[[hooks.pre_start]]\nexec = [\"a\"]\n[[hooks.pre_start]]\nexec = [\"b\"]"), ["a", "b"]);
    assert_eq!(words("[hooks]\npre_start = [{ exec = [\"a\"] }, { exec = [\"b\"] }]"), ["a", "b"]);
    let json = r#"{ "process": { "exec": ["m"] }, "hooks": { "pre_start": { "exec": ["a"] } } }"#;
    assert_eq!(load(json, "t.json").unwrap().config.hooks.pre_start[0].hook.exec, ["a"]);
}

const CATALOG: &str = "process.exec = [\"a\"]\ncatalog = { backend = \"local\", directory = \"/s\" }\n";

#[test]
fn enabled_leaves_a_table_out_or_keeps_it() {
    let services = |enabled: &str| {
        let text = format!("{CATALOG}[[service]]\nname = \"a\"\nport = 1\nenabled = {enabled}\n");
        good(&text).services.len()
    };
    for out in ["false", "\"\"", "\"0\"", "\"false\"", "\"False\"", "\"no\"", "\"OFF\"", "\" \""] {
        assert_eq!(services(out), 0, "{out}");
    }
    for kept in ["true", "\"1\"", "\"true\"", "\"True\"", "\"yes\"", "\"on\"", "\"{{ env.YES }}\""] {
        assert_eq!(services(kept), 1, "{kept}");
    }
    assert_eq!(services("\"{{ env.EMPTY }}\""), 0);
    assert_eq!(services("\"{{ env.NONE | default('') }}\""), 0);
    assert_eq!(services("\"{% if env.PORT == '8080' %}true{% endif %}\""), 1);
}

#[test]
fn every_table_in_double_brackets_is_kept_by_the_same_key() {
    let config = good(
        r#"
        process.exec = ["a"]
        catalog = { backend = "local", directory = "/s" }
        [[hooks.pre_start]]
        enabled = "{{ env.YES }}"
        exec = ["b"]
        [[wait_for]]
        enabled = true
        service = "db"
        [[service]]
        enabled = "{{ env.YES }}"
        name = "web"
        port = 80
        [[health]]
        enabled = "1"
        tcp = "localhost:80"
        [[watch]]
        enabled = "yes"
        service = "app"
        signal = "HUP"
        [[task]]
        enabled = "{{ env.YES }}"
        name = "backup"
        exec = ["backup"]
        every = "1h"
        [[coprocess]]
        enabled = "{{ env.YES }}"
        name = "agent"
        exec = ["agent"]
        [[telemetry.sensor]]
        enabled = "on"
        name = "load"
        "#,
    );
    assert_eq!((config.hooks.pre_start.len(), config.wait_for.len(), config.services.len()), (1, 1, 1));
    assert_eq!((config.health.len(), config.watches.len(), config.tasks.len()), (1, 1, 1));
    assert_eq!((config.coprocesses.len(), config.sensors.len()), (1, 1));
}

#[test]
fn every_table_in_double_brackets_may_be_left_out_and_needs_nothing_then() {
    let loaded = load(
        r#"
        process.exec = ["a"]
        [[hooks.pre_start]]
        enabled = "{{ env.NONE | default('') }}"
        exec = ["{{ env.NONE }}"]
        [[hooks.pre_start]]
        exec = ["b"]
        [[wait_for]]
        enabled = false
        service = "{{ env.NONE }}"
        [[service]]
        enabled = false
        name = "web"
        port = "{{ env.NONE }}"
        [[health]]
        enabled = "no"
        name = "ping"
        tcp = "localhost:{{ env.NONE }}"
        services = ["web"]
        [[watch]]
        enabled = "{{ env.EMPTY }}"
        name = "app"
        "#,
        "t.toml",
    )
    .unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let config = loaded.config;
    assert!(config.services.is_empty() && config.health.is_empty() && config.watches.is_empty());
    assert_eq!((config.wait_for.len(), config.hooks.pre_start.len()), (0, 1));
    assert_eq!(
        loaded.left_out,
        [
            "t.toml:4: [[hooks.pre_start]] is left out: its `enabled` is empty",
            "t.toml:9: [[wait_for]] is left out: its `enabled` is `false`",
            "t.toml:12: [[service]] `web` is left out: its `enabled` is `false`",
            "t.toml:16: [[health]] `ping` is left out: its `enabled` is `no`",
            "t.toml:21: [[watch]] `app` is left out: its `enabled` is empty",
        ]
    );
    let single = "[hooks]\npre_start = { exec = [\"a\"], enabled = \"{{ env.EMPTY }}\" }\n";
    assert!(good(&format!("{MINIMAL}{single}")).hooks.pre_start.is_empty());
}

#[test]
fn an_empty_socket_turns_the_control_endpoint_off() {
    assert_eq!(good(&format!("{MINIMAL}[control]\nsocket = \"\"\n")).control.socket, None);
}

#[test]
fn consul_entries_are_removed_by_default_and_kept_with_zero() {
    let service = |consul: &str| {
        let text = format!(
            "{MINIMAL}catalog = {{ backend = \"local\", directory = \"/s\" }}\n\
             [[service]]\nname = \"a\"\nport = 1\n{consul}"
        );
        let text = text.replacen(MINIMAL, "process.exec = [\"a\"]\n", 1);
        good(&text).services.remove(0).consul.deregister_critical_after
    };
    assert_eq!(service(""), Some(Duration::from_secs(600)));
    assert_eq!(service("consul = { deregister_critical_after = \"0s\" }"), None);
}

#[test]
fn what_may_not_be_as_meant_is_a_warning_with_its_place() {
    let text = format!("{MINIMAL}\n[[service]]\nname = \"a\"\nport = 1\n");
    let warnings = load(&text, "t.toml").unwrap().warnings;
    let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "t.toml:4:1: nothing is registered: there is no catalog (set `[catalog] backend`, or leave `[[service]]` out)"
        ]
    );
}

#[test]
fn a_byte_order_mark_is_no_mistake() {
    good(&format!("\u{feff}{MINIMAL}"));
}

#[test]
fn every_example_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config-examples");
    let files = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, mut paths): (Vec<_>, Vec<_>) = files(&folder).partition(|path| path.is_dir());
    paths.extend(folders.iter().flat_map(|folder| files(folder)));
    // Those without a default: the volume's name, and what schedulers set.
    let addresses = ["POD_IP", "NODE_IP", "CONSUL", "NOMAD_HOST_IP_http"].map(|name| (name, "192.0.2.7"));
    let ports = ["NOMAD_PORT_http", "NOMAD_HOST_PORT_http"].map(|name| (name, "8080"));
    let names = ["NODE", "NOMAD_ALLOC_ID"].map(|name| (name, "disk-1"));
    let variables = addresses.into_iter().chain(ports).chain(names).collect();
    let context = Context { variables, ..context() };
    let mut count = 0;
    for path in paths {
        if path.extension().is_some_and(|extension| extension == "toml" || extension == "json") {
            let loaded = Config::load(&path, None, &context).unwrap_or_else(|report| panic!("{report}"));
            assert!(loaded.warnings.is_empty(), "{}: {:?}", path.display(), loaded.warnings);
            count += 1;
        }
    }
    assert!(count >= 4);
}

#[test]
fn every_command_runs_as_hooks_says_unless_it_says_so_itself() {
    let config = good(
        r#"
        [process]
        exec = ["a"]
        [hooks]
        user = "app"
        env = { A = "1", B = "1" }
        env_from_files = { SECRET = "/run/secrets/one", KEY = "/run/secrets/key" }
        pre_stop = { exec = ["b"] }
        post_stop = { exec = ["c"], user = "root", env = { B = "2", KEY = "3" }, env_from_files = { A = "/run/a" } }
        [[health]]
        exec = ["d"]
        env = { C = "4" }
        [[watch]]
        key = "k"
        on_change = { exec = ["e"], env_from_files = { SECRET = "/run/secrets/two" } }
        template = { source = "/a", destination = "/b", check = ["f", "{}"] }
        [catalog]
        backend = "local"
        directory = "/shared"
        "#,
    );
    let text = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let files = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), PathBuf::from(v))).collect();
    let (one, key) = (("SECRET", "/run/secrets/one"), ("KEY", "/run/secrets/key"));
    let all = RunAs {
        user: Some("app".to_owned()),
        env: text(&[("A", "1"), ("B", "1")]),
        env_from_files: files(&[one, key]),
    };
    assert_eq!(config.hooks.pre_stop.unwrap().run_as, all);
    let own = config.hooks.post_stop.unwrap().run_as;
    assert_eq!(own.user.as_deref(), Some("root"));
    assert_eq!((own.env, own.env_from_files), (text(&[("B", "2"), ("KEY", "3")]), files(&[one, ("A", "/run/a")])));
    let env = text(&[("A", "1"), ("B", "1"), ("C", "4")]);
    let exec = vec!["d".into()];
    assert_eq!(config.health[0].probe, Probe::Exec { exec, run_as: RunAs { env, ..all.clone() } });
    let env_from_files = files(&[("SECRET", "/run/secrets/two"), key]);
    assert_eq!(config.watches[0].on_change.as_ref().unwrap().run_as, RunAs { env_from_files, ..all.clone() });
    assert_eq!(config.watches[0].template.as_ref().unwrap().check_as, all);
}
