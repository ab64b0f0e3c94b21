//! Judges `[process]`, `[stop]` and `[hooks]`.

use std::collections::BTreeMap;

use super::Validator;
use crate::config::format::{FilePath, Format, Limit, LimitValue, Parsed, Rewrite, User};
use crate::config::report::Problem;
use crate::config::suggest::nearest;
use crate::config::tree::Place;
use crate::config::{
    Exec, Hook, Hooks, Leftovers, Limits, Manner, PreStart, Process, Restart, RestartPolicy, RunAs, Signal, Stop, When,
    duration, raw,
};

pub(super) fn exec(command: raw::Command) -> Exec {
    command.0.into_iter().map(Into::into).collect()
}

pub(super) fn stop(raw: &raw::Stop, place: Place<'_>, validator: &mut Validator<'_>) -> Stop {
    let (within, drain) = (raw.within.0, raw.drain.0);
    validator.some_time(place, "within", within);
    if drain >= within && !within.is_zero() && place.has("drain") {
        validator.error(
            place.key("drain").span(),
            format!("`drain` takes all of `within`, which is {}", duration::print(within)),
            "nothing would be left to stop the main process; shorten `drain` or raise `within`",
        );
    }
    Stop { within: Some(within), drain }
}

pub(super) fn process(
    mut raw: raw::Process,
    command: Option<Exec>,
    root: Place<'_>,
    validator: &mut Validator<'_>,
) -> Process {
    let place = root.key("process");
    let exec = match command {
        Some(command) => command,
        None if raw.exec.is_none() => {
            if !place.has("exec") && !place.is_broken() {
                let problem = Problem::error(place.key_span(), "there is no main process: `[process] exec` is missing");
                validator.say(problem.hint("write `exec = [\"program\", \"argument\"]` in `[process]`, or give it on the command line after `--`"));
            }
            Exec::new()
        }
        None => raw.exec.take().map(exec).unwrap_or_default(),
    };
    environment(place, &raw.env, &raw.env_from_files, validator);
    stop_timeout(&raw, root, validator);
    let rewrite_signals = rewrites(raw.rewrite_signals, place.key("rewrite_signals"), validator);
    let stop_on = stop_on(&raw.stop_on, &rewrite_signals, place, validator);
    Process {
        exec,
        user: raw.user.map(|user| user.0.0),
        directory: raw.directory.map(|directory| directory.0.0),
        env: raw.env,
        env_from_files: raw.env_from_files.into_iter().map(|(name, path)| (name, path.0.0)).collect(),
        limits: limits(raw.limits),
        stop_on,
        stop_signal: raw.stop_signal.map(|signal| signal.0),
        stop_timeout: raw.stop_timeout.map(|timeout| timeout.0),
        signal_scope: raw.signal_scope,
        rewrite_signals,
        restart: restart(raw.restart, place.key("restart"), validator),
        background: raw.background,
        strays: raw.strays,
        exit_codes: exit_codes(raw.exit_codes, place.key("exit_codes"), validator),
        parent_death: raw.parent_death.map(|signal| signal.0),
        manner: Manner::default(),
    }
}

/// The signals that stop. One that is dropped doesn't: of the default it is taken out, and where both are written it isn't
/// known which is meant.
fn stop_on(
    raw: &[Parsed<Signal>],
    rewrites: &BTreeMap<Signal, Option<Signal>>,
    process: Place<'_>,
    validator: &mut Validator<'_>,
) -> Vec<Signal> {
    let place = process.key("stop_on");
    let is_dropped = |signal: &Signal| rewrites.get(signal) == Some(&None);
    for (index, signal) in raw.iter().map(|signal| signal.0).enumerate() {
        catchable(signal, place.index(index), validator);
        if process.has("stop_on") && is_dropped(&signal) {
            let problem = Problem::error(place.index(index).span(), format!("{signal} both stops and is dropped"));
            let here = process.key("rewrite_signals").span();
            validator.say(problem.other(here, format!("{signal} is dropped here")).hint("take one of the two out"));
        }
    }
    let stop_on: Vec<Signal> = raw.iter().map(|signal| signal.0).filter(|signal| !is_dropped(signal)).collect();
    if stop_on.is_empty() && !place.is_broken() {
        validator.warn(
            place.span(),
            "no signal stops this container gracefully",
            "the scheduler's SIGKILL will, after its timeout; the default is `[\"TERM\", \"INT\"]`",
        );
    }
    stop_on
}

/// KILL and STOP never reach a process (signal(7)).
pub(super) fn catchable(signal: Signal, place: Place<'_>, validator: &mut Validator<'_>) {
    if matches!(signal, Signal::KILL | Signal::STOP) {
        validator.error(
            place.span(),
            format!("{signal} can't be caught"),
            "the kernel acts on it itself; the usual ones are `\"TERM\"` and `\"INT\"`",
        );
    }
}

fn stop_timeout(raw: &raw::Process, root: Place<'_>, validator: &mut Validator<'_>) {
    let place = root.key("process");
    let Some(timeout) = raw.stop_timeout.as_ref().map(|timeout| timeout.0) else { return };
    validator.some_time(place, "stop_timeout", timeout);
    let stop = root.key("stop").key("within");
    let within = validator.within;
    if timeout > within && !stop.is_broken() {
        let message = format!("`stop_timeout` is longer than `[stop] within`, which is {}", duration::print(within));
        let problem = Problem::error(place.key("stop_timeout").span(), message);
        let problem = if root.key("stop").has("within") { problem.other(stop.span(), "this") } else { problem };
        validator.say(problem.hint(
            "raise `[stop] within`, and the scheduler's own timeout above it, or leave `stop_timeout` out: it then has \
             what `within` leaves",
        ));
    }
}

/// As whom a command runs: what is said of it, on top of what is said of all in `[hooks]`.
pub(super) fn run_as(
    user: Option<Parsed<User>>,
    env: BTreeMap<String, String>,
    env_from_files: BTreeMap<String, Parsed<FilePath>>,
    place: Place<'_>,
    validator: &mut Validator<'_>,
) -> RunAs {
    environment(place, &env, &env_from_files, validator);
    let mut run_as = validator.hooks_run_as.clone();
    run_as.user = user.map(|user| user.0.0).or(run_as.user);
    // A variable is set in one way: the one said last.
    run_as.env.retain(|name, _| !env_from_files.contains_key(name));
    run_as.env_from_files.retain(|name, _| !env.contains_key(name));
    run_as.env.extend(env);
    run_as.env_from_files.extend(env_from_files.into_iter().map(|(name, path)| (name, path.0.0)));
    run_as
}

pub(super) fn environment(
    place: Place<'_>,
    env: &BTreeMap<String, String>,
    env_from_files: &BTreeMap<String, Parsed<FilePath>>,
    validator: &mut Validator<'_>,
) {
    for table in ["env", "env_from_files"] {
        for (name, at) in place.key(table).entries() {
            if name.is_empty() || name.contains(['=', '\0']) {
                validator.error(
                    at.key_span(),
                    format!("no variable can be called `{}`", name.escape_debug()),
                    "a name isn't empty and has no `=`",
                );
            }
        }
    }
    for name in env_from_files.keys().filter(|name| env.contains_key(*name)) {
        let problem =
            Problem::error(place.key("env_from_files").key(name).key_span(), format!("`{name}` is in `env` too"));
        validator.say(problem.other(place.key("env").key(name).key_span(), "here").hint("keep one of the two"));
    }
}

pub(super) fn limits(raw: raw::Limits) -> Limits {
    let raw::Limits {
        r#as,
        core,
        cpu,
        data,
        fsize,
        locks,
        memlock,
        msgqueue,
        nice,
        nofile,
        nproc,
        rss,
        rtprio,
        rttime,
        sigpending,
        stack,
        umask,
    } = raw;
    let named: [(&str, Option<LimitValue>); 16] = [
        ("as", r#as),
        ("core", core),
        ("cpu", cpu),
        ("data", data),
        ("fsize", fsize),
        ("locks", locks),
        ("memlock", memlock),
        ("msgqueue", msgqueue),
        ("nice", nice),
        ("nofile", nofile),
        ("nproc", nproc),
        ("rss", rss),
        ("rtprio", rtprio),
        ("rttime", rttime),
        ("sigpending", sigpending),
        ("stack", stack),
    ];
    let set = named
        .into_iter()
        .filter_map(|(name, limit)| limit.map(|LimitValue(Limit(soft, hard))| (name.to_owned(), (soft, hard))));
    Limits { rlimits: set.collect(), umask: umask.map(|umask| umask.0.0) }
}

fn rewrites(
    raw: BTreeMap<String, crate::config::format::Parsed<Rewrite>>,
    place: Place<'_>,
    validator: &mut Validator<'_>,
) -> BTreeMap<Signal, Option<Signal>> {
    let mut rewrites = BTreeMap::new();
    for (name, to) in raw {
        let at = place.key(&name);
        match Signal::read(&name) {
            Ok(from) => {
                catchable(from, at, validator);
                if rewrites.insert(from, to.0.0).is_some() {
                    validator.error(at.key_span(), format!("{from} is rewritten twice"), "keep one of the two");
                }
            }
            Err(wrong) => {
                let problem = Problem::error(at.key_span(), format!("`{name}` {}", wrong.what));
                validator.say(problem.maybe_hint(wrong.hint));
            }
        }
    }
    rewrites
}

fn restart(raw: raw::Restart, place: Place<'_>, validator: &mut Validator<'_>) -> Restart {
    let raw::Restart { policy, max, within, backoff } = raw;
    let restart = restarts(Restart { policy, max, within: within.0, backoff: backoff.0 }, place, validator);
    if policy == RestartPolicy::Never && !place.has("policy") && place.entries().next().is_some() {
        validator.warn(
            place.key_span(),
            "`restart` has no `policy`, so nothing is restarted",
            "add `policy = \"on-failure\"` or `policy = \"always\"`",
        );
    }
    restart
}

/// The same of whatever may be started again.
pub(super) fn restarts(restart: Restart, place: Place<'_>, validator: &mut Validator<'_>) -> Restart {
    if restart.policy != RestartPolicy::Never {
        validator.positive(place, "max", restart.max == 0, "`policy = \"never\"` says so more clearly");
    }
    validator.some_time(place, "within", restart.within);
    restart
}

fn exit_codes(raw: BTreeMap<String, u8>, place: Place<'_>, validator: &mut Validator<'_>) -> BTreeMap<u8, u8> {
    let mut codes = BTreeMap::new();
    for (from, to) in raw {
        match from.parse::<u8>() {
            Ok(code) => {
                codes.insert(code, to);
            }
            Err(_) => validator.error(
                place.key(&from).key_span(),
                format!("`{from}` isn't an exit code"),
                "codes go from 0 to 255; a signal's is 128 and its number: `143` for TERM",
            ),
        }
    }
    codes
}

pub(super) fn hooks(raw: raw::Hooks, root: Place<'_>, validator: &mut Validator<'_>) -> Hooks {
    let place = root.key("hooks");
    validator.hooks_run_as = run_as(raw.user, raw.env, raw.env_from_files, place, validator);
    let mut pre_start = Vec::new();
    for (index, raw) in raw.pre_start.into_iter().enumerate() {
        let raw::PreStart { exec, timeout, user, env, env_from_files, retries, backoff, when, leftovers, enabled: _ } =
            raw;
        let at = place.key("pre_start").index(index);
        let hook = raw::Hook { exec, timeout, user, env, env_from_files, leftovers };
        let hook = self::hook(hook, "pre_start", at, validator);
        let when = validator.when(at, when);
        pre_start.push(PreStart { hook: Hook { when, ..hook }, retries, backoff: backoff.0 });
    }
    let mut of_role = |raw: Option<raw::RoleHook>, name: &str| {
        let raw::RoleHook { exec, timeout, user, env, env_from_files, when, leftovers } = raw?;
        let hook = raw::Hook { exec, timeout, user, env, env_from_files, leftovers };
        let hook = match name {
            "post_start" => self::hook(hook, name, place.key(name), validator),
            _ => one_of_the_end(hook, name, place.key(name), validator),
        };
        Some(Hook { when: validator.when(place.key(name), when), ..hook })
    };
    let post_start = of_role(raw.post_start, "post_start");
    let pre_stop = of_role(raw.pre_stop, "pre_stop");
    let post_stop = of_role(raw.post_stop, "post_stop");
    for name in ["on_promote", "on_demote", "on_leader_change"] {
        if place.has(name) && !validator.has_election {
            let message = format!("`{name}` without an election");
            validator.error(place.key(name).key_span(), message, "nobody leads; add an `[election]`, or leave it out");
        }
    }
    let on_promote = raw.on_promote.map(|raw::Promote { exec, timeout, user, env, env_from_files, leftovers }| {
        let promote = raw::Hook { exec, timeout, user, env, env_from_files, leftovers };
        hook(promote, "on_promote", place.key("on_promote"), validator)
    });
    let on_demote = raw.on_demote.map(|raw::Demote { exec, timeout, user, env, env_from_files }| {
        let leftovers = Leftovers::End;
        let demote = raw::Hook { exec, timeout, user, env, env_from_files, leftovers };
        one_of_the_end(demote, "on_demote", place.key("on_demote"), validator)
    });
    let on_leader_change =
        raw.on_leader_change.map(|raw| hook(raw, "on_leader_change", place.key("on_leader_change"), validator));
    Hooks { pre_start, post_start, pre_stop, post_stop, on_promote, on_demote, on_leader_change }
}

/// A hook that runs within the stop sequence.
fn one_of_the_end(raw: raw::Hook, name: &str, place: Place<'_>, validator: &mut Validator<'_>) -> Hook {
    if place.has("timeout") && raw.timeout.0 > validator.within {
        validator.warn(
            place.key("timeout").span(),
            format!("`{name}` is cut off at `[stop] within`, which is {}", duration::print(validator.within)),
            "raise `[stop] within`, and the scheduler's own timeout above it",
        );
    }
    hook(raw, name, place, validator)
}

pub(super) fn hook(raw: raw::Hook, name: &str, place: Place<'_>, validator: &mut Validator<'_>) -> Hook {
    validator.required(place, &format!("`{name}`"), "exec", "[\"/bin/hook\"]");
    validator.some_time(place, "timeout", raw.timeout.0);
    Hook {
        exec: raw.exec.map(exec).unwrap_or_default(),
        timeout: raw.timeout.0,
        run_as: run_as(raw.user, raw.env, raw.env_from_files, place, validator),
        when: When::Always,
        leftovers: raw.leftovers,
    }
}

/// A name that is near one of those known, as a hint.
pub(super) fn near_hint(name: &str, known: &[&str], otherwise: &str) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => otherwise.to_owned(),
    }
}
