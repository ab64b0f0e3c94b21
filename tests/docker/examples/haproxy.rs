//! config-examples/haproxy: writes and reads by one address each, and a backup by one of the replicas.

use super::SOON;
use crate::support::compose::{Project, Store, docker, within};

const SERVERS: [&str; 3] = ["pg1", "pg2", "pg3"];

/// What psql says in a container that has it, by this port of HAProxy's.
fn asks(project: &Project, client: &str, port: &str, sql: &str) -> Option<String> {
    let password =
        std::fs::read_to_string(project.folder().join("../postgres/password")).expect("the README makes one");
    let to = format!("host=haproxy port={port} user=postgres connect_timeout=2 password={}", password.trim());
    let answer = project.exec(client, &["timeout", "10", "psql", "-XAtq", "-d", &to, "-c", sql]);
    (!answer.is_empty()).then_some(answer)
}

/// Who answers there, if its role is this.
fn answers(project: &Project, client: &str, port: &str, replica: &str) -> Option<String> {
    let said = asks(project, client, port, "SELECT pg_is_in_recovery(), host(inet_server_addr())")?;
    Some(said.strip_prefix(replica)?.strip_prefix('|')?.to_owned())
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn haproxy_leads_to_whoever_has_the_role_and_one_replica_takes_the_backup() {
    let project = Project::up_on("postgres", "haproxy", Some(Store::Consul));
    let first = within(&project, SOON, "the primary answers", || answers(&project, "pg1", "5432", "f"));
    within(&project, SOON, "a replica answers", || answers(&project, "pg1", "5433", "t"));

    let leader = within(&project, SOON, "somebody leads", || {
        let said = project.exec("pg1", &["pilotfish", "leader"]);
        SERVERS.into_iter().find(|server| said.starts_with(server))
    });
    // Both replicas come to it at the same time of the night.
    let replicas: Vec<&str> = SERVERS.into_iter().filter(|server| *server != leader).collect();
    std::thread::scope(|scope| {
        for replica in &replicas {
            scope.spawn(|| project.exec(replica, &["pilotfish", "task", "run", "backup"]));
        }
    });
    let night = within(&project, SOON, "a backup is complete", || {
        Some(project.exec(leader, &["pilotfish", "kv", "get", "db/backup"])).filter(|night| !night.is_empty())
    });
    let taker = project.exec(leader, &["pilotfish", "kv", "get", &format!("db/backup-of/{night}")]);
    assert!(replicas.contains(&&*taker), "{taker:?}");
    assert_eq!(project.exec(leader, &["ls", "/backup"]), night);

    docker(&["kill", &project.container(leader)]);
    let second = within(&project, SOON, "the next primary answers", || {
        answers(&project, replicas[0], "5432", "f").filter(|server| *server != first)
    });
    within(&project, SOON, "the other one is its replica", || {
        answers(&project, replicas[0], "5433", "t").filter(|server| *server != second && *server != first)
    });
}
