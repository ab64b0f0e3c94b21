//! sd_notify: a socket on which main says that it is ready, alive, or how it is. What it says goes on to the
//! supervisor above us (`outer`), if there is one. It draws no conclusions.
//!
//! The socket is abstract and named by the kernel, so it needs no writable file system. Abstract names belong to the
//! network namespace, which containers may share: so who sends is checked by the credentials the kernel attaches.
//!
//! Anybody may write to it, so nobody may make it costly: so much is read in one turn of the loop, who is ignored is
//! counted and told of once a minute, and no descriptor that comes along is ever taken.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{self, UnixAddr, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::plain;
use crate::readable::{self, Readable};
use crate::supervisor::vocabulary::{Notification, OuterWord, Pid};

use super::outer::{LONGEST_EXTENSION, Outer, address_of, datagram, relayed, watchdog_of};
use super::senders::{Sender, Senders, Speaker};
use super::tree;

/// Where sd_notify(3) finds its socket.
pub const VARIABLE: &str = "NOTIFY_SOCKET";
/// systemd's own bound of a message (NOTIFY_BUFFER_MAX).
const MOST: usize = 4096;
/// As many messages are read in one turn. No main says so much at once: more is a flood.
const MOST_AT_ONCE: usize = 32;
/// After a turn that found so many nothing is read for this long, and whoever floods waits.
const PAUSE: Duration = Duration::from_millis(2);
/// The same after a failure of the kernel's (no memory, say).
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// What is ignored is told of at most as often.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// The socket main speaks to.
#[derive(Debug)]
pub struct Notify {
    socket: AsyncFd<Readable<OwnedFd>>,
    address: String,
    outer: Option<Outer>,
    senders: Senders,
    ignored: Ignored,
    /// Nothing is read before.
    resume_at: Option<Instant>,
    /// Main is all there is: its words are the container's.
    plain: bool,
}

impl Notify {
    /// Opens the socket when it is `wanted` by a health check, or when the agent was itself started with a
    /// NOTIFY_SOCKET, to which what main says is then passed on: by a `plain` init all of it. Call it inside the runtime.
    ///
    /// # Errors
    /// Only for want of descriptors or memory.
    pub fn open(wanted: bool, plain: bool) -> io::Result<Option<Notify>> {
        let outer = std::env::var_os(VARIABLE).and_then(|name| address_of(name.as_bytes()));
        if !wanted && outer.is_none() {
            return Ok(None);
        }
        Notify::bind(outer, plain).map(Some)
    }

    /// A coprocess's own: what that says is of no concern to the supervisor above us.
    ///
    /// # Errors
    /// The same.
    pub fn own() -> io::Result<Notify> {
        Notify::bind(None, false)
    }

    fn bind(outer: Option<UnixAddr>, plain: bool) -> io::Result<Notify> {
        let socket = datagram()?;
        socket::setsockopt(&socket, sockopt::PassCred, &true)?;
        // unix(7), "autobind": a name nobody else has.
        socket::bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
        let name: UnixAddr = socket::getsockname(socket.as_raw_fd())?;
        let name = name.as_abstract().ok_or_else(|| io::Error::other("the kernel gave the socket no name"))?;
        let address = format!("@{}", String::from_utf8_lossy(name));
        let outer = match outer {
            Some(address) => Some(Outer::new(address)?),
            None => None,
        };
        Ok(Notify {
            socket: readable::watch(socket)?,
            address,
            outer,
            senders: Senders::new(std::process::id() as Pid),
            ignored: Ignored::default(),
            resume_at: None,
            plain,
        })
    }

    /// What NOTIFY_SOCKET is for main.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How often the supervisor above wants to hear from this process (sd_watchdog_enabled(3)).
    pub fn outer_watchdog(&self) -> Option<Duration> {
        self.outer.as_ref().and_then(|_| watchdog_of(std::process::id()))
    }

    /// Tells the supervisor above something of our own.
    pub fn tell_outer(&mut self, word: OuterWord) {
        let Some(outer) = &mut self.outer else { return };
        outer.told_ready |= word == OuterWord::Ready;
        outer.tell(word);
    }

    /// The next thing that the speaker, or what it has started, says; what comes at once is put together. Cancel-safe.
    pub async fn next(&mut self, speaker: Speaker<'_>) -> Notification {
        loop {
            if let Some(at) = self.resume_at {
                sleep_until(at).await;
                self.resume_at = None;
            }
            let again_at = self.outer.as_ref().and_then(|outer| outer.again_at);
            let readable = match self.ignored.due().into_iter().chain(again_at).min() {
                Some(at) => timeout_at(at, self.socket.readable()).await.ok(),
                None => Some(self.socket.readable().await),
            };
            let turn = match readable {
                None => {
                    let now = Instant::now();
                    if self.ignored.due().is_some_and(|at| at <= now) {
                        self.ignored.tell(now);
                    }
                    if let Some(outer) = self.outer.as_mut().filter(|_| again_at.is_some_and(|at| at <= now)) {
                        outer.again();
                    }
                    continue;
                }
                Some(Ok(mut guard)) => guard.try_io(|socket| receive(&socket.get_ref().0)),
                Some(Err(error)) => Ok(Err(error)),
            };
            match turn {
                Ok(Ok(messages)) => {
                    let said = self.hear(messages, speaker);
                    if said != Notification::default() {
                        return said;
                    }
                }
                Ok(Err(error)) => {
                    tracing::error!(event = "notify.failed", %error, "sd_notify can't be heard for a moment");
                    self.resume_at = Some(Instant::now() + AFTER_FAILURE);
                }
                Err(_would_block) => {}
            }
        }
    }

    /// What lies there now: a turn's worth, at once, and be it that a flood is to wait.
    pub fn unheard(&mut self, speaker: Speaker<'_>) -> Option<Notification> {
        let messages = receive(&self.socket.get_ref().0).ok()?;
        Some(self.hear(messages, speaker)).filter(|said| *said != Notification::default())
    }

    fn hear(&mut self, messages: Vec<Message>, speaker: Speaker<'_>) -> Notification {
        let now = Instant::now();
        if messages.len() >= MOST_AT_ONCE {
            self.resume_at = Some(now + PAUSE);
        }
        let mut heard = Notification::default();
        let mut named = None;
        for Message { sender, bytes } in messages {
            match (sender, bytes) {
                (Some(sender), Some(bytes)) if self.senders.believes(sender, speaker, now) => {
                    if let Some(outer) = &mut self.outer {
                        outer.pass_on(relayed(&bytes, self.plain, outer.told_ready));
                    }
                    let said = parse(&bytes);
                    named = main_pid(&bytes).or(named);
                    // What ends main, or gives it time, is main's own to say: what it starts may speak of itself.
                    heard.add(if speaker.pid == Some(sender.pid) { said } else { said.of_another() });
                }
                (sender, bytes) => self.ignored.note(sender, bytes.is_none(), now),
            }
        }
        // Looked up but once, however many are named.
        heard.main_pid = named.and_then(tree::id);
        heard
    }
}

/// What was ignored and not yet told of.
#[derive(Debug, Default)]
struct Ignored {
    told_at: Option<Instant>,
    count: u64,
    last: Option<Sender>,
}

impl Ignored {
    /// The first is told of at once, the following ones by number.
    fn note(&mut self, sender: Option<Sender>, too_long: bool, now: Instant) {
        if self.told_at.is_some_and(|at| now < at + TOLD_EVERY) {
            self.count += 1;
            self.last = sender.or(self.last);
            return;
        }
        self.tell(now);
        let (pid, uid) = (sender.map_or(0, |sender| sender.pid), sender.map_or(0, |sender| sender.uid));
        match too_long {
            true => {
                tracing::warn!(event = "notify.ignored", pid, uid, "an sd_notify message over {MOST} bytes ignored")
            }
            false => tracing::warn!(event = "notify.ignored", pid, uid, "sd_notify from a foreign process ignored"),
        }
    }

    /// When the number is to be told, if there is one.
    fn due(&self) -> Option<Instant> {
        self.told_at.filter(|_| self.count > 0).map(|at| at + TOLD_EVERY)
    }

    fn tell(&mut self, now: Instant) {
        self.told_at = Some(now);
        let count = std::mem::take(&mut self.count);
        if let Some(last) = self.last.take().filter(|_| count > 0) {
            tracing::warn!(
                event = "notify.ignored",
                pid = last.pid,
                uid = last.uid,
                "{count} more sd_notify messages ignored (the last one's sender)"
            );
        }
    }
}

/// A message: who sent it, and what it says unless it is too long.
struct Message {
    sender: Option<Sender>,
    bytes: Option<Vec<u8>>,
}

/// What lies in the socket, at most a turn's worth.
fn receive(socket: &OwnedFd) -> io::Result<Vec<Message>> {
    let mut messages = Vec::new();
    while messages.len() < MOST_AT_ONCE {
        match receive_one(socket) {
            Ok(message) => messages.push(message),
            Err(Errno::EINTR) => {}
            // What was read is heard first; whatever it is, it comes again.
            Err(_) if !messages.is_empty() => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(messages)
}

/// recvmsg(2) itself, because nix's takes a cut control message for an error.
///
/// The control buffer has room for the sender's credentials, which the kernel puts first, and for nothing else: so
/// descriptors that come along are never ours, but closed by the kernel at once (unix(7), MSG_CTRUNC). Closing them is
/// what sd_notify_barrier(3) waits for.
#[allow(unsafe_code)]
fn receive_one(socket: &OwnedFd) -> Result<Message, Errno> {
    const ROOM: usize = {
        // SAFETY: computes a size.
        unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) as usize }
    };
    /// Aligned as its header wants it.
    #[repr(C)]
    struct Control {
        header: [libc::cmsghdr; 0],
        bytes: [u8; ROOM],
    }
    let mut buffer = [0u8; MOST];
    let mut control = Control { header: [], bytes: [0; ROOM] };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zero is an empty message header, which is then filled in with places that outlive the call; the
    // kernel writes no more than the lengths say, and CMSG_FIRSTHDR returns null or a header within the buffer, whose
    // data is read unaligned and only when it is as long as credentials are.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
        (message.msg_control, message.msg_controllen) = ((&raw mut control.bytes).cast(), ROOM as _);
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let count = Errno::result(libc::recvmsg(socket.as_raw_fd(), &mut message, flags))?;
        let header = libc::CMSG_FIRSTHDR(&message);
        let sender = header.as_ref().filter(|header| {
            (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
                && header.cmsg_len >= libc::CMSG_LEN(size_of::<libc::ucred>() as u32) as _
        });
        let sender = sender.map(|_| {
            let credentials: libc::ucred = libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned();
            Sender { pid: credentials.pid, uid: credentials.uid }
        });
        let whole = message.msg_flags & libc::MSG_TRUNC == 0;
        let bytes = buffer.get(..count.unsigned_abs()).filter(|_| whole).map(<[u8]>::to_vec);
        Ok(Message { sender, bytes })
    }
}

pub(super) fn parse(message: &[u8]) -> Notification {
    let mut notification = Notification::default();
    for line in message.split(|byte| *byte == b'\n') {
        match line {
            b"READY=1" => (notification.ready, notification.reloading) = (true, false),
            b"RELOADING=1" => notification.reloading = true,
            b"STOPPING=1" => notification.stopping = true,
            b"WATCHDOG=1" => notification.watchdog = true,
            b"WATCHDOG=trigger" => notification.triggered = true,
            _ => {
                if let Some(time) = line.strip_prefix(b"EXTEND_TIMEOUT_USEC=") {
                    notification.extend = microseconds(time);
                } else if let Some(time) = line.strip_prefix(b"WATCHDOG_USEC=") {
                    notification.watchdog_within = microseconds(time).filter(|time| !time.is_zero());
                } else if let Some(status) = line.strip_prefix(b"STATUS=") {
                    notification.status = Some(plain::bytes(status));
                }
            }
        }
    }
    notification
}

/// Whom a message names as main, in its last such line.
pub(super) fn main_pid(message: &[u8]) -> Option<Pid> {
    let pid = message.split(|byte| *byte == b'\n').rev().find_map(|line| line.strip_prefix(b"MAINPID="))?;
    std::str::from_utf8(pid).ok()?.parse().ok()
}

fn microseconds(text: &[u8]) -> Option<Duration> {
    let micros: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(Duration::from_micros(micros).min(LONGEST_EXTENSION))
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::MsgFlags;

    use super::super::outer::{AGAIN_AFTER, MOST_WAITING};
    use super::super::senders::Origin;
    use super::*;

    #[test]
    fn what_main_says_is_understood_in_any_order() {
        let said = parse(b"STATUS=warming \x1bup\nWATCHDOG=1\nREADY=1\nMAINPID=7");
        assert!(said.ready && said.watchdog);
        assert_eq!(main_pid(b"MAINPID=6\nMAINPID=7\nREADY=1"), Some(7));
        assert_eq!(said.status.as_deref(), Some("warming \\u{1b}up"));
        assert_eq!(parse(b"READY=0\nSTOPPING=0\nEXTEND_TIMEOUT_USEC=-1\nWATCHDOG_USEC=0"), Notification::default());
        let said = parse(b"READY=1\nRELOADING=1\nSTOPPING=1\nWATCHDOG=trigger\nEXTEND_TIMEOUT_USEC=5000000");
        assert!(said.ready && said.reloading && said.stopping && said.triggered);
        assert_eq!(said.extend, Some(Duration::from_secs(5)));
        assert_eq!(parse(b"EXTEND_TIMEOUT_USEC=18446744073709551615").extend, Some(LONGEST_EXTENSION));
        assert!(!parse(b"RELOADING=1\nREADY=1").reloading);
    }

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    /// Sends a message with so many descriptors.
    fn send(to: &Notify, text: &[u8], descriptors: usize) {
        let socket = datagram().unwrap();
        let address = address_of(to.address().as_bytes()).unwrap();
        let descriptors = vec![socket.as_raw_fd(); descriptors];
        let rights = [socket::ControlMessage::ScmRights(&descriptors)];
        let rights = if descriptors.is_empty() { &rights[..0] } else { &rights[..] };
        let parts = [io::IoSlice::new(text)];
        socket::sendmsg(socket.as_raw_fd(), &parts, rights, MsgFlags::MSG_DONTWAIT, Some(&address)).unwrap();
    }

    fn nobody() -> Speaker<'static> {
        Speaker { pid: None, origin: Some(Origin::Ours), is_keeper: &|_| false }
    }

    fn ourselves() -> Speaker<'static> {
        Speaker { pid: Some(std::process::id() as Pid), ..nobody() }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn descriptors_that_come_along_are_never_taken_and_deafen_nobody() {
        runtime().block_on(async {
            let mut notify = Notify::open(true, false).unwrap().unwrap();
            let before = open_descriptors();
            for _ in 0..3 {
                send(&notify, b"X=1", 253);
            }
            send(&notify, b"READY=1", 1);
            assert!(notify.next(ourselves()).await.ready);
            // Other tests open and close some beside this one.
            assert!(open_descriptors() < before + 200);
        });
    }

    #[test]
    fn what_comes_at_once_is_put_together_and_what_is_too_long_is_left_out() {
        runtime().block_on(async {
            let mut notify = Notify::open(true, false).unwrap().unwrap();
            send(&notify, b"STATUS=one", 0);
            send(&notify, &[b'x'; MOST + 1], 0);
            send(&notify, b"WATCHDOG=1", 0);
            send(&notify, b"STATUS=two", 0);
            let said = notify.next(ourselves()).await;
            assert_eq!(
                said,
                Notification { watchdog: true, status: Some("two".to_owned()), ..Notification::default() }
            );
        });
    }

    #[test]
    fn what_is_ignored_is_told_once_and_then_by_number() {
        let now = Instant::now();
        let mut ignored = Ignored::default();
        let sender = Some(Sender { pid: 7, uid: 8 });
        ignored.note(sender, false, now);
        assert_eq!((ignored.count, ignored.due()), (0, None));
        for _ in 0..1000 {
            ignored.note(sender, false, now);
        }
        assert_eq!((ignored.count, ignored.due()), (1000, Some(now + TOLD_EVERY)));
        ignored.tell(now + TOLD_EVERY);
        assert_eq!((ignored.count, ignored.due()), (0, None));
    }

    #[test]
    fn what_another_process_says_neither_ends_main_nor_gives_it_time() {
        let mut heard = parse(b"RELOADING=1");
        heard.add(parse(b"READY=1\nSTOPPING=1\nEXTEND_TIMEOUT_USEC=1\nSTATUS=x").of_another());
        let status = Some("x".to_owned());
        assert_eq!(heard, Notification { ready: true, status, ..Notification::default() });
    }

    /// What a supervisor above that was busy finds when it looks, as long as something comes.
    async fn heard(notify: &mut Notify, above: &std::os::unix::net::UnixDatagram) -> Vec<String> {
        let (mut heard, mut buffer) = (Vec::new(), [0; MOST]);
        // The kernel's word for each message is far within it.
        while tokio::time::timeout(3 * AGAIN_AFTER, notify.next(nobody())).await.is_err() {
            let before = heard.len();
            while let Ok(count) = above.recv(&mut buffer) {
                heard.push(String::from_utf8(buffer[..count].to_vec()).unwrap());
            }
            if heard.len() == before {
                break;
            }
        }
        heard
    }

    #[test]
    fn a_busy_supervisor_above_hears_all_when_it_has_time() {
        runtime().block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("above");
            let above = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
            above.set_nonblocking(true).unwrap();
            let address = address_of(path.as_os_str().as_bytes());
            let mut notify = Notify::bind(address, false).unwrap();
            let above_is_full = |notify: &mut Notify| {
                let outer = notify.outer.as_mut().unwrap();
                (0..10_000).find(|n| {
                    outer.pass_on(format!("STATUS={n}").into_bytes());
                    !outer.waiting.is_empty()
                })
            };
            let sent = above_is_full(&mut notify).expect("a queue has an end");
            for _ in 0..3 {
                notify.tell_outer(OuterWord::Ready);
                notify.tell_outer(OuterWord::Alive);
            }
            let outer = notify.outer.as_mut().unwrap();
            ["STATUS=a", "STATUS=b"].iter().for_each(|status| outer.pass_on(status.as_bytes().to_vec()));
            (0..2 * MOST_WAITING).for_each(|n| outer.pass_on(format!("X={n}").into_bytes()));
            notify.tell_outer(OuterWord::Stopping);
            assert!(notify.outer.as_ref().unwrap().waiting.len() <= MOST_WAITING + 3);
            let heard = heard(&mut notify, &above).await;
            let of_main = MOST_WAITING - 4;
            let late: Vec<&str> = heard[sent..].iter().map(String::as_str).collect();
            assert_eq!(late[1..5], ["READY=1", "WATCHDOG=1", "STATUS=b", "X=0"]);
            assert_eq!(late.len(), 4 + of_main + 1);
            assert_eq!(late.last(), Some(&"STOPPING=1"));
        });
    }
}
