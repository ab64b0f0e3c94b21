//! The endpoint that can change things: a unix socket only its owner may open. Where its file can't be had (a read-only
//! root, another user's directory) the agent listens at an abstract socket instead, which its clients find by
//! themselves; and where that can't be had either, it goes on without, and says so.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};
use tokio::net::UnixListener;

use super::listener::{Listener, Socket, SocketFile};
use super::peer::Peer;
use super::routes::Rights;
use super::{Endpoint, Handle, fallback, server};
use crate::config::Control;

/// Why the control socket can't be had.
#[derive(Debug, thiserror::Error)]
enum Unavailable {
    #[error("another agent answers there")]
    Taken,
    #[error("user {0} listens there, who is neither root nor this agent's own")]
    Stranger(u32),
    #[error("something that is no socket is there")]
    NoSocket,
    #[error("{0}")]
    Kernel(Errno),
}

impl From<Errno> for Unavailable {
    fn from(errno: Errno) -> Unavailable {
        Unavailable::Kernel(errno)
    }
}

/// Opens it; must be called from within the runtime. `None` when it is turned off, or can't be had, which is logged:
/// no container is worth less for it.
pub fn open(control: &Control, endpoint: Endpoint) -> io::Result<Option<Handle>> {
    let Some(path) = &control.socket else { return Ok(None) };
    let socket = match listening(path) {
        Ok(socket) => Socket::Unix { listener: registered(socket)?, file: SocketFile::at(path)? },
        Err(error) => match instead(path, &error) {
            Some(socket) => Socket::Abstract(registered(socket)?),
            None => return Ok(None),
        },
    };
    Ok(Some(server::serve(Listener::new(socket), endpoint, Rights::Command)))
}

fn registered(socket: OwnedFd) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// An abstract socket in place of the file that can't be had. Said in any case.
fn instead(path: &Path, error: &Unavailable) -> Option<OwnedFd> {
    let found = match error {
        // Our own clients would find the other one all the same.
        Unavailable::Taken => None,
        _ => fallback::listening(path).ok(),
    };
    let what = match &found {
        Some((_, name)) => format!(
            "root and this agent's user reach it at the abstract socket @{name} instead, which `pilotfish health`, \
             `status` and so on find by themselves"
        ),
        None => "`pilotfish status`, `reload` and `stop` can't reach this agent".to_owned(),
    };
    tracing::warn!(
        event = "degraded",
        "no control socket at {}: {error} ({what}; [control] socket = \"\" turns it off)",
        path.display()
    );
    found.map(|(socket, _)| socket)
}

fn listening(path: &Path) -> Result<OwnedFd, Unavailable> {
    let address = UnixAddr::new(path)?;
    let socket = stream()?;
    // The file is made with the mode its socket has (unix_bind in net/unix/af_unix.c), so it never has another one.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    match bind(socket.as_raw_fd(), &address) {
        Err(Errno::EADDRINUSE) => {
            clear_stale(path, &address)?;
            bind(socket.as_raw_fd(), &address)?;
        }
        bound => bound?,
    }
    listen(&socket, Backlog::new(64)?)?;
    Ok(socket)
}

/// A container that was killed leaves its socket behind; one at which somebody answers is left alone.
fn clear_stale(path: &Path, address: &UnixAddr) -> Result<(), Unavailable> {
    let is_socket = |metadata: std::fs::Metadata| metadata.file_type().is_socket();
    if !std::fs::symlink_metadata(path).is_ok_and(is_socket) {
        return Err(Unavailable::NoSocket);
    }
    let socket = stream()?;
    // EAGAIN is a full queue: somebody listens.
    match connect(socket.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => Ok(nix::unistd::unlink(path)?),
        Ok(()) => match getsockopt(&socket, PeerCredentials).map(|peer| Peer { pid: peer.pid(), uid: peer.uid() }) {
            Ok(peer) if !peer.may_be_an_agent(false) => Err(Unavailable::Stranger(peer.uid)),
            _ => Err(Unavailable::Taken),
        },
        Err(Errno::EAGAIN) => Err(Unavailable::Taken),
        Err(error) => Err(error.into()),
    }
}

/// A socket to listen or connect with, without waiting.
pub(super) fn stream() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}
