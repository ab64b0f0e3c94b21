//! Sensors on the real program: what their commands print and what is pushed is what Prometheus is told.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::support::lab::Lab;
use crate::support::namespace::eventually;

const TERM: i32 = 15;

/// A main that lives, and these sensors.
fn lab(sensors: &str) -> Lab {
    Lab::new(&format!("[process]\nexec = [\"sleep\", \"1000\"]\n{sensors}"))
}

/// A sensor whose command is this script.
fn sensor(name: &str, script: &str, more: &str) -> String {
    let every = if more.contains("every") { "" } else { "every = \"100ms\"\n" };
    format!("[[telemetry.sensor]]\nname = \"{name}\"\nexec = [\"sh\", \"-c\", '''{script}''']\n{every}{more}\n")
}

/// `/metrics`, at the control socket.
fn metrics(lab: &Lab) -> String {
    let mut stream = UnixStream::connect(lab.path("control.sock")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[track_caller]
fn shows(lab: &Lab, line: &str) {
    let shows = eventually(line, || metrics(lab).lines().any(|told| told == line).then_some(()));
    shows.unwrap_or_else(|error| panic!("{error}: {}", metrics(lab)));
}

fn status_of(lab: &Lab, name: &str) -> Value {
    let status: Value = serde_json::from_str(&lab.ask(&["status", "--json"]).1).unwrap();
    let sensors = status["sensors"].as_array().unwrap();
    sensors.iter().find(|sensor| sensor["name"] == name).unwrap().clone()
}

#[test]
fn what_a_command_prints_is_what_prometheus_is_told() {
    let lab = lab(&(sensor("load", "cat DIR/load", "help = \"The load\"")
        + &sensor("rows", "printf 'rows{table=\"a\"} 3\\nrows{table=\"b\"} 4\\n'", "type = \"counter\"")
        + &sensor("wait_seconds", "echo 0.3; echo 20", "type = \"histogram\"\nbuckets = [0.1, 1]\nevery = \"1h\"")));
    std::fs::write(lab.path("load"), "0.5\n").unwrap();
    let _container = lab.run();
    shows(&lab, "load 0.5");
    shows(&lab, "rows_total{table=\"b\"} 4.0");
    shows(&lab, "wait_seconds_bucket{le=\"1.0\"} 1");
    shows(&lab, "wait_seconds_count 2");
    let told = metrics(&lab);
    assert!(told.contains("# HELP load The load\n# TYPE load gauge\n"), "{told}");
    assert!(told.contains("# TYPE rows counter\n") && told.ends_with("# EOF\n"), "{told}");
    std::fs::write(lab.path("load"), "7\n").unwrap();
    shows(&lab, "load 7.0");
}

#[test]
fn garbage_is_said_once_and_counted_and_its_metric_is_gone_until_it_is_over() {
    let lab = lab(&sensor("load", "cat DIR/load; echo for people >&2", ""));
    std::fs::write(lab.path("load"), "1").unwrap();
    let container = lab.run();
    shows(&lab, "load 1.0");
    std::fs::write(lab.path("load"), "all is well\n").unwrap();
    shows(&lab, "pilotfish_sensor_failing{sensor=\"load\"} 1");
    eventually("several runs", || (status_of(&lab, "load")["failed"].as_u64() >= Some(5)).then_some(())).unwrap();
    assert!(!metrics(&lab).contains("\nload "), "{}", metrics(&lab));
    let said = "sensor load: line 1: `all is well` has no number";
    assert_eq!(container.stderr().matches(said).count(), 1, "{}", container.stderr());
    std::fs::write(lab.path("load"), "2").unwrap();
    shows(&lab, "load 2.0");
    assert!(container.stderr().contains("sensor load works again"), "{}", container.stderr());
}

#[test]
fn ten_thousand_labels_are_bounded_said_and_hold_nobody_up() {
    let script = "i=0; while [ $i -lt 10000 ]; do echo \"load{n=\\\"$i\\\"} $i\"; i=$((i+1)); done";
    let lab = lab(&sensor("load", script, ""));
    let mut container = lab.run();
    eventually("its values", || (status_of(&lab, "load")["values"] == 1000).then_some(())).unwrap();
    let told = metrics(&lab);
    assert_eq!(told.matches("\nload{").count(), 1000);
    assert!(container.stderr().contains("more than 1000 sets of labels"), "{}", container.stderr());
    container.signal(TERM);
    assert_eq!(container.wait().unwrap(), 143);
}

#[test]
fn an_application_pushes_what_it_has_measured() {
    let pushed = |name: &str, kind: &str| format!("[[telemetry.sensor]]\nname = \"{name}\"\ntype = \"{kind}\"\n");
    let lab = lab(&(pushed("queue", "gauge") + &pushed("mails", "counter") + &pushed("seconds", "histogram")));
    let _container = lab.run();
    let (code, said, errors) = lab.ask(&["metric", "queue=7", "mails{to=\"a=b\"}=2", "seconds=0.3"]);
    assert_eq!((code, said.as_str()), (0, "3 values taken\n"), "{errors}");
    assert_eq!(lab.ask(&["metric", "mails{to=\"a=b\"}=3"]).0, 0);
    shows(&lab, "queue 7.0");
    shows(&lab, "mails_total{to=\"a=b\"} 5.0");
    shows(&lab, "seconds_bucket{le=\"0.5\"} 1");
    for (bad, why) in [("length=1", "there is no sensor length"), ("queue=long", "`long` isn't a number")] {
        let (code, _, errors) = lab.ask(&["metric", "queue=8", bad]);
        assert_eq!((code, errors.contains(why)), (1, true), "{errors}");
    }
    shows(&lab, "queue 7.0");
    let many: Vec<String> = (0..400).map(|n| format!("queue{{n=\"{n}\"}}=1")).collect();
    let (code, _, errors) = lab.ask(&[&["metric"][..], &many.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    assert_eq!((code, errors.contains("too much for one order")), (1, true), "{errors}");
}

#[test]
fn a_sensor_that_floods_or_never_ends_is_a_sensor_that_fails() {
    let lab = lab(&(sensor("flood", "yes 12345678", "timeout = \"300ms\"")
        + &sensor("hang", "setsid sleep 1000 & sleep 1000", "timeout = \"300ms\"")
        + &sensor("fine", "echo 1", "")));
    let mut container = lab.run();
    shows(&lab, "pilotfish_sensor_failing{sensor=\"flood\"} 1");
    shows(&lab, "pilotfish_sensor_failing{sensor=\"hang\"} 1");
    shows(&lab, "fine 1.0");
    container.signal(TERM);
    assert_eq!(container.wait().unwrap(), 143);
}
