//! The world: three candidates with their mains and guards, a store, and the mail between them. Each [`Step`] is one
//! thing that can happen next; a candidate that isn't paused acts on its deadlines before time goes on, for a process
//! that is late is what a pause is.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::election::LONGEST_LOCK_DELAY;
use crate::supervisor::machines::election::candidate::Campaign;
use crate::supervisor::machines::election::demotion::DemotionReason;
use crate::supervisor::machines::election::event::{
    Acquisition, Certification, ElectionEffect, ElectionEvent, Id, Renewal, RequestId, StoreRequest,
};
use crate::supervisor::machines::election::record::{
    Answer, Lock, PeerRank, Rank, Revision, SessionId, Term, View, Witness,
};
use crate::supervisor::machines::election::rules::Rule;
use crate::supervisor::machines::election::tenure::{Tenure, TenureStage};
use crate::supervisor::machines::election::{CandidateState, Election, Preference, Ranking, Settings};
use crate::supervisor::vocabulary::Time;

use super::normal::{self, NOW, normalize};
use super::promises::Broken;
use super::store::{AcquireRequest, Store};
use super::{Faults, Kind, Play, UNIT, Witnessed, pace};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub store: Store,
    pub agents: Vec<Agent>,
    pub mail: Vec<Mail>,
    /// Mains whose agents are gone, while the kernel ends them.
    pub remains: Vec<Remains>,
    left: Faults,
    pub leaders: u8,
    /// The highest term that was acted for since the store was wiped.
    term: Term,
    /// What clients were told is written: a log, as the leader had it.
    acknowledged: Vec<Term>,
    writes: u8,
    pub broken: Broken,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Agent {
    pub core: Election,
    id: Id,
    /// Answers to one that has crashed reach nobody.
    life: u8,
    pub acting: Option<Acting>,
    /// What the guard's page says.
    page: Option<Time>,
    guard_died: Option<Time>,
    /// It is only stopped, and nobody has looked yet.
    guard_unannounced: bool,
    paused: bool,
    /// With its host: main and guard don't run either.
    pub asleep: bool,
    /// It was paused, and hasn't looked at its clock since.
    woken: bool,
    /// Main's end, not told yet to an agent that is paused.
    pending: bool,
    /// What its watch told last: the same isn't told twice.
    told: Option<View>,
    /// The highest term it has been shown.
    shown: Term,
    /// An acquire whose outcome it doesn't know, and hasn't asked for since.
    unsure: bool,
    /// Renewals asked for since the last that counted.
    unproven: u8,
    /// Sessions that served a term.
    served: Vec<SessionId>,
    /// Sessions with an acquire of unknown outcome.
    abandoned: Vec<SessionId>,
    /// The leading server of etcd under which its lease was last put under the lock, that lease, and how many it was
    /// granted.
    proof: u8,
    lease: u64,
    leases: u64,
    /// What is on its disk: for each entry the term that wrote it.
    log: Vec<Term>,
    /// Whose end it waits for.
    awaited: BTreeSet<Witness>,
}

/// What acts on for a moment when its agent is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Remains {
    witness: Witness,
    gone_by: Time,
    /// `local`: the lock it keeps, by itself or by the guard that waits for its end.
    keeps: Option<SessionId>,
}

/// Main acts as leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acting {
    pub term: Term,
    /// Told to stop, and why.
    told: Option<(Time, DemotionReason)>,
    /// SIGKILL was sent: gone by then.
    gone_by: Option<Time>,
    renewed_since_told: bool,
    /// The agent was paused meanwhile.
    slept: bool,
    /// The agent was shown that the lock is not its own.
    lost: bool,
}

/// The file of one life of a container.
fn witness(agent: usize, life: u8) -> Witness {
    Witness { boot: "boot".into(), file: format!("{agent}.{life}").into(), device: 0, inode: 0 }
}

/// A message under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mail {
    agent: usize,
    life: u8,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    Open(RequestId),
    Close(SessionId),
    Look(RequestId),
    /// To be checked against what the store withholds.
    Acquire(RequestId, AcquireRequest),
    /// Checked (Consul), or with a lease granted then (etcd); to be written.
    Write(RequestId, AcquireRequest, Option<Time>),
    Renew(RequestId, SessionId),
    /// With a lease granted then; to be written if the key is still what it was (etcd).
    PutAnew(RequestId, SessionId, Option<Revision>, (u64, Time)),
    /// Its lease was kept alive; now the lock is read, and under which leading server (etcd).
    Prove(RequestId, SessionId),
    /// The lock was put under this lease, and its holder is told (etcd, where that ends others).
    Confirmed(SessionId, u64),
    /// A lease that the lock is thought not to be under (etcd).
    EndLease(SessionId, u64),
    /// The lock was read; now `last` is (Consul).
    Rest(Option<RequestId>, u64, Lock),
    Release(RequestId, SessionId, Option<Term>, Option<Id>, Duration),
    /// The container of this session's term is gone, and has been for so long.
    Certify(RequestId, SessionId, Term, Duration),
    Measure(RequestId),
    Publish(RequestId, Term, Answer, bool),
    ReadRanks(RequestId),
    Answer(ElectionEvent),
}

// The order of mail doesn't matter; one order of many keeps states few.
impl PartialOrd for What {
    fn partial_cmp(&self, other: &What) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for What {
    fn cmp(&self, other: &What) -> std::cmp::Ordering {
        let rank = |what: &What| match what {
            What::Open(ask) => (0, ask.0),
            What::Close(session) => (1, session.0 as u64),
            What::Look(ask) => (2, ask.0),
            What::Acquire(ask, _) => (3, ask.0),
            What::Write(ask, ..) => (4, ask.0),
            What::Renew(ask, _) => (5, ask.0),
            What::Release(ask, ..) => (6, ask.0),
            What::PutAnew(ask, ..) => (8, ask.0),
            What::Measure(ask) => (9, ask.0),
            What::Publish(ask, ..) => (10, ask.0),
            What::ReadRanks(ask) => (11, ask.0),
            What::Answer(event) => (7, asked(event).map_or(0, |ask| ask.0)),
            What::Prove(ask, _) => (12, ask.0),
            What::Confirmed(session, lease) => (15, session.0 as u64 * 100 + lease),
            What::EndLease(session, lease) => (13, session.0 as u64 * 100 + lease),
            What::Certify(ask, ..) => (16, ask.0),
            What::Rest(ask, at, _) => (14, ask.map_or(0, |ask| ask.0) * 1_000 + at),
        };
        rank(self).cmp(&rank(other))
    }
}

fn asked(event: &ElectionEvent) -> Option<RequestId> {
    match event {
        ElectionEvent::Opened { ask, .. }
        | ElectionEvent::Looked { ask, .. }
        | ElectionEvent::Acquired { ask, .. }
        | ElectionEvent::Renewed { ask, .. }
        | ElectionEvent::Released { ask, .. }
        | ElectionEvent::Certified { ask, .. }
        | ElectionEvent::Measured { ask, .. }
        | ElectionEvent::Published { ask, .. }
        | ElectionEvent::Ranks { ask, .. } => Some(*ask),
        _ => None,
    }
}

/// What can happen next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Time goes on to the next deadline, or by a unit.
    Wait,
    Deliver(usize),
    Lose(usize),
    Repeat(usize),
    /// The watch shows the key as it is now.
    Watch(usize),
    /// The watch reads the key as it is now, and tells it at some time.
    WatchLate(usize),
    Expire(SessionId),
    Delete,
    Free,
    Forget,
    /// An acquire comes to a server that has yet to replay that it holds everyone back.
    Misjudge(usize),
    /// A renewal is answered by a server that knows no session yet.
    Deny(usize),
    /// Of a read, only the lock's is done.
    Tear(usize),
    WatchTorn(usize),
    Depose,
    /// A renewal's keep-alive is answered by a server that leads no more.
    AnswerDeposed(usize),
    Scribble,
    Sleep(usize),
    Wake(usize),
    GuardStops(usize),
    Wipe,
    Crash(usize),
    /// The kernel has ended all that a crash left.
    Remove(usize),
    /// The kernel tells whose file is locked no more.
    Gone(usize, Witness),
    Pause(usize),
    Resume(usize),
    GuardDies(usize),
    GuardStands(usize),
    /// A leader writes, and what this other has then is all that the leader has: it is acknowledged.
    Write(usize, usize),
    /// A leader writes, and nobody gets it.
    WriteAlone(usize),
    /// Main is out of the role.
    Out(usize),
    Resign(usize),
    Unhealthy(usize),
    Well(usize),
}

impl World {
    pub fn new(play: &Play) -> World {
        let agents = (0..play.agents).map(|n| Agent::new(play, format!("{n}").into(), 0)).collect();
        let mut world = World {
            store: Store::new(play.kind),
            agents,
            mail: Vec::new(),
            remains: Vec::new(),
            left: play.faults,
            leaders: 0,
            term: Term::default(),
            acknowledged: Vec::new(),
            writes: play.writes,
            broken: Broken::default(),
        };
        for index in 0..play.agents {
            world.tell(play, index, ElectionEvent::Guard { stands: true });
        }
        normalize(&mut world, Duration::ZERO);
        world
    }

    /// The first candidate leads, and everybody knows.
    pub fn begun(play: &Play) -> World {
        let mut world = World::new(play);
        world.take(play, Step::Watch(0));
        while world.agents[0].acting.is_none() {
            let step = match world.mail.is_empty() {
                false => Step::Deliver(0),
                // Who counts ranks needs others.
                true => match world.agents.iter().position(|agent| agent.told.as_ref() != Some(&world.store.view())) {
                    Some(index) => Step::Watch(index),
                    None => Step::Wait,
                },
            };
            world.take(play, step);
        }
        for index in 0..play.agents {
            world.take(play, Step::Watch(index));
        }
        world
    }

    /// Everything that can happen next.
    pub fn steps(&self, play: &Play, out: &mut Vec<Step>) {
        out.push(Step::Wait);
        for index in 0..self.mail.len() {
            let mail = &self.mail[index];
            // The same message twice under way is one choice.
            if index > 0 && self.mail[index - 1] == *mail {
                continue;
            }
            let to_agent = matches!(mail.what, What::Answer(_));
            if !to_agent || !self.agents[mail.agent].paused {
                out.push(Step::Deliver(index));
            }
            // What a watch has read is told.
            if !matches!(mail.what, What::Answer(ElectionEvent::Saw(_))) && self.may(|faults| faults.lose) {
                out.push(Step::Lose(index));
            }
            if !to_agent && self.may(|faults| faults.repeat) {
                out.push(Step::Repeat(index));
            }
            match mail.what {
                What::Renew(..) if play.kind == Kind::Consul && self.may(|faults| faults.deny) => {
                    out.push(Step::Deny(index));
                }
                What::Acquire(..) if self.store.withholds(NOW) && self.may(|faults| faults.misjudge) => {
                    out.push(Step::Misjudge(index));
                }
                What::Look(_) if !self.store.is_held() && self.may(|faults| faults.torn) => {
                    out.push(Step::Tear(index));
                }
                // Until it is deposed, it is the one that leads.
                What::Renew(..) if self.agents[mail.agent].proof < self.store.raft_term() => {
                    out.push(Step::AnswerDeposed(index));
                }
                _ => {}
            }
        }
        let view = self.store.view();
        for (index, agent) in self.agents.iter().enumerate() {
            if agent.asleep {
                out.push(Step::Wake(index));
            } else if agent.paused {
                out.push(Step::Resume(index));
            } else {
                let gone = |witness: &&Witness| play.careless.silence_is_an_end || self.is_gone(play, witness);
                out.extend(agent.awaited.iter().filter(gone).map(|witness| Step::Gone(index, witness.clone())));
                if agent.told.as_ref() != Some(&view) {
                    out.push(Step::Watch(index));
                    if self.may(|faults| faults.late) {
                        out.push(Step::WatchLate(index));
                    }
                    if !self.store.is_held() && self.may(|faults| faults.torn) {
                        out.push(Step::WatchTorn(index));
                    }
                }
                if agent.acting.is_some() {
                    // Who stopped with its guard dead and its lease not over was promised nothing.
                    let guarded = agent.guard_died.is_none_or(|at| at + play.promise <= NOW);
                    if guarded && self.may(|faults| faults.pause) {
                        out.push(Step::Pause(index));
                    }
                    if guarded && self.may(|faults| faults.sleep) {
                        out.push(Step::Sleep(index));
                    }
                    if self.may(|faults| faults.step_down) && agent.acting.as_ref().is_some_and(|a| a.told.is_none()) {
                        out.push(Step::Resign(index));
                    }
                }
                let stands = !matches!(agent.core.state, CandidateState::Follower { .. });
                if stands && agent.core.eligibility.healthy && self.may(|faults| faults.unhealthy) {
                    out.push(Step::Unhealthy(index));
                }
                if agent.guard_died.is_some() {
                    out.push(Step::GuardStands(index));
                } else {
                    if self.may(|faults| faults.guard) {
                        out.push(Step::GuardDies(index));
                    }
                    if agent.acting.is_some() && self.may(|faults| faults.stop_guard) {
                        out.push(Step::GuardStops(index));
                    }
                }
                if !agent.core.eligibility.healthy {
                    out.push(Step::Well(index));
                }
            }
            // Whether its agent runs or not.
            if let Some(acting) = agent.acting.as_ref().filter(|_| self.writes > 0 && !agent.asleep) {
                out.push(Step::WriteAlone(index));
                // Nobody follows a leader of before again.
                let follows =
                    |other: &Agent| other.acting.is_none() && other.log.last().is_none_or(|at| *at <= acting.term);
                let followers = (0..self.agents.len()).filter(|other| *other != index && follows(&self.agents[*other]));
                out.extend(followers.map(|other| Step::Write(index, other)));
            }
            if agent.acting.as_ref().is_some_and(|acting| acting.told.is_some() || acting.gone_by.is_some()) {
                out.push(Step::Out(index));
            }
            if (agent.acting.is_some() || agent.core.term().is_some()) && self.may(|faults| faults.crash) {
                out.push(Step::Crash(index));
            }
        }
        out.extend((0..self.remains.len()).map(Step::Remove));
        for session in self.store.may_end(NOW, play.promise) {
            // An etcd lease that ran out ends for free; any other end of a session is a misfortune.
            if play.kind == Kind::Etcd || self.may(|faults| faults.expire) {
                out.push(Step::Expire(session));
            }
        }
        if self.store.has_lock_key() && self.may(|faults| faults.delete) {
            out.push(Step::Delete);
        }
        if self.store.is_held() && self.may(|faults| faults.free) {
            out.push(Step::Free);
        }
        if self.store.withholds(NOW) && self.may(|faults| faults.forget) {
            out.push(Step::Forget);
        }
        if self.store.is_held() && self.may(|faults| faults.depose) {
            out.push(Step::Depose);
        }
        if self.leaders > 0 && self.may(|faults| faults.scribble) {
            out.push(Step::Scribble);
        }
        let quiet = !self.store.is_held() && self.agents.iter().all(|agent| agent.acting.is_none());
        if self.leaders > 0 && quiet && self.may(|faults| faults.wipe) {
            out.push(Step::Wipe);
        }
    }

    /// Whether this message is what a watch read some time ago.
    pub fn is_late(&self, index: usize) -> bool {
        matches!(self.mail[index].what, What::Answer(ElectionEvent::Saw(_)))
    }

    /// Whether the kernel says so: the file is locked by the agent, and by what has inherited it and not closed it.
    fn is_gone(&self, play: &Play, file: &Witness) -> bool {
        let lives = (0..self.agents.len()).any(|index| witness(index, self.agents[index].life) == *file);
        let inherited = play.witnessed == Witnessed::Kept && !play.careless.file_not_inherited;
        !(lives || inherited && self.remains.iter().any(|remains| remains.witness == *file))
    }

    fn may(&self, of: impl Fn(&Faults) -> u8) -> bool {
        self.left.any > 0 && of(&self.left) > 0
    }

    fn spend(&mut self, of: impl Fn(&mut Faults) -> &mut u8) {
        self.left.any -= 1;
        *of(&mut self.left) -= 1;
    }

    /// Something happens.
    pub fn take(&mut self, play: &Play, step: Step) {
        let mut passed = Duration::ZERO;
        match step {
            Step::Wait => passed = self.wait(play),
            Step::Deliver(index) => {
                let mail = self.mail.remove(index);
                self.deliver(play, mail);
            }
            Step::Lose(index) => {
                self.spend(|faults| &mut faults.lose);
                let mail = self.mail.remove(index);
                self.lose(play, mail);
            }
            Step::Misjudge(index) => {
                self.spend(|faults| &mut faults.misjudge);
                let mail = self.mail.remove(index);
                if let What::Acquire(ask, wanted) = mail.what {
                    self.mail.push(Mail { what: What::Write(ask, wanted, None), ..mail });
                }
            }
            Step::Repeat(index) => {
                self.spend(|faults| &mut faults.repeat);
                let mail = self.mail[index].clone();
                self.deliver(play, mail);
            }
            Step::Watch(index) => {
                let view = self.store.view();
                self.agents[index].told = Some(view.clone());
                self.tell(play, index, ElectionEvent::Saw(Ok(view)));
            }
            Step::WatchLate(index) => {
                self.spend(|faults| &mut faults.late);
                let view = self.store.view();
                let Agent { life, told, .. } = &mut self.agents[index];
                *told = Some(view.clone());
                self.mail.push(Mail { agent: index, life: *life, what: What::Answer(ElectionEvent::Saw(Ok(view))) });
            }
            Step::Expire(session) => {
                if play.kind != Kind::Etcd {
                    self.spend(|faults| &mut faults.expire);
                }
                self.store.end(NOW, session, play.promise);
            }
            Step::Delete => {
                self.spend(|faults| &mut faults.delete);
                self.store.delete();
            }
            Step::Free => {
                self.spend(|faults| &mut faults.free);
                self.store.free();
            }
            Step::Forget => {
                self.spend(|faults| &mut faults.forget);
                self.store.forget(NOW);
            }
            Step::Depose => {
                self.spend(|faults| &mut faults.depose);
                self.store.depose();
            }
            Step::Scribble => {
                self.spend(|faults| &mut faults.scribble);
                self.store.scribble();
            }
            Step::Deny(index) => {
                self.spend(|faults| &mut faults.deny);
                let Mail { agent, life, what } = self.mail.remove(index);
                let What::Renew(ask, _) = what else { unreachable!("only renewals are denied") };
                let event = ElectionEvent::Renewed { ask, result: Renewal::Gone { void: false } };
                self.mail.push(Mail { agent, life, what: What::Answer(event) });
            }
            Step::Tear(index) => {
                self.spend(|faults| &mut faults.torn);
                let Mail { agent, life, what } = self.mail.remove(index);
                let What::Look(ask) = what else { unreachable!("only reads are torn") };
                let View { at, lock, .. } = self.store.view();
                self.mail.push(Mail { agent, life, what: What::Rest(Some(ask), at, lock) });
            }
            Step::WatchTorn(agent) => {
                self.spend(|faults| &mut faults.torn);
                let (life, View { at, lock, .. }) = (self.agents[agent].life, self.store.view());
                self.mail.push(Mail { agent, life, what: What::Rest(None, at, lock) });
            }
            Step::AnswerDeposed(index) => {
                let Mail { agent, life, what } = self.mail.remove(index);
                let What::Renew(ask, session) = what else { unreachable!("only keep-alives are answered so") };
                self.mail.push(Mail { agent, life, what: What::Prove(ask, session) });
            }
            Step::Sleep(index) => {
                self.spend(|faults| &mut faults.sleep);
                let agent = &mut self.agents[index];
                (agent.asleep, agent.paused) = (true, true);
                if let Some(acting) = &mut agent.acting {
                    acting.slept = true;
                }
            }
            Step::Wake(index) => {
                let agent = &mut self.agents[index];
                (agent.asleep, agent.paused, agent.woken) = (false, false, true);
                // The guard's timer is due before main has done anything.
                let kills = agent.page.is_some_and(|at| at <= NOW) && agent.guard_died.is_none();
                if kills && agent.acting.is_some() {
                    self.out(play, index);
                } else if std::mem::take(&mut self.agents[index].pending) {
                    self.tell(play, index, ElectionEvent::OutOfRole);
                }
            }
            Step::GuardStops(index) => {
                self.spend(|faults| &mut faults.stop_guard);
                let agent = &mut self.agents[index];
                (agent.guard_died, agent.guard_unannounced) = (Some(NOW), true);
            }
            Step::Wipe => {
                self.spend(|faults| &mut faults.wipe);
                self.store.wipe();
                self.mail.retain(|mail| matches!(mail.what, What::Answer(_)));
                self.term = Term::default();
            }
            Step::Crash(index) => {
                self.spend(|faults| &mut faults.crash);
                self.crash(play, index);
            }
            Step::Remove(index) => {
                let gone = self.remains.remove(index);
                self.let_go(play, gone);
            }
            Step::Gone(index, witness) => {
                self.agents[index].awaited.remove(&witness);
                self.tell(play, index, ElectionEvent::Gone { witness });
            }
            Step::Pause(index) => {
                self.spend(|faults| &mut faults.pause);
                self.agents[index].paused = true;
                if let Some(acting) = &mut self.agents[index].acting {
                    acting.slept = true;
                }
            }
            Step::Resume(index) => {
                self.agents[index].paused = false;
                self.agents[index].woken = true;
                if std::mem::take(&mut self.agents[index].pending) {
                    self.tell(play, index, ElectionEvent::OutOfRole);
                }
            }
            Step::GuardDies(index) => {
                self.spend(|faults| &mut faults.guard);
                self.agents[index].guard_died = Some(NOW);
                self.tell(play, index, ElectionEvent::Guard { stands: false });
            }
            Step::GuardStands(index) => {
                let agent = &mut self.agents[index];
                (agent.guard_died, agent.guard_unannounced) = (None, false);
                self.tell(play, index, ElectionEvent::Guard { stands: true });
            }
            Step::Write(index, other) => {
                self.write(index);
                self.agents[other].log = self.agents[index].log.clone();
                self.acknowledged = self.agents[index].log.clone();
            }
            Step::WriteAlone(index) => self.write(index),
            Step::Out(index) => self.out(play, index),
            Step::Resign(index) => {
                self.spend(|faults| &mut faults.step_down);
                self.tell(play, index, ElectionEvent::StepDown { to: None });
            }
            Step::Unhealthy(index) => {
                self.spend(|faults| &mut faults.unhealthy);
                self.tell(play, index, ElectionEvent::Health { healthy: false });
            }
            Step::Well(index) => self.tell(play, index, ElectionEvent::Health { healthy: true }),
        }
        self.forget_unread();
        if play.brisk {
            self.hurry(play);
        }
        for agent in &mut self.agents {
            let idle_session = agent.core.idle_session.as_ref().map(|idle_session| idle_session.session);
            let own = agent.core.session();
            // The core knows of no other and can't use any other again.
            for sessions in [&mut agent.served, &mut agent.abandoned] {
                sessions.retain(|session| Some(*session) == idle_session || Some(*session) == own);
            }
        }
        self.mail.sort_unstable();
        normalize(self, passed);
    }

    fn write(&mut self, index: usize) {
        self.writes -= 1;
        let agent = &mut self.agents[index];
        let term = agent.acting.as_ref().map(|acting| acting.term);
        agent.log.extend(term);
    }

    /// Delivers what only reads or opens.
    fn hurry(&mut self, play: &Play) {
        let quick = |world: &World, mail: &Mail| match mail.what {
            What::Open(_) | What::Look(_) => true,
            What::Answer(ElectionEvent::Opened { .. } | ElectionEvent::Looked { .. }) => {
                !world.agents[mail.agent].paused
            }
            _ => false,
        };
        while let Some(index) = self.mail.iter().position(|mail| quick(self, mail)) {
            let mail = self.mail.remove(index);
            self.deliver(play, mail);
            self.forget_unread();
        }
    }

    /// Time goes on. Whoever isn't paused acts on what is due; guards kill; what was killed is gone in time.
    fn wait(&mut self, play: &Play) -> Duration {
        let to = self.next_time(play);
        // Nobody's clock stands still while another's goes on: all is shifted, then what is due is done.
        let passed = to.since(NOW);
        for time in self.times() {
            *time = *time - passed;
        }
        if play.careless.clocks_sleep {
            for agent in self.agents.iter_mut().filter(|agent| agent.asleep) {
                for time in normal::times(&mut agent.core).into_iter().chain(agent.page.as_mut()) {
                    *time = *time + passed;
                }
            }
        }
        for gone in self.remains.extract_if(.., |remains| remains.gone_by <= NOW).collect::<Vec<_>>() {
            self.let_go(play, gone);
        }
        for index in 0..self.agents.len() {
            let agent = &mut self.agents[index];
            if agent.asleep {
                continue;
            }
            if agent.acting.as_ref().and_then(|acting| acting.gone_by).is_some_and(|at| at <= NOW) {
                self.out(play, index);
            }
            let agent = &self.agents[index];
            if !agent.paused && agent.core.deadline().is_some_and(|at| at <= NOW) {
                self.tell(play, index, ElectionEvent::Tick);
            }
            let agent = &mut self.agents[index];
            let kills = agent.page.is_some_and(|at| at <= NOW) && agent.guard_died.is_none();
            if let Some(acting) = agent.acting.as_mut().filter(|acting| kills && acting.gone_by.is_none()) {
                acting.gone_by = Some(NOW + pace().kill_margin);
                if !agent.paused {
                    self.broken.set(Broken::LEFT_TO_THE_GUARD);
                }
            }
        }
        // Already shifted.
        Duration::ZERO
    }

    /// The next moment at which anything is due, or a unit on.
    fn next_time(&self, play: &Play) -> Time {
        let running = self.agents.iter().filter(|agent| !agent.paused);
        let cores = running.clone().filter_map(|agent| agent.core.deadline());
        // Who has just woken up looks at its clock before time goes on.
        if running.clone().any(|agent| agent.woken && agent.core.deadline().is_some_and(|at| at <= NOW)) {
            return NOW;
        }
        let awake = self.agents.iter().filter(|agent| !agent.asleep);
        let kills = awake.filter_map(|agent| agent.acting.as_ref()?.gone_by.or(agent.page));
        let kills = kills.chain(self.remains.iter().map(|remains| remains.gone_by));
        let due = cores.chain(kills).chain(self.store.next(NOW, play.promise)).filter(|at| *at > NOW);
        due.min().unwrap_or(NOW + UNIT).min(NOW + UNIT)
    }

    fn deliver(&mut self, play: &Play, mail: Mail) {
        let Mail { agent, life, what } = mail;
        let id = self.agents[agent].id.clone();
        let answer = match what {
            What::Open(ask) => {
                let session = self.store.open(NOW, id);
                Some(ElectionEvent::Opened { ask, result: Ok((session, play.guarantee(), Revision(0))) })
            }
            What::Close(session) => {
                self.store.end(NOW, session, play.promise);
                None
            }
            What::Look(ask) => Some(ElectionEvent::Looked { ask, result: Ok(self.store.view()) }),
            What::Acquire(ask, _) if self.store.withholds(NOW) => {
                Some(ElectionEvent::Acquired { ask, result: Acquisition::HeldBack })
            }
            What::Acquire(ask, wanted) => {
                let granted = (play.kind == Kind::Etcd).then_some(NOW);
                self.mail.push(Mail { agent, life, what: What::Write(ask, wanted, granted) });
                None
            }
            What::Write(ask, wanted, granted) => {
                let result = self.store.acquire(NOW, &wanted, granted);
                if matches!(result, Acquisition::Won(_)) {
                    let of = &mut self.agents[agent];
                    (of.proof, of.lease, of.leases) = (self.store.raft_term(), 0, 0);
                }
                Some(ElectionEvent::Acquired { ask, result })
            }
            // By the server that it was put under the lock by: kept alive there, and proved by another read.
            // But where all is put anew each time, as when something is owed.
            What::Renew(ask, session)
                if play.kind == Kind::Etcd
                    && !play.careless.late_renewals_count
                    && (self.agents[agent].proof == self.store.raft_term() || play.careless.trusts_keep_alives) =>
            {
                // Otherwise it is the deposed server that answers.
                if self.agents[agent].proof == self.store.raft_term() {
                    self.store.keep_alive(NOW, session, self.agents[agent].lease);
                }
                self.mail.push(Mail { agent, life, what: What::Prove(ask, session) });
                None
            }
            What::Prove(ask, session) => {
                let as_before = self.agents[agent].proof == self.store.raft_term();
                let result = match self.store.prove(session, self.agents[agent].lease) {
                    Renewal::Alive(_) if !as_before && !play.careless.trusts_keep_alives => {
                        Renewal::Unknown("another server leads".to_owned())
                    }
                    proved => proved,
                };
                Some(ElectionEvent::Renewed { ask, result })
            }
            What::Renew(ask, session) if play.kind == Kind::Etcd => {
                let seen = self.store.held_as(session).filter(|_| !play.careless.late_renewals_count);
                self.agents[agent].leases += 1;
                let lease = (self.agents[agent].leases, NOW);
                self.mail.push(Mail { agent, life, what: What::PutAnew(ask, session, seen, lease) });
                None
            }
            What::PutAnew(ask, session, seen, (lease, granted)) => {
                let result = self.store.put_anew(NOW, session, seen, (lease, granted, play.promise));
                let of = &mut self.agents[agent];
                // The answer to a renewal given up long ago tells of another's lease.
                if matches!(result, Renewal::Alive(_)) && of.life == life && of.awaits(ask) {
                    (of.proof, of.lease) = (self.store.raft_term(), lease);
                }
                if matches!(result, Renewal::Alive(_)) && of.life == life {
                    // To end those granted before changes nothing: the lock is under this one.
                    if play.careless.ends_later_leases {
                        self.mail.push(Mail { agent, life, what: What::Confirmed(session, lease) });
                    }
                }
                Some(ElectionEvent::Renewed { ask, result })
            }
            What::Confirmed(session, lease) => {
                let later = lease + 1..=self.agents[agent].leases;
                self.mail.extend(later.map(|of| Mail { agent, life, what: What::EndLease(session, of) }));
                None
            }
            What::EndLease(session, lease) => {
                self.store.end_lease(NOW, session, lease, play.promise);
                None
            }
            What::Rest(ask, at, lock) => {
                let view = self.store.view_with(at, lock);
                Some(match ask {
                    Some(ask) => ElectionEvent::Looked { ask, result: Ok(view) },
                    None => ElectionEvent::Saw(Ok(view)),
                })
            }
            What::Renew(ask, session) => Some(ElectionEvent::Renewed { ask, result: self.store.renew(NOW, session) }),
            What::Release(ask, session, term, to, hold_off_left) => {
                self.store.release(session, term, to, hold_off_left);
                Some(ElectionEvent::Released { ask, result: Ok(()) })
            }
            What::Certify(ask, session, term, gone_for) => {
                let term = Some(term).filter(|_| !play.careless.certificate_of_any_term);
                Some(ElectionEvent::Certified { ask, result: self.store.certify(session, term, gone_for) })
            }
            What::Measure(ask) => {
                let log = &self.agents[agent].log;
                let rank = match play.quorum {
                    Some(_) => log.last().map_or(0, |term| i128::from(term.0) << 8) + log.len() as i128,
                    // The further down the list, the further ahead.
                    None => agent as i128,
                };
                Some(ElectionEvent::Measured { ask, result: Ok(Rank::Number(rank)) })
            }
            What::Publish(ask, term, answer, stands) => {
                self.store.publish(PeerRank { id, term, answer, stands });
                Some(ElectionEvent::Published { ask, result: Ok(()) })
            }
            What::ReadRanks(ask) => Some(ElectionEvent::Ranks { ask, result: Ok(self.store.ranks()) }),
            What::Answer(event) => {
                if self.agents[agent].life == life {
                    self.tell(play, agent, event);
                }
                None
            }
        };
        self.mail.extend(answer.map(|event| Mail { agent, life, what: What::Answer(event) }));
    }

    /// The connection breaks: who asked learns that, and not whether it was done.
    fn lose(&mut self, play: &Play, mail: Mail) {
        let broken = || "cut".to_owned();
        let event = match mail.what {
            What::Open(ask) | What::Answer(ElectionEvent::Opened { ask, .. }) => {
                ElectionEvent::Opened { ask, result: Err(broken()) }
            }
            What::Look(ask) | What::Rest(Some(ask), ..) | What::Answer(ElectionEvent::Looked { ask, .. }) => {
                ElectionEvent::Looked { ask, result: Err(broken()) }
            }
            What::Acquire(ask, _) | What::Write(ask, ..) | What::Answer(ElectionEvent::Acquired { ask, .. }) => {
                ElectionEvent::Acquired { ask, result: Acquisition::Unknown(broken()) }
            }
            What::Renew(ask, _)
            | What::PutAnew(ask, ..)
            | What::Prove(ask, _)
            | What::Answer(ElectionEvent::Renewed { ask, .. }) => {
                ElectionEvent::Renewed { ask, result: Renewal::Unknown(broken()) }
            }
            What::Release(ask, ..) | What::Answer(ElectionEvent::Released { ask, .. }) => {
                ElectionEvent::Released { ask, result: Err(broken()) }
            }
            What::Certify(ask, ..) | What::Answer(ElectionEvent::Certified { ask, .. }) => {
                ElectionEvent::Certified { ask, result: Certification::Unknown(broken()) }
            }
            What::Measure(ask) | What::Answer(ElectionEvent::Measured { ask, .. }) => {
                ElectionEvent::Measured { ask, result: Err(broken()) }
            }
            What::ReadRanks(ask) | What::Answer(ElectionEvent::Ranks { ask, .. }) => {
                ElectionEvent::Ranks { ask, result: Err(broken()) }
            }
            What::Publish(ask, ..) | What::Answer(ElectionEvent::Published { ask, .. }) => {
                ElectionEvent::Published { ask, result: Err(broken()) }
            }
            What::Close(_) | What::Confirmed(..) | What::EndLease(..) => return,
            What::Rest(None, ..) | What::Answer(_) => return,
        };
        if self.agents[mail.agent].life == mail.life && !self.agents[mail.agent].paused {
            self.tell(play, mail.agent, event);
        }
    }

    fn crash(&mut self, play: &Play, index: usize) {
        let Agent { id, life, acting, asleep, log, .. } = self.agents[index].clone();
        if let Some(acting) = acting.filter(|_| play.witnessed != Witnessed::No && !asleep) {
            // A guard ends it by its clock; on `local` it has none, and ends what it finds when it gets to it.
            let last = match play.kind {
                Kind::Consul | Kind::Etcd => NOW + pace().kill_margin - pace().kill_margin / 100,
                Kind::Local => NOW + 3 * UNIT,
            };
            let gone_by = acting.gone_by.map_or(last, |at| at.min(last));
            let kept = play.kind == Kind::Local && !play.careless.file_not_inherited;
            let keeps = self.store.held_by(&id).filter(|_| kept);
            self.remains.push(Remains { witness: witness(index, life), gone_by, keeps });
        }
        // The kernel ends the namespace with its first process; on `local`, the lock with the last that has it open.
        self.agents[index] = Agent { log, ..Agent::new(play, id.clone(), life + 1) };
        if play.kind == Kind::Local {
            let kept = |session: &SessionId| self.remains.iter().any(|remains| remains.keeps == Some(*session));
            for session in self.store.of(&id).into_iter().filter(|session| !kept(session)).collect::<Vec<_>>() {
                self.store.end(NOW, session, play.promise);
            }
        }
        self.tell(play, index, ElectionEvent::Guard { stands: true });
    }

    /// What acted on is gone.
    fn let_go(&mut self, play: &Play, gone: Remains) {
        if let Some(session) = gone.keeps {
            self.store.end(NOW, session, play.promise);
        }
    }

    fn out(&mut self, play: &Play, index: usize) {
        let agent = &mut self.agents[index];
        agent.acting = None;
        if agent.paused {
            agent.pending = true;
        } else {
            self.tell(play, index, ElectionEvent::OutOfRole);
        }
    }

    /// A candidate learns an event, and its orders are obeyed.
    fn tell(&mut self, play: &Play, index: usize, event: ElectionEvent) {
        // Before a renewal counts it is asked whether the guard runs.
        let counts = matches!(&event, ElectionEvent::Renewed { result: Renewal::Alive(_), .. });
        if counts && !play.careless.guard_unwatched && std::mem::take(&mut self.agents[index].guard_unannounced) {
            self.tell(play, index, ElectionEvent::Guard { stands: false });
        }
        self.agents[index].hears(&event);
        self.agents[index].woken = false;
        let was_silence = matches!(&event, ElectionEvent::Renewed { result: Renewal::Unknown(_), .. });
        let shows_loss = match (&event, self.agents[index].core.state.clone()) {
            (ElectionEvent::Saw(Ok(view)), CandidateState::Holding(tenure)) => {
                view.at >= tenure.term.0 && !view.shows(tenure.session, tenure.term)
            }
            (ElectionEvent::Renewed { ask, result: Renewal::Gone { void: true } }, CandidateState::Holding(tenure)) => {
                tenure.renewal.is_some_and(|asked| asked.ask == *ask)
            }
            (ElectionEvent::Renewed { ask, result: Renewal::Alive(view) }, CandidateState::Holding(tenure)) => {
                tenure.renewal.is_some_and(|asked| asked.ask == *ask)
                    && view.at >= tenure.term.0
                    && !view.shows(tenure.session, tenure.term)
            }
            _ => false,
        };
        let tried = self.agents[index].core.state.clone();
        let valid_until = self.agents[index].valid_until();
        if let Some(acting) = &mut self.agents[index].acting {
            acting.lost |= shows_loss;
        }
        let told_so =
            matches!(&event, ElectionEvent::Acquired { result, .. } if !matches!(result, Acquisition::Unknown(_)));
        let orders = self.agents[index].core.handle(NOW, event);
        if let CandidateState::Campaigning(Campaign::Acquiring(attempt)) = tried
            && !told_so
            && self.agents[index].has_left(attempt.asked.ask)
        {
            self.agents[index].unsure = true;
            self.agents[index].abandoned.push(attempt.session());
        }
        if let CandidateState::Holding(tenure) = &self.agents[index].core.state {
            let session = tenure.session;
            self.agents[index].served.push(session);
            self.agents[index].served.dedup();
        }
        if self.agents[index].valid_until() != valid_until {
            self.agents[index].unproven = 0;
        }
        for order in orders {
            if was_silence && matches!(&order, ElectionEffect::Demote { why: DemotionReason::Lost, .. }) {
                self.broken.set(Broken::SILENCE_WAS_LOSS);
            }
            self.obey(play, index, order);
        }
        let leads = matches!(&self.agents[index].core.state,
            CandidateState::Holding(tenure) if matches!(tenure.stage, TenureStage::Leading { .. }));
        if shows_loss && leads {
            self.broken.set(Broken::LED_ON_AFTER_LOSS);
        }
    }

    fn obey(&mut self, play: &Play, index: usize, order: ElectionEffect) {
        let agent = &mut self.agents[index];
        let id = agent.id.clone();
        let send = |what| Mail { agent: index, life: agent.life, what };
        match order {
            ElectionEffect::Store(StoreRequest::OpenSession { ask }) => self.mail.push(send(What::Open(ask))),
            ElectionEffect::Store(StoreRequest::CloseSession { session }) => self.mail.push(send(What::Close(session))),
            ElectionEffect::Store(StoreRequest::EndFormerLife { session }) if play.kind == Kind::Consul => {
                self.mail.push(send(What::Close(session)))
            }
            ElectionEffect::Store(StoreRequest::EndFormerLife { .. }) => {}
            ElectionEffect::Store(StoreRequest::Look { ask }) => {
                self.mail.push(send(What::Look(ask)));
            }
            ElectionEffect::Store(StoreRequest::Acquire { ask, session, guarantee, seen, hold_off_left }) => {
                let linger = match play.witnessed {
                    Witnessed::Closed if !play.careless.closing_unsaid => pace().kill_margin,
                    Witnessed::No | Witnessed::Kept | Witnessed::Closed => Duration::ZERO,
                };
                let witness = agent.core.settings.witness.then(|| witness(index, agent.life).into());
                let seen = play.rules.hold(Rule::AcquireWhatWasSeen).then_some(seen);
                let wanted = AcquireRequest { id, session, guarantee, seen, hold_off_left, witness, linger };
                self.mail.push(send(What::Acquire(ask, wanted)));
                if play.kind != Kind::Local && play.promise - play.promise / 100 < 5 * UNIT {
                    self.broken.set(Broken::STOOD_FOR_TOO_LITTLE);
                }
                if agent.unsure {
                    self.broken.set(Broken::ASKED_BEFORE_READING_BACK);
                }
                if agent.abandoned.contains(&session) {
                    self.broken.set(Broken::SESSION_USED_WHILE_UNSURE);
                }
                if agent.served.contains(&session) {
                    self.broken.set(Broken::SESSION_SERVED_TWICE);
                }
            }
            ElectionEffect::Store(StoreRequest::Renew { ask, session, .. }) => {
                self.mail.push(send(What::Renew(ask, session)));
                agent.unproven = agent.unproven.saturating_add(1).min(3);
                if let Some(acting) = &mut agent.acting {
                    acting.renewed_since_told = true;
                }
            }
            ElectionEffect::Store(StoreRequest::Release { ask, session, term, to, hold_off_left }) => {
                let term = play.rules.hold(Rule::ReleaseOwnTerm).then_some(term);
                self.mail.push(send(What::Release(ask, session, term, to, hold_off_left)));
            }
            ElectionEffect::Guard { deadline } => {
                let later = agent.page.is_some_and(|page| page <= NOW) && deadline.is_some();
                if later && agent.acting.is_some() {
                    self.broken.set(Broken::DEADLINE_TAKEN_BACK);
                }
                agent.page = deadline.filter(|at| *at != Time::NEVER);
            }
            ElectionEffect::Promote { term } => {
                self.leaders += 1;
                if agent.page.is_none() && play.kind != Kind::Local {
                    self.broken.set(Broken::UNGUARDED);
                }
                if term <= self.term || term <= agent.shown {
                    self.broken.set(Broken::TERM_DID_NOT_GROW);
                }
                if !agent.core.eligibility.healthy {
                    self.broken.set(Broken::LED_UNFIT);
                }
                let own = agent.core.session();
                let shown = |view: &View| view.at < term.0 || own.is_some_and(|session| view.shows(session, term));
                if !agent.core.view.as_ref().is_none_or(shown) {
                    self.broken.set(Broken::LED_ON_AFTER_LOSS);
                }
                if play.quorum.is_some() {
                    if !agent.log.starts_with(&self.acknowledged) {
                        self.broken.set(Broken::LACKED_A_WRITE);
                    }
                    // A timeline of its own.
                    agent.log.push(term);
                }
                self.term = self.term.max(term);
                agent.shown = agent.shown.max(term);
                let told = None;
                agent.acting =
                    Some(Acting { term, told, gone_by: None, renewed_since_told: false, slept: false, lost: false });
            }
            ElectionEffect::Demote { why, by } => {
                let slept = agent.acting.as_ref().is_some_and(|acting| acting.slept);
                let own = agent.core.session();
                let held = own.is_some_and(|own| agent.core.term().is_some_and(|t| self.store.is_held_by(own, t)));
                if why == DemotionReason::Lost && held {
                    self.broken.set(Broken::LOST_IN_ERROR);
                }
                if why == DemotionReason::Silence && !slept && agent.unproven < 2 {
                    self.broken.set(Broken::TOO_SHORT);
                }
                if why == DemotionReason::Silence && !slept && by.is_some_and(|by| NOW + pace().demote > by) {
                    self.broken.set(Broken::TOLD_TOO_LATE);
                }
                if let Some(acting) = &mut agent.acting {
                    acting.told.get_or_insert((NOW, why));
                    acting.renewed_since_told = false;
                }
            }
            ElectionEffect::Kill { why } => {
                if let Some(acting) = &mut agent.acting {
                    let urgent = why == DemotionReason::Lost;
                    let (told, reason) = acting.told.clone().unwrap_or((NOW, why));
                    if !acting.slept && !urgent && NOW.since(told) < pace().demote {
                        self.broken.set(Broken::TOLD_TOO_LATE);
                    }
                    let peaceful = matches!(reason, DemotionReason::StepDown | DemotionReason::Unhealthy);
                    let idle = NOW.since(told) > 2 * pace().renew && !acting.renewed_since_told;
                    if peaceful && !acting.slept && !acting.lost && idle && agent.guard_died.is_none() {
                        self.broken.set(Broken::LET_THE_LEASE_GO);
                    }
                    acting.gone_by.get_or_insert(NOW + pace().kill_margin);
                }
            }
            ElectionEffect::Store(StoreRequest::AwaitEnd { witness }) => {
                agent.awaited.insert(witness);
            }
            ElectionEffect::Store(StoreRequest::Certify { ask, session, term, gone_for, .. }) => {
                self.mail.push(send(What::Certify(ask, session, term, gone_for)));
            }
            ElectionEffect::MeasureRank { ask } => self.mail.push(send(What::Measure(ask))),
            ElectionEffect::Store(StoreRequest::PublishRank { ask, term, answer, stands }) => {
                self.mail.push(send(What::Publish(ask, term, answer, stands)))
            }
            ElectionEffect::Store(StoreRequest::ReadRanks { ask }) => self.mail.push(send(What::ReadRanks(ask))),
            ElectionEffect::Leader(_) | ElectionEffect::Say(_) => {}
            // Written for people: no candidate decides by it, and nobody waits until it is there.
            ElectionEffect::Store(StoreRequest::AcceptLoss { .. }) => {}
        }
    }

    /// Answers nobody waits for, and questions whose answers nobody would read and which change nothing, are dropped:
    /// to be delivered or to be lost is the same for them.
    fn forget_unread(&mut self) {
        let agents = &self.agents;
        self.mail.retain(|mail| {
            let agent = &agents[mail.agent];
            let alive = agent.life == mail.life;
            let awaits = |ask: RequestId| alive && agent.awaits(ask);
            match &mail.what {
                What::Open(ask)
                | What::Look(ask)
                | What::Renew(ask, _)
                | What::Prove(ask, _)
                | What::Rest(Some(ask), ..)
                | What::Measure(ask)
                | What::ReadRanks(ask) => awaits(*ask),
                // The core closes a session nobody waits for.
                What::Answer(ElectionEvent::Opened { .. }) => alive,
                What::Answer(event) => asked(event).is_none_or(awaits),
                What::Rest(None, ..) | What::Confirmed(..) => alive,
                What::Close(_) | What::Acquire(..) | What::Write(..) | What::PutAnew(..) | What::EndLease(..) => true,
                What::Release(..) | What::Publish(..) | What::Certify(..) => true,
            }
        });
    }

    pub fn times(&mut self) -> Vec<&mut Time> {
        let mut times = self.store.times();
        times.extend(self.mail.iter_mut().filter_map(|mail| match &mut mail.what {
            What::Write(_, _, Some(granted)) | What::PutAnew(.., (_, granted)) => Some(granted),
            _ => None,
        }));
        times.extend(self.remains.iter_mut().map(|remains| &mut remains.gone_by));
        for agent in &mut self.agents {
            let Agent { core, acting, page, guard_died, .. } = agent;
            times.extend(normal::times(core));
            times.extend(page.as_mut());
            times.extend(guard_died.as_mut());
            if let Some(Acting { told, gone_by, .. }) = acting {
                times.extend(told.as_mut().map(|(at, _)| at));
                times.extend(gone_by.as_mut());
            }
        }
        times
    }

    /// Nothing goes wrong any more, and all that is under way arrives: whether somebody leads within this many units,
    /// and everybody knows.
    pub fn heals(&self, play: &Play, within: u32) -> bool {
        let mut world = self.clone();
        world.left = Faults::default();
        for _ in 0..within * 4 {
            for index in 0..world.agents.len() {
                let agent = &world.agents[index];
                if agent.asleep {
                    world.take(play, Step::Wake(index));
                } else if agent.paused {
                    world.take(play, Step::Resume(index));
                }
                if world.agents[index].guard_died.is_some() {
                    world.take(play, Step::GuardStands(index));
                }
                if !world.agents[index].core.eligibility.healthy {
                    world.take(play, Step::Well(index));
                }
            }
            for gone in std::mem::take(&mut world.remains) {
                world.let_go(play, gone);
            }
            let mut delivered = 0;
            while !world.mail.is_empty() {
                world.take(play, Step::Deliver(0));
                delivered += 1;
                assert!(delivered < 1_000, "mail goes round in circles: {:?}", world.mail);
            }
            let view = world.store.view();
            for index in 0..world.agents.len() {
                if world.agents[index].told.as_ref() != Some(&view) {
                    world.take(play, Step::Watch(index));
                }
                if world.agents[index].acting.as_ref().is_some_and(|acting| acting.told.is_some()) {
                    world.take(play, Step::Out(index));
                }
            }
            // What nobody renews ends; twice Consul's TTL at the latest.
            for session in world.store.overdue(NOW, Duration::from_secs(10)) {
                world.store.end(NOW, session, play.promise);
            }
            let view = world.store.view();
            let leads = |agent: &Agent| agent.acting.as_ref().is_some_and(|acting| acting.told.is_none());
            let knows = |agent: &Agent| agent.core.leader() == view.holder();
            if world.agents.iter().any(leads) && world.agents.iter().all(knows) {
                return true;
            }
            world.take(play, Step::Wait);
        }
        false
    }
}

impl Agent {
    fn new(play: &Play, id: Id, life: u8) -> Agent {
        let settings = Settings {
            id: id.clone(),
            prefer: Preference::Normal,
            rank: (play.ranked || play.quorum.is_some()).then_some(Ranking {
                within: UNIT,
                quorum: play.quorum,
                every: UNIT,
                longest_hold_off: play.promise.max(LONGEST_LOCK_DELAY),
            }),
            pace: pace(),
            witness: play.witnessed != Witnessed::No && play.kind != Kind::Local,
            lease: (play.kind != Kind::Local).then_some(play.promise),
        };
        Agent {
            core: Election::with_rules(settings, 1, play.rules),
            id,
            life,
            acting: None,
            page: None,
            guard_died: None,
            guard_unannounced: false,
            paused: false,
            asleep: false,
            woken: false,
            pending: false,
            told: None,
            shown: Term::default(),
            unsure: false,
            unproven: 0,
            served: Vec::new(),
            abandoned: Vec::new(),
            proof: 0,
            lease: 0,
            leases: 0,
            log: Vec::new(),
            awaited: BTreeSet::new(),
        }
    }

    /// Remembers what the promises are judged by.
    fn hears(&mut self, event: &ElectionEvent) {
        match event {
            ElectionEvent::Saw(Ok(view)) => self.shown = self.shown.max(view.highest_but(self.core.session())),
            ElectionEvent::Looked { result: Ok(view), ask }
                if self.core.look.is_some_and(|asked| asked.ask == *ask) =>
            {
                self.shown = self.shown.max(view.highest_but(self.core.session()));
                self.unsure = false;
            }
            ElectionEvent::Acquired { ask, result: Acquisition::Won(_) } if self.attempts(*ask) => {
                self.unsure = false;
            }
            _ => {}
        }
    }

    fn valid_until(&self) -> Option<Time> {
        match &self.core.state {
            CandidateState::Holding(tenure) => tenure.valid_until,
            CandidateState::Follower { .. } | CandidateState::Campaigning(_) => None,
        }
    }

    /// Whether this acquire may still be won, as far as the core knows.
    fn attempts(&self, ask: RequestId) -> bool {
        matches!(&self.core.state, CandidateState::Campaigning(campaign)
            if campaign.attempt().is_some_and(|attempt| attempt.asked.ask == ask))
    }

    /// Whether the core waits no more for this acquire, and didn't win.
    fn has_left(&self, ask: RequestId) -> bool {
        match &self.core.state {
            CandidateState::Campaigning(Campaign::Acquiring(attempt)) => attempt.asked.ask != ask,
            CandidateState::Follower { .. } | CandidateState::Campaigning(_) => true,
            CandidateState::Holding(_) => false,
        }
    }

    /// Whether the core still waits for this answer.
    fn awaits(&self, ask: RequestId) -> bool {
        let own = match &self.core.state {
            CandidateState::Follower { .. } => None,
            CandidateState::Campaigning(Campaign::Opening { asked }) => Some(*asked),
            CandidateState::Campaigning(Campaign::Acquiring(attempt) | Campaign::ReadingBack(attempt)) => {
                Some(attempt.asked)
            }
            CandidateState::Holding(tenure) => match &tenure.stage {
                TenureStage::Releasing { asked, .. } => *asked,
                _ => tenure.renewal,
            },
        };
        let ranks = match &self.core.state {
            CandidateState::Holding(Tenure { stage: TenureStage::Ranking { asked, .. }, .. }) => *asked,
            _ => None,
        };
        let certificate = self.core.certificate.as_ref().and_then(|certificate| certificate.asked);
        let publishing = self.core.ranks.publishing.as_ref().map(|(asked, _)| *asked);
        let measures = self.core.ranks.measuring.is_some_and(|(measuring, _)| measuring == ask);
        let asked = own.into_iter().chain(ranks).chain(self.core.look).chain(certificate).chain(publishing);
        measures || asked.into_iter().any(|asked| asked.ask == ask)
    }
}
