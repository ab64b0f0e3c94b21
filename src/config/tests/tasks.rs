//! `[[task]]`: what it comes to, and what is wrong with it.

use std::time::Duration;

use insta::assert_snapshot;

use super::{bad, good};
use crate::config::{Config, Task, TaskWhen, Timetable, Zone};

const MAIN: &str = "process.exec = [\"a\"]\n";

fn task(text: &str) -> Task {
    let config: Config = good(&format!("{MAIN}[[task]]\nname = \"backup\"\nexec = [\"backup\"]\n{text}\n"));
    config.tasks.into_iter().next().unwrap()
}

#[test]
fn a_task_comes_each_interval_and_may_take_as_long() {
    let task = task("every = \"1h\"");
    assert_eq!(task.timetable, Timetable::Every(Duration::from_secs(3600)));
    assert_eq!((task.timeout, task.jitter, task.at_start), (Duration::from_secs(3600), Duration::ZERO, false));
    assert_eq!((task.when, task.name.as_str()), (TaskWhen::Always, "backup"));
}

#[test]
fn a_crontabs_zone_is_utc_unless_it_is_named_and_its_runs_may_take_an_hour() {
    let Task { timetable: Timetable::Cron(cron, zone), timeout, .. } = task("cron = \"30 2 * * *\"") else {
        panic!("no cron")
    };
    assert_eq!((cron.to_string().as_str(), zone, timeout), ("30 2 * * *", Zone::utc(), Duration::from_secs(3600)));
    let named = task("cron = \"30 2 * * *\"\ntz = \"CET-1CEST,M3.5.0,M10.5.0/3\"\njitter = \"5m\"\ntimeout = \"2h\"");
    let Timetable::Cron(_, zone) = named.timetable else { panic!("no cron") };
    assert_eq!((zone.name(), named.timeout), ("CET-1CEST,M3.5.0,M10.5.0/3", Duration::from_secs(7200)));
}

#[test]
fn a_task_may_run_as_hooks_do_or_otherwise() {
    let of_hooks = good(&format!(
        "{MAIN}hooks.user = \"app\"\n[[task]]\nname = \"a\"\nexec = [\"a\"]\nevery = \"1m\"\nenv = {{ B = \"1\" }}\n"
    ));
    let run_as = &of_hooks.tasks[0].run_as;
    assert_eq!((run_as.user.as_deref(), run_as.env["B"].as_str()), (Some("app"), "1"));
    assert_eq!(task("every = \"1m\"\nuser = \"nobody\"").run_as.user.as_deref(), Some("nobody"));
}

#[test]
fn what_is_wrong_with_a_task_is_shown_at_its_place() {
    let report = |text: &str| bad(&format!("{MAIN}[[task]]\nname = \"b\"\nexec = [\"b\"]\n{text}\n"), "t.toml");
    let reports: Vec<String> = [
        "",
        "every = \"1h\"\ncron = \"@daily\"",
        "every = \"10ms\"",
        "every = \"1m\"\njitter = \"2m\"\ntz = \"UTC\"",
        "cron = \"0 0 30 2 *\"",
        "cron = \"*/5 * * * * *\"",
        "cron = \"30 25 * * *\"\ntz = \"Nowhere/At All\"",
        "cron = \"@daily\"\ntz = \"CET +1\"\ntimeout = \"0s\"",
        "every = \"1m\"\nwhen = \"leader\"",
        "every = \"1m\"\nwhen = \"main\"",
        "every = \"1m\"\n[[task]]\nname = \"b\"\nexec = \"b\"",
        "every = \"1m\"\n[[task]]\nevery = \"1m\"",
    ]
    .map(report)
    .into();
    assert_snapshot!(reports.join("\n----\n"));
}

#[test]
fn an_image_without_zone_data_is_told_what_to_install() {
    let text = format!("{MAIN}[[task]]\nname = \"b\"\nexec = [\"b\"]\ncron = \"@daily\"\ntz = \"Europe/Berlin\"\n");
    let context =
        crate::config::Context { variables: [("TZDIR", "/nowhere")].into_iter().collect(), hostname: String::new() };
    let report = Config::from_text(&text, "t.toml".as_ref(), None, &context).unwrap_err().to_string();
    assert!(report.contains("`tz` needs zone data, and there are none in /nowhere"), "{report}");
    assert!(report.contains("install the image's tzdata"), "{report}");
}
