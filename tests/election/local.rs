//! What holds for a lock in a shared directory only: the kernel keeps it.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pilotfish::supervisor::machines::election::event::{Acquisition, Renewal};
use pilotfish::supervisor::machines::election::record::Lock;
use tokio::time::{Instant, sleep};

use super::backends::SharedDirectory;
use super::bench::{Bench, PATIENCE, Won, candidate, free, held_by};
use super::specimen;
use crate::backend::bench::run;
use crate::backend::specimen::Specimen;
use crate::support::lease::Leasing;

type Shared = SharedDirectory;

/// Sooner than any look that no event brought.
const BEFORE_THE_SWEEP: Duration = Duration::from_secs(4);

fn figures(what: &str, mut took: Vec<Duration>) -> Duration {
    took.sort();
    let median = took[took.len() / 2];
    println!("{what}: min {:?}, median {median:?}, max {:?}", took[0], took[took.len() - 1]);
    median
}

#[test]
fn a_killed_holder_frees_the_lock_within_milliseconds() {
    run(async |shared: &Shared| {
        let two = candidate(shared, "db", "two");
        let mut watch = two.watch();
        let (mut took, mut last) = (Vec::new(), 0);
        for _ in 0..21 {
            let (mut leader, term) = specimen::leading(&shared.address(), "db", "one");
            assert!(term > last, "terms grow from start to start");
            last = term;
            watch.until("the holder", held_by("one")).await;
            let killed = Instant::now();
            leader.kill();
            let view = watch.until("a free lock", free).await;
            took.push(killed.elapsed());
            assert!(view.last.is_some_and(|last| !last.released && last.term.0 == term));
        }
        assert!(figures("SIGKILL to seen free", took) < Duration::from_millis(50));
    });
}

#[test]
fn a_lock_that_is_being_taken_is_not_its_dead_holders_again() {
    run(async |shared: &Shared| {
        let (two, three) = (candidate(shared, "db", "two"), candidate(shared, "db", "three"));
        let (mut winner, mut onlooker) = (two.watch(), three.watch());
        for _ in 0..20 {
            let (mut leader, _) = specimen::leading(&shared.address(), "db", "one");
            onlooker.until("the holder", held_by("one")).await;
            winner.until("the holder", held_by("one")).await;
            let by = two.open().await;
            leader.kill();
            let view = winner.until("a free lock", free).await;
            let Acquisition::Won(term) = two.acquire(by, &view).await else { panic!("it was free") };
            let seen = onlooker.until("a free lock, or who took it", |view| !held_by("one")(view)).await;
            if free(&seen) {
                let told = onlooker.until("who took it", |view| !free(view)).await;
                assert!(!held_by("one")(&told), "{told:?}");
            }
            for view in winner.rest() {
                assert!(!held_by("one")(view.as_ref().expect("a view")), "{view:?}");
            }
            two.release(Won { session: by.0, guarantee: by.1, term }).await;
            onlooker.until("a free lock", free).await;
        }
    });
}

#[test]
fn what_is_owed_stays_in_last_over_renewals_until_it_is_paid() {
    run(async |shared: &Shared| {
        let one = candidate(shared, "db", "one");
        let hold_off_left = async |hold_off_left: Duration, after: Duration| {
            let won = one.win_owing(hold_off_left).await;
            sleep(after).await;
            assert!(matches!(one.renew(won).await, Renewal::Alive(_)));
            // As a killed one does: without a word.
            one.close(won.session).await;
            one.look().await.last.unwrap().hold_off_left
        };
        let minute = Duration::from_secs(60);
        let left = hold_off_left(minute, Duration::from_millis(100)).await;
        assert!(left > minute / 2 && left <= minute - Duration::from_millis(100), "{left:?}");
        assert_eq!(hold_off_left(Duration::from_millis(100), Duration::from_millis(100)).await, Duration::ZERO);
    });
}

#[test]
fn a_release_is_seen_within_milliseconds() {
    run(async |shared: &Shared| {
        let (one, two) = (candidate(shared, "db", "one"), candidate(shared, "db", "two"));
        let mut watch = two.watch();
        let (mut released, mut closed) = (Vec::new(), Vec::new());
        for n in 0..60 {
            let won = one.win().await;
            watch.until("the holder", held_by("one")).await;
            let began = Instant::now();
            if n % 2 == 0 {
                one.release(won).await;
            } else {
                one.close(won.session).await;
            }
            watch.until("a free lock", free).await;
            if n % 2 == 0 { &mut released } else { &mut closed }.push(began.elapsed());
        }
        assert!(figures("release to seen free", released) < Duration::from_millis(50));
        assert!(figures("close to seen free", closed) < Duration::from_millis(50));
    });
}

#[test]
fn what_a_child_inherited_before_the_lock_was_won_keeps_it_until_the_child_ends() {
    run(async |shared: &Shared| {
        let two = candidate(shared, "db", "two");
        let mut watch = two.watch();
        let mut leader = Specimen::start(&["main_inherits", &shared.address(), "db", "one"]);
        let said = leader.expect("child ");
        let (child, term) = said.split_once(' ').expect("two numbers");
        let child = Pid::from_raw(child.parse().expect("a pid"));
        watch.until("the holder", held_by("one")).await;
        leader.kill();
        // Dead and reaped: what is left of it is the child.
        drop(leader);
        sleep(Duration::from_millis(500)).await;
        assert!(held_by("one")(&two.look().await), "main is alive, and keeps the lock");
        let by = two.open().await;
        let seen = two.look().await;
        assert_eq!(two.acquire(by, &seen).await, Acquisition::Changed);
        let killed = Instant::now();
        kill(child, Signal::SIGKILL).expect("it lives");
        watch.until("a free lock", free).await;
        println!("child killed to seen free: {:?}", killed.elapsed());
        assert!(killed.elapsed() < BEFORE_THE_SWEEP);
        assert!(two.win().await.term.0 > term.parse().expect("a term"));
    });
}

#[test]
fn there_is_nothing_to_inherit_before_the_first_view() {
    run(async |shared: &Shared| {
        let one = candidate(shared, "db", "one");
        assert!(one.lock_client.inheritable_fd().is_none());
        let mut watch = one.watch();
        watch.told(PATIENCE).await.expect("a view");
        let before = one.lock_client.inheritable_fd().expect("a file");
        let won = one.win().await;
        let after = one.lock_client.inheritable_fd().expect("a file");
        assert!(std::sync::Arc::ptr_eq(&before, &after), "the lock is on what main inherited");
        one.release(won).await;
        one.win().await;
        assert!(std::sync::Arc::ptr_eq(&before, &one.lock_client.inheritable_fd().expect("a file")));
    });
}

#[test]
fn who_only_watches_makes_no_lock() {
    run(async |shared: &Shared| {
        let query = pilotfish::config::Query::Leader { election: "db".to_owned() };
        let mut seen = super::bench::agent_on(&shared.address()).follow(query);
        assert!(seen.ids().await.is_empty());
        assert!(!shared.election("db").join("lock").exists());
    });
}

#[test]
fn a_lock_file_that_is_replaced_by_hand_is_not_ours_and_the_next_one_is() {
    run(async |shared: &Shared| {
        let (one, two) = (candidate(shared, "db", "one"), candidate(shared, "db", "two"));
        let mut watch = one.watch();
        let won = one.win().await;
        watch.until("the own lock", held_by("one")).await;
        let lock = shared.election("db").join("lock");
        std::fs::remove_file(&lock).expect("there is one");
        watch.until("a free lock", free).await;
        let next = two.win().await;
        assert!(next.term > won.term);
        // Whatever the first one does about its lost term is nothing to the second.
        one.release(won).await;
        assert!(two.look().await.shows(next.session, next.term));
        one.close(won.session).await;
        let view = one.look().await;
        assert!(view.shows(next.session, next.term), "{view:?}");
        two.release(next).await;
        assert!(one.win().await.term > next.term);
    });
}

#[test]
fn an_election_s_directory_that_is_deleted_is_made_again() {
    run(async |shared: &Shared| {
        let one = candidate(shared, "db", "one");
        let mut watch = one.watch();
        let won = one.win().await;
        watch.until("the own lock", held_by("one")).await;
        std::fs::remove_dir_all(shared.election("db")).expect("it is there");
        watch.until("a free lock", free).await;
        one.close(won.session).await;
        one.win().await;
        watch.until("the own lock", held_by("one")).await;
    });
}

#[test]
fn a_session_can_be_closed_while_the_directory_is_away() {
    run(async |shared: &Shared| {
        let (one, two) = (candidate(shared, "db", "one"), candidate(shared, "db", "two"));
        let won = one.win().await;
        let election = shared.election("db");
        shared.spoil(&election);
        one.close(won.session).await;
        shared.restore(&election);
        assert!(two.win().await.term > won.term);
    });
}

#[test]
fn a_candidate_killed_at_any_moment_leaves_no_wedge() {
    run(async |shared: &Shared| {
        let two = candidate(shared, "db", "two");
        let mut watch = two.watch();
        let mut last = 0;
        for round in 0..40_u32 {
            let mut other = Specimen::start(&["campaign", &shared.address(), "db", "one"]);
            other.expect("campaigns");
            // Another instruction each time.
            std::thread::sleep(Duration::from_micros(u64::from(round * 97)));
            other.kill();
            drop(other);
            let won = two.succeed(BEFORE_THE_SWEEP).await;
            assert!(won.term.0 > last, "terms grow");
            last = won.term.0;
            watch.until("the own lock", held_by("two")).await;
            two.release(won).await;
            two.close(won.session).await;
        }
    });
}

#[test]
fn a_lock_that_is_held_before_anybody_has_said_so_is_not_free() {
    run(async |shared: &Shared| {
        let (one, two) = (candidate(shared, "db", "one"), candidate(shared, "db", "two"));
        let won = one.win().await;
        one.release(won).await;
        let before = two.look().await;
        let held = take_by_hand(&shared.election("db").join("lock")).expect("free");
        let began = Instant::now();
        let view = two.look().await;
        assert!(began.elapsed() < Duration::from_secs(2), "it doesn't wait for ever: {:?}", began.elapsed());
        let Lock::Held(holder) = &view.lock else { panic!("free: {view:?}") };
        assert_eq!((holder.id.starts_with('('), holder.address.as_deref()), (true, None), "{holder:?}");
        assert!(view.at <= before.last_revision.0, "who wins next mustn't take it for a view of its own term");
        drop(held);
        assert!(free(&two.look().await));
        assert!(two.win().await.term > won.term);
    });
}

#[test]
fn a_record_that_is_left_of_another_lock_renews_nothing() {
    run(async |shared: &Shared| {
        let one = candidate(shared, "db", "one");
        let won = one.win().await;
        let lock = shared.election("db").join("lock");
        std::fs::remove_file(&lock).expect("there is one");
        std::fs::write(&lock, "").expect("ours");
        // By one that has yet to say so.
        let _held = take_by_hand(&lock).expect("free");
        let renewal = one.renew(won).await;
        assert!(matches!(renewal, Renewal::Gone { .. }), "{renewal:?}");
    });
}

#[test]
fn a_record_that_is_left_of_an_older_term_says_nothing_of_who_holds_it_now() {
    run(async |shared: &Shared| {
        let (leader, _) = specimen::leading(&shared.address(), "db", "one");
        drop(leader);
        let two = candidate(shared, "db", "two");
        two.until("a free lock", free).await;
        let election = shared.election("db");
        let _held = take_by_hand(&election.join("lock")).expect("free");
        let last = election.join("last");
        let next = std::fs::read_to_string(&last).expect("written").replace("\"term\":1,", "\"term\":2,");
        // Put in place as agents do.
        std::fs::write(election.join(".next"), next).expect("ours");
        std::fs::rename(election.join(".next"), &last).expect("ours");
        let view = two.look().await;
        let holder = view.holder().expect("held");
        assert!(holder.id.starts_with('('), "{holder:?}");
    });
}

#[test]
fn a_candidate_that_died_before_it_said_so_has_used_up_its_term() {
    run(async |shared: &Shared| {
        let (one, two) = (candidate(shared, "db", "one"), candidate(shared, "db", "two"));
        let won = one.win().await;
        let last = shared.election("db").join("last");
        let next = std::fs::read_to_string(&last).expect("written");
        one.release(won).await;
        // As one wrote it that got no further.
        std::fs::write(&last, next.replace("\"term\":1,", "\"term\":7,")).expect("ours");
        let view = two.look().await;
        assert!(free(&view));
        assert_eq!(two.win().await.term.0, 8);
    });
}

#[test]
fn a_release_waits_for_no_disk_and_what_a_crash_leaves_of_it_lets_no_term_come_back() {
    run(async |shared: &Shared| {
        let (one, two) = (candidate(shared, "db", "one"), candidate(shared, "db", "two"));
        let (last, released) = (shared.election("db").join("last"), shared.election("db").join("released"));
        let won = one.win().await;
        let durable = std::fs::read(&last).expect("written");
        one.release(won).await;
        assert!(two.look().await.last.is_some_and(|last| last.released));
        assert_eq!(std::fs::read(&last).expect("written"), durable, "what is on the disk isn't touched");
        // Some file systems have the new name on the disk before the content.
        for left in [Some(""), None] {
            match left {
                Some(left) => std::fs::write(&released, left).expect("ours"),
                None => std::fs::remove_file(&released).expect("there is one"),
            }
            let view = two.look().await;
            assert!(free(&view), "{view:?}");
            assert!(view.last.is_some_and(|last| !last.released && last.term == won.term));
        }
        let next = two.win().await;
        assert!(next.term > won.term);
        two.release(next).await;
        assert!(one.look().await.last.is_some_and(|last| last.released && last.term == next.term));
    });
}

#[test]
fn a_lock_that_cannot_be_written_down_is_given_back() {
    run(async |shared: &Shared| {
        let (one, two) = (candidate(shared, "db", "one"), candidate(shared, "db", "two"));
        let by = one.open().await;
        let seen = one.look().await;
        let scratch = shared.path().join("tmp");
        shared.spoil(&scratch);
        let got = one.acquire(by, &seen).await;
        assert!(matches!(got, Acquisition::Unknown(_)), "{got:?}");
        shared.restore(&scratch);
        assert!(free(&two.look().await));
        two.win().await;
    });
}

#[test]
fn three_that_contend_never_hold_it_together() {
    run(async |shared: &Shared| {
        let witness = shared.path().with_file_name("witness");
        let witness = witness.to_str().expect("UTF-8");
        let mut contenders: Vec<_> = ["one", "two", "three"]
            .map(|id| Specimen::start(&["contend", &shared.address(), "db", id, witness, "40"]))
            .into_iter()
            .collect();
        let mut highest = 0;
        for contender in &mut contenders {
            contender.expect("contends");
        }
        for contender in &mut contenders {
            // Panics, with what it said, when it says something else.
            highest = highest.max(contender.expect_within("done ", Duration::from_secs(90)).parse().expect("a term"));
        }
        assert!(highest >= 3 * 40, "each win has a term of its own: {highest}");
    });
}

/// An agent's first step, and no other.
fn take_by_hand(lock: &Path) -> Result<std::fs::File, Errno> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(lock).expect("there is one");
    fcntl(&file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK)))?;
    Ok(file)
}

fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[test]
fn who_can_only_read_keeps_nobody_from_being_elected() {
    run(async |shared: &Shared| {
        let (one, two) = (candidate(shared, "db", "one"), candidate(shared, "db", "two"));
        let mut watch = two.watch();
        let won = one.win().await;
        watch.until("the holder", held_by("one")).await;
        one.release(won).await;
        one.close(won.session).await;
        let term = won.term;
        watch.until("a free lock", free).await;
        let lock = shared.election("db").join("lock");
        let reader = std::fs::File::open(&lock).expect("everybody may read it");
        fcntl(&reader, FcntlArg::F_OFD_SETLK(&whole(libc::F_RDLCK))).expect("nobody holds it");
        let _too =
            Flock::lock(reader.try_clone().expect("a copy"), FlockArg::LockExclusiveNonblock).expect("nor this one");
        // Nor is anybody taken for the holder.
        assert!(two.look().await.holder().is_none());
        let won = two.win().await;
        assert!(won.term > term);
        watch.until("the holder", held_by("two")).await;
        // And the two don't hold it together.
        let mut others = one.watch();
        others.until("the holder", held_by("two")).await;
        two.release(won).await;
        assert!(one.win().await.term > won.term);
    });
}

/// What a candidate has seen of an election it has open, and a file that anybody has open nobody leases.
#[test]
fn who_can_only_read_keeps_nobody_from_being_elected_by_a_lease_either() {
    run(async |shared: &Shared| {
        let (one, two) = (candidate(shared, "db", "one"), candidate(shared, "db", "two"));
        let mut watch = two.watch();
        let won = one.win().await;
        watch.until("the holder", held_by("one")).await;
        let files = ["lock", "leader", "last", "released", "../../boot"];
        let reader = Leasing::of(files.map(|name| shared.election("db").join(name)).into());
        one.release(won).await;
        one.close(won.session).await;
        watch.until("a free lock", free).await;
        let mut others = one.watch();
        let term = won.term;
        let won = two.win().await;
        assert!(won.term > term);
        others.until("the holder", held_by("two")).await;
        two.release(won).await;
        two.close(won.session).await;
        others.until("a free lock", free).await;
        assert!(one.win().await.term > won.term);
        assert_eq!(reader.end(), 0);
    });
}

#[test]
fn a_lock_file_that_has_a_second_name_is_neither_locked_nor_opened_to_everyone() {
    run(async |shared: &Shared| {
        let one = candidate(shared, "db", "one");
        let won = one.win().await;
        one.release(won).await;
        one.close(won.session).await;
        let lock = shared.election("db").join("lock");
        let key = shared.election("db").join("../../keys/other-apps");
        std::fs::remove_file(&lock).expect("there is one");
        std::fs::write(&key, "key").expect("ours");
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
        std::fs::hard_link(&key, &lock).expect("one file system");
        let two = candidate(shared, "db", "two");
        assert!(two.try_open().await.is_err());
        let about = std::fs::metadata(&key).expect("there is one");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777, 0o600);
    });
}

/// Whoever may rename in the shared directory brings there what they may not write, and main would get it to write by.
#[test]
fn a_file_that_was_moved_to_the_locks_place_is_not_opened_for_main_and_it_is_said() {
    run(async |shared: &Shared| {
        let one = candidate(shared, "db", "one");
        let won = one.win().await;
        one.release(won).await;
        one.close(won.session).await;
        let lock = shared.election("db").join("lock");
        let two = candidate(shared, "db", "two");
        for mode in [0o644, 0o600, 0o664] {
            let moved = shared.election("db").join("../../moved");
            std::fs::write(&moved, "root's own").expect("ours");
            std::fs::set_permissions(&moved, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("ours");
            std::fs::rename(&moved, &lock).expect("one file system");
            let error = two.try_open().await.expect_err("no lock");
            assert!(error.contains("isn't a lock that an agent made"), "{mode:o}: {error}");
        }
        // As one of a volume that was copied without its modes is mended.
        std::fs::set_permissions(&lock, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("ours");
        assert!(two.try_open().await.is_ok());
    });
}
