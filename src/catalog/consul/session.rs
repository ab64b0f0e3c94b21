//! Consul's sessions: what a lock is held by.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::client::Client;
use super::error::Error;

/// How long a session outlives its last renewal, at most twice (measured: exactly twice). It only cleans up: what ends
/// a session in time are its checks. The shortest Consul takes.
pub(super) const TTL: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewSession<'a> {
    name: &'a str,
    node_checks: [&'static str; 1],
    service_checks: Vec<ServiceCheck<'a>>,
    #[serde(flatten)]
    holds: Holds,
}

/// What becomes of a session and of the keys it holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Holds {
    lock_delay: String,
    #[serde(rename = "TTL")]
    ttl: String,
    behavior: &'static str,
}

impl Holds {
    /// A lock: when the session ends, it is free, and withheld from everyone for so long.
    pub(super) fn a_lock(lock_delay: Duration) -> Holds {
        let lock_delay = format!("{}ms", lock_delay.as_millis());
        Holds { lock_delay, ttl: format!("{}s", TTL.as_secs()), behavior: "release" }
    }

    /// A value that goes with the session, which is never renewed and lasts for so long, or twice as long.
    pub(super) fn a_value(lasts: Duration) -> Holds {
        let lasts = lasts.max(TTL);
        Holds { lock_delay: "0s".to_owned(), ttl: format!("{}s", lasts.as_secs()), behavior: "delete" }
    }
}

#[derive(Debug, Serialize)]
struct ServiceCheck<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
}

#[derive(Debug, Deserialize)]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct About {
    /// In nanoseconds.
    lock_delay: u64,
    /// As which it was opened.
    create_index: u64,
}

impl Client {
    /// Opens a session that ends with this host's health, and with a service's check, if one is given; its id.
    pub(super) async fn open_session(&self, name: &str, check: Option<&str>, holds: Holds) -> Result<String, Error> {
        let session = NewSession {
            name,
            node_checks: ["serfHealth"],
            service_checks: check.iter().map(|id| ServiceCheck { id }).collect(),
            holds,
        };
        let ask = Call::new(Method::PUT, &["session", "create"]).json(&session);
        Ok(self.ask(ask).await?.good()?.parse::<Created>()?.id)
    }

    /// How long a session's locks are withheld from everyone when it ends, and as which it was opened; `None` when there is
    /// no such session.
    pub(super) async fn lock_delay(&self, session: &str) -> Result<Option<(Duration, u64)>, Error> {
        let ask = Call::new(Method::GET, &["session", "info", session]).with("consistent", "");
        let about: Option<Vec<About>> = self.ask(ask).await?.good()?.parse()?;
        Ok(about
            .and_then(|mut about| about.pop())
            .map(|about| (Duration::from_nanos(about.lock_delay), about.create_index)))
    }

    /// Renews a session; `false` when there is none: the one clear word of its loss.
    pub(super) async fn renew_session(&self, session: &str) -> Result<bool, Error> {
        let answer = self.ask(Call::new(Method::PUT, &["session", "renew", session])).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(false),
            _ => answer.good().map(|_| true),
        }
    }

    /// Ends a session; done also when there is none.
    pub(super) async fn destroy_session(&self, session: &str) -> Result<(), Error> {
        self.ask(Call::new(Method::PUT, &["session", "destroy", session])).await?.good().map(drop)
    }
}
