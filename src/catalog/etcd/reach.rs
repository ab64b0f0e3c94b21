//! One TCP connection to a member that may have several addresses, dead ones among them. It speaks no TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::net::race::race;
use crate::net::resolver::{self, ResolveError};

/// An address has so long before the next one is tried too (RFC 8305 §5).
const LEAD: Duration = Duration::from_millis(250);

/// Within this all have been tried: reaching a member has 0.7 s in an election's calls, its name's lookup included.
const ALL_TRIED: Duration = Duration::from_millis(400);

/// Looking a name up ends before reaching a member does (2 s): a name server that is silent is to be told, not a member.
const LOOKUP: Duration = Duration::from_millis(1800);

/// Nobody has more members behind one name; an answer by TCP may hold thousands of addresses.
const MOST_ADDRESSES: usize = 16;

/// A connection to whichever of a host's addresses takes one first.
pub(super) async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    let late = |_| ResolveError::NoAnswer { host: host.to_owned(), why: format!("no answer within {LOOKUP:?}") };
    let found = timeout(LOOKUP, resolver::resolve(host)).await.map_err(late);
    let addresses = found.and_then(|found| found).map_err(io::Error::other)?;
    let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, port));
    let connection = to_any(addresses.take(MOST_ADDRESSES).collect()).await;
    let nowhere = || io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    let stream = connection.map_err(|failure| failure.unwrap_or_else(nowhere))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn to_any(addresses: Vec<SocketAddr>) -> Result<TcpStream, Option<io::Error>> {
    let many = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let ways = addresses.into_iter().map(TcpStream::connect::<SocketAddr>);
    race(ways.collect(), LEAD.min(ALL_TRIED / many)).await
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    use super::*;

    /// An address where nobody answers, as if its host were off; as long as these sockets live.
    async fn dead() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let at = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        // Once nobody else can wait to be accepted, the kernel drops what comes.
        while let Ok(stream) = timeout(Duration::from_millis(100), TcpStream::connect(at)).await {
            waiting.push(stream.unwrap());
        }
        (at, waiting, listener)
    }

    #[tokio::test]
    async fn dead_addresses_before_the_living_one_leave_time_within_an_elections_call() {
        let (first, second) = (dead().await, dead().await);
        let living = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![first.0, second.0, living.local_addr().unwrap()];
        let stream = timeout(Duration::from_millis(500), to_any(addresses)).await.expect("in time").unwrap();
        assert_eq!(stream.peer_addr().unwrap(), living.local_addr().unwrap());
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_no_time() {
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let living = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![refusing, living.local_addr().unwrap()];
        timeout(Duration::from_millis(100), to_any(addresses)).await.expect("at once").unwrap();
        assert!(to_any(vec![refusing]).await.unwrap_err().is_some());
    }
}
