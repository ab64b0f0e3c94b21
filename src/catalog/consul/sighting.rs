//! What Consul's servers have of an entry, beside what they are to have. It asks, and decides nothing.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;

use crate::config::Service;

use super::agent::KnownCheck;
use super::answer::Answer;
use super::call::Call;
use super::client::Client;
use super::error::{Error, Lack};

/// Begins the reason of a maintenance mode of ours. One that a person began has another, and stays.
pub(super) const OUR_REASON: &str = "pilotfish: ";

/// What the servers are to have of an entry.
#[derive(Debug)]
pub(super) struct WantedEntry<'a> {
    pub(super) service: &'a Service,
    pub(super) address: &'a str,
    /// Its tags, where they are nobody else's to change.
    pub(super) tags: Option<&'a [String]>,
    /// The check that says that we live, and its notes.
    pub(super) alive: (&'a str, &'a str),
    /// The check of its health, and the status of that, if there is one to be told.
    pub(super) health: (&'a str, Option<&'static str>),
    /// The check that keeps it out of the rotation, and whether it is to be there. One that a person put there stays.
    pub(super) maintenance: (&'a str, bool),
}

/// How the servers are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LookAt {
    /// The one that leads is asked for the whole entry: the agent was told of it just now.
    AtOnce,
    /// Any of them, for the whole entry: they go through all instances of the service for it.
    Whole,
    /// Any of them, for the checks of this host.
    Checks(String),
}

/// What they have said.
#[derive(Debug)]
pub(super) struct Sighting {
    /// The host it is on.
    pub(super) node: Option<String>,
    /// How far their store is, by the index of this question.
    pub(super) index: u64,
    /// By which write its check is as it is. One that registers the entry with other tags writes the check too.
    pub(super) written_at: Option<u64>,
    /// What they lack.
    pub(super) lack: Option<Lack>,
    /// The one that answered knows no leader.
    pub(super) leaderless: bool,
    /// Another host, whose agent has the same entry of ours, and hears from us.
    pub(super) also: Option<String>,
}

impl Sighting {
    fn of(answer: &Answer, written_at: Option<u64>, lack: Option<Lack>) -> Sighting {
        let index = answer.index.unwrap_or_default();
        Sighting { node: None, index, written_at, lack, leaderless: answer.leaderless, also: None }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Host,
    service: ListedService,
    checks: Vec<KnownCheck>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Host {
    node: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedService {
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: i64,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl WantedEntry<'_> {
    /// What is wrong with these checks.
    fn lacks_of(&self, checks: &[KnownCheck]) -> Option<Lack> {
        let check = |id: &str| checks.iter().find(|check| check.id == id);
        let (alive, notes) = self.alive;
        // Of another life, or of one of ours before.
        let Some(alive) = check(alive).filter(|check| check.notes == notes) else { return Some(Lack::Entry) };
        let (health, status) = self.health;
        let Some(health) = check(health) else { return Some(Lack::Entry) };
        let (maintenance, out) = self.maintenance;
        if alive.status != "passing" || status.is_some_and(|status| health.status != status) {
            return Some(Lack::Part("status"));
        }
        match check(maintenance) {
            None if out => Some(Lack::Part("maintenance mode")),
            Some(check) if !out && check.notes.starts_with(OUR_REASON) => {
                Some(Lack::Part("end of its maintenance mode"))
            }
            Some(_) | None => None,
        }
    }

    fn written_at(&self, checks: &[KnownCheck]) -> Option<u64> {
        checks.iter().find(|check| check.id == self.alive.0).map(|check| check.modify_index)
    }

    /// Whether its host lives, and its agent hears from us.
    fn is_heard(&self, entry: &Entry) -> bool {
        let is = |id: &str, status: &str| entry.checks.iter().any(|check| check.id == id && check.status == status);
        is(self.alive.0, "passing") && !is("serfHealth", "critical")
    }

    fn lacks_of_entry(&self, entry: &Entry) -> Option<Lack> {
        let ListedService { address, port, tags } = &entry.service;
        let lacks = self.lacks_of(&entry.checks);
        if lacks.is_some() {
            return lacks;
        }
        if address != self.address || *port != i64::from(self.service.port) {
            return Some(Lack::Part("address"));
        }
        let differ = self.tags.is_some_and(|wanted| tags.as_deref().unwrap_or_default() != wanted);
        differ.then_some(Lack::Part("tags"))
    }
}

/// A text in Consul's language of filters, which has two kinds of quotes; `None` of one with both in it.
fn quoted(text: &str) -> Option<String> {
    match (text.contains('`'), text.contains('"')) {
        (false, _) => Some(format!("`{text}`")),
        (true, false) => Some(format!("\"{}\"", text.replace('\\', "\\\\"))),
        (true, true) => None,
    }
}

/// Whether there is a question for an entry of this id.
pub(super) fn can_be_asked_for(id: &str) -> bool {
    quoted(id).is_some()
}

fn filter(field: &str, id: &str) -> String {
    format!("{field} == {}", quoted(id).unwrap_or_default())
}

fn entries(name: &str, id: &str) -> Call {
    Call::new(Method::GET, &["health", "service", name]).with("filter", &filter("Service.ID", id))
}

impl Client {
    /// What the servers lack of an entry.
    pub(super) async fn sighting(
        &self,
        wanted: &WantedEntry<'_>,
        look: &LookAt,
        within: Duration,
    ) -> Result<Sighting, Error> {
        let Service { name, id, .. } = wanted.service;
        let call = match look {
            LookAt::AtOnce => entries(name, id),
            LookAt::Whole => entries(name, id).with("stale", ""),
            LookAt::Checks(node) => {
                let checks = Call::new(Method::GET, &["health", "node", node]).with("stale", "");
                let answer = self.ask(checks.with("filter", &filter("ServiceID", id)).within(within)).await?.good()?;
                let checks: Vec<KnownCheck> = answer.parse()?;
                return Ok(Sighting::of(&answer, wanted.written_at(&checks), wanted.lacks_of(&checks)));
            }
        };
        let answer = self.ask(call.within(within)).await?.good()?;
        let entries: Vec<Entry> = answer.parse()?;
        let mut sighting = Sighting::of(&answer, None, Some(Lack::Entry));
        // An id is unique on one host only: another container's may be the same, on another.
        let ours = entries.into_iter().map(|entry| (wanted.lacks_of_entry(&entry), entry));
        for (lack, entry) in ours.filter(|(lack, _)| *lack != Some(Lack::Entry)) {
            if sighting.node.is_some() {
                sighting.also = sighting.also.or_else(|| wanted.is_heard(&entry).then_some(entry.node.node));
                continue;
            }
            (sighting.written_at, sighting.lack) = (wanted.written_at(&entry.checks), lack);
            sighting.node = Some(entry.node.node);
        }
        Ok(sighting)
    }

    /// Whether the servers still have an instance of this id whose check has these notes.
    pub(super) async fn servers_have(
        &self,
        service: &Service,
        (check, notes): (&str, &str),
        within: Duration,
    ) -> Result<bool, Error> {
        let answer = self.ask(entries(&service.name, &service.id).within(within)).await?.good()?;
        let ours = |entry: &Entry| entry.checks.iter().any(|other| other.id == check && other.notes == notes);
        Ok(answer.parse::<Vec<Entry>>()?.iter().any(ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(alive: &str, health: &str, more: &[(&str, &str)], port: u16, tags: &[&str]) -> Entry {
        let check =
            |id: &str, status: &str, notes: &str| serde_json::json!({"CheckID": id, "Status": status, "Notes": notes});
        let mut checks = vec![check("web:alive", alive, "ours"), check("web:health", health, "")];
        checks.extend(more.iter().map(|(id, notes)| check(id, "critical", notes)));
        serde_json::from_value(serde_json::json!({
            "Node": {"Node": "n1"},
            "Service": {"Address": "192.0.2.7", "Port": port, "Tags": tags},
            "Checks": checks,
        }))
        .unwrap()
    }

    #[test]
    fn any_id_is_quoted_but_one_with_both_kinds_of_quotes() {
        assert_eq!(quoted(r#"a"b\c"#).unwrap(), r#"`a"b\c`"#);
        assert_eq!(quoted(r"a`b\c").unwrap(), r#""a`b\\c""#);
        assert!(!can_be_asked_for("a`b\""));
    }

    #[test]
    fn what_the_servers_lack_of_an_entry_is_named() {
        let service = Service {
            name: "web".to_owned(),
            id: "web".to_owned(),
            port: 80,
            of: crate::config::ServiceOf::Main,
            tags: Vec::new(),
            meta: Default::default(),
            address: Vec::new(),
            ttl: Duration::from_secs(15),
            consul: crate::config::ConsulService { enable_tag_override: false, deregister_critical_after: None },
        };
        let wanted = WantedEntry {
            service: &service,
            address: "192.0.2.7",
            tags: Some(&[]),
            alive: ("web:alive", "ours"),
            health: ("web:health", Some("passing")),
            maintenance: ("_service_maintenance:web", false),
        };
        let person = [("_service_maintenance:web", "a disk")];
        let ours = [("_service_maintenance:web", "pilotfish: a disk")];
        for (entry, lack) in [
            (entry("passing", "passing", &[], 80, &[]), None),
            (entry("passing", "passing", &person, 80, &[]), None),
            (entry("passing", "passing", &ours, 80, &[]), Some(Lack::Part("end of its maintenance mode"))),
            (entry("passing", "critical", &[], 80, &[]), Some(Lack::Part("status"))),
            (entry("critical", "passing", &[], 80, &[]), Some(Lack::Part("status"))),
            (entry("passing", "passing", &[], 81, &[]), Some(Lack::Part("address"))),
            (entry("passing", "passing", &[], 80, &["primary"]), Some(Lack::Part("tags"))),
        ] {
            assert_eq!(wanted.lacks_of_entry(&entry), lack, "{entry:?}");
        }
        let out = WantedEntry { maintenance: ("_service_maintenance:web", true), ..wanted };
        let there = entry("passing", "passing", &[], 80, &[]);
        assert_eq!(out.lacks_of_entry(&there), Some(Lack::Part("maintenance mode")));
        assert_eq!(out.lacks_of(&[]), Some(Lack::Entry));
        assert!(out.is_heard(&there) && !out.is_heard(&entry("critical", "passing", &[], 80, &[])));
        assert!(!out.is_heard(&entry("passing", "passing", &[("serfHealth", "")], 80, &[])), "its host is down");
        let theirs = WantedEntry { alive: ("web:alive", "another life"), ..out };
        assert_eq!(theirs.lacks_of_entry(&there), Some(Lack::Entry));
    }
}
