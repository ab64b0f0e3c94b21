//! Whose a process is, and why main ended, as users of container inits have met it: what main, a hook or a check left
//! in any shape is found and ended, and nothing ends or goes on by mistake. Every shape with every kind of run and end
//! is in `leftovers`.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::lab::Lab;
use crate::support::namespace::{Container, Start, copy_program, eventually, pilotfish, processes, specimen, within};

/// Much less than `[stop] within`, which a wait for what isn't there would take.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A helper with two workers that it reaps itself, in the shape of nginx, php-fpm or postgres; all obey at once.
const HELPER: &str = "setsid sh -c 'trap \"wait; exit 0\" TERM; sleep 1000 & sleep 1000 & wait; wait' &";

/// The directory's name for its file `main`, a script, as main.
fn lab(script: &str, more: &str) -> Lab {
    let specimen = specimen();
    let specimen = specimen.to_str().unwrap();
    let config = format!("[process]\nexec = [\"sh\", \"DIR/main\"]\n{more}").replace("SPECIMEN", specimen);
    let lab = Lab::new(&config);
    let directory = lab.path("");
    let directory = directory.to_str().unwrap().trim_end_matches('/');
    fs::write(lab.path("main"), script.replace("SPECIMEN", specimen).replace("DIR", directory)).unwrap();
    lab
}

/// What a recording specimen was sent, after its "ready"; nothing before it is.
fn recorded(file: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines().map(str::to_owned);
    lines.next().map(|_| lines.collect())
}

fn log_says(container: &Container, text: &str) {
    eventually(text, || container.stderr().contains(text).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
}

/// Waits until the story has this line so often.
fn told_times(lab: &Lab, line: &str, times: usize, container: &Container) {
    let count = || lab.story().iter().filter(|told| *told == line).count();
    within(AT_ONCE, line, || (count() >= times).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?} {}", lab.story(), container.stderr()));
}

#[test]
fn a_stop_takes_no_longer_than_main_and_the_workers_of_its_helper_take() {
    let lab = lab(&format!("{HELPER} sleep 0.3; echo up >> DIR/story; exec sleep 1000"), "");
    let mut container = lab.run();
    lab.told("up");
    let begun = Instant::now();
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait(), Ok(143));
    assert!(begun.elapsed() < AT_ONCE, "{:?}: {}", begun.elapsed(), container.stderr());
}

#[test]
fn a_main_that_crashes_beside_a_helper_with_workers_is_started_again_at_once() {
    let script = format!(
        "echo start >> DIR/story; {HELPER} sleep 0.3; [ $(grep -c start DIR/story) -gt 1 ] && exec sleep 1000; exit 5"
    );
    let lab = lab(&script, "restart = { policy = \"on-failure\", backoff = \"100ms\" }\n");
    let container = lab.run();
    told_times(&lab, "start", 2, &container);
}

/// Hardened hosts mount /proc so; what can't be dumped (ssh-agent, a program that can't be read) isn't shown even to its
/// own user then.
#[test]
fn what_main_left_is_ended_where_proc_hides_it() {
    let script = "echo start >> DIR/story; setsid DIR/hidden 1000 & sleep 0.3; \
         [ $(grep -c start DIR/story) -gt 1 ] && exec sleep 1000; exit 5";
    let lab = lab(script, "restart = { policy = \"on-failure\", backoff = \"100ms\" }\n");
    copy_program(Path::new("/bin/sleep"), &lab.path("hidden"));
    copy_program(&pilotfish(), &lab.path("pilotfish"));
    for (name, mode) in
        [("", 0o777), ("hidden", 0o711), ("pilotfish", 0o755), ("main", 0o644), ("pilotfish.toml", 0o644)]
    {
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let directory = lab.path("");
    let agent = format!(
        "mount -o remount,hidepid=2 /proc && cd {} && \
         exec setpriv --reuid 54321 --regid 54321 --clear-groups ./pilotfish -c pilotfish.toml",
        directory.display()
    );
    let mut container = lab.run_as(Start::new(["/bin/sh", "-c", &agent]));
    told_times(&lab, "start", 2, &container);
    let begun = Instant::now();
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait(), Ok(143));
    assert!(begun.elapsed() < AT_ONCE, "{:?}: {}", begun.elapsed(), container.stderr());
}

#[test]
fn what_a_docker_exec_left_is_not_taken_for_the_launchers_daemon() {
    // Told by its environment; and where main has another user, by that, for nobody has root's process for main.
    for (user, daemon) in [("0", "setsid sleep 1000"), ("65534", "sleep 1000")] {
        let script =
            format!("until [ -e DIR/go ]; do sleep 0.05; done; {daemon} & echo $! > DIR/daemon; sleep 0.3; exit 0");
        let lab = lab(&script, &format!("user = \"{user}\"\nbackground = \"follow\"\n"));
        fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o777)).unwrap();
        let container = lab.run();
        let inside = ["-t", &container.pid.to_string(), "-p", "-m", "sh", "-c", "setsid sleep 1000 & sleep 0.1"];
        assert!(Command::new("nsenter").args(inside).status().unwrap().success());
        fs::write(lab.path("go"), "").unwrap();
        let daemon =
            eventually("the daemon", || fs::read_to_string(lab.path("daemon")).ok().filter(|pid| !pid.is_empty()));
        log_says(&container, &format!("main is process {} from now on", daemon.unwrap().trim()));
    }
}

#[test]
fn a_number_that_main_named_once_is_nobody_elses_name() {
    let script = "echo start >> DIR/story; [ $(grep -c start DIR/story) -gt 1 ] && exec sleep 1000\n\
                  sleep 0.2 & named=$!; SPECIMEN notify MAINPID=$named; wait $named\n\
                  echo $((named - 1)) > /proc/sys/kernel/ns_last_pid; sleep 1000 &\n\
                  [ $! = $named ] && echo same >> DIR/story; kill -KILL $$";
    let more = "background = \"follow\"\nrestart = { policy = \"always\", backoff = \"100ms\" }\n\
                [[health]]\nnotify = true\ngrace = \"1h\"\n";
    let lab = lab(script, more);
    let container = lab.run();
    told_times(&lab, "start", 2, &container);
    assert!(lab.story().contains(&"same".to_owned()), "{:?}", lab.story());
    assert!(!container.stderr().contains("main.followed"), "{}", container.stderr());
}

#[test]
fn a_leftover_is_told_to_end_whatever_its_name() {
    for name in ["helper", "наименование-службы", "Überwachungsdienst"] {
        let script = format!("setsid DIR/{name} record DIR/$$ 15 & until [ -s DIR/$$ ]; do sleep 0.02; done; exit 3");
        let lab = lab(&script, "restart = { policy = \"on-failure\", max = 1, within = \"1m\", backoff = \"50ms\" }\n");
        copy_program(&specimen(), &lab.path(name));
        let begun = Instant::now();
        let mut container = lab.start().run().unwrap();
        assert_eq!(container.wait(), Ok(3));
        assert!(begun.elapsed() < AT_ONCE, "{name}: {:?}", begun.elapsed());
        let records = fs::read_dir(lab.path("")).unwrap().flatten();
        let records = records.filter(|entry| entry.file_name().to_str().unwrap().parse::<u32>().is_ok());
        let told: Vec<_> = records.map(|entry| recorded(&entry.path()).unwrap()).collect();
        assert!(told.len() == 2 && told.iter().all(|told| told.contains(&"15".to_owned())), "{name}: {told:?}");
    }
}

#[test]
fn a_watchs_signal_waits_for_the_handler_of_a_main_whose_name_is_cut_in_a_character() {
    gets_the_watchs_signal("record DIR/record 0 2000");
}

#[test]
fn a_watchs_signal_comes_to_a_main_that_has_it_blocked_and_waits_for_it() {
    gets_the_watchs_signal("record-waiting DIR/record 0");
}

/// Main is a specimen that does this.
fn gets_the_watchs_signal(main: &str) {
    let local = |lab: &Lab| format!("[catalog]\nbackend = \"local\"\ndirectory = \"{}\"\n", lab.path("").display());
    let shared = Lab::new("");
    let watch = format!("[[watch]]\nname = \"k\"\nservice = \"other\"\nsignal = \"HUP\"\n{}", local(&shared));
    let watcher = lab(&format!("exec DIR/обработчик-сигналов {main}"), &watch);
    copy_program(&specimen(), &watcher.path("обработчик-сигналов"));
    let mut container = watcher.run();
    log_says(&container, "main runs");
    let service = "[[service]]\nname = \"other\"\nport = 80\naddress = [\"static:127.0.0.1\"]\n";
    let other = lab("exec sleep 1000", &format!("{service}{}", local(&shared)));
    let _other = other.run();
    let heard = || recorded(&watcher.path("record")).filter(|heard| heard.contains(&"01".to_owned()));
    eventually("the signal", heard).unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
    assert_eq!(container.ended(), None);
}

#[test]
fn what_a_leaders_hook_runs_through_timeout_is_gone_when_the_next_one_leads() {
    let shared = Lab::new("");
    let candidate = |id: &str| {
        let more = format!(
            "[hooks.on_promote]\nexec = [\"sh\", \"DIR/promote\"]\ntimeout = \"30s\"\n\
             [hooks.on_demote]\nexec = [\"true\"]\n\
             [[service]]\nname = \"db\"\nid = \"{id}\"\nport = 5432\naddress = [\"static:127.0.0.1\"]\n\
             [election]\nname = \"db\"\n[catalog]\nbackend = \"local\"\ndirectory = \"{}\"\n",
            shared.path("").display()
        );
        let lab = lab("exec sleep 1000", &more);
        // It doesn't obey, so that it ends last of all.
        let acts = format!("timeout 60 {} record {} 0", specimen().display(), lab.path("acts").display());
        let others = format!(
            "flock -n -x {} true && echo alone >> {dir}/story || echo beside another >> {dir}/story\n{acts}; true",
            shared.path("last").display(),
            dir = lab.path("").display()
        );
        fs::write(lab.path("promote"), others).unwrap();
        lab
    };
    let (one, two) = (candidate("one"), candidate("two"));
    // What `two` asks is whether anybody holds what `one` acts on.
    std::os::unix::fs::symlink(one.path("acts"), shared.path("last")).unwrap();
    let first = one.run();
    eventually("one acts", || recorded(&one.path("acts"))).unwrap_or_else(|e| panic!("{e}: {}", first.stderr()));
    let _second = two.run();
    eventually("two follows", || two.ask(&["leader"]).1.starts_with("one ").then_some(())).unwrap();
    // Its on_promote, which says when it acts, doesn't end in this test.
    assert_eq!(one.ask(&["step-down", "--to", "two", "--timeout", "1s"]).0, 124);
    eventually("two acts", || recorded(&two.path("acts"))).unwrap_or_else(|e| panic!("{e}: {}", first.stderr()));
    assert_eq!(two.story(), ["alone"], "{}", first.stderr());
}

#[test]
fn checks_past_their_timeout_do_not_pile_up() {
    let check = "[[health]]\nexec = [\"sh\", \"-c\", \"timeout 60 sleep 49; true\"]\ntimeout = \"200ms\"\n\
                 interval = \"100ms\"\nstart_interval = \"100ms\"\n";
    let lab = lab("exec SPECIMEN record DIR/main.signals 0", check);
    let container = lab.run();
    let sleeping = || {
        let below = descendants(container.pid);
        let name = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        below.iter().filter(|pid| name(pid) == "sleep\n").count()
    };
    eventually("the first check", || (sleeping() > 0).then_some(())).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert!(sleeping() <= 2, "{} after {:?}: {}", sleeping(), begun.elapsed(), container.stderr());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All below this process.
pub fn descendants(root: i32) -> Vec<i32> {
    let processes = processes();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(processes.iter().filter(|process| process.parent == parent).map(|process| process.pid));
        at += 1;
    }
    found.split_off(1)
}

#[test]
fn a_signal_for_a_followed_main_is_for_its_master_alone() {
    let lab = lab("setsid sh DIR/master & exit 0", "background = \"follow\"\n");
    let master = "trap 'echo reloads >> DIR/story' HUP; SPECIMEN record DIR/worker 15 &\n\
                  until [ -s DIR/worker ]; do sleep 0.02; done; echo up >> DIR/story; while :; do sleep 0.05; done"
        .replace("SPECIMEN", specimen().to_str().unwrap())
        .replace("DIR/", lab.path("").to_str().unwrap());
    fs::write(lab.path("master"), master).unwrap();
    let container = lab.run();
    lab.told("up");
    log_says(&container, "main.followed");
    container.signal(libc::SIGHUP);
    lab.told("reloads");
    assert_eq!(recorded(&lab.path("worker")), Some(Vec::new()), "{}", container.stderr());
}

#[test]
fn a_crash_after_a_hup_that_main_catches_is_a_crash() {
    let script = "echo start >> DIR/story; [ $(grep -c start DIR/story) = 2 ] && exec sleep 1000\n\
                  trap 'echo reloading >> DIR/story' HUP; echo up >> DIR/story\n\
                  until grep -q reloading DIR/story; do sleep 0.05; done; sleep 0.5; exit 9";
    let lab = lab(script, "restart = { policy = \"always\", backoff = \"50ms\" }\n");
    let mut container = lab.run();
    lab.told("up");
    container.signal(libc::SIGHUP);
    lab.told("reloading");
    told_times(&lab, "start", 2, &container);
    assert_eq!(container.ended(), None);
}

#[test]
fn a_daemon_of_pre_start_is_told_at_the_end() {
    let hook = "[hooks.pre_start]\nexec = [\"sh\", \"-c\", \
                \"setsid SPECIMEN record DIR/helper 15 & until [ -s DIR/helper ]; do sleep 0.02; done\"]\n";
    let lab = lab("echo main >> DIR/story; exec sleep 1000", hook);
    let mut container = lab.run();
    lab.told("main");
    assert_eq!(recorded(&lab.path("helper")), Some(Vec::new()));
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait(), Ok(143));
    assert_eq!(recorded(&lab.path("helper")), Some(vec!["15".to_owned()]), "{}", container.stderr());
}

/// From inside, as by `docker exec`: one from elsewhere would hold the whole PID namespace.
fn held_by_a_tracer(container: &Container, pid: &str) -> Tracer {
    let (of, specimen) = (container.pid.to_string(), specimen());
    let inside = ["-t", &of, "-p", "-m", specimen.to_str().unwrap(), "trace", pid];
    let mut tracer = Command::new("nsenter").args(inside).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(tracer.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "traced\n");
    Tracer(tracer)
}

/// It ends with the container that it is in.
struct Tracer(Child);

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that tells its number and ends with this code once it is told.
fn ending(code: u8) -> String {
    format!("echo $$ > DIR/pid; echo up >> DIR/story; read line < DIR/fifo; exit {code}")
}

const LONG_STOP: &str = "[stop]\nwithin = \"60s\"\n";

#[test]
fn a_main_whose_tracer_keeps_its_end_to_itself_ends_the_container_with_its_own_code() {
    let lab = lab(&ending(3), LONG_STOP);
    mkfifo(&lab.path("fifo"), Mode::S_IRWXU).unwrap();
    let mut container = lab.run();
    lab.told("up");
    let _tracer = held_by_a_tracer(&container, fs::read_to_string(lab.path("pid")).unwrap().trim());
    fs::write(lab.path("fifo"), "\n").unwrap();
    assert_eq!(container.wait_for(AT_ONCE), Ok(3), "{}", container.stderr());
    log_says(&container, "held by its tracer: exited with code 3");
}

#[test]
fn a_coprocess_whose_tracer_keeps_its_end_to_itself_delays_no_stop() {
    let lab = lab(
        "exec sleep 1000",
        &format!(
            "{LONG_STOP}[[coprocess]]\nname = \"side\"\nrestart = {{ policy = \"never\" }}\nexec = [\"sh\", \"DIR/side\"]\n"
        ),
    );
    fs::write(lab.path("side"), ending(4).replace("DIR", lab.path("").to_str().unwrap().trim_end_matches('/')))
        .unwrap();
    mkfifo(&lab.path("fifo"), Mode::S_IRWXU).unwrap();
    let mut container = lab.run();
    lab.told("up");
    let _tracer = held_by_a_tracer(&container, fs::read_to_string(lab.path("pid")).unwrap().trim());
    fs::write(lab.path("fifo"), "\n").unwrap();
    log_says(&container, "held by its tracer: exited with code 4");
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait_for(AT_ONCE), Ok(143), "{}", container.stderr());
}
