//! Who gets a signal that is for many: what main left behind, or all of a run. It finds them in /proc and signals them;
//! when, and with what, is decided elsewhere.
//!
//! Without /proc, only PID 1 can still do something about what main left: everything in its namespace but itself is its
//! to end, so `kill(-1)` is right there, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Signal;
use crate::supervisor::vocabulary::{Pid, ProcessId};

use super::kill;
use super::tree::{self, ProcessStat, Scan};

/// Who is none of what main left.
pub struct Known<'a> {
    /// The agent.
    pub agent: Pid,
    /// Main while it runs, keepers and the guard, each with all below it.
    pub kin: &'a BTreeSet<Pid>,
    /// What was there before main, each with all below it.
    pub before: &'a BTreeSet<ProcessId>,
}

/// Every process below the agent; `None` without /proc.
pub fn descendants(agent: Pid) -> Option<BTreeSet<ProcessId>> {
    let processes = tree::read_all()?;
    Some(tree::below(agent, &processes, |_| false).into_iter().map(|p| p.id()).collect())
}

/// What main left behind; `None` without /proc.
pub fn find(known: &Known<'_>) -> Option<Vec<ProcessStat>> {
    Some(among(&tree::read_all()?, known))
}

fn among(processes: &BTreeMap<Pid, ProcessStat>, known: &Known<'_>) -> Vec<ProcessStat> {
    let is_none = |p: &ProcessStat| known.kin.contains(&p.pid) || known.before.contains(&p.id());
    tree::below(known.agent, processes, is_none)
}

/// Sends a signal to all that main left behind.
///
/// # Errors
/// The last refusal (EPERM), after all have been tried. Who is gone already is no error.
pub fn signal(known: &Known<'_>, signal: Signal) -> std::io::Result<()> {
    let look = || {
        let processes = tree::read_all()?;
        let pids = among(&processes, known).iter().map(|p| p.pid).collect();
        Some(Scan { pids, torn: tree::is_torn(&processes) })
    };
    in_rounds(signal, look).unwrap_or_else(|| signal_namespace(known, signal))
}

/// Sends a signal to all below a keeper, which hasn't been reaped; without /proc to this group.
///
/// # Errors
/// As for [`signal`].
pub fn signal_run(keeper: Pid, group: Pid, signal: Signal) -> std::io::Result<()> {
    in_rounds(signal, || tree::descendants(keeper)).unwrap_or_else(|| kill::group(group, signal.number()).result())
}

/// Sends a signal to whom it finds. With KILL it looks again until no new one shows: what forks while it is being killed
/// leaves children behind, but can't outrun this for ever, as each round leaves only what was forked in it. With another
/// it looks again only when somebody may have been missed, for who obeys may fork a helper to clean up with. `None`
/// where nobody can be found.
fn in_rounds(signal: Signal, look: impl Fn() -> Option<Scan>) -> Option<std::io::Result<()>> {
    /// Rounds in one call; the caller repeats a KILL.
    const ROUNDS: usize = 10;
    let rounds = if signal == Signal::KILL { ROUNDS } else { 2 };
    let mut refused = None;
    let mut done = BTreeSet::new();
    for _ in 0..rounds {
        let found = look()?;
        let mut any_new = false;
        for pid in found.pids {
            if done.insert(pid) {
                any_new = true;
                refused = kill::process(pid, signal.number()).result().err().or(refused);
            }
        }
        if !(any_new && (found.torn || signal == Signal::KILL)) {
            break;
        }
    }
    Some(refused.map_or(Ok(()), Err))
}

/// Without /proc: everything in our PID namespace, runs that are still known included.
#[allow(unsafe_code)]
fn signal_namespace(known: &Known<'_>, signal: Signal) -> std::io::Result<()> {
    // Never as anything but PID 1: `kill(-1)` would hit every process of the machine.
    if known.agent != 1 || std::process::id() != 1 {
        return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "without /proc leftovers can't be found"));
    }
    // SAFETY: the agent is PID 1.
    unsafe { kill::namespace(signal.number()) }.result()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: Pid, parent: Pid) -> (Pid, ProcessStat) {
        (pid, ProcessStat { pid, parent, group: pid, session: pid, started: 100 + pid as u64, dead: false })
    }

    fn strays(processes: &[(Pid, ProcessStat)], kin: &[Pid], before: &[ProcessId]) -> Vec<Pid> {
        let (kin, before) = (kin.iter().copied().collect(), before.iter().copied().collect());
        let known = Known { agent: 1, kin: &kin, before: &before };
        among(&processes.iter().copied().collect(), &known).iter().map(|p| p.pid).collect()
    }

    #[test]
    fn orphans_and_their_children_are_strays() {
        assert_eq!(strays(&[process(1, 0), process(10, 1), process(11, 10)], &[], &[]), [10, 11]);
    }

    #[test]
    fn what_is_below_a_keeper_is_none() {
        let processes = [process(1, 0), process(20, 1), process(21, 20), process(22, 21), process(23, 1)];
        assert_eq!(strays(&processes, &[20], &[]), [23]);
    }

    #[test]
    fn what_came_from_outside_or_was_there_before_is_none() {
        let processes = [process(1, 0), process(30, 0), process(31, 30), process(40, 1)];
        assert_eq!(strays(&processes, &[], &[(40, 140)]), [] as [Pid; 0]);
        assert_eq!(strays(&processes, &[], &[(40, 7)]), [40], "another process with that pid");
    }

    #[test]
    fn what_was_there_before_main_may_start_others_and_they_are_none() {
        let processes = [process(1, 0), process(40, 1), process(50, 40), process(51, 50), process(60, 1)];
        assert_eq!(strays(&processes, &[], &[(40, 140)]), [60]);
    }

    #[test]
    fn the_dead_are_not_counted() {
        let mut dead = process(10, 1);
        dead.1.dead = true;
        assert_eq!(strays(&[process(1, 0), dead], &[], &[]), [] as [Pid; 0]);
    }
}
