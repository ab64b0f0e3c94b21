//! What stands in the store: the lock with its holder, and `last`, which outlives every session and tells what the
//! one who led last was promised. What of it a winner must still wait for is [`hold_off`](super::hold_off)'s.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::config::election::Pace;

use super::rules::{Rule, Rules};

/// A candidate's name, unique in its election.
pub type Id = Arc<str>;

/// The fencing token: grows with each acquisition within one history of the store (the store's own revision).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize, schemars::JsonSchema))]
pub struct Term(pub u64);

/// As which a key was last written; zero is a key that isn't there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Revision(pub u64);

/// What holds a lock: a Consul session, an etcd lease, an open file. Unique for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct SessionId(pub u128);

/// What a store promises whoever holds its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Guarantee {
    /// The lock falls free only when nothing that could act is left. `linger` is how long something might be, should
    /// main have closed the lock it was given.
    WhileAlive {
        /// How long a successor waits.
        linger: Duration,
    },
    /// Whatever becomes of the session, nobody else gets the lock for this long after its last renewal.
    For(Duration),
}

impl Guarantee {
    /// For how long a holder may rely on it; `None`: for as long as it lives.
    pub fn usable(self, rules: Rules) -> Option<Duration> {
        match self {
            Guarantee::WhileAlive { .. } => None,
            // The holder's clock may be slow and the store's fast.
            Guarantee::For(promised) if rules.hold(Rule::AllowForDrift) => Some(promised - promised / 100),
            Guarantee::For(promised) => Some(promised),
        }
    }

    /// How long after the lock fell free its holder may still act.
    pub fn grace_after_release(self) -> Duration {
        match self {
            Guarantee::WhileAlive { linger } => linger,
            Guarantee::For(promised) => promised,
        }
    }

    /// Whether it leaves room for everything that must fit into it.
    pub fn is_enough(self, pace: &Pace, rules: Rules) -> bool {
        self.usable(rules).is_none_or(|usable| usable >= pace.least())
    }
}

/// A file that all of one container holds locked, so that its kernel knows when nothing of the container is left. Neither
/// another boot's nor another file is it, whatever its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
pub struct Witness {
    /// The boot of the kernel whose lock it is.
    pub boot: Id,
    /// The file's name, which is random.
    pub file: Id,
    /// The file system it is on.
    pub device: u64,
    /// The file there.
    pub inode: u64,
}

/// Whoever holds a lock whose value is no record of an agent's, or led last by such a one.
pub const UNKNOWN: &str = "(unknown)";

/// Who holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Holder {
    /// The candidate.
    pub id: Id,
    /// By which session.
    pub session: SessionId,
    /// For which term.
    pub term: Term,
    /// Where it can be reached, `host:port`.
    pub address: Option<Id>,
    /// How long after it was won one who led before may still act, as the winner had it then; `None`: it doesn't say.
    pub owes: Option<Duration>,
    /// By what its end can be known on its own host.
    pub witness: Option<Arc<Witness>>,
}

/// The lock as read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Lock {
    /// Free.
    Free {
        /// As which to acquire it.
        version: Revision,
        /// Its key is there and names this session: if it wasn't released, the store took it when the session ended,
        /// and as a rule holds everyone back for as long as it promised.
        taken_from: Option<SessionId>,
    },
    /// Held.
    Held(Holder),
}

/// Who led last.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Last {
    /// The candidate.
    pub id: Id,
    /// By which session.
    pub session: SessionId,
    /// For which term.
    pub term: Term,
    /// What it was promised.
    pub guarantee: Guarantee,
    /// It stepped down and said so.
    pub released: bool,
    /// Whom it named to lead next.
    pub to: Option<Id>,
    /// Its lease is no more: it ended when it was no longer good for anything.
    pub ended: bool,
    /// How long after that one who led before it may still act: it won, but hadn't waited for that yet.
    pub hold_off_left: Duration,
}

/// How far a candidate is. One that must never lead is behind all; a whole number is behind any text, and text is compared
/// byte by byte, so that all candidates of an election must print the same kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Rank {
    /// Its data must never lead: there are none, where others have some.
    Never,
    /// Compared as a number.
    Number(i128),
    /// Compared byte by byte.
    Text(Id),
}

/// The longest rank.
const LONGEST_RANK: usize = 128;

impl Rank {
    /// As a command prints it, or a record has it; `None` when that isn't a rank: one line of visible ASCII.
    pub fn read(text: &str) -> Option<Rank> {
        let text = text.trim_ascii();
        let visible = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        match text.parse() {
            _ if text.is_empty() || text.len() > LONGEST_RANK || !visible => None,
            _ if text == "never" => Some(Rank::Never),
            Ok(number) => Some(Rank::Number(number)),
            Err(_) => Some(Rank::Text(text.into())),
        }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rank::Never => f.write_str("never"),
            Rank::Number(number) => number.fmt(f),
            Rank::Text(text) => f.write_str(text),
        }
    }
}

/// What a candidate says when it is asked for its rank.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Answer {
    /// It is being measured.
    Measuring,
    /// It couldn't be.
    Failed,
    /// This.
    Known(Rank),
}

impl Answer {
    /// The rank, if it is one that counts: who has nothing knows nothing of what others had.
    pub fn counts(&self) -> Option<&Rank> {
        match self {
            Answer::Measuring | Answer::Failed | Answer::Known(Rank::Never) => None,
            Answer::Known(rank) => Some(rank),
        }
    }
}

/// What a candidate published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct PeerRank {
    /// The candidate.
    pub id: Id,
    /// Who held the lock when it was measured.
    pub term: Term,
    /// How far it is.
    pub answer: Answer,
    /// Whether it would take the lock.
    pub stands: bool,
}

/// Lock and last, read together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct View {
    /// The store's revision it shows, at least; counted alike however it was read, so that of two views the older is
    /// known.
    pub at: u64,
    /// The lock.
    pub lock: Lock,
    /// Who led last, when somebody did.
    pub last: Option<Last>,
    /// As which `last` was written.
    pub last_revision: Revision,
}

impl View {
    /// Whether this session holds the lock for this term.
    pub fn shows(&self, session: SessionId, term: Term) -> bool {
        matches!(&self.lock, Lock::Held(holder) if holder.session == session && holder.term == term)
    }

    /// Who holds the lock.
    pub fn holder(&self) -> Option<&Holder> {
        match &self.lock {
            Lock::Held(holder) => Some(holder),
            Lock::Free { .. } => None,
        }
    }

    /// Whom the one who led last named to lead next.
    pub fn handed_to(&self) -> Option<&Id> {
        self.last.as_ref().filter(|last| last.released).and_then(|last| last.to.as_ref())
    }

    /// Whether the lock may have been read before `last` was written, so that it says nothing of who wrote that.
    pub fn is_torn(&self) -> bool {
        matches!(self.lock, Lock::Free { .. }) && self.last_revision.0 > self.at
    }

    /// The highest term it tells of, but for those of one session.
    pub fn highest_but(&self, own: Option<SessionId>) -> Term {
        let held = self.holder().map(|holder| (holder.session, holder.term));
        let last = self.last.as_ref().map(|last| (last.session, last.term));
        let others = held.into_iter().chain(last).filter(|(session, _)| Some(*session) != own);
        others.map(|(_, term)| term).max().unwrap_or_default()
    }
}
