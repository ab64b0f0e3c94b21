//! How a container takes and leaves its role when hooks are slow or fail, and who takes it, on the real program and
//! `local`. The ordinary course is in tests/leading.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use crate::lab::Lab;
use crate::leading::{Place, leader_is};

/// A candidate of `db` whose hooks are these; each script is in single quotes of TOML.
fn candidate(place: &Place, id: &str, election: &str, hooks: &[(&str, &str)]) -> Lab {
    let hooks: String = hooks
        .iter()
        .map(|(name, script)| format!("{name} = {{ exec = [\"sh\", \"-c\", '''{script}'''], timeout = \"20s\" }}\n"))
        .collect();
    Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", 'echo main $PILOTFISH_ROLE >> DIR/story; exec sleep 1000']\n\
         [hooks]\n{hooks}[[service]]\nname = \"db\"\nid = \"{id}\"\nport = 3306\naddress = [\"static:192.0.2.1\"]\n\
         [catalog]\n{}\n[election]\nname = \"db\"\n{election}\n",
        place.catalog()
    ))
}

const PROMOTED: (&str, &str) = ("on_promote", "echo promoted >> DIR/story");
const DEMOTED: (&str, &str) = ("on_demote", "echo demoted >> DIR/story");

#[test]
fn a_hook_that_has_main_follow_another_is_over_before_main_is_promoted() {
    let place = Place::local();
    // What it forks takes its time to end.
    let follow = "echo following >> DIR/story
        (trap \"sleep 0.3; echo followed >> DIR/story; exit\" TERM; sleep 10 & wait) & wait";
    let hooks = [PROMOTED, DEMOTED, ("on_leader_change", follow)];
    let [first, second, third] = ["first", "second", "third"].map(|id| candidate(&place, id, "", &hooks));
    let _first = first.run();
    first.told("promoted");
    let _second = second.run();
    let _third = third.run();
    second.told("main replica");
    third.told("main replica");
    assert_eq!(first.ask(&["step-down", "--to", "second"]).0, 0);
    second.told("promoted");
    third.told("following");
    assert_eq!(second.ask(&["step-down", "--to", "third"]).0, 0);
    third.told("promoted");
    leader_is(&third, "third");
    assert_eq!(third.story(), ["main replica", "following", "followed", "promoted"]);
}

#[test]
fn a_main_that_on_demote_stops_keeps_the_lock_until_on_demote_is_done() {
    let place = Place::local();
    let demote = "kill $PILOTFISH_MAIN_PID; sleep 1; echo demoted >> DIR/story";
    let first = candidate(&place, "first", "", &[PROMOTED, ("on_demote", demote)]);
    let mut running = first.run();
    first.told("promoted");
    let watch = first.path("story").display().to_string();
    let promote = format!("tail -n 1 {watch} > DIR/before; echo promoted >> DIR/story");
    let second = candidate(&place, "second", "", &[("on_promote", &promote)]);
    let _second = second.run();
    second.told("main replica");
    assert_eq!(first.ask(&["step-down"]).0, 0);
    second.told("promoted");
    assert_eq!(running.wait(), Ok(143));
    assert_eq!(std::fs::read_to_string(second.path("before")).unwrap(), "demoted\n");
}
