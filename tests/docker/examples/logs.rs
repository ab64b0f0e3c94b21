//! config-examples/logs: what of an application's lines comes to the collector while both ends of the way are ended and killed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::SOON;
use crate::support::compose::{Project, docker, within};

/// How often each of the application's lines has been collected, by its number.
fn collected(project: &Project) -> BTreeMap<u64, u32> {
    let file = docker(&["exec", &project.container("app"), "hostname"]);
    let lines = project.exec("collector", &["cat", &format!("/var/log/collected/{file}.log")]);
    let mut counts = BTreeMap::new();
    for line in lines.lines() {
        if let Some(number) = line.rsplit("line ").next().and_then(|number| number.trim().parse().ok()) {
            *counts.entry(number).or_default() += 1;
        }
    }
    counts
}

/// The last line that was written.
fn written(project: &Project) -> u64 {
    let last = project.exec("app", &["tail", "-n", "1", "/var/log/app/app.log"]);
    last.strip_prefix("line ").and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Waits until what has been written by now is collected.
fn catches_up(project: &Project, after: &str) {
    let by_now = written(project);
    within(project, SOON, after, || collected(project).contains_key(&by_now).then_some(()));
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn no_line_is_lost_while_the_collector_is_stopped_and_killed_and_so_is_the_shipper() {
    let project = Project::up("logs", None);
    within(&project, SOON, "lines come", || (collected(&project).len() > 100).then_some(()));
    let collector = project.container("collector");

    docker(&["stop", &collector]);
    std::thread::sleep(Duration::from_secs(3));
    docker(&["start", &collector]);
    catches_up(&project, "the collector was stopped and started");

    docker(&["kill", &collector]);
    std::thread::sleep(Duration::from_secs(3));
    docker(&["start", &collector]);
    catches_up(&project, "the collector was killed and started");

    project.exec("app", &["pilotfish", "signal", "KILL", "rsyslog"]);
    catches_up(&project, "the shipper was killed");

    docker(&["restart", &project.container("app")]);
    catches_up(&project, "the application was restarted");

    let counts = collected(&project);
    let missing: Vec<u64> = (1..=*counts.keys().last().unwrap()).filter(|line| !counts.contains_key(line)).collect();
    let again: u32 = counts.values().map(|count| count - 1).sum();
    println!("logs: {} lines, {} missing, {again} twice", counts.len(), missing.len());
    assert!(missing.is_empty(), "{missing:?}\n{}", project.last_words());
}
