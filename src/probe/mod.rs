//! Health questions asked by the agent itself, without a child process.

use std::time::Duration;

use crate::config::Probe;

/// Asks, and says what was wrong.
///
/// # Errors
/// One sentence for people.
pub async fn probe(probe: &Probe, timeout: Duration) -> Result<(), String> {
    let Probe::Tcp { address } = probe else { return Err("only tcp is asked in this version".to_owned()) };
    match tokio::time::timeout(timeout, tokio::net::TcpStream::connect(address.as_str())).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
