//! What every part of the core works with while it handles one event.

use super::{Effect, Time};

/// One event's handling: when it came, and what is ordered because of it.
#[derive(Debug)]
pub struct Step<'a> {
    /// When the event came.
    pub now: Time,
    /// What is to be done, in order.
    pub out: &'a mut Vec<Effect>,
}
