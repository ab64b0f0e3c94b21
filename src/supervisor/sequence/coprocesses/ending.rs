//! How coprocesses end with the container: in which order, and how long each has.

use std::time::Duration;

use crate::config::coprocess::{self, StopPoint};
use crate::config::{Coprocess as Config, When};

use crate::supervisor::Supervisor;
use crate::supervisor::machines::commands::{KILL_AFTER, LEAST_PATIENCE};
use crate::supervisor::machines::coprocess::Coprocess;
use crate::supervisor::sequence::stopping::{StopStage, Stopping};
use crate::supervisor::vocabulary::{Job, RunId, Step, Time};

use super::Coprocesses;

/// The part of `[stop] within` that main leaves to those that stop after it.
const SHARE_AFTER_MAIN: u32 = 3;
/// What is kept of it for what comes after them: its last SIGKILL, and that to show.
const KEPT_AFTER_ALL: Duration = Duration::from_millis(300);
/// How long one has to end where nothing else says so.
const STOP_WITHIN: Duration = Duration::from_secs(9);

impl Coprocesses {
    /// Those that stop at this point and aren't gone.
    fn left(&self, point: Option<StopPoint>) -> impl Iterator<Item = &Coprocess> {
        let at = move |coprocess: &&Coprocess| point.is_none_or(|point| coprocess.config().stop == point);
        self.all.iter().filter(at).filter(|coprocess| !coprocess.is_gone())
    }

    /// In how many parts, one after the other, those that are left at this point end.
    fn parts(&self, point: Option<StopPoint>) -> u32 {
        let mut left: Vec<&Coprocess> = self.left(point).collect();
        let mut parts = 0;
        while !left.is_empty() {
            let now = left.clone();
            let last = now.iter().filter(|coprocess| is_last(coprocess, &now));
            parts += last.map(|coprocess| coprocess.parts_left()).max().unwrap_or(1);
            left.retain(|coprocess| !is_last(coprocess, &now));
        }
        parts.max(1)
    }
}

fn is_last(coprocess: &Coprocess, of: &[&Coprocess]) -> bool {
    let of: Vec<&Config> = of.iter().map(|other| &**other.config()).collect();
    coprocess::is_last(coprocess.config(), &of)
}

impl Supervisor {
    /// Whether it is to stop now, with the container.
    pub(super) fn is_its_turn(&self, coprocess: &Coprocess, stopping: &Stopping) -> bool {
        let left = |point| self.coprocesses.left(point).collect::<Vec<_>>();
        match stopping.stage() {
            StopStage::BeforeMain { .. } => {
                let point = StopPoint::BeforeMain;
                coprocess.config().stop == point && is_last(coprocess, &left(Some(point)))
            }
            StopStage::AfterMain => is_last(coprocess, &left(None)),
            StopStage::Rest { .. } | StopStage::Done => true,
            StopStage::Draining { .. }
            | StopStage::PreStop { .. }
            | StopStage::Demoting
            | StopStage::Main { .. }
            | StopStage::Releasing { .. }
            | StopStage::Withdrawing { .. }
            | StopStage::PostStop { .. } => false,
        }
    }

    /// Until when one has that is told to stop now.
    pub(super) fn kill_coprocess_at(&self, now: Time, config: &Config) -> Time {
        let most = match self.life.stopping() {
            Some(stopping) => match stopping.stage() {
                StopStage::BeforeMain { .. } => {
                    // A leader is demoted after it.
                    let parts = self.coprocesses.parts(Some(StopPoint::BeforeMain)) + u32::from(self.leads());
                    stopping.tell_at().map(|at| now.until(at) / parts)
                }
                StopStage::AfterMain => {
                    let left = stopping.exit_at().map(|at| now.until(at).saturating_sub(KEPT_AFTER_ALL));
                    left.map(|left| left / self.coprocesses.parts(None))
                }
                _ => Some(KILL_AFTER),
            },
            // Who leads next waits for it.
            None if config.when == When::Leader => Some(config.stop_timeout.unwrap_or(KILL_AFTER)),
            None => self.config.stop.within,
        };
        let patience = most.unwrap_or(STOP_WITHIN).min(config.stop_timeout.unwrap_or(Duration::MAX));
        now + patience.max(LEAST_PATIENCE)
    }

    /// A stage of the stop has come that waits for some of them: what was being ended before, or clears up since, has no
    /// more time than what is told now.
    pub(in crate::supervisor) fn hurry_coprocesses(&mut self, now: Time) {
        let Some(stage) = self.life.stopping().map(Stopping::stage) else { return };
        let is_waited_for = |config: &Config| match stage {
            StopStage::BeforeMain { .. } => config.stop == StopPoint::BeforeMain,
            StopStage::Demoting => config.when == When::Leader,
            StopStage::AfterMain => true,
            _ => false,
        };
        let waited_for = self.coprocesses.all.iter().filter(|coprocess| is_waited_for(coprocess.config()));
        let waited_for: Vec<_> = waited_for.map(|coprocess| (coprocess.config().clone(), coprocess.run())).collect();
        for (config, run) in waited_for {
            let at = self.kill_coprocess_at(now, &config);
            if let Some(run) = run {
                self.commands.kill_by(run, at);
            }
            self.commands.end_job_by(now, &Job::CoprocessPostStop { name: config.name.clone() }, at);
        }
    }

    /// Whether any is left that stops before main is told.
    pub(in crate::supervisor) fn is_any_left_before_main(&self) -> bool {
        self.coprocesses.left(Some(StopPoint::BeforeMain)).next().is_some()
    }

    /// Whether any is left at all.
    pub(in crate::supervisor) fn is_any_left(&self) -> bool {
        self.coprocesses.left(None).next().is_some()
    }

    /// What main leaves of the time to stop to those that stop after it.
    pub(in crate::supervisor) fn time_after_main(&self, within: Duration) -> Duration {
        match self.coprocesses.left(Some(StopPoint::AfterMain)).next() {
            Some(_) => within / SHARE_AFTER_MAIN,
            None => Duration::ZERO,
        }
    }

    /// Who stops in haste, with main or after it, is killed.
    pub(in crate::supervisor) fn kill_coprocesses(&mut self, step: &mut Step<'_>) {
        let runs: Vec<RunId> = self.coprocesses.all.iter().filter_map(Coprocess::run).collect();
        for run in runs {
            self.commands.kill_by(run, step.now);
        }
    }
}
