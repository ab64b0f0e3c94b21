//! An example of config-examples/ in containers: brought up by its README's commands, removed when it is dropped. Nothing is
//! pulled: tests/images.sh makes the images.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests: this drives the docker command")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What elections are held on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Consul,
    Etcd,
}

impl Store {
    pub fn named(name: &str) -> Option<Store> {
        [Store::Consul, Store::Etcd].into_iter().find(|store| store.service() == name)
    }

    /// Its service in the compose file, and in tests/images.sh.
    pub fn service(self) -> &'static str {
        match self {
            Store::Consul => "consul",
            Store::Etcd => "etcd",
        }
    }
}

pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("it can be started")
}

#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let output = run(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A docker command's standard output, whatever came of it: many are given to what a fault may have ended.
pub fn docker(arguments: &[&str]) -> String {
    let output = run(Command::new("timeout").args(["120", "docker"]).args(arguments));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Asks until there is an answer; fails with everybody's last words.
#[track_caller]
pub fn within<T>(project: &Project, time: Duration, about: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + time;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {time:?}: {about}\n{}", project.last_words());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The containers of one compose file.
pub struct Project {
    /// Its folder in the copy of config-examples/.
    pub example: &'static str,
    pub name: String,
    pub image: String,
    store: Option<Store>,
    /// The example that it is put on top of.
    below: Option<&'static str>,
    /// A copy of config-examples/, and whatever a test has to keep.
    directory: tempfile::TempDir,
    keep: bool,
}

impl Project {
    /// Does what the README's first block says, once the images are there.
    pub fn up(example: &'static str, store: Option<Store>) -> Project {
        Project::start(example, None, None, store)
    }

    /// The same of one that is put on top of another, whose services come along.
    pub fn up_on(below: &'static str, example: &'static str, store: Option<Store>) -> Project {
        Project::start(example, Some(below), None, store)
    }

    /// The same of what examples are measured beside, a folder like theirs below `parent`, which has no pilotfish in it.
    pub fn up_beside(parent: &str, name: &'static str, store: Store) -> Project {
        Project::start(name, None, Some(parent), Some(store))
    }

    fn start(
        example: &'static str,
        below: Option<&'static str>,
        parent: Option<&str>,
        store: Option<Store>,
    ) -> Project {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pilotfish-{example}-{}-{count}", std::process::id());
        let directory = tempfile::tempdir().expect("a directory can be made");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let images = root.join("tests/images.sh");
        let image = format!("{name}-image");
        if let Some(store) = store {
            succeeds(Command::new(&images).arg(store.service()));
        }
        if let Some(below) = below {
            succeeds(Command::new(&images).args(["example", below, &image]));
        }
        let own = if below.is_some() { format!("{image}-{example}") } else { image.clone() };
        succeeds(Command::new("cp").arg("-r").arg(root.join("config-examples")).arg(directory.path()));
        if let Some(parent) = parent {
            let folder = root.join(parent).join(example);
            succeeds(Command::new(&images).arg("beside").args([&folder, Path::new(&own)]));
            succeeds(Command::new("cp").arg("-r").arg(folder).arg(directory.path().join("config-examples")));
        } else {
            succeeds(Command::new(&images).args(["example", example, &own]));
        }
        let keep = std::env::var_os("KEEP").is_some_and(|keep| keep == "1");
        let project = Project { example, name, image, store, below, directory, keep };
        if store == Some(Store::Etcd) {
            project.go_over_to_etcd();
        }
        succeeds(&mut project.shell(&project.first_block()));
        project
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn folder(&self) -> PathBuf {
        self.path("config-examples").join(self.example)
    }

    pub fn network(&self) -> String {
        format!("{}_default", self.name)
    }

    /// As compose.etcd.yaml says.
    fn go_over_to_etcd(&self) {
        let consul = "backend = \"consul\"\naddress = \"http://consul:8500\"\n";
        let etcd = "backend = \"etcd\"\nendpoints = [\"http://etcd:2379\"]\n";
        let patroni = ("patroni.yml", "consul: { host: \"consul:8500\" }", "etcd3: { host: \"etcd:2379\" }");
        let mut configs = [("pilotfish.toml", consul, etcd), patroni].into_iter();
        let found = configs.find(|(file, ..)| self.folder().join(file).exists());
        let (file, consul, etcd) = found.expect("an example has a config");
        let path = self.folder().join(file);
        let config = std::fs::read_to_string(&path).expect("it is readable");
        assert!(config.contains(consul), "it names no Consul");
        std::fs::write(&path, config.replace(consul, etcd)).expect("the copy can be written");
    }

    /// The README's commands, word for word.
    fn first_block(&self) -> String {
        let readme = std::fs::read_to_string(self.folder().join("README.md")).expect("an example has a README");
        let (_, rest) = readme.split_once("```sh\n").expect("it says how to begin");
        let (commands, _) = rest.split_once("```").expect("the block ends");
        commands.to_owned()
    }

    /// To run this in the example's folder, with the images that are made here. `docker compose` may be a program of its own.
    pub fn shell(&self, commands: &str) -> Command {
        let compose = "docker() {\n\
            if [ \"$1\" != compose ] || command docker compose version >/dev/null 2>&1; then command docker \"$@\"; return; fi\n\
            case $2 in exec) docker-compose exec -T \"${@:3}\" ;; *) docker-compose \"${@:2}\" ;; esac\n\
            }\n";
        let mut shell = Command::new("bash");
        shell
            .args(["-euc", &format!("{compose}{commands}")])
            .current_dir(self.folder())
            .env("COMPOSE_PROJECT_NAME", &self.name)
            .env("DOCKER_BUILDKIT", "0")
            .env("CONSUL", "pilotfish-test-consul")
            .env("ETCD", "pilotfish-test-etcd")
            .env("BASE", "pilotfish-test-debian:bookworm")
            .env("PILOTFISH_IMAGE", format!("{}-pilotfish", self.image))
            .env("IMAGE", &self.image)
            .env("HAPROXY_IMAGE", format!("{}-haproxy", self.image))
            // Any free one of the host's.
            .envs([("PORT", "0"), ("WRITES", "0"), ("READS", "0")])
            .env("EVERY", "1s");
        match (self.below, self.store) {
            // Whatever folder the commands go to.
            (Some(below), _) => {
                shell.env("COMPOSE_FILE", format!("../{below}/compose.yaml:../{}/compose.yaml", self.example));
            }
            (None, Some(Store::Etcd)) => {
                shell.env("COMPOSE_FILE", "compose.yaml:../compose.etcd.yaml");
            }
            (None, _) => {}
        }
        shell
    }

    /// The service that elections are held on.
    pub fn store(&self) -> &'static str {
        self.store.expect("it has one").service()
    }

    /// The containers of a service, running or not, a line each.
    pub fn container(&self, service: &str) -> String {
        let label = |name: &str, value: &str| format!("label=com.docker.compose.{name}={value}");
        docker(&["ps", "-aq", "--filter", &label("project", &self.name), "--filter", &label("service", service)])
    }

    pub fn exec(&self, service: &str, arguments: &[&str]) -> String {
        docker(&[&["exec", &self.container(service)], arguments].concat())
    }

    /// The end of everybody's log.
    pub fn last_words(&self) -> String {
        let label = format!("label=com.docker.compose.project={}", self.name);
        let all = docker(&["ps", "--all", "--filter", &label, "--format", "{{.Names}}"]);
        let words = all.lines().map(|container| {
            let output = run(Command::new("docker").args(["logs", "--tail", "40", container]));
            let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            format!("--- {container}:\n{}{}", text[0], text[1])
        });
        words.collect::<Vec<_>>().join("\n")
    }
}

/// As a crash would: the engine, which didn't do it, starts the container again.
pub fn sigkill(pid: i32) {
    // A pid of 0 or 1 would be this machine's.
    assert!(pid > 1, "no such process: {pid}");
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

impl Drop for Project {
    fn drop(&mut self) {
        if self.keep {
            // Its containers can't be started without the password's file.
            self.directory.disable_cleanup(true);
            return println!("kept: docker-compose project {}", self.name);
        }
        run(&mut self.shell("docker compose down --volumes --timeout 5"));
        // By their names: what two projects build alike is one image, with the names of both.
        let named = format!("reference={}*", self.image);
        let images = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", &named]);
        for image in images.lines() {
            docker(&["image", "rm", "--force", image]);
        }
    }
}
