//! Whether a message on the notify socket is main's or ours, by the credentials the kernel attached. Checking is cheap
//! and its cost bounded, whoever sends and however much; what is said in a message plays no part.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::supervisor::vocabulary::Pid;

use super::tree;

/// A verdict holds so long: a sender rarely changes what it is, and a process id isn't given out again so soon.
const HOLDS: Duration = Duration::from_secs(1);
/// As many senders are looked up within `HOLDS`; further ones are foreign. Main itself needs no look.
const MOST_LOOKS: usize = 64;
/// No tree of processes is deeper.
const DEEPEST: usize = 256;

/// Who sent a message, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sender {
    /// 0 when it is in no PID namespace that we see.
    pub pid: Pid,
    /// Its user.
    pub uid: u32,
}

/// What is known about senders.
#[derive(Debug)]
pub struct Senders {
    agent: Pid,
    ours: u32,
    looked: HashMap<Sender, bool>,
    looked_since: Option<Instant>,
    main: Option<(Pid, Instant, Option<u32>)>,
}

impl Senders {
    /// Nobody is known yet.
    pub fn new(agent: Pid) -> Senders {
        let ours = nix::unistd::geteuid().as_raw();
        Senders { agent, ours, looked: HashMap::new(), looked_since: None, main: None }
    }

    /// Whether a sender is to be believed: main, and whatever is below us. As PID 1 also root's, our own user's and
    /// main's user's processes of the container (`docker exec`, and a systemd-notify(1) that has ended since); as a
    /// subreaper we share our namespace with strangers, so of these only root's and ours, once they have ended.
    pub fn believes(&mut self, sender: Sender, main: Option<Pid>, now: Instant) -> bool {
        if sender.pid <= 0 {
            return false;
        }
        if main == Some(sender.pid) {
            return true;
        }
        let trusted = [0, self.ours].contains(&sender.uid);
        if self.agent == 1 && (trusted || self.user_of(main, now) == Some(sender.uid)) {
            return true;
        }
        self.looks_ours(sender, now, trusted)
    }

    fn looks_ours(&mut self, sender: Sender, now: Instant, trusted: bool) -> bool {
        if self.looked_since.is_none_or(|since| now >= since + HOLDS) {
            self.looked_since = Some(now);
            self.looked.clear();
        }
        if let Some(verdict) = self.looked.get(&sender) {
            return *verdict;
        }
        if self.looked.len() >= MOST_LOOKS {
            return false;
        }
        let verdict = is_below(self.agent, sender.pid).unwrap_or(trusted && self.agent != 1);
        self.looked.insert(sender, verdict);
        verdict
    }

    /// Whom main runs as now: it may have switched itself.
    fn user_of(&mut self, main: Option<Pid>, now: Instant) -> Option<u32> {
        let main = main?;
        match self.main {
            Some((pid, at, user)) if pid == main && now < at + HOLDS => user,
            _ => {
                let user = user(main);
                self.main = Some((main, now, user));
                user
            }
        }
    }
}

/// Whether a process is a descendant of the agent, by a walk up its ancestors; `None` when that can't be told: it has
/// ended, or there is no /proc.
fn is_below(agent: Pid, pid: Pid) -> Option<bool> {
    let mut at = parent(pid)?;
    for _ in 0..DEEPEST {
        if at == agent {
            return Some(true);
        }
        if at <= 1 {
            return Some(false);
        }
        // An ancestor that ends meanwhile leaves its children to us, or to somebody who isn't.
        at = parent(at).or_else(|| parent(pid))?;
    }
    Some(false)
}

/// The parent of a living process.
fn parent(pid: Pid) -> Option<Pid> {
    tree::read(pid).filter(|process| !process.dead).map(|process| process.parent)
}

/// The effective user of a process (proc_pid_status(5), Uid).
fn user(pid: Pid) -> Option<u32> {
    user_in(&std::fs::read(format!("/proc/{pid}/status")).ok()?)
}

pub(super) fn user_in(status: &[u8]) -> Option<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ourselves() -> Pid {
        std::process::id() as Pid
    }

    #[test]
    fn main_and_its_user_are_believed_and_other_containers_are_not() {
        let now = Instant::now();
        let mut senders = Senders { ours: 7, ..Senders::new(1) };
        let (main, its) = (Some(ourselves()), user(ourselves()).unwrap());
        assert!(senders.believes(Sender { pid: ourselves(), uid: 12 }, main, now), "main itself, whoever it is");
        // Nobody has this process id: it has ended.
        let ended = |uid| Sender { pid: Pid::MAX, uid };
        assert!(senders.believes(ended(its), main, now) && senders.believes(ended(7), main, now));
        assert!(!senders.believes(ended(4242), main, now));
        assert!(!senders.believes(Sender { pid: 0, uid: 0 }, main, now), "of another namespace");
    }

    #[test]
    fn a_subreaper_believes_its_descendants_and_no_stranger() {
        let now = Instant::now();
        let parent = parent(ourselves()).unwrap();
        let me = Sender { pid: ourselves(), uid: 4242 };
        assert!(Senders::new(parent).believes(me, None, now));
        assert!(!Senders::new(Pid::MAX).believes(me, None, now));
        let mut senders = Senders { ours: 7, ..Senders::new(Pid::MAX - 1) };
        assert!(senders.believes(Sender { pid: Pid::MAX, uid: 7 }, None, now), "ours, and ended");
        assert!(!senders.believes(Sender { pid: Pid::MAX, uid: 8 }, None, now));
    }

    #[test]
    fn a_crowd_of_senders_is_looked_up_within_bounds_and_keeps_nobody_out_for_long() {
        let now = Instant::now();
        let mut senders = Senders::new(parent(ourselves()).unwrap());
        for uid in 0..10 * MOST_LOOKS as u32 {
            senders.believes(Sender { pid: Pid::MAX, uid: uid + 5000 }, None, now);
        }
        assert_eq!(senders.looked.len(), MOST_LOOKS);
        let me = Sender { pid: ourselves(), uid: 4242 };
        assert!(!senders.believes(me, None, now));
        assert!(senders.believes(me, None, now + HOLDS));
    }
}
