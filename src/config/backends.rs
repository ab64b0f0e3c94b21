//! Which backend keeps the catalog, and what reaching it needs, made safe. It opens no file and reaches no server:
//! certificates and token files are read when they are used, and again when they changed.

use std::fmt;
use std::path::PathBuf;

/// Keys of every backend start with this unless `[catalog] prefix` says otherwise.
pub const DEFAULT_PREFIX: &str = "pilotfish";

/// `[catalog]`: where services are registered and dependencies looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    /// Which backend, and what it needs.
    pub backend: Backend,
    /// Keys start with this (etcd, local).
    pub prefix: String,
}

impl Catalog {
    /// Which store this is, as far as its config tells.
    pub fn store(&self) -> String {
        let place = match &self.backend {
            Backend::None => return String::new(),
            Backend::Local { directory, .. } => directory.display().to_string(),
            Backend::Consul(consul) => format!("{:?}", consul.address),
            Backend::Etcd(etcd) => format!("{:?}", etcd.endpoints),
        };
        format!("{place} {}", self.prefix)
    }

    /// Whether a lock's value that somebody overwrites takes the lock from its holder for ever: no session frees it then.
    pub fn keeps_overwritten_locks(&self) -> bool {
        matches!(self.backend, Backend::Etcd(_))
    }

    /// Where an election's lock stands, for people; `None` where it isn't a key.
    pub fn lock_key(&self, election: &str) -> Option<String> {
        match &self.backend {
            Backend::None | Backend::Local { .. } => None,
            Backend::Consul(_) => Some(format!("{election}/leader")),
            Backend::Etcd(_) => {
                let (prefix, election) = (self.prefix.trim_end_matches('/'), election.replace('/', "%2F"));
                Some(format!("{prefix}/elections/{election}/leader"))
            }
        }
    }
}

/// Which backend keeps the catalog.
#[derive(Debug, Clone, PartialEq)]
pub enum Backend {
    /// None: nothing is registered.
    None,
    /// A directory shared by the containers of one host.
    Local {
        /// The directory; made when it isn't there.
        directory: PathBuf,
        /// Other containers see it, though it lies where a container's own files do.
        shared: bool,
    },
    /// One Consul agent.
    Consul(Box<Consul>),
    /// An etcd cluster, API version 3.
    Etcd(Box<Etcd>),
}

/// One Consul agent: what is registered through it belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consul {
    /// Where it listens.
    pub address: ConsulAddress,
    /// What proves who asks; `None` is Consul's anonymous token.
    pub token: Option<SecretSource>,
    /// User and password of a proxy in front of it (HTTP basic authentication).
    pub basic: Option<Login>,
    /// How https is verified.
    pub tls: Tls,
}

impl Consul {
    /// Whether who is asked hears a token or a password.
    pub fn tells_a_secret(&self) -> bool {
        self.token.is_some() || self.basic.is_some()
    }
}

/// The variables of Consul's own command line that hold secrets.
pub const CONSUL_SECRETS: [&str; 2] = ["CONSUL_HTTP_TOKEN", "CONSUL_HTTP_AUTH"];

/// Where a Consul agent listens on this host, unless told otherwise.
pub const CONSUL_PORT: u16 = 8500;
/// The same for https.
pub const CONSUL_TLS_PORT: u16 = 8501;
/// Where an etcd member listens unless told otherwise.
pub const ETCD_PORT: u16 = 2379;

/// Where a Consul agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsulAddress {
    /// A host and port.
    Tcp(Endpoint),
    /// A unix socket.
    Unix(PathBuf),
}

/// An etcd cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// Its members, at least one; each is tried when another doesn't answer.
    pub endpoints: Vec<Endpoint>,
    /// etcd's own user and password.
    pub login: Option<Login>,
    /// How https is verified.
    pub tls: Tls,
}

/// A host and port, and how to speak there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// TLS.
    pub https: bool,
    /// A name or an IP address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// A user and the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password; `None` is an empty one.
    pub password: Option<SecretSource>,
}

/// How https is verified; there is no way to turn that off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The certificate authority in PEM; `None` is the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate (with what stands between it and its authority) and key in PEM.
    pub identity: Option<ClientIdentity>,
    /// The name the server's certificate must be for, when it isn't the address's.
    pub server_name: Option<String>,
}

/// A client's certificate and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate in PEM.
    pub certificate: PathBuf,
    /// Its key in PEM.
    pub key: PathBuf,
}

/// Where a secret is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In the config or a variable.
    Given(Secret),
    /// In a file, read at each use.
    File(PathBuf),
}

/// Words that nothing shows: not logs, not errors, not `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides the words.
    pub fn new(words: impl Into<String>) -> Secret {
        Secret(words.into())
    }

    /// The words themselves, for the one who needs them.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let token = SecretSource::Given(Secret::new("open sesame"));
        assert!(!format!("{token:?}").contains("sesame"));
    }

    #[test]
    fn an_ipv6_endpoint_has_brackets() {
        let endpoint = Endpoint { https: true, host: "::1".to_owned(), port: 2379 };
        assert_eq!(endpoint.to_string(), "https://[::1]:2379");
    }
}
