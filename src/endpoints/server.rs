//! HTTP/1 on a listening socket, within bounds: so many connections, so much to read, so long for everything. What is
//! answered is [`routes`]' business.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::listener::{Listener, Stream};
use super::routes::{self, Rights};
use super::token::Token;
use super::{Endpoint, Handle, routes::ANSWER_WITHIN};

/// Connections served at once. One more ends the oldest: whoever only holds a place loses it, and a probe always
/// gets in.
const MOST_CONNECTIONS: usize = 64;
/// A request's head must be there within this: it is one packet.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// A connection (one request) may take this long from beginning to end: the longest answer, and time to read it.
const CONNECTION_WITHIN: Duration = Duration::from_secs(ANSWER_WITHIN.as_secs() + 10);
/// Before somebody without the token is answered: who has mistyped doesn't notice. How many may guess, [`Token`] says.
const PAUSE_AFTER_A_GUESS: Duration = Duration::from_secs(1);
/// hyper's buffer for a head, and its least.
const HEAD_BYTES: usize = 8 * 1024;
/// The pause after an accept failed (no descriptors left, say), so that the loop doesn't spin on it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves what comes in, until the handle is dropped.
pub fn serve(listener: Listener, endpoint: Endpoint, rights: Rights) -> Handle {
    serve_to(listener, endpoint, rights, None)
}

/// The same for those alone who bring the token, if there is one.
pub fn serve_to(listener: Listener, endpoint: Endpoint, rights: Rights, token: Option<Token>) -> Handle {
    let task = tokio::spawn(accept(listener.clone(), endpoint, rights, token));
    Handle { endpoint: listener, task }
}

async fn accept(listener: Listener, endpoint: Endpoint, rights: Rights, token: Option<Token>) {
    let mut connections = Connections::default();
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            None => return,
            Some(Err(error)) => {
                tracing::debug!(event = "endpoint.accept_failed", "a connection couldn't be taken: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
            Some(Ok(stream)) => {
                let (endpoint, token) = (endpoint.clone(), token.clone());
                let task = match stream {
                    Stream::Tcp(stream) => tokio::spawn(connection(stream, endpoint, rights, token)),
                    Stream::Unix(stream) => tokio::spawn(connection(stream, endpoint, rights, token)),
                };
                connections.add(task.abort_handle());
            }
        }
    }
}

/// The connections being served, oldest first; ended when dropped.
#[derive(Default)]
struct Connections(VecDeque<AbortHandle>);

impl Connections {
    fn add(&mut self, connection: AbortHandle) {
        self.0.retain(|open| !open.is_finished());
        if self.0.len() >= MOST_CONNECTIONS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(connection);
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

pub(super) async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    endpoint: Endpoint,
    rights: Rights,
    token: Option<Token>,
) {
    let (endpoint, token) = (&endpoint, &token);
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(match token {
            Some(token) => match token.is_brought(request.headers()).await {
                Ok(true) => routes::answer(request, endpoint, rights).await,
                Ok(false) => {
                    sleep(PAUSE_AFTER_A_GUESS).await;
                    routes::unauthorised()
                }
                Err(why) => {
                    token.say_once(&why);
                    sleep(PAUSE_AFTER_A_GUESS).await;
                    routes::unavailable("the right token can't be read; the log says why")
                }
            },
            None => routes::answer(request, endpoint, rights).await,
        })
    });
    let mut http = http1::Builder::new();
    // One request a connection: nothing is held between scrapes, and one deadline covers it all.
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES);
    // How a connection ended is its peer's concern.
    let _ = timeout(CONNECTION_WITHIN, http.serve_connection(TokioIo::new(stream), service)).await;
}
