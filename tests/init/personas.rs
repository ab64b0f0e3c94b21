//! Called by the name of tini, dumb-init or catatonit, it does what that one does; and a plain init's own options.
//! `REAL=DIR` runs the cases of the names against the real programs in DIR.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::terminal::Keyboard;
use super::{ready, record};
use crate::support::namespace::{Container, Scratch, Start, eventually, pilotfish, processes, specimen};

type Outcome = Result<(), String>;

/// A directory in which the program under test has the name of another init.
struct Named(tempfile::TempDir);

impl Named {
    fn new() -> Named {
        let named = Named(tempfile::tempdir().unwrap());
        for name in ["tini", "docker-init", "dumb-init", "catatonit"] {
            let real = std::env::var_os("REAL").map(|real| PathBuf::from(real).join(name));
            let program = real.filter(|real| real.exists()).unwrap_or_else(pilotfish);
            std::os::unix::fs::symlink(program, named.0.path().join(name)).unwrap();
        }
        named
    }

    /// A command line, split at spaces.
    fn start(&self, line: &str) -> Start {
        self.start_with(line, std::iter::empty())
    }

    fn start_with(&self, line: &str, more: impl IntoIterator<Item = OsString>) -> Start {
        let mut words = line.split(' ');
        let init = self.0.path().join(words.next().unwrap());
        Start::new(std::iter::once(init.into_os_string()).chain(words.map(OsString::from)).chain(more))
    }

    /// Running a shell script.
    fn script(&self, line: &str, script: &str) -> Start {
        self.start_with(line, ["/bin/sh", "-c", script].map(OsString::from))
    }

    /// Its exit code with a shell script.
    #[track_caller]
    fn code(&self, line: &str, script: &str) -> i32 {
        self.script(line, script).run().unwrap().wait().unwrap()
    }
}

/// Waits until main has a child that has become `sleep`.
fn sleeper(container: &Container) -> Outcome {
    let main = container.main()?;
    let sleeps = |pid: i32| std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"sleep\n");
    let found = || processes().iter().any(|process| process.parent == main && sleeps(process.pid));
    eventually("the sleeper", || found().then_some(()))
}

fn scratch_record(scratch: &Scratch, code: &str) -> [OsString; 4] {
    [specimen().into(), "record".into(), scratch.arg("record"), code.into()]
}

#[test]
fn by_every_name_main_s_code_is_the_container_s() {
    let named = Named::new();
    for name in ["tini --", "docker-init --", "tini", "dumb-init", "dumb-init --", "dumb-init -c", "catatonit --"] {
        assert_eq!(named.code(name, "exit 7"), 7, "{name}");
        assert_eq!(named.code(name, "kill -KILL $$"), 137, "{name}");
    }
}

#[test]
fn a_program_that_cant_be_run_gives_each_its_own_code() {
    let named = Named::new();
    let ends = |line: &str| named.start(line).run().unwrap().wait().unwrap();
    for (line, code) in [
        ("tini /no/such", 127),
        ("tini /etc/passwd", 126),
        ("tini /etc/passwd/x", 1),
        ("tini -e 127 /no/such", 0),
        ("dumb-init /no/such", 2),
        ("dumb-init /etc/passwd", 2),
        ("catatonit /no/such", 1),
        ("catatonit /etc/passwd", 1),
    ] {
        assert_eq!(ends(line), code, "{line}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_1() {
    let named = Named::new();
    for line in
        ["tini", "tini -x y", "tini -e 256 x", "tini -p NONE x", "dumb-init", "dumb-init -x y", "dumb-init -r 99:1 x"]
    {
        assert_eq!(named.start(line).run().unwrap().wait().unwrap(), 1, "{line}");
    }
}

#[test]
fn tini_e_makes_a_code_0() {
    let named = Named::new();
    assert_eq!(named.code("tini -e 143 -e 3 --", "exit 3"), 0);
    assert_eq!(named.code("tini -e 143 --", "kill -TERM $$"), 0);
    assert_eq!(named.code("tini -e 143 --", "exit 4"), 4);
}

#[test]
fn tini_g_and_its_variable_signal_the_whole_group() -> Outcome {
    let named = Named::new();
    let alone = |line: &str| named.script(line, "trap : USR1; sleep 1000; exit 9");
    for start in [alone("tini -g --"), alone("tini --").env("TINI_KILL_PROCESS_GROUP=")] {
        let mut container = start.run()?;
        sleeper(&container)?;
        container.signal(libc::SIGUSR1);
        assert_eq!(container.wait()?, 9);
    }
    Ok(())
}

#[test]
fn tini_p_tells_main_that_inits_parent_has_ended() -> Outcome {
    let named = Named::new();
    let scratch = Scratch::new();
    let init = named.0.path().join("tini");
    let [program, word, file, code] = scratch_record(&scratch, "15");
    // The shell is its parent, and is killed.
    let script = "\"$0\" -p SIGUSR1 -- \"$@\" & echo $! > \"$3.pid\"; read never < \"$3.fifo\"";
    nix::unistd::mkfifo(&scratch.file("record.fifo"), nix::sys::stat::Mode::S_IRWXU).map_err(|e| e.to_string())?;
    let words: [OsString; 8] = ["/bin/sh".into(), "-c".into(), script.into(), init.into(), program, word, file, code];
    let mut container = Start::new(words).ordinary().run()?;
    ready(&scratch.file("record"))?;
    container.signal(libc::SIGKILL);
    container.wait()?;
    eventually("USR1", || record(&scratch.file("record")).get(1).map(|_| ()))?;
    let pid = std::fs::read_to_string(scratch.file("record.pid")).map_err(|e| e.to_string())?;
    let init = nix::unistd::Pid::from_raw(pid.trim().parse().map_err(|_| "no pid")?);
    nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGTERM).map_err(|e| e.to_string())
}

#[test]
fn tini_warns_where_it_can_reap_nobody_and_s_helps() -> Outcome {
    let named = Named::new();
    let said = |start: Start| -> Result<String, String> {
        let mut container = start.ordinary().run()?;
        container.wait()?;
        Ok(container.stderr())
    };
    assert!(said(named.script("tini --", "exit 0"))?.contains("zombie reaping won't work"));
    assert_eq!(said(named.script("tini --", "exit 0").env("TINI_VERBOSITY=0"))?, "");
    assert_eq!(said(named.script("tini -s --", "exit 0"))?, "");
    assert_eq!(said(named.script("tini --", "exit 0").env("TINI_SUBREAPER="))?, "");
    Ok(())
}

#[test]
fn tini_w_tells_each_orphan_it_reaps() -> Outcome {
    let named = Named::new();
    let mut container = named.script("tini -w --", "(sleep 0.1 &); sleep 1").run()?;
    container.wait()?;
    assert!(container.stderr().contains("Reaped zombie process with pid="), "{}", container.stderr());
    Ok(())
}

#[test]
fn docker_asks_for_tinis_version() -> Outcome {
    let named = Named::new();
    for line in ["docker-init --version", "tini --version", "catatonit --version"] {
        let mut container = named.start(line).run()?;
        assert_eq!(container.wait()?, 0);
        assert!(container.stdout().starts_with("tini version "), "{line}: {}", container.stdout());
    }
    Ok(())
}

#[test]
fn dumb_init_gives_main_a_session_but_c_none() -> Outcome {
    let named = Named::new();
    let script = "set -- $(cut -d' ' -f6 /proc/$$/stat) $$; [ $1 = $2 ]";
    assert_eq!(named.code("dumb-init", script), 0);
    assert_eq!(named.code("dumb-init -c", script), 1);
    let single = named.script("dumb-init", script).env("DUMB_INIT_SETSID=0").run()?.wait()?;
    assert_eq!(single, 1);
    Ok(())
}

#[test]
fn dumb_inits_signals_go_to_the_group_of_main() -> Outcome {
    let named = Named::new();
    let mut container = named.script("dumb-init", "trap : USR1; sleep 1000; exit 9").run()?;
    sleeper(&container)?;
    container.signal(libc::SIGUSR1);
    assert_eq!(container.wait()?, 9);
    Ok(())
}

#[test]
fn dumb_init_passes_faults_on_and_rewrites() -> Outcome {
    let named = Named::new();
    let scratch = Scratch::new();
    let line = "dumb-init -r 12:10 -r 1:0";
    let mut container = named.start_with(line, scratch_record(&scratch, "15")).run()?;
    ready(&scratch.file("record"))?;
    for (sent, count) in [(libc::SIGHUP, 1), (libc::SIGUSR2, 2), (libc::SIGILL, 3), (libc::SIGSYS, 4)] {
        container.signal(sent);
        let got = || (record(&scratch.file("record")).len() == count).then_some(());
        eventually("a signal", got).map_err(|error| format!("{error}: {:?}", record(&scratch.file("record"))))?;
    }
    let record = record(&scratch.file("record"));
    assert!(record[1].contains("10") && record[2].contains('4') && record[3].contains("31"), "{record:?}");
    container.signal(libc::SIGTERM);
    container.wait()?;
    Ok(())
}

#[test]
fn dumb_init_tells_what_main_left_by_term() -> Outcome {
    let named = Named::new();
    let scratch = Scratch::new();
    // Beside its init, not below it, so that it can be seen to get the signal.
    let file = scratch.arg("told").into_string().map_err(|_| "odd path")?;
    let script = format!("(trap 'echo told > {file}; exit' TERM; while :; do sleep 0.01; done) & sleep 0.5; exit 4");
    for (line, told) in [("dumb-init", true), ("dumb-init -c", false)] {
        let _ = std::fs::remove_file(scratch.file("told"));
        let init = named.0.path().join("dumb-init");
        let flags = if told { "" } else { "-c" };
        let outer = format!("{} {flags} /bin/sh -c \"$0\"; code=$?; sleep 0.5; exit $code", init.display());
        let words: [OsString; 4] = ["/bin/sh".into(), "-c".into(), outer.into(), script.clone().into()];
        assert_eq!(Start::new(words).run()?.wait()?, 4);
        assert_eq!(scratch.file("told").exists(), told, "{line}");
    }
    Ok(())
}

#[test]
fn dumb_init_stops_itself_with_main() -> Outcome {
    let named = Named::new();
    let scratch = Scratch::new();
    let mut container = named.start_with("dumb-init", scratch_record(&scratch, "15")).ordinary().run()?;
    ready(&scratch.file("record"))?;
    let init = container.pid;
    let state = |pid: i32| processes().into_iter().find(|p| p.pid == pid).map(|p| p.state);
    let main = processes().into_iter().find(|p| p.parent == init).map(|p| p.pid).ok_or("no main")?;
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        container.signal(signal);
        eventually("both stopped", || (state(init) == Some('T') && state(main) == Some('T')).then_some(()))?;
        container.signal(libc::SIGCONT);
        eventually("both running", || (state(init) == Some('S') && state(main) == Some('S')).then_some(()))?;
    }
    container.signal(libc::SIGTERM);
    container.wait()?;
    Ok(())
}

#[test]
fn under_dumb_init_main_finds_no_signal_blocked_or_ignored() -> Outcome {
    let named = Named::new();
    let script = "grep -E 'Sig(Blk|Ign)' /proc/self/status | grep -qv '0000000000000000'";
    let given = |line: &str| {
        let words = ["/bin/sh", "-c", script].map(OsString::from);
        named.start_with(line, words).blocked(&[libc::SIGUSR1]).ignored(&[libc::SIGINT, libc::SIGPIPE])
    };
    assert_eq!(given("dumb-init").run()?.wait()?, 1);
    assert_eq!(given("tini --").run()?.wait()?, 0);
    Ok(())
}

#[test]
fn dumb_init_gives_the_terminal_to_mains_session_and_hangs_nobody_up() -> Outcome {
    let named = Named::new();
    let (mut keyboard, terminal) = Keyboard::new()?;
    let script = "tty; ps -o tty= -p $$ | tr -d ' \\n'; echo '=it'; exit 6";
    let mut container = named.script("dumb-init", script).on_terminal(terminal).run()?;
    keyboard.shows("=it")?;
    assert_eq!(container.wait()?, 6);
    Ok(())
}

#[test]
fn dumb_init_and_catatonit_hold_no_directory() -> Outcome {
    let named = Named::new();
    for line in ["dumb-init", "catatonit --"] {
        let script = "readlink /proc/1/cwd; readlink /proc/$$/cwd";
        let mut container = named.script(line, &format!("sleep 0.2; {script}")).directory("/usr".as_ref()).run()?;
        container.wait()?;
        assert_eq!(container.stdout(), "/\n/usr\n", "{line}");
    }
    Ok(())
}

#[test]
fn catatonit_p_runs_nothing_reaps_and_ends_at_term() -> Outcome {
    let named = Named::new();
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut container = named.start("catatonit -P").run()?;
        // Before it is itself, PID 1 of a namespace ignores what nobody has blocked.
        eventually("its wait", || {
            let is = |name: &str, start: &str| container.status_line(name).is_some_and(|line| line.starts_with(start));
            (is("Name", "catatonit") && is("State", "S")).then_some(())
        })?;
        container.signal(libc::SIGHUP);
        assert!(container.ended().is_none());
        container.signal(signal);
        assert_eq!(container.wait()?, 0);
    }
    Ok(())
}

/// A plain init with options of its own, running a script.
fn plain(options: &str, script: &str) -> Start {
    let options = options.split(' ').map(OsString::from);
    let command = ["--", "/bin/sh", "-c", script].map(OsString::from);
    Start::new(std::iter::once(pilotfish().into_os_string()).chain(options).chain(command))
}

#[test]
fn within_a_stop_is_bounded_and_silent() -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.arg("ready").into_vec();
    let file = String::from_utf8(file).map_err(|_| "odd path")?;
    let script = format!("trap '' TERM; echo > {file}; while :; do sleep 0.01; done");
    let mut container = plain("--within 1s", &script).run()?;
    eventually("its readiness", || scratch.file("ready").exists().then_some(()))?;
    container.signal(libc::SIGTERM);
    assert_eq!(container.wait()?, 137);
    assert_eq!(container.stderr(), "");
    Ok(())
}

#[test]
fn a_drained_main_is_told_after_the_pause() -> Outcome {
    let scratch = Scratch::new();
    let mut words = vec![pilotfish().into_os_string(), "--drain".into(), "1s".into(), "--".into()];
    words.extend(scratch_record(&scratch, "15"));
    let mut container = Start::new(words).run()?;
    ready(&scratch.file("record"))?;
    let begun = std::time::Instant::now();
    container.signal(libc::SIGTERM);
    container.wait()?;
    assert!(begun.elapsed() >= std::time::Duration::from_secs(1));
    assert_eq!(container.stderr(), "");
    Ok(())
}

#[test]
fn with_wait_all_the_container_lasts_as_long_as_what_main_left() -> Outcome {
    let script = "(sleep 0.5; echo later) & exit 5";
    let mut container = plain("--wait-all", script).run()?;
    assert_eq!(container.wait()?, 5);
    assert_eq!((container.stdout(), container.stderr()), ("later\n".to_owned(), String::new()));
    let mut container = plain("--group", script).run()?;
    assert_eq!(container.wait()?, 5);
    assert_eq!(container.stdout(), "");
    Ok(())
}

#[test]
fn rewritten_signals_codes_and_users_are_as_the_keys() -> Outcome {
    assert_eq!(plain("--exit-code 3=9 --exit-code=143=0", "exit 3").run()?.wait()?, 9);
    assert_eq!(plain("--user 65534:65534", "[ $(id -u) = 65534 ]").run()?.wait()?, 0);
    let scratch = Scratch::new();
    let mut words: Vec<OsString> =
        vec![pilotfish().into_os_string(), "--rewrite".into(), "HUP=TERM".into(), "--".into()];
    words.extend(scratch_record(&scratch, "15"));
    let mut container = Start::new(words).run()?;
    ready(&scratch.file("record"))?;
    container.signal(libc::SIGHUP);
    container.wait()?;
    Ok(())
}

#[test]
fn an_option_without_sense_is_said_and_ends_with_64() -> Outcome {
    for options in ["--within 5", "--rewrite KILL=TERM", "--drain 5s --within 5s", "--exit-code x", "--user="] {
        let mut container = plain(options, "exit 0").run()?;
        assert_eq!(container.wait()?, 64, "{options}");
        // Behind the help, where who looks at the end of a log finds it.
        let last = container.stderr().lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("error: --"), "{}", container.stderr());
    }
    Ok(())
}
