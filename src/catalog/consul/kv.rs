//! Consul's keys and values. Most keys go into a path as they are; one with an empty, `.` or `..` part between its
//! slashes would be folded into another by URL parsers and Consul's own router, so it travels in a transaction's body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::client::{Answer, Ask, Client};
use super::error::Error;
use super::txn::{Attempt, Operation};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    key: String,
    /// Base64; null for an empty value.
    value: Option<String>,
}

/// A key as it stands in the store.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Stored {
    value: Option<String>,
    /// Who holds it as a lock.
    pub(super) session: Option<String>,
    /// As which it was last written.
    pub(super) modify_index: u64,
}

impl Stored {
    /// Its value; nothing when that is no Base64, which Consul never sends.
    pub(super) fn bytes(&self) -> Vec<u8> {
        STANDARD.decode(self.value.as_deref().unwrap_or_default()).unwrap_or_default()
    }
}

/// The part of a key or prefix before whatever a router would fold away: all of it, for most.
fn foldless(key: &str) -> &str {
    let mut start = 0;
    for (place, segment) in key.split('/').enumerate() {
        let last = start + segment.len() == key.len();
        // One slash at the end is kept by all.
        let folded = matches!(segment, "." | "..") || (segment.is_empty() && !(last && place > 0));
        if folded {
            return &key[..start];
        }
        start += segment.len() + 1;
    }
    key
}

/// Whether a path leads to this key. Without any, the path of the whole store would be meant.
fn has_path(key: &str) -> bool {
    !key.is_empty() && foldless(key) == key
}

fn ask(method: Method, key: &str) -> Ask {
    let segments: Vec<&str> = std::iter::once("kv").chain(key.split('/')).collect();
    Ask::new(method, &segments)
}

fn text(key: &str, bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| Error::NotText { key: key.to_owned() })
}

fn decoded(key: &str, value: Option<String>) -> Result<String, Error> {
    let bytes = STANDARD.decode(value.unwrap_or_default());
    text(key, bytes.map_err(|_| Error::NotText { key: key.to_owned() })?)
}

impl Client {
    /// A key's value now.
    pub(super) async fn get(&self, key: &str) -> Result<Option<String>, Error> {
        if has_path(key) {
            return Ok(self.key(key, 0).await?.0);
        }
        let results = self.transact(&[Operation::get_tree(key)]).await?;
        match results.into_iter().find(|pair| pair.key == key) {
            Some(pair) => decoded(key, pair.value).map(Some),
            None => self.may_read(key).await.map(|()| None),
        }
    }

    /// A key's value as soon as something is newer than `after`; the answer's index beside it.
    pub(super) async fn key(&self, key: &str, after: u64) -> Result<(Option<String>, Answer), Error> {
        if !has_path(key) {
            let (keys, answer) = self.list(key, after).await?;
            let value = keys.into_iter().find(|(found, _)| found == key).map(|(_, value)| value);
            if value.is_none() {
                self.may_read(key).await?;
            }
            return Ok((value, answer));
        }
        let ask = ask(Method::GET, key).with("raw", "").after(after);
        let answer = self.ask(ask).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok((None, answer));
        }
        let mut answer = answer.good()?;
        let value = text(key, std::mem::take(&mut answer.body))?;
        Ok((Some(value), answer))
    }

    /// A key as the majority has it, as soon as something is newer than `after`; the answer beside it.
    pub(super) async fn stored(&self, key: &str, after: u64) -> Result<(Option<Stored>, Answer), Error> {
        let answer = self.ask(ask(Method::GET, key).with("consistent", "").after(after)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok((None, answer));
        }
        let answer = answer.good()?;
        let stored = answer.parse::<Vec<Stored>>()?.pop();
        Ok((stored, answer))
    }

    /// Every key that begins with a prefix as soon as something is newer than `after`, sorted; the answer's index
    /// beside them.
    pub(super) async fn keys(&self, prefix: &str, after: u64) -> Result<(Vec<(String, String)>, Answer), Error> {
        let (keys, answer) = self.list(prefix, after).await?;
        if keys.is_empty() {
            self.may_read(prefix).await?;
        }
        Ok((keys, answer))
    }

    /// What there is of these keys, as far as the token may read them: the others Consul leaves out, without an error.
    async fn list(&self, prefix: &str, after: u64) -> Result<(Vec<(String, String)>, Answer), Error> {
        let ask = ask(Method::GET, foldless(prefix));
        let answer = self.ask(ask.with("recurse", "").after(after)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok((Vec::new(), answer));
        }
        let answer = answer.good()?;
        let mut keys = Vec::new();
        for Pair { key, value } in answer.parse::<Vec<Pair>>()? {
            if key.starts_with(prefix) {
                let value = decoded(&key, value)?;
                keys.push((key, value));
            }
        }
        keys.sort();
        Ok((keys, answer))
    }

    /// Whether that there is no such key, or none that begins so, is the truth or only all that the token may know. A
    /// condition on a key is refused to who may not read it; nothing is written.
    async fn may_read(&self, prefix: &str) -> Result<(), Error> {
        // For the whole store's sake any key will do.
        let key = if prefix.is_empty() { "-" } else { prefix };
        match self.attempt(&[Operation::check_version(key, 1)]).await? {
            Attempt::Refused(why) if why.contains("Permission denied") => {
                Err(Error::BlindToKeys { prefix: prefix.to_owned() })
            }
            Attempt::Refused(_) | Attempt::Done(_) => Ok(()),
        }
    }

    /// Sets a key.
    pub(super) async fn put(&self, key: &str, value: &str) -> Result<(), Error> {
        if !has_path(key) {
            return self.transact(&[Operation::set(key, value)]).await.map(drop);
        }
        let ask = ask(Method::PUT, key).body(value);
        self.ask(ask).await?.good().map(drop)
    }

    /// Removes a key; done also when there is none.
    pub(super) async fn delete(&self, key: &str) -> Result<(), Error> {
        if !has_path(key) {
            return self.transact(&[Operation::delete(key)]).await.map(drop);
        }
        let ask = ask(Method::DELETE, key);
        self.ask(ask).await?.good().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_router_would_fold_into_another_has_no_path() {
        for key in ["", "a//b", "../acl", "a/./b", "a/..", "/a", "/", "a//"] {
            assert!(!has_path(key), "{key:?}");
        }
        for key in ["a", "a/b c", "a/b/", "a/.b", "..."] {
            assert!(has_path(key), "{key:?}");
        }
    }

    #[test]
    fn a_prefix_is_asked_for_up_to_what_would_be_folded() {
        assert_eq!(foldless("app/"), "app/");
        assert_eq!(foldless("app/../x"), "app/");
        assert_eq!(foldless("a//b"), "a/");
        assert_eq!(foldless("/a"), "");
        assert_eq!(foldless(""), "");
    }
}
