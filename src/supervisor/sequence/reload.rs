//! A config read again: what didn't change is not touched, main is never restarted by it, and a bad one changes
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::config::election::{DEMOTE_WITHIN, leaders_stop};
use crate::config::{Backend, Config, Service, When};

use crate::supervisor::Supervisor;
use crate::supervisor::machines::check::Check;
use crate::supervisor::machines::commands::Commands;
use crate::supervisor::machines::coprocess::Coprocess;
use crate::supervisor::machines::entry::Entry;
use crate::supervisor::machines::watch::Watch;
use crate::supervisor::vocabulary::{Answer, Effect, Job, Notice, ReplyId, Step};

impl Supervisor {
    /// Reads the config again, for everybody who asks meanwhile at once.
    pub(in crate::supervisor) fn reload(&mut self, reply: Option<ReplyId>, out: &mut Vec<Effect>) {
        if self.is_stopping() {
            let refused = reply
                .map(|reply| Effect::Reply { reply, answer: Answer::Refused("the container is stopping".to_owned()) });
            return out.extend(refused);
        }
        match &mut self.reloading {
            Some(waiting) => waiting.extend(reply),
            None => {
                self.reloading = Some(reply.into_iter().collect());
                out.push(Effect::LoadConfig);
            }
        }
    }

    /// The config was read.
    pub(in crate::supervisor) fn loaded(&mut self, step: &mut Step<'_>, result: Result<Config, String>) {
        let Some(waiting) = self.reloading.take() else { return };
        let answer = match result {
            _ if self.is_stopping() => Err("the container is stopping".to_owned()),
            Err(error) => {
                step.out.push(Effect::Say(Notice::ReloadFailed { error: error.clone() }));
                Err(error)
            }
            Ok(config) => {
                let notice = self.apply(step, config);
                // A template's source may be another, its file gone: no config tells. And others may be told now.
                self.each_watch(step, |watch, context| watch.refresh(context));
                let said = notice.to_string();
                step.out.push(Effect::Say(notice));
                Ok(said)
            }
        };
        step.out.extend(waiting.into_iter().map(|reply| Effect::Reply { reply, answer: answer.clone().into() }));
    }

    fn apply(&mut self, step: &mut Step<'_>, mut new: Config) -> Notice {
        let leads_by = self.leadership.as_ref().and_then(|leadership| leadership.config().service.as_deref());
        let kept = leads_by.is_some_and(|id| keep_binding(id, &self.config, &mut new));
        let other_catalog = self.config.catalog != new.catalog;
        new.catalog = self.config.catalog.clone();
        let shortened = self.room_to_demote().is_some_and(|room| shorten_demotion(room, &self.config, &mut new));
        let old = std::mem::replace(&mut self.config, new);
        let new = &self.config;
        let (mut changed, mut later) = (Vec::new(), Vec::new());
        let note = |differs: bool, name: &str, list: &mut Vec<String>| {
            if differs {
                list.push(name.to_owned());
            }
            differs
        };
        // What applies later is said until it does, and against what runs: a change taken back is none.
        note(*self.process != new.process, "[process]", &mut later);
        if note(old.coprocesses != new.coprocesses, "[[coprocess]]", &mut changed) {
            let restarted = self.coprocesses.reconfigure(&new.coprocesses);
            later.extend(restarted.iter().map(|name| format!("coprocess {name}")));
        }
        note(old.wait_for != new.wait_for, "[[wait_for]]", &mut later);
        let election = self.leadership.as_ref().map(|leadership| &**leadership.config());
        note(election != new.election.as_ref(), "[election] (with the container)", &mut later);
        note(other_catalog, "[catalog] (with the container)", &mut later);
        let too_long = "all the time that on_demote, main and a leader's coprocesses want, which the running lease has no room for";
        note(shortened, &format!("{too_long} (with the container)"), &mut later);
        note(kept, "id, port, address and ttl of the [election]'s service (with the container)", &mut later);
        note(old.stop != new.stop, "[stop]", &mut changed);
        let hooks = note(old.hooks != new.hooks, "[hooks]", &mut changed);
        if note(old.log != new.log, "[log]", &mut changed) {
            step.out.push(Effect::Logging(new.log));
        }
        let telemetry = note(old.telemetry != new.telemetry, "[telemetry]", &mut changed);
        if note(old.control != new.control, "[control]", &mut changed) || telemetry {
            step.out.push(Effect::Endpoints { telemetry: new.telemetry.clone(), control: new.control.clone() });
        }
        let services = note(old.services != new.services, "[[service]]", &mut changed);
        let health = note(old.health != new.health, "[[health]]", &mut changed);
        let watches = note(old.watches != new.watches, "[[watch]]", &mut changed);
        let sensors = note(old.sensors != new.sensors, "[[telemetry.sensor]]", &mut changed);
        let tasks = note(old.tasks != new.tasks, "[[task]]", &mut changed);
        note(hooks && !self.take_pre_starts(), "[[hooks.pre_start]]", &mut later);
        if services {
            self.apply_services(step.out);
        }
        if health {
            self.apply_health(step);
            note(self.checks.iter().any(Check::awaits_next_start), "[[health]] notify", &mut later);
        }
        if watches {
            self.apply_watches(step);
        }
        if tasks {
            self.apply_tasks(step);
        }
        if sensors {
            self.apply_sensors(step);
        }
        if services || health {
            self.tell_catalog(step.out);
        }
        if self.watches.iter().any(|watch| watch.config().template.is_some()) {
            changed.push("templates (looked at again)".to_owned());
        }
        Notice::Reloaded { changed, later }
    }

    /// What the running election's lease leaves for stepping down, where a time ends it.
    fn room_to_demote(&self) -> Option<Duration> {
        let leadership = self.leadership.as_ref()?;
        match self.config.catalog.backend {
            Backend::Consul(_) | Backend::Etcd(_) => Some(leadership.config().pace.demote),
            Backend::None | Backend::Local { .. } => None,
        }
    }

    fn apply_services(&mut self, out: &mut Vec<Effect>) {
        let mut old = std::mem::take(&mut self.entries);
        // Also what left and isn't gone yet: its removal, on the way or to be tried again, must not meet what is told of
        // a service that comes back.
        old.append(&mut self.leaving);
        for service in self.config.registered() {
            let service = Arc::new(service.clone());
            let service = match &self.leadership {
                Some(leadership) => leadership.tagged(&service),
                None => service,
            };
            let entry = match old.iter().position(|entry| entry.service().id == service.id) {
                Some(index) => {
                    let mut entry = old.swap_remove(index);
                    entry.reconfigure(service, out);
                    entry
                }
                None => Entry::new(service),
            };
            self.entries.push(entry);
        }
        for mut entry in old {
            entry.withdraw(out);
            if !entry.is_out() {
                self.leaving.push(entry);
            }
        }
        out.push(self.services());
    }

    fn apply_health(&mut self, step: &mut Step<'_>) {
        let mut old = std::mem::take(&mut self.checks);
        let unwell: Vec<Option<String>> =
            old.iter().filter(|c| c.counts() && !c.is_passing()).map(|c| c.config().of.clone()).collect();
        for config in &self.config.health {
            let config = Arc::new(config.clone());
            let of = config.of.clone();
            let mut check = match old.iter().position(|check| check.config().name == config.name) {
                Some(index) => {
                    let mut check = old.swap_remove(index);
                    if let Some(run) = check.reconfigure(step.now, config) {
                        self.commands.cancel(step, run);
                    }
                    check
                }
                None => Check::new(config),
            };
            if check.is_idle() && self.is_up(of.as_deref()) {
                check.begin(step.now, self.reported_by(of.as_deref()));
                if !unwell.contains(&of) {
                    check.is_added();
                }
            }
            self.checks.push(check);
        }
        for mut check in old {
            if let Some(run) = check.rest() {
                self.commands.cancel(step, run);
            }
        }
    }

    /// Whether main, or a coprocess, runs and wasn't told to stop.
    fn is_up(&self, of: Option<&str>) -> bool {
        match of {
            None => self.main.is_up(),
            Some(name) => self.coprocesses.find(name).is_some_and(Coprocess::is_up),
        }
    }

    fn apply_watches(&mut self, step: &mut Step<'_>) {
        let mut old = std::mem::take(&mut self.watches);
        for config in &self.config.watches {
            let known = old.iter().position(|watch| watch.config().name == config.name);
            let known = known.map(|index| old.swap_remove(index));
            let changed = known.as_ref().is_none_or(|watch| **watch.config() != *config);
            if changed {
                let watch = || config.name.clone();
                for job in [Job::OnChange { watch: watch() }, Job::TemplateCheck { watch: watch() }] {
                    self.commands.bind(step, &job, config.when);
                }
            }
            let watch = match known {
                Some(watch) if !changed => watch,
                Some(mut watch) if watch.serves(config) => {
                    if let Some(check) = watch.reconfigure(Arc::new(config.clone()), step.out) {
                        self.commands.cancel(step, check);
                    }
                    watch
                }
                mut known => {
                    if let Some(watch) = &mut known {
                        leave(watch, &mut self.commands, step);
                    }
                    let config = Arc::new(config.clone());
                    let watch = match known {
                        Some(other) => Watch::in_place_of(other, config),
                        None => Watch::new(config),
                    };
                    step.out.push(watch.follow());
                    watch
                }
            };
            self.watches.push(watch);
        }
        old.iter_mut().for_each(|watch| leave(watch, &mut self.commands, step));
    }
}

/// A watch is no more. Its hook, should it run, may end by itself.
fn leave(watch: &mut Watch, commands: &mut Commands, step: &mut Step<'_>) {
    step.out.push(watch.unfollow());
    if let Some(check) = watch.give_up_file(step.out) {
        commands.cancel(step, check);
    }
}

/// A lease is what it was when the container began: a demotion that takes longer would end in the guard's SIGKILL. What
/// was there before keeps its part of it; whether less is left for what came than it wants.
fn shorten_demotion(room: Duration, old: &Config, new: &mut Config) -> bool {
    let demote = new.hooks.on_demote.as_ref().map_or(DEMOTE_WITHIN, |hook| hook.timeout);
    let beside = leaders_stop(&new.coprocesses);
    if beside + demote <= room {
        return false;
    }
    let beside = beside.min(leaders_stop(&old.coprocesses).max(room.saturating_sub(demote))).min(room);
    for coprocess in new.coprocesses.iter_mut().filter(|coprocess| coprocess.when == When::Leader) {
        coprocess.stop_timeout = coprocess.stop_timeout.map(|timeout| timeout.min(beside));
    }
    if let Some(hook) = &mut new.hooks.on_demote {
        hook.timeout = hook.timeout.min(room - beside);
    }
    true
}

/// The service by which a candidate leads stays under its id, where it listens, and for its `ttl`, like the election: its
/// session is bound to it, and the leader's record says its address. Whether that kept a change back.
fn keep_binding(id: &str, old: &Config, new: &mut Config) -> bool {
    let Some(before) = old.services.iter().find(|service| service.id == id) else { return false };
    let is_new = |other: &str| old.services.iter().all(|service| service.id != other);
    let renamed = new.election.as_ref().and_then(|election| election.service.clone()).filter(|other| is_new(other));
    let found = new.services.iter().position(|service| service.id == id);
    let found = found.or_else(|| new.services.iter().position(|service| Some(&service.id) == renamed.as_ref()));
    let Some(service) = found.map(|index| &mut new.services[index]) else {
        new.services.push(before.clone());
        // And whoever spoke for it speaks on.
        for check in &mut new.health {
            let before = old.health.iter().find(|before| before.name == check.name);
            check
                .services
                .extend(before.filter(|before| before.services.iter().any(|of| of == id)).map(|_| id.to_owned()));
        }
        return true;
    };
    let Service { id: _, port, address, ttl, .. } = before.clone();
    let bound = Service { id: id.to_owned(), port, address, ttl, ..service.clone() };
    if *service == bound {
        return false;
    }
    let other = std::mem::replace(service, bound).id;
    for speaks_for in new.health.iter_mut().flat_map(|check| &mut check.services).filter(|of| **of == other) {
        *speaks_for = id.to_owned();
    }
    true
}
