//! Two hundred candidates of one election on one engine, each the real program in a container of its own: what they ask
//! of the engine at rest and when the leader goes, and how long until the next one leads.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::lab::Lab;
use crate::support::namespace::{Container, eventually, within};
use crate::support::servers::{Consul, Etcd, Passed, Tally, fullest, many_descriptors};

/// So many stand.
const CANDIDATES: usize = 200;

/// The engine is watched at rest for so long.
const REST: Duration = Duration::from_secs(10);

/// Longer than a killed leader's lease and whatever comes on top.
const SUCCESSION: Duration = Duration::from_secs(60);

/// So long after a succession the losers are done with it.
const SETTLED: Duration = Duration::from_secs(3);

/// All that stand, and those of them that still run.
struct Crowd {
    engine: &'static str,
    tally: Tally,
    /// A line for each promotion.
    promoted: PathBuf,
    candidates: BTreeMap<usize, (Lab, Container)>,
    _shared: tempfile::TempDir,
}

impl Crowd {
    /// Starts them; the catalog's config is `catalog` with the tally's address for `AT`, and `election` what is to be
    /// said of the election on this engine.
    fn gather(engine: &'static str, tally: Tally, catalog: &str, election: &str) -> Crowd {
        many_descriptors();
        let shared = tempfile::tempdir().unwrap();
        let promoted = shared.path().join("promoted");
        let catalog = catalog.replace("AT", &tally.at.to_string());
        let start = |index: usize| {
            // The ttl is long, so that the service's own heartbeats on etcd don't hide the election's requests.
            let lab = Lab::new(&format!(
                "[process]\nexec = [\"sh\", \"-c\", \"touch DIR/main; exec sleep 1000\"]\n\
                 [hooks]\non_promote = {{ exec = [\"sh\", \"-c\", \"echo {index} >> {promoted}\"], timeout = \"5s\" }}\n\
                 [[service]]\nname = \"db\"\nid = \"db-{index}\"\nport = 3306\naddress = [\"static:192.0.2.1\"]\n\
                 ttl = \"60s\"\n[catalog]\n{catalog}\n\
                 [election]\nname = \"db\"\nlease = \"15s\"\n{election}\n",
                promoted = promoted.display(),
            ));
            let container = lab.run();
            (index, (lab, container))
        };
        let candidates: BTreeMap<_, _> = (0..CANDIDATES).map(start).collect();
        for (lab, container) in candidates.values() {
            let runs = eventually("main", || lab.path("main").exists().then_some(()));
            runs.unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
        }
        Crowd { engine, tally, promoted, candidates, _shared: shared }
    }

    /// How many were promoted, one after the other.
    fn promoted(&self) -> usize {
        fs::read_to_string(&self.promoted).unwrap_or_default().lines().count()
    }

    /// Who leads, once exactly one says so: they are asked in a row, and a busy machine may cost a leader its lease
    /// meanwhile.
    fn leader(&self) -> usize {
        let leads = |lab: &Lab| lab.ask(&["status"]).1.contains("leader of db: leading");
        let one = within(SUCCESSION, "one leader", || {
            let leading = self.candidates.iter().filter(|(_, (lab, _))| leads(lab)).map(|(index, _)| *index);
            let leading: Vec<usize> = leading.collect();
            (leading.len() == 1).then(|| leading[0])
        });
        one.unwrap_or_else(|error| panic!("{}: {error}", self.engine))
    }

    /// Nobody comes or goes.
    fn rests(&self) {
        std::thread::sleep(SETTLED);
        let start = Instant::now();
        std::thread::sleep(REST);
        let (own, requests) = sorted(self.tally.since(start));
        let seconds = REST.as_secs_f64();
        println!(
            "  {:<7} {CANDIDATES} candidates at rest: {:.1} requests/s, and {:.1}/s to the host's own agent {:?}",
            self.engine,
            requests.len() as f64 / seconds,
            own as f64 / seconds,
            kinds(&requests),
        );
    }

    /// The leader ends by this signal, and another comes.
    fn succeeds(&mut self, how: &str, signal: i32) {
        let (leader, before) = (self.leader(), self.promoted());
        let (_lab, container) = self.candidates.remove(&leader).expect("it runs");
        let start = Instant::now();
        container.signal(signal);
        within(SUCCESSION, "a successor", || (self.promoted() > before).then_some(())).unwrap();
        let taken = start.elapsed();
        std::thread::sleep(SETTLED);
        let (_, requests) = sorted(self.tally.since(start));
        let (busiest, when) = fullest(requests.iter().map(|passed| passed.at), start);
        println!(
            "  {:<7} {how}: the next leads after {:.2} s; {} requests, {busiest} in the fullest 100 ms (at {when} s) {:?}",
            self.engine,
            taken.as_secs_f64(),
            requests.len(),
            kinds(&requests),
        );
        self.leader();
        let more = self.promoted() - before;
        if more > 1 {
            println!("  {:<7} {} more were promoted: a busy machine", self.engine, more - 1);
        }
    }

    fn all(mut self) {
        self.rests();
        self.succeeds("stopped", libc::SIGTERM);
        self.succeeds("killed", libc::SIGKILL);
        self.succeeds("stopped", libc::SIGTERM);
        self.succeeds("killed", libc::SIGKILL);
    }
}

/// How many requests were for a host's own Consul agent, which passes them to nobody; and the others.
fn sorted(passed: Vec<Passed>) -> (usize, Vec<Passed>) {
    let requests = passed.into_iter().filter(|passed| passed.request.is_some());
    let (own, others): (Vec<_>, Vec<_>) = requests.partition(|passed| request(passed).contains(" /v1/agent/"));
    (own.len(), others)
}

fn request(passed: &Passed) -> &str {
    passed.request.as_deref().unwrap_or_default()
}

/// How many there are of each kind: method and endpoint.
fn kinds(passed: &[Passed]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for passed in passed {
        let path = request(passed).split('?').next().unwrap_or_default();
        let kind: Vec<&str> = path.splitn(6, '/').take(if path.contains("/kv/") { 5 } else { 4 }).collect();
        *kinds.entry(kind.join("/")).or_default() += 1;
    }
    kinds
}

#[test]
#[ignore = "takes minutes: make faults"]
fn of_two_hundred_candidates_on_consul_one_leads() {
    let consul = Consul::start_for_many();
    let tally = Tally::before(consul.http);
    // Two hundred debug builds on two processors may be late with a heartbeat by more than the usual 3 s.
    Crowd::gather("consul", tally, "backend = \"consul\"\naddress = \"http://AT\"", "alive_ttl = \"15s\"").all();
}

#[test]
#[ignore = "takes minutes: make faults"]
fn of_two_hundred_candidates_on_etcd_one_leads() {
    let etcd = Etcd::start("etcd35");
    let tally = Tally::before(etcd.client());
    Crowd::gather("etcd", tally, "backend = \"etcd\"\nendpoints = [\"http://AT\"]", "").all();
}
