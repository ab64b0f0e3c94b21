//! `pilotfish kv`: keys of the catalog, through the running agent.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};

use super::At;
use super::ask::{ORDER_WITHIN, encoded, explain, fail, find, runtime};
use crate::endpoints::client;
use crate::endpoints::routes::LONGEST_KEY;
use crate::exit_codes::{BAD_USAGE, BROKEN, FAILED, UNAVAILABLE};
use crate::supervisor::vocabulary::Value;

/// What to do with a key.
#[derive(Debug, clap::Subcommand)]
pub enum KeyVerb {
    /// Write its value to standard output, as it is; exit 1 if there is no such key
    Get {
        /// The key
        #[arg(value_name = "KEY", value_parser = key_name)]
        key: String,
        #[command(flatten)]
        at: At,
    },
    /// Set it
    Put(Setting),
    /// Set it, unless it is there: exit 1 then
    Create(Setting),
    /// Remove it; done also if there is none
    Delete {
        /// The key
        #[arg(value_name = "KEY", value_parser = key_name)]
        key: String,
        /// Only while this container leads: exit 1 if it doesn't
        #[arg(long)]
        fenced: bool,
        #[command(flatten)]
        at: At,
    },
}

/// What to set to what.
#[derive(Debug, clap::Args)]
pub struct Setting {
    /// The key
    #[arg(value_name = "KEY", value_parser = key_name)]
    key: String,
    /// Its value, at most 256 KiB [default: all of standard input]
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    value: Option<OsString>,
    /// Only while this container leads: exit 1 if it doesn't
    #[arg(long)]
    fenced: bool,
    #[command(flatten)]
    at: At,
}

/// A key, as it is written.
fn key_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("it is empty".to_owned()),
        1..=LONGEST_KEY => Ok(text.to_owned()),
        _ => Err(format!("it is longer than {LONGEST_KEY} bytes")),
    }
}

/// Does it.
pub fn key(verb: KeyVerb, named: Option<&Path>) -> u8 {
    let (method, key, value, fenced, at) = match verb {
        KeyVerb::Get { key, at } => (Method::GET, key, None, false, at),
        KeyVerb::Delete { key, fenced, at } => (Method::DELETE, key, None, fenced, at),
        KeyVerb::Put(Setting { key, value, fenced, at }) => (Method::PUT, key, Some(value), fenced, at),
        KeyVerb::Create(Setting { key, value, fenced, at }) => (Method::POST, key, Some(value), fenced, at),
    };
    let reads = method == Method::GET;
    let body = match value.map(value_of).transpose() {
        Ok(value) => Bytes::from(value.unwrap_or_default()),
        Err(why) => {
            fail(&why);
            return BAD_USAGE;
        }
    };
    let (socket, doubt) = match find(at.socket, named) {
        Ok(found) => found,
        Err(error) => return unavailable(&error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            fail(&format!("can't ask: {error}"));
            return BROKEN;
        }
    };
    let path = format!("/kv?key={}{}", encoded(&key), if fenced { "&fenced=1" } else { "" });
    let reply = match runtime.block_on(client::ask_with(&socket, method, &path, body, ORDER_WITHIN)) {
        Ok(reply) => reply,
        Err(error) => return unavailable(&explain(&error, doubt)),
    };
    match reply.status {
        StatusCode::OK if reads => written(&reply.body),
        StatusCode::OK => 0,
        StatusCode::PRECONDITION_FAILED => {
            fail(&String::from_utf8_lossy(&reply.body));
            FAILED
        }
        _ => unavailable(&String::from_utf8_lossy(&reply.body)),
    }
}

fn value_of(given: Option<OsString>) -> Result<Vec<u8>, String> {
    let value = match given {
        Some(value) => value.into_vec(),
        None => {
            let mut value = Vec::new();
            let most = Value::MOST_BYTES as u64 + 1;
            let read = std::io::stdin().lock().take(most).read_to_end(&mut value);
            read.map_err(|error| format!("can't read the value: {error}"))?;
            value
        }
    };
    match value.len() > Value::MOST_BYTES {
        true => Err(format!("the value is longer than {} KiB", Value::MOST_BYTES / 1024)),
        false => Ok(value),
    }
}

fn written(value: &[u8]) -> u8 {
    let mut out = std::io::stdout().lock();
    match out.write_all(value).and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(error) => {
            fail(&format!("can't write the value: {error}"));
            BROKEN
        }
    }
}

fn unavailable(why: &str) -> u8 {
    fail(why);
    UNAVAILABLE
}
