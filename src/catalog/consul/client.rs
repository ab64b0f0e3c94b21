//! HTTP to one Consul agent: an endpoint, a deadline, a bounded answer, and errors that say which endpoint answered
//! what. It knows no endpoint itself, and retries nothing.
//!
//! What comes through its connections is parsed beside the loop ([`Aside`]): the library drains up to 128 reads of a
//! connection at once, and whoever answers in Consul's place may have it parse for seconds what tells nobody anything.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Method, RequestBuilder, Response};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::backends::{Consul as Settings, ConsulAddress, Endpoint, Secret};
use crate::files::SocketPlace;
use crate::net::aside::Aside;

use super::answer::{Answer, index};
use super::call::{CALL_TIMEOUT, Call, Connection};
use super::credentials::{Credentials, Snapshot, is_https};
use super::elements::{Element, Elements};
use super::error::Error;
use super::sink::{LARGEST_ANSWER, List, Sink, Whole};
use super::slots::{ConnectionSlot, ConnectionSlots, Reach};

/// Connections that stay, had before any question waits for a change: for heartbeats, for an election's renewals, and for
/// the watch on its lock.
const RESERVED: usize = 3;
const RESERVED_WITHIN: Duration = Duration::from_secs(3);

/// Why a request has no answer.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One Consul agent.
#[derive(Debug)]
pub(super) struct Client {
    settings: Settings,
    /// `http://host:port`, for requests.
    base: String,
    /// Where it is, for people.
    place: String,
    credentials: Credentials,
    slots: ConnectionSlots,
    /// Where its connections are.
    aside: Aside,
}

impl Client {
    /// Reaches nobody yet.
    pub(super) fn new(settings: &Settings) -> Client {
        let (base, place) = match &settings.address {
            ConsulAddress::Unix(path) => ("http://localhost".to_owned(), format!("unix://{}", path.display())),
            ConsulAddress::Tcp(endpoint) => {
                // The name to verify takes the host's place in the URL, and `Names` leads it to the host.
                let named = settings.tls.server_name.as_ref().filter(|_| endpoint.https);
                let named = Endpoint { host: named.unwrap_or(&endpoint.host).clone(), ..endpoint.clone() };
                (named.to_string(), endpoint.to_string())
            }
        };
        Client {
            settings: settings.clone(),
            base,
            place,
            credentials: Credentials::new(settings),
            slots: ConnectionSlots::new(),
            aside: Aside::start(),
        }
    }

    /// Asks, and takes whatever comes.
    pub(super) async fn ask(&self, ask: Call) -> Result<Answer, Error> {
        let mut body = Vec::new();
        let most = ask.most;
        let answer = self.ask_for(ask, &mut Whole { body: &mut body, most }).await?;
        match answer.status.is_success() {
            true => Ok(Answer { body, ..answer }),
            false => Ok(answer),
        }
    }

    /// Asks for a list, and gives its elements one by one; an answer that says that all went not well comes as a whole.
    pub(super) async fn ask_for_list(
        &self,
        ask: Call,
        each: impl FnMut(Element<'_>) -> Result<(), Error> + Send,
    ) -> Result<Answer, Error> {
        let mut list = List { elements: Elements::default(), each, read: 0 };
        let answer = self.ask_for(ask, &mut list).await?;
        if answer.status.is_success() && !list.elements.is_whole() {
            return Err(Error::NoList { endpoint: answer.endpoint });
        }
        Ok(answer)
    }

    async fn ask_for(&self, ask: Call, sink: &mut impl Sink) -> Result<Answer, Error> {
        let endpoint = format!("{} {} at {}", ask.method, ask.path, self.place);
        if ask.connection == Connection::Standing {
            return self.send(ask, &endpoint, sink).await;
        }
        self.settle().await;
        let turn = self.slots.take().await;
        let asked = self.send(ask, &endpoint, sink).await;
        let turned_away = match &asked {
            Ok(answer) => answer.is_full(),
            Err(error) => self.was_turned_away(error, &turn).await,
        };
        if turned_away {
            if turn.turned_away() {
                tracing::warn!(
                    event = "catalog.connections",
                    "too many concurrent connections: consul takes no more from here ({}; http_max_conns_per_client in its [limits], 200 by \
                     default, for all containers of this address together), and each watch holds one: watches take slots, and hear \
                     of changes seconds late",
                    self.place
                );
            }
            return Err(Error::Full { endpoint });
        }
        match &asked {
            Ok(_) => turn.answered(),
            // The agent was restarted, perhaps: once more, what may not wait comes first.
            Err(Error::Unreachable { .. }) => self.slots.unsettle().await,
            Err(_) => {}
        }
        asked
    }

    /// Sees to it that what may not wait has its connections.
    async fn settle(&self) {
        let mut settled = self.slots.settled().await;
        if !settled.is_due() {
            return;
        }
        // All at once, so that each needs a connection.
        let [first, second, third]: [_; RESERVED] = std::array::from_fn(|_| self.reach());
        let (first, second, third) = tokio::join!(first, second, third);
        settled.came_to([first, second, third] == [Reach::Answered; RESERVED]);
    }

    /// Whether the agent took no connection more: Consul 1.8 takes it and cuts it. One that ends cuts them all; then
    /// nothing is known any more of how many the next one takes.
    async fn was_turned_away(&self, error: &Error, turn: &ConnectionSlot<'_>) -> bool {
        let cut = error.is_cut() && turn.is_one_of_many();
        if !error.is_unreachable() || !(cut || self.slots.are_crowded()) {
            return false;
        }
        match self.reach_again().await {
            Reach::Answered => cut,
            Reach::Cut => false,
            Reach::Nobody => {
                self.slots.forget();
                false
            }
        }
    }

    /// Whether the agent answers still. One question for all that were cut together, on a connection that stays: each of
    /// many would need one more.
    async fn reach_again(&self) -> Reach {
        let cut = Instant::now();
        let mut settled = self.slots.settled().await;
        if let Some(reach) = settled.looked_since(cut) {
            return reach;
        }
        let began = Instant::now();
        let reach = match self.reach().await {
            // What stays was cut as well: the next try tells of what.
            Reach::Cut => self.reach().await,
            reach => reach,
        };
        settled.looked(began, reach);
        reach
    }

    /// Whether somebody answers, and takes the connection. Boxed: see `send`.
    fn reach(&self) -> Pin<Box<dyn Future<Output = Reach> + Send + '_>> {
        let ask = Call::new(Method::GET, &["status", "leader"]).within(RESERVED_WITHIN);
        Box::pin(async move {
            match self.ask(ask).await {
                Ok(answer) if answer.is_full() => Reach::Cut,
                Ok(_) => Reach::Answered,
                Err(error) if error.is_unreachable() && !error.is_cut() => Reach::Nobody,
                Err(_) => Reach::Cut,
            }
        })
    }

    async fn send(&self, ask: Call, endpoint: &str, sink: &mut impl Sink) -> Result<Answer, Error> {
        let timeout = ask.timeout;
        let until = Instant::now() + timeout;
        let now = timeout_at(until, self.credentials.now()).await.map_err(|_| Error::Storage { after: timeout })??;
        // Boxed: this is a future of many KB, and every future around it would be as large again.
        match timeout_at(until, Box::pin(self.exchange(ask, endpoint, now, sink))).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::TimedOut { endpoint: endpoint.to_owned(), after: timeout }),
        }
    }

    /// The token that counts now.
    pub(super) async fn token(&self, within: Duration) -> Result<Option<Secret>, Error> {
        let within = within.min(CALL_TIMEOUT);
        let now = timeout(within, self.credentials.now()).await.map_err(|_| Error::Storage { after: within })?;
        Ok(now?.token)
    }

    /// Where it listens in the file system, if whoever listens there is told a secret.
    fn confidant(&self) -> Option<PathBuf> {
        match &self.settings.address {
            ConsulAddress::Unix(path) if self.settings.tells_a_secret() => Some(path.clone()),
            ConsulAddress::Unix(_) | ConsulAddress::Tcp(_) => None,
        }
    }

    async fn exchange(&self, ask: Call, endpoint: &str, now: Snapshot, sink: &mut impl Sink) -> Result<Answer, Error> {
        let anonymous = is_https(&self.settings) && self.settings.tls.identity.is_none();
        let failed = |error: &(dyn std::error::Error + 'static)| match Error::unreachable(endpoint, error) {
            error if anonymous => error.without_identity(),
            error => error,
        };
        let http = match ask.connection {
            Connection::Standing => now.standing,
            Connection::InTurn => now.in_turn,
        };
        let ask = match ask.wait.map(|wait| self.slots.patience(wait)) {
            Some(wait) => ask.with("wait", &format!("{}s", wait.as_secs())),
            None => ask,
        };
        let mut request = http.request(ask.method, format!("{}{}{}", self.base, ask.path, ask.query));
        // A header, never `?token=`: queries end up in access logs.
        if let Some(token) = now.token {
            let mut value = HeaderValue::from_str(token.reveal()).map_err(|_| Error::TokenBytes)?;
            value.set_sensitive(true);
            request = request.header("X-Consul-Token", value);
        }
        if let Some(login) = &self.settings.basic {
            request = request.basic_auth(&login.username, now.password.as_ref().map(Secret::reveal));
        }
        if let Some(body) = ask.body {
            request = request.body(body);
        }
        // Its connection stays there, and the pieces of its answer come here as they are asked for.
        let mut answer = self.aside.spawn(send_to(self.confidant(), request)).await.map_err(|error| failed(&*error))?;
        let status = answer.status();
        let mut body = Vec::new();
        let mut whole = Whole { body: &mut body, most: LARGEST_ANSWER };
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error))? {
            let taken = match status.is_success() {
                true => sink.take(&chunk, endpoint).await,
                false => whole.take(&chunk, endpoint).await,
            };
            taken?;
            // The next may be there already, for it comes from another thread: a byte each, say, without end.
            tokio::task::coop::consume_budget().await;
        }
        let index = index(answer.headers());
        let filtered = answer.headers().get("X-Consul-Results-Filtered-By-ACLs").is_some_and(|value| value == "true");
        let leaderless = answer.headers().get("X-Consul-KnownLeader").is_some_and(|value| value == "false");
        Ok(Answer { endpoint: endpoint.to_owned(), status, index, filtered, leaderless, body })
    }
}

/// Sends it; a secret only to a socket where nobody else may listen. The library connects by the path, so what was looked at
/// may be another by then; but only where somebody else may write, who is refused.
async fn send_to(confidant: Option<PathBuf>, request: RequestBuilder) -> Result<Response, Failure> {
    if let Some(path) = confidant {
        SocketPlace::find(&path)?.one_user()?;
    }
    Ok(request.send().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::bounds::LARGEST_ITEM;

    /// Answers each connection's first question with `begins`, then with `again` for as long as anybody reads.
    fn endless(begins: &'static str, again: &'static str) -> std::net::SocketAddr {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let _ = stream.read(&mut [0; 4096]);
                    let more = again.repeat(4096);
                    let mut sent = stream.write_all(begins.as_bytes());
                    while sent.is_ok() {
                        sent = stream.write_all(more.as_bytes());
                    }
                });
            }
        });
        at
    }

    fn of(address: ConsulAddress) -> Client {
        Client::new(&Settings { address, token: None, basic: None, tls: crate::config::backends::Tls::default() })
    }

    fn at(place: std::net::SocketAddr) -> Client {
        of(ConsulAddress::Tcp(Endpoint { https: false, host: place.ip().to_string(), port: place.port() }))
    }

    #[tokio::test]
    async fn one_key_is_bounded_as_one_of_many_is() {
        let value = "HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\nContent-Length: 8388544\r\n\r\n";
        let client = at(endless(value, "\u{1}"));
        let (read, followed) = (client.get("k").await.map(drop), client.key("k", 0, true).await.map(drop));
        for answer in [read, followed] {
            assert!(matches!(answer, Err(Error::TooLarge { most: LARGEST_ITEM, .. })), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_flood_that_is_only_parsed_holds_up_nobody_else_and_no_deadline() {
        use std::cell::Cell;
        const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        const WITHIN: Duration = Duration::from_secs(1);
        for (begins, again) in [("", "HTTP/1.1 103 x\r\n\r\n"), (CHUNKED, "0"), (CHUNKED, "1\r\na\r\n")] {
            let client = at(endless(begins, again));
            let (began, longest) = (Instant::now(), Cell::new(Duration::ZERO));
            let others = async {
                loop {
                    let before = Instant::now();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    longest.set(longest.get().max(before.elapsed()));
                }
            };
            let asked = tokio::select! {
                asked = client.ask(Call::new(Method::GET, &["kv", "a"]).within(WITHIN)) => asked,
                () = others => unreachable!("they go on"),
            };
            let error = asked.unwrap_err();
            assert!(matches!(error, Error::TimedOut { .. } | Error::TooLarge { .. }), "{again:?}: {error}");
            assert!(began.elapsed() < WITHIN * 2, "{again:?}: {:?}", began.elapsed());
            assert!(longest.get() < WITHIN / 2, "{again:?}: others waited {:?}", longest.get());
        }
    }
}
