//! The `docker` command with a deadline, and containers that are removed when the test is over.

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// No single docker command takes longer, also on a busy machine.
const COMMAND_SECONDS: &str = "60";

/// Polls `what` until it gives something; fails the test after `seconds`.
pub fn within<T>(seconds: u64, about: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {seconds} s: {about}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The common part of the image names: tests/e2e.sh made them.
fn prefix() -> String {
    std::env::var("PILOTFISH_E2E").expect("PILOTFISH_E2E isn't set: run these tests by `make e2e`")
}

/// The name of one of the images: `init`, `web`, `nginx`, `base`.
pub fn image(name: &str) -> String {
    format!("{}-{name}", prefix())
}

/// `timeout 60 docker`, with its first argument.
pub fn command(verb: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([COMMAND_SECONDS, "docker", verb]).stdin(Stdio::null());
    command
}

/// The output of a docker command, whatever its exit code.
pub fn docker(verb: &str, arguments: &[&str]) -> Output {
    command(verb).args(arguments).output().expect("docker can be started")
}

/// The standard output of a docker command that must succeed.
pub fn done(verb: &str, arguments: &[&str]) -> String {
    let output = docker(verb, arguments);
    assert!(
        output.status.success(),
        "docker {verb} {arguments:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The options every container of these tests is run with.
pub fn label() -> String {
    format!("--label=pilotfish-e2e={}", prefix())
}

/// `docker run --rm` to its end: exit code and all it wrote.
pub fn run(options: &[&str], image_name: &str, arguments: &[&str]) -> (i32, String) {
    let label = label();
    let image = image(image_name);
    let arguments: Vec<&str> = ["--rm", &label]
        .into_iter()
        .chain(options.iter().copied())
        .chain([&*image])
        .chain(arguments.iter().copied())
        .collect();
    let output = docker("run", &arguments);
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code().expect("timeout ends with a code"), text)
}

/// A container in the background.
pub struct Container {
    id: String,
}

impl Container {
    /// `docker run --detach`.
    pub fn start(options: &[&str], image_name: &str, arguments: &[&str]) -> Container {
        let label = label();
        let image = image(image_name);
        let arguments: Vec<&str> = ["--detach", &label]
            .into_iter()
            .chain(options.iter().copied())
            .chain([&*image])
            .chain(arguments.iter().copied())
            .collect();
        Container { id: done("run", &arguments) }
    }

    /// One field of `docker inspect`.
    pub fn inspect(&self, format: &str) -> String {
        done("inspect", &["--format", format, &self.id])
    }

    /// PID 1 of the container, as this machine counts.
    pub fn pid(&self) -> i32 {
        self.inspect("{{.State.Pid}}").parse().expect("a pid is a number")
    }

    pub fn address(&self) -> String {
        self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    }

    pub fn health(&self) -> String {
        self.inspect("{{.State.Health.Status}}")
    }

    /// Everything written to standard output and error so far.
    pub fn logs(&self) -> String {
        let output = docker("logs", &[&self.id]);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// Waits until `text` was written; fails with all that was.
    pub fn says(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while !self.logs().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} was not said within 15 s, but:\n{}", self.logs());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// `docker exec`: exit code and all it wrote.
    pub fn exec(&self, arguments: &[&str]) -> (i32, String) {
        let arguments: Vec<&str> = [&*self.id].into_iter().chain(arguments.iter().copied()).collect();
        let output = docker("exec", &arguments);
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.code().expect("timeout ends with a code"), text)
    }

    /// `docker kill -s`.
    pub fn kill(&self, signal: &str) {
        done("kill", &["--signal", signal, &self.id]);
    }

    /// `docker stop`, with the engine's patience in seconds: how long it took.
    pub fn stop(&self, seconds: u32) -> Duration {
        let begun = Instant::now();
        done("stop", &["--time", &seconds.to_string(), &self.id]);
        begun.elapsed()
    }

    /// Until it is removed.
    pub fn pause(&self) {
        done("pause", &[&self.id]);
    }

    pub fn restart(&self) {
        done("restart", &[&self.id]);
    }

    /// The exit code, once the container has ended by itself.
    pub fn ends(&self) -> i32 {
        done("wait", &[&self.id]).parse().expect("docker wait prints a number")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the container said:\n{}", self.logs());
        }
        docker("rm", &["--force", "--volumes", &self.id]);
    }
}
