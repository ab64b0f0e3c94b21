//! Every kind of mistake, and the report it gets. The reports are in `snapshots/`; after a change on purpose, look at
//! what `INSTA_UPDATE=always cargo test --lib config::tests::bad` writes there.

use std::path::Path;

use insta::assert_snapshot;

use super::{bad, context, load};
use crate::config::Config;

const MAIN: &str = "process.exec = [\"a\"]\n";
const LOCAL: &str = "process.exec = [\"a\"]\ncatalog = { backend = \"local\", directory = \"/shared\" }\n";

/// The report on a text in TOML.
fn toml(text: &str) -> String {
    bad(text, "t.toml")
}

/// The reports on the same few lines, each after `before`.
fn each(before: &str, cases: &[&str]) -> String {
    let report = |case: &&str| format!("{}\n", toml(&format!("{before}{case}\n")));
    cases.iter().map(report).collect::<Vec<_>>().join("\n----\n")
}

#[test]
fn all_mistakes_are_reported_at_once() {
    assert_snapshot!(toml(
        r#"[process]
exce = ["a"]
stop_timeout = 5
user = "{{ env.NONE }}"
stop_on = ["TERM", "KIL"]

[stop]
within = "soon"
drain = "5s"

[election]
name = "x"

[[service]]
port = "{{ env.WORD }}"
tags = "prod"

[[health]]
http = "127.0.0.1:80/health"
timeout = "0s"
services = ["web"]

[catalog]
backend = "redis"
"#
    ));
}

#[test]
fn a_misspelt_key_gets_its_nearest_neighbour_or_its_home_or_the_list() {
    assert_snapshot!(each(
        "",
        &[
            "[process]\nexce = [\"a\"]",
            "process.exec = [\"a\"]\nprocess.exce = [\"b\"]",
            "[services]\nname = \"a\"",
            "user = \"mysql\"",
            "process.interval = \"5s\"",
            "[stop]\ncolour = \"red\"",
            "[catalog]\nca = \"/ca.pem\"",
            "[process]\nwithin = \"5s\"\npre_start = { exec = [\"a\"] }",
        ]
    ));
}

#[test]
fn keys_of_later_versions_are_told_from_unknown_ones() {
    assert_snapshot!(each(
        LOCAL,
        &[
            "[[coprocess]]\nname = \"a\"",
            "[[watch]]\nservice = \"a\"\nsignal = \"HUP\"\nat_once = 1",
            "[control]\nlisten = \"127.0.0.1:1\"",
            "[control]\ntoken_file = \"/t\"",
            "[control]\nlisten = \"localhost:1\"\ntoken_file = \"t\"",
            "[control]\nlisten = \"127.0.0.1:1\"\ntoken_file = \"t\"",
        ]
    ));
}

#[test]
fn what_says_neither_yes_nor_no_and_what_needs_a_left_out_table_is_refused() {
    assert_snapshot!(each(
        LOCAL,
        &[
            "[[service]]\nenabled = \"maybe\"\nname = \"a\"\nport = 1",
            "[[service]]\nenabled = \"{{ env.WORD }}\"\nname = \"a\"\nport = 1",
            "[[service]]\nenabled = \"{{ env.NONE }}\"\nname = \"a\"\nport = 1",
            "[[service]]\nenabled = 1\nname = \"a\"\nport = 1",
            "[[service]]\nenabled = \"\"\nname = \"a\"\nport = 1\n[[health]]\ntcp = \"a:1\"\nservices = [\"a\"]",
            "[[service]]\nenabled = false\nname = \"a\"\nport = 1\n[election]\nname = \"x\"\nservice = \"a\"",
            "[stop]\nenabled = true",
        ]
    ));
}

#[test]
fn a_value_of_the_wrong_type_is_shown_the_right_one() {
    assert_snapshot!(each(
        "",
        &[
            "process.exec = \"nginx -g daemon\"",
            "process.exec = \"nginx -g 'daemon off;'\"",
            "process.exec = \"a | b\"",
            "process.exec = 5",
            "process.exec = [\"sleep\", 5]",
            "[[process]]\nexec = [\"a\"]",
            "[service]\nname = \"a\"",
            "process = \"a\"",
        ]
    ));
    assert_snapshot!(each(
        MAIN,
        &[
            "process.env = { A = 1, B = true }",
            "process.restart = \"always\"",
            "hooks.pre_start = [\"a\"]",
            "hooks.pre_start = \"a b\"",
            "hooks.post_start = [\"a\"]",
            "hooks.pre_stop = \"a b\"",
            "control.signals = \"yes\"",
            "control.signals = \"true\"",
            "log.level = 5",
            "process.directory = 1979-05-27",
            "process.limits = { nofile = true }",
            "process.limits = { umask = 22 }",
            "telemetry.listen = 9090",
            "[[health]]\ntcp = 3306",
            "[[service]]\nname = \"a\"\nport = \"80\"",
            "[[service]]\nname = \"a\"\nport = 80.5",
        ]
    ));
}

#[test]
fn numbers_out_of_range_are_refused() {
    assert_snapshot!(each(
        MAIN,
        &[
            "[[service]]\nname = \"a\"\nport = 65536",
            "[[service]]\nname = \"a\"\nport = 0",
            "[[service]]\nname = \"a\"\nport = -1",
            "[[service]]\nname = \"a\"\nport = 99999999999999999999",
            "process.exit_codes = { 143 = 256 }",
            "process.exit_codes = { 300 = 0 }",
            "[[health]]\ntcp = \"a:1\"\nfailures = 0\nsuccesses = 0",
            "process.limits = { nofile = -1 }",
        ]
    ));
}

#[test]
fn durations_want_a_unit_and_a_sense() {
    assert_snapshot!(each(
        MAIN,
        &[
            "stop.within = 9",
            "stop.within = \"9\"",
            "stop.within = \"1.5s\"",
            "stop.within = \"9 seconds or so\"",
            "stop.within = \"\"",
            "stop.within = \"0s\"",
            "stop.within = \"{{ env.TEN }}\"",
            "process.restart = { policy = \"always\", backoff = \"30s..1s\" }",
            "process.restart = { policy = \"always\", backoff = 5, within = \"0s\" }",
            "[[health]]\ntcp = \"a:1\"\ninterval = \"0s\"\ntimeout = \"0s\"\nstart_interval = \"0s\"",
        ]
    ));
}

#[test]
fn commands_name_a_program() {
    assert_snapshot!(each(
        "",
        &[
            "process.exec = []",
            "process.exec = [\"\"]",
            "process.exec = [\"a\\u0000b\"]",
            "process.exec = [\"{{ env.EMPTY }}\"]",
            "[process]\nuser = \"a\"",
            "",
            "process.exec = [\"a\"]\n[hooks.pre_start]\nretries = 3",
            "process.exec = [\"a\"]\n[[hooks.pre_start]]\nexec = [\"a\"]\n[[hooks.pre_start]]\nretries = 3",
        ]
    ));
}

#[test]
fn signals_exist_and_can_be_caught() {
    assert_snapshot!(each(
        MAIN,
        &[
            "process.stop_on = [\"TREM\"]",
            "process.stop_on = [\"TERM\", \"KILL\"]",
            "process.stop_on = [\"STOP\"]",
            "process.stop_signal = \"SIGFOO\"",
            "process.rewrite_signals = { HPU = \"TERM\" }",
            "process.rewrite_signals = { HUP = \"NOPE\" }",
            "process.rewrite_signals = { KILL = \"TERM\" }",
            "process.rewrite_signals = { HUP = \"TERM\", SIGHUP = \"INT\" }",
            "process.stop_on = [\"TERM\", \"QUIT\"]\nprocess.rewrite_signals = { TERM = \"\" }",
            "control.signals = true\nprocess.stop_on = [\"HUP\"]\nprocess.rewrite_signals = { USR1 = \"\" }",
        ]
    ));
}

#[test]
fn stopping_has_to_fit_into_its_time() {
    assert_snapshot!(each(
        MAIN,
        &[
            "process.stop_timeout = \"10s\"",
            "process.stop_timeout = \"20s\"\nstop.within = \"15s\"",
            "stop.drain = \"9s\"",
            "stop = { within = \"5s\", drain = \"1m\" }",
        ]
    ));
}

#[test]
fn templates_name_what_is_missing() {
    assert_snapshot!(each(
        "",
        &[
            "process.exec = [\"{{ env.NONE }}\"]",
            "process.exec = [\"a\", \"{{ env.A ~ env.B }}\"]",
            "process.exec = [\"{{ env.PORT\"]",
            "process.exec = [\"{{ env.PORT | nosuchfilter }}\"]",
            "process.exec = [\"{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}\"]",
            "process.exec = [\"a\"]\n[[service]]\nname = \"{{ env.EMPTY }}\"\nport = \"{{ env.WORD }}\"",
        ]
    ));
}

#[test]
fn a_health_check_is_one_kind_of_check() {
    assert_snapshot!(each(
        MAIN,
        &[
            "[[health]]\nname = \"a\"",
            "[[health]]\nexec = [\"a\"]\ntcp = \"a:1\"",
            "[[health]]\nnotify = true\nhttp = \"http://a/\"",
            "[[health]]\nnotify = false",
            "[[health]]\nnotify = true\n[[health]]\nname = \"b\"\nnotify = true",
            "[[health]]\ntcp = \"a:1\"\n[[health]]\ntcp = \"a:2\"",
            "[[health]]\ntcp = \"a:1\"\nmethod = \"GET\"\nuser = \"u\"",
            "[[health]]\ntcp = \"a:1\"\nservices = [\"web\"]",
            "[[health]]\ntcp = \"a:1\"\nservices = []",
            "[[health]]\ntcp = \"a:1\"\non_failure = \"restart\"",
            "[[health]]\ntcp = \"a:1\"\non_failure = \"reboot\"",
            "[[health]]\ngrpc = \"a:1\"\nca = \"/c\"\nexpect_status = [200]",
            "[[health]]\ntcp = \"a:1\"\ncounts = false\nservices = [\"a\"]\nstand = false",
        ]
    ));
}

#[test]
fn a_check_of_a_service_that_is_not_there_gets_the_nearest_one() {
    assert_snapshot!(each(
        LOCAL,
        &["service = [{ name = \"mysql\", port = 1 }]\n[[health]]\ntcp = \"a:1\"\nservices = [\"mysq\", \"web\"]"]
    ));
}

#[test]
fn addresses_and_urls_are_sound() {
    assert_snapshot!(each(
        LOCAL,
        &[
            "[[health]]\nhttp = \"/health\"",
            "[[health]]\nhttp = \"ftp://a/\"",
            "[[health]]\nhttp = \"http://u:p@a/\"",
            "[[health]]\nhttp = \"http://a:99999/\"",
            "[[health]]\nhttp = \"http://a/\"\nca = \"/c\"\ninsecure = true\nexpect_status = [20]\nmethod = \"G T\"",
            "[[health]]\nhttp = \"http://a/\"\nheaders = { \"a b\" = \"x\", C = \"x\\ny\" }",
            "[[health]]\ntcp = \"localhost\"",
            "[[health]]\ngrpc = \"http://a:1\"",
            "[[health]]\ngrpc = \"localhost/x\"",
            "[[health]]\ntcp = \"::1:80\"",
            "[[health]]\ntcp = \"tcp://127.0.0.1:80\"",
            "[[service]]\nname = \"a\"\nport = 1\naddress = [\"10.0.0.1\"]",
            "[[service]]\nname = \"a\"\nport = 1\naddress = [\"eth0[x]\", \"10.0.0.0/33\"]",
            "[[service]]\nname = \"a\"\nport = 1\naddress = []",
            "telemetry.listen = \":9090\"",
            "telemetry.listen = \"localhost:9090\"",
            "telemetry.listen = \"eth 0:9090\"",
            "control.socket = \"run/a.sock\"",
        ]
    ));
}

#[test]
fn a_service_has_a_name_a_port_and_an_id_of_its_own() {
    assert_snapshot!(each(
        LOCAL,
        &[
            "[[service]]",
            "[[service]]\nname = \"a/b\"\nport = 1",
            "[[service]]\nname = \"a\"\nport = 1\n[[service]]\nname = \"a\"\nport = 1",
            "[[service]]\nname = \"a\"\nport = 1\nid = \"x\"\n[[service]]\nname = \"b\"\nport = 2\nid = \"x\"",
            "[[service]]\nname = \"a\"\nport = 1\nttl = \"100ms\"",
        ]
    ));
}

#[test]
fn a_watch_looks_at_one_thing_and_does_something() {
    assert_snapshot!(each(
        LOCAL,
        &[
            "[[watch]]\nsignal = \"HUP\"",
            "[[watch]]\nservice = \"a\"\nkey = \"b\"\nsignal = \"HUP\"",
            "[[watch]]\nservice = \"a\"",
            "[[watch]]\nkey = \"a\"\ntag = \"t\"\ndatacenter = \"d\"\nsignal = \"HUP\"",
            "[[watch]]\nservice = \"a\"\ndatacenter = \"d\"\nsignal = \"HUP\"",
            "[[watch]]\nservice = \"a\"\nsignal = \"HUP\"\n[[watch]]\nservice = \"a\"\ntag = \"t\"\nsignal = \"HUP\"",
            "[[watch]]\nservice = \"a\"\ntemplate = { source = \"/a\" }",
            "[[watch]]\nservice = \"a\"\ntemplate = { source = \"/a\", destination = \"/a\" }",
            "[[watch]]\nservice = \"a\"\ntemplate = { source = \"/a\", destination = \"/b\" }\n\
             [[watch]]\nservice = \"b\"\ntemplate = { source = \"/c\", destination = \"/b\" }",
            "[[watch]]\nservice = \"a\"\non_change = { timeout = \"1s\" }",
            "[[watch]]\nkey = \"\"\nsignal = \"HUP\"",
            "[[watch]]\nleader = \"a/\"\nservice = \"b\"\nsignal = \"HUP\"",
            "[[watch]]\nleader = \"a\"\ndatacenter = \"d\"\nsignal = \"HUP\"",
        ]
    ));
}

#[test]
fn a_key_that_begins_with_a_slash_is_none_of_consuls() {
    let consul = format!("{MAIN}[catalog]\nbackend = \"consul\"\n");
    let cases = ["key_prefix = \"/app/\"", "key = \"/\""].map(|key| format!("[[watch]]\n{key}\nsignal = \"HUP\""));
    assert_snapshot!(each(&consul, &cases.each_ref().map(String::as_str)));
}

#[test]
fn looking_at_a_catalog_needs_one() {
    assert_snapshot!(each(
        MAIN,
        &[
            "[[watch]]\nservice = \"a\"\nsignal = \"HUP\"",
            "[[wait_for]]\nservice = \"a\"",
            "[catalog]\nbackend = \"local\"",
            "[catalog]\nbackend = \"local\"\ndirectory = \"shared\"",
            "[catalog]\nbackend = \"local\"\ndirectory = \"/s\"\nprefix = \"../x\"",
        ]
    ));
}

#[test]
fn waiting_has_one_subject_and_an_end() {
    assert_snapshot!(each(
        LOCAL,
        &[
            "[[wait_for]]\ntimeout = \"5s\"",
            "[[wait_for]]\nservice = \"a\"\nkey = \"b\"",
            "[[wait_for]]\nkey = \"b\"\ncount = 2",
            "[[wait_for]]\nservice = \"a\"\ncount = 0\ntimeout = \"0s\"",
            "[[wait_for]]\nkey_prefix = \"a/\"",
            "[[wait_for]]\nleader = \"a\"\nkey = \"b\"",
            "[[wait_for]]\nleader = \"a\"\ncount = 2\ntag = \"t\"",
        ]
    ));
}

#[test]
fn an_election_has_a_name_a_catalog_and_one_service() {
    assert_snapshot!(each(
        LOCAL,
        &[
            "[election]",
            "[election]\nname = \"/mysql\"",
            "[election]\nname = \"a/ranks\"",
            "[election]\nname = \"a\"\nservice = \"mysql\"",
            "service = [{ name = \"mysql\", port = 1 }]\n[election]\nname = \"a\"\nservice = \"mysq\"",
            "service = [{ name = \"a\", port = 1 }, { name = \"b\", port = 2 }]\n[election]\nname = \"a\"",
            "service = [{ name = \"a\", port = 1 }, { name = \"a\", port = 2 }]\n[election]\nname = \"a\"\nservice = \"a\"",
            "[election]\nname = \"a\"\nmode = \"stand-by\"\nprefer = \"high\"\nfence = \"none\"",
            "[election]\nname = \"a\"\nlease = 15\nkill_margin = \"50ms\"",
            "[election]\nname = \"a\"\n[election.rank]\ntimeout = \"0s\"",
            "[election]\nname = \"a\"\n[election.rank]\nexec = [\"a\"]\nquorum = 0",
            "[election]\nname = \"a\"\n[election.rank]\nexec = [\"a\"]\nquorum = 2",
            "service = [{ name = \"a\", port = 1 }]\n[election]\nname = \"a\"\nrank = { exec = [\"a\"], quorum = 2 }",
            "[election]\nname = \"a\"\nid = \"a/b\"",
            "[election]\nname = \"a\"\nlaese = \"15s\"",
            "[election]\nname = \"a\"\nwitness = \"here\"",
        ]
    ));
    assert_snapshot!(each(MAIN, &["[election]\nname = \"a\""]));
}

#[test]
fn what_must_fit_into_a_lease_is_shown_part_by_part() {
    let consul = format!("{MAIN}catalog.backend = \"consul\"\n");
    assert_snapshot!(each(
        &consul,
        &[
            "[election]\nname = \"a\"\nlease = \"10s\"",
            "[election]\nname = \"a\"\n[hooks.on_demote]\nexec = [\"a\"]\ntimeout = \"9s\"",
            "[election]\nname = \"a\"\n[hooks]\non_demote = { exec = [\"a\"], timeout = \"1m\" }\n[stop]\nwithin = \"2m\"",
            "[election]\nname = \"a\"\nlease = \"61s\"",
            "[election]\nname = \"a\"\nlease = \"0s\"",
            "[election]\nname = \"a\"\nkill_margin = \"7s\"",
            "service = [{ name = \"a\", port = 1 }]\n[election]\nname = \"a\"\nalive_ttl = \"100ms\"",
        ]
    ));
    let etcd = format!("{MAIN}catalog = {{ backend = \"etcd\", endpoints = [\"http://e:2379\"] }}\n");
    let cases = ["[election]\nname = \"a\"\nlease = \"10500ms\"", "[election]\nname = \"a\"\nlease = \"11s\""];
    assert_snapshot!(each(&etcd, &cases));
}

#[test]
fn an_endpoint_of_etcds_that_stands_twice_would_count_for_two_members() {
    let cases =
        ["[catalog]\nbackend = \"etcd\"\nendpoints = [\"http://e:2379\", \"http://f:2379\", \"https://e:2379\"]"];
    assert_snapshot!(each(MAIN, &cases));
}

#[test]
fn roles_need_an_election() {
    assert_snapshot!(each(
        LOCAL,
        &[
            "[hooks]\non_promote = { exec = [\"a\"] }\non_demote = { exec = [\"a\"] }\non_leader_change = { exec = [\"a\"] }",
            "[hooks]\npre_start = { exec = [\"a\"], when = \"leader\" }\npre_stop = { exec = [\"a\"], when = \"replica\" }",
            "[[watch]]\nservice = \"a\"\nsignal = \"HUP\"\nwhen = \"leader\"\n[[wait_for]]\nkey = \"a\"\nwhen = \"replica\"",
            "[election]\nname = \"a\"\n[hooks]\non_promote = { exec = [\"a\"], when = \"leader\" }",
            "[election]\nname = \"a\"\n[hooks]\npre_start = { exec = [\"a\"], when = \"primary\" }",
            "[election]\nname = \"a\"\n[hooks]\non_demote = {}",
        ]
    ));
}

#[test]
fn tags_tell_the_roles_apart() {
    let service = "service = [{ name = \"mysql\", port = 1, tags = [\"primary\"] }]\n[election]\nname = \"a\"\n";
    assert_snapshot!(each(
        LOCAL,
        &[
            "[election]\nname = \"a\"\nrole_tags = { leader = \"p\", replica = \"r\" }",
            &format!("{service}role_tags = {{ leader = \"primary\", replica = \"r\" }}"),
            &format!("{service}role_tags = {{ leader = \"x\", replica = \"x\" }}"),
            &format!("{service}role_tags = {{ leader = \"\" }}"),
        ]
    ));
}

#[test]
fn the_environment_of_main_is_one_the_kernel_takes() {
    assert_snapshot!(each(
        MAIN,
        &[
            "process.env = { \"A=B\" = \"c\", \"\" = \"d\" }",
            "process.env = { A = \"b\" }\nprocess.env_from_files = { A = \"/run/a\" }",
            "process.env_from_files = { A = \"\" }",
            "process.user = \"a b\"",
            "process.limits = { nofile = \"4096:1024\", umask = \"999\" }",
        ]
    ));
}

#[test]
fn text_that_is_no_toml_is_shown_where_it_stops_being_it() {
    assert_snapshot!(each(
        "",
        &[
            "[process]\nexec = [\"a\" \"b\"]\nusr = 1\n[stop]\nwithin = 9s\ndrain = 5",
            "[process\nexec = [\"a\"]\nusr = 1",
            "[process]\nexec = [\"a\"\nusr = 1\n[stop]\nwithin = 5",
            "[process]\nexec = \"a\nusr = 1",
            "[process]\nexec = [\"a\"]\nexec = [\"b\"]\nusr = 1",
            "[process]\nexec: [\"a\"]\nuser mysql",
            "[process]\nexec = [\"a\"]\nport = {{ env.PORT }}",
            "[process]\nuser = nobody\numask = info\n[control]\nsignals = True",
            "a = \u{1}",
            "\n  {\n  \"process\": { \"exec\": [\"a\"] }\n}",
        ]
    ));
}

#[test]
fn json_gets_the_same_reports() {
    let cases = [
        "# A config.\n[process]\nexec = [\"a\"]",
        r#"{"process": {"exce": ["a"]}}"#,
        r#"{"process": {"exec": "a b", "user": null, "exec": ["a"]}}"#,
        "{\n  \"process\": {\n    \"exec\": [\"a\"],\n    \"stop_timeout\": 5,\n  }\n}",
        r#"{"process": {"exec": ["a"]}, "service": {"name": "a"}, "health": [{"http": 5, "on_failure": "stop"}]}"#,
        r#"{"process": {"exec": ["a"], "restart": "always"}, "hooks": {"pre_stop": ["b"]}}"#,
        r#"{"process": {"exec": ["a"], "env": {"N": 1e3}}, "stop": {"within": 1.5}}"#,
        r#"{"process": {"exec": ["a"]}} // comment"#,
        r#"{"process""#,
        r#"["process"]"#,
        "",
    ];
    let report = |case: &&str| format!("{}\n", bad(case, "t.json"));
    assert_snapshot!(cases.iter().map(report).collect::<Vec<_>>().join("\n----\n"));
}

#[test]
fn what_a_template_put_into_a_url_is_not_shown() {
    let report = toml("process.exec = [\"a\"]\n[[health]]\nhttp = \"http://u:{{ env.WORD }}@a/?t={{ env.WORD }}\"\n");
    assert!(report.contains("has a user and password in it") && !report.contains("abc"), "{report}");
}

#[test]
fn a_mistake_in_one_line_is_fit_for_a_log() {
    let report = load("[process]\nexce = [\"ä\"]\nuser = \"ä\", x\n", "/etc/t.toml").unwrap_err();
    let lines: Vec<String> = report.mistakes().iter().map(ToString::to_string).collect();
    assert_eq!(lines[0], "/etc/t.toml:2:1: unknown key `exce` (did you mean `exec`?)");
    assert!(lines[1].starts_with("/etc/t.toml:3:11: this isn't TOML"), "{lines:?}");
}

#[test]
fn the_command_line_does_not_hide_mistakes_in_the_file() {
    let command = Some(vec!["b".into()]);
    let report = Config::from_text("process.exec = []\n", Path::new("t.toml"), command, &context()).unwrap_err();
    assert!(report.to_string().contains("`exec` is empty"));
}

#[test]
fn no_report_tells_a_secret() {
    let consul = format!("{MAIN}[catalog]\nbackend = \"consul\"\n");
    let mut word = context();
    word.variables = [("WORD", "me:s3cret@consul")].into_iter().collect();
    let templated = format!("{consul}address = \"https://{{{{ env.WORD }}}}\"");
    let templated = Config::from_text(&templated, Path::new("t.toml"), None, &word).unwrap_err().to_string();
    let reports = [
        toml(&format!("{consul}address = \"https://me:s3cret@consul:8501\"")),
        toml(&format!("{consul}token = \"s3cret\"")),
        toml(&format!("{consul}token = \"s3cret")),
        toml(&format!("{MAIN}[catalog]\nbackend = \"etcd\"\nendpoints = \"https://me:s3cret@etcd1\"")),
        bad(
            "{\"process\": {\"exec\": [\"a\"]}, \"catalog\": {\"backend\": \"consul\", \"token\": \"s3cret\"}}",
            "t.json",
        ),
        templated,
    ];
    for report in reports {
        assert!(!report.contains("s3cret"), "{report}");
        assert!(report.contains("***"), "{report}");
    }
}
