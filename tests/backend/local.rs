//! What holds in a shared directory only.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use pilotfish::catalog::Backend;
use pilotfish::config::{self, Query, Service};
use pilotfish::supervisor::vocabulary::ServiceStatus;

use super::bench::{Agent, Bench, PATIENCE, TextKeys, agent_on, instances_of, run, service};
use super::specimen::Specimen;
use crate::support::lease::lease;

/// A shared directory of one test.
pub struct SharedDirectory {
    directory: tempfile::TempDir,
}

impl SharedDirectory {
    /// What the config says.
    fn configured(&self) -> PathBuf {
        self.directory.path().join("shared")
    }

    /// Where things are.
    pub fn path(&self) -> PathBuf {
        self.configured().join("pilotfish")
    }

    fn services(&self) -> PathBuf {
        self.path().join("services")
    }

    /// Puts a file where a directory should be.
    pub fn spoil(&self, directory: &Path) {
        std::fs::write(self.directory.path().join("aside"), "").expect("ours");
        self.restore(directory);
    }

    /// Ends what [`spoil`](Self::spoil) began.
    pub fn restore(&self, directory: &Path) {
        let aside = self.directory.path().join("aside");
        renameat2(AT_FDCWD, directory, AT_FDCWD, &aside, RenameFlags::RENAME_EXCHANGE).expect("both are there");
    }
}

impl Bench for SharedDirectory {
    async fn start() -> SharedDirectory {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Other users take part.
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).expect("ours");
        SharedDirectory { directory }
    }

    fn address(&self) -> String {
        format!("local={}", self.configured().display())
    }

    fn gone_within(&self) -> Duration {
        // Milliseconds, as another test has it; this is for a machine that compiles meanwhile.
        Duration::from_secs(2)
    }

    async fn delete_entry(&self, service: &Service) {
        std::fs::remove_file(self.services().join(&service.name).join(&service.id)).expect("it is there");
    }

    async fn cut(&self, service: &str) {
        self.spoil(&self.services().join(service));
    }

    async fn mend(&self, service: &str) {
        self.restore(&self.services().join(service));
    }
}

type Shared = SharedDirectory;

fn names_in(directory: PathBuf) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.map(|e| e.expect("readable").file_name().into_string().expect("UTF-8")).collect()
}

/// Past every second the agent may sleep between two looks, but not as far as its sweep.
const BEFORE_THE_SWEEP: Duration = Duration::from_secs(5);

#[test]
fn a_killed_agent_is_noticed_within_milliseconds() {
    run(async |bench: &Shared| {
        let mut seen = agent_on(&bench.address()).follow(instances_of("web"));
        assert!(seen.ids().await.is_empty());
        let mut took = Vec::new();
        for _ in 0..21 {
            let mut specimen = Specimen::publishing(&bench.address(), &service("web", "web-1"));
            seen.until_ids(&["web-1"], PATIENCE).await;
            let killed = tokio::time::Instant::now();
            specimen.kill();
            seen.until_ids(&[], BEFORE_THE_SWEEP).await;
            took.push(killed.elapsed());
        }
        took.sort();
        println!("SIGKILL to seen: min {:?}, median {:?}, max {:?}", took[0], took[10], took[20]);
        assert!(took[10] < Duration::from_millis(50), "{took:?}");
        assert!(names_in(bench.services().join("web")).is_empty(), "its file is removed");
    });
}

#[test]
fn a_change_is_seen_within_milliseconds() {
    run(async |bench: &Shared| {
        let publisher = agent_on(&bench.address());
        let mut web = service("web", "web-1");
        publisher.pass(&web).await;
        let mut seen = agent_on(&bench.address()).follow(instances_of("web"));
        assert_eq!(seen.ids().await, ["web-1"]);
        let mut took = Vec::new();
        for n in 0..200 {
            web.tags = vec![n.to_string()];
            let changed = tokio::time::Instant::now();
            publisher.pass(&web).await;
            assert_eq!(seen.instances().await[0].tags, web.tags);
            took.push(changed.elapsed());
        }
        took.sort();
        println!("published to seen: median {:?}, p99 {:?}, max {:?}", took[100], took[198], took[199]);
        assert!(took[100] < Duration::from_millis(10), "{took:?}");
    });
}

#[test]
fn an_agent_killed_in_the_middle_of_a_change_leaves_nothing_wrong() {
    run(async |bench: &Shared| {
        let mut seen = agent_on(&bench.address()).follow(instances_of("web"));
        for round in 0..40_u32 {
            let mut specimen = Specimen::start(&["flip", &bench.address(), "web", "web-1"]);
            specimen.expect("flipping");
            // Another instruction each time.
            std::thread::sleep(Duration::from_micros(u64::from(round * 97)));
            specimen.kill();
            drop(specimen);
            agent_on(&bench.address()).follow(instances_of("web")).until_ids(&[], BEFORE_THE_SWEEP).await;
        }
        let last = agent_on(&bench.address());
        last.pass(&service("web", "web-1")).await;
        seen.until_ids(&["web-1"], PATIENCE).await;
        assert_eq!(names_in(bench.services().join("web")), ["web-1"]);
    });
}

#[test]
fn the_second_of_two_live_agents_with_one_id_is_told_so() {
    run(async |bench: &Shared| {
        let (first, second) = (agent_on(&bench.address()), agent_on(&bench.address()));
        let web = service("web", "web-1");
        first.pass(&web).await;
        let error = second.try_publish(&web, ServiceStatus::Passing, "").await.expect_err("it is taken");
        assert!(error.contains("web-1 is held by another live agent (at 192.0.2.1:8000)"), "{error}");
        second.withdraw(&web).await;
        assert_eq!(second.follow(instances_of("web")).ids().await, ["web-1"], "the first one's stays");
        first.withdraw(&web).await;
        second.pass(&web).await;
    });
}

#[test]
fn of_many_agents_that_start_with_one_id_exactly_one_gets_it() {
    run(async |bench: &Shared| {
        for _ in 0..5 {
            let address = bench.address();
            let mut all: Vec<_> =
                (0..6).map(|_| Specimen::start(&["publish", &address, "web", "web-1", "0"])).collect();
            let won = all.iter_mut().map(|s| s.expect("ed")).filter(|rest| rest.is_empty()).count();
            assert_eq!(won, 1);
        }
    });
}

#[test]
fn a_file_put_in_place_of_an_entry_by_hand_is_replaced_at_the_next_heartbeat() {
    run(async |bench: &Shared| {
        let publisher = agent_on(&bench.address());
        let web = service("web", "web-1");
        publisher.pass(&web).await;
        let path = bench.services().join("web/web-1");
        let other = bench.path().join("other");
        std::fs::write(&other, "{}").expect("ours");
        std::fs::rename(&other, &path).expect("ours");
        publisher.pass(&web).await;
        assert_eq!(publisher.follow(instances_of("web")).ids().await, ["web-1"]);
    });
}

#[test]
fn what_nobody_holds_is_no_instance_and_is_removed() {
    run(async |bench: &Shared| {
        let reader = agent_on(&bench.address());
        let mut seen = reader.follow(instances_of("web"));
        assert!(seen.ids().await.is_empty());
        let copy = r#"{"id":"web-9","name":"web","address":"192.0.2.1","port":1,"status":"passing"}"#;
        for (name, content) in [("web-9", copy), ("garbage", "\0\0"), ("%zz", "")] {
            std::fs::write(bench.services().join("web").join(name), content).expect("ours");
        }
        assert!(reader.follow(instances_of("web")).ids().await.is_empty());
        reader.pass(&service("web", "web-1")).await;
        assert_eq!(seen.ids().await, ["web-1"]);
        let mut left = names_in(bench.services().join("web"));
        left.sort();
        // What no agent can have written is somebody else's.
        assert_eq!(left, ["garbage", "web-1"]);
    });
}

#[test]
fn links_and_pipes_in_the_shared_directory_are_not_followed() {
    run(async |bench: &Shared| {
        let publisher = agent_on(&bench.address());
        publisher.pass(&service("web", "web-1")).await;
        let outside = bench.directory.path().join("outside");
        std::fs::create_dir(&outside).expect("ours");
        std::fs::write(outside.join("secret"), "secret").expect("ours");
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(outside.join(to), bench.path().join(at));
        link("secret", "keys/key").expect("ours");
        link("secret", "services/web/web-2").expect("ours");
        link("", "services/db").expect("ours");
        let fifo = bench.services().join("web/web-3");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("ours");

        assert_eq!(publisher.get("key").await, None);
        assert_eq!(publisher.follow(instances_of("web")).ids().await, ["web-1"]);
        let db = publisher.try_publish(&service("db", "secret"), ServiceStatus::Passing, "").await;
        assert!(db.expect_err("a link is no directory").contains("services/db"));
        publisher.put("key", "value").await;
        assert_eq!(publisher.get("key").await.as_deref(), Some("value"));
        assert_eq!(std::fs::read_to_string(outside.join("secret")).expect("untouched"), "secret");
    });
}

#[test]
fn names_that_point_outside_stay_inside() {
    run(async |bench: &Shared| {
        let agent = agent_on(&bench.address());
        for (name, id) in [("../../a", "../b"), ("..", "."), ("/etc", "/etc/passwd"), ("a%2fb", "c%00d")] {
            agent.pass(&service(name, id)).await;
            assert_eq!(agent.follow(instances_of(name)).ids().await, [id]);
        }
        agent.put("../../key", "value").await;
        assert_eq!(agent.get("../../key").await.as_deref(), Some("value"));
        assert_eq!(names_in(bench.directory.path().to_owned()), ["shared"]);
        assert_eq!(names_in(bench.services()).len(), 4);
    });
}

#[test]
fn names_and_values_that_are_too_long_are_refused() {
    run(async |bench: &Shared| {
        let agent = agent_on(&bench.address());
        let long = agent.try_publish(&service("web", &"x".repeat(256)), ServiceStatus::Passing, "").await;
        assert!(long.expect_err("no file has such a name").contains("too long for a file's name"));
        let note = "x".repeat(600 * 1024);
        let large = agent.try_publish(&service("web", "web-1"), ServiceStatus::Passing, &note).await;
        assert!(large.expect_err("too large").contains("exceeds the limit of 524288 bytes"));
        let large = TextKeys::put(&*agent.backend, "key", &note).await.expect_err("too large").to_string();
        assert!(large.contains("exceeds the limit of 524288 bytes"), "{large}");
        assert!(agent.backend.get("").await.is_err());
        assert!(names_in(bench.path().join("tmp")).is_empty(), "nothing is left of the attempts");
    });
}

#[test]
fn two_prefixes_share_a_directory_without_meeting() {
    run(async |bench: &Shared| {
        let on = |prefix: &str| {
            let backend = config::Backend::Local { directory: bench.configured(), shared: true };
            let config = config::Catalog { backend, prefix: prefix.to_owned() };
            Agent { backend: Arc::new(Backend::open(&config).expect("the config is right")) }
        };
        let (one, other) = (on("team/one"), on("services"));
        one.pass(&service("web", "web-1")).await;
        one.put("key", "one").await;
        assert!(other.follow(instances_of("web")).ids().await.is_empty());
        assert_eq!(other.get("key").await, None);
        assert_eq!(on("team/one").follow(instances_of("web")).ids().await, ["web-1"]);
    });
}

#[test]
fn another_datacenter_is_refused() {
    run(async |bench: &Shared| {
        let query = Query::Service { name: "web".to_owned(), tag: None, datacenter: Some("dc2".to_owned()) };
        let error = agent_on(&bench.address()).follow(query).told().await.expect_err("there is none");
        assert!(error.contains("datacenter \"dc2\" can't be asked"), "{error}");
    });
}

#[test]
fn a_file_system_without_locks_of_one_kernel_is_refused() {
    run(async |_: &Shared| {
        let error = agent_on("local=/proc").try_publish(&service("web", "web-1"), ServiceStatus::Passing, "").await;
        let error = error.expect_err("proc has no volumes");
        assert!(error.contains("/proc is on proc") && error.contains("must be on a disk of this host"), "{error}");
    });
}

#[test]
fn a_directory_from_before_a_reboot_is_taken_over() {
    run(async |bench: &Shared| {
        agent_on(&bench.address()).put("kept", "value").await;
        let mark = bench.path().join("boot");
        // As an agent makes it.
        std::fs::create_dir(bench.services().join("web")).expect("ours");
        std::fs::set_permissions(bench.services().join("web"), PermissionsExt::from_mode(0o777)).expect("ours");
        std::fs::write(bench.services().join("web/web-1"), "{}").expect("ours");
        std::fs::write(&mark, "11111111-2222-3333-4444-555555555555").expect("ours");
        let before = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        std::fs::File::options().write(true).open(&mark).expect("ours").set_modified(before).expect("ours");

        let agent = agent_on(&bench.address());
        agent.pass(&service("web", "web-2")).await;
        assert_eq!(names_in(bench.services().join("web")), ["web-2"], "what no lock holds is gone");
        assert_eq!(agent.get("kept").await.as_deref(), Some("value"), "keys outlive the host");
        let ours = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a kernel");
        assert_eq!(std::fs::read_to_string(&mark).expect("a mark"), ours.trim());
    });
}

#[test]
fn a_directory_another_kernel_just_used_is_refused() {
    run(async |bench: &Shared| {
        agent_on(&bench.address()).put("key", "value").await;
        std::fs::write(bench.path().join("boot"), "11111111-2222-3333-4444-555555555555").expect("ours");
        let agent = agent_on(&bench.address());
        for _ in 0..2 {
            let error = agent.try_publish(&service("web", "web-1"), ServiceStatus::Passing, "").await;
            let error = error.expect_err("another kernel's locks can't be seen");
            assert!(error.contains("in use under another kernel (boot id 11111111-"), "{error}");
        }
        let told = agent.follow(instances_of("web")).told().await;
        assert!(told.expect_err("nor can it be followed").contains("another kernel"));
    });
}

#[test]
fn a_directory_that_is_deleted_whole_comes_back() {
    run(async |bench: &Shared| {
        let publisher = agent_on(&bench.address());
        let web = service("web", "web-1");
        publisher.pass(&web).await;
        let mut seen = agent_on(&bench.address()).follow(instances_of("web"));
        assert_eq!(seen.ids().await, ["web-1"]);
        let gone = bench.directory.path().join("gone");
        std::fs::rename(bench.path(), &gone).expect("ours");
        std::fs::remove_dir_all(&gone).expect("ours");
        assert!(seen.ids().await.is_empty());
        publisher.pass(&web).await;
        assert_eq!(seen.ids().await, ["web-1"]);
    });
}

#[test]
fn scratch_files_of_dead_agents_are_swept_and_those_of_live_ones_are_not() {
    run(async |bench: &Shared| {
        agent_on(&bench.address()).put("key", "value").await;
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        let scratch = |name: &str| {
            let file = std::fs::File::create(bench.path().join("tmp").join(name)).expect("ours");
            file.set_modified(old).expect("ours");
            file
        };
        drop(scratch("00000000000000de"));
        drop(scratch("another's"));
        let held = scratch("000000000000001e");
        let _held = nix::fcntl::Flock::lock(held, nix::fcntl::FlockArg::LockExclusive).expect("free");
        std::fs::write(bench.path().join("tmp/0000000000000049"), "").expect("ours");
        // An agent sweeps when it comes to the directory.
        agent_on(&bench.address()).put("key", "value").await;
        let mut left = names_in(bench.path().join("tmp"));
        left.sort();
        assert_eq!(left, ["000000000000001e", "0000000000000049", "another's"]);
    });
}

#[test]
fn agents_of_different_users_share_a_directory() {
    if !nix::unistd::geteuid().is_root() {
        panic!("becoming another user takes root");
    }
    run(async |bench: &Shared| {
        let address = bench.address();
        let mut first = Specimen::start(&["publish", &address, "web", "web-1", "65501"]);
        first.expect("published");
        let mut seen = Specimen::start(&["follow", &address, "web", "65502"]);
        assert_eq!(seen.expect("seen"), "web-1");
        let mut second = Specimen::start(&["publish", &address, "web", "web-2", "65503"]);
        second.expect("published");
        assert_eq!(seen.expect("seen"), "web-1,web-2");
        first.kill();
        assert_eq!(seen.expect("seen"), "web-2");
        // The second user puts the first one's name to use.
        let mut again = Specimen::start(&["publish", &address, "web", "web-1", "65503"]);
        again.expect("published");
        assert_eq!(seen.expect("seen"), "web-1,web-2");
    });
}

#[test]
fn a_directory_that_may_only_be_read_can_be_followed() {
    run(async |bench: &Shared| {
        let publisher = agent_on(&bench.address());
        publisher.pass(&service("web", "web-1")).await;
        for directory in ["", "services", "services/web", "keys", "tmp"] {
            std::fs::set_permissions(bench.path().join(directory), PermissionsExt::from_mode(0o755)).expect("ours");
        }
        let mut seen = Specimen::start(&["follow", &bench.address(), "web", "65501"]);
        assert_eq!(seen.expect("seen"), "web-1");
        publisher.pass(&service("web", "web-2")).await;
        assert_eq!(seen.expect("seen"), "web-1,web-2");
        // A service nobody has published yet, whose directory this user can't make.
        let mut early = Specimen::start(&["follow", &bench.address(), "db", "65501"]);
        assert_eq!(early.expect("seen"), "");
        publisher.pass(&service("db", "db-1")).await;
        assert_eq!(early.expect("seen"), "db-1");
        let mut refused = Specimen::start(&["publish", &bench.address(), "web", "web-3", "65501"]);
        assert!(refused.expect("refused").contains("can't make"));
    });
}

#[test]
fn where_inotify_is_exhausted_changes_are_seen_within_seconds() {
    run(async |bench: &Shared| {
        let publisher = agent_on(&bench.address());
        publisher.pass(&service("web", "web-1")).await;
        // A user of its own: the instances are counted by user.
        let mut seen = Specimen::start(&["follow-exhausted", &bench.address(), "web", "65504"]);
        assert_eq!(seen.expect("seen"), "web-1");
        let published = tokio::time::Instant::now();
        publisher.pass(&service("web", "web-2")).await;
        assert_eq!(seen.expect("seen"), "web-1,web-2");
        assert!(published.elapsed() < BEFORE_THE_SWEEP, "{:?}", published.elapsed());
    });
}

#[test]
fn one_agent_takes_one_inotify_instance_however_much_it_follows() {
    run(async |bench: &Shared| {
        let mut agent = Specimen::start(&["follow-several", &bench.address()]);
        agent.expect("following");
        let descriptors = format!("/proc/{}/fd", agent.pid());
        let instances = names_in(descriptors.clone().into())
            .iter()
            .filter_map(|fd| std::fs::read_link(format!("{descriptors}/{fd}")).ok())
            .filter(|to| to.to_string_lossy().contains("inotify"))
            .count();
        assert_eq!(instances, 1);
    });
}

#[test]
fn at_rest_a_follower_sleeps() {
    run(async |bench: &Shared| {
        let mut agent = Specimen::start(&["follow-several", &bench.address()]);
        agent.expect("following");
        // The first look's thread ends by itself; what it does is not rest.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = wakeups(agent.pid());
        tokio::time::sleep(Duration::from_secs(3)).await;
        let since = wakeups(agent.pid()) - before;
        // Ten followers' sweeps in 30 s would be one or two; polling would be fifteen and more.
        assert!(since <= 3, "woke up {since} times in 3 s");
    });
}

fn wakeups(pid: u32) -> u64 {
    let tasks = names_in(format!("/proc/{pid}/task").into());
    let of = |task: &String| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/task/{task}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:").map(str::to_owned));
        line.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    tasks.iter().map(of).sum()
}

#[test]
fn no_child_of_an_agent_inherits_a_lock_or_any_other_descriptor_of_the_catalog() {
    run(async |bench: &Shared| {
        let publisher = agent_on(&bench.address());
        publisher.pass(&service("web", "web-1")).await;
        let mut seen = publisher.follow(instances_of("web"));
        assert_eq!(seen.ids().await, ["web-1"]);
        let shared = bench.path().display().to_string();
        let ours = names_in("/proc/self/fd".into()).into_iter().filter_map(|fd| {
            let to = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
            to.to_string_lossy().starts_with(&shared).then_some(fd)
        });
        let ours: Vec<_> = ours.collect();
        assert!(!ours.is_empty(), "the lock is a descriptor");
        for fd in ours {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("still open");
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
            let flags = i32::from_str_radix(flags, 8).expect("octal");
            assert_ne!(flags & nix::fcntl::OFlag::O_CLOEXEC.bits(), 0, "descriptor {fd}");
        }
    });
}

#[test]
fn a_bad_entry_costs_only_itself_however_many_there_are() {
    run(async |bench: &Shared| {
        let good = agent_on(&bench.address());
        good.pass(&service("web", "a")).await;
        let mut seen = agent_on(&bench.address()).follow(instances_of("web"));
        assert_eq!(seen.ids().await, ["a"]);
        let hold = |name: &str, content: &[u8]| {
            let path = bench.services().join("web").join(name);
            std::fs::write(&path, content).unwrap();
            let file = std::fs::File::open(path).unwrap();
            file.lock().unwrap();
            file
        };
        let large = |name: &str| {
            let tag = "x".repeat(500_000);
            let entry = format!(
                r#"{{"id":"{name}","name":"web","address":"192.0.2.9","port":1,"tags":["{tag}"],"status":"passing"}}"#
            );
            hold(name, entry.as_bytes())
        };
        let mut held = vec![hold("b", &vec![b'x'; 600_000]), hold("c", b"no entry")];
        held.extend((0..30).map(|n| large(&format!("d{n:02}"))));
        good.pass(&service("web", "e")).await;
        seen.until_ids(&["a", "e"], PATIENCE).await;
    });
}

/// Whoever can only read: a lock of this kind through a descriptor to read by, as soon as it can be had.
fn reader_locks(path: &Path, kind: FlockArg) -> std::thread::JoinHandle<Flock<std::fs::File>> {
    let file = std::fs::File::open(path).expect("everybody may read it");
    std::thread::spawn(move || Flock::lock(file, kind).map_err(|(_, error)| error).expect("it waits"))
}

#[test]
fn who_can_only_read_keeps_no_dead_instance_in_sight_and_no_successor_out() {
    run(async |bench: &Shared| {
        let mut seen = agent_on(&bench.address()).follow(instances_of("web"));
        assert!(seen.ids().await.is_empty());
        let web = service("web", "web-1");
        for kind in [FlockArg::LockExclusive, FlockArg::LockShared] {
            let mut specimen = Specimen::publishing(&bench.address(), &web);
            seen.until_ids(&["web-1"], PATIENCE).await;
            let reader = reader_locks(&bench.services().join("web/web-1"), kind);
            specimen.kill();
            seen.until_ids(&[], BEFORE_THE_SWEEP).await;
            let held = reader.join().expect("no panic");
            let successor = agent_on(&bench.address());
            successor.pass(&web).await;
            seen.until_ids(&["web-1"], PATIENCE).await;
            successor.withdraw(&web).await;
            seen.until_ids(&[], PATIENCE).await;
            drop(held);
        }
    });
}

#[test]
fn a_file_that_somebody_has_leased_costs_only_itself() {
    run(async |bench: &Shared| {
        let agent = agent_on(&bench.address());
        let mut seen = agent.follow(instances_of("web"));
        assert!(seen.ids().await.is_empty());
        agent.put("app/one", "1").await;
        let mut keys = agent.follow(Query::KeyPrefix { prefix: "app/".to_owned() });
        assert_eq!(keys.keys().await.len(), 1);
        let (services, there) = (bench.services().join("web"), bench.path().join("keys"));
        std::fs::create_dir_all(&services).expect("ours");
        let mut leased = Vec::new();
        for place in
            [services.join("web-1"), services.join("web-2"), there.join("app%2Ftwo"), bench.path().join("tmp/0000")]
        {
            std::fs::write(&place, "theirs").expect("ours");
            leased.push(lease(&place).expect("nobody has it open"));
        }
        agent.pass(&service("web", "web-3")).await;
        seen.until_ids(&["web-3"], PATIENCE).await;
        // Of a name that an agent needs nobody has a lease but as long as it isn't put there.
        agent.pass(&service("web", "web-1")).await;
        seen.until_ids(&["web-1", "web-3"], PATIENCE).await;
        agent.put("app/three", "3").await;
        let now = loop {
            let now = keys.keys().await;
            if now.len() > 1 {
                break now;
            }
        };
        assert_eq!(now.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["app/one", "app/three"]);
        // Nor does it keep one out that starts now.
        assert_eq!(agent_on(&bench.address()).follow(instances_of("web")).ids().await, ["web-1", "web-3"]);
    });
}

#[test]
fn a_link_in_the_prefixs_place_leads_to_no_directory_of_others() {
    run(async |bench: &Shared| {
        let agent = agent_on(&bench.address());
        agent.put("key", "value").await;
        let victim = bench.directory.path().join("victim");
        for directory in ["tmp", "services/db"] {
            std::fs::create_dir_all(victim.join(directory)).expect("ours");
        }
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        for precious in ["tmp/00000000000000de", "tmp/precious", "services/db/data"] {
            std::fs::File::create(victim.join(precious)).and_then(|file| file.set_modified(old)).expect("ours");
        }
        std::fs::write(victim.join("boot"), "00000000-0000-0000-0000-000000000000").expect("ours");
        std::fs::File::open(victim.join("boot")).and_then(|file| file.set_modified(old)).expect("ours");
        std::fs::rename(bench.path(), bench.configured().join("old")).expect("ours");
        std::os::unix::fs::symlink(&victim, bench.path()).expect("ours");
        let refused = agent.try_publish(&service("web", "web-1"), ServiceStatus::Passing, "").await;
        assert!(refused.expect_err("a link is no directory").contains("pilotfish"));
        for precious in ["tmp/00000000000000de", "tmp/precious", "services/db/data"] {
            assert!(victim.join(precious).exists(), "{precious}");
        }
        let mut there = names_in(victim);
        there.sort();
        assert_eq!(there, ["boot", "services", "tmp"]);
    });
}

#[test]
fn a_link_in_place_of_the_shared_directory_leads_nowhere_and_what_has_no_mark_is_not_swept() {
    run(async |bench: &Shared| {
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        let victim = bench.directory.path().join("victim");
        std::fs::create_dir_all(victim.join("pilotfish/tmp")).expect("ours");
        let left = victim.join("pilotfish/tmp/00000000000000de");
        std::fs::File::create(&left).and_then(|file| file.set_modified(old)).expect("ours");
        let (link, nobody) = (bench.configured(), Some(65_534));
        std::os::unix::fs::symlink(&victim, &link).expect("ours");
        // Somebody else's, who may not write where it leads.
        std::os::unix::fs::lchown(&link, nobody, nobody).expect("root");
        let agent = agent_on(&bench.address());
        let refused = agent.try_publish(&service("web", "web-1"), ServiceStatus::Passing, "").await;
        assert!(refused.expect_err("a neighbour's link").contains("EACCES"));
        assert_eq!(names_in(victim.join("pilotfish")), ["tmp"]);
        // His own, or the user's, leads there; but there was no mark, so what is in it isn't ours.
        std::os::unix::fs::lchown(&link, Some(0), Some(0)).expect("root");
        std::fs::set_permissions(bench.directory.path(), PermissionsExt::from_mode(0o755)).expect("ours");
        let refused = agent.try_publish(&service("web", "web-1"), ServiceStatus::Passing, "").await;
        assert!(refused.expect_err("somebody else's").contains("\"tmp\" is in it, which no agent made so"));
        std::fs::set_permissions(victim.join("pilotfish"), PermissionsExt::from_mode(0o777)).expect("ours");
        agent.try_publish(&service("web", "web-1"), ServiceStatus::Passing, "").await.expect("it may");
        assert!(left.exists(), "no agent's");
    });
}

#[test]
fn a_directory_of_others_moved_to_the_prefixs_place_loses_nothing() {
    run(async |bench: &Shared| {
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        let precious =
            ["tmp/precious", "services/db/data", "services/db/list", "services/db/json", "services/db/empty"];
        for file in precious {
            let path = bench.path().join(file);
            let content = match file.rsplit('/').next() {
                Some("list") => "[1]",
                // As an agent's that died, but in a directory where others may not remove it.
                Some("json") => "{\"precious\":1}",
                Some("empty") => "",
                _ => "precious",
            };
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("ours");
            std::fs::write(&path, content).expect("ours");
            std::fs::File::open(&path).and_then(|file| file.set_modified(old)).expect("ours");
        }
        let agent = agent_on(&bench.address());
        // By our names alone it is none of an agent's, and nothing is made in it that is everybody's.
        let refused = agent.try_publish(&service("db", "db-1"), ServiceStatus::Passing, "").await;
        let refused = refused.expect_err("somebody else's");
        assert!(refused.contains("which no agent made so"), "{refused}");
        let mut there = names_in(bench.path());
        there.sort();
        assert_eq!(there, ["services", "tmp"]);
        // Where everybody may make what they like, nobody needs an agent for it.
        std::fs::set_permissions(bench.path(), PermissionsExt::from_mode(0o777)).expect("ours");
        agent.pass(&service("db", "db-1")).await;
        assert_eq!(agent.follow(instances_of("db")).ids().await, ["db-1"]);
        for file in precious {
            assert!(bench.path().join(file).exists(), "{file}");
        }
    });
}

#[test]
fn a_directory_of_others_with_more_in_it_than_agents_make_stays_as_it_is() {
    run(async |bench: &Shared| {
        std::fs::create_dir_all(bench.path().join("services/db")).expect("ours");
        std::fs::write(bench.path().join("state.json"), "{}").expect("ours");
        let agent = agent_on(&bench.address());
        let refused = agent.try_publish(&service("db", "db-1"), ServiceStatus::Passing, "").await;
        let refused = refused.expect_err("somebody else's");
        assert!(refused.contains("state.json") && refused.contains("prefix"), "{refused}");
        let mut there = names_in(bench.path());
        there.sort();
        assert_eq!(there, ["services", "state.json"]);
        // One that is narrowed by its mode is an agent's for all that.
        std::fs::remove_file(bench.path().join("state.json")).expect("ours");
        std::fs::remove_dir_all(bench.path().join("services")).expect("ours");
        agent.pass(&service("db", "db-1")).await;
        std::fs::remove_file(bench.path().join("boot")).expect("ours");
        agent_on(&bench.address()).pass(&service("db", "db-2")).await;
        std::fs::write(bench.path().join("state.json"), "{}").expect("ours");
        std::fs::remove_file(bench.path().join("boot")).expect("ours");
        // One that agents have made can't be kept from them by what others put into it.
        std::fs::set_permissions(bench.path(), PermissionsExt::from_mode(0o777)).expect("ours");
        agent.try_publish(&service("db", "db-1"), ServiceStatus::Passing, "").await.expect("it may");
    });
}

#[test]
fn what_is_not_for_everybody_to_read_or_has_a_second_name_is_no_key() {
    run(async |bench: &Shared| {
        let agent = agent_on(&bench.address());
        agent.put("key", "value").await;
        let secret = bench.directory.path().join("secret");
        std::fs::write(&secret, "secret").expect("ours");
        let keys = bench.path().join("keys");
        std::fs::hard_link(&secret, keys.join("linked")).expect("one file system");
        assert_eq!(agent.get("linked").await, None);
        std::fs::remove_file(keys.join("linked")).expect("ours");
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).expect("ours");
        std::fs::rename(&secret, keys.join("moved")).expect("one file system");
        assert_eq!(agent.get("moved").await, None);
    });
}

/// Carries something out where a volume of the bench's own is at its directory: few blocks and few files.
fn on_a_small_volume(sentence: impl AsyncFnOnce(&Shared) + Send) {
    // The namespace goes with its thread.
    let apart = || {
        unshare(CloneFlags::CLONE_NEWNS).expect("root");
        let [nothing, nowhere] = [None::<&str>; 2];
        mount(nothing, "/", nowhere, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).expect("root");
        run(async |bench: &Shared| {
            let small = Some("size=256k,nr_inodes=64,mode=777");
            mount(nothing, bench.directory.path(), Some("tmpfs"), MsFlags::empty(), small).expect("root");
            sentence(bench).await;
            umount2(bench.directory.path(), MntFlags::MNT_DETACH).expect("mounted");
        });
    };
    std::thread::scope(|scope| scope.spawn(apart).join().expect("it went well"));
}

/// Leaves no room for another file.
fn fill(bench: &Shared, round: usize) {
    let file = |n: usize| bench.directory.path().join(format!("fill-{round}-{n}"));
    let left = (0..1000).find(|n| std::fs::File::create(file(*n)).is_err());
    assert!(left.is_some(), "the volume is small");
}

#[test]
fn on_a_full_volume_who_doesnt_pass_leaves_the_rotation() {
    on_a_small_volume(async |bench: &Shared| {
        let publisher = agent_on(&bench.address());
        let [mut moved, kept] = ["moved", "kept"].map(|id| service("web", id));
        let sick = ["sick", "drained", "maintained"].map(|id| service("web", id));
        for web in sick.iter().chain([&moved, &kept]) {
            publisher.pass(web).await;
        }
        let mut seen = agent_on(&bench.address()).follow(instances_of("web"));
        seen.until_ids(&["drained", "kept", "maintained", "moved", "sick"], PATIENCE).await;
        fill(bench, 0);
        // What only says it in other words stays.
        publisher.try_publish(&kept, ServiceStatus::Passing, "in other words").await.unwrap_err();
        // Its own file makes the room for the next.
        publisher.publish(&sick[0], ServiceStatus::Critical, "sick").await;
        publisher.publish(&sick[1], ServiceStatus::Draining, "stopping").await;
        publisher.maintain(&sick[2], ServiceStatus::Passing, "a new disk").await;
        seen.until_ids(&["kept", "moved"], PATIENCE).await;
        moved.port += 1;
        publisher.pass(&moved).await;
        seen.until_ids(&["kept", "moved"], PATIENCE).await;
        publisher.withdraw(&sick[0]).await;
    });
}

#[test]
fn where_nothing_can_be_written_or_removed_who_doesnt_pass_counts_as_dead() {
    run(async |bench: &Shared| {
        let publisher = agent_on(&bench.address());
        let [sick, gone, kept] = ["sick", "gone", "kept"].map(|id| service("web", id));
        for web in [&sick, &gone, &kept] {
            publisher.pass(web).await;
        }
        bench.cut("web").await;
        publisher.try_publish(&kept, ServiceStatus::Passing, "in other words").await.unwrap_err();
        publisher.try_publish(&sick, ServiceStatus::Critical, "sick").await.unwrap_err();
        assert!(publisher.backend.withdraw(&gone).await.is_err());
        bench.mend("web").await;
        agent_on(&bench.address()).follow(instances_of("web")).until_ids(&["kept"], PATIENCE).await;
        publisher.publish(&sick, ServiceStatus::Critical, "sick").await;
        publisher.withdraw(&gone).await;
        assert_eq!(names_in(bench.services().join("web")).len(), 2);
    });
}

#[test]
fn what_fails_for_the_same_reason_is_told_in_the_same_words() {
    on_a_small_volume(async |bench: &Shared| {
        let publisher = agent_on(&bench.address());
        publisher.put("key", "value").await;
        publisher.pass(&service("web", "web-1")).await;
        fill(bench, 0);
        for _ in 0..2 {
            let failed = publisher.try_publish(&service("web", "web-2"), ServiceStatus::Passing, "ok").await;
            let at = bench.path().join("tmp");
            assert_eq!(
                failed.unwrap_err(),
                format!("can't make a file in {}: ENOSPC: No space left on device", at.display())
            );
        }
    });
}
