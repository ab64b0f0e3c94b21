//! Which instances of a service pass, as Consul's health endpoint tells it.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};

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

    /// Whether the token sees nothing of a service that may well be there. Consul answers a token without the right
    /// with an empty list, which looks as if nobody were healthy.
    pub(super) async fn blind(&self, name: &str) -> bool {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Right<'a> {
            resource: &'static str,
            access: &'static str,
            segment: &'a str,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Allowed {
            allow: bool,
        }
        let right = Right { resource: "service", access: "read", segment: name };
        let ask = Ask::new(Method::POST, &["internal", "acl", "authorize"]).json(&[right]);
        // Consul's own UI asks this; where it is refused (no ACLs: 401) or gone, an empty list is taken as such.
        match self.ask(ask).await.and_then(Answer::good).and_then(|answer| answer.parse::<Vec<Allowed>>()) {
            Ok(rights) => rights.iter().any(|right| !right.allow),
            Err(_) => false,
        }
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
