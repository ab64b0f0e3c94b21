//! Sensors as scripts: when their commands measure, what is taken of what they print, and what is pushed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::script::*;
use crate::config::{Config, RestartPolicy, Sensor, SensorCommand, SensorKind, Signal};
use crate::supervisor::vocabulary::*;
use crate::supervisor::{Event, Notice};

const JOB: &str = "sensor load";

pub fn sensor(kind: SensorKind) -> Sensor {
    let command = SensorCommand {
        exec: exec("measure"),
        run_as: Default::default(),
        every: Duration::from_secs(15),
        timeout: Duration::from_secs(5),
    };
    Sensor { name: "load".to_owned(), kind, help: "Load".to_owned(), command: Some(command) }
}

fn pushed(name: &str, kind: SensorKind) -> Sensor {
    Sensor { name: name.to_owned(), command: None, ..sensor(kind) }
}

fn with(sensors: Vec<Sensor>) -> Config {
    Config { sensors, ..config() }
}

impl Script {
    /// The next run begins.
    fn measures(&mut self) -> u64 {
        self.heard();
        self.when("spawn sensor load")
    }

    fn prints(&mut self, text: &str) {
        let run = self.run(JOB);
        self.send(Event::Printed { run, text: text.to_owned() });
        self.ends(JOB, 0);
    }

    fn status_of_sensor(&self) -> SensorStatus {
        self.core.status().sensors[0].clone()
    }

    fn readings(&self) -> BTreeMap<Labels, Reading> {
        (*self.status_of_sensor().readings).clone()
    }

    fn pushes(&mut self, values: &[(&str, &str)]) -> Result<String, String> {
        let values = values.iter().map(|(of, value)| ((*of).to_owned(), (*value).to_owned())).collect();
        let request = Request::PushMetrics { values };
        let effects = self.core.handle(Time::default(), Event::Control { reply: ReplyId(1), request });
        let reply = effects.into_iter().find_map(|effect| match effect {
            crate::supervisor::Effect::Reply { answer: Answer::Done(done), .. } => Some(Ok(done)),
            crate::supervisor::Effect::Reply { answer: Answer::Refused(why), .. } => Some(Err(why)),
            _ => None,
        });
        reply.unwrap()
    }

    fn said_of_sensors(&self) -> Vec<String> {
        let of = |notice: &&Notice| matches!(notice, Notice::SensorFailed { .. } | Notice::SensorBack { .. });
        self.said.iter().filter(of).map(ToString::to_string).collect()
    }
}

fn number(value: f64) -> Reading {
    Reading::Number(value)
}

fn of(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_sensor_measures_while_main_runs_from_the_end_of_one_run_to_the_next() {
    let mut config = with(vec![sensor(SensorKind::Gauge)]);
    config.process.restart.policy = RestartPolicy::Always;
    let mut script = Script::start(config);
    script.expect(&["spawn main", "spawn sensor load"]);
    script.until(3_000);
    script.prints("0.5\n");
    assert_eq!(script.readings(), [(of(&[]), number(0.5))].into());
    assert_eq!(script.measures(), 18_000);
    script.ends("main", 1);
    assert!(script.heard().contains(&"SIGTERM to all of sensor load".to_owned()));
    assert!(script.readings().is_empty(), "what main has left isn't so any more");
    script.ends_as(JOB, ExitStatus::Killed(Signal::TERM));
    script.when("spawn main");
    script.expect(&["spawn sensor load"]);
}

#[test]
fn lines_with_labels_are_values_and_take_the_place_of_those_before() {
    let mut script = Script::start(with(vec![sensor(SensorKind::Gauge)]));
    script.prints("# HELP load Load\nload{core=\"0\"} 1\nload{core=\"1\"} 2\n");
    assert_eq!(script.readings(), [(of(&[("core", "0")]), number(1.0)), (of(&[("core", "1")]), number(2.0))].into());
    script.measures();
    script.prints("load{core=\"1\"} 3");
    assert_eq!(script.readings(), [(of(&[("core", "1")]), number(3.0))].into());
}

#[test]
fn garbage_is_said_once_counted_and_shows_no_value_until_it_is_over() {
    let mut script = Script::start(with(vec![sensor(SensorKind::Gauge)]));
    script.prints("1");
    for garbage in ["load 1\nhello\n", "", "cpu 1", "load 1\nload 2", "NaN"] {
        script.measures();
        script.prints(garbage);
        assert!(script.readings().is_empty(), "{garbage}");
    }
    assert_eq!(script.said_of_sensors(), ["sensor load: line 2: `hello` has no number"]);
    let status = script.status_of_sensor();
    assert_eq!((status.succeeded, status.failed), (1, 5));
    assert!(status.error.unwrap().contains("`NaN` has no number"));
    script.measures();
    script.prints("2");
    assert_eq!(script.said_of_sensors().last().unwrap(), "sensor load works again");
    assert_eq!(script.status_of_sensor().error, None);
}

#[test]
fn a_command_that_fails_or_hangs_is_a_sensor_that_fails() {
    let mut script = Script::start(with(vec![sensor(SensorKind::Gauge)]));
    let run = script.run(JOB);
    script.send(Event::Printed { run, text: "5".to_owned() });
    script.ends(JOB, 3);
    assert_eq!(script.said_of_sensors(), ["sensor load: exited with code 3"]);
    assert!(script.readings().is_empty());
    script.measures();
    let began = script.now();
    assert_eq!(script.when("SIGTERM to all of sensor load"), began + 5_000);
    script.ends_as(JOB, ExitStatus::Killed(Signal::TERM));
    assert_eq!(script.status_of_sensor().error.as_deref(), Some("timed out after 5s"));
    assert_eq!(script.status_of_sensor().failed, 2);
}

/// What is kept adds up over many runs, and a page repeats it for each bucket.
#[test]
fn the_labels_of_a_histogram_take_a_bounded_part_of_a_page() {
    let mut script = Script::start(with(vec![sensor(SensorKind::Histogram((1..=97).map(f64::from).collect()))]));
    let value = "v".repeat(200);
    for run in 0..10 {
        let line = |n: usize| format!("load{{n=\"{run}-{n}\",a=\"{value}\"}} {n}\n");
        script.prints(&(0..100).map(line).collect::<String>());
        script.measures();
    }
    let of_labels = |labels: &Labels| labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let bytes: usize = script.readings().keys().map(of_labels).sum();
    assert!((900_000..=1024 * 1024).contains(&(bytes * 100)), "{bytes}");
    assert!(script.said_of_sensors()[0].contains("more than 1024 KiB of a page"), "{:?}", script.said_of_sensors());
    script.prints(&format!("load{{{}=\"1\"}} 1\n", "n".repeat(129)));
    assert!(script.status_of_sensor().error.unwrap().contains("more than 128 bytes"));
}

#[test]
fn ten_thousand_labels_are_a_thousand_and_that_is_said_once() {
    let mut script = Script::start(with(vec![sensor(SensorKind::Gauge)]));
    let lines: String = (0..10_000).map(|n| format!("load{{n=\"{n}\"}} {n}\n")).collect();
    for _ in 0..3 {
        script.prints(&lines);
        assert_eq!(script.readings().len(), 1_000);
        script.measures();
    }
    assert_eq!(script.said_of_sensors().len(), 1);
    assert!(script.said_of_sensors()[0].contains("more than 1000 sets of labels"), "{:?}", script.said_of_sensors());
    assert_eq!(script.status_of_sensor().succeeded, 3);
}

#[test]
fn what_is_cut_off_behind_its_bound_is_no_garbage() {
    let mut script = Script::start(with(vec![sensor(SensorKind::Gauge)]));
    let line = |n: usize| format!("load{{n=\"{n}{}\"}} {n}\n", "x".repeat(200));
    let mut text: String = (0..2_000).map(line).collect();
    text.truncate(MOST_PRINTED);
    script.prints(&text);
    assert!((500..700).contains(&script.readings().len()), "{}", script.readings().len());
    assert!(script.said_of_sensors()[0].contains("more than 128 KiB"), "{:?}", script.said_of_sensors());
}

#[test]
fn a_counters_command_prints_the_total_and_what_is_pushed_comes_on_top() {
    let mut script = Script::start(with(vec![sensor(SensorKind::Counter), pushed("jobs", SensorKind::Counter)]));
    script.prints("5");
    script.measures();
    script.prints("load_total 7");
    assert_eq!(script.readings(), [(of(&[]), number(7.0))].into());
    assert!(script.pushes(&[("jobs", "2")]).is_ok());
    assert!(script.pushes(&[("jobs", "3")]).is_ok());
    assert_eq!(*script.core.status().sensors[1].readings, [(of(&[]), number(5.0))].into());
    assert!(script.pushes(&[("jobs", "-1")]).unwrap_err().contains("less than 0"));
    script.measures();
    script.prints("-7");
    assert!(script.status_of_sensor().error.unwrap().contains("less than 0"));
}

#[test]
fn a_histogram_counts_each_observation_by_its_size() {
    let kind = SensorKind::Histogram(vec![0.1, 1.0]);
    let mut script = Script::start(with(vec![sensor(kind)]));
    script.prints("0.05\n0.1\n0.5\n");
    script.measures();
    script.prints("7\n");
    let all = Reading::Observations { sum: 7.65, count: 4, buckets: vec![2, 1] };
    assert_eq!(script.readings(), [(of(&[]), all.clone())].into());
    script.measures();
    script.prints("garbage");
    assert_eq!(script.readings(), [(of(&[]), all)].into(), "observations have been made");
}

#[test]
fn what_is_pushed_is_taken_whole_or_not_at_all() {
    let mut script = Script::start(with(vec![sensor(SensorKind::Gauge), pushed("jobs", SensorKind::Gauge)]));
    assert_eq!(script.pushes(&[("jobs{kind=\"mail\"}", "3"), ("jobs", "4")]), Ok("2 values taken".to_owned()));
    let before = script.core.status().sensors[1].readings.clone();
    for (bad, why) in [
        (("jobs", "many"), "`many` isn't a number"),
        (("jbos", "1"), "there is no sensor jbos; what is pushed may be jobs"),
        (("load", "1"), "measured by its own command"),
        (("jobs{kind=mail}", "1"), "without a quoted value"),
    ] {
        let error = script.pushes(&[("jobs", "9"), bad]).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert_eq!(script.core.status().sensors[1].readings, before);
    }
    for n in 2..1_000 {
        assert!(script.pushes(&[(&format!("jobs{{n=\"{n}\"}}"), "1")]).is_ok(), "{n}");
    }
    assert!(script.pushes(&[("jobs{n=\"new\"}", "1")]).unwrap_err().contains("takes no more"));
    assert!(script.pushes(&[("jobs", "5")]).is_ok(), "what is there is taken on");
}

#[test]
fn what_is_pushed_outlives_main_and_a_reload() {
    let mut config = with(vec![pushed("jobs", SensorKind::Counter)]);
    config.process.restart.policy = RestartPolicy::Always;
    let mut script = Script::start(config);
    script.pushes(&[("jobs", "3")]).unwrap();
    script.ends("main", 1);
    script.when("spawn main");
    let reloaded = with(vec![Sensor { help: "Jobs".to_owned(), ..pushed("jobs", SensorKind::Counter) }]);
    script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
    script.send(Event::ConfigLoaded(Ok(Box::new(reloaded.into()))));
    assert_eq!(script.readings(), [(of(&[]), number(3.0))].into());
    script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
    script.send(Event::ConfigLoaded(Ok(Box::new(with(vec![pushed("jobs", SensorKind::Gauge)]).into()))));
    assert!(script.readings().is_empty(), "a gauge isn't what a counter was");
}

#[test]
fn a_stop_measures_nothing_more_and_waits_for_no_sensor() {
    let mut script = Script::start(with(vec![sensor(SensorKind::Gauge)]));
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to all of sensor load", "SIGTERM to main"]);
    script.ends_as(JOB, ExitStatus::Killed(Signal::TERM));
    script.ends("main", 0);
    assert!(script.heard().contains(&"exit 0".to_owned()));
}
