//! What any init must do, as PID 1 of a real namespace and with no config. Run for pilotfish, and for another init
//! when `BIN` names one (`BIN="tini --" cargo test --test pilotfish init::`): a test is itself tested that way. What
//! tini can't do by its nature stands beside each case with the reason, and is asserted to fail there.
#![allow(clippy::disallowed_methods, reason = "a test's deadlines are short and awake")]

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use crate::support::namespace::{
    Report, Scratch, Start, copy_program, eventually, pilotfish, processes, specimen, status_line, within,
};

type Outcome = Result<(), String>;

/// The init under test: its program and the arguments before the command.
struct Init {
    words: Vec<OsString>,
}

impl Init {
    fn chosen() -> Init {
        match std::env::var("BIN") {
            Err(_) => Init { words: vec![pilotfish().into(), "--".into()] },
            Ok(words) => {
                let mut words = words.split(' ').filter(|word| !word.is_empty());
                let program = words.next().expect("BIN names a program");
                Init { words: std::iter::once(found(program)).chain(words.map(OsString::from)).collect() }
            }
        }
    }

    fn is_tini(&self) -> bool {
        Path::new(&self.words[0]).file_name().is_some_and(|name| name.as_bytes().starts_with(b"tini"))
    }

    /// It, running this command.
    fn running<A: Into<OsString>>(&self, command: impl IntoIterator<Item = A>) -> Start {
        Start::new(self.words.iter().cloned().chain(command.into_iter().map(Into::into)))
    }

    /// It, running the specimen with these arguments.
    fn specimen<A: Into<OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Start {
        self.running(std::iter::once(specimen().into()).chain(arguments.into_iter().map(Into::into)))
    }

    /// It, running a shell script.
    fn script(&self, script: &str) -> Start {
        self.running(["/bin/sh", "-c", script])
    }
}

fn found(program: &str) -> OsString {
    if program.contains('/') {
        return program.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let files = std::env::split_paths(&path).map(|directory| directory.join(program));
    files.into_iter().find(|file| file.exists()).unwrap_or_else(|| panic!("BIN: {program} is not installed")).into()
}

/// Runs a case; against tini, one with a reason must fail.
fn judge(case: fn(&Init) -> Outcome, tini_fails: Option<&str>) {
    let init = Init::chosen();
    match (case(&init), tini_fails.filter(|_| init.is_tini())) {
        (outcome, None) => assert_eq!(outcome, Ok(())),
        (Ok(()), Some(reason)) => panic!("tini passes what it is listed as failing: {reason}"),
        (Err(error), Some(reason)) => println!("tini fails, as listed: {reason} [{error}]"),
    }
}

macro_rules! cases {
    ($($(#[tini_fails($reason:literal)])? fn $name:ident($init:ident) $body:block)*) => {
        $(#[test]
        fn $name() {
            fn case($init: &Init) -> Outcome {
                $body;
                Ok(())
            }
            #[allow(unused_mut, unused_assignments)]
            let mut reason = None;
            $(reason = Some($reason);)?
            judge(case, reason);
        })*
    };
}

macro_rules! same {
    ($left:expr, $right:expr) => { same!($left, $right, "as it should be") };
    ($left:expr, $right:expr, $($about:tt)+) => {
        match (&$left, &$right) {
            (left, right) if left == right => {}
            (left, right) => {
                return Err(format!("line {}: {left:?} is not {right:?} ({})", line!(), format!($($about)+)));
            }
        }
    };
}

macro_rules! holds {
    ($condition:expr, $($about:tt)+) => {
        if !$condition {
            return Err(format!("line {}: {}", line!(), format!($($about)+)));
        }
    };
}

mod personas;
mod terminal;

/// Lines of a record file, the first being "ready".
fn record(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn ready(file: &Path) -> Outcome {
    eventually("the specimen's readiness", || (!record(file).is_empty()).then_some(()))
}

const RTMIN: i32 = 34;

cases! {
    fn the_exit_code_is_mains(init) {
        same!(init.script("exit 7").run()?.wait()?, 7);
        same!(init.script("exit 0").run()?.wait()?, 0);
        same!(init.script("exit 255").run()?.wait()?, 255);
    }

    fn a_main_killed_by_a_signal_is_128_and_its_number(init) {
        for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGSEGV, libc::SIGUSR1, RTMIN + 6] {
            same!(init.specimen(["raise", &signal.to_string()]).run()?.wait()?, 128 + signal);
        }
    }

    fn a_missing_program_is_127_and_named(init) {
        for program in ["no-such-program", "/no/such/program"] {
            let mut container = init.running([program]).run()?;
            same!(container.wait()?, 127);
            holds!(container.stderr().contains(program), "{:?} doesn't name it", container.stderr());
        }
    }

    fn an_empty_command_is_127(init) {
        let mut container = init.running([""]).run()?;
        same!(container.wait()?, 127);
        let said = container.stderr();
        holds!(!said.is_empty() && !said.contains("architecture") && !said.contains("machine"), "{said:?}");
    }

    fn what_is_not_executable_is_126_and_named(init) {
        for program in ["/etc/passwd", "/etc"] {
            let mut container = init.running([program]).run()?;
            same!(container.wait()?, 126);
            holds!(container.stderr().contains(program), "{:?} doesn't name it", container.stderr());
        }
    }

    #[tini_fails("says only that there is no such file, naming the script that is there")]
    fn a_missing_interpreter_is_named(init) {
        let scratch = Scratch::new();
        let script = scratch.file("script");
        std::fs::write(&script, "#!/no/such/shell\n").map_err(|e| e.to_string())?;
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(|e| e.to_string())?;
        let mut container = init.running([script]).run()?;
        same!(container.wait()?, 127);
        holds!(container.stderr().contains("/no/such/shell"), "{:?} doesn't name it", container.stderr());
    }

    fn a_script_without_a_first_line_is_run_by_the_shell_as_execvp_does(init) {
        let scratch = Scratch::new();
        let script = scratch.file("script");
        std::fs::write(&script, "exit $1\n").map_err(|e| e.to_string())?;
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(|e| e.to_string())?;
        same!(init.running([script.into_os_string(), "9".into()]).run()?.wait()?, 9);
    }

    fn arguments_arrive_byte_for_byte(init) {
        let scratch = Scratch::new();
        let awkward: Vec<&[u8]> = vec![b"", b"two words", b"\xff\xfe", b"a\nb", b"--", b"-c", b"{{ env.HOME }}", b"'\"$(x)"];
        let arguments = awkward.iter().map(|arg| OsString::from_vec(arg.to_vec()));
        let first = ["report".into(), scratch.arg("report")];
        let mut container = init.specimen(first.into_iter().chain(arguments)).run()?;
        same!(container.wait()?, 0);
        same!(Report::read(&scratch.file("report"))?.all("arg")[3..], awkward);
    }

    fn the_environment_arrives_byte_for_byte(init) {
        let scratch = Scratch::new();
        let entries: Vec<&[u8]> =
            vec![b"ZZ=1", b"EMPTY=", b"TWICE=1", b"junk", b"TWICE=2", b"\xff=\xfe", b"=x", b"A=b=c", b"PATH=/nowhere"];
        let start = entries.iter().fold(init.specimen(["report".into(), scratch.arg("report")]).no_env(), Start::env);
        same!(start.run()?.wait()?, 0);
        same!(Report::read(&scratch.file("report"))?.all("env"), entries);

        let start = init.specimen(["report".into(), scratch.arg("none")]).no_env();
        same!(start.run()?.wait()?, 0);
        same!(Report::read(&scratch.file("none"))?.all("env").len(), 0, "an empty one stays empty");
    }

    #[tini_fails("restores the mask through glibc, which leaves 33 out")]
    fn main_finds_signals_as_they_were_given(init) {
        let scratch = Scratch::new();
        let container = init.specimen(["report".into(), scratch.arg("clean")]).run()?;
        let clean = Report::read(&scratch.file("clean"))?;
        same!((clean.get("blocked"), clean.get("ignored")), ("", ""));
        drop(container);

        // 32 and 33 are in no set glibc shows; a parent that used posix_spawn may have left them so.
        let (blocked, ignored) = ([10, 15, 33, 40], [1, 13, 21, 22, 32, 64]);
        let start = init.specimen(["report".into(), scratch.arg("given")]).blocked(&blocked).ignored(&ignored);
        let _container = start.run()?;
        let given = Report::read(&scratch.file("given"))?;
        same!((given.get("blocked"), given.get("ignored")), ("10,15,33,40", "1,13,21,22,32,64"));
    }

    fn a_broken_pipe_ends_a_pipeline(init) {
        let mut container = init.script("yes | head -1").run()?;
        same!(container.wait()?, 0);
        same!((container.stdout(), container.stderr()), ("y\n".to_owned(), String::new()));
    }

    #[tini_fails("waits for its child with SIGCHLD still ignored, so the kernel has reaped it and its code is lost")]
    fn an_ignored_sigchld_loses_no_exit_code_and_stays_ignored_for_main(init) {
        let scratch = Scratch::new();
        same!(init.script("exit 7").ignored(&[libc::SIGCHLD]).run()?.wait()?, 7);
        let _container = init.specimen(["report".into(), scratch.arg("report")]).ignored(&[libc::SIGCHLD]).run()?;
        same!(Report::read(&scratch.file("report"))?.get("ignored"), "17");
    }

    fn main_gets_every_descriptor_that_was_given_and_no_other(init) {
        let scratch = Scratch::new();
        let given = || File::open("/dev/null").unwrap().into();
        let start = init.specimen(["report".into(), scratch.arg("report")]).descriptor(7, given()).descriptor(30, given());
        let _container = start.run()?;
        same!(Report::read(&scratch.file("report"))?.get("descriptors"), "0,1,2,7,30");
    }

    #[tini_fails("takes the EBADF of a closed stdin for a fatal trouble with its terminal")]
    fn closed_standard_descriptors_stay_closed_and_stop_nothing(init) {
        let scratch = Scratch::new();
        for (name, closed, left) in [("all", &[0, 1, 2][..], ""), ("in", &[0], "1,2"), ("out", &[1], "0,2"), ("err", &[2], "0,1")] {
            let mut start = init.specimen(["report".into(), scratch.arg(name)]);
            for descriptor in closed {
                start = start.closed(*descriptor);
            }
            same!(start.run()?.wait()?, 0);
            same!(Report::read(&scratch.file(name))?.get("descriptors"), left, "{name}");
        }
    }

    #[tini_fails("writes its error to the full pipe and waits for somebody to read it")]
    fn a_full_stderr_pipe_stops_nothing(init) {
        let (_reader, writer) = full_pipe();
        same!(init.running(["no-such-program"]).descriptor(2, writer).run()?.wait_for(Duration::from_secs(5))?, 127);
    }

    fn the_working_directory_is_mains_too(init) {
        let scratch = Scratch::new();
        let here = scratch.file("").canonicalize().map_err(|e| e.to_string())?;
        let _container = init.specimen(["report".into(), scratch.arg("report")]).directory(&here).run()?;
        same!(Report::read(&scratch.file("report"))?.get("directory"), here.to_str().unwrap());
    }

    fn main_leads_a_process_group_of_its_own(init) {
        let scratch = Scratch::new();
        let _container = init.specimen(["report".into(), scratch.arg("report")]).run()?;
        let report = Report::read(&scratch.file("report"))?;
        same!(report.get("group"), report.get("pid"));
        same!(report.get("parent"), "1");
    }

    #[tini_fails("passes LISTEN_PID on as it is, its own pid, so main takes the descriptors for another's")]
    fn sockets_handed_over_by_listen_fds_are_mains(init) {
        let scratch = Scratch::new();
        let start = init.specimen(["report".into(), scratch.arg("report")]).env("LISTEN_FDS=1").env("LISTEN_PID=1");
        let _container = start.descriptor(3, File::open("/dev/null").unwrap().into()).run()?;
        let report = Report::read(&scratch.file("report"))?;
        let wanted = format!("LISTEN_PID={}", report.get("pid")).into_bytes();
        holds!(report.all("env").contains(&wanted), "LISTEN_PID isn't {}", report.get("pid"));
        same!(report.get("descriptors"), "0,1,2,3");

        // Meant for somebody else: not touched.
        let start = init.specimen(["report".into(), scratch.arg("other")]).env("LISTEN_PID=77");
        let _container = start.run()?;
        holds!(Report::read(&scratch.file("other"))?.all("env").contains(&b"LISTEN_PID=77".to_vec()), "it was changed");
    }

    #[tini_fails("passes WATCHDOG_PID on as it is, so main thinks that another is watched")]
    fn a_watchdog_over_the_init_is_mains(init) {
        let scratch = Scratch::new();
        let start = init.specimen(["report".into(), scratch.arg("report")]);
        let _container = start.env("WATCHDOG_PID=1").env("WATCHDOG_USEC=1000000").run()?;
        let report = Report::read(&scratch.file("report"))?;
        let wanted = format!("WATCHDOG_PID={}", report.get("pid")).into_bytes();
        holds!(report.all("env").contains(&wanted), "WATCHDOG_PID isn't {}", report.get("pid"));
        holds!(report.all("env").contains(&b"WATCHDOG_USEC=1000000".to_vec()), "WATCHDOG_USEC isn't there");
    }

    fn every_signal_that_can_be_caught_reaches_main(init) {
        let scratch = Scratch::new();
        let file = scratch.file("record");
        let container = init.specimen(["record".into(), scratch.arg("record"), "0".into()]).run()?;
        ready(&file)?;
        // CHLD is about the init's own children. TSTP, TTIN, TTOU: their own case. Faults are the init's.
        let own = [libc::SIGCHLD, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
        let faults = [4, 5, 6, 7, 8, 11, 31];
        let mut expected = vec!["ready".to_owned()];
        for signal in (1..=64).filter(|n| ![9, 19, 32, 33].contains(n) && !own.contains(n) && !faults.contains(n)) {
            container.signal(signal);
            expected.push(format!("{signal:02}"));
            eventually(&format!("signal {signal}"), || (record(&file).len() == expected.len()).then_some(()))?;
        }
        same!(record(&file), expected);
    }

    #[tini_fails("ignores TTIN and TTOU while it runs")]
    fn stop_signals_reach_main_too(init) {
        let scratch = Scratch::new();
        let file = scratch.file("record");
        let container = init.specimen(["record".into(), scratch.arg("record"), "0".into()]).run()?;
        ready(&file)?;
        let mut expected = vec!["ready".to_owned()];
        for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGCONT] {
            container.signal(signal);
            expected.push(format!("{signal:02}"));
            within(Duration::from_secs(5), "a stop signal", || (record(&file).len() == expected.len()).then_some(()))?;
        }
        same!(record(&file), expected);
    }

    fn real_time_signals_keep_their_count(init) {
        let scratch = Scratch::new();
        let file = scratch.file("record");
        let container = init.specimen(["record".into(), scratch.arg("record"), "15".into()]).run()?;
        ready(&file)?;
        for _ in 0..50 {
            container.signal(RTMIN + 3);
        }
        eventually("50 of them", || (record(&file).len() == 51).then_some(()))?;
        same!(record(&file)[1..], vec!["37".to_owned(); 50]);
    }

    fn three_hundred_hangups_in_a_row_hurt_nobody(init) {
        let scratch = Scratch::new();
        let file = scratch.file("record");
        let mut container = init.specimen(["record".into(), scratch.arg("record"), "15".into()]).run()?;
        ready(&file)?;
        for _ in 0..300 {
            container.signal(libc::SIGHUP);
        }
        eventually("one of them", || record(&file).contains(&"01".to_owned()).then_some(()))?;
        container.signal(libc::SIGTERM);
        same!(container.wait()?, 42);
    }

    fn a_sigterm_is_not_lost_once_the_init_has_blocked_it(init) {
        // Before that the kernel itself drops it: PID 1 has only what it asks for (signal(7)).
        for round in 0..50 {
            let mut container = init.script("sleep 1000").run()?;
            within(Duration::from_secs(10), "the init's mask", || {
                let program = std::fs::read_link(format!("/proc/{}/exe", container.pid)).ok()?;
                (program.as_os_str() == init.words[0].as_os_str()).then_some(())?;
                let blocked = u64::from_str_radix(&status_line(container.pid, "SigBlk")?, 16).ok()?;
                // In sigtimedwait, where tini waits, the mask shows nothing; but then there is a main.
                (blocked & 1 << (libc::SIGTERM - 1) != 0 || !container.children().is_empty()).then_some(())
            })?;
            container.signal(libc::SIGTERM);
            same!(container.wait_for(Duration::from_secs(10)), Ok(143), "round {round}");
        }
    }

    fn orphans_are_reaped(init) {
        let mut container = init.script("(sleep 0.1 & exec true) ; (setsid sleep 0.1 &) ; sleep 1000").run()?;
        let main = container.main()?;
        eventually("no process but main and its own child", || (container.children() == [main]).then_some(()))?;
        let zombies = processes().into_iter().filter(|p| p.parent == container.pid && p.state == 'Z').count();
        same!(zombies, 0);
        holds!(container.ended().is_none(), "an orphan's end was taken for main's");
    }

    fn twenty_thousand_orphans_are_all_reaped(init) {
        let mut container = init.specimen(["storm", "20000"]).run()?;
        same!(container.wait_for(Duration::from_secs(120))?, 0, "{}", container.stdout());
        let most: usize = container.stdout().trim().parse().map_err(|_| "no number".to_owned())?;
        holds!(most < 5000, "{most} zombies at a time");
    }

    fn a_child_that_died_before_the_init_was_there_is_reaped(init) {
        let words = [specimen().into(), "exec-over-zombie".into()].into_iter().chain(init.words.iter().cloned());
        let container = Start::new(words.chain(["/bin/sleep".into(), "1000".into()])).run()?;
        let main = eventually("main", || container.children().first().copied())?;
        eventually("no zombie", || {
            let children: Vec<_> = processes().into_iter().filter(|p| p.parent == container.pid).collect();
            (children.len() == 1 && children[0].pid == main).then_some(())
        })?;
    }

    fn a_stopped_main_is_not_taken_for_an_ended_one(init) {
        let mut container = init.script("kill -STOP $$; exit 5").run()?;
        let main = container.main()?;
        let state = || processes().into_iter().find(|p| p.pid == main).map(|p| p.state);
        eventually("its stop", || (state() == Some('T')).then_some(()))?;
        holds!(container.ended().is_none(), "it was taken for ended");
        container.signal(libc::SIGCONT);
        same!(container.wait()?, 5);
    }

    fn mains_end_is_the_containers_whatever_it_left(init) {
        let scratch = Scratch::new();
        let mut container = init.specimen(["daemonise".into(), scratch.arg("daemon"), "0".into()]).run()?;
        same!(container.wait_for(Duration::from_secs(10))?, 0);
    }

    fn no_proc_is_needed(init) {
        same!(init.script("(sleep 0.01 &); exit 3").without_proc().run()?.wait()?, 3);
    }

    fn an_empty_root_is_enough(init) {
        // Debian's tini needs a C library there; what is compared is the static one of the same package.
        let init = &match init.is_tini() {
            true => Init { words: vec![found("tini-static"), "--".into()] },
            false => Init { words: init.words.clone() },
        };
        let root = Scratch::new();
        let program = root.file("init");
        copy_program(Path::new(&init.words[0]), &program);
        copy_program(&specimen(), &root.file("main"));
        let words = ["/init".into()].into_iter().chain(init.words[1..].iter().cloned());
        let start = Start::new(words.chain(["/main".into(), "report".into(), "/report".into()])).root(&root.file(""));
        let mut container = start.no_env().run()?;
        same!(container.wait_for(Duration::from_secs(10))?, 0, "{}", container.stderr());
        same!(Report::read(&root.file("report"))?.get("pid"), "2");
    }

    fn inits_can_be_stacked(init) {
        let scratch = Scratch::new();
        let inner: Vec<OsString> = init.words.clone();
        let command = [specimen().into(), "record".into(), scratch.arg("record"), "15".into()];
        let mut container = init.running(inner.into_iter().chain(command)).run()?;
        ready(&scratch.file("record"))?;
        container.signal(libc::SIGUSR1);
        eventually("the signal", || (record(&scratch.file("record")).len() == 2).then_some(()))?;
        container.signal(libc::SIGTERM);
        same!(container.wait()?, 42);
    }

    #[tini_fails("wakes once a second")]
    fn nothing_wakes_it_at_rest(init) {
        let container = init.script("exec sleep 1000").run()?;
        container.main()?;
        let switches = || container.status_line("voluntary_ctxt_switches");
        // At rest once the count has stayed the same for a while; it may take a moment to get there.
        let mut last = switches();
        let mut since = std::time::Instant::now();
        within(Duration::from_secs(10), "three seconds without waking", || {
            let now = switches();
            if now != last {
                (last, since) = (now, std::time::Instant::now());
            }
            (since.elapsed() > Duration::from_secs(3)).then_some(())
        })?;
        same!(container.status_line("Threads").as_deref(), Some("1"));
    }

    #[tini_fails("is a subreaper only when told (-s), and warns when it is neither")]
    fn as_an_ordinary_process_it_silently_adopts_orphans(init) {
        let mut container = init.script("(sleep 0.2 &); sleep 0.1; exec sleep 1000").ordinary().run()?;
        let main = container.main()?;
        // The orphan is a child of the init while it lives, and reaped after.
        within(Duration::from_secs(5), "the orphan", || (container.children().len() == 2).then_some(()))?;
        eventually("the orphan's end", || (container.children() == [main]).then_some(()))?;
        container.signal(libc::SIGTERM);
        same!(container.wait()?, 143);
        same!(container.stderr(), "");
    }

    #[tini_fails("does nothing about main when it is killed itself")]
    fn as_an_ordinary_process_it_is_not_outlived_by_main(init) {
        let container = init.script("exec sleep 1000").ordinary().run()?;
        let main = container.main()?;
        container.signal(libc::SIGKILL);
        let gone = || processes().into_iter().find(|p| p.pid == main).is_none_or(|p| p.state == 'Z');
        let outcome = within(Duration::from_secs(3), "main's end", || gone().then_some(()));
        // SAFETY: the main of this test's own container.
        #[allow(unsafe_code)]
        unsafe { libc::kill(main, libc::SIGKILL) };
        outcome?;
    }
}

/// A pipe that takes nothing any more.
fn full_pipe() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (reader, writer) = nix::unistd::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut file = File::from(writer.try_clone().unwrap());
    while file.write(&[b'x'; 4096]).is_ok() {}
    while file.write(b"x").is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}
