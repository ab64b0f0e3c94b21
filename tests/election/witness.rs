//! A leader's container is gone and its host's kernel knows: real containers on real Consul and etcd, with a lease so long
//! that whoever acts within seconds didn't wait for it. What decides is in the core's tests; the file by itself is
//! tested here, too.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use pilotfish::catalog::local::{Error, WitnessDirectory};
use pilotfish::supervisor::machines::election::record::Witness;
use tokio::time::timeout;

use crate::election::leading::{Place, leader_is};
use crate::support::lab::Lab;
use crate::support::lease::lease;
use crate::support::namespace::{Container, eventually, within};

/// Nobody who acts within [`SOON`] has waited for it.
const LEASE: &str = "lease = \"30s\"\nkill_margin = \"900ms\"";
const SOON: Duration = Duration::from_secs(8);
/// Long enough to see that nobody comes.
const A_WHILE: Duration = Duration::from_secs(3);

fn shared() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    directory
}

fn stores() -> [Place; 2] {
    [
        Place::Consul(crate::support::servers::Consul::start()),
        Place::Etcd(crate::support::servers::Etcd::start("etcd35")),
    ]
}

fn at(directory: &Path) -> String {
    format!("witness = \"{}\"", directory.display())
}

/// A candidate whose main is this script, with more TOML below `[election]`.
fn candidate_with(place: &Place, id: &str, election: &str, main: &str, on_promote: &str) -> Lab {
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"bash\", \"DIR/main\"]\n\
         [hooks]\non_promote = {{ exec = [\"sh\", \"-c\", \"echo promoted >> DIR/story; {on_promote}\"], timeout = \"60s\" }}\n\
         [[service]]\nname = \"db\"\nid = \"{id}\"\nport = 3306\naddress = [\"static:192.0.2.1\"]\n\
         [catalog]\n{}\n[election]\nname = \"db\"\n{LEASE}\n{election}\n",
        place.catalog()
    ));
    fs::write(lab.path("main"), main.replace("DIR", lab.path("").to_str().unwrap())).unwrap();
    lab
}

fn candidate(place: &Place, id: &str, election: &str) -> Lab {
    candidate_with(place, id, election, "exec sleep 1000", "true")
}

fn leads(lab: &Lab, id: &str) -> Container {
    let container = lab.run();
    lab.told("promoted");
    leader_is(lab, id);
    container
}

fn is_promoted(lab: &Lab) -> bool {
    lab.story().iter().any(|line| line == "promoted")
}

/// `last` says so of main and its file.
fn grace_after_release(place: &Place, millis: u64) {
    let says = format!("\"linger_ms\":{millis}");
    let last = || match place {
        Place::Consul(consul) => consul.ask("GET", "/v1/kv/db/last?raw", "").1,
        Place::Etcd(etcd) => etcd.ctl(&["get", "pilotfish/elections/db/last"]).unwrap_or_default(),
        Place::Local(_) | Place::Nowhere => unreachable!("no such place here"),
    };
    eventually(&says, || last().contains(&says).then_some(())).unwrap_or_else(|error| panic!("{error}: {}", last()));
}

#[track_caller]
fn promoted_soon(lab: &Lab, since: Instant) -> Duration {
    within(SOON, "a promotion", || is_promoted(lab).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?}", lab.ask(&["status"])));
    since.elapsed()
}

#[track_caller]
fn stays_a_replica(lab: &Lab) {
    std::thread::sleep(A_WHILE);
    assert!(!is_promoted(lab), "{:?}", lab.ask(&["status"]));
}

#[test]
fn a_killed_leader_is_succeeded_at_once_by_a_candidate_of_its_own_host() {
    for place in stores() {
        let shared = shared();
        let one = candidate(&place, "one", &at(shared.path()));
        let first = leads(&one, "one");
        let two = candidate(&place, "two", &at(shared.path()));
        let second = two.run();
        leader_is(&two, "one");
        grace_after_release(&place, 0);
        let since = Instant::now();
        first.signal(libc::SIGKILL);
        println!("{:?}", promoted_soon(&two, since));
        let said = "the kernel says that nothing is left of one's container";
        eventually(said, || second.stderr().contains(said).then_some(())).unwrap();
    }
}

#[test]
fn a_killed_leader_is_succeeded_at_once_by_another_hosts_candidate_where_a_witness_runs() {
    for place in stores() {
        let shared = shared();
        let one = candidate(&place, "one", &at(shared.path()));
        let first = leads(&one, "one");
        let two = candidate(&place, "two", "");
        let _second = two.run();
        leader_is(&two, "one");
        grace_after_release(&place, 0);
        // Of a candidate's own config; a directory and elections may be given, too.
        let config = one.path("pilotfish.toml");
        let words =
            [crate::support::namespace::pilotfish().into_os_string(), "witness".into(), "-c".into(), config.into()];
        let mut witness = crate::support::namespace::Start::new(words).run().unwrap();
        eventually("a witness", || witness.stderr().contains("waiting for the ends of db's leaders").then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}", witness.stderr()));
        std::thread::sleep(Duration::from_millis(300));
        let since = Instant::now();
        first.signal(libc::SIGKILL);
        println!("{:?}", promoted_soon(&two, since));
        witness.signal(libc::SIGTERM);
        assert_eq!(witness.wait(), Ok(0), "{}", witness.stderr());
    }
}

#[test]
fn a_leader_that_is_killed_and_started_again_leads_again_at_once() {
    for place in stores() {
        let shared = shared();
        let one = candidate(&place, "one", &at(shared.path()));
        let mut first = leads(&one, "one");
        grace_after_release(&place, 0);
        first.signal(libc::SIGKILL);
        assert_eq!(first.wait(), Ok(137));
        fs::remove_file(one.path("story")).unwrap();
        fs::remove_file(one.path("control.sock")).unwrap();
        let since = Instant::now();
        let _second = one.run();
        println!("{:?}", promoted_soon(&one, since));
    }
}

#[test]
fn without_a_witness_of_its_host_a_killed_leader_costs_its_lease() {
    for place in stores() {
        let (shared, other) = (shared(), shared());
        let one = candidate(&place, "one", &at(shared.path()));
        let first = leads(&one, "one");
        // As of another host, where there is another directory; and one without any.
        let two = candidate(&place, "two", &at(other.path()));
        let three = candidate(&place, "three", "");
        let _others = (two.run(), three.run());
        leader_is(&two, "one");
        grace_after_release(&place, 0);
        first.signal(libc::SIGKILL);
        stays_a_replica(&two);
        assert!(!is_promoted(&three));
    }
}

#[test]
fn a_leader_that_is_only_stopped_is_not_taken_for_gone() {
    for place in stores() {
        let shared = shared();
        let one = candidate(&place, "one", &at(shared.path()));
        let first = leads(&one, "one");
        let two = candidate(&place, "two", &at(shared.path()));
        let _second = two.run();
        leader_is(&two, "one");
        first.signal(libc::SIGSTOP);
        stays_a_replica(&two);
        first.signal(libc::SIGCONT);
    }
}

#[test]
fn a_main_that_has_closed_the_file_is_given_the_kill_margin() {
    for place in stores() {
        let shared = shared();
        let close = "until [ -e DIR/close ]; do sleep 0.05; done\n\
             for fd in /proc/$$/fd/*; do fd=${fd##*/}; if [ $fd -gt 2 ]; then eval \"exec $fd>&-\"; fi; done\n\
             exec sleep 1000";
        let one = candidate_with(&place, "one", &at(shared.path()), close, "true");
        let first = leads(&one, "one");
        let two = candidate(&place, "two", &at(shared.path()));
        let _second = two.run();
        leader_is(&two, "one");
        grace_after_release(&place, 0);
        fs::write(one.path("close"), "").unwrap();
        grace_after_release(&place, 900);
        let since = Instant::now();
        first.signal(libc::SIGKILL);
        let took = promoted_soon(&two, since);
        assert!(took >= Duration::from_millis(900), "{took:?}");
    }
}

/// What on_promote left acts for the leader, and lives on where no namespace ends with the agent.
#[test]
fn as_long_as_something_of_a_leaders_hook_lives_it_is_not_taken_for_gone() {
    for place in stores() {
        let shared = shared();
        let stray = "setsid sh -c 'echo $$ > DIR/stray; exec sleep 1000'";
        // Or Consul would take the lock meanwhile, and hold all back.
        let fence = format!("{}\nfence = \"process-group\"\nalive_ttl = \"15s\"", at(shared.path()));
        let one = candidate_with(&place, "one", &fence, "exec sleep 1000", stray);
        let first = one.run_as(one.start().ordinary());
        let stray: i32 = eventually("what the hook left", || {
            fs::read_to_string(one.path("stray")).ok().and_then(|pid| pid.trim().parse().ok())
        })
        .unwrap();
        let two = candidate(&place, "two", &at(shared.path()));
        let _second = two.run();
        leader_is(&two, "one");
        first.signal(libc::SIGKILL);
        stays_a_replica(&two);
        let since = Instant::now();
        // SAFETY: a process that this test's hook has left, and nobody else ends.
        #[allow(unsafe_code)]
        unsafe {
            libc::kill(stray, libc::SIGKILL)
        };
        promoted_soon(&two, since);
    }
}

/// A tmp cleaner, `rm -rf`, a directory of the host that was made anew: a person learns that from now on the lease is waited
/// for, and that it is so no more.
#[test]
fn a_witness_that_is_gone_is_said_once_and_shown_and_so_is_that_it_is_back() {
    let place = Place::Etcd(crate::support::servers::Etcd::start("etcd35"));
    let shared = shared();
    let one = candidate(&place, "one", &at(shared.path()));
    let first = leads(&one, "one");
    let shows = |lab: &Lab, text: &str| {
        eventually(text, || lab.ask(&["status"]).1.contains(text).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {:?}", lab.ask(&["status"])));
    };
    let stands = format!("the witness in {} stands", shared.path().display());
    shows(&one, &stands);
    let (folder, away) = (shared.path().join("pilotfish"), shared.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    // Another file of that name is not what main holds.
    fs::create_dir_all(folder.join("witnesses/db")).unwrap();
    for file in fs::read_dir(away.join("witnesses/db")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.join("witnesses/db").join(file.file_name())).unwrap();
    }
    shows(
        &one,
        &format!("there is no witness in {}, so this container's end costs the lease", shared.path().display()),
    );
    fs::remove_dir_all(&folder).unwrap();
    std::thread::sleep(A_WHILE);
    fs::rename(&away, &folder).unwrap();
    shows(&one, &stands);
    let said = |text: &str| first.stderr().matches(text).count();
    eventually("the log", || first.stderr().contains("the witness is back").then_some(())).unwrap();
    assert_eq!((said("there is no witness, so"), said("the witness is back")), (1, 1), "{}", first.stderr());
}

fn witnesses(directory: &Path) -> WitnessDirectory {
    WitnessDirectory::new(directory, "db", Duration::from_secs(1))
}

#[tokio::test]
async fn a_file_tells_its_end_when_the_last_who_inherited_it_has_closed_it() {
    let shared = shared();
    let (own, other) = (witnesses(shared.path()), witnesses(shared.path()));
    own.open().await.unwrap();
    let witness = own.own().unwrap();
    // As a hook and main have them.
    let (hook, main) = (own.file().unwrap(), own.for_main().unwrap());
    drop(own);
    let wait = Duration::from_millis(200);
    timeout(wait, other.gone(&witness)).await.unwrap_err();
    drop(hook);
    timeout(wait, other.gone(&witness)).await.unwrap_err();
    // Who can only read keeps nobody from learning it: what the agent had is free for that by now.
    let path = shared.path().join("pilotfish/witnesses/db").join(&*witness.file);
    let reader = fs::File::open(&path).unwrap();
    let mut flock = nix::libc::flock { l_type: 0, l_whence: 0, l_start: 0, l_len: 1, l_pid: 0 };
    flock.l_type = nix::libc::F_RDLCK as i16;
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_OFD_SETLK(&flock)).unwrap();
    drop(main);
    timeout(SOON, other.gone(&witness)).await.expect("in time").unwrap();
    // Who comes later learns it as well.
    timeout(SOON, witnesses(shared.path()).gone(&witness)).await.expect("in time").unwrap();
}

#[tokio::test]
async fn what_stands_in_the_place_of_its_file_keeps_no_main_waiting() {
    let shared = shared();
    let own = witnesses(shared.path());
    own.open().await.unwrap();
    let witness = own.own().unwrap();
    let path = shared.path().join("pilotfish/witnesses/db").join(&*witness.file);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    let _leased = lease(&path).expect("nobody has it open");
    let start = Instant::now();
    let main = own.for_main().unwrap();
    assert!(start.elapsed() < SOON);
    // It is the one that the record names, and not the agent's own description.
    assert_eq!(main.metadata().unwrap().ino(), witness.inode);
    assert!(!std::sync::Arc::ptr_eq(&main, &own.file().unwrap()));
}

#[tokio::test]
async fn a_record_of_another_boot_or_file_says_nothing_here() {
    let shared = shared();
    let (own, other) = (witnesses(shared.path()), witnesses(shared.path()));
    own.open().await.unwrap();
    let witness = own.own().unwrap();
    let folder = shared.path().join("pilotfish/witnesses/db");
    let about = fs::metadata(folder.join(&*witness.file)).unwrap();
    assert_eq!((witness.device, witness.inode), (about.dev(), about.ino()));
    drop(own);
    let forged = [
        Witness { boot: "3f1b1e0c-0000-4000-8000-000000000000".into(), ..witness.clone() },
        Witness { device: witness.device + 1, ..witness.clone() },
        Witness { inode: witness.inode + 1, ..witness.clone() },
        Witness { file: "0123456789abcdef0123456789abcdef".into(), ..witness.clone() },
    ];
    for forged in forged {
        let told = timeout(SOON, other.gone(&forged)).await.expect("in time");
        assert!(matches!(told, Err(Error::NotHere { .. })), "{told:?}");
    }
    // A copy under its name, as of a directory brought back from a backup.
    fs::rename(folder.join(&*witness.file), folder.join("kept")).unwrap();
    fs::copy(folder.join("kept"), folder.join(&*witness.file)).unwrap();
    assert!(matches!(other.gone(&witness).await, Err(Error::NotHere { .. })));
}

#[tokio::test]
async fn a_containers_own_directory_is_no_place_for_a_witness() {
    let error = witnesses(Path::new("/proc/sys")).open().await.unwrap_err().to_string();
    assert!(error.starts_with("/proc/sys is on proc, where a lock doesn't show"), "{error}");
}

#[tokio::test]
async fn a_file_stands_as_long_as_its_name_leads_to_it_and_looking_makes_nothing() {
    let shared = shared();
    let own = witnesses(shared.path());
    own.open().await.unwrap();
    own.stands().unwrap();
    let main = own.for_main().unwrap();
    fs::remove_dir_all(shared.path()).unwrap();
    let gone = own.stands();
    assert!(matches!(gone, Err(Error::WitnessGone { .. })), "{gone:?}");
    assert!(!shared.path().exists());
    // What is held is what the record names, whether it is found or not.
    let witness = own.own().unwrap();
    own.open().await.unwrap();
    assert_eq!(own.own(), Some(witness));
    drop(main);
}
