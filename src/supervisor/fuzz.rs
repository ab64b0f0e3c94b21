//! What the fuzz targets do to the core: a world that answers what it likes, when it likes. Whatever comes in whatever
//! order, its deadlines move on and lie within reach, one main runs at a time, it leads by a lock that it was given, and
//! a stop ends the container.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Context, Query, Signal};

use super::machines::election::event::{Acquisition, ElectionEvent, Renewal, RequestId, StoreRequest};
use super::machines::election::record::{
    Answer, Guarantee, Holder, Last, Lock, PeerRank, Rank, Revision, SessionId, Term, View,
};
use super::vocabulary::*;
use super::{Effect, Event, Supervisor, Time};

/// No config takes a duration longer than a year.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);
/// What one event may lead to: a container has a handful of processes, checks and watches here.
const MOST_EFFECTS: usize = 300;

/// Parts of configs, of which some are taken.
const PARTS: [&str; 19] = [
    "process.restart = { policy = \"always\", backoff = \"100ms..5s\" }\n",
    "process.background = \"follow\"\nprocess.strays = \"wait\"\n",
    "process.env_from_files = { KEY = \"/run/key\" }\n",
    "hooks.pre_start = [{ exec = [\"a\"], retries = 2, timeout = \"5s\" }, { exec = [\"b\"] }]\nhooks.post_start = { exec = [\"a\"] }\n",
    "hooks.pre_stop = { exec = [\"a\"], timeout = \"3s\" }\nhooks.post_stop = { exec = [\"a\"] }\n",
    "hooks.on_promote = { exec = [\"a\"] }\nhooks.on_leader_change = { exec = [\"a\"] }\n",
    "hooks.on_demote = { exec = [\"a\"], timeout = \"2s\" }\n",
    "stop.drain = \"1s\"\ncontrol.signals = true\n",
    "[[service]]\nname = \"web\"\nport = 80\n\
     [[coprocess]]\nname = \"a\"\nexec = [\"a\"]\nready = { tcp = \"127.0.0.1:1\" }\npre_start = { exec = [\"a\"] }\n\
     [[coprocess]]\nname = \"b\"\nexec = [\"a\"]\nafter = [\"a\"]\nstop = \"before-main\"\npost_stop = { exec = [\"a\"] }\n",
    "[[health]]\nname = \"h\"\nhttp = \"http://127.0.0.1/\"\nfailures = 1\non_failure = \"restart\"\n",
    "[[health]]\nname = \"e\"\nexec = [\"a\"]\non_failure = \"exit\"\n",
    "[[health]]\nname = \"n\"\nnotify = true\ninterval = \"1s\"\n",
    "[[watch]]\nname = \"w\"\nservice = \"app\"\non_change = { exec = [\"a\"] }\n",
    "[[watch]]\nname = \"t\"\nkey = \"k\"\nsignal = \"HUP\"\ntemplate = { source = \"/s\", destination = \"/d\", check = [\"a\", \"{}\"] }\n",
    "[[wait_for]]\nservice = \"s\"\ntimeout = \"1m\"\n",
    "[[task]]\nname = \"t\"\nexec = [\"a\"]\ncron = \"*/5 2-4 * * *\"\ntz = \"CET-1CEST,M3.5.0,M10.5.0/3\"\nat_start = true\n",
    "[[task]]\nname = \"l\"\nexec = [\"a\"]\nevery = \"3s\"\njitter = \"1s\"\nwhen = \"leader\"\n",
    "[[telemetry.sensor]]\nname = \"s\"\nexec = [\"a\"]\nevery = \"1s\"\n[[telemetry.sensor]]\nname = \"p\"\ntype = \"counter\"\n",
    "[election]\nname = \"db\"\nrank = { exec = [\"a\"] }\n",
];
const RESTART: u32 = 1;
/// The hooks, and the task.
const OF_ELECTION: u32 = 1 << 5 | 1 << 6 | 1 << 16;
const RESTARTING_CHECK: u32 = 1 << 9;
const ELECTION: u32 = 1 << 18;
const ENDS: [&str; 2] = ["mode = \"role\"\n", "mode = \"standby\"\nwithout_catalog = \"wait\"\n"];
const REST: &str = "[catalog]\nbackend = \"etcd\"\nendpoints = [\"http://e:2379\"]\n";

/// Numbers and choices out of bytes; zero for ever behind their end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit.max(1)
    }

    fn yes(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Small numbers mostly, and at times the very large.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::MAX / 1000,
            253 => 1 << 62,
            small @ ..200 => u64::from(small),
            large => u64::from(large) * 977,
        }
    }

    fn span(&mut self) -> Duration {
        Duration::from_millis(self.number())
    }

    fn result<T>(&mut self, good: T) -> Result<T, String> {
        if self.yes() { Ok(good) } else { Err("down".to_owned()) }
    }
}

/// The bytes choose a config, and then what happens.
pub(crate) fn core(data: &[u8]) {
    let mut input = Input(data);
    let config = config(&mut input);
    World::begin(config).play(&mut input);
}

fn config(input: &mut Input<'_>) -> Config {
    let (mut flags, standby) = (u32::from(input.byte()) | u32::from(input.byte()) << 8, input.yes());
    flags |= u32::from(input.byte()) << 16;
    // Hooks of an election are a mistake without one, and so is a check that restarts what is never restarted.
    if flags & ELECTION == 0 {
        flags &= !OF_ELECTION;
    }
    if flags & RESTARTING_CHECK != 0 {
        flags |= RESTART;
    }
    thread_local!(static MADE: RefCell<BTreeMap<(u32, bool), Config>> = RefCell::default());
    let make = || {
        let mut text = "process.exec = [\"main\"]\nstop.within = \"20s\"\n".to_owned();
        text.extend(PARTS.iter().enumerate().filter(|(at, _)| flags & 1 << at != 0).map(|(_, part)| *part));
        if flags & ELECTION != 0 {
            text.push_str(ENDS[usize::from(standby)]);
        }
        text.push_str(REST);
        let loaded = Config::from_text(&text, Path::new("t.toml"), None, &Context::default());
        loaded.unwrap_or_else(|report| panic!("{text}\n{report}")).config
    };
    MADE.with_borrow_mut(|made| made.entry((flags, standby)).or_insert_with(make).clone())
}

struct World {
    core: Supervisor,
    config: Config,
    now: Time,
    main: Option<RunId>,
    last_run: u64,
    alive: Vec<RunId>,
    probes: Vec<RunId>,
    asks: Vec<(RequestId, StoreRequest)>,
    /// What the store gave it.
    won: Vec<Term>,
    ended: bool,
    stopping_since: Option<Time>,
}

impl World {
    fn begin(config: Config) -> World {
        let now = Time::since_boot(Duration::from_secs(1000));
        let core = Supervisor::new(config.clone(), 1);
        let mut world = World {
            core,
            config,
            now,
            main: None,
            last_run: 0,
            alive: Vec::new(),
            probes: Vec::new(),
            asks: Vec::new(),
            won: Vec::new(),
            ended: false,
            stopping_since: None,
        };
        world.send(Event::Started);
        world
    }

    fn play(mut self, input: &mut Input<'_>) {
        while !input.0.is_empty() && !self.ended {
            self.step(input);
        }
        if self.ended {
            return;
        }
        self.send(Event::Control { reply: ReplyId(0), request: Request::Stop });
        // Nothing in the world answers any more.
        let within = self.within();
        let ends_by = self.stopping_since.unwrap_or(self.now) + within;
        self.pass(within);
        assert!(self.ended && self.now <= ends_by, "a stop takes longer than {within:?}: {:?}", self.core.status());
    }

    fn within(&self) -> Duration {
        self.config.stop.within.expect("as configured") + Duration::from_millis(1)
    }

    fn send(&mut self, event: Event) {
        let ticked = matches!(event, Event::Tick);
        let effects = self.core.handle(self.now, event);
        assert!(effects.len() < MOST_EFFECTS, "{} effects of one event", effects.len());
        for effect in effects {
            assert!(!self.ended, "{effect:?} comes after the end");
            self.obey(effect);
        }
        let status = self.core.status();
        if let Some(election) = status.election.filter(|election| election.role == "leader") {
            assert!(!self.won.is_empty(), "it leads by no lock: {election:?}");
        }
        if status.phase == Phase::Stopping {
            let since = *self.stopping_since.get_or_insert(self.now);
            assert!(self.ended || self.now <= since + self.within(), "it hasn't stopped in time");
        }
        if let Some(at) = self.core.next_deadline().filter(|_| !self.ended) {
            assert!(at > self.now || !ticked, "a deadline that has passed stays: the loop would spin");
            assert!(at <= self.now + LONGEST, "the next deadline is in {:?}", self.now.until(at));
        }
    }

    fn obey(&mut self, effect: Effect) {
        match effect {
            Effect::SpawnMain { run, .. } => {
                assert!(self.main.is_none(), "a second main");
                self.started(run);
                self.main = Some(run);
            }
            Effect::ReadFiles { run, .. } => self.numbered(run),
            Effect::Spawn { run, .. } | Effect::SpawnCoprocess { run, .. } => {
                self.numbered(run);
                self.started(run);
            }
            Effect::Probe { run, .. } => {
                self.numbered(run);
                self.probes.push(run);
            }
            Effect::Elect(order) => match &order {
                StoreRequest::OpenSession { ask }
                | StoreRequest::Look { ask }
                | StoreRequest::Acquire { ask, .. }
                | StoreRequest::Renew { ask, .. }
                | StoreRequest::Release { ask, .. }
                | StoreRequest::PublishRank { ask, .. }
                | StoreRequest::ReadRanks { ask } => self.asks.push((*ask, order)),
                _ => {}
            },
            Effect::Exit { .. } => self.ended = true,
            _ => {}
        }
    }

    /// The number of a run is never used twice.
    fn numbered(&mut self, run: RunId) {
        self.last_run = self.last_run.max(run.0);
    }

    fn started(&mut self, run: RunId) {
        assert!(!self.alive.contains(&run), "{run:?} is used twice");
        self.alive.push(run);
    }

    /// Time passes, and every deadline on the way.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        for _ in 0..20_000 {
            match self.core.next_deadline().filter(|at| *at <= until && !self.ended) {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.send(Event::Tick);
                }
                None if self.ended => return,
                None => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("the deadline {:?} doesn't move on", self.core.next_deadline());
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let event = match input.below(28) {
            0 => return self.pass(Duration::from_millis(input.number().min(100_000))),
            // It sleeps, and its deadlines pass.
            1 => {
                self.now = self.now + Duration::from_millis(input.number().min(100_000));
                Event::Tick
            }
            2 => Event::Signal(Signal::new(1 + input.below(64) as i32).expect("a signal's number")),
            3 => Event::FilesRead { run: self.some_run(input), result: self.files(input) },
            4 => Event::Spawned { run: self.some_run(input), pid: 100 },
            5 => {
                let run = self.some_run(input);
                self.forget(run);
                Event::SpawnFailed { run, error: error(input) }
            }
            6 => {
                let run = self.some_run(input);
                self.forget(run);
                Event::Exited { run, status: exit(input) }
            }
            7 => Event::Forwarded { signal: Signal::TERM, heeded: input.yes() },
            8 => Event::FromTerminal { run: self.some_run(input), signal: Signal::INT },
            9 => Event::RunLost { run: self.some_run(input) },
            10 => Event::RunLeft { run: self.some_run(input), any: input.yes() },
            11 => Event::Printed { run: self.some_run(input), text: format!("{}", input.number()) },
            12 if self.main.is_none() => Event::Strays { left: input.below(3) },
            12 => Event::StrayEnded { status: exit(input) },
            13 => Event::Followed { run: self.some_run(input), pid: input.yes().then_some(101) },
            14 if !self.probes.is_empty() => {
                let run = self.probes.remove(input.below(self.probes.len()));
                Event::Probed { run, result: input.result(()) }
            }
            15 if input.yes() => {
                let said = Notification { ready: input.yes(), ..Notification::default() };
                Event::CoprocessNotified { name: "a".to_owned(), said }
            }
            14 | 15 => Event::Notified(Notification {
                ready: input.yes(),
                watchdog: input.yes(),
                reloading: input.yes(),
                stopping: input.below(8) == 1,
                triggered: input.below(8) == 1,
                watchdog_within: input.yes().then(|| input.span().min(LONGEST)),
                extend: input.yes().then(|| input.span().min(LONGEST)),
                status: input.yes().then(|| "busy".to_owned()),
                main_pid: input.yes().then_some((101, 7)),
            }),
            16 => {
                let advertised = Advertised { address: "10.0.0.1".to_owned(), why: "so".to_owned() };
                Event::Published { service: "web".to_owned(), result: input.result(advertised) }
            }
            17 => Event::Withdrawn { service: "web".to_owned(), result: input.result(()) },
            18 if input.below(4) == 1 => Event::SeenAnew { follow: follow(input) },
            18 => Event::Observed { follow: follow(input), seen: observation(input) },
            19 => Event::Rendered { watch: "t".to_owned(), outcome: self.rendering(input) },
            20 => Event::Installed { watch: "t".to_owned(), result: input.result(()) },
            21 => Event::Hinted { watch: "t".to_owned(), sent: input.yes() },
            22 if input.below(4) == 1 => {
                Event::OuterWatchdog { every: Duration::from_secs(1) + input.span().min(LONGEST) }
            }
            22 => Event::Guard { stands: input.yes() },
            23 => Event::Control { reply: ReplyId(1), request: request(input) },
            24 => Event::ConfigLoaded(match input.below(3) {
                0 => Err("bad".to_owned()),
                1 => Ok(Box::new(self.config.clone().into())),
                _ => Ok(Box::new(config(input).into())),
            }),
            25 => Event::Witness { stands: input.result(()) },
            26 => {
                let second = i64::try_from(input.number()).unwrap_or(i64::MAX).saturating_mul(i64::from(input.byte()));
                Event::Calendar(Calendar::booted_at(
                    jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX),
                ))
            }
            _ => return self.store(input),
        };
        self.send(event);
    }

    /// The store, or somebody who writes into it, says something.
    fn store(&mut self, input: &mut Input<'_>) {
        let event = match input.below(4) {
            0 => ElectionEvent::Saw(self.view(input)),
            _ if self.asks.is_empty() => return,
            _ => {
                let (ask, order) = self.asks.remove(input.below(self.asks.len()));
                self.answer(ask, order, input)
            }
        };
        self.send(Event::Election(event));
    }

    fn answer(&mut self, ask: RequestId, order: StoreRequest, input: &mut Input<'_>) -> ElectionEvent {
        match order {
            StoreRequest::OpenSession { .. } => {
                let session = SessionId(u128::from(input.number()));
                let store = input.number();
                let guarantee = match guarantee(input) {
                    // What stores grant is bounded where it is read.
                    Guarantee::For(span) => Guarantee::For(span.min(LONGEST / 2)),
                    while_alive => while_alive,
                };
                ElectionEvent::Opened { ask, result: input.result((session, guarantee, Revision(store))) }
            }
            StoreRequest::Look { .. } => ElectionEvent::Looked { ask, result: self.view(input) },
            StoreRequest::Acquire { .. } => {
                let result = match input.below(5) {
                    0 => Acquisition::Changed,
                    1 => Acquisition::HeldBack,
                    2 => Acquisition::Unknown("lost".to_owned()),
                    _ => {
                        let term = Term(input.number());
                        self.won.push(term);
                        Acquisition::Won(term)
                    }
                };
                // Whatever is said, it may have got it, and reads that back.
                self.won.push(Term(0));
                ElectionEvent::Acquired { ask, result }
            }
            StoreRequest::Renew { session, term, .. } => {
                let result = match input.below(5) {
                    0 => Renewal::Gone { void: input.yes() },
                    1 => Renewal::Unknown("lost".to_owned()),
                    2 => self.view(input).map_or_else(Renewal::Unknown, Renewal::Alive),
                    _ => Renewal::Alive(View { at: term.0, lock: held("me", session, term), ..free() }),
                };
                ElectionEvent::Renewed { ask, result }
            }
            StoreRequest::Release { .. } => ElectionEvent::Released { ask, result: input.result(()) },
            StoreRequest::PublishRank { .. } => ElectionEvent::Published { ask, result: input.result(()) },
            _ => {
                let mut peer = |id: &str| PeerRank {
                    id: id.into(),
                    term: Term(input.byte().into()),
                    answer: match input.byte() % 4 {
                        0 => Answer::Measuring,
                        1 => Answer::Failed,
                        2 => Answer::Known(Rank::Never),
                        _ => Answer::Known(Rank::Number(input.number().into())),
                    },
                    stands: input.yes(),
                };
                let ranks = vec![peer("a"), peer("b")];
                ElectionEvent::Ranks { ask, result: input.result(ranks) }
            }
        }
    }

    fn view(&self, input: &mut Input<'_>) -> Result<View, String> {
        let session = SessionId(u128::from(input.number()));
        let lock = match input.below(4) {
            0 => return Err("down".to_owned()),
            1 => held(["me", "other"][input.below(2)], session, Term(input.number())),
            _ => Lock::Free { version: Revision(input.number()), taken_from: input.yes().then_some(session) },
        };
        let last = input.yes().then(|| Last {
            id: ["me", "other"][input.below(2)].into(),
            session,
            term: Term(input.number()),
            guarantee: guarantee(input),
            released: input.yes(),
            to: input.yes().then(|| "me".into()),
            ended: input.yes(),
            hold_off_left: input.span(),
        });
        Ok(View { at: input.number(), lock, last, last_revision: Revision(input.number()) })
    }

    /// A run that is alive as a rule, and at times any other.
    fn some_run(&self, input: &mut Input<'_>) -> RunId {
        match (input.below(8), self.alive.len()) {
            (0, _) | (_, 0) => RunId(self.last_run.saturating_sub(input.below(4) as u64)),
            (1, _) => self.main.unwrap_or(RunId(self.last_run)),
            (_, alive) => self.alive[input.below(alive)],
        }
    }

    fn forget(&mut self, run: RunId) {
        self.alive.retain(|alive| *alive != run);
        self.main = self.main.filter(|main| *main != run);
    }

    fn files(&self, input: &mut Input<'_>) -> Result<Secrets, SpawnError> {
        if input.yes() { Ok(Secrets::default()) } else { Err(error(input)) }
    }

    fn rendering(&self, input: &mut Input<'_>) -> Rendering {
        let template = self.config.watches.iter().find_map(|watch| watch.template.clone());
        match (input.below(4), template) {
            (0, _) => Rendering::Failed("bad".to_owned()),
            (1, _) => Rendering::Kept,
            (2, Some(template)) => Rendering::Staged(Staged {
                path: Some("/.d".into()),
                beside: input.yes(),
                text: Text("new".into()),
                template: Arc::new(template),
            }),
            _ => Rendering::Unchanged,
        }
    }
}

fn error(input: &mut Input<'_>) -> SpawnError {
    let hope = [Hope::None, Hope::IfItWasThere, Hope::Soon][input.below(3)];
    SpawnError { code: 127, message: "no such file".to_owned(), hope }
}

fn exit(input: &mut Input<'_>) -> ExitStatus {
    match input.below(4) {
        0 => ExitStatus::Killed(Signal::new(1 + input.below(64) as i32).expect("a signal's number")),
        1 => ExitStatus::Exited(input.byte()),
        _ => ExitStatus::Exited(0),
    }
}

fn follow(input: &mut Input<'_>) -> Follow {
    match input.below(5) {
        0 => Follow::WaitFor(input.below(3)),
        2 => Follow::Await(ReplyId(1)),
        1 => Follow::Watch("t".to_owned()),
        _ => Follow::Watch("w".to_owned()),
    }
}

fn observation(input: &mut Input<'_>) -> Result<Observation, String> {
    match input.below(4) {
        0 => Err("down".to_owned()),
        1 => Ok(Observation::Key(input.yes().then(|| "v".to_owned()))),
        2 => Ok(Observation::Keys([("k".to_owned(), input.byte().to_string())].into())),
        _ => {
            let instance = |id: usize| Instance {
                id: id.to_string(),
                node: None,
                name: "app".to_owned(),
                address: "::1".to_owned(),
                port: 80,
                tags: Vec::new(),
                meta: BTreeMap::new(),
            };
            Ok(Observation::Instances((0..input.below(4)).map(instance).collect()))
        }
    }
}

fn request(input: &mut Input<'_>) -> Request {
    match input.below(23) {
        0 => Request::Stop,
        1..4 => Request::Reload,
        4..7 => Request::StepDown { to: input.yes().then(|| "other".to_owned()) },
        7..8 => Request::AcceptTerm,
        8..9 => Request::AcceptLoss,
        9..13 => Request::BeginMaintenance { lasts: input.yes().then(|| input.span().min(LONGEST)), reason: None },
        13..16 => Request::EndMaintenance,
        16 => {
            let query = Query::Key { key: "k".to_owned() };
            Request::Await { query, within: Duration::from_secs(20) }
        }
        17 => {
            let signal = Signal::new(1 + input.below(64) as i32).expect("a signal's number");
            Request::Signal { signal, name: None }
        }
        18 | 19 => Request::RunTask { name: if input.yes() { "t" } else { "l" }.to_owned() },
        20 => Request::PushMetrics { values: vec![("p".to_owned(), input.byte().to_string())] },
        21 => Request::Restart { name: Some("a".to_owned()) },
        _ => Request::Restart { name: None },
    }
}

fn guarantee(input: &mut Input<'_>) -> Guarantee {
    match input.below(4) {
        0 => Guarantee::WhileAlive { linger: input.span() },
        1 => Guarantee::For(input.span()),
        _ => Guarantee::For(Duration::from_secs(15)),
    }
}

fn held(id: &str, session: SessionId, term: Term) -> Lock {
    Lock::Held(Holder {
        id: id.into(),
        session,
        term,
        address: None,
        owes: Some(Duration::from_millis(term.0)),
        witness: None,
    })
}

fn free() -> View {
    View { at: 1, lock: Lock::Free { version: Revision(0), taken_from: None }, last: None, last_revision: Revision(0) }
}
