//! What each job is to pilotfish. ContainerPilot 3 has jobs that start when something happens to another one; pilotfish
//! has a main process with hooks, coprocesses, tasks and entries around it.

use super::Watched;
use super::chains;
use super::commands::{ends_the_container, leaves, restarts};
use super::job::{Code, Job, When};
use crate::import::common::Restarts;
use crate::import::document::Note;
use crate::import::read::{Notes, Time};

/// What a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Main,
    /// Run to its end before main, or before a coprocess.
    PreStart(Owner),
    Coprocess,
    Task,
    OnChange,
    /// `pre_stop`, or `post_stop`.
    Stop(&'static str),
    PostStart,
    /// Run when another turned unhealthy: whose check says so.
    Unhealthy(usize),
    /// Only in the catalog.
    Advertised,
    /// Nothing, or part of another.
    Nothing,
}

/// Whose `pre_start` it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Main,
    Coprocess(usize),
}

/// What all of them are.
#[derive(Debug, Default)]
pub(super) struct Roles {
    pub(super) main: Option<usize>,
    pub(super) of: Vec<Role>,
    /// Main's, in the order they run.
    pub(super) pre_start: Vec<usize>,
    /// Who waits for instances of which watch.
    pub(super) waits: Vec<(usize, usize)>,
    pub(super) before_catalog: Vec<usize>,
    pub(super) after_main: Vec<usize>,
    /// Which coprocess starts after which.
    pub(super) after: Vec<(usize, usize)>,
    /// Whose health others wait for.
    pub(super) awaited: Vec<usize>,
    /// Hooks of coprocesses' ends: whose, and which.
    stops: Vec<(usize, usize)>,
}

impl Roles {
    /// What is run when a coprocess stops; the note is there when nothing needs to be.
    pub(super) fn stop_of<'j>(&self, index: usize, jobs: &'j [Job]) -> Option<(&'j Job, Option<Note>)> {
        let (_, hook) = self.stops.iter().find(|(of, _)| *of == index)?;
        let hook = &jobs[*hook];
        let server = jobs[index].words().iter().any(|word| word.sample().starts_with("-server"));
        let note = leaves(hook).then(|| Note {
            span: hook.span.clone(),
            key: hook.path.clone(),
            what: match server {
                true => "`consul leave` isn't run: give the server `leave_on_terminate = true`, and it leaves when it is stopped",
                false => "`consul leave` isn't run: an agent that isn't a server leaves by itself when it is stopped",
            }
            .to_owned(),
            lost: server,
        });
        Some((hook, note))
    }

    /// Whether a job is the hook of a coprocess's end.
    pub(super) fn is_stop(&self, index: usize) -> bool {
        self.stops.iter().any(|(_, hook)| *hook == index)
    }

    /// Main itself for what only stands in the catalog for it.
    pub(super) fn entry_of_main(&self, index: usize) -> usize {
        match (self.of[index], self.main) {
            (Role::Advertised, Some(main)) => main,
            _ => index,
        }
    }

    /// How long what comes after a one-shot waits for it at most, where that is less than its own limit.
    pub(super) fn patience<'j>(&self, index: usize, jobs: &'j [Job]) -> Option<&'j Time> {
        let (Role::PreStart(_), setup) = (self.of[index], &jobs[index]) else { return None };
        let waits = |job: &&Job| job.waits_for() == Some((setup.label.as_str(), Code::ExitSuccess));
        let waiting = jobs.iter().filter(waits).filter_map(|job| job.when_timeout.as_ref());
        waiting
            .filter(|patience| match &setup.timeout {
                None => true,
                Some(own) => matches!((patience.sample, own.sample), (Some(time), Some(own)) if time <= own),
            })
            .min_by_key(|patience| patience.sample)
    }

    pub(super) fn restarts_on_failure(&self, index: usize) -> bool {
        self.of.contains(&Role::Unhealthy(index))
    }

    /// Whether a job with a port is one whose entry is kept.
    pub(super) fn has_entry(&self, index: usize) -> bool {
        matches!(self.of[index], Role::Main | Role::Coprocess | Role::Advertised)
    }
}

/// Finds out.
pub(super) fn of(jobs: &[Job], watches: &[Watched], notes: &mut Notes) -> Roles {
    let roles = Roles { of: vec![Role::Nothing; jobs.len()], ..Roles::default() };
    let mut finder = Finder { jobs, watches, sources: chains::sources(jobs), roles };
    finder.by_when(notes);
    finder.main();
    finder.chain(notes);
    finder.others(notes);
    finder.stops(notes);
    finder.once_and_in_time(notes);
    finder.roles
}

struct Finder<'a> {
    jobs: &'a [Job],
    watches: &'a [Watched],
    /// The job that each one's event is of.
    sources: Vec<Option<(usize, Code)>>,
    roles: Roles,
}

impl Finder<'_> {
    /// The job that an event is of.
    fn source(&self, index: usize) -> Option<(usize, Code)> {
        self.sources[index]
    }

    fn watch(&self, source: &str) -> Option<usize> {
        let name = source.strip_prefix("watch.").unwrap_or(source);
        self.watches.iter().position(|watch| watch.label == name)
    }

    /// Whether somebody starts when it has ended.
    fn is_awaited_end(&self, index: usize) -> bool {
        (0..self.jobs.len()).any(|other| {
            let source = self.source(other);
            other != index && matches!(source, Some((of, Code::ExitSuccess | Code::ExitFailed)) if of == index)
        })
    }

    /// Whether what a job is of has to succeed before another starts.
    fn is_a_setup(&self, index: usize) -> bool {
        let Some((setup, _)) = self.source(index) else { return false };
        (0..self.jobs.len()).any(|other| self.source(other) == Some((setup, Code::ExitSuccess)))
    }

    /// Those that aren't decided by when they start.
    fn is_process(&self, index: usize) -> bool {
        self.roles.of[index] == Role::Coprocess
    }

    /// Tasks, hooks on changes and ends; the rest are processes, for now coprocesses.
    fn by_when(&mut self, notes: &mut Notes) {
        for (index, job) in self.jobs.iter().enumerate() {
            let key = || format!("{}.when", job.path);
            if job.exec.is_none() {
                if job.entry.is_some() {
                    self.roles.of[index] = Role::Advertised;
                    if job.when != When::Startup {
                        notes.say(&job.when_span, key(), "it is in the catalog from the start here");
                    }
                } else {
                    notes.say(&job.span, job.path.clone(), "has neither `exec` nor `port`, so nothing is left of it");
                }
                continue;
            }
            self.roles.of[index] = match &job.when {
                When::Startup => Role::Coprocess,
                When::Interval(_) => Role::Task,
                When::Event { source, code, each } => {
                    let watch = self.watch(source);
                    let known = self.source(index).is_some();
                    match (code, watch, known) {
                        (Code::Changed | Code::Unhealthy, Some(_), false) => Role::OnChange,
                        // What runs again and again is no process.
                        (Code::Healthy, Some(_), false) if *each && job.entry.is_none() => Role::OnChange,
                        (Code::Healthy, Some(_), false) => Role::Coprocess,
                        (Code::Unhealthy, _, true) => Role::Nothing,
                        (Code::Stopping | Code::Stopped, ..) => Role::Nothing,
                        (Code::Healthy | Code::ExitSuccess, _, true) => Role::Coprocess,
                        (Code::ExitFailed, _, true) if ends_the_container(job) && self.is_a_setup(index) => {
                            let what = "a `pre_start` that fails ends the container here by itself";
                            notes.say(&job.when_span, key(), what);
                            Role::Nothing
                        }
                        // Whether that is main's end is told when it is known who main is.
                        (Code::ExitFailed, _, true) if ends_the_container(job) => Role::Nothing,
                        (Code::ExitFailed | Code::Changed, _, true) | (Code::Other, ..) | (Code::ExitFailed, ..) => {
                            let what = "nothing is started by this event here; left out";
                            notes.lose(&job.when_span, key(), what);
                            Role::Nothing
                        }
                        (Code::Healthy | Code::ExitSuccess, None, false) => {
                            let what = format!(
                                "there is no `{source}`: ContainerPilot never started this; it starts without it here"
                            );
                            notes.say(&job.when_span, key(), what);
                            Role::Coprocess
                        }
                        (Code::Changed | Code::Unhealthy, None, _) => {
                            let what = format!("there is no `{source}`, so ContainerPilot never ran this; left out");
                            notes.say(&job.when_span, key(), what);
                            Role::Nothing
                        }
                        (Code::ExitSuccess, Some(_), false) => {
                            notes.say(
                                &job.when_span,
                                key(),
                                "a watch has no end, so ContainerPilot never ran this; left out",
                            );
                            Role::Nothing
                        }
                    }
                }
            };
        }
    }

    /// Which process is main: one that others know by a port, that stays, that isn't there for others.
    fn main(&mut self) {
        let is_a_setup = |index: usize| self.is_awaited_end(index) && self.jobs[index].entry.is_none();
        let score = |index: usize| {
            let job = &self.jobs[index];
            let mut score = 0;
            score += if job.entry.is_some() { 8 } else { 0 };
            score += if job.check.is_some() { 2 } else { 0 };
            score += if job.restarts == Restarts::Unlimited { 2 } else { 0 };
            // What others know by a port, and has an end, is main for whom what comes after it is a hook.
            score -= match (is_a_setup(index), self.is_awaited_end(index)) {
                (true, _) => 100,
                (false, true) => 3,
                (false, false) => 0,
            };
            score -= if job.is_agent() { 50 } else { 0 };
            // What only starts when another is up is less likely the one that counts, unless that is the agent.
            score -= match self.source(index) {
                Some((of, Code::Healthy)) if !self.jobs[of].is_agent() => 4,
                _ => 0,
            };
            score
        };
        let candidates = (0..self.jobs.len()).filter(|index| self.is_process(*index));
        let best = candidates.max_by_key(|index| (score(*index), std::cmp::Reverse(*index)));
        // A task goes on for ever, and what only is in the catalog never ends.
        let outlasts = |(other, job): (usize, &Job)| {
            matches!(job.when, When::Interval(_)) || self.roles.of[other] == Role::Advertised
        };
        // An agent is beside what is only in the catalog as it is beside a process, unless it has a port of its own.
        let is_beside = |index: usize| self.jobs[index].is_agent() && self.jobs[index].entry.is_none();
        let is_for_others = |index: usize| is_a_setup(index) || is_beside(index);
        let stays = |index: usize| !is_for_others(index) || !self.jobs.iter().enumerate().any(outlasts);
        self.roles.main = best.filter(|index| stays(*index));
        if let Some(index) = self.roles.main {
            self.roles.of[index] = Role::Main;
        }
    }

    /// Goes back from main over what it waits for.
    fn chain(&mut self, notes: &mut Notes) {
        let starts: Vec<(usize, Owner)> = match self.roles.main {
            Some(main) => vec![(main, Owner::Main)],
            None => Vec::new(),
        };
        for (index, owner) in starts {
            self.back(index, owner, notes);
        }
        // Coprocesses have chains of their own.
        for index in 0..self.jobs.len() {
            if self.is_process(index) && !self.is_awaited_end(index) {
                self.back(index, Owner::Coprocess(index), notes);
            }
        }
    }

    fn back(&mut self, from: usize, owner: Owner, notes: &mut Notes) {
        let (mut index, mut owner, mut steps) = (from, owner, 0);
        while steps <= self.jobs.len() {
            steps += 1;
            if let Some((source, Code::Healthy)) = self.jobs[index].waits_for()
                && self.source(index).is_none()
                && let Some(watch) = self.watch(source)
            {
                match owner {
                    Owner::Main => self.wait_for(index, watch),
                    Owner::Coprocess(_) => self.starts_at_once(index, notes),
                }
                return;
            }
            let Some((of, code)) = self.source(index) else { return };
            match code {
                Code::ExitSuccess if self.is_process(of) => {
                    self.roles.of[of] = Role::PreStart(owner);
                    if owner == Owner::Main {
                        self.roles.pre_start.insert(0, of);
                    }
                }
                Code::Healthy if self.is_process(of) => {
                    self.note_awaited(of);
                    match owner {
                        Owner::Main => {
                            if !self.roles.before_catalog.contains(&of) {
                                self.roles.before_catalog.push(of);
                            }
                        }
                        Owner::Coprocess(who) if who != of => {
                            let early =
                                self.roles.before_catalog.contains(&who) && !self.roles.before_catalog.contains(&of);
                            self.roles.before_catalog.extend(early.then_some(of));
                            if !self.roles.after.contains(&(who, of)) {
                                self.roles.after.push((who, of));
                            }
                        }
                        Owner::Coprocess(_) => return,
                    }
                    owner = Owner::Coprocess(of);
                }
                Code::Healthy if self.roles.main == Some(of) => {
                    self.note_awaited(of);
                    if let Owner::Coprocess(who) = owner {
                        self.roles.after_main.push(who);
                    }
                    return;
                }
                Code::ExitSuccess if owner == Owner::Main && self.on_each_change(of).is_some() => {
                    // Its first run comes with the first instances, before main; each further one is the watch's.
                    let watch = self.on_each_change(of).unwrap_or_default();
                    self.roles.pre_start.insert(0, of);
                    self.wait_for(of, watch);
                    return;
                }
                Code::ExitSuccess if self.shares(of, owner) => {}
                Code::ExitSuccess | Code::Healthy => {
                    // Main's end, and what is a hook of another's already, are told of elsewhere, or wait for nobody.
                    if !matches!(self.roles.of[of], Role::Main | Role::PreStart(_) | Role::Coprocess) {
                        self.starts_at_once(index, notes);
                    }
                    return;
                }
                _ => return,
            }
            index = of;
        }
    }

    /// Settles whose hook one is that several wait for, so that none of them starts before it. Main and what starts with it
    /// come after what starts before the catalog is asked, and after main's own hooks. Tells whether it is another's now.
    fn shares(&mut self, hook: usize, owner: Owner) -> bool {
        let (Role::PreStart(before), Owner::Coprocess(who)) = (self.roles.of[hook], owner) else { return false };
        match before {
            Owner::Coprocess(other) if other == who => false,
            Owner::Coprocess(other) if self.is_early(other) => {
                // Both are early: one after the other.
                let both = self.is_early(who) && !self.roles.after.contains(&(who, other));
                self.roles.after.extend(both.then_some((who, other)));
                false
            }
            _ if self.is_early(who) => {
                self.roles.pre_start.retain(|index| *index != hook);
                self.roles.of[hook] = Role::PreStart(owner);
                true
            }
            Owner::Main => false,
            Owner::Coprocess(_) => {
                self.roles.pre_start.insert(0, hook);
                self.roles.of[hook] = Role::PreStart(Owner::Main);
                true
            }
        }
    }

    /// Whether a coprocess starts before the catalog is asked.
    fn is_early(&self, index: usize) -> bool {
        self.roles.before_catalog.contains(&index) || self.jobs[index].is_agent()
    }

    fn wait_for(&mut self, index: usize, watch: usize) {
        if !self.roles.waits.contains(&(index, watch)) {
            self.roles.waits.push((index, watch));
        }
    }

    /// The watch whose each change runs a job.
    fn on_each_change(&self, index: usize) -> Option<usize> {
        let (source, code) = self.jobs[index].waits_for()?;
        let runs = self.roles.of[index] == Role::OnChange && matches!(code, Code::Changed | Code::Healthy);
        self.watch(source).filter(|_| runs)
    }

    /// What a job waited for has no counterpart, be it for want of a process that it is of.
    fn starts_at_once(&self, index: usize, notes: &mut Notes) {
        let job = &self.jobs[index];
        let Some((source, _)) = job.waits_for() else { return };
        let what = format!("nothing but main waits for `{source}` here: it starts without it");
        let of_main = format!("nothing waits for `{source}` here: it starts without it");
        let what = if self.roles.of[index] == Role::Main { of_main } else { what };
        notes.lose(&job.when_span, format!("{}.when", job.path), what);
    }

    fn note_awaited(&mut self, index: usize) {
        if !self.roles.awaited.contains(&index) {
            self.roles.awaited.push(index);
        }
    }

    /// What is neither main nor before it.
    fn others(&mut self, notes: &mut Notes) {
        for (index, job) in self.jobs.iter().enumerate() {
            if self.is_process(index) {
                if self.is_early(index) && !self.roles.before_catalog.contains(&index) {
                    self.roles.before_catalog.push(index);
                }
                let alone = !job.restarting.may_be() && job.check.is_none() && job.entry.is_none();
                match self.source(index) {
                    Some((of, Code::Healthy))
                        if self.roles.main == Some(of) && alone && !self.roles.of.contains(&Role::PostStart) =>
                    {
                        self.roles.of[index] = Role::PostStart;
                    }
                    Some((of, Code::ExitSuccess)) if self.roles.main == Some(of) => {
                        let what = "runs whenever main has ended here, not only after success";
                        notes.say(&job.when_span, format!("{}.when", job.path), what);
                        self.roles.of[index] = Role::Stop("post_stop");
                    }
                    _ if self.is_awaited_end(index) => {
                        self.roles.of[index] = Role::PreStart(Owner::Main);
                        self.roles.pre_start.push(index);
                    }
                    _ => {}
                }
            }
            if let Some((of, Code::Healthy)) = self.source(index)
                && !self.is_checked(of)
                && job.exec.is_some()
            {
                let what = format!(
                    "`{}` has no check, so ContainerPilot never started this; it starts without waiting here",
                    self.jobs[of].label
                );
                notes.say(&job.when_span, format!("{}.when", job.path), what);
            }
            if let Some((of, Code::ExitFailed)) = self.source(index)
                && job.exec.is_some()
                && ends_the_container(job)
                && !self.is_a_setup(index)
            {
                let key = format!("{}.when", job.path);
                match self.roles.main == Some(of) && !self.jobs[of].restarting.may_be() {
                    true => notes.say(&job.when_span, key, "the container ends with main here by itself"),
                    false => notes.lose(&job.when_span, key, "nothing is started by this event here; left out"),
                }
            }
            if let Some((of, Code::Unhealthy)) = self.source(index)
                && job.exec.is_some()
            {
                let target = self.roles.entry_of_main(of);
                let runs = self.roles.main == Some(target) || self.is_process(target);
                if !self.is_checked(of) {
                    let what =
                        format!("`{}` has no check, so ContainerPilot never ran this; left out", self.jobs[of].label);
                    notes.say(&job.when_span, format!("{}.when", job.path), what);
                } else if runs && restarts(job) {
                    self.roles.of[index] = Role::Unhealthy(of);
                } else {
                    let what = format!("nothing is run when `{}` turns unhealthy here; left out", self.jobs[of].label);
                    notes.lose(&job.when_span, format!("{}.when", job.path), what);
                }
            }
        }
    }

    /// What waits has no limit of its own here but where a wait is written down, and what is started isn't started again.
    fn once_and_in_time(&self, notes: &mut Notes) {
        for (index, job) in self.jobs.iter().enumerate() {
            let (When::Event { each, .. }, false) = (&job.when, self.roles.of[index] == Role::Nothing) else {
                continue;
            };
            let (of, code) = self.source(index).map_or((None, None), |(of, code)| (Some(of), Some(code)));
            let ready = code == Some(Code::Healthy) && of.is_some_and(|of| self.is_ready_when_healthy(of));
            let waits = self.roles.waits.iter().any(|(who, _)| *who == index);
            let setup =
                of.filter(|of| code == Some(Code::ExitSuccess) && self.roles.patience(*of, self.jobs).is_some());
            if let (Some(_), Some(of)) = (&job.when_timeout, setup) {
                let what = format!("limits `{}` itself here, which it waits for", self.jobs[of].label);
                notes.say(&job.when_span, format!("{}.when.timeout", job.path), what);
            } else if job.when_timeout.is_some() && !ready && !waits && !self.is_over_sooner(index) {
                let what = "nothing limits how long it waits here";
                notes.lose(&job.when_span, format!("{}.when.timeout", job.path), what);
            }
            if *each && code == Some(Code::ExitSuccess) {
                let what = "`each`: ran whenever the other had ended well; it runs once here";
                notes.lose(&job.when_span, format!("{}.when", job.path), what);
            }
            if *each && code == Some(Code::Healthy) && of.is_some_and(|of| self.is_checked(of)) {
                let what = "`each`: ran whenever a check had passed; it runs once here";
                notes.lose(&job.when_span, format!("{}.when", job.path), what);
            }
        }
    }

    /// Whether what a job waits for has a shorter limit of its own.
    fn is_over_sooner(&self, index: usize) -> bool {
        let Some((of, Code::ExitSuccess)) = self.source(index) else { return false };
        let known = |time: &Option<Time>| time.as_ref().and_then(|time| time.sample);
        let (own, patience) = (known(&self.jobs[of].timeout), known(&self.jobs[index].when_timeout));
        let is_before = matches!(self.roles.of[of], Role::PreStart(_));
        is_before && matches!((own, patience), (Some(own), Some(patience)) if own <= patience)
    }

    /// Whether a coprocess has a `ready`, which has a limit.
    fn is_ready_when_healthy(&self, index: usize) -> bool {
        self.is_process(index) && self.roles.awaited.contains(&index) && self.is_checked(index)
    }

    fn is_checked(&self, index: usize) -> bool {
        self.jobs[index].check.as_ref().is_some_and(|check| check.exec.is_some())
    }

    /// What is run when something stops.
    fn stops(&mut self, notes: &mut Notes) {
        for (index, job) in self.jobs.iter().enumerate() {
            let Some((source, code @ (Code::Stopping | Code::Stopped))) = job.waits_for() else { continue };
            if job.exec.is_none() {
                continue;
            }
            let key = format!("{}.when", job.path);
            let Some((of, _)) = self.source(index) else {
                let what = format!("there is no `{source}`, so ContainerPilot never ran this; left out");
                notes.say(&job.when_span, key, what);
                continue;
            };
            if of == index {
                notes.say(&job.when_span, key, "it waits for its own end, so ContainerPilot never ran it; left out");
                continue;
            }
            let of = self.roles.entry_of_main(of);
            let hook = if code == Code::Stopping { "pre_stop" } else { "post_stop" };
            if self.roles.main == Some(of) {
                self.roles.of[index] = Role::Stop(hook);
            } else if self.is_process(of) && !self.roles.stops.iter().any(|(whose, _)| *whose == of) {
                self.roles.stops.push((of, index));
            } else if matches!(self.roles.of[of], Role::Stop("pre_stop")) && code == Code::Stopped {
                // A chain of stop hooks: after the one before main's end comes the one behind it.
                self.roles.of[index] = Role::Stop("post_stop");
            } else {
                notes.lose(&job.when_span, key, format!("nothing is run when `{source}` stops; left out"));
            }
        }
    }
}
