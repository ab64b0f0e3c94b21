//! Judges `[[service]]` and `[[health]]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::coprocess::of;
use super::process::{exec, near_hint, run_as};
use super::{Validator, quoted};
use crate::config::format::Parsed;
use crate::config::report::Problem;
use crate::config::tree::{Place, Span};
use crate::config::{
    AddressSpec, ConsulService, Coprocess, GrpcProbe, Health, HttpProbe, Listen, OnFailure, Probe, RestartPolicy,
    Service, ServiceOf, Trust, duration, raw,
};

/// More often nothing is learned, and the container does little else.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);
/// Entries are kept alive by heartbeats; anything shorter is lost to a busy machine.
pub(super) const SHORTEST_TTL: Duration = Duration::from_secs(1);

pub(super) fn services(
    raw: Vec<raw::Service>,
    place: Place<'_>,
    coprocesses: &[Coprocess],
    has_catalog: bool,
    validator: &mut Validator<'_>,
) -> Vec<Service> {
    if !raw.is_empty() && !has_catalog {
        validator.warn(
            place.index(0).key_span(),
            "nothing is registered: there is no catalog",
            "set `[catalog] backend`, or leave `[[service]]` out",
        );
    }
    let mut ids: Vec<(String, Span)> = Vec::new();
    raw.into_iter()
        .enumerate()
        .map(|(index, raw)| {
            let at = place.index(index);
            let service = service(raw, at, coprocesses, validator);
            if !service.name.is_empty() && service.port > 0 {
                let span = if at.has("id") { at.key("id").span() } else { at.key("name").span() };
                let hint = "give each its own `id`; two services may share a name, never an id";
                validator.unique(&mut ids, "service ids", &service.id, span, hint);
            }
            service
        })
        .collect()
}

fn service(raw: raw::Service, place: Place<'_>, coprocesses: &[Coprocess], validator: &mut Validator<'_>) -> Service {
    validator.required(place, "this service", "name", "\"web\"");
    validator.required(place, "this service", "port", "8080");
    let name = raw.name.map(|name| name.0.0).unwrap_or_default();
    let port = raw.port.unwrap_or_default();
    if raw.port == Some(0) {
        validator.error(place.key("port").span(), "`port` is 0", "write the port it listens on, from 1 to 65535");
    }
    if raw.ttl.0 < SHORTEST_TTL {
        validator.error(place.key("ttl").span(), "`ttl` is shorter than a second", "15s is usual");
    }
    if raw.address.is_empty() && !place.key("address").is_broken() {
        validator.error(
            place.key("address").span(),
            "`address` is empty",
            "leave it out for `[\"eth0:inet\", \"inet\"]`, or say how to find one",
        );
    }
    let id = raw.id.map(|id| id.0.0).unwrap_or_else(|| default_id(&name, &validator.context.hostname, port));
    let removed_after = raw.consul.deregister_critical_after.0;
    Service {
        name,
        id,
        port,
        of: of(raw.of.map(|name| name.0.0), coprocesses, place, validator).into(),
        tags: raw.tags,
        meta: raw.meta,
        address: raw.address.into_iter().map(|spec| spec.0).collect(),
        ttl: raw.ttl.0,
        consul: ConsulService {
            enable_tag_override: raw.consul.enable_tag_override,
            deregister_critical_after: (!removed_after.is_zero()).then_some(removed_after),
        },
    }
}

/// Two can't listen at one port. But a service may stand for the telemetry endpoint itself, so this is no error.
pub(super) fn one_listener(
    telemetry: Option<&Listen>,
    services: &[Service],
    root: Place<'_>,
    validator: &mut Validator<'_>,
) {
    let Some(listen) = telemetry else { return };
    for (index, service) in services.iter().enumerate().filter(|(_, service)| service.port == listen.port()) {
        let here = root.key("telemetry").key("listen").span();
        let message = format!("{} has the port that pilotfish's telemetry listens at", service.name);
        let problem = Problem::warning(root.key("service").index(index).key("port").span(), message);
        let hint =
            "give one of them another port; if it is the telemetry that is registered, use `[telemetry] advertise`";
        validator.say(problem.other(here, "here").hint(hint));
    }
}

/// The entry of the telemetry endpoint, which listens here; `others` are those of the config.
pub(super) fn telemetry(
    raw: raw::Advertise,
    listen: Option<&Listen>,
    place: Place<'_>,
    others: &[Service],
    has_catalog: bool,
    validator: &mut Validator<'_>,
) -> Option<Service> {
    validator.required(place, "this entry", "name", "\"pilotfish\"");
    let Some(listen) = listen else {
        validator.error(
            place.key_span(),
            "`advertise` without `listen`",
            "nothing listens that could be registered; for example `listen = \"0.0.0.0:9090\"`",
        );
        return None;
    };
    if !has_catalog {
        let hint = "set `[catalog] backend`, or leave `advertise` out";
        validator.warn(place.key_span(), "nothing is registered: there is no catalog", hint);
    } else if matches!(listen, Listen::At(at) if at.ip().is_loopback()) {
        let hint = "let it `listen` where others reach it, for example at `0.0.0.0:9090`";
        validator.warn(place.key_span(), format!("nobody else reaches {listen}"), hint);
    }
    let name = raw.name?.0.0;
    let id = default_id(&name, &validator.context.hostname, listen.port());
    if others.iter().any(|other| other.id == id) {
        let hint = "give one of them another name, or give the service an `id`";
        validator.error(place.key_span(), format!("a service has the id `{id}` already"), hint);
    }
    let raw::Service { address, ttl, consul, .. } = raw::Service::default();
    let address = match listen {
        Listen::At(at) if at.ip().is_unspecified() => address.into_iter().map(|spec| spec.0).collect(),
        Listen::At(at) => vec![AddressSpec::Static(at.ip())],
        Listen::On { addresses, .. } => addresses.clone(),
    };
    let removed_after = consul.deregister_critical_after.0;
    Some(Service {
        name,
        id,
        port: listen.port(),
        of: ServiceOf::Telemetry,
        tags: raw.tags,
        meta: BTreeMap::new(),
        address,
        ttl: ttl.0,
        consul: ConsulService { enable_tag_override: false, deregister_critical_after: Some(removed_after) },
    })
}

/// `<name>-<hostname>-<port>`. A host name may hold anything; an id is also a file name and a part of a URL.
fn default_id(name: &str, hostname: &str, port: u16) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let hostname: String = hostname.chars().map(safe).collect();
    if hostname.is_empty() { format!("{name}-{port}") } else { format!("{name}-{hostname}-{port}") }
}

/// What checks can be of, and speak for.
pub(super) struct Checked<'a> {
    pub(super) services: &'a [Service],
    pub(super) coprocesses: &'a [Coprocess],
    /// When the main process is started again.
    pub(super) restarts: RestartPolicy,
}

pub(super) fn health(
    raw: Vec<raw::Health>,
    root: Place<'_>,
    checked: &Checked<'_>,
    validator: &mut Validator<'_>,
) -> Vec<Health> {
    let place = root.key("health");
    let mut names: Vec<(String, Span)> = Vec::new();
    let mut notify: Vec<(Option<String>, Span)> = Vec::new();
    raw.into_iter()
        .enumerate()
        .map(|(index, raw)| {
            let at = place.index(index);
            let of = raw.of.as_ref().map(|name| name.0.0.clone()).filter(|name| name != "main");
            if raw.notify == Some(true) {
                match notify.iter().find(|(known, _)| *known == of) {
                    Some((_, first)) => {
                        let whom = of.as_deref().unwrap_or("the main process");
                        let problem = Problem::error(at.key("notify").key_span(), "there are two `notify` checks");
                        let hint =
                            format!("{whom} has one way to speak; keep one, it may speak for several `services`");
                        validator.say(problem.other(first.clone(), "the first").hint(hint));
                    }
                    None => notify.push((of.clone(), at.key("notify").key_span())),
                }
            }
            if raw.on_failure == OnFailure::Restart {
                may_be_restarted(of.as_deref(), root, at, checked, validator);
            }
            let health = one_check(raw, at, checked, root.key("service").is_broken(), validator);
            if !health.name.is_empty() {
                let span = if at.has("name") { at.key("name").span() } else { at.key_span() };
                validator.unique(&mut names, "health checks", &health.name, span, "give each a `name` of its own");
            }
            health
        })
        .collect()
}

/// What a check is to restart has to be one that is ever restarted.
fn may_be_restarted(
    of: Option<&str>,
    root: Place<'_>,
    place: Place<'_>,
    checked: &Checked<'_>,
    validator: &mut Validator<'_>,
) {
    let policy = root.key("process").key("restart").key("policy");
    let (what, key) = match of {
        None if checked.restarts == RestartPolicy::Never && !policy.is_broken() => {
            ("main process", "[process] restart")
        }
        Some(name) => {
            let never = |of: &&Coprocess| of.name == name && of.restart.policy == RestartPolicy::Never;
            if checked.coprocesses.iter().find(never).is_none() {
                return;
            }
            ("coprocess", "restart")
        }
        None => return,
    };
    let message = format!("`on_failure = \"restart\"` with a {what} that is never restarted");
    let problem = Problem::error(place.key("on_failure").span(), message);
    let hint = format!("set `{key} = {{ policy = \"on-failure\" }}`, or `on_failure = \"exit\"`");
    validator.say(problem.hint(hint));
}

fn one_check(
    mut raw: raw::Health,
    place: Place<'_>,
    checked: &Checked<'_>,
    services_broken: bool,
    validator: &mut Validator<'_>,
) -> Health {
    let kind = validator.exactly_one(place, "this health check", &["exec", "http", "tcp", "grpc", "notify"], &[]);
    if raw.notify == Some(false) {
        validator.error(
            place.key("notify").span(),
            "`notify` is false",
            "leave it out, or say how to check: `exec`, `http`, `tcp` or `grpc`",
        );
    }
    if let Some(kind) = kind {
        belongs(kind, place, validator);
    }
    bearing(&raw, place, validator);
    validator.some_time(place, "timeout", raw.timeout.0);
    for (key, interval) in [("interval", raw.interval.0), ("start_interval", raw.start_interval.0)] {
        if interval < LEAST_INTERVAL {
            let message = format!("`{key}` is shorter than {}", duration::print(LEAST_INTERVAL));
            validator.error(place.key(key).span(), message, "a check costs a connection or a process each time");
        }
    }
    validator.positive(place, "failures", raw.failures == 0, "1 turns it critical at the first failure");
    validator.positive(place, "successes", raw.successes == 0, "1 turns it passing at the first success");
    let of = of(raw.of.take().map(|name| name.0.0), checked.coprocesses, place, validator);
    let services = checked.services;
    let spoken_for = match raw.services.take() {
        Some(names) => spoken_for(&names, place.key("services"), services, services_broken, validator),
        None => {
            let of = ServiceOf::from(of.clone());
            services.iter().filter(|service| service.of == of).map(|service| service.id.clone()).collect()
        }
    };
    Health {
        name: raw.name.take().map(|name| name.0.0).unwrap_or_else(|| kind.unwrap_or_default().to_owned()),
        of,
        interval: raw.interval.0,
        timeout: raw.timeout.0,
        grace: raw.grace.0,
        start_interval: raw.start_interval.0,
        failures: raw.failures,
        successes: raw.successes,
        on_failure: raw.on_failure,
        services: spoken_for,
        counts: raw.counts,
        stand: raw.stand,
        probe: probe(raw, place, validator),
    }
}

/// What is asked, by the one key that says how.
fn probe(raw: raw::Health, place: Place<'_>, validator: &mut Validator<'_>) -> Probe {
    if let Some(command) = raw.exec {
        Probe::Exec { exec: exec(command), run_as: run_as(raw.user, raw.env, raw.env_from_files, place, validator) }
    } else if let Some(url) = raw.http {
        trust(url.0.0.starts_with("https://"), "a URL that isn't https", place, validator);
        for (index, status) in raw.expect_status.iter().flatten().enumerate() {
            if !(100..=599).contains(status) {
                let at = place.key("expect_status").index(index);
                validator.error(at.span(), format!("{status} isn't an HTTP status"), "they go from 100 to 599");
            }
        }
        Probe::Http(HttpProbe {
            url: url.0.0,
            method: method(raw.method, place, validator),
            headers: headers(raw.headers, place, validator),
            expect_status: raw.expect_status.unwrap_or_default(),
            expect_body: raw.expect_body,
            ca: raw.ca.map(|ca| ca.0.0),
            insecure: raw.insecure.unwrap_or_default(),
        })
    } else if let Some(address) = raw.tcp {
        Probe::Tcp { address: address.0.0 }
    } else if let Some(Parsed(url)) = raw.grpc {
        trust(url.tls, "an address without `grpcs://`", place, validator);
        let anybody = raw.insecure.unwrap_or_default();
        Probe::Grpc(GrpcProbe::of(url, Trust { ca: raw.ca.map(|ca| ca.0.0), insecure: anybody }))
    } else {
        Probe::Notify
    }
}

/// Reports what contradicts a check that nothing, or no role, depends on.
fn bearing(raw: &raw::Health, place: Place<'_>, validator: &mut Validator<'_>) {
    if !raw.counts && place.has("services") {
        let problem = Problem::error(place.key("services").key_span(), "`services` of a check that doesn't count");
        let problem = problem.other(place.key("counts").span(), "by this");
        validator.say(problem.hint("no entry depends on it; leave one of the two out"));
    }
    if !raw.stand && !validator.has_election {
        let message = "`stand` without an election";
        validator.error(place.key("stand").key_span(), message, "nobody leads; add an `[election]`, or leave it out");
    } else if !raw.counts && place.has("stand") {
        let problem = Problem::error(place.key("stand").key_span(), "`stand` of a check that doesn't count");
        let problem = problem.other(place.key("counts").span(), "by this");
        validator.say(problem.hint("no role depends on it; leave one of the two out"));
    }
}

/// Reports what says whom to trust where nothing is verified.
fn trust(has_tls: bool, otherwise: &str, place: Place<'_>, validator: &mut Validator<'_>) {
    for key in ["ca", "insecure"].into_iter().filter(|key| !has_tls && place.has(key)) {
        validator.error(place.key(key).key_span(), format!("`{key}` with {otherwise}"), "leave it out");
    }
}

/// Reports keys of one kind of check in another.
fn belongs(kind: &str, place: Place<'_>, validator: &mut Validator<'_>) {
    let of_kind = [
        (&["exec"][..], &["user", "env", "env_from_files"][..]),
        (&["http"], &["method", "headers", "expect_status", "expect_body"]),
        (&["http", "grpc"], &["ca", "insecure"]),
    ];
    for (owners, keys) in of_kind {
        for key in keys.iter().filter(|key| !owners.contains(&kind) && place.has(key)) {
            let message = format!("`{key}` belongs to {}, and this check has `{kind}`", quoted(owners));
            validator.error(place.key(key).key_span(), message, "leave it out");
        }
    }
}

fn method(method: Option<String>, place: Place<'_>, validator: &mut Validator<'_>) -> String {
    // The wire knows them in capitals alone.
    let method = method.map_or_else(|| "GET".to_owned(), |method| method.to_ascii_uppercase());
    if hyper::Method::from_bytes(method.as_bytes()).is_err() {
        validator.error(
            place.key("method").span(),
            format!("`{}` isn't an HTTP method", method.escape_debug()),
            "`\"GET\"` and `\"HEAD\"` are usual",
        );
    }
    method
}

fn headers(
    headers: std::collections::BTreeMap<String, String>,
    place: Place<'_>,
    validator: &mut Validator<'_>,
) -> std::collections::BTreeMap<String, String> {
    for (name, value) in &headers {
        let at = place.key("headers").key(name);
        if hyper::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
            validator.error(
                at.key_span(),
                format!("no header can be called `{}`", name.escape_debug()),
                "letters, digits and `-`",
            );
        }
        if hyper::header::HeaderValue::from_str(value).is_err() {
            validator.error(
                at.span(),
                format!("the value of `{name}` can't be sent"),
                "a header has no control characters",
            );
        }
    }
    headers
}

/// Ids of the services a check speaks for; users may name services by name too.
fn spoken_for(
    names: &[String],
    place: Place<'_>,
    services: &[Service],
    services_broken: bool,
    validator: &mut Validator<'_>,
) -> Vec<String> {
    let mut ids = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let meant = services.iter().filter(|service| service.name == *name || service.id == *name);
        let found: Vec<String> = meant.map(|service| service.id.clone()).collect();
        let known: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
        // One whose name couldn't be read may be the one that is meant.
        if found.is_empty() && !services_broken && !known.contains(&"") {
            let otherwise = if known.is_empty() {
                "there is no `[[service]]`".to_owned()
            } else {
                format!("there are {}", quoted(&known))
            };
            let at = place.index(index);
            validator.no_such(at, "service", name, near_hint(name, &known, &otherwise));
        }
        ids.extend(found);
    }
    ids.sort();
    ids.dedup();
    if names.is_empty() && !place.is_broken() {
        validator.error(
            place.span(),
            "`services` is empty: this check speaks for nobody",
            "leave it out for all services",
        );
    }
    ids
}
