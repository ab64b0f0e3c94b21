//! Tasks of a role: they begin with it, and nothing of a leader's acts when another may.

use super::super::tasks::every;
use super::*;
use crate::config::{Task, TaskWhen};

fn of(when: TaskWhen) -> Config {
    Config { tasks: vec![Task { when, ..every(10_000) }], hooks: hooks(), ..candidate() }
}

fn runs_task(script: &mut Script) -> String {
    script.told();
    script.send(Event::Control { reply: ReplyId(7), request: Request::RunTask { name: "backup".to_owned() } });
    script.told().join(", ")
}

#[test]
fn a_leaders_task_begins_once_main_acts_as_leader() {
    let mut script = Script::candidate(of(TaskWhen::Leader));
    script.acted_before = Ok(ElectionPast::Unled);
    script.wins(7);
    assert_eq!(runs_task(&mut script), "reply error", "on_promote still runs");
    script.until(5_000);
    script.renewed();
    assert_eq!(script.variable("on_promote", "PILOTFISH_FIRST"), Some("1"));
    script.ends("on_promote", 0);
    script.told();
    while script.now() < 15_000 {
        script.until(script.now() + 500);
        script.renewed();
    }
    script.tells(&["spawn task backup"]);
    assert_eq!(script.variable("task backup", "PILOTFISH_ROLE"), Some("leader"));
    assert_eq!(script.variable("task backup", "PILOTFISH_TERM"), Some("7"));
    assert_eq!(script.variable("task backup", "PILOTFISH_FIRST"), Some(""), "the leader has written since it acts");
    assert_eq!(script.variable("task backup", "PILOTFISH_TASK"), Some("backup"));
}

#[test]
fn a_leaders_task_and_all_it_left_have_ended_before_the_lock_is_given_away() {
    let mut script = Script::leading(of(TaskWhen::Leader));
    assert_eq!(runs_task(&mut script), "spawn task backup, reply ok");
    step_down(&mut script);
    script.tells(&["SIGTERM to all of task backup", "reply ok"]);
    script.ends_leaving("task backup", TERMINATED);
    script.tells(&[]);
    script.group_ends("task backup");
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    assert!(script.told().contains(&"release".to_owned()));
    assert_eq!(runs_task(&mut script), "reply error", "it leads no longer");
}

#[test]
fn a_leaders_task_that_ignores_its_end_is_killed_before_the_lock_is_given_away() {
    let mut script = Script::leading(of(TaskWhen::Leader));
    runs_task(&mut script);
    step_down(&mut script);
    let began = script.now();
    script.told();
    while script.now() < began + 2_500 {
        script.until(script.now() + 100);
        script.renewed();
    }
    let told = script.told();
    assert!(told.contains(&"SIGKILL to all of task backup".to_owned()), "{told:?}");
    assert!(!told.contains(&"release".to_owned()), "{told:?}");
}

#[test]
fn a_container_that_stops_ends_its_leaders_task_before_the_lock_goes() {
    let mut script = Script::leading(of(TaskWhen::Leader));
    runs_task(&mut script);
    script.signal(Signal::TERM);
    assert_eq!(script.told()[0], "SIGTERM to all of task backup");
    script.until(script.now() + 500);
    assert!(!script.told().iter().any(|order| order == "release" || order == "SIGTERM to main"));
    script.ends_as("task backup", TERMINATED);
    script.ends("on_demote", 0);
    let told = script.told();
    assert!(told.iter().any(|order| order == "release" || order == "SIGTERM to main"), "{told:?}");
}

#[test]
fn a_leader_again_begins_its_tasks_anew() {
    let mut config = of(TaskWhen::Leader);
    config.tasks[0].at_start = true;
    let mut script = Script::candidate(config);
    script.wins(7);
    script.ends("on_promote", 0);
    assert_eq!(script.told().last().unwrap(), "spawn task backup");
    script.ends("task backup", 0);
    step_down(&mut script);
    script.ends("on_demote", 0);
    script.released();
    script.told();
    script.leads_again();
    assert!(!script.told().contains(&"spawn task backup".to_owned()));
    script.ends("on_promote", 0);
    script.tells(&["spawn task backup"]);
}

#[test]
fn a_replicas_task_is_ended_before_main_is_promoted() {
    let mut config = of(TaskWhen::Replica);
    config.hooks.on_leader_change = None;
    let mut script = Script::candidate(config);
    script.sees_lock(held("other", 9, 3));
    assert_eq!(runs_task(&mut script), "spawn task backup, reply ok");
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(9_000);
    script.told();
    script.takes(7);
    let told = script.told();
    assert!(told.contains(&"SIGTERM to all of task backup".to_owned()), "{told:?}");
    assert!(!told.contains(&"spawn on_promote".to_owned()), "{told:?}");
    script.ends_as("task backup", TERMINATED);
    script.tells(&["spawn on_promote"]);
    script.ends("on_promote", 0);
    assert_eq!(runs_task(&mut script), "reply error");
}

#[test]
fn maintenance_ends_a_leaders_task_with_its_role() {
    let mut script = Script::leading(of(TaskWhen::Leader));
    runs_task(&mut script);
    script.maintenance(None, None);
    let told = script.told();
    assert!(told.contains(&"SIGTERM to all of task backup".to_owned()), "{told:?}");
}

#[test]
fn a_standby_that_waits_for_its_turn_runs_the_tasks_of_every_role() {
    let config = Config { tasks: vec![every(10_000)], ..standby() };
    let mut script = Script::candidate(config);
    script.sees_lock(held("other", 9, 3));
    script.told();
    script.until(10_000);
    script.tells(&["spawn task backup"]);
    assert!(script.core.status().main.pid.is_none());
}

impl Script {
    /// The lease is renewed, whatever was asked.
    fn renewed(&mut self) {
        if let Some(ask) = self.try_asked("renew") {
            let alive = Renewal::Alive(held("me", 7, 7));
            self.event(ElectionEvent::Renewed { ask, result: alive });
        }
    }
}
