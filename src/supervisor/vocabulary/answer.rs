//! Who asks at the control endpoint, and what they are answered.

use serde::Serialize;

use super::Value;

/// Who waits for an answer at the control endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct ReplyId(pub u64);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done, or so; a word on what.
    Done(String),
    /// What was asked for.
    Found(Value),
    /// It isn't done, and why.
    Refused(String),
    /// What it was to depend on isn't so: nothing is changed.
    Unmet(String),
    /// It may or may not be done: who was to do it couldn't be asked.
    Unavailable(String),
    /// It isn't so yet, and what is known of why: it may be asked for again.
    NotYet(String),
}

impl From<Result<String, String>> for Answer {
    fn from(result: Result<String, String>) -> Answer {
        result.map_or_else(Answer::Refused, Answer::Done)
    }
}
