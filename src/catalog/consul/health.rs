//! Which instances of a service pass, as Consul's health endpoint tells it.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::catalog::border::{Flaw, LeftOut, RawInstance};
use crate::catalog::bounds::{self, Allowance};
use crate::errors::cut;
use crate::supervisor::vocabulary::Instance;

use super::answer::Answer;
use super::call::Call;
use super::client::Client;
use super::elements::Element;
use super::error::Error;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EntryAnswer {
    node: NodeAnswer,
    service: ServiceAnswer,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeAnswer {
    node: String,
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceAnswer {
    #[serde(rename = "ID")]
    id: String,
    service: String,
    #[serde(default)]
    address: String,
    port: i64,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
}

impl From<EntryAnswer> for RawInstance {
    fn from(EntryAnswer { node, service }: EntryAnswer) -> RawInstance {
        RawInstance {
            id: service.id,
            node: Some(node.node),
            name: service.service,
            // Without an address of its own a service has its node's.
            address: if service.address.is_empty() { node.address } else { service.address },
            port: service.port,
            tags: service.tags.unwrap_or_default(),
            meta: service.meta.unwrap_or_default(),
        }
    }
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
    /// index beside them. What is no instance is left out.
    pub(super) async fn passing(
        &self,
        name: &str,
        tag: Option<&str>,
        datacenter: Option<&str>,
        after: u64,
        left_out: &mut LeftOut,
    ) -> Result<(Vec<Instance>, Answer), Error> {
        let ask = Call::new(Method::GET, &["health", "service", name])
            .with("passing", "true")
            .with_some("tag", tag)
            .with_some("dc", datacenter)
            .after(after)
            .in_turn();
        let (mut instances, mut allowance) = (Vec::new(), Allowance::default());
        // Of a list of nothing but what isn't an entry it would be wrong to say that it is empty.
        let mut no_entry = false;
        let answer = self.ask_for_list(ask, |element| {
            match instance(element) {
                // Consul's own filter takes `A` for `a`, and that of the other backends doesn't.
                Ok(instance) if tag.is_some_and(|tag| !instance.tags.iter().any(|own| own == tag)) => {
                    allowance.take(0).map_err(Error::TooMuch)?;
                }
                Ok(instance) => {
                    allowance.take(bounds::size(&instance)).map_err(Error::TooMuch)?;
                    instances.push(instance);
                }
                Err((place, flaw)) => {
                    // It takes no less time than one that is an instance.
                    allowance.take(0).map_err(Error::TooMuch)?;
                    no_entry |= matches!(flaw, Flaw::NoEntry(_));
                    left_out.say(&place, &flaw);
                }
            }
            Ok(())
        });
        let answer = answer.await?.good()?;
        if instances.is_empty() && no_entry {
            return Err(Error::NoList { endpoint: answer.endpoint });
        }
        // Ids are unique on one agent only: two nodes may have the same one at different addresses.
        instances.sort();
        Ok((instances, answer))
    }

    /// How much of a service the token may see. Consul leaves out of an answer what the token has no right to, and gives
    /// no error: an empty list may be one that is hidden.
    pub(super) async fn sight(&self, name: &str, datacenter: Option<&str>) -> Result<Sight, Error> {
        // Asked of what is refused, not left out, by the same servers. `/v1/internal/acl/authorize` won't do: an agent
        // answers it from its cache, which is half a minute behind when a policy has just lost a right.
        let may = async |segments: &[&str]| -> Result<bool, Error> {
            let answer = self.ask(Call::new(Method::GET, segments).with_some("dc", datacenter).in_turn()).await?;
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
        // Rules for some nodes are a choice, none at all is an oversight.
        let nodes = Call::new(Method::GET, &["catalog", "nodes"]).with_some("dc", datacenter).in_turn();
        let mut sight = Sight::NoNode;
        let answer = self.ask_for_list(nodes, |_| {
            sight = Sight::SomeNodes;
            Ok(())
        });
        answer.await?.good()?;
        Ok(sight)
    }
}

/// What an element of the answer says, or what it is called and what is wrong with it.
pub(super) fn instance(element: Element<'_>) -> Result<Instance, (String, Flaw)> {
    let json = match element {
        Element::Whole(json) => json,
        Element::TooLong => return Err(("an entry".to_owned(), Flaw::TooLarge)),
    };
    let entry: EntryAnswer = match serde_json::from_slice(json) {
        Ok(entry) => entry,
        Err(error) => return Err(("an entry".to_owned(), Flaw::NoEntry(cut(&error)))),
    };
    let place = format!("{} on {}", entry.service.id, entry.node.node);
    RawInstance::from(entry).instance().map_err(|flaw| (place, flaw))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, port: i64, address: &str) -> String {
        format!(
            r#"{{"Node": {{"Node": "n1", "Address": "10.0.0.1"}}, "Service": {{"ID": "{id}", "Service": "web", "Address": "{address}", "Port": {port}, "Tags": null, "Meta": null}}, "Checks": []}}"#
        )
    }

    #[test]
    fn an_instance_without_an_address_has_its_nodes() {
        let found = instance(Element::Whole(entry("web-1", 80, "").as_bytes())).unwrap();
        assert_eq!((found.address.as_str(), found.node.as_deref(), found.port), ("10.0.0.1", Some("n1"), 80));
    }

    #[test]
    fn what_is_no_instance_is_known_by_its_id_and_node() {
        let (place, flaw) = instance(Element::Whole(entry("evil", 70000, "").as_bytes())).unwrap_err();
        assert_eq!((place.as_str(), flaw), ("evil on n1", Flaw::Port(70000)));
        let (_, flaw) = instance(Element::Whole(entry("evil", 80, "1; } server {").as_bytes())).unwrap_err();
        assert!(matches!(flaw, Flaw::Address(_)));
        let (_, flaw) = instance(Element::Whole(b"7")).unwrap_err();
        assert!(matches!(flaw, Flaw::NoEntry(_)));
    }
}
