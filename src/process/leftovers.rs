//! What main left behind: counted until nothing is left of it, or followed in main's place.

use std::collections::BTreeSet;
use std::io::Read;

use crate::supervisor::Event;
use crate::supervisor::vocabulary::{Pid, ProcessId, RunId};

use super::guard::Guard;
use super::keyboard::Keyboard;
use super::tree::{self, ProcessStat};
use super::{Child, Kept, Processes, Sought, reaper, strays};

/// Some strays are left. That none is any more the kernel says by itself, unless something that was there before main
/// is our child as well; then it takes reading all of /proc, which is worth it once as many were reaped as were our own
/// children at the last reading.
pub(super) struct Count {
    reaped: usize,
    read_again_at: usize,
}

impl Processes {
    /// Whether, and how many, processes that main left behind are alive. When some are, [`Processes::reap`] tells it when
    /// none is any more. Where /proc shows none, as they end just now, nothing is answered but by that, if this `may_wait`:
    /// who is held dead by its tracer ends no further. Without /proc `left` is 0 or 1.
    pub fn count_strays(&mut self, may_wait: bool) -> Option<Event> {
        self.counting = None;
        let left = match reaper::any_other() {
            false => 0,
            true => self.find_strays(),
        };
        if left == 0 && self.before.is_empty() && reaper::any_other() {
            self.counting = Some(Count { reaped: 0, read_again_at: 1 });
            if may_wait {
                return None;
            }
            // Where none is seen to have ended, one is there that nothing names: /proc hides it, and the kernel lists
            // no children.
            let held = tree::read_all().is_some_and(|all| all.values().any(|p| p.dead && p.parent == self.agent));
            return Some(Event::Strays { left: usize::from(!held) });
        }
        Some(Event::Strays { left })
    }

    /// How many processes are left, what was there before main included; who is about to end isn't waited for. None
    /// unless this is PID 1, with which the kernel would kill them: else they are whose they were.
    pub fn count_rest(&mut self) -> Event {
        self.before.clear();
        let left = if self.agent == 1 && reaper::any_other() { self.find_strays() } else { 0 };
        Event::Strays { left }
    }

    /// Takes one of those that a launcher left behind for what it launched: of main's one that is our own child, of a
    /// coprocess's one that is its keeper's, so that its end is reaped and known. Nobody is found (`None`) who was
    /// told of and has ended; and nothing is answered while all of them are about to end, or `only` who is told of would do
    /// and is another's child, or when main already is who it is to be.
    pub fn follow_stray(&mut self, run: RunId, told: Option<ProcessId>, only: bool) -> Option<Event> {
        if let Some((keeper, child)) = self.children.iter_mut().find(|(_, child)| child.run == Some(run))
            && let Some(kept) = &mut child.kept
        {
            let followed = kept.follow(*keeper, run, Sought { told, only });
            self.watch(run);
            return followed;
        }
        let kin = self.kin();
        let Some(strays) = strays::find(&self.known(&kin)) else { return Some(Event::Followed { run, pid: None }) };
        // Somebody else's, started from outside (`docker exec`), is a child of ours as well once its parent has ended.
        let is_mains = |pid| self.main_became.is_none_or(|user| tree::user(pid).is_none_or(|its| its == user));
        let own = || strays.iter().filter(|stray| stray.parent == self.agent && is_mains(stray.pid));
        let main = own().find(|stray| Some(stray.id()) == told);
        let main = match self.pid(run) {
            None if !only => main.or_else(|| daemon(own(), is_of_no_main)),
            Some(_) | None => main,
        };
        let Some(main) = main else {
            // None of them is about to leave one that will do; or who was named has ended.
            let never = !only && !strays.is_empty() && !strays.iter().any(|stray| is_mains(stray.pid));
            let is_over = told.is_some_and(|told| tree::id(told.0) != Some(told));
            return (never && self.pid(run).is_none() || is_over).then_some(Event::Followed { run, pid: None });
        };
        let (pid, group) = (main.pid, main.group);
        self.counting = None;
        self.children.retain(|_, child| child.run != Some(run));
        self.children.insert(pid, Child { run: Some(run), kept: None, executing: None, streams: None });
        self.main = Some(run);
        self.main_is_in = Some(group);
        self.main_group = None;
        if let Some(guard) = &self.guard {
            guard.main_runs(pid, group);
        }
        if self.listens && self.terminal.is_lent_to(group) {
            self.hears(Keyboard::start(group));
        }
        self.watch(run);
        Some(Event::Followed { run, pid: Some(pid) })
    }

    pub(super) fn recount(&mut self, strangers: usize, nobody_else: bool) -> Option<Event> {
        let count = self.counting.as_mut()?;
        count.reaped += strangers;
        if self.more {
            return None;
        }
        if nobody_else {
            self.counting = None;
            return Some(Event::Strays { left: 0 });
        }
        // As many as were our children must be reaped by us before none is left.
        match count.reaped >= count.read_again_at {
            true => self.count_strays(true),
            false => None,
        }
    }

    fn find_strays(&mut self) -> usize {
        let kin = self.kin();
        let (left, own) = match strays::find(&self.known(&kin)) {
            Some(strays) => (strays.len(), strays.iter().filter(|stray| stray.parent == self.agent).count()),
            // Without /proc who was there before is not known, and one is as good as many.
            None => (1, 1),
        };
        let read_again_at = if self.before.is_empty() { usize::MAX } else { own.max(1) };
        self.counting = (left > 0).then_some(Count { reaped: 0, read_again_at });
        left
    }

    /// Below whom, or who, is no stray. The guard, which may be younger than main, isn't either.
    pub(super) fn kin(&self) -> BTreeSet<Pid> {
        let guards = self.guard.iter().flat_map(Guard::pids);
        let keyboard = self.keyboard.as_ref().map(Keyboard::pid);
        self.children.keys().copied().chain(guards).chain(keyboard).collect()
    }

    pub(super) fn known<'a>(&'a self, kin: &'a BTreeSet<Pid>) -> strays::Known<'a> {
        strays::Known { agent: self.agent, kin, before: &self.before }
    }
}

impl Kept {
    /// Takes one of those that its process left behind in its place, or who that names while it is there itself.
    pub(super) fn follow(&mut self, keeper: Pid, run: RunId, sought: Sought) -> Option<Event> {
        let nobody = Event::Followed { run, pid: None };
        let Some(processes) = tree::read_all() else { return self.ended.then_some(nobody) };
        let left = || processes.values().filter(|process| process.parent == keeper && !process.dead);
        let named = left().find(|process| Some(process.id()) == sought.told);
        let found = match self.ended && !sought.only {
            true => named.or_else(|| daemon(left(), |_| false)),
            false => named,
        };
        if let Some(pid) = found.map(|process| process.pid) {
            *self = Kept { pid, ended: false, sought: None };
            return Some(Event::Followed { run, pid: Some(pid) });
        }
        let lives =
            |told: &ProcessId| processes.get(&told.0).is_some_and(|process| process.id() == *told && !process.dead);
        let comes = !sought.only || sought.told.as_ref().is_some_and(lives);
        self.sought = Some(sought).filter(|_| self.ended && comes);
        (self.ended && !comes).then_some(nobody)
    }
}

/// What a launcher forked first, and in a session of its own, is most often the daemon itself; not who is known to be
/// `another`'s.
fn daemon<'a>(left: impl Iterator<Item = &'a ProcessStat>, another: impl Fn(Pid) -> bool) -> Option<&'a ProcessStat> {
    left.min_by_key(|process| (process.session != process.pid, another(process.pid), process.started, process.pid))
}

/// Whether a process's environment shows that main didn't start it, nor what main started: a `docker exec` did, and left it
/// to us. One that can't be read, or is written over by the process's title (nginx, postgres), shows nothing.
fn is_of_no_main(pid: Pid) -> bool {
    /// More than any has, and not more than may be read at a time.
    const MOST: u64 = 1 << 20;
    let mut environment = Vec::new();
    let opened = std::fs::File::open(format!("/proc/{pid}/environ"));
    let read = opened.and_then(|file| file.take(MOST).read_to_end(&mut environment));
    let names = || environment.split(|byte| *byte == 0).filter_map(|entry| entry.split(|byte| *byte == b'=').next());
    let has = |name: &str| names().any(|known| known == name.as_bytes());
    read.is_ok() && has("PATH") && !has("PILOTFISH_PID")
}
