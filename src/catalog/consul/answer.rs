//! One answer of a Consul agent: what it says, and, where it is a refusal, why, for people.

use std::borrow::Cow;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;

use crate::catalog::Cause;
use crate::errors::cut;

use super::error::Error;
use super::measure;

/// This much of a refusal is looked at.
const LONGEST_REFUSAL: usize = 64 * 1024;

/// What an agent says that takes no more connections.
const NO_ROOM: &str = "concurrent connections";

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Which endpoint gave it, for errors.
    pub(super) endpoint: String,
    /// Its status.
    pub(super) status: StatusCode,
    /// `X-Consul-Index`: what to wait for next.
    pub(super) index: Option<u64>,
    /// Whether it says that it leaves out what the token may not see; Consul before 1.11 never says so.
    pub(super) filtered: bool,
    /// Whether it says that the server it is of knows no leader.
    pub(super) leaderless: bool,
    /// What came.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.parse_within(measure::WORD)
    }

    /// The same of an answer with keys' values in it.
    pub(super) fn parse_values<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.parse_within(measure::VALUE)
    }

    fn parse_within<T: DeserializeOwned>(&self, longest: usize) -> Result<T, Error> {
        let garbage = |source| Error::Garbage { endpoint: self.endpoint.clone(), source };
        if let Some(flaw) = measure::flaw(&self.body, longest) {
            return Err(garbage(Cause::said(flaw)));
        }
        serde_json::from_slice(&self.body).map_err(|error| garbage(Cause::of(&error)))
    }

    /// The beginning of the body as text: what is said of a refusal is no longer.
    pub(super) fn beginning(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body[..self.body.len().min(LONGEST_REFUSAL)])
    }

    /// Whether the agent takes no more connections from here. Another 429 is a health check's warning, or a rate.
    pub(super) fn is_full(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS && self.beginning().contains(NO_ROOM)
    }

    /// Why this answer is none.
    pub(super) fn refused(self) -> Error {
        let body = cut(self.beginning().trim());
        // Consul answers in plain words.
        let body = if body.starts_with('<') { "what answers there isn't consul".to_owned() } else { body };
        let hint = match self.status {
            StatusCode::UNAUTHORIZED => "; see [catalog] username and password_file",
            StatusCode::FORBIDDEN => "; see [catalog] token_file or CONSUL_HTTP_TOKEN, and the token's policies",
            StatusCode::BAD_REQUEST if body.contains("HTTP request to an HTTPS server") => {
                "; see [catalog] address: it wants https://"
            }
            StatusCode::TOO_MANY_REQUESTS if self.is_full() => {
                "; see http_max_conns_per_client in the agent's [limits] (200 by default): each watch holds a connection, and all containers of this address count"
            }
            _ => "",
        };
        Error::Refused { endpoint: self.endpoint, status: self.status.as_u16(), body, hint }
    }

    /// This answer, if its status says that all went well.
    pub(super) fn good(self) -> Result<Answer, Error> {
        match self.status.is_success() {
            true => Ok(self),
            false => Err(self.refused()),
        }
    }
}

pub(super) fn index(headers: &HeaderMap) -> Option<u64> {
    headers.get("X-Consul-Index")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_that_is_no_consuls_a_line_is_told_however_much_it_says() {
        let answer = |status, body: String| Answer {
            endpoint: "GET /v1/x".to_owned(),
            status,
            index: None,
            filtered: false,
            leaderless: false,
            body: body.into_bytes(),
        };
        for text in ["x", "\u{7f}", "\u{80}", "\\\""] {
            for length in [8 << 20, 2 << 20, 60_000, 500] {
                let long = text.repeat(length / text.len());
                let told = |error: &Error| crate::catalog::report(error).len();
                let answer = |status| answer(status, format!("\"{long}\""));
                let word = answer(StatusCode::OK).parse::<super::super::agent::Known>().unwrap_err();
                let value = answer(StatusCode::OK).parse_values::<Vec<super::super::kv::Stored>>().unwrap_err();
                let refused = answer(StatusCode::INTERNAL_SERVER_ERROR).refused();
                let refusal = Error::Transaction { why: long.clone() };
                for error in [word, value, refused, refusal] {
                    assert!(told(&error) < 700, "{text:?} {length}: {} {error}", told(&error));
                }
            }
        }
        let tags = format!(r#"{{"Service": null, "Checks": [], "Tags": [""{}]}}"#, ",\"\"".repeat(2_000_000));
        assert!(answer(StatusCode::OK, tags).parse::<super::super::agent::Known>().is_err());
    }
}
