//! `[election]`: what it means, and what in it may not be as meant. Its mistakes are with the others.

use std::time::Duration;

use super::{good, load};
use crate::config::election::{Election, Fence, Mode, Pace, Preference, RoleTags, Sum, WithoutCatalog};
use crate::config::{Config, Query, When};

const CONSUL: &str = "process.exec = [\"a\"]\ncatalog.backend = \"consul\"\n";
const ETCD: &str = "process.exec = [\"a\"]\ncatalog = { backend = \"etcd\", endpoints = [\"http://e:2379\"] }\n";
const LOCAL: &str = "process.exec = [\"a\"]\ncatalog = { backend = \"local\", directory = \"/shared\" }\n";
const MYSQL: &str = "service = [{ name = \"mysql\", port = 3306 }]\n";

fn elected(config: &Config) -> &Election {
    config.election.as_ref().unwrap()
}

/// The warnings on a config that can be used, as in a log.
fn warnings(text: &str) -> Vec<String> {
    let loaded = load(text, "t.toml").unwrap_or_else(|report| panic!("{report}"));
    loaded.warnings.iter().map(|warning| warning.message.clone()).collect()
}

#[test]
fn an_election_is_a_name_and_defaults() {
    let config = good(&format!("{CONSUL}{MYSQL}[election]\nname = \"prod/mysql\"\n"));
    let second = Duration::from_secs(1);
    assert_eq!(
        *elected(&config),
        Election {
            name: "prod/mysql".to_owned(),
            id: "mysql-web1-3306".to_owned(),
            service: Some("mysql-web1-3306".to_owned()),
            mode: Mode::Role,
            lease: 15 * second,
            alive_ttl: 3 * second,
            pace: Pace {
                renew: second,
                request: 2 * second,
                patience: Duration::from_millis(3_925),
                demote: 5 * second,
                kill_margin: second
            },
            require_health: true,
            prefer: Preference::Normal,
            rank: None,
            quorum: None,
            without_catalog: WithoutCatalog::Wait,
            role_tags: None,
            fence: Fence::Namespace,
            witness: None,
        }
    );
}

#[test]
fn an_election_takes_every_key() {
    let config = good(&format!(
        "{CONSUL}{MYSQL}{}",
        r#"
        [hooks]
        on_promote = { exec = ["promote"] }
        on_demote = { exec = ["demote"], timeout = "3s", user = "mysql" }
        on_leader_change = { exec = ["follow"] }
        [election]
        name = "mysql"
        id = "disk-1"
        service = "mysql-web1-3306"
        mode = "standby"
        lease = "20500ms"
        alive_ttl = "2s"
        kill_margin = "500ms"
        require_health = false
        prefer = "low"
        rank = { exec = ["position"], user = "mysql", quorum = 2 }
        role_tags = { leader = "primary", replica = "replica" }
        fence = "process-group"
        witness = "/run/pilotfish"
        "#
    ));
    let election = elected(&config);
    assert_eq!(election.id, "disk-1");
    assert_eq!(election.witness.as_deref(), Some(std::path::Path::new("/run/pilotfish")));
    assert_eq!((election.mode, election.prefer, election.fence), (Mode::Standby, Preference::Low, Fence::ProcessGroup));
    assert_eq!(
        (election.lease, election.pace.kill_margin),
        (Duration::from_millis(20_500), Duration::from_millis(500))
    );
    assert_eq!(election.pace.demote, Duration::from_secs(3), "on_demote says how long stepping down may take");
    assert_eq!((election.rank.as_ref().unwrap().timeout, election.quorum), (Duration::from_secs(2), Some(2)));
    assert_eq!(election.role_tags, Some(RoleTags { leader: "primary".to_owned(), replica: "replica".to_owned() }));
    assert!(!election.require_health);
    let hooks = &config.hooks;
    let timeout = |hook: &Option<crate::config::Hook>| hook.as_ref().unwrap().timeout.as_secs();
    assert_eq!([&hooks.on_promote, &hooks.on_demote, &hooks.on_leader_change].map(timeout), [20, 3, 30]);
    let replica =
        good(&format!("{LOCAL}[election]\nname = \"a\"\nwithout_catalog = \"replica\"\nprefer = \"never\"\n"));
    assert_eq!(elected(&replica).without_catalog, WithoutCatalog::Replica);
}

#[test]
fn a_candidate_without_a_service_is_called_after_election_and_host() {
    let config = good(&format!("{LOCAL}[election]\nname = \"prod/mysql\"\n"));
    assert_eq!((elected(&config).id.as_str(), &elected(&config).service), ("prod-mysql-web1", &None));
}

#[test]
fn a_service_is_meant_by_its_name_or_its_id() {
    let services = "service = [{ name = \"a\", port = 1 }, { name = \"a\", port = 2 }, { name = \"b\", port = 3 }]\n";
    for (named, id) in [("a-web1-2", "a-web1-2"), ("b", "b-web1-3")] {
        let config = good(&format!("{LOCAL}{services}[election]\nname = \"x\"\nservice = \"{named}\"\n"));
        assert_eq!((elected(&config).id.as_str(), elected(&config).service.as_deref()), (id, Some(id)));
    }
}

#[test]
fn the_elections_service_in_consul_is_gone_as_soon_as_its_agent() {
    let ttl = |catalog: &str, service: &str, election: &str| {
        let services =
            format!("service = [{{ name = \"mysql\", port = 1{service} }}, {{ name = \"other\", port = 2 }}]");
        let config =
            good(&format!("{catalog}{services}\n[election]\nname = \"mysql\"\nservice = \"mysql\"\n{election}"));
        assert_eq!(config.services[1].ttl, Duration::from_secs(15), "the other one's is its own");
        (config.services[0].ttl.as_secs(), elected(&config).alive_ttl.as_secs())
    };
    assert_eq!(ttl(CONSUL, "", ""), (3, 3));
    assert_eq!(ttl(CONSUL, "", "alive_ttl = \"5s\""), (5, 5));
    assert_eq!(ttl(CONSUL, ", ttl = \"2s\"", ""), (2, 2));
    assert_eq!(ttl(ETCD, "", "").0, 15);
    assert_eq!(ttl(ETCD, "", "lease = \"12s\"").0, 12, "nor does it outlive the lock");
    assert_eq!(ttl(LOCAL, "", "").0, 15);
}

#[test]
fn what_is_done_may_depend_on_the_role() {
    let config = good(&format!(
        "{LOCAL}{}",
        r#"
        [hooks]
        pre_start = { exec = ["a"], when = "replica" }
        pre_stop = { exec = ["a"], when = "leader" }
        post_stop = { exec = ["a"] }
        [[wait_for]]
        key = "mysql/snapshot"
        when = "replica"
        [[wait_for]]
        leader = "mysql"
        [[watch]]
        leader = "other/db"
        when = "leader"
        on_change = { exec = ["a"] }
        [election]
        name = "mysql"
        "#
    ));
    let hooks = &config.hooks;
    assert_eq!(hooks.pre_start[0].hook.when, When::Replica);
    assert_eq!(hooks.pre_stop.as_ref().unwrap().when, When::Leader);
    assert_eq!(hooks.post_stop.as_ref().unwrap().when, When::Always);
    assert_eq!((config.wait_for[0].when, config.wait_for[1].when), (When::Replica, When::Always));
    assert_eq!(config.wait_for[1].query, Query::Leader { election: "mysql".to_owned() });
    assert_eq!(config.watches[0].query, Query::Leader { election: "other/db".to_owned() });
    assert_eq!((config.watches[0].name.as_str(), config.watches[0].when), ("other/db", When::Leader));
}

#[test]
fn who_only_wants_to_know_who_leads_needs_no_election() {
    good(&format!(
        "{LOCAL}wait_for = [{{ leader = \"mysql\" }}]\nwatch = [{{ leader = \"mysql\", signal = \"HUP\" }}]\n"
    ));
}

#[test]
fn a_sum_is_made_where_there_is_a_lease() {
    let sum = |catalog: &str| Sum::of(&good(&format!("{catalog}[election]\nname = \"mysql\"\n")));
    assert_eq!(sum(LOCAL), None);
    assert_eq!(Sum::of(&good(CONSUL)), None);
    let (consul, etcd) = (sum(CONSUL).unwrap(), sum(ETCD).unwrap());
    assert!(consul.fits() && consul.to_string().contains("the loss of a Consul server"), "{consul}");
    assert!(etcd.fits() && !etcd.to_string().contains("Consul"), "{etcd}");
    // The shortest there is: 11 s are needed, and a hundredth of the lease is for drift.
    good(&format!("{ETCD}[election]\nname = \"a\"\nlease = \"12s\"\n"));
    good(&format!("{CONSUL}[election]\nname = \"a\"\nlease = \"11112ms\"\n"));
    good(&format!("{CONSUL}[election]\nname = \"a\"\nlease = \"1m\"\n"));
}

#[test]
fn what_means_nothing_on_an_engine_or_in_a_mode_is_said() {
    let election = "[election]\nname = \"a\"\n";
    let tagged = "service = [{ name = \"m\", port = 1, consul = { enable_tag_override = true } }]\n";
    let watch = "[[watch]]\nkey = \"k\"\nsignal = \"HUP\"\nwhen = \"replica\"";
    for (text, words) in [
        (format!("{LOCAL}{election}lease = \"15s\""), "`lease` means nothing with a local catalog"),
        (format!("{LOCAL}{election}witness = \"/run/x\""), "`witness` means nothing with a local catalog"),
        (format!("{LOCAL}{election}alive_ttl = \"3s\""), "`alive_ttl` means nothing here"),
        (format!("{ETCD}{election}alive_ttl = \"3s\""), "`alive_ttl` means nothing here"),
        (format!("{CONSUL}{election}alive_ttl = \"3s\""), "`alive_ttl` means nothing here"),
        (format!("{CONSUL}{MYSQL}{election}alive_ttl = \"20s\""), "longer than the `ttl` of `mysql`, which is 15s"),
        (format!("{CONSUL}{tagged}{election}role_tags = {{ leader = \"p\", replica = \"r\" }}"), "enable_tag_override"),
        (format!("{LOCAL}{election}mode = \"standby\"\nprefer = \"never\""), "the main process never runs"),
        (format!("{LOCAL}{election}mode = \"standby\"\nwithout_catalog = \"replica\""), "`without_catalog"),
        (format!("{LOCAL}{election}mode = \"standby\"\n{watch}"), "this signal reaches nobody"),
    ] {
        let said = warnings(&text);
        assert!(said.len() == 1 && said[0].contains(words), "{words}: {said:?}");
    }
    let cut =
        format!("{LOCAL}stop.within = \"4s\"\nhooks.on_demote = {{ exec = [\"a\"], timeout = \"6s\" }}\n{election}");
    assert_eq!(warnings(&cut), ["`on_demote` is cut off at `[stop] within`, which is 4s"]);
}

#[test]
fn a_quorum_is_told_with_the_writes_that_it_is_good_for() {
    let told = |rank: &str| {
        let config = good(&format!(
            "{LOCAL}{MYSQL}[election]\nname = \"db\"\nid = \"disk-1\"\nrank = {{ exec = [\"rank\"]{rank} }}\n"
        ));
        elected(&config).quorum_in_words()
    };
    assert_eq!(told(""), None);
    let two = told(", quorum = 2").unwrap();
    assert!(two.ends_with("quorum = N - W + 1 loses none; 2 suits by 2 of 3, by 4 of 5\n"), "{two}");
    let one = told(", quorum = 1").unwrap();
    assert!(one.ends_with("1 suits by 2 of 2, by 4 of 4\n"), "{one}");
}

#[test]
fn a_quorum_of_one_needs_no_id_and_more_takes_that_of_the_service() {
    let rank = |quorum| format!("[election]\nname = \"db\"\nrank = {{ exec = [\"rank\"], quorum = {quorum} }}\n");
    assert_eq!(elected(&good(&format!("{LOCAL}{MYSQL}{}", rank(1)))).id, "mysql-web1-3306");
    let service = "service = [{ name = \"mysql\", id = \"disk-1\", port = 3306 }]\n";
    assert_eq!(elected(&good(&format!("{LOCAL}{service}{}", rank(2)))).id, "disk-1");
}
