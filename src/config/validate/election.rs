//! Judges `[election]`: whose it is, and whether all that must fit into a lease does.

use std::path::PathBuf;
use std::time::Duration;

use super::health::SHORTEST_TTL;
use super::process::hook;
use super::watch::needs_catalog;
use super::{Validator, quoted};
use crate::config::election::{
    DEMOTE_WITHIN, Election, LONGEST_LOCK_DELAY, Mode, Pace, Preference, RENEW_EVERY, REQUEST_WITHIN, RoleTags, Sum,
    WithoutCatalog, leaders_stop,
};
use crate::config::format::{FilePath, Name, Parsed};
use crate::config::report::Problem;
use crate::config::tree::Place;
use crate::config::{Backend, Catalog, Coprocess, Hooks, Leftovers, Service, duration, raw};

/// The guard looks again 50 ms after its SIGKILL, and ends what is left then by ending PID 1.
const SHORTEST_MARGIN: Duration = Duration::from_millis(100);

/// What of the config has to do with its election.
pub(super) struct Around<'a> {
    pub(super) services: &'a mut [Service],
    pub(super) hooks: &'a Hooks,
    pub(super) coprocesses: &'a [Coprocess],
    pub(super) catalog: &'a Catalog,
    pub(super) has_catalog: bool,
}

pub(super) fn election(
    raw: raw::Election,
    root: Place<'_>,
    around: Around<'_>,
    validator: &mut Validator<'_>,
) -> Election {
    let place = root.key("election");
    let Around { services, hooks, coprocesses, catalog, has_catalog } = around;
    let beside = leaders_stop(coprocesses);
    needs_catalog(place, "this election", has_catalog, validator);
    validator.required(place, "this election", "name", "\"mysql\"");
    let name = raw.name.map(|name| name.0.0).unwrap_or_default();
    let index = service(raw.service, root, services, validator);
    let pace = Pace {
        renew: RENEW_EVERY,
        request: REQUEST_WITHIN,
        patience: REQUEST_WITHIN,
        demote: beside + hooks.on_demote.as_ref().map_or(DEMOTE_WITHIN, |hook| hook.timeout),
        kill_margin: raw.kill_margin.0,
    }
    .within(raw.lease.0);
    if raw.kill_margin.0 < SHORTEST_MARGIN {
        validator.error(
            place.key("kill_margin").span(),
            format!("`kill_margin` is shorter than {}", duration::print(SHORTEST_MARGIN)),
            "the main process must be gone before its lease is over, and the kernel needs time to end it; 1s is usual",
        );
    }
    let alive_ttl = alive_ttl(raw.alive_ttl.0, place, catalog, index.map(|index| &mut services[index]), validator);
    if let (Backend::Etcd(_), Some(index)) = (&catalog.backend, index) {
        // A dead leader's entry, and the tag in it, must not outlive its lock.
        services[index].ttl = services[index].ttl.min(raw.lease.0);
    }
    let service = index.map(|index| &services[index]);
    let role_tags = raw.role_tags.map(|tags| role_tags(tags, place, root, service, catalog, validator));
    if raw.mode == Mode::Standby {
        standby(raw.prefer, raw.without_catalog, place, validator);
    }
    let quorum = raw.rank.as_ref().and_then(|rank| rank.quorum);
    if quorum == Some(0) {
        validator.error(
            place.key("rank").key("quorum").span(),
            "`quorum` is 0",
            "a winner knows its own rank at least; with writes acknowledged by W of N servers, N - W + 1 loses none",
        );
    }
    if quorum.is_some_and(|quorum| quorum > 1) {
        id_is_written(place, root, index, validator);
    }
    let election = Election {
        id: raw.id.map(|id| id.0.0).unwrap_or_else(|| match service {
            Some(service) => service.id.clone(),
            None => default_id(&name, &validator.context.hostname),
        }),
        name,
        service: service.map(|service| service.id.clone()),
        mode: raw.mode,
        lease: raw.lease.0,
        alive_ttl,
        pace,
        require_health: raw.require_health,
        prefer: raw.prefer,
        quorum: quorum.map(|quorum| quorum as usize),
        rank: raw.rank.map(|raw::Rank { exec, timeout, quorum: _, user, env, env_from_files }| {
            let leftovers = Leftovers::End;
            hook(
                raw::Hook { exec, timeout, user, env, env_from_files, leftovers },
                "rank",
                place.key("rank"),
                validator,
            )
        }),
        without_catalog: raw.without_catalog,
        role_tags,
        fence: raw.fence,
        witness: witness(raw.witness.map(|Parsed(FilePath(directory))| directory), place, catalog, validator),
    };
    lease(&election, root, catalog, (hooks.on_demote.is_some(), beside), validator);
    election
}

/// Warns of what does nothing, or harm, where a replica's main doesn't run.
fn standby(prefer: Preference, without_catalog: WithoutCatalog, place: Place<'_>, validator: &mut Validator<'_>) {
    if prefer == Preference::Never {
        validator.warn(
            place.key("prefer").span(),
            "the main process never runs: it doesn't stand, and only a leader's runs",
            "`prefer = \"low\"` leaves the lock to the others for a while, `mode = \"role\"` runs replicas too",
        );
    }
    if without_catalog == WithoutCatalog::Replica {
        validator.warn(
            place.key("without_catalog").span(),
            "`without_catalog = \"replica\"` does nothing with `mode = \"standby\"`",
            "a replica's main process doesn't run there; leave it out",
        );
    }
}

/// Where a leader's end is known to the catalog anyway, a witness has nothing to tell.
fn witness(
    directory: Option<PathBuf>,
    place: Place<'_>,
    catalog: &Catalog,
    validator: &mut Validator<'_>,
) -> Option<PathBuf> {
    let local = matches!(catalog.backend, Backend::Local { .. });
    if local && directory.is_some() {
        validator.warn(
            place.key("witness").key_span(),
            "`witness` means nothing with a local catalog",
            "there the lock itself is a file that the kernel holds for as long as anything of the leader lives; leave it out",
        );
    }
    if directory.as_ref().is_some_and(|directory| !directory.is_absolute()) {
        validator.error(
            place.key("witness").span(),
            "`witness` is relative",
            "containers that share it have no working directory in common; write a path from `/`",
        );
    }
    directory.filter(|_| !local)
}

/// A winner that must know a quorum of ranks counts one for each id. A default holds the host name, which is another one
/// once the container has been created anew: the same data would count twice.
fn id_is_written(place: Place<'_>, root: Place<'_>, service: Option<usize>, validator: &mut Validator<'_>) {
    let written = place.has("id") || service.is_some_and(|index| root.key("service").index(index).has("id"));
    if written || place.is_broken() {
        return;
    }
    let problem = Problem::error(place.key("rank").key("quorum").span(), "`quorum` without an `id` of this candidate");
    let pair = validator.syntax.pair("id", "\"{{ env.NODE }}\"");
    validator.say(problem.hint(format!(
        "a container that is created anew has another host name, so another default id, and its data would count twice: \
         write an id that stays with the data, such as `{pair}` in `[election]`, or the volume's name"
    )));
}

/// `<name>-<hostname>`, of what is safe in a key and a file name.
fn default_id(name: &str, hostname: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let id = if hostname.is_empty() { name.to_owned() } else { format!("{name}-{hostname}") };
    id.chars().map(safe).collect()
}

/// Which of the services is the election's.
fn service(
    named: Option<Parsed<Name>>,
    root: Place<'_>,
    services: &[Service],
    validator: &mut Validator<'_>,
) -> Option<usize> {
    let (place, at) = (root.key("election"), root.key("election").key("service"));
    let known: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
    // One whose name couldn't be read may be the one that is meant.
    let uncertain = root.key("service").is_broken() || known.contains(&"");
    let Some(Parsed(Name(named))) = named else {
        if services.len() > 1 && !place.has("service") && !place.is_broken() {
            let problem = Problem::error(place.key_span(), "this election has no `service`, and there are several");
            let pair = validator.syntax.pair("service", &format!("\"{}\"", known[0]));
            validator.say(problem.hint(format!("say whose address is the leader's: `{pair}`")));
        }
        return (services.len() == 1).then_some(0);
    };
    if let Some(index) = services.iter().position(|service| service.id == named) {
        return Some(index);
    }
    let meant: Vec<usize> = (0..services.len()).filter(|index| known[*index] == named).collect();
    match meant.as_slice() {
        [one] => return Some(*one),
        [] if uncertain => {}
        [] => validator.no_such(at, "service", &named, no_service(&named, &known)),
        several => {
            let ids: Vec<&str> = several.iter().map(|index| services[*index].id.as_str()).collect();
            let hint = format!("the leader has one address; write the id of one of them: {}", quoted(&ids));
            validator.error(at.span(), format!("several services are called `{named}`"), hint);
        }
    }
    None
}

fn no_service(named: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return "there is no `[[service]]`; leave it out for an election without an address".to_owned();
    }
    super::process::near_hint(named, known, &format!("there are {}", quoted(known)))
}

/// How soon a dead agent is noticed. The session is bound to the check that the service's `ttl` is for, so the shorter
/// of the two is that `ttl`.
fn alive_ttl(
    asked: Duration,
    place: Place<'_>,
    catalog: &Catalog,
    service: Option<&mut Service>,
    validator: &mut Validator<'_>,
) -> Duration {
    let at = place.key("alive_ttl");
    let said = place.has("alive_ttl") && !at.is_broken();
    let (Backend::Consul(_), Some(service)) = (&catalog.backend, service) else {
        let why = match catalog.backend {
            Backend::Local { .. } => "the kernel knows at once when an agent is dead",
            Backend::Etcd(_) => "a dead leader's lock falls free when `lease` is over",
            Backend::Consul(_) => "it is the check of a service; give the election one",
            Backend::None => return asked,
        };
        if said {
            validator.warn(at.key_span(), "`alive_ttl` means nothing here", why);
        }
        return asked;
    };
    if asked < SHORTEST_TTL {
        validator.error(
            at.span(),
            format!("`alive_ttl` is shorter than {}", duration::print(SHORTEST_TTL)),
            "a busy machine would be taken for a dead one, and its leader would have to step down; 3s is usual",
        );
    }
    if said && asked > service.ttl {
        let ttl = duration::print(service.ttl);
        validator.warn(
            at.span(),
            format!("`alive_ttl` is longer than the `ttl` of `{}`, which is {ttl}", service.name),
            "the shorter of the two counts; raise `ttl`, or leave this out",
        );
    }
    service.ttl = service.ttl.min(asked);
    service.ttl
}

fn role_tags(
    raw: raw::RoleTags,
    election: Place<'_>,
    root: Place<'_>,
    service: Option<&Service>,
    catalog: &Catalog,
    validator: &mut Validator<'_>,
) -> RoleTags {
    let place = election.key("role_tags");
    let services = root.key("service");
    if service.is_none() && !election.has("service") && !root.has("service") {
        validator.error(
            place.key_span(),
            "`role_tags` without a service",
            "tags stand on an entry in the catalog: add a `[[service]]`, or leave them out",
        );
    }
    validator.required(place, "`role_tags`", "leader", "\"primary\"");
    validator.required(place, "`role_tags`", "replica", "\"replica\"");
    let (leader, replica) = (raw.leader.unwrap_or_default(), raw.replica.unwrap_or_default());
    for (key, tag) in [("leader", &leader), ("replica", &replica)] {
        let at = place.key(key);
        if tag.is_empty() && place.has(key) && !at.is_broken() {
            validator.error(at.span(), format!("`{key}` is empty"), "a tag is a word, such as `\"primary\"`");
        }
        if service.is_some_and(|service| !tag.is_empty() && service.tags.contains(tag)) {
            let problem = Problem::error(at.span(), format!("`{tag}` is among the service's own `tags`"));
            validator.say(
                problem
                    .other(services.key_span(), "these")
                    .hint("it would stand there in every role; take it out of one"),
            );
        }
    }
    if leader == replica && !leader.is_empty() {
        let problem = Problem::error(place.key("replica").span(), "both roles have the same tag");
        validator.say(problem.other(place.key("leader").span(), "the leader's").hint("nobody could tell them apart"));
    }
    if service.is_some_and(|service| service.consul.enable_tag_override)
        && matches!(catalog.backend, Backend::Consul(_))
    {
        validator.warn(
            place.key_span(),
            "`role_tags` with `enable_tag_override`: Consul may put an old role's tag back",
            "with it the tags in Consul's catalog count for more than those of the agent; leave one of the two out",
        );
    }
    RoleTags { leader, replica }
}

/// Whether the backend can promise this lease, and whether all that must fit into it does.
fn lease(
    election: &Election,
    root: Place<'_>,
    catalog: &Catalog,
    (on_demote, beside): (bool, Duration),
    validator: &mut Validator<'_>,
) {
    let (place, at) = (root.key("election"), root.key("election").key("lease"));
    let said = place.has("lease") && !at.is_broken();
    match &catalog.backend {
        Backend::None => return,
        Backend::Local { .. } => {
            if said {
                validator.warn(
                    at.key_span(),
                    "`lease` means nothing with a local catalog",
                    "the kernel holds the lock for as long as anything of the leader lives; leave it out",
                );
            }
            return;
        }
        Backend::Consul(_) if election.lease > LONGEST_LOCK_DELAY => {
            validator.error(
                at.span(),
                format!("`lease` is longer than Consul's lock delay can be: {}", duration::print(LONGEST_LOCK_DELAY)),
                "Consul holds others back for no longer, so a leader can't act for longer on one proof",
            );
            return;
        }
        Backend::Etcd(_) if election.lease.subsec_nanos() != 0 => {
            let whole = election.lease.as_secs() + 1;
            validator.error(
                at.span(),
                "`lease` has a fraction of a second",
                format!("etcd grants whole seconds: `\"{whole}s\"`"),
            );
            return;
        }
        Backend::Consul(_) | Backend::Etcd(_) => {}
    }
    let Some(sum) = Sum::on(&catalog.backend, election, on_demote, beside).filter(|sum| !sum.fits()) else { return };
    // What can't be read has been reported, and what stands for it is not the user's.
    let demote = root.key("hooks").key("on_demote").key("timeout");
    if at.is_broken() || place.key("kill_margin").is_broken() || demote.is_broken() {
        return;
    }
    let span = if said { at.span() } else { place.key_span() };
    let problem = Problem::error(span, "`lease` is too short for what must fit into it").label(format!(
        "{}; needed: {}",
        sum.left(),
        sum.parts()
    ));
    let shorten = if on_demote {
        "shorten `[hooks] on_demote`'s `timeout` or `kill_margin`"
    } else {
        "shorten `kill_margin`, or step down sooner, by a `[hooks] on_demote` with a `timeout` of its own"
    };
    let least = sum.least_lease();
    let hint = match &catalog.backend {
        Backend::Consul(_) if least > LONGEST_LOCK_DELAY => {
            format!("{shorten}: Consul's lock delay is {} at most", duration::print(LONGEST_LOCK_DELAY))
        }
        _ => format!("set `lease = \"{}s\"` or more, or {shorten}", least.as_secs()),
    };
    let there = root.key("hooks").key("on_demote").has("timeout");
    let problem = if there { problem.other(demote.span(), "this") } else { problem };
    validator.say(problem.hint(hint));
}
