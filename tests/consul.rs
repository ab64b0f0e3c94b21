//! Consul, real and of the tests' own: what only Consul does, beside the contract that all backends keep. Each test
//! has a service of its own name, so that those without faults share one server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pilotfish::catalog::{Backend, Sightings};
use pilotfish::config::engines::{Consul as Settings, ConsulAddress, Endpoint, Login, Secret, SecretSource, Tls};
use pilotfish::config::{self, AddressSpec, ConsulService, Query, Service};
use pilotfish::supervisor::Event;
use pilotfish::supervisor::event::{Follow, Observation, Registration, ServiceStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::lab::Lab;
use crate::servers::{Consul, ConsulCluster, Door, eventually};

const SOON: Duration = Duration::from_secs(10);

fn settings(at: SocketAddr) -> Settings {
    Settings {
        address: ConsulAddress::Tcp(Endpoint { https: false, host: at.ip().to_string(), port: at.port() }),
        token: None,
        basic: None,
        tls: Tls::default(),
    }
}

fn open(settings: Settings) -> Backend {
    let backend = config::Backend::Consul(Box::new(settings));
    Backend::open(&config::Catalog { backend, prefix: "pilotfish".to_owned() }).expect("a good config")
}

fn service(name: &str) -> Service {
    Service {
        name: name.to_owned(),
        id: format!("{name}-1"),
        port: 80,
        tags: vec!["a".to_owned()],
        meta: BTreeMap::from([("version".to_owned(), "1".to_owned())]),
        address: vec![AddressSpec::Static("192.0.2.7".parse().unwrap())],
        ttl: Duration::from_secs(15),
        consul: ConsulService { enable_tag_override: false, deregister_critical_after: None },
    }
}

fn registration(service: &Service, status: ServiceStatus) -> Registration {
    Registration { service: Arc::new(service.clone()), status, note: "as said".to_owned(), maintenance: None }
}

fn of(name: &str) -> Query {
    Query::Service { name: name.to_owned(), tag: None, datacenter: None }
}

/// What a follower tells, one by one.
struct Follower(mpsc::Receiver<Event>, tokio::task::JoinHandle<()>);

impl Follower {
    fn start(backend: &Arc<Backend>, query: Query) -> Follower {
        let (sender, events) = mpsc::channel(16);
        let seen = Sightings::new(sender, Follow::WaitFor(0));
        let backend = Arc::clone(backend);
        Follower(events, tokio::spawn(async move { backend.follow(&query, seen).await }))
    }

    async fn next(&mut self) -> Result<Observation, String> {
        match tokio::time::timeout(SOON, self.0.recv()).await.expect("told in time") {
            Some(Event::Observed { seen, .. }) => seen,
            other => panic!("not an observation: {other:?}"),
        }
    }

    async fn until(&mut self, so: impl Fn(&Result<Observation, String>) -> bool) -> Result<Observation, String> {
        loop {
            let seen = self.next().await;
            if so(&seen) {
                return seen;
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.1.abort();
    }
}

fn instances(seen: &Result<Observation, String>) -> Option<Vec<String>> {
    match seen {
        Ok(Observation::Instances(instances)) => Some(instances.iter().map(|instance| instance.id.clone()).collect()),
        _ => None,
    }
}

fn checks(consul: &Consul, id: &str) -> serde_json::Value {
    let (_, body) = consul.ask("GET", &format!("/v1/agent/health/service/id/{id}"), "");
    serde_json::from_str::<serde_json::Value>(&body).unwrap()["Checks"].take()
}

fn status_of(checks: &serde_json::Value, name: &str) -> String {
    let check = checks.as_array().unwrap().iter().find(|check| check["Name"] == name);
    check.map(|check| check["Status"].as_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn a_service_has_a_check_for_its_agent_and_one_for_its_health_from_the_first_instant() {
    let consul = Consul::shared();
    let backend = open(settings(consul.http));
    backend.publish(&registration(&service("two-checks"), ServiceStatus::Critical)).await.unwrap();
    let checks = checks(&consul, "two-checks-1");
    assert_eq!((status_of(&checks, "alive"), status_of(&checks, "health")), ("passing".into(), "critical".into()));
    assert!(checks.to_string().contains("as said"), "{checks}");
}

#[test]
fn what_a_check_complains_of_is_in_consul_though_the_service_was_critical_before() {
    let consul = Consul::shared();
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n\
         [[service]]\nname = \"complaining\"\nid = \"complaining-1\"\nport = 80\naddress = [\"static:192.0.2.7\"]\n\
         ttl = \"3s\"\n\
         [[health]]\nname = \"ping\"\nexec = [\"sh\", \"-c\", \"exit $(cat DIR/code)\"]\n\
         interval = \"100ms\"\ngrace = \"0s\"\nfailures = 1\n\
         [catalog]\nbackend = \"consul\"\naddress = \"http://{}\"\n",
        consul.http
    ));
    let ends_with = |code: &str| {
        std::fs::write(lab.path("new"), code).unwrap();
        std::fs::rename(lab.path("new"), lab.path("code")).unwrap();
    };
    let told = |words: &str| eventually(words, SOON, || checks(&consul, "complaining-1").to_string().contains(words));
    ends_with("7");
    let _container = lab.run();
    told("ping: exited with code 7");
    // Nothing turns: the words go with a heartbeat.
    ends_with("8");
    told("ping: exited with code 8");
}

#[tokio::test]
async fn draining_is_maintenance_and_health_stays_what_it_was() {
    let consul = Consul::shared();
    let backend = Arc::new(open(settings(consul.http)));
    let service = service("draining");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    let mut follower = Follower::start(&backend, of("draining"));
    assert_eq!(instances(&follower.next().await), Some(vec!["draining-1".to_owned()]));
    backend.publish(&registration(&service, ServiceStatus::Draining)).await.unwrap();
    assert_eq!(instances(&follower.next().await), Some(vec![]));
    assert_eq!(status_of(&checks(&consul, "draining-1"), "health"), "passing");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    assert_eq!(instances(&follower.next().await), Some(vec!["draining-1".to_owned()]));
}

#[tokio::test]
async fn maintenance_is_consuls_own_and_health_is_told_on() {
    let consul = Consul::shared();
    let backend = open(settings(consul.http));
    let service = service("maintained");
    let maintained = |status| Registration { maintenance: Some("disk".to_owned()), ..registration(&service, status) };
    backend.publish(&maintained(ServiceStatus::Critical)).await.unwrap();
    let told = checks(&consul, "maintained-1");
    assert!(told.to_string().contains("pilotfish: disk"), "{told}");
    assert_eq!(status_of(&told, "health"), "critical");
    backend.publish(&maintained(ServiceStatus::Passing)).await.unwrap();
    assert_eq!(status_of(&checks(&consul, "maintained-1"), "health"), "passing");
    // On the way out it stays what it is.
    backend.publish(&maintained(ServiceStatus::Draining)).await.unwrap();
    assert!(checks(&consul, "maintained-1").to_string().contains("pilotfish: disk"));
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    assert_eq!(status_of(&checks(&consul, "maintained-1"), "Service Maintenance Mode"), "");
}

#[tokio::test]
async fn a_maintenance_a_person_began_stays() {
    let consul = Consul::shared();
    let backend = open(settings(consul.http));
    let service = service("by-hand");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    consul.ask("PUT", "/v1/agent/service/maintenance/by-hand-1?enable=true&reason=disk", "");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    assert_eq!(status_of(&checks(&consul, "by-hand-1"), "Service Maintenance Mode"), "critical");
}

#[tokio::test]
async fn tags_others_may_change_are_left_alone() {
    let consul = Consul::shared();
    let backend = open(settings(consul.http));
    let mut service = service("override");
    service.consul.enable_tag_override = true;
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    let index = |consul: &Consul| {
        let (_, body) = consul.ask("GET", "/v1/catalog/service/override", "");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()[0].clone()
    };
    let there = index(&consul);
    let change = serde_json::json!({"Node": consul.node, "Address": "127.0.0.1", "Service": {
        "ID": "override-1", "Service": "override", "Port": 80, "Address": "192.0.2.7", "Tags": ["theirs"],
        "Meta": {"version": "1"}, "EnableTagOverride": true}});
    let (status, body) = consul.ask("PUT", "/v1/catalog/register", &change.to_string());
    assert_eq!(status, 200, "{body}");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    let now = index(&consul);
    assert_eq!(now["ServiceTags"], serde_json::json!(["theirs"]), "was {there}");
}

#[tokio::test]
async fn a_heartbeat_that_changes_nothing_writes_nothing_to_the_servers() {
    let consul = Consul::shared();
    let backend = open(settings(consul.http));
    let service = service("quiet");
    let modified = || {
        let (_, body) = consul.ask("GET", "/v1/health/service/quiet", "");
        let entry = serde_json::from_str::<serde_json::Value>(&body).unwrap()[0].clone();
        let checks: Vec<_> = entry["Checks"].as_array().unwrap().iter().map(|c| c["ModifyIndex"].clone()).collect();
        (entry["Service"]["ModifyIndex"].clone(), checks)
    };
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    let before = modified();
    for _ in 0..5 {
        backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    }
    assert_eq!(modified(), before);
}

#[tokio::test]
async fn a_check_somebody_removed_or_failed_by_hand_is_put_right() {
    let consul = Consul::shared();
    let backend = open(settings(consul.http));
    let service = service("meddled");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    consul.ask("PUT", "/v1/agent/check/deregister/meddled-1:alive", "");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    assert_eq!(status_of(&checks(&consul, "meddled-1"), "alive"), "passing");
    consul.ask("PUT", "/v1/agent/check/fail/meddled-1:health", "");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    assert_eq!(status_of(&checks(&consul, "meddled-1"), "health"), "passing");
}

#[tokio::test]
async fn an_agent_that_was_restarted_and_forgot_everything_is_told_again_by_the_next_heartbeat() {
    let mut consul = Consul::start();
    let backend = Arc::new(open(settings(consul.http)));
    let service = service("forgotten");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    let mut follower = Follower::start(&backend, of("forgotten"));
    assert_eq!(instances(&follower.next().await), Some(vec!["forgotten-1".to_owned()]));
    consul.down();
    let outage = follower.next().await.unwrap_err();
    assert!(outage.contains("can't reach consul"), "{outage}");
    assert!(backend.publish(&registration(&service, ServiceStatus::Passing)).await.is_err());
    consul.up();
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    follower.until(|seen| instances(seen) == Some(vec!["forgotten-1".to_owned()])).await.unwrap();
}

#[tokio::test]
async fn a_stopped_agent_that_still_accepts_costs_a_call_its_deadline_and_no_more() {
    let consul = Consul::start();
    let backend = open(settings(consul.http));
    consul.process().signal(nix::sys::signal::Signal::SIGSTOP);
    let start = tokio::time::Instant::now();
    let error = backend.get("some/key").await.unwrap_err();
    assert!(error.to_string().contains("didn't answer within 10 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(12));
    consul.process().signal(nix::sys::signal::Signal::SIGCONT);
    assert_eq!(backend.get("some/key").await.unwrap(), None);
}

/// A server that gives everyone the same answer.
async fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer).await;
            });
        }
    });
    at
}

#[tokio::test]
async fn an_answer_that_is_an_error_or_garbage_is_told_with_the_endpoint_and_is_no_empty_list() {
    for (answer, words) in [
        (&b"HTTP/1.1 500 Oops\r\nContent-Length: 17\r\n\r\nNo cluster leader"[..], "500"),
        (&b"HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\nContent-Length: 6\r\n\r\n<html>"[..], "no consul answers there"),
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"[..], "X-Consul-Index"),
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "can't reach consul"),
        (&b""[..], "can't reach consul"),
    ] {
        let backend = Arc::new(open(settings(answering(answer).await)));
        let mut follower = Follower::start(&backend, of("web"));
        let error = follower.next().await.unwrap_err();
        assert!(error.contains(words) && error.contains("/v1/health/service/web"), "{words}: {error}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\n\r\n").await;
        while stream.write_all(&[b' '; 65536]).await.is_ok() {}
    });
    let backend = open(settings(at));
    let error = backend.get("a").await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[tokio::test]
async fn a_wrong_or_missing_token_is_told_with_the_setting_and_never_shown() {
    let consul = Consul::start_with(
        r#"{"acl": {"enabled": true, "default_policy": "deny",
            "tokens": {"master": "a-root-token", "agent": "a-root-token"}}}"#,
        "a-root-token",
    );
    let with = |token: Option<&str>| {
        let token = token.map(|token| SecretSource::Given(Secret::new(token)));
        Arc::new(open(Settings { token, ..settings(consul.http) }))
    };
    let service = service("locked");
    let root = with(Some("a-root-token"));
    root.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();

    let wrong = with(Some("not-that-one"));
    let error = wrong.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap_err().to_string();
    assert!(error.contains("403") && error.contains("token_file") && !error.contains("not-that-one"), "{error}");

    let mut follower = Follower::start(&with(None), of("locked"));
    let error = follower.next().await.unwrap_err();
    assert!(error.contains("may not read service locked"), "{error}");
    let mut follower = Follower::start(&root, of("locked"));
    assert_eq!(instances(&follower.next().await), Some(vec!["locked-1".to_owned()]));
    let mut follower = Follower::start(&root, of("nobody-there"));
    assert_eq!(instances(&follower.next().await), Some(vec![]));
}

#[tokio::test]
async fn a_token_that_was_revoked_and_replaced_in_its_file_leaves_nothing_old_in_the_catalog() {
    let consul = Consul::start_with(
        r#"{"acl": {"enabled": true, "default_policy": "deny", "token_ttl": "0s", "policy_ttl": "0s",
            "tokens": {"master": "a-root-token", "agent": "a-root-token"}}}"#,
        "a-root-token",
    );
    let ask = |method: &str, path: &str, body: serde_json::Value| consul.ask(method, path, &body.to_string()).0 == 200;
    let rules = "service_prefix \"\" { policy = \"write\" }\nnode_prefix \"\" { policy = \"read\" }\n";
    eventually("a policy", SOON, || ask("PUT", "/v1/acl/policy", serde_json::json!({"Name": "web", "Rules": rules})));
    let admit = |id: &str| {
        let token = serde_json::json!({"AccessorID": id, "SecretID": id, "Policies": [{"Name": "web"}]});
        assert!(ask("PUT", "/v1/acl/token", token));
    };
    let (first, second) = ("0e2ec4a5-6f1c-4a6b-9d40-7d2b6c3e1a55", "5b1fd1d2-30f2-4c0c-8a59-c21df2a90e0b");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    admit(first);
    std::fs::write(&file, first).unwrap();
    let backend = open(Settings { token: Some(SecretSource::File(file.clone())), ..settings(consul.http) });
    let service = service("replaced");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    assert!(ask("DELETE", &format!("/v1/acl/token/{first}"), serde_json::Value::Null));
    backend.publish(&registration(&service, ServiceStatus::Critical)).await.unwrap_err();
    admit(second);
    std::fs::write(&file, second).unwrap();
    backend.publish(&registration(&service, ServiceStatus::Critical)).await.unwrap();
    let health = || {
        let (_, body) = consul.ask("GET", "/v1/health/checks/replaced", "");
        status_of(&serde_json::from_str(&body).unwrap(), "health")
    };
    eventually("the servers know", SOON, || health() == "critical");
    backend.withdraw(&service).await.unwrap();
    eventually("it is gone", SOON, || consul.ask("GET", "/v1/health/checks/replaced", "").1.trim() == "[]");
}

#[tokio::test]
async fn an_agent_is_reached_through_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("consul.sock");
    let config = format!(r#"{{"addresses": {{"http": "127.0.0.1 unix://{}"}}}}"#, path.display());
    let consul = Consul::start_with(&config, "");
    let backend = Arc::new(open(Settings { address: ConsulAddress::Unix(path), ..settings(consul.http) }));
    backend.publish(&registration(&service("by-socket"), ServiceStatus::Passing)).await.unwrap();
    let mut follower = Follower::start(&backend, of("by-socket"));
    assert_eq!(instances(&follower.next().await), Some(vec!["by-socket-1".to_owned()]));
    backend.withdraw(&service("by-socket")).await.unwrap();
    assert_eq!(instances(&follower.next().await), Some(vec![]));
}

#[tokio::test]
async fn a_proxy_that_asks_for_a_password_gets_it_and_a_wrong_one_is_told_with_the_setting() {
    let consul = Consul::shared();
    let behind = consul.http;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let length = client.read(&mut head).await.unwrap_or(0);
                // Base64 of `web:right`.
                if !String::from_utf8_lossy(&head[..length]).contains("Basic d2ViOnJpZ2h0") {
                    let answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    let _ = client.write_all(answer).await;
                    return;
                }
                let mut server = tokio::net::TcpStream::connect(behind).await.unwrap();
                server.write_all(&head[..length]).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let with = |password: &str| {
        let password = Some(SecretSource::Given(Secret::new(password)));
        open(Settings { basic: Some(Login { username: "web".to_owned(), password }), ..settings(at) })
    };
    with("right").publish(&registration(&service("by-password"), ServiceStatus::Passing)).await.unwrap();
    let error = with("not-that-one").get("a").await.unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("password_file") && !error.contains("not-that-one"), "{error}");
}

#[tokio::test]
async fn a_service_of_another_datacenter_is_followed_and_an_unknown_datacenter_is_an_error() {
    let (here, there) = (Consul::shared(), Consul::start_with(r#"{"datacenter": "dc2"}"#, ""));
    let (_, about) = there.ask("GET", "/v1/agent/self", "");
    let about: serde_json::Value = serde_json::from_str(&about).unwrap();
    let wan = about["DebugConfig"]["SerfPortWAN"].as_u64().expect("a port");
    let (status, body) = here.ask("PUT", &format!("/v1/agent/join/127.0.0.1:{wan}?wan=1"), "");
    assert_eq!(status, 200, "{body}");
    eventually("the datacenters know each other", SOON, || here.ask("GET", "/v1/catalog/nodes?dc=dc2", "").0 == 200);
    open(settings(there.http)).publish(&registration(&service("far"), ServiceStatus::Passing)).await.unwrap();

    let backend = Arc::new(open(settings(here.http)));
    let far = |datacenter: Option<&str>| Query::Service {
        name: "far".to_owned(),
        tag: None,
        datacenter: datacenter.map(str::to_owned),
    };
    let mut follower = Follower::start(&backend, far(Some("dc2")));
    follower.until(|seen| instances(seen) == Some(vec!["far-1".to_owned()])).await.unwrap();
    let mut follower = Follower::start(&backend, far(None));
    assert_eq!(instances(&follower.next().await), Some(vec![]));
    let mut follower = Follower::start(&backend, far(Some("dc9")));
    let error = follower.next().await.unwrap_err();
    assert!(error.contains("datacenter"), "{error}");
}

#[tokio::test]
async fn behind_an_address_that_leads_to_another_agent_the_service_moves_and_leaves_nothing_behind() {
    let mut cluster = ConsulCluster::start();
    let door = Door::to(cluster.http[0]).await;
    let backend = open(settings(door.at));
    let service = service("moving");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    let nodes = |at: SocketAddr| -> Vec<String> {
        let (_, body) = crate::servers::http(at, "GET", "/v1/catalog/service/moving", &[], "").unwrap_or_default();
        let entries = serde_json::from_str::<serde_json::Value>(&body).unwrap_or_default();
        entries.as_array().into_iter().flatten().filter_map(|entry| Some(entry["Node"].as_str()?.to_owned())).collect()
    };
    eventually("it is registered", SOON, || nodes(cluster.http[1]) == ["s0"]);
    cluster.down(0);
    door.lead_to(Some(cluster.http[1]));
    // The two that are left may have a leader to elect first: each heartbeat tries again.
    let deadline = tokio::time::Instant::now() + 3 * SOON;
    loop {
        let _ = backend.publish(&registration(&service, ServiceStatus::Passing)).await;
        match nodes(cluster.http[1]) {
            nodes if nodes == ["s1"] => break,
            nodes => assert!(tokio::time::Instant::now() < deadline, "it is at {nodes:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
