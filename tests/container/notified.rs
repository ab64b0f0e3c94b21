//! sd_notify(3) with its own client, systemd-notify(1), below and above: what a main that speaks it gets and says, and what
//! a service manager above the container hears.
#![allow(unsafe_code, clippy::disallowed_methods, reason = "tests")]

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use super::belonging::descendants;
use crate::support::lab::Lab;
use crate::support::namespace::{Container, Process, eventually, processes, specimen};

const TERM: i32 = 15;

fn log_says(container: &Container, text: &str) {
    eventually(text, || container.stderr().contains(text).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
}

/// A shell script as main that is ready at once, with a check that waits for its words.
fn speaking(script: &str) -> Lab {
    let script = format!("echo main $WATCHDOG_USEC >> DIR/story; systemd-notify --ready; {script}");
    Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", '''{script}''']\nrestart = {{ policy = \"always\", backoff = \"10ms\" }}\n\
         [[health]]\nname = \"said\"\nnotify = true\ninterval = \"1s\"\ntimeout = \"500ms\"\nfailures = 1\n\
         on_failure = \"restart\"\n[stop]\nwithin = \"4s\"\n"
    ))
}

fn ends(mut container: Container) {
    container.signal(TERM);
    container.wait().unwrap();
}

#[test]
fn main_knows_how_often_to_say_that_it_lives_and_that_it_is_meant() {
    let lab = speaking(
        "[ $WATCHDOG_PID = $$ ] && echo meant >> DIR/story; while systemd-notify WATCHDOG=1; do sleep 0.3; done",
    );
    let container = lab.run();
    lab.told("main 1000000");
    lab.told("meant");
    log_says(&container, "check said passes");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(lab.ask(&["health"]).0, 0);
    assert_eq!(lab.story(), ["main 1000000", "meant"]);
    ends(container);
}

#[test]
fn a_main_that_falls_silent_and_one_that_pulls_the_trigger_are_restarted() {
    for script in ["systemd-notify WATCHDOG=1; sleep 1000", "systemd-notify WATCHDOG=trigger; sleep 1000"] {
        let lab = speaking(script);
        let container = lab.run();
        eventually("a restart", || (lab.story().len() >= 2).then_some(())).unwrap();
        ends(container);
    }
}

#[test]
fn a_trigger_that_is_pulled_while_main_starts_is_heard_at_once() {
    let lab = Lab::new(
        "[process]\nexec = [\"sh\", \"-c\", \"systemd-notify WATCHDOG=trigger; sleep 1000\"]\n\
         [[health]]\nnotify = true\ngrace = \"1h\"\non_failure = \"exit\"\n[stop]\nwithin = \"4s\"\n",
    );
    let mut container = lab.start().run().unwrap();
    container.wait().unwrap();
    assert!(container.stderr().contains("main said WATCHDOG=trigger"), "{}", container.stderr());
}

#[test]
fn what_a_launcher_said_holds_for_the_daemon_that_is_followed_and_for_a_check_that_a_reload_renames() {
    let config = |name: &str| {
        format!(
            "[process]\nexec = [\"sh\", \"-c\", \"setsid sleep 1000 & systemd-notify --ready --pid=$!; sleep 0.3; exit 0\"]\n\
             background = \"follow\"\n[[health]]\nname = \"{name}\"\nnotify = true\ngrace = \"0s\"\nfailures = 1\n\
             interval = \"200ms\"\n[stop]\nwithin = \"4s\"\n"
        )
    };
    let lab = Lab::new(&config("said"));
    let container = lab.run();
    log_says(&container, "main is process");
    let is_healthy = || (lab.ask(&["health"]).0 == 0).then_some(());
    eventually("a healthy daemon", is_healthy).unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
    lab.write(&config("ready"));
    let (code, said, _) = lab.ask(&["reload"]);
    assert!(code == 0 && !said.contains("next start"), "{code} {said}");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(lab.ask(&["health"]).0, 0, "{}", lab.ask(&["status"]).1);
    ends(container);
}

#[test]
fn each_master_that_the_last_one_names_in_its_place_is_followed() {
    let lab = Lab::new(
        "[process]\nexec = [\"sh\", \"DIR/master\", \"1\"]\nbackground = \"follow\"\n\
         [[health]]\nnotify = true\n[stop]\nwithin = \"4s\"\n",
    );
    let master = "trap 'sh DIR/master $(($1 + 1)) & sleep 1.2; exit 0' USR2\n\
                  systemd-notify --ready --pid=$$ --status=\"master $1\"\nwhile :; do sleep 0.05; done\n";
    std::fs::write(lab.path("master"), master.replace("DIR", lab.path("").to_str().unwrap())).unwrap();
    let container = lab.run();
    for number in 1..=3 {
        let is_main = || {
            let (code, status, _) = lab.ask(&["status"]);
            let upgrades = container.stderr().matches("main is process").count();
            (code == 0 && status.contains(&format!("master {number}")) && upgrades + 1 == number).then_some(())
        };
        eventually("the next master", is_main).unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
        assert_eq!(lab.ask(&["signal", if number < 3 { "USR2" } else { "WINCH" }]).0, 0);
    }
    assert_eq!(lab.ask(&["health"]).0, 0);
    ends(container);
}

#[test]
fn what_is_said_right_before_an_end_is_heard_before_the_end() {
    for user in ["0", "65534"] {
        let script = format!(
            "trap '{specimen} notify MAINPID=$!; exit 3' USR2; sleep 1000 & {specimen} notify READY=1; \
             while :; do sleep 0.05; done",
            specimen = specimen().display()
        );
        let run = format!("exec = [\"sh\", \"-c\", \"{script}\"]\nuser = \"{user}\"\nbackground = \"follow\"\n");
        let lab = Lab::new(&format!(
            "[process]\n{run}[[health]]\nname = \"said\"\nnotify = true\n[stop]\nwithin = \"4s\"\n\
             [[coprocess]]\nname = \"beside\"\nready = {{ notify = true }}\n{run}"
        ));
        let mut container = lab.run();
        log_says(&container, "check said passes");
        log_says(&container, "beside is ready");
        let is_shell =
            |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sh\n");
        // A shell's child is called so as well until its exec.
        let masters = || descendants(container.pid).into_iter().filter(is_shell).collect::<Vec<i32>>();
        let masters = eventually("both masters", || Some(masters()).filter(|masters| masters.len() == 2)).unwrap();
        // The agent sees all of it at once: a busy machine, a frozen cgroup.
        container.signal(libc::SIGSTOP);
        // SAFETY: no memory involved; nobody reaps them but the agent, and a keeper that hears of its own.
        assert!(masters.iter().all(|pid| unsafe { libc::kill(*pid, libc::SIGUSR2) } == 0));
        let lives = |process: &Process| masters.contains(&process.pid) && process.state != 'Z';
        eventually("their ends", || (!processes().iter().any(lives)).then_some(())).unwrap();
        container.signal(libc::SIGCONT);
        log_says(&container, "main is process");
        log_says(&container, "beside went to the background");
        assert_eq!(container.ended(), None, "{user}: {}", container.stderr());
        ends(container);
    }
}

#[test]
fn a_check_that_main_can_hear_of_only_at_its_next_start_harms_nobody_before() {
    let main = "[process]\nexec = [\"sleep\", \"1000\"]\n[stop]\nwithin = \"4s\"\n";
    let lab = Lab::new(main);
    let container = lab.run();
    lab.write(&format!("{main}[[health]]\nnotify = true\ngrace = \"0s\"\nfailures = 1\ninterval = \"100ms\"\n"));
    assert_eq!(lab.ask(&["reload"]).0, 0);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(lab.ask(&["health"]).0, 0, "{}", lab.ask(&["status"]).1);
    assert!(!container.stderr().contains("is critical"), "{}", container.stderr());
    ends(container);
}

#[test]
fn a_main_that_says_it_stops_is_out_of_the_rotation_and_isnt_judged_while_it_does() {
    let lab = speaking("sleep 1; systemd-notify STOPPING=1; sleep 2; echo over >> DIR/story; exit 0");
    let container = lab.run();
    log_says(&container, "main says that it is stopping");
    assert_eq!(lab.ask(&["health"]).0, 1);
    lab.told("over");
    eventually("another start", || (lab.story().len() >= 3).then_some(())).unwrap();
    assert!(!container.stderr().contains("check said is critical"), "{}", container.stderr());
    ends(container);
}

#[test]
fn the_process_that_main_names_is_the_one_that_is_followed() {
    let lab = Lab::new(
        "[process]\nexec = [\"sh\", \"-c\", \"setsid sleep 1000 & sleep 2000 & echo $! > DIR/daemon; \
         systemd-notify --pid=$!; sleep 0.5; exit 0\"]\nbackground = \"follow\"\n\
         [[health]]\nnotify = true\n[stop]\nwithin = \"4s\"\n",
    );
    let container = lab.run();
    let pid = || {
        std::fs::read_to_string(lab.path("daemon")).ok().map(|pid| format!("main runs on as process {}", pid.trim()))
    };
    let said = eventually("the daemon", pid).unwrap();
    let number = said.rsplit(' ').next().unwrap().to_owned();
    eventually("it is main", || lab.ask(&["status"]).1.contains(&format!("runs as process {number}")).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {} {}", container.stderr(), lab.ask(&["status"]).1));
    ends(container);
}

/// Root's agent would signal what that user couldn't, and end with the code of what isn't main.
#[test]
#[allow(clippy::disallowed_types, reason = "who comes from outside is nobody's child here")]
fn another_users_main_names_no_process_but_of_its_own_user_to_be_followed() {
    let main = "until [ -s DIR/roots ]; do sleep 0.02; done; systemd-notify MAINPID=$(cat DIR/roots); sleep 1; exit 0";
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", \"{main}\"]\nuser = \"65534:65534\"\nbackground = \"follow\"\n\
         [[health]]\nnotify = true\ngrace = \"1m\"\n[stop]\nwithin = \"4s\"\n"
    ));
    std::fs::set_permissions(lab.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut container = lab.run();
    // A daemon that somebody starts with `docker exec`.
    let daemon =
        format!("setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' &", lab.path("roots").display());
    let inside = container.main().unwrap().to_string();
    let entered = std::process::Command::new("nsenter")
        .args(["--pid", "--mount", "--target", &inside, "sh", "-c", &daemon])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(entered.success());
    assert_eq!(container.wait(), Ok(0), "{}", container.stderr());
    assert!(!container.stderr().contains("main is process"), "{}", container.stderr());
    assert!(!container.stderr().contains("runs on as process"), "{}", container.stderr());
}

#[test]
fn neither_a_coprocess_nor_a_task_nor_a_check_speaks_for_main() {
    let says = |name: &str| {
        let script = "until [ -e DIR/socket ]; do sleep 0.05; done; export NOTIFY_SOCKET=$(cat DIR/socket)";
        let script =
            format!("{script}; echo {name} >> DIR/story; exec {} notify-and-stay READY=1", specimen().display());
        format!("[\"sh\", \"-c\", '''{script}''']")
    };
    let main = format!(
        "echo $NOTIFY_SOCKET > DIR/draft; mv DIR/draft DIR/socket; until [ -e DIR/go ]; do sleep 0.05; done; \
         {} notify READY=1; exec sleep 1000",
        specimen().display()
    );
    // All of them are root's, whose word counts where it comes from outside.
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", '''{main}''']\n[stop]\nwithin = \"4s\"\n\
         [[health]]\nname = \"said\"\nnotify = true\ngrace = \"1m\"\n\
         [[health]]\nname = \"other\"\nexec = {}\ngrace = \"1m\"\ninterval = \"2m\"\ntimeout = \"1m\"\n\
         [[coprocess]]\nname = \"beside\"\nexec = {}\n\
         [[task]]\nname = \"often\"\nexec = {}\nevery = \"1h\"\ntimeout = \"30m\"\nat_start = true\n",
        says("check"),
        says("coprocess"),
        says("task"),
    ));
    let container = lab.run();
    for name in ["check", "coprocess", "task"] {
        lab.told(name);
    }
    log_says(&container, "sd_notify from a foreign process ignored");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!container.stderr().contains("check said passes"), "{}", container.stderr());
    std::fs::write(lab.path("go"), "").unwrap();
    log_says(&container, "check said passes");
    ends(container);
}

#[test]
fn a_main_started_after_a_reload_that_brings_its_check_is_heard() {
    let main = "[process]\nexec = [\"sh\", \"-c\", \"systemd-notify --ready; sleep 1000\"]\n[stop]\nwithin = \"4s\"\n";
    let lab = Lab::new(main);
    let container = lab.run();
    log_says(&container, "main runs");
    lab.write(&format!("{main}[[health]]\nname = \"said\"\nnotify = true\n"));
    let (code, said, _) = lab.ask(&["reload"]);
    assert!(code == 0 && said.contains("[[health]] notify"), "{code} {said}");
    assert_eq!(lab.ask(&["restart"]).0, 0);
    log_says(&container, "check said passes");
    ends(container);
}

/// What a service manager above has heard by then.
fn heard(outer: &UnixDatagram, until: Duration) -> Vec<String> {
    let (mut heard, begun) = (Vec::new(), Instant::now());
    let mut buffer = [0; 4096];
    while begun.elapsed() < until {
        if let Ok(count) = outer.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
        }
    }
    heard
}

#[test]
fn a_service_manager_above_hears_that_the_container_is_ready_lives_and_stops() {
    let lab = Lab::new(
        "[process]\nexec = [\"sleep\", \"1000\"]\n[[health]]\nexec = [\"test\", \"-e\", \"DIR/ok\"]\n\
         start_interval = \"50ms\"\n[stop]\nwithin = \"4s\"\n",
    );
    let outer = UnixDatagram::bind(lab.path("outer")).unwrap();
    outer.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let start = lab.start().env(format!("NOTIFY_SOCKET={}", lab.path("outer").display())).env("WATCHDOG_USEC=400000");
    let mut container = lab.run_as(start);
    let alive = heard(&outer, Duration::from_secs(2));
    assert!(alive.len() >= 5 && alive.iter().all(|word| word == "WATCHDOG=1"), "{alive:?}");
    std::fs::write(lab.path("ok"), "").unwrap();
    let ready = heard(&outer, Duration::from_secs(2));
    assert_eq!(ready.iter().filter(|word| *word == "READY=1").count(), 1, "{ready:?}");
    container.signal(TERM);
    let stopping = heard(&outer, Duration::from_secs(1));
    assert!(stopping.contains(&"STOPPING=1".to_owned()), "{stopping:?}");
    container.wait().unwrap();
}

#[test]
fn a_service_manager_above_that_was_busy_hears_that_the_container_is_ready_once_it_has_time() {
    // Main fills its queue before anything else is said.
    let script = "systemd-notify --ready; n=$(cat /proc/sys/net/unix/max_dgram_qlen); while [ $n -ge 0 ]; do \
                  systemd-notify X_N=$n; n=$((n - 1)); done; touch DIR/ok; sleep 1000";
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", '''{script}''']\n[[health]]\nname = \"ok\"\n\
         exec = [\"test\", \"-e\", \"DIR/ok\"]\nstart_interval = \"50ms\"\n[stop]\nwithin = \"4s\"\n"
    ));
    let outer = UnixDatagram::bind(lab.path("outer")).unwrap();
    outer.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let start = lab.start().env(format!("NOTIFY_SOCKET={}", lab.path("outer").display()));
    let container = lab.run_as(start);
    log_says(&container, "check ok passes");
    std::thread::sleep(Duration::from_millis(500));
    let heard = heard(&outer, Duration::from_secs(2));
    let place = |word: &str| heard.iter().position(|heard| heard == word);
    assert!(place("X_N=0").is_some() && place("READY=1") > place("X_N=0"), "main's own is no word of ours: {heard:?}");
    assert_eq!(heard.iter().filter(|word| *word == "READY=1").count(), 1, "{heard:?}");
    ends(container);
}

#[test]
fn a_main_that_feeds_the_watchdog_above_is_the_one_whose_silence_tells() {
    let lab = Lab::new(
        "[process]\nexec = [\"sh\", \"-c\", \"echo $WATCHDOG_USEC $$ $WATCHDOG_PID >> DIR/story; \
         systemd-notify --ready WATCHDOG=1 STATUS=fine; systemd-notify STOPPING=1; sleep 1000\"]\n[stop]\nwithin = \"4s\"\n",
    );
    let outer = UnixDatagram::bind(lab.path("outer")).unwrap();
    outer.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let start = lab.start().env(format!("NOTIFY_SOCKET={}", lab.path("outer").display()));
    let mut container = lab.run_as(start.env("WATCHDOG_USEC=600000").env("WATCHDOG_PID=1"));
    eventually("main", || (!lab.story().is_empty()).then_some(())).unwrap();
    let story = lab.story();
    let words: Vec<&str> = story[0].split(' ').collect();
    assert!(words[0] == "600000" && words[1] == words[2], "{words:?}");
    let first = heard(&outer, Duration::from_secs(2)).join("\n");
    assert!(first.contains("READY=1") && first.contains("STATUS=fine"), "{first}");
    assert!(!first.contains("STOPPING"), "main's end isn't the container's: {first}");
    // Main is killed for having said that it stops, and the container ends with it.
    let _ = container.wait();
}
