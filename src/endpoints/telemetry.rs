//! The read-only endpoint: `/`, `/metrics`, `/status`, `/livez`, `/readyz` over TCP. Nothing can be changed through it.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::listener::{Listener, Socket};
use super::routes::Rights;
use super::{Endpoint, Handle, server};

/// Opens it; must be called from within the runtime. The error says why the address can't be had.
pub fn open(at: SocketAddr, endpoint: Endpoint) -> io::Result<Handle> {
    let listener = std::net::TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    let listener = Listener::new(Socket::Tcp(TcpListener::from_std(listener)?));
    Ok(server::serve(listener, endpoint, Rights::Look))
}

impl Handle {
    /// Where a TCP endpoint listens (port 0 in the config asks for any free one).
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        self.endpoint.local_addr()
    }
}
