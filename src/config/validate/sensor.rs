//! Judges `[[telemetry.sensor]]`.

use std::time::Duration;

use super::Validator;
use super::process::{exec, run_as};
use crate::config::report::Problem;
use crate::config::tree::{Place, Span};
use crate::config::words::is_printable;
use crate::config::{Sensor, SensorCommand, SensorKind, raw};

/// As often as Prometheus asks.
const EVERY: Duration = Duration::from_secs(15);
/// What takes longer is no measuring.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Prometheus' clients have these for seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Each costs a series for each set of labels.
const MOST_BUCKETS: usize = 50;
/// Longer ones are nobody's to type.
const LONGEST_NAME: usize = 128;

pub(super) fn sensors(raw: Vec<raw::Sensor>, place: Place<'_>, validator: &mut Validator<'_>) -> Vec<Sensor> {
    let mut taken: Vec<(String, String, Span)> = Vec::new();
    raw.into_iter()
        .enumerate()
        .map(|(index, raw)| {
            let at = place.index(index);
            let sensor = sensor(raw, at, validator);
            if !sensor.name.is_empty() {
                unique(&sensor, at.key("name").span(), &mut taken, validator);
            }
            sensor
        })
        .collect()
}

/// Two whose samples would have one name couldn't be told apart.
fn unique(sensor: &Sensor, span: Span, taken: &mut Vec<(String, String, Span)>, validator: &mut Validator<'_>) {
    let samples = sensor.samples();
    if let Some((sample, other, first)) = taken.iter().find(|(sample, ..)| samples.contains(sample)) {
        let message = match *other == sensor.name {
            true => format!("two sensors are called `{}`", sensor.name),
            false => format!("two sensors, `{other}` and `{}`, have samples called `{sample}`", sensor.name),
        };
        let problem = Problem::error(span, message);
        validator.say(problem.other(first.clone(), "the first").hint("give each its own `name`"));
        return;
    }
    taken.extend(samples.into_iter().map(|sample| (sample, sensor.name.clone(), span.clone())));
}

fn sensor(raw: raw::Sensor, place: Place<'_>, validator: &mut Validator<'_>) -> Sensor {
    validator.required(place, "this sensor", "name", "\"connections\"");
    let name = raw.name.unwrap_or_default();
    if place.has("name") && !place.key("name").is_broken() {
        called(&name, place.key("name").span(), validator);
    }
    let help = raw.help.filter(|help| !help.trim().is_empty()).unwrap_or("A sensor of the config".to_owned());
    if !is_printable(&help) {
        let hint = "it is shown where Prometheus' metrics are";
        validator.error(place.key("help").span(), "`help` is more than a line of text", hint);
    }
    let kind = match raw.kind {
        raw::SensorKind::Gauge => SensorKind::Gauge,
        raw::SensorKind::Counter => SensorKind::Counter,
        raw::SensorKind::Histogram => SensorKind::Histogram(raw.buckets.clone().unwrap_or(BUCKETS.to_vec())),
    };
    if let Some(buckets) = &raw.buckets {
        self::buckets(buckets, raw.kind, place.key("buckets"), validator);
    }
    for (key, time) in [("every", raw.every.as_ref()), ("timeout", raw.timeout.as_ref())] {
        if let Some(time) = time {
            validator.some_time(place, key, time.0);
        }
    }
    if raw.exec.is_none() {
        let of_exec = ["every", "timeout", "user", "env", "env_from_files"];
        for key in of_exec.iter().filter(|key| place.has(key) && !place.has("exec")) {
            let hint =
                "a sensor without a command is pushed (`pilotfish metric NAME=VALUE`); give it `exec`, or leave it out";
            validator.error(place.key(key).key_span(), format!("`{key}` belongs to `exec`"), hint);
        }
    }
    let run_as = run_as(raw.user, raw.env, raw.env_from_files, place, validator);
    let command = raw.exec.map(|command| SensorCommand {
        exec: exec(command),
        run_as,
        every: raw.every.map_or(EVERY, |every| every.0),
        timeout: raw.timeout.map_or(TIMEOUT, |timeout| timeout.0),
    });
    Sensor { name, kind, help, command }
}

/// Prometheus' rule for names (its data model), and the names that are the agent's own.
fn called(name: &str, span: Span, validator: &mut Validator<'_>) {
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    let sound = name.starts_with(begins) && name.chars().all(|c| begins(c) || c.is_ascii_digit());
    if !sound {
        let message = format!("no metric can be called `{}`", name.escape_debug());
        validator.error(span, message, "letters, digits and `_`, with a letter first: `queue_length`");
    } else if name.len() > LONGEST_NAME {
        validator.error(span, format!("`name` is longer than {LONGEST_NAME} bytes"), "what it is about goes to `help`");
    } else if name.starts_with("pilotfish_") || name.starts_with("process_start_time") {
        validator.error(
            span,
            format!("`{name}` may be one of pilotfish's own metrics"),
            "start it with something else",
        );
    }
}

fn buckets(buckets: &[f64], kind: raw::SensorKind, place: Place<'_>, validator: &mut Validator<'_>) {
    if kind != raw::SensorKind::Histogram {
        return validator.error(place.key_span(), "`buckets` belongs to a histogram", "leave it out");
    }
    if buckets.is_empty() && !place.is_broken() {
        validator.error(place.span(), "`buckets` is empty", "leave it out for those of Prometheus' clients");
    }
    if buckets.len() > MOST_BUCKETS {
        let hint = format!("each is a series of its own; {MOST_BUCKETS} are the most");
        validator.error(place.span(), format!("there are {} `buckets`", buckets.len()), hint);
    }
    if buckets.windows(2).any(|pair| pair[0] >= pair[1]) || !buckets.iter().all(|bound| bound.is_finite()) {
        let hint =
            "write each upper bound once, the least first; the last bucket, of all that is more, comes by itself";
        validator.error(place.span(), "`buckets` are not in order", hint);
    }
}
