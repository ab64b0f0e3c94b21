//! Consul's keys and values. Most keys go into a path as they are; one with an empty, `.` or `..` part between its
//! slashes would be folded into another by URL parsers and Consul's own router, and one with what can't be printed is
//! refused by Consul in any path; so these travel in a transaction's body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::catalog::border::{Flaw, LeftOut};
use crate::catalog::bounds::{self, Allowance};
use crate::catalog::{AMENDED_AT_MOST, Amended, Changed};
use crate::errors::cut;
use crate::supervisor::vocabulary::{KeyChange, Value};

use super::answer::Answer;
use super::call::{Call, Connection};
use super::client::Client;
use super::elements::Element;
use super::error::Error;
use super::txn::{Operation, TxnOutcome};

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

/// The part of a key or prefix before whatever a router would fold away or Consul refuse: all of it, for most.
fn foldless(key: &str) -> &str {
    let key = key.find(|c| !is_surely_printable(c)).map_or(key, |place| &key[..place]);
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

/// Consul answers 400 to a path with a character that isn't printable by Go's unicode.IsPrint (go-cleanhttp,
/// PrintablePathCheckHandler), which depends on the version of Unicode it was built with. Letters and digits are.
fn is_surely_printable(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric())
}

/// Whether a path leads to this key. Without any, the path of the whole store would be meant.
fn has_path(key: &str) -> bool {
    !key.is_empty() && foldless(key) == key
}

fn ask(method: Method, key: &str) -> Call {
    let segments: Vec<&str> = std::iter::once("kv").chain(key.split('/')).collect();
    Call::new(method, &segments)
}

fn text(key: &str, bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| Error::NotText { key: key.to_owned() })
}

/// A key and its value.
pub(super) fn pair(element: Element<'_>) -> Result<(String, Vec<u8>), Flaw> {
    let json = match element {
        Element::TooLong => return Err(Flaw::TooLarge),
        Element::Whole(json) => json,
    };
    let no_pair = |error: &dyn std::fmt::Display| Flaw::NoEntry(cut(error));
    let Pair { key, value } = serde_json::from_slice(json).map_err(|error| no_pair(&error))?;
    let value = STANDARD.decode(value.unwrap_or_default()).map_err(|error| no_pair(&error))?;
    Ok((key, value))
}

/// What a prefix holds, within bounds.
#[derive(Debug, Default)]
struct Listed {
    keys: Vec<(String, String)>,
    /// Those whose value isn't text.
    binary: Vec<String>,
    allowance: Allowance,
}

impl Listed {
    fn add(&mut self, key: String, value: Vec<u8>) -> Result<(), Error> {
        match String::from_utf8(value) {
            Ok(value) => {
                self.allowance.take(bounds::in_json(&key) + bounds::in_json(&value)).map_err(Error::TooMuch)?;
                self.keys.push((key, value));
            }
            Err(_) => {
                self.allowance.take(bounds::in_json(&key)).map_err(Error::TooMuch)?;
                self.binary.push(key);
            }
        }
        Ok(())
    }
}

impl Client {
    /// A key's value as the majority has it.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        if has_path(key) {
            return Ok(self.raw(ask(Method::GET, key).with("consistent", "")).await?.0);
        }
        let results = self.transact(&[Operation::get_tree(key)]).await?;
        match results.into_iter().find(|pair| pair.key == key) {
            Some(pair) => Ok(Some(STANDARD.decode(pair.value.unwrap_or_default()).unwrap_or_default())),
            None => self.may_read(key).await.map(|()| None),
        }
    }

    /// A key's value as soon as something is newer than `after`; the answer's index beside it. Who only wants to know
    /// whether there is such a key doesn't mind a value that isn't text.
    pub(super) async fn key(
        &self,
        key: &str,
        after: u64,
        want_a_value: bool,
    ) -> Result<(Option<String>, Answer), Error> {
        let (value, answer) = match has_path(key) {
            true => self.raw(ask(Method::GET, key).after(after).in_turn()).await?,
            false => {
                let mut value = None;
                let of_ours = |found: String, its: Vec<u8>| {
                    value = value.take().or((found == key).then_some(its));
                    Ok(())
                };
                let answer = self.list(key, after, Connection::InTurn, of_ours, &mut LeftOut::unannounced()).await?;
                if value.is_none() {
                    self.may_read(key).await?;
                }
                (value, answer)
            }
        };
        let value = match value {
            Some(_) if !want_a_value => Some(String::new()),
            value => value.map(|value| text(key, value)).transpose()?,
        };
        Ok((value, answer))
    }

    async fn raw(&self, ask: Call) -> Result<(Option<Vec<u8>>, Answer), Error> {
        let answer = self.ask(ask.with("raw", "").up_to(bounds::LARGEST_ITEM)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok((None, answer));
        }
        let mut answer = answer.good()?;
        Ok((Some(std::mem::take(&mut answer.body)), answer))
    }

    /// A key as the majority has it, as soon as something is newer than `after`; the answer beside it.
    pub(super) async fn stored(&self, key: &str, after: u64) -> Result<(Option<Stored>, Answer), Error> {
        self.stored_by(Connection::Standing, key, after).await
    }

    /// The same, perhaps as one of many who follow something.
    pub(super) async fn stored_by(
        &self,
        connection: Connection,
        key: &str,
        after: u64,
    ) -> Result<(Option<Stored>, Answer), Error> {
        let call = ask(Method::GET, key).with("consistent", "").after(after);
        let answer = self.ask(call.by(connection)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok((None, answer));
        }
        let answer = answer.good()?;
        let stored = answer.parse_values::<Vec<Stored>>()?.pop();
        Ok((stored, answer))
    }

    /// Every key that begins with a prefix as soon as something is newer than `after`, sorted; the answer's index
    /// beside them. A key whose value isn't text is left out.
    pub(super) async fn keys(
        &self,
        prefix: &str,
        after: u64,
        left_out: &mut LeftOut,
    ) -> Result<(Vec<(String, String)>, Answer), Error> {
        self.all_keys(prefix, after, Connection::InTurn, left_out).await
    }

    /// The same now, of what nobody but us writes.
    pub(super) async fn keys_now(&self, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        let keys = self.all_keys(prefix, 0, Connection::Standing, &mut LeftOut::unannounced()).await?;
        Ok(keys.0)
    }

    async fn all_keys(
        &self,
        prefix: &str,
        after: u64,
        connection: Connection,
        left_out: &mut LeftOut,
    ) -> Result<(Vec<(String, String)>, Answer), Error> {
        let mut listed = Listed::default();
        let answer = self.list(prefix, after, connection, |key, value| listed.add(key, value), left_out).await?;
        let Listed { mut keys, binary, .. } = listed;
        binary.iter().for_each(|key| left_out.say(key, &Flaw::NotText));
        if keys.is_empty() && binary.is_empty() {
            self.may_read(prefix).await?;
        }
        keys.sort();
        Ok((keys, answer))
    }

    /// Gives what there is of these keys, as far as the token may read them: the others Consul leaves out, without an
    /// error.
    async fn list(
        &self,
        prefix: &str,
        after: u64,
        connection: Connection,
        mut each: impl FnMut(String, Vec<u8>) -> Result<(), Error> + Send,
        left_out: &mut LeftOut,
    ) -> Result<Answer, Error> {
        let ask = ask(Method::GET, foldless(prefix)).with("recurse", "").after(after);
        let ask = ask.by(connection);
        let mut flawed = Allowance::default();
        let answer = self.ask_for_list(ask, |element| match pair(element) {
            Ok((key, _)) if !key.starts_with(prefix) => Ok(()),
            Ok((key, value)) => each(key, value),
            Err(flaw) => {
                left_out.say("a key", &flaw);
                flawed.take(0).map_err(Error::TooMuch)
            }
        });
        match answer.await? {
            answer if answer.status == StatusCode::NOT_FOUND => Ok(answer),
            answer => answer.good(),
        }
    }

    /// Whether that there is no such key, or none that begins so, is the truth or only all that the token may know. A
    /// condition on a key is refused to who may not read it; nothing is written.
    async fn may_read(&self, prefix: &str) -> Result<(), Error> {
        // For the whole store's sake any key will do.
        let key = if prefix.is_empty() { "-" } else { prefix };
        match self.attempt_in_turn(&[Operation::check_version(key, 1)]).await? {
            TxnOutcome::Refused(why) if why.contains("Permission denied") => {
                Err(Error::BlindToKeys { prefix: prefix.to_owned() })
            }
            TxnOutcome::Refused(_) | TxnOutcome::Done(_) => Ok(()),
        }
    }

    /// Writes a key, as long as `held`, a lock and the session that is to hold it, is so.
    pub(super) async fn change(
        &self,
        key: &str,
        change: &KeyChange,
        held: Option<(&str, &str)>,
    ) -> Result<Changed, Error> {
        let mut steps: Vec<Operation<'_>> =
            held.into_iter().map(|(lock, session)| Operation::check_session(lock, session)).collect();
        match change {
            KeyChange::Put(value) => steps.push(Operation::set(key, &value.0)),
            KeyChange::Create(value) => {
                steps.extend([Operation::check_version(key, 0), Operation::set(key, &value.0)]);
            }
            KeyChange::Delete => steps.push(Operation::delete(key)),
        }
        let why = match self.attempt(&steps).await? {
            TxnOutcome::Done(_) => return Ok(Changed::Done),
            TxnOutcome::Refused(why) => why,
        };
        match (first_refused(&why), held, change) {
            (Some(0), Some(_), _) => Ok(Changed::Fenced),
            (Some(0), None, KeyChange::Create(_)) | (Some(1), Some(_), KeyChange::Create(_)) => Ok(Changed::Exists),
            _ => Err(Error::Transaction { why }),
        }
    }
}

impl Client {
    /// Writes a key by what stands there, as long as `held`, a lock and the session that is to hold it, is so.
    pub(super) async fn amend(
        &self,
        key: &str,
        (lock, session): (&str, &str),
        next: impl Fn(Option<&[u8]>) -> Option<Value> + Sync,
    ) -> Result<Amended, Error> {
        let mut refused = String::new();
        for _ in 0..AMENDED_AT_MOST {
            let (stored, _) = self.stored(key, 0).await?;
            let Some(value) = next(stored.as_ref().map(Stored::bytes).as_deref()) else { return Ok(Amended::Left) };
            let seen = stored.map_or(0, |stored| stored.modify_index);
            let steps = [
                Operation::check_session(lock, session),
                Operation::check_version(key, seen),
                Operation::set(key, &value.0),
            ];
            match self.attempt(&steps).await? {
                TxnOutcome::Done(_) => return Ok(Amended::Written),
                TxnOutcome::Refused(why) => match first_refused(&why) {
                    Some(0) => return Ok(Amended::Fenced),
                    Some(1) => refused = why,
                    _ => return Err(Error::Transaction { why }),
                },
            }
        }
        Err(Error::Transaction { why: refused })
    }
}

/// Which step of a transaction is the first that was refused, unless that is a matter of rights.
fn first_refused(why: &str) -> Option<usize> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Refusal {
        errors: Vec<RefusedStep>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct RefusedStep {
        op_index: usize,
        what: String,
    }
    let refusal: Refusal = serde_json::from_str(why).ok()?;
    let first = refusal.errors.into_iter().min_by_key(|step| step.op_index)?;
    (!first.what.contains("Permission denied")).then_some(first.op_index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_router_would_fold_into_another_or_consul_refuse_has_no_path() {
        let unprintable = ["a\tb", "\u{7f}", "a\u{a0}b", "a\u{ad}", "a/\u{2028}", "a\u{200b}"];
        for key in ["", "a//b", "../acl", "a/./b", "a/..", "/a", "/", "a//"].into_iter().chain(unprintable) {
            assert!(!has_path(key), "{key:?}");
        }
        for key in ["a", "a/b c", "a/b/", "a/.b", "...", "ключ/٣", "鍵"] {
            assert!(has_path(key), "{key:?}");
        }
    }

    #[test]
    fn keys_whose_value_is_no_text_take_of_the_bound_too() {
        let mut listed = Listed::default();
        let long = "k".repeat((1 << 20) - 2);
        let added = (0..1000).take_while(|_| listed.add(long.clone(), vec![0xff]).is_ok()).count();
        assert_eq!(added, bounds::MOST_BYTES >> 20);
        let mut listed = Listed::default();
        let added = (0..100_000).take_while(|n| listed.add(n.to_string(), vec![0xff]).is_ok()).count();
        assert_eq!(added, bounds::MOST_ITEMS);
    }

    #[test]
    fn a_prefix_is_asked_for_up_to_what_would_be_folded() {
        assert_eq!(foldless("app/"), "app/");
        assert_eq!(foldless("app/../x"), "app/");
        assert_eq!(foldless("a//b"), "a/");
        assert_eq!(foldless("a/b\tc"), "a/b");
        assert_eq!(foldless("a/.\t"), "a/");
        assert_eq!(foldless("\t"), "");
        assert_eq!(foldless("/a"), "");
        assert_eq!(foldless(""), "");
    }
}
