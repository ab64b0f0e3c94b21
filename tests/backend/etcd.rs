//! etcd, real: what only etcd does, beside the contract that all backends keep.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use pilotfish::catalog::Backend;
use pilotfish::catalog::election::{AcceptedLoss, CandidateSettings, LockClient};
use pilotfish::config;
use pilotfish::config::backends::{Endpoint, Etcd as Settings, Login, SecretSource, Tls};
use pilotfish::config::{Query, Service};
use pilotfish::supervisor::vocabulary::{Observation, ServiceStatus};

use crate::backend::bench::{Agent, Follower, instances_of, service};
use crate::support::servers::{Etcd, EtcdCluster, Relay};

fn settings(members: &[SocketAddr]) -> Settings {
    let endpoint = |at: &SocketAddr| Endpoint { https: false, host: at.ip().to_string(), port: at.port() };
    Settings { endpoints: members.iter().map(endpoint).collect(), login: None, tls: Tls::default() }
}

fn agent(settings: Settings) -> Agent {
    let backend = config::Backend::Etcd(Box::new(settings));
    let config = config::Catalog { backend, prefix: "pilotfish".to_owned() };
    Agent { backend: Arc::new(Backend::open(&config).expect("a good config")) }
}

#[tokio::test]
async fn an_id_that_a_later_agent_took_is_told_and_not_fought_over() {
    let etcd = Etcd::start("etcd35");
    let (first, second) = (agent(settings(&[etcd.client()])), agent(settings(&[etcd.client()])));
    let (mine, mut theirs) = (service("web", "web-1"), service("web", "web-1"));
    theirs.port = 81;
    first.pass(&mine).await;
    second.pass(&theirs).await;
    let error = first.try_publish(&mine, ServiceStatus::Passing, "ok").await.unwrap_err();
    assert!(error.contains("two containers have the same service id"), "{error}");
    second.pass(&theirs).await;
    let mut seen = first.follow(instances_of("web"));
    assert_eq!(seen.instances().await[0].port, 81);
    // The other one has left, and the id is free again.
    second.withdraw(&theirs).await;
    assert!(seen.ids().await.is_empty());
    first.pass(&mine).await;
    assert_eq!(seen.instances().await[0].port, 8000);
}

#[tokio::test]
async fn a_cluster_that_was_wiped_is_told_again_by_the_next_heartbeat() {
    let mut etcd = Etcd::start("etcd");
    let agent = agent(settings(&[etcd.client()]));
    let web = service("web", "web-1");
    agent.pass(&web).await;
    etcd.down();
    etcd.wipe();
    etcd.up();
    agent.pass(&web).await;
    assert_eq!(agent.follow(instances_of("web")).ids().await, ["web-1"]);
}

#[tokio::test]
async fn a_silent_endpoint_costs_one_call_its_deadline_and_the_others_nothing() {
    // Its backlog takes connections, and nobody answers them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let etcd = Etcd::start("etcd35");
    let agent = agent(settings(&[silent.local_addr().unwrap(), etcd.client()]));
    agent.put("first", "1").await;
    let start = tokio::time::Instant::now();
    for turn in 0..20 {
        agent.put("key", &turn.to_string()).await;
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_stopped_server_that_still_accepts_is_noticed_within_seconds() {
    let etcd = Etcd::start("etcd");
    let agent = agent(settings(&[etcd.client()]));
    agent.pass(&service("web", "web-1")).await;
    let mut seen = agent.follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    etcd.process().signal(Signal::SIGSTOP);
    let start = tokio::time::Instant::now();
    let error = agent.try_publish(&service("web", "web-1"), ServiceStatus::Passing, "ok").await.unwrap_err();
    assert!(error.contains("didn't answer within 4 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(6));
    // The follower's keep-alive: asked each 5 s, waited for 3 s, and the read that tells takes 4 s.
    seen.told_within(Duration::from_secs(16)).await.unwrap_err();
    etcd.process().signal(Signal::SIGCONT);
    // The first one's lease may have run out meanwhile; its heartbeat puts that right.
    agent.pass(&service("web", "web-1")).await;
    agent.pass(&service("web", "web-2")).await;
    seen.until_ids(&["web-1", "web-2"], Duration::from_secs(10)).await;
}

#[tokio::test]
async fn the_death_of_any_member_of_three_is_no_outage_for_who_follows() {
    let mut cluster = EtcdCluster::start("etcd35");
    let (reader, writer) = (agent(settings(&cluster.clients)), agent(settings(&cluster.clients)));
    let mut seen = reader.follow(instances_of("web"));
    assert!(seen.ids().await.is_empty());
    let mut expected: Vec<String> = Vec::new();
    for turn in 0..3 {
        let leader = cluster.leader().expect("all are up");
        let member = if turn == 1 { (leader + 1) % 3 } else { leader };
        cluster.down(member);
        let death = tokio::time::Instant::now();
        let web = service("web", &format!("web-{turn}"));
        // While the members elect another leader, a heartbeat may fail; the one after it does not.
        while writer.try_publish(&web, ServiceStatus::Passing, "ok").await.is_err() {}
        let election = death.elapsed();
        expected.push(web.id);
        loop {
            match seen.told().await {
                Ok(Observation::Instances(now)) => {
                    let ids: Vec<String> = now.iter().map(|instance| instance.id.clone()).collect();
                    // Neither an empty list nor an old one, whatever a member without a leader knows.
                    assert!(expected.starts_with(&ids) && ids.len() >= turn, "{ids:?} of {expected:?}");
                    if ids == expected {
                        break;
                    }
                }
                Ok(other) => panic!("not instances: {other:?}"),
                // A busy machine's election may be none of a second or two. That is an outage, and is told.
                Err(error) => assert!(election > Duration::from_secs(2), "told after {election:?}: {error}"),
            }
        }
        cluster.spawn(member);
        cluster.wait_ready(member);
    }
}

/// Lets nobody in but `web`, who may do what agents do, `root`, and `nobody`, who may do nothing.
fn lock(etcd: &Etcd) {
    for command in [
        &["role", "add", "agent"][..],
        &["role", "grant-permission", "agent", "--prefix=true", "readwrite", "pilotfish/"],
        &["user", "add", "root:root"],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "web:right"],
        &["user", "grant-role", "web", "agent"],
        &["user", "add", "nobody:right"],
        &["auth", "enable"],
    ] {
        etcd.ctl(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    }
}

fn password_file(password: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, password).unwrap();
    (dir, path)
}

fn login(etcd: &Etcd, username: &str, password: &Path) -> Settings {
    let password = Some(SecretSource::File(password.to_owned()));
    Settings { login: Some(Login { username: username.to_owned(), password }), ..settings(&[etcd.client()]) }
}

#[tokio::test]
async fn a_user_may_be_limited_to_the_prefix_and_a_server_that_forgot_its_tokens_is_asked_for_new_ones() {
    let mut etcd = Etcd::start("etcd");
    lock(&etcd);
    let (_dir, password) = password_file("right\n");
    let as_user = |username: &str| agent(login(&etcd, username, &password));
    let web = service("web", "web-1");

    let error = agent(settings(&[etcd.client()])).try_publish(&web, ServiceStatus::Passing, "ok").await.unwrap_err();
    assert!(error.contains("[catalog] username"), "{error}");
    let error = as_user("nobody").try_publish(&web, ServiceStatus::Passing, "ok").await.unwrap_err();
    assert!(error.contains("permission denied") && error.contains("the user's roles"), "{error}");

    let agent = as_user("web");
    std::fs::write(&password, "wrong").unwrap();
    let error = agent.try_publish(&web, ServiceStatus::Passing, "ok").await.unwrap_err();
    assert!(error.contains("password_file") && !error.contains("wrong"), "{error}");
    std::fs::write(&password, "right").unwrap();
    agent.pass(&web).await;
    let mut seen = agent.follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    agent.put("key", "value").await;

    // Simple tokens live in the server's memory.
    etcd.down();
    etcd.up();
    while agent.try_publish(&web, ServiceStatus::Passing, "ok").await.is_err() {}
    agent.pass(&service("web", "web-2")).await;
    seen.until_ids(&["web-1", "web-2"], Duration::from_secs(10)).await;
    agent.withdraw(&web).await;
}

/// As before the day on which users are made, and after the one on which somebody turns them off.
#[tokio::test]
async fn a_login_is_no_hindrance_where_authentication_is_turned_off_and_counts_from_when_it_is_on() {
    let etcd = Etcd::start("etcd35");
    let (_dir, password) = password_file("right");
    let agent = agent(login(&etcd, "web", &password));
    agent.pass(&service("web", "web-1")).await;
    let mut seen = agent.follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    lock(&etcd);
    let web = service("web", "web-2");
    while agent.try_publish(&web, ServiceStatus::Passing, "ok").await.is_err() {}
    seen.until_ids(&["web-1", "web-2"], Duration::from_secs(10)).await;
}

/// An agent that is let in, what it has registered, and what it sees of it.
async fn logged_in(etcd: &Etcd, password: &Path) -> (Agent, Service, Follower) {
    let agent = agent(login(etcd, "web", password));
    let web = service("web", "web-1");
    agent.pass(&web).await;
    let mut seen = agent.follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    (agent, web, seen)
}

#[tokio::test]
async fn a_password_that_was_changed_is_read_from_its_file_again() {
    for version in ["etcd", "etcd35"] {
        let etcd = Etcd::start(version);
        lock(&etcd);
        let change = |password: &str| {
            let arguments = ["--user=root:root", "user", "passwd", "web", "--interactive=false"];
            etcd.ctl_fed(&arguments, &format!("{password}\n")).unwrap();
        };
        let (_dir, password) = password_file("right");
        let (agent, web, mut seen) = logged_in(&etcd, &password).await;

        change("new");
        let error = agent.try_publish(&web, ServiceStatus::Passing, "ok").await.unwrap_err();
        assert!(error.contains("password_file"), "{version}: {error}");
        std::fs::write(&password, "new\n").unwrap();
        agent.pass(&web).await;

        // The other way round nothing fails.
        std::fs::write(&password, "newest").unwrap();
        change("newest");
        agent.pass(&web).await;
        agent.pass(&service("web", "web-2")).await;
        assert_eq!(seen.ids().await, ["web-1", "web-2"], "{version}");
    }
}

/// Removed and written anew, or emptied first, as some do who replace one.
#[tokio::test]
async fn a_password_file_that_is_gone_or_empty_for_a_while_costs_nothing() {
    let mut etcd = Etcd::start("etcd35");
    lock(&etcd);
    let (_dir, password) = password_file("right");
    let (agent, web, _seen) = logged_in(&etcd, &password).await;
    for spoil in [|file: &Path| std::fs::remove_file(file).unwrap(), |file: &Path| std::fs::write(file, "\n").unwrap()]
    {
        spoil(&password);
        // A server that was started anew knows no token of before.
        etcd.down();
        etcd.up();
        let begun = tokio::time::Instant::now();
        while let Err(error) = agent.try_publish(&web, ServiceStatus::Passing, "ok").await {
            assert!(!error.contains("password_file") && begun.elapsed() < Duration::from_secs(10), "{error}");
        }
    }
    std::fs::write(&password, "wrong").unwrap();
    etcd.down();
    etcd.up();
    let begun = tokio::time::Instant::now();
    while !agent
        .try_publish(&web, ServiceStatus::Passing, "ok")
        .await
        .is_err_and(|error| error.contains("password_file"))
    {
        assert!(begun.elapsed() < Duration::from_secs(10), "what is there now counts");
    }
}

#[tokio::test]
async fn a_signed_token_outdated_by_a_change_of_roles_is_replaced_within_the_call() {
    for version in ["etcd", "etcd35"] {
        let (_key_dir, key) = password_file("what the server signs its tokens with");
        let token = format!("--auth-token=jwt,priv-key={},sign-method=HS256,ttl=10m", key.display());
        let etcd = Etcd::start_with(version, &[token]);
        lock(&etcd);
        let (_dir, password) = password_file("right");
        let (agent, web, mut seen) = logged_in(&etcd, &password).await;
        for command in [
            &["--user=root:root", "role", "grant-permission", "agent", "--prefix=true", "read", "elsewhere/"][..],
            &["--user=root:root", "user", "add", "another:password"],
        ] {
            etcd.ctl(command).unwrap_or_else(|error| panic!("{version}, {command:?}: {error}"));
            agent.pass(&web).await;
            assert_eq!(agent.get("key").await, None);
        }
        agent.pass(&service("web", "web-2")).await;
        assert_eq!(seen.ids().await, ["web-1", "web-2"], "{version}");
    }
}

#[tokio::test]
async fn a_key_that_is_written_without_end_is_told_of_a_few_times_a_second_and_at_last_as_it_is() {
    let etcd = Etcd::start("etcd35");
    let (reader, writer) = (agent(settings(&[etcd.client()])), agent(settings(&[etcd.client()])));
    writer.put("app/other", "0").await;
    let mut seen = reader.follow_slowly(Query::KeyPrefix { prefix: "app/".to_owned() }, 4096);
    assert_eq!(seen.keys().await.len(), 1);
    let begun = tokio::time::Instant::now();
    let mut writes = 0;
    while writes < 200 || begun.elapsed() < Duration::from_secs(1) {
        writes += 1;
        writer.put("app/key", &writes.to_string()).await;
    }
    let at_most = 20 + usize::try_from(begun.elapsed().as_millis() / 50).unwrap() + 1;
    let told = seen.rest();
    assert!(told <= at_most, "{told} of {writes}, in {:?}", begun.elapsed());
    writer.put("app/key", "last").await;
    while seen.keys().await[0].1 != "last" {}
}

#[tokio::test]
async fn a_value_longer_than_an_answer_costs_itself_only_below_a_prefix_and_as_a_key() {
    for version in ["etcd", "etcd35"] {
        let etcd = Etcd::start_with(version, &["--max-request-bytes=16777216".to_owned()]);
        let agent = agent(settings(&[etcd.client()]));
        let below = || Query::KeyPrefix { prefix: "app/".to_owned() };
        let keys = |keys: Vec<(String, String)>| -> Vec<String> {
            keys.into_iter().map(|(key, value)| format!("{key}={}", value.len())).collect()
        };
        // Of which some are together longer than an answer, and one is longer than what is taken in.
        for key in ["app/a", "app/b", "app/e", "app/f"] {
            agent.put(key, &"x".repeat(1_500_000)).await;
        }
        for key in ["app/c", "app/d", "app/z"] {
            agent.put(key, &"x".repeat(5_000_000)).await;
        }
        agent.put("app/g", &"x".repeat(2_000_000)).await;
        let mut seen = agent.follow(below());
        let there = ["app/a=1500000", "app/b=1500000", "app/e=1500000", "app/f=1500000"];
        assert_eq!(keys(seen.keys().await), there, "{version}");
        // One that is followed becomes as long, and short again, and others go on.
        agent.put("app/a", &"x".repeat(5_000_000)).await;
        assert_eq!(keys(seen.keys().await), there[1..], "{version}");
        agent.put("app/f", "1").await;
        assert_eq!(keys(seen.keys().await), [&there[1..3], &["app/f=1"]].concat(), "{version}");
        agent.put("app/a", "1").await;
        assert_eq!(keys(seen.keys().await), [&["app/a=1"], &there[1..3], &["app/f=1"]].concat(), "{version}");

        let mut one = agent.follow(Query::Key { key: "app/z".to_owned() });
        let error = one.told().await.unwrap_err();
        assert_eq!(error, "the value of key app/z is larger than 1536 KiB", "{version}");
        agent.put("app/z", "short").await;
        assert_eq!(one.told().await, Ok(Observation::Key(Some("short".to_owned()))), "{version}");
    }
}

#[tokio::test]
async fn what_is_unhealthy_leaves_the_rotation_of_an_etcd_without_room_and_comes_back_when_there_is() {
    for version in ["etcd", "etcd35"] {
        let etcd = Etcd::start_with(version, &["--quota-backend-bytes=16777216".to_owned()]);
        let agent = agent(settings(&[etcd.client()]));
        let web = service("web", "web-1");
        agent.pass(&web).await;
        let mut seen = agent.follow(instances_of("web"));
        assert_eq!(seen.ids().await, ["web-1"], "{version}");
        let large = "x".repeat(1_000_000);
        let full = (0..40).any(|key| etcd.ctl_fed(&["put", &format!("fill/{key}")], &large).is_err());
        assert!(full, "{version} has room");

        let error = agent.try_publish(&web, ServiceStatus::Critical, "no").await.unwrap_err();
        assert!(error.contains("database space exceeded"), "{version}: {error}");
        assert!(seen.ids().await.is_empty(), "{version}");
        agent.try_publish(&web, ServiceStatus::Passing, "ok").await.unwrap_err();

        etcd.ctl(&["del", "--prefix", "fill/"]).unwrap();
        let status = etcd.ctl(&["get", "x", "--write-out=json"]).unwrap();
        let revision = status.split("\"revision\":").nth(1).and_then(|rest| rest.split([',', '}']).next()).unwrap();
        etcd.ctl(&["compact", revision, "--physical"]).unwrap();
        etcd.ctl(&["defrag"]).unwrap();
        etcd.ctl(&["alarm", "disarm"]).unwrap();
        agent.pass(&web).await;
        assert_eq!(seen.ids().await, ["web-1"], "{version}");
    }
}

#[tokio::test]
async fn what_is_unhealthy_leaves_the_rotation_with_its_ttl_where_the_right_to_write_is_lost() {
    let etcd = Etcd::start("etcd35");
    lock(&etcd);
    let (_dir, password) = password_file("right");
    let (agent, mut web, mut seen) = logged_in(&etcd, &password).await;
    web.ttl = Duration::from_secs(2);
    agent.pass(&web).await;
    for command in [
        &["--user=root:root", "role", "revoke-permission", "agent", "--prefix=true", "pilotfish/"][..],
        &["--user=root:root", "role", "grant-permission", "agent", "--prefix=true", "read", "pilotfish/"],
    ] {
        etcd.ctl(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    }
    // What is as it was is renewed.
    for _ in 0..6 {
        agent.pass(&web).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let heartbeats = async {
        loop {
            agent.try_publish(&web, ServiceStatus::Critical, "no").await.unwrap_err();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        ids = seen.ids() => assert!(ids.is_empty(), "{ids:?}"),
        () = heartbeats => unreachable!("they don't end"),
        () = tokio::time::sleep(Duration::from_secs(15)) => panic!("it is still in the rotation"),
    }
}

#[tokio::test]
async fn a_follower_whose_place_in_the_history_was_compacted_away_ends_with_the_truth() {
    let etcd = Etcd::start("etcd35");
    let relay = Relay::to(etcd.client()).await;
    let (reader, writer) = (agent(settings(&[relay.at])), agent(settings(&[etcd.client()])));
    let mut seen = reader.follow(Query::KeyPrefix { prefix: "app/".to_owned() });
    assert!(seen.keys().await.is_empty());
    writer.put("app/a", "1").await;
    assert_eq!(seen.keys().await.len(), 1);
    relay.lead_to(None);
    writer.delete("app/a").await;
    for turn in 0..10 {
        writer.put("app/b", &turn.to_string()).await;
    }
    let revision = etcd.ctl(&["-w", "json", "get", "none"]).unwrap();
    let revision: serde_json::Value = serde_json::from_str(&revision).unwrap();
    etcd.ctl(&["compact", &revision["header"]["revision"].to_string()]).unwrap();
    relay.lead_to(Some(etcd.client()));
    loop {
        // The outage may be told before the truth is, but never that nothing is there.
        match seen.told().await {
            Ok(Observation::Keys(keys)) => break assert_eq!(*keys, [("app/b".to_owned(), "9".to_owned())]),
            Ok(other) => panic!("not keys: {other:?}"),
            Err(_) => {}
        }
    }
}

/// Whether the lease of who led last has ended is asked by a write.
#[tokio::test]
async fn who_may_only_read_sees_that_a_dead_leaders_lock_is_free() {
    let etcd = Etcd::start("etcd35");
    lock(&etcd);
    let (_dir, password) = password_file("right");
    let backend = config::Backend::Etcd(Box::new(login(&etcd, "web", &password)));
    let catalog = config::Catalog { backend, prefix: "pilotfish".to_owned() };
    let settings = CandidateSettings {
        name: "x".to_owned(),
        id: "a".to_owned(),
        lease: Duration::from_secs(60),
        kill_margin: Duration::from_secs(1),
        service: None,
        witness: None,
        loss: AcceptedLoss::default(),
    };
    let candidate = LockClient::new(Arc::new(Backend::open(&catalog).unwrap()), settings);
    crate::election::lock::lead(&candidate).await;
    for command in [
        &["--user=root:root", "del", "pilotfish/elections/x/leader"][..],
        &["--user=root:root", "role", "revoke-permission", "agent", "--prefix=true", "pilotfish/"],
        &["--user=root:root", "role", "grant-permission", "agent", "--prefix=true", "read", "pilotfish/"],
    ] {
        etcd.ctl(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    }
    assert!(candidate.look().await.unwrap().holder().is_none());
}

/// The members of its cluster are silent at first, so the stray member is all that is heard.
#[tokio::test]
async fn who_began_at_a_stray_member_moves_to_the_cluster_that_most_name() {
    let mut cluster = EtcdCluster::start("etcd35");
    cluster.down(1);
    cluster.spawn_stray(1);
    cluster.wait_ready(1);
    let web = service("web", "web-1");
    agent(settings(&[cluster.clients[0]])).pass(&service("web", "web-2")).await;
    let members = [0, 2].map(|member| cluster.clients[member]);
    let (first, third) = (Relay::to(members[0]).await, Relay::to(members[1]).await);
    [&first, &third].iter().for_each(|relay| relay.lead_to(None));
    let agent = agent(settings(&[first.at, cluster.clients[1], third.at]));
    let mut seen = agent.follow(instances_of("web"));
    assert_eq!(seen.ids().await, [""; 0], "of the stray member");
    agent.pass(&web).await;
    assert_eq!(seen.ids().await, ["web-1"], "of the stray member");

    first.lead_to(Some(members[0]));
    third.lead_to(Some(members[1]));
    // Nobody asks it anything: the watch hears by itself that it is at the wrong one.
    while seen.ids().await != ["web-2"] {}
    agent.pass(&web).await;
    while seen.ids().await != ["web-1", "web-2"] {}
}
