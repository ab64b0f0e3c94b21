//! What is known of the jobs, written down as pilotfish's config says it.

use super::Watched;
use super::commands::kills;
use super::job::{Code, Job, When};
use super::roles::{Owner, Role, Roles};
use crate::import::command::shell_line;
use crate::import::common::{self, NO_LIMIT, Restarts};
use crate::import::document::{Document, Note, Value};
use crate::import::read::{Flag, Time, settled};
use crate::import::text::{Piece, Text};

/// How long whoever comes after a coprocess waits for it, where nothing says.
const READY_WITHIN: &str = "5m";

/// Writes jobs down; tells the watches that something happens on.
pub(super) fn jobs(jobs: &[Job], watches: &[Watched], roles: &Roles, document: &mut Document) -> Vec<String> {
    let mut writer = Writer { jobs, watches, roles, document, used: Vec::new() };
    writer.write();
    writer.used
}

struct Writer<'a> {
    jobs: &'a [Job],
    watches: &'a [Watched],
    roles: &'a Roles,
    document: &'a mut Document,
    /// Watches that something happens on.
    used: Vec<String>,
}

impl Writer<'_> {
    fn write(&mut self) {
        self.main();
        self.waits();
        let order = self.roles.pre_start.clone();
        for index in order {
            self.pre_start(index);
        }
        for (index, role) in self.roles.of.iter().enumerate() {
            let job = &self.jobs[index];
            match role {
                Role::Main | Role::PreStart(_) | Role::Advertised => {}
                // Why it is left out is told elsewhere, unless it is for want of a command.
                Role::Nothing if job.exec.is_none() => self.document.notes.extend(job.all_notes()),
                Role::Nothing => {}
                Role::Coprocess => self.coprocess(index),
                Role::Task => self.task(job),
                Role::OnChange => self.on_change(job),
                Role::Stop(hook) => self.stop_hook(job, hook),
                Role::PostStart => {
                    let hook = common::hook(job.words(), Some(limit(job)));
                    let key = self.document.one("hooks").set("post_start", hook);
                    key.notes.extend(job.all_notes());
                    key.notes.extend(job.timeout.is_none().then(|| unlimited(job)));
                }
                Role::Unhealthy(of) => self.unhealthy(job, *of),
            }
        }
        self.entries();
    }

    fn main(&mut self) {
        let Some(index) = self.roles.main else {
            if !self.jobs.is_empty() {
                let first = &self.jobs[0];
                let key = self
                    .document
                    .one("process")
                    .set("exec", Value::words(&[Text::plain("sleep"), Text::plain("infinity")]));
                key.notes.push(Note {
                    span: first.span.start..first.span.start + 1,
                    key: "jobs".to_owned(),
                    what: "none of them stays to be main, so the container lives on with this".to_owned(),
                    lost: false,
                });
            }
            return;
        };
        let job = &self.jobs[index];
        let process = self.document.one("process");
        let notes = job.all_notes();
        process.set("exec", Value::words(job.words())).notes.extend(notes);
        if job.restarting.may_be() {
            process.set("restart", job.restarting.value());
        }
        let outlived = self.jobs.iter().zip(&self.roles.of).any(|(other, role)| {
            matches!(role, Role::Task | Role::Advertised)
                || *role == Role::Coprocess && other.restarts == Restarts::Unlimited
        });
        let may_be_outlived = self.roles.of.contains(&Role::Coprocess);
        if (outlived || may_be_outlived) && job.restarts != Restarts::Unlimited {
            let what = match outlived {
                true => "the container ended when every job had, so others outlived this one; it ends with main here",
                false => {
                    "the container ended when every job had, and others may have outlived this one; it ends with main here"
                }
            };
            process.notes.push(Note {
                span: job.span.clone(),
                key: job.path.clone(),
                what: what.to_owned(),
                lost: false,
            });
        }
        if let Some(timeout) = &job.timeout {
            let what = "ContainerPilot killed it when this was over; main has no such limit";
            process.notes.push(Note {
                span: job.span.clone(),
                key: format!("{}.timeout", job.path),
                what: format!("{what} ({})", timeout.text.sample()),
                lost: true,
            });
        }
    }

    /// Services whose instances main, or what is run before it, waits for.
    fn waits(&mut self) {
        for (index, watch) in &self.roles.waits {
            let (job, watch) = (&self.jobs[*index], &self.watches[*watch]);
            self.used.push(watch.label.clone());
            let table = self.document.another("wait_for", watch.origin);
            table.set("service", Value::Text(watch.name.clone()));
            table.maybe("tag", watch.tag.clone().map(Value::Text));
            table.maybe("datacenter", watch.datacenter.clone().map(Value::Text));
            let timeout = job.when_timeout.as_ref();
            table.maybe("timeout", Some(timeout.map_or(Value::text(NO_LIMIT), Time::value)));
            table.notes.extend(watch.notes.iter().cloned());
        }
    }

    fn pre_start(&mut self, index: usize) {
        let job = &self.jobs[index];
        let patience = self.roles.patience(index, self.jobs);
        let table = self.document.another("hooks.pre_start", job.origin);
        table.set("exec", Value::words(job.words()));
        let timeout = table.set("timeout", patience.map_or_else(|| limit(job), Time::value));
        if job.timeout.is_none() && patience.is_none() {
            timeout.notes.push(unlimited(job));
        }
        if let Restarts::Times(times) = job.restarts {
            table.set("retries", Value::Integer(times));
        }
        table.notes.extend(only_once(job));
        table.notes.extend(job.all_notes());
    }

    fn coprocess(&mut self, index: usize) {
        let job = &self.jobs[index];
        let roles = self.roles;
        let before = self.before(index);
        let (limit, unlimited) = self.limit_of_all(&before);
        let table = self.document.another("coprocess", job.origin);
        table.notes.extend(job.all_notes());
        table.set("name", Value::Text(job.name.clone()));
        table.set("exec", Value::words(job.words()));
        if roles.before_catalog.contains(&index) {
            table.set("start", Value::text("before-catalog"));
        } else if roles.after_main.contains(&index) {
            table.set("start", Value::text("after-main"));
        }
        let after: Vec<Text> = roles
            .after
            .iter()
            // One that has become a hook is over by then.
            .filter(|(who, whom)| *who == index && roles.of[*whom] == Role::Coprocess)
            .map(|(_, whom)| self.jobs[*whom].name.clone())
            .collect();
        if !after.is_empty() {
            table.set("after", Value::words(&after));
        }
        if roles.awaited.contains(&index)
            && let Some(check) = &job.check
            && let Some(exec) = &check.exec
        {
            let patience = self
                .jobs
                .iter()
                .filter(|other| matches!(&other.when, When::Event { source, .. } if *source == job.label))
                .find_map(|other| other.when_timeout.as_ref());
            let timeout = patience.map_or(Value::text(READY_WITHIN), Time::value);
            let ready = vec![("exec".to_owned(), Value::words(exec)), ("timeout".to_owned(), timeout)];
            let key = table.set("ready", Value::Inline(ready));
            if patience.is_none() {
                key.notes.push(Note {
                    span: check.origin..check.origin + 1,
                    key: format!("{}.health", job.path),
                    what: format!(
                        "ContainerPilot waited for it without end; {READY_WITHIN} here, and then the container ends"
                    ),
                    lost: false,
                });
            }
        }
        // What is never started again can't be by its check.
        let by_its_check = self.roles.restarts_on_failure(index) && !job.restarting.may_be();
        let restart = if by_its_check { Restarts::Unlimited.value() } else { job.restarting.value() };
        table.set("restart", restart);
        if let Some(timeout) = &job.timeout {
            table.notes.push(Note {
                span: job.span.clone(),
                key: format!("{}.timeout", job.path),
                what: format!(
                    "ContainerPilot killed it after {}; a coprocess has no such limit",
                    timeout.text.sample()
                ),
                lost: true,
            });
        }
        let raw = job.raw.as_ref().filter(|raw| **raw != Flag::Is(false));
        table.maybe("output", raw.map(|raw| raw.either("raw", "log")));
        if !before.is_empty() {
            let commands: Vec<&[Text]> = before.iter().map(|index| self.jobs[*index].words()).collect();
            let key = table.set("pre_start", common::hook(&one_after_another(&commands), Some(limit)));
            key.notes.extend(unlimited);
            for hook in before.iter().map(|before| &self.jobs[*before]) {
                key.notes.extend(hook.all_notes());
                key.notes.extend(only_once(hook));
                if let Restarts::Times(times) = hook.restarts {
                    let what =
                        format!("was tried again {times} times; whatever fails before a coprocess is its end here");
                    key.notes.push(told(hook, "restarts", what));
                }
            }
        }
        if let Some((hook, what)) = roles.stop_of(index, self.jobs) {
            match what {
                Some(what) => table.notes.push(what),
                None => {
                    let key =
                        table.set("post_stop", common::hook(hook.words(), hook.timeout.as_ref().map(Time::value)));
                    key.notes.extend(hook.all_notes());
                    if matches!(&hook.when, When::Event { code: Code::Stopping, .. }) {
                        let what = "ran before it was told to stop there, and runs when it has ended here";
                        key.notes.push(Note {
                            span: hook.span.clone(),
                            key: hook.path.clone(),
                            what: what.to_owned(),
                            lost: true,
                        });
                    }
                }
            }
        }
    }

    fn task(&mut self, job: &Job) {
        let When::Interval(every) = &job.when else { return };
        let table = self.document.another("task", job.origin);
        table.set("name", Value::Text(job.name.clone()));
        table.set("exec", Value::words(job.words()));
        let (often, told_often) = common::often(every, &job.when_span, format!("{}.when.interval", job.path));
        table.set("every", often);
        table.notes.extend(told_often);
        table.set("at_start", Value::Bool(true));
        table.set("timeout", job.timeout.as_ref().unwrap_or(every).value());
        table.notes.extend(job.all_notes());
        let runs = match job.restarts {
            Restarts::Times(times) => Some(format!("{} times", times + 1)),
            // One that isn't said has no end.
            Restarts::Never if job.restarting.is_said && job.restarting.template.is_none() => Some("once".to_owned()),
            Restarts::Never | Restarts::Unlimited => None,
        };
        let what = |runs| format!("ContainerPilot ran it {runs} and no more; it goes on here");
        table.notes.extend(runs.map(|runs| told(job, "restarts", what(runs))));
    }

    fn on_change(&mut self, job: &Job) {
        let When::Event { source, each, code, .. } = &job.when else { return };
        let label = source.strip_prefix("watch.").unwrap_or(source);
        let Some(watch) = self.watches.iter().find(|watch| watch.label == label) else { return };
        let several = self.used.contains(&watch.label);
        self.used.push(watch.label.clone());
        let table = self.document.another("watch", job.origin);
        if several {
            let mut name = watch.name.clone().and("-");
            job.name.0.iter().for_each(|piece| name.push(piece.clone()));
            table.set("name", Value::Text(name));
        }
        table.set("service", Value::Text(watch.name.clone()));
        table.maybe("tag", watch.tag.clone().map(Value::Text));
        table.maybe("datacenter", watch.datacenter.clone().map(Value::Text));
        let on_change = table.set("on_change", common::hook(job.words(), Some(limit(job))));
        if job.timeout.is_none() {
            on_change.notes.push(unlimited(job));
        }
        table.notes.extend(watch.notes.iter().cloned());
        table.notes.extend(job.all_notes());
        let mut say = |what: &str, lost| {
            table.notes.push(Note {
                span: job.when_span.clone(),
                key: format!("{}.when", job.path),
                what: what.to_owned(),
                lost,
            });
        };
        if !source.starts_with("watch.") {
            say("ContainerPilot never ran it: the source is called `watch.NAME` there", false);
        }
        match code {
            Code::Changed if !each => {
                say("`once`: ran at the first change and never again; it runs at each here", false)
            }
            Code::Changed => {}
            _ => say("ran when there were instances, or none any more; it runs at each change here", true),
        }
    }

    fn stop_hook(&mut self, job: &Job, hook: &'static str) {
        let hooks = self.document.one("hooks");
        if hooks.keys.iter().any(|key| key.name == hook) {
            hooks.notes.push(Note {
                span: job.span.clone(),
                key: job.path.clone(),
                what: format!("there is one `{hook}`; this one is left out: {}", shown(job.words())),
                lost: true,
            });
            return;
        }
        let key = hooks.set(hook, common::hook(job.words(), job.timeout.as_ref().map(Time::value)));
        key.notes.extend(job.all_notes());
        if job.timeout.is_none() {
            key.notes
                .push(common::ends_with_the_stop(job.span.start..job.span.start + 1, format!("{}.timeout", job.path)));
        }
    }

    fn unhealthy(&mut self, job: &Job, of: usize) {
        let target = self.roles.entry_of_main(of);
        let is_main = self.roles.main == Some(target);
        let what = match self.ends_with(job, target) {
            true => "the container ends instead, as it did with main".to_owned(),
            false => format!("{} is restarted instead", self.jobs[target].label),
        };
        let what = format!("`{}` isn't run: {what}", shown(job.words()));
        let note = Note { span: job.span.clone(), key: job.path.clone(), what, lost: false };
        match is_main {
            true => self.document.one("process").notes.push(note),
            false => self.document.notes.push(note),
        }
        if is_main && !self.jobs[target].restarting.may_be() && !self.ends_with(job, target) {
            self.document.one("process").set("restart", Restarts::Unlimited.value());
        }
        self.document.notes.extend(job.all_notes());
    }

    /// Whether what is run when something is unhealthy ends the container: it kills main, which isn't started again.
    fn ends_with(&self, job: &Job, target: usize) -> bool {
        self.roles.main == Some(target) && kills(job) && !self.jobs[target].restarting.may_be()
    }

    /// What happens when a check of a job fails.
    fn on_failure(&self, index: usize) -> Option<&'static str> {
        let is_run = |(_, role): &(&Job, &Role)| **role == Role::Unhealthy(index);
        let (job, _) = self.jobs.iter().zip(&self.roles.of).find(is_run)?;
        Some(if self.ends_with(job, self.roles.entry_of_main(index)) { "exit" } else { "restart" })
    }

    /// What runs before a coprocess, in its order.
    fn before(&self, coprocess: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..self.jobs.len())
            .filter(|index| self.roles.of[*index] == Role::PreStart(Owner::Coprocess(coprocess)))
            .collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            let waits = |index: usize| {
                let source = self.jobs[index].waits_for().map(|(source, _)| source);
                left.iter().any(|other| *other != index && Some(self.jobs[*other].label.as_str()) == source)
            };
            // In a circle nobody is the first.
            let first = left.iter().position(|index| !waits(*index)).unwrap_or_default();
            order.push(left.remove(first));
        }
        order
    }

    /// How long several may take, one after the other; what is said of those that had no limit.
    fn limit_of_all(&self, of: &[usize]) -> (Value, Vec<Note>) {
        let own = |index: &usize| self.roles.patience(*index, self.jobs).or(self.jobs[*index].timeout.as_ref());
        let limits: Vec<Option<&Time>> = of.iter().map(own).collect();
        let notes = of.iter().zip(&limits).filter(|(_, limit)| limit.is_none());
        let notes = notes.map(|(index, _)| unlimited(&self.jobs[*index])).collect();
        let known = |limit: &Option<&Time>| limit.filter(|time| !time.text.is_template()).and_then(|time| time.sample);
        let value = match limits.as_slice() {
            [Some(one)] => one.value(),
            limits => match limits.iter().map(known).sum::<Option<std::time::Duration>>() {
                Some(sum) => Time::of(sum).value(),
                None => Value::text(NO_LIMIT),
            },
        };
        (value, notes)
    }

    /// What stands in the catalog, and what is checked.
    fn entries(&mut self) {
        self.entries_and_checks();
        for (index, job) in self.jobs.iter().enumerate() {
            let is_left_out = self.roles.of[index] == Role::Nothing && !self.roles.is_stop(index);
            if !is_left_out {
                self.document.notes.extend(without_counterpart(job, self.roles.of[index]));
            }
        }
        common::unique_names(self.document);
    }

    fn entries_and_checks(&mut self) {
        let advertised: Vec<usize> = (0..self.jobs.len())
            .filter(|index| self.jobs[*index].entry.is_some() && self.roles.has_entry(*index))
            .collect();
        let mut entries = Vec::new();
        for index in &advertised {
            let job = &self.jobs[*index];
            if let Some(mut entry) = job.entry.clone() {
                if self.roles.of[*index] == Role::Coprocess {
                    entry.of = Some(job.name.clone());
                }
                if self.roles.of[*index] == Role::Advertised {
                    entry.notes.extend(job.all_notes());
                }
                entries.push(entry);
            }
        }
        let several = entries.len() > 1;
        let called = common::services(entries, self.document);
        for (index, job) in self.jobs.iter().enumerate() {
            let Some(check) = &job.check else { continue };
            let (is_main, coprocess) = (self.roles.main == Some(index), self.roles.of[index] == Role::Coprocess);
            if !(is_main || coprocess || self.roles.of[index] == Role::Advertised) {
                continue;
            }
            let in_catalog = advertised.contains(&index);
            let of = coprocess.then_some(&job.name);
            let on_failure = self.on_failure(index);
            let Some(table) = check.write(&job.name, of, self.document) else { continue };
            if several && let Some(at) = advertised.iter().position(|of| *of == index) {
                table.set("services", Value::words(&called[at..=at]));
            }
            let waited_for = self.roles.awaited.contains(&index);
            // What is asked for nobody's entry says how it is, and no more; unless others wait for main.
            let speaks_for_nobody = !in_catalog && (coprocess || !advertised.is_empty());
            let is_waited_for = is_main && waited_for;
            if speaks_for_nobody && !is_waited_for {
                table.set("counts", Value::Bool(false));
            }
            table.maybe("on_failure", on_failure.map(Value::text));
        }
    }
}

/// How long a command may take.
fn limit(job: &Job) -> Value {
    job.timeout.as_ref().map_or(Value::text(NO_LIMIT), Time::value)
}

/// What is said of a hook's or a task's keys that mean nothing there.
fn without_counterpart(job: &Job, role: Role) -> Vec<Note> {
    let is_told_of = |key: &str, what: &str| told(job, key, what.to_owned());
    let mut notes = Vec::new();
    if let (Some(template), false) = (&job.restarting.template, matches!(role, Role::Main | Role::Coprocess)) {
        notes.push(told(job, "restarts", settled(template)));
    }
    if matches!(role, Role::Main | Role::Coprocess | Role::Advertised) {
        return notes;
    }
    if job.entry.is_some() {
        notes.push(is_told_of("port", "what is a hook or a task here has no entry in the catalog"));
    } else if job.check.is_some() {
        notes.push(is_told_of("health", "what is a hook or a task here isn't checked"));
    }
    if job.restarts != Restarts::Never
        && matches!(role, Role::OnChange | Role::PostStart | Role::Stop(_) | Role::Nothing)
    {
        notes.push(is_told_of("restarts", "a hook isn't started again here"));
    }
    notes
}

/// What is said of a hook that was started again without an end.
fn only_once(job: &Job) -> Option<Note> {
    let what = "ran again and again there; it runs once here".to_owned();
    let note = Note { span: job.span.clone(), key: format!("{}.restarts", job.path), what, lost: true };
    (job.restarts == Restarts::Unlimited).then_some(note)
}

/// What is said of a key that is lost.
fn told(job: &Job, key: &str, what: String) -> Note {
    Note { span: job.span.clone(), key: format!("{}.{key}", job.path), what, lost: true }
}

/// Several commands as one; a shell's, each only if the one before it has succeeded.
fn one_after_another(commands: &[&[Text]]) -> Vec<Text> {
    if let [one] = commands {
        return one.to_vec();
    }
    let mut line = Text::default();
    for (index, command) in commands.iter().enumerate() {
        if index > 0 {
            line.push(Piece::Plain(" && ".to_owned()));
        }
        shell_line(command).0.into_iter().for_each(|piece| line.push(piece));
    }
    vec![Text::plain("sh"), Text::plain("-c"), line]
}

fn unlimited(job: &Job) -> Note {
    let what = format!("ContainerPilot gave it no limit; it has {NO_LIMIT} here");
    Note { span: job.span.start..job.span.start + 1, key: format!("{}.timeout", job.path), what, lost: false }
}

fn shown(words: &[Text]) -> String {
    words.iter().map(Text::sample).collect::<Vec<_>>().join(" ")
}
