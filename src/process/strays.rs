//! What main left behind: the agent's descendants that belong to no run it knows. It finds and signals them; when, and
//! with what, is decided elsewhere.
//!
//! They are found in /proc. Without one, only PID 1 can still do something: everything in its namespace but itself is
//! its to end, so `kill(-1)` is right there, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use crate::config::Signal;
use crate::supervisor::event::Pid;

/// A process as /proc/PID/stat shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: Pid,
    parent: Pid,
    group: Pid,
    /// In clock ticks since boot: with the pid it names one process for good.
    started: u64,
    dead: bool,
}

/// A process, told from a later one with the same pid.
pub type Identity = (Pid, u64);

/// Who is no stray.
pub struct Known<'a> {
    /// The agent.
    pub agent: Pid,
    /// Main process and hooks that are running, and the guard, each with its own group.
    pub runs: &'a BTreeSet<Pid>,
    /// What was there before main.
    pub before: &'a BTreeSet<Identity>,
}

/// Every process below the agent, dead ones aside; `None` without /proc.
pub fn descendants(agent: Pid) -> Option<BTreeSet<Identity>> {
    let processes = read_all()?;
    Some(below(agent, &processes, |_| false).into_iter().map(|p| (p.pid, p.started)).collect())
}

/// The strays; `None` without /proc.
pub fn find(known: &Known<'_>) -> Option<Vec<Pid>> {
    Some(among(&read_all()?, known))
}

fn among(processes: &BTreeMap<Pid, Process>, known: &Known<'_>) -> Vec<Pid> {
    // A hook's child that has lost its parent is still in the hook's group.
    let of_a_run = |p: &Process| known.runs.contains(&p.pid) || known.runs.contains(&p.group);
    below(known.agent, processes, of_a_run)
        .into_iter()
        .filter(|p| !known.before.contains(&(p.pid, p.started)))
        .map(|p| p.pid)
        .collect()
}

/// Living processes whose ancestors lead to the agent without passing one that is cut off.
fn below(agent: Pid, processes: &BTreeMap<Pid, Process>, cut: impl Fn(&Process) -> bool) -> Vec<Process> {
    let belongs = |process: &Process| {
        let mut at = *process;
        // A chain is no longer than there are processes; a /proc that changes while it is read may show a circle.
        for _ in 0..=processes.len() {
            if cut(&at) {
                return false;
            }
            if at.parent == agent {
                return true;
            }
            match processes.get(&at.parent) {
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    processes.values().filter(|p| !p.dead && p.pid != agent && belongs(p)).copied().collect()
}

fn read_all() -> Option<BTreeMap<Pid, Process>> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<Pid>().ok());
    let processes: BTreeMap<Pid, Process> = pids
        .filter_map(|pid| Some((pid, parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect();
    // A foreign or empty /proc doesn't even show ourselves.
    processes.contains_key(&(std::process::id() as Pid)).then_some(processes)
}

/// proc_pid_stat(5): fields 3 (state), 4, 5 and 22. The name, field 2, may hold anything, spaces and brackets too.
fn parse(pid: Pid, stat: &str) -> Option<Process> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X" | "x");
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let started = fields.nth(16)?.parse().ok()?;
    Some(Process { pid, parent, group, started, dead })
}

/// Sends a signal to every stray. With KILL it looks again until no new one shows: what forks while it is being
/// killed leaves children behind, but can't outrun this for ever, as each round leaves only what was forked in it.
///
/// # Errors
/// The last refusal (EPERM), after all have been tried. Who is gone already is no error.
pub fn signal(known: &Known<'_>, signal: Signal) -> std::io::Result<()> {
    /// Rounds of KILL in one call; the caller repeats it.
    const ROUNDS: usize = 10;
    let mut refused = None;
    let mut done = BTreeSet::new();
    for _ in 0..ROUNDS {
        let Some(strays) = find(known) else { return signal_namespace(known, signal) };
        let new: Vec<Pid> = strays.into_iter().filter(|pid| done.insert(*pid)).collect();
        for pid in &new {
            match send(*pid, signal) {
                Ok(()) => {}
                Err(error) => refused = Some(error),
            }
        }
        if new.is_empty() || signal != Signal::KILL {
            break;
        }
    }
    refused.map_or(Ok(()), Err)
}

/// Without /proc: everything in our PID namespace, runs that are still known included.
fn signal_namespace(known: &Known<'_>, signal: Signal) -> std::io::Result<()> {
    // Never as anything but PID 1: `kill(-1)` would hit every process of the machine.
    if known.agent != 1 || std::process::id() != 1 {
        return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "without /proc leftovers can't be found"));
    }
    send(-1, signal)
}

/// kill(2), for which somebody who is gone already is no error.
#[allow(unsafe_code)]
pub fn send(pid: Pid, signal: Signal) -> std::io::Result<()> {
    // SAFETY: no memory is involved. nix's kill knows no real-time signals.
    match unsafe { libc::kill(pid, signal.number()) } {
        -1 if Errno::last() != Errno::ESRCH => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: Pid, parent: Pid, group: Pid) -> (Pid, Process) {
        (pid, Process { pid, parent, group, started: 100 + pid as u64, dead: false })
    }

    fn strays(processes: &[(Pid, Process)], runs: &[Pid], before: &[Identity]) -> Vec<Pid> {
        let (runs, before) = (runs.iter().copied().collect(), before.iter().copied().collect());
        among(&processes.iter().copied().collect(), &Known { agent: 1, runs: &runs, before: &before })
    }

    #[test]
    fn a_name_full_of_brackets_and_spaces_is_read() {
        let stat = "42 (a) R 1 (b) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1";
        let read = parse(42, stat).unwrap();
        assert_eq!((read.parent, read.group, read.started, read.dead), (7, 42, 12345, false));
        assert_eq!(parse(42, "42 (x"), None);
    }

    #[test]
    fn orphans_and_their_children_are_strays() {
        assert_eq!(strays(&[process(1, 0, 1), process(10, 1, 9), process(11, 10, 11)], &[], &[]), [10, 11]);
    }

    #[test]
    fn a_running_hook_its_children_and_its_group_are_none() {
        let processes =
            [process(1, 0, 1), process(20, 1, 20), process(21, 20, 20), process(22, 1, 20), process(23, 21, 5)];
        assert_eq!(strays(&processes, &[20], &[]), [] as [Pid; 0]);
        assert_eq!(strays(&processes, &[], &[]), [20, 21, 22, 23], "once the hook is gone they are");
    }

    #[test]
    fn what_came_from_outside_or_was_there_before_is_none() {
        let processes = [process(1, 0, 1), process(30, 0, 30), process(31, 30, 30), process(40, 1, 40)];
        assert_eq!(strays(&processes, &[], &[(40, 140)]), [] as [Pid; 0]);
        assert_eq!(strays(&processes, &[], &[(40, 7)]), [40], "another process with that pid");
    }

    #[test]
    fn the_dead_are_not_counted() {
        let mut dead = process(10, 1, 10);
        dead.1.dead = true;
        assert_eq!(strays(&[process(1, 0, 1), dead], &[], &[]), [] as [Pid; 0]);
    }
}
