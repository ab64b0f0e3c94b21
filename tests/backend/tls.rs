//! Both engines behind TLS with client certificates, Consul with tokens: reached by name, verified, and every wrong
//! setting told by its key.

use std::sync::Arc;
use std::time::Duration;

use pilotfish::catalog::Backend;
use pilotfish::config;
use pilotfish::config::backends::{ClientIdentity, Consul, ConsulAddress, Endpoint, Etcd, SecretSource, Tls};
use pilotfish::supervisor::vocabulary::ServiceStatus;

use crate::backend::bench::{Agent, instances_of, service};
use crate::backend::secured::policy;
use crate::support::servers::{Certificates, Consul as ConsulServer, Etcd as EtcdServer, free_port, tls_in};

fn agent(backend: config::Backend) -> Agent {
    let config = config::Catalog { backend, prefix: "pilotfish".to_owned() };
    Agent { backend: Arc::new(Backend::open(&config).expect("a good config")) }
}

async fn refusal(agent: Agent) -> String {
    agent.try_publish(&service("web", "web-1"), ServiceStatus::Passing, "ok").await.unwrap_err()
}

async fn works(agent: &Agent) {
    agent.pass(&service("web", "web-1")).await;
    assert_eq!(agent.follow(instances_of("web")).ids().await, ["web-1"]);
    agent.put("mysql/snapshot", "1").await;
    assert_eq!(agent.get("mysql/snapshot").await.as_deref(), Some("1"));
    agent.withdraw(&service("web", "web-1")).await;
}

#[tokio::test]
async fn consul_is_verified_and_asks_for_a_certificate_and_a_token_that_may_do_no_more_than_it_must() {
    let certificates = Certificates::new(&["server.dc1.consul", "localhost"]);
    let port = free_port();
    let config = format!(
        r#"{{"ports": {{"https": {port}}}, "ca_file": "{}", "cert_file": "{}", "key_file": "{}",
            "verify_incoming_https": true,
            "acl": {{"enabled": true, "default_policy": "deny",
                     "tokens": {{"master": "a-root-token", "agent": "a-root-token"}}}}}}"#,
        certificates.text("ca.pem"),
        certificates.text("server.pem"),
        certificates.text("server-key.pem"),
    );
    let server = ConsulServer::start_with(&config, "a-root-token");
    let rules = policy(&["web"], &server.node);
    let made = |path: &str, body: serde_json::Value| {
        let (status, answer) = server.ask("PUT", path, &body.to_string());
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str::<serde_json::Value>(&answer).expect("JSON")
    };
    made("/v1/acl/policy", serde_json::json!({"Name": "pilotfish", "Rules": rules}));
    let token = made("/v1/acl/token", serde_json::json!({"Policies": [{"Name": "pilotfish"}]}));
    let token = token["SecretID"].as_str().expect("a token").to_owned();
    let token_file = certificates.path("token");
    std::fs::write(&token_file, format!("{token}\n")).expect("a file");

    let with = |host: &str, tls: Tls| {
        let address = ConsulAddress::Tcp(Endpoint { https: true, host: host.to_owned(), port });
        let token = Some(SecretSource::File(token_file.clone()));
        agent(config::Backend::Consul(Box::new(Consul { address, token, basic: None, tls })))
    };
    let good = with("localhost", certificates.tls());
    works(&good).await;
    let named = Tls { server_name: Some("server.dc1.consul".to_owned()), ..certificates.tls() };
    works(&with("127.0.0.1", named)).await;

    let error = refusal(with("127.0.0.1", certificates.tls())).await;
    assert!(error.contains("tls.server_name"), "{error}");
    let other = Certificates::new(&["localhost"]);
    let error = refusal(with("localhost", Tls { ca: Some(other.path("ca.pem")), ..certificates.tls() })).await;
    assert!(error.contains("tls.ca"), "{error}");
    let error = refusal(with("localhost", Tls { identity: None, ..certificates.tls() })).await;
    assert!(error.contains("tls.certificate"), "{error}");

    // Removed, emptied or torn for a while: what was read last is used.
    for spoilt in [None, Some(&b""[..]), Some(&b"\n"[..]), Some(&b"\xff\xfe"[..])] {
        std::fs::remove_file(&token_file).expect("it is there");
        spoilt.into_iter().for_each(|spoilt| std::fs::write(&token_file, spoilt).expect("a file"));
        works(&good).await;
        let error = refusal(with("localhost", certificates.tls())).await;
        assert!(error.contains("token_file") && error.contains("can't be read"), "whoever starts has none: {error}");
        std::fs::write(&token_file, &token).expect("a file");
    }

    // Revoked and replaced: the same agent goes on with what the file holds now.
    std::fs::write(&token_file, "5f0a6a1e-0000-0000-0000-000000000000").expect("a file");
    let error = good.try_publish(&service("web", "web-1"), ServiceStatus::Passing, "ok").await.unwrap_err();
    assert!(error.contains("token_file") && !error.contains("5f0a6a1e"), "{error}");
    std::fs::write(&token_file, &token).expect("a file");
    works(&good).await;
    assert!(!server.log().contains(&token), "the token is in no log of consul's either");
}

#[tokio::test]
async fn consuls_authority_and_our_certificate_are_read_again_when_their_files_changed() {
    let (certificates, strangers) = (Certificates::new(&["localhost"]), Certificates::new(&["localhost"]));
    let port = free_port();
    let config = format!(
        r#"{{"ports": {{"https": {port}}}, "ca_file": "{}", "cert_file": "{}", "key_file": "{}",
            "verify_incoming_https": true}}"#,
        certificates.text("ca.pem"),
        certificates.text("server.pem"),
        certificates.text("server-key.pem"),
    );
    let _server = ConsulServer::start_with(&config, "");
    let files = tempfile::tempdir().expect("a directory");
    let put = |names: &[&str], from: &Certificates| {
        for name in names {
            std::fs::copy(from.path(name), files.path().join(name)).expect("a file");
        }
    };
    let own = ["client.pem", "client-key.pem"];
    put(&own, &certificates);
    put(&["ca.pem"], &strangers);
    let address = ConsulAddress::Tcp(Endpoint { https: true, host: "localhost".to_owned(), port });
    let tls = tls_in(files.path());
    let agent = agent(config::Backend::Consul(Box::new(Consul { address, token: None, basic: None, tls })));
    let refused = async |words: &str| {
        let refused = agent.try_publish(&service("web", "web-1"), ServiceStatus::Passing, "ok").await;
        let error = refused.expect_err(words);
        assert!(error.contains(words), "{error}");
    };

    refused("tls.ca").await;
    put(&["ca.pem"], &certificates);
    works(&agent).await;
    // The certificate before its key, as who renews them writes them: what there was goes on.
    put(&own[..1], &strangers);
    works(&agent).await;
    std::fs::remove_file(files.path().join("client-key.pem")).expect("it is there");
    works(&agent).await;
    put(&own[1..], &strangers);
    refused("tls.certificate").await;
    put(&own, &certificates);
    works(&agent).await;
}

#[tokio::test]
async fn etcd_is_verified_and_asks_for_a_certificate() {
    for version in ["etcd", "etcd35"] {
        let certificates = Certificates::new(&["localhost"]);
        let server = EtcdServer::start_with_tls(version, &certificates);
        let with = |host: &str, tls: Tls| {
            let endpoints = vec![Endpoint { https: true, host: host.to_owned(), port: server.client().port() }];
            agent(config::Backend::Etcd(Box::new(Etcd { endpoints, login: None, tls })))
        };
        works(&with("localhost", certificates.tls())).await;
        works(&with("127.0.0.1", Tls { server_name: Some("localhost".to_owned()), ..certificates.tls() })).await;

        let error = refusal(with("127.0.0.1", certificates.tls())).await;
        assert!(error.contains("tls.server_name"), "{error}");
        let other = Certificates::new(&["localhost"]);
        let error = refusal(with("localhost", Tls { ca: Some(other.path("ca.pem")), ..certificates.tls() })).await;
        assert!(error.contains("tls.ca"), "{error}");
        let error = refusal(with("localhost", Tls { identity: None, ..certificates.tls() })).await;
        assert!(error.contains("tls.certificate"), "{error}");
    }
}

#[tokio::test]
async fn etcd_is_asked_with_the_old_certificates_while_new_ones_are_of_no_use() {
    let (certificates, strangers) = (Certificates::new(&["localhost"]), Certificates::new(&["localhost"]));
    let mut server = EtcdServer::start_with_tls("etcd35", &certificates);
    let files = tempfile::tempdir().expect("a directory");
    let put = |name: &str, from: &Certificates| {
        std::fs::copy(from.path(name), files.path().join(name)).expect("a file");
    };
    ["ca.pem", "client.pem", "client-key.pem"].iter().for_each(|name| put(name, &certificates));
    let endpoints = vec![Endpoint { https: true, host: "localhost".to_owned(), port: server.client().port() }];
    let agent = agent(config::Backend::Etcd(Box::new(Etcd { endpoints, login: None, tls: tls_in(files.path()) })));
    works(&agent).await;
    let mut restarted = async |expected: Option<&str>| {
        // They are read for each connection.
        server.down();
        server.up();
        let begun = tokio::time::Instant::now();
        loop {
            let error = agent.try_publish(&service("web", "web-1"), ServiceStatus::Passing, "ok").await.err();
            match (&error, expected) {
                (None, None) => break,
                (Some(error), Some(words)) if error.contains(words) => break,
                _ => assert!(begun.elapsed() < Duration::from_secs(10), "{error:?}"),
            }
        }
    };
    // A certificate before its key, no key at all, an authority that is none.
    put("client.pem", &strangers);
    restarted(None).await;
    std::fs::remove_file(files.path().join("client-key.pem")).expect("it is there");
    restarted(None).await;
    std::fs::write(files.path().join("ca.pem"), "no pem").expect("a file");
    restarted(None).await;
    // All new, and of use: they count, though this server refuses them.
    ["ca.pem", "client.pem", "client-key.pem"].iter().for_each(|name| put(name, &strangers));
    restarted(Some("tls.ca")).await;
}

#[tokio::test]
async fn etcd_names_the_setting_whose_file_is_of_no_use() {
    let (certificates, other) = (Certificates::new(&["localhost"]), Certificates::new(&["localhost"]));
    let told = async |tls: Tls| {
        let endpoints = vec![Endpoint { https: true, host: "localhost".to_owned(), port: free_port() }];
        refusal(agent(config::Backend::Etcd(Box::new(Etcd { endpoints, login: None, tls })))).await
    };
    let identity = |certificate, key| Tls { identity: Some(ClientIdentity { certificate, key }), ..certificates.tls() };
    let (certificate, key) = (certificates.path("client.pem"), certificates.path("client-key.pem"));
    let no_pem = certificates.path("no.pem");
    std::fs::write(&no_pem, "no pem").unwrap();
    for (tls, setting) in [
        (Tls { ca: Some(no_pem.clone()), ..certificates.tls() }, "tls.ca: "),
        (identity(certificate.clone(), no_pem.clone()), "tls.key: "),
        (identity(no_pem, key), "tls.certificate: "),
        (identity(certificate, other.path("client-key.pem")), "tls.certificate and tls.key "),
    ] {
        let error = told(tls).await;
        assert!(error.starts_with(&format!("[catalog] {setting}")), "{setting}: {error}");
    }
}
