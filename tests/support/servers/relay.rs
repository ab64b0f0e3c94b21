//! An address that stays while what is behind it changes: a forwarder for tests.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Leads to one server at a time, or to none.
pub struct Relay {
    /// Where it is.
    pub at: SocketAddr,
    behind: watch::Sender<Option<SocketAddr>>,
}

impl Relay {
    /// Leads there, as long as the test's runtime lives.
    pub async fn to(server: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("it is bound");
        let (behind, now) = watch::channel(Some(server));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut now = now.clone();
                let Some(server) = *now.borrow_and_update() else { continue };
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
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
