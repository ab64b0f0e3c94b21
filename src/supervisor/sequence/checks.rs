//! Health checks: when each asks, and what follows from what it hears.

use crate::config::{Hook, Probe};
use crate::supervisor::Supervisor;
use crate::supervisor::machines::check::{Check, Transition};
use crate::supervisor::machines::commands::{JobState, Launch};
use crate::supervisor::machines::coprocess::Coprocess;
use crate::supervisor::machines::reported::Reported;
use crate::supervisor::vocabulary::{CheckStatus, Effect, Job, Notice, Notification, Step};

impl Supervisor {
    pub(in crate::supervisor) fn check_heard(&mut self, step: &mut Step<'_>, index: usize, result: Result<(), String>) {
        let transition = self.checks[index].heard(step.now, result);
        self.check_turned(step, index, transition);
    }

    pub(in crate::supervisor) fn check_turned(&mut self, step: &mut Step<'_>, index: usize, transition: Transition) {
        let config = self.checks[index].config().clone();
        let check = config.name.clone();
        match transition {
            Transition::None => self.reword_catalog(),
            Transition::Uncounted(error, because) => {
                step.out.push(Effect::Say(Notice::CheckFailing { check, error, because }));
                self.reword_catalog();
            }
            Transition::Passing => {
                step.out.push(Effect::Say(Notice::CheckChanged { check, error: None }));
                self.tell_catalog(step.out);
            }
            Transition::Critical(error) => {
                step.out.push(Effect::Say(Notice::CheckChanged { check, error: Some(error.clone()) }));
                self.tell_catalog(step.out);
                self.unhealthy(step, &config, &error);
            }
        }
    }

    pub(in crate::supervisor) fn check_asks(&mut self, step: &mut Step<'_>, index: usize) {
        let config = self.checks[index].config().clone();
        match &config.probe {
            Probe::Notify => {
                let transition = self.checks[index].look(step.now);
                self.check_turned(step, index, transition);
            }
            Probe::Exec { exec, run_as } => {
                let job = Job::Health { check: config.name.clone() };
                // A check whose last run isn't over asks later: they must not pile up.
                match self.commands.of_job(&job) {
                    JobState::Clear => {}
                    JobState::Busy => return self.checks[index].put_off(step.now),
                    JobState::Stuck => {
                        let error = "what its last run left behind can't be ended".to_owned();
                        return self.check_heard(step, index, Err(error));
                    }
                }
                let run = self.next_run();
                self.checks[index].ask(run);
                let hook = Hook { run_as: run_as.clone(), ..Hook::new(exec.clone(), config.timeout) };
                let env = self.env(&job);
                self.commands.start(step, run, Launch { job, hook, env, stdin: None });
            }
            Probe::Http(_) | Probe::Tcp { .. } | Probe::Grpc(_) => {
                let run = self.next_run();
                self.checks[index].ask(run);
                step.out.push(Effect::Probe { run, probe: config.probe.clone(), timeout: config.timeout });
            }
        }
    }

    /// Main, or a coprocess, runs: its checks begin, but for what the main passed that it follows. A stop may have come
    /// while it was starting: nothing is asked of it then.
    pub(in crate::supervisor) fn checks_begin(&mut self, step: &mut Step<'_>, of: Option<&str>) {
        let stopping = self.is_stopping();
        let reported = self.reported_by(of);
        let begins = |check: &&mut Check| !stopping && check.is_of(of) && !check.is_passing();
        for check in self.checks.iter_mut().filter(begins) {
            if let Some(run) = check.begin(step.now, reported) {
                self.commands.cancel(step, run);
            }
        }
        for sensor in self.sensors.iter_mut().filter(|_| !stopping && of.is_none()) {
            sensor.main_started(step.now);
        }
    }

    /// Main, or a coprocess, is gone or goes: nothing is asked of it.
    pub(in crate::supervisor) fn checks_rest(&mut self, step: &mut Step<'_>, of: Option<&str>) {
        if of.is_none() {
            self.sensors_rest(step);
        }
        for check in self.checks.iter_mut().filter(|check| check.is_of(of)) {
            if let Some(run) = check.rest() {
                self.commands.cancel(step, run);
            }
        }
    }

    /// Nothing is asked of anybody any more.
    pub(in crate::supervisor) fn all_checks_rest(&mut self, step: &mut Step<'_>) {
        self.cut_post_start_short(step);
        self.sensors_rest(step);
        for run in self.checks.iter_mut().filter_map(Check::rest) {
            self.commands.cancel(step, run);
        }
    }

    /// Whether any check listens to what main, or a coprocess, says of itself.
    pub(in crate::supervisor) fn is_listened_to(&self, of: Option<&str>) -> bool {
        self.checks.iter().any(|check| check.is_of(of) && check.listens())
    }

    /// What main, or a coprocess, has said of itself since it was started.
    pub(in crate::supervisor) fn reported_by(&self, of: Option<&str>) -> Reported {
        match of {
            None => self.reported,
            Some(name) => self.coprocesses.find(name).map(Coprocess::reported).unwrap_or_default(),
        }
    }

    /// Main, or a coprocess, spoke.
    pub(in crate::supervisor) fn checks_notified(
        &mut self,
        step: &mut Step<'_>,
        of: Option<&str>,
        said: &Notification,
    ) {
        let reported = self.reported_by(of);
        for index in 0..self.checks.len() {
            if self.checks[index].is_of(of) {
                let transition = self.checks[index].notified(step.now, said, reported);
                self.check_turned(step, index, transition);
            }
        }
    }

    /// For `/status`.
    pub(in crate::supervisor) fn check_statuses(&self) -> Vec<CheckStatus> {
        let idle = |name: &String| self.coprocesses.find(name).is_some_and(|of| !self.is_wanted(of));
        let status =
            |check: &Check| CheckStatus { idle: check.config().of.as_ref().is_some_and(idle), ..check.status() };
        self.checks.iter().map(status).collect()
    }
}
