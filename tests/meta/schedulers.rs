//! The examples for Kubernetes, Nomad and Swarm, as far as can be told without those systems: what the manifests say fits the
//! configs they bring, and those are sound.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use saphyr::{LoadableYamlNode, Yaml};
use toml::Table;

use crate::support::namespace::pilotfish;

/// A config beside its manifest.
struct Example {
    folder: PathBuf,
    config: Table,
}

impl Example {
    fn of(scheduler: &str) -> Example {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config-examples").join(scheduler);
        let config = fs::read_to_string(folder.join("pilotfish.toml")).expect("its config is readable");
        Example { folder, config: config.parse().expect("its config is TOML") }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The config has no mistake, with no other variables than these.
    #[track_caller]
    fn passes_check_with(&self, variables: &BTreeMap<String, String>) {
        let file = self.folder.join("pilotfish.toml");
        let check = Command::new(pilotfish()).arg("check").arg(file).env_clear().envs(variables).output();
        let check = check.expect("pilotfish runs");
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        let used = fs::read_to_string(self.folder.join("pilotfish.toml")).expect("its config is readable");
        for name in variables.keys() {
            assert!(used.contains(&format!("env.{name} ")), "{name} is set and not used");
        }
    }

    /// drain, all of a stop, and what the scheduler waits for come in this order.
    #[track_caller]
    fn stops_within(&self, grace: Duration) {
        let of_stop = |key: &str| duration(self.config["stop"][key].as_str().expect("a duration"));
        assert!(of_stop("drain") < of_stop("within"), "{:?}", self.config["stop"]);
        assert!(of_stop("within") < grace, "killed after {grace:?}");
    }
}

fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).expect("a duration")
}

fn variables(names: &[(&str, &str)]) -> BTreeMap<String, String> {
    names.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn text<'a>(yaml: &'a Yaml<'_>) -> &'a str {
    yaml.as_str().unwrap_or_else(|| panic!("no text: {yaml:?}"))
}

#[test]
fn the_manifest_for_kubernetes_fits_its_config() {
    let example = Example::of("kubernetes");
    let manifest = example.read("app.yaml");
    let manifest = &Yaml::load_from_str(&manifest).expect("it is YAML")[0];
    let pod = &manifest["spec"]["template"]["spec"];
    let container = &pod["containers"][0];

    // The pods that a Deployment selects are its own, and pilotfish is PID 1 of each.
    assert_eq!(manifest["spec"]["selector"]["matchLabels"], manifest["spec"]["template"]["metadata"]["labels"]);
    assert!(pod.as_mapping_get("shareProcessNamespace").is_none());
    example.stops_within(Duration::from_secs(pod["terminationGracePeriodSeconds"].as_integer().unwrap() as u64));

    // The downward API gives what the config asks for.
    let fields = container["env"].as_sequence().expect("a list").iter();
    let values = BTreeMap::from([("status.podIP", "10.1.2.3"), ("status.hostIP", "192.0.2.7")]);
    let given = fields.map(|variable| {
        let field = text(&variable["valueFrom"]["fieldRef"]["fieldPath"]);
        (text(&variable["name"]).to_owned(), values[field].to_owned())
    });
    example.passes_check_with(&given.collect());

    // Probes reach a page of the telemetry endpoint.
    let listen = example.config["telemetry"]["listen"].as_str().expect("an address");
    let ports: BTreeMap<&str, i64> = container["ports"]
        .as_sequence()
        .expect("a list")
        .iter()
        .map(|port| (text(&port["name"]), port["containerPort"].as_integer().expect("a number")))
        .collect();
    for (probe, page) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        assert_eq!(text(&get["path"]), page);
        assert!(listen.ends_with(&format!(":{}", ports[text(&get["port"])])), "{probe}: {get:?}");
    }
    assert_eq!(ports["http"], example.config["service"][0]["port"].as_integer().unwrap());

    // The files it reads are mounted where it looks for them.
    let mounted = |name: &str| {
        let mounts = container["volumeMounts"].as_sequence().expect("a list");
        text(&mounts.iter().find(|mount| text(&mount["name"]) == name).expect("it is mounted")["mountPath"])
    };
    let volumes = pod["volumes"].as_sequence().expect("a list");
    let map = volumes.iter().find(|volume| text(&volume["name"]) == "config").expect("a volume");
    let kustomization = example.read("kustomization.yaml");
    let kustomization = &Yaml::load_from_str(&kustomization).expect("it is YAML")[0];
    assert_eq!(text(&kustomization["resources"][0]), "app.yaml");
    let generated = &kustomization["configMapGenerator"][0];
    assert_eq!(generated["name"], map["configMap"]["name"]);
    let file = format!("{}/{}", mounted("config"), text(&generated["files"][0]));
    assert_eq!([text(&container["args"][0]), text(&container["args"][1])], ["-c", &file]);
    let token = example.config["catalog"]["token_file"].as_str().expect("a path");
    assert_eq!(Path::new(token).parent(), Some(Path::new(mounted("consul-token"))));
}

#[test]
fn the_job_for_nomad_fits_its_config() {
    let example = Example::of("nomad");
    let job: serde_json::Value = hcl::from_str(&example.read("app.nomad.hcl")).expect("it is HCL");
    let group = &job["job"]["app"]["group"]["app"];
    let task = &group["task"]["app"];
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_else(|| panic!("no text: {value:?}")).to_owned();

    assert_eq!(task["config"]["init"].as_bool(), Some(false), "pilotfish is PID 1");
    assert_eq!(word(&task["kill_signal"]), "SIGTERM");
    // A client's max_kill_timeout, unless it is set.
    assert!(duration(&word(&task["kill_timeout"])) <= Duration::from_secs(30));
    example.stops_within(duration(&word(&task["kill_timeout"])));

    // The config is a template that leaves pilotfish's own marks alone.
    let template = &task["template"];
    let config = example.read("pilotfish.toml");
    for mark in ["left_delimiter", "right_delimiter"] {
        assert!(!config.contains(&word(&template[mark])), "{mark} stands in the config");
    }
    let destination = format!("/{}", word(&template["destination"]));
    assert_eq!(word(&task["config"]["args"][1]), destination);
    assert_eq!(word(&template["change_signal"]), "SIGHUP");
    assert_eq!(example.config["control"]["signals"].as_bool(), Some(true), "HUP reloads");

    // Nomad's own variables are named after the port's label.
    let label = group["network"]["port"].as_object().and_then(|ports| ports.keys().next()).expect("a port");
    let env = task["env"].as_object().expect("variables");
    let mut given = variables(&[("NOMAD_ALLOC_ID", "5a7f1b1e-0000-4000-8000-0123456789ab")]);
    for (name, value) in [("PORT", "23456"), ("HOST_PORT", "23456"), ("HOST_IP", "192.0.2.7")] {
        given.insert(format!("NOMAD_{name}_{label}"), value.to_owned());
    }
    given.extend(env.keys().map(|name| (name.clone(), "192.0.2.7".to_owned())));
    example.passes_check_with(&given);
}

#[test]
fn the_stack_for_swarm_fits_its_config() {
    let example = Example::of("swarm");
    let stack = example.read("stack.yaml");
    let stack = &Yaml::load_from_str(&stack).expect("it is YAML")[0];
    let app = &stack["services"]["app"];

    assert_eq!(app["init"].as_bool(), Some(false), "pilotfish is PID 1");
    example.stops_within(duration(text(&app["stop_grace_period"])));
    example.passes_check_with(&BTreeMap::new());

    // The address is one of the stack's own network.
    let subnet = text(&stack["networks"][text(&app["networks"][0])]["ipam"]["config"][0]["subnet"]);
    assert_eq!(example.config["service"][0]["address"][0].as_str(), Some(subnet));

    // The config is where it is looked for, and so is the secret.
    let config = &app["configs"][0];
    assert_eq!(text(&config["target"]), pilotfish::config::DEFAULT_FILES[0]);
    assert_eq!(text(&stack["configs"][text(&config["source"])]["file"]), "./pilotfish.toml");
    let token = Path::new(example.config["catalog"]["token_file"].as_str().expect("a path"));
    assert_eq!(token, Path::new("/run/secrets").join(text(&app["secrets"][0])));

    let check: Vec<&str> = app["healthcheck"]["test"].as_sequence().expect("a list").iter().map(text).collect();
    assert_eq!(check, ["CMD", "pilotfish", "health"]);
}
