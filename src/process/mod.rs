//! Linux: spawns, reaps, signals; owns every child. It decides nothing.
//!
//! - [`signals`]: what the agent was given, and all signals that come to it.
//! - [`guard`]: a second process, that kills when a leader's time is over.
//! - `reaper`: the agent's only waitpid. `keeper`: a process between the agent and a hook or check, by which it is known
//!   what is of that run, and when nothing is. `strays`: signals for many: what main left behind, or all of a run.
//!   `tree`: who descends from whom. `apart`: how keepers and the guard live beside the agent.
//! - `command`, `launch`: from a config to a running program. `environment`, `users`, `limits`, `stdio`: what it gets.
//!   `reserve`: room for one more.
//! - [`memory`]: what the start needed and the rest does not.
//! - `pause`: an init without a main.
//! - `output`: what hooks print and read; `periodic`: of those that run again and again, what is news. [`notify`]: what main
//!   says by sd_notify, `senders`: who may. `tty`: the terminal. `keyboard`: what it sends main.

mod apart;
mod child;
mod command;
mod descriptors;
mod environment;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod guard;
mod keeper;
mod keyboard;
mod kill;
mod launch;
pub mod limits;
pub mod memory;
pub mod notify;
mod output;
mod pause;
mod periodic;
mod reaper;
mod reserve;
mod senders;
pub mod signals;
mod stdio;
mod strays;
mod tree;
mod tty;
pub mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config::{self, Exec, FailedStart, Limits, Manner, RunAs, Signal};
use crate::exit_codes::{CANT_RUN, FAILED, NOT_FOUND};
use crate::sabotage;
use crate::supervisor::vocabulary::{ExitStatus, Job, MOST_PRINTED, Pid, RunId, Secrets, SpawnError, Target};
use crate::supervisor::{Event, Time};

pub use pause::pause;

use command::{About, Command};
use environment::{BadValue, Environment};
use guard::{Attention, Ended, Guard};
use keeper::{ReportPipe, Word};
use keyboard::Keyboard;
use launch::{Launch, LaunchReport, Progress};
use reaper::{Change, Next, Which};
use reserve::Reserve;
use signals::Inherited;
use tree::ProcessId;
use tty::Terminal;

/// What sd_listen_fds(3), sd_watchdog_enabled(3) and sd_notify(3) read: meant for main, never for hooks.
const FOR_MAIN_ALONE: [&str; 6] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC", notify::VARIABLE];
/// Which of them name the process they are meant for: where they name the agent, they are to name main.
const NAMING_A_PROCESS: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];

/// A hook, check or coprocess to start.
pub struct Order<'a> {
    /// What it is for.
    pub job: &'a Job,
    /// Program and arguments.
    pub exec: &'a Exec,
    /// As whom.
    pub run_as: &'a RunAs,
    /// Its resource limits and umask.
    pub limits: &'a Limits,
    /// Its working directory; `None` keeps the agent's.
    pub directory: Option<&'a Path>,
    /// Its output goes where the agent's does, and not into the log.
    pub raw: bool,
    /// What it leaves behind may be it from then on, and is heard as long as it lives.
    pub follows: bool,
    /// It runs for the leader only, and ends with its time.
    pub leads: bool,
    /// A descriptor of the agent's own that it gets too: a lock that must last as long as anything of it lives.
    pub keep: Option<BorrowedFd<'a>>,
}

impl<'a> Order<'a> {
    /// A hook or check, which starts where the agent is and is heard in the log.
    pub fn hook(job: &'a Job, exec: &'a Exec, run_as: &'a RunAs, limits: &'a Limits) -> Order<'a> {
        Order { job, exec, run_as, limits, directory: None, raw: false, follows: false, leads: false, keep: None }
    }
}

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
    notify_socket: Option<String>,
    /// The same of coprocesses, by name.
    coprocess_sockets: BTreeMap<String, String>,
    /// And their last runs.
    coprocess_runs: BTreeMap<String, RunId>,
    /// Variables of the agent's own that another user doesn't get unasked.
    secrets: &'static [&'static str],
    printed_before: periodic::Before,
    warnings: Vec<String>,
}

/// A child this agent started and hasn't reaped: main, or the keeper of a hook or check.
struct Child {
    /// `None` when its start failed, which has been told.
    run: Option<RunId>,
    /// The process of a run that has a keeper.
    kept: Option<Kept>,
    /// While its exec takes long: what it will say if that fails, and what to say then.
    executing: Option<(LaunchReport, Exec)>,
    streams: Option<output::Alive>,
    /// Its streams are followed as long as anything of it lives.
    follows: bool,
}

/// A process below a keeper.
#[derive(Clone, Copy)]
struct Kept {
    pid: Pid,
    /// It has ended. What it started lives on as long as the keeper does.
    ended: bool,
}

/// Some strays are left. That none is any more the kernel says by itself, unless something that was there before main
/// is our child as well; then it takes reading all of /proc, which is worth it once as many were reaped as were our own
/// children at the last reading.
struct Count {
    reaped: usize,
    read_again_at: usize,
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
            main_is_in: None,
            main_group: None,
            main_may_rest: false,
            terminal: Terminal::new(),
            listens: false,
            keyboard: None,
            reserve: Reserve::none(),
            notify_socket: None,
            coprocess_sockets: BTreeMap::new(),
            coprocess_runs: BTreeMap::new(),
            secrets: &[],
            printed_before: periodic::Before::default(),
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

    /// From the next start on it is told what the terminal sends main.
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

    /// Starts main with what the agent was given (standard descriptors, every other inherited one, signal mask) and
    /// the terminal's foreground where the agent has it. Answers `Spawned` or `SpawnFailed`.
    ///
    /// `env` is set last, over the configured variables. `files` is what [`read_files`] read. `keep` is a descriptor of the agent's own that main gets too: a lock that must last as long as
    /// main and its descendants do.
    pub fn spawn_main(
        &mut self,
        run: RunId,
        process: &config::Process,
        files: &Secrets,
        env: &[(String, String)],
        keep: Option<BorrowedFd<'_>>,
    ) -> Event {
        self.remember_what_is_there();
        self.reserve.lend();
        let event = self.start_main(run, process, files, env, keep);
        self.reserve.refill();
        match event {
            // tini's fork is what fails, and ends with the code; so -e counts for it, too.
            Event::SpawnFailed { run, error } if self.manner.failed_start == FailedStart::AsTini => {
                let code = process.exit_codes.get(&error.code).copied().unwrap_or(error.code);
                Event::SpawnFailed { run, error: SpawnError { code, ..error } }
            }
            event => event,
        }
    }

    fn start_main(
        &mut self,
        run: RunId,
        process: &config::Process,
        files: &Secrets,
        env: &[(String, String)],
        keep: Option<BorrowedFd<'_>>,
    ) -> Event {
        match self.main_launch(process, files, env) {
            Err(error) => {
                let code = self.failed_code(error.code, None);
                Event::SpawnFailed { run, error: SpawnError { code, ..error } }
            }
            Ok(launch) => {
                let launch = Launch { keep: keep.map(|keep| keep.as_raw_fd()), ..launch };
                let lends = launch.foreground;
                let directory = process.directory.as_deref();
                let event = self.start(run, &process.exec, process.user.as_deref(), directory, launch, None);
                if let Event::Spawned { pid, .. } = event {
                    self.main = Some(run);
                    self.main_is_in = Some(pid);
                    self.main_group = None;
                    self.main_may_rest = false;
                    if let Some(guard) = &self.guard {
                        guard.main_runs(pid, pid);
                    }
                    if lends {
                        self.terminal.lent(pid);
                    }
                }
                event
            }
        }
    }

    /// What the terminal sends main is heard by this, or can't be.
    fn hears(&mut self, keyboard: io::Result<Keyboard>) {
        match keyboard {
            Ok(keyboard) => self.keyboard = Some(keyboard),
            Err(error) => self.warnings.push(format!(
                "what the terminal sends main can't be known ({error}): after Ctrl-C it is restarted as after a crash"
            )),
        }
    }

    fn main_launch(
        &mut self,
        process: &config::Process,
        files: &Secrets,
        env: &[(String, String)],
    ) -> Result<Launch, SpawnError> {
        let exec = &process.exec;
        let bad_variable = |error| command::bad_variable(exec, &error);
        let mut environment = Environment::own();
        if let Some(socket) = &self.notify_socket {
            environment.set(notify::VARIABLE, socket.as_bytes()).map_err(bad_variable)?;
        }
        for (name, value) in &process.env {
            environment.set(name, value.as_bytes()).map_err(bad_variable)?;
        }
        for (name, value) in &files.0 {
            environment.set(name, value).map_err(bad_variable)?;
        }
        self.told(environment.set_known(env), exec);
        let configured = |name: &str| process.env.contains_key(name) || process.env_from_files.contains_key(name);
        let user = process.user.as_deref();
        let command = command::prepare(exec, user, &process.limits, environment, self.secrets, configured)?;
        let ours = self.agent.to_string();
        let names_the_agent = |name: &&str| command.environment.get(name).is_some_and(|pid| *pid == *ours.as_str());
        let own_pid = NAMING_A_PROCESS.into_iter().filter(names_the_agent);
        let foreground = !self.manner.session && self.terminal.may_lend();
        let own_pid = own_pid.filter_map(|name| Some((command.environment.position(name)?, name))).collect();
        Ok(Launch {
            own_pid,
            directory: process.directory.as_deref().and_then(c_path),
            foreground,
            heard: foreground && self.listens,
            session: self.manner.session,
            ..self.launch(command)
        })
    }

    /// Starts a hook, check or coprocess: below a keeper, in a process group of its own, with `stdin` or nothing to read,
    /// its output captured line by line into the log unless it is raw, and no descriptor but `keep`. Of [`Job::Rank`] and
    /// [`Job::Sensor`] standard output is not logged but told, before its end. Answers `Spawned` or `SpawnFailed`. Call it
    /// inside the runtime.
    pub fn spawn(
        &mut self,
        run: RunId,
        order: Order<'_>,
        files: &Secrets,
        env: &[(String, String)],
        stdin: Option<String>,
    ) -> Event {
        if let Job::Coprocess { name } = order.job {
            self.coprocess_runs.insert(name.clone(), run);
        }
        self.reserve.lend();
        let event = match self.hook_launch(&order, files, env, stdin) {
            Err(error) => Event::SpawnFailed { run, error },
            Ok((launch, alive)) => {
                let user = order.run_as.user.as_deref();
                let event =
                    self.start(run, order.exec, user, order.directory, launch, Some(alive).filter(|_| !order.raw));
                if let Some((keeper, child)) = self.children.iter_mut().find(|(_, child)| child.run == Some(run)) {
                    child.follows = order.follows;
                    if let Some(guard) = self.guard.as_ref().filter(|_| order.leads) {
                        // The config has no more than there is room for.
                        let _ = guard.leads_beside(*keeper);
                    }
                }
                event
            }
        };
        self.reserve.refill();
        event
    }

    /// Of variables that were left out.
    fn told(&mut self, left_out: Vec<BadValue>, exec: &Exec) {
        let program = exec.first().map(|program| program.display().to_string()).unwrap_or_default();
        self.warnings.extend(left_out.iter().map(|bad| format!("`{program}` is started without a variable: {bad}")));
    }

    fn hook_launch(
        &mut self,
        order: &Order<'_>,
        files: &Secrets,
        env: &[(String, String)],
        stdin: Option<String>,
    ) -> Result<(Launch, output::Alive), SpawnError> {
        let Order { job, exec, run_as, limits, directory, raw, follows: _, leads: _, keep } = *order;
        let mut environment = Environment::own();
        FOR_MAIN_ALONE.iter().for_each(|name| environment.remove(name));
        let bad_variable = |error| command::bad_variable(exec, &error);
        if let Job::Coprocess { name } = job
            && let Some(socket) = self.coprocess_sockets.get(name)
        {
            environment.set(notify::VARIABLE, socket.as_bytes()).map_err(bad_variable)?;
        }
        for (name, value) in &run_as.env {
            environment.set(name, value.as_bytes()).map_err(bad_variable)?;
        }
        for (name, value) in &files.0 {
            environment.set(name, value).map_err(bad_variable)?;
        }
        self.told(environment.set_known(env), exec);
        let configured = |name: &str| run_as.env.contains_key(name) || run_as.env_from_files.contains_key(name);
        let user = run_as.user.as_deref();
        let command = command::prepare(exec, user, limits, environment, self.secrets, configured)?;
        let (stdio, alive) = hook_stdio(job, stdin, raw).map_err(|error| command::no_process(exec, &error))?;
        let words = match &self.words {
            Some(words) => words.writer(),
            None => self.words.insert(ReportPipe::new().map_err(|error| command::no_process(exec, &error))?).writer(),
        };
        let launch = Launch {
            stdio: Some(stdio),
            withhold: Some(descriptors::withhold()),
            keep: keep.map(|keep| keep.as_raw_fd()),
            directory: directory.and_then(c_path),
            // One whose keeper is killed has nobody who would tell of its end.
            dies_with_us: true,
            keeper: Some(words),
            ..self.launch(command)
        };
        Ok((launch, alive))
    }

    fn launch(&self, command: Command) -> Launch {
        Launch {
            argv: command.argv,
            candidates: command.candidates,
            envp: command.environment.entries().to_vec(),
            own_pid: Vec::new(),
            directory: None,
            umask: command.umask,
            limits: command.limits,
            identity: command.identity,
            without_capabilities: command.without_capabilities,
            stdio: None,
            withhold: None,
            keep: None,
            foreground: false,
            heard: false,
            session: false,
            // PID 1's children die with it anyway; a subreaper's must not outlive it.
            dies_with_us: self.agent != 1,
            keeper: None,
            deadline: self.guard.as_ref().map(Guard::deadline),
            inherited: self.inherited,
        }
    }

    fn start(
        &mut self,
        run: RunId,
        exec: &Exec,
        user: Option<&str>,
        directory: Option<&Path>,
        launch: Launch,
        alive: Option<output::Alive>,
    ) -> Event {
        let candidates = launch.candidates.clone();
        let limits: Vec<&str> = launch.limits.iter().map(|(name, ..)| *name).collect();
        // What isn't heard and isn't main's is lent: main, perhaps another user's, must be able to open it by name.
        let lent = launch.stdio.is_some() && alive.is_none();
        if let Some(ids) = launch.identity.as_ref().filter(|_| !lent) {
            stdio::give(launch.stdio.as_ref(), ids.uid, self.agent == 1);
        }
        let started = match launch::launch(launch) {
            Ok(started) => started,
            Err(error) => {
                let error = command::no_process(exec, &error);
                let code = self.failed_code(error.code, None);
                return Event::SpawnFailed { run, error: SpawnError { code, ..error } };
            }
        };
        let pid = started.pid;
        let kept = (started.child != pid).then_some(Kept { pid, ended: false });
        let mut child = Child { run: Some(run), kept, executing: None, streams: alive, follows: false };
        match (&started.progress, started.keyboard) {
            (Progress::Failed(_), Some(Ok(keyboard))) => drop(keyboard.end()),
            (_, Some(keyboard)) => self.hears(keyboard),
            (_, None) => {}
        }
        let event = match started.progress {
            Progress::Running => Event::Spawned { run, pid },
            Progress::Failed(failure) => {
                child = Child { run: None, kept, executing: None, streams: None, follows: false };
                let directory = directory.unwrap_or(Path::new("."));
                let about = About { candidates: &candidates, limits: &limits, directory, user };
                let error = command::failed(exec, failure, &about);
                let code = self.failed_code(error.code, Some(failure.errno));
                Event::SpawnFailed { run, error: SpawnError { code, ..error } }
            }
            Progress::Executing(report) => {
                let program = exec.first().map(|program| program.display().to_string()).unwrap_or_default();
                self.warnings.push(format!("`{program}` takes more than a second to be executed (slow storage?)"));
                child.executing = Some((report, exec.clone()));
                Event::Spawned { run, pid }
            }
        };
        if child.run.is_some() {
            self.check_reach(pid, exec);
        }
        self.children.insert(started.child, child);
        event
    }

    /// Root without CAP_KILL may not signal another user's process: better said now than found out at the stop.
    fn check_reach(&mut self, pid: Pid, exec: &Exec) {
        if kill::process(pid, 0) == kill::Sent::Refused {
            let program = exec.first().map(|program| program.display().to_string()).unwrap_or_default();
            self.warnings.push(format!(
                "`{program}` (process {pid}) can't be signalled: it runs as another user and the agent lacks CAP_KILL, so it can't be stopped but by the container's end"
            ));
        }
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
                self.warnings.push(format!("the guard has not been awake for {silence} s: another takes its place"));
                Some(Event::Guard { stands: false })
            }
        }
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

    /// Whether a signal wouldn't end who it is for: its default action is another, or the process catches or ignores
    /// it (proc_pid_status(5), SigCgt and SigIgn). What can't be known is believed to.
    pub fn survives(&self, target: Target, signal: Signal) -> bool {
        let (Target::Process(run) | Target::Group(run)) = target else { return true };
        let Some(pid) = self.pid(run) else { return true };
        !signal.terminates_by_default() || signals::heeds(pid, signal).unwrap_or(true)
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

    /// Whether, and how many, processes that main left behind are alive. When some are, [`Processes::reap`] tells it when
    /// none is any more. Where /proc shows none, as they end just now, nothing is answered but by that. Without /proc
    /// `left` is 0 or 1.
    pub fn count_strays(&mut self) -> Option<Event> {
        self.counting = None;
        let left = match reaper::any_other() {
            false => 0,
            true => self.find_strays(),
        };
        if left == 0 && reaper::any_other() && self.before.is_empty() {
            self.counting = Some(Count { reaped: 0, read_again_at: 1 });
            return None;
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

    /// Takes one of those that main left behind, and that are our own children, for main: so its end is reaped by us.
    /// Nothing is answered while all of them are about to end, or when main already is who it is to be.
    pub fn follow_stray(&mut self, run: RunId, told: Option<Pid>) -> Option<Event> {
        let kin = self.kin();
        let Some(strays) = strays::find(&self.known(&kin)) else { return Some(Event::Followed { run, pid: None }) };
        let own = || strays.iter().filter(|stray| stray.parent == self.agent);
        let main = own().find(|stray| Some(stray.pid) == told);
        let main = match self.pid(run) {
            Some(_) => main,
            // What a launcher forked first, and in a session of its own, is most often the daemon itself.
            None => main.or_else(|| own().min_by_key(|stray| (stray.session != stray.pid, stray.started, stray.pid))),
        }?;
        let (pid, group) = (main.pid, main.group);
        self.counting = None;
        self.children.retain(|_, child| child.run != Some(run));
        self.children.insert(pid, Child { run: Some(run), kept: None, executing: None, streams: None, follows: false });
        self.main = Some(run);
        self.main_is_in = Some(group);
        self.main_group = None;
        if let Some(guard) = &self.guard {
            guard.main_runs(pid, group);
        }
        if self.listens && self.terminal.is_lent_to(group) {
            self.hears(Keyboard::start(group));
        }
        Some(Event::Followed { run, pid: Some(pid) })
    }

    /// Whether [`reap`](Self::reap) has left something for another turn.
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// Takes from the kernel what has become of children: all, or as much as one turn allows. Call it at each SIGCHLD.
    pub fn reap(&mut self) -> Vec<Event> {
        // What just ended has given its descriptors back.
        self.reserve.refill();
        let mut events = self.hear_keyboard();
        let (mut strangers, mut last_stray) = (0, None);
        let mut turn = 0..reaper::MOST_IN_A_TURN;
        self.more = false;
        let nobody_else = loop {
            if turn.next().is_none() {
                self.more = true;
                break false;
            }
            match reaper::next(Which::Others) {
                Next::Changed(pid, Change::Ended(status)) => match self.children.remove(&pid) {
                    Some(child) => {
                        self.main_group = child.run.and(self.main_is_in).or(self.main_group);
                        events.extend(self.ended(child, status));
                    }
                    None => {
                        strangers += 1;
                        if self.manner.tells_reaped {
                            self.warnings.push(format!("Reaped zombie process with pid={pid}"));
                        }
                        last_stray = Some(status).filter(|_| self.main_has_ended());
                    }
                },
                Next::Changed(pid, Change::Stopped(signal)) => self.stopped(pid, signal),
                Next::Quiet => break false,
                Next::Nobody => break true,
            }
        };
        while let Next::Changed(pid, change) = reaper::next(Which::Kin) {
            let status = match change {
                Change::Ended(status) => status,
                Change::Stopped(signal) => {
                    self.stopped(pid, signal);
                    continue;
                }
            };
            match self.guard.as_mut().map_or(Ended::Other, |guard| guard.ended(pid)) {
                Ended::Standing => events.push(Event::Guard { stands: false }),
                Ended::Dismissed => {}
                Ended::Other if self.keyboard.as_ref().is_some_and(|keyboard| keyboard.pid() == pid) => {
                    // It was killed. Its number may soon be another's.
                    events.extend(self.hear_keyboard());
                    self.keyboard = None;
                }
                Ended::Other => {
                    // It has said all it had to say, and that may not have been heard yet.
                    self.hear_keepers(&mut events);
                    if let Some(guard) = &self.guard {
                        guard.leads_no_more(pid);
                    }
                    if let Some(child) = self.children.remove(&pid) {
                        self.keeper_ended(child, status, &mut events);
                    }
                }
            }
        }
        self.hear_keepers(&mut events);
        self.forget_group();
        events.extend(last_stray.map(|status| Event::StrayEnded { status }));
        events.extend(self.recount(strangers, nobody_else));
        events
    }

    /// What the terminal has sent main.
    fn hear_keyboard(&mut self) -> Vec<Event> {
        let (Some(run), Some(keyboard)) = (self.main, &mut self.keyboard) else { return Vec::new() };
        std::iter::from_fn(|| keyboard.next()).map(|signal| Event::FromTerminal { run, signal }).collect()
    }

    /// What keepers say: that the process of a run has ended, and whether something is left of it.
    fn hear_keepers(&mut self, events: &mut Vec<Event>) {
        while let Some(Word { keeper, status, left }) = self.words.as_mut().and_then(ReportPipe::next) {
            if let Some(child) = self.children.get_mut(&keeper)
                && let Some(kept) = &mut child.kept
                && !std::mem::replace(&mut kept.ended, true)
                && let Some(status) = reaper::end(status)
            {
                let run = child.run;
                let streams = child.streams.take_if(|_| !(left && child.follows));
                let executing = child.executing.take();
                let ended = Child { run, kept: None, executing, streams, follows: false };
                events.extend(self.ended(ended, status));
                // Sabotaged, what it left is passed over.
                let any = !sabotage::is_on("leftovers");
                events.extend(run.filter(|_| left).map(|run| Event::RunLeft { run, any }));
            }
        }
    }

    /// Nothing is left of a run: its keeper has ended.
    fn keeper_ended(&mut self, child: Child, status: ExitStatus, events: &mut Vec<Event>) {
        let Some(run) = child.run else { return };
        if let ExitStatus::Killed(_) = status {
            self.warnings.push(format!(
                "a hook's or check's keeper {status}: what that had started can't be told from what main leaves any more, and ends with it"
            ));
            events.push(Event::RunLost { run });
        }
        if child.kept.is_some_and(|kept| !kept.ended) {
            // It was killed, and its run's process with it.
            events.extend(self.ended(child, status));
        } else {
            // Who was followed was heard until now.
            drop(child.streams.map(output::Alive::end));
        }
        events.push(Event::RunLeft { run, any: false });
    }

    fn ended(&mut self, child: Child, status: ExitStatus) -> Vec<Event> {
        let Some(run) = child.run else { return Vec::new() };
        let printed = child.streams.map(output::Alive::end);
        let (captured, gathered) = printed.map_or((None, None), |printed| (printed.captured, printed.gathered));
        if let Some((hook, gathered)) = gathered {
            for (stream, text) in self.printed_before.ended(&hook, gathered, status, tokio::time::Instant::now()) {
                tracing::info!(target: "hook", hook = %hook, stream, "{text}");
            }
        }
        let printed = captured.map(|text| Event::Printed { run, text });
        if let Some((report, exec)) = child.executing
            && let Some(failure) = report.failure()
        {
            let about = About { candidates: &[], limits: &[], directory: Path::new("."), user: None };
            self.warnings.push(command::failed(&exec, failure, &about).message);
        }
        let mut from_terminal = Vec::new();
        if self.main == Some(run) {
            from_terminal = self.keyboard.take().map(Keyboard::end).unwrap_or_default();
            self.terminal.take_back();
            if let Some(guard) = &self.guard {
                guard.main_ended();
            }
        }
        let from_terminal = from_terminal.into_iter().map(|signal| Event::FromTerminal { run, signal });
        printed.into_iter().chain(from_terminal).chain([Event::Exited { run, status }]).collect()
    }

    fn stopped(&mut self, pid: Pid, signal: Signal) {
        if let Some(guard) = self.guard.as_ref().filter(|guard| guard.pid() == Some(pid)) {
            let resumed =
                guard.resume().map_or_else(|error| format!("can't be resumed: {error}"), |()| "is resumed".to_owned());
            return self.warnings.push(format!("the guard was stopped by {signal}, and {resumed}"));
        }
        if self.keyboard.as_ref().is_some_and(|keyboard| keyboard.pid() == pid) {
            // With all of main's group; it must hear on.
            let _ = kill::process(pid, Signal::CONT.number()).result();
            return;
        }
        if self.children.get(&pid).is_some_and(|child| child.kept.is_some()) {
            // Nobody means to stop a keeper, and its run's end would never be told.
            if let Err(error) = kill::process(pid, Signal::CONT.number()).result() {
                self.warnings.push(format!("a hook's keeper was stopped by {signal} and can't be resumed: {error}"));
            }
            return;
        }
        let from_terminal = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signal.number());
        let is_main = self.children.get(&pid).is_some_and(|child| child.run.is_some() && child.run == self.main);
        if is_main
            && from_terminal
            && !self.main_may_rest
            && let Err(error) = self.terminal.main_stopped(pid, signal)
        {
            self.warnings.push(format!("main was stopped by {signal} and can't be resumed: {error}"));
        }
    }

    fn recount(&mut self, strangers: usize, nobody_else: bool) -> Option<Event> {
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
            true => self.count_strays(),
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

    /// The code for a start that failed, as the one this is called by has it.
    fn failed_code(&self, code: u8, errno: Option<nix::errno::Errno>) -> u8 {
        match (self.manner.failed_start, code, errno) {
            (FailedStart::AsShells, code, _) => code,
            (FailedStart::Always(code), ..) => code,
            // An empty name isn't even tried.
            (FailedStart::AsTini, NOT_FOUND, None | Some(nix::errno::Errno::ENOENT)) => NOT_FOUND,
            (FailedStart::AsTini, _, Some(nix::errno::Errno::EACCES)) => CANT_RUN,
            (FailedStart::AsTini, ..) => FAILED,
        }
    }

    /// What has gone wrong without failing anything; each is told once.
    pub fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn remember_what_is_there(&mut self) {
        // Most often there is no child yet, which one system call tells.
        self.before = match reaper::any_other() {
            true => strays::descendants(self.agent).unwrap_or_default(),
            false => BTreeSet::new(),
        };
    }

    fn main_has_ended(&self) -> bool {
        self.main.is_some_and(|main| self.pid(main).is_none())
    }

    /// Main's process id while it runs.
    pub fn main_pid(&self) -> Option<Pid> {
        self.pid(self.main?)
    }

    /// The process id of a coprocess that speaks while it runs.
    pub fn coprocess_pid(&self, name: &str) -> Option<Pid> {
        self.pid(*self.coprocess_runs.get(name)?)
    }

    /// The process of a run, until it has ended.
    fn pid(&self, run: RunId) -> Option<Pid> {
        let (pid, child) = self.children.iter().find(|(_, child)| child.run == Some(run))?;
        child.kept.map_or(Some(*pid), |kept| (!kept.ended).then_some(kept.pid))
    }

    /// Below whom, or who, is no stray. The guard, which may be younger than main, isn't either.
    fn kin(&self) -> BTreeSet<Pid> {
        let guards = self.guard.iter().flat_map(Guard::pids);
        let keyboard = self.keyboard.as_ref().map(Keyboard::pid);
        self.children.keys().copied().chain(guards).chain(keyboard).collect()
    }

    fn known<'a>(&'a self, kin: &'a BTreeSet<Pid>) -> strays::Known<'a> {
        strays::Known { agent: self.agent, kin, before: &self.before }
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

/// From now on this process gets this signal when its parent ends. Its only thread calls it.
#[allow(unsafe_code)]
/// From now on this process gets a signal when its parent ends (prctl(2) PR_SET_PDEATHSIG).
///
/// # Errors
/// The kernel refuses.
pub fn hear_of_parents_end(signal: Signal) -> io::Result<()> {
    // SAFETY: takes a number.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal.number() as libc::c_ulong) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Reads the files of `env_from_files`. Their storage may hang.
///
/// # Errors
/// Code 126: one can't be read.
pub fn read_files(process: &config::Process) -> Result<Secrets, SpawnError> {
    read_values(&process.exec, &process.env_from_files)
}

/// The same of a hook or check.
///
/// # Errors
/// The same.
pub fn read_hook_files(exec: &Exec, run_as: &RunAs) -> Result<Secrets, SpawnError> {
    read_values(exec, &run_as.env_from_files)
}

fn read_values(exec: &Exec, files: &BTreeMap<String, PathBuf>) -> Result<Secrets, SpawnError> {
    let read = |(name, file): (&String, &PathBuf)| Ok((name.clone(), command::read_value(exec, name, file)?));
    files.iter().map(read).collect::<Result<_, _>>().map(Secrets)
}

/// Whether a process group has any member, be it one that we may not signal.
fn group_lives(group: Pid) -> bool {
    kill::group(group, 0) != kill::Sent::Nobody
}

fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

/// Of what a rank prints this much is kept: a number, and what can be shown of anything else.
const MOST_OF_A_RANK: usize = 4096;

/// A hook's three descriptors, whose other ends are written and read by tasks; its output may be the agent's own.
fn hook_stdio(job: &Job, stdin: Option<String>, raw: bool) -> io::Result<([OwnedFd; 3], output::Alive)> {
    let mut alive = output::Alive::new();
    let input = match stdin {
        None => descriptors::nothing_to_read()?,
        Some(text) => {
            let (reader, writer) = descriptors::pipe()?;
            output::feed(writer, text, alive.ended())?;
            reader
        }
    };
    if raw {
        let own = [own_output(libc::STDOUT_FILENO)?, own_output(libc::STDERR_FILENO)?];
        let [stdout, stderr] = own;
        return Ok(([input, stdout, stderr], alive));
    }
    let mut captured = |stream: &'static str| -> io::Result<OwnedFd> {
        let (reader, writer) = descriptors::pipe()?;
        match (job, stream) {
            (Job::Rank, "stdout") => alive.capture(reader, MOST_OF_A_RANK)?,
            (Job::Sensor { .. }, "stdout") => alive.capture(reader, MOST_PRINTED)?,
            (
                Job::Rank
                | Job::Sensor { .. }
                | Job::Health { .. }
                | Job::TemplateCheck { .. }
                | Job::CoprocessReady { .. },
                _,
            ) => alive.gather(reader, name(job), stream)?,
            _ => alive.follow(reader, name(job), stream)?,
        }
        Ok(writer)
    };
    Ok(([input, captured("stdout")?, captured("stderr")?], alive))
}

/// One of the agent's own; nothing at all where that was closed.
#[allow(unsafe_code)]
fn own_output(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes a number; a closed one is refused, and what is given is new and ours.
    match unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3) } {
        -1 => descriptors::nothing_to_read(),
        new => Ok(unsafe { OwnedFd::from_raw_fd(new) }),
    }
}

/// A hook's name in the log, as it stands in a config.
fn name(job: &Job) -> String {
    match job {
        Job::Main => "main".to_owned(),
        Job::OnChange { watch } => format!("watch {watch} on_change"),
        Job::TemplateCheck { watch } => format!("watch {watch} check"),
        Job::Health { check } => format!("health {check}"),
        Job::Coprocess { name } => name.clone(),
        Job::CoprocessPreStart { name } => format!("{name} pre_start"),
        Job::CoprocessPostStop { name } => format!("{name} post_stop"),
        Job::CoprocessReady { name } => format!("{name} ready"),
        Job::PreStart { .. }
        | Job::PostStart
        | Job::PreStop
        | Job::PostStop
        | Job::OnPromote
        | Job::OnDemote
        | Job::OnLeaderChange
        | Job::Rank
        | Job::Task { .. }
        | Job::Sensor { .. } => job.to_string(),
    }
}
