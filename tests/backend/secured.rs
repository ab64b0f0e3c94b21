//! Consul and etcd under the contract with everything locked: TLS with client certificates, reached by name, and agents
//! that may do no more than docs/catalogs.md says they need.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use pilotfish::config::backends::SecretSource;
use pilotfish::config::backends::{Consul as ConsulSettings, ConsulAddress, Endpoint, Etcd as EtcdSettings, Login};
use pilotfish::config::{self, Service};

use super::backends::GONE_WITHIN;
use super::bench::Bench;
use crate::meta::readme::tested;
use crate::support::servers::{Certificates, Consul, Etcd, eventually, free_port, tls_in};

const ROOT: &str = "a-root-token";
pub const TOKEN: &str = "0e2ec4a5-6f1c-4a6b-9d40-7d2b6c3e1a55";
pub const PASSWORD: &str = "its-password";
pub const ROOT_USER: &str = "--user=root:root";

/// What the sentences register.
const SERVICES: [&str; 9] = ["web", "db", "web-db", "admin", "nobody", "a.b", "a-b", "a_b", "a--b"];

/// The config of an agent on a locked engine, as [`Bench::address`] wrote it: `PORT:USER:DIRECTORY`.
pub fn backend(engine: &str, place: &str) -> Option<config::Backend> {
    let (port, place) = place.split_once(':')?;
    let (user, dir) = place.split_once(':')?;
    let endpoint = Endpoint { https: true, host: "localhost".to_owned(), port: port.parse().ok()? };
    let tls = tls_in(Path::new(dir));
    let secret = Some(SecretSource::File(PathBuf::from(dir).join(user)));
    Some(match engine {
        "consul-secured" => config::Backend::Consul(Box::new(ConsulSettings {
            address: ConsulAddress::Tcp(endpoint),
            token: secret,
            basic: None,
            tls,
        })),
        "etcd-secured" => config::Backend::Etcd(Box::new(EtcdSettings {
            endpoints: vec![endpoint],
            login: Some(Login { username: user.to_owned(), password: secret }),
            tls,
        })),
        _ => return None,
    })
}

/// Where agents get in, and with what: certificates, and a token or a password in a file beside them that is named for
/// its user.
pub struct Entrance {
    engine: &'static str,
    pub port: u16,
    pub certificates: Certificates,
}

impl Entrance {
    fn new(engine: &'static str, port: u16, certificates: Certificates, agent: &str, writer: &str) -> Entrance {
        for (user, secret) in [("app", agent), ("root", writer)] {
            std::fs::write(certificates.path(user), secret).expect("a file");
        }
        Entrance { engine, port, certificates }
    }

    fn address(&self, user: &str) -> String {
        let Entrance { engine, port, certificates } = self;
        let address = format!("{engine}={port}:{user}:{}", certificates.text(""));
        address.trim_end_matches('/').to_owned()
    }
}

/// The policy of docs/catalogs.md, for agents at this node that register these services.
pub fn policy(services: &[&str], node: &str) -> String {
    let line = |line: &str| match line {
        own if own.starts_with("service \"app\"") => {
            services.iter().map(|name| own.replace("app", name) + "\n").collect()
        }
        other => other.replace("NODE", node) + "\n",
    };
    tested("consul").lines().map(line).collect()
}

/// The commands of docs/catalogs.md for etcd, each as its words, for agents that register these services.
pub fn commands(services: &[&str], password: &str) -> Vec<Vec<String>> {
    let words = |line: &str| {
        let line = line
            .strip_prefix("etcdctl ")
            .expect("a command")
            .replace("user add app", &format!("user add app:{password}"));
        line.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = tested("etcd").lines().flat_map(|line| match line.contains("/services/app/") {
        true => services.iter().map(|name| line.replace("services/app/", &format!("services/{name}/"))).collect(),
        false => vec![line.to_owned()],
    });
    lines.map(|line| words(&line)).collect()
}

/// Consul 1.8 with client certificates and ACLs that deny by default.
pub struct SecuredConsul {
    consul: Mutex<Consul>,
    pub entrance: Entrance,
    rules: fn(&str) -> String,
}

impl SecuredConsul {
    /// One that lets an agent in with these rules, made for its node.
    pub fn start_with(rules: fn(&str) -> String) -> SecuredConsul {
        let certificates = Certificates::new(&["localhost"]);
        let port = free_port();
        let config = serde_json::json!({
            "ports": {"https": port}, "verify_incoming_https": true, "ca_file": certificates.text("ca.pem"),
            "cert_file": certificates.text("server.pem"), "key_file": certificates.text("server-key.pem"),
            "acl": {"enabled": true, "default_policy": "deny", "tokens": {"master": ROOT, "agent": ROOT}},
        });
        let consul = Consul::start_with(&config.to_string(), ROOT);
        let entrance = Entrance::new("consul-secured", port, certificates, TOKEN, ROOT);
        let secured = SecuredConsul { consul: Mutex::new(consul), entrance, rules };
        secured.admit();
        secured
    }

    /// A token with those rules and nothing else.
    fn admit(&self) {
        let consul = self.server();
        let policy = serde_json::json!({"Name": "pilotfish", "Rules": (self.rules)(&consul.node)});
        let token = serde_json::json!({"SecretID": TOKEN, "Policies": [{"Name": "pilotfish"}]});
        for (path, body) in [("/v1/acl/policy", policy), ("/v1/acl/token", token)] {
            // ACLs come up a moment after the server does.
            eventually(path, Duration::from_secs(20), || consul.ask("PUT", path, &body.to_string()).0 == 200);
        }
    }

    /// The server, for what a test does behind the agents' backs.
    pub fn server(&self) -> MutexGuard<'_, Consul> {
        self.consul.lock().expect("no other test has it")
    }
}

impl Bench for SecuredConsul {
    async fn start() -> SecuredConsul {
        // The sentences' keys have all kinds of names.
        SecuredConsul::start_with(|node| policy(&SERVICES, node).replace("key_prefix \"app/\"", "key_prefix \"\""))
    }

    fn address(&self) -> String {
        self.entrance.address("app")
    }

    fn address_of_a_writer(&self) -> String {
        self.entrance.address("root")
    }

    fn gone_within(&self) -> Duration {
        GONE_WITHIN
    }

    async fn delete_entry(&self, service: &Service) {
        let (status, body) = self.server().ask("PUT", &format!("/v1/agent/service/deregister/{}", service.id), "");
        assert_eq!(status, 200, "{body}");
    }

    async fn cut(&self, _service: &str) {
        self.server().down();
    }

    async fn mend(&self, _service: &str) {
        self.server().up();
        self.admit();
    }
}

/// etcd with client certificates and a user who may do what docs/catalogs.md says: 3.4, or 3.5 when `NEW`.
pub struct SecuredEtcd<const NEW: bool> {
    etcd: Mutex<Etcd>,
    pub entrance: Entrance,
}

/// etcd 3.4.
pub type SecuredEtcd34 = SecuredEtcd<false>;
/// etcd 3.5.
pub type SecuredEtcd35 = SecuredEtcd<true>;

impl<const NEW: bool> SecuredEtcd<NEW> {
    /// One that lets agents in that register these services.
    pub fn start_for(services: &[&str]) -> SecuredEtcd<NEW> {
        let certificates = Certificates::new(&["localhost", "127.0.0.1"]);
        let etcd = Etcd::start_with_tls(if NEW { "etcd35" } else { "etcd" }, &certificates);
        let run = |command: &[&str]| {
            etcd.ctl(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        };
        for command in commands(services, PASSWORD) {
            run(&command.iter().map(String::as_str).collect::<Vec<_>>());
        }
        run(&["user", "add", "root:root"]);
        run(&["user", "grant-role", "root", "root"]);
        run(&["auth", "enable"]);
        let entrance = Entrance::new("etcd-secured", etcd.client().port(), certificates, PASSWORD, "root");
        SecuredEtcd { etcd: Mutex::new(etcd), entrance }
    }

    /// The server, for what a test does behind the agents' backs.
    pub fn server(&self) -> MutexGuard<'_, Etcd> {
        self.etcd.lock().expect("no other test has it")
    }
}

impl<const NEW: bool> Bench for SecuredEtcd<NEW> {
    async fn start() -> SecuredEtcd<NEW> {
        SecuredEtcd::start_for(&SERVICES)
    }

    fn address(&self) -> String {
        self.entrance.address("app")
    }

    fn address_of_a_writer(&self) -> String {
        self.entrance.address("root")
    }

    fn gone_within(&self) -> Duration {
        GONE_WITHIN
    }

    async fn delete_entry(&self, service: &Service) {
        let key = format!("pilotfish/services/{}/{}", service.name, service.id);
        let deleted = self.server().ctl(&[ROOT_USER, "del", &key]);
        assert_eq!(deleted.expect("deleted").trim(), "1");
    }

    async fn cut(&self, _service: &str) {
        self.server().down();
    }

    async fn mend(&self, _service: &str) {
        self.server().up();
    }
}
