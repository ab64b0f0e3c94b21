//! The checked health checks, and what each asks.

use super::choice::words_alone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::format::{Format, GrpcUrl, HostPort, HttpUrl, Wrong};
use super::{Exec, RunAs};

/// `[[health]]`: one check of the main process, or of a coprocess.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// Its name, unique in the config.
    pub name: String,
    /// The coprocess that it checks; `None` is the main process.
    pub of: Option<String>,
    /// What is asked.
    pub probe: Probe,
    /// From the end of one check to the start of the next.
    pub interval: Duration,
    /// Past this one check has failed.
    pub timeout: Duration,
    /// Failures don't count until the first success or this long after the start of what is checked.
    pub grace: Duration,
    /// In place of `interval` while in grace.
    pub start_interval: Duration,
    /// Consecutive failures that turn it critical.
    pub failures: u32,
    /// Consecutive successes that turn it passing again.
    pub successes: u32,
    /// What turning critical does beyond the catalog.
    pub on_failure: OnFailure,
    /// Ids of the services it speaks for.
    pub services: Vec<String>,
    /// Whether readiness, roles and entries depend on it; otherwise it is only told.
    pub counts: bool,
    /// Whether its failure keeps a candidate from standing and has a leader step down.
    pub stand: bool,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// A command: exit 0 is healthy.
    Exec {
        /// Program and arguments.
        exec: Exec,
        /// As whom.
        run_as: RunAs,
    },
    /// An HTTP request made by the agent itself.
    Http(HttpProbe),
    /// A TCP connection made by the agent itself.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// A question of the standard health protocol of gRPC, asked by the agent itself.
    Grpc(GrpcProbe),
    /// Main says so itself by sd_notify: READY=1, WATCHDOG=1.
    Notify,
}

impl Probe {
    /// A GET of this URL, as an `http` check without other keys asks it.
    ///
    /// # Errors
    /// It is no such URL, in words for people.
    pub fn http(url: &str) -> Result<Probe, String> {
        let HttpUrl(url) = Format::read(url).map_err(|wrong: Wrong| wrong.of(url))?;
        Ok(Probe::get(url))
    }

    /// The same of a URL that has been read.
    pub(super) fn get(url: String) -> Probe {
        Probe::Http(HttpProbe {
            url,
            method: "GET".to_owned(),
            headers: BTreeMap::new(),
            expect_status: Vec::new(),
            expect_body: None,
            ca: None,
            insecure: false,
        })
    }

    /// The health of a gRPC server, `grpc://host:port/service`, as a `grpc` check without other keys asks for it.
    ///
    /// # Errors
    /// It is no such address, in words for people.
    pub fn grpc(url: &str) -> Result<Probe, String> {
        let url: GrpcUrl = Format::read(url).map_err(|wrong: Wrong| wrong.of(url))?;
        Ok(Probe::Grpc(GrpcProbe::of(url, Trust::default())))
    }

    /// A connection to this `host:port`.
    ///
    /// # Errors
    /// It is none, in words for people.
    pub fn tcp(address: &str) -> Result<Probe, String> {
        let HostPort(address) = Format::read(address).map_err(|wrong: Wrong| wrong.of(address))?;
        Ok(Probe::Tcp { address })
    }
}

/// One HTTP health request.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProbe {
    /// `http://` or `https://`.
    pub url: String,
    /// `GET` unless set.
    pub method: String,
    /// Headers sent.
    pub headers: BTreeMap<String, String>,
    /// Statuses that are healthy; empty is 200 to 399, as Docker's and Mesos' users expect.
    pub expect_status: Vec<u16>,
    /// A part of the body that must be there (looked for in its first 64 KiB).
    pub expect_body: Option<String>,
    /// A certificate authority in PEM for https; `None` is the system's.
    pub ca: Option<PathBuf>,
    /// Don't verify https.
    pub insecure: bool,
}

/// One question of the standard health protocol of gRPC.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpcProbe {
    /// `host:port`.
    pub address: String,
    /// Whose health is asked for; empty is the whole server's.
    pub service: String,
    /// Who is believed to be the server; `None` is plain text.
    pub tls: Option<Trust>,
}

impl GrpcProbe {
    /// The question that an address stands for; `trust` is of use with TLS alone.
    pub(super) fn of(url: GrpcUrl, trust: Trust) -> GrpcProbe {
        let GrpcUrl { address, service, tls } = url;
        GrpcProbe { address, service, tls: tls.then_some(trust) }
    }
}

/// Who is believed to be the server that a check asks over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    /// A certificate authority in PEM; `None` is the system's.
    pub ca: Option<PathBuf>,
    /// Anybody: nothing is verified.
    pub insecure: bool,
}

/// What a check that turns critical does beyond the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum OnFailure {
    /// Nothing.
    Report,
    /// What is checked is stopped and started again, within its restart budget.
    Restart,
    /// The container ends.
    Exit,
}
