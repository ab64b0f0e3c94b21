//! What somebody who asks at the control endpoint is answered.

use super::Value;

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
