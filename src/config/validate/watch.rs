//! Judges `[[wait_for]]` and `[[watch]]`.

use std::path::{Path, PathBuf};

use super::Validator;
use super::process::{exec, hook};
use crate::config::election::{Election, Mode};
use crate::config::format::Parsed;
use crate::config::report::Problem;
use crate::config::tree::{Node, Place, Span};
use crate::config::{Backend, Catalog, Query, Required, Signal, Template, WaitFor, Watch, When, raw};

pub(super) fn wait_for(
    raw: Vec<raw::WaitFor>,
    place: Place<'_>,
    catalog: &Catalog,
    has_catalog: bool,
    validator: &mut Validator<'_>,
) -> Vec<WaitFor> {
    raw.into_iter()
        .enumerate()
        .map(|(index, raw)| {
            let at = place.index(index);
            needs_catalog(at, "this `wait_for`", has_catalog, validator);
            let kind = validator.exactly_one(at, "this `wait_for`", &["service", "key", "leader"], &[]);
            validator.some_time(at, "timeout", raw.timeout.0);
            validator.positive(at, "count", raw.count == Some(0), "leave it out for 1");
            if let Some((kind, hint)) = match kind {
                Some("key") => Some(("key", "a key is there or isn't; leave it out")),
                Some("leader") => Some(("leader", "there is one or none; leave it out")),
                _ => None,
            } && at.has("count")
            {
                validator.error(at.key("count").key_span(), format!("`count` with a `{kind}`"), hint);
            }
            let query = query(
                kind,
                QueryKeys {
                    service: raw.service.map(|name| name.0.0),
                    tag: raw.tag,
                    datacenter: raw.datacenter,
                    key: raw.key,
                    key_prefix: None,
                    leader: raw.leader.map(|name| name.0.0),
                },
                at,
                catalog,
                validator,
            );
            let when = validator.when(at, raw.when);
            WaitFor { query, count: raw.count.unwrap_or(1) as usize, timeout: raw.timeout.0, when }
        })
        .collect()
}

pub(super) fn watches(
    raw: Vec<raw::Watch>,
    place: Place<'_>,
    catalog: &Catalog,
    has_catalog: bool,
    validator: &mut Validator<'_>,
) -> Vec<Watch> {
    let mut names: Vec<(String, Span)> = Vec::new();
    let mut destinations: Vec<(PathBuf, Span)> = Vec::new();
    raw.into_iter()
        .enumerate()
        .map(|(index, raw)| {
            let at = place.index(index);
            let watch = watch(raw, at, catalog, has_catalog, validator);
            if let Some(template) = &watch.template {
                let destination = at.key("template").key("destination").span();
                one_writer(&mut destinations, &template.destination, destination, validator);
            }
            if !watch.name.is_empty() {
                let span = if at.has("name") { at.key("name").span() } else { at.key_span() };
                validator.unique(&mut names, "watches", &watch.name, span, "give each a `name` of its own");
            }
            watch
        })
        .collect()
}

/// Two templates of one file would overwrite each other's, for ever.
fn one_writer(seen: &mut Vec<(PathBuf, Span)>, destination: &Path, span: Span, validator: &mut Validator<'_>) {
    if destination.as_os_str().is_empty() {
        return;
    }
    if let Some((_, first)) = seen.iter().find(|(known, _)| known == destination) {
        let problem = Problem::error(span, format!("two templates write {}", destination.display()));
        validator.say(problem.other(first.clone(), "the first").hint("give each a file of its own"));
    } else {
        seen.push((destination.to_owned(), span));
    }
}

/// A template of the config's own file would leave nothing that the next start, or the next reload, could read.
pub(in crate::config) fn over_the_config(watches: &[Watch], root: &Node, file: &Path, problems: &mut Vec<Problem>) {
    let Ok(file) = std::path::absolute(file) else { return };
    for (index, watch) in watches.iter().enumerate() {
        if watch.template.as_ref().is_some_and(|template| template.destination == file) {
            let destination = Place::root(root).key("watch").index(index).key("template").key("destination").span();
            let problem = Problem::error(destination, "this template would overwrite the config that it stands in");
            problems.push(problem.hint("write to another file"));
        }
    }
}

fn watch(
    raw: raw::Watch,
    place: Place<'_>,
    catalog: &Catalog,
    has_catalog: bool,
    validator: &mut Validator<'_>,
) -> Watch {
    needs_catalog(place, "this watch", has_catalog, validator);
    let kind = validator.exactly_one(place, "this watch", &["service", "key", "key_prefix", "leader"], &[]);
    let subject = raw.service.as_ref().map(|name| name.0.0.clone());
    let leader = raw.leader.as_ref().map(|name| name.0.0.clone());
    let subject = subject.or(raw.key.clone()).or(raw.key_prefix.clone()).or(leader.clone()).unwrap_or_default();
    if !["on_change", "template", "signal"].iter().any(|action| place.has(action)) {
        let problem = Problem::error(place.key_span(), "this watch does nothing when something changes");
        validator.say(problem.label("no action").hint("give it `on_change`, `template` or `signal`"));
    }
    if place.has("name") && raw.name.as_deref() == Some("") {
        validator.error(place.key("name").span(), "`name` is empty", "leave it out for the name of what is looked at");
    }
    if let Some(signal @ (Signal::KILL | Signal::STOP)) = raw.signal.as_ref().map(|signal| signal.0) {
        validator.warn(
            place.key("signal").span(),
            format!("{signal} leaves the main process no way to take a change in"),
            "`\"HUP\"` is usual for reading a config again",
        );
    }
    Watch {
        name: raw.name.unwrap_or(subject),
        query: query(
            kind,
            QueryKeys {
                service: raw.service.map(|name| name.0.0),
                tag: raw.tag,
                datacenter: raw.datacenter,
                key: raw.key,
                key_prefix: raw.key_prefix,
                leader,
            },
            place,
            catalog,
            validator,
        ),
        settle: raw.settle.0,
        on_change: raw.on_change.map(|raw| hook(raw, "on_change", place.key("on_change"), validator)),
        template: raw.template.map(|raw| template(raw, place.key("template"), validator)),
        signal: raw.signal.map(|signal| signal.0),
        when: validator.when(place, raw.when),
    }
}

/// Says which signals reach nobody: where only a leader's main process runs.
pub(super) fn in_standby(
    watches: &[Watch],
    place: Place<'_>,
    election: Option<&Election>,
    validator: &mut Validator<'_>,
) {
    if election.is_none_or(|election| election.mode != Mode::Standby) {
        return;
    }
    for (index, watch) in watches.iter().enumerate() {
        if watch.when == When::Replica && watch.signal.is_some() {
            validator.warn(
                place.index(index).key("signal").span(),
                "this signal reaches nobody: with `mode = \"standby\"` a replica has no main process",
                "leave it out, or `when`",
            );
        }
    }
}

pub(super) fn needs_catalog(place: Place<'_>, what: &str, has_catalog: bool, validator: &mut Validator<'_>) {
    if !has_catalog {
        let problem = Problem::error(place.key_span(), format!("{what} looks at a catalog, and there is none"));
        validator.say(problem.hint("set `[catalog] backend`, for example `backend = \"local\"` and its `directory`"));
    }
}

/// The keys that say what is looked at.
struct QueryKeys {
    service: Option<String>,
    tag: Option<String>,
    datacenter: Option<String>,
    key: Option<String>,
    key_prefix: Option<String>,
    leader: Option<String>,
}

fn query(
    kind: Option<&str>,
    asked: QueryKeys,
    place: Place<'_>,
    catalog: &Catalog,
    validator: &mut Validator<'_>,
) -> Query {
    if let Some(kind @ ("key" | "key_prefix" | "leader")) = kind {
        for only in ["tag", "datacenter"] {
            if place.has(only) {
                let message = format!("`{only}` belongs to `service`, and this looks at a `{kind}`");
                validator.error(place.key(only).key_span(), message, "leave it out");
            }
        }
    }
    let (message, hint) = match catalog.backend {
        Backend::Local { .. } => ("`datacenter` with a local catalog", "a local catalog is one host's; leave it out"),
        Backend::Etcd(_) => ("`datacenter` with etcd", "an etcd cluster knows none; leave it out"),
        Backend::None | Backend::Consul(_) => ("", ""),
    };
    if !message.is_empty() && asked.datacenter.is_some() {
        validator.error(place.key("datacenter").key_span(), message, hint);
    }
    for key in ["key", "key_prefix", "tag", "datacenter"] {
        let text = match key {
            "key" => &asked.key,
            "key_prefix" => &asked.key_prefix,
            "tag" => &asked.tag,
            _ => &asked.datacenter,
        };
        if text.as_deref() == Some("") {
            validator.error(place.key(key).span(), format!("`{key}` is empty"), "leave it out, or say which");
        }
    }
    for (key, text) in [("key", &asked.key), ("key_prefix", &asked.key_prefix)] {
        if let Some(text) = text.as_deref().filter(|text| text.starts_with('/')) {
            let (message, rest) = (format!("`{key}` begins with `/`"), text.trim_start_matches('/'));
            let hint = match rest {
                "" => "say which keys".to_owned(),
                rest => format!("write `{rest}`: the slash would be a part of the name"),
            };
            match catalog.backend {
                // It takes such a key for another, or for all there are.
                Backend::Consul(_) => validator.error(place.key(key).span(), message, hint),
                _ => validator.warn(place.key(key).span(), message, hint),
            }
        }
    }
    match (asked.service, asked.key, asked.key_prefix, asked.leader) {
        (None, Some(key), _, _) => Query::Key { key },
        (None, None, Some(prefix), _) => Query::KeyPrefix { prefix },
        (None, None, None, Some(election)) => Query::Leader { election },
        (name, _, _, _) => {
            Query::Service { name: name.unwrap_or_default(), tag: asked.tag, datacenter: asked.datacenter }
        }
    }
}

fn template(raw: raw::Template, place: Place<'_>, validator: &mut Validator<'_>) -> Template {
    validator.required(place, "this template", "source", "\"/etc/nginx/nginx.conf.j2\"");
    validator.required(place, "this template", "destination", "\"/etc/nginx/nginx.conf\"");
    validator.some_time(place, "check_timeout", raw.check_timeout.0);
    let path = |path: Option<Parsed<crate::config::format::FilePath>>| path.map(|path| path.0.0).unwrap_or_default();
    let (source, destination) = (path(raw.source), path(raw.destination));
    if source == destination && !source.as_os_str().is_empty() {
        let problem = Problem::error(place.key("destination").span(), "a template would overwrite itself");
        validator.say(problem.other(place.key("source").span(), "the template").hint("write to another file"));
    }
    if let Some(check) = &raw.check
        && !check.0.iter().any(|word| word.contains("{}"))
    {
        validator.warn(
            place.key("check").span(),
            "`check` doesn't look at the new file",
            "`{}` stands for its path: `[\"nginx\", \"-t\", \"-c\", \"{}\"]`",
        );
    }
    let mut check_as = validator.hooks_run_as.clone();
    if place.has("check_user") && raw.check.is_none() {
        validator.error(place.key("check_user").key_span(), "`check_user` without a `check`", "leave it out");
    }
    if let Some(Parsed(Required::For(within))) = raw.required {
        validator.some_time(place, "required", within);
    }
    if let Some(user) = raw.check_user {
        check_as.user = Some(user.0.0);
    }
    Template {
        source,
        destination,
        check: raw.check.map(exec),
        check_timeout: raw.check_timeout.0,
        check_as,
        mode: raw.mode.map(|mode| mode.0.0),
        owner: raw.owner.map(|owner| owner.0.0),
        parents: raw.parents,
        required: raw.required.map(|required| required.0),
    }
}
