//! The members of one cluster: one connection each, and our own choice among them. With three endpoints in one client
//! and one of them silent, the client gave a quarter of the calls to the silent one; here a call goes to the member
//! that last answered, and to the next one when that one fails, or has been silent for a while.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::backends::Etcd as Settings;

use super::canvass::{self, Canvass};
use super::clusters::{ClusterId, Clusters, Verdict};
use super::dialer::{CONNECT_TIMEOUT, Dialer};
use super::error::Error;

/// One member has so long to answer a call: storage that syncs once a second makes all of them slow, not unhealthy.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Past this the next member is asked as well.
const ALONE: Duration = Duration::from_secs(2);

/// The same, of an election's calls, for such a request has two seconds at least.
const BRIEFLY: Duration = Duration::from_millis(700);

/// Every member, and which one is asked first.
#[derive(Debug)]
pub(super) struct Members {
    dialer: Arc<Dialer>,
    members: Vec<Member>,
    first: AtomicUsize,
    clusters: Arc<Clusters>,
    canvass: Canvass,
    /// That etcd knows no users was said.
    without_login: AtomicBool,
}

struct Member {
    /// Which of the endpoints.
    index: usize,
    place: String,
    https: bool,
    client: Mutex<Option<KnownClient>>,
}

/// A connection to a server of this cluster. It is one connection: a server that is started anew is reached by another, and
/// asked again.
#[derive(Clone)]
struct KnownClient {
    client: Client,
    /// `None`: the server doesn't say.
    cluster: Option<ClusterId>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place)
    }
}

impl Member {
    fn connected(&self) -> Option<KnownClient> {
        self.client.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn keep(&self, client: Option<KnownClient>) {
        *self.client.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = client;
    }
}

/// A member that is asked: which one, and what it answers.
type Asked<'a, T> = Pin<Box<dyn Future<Output = (usize, Result<(T, KnownClient), Error>)> + Send + 'a>>;

impl Members {
    /// Reaches nobody yet. Agents begin with different members.
    pub(super) fn new(settings: &Settings) -> Members {
        let members: Vec<Member> = settings
            .endpoints
            .iter()
            .enumerate()
            .map(|(index, endpoint)| Member {
                index,
                place: endpoint.to_string(),
                https: endpoint.https,
                client: Mutex::new(None),
            })
            .collect();
        let first = crate::net::backoff::random() as usize % members.len().max(1);
        let (dialer, clusters) = (Arc::new(Dialer::new(settings)), Arc::new(Clusters::new(members.len())));
        Members {
            canvass: Canvass::new(Arc::clone(&dialer), Arc::clone(&clusters)),
            dialer,
            clusters,
            members,
            first: AtomicUsize::new(first),
            without_login: AtomicBool::default(),
        }
    }

    /// Carries out a call at the first member that can: each is asked once, in a row, until one answers. Whoever has been
    /// silent for a while is not waited for alone, so a call can be carried out more than once.
    pub(super) async fn call<T, F>(&self, what: &'static str, call: impl Fn(Client) -> F + Sync) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        self.call_at(what, call).await.map(|(answer, _)| answer)
    }

    /// The same, for who hasn't long to wait.
    pub(super) async fn call_briefly<T, F>(
        &self,
        what: &'static str,
        call: impl Fn(Client) -> F + Sync,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        self.call_within(BRIEFLY, what, call).await.map(|(answer, _)| answer)
    }

    /// The same, and which member it was.
    pub(super) async fn call_at<T, F>(
        &self,
        what: &'static str,
        call: impl Fn(Client) -> F + Sync,
    ) -> Result<(T, Reached<'_>), Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        self.call_within(ALONE, what, call).await
    }

    /// Each member is asked alone for so long.
    async fn call_within<T, F>(
        &self,
        alone: Duration,
        what: &'static str,
        call: impl Fn(Client) -> F + Sync,
    ) -> Result<(T, Reached<'_>), Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        // Boxed: this is a future of 15 KB, and every future around it would be as large again.
        let ask = |index: usize| -> Asked<'_, T> {
            let (member, call) = (&self.members[index], &call);
            Box::pin(async move { (index, self.call_member(member, what, call).await) })
        };
        self.first_answer(alone, &ask).await
    }

    /// The same, of calls whose kind doesn't matter any more: one for each answer, and not for each call, is enough code.
    async fn first_answer<'c, T>(
        &self,
        alone: Duration,
        ask: &(dyn Fn(usize) -> Asked<'c, T> + Sync),
    ) -> Result<(T, Reached<'_>), Error> {
        let first = self.first.load(Ordering::Relaxed);
        let mut failure: Option<Error> = None;
        let mut next = (0..self.members.len()).map(|turn| (first + turn) % self.members.len()).peekable();
        let mut asked = FuturesUnordered::new();
        loop {
            asked.extend(next.next().map(ask));
            let answered = match next.peek() {
                Some(_) => timeout(alone, asked.next()).await.ok(),
                None => Some(asked.next().await),
            };
            match answered {
                // Nobody has answered yet: the next one is asked as well.
                None => {}
                Some(None) => return Err(failure.expect("the config has at least one endpoint")),
                Some(Some((index, Ok((answer, KnownClient { client, cluster }))))) => {
                    self.first.store(index, Ordering::Relaxed);
                    let (member, clusters) = (&self.members[index], &*self.clusters);
                    return Ok((answer, Reached { member, clusters, cluster, client }));
                }
                Some(Some((index, Err(error)))) if error.is_the_members() => {
                    // Whoever asks next, be it because this caller gives up now, begins with another.
                    self.first.store((index + 1) % self.members.len(), Ordering::Relaxed);
                    // What a living member says of the cluster tells more than a dead one's silence.
                    failure = failure.filter(Error::is_an_election).or(Some(error));
                }
                Some(Some((_, Err(error)))) => return Err(error),
            }
        }
    }

    async fn call_member<T, F>(
        &self,
        member: &Member,
        what: &'static str,
        call: &(impl Fn(Client) -> F + Sync),
    ) -> Result<(T, KnownClient), Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        if let Some(client) = member.connected() {
            match self.ask(member, what, call, client).await {
                // The server was restarted since: what broke was the connection, and a new one may do.
                Err(Error::Unreachable { .. } | Error::Replaced { .. }) => {}
                // Refused before anything was done. The password may be another by now, and a signed token outdated by
                // any change of users and roles: one that the client would keep for ever.
                Err(error) if error.is_about_login() => {}
                other => return other,
            }
        }
        let asked = match self.connect(member, what).await {
            Ok(client) => self.ask(member, what, call, client).await,
            Err(error) => Err(error),
        };
        match member.https && !self.dialer.has_identity() {
            true => asked.map_err(Error::without_identity),
            false => asked,
        }
    }

    async fn ask<T, F>(
        &self,
        member: &Member,
        what: &'static str,
        call: &(impl Fn(Client) -> F + Sync),
        KnownClient { client, cluster }: KnownClient,
    ) -> Result<(T, KnownClient), Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let answer = match timeout(CALL_TIMEOUT, call(client.clone())).await {
            Ok(answer) => answer.map_err(|error| Error::of(what, &member.place, error)),
            Err(_) => Err(Error::TimedOut { what, member: member.place.clone(), after: CALL_TIMEOUT }),
        };
        let error = match answer {
            Err(error @ (Error::Unreachable { .. } | Error::TimedOut { .. })) => error,
            _ if !self.clusters.hear(cluster) => Error::Replaced { what, member: member.place.clone() },
            Ok(answer) => return Ok((answer, KnownClient { client, cluster })),
            Err(error) => error,
        };
        // The next use looks the name up again, reads the password again and logs in again.
        if error.is_the_members() || error.is_about_login() {
            member.keep(None);
        }
        Err(error)
    }

    async fn connect(&self, member: &Member, what: &'static str) -> Result<KnownClient, Error> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let credentials = match timeout_at(deadline, self.dialer.credentials()).await {
            Ok(credentials) => credentials?,
            Err(_) => return Err(Error::Storage { after: CONNECT_TIMEOUT }),
        };
        let late = || Error::TimedOut { what, member: member.place.clone(), after: CONNECT_TIMEOUT };
        let channel = self.dialer.channel(member.index, credentials.pems.as_ref())?;
        // Before the login: whoever belongs to another cluster may know no users.
        let cluster = match timeout_at(deadline, self.cluster(member, what, &channel)).await {
            Ok(cluster) => cluster?,
            Err(_) => return Err(late()),
        };
        let mut login = credentials.login;
        loop {
            let mut options = ConnectOptions::new().with_require_leader(true).with_auto_token_refresh(true);
            if let Some((username, password)) = &login {
                options = options.with_user(username, password);
            }
            let client = match timeout_at(deadline, Client::from_channel(channel.clone(), Some(options))).await {
                Ok(client) => client.map_err(|error| Error::of(what, &member.place, error)),
                Err(_) => Err(late()),
            };
            match client {
                // As its own clients do.
                Err(error) if error.is_without_users() && login.take().is_some() => {
                    if !self.without_login.swap(true, Ordering::Relaxed) {
                        tracing::warn!(
                            event = "catalog.login",
                            "etcd's authentication is turned off ({}): the login of [catalog] isn't used",
                            member.place
                        );
                    }
                }
                Err(error) => return Err(error),
                Ok(client) => {
                    let client = KnownClient { client, cluster };
                    member.keep(Some(client.clone()));
                    return Ok(client);
                }
            }
        }
    }

    /// The cluster of a member that has just been reached, if it is the one to believe; `None`: it doesn't say.
    async fn cluster(
        &self,
        member: &Member,
        what: &'static str,
        channel: &Channel,
    ) -> Result<Option<ClusterId>, Error> {
        let Some(id) = self.dialer.named(member.index, channel).await? else { return Ok(None) };
        self.clusters.name(member.index, id, Instant::now()).iter().for_each(canvass::tell);
        if self.clusters.is_unknown() {
            self.canvass.hold().await;
        }
        let place = &member.place;
        match self.clusters.judge(member.index, id) {
            Verdict::Known => Ok(Some(id)),
            Verdict::KnownAgain => {
                tracing::info!(event = "catalog.cluster", "{place} belongs to the cluster of the others again");
                Ok(Some(id))
            }
            Verdict::Stray { known, is_sure, is_news } => {
                let known = known.map_or("others".to_owned(), |known| format!("the known one ({known:x})"));
                match is_news {
                    true if is_sure => tracing::warn!(
                        event = "catalog.cluster",
                        "{place} belongs to another etcd cluster ({id:x}) than {known}, so nothing is asked there: was its \
                         disk lost? Remove it from its cluster and add it anew (etcdctl member remove, member add)"
                    ),
                    true => tracing::warn!(
                        event = "catalog.cluster",
                        "{place} belongs to another etcd cluster ({id:x}) than {known}: one of them is astray, and which \
                         one isn't known before most endpoints have answered"
                    ),
                    false => {}
                }
                Err(Error::Stray { what, member: place.clone(), id, known })
            }
        }
    }

    /// Whether nothing speaks against the cluster that is asked, for who leads there.
    ///
    /// # Errors
    /// Another one is named by as many: the lease must not be renewed by what may be a stray member.
    pub(super) fn are_uncontested(&self, what: &'static str) -> Result<(), Error> {
        match self.clusters.is_contested(Instant::now()) {
            true => Err(Error::Unsure { what, endpoints: self.members.len() }),
            false => Ok(()),
        }
    }

    /// Whether it is the right cluster that is asked, as far as can be known: one that is named by a stray member alone would
    /// have a second leader.
    ///
    /// # Errors
    /// Others must be heard first.
    pub(super) async fn are_sure(&self, what: &'static str) -> Result<(), Error> {
        if !self.clusters.is_sure(Instant::now()) {
            self.canvass.hold().await;
        }
        match self.clusters.is_sure(Instant::now()) {
            true => Ok(()),
            false => Err(Error::Unsure { what, endpoints: self.members.len() }),
        }
    }
}

/// The member that answered a call.
pub(super) struct Reached<'a> {
    member: &'a Member,
    clusters: &'a Clusters,
    cluster: Option<ClusterId>,
    /// Its connection.
    pub(super) client: Client,
}

impl Reached<'_> {
    /// Where it is, for errors.
    pub(super) fn place(&self) -> &str {
        &self.member.place
    }

    /// Returns once another cluster is believed than the member's: what it says is no answer any more.
    pub(super) async fn is_left(&self) {
        self.clusters.is_left(self.cluster).await;
    }

    /// Makes the next call connect, and log in, anew.
    pub(super) fn part(&self) {
        self.member.keep(None);
    }
}
