//! Judges `[[task]]`.

use std::time::Duration;

use super::Validator;
use super::process::{exec, run_as};
use crate::config::report::Problem;
use crate::config::tree::{Place, Span};
use crate::config::{Cron, Task, TaskWhen, Timetable, When, Zone, duration, raw};

/// Of a run by `cron` that sets none: most periodic work takes minutes.
const TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// More often it is a program that runs, and no periodic work.
const LEAST: Duration = Duration::from_millis(100);

pub(super) fn tasks(raw: Vec<raw::Task>, place: Place<'_>, validator: &mut Validator<'_>) -> Vec<Task> {
    let mut names: Vec<(String, Span)> = Vec::new();
    raw.into_iter()
        .enumerate()
        .map(|(index, raw)| {
            let at = place.index(index);
            let task = task(raw, at, validator);
            if !task.name.is_empty() {
                validator.unique(&mut names, "tasks", &task.name, at.key("name").span(), "give each its own `name`");
            }
            task
        })
        .collect()
}

fn task(raw: raw::Task, place: Place<'_>, validator: &mut Validator<'_>) -> Task {
    validator.required(place, "this task", "name", "\"backup\"");
    validator.required(place, "this task", "exec", "[\"/bin/backup\"]");
    validator.exactly_one(place, "this task", &["every", "cron"], &[]);
    let every = raw.every.map(|every| every.0);
    if every.is_some_and(|every| every < LEAST) {
        validator.error(
            place.key("every").span(),
            format!("`every` is shorter than {}", duration::print(LEAST)),
            "what is to run all the time is a process of its own",
        );
    }
    let zone = zone(raw.tz.as_deref(), place, validator);
    let jitter = raw.jitter.0;
    if every.is_some_and(|every| jitter > every) {
        let message =
            format!("`jitter` is longer than `every`, which is {}", duration::print(every.unwrap_or_default()));
        validator.error(place.key("jitter").span(), message, "a run would come after the one that follows it");
    }
    let timeout = raw.timeout.map(|timeout| timeout.0);
    if let Some(timeout) = timeout {
        validator.some_time(place, "timeout", timeout);
    }
    let (timetable, usual) = match (every, raw.cron) {
        (Some(every), _) => (Timetable::Every(every), every),
        (None, cron) => (Timetable::Cron(cron.map_or_else(Cron::daily, |cron| cron.0), zone), TIMEOUT),
    };
    Task {
        name: raw.name.map(|name| name.0.0).unwrap_or_default(),
        exec: raw.exec.map(exec).unwrap_or_default(),
        run_as: run_as(raw.user, raw.env, raw.env_from_files, place, validator),
        timetable,
        at_start: raw.at_start,
        jitter,
        timeout: timeout.unwrap_or(usual),
        when: when(raw.when, place, validator),
    }
}

fn zone(tz: Option<&str>, place: Place<'_>, validator: &mut Validator<'_>) -> Zone {
    let Some(name) = tz else { return Zone::utc() };
    if !place.has("cron") {
        let hint = "`every` knows no calendar; leave it out, or write `cron`";
        validator.error(place.key("tz").key_span(), "`tz` without `cron`", hint);
    }
    Zone::find(name, &validator.context.variables).unwrap_or_else(|error| {
        let problem = Problem::error(place.key("tz").span(), format!("`tz` {error}"));
        validator.say(problem.hint(error.hint()));
        Zone::utc()
    })
}

fn when(when: TaskWhen, place: Place<'_>, validator: &mut Validator<'_>) -> TaskWhen {
    let role = match when {
        TaskWhen::Always | TaskWhen::Healthy => When::Always,
        TaskWhen::Leader => When::Leader,
        TaskWhen::Replica => When::Replica,
    };
    validator.when(place, role);
    when
}
