//! Which etcd keys the catalog uses and what stands in them.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::catalog::border::RawInstance;
use crate::supervisor::vocabulary::{Instance, Registration, ServiceStatus};

/// What can't stand in a name between two slashes.
const PART: &AsciiSet = &CONTROLS.add(b'/').add(b'%');

/// The key space below one prefix.
#[derive(Debug)]
pub(super) struct Layout {
    prefix: String,
}

/// What stands in an instance's key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EntryValue {
    id: String,
    name: String,
    address: String,
    port: i64,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    status: Status,
    #[serde(default)]
    note: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Passing,
    Critical,
    Draining,
    Maintenance,
}

impl EntryValue {
    pub(super) fn new(instance: Instance, registration: &Registration) -> EntryValue {
        let Instance { id, node: _, name, address, port, tags, meta } = instance;
        let (_, note) = registration.in_short();
        let status = match (registration.status, &registration.maintenance) {
            (ServiceStatus::Passing, None) => Status::Passing,
            (ServiceStatus::Critical, None) => Status::Critical,
            (ServiceStatus::Passing | ServiceStatus::Critical, Some(_)) => Status::Maintenance,
            (ServiceStatus::Draining, _) => Status::Draining,
        };
        EntryValue { id, name, address, port: i64::from(port), tags, meta, status, note: note.to_owned() }
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }

    /// Whether it says that the instance may be used.
    pub(super) fn is_passing(&self) -> bool {
        self.status == Status::Passing
    }

    /// What it says of the instance, if that may be used.
    pub(super) fn passing(self) -> Option<RawInstance> {
        let EntryValue { id, name, address, port, tags, meta, status, note: _ } = self;
        (status == Status::Passing).then_some(RawInstance { id, node: None, name, address, port, tags, meta })
    }
}

impl Layout {
    pub(super) fn new(prefix: &str) -> Layout {
        Layout { prefix: prefix.trim_end_matches('/').to_owned() }
    }

    /// Where an instance stands.
    pub(super) fn instance(&self, name: &str, id: &str) -> String {
        format!("{}{}", self.instances(name), utf8_percent_encode(id, PART))
    }

    /// What every instance of a service begins with.
    pub(super) fn instances(&self, name: &str) -> String {
        format!("{}/services/{}/", self.prefix, utf8_percent_encode(name, PART))
    }

    /// What every key of an election begins with.
    pub(super) fn election(&self, name: &str) -> String {
        format!("{}/elections/{}/", self.prefix, utf8_percent_encode(name, PART))
    }

    /// Where a candidate's rank stands.
    pub(super) fn rank(&self, election: &str, id: &str) -> String {
        format!("{}{}", self.ranks(election), utf8_percent_encode(id, PART))
    }

    /// What every rank of an election begins with.
    pub(super) fn ranks(&self, election: &str) -> String {
        format!("{}ranks/", self.election(election))
    }

    /// Where a key's value stands.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}/keys/{key}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_in_a_name_is_no_level() {
        let layout = Layout::new("/pilotfish/");
        assert_eq!(layout.instance("a/b", "c%d"), "/pilotfish/services/a%2Fb/c%25d");
        assert_eq!(layout.key("mysql/snapshot"), "/pilotfish/keys/mysql/snapshot");
    }

    #[test]
    fn people_are_told_where_the_lock_stands() {
        use crate::config::backends::{Etcd, Tls};
        use crate::config::{Backend, Catalog};
        let tls = Tls { ca: None, identity: None, server_name: None };
        let etcd = Etcd { endpoints: Vec::new(), login: None, tls };
        let catalog = Catalog { backend: Backend::Etcd(Box::new(etcd)), prefix: "a/b".to_owned() };
        let election = Layout::new(&catalog.prefix).election("prod/db");
        assert_eq!(catalog.lock_key("prod/db"), Some(format!("{election}leader")));
    }

    #[test]
    fn an_entry_with_a_status_nobody_knows_is_refused() {
        let json = r#"{"id": "a", "name": "a", "address": "::1", "port": 1, "status": "fine"}"#;
        assert!(serde_json::from_str::<EntryValue>(json).is_err());
    }
}
