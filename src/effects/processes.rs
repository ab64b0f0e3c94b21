//! What is started, signalled and reaped, and what it is told of the container.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::config::coprocess::OutputMode;
use crate::config::{Background, Probe, Process, Signal, When};
use crate::net::address;
use crate::probe;
use crate::process::notify::Notify;
use crate::process::out_of_memory::OutOfMemory;
use crate::process::{self, Order, Speaker};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::{ExitStatus, Pid, ReplyId, RunId, Secrets, Target};

use super::files::failed;
use super::waiting::Ordered;
use super::{Adapters, degraded};

impl Adapters {
    pub(super) fn spawn_main(
        &mut self,
        run: RunId,
        process: &Process,
        files: &Secrets,
        env: Vec<(String, String)>,
    ) -> Vec<Event> {
        let plain = self.source.file.is_none();
        // A plain init passes the environment byte for byte.
        let mut env = if plain { env } else { self.env(env) };
        watchdog(&mut env);
        self.limits = process.limits.clone();
        let lock = self.lock_client.as_ref().and_then(|lock_client| lock_client.inheritable_fd());
        let keep = lock.as_ref().map(|lock| lock.as_fd());
        let event = self.processes.spawn_main(run, process, files, &env, keep);
        if let (Some(lock_client), Event::Spawned { pid, .. }) = (&self.lock_client, &event) {
            lock_client.main_inherits(*pid);
        }
        if plain {
            // It starts nothing more and opens no path, so it need not pin the mount it stands on.
            self.processes.leave_directory();
        }
        self.with_warnings(vec![event])
    }

    /// Starts a run at once, or when its files are read.
    pub(super) fn order(&mut self, run: RunId, ordered: Ordered) -> Vec<Event> {
        if ordered.run_as.env_from_files.is_empty() {
            return self.spawn(run, ordered, &Secrets::default());
        }
        let read = self.waiting.add(run, ordered);
        self.task(move |error| Event::FilesRead { run, result: Err(failed(&error)) }, async move {
            Event::FilesRead { run, result: read.await }
        });
        Vec::new()
    }

    pub(super) fn spawn(&mut self, run: RunId, ordered: Ordered, files: &Secrets) -> Vec<Event> {
        let Ordered { job, role, exec, run_as, env, stdin, coprocess } = ordered;
        let env = self.env(env);
        let keep = self.lock_client.as_ref().and_then(|client| match (role, &coprocess) {
            (When::Leader, _) => client.leaders_inherit(),
            // What outlasts a leadership must not hold its lock.
            (When::Always | When::Replica, None) => client.hooks_inherit(),
            (When::Always | When::Replica, Some(_)) => None,
        });
        let order = Order::hook(&job, &exec, &run_as, &self.limits);
        let order = match &coprocess {
            None => order,
            Some(coprocess) => Order {
                limits: &coprocess.limits,
                directory: coprocess.directory.as_deref(),
                raw: coprocess.output == OutputMode::Raw,
                follows: coprocess.background == Background::Follow,
                leads: coprocess.when == When::Leader,
                ..order
            },
        };
        let order = Order { keep: keep.as_ref().map(|file| file.as_fd()), ..order };
        let event = self.processes.spawn(run, order, files, &env, stdin);
        self.with_warnings(vec![event])
    }

    /// Children ended.
    pub fn reap(&mut self) -> Vec<Event> {
        let events = self.processes.reap();
        let killed = |event: &Event| {
            const KILLED: ExitStatus = ExitStatus::Killed(Signal::KILL);
            matches!(event, Event::Exited { status: KILLED, .. } | Event::StrayEnded { status: KILLED })
        };
        if events.iter().any(killed) {
            self.tell_of_memory();
        }
        self.with_warnings(events)
    }

    /// Whether it was the kernel that killed. What the cgroup counts isn't only what was started here.
    fn tell_of_memory(&mut self) {
        let what = match self.out_of_memory.as_mut().map_or(0, OutOfMemory::news) {
            0 => return,
            1 => "a process".to_owned(),
            kills => format!("{kills} processes"),
        };
        tracing::warn!(
            event = "memory.exhausted",
            "the kernel has killed {what} of this container for want of memory (its limit's, or the host's)"
        );
    }

    /// Whether there is more to reap.
    pub fn has_more(&self) -> bool {
        self.processes.has_more()
    }

    /// Until [`Adapters::held`] is to be asked.
    pub async fn one_is_held(&self) {
        self.processes.one_is_held().await;
    }

    /// Children have ended that a tracer keeps from being reaped.
    pub fn held(&mut self) -> Vec<Event> {
        let events = self.processes.held();
        self.with_warnings(events)
    }

    /// Who speaks on main's notify socket. `is_keeper` is [`Adapters::is_keeper`].
    pub fn main_speaks<'a>(&self, is_keeper: &'a dyn Fn(Pid) -> bool) -> Speaker<'a> {
        self.processes.main_speaks(is_keeper)
    }

    /// The same of a coprocess's.
    pub fn coprocess_speaks<'a>(&self, name: &str, is_keeper: &'a dyn Fn(Pid) -> bool) -> Speaker<'a> {
        self.processes.coprocess_speaks(name, is_keeper)
    }

    /// Whether this is the keeper of a run, of which something is left.
    pub fn is_keeper(&self, pid: Pid) -> bool {
        self.processes.is_keeper(pid)
    }

    /// All of them.
    pub fn keepers(&self) -> BTreeSet<Pid> {
        self.processes.keepers()
    }

    /// From its next start on main finds this socket in NOTIFY_SOCKET.
    pub fn offer(&mut self, notify: &Notify) {
        self.processes.offer(notify);
    }

    /// From its next start on a coprocess finds this socket in NOTIFY_SOCKET.
    pub fn offer_coprocess(&mut self, name: &str, notify: &Notify) {
        self.processes.offer_coprocess(name, notify);
    }

    /// A SIGKILL that is refused is tried again and again; its refusal is told once.
    pub(super) fn kill(&mut self, target: Target, signal: Signal) {
        let refused = self.processes.kill(target, signal).err().map(|error| format!("can't send {signal}: {error}"));
        if let Some(refused) = refused.clone().filter(|_| refused != self.refused) {
            degraded(refused);
        }
        self.refused = refused;
    }

    pub(super) fn forward(&mut self, target: Target, signal: Signal, reply: Option<ReplyId>) -> Event {
        let heeded = self.processes.heeds(target, signal);
        self.kill(target, signal);
        if let Some(reply) = reply {
            self.answer_sent(reply, signal, "main");
        }
        Event::Forwarded { signal, heeded }
    }

    /// Whether the signal that was sent last went.
    pub(super) fn answer_sent(&mut self, reply: ReplyId, signal: Signal, to: &str) {
        let sent = self.refused.clone().map_or_else(|| Ok(format!("{signal} sent to {to}")), Err);
        self.answer(reply, sent.into());
    }

    pub(super) fn hint(&mut self, watch: String, target: Target, signal: Signal) -> Event {
        let sent = self.processes.survives(target, signal);
        if sent {
            self.kill(target, signal);
        }
        Event::Hinted { watch, sent }
    }

    pub(super) fn probe(&self, run: RunId, probe: Probe, timeout: Duration) {
        let failed = move |error| Event::Probed { run, result: Err(error) };
        self.task(failed, async move { Event::Probed { run, result: probe::probe(&probe, timeout).await } });
    }

    pub(super) fn with_warnings(&mut self, events: Vec<Event>) -> Vec<Event> {
        self.processes.warnings().into_iter().for_each(degraded);
        events
    }

    /// What main and hooks are told beyond what the core knows.
    fn env(&self, mut env: Vec<(String, String)>) -> Vec<(String, String)> {
        env.push(("PILOTFISH_PID".to_owned(), std::process::id().to_string()));
        for service in &self.services {
            let address = address::advertised(&service.address).map(|found| found.address.to_string());
            let name: String = service
                .name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
                .collect();
            // Empty where there is none, so that a script may ask for it under `set -u`.
            env.push((format!("PILOTFISH_{name}_ADDRESS"), address.unwrap_or_default()));
        }
        // The core reads a leader's address in the catalog; this candidate leads before that shows its own.
        let leader = env.iter().find(|(name, _)| name == "PILOTFISH_LEADER_ID").map(|(_, id)| id.clone());
        let own = self.lock_client.as_ref().zip(leader).and_then(|(lock_client, id)| lock_client.address_as(&id));
        let known = env.iter_mut().find(|(name, value)| name == "PILOTFISH_LEADER" && value.is_empty());
        if let (Some((_, address)), Some(own)) = (known, own) {
            *address = own;
        }
        env
    }
}

/// What main is told of the watchdog of a check: it sees to that of a supervisor above as well, so the shorter holds; and
/// it is meant for main, whose process id takes the place of ours.
fn watchdog(env: &mut Vec<(String, String)>) {
    let Some((_, micros)) = env.iter_mut().find(|(name, _)| name == "WATCHDOG_USEC") else { return };
    let ours = std::process::id();
    if let (Ok(asked), Some(outer)) = (micros.parse::<u128>(), process::outer::watchdog_of(ours)) {
        *micros = asked.min(outer.as_micros()).to_string();
    }
    env.push(("WATCHDOG_PID".to_owned(), ours.to_string()));
}
