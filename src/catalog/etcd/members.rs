//! The members of one cluster: one connection each, and our own choice among them. With three endpoints in one client
//! and one of them silent, the client gave a quarter of the calls to the silent one; here a call goes to the member
//! that last answered, and to the next one when that one fails, or has been silent for a while.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, ResponseHeader};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::catalog::{Cause, report};
use crate::config::backends::{Endpoint, Etcd as Settings, Secret};
use crate::net::last_good::LastGood;
use crate::net::paced::Paced;
use crate::net::secret;
use crate::net::storage::Storage;
use crate::net::tls::{self, Pems};

use super::clusters::{ClusterId, Clusters, Verdict};
use super::error::Error;
use super::reach::reach;

/// One member has so long to answer a call: storage that syncs once a second makes all of them slow, not unhealthy.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Reaching one member, authentication included (61 ms of its processor each).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Past this the next member is asked as well.
const ALONE: Duration = Duration::from_secs(2);

/// The same, of an election's calls, for such a request has two seconds at least.
const BRIEFLY: Duration = Duration::from_millis(700);

/// The first time all are asked which cluster they belong to, and waited for no longer: others are late then, or dead.
const ALL_ASKED: Duration = Duration::from_millis(250);

/// The server drops clients that ask more often than each 5 s.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Every member, and which one is asked first.
#[derive(Debug)]
pub(super) struct Members {
    settings: Settings,
    members: Vec<Member>,
    first: AtomicUsize,
    clusters: Clusters,
    storage: Storage<MemberCredentials>,
    last_files: Arc<LastFiles>,
    /// That etcd knows no users was said.
    without_login: AtomicBool,
}

struct Member {
    /// Which of the endpoints.
    index: usize,
    endpoint: Endpoint,
    place: String,
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
type Asked<'a, T> = Pin<Box<dyn Future<Output = (usize, Result<(T, Client), Error>)> + Send + 'a>>;

impl Members {
    /// Reaches nobody yet. Agents begin with different members.
    pub(super) fn new(settings: &Settings) -> Members {
        let members: Vec<Member> = settings
            .endpoints
            .iter()
            .enumerate()
            .map(|(index, endpoint)| Member {
                index,
                endpoint: endpoint.clone(),
                place: endpoint.to_string(),
                client: Mutex::new(None),
            })
            .collect();
        let first = crate::net::backoff::random() as usize % members.len().max(1);
        Members {
            settings: settings.clone(),
            clusters: Clusters::new(members.len()),
            members,
            first: AtomicUsize::new(first),
            storage: Storage::default(),
            last_files: Arc::default(),
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
                Some(Some((index, Ok((answer, client))))) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok((answer, Reached { member: &self.members[index], client }));
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
    ) -> Result<(T, Client), Error>
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
        match member.endpoint.https && self.settings.tls.identity.is_none() {
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
    ) -> Result<(T, Client), Error>
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
            Ok(answer) => return Ok((answer, client)),
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
        let credentials = match timeout_at(deadline, self.credentials(member)).await {
            Ok(credentials) => credentials?,
            Err(_) => return Err(Error::Storage { after: CONNECT_TIMEOUT }),
        };
        let late = || Error::TimedOut { what, member: member.place.clone(), after: CONNECT_TIMEOUT };
        let channel = self.channel(member, credentials.pems.as_ref())?;
        // Before the login: whoever belongs to another cluster may know no users.
        let cluster = match timeout_at(deadline, self.cluster(member, what, &channel, credentials.pems.as_ref())).await
        {
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
        pems: Option<&Pems>,
    ) -> Result<Option<ClusterId>, Error> {
        let Some(id) = named(member, what, channel).await? else { return Ok(None) };
        if self.clusters.is_unknown() {
            self.ask_all(Some((member, id)), pems).await;
        }
        let place = &member.place;
        match self.clusters.name(member.index, id, Instant::now()) {
            Verdict::Known => {}
            Verdict::KnownAgain => {
                tracing::info!(event = "catalog.cluster", "{place} belongs to the cluster of the others again");
            }
            Verdict::TakenOver { from } => tracing::warn!(
                event = "catalog.cluster",
                "etcd's cluster {from:x} was silent for long, and most endpoints belong to {id:x} now: that one is asked"
            ),
            Verdict::Stray { known, is_news } => {
                let known = known.map_or("the others".to_owned(), |known| format!("the known one ({known:x})"));
                if is_news {
                    tracing::warn!(
                        event = "catalog.cluster",
                        "{place} belongs to another etcd cluster ({id:x}) than {known}, so nothing is asked there: was its \
                         disk lost? Remove it from its cluster and add it anew (etcdctl member remove, member add)"
                    );
                }
                return Err(Error::Stray { what, member: place.clone(), id, known });
            }
        }
        Ok(Some(id))
    }

    /// Whether it is the right cluster that is asked, as far as can be known: one that is named by a stray member alone would
    /// have a second leader.
    ///
    /// # Errors
    /// Others must be heard first.
    pub(super) async fn are_sure(&self, what: &'static str) -> Result<(), Error> {
        if !self.clusters.is_sure(Instant::now()) {
            let any = &self.members[self.first.load(Ordering::Relaxed)];
            let credentials = timeout(CONNECT_TIMEOUT, self.credentials(any)).await;
            let credentials = credentials.map_err(|_| Error::Storage { after: CONNECT_TIMEOUT })??;
            self.ask_all(None, credentials.pems.as_ref()).await;
        }
        match self.clusters.is_sure(Instant::now()) {
            true => Ok(()),
            false => Err(Error::Unsure { what, endpoints: self.members.len() }),
        }
    }

    /// The first cluster is the one that most members name: any one alone may be a stray.
    async fn ask_all(&self, first: Option<(&Member, ClusterId)>, pems: Option<&Pems>) {
        let (mut votes, most) = (Vec::from_iter(first.map(|(_, id)| id)), self.members.len() / 2);
        let others = self.members.iter().filter(|member| first.is_none_or(|(first, _)| member.index != first.index));
        let ask =
            |member| async move { named(member, "ask for its cluster", &self.channel(member, pems).ok()?).await.ok()? };
        let mut asked: FuturesUnordered<_> = others.map(ask).collect();
        let all = async {
            while votes.iter().all(|vote| votes.iter().filter(|other| *other == vote).count() <= most) {
                let Some(vote) = asked.next().await else { break };
                votes.extend(vote);
            }
        };
        let _ = timeout(ALL_ASKED, all).await;
        self.clusters.begin(&votes, Instant::now());
    }

    async fn credentials(&self, member: &Member) -> Result<MemberCredentials, Error> {
        if !member.endpoint.https && self.settings.login.is_none() {
            return Ok(MemberCredentials::default());
        }
        // What is kept serves every member.
        let https = self.members.iter().any(|member| member.endpoint.https);
        let (settings, last) = (self.settings.clone(), Arc::clone(&self.last_files));
        self.storage.read(move || MemberCredentials::read(&settings, https, &last)).await.map_err(Error::NoThread)?
    }

    /// One connection to a member. Once it has ended the channel makes no other: behind that may be another server.
    fn channel(&self, member: &Member, pems: Option<&Pems>) -> Result<Channel, Error> {
        let unusable = |source: tonic::transport::Error| Error::Endpoint {
            member: member.place.clone(),
            source: Cause::of(&source),
        };
        let Endpoint { host, port, .. } = member.endpoint.clone();
        let mut endpoint = tonic::transport::Endpoint::from_shared(member.place.clone())
            .map_err(unusable)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        if let Some(pems) = pems.filter(|_| member.endpoint.https) {
            let name = self.settings.tls.server_name.as_deref().unwrap_or(&host);
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&pems.ca.1)).domain_name(name);
            if let Some((certificate, key)) = &pems.identity {
                tls = tls.identity(Identity::from_pem(certificate, key));
            }
            endpoint = endpoint.tls_config(tls).map_err(unusable)?;
        }
        let is_used = AtomicBool::default();
        // Not tonic's own connector: that one asks libc for names.
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let host = (!is_used.swap(true, Ordering::Relaxed)).then(|| host.clone());
            async move {
                let Some(host) = host else { return Err(io::Error::from(io::ErrorKind::NotConnected)) };
                reach(&host, port).await.map(|stream| TokioIo::new(Paced::new(stream)))
            }
        });
        Ok(Channel::Tonic(endpoint.connect_with_connector_lazy(connector)))
    }
}

/// The cluster that a member names, to everybody and whether it has a leader or not; `None`: it doesn't say.
async fn named(member: &Member, what: &'static str, channel: &Channel) -> Result<Option<ClusterId>, Error> {
    let status = async { Client::from_channel(channel.clone(), None).await?.status().await };
    match status.await.map_err(|error| Error::of(what, &member.place, error)) {
        Ok(status) => Ok(status.header().map(ResponseHeader::cluster_id)),
        Err(error) if error.is_final() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What was last of use of them.
#[derive(Debug, Default)]
struct LastFiles {
    pems: LastGood<Pems>,
    password: LastGood<Secret>,
}

/// What a connection needs from files, as they are now.
#[derive(Clone, Default)]
struct MemberCredentials {
    /// With https.
    pems: Option<Pems>,
    /// User and password.
    login: Option<(String, String)>,
}

impl MemberCredentials {
    fn read(settings: &Settings, https: bool, last: &LastFiles) -> Result<MemberCredentials, Error> {
        let mut credentials = MemberCredentials::default();
        if https {
            let pems = tls::read(&settings.tls).and_then(|pems| {
                // Made for what it finds: tonic takes an authority's file without a certificate, and names no file at all.
                tls::client_config_of(&pems, &settings.tls).map(|_| pems)
            });
            // A certificate is replaced before its key is, or the key is gone for a moment: the ones before still serve.
            let pems = last.pems.or(pems, |error| {
                let error = report(&error);
                tracing::warn!(event = "catalog.tls", "etcd is still asked with the old certificates: {error}");
            });
            credentials.pems = Some(pems.map_err(Error::Tls)?);
        }
        if let Some(login) = &settings.login {
            let password = match &login.password {
                Some(password) => {
                    let password = secret::read_or_last("password_file", password, &last.password);
                    password.map_err(Error::Secret)?.reveal().to_owned()
                }
                None => String::new(),
            };
            credentials.login = Some((login.username.clone(), password));
        }
        Ok(credentials)
    }
}

/// The member that answered a call.
pub(super) struct Reached<'a> {
    member: &'a Member,
    /// Its connection.
    pub(super) client: Client,
}

impl Reached<'_> {
    /// Where it is, for errors.
    pub(super) fn place(&self) -> &str {
        &self.member.place
    }

    /// Makes the next call connect, and log in, anew.
    pub(super) fn part(&self) {
        self.member.keep(None);
    }
}
