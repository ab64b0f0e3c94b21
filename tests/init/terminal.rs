//! Terminals and job control: the init on a pseudo terminal, with somebody typing.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use super::*;

/// Our side of a pseudo terminal.
pub struct Keyboard {
    master: File,
    seen: String,
}

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";

impl Keyboard {
    /// It, and the side a container gets.
    pub fn new() -> Result<(Keyboard, OwnedFd), String> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let pty = nix::pty::openpty(None, None).map_err(|error| error.to_string())?;
        fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| error.to_string())?;
        Ok((Keyboard { master: pty.master.into(), seen: String::new() }, pty.slave))
    }

    fn types(&mut self, text: &str) -> Outcome {
        self.seen.clear();
        self.master.write_all(text.as_bytes()).map_err(|error| error.to_string())
    }

    /// Waits for this on the screen since the last typing.
    pub fn shows(&mut self, text: &str) -> Outcome {
        let outcome = within(Duration::from_secs(10), text, || self.shows_now(text).then_some(()));
        outcome.map_err(|error| format!("{error}; the screen shows {:?}", self.seen))
    }

    /// Whether it is on the screen already.
    fn shows_now(&mut self, text: &str) -> bool {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = self.master.read(&mut buffer) {
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        self.seen.contains(text)
    }
}

/// Shows each line it reads as `got:LINE`.
const ECHO: [&str; 3] = ["/bin/sed", "-u", "s/^/got:/"];

cases! {
    fn main_has_the_terminals_foreground(init) {
        let scratch = Scratch::new();
        let (_keyboard, slave) = Keyboard::new()?;
        let mut container = init.specimen(["report".into(), scratch.arg("report")]).on_terminal(slave).run()?;
        same!(container.wait()?, 0);
        let report = Report::read(&scratch.file("report"))?;
        same!(report.get("foreground"), report.get("pid"));
        // In the session of before: leaving it would have hung the terminal up.
        same!(report.get("session"), "1");
    }

    fn ctrl_c_reaches_main_once(init) {
        let scratch = Scratch::new();
        let (mut keyboard, slave) = Keyboard::new()?;
        let start = init.specimen(["record".into(), scratch.arg("record"), "15".into()]).on_terminal(slave);
        let mut container = start.run()?;
        ready(&scratch.file("record"))?;
        keyboard.types(CTRL_C)?;
        eventually("it", || (record(&scratch.file("record")).len() > 1).then_some(()))?;
        container.signal(libc::SIGUSR1);
        container.signal(libc::SIGTERM);
        same!(container.wait()?, 42);
        let count = record(&scratch.file("record")).into_iter().filter(|signal| signal == "02").count();
        same!(count, 1);
    }

    fn a_new_window_size_reaches_main(init) {
        let scratch = Scratch::new();
        let (keyboard, slave) = Keyboard::new()?;
        let _container = init.specimen(["record".into(), scratch.arg("record"), "15".into()]).on_terminal(slave).run()?;
        ready(&scratch.file("record"))?;
        let size = nix::pty::Winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: a valid descriptor and a struct of the kind the call reads.
        #[allow(unsafe_code)]
        unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&keyboard.master), libc::TIOCSWINSZ, &size) };
        eventually("WINCH", || record(&scratch.file("record")).contains(&"28".to_owned()).then_some(()))?;
    }

    #[tini_fails("leaves main stopped for ever, though nobody can resume it")]
    fn ctrl_z_on_pid_1s_main_does_not_hang_the_container(init) {
        let (mut keyboard, slave) = Keyboard::new()?;
        let mut container = init.running(ECHO).on_terminal(slave).run()?;
        keyboard.types("one\n")?;
        keyboard.shows("got:one")?;
        keyboard.types(CTRL_Z)?;
        keyboard.types("two\n")?;
        keyboard.shows("got:two")?;
        keyboard.types(CTRL_C)?;
        same!(container.wait()?, 130);
    }

    fn a_main_told_to_stop_rests_until_it_is_told_to_go_on(init) {
        let (mut keyboard, slave) = Keyboard::new()?;
        let container = init.running(ECHO).on_terminal(slave).run()?;
        let main = container.main()?;
        keyboard.types("one\n")?;
        keyboard.shows("got:one")?;
        container.signal(libc::SIGTSTP);
        let state = || processes().into_iter().find(|p| p.pid == main).map(|p| p.state);
        eventually("its stop", || (state() == Some('T')).then_some(()))?;
        container.signal(libc::SIGCONT);
        keyboard.types("two\n")?;
        keyboard.shows("got:two")?;
    }

    fn an_interactive_shell_has_job_control(init) {
        let (mut keyboard, slave) = Keyboard::new()?;
        let mut container = init.running(["/bin/bash", "--norc", "-i"]).env("PS1=ready> ").on_terminal(slave).run()?;
        keyboard.shows("ready> ")?;
        holds!(!keyboard.seen.contains("job control"), "{:?}", keyboard.seen);
        keyboard.types("sleep 1000\n")?;
        keyboard.shows("sleep")?;
        // Until sleep has the foreground, the shell would eat what is typed.
        let sleeps = || processes().into_iter().any(|p| cmdline(p.pid) == "sleep\x001000\0" && below(p.pid, container.pid));
        eventually("sleep", || sleeps().then_some(()))?;
        keyboard.types(CTRL_Z)?;
        keyboard.shows("Stopped")?;
        keyboard.types("fg\n")?;
        keyboard.shows("sleep 1000")?;
        within(Duration::from_secs(10), "the shell's prompt", || {
            keyboard.types(CTRL_C).ok()?;
            within(Duration::from_millis(300), "it", || keyboard.shows_now("ready> ").then_some(())).ok()
        })?;
        keyboard.types("echo sum-$((1+1))\n")?;
        keyboard.shows("sum-2")?;
        keyboard.types("exit 5\n")?;
        same!(container.wait()?, 5);
    }

    fn a_hangup_ends_main(init) {
        let (keyboard, slave) = Keyboard::new()?;
        let mut container = init.running(["/bin/sleep", "1000"]).on_terminal(slave).run()?;
        container.main()?;
        drop(keyboard);
        same!(container.wait()?, 129);
    }

    #[tini_fails("isn't stopped with main, so the shell waits for it and main is never resumed")]
    fn under_a_shell_main_stops_and_goes_on_as_any_job_does(init) {
        let (mut keyboard, slave) = Keyboard::new()?;
        let shell = Start::new(["/bin/bash", "--norc", "-i"]).env("PS1=ready> ").on_terminal(slave);
        let mut container = shell.run()?;
        keyboard.shows("ready> ")?;
        let words = init.words.iter().map(|word| word.to_str().unwrap()).chain(ECHO);
        keyboard.types(&format!("{}\n", words.collect::<Vec<_>>().join(" ")))?;
        keyboard.types("one\n")?;
        keyboard.shows("got:one")?;
        keyboard.types(CTRL_Z)?;
        keyboard.shows("Stopped")?;
        keyboard.types("echo sum-$((1+1))\n")?;
        keyboard.shows("sum-2")?;
        keyboard.types("fg\n")?;
        keyboard.types("two\n")?;
        keyboard.shows("got:two")?;
        keyboard.types(CTRL_C)?;
        keyboard.shows("ready> ")?;
        keyboard.types("echo code-$?\n")?;
        keyboard.shows("code-130")?;
        keyboard.types("exit 0\n")?;
        same!(container.wait()?, 0);
    }

    #[tini_fails("takes the foreground away from the shell, which then can't read what is typed")]
    fn a_job_started_in_the_background_can_be_brought_to_the_front(init) {
        let (mut keyboard, slave) = Keyboard::new()?;
        let shell = Start::new(["/bin/bash", "--norc", "-i"]).env("PS1=ready> ").on_terminal(slave);
        let mut container = shell.run()?;
        keyboard.shows("ready> ")?;
        let words = init.words.iter().map(|word| word.to_str().unwrap()).chain(ECHO);
        keyboard.types(&format!("{} &\n", words.collect::<Vec<_>>().join(" ")))?;
        // It reads, so it is stopped; the shell says so at its next prompt.
        let stopped = within(Duration::from_secs(10), "its stop", || {
            keyboard.types("\n").ok()?;
            within(Duration::from_millis(300), "it", || keyboard.shows_now("Stopped").then_some(())).ok()
        });
        stopped.map_err(|error| format!("{error}; the screen shows {:?}", keyboard.seen))?;
        keyboard.types("fg\n")?;
        keyboard.types("one\n")?;
        keyboard.shows("got:one")?;
        keyboard.types(CTRL_C)?;
        keyboard.shows("ready> ")?;
        keyboard.types("exit 0\n")?;
        same!(container.wait()?, 0);
    }

    #[tini_fails("leaves the foreground with main's group, of which nobody is left")]
    fn the_terminal_is_given_back_at_the_end(init) {
        let scratch = Scratch::new();
        let (_keyboard, slave) = Keyboard::new()?;
        let words = init.words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        let script = format!("{words} /bin/true; {} report $0", specimen().display());
        let shell = ["/bin/sh".into(), "-c".into(), OsString::from(script), scratch.arg("report")];
        let mut container = Start::new(shell).on_terminal(slave).run()?;
        same!(container.wait()?, 0);
        let report = Report::read(&scratch.file("report"))?;
        same!(report.get("foreground"), report.get("group"));
    }
}

fn cmdline(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

fn below(pid: i32, ancestor: i32) -> bool {
    let all = processes();
    let mut at = pid;
    while at > 1 && at != ancestor {
        at = all.iter().find(|p| p.pid == at).map_or(0, |p| p.parent);
    }
    at == ancestor
}
