//! What a Consul agent was told, and what its servers have: only that is in the catalog.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::process::Command;
use std::time::Duration;

use pilotfish::catalog::Backend;
use pilotfish::config::Service;
use pilotfish::supervisor::vocabulary::ServiceStatus;
use tokio::time::Instant;

use crate::backend::consul::{SOON, open, registration, service, settings};
use crate::support::lab::Lab;
use crate::support::servers::{Consul, ConsulCluster, Relay, eventually, program};

/// Heartbeats until it is so.
async fn beats(backend: &Backend, service: &Service, within: Duration, so: impl Fn() -> bool) -> Duration {
    let (begun, mut last) = (Instant::now(), None);
    while !so() {
        assert!(begun.elapsed() < within, "it isn't so within {within:?}: {last:?}");
        // Servers that were just restored may have no leader for a moment.
        last = Some(backend.publish(&registration(service, ServiceStatus::Passing)).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn what_is_removed_from_the_servers_catalog_is_back_with_a_heartbeat_soon() {
    let consul = Consul::shared();
    let backend = open(settings(consul.http));
    let mut service = service("removed");
    service.ttl = Duration::from_secs(1);
    let there = || consul.ask("GET", "/v1/health/service/removed?passing", "").1.contains("removed-1");
    beats(&backend, &service, SOON, there).await;
    let gone = format!(r#"{{"Node": "{}", "ServiceID": "removed-1"}}"#, consul.node);
    assert_eq!(consul.ask("PUT", "/v1/catalog/deregister", &gone).0, 200);
    assert!(!there());
    beats(&backend, &service, SOON, there).await;
}

/// The agent puts that right by itself a minute later.
#[tokio::test]
async fn what_a_restored_snapshot_took_away_or_brought_back_old_is_put_right_within_ten_seconds() {
    let consul = Consul::start();
    let backend = open(settings(consul.http));
    let (service, other) = (service("restored"), service("restored-other"));
    let snapshot = tempfile::tempdir().unwrap();
    let run = |order: &str, name: &str| {
        let address = format!("-http-addr=http://{}", consul.http);
        let done = Command::new(program("consul"))
            .args(["snapshot", order, &address])
            .arg(snapshot.path().join(name))
            .output()
            .unwrap();
        assert!(done.status.success(), "{order} {name}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let passing = || consul.ask("GET", "/v1/health/service/restored?passing", "").1.contains("restored-1");
    let known = || consul.ask("GET", "/v1/catalog/service/restored", "").1.contains("restored-1");
    run("save", "without");
    let mut old = service.clone();
    old.tags = vec!["primary".to_owned()];
    backend.publish(&registration(&old, ServiceStatus::Critical)).await.unwrap();
    run("save", "critical");
    backend.publish(&registration(&old, ServiceStatus::Passing)).await.unwrap();
    run("save", "old-tags");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    // So that there is something to go back from.
    backend.publish(&registration(&other, ServiceStatus::Passing)).await.unwrap();
    beats(&backend, &service, SOON, passing).await;
    // Perhaps the agent compares just then, and has it right before anybody looks.
    let restored = |name: &str, undone: &dyn Fn() -> bool| {
        let undone = (0..5).any(|_| {
            run("restore", name);
            undone()
        });
        assert!(undone, "{name} undoes nothing");
    };
    restored("without", &|| !known());
    let gone = beats(&backend, &service, SOON, passing).await;
    restored("critical", &|| known() && !passing());
    let critical = beats(&backend, &service, SOON, passing).await;
    // It is known where it is, and how far the store is.
    let begun = Instant::now();
    beats(&backend, &service, SOON, || begun.elapsed() > Duration::from_secs(5)).await;
    let primary = || consul.ask("GET", "/v1/catalog/service/restored", "").1.contains("primary");
    restored("old-tags", &primary);
    let tags = beats(&backend, &service, SOON, || !primary()).await;
    eprintln!("back after {gone:?}, passing after {critical:?}, its tags after {tags:?}");
}

#[tokio::test]
async fn an_agent_without_servers_takes_what_is_in_no_catalog_and_that_is_told_until_it_has_one() {
    let (server, agent) = (Consul::start(), Consul::without_servers());
    let backend = open(settings(agent.http));
    let service = service("unheard");
    for _ in 0..3 {
        let error = backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap_err();
        assert!(error.to_string().contains("consul's agent has taken unheard-1, but can't ask its servers"), "{error}");
    }
    assert_eq!(agent.ask("GET", "/v1/agent/health/service/id/unheard-1", "").0, 200, "the agent says that it passes");
    agent.join(&server);
    let deadline = Instant::now() + 3 * SOON;
    while let Err(error) = backend.publish(&registration(&service, ServiceStatus::Passing)).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let there = || server.ask("GET", "/v1/health/service/unheard?passing", "").1.contains("unheard-1");
    assert!(there(), "what is said to be in the catalog is there");
    backend.withdraw(&service).await.unwrap();
    assert!(!there());
}

#[tokio::test]
async fn what_an_agent_without_servers_removes_is_not_known_to_be_out_of_the_catalog() {
    let agent = Consul::without_servers();
    let backend = open(settings(agent.http));
    let service = service("unremoved");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap_err();
    let error = backend.withdraw(&service).await.unwrap_err().to_string();
    assert!(error.contains("has removed unremoved-1, but can't ask its servers whether it is out"), "{error}");
}

#[tokio::test]
async fn a_status_that_servers_without_a_leader_never_had_is_not_taken_for_published() {
    let mut cluster = ConsulCluster::start_with_agent();
    let agent = cluster.http[3];
    let backend = open(settings(agent));
    let service = service("turned");
    backend.publish(&registration(&service, ServiceStatus::Passing)).await.unwrap();
    cluster.down(0);
    cluster.down(1);
    let deadline = Instant::now() + 6 * SOON;
    let mut told = Vec::new();
    // Perhaps the one that is left hasn't noticed yet.
    while told.len() < 3 {
        assert!(Instant::now() < deadline, "{told:?}");
        match backend.publish(&registration(&service, ServiceStatus::Critical)).await {
            Ok(_) => panic!("published, after {told:?}"),
            Err(error) => told.push(error.to_string()),
        }
    }
    cluster.spawn(0);
    let deadline = Instant::now() + 6 * SOON;
    while let Err(error) = backend.publish(&registration(&service, ServiceStatus::Critical)).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (_, passing) = cluster.ask(2, "GET", "/v1/health/service/turned?passing", "").unwrap();
    assert!(!passing.contains("turned-1"), "{passing}");
}

#[test]
fn the_status_says_that_an_entry_is_not_in_the_catalog_yet_and_the_log_says_so_once() {
    let agent = Consul::without_servers();
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n\
         [[service]]\nname = \"unheard\"\nid = \"unheard-1\"\nport = 80\naddress = [\"static:192.0.2.7\"]\n\
         ttl = \"3s\"\n[stop]\nwithin = \"2s\"\n[catalog]\nbackend = \"consul\"\naddress = \"http://{}\"\n",
        agent.http
    ));
    let container = lab.run();
    let words = "consul's agent has taken unheard-1, but can't ask its servers";
    let mut shown = String::new();
    eventually("the status says so", SOON, || {
        shown = lab.ask(&["status"]).1;
        shown.contains(words)
    });
    assert!(shown.contains("not registered"), "{shown}");
    // Some heartbeats later still, and no second line.
    std::thread::sleep(Duration::from_secs(4));
    assert!(lab.ask(&["status"]).1.contains(words));
    let log = container.stderr();
    assert_eq!(log.matches(words).count(), 1, "{log}");
    assert!(!log.contains("catalog.published"), "{log}");
}

#[test]
fn an_address_that_leads_now_to_one_agent_now_to_another_is_told_once_with_the_cause() {
    let cluster = ConsulCluster::start();
    let (ready, relay) = std::sync::mpsc::channel();
    let first = cluster.http[0];
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            ready.send(Relay::to(first).await).unwrap();
            // As long as the test.
            std::future::pending::<()>().await;
        });
    });
    let relay = relay.recv().unwrap();
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n\
         [[service]]\nname = \"balanced\"\nid = \"balanced-1\"\nport = 80\naddress = [\"static:192.0.2.7\"]\n\
         ttl = \"6s\"\n[catalog]\nbackend = \"consul\"\naddress = \"http://{}\"\n",
        relay.at
    ));
    let container = lab.run();
    let words = "address leads now to consul agent s";
    let begun = std::time::Instant::now();
    let mut turn = 0;
    while !container.stderr().contains(words) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", container.stderr());
        turn += 1;
        relay.lead_to(Some(cluster.http[turn % 2]));
        std::thread::sleep(Duration::from_millis(2_500));
        // The agent that lost its entry compares itself with the servers once a minute; a check that turns, at once.
        if turn == 4 {
            for agent in [0, 1] {
                for check in ["alive", "health"] {
                    cluster.ask(agent, "PUT", &format!("/v1/agent/check/fail/balanced-1:{check}"), "");
                }
            }
        }
    }
    for _ in 0..4 {
        turn += 1;
        relay.lead_to(Some(cluster.http[turn % 2]));
        std::thread::sleep(Duration::from_millis(2_500));
    }
    let log = container.stderr();
    assert_eq!(log.matches(words).count(), 1, "{log}");
}
