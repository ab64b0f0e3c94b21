//! One of everything that the reference is made of: each notice, a status in which there is something of everything, an
//! instance.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Context, Sensor, Signal};
use crate::supervisor::machines::election::DemotionReason;
use crate::supervisor::machines::election::record::Term;
use crate::supervisor::vocabulary::*;
use crate::supervisor::{Notice, Status};

pub fn an_instance() -> Instance {
    Instance {
        id: "app-web1-8080".to_owned(),
        node: Some("node1".to_owned()),
        name: "app".to_owned(),
        address: "10.0.0.5".to_owned(),
        port: 8080,
        tags: vec!["prod".to_owned()],
        meta: [("version".to_owned(), "2".to_owned())].into(),
    }
}

/// A notice of each kind, and of each name and level that one has.
pub fn samples() -> Vec<Notice> {
    let text = || "...".to_owned();
    let (span, term) = (Duration::from_secs(1), Term(7));
    let killed = ExitStatus::Killed(Signal::TERM);
    let (hook, task) = (|| Job::PreStart { number: None }, || Job::Task { task: "...".to_owned() });
    vec![
        Notice::MainStarted { pid: 7 },
        Notice::MainFailedToStart { error: text() },
        Notice::MainExited { status: killed },
        Notice::MainWentToBackground { left: 1, followed: true, by_itself: true },
        Notice::MainFollowed { pid: 7 },
        Notice::MainRestarting { after: span, attempt: 1, max: 5 },
        Notice::RestartBudgetSpent { max: 5, within: span },
        Notice::RestartOrdered,
        Notice::MainStopsItself,
        Notice::MainSignalled { signal: Signal::HUP },
        Notice::SignalForwarded { received: Signal::HUP, sent: Signal::HUP },
        Notice::Stopping { reason: text(), within: Some(span) },
        Notice::MainTold { signal: Signal::TERM },
        Notice::Killing { what: text() },
        Notice::HookStarted { hook: hook() },
        Notice::HookSucceeded { hook: hook(), took: span },
        Notice::HookFailed { hook: hook(), error: text() },
        Notice::HookTimedOut { hook: hook(), timeout: span },
        Notice::HookSkipped { hook: hook() },
        Notice::HookRetrying { hook: hook(), after: span },
        Notice::HookStarted { hook: task() },
        Notice::HookSucceeded { hook: task(), took: span },
        Notice::HookFailed { hook: task(), error: text() },
        Notice::CoprocessStarted { name: text(), pid: 8 },
        Notice::CoprocessFailedToStart { name: text(), error: text() },
        Notice::CoprocessReady { name: text(), took: span },
        Notice::CoprocessNotReady { name: text(), within: span, because: Some(text()) },
        Notice::CoprocessExited { name: text(), status: killed },
        Notice::CoprocessFollowed { name: text(), pid: 7 },
        Notice::CoprocessRestarting { name: text(), after: span, attempt: 1, max: 5 },
        Notice::CoprocessGivenUp { name: text(), why: text() },
        Notice::CoprocessTold { name: text(), signal: Signal::TERM },
        Notice::CoprocessRestartOrdered { name: text() },
        Notice::CoprocessSignalled { name: text(), signal: Signal::HUP },
        Notice::HookTimedOut { hook: task(), timeout: span },
        Notice::HookSkipped { hook: task() },
        Notice::TaskLeftOut { task: task(), because: "..." },
        Notice::SensorFailed { sensor: text(), error: text() },
        Notice::SensorBack { sensor: text() },
        Notice::Waiting { what: text() },
        Notice::Waited { what: text() },
        Notice::CheckChanged { check: text(), error: None },
        Notice::CheckChanged { check: text(), error: Some(text()) },
        Notice::CheckFailing { check: text(), error: text(), because: "..." },
        Notice::Published { service: text(), status: "passing" },
        Notice::Advertised { service: text(), address: text(), why: text() },
        Notice::Withdrawn { service: text() },
        Notice::EntryLeft {
            service: text(),
            status: Some("passing"),
            ttl: Duration::from_secs(15),
            because: Some(text()),
        },
        Notice::LockLeft { election: text(), lease: Duration::from_secs(15), because: Some(text()) },
        Notice::CatalogFailed { what: text(), error: text() },
        Notice::CatalogBack { what: text() },
        Notice::DependencyChanged { watch: text(), what: text() },
        Notice::TemplateWritten { watch: text(), destination: text() },
        Notice::TemplateSlow { watch: text(), destination: text(), after: Duration::from_secs(1) },
        Notice::TemplateKept { watch: text(), destination: text() },
        Notice::TemplateFailed { watch: text(), error: text() },
        Notice::Reloaded { changed: Vec::new(), later: Vec::new() },
        Notice::ReloadFailed { error: text() },
        Notice::Degraded { what: text() },
        Notice::WitnessLost { error: text() },
        Notice::WitnessBack,
        Notice::Demoting { why: DemotionReason::StepDown },
        Notice::HandoverFailed { to: text(), within: span },
        Notice::ReplicaRemade { error: text() },
        Notice::RanksMissing {
            known: vec![text()],
            quorum: Some(2),
            missing: vec![text()],
            ahead: Some(text()),
            never: false,
        },
        Notice::RanksKnown { known: vec![text()] },
        Notice::AcceptsLoss { term, known: vec![text()] },
        Notice::Promoting { term },
        Notice::Leads { term },
        Notice::LeaderChanged { id: Some(text()), address: Some(text()) },
        Notice::LockForeign { election: text(), key: text(), stays: true },
        Notice::FormerLifeHolds,
        Notice::IdShared { id: text(), certainly: true },
        Notice::Certified { id: text(), term },
        Notice::ElectionFailed { what: text(), error: text() },
        Notice::LeaseTooShort { usable: span, least: span },
        Notice::TermWentBack { term, seen: term },
        Notice::MaintenanceBegan { lasts: Some(span), reason: Some(text()) },
        Notice::MaintenanceEnded { because: "..." },
        Notice::Ended { code: 0, reason: text(), asked: false },
        Notice::Ended { code: 1, reason: text(), asked: false },
    ]
}

fn sensor() -> Sensor {
    let text = "[process]\nexec = [\"a\"]\n[telemetry]\nlisten = \"127.0.0.1:9090\"\n\
                [[telemetry.sensor]]\nname = \"x\"\ntype = \"gauge\"\nhelp = \"x\"\nexec = [\"x\"]\nevery = \"15s\"\n";
    let loaded = Config::from_text(text, Path::new("t.toml"), None, &Context::default());
    loaded.unwrap_or_else(|report| panic!("{report}")).config.sensors.remove(0)
}

fn a_tasks_end() -> TaskEnd {
    TaskEnd { run: RunId(7), at: Time::default(), took: Duration::ZERO, code: 1, error: Some("...".to_owned()) }
}

/// A status in which there is something of everything.
pub fn a_full_status() -> Status {
    let text = || "...".to_owned();
    Status {
        phase: Phase::Running,
        doing: text(),
        main: MainStatus {
            pid: Some(7),
            following: false,
            restarts: 1,
            last_exit: Some(ExitStatus::Killed(Signal::TERM)),
            notified: Some(text()),
            reloading: false,
            stopping: false,
        },
        coprocesses: vec![CoprocessStatus {
            name: text(),
            state: text(),
            pid: Some(8),
            ready: true,
            restarts: 1,
            last_exit: Some(ExitStatus::Exited(1)),
            error: Some(text()),
        }],
        health: vec![CheckStatus {
            name: text(),
            of: Some(text()),
            idle: false,
            counts: true,
            passing: true,
            note: text(),
            passed: 1,
            failed: 1,
        }],
        services: vec![ServiceReport {
            id: text(),
            name: text(),
            status: "passing",
            published: true,
            error: Some(text()),
            address: Some(text()),
            address_because: Some(text()),
        }],
        watches: vec![WatchStatus {
            name: text(),
            seen: Some(1),
            changes: 1,
            making_since: Some(Time::default()),
            error: Some(text()),
        }],
        tasks: vec![TaskStatus {
            name: text(),
            running: true,
            next: Some(Time::default()),
            succeeded: 1,
            failed: 1,
            left_out: 1,
            last: Some(a_tasks_end()),
            out_of_turn: vec![a_tasks_end()],
        }],
        sensors: vec![SensorStatus {
            name: text(),
            values: 1,
            succeeded: 1,
            failed: 1,
            error: Some(text()),
            config: Arc::new(sensor()),
            readings: Arc::default(),
        }],
        election: Some(ElectionStatus {
            name: text(),
            id: text(),
            role: "leader".to_owned(),
            promoted: true,
            doing: text(),
            leader: Some(LeaderStatus { id: text(), address: Some(text()), term: Term(7), acts: true }),
            leaderships: 1,
            error: Some(text()),
            ranks: Some(RanksStatus {
                known: vec![text()],
                quorum: Some(2),
                missing: vec![text()],
                ahead: Some(text()),
                own_missing: Some(text()),
                waiting_since: Time::since_boot(Duration::from_secs(1)),
            }),
            loss_accepted: true,
            witness: Some(WitnessStatus { directory: text(), stands: true, error: Some(text()) }),
        }),
        standing_by: false,
        maintenance: None,
        hooks: [(text(), HookCount { succeeded: 1, failed: 1 })].into(),
    }
}
