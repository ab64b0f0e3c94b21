//! One health check: when it asks, and when what it hears turns its status. It has Docker's meaning of interval,
//! timeout, retries (`failures`), start period (`grace`) and start interval, and Mesos' of consecutive failures.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Health, Probe};

use super::reported::Reported;
use crate::supervisor::vocabulary::{CheckStatus, Notification, RunId, Time};

/// How soon a check that waits for its last run's end looks again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A check's life: idle until what it checks runs, then asking every interval.
#[derive(Debug)]
pub struct Check {
    config: Arc<Health>,
    schedule: Schedule,
    state: HealthState,
    note: String,
    grace_until: Time,
    ever_passed: bool,
    /// It came to what was well without it, and counts for nothing before it knows better.
    added: bool,
    failures: u32,
    successes: u32,
    /// What that which it checks has said of itself.
    reported: Reported,
    passed: u64,
    failed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schedule {
    /// What is checked doesn't run.
    Idle,
    /// The next question comes then.
    Until(Time),
    /// This run asks.
    Asking(RunId),
    /// Who is listened to is ready and speaks of no watchdog: there is nothing to look at until it says more.
    Listening,
    /// Who is listened to wasn't told where to speak, and will be at its next start: until then this is no check.
    NextStart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HealthState {
    /// Nothing has counted yet: critical in the catalog.
    Unknown,
    Passing,
    Critical,
}

/// What a result meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Transition {
    /// The status is as it was.
    None,
    /// A failure that doesn't count yet, and why.
    Uncounted(String, &'static str),
    /// Passing now.
    Passing,
    /// Critical now.
    Critical(String),
}

impl Check {
    /// A check of what doesn't run yet.
    pub fn new(config: Arc<Health>) -> Check {
        Check {
            config,
            schedule: Schedule::Idle,
            state: HealthState::Unknown,
            note: "not checked yet".to_owned(),
            grace_until: Time::default(),
            ever_passed: false,
            added: false,
            failures: 0,
            successes: 0,
            reported: Reported::default(),
            passed: 0,
            failed: 0,
        }
    }

    /// As configured.
    pub fn config(&self) -> &Arc<Health> {
        &self.config
    }

    /// Another config for the same name: the status and what it counted stay, unless it checks somebody else now. The run
    /// that asks what isn't asked any more, if one does.
    pub fn reconfigure(&mut self, now: Time, config: Arc<Health>) -> Option<RunId> {
        let (of_another, other_question) = (config.of != self.config.of, config.probe != self.config.probe);
        self.config = config;
        if of_another {
            return self.rest();
        }
        if !other_question || self.is_idle() {
            return None;
        }
        let asking = self.asking();
        self.ask_from(now);
        asking
    }

    /// It asks from now on, if there is anything to be heard.
    fn ask_from(&mut self, now: Time) {
        let is_deaf = self.config.probe == Probe::Notify && !self.reported.is_asked;
        if is_deaf {
            self.note = format!("{} finds NOTIFY_SOCKET at its next start", whom(&self.config));
        }
        self.schedule = if is_deaf { Schedule::NextStart } else { Schedule::Until(now) };
    }

    /// Whether it begins once what it checks is started anew.
    pub fn awaits_next_start(&self) -> bool {
        self.schedule == Schedule::NextStart
    }

    /// Whether what it checks doesn't run, as far as it knows.
    pub fn is_idle(&self) -> bool {
        self.schedule == Schedule::Idle
    }

    /// What it checks runs, and has said so much of itself: grace begins. The run that asked before, if one does.
    pub fn begin(&mut self, now: Time, reported: Reported) -> Option<RunId> {
        let asking = self.asking();
        let (config, passed, failed) = (self.config.clone(), self.passed, self.failed);
        let grace_until = (now + config.grace).max(reported.extended.unwrap_or_default());
        *self = Check { grace_until, reported, passed, failed, ..Check::new(config) };
        self.ask_from(now);
        asking
    }

    /// What it checks runs since before there was this check, and was well.
    pub fn is_added(&mut self) {
        self.added = true;
    }

    /// What it checks is gone: nothing is asked, and nothing is known.
    pub fn rest(&mut self) -> Option<RunId> {
        let asking = self.asking();
        let (config, passed, failed) = (self.config.clone(), self.passed, self.failed);
        let note = format!("{} doesn't run", whom(&config));
        *self = Check { passed, failed, note, ..Check::new(config) };
        asking
    }

    /// Whether it has turned critical: a check that nothing has counted for yet is neither passing nor that.
    pub fn is_unhealthy(&self) -> bool {
        self.state == HealthState::Critical
    }

    /// When it asks next.
    pub fn deadline(&self) -> Option<Time> {
        match self.schedule {
            Schedule::Until(at) => Some(at),
            Schedule::Idle | Schedule::Asking(_) | Schedule::Listening | Schedule::NextStart => None,
        }
    }

    /// Whether it is time to ask by a run.
    pub fn is_due(&self, now: Time) -> bool {
        matches!(self.schedule, Schedule::Until(at) if at <= now)
    }

    /// The run that asks now.
    pub fn asking(&self) -> Option<RunId> {
        match self.schedule {
            Schedule::Asking(run) => Some(run),
            Schedule::Idle | Schedule::Until(_) | Schedule::Listening | Schedule::NextStart => None,
        }
    }

    /// A run asks from now on.
    pub fn ask(&mut self, run: RunId) {
        self.schedule = Schedule::Asking(run);
    }

    /// What its last run left behind is being ended: it asks a little later.
    pub fn put_off(&mut self, now: Time) {
        self.schedule = Schedule::Until(now + ASK_AGAIN_AFTER);
    }

    /// A `notify` check asks nobody: it looks at what has been said so far.
    pub fn look(&mut self, now: Time) -> Transition {
        let silence = self.silence();
        let result = match self.reported.watchdog {
            _ if !self.reported.ready => Err(format!("{} hasn't said READY=1", whom(&self.config))),
            _ if self.reload_until().is_some_and(|until| until <= now) => {
                Err(format!("{} said RELOADING=1, and hasn't said READY=1 since", whom(&self.config)))
            }
            Some(heard) if now.since(heard) > silence => {
                Err(format!("no WATCHDOG=1 for {}", humantime::format_duration(silence)))
            }
            Some(_) | None => Ok(()),
        };
        self.heard(now, result)
    }

    /// What it checks said something by sd_notify, which is so much by now.
    pub fn notified(&mut self, now: Time, said: &Notification, reported: Reported) -> Transition {
        if self.is_idle() {
            return Transition::None;
        }
        self.reported = reported;
        if self.config.probe != Probe::Notify {
            return Transition::None;
        }
        if self.awaits_next_start() {
            self.begin(now, reported);
        }
        if self.schedule == Schedule::Listening && !self.only_listens() {
            self.schedule = Schedule::Until(now + self.config.interval);
        }
        if said.triggered {
            self.failures = self.config.failures.max(self.failures);
            // Whoever says so while it starts needs no more time to.
            self.grace_until = now;
            return self.heard(now, Err(format!("{} said WATCHDOG=trigger", whom(&self.config))));
        }
        if said.ready && self.state != HealthState::Passing { self.look(now) } else { Transition::None }
    }

    /// Main asked for more time to start: failures of one that never passed don't count until then.
    pub fn extend_grace(&mut self, until: Time) {
        if !self.ever_passed && !self.is_idle() {
            self.grace_until = self.grace_until.max(until);
        }
    }

    /// What main finds in its environment of how often it is to say that it lives (sd_watchdog_enabled(3)).
    pub fn watchdog(&self) -> Option<(String, String)> {
        self.word_every().map(|every| ("WATCHDOG_USEC".to_owned(), every.as_micros().to_string()))
    }

    /// How often main is to say that it lives.
    pub fn word_every(&self) -> Option<Duration> {
        (self.is_of(None) && self.listens()).then_some(self.config.interval)
    }

    /// Whether it asks nobody, and waits to be told.
    pub fn listens(&self) -> bool {
        self.config.probe == Probe::Notify
    }

    /// How long a main that says that it lives may say nothing. A shorter interval than it was told it doesn't know of.
    fn silence(&self) -> Duration {
        let Reported { watchdog_within, told_every, .. } = self.reported;
        let interval = self.config.interval.max(told_every.unwrap_or_default());
        watchdog_within.unwrap_or(interval) + self.config.timeout
    }

    /// Until when a main that reloads may take: as long as a start, or as it asked for.
    fn reload_until(&self) -> Option<Time> {
        let until = self.reported.reloading? + self.config.grace.max(self.silence());
        Some(until.max(self.reported.extended.unwrap_or_default()))
    }

    /// Whether there is nothing to look at until main says more.
    fn only_listens(&self) -> bool {
        let Reported { ready, watchdog, reloading, .. } = self.reported;
        self.config.probe == Probe::Notify && ready && watchdog.is_none() && reloading.is_none()
    }

    /// The answer of the run that asked, or of a look.
    pub fn heard(&mut self, now: Time, result: Result<(), String>) -> Transition {
        let turn = match result {
            Ok(()) => self.success(),
            Err(error) => self.failure(now, error),
        };
        let starting = !self.ever_passed && now < self.grace_until;
        let interval = if starting { self.config.start_interval } else { self.config.interval };
        self.schedule = if self.only_listens() { Schedule::Listening } else { Schedule::Until(now + interval) };
        turn
    }

    fn success(&mut self) -> Transition {
        self.passed += 1;
        self.ever_passed = true;
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        let enough = match self.state {
            HealthState::Passing => false,
            HealthState::Unknown => true,
            HealthState::Critical => self.successes >= self.config.successes,
        };
        if !enough {
            return Transition::None;
        }
        self.state = HealthState::Passing;
        self.note = "passing".to_owned();
        Transition::Passing
    }

    fn failure(&mut self, now: Time, error: String) -> Transition {
        self.failed += 1;
        self.successes = 0;
        if !self.ever_passed && now < self.grace_until {
            self.note = format!("starting: {error}");
            return Transition::Uncounted(error, "in its grace period");
        }
        self.failures = self.failures.saturating_add(1);
        if self.state != HealthState::Passing {
            self.note.clone_from(&error);
        }
        match self.state {
            HealthState::Critical => Transition::None,
            HealthState::Unknown | HealthState::Passing if self.failures < self.config.failures => {
                Transition::Uncounted(error, "fewer than `failures` in a row")
            }
            HealthState::Unknown | HealthState::Passing => {
                self.state = HealthState::Critical;
                self.note = error.clone();
                Transition::Critical(error)
            }
        }
    }

    /// Whether it passes.
    pub fn is_passing(&self) -> bool {
        self.state == HealthState::Passing
    }

    /// Whether it checks main, or this coprocess.
    pub fn is_of(&self, of: Option<&str>) -> bool {
        self.config.of.as_deref() == of
    }

    /// Whether it speaks for a service.
    pub fn speaks_for(&self, service: &str) -> bool {
        self.counts() && self.config.services.iter().any(|id| id == service)
    }

    /// Whether main is unhealthy while it fails.
    pub fn counts(&self) -> bool {
        let knows = !self.added || self.state != HealthState::Unknown;
        self.config.counts && !self.awaits_next_start() && knows
    }

    /// Whether a part in an election depends on it.
    pub fn bears_on_role(&self) -> bool {
        self.counts() && self.config.stand && self.is_of(None)
    }

    /// Its name and what is wrong with it.
    pub fn complaint(&self) -> String {
        format!("{}: {}", self.config.name, self.note)
    }

    /// For `/status`.
    pub fn status(&self) -> CheckStatus {
        CheckStatus {
            name: self.config.name.clone(),
            of: self.config.of.clone(),
            idle: false,
            passing: self.is_passing(),
            counts: self.counts(),
            note: self.note.clone(),
            passed: self.passed,
            failed: self.failed,
        }
    }
}

/// Whom it checks, for people.
fn whom(config: &Health) -> &str {
    config.of.as_deref().unwrap_or("main")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnFailure;

    fn check(failures: u32, successes: u32, grace: u64) -> Check {
        Check::new(Arc::new(Health {
            name: "ping".to_owned(),
            of: None,
            probe: Probe::Tcp { address: "127.0.0.1:1".to_owned() },
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            grace: Duration::from_secs(grace),
            start_interval: Duration::from_millis(500),
            failures,
            successes,
            on_failure: OnFailure::Report,
            services: Vec::new(),
            counts: true,
            stand: true,
        }))
    }

    fn at(millis: u64) -> Time {
        Time::since_boot(Duration::from_millis(millis))
    }

    fn bad() -> Result<(), String> {
        Err("refused".to_owned())
    }

    #[test]
    fn failures_do_not_count_in_grace_and_are_asked_more_often() {
        let mut check = check(1, 1, 30);
        check.begin(at(0), Reported::default());
        assert!(check.is_due(at(0)));
        assert!(matches!(check.heard(at(10), bad()), Transition::Uncounted(..)));
        assert_eq!(check.deadline(), Some(at(510)));
        assert_eq!(check.heard(at(30_000), bad()), Transition::Critical("refused".to_owned()));
        assert_eq!(check.deadline(), Some(at(35_000)));
    }

    #[test]
    fn the_first_success_ends_grace() {
        let mut check = check(1, 3, 30);
        check.begin(at(0), Reported::default());
        assert_eq!(check.heard(at(100), Ok(())), Transition::Passing);
        assert_eq!(check.deadline(), Some(at(5_100)));
        assert_eq!(check.heard(at(200), bad()), Transition::Critical("refused".to_owned()));
    }

    #[test]
    fn only_consecutive_failures_turn_it_critical() {
        let mut check = check(3, 1, 0);
        check.begin(at(0), Reported::default());
        assert_eq!(check.heard(at(1), Ok(())), Transition::Passing);
        for _ in 0..4 {
            assert!(matches!(check.heard(at(2), bad()), Transition::Uncounted(..)));
            assert!(matches!(check.heard(at(2), bad()), Transition::Uncounted(..)));
            assert_eq!(check.heard(at(2), Ok(())), Transition::None);
        }
        check.heard(at(3), bad());
        check.heard(at(3), bad());
        assert!(matches!(check.heard(at(3), bad()), Transition::Critical(_)));
        assert_eq!(check.heard(at(3), bad()), Transition::None);
    }

    #[test]
    fn a_critical_check_needs_its_successes_in_a_row() {
        let mut check = check(1, 2, 0);
        check.begin(at(0), Reported::default());
        check.heard(at(1), bad());
        assert_eq!(check.heard(at(2), Ok(())), Transition::None);
        check.heard(at(3), bad());
        assert_eq!(check.heard(at(4), Ok(())), Transition::None);
        assert_eq!(check.heard(at(5), Ok(())), Transition::Passing);
    }
}
