//! The endpoint that can change things: a unix socket only its owner may open. Where its file can't be had (a read-only
//! root, another user's directory) the agent listens at an abstract socket instead, which its clients find by
//! themselves; and where that can't be had either, it goes on without, and says so. When its file is removed or
//! replaced it says that too, and listens anew.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{Backlog, UnixAddr, bind, connect, getsockopt, listen};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;

use super::listener::{Listener, Socket, SocketFile};
use super::peer::{self, Peer};
use super::routes::Rights;
use super::token::Token;
use super::{Endpoint, Handle, fallback, server};
use crate::config::{Control, ControlListen};
use crate::files::{Reader, SocketPlace};

/// How often it is looked whether the socket's file is still there.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Removed twice within this, it is somebody's work, and not a volume that is tidied up.
const KEEPS_REMOVING: Duration = Duration::from_secs(60);

/// Why the control socket can't be had.
#[derive(Debug, thiserror::Error)]
enum Unavailable {
    #[error("another agent answers there")]
    Taken,
    #[error("another container's agent answers there")]
    TakenOutside,
    #[error("user {0} listens there, who is neither root nor this agent's own")]
    Stranger(u32),
    #[error("process {0} listens there, which isn't an agent")]
    NoAgent(i32),
    #[error("something that isn't a socket is there")]
    NoSocket,
    #[error("somebody keeps removing it")]
    Removed,
    #[error("{0}")]
    Kernel(io::Error),
}

impl From<Errno> for Unavailable {
    fn from(errno: Errno) -> Unavailable {
        Unavailable::Kernel(errno.into())
    }
}

impl From<io::Error> for Unavailable {
    fn from(error: io::Error) -> Unavailable {
        Unavailable::Kernel(error)
    }
}

/// Opens it; must be called from within the runtime. `None` when it is turned off, or can't be had, which is logged:
/// no container is worth less for it.
pub fn open(control: &Control, endpoint: Endpoint) -> io::Result<Option<Handle>> {
    let Some(path) = &control.socket else { return Ok(None) };
    let Some(socket) = somewhere(path, true)? else { return Ok(None) };
    let listener = Listener::new(socket);
    tokio::spawn(keep(listener.clone(), path.clone()));
    Ok(Some(server::serve(listener, endpoint, Rights::Command)))
}

/// The same over TCP, for whoever brings the token; must be called from within the runtime. The error says why the address
/// can't be had.
pub fn open_tcp(listen: &ControlListen, endpoint: Endpoint) -> io::Result<Handle> {
    let listener = std::net::TcpListener::bind(listen.at)?;
    listener.set_nonblocking(true)?;
    let listener = Listener::new(Socket::Tcp(TcpListener::from_std(listener)?));
    Ok(server::serve_to(listener, endpoint, Rights::Command, Some(Token::of(listen.token_file.clone()))))
}

/// At its file, or, if `news`, at an abstract socket, and it is said why; else it was tried before.
fn somewhere(path: &Path, news: bool) -> io::Result<Option<Socket>> {
    match listening(path) {
        Ok((socket, file)) => Ok(Some(Socket::Unix { listener: registered(socket)?, file })),
        Err(error) if news => abstract_instead(path, &error),
        Err(_) => Ok(None),
    }
}

fn abstract_instead(path: &Path, error: &Unavailable) -> io::Result<Option<Socket>> {
    Ok(instead(path, error).map(registered).transpose()?.map(Socket::Abstract))
}

/// Listens anew when the socket's file isn't there any more, or is somebody else's, until the endpoint is shut. While another
/// agent has its place it is looked whether that is gone.
async fn keep(listener: Listener, path: PathBuf) {
    let reader = Reader::default();
    let (mut said, mut removed) = (None, None::<Instant>);
    while let Some(ours) = listener.file() {
        tokio::time::sleep(LOOK_EVERY).await;
        let looked = path.clone();
        let (there, what) = match reader.read(move || SocketPlace::find(&looked).map(|place| place.identity())).await {
            Ok(Ok(Some(there))) => (Some(there), "replaced by somebody"),
            Ok(Ok(None)) => (None, "removed"),
            Ok(Err(error)) => match lost_by(&error) {
                Some(what) => (None, what),
                None => continue,
            },
            // What can't be looked at is taken to be as it was.
            Err(_) => continue,
        };
        if there == Some(ours) || listener.file() != Some(ours) {
            continue;
        }
        let is_news = said.replace(there) != Some(there);
        if is_news {
            tracing::warn!(event = "degraded", "the control socket {} was {what}", path.display());
        }
        let again = there.is_none() && removed.replace(Instant::now()).is_some_and(|at| at.elapsed() < KEEPS_REMOVING);
        let found = match again {
            true => abstract_instead(&path, &Unavailable::Removed),
            false => somewhere(&path, is_news),
        };
        match found {
            Ok(Some(socket)) => {
                listener.replace(socket);
                said = None;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(
                    event = "degraded",
                    "there is no control socket: can't open {}: {error}",
                    path.display()
                );
                return;
            }
        }
    }
}

/// What became of the socket's file, if the way to its place tells: its directory is gone too, or is something else now, as
/// a link that leads nowhere, in a circle, or where whoever made it may put nothing.
fn lost_by(error: &io::Error) -> Option<&'static str> {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => Some("removed"),
        (io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory, _) | (_, Some(libc::ELOOP)) => {
            Some("replaced by somebody")
        }
        _ => None,
    }
}

fn registered(socket: OwnedFd) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Who takes us for an agent at an abstract socket ([`super::peer`]).
fn believed_by() -> &'static str {
    match std::process::id() == 1 || nix::unistd::geteuid().is_root() {
        true => "root and this agent's user can reach it",
        false => "only this agent's user can reach it",
    }
}

/// An abstract socket in place of the file that can't be had. Said in any case.
fn instead(path: &Path, error: &Unavailable) -> Option<OwnedFd> {
    let found = match error {
        // Our own clients would find the other one all the same.
        Unavailable::Taken => None,
        _ => fallback::listen_beside(path).ok(),
    };
    let what = match &found {
        Some((_, name)) => format!(
            "{} at the abstract socket @{name} instead, which `pilotfish health`, `status` and so on find by themselves",
            believed_by()
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

fn listening(path: &Path) -> Result<(OwnedFd, SocketFile), Unavailable> {
    let place = SocketPlace::find(path)?;
    let address = place.address()?;
    if place.is_taken() {
        clear_stale(&place, &address)?;
    }
    let socket = peer::stream()?;
    // The file is made with the mode its socket has (unix_bind in net/unix/af_unix.c), so it never has another one.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &address)?;
    listen(&socket, Backlog::new(64)?)?;
    let file = SocketFile::at(path, place)?;
    match is_ours(path)? {
        true => Ok((socket, file)),
        false => Err(Unavailable::Removed),
    }
}

/// Whether we ourselves listen there: where others may rename, one may have been put there as soon as ours was made, and
/// what is there is taken for ours from then on.
fn is_ours(path: &Path) -> Result<bool, Unavailable> {
    let Some(held) = SocketPlace::find(path)?.held()? else { return Ok(true) };
    let socket = peer::stream()?;
    match connect(socket.as_raw_fd(), &UnixAddr::new(&held.path())?) {
        Ok(()) => Ok(getsockopt(&socket, PeerCredentials)?.pid() == nix::unistd::getpid().as_raw()),
        Err(_) => Ok(false),
    }
}

/// A container that was killed leaves its socket behind; one at which somebody answers is left alone.
fn clear_stale(place: &SocketPlace, address: &UnixAddr) -> Result<(), Unavailable> {
    if !place.is_socket() {
        return Err(Unavailable::NoSocket);
    }
    let socket = peer::stream()?;
    let held = place.held()?;
    let there = held.as_ref().map(|held| UnixAddr::new(&held.path())).transpose()?;
    match connect(socket.as_raw_fd(), there.as_ref().unwrap_or(address)) {
        Err(Errno::ECONNREFUSED) => Ok(place.remove()?),
        Ok(()) => match getsockopt(&socket, PeerCredentials).map(|peer| Peer { pid: peer.pid(), uid: peer.uid() }) {
            Ok(peer) if !peer.may_be_an_agent(false) => Err(Unavailable::Stranger(peer.uid)),
            Ok(peer) if peer.is_outside() => Err(Unavailable::TakenOutside),
            Ok(peer) if held.is_some() && !peer.runs_this_program() => Err(Unavailable::NoAgent(peer.pid)),
            _ => Err(Unavailable::Taken),
        },
        // Its queue is full, so somebody listens. The kernel doesn't say who, but whose file it is.
        Err(Errno::EAGAIN) => match place.owner() {
            Some(user) if ![0, geteuid().as_raw()].contains(&user) => Err(Unavailable::Stranger(user)),
            _ => Err(Unavailable::Taken),
        },
        Err(error) => Err(error.into()),
    }
}
