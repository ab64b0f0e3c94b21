//! The one loop: events in, supervisor asked, effects out. No policy, and nothing in it waits but for the next event.

use std::collections::VecDeque;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;

use crate::clock::{self, Alarm};
use crate::config::{self, Backend, Config, Loaded, Probe, Signal, Source};
use crate::effects::{Adapters, Senders};
use crate::endpoints::{ControlRequest, Question};
use crate::logging;
use crate::process::guard::{Fence, FenceError, Guard};
use crate::process::notify::Notify;
use crate::process::parent::ParentsEnd;
use crate::process::signals::{Inherited, Signals};
use crate::process::{Processes, Speaker, memory};
use crate::recorder::Recorder;
use crate::sabotage;
use crate::supervisor::vocabulary::Notification;
use crate::supervisor::{Effect, Event, Status, Supervisor, Time};

/// Room for events of tasks. A task that finds it full waits; signals, exits and the control endpoint have ways of
/// their own.
const EVENTS: usize = 64;
/// Room for what is seen in the catalog: a follower that finds it full waits, and tells what there is by then. More would
/// be versions of a long list that nobody needs.
const OBSERVATIONS: usize = 1;
/// Room for questions at the control endpoint.
const QUESTIONS: usize = 16;

/// Each time so many things have woken it the loop lets everything else have a turn, and come before signals: they
/// can be flooded too, by a main of the agent's own user or by its ending children.
const TURNS: u32 = 16;

/// The loop was away when it is later than this.
const LATE: Duration = Duration::from_millis(20);

/// By then the start is over, with all that it alone needed; a container that ends before that pays nothing for it.
const START_IS_OVER_AFTER: Duration = Duration::from_secs(1);

/// Why a container can't even be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config asks for what can't be had here.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// The kernel refuses what every agent needs.
    #[error("the kernel refuses an event queue, a timer, a signal descriptor or, for an election, the guard's process")]
    Kernel(#[from] io::Error),
}

/// Runs the container from start to end.
///
/// # Errors
/// It can't be started; or, later, the kernel takes back what it gave.
pub fn run(loaded: Loaded, source: Source, inherited: Inherited) -> Result<u8, Error> {
    // Before the runtime: the guard has no thread to fear, and no more memory than it must.
    let guard = guard(&loaded.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(async { Agent::new(loaded, source, inherited, guard)?.live().await });
    // A thread stuck on dead storage must not hold the container.
    runtime.shutdown_background();
    Ok(code?)
}

/// Started where leading has an end in time. A kernel's lock has none: it is held for as long as what it was given to
/// lives, all of which ends with PID 1. Where pilotfish is another one, the kernel kills main with it, but neither a
/// daemon that was followed nor a main that has become another user since (prctl(2), PR_SET_PDEATHSIG).
fn guard(config: &Config) -> Result<Option<Guard>, Error> {
    let Some(election) = &config.election else { return Ok(None) };
    let fence = match config.catalog.backend {
        Backend::Consul(_) | Backend::Etcd(_) => Fence::choose(election.fence)?,
        // Less than is asked for is more than none; the guard says what it doesn't reach.
        Backend::Local { .. } if std::process::id() != 1 => {
            Fence::choose(election.fence).unwrap_or(Fence::ProcessGroup)
        }
        Backend::None | Backend::Local { .. } => return Ok(None),
    };
    Ok(Some(Guard::start(fence, election.pace.kill_margin)?))
}

struct Agent {
    supervisor: Supervisor,
    /// Where nobody could ask for a record, there is none.
    recorder: Option<Recorder>,
    adapters: Adapters,
    signals: Signals,
    notify: Option<Notify>,
    parent: Option<ParentsEnd>,
    /// Those of coprocesses, with their names.
    coprocesses: Vec<(String, Notify)>,
    alarm: Alarm,
    /// Until the start is over.
    starting: Option<Pin<Box<Sleep>>>,
    events: mpsc::Receiver<Event>,
    observations: mpsc::Receiver<Event>,
    questions: mpsc::Receiver<ControlRequest>,
    status: watch::Sender<Status>,
    guarded: bool,
    plain: bool,
    turns: u32,
}

/// What the loop wakes up for.
enum Wake {
    Signal(Signal),
    Notified(Notification),
    CoprocessNotified(String, Notification),
    Asked(ControlRequest),
    Event(Event),
    Held,
    Rang,
    StartIsOver,
}

impl Agent {
    fn new(loaded: Loaded, source: Source, inherited: Inherited, guard: Option<Guard>) -> io::Result<Agent> {
        let Loaded { config, written, .. } = loaded;
        let signals = Signals::new(config.process.manner.passes_faults)?;
        let notify = Notify::open(main_speaks(&config), config.is_plain())?;
        let (guarded, plain) = (guard.is_some(), config.is_plain());
        let parent = config.process.parent_death.map(ParentsEnd::hear).transpose()?;
        let mut processes = Processes::new(inherited, guard, config.process.manner.clone())?;
        if let Some(notify) = &notify {
            processes.offer(notify);
        }
        let coprocesses = speakers(&config, &[])?;
        for (name, notify) in &coprocesses {
            processes.offer_coprocess(name, notify);
        }
        if !config.is_plain() {
            processes.keep_reserve();
            processes.listen();
        }
        let (tell, events) = mpsc::channel(EVENTS);
        let (observe, observations) = mpsc::channel(OBSERVATIONS);
        let (ask, questions) = mpsc::channel(QUESTIONS);
        // Two agents started together must not retry together; std's hasher is seeded by the kernel.
        let seed = RandomState::new().hash_one(std::process::id());
        let supervisor = Supervisor::new(config.clone(), seed);
        let recorder = config.control.socket.is_some().then(|| Recorder::new(written, seed));
        let (status, seen) = watch::channel(supervisor.status());
        let adapters = Adapters::new(&config, source, processes, Senders { tell, observe, ask }, seen);
        let starting = Some(Box::pin(tokio::time::sleep(START_IS_OVER_AFTER)));
        let alarm = Alarm::new()?;
        Ok(Agent {
            supervisor,
            recorder,
            adapters,
            signals,
            notify,
            parent,
            coprocesses,
            alarm,
            starting,
            events,
            observations,
            questions,
            status,
            guarded,
            plain,
            turns: 0,
        })
    }

    async fn live(mut self) -> io::Result<u8> {
        let mut next = VecDeque::from([Event::Started]);
        next.extend(self.guarded.then_some(Event::Guard { stands: true }));
        let watchdog = self.notify.as_ref().filter(|_| !self.plain).and_then(Notify::outer_watchdog);
        next.extend(watchdog.map(|every| Event::OuterWatchdog { every }));
        loop {
            sabotage::freeze();
            while let Some(event) = next.pop_front() {
                let now = clock::now();
                let only_heard = !next.is_empty() && self.is_late(now, Duration::ZERO);
                if let Some(recorder) = &mut self.recorder {
                    recorder.note(now, &event, only_heard);
                }
                let effects = match only_heard {
                    true => self.supervisor.hear(now, event),
                    false => self.supervisor.handle(now, event),
                };
                for effect in effects {
                    match effect {
                        Effect::Exit { code, reason } => {
                            self.questions.close();
                            while self.questions.try_recv().is_ok() {}
                            self.adapters.answers_are_sent().await;
                            self.adapters.leave_no_file().await;
                            logging::termination_log(&reason);
                            return Ok(code);
                        }
                        Effect::TellOuter(word) => {
                            if let Some(notify) = self.notify.as_mut().filter(|_| !self.plain) {
                                notify.tell_outer(word);
                            }
                        }
                        effect => next.extend(self.adapters.perform(now, effect)),
                    }
                }
            }
            if self.adapters.has_endpoints() {
                self.status.send_replace(self.supervisor.status());
            }
            self.alarm.set(self.supervisor.next_deadline())?;
            match self.wake().await? {
                // Exits are read by the loop itself, so that none can be dropped on the way.
                Wake::Signal(Signal::CHLD) => {
                    next.extend(self.reap());
                    if self.adapters.has_more() {
                        self.signals.look_again();
                    }
                }
                // What is waiting to be reaped is reaped first.
                Wake::Held => {
                    next.extend(self.reap());
                    next.extend(self.adapters.held());
                }
                Wake::Signal(signal) => next.push_back(Event::Signal(signal)),
                Wake::Notified(said) => next.push_back(Event::Notified(said)),
                Wake::CoprocessNotified(name, said) => next.push_back(Event::CoprocessNotified { name, said }),
                Wake::Asked(asked) => next.extend(self.asked(asked)),
                Wake::Event(event) => {
                    if let Event::ConfigLoaded(Ok(loaded)) = &event {
                        self.listen_to(&loaded.config);
                    }
                    next.extend(self.adapters.heard(event));
                }
                Wake::Rang => next.push_back(Event::Tick),
                Wake::StartIsOver => {
                    self.starting = None;
                    memory::forget_start();
                }
            }
            if self.is_late(clock::now(), LATE) {
                next.extend(self.news());
            }
        }
    }

    /// Whether a time of the core's is over for longer than this.
    fn is_late(&self, now: Time, than: Duration) -> bool {
        self.supervisor.next_deadline().is_some_and(|at| at + than <= now)
    }

    /// What came while the loop was away, perhaps before the time that is over now: who has succeeded meanwhile isn't too
    /// late.
    fn news(&mut self) -> Vec<Event> {
        let mut news = self.reap();
        for _ in 0..EVENTS {
            let Ok(event) = self.events.try_recv() else { break };
            news.extend(self.adapters.heard(event));
        }
        news
    }

    /// Who has ended, after what they said: to the loop their end comes first, and may take the container with it. It is
    /// heard before they are reaped, for until then /proc shows whose a helper was, and once more after, for one may have
    /// spoken and ended between.
    fn reap(&mut self) -> Vec<Event> {
        if self.notify.is_none() && self.coprocesses.is_empty() {
            return self.adapters.reap();
        }
        let keepers = self.adapters.keepers();
        let is_keeper = |pid| keepers.contains(&pid);
        let main = self.adapters.main_speaks(&is_keeper);
        let coprocesses: Vec<Speaker<'_>> =
            self.coprocesses.iter().map(|(name, _)| self.adapters.coprocess_speaks(name, &is_keeper)).collect();
        let mut events = Vec::new();
        let mut hear = |events: &mut Vec<Event>| {
            events.extend(self.notify.as_mut().and_then(|notify| notify.unheard(main)).map(Event::Notified));
            for ((name, notify), speaker) in self.coprocesses.iter_mut().zip(&coprocesses) {
                let said = notify.unheard(*speaker);
                events.extend(said.map(|said| Event::CoprocessNotified { name: name.clone(), said }));
            }
        };
        hear(&mut events);
        let ended = self.adapters.reap();
        hear(&mut events);
        events.extend(ended);
        events
    }

    fn asked(&mut self, asked: ControlRequest) -> Option<Event> {
        match asked.question {
            Question::Order(request) => Some(self.adapters.asked(request, asked.answer)),
            Question::Record => {
                let record = self.recorder.as_ref().map(Recorder::hand_out);
                let none = || "nothing is recorded: the container began without a control socket".to_owned();
                // Who asked may have gone.
                let _ = asked.answer.send(record.ok_or_else(none).into());
                None
            }
        }
    }

    /// Coprocesses of a config read again may be new, and main may be the first time to say how it is.
    fn listen_to(&mut self, config: &Config) {
        if self.notify.is_none() && main_speaks(config) {
            match Notify::open(true, self.plain) {
                Ok(notify) => {
                    notify.iter().for_each(|notify| self.adapters.offer(notify));
                    self.notify = notify;
                }
                Err(error) => tracing::error!(event = "degraded", "main can't be heard by sd_notify: {error}"),
            }
        }
        match speakers(config, &self.coprocesses) {
            Ok(new) => {
                new.iter().for_each(|(name, notify)| self.adapters.offer_coprocess(name, notify));
                self.coprocesses.extend(new);
            }
            Err(error) => tracing::error!(event = "degraded", "new coprocesses can't be heard by sd_notify: {error}"),
        }
    }

    async fn wake(&mut self) -> io::Result<Wake> {
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(TURNS) {
            // Before, and not beside, what wakes it: something that is always ready would never let the reactor look.
            tokio::task::yield_now().await;
        }
        let adapters = &self.adapters;
        let is_keeper = |pid| adapters.is_keeper(pid);
        let notified = async {
            match &mut self.notify {
                Some(notify) => notify.next(adapters.main_speaks(&is_keeper)).await,
                None => std::future::pending().await,
            }
        };
        let coprocess = next_of(&mut self.coprocesses, |name| adapters.coprocess_speaks(name, &is_keeper));
        let orphaned = async {
            match &mut self.parent {
                Some(parent) => parent.comes().await,
                None => std::future::pending().await,
            }
        };
        let started = async {
            match &mut self.starting {
                Some(sleep) => sleep.as_mut().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Signals first: whatever floods the other ways, the container can be stopped.
            biased;
            signal = self.signals.next() => Ok(Wake::Signal(signal)),
            signal = orphaned => Ok(Wake::Signal(signal)),
            () = adapters.one_is_held() => Ok(Wake::Held),
            rang = self.alarm.rang() => rang.map(|()| Wake::Rang),
            Some(asked) = self.questions.recv() => Ok(Wake::Asked(asked)),
            said = notified => Ok(Wake::Notified(said)),
            (name, said) = coprocess => Ok(Wake::CoprocessNotified(name, said)),
            Some(event) = self.events.recv() => Ok(Wake::Event(event)),
            Some(event) = self.observations.recv() => Ok(Wake::Event(event)),
            () = started => Ok(Wake::StartIsOver),
        }
    }
}

/// Those coprocesses of a config that are to say something by sd_notify and have no socket yet, each with one.
fn speakers(config: &Config, known: &[(String, Notify)]) -> io::Result<Vec<(String, Notify)>> {
    let names = config.coprocesses.iter().map(|coprocess| &coprocess.name);
    let new = names.filter(|name| speaks(config, name) && known.iter().all(|(known, _)| known != *name));
    new.map(|name| Ok((name.clone(), Notify::own()?))).collect()
}

/// Whether main is to say how it is by sd_notify.
fn main_speaks(config: &Config) -> bool {
    config.health.iter().any(|check| check.of.is_none() && check.probe == Probe::Notify)
}

/// Whether a coprocess is to say something by sd_notify.
fn speaks(config: &Config, name: &str) -> bool {
    let of = |check: &config::Health| check.of.as_deref() == Some(name) && check.probe == Probe::Notify;
    let ready =
        |of: &config::Coprocess| of.name == name && of.ready.as_ref().is_some_and(|ready| ready.probe == Probe::Notify);
    config.health.iter().any(of) || config.coprocesses.iter().any(ready)
}

/// The next thing any coprocess says; never, where none is to say anything.
async fn next_of<'a>(
    coprocesses: &mut [(String, Notify)],
    speaker: impl Fn(&str) -> Speaker<'a>,
) -> (String, Notification) {
    if coprocesses.is_empty() {
        return std::future::pending().await;
    }
    let mut all: Vec<_> = coprocesses
        .iter_mut()
        .map(|(name, notify)| {
            let speaker = speaker(name);
            Box::pin(async move { (name.clone(), notify.next(speaker).await) })
        })
        .collect();
    std::future::poll_fn(|context| {
        let ready = all.iter_mut().find_map(|one| match one.as_mut().poll(context) {
            Poll::Ready(said) => Some(said),
            Poll::Pending => None,
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
