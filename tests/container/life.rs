//! A container's life from start to end, on the real program as PID 1 with the `local` catalog: what happens, in which
//! order, and with which exit code.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::hang::Hanging;
use crate::support::lab::Lab;
use crate::support::namespace::{Container, eventually, status_line};

const TERM: i32 = 15;
const QUIT: i32 = 3;
const HUP: i32 = 1;
const USR1: i32 = 10;

/// Main that tells when it starts and when it is told to stop.
const MAIN: &str = r#"
[process]
exec = ["sh", "-c", "trap 'echo term >> DIR/story; exit 3' TERM; echo main >> DIR/story; while :; do sleep 0.02; done"]
"#;

const LOCAL: &str = r#"
[catalog]
backend = "local"
directory = "DIR/catalog"
"#;

fn tells(hook: &str, word: &str) -> String {
    format!("[hooks.{hook}]\nexec = [\"sh\", \"-c\", \"echo {word} >> DIR/story\"]\n")
}

fn log_says(container: &Container, text: &str) {
    eventually(text, || container.stderr().contains(text).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
}

fn instances(lab: &Lab, service: &str) -> usize {
    fs::read_dir(lab.path("catalog/pilotfish/services").join(service)).map_or(0, |entries| entries.count())
}

#[test]
fn hooks_run_in_their_order_and_main_gives_the_code() {
    let hooks = [tells("pre_start", "pre_start"), tells("pre_stop", "pre_stop"), tells("post_stop", "post_stop")];
    let lab = Lab::new(&format!("{MAIN}{}", hooks.concat()));
    let mut container = lab.run();
    lab.told("main");
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    assert_eq!(lab.story(), ["pre_start", "main", "pre_stop", "term", "post_stop"]);
}

#[test]
fn a_service_is_in_the_catalog_while_main_runs_and_gone_before_post_stop() {
    let lab = Lab::new(&format!(
        "{MAIN}{LOCAL}[[service]]\nname = \"web\"\nport = 80\naddress = [\"static:10.0.0.1\"]\n\
         [hooks]\npost_stop = {{ exec = [\"sh\", \"-c\", \"ls DIR/catalog/pilotfish/services/web | wc -l >> DIR/story\"] }}\n"
    ));
    let mut container = lab.run();
    eventually("the entry", || (instances(&lab, "web") == 1).then_some(())).unwrap();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    assert_eq!(lab.story().last().map(|line| line.trim().to_owned()), Some("0".to_owned()));
}

#[test]
fn main_waits_for_a_service_and_then_starts() {
    let lab = Lab::new(&format!("{MAIN}{LOCAL}[[wait_for]]\nservice = \"db\"\ntimeout = \"60s\"\n"));
    let mut waiting = lab.run();
    log_says(&waiting, "waiting for service db");
    assert!(lab.story().is_empty());
    let other = Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n{}[[service]]\nname = \"db\"\nport = 1\naddress = [\"static:10.0.0.2\"]\n",
        LOCAL.replace("DIR", lab.path("").to_str().unwrap().trim_end_matches('/'))
    ));
    let _db = other.run();
    lab.told("main");
    waiting.signal(TERM);
    assert_eq!(waiting.wait(), Ok(3));
}

#[test]
fn main_waits_for_a_key() {
    let lab = Lab::new(&format!("{MAIN}{LOCAL}[[wait_for]]\nkey = \"snapshot\"\ntimeout = \"60s\"\n"));
    let waiting = lab.run();
    log_says(&waiting, "waiting for key snapshot");
    assert!(lab.story().is_empty());
    let keys = lab.path("catalog/pilotfish/keys");
    eventually("the keys' directory", || keys.is_dir().then_some(())).unwrap();
    fs::write(keys.join(".new"), "ready").unwrap();
    fs::rename(keys.join(".new"), keys.join("snapshot")).unwrap();
    lab.told("main");
}

#[test]
fn sigterm_ends_the_container_in_every_phase() {
    let phases = [
        ("wait_for", format!("{LOCAL}[[wait_for]]\nservice = \"never\"\n"), "waiting for service never", 143),
        ("pre_start", "[hooks.pre_start]\nexec = [\"sleep\", \"1000\"]\n".to_owned(), "", 143),
        (
            "pre_start's backoff",
            "[hooks.pre_start]\nexec = [\"false\"]\nretries = 9\nbackoff = \"60s..60s\"\n".to_owned(),
            "tried again",
            143,
        ),
        (
            "health",
            "[[health]]\nexec = [\"sleep\", \"1000\"]\ninterval = \"1000s\"\ntimeout = \"1000s\"\n".to_owned(),
            "main runs",
            3,
        ),
        ("pre_stop", "[hooks.pre_stop]\nexec = [\"sleep\", \"1000\"]\n".to_owned(), "main runs", 3),
    ];
    for (phase, config, sign, code) in phases {
        let lab = Lab::new(&format!("{MAIN}{config}[stop]\nwithin = \"4s\"\n"));
        let mut container = lab.run();
        log_says(&container, sign);
        if sign.contains("main runs") {
            lab.told("main");
        }
        let begun = Instant::now();
        container.signal(TERM);
        assert_eq!(container.wait(), Ok(code), "{phase}: {}", container.stderr());
        assert!(begun.elapsed() < Duration::from_secs(10), "{phase} took {:?}", begun.elapsed());
    }
}

#[test]
fn sigterm_during_the_backoff_of_main_ends_with_its_last_code() {
    let lab = Lab::new(
        "[process]\nexec = [\"sh\", \"-c\", \"exit 9\"]\nrestart = { policy = \"always\", backoff = \"60s..60s\" }\n",
    );
    let mut container = lab.run();
    log_says(&container, "main starts again");
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(9));
}

#[test]
fn the_second_signal_skips_a_hook_that_hangs_and_the_third_kills() {
    let stubborn = MAIN.replace("exit 3", "echo again >> DIR/story");
    let lab =
        Lab::new(&format!("{stubborn}[hooks.pre_stop]\nexec = [\"sleep\", \"1000\"]\n[stop]\nwithin = \"100s\"\n"));
    let mut container = lab.run();
    lab.told("main");
    container.signal(TERM);
    log_says(&container, "stopping within");
    container.signal(TERM);
    lab.told("term");
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(137));
}

#[test]
fn a_drain_passes_before_main_is_told_and_a_stop_at_the_door_is_a_stop() {
    let lab = Lab::new(&format!("{MAIN}[stop]\ndrain = \"500ms\"\n"));
    let mut container = lab.run();
    lab.told("main");
    let begun = Instant::now();
    assert_eq!(lab.ask(&["stop"]).0, 0);
    assert_eq!(container.wait(), Ok(3));
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[test]
fn a_main_that_ignores_its_stop_is_killed_within_the_time() {
    let lab = Lab::new(&format!("{}[stop]\nwithin = \"1s\"\n", MAIN.replace("exit 3", "true")));
    let mut container = lab.run();
    lab.told("main");
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(137));
}

#[test]
fn a_failing_main_is_restarted_until_its_budget_is_spent() {
    let lab = Lab::new(
        "[process]\nexec = [\"sh\", \"-c\", \"echo main >> DIR/story; exit 5\"]\n\
         restart = { policy = \"on-failure\", max = 3, within = \"1m\", backoff = \"10ms..20ms\" }\n",
    );
    let mut container = lab.start().run().unwrap();
    assert_eq!(container.wait(), Ok(5));
    assert_eq!(lab.story().len(), 4);
}

#[test]
fn a_main_that_ends_by_a_forwarded_quit_is_not_restarted() {
    let main = MAIN.replace("TERM", "QUIT").replace("exit 3", "exit 0");
    let lab = Lab::new(&format!("{main}restart = {{ policy = \"always\" }}\n"));
    let mut container = lab.run();
    lab.told("main");
    container.signal(QUIT);
    assert_eq!(container.wait(), Ok(0));
    assert_eq!(lab.story(), ["main", "term"]);
}

#[test]
fn pre_start_that_fails_ends_the_container_with_its_code_after_its_retries() {
    let lab = Lab::new(&format!(
        "{MAIN}[hooks.pre_start]\nexec = [\"sh\", \"-c\", \"echo try >> DIR/story; exit 3\"]\n\
         retries = 2\nbackoff = \"10ms..10ms\"\n"
    ));
    let mut container = lab.start().run().unwrap();
    assert_eq!(container.wait(), Ok(3));
    assert_eq!(lab.story(), ["try", "try", "try"]);
}

#[test]
fn exit_codes_are_mapped_as_configured() {
    let lab = Lab::new("[process]\nexec = [\"sh\", \"-c\", \"exit 4\"]\nexit_codes = { 4 = 0 }\n");
    assert_eq!(lab.start().run().unwrap().wait(), Ok(0));
}

#[test]
fn rewritten_signals_reach_main_as_others() {
    let main = MAIN.replace("TERM", "USR2").replace("exit 3", "exit 6");
    let lab = Lab::new(&format!("{main}rewrite_signals = {{ USR1 = \"USR2\", HUP = \"\" }}\n"));
    let mut container = lab.run();
    lab.told("main");
    container.signal(HUP);
    container.signal(USR1);
    assert_eq!(container.wait(), Ok(6));
}

#[test]
fn a_main_that_stops_by_another_signal_gets_that_in_place_of_term() {
    let main = MAIN.replace("TERM", "QUIT");
    let lab = Lab::new(&format!("{main}rewrite_signals = {{ TERM = \"QUIT\" }}\n"));
    let mut container = lab.run();
    lab.told("main");
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    // Dropped, it stops nothing.
    let lab = Lab::new(&format!("{main}rewrite_signals = {{ TERM = \"\" }}\n"));
    let mut container = lab.run();
    lab.told("main");
    container.signal(TERM);
    container.signal(QUIT);
    assert_eq!(container.wait(), Ok(3));
}

#[test]
fn three_hundred_hups_in_a_row_reload_and_harm_nothing() {
    let lab = Lab::new(&format!("[control]\nsocket = \"DIR/control.sock\"\nsignals = true\n{MAIN}"));
    let mut container = lab.run();
    lab.told("main");
    for _ in 0..300 {
        container.signal(HUP);
    }
    log_says(&container, "config read again");
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    assert_eq!(lab.story(), ["main", "term"]);
}

#[test]
fn a_reload_takes_new_services_and_leaves_main_alone() {
    let service = |name: &str| format!("[[service]]\nname = \"{name}\"\nport = 80\naddress = [\"static:10.0.0.1\"]\n");
    let lab = Lab::new(&format!("{MAIN}{LOCAL}{}", service("old")));
    let mut container = lab.run();
    eventually("the old entry", || (instances(&lab, "old") == 1).then_some(())).unwrap();
    lab.write(&format!("{MAIN}{LOCAL}{}", service("new")));
    let (code, answer, error) = lab.ask(&["reload"]);
    assert!(code == 0 && answer.contains("[[service]]"), "{answer}{error}");
    eventually("the change", || (instances(&lab, "new") == 1 && instances(&lab, "old") == 0).then_some(())).unwrap();
    assert_eq!(lab.story(), ["main"]);
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
}

/// An instance of `app` in a lab's catalog.
fn backend(lab: &Lab, id: &str) -> Lab {
    Lab::new(&format!(
        "[process]\nexec = [\"sleep\", \"1000\"]\n{}[[service]]\nname = \"app\"\nid = \"{id}\"\nport = 7\naddress = [\"static:10.0.0.2\"]\n",
        LOCAL.replace("DIR", lab.path("").to_str().unwrap().trim_end_matches('/'))
    ))
}

/// Waits until a lab's template has become this.
fn rendered(lab: &Lab, text: &str, container: &Container) {
    eventually(text, || fs::read_to_string(lab.path("out.conf")).is_ok_and(|now| now == text).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
}

#[test]
fn a_watch_renders_checks_and_tells_main_when_a_backend_comes_and_goes() {
    let main = MAIN.replace("TERM", "HUP").replace("exit 3", "true");
    let lab = Lab::new(&format!(
        "{main}{LOCAL}[[watch]]\nservice = \"app\"\nsignal = \"HUP\"\n\
         [watch.template]\nsource = \"DIR/t.j2\"\ndestination = \"DIR/out.conf\"\n\
         check = [\"sh\", \"-c\", \"grep -q bad {{}} && exit 1 || exit 0\"]\n"
    ));
    fs::write(lab.path("t.j2"), "{% for i in instances %}{{ i.id }} {{ i.port }}\n{% endfor %}").unwrap();
    let mut container = lab.run();
    lab.told("main");
    assert_eq!(fs::read_to_string(lab.path("out.conf")).unwrap(), "");

    let (one, two) = (backend(&lab, "one"), backend(&lab, "two"));
    let first = one.run();
    rendered(&lab, "one 7\n", &container);
    lab.told("term");
    let mut second = two.run();
    rendered(&lab, "one 7\ntwo 7\n", &container);
    // kill -9: the kernel frees the lock, and nobody waits for a clock.
    drop(first);
    rendered(&lab, "two 7\n", &container);
    let wrong = backend(&lab, "bad");
    let _wrong = wrong.run();
    log_says(&container, "its check exited with code 1");
    assert_eq!(fs::read_to_string(lab.path("out.conf")).unwrap(), "two 7\n");
    second.signal(TERM);
    assert_eq!(second.wait(), Ok(143));
    container.signal(TERM);
    container.signal(TERM);
    container.signal(TERM);
    assert!(container.wait().is_ok());
}

#[test]
fn a_backend_that_leaves_while_the_container_drains_leaves_the_file_and_main_is_told() {
    let main = MAIN.replace("trap", "trap 'echo reload >> DIR/story' HUP; trap");
    let lab = Lab::new(&format!(
        "{main}[stop]\nwithin = \"60s\"\ndrain = \"50s\"\n{LOCAL}[[watch]]\nservice = \"app\"\nsignal = \"HUP\"\n\
         on_change = {{ exec = [\"sh\", \"-c\", \"[ -e DIR/hang ] || exit 0; trap '' TERM; touch DIR/hangs; \
         while :; do sleep 1; done\"], timeout = \"100s\" }}\n\
         template = {{ source = \"DIR/t.j2\", destination = \"DIR/out.conf\" }}\n"
    ));
    fs::write(lab.path("t.j2"), "{% for i in instances %}{{ i.id }}\n{% endfor %}").unwrap();
    let backends = ["one", "two", "three"].map(|id| backend(&lab, id));
    let [one, two, _three] = backends.each_ref().map(Lab::run);
    let mut container = lab.run();
    lab.told("main");
    rendered(&lab, "one\nthree\ntwo\n", &container);
    let reloads = || lab.story().iter().filter(|line| *line == "reload").count();
    let before = reloads();
    container.signal(TERM);
    eventually("the drain", || lab.ask(&["status"]).1.contains("draining").then_some(())).unwrap();
    drop(one);
    rendered(&lab, "three\ntwo\n", &container);
    eventually("a reload", || (reloads() > before).then_some(())).unwrap();
    // An on_change that hangs holds nothing up.
    fs::write(lab.path("hang"), "").unwrap();
    drop(two);
    rendered(&lab, "three\n", &container);
    eventually("one that hangs", || lab.path("hangs").exists().then_some(())).unwrap();
    let begun = Instant::now();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3), "{}", container.stderr());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(lab.story().last().map(String::as_str), Some("term"));
}

#[test]
fn a_check_that_runs_as_another_user_reads_a_file_that_only_its_owner_will() {
    let lab = Lab::new(&format!(
        "{MAIN}{LOCAL}[[watch]]\nkey = \"password\"\n\
         [watch.template]\nsource = \"DIR/t.j2\"\ndestination = \"DIR/out.conf\"\nmode = \"0600\"\n\
         check = [\"sh\", \"-c\", \"id -u; cat $0\", \"{{}}\"]\ncheck_user = \"65534:65534\"\n"
    ));
    fs::write(lab.path("t.j2"), "password={{ value | default(\"none\") }}\n").unwrap();
    let container = lab.run();
    log_says(&container, "password=none");
    assert!(container.stderr().contains("65534"), "{}", container.stderr());
    eventually("it is live", || lab.path("out.conf").exists().then_some(())).unwrap();
    use std::os::unix::fs::MetadataExt;
    let about = fs::metadata(lab.path("out.conf")).unwrap();
    assert_eq!((about.uid(), about.mode() & 0o777), (0, 0o600));
}

#[test]
fn on_change_gets_the_change_as_json() {
    let lab = Lab::new(&format!(
        "{MAIN}{LOCAL}[[service]]\nname = \"self\"\nid = \"me\"\nport = 80\naddress = [\"static:10.0.0.1\"]\n\
         [[watch]]\nname = \"w\"\nservice = \"self\"\non_change = {{ exec = [\"sh\", \"-c\", \"cat > DIR/change; env > DIR/env\"] }}\n"
    ));
    let _container = lab.run();
    let change = eventually("the change", || {
        serde_json::from_str::<serde_json::Value>(&fs::read_to_string(lab.path("change")).ok()?).ok()
    })
    .unwrap();
    assert_eq!((&change["watch"], &change["added"][0]["id"]), (&"w".into(), &"me".into()));
    assert_eq!(change["instances"][0]["address"], "10.0.0.1");
    let env = eventually("the environment", || {
        fs::read_to_string(lab.path("env")).ok().filter(|env| env.contains("PILOTFISH_WATCH=w\n"))
    })
    .unwrap();
    for entry in ["PILOTFISH_EVENT=on_change\n", "PILOTFISH_PID=1\n", "PILOTFISH_SELF_ADDRESS=10.0.0.1\n"] {
        assert!(env.contains(entry), "{entry} is missing: {env}");
    }
    for name in ["MAIN_PID", "ROLE", "LEADER", "LEADER_ID", "TERM", "FIRST"] {
        assert!(env.contains(&format!("PILOTFISH_{name}=")), "{name} is missing: {env}");
    }
}

/// Answers 200 while `healthy` exists.
fn endpoint(lab: &Lab) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sign = lab.path("healthy");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            let _ = connection.read(&mut [0; 1024]);
            let status = if sign.exists() { "200 OK" } else { "503 Unwell" };
            let _ = write!(connection, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    port
}

fn checked(lab: &Lab, port: u16, more: &str) {
    lab.write(&format!(
        "{MAIN}{LOCAL}[[service]]\nname = \"web\"\nport = 80\naddress = [\"static:10.0.0.1\"]\n\
         [[health]]\nname = \"ping\"\nhttp = \"http://127.0.0.1:{port}/\"\ninterval = \"20ms\"\nstart_interval = \"20ms\"\n\
         failures = 2\n{more}"
    ));
}

fn web_status(lab: &Lab) -> String {
    let (_, json, _) = lab.ask(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
    status["services"][0]["status"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_service_is_critical_until_healthy_and_again_when_it_is_not() {
    let lab = Lab::new(MAIN);
    checked(&lab, endpoint(&lab), "grace = \"1s\"\n");
    let _container = lab.run();
    eventually("critical", || (web_status(&lab) == "critical").then_some(())).unwrap();
    for (healthy, status) in [(true, "passing"), (false, "critical"), (true, "passing")] {
        match healthy {
            true => fs::write(lab.path("healthy"), "").unwrap(),
            false => fs::remove_file(lab.path("healthy")).unwrap(),
        }
        eventually(status, || (web_status(&lab) == status).then_some(())).unwrap();
    }
}

#[test]
fn an_unhealthy_main_is_restarted_when_configured() {
    let lab = Lab::new(MAIN);
    fs::write(lab.path("healthy"), "").unwrap();
    checked(&lab, endpoint(&lab), "grace = \"0s\"\non_failure = \"restart\"\n");
    let restart = "restart = { policy = \"on-failure\", backoff = \"10ms..10ms\" }\n[catalog]";
    let text = fs::read_to_string(lab.path("pilotfish.toml")).unwrap().replace("[catalog]", restart);
    fs::write(lab.path("pilotfish.toml"), text).unwrap();
    let _container = lab.run();
    lab.told("main");
    eventually("passing", || (web_status(&lab) == "passing").then_some(())).unwrap();
    fs::remove_file(lab.path("healthy")).unwrap();
    lab.told("term");
    fs::write(lab.path("healthy"), "").unwrap();
    eventually("another main", || (lab.story().iter().filter(|line| *line == "main").count() > 1).then_some(()))
        .unwrap();
}

#[test]
fn an_unhealthy_main_ends_the_container_when_configured_and_not_with_0() {
    let lab = Lab::new(MAIN);
    checked(&lab, endpoint(&lab), "grace = \"0s\"\non_failure = \"exit\"\n");
    let text = fs::read_to_string(lab.path("pilotfish.toml")).unwrap().replace("exit 3", "exit 0");
    fs::write(lab.path("pilotfish.toml"), text).unwrap();
    let mut container = lab.run();
    assert_eq!(container.wait(), Ok(1));
}

#[test]
fn the_reason_for_the_end_is_one_line_in_the_log() {
    let lab = Lab::new("[process]\nexec = [\"sh\", \"-c\", \"exit 7\"]\n");
    let mut container = lab.start().run().unwrap();
    assert_eq!(container.wait(), Ok(7));
    let log = container.stderr();
    assert_eq!(
        log.lines().filter(|line| line.contains("ending with code 7: main exited with code 7")).count(),
        1,
        "{log}"
    );
}

#[test]
fn hooks_and_checks_have_the_variables_that_hooks_gives_them_read_anew_from_files() {
    let lab = Lab::new(&format!(
        "{MAIN}[hooks]\nenv = {{ NAME = \"db\" }}\nenv_from_files = {{ SECRET = \"DIR/secret\" }}\n\
         pre_start = {{ exec = [\"sh\", \"-c\", \"echo $NAME $SECRET >> DIR/story\"] }}\n\
         pre_stop = {{ exec = [\"sh\", \"-c\", \"echo $NAME $SECRET >> DIR/story\"], env = {{ NAME = \"x\" }} }}\n"
    ));
    fs::write(lab.path("secret"), "one\n").unwrap();
    let mut container = lab.run();
    lab.told("main");
    fs::write(lab.path("secret"), "two\n").unwrap();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    assert_eq!(lab.story(), ["db one", "main", "x two", "term"]);
    assert!(!container.stderr().contains("two"), "a secret is never logged: {}", container.stderr());
}

#[test]
fn a_check_that_prints_the_same_each_time_is_logged_when_that_or_its_end_changes() {
    let lab = Lab::new(&format!(
        "{MAIN}[[health]]\nname = \"talks\"\nexec = [\"sh\", \"-c\", \"echo run >> DIR/runs; cat DIR/words; [ ! -e DIR/ill ]\"]\n\
         interval = \"50ms\"\nstart_interval = \"50ms\"\nfailures = 1\ntimeout = \"10s\"\n"
    ));
    fs::write(lab.path("words"), "all is well\n").unwrap();
    let container = lab.run();
    let runs = || fs::read_to_string(lab.path("runs")).unwrap_or_default().lines().count();
    let lines = |text: &str| container.stderr().matches(text).count();
    let more_runs = || {
        let enough = runs() + 8;
        eventually("eight more runs", || (runs() >= enough).then_some(())).unwrap();
    };
    log_says(&container, "check talks passes");
    more_runs();
    assert_eq!(lines("all is well"), 1, "{}", container.stderr());
    assert_eq!(lines("printed again; not logged until it changes"), 1, "{}", container.stderr());
    fs::write(lab.path("ill"), "").unwrap();
    log_says(&container, "check talks is critical");
    more_runs();
    assert_eq!(lines("all is well"), 2, "{}", container.stderr());
    assert_eq!(lines("times more since; not logged"), 1, "{}", container.stderr());
}

#[test]
fn a_hook_or_check_whose_files_hang_holds_up_neither_the_container_nor_its_end() {
    let files = "env_from_files = { SECRET = \"DIR/secret\" }";
    let lab = Lab::new(&format!(
        "{MAIN}[stop]\nwithin = \"20s\"\n\
         [hooks]\npre_stop = {{ exec = [\"true\"], timeout = \"1s\", {files} }}\n\
         [[health]]\nname = \"well\"\nexec = [\"true\"]\ninterval = \"200ms\"\ntimeout = \"200ms\"\n{files}\n"
    ));
    fs::write(lab.path("secret"), "one\n").unwrap();
    let mut container = lab.run();
    log_says(&container, "check well passes");
    let _hanging = Hanging::new([lab.path("secret").as_path()]);
    log_says(&container, "check well is critical");
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    assert_eq!(lab.story(), ["main", "term"]);
}

#[test]
fn a_reload_waits_for_no_token_or_secret_whose_storage_hangs_and_says_what_could_not_be_looked_at() {
    let lab = Lab::new(MAIN);
    let container = lab.run();
    lab.told("main");
    fs::write(lab.path("secret"), "word\n").unwrap();
    let hanging = Hanging::new([lab.path("secret").as_path()]);
    let task = |name: &str| {
        format!(
            "{MAIN}[[task]]\nname = \"{name}\"\nexec = [\"/nowhere/{name}\"]\nevery = \"1h\"\n\
             env_from_files = {{ SECRET = \"DIR/secret\", TOKEN = \"DIR/none\" }}\n"
        )
    };
    for name in ["first", "second"] {
        lab.write(&task(name));
        let since = Instant::now();
        let (code, _, said) = lab.ask(&["reload"]);
        assert_eq!(code, 0, "{said}");
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
        assert!(lab.ask(&["status"]).1.contains(name));
    }
    log_says(&container, "task first: can't run `/nowhere/first`");
    let at = format!("{} of task first", lab.path("secret").display());
    log_says(&container, &format!("{at} couldn't be looked at yet"));
    // The one who looks still does so, alone.
    log_says(&container, "what the config names couldn't be looked at yet");
    drop(hanging);
    lab.write(&task("third"));
    assert_eq!(lab.ask(&["reload"]).0, 0);
    log_says(&container, "task third: can't run `/nowhere/third`");
    log_says(&container, &format!("{} of task third doesn't exist", lab.path("none").display()));
}

#[test]
fn reloads_of_a_config_that_hangs_cost_a_thread_and_say_what_they_wait_for() {
    let lab = Lab::new(&format!("{MAIN}{LOCAL}"));
    let container = lab.run();
    lab.told("main");
    let hanging = Hanging::new([lab.path("pilotfish.toml").as_path()]);
    let socket = lab.path("control.sock");
    let ask = |order: &[&str]| {
        let mut command = std::process::Command::new(crate::support::namespace::pilotfish());
        crate::support::lab::said(command.args(order).arg("--socket").arg(&socket).output().unwrap())
    };
    let file = lab.path("pilotfish.toml").display().to_string();
    for earlier in ["", "an earlier reload, which still reads "] {
        let (code, out, said) = ask(&["reload"]);
        assert!(code != 0 && (out + &said).contains(&format!("{earlier}{file}: no answer within 10s")), "{said}");
    }
    let agent = status_line(container.main().unwrap(), "PPid").unwrap();
    let threads = fs::read_dir(format!("/proc/{}/task", agent.trim())).unwrap().flatten();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    assert_eq!(threads.map(name).filter(|name| name.trim() == "files").count(), 1);
    // Others' files are read and written meanwhile.
    let (code, _, said) = ask(&["kv", "put", "k", "v"]);
    assert_eq!(code, 0, "{said}");
    drop(hanging);
    assert_eq!(ask(&["reload"]).0, 0);
}

/// Programs that read a directory's files by their endings, before and beside the check.
#[test]
fn what_a_check_has_not_let_through_is_in_no_directory_and_nowhere_after_a_stop() {
    let lab = Lab::new(&format!(
        "{MAIN}{LOCAL}[[watch]]\nkey = \"k\"\n[watch.template]\nsource = \"DIR/t.j2\"\ndestination = \"DIR/conf.d/app.json\"\n\
         check = [\"sh\", \"-c\", \"grep -q evil $0 || exit 0; echo $0 >> DIR/story; cat ${{0%/*}}/other.json >> DIR/story; sleep 100\", \
         \"{{}}\"]\ncheck_timeout = \"200s\"\n"
    ));
    fs::create_dir(lab.path("conf.d")).unwrap();
    fs::write(lab.path("conf.d/other.json"), "other\n").unwrap();
    fs::write(lab.path("t.j2"), "{{ value | default('nothing') }}").unwrap();
    let mut container = lab.run();
    lab.told("main");
    let live = || fs::read_to_string(lab.path("conf.d/app.json")).unwrap_or_default();
    eventually("the first", || (live() == "nothing").then_some(())).unwrap();
    assert_eq!(lab.ask(&["kv", "put", "k", "evil"]).0, 0);
    lab.told("other");
    let names = || fs::read_dir(lab.path("conf.d")).unwrap().count();
    assert_eq!((names(), live().as_str()), (2, "nothing"));
    let story = lab.story();
    let shown = std::path::Path::new(story.iter().find(|line| line.ends_with("/app.json")).unwrap());
    // As the container saw it: its root is ours.
    assert_eq!(fs::read_to_string(shown).unwrap(), "evil");
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    assert_eq!((names(), live().as_str(), shown.parent().unwrap().exists()), (2, "nothing", false));
}

#[test]
fn a_signal_that_comes_while_mains_secret_hangs_ends_the_container_only_if_it_asks_for_an_end() {
    let config = format!("{MAIN}stop_on = [\"QUIT\"]\nenv_from_files = {{ SECRET = \"DIR/secret\" }}\n");
    let starting = || {
        let lab = Lab::new(&config);
        fs::write(lab.path("secret"), "word\n").unwrap();
        let hanging = Hanging::new([lab.path("secret").as_path()]);
        let container = lab.run();
        eventually("the agent", || (lab.ask(&["status"]).0 == 0).then_some(())).unwrap();
        (lab, hanging, container)
    };
    // TERM doesn't stop here, but whoever sends it wants an end, and there is no main that could have it.
    let (lab, _hanging, mut container) = starting();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(128 + TERM));
    assert!(lab.story().is_empty());
    // A log rotation, say: main has no trap yet that it could run.
    let (lab, hanging, mut container) = starting();
    container.signal(USR1);
    drop(hanging);
    lab.told("main");
    assert_eq!(container.ended(), None);
}
