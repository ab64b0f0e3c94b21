//! Containers on one shared volume see each other through the `local` catalog: the images of docker/, together.

use std::path::Path;
use std::time::{Duration, Instant};

use super::engine::{Container, within};
use super::stop::Config;

/// A killed container is seen by the kernel's lock, not by a clock. Measured: a few milliseconds; the rest is for a
/// machine that compiles meanwhile.
const SEEN_WITHIN: Duration = Duration::from_millis(500);

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn nginx_follows_backends_that_come_die_and_leave() {
    let shared = tempfile::tempdir().expect("a directory can be made");
    let volume = format!("--volume={}:/shared", shared.path().display());
    let start = |image: &str| Container::start(&[&volume], image, &[]);
    let (one, two, nginx) = (start("web"), start("web"), start("nginx"));
    let knows = |expected: &[&Container]| {
        let mut expected: Vec<String> = expected.iter().map(|web| web.address()).collect();
        expected.sort();
        within(20, &format!("nginx knows {expected:?}"), || {
            let (_, pool) = nginx.exec(&["wget", "-q", "-O", "-", "http://127.0.0.1/pool"]);
            let mut pool: Vec<String> = pool.split_whitespace().map(str::to_owned).collect();
            pool.sort();
            (pool == expected).then_some(())
        });
    };
    knows(&[&one, &two]);
    let three = start("web");
    knows(&[&one, &two, &three]);
    one.kill("KILL");
    knows(&[&two, &three]);
    assert!(two.stop(20) < Duration::from_secs(15));
    // The demo's backend knows no SIGTERM of its own.
    assert_eq!(two.inspect("{{.State.ExitCode}}"), "143", "{}", two.logs());
    knows(&[&three]);
    let (code, body) = nginx.exec(&["wget", "-q", "-O", "-", "http://127.0.0.1/health"]);
    assert_eq!((code, body.as_str()), (0, "well\n"));
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_container_that_is_killed_is_seen_by_its_neighbour_in_milliseconds() {
    let shared = tempfile::tempdir().expect("a directory can be made");
    let volume = format!("--volume={}:/shared", shared.path().display());
    let watcher = Config::new(
        r#"
[process]
exec = ["sleep", "600"]
[[watch]]
name = "web"
service = "web"
on_change = { exec = ["sh", "-c", "tee /shared/change.new >/dev/null; mv /shared/change.new /shared/change"] }
[catalog]
backend = "local"
directory = "/shared/pilotfish"
"#,
    );
    let _watcher = Container::start(&[&volume, &watcher.mount(), "--entrypoint=/pilotfish"], "init", &[]);
    let change = shared.path().join("change");
    let mut took = Vec::new();
    for _ in 0..5 {
        let web = Container::start(&[&volume], "web", &[]);
        within(20, "the new one is seen", || instances(&change, 1));
        let pid = nix::unistd::Pid::from_raw(web.pid());
        let begun = Instant::now();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("one's own container can be killed");
        within(20, "the killed one is gone", || instances(&change, 0));
        took.push(begun.elapsed());
    }
    took.sort();
    println!("kill -9 of a container to its neighbour's hook done: {took:?}");
    assert!(took[2] < SEEN_WITHIN, "the median of {took:?}");
}

/// Whether the last change told of `count` instances.
fn instances(change: &Path, count: usize) -> Option<()> {
    let change: serde_json::Value = serde_json::from_slice(&std::fs::read(change).ok()?).ok()?;
    (change["instances"].as_array()?.len() == count).then_some(())
}
