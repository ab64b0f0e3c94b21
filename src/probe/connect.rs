//! A TCP connection to a host and port as a user writes them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::errors;
use crate::net::resolver::resolve;

/// `host:port`, `192.0.2.1:80` or `[::1]:80`.
pub fn host_and_port(address: &str) -> Result<(&str, u16), String> {
    let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{address} has no port"))?;
    let port = port.parse().map_err(|_| format!("{port} isn't a port"))?;
    Ok((host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), port))
}

/// Connects to the first of the host's addresses that answers; none may use up more than its share of the time.
pub async fn connect(host: &str, port: u16, within: Duration) -> Result<TcpStream, String> {
    let addresses = resolve(host).await.map_err(|error| errors::chain(&error))?;
    let share = within / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut first_error = None;
    for address in addresses {
        let error = match timeout(share, TcpStream::connect(SocketAddr::new(address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => format!("can't connect to {}: {}", SocketAddr::new(address, port), plain(&error)),
            Err(_) => format!(
                "no connection to {} within {}",
                SocketAddr::new(address, port),
                humantime::format_duration(share)
            ),
        };
        first_error.get_or_insert(error);
    }
    Err(first_error.unwrap_or_else(|| format!("{host} has no address")))
}

/// An exchange, with the connection driven beside it: it learns of the connection's end, which is dropped with it.
pub async fn driven(connection: impl Future, exchange: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let drive = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = exchange => answer,
        () = drive => Err("connection lost".to_owned()),
    }
}

/// An error of the kernel's in words, without its number.
pub fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_lowercase(),
        None => errors::cut(error),
    }
}
