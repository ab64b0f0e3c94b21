//! `[[coprocess]]` as it is written.

use std::collections::BTreeMap;
use std::time::Duration;

use super::in_order;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Command, Enabled, Hook, Limits, one_pair};
use crate::config::coprocess::{OnGivingUp, OutputMode, StartPoint, StopPoint};
use crate::config::format::{FilePath, GrpcUrl, HostPort, HttpUrl, Name, Parsed, User};
use crate::config::{Background, Backoff, RestartPolicy, Signal, SignalScope, When};

/// Long enough for a server that reads its data first, short enough for a scheduler to try elsewhere.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A process that is supervised beside the main process: a Consul agent, an exporter, a second server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Coprocess {
    /// Whether this table is there at all: `false`, `no`, `off`, `0` and an empty value leave it out, as if it weren't
    /// written; `true`, `yes`, `on` and `1` keep it. Of use with a template: `"{{ env.NAME | default('') }}"`.
    ///
    /// What is written is meant, unless it says otherwise.
    pub(crate) enabled: Enabled,
    /// Its name in logs, metrics and status, and for `after` and `of`; unique.
    #[schemars(example = &"consul-agent", extend("x-required" = true))]
    pub(crate) name: Option<Parsed<Name>>,
    /// Program and arguments.
    #[schemars(example = ["consul", "agent", "-config-dir=/etc/consul"], extend("x-required" = true))]
    pub(crate) exec: Option<Command>,
    /// Who it runs as.
    #[schemars(example = &"consul", extend("x-default" = "the user pilotfish runs as"))]
    pub(crate) user: Option<Parsed<User>>,
    /// Its working directory. It is entered as `user`; by root for it only where every directory on the way is root's own,
    /// and none of them a link.
    #[schemars(example = &"/var/lib/consul", extend("x-default" = "the one pilotfish was started in"))]
    pub(crate) directory: Option<Parsed<FilePath>>,
    /// Variables set on top of the container's environment.
    #[schemars(example = one_pair("GOMAXPROCS", "1"))]
    pub(crate) env: BTreeMap<String, String>,
    /// Variables whose values are read from files at each start.
    #[schemars(example = one_pair("CONSUL_HTTP_TOKEN", "/run/secrets/consul-token"))]
    pub(crate) env_from_files: BTreeMap<String, Parsed<FilePath>>,
    /// Its resource limits and umask, written as those of `[process.limits]`.
    pub(crate) limits: Limits,
    /// When it starts: `before-catalog` before anything is asked of a catalog, and main starts only once it is ready;
    /// `with-main` together with main's first start; `after-main` once main is healthy for the first time.
    ///
    /// Most of them serve main, or are served by it, and neither needs the other to start.
    pub(crate) start: StartPoint,
    /// Names of others that must be ready first.
    #[schemars(example = ["consul-agent"])]
    pub(crate) after: Vec<String>,
    /// In which role it runs; needs an `[election]`. Without this it runs through every change of role. A leader's is
    /// ended, with all it started, before the lock is given away; a replica's has two seconds to end before a promotion.
    ///
    /// What serves a container serves it in every role.
    pub(crate) when: When,
    /// When it is ready, for which those that come after it wait: it is asked by exactly one of `exec`, `http`, `tcp`,
    /// `grpc` and `notify` until it says yes.
    #[schemars(extend("x-default" = "as soon as it runs"))]
    pub(crate) ready: Option<Ready>,
    /// Runs before its first start; when it fails, that counts as an end of the coprocess.
    pub(crate) pre_start: Option<Hook>,
    /// Runs once it has ended for good: at the container's stop, when its role is over, or when it is given up.
    pub(crate) post_stop: Option<Hook>,
    /// Whether it is started again after it ended.
    pub(crate) restart: CoprocessRestart,
    /// What happens when it ends while processes it left behind live on: `kill` ends them, `follow` takes one of
    /// them, the daemon, for the coprocess.
    ///
    /// A program that daemonises by mistake is the commoner case; `kill` shows it at once.
    pub(crate) background: Background,
    /// What its end for good means for the container: nothing (`ignore`), or its end (`exit`), with the coprocess's code.
    ///
    /// The container is there for its main process.
    pub(crate) on_giving_up: OnGivingUp,
    /// When it stops: once main is gone (`after-main`), or before main is told (`before-main`). Those that started later
    /// stop earlier; what started `before-catalog` stops last, when all has left the catalog.
    ///
    /// Main may need it until its end.
    pub(crate) stop: StopPoint,
    /// What it gets when it is to stop.
    #[schemars(example = &"INT")]
    pub(crate) stop_signal: Parsed<Signal>,
    /// How long it has after that before SIGKILL.
    #[schemars(example = &"5s", extend("x-default" = "its part of what `[stop] within` leaves"))]
    pub(crate) stop_timeout: Option<Parsed<Duration>>,
    /// Whether the stop signal goes to its process alone or to its process group.
    ///
    /// A master process stops its own workers; a signal to the whole group would cut their work short.
    pub(crate) signal_scope: SignalScope,
    /// Where its output goes: `log` puts it into the log, line by line, under its name; `raw` leaves it to the
    /// container's own, untouched.
    ///
    /// Two programs that write to one stream are told apart by nothing else.
    pub(crate) output: OutputMode,
}

impl Default for Coprocess {
    fn default() -> Coprocess {
        Coprocess {
            enabled: Enabled::default(),
            name: None,
            exec: None,
            user: None,
            directory: None,
            env: BTreeMap::new(),
            env_from_files: BTreeMap::new(),
            limits: Limits::default(),
            start: StartPoint::WithMain,
            after: Vec::new(),
            when: When::Always,
            ready: None,
            pre_start: None,
            post_stop: None,
            restart: CoprocessRestart::default(),
            background: Background::Kill,
            on_giving_up: OnGivingUp::Ignore,
            stop: StopPoint::AfterMain,
            stop_signal: Parsed(Signal::TERM),
            stop_timeout: None,
            signal_scope: SignalScope::Process,
            output: OutputMode::Log,
        }
    }
}

/// What says that a coprocess is ready.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Ready {
    /// A command, run as the coprocess is: exit 0 is ready.
    #[schemars(example = ["consul", "info"])]
    pub(crate) exec: Option<Command>,
    /// A URL asked by pilotfish itself: 200 to 399 is ready.
    #[schemars(example = &"http://127.0.0.1:8500/v1/status/leader")]
    pub(crate) http: Option<Parsed<HttpUrl>>,
    /// A host and port connected to by pilotfish itself.
    #[schemars(example = &"127.0.0.1:8500")]
    pub(crate) tcp: Option<Parsed<HostPort>>,
    /// A gRPC server asked by pilotfish itself, by the standard health protocol.
    #[schemars(example = &"127.0.0.1:50051")]
    pub(crate) grpc: Option<Parsed<GrpcUrl>>,
    /// `true`: it says so itself, by sd_notify (READY=1).
    #[schemars(example = true)]
    pub(crate) notify: Option<bool>,
    /// Past this, from its first start, the container ends with code 69 if anything waits for it or `on_giving_up` is
    /// `exit`; otherwise it is said.
    ///
    /// A start that hangs without an end helps nobody.
    pub(crate) timeout: Parsed<Duration>,
}

impl Default for Ready {
    fn default() -> Ready {
        Ready { exec: None, http: None, tcp: None, grpc: None, notify: None, timeout: Parsed(READY_WITHIN) }
    }
}

/// Whether a coprocess is started again after it ended.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct CoprocessRestart {
    /// After which ends: `never`, `on-failure` (another code than 0, or a signal), or `always`.
    ///
    /// A coprocess is there for as long as the container.
    pub(crate) policy: RestartPolicy,
    /// How many restarts within `within`; one more, and it is given up.
    ///
    /// What ends six times in a minute doesn't get better by a seventh start.
    pub(crate) max: u32,
    /// See `max`.
    pub(crate) within: Parsed<Duration>,
    /// The pause before a restart: doubles from the first to the second value, with jitter, and starts anew after a
    /// minute of life. One value is always the same pause.
    ///
    /// The first restart is quick; a fault that stays costs little.
    pub(crate) backoff: Parsed<Backoff>,
}

impl Default for CoprocessRestart {
    fn default() -> CoprocessRestart {
        let crate::config::Restart { max, within, backoff, .. } = crate::config::Restart::default();
        CoprocessRestart { policy: RestartPolicy::Always, max, within: Parsed(within), backoff: Parsed(backoff) }
    }
}
