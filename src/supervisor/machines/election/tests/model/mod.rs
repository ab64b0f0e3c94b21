//! Three candidates, each the real core, a store that keeps its promise to the letter and no further, a network that
//! delays, loses and repeats, and misfortune: every order of events within a budget of faults is tried.
//!
//! What the world is allowed to do is in [`world`], what the store promises in [`store`], what must never happen in
//! [`promises`]; [`mutants`] breaks each rule of the core and names the promise that falls.

mod explore;
mod mutants;
mod normal;
mod promises;
mod store;
mod world;

use std::sync::Arc;
use std::time::Duration;

use crate::supervisor::machines::election::event::Pace;
use crate::supervisor::machines::election::record::Guarantee;
use crate::supervisor::machines::election::rules::Rules;

/// Which store's promise is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Sessions end at any moment; the lock is then withheld from everyone, but that is checked before a write and
    /// not in it.
    Consul,
    /// Leases end when they weren't renewed, or later; the key goes with the lease.
    Etcd,
    /// The kernel frees the lock when the last process is gone.
    Local,
}

/// How many of each misfortune a run may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Faults {
    /// All together.
    any: u8,
    crash: u8,
    pause: u8,
    /// A session ends though it was renewed (serfHealth, an operator).
    expire: u8,
    /// An operator deletes the lock.
    delete: u8,
    /// An operator frees the lock; its session lives on (Consul).
    free: u8,
    /// A server forgets that it holds everyone back (Consul).
    forget: u8,
    /// A server decides whether it does by what it has yet to replay: one acquire is let through (Consul).
    misjudge: u8,
    /// A server that has just been restarted says that there is no such session (Consul).
    deny: u8,
    /// Lock and `last` are two reads, and something happens between them (Consul).
    torn: u8,
    /// etcd elects another leader, while the one before goes on answering keep-alives.
    depose: u8,
    /// Somebody writes into `last` that ages are owed.
    scribble: u8,
    /// The host sleeps: nothing of it runs, and the clocks go on.
    sleep: u8,
    /// A guard is stopped, which nobody is told.
    stop_guard: u8,
    lose: u8,
    repeat: u8,
    /// What a watch read comes late, and after what was read later.
    late: u8,
    guard: u8,
    step_down: u8,
    unhealthy: u8,
    /// The store is wiped while nobody leads.
    wipe: u8,
}

/// Whether a main outlives its agent for a moment; whether a container's end can be known from the kernel, and what main
/// does with the file that tells it. On `local` that is the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Witnessed {
    /// It can't.
    #[default]
    No,
    /// Main keeps the file that it was given.
    Kept,
    /// Main closes it, and `last` says so.
    Closed,
}

/// What is played.
#[derive(Debug, Clone)]
struct Play {
    kind: Kind,
    agents: usize,
    faults: Faults,
    /// The run ends after so many leaderships.
    leaders: u8,
    /// Messages under way at once, at most.
    mail: usize,
    rules: Rules,
    /// What the store promises.
    promise: Duration,
    /// One state in so many is healed, to see whether a leader emerges.
    heal_one_in: u64,
    /// Sessions are opened and keys read in no time: fewer states, so deeper ones for the same money.
    brisk: bool,
    /// Candidates differ in how far they are, and yield to who is further.
    ranked: bool,
    /// How many ranks a winner must know. Then leaders write, and a rank is how far a log goes.
    quorum: Option<usize>,
    /// How often a leader writes.
    writes: u8,
    /// It begins with a leader, not with nothing.
    begun: bool,
    witnessed: Witnessed,
    /// What isn't the core's to keep, and is broken.
    careless: Careless,
    tally: Arc<explore::Tally>,
}

/// Rules that the core's adapters keep, each broken where it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Careless {
    /// An etcd whose renewals are written whatever was written since they were sent.
    late_renewals_count: bool,
    /// Leases granted after the one that was confirmed are ended, too.
    ends_later_leases: bool,
    /// A keep-alive counts whoever answered it.
    trusts_keep_alives: bool,
    /// Clocks that stand still while the host sleeps.
    clocks_sleep: bool,
    /// Nobody looks whether the guard runs before a renewal counts.
    guard_unwatched: bool,
    /// A certificate frees the lock for whatever term it is held by then.
    certificate_of_any_term: bool,
    /// Who is only silent counts as gone.
    silence_is_an_end: bool,
    /// Main isn't given the file, or on `local` the lock, and no guard keeps it: it is the agent's alone.
    file_not_inherited: bool,
    /// That main may have closed the file makes nobody wait.
    closing_unsaid: bool,
}

impl Play {
    fn new(kind: Kind, faults: Faults) -> Play {
        Play {
            kind,
            agents: 3,
            faults,
            leaders: 4,
            mail: 4,
            rules: Rules::default(),
            promise: PROMISE,
            heal_one_in: u64::MAX,
            brisk: false,
            ranked: false,
            quorum: None,
            writes: 0,
            begun: false,
            witnessed: Witnessed::No,
            careless: Careless::default(),
            tally: Arc::default(),
        }
    }

    fn guarantee(&self) -> Guarantee {
        match self.kind {
            Kind::Consul | Kind::Etcd => Guarantee::For(self.promise),
            Kind::Local => Guarantee::WhileAlive { linger: UNIT },
        }
    }
}

/// Each part of leading takes one.
const UNIT: Duration = Duration::from_secs(1);
/// The shortest promise that is enough: five units and the hundredth for drift.
const PROMISE: Duration = Duration::from_millis(5060);

fn pace() -> Pace {
    Pace { renew: UNIT, request: UNIT, patience: UNIT, demote: UNIT, kill_margin: UNIT }
}
