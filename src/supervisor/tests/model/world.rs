//! Containers of one election and their store, time, and what is promised of them all.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::supervisor::machines::election::event::{ElectionEvent, StoreRequest};
use crate::supervisor::{Event, Supervisor, Time};

use super::container::{Container, Guard};
use super::marks::Marking;
use super::random::Random;
use super::store::Store;
use super::{Faults, Play};

/// What a stop may take longer than it was given: a loop with something to do takes a while.
const LOOP_TAKES: Duration = Duration::from_millis(500);

/// A request or an answer under way.
pub enum Mail {
    To(usize, u32, StoreRequest),
    From(usize, u32, ElectionEvent),
}

pub struct World {
    pub play: Play,
    pub random: Random,
    pub now: Duration,
    pub store: Store,
    pub containers: Vec<Container>,
    /// How often each was started: answers to a former life reach nobody.
    pub lives: Vec<u32>,
    pub mail: Vec<Mail>,
    pub marks: Vec<Marking>,
    pub left: Faults,
    /// The terms that somebody has acted for.
    pub leaderships: BTreeSet<u64>,
    /// The terms for which a main has been let act.
    pub led: BTreeSet<u64>,
    pub steps_taken: usize,
    pub story: Vec<String>,
    pub broken: Option<String>,
}

impl World {
    pub fn new(play: &Play, seed: u64) -> World {
        let mut world = World {
            play: play.clone(),
            random: Random(seed),
            now: Duration::from_secs(100),
            store: Store::default(),
            containers: Vec::new(),
            lives: vec![0; play.configs.len()],
            mail: Vec::new(),
            marks: Vec::new(),
            left: Faults::default(),
            leaderships: BTreeSet::new(),
            led: BTreeSet::new(),
            steps_taken: 0,
            story: Vec::new(),
            broken: None,
        };
        for index in 0..play.configs.len() {
            let container = world.container(index);
            world.containers.push(container);
        }
        world
    }

    fn container(&self, index: usize) -> Container {
        let config = self.play.configs[index].clone();
        let id = config.election.as_ref().map(|election| election.id.clone()).unwrap_or_default();
        Container::new(id, Supervisor::new(config, u64::from(self.lives[index])), self.play.standby)
    }

    /// A container starts anew: whatever there was of it has ended with its PID 1.
    pub fn begin(&mut self, index: usize) {
        self.lives[index] += 1;
        self.mail.retain(|mail| !matches!(mail, Mail::From(of, ..) if *of == index));
        self.containers[index] = self.container(index);
    }

    /// So many steps among misfortunes, then peace, in which somebody comes to lead; `false` when a promise is broken.
    pub fn round(&mut self, steps: usize) -> bool {
        self.left = self.play.faults;
        if !(0..steps).all(|_| self.step()) {
            return false;
        }
        self.heal();
        // A container may be in the midst of a stop, a main of ignoring one, and a hook of its timeout.
        let patience = self.now + Duration::from_secs(600);
        while self.acting().is_empty() && self.step() {
            if self.now > patience {
                let doing = self.containers.iter().map(|container| {
                    let status = container.core.status();
                    let role = status.election.map(|election| election.doing).unwrap_or_default();
                    format!("{}: {}, {role}", container.id, status.doing)
                });
                let doing: Vec<String> = doing.collect();
                self.breaks(format!("nobody leads though nothing is amiss ({})", doing.join("; ")));
            }
        }
        self.broken.is_none()
    }

    /// Who acts, and for which term.
    pub fn acting(&self) -> BTreeSet<(usize, u64)> {
        let of =
            |(index, container): (usize, &Container)| container.acts().map(|term| (index, term)).collect::<Vec<_>>();
        self.containers.iter().enumerate().flat_map(of).collect()
    }

    pub fn judge(&mut self) {
        let acting = self.acting();
        self.leaderships.extend(acting.iter().map(|(_, term)| *term));
        if acting.len() > 1 {
            self.breaks(format!("two act at once, by container and term: {acting:?}"));
        }
        let late = |container: &&Container| container.stop_within == Some(Duration::ZERO);
        if let Some(id) = self.containers.iter().find(late).map(|container| container.id.clone()) {
            self.breaks(format!("{id} doesn't stop in time"));
        }
    }

    pub fn breaks(&mut self, promise: String) {
        self.broken.get_or_insert(promise);
    }

    pub fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.play.tell {
            let line = format!("{} {}", self.now.as_millis(), what());
            self.story.push(line.chars().take(200).collect());
        }
    }

    /// Time goes on to what is due next.
    pub fn wait(&mut self) {
        let awake = self.containers.iter().filter(|container| container.paused_until.is_none());
        let ticks = awake.filter_map(|container| container.core.next_deadline()).map(Time::from_boot);
        let marks = self.marks.iter().map(Marking::due);
        let due = self.containers.iter().flat_map(Container::due).chain(ticks).chain(marks);
        let due = due.chain(self.store.deadline()).min();
        // What is due was put off by chance: nothing is punctual.
        let busy = self.containers.iter().any(Container::is_busy) || due.is_some_and(|due| due <= self.now);
        let most = match (busy, self.mail.is_empty()) {
            (true, _) => Duration::from_millis(20),
            (false, false) => Duration::from_millis(200),
            (false, true) => Duration::from_secs(5),
        };
        let before = self.now;
        let until = self.now + most;
        self.now = due.filter(|due| *due > self.now).map_or(until, |due| due.min(until));
        self.store.pass(self.now);
        for index in 0..self.containers.len() {
            self.passes(index, self.now - before);
        }
    }

    fn passes(&mut self, index: usize, passed: Duration) {
        let now = self.now;
        let within = self.play.configs[index].stop.within;
        let container = &mut self.containers[index];
        if let Guard::Stopped(until) = container.guard
            && until <= now
        {
            container.guard = Guard::Stands;
        }
        if container.guard == Guard::Stands && container.page.is_some_and(|page| page <= now) {
            container.struck();
        }
        if container.paused_until.is_none() {
            if container.core.is_stopping() {
                let left = container.stop_within.or(within.map(|within| within + LOOP_TAKES));
                container.stop_within = left.map(|left| left.saturating_sub(passed));
            }
            let due = container.core.next_deadline().is_some_and(|at| at.from_boot() <= now);
            if due && container.orders.is_empty() && container.events.is_empty() {
                container.events.push_back(Event::Tick);
            }
        }
        container.paused_until = container.paused_until.filter(|until| *until > now);
        container.cut_until = container.cut_until.filter(|until| *until > now);
    }

    /// Nothing holds anybody back any more.
    fn heal(&mut self) {
        self.left = Faults::default();
        for index in 0..self.containers.len() {
            let container = &mut self.containers[index];
            (container.paused_until, container.cut_until) = (None, None);
            if let Guard::Stopped(_) = container.guard {
                container.guard = Guard::Stands;
            }
            self.maintains(index, false);
        }
    }
}
