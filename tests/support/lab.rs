//! A directory with a config, the agent that runs on it, and what it can be asked.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::namespace::{Container, Start, eventually, pilotfish};

/// A directory with a config; the agent runs on it, and subcommands find the agent through it.
pub struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// `DIR` in the text stands for the directory.
    pub fn new(config: &str) -> Lab {
        let lab = Lab { dir: tempfile::tempdir().unwrap() };
        lab.write(config);
        lab
    }

    /// A file in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Another config.
    pub fn write(&self, config: &str) {
        let socket = format!("[control]\nsocket = \"{}\"\n", self.path("control.sock").display());
        let text = config.replace("DIR", self.dir.path().to_str().unwrap());
        let socket = if text.contains("[control]") { String::new() } else { socket };
        fs::write(self.path("pilotfish.toml"), socket + &text).unwrap();
    }

    /// The agent on this config, as PID 1, not started yet.
    pub fn start(&self) -> Start {
        let config = self.path("pilotfish.toml");
        Start::new([pilotfish().as_os_str(), "-c".as_ref(), config.as_os_str()])
    }

    /// Runs it until its control socket answers.
    pub fn run(&self) -> Container {
        self.run_as(self.start())
    }

    /// The same of one that was started otherwise.
    pub fn run_as(&self, start: Start) -> Container {
        let mut container = start.run().unwrap();
        eventually("the control socket", || {
            assert_eq!(container.ended(), None, "{}", container.stderr());
            UnixStream::connect(self.path("control.sock")).ok()
        })
        .unwrap();
        container
    }

    /// What a subcommand answers: its code, its output, its errors.
    pub fn ask(&self, order: &[&str]) -> (i32, String, String) {
        let config = self.path("pilotfish.toml");
        said(Command::new(pilotfish()).args(order).arg("-c").arg(config).output().unwrap())
    }

    /// The lines that main and hooks have written to the file `story`.
    pub fn story(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("story")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the story holds this line.
    #[track_caller]
    pub fn told(&self, line: &str) {
        let told = eventually(line, || self.story().iter().any(|told| told == line).then_some(()));
        told.unwrap_or_else(|error| panic!("{error}: {:?}", self.story()));
    }
}

/// Code, output and errors of a finished command.
pub fn said(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}
