use std::time::Duration;

use super::script::*;
use crate::config::{Config, Hook, Query, Required, RestartPolicy, Signal, Template, Watch};
use crate::supervisor::Event;
use crate::supervisor::vocabulary::*;

fn template() -> Template {
    Template {
        check_as: Default::default(),
        source: "/etc/app.j2".into(),
        destination: "/etc/app.conf".into(),
        check: Some(exec("test {}")),
        check_timeout: Duration::from_secs(5),
        mode: None,
        owner: None,
        parents: false,
        required: None,
    }
}

/// What came of rendering it.
pub fn staged() -> Staged {
    let path = Some("/etc/.app.conf.pilotfish".into());
    Staged { path, beside: true, text: Text("new".into()), template: template().into() }
}

pub fn templated() -> Watch {
    Watch { template: Some(template()), on_change: None, signal: Some(Signal::HUP), ..watch("app") }
}

fn watching() -> Config {
    Config { watches: vec![watch("app")], ..config() }
}

/// A main that runs with its template's first file in place.
fn running_with_template() -> Script {
    running_with_template_and(config())
}

/// The same, with more.
pub fn running_with_template_and(more: Config) -> Script {
    let mut script = Script::start(Config { watches: vec![templated()], ..more });
    script.sees("app", &["a"]);
    script.send(Event::Rendered { watch: "app".to_owned(), outcome: Rendering::Unchanged });
    script.until(1_000);
    script.heard();
    script
}

#[test]
fn the_first_change_after_a_quiet_spell_acts_at_once() {
    let mut script = Script::start(watching());
    script.heard();
    script.sees("app", &["a"]);
    script.expect(&["spawn on_change of app"]);
}

#[test]
fn who_is_missing_as_the_store_comes_back_has_time_to_register_again() {
    let mut script = Script::start(watching());
    script.sees("app", &["a", "b"]);
    script.ends("on_change of app", 0);
    script.until(1_000);
    script.loses("app");
    script.heard();
    script.sees("app", &[]);
    script.sees("app", &["b"]);
    script.sees("app", &["a", "b"]);
    script.until(60_000);
    script.expect(&[]);
    // Whoever came in their place is known at once that nobody is missing, and who is gone after a while.
    script.loses("app");
    script.sees("app", &["a"]);
    script.expect(&[]);
    assert_eq!(script.when("spawn on_change of app"), 70_000);
    script.ends("on_change of app", 0);
    script.until(71_000);
    script.loses("app");
    script.sees("app", &["a", "c"]);
    script.expect(&["spawn on_change of app"]);
    script.ends("on_change of app", 0);
    // While the store answers, who left has left.
    script.until(80_000);
    script.sees("app", &["a"]);
    script.expect(&["spawn on_change of app"]);
}

/// Nobody can register at a store that is away.
#[test]
fn however_often_a_store_comes_back_who_is_gone_is_doubted_once_for_as_long_as_it_answers() {
    let mut script = Script::start(watching());
    script.sees("app", &["a", "b"]);
    script.ends("on_change of app", 0);
    script.until(1_000);
    for back in [2_000, 7_000, 11_900] {
        script.loses("app");
        script.until(back);
        script.heard();
        script.sees("app", &["a"]);
        script.expect(&[]);
    }
    script.until(15_000);
    script.loses("app");
    script.until(60_000);
    script.heard();
    script.sees("app", &["a"]);
    // 3.1 s of ten are over.
    assert_eq!(script.when("spawn on_change of app"), 66_900);
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "b left");
}

#[test]
fn who_comes_while_another_is_doubted_is_told_at_once_and_so_is_a_leader() {
    let leader = Query::Leader { election: "db".to_owned() };
    let config = Config { watches: vec![watch("app"), Watch { query: leader, ..watch("db") }], ..config() };
    let mut script = Script::start(config);
    for name in ["app", "db"] {
        script.sees(name, &["a"]);
        script.ends(&format!("on_change of {name}"), 0);
    }
    script.until(1_000);
    for name in ["app", "db"] {
        script.loses(name);
    }
    script.heard();
    script.sees("app", &["b"]);
    script.expect(&["spawn on_change of app"]);
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "b came");
    script.sees("db", &["b"]);
    script.expect(&["spawn on_change of db"]);
    script.ends("on_change of app", 0);
    assert_eq!(script.when("spawn on_change of app"), 11_000);
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "a left");
}

#[test]
fn who_is_being_told_of_as_the_store_goes_away_has_time_to_register_again_too() {
    let mut script = Script::start(watching());
    script.sees("app", &["a"]);
    script.ends("on_change of app", 0);
    script.until(1_000);
    script.sees("app", &["a", "b"]);
    script.loses("app");
    script.sees("app", &["a"]);
    script.heard();
    script.ends("on_change of app", 0);
    script.until(10_000);
    script.expect(&[]);
    assert_eq!(script.when("spawn on_change of app"), 11_000);
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "b left");
}

/// What was in the store may be gone with it, and comes again within seconds.
#[test]
fn a_file_of_a_life_before_is_not_emptied_by_the_first_answer_of_a_store_that_comes_back() {
    let mut script = Script::start(Config { watches: vec![templated()], ..config() });
    script.loses("app");
    script.when("render app without an answer");
    script.send(Event::Rendered { watch: "app".to_owned(), outcome: Rendering::Kept });
    script.until(5_000);
    script.heard();
    script.sees("app", &[]);
    script.sees("app", &["a"]);
    script.expect(&[]);
    assert_eq!(script.when("render app"), 15_000);
}

/// Who was told `a`, `b` and `c`, a second ago.
fn told_three() -> Script {
    let mut script = Script::start(watching());
    script.sees("app", &["a", "b", "c"]);
    script.ends("on_change of app", 0);
    script.until(1_000);
    script.heard();
    script
}

#[test]
fn who_is_missing_has_time_from_when_the_store_lost_them_however_long_others_have_been_missing() {
    let mut script = told_three();
    script.loses("app");
    script.sees("app", &["a", "b"]);
    script.until(9_000);
    script.loses("app");
    script.sees("app", &[]);
    assert_eq!(script.when("spawn on_change of app"), 11_000);
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "c left");
    script.ends("on_change of app", 0);
    script.sees("app", &["a"]);
    assert_eq!(script.when("spawn on_change of app"), 19_000);
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "b left");
}

#[test]
fn a_store_that_is_there_again_at_once_may_have_lost_what_it_held_as_well() {
    let mut script = told_three();
    script.looks_anew("app");
    script.sees("app", &["a"]);
    script.sees("app", &["a", "b"]);
    script.expect(&[]);
    // Once it has answered, who leaves has left.
    script.sees("app", &["a"]);
    script.expect(&["spawn on_change of app"]);
    script.ends("on_change of app", 0);
    assert_eq!(script.when("spawn on_change of app"), 11_000);
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "c left");
    assert!(!script.said.iter().any(|notice| notice.name() == "catalog.failed"));
}

/// Each time the store comes back others are in it, as many as are taken in.
#[test]
fn who_is_missing_counts_as_gone_where_they_are_more_than_is_taken_in() {
    let many = |generation: usize, count: usize| {
        let ids = (0..count).map(|number| instance(&format!("{generation}-{number:05}")));
        Event::Observed { follow: Follow::Watch("app".to_owned()), seen: Ok(Observation::Instances(ids.collect())) }
    };
    let mut script = Script::start(watching());
    script.send(many(0, bounds::MOST_ITEMS / 2));
    script.ends("on_change of app", 0);
    for (generation, count, left) in [(1, bounds::MOST_ITEMS / 2, 0), (2, 1, bounds::MOST_ITEMS)] {
        script.until(script.now() + 1_000);
        script.loses("app");
        script.send(many(generation, count));
        script.when("spawn on_change of app");
        script.ends("on_change of app", 0);
        let Observation::Instances(told) = &script.stdin["on_change of app"].now else { panic!("no instances") };
        assert_eq!(told.len(), if left == 0 { bounds::MOST_ITEMS } else { count }, "{generation}");
    }
    assert!(script.said.iter().any(|notice| notice.to_string().contains("they count as gone")));
    assert_eq!(script.core.status().watches[0].seen, Some(1));
}

#[test]
fn a_file_of_a_life_before_is_not_emptied_by_a_first_answer_after_an_error() {
    for fails in [true, false] {
        let mut script = Script::start(Config { watches: vec![templated()], ..config() });
        script.heard();
        if fails {
            script.loses("app")
        } else {
            script.looks_anew("app")
        }
        script.until(500);
        script.sees("app", &[]);
        script.expect(&["render app without an answer"]);
        script.rendered("app", Rendering::Kept);
        script.expect(&["spawn main"]);
        script.sees("app", &["a"]);
        script.until(10_000);
        script.expect(&[]);
        assert_eq!(script.when("render app"), 10_500);
        assert!(script.said.iter().any(|notice| notice.name() == "template.kept"));
    }
    // Where there is none it is made, and whoever comes is in it at once; and one is made of whoever is there.
    let mut script = Script::start(Config { watches: vec![templated()], ..config() });
    script.loses("app");
    script.sees("app", &[]);
    script.rendered("app", Rendering::Unchanged);
    script.heard();
    script.sees("app", &["a"]);
    assert_eq!(script.when("render app"), 100);
    let mut script = Script::start(Config { watches: vec![templated()], ..config() });
    script.loses("app");
    script.heard();
    script.sees("app", &["a"]);
    script.expect(&["render app"]);
}

#[test]
fn into_a_file_that_was_made_of_nobody_whoever_comes_comes_at_once() {
    let mut script = Script::start(Config { watches: vec![templated()], ..config() });
    script.loses("app");
    script.when("render app without an answer");
    // There was none.
    script.staged("app");
    script.ends("template_check of app", 0);
    script.installed("app");
    script.until(5_000);
    script.heard();
    script.sees("app", &[]);
    script.sees("app", &["a"]);
    assert!(script.when("render app") <= 5_100);
}

#[test]
fn a_file_of_a_life_before_that_main_began_with_stays_whatever_the_first_answer_after_an_error_is() {
    let mut script = Script::start(Config { watches: vec![templated()], ..config() });
    script.loses("app");
    script.when("render app without an answer");
    script.rendered("app", Rendering::Kept);
    script.until(5_000);
    script.heard();
    script.sees("app", &["a"]);
    script.until(14_000);
    script.expect(&[]);
    assert_eq!(script.when("render app"), 15_000);
}

#[test]
fn a_main_that_must_not_start_without_an_answer_starts_with_the_first_though_the_store_failed_before() {
    let required = Template { required: Some(Required::Forever), ..template() };
    let mut script =
        Script::start(Config { watches: vec![Watch { template: Some(required), ..templated() }], ..config() });
    script.loses("app");
    script.heard();
    script.sees("app", &[]);
    script.expect(&["render app"]);
}

#[test]
fn changes_while_the_hook_runs_gather_into_one_more_run() {
    let mut script = Script::start(watching());
    script.sees("app", &["a"]);
    script.heard();
    for instances in [&["a", "b"][..], &["a", "b", "c"], &["b", "c"]] {
        script.sees("app", instances);
    }
    script.expect(&[]);
    script.ends("on_change of app", 0);
    assert_eq!(script.when("spawn on_change of app"), 100);
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "b and c came, a left");
    script.ends("on_change of app", 0);
    script.until(10_000);
    script.expect(&[]);
}

#[test]
fn a_change_that_is_taken_back_meanwhile_runs_nothing() {
    let mut script = Script::start(watching());
    script.sees("app", &["a"]);
    script.heard();
    script.sees("app", &["a", "b"]);
    script.sees("app", &["a"]);
    script.ends("on_change of app", 0);
    script.until(10_000);
    script.expect(&[]);
}

#[test]
fn changes_within_the_settle_time_of_a_run_wait_for_its_end() {
    let mut script = Script::start(watching());
    script.sees("app", &["a"]);
    script.until(20);
    script.ends("on_change of app", 0);
    script.heard();
    script.until(50);
    script.sees("app", &["b"]);
    assert_eq!(script.when("spawn on_change of app"), 120);
}

#[test]
fn a_failing_hook_is_run_again_with_growing_pauses_until_it_succeeds() {
    let mut script = Script::start(watching());
    script.sees("app", &["a"]);
    script.heard();
    script.ends("on_change of app", 1);
    let shown = |script: &Script| script.core.status().watches[0].error.clone();
    assert!(shown(&script).is_some_and(|error| error.contains("on_change")));
    let again = script.when("spawn on_change of app");
    assert!((500..=1_000).contains(&again), "{again}");
    script.ends("on_change of app", 1);
    let third = script.when("spawn on_change of app") - again;
    assert!((1_000..=2_000).contains(&third), "{third}");
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "a came");
    script.ends("on_change of app", 0);
    assert_eq!(shown(&script), None);
    // It was one change, said once.
    let said = |name: &str| script.said.iter().filter(|notice| notice.name() == name).count();
    assert_eq!((said("watch.changed"), said("hook.retrying")), (1, 2));
    assert_eq!(script.core.status().watches[0].changes, 1);
    script.until(600_000);
    script.expect(&[]);
}

#[test]
fn a_change_after_a_failing_hook_waits_for_no_pause() {
    let mut script = Script::start(watching());
    script.sees("app", &["a"]);
    for _ in 0..6 {
        script.ends("on_change of app", 1);
        script.when("spawn on_change of app");
    }
    script.ends("on_change of app", 1);
    let now = script.now();
    script.heard();
    script.sees("app", &["b"]);
    assert!(script.when("spawn on_change of app") <= now + 100);
}

#[test]
fn a_change_that_is_taken_back_after_a_failing_hook_is_told_too() {
    let mut script = Script::start(watching());
    script.sees("app", &["a"]);
    script.ends("on_change of app", 0);
    script.until(1_000);
    script.sees("app", &["a", "b"]);
    script.ends("on_change of app", 1);
    script.heard();
    script.sees("app", &["a"]);
    // Again and again, until it is taken.
    for code in [1, 1, 0] {
        script.when("spawn on_change of app");
        assert_eq!(script.stdin["on_change of app"].change().in_words(), "b left");
        script.ends("on_change of app", code);
    }
    script.until(600_000);
    script.expect(&[]);
}

#[test]
fn what_left_without_another_file_is_told_with_the_next_one() {
    let both = Watch { on_change: Some(hook("reload")), signal: None, ..templated() };
    let mut script = Script::start(Config { watches: vec![both], ..config() });
    let file = |script: &mut Script, instances: &[&str], outcome: Rendering| {
        script.until(script.now() + 1_000);
        script.sees("app", instances);
        let changes = outcome != Rendering::Unchanged;
        script.rendered("app", outcome);
        if changes {
            script.ends("template_check of app", 0);
            script.installed("app");
        }
    };
    file(&mut script, &["a", "b"], Rendering::Unchanged);
    file(&mut script, &["a", "b", "c"], Rendering::Staged(staged()));
    // Main has found a and b in its file; on_change hears of them for the first time.
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "a, b and c came");
    script.ends("on_change of app", 0);
    script.heard();
    file(&mut script, &["a", "c"], Rendering::Unchanged);
    script.expect(&["render app"]);
    file(&mut script, &["a", "c", "d"], Rendering::Staged(staged()));
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "d came, b left");
}

#[test]
fn a_signal_waits_for_the_hook_before_it_to_succeed() {
    let mut script =
        Script::start(Config { watches: vec![Watch { signal: Some(Signal::HUP), ..watch("app") }], ..config() });
    script.sees("app", &["a"]);
    script.heard();
    script.ends("on_change of app", 1);
    script.expect(&[]);
    script.when("spawn on_change of app");
    script.ends("on_change of app", 0);
    script.expect(&["SIGHUP to main"]);
}

#[test]
fn without_an_answer_the_file_there_is_stays_until_the_answer_even_an_empty_one_comes() {
    let mut script = Script::start(Config { watches: vec![templated()], ..config() });
    script.heard();
    assert_eq!(script.when("render app without an answer"), 2_000);
    script.rendered("app", Rendering::Kept);
    script.expect(&["spawn main"]);
    script.until(10_000);
    script.expect(&[]);
    script.sees("app", &[]);
    script.expect(&["render app"]);
}

#[test]
fn a_main_that_must_not_start_without_a_template_waits_for_its_answer_or_ends_with_69() {
    let required = Template { required: Some(Required::For(Duration::from_secs(30))), ..template() };
    let watches = vec![Watch { template: Some(required), ..templated() }];
    let mut script = Script::start(Config { watches: watches.clone(), ..config() });
    script.heard();
    script.until(29_000);
    script.expect(&[]);
    script.sees("app", &["a"]);
    script.rendered("app", Rendering::Unchanged);
    script.expect(&["render app", "spawn main"]);

    let mut script = Script::start(Config { watches, ..config() });
    assert_eq!(script.when("exit 69"), 30_000);
}

#[test]
fn a_main_that_waits_for_a_template_for_ever_waits_through_its_failures() {
    let required = Template { required: Some(Required::Forever), ..template() };
    let mut script =
        Script::start(Config { watches: vec![Watch { template: Some(required), ..templated() }], ..config() });
    script.heard();
    script.until(3_600_000);
    script.expect(&[]);
    script.sees("app", &["a"]);
    script.expect(&["render app"]);
    script.rendered("app", Rendering::Failed("no such file".to_owned()));
    script.when("render app");
    script.rendered("app", Rendering::Unchanged);
    script.expect(&["spawn main"]);
}

#[test]
fn a_hook_that_hangs_is_ended_and_later_changes_still_act() {
    let mut script = Script::start(watching());
    script.sees("app", &["a"]);
    script.sees("app", &["b"]);
    script.when("SIGKILL to all of on_change of app");
    script.ends_as("on_change of app", ExitStatus::Killed(Signal::KILL));
    script.when("spawn on_change of app");
}

#[test]
fn a_hook_runs_again_once_all_that_its_last_run_left_is_gone_or_cannot_be_ended() {
    for obeys in [true, false] {
        let mut script = Script::start(watching());
        script.sees("app", &["a"]);
        script.sees("app", &["b"]);
        script.until(10);
        script.heard();
        script.ends_leaving("on_change of app", ExitStatus::Exited(0));
        assert_eq!(script.when("SIGTERM to all of on_change of app"), 110);
        script.until(1500);
        script.expect(&[]);
        if obeys {
            script.group_ends("on_change of app");
            script.expect(&["spawn on_change of app"]);
        } else {
            assert!(script.when("spawn on_change of app") >= 3000);
        }
    }
}

#[test]
fn an_engine_that_does_not_answer_is_not_an_empty_list() {
    let mut script = Script::start(watching());
    script.sees("app", &["a"]);
    script.ends("on_change of app", 0);
    script.until(1_000);
    script.heard();
    script.loses("app");
    script.until(60_000);
    script.expect(&[]);
    script.sees("app", &["a"]);
    script.until(61_000);
    script.expect(&[]);
}

#[test]
fn a_change_renders_checks_installs_and_signals() {
    let mut script = running_with_template();
    script.sees("app", &["a", "b"]);
    script.expect(&["render app"]);
    script.staged("app");
    script.expect(&["spawn template_check of app"]);
    script.ends("template_check of app", 0);
    script.expect(&["install app"]);
    script.installed("app");
    script.expect(&["SIGHUP to main"]);
}

#[test]
fn a_main_that_would_die_of_the_signal_gets_it_once_it_catches_it() {
    let mut script = running_with_template();
    script.catches = false;
    script.sees("app", &["a", "b"]);
    script.staged("app");
    script.ends("template_check of app", 0);
    script.heard();
    script.installed("app");
    script.until(1_150);
    script.expect(&["no SIGHUP yet", "no SIGHUP yet"]);
    script.catches = true;
    assert_eq!(script.when("SIGHUP to main"), 1_200);
}

#[test]
fn a_main_that_never_catches_the_signal_is_not_ended_by_it() {
    let mut script = running_with_template();
    script.catches = false;
    script.sees("app", &["a", "b"]);
    script.staged("app");
    script.ends("template_check of app", 0);
    script.installed("app");
    script.until(60_000);
    assert!(!script.heard().contains(&"SIGHUP to main".to_owned()));
    assert!(
        script.said.iter().any(|notice| notice.to_string().contains("SIGHUP isn't sent, for main would die of it"))
    );
    assert_eq!(script.core.next_deadline(), None);
}

#[test]
fn while_a_signal_waits_for_main_changes_are_acted_on() {
    let mut script =
        Script::start(Config { watches: vec![Watch { signal: Some(Signal::HUP), ..watch("app") }], ..config() });
    script.catches = false;
    script.sees("app", &["a"]);
    script.ends("on_change of app", 0);
    script.heard();
    script.sees("app", &["b"]);
    let settled = script.when("spawn on_change of app");
    assert!(settled <= 1_000, "{settled}");
    script.ends("on_change of app", 0);
    script.catches = true;
    script.heard();
    script.when("SIGHUP to main");
    script.until(60_000);
    assert!(!script.heard().iter().any(|heard| heard.contains("SIGHUP")), "one for both");
}

#[test]
fn a_file_that_stays_as_it_is_takes_no_signal_back() {
    let mut script = running_with_template();
    script.catches = false;
    script.sees("app", &["a", "b"]);
    script.staged("app");
    script.ends("template_check of app", 0);
    script.installed("app");
    script.sees("app", &["a", "c"]);
    script.when("render app");
    script.send(Event::Rendered { watch: "app".to_owned(), outcome: Rendering::Unchanged });
    script.catches = true;
    script.when("SIGHUP to main");
}

#[test]
fn a_file_that_did_not_change_signals_nobody() {
    let mut script = running_with_template();
    script.sees("app", &["a", "b"]);
    script.send(Event::Rendered { watch: "app".to_owned(), outcome: Rendering::Unchanged });
    script.until(5_000);
    script.expect(&["render app"]);
}

#[test]
fn a_file_that_fails_its_check_never_goes_live_and_is_tried_again() {
    let mut script = running_with_template();
    script.sees("app", &["a", "b"]);
    script.staged("app");
    script.heard();
    script.ends("template_check of app", 1);
    script.expect(&["discard"]);
    let again = script.when("render app");
    assert!((1_500..=2_000).contains(&again), "{again}");
}

#[test]
fn nothing_is_acted_on_once_main_is_told_to_stop() {
    let mut script = running_with_template();
    script.signal(Signal::TERM);
    script.expect(&["unfollow Watch(\"app\")", "SIGTERM to main"]);
    script.sees("app", &["z"]);
    script.until(5_000);
    script.expect(&[]);
}

#[test]
fn a_change_while_main_is_down_is_acted_on_when_it_is_up_again() {
    let mut config = watching();
    config.process.restart.policy = RestartPolicy::Always;
    let mut script = Script::start(config);
    script.ends("main", 1);
    script.heard();
    script.sees("app", &["a"]);
    script.expect(&[]);
    script.when("spawn main");
    script.expect(&["spawn on_change of app"]);
}

#[test]
fn a_hook_that_runs_again_first_ends_what_its_last_run_was_allowed_to_leave() {
    let on_change = Some(Hook { leftovers: crate::config::Leftovers::Keep, ..hook("reload") });
    let mut script = Script::start(Config { watches: vec![Watch { on_change, ..watch("app") }], ..config() });
    script.heard();
    script.sees("app", &["a"]);
    script.expect(&["spawn on_change of app"]);
    script.ends_leaving("on_change of app", ExitStatus::Exited(0));
    script.sees("app", &["a", "b"]);
    script.when("SIGTERM to all of on_change of app");
    script.expect(&[]);
    script.group_ends("on_change of app");
    script.expect(&["spawn on_change of app"]);
}

#[test]
fn the_status_says_since_when_a_file_is_being_made() {
    let mut script = running_with_template();
    let since = |script: &Script| script.core.status().watches[0].making_since;
    assert_eq!(since(&script), None);
    script.sees("app", &["a", "b"]);
    let ordered = since(&script);
    script.until(5_000);
    assert!(ordered.is_some() && since(&script) == ordered);
    script.staged("app");
    assert_eq!(since(&script), None, "its check runs, which has a time of its own");
    script.ends("template_check of app", 0);
    assert!(since(&script) > ordered, "it is put in place");
    script.installed("app");
    assert_eq!(since(&script), None);
}

#[test]
fn of_a_check_that_looked_at_a_copy_elsewhere_it_is_said_what_was_not_there() {
    let told = |beside| {
        let mut script = running_with_template();
        script.sees("app", &["a", "b"]);
        script.rendered("app", Rendering::Staged(Staged { beside, ..staged() }));
        script.ends("template_check of app", 1);
        script.core.status().watches[0].error.clone().unwrap_or_default()
    };
    let (beside, apart) = (told(true), told(false));
    assert_eq!(beside, "its check exited with code 1");
    assert!(apart.starts_with("its check exited with code 1 (it looked at a copy apart from /etc/"), "{apart}");
}
