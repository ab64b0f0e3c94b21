//! A coprocess that goes to the background: which process is it from then on.

use crate::supervisor::vocabulary::{Effect, Notice, Pid, ProcessId, RunId, Step, Time};

use super::super::main::{FOLLOWED_SAID_EVERY, LAUNCHED_WITHIN};
use super::{Coprocess, EndCause, Stage};

impl Coprocess {
    /// What its launcher left behind is the coprocess from now on, of which one is to be followed: `only` who it named.
    pub fn goes_to_background(&mut self, step: &mut Step<'_>, run: RunId, only: bool) {
        if let Stage::Launched { run: own, since } = self.stage
            && own == run
        {
            self.stage = Stage::Running { run, since, pid: None };
            self.followed_by = Some(step.now + LAUNCHED_WITHIN);
            step.out.push(Effect::FollowStray { run, told: self.announced_pid, only });
            self.readiness.runs_on(step.now, self.config.ready.as_ref(), self.reported.ready);
        }
    }

    /// This process is it from now on; `None`: it can't be found, and all that is left is being ended.
    pub fn followed(&mut self, step: &mut Step<'_>, run: RunId, followed: Option<Pid>) {
        match (self.stage, followed) {
            (Stage::Running { run: own, since, .. }, Some(pid)) if own == run => {
                self.stage = Stage::Running { run, since, pid: Some(pid) };
                if self.followed_said.is_none_or(|said| step.now.since(said) >= FOLLOWED_SAID_EVERY) {
                    self.followed_said = Some(step.now);
                    let name = self.config.name.clone();
                    step.out.push(Effect::Say(Notice::CoprocessFollowed { name, pid }));
                }
            }
            (Stage::Running { run: own, since, pid: None }, None) if own == run => {
                self.stage = Stage::Ending { run, since, why: EndCause::Itself };
                self.readiness.is_over();
            }
            _ => {}
        }
    }

    /// This run has nobody to be followed by the time that one would be there: what is left of it /proc doesn't show.
    pub fn is_followed_by_nobody(&mut self, now: Time) -> Option<RunId> {
        let Stage::Running { run, pid: None, .. } = self.stage else { return None };
        self.followed_by.take_if(|by| *by <= now).map(|_| run)
    }

    /// It said who it is (sd_notify(3), MAINPID): its run while its process is there, and whether it is another.
    pub fn named(&mut self, named: ProcessId) -> Option<(RunId, bool)> {
        let Stage::Running { run, pid: Some(pid), .. } = self.stage else { return None };
        // Who names itself names nobody in its place.
        self.announced_pid = Some(named).filter(|(named, _)| *named != pid);
        Some((run, named.0 != pid))
    }
}
