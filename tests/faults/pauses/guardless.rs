//! The guard is killed: there is another at once, or the leader can't lead on.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use super::pair::{Candidate, another_guard, signal};
use super::play::{LONG, Play, at_any_moment, etcd, resume, stop};
use crate::support::servers::Etcd;

fn stopped_after_the_guard_was_killed(rounds: usize) {
    let server = Etcd::start("etcd35");
    let suffer = |candidate: &mut Candidate| {
        let guard = candidate.guard().expect("a guard");
        assert!(signal(guard, libc::SIGKILL));
        another_guard(candidate, guard);
        stop(candidate);
    };
    Play::on(etcd(&server)).rounds("guard killed, agent stopped when there was another", rounds, suffer, resume);
}

#[test]
fn the_guard_after_one_that_was_killed_ends_a_leader_in_time() {
    stopped_after_the_guard_was_killed(1);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn guards_killed_before_agents_are_stopped() {
    stopped_after_the_guard_was_killed(LONG);
}

/// No renewal counts without a guard, so a leader that can't keep one leads no longer than its lease.
#[test]
#[ignore = "takes minutes: make pauses"]
fn a_leader_whose_guards_are_all_killed_steps_down_in_time() {
    let server = Etcd::start("etcd35");
    let mut pair = Play::on(etcd(&server)).pair();
    at_any_moment(0);
    let over = Arc::new(AtomicBool::new(false));
    let mut killer = None;
    let succession = pair.succession(|candidate| {
        let (agent, over) = (candidate.container.pid, over.clone());
        killer = Some(std::thread::spawn(move || kill_each_guard(agent, &over)));
    });
    over.store(true, SeqCst);
    let killed = killer.and_then(|killer| killer.join().ok()).expect("it has counted");
    let [acted_on, vacant] = [succession.acted_on, succession.vacant].map(|nanoseconds| nanoseconds / 1_000_000);
    println!(
        "{killed} guards of a leader killed as they came: acted on for {acted_on} ms, then nobody for {vacant} ms"
    );
    pair.candidates[succession.loser].comes_back();
    pair.never_two(2);
}

/// Until it is over; how many those were.
fn kill_each_guard(agent: i32, over: &AtomicBool) -> usize {
    let mut killed = BTreeSet::new();
    let is_guard =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "pilotfish-guard\n");
    while !over.load(SeqCst) {
        let children = fs::read_to_string(format!("/proc/{agent}/task/{agent}/children")).unwrap_or_default();
        let guards = children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_guard);
        killed.extend(guards.filter(|guard| signal(*guard, libc::SIGKILL)));
        std::thread::sleep(Duration::from_micros(200));
    }
    killed.len()
}

/// Two faults at once, for which docs/election.md promises nothing: this shows that it has to say so.
#[test]
#[ignore = "takes minutes: make pauses"]
fn a_stopped_agent_whose_guard_is_killed_can_end_nobody() {
    let server = Etcd::start("etcd35");
    let mut pair = Play::on(etcd(&server)).pair();
    at_any_moment(0);
    let succession = pair.succession(|candidate| {
        stop(candidate);
        assert!(signal(candidate.guard().expect("a guard"), libc::SIGKILL));
    });
    std::thread::sleep(Duration::from_secs(2));
    resume(&mut pair.candidates[succession.loser]);
    pair.candidates[succession.loser].comes_back();
    pair.story.look();
    let overlaps = pair.story.judge.overlaps();
    assert_eq!(overlaps.len(), 1);
    println!("agent stopped, then its guard killed, and resumed after 2 s more: {}", overlaps[0]);
}
