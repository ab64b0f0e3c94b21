//! `[[wait_for]]` and `[[watch]]` as they are written.

use std::time::Duration;

use super::in_order;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Command, Enabled, Hook};
use crate::config::format::{ElectionName, FileMode, FilePath, Name, Parsed, User};
use crate::config::{Required, Signal, When};

/// What must be so before `pre_start`: exactly one of `service`, `key` and `leader`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct WaitFor {
    /// Whether this table is there at all: `false`, `no`, `off`, `0` and an empty value leave it out, as if it weren't
    /// written; `true`, `yes`, `on` and `1` keep it. Of use with a template: `"{{ env.NAME | default('') }}"`.
    ///
    /// What is written is meant, unless it says otherwise.
    pub(crate) enabled: Enabled,
    /// A service with passing instances.
    #[schemars(example = &"storage")]
    pub(crate) service: Option<Parsed<Name>>,
    /// Only instances with this tag.
    #[schemars(example = &"primary", extend("x-default" = "any"))]
    pub(crate) tag: Option<String>,
    /// In this datacenter.
    #[schemars(example = &"dc2", extend("x-default" = "the agent's own"))]
    pub(crate) datacenter: Option<String>,
    /// A key that exists.
    #[schemars(example = &"mysql/snapshot")]
    pub(crate) key: Option<String>,
    /// An election that has a leader which acts: its `on_promote` has succeeded. Who waits for the leader of its own
    /// election stands in it meanwhile, and waits once the election has had its first result.
    #[schemars(example = &"mysql")]
    pub(crate) leader: Option<Parsed<ElectionName>>,
    /// How many passing instances.
    #[schemars(example = 1, extend("x-default" = "`1`"))]
    pub(crate) count: Option<u32>,
    /// Past this the container ends.
    ///
    /// A scheduler sees a container that ended, and not one that waits for ever.
    pub(crate) timeout: Parsed<Duration>,
    /// In which role it is waited for; needs an `[election]`. Except for `always`, the wait begins after the election's
    /// first result, which tells the role.
    ///
    /// Most dependencies are the same in every role.
    pub(crate) when: When,
}

impl Default for WaitFor {
    fn default() -> WaitFor {
        WaitFor {
            enabled: Enabled::default(),
            service: None,
            tag: None,
            datacenter: None,
            key: None,
            leader: None,
            count: None,
            timeout: Parsed(Duration::from_secs(300)),
            when: When::Always,
        }
    }
}

/// A dependency whose changes are acted on: exactly one of `service`, `key`, `key_prefix` and `leader`, and at least one
/// of `on_change`, `template` and `signal`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Watch {
    /// Whether this table is there at all: `false`, `no`, `off`, `0` and an empty value leave it out, as if it weren't
    /// written; `true`, `yes`, `on` and `1` keep it. Of use with a template: `"{{ env.NAME | default('') }}"`.
    ///
    /// What is written is meant, unless it says otherwise.
    pub(crate) enabled: Enabled,
    /// Its name in logs, metrics and `PILOTFISH_WATCH`; unique.
    #[schemars(example = &"app", extend("x-default" = "the service, key, prefix or election it looks at"))]
    pub(crate) name: Option<String>,
    /// A service whose passing instances are looked at.
    #[schemars(example = &"app")]
    pub(crate) service: Option<Parsed<Name>>,
    /// Only instances with this tag.
    #[schemars(example = &"web", extend("x-default" = "any"))]
    pub(crate) tag: Option<String>,
    /// In this datacenter.
    #[schemars(example = &"dc2", extend("x-default" = "the agent's own"))]
    pub(crate) datacenter: Option<String>,
    /// A key whose value is looked at.
    #[schemars(example = &"app/config")]
    pub(crate) key: Option<String>,
    /// All keys below this.
    #[schemars(example = &"app/")]
    pub(crate) key_prefix: Option<String>,
    /// An election whose leader is looked at, from when it acts (its `on_promote` has succeeded), as a service with one
    /// instance or none: its `id`, `address` and `port`, and the term as `meta.term`. Needs no `[election]` of one's
    /// own.
    #[schemars(example = &"mysql")]
    pub(crate) leader: Option<Parsed<ElectionName>>,
    /// The first change after a quiet spell acts at once; those within this of a run gather into the next.
    ///
    /// A deployment of many instances is a handful of runs, and a single change isn't held up.
    pub(crate) settle: Parsed<Duration>,
    /// A command that gets the change as JSON on its stdin.
    pub(crate) on_change: Option<Hook>,
    /// A file written anew from what is seen, at each change; the signal and `on_change` come after it. It keeps its
    /// owner and mode unless they are named, and is left alone (so are signal and `on_change`) when nothing in it
    /// changes. It is replaced atomically; where no file may be beside it (a file bind-mounted by itself, another's
    /// directory) it is written in place, and what was there is put back if that fails. While the catalog has given no
    /// answer, a file that is there stays as it is. A link at the destination is followed, but never one by which another
    /// user would lead to what they may not write themselves; and so with the template.
    pub(crate) template: Option<Template>,
    /// A signal to the main process, sent once it wouldn't die of it: it catches, ignores or blocks it, or waits for it by
    /// sigwait(3). That a main waits is seen where main runs as pilotfish's user, or pilotfish has CAP_SYS_PTRACE.
    ///
    /// A program that has only just been started would be ended by it.
    #[schemars(example = &"HUP")]
    pub(crate) signal: Option<Parsed<Signal>>,
    /// In which role changes are acted on, by `on_change`, `template` and `signal` alike; needs an `[election]`. A new
    /// leader's `on_change` doesn't wait for its `on_promote`.
    ///
    /// Most programs follow their dependencies in every role.
    pub(crate) when: When,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            enabled: Enabled::default(),
            name: None,
            service: None,
            tag: None,
            datacenter: None,
            key: None,
            key_prefix: None,
            leader: None,
            settle: Parsed(Duration::from_millis(100)),
            on_change: None,
            template: None,
            signal: None,
            when: When::Always,
        }
    }
}

/// A file written from what a watch sees.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Template {
    /// The template (Jinja). It sees `instances` of a service (each with `id`, `name`, `address`, `port`, `host_port`,
    /// `tags`, `meta`), the leader of an election as the one of its `instances` (none while there is none; `meta.term`
    /// is its term), the `value` of a key, the `keys` below a prefix with their values, the name of the `watch`, and
    /// `env`. A line that holds only blocks leaves no line behind. docs/templates.md has the filters.
    #[schemars(example = &"/etc/nginx/nginx.conf.j2", extend("x-required" = true))]
    pub(crate) source: Option<Parsed<FilePath>>,
    /// The file.
    #[schemars(example = &"/etc/nginx/nginx.conf", extend("x-required" = true))]
    pub(crate) destination: Option<Parsed<FilePath>>,
    /// A command that must exit 0 before the file goes live; `{}` in it stands for the new file's path: a copy under its own
    /// name in a directory of its own, where relative includes find what is beside the destination (docs/templates.md).
    #[schemars(example = ["nginx", "-t", "-c", "{}"])]
    pub(crate) check: Option<Command>,
    /// Past this the check has failed.
    ///
    /// A syntax check that takes longer is stuck.
    pub(crate) check_timeout: Parsed<Duration>,
    /// Who the check runs as. The copy that it looks at is for them alone.
    ///
    /// A check that needs none of root's rights shouldn't have them over a text that the catalog wrote.
    #[schemars(example = &"nginx", extend("x-default" = "the user pilotfish runs as"))]
    pub(crate) check_user: Option<Parsed<User>>,
    /// The file's mode, in octal. It is 0600 until it is complete.
    ///
    /// A file that holds a password is to be read by its owner alone: `"0600"`.
    #[schemars(example = &"0640", extend("x-default" = "that of the file before; `\"0644\"` when there is none"))]
    pub(crate) mode: Option<Parsed<FileMode>>,
    /// Whose the file is: `user`, `user:group` or their numbers.
    #[schemars(example = &"root:haproxy", extend("x-default" = "that of the file before, as far as pilotfish may give it away, unless another user may have put that there first"))]
    pub(crate) owner: Option<Parsed<User>>,
    /// Makes the destination's missing directories, with mode 0755.
    ///
    /// A path with a mistake in it would be made, too.
    pub(crate) parents: bool,
    /// Main doesn't start before the file has been made from an answer of the catalog; past this the container ends
    /// with code 69. `"forever"` waits as long as it takes.
    ///
    /// Without it main starts after 2 seconds without an answer, with the file that is there, or, where there is none,
    /// with one made from nothing.
    #[schemars(example = &"30s", extend("x-default" = "main doesn't wait"))]
    pub(crate) required: Option<Parsed<Required>>,
}

impl Default for Template {
    fn default() -> Template {
        Template {
            source: None,
            destination: None,
            check: None,
            check_timeout: Parsed(Duration::from_secs(10)),
            check_user: None,
            mode: None,
            owner: None,
            parents: false,
            required: None,
        }
    }
}
