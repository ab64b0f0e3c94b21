//! How the command line asks a running agent: one request over its control socket, with a deadline for everything, and
//! only if who listens there may be the agent.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::fallback;
pub use super::fallback::where_init_listens;
use super::peer::Peer;
use crate::files::SocketPlace;

/// An answer is never longer than this: a status of thousands of checks fits.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// An agent whose place somebody else has taken notices within two seconds (`control`), and listens elsewhere: it is
/// looked for so often, with these pauses.
const TRIES: u32 = 15;
const PAUSE: Duration = Duration::from_millis(200);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or the caller may not ask.
    #[error("no agent can be reached at {}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody listens who isn't an agent, where others may have put a socket of root's.
    #[error(
        "process {} listens at {}, where others may put a socket of root's, and isn't pilotfish: not asked",
        .peer.pid, .path.display()
    )]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// Who it is.
        peer: Peer,
    },
    /// Who listens there is nobody to be believed.
    #[error(
        "user {} (process {}) listens at {}, and is neither root nor you nor the container's init: not asked",
        .peer.uid, .peer.pid, .path.display()
    )]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// Who it is.
        peer: Peer,
    },
    /// A socket that somebody else put there, and listens at no more.
    #[error("nobody listens at {}, a socket that user {owner} has put there", path.display())]
    Deserted {
        /// The socket.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// An agent's abstract socket may be theirs, whom we don't believe.
    #[error(
        "no agent can be reached at {}, and who listens at the abstract socket in its place, user {} (process {}), is neither \
         root nor you nor the container's init: not asked; ask as user {}",
        .path.display(), .peer.uid, .peer.pid, .peer.uid
    )]
    Another {
        /// The socket.
        path: PathBuf,
        /// Who it is.
        peer: Peer,
    },
    /// Who listens there would turn us away.
    #[error(
        "the agent has no socket file but an abstract socket, where it answers root and its own user ({}) alone: this is user {own}",
        .peer.uid
    )]
    NotForUs {
        /// Who it is.
        peer: Peer,
        /// Our own user.
        own: u32,
    },
    /// The connection broke, or what came isn't HTTP.
    #[error("the agent's answer can't be read")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The deadline passed.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    TooLate(Duration),
}

/// What the agent answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body as text.
    pub body: String,
}

/// The same, its body as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawReply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

/// Asks once. Where nobody who can be believed listens at the socket's path, an agent that couldn't have the path is
/// looked for at its abstract socket.
///
/// # Errors
/// When there is no whole answer within the deadline; an answer that says no is no error.
pub async fn ask(socket: &Path, method: Method, path: &str, within: Duration) -> Result<Reply, ClientError> {
    let RawReply { status, body } = ask_with(socket, method, path, Bytes::new(), within).await?;
    Ok(Reply { status, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The same, with a body.
///
/// # Errors
/// The same.
pub async fn ask_with(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
    within: Duration,
) -> Result<RawReply, ClientError> {
    timeout(within, exchange(socket, method, path, body)).await.unwrap_or(Err(ClientError::TooLate(within)))
}

async fn exchange(socket: &Path, method: Method, path: &str, body: Bytes) -> Result<RawReply, ClientError> {
    let stream = connect(socket).await?;
    let broken = |error: hyper::Error| ClientError::Broken(error.into());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|error| ClientError::Broken(Box::new(error)))?;
    request.headers_mut().insert(HOST, hyper::header::HeaderValue::from_static("pilotfish"));
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(ClientError::Broken)?;
        Ok(RawReply { status, body: body.to_bytes() })
    };
    // The connection is driven beside the exchange and dropped with it; if it ends first, the exchange learns why.
    let drive = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answer => answer,
        () = drive => unreachable!("the drive never ends"),
    }
}

async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    let mut tries = 0..TRIES;
    while tries.next().is_some() {
        match connect_now(socket).await {
            Err(ClientError::Stranger { .. } | ClientError::NoAgent { .. } | ClientError::Deserted { .. }) => {
                tokio::time::sleep(PAUSE).await;
            }
            // Others who share the network crowd at its abstract socket: there is room in a moment, be it for them or us, until
            // whoever asks gives up.
            Err(error) if is_crowded(&error) => {
                tries = 0..TRIES;
                tokio::time::sleep(PAUSE / 20).await;
            }
            connected => return connected,
        }
    }
    connect_now(socket).await
}

async fn connect_now(socket: &Path) -> Result<UnixStream, ClientError> {
    // Where containers share the directory, another one's agent may have the path, and ours listens beside it.
    let (outside, failed) = match believed(socket, false).await {
        Ok(stream) if Peer::of(&stream).is_some_and(Peer::is_outside) => (Some(stream), None),
        Ok(stream) => return Ok(stream),
        Err(error) => (None, Some(error)),
    };
    let (mut another, mut crowded) = (None, None);
    for name in fallback::names(socket) {
        // The runtime's way to say an abstract name.
        match believed(Path::new(&format!("\0{name}")), true).await {
            Ok(stream) => {
                let own = nix::unistd::geteuid().as_raw();
                return match Peer::of(&stream) {
                    Some(peer) if own != 0 && own != peer.uid => Err(ClientError::NotForUs { peer, own }),
                    Some(_) | None => Ok(stream),
                };
            }
            // Of another container, who shares the network alone, it isn't an agent of ours.
            Err(ClientError::Stranger { peer, .. }) if peer.pid > 0 => another = Some(peer),
            Err(ClientError::Unreachable { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                crowded = Some(ClientError::Unreachable { path: socket.to_owned(), source });
            }
            Err(_) => {}
        }
    }
    match (outside, crowded.or(failed), another) {
        (Some(stream), ..) => Ok(stream),
        (None, Some(ClientError::Unreachable { path, .. }), Some(peer)) => Err(ClientError::Another { path, peer }),
        (None, Some(failed), _) => Err(failed),
        (None, None, _) => unreachable!("it either failed or didn't"),
    }
}

/// Somebody listens, and has more to accept than there is room for.
fn is_crowded(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
}

async fn believed(path: &Path, anyone_may_listen: bool) -> Result<UnixStream, ClientError> {
    let unreachable = |source| ClientError::Unreachable { path: path.to_owned(), source };
    // Somebody's link may lead to another socket of root's, at which nothing is to be said, be it put there as we look;
    // and so may that be itself, where others rename. So it is the one that was found that is spoken to, and none if none was.
    let (held, owner) = match anyone_may_listen {
        true => (None, None),
        false => {
            let (held, owner) = SocketPlace::find_and_hold(path).map_err(unreachable)?;
            (Some(held), owner)
        }
    };
    let stream = match &held {
        Some(socket) => UnixStream::connect(socket.path()).await,
        None => UnixStream::connect(path).await,
    };
    let anothers = owner.filter(|owner| ![0, nix::unistd::geteuid().as_raw()].contains(owner));
    let stream = stream.map_err(|error| match anothers {
        Some(owner) if error.kind() == io::ErrorKind::ConnectionRefused => {
            ClientError::Deserted { path: path.to_owned(), owner }
        }
        _ => unreachable(error),
    })?;
    let in_others_hands = held.is_some_and(|held| held.is_in_others_hands());
    match Peer::of(&stream) {
        Some(peer) if in_others_hands && !peer.runs_this_program() && peer.may_be_an_agent(false) => {
            Err(ClientError::NoAgent { path: path.to_owned(), peer })
        }
        Some(peer) if peer.may_be_an_agent(anyone_may_listen) => Ok(stream),
        Some(peer) => Err(ClientError::Stranger { path: path.to_owned(), peer }),
        None => Err(unreachable(io::Error::other("the kernel doesn't say who listens there"))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A link that comes and goes is either seen, and refused, or there is nothing to speak to.
    #[test]
    fn a_link_that_somebody_puts_there_as_the_client_looks_leads_to_no_other_socket_of_roots() {
        const OTHER: u32 = 65_534;
        let directory = tempfile::tempdir().unwrap();
        let roots = directory.path().join("roots.sock");
        let listens = UnixListener::bind(&roots).unwrap();
        listens.set_nonblocking(true).unwrap();
        let [tmp, aside] = ["tmp", "aside"].map(|name| directory.path().join(name));
        std::fs::create_dir(&tmp).unwrap();
        std::fs::set_permissions(&tmp, std::fs::Permissions::from_mode(0o1777)).unwrap();
        std::os::unix::fs::symlink(&roots, &aside).unwrap();
        if let Err(error) = std::os::unix::fs::lchown(&aside, Some(OTHER), Some(OTHER)) {
            return eprintln!("not tried: only root makes links of others ({error})");
        }
        let (path, over) = (tmp.join("s"), AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::fs::rename(&aside, &path).unwrap();
                    std::fs::rename(&path, &aside).unwrap();
                }
            });
            let spoken = (0..5_000).filter(|_| runtime.block_on(believed(&path, false)).is_ok()).count();
            over.store(true, Ordering::Relaxed);
            assert_eq!(spoken, 0, "of 5,000 times");
        });
        assert!(listens.accept().is_err(), "nobody came");
    }
}
