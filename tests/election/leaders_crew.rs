//! What a leader runs beside main, its coprocess `vip`, when its agent is stopped or dies: the guard ends it in time, with
//! all that it started, and nothing of it is there when the next one acts. Each `vip` holds locks of files (flock(2)), by
//! which the next leader's hooks, and the test, see whether any of it lives.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::leading::{Place, leader_is};
use crate::support::lab::Lab;
use crate::support::namespace::{Container, eventually, specimen, within};
use crate::support::servers::{Consul, Etcd};

/// How long a leader may act on its last proof.
const LEASE: Duration = Duration::from_secs(11);
/// What holds a lock of each `vip`.
const HELD: [&str; 3] = ["own", "child", "escaped"];

/// What becomes of the agent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Stopped,
    Killed,
    /// While somebody restarts the coprocess, which obeys nobody.
    StoppedInARestart,
}

/// A candidate whose `vip` leaves processes in other groups and sessions; `beside` is where the other one's locks are.
fn candidate(place: &Place, id: &str, beside: &Path) -> Lab {
    let lab = Lab::new("");
    let hold = |file: &str| format!("{} hold DIR/held-{file}", specimen().display());
    let vip = format!(
        "trap '' TERM; echo vip >> DIR/story; {child} & (setsid {escaped} &); {own} & while :; do sleep 0.05; done",
        own = hold("own"),
        child = hold("child"),
        escaped = hold("escaped")
    );
    fs::write(lab.path("vip"), vip.replace("DIR", lab.path("").to_str().unwrap().trim_end_matches('/'))).unwrap();
    let look = format!(
        "for f in {}/held-*; do [ ! -e $f ] || flock -n -x $f true || echo left $f >> DIR/story; done; echo leads >> DIR/story",
        beside.display()
    );
    lab.write(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n\
         [hooks]\non_promote = {{ exec = [\"sh\", \"-c\", '''{look}'''], timeout = \"5s\" }}\n\
         [[coprocess]]\nname = \"vip\"\nexec = [\"sh\", \"DIR/vip\"]\nwhen = \"leader\"\n\
         [[service]]\nname = \"db\"\nid = \"{id}\"\nport = 3306\naddress = [\"static:192.0.2.1\"]\n\
         [catalog]\n{}\n[election]\nname = \"db\"\nlease = \"{}s\"\nkill_margin = \"500ms\"\n",
        place.catalog(),
        LEASE.as_secs()
    ));
    lab
}

fn is_held(lab: &Lab, what: &str) -> bool {
    use nix::fcntl::{Flock, FlockArg};
    let file = File::open(lab.path(&format!("held-{what}")));
    file.is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err())
}

#[track_caller]
fn all_held(lab: &Lab, container: &Container) {
    eventually("vip and all it started", || HELD.iter().all(|what| is_held(lab, what)).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?} {}", lab.story(), container.stderr()));
}

fn none_is_held(lab: &Lab) -> Option<()> {
    (!HELD.iter().any(|what| is_held(lab, what))).then_some(())
}

fn is_succeeded(place: &Place, fate: Fate) {
    let kept = tempfile::tempdir().unwrap();
    let one = candidate(place, "one", kept.path());
    let first = one.run();
    all_held(&one, &first);
    leader_is(&one, "one");
    let two = candidate(place, "two", one.path("").as_path());
    let second = two.run();
    leader_is(&two, "one");
    thread::scope(|scope| {
        if fate == Fate::StoppedInARestart {
            scope.spawn(|| one.ask(&["restart", "vip"]));
            eventually("the restart", || first.stderr().contains("coprocess.told").then_some(())).unwrap();
        }
        let begun = Instant::now();
        first.signal(if fate == Fate::Killed { libc::SIGKILL } else { libc::SIGSTOP });
        let ended = within(LEASE * 2, "its end", || none_is_held(&one).map(|()| begun.elapsed()))
            .unwrap_or_else(|error| panic!("{fate:?}: {error}: {}", first.stderr()));
        println!("{fate:?}: nothing of vip is left after {} ms", ended.as_millis());
        assert!(ended < LEASE, "{fate:?}: {ended:?}");
        within(Duration::from_secs(60), "the next leader", || two.story().contains(&"leads".to_owned()).then_some(()))
            .unwrap_or_else(|error| panic!("{fate:?}: {error}: {}", second.stderr()));
        println!("{fate:?}: the next one acts after {} ms", begun.elapsed().as_millis());
        all_held(&two, &second);
        let left: Vec<String> = two.story().into_iter().filter(|line| line.starts_with("left")).collect();
        assert!(left.is_empty(), "{fate:?}: {left:?}");
        // Awake again, it has nothing of a leader's, and starts nothing.
        if fate != Fate::Killed {
            first.signal(libc::SIGCONT);
            leader_is(&one, "two");
            thread::sleep(Duration::from_secs(1));
            assert_eq!(none_is_held(&one), Some(()), "{fate:?}: {}", first.stderr());
            assert_eq!(one.story().iter().filter(|line| *line == "vip").count(), 1, "{fate:?}");
        }
    });
}

/// All of them at once: each waits for its lease.
fn in_all(fates: &[Fate], place: impl Fn() -> Place + Sync) {
    thread::scope(|scope| {
        for fate in fates {
            let place = &place;
            scope.spawn(move || is_succeeded(&place(), *fate));
        }
    });
}

const FATES: [Fate; 3] = [Fate::Stopped, Fate::Killed, Fate::StoppedInARestart];

#[test]
fn on_consul_a_leaders_coprocess_ends_in_time_and_never_acts_beside_the_next_leaders() {
    in_all(&FATES, || Place::Consul(Consul::start()));
}

#[test]
fn on_etcd_a_leaders_coprocess_ends_in_time_and_never_acts_beside_the_next_leaders() {
    in_all(&FATES, || Place::Etcd(Etcd::start("etcd35")));
}
