//! Maintenance as scripts: what is out of the rotation, what pauses, who leads, and how it ends.

use std::time::Duration;

use super::script::*;
use crate::config::{Config, OnFailure, RestartPolicy, Signal};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::*;

fn ordinary() -> Config {
    Config {
        services: vec![service("web")],
        health: vec![check("ping", OnFailure::Report)],
        watches: vec![watch("app")],
        ..config()
    }
}

/// Healthy, and in the catalog.
fn running(config: Config) -> Script {
    let mut script = Script::start(config);
    script.answer("probe", Ok(()));
    script.published("web", Ok(()));
    script.published("web", Ok(()));
    script.heard();
    script
}

impl Script {
    pub fn maintenance(&mut self, lasts: Option<u64>, reason: Option<&str>) {
        let (lasts, reason) = (lasts.map(Duration::from_millis), reason.map(str::to_owned));
        self.send(Event::Control { reply: ReplyId(1), request: Request::BeginMaintenance { lasts, reason } });
    }

    pub fn maintenance_off(&mut self) {
        self.send(Event::Control { reply: ReplyId(2), request: Request::EndMaintenance });
    }

    fn is_in_maintenance(&self) -> bool {
        self.core.status().maintenance.is_some()
    }

    /// What was heard but for the checks' questions.
    #[track_caller]
    fn hears(&mut self, orders: &[&str]) {
        let heard: Vec<String> = self.heard().into_iter().filter(|order| order != "probe").collect();
        assert_eq!(heard, orders);
    }

    fn names(&self) -> Vec<&'static str> {
        self.said.iter().map(|notice| notice.name()).collect()
    }
}

#[test]
fn maintenance_takes_the_services_out_of_the_rotation_and_its_end_brings_them_back() {
    let mut script = running(ordinary());
    script.maintenance(None, Some("disk"));
    script.hears(&["publish web passing, in maintenance: disk", "reply ok"]);
    script.published("web", Ok(()));
    assert!(script.is_in_maintenance());
    assert!(script.names().contains(&"maintenance.began"));
    script.maintenance_off();
    script.hears(&["publish web passing", "reply ok"]);
    assert!(!script.is_in_maintenance());
    assert!(script.names().contains(&"maintenance.ended"));
}

#[test]
fn health_is_asked_for_and_told_on_in_maintenance() {
    let mut script = running(ordinary());
    script.maintenance(None, None);
    script.published("web", Ok(()));
    script.heard();
    script.when("probe");
    script.answer("probe", Err("refused"));
    script.hears(&["publish web critical, in maintenance: maintenance"]);
    assert!(!script.core.status().ready(), "ready is what it is without maintenance");
    script.published("web", Ok(()));
    script.maintenance_off();
    script.hears(&["publish web critical", "reply ok"]);
}

#[test]
fn maintenance_says_nothing_against_being_ready() {
    let mut script = running(ordinary());
    script.maintenance(None, None);
    assert!(script.core.status().ready());
}

#[test]
fn maintenance_ends_when_its_time_is_up() {
    let mut script = running(ordinary());
    script.maintenance(Some(90_000), Some("disk"));
    script.published("web", Ok(()));
    script.heard();
    assert_eq!(script.when("publish web passing"), 90_000);
    assert!(!script.is_in_maintenance());
}

#[test]
fn maintenance_ordered_again_lasts_as_long_as_the_last_order_says() {
    let mut script = running(ordinary());
    script.maintenance(Some(10_000), Some("disk"));
    script.published("web", Ok(()));
    script.until(5_000);
    script.heard();
    script.maintenance(Some(10_000), None);
    script.hears(&["reply ok"]);
    let told = script.core.status().maintenance.unwrap();
    assert_eq!(told.reason.as_deref(), Some("disk"), "the reason stays until another is given");
    assert_eq!((told.since.from_boot(), told.until.unwrap().from_boot()), (Duration::ZERO, Duration::from_secs(15)));
    script.maintenance(None, Some("memory"));
    script.hears(&["publish web passing, in maintenance: memory", "reply ok"]);
    script.published("web", Ok(()));
    script.until(100_000);
    assert!(script.is_in_maintenance());
}

#[test]
fn to_end_what_never_began_is_no_failure() {
    let mut script = running(ordinary());
    script.maintenance_off();
    script.hears(&["reply ok"]);
    assert!(!script.names().contains(&"maintenance.ended"));
}

#[test]
fn what_changed_in_maintenance_is_told_once_at_its_end() {
    let mut script = running(ordinary());
    script.sees("app", &["a"]);
    script.ends("on_change of app", 0);
    script.until(1_000);
    script.maintenance(None, None);
    script.published("web", Ok(()));
    script.heard();
    for instances in [&["a", "b"][..], &["b"], &["b", "c"]] {
        script.sees("app", instances);
        script.until(script.now() + 1_000);
    }
    script.hears(&[]);
    script.maintenance_off();
    script.hears(&["publish web passing", "spawn on_change of app", "reply ok"]);
    let told = &script.stdin["on_change of app"];
    assert_eq!(told.change().in_words(), "b and c came, a left");
    script.published("web", Ok(()));
    script.ends("on_change of app", 0);
    script.until(10_000);
    script.hears(&[]);
}

#[test]
fn a_change_that_is_taken_back_in_maintenance_runs_nothing() {
    let mut script = running(ordinary());
    script.maintenance(None, None);
    script.sees("app", &["a"]);
    script.sees("app", &[]);
    script.published("web", Ok(()));
    script.heard();
    script.maintenance_off();
    script.hears(&["publish web passing", "reply ok"]);
}

#[test]
fn a_change_that_is_being_acted_on_is_acted_on_to_its_end() {
    let mut script = Script::start(Config { watches: vec![super::watch::templated()], ..config() });
    script.sees("app", &["a"]);
    script.send(Event::Rendered { watch: "app".to_owned(), outcome: Rendering::Unchanged });
    script.until(1_000);
    script.sees("app", &["a", "b"]);
    script.maintenance(None, None);
    script.heard();
    script.staged("app");
    script.ends("template_check of app", 0);
    script.installed("app");
    script.expect(&["spawn template_check of app", "install app", "SIGHUP to main"]);
    script.sees("app", &["z"]);
    script.until(10_000);
    script.expect(&[]);
    script.maintenance_off();
    script.expect(&["render app", "reply ok"]);
}

#[test]
fn a_start_in_maintenance_gets_its_files_all_the_same() {
    let mut script = Script::start(Config { watches: vec![super::watch::templated()], ..config() });
    script.maintenance(None, None);
    script.heard();
    script.sees("app", &["a"]);
    script.expect(&["render app"]);
    script.send(Event::Rendered { watch: "app".to_owned(), outcome: Rendering::Unchanged });
    script.expect(&["spawn main"]);
}

#[test]
fn a_service_is_registered_in_maintenance_when_main_comes_up_in_it() {
    let mut config = ordinary();
    config.process.restart.policy = RestartPolicy::Always;
    let mut script = running(config);
    script.maintenance(None, None);
    script.published("web", Ok(()));
    script.ends("main", 1);
    script.published("web", Ok(()));
    script.sees("app", &["a"]);
    script.heard();
    script.when("spawn main");
    script.published("web", Ok(()));
    script.hears(&["publish web critical, in maintenance: maintenance"]);
    script.answer("probe", Ok(()));
    script.published("web", Ok(()));
    script.hears(&["publish web passing, in maintenance: maintenance"]);
}

#[test]
fn a_container_stops_from_within_maintenance_as_from_without() {
    let mut script = running(ordinary());
    script.maintenance(Some(2_000), Some("disk"));
    script.published("web", Ok(()));
    script.heard();
    script.signal(Signal::TERM);
    script.published("web", Ok(()));
    // Its end would bring back a service that is on its way out.
    script.until(5_000);
    script.maintenance_off();
    script.maintenance(None, None);
    script.ends("main", 0);
    script.withdrawn("web");
    script.hears(&[
        "publish web draining, in maintenance: disk",
        "unfollow Watch(\"app\")",
        "SIGTERM to main",
        "reply error",
        "reply error",
        "withdraw web",
        "exit 0",
    ]);
}

#[test]
fn a_service_that_a_reload_adds_is_in_maintenance_too() {
    let mut script = running(ordinary());
    script.maintenance(None, Some("disk"));
    script.published("web", Ok(()));
    script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
    script.heard();
    let more = Config { services: vec![service("web"), service("admin")], ..ordinary() };
    script.send(Event::ConfigLoaded(Ok(Box::new(more.into()))));
    script.hears(&["publish admin passing, in maintenance: disk", "reply ok"]);
}

#[test]
fn usr1_toggles_maintenance_only_when_the_config_says_so() {
    let mut with = ordinary();
    with.control.signals = true;
    let mut script = running(with);
    script.signal(Signal::USR1);
    script.published("web", Ok(()));
    script.signal(Signal::USR1);
    script.hears(&["publish web passing, in maintenance: SIGUSR1 came", "publish web passing"]);
    let mut script = running(ordinary());
    script.signal(Signal::USR1);
    script.hears(&["SIGUSR1 to main"]);
}
