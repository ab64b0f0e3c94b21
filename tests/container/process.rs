//! What a configured main and its hooks are given, how hooks are bounded, and what becomes of those main leaves
//! behind: the real binary with a config, as PID 1 of a real namespace.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::namespace::{
    Container, Report, Scratch, Start, copy_program, eventually, pilotfish, processes, specimen,
};

/// pilotfish with this config, in which `SPECIMEN` and `DIR` stand for the specimen and the scratch directory. No door
/// is opened.
fn configured(scratch: &Scratch, config: &str) -> Start {
    let config = config
        .replace("SPECIMEN", specimen().to_str().unwrap())
        .replace("DIR", scratch.file("").to_str().unwrap().trim_end_matches('/'));
    let file = scratch.file("pilotfish.toml");
    std::fs::write(&file, format!("{config}\n[control]\nsocket = \"\"\n")).unwrap();
    Start::new([pilotfish().into(), OsString::from("-c"), file.into_os_string()])
}

/// Runs it to its end and returns code and log.
fn end_of(start: Start) -> (i32, String) {
    let mut container = start.run().unwrap();
    let code = container.wait().unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
    (code, container.stderr())
}

fn report(scratch: &Scratch, name: &str) -> Report {
    Report::read(&scratch.file(name)).unwrap()
}

fn variable(report: &Report, name: &str) -> Option<String> {
    let entries = report.all("env").into_iter().map(|entry| String::from_utf8(entry).unwrap());
    entries.filter_map(|entry| entry.strip_prefix(&format!("{name}=")).map(str::to_owned)).next()
}

fn alive(pid: i32) -> bool {
    processes().iter().any(|p| p.pid == pid && p.state != 'Z')
}

fn log_of(container: &Container, text: &str) {
    eventually(text, || container.stderr().contains(text).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
}

#[test]
fn a_named_user_brings_its_groups_and_its_home() {
    let scratch = Scratch::new();
    let start =
        configured(&scratch, "[process]\nexec = [\"SPECIMEN\", \"report\", \"DIR/report\"]\nuser = \"www-data\"\n");
    let start = start.env("HOME=/root").env("LOGNAME=root");
    assert_eq!(end_of(start).0, 0);
    let report = report(&scratch, "report");
    // Debian's base-passwd gives www-data these numbers on every machine.
    assert_eq!((report.get("uids"), report.get("gids"), report.get("groups")), ("33,33,33", "33,33,33", ""));
    assert_eq!(report.get("no_new_privs"), "1");
    assert_eq!(variable(&report, "HOME").as_deref(), Some("/var/www"));
    assert_eq!(variable(&report, "LOGNAME").as_deref(), Some("www-data"));
    assert_eq!(variable(&report, "USER"), None);
}

#[test]
fn a_numeric_user_needs_no_entry_anywhere() {
    let scratch = Scratch::new();
    let start =
        configured(&scratch, "[process]\nexec = [\"SPECIMEN\", \"report\", \"DIR/report\"]\nuser = \"54321:5432\"\n");
    assert_eq!(end_of(start).0, 0);
    let report = report(&scratch, "report");
    assert_eq!((report.get("uids"), report.get("gids")), ("54321,54321,54321", "5432,5432,5432"));
    assert_eq!(report.get("groups"), "");
}

#[test]
fn without_a_user_nothing_about_privileges_changes() {
    let scratch = Scratch::new();
    let start =
        configured(&scratch, "[process]\nexec = [\"SPECIMEN\", \"report\", \"DIR/report\"]\n").env("HOME=/root");
    assert_eq!(end_of(start).0, 0);
    let report = report(&scratch, "report");
    assert_eq!((report.get("uids"), report.get("no_new_privs")), ("0,0,0", "0"));
    assert_eq!(variable(&report, "HOME").as_deref(), Some("/root"));
}

#[test]
fn an_unknown_user_is_126_and_named() {
    let scratch = Scratch::new();
    let (code, log) = end_of(configured(&scratch, "[process]\nexec = [\"/bin/true\"]\nuser = \"nobody-at-all\"\n"));
    assert_eq!(code, 126);
    assert!(log.contains("no user is called `nobody-at-all`"), "{log}");
}

#[test]
fn an_ordinary_user_that_may_not_switch_is_told_so() {
    let scratch = Scratch::new();
    // CAP_SETGID is 6.
    let start = configured(&scratch, "[process]\nexec = [\"/bin/true\"]\nuser = \"www-data\"\n").without_capability(6);
    let (code, log) = end_of(start);
    assert_eq!(code, 126);
    assert!(log.contains("becoming user `www-data` (setgroups)"), "{log}");
}

#[test]
fn a_number_that_would_leave_root_as_it_is_starts_nothing() {
    let scratch = Scratch::new();
    for user in ["4294967295", "nobody:4294967295", "+5", "007", "4294967296"] {
        let (code, log) = end_of(configured(
            &scratch,
            &format!("[process]\nexec = [\"/bin/touch\", \"DIR/ran\"]\nuser = \"{user}\"\n"),
        ));
        assert_eq!(code, 78, "{user}: {log}");
        assert!(log.contains("isn't a user") && log.contains("pilotfish.toml:3:"), "{log}");
        assert!(!scratch.file("ran").exists(), "{user}");
    }
}

#[test]
fn a_user_gets_none_of_the_capabilities_that_the_agent_itself_was_given() {
    let scratch = Scratch::new();
    let file = scratch.file("pilotfish.toml");
    let directory = scratch.file("");
    std::os::unix::fs::chown(&directory, Some(33), Some(33)).unwrap();
    let look = |name: &str| format!("[\"/bin/sh\", \"-c\", \"grep ^Cap /proc/self/status\"] # {name}");
    for (user, own) in [("nobody", "1000"), ("1000:1000", "1000")] {
        let config = format!(
            "[process]\nexec = {}\nuser = \"{user}\"\n[hooks]\npre_start.exec = {}\npre_start.user = \"{user}\"\n\
             [control]\nsocket = \"\"\n",
            look("main"),
            look("pre_start")
        );
        std::fs::write(&file, config).unwrap();
        let ids = [format!("--reuid={own}"), format!("--regid={own}")];
        let mut arguments: Vec<OsString> = vec!["/usr/bin/setpriv".into()];
        arguments.extend(ids.map(OsString::from));
        arguments.extend(
            ["--clear-groups", "--inh-caps=+setuid,+setgid,+kill", "--ambient-caps=+setuid,+setgid,+kill"]
                .map(OsString::from),
        );
        arguments.extend([pilotfish().into(), OsString::from("-c"), file.clone().into_os_string()]);
        let mut container = Start::new(arguments).run().unwrap();
        let code = container.wait();
        let (out, log) = (container.stdout(), container.stderr());
        assert_eq!(code, Ok(0), "{log}");
        for (who, text) in [("main", &out), ("pre_start", &log)] {
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert!(text.contains(&format!("{set}:\t0000000000000000")), "{user}, {who}, {set}: {text}");
            }
        }
    }
}

#[test]
fn a_user_can_open_its_standard_descriptors_by_name_and_dev_null_stays_roots() {
    let scratch = Scratch::new();
    let by_name = "echo out >/dev/stdout && echo err >/dev/stderr && stat -L -c %u /dev/stdout /dev/null";
    let config = format!(
        "[process]\nexec = [\"/bin/sh\", \"-c\", \"{by_name}\"]\nuser = \"www-data\"\n\
         [hooks]\npre_start.exec = [\"/bin/sh\", \"-c\", \"{by_name}\"]\npre_start.user = \"www-data\"\n"
    );
    let (mut out, stdout) = std::io::pipe().unwrap();
    let (mut err, stderr) = std::io::pipe().unwrap();
    let start = configured(&scratch, &config).descriptor(1, stdout.into()).descriptor(2, stderr.into());
    let mut container = start.run().unwrap();
    let code = container.wait();
    let (mut printed, mut log) = (String::new(), String::new());
    std::io::Read::read_to_string(&mut out, &mut printed).unwrap();
    std::io::Read::read_to_string(&mut err, &mut log).unwrap();
    assert_eq!(code, Ok(0), "{log}");
    assert_eq!(printed, "out\n33\n0\n", "{log}");
    assert!(log.contains("\nerr\n") || log.starts_with("err\n"), "{log}");
    // The hook's pipes are its user's, and pre_start succeeded.
    assert!(log.contains("stdout") && log.contains(": 33"), "{log}");

    // A file that standard output was redirected to is somebody's log, and not given away.
    let log = std::fs::File::create(scratch.file("log")).unwrap();
    let config = "[process]\nexec = [\"/bin/true\"]\nuser = \"www-data\"\n";
    assert_eq!(end_of(configured(&scratch, config).descriptor(1, log.into())).0, 0);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(scratch.file("log")).unwrap()), 0);
}

#[test]
fn a_program_of_another_machine_is_126_in_our_own_words() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    // An ELF header of a machine that isn't there (EM_PDP10), and what /bin/sh would run of it.
    let mut foreign = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x40\0\x01\0\0\0".to_vec();
    foreign.resize(64, 0);
    foreign.extend_from_slice(b"\necho run by a shell\n");
    let interpreted = format!("#!{}\necho run by a shell\n", scratch.file("foreign").display());
    let files: [(&str, &[u8], i32); 3] = [
        ("foreign", &foreign, 126),
        ("interpreted", interpreted.as_bytes(), 126),
        // What execvp(3) has always done.
        ("script", b"exit 7\n", 7),
    ];
    for (name, content, wanted) in files {
        let file = scratch.file(name);
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let start = Start::new([pilotfish().into(), OsString::from("--"), file.into_os_string()]);
        let mut container = start.run().unwrap();
        assert_eq!(container.wait(), Ok(wanted), "{name}: {}", container.stderr());
        assert_eq!(container.stderr().contains("a program for this kernel"), wanted == 126, "{}", container.stderr());
    }
}

#[test]
fn directory_limits_and_umask_are_mains_and_its_hooks() {
    let scratch = Scratch::new();
    let config = r#"
[process]
exec = ["SPECIMEN", "report", "DIR/main"]
directory = "/usr"
[process.limits]
nofile = 512
core = 0
umask = "027"
[hooks]
pre_start = { exec = ["SPECIMEN", "report", "DIR/hook"] }
"#;
    let (code, log) = end_of(configured(&scratch, config));
    assert_eq!(code, 0, "{log}");
    let (main, hook) = (report(&scratch, "main"), report(&scratch, "hook"));
    assert_eq!(main.get("directory"), "/usr");
    for report in [main, hook] {
        assert_eq!((report.get("nofile"), report.get("core"), report.get("umask")), ("512,512", "0,0", "027"));
    }
}

/// `docker run --cap-drop ALL --cap-add SETUID --cap-add SETGID`; and a file system that takes root for nobody (NFS).
#[test]
fn a_directory_that_mains_user_alone_may_enter_is_its_working_directory() {
    let scratch = Scratch::new();
    let home = scratch.file("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(33), Some(33)).unwrap();
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let file = scratch.file("pilotfish.toml");
    let directory = home.display();
    let config = format!(
        "[process]\nexec = [\"/bin/pwd\"]\nuser = \"33:33\"\ndirectory = \"{directory}\"\n[control]\nsocket = \"\"\n"
    );
    std::fs::write(&file, config).unwrap();
    let without = ["/usr/bin/setpriv", "--bounding-set=-dac_override,-dac_read_search"].map(OsString::from);
    let agent = [pilotfish().into(), OsString::from("-c"), file.into_os_string()];
    let mut container = Start::new(without.into_iter().chain(agent)).run().unwrap();
    let code = container.wait();
    assert_eq!(code, Ok(0), "{}", container.stderr());
    assert_eq!(container.stdout().trim(), directory.to_string());
}

/// By a link of main's user, as by a directory that they may rename, root would take them behind its own barrier.
#[test]
fn another_user_works_in_no_directory_that_root_alone_may_enter_by_a_way_of_theirs() {
    let scratch = Scratch::new();
    std::fs::set_permissions(scratch.file(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let make = |name: &str, owner: u32, mode: u32| {
        std::fs::create_dir(scratch.file(name)).unwrap();
        std::os::unix::fs::chown(scratch.file(name), Some(owner), Some(owner)).unwrap();
        std::fs::set_permissions(scratch.file(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(scratch.file(to), scratch.file(name)).unwrap();
    // What root keeps to itself, a volume of main's user, one for all as an emptyDir is, one of a group (fsGroup).
    for (name, owner, mode) in [
        ("closed", 0, 0o700),
        ("closed/deep", 0, 0o755),
        ("theirs", 33, 0o755),
        ("theirs/work", 33, 0o700),
        ("theirs/closed", 0, 0o700),
        ("all", 0, 0o777),
        ("all/work", 0, 0o755),
        ("all/closed", 0, 0o700),
        ("group", 0, 0o775),
        ("group/work", 0, 0o755),
        ("sticky", 0, 0o1777),
        ("sticky/closed", 0, 0o700),
    ] {
        make(name, owner, mode);
    }
    std::os::unix::fs::chown(scratch.file("group"), None, Some(33)).unwrap();
    link("closed/deep", "theirs/link");
    link("theirs/work", "link");
    for (work, enters) in [
        ("theirs/link", false),
        ("theirs/closed", false),
        ("all/closed", false),
        ("closed/deep", true),
        ("closed", true),
        ("sticky/closed", true),
        ("theirs/work", true),
        ("all/work", true),
        ("group/work", true),
        ("link", true),
    ] {
        let config = format!("[process]\nexec = [\"/bin/pwd\"]\nuser = \"33:33\"\ndirectory = \"DIR/{work}\"\n");
        let (code, log) = end_of(configured(&scratch, &config));
        assert_eq!(code, if enters { 0 } else { 126 }, "{work}: {log}");
        assert_eq!(log.contains("as user `33:33`: Permission denied"), !enters, "{work}: {log}");
    }
}

#[test]
fn a_missing_directory_is_126_and_named() {
    let scratch = Scratch::new();
    let config = "[process]\nexec = [\"/bin/true\"]\ndirectory = \"/no/such/place\"\n";
    let (code, log) = end_of(configured(&scratch, config));
    assert_eq!(code, 126);
    assert!(log.contains("/no/such/place"), "{log}");
}

#[test]
fn a_secret_goes_from_its_file_to_main_alone_and_never_into_a_log() {
    let scratch = Scratch::new();
    std::fs::write(scratch.file("secret"), "hunter2\n").unwrap();
    let config = r#"
[process]
exec = ["SPECIMEN", "report", "DIR/main"]
env = { EMPTY = "", PLAIN = "p" }
env_from_files = { PASSWORD = "DIR/secret" }
[hooks]
pre_start = { exec = ["SPECIMEN", "report", "DIR/hook"] }
[log]
level = "trace"
"#;
    let (code, log) = end_of(configured(&scratch, config));
    assert_eq!(code, 0, "{log}");
    let (main, hook) = (report(&scratch, "main"), report(&scratch, "hook"));
    assert_eq!(variable(&main, "PASSWORD").as_deref(), Some("hunter2"));
    assert_eq!(variable(&main, "EMPTY").as_deref(), Some(""));
    assert_eq!(variable(&hook, "PASSWORD"), None);
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn a_secret_that_cannot_be_read_keeps_main_from_starting() {
    let scratch = Scratch::new();
    let config = "[process]\nexec = [\"/bin/true\"]\nenv_from_files = { PASSWORD = \"DIR/none\" }\n";
    let (code, log) = end_of(configured(&scratch, config));
    assert_eq!(code, 126);
    assert!(log.contains("PASSWORD from"), "{log}");
}

#[test]
fn a_hook_gets_nothing_that_is_meant_for_main() {
    let scratch = Scratch::new();
    let config = r#"
[process]
exec = ["/bin/true"]
[hooks]
pre_start = { exec = ["SPECIMEN", "report", "DIR/hook"] }
"#;
    let start = configured(&scratch, config).env("LISTEN_FDS=1").env("LISTEN_PID=1").env("NOTIFY_SOCKET=/nowhere");
    let (code, log) = end_of(start.descriptor(3, File::open("/dev/null").unwrap().into()).blocked(&[10]).ignored(&[1]));
    assert_eq!(code, 0, "{log}");
    let hook = report(&scratch, "hook");
    assert_eq!(hook.get("descriptors"), "0,1,2");
    assert_eq!(hook.get("group"), hook.get("pid"));
    assert_eq!((hook.get("blocked"), hook.get("ignored")), ("10", "1"));
    for name in ["LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"] {
        assert_eq!(variable(&hook, name), None, "{name}");
    }
}

#[test]
fn what_a_hook_prints_is_logged_line_by_line_and_cannot_act_on_a_terminal() {
    let scratch = Scratch::new();
    let config = r#"
[process]
exec = ["/bin/true"]
[hooks]
pre_start = { exec = ["/bin/sh", "-c", "echo one; printf '\\033[2Jtwo\\377\\n' >&2; printf three"] }
"#;
    let (code, log) = end_of(configured(&scratch, config));
    assert_eq!(code, 0, "{log}");
    for text in ["one", "\\u{1b}[2Jtwo\\xff", "three"] {
        assert!(log.lines().any(|line| line.contains("pre_start") && line.contains(text)), "no {text} in {log}");
    }
    assert!(!log.contains('\x1b'));
}

#[test]
fn a_hook_that_prints_a_hundred_megabytes_is_neither_blocked_nor_logged_whole() {
    let scratch = Scratch::new();
    let config = r#"
[process]
exec = ["/bin/true"]
[hooks]
pre_start = { exec = ["/bin/sh", "-c", "head -c 50000000 /dev/zero; echo; yes | head -c 50000000"] }
"#;
    let (code, log) = end_of(configured(&scratch, config));
    assert_eq!(code, 0, "{}", &log[..log.len().min(2000)]);
    assert!(log.len() < 1_000_000, "{} bytes of log", log.len());
    assert!(log.contains("lines dropped"), "{}", &log[log.len().saturating_sub(2000)..]);
    assert!(log.contains("(line cut here)"), "{}", &log[log.len().saturating_sub(6000)..]);
}

#[test]
fn an_orphan_of_a_hook_that_keeps_its_pipes_holds_nothing() {
    let scratch = Scratch::new();
    let config = r#"
[process]
exec = ["/bin/true"]
[hooks]
pre_start = { exec = ["/bin/sh", "-c", "sleep 1000 & echo done"] }
"#;
    let started = Instant::now();
    let (code, log) = end_of(configured(&scratch, config));
    assert_eq!(code, 0, "{log}");
    assert!(started.elapsed() < Duration::from_secs(15), "it took {:?}", started.elapsed());
}

#[test]
fn what_pre_start_leaves_may_print_as_long_as_it_lives() {
    let scratch = Scratch::new();
    let config = r#"
[process]
exec = ["/bin/sh", "-c", "sleep 1; kill -0 $(cat DIR/daemon)"]
[hooks]
pre_start = { exec = ["/bin/sh", "-c", "(while :; do echo still here; sleep 0.1; done) & echo $! > DIR/daemon"] }
"#;
    let (code, log) = end_of(configured(&scratch, config));
    assert_eq!(code, 0, "{log}");
    assert!(log.matches("still here").count() > 3, "{log}");
}

#[test]
fn a_hook_that_ignores_term_is_killed_with_its_whole_group() {
    let scratch = Scratch::new();
    let config = r#"
[process]
exec = ["/bin/true"]
[hooks]
pre_start = { exec = ["/bin/sh", "-c", "SPECIMEN ignore DIR/child & exec SPECIMEN ignore DIR/hook"], timeout = "1s" }
"#;
    let mut container = configured(&scratch, config).ordinary().run().unwrap();
    assert_ne!(container.wait().unwrap(), 0, "{}", container.stderr());
    for name in ["hook", "child"] {
        let pid: i32 = std::fs::read_to_string(scratch.file(name)).unwrap().parse().unwrap();
        assert!(!alive(pid), "{name} lives on: {}", container.stderr());
    }
}

#[test]
fn a_main_that_daemonises_ends_with_what_it_left() {
    let scratch = Scratch::new();
    let config = "[process]\nexec = [\"SPECIMEN\", \"daemonise\", \"DIR/daemon\", \"0\"]\n[stop]\nwithin = \"5s\"\n";
    // As an ordinary process, where no kernel ends them with PID 1.
    let mut container = configured(&scratch, config).ordinary().run().unwrap();
    assert_eq!(container.wait().unwrap(), 0, "{}", container.stderr());
    let daemon: i32 = std::fs::read_to_string(scratch.file("daemon")).unwrap().parse().unwrap();
    assert!(!alive(daemon), "{}", container.stderr());
}

#[test]
fn a_daemon_that_ignores_term_is_killed_when_time_is_up() {
    let scratch = Scratch::new();
    let config = "[process]\nexec = [\"SPECIMEN\", \"stubborn-daemon\", \"DIR/daemon\"]\n[stop]\nwithin = \"2s\"\n";
    let mut container = configured(&scratch, config).ordinary().run().unwrap();
    assert_eq!(container.wait_for(Duration::from_secs(20)).unwrap(), 0, "{}", container.stderr());
    let daemon: i32 = std::fs::read_to_string(scratch.file("daemon")).unwrap().parse().unwrap();
    assert!(!alive(daemon), "{}", container.stderr());
}

#[test]
fn a_main_in_the_background_can_be_followed() {
    let scratch = Scratch::new();
    let config = "[process]\nexec = [\"SPECIMEN\", \"daemonise\", \"DIR/daemon\", \"20\"]\nbackground = \"follow\"\n";
    let mut container = configured(&scratch, config).run().unwrap();
    log_of(&container, "main.followed");
    assert_eq!(container.ended(), None);
    assert_eq!(container.wait().unwrap(), 0, "{}", container.stderr());
}

#[test]
fn leftovers_are_ended_without_proc_too() {
    let scratch = Scratch::new();
    let config = "[process]\nexec = [\"SPECIMEN\", \"daemonise\", \"DIR/daemon\", \"0\"]\n[stop]\nwithin = \"5s\"\n";
    let mut container = configured(&scratch, config).without_proc().run().unwrap();
    assert_eq!(container.wait_for(Duration::from_secs(20)).unwrap(), 0, "{}", container.stderr());
}

/// An agent that a shell execs, which has started a helper before.
fn execed_by_a_shell(scratch: &Scratch) -> Start {
    let config =
        "[process]\nexec = [\"/bin/sh\", \"-c\", \"exit 3\"]\n[stop]\nwithin = \"5s\"\n[control]\nsocket = \"\"\n";
    std::fs::write(scratch.file("config.toml"), config).unwrap();
    // It is there before the shell goes on, and ends by itself where nobody ends it.
    let helper = "( trap 'echo told >HERE/told; exit' TERM; : >HERE/up; for i in $(seq 200); do sleep 0.05; done ) &";
    let script = format!("{helper} until [ -e HERE/up ]; do sleep 0.05; done; exec \"$@\"");
    let script = script.replace("HERE", scratch.arg("").to_str().unwrap().trim_end_matches('/'));
    let agent = [pilotfish().into_os_string(), "-c".into(), scratch.arg("config.toml")];
    Start::new(["/bin/sh".into(), "-c".into(), script.into(), "sh".into()].into_iter().chain(agent))
}

#[test]
fn what_pid_1_had_as_children_before_it_became_the_agent_is_told_to_end_with_the_container() {
    let scratch = Scratch::new();
    let mut container = execed_by_a_shell(&scratch).run().unwrap();
    assert_eq!(container.wait_for(Duration::from_secs(20)).unwrap(), 3, "{}", container.stderr());
    assert!(scratch.file("told").exists(), "{}", container.stderr());
}

#[test]
fn what_a_helper_from_before_the_agent_starts_is_not_taken_for_mains() {
    let scratch = Scratch::new();
    let mut container = execed_by_a_shell(&scratch).run().unwrap();
    assert_eq!(container.wait_for(Duration::from_secs(20)).unwrap(), 3, "{}", container.stderr());
    assert!(!container.stderr().contains("main ended but left"), "{}", container.stderr());
}

#[test]
fn what_an_agent_that_is_not_pid_1_finds_as_its_children_is_not_its_to_end() {
    let scratch = Scratch::new();
    let mut container = execed_by_a_shell(&scratch).ordinary().run().unwrap();
    assert_eq!(container.wait_for(Duration::from_secs(20)).unwrap(), 3, "{}", container.stderr());
    assert!(!scratch.file("told").exists(), "{}", container.stderr());
}

#[test]
fn the_agent_says_that_it_may_not_signal_main() {
    let scratch = Scratch::new();
    let config = r#"
[process]
exec = ["/bin/sleep", "1000"]
user = "www-data"
[stop]
within = "1s"
"#;
    // CAP_KILL is 5.
    let mut container = configured(&scratch, config).without_capability(5).run().unwrap();
    log_of(&container, "lacks CAP_KILL");
    container.signal(libc::SIGTERM);
    // The container ends nevertheless: the kernel ends everything with PID 1.
    container.wait_for(Duration::from_secs(20)).unwrap();
}

#[test]
fn what_main_says_by_sd_notify_is_passed_on_without_what_is_only_ours() {
    // Where nobody else may lead what is said to another socket.
    let above = tempfile::tempdir().unwrap();
    let outer = UnixDatagram::bind(above.path().join("outer")).unwrap();
    outer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (said, socket) =
        ("READY=1\nMAINPID=7\nSTATUS=up", format!("NOTIFY_SOCKET={}", above.path().join("outer").display()));
    let script = format!("{} notify \"$0\"; sleep 1000", specimen().display());
    let arguments =
        [pilotfish().into(), "--".into(), "/bin/sh".into(), "-c".into(), OsString::from(script), said.into()];
    let _container = Start::new(arguments).env(socket).run().unwrap();
    let mut buffer = [0; 100];
    let count = outer.recv(&mut buffer).unwrap();
    assert_eq!(std::str::from_utf8(&buffer[..count]), Ok("READY=1\nSTATUS=up"));
}

#[test]
fn a_check_by_sd_notify_passes_once_main_says_it_is_ready() {
    let scratch = Scratch::new();
    let config = r#"
[process]
exec = ["/bin/sh", "-c", "SPECIMEN notify STATUS=warming && SPECIMEN notify READY=1 && exec sleep 1000"]
[[health]]
name = "said"
notify = true
"#;
    let container = configured(&scratch, config).run().unwrap();
    log_of(&container, "check said passes");
}

#[test]
fn none_of_the_agents_own_descriptors_reaches_main_or_a_hook() {
    let scratch = Scratch::new();
    let config = r#"
[process]
exec = ["SPECIMEN", "report", "DIR/main"]
[hooks]
pre_start = { exec = ["SPECIMEN", "report", "DIR/pre_start"] }
post_stop = { exec = ["SPECIMEN", "report", "DIR/post_stop"] }
[[service]]
name = "web"
port = 80
address = ["static:127.0.0.1"]
[[health]]
name = "said"
notify = true
[[watch]]
name = "web"
service = "web"
signal = "USR1"
[catalog]
backend = "local"
directory = "DIR/catalog"
[telemetry]
listen = "127.0.0.1:0"
"#;
    let (code, log) = end_of(configured(&scratch, config));
    assert_eq!(code, 0, "{log}");
    for name in ["main", "pre_start", "post_stop"] {
        assert_eq!(report(&scratch, name).get("descriptors"), "0,1,2", "{name}");
    }
}

#[test]
fn an_exec_that_hangs_on_dead_storage_holds_nobody() {
    let scratch = Scratch::new();
    let program = scratch.file("hanging");
    copy_program(&specimen(), &program);
    let _storage = DeadStorage::at(&program);
    let mut container = Start::new([pilotfish().into(), "--".into(), program.into_os_string()]).run().unwrap();
    log_of(&container, "is slow to start");
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait_for(Duration::from_secs(10)), Ok(143), "{}", container.stderr());
}

/// Nobody answers the kernel's question whether this file may be executed (fanotify(7)), so the exec hangs.
struct DeadStorage(#[allow(dead_code, reason = "its drop lets go")] std::os::fd::OwnedFd);

impl DeadStorage {
    #[allow(unsafe_code)]
    fn at(file: &Path) -> DeadStorage {
        let name = std::ffi::CString::new(file.to_str().unwrap()).unwrap();
        // SAFETY: plain calls with a valid name; the descriptor is new and nobody else's.
        unsafe {
            let fd = libc::fanotify_init(libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC, libc::O_RDONLY as u32);
            assert!(fd >= 0, "fanotify_init: {}", std::io::Error::last_os_error());
            let mask = libc::FAN_OPEN_EXEC_PERM;
            let marked = libc::fanotify_mark(fd, libc::FAN_MARK_ADD, mask, libc::AT_FDCWD, name.as_ptr());
            assert_eq!(marked, 0, "fanotify_mark: {}", std::io::Error::last_os_error());
            DeadStorage(std::os::fd::FromRawFd::from_raw_fd(fd))
        }
    }
}
