//! One question of the standard health protocol, `grpc.health.v1.Health/Check`, over HTTP/2 on a connection of its own.
//! Its two messages have one field each, and are written and read by hand; nothing is compressed, kept alive or asked
//! twice, and no more is read than such an answer can have.

use std::time::Duration;

use h2::client::{Builder, ResponseFuture};
use h2::{Reason, RecvStream};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Version};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connect::driven;
use super::{connect, tls};
use crate::config::GrpcProbe;
use crate::errors;
use crate::net::paced::Paced;

/// The most an answer's head, or its trailers, may take.
const HEAD_BYTES: u32 = 64 * 1024;
/// The most an answer's message may take; one that says no more than a status has seven bytes.
const MESSAGE_BYTES: usize = 1024;
/// The most that is told of what a server says of a failure.
const TOLD: usize = 200;
/// Before each message: whether it is compressed, and its length (gRPC over HTTP/2, Length-Prefixed-Message).
const PREFIX: usize = 5;

/// What `grpc-status` says, by its number (google.rpc.Code).
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Asks, without a deadline of its own: the caller has one for everything.
pub async fn ask(question: &GrpcProbe, within: Duration) -> Result<(), String> {
    let (host, port) = connect::host_and_port(&question.address)?;
    let request = request(question, within)?;
    // Before anything is sent: without authorities no request can be made at all.
    let verified = match &question.tls {
        Some(trust) => Some(tls::connector(trust, tls::Speaks::Http2).await?),
        None => None,
    };
    let stream = connect::connect(host, port, within).await?;
    match verified {
        None => exchange(stream, request, question).await,
        Some(connector) => exchange(tls::handshake(&connector, host, stream).await?, request, question).await,
    }
}

fn request(question: &GrpcProbe, within: Duration) -> Result<Request<()>, String> {
    let scheme = if question.tls.is_some() { "https" } else { "http" };
    let uri = format!("{scheme}://{}/grpc.health.v1.Health/Check", question.address);
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri.parse().map_err(|error| format!("{} isn't an address: {error}", question.address))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("pilotfish/", env!("CARGO_PKG_VERSION"))));
    // Eight digits at most; a server may end early what nobody waits for any more.
    let timeout = format!("{}m", within.as_millis().clamp(1, 99_999_999));
    headers.insert("grpc-timeout", HeaderValue::from_str(&timeout).map_err(|error| error.to_string())?);
    Ok(request)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<()>,
    question: &GrpcProbe,
) -> Result<(), String> {
    let mut builder = Builder::new();
    builder.enable_push(false).max_header_list_size(HEAD_BYTES).max_concurrent_reset_streams(1);
    let (sender, connection) = builder.handshake::<_, Bytes>(Paced::new(stream)).await.map_err(|error| said(&error))?;
    let answer = async {
        let mut sender = sender.ready().await.map_err(|error| said(&error))?;
        let (answer, mut body) = sender.send_request(request, false).map_err(|error| said(&error))?;
        body.send_data(Bytes::from(encode(&question.service)), true).map_err(|error| said(&error))?;
        judge(answer, &question.service).await
    };
    driven(connection, answer).await
}

async fn judge(answer: ResponseFuture, service: &str) -> Result<(), String> {
    let answer: Response<RecvStream> = answer.await.map_err(|error| said(&error))?;
    let (head, mut body) = answer.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("status {}", head.status.as_u16()));
    }
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/grpc") {
        return Err("the answer isn't gRPC".to_owned());
    }
    // A failure may come as a head and nothing more.
    if head.headers.contains_key("grpc-status") {
        outcome(&head.headers, service)?;
    }
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| said(&error))?;
        if message.len() + data.len() > MESSAGE_BYTES {
            return Err("the answer is too large for a health status".to_owned());
        }
        message.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len()).map_err(|error| said(&error))?;
    }
    match body.trailers().await.map_err(|error| said(&error))? {
        Some(trailers) => outcome(&trailers, service)?,
        None if head.headers.contains_key("grpc-status") => {}
        None => return Err("the answer has no grpc-status".to_owned()),
    }
    match decode(&message) {
        Some(1) => Ok(()),
        Some(status) => Err(match status {
            0 => "UNKNOWN".to_owned(),
            2 => "NOT_SERVING".to_owned(),
            3 => "SERVICE_UNKNOWN".to_owned(),
            other => format!("serving status {other}"),
        }),
        None => Err("the answer isn't a health status".to_owned()),
    }
}

/// Whether the call succeeded, whatever it answered.
fn outcome(trailers: &HeaderMap, service: &str) -> Result<(), String> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    let code: usize = text("grpc-status").and_then(|code| code.parse().ok()).ok_or("the answer has no grpc-status")?;
    match CODES.get(code) {
        Some(&"OK") => Ok(()),
        Some(&"NOT_FOUND") => Err(format!("the server knows no service `{service}`")),
        Some(&"UNIMPLEMENTED") => Err("the server has no grpc.health.v1.Health".to_owned()),
        known => {
            let name = known.map_or_else(|| code.to_string(), |name| (*name).to_owned());
            let told = percent_decode_str(text("grpc-message").unwrap_or_default()).decode_utf8_lossy();
            let told: String = told.chars().take(TOLD).collect();
            Err(if told.is_empty() { format!("grpc status {name}") } else { format!("grpc status {name}: {told}") })
        }
    }
}

/// A framed `HealthCheckRequest { string service = 1 }`.
fn encode(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    // An empty string is left out (proto3).
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed
}

/// The status of a framed `HealthCheckResponse { ServingStatus status = 1 }`; fields that it doesn't know are skipped.
fn decode(framed: &[u8]) -> Option<u64> {
    let (prefix, mut message) = framed.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match (tag >> 3, tag & 7) {
            (0, _) => return None,
            (1, 0) => status = varint(&mut message)?,
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

/// A number in groups of seven bits, the lowest first (protobuf's base 128 varint).
fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// h2's error in words for people.
fn said(error: &h2::Error) -> String {
    match (error.get_io(), error.reason()) {
        (Some(io), _) if matches!(io.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe) => {
            "connection closed before the answer was complete".to_owned()
        }
        (Some(io), _) => connect::plain(io),
        (None, Some(Reason::PROTOCOL_ERROR | Reason::FRAME_SIZE_ERROR | Reason::COMPRESSION_ERROR))
            if error.is_library() =>
        {
            "the answer isn't HTTP/2".to_owned()
        }
        _ => errors::chain(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_question_has_the_service_and_none_for_the_whole_server() {
        assert_eq!(encode(""), [0, 0, 0, 0, 0]);
        assert_eq!(encode("db"), [0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
        let long = encode(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }

    #[test]
    fn the_answer_is_a_status_whatever_else_it_holds() {
        assert_eq!(decode(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(decode(&[0, 0, 0, 0, 0]), Some(0), "a zero is left out");
        assert_eq!(decode(&[0, 0, 0, 0, 6, 0x12, 2, 9, 9, 8, 2]), Some(2));
        for wrong in [&[][..], &[0; 4], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 9, 8, 1], &[0, 0, 0, 0, 1, 8]] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            decode(&bytes);
            let framed = [&[0, 0, 0, 0, bytes.len() as u8][..], &bytes].concat();
            decode(&framed);
        }
    }
}
