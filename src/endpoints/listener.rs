//! A listening socket that can be shut from outside the task that accepts on it. It speaks no HTTP.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::peer::Peer;
use crate::files::SocketPlace;

/// Strangers turned away in one turn at an abstract socket.
const MOST_REFUSED: usize = 16;

/// A listening socket, or what is left of one that was shut.
#[derive(Debug, Clone)]
pub struct Listener(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// `None` when shut.
    socket: Option<Socket>,
    /// Who waits for the next connection: at another socket they must ask anew.
    waits: Option<Waker>,
}

/// Where connections come from.
#[derive(Debug)]
pub enum Socket {
    /// Everybody who reaches the address.
    Tcp(TcpListener),
    /// Who may open the file.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Its place in the file system, cleared away with it.
        file: SocketFile,
    },
    /// Root and our own user, in our own container; anybody of the network namespace may knock.
    Abstract(UnixListener),
}

/// One connection.
pub enum Stream {
    /// From a TCP endpoint.
    Tcp(TcpStream),
    /// From a unix endpoint.
    Unix(UnixStream),
}

impl Listener {
    /// Starts listening.
    pub fn new(socket: Socket) -> Listener {
        Listener(Arc::new(Mutex::new(State { socket: Some(socket), waits: None })))
    }

    /// Closes the socket now, and tells whoever accepts on it.
    pub fn shut(&self) {
        let mut state = self.lock();
        state.socket.take();
        if let Some(waits) = state.waits.take() {
            waits.wake();
        }
    }

    /// Listens at another socket from now on, unless it is shut.
    pub fn replace(&self, socket: Socket) {
        let mut state = self.lock();
        if state.socket.is_some() {
            state.socket = Some(socket);
            if let Some(waits) = state.waits.take() {
                waits.wake();
            }
        }
    }

    /// Which file the socket has; `None` when it has none, or is shut.
    pub fn file(&self) -> Option<(u64, u64)> {
        match &self.lock().socket {
            Some(Socket::Unix { file, .. }) => Some(file.identity),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is an assignment: a panic can't have left it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next connection; `None` when shut.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Stream>>> {
        let mut state = self.lock();
        state.waits = Some(cx.waker().clone());
        match &state.socket {
            Some(Socket::Tcp(tcp)) => tcp.poll_accept(cx).map_ok(|(stream, _)| Stream::Tcp(stream)).map(Some),
            Some(Socket::Unix { listener, .. }) => {
                listener.poll_accept(cx).map_ok(|(stream, _)| Stream::Unix(stream)).map(Some)
            }
            Some(Socket::Abstract(listener)) => {
                for _ in 0..MOST_REFUSED {
                    let (stream, _) = ready!(listener.poll_accept(cx))?;
                    if Peer::of(&stream).is_some_and(Peer::may_command) {
                        return Poll::Ready(Some(Ok(Stream::Unix(stream))));
                    }
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }

    /// Where a TCP endpoint really listens (port 0 asks for any).
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        match &self.lock().socket {
            Some(Socket::Tcp(tcp)) => tcp.local_addr().ok(),
            _ => None,
        }
    }
}

/// The file of a unix socket; removed when dropped, if it is still the same one.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// By whose number the socket is named, where the path is others' to change: as long as it is open,
    /// [`fallback`](super::fallback) finds from that name where the socket is.
    _directory: Option<OwnedFd>,
}

impl SocketFile {
    /// The file a socket was just bound to, in the place that was found for it.
    pub fn at(path: &Path, bound: SocketPlace) -> io::Result<SocketFile> {
        let identity = SocketPlace::find(path)?.identity().ok_or(io::ErrorKind::NotFound)?;
        Ok(SocketFile { path: path.to_owned(), identity, _directory: bound.into_directory_of_its_name() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another agent may have put its own there meanwhile; and a file system gone read-only is nobody's concern now.
        if let Ok(place) = SocketPlace::find(&self.path)
            && place.identity() == Some(self.identity)
        {
            let _ = place.remove();
        }
    }
}
