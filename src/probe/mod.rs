//! Health questions asked by the agent itself, without a child process. A probe keeps nothing between two runs: no
//! connection, no buffer (only what verifies TLS, once there is a check with it). When it is asked, and what its
//! answer means, is the core's to decide.

mod connect;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod grpc;
mod http;
mod tls;

use std::time::Duration;

use crate::config::Probe;

/// Asks once, from the name's resolution to the last byte within `timeout`.
///
/// # Errors
/// What is wrong, in a few words for people (`connection refused`, `status 503`, `no answer within 2s`).
pub async fn probe(probe: &Probe, timeout: Duration) -> Result<(), String> {
    let asking = async {
        match probe {
            Probe::Http(question) => http::ask(question, timeout).await,
            Probe::Tcp { address } => {
                let (host, port) = connect::host_and_port(address)?;
                connect::connect(host, port, timeout).await.map(drop)
            }
            Probe::Grpc(question) => grpc::ask(question, timeout).await,
            Probe::Exec { .. } | Probe::Notify => Err("this check is not asked over the network".to_owned()),
        }
    };
    let late = || Err(format!("no answer within {}", humantime::format_duration(timeout)));
    tokio::time::timeout(timeout, asking).await.unwrap_or_else(|_| late())
}
