//! `[[telemetry.sensor]]`: what it comes to, and what is wrong with it.

use std::time::Duration;

use insta::assert_snapshot;

use super::{bad, good};
use crate::config::{Sensor, SensorKind};

const MAIN: &str = "process.exec = [\"a\"]\n";

fn sensor(text: &str) -> Sensor {
    let config = good(&format!("{MAIN}[[telemetry.sensor]]\nname = \"load\"\n{text}\n"));
    config.sensors.into_iter().next().unwrap()
}

#[test]
fn a_sensor_is_a_gauge_that_is_measured_as_often_as_prometheus_asks() {
    let Sensor { name, kind, command, .. } = sensor("exec = [\"measure\"]");
    let command = command.unwrap();
    assert_eq!((name.as_str(), kind), ("load", SensorKind::Gauge));
    assert_eq!((command.every, command.timeout), (Duration::from_secs(15), Duration::from_secs(5)));
}

#[test]
fn a_sensor_without_a_command_is_pushed() {
    let sensor = sensor("type = \"counter\"\nhelp = \"Load\"");
    assert_eq!((sensor.command, sensor.kind, sensor.help.as_str()), (None, SensorKind::Counter, "Load"));
}

#[test]
fn a_histogram_has_the_buckets_that_it_names_or_prometheus_own() {
    assert_eq!(sensor("type = \"histogram\"\nbuckets = [1, 2.5]").kind, SensorKind::Histogram(vec![1.0, 2.5]));
    let SensorKind::Histogram(usual) = sensor("type = \"histogram\"").kind else { panic!("no histogram") };
    assert_eq!((usual.len(), usual[0], usual[10]), (11, 0.005, 10.0));
}

#[test]
fn a_counters_family_has_no_total_and_its_samples_have() {
    let of = |name: &str| good(&format!("{MAIN}[[telemetry.sensor]]\nname = \"{name}\"\ntype = \"counter\"\n")).sensors;
    for name in ["jobs", "jobs_total"] {
        assert_eq!(
            (of(name)[0].family(), of(name)[0].samples()),
            ("jobs", vec!["jobs".to_owned(), "jobs_total".to_owned()])
        );
    }
}

#[test]
fn what_is_wrong_with_a_sensor_is_shown_at_its_place() {
    let report = |text: &str| bad(&format!("{MAIN}{text}\n"), "t.toml");
    let one = |text: &str| format!("[[telemetry.sensor]]\nname = \"load\"\n{text}");
    let reports: Vec<String> = [
        "[[telemetry.sensor]]\nexec = [\"a\"]".to_owned(),
        "[[telemetry.sensor]]\nname = \"open connections\"".to_owned(),
        "[[telemetry.sensor]]\nname = \"pilotfish_ready\"".to_owned(),
        one("type = \"summary\""),
        one("every = \"1m\"\ntimeout = \"0s\""),
        one("exec = [\"a\"]\nevery = \"0s\"\nhelp = \"two\\nlines\""),
        one("buckets = [1]"),
        one("type = \"histogram\"\nbuckets = []"),
        one("type = \"histogram\"\nbuckets = [2, 1.5]"),
        one("type = \"histogram\"\nbuckets = [\"2\"]"),
        format!("{}\n{}", one(""), one("type = \"counter\"")),
        format!("{}\n[[telemetry.sensor]]\nname = \"load_sum\"", one("type = \"histogram\"")),
        "[telemetry]\nsensor = \"load\"".to_owned(),
    ]
    .map(|text| report(&text))
    .into();
    assert_snapshot!(reports.join("\n----\n"));
}
