//! A quorum of ranks on the real program: who holds the lock and knows too little doesn't lead, and goes on by itself. The
//! order of each step is in the core's tests and in the model.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::time::Duration;

use crate::election::leading::{Place, leader_is};
use crate::support::lab::Lab;
use crate::support::namespace::eventually;

/// A candidate of `db` that must know two ranks; its own is what its file says.
fn candidate(place: &Place, id: &str, rank: &str) -> Lab {
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", 'echo main $PILOTFISH_ROLE >> DIR/story; exec sleep 1000']\n\
         [hooks]\non_promote = {{ exec = [\"sh\", \"-c\", 'echo promoted >> DIR/story'] }}\n\
         on_demote = {{ exec = [\"true\"], timeout = \"2s\" }}\n\
         [[service]]\nname = \"db\"\nid = \"{id}\"\nport = 3306\naddress = [\"static:192.0.2.1\"]\n\
         [catalog]\n{}\n[election]\nname = \"db\"\n{}\n\
         rank = {{ exec = [\"sh\", \"-c\", '. DIR/rank'], timeout = \"1s\", quorum = 2 }}\n",
        place.catalog(),
        place.lease()
    ));
    ranks(&lab, &format!("echo {rank}"));
    lab
}

fn ranks(lab: &Lab, script: &str) {
    fs::write(lab.path("rank"), script).unwrap();
}

/// Waits until the status says this.
#[track_caller]
fn status_says(lab: &Lab, words: &str) {
    let said = eventually(words, || lab.ask(&["status"]).1.contains(words).then_some(()));
    said.unwrap_or_else(|error| panic!("{error}: {}", lab.ask(&["status"]).1));
}

#[test]
fn one_that_comes_back_alone_doesnt_lead_before_it_knows_how_far_another_is() {
    for place in Place::all() {
        let [one, two] =
            [("one", "00000002/0000000A"), ("two", "00000002/00000009")].map(|(id, rank)| candidate(&place, id, rank));
        let mut first = one.run();
        status_says(&one, "2 ranks are needed, known are those of one");
        std::thread::sleep(Duration::from_secs(3));
        assert!(one.story().is_empty(), "{:?}", one.story());
        let second = two.run();
        one.told("promoted");
        two.told("main replica");
        assert_eq!(first.stderr().matches("not leading yet").count(), 1, "{}", first.stderr());
        // And who is further ahead gets the lock, though the other one took it.
        ranks(&two, "echo 00000003/00000000");
        first.signal(libc::SIGKILL);
        first.wait().expect("it is gone");
        let third = one.run();
        eventually("somebody leads", || (two.ask(&["leader"]).0 == 0).then_some(())).unwrap();
        leader_is(&one, "two");
        two.told("promoted");
        drop((second, third));
    }
}

#[test]
fn one_that_is_further_ahead_is_waited_for_while_it_is_in_maintenance() {
    let place = Place::local();
    let [one, two] = [("one", "5"), ("two", "9")].map(|(id, rank)| candidate(&place, id, rank));
    let _second = two.run();
    assert_eq!(two.ask(&["maintenance", "on"]).0, 0);
    let _first = one.run();
    status_says(&one, "two is further ahead");
    assert_eq!(two.ask(&["maintenance", "off"]).0, 0);
    two.told("promoted");
    assert_eq!(one.story(), ["main replica"]);
}

#[test]
fn a_person_can_have_one_lead_that_knows_too_little_but_none_that_has_nothing() {
    for place in Place::all() {
        let one = candidate(&place, "one", "never");
        let mut first = one.run();
        status_says(&one, "known are those of nobody");
        assert_ne!(one.ask(&["promote", "--accept-loss"]).0, 0);
        ranks(&one, "echo 5");
        status_says(&one, "known are those of one");
        assert_eq!(one.ask(&["promote"]).0, 64, "it must be said");
        assert!(!place.last("db").contains("loss_accepted"));
        assert_eq!(one.ask(&["promote", "--accept-loss"]).0, 0);
        one.told("promoted");
        status_says(&one, "it was promoted by hand, whatever was lost by it");
        // Who comes later finds it in the store, also once the lock is given back.
        let written = || place.last("db").contains("\"loss_accepted\":true").then_some(());
        eventually("`last` says so", written).unwrap();
        first.signal(libc::SIGTERM);
        first.wait().expect("it ends");
        eventually("`last` still says so", written).unwrap();
    }
}

#[test]
fn an_empty_directory_never_leads_where_somebody_has_led() {
    let place = Place::local();
    let empty = "[ \"$PILOTFISH_FIRST\" = 1 ] && echo 0 || echo never";
    let [one, two, three] = ["one", "two", "three"].map(|id| candidate(&place, id, "0"));
    for lab in [&one, &two, &three] {
        ranks(lab, empty);
    }
    // Nobody has ever led: the empty ones may begin.
    let first = one.run();
    let second = two.run();
    eventually("somebody leads", || (one.ask(&["wait", "leader", "--timeout", "1s"]).0 == 0).then_some(())).unwrap();
    drop((first, second));
    let _third = three.run();
    status_says(&three, "holding the lock");
    std::thread::sleep(Duration::from_secs(2));
    assert!(three.story().is_empty(), "{:?}", three.story());
    // Whoever has something, and another one that knows, go on.
    ranks(&one, "echo 7");
    ranks(&two, "echo 6");
    let _others = [one.run(), two.run()];
    leader_is(&three, "one");
}

#[test]
fn a_rank_command_that_hangs_costs_its_timeout_and_what_it_would_have_known() {
    let place = Place::local();
    let [one, two, three] = ["one", "two", "three"].map(|id| candidate(&place, id, "5"));
    ranks(&two, "sleep 1000");
    let _two = two.run();
    let _one = one.run();
    eventually("it waits", || one.ask(&["status"]).1.contains("known are those of").then_some(())).ok();
    let _three = three.run();
    eventually("somebody leads", || (three.ask(&["wait", "leader", "--timeout", "1s"]).0 == 0).then_some(())).unwrap();
    assert_eq!(two.story().iter().filter(|line| *line == "promoted").count(), 0, "it has no rank");
}
