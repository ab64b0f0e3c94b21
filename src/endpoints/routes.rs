//! What each endpoint answers. It reads the last status and asks the agent's loop; it changes nothing itself.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::status::StatusBody;
use super::wait::{self, Awaited, WAIT_AT_MOST};
use super::{ControlRequest, Endpoint, Question, page};
use crate::config::{Signal, duration};
use crate::metrics;
use crate::plain;
use crate::supervisor::vocabulary;
use crate::supervisor::vocabulary::{KeyChange, KeyOperation, KeyRequest, Value};

/// What may be asked at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Reads.
    Look,
    /// Reads and orders.
    Command,
}

/// The agent's loop answers an order within this, or the asker is told that it didn't.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// No order has a body; whoever sends one is heard out up to here.
const BODY_BYTES: usize = 64 * 1024;
/// A body, if there is one, comes at once.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// What fits into a request's head, however it is encoded there.
pub const LONGEST_KEY: usize = 1024;

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

/// What is sent back.
pub type Answer = Response<Full<Bytes>>;

/// The answer to one request.
pub async fn answer(request: Request<Incoming>, endpoint: &Endpoint, rights: Rights) -> Answer {
    let (head, body) = request.into_parts();
    let order = match head.uri.path() {
        "/" | "/metrics" | "/status" | "/livez" | "/readyz" | "/healthz" => None,
        // Whoever may only look finds nothing below.
        _ if rights == Rights::Look => return text(StatusCode::NOT_FOUND, "no such page"),
        "/kv" => return key(&head, body, endpoint).await,
        "/wait" if head.method == Method::GET => return wait(&head.uri, endpoint).await,
        "/wait" => return not_allowed("GET"),
        "/restart" => Some(vocabulary::Request::Restart { name: parameter(&head.uri, "name") }),
        "/signal" => match parameter(&head.uri, "signal").unwrap_or_default().parse::<Signal>() {
            Ok(signal) => Some(vocabulary::Request::Signal { signal, name: parameter(&head.uri, "name") }),
            Err(error) => return text(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        "/record" => None,
        "/reload" => Some(vocabulary::Request::Reload),
        "/stop" => Some(vocabulary::Request::Stop),
        "/step-down" => Some(vocabulary::Request::StepDown { to: parameter(&head.uri, "to") }),
        "/maintenance/on" => {
            let lasts = parameter(&head.uri, "for").map(|lasts| duration::parse(&lasts)).transpose();
            let lasts = match lasts {
                Ok(lasts) => lasts,
                Err(error) => return text(StatusCode::BAD_REQUEST, &format!("`for` isn't a duration: {error}")),
            };
            Some(vocabulary::Request::BeginMaintenance { lasts, reason: parameter(&head.uri, "reason") })
        }
        "/maintenance/off" => Some(vocabulary::Request::EndMaintenance),
        "/metric" => {
            let values = parameters(&head.uri, "set").map(|set| match set.rsplit_once('=') {
                Some((of, value)) => (of.to_owned(), value.to_owned()),
                None => (set, String::new()),
            });
            Some(vocabulary::Request::PushMetrics { values: values.collect() })
        }
        "/task/run" => Some(vocabulary::Request::RunTask { name: parameter(&head.uri, "name").unwrap_or_default() }),
        "/accept-term" => Some(vocabulary::Request::AcceptTerm),
        "/accept-loss" => Some(vocabulary::Request::AcceptLoss),
        _ => return text(StatusCode::NOT_FOUND, "no such page"),
    };
    match order {
        None if matches!(head.method, Method::GET | Method::HEAD) => match head.uri.path() {
            "/record" => record(endpoint).await,
            path @ ("/" | "/metrics" | "/status") => look_in_turn(path, endpoint).await,
            path => look(path, endpoint),
        },
        None => not_allowed("GET, HEAD"),
        Some(request) if head.method == Method::POST => {
            // Unread bytes at close would reset the connection and lose the answer.
            match timeout(BODY_WITHIN, Limited::new(body, BODY_BYTES).collect()).await {
                Ok(Ok(_)) => carry_out(request, endpoint).await,
                Ok(Err(_)) => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broken"),
                Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body didn't come"),
            }
        }
        Some(_) => not_allowed("POST"),
    }
}

/// To whoever doesn't bring the token.
pub fn unauthorised() -> Answer {
    let mut answer = text(StatusCode::UNAUTHORIZED, "the token is missing or wrong: Authorization: Bearer TOKEN");
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

/// To whoever brings one that can't be compared with the right one.
pub fn unavailable(why: &str) -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, why)
}

/// What the query says of this name, if anything.
fn parameter(uri: &Uri, name: &str) -> Option<String> {
    parameters(uri, name).next().filter(|value| !value.is_empty())
}

/// All that the query says of this name.
fn parameters(uri: &Uri, name: &str) -> impl Iterator<Item = String> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let values = pairs.filter_map(move |pair| pair.strip_prefix(name)?.strip_prefix('='));
    values.map(|value| percent_decode_str(value).decode_utf8_lossy().into_owned())
}

/// However many ask, and however long what they ask for is, they take no more than half of the loop's time together.
async fn look_in_turn(path: &str, endpoint: &Endpoint) -> Answer {
    /// No page that others could wait for takes so long.
    const QUICK: Duration = Duration::from_millis(2);
    let mut rested = endpoint.turn.lock().await;
    // Before the next page and not after this one: who doesn't stay for the answer must not spare the rest.
    if let Some(rested) = *rested {
        sleep_until(rested).await;
    }
    let began = Instant::now();
    let answer = look(path, endpoint);
    let took = began.elapsed();
    *rested = (took > QUICK).then(|| Instant::now() + took);
    answer
}

fn look(path: &str, endpoint: &Endpoint) -> Answer {
    let status = endpoint.status.borrow();
    match path {
        "/" => reply(StatusCode::OK, "text/html; charset=utf-8", page::render(&status)),
        "/metrics" => reply(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(&status)),
        "/status" => match serde_json::to_string(&StatusBody::of(&status)) {
            Ok(json) => reply(StatusCode::OK, "application/json", plain::json(&json).into_owned()),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("the status can't be written: {error}")),
        },
        "/livez" if endpoint.status.has_changed().is_ok() => text(StatusCode::OK, "alive"),
        "/livez" => text(StatusCode::SERVICE_UNAVAILABLE, "the agent's loop has ended"),
        "/healthz" if status.standing_by => text(StatusCode::OK, &format!("standing by: {}", status.doing)),
        _ => match status.why_not_ready() {
            None => text(StatusCode::OK, "ready"),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &reason),
        },
    }
}

async fn carry_out(request: vocabulary::Request, endpoint: &Endpoint) -> Answer {
    ask(Question::Order(request), endpoint, "; the order stands")
        .await
        .map_or_else(|silent| silent, |answer| said(&answer))
}

/// A line of JSON for each event.
async fn record(endpoint: &Endpoint) -> Answer {
    match ask(Question::Record, endpoint, "").await {
        Ok(vocabulary::Answer::Done(record)) => {
            reply(StatusCode::OK, "application/x-ndjson", plain::json(&record).into_owned())
        }
        Ok(answer) => said(&answer),
        Err(silent) => silent,
    }
}

/// What the agent's loop says, or the answer to who asked why it says nothing.
async fn ask(question: Question, endpoint: &Endpoint, otherwise: &str) -> Result<vocabulary::Answer, Answer> {
    let (answer, answered) = oneshot::channel();
    endpoint.asks();
    let exchange = async {
        endpoint.asked.send(ControlRequest { question, answer }).await.ok()?;
        answered.await.ok()
    };
    match timeout(ANSWER_WITHIN, exchange).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(text(StatusCode::SERVICE_UNAVAILABLE, "the agent is ending")),
        Err(_) => Err(text(StatusCode::GATEWAY_TIMEOUT, &format!("the agent didn't answer in time{otherwise}"))),
    }
}

/// Reads or writes the key that the request names: GET, PUT, POST where it is yet to be made, DELETE.
async fn key(head: &Parts, body: Incoming, endpoint: &Endpoint) -> Answer {
    let Some(key) = parameter(&head.uri, "key").filter(|key| key.len() <= LONGEST_KEY) else {
        return text(StatusCode::BAD_REQUEST, "no key is named, or one that is too long");
    };
    let value = match timeout(BODY_WITHIN, Limited::new(body, Value::MOST_BYTES).collect()).await {
        Ok(Ok(body)) => Value(body.to_bytes().to_vec().into()),
        Ok(Err(_)) => return text(StatusCode::PAYLOAD_TOO_LARGE, "the value is longer than 256 KiB, or broken"),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the value didn't come"),
    };
    let operation = match head.method {
        Method::GET => KeyOperation::Get,
        Method::PUT => KeyOperation::Change(KeyChange::Put(value)),
        Method::POST => KeyOperation::Change(KeyChange::Create(value)),
        Method::DELETE => KeyOperation::Change(KeyChange::Delete),
        _ => return not_allowed("GET, PUT, POST, DELETE"),
    };
    let fenced = parameter(&head.uri, "fenced").is_some();
    carry_out(vocabulary::Request::Key { request: KeyRequest { key, operation }, fenced }, endpoint).await
}

/// Waits for what the request names, as long as it says, and no longer than a connection may take.
async fn wait(uri: &Uri, endpoint: &Endpoint) -> Answer {
    let within = parameter(uri, "within").map_or(Ok(WAIT_AT_MOST), |within| duration::parse(&within));
    let awaited = Awaited::named(&parameter(uri, "what").unwrap_or_default(), parameter(uri, "name"));
    let (Ok(within), Some(awaited)) = (within, awaited) else {
        return text(StatusCode::BAD_REQUEST, "it isn't clear what to wait for, or for how long");
    };
    let within = within.min(WAIT_AT_MOST);
    match awaited {
        Awaited::Ready => said(&wait::until(endpoint.status.clone(), within, wait::is_ready).await),
        Awaited::Leader => said(&wait::until(endpoint.status.clone(), within, wait::is_led).await),
        Awaited::Seen(query) => carry_out(vocabulary::Request::Await { query, within }, endpoint).await,
    }
}

fn said(answer: &vocabulary::Answer) -> Answer {
    match answer {
        vocabulary::Answer::Done(done) => text(StatusCode::OK, done),
        vocabulary::Answer::Refused(refused) => text(StatusCode::UNPROCESSABLE_ENTITY, refused),
        vocabulary::Answer::Found(value) => reply(StatusCode::OK, BYTES, value.0.to_vec()),
        vocabulary::Answer::Unmet(why) => text(StatusCode::PRECONDITION_FAILED, why),
        vocabulary::Answer::Unavailable(why) => text(StatusCode::BAD_GATEWAY, why),
        vocabulary::Answer::NotYet(why) => text(StatusCode::REQUEST_TIMEOUT, why),
    }
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, &format!("only {allowed}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn text(status: StatusCode, text: &str) -> Answer {
    // What a probe failed with is others' words, and `curl` shows them as they are.
    reply(status, TEXT, format!("{}\n", plain::lines(text.trim_end())))
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
