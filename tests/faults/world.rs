//! What must not hang, panic or be passed over in silence: bad input and a bad world, on the real program as PID 1.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::lab::Lab;
use crate::support::namespace::{Container, Start, eventually, pilotfish};

const TERM: i32 = 15;

const MAIN: &str = "[process]\nexec = [\"sh\", \"-c\", \"echo main >> DIR/story; exec sleep 1000\"]\n";

/// Runs a config to its end: code and log.
fn end_of(config: &str) -> (i32, String) {
    let lab = Lab::new(config);
    let mut container = lab.start().run().unwrap();
    let code = container.wait().unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
    (code, container.stderr())
}

fn log_says(container: &Container, text: &str) {
    eventually(text, || container.stderr().contains(text).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
}

#[track_caller]
fn stops(mut container: Container, code: i32) {
    let begun = Instant::now();
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(code), "{}", container.stderr());
    assert!(begun.elapsed() < Duration::from_secs(11), "{:?}", begun.elapsed());
}

#[test]
fn each_mistake_in_a_config_is_reported_and_the_code_is_78() {
    let mistakes = [
        ("[process]\nexec = [\"true\"]\n[[helth]]\nname = \"x\"\n", "unknown key `helth`"),
        ("[process]\nexec = \"true\"\n", "exec"),
        ("[process]\nexec = []\n", "exec"),
        ("[process]\nexec = [\"true\"]\n[stop]\nwithin = 5\n", "\"5s\""),
        ("[process]\nexec = [\"true\"]\n[stop]\nwithin = \"1s\"\ndrain = \"2s\"\n", "drain"),
        ("[process]\nexec = [\"true\"]\nuser = \"{{ env.NOBODY_SET_THIS }}\"\n", "NOBODY_SET_THIS"),
        ("[process]\nexec = [\"true\"]\nuser = \"{{ env.\"\n", "user"),
        ("[process]\nexec = [\"true\"]\n[[service]]\nname = \"a\"\nport = 1\naddress = [\"eth0[\"]\n", "eth0["),
        (
            "[process]\nexec = [\"true\"]\n[[watch]]\nservice = \"a\"\nsignal = \"HUP\"\nat_once = 1\n",
            "not in this version",
        ),
    ];
    for (config, words) in mistakes {
        let (code, report) = end_of(config);
        assert_eq!(code, 78, "{config}");
        assert!(report.contains(words), "{words} is missing:\n{report}");
        assert!(report.contains("pilotfish.toml:"), "no place:\n{report}");
    }
}

#[test]
fn a_config_that_cannot_be_read_is_reported_with_78() {
    let lab = Lab::new(MAIN);
    fs::remove_file(lab.path("pilotfish.toml")).unwrap();
    fs::create_dir(lab.path("pilotfish.toml")).unwrap();
    let mut container = lab.start().run().unwrap();
    assert_eq!(container.wait(), Ok(78));
    assert!(container.stderr().contains("pilotfish.toml"), "{}", container.stderr());
}

#[test]
fn a_missing_binary_is_127_and_one_that_may_not_be_executed_126() {
    let (code, log) = end_of("[process]\nexec = [\"no-such-program\"]\n");
    assert_eq!(code, 127);
    assert!(log.contains("no-such-program"), "{log}");
    let lab = Lab::new("[process]\nexec = [\"DIR/plain\"]\n");
    fs::write(lab.path("plain"), "text").unwrap();
    let mut container = lab.start().run().unwrap();
    assert_eq!(container.wait(), Ok(126));
}

#[test]
fn a_missing_hook_is_said_and_its_code_is_pre_starts() {
    let (code, log) = end_of("[process]\nexec = [\"true\"]\n[hooks.pre_start]\nexec = [\"no-such-hook\"]\n");
    assert_eq!(code, 127);
    assert!(log.contains("no-such-hook"), "{log}");
}

#[test]
fn a_socket_directory_that_cannot_be_written_is_a_warning() {
    let lab =
        Lab::new("[process]\nexec = [\"sh\", \"-c\", \"exit 4\"]\n[control]\nsocket = \"/proc/no/control.sock\"\n");
    let mut container = lab.start().run().unwrap();
    assert_eq!(container.wait(), Ok(4));
    assert!(container.stderr().contains("/proc/no/control.sock"), "{}", container.stderr());
}

#[test]
fn an_address_that_is_taken_is_a_warning() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (code, log) =
        end_of(&format!("[process]\nexec = [\"sh\", \"-c\", \"exit 4\"]\n[telemetry]\nlisten = \"{address}\"\n"));
    assert_eq!(code, 4);
    assert!(log.contains(&address.to_string()), "{log}");
}

#[test]
fn without_proc_a_whole_config_works() {
    let lab = Lab::new(&format!("{MAIN}[hooks.post_stop]\nexec = [\"sh\", \"-c\", \"echo post >> DIR/story\"]\n"));
    let container = lab.start().without_proc().run().unwrap();
    lab.told("main");
    stops(container, 143);
    assert_eq!(lab.story(), ["main", "post"]);
}

#[test]
fn with_closed_standard_descriptors_a_whole_config_works() {
    let lab = Lab::new(&format!("{MAIN}[hooks.pre_start]\nexec = [\"sh\", \"-c\", \"echo pre >> DIR/story\"]\n"));
    let container = lab.start().closed(0).closed(1).closed(2).run().unwrap();
    lab.told("main");
    stops(container, 143);
    assert_eq!(lab.story(), ["pre", "main"]);
}

#[test]
fn an_ordinary_user_runs_a_whole_config() {
    let lab = Lab::new(
        "[process]\nexec = [\"sh\", \"-c\", \"id -u >> DIR/story; exec sleep 1000\"]\n[hooks.pre_start]\nexec = [\"true\"]\n",
    );
    fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    let config = lab.path("pilotfish.toml");
    // setpriv is util-linux's; the agent is no PID 1 here, but a subreaper.
    let mut agent = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(crate::support::namespace::pilotfish())
        .arg("-c")
        .arg(config)
        .spawn()
        .unwrap();
    lab.told("65534");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(agent.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = eventually("its end", || agent.try_wait().unwrap()).unwrap();
    assert_eq!(status.code(), Some(143));
}

#[test]
fn a_hook_that_hangs_forks_and_ignores_term_holds_nothing() {
    let stubborn = "trap '' TERM; (trap '' TERM; sleep 1000) & while :; do sleep 1; done";
    let lab = Lab::new(&format!(
        "{MAIN}[hooks.pre_stop]\nexec = [\"sh\", \"-c\", \"{stubborn}\"]\ntimeout = \"200ms\"\n\
         [hooks.post_stop]\nexec = [\"sh\", \"-c\", \"{stubborn}\"]\ntimeout = \"200ms\"\n[stop]\nwithin = \"8s\"\n"
    ));
    let container = lab.start().run().unwrap();
    lab.told("main");
    stops(container, 143);
}

#[test]
fn an_on_change_that_never_reads_is_no_failure() {
    let many: String = (0..500).map(|n| format!("key{n} = \"{}\"\n", "x".repeat(100))).collect();
    let lab = Lab::new(&format!(
        "{MAIN}[catalog]\nbackend = \"local\"\ndirectory = \"DIR/catalog\"\n\
         [[service]]\nname = \"self\"\nid = \"me\"\nport = 80\naddress = [\"static:10.0.0.1\"]\n[service.meta]\n{many}\
         [[watch]]\nname = \"w\"\nservice = \"self\"\non_change = {{ exec = [\"true\"] }}\n"
    ));
    let container = lab.start().run().unwrap();
    log_says(&container, "on_change of w succeeded");
    stops(container, 143);
}

#[test]
fn a_health_endpoint_that_accepts_and_never_answers_fails_the_check_and_holds_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let lab = Lab::new(&format!(
        "{MAIN}[[health]]\nname = \"ping\"\nhttp = \"http://127.0.0.1:{port}/\"\ntimeout = \"300ms\"\ngrace = \"0s\"\nfailures = 1\n"
    ));
    let container = lab.start().run().unwrap();
    log_says(&container, "check ping is critical: no answer within 300ms");
    stops(container, 143);
}

#[test]
fn a_catalog_directory_that_cannot_be_used_is_said_and_main_runs() {
    let lab = Lab::new(&format!(
        "{MAIN}[catalog]\nbackend = \"local\"\ndirectory = \"/proc/catalog\"\n\
         [[service]]\nname = \"web\"\nport = 80\naddress = [\"static:10.0.0.1\"]\n"
    ));
    let container = lab.start().run().unwrap();
    lab.told("main");
    log_says(&container, "registering web");
    stops(container, 143);
}

/// As in a container whose volume was forgotten: the directory is on layers of this container alone.
fn on_layers(lab: &Lab, command: &str) -> Container {
    ["m", "l", "u", "w"].iter().for_each(|name| fs::create_dir(lab.path(name)).unwrap());
    let [at, lower, upper, work] = ["m", "l", "u", "w"].map(|name| lab.path(name).display().to_string());
    let mount = format!("mount -t overlay overlay -o lowerdir={lower},upperdir={upper},workdir={work} {at}");
    Start::new(["/bin/sh", "-c", &format!("{mount} && exec {} {command}", pilotfish().display())]).run().unwrap()
}

#[test]
fn in_a_directory_that_only_this_container_sees_nobody_leads_and_nothing_is_registered() {
    for (shared, leads) in [("", false), ("shared = true\n", true)] {
        let lab = Lab::new(&format!(
            "{MAIN}[catalog]\nbackend = \"local\"\ndirectory = \"DIR/m/shared\"\n{shared}\
             [[service]]\nname = \"web\"\nport = 80\naddress = [\"static:10.0.0.1\"]\n\
             [election]\nname = \"web\"\nmode = \"standby\"\n"
        ));
        let config = lab.path("pilotfish.toml");
        let container = on_layers(&lab, &format!("-c {}", config.display()));
        if leads {
            log_says(&container, "leads");
            lab.told("main");
            stops(container, 143);
        } else {
            log_says(&container, "is on overlayfs, which is taken for this container's own");
            log_says(&container, "registering web");
            assert!(!lab.path("u/shared").exists() && !lab.path("story").exists(), "{}", container.stderr());
            stops(container, 143);
        }
    }
}

#[test]
fn check_tells_of_a_directory_that_only_this_container_would_see() {
    let lab = Lab::new(&format!("{MAIN}[catalog]\nbackend = \"local\"\ndirectory = \"DIR/m/a/b\"\n"));
    let mut container = on_layers(&lab, &format!("check -c {}", lab.path("pilotfish.toml").display()));
    assert_eq!(container.wait(), Ok(0));
    let said = container.stdout();
    assert!(said.contains("warning: here, ") && said.contains("docker's `-v pilotfish:"), "{said}");
}

#[test]
fn an_interface_that_is_not_there_is_said_and_main_runs() {
    let lab = Lab::new(&format!(
        "{MAIN}[catalog]\nbackend = \"local\"\ndirectory = \"DIR/catalog\"\n\
         [[service]]\nname = \"web\"\nport = 80\naddress = [\"nothere0\"]\n"
    ));
    let container = lab.start().run().unwrap();
    lab.told("main");
    log_says(&container, "nothere0");
    stops(container, 143);
}

#[test]
fn a_template_that_fails_is_said_and_main_runs() {
    let lab = Lab::new(&format!(
        "{MAIN}[catalog]\nbackend = \"local\"\ndirectory = \"DIR/catalog\"\n\
         [[watch]]\nname = \"w\"\nservice = \"app\"\ntemplate = {{ source = \"DIR/t.j2\", destination = \"DIR/out\" }}\n"
    ));
    fs::write(lab.path("t.j2"), "{{ nobody.knows }}").unwrap();
    let container = lab.start().run().unwrap();
    lab.told("main");
    log_says(&container, "t.j2");
    assert!(!lab.path("out").exists());
    stops(container, 143);
}

#[test]
fn twenty_thousand_orphans_beside_a_whole_config_are_all_reaped() {
    let specimen = crate::support::namespace::specimen();
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", \"{} storm 20000; echo done >> DIR/story; exec sleep 1000\"]\n",
        specimen.display()
    ));
    let container = lab.start().run().unwrap();
    lab.told("done");
    eventually("an end of the zombies", || {
        let zombies = container.children().into_iter().filter(|pid| {
            crate::support::namespace::status_line(*pid, "State").is_some_and(|state| state.starts_with('Z'))
        });
        (zombies.count() == 0).then_some(())
    })
    .unwrap();
    stops(container, 143);
}

/// As an ordinary user, who is held to limits.
const ORDINARY: [&str; 4] = ["/usr/bin/setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"];

/// Lets a process of that user's make others, and threads, or not. The user does it: root needs CAP_SYS_RESOURCE.
fn may_fork(pid: libc::pid_t, may: bool) {
    let limit = if may { "--nproc=4096:" } else { "--nproc=0:" };
    let mut set = Command::new(ORDINARY[0]);
    let set = set.args(&ORDINARY[1..]).args(["/usr/bin/prlimit", "--pid", &pid.to_string(), limit]).output().unwrap();
    assert!(set.status.success(), "{set:?}");
}

#[test]
fn at_its_limit_of_processes_a_container_lives_and_makes_its_files_later() {
    let lab = Lab::new(
        "[process]\nexec = [\"sleep\", \"1000\"]\n[catalog]\nbackend = \"local\"\ndirectory = \"DIR/catalog\"\n\
         [[watch]]\nname = \"w\"\nkey = \"k\"\n[watch.template]\nsource = \"DIR/t.j2\"\ndestination = \"DIR/out\"\n\
         check = [\"sh\", \"-c\", \"test -e DIR/armed || exit 0; echo checks >> DIR/story; \
         while test -e DIR/armed; do sleep 0.01; done; exit 1\", \"{}\"]\n",
    );
    fs::write(lab.path("t.j2"), "{{ value }}").unwrap();
    fs::set_permissions(lab.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    let config = lab.path("pilotfish.toml");
    let agent = [pilotfish().into_os_string(), "-c".into(), config.into_os_string()];
    let mut container =
        Start::new(ORDINARY.iter().map(OsStr::new).chain(agent.iter().map(AsRef::as_ref))).run().unwrap();
    let keys = lab.path("catalog/pilotfish/keys");
    eventually("the keys' directory", || keys.is_dir().then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
    let put = |value: &str| {
        fs::write(keys.join(".new"), value).unwrap();
        fs::rename(keys.join(".new"), keys.join("k")).unwrap();
    };
    let made = |value: &str| {
        eventually(value, || (fs::read_to_string(lab.path("out")).ok()? == value).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
    };
    put("one");
    made("one");
    fs::write(lab.path("armed"), "").unwrap();
    put("two");
    lab.told("checks");
    let threads = format!("/proc/{}/task", container.pid);
    eventually("no thread but the agent's own", || (fs::read_dir(&threads).ok()?.count() == 1).then_some(())).unwrap();
    may_fork(container.pid, false);
    // What is staged has to be removed, and what is tried again to be written.
    fs::remove_file(lab.path("armed")).unwrap();
    log_says(&container, "its check exited with code 1");
    log_says(&container, "no thread can be had");
    assert_eq!(fs::read_to_string(lab.path("out")).unwrap(), "one");
    may_fork(container.pid, true);
    made("two");
    let staged = || fs::read_dir(lab.path("")).unwrap().filter(|entry| format!("{entry:?}").contains(".out")).count();
    eventually("an end of what was staged", || (staged() == 0).then_some(())).unwrap();
    assert!(!container.stderr().contains("panic"), "{}", container.stderr());
    container.signal(TERM);
    assert_eq!(container.wait(), Ok(143), "{}", container.stderr());
}
