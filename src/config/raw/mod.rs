//! The config as it is written: the shape serde knows. Nothing here is checked beyond types and formats; `validate`
//! does the rest. **The comments of these types are the key reference**: the JSON schema, `reference.toml` and the
//! book of keys are generated from them, so they speak to the one who writes a config. A comment's first paragraph
//! says what a key means, its second why the default is what it is. What a table means stands on the field that holds it:
//! a struct's own comment is shown nowhere, but in the schema for the elements of an array.

mod coprocess;
mod election;
mod endpoints;
mod health;
mod hooks;
mod order;
mod process;
mod sensor;
mod task;
mod watch;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

pub(crate) use coprocess::{Coprocess, CoprocessRestart, Ready};
pub(crate) use election::{Election, Rank, RoleTags};
pub(crate) use endpoints::{Advertise, Backend, Catalog, Control, Log, Telemetry, Tls};
pub(crate) use health::{Health, Service};
pub(crate) use hooks::{Demote, Hook, Hooks, PreStart, Promote, RoleHook};
pub(crate) use order::{ORDER, in_order};
use process::one_pair;
pub(crate) use process::{Command, Limits, Process, Restart, Stop};
pub(crate) use sensor::{Sensor, SensorKind};
pub(crate) use task::Task;
pub(crate) use watch::{Template, WaitFor, Watch};

/// Whether a table in double brackets is there. That is decided before anything else of the table is read (`expand`), so
/// what is left of it then is `true`; here it stands for the reference.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Enabled(bool);

impl Default for Enabled {
    fn default() -> Enabled {
        Enabled(true)
    }
}

impl JsonSchema for Enabled {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Enabled".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "string"], "examples": ["{{ env.NAME | default('') }}"] })
    }
}

/// The configuration of pilotfish, the init process that makes a container able to run itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Root {
    /// The one main process.
    pub(crate) process: Process,
    /// How the container ends.
    pub(crate) stop: Stop,
    /// Commands run at fixed points of the container's life. Each has its own process group and a deadline; its output
    /// goes to the log, line by line.
    pub(crate) hooks: Hooks,
    /// What must be so before `pre_start`, in the order written; each is exactly one of `service`, `key` and `leader`.
    pub(crate) wait_for: Vec<WaitFor>,
    /// What is supervised beside the main process, each as that is.
    pub(crate) coprocess: Vec<Coprocess>,
    /// The names under which the main process, or a coprocess, is in the catalog.
    pub(crate) service: Vec<Service>,
    /// Health checks of the main process, or of a coprocess; each is exactly one of `exec`, `http`, `tcp`, `grpc` and
    /// `notify`.
    pub(crate) health: Vec<Health>,
    /// Dependencies whose changes are acted on; each looks at exactly one of `service`, `key`, `key_prefix` and `leader`,
    /// and has at least one of `on_change`, `template` and `signal`.
    pub(crate) watch: Vec<Watch>,
    /// Periodic work beside the main process, from its first start on; each has exactly one of `every` and `cron`. A task
    /// never runs beside itself: what falls due meanwhile is left out. It pauses in maintenance, and its output goes to
    /// the log. `pilotfish task run NAME` runs it out of turn. docs/tasks.md has more.
    pub(crate) task: Vec<Task>,
    /// One of several containers leads. Whoever holds the election's lock in the catalog is the leader, and it may act until
    /// its lease ends; before that it has stepped down, or is killed. The main process and all hooks see `PILOTFISH_ROLE`
    /// (`leader` or `replica`), `PILOTFISH_LEADER` (`host:port`; on a replica empty until that one's `on_promote` has
    /// succeeded), `PILOTFISH_LEADER_ID`, `PILOTFISH_FIRST` (`1` for a leader before anybody has ever begun to act,
    /// which may initialise) and `PILOTFISH_TERM`, a number that grows with each leader: what the leader writes to should
    /// refuse a lower one than it has seen. docs/election.md says what is promised, and under which assumptions.
    pub(crate) election: Option<Election>,
    /// Where services are registered and dependencies looked up.
    pub(crate) catalog: Catalog,
    /// The read-only endpoint on TCP: `/metrics`, `/status`, `/livez`, `/readyz`; and metrics of one's own.
    pub(crate) telemetry: Telemetry,
    /// The endpoint that can change things, for `pilotfish status`, `reload`, `stop` and the like.
    pub(crate) control: Control,
    /// What pilotfish itself logs, on stderr. The main process's own output is never touched.
    pub(crate) log: Log,
}
