//! A container's part in an election, on the real program: two and more of them on one shared directory, each PID 1 of
//! a namespace of its own. What the engines add is in tests/election; what breaks, in tests/faults/nemesis.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::time::{Duration, Instant};

use crate::support::lab::Lab;
use crate::support::namespace::{Container, eventually};
use crate::support::servers::{Consul, Etcd};

/// Hooks and main write what they are told into the story.
const TELL: &str = "echo $PILOTFISH_EVENT $PILOTFISH_ROLE ${PILOTFISH_LEADER_ID:-nobody} >> DIR/story";

/// A candidate of `db` in this catalog; more TOML comes after `[election]`, and after everything.
fn candidate(catalog: &str, id: &str, election: &str, more: &str) -> Lab {
    let hook = |exec: &str| format!("{{ exec = [\"sh\", \"-c\", \"{exec}\"], timeout = \"2s\" }}");
    Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", \"echo main $PILOTFISH_ROLE ${{PILOTFISH_LEADER_ID:-nobody}} >> DIR/story; \
         exec sleep 1000\"]\n\
         [hooks]\non_promote = {tell}\non_demote = {tell}\non_leader_change = {tell}\n\
         [[service]]\nname = \"db\"\nid = \"{id}\"\nport = 3306\naddress = [\"static:192.0.2.1\"]\n\
         [catalog]\n{catalog}\n\
         [election]\nname = \"db\"\n{election}\n{more}",
        tell = hook(TELL),
    ))
}

/// Where candidates meet.
pub enum Place {
    Local(tempfile::TempDir),
    Consul(Consul),
    Etcd(Etcd),
    /// A catalog that can't be reached.
    Nowhere,
}

impl Place {
    pub fn local() -> Place {
        let shared = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(shared.path(), mode).unwrap();
        Place::Local(shared)
    }

    /// Every kind there is.
    pub fn all() -> Vec<Place> {
        let etcd = ["etcd", "etcd35"].map(|version| Place::Etcd(Etcd::start(version)));
        [Place::local(), Place::Consul(Consul::start())].into_iter().chain(etcd).collect()
    }

    pub fn catalog(&self) -> String {
        match self {
            Place::Local(shared) => format!("backend = \"local\"\ndirectory = \"{}\"", shared.path().display()),
            Place::Consul(consul) => format!("backend = \"consul\"\naddress = \"http://{}\"", consul.http),
            Place::Etcd(etcd) => format!("backend = \"etcd\"\nendpoints = [\"http://{}\"]", etcd.client()),
            // Port 1 (tcpmux) is nobody's.
            Place::Nowhere => "backend = \"etcd\"\nendpoints = [\"http://127.0.0.1:1\"]".to_owned(),
        }
    }

    /// What a lease is where there is one: short, so that a test is.
    pub fn lease(&self) -> &'static str {
        match self {
            Place::Local(_) | Place::Nowhere => "",
            Place::Consul(_) | Place::Etcd(_) => "lease = \"8s\"\nkill_margin = \"500ms\"",
        }
    }

    /// What stands in `last`.
    pub fn last(&self, election: &str) -> String {
        match self {
            Place::Local(shared) => {
                fs::read_to_string(shared.path().join(format!("pilotfish/elections/{election}/last")))
                    .unwrap_or_default()
            }
            Place::Consul(consul) => consul.ask("GET", &format!("/v1/kv/{election}/last?raw"), "").1,
            Place::Etcd(etcd) => {
                let key = format!("pilotfish/elections/{election}/last");
                etcd.ctl(&["get", "--print-value-only", &key]).unwrap_or_default()
            }
            Place::Nowhere => String::new(),
        }
    }

    /// Sets a key.
    fn put(&self, key: &str) {
        let Place::Local(shared) = self else { panic!("only a directory is written to here") };
        let keys = shared.path().join("pilotfish/keys");
        fs::create_dir_all(&keys).unwrap();
        fs::write(keys.join(key), "1").unwrap();
    }

    /// Two that run, the first of which leads.
    pub fn run(&self, election: &str) -> [(Lab, Container); 2] {
        let election = format!("{}\n{election}", self.lease());
        let start = |id: &str| {
            let lab = candidate(&self.catalog(), id, &election, "");
            let container = lab.run();
            (lab, container)
        };
        let one = start("one");
        leader_is(&one.0, "one");
        // Who starts before it acts is told of it later.
        assert_eq!(one.0.ask(&["wait", "leader"]).0, 0);
        let two = start("two");
        leader_is(&two.0, "one");
        [one, two]
    }
}

/// Waits until `pilotfish leader` names this one.
#[track_caller]
pub fn leader_is(lab: &Lab, id: &str) {
    let named = eventually(id, || lab.ask(&["leader"]).1.starts_with(&format!("{id} ")).then_some(()));
    named.unwrap_or_else(|error| panic!("{error}: {:?} {:?}", lab.ask(&["leader"]), lab.story()));
}

#[test]
fn one_leads_the_other_follows_and_both_know() {
    let place = Place::local();
    let [(one, _first), (two, _second)] = place.run("");
    one.told("on_promote leader one");
    two.told("main replica one");
    one.told("main leader one");
    assert_eq!(two.ask(&["leader"]), (0, "one 192.0.2.1:3306 1\n".to_owned(), String::new()));
    let (code, status, _) = two.ask(&["status"]);
    assert!(
        code == 0 && status.contains("replica of db: following; one at 192.0.2.1:3306 leads, for term 1"),
        "{status}"
    );
    assert!(one.ask(&["status"]).1.contains("leader of db: leading"));
}

#[test]
fn a_leader_killed_with_its_namespace_is_succeeded_by_the_other() {
    for place in Place::all() {
        let [(_one, first), (two, _second)] = place.run("");
        first.signal(libc::SIGKILL);
        two.told("on_promote leader two");
        leader_is(&two, "two");
        assert_eq!(two.story(), ["main replica one", "on_promote leader two"], "main ran on");
    }
}

#[test]
fn a_step_down_is_an_orderly_change_of_places() {
    for place in Place::all() {
        let [(one, _first), (two, _second)] = place.run("");
        one.told("on_promote leader one");
        let (code, said, _) = one.ask(&["step-down", "--to", "two"]);
        let next = "stepping down as leader of db, for two\ntwo at 192.0.2.1:3306 leads, for term ";
        assert!(code == 0 && said.starts_with(next), "{code} {said}");
        two.told("on_promote leader two");
        one.told("on_leader_change replica two");
        // Main and its promotion write at the same time.
        let hooks: Vec<String> = one.story().into_iter().filter(|line| !line.starts_with("main")).collect();
        assert_eq!(hooks, ["on_promote leader one", "on_demote replica one", "on_leader_change replica two"]);
        let (code, _, error) = one.ask(&["step-down"]);
        assert_eq!((code, error.as_str()), (1, "error: this container doesn't lead db; two does\n"));
    }
}

#[test]
fn a_lock_that_is_handed_back_is_taken_at_once() {
    for place in Place::all() {
        let [(one, _first), (two, _second)] = place.run("");
        one.told("on_promote leader one");
        assert_eq!(one.ask(&["step-down", "--to", "two"]).0, 0);
        two.told("on_promote leader two");
        // Who stepped down stays away for 5 s, but not from a lock that is left to it.
        let asked = Instant::now();
        assert_eq!(two.ask(&["step-down", "--to", "one"]).0, 0);
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    }
}

/// Both share the test's network.
#[test]
fn a_container_with_the_leaders_id_leaves_it_alone_and_is_a_replica() {
    for place in Place::all() {
        let start = || candidate(&place.catalog(), "one", place.lease(), "");
        let leader = start();
        let _first = leader.run();
        leader.told("on_promote leader one");
        let namesake = start();
        let second = namesake.run();
        namesake.told("main replica nobody");
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(leader.story().len(), 2, "{:?}", leader.story());
        let said = second.stderr();
        assert_eq!(said.matches("another container holds the lock under this one's id, one").count(), 1, "{said}");
    }
}

#[test]
fn a_step_down_that_waits_says_who_leads_then_or_that_nobody_does_in_time() {
    let place = Place::local();
    let one = candidate(&place.catalog(), "one", "", "");
    let _first = one.run();
    one.told("on_promote leader one");
    // Who stepped down stays away for 5 s, and there is nobody else.
    let (code, _, error) = one.ask(&["step-down", "--timeout", "500ms"]);
    assert_eq!((code, error.as_str()), (124, "error: nobody leads 500ms after that: waiting for a leader\n"));
    leader_is(&one, "one");
    let two = candidate(&place.catalog(), "two", "", "");
    let _second = two.run();
    leader_is(&two, "one");
    let (code, said, _) = one.ask(&["step-down", "--wait"]);
    assert!(code == 0 && said.contains("\ntwo at 192.0.2.1:3306 leads, for term "), "{code} {said}");
    two.told("on_promote leader two");
    // Nobody is called that: the lock is left to it, and then anybody has it.
    let (code, said, error) = two.ask(&["step-down", "--to", "three"]);
    assert_eq!((code, said.as_str()), (1, "stepping down as leader of db, for three\n"));
    assert!(error.starts_with("error: three didn't take over: ") && error.contains(" leads, for term "), "{error}");
}

#[test]
fn a_graceful_stop_hands_over_after_on_demote() {
    for place in Place::all() {
        let [(one, mut first), (two, _second)] = place.run("");
        one.told("on_promote leader one");
        first.signal(libc::SIGTERM);
        two.told("on_promote leader two");
        assert_eq!(first.wait(), Ok(143));
        assert_eq!(one.story().last().map(String::as_str), Some("on_demote replica one"));
    }
}

#[test]
fn a_successor_waits_only_for_a_main_that_has_closed_the_lock_it_was_given() {
    let place = Place::local();
    let Place::Local(shared) = &place else { unreachable!("just made") };
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"bash\", \"DIR/main\"]\n[catalog]\n{}\n\
         [election]\nname = \"db\"\nkill_margin = \"900ms\"\n",
        place.catalog()
    ));
    let close = lab.path("close");
    let script = format!(
        "until [ -e {} ]; do sleep 0.05; done\n\
         for fd in /proc/$$/fd/*; do fd=${{fd##*/}}; if [ $fd -gt 2 ]; then eval \"exec $fd>&-\"; fi; done\n\
         exec sleep 1000",
        close.display()
    );
    fs::write(lab.path("main"), script).unwrap();
    let _leader = lab.run();
    let promises = |linger: &str| {
        let last = || fs::read_to_string(shared.path().join("pilotfish/elections/db/last")).unwrap_or_default();
        let promise = format!("\"while_alive_linger_ms\":{linger}}}");
        eventually(&promise, || last().contains(&promise).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {} {}", last(), lab.ask(&["status"]).1));
    };
    promises("0");
    fs::write(close, "").unwrap();
    promises("900");
}

/// It isn't PID 1: what its hook has started lives on when it is killed.
#[test]
fn a_successor_waits_for_what_a_hook_of_the_leaders_has_started() {
    let place = Place::local();
    let [one, two] = ["one", "two"].map(|id| {
        Lab::new(&format!(
            "[process]\nexec = [\"sleep\", \"1000\"]\n\
             [hooks.on_promote]\nexec = [\"sh\", \"-c\", \"sleep 60 & echo $! > DIR/child; echo promotes >> DIR/story; \
             wait\"]\ntimeout = \"100s\"\n\
             [[service]]\nname = \"db\"\nid = \"{id}\"\nport = 3306\naddress = [\"static:192.0.2.1\"]\n\
             [catalog]\n{}\n[election]\nname = \"db\"\n",
            place.catalog()
        ))
    });
    let first = one.run_as(one.start().ordinary());
    one.told("promotes");
    let _second = two.run();
    first.signal(libc::SIGKILL);
    std::thread::sleep(Duration::from_secs(3));
    assert!(two.story().is_empty(), "{:?}", two.story());
    let child = fs::read_to_string(one.path("child")).unwrap().trim().parse().unwrap();
    // SAFETY: it lives for longer than this test takes until here.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(child, libc::SIGKILL)
    };
    two.told("promotes");
}

#[test]
fn a_leader_whose_main_ends_gives_the_lock_back_and_comes_again_as_a_replica() {
    let place = Place::local();
    let restart = "[process.restart]\npolicy = \"always\"\nbackoff = \"300ms\"";
    let one = candidate(&place.catalog(), "one", "", restart);
    let first = one.run();
    one.told("on_promote leader one");
    let two = candidate(&place.catalog(), "two", "", "");
    let _second = two.run();
    two.told("main replica one");
    // SAFETY: main is a process of this test's, not reaped before its agent has seen it end.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(first.main().unwrap(), libc::SIGKILL)
    };
    two.told("on_promote leader two");
    one.told("main replica two");
}

#[test]
fn a_leader_whose_main_fails_ends_with_its_code_where_none_is_started_again() {
    let place = Place::local();
    let hooks = "[hooks.post_stop]\nexec = [\"sh\", \"-c\", \"echo after >> DIR/story\"]\nwhen = \"leader\"";
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", \"until [ -e DIR/fail ]; do sleep 0.05; done; exit 3\"]\n{hooks}\n\
         [catalog]\n{}\n[election]\nname = \"db\"\n",
        place.catalog()
    ));
    let mut leader = lab.run();
    eventually("leading", || lab.ask(&["status"]).1.contains("leader of db: leading").then_some(())).unwrap();
    fs::write(lab.path("fail"), "").unwrap();
    assert_eq!(leader.wait(), Ok(3));
    assert_eq!(lab.story(), ["after"]);
}

#[test]
fn a_standby_runs_main_only_while_it_leads() {
    let place = Place::local();
    let [(one, _first), (two, second)] = place.run("mode = \"standby\"");
    one.told("on_promote leader one");
    assert_eq!((two.story(), second.children()), (Vec::new(), Vec::new()));
    assert_eq!(one.ask(&["step-down"]).0, 0);
    two.told("on_promote leader two");
    // Main and its promotion write at the same time.
    two.told("main leader two");
    assert_eq!(two.story().len(), 2, "{:?}", two.story());
    one.told("on_demote replica one");
}

#[test]
fn replicas_wait_for_what_the_leader_makes() {
    let place = Place::local();
    let wait = "[[wait_for]]\nkey = \"db/snapshot\"\nwhen = \"replica\"\n[[wait_for]]\nleader = \"db\"";
    let one = candidate(&place.catalog(), "one", "", wait);
    let _first = one.run();
    // It is its own leader, and waits for no snapshot.
    one.told("main leader one");
    let two = candidate(&place.catalog(), "two", "", wait);
    let _second = two.run();
    leader_is(&two, "one");
    assert_eq!(two.story(), [] as [&str; 0]);
    place.put("db%2Fsnapshot");
    two.told("main replica one");
}

#[test]
fn the_leader_is_watched_like_a_service() {
    let place = Place::local();
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n\
         [[watch]]\nleader = \"db\"\nname = \"primary\"\non_change = {{ exec = [\"sh\", \"-c\", \"cat >> DIR/story\"] }}\n\
         [catalog]\n{}\n",
        place.catalog()
    ));
    let _onlooker = lab.run();
    let one = candidate(&place.catalog(), "one", "", "");
    let _first = one.run();
    let seen = eventually("the leader", || lab.story().first().cloned()).unwrap();
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    let leader = &seen["instances"][0];
    assert_eq!((leader["id"].as_str(), leader["port"].as_u64()), (Some("one"), Some(3306)));
    assert_eq!(leader["meta"]["term"], "1");
}
