//! Consul's transactions: operations on keys that happen together or not at all.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::client::Client;
use super::error::Error;

/// One step of a transaction.
#[derive(Debug, Serialize)]
pub(super) struct Operation<'a> {
    #[serde(rename = "KV")]
    kv: TxnStep<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct TxnStep<'a> {
    verb: &'static str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
}

impl<'a> Operation<'a> {
    fn of(verb: &'static str, key: &'a str, value: Option<String>) -> Operation<'a> {
        Operation { kv: TxnStep { verb, key, value, index: None, session: None } }
    }

    /// Fails the transaction unless the key was last written as this; 0: unless it isn't there.
    pub(super) fn check_version(key: &'a str, version: u64) -> Operation<'a> {
        match version {
            0 => Operation::of("check-not-exists", key, None),
            index => Operation { kv: TxnStep { index: Some(index), ..Operation::of("check-index", key, None).kv } },
        }
    }

    /// Sets a key and locks it by a session.
    pub(super) fn lock(key: &'a str, value: &str, session: &'a str) -> Operation<'a> {
        let set = Operation::of("lock", key, Some(STANDARD.encode(value)));
        Operation { kv: TxnStep { session: Some(session), ..set.kv } }
    }

    /// Sets a key and frees it from a session.
    pub(super) fn unlock(key: &'a str, value: &str, session: &'a str) -> Operation<'a> {
        let set = Operation::of("unlock", key, Some(STANDARD.encode(value)));
        Operation { kv: TxnStep { session: Some(session), ..set.kv } }
    }

    /// Reads every key that begins with this one; no error when there is none, as with `get`.
    pub(super) fn get_tree(key: &'a str) -> Operation<'a> {
        Operation::of("get-tree", key, None)
    }

    /// Fails the transaction unless this session holds the key as a lock.
    pub(super) fn check_session(key: &'a str, session: &'a str) -> Operation<'a> {
        Operation { kv: TxnStep { session: Some(session), ..Operation::of("check-session", key, None).kv } }
    }

    /// Sets a key.
    pub(super) fn set(key: &'a str, value: impl AsRef<[u8]>) -> Operation<'a> {
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
    kv: TxnKey,
}

/// A key as a transaction read it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TxnKey {
    pub(super) key: String,
    /// Base64; null for an empty value.
    pub(super) value: Option<String>,
    /// As which it was last written.
    #[serde(default)]
    pub(super) modify_index: u64,
}

/// What came of a transaction with conditions.
#[derive(Debug)]
pub(super) enum TxnOutcome {
    /// All of it was done; what each key is now.
    Done(Vec<TxnKey>),
    /// None of it, and why: a condition that doesn't hold, a lock that isn't to be had.
    Refused(String),
}

impl Client {
    /// Carries out all steps, or none if one can't be. Sent once: who doesn't hear its outcome must look.
    pub(super) async fn attempt(&self, operations: &[Operation<'_>]) -> Result<TxnOutcome, Error> {
        self.attempt_by(Call::new(Method::PUT, &["txn"]).json(&operations)).await
    }

    /// The same for who follows something, and only reads.
    pub(super) async fn attempt_in_turn(&self, operations: &[Operation<'_>]) -> Result<TxnOutcome, Error> {
        self.attempt_by(Call::new(Method::PUT, &["txn"]).json(&operations).in_turn()).await
    }

    async fn attempt_by(&self, ask: Call) -> Result<TxnOutcome, Error> {
        let answer = self.ask(ask).await?;
        if answer.status == StatusCode::CONFLICT {
            return Ok(TxnOutcome::Refused(answer.beginning().into_owned()));
        }
        let done: Done = answer.good()?.parse_values()?;
        Ok(TxnOutcome::Done(done.results.into_iter().flatten().map(|outcome| outcome.kv).collect()))
    }

    /// Carries out all steps or none, and gives what they read. Consul's 409 is an error here as any other.
    pub(super) async fn transact(&self, operations: &[Operation<'_>]) -> Result<Vec<TxnKey>, Error> {
        let ask = Call::new(Method::PUT, &["txn"]).json(&operations);
        let done: Done = self.ask(ask).await?.good()?.parse_values()?;
        Ok(done.results.into_iter().flatten().map(|outcome| outcome.kv).collect())
    }
}
