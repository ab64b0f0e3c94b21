//! What becomes of the catalog when a cluster of three fails: the real agent as PID 1 on a real cluster, one fault after
//! another, and each time the seconds until the catalog is true again. `make faults` runs it and shows the table; it is
//! a matter of minutes, and so is no part of `make test`.
//!
//! While a fault lasts, the health of the main process changes, so that what was registered before is never true by
//! itself afterwards. "True" is: exactly one entry, with that health, which only a majority can have agreed to; and the
//! agent's own watch has told its hook the same.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

mod partitions;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::lab::Lab;
use crate::support::namespace::Container;
use crate::support::servers::{ConsulCluster, EtcdCluster, eventually};

/// Heartbeats come three times in this.
const TTL: Duration = Duration::from_secs(6);

/// How long a fault of a server lasts that doesn't end by itself.
const OUTAGE: Duration = Duration::from_secs(5);

/// Longer than this, and the test fails. The goal is one heartbeat, and what the cluster itself needs to elect a leader.
const LONGEST: Duration = Duration::from_secs(90);

/// A cluster as the faults see it.
trait Cluster {
    /// The health of each entry of the service as one member has it; `None` when nobody answers.
    fn entries(&self) -> Option<Vec<bool>>;
    fn down(&mut self, index: usize);
    fn spawn(&mut self, index: usize);
    fn wait_ready(&self, index: usize);
    fn wipe(&mut self, index: usize);
    fn signal(&self, index: usize, signal: Signal);
    fn leader(&self) -> usize;
    /// Removes the agent's entry behind its back.
    fn delete_entry(&self);
    /// Ends the lease that the agent's entry is under; `false` where there are no leases.
    fn revoke_lease(&self) -> bool;
}

/// The member that a Consul agent's services belong to, and that an etcd client asks first.
const OWN: usize = 0;

struct Proof<C> {
    cluster: C,
    lab: Lab,
    container: Container,
    well: bool,
    /// How long a fault lasts that doesn't end by itself.
    lasts: Duration,
}

impl<C: Cluster> Proof<C> {
    fn start(cluster: C, catalog: &str) -> Proof<C> {
        Proof::start_in(cluster, catalog, None, OUTAGE)
    }

    /// With the agent in a network namespace.
    fn start_in(cluster: C, catalog: &str, network: Option<&Path>, lasts: Duration) -> Proof<C> {
        let lab = Lab::new(&format!(
            "[process]\nexec = [\"sh\", \"-c\", \"echo main >> DIR/story; exec sleep 1000\"]\n\
             [[service]]\nname = \"web\"\nid = \"web-1\"\nport = 80\naddress = [\"static:192.0.2.1\"]\nttl = \"{}s\"\n\
             [[health]]\nname = \"well\"\nexec = [\"test\", \"-e\", \"DIR/well\"]\ninterval = \"200ms\"\n\
             grace = \"0s\"\nfailures = 1\n\
             [[watch]]\nname = \"web\"\nservice = \"web\"\n\
             on_change = {{ exec = [\"sh\", \"-c\", \"cat > DIR/told.new; mv DIR/told.new DIR/told\"] }}\n\
             [catalog]\n{catalog}",
            TTL.as_secs()
        ));
        fs::write(lab.path("well"), "").unwrap();
        let container = match network {
            Some(network) => lab.run_as(lab.start().network(network)),
            None => lab.run(),
        };
        let proof = Proof { cluster, lab, container, well: true, lasts };
        proof.until_true(Instant::now());
        proof
    }

    fn told(&self) -> Option<usize> {
        let text = fs::read_to_string(self.lab.path("told")).ok()?;
        serde_json::from_str::<Value>(&text).ok()?["instances"].as_array().map(Vec::len)
    }

    /// Seconds from `since` until the catalog is true, and until the watch has told so.
    fn until_true(&self, since: Instant) -> (f64, f64) {
        let mut registered = None;
        loop {
            if self.cluster.entries() == Some(vec![self.well]) {
                let registered = *registered.get_or_insert(since.elapsed());
                if self.told() == Some(usize::from(self.well)) {
                    return (registered.as_secs_f64(), since.elapsed().as_secs_f64());
                }
            } else {
                registered = None;
            }
            let (entries, told) = (self.cluster.entries(), self.told());
            assert!(
                since.elapsed() < LONGEST,
                "well: {}, entries: {entries:?}, told: {told:?}\n{}",
                self.well,
                self.container.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn flip(&mut self) {
        self.well = !self.well;
        match self.well {
            true => fs::write(self.lab.path("well"), "").unwrap(),
            false => fs::remove_file(self.lab.path("well")).unwrap(),
        }
    }

    fn row(&self, fault: &str, since: Instant, from: &str, log: usize) {
        let (registered, told) = self.until_true(since);
        let log = self.container.stderr()[log..].to_owned();
        let complaints = log.lines().filter(|line| line.contains(" warn ") || line.contains(" error ")).count();
        let did = match complaints {
            0 => "stayed quiet".to_owned(),
            1 => "said so once".to_owned(),
            more => format!("said so, {more} lines"),
        };
        println!("  {fault:<52} {registered:>8.2} s {told:>8.2} s  {from:<20} {did}");
    }

    /// A fault that lasts until something ends it; counted from its end.
    fn outage(&mut self, fault: &str, begin: impl FnOnce(&mut C), end: impl FnOnce(&mut C)) {
        let log = self.container.stderr().len();
        begin(&mut self.cluster);
        std::thread::sleep(self.lasts / 2);
        self.flip();
        std::thread::sleep(self.lasts / 2);
        end(&mut self.cluster);
        self.row(fault, Instant::now(), "the engine's return", log);
    }

    /// A fault that the cluster gets over by itself; counted from its beginning.
    fn blow(&mut self, fault: &str, strike: impl FnOnce(&mut C)) {
        let log = self.container.stderr().len();
        let since = Instant::now();
        strike(&mut self.cluster);
        self.flip();
        self.row(fault, since, "the fault", log);
    }

    /// Everything up again, and quiet.
    fn rest(&mut self, killed: &[usize]) {
        for index in killed {
            self.cluster.spawn(*index);
        }
        for index in 0..3 {
            self.cluster.wait_ready(index);
        }
        self.until_true(Instant::now());
    }

    /// A member that is neither the agent's own nor the leader.
    fn follower(&self) -> usize {
        let leader = self.cluster.leader();
        (0..3).find(|index| ![OWN, leader].contains(index)).expect("three less two")
    }

    fn head() {
        println!(
            "  {:<52} {:>10} {:>10}  {:<20} the agent",
            "fault, while the health changes", "registered", "watch told", "counted from"
        );
    }

    /// Moves the lead away from the agent's own member, whose turn is another.
    fn own_does_not_lead(&mut self) {
        while self.cluster.leader() == OWN {
            self.cluster.down(OWN);
            eventually("another leader", Duration::from_secs(30), || self.cluster.leader() != OWN);
            self.rest(&[OWN]);
        }
    }

    fn never_ended(&mut self) {
        assert_eq!(self.container.ended(), None, "the agent never ended");
        assert_eq!(self.lab.story(), ["main"], "main was never restarted");
    }

    fn all_faults(&mut self) {
        Self::head();
        let follower = self.follower();
        self.blow("a follower is killed", |cluster| cluster.down(follower));
        self.rest(&[follower]);

        self.own_does_not_lead();
        let leader = self.cluster.leader();
        self.blow("the leader is killed", |cluster| cluster.down(leader));
        self.rest(&[leader]);

        let own = "the agent's own member is killed and started again";
        self.outage(own, |cluster| cluster.down(OWN), |cluster| cluster.spawn(OWN));
        self.rest(&[]);

        self.outage(
            "the majority is killed and started again",
            |cluster| (1..3).for_each(|index| cluster.down(index)),
            |cluster| (1..3).for_each(|index| cluster.spawn(index)),
        );
        self.rest(&[]);

        self.outage(
            "all three are killed and started again",
            |cluster| (0..3).for_each(|index| cluster.down(index)),
            |cluster| (0..3).for_each(|index| cluster.spawn(index)),
        );
        self.rest(&[]);

        self.outage(
            "all three are killed, lose their disks, start again",
            |cluster| {
                (0..3).for_each(|index| cluster.down(index));
                (0..3).for_each(|index| cluster.wipe(index));
            },
            |cluster| (0..3).for_each(|index| cluster.spawn(index)),
        );
        self.rest(&[]);

        let stop = |cluster: &mut C| cluster.signal(OWN, Signal::SIGSTOP);
        let go = |cluster: &mut C| cluster.signal(OWN, Signal::SIGCONT);
        self.outage("the agent's own member hangs, and goes on", stop, go);
        self.rest(&[]);

        self.own_does_not_lead();
        let leader = self.cluster.leader();
        self.blow("the leader hangs", |cluster| cluster.signal(leader, Signal::SIGSTOP));
        self.cluster.signal(leader, Signal::SIGCONT);
        self.rest(&[]);

        if !self.well {
            self.flip();
            self.rest(&[]);
        }
        let log = self.container.stderr().len();
        let since = Instant::now();
        self.cluster.delete_entry();
        self.row("the entry is deleted by hand (health stays)", since, "the fault", log);

        self.until_true(Instant::now());
        let log = self.container.stderr().len();
        let since = Instant::now();
        if self.cluster.revoke_lease() {
            self.row("its lease is revoked (health stays)", since, "the fault", log);
        }
        self.never_ended();
    }
}

/// As one server has them, whoever leads.
fn entries_at(cluster: &ConsulCluster, index: usize) -> Option<Vec<bool>> {
    let answer = cluster.ask(index, "GET", "/v1/health/service/web?stale", "");
    let (_, body) = answer.filter(|(status, _)| *status == 200)?;
    let entries: Vec<Value> = serde_json::from_str(&body).ok()?;
    let passes = |entry: &Value| {
        let checks = entry["Checks"].as_array().into_iter().flatten();
        checks.filter(|check| check["ServiceID"] == "web-1").all(|check| check["Status"] == "passing")
    };
    Some(entries.iter().map(passes).collect())
}

impl Cluster for ConsulCluster {
    fn entries(&self) -> Option<Vec<bool>> {
        (0..3).filter(|index| self.is_up(*index)).find_map(|index| entries_at(self, index))
    }

    fn down(&mut self, index: usize) {
        ConsulCluster::down(self, index);
    }

    fn spawn(&mut self, index: usize) {
        ConsulCluster::spawn(self, index);
    }

    fn wait_ready(&self, index: usize) {
        ConsulCluster::wait_ready(self, index);
    }

    fn wipe(&mut self, index: usize) {
        ConsulCluster::wipe(self, index);
    }

    fn signal(&self, index: usize, signal: Signal) {
        self.process(index).signal(signal);
    }

    fn leader(&self) -> usize {
        let up = || (0..3).rev().filter(|index| self.is_up(*index));
        let mut leader = None;
        eventually("consul has a leader", Duration::from_secs(60), || {
            leader = up().find_map(|index| ConsulCluster::leader(self, index)).filter(|leader| self.is_up(*leader));
            leader.is_some()
        });
        leader.expect("just seen")
    }

    fn delete_entry(&self) {
        let deleted = self.ask(OWN, "PUT", "/v1/agent/service/deregister/web-1", "");
        assert_eq!(deleted.map(|(status, _)| status), Some(200));
        eventually("the servers know", LONGEST, || self.entries() == Some(Vec::new()));
    }

    fn revoke_lease(&self) -> bool {
        false
    }
}

/// Whether each of these entries, a line each, passes.
fn passing(text: &str) -> Option<Vec<bool>> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str::<Value>(line).ok().map(|entry| entry["status"] == "passing")).collect()
}

impl Cluster for EtcdCluster {
    fn entries(&self) -> Option<Vec<bool>> {
        let list = ["--command-timeout=1s", "get", "--prefix", "--print-value-only", "pilotfish/services/web/"];
        let text = (0..3).filter(|index| self.is_up(*index)).find_map(|index| self.ctl(index, &list).ok())?;
        passing(&text)
    }

    fn down(&mut self, index: usize) {
        EtcdCluster::down(self, index);
    }

    fn spawn(&mut self, index: usize) {
        EtcdCluster::spawn(self, index);
    }

    fn wait_ready(&self, index: usize) {
        EtcdCluster::wait_ready(self, index);
    }

    fn wipe(&mut self, index: usize) {
        EtcdCluster::wipe(self, index);
    }

    fn signal(&self, index: usize, signal: Signal) {
        self.process(index).signal(signal);
    }

    fn leader(&self) -> usize {
        let mut leader = None;
        eventually("etcd has a leader", Duration::from_secs(60), || {
            leader = EtcdCluster::leader(self);
            leader.is_some()
        });
        leader.expect("just seen")
    }

    fn delete_entry(&self) {
        let up = (0..3).find(|index| self.is_up(*index)).expect("some are up");
        assert_eq!(self.ctl(up, &["del", "pilotfish/services/web/web-1"]).map(|n| n.trim().to_owned()), Ok("1".into()));
    }

    fn revoke_lease(&self) -> bool {
        let got = self.ctl(OWN, &["-w", "json", "get", "pilotfish/services/web/web-1"]).expect("etcd answers");
        let got: Value = serde_json::from_str(&got).expect("JSON");
        let lease = got["kvs"][0]["lease"].as_i64().expect("it is under a lease");
        self.ctl(OWN, &["lease", "revoke", &format!("{lease:x}")]).expect("revoked");
        true
    }
}

#[test]
#[ignore = "takes minutes: make faults"]
fn consul_with_three_servers() {
    let cluster = ConsulCluster::start();
    let catalog = format!("backend = \"consul\"\naddress = \"http://{}\"\n", cluster.http[OWN]);
    println!("\nConsul 1.8, three servers, the agent on one of them, ttl {TTL:?}");
    Proof::start(cluster, &catalog).all_faults();
}

#[test]
#[ignore = "takes minutes: make faults"]
fn etcd_with_three_members() {
    let cluster = EtcdCluster::start("etcd35");
    let members: Vec<String> = cluster.clients.iter().map(|at| format!("\"http://{at}\"")).collect();
    println!("\netcd 3.5, three members, the agent knows all of them, ttl {TTL:?}");
    Proof::start(cluster, &format!("backend = \"etcd\"\nendpoints = [{}]\n", members.join(", "))).all_faults();
}

const ROOT: &str = "a-root-token";

/// A token with the policy of docs/catalogs.md for this agent.
fn admit(cluster: &ConsulCluster, accessor: &str, secret: &str) {
    let token = serde_json::json!({"AccessorID": accessor, "SecretID": secret, "Policies": [{"Name": "web"}]});
    eventually("a token", Duration::from_secs(20), || {
        cluster.ask(OWN, "PUT", "/v1/acl/token", &token.to_string()).is_some_and(|(status, _)| status == 200)
    });
}

#[test]
#[ignore = "takes minutes: make faults"]
fn consul_with_acls_on_three_servers() {
    // What a server knows of a token it may go on believing for token_ttl; the default is 30 s.
    let config = serde_json::json!({"acl": {"enabled": true, "default_policy": "deny", "token_ttl": "1s",
        "policy_ttl": "1s", "tokens": {"master": ROOT, "agent": ROOT}}});
    let cluster = ConsulCluster::start_with(&config.to_string(), ROOT);
    let rules = crate::backend::secured::policy(&["web"], &cluster.nodes[OWN]);
    let policy = serde_json::json!({"Name": "web", "Rules": rules}).to_string();
    eventually("a policy", Duration::from_secs(20), || {
        cluster.ask(OWN, "PUT", "/v1/acl/policy", &policy).is_some_and(|(status, _)| status == 200)
    });
    let first = "0e2ec4a5-6f1c-4a6b-9d40-7d2b6c3e1a55";
    let second = "5b1fd1d2-30f2-4c0c-8a59-c21df2a90e0b";
    admit(&cluster, first, first);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, first).unwrap();
    let catalog = format!(
        "backend = \"consul\"\naddress = \"http://{}\"\ntoken_file = \"{}\"\n",
        cluster.http[OWN],
        file.display()
    );
    println!("\nConsul 1.8 with ACLs, three servers, the agent on one of them, ttl {TTL:?}");
    let mut proof = Proof::start(cluster, &catalog);
    Proof::<ConsulCluster>::head();
    proof.outage(
        "its token is revoked, and token_file gets another",
        |cluster| {
            let gone = cluster.ask(OWN, "DELETE", &format!("/v1/acl/token/{first}"), "");
            assert_eq!(gone.map(|(status, _)| status), Some(200));
        },
        |cluster| {
            admit(cluster, second, second);
            fs::write(&file, second).unwrap();
        },
    );
    proof.never_ended();
}

/// Why a leader that hangs costs half a minute: what Consul does by itself, with nobody of us near.
#[test]
#[ignore = "takes a minute: make faults"]
fn consul_alone_with_a_leader_that_hangs() {
    let cluster = ConsulCluster::start();
    let leader = Cluster::leader(&cluster);
    let agent = (leader + 1) % 3;
    let put = |cluster: &ConsulCluster, path: &str, body: &str| cluster.ask(agent, "PUT", path, body);
    let service = r#"{"ID": "web-1", "Name": "web", "Check": {"CheckID": "web", "TTL": "600s", "Status": "passing"}}"#;
    assert!(put(&cluster, "/v1/agent/service/register", service).is_some_and(|(status, _)| status == 200));
    eventually("it is in the catalog", LONGEST, || entries_at(&cluster, agent) == Some(vec![true]));
    cluster.signal(leader, Signal::SIGSTOP);
    let since = Instant::now();
    let (mut written, mut local, mut seen) = (None, None, None);
    std::thread::scope(|scope| {
        // Its answer is waited for in vain: the agent answers once its servers know.
        scope.spawn(|| put(&cluster, "/v1/agent/check/fail/web", ""));
        let (cluster, put) = (&cluster, &put);
        let written = &mut written;
        scope.spawn(move || {
            eventually("a key is written", LONGEST * 2, || {
                put(cluster, "/v1/kv/key", "value").is_some_and(|(status, _)| status == 200)
            });
            *written = Some(since.elapsed());
        });
        let local = &mut local;
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            eventually("the agent tells of its own services", LONGEST * 2, || {
                cluster.ask(agent, "GET", "/v1/agent/services", "").is_some_and(|(status, _)| status == 200)
            });
            *local = Some(since.elapsed());
        });
        eventually("the catalog is true", LONGEST * 2, || entries_at(cluster, agent) == Some(vec![false]));
        seen = Some(since.elapsed());
    });
    let seconds = |span: Option<Duration>| span.expect("it came").as_secs_f64();
    println!(
        "\nConsul 1.8, three servers, the leader hangs, and another server's agent is told of a failed check, by no \
         pilotfish:\n  a key is written through that agent after {:.1} s, the agent tells of its own services after \
         {:.1} s, the check is in the catalog after {:.1} s",
        seconds(written),
        seconds(local),
        seconds(seen),
    );
    assert!(seen > written, "a leader was there long before");
    cluster.signal(leader, Signal::SIGCONT);
}
