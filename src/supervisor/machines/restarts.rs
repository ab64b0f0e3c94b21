//! Whether main may be started once more, and after which pause: a budget of restarts within a window, and a backoff
//! that a minute of life resets.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::{Restart, RestartPolicy};

use super::jitter::Jitter;
use crate::supervisor::vocabulary::{ExitStatus, Time};

/// A main that lived this long was well: its next failure starts the backoff anew (systemd's and Kubernetes' users
/// know the same rule with longer times).
const WELL_AFTER: Duration = Duration::from_secs(60);

/// What the past says about one more restart.
#[derive(Debug, Default)]
pub struct Restarts {
    granted: VecDeque<Time>,
    in_a_row: u32,
}

/// The answer to "may main start again?".
#[derive(Debug, PartialEq, Eq)]
pub enum RestartDecision {
    /// Yes, after this pause.
    After {
        /// The pause.
        pause: Duration,
        /// Which restart of the window this is.
        attempt: u32,
    },
    /// No: the window's budget is spent.
    Spent,
}

impl Restarts {
    /// Takes one restart from the budget, if there is one. `lived` is how long main ran.
    pub fn ask(&mut self, now: Time, lived: Duration, restart: &Restart, jitter: &mut Jitter) -> RestartDecision {
        while self.granted.front().is_some_and(|at| now.since(*at) >= restart.within) {
            self.granted.pop_front();
        }
        if self.granted.len() >= restart.max as usize {
            return RestartDecision::Spent;
        }
        if lived >= WELL_AFTER {
            self.in_a_row = 0;
        }
        self.in_a_row += 1;
        self.granted.push_back(now);
        let pause = jitter.pause(restart.backoff, self.in_a_row);
        RestartDecision::After { pause, attempt: self.granted.len() as u32 }
    }
}

/// Whether the policy wants main again after it ended so by itself.
pub fn wanted(policy: RestartPolicy, status: ExitStatus) -> bool {
    match policy {
        RestartPolicy::Never => false,
        RestartPolicy::OnFailure => !status.success(),
        RestartPolicy::Always => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::since_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn the_budget_is_spent_within_the_window_and_comes_back_after_it() {
        let restart = Restart { max: 2, within: Duration::from_secs(60), ..Restart::default() };
        let (mut restarts, mut jitter) = (Restarts::default(), Jitter::new(1));
        let mut ask = |now| restarts.ask(now, Duration::ZERO, &restart, &mut jitter);
        assert!(matches!(ask(at(0)), RestartDecision::After { attempt: 1, .. }));
        assert!(matches!(ask(at(30)), RestartDecision::After { attempt: 2, .. }));
        assert_eq!(ask(at(59)), RestartDecision::Spent);
        assert!(matches!(ask(at(60)), RestartDecision::After { attempt: 2, .. }));
    }

    #[test]
    fn a_minute_of_life_resets_the_backoff() {
        let restart = Restart { max: 100, ..Restart::default() };
        let (mut restarts, mut jitter) = (Restarts::default(), Jitter::new(1));
        let mut pause = |now, lived| match restarts.ask(now, lived, &restart, &mut jitter) {
            RestartDecision::After { pause, .. } => pause,
            RestartDecision::Spent => panic!("the budget was spent"),
        };
        assert!(pause(at(0), Duration::ZERO) <= Duration::from_millis(200));
        for n in 1..6 {
            pause(at(n), Duration::ZERO);
        }
        assert!(pause(at(7), Duration::ZERO) > Duration::from_secs(5));
        assert!(pause(at(100), Duration::from_secs(60)) <= Duration::from_millis(200));
    }
}
