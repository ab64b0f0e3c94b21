//! What Prometheus is told: made from a [`Status`] when it asks, kept nowhere. Names and units follow its conventions
//! (prometheus.io/docs/practices/naming), the form is OpenMetrics 1.0. It opens no endpoint.

mod sensors;

use std::fs;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::clock;
use crate::supervisor::vocabulary::{ElectionStatus, Phase, ServiceReport};
use crate::supervisor::{Status, Time};

/// The form's name in HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// Every metric of this status, as OpenMetrics text.
pub fn render(status: &Status) -> String {
    let mut registry = Registry::default();
    if let Some(start) = process_start() {
        let gauge: Gauge<f64, AtomicU64> = Gauge::default();
        gauge.set(start.as_secs_f64());
        registry.register_with_unit("process_start_time", "When the agent started, since 1970", Unit::Seconds, gauge);
    }
    let pilotfish = registry.sub_registry_with_prefix("pilotfish");
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    gauges(pilotfish, "build_info", "The agent's version; always 1", [(version, 1)]);
    let phases = [Phase::Starting, Phase::Standby, Phase::Running, Phase::Stopping];
    let phases = phases.map(|phase| (vec![("phase", phase_name(phase).to_owned())], (status.phase == phase).into()));
    gauges(pilotfish, "phase", "Where in its life the container is; 1 for the phase it is in", phases);
    flag(pilotfish, "ready", "Whether main runs and every check that counts passes", status.ready());
    flag(pilotfish, "main_up", "Whether the main process runs", status.main.runs());
    flag(pilotfish, "maintenance", "Whether the container is in maintenance", status.maintenance.is_some());
    let restarts = Counter::<u64>::default();
    restarts.inc_by(status.main.restarts);
    pilotfish.register("main_restarts", "How often main was started again", restarts);

    coprocesses(pilotfish, status);
    checks(pilotfish, status);
    services(pilotfish, status);
    watches(pilotfish, status);
    tasks(pilotfish, status);
    if let Some(election) = &status.election {
        leadership(pilotfish, election);
    }
    hooks(pilotfish, status);

    sensors::about(pilotfish, &status.sensors);
    registry.register_collector(Box::new(sensors::Readings(status.sensors.clone())));
    let mut text = String::new();
    // Writing to a String can't fail, and no label here refuses to be written.
    let _ = encode(&mut text, &registry);
    text
}

fn coprocesses(pilotfish: &mut Registry, status: &Status) {
    let coprocess = |name: &str| vec![("coprocess", name.to_owned())];
    // One that is followed is known by no process id.
    let up = status.coprocesses.iter().map(|c| (coprocess(&c.name), (c.ready || c.pid.is_some()).into()));
    gauges(pilotfish, "coprocess_up", "Whether a coprocess runs", up);
    let ready = status.coprocesses.iter().map(|c| (coprocess(&c.name), c.ready.into()));
    gauges(pilotfish, "coprocess_ready", "Whether a coprocess runs and is ready", ready);
    let restarts = status.coprocesses.iter().map(|c| (coprocess(&c.name), c.restarts));
    counters(pilotfish, "coprocess_restarts", "How often a coprocess was started again", restarts);
}

fn checks(pilotfish: &mut Registry, status: &Status) {
    let check = |name: &str| ("check", name.to_owned());
    let passing = status.health.iter().map(|c| (vec![check(&c.name)], c.passing.into()));
    gauges(pilotfish, "check_passing", "Whether a health check passes", passing);
    let runs = status.health.iter().flat_map(|c| {
        [(vec![check(&c.name), result("passed")], c.passed), (vec![check(&c.name), result("failed")], c.failed)]
    });
    counters(pilotfish, "check_runs", "How often a health check was run", runs);
}

fn services(pilotfish: &mut Registry, status: &Status) {
    let service = |s: &ServiceReport| vec![("service", s.name.clone()), ("id", s.id.clone())];
    let published = status.services.iter().map(|s| (service(s), s.published.into()));
    gauges(pilotfish, "service_published", "Whether the catalog says what is so of a service", published);
    let passing = status.services.iter().map(|s| (service(s), (s.status == "passing").into()));
    gauges(pilotfish, "service_passing", "Whether a service may be used", passing);
}

fn watches(pilotfish: &mut Registry, status: &Status) {
    let watch = |name: &str| vec![("watch", name.to_owned())];
    let seen = status.watches.iter().filter_map(|w| Some((watch(&w.name), i64::try_from(w.seen?).ok()?)));
    gauges(pilotfish, "watch_instances", "How many instances or keys a watch sees", seen);
    let changes = status.watches.iter().map(|w| (watch(&w.name), w.changes));
    counters(pilotfish, "watch_changes", "How many changes a watch acted on", changes);
    let failing = status.watches.iter().map(|w| (watch(&w.name), w.error.is_some().into()));
    gauges(pilotfish, "watch_failing", "Whether the catalog can't be asked for a watch now", failing);
}

fn tasks(pilotfish: &mut Registry, status: &Status) {
    let task = |name: &str| ("task", name.to_owned());
    let runs = status.tasks.iter().flat_map(|t| {
        let of = |outcome: &str, count| (vec![task(&t.name), result(outcome)], count);
        [of("succeeded", t.succeeded), of("failed", t.failed), of("left_out", t.left_out)]
    });
    counters(pilotfish, "task_runs", "How often a task was run, or due and left out", runs);
    let running = status.tasks.iter().map(|t| (vec![task(&t.name)], t.running.into()));
    gauges(pilotfish, "task_running", "Whether a task runs now", running);
    let lasts = || status.tasks.iter().filter_map(|t| Some((vec![task(&t.name)], t.last.as_ref()?)));
    let codes = lasts().map(|(labels, last)| (labels, i64::from(last.code)));
    gauges(pilotfish, "task_last_exit_code", "The exit code of a task's last run", codes);
    let took = lasts().map(|(labels, last)| (labels, last.took.as_secs_f64()));
    seconds(pilotfish, "task_last_duration", "How long a task's last run took", took);
    let ended = lasts().map(|(labels, last)| (labels, since_1970(last.at)));
    seconds(pilotfish, "task_last_end_time", "When a task's last run ended, since 1970", ended);
}

fn leadership(pilotfish: &mut Registry, election: &ElectionStatus) {
    let name = vec![("election", election.name.clone())];
    let leads = i64::from(election.promoted);
    gauges(pilotfish, "leader", "Whether this container acts as leader", [(name.clone(), leads)]);
    let term = election.leader.as_ref().and_then(|leader| i64::try_from(leader.term.0).ok());
    let terms = term.map(|term| (name.clone(), term));
    gauges(pilotfish, "leader_term", "The term of who leads, as far as is known: the fencing token", terms);
    let missing = election.ranks.as_ref().map_or(0, |ranks| ranks.lacking() as i64);
    let what = "How many ranks it still needs to be promoted, while it holds the lock; 1 where a higher one is known";
    gauges(pilotfish, "ranks_missing", what, [(name.clone(), missing)]);
    let comes = [(name, election.leaderships)];
    counters(pilotfish, "leaderships", "How often this container came to lead", comes);
}

fn hooks(pilotfish: &mut Registry, status: &Status) {
    let runs = status.hooks.iter().flat_map(|(name, count)| {
        let hook = ("hook", name.clone());
        [(vec![hook.clone(), result("succeeded")], count.succeeded), (vec![hook, result("failed")], count.failed)]
    });
    counters(pilotfish, "hook_runs", "How often a hook was run", runs);
}

fn result(result: &str) -> (&'static str, String) {
    ("result", result.to_owned())
}

fn flag(registry: &mut Registry, name: &str, help: &str, value: bool) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value.into());
    registry.register(name, help, gauge);
}

fn gauges(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, i64)>) {
    let family = Family::<Labels, Gauge>::default();
    let mut any = false;
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
        any = true;
    }
    if any {
        registry.register(name, help, family);
    }
}

fn counters(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Counter>::default();
    let mut any = false;
    for (labels, value) in values {
        family.get_or_create(&labels).inc_by(value);
        any = true;
    }
    if any {
        registry.register(name, help, family);
    }
}

fn seconds(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
    let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    let mut any = false;
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
        any = true;
    }
    if any {
        registry.register_with_unit(name, help, Unit::Seconds, family);
    }
}

fn since_1970(time: Time) -> f64 {
    clock::calendar(time).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Standby => "standby",
        Phase::Running => "running",
        Phase::Stopping => "stopping",
    }
}

/// When this process started, since 1970: the kernel's own note (proc(5): /proc/PID/stat field 22, in ticks of 1/100 s
/// since boot, and btime of /proc/stat). `None` without /proc.
fn process_start() -> Option<Duration> {
    const TICKS: f64 = 100.0;
    let stat = fs::read("/proc/self/stat").ok()?;
    // The second field is the name in parentheses, which may hold anything, half characters too; the third follows the
    // last one.
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(stat.get(name_ends + 1..)?).ok()?;
    let ticks: f64 = fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?;
    let uptime: f64 = fs::read_to_string("/proc/uptime").ok()?.split_ascii_whitespace().next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    now.checked_sub(Duration::try_from_secs_f64(uptime - ticks / TICKS).ok()?)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::supervisor::Time;
    use crate::supervisor::vocabulary::{
        CheckStatus, CoprocessStatus, HookCount, MaintenanceStatus, RunId, TaskEnd, TaskStatus, WatchStatus,
    };

    fn status() -> Status {
        let mut status = Status { phase: Phase::Running, ..Status::default() };
        status.main.pid = Some(7);
        status.main.restarts = 3;
        status.health.push(CheckStatus {
            counts: true,
            name: "pi\"ng\nx\\".into(),
            passing: true,
            passed: 5,
            failed: 2,
            ..CheckStatus::default()
        });
        status.coprocesses.push(CoprocessStatus {
            name: "agent".to_owned(),
            state: "running".to_owned(),
            pid: Some(8),
            ready: true,
            restarts: 2,
            last_exit: None,
            error: None,
        });
        status.services.push(ServiceReport {
            id: "web-1".into(),
            name: "web".into(),
            status: "passing",
            published: true,
            error: None,
            address: None,
            address_because: None,
        });
        status.watches.push(WatchStatus {
            name: "app".into(),
            seen: Some(4),
            changes: 9,
            making_since: None,
            error: None,
        });
        let last = TaskEnd {
            run: RunId(7),
            at: Time::since_boot(Duration::from_secs(1)),
            took: Duration::from_millis(2_500),
            code: 3,
            error: None,
        };
        let task = TaskStatus {
            name: "backup".into(),
            running: true,
            next: None,
            succeeded: 4,
            failed: 1,
            left_out: 2,
            last: Some(last),
            out_of_turn: Vec::new(),
        };
        status.tasks.push(task);
        status.hooks.insert("pre_start".into(), HookCount { succeeded: 1, failed: 0 });
        status
    }

    /// Reads OpenMetrics text as strictly as `promtool check metrics` does: each sample belongs to the family declared
    /// right above it, each family has a help and a type, once, and no series comes twice.
    fn parse(text: &str) -> BTreeMap<String, f64> {
        let (mut helps, mut types, mut series) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        let mut family = String::new();
        let body = text.strip_suffix("# EOF\n").expect("ends with EOF");
        for line in body.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(helps.insert(name.to_owned()) && !help.is_empty(), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
                name.clone_into(&mut family);
            } else if !line.starts_with("# UNIT ") {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let bare = name.split('{').next().unwrap();
                let expected = if types[&family] == "counter" { format!("{family}_total") } else { family.clone() };
                assert_eq!(bare, expected, "{line}");
                assert!(bare.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
                assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
            }
        }
        assert_eq!(helps, types.keys().cloned().collect());
        series
    }

    #[test]
    fn what_is_told_is_well_formed_and_what_the_status_says() {
        let text = render(&status());
        let series = parse(&text);
        for (name, value) in [
            ("pilotfish_main_up", 1.0),
            ("pilotfish_ready", 1.0),
            ("pilotfish_main_restarts_total", 3.0),
            ("pilotfish_phase{phase=\"running\"}", 1.0),
            ("pilotfish_phase{phase=\"starting\"}", 0.0),
            ("pilotfish_check_runs_total{check=\"pi\\\"ng\\nx\\\\\",result=\"failed\"}", 2.0),
            ("pilotfish_service_published{service=\"web\",id=\"web-1\"}", 1.0),
            ("pilotfish_watch_instances{watch=\"app\"}", 4.0),
            ("pilotfish_watch_changes_total{watch=\"app\"}", 9.0),
            ("pilotfish_task_runs_total{task=\"backup\",result=\"left_out\"}", 2.0),
            ("pilotfish_task_running{task=\"backup\"}", 1.0),
            ("pilotfish_task_last_exit_code{task=\"backup\"}", 3.0),
            ("pilotfish_task_last_duration_seconds{task=\"backup\"}", 2.5),
            ("pilotfish_hook_runs_total{hook=\"pre_start\",result=\"succeeded\"}", 1.0),
        ] {
            assert_eq!(series.get(name), Some(&value), "{name}\n{text}");
        }
        let start = series["process_start_time_seconds"];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(start <= now && now - start < 86_400.0, "{start} {now}");
    }

    #[test]
    fn a_service_in_maintenance_may_not_be_used_and_the_container_is_ready() {
        let mut status = status();
        status.maintenance = Some(MaintenanceStatus { since: Time::default(), until: None, reason: None });
        status.services[0].status = "maintenance";
        let series = parse(&render(&status));
        for (name, value) in [
            ("pilotfish_maintenance", 1.0),
            ("pilotfish_ready", 1.0),
            ("pilotfish_service_passing{service=\"web\",id=\"web-1\"}", 0.0),
            ("pilotfish_service_published{service=\"web\",id=\"web-1\"}", 1.0),
        ] {
            assert_eq!(series.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn sensors_are_told_under_their_own_names_with_all_their_values() {
        use crate::config::{Sensor, SensorKind};
        use crate::supervisor::vocabulary::{Reading, SensorStatus};
        use std::sync::Arc;
        let sensor = |name: &str, kind: SensorKind, readings: Vec<(Vec<(String, String)>, Reading)>| SensorStatus {
            name: name.to_owned(),
            values: readings.len(),
            succeeded: 1,
            failed: 2,
            error: Some("garbage".to_owned()),
            config: Arc::new(Sensor {
                name: name.to_owned(),
                kind,
                help: "C:\\ and \"so\" on".to_owned(),
                command: None,
            }),
            readings: Arc::new(readings.into_iter().collect()),
        };
        let odd = vec![("path".to_owned(), "a\"b\\c\nd".to_owned())];
        let seen = Reading::Observations { sum: 7.5, count: 4, buckets: vec![2, 1] };
        let status = Status {
            sensors: vec![
                sensor(
                    "load",
                    SensorKind::Gauge,
                    vec![(odd, Reading::Number(0.5)), (Vec::new(), Reading::Number(-3.0))],
                ),
                sensor("jobs_total", SensorKind::Counter, vec![(Vec::new(), Reading::Number(7.0))]),
                sensor("seconds", SensorKind::Histogram(vec![0.1, 1.0]), vec![(Vec::new(), seen)]),
                sensor("nothing", SensorKind::Gauge, Vec::new()),
            ],
            ..status()
        };
        let text = render(&status);
        let told: Vec<&str> =
            text.lines().filter(|line| !line.contains("pilotfish_") && !line.contains("process_")).collect();
        assert_eq!(
            told,
            [
                "# HELP load C:\\\\ and \"so\" on",
                "# TYPE load gauge",
                "load -3.0",
                "load{path=\"a\\\"b\\\\c\\nd\"} 0.5",
                "# HELP jobs C:\\\\ and \"so\" on",
                "# TYPE jobs counter",
                "jobs_total 7.0",
                "# HELP seconds C:\\\\ and \"so\" on",
                "# TYPE seconds histogram",
                "seconds_sum 7.5",
                "seconds_count 4",
                "seconds_bucket{le=\"0.1\"} 2",
                "seconds_bucket{le=\"1.0\"} 3",
                "seconds_bucket{le=\"+Inf\"} 4",
                "# EOF",
            ]
        );
        assert!(text.contains("pilotfish_sensor_failing{sensor=\"load\"} 1"), "{text}");
    }

    #[test]
    fn a_fresh_status_is_told_without_empty_families() {
        let series = parse(&render(&Status::default()));
        assert_eq!(series["pilotfish_main_up"], 0.0);
        assert!(!series.keys().any(|name| name.starts_with("pilotfish_check")));
    }
}
