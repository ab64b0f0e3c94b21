//! One HTTP request and what makes its answer healthy. hyper alone, on a connection of its own: redirects are not
//! followed, no proxy is used, nothing is kept alive, and no more is read than is looked at.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::driven;
use super::{connect, tls};
use crate::config::{HttpProbe, Trust};
use crate::errors;
use crate::net::paced::Paced;

/// Where `expect_body` is looked for, from the beginning.
const BODY_BYTES: usize = 64 * 1024;
/// The most an answer's head may take.
const HEAD_BYTES: usize = 64 * 1024;

/// Asks, without a deadline of its own: the caller has one for everything.
pub async fn ask(question: &HttpProbe, within: Duration) -> Result<(), String> {
    let uri: Uri = question.url.parse().map_err(|error| format!("this isn't a URL: {error}"))?;
    let host = uri.host().ok_or("the URL has no host")?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let https = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let request = request(question, &uri)?;
    // Before anything is sent: without authorities no request can be made at all.
    let trust = Trust { ca: question.ca.clone(), insecure: question.insecure };
    let verified = if https { Some(tls::connector(&trust, tls::Speaks::Http1).await?) } else { None };
    let stream = connect::connect(host, port, within).await?;
    match verified {
        None => exchange(stream, request, question).await,
        Some(connector) => exchange(tls::handshake(&connector, host, stream).await?, request, question).await,
    }
}

fn request(question: &HttpProbe, uri: &Uri) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::from_bytes(question.method.as_bytes())
        .map_err(|_| format!("{} isn't an HTTP method", question.method))?;
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    *request.uri_mut() =
        format!("{path}{query}").parse().map_err(|error| format!("the URL's path can't be used: {error}"))?;
    // Never with a login: the config refuses that.
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| format!("{host} isn't a host"))?);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("pilotfish/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in &question.headers {
        let name: HeaderName = name.parse().map_err(|_| format!("{name} isn't a header"))?;
        // The value may be a secret.
        let value = HeaderValue::from_str(value).map_err(|_| format!("the value of header {name} can't be sent"))?;
        headers.insert(name, value);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

pub(super) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    request: Request<Empty<Bytes>>,
    question: &HttpProbe,
) -> Result<(), String> {
    let mut http = http1::Builder::new();
    http.max_buf_size(HEAD_BYTES);
    let (mut sender, connection) =
        http.handshake(TokioIo::new(Paced::new(stream))).await.map_err(|error| said(&error))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| said(&error))?;
        judge(answer, question).await
    };
    driven(connection, answer).await
}

async fn judge(answer: Response<Incoming>, question: &HttpProbe) -> Result<(), String> {
    let status = answer.status().as_u16();
    let healthy = match question.expect_status.as_slice() {
        [] => (200..400).contains(&status),
        expected => expected.contains(&status),
    };
    if !healthy {
        return Err(format!("status {status}"));
    }
    let Some(wanted) = &question.expect_body else { return Ok(()) };
    let mut body = answer.into_body();
    let mut seen: Vec<u8> = Vec::new();
    while seen.len() < BODY_BYTES
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame.map_err(|error| said(&error))?.into_data() {
            let room = BODY_BYTES - seen.len();
            // What was looked through before needs no second look, but for a part that ends in the new data.
            let from = seen.len().saturating_sub(wanted.len());
            seen.extend_from_slice(&data[..data.len().min(room)]);
            if contains(&seen[from..], wanted.as_bytes()) {
                return Ok(());
            }
        }
    }
    if contains(&seen, wanted.as_bytes()) {
        Ok(())
    } else {
        Err(format!("status {status}, but no {wanted:?} in the body"))
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

/// hyper's error in words for people.
fn said(error: &hyper::Error) -> String {
    let io = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match io {
        _ if error.is_parse_too_large() => "the answer's head is too large".to_owned(),
        _ if error.is_parse() => "the answer isn't HTTP".to_owned(),
        _ if error.is_incomplete_message() => "connection closed before the answer was complete".to_owned(),
        Some(io) => connect::plain(io),
        None => errors::chain(error),
    }
}
