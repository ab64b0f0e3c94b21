//! What containers are commonly denied: a writable root, root, capabilities, processes, a network.

use super::engine::{Container, run};
use super::stop::Config;

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_container_that_may_do_nothing_runs_all_the_same() {
    let options = [
        "--read-only",
        "--user=12345:12345",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--network=none",
        "--pids-limit=8",
        "--memory=32m",
    ];
    let (code, said) = run(&options, "init", &["sh", "-c", "id -u; sleep 0.1 & wait; exit 7"]);
    assert_eq!((code, said.as_str()), (7, "12345\n"));
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_config_with_nothing_writable_warns_and_runs() {
    // No /run for the control socket, nothing to register in: said, and no reason to end.
    let options = ["--read-only", "--user=12345:12345", "--cap-drop=ALL", "--network=none"];
    let config = Config::new("[process]\nexec = [\"sh\", \"-c\", \"sleep 1; echo ran; exit 7\"]\n");
    let mount = config.mount();
    let container = Container::start(
        &options.iter().copied().chain([&*mount, "--entrypoint=/pilotfish"]).collect::<Vec<_>>(),
        "init",
        &[],
    );
    assert_eq!(container.ends(), 7);
    let said = container.logs();
    assert!(said.contains("ran\n"), "{said}");
    assert!(said.contains("/run/pilotfish.sock"), "the socket's absence isn't said: {said}");
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_main_that_the_kernel_kills_for_want_of_memory_is_told_apart_from_one_that_somebody_killed() {
    // A block that dd holds as a whole.
    let config =
        Config::new("[process]\nexec = [\"dd\", \"if=/dev/zero\", \"of=/dev/null\", \"bs=200M\", \"count=1\"]\n");
    let mount = config.mount();
    let container = Container::start(&["--memory=48m", &*mount, "--entrypoint=/pilotfish"], "init", &[]);
    assert_eq!(container.ends(), 137);
    let said = container.logs();
    assert!(said.contains("has killed a process of this container for want of memory"), "{said}");
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_pids_limit_that_leaves_no_room_is_an_error_and_no_hang() {
    let (code, said) = run(&["--pids-limit=1"], "init", &["sh", "-c", "exit 7"]);
    assert!(code != 0 && code != 124, "{code}: {said}");
    assert!(!said.is_empty());
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn the_image_of_pilotfish_alone_needs_nothing_else() {
    let (code, said) = run(&["--read-only", "--network=none"], "pilotfish", &["--version"]);
    assert_eq!((code, said), (0, format!("pilotfish {}\n", env!("CARGO_PKG_VERSION"))));
}
