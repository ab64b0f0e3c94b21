//! `docker stop` and `docker restart`: the image's stop signal does what its users expect, in the time they expect.

use std::time::Duration;

use super::engine::{Container, within};

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn docker_stop_ends_a_plain_init_in_mains_own_time() {
    let container =
        Container::start(&[], "init", &["sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"]);
    container.says("ready");
    let took = container.stop(10);
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "3");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_main_that_ignores_the_stop_signal_is_killed_within_stop_within() {
    let config = Config::new(
        "[process]\nexec = [\"sh\", \"-c\", \"trap '' TERM; echo ready; while :; do sleep 0.05; done\"]\n[stop]\nwithin = \"1s\"\n",
    );
    let container = Container::start(&[&config.mount(), "--entrypoint=/pilotfish"], "init", &[]);
    container.says("ready");
    let took = container.stop(30);
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "137");
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10), "{took:?}");
}

/// nginx gives out a file slowly, is told to stop in the middle, and must give out the rest before it ends.
fn stops_after_its_requests(options: &[&str], arguments: &[&str]) {
    let got = tempfile::tempdir().expect("a directory can be made");
    let mount = format!("--volume={}:/got", got.path().display());
    let container = Container::start(options, "init", arguments);
    within(15, "nginx answers", || {
        (container.exec(&["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8000/"]).0 == 0).then_some(())
    });
    // On the same network, but not in that container: a client there would be killed with it, the last bytes in hand.
    let network = format!("--network=container:{}", container.inspect("{{.Id}}"));
    let download = "wget -q -O /got/slow http://127.0.0.1:8000/slow; sleep 1000";
    let _client = Container::start(&[&network, &mount], "init", &["sh", "-c", download]);
    let size = || std::fs::metadata(got.path().join("slow")).map_or(0, |file| file.len());
    within(15, "the download runs", || (size() > 0).then_some(()));
    assert!(size() < SLOW_BYTES, "the download ended too soon to show anything");
    container.stop(20);
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "0", "{}", container.logs());
    within(15, &format!("nginx dropped the request: {}", container.logs()), || (size() == SLOW_BYTES).then_some(()));
}

const SLOW_BYTES: u64 = 300_000;
const SLOW: &str = "worker_processes 1; pid /tmp/nginx.pid; events {} http { access_log /dev/stdout; server { listen 8000; root /data; location = / { return 200; } location = /slow { limit_rate 100k; } } }";

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn stopsignal_quit_reaches_nginx_through_a_plain_init() {
    let script = format!(
        "mkdir -p /data; head -c {SLOW_BYTES} /dev/zero > /data/slow; echo '{SLOW}' > /tmp/nginx.conf; exec nginx -e stderr -c /tmp/nginx.conf -g 'daemon off;'"
    );
    stops_after_its_requests(&["--stop-signal=QUIT"], &["sh", "-c", &script]);
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn stopsignal_quit_in_stop_on_lets_nginx_end_its_requests() {
    let config = Config::new(&format!(
        r#"
[process]
exec = ["nginx", "-e", "stderr", "-c", "/tmp/nginx.conf", "-g", "daemon off;"]
stop_on = ["QUIT", "TERM"]
stop_signal = "QUIT"
[stop]
within = "15s"
[hooks]
pre_start = {{ exec = ["sh", "-c", "mkdir -p /data; head -c {SLOW_BYTES} /dev/zero > /data/slow; echo '{SLOW}' > /tmp/nginx.conf"] }}
"#
    ));
    // The engine sends TERM; main gets QUIT.
    stops_after_its_requests(&[&config.mount(), "--entrypoint=/pilotfish"], &[]);
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn docker_restart_stops_and_starts_anew() {
    let config = Config::new(
        "[process]\nexec = [\"sh\", \"-c\", \"echo started; exec sleep 60\"]\n[hooks]\npre_start = { exec = [\"sh\", \"-c\", \"echo before\"] }\npost_stop = { exec = [\"sh\", \"-c\", \"echo after\"] }\n",
    );
    let container = Container::start(&[&config.mount(), "--entrypoint=/pilotfish"], "init", &[]);
    container.says("started");
    container.restart();
    within(15, "main runs again", || (container.logs().matches("started\n").count() == 2).then_some(()));
    let said = container.logs();
    assert_eq!(said.matches("after").count(), 1, "post_stop ran once between: {said}");
}

/// A config file of the test's own, mounted as /etc/pilotfish.toml.
pub struct Config {
    file: tempfile::NamedTempFile,
}

impl Config {
    pub fn new(text: &str) -> Config {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file can be made");
        std::fs::write(file.path(), text).expect("the file can be written");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).expect("its mode can be set");
        Config { file }
    }

    pub fn mount(&self) -> String {
        format!("--volume={}:/etc/pilotfish.toml:ro", self.file.path().display())
    }
}
