//! Turns what is written into what can't be wrong: contradictions, references to nothing and senseless values are
//! reported here, each at its place. Types and formats were checked before.

mod backends;
mod coprocess;
mod election;
mod endpoints;
mod health;
mod process;
mod sensor;
mod task;
mod watch;
mod words;

use std::time::Duration;

use super::expand::LeftOut;
use super::parse::Syntax;
use super::report::Problem;
use super::tree::{Node, Place, Span};
use super::{Config, Context, Exec, RunAs, When, raw};

pub(super) use watch::over_the_config;

/// Judges a config. It is sound if no problem is an error.
pub(crate) fn validate(
    raw: raw::Root,
    root: &Node,
    command: Option<Exec>,
    context: &Context,
    syntax: Syntax,
    left_out: &[LeftOut],
    problems: &mut Vec<Problem>,
) -> Config {
    let root = Place::root(root);
    let has_election = root.has("election");
    let mut validator = Validator {
        problems,
        context,
        syntax,
        left_out,
        within: raw.stop.within.0,
        has_election,
        hooks_run_as: RunAs::default(),
    };
    let stop = process::stop(&raw.stop, root.key("stop"), &mut validator);
    let process = process::process(raw.process, command, root, &mut validator);
    let hooks = process::hooks(raw.hooks, root, &mut validator);
    let catalog = endpoints::catalog(raw.catalog, root.key("catalog"), &mut validator);
    let has_catalog = catalog.backend != super::Backend::None || root.key("catalog").key("backend").is_broken();
    let coprocesses = coprocess::coprocesses(raw.coprocess, root, &mut validator);
    let mut services = health::services(raw.service, root.key("service"), &coprocesses, has_catalog, &mut validator);
    words::services(&services, root.key("service"), &catalog.backend, &mut validator);
    let checked = health::Checked { services: &services, coprocesses: &coprocesses, restarts: process.restart.policy };
    let health = health::health(raw.health, root, &checked, &mut validator);
    let wait_for = watch::wait_for(raw.wait_for, root.key("wait_for"), &catalog, has_catalog, &mut validator);
    let watches = watch::watches(raw.watch, root.key("watch"), &catalog, has_catalog, &mut validator);
    let tasks = task::tasks(raw.task, root.key("task"), &mut validator);
    let election = raw.election.map(|raw| {
        let around = election::Around {
            services: &mut services,
            hooks: &hooks,
            coprocesses: &coprocesses,
            catalog: &catalog,
            has_catalog,
        };
        election::election(raw, root, around, &mut validator)
    });
    watch::in_standby(&watches, root.key("watch"), election.as_ref(), &mut validator);
    let listen = raw.telemetry.listen.map(|listen| listen.0);
    health::one_listener(listen.as_ref(), &services, root, &mut validator);
    if let Some(raw) = raw.telemetry.advertise {
        let at = root.key("telemetry").key("advertise");
        // After checks and the election: neither is about it.
        let entry = health::telemetry(raw, listen.as_ref(), at, &services, has_catalog, &mut validator);
        entry.iter().for_each(|entry| words::of_service(entry, at, &catalog.backend, &mut validator));
        services.extend(entry);
    }
    let sensors = sensor::sensors(raw.telemetry.sensor, root.key("telemetry").key("sensor"), &mut validator);
    coprocess::in_election(&coprocesses, root.key("coprocess"), election.as_ref(), &mut validator);
    let control = endpoints::control(raw.control, root, &process, &mut validator);
    Config {
        process,
        stop,
        hooks,
        wait_for,
        coprocesses,
        services,
        health,
        watches,
        tasks,
        election,
        catalog,
        sensors,
        telemetry: listen.map(|listen| super::Telemetry { listen }),
        control,
        log: endpoints::log(&raw.log),
    }
}

/// Gathers problems.
struct Validator<'a> {
    problems: &'a mut Vec<Problem>,
    context: &'a Context,
    /// In which examples are given.
    syntax: Syntax,
    /// Tables that aren't there.
    left_out: &'a [LeftOut],
    /// `[stop] within`, which bounds much else.
    within: Duration,
    /// Whether there are roles.
    has_election: bool,
    /// As whom commands other than main run unless they say so.
    hooks_run_as: RunAs,
}

impl Validator<'_> {
    /// A variable of the environment; an empty one counts as none, as with most programs' own variables.
    fn variable(&self, name: &str) -> Option<String> {
        let value = self.context.variables.get(name)?.to_str()?;
        (!value.is_empty()).then(|| value.to_owned())
    }

    fn say(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn error(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.say(Problem::error(span, message).hint(hint));
    }

    fn warn(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.say(Problem::warning(span, message).hint(hint));
    }

    /// Reports a key that must be there and isn't; says nothing of one that is there and wrong.
    fn required(&mut self, table: Place<'_>, what: &str, key: &str, example: &str) {
        if !table.has(key) && !table.is_broken() {
            let problem = Problem::error(table.key_span(), format!("{what} has no `{key}`"));
            let pair = self.syntax.pair(key, example);
            self.say(problem.label(format!("`{key}` is missing here")).hint(format!("for example `{pair}`")));
        }
    }

    /// Whether the table of this name is one that is left out.
    fn is_left_out(&self, section: &str, name: &str) -> bool {
        self.left_out.iter().any(|out| out.section == section && out.name.as_deref() == Some(name))
    }

    /// Reports a name that no table of the section has; one that is left out is shown where that is said.
    fn no_such(&mut self, place: Place<'_>, section: &str, name: &str, hint: String) {
        let named = |out: &&LeftOut| out.section == section && out.name.as_deref() == Some(name);
        match self.left_out.iter().find(named) {
            Some(out) => {
                let problem = Problem::error(place.span(), format!("{section} `{name}` is left out"));
                let same = "what needs it can be left out by the same `enabled`";
                self.say(problem.other(out.span.clone(), "by this").hint(same));
            }
            None => self.error(place.span(), format!("there is no {section} `{name}`"), hint),
        }
    }

    /// Reports a duration or count of nothing where that makes no sense.
    fn positive(&mut self, table: Place<'_>, key: &str, is_zero: bool, hint: &str) {
        if is_zero {
            self.error(table.key(key).span(), format!("`{key}` is zero"), hint);
        }
    }

    fn some_time(&mut self, table: Place<'_>, key: &str, duration: Duration) {
        self.positive(table, key, duration.is_zero(), "it must be longer than nothing");
    }

    /// In which role something is done; there are none without an election.
    fn when(&mut self, table: Place<'_>, when: When) -> When {
        if when != When::Always && !self.has_election {
            self.error(
                table.key("when").span(),
                "`when` without an election",
                "nobody leads and nobody follows; add an `[election]`, or leave it out",
            );
        }
        when
    }

    /// Which one of several keys is there; reports none and several. `None` is also the answer when the one that is
    /// there is wrong in itself.
    fn exactly_one<'k>(&mut self, table: Place<'_>, what: &str, keys: &[&'k str], later: &[&str]) -> Option<&'k str> {
        let mut there: Vec<&'k str> = keys.iter().copied().filter(|key| table.has(key)).collect();
        there.sort_by_key(|key| table.key(key).key_span().start);
        if later.iter().any(|key| table.has(key)) {
            return None;
        }
        match there.as_slice() {
            [one] => Some(one),
            [] => {
                let problem = Problem::error(table.key_span(), format!("{what} has none of {}", quoted(keys)));
                self.say(
                    problem.label("one of them belongs here").hint(format!("give it exactly one of {}", quoted(keys))),
                );
                None
            }
            [first, second, ..] => {
                let message = format!("{what} has both `{first}` and `{second}`");
                let problem = Problem::error(table.key(second).key_span(), message);
                self.say(problem.other(table.key(first).key_span(), "and this").hint("split it in two, or keep one"));
                None
            }
        }
    }

    /// Reports the second of two that share a name.
    fn unique<'n>(&mut self, seen: &mut Vec<(String, Span)>, what: &str, name: &'n str, span: Span, hint: &'n str) {
        if let Some((_, first)) = seen.iter().find(|(known, _)| known == name) {
            let problem = Problem::error(span, format!("two {what} are called `{name}`"));
            self.say(problem.other(first.clone(), "the first").hint(hint));
        } else {
            seen.push((name.to_owned(), span));
        }
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
