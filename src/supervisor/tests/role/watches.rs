//! Watches of one role.

use super::*;

#[test]
fn a_watch_of_one_role_acts_in_that_role_only() {
    let watches = vec![crate::config::Watch { when: When::Leader, ..watch("app") }];
    let mut script = Script::candidate(Config { watches, hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.sees("app", &["a"]);
    script.until(1_000);
    script.tells(&["follow Watch(\"app\")", "join db", "spawn main"]);
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(40_000);
    script.told();
    script.takes(7);
    assert!(script.told().contains(&"spawn on_change of app".to_owned()));
}

#[test]
fn a_reload_does_not_hide_a_leaders_hook_from_a_step_down() {
    let mut script = Script::leading(for_leaders(watch("app")));
    script.sees("app", &["a"]);
    script.tells(&["spawn on_change of app"]);
    script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
    script.send(Event::ConfigLoaded(Ok(Box::new(Config { hooks: hooks(), ..candidate() }.into()))));
    script.told();
    step_down(&mut script);
    script.tells(&["SIGTERM to all of on_change of app", "reply ok"]);
    script.ends_as("on_change of app", TERMINATED);
    script.tells(&["spawn on_demote"]);
}

#[test]
fn a_leaders_change_that_is_cut_short_signals_nobody_and_is_acted_on_by_the_next_leadership() {
    let mut script = Script::leading(for_leaders(crate::config::Watch { signal: Some(Signal::HUP), ..watch("app") }));
    script.sees("app", &["a"]);
    script.told();
    step_down(&mut script);
    script.ends_as("on_change of app", TERMINATED);
    script.ends("on_demote", 0);
    script.tells(&["SIGTERM to all of on_change of app", "reply ok", "spawn on_demote", "guard off", "release"]);
    script.released();
    script.leads_again();
    assert!(script.told().contains(&"spawn on_change of app".to_owned()));
}

#[test]
fn what_leaves_after_a_leaders_on_change_was_cut_short_is_told_in_the_next_leadership() {
    let mut script = Script::leading(for_leaders(watch("app")));
    script.sees("app", &["a"]);
    script.ends("on_change of app", 0);
    script.until(1_000);
    script.sees("app", &["a", "b"]);
    script.told();
    step_down(&mut script);
    script.ends_as("on_change of app", TERMINATED);
    script.sees("app", &["a"]);
    script.ends("on_demote", 0);
    script.released();
    script.leads_again();
    assert!(script.told().contains(&"spawn on_change of app".to_owned()));
    assert_eq!(script.stdin["on_change of app"].change().in_words(), "b left");
}

#[test]
fn a_reload_cuts_no_on_change_short_but_one_of_another_role() {
    for (when, cut) in [(When::Leader, false), (When::Always, true)] {
        let mut script = Script::leading(for_leaders(watch("app")));
        script.sees("app", &["a"]);
        script.tells(&["spawn on_change of app"]);
        script.sees("app", &[]);
        script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
        let mut new = for_leaders(watch("app"));
        (new.watches[0].when, new.watches[0].settle) = (when, Duration::from_secs(1));
        script.send(Event::ConfigLoaded(Ok(Box::new(new.into()))));
        let told = script.told();
        assert_eq!(told.contains(&"SIGTERM to all of on_change of app".to_owned()), cut, "{told:?}");
        script.ends_as("on_change of app", if cut { TERMINATED } else { ExitStatus::Exited(0) });
        script.when("spawn on_change of app");
        assert_eq!(script.stdin["on_change of app"].change().in_words(), "a left");
    }
}

#[test]
fn a_template_of_the_leaders_that_is_first_rendered_while_main_runs_is_told_to_main() {
    let mut script = Script::candidate(for_leaders(templated()));
    script.sees_lock(held("other", 9, 3));
    script.sees("app", &["a"]);
    script.told();
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(40_000);
    script.takes(7);
    script.staged("app");
    script.ends("template_check of app", 0);
    script.told();
    script.installed("app");
    script.tells(&["SIGHUP to main"]);
}

/// A leader that runs with the first file for leaders in place.
fn leading_with_template() -> Script {
    let mut script = Script::candidate(for_leaders(templated()));
    script.wins(7);
    script.sees("app", &["a"]);
    script.send(Event::Rendered { watch: "app".to_owned(), outcome: Rendering::Unchanged });
    script.ends("on_promote", 0);
    script.until(1_000);
    script
}

#[test]
fn a_file_for_leaders_goes_no_further_once_the_role_is_gone() {
    let mut script = leading_with_template();
    // While it is rendered.
    script.sees("app", &["a", "b"]);
    script.told();
    step_down(&mut script);
    script.staged("app");
    script.tells(&["reply ok", "spawn on_demote", "discard"]);

    let mut script = leading_with_template();
    script.sees("app", &["a", "b"]);
    script.staged("app");
    script.ends("template_check of app", 0);
    script.told();
    // While it is put in place.
    step_down(&mut script);
    script.installed("app");
    script.ends("on_demote", 0);
    script.tells(&["reply ok", "spawn on_demote", "guard off", "release"]);
    script.released();
    script.leads_again();
    script.told();
    // The file is as it shall be; main doesn't know yet.
    script.send(Event::Rendered { watch: "app".to_owned(), outcome: Rendering::Unchanged });
    assert!(script.told().contains(&"SIGHUP to main".to_owned()));
}

fn draining(when: When) -> Config {
    let watches = vec![crate::config::Watch { when, ..watch("app") }];
    let stop = crate::config::Stop { drain: Duration::from_secs(2), ..config().stop };
    Config { watches, stop, hooks: hooks(), ..candidate() }
}

#[test]
fn a_leaders_changes_are_acted_on_through_the_drain_and_end_with_the_role() {
    let mut script = Script::leading(draining(When::Leader));
    script.signal(Signal::TERM);
    script.sees("app", &["a"]);
    script.tells(&["spawn on_change of app"]);
    script.when("SIGTERM to all of on_change of app");
    // Whatever acts for the leader goes first, were it to hang.
    script.sees("app", &["a", "b"]);
    script.tells(&[]);
    assert!(script.when("SIGKILL to all of on_change of app") <= 4_000);
    script.ends_as("on_change of app", ExitStatus::Killed(Signal::KILL));
    script.tells(&["spawn on_demote"]);
    script.sees("app", &["b"]);
    script.tells(&[]);
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release", "unfollow Watch(\"app\")", "SIGTERM to main"]);
}

#[test]
fn what_is_acted_on_in_any_role_is_through_on_demote_too() {
    let mut script = Script::leading(draining(When::Always));
    script.signal(Signal::TERM);
    script.when("spawn on_demote");
    script.sees("app", &["a"]);
    script.tells(&["spawn on_change of app"]);
    script.ends("on_demote", 0);
    let told =
        ["guard off", "release", "unfollow Watch(\"app\")", "SIGTERM to all of on_change of app", "SIGTERM to main"];
    script.tells(&told);
}

#[test]
fn a_leader_that_stops_comes_to_act_on_no_replicas_changes() {
    let mut script = Script::leading(draining(When::Replica));
    script.sees("app", &["a"]);
    script.told();
    script.signal(Signal::TERM);
    script.when("spawn on_demote");
    script.ends("on_demote", 0);
    script.until(9_000);
    assert!(!script.told().iter().any(|told| told.contains("on_change")));
    // A replica that stops is one until its end.
    let mut script = Script::candidate(draining(When::Replica));
    script.sees_lock(held("other", 9, 3));
    script.told();
    script.signal(Signal::TERM);
    script.sees("app", &["a"]);
    script.tells(&["spawn on_change of app"]);
}
