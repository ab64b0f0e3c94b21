//! The examples of config-examples/ that keep data, as they are: built, brought up by their own compose files, written to
//! all the time, and struck by all that befalls containers. What was acknowledged must be there in the end, nobody's hand
//! helps, and no two servers take writes at once.
//!
//! `make e2e` kills one primary of each, `make failovers-short` runs each example's short form. `make failovers
//! EXAMPLE=postgres [STORE=etcd] [KINDS=killed,paused] [N=100] [SEED=1]` deals the kinds and shows the seconds without
//! a write by kind; `DURATION=90m` ends it earlier, `WITHIN=10m` is for a machine that has too much else to do.
//! `EXAMPLE=patroni` and `patroni-sync` are what PostgreSQL is measured beside: what these lose, and what hands they need, is
//! told, and doesn't fail it.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests: this drives the docker command")]

mod faults;
mod fleet;
mod hooks;
mod judge;

use std::time::{Duration, Instant};

use faults::{Deck, Kind};
use fleet::{Example, Fleet, MARIADB, POSTGRES, REDIS};
use judge::{Journal, Table};

use crate::support::compose::Store;

/// How long an example may take to be whole again after a fault is over, nobody helping it.
fn heals_within() -> Duration {
    time_from_env("WITHIN").unwrap_or(Duration::from_secs(180))
}

fn time_from_env(name: &str) -> Option<Duration> {
    let text = from_env::<String>(name)?;
    Some(humantime::parse_duration(&text).unwrap_or_else(|_| panic!("{name} is like 90m, not {text}")))
}

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} makes no sense")))
}

#[test]
#[ignore = "takes hours and a Docker engine: make failovers"]
fn at_length() {
    let name = from_env::<String>("EXAMPLE").unwrap_or_else(|| "postgres".to_owned());
    let example = Example::named(&name).unwrap_or_else(|| panic!("there is no example {name} that keeps data"));
    let kinds = match from_env::<String>("KINDS") {
        Some(names) => {
            names.split(',').map(|name| Kind::named(name).unwrap_or_else(|| panic!("no kind {name}"))).collect()
        }
        None => Kind::all(example.remembers),
    };
    let store = from_env::<String>("STORE").unwrap_or_else(|| "consul".to_owned());
    let store = Store::named(&store).unwrap_or_else(|| panic!("no elections are held on {store}"));
    let count = from_env("N").unwrap_or(kinds.len());
    play(example, store, &kinds, (count, time_from_env("DURATION")), from_env("SEED").unwrap_or(1));
}

#[test]
#[ignore = "needs a Docker engine: make failovers-short runs it"]
fn postgres_heals_itself_and_loses_nothing() {
    let kinds = ["killed", "main-killed", "stopped", "restarted", "paused", "cut-off", "no-store", "all-killed"];
    short(&POSTGRES, &[&kinds[..], &["stale-alone", "wiped"]].concat());
}

#[test]
#[ignore = "needs a Docker engine: make failovers-short runs it"]
fn mariadb_heals_itself_and_loses_nothing() {
    short(&MARIADB, &["killed", "main-killed", "stopped", "cut-off", "no-store", "all-killed", "wiped"]);
}

/// All killed at once isn't among them: its README says what that may cost.
#[test]
#[ignore = "needs a Docker engine: make failovers-short runs it"]
fn redis_heals_itself_and_loses_nothing_that_a_replica_had() {
    short(&REDIS, &["killed", "main-killed", "stopped", "restarted", "paused", "cut-off"]);
}

fn short(example: &'static Example, kinds: &[&str]) {
    let kinds: Vec<Kind> = kinds.iter().map(|name| Kind::named(name).expect("a kind")).collect();
    play(example, Store::Consul, &kinds, (kinds.len(), None), 1);
}

/// The one blow of each that `make e2e` has time for.
mod smoke {
    use super::*;

    #[test]
    #[ignore = "needs a Docker engine: make e2e runs it"]
    fn redis_has_another_primary_when_one_is_killed() {
        short(&REDIS, &["killed"]);
    }

    #[test]
    #[ignore = "needs a Docker engine: make e2e runs it"]
    fn postgres_has_another_primary_when_one_is_killed() {
        short(&POSTGRES, &["killed"]);
    }

    #[test]
    #[ignore = "needs a Docker engine: make e2e runs it"]
    fn mariadb_has_another_primary_when_one_is_killed() {
        short(&MARIADB, &["killed"]);
    }
}

/// How many want a processor, over the last minute: what the seconds are to be read with.
fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    averages.split(' ').next().unwrap_or_default().to_owned()
}

/// Strikes `most` times, or until the time is over, and judges.
fn play(example: &'static Example, store: Store, kinds: &[Kind], (most, time): (usize, Option<Duration>), seed: u64) {
    println!("{} on {}: {most} failovers, seed {seed}", example.name, store.service());
    let begin = Instant::now();
    let fleet = Fleet::up(example, store);
    fleet.becomes_whole(heals_within());
    let mut writers = fleet.write(3);
    let mut deck = Deck::new(kinds, seed);
    let mut table = Table::default();
    let (mut count, mut hands) = (0, 0);
    while count < most && time.is_none_or(|time| begin.elapsed() < time) {
        count += 1;
        let kind = deck.deal();
        let begun = judge::now();
        let at = Instant::now();
        let victim = kind.strike(&fleet, &mut deck);
        let struck = at.elapsed();
        if example.keeper.promises() {
            fleet.becomes_whole(heals_within());
        } else if let Err(missing) = fleet.heals(heals_within()) {
            println!("     a hand: {missing}");
            hands += 1;
            fleet.copy_replicas_anew();
            fleet.becomes_whole(heals_within());
        }
        // Writes that were held up have an end, too.
        std::thread::sleep(Duration::from_secs(2));
        let journal = Journal::read(&writers.journals());
        let gap = journal.longest_pause(begun, judge::now());
        let (lost, stale) = (journal.lost(&fleet.rows()).len(), journal.of_two_primaries().len());
        println!(
            "{count:4} {:<14} {victim:<10} struck for {:5.1} s, whole after {:5.1} s, {:5.1} s without a write; \
             in all {} rows, lost {lost}, from two primaries {stale}; load {}",
            kind.name,
            struck.as_secs_f64(),
            at.elapsed().as_secs_f64() - 2.0,
            gap.as_secs_f64(),
            journal.len(),
            load(),
        );
        table.add(kind.name, gap);
        writers.must_run();
    }
    writers.stop();
    let journal = Journal::read(&writers.journals());
    let lost = journal.lost(&fleet.rows());
    let stale = journal.of_two_primaries();
    println!(
        "{table}\n{count} failovers, hands {hands}, acknowledged {}, lost {}, from two primaries {}",
        journal.len(),
        lost.len(),
        stale.len()
    );
    assert!(journal.len() > 100 * count, "too few were acknowledged to show anything: {}", journal.len());
    if !example.keeper.promises() {
        return;
    }
    assert!(lost.is_empty(), "acknowledged and gone: {:?}", &lost[..lost.len().min(20)]);
    assert!(stale.is_empty(), "acknowledged by a server that led no more: {:?}", &stale[..stale.len().min(20)]);
}
