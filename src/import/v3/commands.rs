//! What a job's command is there for, as far as its words tell.

use super::job::Job;
use crate::import::command::SPLIT;
use crate::import::common::Restarts;
use crate::import::text::Text;

/// What runs another command, as somebody else or otherwise.
const WRAPPERS: [&str; 14] = [
    "su-exec",
    "gosu",
    "sudo",
    "chroot",
    "setpriv",
    "setuidgid",
    "s6-setuidgid",
    "chpst",
    "env",
    "nice",
    "tini",
    "dumb-init",
    "nohup",
    "exec",
];
/// Names of jobs that are Consul agents, without what divides their words.
const AGENTS: [&str; 4] = ["consul", "consulclient", "consulserver", "consuld"];

fn program(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or_default()
}

/// A command's words; of a shell's line its own, as far as blanks divide them.
fn words(words: &[Text]) -> Vec<String> {
    let words: Vec<String> = words.iter().map(Text::sample).collect();
    let is_a_shell = |word: &String| ["sh", "bash", "dash", "ash"].contains(&program(word));
    match words.as_slice() {
        [shell, flags, line, rest @ ..] if is_a_shell(shell) && flags.starts_with('-') && flags.ends_with('c') => {
            // What a shell only splits stands behind its line.
            let line = if line == SPLIT { rest.first().unwrap_or(line) } else { line };
            line.split(|c: char| c.is_whitespace() || c == ';')
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        }
        _ => words,
    }
}

impl Job {
    /// Whether it is there for others: what stays beside main.
    pub(super) fn is_agent(&self) -> bool {
        let stays = self.restarts == Restarts::Unlimited || self.check.is_some();
        is_consul_agent(self.words(), &self.name.sample(), stays && self.entry.is_none())
    }
}

/// Whether a command is a Consul agent, or what starts one; `by_name`: it may be one by its names alone, since it stays and
/// has no port.
fn is_consul_agent(exec: &[Text], name: &str, by_name: bool) -> bool {
    let words = words(exec);
    let begins = |word: &str| WRAPPERS.contains(&program(word));
    let wrapped = words.first().is_some_and(|word| begins(word));
    let at = words.iter().position(|word| program(word) == "consul");
    let is_agent = |at: usize| words.iter().skip(at + 1).take(2).any(|word| word == "agent");
    if at.is_some_and(|at| (at == 0 || wrapped) && is_agent(at)) {
        return true;
    }
    let plain = name.to_lowercase().replace(['_', '-'], "");
    if plain.contains("consulagent") {
        return true;
    }
    let script = || {
        let behind = words.iter().find(|word| program(word).contains("consul") && !word.contains(':'));
        let first = if wrapped { behind } else { words.first() };
        first.map(|word| program(word).to_lowercase()).is_some_and(|script| {
            let starts = ["start", "run", "agent"].iter().any(|part| script.contains(part));
            let other = ["template", "wait", "register", "acl"].iter().any(|part| script.contains(part));
            script.contains("consul") && starts && !other
        })
    };
    by_name && (AGENTS.contains(&plain.as_str()) || script())
}

/// Whether a command is there to have something started again.
pub(super) fn restarts(job: &Job) -> bool {
    let has = |word: &str| job.words().iter().any(|part| part.sample().contains(word));
    ["kill", "restart", "stop", "leave", "reload"].into_iter().any(has)
}

/// Whether a command ends a process, and doesn't start it again.
pub(super) fn kills(job: &Job) -> bool {
    let has = |word: &str| job.words().iter().any(|part| part.sample().contains(word));
    has("kill") && !has("start")
}

/// Whether a command tells ContainerPilot itself to stop.
pub(super) fn ends_the_container(job: &Job) -> bool {
    let words = words(job.words());
    let mut words = words.iter().map(String::as_str).skip_while(|word| *word == "exec");
    let command = words.next().map(program);
    let mut targets = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "-s" | "-n" | "--signal" => drop(words.next()),
            option if option.starts_with('-') => {}
            target => targets.push(target),
        }
    }
    match command {
        Some("kill") => targets == ["1"],
        Some("pkill" | "killall") => targets == ["containerpilot"],
        _ => false,
    }
}

/// Whether a command has a Consul agent leave its cluster.
pub(super) fn leaves(job: &Job) -> bool {
    let words = words(job.words());
    words.iter().any(|word| word == "leave") && words.iter().any(|word| program(word) == "consul")
}
