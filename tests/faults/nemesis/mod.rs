//! Whether two ever lead at once when everything fails that can: the real program in containers of their own, on hosts
//! of their own, and a nemesis that cuts, kills, stops and restarts at random.
//!
//! `make nemesis BACKEND=consul|etcd|etcd34|local DURATION=600s [SEED=N] [WITNESS=candidates|agents]`; `make
//! nemesis-controls` breaks one rule at a time, and must find two that lead at once. Short forms are part of `make
//! test`.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

mod faults;
pub mod fleet;
mod gate;
pub mod judge;
pub mod register;
pub mod schedule;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use faults::Mend;
use fleet::{CANDIDATES, Fleet, LEASE, MIXED, Witnesses};
use judge::Judge;
pub use schedule::Backend;
use schedule::{Kind, Schedule, counts};

/// Once what was broken is whole, somebody leads again within this: a lease, what serf and the engine's own election
/// take, a flapping one's pause, and a machine that is busy with other tests.
const CALM: Duration = Duration::from_secs(60);

/// From one blow to the next at least: a guard that was killed is replaced within milliseconds, and nothing protects
/// from an agent that is stopped meanwhile.
const BREATH: Duration = Duration::from_millis(200);

/// What happened in a run.
struct Run {
    seed: u64,
    /// When it began, on the clock of the register.
    begun: u64,
    struck: Vec<Blow>,
    /// Kinds that found nobody to strike.
    missed: Vec<Kind>,
}

/// One misfortune, from and until when, on the same clock.
#[derive(Debug, Clone, Copy)]
struct Blow {
    kind: Kind,
    from: u64,
    until: u64,
}

/// What a misfortune may still be the reason of: a lease, what the engine takes to come to itself, and the pause of one
/// that failed.
const AFTERMATH: Duration = Duration::from_secs(15);

/// How long nobody may act once nothing keeps anybody from it: the lease of one that may still act, what Consul takes to
/// notice its end, an engine's own election, and a busy machine.
const PROMISED: Duration = Duration::from_secs(7 + 2 + 10);

/// How long before the blow that ended it a leader may have acted last: each millisecond at most times, but only once
/// until its on_promote has started main.
const UNHEARD: Duration = Duration::from_millis(500);

impl Run {
    /// Leaders that stepped down though nothing had taken their lock: who, and how long after the beginning.
    fn needless(&self, judge: &Judge) -> Vec<(String, f64)> {
        let costs = |loss: u64| {
            let came = |blow: &Blow| blow.from <= loss + UNHEARD.as_nanos() as u64;
            let may = |blow: &Blow| came(blow) && loss <= blow.until + AFTERMATH.as_nanos() as u64;
            self.struck.iter().any(|blow| blow.kind.may_cost_the_lock() && may(blow))
        };
        let losses = judge.losses().into_iter().filter(|(_, loss)| !costs(*loss));
        losses.map(|(who, loss)| (who, loss.saturating_sub(self.begun) as f64 / 1e9)).collect()
    }

    /// Times in which nobody acted for longer than is promised once no misfortune lasted: from when, and for how long.
    fn slow(&self, judge: &Judge) -> Vec<(f64, f64)> {
        let over = |(from, lasted): &(u64, u64)| {
            let end = from + lasted;
            let kept = self.struck.iter().filter(|blow| blow.from < end).map(|blow| blow.until).max().unwrap_or(0);
            end.saturating_sub(kept.max(*from)) > PROMISED.as_nanos() as u64
        };
        let slow = judge.vacancies().into_iter().filter(over);
        slow.map(|(from, lasted)| (from.saturating_sub(self.begun) as f64 / 1e9, lasted as f64 / 1e9)).collect()
    }
}

/// Strikes until the time is over, or `enough`.
fn torment(fleet: &mut Fleet, kinds: Vec<Kind>, seed: u64, time: Duration, enough: impl Fn(&Fleet) -> bool) -> Run {
    let mut schedule = Schedule::new(seed, kinds);
    let mut run = Run { seed, begun: register::now(), struck: Vec::new(), missed: Vec::new() };
    let begun = Instant::now();
    let mut leader = fleet.until("a leader", CALM, Fleet::leader);
    while begun.elapsed() < time && !enough(fleet) {
        let step = schedule.next(LEASE);
        let said = format!("seed {seed}, after {:.1?}: {:?} for {:.1?}", begun.elapsed(), step.kinds, step.lasts);
        println!("{said}, {:?} of term {} leads", CANDIDATES[leader], fleet.term());
        if step.calm {
            let all = |fleet: &mut Fleet| (0..CANDIDATES.len()).all(|index| fleet.is_up(index)).then_some(());
            fleet.until("all up", CALM, all);
            leader = fleet.until("a leader", CALM, Fleet::leader);
        }
        leader = fleet.leader().unwrap_or(leader);
        let from = register::now();
        let (mut kinds, mut missed) = (Vec::new(), Vec::new());
        let mut mends: Vec<Mend> = step
            .kinds
            .into_iter()
            .filter_map(|kind| {
                let mend = fleet.strike(kind, leader, schedule.pick(usize::MAX));
                if mend.is_some() { &mut kinds } else { &mut missed }.push(kind);
                mend
            })
            .collect();
        let lasts = mends.iter().any(|mend| *mend != Mend::Nothing);
        fleet.watch(if lasts { step.lasts } else { BREATH });
        // Nothing can be deleted before there are servers again.
        mends.sort_by_key(|mend| *mend == Mend::Delete);
        mends.into_iter().for_each(|mend| fleet.mend(mend));
        let until = register::now();
        missed.iter().for_each(|kind| schedule.again(*kind));
        run.missed.extend(missed);
        run.struck.extend(kinds.into_iter().map(|kind| Blow { kind, from, until }));
    }
    run
}

/// With everything whole again: one leads, all agree who, all end when told to.
fn recover(fleet: &mut Fleet) {
    fleet.heal();
    let all = |fleet: &mut Fleet| (0..CANDIDATES.len()).all(|index| fleet.is_up(index)).then_some(());
    fleet.until("all up", CALM, all);
    fleet.until("agreement", CALM, |fleet| {
        let leader = CANDIDATES[fleet.leader()?];
        fleet.opinions().values().all(|opinion| opinion == leader).then_some(())
    });
    for (index, name) in CANDIDATES.iter().enumerate() {
        let (code, said, error) = fleet.ask(index, &["status"]);
        assert_eq!(code, 0, "{name}: {said}{error}");
    }
}

fn report(fleet: &Fleet, backend: Backend, run: &Run) {
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let (vacancies, overlaps) = (fleet.judge.vacancies(), fleet.judge.overlaps());
    let (from, most) = vacancies.first().copied().unwrap_or((run.begun, 0));
    println!(
        "\n{backend:?}, seed {}, {:.0} s: {} faults, {} failovers, {} overlaps; nobody acted for {:.2} s (median), {:.2} s \
         (most, from {:.1} s on)",
        run.seed,
        seconds(register::now() - run.begun),
        run.struck.len(),
        fleet.judge.leaderships().saturating_sub(1),
        overlaps.len(),
        seconds(vacancies.get(vacancies.len() / 2).map_or(0, |(_, lasted)| *lasted)),
        seconds(most),
        seconds(from.saturating_sub(run.begun)),
    );
    let missed = counts(run.missed.iter().copied());
    for (kind, count) in counts(run.struck.iter().map(|blow| blow.kind)) {
        let none = missed.get(&kind).map_or(String::new(), |none| format!(" ({none} found nobody)"));
        println!("  {count:>3} {kind:?}{none}");
    }
    overlaps.iter().for_each(|overlap| println!("  OVERLAP: {overlap}"));
    for (who, at) in run.needless(&fleet.judge) {
        println!("  NEEDLESS: {who} led no longer after {at:.1} s, and nothing had taken its lock");
    }
    for (from, lasted) in run.slow(&fleet.judge) {
        println!("  SLOW: nobody acted for {lasted:.1} s, from {from:.1} s on");
    }
}

/// A whole run on an engine that is to be trusted.
fn nemesis(backend: Backend, seed: u64, time: Duration) -> (Fleet, Run) {
    let mut fleet = Fleet::start(backend, MIXED, None, Witnesses::asked_for());
    let run = torment(&mut fleet, Kind::of(backend), seed, time, |_| false);
    recover(&mut fleet);
    report(&fleet, backend, &run);
    assert!(fleet.deaths.is_empty(), "{}", fleet.story());
    (fleet, run)
}

fn holds(fleet: &Fleet) {
    let overlaps = fleet.judge.overlaps();
    assert!(overlaps.is_empty(), "{overlaps:#?}; logs and register are in {:?}", fleet.keep_logs());
}

/// A little of it, in each run of all tests, and each time another.
fn short(backend: Backend, time: Duration) {
    let seed = register::now();
    let (mut fleet, _) = nemesis(backend, seed, time);
    holds(&fleet);
    // And all of them end in good order.
    for index in 0..CANDIDATES.len() {
        fleet.end(index, Signal::SIGTERM);
    }
}

#[test]
fn nobody_leads_beside_another_on_local() {
    short(Backend::Local, Duration::from_secs(20));
}

#[test]
fn nobody_leads_beside_another_on_consul() {
    short(Backend::Consul, Duration::from_secs(30));
}

#[test]
fn nobody_leads_beside_another_on_etcd() {
    short(Backend::Etcd("etcd35"), Duration::from_secs(30));
}

/// What `make nemesis` was told.
fn told() -> (Backend, u64, Duration) {
    let told = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let backend = match told("BACKEND").as_deref() {
        Some("local") => Backend::Local,
        Some("consul") => Backend::Consul,
        Some("etcd" | "etcd35") | None => Backend::Etcd("etcd35"),
        Some("etcd34") => Backend::Etcd("etcd"),
        Some(other) => panic!("BACKEND={other} is none of consul, etcd, etcd34, local"),
    };
    let seed = told("SEED").map_or_else(register::now, |seed| seed.parse().expect("SEED is a number"));
    let time = told("DURATION").map_or(Ok(Duration::from_secs(600)), |time| humantime::parse_duration(&time));
    (backend, seed, time.expect("DURATION is like 600s"))
}

#[test]
#[ignore = "takes as long as it is told: make nemesis"]
fn at_length() {
    let (backend, seed, time) = told();
    let (fleet, run) = nemesis(backend, seed, time);
    if backend == Backend::Etcd("etcd") {
        // Its own leases aren't to be trusted: what it shows is told, and promised to nobody.
        return;
    }
    holds(&fleet);
    let needless = run.needless(&fleet.judge);
    assert!(needless.is_empty(), "{needless:?} stepped down without need; logs are in {:?}", fleet.keep_logs());
    if time >= Duration::from_secs(600) {
        let failovers = fleet.judge.leaderships() - 1;
        assert!(failovers >= 30, "{failovers} failovers");
        let counts = counts(run.struck.iter().map(|blow| blow.kind));
        for kind in Kind::of(backend) {
            assert!(counts.get(&kind).is_some_and(|count| *count >= 2), "{kind:?} came less than twice: {counts:?}");
        }
    }
}

/// With a rule broken two must lead at once, or the judge is blind, or nothing ever tested the rule.
#[cfg(feature = "sabotage")]
mod controls {
    use super::*;

    /// By these kinds alone: what the rule is for, and what makes another lead. Of all kinds two minutes deal one in two.
    fn finds_two(backend: Backend, sabotage: &str, kinds: Vec<Kind>) {
        let (_, seed, time) = told();
        let mut fleet = Fleet::start(backend, MIXED, Some(sabotage), Witnesses::None);
        let found = |fleet: &Fleet| !fleet.judge.overlaps().is_empty();
        let run = torment(&mut fleet, kinds, seed, time, found);
        println!("without {sabotage}:");
        report(&fleet, backend, &run);
        assert!(found(&fleet), "{sabotage} was broken and nobody noticed");
    }

    #[test]
    #[ignore = "takes minutes: make nemesis-controls"]
    fn without_the_guard_on_consul() {
        finds_two(Backend::Consul, "guard", vec![Kind::StopAgent, Kind::StepDown]);
    }

    #[test]
    #[ignore = "takes minutes: make nemesis-controls"]
    fn without_the_guard_on_etcd() {
        finds_two(Backend::Etcd("etcd35"), "guard", vec![Kind::StopAgent, Kind::StepDown]);
    }

    #[test]
    #[ignore = "takes minutes: make nemesis-controls"]
    fn with_a_lease_counted_by_the_sessions_ttl_on_consul() {
        finds_two(Backend::Consul, "ttl", vec![Kind::FreeLock, Kind::LateAcquire, Kind::StepDown]);
    }

    #[test]
    #[ignore = "takes minutes: make nemesis-controls"]
    fn without_comparing_the_index_on_consul() {
        finds_two(Backend::Consul, "check-index", vec![Kind::LateAcquire, Kind::StepDown]);
    }

    #[test]
    #[ignore = "takes minutes: make nemesis-controls"]
    fn with_a_stopped_guard_that_nobody_sees_on_etcd() {
        let kinds = vec![Kind::StopOneByOne, Kind::KillLeader, Kind::StepDown];
        finds_two(Backend::Etcd("etcd35"), "heartbeat", kinds);
    }

    #[test]
    #[ignore = "takes minutes: make nemesis-controls"]
    fn with_consul_taken_to_have_waited_for_a_lock_freed_by_hand() {
        finds_two(Backend::Consul, "hold-off", vec![Kind::FreeLock, Kind::StepDown]);
    }

    #[test]
    #[ignore = "takes minutes: make nemesis-controls"]
    fn with_leftovers_of_a_hook_taken_for_gone() {
        for backend in [Backend::Local, Backend::Etcd("etcd35")] {
            finds_two(backend, "leftovers", vec![Kind::StepDown, Kind::Handover, Kind::KillReplica]);
        }
    }
}
