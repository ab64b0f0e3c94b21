//! `[[telemetry.sensor]]`: what it comes to, and what is wrong with it.

use std::time::Duration;

use insta::assert_snapshot;

use super::{bad, good};
use crate::config::{AddressSpec, Sensor, SensorKind, ServiceOf};

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

const LOCAL: &str = "process.exec = [\"a\"]\ncatalog = { backend = \"local\", directory = \"/shared\" }\n";

#[test]
fn telemetry_is_registered_as_a_service_that_neither_a_check_nor_an_election_means() {
    let config = good(&format!(
        "{LOCAL}[[service]]\nname = \"web\"\nport = 80\n[[health]]\nname = \"ping\"\ntcp = \"127.0.0.1:80\"\n\
         [election]\nname = \"web\"\n[telemetry]\nlisten = \"0.0.0.0:9090\"\n\
         advertise = {{ name = \"pilotfish\", tags = [\"op\"] }}\n"
    ));
    let [web, telemetry] = config.services.as_slice() else { panic!("{:?}", config.services) };
    assert_eq!((telemetry.id.as_str(), telemetry.port), ("pilotfish-web1-9090", 9090));
    assert_eq!((&telemetry.of, telemetry.tags.as_slice()), (&ServiceOf::Telemetry, ["op".to_owned()].as_slice()));
    assert_eq!(telemetry.address, web.address);
    assert_eq!(config.health[0].services, ["web-web1-80"]);
    assert_eq!(config.election.unwrap().service.as_deref(), Some("web-web1-80"));
    // Where it listens at one address, that is where others find it.
    let at_one = format!("{LOCAL}[telemetry]\nlisten = \"192.0.2.7:9090\"\nadvertise.name = \"pilotfish\"\n");
    assert_eq!(good(&at_one).services[0].address, [AddressSpec::Static([192, 0, 2, 7].into())]);
    // And where that is an interface's, whose address is to be found, they find the same.
    let of_eth1 = good(&at_one.replace("192.0.2.7", "eth1,inet"));
    let specs = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<AddressSpec>>();
    assert_eq!(of_eth1.services[0].address, specs(&["eth1", "inet"]));
    assert_eq!(of_eth1.telemetry.unwrap().listen.to_string(), "eth1:inet,inet:9090");
}

#[test]
fn what_telemetry_cannot_be_registered_as_is_refused() {
    let each = |case: &&str| format!("{}\n", bad(&format!("{LOCAL}{case}\n"), "t.toml"));
    let cases = [
        "[telemetry]\nadvertise = { name = \"pilotfish\" }",
        "[telemetry]\nlisten = \"0.0.0.0:9090\"\nadvertise = { tags = [\"op\"] }",
        "[telemetry]\nlisten = \"0.0.0.0:9090\"\nadvertise = true",
        "[telemetry]\nlisten = \"0.0.0.0:9090\"\nadvertise = { name = \"web\", tags = [\"a\\n\"] }\n\
         [[service]]\nname = \"web\"\nport = 9090",
    ];
    assert_snapshot!(cases.iter().map(each).collect::<Vec<_>>().join("\n----\n"));
}

#[test]
fn telemetry_that_nobody_finds_or_reaches_is_warned_of() {
    let warnings = |text: &str| format!("{:?}", super::load(text, "t.toml").unwrap().warnings);
    let telemetry = "[telemetry]\nlisten = \"127.0.0.1:9090\"\nadvertise.name = \"pilotfish\"\n";
    assert!(warnings(&format!("process.exec = [\"a\"]\n{telemetry}")).contains("there is no catalog"));
    assert!(warnings(&format!("{LOCAL}{telemetry}")).contains("nobody else reaches 127.0.0.1:9090"));
}
