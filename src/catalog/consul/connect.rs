//! How an agent is reached: by TCP, with TLS or without, or by a socket in the file system. Each connection is read a little
//! at a time, and breaks when much comes that is no answer. It speaks no HTTP, and sends nothing.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower::Service;

use crate::net::paced::{Paced, Unheard};

use super::names::Names;

/// How long reaching the agent may take, of any call's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The way to one agent.
#[derive(Debug, Clone)]
pub(super) enum Connector {
    /// A host and port.
    Tcp {
        /// To wherever the host's name leads.
        tcp: HttpConnector<Names>,
        /// With https.
        tls: Option<Arc<ClientConfig>>,
    },
    /// A socket's path.
    Unix(Arc<Path>),
}

impl Connector {
    /// To a host, under whatever name it is asked for.
    pub(super) fn tcp(host: &str, tls: Option<ClientConfig>) -> Connector {
        let mut tcp = HttpConnector::new_with_resolver(Names::leading_to(host));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Shared by all addresses.
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        // A host that is cut off answers no blocking query, and no error either: the kernel finds out.
        tcp.set_keepalive(Some(Duration::from_secs(5)));
        tcp.set_keepalive_interval(Some(Duration::from_secs(2)));
        tcp.set_keepalive_retries(Some(3));
        tcp.set_tcp_user_timeout(Some(Duration::from_secs(10)));
        Connector::Tcp { tcp, tls: tls.map(Arc::new) }
    }

    /// To a socket.
    pub(super) fn unix(path: PathBuf) -> Connector {
        Connector::Unix(path.into())
    }

    async fn reach(self, uri: Uri) -> Result<AgentConnection, Failure> {
        let unheard = Unheard::default();
        let stream: Box<dyn Duplex> = match self {
            Connector::Unix(path) => Box::new(Paced::heard_by(UnixStream::connect(path).await?, unheard.clone())),
            Connector::Tcp { mut tcp, tls } => {
                let stream = Paced::heard_by(tcp.call(uri.clone()).await?.into_inner(), unheard.clone());
                match tls {
                    None => Box::new(stream),
                    Some(tls) => Box::new(TlsConnector::from(tls).connect(name(&uri)?, stream).await?),
                }
            }
        };
        Ok(AgentConnection { stream: TokioIo::new(stream), unheard })
    }
}

impl Service<Uri> for Connector {
    type Response = AgentConnection;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<AgentConnection, Failure>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let reach = self.clone().reach(uri);
        Box::pin(async move {
            let late =
                |_| io::Error::new(io::ErrorKind::TimedOut, format!("not within {} s", CONNECT_TIMEOUT.as_secs()));
            timeout(CONNECT_TIMEOUT, reach).await.map_err(late)?
        })
    }
}

/// Whom the certificate must be for.
fn name(uri: &Uri) -> Result<ServerName<'static>, Failure> {
    let host = uri.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| format!("{bare} can't be in a certificate").into())
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// A connection to an agent. Its answers bring along what has to hear of them: see [`Unheard`].
pub(super) struct AgentConnection {
    stream: TokioIo<Box<dyn Duplex>>,
    unheard: Unheard,
}

impl Connection for AgentConnection {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.unheard.clone())
    }
}

impl Read for AgentConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for AgentConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
