//! Tasks on the real program: when they run, what is left of them, who may run them and what is told of them.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::election::leading::{Place, leader_is};
use crate::support::lab::Lab;
use crate::support::namespace::eventually;

const TERM: i32 = 15;

/// A main that lives, and this.
fn lab(more: &str) -> Lab {
    Lab::new(&format!("[process]\nexec = [\"sleep\", \"1000\"]\n{more}"))
}

/// A task of this script.
fn task(name: &str, script: &str, more: &str) -> String {
    format!("[[task]]\nname = \"{name}\"\nexec = [\"sh\", \"-c\", '''{script}''']\n{more}\n")
}

fn status_of(lab: &Lab, name: &str) -> Value {
    let status: Value = serde_json::from_str(&lab.ask(&["status", "--json"]).1).unwrap();
    let tasks = status["tasks"].as_array().unwrap();
    tasks.iter().find(|task| task["name"] == name).unwrap().clone()
}

#[test]
fn a_task_runs_each_interval_and_its_end_is_in_status_and_metrics() {
    let lab =
        lab(&task("tick", "echo ran in $PILOTFISH_TASK as $PILOTFISH_EVENT >> DIR/story; exit 3", "every = \"300ms\""));
    let container = lab.run();
    let began = Instant::now();
    eventually("five runs", || (lab.story().len() >= 5).then_some(())).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(1_100), "{:?}", began.elapsed());
    assert_eq!(lab.story()[0], "ran in tick as task");
    let status = status_of(&lab, "tick");
    assert_eq!(status["last"]["code"], 3);
    assert!(status["failed"].as_u64() >= Some(4) && status["succeeded"] == 0, "{status}");
    let (_, table, _) = lab.ask(&["status"]);
    assert!(table.contains("TASK") && table.contains("tick"), "{table}");
    assert!(container.stderr().contains("task tick failed: exited with code 3"), "{}", container.stderr());
}

#[test]
fn a_crontabs_task_runs_at_its_minute() {
    // Each minute of a zone written out: at most a minute away.
    let lab = lab(&task("tick", "date +%S >> DIR/story", "cron = \"* * * * *\"\ntz = \"XYZ-3\""));
    let _container = lab.run();
    let next = status_of(&lab, "tick")["next"].as_str().unwrap().to_owned();
    assert!(next.ends_with(":00Z"), "{next}");
    let due = humantime::parse_rfc3339(&next).unwrap();
    let left = due.duration_since(std::time::SystemTime::now()).unwrap_or_default();
    assert!(left <= Duration::from_secs(60), "{left:?}");
    std::thread::sleep(left);
    let second = eventually("the run", || lab.story().first().cloned()).unwrap();
    assert!(second.parse::<u32>().unwrap() < 10, "at second {second}");
}

#[test]
fn a_task_past_its_timeout_leaves_nothing_behind() {
    let script =
        "trap '' TERM; setsid sh -c \"trap '' TERM; while :; do sleep 0.1; done\" & while :; do sleep 0.1; done";
    let lab = lab(&task("hang", script, "every = \"1h\"\ntimeout = \"300ms\"\nat_start = true"));
    let container = lab.run();
    eventually("the timeout", || (status_of(&lab, "hang")["last"]["code"] == 124).then_some(())).unwrap();
    let alone = eventually("main alone", || (container.children().len() == 1).then_some(()));
    alone.unwrap_or_else(|error| panic!("{error}: {:?}", container.children()));
}

#[test]
fn a_person_gets_the_code_of_the_very_run_that_they_ordered() {
    // By hand it takes so long that the client looks each second; a run in its turn comes well before it looks again.
    let script = "if mv DIR/by-hand DIR/taken 2>/dev/null; then sleep 1.6; exit 3; fi; echo ran >> DIR/story";
    let lab = lab(&task("often", script, "every = \"100ms\"\ntimeout = \"10s\""));
    let _container = lab.run();
    eventually("a run in its turn", || (!lab.story().is_empty()).then_some(())).unwrap();
    // What runs in its turn just then may take the marker, and the one by hand is refused.
    let run = || {
        std::fs::write(lab.path("by-hand"), "").unwrap();
        let (code, _, errors) = lab.ask(&["task", "run", "often"]);
        (code != 125).then_some((code, errors))
    };
    let (code, errors) = eventually("a run by hand", run).unwrap();
    assert_eq!((code, errors.contains("exited with code 3 after 1.")), (3, true), "{errors}");
}

#[test]
fn a_person_runs_a_task_and_gets_its_code() {
    let lab = lab(&(task("three", "echo working; exit 3", "every = \"1h\"")
        + &task("fine", "sleep 0.3; echo done >> DIR/story", "cron = \"@yearly\"")));
    let container = lab.run();
    let (code, _, errors) = lab.ask(&["task", "run", "three"]);
    assert_eq!((code, errors.contains("task three exited with code 3")), (3, true), "{errors}");
    assert!(container.stderr().contains("working"), "{}", container.stderr());
    let (code, said, _) = lab.ask(&["task", "run", "fine"]);
    assert_eq!((code, said.contains("task fine succeeded after 0.")), (0, true), "{said}");
    assert_eq!(lab.story(), ["done"]);
    let (code, _, errors) = lab.ask(&["task", "run", "fnie"]);
    assert_eq!((code, errors.contains("there is no task fnie; there are three, fine")), (125, true), "{errors}");
    let (code, said, _) = lab.ask(&["task", "run", "--detach", "fine"]);
    assert_eq!((code, said.contains("task fine started")), (0, true), "{said}");
    let (code, _, errors) = lab.ask(&["task", "run", "fine"]);
    assert_eq!((code, errors.contains("task fine still runs")), (125, true), "{errors}");
    // One that the container's end cuts short.
    eventually("its end", || (status_of(&lab, "fine")["running"] == false).then_some(())).unwrap();
}

#[test]
fn a_stop_ends_a_task_first_and_takes_no_longer_for_it() {
    let script = "trap 'echo task ends >> DIR/story; exit 0' TERM; while :; do sleep 0.05; done";
    let main = "trap 'sleep 0.2; echo main ends >> DIR/story; exit 7' TERM; while :; do sleep 0.05; done";
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", '''{main}''']\n{}",
        task("long", script, "every = \"1h\"\nat_start = true")
    ));
    let mut container = lab.run();
    eventually("the task", || (status_of(&lab, "long")["running"] == true).then_some(())).unwrap();
    let began = Instant::now();
    container.signal(TERM);
    assert_eq!(container.wait().unwrap(), 7);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(lab.story(), ["task ends", "main ends"]);
}

#[test]
fn one_leaders_task_never_runs_beside_the_next_ones() {
    let place = Place::local();
    // Each run says when it begins and ends; whoever sees another's is beside it.
    let script = "ls -l /proc/$$/fd >> SHARED/fds; if mkdir SHARED/busy; then echo begin $PILOTFISH_TERM >> SHARED/story; else echo BESIDE >> SHARED/story; fi; \
        trap 'sleep 0.2; rmdir SHARED/busy; echo end $PILOTFISH_TERM >> SHARED/story; exit 0' TERM; \
        while :; do sleep 0.02; done";
    let shared = tempfile::tempdir().unwrap();
    let script = script.replace("SHARED", shared.path().to_str().unwrap());
    let candidate = |id: &str| {
        lab(&format!(
            "{}[[service]]\nname = \"db\"\nid = \"{id}\"\nport = 80\naddress = [\"static:127.0.0.1\"]\n\
             [election]\nname = \"db\"\nmode = \"role\"\n[hooks]\non_demote = {{ exec = [\"true\"] }}\n[catalog]\n{}\n",
            task("busy", &script, "every = \"1h\"\nat_start = true\nwhen = \"leader\""),
            place.catalog(),
        ))
    };
    let labs = [candidate("a"), candidate("b")];
    let first = labs[0].run();
    leader_is(&labs[0], "a");
    let _both = [first, labs[1].run()];
    let story = || std::fs::read_to_string(shared.path().join("story")).unwrap_or_default();
    let mut at = 0;
    leader_is(&labs[1], "a");
    for handover in 1..=4 {
        eventually("its task", || (story().matches("begin").count() == handover).then_some(())).unwrap();
        assert_eq!(labs[at].ask(&["step-down", "--wait"]).0, 0);
        at = 1 - at;
    }
    eventually("the last one's task", || (story().matches("begin").count() == 5).then_some(())).unwrap();
    // With its container killed, nobody leads before it is gone: it holds the lock, as main does.
    let fds = std::fs::read_to_string(shared.path().join("fds")).unwrap();
    let Place::Local(catalog) = &place else { panic!("a directory") };
    assert!(fds.matches(catalog.path().to_str().unwrap()).count() >= 5, "{fds}");
    let story = story();
    assert!(!story.contains("BESIDE"), "{story}");
    let steps: Vec<&str> = story.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(steps.chunks(2).take(4).all(|pair| pair == ["begin", "end"]), "{story}");
}

#[test]
fn a_containerpilot_files_task_runs_as_it_is() {
    let lab = Lab::new("");
    let dir = lab.path("");
    let file = lab.path("containerpilot.json");
    let text = r#"{
        "consul": "127.0.0.1:1",
        "services": [],
        "tasks": [{ "name": "tick", "command": ["sh", "-c", "echo ran >> DIR/story"], "frequency": "300ms" }]
    }"#;
    let text = text.replace("DIR", dir.to_str().unwrap().trim_end_matches('/'));
    std::fs::write(&file, text).unwrap();
    let argv = [
        crate::support::namespace::pilotfish().into_os_string(),
        "-c".into(),
        file.into(),
        "--".into(),
        "sleep".into(),
    ];
    let container = crate::support::namespace::Start::new(argv.into_iter().chain(["1000".into()])).run().unwrap();
    let ran = eventually("two runs", || (lab.story().len() >= 2).then_some(()));
    ran.unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
}
