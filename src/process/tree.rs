//! Who descends from whom, as /proc shows it. It is read as bytes: a name may hold anything, and be cut in the middle of
//! a character. It knows no runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;

use crate::supervisor::vocabulary::{Pid, ProcessId};

/// A process as /proc/PID/stat shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// Its id.
    pub pid: Pid,
    /// Its parent's.
    pub parent: Pid,
    /// Its process group.
    pub group: Pid,
    /// Its session.
    pub session: Pid,
    /// In clock ticks since boot: with the pid it names one process for good.
    pub started: u64,
    /// All its threads have ended.
    pub dead: bool,
}

impl ProcessStat {
    /// Which process this is.
    pub fn id(&self) -> ProcessId {
        (self.pid, self.started)
    }
}

/// Every process there is; `None` without /proc.
pub fn read_all() -> Option<BTreeMap<Pid, ProcessStat>> {
    let entries = std::fs::read_dir("/proc").ok().filter(|_| is_ours())?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<Pid>().ok());
    let mut processes: BTreeMap<Pid, ProcessStat> = pids.filter_map(|pid| Some((pid, read(pid)?))).collect();
    let own = std::process::id().cast_signed();
    for pid in children(own).unwrap_or_default() {
        if !processes.contains_key(&pid)
            && let Some(hidden) = hidden(pid, own)
        {
            processes.insert(pid, hidden);
        }
    }
    Some(processes)
}

/// A child of ours that /proc doesn't show us (hidepid; one that isn't dumpable, a setuid program), though the kernel lists
/// it. When it began nobody says: its number alone tells it from others.
fn hidden(pid: Pid, parent: Pid) -> Option<ProcessStat> {
    let of = nix::unistd::Pid::from_raw(pid);
    let group = nix::unistd::getpgid(Some(of)).ok()?.as_raw();
    let session = nix::unistd::getsid(Some(of)).ok()?.as_raw();
    // It may have come since /proc was listed.
    Some(read(pid).unwrap_or(ProcessStat { pid, parent, group, session, started: 0, dead: false }))
}

/// Whether /proc is that of our own PID namespace.
fn is_ours() -> bool {
    std::fs::read_link("/proc/self").is_ok_and(|own| own.to_str() == Some(&std::process::id().to_string()))
}

/// Which process has this number now, if a living one has.
pub fn id(pid: Pid) -> Option<ProcessId> {
    read(pid).filter(|process| !process.dead).map(|process| process.id())
}

/// One process; `None` when there is none, or no /proc. By one read(2): the kernel hands out at once as much as there is
/// room for, and up to field 22 there are no more than 700 bytes. Reading to the end took six.
pub fn read(pid: Pid) -> Option<ProcessStat> {
    let mut stat = [0; 1024];
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut stat).ok()?;
    parse(pid, &stat[..length])
}

/// Whose rights a process has (its effective user's); `None` where /proc doesn't say.
pub fn user(pid: Pid) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // Real, effective, saved and for files (proc_pid_status(5)).
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Living processes whose ancestors lead to `root` without passing one that is cut off, by their numbers. Each is looked at
/// once, from above: a walk up from each of them takes as many steps as their depths together, and who nests processes
/// without end would hold the loop by that.
pub fn below(
    root: Pid,
    processes: &BTreeMap<Pid, ProcessStat>,
    cut: impl Fn(&ProcessStat) -> bool,
) -> Vec<ProcessStat> {
    let mut children: BTreeMap<Pid, Vec<&ProcessStat>> = BTreeMap::new();
    for process in processes.values().filter(|process| process.pid != root) {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    // Children are taken out with their parent; a circle, as a /proc that changes while it is read may show, has no way in.
    let mut unseen = children.remove(&root).unwrap_or_default();
    while let Some(process) = unseen.pop() {
        if !cut(process) {
            unseen.extend(children.remove(&process.pid).unwrap_or_default());
            found.push(*process);
        }
    }
    found.retain(|process| !process.dead);
    found.sort_unstable_by_key(|process| process.pid);
    found
}

/// Whether a parent is missing: it ended while all this was read, and its children may be anybody's.
pub fn is_torn(processes: &BTreeMap<Pid, ProcessStat>) -> bool {
    processes.values().any(|process| process.parent != 0 && !processes.contains_key(&process.parent))
}

/// Who was found, the dead perhaps among them.
#[derive(Debug, Default)]
pub struct Scan {
    /// Their ids.
    pub pids: BTreeSet<Pid>,
    /// One ended meanwhile: its children may have been missed.
    pub torn: bool,
}

/// All that descend from a process; `None` without /proc. What it costs goes by how many they are, not by how many
/// there are in all, where the kernel lists a process's children (CONFIG_PROC_CHILDREN).
pub fn descendants(root: Pid) -> Option<Scan> {
    let Some(first) = children(root).filter(|_| is_ours()) else {
        let processes = read_all()?;
        let pids = below(root, &processes, |_| false).iter().map(|process| process.pid).collect();
        return Some(Scan { pids, torn: is_torn(&processes) });
    };
    Some(descend(root, first, children))
}

/// From these children of `root` on. One that ends meanwhile leaves its own to `root`, perhaps after `root`'s were listed
/// and before its own are: who has come there since is looked for until nobody has.
fn descend(root: Pid, first: Vec<Pid>, mut children: impl FnMut(Pid) -> Option<Vec<Pid>>) -> Scan {
    /// What forks faster than that is told again by whoever asks again.
    const LOOKS: usize = 10;
    let mut found = Scan::default();
    let mut unseen = first;
    for _ in 0..LOOKS {
        while let Some(pid) = unseen.pop() {
            if found.pids.insert(pid) {
                match children(pid) {
                    Some(children) => unseen.extend(children),
                    None => found.torn = true,
                }
            }
        }
        unseen.extend(children(root).unwrap_or_default().into_iter().filter(|pid| !found.pids.contains(pid)));
        if unseen.is_empty() {
            break;
        }
    }
    found
}

/// The children of all of a process's threads; `None` when they aren't listed.
fn children(pid: Pid) -> Option<Vec<Pid>> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut children = Vec::new();
    for task in tasks.flatten() {
        match std::fs::read(task.path().join("children")) {
            Ok(list) => children.extend(list.split(u8::is_ascii_whitespace).filter_map(number)),
            // A kernel that lists none has no such file for our own threads either; a thread may just have ended.
            Err(_) if std::fs::metadata("/proc/thread-self/children").is_err() => return None,
            Err(_) => {}
        }
    }
    Some(children)
}

fn number(digits: &[u8]) -> Option<Pid> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A living process's group, where that isn't our own.
pub fn group(pid: Pid) -> Option<Pid> {
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid))).ok()?;
    Some(group.as_raw()).filter(|group| *group > 1 && *group != nix::unistd::getpgrp().as_raw())
}

/// What follows the name in /proc/PID/stat, from field 3 on: the name, field 2, may hold anything, spaces, brackets and
/// half characters too.
pub fn fields(stat: &[u8]) -> Option<&str> {
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(stat.get(name_ends + 1..)?).ok()
}

/// proc_pid_stat(5): fields 3 (state), 4, 5, 6, 20 and 22.
pub(super) fn parse(pid: Pid, stat: &[u8]) -> Option<ProcessStat> {
    let mut fields = fields(stat)?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let threads: u64 = fields.nth(13)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    // A process whose first thread has ended shows as a zombie while its other threads work.
    let dead = matches!(state, "X" | "x") || (state == "Z" && threads <= 1);
    Some(ProcessStat { pid, parent, group, session, started, dead })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (NAME) S 7 42 41 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1";

    #[test]
    fn what_is_left_to_the_keeper_while_it_is_looked_for_is_found() {
        // The shell, 2, ends between the two lists, and leaves 3 and 4 to 1.
        let mut asked = Vec::new();
        let scan = descend(1, vec![2], |pid| {
            asked.push(pid);
            Some(match pid {
                1 => vec![2, 3, 4],
                4 => vec![5],
                _ => Vec::new(),
            })
        });
        assert_eq!(scan.pids, BTreeSet::from([2, 3, 4, 5]));
        assert!(!scan.torn && asked[..2] == [2, 1], "{asked:?}");
    }

    fn process(pid: Pid, parent: Pid) -> (Pid, ProcessStat) {
        (pid, ProcessStat { pid, parent, group: pid, session: pid, started: 1, dead: false })
    }

    #[test]
    fn a_chain_of_processes_is_looked_through_in_as_many_steps_as_it_has_links() {
        const LINKS: usize = 10_000;
        let processes: BTreeMap<Pid, ProcessStat> = (1..).map(|pid| process(pid, pid - 1)).take(LINKS).collect();
        let steps = std::cell::Cell::new(0);
        let step = |cut_off: bool| {
            steps.set(steps.get() + 1);
            cut_off
        };
        assert_eq!(below(1, &processes, |_| step(false)).len(), LINKS - 1);
        assert!(steps.get() <= LINKS, "{} steps", steps.get());
        let above: Vec<Pid> = below(1, &processes, |process| step(process.pid == 5)).iter().map(|p| p.pid).collect();
        assert_eq!(above, [2, 3, 4]);
        assert!(steps.get() <= 2 * LINKS, "{} steps", steps.get());
    }

    #[test]
    fn a_circle_is_below_nobody_and_the_dead_hand_on_what_is_below_them() {
        let mut processes = BTreeMap::from([process(1, 9), process(9, 3), process(3, 1), process(4, 3)]);
        processes.extend([process(6, 7), process(7, 8), process(8, 6), process(5, 5), process(10, 11)]);
        processes.get_mut(&3).unwrap().dead = true;
        let found: Vec<Pid> = below(1, &processes, |_| false).iter().map(|p| p.pid).collect();
        assert_eq!(found, [4, 9]);
    }

    #[test]
    fn a_name_full_of_brackets_and_spaces_is_read() {
        let read = parse(42, STAT.replace("NAME", "a) R 1 (b").as_bytes()).unwrap();
        assert_eq!((read.parent, read.group, read.session, read.started, read.dead), (7, 42, 41, 12345, false));
        assert_eq!(parse(42, b"42 (x"), None);
    }

    #[test]
    fn a_name_cut_in_the_middle_of_a_character_is_read() {
        let mut stat = STAT.replace("NAME", "xxxxxxxxxxxxxx").into_bytes();
        stat[10] = 0xd0;
        assert_eq!(parse(42, &stat).map(|process| process.parent), Some(7));
    }

    #[test]
    fn a_zombie_whose_other_threads_live_on_is_alive() {
        let zombie = STAT.replace(") S", ") Z");
        assert!(parse(42, zombie.as_bytes()).unwrap().dead);
        assert!(!parse(42, zombie.replace(" 20 0 1 ", " 20 0 2 ").as_bytes()).unwrap().dead);
    }
}
