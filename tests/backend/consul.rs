//! Consul, real and of the tests' own: what only Consul does, beside the contract that all backends keep. Each test
//! has a service of its own name, so that those without faults share one server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pilotfish::catalog::{Backend, ObservationSender};
use pilotfish::config::backends::{Consul as Settings, ConsulAddress, Endpoint, Login, Secret, SecretSource, Tls};
use pilotfish::config::{self, AddressSpec, ConsulService, Query, Service};
use pilotfish::supervisor::Event;
use pilotfish::supervisor::vocabulary::{Follow, Observation, Registration, ServiceStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::backend::bench::TextKeys;
use crate::support::lab::Lab;
use crate::support::servers::{Consul, ConsulCluster, Relay, eventually};

pub(super) const SOON: Duration = Duration::from_secs(10);

pub(super) fn settings(at: SocketAddr) -> Settings {
    Settings {
        address: ConsulAddress::Tcp(Endpoint { https: false, host: at.ip().to_string(), port: at.port() }),
        token: None,
        basic: None,
        tls: Tls::default(),
    }
}

pub(super) fn open(settings: Settings) -> Backend {
    let backend = config::Backend::Consul(Box::new(settings));
    Backend::open(&config::Catalog { backend, prefix: "pilotfish".to_owned() }).expect("a good config")
}

pub(super) fn service(name: &str) -> Service {
    Service {
        name: name.to_owned(),
        id: format!("{name}-1"),
        port: 80,
        of: Default::default(),
        tags: vec!["a".to_owned()],
        meta: BTreeMap::from([("version".to_owned(), "1".to_owned())]),
        address: vec![AddressSpec::Static("192.0.2.7".parse().unwrap())],
        ttl: Duration::from_secs(15),
        consul: ConsulService { enable_tag_override: false, deregister_critical_after: None },
    }
}

pub(super) fn registration(service: &Service, status: ServiceStatus) -> Registration {
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
        let seen = ObservationSender::new(sender, Follow::Watch("it".to_owned()));
        let backend = Arc::clone(backend);
        Follower(events, tokio::spawn(async move { backend.follow(&query, seen).await }))
    }

    async fn next(&mut self) -> Result<Observation, String> {
        loop {
            match tokio::time::timeout(SOON, self.0.recv()).await.expect("told in time") {
                Some(Event::Observed { seen, .. }) => break seen,
                Some(Event::SeenAnew { .. }) => {}
                other => panic!("not an observation: {other:?}"),
            }
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
    // It outlives the container, and is there at its next start.
    backend.publish(&registration(&service, ServiceStatus::Draining)).await.unwrap();
    backend.withdraw(&service).await.unwrap();
    assert_eq!(status_of(&checks(&consul, "by-hand-1"), "Service Maintenance Mode"), "critical");
    let again = open(settings(consul.http));
    again.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    assert_eq!(status_of(&checks(&consul, "by-hand-1"), "Service Maintenance Mode"), "critical");
    // Ended by a person, the entry goes as ever.
    consul.ask("PUT", "/v1/agent/service/maintenance/by-hand-1?enable=false", "");
    again.withdraw(&service).await.unwrap();
    assert_eq!(consul.ask("GET", "/v1/agent/service/by-hand-1", "").0, 404);
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
    // The agent takes them over when it next compares itself with the servers, a minute or two later: at once, by hand.
    let there = serde_json::json!({"ID": "override-1", "Name": "override", "Port": 80, "Address": "192.0.2.7",
        "Tags": ["theirs"], "Meta": {"version": "1"}, "EnableTagOverride": true});
    assert_eq!(
        consul.ask("PUT", "/v1/agent/service/register?replace-existing-checks=false", &there.to_string()).0,
        200
    );
    // A new life registers the service in place.
    open(settings(consul.http)).publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    assert_eq!(index(&consul)["ServiceTags"], serde_json::json!(["theirs"]));
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
async fn a_changed_ttl_reaches_the_check_that_is_there_also_that_of_a_life_before_and_ends_no_session() {
    let consul = Consul::shared();
    let service = |name: &str, seconds| Service { ttl: Duration::from_secs(seconds), ..service(name) };
    let same_life = open(settings(consul.http));
    for (before, after, name) in
        [(&same_life, &same_life, "slower"), (&same_life, &open(settings(consul.http)), "anew")]
    {
        before.publish(&registration(&service(name, 1), ServiceStatus::Passing)).await.unwrap();
        let session =
            serde_json::json!({"NodeChecks": ["serfHealth"], "ServiceChecks": [{"ID": format!("{name}-1:alive")}]});
        let mut session_id = String::new();
        eventually("the check is known to the servers", SOON, || {
            let (status, body) = consul.ask("PUT", "/v1/session/create", &session.to_string());
            session_id = body.split('"').nth(3).unwrap_or_default().to_owned();
            status == 200
        });
        after.publish(&registration(&service(name, 60), ServiceStatus::Passing)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(status_of(&checks(&consul, &format!("{name}-1")), "alive"), "passing", "{name}");
        let (_, body) = consul.ask("GET", &format!("/v1/session/info/{session_id}"), "");
        assert!(body.contains(&session_id), "{name}: {body}");
        after.publish(&registration(&service(name, 1), ServiceStatus::Passing)).await.unwrap();
        eventually("a shorter one counts too", SOON, || {
            status_of(&checks(&consul, &format!("{name}-1")), "alive") == "critical"
        });
    }
}

#[tokio::test]
async fn who_is_gone_for_long_is_forgotten_if_the_config_says_so_as_it_was_last_read() {
    let consul = Consul::start();
    let backend = open(settings(consul.http));
    let gone = |name: &str, minutes: Option<u64>| {
        let deregister_critical_after = minutes.map(|minutes| Duration::from_secs(60 * minutes));
        let consul = ConsulService { enable_tag_override: false, deregister_critical_after };
        registration(&Service { ttl: Duration::from_secs(1), consul, ..service(name) }, ServiceStatus::Passing)
    };
    for (name, first, then) in [
        ("forgotten", Some(1), Some(1)),
        ("sooner", Some(60), Some(1)),
        ("later", Some(1), Some(60)),
        ("never", Some(1), None),
        ("ever", None, Some(1)),
    ] {
        backend.publish(&gone(name, first)).await.unwrap();
        backend.publish(&gone(name, then)).await.unwrap();
    }
    let there = || {
        let (_, body) = consul.ask("GET", "/v1/catalog/services", "");
        let services: BTreeMap<String, Vec<String>> = serde_json::from_str(&body).unwrap();
        services.into_keys().filter(|name| name != "consul").collect::<Vec<_>>()
    };
    // Consul waits a minute at least, and looks each half.
    eventually("they are forgotten", Duration::from_secs(120), || there().len() <= 2);
    assert_eq!(there(), ["later", "never"]);
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

/// Carries something out where storage hangs at this directory, until it lets go of what it is given: a file system in
/// user space whose server never says a word.
fn beside_hung_storage(at: &std::path::Path, work: impl FnOnce(std::fs::File) + Send) {
    use std::os::fd::AsRawFd;

    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    // The namespace goes with its thread.
    let hung = || {
        unshare(CloneFlags::CLONE_NEWNS).expect("root");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let server = std::fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        mount(Some("fuse"), at, Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
        work(server);
    };
    std::thread::scope(|scope| scope.spawn(hung).join().expect("it went well"));
}

#[test]
fn token_password_and_certificates_on_storage_that_hangs_cost_a_call_its_deadline_and_nobody_else_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let at = SocketAddr::from(([127, 0, 0, 1], 1));
    let secret = Some(SecretSource::File(file("secret")));
    let https = ConsulAddress::Tcp(Endpoint { https: true, host: "127.0.0.1".to_owned(), port: 1 });
    let login = Login { username: "web".to_owned(), password: secret.clone() };
    let cases = [
        Settings { token: secret, ..settings(at) },
        Settings { basic: Some(login), ..settings(at) },
        Settings { address: https, tls: Tls { ca: Some(file("ca.pem")), ..Tls::default() }, ..settings(at) },
    ];
    for settings in cases {
        beside_hung_storage(dir.path(), move |server| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let backend = open(settings);
                let service = Service { ttl: Duration::from_millis(1_500), ..service("hung") };
                let registration = registration(&service, ServiceStatus::Passing);
                let start = tokio::time::Instant::now();
                let moment = async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    start.elapsed()
                };
                let (published, moment) = tokio::join!(backend.publish(&registration), moment);
                let error = published.unwrap_err().to_string();
                assert!(error.contains("token_file") && error.contains("their storage hangs"), "{error}");
                assert!((1..3).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
                assert!(moment < Duration::from_millis(500), "{moment:?}");
                // It is over, and the file can't be read: no call waits any more.
                drop(server);
                let error = backend.publish(&registration).await.unwrap_err().to_string();
                assert!(error.contains("can't be read"), "{error}");
            });
        });
    }
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
    let mut follower = Follower::start(&with(None), Query::KeyPrefix { prefix: "locked/".to_owned() });
    let error = follower.next().await.unwrap_err();
    assert!(error.contains("begins with locked/"), "{error}");
    let mut follower = Follower::start(&root, of("locked"));
    assert_eq!(instances(&follower.next().await), Some(vec!["locked-1".to_owned()]));
    let mut follower = Follower::start(&root, of("nobody-there"));
    assert_eq!(instances(&follower.next().await), Some(vec![]));
}

/// A server that asks for tokens, and makes them of rules.
struct Locked(Consul);

impl Locked {
    fn start() -> Locked {
        let config = r#"{"acl": {"enabled": true, "default_policy": "deny",
            "tokens": {"master": "a-root-token", "agent": "a-root-token"}}}"#;
        Locked(Consul::start_with(config, "a-root-token"))
    }

    fn ask(&self, path: &str, body: &serde_json::Value) -> String {
        let mut answer = String::new();
        eventually(path, SOON, || {
            let (status, body) = self.0.ask("PUT", path, &body.to_string());
            answer = body;
            status == 200
        });
        answer
    }

    /// A backend with a token of these rules, and the policy that has them.
    fn admit(&self, name: &str, rules: &str) -> (Arc<Backend>, String) {
        let made = |path: &str, body| -> serde_json::Value { serde_json::from_str(&self.ask(path, &body)).unwrap() };
        let policy = made("/v1/acl/policy", serde_json::json!({"Name": name, "Rules": rules}));
        let token = made("/v1/acl/token", serde_json::json!({"Policies": [{"Name": name}]}));
        let token = Some(SecretSource::Given(Secret::new(token["SecretID"].as_str().unwrap())));
        (Arc::new(open(Settings { token, ..settings(self.0.http) })), policy["ID"].as_str().unwrap().to_owned())
    }

    fn change(&self, policy: &str, name: &str, rules: &str) {
        self.ask(&format!("/v1/acl/policy/{policy}"), &serde_json::json!({"Name": name, "Rules": rules}));
    }

    fn root(&self) -> Arc<Backend> {
        let token = Some(SecretSource::Given(Secret::new("a-root-token")));
        Arc::new(open(Settings { token, ..settings(self.0.http) }))
    }
}

#[tokio::test]
async fn a_token_that_sees_no_node_is_told_and_one_that_sees_some_sees_what_is_there() {
    let locked = Locked::start();
    let services = "service_prefix \"\" { policy = \"read\" }\n";
    let (none, _) = locked.admit("none", services);
    let (other, _) = locked.admit("other", &format!("{services}node \"not-that\" {{ policy = \"read\" }}"));
    let (some, _) = locked.admit("some", &format!("{services}node_prefix \"node\" {{ policy = \"read\" }}"));
    let (deaf, _) = locked.admit("deaf", "node_prefix \"\" { policy = \"read\" }");
    locked.root().publish(&registration(&service("there"), ServiceStatus::Passing)).await.unwrap();
    for name in ["there", "nobody"] {
        for (backend, words) in [(&none, "node_prefix"), (&other, "node_prefix"), (&deaf, "may not read service")] {
            let error = Follower::start(backend, of(name)).next().await.unwrap_err();
            assert!(error.contains(words) && error.contains(name) && error.contains("token_file"), "{error}");
        }
    }
    assert_eq!(instances(&Follower::start(&some, of("there")).next().await), Some(vec!["there-1".to_owned()]));
    assert_eq!(instances(&Follower::start(&some, of("nobody")).next().await), Some(vec![]));
}

#[tokio::test]
async fn a_right_that_a_token_loses_is_no_service_without_instances() {
    let locked = Locked::start();
    let (services, nodes) = ("service_prefix \"\" { policy = \"read\" }\n", "node_prefix \"\" { policy = \"read\" }\n");
    for (name, left, words) in [("nodes", services, "may read no node"), ("services", nodes, "may not read service")] {
        let (backend, policy) = locked.admit(name, &format!("{services}{nodes}"));
        let publish = async |status| locked.root().publish(&registration(&service(name), status)).await.unwrap();
        publish(ServiceStatus::Passing).await;
        let mut follower = Follower::start(&backend, of(name));
        follower.until(|seen| instances(seen) == Some(vec![format!("{name}-1")])).await.unwrap();
        locked.change(&policy, name, left);
        // Something that wakes the query.
        publish(ServiceStatus::Draining).await;
        publish(ServiceStatus::Passing).await;
        let error = follower.next().await.unwrap_err();
        assert!(error.contains(words), "{error}");
        locked.change(&policy, name, &format!("{services}{nodes}"));
        let seen = follower.next().await;
        assert_eq!(instances(&seen), Some(vec![format!("{name}-1")]), "{seen:?}");
    }
}

#[tokio::test]
async fn keys_that_a_token_may_not_read_are_not_taken_for_removed() {
    let locked = Locked::start();
    let rules = "key_prefix \"app/\" { policy = \"read\" }\nkey_prefix \"a//\" { policy = \"read\" }\n";
    let (backend, policy) = locked.admit("keys", rules);
    let prefix = |prefix: &str| Query::KeyPrefix { prefix: prefix.to_owned() };
    let keys = |pairs: &[(&str, &str)]| {
        Ok(Observation::Keys(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()))
    };
    // Those that are truly not there.
    assert_eq!(Follower::start(&backend, prefix("app/")).next().await, keys(&[]));
    assert_eq!(Follower::start(&backend, prefix("a//")).next().await, keys(&[]));
    assert_eq!(
        Follower::start(&backend, Query::Key { key: "a//b".to_owned() }).next().await,
        Ok(Observation::Key(None))
    );
    assert_eq!(backend.get("a//b").await.unwrap(), None);
    let error = Follower::start(&backend, prefix("other/")).next().await.unwrap_err();
    assert!(error.contains("key_prefix \"other/\""), "{error}");

    let root = locked.root();
    root.put("app/x", "1").await.unwrap();
    root.put("a//b", "2").await.unwrap();
    let mut tree = Follower::start(&backend, prefix("app/"));
    assert_eq!(tree.next().await, keys(&[("app/x", "1")]));
    let mut pathless = Follower::start(&backend, Query::Key { key: "a//b".to_owned() });
    assert_eq!(pathless.next().await, Ok(Observation::Key(Some("2".to_owned()))));
    locked.change(&policy, "keys", "node_prefix \"\" { policy = \"read\" }");
    for (key, follower) in [("app/x", &mut tree), ("a//b", &mut pathless)] {
        root.put(key, "3").await.unwrap();
        let mut seen = follower.next().await;
        // A question that waited is answered by the rights it was asked with; and a list that may not be read waits.
        if seen.is_ok() {
            root.put(key, "4").await.unwrap();
            seen = follower.next().await;
        }
        let error = seen.unwrap_err();
        assert!(error.contains("key_prefix"), "{error}");
    }
    assert!(backend.get("a//b").await.unwrap_err().to_string().contains("key_prefix"));
    locked.change(&policy, "keys", rules);
    root.put("app/x", "5").await.unwrap();
    tree.until(|seen| *seen == keys(&[("app/x", "5")])).await.unwrap();
    root.delete("app/x").await.unwrap();
    assert_eq!(tree.next().await, keys(&[]));
}

#[tokio::test]
async fn an_empty_list_is_not_believed_while_nobody_says_what_the_token_may_see() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]);
                let answer = match head.contains("/v1/health/") {
                    true => "HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]",
                    false if head.contains("/v1/kv/") => {
                        "HTTP/1.1 404 Not Found\r\nX-Consul-Index: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                    }
                    false => "HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: 17\r\n\r\nNo cluster leader",
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    let backend = Arc::new(open(settings(at)));
    for query in [of("web"), Query::KeyPrefix { prefix: "app/".to_owned() }] {
        let error = Follower::start(&backend, query).next().await.unwrap_err();
        assert!(error.contains("No cluster leader"), "{error}");
    }
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
    let relay = Relay::to(cluster.http[0]).await;
    let backend = open(settings(relay.at));
    let service = service("moving");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    let nodes = |at: SocketAddr| -> Vec<String> {
        let (_, body) =
            crate::support::servers::http(at, "GET", "/v1/catalog/service/moving", &[], "").unwrap_or_default();
        let entries = serde_json::from_str::<serde_json::Value>(&body).unwrap_or_default();
        entries.as_array().into_iter().flatten().filter_map(|entry| Some(entry["Node"].as_str()?.to_owned())).collect()
    };
    eventually("it is registered", SOON, || nodes(cluster.http[1]) == ["s0"]);
    cluster.down(0);
    relay.lead_to(Some(cluster.http[1]));
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

#[tokio::test]
async fn what_the_servers_could_not_forget_of_the_agent_before_goes_with_the_service() {
    let mut cluster = ConsulCluster::start();
    let relay = Relay::to(cluster.http[0]).await;
    let backend = open(settings(relay.at));
    let service = service("left");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    let nodes = |at: SocketAddr| {
        let (status, body) =
            crate::support::servers::http(at, "GET", "/v1/catalog/service/left", &[], "").unwrap_or_default();
        let nodes = body.split("\"Node\":\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default().to_owned());
        (status == 200).then(|| nodes.collect::<Vec<_>>())
    };
    eventually("it is registered", SOON, || nodes(cluster.http[1]).is_some_and(|nodes| nodes == ["s0"]));
    cluster.down(0);
    cluster.down(2);
    relay.lead_to(Some(cluster.http[1]));
    // The connection to the agent before has broken. The one there is now takes the service, and its servers, one of
    // three, no write.
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap_err();
    let told = backend.publish(&registration(&service, ServiceStatus::Passing)).await;
    // An agent whose servers have no leader answers nothing for half a minute now and then.
    let patient = tokio::time::Instant::now() + 9 * SOON;
    let behind = async || backend.withdraw(&service).await.unwrap_err().to_string();
    let mut error = behind().await;
    while error.contains("didn't answer") && tokio::time::Instant::now() < patient {
        error = behind().await;
    }
    assert_eq!(error, "left-1 stays behind at consul agent s0", "{told:?}");
    cluster.spawn(2);
    let deadline = tokio::time::Instant::now() + 4 * SOON;
    while let Err(error) = backend.withdraw(&service).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(nodes(cluster.http[1]), Some(Vec::new()));
}
