//! Health checks: when each asks, and what follows from what it hears.

use crate::config::{Hook, Probe};
use crate::supervisor::Supervisor;
use crate::supervisor::machines::check::Transition;
use crate::supervisor::machines::commands::Launch;
use crate::supervisor::vocabulary::{Effect, Job, Notice, Step};

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
                    None => {}
                    Some(false) => return self.checks[index].put_off(step.now),
                    Some(true) => {
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

    /// Main is gone or goes: nothing is asked of it.
    pub(in crate::supervisor) fn checks_rest(&mut self, step: &mut Step<'_>) {
        self.cut_post_start_short(step);
        for check in &mut self.checks {
            if let Some(run) = check.main_gone() {
                self.commands.cancel(step, run);
            }
        }
        self.sensors_rest(step);
    }
}
