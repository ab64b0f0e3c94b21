//! `[process]` and `[stop]` as they are written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::in_order;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use crate::config::format::{FilePath, LimitValue, Parsed, Rewrite, Umask, User};
use crate::config::{Background, Backoff, RestartPolicy, Signal, SignalScope, Strays};

/// Docker's SIGKILL comes 10 s after its SIGTERM; a second is left for the kernel and the runtime.
const STOP_WITHIN: Duration = Duration::from_secs(9);

/// Program and arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Command;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of strings: the program and its arguments")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut words: A) -> Result<Command, A::Error> {
                let mut command = Vec::new();
                while let Some(word) = words.next_element::<String>()? {
                    command.push(word);
                }
                if command.first().is_none_or(String::is_empty) {
                    return Err(de::Error::custom("a command names a program"));
                }
                Ok(Command(command))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

impl JsonSchema for Command {
    fn schema_name() -> Cow<'static, str> {
        "command".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": { "type": "string" }, "minItems": 1, "format": "command" })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// The one main process.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Process {
    /// Program and arguments. `pilotfish -- CMD ARGS` overrides it. The program is looked up in `PATH` when it has no
    /// slash.
    ///
    /// An array, because there is no hidden shell; write `["sh", "-c", "..."]` for one.
    #[schemars(example = ["nginx", "-g", "daemon off;"], extend("x-default" = "what follows `--` on the command line"))]
    pub(crate) exec: Option<Command>,
    /// Who it runs as: a name or uid, and perhaps a group or gid after a colon. Supplementary groups come along;
    /// `no_new_privs` is set when privileges are dropped, and no capability is kept. Pipes without a name
    /// and the container's terminal on its standard descriptors become that user's, so that `/dev/stdout` and `/dev/stderr`
    /// can be opened by name.
    #[schemars(example = &"mysql", extend("x-default" = "the user pilotfish runs as"))]
    pub(crate) user: Option<Parsed<User>>,
    /// Its working directory. It is entered as `user`; by root for it only where every directory on the way is root's own,
    /// and none of them a link.
    #[schemars(example = &"/var/lib/mysql", extend("x-default" = "the one pilotfish was started in"))]
    pub(crate) directory: Option<Parsed<FilePath>>,
    /// Variables set on top of the container's environment.
    #[schemars(example = one_pair("TZ", "UTC"))]
    pub(crate) env: BTreeMap<String, String>,
    /// Variables whose values are read from files.
    ///
    /// They are read at each start, so that a rotated secret is picked up, and never logged.
    #[schemars(example = one_pair("DB_PASSWORD", "/run/secrets/db"))]
    pub(crate) env_from_files: BTreeMap<String, Parsed<FilePath>>,
    /// Resource limits (getrlimit(2)) and umask, of the main process and of hooks. A limit is a number, `"unlimited"`, or
    /// soft and hard as `"1024:4096"`; what isn't set stays as the container has it.
    pub(crate) limits: Limits,
    /// Signals that start the stop sequence; every other one is forwarded.
    ///
    /// TERM is what schedulers send, INT what Ctrl-C sends; an image with another STOPSIGNAL needs it here.
    pub(crate) stop_on: Vec<Parsed<Signal>>,
    /// What the main process gets when the container stops.
    ///
    /// Images set STOPSIGNAL to what their program takes for a graceful stop, so the signal received is the best guess.
    #[schemars(example = &"QUIT", extend("x-default" = "the one received, after `rewrite_signals`; TERM when none was"))]
    pub(crate) stop_signal: Option<Parsed<Signal>>,
    /// How long it has after the stop signal before SIGKILL.
    #[schemars(example = &"5s", extend("x-default" = "what `[stop] within` leaves"))]
    pub(crate) stop_timeout: Option<Parsed<Duration>>,
    /// Whether signals go to the main process alone or to its process group.
    ///
    /// A master process stops its own workers; a signal to the whole group would cut their work short.
    pub(crate) signal_scope: SignalScope,
    /// What the main process receives in place of a signal, even of one that stops the container; `""` drops it, and
    /// one that is dropped stops nothing.
    #[schemars(example = one_pair("HUP", "USR1"))]
    pub(crate) rewrite_signals: BTreeMap<String, Parsed<Rewrite>>,
    /// Whether it is started again after it ended by itself. A requested stop is never followed by a restart.
    pub(crate) restart: Restart,
    /// What happens when it ends while processes it left behind live on: `kill` ends them, `follow` takes them for the
    /// main process.
    ///
    /// A program that daemonises by mistake is the commoner case; `kill` shows it at once.
    pub(crate) background: Background,
    /// What happens at the end to processes that are left: `kill` sends TERM, then KILL when stop's time is up; `wait`
    /// lets them end by themselves until then.
    ///
    /// The kernel would kill them without warning.
    pub(crate) strays: Strays,
    /// The container's exit code in place of the main process's.
    #[schemars(example = one_code(143, 0))]
    pub(crate) exit_codes: BTreeMap<String, u8>,
    /// The signal that comes, as if somebody had sent it, when pilotfish's own parent ends. Read when pilotfish starts.
    /// Before Linux 5.3, and where the parent is outside pilotfish's PID namespace, it comes as soon as the
    /// parent's thread that started pilotfish ends (prctl(2), PR_SET_PDEATHSIG).
    ///
    /// For one that isn't PID 1: TERM stops what would otherwise live on as an orphan.
    #[schemars(example = &"TERM", extend("x-default" = "none"))]
    pub(crate) parent_death: Option<Parsed<Signal>>,
}

pub(crate) fn one_pair(name: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), value.to_owned())])
}

fn one_code(from: u8, to: u8) -> BTreeMap<String, u8> {
    BTreeMap::from([(from.to_string(), to)])
}

impl Default for Process {
    fn default() -> Process {
        Process {
            exec: None,
            user: None,
            directory: None,
            env: BTreeMap::new(),
            env_from_files: BTreeMap::new(),
            limits: Limits::default(),
            stop_on: vec![Parsed(Signal::TERM), Parsed(Signal::INT)],
            stop_signal: None,
            stop_timeout: None,
            signal_scope: SignalScope::Process,
            rewrite_signals: BTreeMap::new(),
            restart: Restart::default(),
            background: Background::Kill,
            strays: Strays::Kill,
            exit_codes: BTreeMap::new(),
            parent_death: None,
        }
    }
}

/// Resource limits and umask.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Limits {
    /// Address space, in bytes.
    #[schemars(example = 4_294_967_296_u64)]
    pub(crate) r#as: Option<LimitValue>,
    /// A core file, in bytes.
    #[schemars(example = 0)]
    pub(crate) core: Option<LimitValue>,
    /// CPU time, in seconds.
    #[schemars(example = &"unlimited")]
    pub(crate) cpu: Option<LimitValue>,
    /// Data segment, in bytes.
    #[schemars(example = &"unlimited")]
    pub(crate) data: Option<LimitValue>,
    /// A file that is written, in bytes.
    #[schemars(example = &"unlimited")]
    pub(crate) fsize: Option<LimitValue>,
    /// File locks.
    #[schemars(example = &"unlimited")]
    pub(crate) locks: Option<LimitValue>,
    /// Locked memory, in bytes.
    #[schemars(example = 65536)]
    pub(crate) memlock: Option<LimitValue>,
    /// POSIX message queues, in bytes.
    #[schemars(example = 819_200)]
    pub(crate) msgqueue: Option<LimitValue>,
    /// The ceiling of nice values, as 20 - nice.
    #[schemars(example = 0)]
    pub(crate) nice: Option<LimitValue>,
    /// Open files.
    #[schemars(example = 65536)]
    pub(crate) nofile: Option<LimitValue>,
    /// Processes of the user.
    #[schemars(example = 4096)]
    pub(crate) nproc: Option<LimitValue>,
    /// Resident memory, in bytes (the kernel takes it and does nothing).
    #[schemars(example = &"unlimited")]
    pub(crate) rss: Option<LimitValue>,
    /// The ceiling of real-time priorities.
    #[schemars(example = 0)]
    pub(crate) rtprio: Option<LimitValue>,
    /// CPU time of a real-time process without a system call, in microseconds.
    #[schemars(example = &"unlimited")]
    pub(crate) rttime: Option<LimitValue>,
    /// Pending signals.
    #[schemars(example = 4096)]
    pub(crate) sigpending: Option<LimitValue>,
    /// The main thread's stack, in bytes.
    #[schemars(example = 8_388_608)]
    pub(crate) stack: Option<LimitValue>,
    /// File mode creation mask, in octal digits.
    #[schemars(example = &"022")]
    pub(crate) umask: Option<Parsed<Umask>>,
}

/// Whether the main process is started again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Restart {
    /// After which ends: `never`, `on-failure` (another code than 0, or a signal), or `always`. Never after a requested
    /// stop. That is also an end by a signal passed on that the main process leaves to its default, by TERM, INT or
    /// QUIT passed on (it ends by the signal, with code 0, or with 128 and the signal's number), or by Ctrl-C or Ctrl-\
    /// at its terminal, whatever its code then is. A start that fails for a moment (a limit is reached, the program is
    /// being written or replaced) counts as such an end.
    ///
    /// A scheduler restarts containers too, and sees more than one of them.
    pub(crate) policy: RestartPolicy,
    /// How many restarts within `within`; one more, and the container ends with the main process's code.
    ///
    /// What ends six times in a minute doesn't get better by a seventh start.
    pub(crate) max: u32,
    /// See `max`.
    pub(crate) within: Parsed<Duration>,
    /// The pause before a restart: doubles from the first to the second value, with jitter, and starts anew after a
    /// minute in health. One value is always the same pause.
    ///
    /// The first restart is quick; a fault that stays costs little.
    pub(crate) backoff: Parsed<Backoff>,
}

impl Default for Restart {
    fn default() -> Restart {
        let crate::config::Restart { max, within, backoff, .. } = crate::config::Restart::default();
        Restart { policy: RestartPolicy::Never, max, within: Parsed(within), backoff: Parsed(backoff) }
    }
}

/// How the container ends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Stop {
    /// The whole stop sequence, hooks and all; each step takes from what is left, and SIGKILL comes at its end.
    ///
    /// Docker kills 10 s after its SIGTERM; raise both together (`docker stop -t`, `terminationGracePeriodSeconds`).
    pub(crate) within: Parsed<Duration>,
    /// The pause between leaving the rotation and `pre_stop`, so that peers can hear of it.
    ///
    /// What watches the catalog hears within milliseconds; what polls or caches needs its own interval here. `pilotfish
    /// restart` pauses as long before the process it stops is told.
    pub(crate) drain: Parsed<Duration>,
}

impl Default for Stop {
    fn default() -> Stop {
        Stop { within: Parsed(STOP_WITHIN), drain: Parsed(Duration::ZERO) }
    }
}
