//! What the fuzz targets throw at the client of Consul: an answer, its index in the first line, that comes in pieces.

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::Value;

use crate::catalog::border::assert_within;
use crate::config::words::is_printable;

use super::agent::Known;
use super::answer::{self, Answer};
use super::elements::{Element, Elements};
use super::error::Error;
use super::kv::Stored;
use super::{follow, health, kv, lock};

/// The index, a newline, the body.
pub(crate) fn answer(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (index, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    headers.extend(HeaderValue::from_bytes(index).ok().map(|index| ("X-Consul-Index".parse().ok(), index)));
    let answer = Answer {
        endpoint: "GET /v1/x".to_owned(),
        status: StatusCode::OK,
        index: answer::index(&headers),
        filtered: false,
        leaderless: false,
        body: body.to_vec(),
    };
    if let Ok(next) = follow::next_index(7, &answer) {
        assert!(next == 0 || next >= 7, "{next}");
    }
    if let Ok(known) = answer.parse::<Known>() {
        let _ = (known.others_tags(), known.check("c"));
    }
    answer.parse::<Vec<Stored>>().into_iter().flatten().for_each(|stored| drop(lock::lock(stored)));
    list(body);
    let _ = Answer { status: StatusCode::CONFLICT, ..answer }.refused().to_string();
}

/// However the pieces are cut, the elements are the same; and those of an array are its own.
fn list(body: &[u8]) {
    let whole = cut(body, body.len().max(1));
    assert_eq!(cut(body, 1 + body.len() / 3), whole);
    assert_eq!(cut(body, 1), whole);
    if let Ok(array) = serde_json::from_slice::<Vec<Value>>(body) {
        let (elements, is_whole) = whole.expect("an array is one");
        let parsed = elements.iter().map(|element| serde_json::from_slice::<Value>(element));
        assert!(is_whole && parsed.flatten().eq(array), "another array");
    }
}

fn cut(body: &[u8], size: usize) -> Option<(Vec<Vec<u8>>, bool)> {
    let (mut elements, mut found) = (Elements::default(), Vec::new());
    for piece in body.chunks(size) {
        let each = |element: Element<'_>| {
            if let Element::Whole(json) = element {
                read(json);
                found.push(json.to_vec());
            }
            Ok::<(), Error>(())
        };
        elements.feed(piece, each).ok()?;
    }
    Some((found, elements.is_whole()))
}

fn read(json: &[u8]) {
    match health::instance(Element::Whole(json)) {
        Ok(instance) => assert_within(&instance),
        Err((_, flaw)) => assert!(is_printable(&flaw.to_string()), "{flaw}"),
    }
    if let Err(flaw) = kv::pair(Element::Whole(json)) {
        assert!(is_printable(&flaw.to_string()), "{flaw}");
    }
}
