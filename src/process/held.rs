//! Ends that a tracer keeps to itself. While gdb or strace is attached, waitpid(2) shows a parent nothing of a child that
//! has ended until the tracer has taken note of it, which one that was suspended never does. A pidfd tells everybody at
//! once (pidfd_open(2), Linux 5.3), unless other threads are held as well. Of main and of coprocesses that is watched;
//! hooks and checks have their time.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::config::Signal;
use crate::readable::{self, Readable};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::{ExitStatus, Pid, RunId};

use super::{Processes, parent, reaper, tree};

/// A tracer that runs, or a keeper, has made way for waitpid long before.
const PATIENCE: Duration = Duration::from_millis(200);

/// A process whose end is heard of although it can't be reaped.
pub(super) struct Watched {
    run: RunId,
    pid: Pid,
    ended: AsyncFd<Readable<OwnedFd>>,
    /// It has ended, and is held if it isn't reaped by then.
    held_at: Option<Instant>,
}

impl Watched {
    fn new(run: RunId, pid: Pid) -> io::Result<Watched> {
        Ok(Watched { run, pid, ended: readable::watch(parent::open(pid)?)?, held_at: None })
    }

    fn has_ended(&self) -> bool {
        let ended = PollFd::new(self.ended.get_ref().0.as_fd(), PollFlags::POLLIN);
        poll(&mut [ended], PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    async fn turns(&self) {
        match self.held_at {
            Some(at) => tokio::time::sleep_until(at).await,
            // A failing wait would come again at once.
            None if self.ended.readable().await.is_err() => std::future::pending().await,
            None => {}
        }
    }
}

impl Processes {
    /// From now on the end of the process that a run has is heard of, held or not. An older kernel can't tell.
    pub(super) fn watch(&mut self, run: RunId) {
        if let Some(pid) = self.pid(run).filter(|_| self.listens) {
            self.forget_reaped();
            self.watched.retain(|watched| watched.run != run);
            self.watched.extend(Watched::new(run, pid));
        }
    }

    /// Nobody who has been reaped is watched any longer.
    fn forget_reaped(&mut self) {
        let mut watched = std::mem::take(&mut self.watched);
        watched.retain(|watched| self.pid(watched.run) == Some(watched.pid));
        self.watched = watched;
    }

    /// Until [`Processes::held`] is to be asked.
    pub async fn one_is_held(&self) {
        let mut turns: Vec<_> = self.watched.iter().map(|watched| Box::pin(watched.turns())).collect();
        std::future::poll_fn(|context| match turns.iter_mut().any(|turns| turns.as_mut().poll(context).is_ready()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        })
        .await;
    }

    /// The ends of those that have ended and aren't reaped in spite of all patience. Ask it after [`Processes::reap`].
    pub fn held(&mut self) -> Vec<Event> {
        self.forget_reaped();
        let now = Instant::now();
        let mut events = Vec::new();
        for (run, pid) in self.are_held_at(now) {
            let status = how_it_ended(pid);
            let how = status.map_or_else(|| "only that knows how".to_owned(), |status| status.to_string());
            self.warnings.push(format!("process {pid} has ended, held by its tracer: {how}"));
            events.extend(self.ended_unreaped(run, status.unwrap_or(ExitStatus::Killed(Signal::KILL))));
        }
        self.forget_reaped();
        events
    }

    fn are_held_at(&mut self, now: Instant) -> Vec<(RunId, Pid)> {
        for watched in self.watched.iter_mut().filter(|watched| watched.held_at.is_none() && watched.has_ended()) {
            watched.held_at = Some(now + PATIENCE);
        }
        let is_held = |watched: &&Watched| watched.held_at.is_some_and(|at| at <= now);
        self.watched.iter().filter(is_held).map(|watched| (watched.run, watched.pid)).collect()
    }
}

/// Field 52 of proc_pid_stat(5), as waitpid(2) would have it. To whom the kernel doesn't let look (ptrace(2)) it is 0;
/// the link to a process's program tells who that is: a zombie's isn't there, or may not be read.
fn how_it_ended(pid: Pid) -> Option<ExitStatus> {
    let may_look = std::fs::read_link(format!("/proc/{pid}/exe"))
        .is_err_and(|error| error.kind() != io::ErrorKind::PermissionDenied);
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok().filter(|_| may_look)?;
    // From the third on.
    reaper::end(tree::fields(&stat)?.split_ascii_whitespace().nth(49)?.parse().ok()?)
}
