//! Judges `[catalog]`, `[control]` and `[log]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Validator, backends};
use crate::config::report::Problem;
use crate::config::tree::Place;
use crate::config::{Backend, Catalog, Control, ControlListen, Log, Process, Signal, raw};

pub(super) fn catalog(raw: raw::Catalog, place: Place<'_>, validator: &mut Validator<'_>) -> Catalog {
    backends::strangers(raw.backend, place, validator);
    let prefix = prefix(raw.prefix.clone(), place, validator);
    let backend = match raw.backend {
        raw::Backend::Local => {
            let directory = raw.directory.map(|directory| directory.0.0);
            validator.required(place, "the local catalog", "directory", "\"/shared/pilotfish\"");
            if directory.as_ref().is_some_and(|directory| !directory.is_absolute()) {
                validator.error(
                    place.key("directory").span(),
                    "`directory` is relative",
                    "containers that share it have no working directory in common; write a path from `/`",
                );
            }
            Backend::Local { directory: directory.unwrap_or_default(), shared: raw.shared }
        }
        raw::Backend::Consul => Backend::Consul(Box::new(backends::consul(raw, place, validator))),
        raw::Backend::Etcd => Backend::Etcd(Box::new(backends::etcd(raw, place, validator))),
        raw::Backend::None => Backend::None,
    };
    Catalog { backend, prefix }
}

fn prefix(prefix: String, place: Place<'_>, validator: &mut Validator<'_>) -> String {
    let sound = !prefix.is_empty()
        && prefix.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !prefix.contains(char::is_whitespace);
    if !sound && !place.key("prefix").is_broken() {
        validator.error(
            place.key("prefix").span(),
            "`prefix` isn't a path of keys",
            "a word, or several with `/` between them: `\"pilotfish\"`, `\"prod/pilotfish\"`",
        );
    }
    prefix
}

pub(super) fn control(raw: raw::Control, root: Place<'_>, process: &Process, validator: &mut Validator<'_>) -> Control {
    let socket = raw.socket.0.0;
    if socket.as_ref().is_some_and(|socket| !socket.is_absolute()) {
        let at = root.key("control").key("socket");
        validator.error(at.span(), "`socket` is relative", "write a path from `/`, or `\"\"` for none");
    }
    if raw.signals {
        for (signal, use_of) in [(Signal::HUP, "reloads"), (Signal::USR1, "toggles maintenance")] {
            let here = root.key("control").key("signals");
            if process.stop_on.contains(&signal) {
                let problem = Problem::error(
                    root.key("process").key("stop_on").span(),
                    format!("{signal} both stops and {use_of}"),
                );
                validator
                    .say(problem.other(here.span(), format!("{signal} {use_of} here")).hint("take one of the two out"));
            }
            if process.rewrite_signals.contains_key(&signal) {
                let problem = Problem::error(
                    root.key("process").key("rewrite_signals").span(),
                    format!("{signal} is both rewritten and {use_of}"),
                );
                validator
                    .say(problem.other(here.span(), format!("{signal} {use_of} here")).hint("take one of the two out"));
            }
        }
    }
    let listen = listen(raw.listen.map(|at| at.0), raw.token_file.map(|file| file.0.0), root, validator);
    Control { socket, listen, signals: raw.signals }
}

fn listen(
    at: Option<SocketAddr>,
    token_file: Option<PathBuf>,
    root: Place<'_>,
    validator: &mut Validator<'_>,
) -> Option<ControlListen> {
    let place = root.key("control");
    if place.has("listen") && !place.has("token_file") {
        let hint = "whoever brings the token may stop the container; for example `token_file = \"/run/secrets/token\"`";
        validator.error(place.key("listen").key_span(), "`listen` without `token_file`", hint);
    }
    if place.has("token_file") && !place.has("listen") {
        let hint = "the socket is its owner's and asks for no token; leave it out, or add `listen`";
        validator.error(place.key("token_file").key_span(), "`token_file` without `listen`", hint);
    }
    let (at, token_file) = (at?, token_file?);
    if !token_file.is_absolute() {
        validator.error(place.key("token_file").span(), "`token_file` is relative", "write a path from `/`");
    }
    if !at.ip().is_loopback() {
        let hint = "who sees the network sees the token; put TLS before it, or listen at `127.0.0.1`";
        validator.warn(place.key("listen").span(), "orders come over the network unencrypted", hint);
    }
    Some(ControlListen { at, token_file })
}

pub(super) fn log(raw: &raw::Log) -> Log {
    Log { level: raw.level, format: raw.format }
}
