use super::script::*;
use crate::config::{Config, Hooks, OnFailure, Service, ServiceOf, Signal};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::*;

fn registered() -> Config {
    Config { services: vec![service("web")], ..config() }
}

#[test]
fn without_checks_a_service_is_passing_as_soon_as_main_runs() {
    Script::start(registered()).expect(&["spawn main", "publish web passing"]);
}

#[test]
fn nothing_is_registered_before_main_runs() {
    let hooks = Hooks { pre_start: vec![pre_start(0)], ..Hooks::default() };
    let mut script = Script::start(Config { hooks, ..registered() });
    script.expect(&["spawn pre_start"]);
    script.signal(Signal::TERM);
    script.ends("pre_start", 0);
    script.expect(&["SIGTERM to all of pre_start", "exit 143"]);
}

#[test]
fn a_heartbeat_comes_three_times_within_the_ttl() {
    let mut config = registered();
    config.services[0].ttl = std::time::Duration::from_secs(15);
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    script.heard();
    let beat = script.when("publish web passing");
    assert!((4_500..=5_000).contains(&beat), "{beat}");
}

#[test]
fn heartbeats_come_no_rarer_where_answers_come_late() {
    let mut config = registered();
    config.services[0].ttl = std::time::Duration::from_secs(15);
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    script.heard();
    let beat = script.when("publish web passing");
    script.until(beat + 4_000);
    script.published("web", Ok(()));
    let next = script.when("publish web passing");
    assert!((4_500..=5_000).contains(&(next - beat)), "{next} after {beat}");
    // Later than the next is due: that one goes at once.
    script.until(next + 7_000);
    script.published("web", Ok(()));
    script.expect(&["publish web passing"]);
}

#[test]
fn what_could_not_be_told_is_told_later_and_said_once() {
    let mut script = Script::start(registered());
    script.heard();
    for _ in 0..5 {
        script.published("web", Err("no server"));
        script.when("publish web passing");
    }
    let count = |script: &Script, name| script.said.iter().filter(|notice| notice.name() == name).count();
    assert_eq!(count(&script, "catalog.failed"), 1);
    script.published("web", Ok(()));
    assert_eq!(count(&script, "catalog.back"), 1);
    assert!(script.core.status().services[0].published);
}

#[test]
fn retries_never_come_closer_together_than_they_should_nor_further_apart_than_ten_seconds() {
    let mut script = Script::start(registered());
    script.heard();
    let mut last = 0;
    for round in 0..12 {
        script.published("web", Err("no server"));
        let now = script.when("publish web passing");
        assert!((250..=10_001).contains(&(now - last)), "round {round}: {}", now - last);
        last = now;
    }
}

#[test]
fn an_address_that_could_not_be_told_anew_is_shown_as_the_last() {
    let mut config = registered();
    config.services[0].ttl = std::time::Duration::from_secs(15);
    let mut script = Script::start(config);
    script.published("web", Ok(()));
    let because = |script: &Script| script.core.status().services[0].address_because.clone();
    assert_eq!(because(&script).as_deref(), Some("as configured"));
    script.heard();
    script.when("publish web passing");
    script.published("web", Err("service web has no address to advertise"));
    assert_eq!(because(&script).as_deref(), Some("advertised last; as configured"));
    script.when("publish web passing");
    script.published("web", Ok(()));
    assert_eq!(because(&script).as_deref(), Some("as configured"));
}

#[test]
fn a_change_during_a_call_is_sent_after_it_and_only_once() {
    let mut script = Script::start(registered());
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to main"]);
    script.published("web", Ok(()));
    script.expect(&["publish web draining"]);
    script.published("web", Ok(()));
    script.expect(&[]);
}

#[test]
fn an_entry_that_perhaps_arrived_is_withdrawn_too() {
    let mut script = Script::start(registered());
    script.published("web", Err("no answer"));
    script.signal(Signal::TERM);
    script.heard();
    script.ends("main", 0);
    script.published("web", Err("no answer"));
    script.expect(&["withdraw web"]);
    script.withdrawn("web");
    let told = script.said.iter().any(|said| matches!(said, Notice::Withdrawn { .. }));
    assert!(!told, "as far as is known it never was there");
}

#[test]
fn an_entry_that_may_stay_behind_is_told_with_its_time() {
    let said = |script: &Script| -> Vec<String> {
        let left = script.said.iter().filter(|said| matches!(said, Notice::EntryLeft { .. }));
        left.map(ToString::to_string).collect()
    };
    let mut script = Script::start(registered());
    script.published("web", Ok(()));
    script.signal(Signal::TERM);
    script.ends("main", 0);
    script.when("exit 0");
    assert_eq!(said(&script), ["web may be passing in the catalog for 1day more: it didn't answer in time"]);
    let mut script = Script::start(registered());
    script.published("web", Ok(()));
    script.signal(Signal::TERM);
    script.ends("main", 0);
    script.published("web", Ok(()));
    script.withdrawn("web");
    script.when("exit 0");
    assert_eq!(said(&script), [""; 0]);
}

#[test]
fn telemetrys_entry_passes_for_as_long_as_the_agent_runs() {
    let telemetry = Service { of: ServiceOf::Telemetry, ..service("pilotfish") };
    let mut config = config();
    config.services = vec![service("web"), telemetry];
    config.health = vec![check("ping", OnFailure::Report)];
    config.health[0].services = vec!["web".to_owned()];
    config.hooks.pre_start = vec![pre_start(0)];
    let mut script = Script::start(config);
    // Before main is there.
    script.expect(&["publish pilotfish passing", "spawn pre_start"]);
    script.published("pilotfish", Ok(()));
    script.ends("pre_start", 0);
    script.heard();
    script.send(Event::Control { reply: ReplyId(1), request: Request::BeginMaintenance { lasts: None, reason: None } });
    script.restart_of("main");
    let heard = script.heard();
    assert!(!heard.iter().any(|heard| heard.contains("pilotfish")), "{heard:?}");
    script.signal(Signal::TERM);
    assert!(script.heard().contains(&"publish pilotfish draining".to_owned()));
}
