//! What main says of itself by sd_notify(3), and what of it a supervisor above this one is told.

use std::time::Duration;

use crate::supervisor::Supervisor;
use crate::supervisor::machines::check::Check;
use crate::supervisor::machines::reported::Reported;
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::vocabulary::{Effect, Notice, Notification, OuterWord, Step, Time};

/// The supervisor above is told no more often, whatever it asks for: told without end, nothing else would be done.
const OUTER_AT_LEAST: Duration = Duration::from_millis(10);

/// The supervisor above this one: what it wants to hear, and has heard.
#[derive(Debug, Default)]
pub struct Outer {
    /// It wants to hear as often that the container lives, and hears it next then.
    watchdog: Option<(Duration, Time)>,
    /// It knows that the container is ready.
    knows_ready: bool,
}

impl Supervisor {
    /// Main spoke.
    pub(in crate::supervisor) fn notified(&mut self, step: &mut Step<'_>, said: Notification) {
        if let Some(pid) = said.main_pid.filter(|_| self.process.background == crate::config::Background::Follow) {
            self.main.named(pid, step.out);
        }
        if let Some(status) = &said.status {
            self.main_status.notified = Some(status.clone());
        }
        // A reload by way of a stop, as of some daemons.
        let goes_on = said.ready && !said.stopping && self.main.goes_on();
        if goes_on {
            self.kill_latest = None;
            self.checks_begin(step, None);
        }
        self.reported.add(step.now, &said);
        self.checks_notified(step, None, &said);
        if said.stopping && !self.main.hands_over() {
            self.main_stops_itself(step);
        }
        if goes_on {
            self.tell_catalog(step.out);
        }
        if let Some(longer) = said.extend {
            self.main_takes_longer(step.now, longer);
        }
    }

    /// Main is on its way out by its own choice: nothing is asked of it any more, and it has as long as for any stop.
    fn main_stops_itself(&mut self, step: &mut Step<'_>) {
        // A plain init has no time of its own.
        let Some(within) = self.config.stop.within.filter(|_| self.main.is_up() && !self.is_stopping()) else { return };
        step.out.push(Effect::Say(Notice::MainStopsItself));
        let patience = self.process.stop_timeout.unwrap_or(within);
        self.kill_latest = Some(step.now + within);
        self.main.stops_itself(step.now + patience);
        self.cut_post_start_short(step);
        self.checks_rest(step, None);
        self.tell_catalog(step.out);
    }

    /// Main asks for more time, to start, to reload or to stop: never for more than `[stop] within` in all.
    fn main_takes_longer(&mut self, now: Time, longer: Duration) {
        let until = now + longer;
        let of_main = self.checks.iter_mut().filter(|check| check.is_of(None));
        of_main.for_each(|check| check.extend_grace(until));
        if let Some(latest) = self.kill_latest {
            let at = until.min(latest);
            self.main.postpone_kill(at);
            if let Some(stopping) = self.life.stopping_mut() {
                stopping.postpone_kill(at);
            }
        }
    }

    /// The supervisor above wants to hear as often that the container lives.
    pub(in crate::supervisor) fn outer_watches(&mut self, now: Time, every: Duration) {
        self.outer.watchdog = Some((every, now));
    }

    /// Tells the supervisor above what is due.
    pub(in crate::supervisor) fn tell_outer(&mut self, step: &mut Step<'_>) {
        if let Some((every, at)) = &mut self.outer.watchdog
            && *at <= step.now
        {
            // Half the time, as sd_watchdog_enabled(3) has it.
            *at = step.now + (*every / 2).max(OUTER_AT_LEAST);
            // Who feeds it itself is the one whose silence tells; while it doesn't run, its supervisor lives.
            if !(self.reported.watchdog.is_some() && self.main.is_up()) {
                step.out.push(Effect::TellOuter(OuterWord::Alive));
            }
        }
        // Without such a check main is ready when it says so itself.
        let judges = |check: &Check| check.is_of(None) && check.counts() && !check.listens();
        let is_ready = match self.checks.iter().any(judges) {
            true => matches!(self.life.stage(), LifeStage::Running { .. }) && self.is_main_healthy(),
            false => self.reported.ready,
        };
        if is_ready && !self.outer.knows_ready {
            self.outer.knows_ready = true;
            step.out.push(Effect::TellOuter(OuterWord::Ready));
        }
    }

    /// When it must be told something next.
    pub(in crate::supervisor) fn outer_deadline(&self) -> Option<Time> {
        self.outer.watchdog.map(|(_, at)| at)
    }

    /// Main is started: what the last one said is over.
    pub(in crate::supervisor) fn main_has_said_nothing(&mut self) {
        let told_every = self.checks.iter().find_map(Check::word_every);
        self.reported = Reported::at_start(self.is_listened_to(None), told_every);
        self.kill_latest = None;
        self.main_status.notified = None;
    }
}
