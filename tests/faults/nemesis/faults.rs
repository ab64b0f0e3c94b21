//! What each misfortune is, and how it ends.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fleet::{ALIVE_TTL, CANDIDATES, Engine, Fleet, SERVERS};
use super::register::now;
use super::schedule::Kind::{self, *};
use crate::support::hang::Hanging;

/// In nanoseconds: a leadership that is to last has lasted so long, whatever was done to the one before.
const LASTING: u64 = 1_000_000_000;

/// For so long agent and guard are stopped together: nothing protects from what main does past its lease meanwhile.
const SHORT_STOP: Duration = Duration::from_secs(2);

/// By then a guard that was stopped runs again.
const NOTICED: Duration = Duration::from_millis(1500);

/// What puts an end to a misfortune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mend {
    /// It has none, or is over.
    Nothing,
    /// The network is whole again.
    Heal,
    /// A process goes on.
    Continue(i32),
    /// A server, or a client of Consul, is started again.
    Spawn(usize),
    /// All that are down are started again, and the network is whole.
    SpawnAll,
    /// The network is whole again, and a process goes on.
    HealAndContinue(i32),
    /// What hung answers.
    Answer,
    /// What somebody wrote over the lock is deleted.
    Delete,
}

fn signal(pid: i32, signal: Signal) -> Option<()> {
    kill(Pid::from_raw(pid), signal).ok()
}

impl Fleet {
    /// Does it to whom it concerns; `None` when there is nobody of that kind. `any` chooses where there is a choice.
    pub fn strike(&mut self, kind: Kind, leader: usize, any: usize) -> Option<Mend> {
        let replica = (leader + 1 + any % (CANDIDATES.len() - 1)) % CANDIDATES.len();
        let server = any % SERVERS.len();
        match kind {
            IsolateLeader => self.network().isolate(&[CANDIDATES[leader]]),
            IsolateReplica => self.network().isolate(&[CANDIDATES[replica]]),
            IsolateServer => self.network().isolate(&[SERVERS[server]]),
            IsolateEngineLeader => self.network().isolate(&[SERVERS[self.engine_leader()?]]),
            Split => self.network().split(&[&[CANDIDATES[leader], SERVERS[server], CANDIDATES[replica]]]),
            LeaderUnheard | LeaderDeaf => {
                let others = SERVERS.iter().chain(CANDIDATES.iter()).filter(|host| **host != CANDIDATES[leader]);
                let pair = |host: &'static str| match kind {
                    LeaderUnheard => (CANDIDATES[leader], host),
                    _ => (host, CANDIDATES[leader]),
                };
                self.network().one_way(&others.map(|host| pair(host)).collect::<Vec<_>>());
            }
            Loss => {
                let engine = self.engine_leader()?;
                self.network().loss(CANDIDATES[leader], 33);
                self.network().loss(SERVERS[engine], 33);
            }
            KillEngineLeader => {
                let index = self.engine_leader()?;
                self.down(index);
                return Some(Mend::Spawn(index));
            }
            StopEngineLeader => {
                let index = self.engine_leader()?;
                let pid = match &self.engine {
                    Engine::Consul(consul) => consul.process(index).pid(),
                    Engine::Etcd(etcd) => etcd.process(index).pid(),
                    Engine::Local(_) => return None,
                };
                signal(pid, Signal::SIGSTOP)?;
                return Some(Mend::Continue(pid));
            }
            KillClient => {
                let Engine::Consul(consul) = &mut self.engine else { return None };
                consul.down(SERVERS.len() + leader);
                return Some(Mend::Spawn(SERVERS.len() + leader));
            }
            KillLeader => {
                self.end(leader, Signal::SIGKILL);
                return Some(Mend::Nothing);
            }
            KillReplica => {
                self.end(replica, Signal::SIGKILL);
                return Some(Mend::Nothing);
            }
            Stop => {
                self.end(leader, Signal::SIGTERM);
                return Some(Mend::Nothing);
            }
            KillMain => {
                signal(self.child(leader, "actor")?, Signal::SIGKILL)?;
                return Some(Mend::Nothing);
            }
            KillGuard => {
                signal(self.child(leader, "pilotfish-guard")?, Signal::SIGKILL)?;
                return Some(Mend::Nothing);
            }
            StopAgent => {
                // Of one that acts, and isn't about to stop: else it proves nothing.
                let leader = self.within(Duration::from_secs(20), |fleet| {
                    let since = fleet.judge.begun(fleet.term())?;
                    fleet.leader().filter(|_| now().saturating_sub(since) >= LASTING)
                })?;
                let pid = self.agent(leader)?;
                signal(pid, Signal::SIGSTOP)?;
                return Some(Mend::Continue(pid));
            }
            StopGuard => {
                let pid = self.child(leader, "pilotfish-guard")?;
                signal(pid, Signal::SIGSTOP)?;
                return Some(Mend::Continue(pid));
            }
            StopOneByOne => {
                signal(self.child(leader, "pilotfish-guard")?, Signal::SIGSTOP)?;
                self.watch(NOTICED);
                return self.strike(StopAgent, leader, any);
            }
            StopBoth => {
                let (agent, guard) = (self.agent(leader)?, self.child(leader, "pilotfish-guard")?);
                // The guard first: it would see the other's stop as one more thing to look at.
                signal(guard, Signal::SIGSTOP)?;
                signal(agent, Signal::SIGSTOP)?;
                self.watch(SHORT_STOP);
                self.network().isolate(&[CANDIDATES[leader]]);
                signal(agent, Signal::SIGCONT);
                return Some(Mend::HealAndContinue(guard));
            }
            HangStorage => {
                let files = self.candidates[leader].files();
                self.hanging = Some(Hanging::new(files.iter().map(PathBuf::as_path)));
                return Some(Mend::Answer);
            }
            RestartServers => {
                self.network().isolate(&[CANDIDATES[leader]]);
                // Its session has to have been seen ending, where it ends by that: the delay of its lock is what is forgotten.
                self.watch(ALIVE_TTL + Duration::from_secs(1));
                for index in 0..SERVERS.len() {
                    self.down(index);
                }
                self.watch(Duration::from_millis(200));
                self.raise();
                return Some(Mend::Heal);
            }
            KillTwoServers => {
                for index in [server, (server + 1) % SERVERS.len()] {
                    self.down(index);
                }
                return Some(Mend::SpawnAll);
            }
            StopMain => {
                let pid = self.child(leader, "actor")?;
                signal(pid, Signal::SIGSTOP)?;
                return Some(Mend::Continue(pid));
            }
            DeleteLock => return self.delete_lock().then_some(Mend::Nothing),
            OverwriteLock => {
                // On Consul it stays the session's, and goes with it. On etcd it has no lease then, and stays.
                let mend = if let Engine::Etcd(_) = self.engine { Mend::Delete } else { Mend::Nothing };
                return self.write_by_hand("PUT", &["put", LOCK_ON_ETCD, "x"]).then_some(mend);
            }
            DestroySession => {
                let session = self.session()?;
                return self.destroy(&session).then_some(Mend::Nothing);
            }
            FreeLock => {
                let session = self.session()?;
                self.network().isolate(&[CANDIDATES[leader]]);
                let freed = self.free(&session);
                self.watch(Duration::from_secs(1));
                if !freed || !self.destroy(&session) {
                    self.network().heal();
                    return None;
                }
            }
            LateAcquire => return self.late_acquire(any),
            Handover => {
                let (code, said, error) = self.ask(leader, &["step-down", "--to", CANDIDATES[replica]]);
                if code != 0 {
                    println!("{} hands over to {}: {said}{error}", CANDIDATES[leader], CANDIDATES[replica]);
                }
                return (code == 0).then_some(Mend::Nothing);
            }
            StepDown => return (self.ask(leader, &["step-down"]).0 == 0).then_some(Mend::Nothing),
        }
        Some(Mend::Heal)
    }

    /// Ends a misfortune.
    pub fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Nothing => {}
            Mend::Heal => self.network().heal(),
            Mend::SpawnAll => self.raise(),
            Mend::HealAndContinue(pid) => {
                self.network().heal();
                // It may have been replaced meanwhile.
                let _ = signal(pid, Signal::SIGCONT);
            }
            Mend::Answer => self.hanging = None,
            Mend::Delete => {
                self.until("the lock deleted", Duration::from_secs(20), |fleet| fleet.delete_lock().then_some(()));
            }
            // It may have ended meanwhile; its number isn't another's yet.
            Mend::Continue(pid) => drop(signal(pid, Signal::SIGCONT)),
            Mend::Spawn(index) => match &mut self.engine {
                Engine::Consul(consul) => consul.spawn(index),
                Engine::Etcd(etcd) => etcd.spawn(index),
                Engine::Local(_) => {}
            },
        }
    }

    fn delete_lock(&self) -> bool {
        self.write_by_hand("DELETE", &["del", LOCK_ON_ETCD])
    }

    fn write_by_hand(&self, method: &str, ctl: &[&str]) -> bool {
        match &self.engine {
            Engine::Consul(consul) => self.by_hand(|index| {
                consul.is_up(index)
                    && consul.ask(index, method, "/v1/kv/db/leader", "x").is_some_and(|(status, _)| status == 200)
            }),
            Engine::Etcd(etcd) => self.by_hand(|index| {
                let words = [&["--command-timeout=2s"], ctl].concat();
                etcd.is_up(index) && etcd.ctl(index, &words).is_ok()
            }),
            Engine::Local(_) => false,
        }
    }

    fn destroy(&self, session: &str) -> bool {
        self.put(&format!("/v1/session/destroy/{session}"), "")
    }

    fn free(&self, session: &str) -> bool {
        // With the value it has, as by `consul kv put -release`.
        let Engine::Consul(consul) = &self.engine else { return false };
        let value = (0..SERVERS.len()).filter(|index| consul.is_up(*index)).find_map(|index| {
            let (status, value) = consul.ask(index, "GET", "/v1/kv/db/leader?raw", "")?;
            (status == 200).then_some(value)
        });
        value.is_some_and(|value| self.put(&format!("/v1/kv/db/leader?release={session}"), &value))
    }

    fn put(&self, path: &str, value: &str) -> bool {
        let Engine::Consul(consul) = &self.engine else { return false };
        self.by_hand(|index| {
            consul.is_up(index) && consul.ask(index, "PUT", path, value).is_some_and(|(status, _)| status == 200)
        })
    }

    /// Acquires of three replicas wait at their gates while the fourth wins; then its host is cut off, its session is
    /// destroyed, and they arrive: sent when the lock was free, and when its delay has only just begun.
    fn late_acquire(&mut self, any: usize) -> Option<Mend> {
        let leader = self.within(Duration::from_secs(20), Fleet::leader)?;
        let late = [leader + 1, leader + 2, leader + 3].map(|index| index % CANDIDATES.len());
        let gate = |fleet: &Fleet, index: usize| fleet.candidates[index].gate.clone().expect("on Consul");
        let gates = late.map(|index| gate(self, index));
        let before = self.term();
        gates.iter().for_each(|gate| gate.keep(true));
        let asked = self.ask(leader, &["step-down"]).0 == 0;
        let won = asked.then(|| {
            self.within(Duration::from_millis(1500), |fleet| {
                let winner = fleet.leader().filter(|_| fleet.term() > before)?;
                gates.iter().any(|gate| gate.kept() > 0).then_some(winner)
            })
        });
        let Some((winner, session)) = won.flatten().zip(self.session()) else {
            gates.iter().for_each(|gate| gate.keep(false));
            // Who was asked has stepped down all the same, and not without need.
            return asked.then_some(Mend::Nothing);
        };
        self.network().isolate(&[CANDIDATES[winner]]);
        std::thread::scope(|scope| {
            scope.spawn(|| self.destroy(&session));
            // The engine looks at the delay before it writes: one of them shall come between the two. How soon that is
            // differs from machine to machine, so each blow tries another pause of up to 10 ms.
            std::thread::sleep(Duration::from_micros(any as u64 % 100 * 100));
            for gate in &gates {
                gate.keep(false);
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        Some(Mend::Heal)
    }
}

const LOCK_ON_ETCD: &str = "pilotfish/elections/db/leader";
