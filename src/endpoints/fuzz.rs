//! What the fuzz targets throw at our endpoints: what somebody sends who has reached them.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use crate::supervisor::Status;
use crate::supervisor::vocabulary::{Answer, CheckStatus, MainStatus, MaintenanceStatus};

use super::routes::Rights;
use super::{ControlRequest, Endpoint, fallback, server};

/// A request: at both endpoints it has an answer that is HTTP, or none; and only at one of them it is an order.
pub(crate) fn request(data: &[u8]) {
    fallback::listed(data, "pilotfish/1/2//run/p", &BTreeSet::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let (asked, mut orders) = mpsc::channel::<ControlRequest>(4);
        let (_status, status) = watch::channel(status());
        let endpoint = Endpoint::new(status, asked);
        let mut ordered = 0;
        for rights in [Rights::Look, Rights::Command] {
            let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
            let client = async {
                theirs.write_all(data).await.ok();
                theirs.shutdown().await.ok();
                let mut answer = Vec::new();
                theirs.read_to_end(&mut answer).await.ok();
                answer
            };
            let loops = async {
                while let Some(ControlRequest { question, answer }) = orders.recv().await {
                    ordered += 1;
                    answer.send(Answer::Done(format!("{question:?}"))).ok();
                }
            };
            let answer = tokio::select! {
                (answer, ()) = async { tokio::join!(client, server::connection(ours, endpoint.clone(), rights, None)) } => answer,
                () = loops => unreachable!("the endpoint keeps its end"),
            };
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&answer));
            assert!(rights == Rights::Command || ordered == 0, "an order was taken where none may be given");
        }
    });
}

fn status() -> Status {
    let check = CheckStatus {
        name: "a<b".to_owned(),
        counts: true,
        note: "\u{1b}[2J".to_owned(),
        passed: 1,
        failed: 2,
        ..CheckStatus::default()
    };
    let maintenance = MaintenanceStatus { since: Default::default(), until: None, reason: Some("disk".to_owned()) };
    let main = MainStatus { pid: Some(7), ..MainStatus::default() };
    Status { main, health: vec![check], maintenance: Some(maintenance), ..Status::default() }
}
