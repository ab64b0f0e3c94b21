//! A candidate in a process of its own, to be killed: see the catalog's specimen.

// Not the agent's code: the reaper's rule doesn't bind a test.
#![allow(clippy::disallowed_types)]

use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use pilotfish::supervisor::machines::election::event::Renewal;
use pilotfish::supervisor::machines::election::record::{Answer, Rank, Term};
use tokio::time::sleep;

use super::bench::{Candidate, PATIENCE, candidate_of};
use crate::backend::bench::service;
use crate::backend::specimen::{Specimen, say};

/// What a candidate asks for that is killed: short, where there is a clock.
const LEASE: Duration = Duration::from_secs(2);

/// One that leads, and goes on renewing, and its term.
pub fn leading(address: &str, election: &str, id: &str) -> (Specimen, u64) {
    let mut specimen = Specimen::start(&["lead", address, election, id]);
    let term = specimen.expect("leads ").parse().expect("a term");
    (specimen, term)
}

/// One that has published a rank for this term, and does nothing more.
pub fn ranked(address: &str, election: &str, id: &str, term: u64) -> Specimen {
    let mut specimen = Specimen::start(&["rank", address, election, id, &term.to_string()]);
    specimen.expect("ranked");
    specimen
}

/// What a process of this kind does, by its role; `false` when that isn't one of these.
pub async fn act(role: &[&str]) -> bool {
    match *role {
        ["lead", address, election, id] => lead(address, election, id).await,
        ["rank", address, election, id, term] => {
            rank(address, election, id, Term(term.parse().expect("a number"))).await
        }
        ["main_inherits", address, election, id] => main_inherits(address, election, id).await,
        ["campaign", address, election, id] => campaign(address, election, id).await,
        ["contend", address, election, id, witness, rounds] => {
            contend(&candidate_of(address, election, id, LEASE, None), witness, rounds.parse().expect("a number")).await
        }
        _ => return false,
    }
    true
}

async fn lead(address: &str, election: &str, id: &str) {
    let mut service = service(election, id);
    service.ttl = Duration::from_secs(3);
    let candidate = candidate_of(address, election, id, LEASE, Some(service.clone().into()));
    candidate.agent.pass(&service).await;
    let won = candidate.win().await;
    say(&format!("leads {}", won.term.0));
    loop {
        sleep(Duration::from_millis(300)).await;
        candidate.agent.pass(&service).await;
        match candidate.renew(won).await {
            Renewal::Alive(view) => assert!(view.shows(won.session, won.term), "{view:?}"),
            // The lease must not be so short that a busy machine is in its way.
            other => say(&format!("renewed: {other:?}")),
        }
    }
}

async fn rank(address: &str, election: &str, id: &str, term: Term) {
    let mut service = service(election, id);
    service.ttl = Duration::from_secs(3);
    let candidate = candidate_of(address, election, id, LEASE, Some(service.clone().into()));
    candidate.agent.pass(&service).await;
    candidate.lock_client.publish_rank(term, &Answer::Known(Rank::Number(42)), true).await.expect("published");
    say("ranked");
    loop {
        sleep(Duration::from_millis(300)).await;
        candidate.agent.pass(&service).await;
    }
}

/// Starts a child that inherits the lock's file, and wins only then.
#[allow(clippy::zombie_processes, reason = "the test kills both, the child last")]
async fn main_inherits(address: &str, election: &str, id: &str) {
    let candidate = candidate_of(address, election, id, LEASE, None);
    let mut watch = candidate.watch();
    watch.told(PATIENCE).await.expect("a view");
    let file = candidate.lock_client.inheritable_fd().expect("there is something to inherit");
    let own = FdFlag::from_bits_retain(fcntl(&*file, FcntlArg::F_GETFD).expect("open"));
    assert!(own.contains(FdFlag::FD_CLOEXEC), "only main may inherit it");
    fcntl(&*file, FcntlArg::F_SETFD(FdFlag::empty())).expect("open");
    let mut child = std::process::Command::new("sleep");
    child.arg("1000").stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    let child = child.spawn().expect("it runs");
    fcntl(&*file, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("open");
    assert!(std::path::Path::new(&format!("/proc/{}/fd/{}", child.id(), file.as_raw_fd())).exists());
    let won = candidate.win().await;
    say(&format!("child {} {}", child.id(), won.term.0));
    std::future::pending::<()>().await;
}

/// Wins and gives back as fast as it can, until it is killed in the middle of it.
async fn campaign(address: &str, election: &str, id: &str) {
    let candidate = candidate_of(address, election, id, LEASE, None);
    for n in 0.. {
        let won = candidate.succeed(PATIENCE).await;
        if n == 0 {
            say("campaigns");
        }
        if n % 3 > 0 {
            candidate.release(won).await;
        }
        candidate.close(won.session).await;
    }
}

/// Wins so often, each time with a file that must not be there yet.
async fn contend(candidate: &Candidate, witness: &str, rounds: usize) {
    say("contends");
    let mut last = 0;
    for n in 0..rounds {
        let won = candidate.succeed(Duration::from_secs(60)).await;
        assert!(won.term.0 > last, "terms grow");
        last = won.term.0;
        if let Err(error) = std::fs::OpenOptions::new().write(true).create_new(true).open(witness) {
            return say(&format!("overlap {error} in term {last}"));
        }
        tokio::task::yield_now().await;
        std::fs::remove_file(witness).expect("ours");
        if n % 2 == 0 {
            candidate.release(won).await;
        }
        candidate.close(won.session).await;
    }
    say(&format!("done {last}"));
}
