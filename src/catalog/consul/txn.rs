//! Consul's transactions: operations on keys that happen together or not at all.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::client::{Ask, Client};
use super::error::Error;

/// One step of a transaction.
#[derive(Debug, Serialize)]
pub(super) struct Operation<'a> {
    #[serde(rename = "KV")]
    kv: Step<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Step<'a> {
    verb: &'static str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

impl<'a> Operation<'a> {
    fn of(verb: &'static str, key: &'a str, value: Option<String>) -> Operation<'a> {
        Operation { kv: Step { verb, key, value } }
    }

    /// Reads every key that begins with this one; no error when there is none, as with `get`.
    pub(super) fn get_tree(key: &'a str) -> Operation<'a> {
        Operation::of("get-tree", key, None)
    }

    /// Sets a key.
    pub(super) fn set(key: &'a str, value: &str) -> Operation<'a> {
        Operation::of("set", key, Some(STANDARD.encode(value)))
    }

    /// Removes a key.
    pub(super) fn delete(key: &'a str) -> Operation<'a> {
        Operation::of("delete", key, None)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Done {
    #[serde(default)]
    results: Option<Vec<Outcome>>,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    #[serde(rename = "KV")]
    kv: Found,
}

/// A key as a transaction read it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Found {
    pub(super) key: String,
    /// Base64; null for an empty value.
    pub(super) value: Option<String>,
}

impl Client {
    /// Carries out all steps or none, and gives what they read. Consul's 409 is an error here as any other.
    pub(super) async fn transact(&self, operations: &[Operation<'_>]) -> Result<Vec<Found>, Error> {
        let ask = Ask::new(Method::PUT, &["txn"]).json(&operations);
        let done: Done = self.ask(ask).await?.good()?.parse()?;
        Ok(done.results.into_iter().flatten().map(|outcome| outcome.kv).collect())
    }
}
