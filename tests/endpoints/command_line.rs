//! The command line and the log of the real program: what each subcommand says to and of a running agent, and what
//! nobody may do to it through its stderr.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::support::lab::{Lab, said};
use crate::support::namespace::{Start, eventually, pilotfish};

fn pilotfish_says(arguments: &[&str]) -> (i32, String, String) {
    said(Command::new(pilotfish()).args(arguments).env_remove("PILOTFISH_CONFIG").output().unwrap())
}

#[test]
fn status_health_reload_and_stop_talk_to_the_running_agent() {
    let config = "[process]\nexec = [\"sleep\", \"1000\"]\n";
    let lab = Lab::new(config);
    let mut container = lab.run();
    eventually("health", || (lab.ask(&["health"]).0 == 0).then_some(())).unwrap();
    assert_eq!(lab.ask(&["health"]), (0, "ready\n".into(), String::new()));

    let (code, table, _) = lab.ask(&["status"]);
    assert!(code == 0 && table.contains("main runs as process "), "{table}");
    let (code, json, _) = lab.ask(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["phase"]), (0, &"running".into()));

    let (code, answer, _) = lab.ask(&["reload"]);
    assert!(code == 0 && answer.contains("nothing"), "{answer}");
    lab.write(&format!("nonsense = 1\n{config}"));
    let socket = lab.path("control.sock");
    let (code, _, report) = pilotfish_says(&["reload", "--socket", socket.to_str().unwrap()]);
    assert!(code == 1 && report.contains("unknown key `nonsense`"), "{report}");
    assert_eq!(lab.ask(&["health"]).0, 1, "the config names no socket that could be known");

    lab.write(config);
    assert_eq!(lab.ask(&["stop"]).0, 0);
    assert_eq!(container.wait(), Ok(143));
    assert!(!socket.exists(), "the socket leaves with the agent");
    let (code, _, error) = lab.ask(&["status"]);
    assert!(code == 1 && error.contains("no agent can be reached at"), "{error}");
}

/// Its end is one step away, and the answer comes first.
#[test]
fn a_container_without_a_main_answers_the_stop_that_ends_it() {
    let lab = Lab::new(
        "[process]\nexec = [\"true\"]\n[[wait_for]]\nkey = \"never\"\n\
         [catalog]\nbackend = \"local\"\ndirectory = \"DIR/catalog\"\n",
    );
    for _ in 0..10 {
        let mut container = lab.run();
        eventually("the wait", || lab.ask(&["status"]).1.contains("waiting for").then_some(())).unwrap();
        assert_eq!(lab.ask(&["stop"]), (0, "stopping\n".into(), String::new()));
        assert_eq!(container.wait(), Ok(0));
    }
}

#[test]
fn health_says_in_one_line_what_is_wrong() {
    let lab = Lab::new(
        "[process]\nexec = [\"sleep\", \"1000\"]\n\
         [[health]]\nname = \"ping\"\ntcp = \"127.0.0.1:1\"\ninterval = \"100ms\"\ngrace = \"0s\"\nfailures = 1\n",
    );
    let _container = lab.run();
    let line = eventually("a run of the check", || {
        let (code, line, _) = lab.ask(&["health"]);
        assert_eq!(code, 1, "{line}");
        // The socket of an agent that has only begun is refused, too, and a check of it hasn't been asked yet.
        (line.starts_with("check") && !line.contains("not checked yet")).then_some(line)
    });
    assert_eq!(line.unwrap(), "check ping fails: can't connect to 127.0.0.1:1: connection refused\n");
}

#[test]
fn health_gives_up_on_an_agent_that_does_not_answer() {
    let lab = Lab::new("[process]\nexec = [\"true\"]\n");
    let _silent = UnixListener::bind(lab.path("control.sock")).unwrap();
    let begun = Instant::now();
    let (code, line, _) = lab.ask(&["health"]);
    assert_eq!((code, line.as_str()), (1, "no answer within 5s\n"));
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[test]
fn ctrl_c_ends_a_subcommand_that_waits() {
    let lab = Lab::new("[process]\nexec = [\"true\"]\n");
    let socket = UnixListener::bind(lab.path("control.sock")).unwrap();
    let config = lab.path("pilotfish.toml");
    // Whoever runs the tests may ignore the signal (a job in the background does), and what is ignored is inherited.
    let stop: [OsString; 4] = [pilotfish().into(), "stop".into(), "-c".into(), config.into()];
    let mut asking = Start::new(stop).ordinary().run().unwrap();
    socket.accept().unwrap();
    asking.signal(libc::SIGINT);
    assert_eq!(asking.wait(), Ok(128 + libc::SIGINT));
}

#[test]
fn a_config_that_cannot_be_used_ends_the_container_with_78_and_the_report() {
    let lab = Lab::new("[process]\nexec = \"a string\"\n[stop]\nwithin = 9\n");
    let mut container = lab.start().run().unwrap();
    assert_eq!(container.wait(), Ok(78));
    let report = container.stderr();
    assert!(report.contains("2 mistakes in ") && report.contains("pilotfish.toml:4"), "{report}");
    let mut container = Start::new([pilotfish().to_str().unwrap(), "-c", "/nonexistent", "--", "true"]).run().unwrap();
    assert_eq!(container.wait(), Ok(78));
    assert!(container.stderr().contains("there is no such file"));
}

#[test]
fn a_command_line_that_says_nothing_to_do_exits_64_with_the_usage() {
    for arguments in [&[][..], &["--"], &["bogus"], &["--bogus"], &["status", "--bogus"], &["/bin/true", "x"]] {
        let (code, out, error) = pilotfish_says(arguments);
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}");
        let says_so = error.lines().any(|line| line.starts_with("error: "));
        assert!(says_so && error.contains("Usage: "), "{arguments:?}: {error}");
    }
    // Behind all of the help, where who looks at the end of a log finds it.
    let (_, _, error) = pilotfish_says(&[]);
    assert_eq!(error.lines().last(), Some("error: there is neither a command after -- nor a config"));
    let (code, help, _) = pilotfish_says(&["--help"]);
    assert!(code == 0 && help.contains("Usage: pilotfish"), "{help}");
    assert_eq!(pilotfish_says(&["--version"]).1, concat!("pilotfish ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn check_render_and_schema_work_without_an_agent() {
    let lab = Lab::new("[process]\nexec = [\"echo\", \"{{ env.WORD | default('x') }}\"]\n");
    let (code, said, _) = lab.ask(&["check"]);
    assert!(code == 0 && said.ends_with("pilotfish.toml: ok\n"), "{said}");
    let (code, said, _) = lab.ask(&["render"]);
    assert!(code == 0 && said.contains("exec = [\"echo\", \"x\"]"), "{said}");
    let named = lab.path("pilotfish.toml");
    assert_eq!(pilotfish_says(&["check", named.to_str().unwrap()]).0, 0);
    lab.write("[proces]\n");
    let (code, out, report) = lab.ask(&["check"]);
    assert!(code == 78 && out.is_empty() && report.contains("did you mean `process`"), "{report}");
    let (code, schema, _) = pilotfish_says(&["schema"]);
    assert!(code == 0 && serde_json::from_str::<serde_json::Value>(&schema).is_ok());
    for form in ["toml", "markdown"] {
        assert_eq!(pilotfish_says(&["schema", "--format", form]).0, 0);
    }
}

#[test]
fn check_finds_the_secrets_that_the_agent_would_refuse_to_read() {
    use std::fs::{Permissions, create_dir, rename, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new("");
    let shared = lab.path("shared");
    let config = format!(
        "[process]\nexec = [\"true\"]\nenv_from_files = {{ A = \"{0}/a\", B = \"{0}/none\" }}\n\
         [control]\nlisten = \"127.0.0.1:9091\"\ntoken_file = \"{0}/token\"\n",
        shared.display()
    );
    lab.write(&config);
    create_dir(&shared).unwrap();
    for name in ["a", "token"] {
        write(shared.join(name), "secret").unwrap();
        set_permissions(shared.join(name), Permissions::from_mode(0o600)).unwrap();
    }
    set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
    let (code, said, _) = lab.ask(&["check"]);
    let lines = |said: &str| said.lines().filter(|line| line.starts_with("warning: here, ")).count();
    let as_root = nix::unistd::geteuid().is_root();
    assert!(said.contains("/none of main doesn't exist"), "{said}");
    assert!(code == 0 && lines(&said) == if as_root { 3 } else { 2 }, "{said}");
    assert!(said.contains("of [control] token_file is of no use: ") && said.contains("`chmod +t "), "{said}");
    // As it says.
    set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    let own = shared.join("own");
    create_dir(&own).unwrap();
    set_permissions(&own, Permissions::from_mode(0o755)).unwrap();
    for name in ["a", "token"] {
        rename(shared.join(name), own.join(name)).unwrap();
    }
    lab.write(&config.replace("/shared/", "/shared/own/"));
    let said = lab.ask(&["check"]).1;
    assert_eq!(lines(&said), 1, "{said}");
}

#[test]
fn a_reload_that_moves_the_control_socket_is_answered() {
    let lab = Lab::new("");
    let config = |socket: &str| {
        lab.write(&format!("[process]\nexec = [\"sleep\", \"1000\"]\n[control]\nsocket = \"DIR/{socket}\"\n"));
    };
    config("control.sock");
    let mut container = lab.run();
    let old = lab.path("control.sock");
    config("moved.sock");
    let reload = Command::new(pilotfish()).args(["reload", "--socket", old.to_str().unwrap()]).output();
    let (code, out, error) = said(reload.unwrap());
    assert!(code == 0 && error.is_empty(), "{code} {out}{error}");
    assert!(!old.exists());
    assert_eq!(lab.ask(&["stop"]).0, 0);
    assert_eq!(container.wait(), Ok(143), "{}", container.stderr());
}

#[test]
fn check_and_the_log_say_which_tables_are_left_out() {
    let lab = Lab::new(
        "[process]\nexec = [\"true\"]\n\
         [[health]]\nname = \"ping\"\nenabled = \"{{ env.NO_SUCH_THING | default('') }}\"\ntcp = \"{{ env.NO_SUCH_THING }}\"\n",
    );
    let said = "[[health]] `ping` is left out: its `enabled` is empty";
    let (code, out, _) = lab.ask(&["check"]);
    assert!(code == 0 && out.contains(said), "{out}");
    let mut container = lab.start().run().unwrap();
    assert_eq!(container.wait(), Ok(0));
    assert!(container.stderr().contains(said), "{}", container.stderr());
}

#[test]
fn check_warns_of_a_user_that_this_root_does_not_know() {
    let lab = Lab::new(
        "[process]\nexec = [\"true\"]\nuser = \"nosuch\"\n[hooks]\n\
         pre_stop = { exec = [\"true\"], user = \"nosuch\" }\npost_stop = { exec = [\"true\"], user = \"root:nosuch\" }\n",
    );
    let (code, said, _) = lab.ask(&["check"]);
    assert_eq!(code, 0);
    for warning in [
        "warning: here, no user is called `nosuch` in /etc/passwd, so main, pre_stop can't start as \"nosuch\"\n",
        "warning: here, no group is called `nosuch` in /etc/group, so post_stop can't start as \"root:nosuch\"\n",
    ] {
        assert!(said.contains(warning), "{said}");
    }
    lab.write(
        "[process]\nexec = [\"true\"]\n[[task]]\nname = \"a\"\nexec = [\"true\"]\nevery = \"1h\"\nuser = \"nosuch\"\n\
         [[telemetry.sensor]]\nname = \"b\"\ntype = \"gauge\"\nhelp = \"b\"\nexec = [\"true\"]\nevery = \"1h\"\nuser = \"nosuch\"\n\
         [[coprocess]]\nname = \"c\"\nexec = [\"true\"]\nuser = \"nosuch\"\npost_stop = { exec = [\"true\"], user = \"nosuch\" }\n",
    );
    let said = lab.ask(&["check"]).1;
    assert!(said.contains("so task a, sensor b, coprocess c, post_stop of c can't start as \"nosuch\""), "{said}");
    lab.write("[process]\nexec = [\"true\"]\nuser = \"root\"\n[hooks]\npre_stop = { exec = [\"true\"], user = \"4321:4321\" }\n");
    assert!(!lab.ask(&["check"]).1.contains("warning"));
}

#[test]
fn a_reader_that_is_gone_is_no_panic() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let output = Command::new(pilotfish()).arg("schema").stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// A pipe nobody reads, with no room left; its write end blocks.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    while writer.write(b".").is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

#[test]
fn a_full_stderr_stops_neither_the_agent_nor_its_end() {
    let lab = Lab::new(
        "[log]\nlevel = \"trace\"\n[process]\nexec = [\"sh\", \"-c\", \"sleep 1000\"]\n\
         [hooks.pre_start]\nexec = [\"sh\", \"-c\", \"yes | head -c 300000 >&2\"]\n",
    );
    let (mut reader, writer) = full_pipe();
    let shared = writer.try_clone().unwrap();
    let mut container = lab.start().descriptor(2, writer.into()).run().unwrap();
    eventually("health", || (lab.ask(&["health"]).0 == 0).then_some(())).unwrap();
    let flags = OFlag::from_bits_truncate(fcntl(&shared, FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK), "main's own writes would fail");
    // Once there is room, the next line tells how many are gone.
    drop(shared);
    let mut some = vec![0; 65_536];
    reader.read_exact(&mut some).unwrap();
    assert_eq!(lab.ask(&["stop"]).0, 0);
    assert_eq!(container.wait(), Ok(143));
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("log.dropped") && rest.contains("stop.started"), "{rest}");
}

#[test]
fn a_full_or_closed_stderr_delays_no_ending() {
    let lab = Lab::new("[process]\nexec = \"a string\"\n");
    let (_reader, writer) = full_pipe();
    let mut container = lab.start().descriptor(2, writer.into()).run().unwrap();
    assert_eq!(container.wait_for(Duration::from_secs(5)), Ok(78));
    let mut container = lab.start().closed(2).run().unwrap();
    assert_eq!(container.wait_for(Duration::from_secs(5)), Ok(78));
    let mut container = Start::new([pilotfish().to_str().unwrap(), "--", "/missing"]).closed(2).run().unwrap();
    assert_eq!(container.wait_for(Duration::from_secs(5)), Ok(127));
}

#[test]
fn a_plain_init_with_nothing_to_complain_of_says_nothing() {
    let mut container = Start::new([pilotfish().to_str().unwrap(), "--", "true"]).run().unwrap();
    assert_eq!(container.wait(), Ok(0));
    assert_eq!(container.stderr(), "");
}

#[test]
fn json_lines_are_json_and_a_reload_changes_form_and_level() {
    let config = "[process]\nexec = [\"sleep\", \"1000\"]\n";
    let lab = Lab::new(&format!("[log]\nformat = \"json\"\n{config}"));
    let mut container = lab.run();
    eventually("health", || (lab.ask(&["health"]).0 == 0).then_some(())).unwrap();
    let before = container.stderr();
    for line in before.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["time", "level", "event", "message"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
    }
    assert!(before.contains("\"event\":\"main.started\""), "{before}");
    lab.write(&format!("[log]\nlevel = \"error\"\n{config}"));
    assert_eq!(lab.ask(&["reload"]).0, 0);
    let reloaded = container.stderr();
    assert_eq!(lab.ask(&["stop"]).0, 0);
    assert_eq!(container.wait(), Ok(143));
    let after = container.stderr()[reloaded.len()..].to_owned();
    assert!(after.lines().all(|line| line.contains(" error ")), "{after}");
}

#[test]
fn no_secret_appears_in_log_status_metrics_page_or_record() {
    const SECRETS: [&str; 3] = ["s3cret-file", "s3cret-env", "s3cret-header"];
    let lab = Lab::new(
        "[log]\nlevel = \"trace\"\n\
         [process]\nexec = [\"sleep\", \"1000\"]\nenv = { TOKEN = \"{{ env.TOKEN }}\" }\n\
         env_from_files = { DB_PASSWORD = \"DIR/secret\" }\n\
         [telemetry]\nlisten = \"127.0.0.1:0\"\n\
         [[health]]\nname = \"a\"\nhttp = \"http://127.0.0.1:1/\"\ninterval = \"100ms\"\ngrace = \"0s\"\nfailures = 1\n\
         headers = { X-Token = \"s3cret-header\" }\n",
    );
    fs::write(lab.path("secret"), "s3cret-file\n").unwrap();
    let mut container = lab.start().env("TOKEN=s3cret-env").run().unwrap();
    let socket = lab.path("control.sock");
    let socket = socket.to_str().unwrap();
    eventually("a failing check", || {
        let table = pilotfish_says(&["status", "--socket", socket]).1;
        table.contains("refused").then_some(())
    })
    .unwrap();
    let main = container.main().unwrap();
    let environment = fs::read_to_string(format!("/proc/{main}/environ")).unwrap();
    assert!(environment.contains("s3cret-file") && environment.contains("s3cret-env"), "main has them");
    let mut told = pilotfish_says(&["status", "--json", "--socket", socket]).1;
    for page in ["/", "/metrics"] {
        told += &get(Path::new(socket), page);
    }
    assert_eq!(pilotfish_says(&["reload", "--socket", socket]).0, 0);
    let (code, record, error) = pilotfish_says(&["record", "--socket", socket]);
    assert_eq!(code, 0, "{error}");
    // Both configs are in it, and the name of what was read.
    assert_eq!((record.matches("X-Token").count(), record.matches("[\"DB_PASSWORD\"]").count()), (2, 1), "{record}");
    told += &record;
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait(), Ok(143));
    told += &container.stderr();
    assert!(told.contains("health.critical"), "{told}");
    for secret in SECRETS {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

#[test]
fn a_record_holds_what_happened_from_the_agents_start_on() {
    let lab =
        Lab::new("[process]\nexec = [\"sleep\", \"1000\"]\n[hooks]\npre_start = { exec = [\"false\"], retries = 1 }\n");
    let _container = lab.run();
    let record = eventually("a hook that has failed", || {
        let (code, record, error) = lab.ask(&["record"]);
        assert_eq!(code, 0, "{error}");
        record.contains("Exited").then_some(record)
    })
    .unwrap();
    let lines: Vec<serde_json::Value> = record.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["missing"], lines[0]["events"].as_u64()), (&0.into(), Some(lines.len() as u64 - 1)));
    assert!(lines[0]["config"]["text"].as_str().unwrap().contains("retries = 1"), "{}", lines[0]);
    assert_eq!(lines[1][1], "Started");
    let (run, ended) = (&lines[2][1]["Spawned"]["run"], &lines[3][1]["Exited"]);
    assert_eq!((run, &ended["run"], &ended["status"]["Exited"]), (&1.into(), &1.into(), &1.into()), "{record}");
    assert!(lines[2..].windows(2).all(|pair| pair[0][0].as_u64() <= pair[1][0].as_u64()), "{record}");
}

fn get(socket: &Path, page: &str) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    write!(stream, "GET {page} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

#[test]
fn a_door_that_cannot_be_had_is_said_and_main_runs_all_the_same() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lab = Lab::new(&format!(
        "[process]\nexec = [\"sh\", \"-c\", \"until [ -e DIR/go ]; do sleep 0.05; done; exit 7\"]\n[control]\nsocket = \"DIR/missing/control.sock\"\n\
         [telemetry]\nlisten = \"{}\"\n",
        taken.local_addr().unwrap()
    ));
    let mut container = lab.start().run().unwrap();
    let says = |text: &str| eventually(text, || container.stderr().contains(text).then_some(())).unwrap();
    says("no control socket at");
    says("can't be listened on yet");
    // The container before has gone.
    drop(taken);
    says("is listened on");
    std::fs::write(lab.path("go"), "").unwrap();
    assert_eq!(container.wait(), Ok(7));
}

#[test]
fn health_finds_an_agent_that_could_not_make_its_socket_and_others_do_not_reach_it() {
    let lab = Lab::new("");
    // In the container, where HEALTHCHECK runs too: as the agent's user, as root, and as somebody else.
    let ask = format!("{} health -c DIR/pilotfish.toml", pilotfish().display());
    let script = format!(
        "until {ask}; do sleep 0.05; done; {ask} >DIR/out/same; echo $? >>DIR/out/same; \
         setpriv --reuid=33 --regid=33 --clear-groups {ask} >DIR/out/other 2>&1; echo $? >>DIR/out/other; exec sleep 1000"
    );
    let out = lab.path("out");
    fs::create_dir(&out).unwrap();
    for (directory, mode) in [(lab.path(""), 0o755), (out, 0o777)] {
        fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    lab.write(&format!(
        "[process]\nexec = [\"sh\", \"-c\", \"{script}\"]\n[control]\nsocket = \"/proc/pilotfish.sock\"\n"
    ));
    let container = lab.start().run().unwrap();
    let answer = |name: &str| {
        let text = fs::read_to_string(lab.path("out").join(name)).unwrap_or_default();
        text.lines().last().is_some_and(|line| line.len() == 1).then_some(text)
    };
    let same = eventually("health", || answer("same")).unwrap_or_else(|e| panic!("{e}: {}", container.stderr()));
    assert_eq!(same, "ready\n0\n");
    let other = eventually("health", || answer("other")).unwrap();
    assert!(other.ends_with("\n1\n") && !other.contains("ready"), "{other}");
    let log = container.stderr();
    assert!(log.contains("no control socket at /proc/pilotfish.sock") && log.contains("@pilotfish/"), "{log}");
    // This test's own container has other namespaces: the name isn't its.
    assert_eq!(lab.ask(&["health"]).0, 1);
}
