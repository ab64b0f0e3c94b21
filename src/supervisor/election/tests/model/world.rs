//! The world: three candidates with their mains and guards, an engine, and the mail between them. Each [`Step`] is one
//! thing that can happen next; a candidate that isn't paused acts on its deadlines before time goes on, for a process
//! that is late is what a pause is.

use std::time::Duration;

use crate::supervisor::election::candidate::Campaign;
use crate::supervisor::election::fact::{Acquisition, Ask, Fact, Id, Order, Renewal, Why};
use crate::supervisor::election::record::{Lock, SessionId, Term, Version, View};
use crate::supervisor::election::tenure::{Stage, Tenure};
use crate::supervisor::election::{Election, Preference, Settings, State};
use crate::supervisor::time::Time;

use super::engine::{Engine, Wanted};
use super::normal::{self, NOW, normalize};
use super::promises::Broken;
use super::{Faults, Kind, Play, UNIT, pace};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub engine: Engine,
    pub agents: Vec<Agent>,
    pub mail: Vec<Mail>,
    left: Faults,
    pub leaders: u8,
    /// The highest term that was acted for since the store was wiped.
    term: Term,
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
    guard_untold: bool,
    paused: bool,
    /// With its host: main and guard don't run either.
    pub asleep: bool,
    /// It was paused, and hasn't looked at its clock since.
    woken: bool,
    /// Main's end, not told yet to an agent that is paused.
    untold: bool,
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
}

/// Main acts as leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acting {
    pub term: Term,
    /// Told to stop, and why.
    told: Option<(Time, Why)>,
    /// SIGKILL was sent: gone by then.
    gone_by: Option<Time>,
    renewed_since_told: bool,
    /// The agent was paused meanwhile.
    slept: bool,
    /// The agent was shown that the lock is not its own.
    lost: bool,
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
    Open(Ask),
    Close(SessionId),
    Look(Ask),
    /// To be checked against what the engine withholds.
    Acquire(Ask, Wanted),
    /// Checked (Consul), or with a lease granted then (etcd); to be written.
    Write(Ask, Wanted, Option<Time>),
    Renew(Ask, SessionId),
    /// With a lease granted then; to be written if the key is still what it was (etcd).
    PutAnew(Ask, SessionId, Option<Version>, (u64, Time)),
    /// Its lease was kept alive; now the lock is read, and under which leading server (etcd).
    Prove(Ask, SessionId),
    /// The lock was put under this lease, and its holder is told (etcd, where that ends others).
    Confirmed(SessionId, u64),
    /// A lease that the lock is thought not to be under (etcd).
    EndLease(SessionId, u64),
    /// The lock was read; now `last` is (Consul).
    Rest(Option<Ask>, u64, Lock),
    Release(Ask, SessionId, Option<Term>, Option<Id>, Duration),
    Measure(Ask),
    Publish(Version, i64),
    ReadRanks(Ask, Version),
    Answer(Fact),
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
            What::Publish(vacancy, _) => (10, vacancy.0),
            What::ReadRanks(ask, _) => (11, ask.0),
            What::Answer(fact) => (7, asked(fact).map_or(0, |ask| ask.0)),
            What::Prove(ask, _) => (12, ask.0),
            What::Confirmed(session, lease) => (15, session.0 as u64 * 100 + lease),
            What::EndLease(session, lease) => (13, session.0 as u64 * 100 + lease),
            What::Rest(ask, at, _) => (14, ask.map_or(0, |ask| ask.0) * 1_000 + at),
        };
        rank(self).cmp(&rank(other))
    }
}

fn asked(fact: &Fact) -> Option<Ask> {
    match fact {
        Fact::Opened { ask, .. }
        | Fact::Looked { ask, .. }
        | Fact::Acquired { ask, .. }
        | Fact::Renewed { ask, .. }
        | Fact::Released { ask, .. }
        | Fact::Measured { ask, .. }
        | Fact::Ranks { ask, .. } => Some(*ask),
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
    Pause(usize),
    Resume(usize),
    GuardDies(usize),
    GuardStands(usize),
    /// Main is out of the role.
    Out(usize),
    Resign(usize),
    Ill(usize),
    Well(usize),
}

impl World {
    pub fn new(play: &Play) -> World {
        let agents = (0..play.agents).map(|n| Agent::new(play, format!("{n}").into(), 0)).collect();
        let mut world = World {
            engine: Engine::new(play.kind),
            agents,
            mail: Vec::new(),
            left: play.faults,
            leaders: 0,
            term: Term::default(),
            broken: Broken::default(),
        };
        for index in 0..play.agents {
            world.tell(play, index, Fact::Guard { stands: true });
        }
        normalize(&mut world, Duration::ZERO);
        world
    }

    /// The first candidate leads, and everybody knows.
    pub fn begun(play: &Play) -> World {
        let mut world = World::new(play);
        world.take(play, Step::Watch(0));
        while world.agents[0].acting.is_none() {
            world.take(play, Step::Deliver(0));
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
            if !matches!(mail.what, What::Answer(Fact::Saw(_))) && self.may(|faults| faults.lose) {
                out.push(Step::Lose(index));
            }
            if !to_agent && self.may(|faults| faults.repeat) {
                out.push(Step::Repeat(index));
            }
            match mail.what {
                What::Renew(..) if play.kind == Kind::Consul && self.may(|faults| faults.deny) => {
                    out.push(Step::Deny(index));
                }
                What::Look(_) if !self.engine.is_held() && self.may(|faults| faults.torn) => {
                    out.push(Step::Tear(index));
                }
                // Until it is deposed, it is the one that leads.
                What::Renew(..) if self.agents[mail.agent].proof < self.engine.raft_term() => {
                    out.push(Step::AnswerDeposed(index));
                }
                _ => {}
            }
        }
        let view = self.engine.view();
        for (index, agent) in self.agents.iter().enumerate() {
            if agent.asleep {
                out.push(Step::Wake(index));
            } else if agent.paused {
                out.push(Step::Resume(index));
            } else {
                if agent.told.as_ref() != Some(&view) {
                    out.push(Step::Watch(index));
                    if self.may(|faults| faults.late) {
                        out.push(Step::WatchLate(index));
                    }
                    if !self.engine.is_held() && self.may(|faults| faults.torn) {
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
                let stands = !matches!(agent.core.state, State::Follower { .. });
                if stands && agent.core.standing.well && self.may(|faults| faults.ill) {
                    out.push(Step::Ill(index));
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
                if !agent.core.standing.well {
                    out.push(Step::Well(index));
                }
            }
            if agent.acting.as_ref().is_some_and(|acting| acting.told.is_some() || acting.gone_by.is_some()) {
                out.push(Step::Out(index));
            }
            if (agent.acting.is_some() || agent.core.term().is_some()) && self.may(|faults| faults.crash) {
                out.push(Step::Crash(index));
            }
        }
        for session in self.engine.may_end(NOW, play.promise) {
            // An etcd lease that ran out ends for free; any other end of a session is a misfortune.
            if play.kind == Kind::Etcd || self.may(|faults| faults.expire) {
                out.push(Step::Expire(session));
            }
        }
        if self.engine.has_lock_key() && self.may(|faults| faults.delete) {
            out.push(Step::Delete);
        }
        if self.engine.is_held() && self.may(|faults| faults.free) {
            out.push(Step::Free);
        }
        if self.engine.withholds(NOW) && self.may(|faults| faults.forget) {
            out.push(Step::Forget);
        }
        if self.engine.is_held() && self.may(|faults| faults.depose) {
            out.push(Step::Depose);
        }
        if self.leaders > 0 && self.may(|faults| faults.scribble) {
            out.push(Step::Scribble);
        }
        let quiet = !self.engine.is_held() && self.agents.iter().all(|agent| agent.acting.is_none());
        if self.leaders > 0 && quiet && self.may(|faults| faults.wipe) {
            out.push(Step::Wipe);
        }
    }

    /// Whether this message is what a watch read some time ago.
    pub fn is_late(&self, index: usize) -> bool {
        matches!(self.mail[index].what, What::Answer(Fact::Saw(_)))
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
            Step::Repeat(index) => {
                self.spend(|faults| &mut faults.repeat);
                let mail = self.mail[index].clone();
                self.deliver(play, mail);
            }
            Step::Watch(index) => {
                let view = self.engine.view();
                self.agents[index].told = Some(view.clone());
                self.tell(play, index, Fact::Saw(Ok(view)));
            }
            Step::WatchLate(index) => {
                self.spend(|faults| &mut faults.late);
                let view = self.engine.view();
                let Agent { life, told, .. } = &mut self.agents[index];
                *told = Some(view.clone());
                self.mail.push(Mail { agent: index, life: *life, what: What::Answer(Fact::Saw(Ok(view))) });
            }
            Step::Expire(session) => {
                if play.kind != Kind::Etcd {
                    self.spend(|faults| &mut faults.expire);
                }
                self.engine.end(NOW, session, play.promise);
            }
            Step::Delete => {
                self.spend(|faults| &mut faults.delete);
                self.engine.delete();
            }
            Step::Free => {
                self.spend(|faults| &mut faults.free);
                self.engine.free();
            }
            Step::Forget => {
                self.spend(|faults| &mut faults.forget);
                self.engine.forget(NOW);
            }
            Step::Depose => {
                self.spend(|faults| &mut faults.depose);
                self.engine.depose();
            }
            Step::Scribble => {
                self.spend(|faults| &mut faults.scribble);
                self.engine.scribble();
            }
            Step::Deny(index) => {
                self.spend(|faults| &mut faults.deny);
                let Mail { agent, life, what } = self.mail.remove(index);
                let What::Renew(ask, _) = what else { unreachable!("only renewals are denied") };
                let fact = Fact::Renewed { ask, result: Renewal::Gone { void: false } };
                self.mail.push(Mail { agent, life, what: What::Answer(fact) });
            }
            Step::Tear(index) => {
                self.spend(|faults| &mut faults.torn);
                let Mail { agent, life, what } = self.mail.remove(index);
                let What::Look(ask) = what else { unreachable!("only reads are torn") };
                let View { at, lock, .. } = self.engine.view();
                self.mail.push(Mail { agent, life, what: What::Rest(Some(ask), at, lock) });
            }
            Step::WatchTorn(agent) => {
                self.spend(|faults| &mut faults.torn);
                let (life, View { at, lock, .. }) = (self.agents[agent].life, self.engine.view());
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
                } else if std::mem::take(&mut self.agents[index].untold) {
                    self.tell(play, index, Fact::OutOfRole);
                }
            }
            Step::GuardStops(index) => {
                self.spend(|faults| &mut faults.stop_guard);
                let agent = &mut self.agents[index];
                (agent.guard_died, agent.guard_untold) = (Some(NOW), true);
            }
            Step::Wipe => {
                self.spend(|faults| &mut faults.wipe);
                self.engine.wipe();
                self.mail.retain(|mail| matches!(mail.what, What::Answer(_)));
                self.term = Term::default();
            }
            Step::Crash(index) => {
                self.spend(|faults| &mut faults.crash);
                self.crash(play, index);
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
                if std::mem::take(&mut self.agents[index].untold) {
                    self.tell(play, index, Fact::OutOfRole);
                }
            }
            Step::GuardDies(index) => {
                self.spend(|faults| &mut faults.guard);
                self.agents[index].guard_died = Some(NOW);
                self.tell(play, index, Fact::Guard { stands: false });
            }
            Step::GuardStands(index) => {
                let agent = &mut self.agents[index];
                (agent.guard_died, agent.guard_untold) = (None, false);
                self.tell(play, index, Fact::Guard { stands: true });
            }
            Step::Out(index) => self.out(play, index),
            Step::Resign(index) => {
                self.spend(|faults| &mut faults.step_down);
                self.tell(play, index, Fact::StepDown { to: None });
            }
            Step::Ill(index) => {
                self.spend(|faults| &mut faults.ill);
                self.tell(play, index, Fact::Health { well: false });
            }
            Step::Well(index) => self.tell(play, index, Fact::Health { well: true }),
        }
        self.forget_unread();
        if play.brisk {
            self.hurry(play);
        }
        for agent in &mut self.agents {
            let spare = agent.core.spare.as_ref().map(|spare| spare.session);
            let own = agent.core.session();
            // The core knows of no other and can't use any other again.
            for sessions in [&mut agent.served, &mut agent.abandoned] {
                sessions.retain(|session| Some(*session) == spare || Some(*session) == own);
            }
        }
        self.mail.sort_unstable();
        normalize(self, passed);
    }

    /// Delivers what only reads or opens.
    fn hurry(&mut self, play: &Play) {
        let quick = |world: &World, mail: &Mail| match mail.what {
            What::Open(_) | What::Look(_) => true,
            What::Answer(Fact::Opened { .. } | Fact::Looked { .. }) => !world.agents[mail.agent].paused,
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
                self.tell(play, index, Fact::Tick);
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
        let due = cores.chain(kills).chain(self.engine.next(NOW, play.promise)).filter(|at| *at > NOW);
        due.min().unwrap_or(NOW + UNIT).min(NOW + UNIT)
    }

    fn deliver(&mut self, play: &Play, mail: Mail) {
        let Mail { agent, life, what } = mail;
        let id = self.agents[agent].id.clone();
        let answer = match what {
            What::Open(ask) => {
                let session = self.engine.open(NOW, id);
                Some(Fact::Opened { ask, result: Ok((session, play.guarantee())) })
            }
            What::Close(session) => {
                self.engine.end(NOW, session, play.promise);
                None
            }
            What::Look(ask) => Some(Fact::Looked { ask, result: Ok(self.engine.view()) }),
            What::Acquire(ask, _) if self.engine.withholds(NOW) => {
                Some(Fact::Acquired { ask, result: Acquisition::HeldBack })
            }
            What::Acquire(ask, wanted) => {
                let granted = (play.kind == Kind::Etcd).then_some(NOW);
                self.mail.push(Mail { agent, life, what: What::Write(ask, wanted, granted) });
                None
            }
            What::Write(ask, wanted, granted) => {
                let result = self.engine.acquire(NOW, &wanted, granted);
                if matches!(result, Acquisition::Won(_)) {
                    let of = &mut self.agents[agent];
                    (of.proof, of.lease, of.leases) = (self.engine.raft_term(), 0, 0);
                }
                Some(Fact::Acquired { ask, result })
            }
            // By the server that it was put under the lock by: kept alive there, and proved by another read.
            // But where all is put anew each time, as when something is owed.
            What::Renew(ask, session)
                if play.kind == Kind::Etcd
                    && !play.careless.late_renewals_count
                    && (self.agents[agent].proof == self.engine.raft_term() || play.careless.trusts_keep_alives) =>
            {
                // Otherwise it is the deposed server that answers.
                if self.agents[agent].proof == self.engine.raft_term() {
                    self.engine.keep_alive(NOW, session, self.agents[agent].lease);
                }
                self.mail.push(Mail { agent, life, what: What::Prove(ask, session) });
                None
            }
            What::Prove(ask, session) => {
                let as_before = self.agents[agent].proof == self.engine.raft_term();
                let result = match self.engine.prove(session, self.agents[agent].lease) {
                    Renewal::Alive(_) if !as_before && !play.careless.trusts_keep_alives => {
                        Renewal::Unknown("another server leads".to_owned())
                    }
                    proved => proved,
                };
                Some(Fact::Renewed { ask, result })
            }
            What::Renew(ask, session) if play.kind == Kind::Etcd => {
                let seen = self.engine.held_as(session).filter(|_| !play.careless.late_renewals_count);
                self.agents[agent].leases += 1;
                let lease = (self.agents[agent].leases, NOW);
                self.mail.push(Mail { agent, life, what: What::PutAnew(ask, session, seen, lease) });
                None
            }
            What::PutAnew(ask, session, seen, (lease, granted)) => {
                let result = self.engine.put_anew(NOW, session, seen, (lease, granted, play.promise));
                let of = &mut self.agents[agent];
                // The answer to a renewal given up long ago tells of another's lease.
                if matches!(result, Renewal::Alive(_)) && of.life == life && of.awaits(ask) {
                    (of.proof, of.lease) = (self.engine.raft_term(), lease);
                }
                if matches!(result, Renewal::Alive(_)) && of.life == life {
                    // To end those granted before changes nothing: the lock is under this one.
                    if play.careless.ends_later_leases {
                        self.mail.push(Mail { agent, life, what: What::Confirmed(session, lease) });
                    }
                }
                Some(Fact::Renewed { ask, result })
            }
            What::Confirmed(session, lease) => {
                let later = lease + 1..=self.agents[agent].leases;
                self.mail.extend(later.map(|of| Mail { agent, life, what: What::EndLease(session, of) }));
                None
            }
            What::EndLease(session, lease) => {
                self.engine.end_lease(NOW, session, lease, play.promise);
                None
            }
            What::Rest(ask, at, lock) => {
                let view = self.engine.view_with(at, lock);
                Some(match ask {
                    Some(ask) => Fact::Looked { ask, result: Ok(view) },
                    None => Fact::Saw(Ok(view)),
                })
            }
            What::Renew(ask, session) => Some(Fact::Renewed { ask, result: self.engine.renew(NOW, session) }),
            What::Release(ask, session, term, to, owed) => {
                self.engine.release(session, term, to, owed);
                Some(Fact::Released { ask, result: Ok(()) })
            }
            // The further down the list, the further ahead.
            What::Measure(ask) => Some(Fact::Measured { ask, result: Ok(agent as i64) }),
            What::Publish(vacancy, rank) => {
                self.engine.publish(id, vacancy, rank);
                None
            }
            What::ReadRanks(ask, vacancy) => Some(Fact::Ranks { ask, result: Ok(self.engine.ranks(vacancy)) }),
            What::Answer(fact) => {
                if self.agents[agent].life == life {
                    self.tell(play, agent, fact);
                }
                None
            }
        };
        self.mail.extend(answer.map(|fact| Mail { agent, life, what: What::Answer(fact) }));
    }

    /// The connection breaks: who asked learns that, and not whether it was done.
    fn lose(&mut self, play: &Play, mail: Mail) {
        let broken = || "cut".to_owned();
        let fact = match mail.what {
            What::Open(ask) | What::Answer(Fact::Opened { ask, .. }) => Fact::Opened { ask, result: Err(broken()) },
            What::Look(ask) | What::Rest(Some(ask), ..) | What::Answer(Fact::Looked { ask, .. }) => {
                Fact::Looked { ask, result: Err(broken()) }
            }
            What::Acquire(ask, _) | What::Write(ask, ..) | What::Answer(Fact::Acquired { ask, .. }) => {
                Fact::Acquired { ask, result: Acquisition::Unknown(broken()) }
            }
            What::Renew(ask, _)
            | What::PutAnew(ask, ..)
            | What::Prove(ask, _)
            | What::Answer(Fact::Renewed { ask, .. }) => Fact::Renewed { ask, result: Renewal::Unknown(broken()) },
            What::Release(ask, ..) | What::Answer(Fact::Released { ask, .. }) => {
                Fact::Released { ask, result: Err(broken()) }
            }
            What::Measure(ask) | What::Answer(Fact::Measured { ask, .. }) => {
                Fact::Measured { ask, result: Err(broken()) }
            }
            What::ReadRanks(ask, _) | What::Answer(Fact::Ranks { ask, .. }) => {
                Fact::Ranks { ask, result: Err(broken()) }
            }
            What::Close(_) | What::Publish(..) | What::Confirmed(..) | What::EndLease(..) => return,
            What::Rest(None, ..) | What::Answer(_) => return,
        };
        if self.agents[mail.agent].life == mail.life && !self.agents[mail.agent].paused {
            self.tell(play, mail.agent, fact);
        }
    }

    fn crash(&mut self, play: &Play, index: usize) {
        let Agent { id, life, .. } = self.agents[index].clone();
        // The kernel ends the namespace with its first process; on `local`, the lock with the namespace.
        self.agents[index] = Agent::new(play, id.clone(), life + 1);
        if play.kind == Kind::Local {
            for session in self.engine.of(&id) {
                self.engine.end(NOW, session, play.promise);
            }
        }
        self.tell(play, index, Fact::Guard { stands: true });
    }

    fn out(&mut self, play: &Play, index: usize) {
        let agent = &mut self.agents[index];
        agent.acting = None;
        if agent.paused {
            agent.untold = true;
        } else {
            self.tell(play, index, Fact::OutOfRole);
        }
    }

    /// A candidate learns a fact, and its orders are obeyed.
    fn tell(&mut self, play: &Play, index: usize, fact: Fact) {
        // Before a renewal counts it is asked whether the guard runs.
        let counts = matches!(&fact, Fact::Renewed { result: Renewal::Alive(_), .. });
        if counts && !play.careless.guard_unwatched && std::mem::take(&mut self.agents[index].guard_untold) {
            self.tell(play, index, Fact::Guard { stands: false });
        }
        self.agents[index].hears(&fact);
        self.agents[index].woken = false;
        let was_silence = matches!(&fact, Fact::Renewed { result: Renewal::Unknown(_), .. });
        let shows_loss = match (&fact, self.agents[index].core.state.clone()) {
            (Fact::Saw(Ok(view)), State::Holding(tenure)) => {
                view.at >= tenure.term.0 && !view.shows(tenure.session, tenure.term)
            }
            (Fact::Renewed { ask, result: Renewal::Gone { void: true } }, State::Holding(tenure)) => {
                tenure.renewal.is_some_and(|asked| asked.ask == *ask)
            }
            (Fact::Renewed { ask, result: Renewal::Alive(view) }, State::Holding(tenure)) => {
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
        let told_so = matches!(&fact, Fact::Acquired { result, .. } if !matches!(result, Acquisition::Unknown(_)));
        let orders = self.agents[index].core.handle(NOW, fact);
        if let State::Campaigning(Campaign::Acquiring(attempt)) = tried
            && !told_so
            && self.agents[index].has_left(attempt.asked.ask)
        {
            self.agents[index].unsure = true;
            self.agents[index].abandoned.push(attempt.session());
        }
        if let State::Holding(tenure) = &self.agents[index].core.state {
            let session = tenure.session;
            self.agents[index].served.push(session);
            self.agents[index].served.dedup();
        }
        if self.agents[index].valid_until() != valid_until {
            self.agents[index].unproven = 0;
        }
        for order in orders {
            if was_silence && matches!(&order, Order::Demote { why: Why::Lost, .. }) {
                self.broken.set(Broken::SILENCE_WAS_LOSS);
            }
            self.obey(play, index, order);
        }
        let leads = matches!(&self.agents[index].core.state,
            State::Holding(tenure) if matches!(tenure.stage, Stage::Leading { .. }));
        if shows_loss && leads {
            self.broken.set(Broken::LED_ON_AFTER_LOSS);
        }
    }

    fn obey(&mut self, play: &Play, index: usize, order: Order) {
        let agent = &mut self.agents[index];
        let id = agent.id.clone();
        let send = |what| Mail { agent: index, life: agent.life, what };
        match order {
            Order::OpenSession { ask } => self.mail.push(send(What::Open(ask))),
            Order::CloseSession { session } => self.mail.push(send(What::Close(session))),
            Order::EndFormerLife { session } if play.kind == Kind::Consul => self.mail.push(send(What::Close(session))),
            Order::EndFormerLife { .. } => {}
            Order::Look { ask } => {
                self.mail.push(send(What::Look(ask)));
            }
            Order::Acquire { ask, session, guarantee, seen, owed } => {
                let wanted = Wanted { id, session, guarantee, seen, owed };
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
            Order::Renew { ask, session, .. } => {
                self.mail.push(send(What::Renew(ask, session)));
                agent.unproven = agent.unproven.saturating_add(1).min(3);
                if let Some(acting) = &mut agent.acting {
                    acting.renewed_since_told = true;
                }
            }
            Order::Release { ask, session, term, to, owed } => {
                self.mail.push(send(What::Release(ask, session, term, to, owed)));
            }
            Order::Guard { deadline } => {
                let later = agent.page.is_some_and(|page| page <= NOW) && deadline.is_some();
                if later && agent.acting.is_some() {
                    self.broken.set(Broken::DEADLINE_TAKEN_BACK);
                }
                agent.page = deadline;
            }
            Order::Promote { term } => {
                self.leaders += 1;
                if agent.page.is_none() && play.kind != Kind::Local {
                    self.broken.set(Broken::UNGUARDED);
                }
                if term <= self.term || term <= agent.shown {
                    self.broken.set(Broken::TERM_DID_NOT_GROW);
                }
                if !agent.core.standing.well {
                    self.broken.set(Broken::LED_UNFIT);
                }
                let own = agent.core.session();
                let shown = |view: &View| view.at < term.0 || own.is_some_and(|session| view.shows(session, term));
                if !agent.core.view.as_ref().is_none_or(shown) {
                    self.broken.set(Broken::LED_ON_AFTER_LOSS);
                }
                self.term = self.term.max(term);
                agent.shown = agent.shown.max(term);
                let told = None;
                agent.acting =
                    Some(Acting { term, told, gone_by: None, renewed_since_told: false, slept: false, lost: false });
            }
            Order::Demote { why, by } => {
                let slept = agent.acting.as_ref().is_some_and(|acting| acting.slept);
                let own = agent.core.session();
                let held = own.is_some_and(|own| agent.core.term().is_some_and(|t| self.engine.is_held_by(own, t)));
                if why == Why::Lost && held {
                    self.broken.set(Broken::LOST_IN_ERROR);
                }
                if why == Why::Silence && !slept && agent.unproven < 2 {
                    self.broken.set(Broken::TOO_SHORT);
                }
                if why == Why::Silence && !slept && by.is_some_and(|by| NOW + pace().demote > by) {
                    self.broken.set(Broken::TOLD_TOO_LATE);
                }
                if let Some(acting) = &mut agent.acting {
                    acting.told.get_or_insert((NOW, why));
                    acting.renewed_since_told = false;
                }
            }
            Order::Kill { why } => {
                if let Some(acting) = &mut agent.acting {
                    let urgent = why == Why::Lost;
                    let (told, reason) = acting.told.clone().unwrap_or((NOW, why));
                    if !acting.slept && !urgent && NOW.since(told) < pace().demote {
                        self.broken.set(Broken::TOLD_TOO_LATE);
                    }
                    let peaceful = matches!(reason, Why::StepDown | Why::Ill);
                    let idle = NOW.since(told) > 2 * pace().renew && !acting.renewed_since_told;
                    if peaceful && !acting.slept && !acting.lost && idle && agent.guard_died.is_none() {
                        self.broken.set(Broken::LET_THE_LEASE_GO);
                    }
                    acting.gone_by.get_or_insert(NOW + pace().kill_margin);
                }
            }
            Order::MeasureRank { ask } => self.mail.push(send(What::Measure(ask))),
            Order::PublishRank { vacancy, rank } => self.mail.push(send(What::Publish(vacancy, rank))),
            Order::ReadRanks { ask, vacancy } => self.mail.push(send(What::ReadRanks(ask, vacancy))),
            Order::Leader(_) | Order::Say(_) => {}
        }
    }

    /// Answers nobody waits for, and questions whose answers nobody would read and which change nothing, are dropped:
    /// to be delivered or to be lost is the same for them.
    fn forget_unread(&mut self) {
        let agents = &self.agents;
        self.mail.retain(|mail| {
            let agent = &agents[mail.agent];
            let alive = agent.life == mail.life;
            let awaits = |ask: Ask| alive && agent.awaits(ask);
            match &mail.what {
                What::Open(ask)
                | What::Look(ask)
                | What::Renew(ask, _)
                | What::Prove(ask, _)
                | What::Rest(Some(ask), ..)
                | What::Measure(ask)
                | What::ReadRanks(ask, _) => awaits(*ask),
                // The core closes a session nobody waits for.
                What::Answer(Fact::Opened { .. }) => alive,
                What::Answer(fact) => asked(fact).is_none_or(awaits),
                What::Rest(None, ..) | What::Confirmed(..) => alive,
                What::Close(_) | What::Acquire(..) | What::Write(..) | What::PutAnew(..) | What::EndLease(..) => true,
                What::Release(..) | What::Publish(..) => true,
            }
        });
    }

    pub fn times(&mut self) -> Vec<&mut Time> {
        let mut times = self.engine.times();
        times.extend(self.mail.iter_mut().filter_map(|mail| match &mut mail.what {
            What::Write(_, _, Some(granted)) | What::PutAnew(.., (_, granted)) => Some(granted),
            _ => None,
        }));
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
                if !world.agents[index].core.standing.well {
                    world.take(play, Step::Well(index));
                }
            }
            let mut delivered = 0;
            while !world.mail.is_empty() {
                world.take(play, Step::Deliver(0));
                delivered += 1;
                assert!(delivered < 1_000, "mail goes round in circles: {:?}", world.mail);
            }
            let view = world.engine.view();
            for index in 0..world.agents.len() {
                if world.agents[index].told.as_ref() != Some(&view) {
                    world.take(play, Step::Watch(index));
                }
                if world.agents[index].acting.as_ref().is_some_and(|acting| acting.told.is_some()) {
                    world.take(play, Step::Out(index));
                }
            }
            // What nobody renews ends; twice Consul's TTL at the latest.
            for session in world.engine.overdue(NOW, Duration::from_secs(10)) {
                world.engine.end(NOW, session, play.promise);
            }
            let view = world.engine.view();
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
        let settings =
            Settings { id: id.clone(), prefer: Preference::Normal, rank: play.ranked.then_some(UNIT), pace: pace() };
        Agent {
            core: Election::with_rules(settings, 1, play.rules),
            id,
            life,
            acting: None,
            page: None,
            guard_died: None,
            guard_untold: false,
            paused: false,
            asleep: false,
            woken: false,
            untold: false,
            told: None,
            shown: Term::default(),
            unsure: false,
            unproven: 0,
            served: Vec::new(),
            abandoned: Vec::new(),
            proof: 0,
            lease: 0,
            leases: 0,
        }
    }

    /// Remembers what the promises are judged by.
    fn hears(&mut self, fact: &Fact) {
        match fact {
            Fact::Saw(Ok(view)) => self.shown = self.shown.max(view.highest_but(self.core.session())),
            Fact::Looked { result: Ok(view), ask } if self.core.look.is_some_and(|asked| asked.ask == *ask) => {
                self.shown = self.shown.max(view.highest_but(self.core.session()));
                self.unsure = false;
            }
            Fact::Acquired { ask, result: Acquisition::Won(_) } if self.attempts(*ask) => {
                self.unsure = false;
            }
            _ => {}
        }
    }

    fn valid_until(&self) -> Option<Time> {
        match &self.core.state {
            State::Holding(tenure) => tenure.valid_until,
            State::Follower { .. } | State::Campaigning(_) => None,
        }
    }

    /// Whether this acquire may still be won, as far as the core knows.
    fn attempts(&self, ask: Ask) -> bool {
        matches!(&self.core.state, State::Campaigning(campaign)
            if campaign.attempt().is_some_and(|attempt| attempt.asked.ask == ask))
    }

    /// Whether the core waits no more for this acquire, and didn't win.
    fn has_left(&self, ask: Ask) -> bool {
        match &self.core.state {
            State::Campaigning(Campaign::Acquiring(attempt)) => attempt.asked.ask != ask,
            State::Follower { .. } | State::Campaigning(_) => true,
            State::Holding(_) => false,
        }
    }

    /// Whether the core still waits for this answer.
    fn awaits(&self, ask: Ask) -> bool {
        let own = match &self.core.state {
            State::Follower { .. } => None,
            State::Campaigning(Campaign::Measuring { asked, .. } | Campaign::Opening { asked }) => Some(*asked),
            State::Campaigning(Campaign::Acquiring(attempt) | Campaign::ReadingBack(attempt)) => Some(attempt.asked),
            State::Holding(tenure) => match &tenure.stage {
                Stage::Releasing { asked, .. } => *asked,
                _ => tenure.renewal,
            },
        };
        let ranks = match &self.core.state {
            State::Holding(Tenure { stage: Stage::Ranking { asked, .. }, .. }) => *asked,
            _ => None,
        };
        own.into_iter().chain(ranks).chain(self.core.look).any(|asked| asked.ask == ask)
    }
}
