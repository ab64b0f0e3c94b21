//! `[election]` as it is written, and `when`, which other sections say by its words.

use std::collections::BTreeMap;
use std::time::Duration;

use super::in_order;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Command, one_pair};
use crate::config::election::{Fence, Mode, Preference, WithoutCatalog};
use crate::config::format::{ElectionName, FilePath, Name, Parsed, User};

/// Who stands against whom, and how long a leader may act on its last proof.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Election {
    /// Who stands against whom: a word, or several with `/` between them. The lock is the key `NAME/leader`; beside it
    /// stand `NAME/last` and `NAME/ranks/ID`. On etcd and `local` that is below `PREFIX/elections/`.
    #[schemars(example = &"mysql", extend("x-required" = true))]
    pub(crate) name: Option<Parsed<ElectionName>>,
    /// This candidate's name among the others, and after a restart. What it has in the store is under it, and by it
    /// `pilotfish step-down --to` names it. Each container needs its own: one that finds the lock held under its id takes the
    /// holder for its own life before and, on Consul, ends that one's session. Only where both share a network does it know
    /// better: then it leaves the holder alone, steps back, and says so (`election.id_shared`).
    ///
    /// With a `quorum` of `rank` it must be written, and stay with the data: one server under two ids would count as two.
    #[schemars(example = &"disk-1", extend("x-default" = "the `id` of its service; else `<name>-<hostname>`"))]
    pub(crate) id: Option<Parsed<Name>>,
    /// The service whose address is the leader's, by its name, or by its `id` where several share the name. Without any
    /// `[[service]]` an election works too, and others learn who leads but not where. What the lock is bound to: on
    /// Consul a session that ends with the service's `alive` check; without a service only with the node (serfHealth) or
    /// its own TTL, so that an agent that died on a living node is noticed after up to 20 s. On etcd a lease, on `local`
    /// a lock of the kernel, with a service and without.
    ///
    /// Where there are several, only their writer knows which of them the leader is looked for under.
    #[schemars(example = &"mysql", extend("x-default" = "the only `[[service]]`; required when there are several"))]
    pub(crate) service: Option<Parsed<Name>>,
    /// `role`: all run, one leads. `standby`: only the leader's main process runs, and it is stopped when it leads no
    /// longer.
    ///
    /// A replica that runs takes over sooner than one that must start first.
    pub(crate) mode: Mode,
    /// How long a leader may act on its last proof that it leads; it asks for a new one each second. Who is next waits
    /// that long when a leader's host is lost, and not at all when it stops or steps down. On Consul it is the session's
    /// lock delay, 60 s at most; on etcd the lease's TTL, in whole seconds. It must hold 1 s between two proofs, two
    /// requests of 2 s without an answer, stepping down (`[hooks] on_demote`'s timeout, or 5 s without that hook) and
    /// `kill_margin`; `pilotfish check` prints the sum, and for how long a leader outlives a backend that takes no
    /// writes. On `local` there is no lease: the kernel knows when a leader is gone.
    ///
    /// Consul's own default for a lock delay. A longer one outlives longer trouble of the backend; a shorter one replaces
    /// a lost host sooner.
    pub(crate) lease: Parsed<Duration>,
    /// Consul: how soon a dead agent is noticed. The `ttl` of the election's service is no longer than this, because the
    /// session is bound to the check that it is for; heartbeats come each third of it. A second at least.
    ///
    /// A heartbeat each second: one that is lost, and one that is late, are no news.
    pub(crate) alive_ttl: Parsed<Duration>,
    /// A leader that hasn't stepped down this long before its lease ends gets SIGKILL. 100 ms at least.
    ///
    /// The kernel takes 0.7 s to end a process with 4 GiB of memory.
    pub(crate) kill_margin: Parsed<Duration>,
    /// Once main has been healthy, an unhealthy candidate doesn't stand, and an unhealthy leader steps down.
    ///
    /// A leader that can't do its work isn't one.
    pub(crate) require_health: bool,
    /// How eager it is: `low` leaves a free lock to the others for 2 s more, `never` doesn't stand at all.
    ///
    /// Peers are alike unless somebody knows better.
    pub(crate) prefer: Preference,
    /// A command that prints how far this candidate is, on one line: its position in a log, say. A fresh winner that isn't
    /// acting yet yields to a living peer that is further ahead. Whole numbers are compared as numbers, any other text of
    /// up to 128 visible characters byte by byte, so that all candidates must print the same kind. `never`: these data must
    /// not lead, as an empty directory where others hold something. It runs whenever somebody holds the lock and doesn't
    /// act yet, in every role, whether main runs or not; `PILOTFISH_FIRST` is `1` while nobody has ever acted.
    pub(crate) rank: Option<Rank>,
    /// At a start while the catalog doesn't answer: `wait` holds the start until the election has a result, `replica`
    /// starts as one.
    ///
    /// Most programs must know their role before they start.
    pub(crate) without_catalog: WithoutCatalog,
    /// Tags that tell the role in the catalog. They stand beside the service's own `tags` and change with the role, while
    /// the entry and its checks stay.
    pub(crate) role_tags: Option<RoleTags>,
    /// What is killed at the deadline. `namespace`: everything in the container; pilotfish must be its PID 1, or alone
    /// with what it started in a cgroup whose `cgroup.kill` it may write (Linux 5.14). `process-group`: the main
    /// process's group and no more; a process that left it (setsid) lives on, and two may act at once.
    ///
    /// Only what kills everything can promise that nobody is left acting.
    pub(crate) fence: Fence,
    /// A directory of this host that its containers share, by which a leader's end is known at once: main and all that it
    /// starts inherit a lock of the kernel's on a file there, and when nothing of them is left, the next leader needn't
    /// wait for the lease. Who is on the same host tells: another candidate, the restarted container itself, or
    /// `pilotfish witness`. A host that is lost still costs the lease. Made when it isn't there; who may write in it may
    /// say of anybody that they are gone. On `local` the lock itself is such a file.
    ///
    /// Only the kernel of the same host can know.
    #[schemars(example = &"/shared/pilotfish")]
    pub(crate) witness: Option<Parsed<FilePath>>,
}

impl Default for Election {
    fn default() -> Election {
        Election {
            name: None,
            id: None,
            service: None,
            mode: Mode::Role,
            lease: Parsed(Duration::from_secs(15)),
            alive_ttl: Parsed(Duration::from_secs(3)),
            kill_margin: Parsed(Duration::from_secs(1)),
            require_health: true,
            prefer: Preference::Normal,
            rank: None,
            without_catalog: WithoutCatalog::Wait,
            role_tags: None,
            fence: Fence::Namespace,
            witness: None,
        }
    }
}

/// How far a candidate is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Rank {
    /// Program and arguments.
    #[schemars(example = ["/bin/replication-position"], extend("x-required" = true))]
    pub(crate) exec: Option<Command>,
    /// Past this the candidate has no rank. A fresh winner waits this long at most for the peers that are measuring theirs.
    ///
    /// While it waits nobody leads.
    pub(crate) timeout: Parsed<Duration>,
    /// How many ranks a winner must know before it is promoted, its own included, and none may be higher. Until then it
    /// keeps the lock and nobody leads, however long that takes; log and status say who is missing, and `pilotfish promote
    /// --accept-loss` is a person's way out. With writes acknowledged by W of N servers, `N - W + 1` loses none of them,
    /// whoever dies. More than 1 needs an `id` that is written (`[election] id`, or its service's) and stays with the data,
    /// whatever container they are in: a server that comes back under another id is counted twice.
    ///
    /// Of any so many servers, one has the last write.
    #[schemars(example = 2, extend("x-default" = "as many as there are in `timeout`"))]
    pub(crate) quorum: Option<u32>,
    /// Who it runs as.
    #[schemars(example = &"nobody", extend("x-default" = "`[hooks] user`"))]
    pub(crate) user: Option<Parsed<User>>,
    /// Variables set for it, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGUSER", "postgres"))]
    pub(crate) env: BTreeMap<String, String>,
    /// Variables whose values are read from files when it starts, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGPASSWORD", "/run/secrets/db"))]
    pub(crate) env_from_files: BTreeMap<String, Parsed<FilePath>>,
}

impl Default for Rank {
    fn default() -> Rank {
        Rank {
            exec: None,
            timeout: Parsed(Duration::from_secs(2)),
            quorum: None,
            user: None,
            env: BTreeMap::new(),
            env_from_files: BTreeMap::new(),
        }
    }
}

/// Tags that tell the role in the catalog.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct RoleTags {
    /// The leader's.
    #[schemars(example = &"primary", extend("x-required" = true))]
    pub(crate) leader: Option<String>,
    /// Everybody else's.
    #[schemars(example = &"replica", extend("x-required" = true))]
    pub(crate) replica: Option<String>,
}
