use std::time::Duration;

use super::script::*;
use crate::config::{Config, Hooks, Leftovers, Query, Signal, WaitFor, When};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::*;

fn waiting(count: usize) -> Config {
    let query = Query::Service { name: "storage".to_owned(), tag: None, datacenter: None };
    Config {
        wait_for: vec![WaitFor { query, count, timeout: Duration::from_secs(300), when: When::Always }],
        ..config()
    }
}

fn storage(script: &mut Script, instances: &[&str]) {
    let seen = Ok(Observation::Instances(instances.iter().map(|id| instance(id)).collect()));
    script.send(Event::Observed { follow: Follow::WaitFor(0), seen });
}

#[test]
fn with_nothing_to_wait_for_main_starts_at_once() {
    Script::start(config()).expect(&["spawn main"]);
}

#[test]
fn main_waits_until_enough_instances_are_there() {
    let mut script = Script::start(waiting(2));
    script.expect(&["follow WaitFor(0)"]);
    storage(&mut script, &["a"]);
    script.expect(&[]);
    storage(&mut script, &["a", "b"]);
    script.expect(&["unfollow WaitFor(0)", "spawn main"]);
}

#[test]
fn a_wait_past_its_timeout_ends_the_container_with_69() {
    let mut script = Script::start(waiting(1));
    script.heard();
    assert_eq!(script.when("exit 69"), 300_000);
}

#[test]
fn a_catalog_that_fails_does_not_end_a_wait() {
    let mut script = Script::start(waiting(1));
    let seen = Err("no server".to_owned());
    script.send(Event::Observed { follow: Follow::WaitFor(0), seen });
    script.heard();
    script.until(200_000);
    script.expect(&[]);
    storage(&mut script, &["a"]);
    script.expect(&["unfollow WaitFor(0)", "spawn main"]);
}

#[test]
fn sigterm_while_waiting_ends_the_container_with_143() {
    let mut script = Script::start(waiting(1));
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["unfollow WaitFor(0)", "exit 143"]);
}

#[test]
fn sigterm_while_waiting_ends_it_even_when_it_is_no_stop_signal() {
    let mut config = waiting(1);
    config.process.stop_on = vec![Signal::QUIT];
    let mut script = Script::start(config);
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["unfollow WaitFor(0)", "exit 143"]);
}

#[test]
fn main_starts_only_after_pre_start_succeeded() {
    let mut script =
        Script::start(Config { hooks: Hooks { pre_start: vec![pre_start(0)], ..Hooks::default() }, ..config() });
    script.expect(&["spawn pre_start"]);
    script.ends("pre_start", 0);
    script.expect(&["spawn main"]);
}

#[test]
fn a_failing_pre_start_is_retried_and_then_ends_the_container_with_its_code() {
    let mut script =
        Script::start(Config { hooks: Hooks { pre_start: vec![pre_start(2)], ..Hooks::default() }, ..config() });
    for _ in 0..2 {
        script.expect(&["spawn pre_start"]);
        script.ends("pre_start", 3);
        script.expect(&[]);
        script.until(script.core.next_deadline().unwrap().from_boot().as_millis() as u64 + 1);
    }
    script.expect(&["spawn pre_start"]);
    script.ends("pre_start", 3);
    script.expect(&["exit 3"]);
}

#[test]
fn a_pre_start_that_hangs_gets_term_then_kill_and_ends_with_124() {
    let mut script =
        Script::start(Config { hooks: Hooks { pre_start: vec![pre_start(0)], ..Hooks::default() }, ..config() });
    script.heard();
    assert_eq!(script.when("SIGTERM to all of pre_start"), 30_000);
    assert_eq!(script.when("SIGKILL to all of pre_start"), 32_000);
    script.ends_as("pre_start", ExitStatus::Killed(Signal::KILL));
    script.expect(&["exit 124"]);
}

#[test]
fn sigterm_during_pre_start_ends_it_and_the_container() {
    let hooks = Hooks { pre_start: vec![pre_start(5)], post_stop: Some(hook("cleanup")), ..Hooks::default() };
    let mut script = Script::start(Config { hooks, ..config() });
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to all of pre_start"]);
    script.ends_as("pre_start", ExitStatus::Killed(Signal::TERM));
    script.expect(&["spawn post_stop"]);
    script.ends("post_stop", 0);
    assert_eq!(script.heard().last().unwrap(), "exit 143");
}

#[test]
fn a_missing_binary_ends_the_container_with_127() {
    let mut core = crate::supervisor::Supervisor::new(config(), 1);
    let now = crate::supervisor::Time::default();
    let Some(crate::supervisor::Effect::SpawnMain { run, .. }) = core.handle(now, Event::Started).into_iter().next()
    else {
        panic!("main wasn't started")
    };
    let error = SpawnError { code: 127, message: "main: not found".to_owned(), hope: Hope::IfItWasThere };
    core.handle(now, Event::SpawnFailed { run, error });
    let effects = core.handle(now, Event::Strays { left: 0 });
    assert!(matches!(effects.last(), Some(crate::supervisor::Effect::Exit { code: 127, .. })), "{effects:?}");
}

#[test]
fn a_template_is_rendered_before_main_starts() {
    let mut script = Script::start(Config { watches: vec![super::watch::templated()], ..config() });
    script.expect(&["follow Watch(\"app\")"]);
    script.sees("app", &["a"]);
    script.expect(&["render app"]);
    script.staged("app");
    script.expect(&["spawn template_check of app"]);
    script.ends("template_check of app", 0);
    script.expect(&["install app"]);
    script.installed("app");
    script.expect(&["spawn main"]);
}

#[test]
fn without_an_answer_the_template_is_rendered_with_no_instances_after_two_seconds() {
    let mut script = Script::start(Config { watches: vec![super::watch::templated()], ..config() });
    script.heard();
    assert_eq!(script.when("render app without an answer"), 2_000);
    script.send(Event::Rendered { watch: "app".to_owned(), outcome: Rendering::Unchanged });
    script.expect(&["spawn main"]);
}

#[test]
fn a_template_that_fails_does_not_keep_main_from_starting() {
    let mut script = Script::start(Config { watches: vec![super::watch::templated()], ..config() });
    script.sees("app", &["a"]);
    script.send(Event::Rendered { watch: "app".to_owned(), outcome: Rendering::Failed("line 3".to_owned()) });
    script.expect(&["follow Watch(\"app\")", "render app", "spawn main"]);
    assert!(script.said.iter().any(|notice| notice.name() == "template.failed"));
}

#[test]
fn no_catalog_is_needed_to_start_main() {
    let mut script = Script::start(Config { services: vec![service("web")], watches: vec![watch("app")], ..config() });
    let seen = Err("no server".to_owned());
    script.send(Event::Observed { follow: Follow::Watch("app".to_owned()), seen });
    script.published("web", Err("no server"));
    assert!(script.heard().contains(&"spawn main".to_owned()));
}

fn reading() -> Config {
    let mut config = config();
    config.process.env_from_files = [("SECRET".to_owned(), "/run/secret".into())].into();
    config
}

#[test]
fn the_files_of_mains_environment_are_read_before_it_starts() {
    let mut script = Script::start(reading());
    script.expect(&["read files"]);
    script.reads(Ok(Secrets(vec![("SECRET".to_owned(), b"word".to_vec())])));
    script.expect(&["spawn main"]);
}

#[test]
fn a_file_that_cannot_be_read_ends_the_container_with_126() {
    let mut script = Script::start(reading());
    script.reads(Err(SpawnError { code: 126, message: "SECRET: no such file".to_owned(), hope: Hope::None }));
    script.expect(&["read files", "exit 126"]);
}

#[test]
fn files_that_are_still_being_read_keep_no_container_from_ending() {
    let mut script = Script::start(reading());
    script.signal(Signal::TERM);
    script.expect(&["read files", "exit 143"]);
}

#[test]
fn a_main_that_is_told_to_stop_while_it_starts_is_told_once_it_runs() {
    let mut restarted = config();
    restarted.process.restart.policy = crate::config::RestartPolicy::Always;
    let mut slow = Script::start(restarted);
    slow.starts_slowly = true;
    slow.heard();
    slow.ends("main", 1);
    slow.when("spawn main");
    slow.signal(Signal::TERM);
    slow.expect(&[]);
    slow.main_starts();
    slow.expect(&["SIGTERM to main"]);
    slow.ends_as("main", ExitStatus::Killed(Signal::TERM));
    slow.expect(&["exit 143"]);
}

/// A `pre_start` whose leftovers are to end, or may stay.
fn preparing(leftovers: Leftovers) -> Config {
    let mut pre_start = pre_start(0);
    pre_start.hook.leftovers = leftovers;
    Config { hooks: Hooks { pre_start: vec![pre_start], ..Hooks::default() }, ..config() }
}

#[test]
fn main_does_not_start_beside_what_pre_start_left_that_is_to_end() {
    let mut script = Script::start(preparing(Leftovers::End));
    script.heard();
    script.ends_leaving("pre_start", ExitStatus::Exited(0));
    script.expect(&[]);
    script.when("SIGTERM to all of pre_start");
    script.expect(&[]);
    script.group_ends("pre_start");
    script.expect(&["spawn main"]);
}

#[test]
fn main_starts_beside_what_pre_start_may_leave() {
    let mut script = Script::start(preparing(Leftovers::Keep));
    script.heard();
    script.ends_leaving("pre_start", ExitStatus::Exited(0));
    script.expect(&["spawn main"]);
}

#[test]
fn what_pre_start_left_and_cannot_be_ended_does_not_keep_main_from_starting() {
    let mut script = Script::start(preparing(Leftovers::End));
    script.heard();
    script.ends_leaving("pre_start", ExitStatus::Exited(0));
    script.when("spawn main");
    assert!(script.now() < 5_000, "{}", script.now());
}

#[test]
fn a_stop_while_what_pre_start_left_ends_waits_for_no_main() {
    let mut script = Script::start(preparing(Leftovers::End));
    script.heard();
    script.ends_leaving("pre_start", ExitStatus::Exited(0));
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to all of pre_start"]);
    script.group_ends("pre_start");
    script.expect(&["exit 143"]);
}

fn two_pre_starts(first: Leftovers) -> Config {
    let mut hooks = vec![pre_start(1), pre_start(0)];
    hooks[0].hook.leftovers = first;
    Config { hooks: Hooks { pre_start: hooks, ..Hooks::default() }, ..config() }
}

#[test]
fn several_pre_starts_run_in_order_each_after_the_success_of_the_one_before() {
    let mut script = Script::start(two_pre_starts(Leftovers::Keep));
    script.expect(&["spawn pre_start 1"]);
    assert_eq!(script.env["pre_start 1"]["PILOTFISH_EVENT"], "first_start");
    script.ends("pre_start 1", 0);
    script.expect(&["spawn pre_start 2"]);
    assert_eq!(script.core.status().doing, "running pre_start 2");
    script.ends("pre_start 2", 0);
    script.expect(&["spawn main"]);
}

#[test]
fn each_of_several_pre_starts_has_retries_of_its_own_and_the_one_that_fails_names_itself() {
    let mut script = Script::start(two_pre_starts(Leftovers::Keep));
    script.heard();
    script.ends("pre_start 1", 3);
    script.when("spawn pre_start 1");
    script.ends("pre_start 1", 0);
    script.expect(&["spawn pre_start 2"]);
    script.ends("pre_start 2", 4);
    script.expect(&["exit 4"]);
    let ended = script.said.iter().map(ToString::to_string).find(|said| said.contains("pre_start 2 failed")).unwrap();
    assert!(ended.contains("exited with code 4"), "{ended}");
}

#[test]
fn the_next_pre_start_runs_beside_what_the_one_before_may_leave_and_after_what_is_to_end() {
    let mut script = Script::start(two_pre_starts(Leftovers::Keep));
    script.heard();
    script.ends_leaving("pre_start 1", ExitStatus::Exited(0));
    script.expect(&["spawn pre_start 2"]);
    script.ends("pre_start 2", 0);
    script.expect(&["spawn main"]);

    let mut script = Script::start(two_pre_starts(Leftovers::End));
    script.heard();
    script.ends_leaving("pre_start 1", ExitStatus::Exited(0));
    script.expect(&[]);
    script.when("SIGTERM to all of pre_start 1");
    script.group_ends("pre_start 1");
    script.expect(&["spawn pre_start 2"]);
}

#[test]
fn what_one_pre_start_left_for_good_hides_nothing_that_the_next_one_left() {
    let mut config = two_pre_starts(Leftovers::End);
    config.hooks.pre_start[1].hook.leftovers = Leftovers::End;
    let mut script = Script::start(config);
    script.heard();
    script.ends_leaving("pre_start 1", ExitStatus::Exited(0));
    script.when("spawn pre_start 2");
    script.ends_leaving("pre_start 2", ExitStatus::Exited(0));
    script.expect(&[]);
    script.when("SIGTERM to all of pre_start 2");
    script.expect(&[]);
    script.group_ends("pre_start 2");
    script.expect(&["spawn main"]);
}

#[test]
fn a_stop_ends_the_pre_start_that_runs_and_runs_no_other() {
    let mut script = Script::start(two_pre_starts(Leftovers::Keep));
    script.ends("pre_start 1", 0);
    script.heard();
    script.signal(Signal::TERM);
    script.expect(&["SIGTERM to all of pre_start 2"]);
    script.ends_as("pre_start 2", ExitStatus::Killed(Signal::TERM));
    script.expect(&["exit 143"]);
}

#[test]
fn a_reload_that_takes_the_other_pre_starts_away_lets_main_start_after_the_one_that_runs() {
    let mut script = Script::start(two_pre_starts(Leftovers::Keep));
    script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
    script.send(Event::ConfigLoaded(Ok(Box::new(config().into()))));
    script.heard();
    script.ends("pre_start 1", 0);
    script.expect(&["spawn main"]);
}

/// A script that is for both may ask for each under `set -u`.
#[test]
fn main_has_the_variables_of_an_election_without_one_too_and_a_plain_inits_has_none() {
    let script = Script::start(Config { services: vec![service("web")], ..config() });
    let main = &script.env["main"];
    assert_eq!(main.get("PILOTFISH_EVENT").map(String::as_str), Some("main"));
    for name in ["ROLE", "LEADER", "LEADER_ID", "TERM", "FIRST", "WATCH", "MAIN_PID"] {
        assert_eq!(main.get(&format!("PILOTFISH_{name}")).map(String::as_str), Some(""), "{name}");
    }
    assert!(Script::start(Config::plain(exec("a"))).env["main"].is_empty());
}
