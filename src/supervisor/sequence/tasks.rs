//! Tasks: when each may run, and by whom else it is run or ended. They go on from main's first start until the container
//! stops; a leader's are ended before the role is left.

use std::sync::Arc;

use crate::config::{Hook, TaskWhen, Timetable, When};
use crate::supervisor::Supervisor;
use crate::supervisor::machines::commands::{JobState, Launch, Outcome};
use crate::supervisor::machines::task::{Permission, Task, TaskDue};
use crate::supervisor::sequence::duties::{Duty, keeps};
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::vocabulary::{Calendar, Effect, Notice, RunId, Step};

/// The role to which a task's run is bound.
fn role(when: TaskWhen) -> When {
    match when {
        TaskWhen::Always | TaskWhen::Healthy => When::Always,
        TaskWhen::Leader => When::Leader,
        TaskWhen::Replica => When::Replica,
    }
}

impl Supervisor {
    /// Asks how the calendar's clock goes, if anything is done by it.
    pub(in crate::supervisor) fn follow_calendar(&mut self, step: &mut Step<'_>) {
        let by_calendar = |task: &Task| matches!(task.config().timetable, Timetable::Cron(..));
        if !self.follows_calendar && self.tasks.iter().any(by_calendar) {
            self.follows_calendar = true;
            step.out.push(Effect::FollowCalendar);
        }
    }

    /// The calendar's clock is known, or was set.
    pub(in crate::supervisor) fn calendar_is_set(&mut self, step: &mut Step<'_>, calendar: Calendar) {
        let Supervisor { tasks, jitter, .. } = self;
        if let Some(old) = self.calendar.replace(calendar) {
            tasks.iter_mut().for_each(|task| task.calendar_is_set(step.now, old, calendar, jitter));
        }
    }

    /// Starts what is due.
    pub(in crate::supervisor) fn tick_tasks(&mut self, step: &mut Step<'_>) {
        self.tasks_begin |= !self.main.is_gone() || self.waits_for_its_turn();
        for index in 0..self.tasks.len() {
            let permission = self.permission(&self.tasks[index]);
            let task = &mut self.tasks[index];
            let busy = self.commands.of_job(task.job()) != JobState::Clear;
            match task.look(step.now, self.calendar, permission, busy, &mut self.jitter) {
                TaskDue::Nothing => {}
                TaskDue::Start => {
                    self.start_task(step, index, false);
                }
                TaskDue::LeftOut(because) => {
                    let task = task.job().clone();
                    step.out.push(Effect::Say(Notice::TaskLeftOut { task, because }));
                }
            }
        }
    }

    /// Whether a task may run now.
    fn permission(&self, task: &Task) -> Permission {
        let healthy = self.is_main_healthy();
        match task.config().when {
            TaskWhen::Leader if keeps(Duty::RunTasksInRole) && !self.acts_as_leader() => {
                return Permission::NotItsTurn("this container doesn't act as leader");
            }
            TaskWhen::Replica if !self.is_replica() => return Permission::NotItsTurn("this container isn't a replica"),
            _ if !self.tasks_begin => return Permission::NotItsTurn("main has never been started"),
            TaskWhen::Healthy if !healthy && !task.has_begun() => {
                return Permission::NotItsTurn("main has never been healthy");
            }
            TaskWhen::Always | TaskWhen::Leader | TaskWhen::Replica | TaskWhen::Healthy => {}
        }
        let prepared = matches!(self.life.stage(), LifeStage::Running { .. }) || self.waits_for_its_turn();
        match task.config().when {
            _ if self.maintenance.is_some() => Permission::Withheld("the container is in maintenance"),
            _ if !prepared => Permission::Withheld("main is being prepared"),
            TaskWhen::Healthy if !healthy => Permission::Withheld("main isn't healthy"),
            _ => Permission::Granted,
        }
    }

    fn start_task(&mut self, step: &mut Step<'_>, index: usize, out_of_turn: bool) -> RunId {
        let run = self.next_run();
        self.tasks[index].started(step.now, run, out_of_turn);
        let (config, job) = (self.tasks[index].config().clone(), self.tasks[index].job().clone());
        let when = role(config.when);
        let hook = Hook { run_as: config.run_as.clone(), when, ..Hook::new(config.exec.clone(), config.timeout) };
        let mut env = self.env(&job);
        env.push(("PILOTFISH_TASK".to_owned(), config.name.clone()));
        self.commands.start(step, run, Launch { job, hook, env, stdin: None });
        run
    }

    /// Somebody wants a task run out of turn; in which run it is.
    pub(in crate::supervisor) fn run_task(&mut self, step: &mut Step<'_>, name: &str) -> Result<String, String> {
        if self.is_stopping() {
            return Err("the container is stopping".to_owned());
        }
        let Some(index) = self.tasks.iter().position(|task| task.config().name == name) else {
            let names: Vec<&str> = self.tasks.iter().map(|task| task.config().name.as_str()).collect();
            return Err(match names.as_slice() {
                [] => "there is no [[task]]".to_owned(),
                names => format!("there is no task {name}; there are {}", names.join(", ")),
            });
        };
        let task = &self.tasks[index];
        match self.commands.of_job(task.job()) {
            JobState::Busy => return Err(format!("{} still runs", task.job())),
            JobState::Stuck => return Err(format!("{} can't be ended, and doesn't run beside itself", task.job())),
            JobState::Clear => {}
        }
        match self.permission(task) {
            Permission::NotItsTurn(why) => return Err(format!("{} can't run: {why}", task.job())),
            // Who asks knows of maintenance, and of how main is.
            Permission::Granted | Permission::Withheld(_) => {}
        }
        let job = task.job().clone();
        let run = self.start_task(step, index, true);
        Ok(format!("{job} started: run {}", run.0))
    }

    /// A run's process has ended, or never was.
    pub(in crate::supervisor) fn task_ended(&mut self, step: &mut Step<'_>, run: RunId, outcome: &Outcome) {
        self.tasks.iter_mut().for_each(|task| task.ended(step.now, run, outcome));
    }

    /// Nothing of a task is to go on.
    pub(in crate::supervisor) fn end_tasks(&mut self, step: &mut Step<'_>) {
        for run in self.tasks.iter().filter_map(Task::running) {
            self.commands.cancel(step, run);
        }
    }

    /// A reload has changed them.
    pub(in crate::supervisor) fn apply_tasks(&mut self, step: &mut Step<'_>) {
        let mut old = std::mem::take(&mut self.tasks);
        for config in &self.config.tasks {
            let task = match old.iter().position(|task| task.config().name == config.name) {
                Some(index) => {
                    let mut task = old.swap_remove(index);
                    if **task.config() != *config {
                        self.commands.bind(step, task.job(), role(config.when));
                        task.reconfigure(step.now, self.calendar, Arc::new(config.clone()), &mut self.jitter);
                    }
                    task
                }
                None => Task::new(Arc::new(config.clone())),
            };
            self.tasks.push(task);
        }
        for run in old.iter().filter_map(Task::running) {
            self.commands.cancel(step, run);
        }
        self.follow_calendar(step);
    }
}
