//! Which instances of a service pass, as Consul's health endpoint tells it.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::supervisor::event::Instance;

use super::client::{Answer, Ask, Client};
use super::error::Error;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    service: String,
    #[serde(default)]
    address: String,
    port: u16,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
}

/// How much of a service the token may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Each of its instances.
    All,
    /// Those on some nodes.
    SomeNodes,
    /// None: it may not read the service.
    NotTheService,
    /// None: it may read no node, and every instance is on one.
    NoNode,
}

/// A node that doesn't exist, and that no rule but one for all nodes is for.
const ANY_NODE: &str = "-";

impl Client {
    /// The passing instances of a service as soon as something is newer than `after`, sorted by id; the answer's
    /// index beside them.
    pub(super) async fn passing(
        &self,
        name: &str,
        tag: Option<&str>,
        datacenter: Option<&str>,
        after: u64,
    ) -> Result<(Vec<Instance>, Answer), Error> {
        let ask = Ask::new(Method::GET, &["health", "service", name])
            .with("passing", "true")
            .with_some("tag", tag)
            .with_some("dc", datacenter)
            .after(after);
        let answer = self.ask(ask).await?.good()?;
        let entries: Vec<Entry> = answer.parse()?;
        Ok((instances(entries), answer))
    }

    /// How much of a service the token may see. Consul leaves out of an answer what the token has no right to, and gives
    /// no error: an empty list may be one that is hidden.
    pub(super) async fn sight(&self, name: &str, datacenter: Option<&str>) -> Result<Sight, Error> {
        // Asked of what is refused, not left out, by the same servers. `/v1/internal/acl/authorize` won't do: an agent
        // answers it from its cache, which is half a minute behind when a policy has just lost a right.
        let may = async |segments: &[&str]| -> Result<bool, Error> {
            let answer = self.ask(Ask::new(Method::GET, segments).with_some("dc", datacenter)).await?;
            match answer.status {
                StatusCode::FORBIDDEN => Ok(false),
                StatusCode::NOT_FOUND => Ok(true),
                _ => answer.good().map(|_| true),
            }
        };
        if !may(&["config", "service-defaults", name]).await? {
            return Ok(Sight::NotTheService);
        }
        if may(&["coordinate", "node", ANY_NODE]).await? {
            return Ok(Sight::All);
        }
        // Rules for some nodes are a wish, none at all is an oversight.
        let nodes = self.ask(Ask::new(Method::GET, &["catalog", "nodes"]).with_some("dc", datacenter)).await?.good()?;
        Ok(match nodes.parse::<Vec<serde::de::IgnoredAny>>()?.is_empty() {
            true => Sight::NoNode,
            false => Sight::SomeNodes,
        })
    }
}

fn instances(entries: Vec<Entry>) -> Vec<Instance> {
    let mut instances: Vec<Instance> = entries
        .into_iter()
        .map(|Entry { node, service }| Instance {
            id: service.id,
            name: service.service,
            // Without an address of its own a service has its node's.
            address: if service.address.is_empty() { node.address } else { service.address },
            port: service.port,
            tags: service.tags.unwrap_or_default(),
            meta: service.meta.unwrap_or_default(),
        })
        .collect();
    // Ids are unique on one agent only: two nodes may have the same one at different addresses.
    instances.sort();
    instances
}
