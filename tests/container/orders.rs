//! What people order of a running container: a restart of main, a signal for it, and to be told when something is so.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::election::leading::{Place, leader_is};
use crate::support::lab::{Lab, said};
use crate::support::namespace::{Start, eventually, pilotfish};

/// Each main says which process it is, and what it hears.
const MAIN: &str = "[process]\nexec = [\"sh\", \"-c\", \"echo $$ >> DIR/story; trap 'echo usr1 >> DIR/story' USR1; \
                    trap 'echo term >> DIR/story; exit 3' TERM; while :; do sleep 0.05; done\"]\n";

fn status(lab: &Lab) -> Value {
    serde_json::from_str(&lab.ask(&["status", "--json"]).1).unwrap()
}

/// A subcommand that runs beside the test.
fn beside(lab: &Lab, order: &[&str]) -> Child {
    let mut command = Command::new(pilotfish());
    command.args(order).arg("-c").arg(lab.path("pilotfish.toml"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn answer(child: Child) -> (i32, String, String) {
    said(child.wait_with_output().unwrap())
}

/// A mounted config has another socket, or none, by now, which the agent knows only once it reads it again.
#[test]
fn an_agent_is_found_where_it_listens_whatever_its_file_says_by_now() {
    // What asks is below the init, by the name of the file and in its place.
    let asks = "for c in other none; do until [ -e DIR/$c.toml ]; do sleep 0.05; done; cp DIR/$c.toml DIR/pilotfish.toml; \
                PILOTFISH -c DIR/pilotfish.toml health; echo $c $? >> DIR/story; \
                PILOTFISH -c DIR/$c.toml health; echo $c of another agent $? >> DIR/story; done; sleep 1000";
    let asks = asks.replace("PILOTFISH", pilotfish().to_str().unwrap());
    let lab = Lab::new(&format!("[process]\nexec = [\"sh\", \"-c\", \"{asks}\"]\n"));
    let _container = lab.run();
    let text = std::fs::read_to_string(lab.path("pilotfish.toml")).unwrap();
    let socket = lab.path("control.sock").display().to_string();
    let put = |name: &str, text: String| {
        std::fs::write(lab.path("new"), text).unwrap();
        std::fs::rename(lab.path("new"), lab.path(name)).unwrap();
    };
    put("other.toml", text.replace("control.sock", "elsewhere.sock"));
    lab.told("other 0");
    // One that has ended, or was never started, is nobody whose orders the init takes.
    lab.told("other of another agent 1");
    put("none.toml", text.replace(&format!("\"{socket}\""), "\"\""));
    lab.told("none 0");
    lab.told("none of another agent 1");
}

#[test]
fn a_restart_is_done_when_main_runs_again() {
    let lab = Lab::new(MAIN);
    let mut container = lab.run();
    eventually("main", || (lab.story().len() == 1).then_some(())).unwrap();
    let (code, said, _) = lab.ask(&["restart"]);
    let pid = status(&lab)["main"]["pid"].to_string();
    assert_eq!((code, said), (0, format!("main runs again, as process {pid}\n")));
    eventually("the next main", || (lab.story().len() == 3).then_some(())).unwrap();
    assert_eq!(lab.story()[1..], ["term".to_owned(), pid]);
    assert_eq!(status(&lab)["main"]["restarts"], 1);
    assert_eq!(lab.ask(&["restart", "main"]).0, 0);
    let (code, _, error) = lab.ask(&["restart", "other"]);
    assert_eq!((code, error.as_str()), (1, "error: there is no process `other` here, but `main`\n"));
    assert!(container.stderr().contains("main.restart_ordered"), "{}", container.stderr());
    assert_eq!(container.ended(), None);
}

#[test]
fn a_restart_applies_what_a_reload_left_for_mains_next_start() {
    let lab = Lab::new(
        "[process]\nexec = [\"sh\", \"-c\", \"echo $SAYS >> DIR/story; exec sleep 1000\"]\nenv = { SAYS = \"a\" }\n",
    );
    let _container = lab.run();
    lab.told("a");
    lab.write(
        "[process]\nexec = [\"sh\", \"-c\", \"echo $SAYS >> DIR/story; exec sleep 1000\"]\nenv = { SAYS = \"b\" }\n",
    );
    assert_eq!(lab.ask(&["reload"]).0, 0);
    assert_eq!(lab.ask(&["restart"]).0, 0);
    lab.told("b");
}

#[test]
fn a_restarted_leader_hands_over_first() {
    let place = Place::local();
    let [(one, _first), (two, _second)] = place.run("");
    one.told("on_promote leader one");
    let (code, said, error) = one.ask(&["restart"]);
    assert!(code == 0 && said.starts_with("main runs again, as process "), "{code} {said} {error}");
    two.told("on_promote leader two");
    leader_is(&one, "two");
    assert!(one.story().contains(&"on_demote replica one".to_owned()), "{:?}", one.story());
    assert_eq!(one.story().iter().filter(|line| line.starts_with("main ")).count(), 2, "{:?}", one.story());
}

#[test]
fn a_signal_reaches_main_as_it_is_and_nobody_else() {
    let lab = Lab::new(&format!("{MAIN}rewrite_signals = {{ USR1 = \"USR2\" }}\n"));
    let mut container = lab.run();
    eventually("main", || (lab.story().len() == 1).then_some(())).unwrap();
    assert_eq!(lab.ask(&["signal", "USR1"]), (0, "SIGUSR1 sent to main\n".to_owned(), String::new()));
    lab.told("usr1");
    assert_eq!(lab.ask(&["signal", "sigusr1", "other"]).0, 1);
    for nonsense in ["NONE", "0", "65"] {
        assert_eq!(lab.ask(&["signal", nonsense]).0, 64, "{nonsense}");
    }
    // It is main's own, so nothing of the stop comes before it.
    assert_eq!(lab.ask(&["signal", "TERM"]).0, 0);
    assert_eq!(container.wait(), Ok(3));
    assert_eq!(lab.story()[1..], ["usr1", "term"]);
}

#[test]
fn who_waits_for_readiness_may_come_before_the_agent() {
    let lab = Lab::new(&format!(
        "{MAIN}[[health]]\nname = \"file\"\nexec = [\"test\", \"-e\", \"DIR/good\"]\ninterval = \"100ms\"\ntimeout = \"1s\"\n"
    ));
    let waiting = beside(&lab, &["wait", "ready", "--timeout", "30s"]);
    let _container = lab.run();
    let (code, _, error) = lab.ask(&["wait", "ready", "--timeout", "300ms"]);
    assert!(code == 124 && error.starts_with("error: not so within 300ms: check file fails: "), "{code} {error}");
    std::fs::write(lab.path("good"), "").unwrap();
    assert_eq!(answer(waiting), (0, "ready\n".to_owned(), String::new()));
    assert_eq!(lab.ask(&["wait", "ready"]).0, 0);
}

#[test]
fn waiting_has_an_end_whoever_is_there() {
    let lab = Lab::new(MAIN);
    let begun = Instant::now();
    let (code, _, error) = lab.ask(&["wait", "ready", "--timeout", "500ms"]);
    assert!(code == 124 && error.contains("no agent can be reached at"), "{code} {error}");
    let silent = std::os::unix::net::UnixListener::bind(lab.path("control.sock")).unwrap();
    assert_eq!(lab.ask(&["wait", "ready", "--timeout", "500ms"]).0, 124);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(silent);
    std::fs::remove_file(lab.path("control.sock")).unwrap();

    let mut container = lab.run();
    // What can't come to be isn't waited for.
    for (what, why) in [("leader", "takes part in no election"), ("key=k", "no catalog"), ("service=s", "no catalog")] {
        let (code, _, error) = lab.ask(&["wait", what]);
        assert!(code == 1 && error.contains(why), "{what}: {code} {error}");
    }
    for nonsense in ["steady", "key=", "ready=1"] {
        assert_eq!(lab.ask(&["wait", nonsense]).0, 64, "{nonsense}");
    }
    let waiting = beside(&lab, &["wait", "ready"]);
    assert_eq!(answer(waiting).0, 0);
    assert_eq!(lab.ask(&["stop"]).0, 0);
    assert_eq!(container.wait(), Ok(3));
}

#[test]
fn who_waits_is_told_that_the_container_stops() {
    let place = Place::local();
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", \"trap : TERM; sleep 2\"]\n[catalog]\n{}\n",
        place.catalog()
    ));
    let mut container = lab.run();
    let waiting = beside(&lab, &["wait", "key=never"]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(lab.ask(&["stop"]).0, 0);
    assert_eq!(answer(waiting), (1, String::new(), "error: the container is stopping\n".to_owned()));
    container.wait().unwrap();
}

#[test]
fn who_waits_for_what_is_in_the_catalog_is_told_as_it_comes() {
    for place in Place::all() {
        let one = Lab::new(&format!("{MAIN}[catalog]\n{}\n", place.catalog()));
        let _first = one.run();
        let (code, _, error) = one.ask(&["wait", "service=db", "--timeout", "300ms"]);
        assert!(code == 124 && error.contains("service db isn't there"), "{code} {error}");
        let service = beside(&one, &["wait", "service=db"]);
        let leader = beside(&one, &["wait", "leader=db"]);
        let [(two, _second), _third] = place.run("");
        assert_eq!(answer(service), (0, "service db is there\n".to_owned(), String::new()));
        assert_eq!(answer(leader), (0, "a leader of db is there\n".to_owned(), String::new()));
        assert_eq!(two.ask(&["wait", "leader"]), (0, "one leads\n".to_owned(), String::new()));
    }
}

#[test]
fn a_parents_end_is_a_signal_like_another() {
    let lab = Lab::new(&format!("{MAIN}parent_death = \"TERM\"\n"));
    let config = lab.path("pilotfish.toml");
    let script = "\"$0\" -c \"$1\" & read never < \"$2\"";
    let never = lab.path("never");
    nix::unistd::mkfifo(&never, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let words = [Path::new("/bin/sh"), Path::new("-c"), Path::new(script), &pilotfish(), &config, &never];
    let mut parent = Start::new(words).ordinary().run().unwrap();
    eventually("main", || (lab.story().len() == 1).then_some(())).unwrap();
    parent.signal(libc::SIGKILL);
    parent.wait().unwrap();
    lab.told("term");
    eventually("the agent's end", || (!lab.path("control.sock").exists()).then_some(())).unwrap();
}

#[test]
fn the_end_of_the_parents_thread_is_not_the_parents() {
    let lab = Lab::new(&format!("{MAIN}parent_death = \"TERM\"\n"));
    let start = || Command::new(pilotfish()).arg("-c").arg(lab.path("pilotfish.toml")).spawn().unwrap();
    let mut agent = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
    eventually("main", || (lab.story().len() == 1).then_some(())).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((agent.try_wait().unwrap(), lab.story().len()), (None, 1));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(agent.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    agent.wait().unwrap();
}

/// What a subcommand answers that is given something to read: its code and its output.
fn fed(lab: &Lab, order: &[&str], input: &[u8]) -> (i32, Vec<u8>) {
    use std::io::Write;
    let mut command = Command::new(pilotfish());
    command.args(order).arg("-c").arg(lab.path("pilotfish.toml"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), output.stdout)
}

#[test]
fn keys_are_read_and_written_without_a_client() {
    for place in Place::all() {
        let lab = Lab::new(&format!("{MAIN}[catalog]\n{}\n", place.catalog()));
        let _container = lab.run();
        assert_eq!(lab.ask(&["wait", "ready"]).0, 0);
        assert_eq!(lab.ask(&["kv", "get", "app/a"]), (1, String::new(), "error: there is no key app/a\n".to_owned()));
        assert_eq!(lab.ask(&["kv", "put", "app/a", "one two"]), (0, String::new(), String::new()));
        assert_eq!(lab.ask(&["kv", "get", "app/a"]), (0, "one two".to_owned(), String::new()));
        assert_eq!(lab.ask(&["kv", "create", "app/a", "x"]).0, 1);
        let binary: Vec<u8> = (0..=255).cycle().take(256 * 1024).collect();
        assert_eq!(fed(&lab, &["kv", "put", "app/b"], &binary).0, 0);
        assert!(fed(&lab, &["kv", "get", "app/b"], b"") == (0, binary.clone()));
        assert_eq!(fed(&lab, &["kv", "put", "app/b"], &[binary.as_slice(), b"1"].concat()).0, 64);
        assert_eq!(fed(&lab, &["kv", "create", "app/c"], b"").0, 0);
        assert_eq!(lab.ask(&["kv", "get", "app/c"]), (0, String::new(), String::new()));
        for _ in 0..2 {
            assert_eq!(lab.ask(&["kv", "delete", "app/a"]).0, 0);
        }
        assert_eq!(lab.ask(&["kv", "get", "app/a"]).0, 1);
        assert_eq!(lab.ask(&["kv", "put", "a", "b", "--fenced"]).0, 1, "it takes part in no election");
        for nonsense in [["kv", "get", ""], ["kv", "get", &"k".repeat(1025)]] {
            assert_eq!(lab.ask(&nonsense).0, 64);
        }
    }
}

#[test]
fn a_key_that_nobody_can_be_asked_for_is_no_missing_key() {
    let lab = Lab::new(&format!("{MAIN}[catalog]\n{}\n", Place::Nowhere.catalog()));
    assert_eq!(lab.ask(&["kv", "get", "k"]).0, 69, "there is no agent");
    let _container = lab.run();
    assert_eq!(lab.ask(&["wait", "ready"]).0, 0);
    let (code, _, error) = lab.ask(&["kv", "get", "k"]);
    assert!(code == 69 && error.contains("127.0.0.1:1"), "{code} {error}");
    let without = Lab::new(MAIN);
    let _container = without.run();
    assert_eq!(without.ask(&["wait", "ready"]).0, 0);
    let (code, _, error) = without.ask(&["kv", "put", "k", "v"]);
    assert!(code == 69 && error.contains("no catalog is configured"), "{code} {error}");
}

#[test]
fn only_the_leader_writes_what_is_fenced() {
    for place in Place::all() {
        let [(one, _first), (two, _second)] = place.run("");
        one.told("on_promote leader one");
        assert_eq!(one.ask(&["kv", "create", "db/cluster", "7", "--fenced"]), (0, String::new(), String::new()));
        let doesnt_lead = (1, String::new(), "error: this container doesn't lead\n".to_owned());
        assert_eq!(two.ask(&["kv", "put", "db/cluster", "8", "--fenced"]), doesnt_lead);
        assert_eq!(two.ask(&["kv", "get", "db/cluster"]).1, "7");
        assert_eq!(one.ask(&["step-down", "--to", "two"]).0, 0);
        two.told("on_promote leader two");
        assert_eq!(one.ask(&["kv", "put", "db/cluster", "9", "--fenced"]), doesnt_lead);
        assert_eq!(two.ask(&["kv", "put", "db/cluster", "8", "--fenced"]).0, 0);
        assert_eq!(one.ask(&["kv", "get", "db/cluster"]).1, "8");
    }
}
