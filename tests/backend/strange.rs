//! What nobody of ours wrote: values that are no text, entries that are none, and more than one answer holds.

use std::time::Duration;

use pilotfish::catalog::{ObservationSender, bounds};
use pilotfish::config::Query;
use pilotfish::supervisor::vocabulary::{Event, Follow, Observation, ServiceStatus};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::backends::{Etcd35, OneConsul};
use super::bench::{Agent, Bench, agent_on, instances_of, run, service};
use super::consul::registration;
use super::local::SharedDirectory;
use crate::support::servers::http;

const BINARY_IN_BASE64: &str = "/wD+";

fn to_consul(bench: &OneConsul, key: &str) {
    let operation = json!([{"KV": {"Verb": "set", "Key": key, "Value": BINARY_IN_BASE64}}]);
    let (status, body) = bench.server().ask("PUT", "/v1/txn", &operation.to_string());
    assert_eq!(status, 200, "{body}");
}

fn to_etcd(bench: &Etcd35, key: &str, value: &str) {
    use base64::Engine;
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    let body = json!({"key": key, "value": value}).to_string();
    let at = bench.server().client();
    let (status, body) = http(at, "POST", "/v3/kv/put", &[], &body).expect("etcd answers");
    assert_eq!(status, 200, "{body}");
}

/// The binary key costs itself only, and is enough for who waits for it.
async fn a_binary_value_costs_its_own_key_only(agent: &Agent, plant: impl Fn(&str)) {
    agent.put("app/a", "1").await;
    let mut below = agent.follow(Query::KeyPrefix { prefix: "app/".to_owned() });
    assert_eq!(below.keys().await, [("app/a".to_owned(), "1".to_owned())]);
    plant("app/binary");
    agent.put("app/b", "2").await;
    let seen = below.keys().await;
    assert_eq!(seen, [("app/a".to_owned(), "1".to_owned()), ("app/b".to_owned(), "2".to_owned())]);
    let one = Query::Key { key: "app/binary".to_owned() };
    assert!(agent.follow(one.clone()).told().await.unwrap_err().contains("UTF-8"));
    let (sender, mut seen) = mpsc::channel(8);
    let (backend, sightings) = (agent.backend.clone(), ObservationSender::new(sender, Follow::WaitFor(0)));
    let waits = tokio::spawn(async move { backend.follow(&one, sightings).await });
    let Some(Event::Observed { seen: Ok(Observation::Key(Some(_))), .. }) = seen.recv().await else {
        panic!("a key that is there is no reason to wait")
    };
    waits.abort();
}

#[test]
fn a_binary_value_on_consul_costs_its_own_key_only() {
    run::<OneConsul>(async |bench| {
        a_binary_value_costs_its_own_key_only(&agent_on(&bench.address()), |key| to_consul(bench, key)).await;
    });
}

#[test]
fn a_binary_value_on_etcd_costs_its_own_key_only() {
    run::<Etcd35>(async |bench| {
        let plant = |key: &str| to_etcd(bench, &format!("pilotfish/keys/{key}"), BINARY_IN_BASE64);
        a_binary_value_costs_its_own_key_only(&agent_on(&bench.address()), plant).await;
    });
}

#[test]
fn a_binary_value_in_a_shared_directory_costs_its_own_key_only() {
    run::<SharedDirectory>(async |bench| {
        let plant = |key: &str| {
            std::fs::write(bench.path().join("keys").join(key.replace('/', "%2F")), [0xff, 0x00, 0xfe]).expect("ours");
        };
        a_binary_value_costs_its_own_key_only(&agent_on(&bench.address()), plant).await;
    });
}

#[test]
fn an_entry_on_consul_with_an_impossible_port_or_address_costs_itself_only() {
    run::<OneConsul>(async |bench| {
        let agent = agent_on(&bench.address());
        agent.pass(&service("web", "web-1")).await;
        let mut seen = agent.follow(instances_of("web"));
        assert_eq!(seen.ids().await, ["web-1"]);
        let register = |id: &str, address: &str, port: i64| {
            let entry = json!({"ID": id, "Name": "web", "Address": address, "Port": port}).to_string();
            let (status, body) = bench.server().ask("PUT", "/v1/agent/service/register", &entry);
            assert_eq!(status, 200, "{body}");
        };
        register("evil-port", "10.0.0.1", 70000);
        register("evil-sign", "10.0.0.1", -1);
        register("evil-words", "127.0.0.1:1; } server { root /; } upstream x { server 127.0.0.1", 80);
        agent.pass(&service("web", "web-2")).await;
        assert_eq!(seen.until_ids(&["web-1", "web-2"], Duration::from_secs(10)).await.last().unwrap().len(), 2);
    });
}

#[test]
fn an_id_on_several_of_consuls_nodes_is_as_many_instances() {
    run::<OneConsul>(async |bench| {
        for node in ["n1", "n2"] {
            let entry =
                json!({"Node": node, "Address": "10.0.0.1", "Service": {"Service": "redis", "ID": "redis", "Port": 1}});
            let (status, body) = bench.server().ask("PUT", "/v1/catalog/register", &entry.to_string());
            assert_eq!(status, 200, "{body}");
        }
        let seen = agent_on(&bench.address()).follow(instances_of("redis")).instances().await;
        let nodes: Vec<_> = seen.iter().map(|instance| (instance.id.as_str(), instance.node.as_deref())).collect();
        assert_eq!(nodes, [("redis", Some("n1")), ("redis", Some("n2"))]);
    });
}

/// More than a gRPC client takes in one answer, from the first read on and by the watch; over the bound it is told.
#[test]
fn a_prefix_larger_than_an_answer_of_etcds_is_seen_and_one_larger_than_the_bound_is_told() {
    run::<Etcd35>(async |bench| {
        let agent = agent_on(&bench.address());
        let large = "x".repeat(1024 * 1024);
        for n in 0..6 {
            agent.put(&format!("app/{n}"), &large).await;
        }
        let mut seen = agent.follow(Query::KeyPrefix { prefix: "app/".to_owned() });
        assert_eq!(seen.keys().await.len(), 6);
        for n in 6..bounds::MOST_BYTES / large.len() {
            agent.put(&format!("app/{n}"), &large).await;
        }
        let error = loop {
            match seen.told().await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(error.contains("16 MiB") && error.contains("stays"), "{error}");
    });
}

/// Watches may take all connections that the agent gives one client, and the heartbeat has its own.
#[test]
fn watches_that_take_all_of_consuls_connections_keep_no_heartbeat_out_and_take_turns() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let consul =
            crate::support::servers::Consul::start_with(r#"{"limits": {"http_max_conns_per_client": 12}}"#, "");
        let agent = agent_on(&format!("consul={}", consul.http));
        // A leader's are two.
        let leader = |n| Query::Leader { election: format!("dep-{n}") };
        let mut leaders: Vec<_> = (0..8).map(|n| agent.follow(leader(n))).collect();
        let mut watches: Vec<_> = (0..8).map(|n| agent.follow(instances_of(&format!("dep-{n}")))).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        for _ in 0..20 {
            agent.pass(&service("web", "web-1")).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "a heartbeat waited: {:?}", begun.elapsed());
        // Each has its turn, be it late, and none takes the limit for an outage.
        for watch in watches.iter_mut().chain(&mut leaders) {
            let seen = watch.told_within(Duration::from_secs(90)).await;
            assert_eq!(seen, Ok(Observation::Instances([].into())));
        }
        // And another container of this address gets its heartbeats through.
        let other = agent_on(&format!("consul={}", consul.http));
        let registration = registration(&service("web", "web-2"), ServiceStatus::Passing);
        let deadline = Instant::now() + Duration::from_secs(90);
        while let Err(error) = other.backend.publish(&registration).await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

/// All connections of a Consul that dies are cut, young ones too: that isn't a limit.
#[test]
fn a_consul_that_dies_while_questions_are_young_is_not_taken_for_a_full_one() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut consul = crate::support::servers::Consul::start();
        let agent = agent_on(&format!("consul={}", consul.http));
        let keys: Vec<String> = (0..6).map(|n| format!("young/{n}")).collect();
        let key = |key: &String| Query::Key { key: key.clone() };
        let mut watches: Vec<_> = keys.iter().map(|name| agent.follow(key(name))).collect();
        for watch in &mut watches {
            assert_eq!(watch.told().await, Ok(Observation::Key(None)));
        }
        for name in &keys {
            agent.put(name, "young").await;
        }
        for watch in &mut watches {
            assert_eq!(watch.value().await.as_deref(), Some("young"));
        }
        consul.down();
        tokio::time::sleep(Duration::from_secs(1)).await;
        consul.up();
        for (turn, patience) in [("back", 60), ("news", 4)] {
            for (name, watch) in keys.iter().zip(&mut watches) {
                agent.put(name, turn).await;
                let seen = Ok(Observation::Key(Some(turn.to_owned())));
                while watch.told_within(Duration::from_secs(patience)).await != seen {}
            }
        }
    });
}
