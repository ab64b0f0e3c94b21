//! Judges `[[coprocess]]`: each by itself, and whether the order in which they are to start can be kept.

use super::process::{catchable, environment, exec, hook, limits, near_hint, restarts};
use super::{Validator, quoted};
use crate::config::coprocess::{Coprocess, MOST_OF_A_LEADER, Ready, StartPoint};
use crate::config::election::{Election, Mode};
use crate::config::tree::{Place, Span};
use crate::config::{GrpcProbe, Probe, Restart, RunAs, Trust, When, duration, raw};

/// What `of` and `restart` call the main process.
pub(super) const MAIN: &str = "main";

pub(super) fn coprocesses(raw: Vec<raw::Coprocess>, root: Place<'_>, validator: &mut Validator<'_>) -> Vec<Coprocess> {
    let place = root.key("coprocess");
    let mut names: Vec<(String, Span)> = Vec::new();
    let mut coprocesses: Vec<Coprocess> = raw
        .into_iter()
        .enumerate()
        .map(|(index, raw)| {
            let at = place.index(index);
            let coprocess = coprocess(raw, at, root, validator);
            if !coprocess.name.is_empty() {
                let (span, hint) = (at.key("name").span(), "give each a `name` of its own");
                validator.unique(&mut names, "coprocesses", &coprocess.name, span, hint);
            }
            coprocess
        })
        .collect();
    for (index, coprocess) in coprocesses.iter().enumerate() {
        order(coprocess, &coprocesses, place.index(index), validator);
    }
    circles(&coprocesses, place, validator);
    // Who comes after another starts at no earlier point.
    for _ in 0..coprocesses.len() {
        for index in 0..coprocesses.len() {
            let after = |other: &&Coprocess| coprocesses[index].after.contains(&other.name);
            let latest = coprocesses.iter().filter(after).map(|other| other.start).max();
            coprocesses[index].start = coprocesses[index].start.max(latest.unwrap_or(StartPoint::BeforeCatalog));
        }
    }
    coprocesses
}

fn coprocess(raw: raw::Coprocess, place: Place<'_>, root: Place<'_>, validator: &mut Validator<'_>) -> Coprocess {
    validator.required(place, "this coprocess", "name", "\"consul-agent\"");
    validator.required(place, "this coprocess", "exec", "[\"/bin/exporter\"]");
    let name = raw.name.map(|name| name.0.0).unwrap_or_default();
    if name == MAIN {
        let hint = "the main process is called that wherever one is named; choose another";
        validator.error(place.key("name").span(), "no coprocess can be called `main`", hint);
    }
    environment(place, &raw.env, &raw.env_from_files, validator);
    catchable(raw.stop_signal.0, place.key("stop_signal"), validator);
    if let Some(timeout) = raw.stop_timeout.as_ref().map(|timeout| timeout.0) {
        validator.some_time(place, "stop_timeout", timeout);
        let within = validator.within;
        if timeout > within && !root.key("stop").key("within").is_broken() {
            validator.error(
                place.key("stop_timeout").span(),
                format!("`stop_timeout` is longer than `[stop] within`, which is {}", duration::print(within)),
                "raise `[stop] within`, and the scheduler's own timeout above it, or leave `stop_timeout` out",
            );
        }
    }
    let start = raw.start;
    let when = validator.when(place, raw.when);
    if when != When::Always && start == StartPoint::BeforeCatalog {
        validator.error(
            place.key("when").span(),
            "nobody has a role before the catalog is asked",
            "leave `when` out, or let it start `with-main` or `after-main`",
        );
    }
    let run_as = RunAs {
        user: raw.user.map(|user| user.0.0),
        env: raw.env,
        env_from_files: raw.env_from_files.into_iter().map(|(name, path)| (name, path.0.0)).collect(),
    };
    let mut of_it = |raw: Option<raw::Hook>, key: &str| Some(hook(raw?, key, place.key(key), validator));
    let (pre_start, post_stop) = (of_it(raw.pre_start, "pre_start"), of_it(raw.post_stop, "post_stop"));
    Coprocess {
        name,
        exec: raw.exec.map(exec).unwrap_or_default(),
        directory: raw.directory.map(|directory| directory.0.0),
        limits: limits(raw.limits),
        start,
        after: raw.after,
        when,
        ready: raw.ready.map(|raw| ready(raw, &run_as, place.key("ready"), validator)),
        run_as,
        pre_start,
        post_stop,
        restart: {
            let raw::CoprocessRestart { policy, max, within, backoff } = raw.restart;
            let restart = Restart { policy, max, within: within.0, backoff: backoff.0 };
            restarts(restart, place.key("restart"), validator)
        },
        background: raw.background,
        on_giving_up: raw.on_giving_up,
        stop: raw.stop,
        stop_signal: raw.stop_signal.0,
        stop_timeout: raw.stop_timeout.map(|timeout| timeout.0),
        signal_scope: raw.signal_scope,
        output: raw.output,
    }
}

fn ready(raw: raw::Ready, run_as: &RunAs, place: Place<'_>, validator: &mut Validator<'_>) -> Ready {
    validator.exactly_one(place, "`ready`", &["exec", "http", "tcp", "grpc", "notify"], &[]);
    if raw.notify == Some(false) {
        let hint = "leave it out, or say how to ask: `exec`, `http`, `tcp` or `grpc`";
        validator.error(place.key("notify").span(), "`notify` is false", hint);
    }
    validator.some_time(place, "timeout", raw.timeout.0);
    let probe = match (raw.exec, raw.http, raw.tcp, raw.grpc) {
        (Some(command), ..) => Probe::Exec { exec: exec(command), run_as: run_as.clone() },
        (_, Some(url), ..) => Probe::get(url.0.0),
        (_, _, Some(address), _) => Probe::Tcp { address: address.0.0 },
        (.., Some(url)) => Probe::Grpc(GrpcProbe::of(url.0, Trust::default())),
        (None, None, None, None) => Probe::Notify,
    };
    Ready { probe, timeout: raw.timeout.0 }
}

/// Whether those that one waits for are there, and can be ready by then.
fn order(coprocess: &Coprocess, all: &[Coprocess], place: Place<'_>, validator: &mut Validator<'_>) {
    let names: Vec<&str> = all.iter().map(|other| other.name.as_str()).collect();
    for (index, name) in coprocess.after.iter().enumerate() {
        let at = place.key("after").index(index);
        let Some(first) = all.iter().find(|other| other.name == *name) else {
            let hint = match (name.as_str(), names.len()) {
                (MAIN, _) => "write `start = \"after-main\"`".to_owned(),
                (_, 1) => "there is no other coprocess".to_owned(),
                _ => near_hint(name, &names, &format!("there are {}", quoted(&names))),
            };
            // One whose name couldn't be read may be the one that is meant.
            // And nobody waits for one that is left out.
            if !names.contains(&"") && !validator.is_left_out("coprocess", name) {
                validator.error(at.span(), format!("there is no coprocess `{name}`"), hint);
            }
            continue;
        };
        if coprocess.start == StartPoint::BeforeCatalog && first.start != coprocess.start {
            validator.error(
                at.span(),
                format!("main waits for this one, and `{name}` waits for main: neither would ever start"),
                "write `start = \"before-catalog\"` there too, or leave it out here",
            );
        }
        if first.when != When::Always && first.when != coprocess.when {
            validator.error(
                at.span(),
                format!("`{name}` runs in one role only, and this one in others too: it would wait for ever"),
                "give both the same `when`",
            );
        }
    }
}

/// What an election makes of them.
pub(super) fn in_election(
    all: &[Coprocess],
    place: Place<'_>,
    election: Option<&Election>,
    validator: &mut Validator<'_>,
) {
    let of = |when| all.iter().enumerate().filter(move |(_, coprocess)| coprocess.when == when);
    if let Some((index, _)) = of(When::Leader).nth(MOST_OF_A_LEADER) {
        let message = format!("more than {MOST_OF_A_LEADER} coprocesses run for the leader only");
        let hint = "the guard, which ends them with the lease, has no room for more";
        validator.error(place.index(index).key("when").span(), message, hint);
    }
    if election.is_some_and(|election| election.mode == Mode::Standby) {
        for (index, _) in of(When::Replica) {
            validator.warn(
                place.index(index).key("when").span(),
                "with `mode = \"standby\"` a replica has no main process that this one could start with",
                "it starts once this container has led; leave `when` out to have it run in every role",
            );
        }
    }
}

/// Each circle is reported once, where it closes.
fn circles(all: &[Coprocess], place: Place<'_>, validator: &mut Validator<'_>) {
    let mut done = vec![false; all.len()];
    for from in 0..all.len() {
        let mut path = Vec::new();
        if let Some((last, element)) = circle(from, all, &mut path, &mut done) {
            let start = path.iter().position(|index| all[*index].name == all[last].after[element]).unwrap_or_default();
            let round = path[start..].iter().chain(&path[start..=start]).map(|index| format!("`{}`", all[*index].name));
            let hint = format!("{}: leave one of these out", round.collect::<Vec<_>>().join(" after "));
            let span = place.index(last).key("after").index(element).span();
            validator.error(span, "these wait for each other", hint);
            path.iter().for_each(|index| done[*index] = true);
        }
    }
}

/// Who closes a circle that can be reached from here, and with which element of its `after`.
fn circle(at: usize, all: &[Coprocess], path: &mut Vec<usize>, done: &mut [bool]) -> Option<(usize, usize)> {
    if done[at] {
        return None;
    }
    path.push(at);
    for (element, name) in all[at].after.iter().enumerate() {
        let Some(next) = all.iter().position(|other| other.name == *name) else { continue };
        if path.contains(&next) {
            return Some((at, element));
        }
        if let Some(found) = circle(next, all, path, done) {
            return Some(found);
        }
    }
    path.pop();
    done[at] = true;
    None
}

/// The coprocess that an `of` names; `None` is main, and what is wrong is reported.
pub(super) fn of(
    of: Option<String>,
    coprocesses: &[Coprocess],
    place: Place<'_>,
    validator: &mut Validator<'_>,
) -> Option<String> {
    let of = of.filter(|name| name != MAIN)?;
    let names: Vec<&str> = coprocesses.iter().map(|coprocess| coprocess.name.as_str()).collect();
    if !names.contains(&of.as_str()) && !names.contains(&"") {
        let otherwise = match names.is_empty() {
            true => "there is no `[[coprocess]]`; leave it out for the main process".to_owned(),
            false => format!("there are {}, and `main`", quoted(&names)),
        };
        let hint = near_hint(&of, &names, &otherwise);
        validator.no_such(place.key("of"), "coprocess", &of, hint);
    }
    Some(of)
}
