//! How long a winner waits before it leads: until whoever led last can't act any more.

use std::time::Duration;

use crate::config::election::LONGEST_LOCK_DELAY;

use super::record::{Guarantee, Holder, Lock, Revision, View};
use super::rules::{Rule, Rules};

impl View {
    /// For how long after it fell free the store withholds a lock, as a rule: it took it when a session ended.
    pub fn withheld(&self) -> Duration {
        match (&self.lock, &self.last) {
            (Lock::Free { taken_from: Some(session), .. }, Some(last))
                if last.session == *session && !last.released =>
            {
                last.guarantee.grace_after_release().min(LONGEST_LOCK_DELAY)
            }
            _ => Duration::ZERO,
        }
    }

    /// The same, if we knew the lock to be this one's; zero else: who comes late doesn't know how much of it is left.
    pub fn withheld_after(&self, holder: Option<&Holder>) -> Duration {
        match (&self.last, holder) {
            (Some(last), Some(holder)) if last.session == holder.session => self.withheld(),
            _ => Duration::ZERO,
        }
    }

    /// How long after a free lock was seen its last holder may still act. `own` is what we are promised, for the case
    /// that nobody knows what the other was.
    pub fn hold_off(&self, own: Guarantee, rules: Rules) -> Duration {
        let Lock::Free { version, taken_from } = self.lock else { return Duration::ZERO };
        if !rules.hold(Rule::HoldOff) {
            return Duration::ZERO;
        }
        let hold_off_left = self.last.as_ref().map(|last| last.hold_off_left).unwrap_or_default();
        let promised = match &self.last {
            Some(last) if last.released => Duration::ZERO,
            Some(last) if taken_from == Some(last.session) && !rules.hold(Rule::WaitOneself) => Duration::ZERO,
            Some(last) if last.ended => Duration::ZERO,
            Some(last) => last.guarantee.grace_after_release(),
            None if version == Revision::default() => Duration::ZERO,
            None => own.grace_after_release(),
        };
        let due = promised.max(hold_off_left);
        // No store promises more than a minute unless it was asked to, as by us.
        if rules.hold(Rule::BoundDebts) { due.min(own.grace_after_release().max(LONGEST_LOCK_DELAY)) } else { due }
    }
}
