//! One container: the core, what waits to be done for it and to be told to it, its processes and its guard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::config::Signal;
use crate::supervisor::vocabulary::*;
use crate::supervisor::{Effect, Event, Supervisor};

/// The leader's term that a process acts for, if it does.
pub type Acts = Option<u64>;

#[derive(Debug)]
pub struct Main {
    pub run: RunId,
    pub acts: Acts,
    /// It obeys a signal then; `None`: it was told nothing, or obeys only SIGKILL.
    pub ends_at: Option<Duration>,
    /// How long it takes to obey; `None`: it doesn't.
    pub obeys_within: Option<Duration>,
}

/// Main was ordered and isn't forked yet.
#[derive(Debug)]
pub struct Starting {
    pub run: RunId,
    pub acts: Acts,
    pub at: Duration,
}

#[derive(Debug, Clone)]
pub struct Command {
    pub job: Job,
    pub acts: Acts,
    /// Whether it was started as the leader's.
    pub leads: bool,
    /// Its process; else only what it left lives.
    pub runs: bool,
    pub ends_at: Option<Duration>,
    pub obeys_within: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guard {
    Stands,
    /// It doesn't run until then.
    Stopped(Duration),
}

/// One container, or the place of one that has ended and is started again.
pub struct Container {
    pub id: String,
    pub core: Supervisor,
    /// Orders not carried out yet, of the last event.
    pub orders: VecDeque<Effect>,
    /// What the loop hears next.
    pub events: VecDeque<Event>,
    /// Whose files are being read, and until when.
    pub reading: Option<(RunId, Duration)>,
    pub starting: Option<Starting>,
    pub main: Option<Main>,
    /// What main left: what each acts for, and when it ends by itself or by what it was told.
    pub strays: Vec<(Acts, Option<Duration>)>,
    pub counting: bool,
    pub commands: BTreeMap<RunId, Command>,
    pub probes: VecDeque<RunId>,
    /// What the guard's page says.
    pub page: Option<Duration>,
    pub guard: Guard,
    /// The agent doesn't run until then.
    pub paused_until: Option<Duration>,
    /// Nothing comes through to it, or from it, until then.
    pub cut_until: Option<Duration>,
    pub joined: bool,
    /// It wants to know whether the leader acts.
    pub looks_at_leader: bool,
    /// It follows what its watch looks at.
    pub is_watching: bool,
    /// The terms for which on_promote has succeeded.
    pub promoted: BTreeSet<u64>,
    /// The roles that pre_start has prepared since main last led: replica, leader.
    pub prepared: [bool; 2],
    /// Main runs only as the leader, and nothing else makes it anything less.
    pub standby: bool,
    /// What a stop may still take, of the time in which the agent runs.
    pub stop_within: Option<Duration>,
}

impl Container {
    pub fn new(id: String, core: Supervisor, standby: bool) -> Container {
        Container {
            id,
            core,
            orders: VecDeque::new(),
            events: VecDeque::from([Event::Started, Event::Guard { stands: true }]),
            reading: None,
            starting: None,
            main: None,
            strays: Vec::new(),
            counting: false,
            commands: BTreeMap::new(),
            probes: VecDeque::new(),
            page: None,
            guard: Guard::Stands,
            paused_until: None,
            cut_until: None,
            joined: false,
            looks_at_leader: false,
            is_watching: false,
            promoted: BTreeSet::new(),
            prepared: [false; 2],
            standby,
            stop_within: None,
        }
    }

    /// The terms that something of it acts for.
    pub fn acts(&self) -> impl Iterator<Item = u64> + '_ {
        let main = self.main.iter().map(|main| main.acts);
        let commands = self.commands.values().map(|command| command.acts);
        main.chain(commands).chain(self.strays.iter().map(|(acts, _)| *acts)).flatten()
    }

    /// When something of it ends, begins or goes on by itself.
    pub fn due(&self) -> impl Iterator<Item = Duration> + '_ {
        let guard = match self.guard {
            Guard::Stands => self.page,
            Guard::Stopped(until) => Some(until),
        };
        let own = [self.reading.map(|(_, at)| at), self.starting.as_ref().map(|starting| starting.at), guard];
        let main = self.main.iter().map(|main| main.ends_at);
        let commands = self.commands.values().map(|command| command.ends_at);
        let strays = self.strays.iter().map(|(_, at)| *at);
        own.into_iter().chain([self.paused_until, self.cut_until]).chain(main).chain(commands).chain(strays).flatten()
    }

    /// Whether its loop has something to do and runs.
    pub fn is_busy(&self) -> bool {
        self.paused_until.is_none() && !(self.orders.is_empty() && self.events.is_empty())
    }

    /// Main's process ends, and leaves this many behind that live on until they are told, or killed.
    pub fn main_ends(&mut self, status: ExitStatus, left: usize) {
        let Some(main) = self.main.take() else { return };
        self.strays.extend(std::iter::repeat_n((main.acts, None), left));
        if main.acts.is_some() {
            self.prepared = [false; 2];
        }
        self.events.push_back(Event::Exited { run: main.run, status });
    }

    pub fn stray_ends(&mut self, index: usize) {
        self.strays.swap_remove(index);
        self.events.push_back(Event::StrayEnded { status: ExitStatus::Exited(0) });
        if self.counting && self.strays.is_empty() {
            self.counting = false;
            self.events.push_back(Event::Strays { left: 0 });
        }
    }

    /// A command's process ends; `left`: what it forked lives on.
    pub fn command_ends(&mut self, run: RunId, status: ExitStatus, left: bool) {
        let Some(command) = self.commands.get_mut(&run) else { return };
        (command.runs, command.ends_at) = (false, None);
        if status.success() {
            match command.job {
                Job::PreStart { .. } => {
                    self.prepared[usize::from(command.leads)] = true;
                    // What it leaves, and may, is the container's.
                    command.acts = None;
                }
                Job::OnPromote => self.promoted.extend(command.acts),
                Job::OnDemote => {
                    self.prepared = [false; 2];
                    // It speaks for the service as it runs, with what a launcher left beside the main that is followed.
                    if let Some(main) = self.main.as_mut().filter(|_| !self.standby) {
                        main.acts = None;
                        self.strays.iter_mut().for_each(|(acts, _)| *acts = None);
                    }
                }
                _ => {}
            }
        }
        if !left {
            self.commands.remove(&run);
        }
        self.events.extend([Event::Exited { run, status }, Event::RunLeft { run, any: left }]);
    }

    /// What a command left has ended.
    pub fn left_ends(&mut self, run: RunId) {
        if self.commands.remove(&run).is_some() {
            self.events.push_back(Event::RunLeft { run, any: false });
        }
    }

    pub fn kill(&mut self, now: Duration, target: Target, signal: Signal) {
        let kills = signal == Signal::KILL;
        match target {
            Target::Strays => {
                for (_, ends_at) in &mut self.strays {
                    *ends_at = ends_at.or(Some(now + Duration::from_millis(300)));
                }
                while kills && !self.strays.is_empty() {
                    self.stray_ends(0);
                }
            }
            Target::Process(run) | Target::Group(run) | Target::All(run) => {
                if self.main.as_ref().is_some_and(|main| main.run == run) {
                    match &mut self.main {
                        _ if kills => self.main_ends(ExitStatus::Killed(Signal::KILL), 0),
                        Some(main) if signal != Signal::CONT => {
                            main.ends_at = main.ends_at.or(main.obeys_within.map(|within| now + within));
                        }
                        _ => {}
                    }
                } else if let Some(command) = self.commands.get_mut(&run) {
                    match (kills, command.runs) {
                        (true, true) => self.command_ends(run, ExitStatus::Killed(Signal::KILL), false),
                        (true, false) => self.left_ends(run),
                        (false, _) => {
                            let told = command.obeys_within.map(|within| now + within);
                            command.ends_at = command.ends_at.into_iter().chain(told).min();
                        }
                    }
                }
            }
        }
    }

    /// The guard kills everything but PID 1 and itself.
    pub fn struck(&mut self) {
        self.main_ends(ExitStatus::Killed(Signal::KILL), 0);
        while !self.strays.is_empty() {
            self.stray_ends(0);
        }
        let runs: Vec<(RunId, bool)> = self.commands.iter().map(|(run, command)| (*run, command.runs)).collect();
        for (run, runs) in runs {
            match runs {
                true => self.command_ends(run, ExitStatus::Killed(Signal::KILL), false),
                false => self.left_ends(run),
            }
        }
    }
}
