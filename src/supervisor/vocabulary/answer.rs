//! What somebody who asks at the control endpoint is answered.

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done, or so; a word on what.
    Done(String),
    /// It isn't done, and why.
    Refused(String),
    /// It isn't so yet, and what is known of why: it may be asked for again.
    NotYet(String),
}

impl From<Result<String, String>> for Answer {
    fn from(result: Result<String, String>) -> Answer {
        result.map_or_else(Answer::Refused, Answer::Done)
    }
}
