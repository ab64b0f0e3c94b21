//! A container that brings its own Consul agent as a coprocess: from its start to its place in the cluster, and out of it.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::engine::{Container, within};
use super::stop::Config;
use crate::support::servers::{self, Consul, program};

/// A server outside, and what the container's agent is called.
struct Stage {
    server: Consul,
    node: String,
    http: u16,
}

impl Stage {
    fn new() -> Stage {
        let http = servers::free_port();
        Stage { server: Consul::start(), node: format!("inside-{http}"), http }
    }

    fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.server.ask("GET", path, "").1).unwrap_or_default()
    }

    fn config(&self) -> Config {
        let join = self.get("/v1/agent/self")["Member"]["Port"].as_u64().expect("the server has a port");
        let agent = json!({
            "node_name": self.node, "data_dir": "/tmp/consul", "bind_addr": "127.0.0.1", "disable_update_check": true,
            "retry_join": [format!("127.0.0.1:{join}")], "retry_interval": "300ms", "leave_on_terminate": true,
            "ports": {
                "http": self.http, "dns": -1, "grpc": -1, "serf_lan": servers::free_port(), "serf_wan": -1,
                "server": servers::free_port(),
            },
        });
        let start = format!("echo '{agent}' > /tmp/agent.json; exec consul agent -config-file=/tmp/agent.json");
        Config::new(&format!(
            "[process]\nexec = [\"sh\", \"-c\", \"trap 'exit 3' TERM; echo main runs; while :; do sleep 0.05; done\"]\n\
             [[coprocess]]\nname = \"consul-agent\"\nexec = [\"sh\", \"-c\", '''{start}''']\nstart = \"before-catalog\"\n\
             ready = {{ http = \"http://127.0.0.1:{http}/v1/status/leader\", timeout = \"60s\" }}\n\
             [[service]]\nname = \"web\"\nport = 80\naddress = [\"static:192.0.2.1\"]\n\
             [catalog]\nbackend = \"consul\"\naddress = \"http://127.0.0.1:{http}\"\n",
            http = self.http
        ))
    }

    /// `consul` of this machine, and the libraries that it needs, where the container finds them.
    fn consul() -> Vec<String> {
        let consul = program("consul").canonicalize().expect("it is there");
        let needed = Command::new("ldd").arg(&consul).output().expect("ldd can be started");
        let needed = String::from_utf8_lossy(&needed.stdout).into_owned();
        let libraries = needed.split_whitespace().filter(|word| word.starts_with('/'));
        let mount = |from: &str, to: &str| format!("--volume={from}:{to}:ro");
        let consul = mount(&consul.display().to_string(), "/bin/consul");
        libraries.map(|library| mount(library, library)).chain([consul]).collect()
    }

    /// Whether the server sees `web` pass on the container's own node.
    fn is_registered(&self) -> Option<()> {
        let found = self.get("/v1/health/service/web?passing");
        (found[0]["Node"]["Node"] == self.node.as_str()).then_some(())
    }

    /// What another agent, the server, says of it.
    fn member(&self) -> String {
        let at = format!("-http-addr=http://{}", self.server.http);
        let output = Command::new(program("consul")).args(["members", &at]).output().expect("consul can be started");
        let members = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = members.lines().find(|line| line.starts_with(&self.node)).unwrap_or_default();
        line.split_whitespace().nth(2).unwrap_or_default().to_owned()
    }
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_container_brings_its_own_consul_agent_and_takes_it_out_of_the_cluster() {
    let stage = Stage::new();
    let (config, consul) = (stage.config(), Stage::consul());
    let mount = config.mount();
    let given = [&*mount, "--network=host", "--entrypoint=/pilotfish"];
    let options: Vec<&str> = given.into_iter().chain(consul.iter().map(String::as_str)).collect();
    let begun = Instant::now();
    let container = Container::start(&options, "init", &[]);
    within(60, "the entry", || stage.is_registered());
    println!("docker run to registered: {:?}", begun.elapsed());
    let log = container.logs();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text}: {log}"));
    assert!(at("coprocess.ready: ") < at("main.started: "), "{log}");
    assert_eq!(stage.member(), "alive");

    let main = || {
        let status: Value = serde_json::from_str(&container.exec(&["/pilotfish", "status", "--json"]).1).expect("JSON");
        status["main"]["pid"].clone()
    };
    let (first, agent) = (main(), container.exec(&["pidof", "consul"]).1);
    let killed = Instant::now();
    assert_eq!(container.exec(&["kill", "-KILL", agent.trim()]).0, 0);
    let is_back = || {
        let (code, now) = container.exec(&["pidof", "consul"]);
        (code == 0 && now != agent && stage.is_registered().is_some()).then_some(())
    };
    within(60, "the agent again", is_back);
    println!("agent killed to agent back and entry passing: {:?}", killed.elapsed());
    assert_eq!(main(), first);

    let took = container.stop(10);
    println!("docker stop took {took:?}");
    assert!(took < Duration::from_secs(9), "{took:?}: {}", container.logs());
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "3");
    within(10, "it has left", || (stage.member() == "left").then_some(()));
    assert!(stage.is_registered().is_none());
    let log = container.logs();
    assert!(!log.split_once("stop.started").expect("it stopped").1.contains("SIGKILL"), "{log}");
}
