//! Sensors: their commands measure while main runs, and what others push is taken as it comes.

use std::sync::Arc;

use crate::config::Hook;
use crate::supervisor::Supervisor;
use crate::supervisor::machines::commands::{JobState, Launch, Outcome};
use crate::supervisor::machines::sensor::{Sensor, SensorNews, lines};
use crate::supervisor::vocabulary::{Effect, Notice, RunId, Step};

impl Supervisor {
    /// Starts what is due.
    pub(in crate::supervisor) fn tick_sensors(&mut self, step: &mut Step<'_>) {
        for index in 0..self.sensors.len() {
            if self.sensors[index].deadline().is_some_and(|at| at <= step.now) {
                self.sensor_measures(step, index);
            }
        }
    }

    fn sensor_measures(&mut self, step: &mut Step<'_>, index: usize) {
        let (config, job) = (self.sensors[index].config().clone(), self.sensors[index].job().clone());
        let Some(command) = &config.command else { return };
        match self.commands.of_job(&job) {
            JobState::Clear => {}
            JobState::Busy => return self.sensors[index].put_off(step.now),
            JobState::Stuck => {
                let error = "what its last run left behind can't be ended".to_owned();
                return self.sensor_heard(step, index, Err(error));
            }
        }
        let run = self.next_run();
        self.sensors[index].measure(run);
        let hook = Hook { run_as: command.run_as.clone(), ..Hook::new(command.exec.clone(), command.timeout) };
        let env = self.env(&job);
        self.commands.start(step, run, Launch { job, hook, env, stdin: None });
    }

    /// A run printed something; whether it is a sensor's.
    pub(in crate::supervisor) fn sensor_printed(&mut self, run: RunId, text: &str) -> bool {
        let sensor = self.sensors.iter_mut().find(|sensor| sensor.measuring() == Some(run));
        sensor.map(|sensor| sensor.printed(text.to_owned())).is_some()
    }

    /// A run has ended.
    pub(in crate::supervisor) fn sensor_measured(&mut self, step: &mut Step<'_>, run: RunId, outcome: &Outcome) {
        if let Some(index) = self.sensors.iter().position(|sensor| sensor.measuring() == Some(run)) {
            self.sensor_heard(step, index, outcome.result());
        }
    }

    fn sensor_heard(&mut self, step: &mut Step<'_>, index: usize, result: Result<(), String>) {
        let sensor = self.sensors[index].config().name.clone();
        let notice = match self.sensors[index].measured(step.now, result) {
            SensorNews::None => return,
            SensorNews::Wrong(error) => Notice::SensorFailed { sensor, error },
            SensorNews::Right => Notice::SensorBack { sensor },
        };
        step.out.push(Effect::Say(notice));
    }

    /// Main is gone or goes: nothing of it is measured.
    pub(in crate::supervisor) fn sensors_rest(&mut self, step: &mut Step<'_>) {
        for sensor in &mut self.sensors {
            if let Some(run) = sensor.main_gone() {
                self.commands.cancel(step, run);
            }
        }
    }

    /// Somebody pushes values: all are taken, or none.
    pub(in crate::supervisor) fn push_metrics(&mut self, values: &[(String, String)]) -> Result<String, String> {
        if values.is_empty() {
            return Err("there is no value: NAME=VALUE".to_owned());
        }
        let before: Vec<_> = self.sensors.iter().map(Sensor::readings).collect();
        if let Err(error) = values.iter().try_for_each(|(of, value)| self.push_metric(of, value)) {
            self.sensors.iter_mut().zip(before).for_each(|(sensor, readings)| sensor.restore(readings));
            return Err(error);
        }
        Ok(if values.len() == 1 { "1 value taken".to_owned() } else { format!("{} values taken", values.len()) })
    }

    fn push_metric(&mut self, of: &str, value: &str) -> Result<(), String> {
        let sample = lines::pushed(of, value)?;
        let name = sample.name.clone().unwrap_or_default();
        let called = |sensor: &&mut Sensor| sensor.config().name == name || sensor.config().family() == name;
        match self.sensors.iter_mut().find(called) {
            Some(sensor) => sensor.push(sample),
            None => Err(self.no_sensor(&name)),
        }
    }

    fn no_sensor(&self, name: &str) -> String {
        let pushed = self.sensors.iter().filter(|sensor| sensor.config().command.is_none());
        let names: Vec<&str> = pushed.map(|sensor| sensor.config().name.as_str()).collect();
        match names.as_slice() {
            [] => format!("there is no [[telemetry.sensor]] called {name} (one without `exec` takes what is pushed)"),
            names => format!("there is no sensor {name}; what is pushed may be {}", names.join(", ")),
        }
    }

    /// A reload has changed them.
    pub(in crate::supervisor) fn apply_sensors(&mut self, step: &mut Step<'_>) {
        let mut old = std::mem::take(&mut self.sensors);
        for config in self.config.sensors.clone() {
            let sensor = match old.iter().position(|sensor| sensor.config().name == config.name) {
                Some(index) => {
                    let mut sensor = old.swap_remove(index);
                    if **sensor.config() != config {
                        sensor.reconfigure(step.now, Arc::new(config));
                    }
                    sensor
                }
                None => {
                    let mut sensor = Sensor::new(Arc::new(config));
                    if self.main.is_up() {
                        sensor.main_started(step.now);
                    }
                    sensor
                }
            };
            self.sensors.push(sensor);
        }
        for run in old.iter().filter_map(Sensor::measuring) {
            self.commands.cancel(step, run);
        }
    }
}
