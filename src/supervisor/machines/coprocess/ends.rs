//! How a run of a coprocess ends, and what follows: another start after a pause, or its end for good.

use std::time::Duration;

use crate::config::{Restart, RestartPolicy};

use super::{Coprocess, EndCause, EndedForGood, Stage};
use crate::supervisor::machines::jitter::Jitter;
use crate::supervisor::machines::restarts::{self, RestartDecision};
use crate::supervisor::vocabulary::{Answer, Effect, ExitStatus, Hope, Notice, RunId, SpawnError, Step};

impl Coprocess {
    /// `post_stop` runs.
    pub fn finishes(&mut self) {
        self.stage = Stage::Finishing;
    }

    /// Nothing is left of its `post_stop`.
    pub fn finished(&mut self) {
        if self.stage == Stage::Finishing {
            self.rests();
        }
    }

    /// The process of a run has ended; whether what it left may be it from now on: for the rest of the world it runs on.
    pub fn exited(&mut self, step: &mut Step<'_>, run: RunId, status: ExitStatus, launched: bool) {
        let (since, why) = match self.stage {
            Stage::Starting { run: own, since } if own == run => (since, EndCause::Itself),
            Stage::Running { run: own, since, .. } if own == run => (since, EndCause::Itself),
            // Its end is known where it ended by itself: what ends after that is what it left.
            Stage::Ending { run: own, since, why } if own == run && why != EndCause::Itself => (since, why),
            _ => return,
        };
        self.last_exit = Some(status);
        self.stage = match launched && why == EndCause::Itself {
            true => Stage::Launched { run, since },
            false => Stage::Ending { run, since, why },
        };
        if self.is_ending() {
            self.readiness.is_over();
        }
        step.out.push(Effect::Say(Notice::CoprocessExited { name: self.config.name.clone(), status }));
    }

    /// It was told to stop, to be started `again` or for as long as it isn't wanted.
    pub fn told(&mut self, again: bool) {
        if let Stage::Starting { run, since } | Stage::Running { run, since, .. } = self.stage {
            let why = if again { EndCause::Restart } else { EndCause::Unwanted };
            self.stage = Stage::Ending { run, since, why };
            self.readiness.is_over();
        }
    }

    /// Nothing is left of a run, or nothing that can be ended (`stuck`): it starts again after a pause, or has ended for
    /// good.
    pub fn run_is_over(&mut self, step: &mut Step<'_>, run: RunId, stuck: bool, wanted: bool, jitter: &mut Jitter) {
        let (since, why) = match self.stage {
            Stage::Ending { run: own, since, why } if own == run => (since, why),
            // Whoever would have told how it ended is gone, or it left nothing.
            Stage::Running { run: own, since, pid: None } | Stage::Launched { run: own, since } if own == run => {
                (since, EndCause::Itself)
            }
            _ => return,
        };
        self.readiness.is_over();
        if stuck && self.is_to_end_for_order() {
            let why = format!("{} can't be ended", self.config.name);
            self.answer_order(step, Answer::Refused(why.clone()));
            if wanted {
                return self.give_up(step, EndedForGood { code: 1, why, as_wanted: false });
            }
        }
        if !wanted || why == EndCause::Unwanted || self.is_to_end_for_order() {
            self.stage = Stage::Over;
            return;
        }
        let status = self.last_exit.unwrap_or(ExitStatus::Exited(0));
        let policy = self.config.restart.policy;
        let again = match why {
            EndCause::Restart => true,
            EndCause::Itself => restarts::wanted(policy, status),
            EndCause::NotStarted { hope, .. } => hope && policy != RestartPolicy::Never,
            EndCause::Unwanted => false,
        };
        let name = &self.config.name;
        let ended = match why {
            _ if stuck => EndedForGood { code: 1, why: format!("coprocess {name} can't be ended"), as_wanted: false },
            EndCause::NotStarted { code, .. } => {
                EndedForGood { code, why: format!("coprocess {name} can't be started"), as_wanted: false }
            }
            EndCause::Itself | EndCause::Restart | EndCause::Unwanted => EndedForGood {
                code: status.code(),
                why: format!("coprocess {name} {status}"),
                as_wanted: !again && status.success(),
            },
        };
        match again && !stuck {
            true => self.again(step, step.now.since(since), ended, jitter),
            false => self.give_up(step, ended),
        }
    }

    pub(super) fn again(&mut self, step: &mut Step<'_>, lived: Duration, ended: EndedForGood, jitter: &mut Jitter) {
        let restart = self.config.restart.clone();
        let name = self.config.name.clone();
        match self.restarts.ask(step.now, lived, &restart, jitter) {
            RestartDecision::After { pause: after, attempt } => {
                let max = restart.max;
                step.out.push(Effect::Say(Notice::CoprocessRestarting { name, after, attempt, max }));
                self.stage = Stage::Due { at: step.now + after };
            }
            RestartDecision::Spent => {
                let Restart { max, within, .. } = restart;
                let within = humantime::format_duration(within);
                let restarts = if max == 1 { "1 restart".to_owned() } else { format!("{max} restarts") };
                let why = format!("{}, after {restarts} within {within}", ended.why);
                self.give_up(step, EndedForGood { why, as_wanted: false, ..ended });
            }
        }
    }

    pub(super) fn give_up(&mut self, step: &mut Step<'_>, ended: EndedForGood) {
        if !ended.as_wanted {
            let (name, why) = (self.config.name.clone(), ended.why.clone());
            step.out.push(Effect::Say(Notice::CoprocessGivenUp { name, why }));
        }
        self.stage = Stage::Over;
        self.life.ended = Some(ended);
    }

    /// A run couldn't be started.
    pub fn not_started(&mut self, step: &mut Step<'_>, run: RunId, error: &SpawnError) {
        let (since, told) = match self.stage {
            Stage::Starting { run: own, since } if own == run => (since, None),
            Stage::Ending { run: own, since, why } if own == run => (since, Some(why)),
            _ => return,
        };
        let hope = match error.hope {
            Hope::None => false,
            Hope::IfItWasThere => self.last_exit.is_some(),
            Hope::Soon => true,
        };
        if told.is_none() {
            let (name, error) = (self.config.name.clone(), error.message.clone());
            self.order_failed(step, &format!("{name} can't be started: {error}"));
            step.out.push(Effect::Say(Notice::CoprocessFailedToStart { name, error }));
        }
        self.stage = Stage::Ending { run, since, why: told.unwrap_or(EndCause::NotStarted { hope, code: error.code }) };
    }

    /// It has ended for good, and nothing has followed from that yet.
    pub fn ends(&mut self) -> Option<EndedForGood> {
        let news = self.life.ended.clone().filter(|_| !self.life.judged);
        self.life.judged |= news.is_some();
        news
    }

    /// Whether it has ended for good, and how.
    pub fn has_ended(&self) -> Option<&EndedForGood> {
        self.life.ended.as_ref()
    }
}
