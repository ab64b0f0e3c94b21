use std::time::Duration;

use super::coprocess::coprocess;
use super::role::{election, held};
use super::script::*;
use crate::config::coprocess::Ready;
use crate::config::{
    Config, Coprocess, Election, Health, Hooks, OnFailure, PreStart, Probe, Query, Restart, RestartPolicy, Service,
    Signal, Watch,
};
use crate::supervisor::Event;
use crate::supervisor::machines::election::event::ElectionEvent;
use crate::supervisor::vocabulary::*;

fn base() -> Config {
    Config {
        services: vec![service("web"), service("admin")],
        health: vec![check("ping", OnFailure::Report)],
        watches: vec![watch("app")],
        ..config()
    }
}

fn running() -> Script {
    let mut script = Script::start(base());
    script.answer("probe", Ok(()));
    for id in ["web", "admin", "web"] {
        script.published(id, Ok(()));
    }
    script.heard();
    script
}

fn reload(script: &mut Script, new: Result<Config, &str>) {
    script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
    script.expect(&["load config"]);
    script.send(Event::ConfigLoaded(new.map(|new| Box::new(new.into())).map_err(str::to_owned)));
}

#[test]
fn a_reload_without_a_change_touches_nothing() {
    let mut script = running();
    reload(&mut script, Ok(base()));
    script.expect(&["reply ok"]);
}

#[test]
fn a_reload_looks_at_templates_again_though_their_config_did_not_change() {
    let config = Config { watches: vec![super::watch::templated()], ..config() };
    let mut script = Script::start(config.clone());
    script.sees("app", &["a"]);
    script.rendered("app", Rendering::Unchanged);
    script.until(1_000);
    script.heard();
    reload(&mut script, Ok(config));
    script.expect(&["render app", "reply ok"]);
    script.staged("app");
    script.ends("template_check of app", 0);
    script.installed("app");
    script.expect(&["spawn template_check of app", "install app", "SIGHUP to main"]);
}

#[test]
fn a_bad_config_keeps_the_old_one_and_says_why() {
    let mut script = running();
    reload(&mut script, Err("line 3: unknown key"));
    script.expect(&["reply error"]);
    assert!(script.said.iter().any(|notice| notice.to_string().contains("line 3")));
    assert_eq!(script.core.status().services.len(), 2);
}

#[test]
fn main_is_never_restarted_by_a_reload() {
    let mut script = running();
    let mut new = base();
    new.process.exec = exec("other");
    reload(&mut script, Ok(new));
    script.expect(&["reply ok"]);
    assert!(script.said.last().unwrap().to_string().contains("applies at the next start: [process]"));
}

#[test]
fn services_that_came_left_or_changed_are_put_right() {
    let mut script = running();
    let mut new = base();
    new.services = vec![service("web"), service("api")];
    new.services[0].tags = vec!["blue".to_owned()];
    reload(&mut script, Ok(new));
    let mut heard = script.heard();
    heard.sort();
    assert_eq!(heard, ["publish api passing", "publish web passing", "reply ok", "withdraw admin"]);
    script.withdrawn("admin");
    assert_eq!(script.core.status().services.len(), 2);
}

#[test]
fn a_service_that_changed_while_it_was_being_told_is_told_after_that() {
    let mut script = running();
    let tagged = |tag: &str| {
        let mut new = base();
        new.services[0].tags = vec![tag.to_owned()];
        new
    };
    reload(&mut script, Ok(tagged("blue")));
    script.expect(&["publish web passing", "reply ok"]);
    reload(&mut script, Ok(tagged("green")));
    script.expect(&["reply ok"]);
    script.published("web", Ok(()));
    script.expect(&["publish web passing"]);
    assert_eq!(script.tags["web"], ["green"]);
}

#[test]
fn a_service_that_comes_back_before_it_was_removed_is_not_removed_after_it_was_told() {
    let mut script = running();
    let without = || Config { services: vec![service("web")], ..base() };
    reload(&mut script, Ok(without()));
    script.expect(&["withdraw admin", "reply ok"]);
    reload(&mut script, Ok(base()));
    // The removal is on its way: what is told meanwhile might be overtaken by it.
    script.expect(&["reply ok"]);
    script.send(Event::Withdrawn { service: "admin".to_owned(), result: Err("no server".to_owned()) });
    script.expect(&["publish admin passing"]);
    script.published("admin", Ok(()));
    script.until(3_600_000);
    script.expect(&["probe"]);
    assert!(script.core.status().services[1].published);
}

#[test]
fn what_was_being_told_of_a_service_that_left_is_not_taken_for_what_is_told_of_its_successor() {
    let mut script = running();
    let mut tagged = base();
    tagged.services[1].tags = vec!["blue".to_owned()];
    reload(&mut script, Ok(tagged));
    script.expect(&["publish admin passing", "reply ok"]);
    reload(&mut script, Ok(Config { services: vec![service("web")], ..base() }));
    script.heard();
    reload(&mut script, Ok(base()));
    // The answer is to the call of before.
    script.published("admin", Ok(()));
    assert_eq!(script.heard().last().unwrap(), "publish admin passing");
    assert!(!script.core.status().services[1].published);
    assert!(script.tags["admin"].is_empty());
}

#[test]
fn a_changed_check_keeps_its_status() {
    let mut script = running();
    let mut new = base();
    new.health[0].interval *= 2;
    reload(&mut script, Ok(new));
    script.expect(&["reply ok"]);
    assert!(script.core.status().health[0].passing);
}

/// Its first answer may be seconds away, and nothing has failed.
#[test]
fn a_check_that_comes_to_what_is_well_counts_once_it_knows_something() {
    let mut script = running();
    let mut more = base();
    more.health.push(Health { name: "pong".to_owned(), failures: 1, ..more.health[0].clone() });
    reload(&mut script, Ok(more));
    let heard = script.heard();
    assert!(!heard.iter().any(|heard| heard.starts_with("publish")), "{heard:?}");
    assert!(!script.core.status().health[1].passing);
    script.answer("probe", Err("refused"));
    assert!(script.heard().contains(&"publish web critical".to_owned()));
}

#[test]
fn a_check_that_checks_somebody_else_knows_nothing_of_whom_it_checked() {
    let job =
        Coprocess { restart: Restart { policy: RestartPolicy::OnFailure, ..Restart::default() }, ..coprocess("job") };
    let checked = |of: Option<&str>| Config {
        services: vec![service("web")],
        health: vec![Health { of: of.map(str::to_owned), ..check("ping", OnFailure::Report) }],
        coprocesses: vec![job.clone()],
        ..config()
    };
    // It was of one that has ended: main is asked at once.
    let mut script = Script::start(checked(Some("job")));
    script.ends("coprocess job", 0);
    script.heard();
    reload(&mut script, Ok(checked(None)));
    assert!(script.heard().contains(&"probe".to_owned()));
    script.answer("probe", Ok(()));
    assert!(script.core.status().health[0].passing);
    // And the other way: main's answer is none of the one's that doesn't run.
    script.heard();
    reload(&mut script, Ok(checked(Some("job"))));
    assert_eq!(script.core.status().health[0].note, "job doesn't run");
    script.until(60_000);
    assert!(!script.heard().contains(&"probe".to_owned()));
}

#[test]
fn a_check_that_asks_something_else_asks_at_once_and_ends_what_asked_before() {
    let asking = |command: &str| {
        let mut new = base();
        new.health[0].probe = Probe::Exec { exec: exec(command), run_as: Default::default() };
        new
    };
    let mut script = Script::start(asking("old"));
    script.heard();
    reload(&mut script, Ok(asking("new")));
    assert!(script.heard().contains(&"SIGTERM to all of health of ping".to_owned()));
    script.ends_as("health of ping", ExitStatus::Killed(crate::config::Signal::TERM));
    script.when("spawn health of ping");
    assert!(!script.core.status().health[0].passing);
    script.ends("health of ping", 0);
    assert!(script.core.status().health[0].passing);
}

/// Main, or a coprocess, speaks for itself, each 5 s.
fn listening(name: &str, of: Option<&str>) -> Health {
    let of = of.map(str::to_owned);
    Health { of, probe: Probe::Notify, ..check(name, OnFailure::Report) }
}

fn listened_to(health: Vec<Health>) -> Config {
    let ready = Some(Ready { probe: Probe::Notify, timeout: Duration::from_secs(5) });
    let coprocesses = vec![Coprocess { ready, ..coprocess("agent") }, coprocess("mute")];
    Config { services: vec![service("web")], health, coprocesses, ..config() }
}

fn ready() -> Notification {
    Notification { ready: true, ..Notification::default() }
}

#[test]
fn a_check_that_comes_by_a_reload_knows_what_was_said_before() {
    let mut script = Script::start(listened_to(vec![listening("said", None)]));
    script.send(Event::Notified(Notification { watchdog: true, ..ready() }));
    script.send(Event::CoprocessNotified { name: "agent".to_owned(), said: ready() });
    script.until(4_000);
    script.heard();
    reload(&mut script, Ok(listened_to(vec![listening("renamed", None), listening("new", Some("agent"))])));
    let health = script.core.status().health;
    assert!(health.iter().all(|check| check.passing), "{health:?}");
    assert!(!script.said.last().unwrap().to_string().contains("next start"));
    script.until(9_000);
    assert_eq!(script.core.status().health[0].note, "no WATCHDOG=1 for 7s");
}

#[test]
fn a_check_of_one_that_was_not_told_where_to_speak_is_none_before_its_next_start() {
    let mut script = Script::start(listened_to(Vec::new()));
    script.published("web", Ok(()));
    script.until(60_000);
    script.heard();
    reload(&mut script, Ok(listened_to(vec![listening("said", None), listening("mute", Some("mute"))])));
    assert!(script.said.last().unwrap().to_string().contains("applies at the next start: [[health]] notify"));
    script.until(120_000);
    script.expect(&["reply ok"]);
    assert!(script.core.status().ready());
    assert_eq!(script.core.status().health[0].note, "main finds NOTIFY_SOCKET at its next start");
    // A supervisor above may have told main where to speak, too.
    script.send(Event::Notified(ready()));
    assert!(script.core.status().health[0].passing);
    // And the other is told as it starts anew.
    script.ends("coprocess mute", 1);
    script.when("spawn coprocess mute");
    script.until(script.now() + 1_000);
    assert!(!script.core.status().ready());
    assert_eq!(script.core.status().health[1].note, "mute hasn't said READY=1");
}

#[test]
fn a_main_is_held_to_a_shorter_watchdog_only_once_it_was_told() {
    let every = |seconds| {
        let (interval, grace) = (Duration::from_secs(seconds), Duration::from_secs(1));
        Health { interval, grace, on_failure: OnFailure::Restart, ..listening("said", None) }
    };
    let mut script = Script::start(listened_to(vec![every(10)]));
    script.send(Event::Notified(Notification { watchdog: true, ..ready() }));
    script.heard();
    reload(&mut script, Ok(listened_to(vec![every(1)])));
    script.until(12_000);
    assert!(script.core.status().health[0].passing);
    script.until(13_000);
    assert_eq!(script.core.status().health[0].note, "no WATCHDOG=1 for 12s");
    script.ends("main", 0);
    script.when("spawn main");
    script.send(Event::Notified(Notification { watchdog: true, ..ready() }));
    script.until(script.now() + 5_000);
    assert_eq!(script.core.status().health[0].note, "no WATCHDOG=1 for 3s");
}

fn prepared_by(commands: &[&str]) -> Config {
    let hook = |command: &&str| PreStart { hook: hook(command), ..pre_start(3) };
    Config { hooks: Hooks { pre_start: commands.iter().map(hook).collect(), ..Hooks::default() }, ..config() }
}

/// What runs of a preparation, from now until main starts.
fn rest_of_preparation(script: &mut Script, mut running: usize) -> usize {
    let mut ran = 0;
    loop {
        ran += 1;
        script.heard();
        script.ends(&format!("pre_start {running}"), 0);
        running += 1;
        match script.heard() {
            heard if heard.contains(&"spawn main".to_owned()) => return ran,
            heard => assert!(heard.contains(&format!("spawn pre_start {running}")), "{heard:?}"),
        }
    }
}

#[test]
fn what_has_run_of_a_preparation_is_what_has_run_whatever_a_reload_puts_before_it() {
    let old = prepared_by(&["restore", "migrate"]);
    let mut script = Script::start(old.clone());
    script.expect(&["spawn pre_start 1"]);
    reload(&mut script, Ok(prepared_by(&["fetch", "restore", "migrate"])));
    let later = "applies at the next start: [[hooks.pre_start]]";
    assert!(script.said.last().unwrap().to_string().contains(later));
    assert_eq!(rest_of_preparation(&mut script, 1), 2, "it goes on as it was begun");

    // What comes after what has run is new.
    let mut script = Script::start(old.clone());
    script.heard();
    reload(&mut script, Ok(prepared_by(&["restore", "fetch", "migrate"])));
    assert!(!script.said.last().unwrap().to_string().contains(later));
    assert_eq!(rest_of_preparation(&mut script, 1), 3);

    // And so is one that has failed and is tried again.
    let mut script = Script::start(old);
    script.ends("pre_start 1", 1);
    script.heard();
    reload(&mut script, Ok(prepared_by(&["mended", "migrate", "check"])));
    script.when("spawn pre_start 1");
    assert_eq!(rest_of_preparation(&mut script, 1), 3);
}

#[test]
fn a_watch_for_something_else_is_followed_anew_and_the_others_are_left_alone() {
    let mut script = running();
    let mut new = base();
    new.watches[0].query = tagged();
    new.watches.push(watch("db"));
    reload(&mut script, Ok(new));
    script.expect(&["unfollow Watch(\"app\")", "follow Watch(\"app\")", "follow Watch(\"db\")", "reply ok"]);
}

/// Its `on_change` knows `a` and `b`, and is being told that `c` has come; meanwhile `b` leaves.
fn told_while_one_leaves(watch: Watch) -> Script {
    let mut script = Script::start(Config { watches: vec![watch], ..config() });
    script.sees("app", &["a", "b"]);
    script.ends("on_change of app", 0);
    script.until(1_000);
    script.sees("app", &["a", "b", "c"]);
    script.sees("app", &["a", "c"]);
    script.heard();
    script
}

/// What a reload changes of a watch, and what is told then.
type Reloading = (&'static str, fn(&mut Watch), &'static str);

fn tagged() -> Query {
    Query::Service { name: "app".to_owned(), tag: Some("blue".to_owned()), datacenter: None }
}

#[test]
fn what_leaves_while_on_change_runs_is_told_whatever_a_reload_changes_of_its_watch() {
    let kinds: [Reloading; 7] = [
        ("nothing", |_| {}, "b left"),
        ("settle", |watch| watch.settle *= 2, "b left"),
        ("its signal", |watch| watch.signal = Some(Signal::HUP), "b left"),
        ("its timeout", |watch| watch.on_change.as_mut().unwrap().timeout *= 2, "b left"),
        ("its user", |watch| watch.on_change.as_mut().unwrap().run_as.user = Some("app".to_owned()), "b left"),
        // Whether what runs succeeds is nothing to what comes after it.
        ("its command", |watch| watch.on_change = Some(hook("another")), "a and c came, b left"),
        ("its question", |watch| watch.query = tagged(), "c came, b left"),
    ];
    for (what, change, told) in kinds {
        let mut script = told_while_one_leaves(watch("app"));
        let mut new = Config { watches: vec![watch("app")], ..config() };
        change(&mut new.watches[0]);
        reload(&mut script, Ok(new));
        assert!(!script.heard().contains(&"spawn on_change of app".to_owned()), "beside one that runs: {what}");
        if what == "its question" {
            script.sees("app", &["a", "c"]);
        }
        script.ends("on_change of app", 0);
        script.when("spawn on_change of app");
        assert_eq!(script.stdin["on_change of app"].change().in_words(), told, "{what}");
        // Which is that.
        script.ends("on_change of app", 0);
        script.until(60_000);
        assert!(!script.heard().contains(&"spawn on_change of app".to_owned()), "{what}");
    }
}

#[test]
fn a_reload_in_an_outage_leaves_those_time_to_register_again_who_are_missing_after_it() {
    let mut script = Script::start(Config { watches: vec![watch("app")], ..config() });
    script.sees("app", &["a"]);
    script.ends("on_change of app", 0);
    script.until(1_000);
    script.loses("app");
    let mut new = Config { watches: vec![watch("app")], ..config() };
    new.watches[0].on_change.as_mut().unwrap().timeout *= 2;
    reload_after(&mut script, new);
    script.sees("app", &[]);
    script.expect(&[]);
    assert_eq!(script.when("spawn on_change of app"), 11_000);
}

/// What becomes of a file that is being made as its template is changed, or taken away, or its watch is.
#[test]
fn a_file_of_a_template_that_a_reload_changes_never_goes_live_and_the_change_is_told_all_the_same() {
    let file = || Watch { on_change: Some(hook("reload")), ..super::watch::templated() };
    let old = || Config { watches: vec![file()], ..config() };
    let elsewhere = || {
        let mut watch = file();
        watch.template.as_mut().unwrap().destination = "/etc/other.conf".into();
        watch
    };
    let tagged = || {
        let tag = Some("blue".to_owned());
        Watch { query: Query::Service { name: "app".to_owned(), tag, datacenter: None }, ..file() }
    };
    let kinds: [(&str, Vec<Watch>); 4] = [
        ("none", vec![Watch { template: None, ..file() }]),
        ("another", vec![elsewhere()]),
        ("another question", vec![tagged()]),
        ("no watch", vec![]),
    ];
    for (what, watches) in kinds {
        for is_checking in [false, true] {
            let mut script = Script::start(old());
            script.sees("app", &["a"]);
            script.rendered("app", Rendering::Unchanged);
            script.until(1_000);
            script.sees("app", &["a", "b"]);
            if is_checking {
                script.staged("app");
            }
            script.heard();
            reload(&mut script, Ok(Config { watches: watches.clone(), ..config() }));
            if what == "another question" {
                script.sees("app", &["a", "b"]);
            }
            if is_checking {
                script.ends_as("template_check of app", ExitStatus::Killed(Signal::TERM));
            } else {
                script.staged("app");
            }
            let heard = script.heard();
            assert_eq!(heard.iter().filter(|heard| *heard == "discard").count(), 1, "{what}: {heard:?}");
            assert!(!heard.contains(&"install app".to_owned()), "{what}: {heard:?}");
            let expected = match what {
                "none" => "spawn on_change of app",
                "no watch" => continue,
                _ => "render app",
            };
            assert!(heard.contains(&expected.to_owned()), "{what}: {heard:?}");
        }
    }
}

#[test]
fn a_file_that_is_put_in_place_as_its_template_is_changed_is_told_of_with_the_next() {
    let mut script = Script::start(Config { watches: vec![super::watch::templated()], ..config() });
    script.sees("app", &["a"]);
    script.rendered("app", Rendering::Unchanged);
    script.until(1_000);
    script.sees("app", &["a", "b"]);
    script.staged("app");
    script.ends("template_check of app", 0);
    let mut changed = super::watch::templated();
    changed.template.as_mut().unwrap().check_timeout *= 2;
    reload_after(&mut script, Config { watches: vec![changed], ..config() });
    script.installed("app");
    script.expect(&["render app"]);
    script.rendered("app", Rendering::Unchanged);
    script.expect(&["SIGHUP to main"]);
}

fn reload_after(script: &mut Script, new: Config) {
    script.heard();
    reload(script, Ok(new));
    script.heard();
}

#[test]
fn what_has_left_is_told_by_a_reload_though_nothing_is_there_any_more() {
    let other = Watch { on_change: Some(hook("another")), ..watch("app") };
    for new in [other, Watch { query: tagged(), ..watch("app") }] {
        let mut script = Script::start(Config { watches: vec![watch("app")], ..config() });
        script.sees("app", &["a"]);
        script.ends("on_change of app", 0);
        script.until(1_000);
        script.heard();
        reload(&mut script, Ok(Config { watches: vec![new], ..config() }));
        script.sees("app", &[]);
        // Another command has been told at once that `a` is there.
        if script.heard().contains(&"spawn on_change of app".to_owned())
            && !script.stdin["on_change of app"].now.is_empty()
        {
            script.ends("on_change of app", 1);
            script.when("spawn on_change of app");
        }
        assert_eq!(script.stdin["on_change of app"].change().in_words(), "a left");
    }
}

#[test]
fn what_failed_is_tried_again_at_once_when_a_config_is_read() {
    let mut script = Script::start(Config { watches: vec![watch("app")], ..config() });
    script.sees("app", &["a"]);
    for _ in 0..6 {
        script.ends("on_change of app", 1);
        script.when("spawn on_change of app");
    }
    script.ends("on_change of app", 1);
    script.heard();
    reload(&mut script, Ok(Config { watches: vec![watch("app")], ..config() }));
    script.expect(&["spawn on_change of app", "reply ok"]);
}

#[test]
fn a_reload_while_stopping_is_refused() {
    let mut script = running();
    script.signal(crate::config::Signal::TERM);
    script.heard();
    script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
    script.expect(&["reply error"]);
}

#[test]
fn what_the_election_is_bound_to_stays_until_the_container_starts_anew() {
    let of = |id: &str| Some(Election { service: Some(id.to_owned()), ..election() });
    let web = Service { id: "web-80".to_owned(), port: 80, ..service("web") };
    let health = vec![Health { services: vec!["web-80".to_owned()], ..check("ping", OnFailure::Report) }];
    let old = Config { election: of("web-80"), services: vec![web.clone()], health, ..config() };
    let mut script = Script::start(old.clone());
    script.acting = Some("3 other".to_owned());
    script.event(ElectionEvent::Saw(Ok(held("other", 9, 3))));
    script.answer("probe", Err("unhealthy"));
    // Each turn is told, one after another.
    (0..3).for_each(|_| script.published("web-80", Ok(())));
    script.heard();
    let moved = Service { id: "web-81".to_owned(), port: 81, tags: vec!["blue".to_owned()], ..web };
    let health = vec![Health { services: vec!["web-81".to_owned()], ..old.health[0].clone() }];
    reload(&mut script, Ok(Config { election: of("web-81"), services: vec![moved], health, ..old.clone() }));
    script.expect(&["publish web-80 critical", "reply ok"]);
    assert_eq!(script.tags["web-80"], ["blue"]);
    let said = script.said.last().unwrap().to_string();
    assert!(said.contains("port, address and ttl of the [election]'s service"), "{said}");
    // Nor does it go when it isn't there any more.
    script.published("web-80", Ok(()));
    reload(&mut script, Ok(Config { services: Vec::new(), health: old.health.clone(), election: None, ..old.clone() }));
    assert!(!script.heard().iter().any(|heard| heard.starts_with("withdraw")));
    // What speaks for it does so on.
    let health = vec![Health { services: Vec::new(), ..old.health[0].clone() }];
    reload(&mut script, Ok(Config { services: Vec::new(), health, election: None, ..old }));
    assert_eq!(script.core.status().services[0].status, "critical");
}

#[test]
fn what_applies_later_is_said_until_it_does_or_is_taken_back() {
    let said = |script: &mut Script, new: Config| {
        reload(script, Ok(new));
        script.heard();
        script.said.pop().unwrap().to_string()
    };
    let old = Config { election: Some(election()), ..config() };
    let mut script = Script::start(old.clone());
    script.heard();
    let longer = Some(Election { lease: Duration::from_secs(20), ..election() });
    let mut new = Config { election: longer, ..old.clone() };
    new.process.exec = exec("other");
    for _ in 0..2 {
        let said = said(&mut script, new.clone());
        assert!(said.contains("applies at the next start: [process], [election]"), "{said}");
    }
    let without = said(&mut script, Config { election: None, ..old.clone() });
    assert!(without.contains("applies at the next start: [election]"), "{without}");
    let back = said(&mut script, old);
    assert!(!back.contains("next start"), "{back}");
}
