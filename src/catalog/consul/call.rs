//! One question to a Consul agent: its path, its query, and how long it may take.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::Serialize;

use super::sink::LARGEST_ANSWER;

/// A call that doesn't wait for a change takes no longer. An agent cut off from its servers answers writes only after
/// 20 to 30 s, and one whose servers elect a leader after up to 8.7 s (measured on 1.8.7): what takes longer than
/// this is as good as no answer, and the next heartbeat is due.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one blocking query waits on the agent's side: so long, too, an agent that is stopped but whose kernel
/// still answers goes unnoticed.
pub(super) const WAIT: Duration = Duration::from_secs(60);

/// Consul adds up to a sixteenth of the wait as jitter; the rest is the answer's way.
const WAIT_TIMEOUT: Duration = Duration::from_millis(60_000 * 17 / 16 + 5_000);

/// What may stand in a path segment or a query value as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// One question.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Option<String>,
    pub(super) timeout: Duration,
    pub(super) connection: Connection,
    /// How long the agent may wait for a change.
    pub(super) wait: Option<Duration>,
    /// How much of an answer is read.
    pub(super) most: usize,
}

/// On which connections a question goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// Those that stay open: heartbeats and renewals must not wait for one.
    Standing,
    /// Those of who follows something, and can wait for a turn.
    InTurn,
}

impl Call {
    /// Of an endpoint's path, given by its segments; each is escaped.
    pub(super) fn new(method: Method, segments: &[&str]) -> Call {
        let mut path = String::from("/v1");
        for segment in segments {
            path.push('/');
            path.extend(utf8_percent_encode(segment, PLAIN));
        }
        Call {
            method,
            path,
            query: String::new(),
            body: None,
            timeout: CALL_TIMEOUT,
            connection: Connection::Standing,
            wait: None,
            most: LARGEST_ANSWER,
        }
    }

    /// With an answer of no more than so many bytes.
    pub(super) fn up_to(mut self, bytes: usize) -> Call {
        self.most = bytes;
        self
    }

    /// With a query parameter.
    pub(super) fn with(mut self, key: &str, value: &str) -> Call {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(key);
        if !value.is_empty() {
            self.query.push('=');
            self.query.extend(utf8_percent_encode(value, PLAIN));
        }
        self
    }

    /// With a query parameter, if there is a value for it.
    pub(super) fn with_some(self, key: &str, value: Option<&str>) -> Call {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// With a JSON body.
    pub(super) fn json(mut self, body: &impl Serialize) -> Call {
        // What is sent are structs of strings and numbers, which serde_json can always write.
        self.body = Some(serde_json::to_string(body).expect("strings and numbers are JSON"));
        self
    }

    /// With less time to be answered than other calls have.
    pub(super) fn within(mut self, limit: Duration) -> Call {
        self.timeout = self.timeout.min(limit);
        self
    }

    /// As one of many that wait for a change, each on a connection of its own.
    pub(super) fn in_turn(self) -> Call {
        self.by(Connection::InTurn)
    }

    /// On such a connection.
    pub(super) fn by(mut self, connection: Connection) -> Call {
        self.connection = connection;
        self
    }

    /// As a blocking query: answered when something is newer than `index`, at once for 0.
    pub(super) fn after(mut self, index: u64) -> Call {
        if index > 0 {
            self = self.with("index", &index.to_string());
            self.wait = Some(WAIT);
            self.timeout = WAIT_TIMEOUT;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_named_is_escaped_in_paths_and_queries() {
        let ask = Call::new(Method::GET, &["health", "service", "a/b c?"]).with("tag", "x&y=z").with("passing", "");
        assert_eq!(ask.path, "/v1/health/service/a%2Fb%20c%3F");
        assert_eq!(ask.query, "?tag=x%26y%3Dz&passing");
    }

    #[test]
    fn only_a_query_with_an_index_waits_and_then_longer_than_the_agent() {
        assert_eq!(Call::new(Method::GET, &["kv", "a"]).after(0).timeout, CALL_TIMEOUT);
        let ask = Call::new(Method::GET, &["kv", "a"]).after(7);
        assert_eq!((ask.query.as_str(), ask.wait), ("?index=7", Some(WAIT)));
        assert!(ask.timeout > WAIT * 17 / 16);
    }
}
