//! What has become of children, as the kernel and the keepers tell it: ended, stopped, or nothing left of a run.

use std::path::Path;

use crate::config::Signal;
use crate::sabotage;
use crate::supervisor::Event;
use crate::supervisor::vocabulary::{ExitStatus, Pid, RunId};

use super::command::{self, About};
use super::guard::Ended;
use super::keeper::{ReportPipe, Word};
use super::keyboard::Keyboard;
use super::reaper::{self, Change, Next, Which};
use super::{Child, Processes, kill, output};

impl Processes {
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
                    Some(child) => events.extend(self.own_ended(child, status)),
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
        if self.main_group.is_some_and(|group| self.heeds_group(group)) {
            self.forget_group();
        }
        events.extend(last_stray.map(|status| Event::StrayEnded { status }));
        events.extend(self.recount(strangers, nobody_else));
        events
    }

    /// What the terminal has sent main.
    fn hear_keyboard(&mut self) -> Vec<Event> {
        let (Some(run), Some(keyboard)) = (self.main, &mut self.keyboard) else { return Vec::new() };
        std::iter::from_fn(|| keyboard.next()).map(|signal| Event::FromTerminal { run, signal }).collect()
    }

    /// What keepers say: that a process of a run has ended, and whether something is left of it.
    fn hear_keepers(&mut self, events: &mut Vec<Event>) {
        while let Some(Word { keeper, pid, status, left }) = self.words.as_mut().and_then(ReportPipe::next) {
            let Some(child) = self.children.get_mut(&keeper) else { continue };
            let (Some(run), Some(kept), Some(status)) = (child.run, &mut child.kept, reaper::end(status)) else {
                continue;
            };
            if kept.ended {
                // The last of those of whom one was to be followed stands for it.
                match kept.sought {
                    Some(sought) if left => {
                        events.extend(kept.follow(keeper, run, sought));
                        self.watch(run);
                    }
                    Some(_) => events.push(Event::Exited { run, status }),
                    None => {}
                }
            } else if kept.pid == pid {
                events.extend(self.kept_ended(keeper, status, left));
            }
        }
    }

    /// A run's process has ended as somebody else than its parent tells.
    pub(super) fn ended_unreaped(&mut self, run: RunId, status: ExitStatus) -> Vec<Event> {
        let Some(pid) = self.children.iter().find(|(_, child)| child.run == Some(run)).map(|(pid, _)| *pid) else {
            return Vec::new();
        };
        match self.children.get(&pid).is_some_and(|child| child.kept.is_some()) {
            // Its keeper can't say what is left beside it.
            true => self.kept_ended(pid, status, true),
            false => self.children.remove(&pid).map(|child| self.own_ended(child, status)).unwrap_or_default(),
        }
    }

    /// Main, or a keeper's run whose start failed.
    fn own_ended(&mut self, child: Child, status: ExitStatus) -> Vec<Event> {
        self.main_group = child.run.and(self.main_is_in).or(self.main_group);
        self.ended(child, status)
    }

    fn kept_ended(&mut self, keeper: Pid, status: ExitStatus, left: bool) -> Vec<Event> {
        let Some(child) = self.children.get_mut(&keeper) else { return Vec::new() };
        let (Some(run), Some(kept)) = (child.run, &mut child.kept) else { return Vec::new() };
        kept.ended = true;
        // What is left of it may print on, and would be killed by a pipe that nobody reads.
        let streams = child.streams.take_if(|streams| !(left && streams.goes_on()));
        let executing = child.executing.take();
        let mut events = self.ended(Child { run: Some(run), kept: None, executing, streams }, status);
        // Sabotaged, what it left is passed over.
        let any = !sabotage::is_on("leftovers");
        events.extend(left.then_some(Event::RunLeft { run, any }));
        events
    }

    /// Nothing is left of a run: its keeper has ended.
    fn keeper_ended(&mut self, child: Child, status: ExitStatus, events: &mut Vec<Event>) {
        let Some(run) = child.run else { return };
        if let ExitStatus::Killed(_) = status {
            self.warnings.push(format!(
                "a hook's or check's keeper {status}: what it had started can no longer be told from what main leaves, and ends with that"
            ));
            events.push(Event::RunLost { run });
        }
        if child.kept.is_some_and(|kept| !kept.ended || kept.sought.is_some() && !status.success()) {
            // It was killed, and its run's process with it, or who was followed is lost.
            events.extend(self.ended(child, status));
        } else {
            // What was left was heard until now.
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

    fn main_has_ended(&self) -> bool {
        self.main.is_some_and(|main| self.pid(main).is_none())
    }
}
