//! `[catalog]`, `[telemetry]`, `[control]` and `[log]` as they are written.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::in_order;
use schemars::JsonSchema;
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use super::Sensor;
use crate::config::backends::{ConsulAddress, Endpoint};
use crate::config::format::{FilePath, Name, Parsed, SocketPath};
use crate::config::{DEFAULT_PREFIX, Level, Listen, LogFormat};

/// Where services are registered and dependencies looked up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Catalog {
    /// Which backend: `none` registers nothing; `local` is a directory shared by the containers of one host and needs no
    /// server; `consul` is one Consul agent, which what is registered belongs to; `etcd` is a cluster of version 3.
    ///
    /// An init that only supervises needs none.
    pub(crate) backend: Backend,
    /// The directory of `local`, on a volume that the containers share; made when it isn't there.
    #[schemars(example = &"/shared/pilotfish")]
    pub(crate) directory: Option<Parsed<FilePath>>,
    /// The directory of `local` is shared, though it lies on overlayfs or, in a container, on a tmpfs.
    ///
    /// These are taken for the container's own, as when its `-v` was forgotten: each container would be alone there, and
    /// each would lead. Set it where they are not: a `tmpfs` volume of a Kubernetes pod, several agents in one container.
    pub(crate) shared: bool,
    /// Where the Consul agent listens: `http://`, `https://` or `unix:///path`.
    ///
    /// The variables of Consul's own command line count where this and the keys below say nothing: `CONSUL_HTTP_ADDR`,
    /// `_TOKEN`, `_TOKEN_FILE`, `_AUTH`, `_SSL`, `CONSUL_CACERT`, `CONSUL_CLIENT_CERT`, `CONSUL_CLIENT_KEY`,
    /// `CONSUL_TLS_SERVER_NAME`.
    #[schemars(example = &"https://consul:8501", extend("x-default" = "`CONSUL_HTTP_ADDR`, else `http://127.0.0.1:8500`"))]
    pub(crate) address: Option<Parsed<ConsulAddress>>,
    /// The members of the etcd cluster; each is tried when another doesn't answer.
    #[schemars(example = ["https://etcd1:2379", "https://etcd2:2379"])]
    pub(crate) endpoints: Vec<Parsed<Endpoint>>,
    /// A file that holds Consul's token; read at each request, so that a new token counts at once.
    #[schemars(example = &"/run/secrets/consul-token", extend("x-default" = "`CONSUL_HTTP_TOKEN_FILE`, else `CONSUL_HTTP_TOKEN`, else none"))]
    pub(crate) token_file: Option<Parsed<FilePath>>,
    /// How https is verified. It can't be turned off.
    pub(crate) tls: Tls,
    /// The user of etcd's authentication, or of a proxy's in front of Consul (HTTP basic authentication).
    #[schemars(example = &"mysql", extend("x-default" = "none"))]
    pub(crate) username: Option<String>,
    /// A file that holds the user's password.
    #[schemars(example = &"/run/secrets/etcd-password")]
    pub(crate) password_file: Option<Parsed<FilePath>>,
    /// Keys and files in the catalog start with this (`etcd` and `local`; in Consul keys are shared with others).
    ///
    /// Two settings of pilotfish can share one catalog under different names.
    pub(crate) prefix: String,
}

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog {
            backend: Backend::None,
            directory: None,
            shared: false,
            address: None,
            endpoints: Vec::new(),
            token_file: None,
            tls: Tls::default(),
            username: None,
            password_file: None,
            prefix: DEFAULT_PREFIX.to_owned(),
        }
    }
}

/// How https to the catalog's backend is verified, and what proves the agent to it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Tls {
    /// The certificate authority, in PEM.
    #[schemars(example = &"/etc/consul/ca.pem", extend("x-default" = "the image's own authorities"))]
    pub(crate) ca: Option<Parsed<FilePath>>,
    /// The agent's certificate, in PEM, for backends that ask for one; `key` goes with it.
    #[schemars(example = &"/etc/consul/client.pem")]
    pub(crate) certificate: Option<Parsed<FilePath>>,
    /// The certificate's key, in PEM.
    #[schemars(example = &"/etc/consul/client-key.pem")]
    pub(crate) key: Option<Parsed<FilePath>>,
    /// The name the backend's certificate must be for.
    #[schemars(example = &"server.dc1.consul", extend("x-default" = "the address's own host"))]
    pub(crate) server_name: Option<String>,
}

/// Which backend keeps the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum Backend {
    None,
    Local,
    Consul,
    Etcd,
}

/// The read-only endpoint, and what it shows beside pilotfish's own.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Telemetry {
    /// IP address and port it listens on. In the address's place may stand how to find it, as in a service's `address`:
    /// `eth0:9090` listens at that of eth0 alone, `net1,eth0:9090` at that of the first of them that there is.
    ///
    /// A port that nobody asked for should not be open.
    #[schemars(example = &"0.0.0.0:9090", extend("x-default" = "off"))]
    pub(crate) listen: Option<Parsed<Listen>>,
    /// Registers it as a service, for a Prometheus that finds its targets in the catalog. No check speaks for it: it
    /// passes for as long as pilotfish runs, whether main is down, unhealthy or in maintenance.
    #[schemars(extend("x-default" = "off"))]
    pub(crate) advertise: Option<Advertise>,
    /// Metrics of one's own, beside those of pilotfish at `/metrics`: measured by a command, or pushed by `pilotfish metric
    /// NAME=VALUE`. What a command fails to measure, and what it printed before, isn't shown. Each has 1,000 sets of labels
    /// at most. docs/tasks.md has more.
    pub(crate) sensor: Vec<Sensor>,
}

/// The entry of the read-only endpoint.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Advertise {
    /// The service's name.
    #[schemars(example = &"pilotfish", extend("x-required" = true))]
    pub(crate) name: Option<Parsed<Name>>,
    /// Labels others filter by.
    #[schemars(example = ["prometheus"])]
    pub(crate) tags: Vec<String>,
}

/// The endpoint that can change things.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Control {
    /// A unix socket, for its owner alone (0600); `""` turns it off.
    ///
    /// On with any config. Where its directory can't be written to (a read-only root, a user without rights) that is a
    /// warning, and an abstract socket takes its place: for pilotfish's own user and, where pilotfish is PID 1, root, in
    /// this container alone, and found by `pilotfish health` and the other subcommands without being told.
    pub(crate) socket: Parsed<SocketPath>,
    /// IP address and port where it also answers over TCP whoever brings the token: `Authorization: Bearer TOKEN`.
    /// Nothing there is encrypted; needs `token_file`.
    ///
    /// Who may order something should be in the container already.
    #[schemars(example = &"127.0.0.1:9091", extend("x-default" = "off"))]
    pub(crate) listen: Option<Parsed<SocketAddr>>,
    /// The file that holds this token; read at each request, so that a new one counts at once.
    #[schemars(example = &"/run/secrets/pilotfish-token", extend("x-default" = "none"))]
    pub(crate) token_file: Option<Parsed<FilePath>>,
    /// HUP reloads the config and USR1 toggles maintenance, as in ContainerPilot, in place of being forwarded.
    ///
    /// Programs have uses of their own for these two.
    pub(crate) signals: bool,
}

impl Default for Control {
    fn default() -> Control {
        let socket = Parsed(SocketPath(Some(PathBuf::from("/run/pilotfish.sock"))));
        Control { socket, listen: None, token_file: None, signals: false }
    }
}

/// What pilotfish itself logs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Log {
    /// The least important level that is logged. Capitals don't matter; `warning` is `warn`, and `fatal` and `panic`
    /// are `error`.
    ///
    /// What happened, without why.
    #[serde(deserialize_with = "level_of_others")]
    #[schemars(extend("x-also" = ["warning", "fatal", "panic"]))]
    pub(crate) level: Level,
    /// `text` for people, `json` for machines.
    ///
    /// A log is first read by a person.
    pub(crate) format: LogFormat,
}

/// A level as other programs write it, too: it often comes from a variable that several of them read.
fn level_of_others<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Level, D::Error> {
    let written = String::deserialize(deserializer)?;
    let word = match written.to_lowercase().as_str() {
        "warning" => "warn".to_owned(),
        "fatal" | "panic" => "error".to_owned(),
        word => word.to_owned(),
    };
    // What is no level is told of as it is written.
    let read = |text: &str| Level::deserialize(IntoDeserializer::<D::Error>::into_deserializer(text));
    read(&word).or_else(|_| read(&written))
}

impl Default for Log {
    fn default() -> Log {
        Log { level: Level::Info, format: LogFormat::Text }
    }
}
