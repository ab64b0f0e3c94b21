//! What a catalog is told of a service.

use std::sync::Arc;

use serde::Serialize;

use crate::config::Service;

/// The address a service is registered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Advertised {
    /// The IP address.
    pub address: String,
    /// Why it and no other, in one phrase.
    pub why: String,
}

/// What the catalog shall say of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// As configured.
    pub service: Arc<Service>,
    /// Its status now.
    pub status: ServiceStatus,
    /// Why it has that status, for people.
    pub note: String,
    /// Why it is kept out of the rotation whatever its status, for people; `None`: it isn't.
    pub maintenance: Option<String>,
}

impl Registration {
    /// What an entry with room for one word and one reason says.
    pub fn in_short(&self) -> (&'static str, &str) {
        let reason = match (self.status, &self.maintenance) {
            (ServiceStatus::Passing | ServiceStatus::Critical, Some(reason)) => reason,
            (_, _) => &self.note,
        };
        (self.status.word(self.maintenance.is_some()), reason)
    }
}

/// A service's status in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceStatus {
    /// May be used.
    Passing,
    /// Not (yet) healthy.
    Critical,
    /// On its way out.
    Draining,
}
