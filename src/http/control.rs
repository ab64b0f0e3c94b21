//! The door that can change things: a unix socket only its owner may open. Where it can't be had (a read-only root,
//! another user's directory) the agent goes on without it, and says so.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use tokio::net::UnixListener;

use super::listener::{Listener, Socket, SocketFile};
use super::routes::Rights;
use super::{Door, Handle, server};
use crate::config::Control;

/// Why the control socket can't be had.
#[derive(Debug, thiserror::Error)]
enum Unavailable {
    #[error("another agent answers there")]
    Taken,
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
pub fn open(control: &Control, door: Door) -> io::Result<Option<Handle>> {
    let Some(path) = &control.socket else { return Ok(None) };
    let socket = match listening(path) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(
                event = "degraded",
                "no control socket at {}: {error} (`pilotfish status`, `reload` and `stop` can't reach this agent; \
                 [control] socket = \"\" turns it off)",
                path.display()
            );
            return Ok(None);
        }
    };
    let file = SocketFile::at(path)?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    let listener = Listener::new(Socket::Unix { listener: UnixListener::from_std(listener)?, file });
    Ok(Some(server::serve(listener, door, Rights::Command)))
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
    // EAGAIN is a full queue: somebody listens.
    match connect(stream()?.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => Ok(nix::unistd::unlink(path)?),
        Ok(()) | Err(Errno::EAGAIN) => Err(Unavailable::Taken),
        Err(error) => Err(error.into()),
    }
}

fn stream() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}
