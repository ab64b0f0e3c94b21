//! What goes wrong when: all of it from one number, which is printed, so that a run can be had again.

use std::collections::BTreeMap;
use std::time::Duration;

/// Where the candidates meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Local,
    Consul,
    /// The name of its program, which tells the version.
    Etcd(&'static str),
}

/// A misfortune.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The leader's host hears and is heard by nobody.
    IsolateLeader,
    /// The same of another candidate's host.
    IsolateReplica,
    /// The same of a server's, whichever.
    IsolateServer,
    /// The same of that server's which leads the engine.
    IsolateEngineLeader,
    /// The leader is with a server and a replica; the majority is elsewhere.
    Split,
    /// What the leader's host says is lost; what it is told arrives.
    LeaderUnheard,
    /// What the leader's host is told is lost; what it says arrives.
    LeaderDeaf,
    /// A third of what the leader's host and the engine's leader say and are told is lost.
    Loss,
    /// The engine's leader is killed, and started again.
    KillEngineLeader,
    /// The engine's leader hangs, and goes on.
    StopEngineLeader,
    /// The Consul agent beside the leader is killed, and started again.
    KillClient,
    /// PID 1 of the leader's container is killed, and so all of it is.
    KillLeader,
    /// The same of a replica.
    KillReplica,
    /// The leader's main process is killed.
    KillMain,
    /// The leader's guard is killed.
    KillGuard,
    /// PID 1 of the leader's container is stopped past its lease, and nothing else in it.
    StopAgent,
    /// The leader's main process is stopped, and answers nothing.
    StopMain,
    /// The lock is deleted by hand.
    DeleteLock,
    /// Something else is written over it.
    OverwriteLock,
    /// The leader's session is destroyed (Consul).
    DestroySession,
    /// The lock is freed by hand while the leader's host is cut off, and its session is destroyed after that (Consul).
    FreeLock,
    /// Acquires that lost arrive once more, late, as the session of the one that won is destroyed and its host cut off
    /// (Consul).
    LateAcquire,
    /// All servers are killed at once and started again, as the leader's host is cut off: they come back with a log, or a
    /// snapshot, to be read first.
    RestartServers,
    /// Two of the three servers are killed, and started again.
    KillTwoServers,
    /// The leader's guard is stopped.
    StopGuard,
    /// The leader's guard and its agent are stopped, for less than its lease; then the agent goes on, cut off, and the
    /// guard doesn't.
    StopBoth,
    /// The leader's guard is stopped, and when somebody should have resumed it, its agent is, past its lease.
    StopOneByOne,
    /// The storage hangs on which the leader's files are: its token, its environment.
    HangStorage,
    /// `pilotfish step-down`.
    StepDown,
    /// `pilotfish step-down --to` another.
    Handover,
    /// The leader's container is stopped by SIGTERM.
    Stop,
}

use Kind::*;

/// What is done to the network, by cuts of which one takes the place of another.
const CUTS: [Kind; 8] =
    [IsolateLeader, IsolateReplica, IsolateServer, IsolateEngineLeader, Split, LeaderUnheard, LeaderDeaf, Loss];

impl Kind {
    /// All that can happen with this backend.
    pub fn of(backend: Backend) -> Vec<Kind> {
        let anywhere = [KillLeader, KillReplica, KillMain, StopAgent, StopMain, HangStorage, StepDown, Handover, Stop];
        let served = [
            KillEngineLeader,
            StopEngineLeader,
            RestartServers,
            KillTwoServers,
            KillGuard,
            StopGuard,
            StopBoth,
            StopOneByOne,
            DeleteLock,
            OverwriteLock,
        ];
        let consul = [KillClient, DestroySession, FreeLock, LateAcquire];
        match backend {
            Backend::Local => anywhere.to_vec(),
            Backend::Etcd(_) => [&anywhere[..], &served, &CUTS].concat(),
            Backend::Consul => [&anywhere[..], &served, &CUTS, &consul].concat(),
        }
    }

    /// Whether the network is cut for it.
    pub fn cuts(self) -> bool {
        [LateAcquire, FreeLock, RestartServers, StopBoth].contains(&self) || CUTS.contains(&self)
    }

    /// Whether a leader has to lose its lock, or may for a while find nobody to prove it to. Otherwise it has no reason to
    /// step down.
    pub fn may_cost_the_lock(self) -> bool {
        !matches!(self, IsolateReplica | KillReplica | KillGuard | StopGuard | HangStorage)
    }

    /// What it does to an agent or its guard leaves nothing that would protect from another of these.
    fn disarms(self) -> bool {
        [KillGuard, StopGuard, StopBoth, StopOneByOne, StopAgent].contains(&self)
    }
}

/// What happens next.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// One or two misfortunes at a time.
    pub kinds: Vec<Kind>,
    /// How long they last that don't end by themselves.
    pub lasts: Duration,
    /// Whether things have calmed down before.
    pub calm: bool,
}

/// Deals misfortunes from a shuffled deck that holds each kind once, and then from the next.
pub struct Schedule {
    random: Random,
    kinds: Vec<Kind>,
    deck: Vec<Kind>,
}

impl Schedule {
    pub fn new(seed: u64, kinds: Vec<Kind>) -> Schedule {
        Schedule { random: Random(seed), kinds, deck: Vec::new() }
    }

    /// A lease of this length can be outlasted, and needn't be.
    pub fn next(&mut self, lease: Duration) -> Step {
        let mut kinds = vec![self.deal()];
        // Two at once now and then, but not two cuts; and without a guard nothing protects from a stopped agent.
        if self.random.below(4) == 0
            && let Some(other) = self.deck.last()
            && !(other.cuts() && kinds[0].cuts())
            && !(kinds[0].disarms() && other.disarms())
        {
            kinds.push(self.deal());
        }
        // A stopped agent is a fault only past its lease, and what its engine needs to notice.
        let least = if kinds.contains(&StopAgent) || kinds.contains(&StopOneByOne) {
            lease * 8 / 5
        } else {
            Duration::from_secs(1)
        };
        let span = (2 * lease - least).as_millis() as u64;
        let lasts = least + Duration::from_millis(self.random.below(span));
        Step { kinds, lasts, calm: self.random.below(3) != 0 }
    }

    fn deal(&mut self) -> Kind {
        if self.deck.is_empty() {
            self.deck = self.kinds.clone();
            for upper in (1..self.deck.len()).rev() {
                self.deck.swap(upper, self.random.below(upper as u64 + 1) as usize);
            }
        }
        self.deck.pop().expect("just filled")
    }

    /// Puts one back that found nobody to strike: it comes again before any kind comes the next time.
    pub fn again(&mut self, kind: Kind) {
        self.deck.insert(0, kind);
    }

    /// One of so many.
    pub fn pick(&mut self, many: usize) -> usize {
        self.random.below(many as u64) as usize
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// How often each kind was.
pub fn counts(kinds: impl IntoIterator<Item = Kind>) -> BTreeMap<Kind, usize> {
    let mut counts = BTreeMap::new();
    kinds.into_iter().for_each(|kind| *counts.entry(kind).or_default() += 1);
    counts
}

#[test]
fn the_same_seed_is_the_same_misfortune_and_each_kind_comes_as_often_as_any_other() {
    const LEASE: Duration = Duration::from_secs(7);
    for backend in [Backend::Local, Backend::Consul, Backend::Etcd("etcd35")] {
        let steps = |seed| {
            let mut schedule = Schedule::new(seed, Kind::of(backend));
            (0..100).map(|_| schedule.next(LEASE)).collect::<Vec<Step>>()
        };
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
        let counts = counts(steps(1).into_iter().flat_map(|step| step.kinds));
        assert_eq!(counts.len(), Kind::of(backend).len());
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(most - least <= 1, "{counts:?}");
        assert!(steps(1).iter().all(|step| step.lasts >= Duration::from_secs(1) && step.lasts < 2 * LEASE));
        assert!(steps(1).iter().any(|step| step.kinds.len() == 2));
        assert!(steps(1).iter().all(|step| step.kinds.iter().filter(|kind| kind.cuts()).count() < 2));
    }
}
