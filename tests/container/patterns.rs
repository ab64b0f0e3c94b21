//! An image of each pattern that was published for ContainerPilot, of version 2 and of 3, on a real Consul with real
//! programs. Each runs twice, as ContainerPilot read its file and from its import, and both must come to the same: what is
//! registered, how its check turns, which hooks run, and the code it ends with.
//!
//! A file of version 2 runs as it is, under ContainerPilot's name. Version 3 is imported in either case: once rendered
//! before, as ContainerPilot did with this environment, and once as it is written, with its templates at work at each start.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::namespace::{Container, Start, eventually, pilotfish, within};
use crate::support::servers::{self, Consul};

const TERM: i32 = 15;
const KILL: i32 = 9;

/// What every image has in its `bin`: `say WORD` writes the story on.
const SAY: &str = "echo \"$*\" >> DIR/story";
/// A main process that obeys with a code of its own.
const APP: &str = "echo \"main $*\" >> DIR/story; echo $$ > DIR/main.pid\n\
                   trap 'echo \"main stops\" >> DIR/story; exit 3' TERM; trap 'echo \"main reloads\" >> DIR/story' HUP\n\
                   while :; do sleep 0.02; done";

/// How a file is run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    AsContainerPilotReadIt,
    FromItsImport,
}

/// An image: its ContainerPilot file, its programs, and what it is given.
struct Image {
    dir: tempfile::TempDir,
    consul: Arc<Consul>,
    version: u8,
    /// The service that it is known by.
    service: &'static str,
    /// What stood behind containerpilot on the command line.
    main: Vec<&'static str>,
    env: BTreeMap<&'static str, String>,
    /// Where it is.
    port: u16,
    /// What an import ends with: 3 where it says that something is lost.
    imports_with: i32,
}

/// What a run came to.
#[derive(Debug, PartialEq)]
struct Seen {
    /// In the catalog, once it passed.
    entry: Value,
    /// Each line that it wrote, once, in order.
    story: Vec<String>,
    code: i32,
    /// What else a pattern looks at.
    more: Vec<String>,
}

impl Image {
    /// `DIR` in the file and the programs stands for the image's directory.
    fn new(version: u8, service: &'static str, file: &str, programs: &[(&str, &str)]) -> Image {
        let dir = tempfile::tempdir().unwrap();
        let consul = Consul::shared();
        let image = Image {
            env: BTreeMap::from([("CONSUL", consul.http.to_string())]),
            main: if version == 2 { vec!["DIR/bin/app", "--serve"] } else { Vec::new() },
            dir,
            consul,
            version,
            service,
            port: 8000,
            imports_with: 0,
        };
        fs::create_dir(image.path("bin")).unwrap();
        for (name, script) in [("say", SAY), ("app", APP)].iter().chain(programs) {
            let program = image.path("bin").join(name);
            fs::write(&program, format!("#!/bin/sh\n{}\n", image.filled(script))).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink(pilotfish(), image.path("bin/containerpilot")).unwrap();
        fs::write(image.path("file.json5"), image.filled(file)).unwrap();
        image
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn filled(&self, text: &str) -> String {
        text.replace("DIR", self.dir.path().to_str().unwrap())
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Image {
        self.env.insert(name, value.to_string());
        self
    }

    fn tool(&self, program: &str, args: &[&str]) -> Output {
        let mut command = Command::new(self.path("bin").join(program));
        command.args(args).env_clear().env("PATH", "/usr/bin:/bin").envs(&self.env);
        command.output().unwrap()
    }

    /// Imports a file into `pilotfish.toml`.
    fn import(&self, file: &str) {
        let (from, to) = (self.path(file), self.path("pilotfish.toml"));
        let output = Command::new(pilotfish()).arg("import").arg(from).arg("-o").arg(to).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(self.imports_with), "{said}");
    }

    fn start(&self, way: Way) -> Container {
        let config = self.path("pilotfish.toml").display().to_string();
        let words = |words: &[&str]| words.iter().map(|word| self.filled(word)).collect::<Vec<_>>();
        let main = words(&self.main);
        let argv: Vec<String> = match (self.version, way) {
            (2, Way::AsContainerPilotReadIt) => {
                words(&["DIR/bin/containerpilot", "-config", "file://DIR/file.json5"]).into_iter().chain(main).collect()
            }
            (2, Way::FromItsImport) => {
                self.import("file.json5");
                let ours = [pilotfish().display().to_string(), "-c".to_owned(), config, "--".to_owned()];
                ours.into_iter().chain(main).collect()
            }
            (_, way) => {
                let file = match way {
                    Way::AsContainerPilotReadIt => {
                        let file = self.filled("DIR/file.json5");
                        let rendered = self.tool("containerpilot", &["-config", &file, "-template"]);
                        assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
                        fs::write(self.path("rendered.json5"), rendered.stdout).unwrap();
                        "rendered.json5"
                    }
                    Way::FromItsImport => "file.json5",
                };
                self.import(file);
                vec![pilotfish().display().to_string(), "-c".to_owned(), config]
            }
        };
        let start = Start::new(argv).directory(self.dir.path());
        let start = start.env(format!("PILOTFISH_CONFIG={}", self.path("pilotfish.toml").display()));
        self.env.iter().fold(start, |start, (name, value)| start.env(format!("{name}={value}"))).run().unwrap()
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.consul.ask(method, path, body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        serde_json::from_str(&answer).unwrap_or_default()
    }

    /// The entries of a service, as whoever looks for it sees them.
    fn entries(&self, service: &str) -> Vec<Value> {
        let found = self.ask("GET", &format!("/v1/health/service/{service}"), "");
        let face = |entry: &Value| {
            let (service, checks) = (&entry["Service"], entry["Checks"].as_array().unwrap());
            let own = checks.iter().filter(|check| check["ServiceID"] != "");
            let mut checks: Vec<String> =
                own.map(|check| format!("{} {}", text(check, "Name"), text(check, "Status"))).collect();
            checks.sort();
            json!({
                "id": service["ID"], "port": service["Port"], "tags": service["Tags"], "address": service["Address"],
                "override": service["EnableTagOverride"], "checks": checks,
            })
        };
        found.as_array().unwrap().iter().map(face).collect()
    }

    /// Its own: another test may run the same image at another port.
    fn entry(&self) -> Option<Value> {
        self.entries(self.service).into_iter().find(|entry| entry["port"] == self.port)
    }

    /// The worst status of the service's checks; nothing while it has no entry.
    fn health(&self) -> Option<String> {
        let entry = self.entry()?;
        let checks = entry["checks"].as_array()?;
        let critical = checks.iter().any(|check| check.as_str().unwrap().ends_with("critical"));
        Some(if critical { "critical" } else { "passing" }.to_owned())
    }

    #[track_caller]
    fn turns(&self, status: &str, container: &Container) -> Duration {
        let begun = Instant::now();
        within(Duration::from_secs(20), status, || (self.health().as_deref() == Some(status)).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {:?}: {}", self.entry(), container.stderr()));
        begun.elapsed()
    }

    fn story(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("story")).unwrap_or_default();
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            if !lines.iter().any(|told| told == line) {
                lines.push(line.to_owned());
            }
        }
        lines
    }

    #[track_caller]
    fn told(&self, line: &str, container: &Container) {
        eventually(line, || self.story().iter().any(|told| told == line).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {:?}: {}", self.story(), container.stderr()));
    }

    fn runs(&self, way: Way, play: &dyn Fn(&Container) -> Vec<String>) -> Seen {
        for file in ["story", "good", "main.pid"] {
            let _ = fs::remove_file(self.path(file));
        }
        let mut container = self.start(way);
        let more = play(&container);
        self.turns("passing", &container);
        let entry = self.entry().unwrap();
        container.signal(TERM);
        let code = container.wait().unwrap_or_else(|error| panic!("{way:?}: {error}: {}", container.stderr()));
        eventually("that the entry is gone", || self.entry().is_none().then_some(()))
            .unwrap_or_else(|error| panic!("{way:?}: {error}: {}", container.stderr()));
        Seen { entry, story: self.story(), code, more }
    }

    /// Runs it in both ways, which must come to the same.
    fn runs_twice(&self, play: impl Fn(&Container) -> Vec<String>) -> Seen {
        let as_it_is = self.runs(Way::AsContainerPilotReadIt, &play);
        let imported = self.runs(Way::FromItsImport, &play);
        assert_eq!(as_it_is, imported);
        imported
    }

    fn at(self, port: u16) -> Image {
        Image { port, ..self }
    }

    fn id(&self) -> String {
        let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
        format!("{}-{host}-{}", self.service, self.port)
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// What a GET of a path at this port answers, without its head.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

const APP_2: &str = r#"{
  "consul": "{{ .CONSUL }}",
  "preStart": "DIR/bin/say preStart {{ .ZONE }}",
  "preStop": ["DIR/bin/say", "preStop"],
  "postStop": "DIR/bin/say postStop",
  "stopTimeout": 5,
  "services": [
    { "name": "pattern-app-2", "port": {{ .PORT | default 8000 }}, "health": "test -e DIR/good", "poll": 1, "ttl": 2,
      "interfaces": ["static:192.0.2.9"], "tags": ["{{ .ZONE | default "a" }}", "v1"] }
  ]
}"#;

const APP_3: &str = r#"{
  consul: '{{ .CONSUL }}',
  stopTimeout: 5,
  jobs: [
    { name: 'prepare', exec: 'DIR/bin/say preStart {{ .ZONE }}' },
    {
      name: 'pattern-app-3',
      exec: ['DIR/bin/app', '--serve'],
      port: {{ .PORT | default 8000 }},
      restarts: 'never',
      interfaces: 'static:192.0.2.9',
      tags: ['{{ .ZONE | default "a" }}', 'v1'],
      when: { source: 'prepare', once: 'exitSuccess' },
      health: { exec: 'test -e DIR/good', interval: 1, ttl: 2 },
    },
    { name: 'drain', exec: 'DIR/bin/say preStop', timeout: '5s', when: { source: 'pattern-app-3', once: 'stopping' } },
    { name: 'clear', exec: 'DIR/bin/say postStop', timeout: '5s', when: { source: 'pattern-app-3', once: 'stopped' } },
  ],
}"#;

fn app(version: u8) -> Image {
    let (service, file) = if version == 2 { ("pattern-app-2", APP_2) } else { ("pattern-app-3", APP_3) };
    Image::new(version, service, file, &[]).with("ZONE", "b")
}

/// Its entry turns with the check, as soon after it as ContainerPilot's TTL would have run out.
fn an_app_alone(image: &Image) {
    let seen = image.runs_twice(|container| {
        image.turns("critical", container);
        fs::write(image.path("good"), "").unwrap();
        image.turns("passing", container);
        fs::remove_file(image.path("good")).unwrap();
        let took = image.turns("critical", container);
        assert!(took < Duration::from_secs(4), "{took:?}");
        fs::write(image.path("good"), "").unwrap();
        Vec::new()
    });
    let entry = json!({
        "id": image.id(), "port": 8000, "tags": ["b", "v1"], "address": "192.0.2.9", "override": false,
        "checks": seen.entry["checks"],
    });
    let story = ["preStart b", "main --serve", "preStop", "main stops", "postStop"].map(str::to_owned).to_vec();
    assert_eq!(seen, Seen { entry, story, code: 3, more: Vec::new() });
    assert_eq!(seen.entry["checks"].as_array().unwrap().len(), 2, "{seen:?}");
}

#[test]
fn an_app_of_version_2_with_a_check_and_hooks() {
    an_app_alone(&app(2));
}

#[test]
fn an_app_of_version_3_with_a_check_and_hooks() {
    an_app_alone(&app(3));
}

/// What is killed and says nothing is critical when the TTL of its file is over.
#[test]
fn an_entry_outlives_its_container_by_its_ttl() {
    std::thread::scope(|scope| {
        for version in [2, 3] {
            scope.spawn(move || {
                let image = app(version).with("PORT", 8100).at(8100);
                for way in [Way::AsContainerPilotReadIt, Way::FromItsImport] {
                    fs::write(image.path("good"), "").unwrap();
                    let mut container = image.start(way);
                    image.turns("passing", &container);
                    container.signal(KILL);
                    let _ = container.wait();
                    let took = image.turns("critical", &container);
                    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(4), "{version}: {took:?}");
                    let gone = format!("/v1/agent/service/deregister/{}", image.id());
                    assert_eq!(image.consul.ask("PUT", &gone, "").0, 200);
                }
            });
        }
    });
}

const NGINX_2: &str = r#"{
  "consul": "{{ .CONSUL }}",
  "preStart": "DIR/bin/render",
  "services": [
    { "name": "pattern-nginx-2", "port": {{ .PORT }}, "interfaces": ["static:192.0.2.9"], "poll": 1, "ttl": 3,
      "health": "curl --fail --silent --output /dev/null http://127.0.0.1:{{ .PORT }}/" }
  ],
  "backends": [ { "name": "pattern-backend-2", "poll": 1, "onChange": "DIR/bin/reload" } ]
}"#;

const NGINX_3: &str = r#"{
  consul: "{{ .CONSUL }}",
  jobs: [
    { name: "render", exec: "DIR/bin/render" },
    {
      name: "pattern-nginx-3",
      exec: ["nginx", "-c", "DIR/nginx.conf", "-g", "daemon off;"],
      port: "{{ .PORT }}",
      interfaces: ["static:192.0.2.9"],
      when: { source: "render", once: "exitSuccess" },
      health: { exec: "curl --fail --silent --output /dev/null http://127.0.0.1:{{ .PORT }}/", interval: 1, ttl: 3 },
    },
    { name: "reload", exec: "DIR/bin/reload", timeout: "10s", when: { source: "watch.pattern-backend-3", each: "changed" } },
  ],
  watches: [ { name: "pattern-backend-3", interval: 1 } ],
}"#;

/// nginx that answers how many backends the catalog has.
fn nginx(version: u8) -> (Image, u16) {
    let port = servers::free_port();
    let count = format!(
        "count=$(curl -s \"http://$CONSUL/v1/catalog/service/pattern-backend-{version}\" | grep -o ServiceID | wc -l)\n\
         echo \"return 200 '$count backends';\" > DIR/backends.conf"
    );
    let render = format!("{count}\nDIR/bin/say render");
    let reload = format!("{count}\nDIR/bin/say reload\nkill -HUP \"$(cat DIR/nginx.pid)\"");
    let (service, file) = if version == 2 { ("pattern-nginx-2", NGINX_2) } else { ("pattern-nginx-3", NGINX_3) };
    let programs = [("render", &*render), ("reload", &*reload)];
    let mut image = Image::new(version, service, file, &programs).with("PORT", port).at(port);
    if version == 2 {
        image.main = vec!["nginx", "-c", "DIR/nginx.conf", "-g", "daemon off;"];
    }
    let conf = format!(
        "error_log stderr;\npid DIR/nginx.pid;\nevents {{}}\nhttp {{\n  access_log off;\n  server {{\n    \
         listen 127.0.0.1:{port};\n    location / {{ include DIR/backends.conf; }}\n  }}\n}}\n"
    );
    fs::write(image.path("nginx.conf"), image.filled(&conf)).unwrap();
    (image, port)
}

fn nginx_that_follows_its_backends(version: u8) {
    let (image, port) = nginx(version);
    let says = |text: &str, container: &Container| {
        eventually(text, || (get(port, "/")? == text).then(|| text.to_owned()))
            .unwrap_or_else(|error| panic!("{error}: {:?}: {}", get(port, "/"), container.stderr()))
    };
    let backend = format!("pattern-backend-{version}");
    let seen = image.runs_twice(|container| {
        let before = says("0 backends", container);
        let main = container.main().unwrap();
        let entry = json!({"Name": backend, "Port": 7}).to_string();
        assert_eq!(image.consul.ask("PUT", "/v1/agent/service/register", &entry).0, 200);
        let with_one = says("1 backends", container);
        assert_eq!(image.consul.ask("PUT", &format!("/v1/agent/service/deregister/{backend}"), "").0, 200);
        let after = says("0 backends", container);
        assert_eq!(container.main(), Ok(main), "a reload is no restart");
        vec![before, with_one, after]
    });
    assert_eq!(seen.story, ["render", "reload"]);
    assert_eq!((seen.code, &seen.entry["id"]), (0, &Value::String(image.id())));
}

#[test]
fn an_nginx_of_version_2_that_its_on_change_reloads_by_sighup() {
    nginx_that_follows_its_backends(2);
}

#[test]
fn an_nginx_of_version_3_that_a_job_on_a_watch_reloads_by_sighup() {
    nginx_that_follows_its_backends(3);
}

const AGENT_2: &str = r#"{
  "consul": "{{ if .CONSUL_AGENT }}localhost:{{ .AGENT_PORT }}{{ else }}{{ .CONSUL }}{{ end }}",
  "services": [
    { "name": "pattern-agent-2", "port": 8000, "health": "true", "poll": 1, "ttl": 5, "interfaces": ["static:192.0.2.9"] }
  ]{{ if .CONSUL_AGENT }},
  "coprocesses": [
    { "command": ["DIR/bin/consul", "agent", "-config-file=DIR/agent.json"], "restarts": "unlimited" }
  ]{{ end }}
}"#;

const AGENT_3: &str = r#"{
  consul: 'localhost:{{ .AGENT_PORT }}',
  jobs: [
    {{ if .CONSUL_AGENT }}{
      name: 'consul-agent',
      exec: ['DIR/bin/consul', 'agent', '-config-file=DIR/agent.json'],
      restarts: 'unlimited',
      health: { exec: 'DIR/bin/ready', interval: 1, ttl: 5, timeout: '5s' },
    },{{ end }}
    { name: 'setup', exec: 'DIR/bin/setup', when: { source: 'consul-agent', once: 'healthy' } },
    {
      name: 'pattern-agent-3',
      exec: ['DIR/bin/app', '--serve'],
      port: 8000,
      restarts: 'unlimited',
      interfaces: 'static:192.0.2.9',
      when: { source: 'setup', once: 'exitSuccess' },
      health: { exec: 'true', interval: 1, ttl: 5 },
    },
  ],
}"#;

/// One that brings a Consul agent of its own, which joins the server.
fn with_agent(version: u8) -> (Image, String) {
    let http = servers::free_port();
    let leader = format!("curl -s http://127.0.0.1:{http}/v1/status/leader | grep -q :");
    let setup = format!("{leader} && DIR/bin/say setup with a leader");
    let (service, file) = if version == 2 { ("pattern-agent-2", AGENT_2) } else { ("pattern-agent-3", AGENT_3) };
    let image = Image::new(version, service, file, &[("ready", &leader), ("setup", &setup)])
        .with("CONSUL_AGENT", "1")
        .with("AGENT_PORT", http);
    let own = image.ask("GET", "/v1/agent/self", "");
    let (join, node) = (own["Member"]["Port"].as_u64().unwrap(), format!("pattern-{http}"));
    let agent = json!({
        "node_name": node, "data_dir": image.path("data"), "bind_addr": "127.0.0.1", "disable_update_check": true,
        "retry_join": [format!("127.0.0.1:{join}")], "retry_interval": "300ms", "leave_on_terminate": true,
        "ports": {
            "http": http, "dns": -1, "grpc": -1, "serf_lan": servers::free_port(), "serf_wan": -1,
            "server": servers::free_port(),
        },
    });
    fs::write(image.path("agent.json"), agent.to_string()).unwrap();
    symlink(servers::program("consul"), image.path("bin/consul")).unwrap();
    (image, node)
}

fn an_app_with_an_agent_of_its_own(version: u8, story: &[&str]) {
    let (image, node) = with_agent(version);
    let entry = || image.ask("GET", &format!("/v1/health/service/{}", image.service), "");
    // serf's numbers: 1 is alive, 3 has left, 4 has failed.
    let member = || {
        let members = image.ask("GET", "/v1/agent/members", "");
        members.as_array().unwrap().iter().find(|member| member["Name"] == node.as_str())?["Status"].as_u64()
    };
    let left = |container: &Container| {
        eventually("that the agent has left", || (member() == Some(3)).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {:?}: {}", member(), container.stderr()));
    };
    for way in [Way::AsContainerPilotReadIt, Way::FromItsImport] {
        let _ = fs::remove_file(image.path("story"));
        let mut container = image.start(way);
        image.turns("passing", &container);
        assert_eq!(entry()[0]["Node"]["Node"], node.as_str(), "{way:?}");
        assert_eq!(entry()[0]["Service"]["ID"], image.id(), "{way:?}");
        container.signal(TERM);
        assert_eq!(container.wait(), Ok(3), "{way:?}: {}", container.stderr());
        left(&container);
        assert_eq!(image.story(), story, "{way:?}");
    }
}

#[test]
fn an_app_of_version_2_with_a_consul_agent_as_coprocess() {
    an_app_with_an_agent_of_its_own(2, &["main --serve", "main stops"]);
}

#[test]
fn an_app_of_version_3_whose_set_up_waits_for_its_consul_agent() {
    an_app_with_an_agent_of_its_own(3, &["setup with a leader", "main --serve", "main stops"]);
}

const DATABASE_2: &str = r#"{
  "consul": "{{ .CONSUL }}",
  "preStart": "DIR/bin/manage take",
  "preStop": "DIR/bin/manage give",
  "services": [
    { "name": "pattern-db-2", "port": 3306, "health": "DIR/bin/manage renew", "poll": 1, "ttl": 5,
      "interfaces": ["static:192.0.2.9"], "tags": ["mysql"] }
  ],
  "backends": [ { "name": "pattern-db-2-primary", "poll": 1, "onChange": "DIR/bin/say on_change" } ]
}"#;

const DATABASE_3: &str = r#"{
  consul: "{{ .CONSUL }}",
  jobs: [
    { name: "preStart", exec: "DIR/bin/manage take" },
    {
      name: "pattern-db-3",
      exec: ["DIR/bin/app", "--serve"],
      port: 3306,
      interfaces: ["static:192.0.2.9"],
      tags: ["mysql"],
      when: { source: "preStart", once: "exitSuccess" },
      health: { exec: "DIR/bin/manage renew", interval: 1, ttl: 5, timeout: "3s" },
    },
    { name: "preStop", exec: "DIR/bin/manage give", when: { source: "pattern-db-3", once: "stopping" } },
    { name: "onChange", exec: "DIR/bin/say on_change", when: { source: "watch.pattern-db-3-primary", each: "changed" } },
  ],
  watches: [ { name: "pattern-db-3-primary", interval: 1 } ],
}"#;

/// A database whose own scripts lock a key for the primary, by a session that its check renews.
fn a_database_that_locks_its_primary(version: u8) {
    let (service, file) = if version == 2 { ("pattern-db-2", DATABASE_2) } else { ("pattern-db-3", DATABASE_3) };
    let primary = format!("{service}-primary");
    let manage = format!(
        "key=http://$CONSUL/v1/kv/{service}/primary\ncase $1 in\n\
         take) curl -s -X PUT http://$CONSUL/v1/session/create -d '{{\"TTL\": \"30s\"}}' | grep -oE '[0-9a-f-]{{36}}' > DIR/session\n\
         took=$(curl -s -X PUT \"$key?acquire=$(cat DIR/session)\" -d me); DIR/bin/say \"take $took\";;\n\
         renew) curl -sf -X PUT http://$CONSUL/v1/session/renew/$(cat DIR/session) > /dev/null;;\n\
         give) gave=$(curl -s -X PUT \"$key?release=$(cat DIR/session)\"); DIR/bin/say \"give $gave\"\n\
         curl -s -X PUT http://$CONSUL/v1/session/destroy/$(cat DIR/session) > /dev/null;;\nesac"
    );
    let image = Image::new(version, service, file, &[("manage", &manage)]).at(3306);
    let holder = || {
        let found = image.ask("GET", &format!("/v1/kv/{service}/primary"), "");
        found[0]["Session"].as_str().map(str::to_owned)
    };
    let seen = image.runs_twice(|container| {
        image.turns("passing", container);
        let session = fs::read_to_string(image.path("session")).unwrap();
        assert_eq!(holder().as_deref(), Some(session.trim()));
        let entry = json!({"Name": primary, "Port": 3306}).to_string();
        assert_eq!(image.consul.ask("PUT", "/v1/agent/service/register", &entry).0, 200);
        image.told("on_change", container);
        assert_eq!(image.consul.ask("PUT", &format!("/v1/agent/service/deregister/{primary}"), "").0, 200);
        Vec::new()
    });
    assert_eq!(holder(), None);
    let entry = json!({
        "id": image.id(), "port": 3306, "tags": ["mysql"], "address": "192.0.2.9", "override": false,
        "checks": seen.entry["checks"],
    });
    let story = ["take true", "main --serve", "on_change", "give true", "main stops"].map(str::to_owned).to_vec();
    assert_eq!(seen, Seen { entry, story, code: 3, more: Vec::new() });
}

#[test]
fn a_database_of_version_2_whose_pre_start_takes_the_primarys_lock() {
    a_database_that_locks_its_primary(2);
}

#[test]
fn a_database_of_version_3_whose_first_job_takes_the_primarys_lock() {
    a_database_that_locks_its_primary(3);
}

const WORKER_2: &str = r#"{
  "consul": "{{ .CONSUL }}",
  "services": [
    { "name": "pattern-worker-2", "port": 8000, "health": "true", "poll": 1, "ttl": 5, "interfaces": ["static:192.0.2.9"] }
  ],
  "tasks": [ { "name": "backup", "command": ["DIR/bin/say", "backup"], "frequency": "400ms", "timeout": "300ms" } ],
  "telemetry": {
    "port": {{ .TELEMETRY }},
    "tags": ["op"],
    "sensors": [
      { "namespace": "app", "subsystem": "http", "name": "open", "help": "open connections", "type": "gauge", "poll": 1,
        "check": "echo 7" }
    ]
  }
}"#;

const WORKER_3: &str = r#"{
  consul: '{{ .CONSUL }}',
  control: { socket: 'DIR/cp.socket' },
  jobs: [
    {
      name: 'pattern-worker-3', exec: ['DIR/bin/app', '--serve'], port: 8000, interfaces: 'static:192.0.2.9',
      health: { exec: 'true', interval: 1, ttl: 5 },
    },
    { name: 'backup', exec: 'DIR/bin/say backup', timeout: '300ms', when: { interval: '400ms' } },
    { name: 'sensor', exec: 'DIR/bin/containerpilot -putmetric app_http_open=7', timeout: '900ms', when: { interval: '1s' } },
  ],
  telemetry: {
    port: {{ .TELEMETRY }},
    tags: ['op'],
    metrics: [ { namespace: 'app', subsystem: 'http', name: 'open', help: 'open connections', type: 'gauge' } ],
  },
}"#;

fn a_worker_with_a_task_and_a_sensor(version: u8) {
    let port = servers::free_port();
    let (service, file) = if version == 2 { ("pattern-worker-2", WORKER_2) } else { ("pattern-worker-3", WORKER_3) };
    let image = Image::new(version, service, file, &[]).with("TELEMETRY", port);
    let telemetry = || image.entries("containerpilot").into_iter().find(|entry| entry["port"] == port);
    let seen = image.runs_twice(|container| {
        image.told("backup", container);
        let shows = || get(port, "/metrics")?.lines().find(|line| line.starts_with("app_http_open")).map(str::to_owned);
        let metric = eventually("the metric", || shows().filter(|line| line.ends_with(" 7.0")))
            .unwrap_or_else(|error| panic!("{error}: {:?}: {}", get(port, "/metrics"), container.stderr()));
        let entry = eventually("the entry of telemetry", telemetry).unwrap();
        vec![metric, entry["tags"].to_string()]
    });
    assert_eq!(telemetry(), None);
    assert_eq!(seen.more, ["app_http_open 7.0", "[\"op\"]"]);
    let mut story = seen.story;
    story.sort();
    assert_eq!((story, seen.code), (["backup", "main --serve", "main stops"].map(str::to_owned).to_vec(), 3));
}

#[test]
fn a_worker_of_version_2_with_a_task_and_a_sensor() {
    a_worker_with_a_task_and_a_sensor(2);
}

#[test]
fn a_worker_of_version_3_with_a_job_at_intervals_and_a_pushed_metric() {
    a_worker_with_a_task_and_a_sensor(3);
}
