//! Where the agent is asked and what it logs, checked.

use super::choice::words_alone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::AddressSpec;

/// `[telemetry]`: the read-only endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Where it listens.
    pub listen: Listen,
}

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// There.
    At(SocketAddr),
    /// At one of the container's addresses: the first match wins, looked up when it is opened.
    On {
        /// Ways to find the address.
        addresses: Vec<AddressSpec>,
        /// The port.
        port: u16,
    },
}

impl Listen {
    /// Its port.
    pub fn port(&self) -> u16 {
        match self {
            Listen::At(at) => at.port(),
            Listen::On { port, .. } => *port,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::At(at) => at.fmt(f),
            Listen::On { addresses, port } => {
                let addresses: Vec<String> = addresses.iter().map(AddressSpec::to_string).collect();
                write!(f, "{}:{port}", addresses.join(","))
            }
        }
    }
}

/// `[control]`: the endpoint that can change things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The unix socket (0600); `None` turns it off.
    pub socket: Option<PathBuf>,
    /// Where it can be asked over TCP, too.
    pub listen: Option<ControlListen>,
    /// HUP reloads, as in ContainerPilot, in place of being forwarded.
    pub signals: bool,
}

/// `[control] listen`: the same over TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlListen {
    /// Where it listens.
    pub at: SocketAddr,
    /// What holds the token that whoever asks must bring.
    pub token_file: PathBuf,
}

/// `[log]`: what is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is logged.
    pub level: Level,
    /// Text for people or JSON for machines.
    pub format: LogFormat,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What happened.
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// As configs and the log write it.
    pub const fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}
