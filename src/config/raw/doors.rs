//! `[catalog]`, `[telemetry]`, `[control]` and `[log]` as they are written.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::schema::in_order;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::DEFAULT_PREFIX;
use crate::config::format::{FilePath, Parsed, SocketPath};

/// Where services are registered and dependencies looked up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Catalog {
    /// Which engine: `none` registers nothing, `local` is a directory shared by the containers of one host and needs
    /// no server.
    ///
    /// An init that only supervises needs none.
    pub(crate) backend: Backend,
    /// The directory of `local`, on a volume that the containers share; made when it isn't there.
    #[schemars(example = &"/shared/pilotfish")]
    pub(crate) directory: Option<Parsed<FilePath>>,
    /// Keys and files in the catalog start with this.
    ///
    /// Two settings of pilotfish can share one catalog under different names.
    pub(crate) prefix: String,
}

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog { backend: Backend::None, directory: None, prefix: DEFAULT_PREFIX.to_owned() }
    }
}

/// Which engine keeps the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum Backend {
    None,
    Local,
}

/// The read-only door.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Telemetry {
    /// IP address and port it listens on.
    ///
    /// A port that nobody asked for should not be open.
    #[schemars(example = &"0.0.0.0:9090", extend("x-default" = "off"))]
    pub(crate) listen: Option<Parsed<SocketAddr>>,
}

/// The door that can change things.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Control {
    /// A unix socket, for its owner alone (0600); `""` turns it off.
    ///
    /// On with any config. Where its directory can't be written to, that is a warning and the container runs without.
    pub(crate) socket: Parsed<SocketPath>,
    /// HUP reloads the config and USR1 toggles maintenance, as in ContainerPilot, in place of being forwarded.
    ///
    /// Programs have uses of their own for these two.
    pub(crate) signals: bool,
}

impl Default for Control {
    fn default() -> Control {
        Control { socket: Parsed(SocketPath(Some(PathBuf::from("/run/pilotfish.sock")))), signals: false }
    }
}

/// What pilotfish itself logs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Log {
    /// The least important level that is logged.
    ///
    /// What happened, without why.
    pub(crate) level: Level,
    /// `text` for people, `json` for machines.
    ///
    /// A log is first read by a person.
    pub(crate) format: Format,
}

impl Default for Log {
    fn default() -> Log {
        Log { level: Level::Info, format: Format::Text }
    }
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum Format {
    Text,
    Json,
}
