//! `[[task]]` as it is written.

use std::collections::BTreeMap;
use std::time::Duration;

use super::in_order;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Command, Enabled, one_pair};
use crate::config::format::{FilePath, Name, Parsed, User};
use crate::config::{Cron, TaskWhen};

/// Periodic work: exactly one of `every` and `cron`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = in_order::<Self>)]
pub(crate) struct Task {
    /// Whether this table is there at all: `false`, `no`, `off`, `0` and an empty value leave it out, as if it weren't
    /// written; `true`, `yes`, `on` and `1` keep it. Of use with a template: `"{{ env.NAME | default('') }}"`.
    ///
    /// What is written is meant, unless it says otherwise.
    pub(crate) enabled: Enabled,
    /// Its name in logs, metrics and status; unique.
    #[schemars(example = &"backup", extend("x-required" = true))]
    pub(crate) name: Option<Parsed<Name>>,
    /// Program and arguments.
    #[schemars(example = ["/bin/backup"], extend("x-required" = true))]
    pub(crate) exec: Option<Command>,
    /// From the start of one run to the start of the next, however the clock is set meanwhile. What falls due while it
    /// may not run comes when it may again.
    #[schemars(example = &"1h")]
    pub(crate) every: Option<Parsed<Duration>>,
    /// Minute, hour, day, month and weekday, as in a crontab, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    /// What falls due while it may not run is left out. Where a clock is put forward by up to three hours (DST, or by
    /// hand) what names its hours comes when that is over, and where it is put back it doesn't come again; what comes
    /// each hour (`*` for the hour) goes by the clock as it is.
    #[schemars(example = &"30 2 * * *")]
    pub(crate) cron: Option<Parsed<Cron>>,
    /// The time zone of `cron`, by its name in the image's zone data (`/usr/share/zoneinfo`, or `TZDIR`), or written out
    /// as in `TZ`: `"CET-1CEST,M3.5.0,M10.5.0/3"`.
    #[schemars(example = &"Europe/Berlin", extend("x-default" = "`\"UTC\"`"))]
    pub(crate) tz: Option<String>,
    /// The first run comes as soon as it may run at all (the main process has been started, or this container leads),
    /// and the next by `every` or `cron`.
    ///
    /// A container that crashes again and again would do little else.
    pub(crate) at_start: bool,
    /// Each run is put off by a random part of this.
    ///
    /// Many containers started together shouldn't do it all at once; one needs none.
    pub(crate) jitter: Parsed<Duration>,
    /// Past this all of it gets SIGTERM, then SIGKILL.
    #[schemars(example = &"30m", extend("x-default" = "`every`; with `cron` an hour"))]
    pub(crate) timeout: Option<Parsed<Duration>>,
    /// When it may run: `always`, as `leader` or as `replica` (these need an `[election]`), or while the main process is
    /// `healthy`. A leader's begins once the main process acts as leader, and is ended, with all that it started, before
    /// another may lead; a replica's is ended before the promotion.
    ///
    /// Most periodic work is the container's own.
    pub(crate) when: TaskWhen,
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

impl Default for Task {
    fn default() -> Task {
        Task {
            enabled: Enabled::default(),
            name: None,
            exec: None,
            every: None,
            cron: None,
            tz: None,
            at_start: false,
            jitter: Parsed(Duration::ZERO),
            timeout: None,
            when: TaskWhen::Always,
            user: None,
            env: BTreeMap::new(),
            env_from_files: BTreeMap::new(),
        }
    }
}
