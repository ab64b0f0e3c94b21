//! How a container takes and leaves its role when hooks are slow or fail, and who takes it, on the real program and
//! `local`. The ordinary course is in tests/election/leading.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use crate::election::leading::{Place, leader_is};
use crate::support::lab::Lab;
use crate::support::namespace::eventually;

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

#[test]
fn what_a_standbys_pre_start_left_is_gone_before_the_next_leads() {
    let place = Place::local();
    let leaves = "(trap 'sleep 0.5; echo left is gone >> DIR/story; exit' TERM; while :; do sleep 0.05; done) &";
    let first = candidate(&place, "first", "mode = \"standby\"", &[("pre_start", leaves), PROMOTED]);
    let _first = first.run();
    first.told("promoted");
    let story = first.path("story").display().to_string();
    let promote = format!("tail -n 1 {story} > DIR/before; echo promoted >> DIR/story");
    let second = candidate(&place, "second", "mode = \"standby\"", &[("on_promote", &promote)]);
    let _second = second.run();
    leader_is(&second, "first");
    assert_eq!(first.ask(&["step-down"]).0, 0);
    second.told("promoted");
    assert_eq!(std::fs::read_to_string(second.path("before")).unwrap(), "left is gone\n");
}

/// With pilotfish dies, by the kernel's hand, neither a daemon that was followed nor a main that has become another user
/// since (prctl(2), PR_SET_PDEATHSIG), and both close what they inherited.
#[test]
fn where_pilotfish_is_not_pid_1_nothing_that_acts_for_it_outlives_it() {
    let acts = "for fd in /proc/$BASHPID/fd/*; do fd=${fd##*/}; [ $fd -lt 3 ] || eval \"exec $fd>&-\"; done; \
                echo $BASHPID > DIR/acts; exec sleep 1000";
    let daemon = format!("({acts}) & until [ -s DIR/acts ]; do sleep 0.01; done");
    let other = format!("exec setpriv --reuid 65534 --regid 65534 --clear-groups bash -c '{acts}'");
    for (main, background) in [(daemon, "background = \"follow\"\n"), (other, "")] {
        let place = Place::local();
        let first = candidate(&place, "first", "mode = \"standby\"", &[PROMOTED]);
        let directory = first.path("").display().to_string();
        std::fs::write(first.path("main"), main.replace("DIR/", &directory)).unwrap();
        let config = std::fs::read_to_string(first.path("pilotfish.toml")).unwrap();
        let (_, others) = config.split_once("[hooks]").unwrap();
        first.write(&format!("[process]\n{background}exec = [\"bash\", \"{directory}main\"]\n[hooks]{others}"));
        std::fs::write(first.path("acts"), "").unwrap();
        std::fs::set_permissions(first.path("acts"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let running = first.run_as(first.start().ordinary());
        first.told("promoted");
        let pid = eventually("who acts", || {
            let pid = std::fs::read_to_string(first.path("acts")).unwrap();
            (!pid.is_empty()).then_some(pid)
        });
        let acts = format!("/proc/{}/exe", pid.unwrap().trim());
        let second = candidate(&place, "second", "mode = \"standby\"", &[PROMOTED]);
        let _second = second.run();
        leader_is(&second, "first");
        assert!(std::fs::read_link(&acts).is_ok(), "{}", running.stderr());
        // The guard looks each second, though no time ends this lead.
        std::thread::sleep(std::time::Duration::from_secs(5));
        assert!(!running.stderr().contains("the guard hasn't run for"), "{}", running.stderr());
        running.signal(libc::SIGKILL);
        second.told("promoted");
        assert!(std::fs::read_link(&acts).is_err(), "it acts beside the next leader: {}", running.stderr());
    }
}

#[test]
fn a_winner_hands_over_to_one_that_is_further_ahead() {
    let place = Place::local();
    let rank = |rank: u32| format!("rank = {{ exec = [\"echo\", \"{rank}\"], timeout = \"500ms\" }}");
    let candidates = [("leader", 5), ("behind", 1), ("ahead", 3)]
        .map(|(id, own)| candidate(&place, id, &rank(own), &[PROMOTED, DEMOTED]));
    let [leader, behind, ahead] = &candidates;
    let first = leader.run();
    leader.told("promoted");
    let _others = [behind.run(), ahead.run()];
    behind.told("main replica");
    ahead.told("main replica");
    first.signal(libc::SIGKILL);
    ahead.told("promoted");
    leader_is(behind, "ahead");
    assert_eq!(behind.story(), ["main replica"], "it never led");
}

#[test]
fn one_that_is_preferred_less_leads_when_nobody_else_does_and_never_means_never() {
    let place = Place::local();
    let [never, low, normal] = [("never", "prefer = \"never\""), ("low", "prefer = \"low\""), ("normal", "")]
        .map(|(id, prefer)| candidate(&place, id, prefer, &[PROMOTED, DEMOTED]));
    let _never = never.run();
    // It needs no leader to start, for it won't be one.
    never.told("main replica");
    let _low = low.run();
    low.told("promoted");
    let running = normal.run();
    normal.told("main replica");
    assert_eq!(low.ask(&["step-down"]).0, 0);
    normal.told("promoted");
    running.signal(libc::SIGKILL);
    leader_is(&low, "low");
    assert_eq!(never.story(), ["main replica"]);
}

#[test]
fn a_promotion_that_fails_is_undone_and_leaves_the_lock_to_another() {
    let place = Place::local();
    let failing = ("on_promote", "echo failing >> DIR/story; exit 3");
    let first = candidate(&place, "first", "", &[failing, DEMOTED]);
    let _first = first.run();
    first.told("demoted");
    let second = candidate(&place, "second", "", &[PROMOTED]);
    let _second = second.run();
    second.told("promoted");
    leader_is(&first, "second");
    // Main and its promotion write at the same time.
    let (mains, tries): (Vec<_>, Vec<_>) = first.story().into_iter().partition(|line| line.starts_with("main"));
    assert_eq!(mains, ["main leader"], "main ran on");
    assert!(tries.chunks(2).all(|tries| tries == ["failing", "demoted"]), "{tries:?}");
    assert!(first.ask(&["status"]).1.contains("replica of db: following; second"));
}

/// Each has the lock for as long as it takes to find out, and then a pause of its own: nobody waits for anybody's.
#[test]
fn three_candidates_whose_promotions_fail_take_turns_until_one_succeeds() {
    let place = Place::local();
    let ranked = "rank = { exec = [\"echo\", \"7\"], timeout = \"1s\", quorum = 2 }";
    let script = "[ -e DIR/mended ] && echo promoted >> DIR/story && exit; echo failing >> DIR/story; exit 3";
    let all = ["one", "two", "three"].map(|id| candidate(&place, id, ranked, &[("on_promote", script), DEMOTED]));
    let _running = all.each_ref().map(Lab::run);
    for lab in &all {
        lab.told("failing");
    }
    let [_, _, third] = &all;
    std::fs::write(third.path("mended"), "").unwrap();
    third.told("promoted");
    leader_is(&all[0], "three");
    assert!(all[..2].iter().all(|lab| !lab.story().contains(&"promoted".to_owned())));
}

#[test]
fn a_start_without_a_catalog_waits_or_is_a_replica_as_configured() {
    let [waits, starts] = ["wait", "replica"]
        .map(|how| candidate(&Place::Nowhere, "one", &format!("without_catalog = \"{how}\""), &[PROMOTED]));
    let _waits = waits.run();
    let _starts = starts.run();
    starts.told("main replica");
    assert!(waits.story().is_empty());
    assert!(waits.ask(&["status"]).1.contains("waiting for the election's result"));
}

/// Whoever initialises does so in `pre_start`; what begins to act, with main's promotion, may have taken writes.
#[test]
fn one_that_dies_while_it_initialises_leaves_it_to_the_next_and_one_that_has_begun_to_act_does_not() {
    // Each waits for two leases, so they wait together.
    let places = Place::all();
    std::thread::scope(|scope| {
        for place in &places {
            scope.spawn(|| the_first_is_the_first_until_it_acts(place));
        }
    });
}

fn the_first_is_the_first_until_it_acts(place: &Place) {
    let lease = if matches!(place, Place::Local(_)) { "" } else { "lease = \"12s\"" };
    let run = |id: &str, pre_start: &str, on_promote: &str| {
        let tells = |name: &str, then: &str| format!("echo {name} first=$PILOTFISH_FIRST >> DIR/story; {then}");
        let (pre_start, on_promote) = (tells("pre_start", pre_start), tells("on_promote", on_promote));
        candidate(place, id, lease, &[("pre_start", &pre_start), ("on_promote", &on_promote)])
    };
    let initialises = run("one", "exec sleep 1000", "true");
    let running = initialises.run();
    initialises.told("pre_start first=1");
    running.signal(libc::SIGKILL);

    let begins = run("two", "true", "exec sleep 1000");
    let running = begins.run();
    begins.told("on_promote first=1");
    running.signal(libc::SIGKILL);

    let next = run("three", "true", "true");
    let _running = next.run();
    next.told("on_promote first=");
    assert!(!next.story().iter().any(|line| line.ends_with("=1")), "{:?}", next.story());
}
