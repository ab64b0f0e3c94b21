//! Consul's keys and values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::client::{Answer, Ask, Client};
use super::error::Error;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    key: String,
    /// Base64; null for an empty value.
    value: Option<String>,
}

/// The path of a key, by its segments.
fn path(key: &str) -> Result<Vec<&str>, Error> {
    let segments = key.trim_end_matches('/').split('/');
    // URL parsers and Consul's own router fold these away: the request would go to another key.
    if segments.clone().any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(Error::Name { what: "key", name: key.to_owned() });
    }
    Ok(std::iter::once("kv").chain(key.split('/')).collect())
}

impl Client {
    /// A key's value as soon as something is newer than `after`; the answer's index beside it.
    pub(super) async fn key(&self, key: &str, after: u64) -> Result<(Option<String>, Answer), Error> {
        let ask = Ask::new(Method::GET, &path(key)?).with("raw", "").with_some("dc", self.datacenter()).after(after);
        let answer = self.ask(ask).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok((None, answer));
        }
        let mut answer = answer.good()?;
        let value =
            String::from_utf8(std::mem::take(&mut answer.body)).map_err(|_| Error::NotText { key: key.to_owned() })?;
        Ok((Some(value), answer))
    }

    /// Every key below a prefix as soon as something is newer than `after`, sorted; the answer's index beside them.
    pub(super) async fn keys(&self, prefix: &str, after: u64) -> Result<(Vec<(String, String)>, Answer), Error> {
        let segments = if prefix.is_empty() { vec!["kv", ""] } else { path(prefix)? };
        let ask = Ask::new(Method::GET, &segments).with("recurse", "").with_some("dc", self.datacenter()).after(after);
        let answer = self.ask(ask).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok((Vec::new(), answer));
        }
        let answer = answer.good()?;
        let mut keys = Vec::new();
        for Pair { key, value } in answer.parse::<Vec<Pair>>()? {
            let bytes = STANDARD.decode(value.unwrap_or_default()).ok();
            match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(value) => keys.push((key, value)),
                None => return Err(Error::NotText { key }),
            }
        }
        keys.sort();
        Ok((keys, answer))
    }

    /// Sets a key.
    pub(super) async fn put(&self, key: &str, value: &str) -> Result<(), Error> {
        let ask = Ask::new(Method::PUT, &path(key)?).with_some("dc", self.datacenter()).body(value);
        self.ask(ask).await?.good().map(drop)
    }

    /// Removes a key; done also when there is none.
    pub(super) async fn delete(&self, key: &str) -> Result<(), Error> {
        let ask = Ask::new(Method::DELETE, &path(key)?).with_some("dc", self.datacenter());
        self.ask(ask).await?.good().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_router_would_fold_into_another_is_refused() {
        for key in ["", "a//b", "../acl", "a/./b", "a/..", "/a"] {
            assert!(path(key).is_err(), "{key:?}");
        }
        assert_eq!(path("a/b c").unwrap(), ["kv", "a", "b c"]);
        assert_eq!(path("a/b/").unwrap(), ["kv", "a", "b", ""]);
    }
}
