//! An address that stays while what is behind it changes: a forwarder for tests.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Leads to one server at a time, or to none.
pub struct Relay {
    /// Where it is.
    pub at: SocketAddr,
    behind: watch::Sender<Option<SocketAddr>>,
}

impl Relay {
    /// Leads there, as long as the test's runtime lives.
    pub async fn to(server: SocketAddr) -> Relay {
        Relay::slow(server, Duration::ZERO).await
    }

    /// The same, and each answer takes so long.
    pub async fn slow(server: SocketAddr, delay: Duration) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("it is bound");
        let (behind, now) = watch::channel(Some(server));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut now = now.clone();
                let Some(server) = *now.borrow_and_update() else {
                    // Not before something was asked, or what the client is told hangs on who is faster.
                    tokio::spawn(async move { client.read(&mut [0; 4096]).await });
                    continue;
                };
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let (mut asked, mut answered) = client.split();
                    let (mut answers, mut asks) = server.into_split();
                    tokio::select! {
                        _ = tokio::io::copy(&mut asked, &mut asks) => {}
                        _ = late(&mut answers, &mut answered, delay) => {}
                        _ = now.changed() => {}
                    }
                });
            }
        });
        Relay { at, behind }
    }

    /// Cuts every connection, and leads elsewhere from now on.
    pub fn lead_to(&self, server: Option<SocketAddr>) {
        self.behind.send_replace(server);
    }
}

/// Hands on what comes, so much later: answers that come together aren't late one after the other.
async fn late(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    delay: Duration,
) -> std::io::Result<()> {
    let (come, mut coming) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        loop {
            let mut bytes = vec![0; 16 * 1024];
            match from.read(&mut bytes).await? {
                0 => return std::io::Result::Ok(()),
                count => bytes.truncate(count),
            }
            let _ = come.send((Instant::now() + delay, bytes));
        }
    };
    let write = async {
        while let Some((due, bytes)) = coming.recv().await {
            sleep_until(due).await;
            to.write_all(&bytes).await?;
        }
        std::io::Result::Ok(())
    };
    let (read, written) = tokio::join!(read, write);
    read.and(written)
}
