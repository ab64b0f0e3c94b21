//! Whatever happens in whatever order: the container ends in time, its deadlines move on, and nothing runs twice.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::coprocess::coprocess;
use super::script::*;
use crate::config::coprocess::{Ready, StopPoint};
use crate::config::{Background, Config, Coprocess, Hooks, OnFailure, Probe, RestartPolicy, SensorKind, Signal};
use crate::supervisor::vocabulary::*;
use crate::supervisor::{Effect, Event, Supervisor, Time};

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Signal(i32),
    EndOne(usize, u8),
    Strays(usize),
    Probe(usize, bool),
    Publish(bool),
    Withdraw(bool),
    See(u8),
    Render(u8),
    Install(bool),
    Reload(u8),
    Maintenance(Option<u64>),
    Calendar(i64),
    RunTask,
    Print(usize, bool),
    MaintenanceOff,
    Restart,
    RestartBeside(bool),
    Signalled(i32),
    Await(bool),
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..20_000).prop_map(Step::Wait),
        (1i32..=64).prop_map(Step::Signal),
        (0usize..8, 0u8..3).prop_map(|(index, code)| Step::EndOne(index, code)),
        (0usize..3).prop_map(Step::Strays),
        (0usize..4, any::<bool>()).prop_map(|(index, ok)| Step::Probe(index, ok)),
        any::<bool>().prop_map(Step::Publish),
        any::<bool>().prop_map(Step::Withdraw),
        (0u8..4).prop_map(Step::See),
        (0u8..3).prop_map(Step::Render),
        any::<bool>().prop_map(Step::Install),
        (0u8..5).prop_map(Step::Reload),
        prop::option::of(0u64..30_000).prop_map(Step::Maintenance),
        Just(Step::MaintenanceOff),
        Just(Step::Restart),
        any::<bool>().prop_map(Step::RestartBeside),
        (1i32..=64).prop_map(Step::Signalled),
        any::<bool>().prop_map(Step::Await),
        (0i64..4_000_000_000).prop_map(Step::Calendar),
        Just(Step::RunTask),
        (0usize..8, any::<bool>()).prop_map(|(index, good)| Step::Print(index, good)),
        Just(Step::Stop),
    ]
}

fn configs() -> impl Strategy<Value = Config> {
    (any::<[bool; 6]>(), 0usize..3).prop_map(|(flags, policy)| {
        let [hooks, services, follow, template, exit, ready] = flags;
        let mut config = config();
        config.process.restart.policy = [RestartPolicy::Never, RestartPolicy::OnFailure, RestartPolicy::Always][policy];
        if follow {
            config.process.background = Background::Follow;
        }
        if hooks {
            config.hooks = Hooks {
                pre_start: vec![pre_start(1), pre_start(0)],
                post_start: Some(hook("settle")),
                pre_stop: Some(hook("drain")),
                post_stop: Some(hook("clean")),
                ..Hooks::default()
            };
        }
        if services {
            config.services = vec![service("web")];
            config.health = vec![check("ping", if exit { OnFailure::Exit } else { OnFailure::Restart })];
        }
        if follow {
            let first = Coprocess { pre_start: Some(hook("prepare")), ..coprocess("first") };
            let second =
                Coprocess { after: vec!["first".to_owned()], post_stop: Some(hook("clean")), ..coprocess("second") };
            let front = Coprocess { stop: StopPoint::BeforeMain, background: Background::Follow, ..coprocess("front") };
            let front = Coprocess { ready: ready.then(|| says_ready(Probe::Notify)), ..front };
            config.coprocesses = vec![second, first, front];
        }
        config.watches = vec![if template { super::watch::templated() } else { watch("app") }];
        config.control.signals = ready;
        config.tasks = vec![super::tasks::every(3_000), super::tasks::cron("*/2 * * * *", "UTC")];
        config.tasks[1].name = "other".to_owned();
        config.tasks[0].at_start = exit;
        config.sensors = vec![super::sensors::sensor(SensorKind::Gauge)];
        config
    })
}

fn says_ready(probe: Probe) -> Ready {
    Ready { probe, timeout: Duration::from_secs(30) }
}

/// What a careless world looks like from inside the core.
struct World {
    core: Supervisor,
    config: Config,
    now: Duration,
    alive: Vec<RunId>,
    probes: Vec<RunId>,
    main: Option<RunId>,
    main_ever: BTreeSet<RunId>,
    ended: Option<Duration>,
    stop_began: Option<Duration>,
}

impl World {
    fn send(&mut self, event: Event) {
        let (mut queue, now) = (vec![event], Time::since_boot(self.now));
        while let Some(event) = queue.pop() {
            let ticks = matches!(event, Event::Tick);
            let effects = self.core.handle(now, event);
            let next = self.core.next_deadline().filter(|_| ticks && self.ended.is_none());
            assert!(next.is_none_or(|next| next > now), "a deadline that has passed stays: the loop would spin");
            for effect in effects {
                assert!(self.ended.is_none(), "{effect:?} came after the end");
                match effect {
                    Effect::SpawnMain { run, .. } => {
                        assert!(self.main.is_none(), "a second main was started");
                        assert!(self.main_ever.insert(run), "a run was used twice");
                        self.main = Some(run);
                        self.alive.push(run);
                        queue.push(Event::Spawned { run, pid: 100 });
                    }
                    Effect::ReadFiles { run, .. } => {
                        queue.push(Event::FilesRead { run, result: Ok(Secrets::default()) });
                    }
                    Effect::Spawn { run, .. } | Effect::SpawnCoprocess { run, .. } => {
                        self.alive.push(run);
                        queue.push(Event::Spawned { run, pid: 200 });
                    }
                    Effect::Probe { run, .. } => self.probes.push(run),
                    Effect::FollowStray { run, .. } if self.main != Some(run) && !self.main_ever.contains(&run) => {
                        queue.push(Event::Followed { run, pid: Some(300) });
                    }
                    Effect::Exit { .. } => self.ended = Some(self.now),
                    _ => {}
                }
            }
            if self.stop_began.is_none() && self.core.status().phase == crate::supervisor::vocabulary::Phase::Stopping {
                self.stop_began = Some(self.now);
            }
        }
    }

    fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        for _ in 0..20_000 {
            let Some(at) = self.core.next_deadline().map(Time::from_boot).filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(at);
            self.send(Event::Tick);
            if self.ended.is_some() {
                return;
            }
        }
        panic!("the deadline {:?} doesn't move", self.core.next_deadline());
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Wait(millis) => self.wait(millis),
            Step::Signal(number) => self.send(Event::Signal(Signal::new(number).unwrap())),
            Step::EndOne(index, code) if !self.alive.is_empty() => {
                let run = self.alive.remove(index % self.alive.len());
                if self.main == Some(run) {
                    self.main = None;
                }
                let of_main = self.main_ever.contains(&run);
                self.send(Event::Exited { run, status: ExitStatus::Exited(code) });
                if !of_main {
                    self.send(Event::RunLeft { run, any: code == 2 });
                }
            }
            Step::EndOne(..) => {}
            // The adapter never says that strays are left of a main that runs.
            Step::Strays(left) => {
                if self.main.is_none() {
                    self.send(Event::Strays { left });
                }
            }
            Step::Probe(index, ok) if !self.probes.is_empty() => {
                let run = self.probes.remove(index % self.probes.len());
                self.send(Event::Probed { run, result: if ok { Ok(()) } else { Err("unhealthy".to_owned()) } });
            }
            Step::Probe(..) => {}
            Step::Publish(ok) => {
                let result = if ok { Ok(advertised()) } else { Err("down".to_owned()) };
                self.send(Event::Published { service: "web".to_owned(), result });
            }
            Step::Withdraw(ok) => {
                let result = if ok { Ok(()) } else { Err("down".to_owned()) };
                self.send(Event::Withdrawn { service: "web".to_owned(), result });
            }
            Step::See(count) => {
                let instances = (0..count).map(|n| instance(&n.to_string())).collect();
                let seen = if count == 3 { Err("down".to_owned()) } else { Ok(Observation::Instances(instances)) };
                let follow = Follow::Watch("app".to_owned());
                if count == 0 {
                    self.send(Event::SeenAnew { follow: follow.clone() });
                }
                self.send(Event::Observed { follow, seen });
            }
            Step::Render(kind) => {
                let outcome = match kind {
                    0 => Rendering::Unchanged,
                    1 => Rendering::Failed("bad".to_owned()),
                    _ => Rendering::Staged(super::watch::staged()),
                };
                self.send(Event::Rendered { watch: "app".to_owned(), outcome });
            }
            Step::Install(ok) => {
                let result = if ok { Ok(()) } else { Err("full".to_owned()) };
                self.send(Event::Installed { watch: "app".to_owned(), result });
            }
            Step::Reload(kind) => {
                self.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
                for coprocess in &mut self.config.coprocesses {
                    match kind {
                        2 => coprocess.ready = None,
                        3 => coprocess.ready = Some(says_ready(Probe::Notify)),
                        4 => coprocess.ready = Some(says_ready(Probe::Tcp { address: "127.0.0.1:1".to_owned() })),
                        _ => {}
                    }
                }
                let config = if kind == 0 { Err("bad".to_owned()) } else { Ok(Box::new(self.config.clone().into())) };
                self.send(Event::ConfigLoaded(config));
            }
            Step::Maintenance(millis) => {
                let request = Request::BeginMaintenance { lasts: millis.map(Duration::from_millis), reason: None };
                self.send(Event::Control { reply: ReplyId(1), request });
            }
            Step::MaintenanceOff => {
                self.send(Event::Control { reply: ReplyId(1), request: Request::EndMaintenance });
            }
            Step::Restart => {
                self.send(Event::Control { reply: ReplyId(4), request: Request::Restart { name: None } });
            }
            Step::RestartBeside(front) => {
                let name = Some(if front { "front" } else { "first" }.to_owned());
                self.send(Event::Control { reply: ReplyId(4), request: Request::Restart { name } });
            }
            Step::Signalled(number) => {
                let signal = Signal::new(number).unwrap();
                self.send(Event::Control { reply: ReplyId(5), request: Request::Signal { signal, name: None } });
            }
            Step::Await(seen) if seen => {
                let seen = Ok(Observation::Key(Some("v".to_owned())));
                self.send(Event::Observed { follow: Follow::Await(ReplyId(6)), seen });
            }
            Step::Await(_) => {
                let query = crate::config::Query::Key { key: "k".to_owned() };
                let request = Request::Await { query, within: Duration::from_secs(20) };
                self.send(Event::Control { reply: ReplyId(6), request });
            }
            Step::Calendar(second) => {
                let booted = jiff::Timestamp::from_second(second).unwrap();
                self.send(Event::Calendar(Calendar::booted_at(booted)));
            }
            Step::RunTask => {
                let request = Request::RunTask { name: "backup".to_owned() };
                self.send(Event::Control { reply: ReplyId(1), request });
            }
            Step::Print(index, good) if !self.alive.is_empty() => {
                let run = self.alive[index % self.alive.len()];
                let text = if good { "1" } else { "x" }.to_owned();
                self.send(Event::Printed { run, text });
            }
            Step::Print(..) => {}
            Step::Stop => self.send(Event::Control { reply: ReplyId(2), request: Request::Stop }),
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_a_stop_ends_within_its_time(config in configs(), steps in prop::collection::vec(step(), 0..60)) {
        let within = config.stop.within.unwrap();
        let mut world = World {
            core: Supervisor::new(config.clone(), 1),
            config,
            now: Duration::ZERO,
            alive: Vec::new(),
            probes: Vec::new(),
            main: None,
            main_ever: BTreeSet::new(),
            ended: None,
            stop_began: None,
        };
        world.send(Event::Started);
        for step in steps {
            if world.ended.is_some() {
                break;
            }
            world.play(step);
        }
        if world.ended.is_none() {
            world.send(Event::Control { reply: ReplyId(3), request: Request::Stop });
            // From here on nothing in the world answers any more.
            world.wait(within.as_millis() as u64 + 1);
        }
        let (began, ended) = (world.stop_began, world.ended);
        prop_assert!(ended.is_some(), "it never ended: {:?}", world.core.status());
        prop_assert!(ended.unwrap() <= began.unwrap() + within, "began {began:?}, ended {ended:?}");
    }
}
