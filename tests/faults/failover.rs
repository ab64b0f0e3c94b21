//! How long nobody leads, fault by fault, beside the plainest thing that does the same: a key under a session's TTL, or
//! under a lease. `make failover` runs it and shows the table; the figures are the machine's, and no test.
//!
//! Counted from the fault to the next leader's first act, on the one clock all containers share: the engine's noticing,
//! the acquire, `on_promote`, and main's being told are in it.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

mod plain;

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::faults::nemesis::Backend;
use crate::faults::nemesis::fleet::{ALIVE_TTL, CANDIDATES, Fleet, Image, Images, LEASE, Witnesses};
use crate::faults::nemesis::register::now;
use crate::faults::nemesis::schedule::Kind;

/// Longer than this, and there is no sample, but a failure.
const LONGEST: Duration = Duration::from_secs(60);

/// Each renews once a second: so long after a leader's first act its lease has been renewed, and its peers know it.
const SETTLED: Duration = Duration::from_millis(1500);

/// What happens to a leader.
type Blow = fn(&mut Fleet, usize);

const BLOWS: [(&str, Blow); 8] = [
    ("its container is killed", Fleet::lose),
    ("its container is killed, and started again", |fleet, leader| strike(fleet, leader, Kind::KillLeader)),
    ("its main process is killed", |fleet, leader| strike(fleet, leader, Kind::KillMain)),
    ("its health fails (a check each 200 ms)", |fleet, leader| fleet.turn_unhealthy(leader)),
    ("its host is cut off", |fleet, leader| strike(fleet, leader, Kind::IsolateLeader)),
    ("it and the engine's leader are killed", |fleet, leader| {
        let engine = fleet.engine_leader().expect("the engine has a leader");
        fleet.down(engine);
        fleet.end(leader, Signal::SIGKILL);
    }),
    ("it is stopped", |fleet, leader| strike(fleet, leader, Kind::Stop)),
    (STEPS_DOWN, |fleet, leader| strike(fleet, leader, Kind::StepDown)),
];

const STEPS_DOWN: &str = "it steps down";

fn strike(fleet: &mut Fleet, leader: usize, kind: Kind) {
    assert!(fleet.strike(kind, leader, 0).is_some(), "{kind:?} found nobody");
}

/// Whether this engine knows this misfortune.
fn happens(backend: Backend, blow: &str) -> bool {
    backend != Backend::Local || !["host", "engine"].iter().any(|word| blow.contains(word))
}

/// Whether this row was asked for: `ROW` is a part of its name.
fn wanted(blow: &str) -> bool {
    std::env::var("ROW").map_or(true, |row| blow.contains(&row))
}

fn samples() -> usize {
    std::env::var("SAMPLES").ok().and_then(|count| count.parse().ok()).unwrap_or(20)
}

/// Milliseconds until the next acts.
fn sample(fleet: &mut Fleet, blow: Blow) -> f64 {
    let settled = |fleet: &mut Fleet| {
        let leader = fleet.leader()?;
        let all = (0..CANDIDATES.len()).all(|index| fleet.is_up(index));
        let agree = all && fleet.opinions().values().all(|opinion| opinion == CANDIDATES[leader]);
        (agree && fleet.is_at_peace()).then_some(())
    };
    fleet.until("agreement", LONGEST, settled);
    fleet.watch(SETTLED);
    let leader = fleet.until("a leader", LONGEST, Fleet::leader);
    let term = fleet.term();
    let since = now();
    blow(fleet, leader);
    let next = fleet.until("the next", LONGEST, |fleet| {
        fleet.register.last.as_ref().filter(|act| act.term > term).map(|act| act.term)
    });
    let first = fleet.judge.begun(next).expect("it acted");
    fleet.heal();
    if fleet.get_well(leader) {
        // Started anew it remembers no failure: one that turns unhealthy again and again pauses longer each time, and measured
        // is the next one's way, not that all five have had their turn.
        fleet.end(leader, Signal::SIGTERM);
    }
    first.saturating_sub(since) as f64 / 1e6
}

fn row(name: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    println!("  {name:<46} {:>3} {least:>9.1} {median:>9.1} {most:>9.1}", times.len());
}

/// All alike: measured is the way to the next leader, not which image it is.
const ALIKE: Images = [Image::Plain; CANDIDATES.len()];
const RANKED: Images = [Image::Ranked; CANDIDATES.len()];

fn table(backend: Backend, witnesses: Witnesses) {
    let mut fleet = Fleet::start(backend, ALIKE, None, witnesses);
    let beside = match witnesses {
        Witnesses::None => "",
        Witnesses::Candidates => ", a candidate on the same host",
        Witnesses::Agents => ", a witness on the same host and no candidate",
    };
    println!(
        "\n{backend:?}, lease {LEASE:?}, alive_ttl {ALIVE_TTL:?}{beside}; milliseconds until the next leader acts"
    );
    println!("  {:<46} {:>3} {:>9} {:>9} {:>9}", "the leader:", "n", "min", "median", "max");
    // The others are as without.
    let known = |name: &str| witnesses == Witnesses::None || name.contains("container");
    for (name, blow) in BLOWS.iter().filter(|(name, _)| happens(backend, name) && wanted(name) && known(name)) {
        row(name, (0..samples()).map(|_| sample(&mut fleet, *blow)).collect());
    }
    if wanted("plain")
        && witnesses == Witnesses::None
        && let Some((name, times)) = plain::samples(&fleet.engine, samples())
    {
        row(name, times);
    }
    end(&mut fleet);
    if wanted(STEPS_DOWN) && witnesses == Witnesses::None {
        let mut fleet = Fleet::start(backend, RANKED, None, witnesses);
        let times = (0..samples()).map(|_| sample(&mut fleet, |fleet, leader| strike(fleet, leader, Kind::StepDown)));
        row(&format!("{STEPS_DOWN}, with ranks"), times.collect());
        end(&mut fleet);
    }
}

fn end(fleet: &mut Fleet) {
    assert_eq!(fleet.judge.overlaps(), [], "{}", fleet.story());
    assert!(fleet.deaths.is_empty(), "{}", fleet.story());
}

#[test]
#[ignore = "takes minutes and a machine at rest: make failover"]
fn on_consul() {
    table(Backend::Consul, Witnesses::None);
}

#[test]
#[ignore = "takes minutes and a machine at rest: make failover"]
fn on_etcd() {
    table(Backend::Etcd("etcd35"), Witnesses::None);
}

#[test]
#[ignore = "takes minutes and a machine at rest: make failover"]
fn on_local() {
    table(Backend::Local, Witnesses::None);
}

#[test]
#[ignore = "takes minutes and a machine at rest: make failover"]
fn on_consul_with_witnesses() {
    table(Backend::Consul, Witnesses::Candidates);
    table(Backend::Consul, Witnesses::Agents);
}

#[test]
#[ignore = "takes minutes and a machine at rest: make failover"]
fn on_etcd_with_witnesses() {
    table(Backend::Etcd("etcd35"), Witnesses::Candidates);
    table(Backend::Etcd("etcd35"), Witnesses::Agents);
}
