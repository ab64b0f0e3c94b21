//! What a lock costs when its holder is killed and nobody but a TTL notices: a Consul session with a TTL (the least,
//! 10 s) and the same lock delay, a lease of etcd with the same TTL, each renewed as is usual.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::faults::nemesis::fleet::{Engine, LEASE};
use crate::support::servers::{ConsulCluster, EtcdCluster};

/// The least that Consul takes.
const SESSION_TTL: Duration = Duration::from_secs(10);

/// Longer than any TTL doubled, and a lock delay.
const LONGEST: Duration = Duration::from_secs(60);

/// Milliseconds from a holder's end until somebody else holds, as many as asked for, all side by side.
pub fn samples(engine: &Engine, count: usize) -> Option<(&'static str, Vec<f64>)> {
    let side_by_side = |one: &(dyn Fn(usize) -> f64 + Sync)| {
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..count).map(|index| scope.spawn(move || one(index))).collect();
            all.into_iter().map(|one| one.join().expect("it was measured")).collect()
        })
    };
    // Where in its period a holder is when it dies: evenly spread.
    let lived = |period: Duration, index: usize| period * index as u32 / count as u32;
    match engine {
        Engine::Consul(consul) => {
            let one = |index| session(consul, index, lived(SESSION_TTL / 2, index));
            Some(("beside: a plain session's holder is killed", side_by_side(&one)))
        }
        Engine::Etcd(etcd) => {
            let one = |index| lease(etcd, index, lived(LEASE / 3, index));
            Some(("beside: a plain lease's holder is killed", side_by_side(&one)))
        }
        Engine::Local(_) => None,
    }
}

fn done(consul: &ConsulCluster, method: &str, path: &str, body: &str) -> Value {
    let (status, body) = consul.ask(0, method, path, body).expect("consul answers");
    assert_eq!(status, 200, "{method} {path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

fn session(consul: &ConsulCluster, index: usize, lived: Duration) -> f64 {
    let key = format!("/v1/kv/plain/{index}");
    let open = || {
        let ask = serde_json::json!({
            "TTL": format!("{}s", SESSION_TTL.as_secs()), "LockDelay": format!("{}s", LEASE.as_secs()), "NodeChecks": [],
        });
        done(consul, "PUT", "/v1/session/create", &ask.to_string())["ID"].as_str().expect("an ID").to_owned()
    };
    let held = |session: &str| done(consul, "PUT", &format!("{key}?acquire={session}"), "") == Value::Bool(true);
    let holder = open();
    assert!(held(&holder));
    done(consul, "PUT", &format!("/v1/session/renew/{holder}"), "");
    std::thread::sleep(lived);
    let (since, mut successor, mut renewed) = (Instant::now(), open(), Instant::now());
    while !held(&successor) {
        assert!(since.elapsed() < LONGEST, "nobody got it");
        std::thread::sleep(Duration::from_millis(50));
        if renewed.elapsed() > SESSION_TTL / 2 {
            if consul
                .ask(0, "PUT", &format!("/v1/session/renew/{successor}"), "")
                .is_none_or(|(status, _)| status != 200)
            {
                successor = open();
            }
            renewed = Instant::now();
        }
    }
    since.elapsed().as_secs_f64() * 1e3
}

fn lease(etcd: &EtcdCluster, index: usize, lived: Duration) -> f64 {
    let ctl = |words: &[&str]| etcd.ctl(0, words).expect("etcd answers");
    let (key, ttl) = (format!("plain/{index}"), LEASE.as_secs().to_string());
    let granted = ctl(&["lease", "grant", &ttl]);
    // "lease 694d8a0b1c granted with TTL(7s)"
    let holder = granted.split(' ').nth(1).expect("an ID").to_owned();
    ctl(&["put", &format!("--lease={holder}"), &key, "held"]);
    ctl(&["lease", "keep-alive", "--once", &holder]);
    std::thread::sleep(lived);
    let since = Instant::now();
    while !ctl(&["get", &key]).is_empty() {
        assert!(since.elapsed() < LONGEST, "it stays");
        std::thread::sleep(Duration::from_millis(100));
    }
    since.elapsed().as_secs_f64() * 1e3
}
