//! `[[coprocess]]`, and what is of one.

use std::time::Duration;

use insta::assert_snapshot;

use super::{bad, good};
use crate::config::coprocess::{OnGivingUp, OutputMode, Ready, StartPoint, StopPoint};
use crate::config::*;

const LOCAL: &str = "process.exec = [\"a\"]\ncatalog = { backend = \"local\", directory = \"/shared\" }\n";

fn each(cases: &[&str]) -> String {
    let report = |case: &&str| format!("{}\n", bad(&format!("{LOCAL}{case}\n"), "t.toml"));
    cases.iter().map(report).collect::<Vec<_>>().join("\n----\n")
}

#[test]
fn a_coprocess_needs_a_name_and_a_command_and_has_the_defaults_of_the_reference() {
    let config = good(&format!("{LOCAL}[[coprocess]]\nname = \"exporter\"\nexec = [\"/bin/exporter\"]\n"));
    let coprocess = &config.coprocesses[0];
    assert_eq!((coprocess.start, coprocess.stop), (StartPoint::WithMain, StopPoint::AfterMain));
    assert_eq!((coprocess.output, coprocess.on_giving_up), (OutputMode::Log, OnGivingUp::Ignore));
    assert_eq!(coprocess.restart, Restart { policy: RestartPolicy::Always, ..Restart::default() });
    assert_eq!((coprocess.stop_signal, coprocess.background), (Signal::TERM, Background::Kill));
    assert_eq!(coprocess.run_as, RunAs::default());
}

#[test]
fn a_coprocess_takes_every_key() {
    let config = good(&format!(
        r#"{LOCAL}
        [hooks]
        user = "hooks"
        env = {{ A = "hooks'" }}
        [[coprocess]]
        name = "consul-agent"
        exec = ["consul", "agent"]
        user = "consul"
        directory = "/d"
        env = {{ A = "1" }}
        env_from_files = {{ T = "/run/t" }}
        limits = {{ nofile = 1024 }}
        start = "before-catalog"
        ready = {{ exec = ["consul", "info"], timeout = "20s" }}
        pre_start = {{ exec = ["b"] }}
        post_stop = {{ exec = ["c"], timeout = "2s" }}
        restart = {{ max = 2 }}
        background = "follow"
        on_giving_up = "exit"
        stop = "before-main"
        stop_signal = "INT"
        stop_timeout = "3s"
        signal_scope = "group"
        output = "raw"
        [[coprocess]]
        name = "exporter"
        exec = ["e"]
        start = "after-main"
        after = ["consul-agent"]
        when = "leader"
        [election]
        name = "db"
        service = "web"
        [[service]]
        name = "web"
        port = 80
        [[service]]
        name = "metrics"
        port = 9100
        of = "exporter"
        [[health]]
        tcp = "127.0.0.1:80"
        of = "main"
        [[health]]
        name = "metrics"
        tcp = "127.0.0.1:9100"
        of = "exporter"
        on_failure = "restart"
        "#
    ));
    let [agent, exporter] = config.coprocesses.as_slice() else { panic!("there are two") };
    let run_as = RunAs {
        user: Some("consul".to_owned()),
        env: [("A".to_owned(), "1".to_owned())].into(),
        env_from_files: [("T".to_owned(), "/run/t".into())].into(),
    };
    assert_eq!(agent.run_as, run_as);
    let probe = Probe::Exec { exec: vec!["consul".into(), "info".into()], run_as };
    assert_eq!(agent.ready, Some(Ready { probe, timeout: Duration::from_secs(20) }));
    assert_eq!(agent.restart, Restart { policy: RestartPolicy::Always, max: 2, ..Restart::default() });
    assert_eq!(agent.limits.rlimits["nofile"], (Some(1024), Some(1024)));
    // Its hooks are hooks.
    assert_eq!(agent.pre_start.as_ref().unwrap().run_as.user.as_deref(), Some("hooks"));
    assert_eq!((exporter.after.as_slice(), exporter.when), (&["consul-agent".to_owned()][..], When::Leader));
    assert_eq!(config.services[1].of, ServiceOf::Coprocess("exporter".to_owned()));
    let spoken: Vec<_> = config.health.iter().map(|check| (check.of.as_deref(), check.services.as_slice())).collect();
    assert_eq!(spoken[0], (None, &["web-web1-80".to_owned()][..]));
    assert_eq!(spoken[1], (Some("exporter"), &["metrics-web1-9100".to_owned()][..]));
}

#[test]
fn a_coprocess_is_whole_and_can_start() {
    assert_snapshot!(each(&[
        "[[coprocess]]",
        "[[coprocess]]\nname = \"main\"\nexec = [\"b\"]",
        "[[coprocess]]\nname = \"b\"\nexec = [\"b\"]\n[[coprocess]]\nname = \"b\"\nexec = [\"c\"]",
        "[[coprocess]]\nname = \"b\"\nexec = [\"b\"]\nready = {}",
        "[[coprocess]]\nname = \"b\"\nexec = [\"b\"]\nready = { tcp = \"127.0.0.1:1\", notify = true }",
        "[[coprocess]]\nname = \"b\"\nexec = [\"b\"]\nready = { grpc = \"127.0.0.1\", timeout = \"0s\" }",
        "[[coprocess]]\nname = \"b\"\nexec = [\"b\"]\nstart = \"before\"\nstop_signal = \"KILL\"\nstop_timeout = \"20s\"",
        "[[coprocess]]\nname = \"b\"\nexec = [\"b\"]\nwhen = \"leader\"",
        "[[coprocess]]\nname = \"b\"\nexec = [\"b\"]\nrestart = { max = 0 }",
    ]));
}

#[test]
fn coprocesses_can_start_in_the_order_that_is_asked_for() {
    let three = |after: [&str; 3]| {
        let one = |(name, after): (&str, &str)| format!("[[coprocess]]\nname = \"{name}\"\nexec = [\"x\"]\n{after}\n");
        ["agent", "proxy", "exporter"].into_iter().zip(after).map(one).collect::<String>()
    };
    let circle = three(["after = [\"proxy\"]", "after = [\"exporter\"]", "after = [\"agent\"]"]);
    let own = three(["after = [\"agent\"]", "", ""]);
    let unknown = three(["after = [\"proxi\", \"main\"]", "", ""]);
    let early = three(["start = \"before-catalog\"\nafter = [\"proxy\"]", "", ""]);
    let role = "[election]\nname = \"e\"\n[[service]]\nname = \"s\"\nport = 1\n";
    let in_role = format!("{role}{}", three(["after = [\"proxy\"]", "when = \"leader\"", ""]));
    let too_early = format!("{role}{}", three(["start = \"before-catalog\"\nwhen = \"leader\"", "", ""]));
    assert_snapshot!(each(&[&circle, &own, &unknown, &early, &in_role, &too_early]));
}

#[test]
fn what_is_of_a_coprocess_names_one_that_is_there() {
    assert_snapshot!(each(&[
        "[[service]]\nname = \"s\"\nport = 1\nof = \"agent\"",
        "[[coprocess]]\nname = \"agent\"\nexec = [\"b\"]\n[[health]]\ntcp = \"127.0.0.1:1\"\nof = \"agend\"",
        "[[coprocess]]\nname = \"agent\"\nexec = [\"b\"]\nrestart = { policy = \"never\" }\n[[health]]\ntcp = \"127.0.0.1:1\"\nof = \"agent\"\non_failure = \"restart\"",
        "[[coprocess]]\nname = \"agent\"\nexec = [\"b\"]\n[[health]]\nname = \"x\"\nnotify = true\nof = \"agent\"\n[[health]]\nname = \"y\"\nnotify = true\nof = \"agent\"",
    ]));
    // Each has a way to speak of its own.
    good(&format!(
        "{LOCAL}[[coprocess]]\nname = \"agent\"\nexec = [\"b\"]\n[[health]]\nnotify = true\nof = \"agent\"\n[[health]]\nname = \"own\"\nnotify = true\n"
    ));
}

#[test]
fn nobody_waits_for_a_coprocess_that_is_left_out_and_nothing_is_of_one() {
    let left_out = "[[coprocess]]\nname = \"agent\"\nexec = [\"b\"]\nenabled = \"{{ env.EMPTY }}\"\n";
    let waits = "[[coprocess]]\nname = \"proxy\"\nexec = [\"b\"]\nafter = [\"agent\"]\n";
    let config = good(&format!("{LOCAL}{left_out}{waits}"));
    assert_eq!(config.coprocesses.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["proxy"]);
    let of = "[[health]]\ntcp = \"127.0.0.1:1\"\nof = \"agent\"\n";
    let report = bad(&format!("{LOCAL}{left_out}{of}"), "t.toml");
    assert!(report.contains("coprocess `agent` is left out"), "{report}");
}

#[test]
fn a_coprocess_may_be_ready_by_grpc() {
    let ready = "ready = { grpc = \"127.0.0.1:50051/db\" }";
    let config = good(&format!("{LOCAL}[[coprocess]]\nname = \"db\"\nexec = [\"b\"]\n{ready}\n"));
    let probe = &config.coprocesses[0].ready.as_ref().unwrap().probe;
    assert!(
        matches!(probe, Probe::Grpc(grpc) if grpc.service == "db" && grpc.address == "127.0.0.1:50051"),
        "{probe:?}"
    );
}

#[test]
fn the_order_of_starts_and_stops_is_told() {
    let order = |text: &str| coprocess::order(&good(&format!("{LOCAL}{text}")).coprocesses);
    assert_eq!(order(""), "");
    let named = |name: &str, more: &str| format!("[[coprocess]]\nname = \"{name}\"\nexec = [\"{name}\"]\n{more}\n");
    assert_eq!(order(&named("a", "")), "starts: main with a\nstops: main, then a\n");
    let four = ["a", "b", "c", "d"].map(|name| named(name, "")).concat();
    assert_eq!(order(&four), "starts: main with a, b, c and d\nstops: main, then a, b, c and d\n");
    assert_eq!(
        order(&named("a", "start = \"after-main\"")),
        "starts: main, then a (once main is healthy)\nstops: main, then a\n"
    );
    let crew = [
        named("show", "start = \"after-main\""),
        named("second", "after = [\"first\"]"),
        named("proxy", "stop = \"before-main\""),
        named("first", ""),
        named("agent", "start = \"before-catalog\"\nready = { tcp = \"127.0.0.1:8500\", timeout = \"1m\" }"),
    ];
    assert_eq!(
        order(&crew.concat()),
        "starts: agent (ready within 1m), then main with proxy and first, then second, then show (once main is healthy)\n\
         stops: proxy, then main, then show, then second, then first, then agent\n"
    );
    let role = "when = \"leader\"\n[[service]]\nname = \"db\"\nport = 1\n[election]\nname = \"db\"";
    assert_eq!(order(&named("vip", role)), "starts: main with vip (in the leader's role)\nstops: main, then vip\n");
}
