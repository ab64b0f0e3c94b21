//! Consul and etcd under the contract with everything locked: TLS with client certificates, reached by name, and agents
//! that may do no more than docs/catalogs.md says they need.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use pilotfish::config::engines::SecretSource;
use pilotfish::config::engines::{Consul as ConsulSettings, ConsulAddress, Endpoint, Etcd as EtcdSettings, Login};
use pilotfish::config::{self, Service};

use super::bench::Bench;
use crate::servers::{Certificates, Consul, Etcd, eventually, free_port, tls_in};

const ROOT: &str = "a-root-token";
const TOKEN: &str = "0e2ec4a5-6f1c-4a6b-9d40-7d2b6c3e1a55";
const ROOT_USER: &str = "--user=root:root";

/// What the sentences register.
const SERVICES: [&str; 9] = ["web", "db", "web-db", "admin", "nobody", "a.b", "a-b", "a_b", "a--b"];

/// The config of an agent on a locked engine, as [`Bench::address`] wrote it: `PORT:DIRECTORY`.
pub fn backend(engine: &str, place: &str) -> Option<config::Backend> {
    let (port, dir) = place.split_once(':')?;
    let endpoint = Endpoint { https: true, host: "localhost".to_owned(), port: port.parse().ok()? };
    let tls = tls_in(Path::new(dir));
    let secret = Some(SecretSource::File(PathBuf::from(dir).join("secret")));
    Some(match engine {
        "consul-secured" => config::Backend::Consul(Box::new(ConsulSettings {
            address: ConsulAddress::Tcp(endpoint),
            token: secret,
            basic: None,
            tls,
        })),
        "etcd-secured" => config::Backend::Etcd(Box::new(EtcdSettings {
            endpoints: vec![endpoint],
            login: Some(Login { username: "app".to_owned(), password: secret }),
            tls,
        })),
        _ => return None,
    })
}

fn address(engine: &str, port: u16, certificates: &Certificates, secret: &str) -> String {
    std::fs::write(certificates.path("secret"), secret).expect("a file");
    let address = format!("{engine}={port}:{}", certificates.text(""));
    address.trim_end_matches('/').to_owned()
}

/// A TTL of 5 s, which engines let run out a little late, on a machine that is busy with other tests.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// The policy of docs/catalogs.md, for agents that register these services.
pub fn policy(services: &[&str]) -> String {
    let own = services.iter().map(|name| format!("service \"{name}\" {{ policy = \"write\" }}\n"));
    own.collect::<String>()
        // Agents write no key; the sentences about keys do.
        + "service_prefix \"\" { policy = \"read\" }\nnode_prefix \"\" { policy = \"read\" }\n\
           key_prefix \"\" { policy = \"write\" }\n"
}

/// Consul 1.8 with client certificates and ACLs that deny by default.
pub struct SecuredConsul {
    consul: Mutex<Consul>,
    address: String,
    #[allow(dead_code, reason = "the files go with it")]
    certificates: Certificates,
}

impl SecuredConsul {
    /// A token with that policy and nothing else.
    fn admit(consul: &Consul) {
        let policy = serde_json::json!({"Name": "pilotfish", "Rules": policy(&SERVICES)});
        let token = serde_json::json!({"SecretID": TOKEN, "Policies": [{"Name": "pilotfish"}]});
        for (path, body) in [("/v1/acl/policy", policy), ("/v1/acl/token", token)] {
            // ACLs come up a moment after the server does.
            eventually(path, Duration::from_secs(20), || consul.ask("PUT", path, &body.to_string()).0 == 200);
        }
    }
}

impl Bench for SecuredConsul {
    async fn start() -> SecuredConsul {
        let certificates = Certificates::new(&["localhost"]);
        let port = free_port();
        let config = serde_json::json!({
            "ports": {"https": port}, "verify_incoming_https": true, "ca_file": certificates.text("ca.pem"),
            "cert_file": certificates.text("server.pem"), "key_file": certificates.text("server-key.pem"),
            "acl": {"enabled": true, "default_policy": "deny", "tokens": {"master": ROOT, "agent": ROOT}},
        });
        let consul = Consul::start_with(&config.to_string(), ROOT);
        SecuredConsul::admit(&consul);
        let address = address("consul-secured", port, &certificates, TOKEN);
        SecuredConsul { consul: Mutex::new(consul), address, certificates }
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn gone_within(&self) -> Duration {
        GONE_WITHIN
    }

    async fn delete_entry(&self, service: &Service) {
        let consul = self.consul.lock().expect("no other test has it");
        let (status, body) = consul.ask("PUT", &format!("/v1/agent/service/deregister/{}", service.id), "");
        assert_eq!(status, 200, "{body}");
    }

    async fn cut(&self, _service: &str) {
        self.consul.lock().expect("no other test has it").down();
    }

    async fn mend(&self, _service: &str) {
        let mut consul = self.consul.lock().expect("no other test has it");
        consul.up();
        SecuredConsul::admit(&consul);
    }
}

/// etcd with client certificates and a user who may do what docs/catalogs.md says: 3.4, or 3.5 when `NEW`.
pub struct SecuredEtcd<const NEW: bool> {
    etcd: Mutex<Etcd>,
    address: String,
    #[allow(dead_code, reason = "the files go with it")]
    certificates: Certificates,
}

/// etcd 3.4.
pub type SecuredEtcd34 = SecuredEtcd<false>;
/// etcd 3.5.
pub type SecuredEtcd35 = SecuredEtcd<true>;

impl<const NEW: bool> Bench for SecuredEtcd<NEW> {
    async fn start() -> SecuredEtcd<NEW> {
        let certificates = Certificates::new(&["localhost", "127.0.0.1"]);
        let etcd = Etcd::start_with_tls(if NEW { "etcd35" } else { "etcd" }, &certificates);
        let run = |command: &[&str]| {
            etcd.ctl(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        };
        run(&["role", "add", "app"]);
        let grant = |right: &str, prefix: &str| {
            run(&["role", "grant-permission", "app", "--prefix=true", right, prefix]);
        };
        for service in SERVICES {
            grant("readwrite", &format!("pilotfish/services/{service}/"));
        }
        grant("read", "pilotfish/");
        // For the sentences about keys: agents themselves write none.
        grant("readwrite", "pilotfish/keys/");
        run(&["user", "add", "app:its-password"]);
        run(&["user", "grant-role", "app", "app"]);
        run(&["user", "add", "root:root"]);
        run(&["user", "grant-role", "root", "root"]);
        run(&["auth", "enable"]);
        let address = address("etcd-secured", etcd.client().port(), &certificates, "its-password");
        SecuredEtcd { etcd: Mutex::new(etcd), address, certificates }
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn gone_within(&self) -> Duration {
        GONE_WITHIN
    }

    async fn delete_entry(&self, service: &Service) {
        let key = format!("pilotfish/services/{}/{}", service.name, service.id);
        let deleted = self.etcd.lock().expect("no other test has it").ctl(&[ROOT_USER, "del", &key]);
        assert_eq!(deleted.expect("deleted").trim(), "1");
    }

    async fn cut(&self, _service: &str) {
        self.etcd.lock().expect("no other test has it").down();
    }

    async fn mend(&self, _service: &str) {
        self.etcd.lock().expect("no other test has it").up();
    }
}
