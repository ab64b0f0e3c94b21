//! Tasks as scripts: when they come, what becomes of what falls due while they may not, and whose clock they go by.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::script::*;
use crate::config::{Config, Context, Cron, OnFailure, RestartPolicy, Signal, Task, TaskWhen, Timetable, Zone};
use crate::supervisor::vocabulary::*;
use crate::supervisor::{Event, Notice};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

pub fn task(timetable: Timetable) -> Task {
    Task {
        name: "backup".to_owned(),
        exec: exec("backup"),
        run_as: Default::default(),
        timetable,
        at_start: false,
        jitter: Duration::ZERO,
        timeout: Duration::from_secs(30 * 60),
        when: TaskWhen::Always,
    }
}

pub fn every(millis: u64) -> Task {
    task(Timetable::Every(Duration::from_millis(millis)))
}

pub fn cron(cron: &str, zone: &str) -> Task {
    let zone = Zone::find(zone, &Context::default().variables).unwrap();
    task(Timetable::Cron(Cron::parse(cron).unwrap(), zone))
}

fn with(task: Task) -> Config {
    Config { tasks: vec![task], ..config() }
}

impl Script {
    /// The calendar shows that now.
    fn calendar(&mut self, date: &str) {
        let date: Timestamp = date.parse().unwrap();
        let booted = date - SignedDuration::from_millis(self.now() as i64);
        self.send(Event::Calendar(Calendar::booted_at(booted)));
    }

    /// Every run that starts until then ends after so long; the times at which they start.
    fn starts_until(&mut self, millis: u64, takes: u64) -> Vec<u64> {
        let mut starts = Vec::new();
        loop {
            let due = self.core.next_deadline().map(|at| at.from_boot().as_nanos().div_ceil(1_000_000) as u64);
            let Some(at) = due.filter(|at| *at <= millis) else {
                self.until(millis);
                return starts;
            };
            self.until(at);
            if self.heard().contains(&"spawn task backup".to_owned()) {
                starts.push(self.now());
                self.until(self.now() + takes);
                self.ends("task backup", 0);
                starts.extend(self.heard().contains(&"spawn task backup".to_owned()).then(|| self.now()));
            }
        }
    }

    fn left_out(&self) -> Vec<&'static str> {
        let because = |notice: &Notice| match notice {
            Notice::TaskLeftOut { because, .. } => Some(*because),
            _ => None,
        };
        self.said.iter().filter_map(because).collect()
    }

    fn status_of_task(&self) -> TaskStatus {
        self.core.status().tasks[0].clone()
    }

    fn runs_task(&mut self) -> String {
        self.heard();
        self.send(Event::Control { reply: ReplyId(7), request: Request::RunTask { name: "backup".to_owned() } });
        self.heard().join(", ")
    }
}

#[test]
fn a_task_comes_each_interval_from_mains_start_on() {
    let mut script = Script::start(with(every(10 * SECOND)));
    script.expect(&["spawn main"]);
    assert_eq!(script.starts_until(35 * SECOND, 3 * SECOND), [10_000, 20_000, 30_000]);
    let status = script.status_of_task();
    assert_eq!((status.succeeded, status.failed, status.left_out, status.running), (3, 0, 0, false));
    assert_eq!(status.next, Some(Time::since_boot(Duration::from_secs(40))));
    let last = status.last.unwrap();
    assert_eq!((last.took, last.code), (Duration::from_secs(3), 0));
    assert_eq!(last.at, Time::since_boot(Duration::from_secs(33)));
}

#[test]
fn how_a_run_out_of_turn_ended_is_known_however_many_come_in_their_turn_after_it() {
    let mut script = Script::start(with(every(10 * SECOND)));
    for run in 0..20u8 {
        assert!(script.runs_task().contains("spawn task backup"));
        script.ends("task backup", run);
    }
    assert_eq!(script.starts_until(405 * SECOND, SECOND).len(), 40);
    let status = script.status_of_task();
    let codes: Vec<u8> = status.out_of_turn.iter().map(|end| end.code).collect();
    assert_eq!(codes, Vec::from_iter(4..20), "the last sixteen");
    assert_eq!(status.last.map(|end| end.code), Some(0));
}

#[test]
fn a_first_run_at_the_start_is_followed_by_the_next_after_an_interval() {
    let mut script = Script::start(with(Task { at_start: true, ..every(10 * SECOND) }));
    script.expect(&["spawn main", "spawn task backup"]);
    script.until(2 * SECOND);
    script.ends("task backup", 0);
    assert_eq!(script.starts_until(25 * SECOND, SECOND), [10_000, 20_000]);
}

#[test]
fn a_task_waits_for_mains_first_start_and_not_for_what_becomes_of_main() {
    let mut config = with(Task { at_start: true, ..every(10 * SECOND) });
    config.hooks.pre_start = vec![pre_start(0)];
    config.process.restart.policy = RestartPolicy::Always;
    let mut script = Script::start(config);
    script.until(MINUTE / 4);
    script.expect(&["spawn pre_start"]);
    script.ends("pre_start", 0);
    script.expect(&["spawn main", "spawn task backup"]);
    script.ends("task backup", 0);
    script.ends("main", 1);
    assert!(!script.starts_until(26 * SECOND, 0).is_empty());
}

#[test]
fn a_task_longer_than_its_interval_never_runs_beside_itself() {
    let mut script = Script::start(with(every(10 * SECOND)));
    assert_eq!(script.starts_until(65 * SECOND, 25 * SECOND), [10_000, 40_000]);
    assert_eq!(script.status_of_task().left_out, 4);
    // Said once for each run that took too long.
    assert_eq!(script.left_out(), ["it still runs", "it still runs"]);
}

#[test]
fn what_a_run_left_behind_is_still_that_run() {
    let mut script = Script::start(with(every(10 * SECOND)));
    script.until(10 * SECOND);
    script.ends_leaving("task backup", ExitStatus::Exited(0));
    script.heard();
    script.until(10 * SECOND + 200);
    script.expect(&["SIGTERM to all of task backup"]);
    script.until(12 * SECOND);
    assert!(!script.heard().contains(&"spawn task backup".to_owned()));
    script.group_ends("task backup");
    script.until(20 * SECOND);
    script.expect(&["spawn task backup"]);
}

#[test]
fn a_task_past_its_timeout_is_ended_killed_and_failed() {
    let mut script = Script::start(with(Task { timeout: Duration::from_secs(4), ..every(10 * SECOND) }));
    assert_eq!(script.when("spawn task backup"), 10_000);
    assert_eq!(script.when("SIGTERM to all of task backup"), 14_000);
    assert_eq!(script.when("SIGKILL to all of task backup"), 16_000);
    script.ends_as("task backup", ExitStatus::Killed(Signal::KILL));
    let status = script.status_of_task();
    assert_eq!((status.failed, status.last.unwrap().code), (1, 124));
    assert!(script.said.iter().any(|notice| notice.name() == "task.timed_out"));
    assert_eq!(script.when("spawn task backup"), 20_000);
}

#[test]
fn a_failed_run_is_told_with_its_code_and_changes_nothing_else() {
    let mut script = Script::start(with(every(10 * SECOND)));
    script.until(10 * SECOND);
    script.heard();
    script.ends("task backup", 3);
    script.expect(&[]);
    let last = script.status_of_task().last.unwrap();
    assert_eq!((last.code, last.error.as_deref()), (3, Some("exited with code 3")));
    assert!(script.core.status().hooks.is_empty(), "a task is no hook");
}

#[test]
fn jitter_puts_each_run_off_and_doesnt_add_up() {
    let mut script = Script::start(with(Task { jitter: Duration::from_secs(10), ..every(MINUTE) }));
    let starts = script.starts_until(100 * MINUTE, 0);
    assert!((98..=100).contains(&starts.len()), "{}", starts.len());
    let off: Vec<u64> = starts.iter().enumerate().map(|(n, at)| at - (n as u64 + 1) * MINUTE).collect();
    assert!(off.iter().all(|off| *off <= 10 * SECOND), "{off:?}");
    assert!(off.iter().max().unwrap() - off.iter().min().unwrap() > 5 * SECOND, "{off:?}");
}

#[test]
fn a_crontabs_dates_are_those_of_its_zone() {
    let mut script = Script::start(with(cron("30 2 * * *", BERLIN)));
    script.expect(&["follow the calendar", "spawn main"]);
    script.calendar("2026-11-27T00:00:00Z");
    assert_eq!(script.starts_until(48 * HOUR, SECOND), [HOUR + 30 * MINUTE, 25 * HOUR + 30 * MINUTE]);
}

#[test]
fn a_task_of_a_calendar_that_is_not_known_yet_waits_for_it() {
    let mut script = Script::start(with(Task { at_start: true, ..cron("0 * * * *", "UTC") }));
    script.expect(&["follow the calendar", "spawn main", "spawn task backup"]);
    script.ends("task backup", 0);
    assert_eq!(script.core.next_deadline(), None);
    script.calendar("2026-11-27T00:30:00Z");
    assert_eq!(script.starts_until(HOUR, 0), [30 * MINUTE]);
}

#[test]
fn an_hour_that_dst_leaves_out_or_repeats_has_its_run_once() {
    let spring = |cron_of: &str| {
        let mut script = Script::start(with(cron(cron_of, BERLIN)));
        script.calendar("2026-03-29T00:00:00Z");
        script.starts_until(26 * HOUR, 0)
    };
    // 2:30 isn't there on that day: at 3:00 CEST, which is 1:00 UTC. On the next, at 0:30 UTC.
    assert_eq!(spring("30 2 * * *"), [HOUR, 24 * HOUR + 30 * MINUTE]);
    let autumn = |cron_of: &str| {
        let mut script = Script::start(with(cron(cron_of, BERLIN)));
        script.calendar("2026-10-25T00:00:00Z");
        script.starts_until(26 * HOUR, 0)
    };
    // 2:30 is there twice on that day, at 0:30 and at 1:30 UTC.
    assert_eq!(autumn("30 2 * * *"), [30 * MINUTE, 25 * HOUR + 30 * MINUTE]);
    assert_eq!(autumn("30 * * * *").len(), 26, "what comes each hour comes in both");
}

#[test]
fn a_clock_set_back_an_hour_runs_nothing_a_second_time() {
    let mut script = Script::start(with(cron("30 2 * * *", "UTC")));
    script.calendar("2026-11-27T02:00:00Z");
    assert_eq!(script.starts_until(35 * MINUTE, 0), [30 * MINUTE]);
    script.calendar("2026-11-27T01:35:00Z");
    // The next is tomorrow's, an hour later by the kernel's time.
    assert_eq!(script.starts_until(26 * HOUR, 0), [25 * HOUR + 30 * MINUTE]);
}

#[test]
fn a_clock_set_forward_an_hour_leaves_nothing_out() {
    let mut script = Script::start(with(cron("30 2 * * *", "UTC")));
    script.calendar("2026-11-27T02:00:00Z");
    script.until(10 * MINUTE);
    script.heard();
    script.calendar("2026-11-27T03:10:00Z");
    script.expect(&["spawn task backup"]);
    script.ends("task backup", 0);
    assert_eq!(script.starts_until(24 * HOUR, 0), [10 * MINUTE + 23 * HOUR + 20 * MINUTE]);
}

#[test]
fn what_comes_each_hour_goes_by_the_clock_as_it_is_set() {
    let mut script = Script::start(with(cron("*/10 * * * *", "UTC")));
    script.calendar("2026-11-27T02:00:00Z");
    assert_eq!(script.starts_until(15 * MINUTE, 0), [10 * MINUTE]);
    script.calendar("2026-11-27T01:15:00Z");
    assert_eq!(script.starts_until(30 * MINUTE, 0), [20 * MINUTE, 30 * MINUTE]);
    script.calendar("2026-11-27T05:35:00Z");
    assert_eq!(script.starts_until(46 * MINUTE, 0), [35 * MINUTE, 45 * MINUTE]);
}

#[test]
fn a_clock_that_was_wrong_by_days_is_followed_and_nothing_made_up_for() {
    let mut script = Script::start(with(cron("30 2 * * *", "UTC")));
    script.calendar("1970-01-01T00:00:00Z");
    script.until(MINUTE);
    script.calendar("2026-11-27T02:00:00Z");
    script.heard();
    assert_eq!(script.starts_until(2 * HOUR, 0), [31 * MINUTE]);
    script.calendar("2026-11-20T02:29:00Z");
    assert_eq!(script.starts_until(4 * HOUR, 0), [2 * HOUR + MINUTE]);
}

#[test]
fn a_time_servers_correction_runs_nothing_twice() {
    let mut script = Script::start(with(cron("* * * * *", "UTC")));
    script.calendar("2026-11-27T02:00:30Z");
    assert_eq!(script.starts_until(30 * SECOND, 0), [30 * SECOND]);
    script.calendar("2026-11-27T02:00:59.8Z");
    assert_eq!(script.starts_until(95 * SECOND, 0), [90 * SECOND + 200]);
}

#[test]
fn an_interval_takes_no_notice_of_the_calendar() {
    let mut script = Script::start(with(every(HOUR)));
    script.calendar("2026-11-27T02:00:00Z");
    script.until(30 * MINUTE);
    script.calendar("2026-11-28T02:00:00Z");
    assert_eq!(script.starts_until(3 * HOUR, 0), [HOUR, 2 * HOUR, 3 * HOUR]);
}

#[test]
fn a_machine_that_slept_past_several_runs_makes_up_for_one() {
    let mut script = Script::start(with(every(HOUR)));
    script.sleeps_until(5 * HOUR + 20 * MINUTE);
    script.send(Event::Tick);
    assert!(script.heard().contains(&"spawn task backup".to_owned()));
    script.ends("task backup", 0);
    assert_eq!(script.starts_until(7 * HOUR, 0), [6 * HOUR, 7 * HOUR]);
}

#[test]
fn maintenance_pauses_tasks_and_what_an_interval_owes_comes_at_its_end() {
    let mut script = Script::start(with(every(10 * MINUTE)));
    script.maintenance(None, None);
    script.until(HOUR);
    assert!(!script.heard().iter().any(|order| order.starts_with("spawn task")));
    script.maintenance_off();
    script.expect(&["reply ok", "spawn task backup"]);
    script.ends("task backup", 0);
    assert_eq!(script.starts_until(HOUR + 15 * MINUTE, 0), [HOUR + 10 * MINUTE]);
}

#[test]
fn what_falls_due_by_the_calendar_in_maintenance_is_left_out_and_said_once() {
    let mut script = Script::start(with(cron("*/10 * * * *", "UTC")));
    script.calendar("2026-11-27T02:00:00Z");
    script.maintenance(None, None);
    script.until(35 * MINUTE);
    script.maintenance_off();
    assert!(!script.heard().iter().any(|order| order.starts_with("spawn task")));
    assert_eq!(script.left_out(), ["the container is in maintenance"]);
    assert_eq!(script.status_of_task().left_out, 3);
    assert_eq!(script.when("spawn task backup"), 40 * MINUTE);
}

#[test]
fn maintenance_lets_a_run_under_way_come_to_its_end() {
    let mut script = Script::start(with(every(MINUTE)));
    script.until(MINUTE);
    script.heard();
    script.maintenance(None, None);
    script.expect(&["reply ok"]);
    script.ends("task backup", 0);
    assert_eq!(script.status_of_task().succeeded, 1);
}

#[test]
fn a_task_for_a_healthy_main_waits_for_health_and_a_run_under_way_doesnt_end_with_it() {
    let mut config = with(Task { when: TaskWhen::Healthy, at_start: true, ..every(MINUTE) });
    config.health = vec![check("ping", OnFailure::Report)];
    config.health[0].services = Vec::new();
    let mut script = Script::start(config);
    script.expect(&["spawn main", "probe"]);
    script.until(5 * MINUTE);
    script.answer("probe", Ok(()));
    script.expect(&["spawn task backup"]);
    script.until(5 * MINUTE + 5 * SECOND);
    script.answer("probe", Err("refused"));
    script.expect(&["probe"]);
    script.ends("task backup", 0);
    script.when("probe");
    script.until(6 * MINUTE + 30 * SECOND);
    script.expect(&[]);
    // It was due while main was unhealthy.
    script.answer("probe", Ok(()));
    script.expect(&["spawn task backup"]);
}

#[test]
fn a_task_for_a_healthy_main_asks_for_no_check_that_does_not_count() {
    let mut config = with(Task { when: TaskWhen::Healthy, at_start: true, ..every(MINUTE) });
    config.health = vec![check("ping", OnFailure::Report)];
    config.health[0].counts = false;
    let mut script = Script::start(config);
    assert!(script.heard().contains(&"spawn task backup".to_owned()));
}

#[test]
fn a_stop_ends_tasks_at_once_and_starts_none() {
    let mut config = with(every(SECOND));
    config.hooks.pre_stop = Some(hook("drain"));
    let mut script = Script::start(config);
    script.until(SECOND);
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to all of task backup", "spawn pre_stop"]);
    script.ends_as("task backup", ExitStatus::Killed(Signal::TERM));
    script.until(3 * SECOND);
    script.expect(&[]);
    assert_eq!(script.status_of_task().last.unwrap().code, 143);
}

#[test]
fn a_task_that_never_ends_holds_no_stop() {
    let mut script = Script::start(with(every(SECOND)));
    script.until(SECOND);
    script.signal(Signal::TERM);
    script.ends("main", 0);
    script.heard();
    let ended = script.when("exit 0");
    assert!(ended <= 11 * SECOND, "{ended}");
}

#[test]
fn a_person_runs_a_task_out_of_turn_and_its_turn_comes_all_the_same() {
    let mut script = Script::start(with(every(10 * SECOND)));
    assert_eq!(script.runs_task(), "spawn task backup, reply ok");
    assert_eq!(script.runs_task(), "reply error");
    script.ends("task backup", 0);
    assert_eq!(script.starts_until(25 * SECOND, 0), [10_000, 20_000]);
    script.maintenance(None, None);
    assert_eq!(script.runs_task(), "spawn task backup, reply ok", "who asks for it knows of maintenance");
    script.ends("task backup", 0);
    script.signal(Signal::TERM);
    assert_eq!(script.runs_task(), "reply error");
}

#[test]
fn a_task_that_there_is_not_is_refused_with_those_that_there_are() {
    let mut script = Script::start(with(every(10 * SECOND)));
    let ask = |script: &mut Script, name: &str| {
        script.core.handle(
            Time::default(),
            Event::Control { reply: ReplyId(7), request: Request::RunTask { name: name.to_owned() } },
        )
    };
    let effects = ask(&mut script, "bakcup");
    let said = format!("{effects:?}");
    assert!(said.contains("there is no task bakcup; there are backup"), "{said}");
}

#[test]
fn a_reload_keeps_what_is_unchanged_ends_what_is_gone_and_dates_the_rest_anew() {
    let mut script = Script::start(with(every(10 * SECOND)));
    let reload = |script: &mut Script, tasks: Vec<Task>| {
        script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
        script.send(Event::ConfigLoaded(Ok(Box::new(Config { tasks, ..config() }.into()))));
        script.heard()
    };
    script.until(9 * SECOND);
    reload(&mut script, vec![every(10 * SECOND)]);
    assert_eq!(script.when("spawn task backup"), 10_000);
    // What runs goes on, and the next comes by the new interval.
    assert_eq!(reload(&mut script, vec![Task { at_start: true, ..every(30 * SECOND) }]), ["load config", "reply ok"]);
    script.ends("task backup", 0);
    assert_eq!(script.when("spawn task backup"), 40_000);
    assert_eq!(script.status_of_task().succeeded, 1);
    let orders = reload(&mut script, vec![cron("@hourly", "UTC")]);
    assert_eq!(orders, ["load config", "follow the calendar", "reply ok"]);
    let orders = reload(&mut script, Vec::new());
    assert_eq!(orders, ["load config", "SIGTERM to all of task backup", "reply ok"]);
}

/// Away for longer than what was left of its time, the loop finds the end that came before.
#[test]
fn what_came_in_time_and_is_heard_late_isnt_too_late() {
    let (backup, report) = (Task { at_start: true, ..every(HOUR) }, "report".to_owned());
    let other = Task { name: report, ..backup.clone() };
    let mut script = Script::start(Config { tasks: vec![backup, other], ..config() });
    let (first, second) = (script.run("task backup"), script.run("task report"));
    let late = crate::supervisor::Time::default() + Duration::from_secs(31 * 60);
    let ended = |run| Event::Exited { run, status: ExitStatus::Exited(0) };
    script.core.hear(late, ended(first));
    script.core.handle(late, ended(second));
    let outcomes: Vec<_> = script.core.status().tasks.iter().map(|task| (task.succeeded, task.failed)).collect();
    assert_eq!(outcomes, [(1, 0), (1, 0)]);
}
