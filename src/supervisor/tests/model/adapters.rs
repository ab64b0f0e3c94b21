//! The adapters, played: each order carried out, and answered as they owe the core.

use std::time::Duration;

use crate::config::{Coprocess, Signal, When};
use crate::supervisor::machines::election::event::{Acquisition, ElectionEvent, Renewal, StoreRequest};
use crate::supervisor::vocabulary::*;
use crate::supervisor::{Effect, Event, Time};

use super::super::script::advertised;
use super::Lie;
use super::container::{Command, Guard, Main, Starting};
use super::world::{Mail, World};

impl World {
    /// The loop does one thing: an order of the last event's, or the next event.
    pub fn turn(&mut self, index: usize) {
        let now = self.now;
        let container = &mut self.containers[index];
        if let Some(effect) = container.orders.pop_front() {
            return self.perform(index, effect);
        }
        let Some(event) = container.events.pop_front() else { return };
        let told = self.play.tell.then(|| format!("{event:?}"));
        let effects = container.core.handle(Time::since_boot(now), event);
        container.orders.extend(effects);
        let id = container.id.clone();
        self.tell(|| format!("{id} hears {}", told.unwrap_or_default()));
    }

    fn perform(&mut self, index: usize, effect: Effect) {
        if !matches!(effect, Effect::Say(_)) {
            let id = self.containers[index].id.clone();
            self.tell(|| format!("{id}: {effect:?}"));
        }
        let (now, life) = (self.now, self.lives[index]);
        match effect {
            Effect::ReadFiles { run, .. } => self.containers[index].reading = Some((run, now + self.random.span())),
            Effect::SpawnMain { run, env, .. } => self.main_is_ordered(index, run, &env),
            Effect::Spawn { run, job, env, .. } => self.spawn(index, run, job, &env),
            Effect::SpawnCoprocess { run, coprocess, env } => self.spawn_coprocess(index, run, &coprocess, &env),
            Effect::Kill { target, signal } => self.containers[index].kill(now, target, signal),
            Effect::Forward { target, signal, .. } => {
                let heeded = !self.random.once_in(3);
                let container = &mut self.containers[index];
                container.events.push_back(Event::Forwarded { signal, heeded });
                match target {
                    Target::Process(_) | Target::Group(_) if !heeded => {
                        container.main_ends(ExitStatus::Killed(signal), 0);
                    }
                    _ => {}
                }
            }
            Effect::CountStrays { .. } => {
                let unseen = self.play.lies.contains(&Lie::StraysUnseen);
                let container = &mut self.containers[index];
                let left = if unseen { 0 } else { container.strays.len() };
                container.counting = left > 0;
                container.events.push_back(Event::Strays { left });
            }
            // Nothing was there before the agent.
            Effect::CountRest => self.containers[index].events.push_back(Event::Strays { left: 0 }),
            Effect::FollowStray { run, .. } => self.follow(index, run),
            Effect::Probe { run, .. } => self.containers[index].probes.push_back(run),
            Effect::Publish(registration) => {
                let service = registration.service.id.clone();
                self.hears(index, Event::Published { service, result: Ok(advertised()) });
            }
            Effect::Withdraw { service } => {
                self.hears(index, Event::Withdrawn { service: service.id.clone(), result: Ok(()) });
            }
            Effect::JoinElection(_) => self.containers[index].joined = true,
            Effect::AskWhetherLed { term, .. } => {
                let led = has_anybody_led(self.store.acting.as_deref().map(str::as_bytes));
                let cut = self.containers[index].cut_until.is_some();
                let result = if cut { Err("no answer".to_owned()) } else { Ok(led) };
                self.hears(index, Event::LedBefore { term, result });
            }
            effect @ (Effect::AskWhoActed { .. } | Effect::TellActing { .. }) => self.marks(index, effect),
            Effect::Follow { follow: Follow::Acting, .. } => {
                self.containers[index].looks_at_leader = true;
                self.show_acting(index);
            }
            Effect::Unfollow { follow: Follow::Acting } => self.containers[index].looks_at_leader = false,
            Effect::Follow { follow: Follow::Watch(_), .. } => self.containers[index].is_watching = true,
            Effect::Unfollow { follow: Follow::Watch(_) } => self.containers[index].is_watching = false,
            Effect::Guard { deadline } => {
                let deadline = deadline.filter(|at| *at != Time::NEVER);
                self.containers[index].page = deadline.map(Time::from_boot);
            }
            Effect::Elect(order) => self.mail.push(Mail::To(index, life, order)),
            Effect::StartGuard => {
                self.containers[index].guard = Guard::Stands;
                self.hears(index, Event::Guard { stands: true });
            }
            Effect::LoadConfig => {
                let config = Box::new(self.play.configs[index].clone().into());
                self.hears(index, Event::ConfigLoaded(Ok(config)));
            }
            // A scheduler starts it again.
            Effect::Exit { .. } => self.begin(index),
            Effect::Hint { .. }
            | Effect::Follow { .. }
            | Effect::Unfollow { .. }
            | Effect::Render { .. }
            | Effect::Install { .. }
            | Effect::Discard(_)
            | Effect::Services(_)
            | Effect::Endpoints { .. }
            | Effect::FollowCalendar
            | Effect::Logging(_)
            | Effect::Reply { .. }
            | Effect::Key { .. }
            | Effect::Suspend
            | Effect::EndGroup { .. }
            | Effect::TellOuter(_)
            | Effect::Signal { .. }
            | Effect::Say(_) => {}
        }
    }

    /// Main, or a hook, is told that it is the first that leads. Who is too late ends before they begin.
    fn is_called_first(&mut self, index: usize, env: &[(String, String)]) {
        let first = variable(env, "FIRST") == Some("1") && !self.is_too_late(index);
        let Some(term) = term(env).filter(|_| first) else { return };
        if self.led.iter().any(|led| *led != term) {
            self.breaks(format!("term {term} is called the first, after somebody has led"));
        }
    }

    /// What stands beside the lock, to who looks at it.
    pub fn show_acting(&mut self, index: usize) {
        if self.containers[index].looks_at_leader {
            let seen = match self.containers[index].cut_until {
                Some(_) => Err("no answer".to_owned()),
                None => Ok(Observation::Key(self.store.acting.clone())),
            };
            self.hears(index, Event::Observed { follow: Follow::Acting, seen });
        }
    }

    pub fn hears(&mut self, index: usize, event: Event) {
        self.containers[index].events.push_back(event);
    }

    fn main_is_ordered(&mut self, index: usize, run: RunId, env: &[(String, String)]) {
        self.is_called_first(index, env);
        let leads = variable(env, "ROLE") == Some("leader");
        let container = &self.containers[index];
        if !container.prepared[usize::from(leads)] {
            let role = if leads { "leader" } else { "replica" };
            let promise = format!("{}'s main starts as {role}, for which nothing has prepared it", container.id);
            return self.breaks(promise);
        }
        if container.main.is_some() || container.starting.is_some() || !container.strays.is_empty() {
            let lies = self.play.lies.contains(&Lie::StraysUnseen);
            if !lies {
                return self.breaks(format!("{}'s main is started beside another", container.id));
            }
        }
        // In role mode main acts once it is promoted.
        let acts = term(env).filter(|_| leads && self.play.standby);
        let at = self.now + self.random.span();
        self.containers[index].starting = Some(Starting { run, acts, at });
    }

    /// Main is forked, which had to wait for a slow disk or a busy machine.
    pub fn fork(&mut self, index: usize) {
        let obeys_within = self.obeys_within();
        let late = self.is_too_late(index);
        let container = &mut self.containers[index];
        let Some(Starting { run, acts, .. }) = container.starting.take() else { return };
        container.events.push_back(Event::Spawned { run, pid: 100 });
        container.main = Some(Main { run, acts, ends_at: None, obeys_within });
        if !late {
            self.led.extend(acts);
        }
        let container = &mut self.containers[index];
        if late {
            container.main_ends(ExitStatus::Killed(Signal::KILL), 0);
        }
    }

    /// Between its fork and its exec every process looks at the guard's page.
    fn is_too_late(&self, index: usize) -> bool {
        let overdue = self.containers[index].page.is_some_and(|page| page <= self.now);
        overdue && !self.play.lies.contains(&Lie::ForkUnlooked)
    }

    fn spawn(&mut self, index: usize, run: RunId, job: Job, env: &[(String, String)]) {
        self.is_called_first(index, env);
        let leads = variable(env, "ROLE") == Some("leader");
        let acts = term(env).filter(|_| match job {
            // A leader's tasks, and watches, are the only ones there are.
            Job::OnDemote | Job::Task { .. } | Job::OnChange { .. } => true,
            Job::PreStart { .. } | Job::PostStart | Job::OnPromote => leads,
            // The leader's own, in this play.
            Job::CoprocessPreStart { .. } | Job::CoprocessPostStop { .. } => true,
            _ => false,
        });
        let (now, late) = (self.now, self.is_too_late(index));
        let ends_at = Some(now + self.random.span());
        let obeys_within = self.obeys_within();
        let container = &mut self.containers[index];
        if matches!(job, Job::PreStart { .. })
            && container.commands.values().any(|other| other.job.is_like(&job) && other.runs)
        {
            let promise = format!("{}'s pre_start runs twice at once", container.id);
            return self.breaks(promise);
        }
        container.events.push_back(Event::Spawned { run, pid: 200 });
        if job == Job::OnPromote && !late {
            self.led.extend(acts);
            let container = &mut self.containers[index];
            match &mut container.main {
                Some(main) => main.acts = acts,
                // Its launcher has just ended: it is promoted before it is followed.
                None => container.strays.iter_mut().for_each(|(of, _)| *of = acts),
            }
        }
        let container = &mut self.containers[index];
        container.commands.insert(run, Command { job, acts, leads, runs: true, ends_at, obeys_within });
        if late {
            container.command_ends(run, ExitStatus::Killed(Signal::KILL), false);
        }
    }

    fn spawn_coprocess(&mut self, index: usize, run: RunId, coprocess: &Coprocess, env: &[(String, String)]) {
        let acts = term(env).filter(|_| coprocess.when == When::Leader);
        let leads = variable(env, "ROLE") == Some("leader");
        let late = self.is_too_late(index);
        // It crashes now and then.
        let ends_at = if self.random.once_in(2) { Some(self.now + self.random.span() * 10) } else { None };
        let obeys_within = self.obeys_within();
        let container = &mut self.containers[index];
        let job = Job::Coprocess { name: coprocess.name.clone() };
        if container.commands.values().any(|other| other.job == job) {
            let promise = format!("{}'s {job} is started beside another", container.id);
            return self.breaks(promise);
        }
        container.events.push_back(Event::Spawned { run, pid: 300 });
        container.commands.insert(run, Command { job, acts, leads, runs: true, ends_at, obeys_within });
        if late {
            container.command_ends(run, ExitStatus::Killed(Signal::KILL), false);
        }
    }

    fn obeys_within(&mut self) -> Option<Duration> {
        if self.random.once_in(6) { None } else { Some(self.random.span()) }
    }

    fn follow(&mut self, index: usize, run: RunId) {
        let obeys_within = self.obeys_within();
        let ends_at = Some(self.now + self.random.span() * 10);
        let container = &mut self.containers[index];
        // A coprocess's daemon goes on as its launcher did.
        if let Some(daemon) = container.commands.get_mut(&run) {
            *daemon = Command { runs: true, ends_at, ..daemon.clone() };
            container.events.push_back(Event::Followed { run, pid: Some(301) });
        } else if container.main.is_none()
            && let Some((acts, _)) = container.strays.pop()
        {
            container.counting = false;
            container.main = Some(Main { run, acts, ends_at: None, obeys_within });
            container.events.push_back(Event::Followed { run, pid: Some(101) });
        }
    }

    /// A request reaches the store, or an answer the loop.
    pub fn deliver(&mut self, index: usize) {
        match self.mail.swap_remove(index) {
            Mail::To(of, life, order) => {
                let id = self.containers[of].id.clone();
                let answer = self.store.take(self.now, &id, &order);
                self.mail.extend(answer.map(|event| Mail::From(of, life, event)));
            }
            Mail::From(of, life, event) if self.lives[of] == life => self.hears(of, Event::Election(event)),
            Mail::From(..) => {}
        }
    }

    /// A request, or an answer, is lost, and the adapter's patience ends: nobody knows what came of it.
    pub fn lose(&mut self, index: usize) {
        let lost = "no answer".to_owned();
        let (of, life, asked) = match self.mail.swap_remove(index) {
            Mail::To(of, life, order) => (of, life, unanswered(&order, lost)),
            Mail::From(of, life, event) => (of, life, Some(unheard(event, lost))),
        };
        if let Some(event) = asked.filter(|_| self.lives[of] == life) {
            self.hears(of, Event::Election(event));
        }
    }
}

fn unanswered(order: &StoreRequest, lost: String) -> Option<ElectionEvent> {
    Some(match *order {
        StoreRequest::OpenSession { ask } => ElectionEvent::Opened { ask, result: Err(lost) },
        StoreRequest::Look { ask } => ElectionEvent::Looked { ask, result: Err(lost) },
        StoreRequest::Acquire { ask, .. } => ElectionEvent::Acquired { ask, result: Acquisition::Unknown(lost) },
        StoreRequest::Renew { ask, .. } => ElectionEvent::Renewed { ask, result: Renewal::Unknown(lost) },
        StoreRequest::Release { ask, .. } => ElectionEvent::Released { ask, result: Err(lost) },
        StoreRequest::PublishRank { ask, .. } => ElectionEvent::Published { ask, result: Err(lost) },
        StoreRequest::ReadRanks { ask } => ElectionEvent::Ranks { ask, result: Err(lost) },
        _ => return None,
    })
}

fn unheard(event: ElectionEvent, lost: String) -> ElectionEvent {
    match event {
        ElectionEvent::Opened { ask, .. } => ElectionEvent::Opened { ask, result: Err(lost) },
        ElectionEvent::Looked { ask, .. } => ElectionEvent::Looked { ask, result: Err(lost) },
        ElectionEvent::Acquired { ask, .. } => ElectionEvent::Acquired { ask, result: Acquisition::Unknown(lost) },
        ElectionEvent::Renewed { ask, .. } => ElectionEvent::Renewed { ask, result: Renewal::Unknown(lost) },
        ElectionEvent::Released { ask, .. } => ElectionEvent::Released { ask, result: Err(lost) },
        ElectionEvent::Published { ask, .. } => ElectionEvent::Published { ask, result: Err(lost) },
        ElectionEvent::Ranks { ask, .. } => ElectionEvent::Ranks { ask, result: Err(lost) },
        other => other,
    }
}

fn term(env: &[(String, String)]) -> Option<u64> {
    variable(env, "TERM").and_then(|term| term.parse().ok())
}

fn variable<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let name = format!("PILOTFISH_{name}");
    env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}
