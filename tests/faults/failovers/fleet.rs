//! An example, brought up by its own compose file, and a client beside it.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::compose::{Project, Store, docker, run, sigkill, succeeds, within};

/// An example that keeps data, or what one is measured beside.
pub struct Example {
    /// What `EXAMPLE` says.
    pub name: &'static str,
    /// Its folder in config-examples/, or beside this file.
    folder: &'static str,
    /// Its client, beside this file.
    client: &'static str,
    /// Services of its compose file.
    servers: &'static [&'static str],
    /// What main's command begins with.
    main: &'static str,
    /// Where it keeps its data.
    data: &'static str,
    /// Whether it knows after the death of all servers who was the furthest.
    pub remembers: bool,
    pub keeper: Keeper,
}

/// What sees to it that there is one primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    Pilotfish,
    Patroni { synchronous: bool },
}

impl Keeper {
    /// Whether it is a failure when acknowledged rows are lost, or two take writes at once. If not, it is a figure.
    pub fn promises(self) -> bool {
        self == Keeper::Pilotfish
    }
}

pub const POSTGRES: Example = Example {
    name: "postgres",
    folder: "postgres",
    client: "postgres.sh",
    servers: &["pg1", "pg2", "pg3"],
    main: "postgres -D",
    data: "/var/lib/postgresql",
    remembers: true,
    keeper: Keeper::Pilotfish,
};

pub const REDIS: Example = Example {
    name: "redis",
    folder: "redis",
    client: "redis.sh",
    servers: &["redis1", "redis2", "redis3"],
    main: "redis-server",
    data: "/var/lib/redis",
    remembers: false,
    keeper: Keeper::Pilotfish,
};

pub const MARIADB: Example = Example {
    name: "mariadb",
    folder: "mariadb",
    client: "mariadb.sh",
    servers: &["db1", "db2", "db3"],
    main: "mariadbd --defaults",
    data: "/var/lib/mysql",
    remembers: true,
    keeper: Keeper::Pilotfish,
};

const PATRONI: Example = Example {
    name: "patroni",
    folder: "patroni",
    main: "/usr/lib/postgresql/15/bin/postgres -D",
    keeper: Keeper::Patroni { synchronous: false },
    ..POSTGRES
};

const PATRONI_SYNC: Example =
    Example { name: "patroni-sync", keeper: Keeper::Patroni { synchronous: true }, ..PATRONI };

const ALL: [&Example; 5] = [&POSTGRES, &REDIS, &MARIADB, &PATRONI, &PATRONI_SYNC];

impl Example {
    pub fn named(name: &str) -> Option<&'static Example> {
        ALL.into_iter().find(|example| example.name == name)
    }
}

/// The containers, and a client's beside them; removed when it is dropped.
pub struct Fleet {
    pub example: &'static Example,
    project: Project,
}

impl Fleet {
    pub fn up(example: &'static Example, store: Store) -> Fleet {
        let project = match example.keeper {
            Keeper::Pilotfish => Project::up(example.folder, Some(store)),
            Keeper::Patroni { .. } => Project::up_beside("tests/faults/failovers", example.folder, store),
        };
        let fleet = Fleet { example, project };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let password = std::fs::read_to_string(fleet.project.folder().join("password")).expect("the README makes one");
        let client = root.join("tests/faults/failovers").join(example.client);
        succeeds(Command::new("docker").args([
            "run",
            "--detach",
            "--no-healthcheck",
            "--name",
            &fleet.client(),
            "--network",
            &fleet.project.network(),
            "--volume",
            &format!("{}:/client.sh:ro", client.display()),
            "--env",
            &format!("PASSWORD={}", password.trim_end()),
            "--env",
            &format!("SERVERS={}", example.servers.join(",")),
            "--entrypoint",
            "sleep",
            &fleet.project.image,
            "infinity",
        ]));
        if example.keeper == (Keeper::Patroni { synchronous: true }) {
            let edit = ["patronictl", "edit-config", "--force", "--set", "synchronous_mode=true"];
            within(&fleet.project, super::heals_within(), "a config to edit", || {
                fleet.exec(example.servers[0], &edit).contains("Configuration changed").then_some(())
            });
        }
        fleet
    }

    fn client(&self) -> String {
        format!("{}-client", self.project.name)
    }

    pub fn servers(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.example.servers.iter().copied()
    }

    /// The service that elections are held on.
    pub fn store(&self) -> &'static str {
        self.project.store()
    }

    /// The container of a service.
    pub fn container(&self, service: &str) -> String {
        self.project.container(service)
    }

    pub fn exec(&self, service: &str, arguments: &[&str]) -> String {
        self.project.exec(service, arguments)
    }

    /// What the client says to this, if it succeeds.
    fn ask(&self, what: &str) -> Option<String> {
        let output = run(Command::new("timeout").args(["60", "docker", "exec", &self.client(), "/client.sh", what]));
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Who leads, once somebody does.
    pub fn leader(&self) -> String {
        let known_to = |server| {
            let said = self.exec(server, &["pilotfish", "leader"]);
            let id = said.split_whitespace().next().unwrap_or_default();
            self.servers().find(|server| *server == id).map(str::to_owned)
        };
        within(&self.project, super::heals_within(), "a leader", || match self.example.keeper {
            Keeper::Pilotfish => self.servers().find_map(known_to),
            // It has no short way to say it.
            Keeper::Patroni { .. } => <[String; 1]>::try_from(self.primaries()).ok().map(|[leader]| leader),
        })
    }

    /// The leader gives its place up, to this one if one is named.
    pub fn step_down(&self, leader: &str, to: Option<&str>) {
        let (command, for_whom) = match self.example.keeper {
            Keeper::Pilotfish => (&["pilotfish", "step-down"][..], "--to"),
            Keeper::Patroni { .. } => (&["patronictl", "switchover", "--force", "--leader", leader][..], "--candidate"),
        };
        let to = to.map(|to| [for_whom, to]);
        self.exec(leader, &[command, to.as_ref().map_or(&[], |to| &to[..])].concat());
    }

    /// Waits until one is the primary and all others have all it has.
    pub fn becomes_whole(&self, within: Duration) {
        self.heals(within).unwrap_or_else(|missing| panic!("{missing}\n{}", self.project.last_words()));
    }

    /// The same, but what is missing when the time is over is the caller's business.
    pub fn heals(&self, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        let others = (self.example.servers.len() - 1).to_string();
        loop {
            let primaries = self.primaries();
            if let [primary] = &primaries[..]
                && self.ask("replicas").is_some_and(|replicas| replicas == others)
                && self.knows_who_may_succeed(primary)
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                let replicas = self.ask("replicas");
                return Err(format!("not whole within {within:?}: primaries {primaries:?}, {replicas:?} replicas"));
            }
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// The hand that a Patroni needs whose replica went further than its new leader.
    pub fn copy_replicas_anew(&self) {
        let leader = self.leader();
        let replicas: Vec<&str> = self.servers().filter(|server| *server != leader).collect();
        self.exec(&leader, &[&["patronictl", "reinit", "--force", "db"], &*replicas].concat());
    }

    /// A synchronous Patroni writes down whom it may promote, a while after that one has caught up.
    fn knows_who_may_succeed(&self, primary: &str) -> bool {
        self.example.keeper != (Keeper::Patroni { synchronous: true })
            || self.exec(primary, &["patronictl", "list"]).contains("Sync Standby")
    }

    /// Who takes writes.
    pub fn primaries(&self) -> Vec<String> {
        self.ask("primaries").unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// So many clients write until they are stopped.
    pub fn write(&self, count: usize) -> Writers {
        assert!(self.ask("init").is_some(), "the client can't make its table: {}", self.project.last_words());
        let start = |writer: usize| {
            let journal = self.project.path(&format!("journal-{writer}"));
            let file = File::create(&journal).expect("a file can be made");
            let mut command = Command::new("docker");
            command.args(["exec", &self.client(), "/client.sh", "write", &writer.to_string()]);
            let child = command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null()).spawn();
            (journal, child.expect("docker can be started"))
        };
        Writers { client: self.client(), running: (1..=count).map(start).collect() }
    }

    /// The ids of all rows.
    pub fn rows(&self) -> HashSet<String> {
        self.ask("rows").expect("the primary answers").lines().map(str::to_owned).collect()
    }

    /// PID 1 of the container, as this machine counts.
    pub fn pid(&self, service: &str) -> i32 {
        docker(&["inspect", "--format", "{{.State.Pid}}", &self.container(service)]).parse().unwrap_or(0)
    }

    pub fn address(&self, service: &str) -> String {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        docker(&["inspect", "--format", format, &self.container(service)])
    }

    /// As a crash would: the engine, which didn't do it, starts the container again.
    pub fn kill(&self, service: &str) {
        sigkill(self.pid(service));
    }

    /// They stay dead for so long.
    pub fn away(&self, services: &[&str], time: Duration) {
        self.kill_for_good(services);
        thread::sleep(time);
        for service in services {
            docker(&["start", &self.container(service)]);
        }
    }

    pub fn kill_for_good(&self, services: &[&str]) {
        let containers: Vec<String> = services.iter().map(|service| self.container(service)).collect();
        let containers: Vec<&str> = containers.iter().map(String::as_str).collect();
        docker(&[&["kill"], &*containers].concat());
    }

    /// Its disk is empty when it starts again.
    pub fn wipe(&self, service: &str) {
        self.kill_for_good(&[service]);
        let container = self.container(service);
        let empty = format!("find {} -mindepth 1 -delete", self.example.data);
        docker(&["run", "--rm", "--volumes-from", &container, "--entrypoint", "sh", &self.project.image, "-c", &empty]);
        docker(&["start", &container]);
    }

    /// Only the server, not its container.
    pub fn kill_main(&self, service: &str) {
        // A leader that has just stepped down by itself has none for a moment.
        let main = within(&self.project, super::heals_within(), "main of the leader", || {
            docker(&["top", &self.container(service), "-eo", "pid,args"]).lines().find_map(|line| {
                let (pid, command) = line.trim().split_once(' ')?;
                command.trim().starts_with(self.example.main).then(|| pid.parse().ok())?
            })
        });
        sigkill(main);
    }

    pub fn disconnect(&self, service: &str) {
        docker(&["network", "disconnect", &self.project.network(), &self.container(service)]);
    }

    pub fn connect(&self, service: &str) {
        docker(&["network", "connect", "--alias", service, &self.project.network(), &self.container(service)]);
    }

    /// Rules in the network namespace of this process.
    pub fn nft(&self, pid: i32, rules: &str) {
        run(Command::new("nsenter").args(["--net", "--target", &pid.to_string(), "nft", rules]));
    }

    /// A new container of the same image, with the volumes of the old one.
    pub fn recreate(&self, service: &str) {
        let up = "docker compose up --detach --no-build --no-deps --force-recreate";
        succeeds(&mut self.project.shell(&format!("{up} {service}")));
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.client()]);
    }
}

/// Clients that write, each with its journal.
pub struct Writers {
    client: String,
    running: Vec<(PathBuf, Child)>,
}

impl Writers {
    pub fn journals(&self) -> Vec<PathBuf> {
        self.running.iter().map(|(journal, _)| journal.clone()).collect()
    }

    /// Nobody would write, and no server be to blame.
    pub fn must_run(&mut self) {
        for (journal, child) in &mut self.running {
            let ended = child.try_wait().expect("it can be waited for");
            assert_eq!(ended, None, "the client of {} has ended", journal.display());
        }
    }

    pub fn stop(&mut self) {
        // Theirs ends with the container; to end the client of `docker exec` alone would leave it writing.
        docker(&["exec", &self.client, "sh", "-c", "kill -9 -1"]);
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
