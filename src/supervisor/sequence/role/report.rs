//! What people are told of a container's part in its election.

use crate::config::election::{Mode, Preference};
use crate::supervisor::vocabulary::{ElectionStatus, LeaderStatus, RanksStatus, WitnessStatus, foreign_lock};

use super::{Leadership, Leaving, Promotion, Role};

/// What is so where the lock is held under one's own id.
const NAMESAKE: &str = "another container holds the lock under this one's id: give each an [election] id of its own";
const FORMER_LIFE: &str = "the lock is still held from before this container's restart";

impl Leadership {
    /// Whether all is well although main doesn't run: a standby that could lead, and reaches the store.
    pub fn stands_by(&self) -> bool {
        let could_lead = self.core.has_seen() && !self.core.refuses() && self.core.namesake() != Some(true);
        self.config.mode == Mode::Standby && matches!(self.role, Role::Replica) && could_lead
    }

    /// What it waits for then, for people.
    pub fn stands_by_for(&self) -> String {
        let leads = match (&self.foreign, self.known_leader(), self.core.namesake()) {
            (Some((key, stays)), ..) => foreign_lock(key, *stays),
            (None, Some(leader), _) => format!("{} leads", leader.id),
            (None, None, Some(true)) => NAMESAKE.to_owned(),
            (None, None, Some(false)) => FORMER_LIFE.to_owned(),
            (None, None, None) => "nobody leads".to_owned(),
        };
        match self.core.error() {
            None => leads,
            Some(error) => format!("{leads}, as far as is known: {error}"),
        }
    }

    /// For `/status`.
    pub fn status(&self) -> ElectionStatus {
        let leader = self.known_leader().map(|leader| LeaderStatus {
            id: leader.id.to_string(),
            address: leader.address.as_ref().map(|address| address.to_string()),
            term: leader.term,
            acts: self.acts(leader),
        });
        let acts = matches!(self.role, Role::Leader { promotion: Promotion::Done, .. });
        let never = self.config.prefer == Preference::Never;
        let foreign = self.foreign.as_ref().map(|(key, stays)| foreign_lock(key, *stays));
        let resting;
        let doing = match self.role {
            Role::Replica if self.core.refuses() => {
                "refusing to lead: a store with a lower term (`pilotfish term --accept` takes it)"
            }
            Role::Replica if self.core.waits_for_ranks().is_some() => "holding the lock, and waiting for ranks",
            Role::Replica if self.core.waits_for_lease() => {
                "holding the lock, and waiting for the lease to be confirmed"
            }
            Role::Replica if self.core.is_releasing() => "giving the lock back",
            Role::Replica if self.core.term().is_some() => "waiting until the last leader can't act any more",
            Role::Replica if foreign.is_some() => foreign.as_deref().unwrap_or_default(),
            Role::Replica if leader.is_some() && never => "following; it never stands (`prefer = \"never\"`)",
            Role::Replica if leader.is_some() => "following",
            Role::Replica if self.core.namesake() == Some(true) => NAMESAKE,
            Role::Replica if self.core.namesake() == Some(false) => FORMER_LIFE,
            Role::Replica if self.core.failures() > 0 => {
                let times = match self.core.failures() {
                    1 => "once".to_owned(),
                    failures => format!("{failures} times in a row"),
                };
                resting = format!("waiting for a leader, after leading has failed {times} here");
                &resting
            }
            Role::Replica if never => "waiting for a leader; it never stands (`prefer = \"never\"`)",
            Role::Replica => "waiting for a leader",
            Role::Leader { promotion: Promotion::Clearing { .. }, .. } => "stopping what runs for a replica",
            Role::Leader { promotion: Promotion::Due, .. } => "waiting for main to be promoted",
            Role::Leader { promotion: Promotion::Running(_), .. } => "running on_promote",
            Role::Leader { promotion: Promotion::Done, .. } => "leading",
            Role::Leaving { stage: Leaving::Demoting { .. } | Leaving::Demoted, .. } => "running on_demote",
            Role::Leaving { stage: Leaving::Clearing | Leaving::Stopping, .. } => "stopping what acts for the leader",
        };
        ElectionStatus {
            name: self.config.name.clone(),
            id: self.config.id.clone(),
            role: if self.leads() { "leader" } else { "replica" }.to_owned(),
            promoted: acts,
            doing: doing.to_owned(),
            leader,
            leaderships: self.leaderships,
            error: self.core.error().map(str::to_owned),
            ranks: self.core.waits_for_ranks().map(|waiting| RanksStatus {
                known: waiting.known.iter().map(ToString::to_string).collect(),
                quorum: waiting.quorum,
                missing: waiting.missing.iter().map(ToString::to_string).collect(),
                ahead: waiting.ahead.map(|id| id.to_string()),
                own_missing: waiting.own_missing,
                waiting_since: waiting.since,
            }),
            loss_accepted: self.core.accepts_loss(),
            witness: self.config.witness.as_ref().map(|directory| WitnessStatus {
                directory: directory.display().to_string(),
                stands: self.witness == Some(Ok(())),
                error: self.witness.clone().and_then(Result::err),
            }),
        }
    }
}
