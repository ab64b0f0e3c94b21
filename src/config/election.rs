//! `[election]`, made safe: who stands against whom, how long a leader may act on its last proof, and what must fit
//! into that.

use std::time::Duration;

use super::Hook;

/// How often a leader renews its lease: a second lost is a second less to act on, and the engine is asked by leaders
/// only.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Past this a request of an election has no known outcome. A healthy engine answers in milliseconds.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(2);
/// What stepping down in peace may take unless `on_demote` says otherwise; without that hook it is what main has to
/// end after its stop signal.
pub const DEMOTE_WITHIN: Duration = Duration::from_secs(5);

/// `[election]`: one of several containers leads.
#[derive(Debug, Clone, PartialEq)]
pub struct Election {
    /// Who stands against whom.
    pub name: String,
    /// This candidate's name, unique in the election: its service's id, else `<name>-<hostname>`.
    pub id: String,
    /// The id of the service whose address is the leader's.
    pub service: Option<String>,
    /// Whether all run and one leads, or only the leader runs.
    pub mode: Mode,
    /// How long a leader may act on its last proof.
    pub lease: Duration,
    /// How soon a dead agent is noticed (Consul).
    pub alive_ttl: Duration,
    /// How long each part of leading may take.
    pub pace: Pace,
    /// Whether an ill main keeps it from standing and from leading.
    pub require_health: bool,
    /// How eager it is.
    pub prefer: Preference,
    /// A command that prints how far this candidate is.
    pub rank: Option<Hook>,
    /// What happens at a start in an outage.
    pub without_catalog: WithoutCatalog,
    /// Tags that tell the role in the catalog.
    pub role_tags: Option<RoleTags>,
    /// What is killed at the deadline, and how surely.
    pub fence: Fence,
}

/// Whether all run and one leads, or only the leader runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All run, one leads.
    Role,
    /// Only the leader's main runs.
    Standby,
}

/// How eager a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preference {
    /// As any other.
    Normal,
    /// Leaves a free lock to others for a while.
    Low,
    /// Never stands.
    Never,
}

/// What happens at a start in an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutCatalog {
    /// The start waits for the election's first result.
    Wait,
    /// It starts as a replica.
    Replica,
}

/// Tags that tell the role in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleTags {
    /// The leader's.
    pub leader: String,
    /// Everybody else's.
    pub replica: String,
}

/// What is killed at the deadline, and how surely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Everything in the container: needs to be PID 1, or alone in a cgroup that can be killed.
    Namespace,
    /// Main's process group, which a child may have left.
    ProcessGroup,
}

/// When something is done: always, or in one role only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    /// In every role.
    #[default]
    Always,
    /// While this container leads.
    Leader,
    /// While it doesn't.
    Replica,
}

impl When {
    /// Whether it is done in this role.
    pub fn applies(self, leads: bool) -> bool {
        match self {
            When::Always => true,
            When::Leader => leads,
            When::Replica => !leads,
        }
    }
}

/// How long each part of leading may take.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pace {
    /// From one renewal to the next.
    pub renew: Duration,
    /// Past this a request has no known outcome.
    pub request: Duration,
    /// What stepping down in peace may take.
    pub demote: Duration,
    /// SIGKILL comes this long before another may lead.
    pub kill_margin: Duration,
}

impl Pace {
    /// The shortest lease that loses no leader to two lost requests: one pause between renewals, two requests without
    /// an answer, stepping down, and the kill margin.
    pub fn least(&self) -> Duration {
        self.renew + 2 * self.request + self.demote + self.kill_margin
    }
}
