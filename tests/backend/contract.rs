//! What holds on every engine: one list of sentences, and each engine says all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use pilotfish::catalog::Changed;
use pilotfish::config::{Query, Service};
use pilotfish::supervisor::vocabulary::{KeyChange, Observation, ServiceStatus, Value};
use tokio::time::timeout;

use super::bench::{Agent, Bench, PATIENCE, agent_on, bytes, instances_of, service, tagged};
use super::specimen::Specimen;

/// Hands the list to a macro, after what that macro needs besides.
macro_rules! sentences {
    ($with:ident!($($arguments:tt)*)) => {
        $with! { $($arguments)*;
            what_is_published_as_passing_is_seen
            the_address_the_port_and_the_name_are_seen
            a_critical_instance_is_not_seen
            a_draining_instance_is_not_seen
            an_instance_in_maintenance_is_not_seen_until_it_is_over
            an_instance_that_is_registered_in_maintenance_is_never_seen
            a_status_change_is_seen
            an_instance_that_is_withdrawn_is_gone
            an_instance_without_an_address_is_gone_until_it_has_one
            withdrawing_what_is_not_there_succeeds
            an_agent_killed_with_sigkill_is_gone
            an_agent_killed_and_started_again_is_seen_again
            the_killing_of_one_agent_leaves_the_others
            tags_are_replaced_in_place
            meta_is_seen
            a_tag_filter_sees_only_its_own
            an_instance_that_loses_the_tag_is_gone_from_the_filter
            an_id_whose_service_has_another_name_is_gone_from_the_old_one
            two_services_do_not_mix
            two_services_of_one_agent_are_independent
            instances_are_sorted_by_id
            many_instances_are_all_seen
            an_entry_deleted_by_hand_comes_back_at_the_next_heartbeat
            publishing_twice_changes_nothing
            a_change_of_the_note_alone_is_no_event
            a_burst_of_changes_ends_in_the_truth
            a_slow_reader_ends_with_the_truth
            a_follower_that_starts_later_sees_the_present
            a_follower_sees_the_first_observation_even_if_empty
            two_followers_of_one_agent_see_the_same
            a_follower_that_is_dropped_leaves_the_others
            services_with_unusual_names_are_kept_apart
            an_instance_whose_words_are_none_costs_itself_only
            of_two_agents_with_one_id_one_keeps_it_and_the_other_says_so
            an_outage_is_told_once_and_recovered_from
            a_key_can_be_put_and_read
            a_key_can_be_watched
            a_key_that_is_put_again_as_it_was_is_no_event
            a_key_that_is_deleted_is_seen_to_be_gone
            a_key_is_created_once_whoever_tries
            a_value_may_be_any_bytes
            a_missing_key_is_none
            deleting_a_missing_key_succeeds
            an_empty_value_is_not_a_missing_key
            a_key_prefix_sees_every_key_below_it_and_no_other
            a_key_prefix_tells_of_each_change
            a_key_whose_name_is_a_prefix_of_another_is_kept_apart
            keys_with_unusual_names_are_kept_apart
            values_are_kept_to_the_byte
            services_and_keys_of_one_name_do_not_mix
        }
    };
}

/// Those that several servers could make untrue where one keeps them.
macro_rules! sentences_for_clusters {
    ($with:ident!($($arguments:tt)*)) => {
        $with! { $($arguments)*;
            a_status_change_is_seen
            an_instance_that_is_withdrawn_is_gone
            an_agent_killed_with_sigkill_is_gone
            an_entry_deleted_by_hand_comes_back_at_the_next_heartbeat
            a_burst_of_changes_ends_in_the_truth
            a_follower_that_starts_later_sees_the_present
            an_outage_is_told_once_and_recovered_from
            a_key_can_be_watched
            a_key_prefix_tells_of_each_change
        }
    };
}

/// A module named for an engine, with a test for each sentence.
macro_rules! contract {
    ($engine:ident, $bench:ty; $($sentence:ident)*) => {
        mod $engine {
            $(
                #[test]
                fn $sentence() {
                    $crate::backend::bench::run::<$bench>(super::$sentence);
                }
            )*
        }
    };
}

/// The same for `make faults`.
macro_rules! contract_at_length {
    ($engine:ident, $bench:ty; $($sentence:ident)*) => {
        mod $engine {
            $(
                #[test]
                #[ignore = "takes minutes: make faults"]
                fn $sentence() {
                    $crate::backend::bench::run::<$bench>(super::$sentence);
                }
            )*
        }
    };
}

sentences!(contract!(local, crate::backend::local::SharedDirectory));
sentences!(contract!(consul, crate::backend::backends::OneConsul));
sentences!(contract!(etcd34, crate::backend::backends::Etcd34));
sentences!(contract!(etcd35, crate::backend::backends::Etcd35));
sentences!(contract!(consul_secured, crate::backend::secured::SecuredConsul));
sentences!(contract!(etcd34_secured, crate::backend::secured::SecuredEtcd34));
sentences!(contract!(etcd35_secured, crate::backend::secured::SecuredEtcd35));
sentences_for_clusters!(contract!(three_consuls, crate::backend::clusters::ThreeConsuls));
sentences_for_clusters!(contract!(three_etcds, crate::backend::clusters::ThreeEtcds));
sentences!(contract_at_length!(every_sentence_on_three_consuls, crate::backend::clusters::ThreeConsuls));
sentences!(contract_at_length!(every_sentence_on_three_etcds, crate::backend::clusters::ThreeEtcds));

fn agent(bench: &impl Bench) -> Agent {
    agent_on(&bench.address())
}

fn writer(bench: &impl Bench) -> Agent {
    agent_on(&bench.address_of_a_writer())
}

async fn what_is_published_as_passing_is_seen(bench: &impl Bench) {
    let (publisher, reader) = (agent(bench), agent(bench));
    let mut seen = reader.follow(instances_of("web"));
    assert!(seen.ids().await.is_empty());
    publisher.pass(&service("web", "web-1")).await;
    assert_eq!(seen.ids().await, ["web-1"]);
}

async fn the_address_the_port_and_the_name_are_seen(bench: &impl Bench) {
    let mut web = service("web", "web-1");
    web.port = 65535;
    let publisher = agent(bench);
    publisher.pass(&web).await;
    let seen = agent(bench).follow(instances_of("web")).instances().await;
    assert_eq!((seen[0].name.as_str(), seen[0].address.as_str(), seen[0].port), ("web", "192.0.2.1", 65535));
}

async fn a_critical_instance_is_not_seen(bench: &impl Bench) {
    let publisher = agent(bench);
    publisher.publish(&service("web", "web-1"), ServiceStatus::Critical, "starting").await;
    publisher.pass(&service("web", "web-2")).await;
    assert_eq!(agent(bench).follow(instances_of("web")).ids().await, ["web-2"]);
}

async fn a_draining_instance_is_not_seen(bench: &impl Bench) {
    let publisher = agent(bench);
    let web = service("web", "web-1");
    publisher.pass(&web).await;
    let mut seen = agent(bench).follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    publisher.publish(&web, ServiceStatus::Draining, "stopping").await;
    assert!(seen.ids().await.is_empty());
}

async fn an_instance_in_maintenance_is_not_seen_until_it_is_over(bench: &impl Bench) {
    let publisher = agent(bench);
    let web = service("web", "web-1");
    publisher.pass(&web).await;
    let mut seen = agent(bench).follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    for _ in 0..2 {
        publisher.maintain(&web, ServiceStatus::Passing, "disk").await;
        assert!(seen.ids().await.is_empty());
        // However it fares meanwhile.
        publisher.maintain(&web, ServiceStatus::Critical, "disk").await;
        publisher.maintain(&web, ServiceStatus::Passing, "disk").await;
        publisher.pass(&web).await;
        assert_eq!(seen.ids().await, ["web-1"]);
    }
}

async fn an_instance_that_is_registered_in_maintenance_is_never_seen(bench: &impl Bench) {
    let publisher = agent(bench);
    let mut seen = agent(bench).follow(instances_of("web"));
    assert!(seen.ids().await.is_empty());
    for _ in 0..5 {
        publisher.maintain(&service("web", "web-1"), ServiceStatus::Passing, "disk").await;
        publisher.withdraw(&service("web", "web-1")).await;
    }
    publisher.pass(&service("web", "web-2")).await;
    let before = seen.until_ids(&["web-2"], PATIENCE).await;
    assert!(before.iter().flatten().all(|instance| instance.id != "web-1"), "{before:?}");
}

async fn a_status_change_is_seen(bench: &impl Bench) {
    let publisher = agent(bench);
    let web = service("web", "web-1");
    let mut seen = agent(bench).follow(instances_of("web"));
    assert!(seen.ids().await.is_empty());
    for _ in 0..3 {
        publisher.pass(&web).await;
        assert_eq!(seen.ids().await, ["web-1"]);
        publisher.publish(&web, ServiceStatus::Critical, "500 Internal Server Error").await;
        assert!(seen.ids().await.is_empty());
    }
}

async fn an_instance_that_is_withdrawn_is_gone(bench: &impl Bench) {
    let publisher = agent(bench);
    let web = service("web", "web-1");
    publisher.pass(&web).await;
    let mut seen = agent(bench).follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    publisher.withdraw(&web).await;
    assert!(seen.ids().await.is_empty());
}

async fn an_instance_without_an_address_is_gone_until_it_has_one(bench: &impl Bench) {
    let publisher = agent(bench);
    let web = service("web", "web-1");
    publisher.pass(&web).await;
    let mut seen = agent(bench).follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    // Its interface is taken away. The service's TTL, which would be over some day, is longer than this test waits.
    let nowhere = Service { address: vec!["nowhere0".parse().expect("a name")], ..web.clone() };
    for _ in 0..2 {
        let error = publisher.try_publish(&nowhere, ServiceStatus::Passing, "").await.expect_err("no address");
        assert!(error.contains("no address to advertise"), "{error}");
    }
    assert!(seen.ids().await.is_empty());
    publisher.pass(&web).await;
    assert_eq!(seen.ids().await, ["web-1"]);
}

async fn withdrawing_what_is_not_there_succeeds(bench: &impl Bench) {
    let publisher = agent(bench);
    let web = service("web", "web-1");
    publisher.withdraw(&web).await;
    publisher.pass(&web).await;
    publisher.withdraw(&web).await;
    publisher.withdraw(&web).await;
    assert!(agent(bench).follow(instances_of("web")).ids().await.is_empty());
}

async fn an_agent_killed_with_sigkill_is_gone(bench: &impl Bench) {
    let mut specimen = Specimen::publishing(&bench.address(), &service("web", "web-1"));
    let mut seen = agent(bench).follow(instances_of("web"));
    seen.until_ids(&["web-1"], PATIENCE).await;
    specimen.kill();
    seen.until_ids(&[], bench.gone_within()).await;
}

async fn an_agent_killed_and_started_again_is_seen_again(bench: &impl Bench) {
    let web = service("web", "web-1");
    for _ in 0..4 {
        let mut specimen = Specimen::publishing(&bench.address(), &web);
        // A new follower each time: one that saw it before may never see it gone.
        agent(bench).follow(instances_of("web")).until_ids(&["web-1"], PATIENCE).await;
        specimen.kill();
    }
}

async fn the_killing_of_one_agent_leaves_the_others(bench: &impl Bench) {
    let publisher = agent(bench);
    publisher.pass(&service("web", "web-1")).await;
    let heartbeats = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            publisher.pass(&service("web", "web-1")).await;
        }
    });
    let mut specimen = Specimen::publishing(&bench.address(), &service("web", "web-2"));
    let mut seen = agent(bench).follow(instances_of("web"));
    seen.until_ids(&["web-1", "web-2"], PATIENCE).await;
    specimen.kill();
    let since = seen.until_ids(&["web-1"], bench.gone_within()).await;
    heartbeats.abort();
    assert!(since.iter().all(|seen| seen.iter().any(|i| i.id == "web-1")));
}

async fn tags_are_replaced_in_place(bench: &impl Bench) {
    let publisher = agent(bench);
    let mut web = service("web", "web-1");
    web.tags = vec!["replica".to_owned(), "prod".to_owned()];
    publisher.pass(&web).await;
    let mut seen = agent(bench).follow(instances_of("web"));
    assert_eq!(seen.instances().await[0].tags, web.tags);
    web.tags = vec!["primary".to_owned()];
    publisher.pass(&web).await;
    // The very next thing seen: it is never gone in between.
    assert_eq!(seen.instances().await[0].tags, ["primary"]);
}

async fn meta_is_seen(bench: &impl Bench) {
    let publisher = agent(bench);
    let mut web = service("web", "web-1");
    web.meta = BTreeMap::from([("version".to_owned(), "8.0".to_owned()), ("zone".to_owned(), "b".to_owned())]);
    publisher.pass(&web).await;
    let mut seen = agent(bench).follow(instances_of("web"));
    assert_eq!(seen.instances().await[0].meta, web.meta);
    web.meta.remove("zone");
    publisher.pass(&web).await;
    assert_eq!(seen.instances().await[0].meta, web.meta);
}

async fn a_tag_filter_sees_only_its_own(bench: &impl Bench) {
    let publisher = agent(bench);
    for (id, tag) in [("web-1", "blue"), ("web-2", "green"), ("web-3", "blue")] {
        let mut web = service("web", id);
        web.tags = vec!["prod".to_owned(), tag.to_owned()];
        publisher.pass(&web).await;
    }
    let reader = agent(bench);
    assert_eq!(reader.follow(tagged("web", "blue")).ids().await, ["web-1", "web-3"]);
    assert_eq!(reader.follow(tagged("web", "prod")).ids().await, ["web-1", "web-2", "web-3"]);
    assert!(reader.follow(tagged("web", "blu")).ids().await.is_empty());
    assert!(reader.follow(tagged("web", "Blue")).ids().await.is_empty());
}

async fn an_instance_that_loses_the_tag_is_gone_from_the_filter(bench: &impl Bench) {
    let publisher = agent(bench);
    let mut web = service("web", "web-1");
    web.tags = vec!["blue".to_owned()];
    publisher.pass(&web).await;
    let mut seen = agent(bench).follow(tagged("web", "blue"));
    assert_eq!(seen.ids().await, ["web-1"]);
    web.tags.clear();
    publisher.pass(&web).await;
    assert!(seen.ids().await.is_empty());
}

async fn an_id_whose_service_has_another_name_is_gone_from_the_old_one(bench: &impl Bench) {
    let publisher = agent(bench);
    publisher.pass(&service("web", "the-one")).await;
    for (old, new) in [("web", "db"), ("db", "web"), ("web", "db")] {
        publisher.pass(&service(new, "the-one")).await;
        // Whoever looks now: Consul 1.8 tells who follows the old name when its query ends.
        assert!(agent(bench).follow(instances_of(old)).ids().await.is_empty());
        assert_eq!(agent(bench).follow(instances_of(new)).ids().await, ["the-one"]);
    }
    // Nor does it stay when it is withdrawn before it was told of under its new name.
    publisher.withdraw(&service("web", "the-one")).await;
    assert!(agent(bench).follow(instances_of("db")).ids().await.is_empty());
}

async fn two_services_do_not_mix(bench: &impl Bench) {
    let publisher = agent(bench);
    let mut seen = agent(bench).follow(instances_of("web"));
    assert!(seen.ids().await.is_empty());
    publisher.pass(&service("db", "db-1")).await;
    publisher.pass(&service("web-db", "web-db-1")).await;
    publisher.pass(&service("web", "web-1")).await;
    assert_eq!(seen.ids().await, ["web-1"]);
}

async fn two_services_of_one_agent_are_independent(bench: &impl Bench) {
    let publisher = agent(bench);
    let (web, admin) = (service("web", "web-1"), service("admin", "admin-1"));
    publisher.pass(&web).await;
    publisher.pass(&admin).await;
    let reader = agent(bench);
    let (mut webs, mut admins) = (reader.follow(instances_of("web")), reader.follow(instances_of("admin")));
    assert_eq!((webs.ids().await, admins.ids().await), (vec!["web-1".to_owned()], vec!["admin-1".to_owned()]));
    publisher.withdraw(&web).await;
    assert!(webs.ids().await.is_empty());
    publisher.publish(&admin, ServiceStatus::Critical, "").await;
    assert!(admins.ids().await.is_empty());
}

async fn instances_are_sorted_by_id(bench: &impl Bench) {
    let publisher = agent(bench);
    for id in ["web-3", "web-1", "web-10", "web-2"] {
        publisher.pass(&service("web", id)).await;
    }
    assert_eq!(agent(bench).follow(instances_of("web")).ids().await, ["web-1", "web-10", "web-2", "web-3"]);
}

async fn many_instances_are_all_seen(bench: &impl Bench) {
    let publisher = agent(bench);
    let mut ids: Vec<_> = (0..60).map(|n| format!("web-{n:02}")).collect();
    let mut seen = agent(bench).follow(instances_of("web"));
    for id in &ids {
        publisher.pass(&service("web", id)).await;
    }
    let expected: Vec<_> = ids.iter().map(String::as_str).collect();
    seen.until_ids(&expected, PATIENCE).await;
    for id in ids.split_off(1) {
        publisher.withdraw(&service("web", &id)).await;
    }
    seen.until_ids(&["web-00"], PATIENCE).await;
}

async fn an_entry_deleted_by_hand_comes_back_at_the_next_heartbeat(bench: &impl Bench) {
    let publisher = agent(bench);
    let web = service("web", "web-1");
    publisher.pass(&web).await;
    let mut seen = agent(bench).follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    bench.delete_entry(&web).await;
    assert!(seen.ids().await.is_empty());
    publisher.pass(&web).await;
    assert_eq!(seen.ids().await, ["web-1"]);
}

async fn publishing_twice_changes_nothing(bench: &impl Bench) {
    let publisher = agent(bench);
    let web = service("web", "web-1");
    publisher.pass(&web).await;
    let mut seen = agent(bench).follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    for _ in 0..5 {
        publisher.pass(&web).await;
    }
    publisher.pass(&service("web", "web-2")).await;
    assert_eq!(seen.ids().await, ["web-1", "web-2"]);
    assert_eq!(seen.rest(), 0);
}

async fn a_change_of_the_note_alone_is_no_event(bench: &impl Bench) {
    let publisher = agent(bench);
    let web = service("web", "web-1");
    publisher.publish(&web, ServiceStatus::Passing, "200 OK in 3 ms").await;
    let mut seen = agent(bench).follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    publisher.publish(&web, ServiceStatus::Passing, "200 OK in 4 ms").await;
    publisher.withdraw(&web).await;
    assert!(seen.ids().await.is_empty());
}

async fn a_burst_of_changes_ends_in_the_truth(bench: &impl Bench) {
    let publisher = agent(bench);
    let mut web = service("web", "web-1");
    let mut seen = agent(bench).follow(instances_of("web"));
    for n in 0..100 {
        web.tags = vec![n.to_string()];
        let status = if n % 2 == 0 { ServiceStatus::Critical } else { ServiceStatus::Passing };
        publisher.publish(&web, status, "").await;
    }
    let truth = |all: &[Vec<pilotfish::supervisor::vocabulary::Instance>]| {
        all.last().and_then(|seen| seen.first()).is_some_and(|i| i.tags == ["99"])
    };
    while !truth(&seen.until_ids(&["web-1"], PATIENCE).await) {}
}

async fn a_slow_reader_ends_with_the_truth(bench: &impl Bench) {
    let publisher = agent(bench);
    let mut seen = agent(bench).follow_slowly(instances_of("web"), 1);
    let mut web = service("web", "web-1");
    for n in 0..30 {
        web.tags = vec![n.to_string()];
        publisher.pass(&web).await;
        tokio::task::yield_now().await;
    }
    publisher.pass(&service("web", "web-2")).await;
    let all = seen.until_ids(&["web-1", "web-2"], PATIENCE).await;
    assert_eq!(all.last().expect("the truth")[0].tags, ["29"]);
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "nothing is told twice in a row");
}

async fn a_follower_that_starts_later_sees_the_present(bench: &impl Bench) {
    let publisher = agent(bench);
    publisher.pass(&service("web", "web-1")).await;
    publisher.pass(&service("web", "web-2")).await;
    publisher.withdraw(&service("web", "web-1")).await;
    assert_eq!(agent(bench).follow(instances_of("web")).ids().await, ["web-2"]);
    assert_eq!(publisher.follow(instances_of("web")).ids().await, ["web-2"], "an agent sees itself");
}

async fn a_follower_sees_the_first_observation_even_if_empty(bench: &impl Bench) {
    let reader = agent(bench);
    assert!(reader.follow(instances_of("nobody")).ids().await.is_empty());
    assert_eq!(reader.follow(Query::Key { key: "nothing".to_owned() }).value().await, None);
    assert!(reader.follow(Query::KeyPrefix { prefix: "nothing/".to_owned() }).keys().await.is_empty());
}

async fn two_followers_of_one_agent_see_the_same(bench: &impl Bench) {
    let (publisher, reader) = (agent(bench), agent(bench));
    let (mut one, mut other) = (reader.follow(instances_of("web")), reader.follow(instances_of("web")));
    assert!(one.ids().await.is_empty() && other.ids().await.is_empty());
    publisher.pass(&service("web", "web-1")).await;
    assert_eq!((one.ids().await, other.ids().await), (vec!["web-1".to_owned()], vec!["web-1".to_owned()]));
}

async fn a_follower_that_is_dropped_leaves_the_others(bench: &impl Bench) {
    let (publisher, reader) = (agent(bench), agent(bench));
    let (mut one, mut other) = (reader.follow(instances_of("web")), reader.follow(instances_of("web")));
    assert!(one.ids().await.is_empty() && other.ids().await.is_empty());
    drop(one);
    publisher.pass(&service("web", "web-1")).await;
    assert_eq!(other.ids().await, ["web-1"]);
    assert_eq!(reader.follow(instances_of("web")).ids().await, ["web-1"]);
}

async fn services_with_unusual_names_are_kept_apart(bench: &impl Bench) {
    let publisher = agent(bench);
    // Names that differ in case only are one to Consul.
    let names = ["a.b", "a-b", "a_b", "a--b"];
    for name in names {
        publisher.pass(&service(name, &format!("{name}-host.example-80"))).await;
    }
    let reader = agent(bench);
    for name in names {
        assert_eq!(reader.follow(instances_of(name)).ids().await, [format!("{name}-host.example-80")]);
    }
}

async fn an_instance_whose_words_are_none_costs_itself_only(bench: &impl Bench) {
    let publisher = agent(bench);
    publisher.pass(&service("web", "web-1")).await;
    let mut seen = agent(bench).follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    let mut evil = service("web", "evil-tag");
    evil.tags = vec!["\x1b]0;owned\x07".to_owned()];
    publisher.pass(&evil).await;
    let mut evil = service("web", "evil-size");
    evil.tags = vec!["x".repeat(70_000)];
    publisher.pass(&evil).await;
    publisher.pass(&service("web", "web-2")).await;
    for seen in seen.until_ids(&["web-1", "web-2"], PATIENCE).await {
        assert!(seen.iter().all(|instance| !instance.id.starts_with("evil")), "{seen:?}");
    }
}

async fn of_two_agents_with_one_id_one_keeps_it_and_the_other_says_so(bench: &impl Bench) {
    let (one, other) = (agent(bench), agent(bench));
    let mut web = service("web", "web-1");
    let mut elsewhere = web.clone();
    (web.port, elsewhere.port) = (1, 2);
    one.pass(&web).await;
    // Which of them keeps it is the engine's to say; that one of them does, and always the same, is not.
    let first = other.try_publish(&elsewhere, ServiceStatus::Passing, "ok").await;
    let (keeper, kept, loser, lost) = match first {
        Ok(()) => (&other, &elsewhere, &one, &web),
        Err(_) => (&one, &web, &other, &elsewhere),
    };
    let mut seen = agent(bench).follow(instances_of("web"));
    assert_eq!(seen.instances().await[0].port, kept.port);
    for _ in 0..3 {
        let error = loser.try_publish(lost, ServiceStatus::Passing, "ok").await.expect_err("it is another's");
        assert!(error.contains("id"), "{error}");
        keeper.pass(kept).await;
    }
    loser.withdraw(lost).await;
    keeper.pass(kept).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(seen.rest(), 0, "it flaps");
    // Once it is given up, the other one has it.
    keeper.withdraw(kept).await;
    loser.pass(lost).await;
    let ports: Vec<_> = seen.until_ids(&["web-1"], PATIENCE).await.concat().iter().map(|i| i.port).collect();
    assert_eq!(ports.last(), Some(&lost.port));
}

async fn an_outage_is_told_once_and_recovered_from(bench: &impl Bench) {
    let publisher = agent(bench);
    let web = service("web", "web-1");
    publisher.pass(&web).await;
    let mut seen = agent(bench).follow(instances_of("web"));
    assert_eq!(seen.ids().await, ["web-1"]);
    bench.cut("web").await;
    let error = seen.told_within(PATIENCE).await.expect_err("an outage is no empty list");
    assert!(!error.is_empty());
    // Long enough for several tries of the follower.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(seen.rest() < bench.reasons(), "told once, for each reason");
    bench.mend("web").await;
    publisher.pass(&web).await;
    seen.until_ids(&["web-1"], PATIENCE).await;
}

async fn a_key_can_be_put_and_read(bench: &impl Bench) {
    writer(bench).put("mysql/snapshot", "s3://backups/1").await;
    let reader = agent(bench);
    assert_eq!(reader.get("mysql/snapshot").await.as_deref(), Some("s3://backups/1"));
    writer(bench).put("mysql/snapshot", "s3://backups/2").await;
    assert_eq!(reader.get("mysql/snapshot").await.as_deref(), Some("s3://backups/2"));
}

async fn a_key_can_be_watched(bench: &impl Bench) {
    let writer = writer(bench);
    let mut seen = agent(bench).follow(Query::Key { key: "mode".to_owned() });
    assert_eq!(seen.value().await, None);
    for value in ["on", "off", "on"] {
        writer.put("mode", value).await;
        assert_eq!(seen.value().await.as_deref(), Some(value));
    }
}

async fn a_key_that_is_put_again_as_it_was_is_no_event(bench: &impl Bench) {
    let writer = writer(bench);
    writer.put("mode", "on").await;
    let mut seen = agent(bench).follow(Query::Key { key: "mode".to_owned() });
    assert_eq!(seen.value().await.as_deref(), Some("on"));
    writer.put("mode", "on").await;
    writer.put("another", "key").await;
    writer.put("mode", "off").await;
    assert_eq!(seen.value().await.as_deref(), Some("off"));
}

async fn a_key_that_is_deleted_is_seen_to_be_gone(bench: &impl Bench) {
    let writer = writer(bench);
    writer.put("mode", "on").await;
    let mut seen = agent(bench).follow(Query::Key { key: "mode".to_owned() });
    assert_eq!(seen.value().await.as_deref(), Some("on"));
    writer.delete("mode").await;
    assert_eq!(seen.value().await, None);
    assert_eq!(writer.get("mode").await, None);
}

async fn a_key_is_created_once_whoever_tries(bench: &impl Bench) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8_usize {
        let backend = writer(bench).backend.clone();
        let create = KeyChange::Create(bytes(n.to_string()));
        tasks.spawn(async move { (n, timeout(PATIENCE, backend.change("first", &create, None)).await) });
    }
    let tries = tasks.join_all().await;
    let tries = tries.into_iter().map(|(n, came)| (n, came.expect("an answer").expect("tried")));
    let tries: Vec<(usize, Changed)> = tries.collect();
    let winners: Vec<usize> = tries.iter().filter(|(_, came)| *came == Changed::Done).map(|(n, _)| *n).collect();
    assert!(winners.len() == 1 && tries.iter().filter(|(_, came)| *came == Changed::Exists).count() == 7, "{tries:?}");
    assert_eq!(agent(bench).get("first").await, Some(winners[0].to_string()));
    writer(bench).delete("first").await;
    let again = writer(bench).change("first", &KeyChange::Create(bytes("again")), None).await;
    assert_eq!(again, Changed::Done);
}

async fn a_value_may_be_any_bytes(bench: &impl Bench) {
    let all: Vec<u8> = (0..=255).cycle().take(Value::MOST_BYTES).collect();
    for value in [&all[..256], &all, b"\xff\0\n"] {
        let put = writer(bench).change("binary", &KeyChange::Put(bytes(value)), None).await;
        assert_eq!(put, Changed::Done);
        let read = timeout(PATIENCE, agent(bench).backend.get("binary")).await.expect("an answer").expect("read");
        assert!(read.as_deref() == Some(value), "{} bytes", value.len());
    }
}

async fn a_missing_key_is_none(bench: &impl Bench) {
    assert_eq!(agent(bench).get("nothing/here").await, None);
}

async fn deleting_a_missing_key_succeeds(bench: &impl Bench) {
    writer(bench).delete("nothing/here").await;
}

async fn an_empty_value_is_not_a_missing_key(bench: &impl Bench) {
    let writer = writer(bench);
    writer.put("empty", "").await;
    assert_eq!(agent(bench).get("empty").await.as_deref(), Some(""));
}

async fn a_key_prefix_sees_every_key_below_it_and_no_other(bench: &impl Bench) {
    let writer = writer(bench);
    for key in ["app/b", "app/a", "app/deep/er", "application", "ap", "other/app/a"] {
        writer.put(key, &format!("value of {key}")).await;
    }
    let keys = agent(bench).follow(Query::KeyPrefix { prefix: "app/".to_owned() }).keys().await;
    let expected: Vec<_> =
        ["app/a", "app/b", "app/deep/er"].iter().map(|key| ((*key).to_owned(), format!("value of {key}"))).collect();
    assert_eq!(keys, expected);
}

async fn a_key_prefix_tells_of_each_change(bench: &impl Bench) {
    let writer = writer(bench);
    let mut seen = agent(bench).follow(Query::KeyPrefix { prefix: "app/".to_owned() });
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert!(seen.keys().await.is_empty());
    writer.put("app/a", "1").await;
    assert_eq!(seen.keys().await, [pair("app/a", "1")]);
    writer.put("app/b", "2").await;
    assert_eq!(seen.keys().await, [pair("app/a", "1"), pair("app/b", "2")]);
    writer.put("app/a", "3").await;
    assert_eq!(seen.keys().await, [pair("app/a", "3"), pair("app/b", "2")]);
    writer.delete("app/a").await;
    assert_eq!(seen.keys().await, [pair("app/b", "2")]);
}

async fn a_key_whose_name_is_a_prefix_of_another_is_kept_apart(bench: &impl Bench) {
    let writer = writer(bench);
    writer.put("mysql", "1").await;
    writer.put("mysql/snapshot", "2").await;
    assert_eq!(writer.get("mysql").await.as_deref(), Some("1"));
    assert_eq!(writer.get("mysql/snapshot").await.as_deref(), Some("2"));
    let mut seen = agent(bench).follow(Query::Key { key: "mysql".to_owned() });
    assert_eq!(seen.told().await, Ok(Observation::Key(Some("1".to_owned()))));
    writer.delete("mysql").await;
    assert_eq!(seen.value().await, None);
    assert_eq!(writer.get("mysql/snapshot").await.as_deref(), Some("2"));
}

async fn keys_with_unusual_names_are_kept_apart(bench: &impl Bench) {
    let writer = writer(bench);
    let names = [
        "a b", "a%20b", "a+b", "größe", "a?b", "a#b", "a&b=c", "%2F", "a\"b", "a\\b", "a//b", "日本", "a\tb",
        "a\u{a0}b", "a/\u{7f}",
    ];
    for name in names {
        writer.put(name, name).await;
    }
    let reader = agent(bench);
    for name in names {
        assert_eq!(reader.get(name).await.as_deref(), Some(name));
    }
    let keys = reader.follow(Query::KeyPrefix { prefix: "a".to_owned() }).keys().await;
    assert!(keys.iter().all(|(key, value)| key == value), "{keys:?}");
    assert_eq!(keys.len(), names.iter().filter(|name| name.starts_with('a')).count());
}

async fn values_are_kept_to_the_byte(bench: &impl Bench) {
    let (writer, reader) = (writer(bench), agent(bench));
    let large = "0123456789abcdef\n".repeat(100 * 1024 / 17);
    for value in ["two\nlines\n", " \t ", "\"quoted\"", "{\"json\": [1, 2]}", "ü€😀", "a\0b", large.as_str()] {
        writer.put("value", value).await;
        assert_eq!(reader.get("value").await.as_deref(), Some(value));
        let mut seen = reader.follow(Query::Key { key: "value".to_owned() });
        assert_eq!(seen.value().await.as_deref(), Some(value));
    }
}

async fn services_and_keys_of_one_name_do_not_mix(bench: &impl Bench) {
    let agent = agent(bench);
    writer(bench).put("web", "a key").await;
    writer(bench).put("services/web/web-1", "a key").await;
    assert!(agent.follow(instances_of("web")).ids().await.is_empty());
    agent.pass(&service("web", "web-1")).await;
    assert_eq!(agent.get("services/web/web-1").await.as_deref(), Some("a key"));
    assert_eq!(agent.get("web").await.as_deref(), Some("a key"));
}
