//! HTTP to one Consul agent: an endpoint, a deadline, a bounded answer, and errors that say which endpoint answered
//! what. It knows no endpoint itself, and retries nothing.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::engines::{Consul as Settings, ConsulAddress, Endpoint, Secret};

use super::error::Error;
use super::means::{Means, Now, is_https};

/// A call that doesn't wait for a change takes no longer. An agent cut off from its servers answers writes only after
/// 20 to 30 s, and one whose servers elect a leader after up to 8.7 s (measured on 1.8.7): what takes longer than
/// this is as good as no answer, and the next heartbeat is due.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one blocking query waits on the agent's side: so long, too, an agent that is stopped but whose kernel
/// still answers goes unnoticed.
pub(super) const WAIT: Duration = Duration::from_secs(60);

/// Consul adds up to a sixteenth of the wait as jitter; the rest is the answer's way.
const WAIT_TIMEOUT: Duration = Duration::from_millis(60_000 * 17 / 16 + 5_000);

/// No answer is read further than this.
const LARGEST_ANSWER: usize = 8 * 1024 * 1024;

/// What may stand in a path segment or a query value as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// One Consul agent.
#[derive(Debug)]
pub(super) struct Client {
    settings: Settings,
    /// `http://host:port`, for requests.
    base: String,
    /// Where it is, for people.
    place: String,
    means: Means,
}

/// One question.
#[derive(Debug)]
pub(super) struct Ask {
    method: Method,
    path: String,
    query: String,
    body: Option<String>,
    timeout: Duration,
}

impl Ask {
    /// Of an endpoint's path, given by its segments; each is escaped.
    pub(super) fn new(method: Method, segments: &[&str]) -> Ask {
        let mut path = String::from("/v1");
        for segment in segments {
            path.push('/');
            path.extend(utf8_percent_encode(segment, PLAIN));
        }
        Ask { method, path, query: String::new(), body: None, timeout: CALL_TIMEOUT }
    }

    /// With a query parameter.
    pub(super) fn with(mut self, key: &str, value: &str) -> Ask {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(key);
        if !value.is_empty() {
            self.query.push('=');
            self.query.extend(utf8_percent_encode(value, PLAIN));
        }
        self
    }

    /// With a query parameter, if there is a value for it.
    pub(super) fn with_some(self, key: &str, value: Option<&str>) -> Ask {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// With a JSON body.
    pub(super) fn json(mut self, body: &impl Serialize) -> Ask {
        // What this house sends are structs of strings and numbers, which serde_json can always write.
        self.body = Some(serde_json::to_string(body).expect("strings and numbers are JSON"));
        self
    }

    /// With a body as it is.
    pub(super) fn body(mut self, body: &str) -> Ask {
        self.body = Some(body.to_owned());
        self
    }

    /// With less time to be answered than other calls have.
    pub(super) fn within(mut self, limit: Duration) -> Ask {
        self.timeout = self.timeout.min(limit);
        self
    }

    /// As a blocking query: answered when something is newer than `index`, at once for 0.
    pub(super) fn after(mut self, index: u64) -> Ask {
        if index > 0 {
            self = self.with("index", &index.to_string()).with("wait", &format!("{}s", WAIT.as_secs()));
            self.timeout = WAIT_TIMEOUT;
        }
        self
    }
}

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
    /// What came.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|source| Error::Garbage { endpoint: self.endpoint.clone(), source })
    }

    /// This answer, if its status says that all went well.
    pub(super) fn good(self) -> Result<Answer, Error> {
        match self.status.is_success() {
            true => Ok(self),
            false => Err(Error::refused(self)),
        }
    }
}

impl Client {
    /// Reaches nobody yet.
    pub(super) fn new(settings: &Settings) -> Client {
        let (base, place) = match &settings.address {
            ConsulAddress::Unix(path) => ("http://localhost".to_owned(), format!("unix://{}", path.display())),
            ConsulAddress::Tcp(endpoint) => {
                // The name to verify takes the host's place in the URL, and `Names` leads it to the host.
                let named = settings.tls.server_name.as_ref().filter(|_| endpoint.https);
                let named = Endpoint { host: named.unwrap_or(&endpoint.host).clone(), ..endpoint.clone() };
                (named.to_string(), endpoint.to_string())
            }
        };
        Client { settings: settings.clone(), base, place, means: Means::new(settings) }
    }

    /// Asks, and takes whatever comes.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Answer, Error> {
        let endpoint = format!("{} {} at {}", ask.method, ask.path, self.place);
        let timeout = ask.timeout;
        let until = Instant::now() + timeout;
        let now = timeout_at(until, self.means.now()).await.map_err(|_| Error::Storage { after: timeout })??;
        // Boxed: this is a future of many KB, and every future around it would be as large again.
        match timeout_at(until, Box::pin(self.exchange(ask, &endpoint, now))).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::TimedOut { endpoint, after: timeout }),
        }
    }

    /// The token that counts now.
    pub(super) async fn token(&self, within: Duration) -> Result<Option<Secret>, Error> {
        let within = within.min(CALL_TIMEOUT);
        let now = timeout(within, self.means.now()).await.map_err(|_| Error::Storage { after: within })?;
        Ok(now?.token)
    }

    async fn exchange(&self, ask: Ask, endpoint: &str, now: Now) -> Result<Answer, Error> {
        let anonymous = is_https(&self.settings) && self.settings.tls.identity.is_none();
        let failed = |error: reqwest::Error| match Error::unreachable(endpoint, &error) {
            error if anonymous => error.without_identity(),
            error => error,
        };
        let mut request = now.http.request(ask.method, format!("{}{}{}", self.base, ask.path, ask.query));
        // A header, never `?token=`: queries end up in access logs.
        if let Some(token) = now.token {
            let mut value = HeaderValue::from_str(token.reveal()).map_err(|_| Error::TokenBytes)?;
            value.set_sensitive(true);
            request = request.header("X-Consul-Token", value);
        }
        if let Some(login) = &self.settings.basic {
            request = request.basic_auth(&login.username, now.password.as_ref().map(Secret::reveal));
        }
        if let Some(body) = ask.body {
            request = request.body(body);
        }
        let mut answer = request.send().await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(Error::TooLarge { endpoint: endpoint.to_owned(), most: LARGEST_ANSWER });
            }
            body.extend_from_slice(&chunk);
        }
        let index = index(answer.headers());
        let filtered = answer.headers().get("X-Consul-Results-Filtered-By-ACLs").is_some_and(|value| value == "true");
        Ok(Answer { endpoint: endpoint.to_owned(), status: answer.status(), index, filtered, body })
    }
}

fn index(headers: &HeaderMap) -> Option<u64> {
    headers.get("X-Consul-Index")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_named_is_escaped_in_paths_and_queries() {
        let ask = Ask::new(Method::GET, &["health", "service", "a/b c?"]).with("tag", "x&y=z").with("passing", "");
        assert_eq!(ask.path, "/v1/health/service/a%2Fb%20c%3F");
        assert_eq!(ask.query, "?tag=x%26y%3Dz&passing");
    }

    #[test]
    fn only_a_query_with_an_index_waits_and_then_longer_than_the_agent() {
        assert_eq!(Ask::new(Method::GET, &["kv", "a"]).after(0).timeout, CALL_TIMEOUT);
        let ask = Ask::new(Method::GET, &["kv", "a"]).after(7);
        assert_eq!(ask.query, "?index=7&wait=60s");
        assert!(ask.timeout > WAIT * 17 / 16);
    }
}
