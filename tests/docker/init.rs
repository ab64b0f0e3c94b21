//! `ENTRYPOINT ["/pilotfish", "--"]`: a plain init in a container.

use super::engine::{Container, run, within};

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn the_container_ends_with_mains_code() {
    assert_eq!(run(&[], "init", &["sh", "-c", "exit 7"]), (7, String::new()));
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_main_killed_by_a_signal_gives_128_and_its_number() {
    assert_eq!(run(&[], "init", &["sh", "-c", "kill -KILL $$"]).0, 137);
    assert_eq!(run(&[], "init", &["sh", "-c", "kill -TERM $$"]).0, 143);
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_missing_command_gives_127_and_one_that_is_no_program_126() {
    let (code, said) = run(&[], "init", &["/no/such/program"]);
    assert_eq!(code, 127, "{said}");
    assert!(said.contains("/no/such/program"), "{said}");
    let (code, said) = run(&[], "init", &["/etc/passwd"]);
    assert_eq!(code, 126, "{said}");
    assert!(said.contains("/etc/passwd"), "{said}");
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn docker_kill_sends_main_any_signal() {
    let script =
        "for s in HUP USR1 USR2 WINCH QUIT; do trap \"echo got $s\" $s; done; echo ready; while :; do sleep 0.1; done";
    let container = Container::start(&[], "init", &["sh", "-c", script]);
    container.says("ready");
    for signal in ["HUP", "USR1", "USR2", "WINCH", "QUIT"] {
        container.kill(signal);
        container.says(&format!("got {signal}"));
    }
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn in_tinis_place_it_takes_tinis_options() {
    assert_eq!(run(&[], "tini", &["sh", "-c", "exit 7"]), (7, String::new()));
    assert_eq!(run(&[], "tini", &["sh", "-c", "exit 3"]).0, 0);
    let container = Container::start(&[], "tini", &["sh", "-c", "trap : USR1; echo ready; sleep 60; exit 9"]);
    container.says("ready");
    // To the whole group, so that the sleeper ends.
    within(10, "the sleeper", || container.exec(&["ps"]).1.contains("sleep 60").then_some(()));
    container.kill("USR1");
    assert_eq!(container.ends(), 9);
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn orphans_leave_no_zombies() {
    // Each inner shell leaves a child behind that ends a moment later, with pilotfish as its new parent.
    let script = "for i in $(seq 300); do sh -c 'sleep 0.2 &' ; done; echo left; exec sleep 60";
    let container = Container::start(&[], "init", &["sh", "-c", script]);
    container.says("left");
    let state = || {
        let (code, seen) = container.exec(&["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | cut -d' ' -f2-3"]);
        assert_eq!(code, 0, "{seen}");
        seen
    };
    // What is left: pilotfish, main, and the shell and cat that look.
    within(10, "all orphans reaped", || {
        let seen = state();
        (!seen.contains(" Z") && seen.matches("(sleep)").count() == 1).then_some(())
    });
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn main_gets_stdin_stdout_and_stderr_untouched() {
    use super::engine::{command, image, label};
    use std::io::Write;
    use std::process::Stdio;

    let mut child = command("run")
        .args(["--rm", "--interactive", &label(), &image("init"), "sh", "-c", "cat; echo to-stderr >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("docker can be started");
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let output = child.wait_with_output().expect("docker run ends");
    writer.join().expect("the writer doesn't panic").expect("all is taken");
    assert!(output.status.success());
    assert!(output.stdout == bytes, "{} of {} bytes came back", output.stdout.len(), bytes.len());
    assert_eq!(output.stderr, b"to-stderr\n");
}
