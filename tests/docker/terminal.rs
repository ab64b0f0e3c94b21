//! `docker run -it`: an interactive shell with job control, typed at through a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::engine::{command, docker, image, label, within};
use super::stop::Config;

/// A shell in a container, and the terminal it is used at.
struct Terminal {
    client: Child,
    keys: File,
    screen: Arc<Mutex<String>>,
    /// How much of the screen was waited for already.
    seen: usize,
}

impl Terminal {
    /// `docker run -it` of the image `init` with these options and this command.
    fn open(name: &str, options: &[&str], arguments: &[&str]) -> Terminal {
        let pty = nix::pty::openpty(None, None).expect("a pseudo-terminal can be had");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor can be copied"));
        let client = command("run")
            .args(["--rm", "--interactive", "--tty", "--name", name, &label()])
            .args(options)
            .arg(image("init"))
            .args(arguments)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("docker can be started");
        drop(pty.slave);
        let screen = Arc::new(Mutex::new(String::new()));
        let mut output = File::from(OwnedFd::try_clone(&pty.master).expect("a descriptor can be copied"));
        let shown = Arc::clone(&screen);
        // Ends when the client has closed its side.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                shown.lock().expect("nobody panics with it").push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Terminal { client, keys: File::from(pty.master), screen, seen: 0 }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until the screen shows `text` behind everything it was waited for before.
    fn shows(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let screen = self.all();
            if let Some(at) = screen[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            assert!(Instant::now() < deadline, "{text:?} isn't on the screen, but: {:?}", &screen[self.seen..]);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything shown so far.
    fn all(&self) -> String {
        self.screen.lock().expect("nobody panics with it").clone()
    }

    /// Waits until the shell has put `sleep` in front: only then Ctrl-C and Ctrl-Z go there.
    fn sleeps(&self, container: &str) {
        within(20, "sleep is in front", || {
            // Fields of /proc/PID/stat: name, state, parent, group, session, terminal, the terminal's front group.
            let stat = "for p in /proc/[0-9]*; do read -r id name state parent group session tty front rest < $p/stat; \
                        [ $name = '(sleep)' ] && [ $group = $front ] && [ $state = S ] && echo yes; done 2>/dev/null";
            String::from_utf8_lossy(&docker("exec", &[container, "sh", "-c", stat]).stdout)
                .contains("yes")
                .then_some(())
        });
    }
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn an_interactive_shell_has_job_control() {
    let name = format!("{}-terminal", label().replace("--label=pilotfish-e2e=", ""));
    let mut terminal = Terminal::open(&name, &["--env=PS1=prompt> "], &["sh"]);
    terminal.shows("prompt> ");
    // The marks are computed, so that the echo of what is typed is not taken for an answer.
    terminal.press("echo mark$((1+1))\n");
    terminal.shows("mark2");
    terminal.shows("prompt> ");

    terminal.press("sleep 100; echo after$((1+2))\n");
    terminal.shows("sleep 100");
    terminal.sleeps(&name);
    terminal.press("\x03");
    terminal.shows("prompt> ");
    terminal.press("echo code-$?-\n");
    terminal.shows("code-130-");
    terminal.shows("prompt> ");

    terminal.press("sleep 100\n");
    terminal.sleeps(&name);
    terminal.press("\x1a");
    terminal.shows("Stopped");
    terminal.shows("prompt> ");
    terminal.press("jobs\n");
    terminal.shows("Stopped");
    terminal.shows("prompt> ");
    terminal.press("fg\n");
    terminal.shows("sleep 100");
    terminal.sleeps(&name);
    terminal.press("\x03");
    terminal.shows("prompt> ");

    terminal.press("exit 7\n");
    let client = &mut terminal.client;
    let status = within(20, "the container ends with its shell", || {
        client.try_wait().expect("one's own child can be waited for")
    });
    assert_eq!(status.code(), Some(7));
    let screen = terminal.all();
    assert!(!screen.contains("can't access tty"), "{screen:?}");
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn ctrl_c_stops_the_container_in_order_also_where_main_is_restarted() {
    let name = format!("{}-ctrl-c", label().replace("--label=pilotfish-e2e=", ""));
    let config = Config::new(
        "[process]\nexec = [\"sh\", \"-c\", \"echo main-is-up; exec sleep 1000\"]\nrestart = { policy = \"on-failure\" }\n\
         [hooks]\npre_stop = { exec = [\"sh\", \"-c\", \"echo pre-stop-ran\"] }\n",
    );
    let mut terminal = Terminal::open(&name, &[&config.mount(), "--entrypoint=/pilotfish"], &[]);
    terminal.shows("main-is-up");
    terminal.sleeps(&name);
    terminal.press("\x03");
    terminal.shows("pre-stop-ran");
    let client = &mut terminal.client;
    let status = within(20, "the container ends", || client.try_wait().expect("one's own child can be waited for"));
    assert_eq!(status.code(), Some(130), "{:?}", terminal.all());
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
