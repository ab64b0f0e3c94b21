//! Five candidates of one election, each a container on a host of its own, and three servers on theirs.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::gate::Gate;
use super::judge::Judge;
use super::register::{Register, now};
use super::schedule::Backend;
use crate::support::hang::Hanging;
use crate::support::lab::Lab;
use crate::support::namespace::{Container, Start, example, pilotfish, processes, status_line};
use crate::support::netlab;
use crate::support::servers::{ConsulCluster, EtcdCluster};

pub const CANDIDATES: [&str; 5] = ["a0", "a1", "a2", "a3", "a4"];
pub const SERVERS: [&str; 3] = ["s0", "s1", "s2"];

/// As short as the sum allows: more failovers in the same time.
pub const LEASE: Duration = Duration::from_secs(7);
pub const ALIVE_TTL: Duration = Duration::from_secs(2);

/// Who wrote nothing for so long doesn't act: twenty acts, and a busy machine.
const SILENCE: Duration = Duration::from_millis(100);

/// A scheduler's pause before it starts a container again.
const RESTART: Duration = Duration::from_millis(500);

pub enum Engine {
    Local(tempfile::TempDir),
    Consul(ConsulCluster),
    Etcd(EtcdCluster),
}

/// Whether the end of a container is known from the kernel of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witnesses {
    /// It is waited for.
    None,
    /// Candidates of one host see each other's files.
    Candidates,
    /// Each is alone on its host, with a `pilotfish witness`.
    Agents,
}

impl Witnesses {
    /// As `WITNESS=candidates` or `agents` asks for.
    pub fn asked_for() -> Witnesses {
        match std::env::var("WITNESS").as_deref() {
            Ok("candidates") => Witnesses::Candidates,
            Ok("agents") => Witnesses::Agents,
            Ok(_) | Err(_) => Witnesses::None,
        }
    }
}

pub struct Candidate {
    lab: Lab,
    container: Option<Container>,
    /// When it is started again.
    due: Option<Instant>,
    /// Whether it has been killed or told to end.
    excused: bool,
    /// Whether it stays away until all is healed.
    lost: bool,
    /// What it said in earlier lives.
    past: String,
    pub gate: Option<Gate>,
}

/// What is dropped first ends first.
pub struct Fleet {
    pub candidates: Vec<Candidate>,
    pub engine: Engine,
    pub network: Option<netlab::Lab>,
    pub register: Register,
    pub judge: Judge,
    /// Containers that ended though nobody had told them to.
    pub deaths: Vec<String>,
    images: Images,
    /// What can't be opened now.
    pub hanging: Option<Hanging>,
    sabotage: Option<String>,
    witnesses: Witnesses,
    _agents: Vec<Container>,
    /// Where the files are by which ends are known.
    files: tempfile::TempDir,
}

/// Who stands: images as different as people write them.
#[derive(Debug, Clone, Copy)]
pub enum Image {
    Plain,
    /// The same, and a rank is told.
    Ranked,
    /// Main runs only while it leads, and has a helper of a session of its own.
    Standby,
    /// on_promote leaves a process behind that acts for its term.
    ForkingHook,
    /// Main and its hooks are another user's.
    AnotherUser,
    /// pre_start takes its time, and a rank is told.
    SlowStart,
}

pub type Images = [Image; CANDIDATES.len()];

pub const MIXED: Images = [Image::Plain, Image::Standby, Image::ForkingHook, Image::AnotherUser, Image::SlowStart];

impl Candidate {
    /// What it reads while it runs.
    pub fn files(&self) -> Vec<PathBuf> {
        ["token", "secret"].iter().map(|name| self.lab.path(name)).collect()
    }
}

impl Fleet {
    /// All of it up, and one leads. The candidates break this rule, if one is named.
    pub fn start(backend: Backend, images: Images, sabotage: Option<&str>, witnesses: Witnesses) -> Fleet {
        let network = (backend != Backend::Local).then(|| netlab::Lab::new(&[&SERVERS[..], &CANDIDATES].concat()));
        let engine = match (&network, backend) {
            (Some(network), Backend::Consul) => {
                Engine::Consul(ConsulCluster::start_in(network, &[&SERVERS[..], &CANDIDATES].concat()))
            }
            (Some(network), Backend::Etcd(version)) => Engine::Etcd(EtcdCluster::start_in(version, network, &SERVERS)),
            _ => Engine::Local(tempfile::tempdir().expect("a directory")),
        };
        let mut fleet = Fleet {
            candidates: Vec::new(),
            engine,
            network,
            register: Register::new(),
            judge: Judge::default(),
            deaths: Vec::new(),
            images,
            hanging: None,
            sabotage: sabotage.map(str::to_owned),
            witnesses,
            _agents: Vec::new(),
            files: tempfile::tempdir().expect("a directory"),
        };
        for index in 0..CANDIDATES.len() {
            let candidate = fleet.candidate(index);
            fleet.candidates.push(candidate);
            fleet.run(index);
        }
        if witnesses == Witnesses::Agents {
            fleet._agents = (0..CANDIDATES.len()).map(|index| fleet.agent_of_host(index)).collect();
        }
        fleet.until("a leader", Duration::from_secs(60), Fleet::leader);
        fleet
    }

    fn candidate(&self, index: usize) -> Candidate {
        let name = CANDIDATES[index];
        let mut gate = None;
        let catalog = match (&self.engine, &self.network) {
            (Engine::Consul(consul), Some(network)) => {
                let to = consul.http[SERVERS.len() + index];
                let at = SocketAddr::new(to.ip(), to.port() + 1);
                gate = Some(Gate::new(&network.namespace(name), at, to));
                format!("backend = \"consul\"\naddress = \"http://{at}\"\ntoken_file = \"DIR/token\"")
            }
            (Engine::Etcd(etcd), _) => {
                let members: Vec<String> = etcd.clients.iter().map(|at| format!("\"http://{at}\"")).collect();
                format!("backend = \"etcd\"\nendpoints = [{}]", members.join(", "))
            }
            (Engine::Local(shared), _) => {
                format!("backend = \"local\"\ndirectory = \"{}\"", shared.path().display())
            }
            (Engine::Consul(_), None) => unreachable!("it is on hosts"),
        };
        // A kernel's lock has no lease.
        let lease = match self.engine {
            Engine::Local(_) => String::new(),
            _ => format!(
                "lease = \"{}s\"\nkill_margin = \"500ms\"\nalive_ttl = \"{}s\"",
                LEASE.as_secs(),
                ALIVE_TTL.as_secs()
            ),
        };
        let address = self.network.as_ref().map_or("192.0.2.1".to_owned(), |network| network.ip(name).to_string());
        let actor = example("actor").display().to_string();
        let register = self.register.path().display();
        let image = self.images[index];
        let tell = format!("\"{actor}\", \"tell\", \"DIR/main\", \"{register}\", \"{name}\"");
        let forks = format!(
            "\"sh\", \"-c\", \"timeout 60 setsid {actor} linger {register} {name} & exec {actor} tell DIR/main {register} {name}\""
        );
        let (run, promote) = match image {
            Image::Standby => ("team", &tell),
            Image::ForkingHook => ("run", &forks),
            Image::Plain | Image::Ranked | Image::AnotherUser | Image::SlowStart => ("run", &tell),
        };
        let user = if let Image::AnotherUser = image { "user = \"65534:65534\"\n" } else { "" };
        let as_user = if user.is_empty() { "" } else { ", user = \"65534:65534\"" };
        let slow = if let Image::SlowStart = image { "pre_start = { exec = [\"sleep\", \"3\"] }\n" } else { "" };
        let stands = match image {
            Image::Standby => "mode = \"standby\"\n",
            Image::Ranked | Image::SlowStart => "rank = { exec = [\"echo\", \"1\"] }\n",
            Image::Plain | Image::ForkingHook | Image::AnotherUser => "",
        };
        let lab = Lab::new(&format!(
            "[process]\nexec = [\"{actor}\", \"{run}\", \"DIR/main\", \"{register}\", \"{name}\"]\n{user}\
             env_from_files = {{ SECRET = \"DIR/secret\" }}\n\
             restart = {{ policy = \"always\", backoff = \"200ms\", max = 1000 }}\n\
             [hooks]\n{slow}\
             on_promote = {{ exec = [{promote}], timeout = \"1s\"{as_user} }}\n\
             on_demote = {{ exec = [{tell}], timeout = \"1s\"{as_user} }}\n\
             [[health]]\nname = \"answers\"\nexec = [\"{actor}\", \"ask\", \"DIR/main\"]\n\
             interval = \"1s\"\nstart_interval = \"100ms\"\ntimeout = \"1s\"\nfailures = 2{as_user_line}\n\
             [[health]]\nname = \"well\"\nexec = [\"test\", \"!\", \"-e\", \"DIR/ill\"]\n\
             interval = \"200ms\"\ngrace = \"0s\"\nfailures = 1\n\
             [[service]]\nname = \"db\"\nid = \"{name}\"\nport = 3306\naddress = [\"static:{address}\"]\n\
             [catalog]\n{catalog}\n\
             [election]\nname = \"db\"\n{stands}{lease}\n{witness}\n",
            witness = self.witness(index),
            as_user_line = if user.is_empty() { "" } else { "\nuser = \"65534:65534\"" },
        ));
        for file in ["token", "secret"] {
            std::fs::write(lab.path(file), "it").expect("a file");
        }
        // Another user's main listens there.
        std::fs::set_permissions(lab.path(""), Permissions::from_mode(0o777)).expect("a directory of ours");
        Candidate { lab, container: None, due: None, excused: false, lost: false, past: String::new(), gate }
    }

    /// Where a candidate has its file.
    fn witness(&self, index: usize) -> String {
        match self.witnesses {
            Witnesses::None => String::new(),
            Witnesses::Candidates => format!("witness = \"{}\"", self.files.path().display()),
            Witnesses::Agents => format!("witness = \"{}\"", self.files.path().join(CANDIDATES[index]).display()),
        }
    }

    /// The witness of a candidate's host.
    fn agent_of_host(&self, index: usize) -> Container {
        let config = self.candidates[index].lab.path("pilotfish.toml").into_os_string();
        let start = Start::new([pilotfish().into_os_string(), "witness".into(), "-c".into(), config]);
        let start = start.network(&self.network().namespace(CANDIDATES[index]));
        start.run().expect("a witness can be started")
    }

    /// Starts a candidate's container.
    fn run(&mut self, index: usize) {
        let candidate = &mut self.candidates[index];
        let mut start = candidate.lab.start();
        if let Some(network) = &self.network {
            start = start.network(&network.namespace(CANDIDATES[index]));
        }
        if let Some(sabotage) = &self.sabotage {
            start = start.env(format!("PILOTFISH_SABOTAGE={sabotage}"));
        }
        candidate.container = Some(start.run().expect("a container can be started"));
        candidate.excused = false;
        candidate.due = None;
    }

    /// Reads what was done since the last look, and starts again what has ended, as a scheduler does.
    pub fn look(&mut self) {
        for act in self.register.news() {
            self.judge.hear(&act);
        }
        for (index, name) in CANDIDATES.iter().enumerate() {
            let candidate = &mut self.candidates[index];
            if let Some(container) = &mut candidate.container
                && let Some(code) = container.ended()
            {
                let said = container.stderr();
                if !candidate.excused {
                    let tail = said.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev();
                    let tail = tail.collect::<Vec<_>>().join("\n");
                    self.deaths.push(format!("{name} ended by itself, code {code}:\n{tail}"));
                }
                candidate.past += &said;
                candidate.container = None;
                candidate.due = (!candidate.lost).then(|| Instant::now() + RESTART);
            }
            if candidate.due.is_some_and(|due| due <= Instant::now()) {
                self.run(index);
            }
        }
    }

    /// Looks on for so long.
    pub fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.look();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Looks on until it is so.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, patience: Duration, so: impl FnMut(&mut Fleet) -> Option<T>) -> T {
        self.within(patience, so).unwrap_or_else(|| panic!("{what}: not within {patience:?}\n{}", self.story()))
    }

    /// The same, where it may never be.
    pub fn within<T>(&mut self, patience: Duration, mut so: impl FnMut(&mut Fleet) -> Option<T>) -> Option<T> {
        let end = Instant::now() + patience;
        loop {
            self.look();
            if let Some(found) = so(self) {
                return Some(found);
            }
            if Instant::now() > end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Who acts.
    pub fn leader(&mut self) -> Option<usize> {
        let last = self.register.last.as_ref()?;
        let fresh = now().saturating_sub(last.at) < SILENCE.as_nanos() as u64;
        fresh.then(|| CANDIDATES.iter().position(|name| *name == last.who)).flatten()
    }

    /// The greatest term there was an act for.
    pub fn term(&self) -> u64 {
        self.register.last.as_ref().map_or(0, |act| act.term)
    }

    /// Whether a candidate's container runs.
    pub fn is_up(&self, index: usize) -> bool {
        self.candidates[index].container.is_some()
    }

    /// PID 1 of a candidate's container, as this test sees it.
    pub fn agent(&self, index: usize) -> Option<i32> {
        self.candidates[index].container.as_ref().map(|container| container.pid)
    }

    /// A child of PID 1 by its name: `actor` is main, `pilotfish-guard` the guard.
    pub fn child(&self, index: usize, name: &str) -> Option<i32> {
        let agent = self.agent(index)?;
        let named = |pid: i32| status_line(pid, "Name").is_some_and(|known| known == name);
        processes()
            .into_iter()
            .map(|p| (p.pid, p.parent))
            .find(|(pid, p)| *p == agent && named(*pid))
            .map(|(pid, _)| pid)
    }

    /// Signals PID 1 of a container, which may end of it.
    pub fn end(&mut self, index: usize, signal: Signal) {
        self.candidates[index].excused = true;
        if let Some(container) = &self.candidates[index].container {
            container.signal(signal as i32);
        }
    }

    /// Kills a container that nobody starts again before all is healed.
    pub fn lose(&mut self, index: usize) {
        self.candidates[index].lost = true;
        self.end(index, Signal::SIGKILL);
    }

    /// A candidate's health fails until it is told to be well.
    pub fn turn_unhealthy(&mut self, index: usize) {
        std::fs::write(self.candidates[index].lab.path("ill"), "").expect("a file");
    }

    /// It is well again; whether it was unhealthy.
    pub fn get_well(&mut self, index: usize) -> bool {
        std::fs::remove_file(self.candidates[index].lab.path("ill")).is_ok()
    }

    /// Kills a server.
    pub fn down(&mut self, server: usize) {
        match &mut self.engine {
            Engine::Consul(consul) => consul.down(server),
            Engine::Etcd(etcd) => etcd.down(server),
            Engine::Local(_) => unreachable!("it has no servers"),
        }
    }

    /// What a subcommand answers, asked in a candidate's container.
    pub fn ask(&self, index: usize, order: &[&str]) -> (i32, String, String) {
        self.candidates[index].lab.ask(order)
    }

    /// A candidate's host.
    pub fn network(&self) -> &netlab::Lab {
        self.network.as_ref().expect("this engine is reached by a network")
    }

    /// Which server leads the engine.
    pub fn engine_leader(&self) -> Option<usize> {
        match &self.engine {
            Engine::Local(_) => None,
            Engine::Consul(consul) => {
                SERVERS.iter().enumerate().filter(|(index, _)| consul.is_up(*index)).find_map(|(index, _)| {
                    consul.leader(index).filter(|leader| *leader < SERVERS.len() && consul.is_up(*leader))
                })
            }
            Engine::Etcd(etcd) => etcd.leader(),
        }
    }

    /// Whether no agent of Consul thinks ill of another: one that was cut off comes back with all it took for dead, and
    /// who is cut off next is noticed sooner, or later, for that.
    pub fn is_at_peace(&self) -> bool {
        let Engine::Consul(consul) = &self.engine else { return true };
        let all = SERVERS.len() + CANDIDATES.len();
        let alive = |body: &str| -> Option<usize> {
            let members: Value = serde_json::from_str(body).ok()?;
            Some(members.as_array()?.iter().filter(|member| member["Status"] == 1).count())
        };
        (0..all).all(|index| {
            let members = consul.ask(index, "GET", "/v1/agent/members", "");
            members.is_some_and(|(_, body)| alive(&body) == Some(all))
        })
    }

    /// A write of ours, at a server that takes it.
    pub fn by_hand(&self, what: impl Fn(usize) -> bool) -> bool {
        (0..SERVERS.len()).any(what)
    }

    /// The lock's session (Consul).
    pub fn session(&self) -> Option<String> {
        let Engine::Consul(consul) = &self.engine else { return None };
        let (_, body) = (0..SERVERS.len())
            .find_map(|index| consul.ask(index, "GET", "/v1/kv/db/leader", "").filter(|(status, _)| *status == 200))?;
        Some(serde_json::from_str::<Value>(&body).ok()?[0]["Session"].as_str()?.to_owned())
    }

    /// Starts every server that is down.
    pub fn raise(&mut self) {
        for index in 0..SERVERS.len() {
            match &mut self.engine {
                Engine::Consul(consul) if !consul.is_up(index) => consul.spawn(index),
                Engine::Etcd(etcd) if !etcd.is_up(index) => etcd.spawn(index),
                _ => {}
            }
        }
    }

    /// Every server up, every cut healed, every container there again.
    pub fn heal(&mut self) {
        for candidate in self.candidates.iter_mut().filter(|candidate| candidate.lost) {
            candidate.lost = false;
            candidate.due = candidate.container.is_none().then(Instant::now);
        }
        if let Some(network) = &self.network {
            network.heal();
        }
        self.hanging = None;
        self.raise();
        if let Engine::Consul(consul) = &mut self.engine {
            for index in SERVERS.len()..SERVERS.len() + CANDIDATES.len() {
                if !consul.is_up(index) {
                    consul.spawn(index);
                }
            }
        }
    }

    /// Whom each of them takes for the leader, by its name.
    pub fn opinions(&self) -> BTreeMap<&'static str, String> {
        let opinion = |index: usize| self.ask(index, &["leader"]).1.split(' ').next().unwrap_or("").trim().to_owned();
        (0..CANDIDATES.len()).map(|index| (CANDIDATES[index], opinion(index))).collect()
    }

    /// The ends of all logs.
    pub fn story(&self) -> String {
        let mut story = self.deaths.join("\n");
        for (index, candidate) in self.candidates.iter().enumerate() {
            let said = candidate.past.clone() + &candidate.container.as_ref().map_or(String::new(), Container::stderr);
            let lines: Vec<&str> = said.lines().collect();
            let tail = lines[lines.len().saturating_sub(25)..].join("\n");
            story += &format!("\n--- {}\n{tail}", CANDIDATES[index]);
        }
        story
    }

    /// Where logs are kept.
    pub fn keep_logs(&self) -> PathBuf {
        let directory = tempfile::Builder::new().prefix("pilotfish-nemesis-").tempdir().expect("a directory").keep();
        for (index, candidate) in self.candidates.iter().enumerate() {
            let said = candidate.past.clone() + &candidate.container.as_ref().map_or(String::new(), Container::stderr);
            std::fs::write(directory.join(CANDIDATES[index]), said).expect("a file");
        }
        std::fs::copy(self.register.path(), directory.join("register")).expect("a file");
        directory
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for (index, candidate) in self.candidates.iter().enumerate() {
            if let (Some(gate), Some(network)) = (&candidate.gate, &self.network) {
                gate.close(&network.namespace(CANDIDATES[index]));
            }
        }
    }
}
