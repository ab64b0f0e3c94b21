//! Coprocesses beside main, on the real program as PID 1: how they start, are waited for, restarted and stopped.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::lab::Lab;
use crate::support::namespace::{Container, eventually, processes, specimen, within};
use crate::support::servers::{self, Consul};

const TERM: i32 = 15;

/// Main that tells when it starts and when it is told to stop.
const MAIN: &str = r#"
[process]
exec = ["sh", "-c", "trap 'echo main stops >> DIR/story; exit 3' TERM; echo main >> DIR/story; while :; do sleep 0.02; done"]
"#;

/// The same beside main.
fn beside(name: &str, more: &str) -> String {
    let script = format!(
        "trap 'echo {name} stops >> DIR/story; exit 0' TERM; echo {name} >> DIR/story; while :; do sleep 0.02; done"
    );
    format!("[[coprocess]]\nname = \"{name}\"\nexec = [\"sh\", \"-c\", \"{script}\"]\n{more}\n")
}

fn shell(name: &str, script: &str, more: &str) -> String {
    format!("[[coprocess]]\nname = \"{name}\"\nexec = [\"sh\", \"-c\", '''{script}''']\n{more}\n")
}

#[track_caller]
fn log_says(container: &Container, text: &str) {
    eventually(text, || container.stderr().contains(text).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
}

fn status(lab: &Lab) -> serde_json::Value {
    let (code, text, error) = lab.ask(&["status", "--json"]);
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&text).unwrap()
}

/// What status says of a coprocess.
fn of(lab: &Lab, name: &str) -> serde_json::Value {
    let status = status(lab);
    let all = status["coprocesses"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {status}"))
}

fn count(lab: &Lab, line: &str) -> usize {
    lab.story().iter().filter(|told| *told == line).count()
}

#[test]
fn a_coprocess_runs_beside_main_and_stops_after_it() {
    let lab = Lab::new(&format!("{MAIN}{}", beside("helper", "")));
    let mut container = lab.run();
    lab.told("main");
    lab.told("helper");
    let begun = Instant::now();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(lab.story()[2..], ["main stops", "helper stops"]);
}

#[test]
fn a_coprocess_that_dies_is_started_again_and_main_runs_on() {
    let dies = "echo up >> DIR/story; until rm DIR/die 2>/dev/null; do sleep 0.02; done; kill -KILL $$";
    let lab = Lab::new(&format!("{MAIN}{}", shell("helper", dies, "")));
    let container = lab.run();
    lab.told("up");
    let main = container.main().unwrap();
    fs::write(lab.path("die"), "").unwrap();
    eventually("another", || (count(&lab, "up") == 2).then_some(())).unwrap();
    log_says(&container, "helper was killed by SIGKILL");
    assert_eq!(container.main(), Ok(main));
    let status = of(&lab, "helper");
    assert_eq!((&status["restarts"], &status["state"]), (&1.into(), &"running".into()));
    assert_eq!(status["last_exit"], serde_json::json!({"code": 137, "signal": "SIGKILL"}));
    let (_, table, _) = lab.ask(&["status"]);
    assert!(table.contains("COPROCESS") && table.contains("last killed by SIGKILL"), "{table}");
}

#[test]
fn a_coprocess_that_crashes_for_ever_is_given_up_and_main_runs_on() {
    let crashes = "echo up >> DIR/story; exit 4";
    let restart = "restart = { max = 2, backoff = \"10ms..20ms\" }";
    let lab = Lab::new(&format!("{MAIN}{}", shell("helper", crashes, restart)));
    let mut container = lab.run();
    log_says(&container, "coprocess helper exited with code 4, after 2 restarts within 1m: giving it up");
    assert_eq!(count(&lab, "up"), 3);
    assert_eq!(of(&lab, "helper")["state"], "given up");
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));

    let exits = format!("{restart}\non_giving_up = \"exit\"");
    let lab = Lab::new(&format!("{MAIN}{}", shell("helper", crashes, &exits)));
    assert_eq!(lab.start().run().unwrap().wait(), Ok(4));
    assert!(lab.story().contains(&"main stops".to_owned()));
}

#[test]
fn the_output_of_a_coprocess_stands_in_the_log_under_its_name_or_is_left_as_it_is() {
    let speaks = |word: &str| format!("echo {word} out; echo {word} err >&2; exec sleep 1000");
    let (logged, raw) = (shell("logged", &speaks("l"), ""), shell("raw", &speaks("r"), "output = \"raw\""));
    let lab = Lab::new(&format!("{MAIN}{logged}{raw}"));
    let container = lab.run();
    log_says(&container, "l err");
    eventually("raw output", || container.stdout().contains("r out\n").then_some(())).unwrap();
    let stderr = container.stderr();
    let said = |text: &str| stderr.lines().any(|line| line == text || line.ends_with(&format!("hook: {text}")));
    assert!(said("l out hook=logged stream=stdout") && said("l err hook=logged stream=stderr"), "{stderr}");
    assert!(stderr.lines().any(|line| line == "r err"), "{stderr}");
    assert!(!container.stdout().contains("l out"));
}

#[test]
fn a_coprocess_gets_its_own_user_environment_directory_and_limits() {
    let tells = "pwd > DIR/told; echo $A $SECRET >> DIR/told; ulimit -n >> DIR/told; id -u >> DIR/told; \
                 echo $PILOTFISH_EVENT >> DIR/told; mv DIR/told DIR/told.all; exec sleep 1000";
    let more = "user = \"65534\"\ndirectory = \"/usr\"\nenv = { A = \"1\" }\nenv_from_files = { SECRET = \"DIR/secret\" }\n\
                limits = { nofile = 77 }";
    let lab = Lab::new(&format!("{MAIN}{}", shell("helper", tells, more)));
    fs::write(lab.path("secret"), "s3cret").unwrap();
    std::os::unix::fs::chown(lab.path(""), Some(65534), None).unwrap();
    let container = lab.run();
    let told = eventually("what it got", || fs::read_to_string(lab.path("told.all")).ok())
        .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
    assert_eq!(told, "/usr\n1 s3cret\n77\n65534\ncoprocess\n");
    assert!(!container.stderr().contains("s3cret"));
}

#[test]
fn a_coprocess_that_ignores_its_stop_costs_the_container_no_more_than_its_time() {
    let deaf = "trap '' TERM; echo up >> DIR/story; while :; do sleep 0.02; done";
    let lab = Lab::new(&format!("{MAIN}{}[stop]\nwithin = \"3s\"\n", shell("deaf", deaf, "stop_timeout = \"500ms\"")));
    let mut container = lab.run();
    lab.told("up");
    let begun = Instant::now();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(450) && took < Duration::from_secs(2), "{took:?}: {}", container.stderr());
}

#[test]
fn nothing_is_left_of_a_coprocess_that_daemonises_unless_it_is_followed() {
    let daemon =
        format!("setsid sh -c '{} hold DIR/lock; :' & sleep 0.1; echo gone >> DIR/story", specimen().display());
    let daemon = daemon.replace('\'', "\"");
    let is_held = |lab: &Lab| {
        use nix::fcntl::{Flock, FlockArg};
        fs::File::open(lab.path("lock")).is_ok_and(|f| Flock::lock(f, FlockArg::LockExclusiveNonblock).is_err())
    };
    let lab = Lab::new(&format!("{MAIN}{}", shell("daemon", &daemon, "restart = { policy = \"never\" }")));
    let container = lab.run();
    lab.told("gone");
    eventually("the daemon's end", || (!is_held(&lab) && of(&lab, "daemon")["state"] == "ended").then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));

    let follow = "background = \"follow\"\nrestart = { policy = \"never\" }";
    let lab = Lab::new(&format!("{MAIN}{}", shell("daemon", &daemon, follow)));
    let mut container = lab.run();
    lab.told("gone");
    log_says(&container, "daemon went to the background: it is process ");
    assert!(is_held(&lab));
    assert_eq!(of(&lab, "daemon")["state"], "running");
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    assert!(!is_held(&lab));
}

#[test]
fn main_starts_when_what_it_waits_for_is_ready_and_no_later() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let more = format!("start = \"before-catalog\"\nready = {{ tcp = \"127.0.0.1:{port}\" }}");
    let lab = Lab::new(&format!("{MAIN}{}", beside("agent", &more)));
    let container = lab.run();
    lab.told("agent");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(lab.story(), ["agent"]);
    let (_, said, _) = lab.ask(&["status"]);
    assert!(said.starts_with("starting: waiting until agent is ready"), "{said}");
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let begun = Instant::now();
    lab.told("main");
    println!("main starts {} ms after its agent is ready", begun.elapsed().as_millis());
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}: {}", begun.elapsed(), container.stderr());
}

#[test]
fn one_that_is_never_ready_ends_the_container_with_69_and_names_its_deadline() {
    let more = "start = \"before-catalog\"\nready = { exec = [\"false\"], timeout = \"700ms\" }";
    let lab = Lab::new(&format!("{MAIN}{}", beside("agent", more)));
    let mut container = lab.start().run().unwrap();
    assert_eq!(container.wait(), Ok(69));
    assert!(container.stderr().contains("agent wasn't ready within 700ms"), "{}", container.stderr());
    assert_eq!(lab.story(), ["agent", "agent stops"]);
}

#[test]
fn coprocesses_start_after_those_they_need_and_stop_before_them() {
    let first = beside("first", "ready = { exec = [\"sh\", \"-c\", \"test -e DIR/ready\"] }");
    let second = beside(
        "second",
        "after = [\"first\"]\npre_start = { exec = [\"sh\", \"-c\", \"echo prepares >> DIR/story\"] }",
    );
    let front = beside(
        "front",
        "stop = \"before-main\"\npost_stop = { exec = [\"sh\", \"-c\", \"echo cleared >> DIR/story\"] }",
    );
    let lab = Lab::new(&format!("{MAIN}{second}{first}{front}"));
    let mut container = lab.run();
    lab.told("first");
    lab.told("front");
    assert_eq!(count(&lab, "prepares"), 0);
    fs::write(lab.path("ready"), "").unwrap();
    lab.told("second");
    let started = lab.story().len();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    assert_eq!(lab.story()[started - 2..started], ["prepares", "second"]);
    assert_eq!(lab.story()[started..], ["front stops", "cleared", "main stops", "second stops", "first stops"]);
}

#[test]
fn one_says_itself_that_it_is_ready() {
    let notifies = format!("{} notify READY=1; echo said >> DIR/story; exec sleep 1000", specimen().display());
    let more = "start = \"before-catalog\"\nready = { notify = true }";
    let lab = Lab::new(&format!("{MAIN}{}", shell("agent", &notifies, more)));
    let container = lab.run();
    lab.told("main");
    log_says(&container, "agent is ready after");
}

#[test]
fn sigterm_ends_a_container_whose_coprocess_is_waited_for() {
    let more = "start = \"before-catalog\"\nready = { exec = [\"sleep\", \"1000\"], timeout = \"60s\" }";
    let lab = Lab::new(&format!("{MAIN}{}", beside("agent", more)));
    let mut container = lab.run();
    lab.told("agent");
    let begun = Instant::now();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(143));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(lab.story(), ["agent", "agent stops"]);
}

/// One that says what happens to it, with its hooks.
fn told_of(more: &str) -> String {
    let says = |what: &str| format!("{{ exec = [\"sh\", \"-c\", \"echo {what} >> DIR/story\"] }}");
    beside("helper", &format!("pre_start = {}\npost_stop = {}\n{more}", says("prepares"), says("clears")))
}

#[test]
fn a_coprocess_restarted_by_hand_runs_again_when_that_is_answered_and_main_runs_on() {
    let lab = Lab::new(&format!("{MAIN}{}", told_of("restart = { max = 1 }")));
    let mut container = lab.run();
    lab.told("helper");
    let main = container.main().unwrap();
    for round in 1..4 {
        let (code, said, error) = lab.ask(&["restart", "helper"]);
        let pid = of(&lab, "helper")["pid"].to_string();
        assert_eq!((code, said), (0, format!("helper runs again, as process {pid}\n")), "{error}");
        eventually("the next", || (count(&lab, "helper") == round + 1).then_some(())).unwrap();
    }
    let helper: Vec<String> = lab.story().into_iter().filter(|told| told != "main").collect();
    assert_eq!(helper[2..6], ["helper stops", "clears", "prepares", "helper"]);
    assert_eq!((of(&lab, "helper")["restarts"].clone(), container.main()), (3.into(), Ok(main)));
    let (code, _, error) = lab.ask(&["restart", "other"]);
    assert_eq!((code, error.as_str()), (1, "error: there is no process `other` here, but `main`, `helper`\n"));
    assert!(container.stderr().contains("coprocess.restart_ordered"), "{}", container.stderr());
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
}

#[test]
fn a_coprocess_that_was_given_up_is_started_by_hand() {
    let needs = "test -e DIR/mended || exit 4; echo up >> DIR/story; exec sleep 1000";
    let more = "restart = { policy = \"never\" }";
    let lab = Lab::new(&format!("{MAIN}{}", shell("helper", needs, more)));
    let _container = lab.run();
    eventually("its end", || (of(&lab, "helper")["state"] == "given up").then_some(())).unwrap();
    fs::write(lab.path("mended"), "").unwrap();
    assert_eq!(lab.ask(&["restart", "helper"]).0, 0);
    lab.told("up");
    assert_eq!(
        (of(&lab, "helper")["state"].clone(), of(&lab, "helper")["error"].clone()),
        ("running".into(), ().into())
    );
}

#[test]
fn a_restart_by_hand_of_one_that_hangs_while_it_is_prepared_prepares_it_anew() {
    let prepares =
        "pre_start = { exec = [\"sh\", \"-c\", \"echo prepares >> DIR/story; test -e DIR/good || exec sleep 1000\"] }";
    let lab = Lab::new(&format!("{MAIN}{}", beside("helper", prepares)));
    let _container = lab.run();
    lab.told("prepares");
    fs::write(lab.path("good"), "").unwrap();
    assert_eq!(lab.ask(&["restart", "helper"]).0, 0);
    lab.told("helper");
    assert_eq!(count(&lab, "prepares"), 2);
}

#[test]
fn a_stop_answers_who_waits_for_a_restart_and_ends_as_soon_as_the_coprocess_does() {
    let slow = "trap 'sleep 1; exit 0' TERM; echo up >> DIR/story; while :; do sleep 0.02; done";
    let lab = Lab::new(&format!("{MAIN}{}", shell("slow", slow, "")));
    let mut container = lab.run();
    lab.told("up");
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| lab.ask(&["restart", "slow"]));
        log_says(&container, "coprocess.told");
        container.signal(TERM);
        asked.join().unwrap()
    });
    assert_eq!((asked.0, asked.2.as_str()), (1, "error: the container is stopping\n"));
    let begun = Instant::now();
    assert_eq!(container.wait(), Ok(3));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}: {}", begun.elapsed(), container.stderr());
    assert_eq!(count(&lab, "up"), 1);
}

#[test]
fn a_signal_by_hand_reaches_the_coprocess_and_nobody_else() {
    let hears = "trap 'echo heard >> DIR/story' USR1; echo up >> DIR/story; while :; do sleep 0.02; done";
    let lab = Lab::new(&format!("{MAIN}{}", shell("helper", hears, "")));
    let mut container = lab.run();
    lab.told("up");
    assert_eq!(lab.ask(&["signal", "USR1", "helper"]), (0, "SIGUSR1 sent to helper\n".to_owned(), String::new()));
    lab.told("heard");
    // What ends by a signal is started again as its policy says, and the container runs on.
    assert_eq!(lab.ask(&["signal", "TERM", "helper"]).0, 0);
    eventually("another", || (count(&lab, "up") == 2).then_some(())).unwrap();
    assert_eq!(lab.ask(&["signal", "KILL", "helper"]).0, 0);
    eventually("a third", || (count(&lab, "up") == 3).then_some(())).unwrap();
    log_says(&container, "helper was killed by SIGKILL");
    assert_eq!(container.ended(), None);
}

#[test]
fn a_reload_that_takes_away_what_a_coprocess_waits_for_holds_nobody_up() {
    let port = servers::free_port();
    let lab = Lab::new(&format!("{MAIN}{}", beside("helper", &format!("ready = {{ tcp = \"127.0.0.1:{port}\" }}"))));
    let mut container = lab.run();
    lab.told("main");
    eventually("it waits", || (of(&lab, "helper")["state"] == "not ready yet").then_some(())).unwrap();
    lab.write(&format!("{MAIN}{}", beside("helper", "")));
    assert_eq!(lab.ask(&["reload"]).0, 0);
    eventually("it is ready", || (of(&lab, "helper")["ready"] == true).then_some(())).unwrap();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3), "{}", container.stderr());
}

#[test]
fn the_end_of_a_daemon_that_is_followed_is_its_coprocesss() {
    // Its worker, in a session of its own, outlives it, as a server's do.
    let daemon = "setsid sh -c \"setsid sh -c \\\"echo worker >> DIR/story; sleep 60; :\\\" & \
                  until grep -q worker DIR/story; do sleep 0.02; done; echo up >> DIR/story; sleep 60; :\" & \
                  until grep -q up DIR/story; do sleep 0.02; done";
    let follow = "background = \"follow\"\nrestart = { policy = \"never\" }\non_giving_up = \"exit\"";
    let lab = Lab::new(&format!("{MAIN}{}", shell("daemon", daemon, follow)));
    let mut container = lab.run();
    log_says(&container, "daemon went to the background");
    assert_eq!(lab.ask(&["signal", "SEGV", "daemon"]).0, 0);
    assert_eq!(container.wait(), Ok(139), "{}", container.stderr());
    log_says(&container, "daemon was killed by SIGSEGV");
}

#[test]
fn a_daemon_that_is_followed_is_ready_in_its_second_life_once_it_says_so() {
    let says = "until [ -e DIR/say ]; do sleep 0.02; done; rm DIR/say; systemd-notify --ready; sleep 1000; :";
    let daemon = format!("setsid sh -c \"{says}\" & exit 0");
    let follow = "background = \"follow\"\nready = { notify = true }";
    let lab = Lab::new(&format!("{MAIN}{}", shell("daemon", &daemon, follow)));
    fs::write(lab.path("say"), "").unwrap();
    let container = lab.run();
    let is_ready = || status(&lab)["coprocesses"][0]["ready"] == true;
    eventually("a daemon that is ready", || is_ready().then_some(())).unwrap();
    assert_eq!(lab.ask(&["restart", "daemon"]).0, 0);
    let follows_again = || (container.stderr().matches("daemon went to the background").count() == 2).then_some(());
    eventually("the second life", follows_again).unwrap();
    assert!(!is_ready(), "nobody has said so");
    fs::write(lab.path("say"), "").unwrap();
    eventually("ready again", || is_ready().then_some(())).unwrap();
}

#[test]
fn each_master_that_a_coprocess_names_in_its_place_is_followed() {
    let follow = "background = \"follow\"\nready = { notify = true }";
    let lab = Lab::new(&format!("{MAIN}{}", shell("daemon", "setsid sh DIR/master 1 & exit 0", follow)));
    let master = "trap 'sh DIR/master $(($1 + 1)) & sleep 1.2; exit 0' USR2\n\
                  systemd-notify --ready --pid=$$; echo \"$1 $$\" >> DIR/story\nwhile :; do sleep 0.05; done\n";
    fs::write(lab.path("master"), master.replace("DIR", lab.path("").to_str().unwrap())).unwrap();
    let container = lab.run();
    for number in 1..=3 {
        let pid = || lab.story().iter().find_map(|told| told.strip_prefix(&format!("{number} "))?.parse::<u64>().ok());
        let pid = eventually("the next master", pid).unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
        let is_it = || (of(&lab, "daemon")["pid"] == pid).then_some(());
        eventually("it is followed", is_it).unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
        assert_eq!(lab.ask(&["signal", if number < 3 { "USR2" } else { "WINCH" }, "daemon"]).0, 0);
    }
    assert_eq!((of(&lab, "daemon")["restarts"].as_u64(), of(&lab, "daemon")["ready"].as_bool()), (Some(0), Some(true)));
}

#[test]
fn a_daemon_that_is_followed_gets_a_signal_by_hand_and_is_restarted() {
    let daemon = "sh -c \"trap \\\"echo heard >> DIR/story\\\" USR1; echo up >> DIR/story; while :; do sleep 0.02; done\" & \
                  until grep -q up DIR/story; do sleep 0.02; done";
    let lab = Lab::new(&format!("{MAIN}{}", shell("daemon", daemon, "background = \"follow\"")));
    let container = lab.run();
    log_says(&container, "daemon went to the background");
    assert_eq!(lab.ask(&["signal", "USR1", "daemon"]).0, 0);
    lab.told("heard");
    assert_eq!(lab.ask(&["restart", "daemon"]).0, 0);
    eventually("the next", || (count(&lab, "up") == 2).then_some(())).unwrap();
}

/// A Consul server, and a container that brings an agent of its own.
struct WithAgent {
    lab: Lab,
    server: Consul,
    node: String,
}

impl WithAgent {
    fn new(more: &str) -> WithAgent {
        let server = Consul::start();
        let (_, own) = server.ask("GET", "/v1/agent/self", "");
        let own: serde_json::Value = serde_json::from_str(&own).unwrap();
        let join = own["Member"]["Port"].as_u64().unwrap();
        let (http, serf) = (servers::free_port(), servers::free_port());
        let node = format!("agent-{http}");
        let lab = Lab::new("");
        let agent = serde_json::json!({
            "node_name": node, "data_dir": lab.path("data"), "bind_addr": "127.0.0.1", "disable_update_check": true,
            "retry_join": [format!("127.0.0.1:{join}")], "retry_interval": "300ms", "leave_on_terminate": true,
            "ports": {"http": http, "dns": -1, "grpc": -1, "serf_lan": serf, "serf_wan": -1, "server": servers::free_port()},
        });
        fs::write(lab.path("agent.json"), agent.to_string()).unwrap();
        let consul = servers::program("consul");
        lab.write(&format!(
            "{MAIN}[[coprocess]]\nname = \"consul-agent\"\nexec = [\"{}\", \"agent\", \"-config-file=DIR/agent.json\"]\n\
             start = \"before-catalog\"\nready = {{ http = \"http://127.0.0.1:{http}/v1/status/leader\", timeout = \"60s\" }}\n\
             [[service]]\nname = \"web\"\nport = 80\naddress = [\"static:10.0.0.1\"]\n\
             [catalog]\nbackend = \"consul\"\naddress = \"http://127.0.0.1:{http}\"\n{more}",
            consul.display()
        ));
        WithAgent { lab, server, node }
    }

    /// Where the server sees `web`, passing.
    fn web_is_at(&self) -> Vec<String> {
        let (_, found) = self.server.ask("GET", "/v1/health/service/web?passing", "");
        let found: serde_json::Value = serde_json::from_str(&found).unwrap_or_default();
        let node = |entry: &serde_json::Value| entry["Node"]["Node"].as_str().map(str::to_owned);
        found.as_array().into_iter().flatten().filter_map(node).collect()
    }

    /// What the server knows of the agent: 1 is alive, 3 has left, 4 has failed (serf's numbers).
    fn member(&self) -> Option<u64> {
        let (_, members) = self.server.ask("GET", "/v1/agent/members", "");
        let members: serde_json::Value = serde_json::from_str(&members).ok()?;
        members.as_array()?.iter().find(|member| member["Name"] == self.node.as_str())?["Status"].as_u64()
    }

    /// The agent's process, as this machine numbers it.
    fn agent(&self) -> Option<i32> {
        let file = self.lab.path("agent.json").display().to_string();
        let is_it = |pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&file))
        };
        processes().into_iter().map(|process| process.pid).find(is_it)
    }
}

#[test]
#[allow(unsafe_code, reason = "kills a process that this test started")]
fn a_container_brings_its_own_consul_agent() {
    let stage = WithAgent::new("");
    let begun = Instant::now();
    let mut container = stage.lab.run();
    stage.lab.told("main");
    let started = begun.elapsed();
    eventually("the entry", || (stage.web_is_at() == [stage.node.clone()]).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
    println!("start to main {} ms, to registered {} ms", started.as_millis(), begun.elapsed().as_millis());
    let log = container.stderr();
    let line = |text: &str| log.lines().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log}"));
    assert!(line("consul-agent is ready") < line("main runs"), "{log}");
    assert!(!log.contains("catalog.failed"), "nobody asked the agent before it was ready: {log}");

    let main = || {
        let status: serde_json::Value = serde_json::from_str(&stage.lab.ask(&["status", "--json"]).1).unwrap();
        status["main"]["pid"].clone()
    };
    let (first, agent) = (main(), stage.agent().unwrap());
    let killed = Instant::now();
    // SAFETY: a process of the container's, which this test started.
    assert_eq!(unsafe { libc::kill(agent, libc::SIGKILL) }, 0);
    let is_back = || stage.agent().is_some_and(|now| now != agent) && stage.web_is_at() == [stage.node.clone()];
    within(Duration::from_secs(60), "the agent again", || is_back().then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
    println!("agent killed to agent back and entry passing {} ms", killed.elapsed().as_millis());
    assert_eq!(main(), first);

    let stopped = Instant::now();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(3));
    println!("stop took {} ms", stopped.elapsed().as_millis());
    assert!(stopped.elapsed() < Duration::from_secs(9), "{:?}", stopped.elapsed());
    eventually("that the agent has left", || (stage.member() == Some(3)).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?}: {}", stage.member(), container.stderr()));
    assert_eq!(stage.web_is_at(), Vec::<String>::new());
    let log = container.stderr();
    let (_, stop) = log.split_once("stop.started").unwrap();
    assert!(!stop.contains("SIGKILL"), "{log}");
}

#[test]
fn main_starts_no_later_than_its_agent_knows_a_server() {
    let mut stage = WithAgent::new("");
    stage.server.down();
    let container = stage.lab.run();
    log_says(&container, "consul-agent runs as process");
    std::thread::sleep(Duration::from_secs(1));
    assert!(stage.lab.story().is_empty());
    stage.server.up();
    stage.lab.told("main");
    log_says(&container, "main runs");
    let log = container.stderr();
    let at = |text: &str| {
        let line = log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log}"));
        let seconds = &line[17..23];
        seconds.parse::<f64>().unwrap()
    };
    let wait = (at("main runs") - at("consul-agent is ready")).rem_euclid(60.0);
    println!("main runs {:.0} ms after its agent is ready", wait * 1000.0);
    assert!(wait < 1.0, "{log}");
}
