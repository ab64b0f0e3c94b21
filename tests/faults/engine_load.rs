//! What agents cost an engine: one at rest, and a crowd that was cut off together and comes back together.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pilotfish::config::Backoff;
use pilotfish::supervisor::machines::jitter::{self, Jitter};
use pilotfish::supervisor::vocabulary::{Observation, Registration, ServiceStatus};

use crate::backend::bench::{Agent, agent_on, instances_of, service};
use crate::support::lab::Lab;
use crate::support::servers::{Consul, ConsulCluster, Etcd, MANY, Passed, Tally, fullest, many_descriptors};

const TTL: Duration = Duration::from_secs(3);

/// An agent at rest with two services and two watches: what it asked of an engine in six seconds.
fn at_rest(tally: &Tally, catalog: &str) -> Vec<String> {
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n\
         [[service]]\nname = \"one\"\nid = \"one-1\"\nport = 80\naddress = [\"static:192.0.2.1\"]\nttl = \"{ttl}s\"\n\
         [[service]]\nname = \"two\"\nid = \"two-1\"\nport = 80\naddress = [\"static:192.0.2.1\"]\nttl = \"{ttl}s\"\n\
         [[watch]]\nname = \"one\"\nservice = \"one\"\non_change = {{ exec = [\"touch\", \"DIR/seen-one\"] }}\n\
         [[watch]]\nname = \"two\"\nservice = \"two\"\non_change = {{ exec = [\"touch\", \"DIR/seen-two\"] }}\n\
         [catalog]\n{catalog}",
        ttl = TTL.as_secs()
    ));
    let _container = lab.run();
    for file in ["seen-one", "seen-two"] {
        crate::support::namespace::eventually(file, || lab.path(file).exists().then_some(())).unwrap();
    }
    std::thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    std::thread::sleep(WINDOW);
    tally.since(start).into_iter().filter_map(|passed| passed.request).collect()
}

const WINDOW: Duration = Duration::from_secs(6);

/// A heartbeat comes each third of the ttl, less a twentieth to a tenth. A busy machine delays some.
const BEATS: std::ops::RangeInclusive<usize> = 4..=7;

#[test]
#[ignore = "counts requests over seconds, which a busy machine spoils: make faults"]
fn at_rest_an_agent_costs_consul_one_long_poll_a_watch_and_one_heartbeat_a_third_of_the_ttl_a_service() {
    let consul = Consul::start();
    let tally = Tally::before(consul.http);
    let asked = at_rest(&tally, &format!("backend = \"consul\"\naddress = \"http://{}\"\n", tally.at));
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for request in asked {
        *counts.entry(request).or_default() += 1;
    }
    for id in ["one-1", "two-1"] {
        // A heartbeat is two questions to the local agent: what it knows, and that we live.
        for question in ["GET /v1/agent/health/service/id/ID", "PUT /v1/agent/check/update/ID%3Aalive"] {
            let asked = counts.remove(&question.replace("ID", id)).unwrap_or(0);
            assert!(BEATS.contains(&asked), "{question} of {id}: {asked}; the others: {counts:?}");
        }
    }
    // And what the servers have of it, once in the ttl.
    for name in ["one", "two"] {
        let looks =
            |request: &String| request.contains(&format!("/v1/health/service/{name}")) && request.contains("filter=");
        let asked: usize = counts.iter().filter(|(request, _)| looks(request)).map(|(_, count)| count).sum();
        assert!((1..=3).contains(&asked), "{asked} looks at {name}: {counts:?}");
        counts.retain(|request, _| !looks(request));
    }
    // Polls last a minute: in six seconds each watch asks anew at most once.
    assert!(counts.len() <= 2 && counts.values().all(|count| *count == 1), "{counts:?}");
    assert!(counts.keys().all(|request| request.contains("index=")), "{counts:?}");
}

#[test]
#[ignore = "counts requests over seconds, which a busy machine spoils: make faults"]
fn at_rest_an_agent_costs_etcd_nothing_but_a_renewal_and_a_look_a_heartbeat() {
    let etcd = Etcd::start("etcd35");
    let tally = Tally::before(etcd.client());
    let asked = at_rest(&tally, &format!("backend = \"etcd\"\nendpoints = [\"http://{}\"]\n", tally.at)).len();
    let (least, most) = (BEATS.start() * 4, BEATS.end() * 4);
    assert!((least..=most).contains(&asked), "{asked} requests of two services with two requests a heartbeat");
}

/// Three watches of one thing, one of another, and a wait: what comes after `wait_for` and `watch`.
fn alike(catalog: &str, same: &str, other: &str) -> Lab {
    let watch = |name: &str, query: &str| {
        format!(
            "[[watch]]\nname = \"{name}\"\n{query}\non_change = {{ exec = [\"sh\", \"-c\", \"echo {name} >> DIR/story\"] }}\n"
        )
    };
    let watches =
        [("one", same), ("two", same), ("three", same), ("other", other)].map(|(name, query)| watch(name, query));
    Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n[[wait_for]]\n{same}\ntimeout = \"60s\"\n{}[catalog]\n{catalog}",
        watches.concat()
    ))
}

fn told_times(lab: &Lab, names: &[&str], times: usize) {
    for name in names {
        let count = || lab.story().iter().filter(|line| line == name).count();
        crate::support::namespace::eventually(name, || (count() == times).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {:?}", lab.story()));
    }
}

#[test]
fn watches_and_waits_of_one_service_share_one_question_to_consul_and_all_are_told() {
    let consul = Consul::start();
    let tally = Tally::before(consul.http);
    let register = |id: &str| {
        let body = format!(
            "{{\"Name\": \"app\", \"ID\": \"{id}\", \"Tags\": [\"x\"], \"Address\": \"192.0.2.1\", \"Port\": 80}}"
        );
        assert_eq!(consul.ask("PUT", "/v1/agent/service/register", &body).0, 200);
    };
    register("app-1");
    let catalog = format!("backend = \"consul\"\naddress = \"http://{}\"\n", tally.at);
    let start = Instant::now();
    let lab = alike(&catalog, "service = \"app\"", "service = \"app\"\ntag = \"x\"");
    let _container = lab.run();
    told_times(&lab, &["one", "two", "three", "other"], 1);
    let asked = || -> Vec<String> { tally.since(start).into_iter().filter_map(|passed| passed.request).collect() };
    let of_app = |asked: &[String]| asked.iter().filter(|line| line.contains("/v1/health/service/app")).count();
    // Each asks at once, and then waits: the one for all of it, and the one for what has the tag.
    crate::support::namespace::eventually("questions that wait", || (of_app(&asked()) >= 4).then_some(())).unwrap();
    assert_eq!(of_app(&asked()), 4, "{:?}", asked());
    register("app-2");
    told_times(&lab, &["one", "two", "three", "other"], 2);
}

#[test]
fn watches_and_waits_of_one_key_share_one_watch_of_etcd_and_all_are_told() {
    let etcd = Etcd::start("etcd35");
    let put = |value: &str| {
        for key in ["x", "y"] {
            etcd.ctl(&["put", &format!("pilotfish/keys/app/{key}"), value]).unwrap();
        }
    };
    put("1");
    let catalog = format!("backend = \"etcd\"\nendpoints = [\"http://{}\"]\n", etcd.client());
    let lab = alike(&catalog, "key = \"app/x\"", "key = \"app/y\"");
    let _container = lab.run();
    told_times(&lab, &["one", "two", "three", "other"], 1);
    put("2");
    told_times(&lab, &["one", "two", "three", "other"], 2);
    let watchers = || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(etcd.client()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.lines().find_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total ")).map(str::to_owned)
    };
    // That of the wait ends soon after it.
    crate::support::namespace::eventually("two watches", || (watchers().as_deref() == Some("2")).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?}", watchers()));
}

/// An engine that can be killed and comes back.
trait Engine: Send + 'static {
    fn name(&self) -> &'static str;
    /// Where agents reach it: each host's own agent, or the one there is.
    fn doors(&self) -> Vec<SocketAddr>;
    fn down(&mut self);
    fn up(&mut self);
}

impl Engine for Consul {
    fn name(&self) -> &'static str {
        "consul"
    }

    fn doors(&self) -> Vec<SocketAddr> {
        vec![self.http]
    }

    fn down(&mut self) {
        Consul::down(self);
    }

    fn up(&mut self) {
        Consul::up(self);
    }
}

/// A server and a Consul agent on each of so many hosts, all of which are killed and started again.
struct Hosts {
    cluster: ConsulCluster,
    count: usize,
}

impl Hosts {
    fn start(count: usize) -> Hosts {
        Hosts { cluster: ConsulCluster::start_hosts(count, MANY), count }
    }
}

impl Engine for Hosts {
    fn name(&self) -> &'static str {
        "consul"
    }

    fn doors(&self) -> Vec<SocketAddr> {
        self.cluster.http[1..].to_vec()
    }

    fn down(&mut self) {
        (0..=self.count).for_each(|index| self.cluster.down(index));
    }

    fn up(&mut self) {
        (0..=self.count).for_each(|index| self.cluster.spawn(index));
        (0..=self.count).for_each(|index| self.cluster.wait_ready(index));
    }
}

impl Engine for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn doors(&self) -> Vec<SocketAddr> {
        vec![self.client()]
    }

    fn down(&mut self) {
        Etcd::down(self);
    }

    fn up(&mut self) {
        Etcd::up(self);
    }
}

/// So many agents have one service, and each follows such a service.
const GROUP: usize = 10;

/// What the agents of a crowd do together.
struct Crowd {
    /// The first agent of each group is unhealthy, and so only nine are seen.
    ill: AtomicBool,
    /// How many have told the catalog since that began.
    told: AtomicUsize,
    /// How many instances each sees.
    see: Vec<AtomicUsize>,
    /// Why the catalog can't be told, by those who can't now.
    errors: Mutex<BTreeMap<usize, String>>,
}

impl Crowd {
    fn who_see(&self, instances: usize) -> usize {
        self.see.iter().filter(|see| see.load(Ordering::Relaxed) == instances).count()
    }

    fn errors(&self) -> MutexGuard<'_, BTreeMap<usize, String>> {
        self.errors.lock().expect("nobody panics with it")
    }
}

/// Longer than this, and the test fails.
const LONGEST: Duration = Duration::from_secs(60);

/// The pauses of the core between publishes that fail (`supervisor::registration`).
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(10) };

async fn live(agent: Agent, index: usize, ttl: Duration, crowd: Arc<Crowd>) {
    let name = |group: usize| format!("group-{group}");
    let mut web = service(&name(index / GROUP), &format!("agent-{index}"));
    web.ttl = ttl;
    let web = Arc::new(web);
    let beats = async {
        let (mut jitter, mut failures, mut told) = (Jitter::new(index as u64), 0, false);
        loop {
            let ill = crowd.ill.load(Ordering::Relaxed);
            let status = match ill && index.is_multiple_of(GROUP) {
                true => ServiceStatus::Critical,
                false => ServiceStatus::Passing,
            };
            let registration =
                Registration { service: Arc::clone(&web), status, note: String::new(), maintenance: None };
            let pause = match agent.backend.publish(&registration).await {
                Ok(_) => {
                    if ill && !std::mem::replace(&mut told, true) {
                        crowd.told.fetch_add(1, Ordering::Relaxed);
                    }
                    crowd.errors().remove(&index);
                    failures = 0;
                    ttl / 3 - jitter.scatter(ttl / 30)
                }
                Err(error) => {
                    crowd.errors().insert(index, pilotfish::catalog::report(&error));
                    failures += 1;
                    jitter.scatter(jitter::pause(RETRY, failures).min(ttl / 3))
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    let sight = async {
        let mut follower = agent.follow(instances_of(&name(index / GROUP)));
        loop {
            let seen = match follower.told_within(Duration::from_secs(600)).await {
                Ok(Observation::Instances(seen)) => seen.len(),
                Ok(other) => panic!("not instances: {other:?}"),
                Err(_) => usize::MAX,
            };
            crowd.see[index].store(seen, Ordering::Relaxed);
        }
    };
    tokio::join!(beats, sight);
}

/// How a crowd came back.
struct Return {
    /// The part of its connections that came in the fullest tenth of a second.
    part: f64,
    /// By how much the thread that all of the crowd run on was late, at worst: what it sleeps through comes at once.
    late: Duration,
}

/// How late this thread is at worst, until it is asked no more.
async fn lateness(worst: Arc<AtomicU64>) {
    const STEP: Duration = Duration::from_millis(5);
    loop {
        let start = Instant::now();
        tokio::time::sleep(STEP).await;
        let late = start.elapsed().saturating_sub(STEP).as_millis() as u64;
        worst.fetch_max(late, Ordering::Relaxed);
    }
}

/// So many agents lose their engine for a while, all at once.
fn a_crowd_comes_back<E: Engine>(mut engine: E, count: usize, ttl: Duration, outage: Duration) -> Return {
    many_descriptors();
    let doors = engine.doors();
    let tallies: Vec<Tally> = doors.iter().map(|relay| Tally::before(*relay)).collect();
    let addresses: Vec<String> = tallies.iter().map(|tally| format!("{}={}", engine.name(), tally.at)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let crowd = Arc::new(Crowd {
            ill: AtomicBool::new(false),
            told: AtomicUsize::new(0),
            see: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            errors: Mutex::default(),
        });
        for index in 0..count {
            let agent = agent_on(&addresses[index % addresses.len()]);
            tokio::spawn(live(agent, index, ttl, Arc::clone(&crowd)));
            // As containers come: not all at one instant.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let all = |what: &'static str, counter: fn(&Crowd) -> usize| {
            let crowd = Arc::clone(&crowd);
            async move {
                let start = Instant::now();
                while counter(&crowd) < count {
                    let so = || format!("{}: {} of {count} {what}", engine_name::<E>(), counter(&crowd));
                    assert!(start.elapsed() < LONGEST, "{}; {:?}", so(), crowd.errors());
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Instant::now()
            }
        };
        all("see all", |crowd| crowd.who_see(GROUP)).await;
        engine.down();
        crowd.ill.store(true, Ordering::Relaxed);
        tokio::time::sleep(outage).await;
        let late = Arc::new(AtomicU64::new(0));
        let watched = tokio::spawn(lateness(Arc::clone(&late)));
        let start = Instant::now();
        let (engine, back) = tokio::task::spawn_blocking(move || {
            engine.up();
            (engine, Instant::now())
        })
        .await
        .expect("it comes back");
        let told = all("told", |crowd| crowd.told.load(Ordering::Relaxed)).await;
        let saw = all("saw", |crowd| crowd.who_see(GROUP - 1)).await;
        watched.abort();
        let late = Duration::from_millis(late.load(Ordering::Relaxed));
        let passed: Vec<Passed> = tallies.iter().flat_map(|tally| tally.since(start)).collect();
        let (connections, when) = fullest(passed.iter().filter(|p| p.request.is_none()).map(|p| p.at), start);
        let requested = |passed: &&Passed| passed.request.is_some();
        let (requests, busiest) = fullest(passed.iter().filter(requested).map(|p| p.at), start);
        println!(
            "  {:<7} {count:>5} agents on {} hosts, ttl {ttl:?}, away for {outage:?}, back {:.1} s after its start: all told after \
             {:.1} s, all saw after {:.1} s; {} requests, {requests} in the fullest 100 ms (at {busiest} s); {} \
             connections, {connections} in the fullest 100 ms (at {when} s); late by {late:?} at worst",
            engine.name(),
            doors.len(),
            (back - start).as_secs_f64(),
            told.saturating_duration_since(back).as_secs_f64(),
            saw.saturating_duration_since(back).as_secs_f64(),
            passed.iter().filter(requested).count(),
            passed.iter().filter(|passed| passed.request.is_none()).count(),
        );
        let part = connections as f64 / passed.iter().filter(|passed| passed.request.is_none()).count() as f64;
        Return { part, late }
    })
}

fn engine_name<E>() -> &'static str {
    std::any::type_name::<E>()
}

/// A hundred agents come back to an engine that was restarted, and not at once. What a busy machine crowds together,
/// nobody judges: it gets another chance.
fn come_back_spread<E: Engine>(start: impl Fn() -> E) {
    for _ in 0..5 {
        let Return { part, late } = a_crowd_comes_back(start(), 100, Duration::from_secs(6), Duration::from_secs(2));
        if part < 0.5 {
            return;
        }
        assert!(late > Duration::from_millis(100), "{part}");
    }
    panic!("five times this machine was too busy to tell");
}

#[test]
#[ignore = "measures how requests spread in time, which a busy machine spoils: make faults"]
fn a_hundred_agents_come_back_to_a_consul_that_was_restarted_and_not_at_once() {
    come_back_spread(Consul::start_for_many);
}

#[test]
#[ignore = "measures how requests spread in time, which a busy machine spoils: make faults"]
fn a_hundred_agents_come_back_to_an_etcd_that_was_restarted_and_not_at_once() {
    come_back_spread(|| Etcd::start("etcd35"));
}

#[test]
#[ignore = "takes minutes: make faults"]
fn a_thousand_agents_come_back() {
    for outage in [1, 10] {
        let outage = Duration::from_secs(outage);
        // A Consul agent is one host's, and writes about fifty entries and checks a second of those it must tell its
        // servers: a thousand services are three thousand, and no host has a thousand containers.
        a_crowd_comes_back(Hosts::start(8), 1000, Duration::from_secs(15), outage);
        a_crowd_comes_back(Etcd::start("etcd35"), 1000, Duration::from_secs(15), outage);
    }
}
