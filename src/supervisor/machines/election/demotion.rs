//! Why a leadership ends.

use std::fmt;

use super::record::Id;

/// Why a leader stops leading.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DemotionReason {
    /// The store didn't confirm the lease in time.
    Silence,
    /// The agent slept past its deadline.
    Overslept,
    /// The lock isn't ours any more.
    Lost,
    /// Promoting failed.
    PromotionFailed(String),
    /// A health check.
    Unhealthy,
    /// Maintenance.
    Maintenance,
    /// It was asked to.
    StepDown,
    /// Its main ended.
    MainEnded,
    /// The container stops.
    Stop,
    /// A peer is further ahead.
    Outranked(Id),
}

impl DemotionReason {
    /// Whether somebody wants it so, and nothing is wrong.
    pub fn is_ordered(&self) -> bool {
        matches!(self, DemotionReason::StepDown | DemotionReason::Maintenance | DemotionReason::Stop)
    }
}

impl fmt::Display for DemotionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DemotionReason::Silence => write!(f, "the catalog hasn't confirmed the lease in time"),
            DemotionReason::Overslept => write!(f, "this container stood still past its lease's end"),
            DemotionReason::Lost => write!(f, "the lock is somebody else's or nobody's"),
            DemotionReason::PromotionFailed(error) => write!(f, "on_promote failed: {error}"),
            DemotionReason::Unhealthy => write!(f, "main is unhealthy"),
            DemotionReason::Maintenance => write!(f, "maintenance"),
            DemotionReason::StepDown => write!(f, "asked to"),
            DemotionReason::MainEnded => write!(f, "main ended"),
            DemotionReason::Stop => write!(f, "the container stops"),
            DemotionReason::Outranked(peer) => write!(f, "{peer} is further ahead"),
        }
    }
}
