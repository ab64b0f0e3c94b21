//! The supervisor above us, if there is one (systemd, or another pilotfish): where it listens for sd_notify, and what is
//! said there, be it ours or main's. It draws no conclusions.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr};
use tokio::time::Instant;

use crate::files::{HeldSocket, SocketPlace};
use crate::supervisor::vocabulary::OuterWord;

/// What is passed on (sd_notify(3)): how main is. For the supervisor above, we are the main process, so what says who that
/// is (MAINPID), who else may speak (NOTIFYACCESS) or what is kept of it isn't, nor what nobody has heard of yet.
const RELAYED: [&[u8]; 9] = [
    b"READY=",
    b"RELOADING=",
    b"MONOTONIC_USEC=",
    b"STATUS=",
    b"ERRNO=",
    b"BUSERROR=",
    b"WATCHDOG=1",
    b"EXTEND_TIMEOUT_USEC=",
    b"X_",
];
/// What is passed on only where main's end is the container's: what follows from it is decided here otherwise.
const DECIDED_HERE: [&[u8]; 3] = [b"STOPPING=", b"WATCHDOG=trigger", b"WATCHDOG_USEC="];
/// What the supervisor above has no room for is sent again after this long: for who sends without a connection the kernel
/// doesn't tell when there is room (`unix_dgram_poll` in net/unix/af_unix.c).
pub(super) const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// So many of main's messages wait for room, 128 KiB at most: whoever says more says it in vain.
pub(super) const MOST_WAITING: usize = 32;
/// No extension is longer, so that no sum of times overflows; whoever needs more asks again.
pub(super) const LONGEST_EXTENSION: Duration = Duration::from_secs(24 * 3600);

/// The supervisor above us, and a socket to write to it.
#[derive(Debug)]
pub(super) struct Outer {
    address: UnixAddr,
    /// The socket at that path, once it was found: what the path leads to others may change.
    held: Option<HeldSocket>,
    socket: OwnedFd,
    /// What it has no room for yet, in order.
    pub(super) waiting: VecDeque<Vec<u8>>,
    /// Then they are tried again.
    pub(super) again_at: Option<Instant>,
    /// Some of main's was left out since there last was room.
    left_out: bool,
    /// It was said that nothing is sent there.
    told_refused: bool,
    /// It was told that the container is ready; main's own word is no news before.
    pub(super) told_ready: bool,
}

impl Outer {
    pub(super) fn new(address: UnixAddr) -> io::Result<Outer> {
        let mut outer = Outer {
            address,
            held: None,
            socket: datagram()?,
            waiting: VecDeque::new(),
            again_at: None,
            left_out: false,
            told_refused: false,
            told_ready: false,
        };
        if let Err(error) = outer.find() {
            outer.failed(&error);
        }
        Ok(outer)
    }

    /// What is our own is never left out, and waits but once.
    pub(super) fn tell(&mut self, word: OuterWord) {
        let message: &[u8] = match word {
            OuterWord::Ready => b"READY=1",
            OuterWord::Stopping => b"STOPPING=1",
            OuterWord::Alive => b"WATCHDOG=1",
        };
        if self.has_no_room(message) && !self.waiting.iter().any(|waiting| waiting == message) {
            self.waiting.push_back(message.to_vec());
        }
    }

    /// What main says.
    pub(super) fn pass_on(&mut self, message: Vec<u8>) {
        let is_status = |message: &[u8]| message.starts_with(b"STATUS=") && !message.contains(&b'\n');
        if message.is_empty() || !self.has_no_room(&message) {
            return;
        }
        let is_full = self.waiting.len() >= MOST_WAITING;
        match self.waiting.back_mut() {
            Some(last) if *last == message || is_status(last) && is_status(&message) => *last = message,
            _ if !is_full => self.waiting.push_back(message),
            _ if std::mem::replace(&mut self.left_out, true) => {}
            _ => tracing::warn!(
                event = "notify.failed",
                "the supervisor above doesn't hear what main says by sd_notify: some of it is left out"
            ),
        }
    }

    /// Sends it, unless it must wait.
    fn has_no_room(&mut self, message: &[u8]) -> bool {
        if !self.waiting.is_empty() {
            return true;
        }
        let has_none = !self.send(message);
        if has_none {
            self.again_at = Some(Instant::now() + AGAIN_AFTER);
        }
        has_none
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn again(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            if !self.send(&message) {
                self.waiting.push_front(message);
                self.again_at = Some(Instant::now() + AGAIN_AFTER);
                return;
            }
        }
        (self.again_at, self.left_out) = (None, false);
    }

    /// Whether it needn't be sent again.
    fn send(&mut self, message: &[u8]) -> bool {
        let was_held = self.held.is_some();
        let sent = match self.send_now(message) {
            // Who listened there has ended; another may listen there by now.
            Err(error) if was_held && error.raw_os_error() == Some(libc::ECONNREFUSED) => {
                self.held = None;
                self.send_now(message)
            }
            sent => sent,
        };
        match sent {
            Ok(()) => true,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)) => false,
            // Nobody is there.
            Err(error) => {
                self.failed(&error);
                true
            }
        }
    }

    fn send_now(&mut self, message: &[u8]) -> io::Result<()> {
        let address = self.find()?;
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        socket::sendto(self.socket.as_raw_fd(), message, &address, flags)?;
        Ok(())
    }

    /// Where it listens. A path is walked once: main may have led it to a socket at which it isn't heard itself, and root would
    /// be.
    fn find(&mut self) -> io::Result<UnixAddr> {
        let Some(path) = self.address.path() else { return Ok(self.address) };
        let held = match self.held.take() {
            Some(held) => held,
            None => SocketPlace::find(path)?.hold_to_send()?,
        };
        Ok(UnixAddr::new(&self.held.insert(held).path())?)
    }

    fn failed(&mut self, error: &io::Error) {
        let is_refused = error.kind() == io::ErrorKind::PermissionDenied;
        if is_refused && !std::mem::replace(&mut self.told_refused, true) {
            tracing::warn!(event = "notify.failed", %error, "nothing is passed on to the supervisor above by sd_notify");
        } else {
            tracing::debug!(event = "notify.failed", %error, "sd_notify can't be passed on");
        }
    }
}

/// What of a message is passed on. Whether the container is `ready` is decided here; once it is known to be, main's
/// `READY=1` ends a reload.
pub(super) fn relayed(message: &[u8], plain: bool, ready: bool) -> Vec<u8> {
    let lines = message.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let begins = |line: &[u8], names: &[&[u8]]| names.iter().any(|name| line.starts_with(name));
    let is_known = |line: &[u8]| begins(line, &RELAYED) && (plain || ready || line != b"READY=1");
    let kept = lines.filter(|line| is_known(line) || (plain && begins(line, &DECIDED_HERE)));
    kept.collect::<Vec<&[u8]>>().join(&b'\n')
}

/// How often a supervisor wants to hear from this process, by its environment; what is meant for another process isn't
/// for this one.
pub fn watchdog_of(process: u32) -> Option<Duration> {
    let variable = |name: &str| std::env::var(name).ok();
    if variable("WATCHDOG_PID").is_some_and(|pid| pid.parse() != Ok(process)) {
        return None;
    }
    let every = Duration::from_micros(variable("WATCHDOG_USEC")?.parse().ok()?);
    (!every.is_zero()).then_some(every.min(LONGEST_EXTENSION))
}

/// `@name` is abstract, `/path` a file; anything else (vsock) is none we speak.
pub(super) fn address_of(name: &[u8]) -> Option<UnixAddr> {
    match name {
        [b'@', name @ ..] => UnixAddr::new_abstract(name).ok(),
        [b'/', ..] => UnixAddr::new(name).ok(),
        _ => None,
    }
}

pub(super) fn datagram() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn what_is_decided_here_is_passed_on_by_a_plain_init_alone() {
        let said = b"STOPPING=1\nWATCHDOG=1\nMAINPID=7\nSTATUS=x\nWATCHDOG_USEC=5\nREADY=1";
        assert_eq!(relayed(said, true, false), b"STOPPING=1\nWATCHDOG=1\nSTATUS=x\nWATCHDOG_USEC=5\nREADY=1");
        assert_eq!(relayed(said, false, false), b"WATCHDOG=1\nSTATUS=x");
        assert_eq!(relayed(said, false, true), b"WATCHDOG=1\nSTATUS=x\nREADY=1");
    }

    #[test]
    fn who_else_may_speak_to_the_supervisor_above_is_not_mains_to_say() {
        let said = b"NOTIFYACCESS=all\nFDSTORE=1\nFDPOLL=0\nEXIT_STATUS=3\nNEW_ONE=1\nX_OWN=1\nBARRIER=1\nERRNO=2";
        for plain in [true, false] {
            assert_eq!(relayed(said, plain, true), b"X_OWN=1\nERRNO=2");
        }
    }

    /// What lies in a socket.
    fn lies_in(socket: &std::os::unix::net::UnixDatagram) -> Option<String> {
        let mut buffer = [0; 64];
        socket.set_nonblocking(true).unwrap();
        socket.recv(&mut buffer).ok().map(|count| String::from_utf8(buffer[..count].to_vec()).unwrap())
    }

    #[test]
    fn the_supervisor_above_is_the_socket_that_was_found_and_its_successor_at_that_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("above");
        let mut outer = Outer::new(address_of(path.as_os_str().as_bytes()).unwrap()).unwrap();
        outer.tell(OuterWord::Ready);
        // It may begin to listen after us, and be replaced.
        let above = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        outer.tell(OuterWord::Alive);
        std::fs::rename(&path, directory.path().join("aside")).unwrap();
        let successor = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        outer.tell(OuterWord::Alive);
        assert_eq!([lies_in(&above), lies_in(&above)], [Some("WATCHDOG=1".to_owned()), Some("WATCHDOG=1".to_owned())]);
        drop(above);
        outer.tell(OuterWord::Stopping);
        assert_eq!(lies_in(&successor).as_deref(), Some("STOPPING=1"));
        assert!(outer.waiting.is_empty());
    }

    #[test]
    fn by_anothers_link_or_name_root_says_nothing_at_a_socket_where_they_are_not_heard_themselves() {
        use std::os::unix::fs::PermissionsExt;
        const OTHER: u32 = 65_534;
        let directory = tempfile::tempdir().unwrap();
        let [app, roots] = ["app", "roots"].map(|name| directory.path().join(name));
        let at = |path: &std::path::Path| Outer::new(address_of(path.as_os_str().as_bytes()).unwrap()).unwrap();
        for path in [directory.path(), app.as_path(), roots.as_path()] {
            std::fs::create_dir_all(path).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        if let Err(error) = std::os::unix::fs::chown(&app, Some(OTHER), Some(OTHER)) {
            return eprintln!("not tried: only root has other users' directories ({error})");
        }
        let bind = |path: &std::path::Path, mode: u32| {
            let socket = std::os::unix::net::UnixDatagram::bind(path).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            socket
        };
        let log = bind(&roots.join("log"), 0o600);
        let open = bind(&roots.join("open"), 0o666);
        for name in ["log", "open"] {
            let link = app.join(name);
            std::os::unix::fs::symlink(roots.join(name), &link).unwrap();
            std::os::unix::fs::lchown(&link, Some(OTHER), Some(OTHER)).unwrap();
            at(&link).tell(OuterWord::Ready);
        }
        // A second name, and one that was moved there.
        std::fs::hard_link(roots.join("open"), app.join("second")).unwrap();
        at(&app.join("second")).tell(OuterWord::Ready);
        let moved = bind(&app.join("moved"), 0o600);
        at(&app.join("moved")).tell(OuterWord::Ready);
        assert_eq!([lies_in(&log), lies_in(&open), lies_in(&moved)], [const { None }; 3]);
        // By a path of root's, and where they may speak.
        at(&roots.join("log")).tell(OuterWord::Ready);
        let theirs = bind(&app.join("theirs"), 0o622);
        at(&app.join("theirs")).tell(OuterWord::Ready);
        let ready = Some("READY=1".to_owned());
        assert_eq!([lies_in(&log), lies_in(&theirs)], [ready.clone(), ready]);
    }

    #[test]
    fn an_outer_socket_is_a_path_or_an_abstract_name() {
        assert!(address_of(b"/run/systemd/notify").unwrap().path().is_some());
        assert_eq!(address_of(b"@abc").unwrap().as_abstract(), Some(&b"abc"[..]));
        assert!(address_of(b"vsock:2:1234").is_none());
        assert!(address_of(b"").is_none());
    }
}
