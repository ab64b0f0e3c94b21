//! `[[service]]` and `[[health]]` as they are written.

use std::collections::BTreeMap;
use std::time::Duration;

use super::in_order;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Command, Enabled, one_pair};
use crate::config::format::{FilePath, GrpcUrl, HostPort, HttpUrl, Name, Parsed, User};
use crate::config::{AddressSpec, Family, OnFailure};

/// The names under which the main process, or a coprocess, is in the catalog.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Service {
    /// Whether this table is there at all: `false`, `no`, `off`, `0` and an empty value leave it out, as if it weren't
    /// written; `true`, `yes`, `on` and `1` keep it. Of use with a template: `"{{ env.NAME | default('') }}"`.
    ///
    /// What is written is meant, unless it says otherwise.
    pub(crate) enabled: Enabled,
    /// The service's name.
    #[schemars(example = &"web", extend("x-required" = true))]
    pub(crate) name: Option<Parsed<Name>>,
    /// What tells this instance from its peers.
    ///
    /// Unique under host networking too, where several containers share one host name, and the same after a restart.
    #[schemars(example = &"web-a", extend("x-default" = "`<name>-<hostname>-<port>`"))]
    pub(crate) id: Option<Parsed<Name>>,
    /// Where it listens, from 1 to 65535.
    #[schemars(example = 8080, extend("x-required" = true))]
    pub(crate) port: Option<u16>,
    /// Whose entry it is: the main process's, or that of the coprocess of this name.
    #[schemars(example = &"consul-agent", extend("x-default" = "`\"main\"`"))]
    pub(crate) of: Option<Parsed<Name>>,
    /// Labels others filter by.
    #[schemars(example = ["prod"])]
    pub(crate) tags: Vec<String>,
    /// Free pairs that go with the instance.
    #[schemars(example = BTreeMap::from([("version", "8.0")]))]
    pub(crate) meta: BTreeMap<String, String>,
    /// Which of the container's addresses is advertised; the first that matches wins, looked up at each registration:
    /// `eth0`, `eth0:inet6`, `eth0[1]` (zero-based), `inet`, `inet6` (where the default route goes out), a network such
    /// as `10.0.0.0/8`, `static:192.0.2.7`. Where a spec leaves a choice, an address that stays comes before one that
    /// is secondary, deprecated, tentative or alone in its network. One that is down (or without a carrier), tentative or
    /// of 169.254.0.0/16 gives way to what a later spec matches. While one of them has the default route, `inet` and
    /// `inet6` match nothing on an interface that hasn't (no bridge while a cable is out; where a network manager takes the
    /// address away as well, name the interface). `check` and `status` say which one it is and why.
    ///
    /// `eth0` is a container's own interface nearly everywhere, also where the default route goes out of another one
    /// (overlay networks); a host's own is where its default route is; and some networks have IPv6 alone.
    pub(crate) address: Vec<Parsed<AddressSpec>>,
    /// How long the entry outlives an agent that died without a word.
    ///
    /// Three heartbeats of 5 s: one lost is no news.
    pub(crate) ttl: Parsed<Duration>,
    /// What only Consul knows.
    pub(crate) consul: ConsulService,
}

impl Default for Service {
    fn default() -> Service {
        let eth0 = AddressSpec::Interface { name: "eth0".to_owned(), family: Family::V4 };
        Service {
            enabled: Enabled::default(),
            name: None,
            id: None,
            port: None,
            of: None,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            address: vec![Parsed(eth0), Parsed(AddressSpec::Any(Family::V4)), Parsed(AddressSpec::Any(Family::V6))],
            ttl: Parsed(Duration::from_secs(15)),
            consul: ConsulService::default(),
        }
    }
}

/// What only Consul knows of a service; other catalogs ignore it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct ConsulService {
    /// Whether others may change its tags in the catalog.
    ///
    /// What is registered should be what this file says.
    pub(crate) enable_tag_override: bool,
    /// Consul removes the entry after it has been critical this long; `"0s"` is never. Consul's own least is a minute.
    ///
    /// An entry whose container is gone for good shouldn't need a person to delete it.
    pub(crate) deregister_critical_after: Parsed<Duration>,
}

impl Default for ConsulService {
    fn default() -> ConsulService {
        ConsulService { enable_tag_override: false, deregister_critical_after: Parsed(Duration::from_secs(600)) }
    }
}

/// A check of the main process, or of a coprocess: exactly one of `exec`, `http`, `tcp`, `grpc` and `notify`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Health {
    /// Whether this table is there at all: `false`, `no`, `off`, `0` and an empty value leave it out, as if it weren't
    /// written; `true`, `yes`, `on` and `1` keep it. Of use with a template: `"{{ env.NAME | default('') }}"`.
    ///
    /// What is written is meant, unless it says otherwise.
    pub(crate) enabled: Enabled,
    /// Its name in logs, metrics and status; unique.
    #[schemars(example = &"ping", extend("x-default" = "its kind: `exec`, `http`, `tcp`, `grpc` or `notify`"))]
    pub(crate) name: Option<Parsed<Name>>,
    /// Whom it checks: the main process, or the coprocess of this name.
    #[schemars(example = &"consul-agent", extend("x-default" = "`\"main\"`"))]
    pub(crate) of: Option<Parsed<Name>>,
    /// A command: exit 0 is healthy.
    #[schemars(example = ["/bin/check"])]
    pub(crate) exec: Option<Command>,
    /// A URL asked by pilotfish itself: no fork, no curl in the image.
    #[schemars(example = &"http://127.0.0.1:8080/health")]
    pub(crate) http: Option<Parsed<HttpUrl>>,
    /// A host and port connected to by pilotfish itself.
    #[schemars(example = &"127.0.0.1:3306")]
    pub(crate) tcp: Option<Parsed<HostPort>>,
    /// A gRPC server asked by pilotfish itself, by the standard health protocol (grpc.health.v1): `host:port`, with
    /// `/SERVICE` behind it for the health of one service; `grpcs://` before it for TLS.
    #[schemars(example = &"127.0.0.1:50051")]
    pub(crate) grpc: Option<Parsed<GrpcUrl>>,
    /// `true`: what it checks says itself how it is, by sd_notify: READY=1, and WATCHDOG=1 within each `interval`,
    /// which main finds in WATCHDOG_USEC. One that never says WATCHDOG=1 is taken to be healthy once it is ready.
    #[schemars(example = true)]
    pub(crate) notify: Option<bool>,
    /// From the end of one check to the start of the next; at least 10 ms, as `start_interval`.
    ///
    /// Checks run inside the container and cost nobody else anything.
    pub(crate) interval: Parsed<Duration>,
    /// Past this one check has failed.
    ///
    /// What answers later than this is of no use to its clients either.
    pub(crate) timeout: Parsed<Duration>,
    /// Failures don't count until the first success or this long after the start of what is checked.
    ///
    /// The time most programs need to start; what is quicker is healthy at its first success.
    pub(crate) grace: Parsed<Duration>,
    /// In place of `interval` while in grace.
    ///
    /// A new instance should get its first request soon after it is ready.
    pub(crate) start_interval: Parsed<Duration>,
    /// How many failures one after the other turn it critical.
    ///
    /// One lost packet or one long pause isn't a fault.
    pub(crate) failures: u32,
    /// How many successes one after the other turn it passing again.
    ///
    /// What answers, answers.
    pub(crate) successes: u32,
    /// What turning critical does beyond the catalog: `report` nothing, `restart` what is checked (within its own
    /// `restart`), `exit` the container.
    ///
    /// A check that is wrong shouldn't be able to end what works.
    pub(crate) on_failure: OnFailure,
    /// Names or ids of the services it speaks for.
    #[schemars(example = ["web"], extend("x-default" = "all of what it checks"))]
    pub(crate) services: Option<Vec<String>>,
    /// Whether anything depends on it. `false`: it is shown and told of, `on_failure` holds, but neither readiness, nor a
    /// role, nor an entry in the catalog goes by it.
    ///
    /// A check is there to be heeded.
    pub(crate) counts: bool,
    /// Whether a candidate's fitness to lead depends on it, too; needs an `[election]`. `false`: its failure takes the
    /// entry out of the rotation, and keeps nobody from standing, from being promoted or from leading. For a replica that
    /// doesn't replicate, say: it should serve nobody, and can still be the one that is chosen.
    ///
    /// What doesn't work shouldn't lead.
    pub(crate) stand: bool,
    /// Who an `exec` check runs as.
    #[schemars(example = &"nobody", extend("x-default" = "`[hooks] user`"))]
    pub(crate) user: Option<Parsed<User>>,
    /// Variables set for an `exec` check, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGUSER", "postgres"))]
    pub(crate) env: BTreeMap<String, String>,
    /// Variables whose values are read from files when an `exec` check starts, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGPASSWORD", "/run/secrets/db"))]
    pub(crate) env_from_files: BTreeMap<String, Parsed<FilePath>>,
    /// The method of an `http` check.
    #[schemars(example = &"HEAD", extend("x-default" = "`\"GET\"`"))]
    pub(crate) method: Option<String>,
    /// Headers of an `http` check.
    #[schemars(example = BTreeMap::from([("Host", "example.com")]))]
    pub(crate) headers: BTreeMap<String, String>,
    /// Statuses an `http` check takes for healthy.
    ///
    /// The same as for Mesos; an answer that leads elsewhere is an answer.
    #[schemars(example = [200, 204], extend("x-default" = "200 to 399"))]
    pub(crate) expect_status: Option<Vec<u16>>,
    /// What must be in the first 64 KiB of the body of an `http` check.
    #[schemars(example = &"ok", extend("x-default" = "anything"))]
    pub(crate) expect_body: Option<String>,
    /// A certificate authority in PEM for https and grpcs.
    #[schemars(example = &"/etc/ssl/ca.pem", extend("x-default" = "the system's"))]
    pub(crate) ca: Option<Parsed<FilePath>>,
    /// Whether https and grpcs are left unverified.
    #[schemars(example = true, extend("x-default" = "`false`"))]
    pub(crate) insecure: Option<bool>,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            enabled: Enabled::default(),
            name: None,
            of: None,
            exec: None,
            http: None,
            tcp: None,
            grpc: None,
            notify: None,
            interval: Parsed(Duration::from_secs(5)),
            timeout: Parsed(Duration::from_secs(2)),
            grace: Parsed(Duration::from_secs(30)),
            start_interval: Parsed(Duration::from_millis(500)),
            failures: 3,
            successes: 1,
            on_failure: OnFailure::Report,
            services: None,
            counts: true,
            stand: true,
            user: None,
            env: BTreeMap::new(),
            env_from_files: BTreeMap::new(),
            method: None,
            headers: BTreeMap::new(),
            expect_status: None,
            expect_body: None,
            ca: None,
            insecure: None,
        }
    }
}
