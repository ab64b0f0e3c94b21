//! `dockerd --init-path`: an engine of the test's own, with pilotfish where tini was, and `docker run --init` on it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use super::engine::{done, image, within};
use crate::support::namespace::{copy_program, pilotfish};
use crate::support::servers::Process;

/// An engine beside the one that answers: nothing of it is shared, and it has no network.
struct Engine {
    dir: tempfile::TempDir,
    process: Process,
}

impl Engine {
    fn start() -> Engine {
        assert!(nix::unistd::geteuid().is_root(), "an engine can be started by root only");
        let dir = tempfile::tempdir().expect("a directory can be made");
        let path = |name: &str| dir.path().join(name);
        // This machine's own config has paths that would be shared.
        std::fs::write(path("daemon.json"), "{}").expect("a file");
        copy_program(&pilotfish(), &path("docker-init"));
        let option = |option: &str, name: &str| format!("--{option}={}", path(name).display());
        // In a network namespace of its own: without a bridge an engine removes docker0, which is the other one's.
        let arguments = [
            "--net".to_owned(),
            "dockerd".to_owned(),
            option("config-file", "daemon.json"),
            option("init-path", "docker-init"),
            option("data-root", "data"),
            option("exec-root", "exec"),
            option("pidfile", "pid"),
            format!("--host=unix://{}", path("socket").display()),
            "--iptables=false".to_owned(),
            "--bridge=none".to_owned(),
        ];
        let process = Process::start(&PathBuf::from("unshare"), &arguments, &path("log"));
        let engine = Engine { dir, process };
        within(60, "an engine of one's own answers", || engine.docker(&["version"]).status.success().then_some(()));
        // The base of all images of these tests, through a file.
        let archive = engine.dir.path().join("base.tar").display().to_string();
        done("save", &["--output", &archive, &image("base")]);
        engine.said(&["load", "--input", &archive]);
        engine
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        let host = format!("unix://{}", self.dir.path().join("socket").display());
        Command::new("timeout")
            .args(["60", "docker", "--host", &host])
            .args(arguments)
            .output()
            .expect("docker can be started")
    }

    /// What a command that must succeed says.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        assert!(output.status.success(), "docker {arguments:?}: {output:?}: {}", log());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Engine {
    /// Killed outright it would leave its containerd behind, and its mounts.
    fn drop(&mut self) {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let stat = format!("/proc/{}/stat", self.process.pid());
        for _ in 0..1000 {
            if std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn an_engine_whose_init_it_is_runs_it_by_init() {
    let engine = Engine::start();
    let base = image("base");
    let ends = |options: &[&str], command: &[&str]| {
        let run = ["run", "--rm", "--init", "--network=none"];
        let output = engine.docker(&[&run, options, &[&*base], command].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = ends(&[], &["sh", "-c", "ps; exit 7"]);
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("/sbin/docker-init -- sh"), "{said}");
    // An engine asks it which version it is.
    assert!(engine.said(&["info", "--format", "{{.InitCommit.ID}}"]).contains("pilotfish"));
    let (code, said) = ends(&[], &["/no/such/program"]);
    assert_eq!(code, Some(127), "{said}");
    assert_eq!(ends(&["--interactive"], &["sh", "-c", "kill -KILL $$"]), (Some(137), String::new()));

    let script = "(sh -c 'sleep 0.1 &'); trap 'exit 5' TERM; echo ready; sleep 60 & wait";
    let id = engine.said(&["run", "--detach", "--init", "--network=none", &base, "sh", "-c", script]);
    within(15, "ready", || engine.said(&["logs", &id]).contains("ready").then_some(()));
    let zombies = || engine.said(&["exec", &id, "sh", "-c", "cat /proc/[0-9]*/stat | grep -c ') Z' || :"]);
    within(15, "the orphan is reaped", || (zombies() == "0").then_some(()));
    engine.said(&["stop", "--time", "10", &id]);
    assert_eq!(engine.said(&["inspect", "--format", "{{.State.ExitCode}}", &id]), "5");
    engine.said(&["rm", "--force", &id]);
}
