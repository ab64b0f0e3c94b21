//! What one run, main's or a coprocess's, has said of itself by sd_notify(3) so far. It draws no conclusions: checks do,
//! each from its beginning, be that later than what was said.

use std::time::Duration;

use crate::supervisor::vocabulary::{Notification, Time};

/// What a run has said since it was started. Who is followed in its place goes on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reported {
    /// It was told where to speak as it was started, or has spoken: silence is news.
    pub is_asked: bool,
    /// How often it was told to say that it lives.
    pub told_every: Option<Duration>,
    /// It was ready once.
    pub ready: bool,
    /// When it last said that it lives.
    pub watchdog: Option<Time>,
    /// What it said of how often it says that.
    pub watchdog_within: Option<Duration>,
    /// It reloads, since then.
    pub reloading: Option<Time>,
    /// It asked for time until then, for what it has been doing since: a start, or a reload.
    pub extended: Option<Time>,
}

impl Reported {
    /// One that is started, and finds in its environment where to speak (`is_asked`) and how often to say that it lives.
    pub fn at_start(is_asked: bool, told_every: Option<Duration>) -> Reported {
        Reported { is_asked, told_every, ..Reported::default() }
    }

    /// It says something more.
    pub fn add(&mut self, now: Time, said: &Notification) {
        self.is_asked = true;
        self.ready |= said.ready;
        if said.ready {
            (self.reloading, self.extended) = (None, None);
        }
        if said.reloading {
            (self.reloading, self.extended) = (Some(now), None);
        }
        if said.watchdog {
            self.watchdog = Some(now);
        }
        self.watchdog_within = said.watchdog_within.or(self.watchdog_within);
        self.extended = self.extended.max(said.extend.map(|longer| now + longer));
    }
}
