//! Starts: of main with what the agent was given, of everything else below a keeper and heard in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use crate::config::{self, Exec, FailedStart, Limits, RunAs};
use crate::exit_codes::{CANT_RUN, FAILED, NOT_FOUND};
use crate::files::Way;
use crate::supervisor::Event;
use crate::supervisor::vocabulary::{Job, MOST_PRINTED, Pid, RunId, Secrets, SpawnError};

use super::child::Launch;
use super::command::{self, About, Command};
use super::environment::Environment;
use super::guard::Guard;
use super::keeper::{ReportPipe, Telling};
use super::keyboard::Keyboard;
use super::launch::{self, Progress};
use super::{Child, Kept, Processes, descriptors, kill, notify, output, reaper, stdio, strays};

/// What sd_listen_fds(3), sd_watchdog_enabled(3) and sd_notify(3) read: meant for main, never for hooks.
const FOR_MAIN_ALONE: [&str; 6] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC", notify::VARIABLE];
/// Which of them name the process they are meant for: where they name the agent, they are to name main.
const NAMING_A_PROCESS: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];

/// A command to start.
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

impl Processes {
    /// Starts main with what the agent was given (standard descriptors, every other inherited one, signal mask) and
    /// the terminal's foreground where the agent has it. Answers `Spawned` or `SpawnFailed`.
    ///
    /// `env` is set last, over the configured variables. `files` is what [`read_files`] read. `keep` is a descriptor of
    /// the agent's own that main gets too: a lock that must last as long as main and its descendants do.
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
        self.watch(run);
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
                let became = launch.identity.as_ref().map(|ids| ids.uid).filter(|_| launch.without_capabilities);
                let directory = process.directory.as_deref();
                let event = self.start(run, &process.exec, process.user.as_deref(), directory, launch, None);
                if let Event::Spawned { pid, .. } = event {
                    self.main = Some(run);
                    self.main_became = became;
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

    fn remember_what_is_there(&mut self) {
        // Most often there is no child yet, which one system call tells.
        self.before = match reaper::any_other() {
            true => strays::descendants(self.agent).unwrap_or_default(),
            false => BTreeSet::new(),
        };
    }

    /// What the terminal sends main is heard by this, or can't be.
    pub(super) fn hears(&mut self, keyboard: io::Result<Keyboard>) {
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
        self.set(&mut environment, exec, (&process.env, files, env))?;
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
            directory: process.directory.as_deref().and_then(Way::to),
            foreground,
            heard: foreground && self.listens,
            session: self.manner.session,
            ..self.launch(command)
        })
    }

    /// Starts a command: below a keeper, in a process group of its own, with `stdin` or nothing to read,
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
                let mut children = self.children.iter();
                if let Some(guard) = self.guard.as_ref().filter(|_| order.leads)
                    && let Some((keeper, _)) = children.find(|(_, child)| child.run == Some(run))
                {
                    // The config has no more than there is room for.
                    let _ = guard.leads_beside(*keeper);
                }
                event
            }
        };
        if let Job::Coprocess { .. } = order.job {
            self.watch(run);
        }
        self.reserve.refill();
        event
    }

    /// Sets variables: those of the config, those from files, and those that the core knows, of which some may be left out.
    fn set(
        &mut self,
        environment: &mut Environment,
        exec: &Exec,
        (configured, files, known): (&BTreeMap<String, String>, &Secrets, &[(String, String)]),
    ) -> Result<(), SpawnError> {
        let configured = configured.iter().map(|(name, value)| (name, value.as_bytes()));
        for (name, value) in configured.chain(files.0.iter().map(|(name, value)| (name, value.as_slice()))) {
            environment.set(name, value).map_err(|error| command::bad_variable(exec, &error))?;
        }
        let left_out = environment.set_known(known);
        let program = exec.first().map(|program| program.display().to_string()).unwrap_or_default();
        self.warnings.extend(left_out.iter().map(|bad| format!("`{program}` is started without a variable: {bad}")));
        Ok(())
    }

    fn hook_launch(
        &mut self,
        order: &Order<'_>,
        files: &Secrets,
        env: &[(String, String)],
        stdin: Option<String>,
    ) -> Result<(Launch, output::Alive), SpawnError> {
        let Order { job, exec, run_as, limits, directory, raw, follows, leads: _, keep } = *order;
        let mut environment = Environment::own();
        FOR_MAIN_ALONE.iter().for_each(|name| environment.remove(name));
        let bad_variable = |error| command::bad_variable(exec, &error);
        if let Job::Coprocess { name } = job
            && let Some(socket) = self.coprocess_sockets.get(name)
        {
            environment.set(notify::VARIABLE, socket.as_bytes()).map_err(bad_variable)?;
        }
        self.set(&mut environment, exec, (&run_as.env, files, env))?;
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
            directory: directory.and_then(Way::to),
            // One whose keeper is killed has nobody who would tell of its end.
            dies_with_us: true,
            keeper: Some(Telling { words, rest: follows }),
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
        let started = match launch::launch(launch, &mut self.patience) {
            Ok(started) => started,
            Err(error) => {
                let error = command::no_process(exec, &error);
                let code = self.failed_code(error.code, None);
                return Event::SpawnFailed { run, error: SpawnError { code, ..error } };
            }
        };
        let pid = started.pid;
        let kept = (started.child != pid).then_some(Kept { pid, ended: false, sought: None });
        let mut child = Child { run: Some(run), kept, executing: None, streams: alive };
        match (&started.progress, started.keyboard) {
            (Progress::Failed(_), Some(Ok(keyboard))) => drop(keyboard.end()),
            (_, Some(keyboard)) => self.hears(keyboard),
            (_, None) => {}
        }
        let event = match started.progress {
            Progress::Running => Event::Spawned { run, pid },
            Progress::Failed(failure) => {
                child = Child { run: None, kept, executing: None, streams: None };
                let directory = directory.unwrap_or(Path::new("."));
                let about = About { candidates: &candidates, limits: &limits, directory, user };
                let error = command::failed(exec, failure, &about);
                let code = self.failed_code(error.code, Some(failure.errno));
                Event::SpawnFailed { run, error: SpawnError { code, ..error } }
            }
            Progress::Executing(report) => {
                let program = exec.first().map(|program| program.display().to_string()).unwrap_or_default();
                self.warnings.push(format!("`{program}` is slow to start (slow storage?)"));
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
                "`{program}` (process {pid}) can't be signalled: it runs as another user and the agent lacks CAP_KILL, so only the container's end can stop it"
            ));
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
}

/// Reads the files of `env_from_files`. Their storage may hang.
///
/// # Errors
/// Code 126: one can't be read.
pub fn read_files(process: &config::Process) -> Result<Secrets, SpawnError> {
    read_values(&process.exec, &process.env_from_files)
}

/// The same of a command.
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
