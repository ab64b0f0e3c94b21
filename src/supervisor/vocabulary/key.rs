//! Keys of the catalog, as people and hooks read and write them.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::supervisor::machines::election::record::{SessionId, Term};

/// What is to be done with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct KeyRequest {
    /// Which.
    pub key: String,
    /// What.
    pub operation: KeyOperation,
}

/// What is to be done with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum KeyOperation {
    /// Read it.
    Get,
    /// Write it.
    Change(KeyChange),
}

/// How it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum KeyChange {
    /// Set it.
    Put(Value),
    /// Set it, unless it is there.
    Create(Value),
    /// Remove it, if it is there.
    Delete,
}

/// A key's value, which neither log nor record shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(pub Arc<[u8]>);

impl Value {
    /// A longer one isn't written: with what a transaction adds to it, it fits into Consul's and etcd's limits.
    pub const MOST_BYTES: usize = 256 * 1024;
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Value {
    /// Its length.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.len().serialize(serializer)
    }
}

#[cfg(test)]
impl<'de> serde::Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        usize::deserialize(deserializer).map(|length| Value(vec![0; length.min(Value::MOST_BYTES)].into()))
    }
}

/// A term by which something may be written: only while it holds the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Of which election.
    pub election: String,
    /// By which session the lock is held.
    pub session: SessionId,
    /// For which term.
    pub term: Term,
}

/// The key that says which term acts: it stands beside the lock and isn't lost with it.
pub fn acting_key(election: &str) -> String {
    format!("{election}/acting")
}

/// Whether an election writes this key itself. On Consul, which has one space of keys for all, its lock stands among them.
pub fn is_elections_own(key: &str, election: &str, one_space: bool) -> bool {
    let Some(name) = key.strip_prefix(election).and_then(|rest| rest.strip_prefix('/')) else { return false };
    name == "acting" || (one_space && (matches!(name, "leader" | "last") || name.starts_with("ranks/")))
}

/// How far a leader is, as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaderMark {
    /// It prepares, and nobody has begun to act yet: who leads next is the first as well.
    Prepares,
    /// It is about to act as the first of all.
    Begins,
    /// Its promotion has succeeded.
    Acts,
}

impl LeaderMark {
    /// What stands there for this candidate and term.
    pub fn value(self, id: &str, term: Term) -> String {
        match self {
            LeaderMark::Prepares => format!("{} {id} {PREPARES}", term.0),
            LeaderMark::Begins => format!("{} {id} begins", term.0),
            LeaderMark::Acts => acting_value(id, term),
        }
    }

    /// What is to stand there, over what does; `None`: that stays. It says as much already, or, to who only prepares, that
    /// somebody has led. A request may arrive late, or twice: a term never says less of itself than it has said.
    pub fn over(self, id: &str, term: Term, stands: Option<&[u8]>) -> Option<String> {
        let says = |mark: &LeaderMark| stands == Some(mark.value(id, term).as_bytes());
        let stays = match self {
            LeaderMark::Prepares => has_anybody_led(stands),
            LeaderMark::Begins => [LeaderMark::Begins, LeaderMark::Acts].iter().any(says),
            LeaderMark::Acts => says(&LeaderMark::Acts),
        };
        (!stays).then(|| self.value(id, term))
    }
}

/// What a candidate can know of who led before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum ElectionPast {
    /// Somebody has led, or may have.
    Led,
    /// Nobody has.
    Unled,
    /// The catalog doesn't let this candidate read that, or write it: nobody with its rights is ever called the first.
    Denied,
}

const PREPARES: &str = "prepares";

/// What stands there once this candidate's promotion for this term has succeeded.
pub fn acting_value(id: &str, term: Term) -> String {
    format!("{} {id}", term.0)
}

/// Whether what stands there says that somebody has acted, or may have. No candidate's id has a space.
pub fn has_anybody_led(value: Option<&[u8]>) -> bool {
    value.is_some_and(|value| value.split(|byte| *byte == b' ').nth(2) != Some(PREPARES.as_bytes()))
}
