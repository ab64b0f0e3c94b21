//! `[hooks]` as it is written.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Command, Enabled, in_order, one_pair};
use crate::config::election::DEMOTE_WITHIN;
use crate::config::format::{FilePath, Parsed, User};
use crate::config::{Backoff, Leftovers, When};

/// Long enough for a slow shell script, short enough to be noticed.
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// Nobody leads meanwhile: two thirds of a hook's usual time.
const PROMOTE_WITHIN: Duration = Duration::from_secs(20);

/// Commands run at fixed points of the container's life.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Hooks {
    /// Who all of them run as, with `on_change`, `rank`, and `exec` and template checks; each may name another one.
    #[schemars(example = &"nobody", extend("x-default" = "the user pilotfish runs as"))]
    pub(crate) user: Option<Parsed<User>>,
    /// Variables set for all of these.
    #[schemars(example = one_pair("PGUSER", "postgres"))]
    pub(crate) env: BTreeMap<String, String>,
    /// Variables of all of these whose values are read from files, each time one starts.
    ///
    /// A hook reaches what the main process reaches, so it needs the same secret; `[process]` gives none to hooks.
    #[schemars(example = one_pair("PGPASSWORD", "/run/secrets/db"))]
    pub(crate) env_from_files: BTreeMap<String, Parsed<FilePath>>,
    /// Runs before the main process is first started, and before each start in a role that it hasn't prepared since the
    /// main process last led. Several run in the order written, each once the one before has succeeded. When one fails for
    /// good the container ends with its exit code. A single one may also be written `pre_start = { ... }`.
    #[schemars(extend("x-alone" = true))]
    pub(crate) pre_start: Vec<PreStart>,
    /// Runs once the main process is up and each health check passes, for the first time after each of its starts; a
    /// leader's after `on_promote`. Nothing waits for it, and its failure changes nothing. It ends with the main process,
    /// the role or the container; one that a change of role cuts short runs anew in the next role.
    pub(crate) post_start: Option<RoleHook>,
    /// Runs before the main process is told to stop, within what `[stop] within` leaves; after the drain, too, when Ctrl-C
    /// has ended it.
    pub(crate) pre_stop: Option<RoleHook>,
    /// Runs after the main process and all it left behind are gone. Its failure is logged and changes no exit code.
    pub(crate) post_stop: Option<RoleHook>,
    /// Runs when this container has won its election, once the main process is up (and healthy, where there are
    /// checks). When it fails the container gives up leading, and stands again later.
    pub(crate) on_promote: Option<Promote>,
    /// Runs when this container must lead no longer. Exit 0 means that the main process is out of the role and may live
    /// on as a replica. When it fails, or there is no such hook, the main process is stopped, and started again as a
    /// replica; `pre_start` runs again before that. With `mode = "standby"` the main process is stopped in any case.
    pub(crate) on_demote: Option<Demote>,
    /// Runs on replicas when a leader acts (its `on_promote` has succeeded) that isn't the one `pre_start`, or this
    /// hook, was last told of: `PILOTFISH_LEADER` is its address. If it fails and there is a `pre_start`, main is
    /// stopped and goes through `[[wait_for]]` and `pre_start` again, as often as `[process] restart` has main started
    /// again.
    ///
    /// A replica that can't follow as it is must be made anew, and a server that runs is in the way of that.
    pub(crate) on_leader_change: Option<Hook>,
}

/// One command with its deadline.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Hook {
    /// Program and arguments.
    #[schemars(example = ["/bin/hook"], extend("x-required" = true))]
    pub(crate) exec: Option<Command>,
    /// Past this all of it gets SIGTERM, then SIGKILL.
    ///
    /// No hook may keep a container from going on; half a minute is long for a script.
    pub(crate) timeout: Parsed<Duration>,
    /// Who it runs as.
    #[schemars(example = &"nobody", extend("x-default" = "`[hooks] user`"))]
    pub(crate) user: Option<Parsed<User>>,
    /// Variables set for it, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGUSER", "postgres"))]
    pub(crate) env: BTreeMap<String, String>,
    /// Variables whose values are read from files when it starts, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGPASSWORD", "/run/secrets/db"))]
    pub(crate) env_from_files: BTreeMap<String, Parsed<FilePath>>,
    /// What becomes of processes that it leaves behind: SIGTERM and SIGKILL (`"end"`), or, if it succeeded, nothing as
    /// long as the container, or the role it runs for, lasts (`"keep"`).
    ///
    /// A hook that has ended is over: what it forgot would work on unseen, beside main's stop or the next leader.
    pub(crate) leftovers: Leftovers,
}

impl Default for Hook {
    fn default() -> Hook {
        Hook {
            exec: None,
            timeout: Parsed(HOOK_TIMEOUT),
            user: None,
            env: BTreeMap::new(),
            env_from_files: BTreeMap::new(),
            leftovers: Leftovers::End,
        }
    }
}

/// A hook that may be of one role only.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct RoleHook {
    /// Program and arguments.
    #[schemars(example = ["/bin/hook"], extend("x-required" = true))]
    pub(crate) exec: Option<Command>,
    /// Past this all of it gets SIGTERM, then SIGKILL.
    ///
    /// No hook may keep a container from going on; half a minute is long for a script.
    pub(crate) timeout: Parsed<Duration>,
    /// Who it runs as.
    #[schemars(example = &"nobody", extend("x-default" = "`[hooks] user`"))]
    pub(crate) user: Option<Parsed<User>>,
    /// Variables set for it, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGUSER", "postgres"))]
    pub(crate) env: BTreeMap<String, String>,
    /// Variables whose values are read from files when it starts, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGPASSWORD", "/run/secrets/db"))]
    pub(crate) env_from_files: BTreeMap<String, Parsed<FilePath>>,
    /// In which role it runs; needs an `[election]`.
    ///
    /// Most of what begins or ends a program is the same in every role; `PILOTFISH_ROLE` tells which it is.
    pub(crate) when: When,
    /// What becomes of processes that it leaves behind: SIGTERM and SIGKILL (`"end"`), or, if it succeeded, nothing as
    /// long as the container, or the role it runs for, lasts (`"keep"`).
    ///
    /// A hook that has ended is over: what it forgot would work on unseen, beside main's stop or the next leader.
    pub(crate) leftovers: Leftovers,
}

impl Default for RoleHook {
    fn default() -> RoleHook {
        RoleHook {
            exec: None,
            timeout: Parsed(HOOK_TIMEOUT),
            user: None,
            env: BTreeMap::new(),
            env_from_files: BTreeMap::new(),
            when: When::Always,
            leftovers: Leftovers::End,
        }
    }
}

/// What makes a leader of a replica.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Promote {
    /// Program and arguments.
    #[schemars(example = ["/bin/promote"], extend("x-required" = true))]
    pub(crate) exec: Option<Command>,
    /// Past this all of it gets SIGTERM, then SIGKILL, and it has failed.
    ///
    /// While it runs nobody leads; a database that must catch up needs more: say so.
    pub(crate) timeout: Parsed<Duration>,
    /// Who it runs as.
    #[schemars(example = &"nobody", extend("x-default" = "`[hooks] user`"))]
    pub(crate) user: Option<Parsed<User>>,
    /// Variables set for it, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGUSER", "postgres"))]
    pub(crate) env: BTreeMap<String, String>,
    /// Variables whose values are read from files when it starts, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGPASSWORD", "/run/secrets/db"))]
    pub(crate) env_from_files: BTreeMap<String, Parsed<FilePath>>,
    /// What becomes of processes that it leaves behind: SIGTERM and SIGKILL (`"end"`), or, if it succeeded, nothing as
    /// long as the role lasts (`"keep"`).
    ///
    /// A hook that has ended is over: what it forgot would work on unseen, beside main's stop or the next leader.
    pub(crate) leftovers: Leftovers,
}

impl Default for Promote {
    fn default() -> Promote {
        Promote {
            exec: None,
            timeout: Parsed(PROMOTE_WITHIN),
            user: None,
            env: BTreeMap::new(),
            env_from_files: BTreeMap::new(),
            leftovers: Leftovers::End,
        }
    }
}

/// What makes a replica of a leader.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Demote {
    /// Program and arguments.
    #[schemars(example = ["/bin/demote"], extend("x-required" = true))]
    pub(crate) exec: Option<Command>,
    /// Past this all of it gets SIGTERM, then SIGKILL, and the main process is stopped. It must fit into the
    /// election's `lease`, with all else that must.
    ///
    /// Closing a database to writes takes moments; each second more is one less in which the backend may be silent.
    pub(crate) timeout: Parsed<Duration>,
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

impl Default for Demote {
    fn default() -> Demote {
        Demote {
            exec: None,
            timeout: Parsed(DEMOTE_WITHIN),
            user: None,
            env: BTreeMap::new(),
            env_from_files: BTreeMap::new(),
        }
    }
}

/// A hook that may be tried again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct PreStart {
    /// Whether this table is there at all: `false`, `no`, `off`, `0` and an empty value leave it out, as if it weren't
    /// written; `true`, `yes`, `on` and `1` keep it. Of use with a template: `"{{ env.NAME | default('') }}"`.
    ///
    /// What is written is meant, unless it says otherwise.
    pub(crate) enabled: Enabled,
    /// Program and arguments.
    #[schemars(example = ["/bin/restore"], extend("x-required" = true))]
    pub(crate) exec: Option<Command>,
    /// Past this all of it gets SIGTERM, then SIGKILL, and the try has failed.
    ///
    /// No hook may keep a container from going on; restoring a database needs more than half a minute: say so.
    pub(crate) timeout: Parsed<Duration>,
    /// Who it runs as.
    #[schemars(example = &"nobody", extend("x-default" = "`[hooks] user`"))]
    pub(crate) user: Option<Parsed<User>>,
    /// Variables set for it, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGUSER", "postgres"))]
    pub(crate) env: BTreeMap<String, String>,
    /// Variables whose values are read from files when it starts, on top of those of `[hooks]`.
    #[schemars(example = one_pair("PGPASSWORD", "/run/secrets/db"))]
    pub(crate) env_from_files: BTreeMap<String, Parsed<FilePath>>,
    /// How many times more it is tried after a failure.
    ///
    /// Only its writer knows whether it may run twice.
    pub(crate) retries: u32,
    /// The pause before another try: doubles from the first to the second value, with jitter.
    ///
    /// The same as for restarts.
    pub(crate) backoff: Parsed<Backoff>,
    /// In which role it runs; needs an `[election]`.
    ///
    /// Most of what a program needs before it starts is the same in every role; `PILOTFISH_ROLE` tells which it is.
    pub(crate) when: When,
    /// What becomes of processes that it leaves behind: SIGTERM and SIGKILL (`"end"`), or, if it succeeded, nothing as
    /// long as the container lasts (`"keep"`).
    ///
    /// What is started before main is often there for main to use.
    pub(crate) leftovers: Leftovers,
}

impl Default for PreStart {
    fn default() -> PreStart {
        PreStart {
            enabled: Enabled::default(),
            exec: None,
            timeout: Parsed(HOOK_TIMEOUT),
            user: None,
            env: BTreeMap::new(),
            env_from_files: BTreeMap::new(),
            retries: 0,
            backoff: Parsed(Backoff::default()),
            when: When::Always,
            leftovers: Leftovers::Keep,
        }
    }
}
