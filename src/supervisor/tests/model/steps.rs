//! What can happen next: what a kernel, a program, a network or a person may do.

use std::time::Duration;

use crate::config::Signal;
use crate::supervisor::Event;
use crate::supervisor::vocabulary::*;

use super::super::script::instance;
use super::container::Guard;
use super::world::{Mail, World};
use super::{Faults, Lie};

/// Between two misfortunes lie so many steps.
const CALM: usize = 25;

#[derive(Debug, Clone, Copy)]
pub enum Step {
    Wait,
    /// The loop of a container does its next thing.
    Loop(usize),
    Deliver(usize),
    Mark(usize),
    LosePatience(usize),
    Watch(usize),
    /// What its watch sees is something else.
    Change(usize),
    FilesRead(usize),
    Fork(usize),
    MainEnds(usize),
    StrayEnds(usize, usize),
    CommandEnds(usize, RunId),
    LeftEnds(usize, RunId),
    Answer(usize),
    Misfortune(Misfortune),
}

#[derive(Debug, Clone, Copy)]
pub enum Misfortune {
    Lose(usize),
    Delete,
    Cut(usize),
    MainCrashes(usize),
    Unhealthy(usize),
    Kill(usize),
    Pause(usize),
    StopGuard(usize),
    StepDown(usize, usize),
    Stop(usize),
    Restart(usize),
    /// Of a coprocess that runs for the leader only.
    RestartBeside(usize),
    Reload(usize),
    Maintenance(usize, bool),
    Signal(usize),
}

impl World {
    /// One thing happens; `false` when a promise is broken.
    pub fn step(&mut self) -> bool {
        let misfortunes = if self.left.any > 0 && self.random.once_in(CALM) { self.misfortunes() } else { Vec::new() };
        let step = if misfortunes.is_empty() {
            let steps = self.steps();
            let mut drawn = self.random.below(steps.iter().map(|(_, weight)| weight).sum());
            let index = steps.iter().position(|(_, weight)| match drawn.checked_sub(*weight) {
                Some(left) => {
                    drawn = left;
                    false
                }
                None => true,
            });
            steps[index.unwrap_or(0)].0
        } else {
            Step::Misfortune(misfortunes[self.random.below(misfortunes.len())])
        };
        if !matches!(step, Step::Wait | Step::Loop(_) | Step::Deliver(_) | Step::Watch(_)) {
            self.tell(|| format!("{step:?}"));
        }
        self.take(step);
        self.steps_taken += 1;
        self.judge();
        self.broken.is_none()
    }

    /// What is bound to happen, with how likely it is to be next.
    fn steps(&self) -> Vec<(Step, usize)> {
        let mut steps = vec![(Step::Wait, 6)];
        for (index, mail) in self.mail.iter().enumerate() {
            let (Mail::To(of, ..) | Mail::From(of, ..)) = mail;
            let weight = if self.containers[*of].cut_until.is_some() { 2 } else { 24 };
            steps.push((Step::Deliver(index), weight));
        }
        let gets_on = self.marks.iter().enumerate().filter(|(_, marking)| marking.gets_on(self.now));
        steps.extend(gets_on.map(|(index, _)| (Step::Mark(index), 24)));
        steps.extend(self.impatient().map(|index| (Step::LosePatience(index), 24)));
        let is_due = |at: &Option<Duration>| at.is_some_and(|at| at <= self.now);
        for (index, container) in self.containers.iter().enumerate() {
            if container.is_busy() {
                steps.push((Step::Loop(index), 40));
            }
            if container.joined {
                steps.push((Step::Watch(index), 3));
            }
            if container.is_watching {
                steps.push((Step::Change(index), 1));
            }
            if is_due(&container.reading.map(|(_, at)| at)) {
                steps.push((Step::FilesRead(index), 10));
            }
            if is_due(&container.starting.as_ref().map(|starting| starting.at)) {
                steps.push((Step::Fork(index), 10));
            }
            if is_due(&container.main.as_ref().and_then(|main| main.ends_at)) {
                steps.push((Step::MainEnds(index), 10));
            }
            if let Some(stray) = container.strays.iter().position(|(_, at)| is_due(at)) {
                steps.push((Step::StrayEnds(index, stray), 10));
            }
            for (run, command) in container.commands.iter().filter(|(_, command)| is_due(&command.ends_at)) {
                let step = if command.runs { Step::CommandEnds(index, *run) } else { Step::LeftEnds(index, *run) };
                steps.push((step, 10));
            }
            if !container.probes.is_empty() {
                steps.push((Step::Answer(index), 8));
            }
        }
        steps
    }

    fn misfortunes(&self) -> Vec<Misfortune> {
        let mut all = Vec::new();
        let left = &self.left;
        let mut add = |left: u8, misfortune| all.extend((left > 0).then_some(misfortune));
        for index in 0..self.mail.len() {
            add(left.lose, Misfortune::Lose(index));
        }
        add(left.delete, Misfortune::Delete);
        for (index, container) in self.containers.iter().enumerate() {
            add(left.kill, Misfortune::Kill(index));
            add(left.cut, Misfortune::Cut(index));
            if container.main.is_some() {
                add(left.crash, Misfortune::MainCrashes(index));
            }
            if !container.probes.is_empty() {
                add(left.unhealthy, Misfortune::Unhealthy(index));
            }
            // A guard and an agent that stop together are one fault more than is promised to be survived; but that a
            // guard has stopped is seen at once.
            let guarded = container.guard == Guard::Stands || self.play.lies.contains(&Lie::StoppedGuardUnseen);
            if container.paused_until.is_none() {
                if guarded {
                    add(left.pause, Misfortune::Pause(index));
                }
                if container.page.is_some() {
                    add(left.guard, Misfortune::StopGuard(index));
                }
                let to = (index + 1) % self.containers.len();
                for misfortune in [
                    Misfortune::StepDown(index, index),
                    Misfortune::StepDown(index, to),
                    Misfortune::Stop(index),
                    Misfortune::Restart(index),
                    Misfortune::RestartBeside(index),
                    Misfortune::Reload(index),
                    Misfortune::Maintenance(index, true),
                    Misfortune::Maintenance(index, false),
                    Misfortune::Signal(index),
                ] {
                    add(left.person, misfortune);
                }
            }
        }
        all
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Wait => self.wait(),
            Step::Loop(index) => self.turn(index),
            Step::Deliver(index) => {
                let (Mail::To(of, ..) | Mail::From(of, ..)) = self.mail[index];
                match self.containers[of].cut_until {
                    Some(_) => self.lose(index),
                    None => self.deliver(index),
                }
            }
            Step::Mark(index) => self.marks_on(index),
            Step::LosePatience(index) => self.loses_patience(index),
            Step::Watch(index) => {
                let cut = self.containers[index].cut_until.is_some();
                let seen = if cut { Err("no answer".to_owned()) } else { Ok(self.store.view()) };
                self.hears(index, Event::Election(crate::supervisor::machines::election::ElectionEvent::Saw(seen)));
                self.show_acting(index);
            }
            Step::Change(index) => {
                let there = self.random.below(3);
                let seen = Ok(Observation::Instances((0..there).map(|n| instance(&n.to_string())).collect()));
                self.hears(index, Event::Observed { follow: Follow::Watch("app".to_owned()), seen });
            }
            Step::FilesRead(index) => {
                if let Some((run, _)) = self.containers[index].reading.take() {
                    self.hears(index, Event::FilesRead { run, result: Ok(Secrets::default()) });
                }
            }
            Step::Fork(index) => self.fork(index),
            Step::MainEnds(index) => {
                let left = self.random.below(3).saturating_sub(1);
                let status = ExitStatus::Exited(u8::from(self.random.once_in(3)));
                self.containers[index].main_ends(status, left);
            }
            Step::StrayEnds(index, stray) => self.containers[index].stray_ends(stray),
            Step::CommandEnds(index, run) => {
                let status = ExitStatus::Exited(u8::from(self.random.once_in(8)));
                let leaves = self.random.once_in(6);
                self.containers[index].command_ends(run, status, leaves);
            }
            Step::LeftEnds(index, run) => self.containers[index].left_ends(run),
            Step::Answer(index) => {
                if let Some(run) = self.containers[index].probes.pop_front() {
                    self.hears(index, Event::Probed { run, result: Ok(()) });
                }
            }
            Step::Misfortune(misfortune) => self.strike(misfortune),
        }
    }

    fn strike(&mut self, misfortune: Misfortune) {
        let until = self.now + self.random.span();
        match misfortune {
            Misfortune::Lose(index) => {
                self.spend(|left| &mut left.lose);
                self.lose(index);
            }
            Misfortune::Delete => {
                self.spend(|left| &mut left.delete);
                self.store.delete();
            }
            Misfortune::Cut(index) => {
                self.spend(|left| &mut left.cut);
                self.containers[index].cut_until = Some(until);
            }
            Misfortune::MainCrashes(index) => {
                self.spend(|left| &mut left.crash);
                let left = self.random.below(3);
                let status = ExitStatus::Exited(u8::from(!self.random.once_in(3)));
                self.containers[index].main_ends(status, left);
            }
            Misfortune::Unhealthy(index) => {
                self.spend(|left| &mut left.unhealthy);
                if let Some(run) = self.containers[index].probes.pop_front() {
                    self.hears(index, Event::Probed { run, result: Err("it fails".to_owned()) });
                }
            }
            Misfortune::Kill(index) => {
                self.spend(|left| &mut left.kill);
                self.begin(index);
            }
            Misfortune::Pause(index) => {
                self.spend(|left| &mut left.pause);
                self.containers[index].paused_until = Some(until);
            }
            Misfortune::StopGuard(index) => {
                self.spend(|left| &mut left.guard);
                self.containers[index].guard = Guard::Stopped(until);
                if !self.play.lies.contains(&Lie::StoppedGuardUnseen) {
                    self.hears(index, Event::Guard { stands: false });
                }
            }
            Misfortune::StepDown(index, to) => {
                let to = (to != index).then(|| self.containers[to].id.clone());
                self.asks(index, Request::StepDown { to });
            }
            Misfortune::Stop(index) => {
                self.spend(|left| &mut left.person);
                self.hears(index, Event::Signal(Signal::TERM));
            }
            Misfortune::Restart(index) => self.asks(index, Request::Restart { name: None }),
            Misfortune::RestartBeside(index) => self.asks(index, Request::Restart { name: Some("vip".to_owned()) }),
            Misfortune::Reload(index) => self.asks(index, Request::Reload),
            Misfortune::Maintenance(index, on) => {
                self.spend(|left| &mut left.person);
                self.maintains(index, on);
            }
            Misfortune::Signal(index) => {
                self.spend(|left| &mut left.person);
                self.hears(index, Event::Signal(Signal::HUP));
            }
        }
    }

    pub fn maintains(&mut self, index: usize, on: bool) {
        let request = match on {
            true => Request::BeginMaintenance { lasts: None, reason: None },
            false => Request::EndMaintenance,
        };
        self.hears(index, Event::Control { reply: ReplyId(1), request });
    }

    fn asks(&mut self, index: usize, request: Request) {
        self.spend(|left| &mut left.person);
        self.hears(index, Event::Control { reply: ReplyId(1), request });
    }

    fn spend(&mut self, fault: fn(&mut Faults) -> &mut u8) {
        self.left.any = self.left.any.saturating_sub(1);
        let left = fault(&mut self.left);
        *left = left.saturating_sub(1);
    }
}
