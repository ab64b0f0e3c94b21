//! HTTP/1 on a listening socket, within bounds: so many connections, so much to read, so long for everything. What is
//! answered is [`routes`]' business.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::listener::{Listener, Stream};
use super::routes::{self, Rights};
use super::token::Token;
use super::{Endpoint, Handle, routes::ANSWER_WITHIN};

/// Connections served at once. One more ends the oldest of whoever has most: who only holds places loses them, and a probe
/// from elsewhere always gets in.
const MOST_CONNECTIONS: usize = 64;
/// Nor more than this part of the descriptors that the agent may have: it has checks to run, and other endpoints.
const PART_OF_DESCRIPTORS: usize = 8;
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
    tokio::spawn(accept(listener.clone(), endpoint, rights, token));
    Handle { endpoint: listener }
}

async fn accept(listener: Listener, endpoint: Endpoint, rights: Rights, token: Option<Token>) {
    let mut connections = Connections::within(descriptors());
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            None => return,
            Some(Err(error)) => {
                tracing::debug!(event = "endpoint.accept_failed", "a connection couldn't be taken: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
            Some(Ok(stream)) => {
                let (endpoint, token) = (endpoint.of_a_connection(), token.clone());
                let (from, task) = match stream {
                    Stream::Tcp(stream) => {
                        let from = stream.peer_addr().ok().map(|from| from.ip());
                        (from, tokio::spawn(connection(stream, endpoint, rights, token)))
                    }
                    Stream::Unix(stream) => (None, tokio::spawn(connection(stream, endpoint, rights, token))),
                };
                connections.add(from, task.abort_handle());
            }
        }
    }
}

/// How many descriptors the agent may have open.
fn descriptors() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// The connections being served, oldest first, with where they come from. Each ends by itself: an endpoint that is shut
/// answers whom it has heard.
struct Connections {
    open: VecDeque<(Option<IpAddr>, AbortHandle)>,
    most: usize,
}

impl Connections {
    /// As many as so many descriptors allow.
    fn within(descriptors: usize) -> Connections {
        Connections { open: VecDeque::new(), most: (descriptors / PART_OF_DESCRIPTORS).clamp(1, MOST_CONNECTIONS) }
    }

    fn add(&mut self, from: Option<IpAddr>, connection: AbortHandle) {
        self.open.retain(|(_, open)| !open.is_finished());
        while self.open.len() >= self.most {
            let Some((_, oldest)) = self.open.remove(self.oldest_of_most()) else { break };
            oldest.abort();
        }
        self.open.push_back((from, connection));
    }

    /// The oldest connection of whoever has most of them; of several, of who has had one for longest.
    fn oldest_of_most(&self) -> usize {
        let mut counts = HashMap::<_, usize>::new();
        for (from, _) in &self.open {
            *counts.entry(from).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        self.open.iter().position(|(from, _)| counts[from] == most).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_most_connections_loses_the_oldest_and_a_small_limit_leaves_room() {
        let task = || tokio::spawn(std::future::pending::<()>()).abort_handle();
        let (one, other) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        let mut connections = Connections::within(64);
        connections.add(other, task());
        let begun: Vec<AbortHandle> = (0..20).map(|_| task()).collect();
        begun.iter().for_each(|crowd| connections.add(one, crowd.clone()));
        assert_eq!(connections.open.len(), 8);
        assert_eq!(connections.open[0].0, other, "{:?}", connections.open);
        tokio::task::yield_now().await;
        assert_eq!(begun.iter().filter(|open| open.is_finished()).count(), 13);
        assert_eq!(Connections::within(1 << 20).most, MOST_CONNECTIONS);
        assert_eq!(Connections::within(3).most, 1);
    }
}
