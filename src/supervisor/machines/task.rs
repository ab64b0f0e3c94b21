//! One task: when it is due, and what becomes of that when it may not run. By `every` it goes by the kernel's time, which
//! nobody sets; by `cron` by the calendar, of which it is told how that and the kernel's time go together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::config::{self, Timetable};

use crate::supervisor::machines::commands::Outcome;
use crate::supervisor::machines::jitter::Jitter;
use crate::supervisor::vocabulary::{Calendar, Job, RunId, TaskEnd, TaskStatus, Time};

/// A clock that is set by more than this was wrong, and what is due goes by the new time; by less it is taken as DST is:
/// what names its hours comes once, and isn't left out (so cron(8) of Debian).
const SET_RIGHT: SignedDuration = SignedDuration::from_hours(3);
/// What comes each hour goes by the clock as it is, but for what a time server corrects.
const CORRECTED: SignedDuration = SignedDuration::from_mins(1);

/// So many ends of runs out of turn are kept: who has ordered one looks each second whether it has ended, and a run lasts
/// longer than that takes.
const KEPT_ENDS: usize = 16;

/// A task's life: without a date before its time comes, then from one to the next.
#[derive(Debug)]
pub struct Task {
    config: Arc<config::Task>,
    job: Job,
    due: Due,
    /// It is due, and comes as soon as it may.
    held: bool,
    running: Option<Running>,
    /// That a run is left out was said since one began.
    said: bool,
    succeeded: u64,
    failed: u64,
    left_out: u64,
    last: Option<TaskEnd>,
    /// How the last runs out of turn ended, the newest last.
    out_of_turn: VecDeque<TaskEnd>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    run: RunId,
    since: Time,
    out_of_turn: bool,
}

/// When it is due.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Due {
    /// Its time hasn't come: main was never started, or the role is another one.
    Idle,
    /// Then; a run is put off by so much.
    At { at: Time, put_off: Duration },
    /// At that date.
    On { date: Timestamp, put_off: Duration },
    /// At a date, once the calendar is known.
    Undated,
    /// At no date that there will be.
    Never,
}

/// Whether a task may run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Granted,
    /// For a while it may not, and why.
    Withheld(&'static str),
    /// It is for others to run it, or for later, and why.
    NotItsTurn(&'static str),
}

/// What to do about a task now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskDue {
    /// Nothing.
    Nothing,
    /// Start it.
    Start,
    /// It was due and isn't run, which is to be said, and why.
    LeftOut(&'static str),
}

impl Task {
    /// One whose time hasn't come.
    pub fn new(config: Arc<config::Task>) -> Task {
        Task {
            job: Job::Task { task: config.name.clone() },
            config,
            due: Due::Idle,
            held: false,
            running: None,
            said: false,
            succeeded: 0,
            failed: 0,
            left_out: 0,
            last: None,
            out_of_turn: VecDeque::new(),
        }
    }

    /// As configured.
    pub fn config(&self) -> &Arc<config::Task> {
        &self.config
    }

    /// What its runs are for.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The run under way, if its process lives.
    pub fn running(&self) -> Option<RunId> {
        self.running.map(|running| running.run)
    }

    /// Whether its time has come.
    pub fn has_begun(&self) -> bool {
        self.due != Due::Idle
    }

    /// Another config for the same name: what runs goes on, and what it counted stays.
    pub fn reconfigure(
        &mut self,
        now: Time,
        calendar: Option<Calendar>,
        config: Arc<config::Task>,
        jitter: &mut Jitter,
    ) {
        self.config = config;
        if self.has_begun() {
            self.due = self.first(now, calendar, jitter);
            self.held = false;
        }
    }

    /// Looks whether it is due. `busy`: its last run, or something that left behind, is still there.
    pub fn look(
        &mut self,
        now: Time,
        calendar: Option<Calendar>,
        permission: Permission,
        busy: bool,
        jitter: &mut Jitter,
    ) -> TaskDue {
        match (permission, self.due) {
            (Permission::NotItsTurn(_), _) => {
                (self.due, self.held) = (Due::Idle, false);
                return TaskDue::Nothing;
            }
            (_, Due::Idle) if self.config.at_start => {
                self.due = Due::At { at: now, put_off: jitter.part(self.config.jitter) };
            }
            (_, Due::Idle) => self.due = self.first(now, calendar, jitter),
            (_, Due::Undated) if calendar.is_some() => self.due = self.first(now, calendar, jitter),
            (_, Due::At { .. } | Due::On { .. } | Due::Undated | Due::Never) => {}
        }
        if self.comes(calendar).is_none_or(|at| now < at) {
            return TaskDue::Nothing;
        }
        match permission {
            _ if busy => self.leave_out(now, calendar, "it still runs", jitter),
            Permission::Withheld(_) if matches!(self.due, Due::At { .. }) => {
                self.held = true;
                TaskDue::Nothing
            }
            Permission::Withheld(why) => self.leave_out(now, calendar, why, jitter),
            Permission::Granted | Permission::NotItsTurn(_) => {
                self.due = self.next(now, calendar, jitter);
                self.held = false;
                TaskDue::Start
            }
        }
    }

    fn leave_out(&mut self, now: Time, calendar: Option<Calendar>, why: &'static str, jitter: &mut Jitter) -> TaskDue {
        self.due = self.next(now, calendar, jitter);
        self.held = false;
        self.left_out += 1;
        if std::mem::replace(&mut self.said, true) { TaskDue::Nothing } else { TaskDue::LeftOut(why) }
    }

    /// When [`look`](Self::look) has something to do next.
    pub fn deadline(&self, calendar: Option<Calendar>) -> Option<Time> {
        self.comes(calendar).filter(|_| !self.held)
    }

    /// When it comes, put off as it is.
    fn comes(&self, calendar: Option<Calendar>) -> Option<Time> {
        match self.due {
            Due::At { at, put_off } => Some(at + put_off),
            Due::On { date, put_off } => Some(calendar?.time(date) + put_off),
            Due::Idle | Due::Undated | Due::Never => None,
        }
    }

    /// The first time it is due from now on.
    fn first(&self, now: Time, calendar: Option<Calendar>, jitter: &mut Jitter) -> Due {
        match &self.config.timetable {
            Timetable::Every(every) => Due::At { at: now + *every, put_off: jitter.part(self.config.jitter) },
            Timetable::Cron(..) => self.dated(calendar.map(|calendar| calendar.date(now)), jitter),
        }
    }

    /// The next time it is due, now that it was. What was held counts from now; else times keep their distance.
    fn next(&self, now: Time, calendar: Option<Calendar>, jitter: &mut Jitter) -> Due {
        match (&self.config.timetable, self.due) {
            (Timetable::Every(every), Due::At { at, .. }) if !self.held => {
                let since = now.since(at).as_nanos() % every.as_nanos();
                let left = *every - Duration::from_nanos(u64::try_from(since).unwrap_or(0));
                Due::At { at: now + left, put_off: jitter.part(self.config.jitter) }
            }
            (Timetable::Cron(..), Due::On { date, .. }) => {
                let now = calendar.map(|calendar| calendar.date(now).max(date));
                self.dated(now, jitter)
            }
            _ => self.first(now, calendar, jitter),
        }
    }

    fn dated(&self, after: Option<Timestamp>, jitter: &mut Jitter) -> Due {
        let Timetable::Cron(cron, zone) = &self.config.timetable else { return Due::Never };
        let Some(after) = after else { return Due::Undated };
        let put_off = jitter.part(self.config.jitter);
        cron.next(after, zone.time_zone()).map_or(Due::Never, |date| Due::On { date, put_off })
    }

    /// The calendar's clock was set.
    pub fn calendar_is_set(&mut self, now: Time, old: Calendar, new: Calendar, jitter: &mut Jitter) {
        let (Timetable::Cron(cron, _), Due::On { .. }) = (&self.config.timetable, self.due) else { return };
        let by = new.date(now).duration_since(old.date(now)).abs();
        if by > SET_RIGHT || (cron.is_hourly() && by > CORRECTED) {
            self.due = self.dated(Some(new.date(now)), jitter);
        }
    }

    /// A run begins, in its turn or because somebody has ordered it.
    pub fn started(&mut self, now: Time, run: RunId, out_of_turn: bool) {
        self.running = Some(Running { run, since: now, out_of_turn });
        self.said = false;
    }

    /// A run's process has ended, or never was.
    pub fn ended(&mut self, now: Time, run: RunId, outcome: &Outcome) {
        let Some(Running { since, out_of_turn, .. }) = self.running.take_if(|running| running.run == run) else {
            return;
        };
        let error = outcome.result().err();
        match error {
            None => self.succeeded += 1,
            Some(_) => self.failed += 1,
        }
        let end = TaskEnd { run, at: now, took: now.since(since), code: outcome.code(), error };
        if out_of_turn {
            if self.out_of_turn.len() >= KEPT_ENDS {
                self.out_of_turn.pop_front();
            }
            self.out_of_turn.push_back(end.clone());
        }
        self.last = Some(end);
    }

    /// For `/status`.
    pub fn status(&self, calendar: Option<Calendar>) -> TaskStatus {
        TaskStatus {
            name: self.config.name.clone(),
            running: self.running.is_some(),
            next: self.comes(calendar),
            succeeded: self.succeeded,
            failed: self.failed,
            left_out: self.left_out,
            last: self.last.clone(),
            out_of_turn: self.out_of_turn.iter().cloned().collect(),
        }
    }
}
