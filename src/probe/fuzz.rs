//! What the fuzz targets throw at a health check: whatever answers at the port it asks.

use std::collections::BTreeMap;

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::HttpProbe;

/// An answer of HTTP: it is healthy, or there is a word on what was wrong.
pub(crate) fn answer(data: &[u8]) {
    let question = HttpProbe {
        url: "http://127.0.0.1/".to_owned(),
        method: "GET".to_owned(),
        headers: BTreeMap::new(),
        expect_status: Vec::new(),
        expect_body: Some("ok".to_owned()),
        ca: None,
        insecure: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let judged = runtime.expect("a runtime").block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let server = async {
            let mut request = [0; 4];
            theirs.read_exact(&mut request).await.ok();
            theirs.write_all(data).await.ok();
            theirs.shutdown().await.ok();
            let mut rest = Vec::new();
            theirs.read_to_end(&mut rest).await.ok();
        };
        let (judged, ()) =
            tokio::join!(super::http::exchange(ours, Request::new(Empty::<Bytes>::new()), &question), server);
        judged
    });
    match judged {
        Ok(()) => assert!(data.windows(2).any(|part| part == b"ok") || data.contains(&b'o'), "healthy without a word"),
        Err(why) => assert!(!why.is_empty()),
    }
}
