//! A stage for the core: time that a test moves, and orders written down in short words.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{Backend, Catalog, Config, Control, Exec, Health, Hook, Log, Query, Signal, Stop, Watch, When};
use crate::config::{
    ConsulService, Family, HttpProbe, Level, LogFormat, OnFailure, PreStart, Probe, Process, Service, ServiceOf,
};
use crate::supervisor::machines::election::{ElectionEvent, RequestId, StoreRequest};
use crate::supervisor::vocabulary::*;
use crate::supervisor::{Effect, Event, Notice, Supervisor, Time};

/// A core on the stage.
pub struct Script {
    pub core: Supervisor,
    now: u64,
    /// Orders since the last look, in short words.
    heard: Vec<String>,
    /// Notices since the last look.
    pub said: Vec<Notice>,
    /// The runs ordered, by what they are for.
    runs: BTreeMap<String, RunId>,
    /// Whether main's starts take as long as [`main_starts`](Self::main_starts) says.
    pub starts_slowly: bool,
    /// Who is found when what main left is to be followed.
    pub followable: Option<Pid>,
    /// Who was named as the one to be followed last, and whether nobody else will do.
    pub sought: Option<(Option<ProcessId>, bool)>,
    /// How many were there before the agent, and are still when it ends.
    pub there_before: usize,
    /// All that main left has ended, and is held by its tracer.
    pub held_dead: bool,
    /// Whether main catches the signals of watches, and those passed on.
    pub catches: bool,
    /// Why main can't be started, as often as there are reasons.
    pub main_fails: Vec<SpawnError>,
    /// The same of coprocesses.
    pub coprocess_fails: Vec<SpawnError>,
    /// What each command was given to read.
    pub stdin: BTreeMap<String, Announcement>,
    /// What each command, and main, was told in its environment.
    pub env: BTreeMap<String, BTreeMap<String, String>>,
    /// The role that each command ends with.
    pub roles: BTreeMap<String, When>,
    /// The tags last published of each service.
    pub tags: BTreeMap<String, Vec<String>>,
    /// Why each service was last published as what it was.
    pub notes: BTreeMap<String, String>,
    /// What stands beside the election's lock, for who looks; nothing comes of that without.
    pub acting: Option<String>,
    /// Whether anybody has acted in the election, when that is asked.
    pub acted_before: Result<ElectionPast, String>,
    pub acting_told: Result<(), String>,
    /// What the supervisor above is told.
    pub outer: Vec<OuterWord>,
    /// The last question of each kind to the store.
    asks: BTreeMap<&'static str, RequestId>,
}

impl Script {
    /// Starts at time zero; main starts by itself when ordered, as process 100.
    pub fn start(config: Config) -> Script {
        let mut script = Script::of(Supervisor::new(config, 1));
        script.send(Event::Started);
        script
    }

    /// One that says nothing by itself.
    pub fn of(core: Supervisor) -> Script {
        Script {
            core,
            now: 0,
            heard: Vec::new(),
            said: Vec::new(),
            runs: BTreeMap::new(),
            starts_slowly: false,
            catches: true,
            followable: Some(101),
            sought: None,
            there_before: 0,
            held_dead: false,
            main_fails: Vec::new(),
            coprocess_fails: Vec::new(),
            stdin: BTreeMap::new(),
            env: BTreeMap::new(),
            roles: BTreeMap::new(),
            tags: BTreeMap::new(),
            notes: BTreeMap::new(),
            acting: None,
            acted_before: Ok(ElectionPast::Led),
            acting_told: Ok(()),
            outer: Vec::new(),
            asks: BTreeMap::new(),
        }
    }

    /// Something happened then, and whatever answers to what is ordered comes by itself: the orders, and what is said.
    pub fn is_told(&mut self, now: Time, event: Event, only_heard: bool) -> Vec<String> {
        let mut told = Vec::new();
        let effects = match only_heard {
            true => self.core.hear(now, event),
            false => self.core.handle(now, event),
        };
        for effect in effects {
            self.hear(effect);
            told.extend(self.said.drain(..).map(|notice| format!("says {}: {notice}", notice.name())));
            told.append(&mut self.heard);
        }
        told
    }

    /// Something happens now.
    pub fn send(&mut self, event: Event) {
        let mut next = vec![event];
        while let Some(event) = next.pop() {
            let effects = self.core.handle(self.time(), event);
            for pair in effects.windows(2).chain(effects.last().map(std::slice::from_ref)) {
                // Who is stopped can't obey. What a plain init passes on is somebody else's word.
                if let Effect::Kill { target, signal: Signal::TERM } = pair[0]
                    && !self.core.config.is_plain()
                {
                    assert_eq!(pair.get(1), Some(&Effect::Kill { target, signal: Signal::CONT }));
                }
            }
            for effect in effects {
                if let Effect::Say(Notice::DependencyChanged { watch, what }) = &effect {
                    assert!(!what.is_empty(), "{watch} changed, and nothing is said of how");
                }
                next.extend(self.hear(effect));
            }
        }
    }

    /// Time goes on to `millis`, through every deadline on the way.
    pub fn until(&mut self, millis: u64) {
        assert!(millis >= self.now, "time goes on");
        for _ in 0..10_000 {
            match self.core.next_deadline().map(|at| at.from_boot().as_nanos().div_ceil(1_000_000) as u64) {
                Some(at) if at <= millis => {
                    self.now = self.now.max(at);
                    self.send(Event::Tick);
                }
                _ => {
                    self.now = millis;
                    return;
                }
            }
        }
        panic!("the core's deadline {:?} doesn't move", self.core.next_deadline());
    }

    /// The agent doesn't run until then; its deadlines pass.
    pub fn sleeps_until(&mut self, millis: u64) {
        self.now = millis;
    }

    /// What time it is.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Main, whose start was ordered, runs.
    pub fn main_starts(&mut self) {
        let run = self.runs["main"];
        self.send(Event::Spawned { run, pid: 100 });
    }

    /// What main is to find in its environment was read.
    pub fn reads(&mut self, result: Result<Secrets, SpawnError>) {
        let run = self.runs["main"];
        self.send(Event::FilesRead { run, result });
    }

    /// The run last ordered for this.
    pub fn run_of(&self, what: &str) -> RunId {
        self.runs[what]
    }

    /// Looks at the orders since the last look.
    pub fn heard(&mut self) -> Vec<String> {
        std::mem::take(&mut self.heard)
    }

    /// Asserts the orders since the last look.
    #[track_caller]
    pub fn expect(&mut self, orders: &[&str]) {
        assert_eq!(self.heard(), orders, "at {} ms", self.now);
    }

    /// The time of an order yet to come: goes on until it is heard.
    #[track_caller]
    pub fn when(&mut self, order: &str) -> u64 {
        let horizon = self.now + 3_600_000;
        loop {
            if let Some(index) = self.heard.iter().position(|heard| heard == order) {
                self.heard.drain(..=index);
                return self.now;
            }
            let next = self.core.next_deadline().map(|at| at.from_boot().as_nanos().div_ceil(1_000_000) as u64);
            let next =
                next.filter(|at| *at <= horizon).unwrap_or_else(|| panic!("`{order}` never came: {:?}", self.heard));
            self.now = self.now.max(next);
            self.send(Event::Tick);
        }
    }

    pub fn signal(&mut self, signal: Signal) {
        self.send(Event::Signal(signal));
    }

    /// The run of this job ends, with nothing left behind.
    #[track_caller]
    pub fn ends(&mut self, job: &str, code: u8) {
        self.ends_as(job, ExitStatus::Exited(code));
    }

    #[track_caller]
    pub fn ends_as(&mut self, job: &str, status: ExitStatus) {
        let run = self.run(job);
        self.send(Event::Exited { run, status });
        match job {
            "main" => self.send(Event::Strays { left: 0 }),
            _ => self.group_ends(job),
        }
    }

    /// The process of this command ends, and what it forked lives on.
    #[track_caller]
    pub fn ends_leaving(&mut self, job: &str, status: ExitStatus) {
        let run = self.run(job);
        self.send(Event::Exited { run, status });
        self.send(Event::RunLeft { run, any: true });
    }

    /// What it forked has ended, too.
    #[track_caller]
    pub fn group_ends(&mut self, job: &str) {
        let run = self.run(job);
        self.send(Event::RunLeft { run, any: false });
    }

    #[track_caller]
    pub fn run(&self, job: &str) -> RunId {
        *self.runs.get(job).unwrap_or_else(|| panic!("{job} was never started"))
    }

    pub fn answer(&mut self, job: &str, result: Result<(), &str>) {
        let run = self.run(job);
        self.send(Event::Probed { run, result: result.map_err(str::to_owned) });
    }

    pub fn sees(&mut self, watch: &str, instances: &[&str]) {
        let seen = Ok(Observation::Instances(instances.iter().map(|id| instance(id)).collect()));
        self.send(Event::Observed { follow: Follow::Watch(watch.to_owned()), seen });
    }

    /// The catalog can't be asked.
    pub fn loses(&mut self, watch: &str) {
        self.send(Event::Observed { follow: Follow::Watch(watch.to_owned()), seen: Err("no server".to_owned()) });
    }

    /// The way to the catalog broke, or it began anew, which is no outage.
    pub fn looks_anew(&mut self, watch: &str) {
        self.send(Event::SeenAnew { follow: Follow::Watch(watch.to_owned()) });
    }

    pub fn published(&mut self, service: &str, result: Result<(), &str>) {
        let result = result.map(|()| advertised()).map_err(str::to_owned);
        self.send(Event::Published { service: service.to_owned(), result });
    }

    pub fn withdrawn(&mut self, service: &str) {
        self.send(Event::Withdrawn { service: service.to_owned(), result: Ok(()) });
    }

    pub fn staged(&mut self, watch: &str) {
        self.rendered(watch, Rendering::Staged(super::watch::staged()));
    }

    pub fn rendered(&mut self, watch: &str, outcome: Rendering) {
        self.send(Event::Rendered { watch: watch.to_owned(), outcome });
    }

    pub fn installed(&mut self, watch: &str) {
        self.send(Event::Installed { watch: watch.to_owned(), result: Ok(()) });
    }

    /// An event of the election's.
    pub fn event(&mut self, event: ElectionEvent) {
        self.send(Event::Election(event));
    }

    /// The question of this kind that was asked last.
    #[track_caller]
    pub fn asked(&self, kind: &str) -> RequestId {
        *self.asks.get(kind).unwrap_or_else(|| panic!("{kind} was never asked"))
    }

    /// The same, if any was.
    pub fn try_asked(&self, kind: &str) -> Option<RequestId> {
        self.asks.get(kind).copied()
    }

    /// An order that a store carries out; renewals and readings, which come all the time, aren't told.
    fn ordered(&mut self, order: StoreRequest) -> String {
        let (kind, ask) = match &order {
            StoreRequest::OpenSession { ask } => ("open", Some(*ask)),
            StoreRequest::CloseSession { .. } => ("close", None),
            StoreRequest::EndFormerLife { .. } => ("end former life", None),
            StoreRequest::Look { ask } => ("look", Some(*ask)),
            StoreRequest::Acquire { ask, .. } => ("acquire", Some(*ask)),
            StoreRequest::AcceptLoss { .. } => ("accept loss", None),
            StoreRequest::Renew { ask, .. } => ("renew", Some(*ask)),
            StoreRequest::Release { ask, .. } => ("release", Some(*ask)),
            StoreRequest::AwaitEnd { .. } => ("await end", None),
            StoreRequest::Certify { ask, .. } => ("certify", Some(*ask)),
            StoreRequest::PublishRank { ask, .. } => ("publish rank", Some(*ask)),
            StoreRequest::ReadRanks { ask } => ("read ranks", Some(*ask)),
        };
        self.asks.extend(ask.map(|ask| (kind, ask)));
        kind.to_owned()
    }

    fn time(&self) -> Time {
        Time::since_boot(Duration::from_millis(self.now))
    }

    fn job(&self, run: RunId) -> String {
        let name = self.runs.iter().find(|(_, known)| **known == run).map(|(name, _)| name.clone());
        name.unwrap_or_else(|| format!("{run:?}"))
    }

    fn sent(&self, signal: Signal, target: Target) -> String {
        match target {
            Target::Process(run) => format!("{signal} to {}", self.job(run)),
            Target::Group(run) => format!("{signal} to {}'s group", self.job(run)),
            Target::All(run) => format!("{signal} to all of {}", self.job(run)),
            Target::Strays => format!("{signal} to strays"),
        }
    }

    fn hear(&mut self, effect: Effect) -> Option<Event> {
        let mut answer = None;
        let words = match effect {
            Effect::Say(notice) => {
                self.said.push(notice);
                return None;
            }
            Effect::TellOuter(word) => {
                self.outer.push(word);
                return None;
            }
            Effect::SpawnMain { run, env, .. } => {
                self.env.insert("main".to_owned(), env.into_iter().collect());
                self.runs.insert("main".to_owned(), run);
                answer = Some(match self.main_fails.pop() {
                    Some(error) => Event::SpawnFailed { run, error },
                    None => Event::Spawned { run, pid: 100 },
                });
                answer = answer.filter(|_| !self.starts_slowly);
                "spawn main".to_owned()
            }
            Effect::ReadFiles { run, .. } => {
                self.runs.insert("main".to_owned(), run);
                "read files".to_owned()
            }
            Effect::Spawn { run, job, role, stdin, env, .. } => {
                self.roles.insert(job.to_string(), role);
                self.env.insert(job.to_string(), env.into_iter().collect());
                self.runs.insert(job.to_string(), run);
                self.stdin.extend(stdin.map(|stdin| (job.to_string(), stdin)));
                answer = Some(Event::Spawned { run, pid: 200 });
                format!("spawn {job}")
            }
            Effect::SpawnCoprocess { run, coprocess, env } => {
                let job = Job::Coprocess { name: coprocess.name.clone() };
                self.env.insert(job.to_string(), env.into_iter().collect());
                self.runs.insert(job.to_string(), run);
                answer = Some(match self.coprocess_fails.pop() {
                    Some(error) => Event::SpawnFailed { run, error },
                    None => Event::Spawned { run, pid: 300 },
                });
                format!("spawn {job}")
            }
            Effect::Kill { target, signal } if signal == Signal::CONT => {
                // Every stop signal is followed by one, so that a stopped process can obey.
                let _ = target;
                return None;
            }
            Effect::Kill { target, signal } => self.sent(signal, target),
            Effect::Forward { target, signal, .. } => {
                answer = Some(Event::Forwarded { signal, heeded: self.catches });
                self.sent(signal, target)
            }
            Effect::Signal { target, signal, .. } => self.sent(signal, target),
            Effect::Hint { watch, target: _, signal } => {
                answer = Some(Event::Hinted { watch, sent: self.catches });
                if self.catches { format!("{signal} to main") } else { format!("no {signal} yet") }
            }
            Effect::CountStrays { may_wait: true } => return None,
            Effect::CountStrays { may_wait: false } => return self.held_dead.then_some(Event::Strays { left: 0 }),
            Effect::CountRest => return Some(Event::Strays { left: self.there_before }),
            Effect::FollowStray { run, told, only } => {
                self.sought = Some((told, only));
                answer = self.followable.map(|pid| Event::Followed { run, pid: Some(pid) });
                "follow a stray".to_owned()
            }
            Effect::Probe { run, .. } => {
                self.runs.insert("probe".to_owned(), run);
                "probe".to_owned()
            }
            Effect::Publish(registration) => {
                self.tags.insert(registration.service.id.clone(), registration.service.tags.clone());
                self.notes.insert(registration.service.id.clone(), registration.note);
                let kept_out = registration.maintenance.map(|reason| format!(", in maintenance: {reason}"));
                let status = registration.status.as_str();
                format!("publish {} {status}{}", registration.service.id, kept_out.unwrap_or_default())
            }
            Effect::Withdraw { service } => format!("withdraw {}", service.id),
            Effect::Follow { follow, .. } => {
                let acting = self.acting.clone().filter(|_| follow == Follow::Acting);
                answer = acting
                    .map(|acting| Event::Observed { follow: Follow::Acting, seen: Ok(Observation::Key(Some(acting))) });
                format!("follow {follow:?}")
            }
            Effect::Unfollow { follow } => format!("unfollow {follow:?}"),
            Effect::Render { watch, unanswered: true, .. } => format!("render {watch} without an answer"),
            Effect::Render { watch, .. } => format!("render {watch}"),
            Effect::Install { watch, .. } => format!("install {watch}"),
            Effect::Discard(_) => "discard".to_owned(),
            Effect::Key { fence: Some(fence), .. } => format!("key for term {}", fence.term.0),
            Effect::Key { fence: None, .. } => "key".to_owned(),
            Effect::AskWhoActed { fence, .. } => {
                return Some(Event::ActedBefore { term: fence.term, result: self.acted_before.clone() });
            }
            Effect::AskWhetherLed { term, .. } => {
                let result = self.acted_before.clone().map(|past| past != ElectionPast::Unled);
                return Some(Event::LedBefore { term, result });
            }
            Effect::TellActing { fence, mark, .. } => {
                answer = Some(Event::ActingTold { term: fence.term, result: self.acting_told.clone() });
                let term = fence.term.0;
                match mark {
                    LeaderMark::Prepares => format!("tell that term {term} prepares"),
                    LeaderMark::Begins => format!("tell that term {term} begins"),
                    LeaderMark::Acts => format!("tell that term {term} acts"),
                }
            }
            Effect::JoinElection(election) => format!("join {}", election.name),
            Effect::Elect(order) => self.ordered(order),
            Effect::Suspend => "suspend".to_owned(),
            Effect::EndGroup { signal } => format!("{signal} to main's group"),
            Effect::Guard { deadline: Some(_) } => "guard".to_owned(),
            Effect::Guard { deadline: None } => "guard off".to_owned(),
            Effect::StartGuard => "start guard".to_owned(),
            Effect::LoadConfig => "load config".to_owned(),
            Effect::FollowCalendar => "follow the calendar".to_owned(),
            Effect::Services(_) => return None,
            Effect::Endpoints { .. } => "endpoints".to_owned(),
            Effect::Logging(_) => "logging".to_owned(),
            Effect::Reply { answer, .. } => {
                let word = match answer {
                    Answer::Done(_) | Answer::Found(_) => "ok",
                    Answer::Unmet(_) => "unmet",
                    Answer::Unavailable(_) => "unavailable",
                    Answer::NotYet(_) => "not yet",
                    Answer::Refused(_) => "error",
                };
                format!("reply {word}")
            }
            Effect::Exit { code, .. } => format!("exit {code}"),
        };
        self.heard.push(words);
        answer
    }
}

/// A config with a main and nothing else, stopping within ten seconds.
pub fn config() -> Config {
    Config {
        process: Process::new(exec("main")),
        stop: Stop { within: Some(Duration::from_secs(10)), drain: Duration::ZERO },
        control: Control { socket: None, listen: None, signals: false },
        log: Log { level: Level::Info, format: LogFormat::Text },
        catalog: Catalog {
            backend: Backend::Local { directory: "/shared".into(), shared: false },
            ..Config::plain(Vec::new()).catalog
        },
        ..Config::plain(exec("main"))
    }
}

pub fn exec(command: &str) -> Exec {
    command.split(' ').map(Into::into).collect()
}

pub fn hook(command: &str) -> Hook {
    Hook::new(exec(command), Duration::from_secs(30))
}

pub fn pre_start(retries: u32) -> PreStart {
    PreStart { hook: hook("prepare"), retries, backoff: Default::default() }
}

pub fn service(name: &str) -> Service {
    Service {
        name: name.to_owned(),
        id: name.to_owned(),
        port: 80,
        of: ServiceOf::Main,
        tags: Vec::new(),
        meta: BTreeMap::new(),
        address: vec![crate::config::AddressSpec::Any(Family::V4)],
        // Long, so that no heartbeat comes between what a script looks at.
        ttl: Duration::from_secs(24 * 3600),
        consul: ConsulService { enable_tag_override: false, deregister_critical_after: None },
    }
}

pub fn check(name: &str, on_failure: OnFailure) -> Health {
    Health {
        name: name.to_owned(),
        of: None,
        probe: Probe::Http(HttpProbe {
            url: "http://127.0.0.1/".to_owned(),
            method: "GET".to_owned(),
            headers: BTreeMap::new(),
            expect_status: Vec::new(),
            expect_body: None,
            ca: None,
            insecure: false,
        }),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        grace: Duration::ZERO,
        start_interval: Duration::from_millis(500),
        failures: 1,
        successes: 1,
        on_failure,
        services: vec!["web".to_owned()],
        counts: true,
        stand: true,
    }
}

pub fn watch(name: &str) -> Watch {
    Watch {
        name: name.to_owned(),
        query: Query::Service { name: name.to_owned(), tag: None, datacenter: None },
        settle: Duration::from_millis(100),
        on_change: Some(hook("reload")),
        template: None,
        signal: None,
        when: When::Always,
    }
}

pub fn advertised() -> Advertised {
    Advertised { address: "10.0.0.1".to_owned(), why: "as configured".to_owned() }
}

pub fn instance(id: &str) -> Instance {
    Instance {
        id: id.to_owned(),
        node: None,
        name: "app".to_owned(),
        address: "10.0.0.1".to_owned(),
        port: 80,
        tags: Vec::new(),
        meta: BTreeMap::new(),
    }
}
