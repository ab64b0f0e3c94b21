//! The agent alone is stopped, and main runs on: until the guard ends it, in time.

use nix::sys::{ptrace, wait};
use nix::unistd::Pid;

use super::pair::Candidate;
use super::play::{LONG, Play, consul, etcd, resume, stop, with_daemons};
use crate::support::lab::Lab;
use crate::support::servers::{Consul, Etcd};

/// capabilities(7)
const CAP_KILL: libc::c_ulong = 5;

fn stopped(catalog: String, what: &str, rounds: usize) {
    Play::on(catalog).rounds(&format!("agent stopped, {what}"), rounds, stop, resume);
}

#[test]
fn a_leader_whose_agent_is_stopped_acts_no_more_when_the_next_one_does() {
    let server = Etcd::start("etcd35");
    stopped(etcd(&server), "etcd", 1);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_stopped_on_etcd() {
    let server = Etcd::start("etcd35");
    stopped(etcd(&server), "etcd", LONG);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_stopped_on_consul() {
    let server = Consul::start();
    stopped(consul(&server), "Consul", LONG);
}

/// Unlike one that was stopped, it can't be resumed by the guard: so it is stopped until another leads.
fn held_by_a_tracer(rounds: usize) {
    let server = Etcd::start("etcd35");
    let process = |candidate: &Candidate| Pid::from_raw(candidate.container.pid);
    let hold = |candidate: &mut Candidate| {
        ptrace::seize(process(candidate), ptrace::Options::empty()).expect("it can be traced");
        ptrace::interrupt(process(candidate)).expect("it can be stopped");
        wait::waitpid(process(candidate), Some(wait::WaitPidFlag::__WALL)).expect("it stops");
    };
    Play::on(etcd(&server)).rounds("agent held by a tracer", rounds, hold, |candidate| {
        // As nobody reaped, the guard may have ended it by now.
        ptrace::detach(process(candidate), None).expect("it is held");
    });
}

#[test]
fn a_leader_whose_agent_stays_stopped_is_succeeded_at_its_leases_end() {
    held_by_a_tracer(1);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_held_by_a_tracer() {
    held_by_a_tracer(LONG);
}

fn stopped_with_daemons(rounds: usize) {
    let server = Etcd::start("etcd35");
    let play = Play { main: with_daemons, ..Play::on(etcd(&server)) };
    play.rounds("agent stopped, main in a session of its own and an orphan in another", rounds, stop, resume);
}

#[test]
fn what_main_leaves_behind_in_sessions_of_its_own_acts_no_more_either() {
    stopped_with_daemons(1);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_stopped_with_daemons() {
    stopped_with_daemons(LONG);
}

fn stopped_without_the_right_to_kill(rounds: usize) {
    let server = Etcd::start("etcd35");
    let start = |lab: &Lab| lab.start().without_capability(CAP_KILL);
    let play = Play { user: Some("nobody"), start, ..Play::on(etcd(&server)) };
    play.rounds("agent stopped, main another user's, no CAP_KILL", rounds, stop, |candidate| {
        // It was main's end that its own agent could not bring about.
        assert_eq!(candidate.container.wait(), Ok(70), "{}", candidate.container.stderr());
    });
}

#[test]
fn a_leader_whose_main_cannot_be_killed_ends_with_its_container_in_time() {
    stopped_without_the_right_to_kill(1);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_stopped_without_the_right_to_kill() {
    stopped_without_the_right_to_kill(LONG);
}
