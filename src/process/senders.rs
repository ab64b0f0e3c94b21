//! Whether a message on a notify socket is of those whose socket it is, or ours, by the credentials the kernel attached.
//! Checking is cheap and its cost bounded, whoever sends and however much; what is said in a message plays no part.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::supervisor::vocabulary::Pid;

use super::tree;

/// A verdict holds so long: a sender rarely changes what it is, and a process id isn't given out again so soon.
const HOLDS: Duration = Duration::from_secs(1);
/// As many senders are looked up within `HOLDS` of those users whose word counts anywhere in the container, and as many of
/// all others, so that no flood of these keeps a `docker exec` out; further ones are foreign. Who speaks for itself needs
/// no look.
const MOST_LOOKS: usize = 32;
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

/// Whose socket it is.
#[derive(Clone, Copy)]
pub struct Speaker<'a> {
    /// Main, or the coprocess, while it runs.
    pub pid: Option<Pid>,
    /// To what belongs whatever may speak for it; `None`: there is nothing now.
    pub origin: Option<Origin>,
    /// Whether this is a keeper: what is below is of its run, and of no other.
    pub is_keeper: &'a dyn Fn(Pid) -> bool,
}

/// To what a living process belongs, by its ancestors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The run of this keeper.
    Run(Pid),
    /// Main, and all else below us.
    Ours,
    /// It isn't below us.
    Elsewhere,
}

/// What is known about senders.
#[derive(Debug)]
pub struct Senders {
    agent: Pid,
    ours: u32,
    looked: [HashMap<Sender, bool>; 2],
    looked_since: Option<Instant>,
    speaker: Option<(Pid, Instant, Option<u32>)>,
}

impl Senders {
    /// Nobody is known yet.
    pub fn new(agent: Pid) -> Senders {
        let ours = nix::unistd::geteuid().as_raw();
        Senders { agent, ours, looked: Default::default(), looked_since: None, speaker: None }
    }

    /// Whether a sender is to be believed: the speaker, and whatever is of it. What is below us and of another run isn't. Of
    /// those that aren't below us (`docker exec`), and those that have ended since (a systemd-notify(1)), it goes by the user:
    /// as PID 1 root, our own and the speaker's; as a subreaper we share our namespace with strangers, so only those that have
    /// ended, and of these only root's and ours.
    pub fn believes(&mut self, sender: Sender, speaker: Speaker<'_>, now: Instant) -> bool {
        if sender.pid <= 0 {
            return false;
        }
        if speaker.pid == Some(sender.pid) {
            return true;
        }
        let trusted = [0, self.ours].contains(&sender.uid)
            || self.agent == 1 && self.user_of(speaker.pid, now) == Some(sender.uid);
        self.look(sender, speaker, now, trusted)
    }

    fn look(&mut self, sender: Sender, speaker: Speaker<'_>, now: Instant, trusted: bool) -> bool {
        if self.looked_since.is_none_or(|since| now >= since + HOLDS) {
            self.looked_since = Some(now);
            self.looked.iter_mut().for_each(HashMap::clear);
        }
        let agent = self.agent;
        let looked = &mut self.looked[usize::from(trusted)];
        if let Some(verdict) = looked.get(&sender) {
            return *verdict;
        }
        if looked.len() >= MOST_LOOKS {
            return false;
        }
        let verdict = match origin(agent, sender.pid, speaker.is_keeper) {
            Some(Origin::Elsewhere) => trusted && agent == 1,
            Some(origin) => speaker.origin == Some(origin),
            None => trusted,
        };
        looked.insert(sender, verdict);
        verdict
    }

    /// Whom the speaker runs as now: it may have switched itself. One whose keeper has reaped it ran as it last did.
    fn user_of(&mut self, speaker: Option<Pid>, now: Instant) -> Option<u32> {
        let speaker = speaker?;
        match self.speaker {
            Some((pid, at, user)) if pid == speaker && now < at + HOLDS => user,
            before => {
                let before = before.filter(|(pid, ..)| *pid == speaker).and_then(|(.., user)| user);
                let user = user(speaker).or(before);
                self.speaker = Some((speaker, now, user));
                user
            }
        }
    }
}

/// To what a process belongs, by a walk up its ancestors; `None` when that can't be told: it has ended, or there is no
/// /proc. One that hasn't been reaped yet still has its parent.
fn origin(agent: Pid, pid: Pid, is_keeper: &dyn Fn(Pid) -> bool) -> Option<Origin> {
    let mut at = tree::read(pid)?.parent;
    for _ in 0..DEEPEST {
        if is_keeper(at) {
            return Some(Origin::Run(at));
        }
        if at == agent {
            return Some(Origin::Ours);
        }
        if at <= 1 {
            return Some(Origin::Elsewhere);
        }
        // An ancestor that ends meanwhile leaves its children to a keeper, to us, or to somebody who isn't.
        at = parent(at).or_else(|| parent(pid))?;
    }
    Some(Origin::Elsewhere)
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

    fn nobody(_: Pid) -> bool {
        false
    }

    /// Main, without any keeper.
    fn main(pid: Option<Pid>) -> Speaker<'static> {
        Speaker { pid, origin: Some(Origin::Ours), is_keeper: &nobody }
    }

    #[test]
    fn main_and_its_user_are_believed_and_other_containers_are_not() {
        let now = Instant::now();
        let mut senders = Senders { ours: 7, ..Senders::new(1) };
        let (main, its) = (main(Some(ourselves())), user(ourselves()).unwrap());
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
        assert!(Senders::new(parent).believes(me, main(None), now));
        assert!(!Senders::new(Pid::MAX).believes(me, main(None), now));
        let mut senders = Senders { ours: 7, ..Senders::new(Pid::MAX - 1) };
        assert!(senders.believes(Sender { pid: Pid::MAX, uid: 7 }, main(None), now), "ours, and ended");
        assert!(!senders.believes(Sender { pid: Pid::MAX, uid: 8 }, main(None), now));
    }

    #[test]
    fn what_is_below_a_keeper_speaks_for_its_run_and_for_nobody_else_whoever_it_is() {
        let now = Instant::now();
        let keeper = parent(ourselves()).unwrap();
        let is_keeper = move |pid: Pid| pid == keeper;
        let speaker = |origin| Speaker { pid: None, origin: Some(origin), is_keeper: &is_keeper };
        for uid in [0, 4242] {
            let me = Sender { pid: ourselves(), uid };
            // Not even root, which a `docker exec` would be believed as.
            assert!(!Senders::new(1).believes(me, speaker(Origin::Ours), now), "on main's socket");
            assert!(Senders::new(1).believes(me, speaker(Origin::Run(keeper)), now), "on its own");
            assert!(!Senders::new(1).believes(me, speaker(Origin::Run(Pid::MAX)), now), "on another coprocess's");
        }
    }

    #[test]
    fn main_does_not_speak_for_a_coprocess() {
        let now = Instant::now();
        let coprocess = Speaker { origin: Some(Origin::Run(Pid::MAX)), ..main(None) };
        let me = Sender { pid: ourselves(), uid: 4242 };
        assert!(!Senders::new(parent(ourselves()).unwrap()).believes(me, coprocess, now));
    }

    #[test]
    fn a_crowd_of_senders_is_looked_up_within_bounds_and_keeps_nobody_out_for_long() {
        let now = Instant::now();
        let mut senders = Senders { ours: 7, ..Senders::new(parent(ourselves()).unwrap()) };
        for uid in 0..10 * MOST_LOOKS as u32 {
            senders.believes(Sender { pid: Pid::MAX, uid: uid + 5000 }, main(None), now);
        }
        assert_eq!(senders.looked[0].len(), MOST_LOOKS);
        let me = Sender { pid: ourselves(), uid: 4242 };
        assert!(!senders.believes(me, main(None), now));
        assert!(senders.believes(me, main(None), now + HOLDS));
        // Who has a say anywhere isn't kept out at all, by those who haven't.
        let mut senders = Senders { ours: 7, ..Senders::new(1) };
        for uid in 0..10 * MOST_LOOKS as u32 {
            senders.believes(Sender { pid: Pid::MAX, uid: uid + 5000 }, main(None), now);
        }
        assert!(senders.believes(Sender { pid: Pid::MAX, uid: 7 }, main(None), now));
    }
}
