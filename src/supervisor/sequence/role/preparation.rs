//! Whether main may start in its role, and what it was prepared for.

use crate::config::election::{Mode, WithoutCatalog};
use crate::supervisor::Supervisor;
use crate::supervisor::sequence::duties::{Duty, keeps};
use crate::supervisor::vocabulary::{Job, Time};

use super::{Part, Promotion, Role};

impl Supervisor {
    /// Whether main may be started in its role. `until` is how long a start waits for a catalog that it doesn't need.
    pub(in crate::supervisor) fn role_is_known(&self, now: Time, until: Time) -> bool {
        let Some(leadership) = &self.leadership else { return true };
        match (&leadership.role, leadership.config.mode) {
            // What still runs for a replica, its pre_start for one, goes first.
            (Role::Leader { promotion: Promotion::Clearing { .. }, .. }, _) => false,
            (Role::Leader { .. }, _) => true,
            (Role::Leaving { .. }, _) | (Role::Replica, Mode::Standby) => false,
            (Role::Replica, Mode::Role) => {
                let follows = leadership.core.is_settled() && leadership.acting.is_seen();
                follows || self.starts_without_catalog(now, until)
            }
        }
    }

    fn starts_without_catalog(&self, now: Time, until: Time) -> bool {
        self.leadership.as_ref().is_some_and(|leadership| {
            leadership.config.without_catalog == WithoutCatalog::Replica
                && until <= now
                && leadership.core.follows().is_none()
                && leadership.core.error().is_some()
        })
    }

    /// When a start that waits for its role may go on without the catalog.
    pub(in crate::supervisor) fn electing_deadline(&self, until: Time) -> Option<Time> {
        let leadership = self.leadership.as_ref()?;
        let may = leadership.config.without_catalog == WithoutCatalog::Replica
            && leadership.core.error().is_some()
            && matches!(leadership.role, Role::Replica)
            && !self.commands.any(&Job::PreStart { number: None });
        may.then_some(until)
    }

    /// Whether a main that is to run again may as things are: only in the role that it was prepared for since it last
    /// led.
    pub(in crate::supervisor) fn may_run(&self) -> bool {
        self.leadership.as_ref().is_none_or(|leadership| {
            let part = match (&leadership.role, leadership.config.mode) {
                (Role::Leader { .. }, _) => Some(Part::Leader),
                (Role::Replica, Mode::Role) => Some(Part::Replica),
                (Role::Replica, Mode::Standby) | (Role::Leaving { .. }, _) => None,
            };
            part.is_some() && (part == leadership.prepared || !keeps(Duty::RunAsPrepared))
        })
    }

    /// A `pre_start` begins: until all have succeeded main is prepared for nothing. The first is the one that may have it
    /// follow somebody; those after it that are told of another tell nobody whom.
    pub(in crate::supervisor) fn preparation_begins(&mut self, first: bool) {
        if let Some(leadership) = &mut self.leadership {
            leadership.prepared = None;
            let leader = leadership.acting_leader().cloned();
            match &mut leadership.prepared_for {
                Some(told) if !first => *told = told.take().filter(|told| Some(told) == leader.as_ref()),
                told => *told = Some(leader),
            }
        }
    }

    /// Whether another container is known to act as leader, or this one leads.
    pub(in crate::supervisor) fn knows_acting_leader(&self) -> bool {
        self.leadership.as_ref().is_none_or(|leadership| leadership.leads() || leadership.acting_leader().is_some())
    }

    /// What main is prepared for is no good.
    pub(in crate::supervisor) fn unprepare(&mut self) {
        if let Some(leadership) = &mut self.leadership {
            (leadership.prepared, leadership.remakes) = (None, true);
        }
    }

    /// Whether main is prepared anew because it didn't fit the leader.
    pub(in crate::supervisor) fn remakes(&self) -> bool {
        self.leadership.as_ref().is_some_and(|leadership| leadership.remakes)
    }

    /// Main starts: prepared, in its role, and its environment says who leads.
    pub(in crate::supervisor) fn main_takes_part(&mut self) {
        let Some(leadership) = &mut self.leadership else { return };
        leadership.part = if leadership.leads() { Part::Leader } else { Part::Replica };
        leadership.prepared = Some(leadership.part);
        leadership.remakes = false;
        // Who came to lead while main was prepared, or was down, is told to the hook.
        leadership.announced = match (leadership.prepared_for.take(), leadership.announced.take()) {
            (Some(told), _) => told,
            (None, Some(told)) => Some(told),
            (None, None) => leadership.acting_leader().cloned(),
        };
    }
}
