//! Linux: spawns, reaps, signals; owns every child. It decides nothing.
//!
//! - [`signals`]: what the agent was given, and all signals that come to it.
//! - [`guard`]: a second process, that kills when a leader's time is over.
//! - `reaper`: the agent's only waitpid. `keeper`: a process between the agent and a command, by which it is known
//!   what is of that run, and when nothing is. `strays`: signals for many: what main left behind, or all of a run.
//!   `tree`: who descends from whom. `apart`: how keepers and the guard live beside the agent.
//! - `start`, `command`, `launch`, `child`: from an order to a running program. `environment`, `users`, `limits`,
//!   `descriptors`, `stdio`: what it gets. `reserve`: room for one more.
//! - `ends`: what has become of children; `held`: those that a tracer keeps from being reaped. `leftovers`: what main left
//!   behind, counted or followed. `out_of_memory`: whether the kernel killed them for that.
//! - [`memory`]: what the start needed and the rest does not.
//! - [`parent`]: the end of this process's own. `pause`: an init without a main.
//! - `output`: what hooks print and read; `periodic`: of those that run again and again, what is news. [`notify`]: what main
//!   says by sd_notify, `senders`: who may; [`outer`]: what is said to the supervisor above. `tty`: the terminal.
//!   `keyboard`: what it sends main.

mod apart;
mod child;
pub mod command;
mod descriptors;
mod ends;
mod environment;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod guard;
mod held;
mod keeper;
mod keyboard;
mod kill;
mod launch;
mod leftovers;
pub mod limits;
pub mod memory;
pub mod notify;
pub mod out_of_memory;
pub mod outer;
mod output;
pub mod parent;
mod pause;
mod periodic;
mod reaper;
mod reserve;
mod senders;
pub mod signals;
mod start;
mod stdio;
mod strays;
mod tree;
mod tty;
pub mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::config::{Exec, Manner, Signal};
use crate::supervisor::vocabulary::{Pid, ProcessId, RunId, Target};
use crate::supervisor::{Event, Time};

pub use pause::pause;
pub use senders::Speaker;
pub use start::{Order, read_files, read_hook_files};

use guard::{Attention, Guard};
use keeper::ReportPipe;
use keyboard::Keyboard;
use launch::LaunchReport;
use leftovers::Count;
use reserve::Reserve;
use senders::Origin;
use signals::Inherited;
use tty::Terminal;

/// Owns every child of the agent. It has no policy: it does what it is told and tells what has become of it.
pub struct Processes {
    inherited: Inherited,
    agent: Pid,
    guard: Option<Guard>,
    children: BTreeMap<Pid, Child>,
    /// From the first hook or check on.
    words: Option<ReportPipe>,
    manner: Manner,
    /// What was there before main: no strays of it.
    before: BTreeSet<ProcessId>,
    /// One turn wasn't enough for all that have ended.
    more: bool,
    /// It was asked how many strays are left, and some were.
    counting: Option<Count>,
    main: Option<RunId>,
    /// Another user, whom main became: all of it runs as that, for it can become nobody else.
    main_became: Option<u32>,
    /// Main's process group.
    main_is_in: Option<Pid>,
    /// The same, once main has ended, as long as others of it live on.
    main_group: Option<Pid>,
    /// Main was told to stop (TSTP, STOP), so nobody resumes it unasked.
    main_may_rest: bool,
    terminal: Terminal,
    /// Whether it matters why main ended at its terminal.
    listens: bool,
    /// What the terminal sends main is heard by this.
    keyboard: Option<Keyboard>,
    reserve: Reserve,
    patience: launch::Patience,
    notify_socket: Option<String>,
    /// The same of coprocesses, by name.
    coprocess_sockets: BTreeMap<String, String>,
    /// And their last runs.
    coprocess_runs: BTreeMap<String, RunId>,
    /// Variables of the agent's own that another user doesn't get unasked.
    secrets: &'static [&'static str],
    printed_before: periodic::Before,
    /// Main and coprocesses, where it matters that they have ended although nobody can reap them.
    watched: Vec<held::Watched>,
    warnings: Vec<String>,
}

/// A child this agent started and hasn't reaped: main, or the keeper of a command.
struct Child {
    /// `None` when its start failed, which has been told.
    run: Option<RunId>,
    /// The process of a run that has a keeper.
    kept: Option<Kept>,
    /// While its exec takes long: what it will say if that fails, and what to say then.
    executing: Option<(LaunchReport, Exec)>,
    streams: Option<output::Alive>,
}

/// A process below a keeper.
#[derive(Clone, Copy)]
struct Kept {
    pid: Pid,
    /// It has ended. What it started lives on as long as the keeper does.
    ended: bool,
    /// One of those that it left is to be followed, and none could be yet: they seemed about to end, or who it named is
    /// another's child.
    sought: Option<Sought>,
}

/// Who is to be followed.
#[derive(Clone, Copy)]
struct Sought {
    /// Who was named.
    told: Option<ProcessId>,
    /// Nobody else will do.
    only: bool,
}

impl Processes {
    /// Takes charge of this process's children, and of its orphaned descendants: when it isn't PID 1 it becomes a
    /// subreaper (prctl(2) PR_SET_CHILD_SUBREAPER), unless its manner is another. The guard, where there is one, has been
    /// started.
    ///
    /// # Errors
    /// Becoming a subreaper failed.
    pub fn new(inherited: Inherited, guard: Option<Guard>, manner: Manner) -> io::Result<Processes> {
        let agent = std::process::id() as Pid;
        if agent != 1 && manner.subreaper {
            nix::sys::prctl::set_child_subreaper(true)?;
        }
        if manner.session {
            tty::detach();
        }
        Ok(Processes {
            inherited,
            agent,
            guard,
            children: BTreeMap::new(),
            words: None,
            manner,
            before: BTreeSet::new(),
            more: false,
            counting: None,
            main: None,
            main_became: None,
            main_is_in: None,
            main_group: None,
            main_may_rest: false,
            terminal: Terminal::new(),
            listens: false,
            keyboard: None,
            reserve: Reserve::none(),
            patience: launch::Patience::new(),
            notify_socket: None,
            coprocess_sockets: BTreeMap::new(),
            coprocess_runs: BTreeMap::new(),
            secrets: &[],
            printed_before: periodic::Before::default(),
            watched: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// From the next start on main finds this socket in NOTIFY_SOCKET, unless its own environment is configured to say
    /// otherwise.
    pub fn offer(&mut self, notify: &notify::Notify) {
        self.notify_socket = Some(notify.address().to_owned());
    }

    /// The same for a coprocess.
    pub fn offer_coprocess(&mut self, name: &str, notify: &notify::Notify) {
        self.coprocess_sockets.insert(name.to_owned(), notify.address().to_owned());
    }

    /// From the next start on it is told what the terminal sends main, and of ends that a tracer holds. Inside the runtime.
    pub fn listen(&mut self) {
        self.listens = true;
    }

    /// From now on a few descriptors are kept for what is to be started, whatever else is opened.
    pub fn keep_reserve(&mut self) {
        self.reserve = Reserve::new();
    }

    /// What pilotfish itself reads from these variables isn't handed to another user's main or hook from the next start on,
    /// unless its environment is configured to have it.
    pub fn keep_secret(&mut self, variables: &'static [&'static str]) {
        self.secrets = variables;
    }

    /// The guard kills everything at this time; `None`: never. Nothing where there is none. One that was not seen to
    /// look lately is let go, and doesn't stand any more.
    pub fn guard_until(&mut self, deadline: Option<Time>) -> Option<Event> {
        self.forget_group();
        let guard = self.guard.as_mut()?;
        match guard.until(deadline) {
            Attention::Paid => None,
            Attention::Silent(silence) => {
                guard.dismiss();
                let silence = silence.as_secs();
                self.warnings.push(format!("the guard hasn't run for {silence} s: a new one takes its place"));
                Some(Event::Guard { stands: false })
            }
        }
    }

    /// Whether anything hangs on who is in main's group, now that main has ended. The kernel looks at each member to say
    /// whether there is one, and a stop that ends thousands would ask as often.
    fn heeds_group(&self, group: Pid) -> bool {
        self.guard.is_some() || self.manner.last_word.is_some() || self.terminal.is_lent_to(group)
    }

    /// A group with nobody left in it isn't main's any more: its number may become another's.
    fn forget_group(&mut self) {
        if let Some(group) = self.main_group
            && !(group_lives(group) && Guard::is_mains(group))
        {
            self.main_group = None;
            // What main left may have had it.
            self.terminal.take_back();
            if let Some(guard) = &self.guard {
                guard.group_ended();
            }
        }
    }

    /// Whether a leader's time has ended since then.
    pub fn lease_ended_since(&self, decided: Time) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.deadline().passed_since(decided))
    }

    /// Starts another guard in place of one that has ended; whether it stands.
    pub fn start_guard(&mut self) -> Event {
        let stands = self.guard.as_mut().is_some_and(|guard| match guard.restart() {
            Ok(()) => true,
            Err(error) => {
                self.warnings.push(format!("the guard can't be started: {error}"));
                false
            }
        });
        Event::Guard { stands }
    }

    /// Sends a signal. Somebody who is gone already is no error.
    ///
    /// # Errors
    /// The kernel's refusal (EPERM); for strays without /proc, that they can't be found.
    pub fn kill(&mut self, target: Target, signal: Signal) -> io::Result<()> {
        match target {
            Target::Process(run) => {
                self.note_rest(run, signal);
                self.pid(run).map_or(Ok(()), |pid| kill::process(pid, signal.number()).result())
            }
            Target::Group(run) => {
                self.note_rest(run, signal);
                // A main that was followed may be in its launcher's.
                let group = self.pid(run).map(|pid| tree::group(pid).unwrap_or(pid));
                group.map_or(Ok(()), |group| kill::group(group, signal.number()).result())
            }
            Target::All(run) => {
                let of_run = self.children.iter().find(|(_, child)| child.run == Some(run));
                of_run.map_or(Ok(()), |(pid, child)| match child.kept {
                    Some(kept) => strays::signal_run(*pid, kept.pid, signal),
                    None => kill::process(*pid, signal.number()).result(),
                })
            }
            Target::Strays => strays::signal(&self.known(&self.kin()), signal),
        }
    }

    /// Whether a signal wouldn't end who it is for: its default action is another, or the process catches, ignores or
    /// blocks it, or waits for it (proc_pid_status(5)). What can't be known is believed to.
    pub fn survives(&self, target: Target, signal: Signal) -> bool {
        let (Target::Process(run) | Target::Group(run)) = target else { return true };
        let Some(pid) = self.pid(run) else { return true };
        !signal.terminates_by_default() || signals::withstands(pid, signal).unwrap_or(true)
    }

    /// Whether who a signal is for catches or ignores it. What can't be known isn't believed to.
    pub fn heeds(&self, target: Target, signal: Signal) -> bool {
        let (Target::Process(run) | Target::Group(run)) = target else { return false };
        self.pid(run).and_then(|pid| signals::heeds(pid, signal)).unwrap_or(false)
    }

    /// A main that was told to stop isn't resumed by us until it is told to go on.
    fn note_rest(&mut self, run: RunId, signal: Signal) {
        if self.main == Some(run) {
            match signal {
                Signal::TSTP | Signal::STOP => self.main_may_rest = true,
                Signal::CONT => self.main_may_rest = false,
                _ => {}
            }
        }
    }

    /// Goes to `/`, so that the agent's working directory holds no mount. Only for an agent that starts nothing and
    /// opens no relative path any more: children start where it is.
    pub fn leave_directory(&self) {
        // A root that can't be entered isn't worth a word.
        let _ = nix::unistd::chdir("/");
    }

    /// Stops this process, as a shell's job that was told to stop. PID 1 can't be.
    pub fn suspend(&self) {
        // Nothing is lost if it isn't: main has stopped.
        let _ = kill::process(self.agent, Signal::STOP.number()).result();
    }

    /// Sends what is left of main's process group, now that main has ended, a signal.
    pub fn end_group(&self, signal: Signal) {
        if let Some(group) = self.main_group {
            // Who is gone already is no error, and this is the last that is done.
            let _ = kill::group(group, signal.number()).result();
        }
    }

    /// What has gone wrong without failing anything; each is told once.
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Who speaks on main's notify socket. `is_keeper` is [`Processes::is_keeper`].
    pub fn main_speaks<'a>(&self, is_keeper: &'a dyn Fn(Pid) -> bool) -> Speaker<'a> {
        Speaker { pid: self.main.and_then(|run| self.pid(run)), origin: Some(Origin::Ours), is_keeper }
    }

    /// The same of a coprocess's.
    pub fn coprocess_speaks<'a>(&self, name: &str, is_keeper: &'a dyn Fn(Pid) -> bool) -> Speaker<'a> {
        let run = self.coprocess_runs.get(name).copied();
        let keeper =
            self.children.iter().find(|(_, child)| run.is_some() && child.run == run).map(|(keeper, _)| *keeper);
        Speaker { pid: run.and_then(|run| self.pid(run)), origin: keeper.map(Origin::Run), is_keeper }
    }

    /// Whether this is the keeper of a run, of which something is left.
    pub fn is_keeper(&self, pid: Pid) -> bool {
        self.children.get(&pid).is_some_and(|child| child.kept.is_some())
    }

    /// All of them.
    pub fn keepers(&self) -> BTreeSet<Pid> {
        self.children.iter().filter(|(_, child)| child.kept.is_some()).map(|(pid, _)| *pid).collect()
    }

    /// The process of a run, until it has ended.
    fn pid(&self, run: RunId) -> Option<Pid> {
        let (pid, child) = self.children.iter().find(|(_, child)| child.run == Some(run))?;
        child.kept.map_or(Some(*pid), |kept| (!kept.ended).then_some(kept.pid))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.terminal.give_back();
    }
}

/// Whether orphans come to this process: it is PID 1, or a subreaper, be it that who started it made it one.
#[allow(unsafe_code)]
pub fn adopts_orphans() -> bool {
    let mut subreaper: libc::c_int = 0;
    // SAFETY: a valid place for the answer.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut subreaper) };
    std::process::id() == 1 || subreaper != 0
}

/// Whether a process group has any member, be it one that we may not signal.
fn group_lives(group: Pid) -> bool {
    kill::group(group, 0) != kill::Sent::Nobody
}
