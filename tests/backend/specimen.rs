//! An agent in a process of its own, to be killed: the test binary itself, started again to run the one "test" at the
//! end of this file.

// Not the agent's code: the reaper's rule doesn't bind a test.
#![allow(clippy::disallowed_types)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use pilotfish::supervisor::vocabulary::ServiceStatus;

use super::bench::{PATIENCE, agent_on, instances_of, service};

const ROLE: &str = "PILOTFISH_TEST_SPECIMEN";

/// A process that publishes a service, or does what else its role says.
pub struct Specimen {
    child: Child,
    _stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Specimen {
    /// One that has published a service as passing.
    pub fn publishing(address: &str, service: &pilotfish::config::Service) -> Specimen {
        let mut specimen = Specimen::start(&["publish", address, &service.name, &service.id, "0"]);
        specimen.expect("published");
        specimen
    }

    /// One with a role and its arguments; nothing is awaited.
    pub fn start(role: &[&str]) -> Specimen {
        let this = std::env::current_exe().expect("a test binary has a path");
        let mut child = Command::new(this)
            .args(["--exact", "backend::specimen::a_process_of_other_tests", "--ignored", "--nocapture"])
            .env(ROLE, role.join("|"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary runs");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        // Ends with the child.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Specimen { child, _stdin: stdin, lines }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads until it says this; returns what follows on the line.
    pub fn expect(&mut self, word: &str) -> String {
        self.expect_within(word, PATIENCE)
    }

    pub fn expect_within(&mut self, word: &str, patience: Duration) -> String {
        let mut all = Vec::new();
        loop {
            let line = self.lines.recv_timeout(patience);
            let line = line.unwrap_or_else(|e| panic!("{e} instead of {word:?}; before that: {all:?}"));
            if let Some(at) = line.find(word) {
                return line[at + word.len()..].trim().to_owned();
            }
            all.push(line);
        }
    }

    /// SIGKILL. It is reaped later, as it would be in another container.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is ours");
    }
}

impl Drop for Specimen {
    fn drop(&mut self) {
        // Already dead is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn say(word: &str) {
    println!("{word}");
    std::io::stdout().flush().expect("the test reads");
}

/// Until the test closes our stdin, or kills us.
fn stay() {
    let _ = std::io::stdin().read(&mut [0]);
}

fn become_user(uid: &str) {
    let uid: u32 = uid.parse().expect("a number");
    if uid > 0 {
        setgroups(&[]).expect("root may");
        setgid(Gid::from_raw(uid)).expect("root may");
        setuid(Uid::from_raw(uid)).expect("root may");
    }
}

#[test]
#[ignore = "not a test: a process that other tests start and kill"]
fn a_process_of_other_tests() {
    let role = std::env::var(ROLE).expect("started by a test");
    let role: Vec<_> = role.split('|').collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match role[..] {
            ["publish", address, name, id, uid] => {
                become_user(uid);
                set_pdeathsig(Signal::SIGKILL).expect("the kernel does that");
                let agent = agent_on(address);
                let mut service = service(name, id);
                // No test waits longer than it must for the engines whose eye is a clock.
                service.ttl = Duration::from_secs(5);
                match agent.try_publish(&service, ServiceStatus::Passing, "ok").await {
                    Ok(()) => say("published"),
                    Err(error) => say(&format!("refused {error}")),
                }
                stay();
            }
            // Another user's inotify instances are used up first.
            ["follow-exhausted", address, name, uid] => {
                become_user(uid);
                set_pdeathsig(Signal::SIGKILL).expect("the kernel does that");
                let mut taken = Vec::new();
                while let Ok(one) = nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::IN_CLOEXEC) {
                    taken.push(one);
                }
                let mut seen = agent_on(address).follow(instances_of(name));
                loop {
                    say(&format!("seen {}", seen.ids().await.join(",")));
                }
            }
            // Changes what it publishes as fast as it can, until it is killed in the middle of it.
            ["flip", address, name, id] => {
                set_pdeathsig(Signal::SIGKILL).expect("the kernel does that");
                let agent = agent_on(address);
                for n in 0.. {
                    let status = if n % 3 == 0 { ServiceStatus::Critical } else { ServiceStatus::Passing };
                    agent.publish(&service(name, id), status, &n.to_string()).await;
                    if n == 0 {
                        say("flipping");
                    }
                }
            }
            ["follow-several", address] => {
                set_pdeathsig(Signal::SIGKILL).expect("the kernel does that");
                let agent = agent_on(address);
                let mut all: Vec<_> = ["a", "b", "c", "a"].map(|name| agent.follow(instances_of(name))).into();
                all.push(agent.follow(pilotfish::config::Query::Key { key: "k".to_owned() }));
                for seen in &mut all {
                    seen.told().await.expect("seen");
                }
                say("following");
                std::future::pending::<()>().await;
            }
            ["follow", address, name, uid] => {
                become_user(uid);
                set_pdeathsig(Signal::SIGKILL).expect("the kernel does that");
                let mut seen = agent_on(address).follow(instances_of(name));
                loop {
                    say(&format!("seen {}", seen.ids().await.join(",")));
                }
            }
            _ => {
                set_pdeathsig(Signal::SIGKILL).expect("the kernel does that");
                assert!(crate::election::specimen::act(&role).await, "no such role: {role:?}");
            }
        }
    });
}
