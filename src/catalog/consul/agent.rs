//! The agent's own endpoints: services registered with it, their checks, their maintenance mode, its name.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::client::Client;
use super::error::Error;

/// A service as it is sent to be registered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RegisterBody<'a> {
    #[serde(rename = "ID")]
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) address: &'a str,
    pub(super) port: u16,
    pub(super) tags: &'a [String],
    pub(super) meta: &'a BTreeMap<String, String>,
    pub(super) enable_tag_override: bool,
    pub(super) checks: Vec<NewCheck>,
}

/// A TTL check as it is sent to be registered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NewCheck {
    #[serde(rename = "CheckID")]
    pub(super) id: String,
    pub(super) name: &'static str,
    #[serde(rename = "TTL")]
    pub(super) ttl: String,
    pub(super) status: &'static str,
    pub(super) notes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deregister_critical_service_after: Option<String>,
}

/// What the agent knows of one service.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Known {
    pub(super) service: Option<KnownService>,
    #[serde(default)]
    checks: Option<Vec<KnownCheck>>,
}

impl Known {
    /// The service's tags, where they are others' to change.
    pub(super) fn others_tags(&self) -> Option<&[String]> {
        let service = self.service.as_ref().filter(|service| service.enable_tag_override)?;
        Some(service.tags.as_deref().unwrap_or_default())
    }

    /// The check of this id.
    pub(super) fn check(&self, id: &str) -> Option<&KnownCheck> {
        self.checks.iter().flatten().find(|check| check.id == id)
    }
}

/// A registered service.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KnownService {
    pub(super) service: String,
    #[serde(default)]
    pub(super) tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) meta: Option<BTreeMap<String, String>>,
    pub(super) port: i64,
    pub(super) address: String,
    pub(super) enable_tag_override: bool,
}

/// A registered check.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KnownCheck {
    #[serde(rename = "CheckID")]
    pub(super) id: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) notes: String,
    #[serde(default)]
    pub(super) output: String,
    /// By which write it is as it is; the servers know.
    #[serde(default)]
    pub(super) modify_index: u64,
}

/// A check's status as it is sent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Update<'a> {
    status: &'a str,
    output: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Itself {
    config: ItsConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ItsConfig {
    node_name: String,
}

impl Client {
    /// The agent's node name.
    pub(super) async fn node_name(&self) -> Result<String, Error> {
        let answer = self.ask(Call::new(Method::GET, &["agent", "self"])).await?.good()?;
        Ok(answer.parse::<Itself>()?.config.node_name)
    }

    /// What the agent knows of a service; `None` when nothing.
    pub(super) async fn known(&self, id: &str, within: Duration) -> Result<Option<Known>, Error> {
        // Its status says how the service fares: 200 passing, 429 warning, 503 critical or in maintenance.
        let ask = Call::new(Method::GET, &["agent", "health", "service", "id", id]).within(within);
        let answer = self.ask(ask).await?;
        match answer.status {
            StatusCode::OK => {
                let known: Known = answer.parse()?;
                Ok(known.service.is_some().then_some(known))
            }
            // An agent that takes no more connections says 429 too, and one without servers, or a proxy, 503: in a sentence.
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => match answer.parse::<Known>() {
                Ok(known) => Ok(known.service.is_some().then_some(known)),
                Err(_) => Err(answer.refused()),
            },
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(answer.refused()),
        }
    }

    /// Registers a service, or changes it in place: checks that are there keep their status.
    pub(super) async fn register(&self, registration: &RegisterBody<'_>) -> Result<(), Error> {
        let ask = Call::new(Method::PUT, &["agent", "service", "register"]).json(registration);
        self.ask(ask).await?.good().map(drop)
    }

    /// Removes a service; done also when it isn't there.
    pub(super) async fn deregister(&self, id: &str) -> Result<(), Error> {
        let answer = self.ask(Call::new(Method::PUT, &["agent", "service", "deregister", id])).await?;
        let unknown = answer.status == StatusCode::NOT_FOUND
            // 1.8 answers 200 for an unknown id, and this with status 500 where ACLs are on; later ones 404.
            || answer.beginning().starts_with("Unknown service");
        match unknown {
            true => Ok(()),
            false => answer.good().map(drop),
        }
    }

    /// Feeds a TTL check; `false` when the agent knows no such check.
    pub(super) async fn update(
        &self,
        check: &str,
        status: &str,
        output: &str,
        within: Duration,
    ) -> Result<bool, Error> {
        let ask = Call::new(Method::PUT, &["agent", "check", "update", check]).json(&Update { status, output });
        let answer = self.ask(ask.within(within)).await?;
        let unknown = answer.status == StatusCode::NOT_FOUND
            // What 1.8 says with status 500.
            || answer.beginning().contains("does not have associated TTL");
        match unknown {
            true => Ok(false),
            false => answer.good().map(|_| true),
        }
    }

    /// Puts a service into maintenance or back.
    pub(super) async fn maintenance(&self, id: &str, reason: Option<&str>) -> Result<(), Error> {
        let ask = Call::new(Method::PUT, &["agent", "service", "maintenance", id]);
        let ask = match reason {
            Some(reason) => ask.with("enable", "true").with("reason", reason),
            None => ask.with("enable", "false"),
        };
        self.ask(ask).await?.good().map(drop)
    }

    /// Removes from the catalog what another agent, which can't be asked any more, had registered.
    pub(super) async fn forget(&self, node: &str, id: &str) -> Result<(), Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Gone<'a> {
            node: &'a str,
            #[serde(rename = "ServiceID")]
            service_id: &'a str,
        }
        let ask = Call::new(Method::PUT, &["catalog", "deregister"]).json(&Gone { node, service_id: id });
        self.ask(ask).await?.good().map(drop)
    }
}
