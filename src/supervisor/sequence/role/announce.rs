//! Who leads, told on: to replicas by their hook, to the catalog by a tag.

use std::sync::Arc;

use crate::config::{Hook, When};
use crate::supervisor::Supervisor;
use crate::supervisor::machines::commands::{JobState, Launch, Outcome};
use crate::supervisor::machines::election::record::Holder;
use crate::supervisor::vocabulary::{Effect, Job, RunId, Step};

use super::Role;

impl Supervisor {
    /// Replicas learn of a new leader.
    pub(super) fn tell_of_leader(&mut self, step: &mut Step<'_>) {
        // What the last one left would act beside the next.
        let clearing = self.commands.of_job(&Job::OnLeaderChange) == JobState::Busy;
        let may = self.main.is_up() && !self.is_stopping() && !clearing;
        let Some(leadership) = &mut self.leadership else { return };
        let other = |leader: &&Holder| *leader.id != *leadership.config.id && leadership.acts(leader);
        let leader = leadership.leader.as_ref().filter(other);
        let news = leader.is_some() && leadership.announced.as_ref() != leader;
        if !may || !news || leadership.announcing.is_some() || !matches!(leadership.role, Role::Replica) {
            return;
        }
        let leader = leader.cloned();
        if self.commands.end_last(step, &Job::OnLeaderChange) {
            return;
        }
        leadership.announced = leader;
        let Some(hook) = self.config.hooks.on_leader_change.clone() else { return };
        let run = self.last_run.one_more();
        leadership.announcing = Some(run);
        let env = self.env(&Job::OnLeaderChange);
        let hook = Hook { when: When::Replica, ..hook };
        self.commands.start(step, run, Launch { job: Job::OnLeaderChange, hook, env, stdin: None });
    }

    /// `on_leader_change` ended. Where it failed, main is prepared anew: it would go on to follow whomever it followed before.
    pub(in crate::supervisor) fn told_of_leader(&mut self, step: &mut Step<'_>, run: RunId, outcome: &Outcome) {
        let Some(leadership) = self.leadership.as_mut().filter(|leadership| leadership.announcing == Some(run)) else {
            return;
        };
        leadership.announcing = None;
        // One that was ended for a promotion hasn't failed.
        let replica = matches!(leadership.role, Role::Replica);
        if let Err(error) = outcome.result()
            && replica
        {
            self.remake_replica(step, error);
        }
    }

    /// The catalog tells the role.
    pub(super) fn tag(&mut self, out: &mut Vec<Effect>) {
        let Some(leadership) = &self.leadership else { return };
        let own = leadership.config.service.as_ref();
        let configured = self.config.services.iter().find(|service| Some(&service.id) == own);
        let entry = self.entries.iter_mut().find(|entry| Some(&entry.service().id) == own);
        if let (Some(configured), Some(entry)) = (configured, entry)
            && leadership.config.role_tags.is_some()
        {
            entry.reconfigure(leadership.tagged(&Arc::new(configured.clone())), out);
        }
    }
}
