//! Leaders in containers of Docker's engine that share a directory of the host, on real Consul and etcd: killed, restarted,
//! out of memory, and paused. The lease is so long that whoever acts within seconds hasn't waited for it.

use std::time::{Duration, Instant};

use super::engine::{Container, within};
use super::stop::Config;
use crate::support::servers::{Consul, Etcd};

/// Far below the lease; the rest is for a machine that compiles meanwhile.
const SOON: u64 = 10;

struct Stage {
    shared: tempfile::TempDir,
    catalog: String,
    /// On both, for as long as the test lasts.
    _store: (Option<Consul>, Option<Etcd>),
}

impl Stage {
    fn all() -> [Stage; 2] {
        let shared = || tempfile::tempdir().expect("a directory can be made");
        let (consul, etcd) = (Consul::start(), Etcd::start("etcd35"));
        [
            Stage {
                shared: shared(),
                catalog: format!("backend = \"consul\"\naddress = \"http://{}\"", consul.http),
                _store: (Some(consul), None),
            },
            Stage {
                shared: shared(),
                catalog: format!("backend = \"etcd\"\nendpoints = [\"http://{}\"]", etcd.client()),
                _store: (None, Some(etcd)),
            },
        ]
    }

    /// Main fills its memory once it is told to.
    fn candidate(&self, id: &str, options: &[&str]) -> (Container, Config) {
        let config = Config::new(&format!(
            "[process]\nexec = [\"sh\", \"-c\", \"until [ -e /shared/fill-{id} ]; do sleep 0.1; done; exec tail /dev/zero\"]\n\
             [hooks]\non_promote = {{ exec = [\"touch\", \"/shared/{id}-leads\"] }}\n\
             [[service]]\nname = \"db\"\nid = \"{id}\"\nport = 3306\naddress = [\"static:192.0.2.1\"]\n\
             [catalog]\n{}\n\
             [election]\nname = \"db\"\nlease = \"45s\"\nwitness = \"/shared/witness\"\n",
            self.catalog
        ));
        let volume = format!("--volume={}:/shared", self.shared.path().display());
        let mount = config.mount();
        let given = [&*volume, &*mount, "--network=host", "--entrypoint=/pilotfish"];
        let options: Vec<&str> = given.into_iter().chain(options.iter().copied()).collect();
        (Container::start(&options, "init", &[]), config)
    }

    fn leads(&self, id: &str) -> Option<()> {
        self.path(id).exists().then_some(())
    }

    fn path(&self, id: &str) -> std::path::PathBuf {
        self.shared.path().join(format!("{id}-leads"))
    }

    /// One leads, and two, if it is there, follows; `last` says that main has the file.
    fn begun(&self, two: Option<&Container>) {
        within(30, "a leader", || self.leads("one"));
        if let Some(two) = two {
            within(30, "a follower", || two.exec(&["/pilotfish", "leader"]).1.starts_with("one ").then_some(()));
        }
        std::thread::sleep(Duration::from_millis(2500));
    }
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_leader_that_is_killed_is_succeeded_at_once_by_its_neighbour() {
    for stage in Stage::all() {
        let (one, two) = (stage.candidate("one", &[]), stage.candidate("two", &[]));
        stage.begun(Some(&two.0));
        let pid = nix::unistd::Pid::from_raw(one.0.pid());
        let begun = Instant::now();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("one's own container can be killed");
        within(SOON, "the next", || stage.leads("two"));
        println!("killed: {:?}", begun.elapsed());
    }
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_leader_alone_on_its_host_that_is_killed_and_restarted_leads_again_at_once() {
    for stage in Stage::all() {
        let one = stage.candidate("one", &["--restart=always"]);
        stage.begun(None);
        std::fs::remove_file(stage.path("one")).expect("it led");
        let pid = nix::unistd::Pid::from_raw(one.0.pid());
        let begun = Instant::now();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("one's own container can be killed");
        within(SOON, "the same again", || stage.leads("one"));
        println!("killed and restarted by the engine: {:?}", begun.elapsed());
    }
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_leader_that_is_restarted_in_good_order_is_succeeded_at_once() {
    for stage in Stage::all() {
        let (one, two) = (stage.candidate("one", &[]), stage.candidate("two", &[]));
        stage.begun(Some(&two.0));
        one.0.restart();
        within(SOON, "the next", || stage.leads("two"));
    }
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_leader_that_runs_out_of_memory_is_succeeded_at_once() {
    for stage in Stage::all() {
        let one = stage.candidate("one", &["--memory=64m", "--memory-swap=64m"]);
        let two = stage.candidate("two", &[]);
        stage.begun(Some(&two.0));
        let begun = Instant::now();
        std::fs::write(stage.shared.path().join("fill-one"), "").expect("a file");
        within(SOON, "the next", || stage.leads("two"));
        println!("out of memory: {:?}", begun.elapsed());
        assert_eq!(one.0.ends(), 137, "{}", one.0.logs());
    }
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_leader_that_is_paused_is_not_taken_for_gone() {
    for stage in Stage::all() {
        let (one, two) = (stage.candidate("one", &[]), stage.candidate("two", &[]));
        stage.begun(Some(&two.0));
        one.0.pause();
        std::thread::sleep(Duration::from_secs(3));
        assert!(stage.leads("two").is_none(), "{}", two.0.logs());
    }
}
