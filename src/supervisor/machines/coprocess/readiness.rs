//! Whether a coprocess is ready: it is asked until it is, says so itself, or is as soon as it runs.

use std::time::Duration;

use super::{Coprocess, Stage};
use crate::config::Probe;
use crate::config::coprocess::Ready;
use crate::supervisor::machines::reported::Reported;
use crate::supervisor::vocabulary::{Effect, Notice, Notification, RunId, Step, Time};

/// From one question whether it is ready to the next: others wait for the answer, and asking costs little...
pub const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// ...but whom it is asked of may log each. One that has taken long is asked more rarely: a tenth of the time that it took,
/// and no more than this, is added to what it takes.
const ASK_AGAIN_AT_MOST: Duration = Duration::from_secs(2);

/// How far it is with being ready.
#[derive(Debug, Default)]
pub struct Readiness {
    state: State,
    /// Since it was first to run.
    was_ready: bool,
    /// It is to be ready for the first time by then.
    by: Option<Time>,
    /// Why it wasn't when it was asked last.
    why_not: Option<String>,
    /// That it wasn't in time has been seen to.
    was_late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// It doesn't run.
    #[default]
    No,
    /// It is asked then.
    Ask {
        at: Time,
    },
    /// This run asks.
    Asking(RunId),
    /// It will say so itself.
    Listening,
    Ready,
}

impl Readiness {
    /// What runs of it goes on; what was before counts no longer.
    pub fn forget(&mut self) {
        *self = Readiness { state: self.state, ..Readiness::default() };
    }

    /// One that was never ready has all of its time anew.
    pub fn has_time_anew(&mut self) {
        if !self.was_ready {
            self.by = None;
            self.was_late = false;
        }
    }

    /// Its start was ordered.
    pub fn starts(&mut self, now: Time, ready: Option<&Ready>) {
        if let Some(ready) = ready.filter(|_| !self.was_ready) {
            self.by.get_or_insert(now + ready.timeout);
        }
    }

    /// It runs, and has yet to say that it is ready.
    pub fn runs(&mut self, now: Time, ready: Option<&Ready>) {
        match ready.map(|ready| &ready.probe) {
            None => self.becomes_ready(),
            Some(Probe::Notify) => self.state = State::Listening,
            Some(_) => self.state = State::Ask { at: now },
        }
    }

    /// What its launcher left is it from now on. It may have been asked, or have spoken, before.
    pub fn runs_on(&mut self, now: Time, ready: Option<&Ready>, has_said: bool) {
        if self.state == State::No {
            self.runs(now, ready);
            self.has_said(has_said);
        }
    }

    /// Configured otherwise, one that isn't ready yet waits for what says so now.
    pub fn waits_otherwise(&mut self, ready: Option<&Ready>, has_said: bool) {
        let asks = matches!(self.state, State::Ask { .. } | State::Asking(_));
        let listens = self.state == State::Listening;
        match ready.map(|ready| &ready.probe) {
            None if asks || listens => self.becomes_ready(),
            Some(Probe::Notify) if asks => {
                self.state = State::Listening;
                self.has_said(has_said);
            }
            Some(probe) if *probe != Probe::Notify && listens => {
                self.state = State::Ask { at: Time::since_boot(Duration::ZERO) };
            }
            None | Some(_) => {}
        }
    }

    /// It doesn't run, or is being ended.
    pub fn is_over(&mut self) {
        self.state = State::No;
    }

    /// It has said that it is ready; `true`: that was waited for.
    pub fn has_said(&mut self, ready: bool) -> bool {
        let waited = ready && self.state == State::Listening;
        if waited {
            self.becomes_ready();
        }
        waited
    }

    fn becomes_ready(&mut self) {
        *self = Readiness { state: State::Ready, was_ready: true, by: None, why_not: None, was_late: self.was_late };
    }

    /// Whether it is time to ask.
    pub fn is_to_be_asked(&self, now: Time) -> bool {
        matches!(self.state, State::Ask { at } if at <= now)
    }

    /// This run asks.
    pub fn asks(&mut self, run: RunId) {
        self.state = State::Asking(run);
    }

    /// The run that asks.
    pub fn asking(&self) -> Option<RunId> {
        match self.state {
            State::Asking(run) => Some(run),
            _ => None,
        }
    }

    /// It is asked again a little later, having taken so long.
    pub fn put_off(&mut self, now: Time, taken: Duration) {
        self.state = State::Ask { at: now + (taken / 10).clamp(ASK_AGAIN_AFTER, ASK_AGAIN_AT_MOST) };
    }

    /// The answer to a question, of one that has taken so long.
    pub fn heard(&mut self, now: Time, result: Result<(), String>, taken: Duration) {
        match result {
            Ok(()) => self.becomes_ready(),
            Err(why) => {
                self.why_not = Some(why);
                self.put_off(now, taken);
            }
        }
    }

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Whether it ever was since it was first to run.
    pub fn was_ready(&self) -> bool {
        self.was_ready
    }

    /// Why it isn't, as far as it was asked.
    pub fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref()
    }

    /// Whether the time is up in which it was to be ready for the first time; said once.
    pub fn is_late(&mut self, now: Time) -> bool {
        let late = !self.was_late && self.by.is_some_and(|by| by <= now);
        self.was_late |= late;
        late
    }

    /// When it is asked.
    pub fn asked_at(&self) -> Option<Time> {
        match self.state {
            State::Ask { at } => Some(at),
            _ => None,
        }
    }

    /// When [`is_late`](Self::is_late) has something to say.
    pub fn late_at(&self) -> Option<Time> {
        self.by.filter(|_| !self.was_late)
    }
}

impl Coprocess {
    /// Whether it says itself that it is ready.
    pub fn says_when_ready(&self) -> bool {
        self.config.ready.as_ref().is_some_and(|ready| ready.probe == Probe::Notify)
    }

    /// What is to be asked now to know whether it is ready.
    pub fn question(&self, now: Time) -> Option<Probe> {
        let ready = self.config.ready.as_ref().filter(|_| self.readiness.is_to_be_asked(now));
        ready.map(|ready| ready.probe.clone())
    }

    /// This run asks.
    pub fn asks(&mut self, run: RunId) {
        self.readiness.asks(run);
    }

    /// What its last question left behind is being ended: it is asked a little later.
    pub fn put_off(&mut self, now: Time) {
        self.readiness.put_off(now, self.has_run_for(now));
    }

    /// The run that asks whether it is ready.
    pub fn asking(&self) -> Option<RunId> {
        self.readiness.asking()
    }

    /// The answer.
    pub fn heard(&mut self, step: &mut Step<'_>, result: Result<(), String>) {
        self.readiness.heard(step.now, result, self.has_run_for(step.now));
        if self.readiness.is_ready() {
            self.tell_ready(step);
        }
    }

    /// Why it isn't ready, as far as it was asked.
    pub fn not_ready(&self) -> Option<&str> {
        self.readiness.why_not()
    }

    /// It, or its launcher, said something by sd_notify.
    pub fn notified(&mut self, step: &mut Step<'_>, said: &Notification) {
        self.reported.add(step.now, said);
        if self.readiness.has_said(said.ready) {
            self.tell_ready(step);
        }
    }

    /// What it has said of itself since it was started last.
    pub fn reported(&self) -> Reported {
        self.reported
    }

    fn tell_ready(&self, step: &mut Step<'_>) {
        if let Stage::Running { since, .. } = self.stage {
            let (name, took) = (self.config.name.clone(), step.now.since(since));
            step.out.push(Effect::Say(Notice::CoprocessReady { name, took }));
        }
    }

    /// Whether the time is up in which it was to be ready for the first time; said once.
    pub fn is_late(&mut self, now: Time) -> bool {
        self.readiness.is_late(now)
    }

    /// Whether those that come after it may start: it is ready, or has done what was wanted of it.
    pub fn lets_others_start(&self) -> bool {
        let done = self.life.ended.as_ref().is_some_and(|ended| ended.as_wanted);
        self.readiness.is_ready() || (done && self.readiness.was_ready())
    }
}
