//! What a call is made with, as the files that the config names have it now: token, password, and a client that verifies
//! and proves itself by certificates. It asks nobody anything.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::catalog::report;
use crate::config::backends::{Consul as Settings, ConsulAddress, Endpoint, Secret, SecretSource};
use crate::net::last_good::LastGood;
use crate::net::storage::Storage;
use crate::net::{secret, tls};

use super::error::Error;
use super::names::Names;

/// How long reaching the agent may take, of any call's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Which connections are kept open when nobody uses them.
struct Connections {
    idle: usize,
    idle_for: Option<Duration>,
}

/// One carries all heartbeats and renewals, as a rule: they take a millisecond or two each. What was once had is kept, for
/// the agent takes only so many from one client.
const STANDING: Connections = Connections { idle: 4, idle_for: None };

/// A question that waits is asked again and again, each time on the connection of before.
const IN_TURN: Connections = Connections { idle: usize::MAX, idle_for: Some(Duration::from_secs(10)) };

/// What calls are made with. Certificates that are replaced make another client at the next call: connections and
/// questions that are open stay with theirs.
#[derive(Debug)]
pub(super) struct Credentials {
    cache: Arc<ClientCache>,
    storage: Storage<Snapshot>,
    reads_files: bool,
}

/// The same at one moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// By connections that stay open.
    pub(super) standing: reqwest::Client,
    /// By those of who waits for a change.
    pub(super) in_turn: reqwest::Client,
    pub(super) token: Option<Secret>,
    pub(super) password: Option<Secret>,
}

#[derive(Debug)]
struct ClientCache {
    settings: Settings,
    token: LastGood<Secret>,
    password: LastGood<Secret>,
    made: Mutex<Option<Cached>>,
}

#[derive(Debug)]
struct Cached {
    http: HttpClients,
    of: Vec<FileIdentity>,
    /// What was of no use, and was told.
    useless: Option<Vec<FileIdentity>>,
}

/// Two clients, that share no connection.
#[derive(Debug, Clone)]
struct HttpClients {
    standing: reqwest::Client,
    in_turn: reqwest::Client,
}

/// Which file is at a path, and as it was when: device, inode, size, and the last change of its content and of itself.
/// `None` when there is none.
type FileIdentity = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

impl Credentials {
    /// Reads nothing yet: files may come late.
    pub(super) fn new(settings: &Settings) -> Credentials {
        let in_file = |secret: Option<&SecretSource>| matches!(secret, Some(SecretSource::File(_)));
        let password = settings.basic.as_ref().and_then(|login| login.password.as_ref());
        let reads_files = is_https(settings) || in_file(settings.token.as_ref()) || in_file(password);
        let cache = Arc::new(ClientCache {
            settings: settings.clone(),
            token: LastGood::default(),
            password: LastGood::default(),
            made: Mutex::default(),
        });
        Credentials { cache, storage: Storage::default(), reads_files }
    }

    /// As it is now, or was a moment ago where files hang. They are read beside the agent's one thread, and may take for
    /// ever the first time.
    pub(super) async fn now(&self) -> Result<Snapshot, Error> {
        if !self.reads_files {
            return self.cache.now();
        }
        let cache = Arc::clone(&self.cache);
        self.storage.read(move || cache.now()).await.map_err(Error::NoThread)?
    }
}

impl ClientCache {
    fn now(&self) -> Result<Snapshot, Error> {
        let token = self.settings.token.as_ref().map(|token| secret::read_or_last("token_file", token, &self.token));
        let password = self.settings.basic.as_ref().and_then(|login| login.password.as_ref());
        let password = password.map(|password| secret::read_or_last("password_file", password, &self.password));
        let HttpClients { standing, in_turn } = self.http()?;
        Ok(Snapshot {
            standing,
            in_turn,
            token: token.transpose().map_err(Error::Secret)?,
            password: password.transpose().map_err(Error::Secret)?,
        })
    }

    fn http(&self) -> Result<HttpClients, Error> {
        // Before they are read: what is replaced meanwhile is another one at the next call.
        let files = self.certificates();
        if let Some(made) = self.made().as_ref().filter(|made| made.of == files) {
            return Ok(made.http.clone());
        }
        let built = build(&self.settings);
        let mut made = self.made();
        match (built, made.as_mut()) {
            (Ok(http), _) => {
                *made = Some(Cached { http: http.clone(), of: files, useless: None });
                Ok(http)
            }
            // A certificate is replaced before its key is, or the key is gone for a moment: the ones before still serve.
            (Err(error), Some(made)) => {
                if made.useless.as_ref() != Some(&files) {
                    made.useless = Some(files);
                    let error = report(&error);
                    tracing::warn!(event = "catalog.tls", "consul is still asked with the old certificates: {error}");
                }
                Ok(made.http.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Those the config names; the system's authorities are the image's.
    fn certificates(&self) -> Vec<FileIdentity> {
        if !is_https(&self.settings) {
            return Vec::new();
        }
        let tls = &self.settings.tls;
        let own = tls.identity.iter().flat_map(|identity| [&identity.certificate, &identity.key]);
        tls.ca.iter().chain(own).map(|path| identity(path)).collect()
    }

    fn made(&self) -> MutexGuard<'_, Option<Cached>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn identity(path: &Path) -> FileIdentity {
    let about = std::fs::metadata(path).ok()?;
    let (content, itself) = ((about.mtime(), about.mtime_nsec()), (about.ctime(), about.ctime_nsec()));
    Some((about.dev(), about.ino(), about.size(), content, itself))
}

pub(super) fn is_https(settings: &Settings) -> bool {
    matches!(settings.address, ConsulAddress::Tcp(Endpoint { https: true, .. }))
}

fn build(settings: &Settings) -> Result<HttpClients, Error> {
    // Without TLS too: the default builder reads the system's authorities, and fails where an image has none.
    let tls = if is_https(settings) { tls::client_config(&settings.tls) } else { tls::unused() }.map_err(Error::Tls)?;
    let of = |connections: Connections| {
        let builder = reqwest::Client::builder()
            // Consul is reached as the config says, whatever HTTP_PROXY says to others.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("pilotfish/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(connections.idle)
            .pool_idle_timeout(connections.idle_for)
            // A host that is cut off answers no blocking query, and no error either: the kernel finds out.
            .tcp_keepalive(Duration::from_secs(5))
            .tcp_keepalive_interval(Duration::from_secs(2))
            .tcp_keepalive_retries(3)
            .tcp_user_timeout(Duration::from_secs(10))
            .tls_backend_preconfigured(tls.clone());
        let (builder, place) = match &settings.address {
            ConsulAddress::Unix(path) => (builder.unix_socket(path.as_path()), format!("unix://{}", path.display())),
            ConsulAddress::Tcp(endpoint) => {
                (builder.dns_resolver(Arc::new(Names::leading_to(&endpoint.host))), endpoint.to_string())
            }
        };
        builder.build().map_err(|error| Error::unreachable(&place, &error))
    };
    Ok(HttpClients { standing: of(STANDING)?, in_turn: of(IN_TURN)? })
}
