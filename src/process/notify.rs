//! sd_notify: a socket on which main says that it is ready, alive, or how it is. What it says goes on to the
//! supervisor above us, if there is one. It draws no conclusions.
//!
//! The socket is abstract and named by the kernel, so it needs no writable file system. Abstract names belong to the
//! network namespace, which containers may share: so who sends is checked by the credentials the kernel attaches.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::sys::socket::{
    self, AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, sockopt,
};
use tokio::io::unix::AsyncFd;

use crate::readable::{self, Readable};
use crate::supervisor::event::{Notification, Pid};

/// Where sd_notify(3) finds its socket.
pub const VARIABLE: &str = "NOTIFY_SOCKET";
/// systemd's own bound of a message (NOTIFY_BUFFER_MAX).
const MOST: usize = 4096;
/// What is about main or about descriptors that don't travel with a relayed message, and so isn't passed on: for the
/// supervisor above, we are the main process.
const NOT_RELAYED: [&[u8]; 4] = [b"MAINPID", b"BARRIER=", b"FDSTORE", b"FDNAME="];

/// The socket main speaks to.
#[derive(Debug)]
pub struct Notify {
    socket: AsyncFd<Readable<OwnedFd>>,
    address: String,
    outer: Option<Outer>,
    agent: Pid,
}

/// The supervisor above us, and a socket to write to it.
#[derive(Debug)]
struct Outer {
    address: UnixAddr,
    socket: OwnedFd,
}

impl Notify {
    /// Opens the socket when it is `wanted` by a health check, or when the agent was itself started with a
    /// NOTIFY_SOCKET, to which everything is then passed on. Call it inside the runtime.
    ///
    /// # Errors
    /// Only for want of descriptors or memory.
    pub fn open(wanted: bool) -> io::Result<Option<Notify>> {
        let outer = std::env::var_os(VARIABLE).and_then(|name| outer(name.as_bytes()));
        if !wanted && outer.is_none() {
            return Ok(None);
        }
        let socket = datagram()?;
        socket::setsockopt(&socket, sockopt::PassCred, &true)?;
        // unix(7), "autobind": a name nobody else has.
        socket::bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
        let name: UnixAddr = socket::getsockname(socket.as_raw_fd())?;
        let name = name.as_abstract().ok_or_else(|| io::Error::other("the kernel gave the socket no name"))?;
        let address = format!("@{}", String::from_utf8_lossy(name));
        let outer = match outer {
            Some(address) => Some(Outer { address, socket: datagram()? }),
            None => None,
        };
        Ok(Some(Notify { socket: readable::watch(socket)?, address, outer, agent: std::process::id() as Pid }))
    }

    /// What NOTIFY_SOCKET is for main.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The next thing main says. Cancel-safe.
    pub async fn next(&mut self) -> Notification {
        loop {
            let received = match self.socket.readable().await {
                Ok(mut guard) => guard.try_io(|socket| receive(&socket.get_ref().0)),
                Err(error) => Ok(Err(error)),
            };
            match received {
                Ok(Ok(Some((sender, message)))) if self.is_ours(&sender) => {
                    self.relay(&message);
                    let notification = parse(&message);
                    if notification != Notification::default() {
                        return notification;
                    }
                }
                Ok(Ok(Some((sender, _)))) => {
                    tracing::warn!(pid = sender.pid(), uid = sender.uid(), "sd_notify from a foreign process ignored");
                }
                Ok(Ok(None)) => tracing::warn!("an sd_notify message without sender or over {MOST} bytes ignored"),
                Ok(Err(error)) => {
                    tracing::error!(%error, "sd_notify can't be heard any more");
                    std::future::pending::<()>().await;
                }
                Err(_would_block) => {}
            }
        }
    }

    /// Whether a message comes from below us. PID 1 sees the pid of no process outside its own container: that is 0.
    /// As a subreaper the ancestors decide; a sender that has ended since, as systemd-notify(1) does at once, is
    /// believed if it was root's or our own user's.
    fn is_ours(&self, sender: &UnixCredentials) -> bool {
        if self.agent == 1 {
            return sender.pid() > 0;
        }
        super::strays::is_below(self.agent, sender.pid())
            .unwrap_or_else(|| [0, nix::unistd::geteuid().as_raw()].contains(&sender.uid()))
    }

    fn relay(&self, message: &[u8]) {
        let Some(outer) = &self.outer else { return };
        let lines = message.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let kept: Vec<&[u8]> = lines.filter(|line| !NOT_RELAYED.iter().any(|name| line.starts_with(name))).collect();
        if !kept.is_empty()
            && let Err(error) = socket::sendto(
                outer.socket.as_raw_fd(),
                &kept.join(&b'\n'),
                &outer.address,
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            )
        {
            tracing::debug!(%error, "sd_notify can't be passed on");
        }
    }
}

/// `@name` is abstract, `/path` a file; anything else (vsock) is none we speak.
fn outer(name: &[u8]) -> Option<UnixAddr> {
    match name {
        [b'@', name @ ..] => UnixAddr::new_abstract(name).ok(),
        [b'/', ..] => UnixAddr::new(name).ok(),
        _ => None,
    }
}

fn datagram() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None)?)
}

/// One message and who sent it; `None` for one that is too long or has no sender.
fn receive(socket: &OwnedFd) -> io::Result<Option<(UnixCredentials, Vec<u8>)>> {
    let mut buffer = [0; MOST];
    // 253 descriptors are the most a message can bring (SCM_MAX_FD); those that don't fit the kernel closes itself.
    let mut control = nix::cmsg_space!(UnixCredentials, [std::os::fd::RawFd; 253]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = socket::recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let mut sender = None;
    for item in message.cmsgs()? {
        match item {
            ControlMessageOwned::ScmCredentials(credentials) => sender = Some(credentials),
            // Closing them is what sd_notify_barrier(3) waits for.
            ControlMessageOwned::ScmRights(descriptors) => descriptors.into_iter().for_each(close),
            _ => {}
        }
    }
    let (bytes, truncated) = (message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC));
    Ok(sender.filter(|_| !truncated).map(|sender| (sender, buffer[..bytes].to_vec())))
}

#[allow(unsafe_code)]
fn close(descriptor: std::os::fd::RawFd) {
    // SAFETY: the kernel has just made it for us; nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
}

fn parse(message: &[u8]) -> Notification {
    let mut notification = Notification::default();
    for line in message.split(|byte| *byte == b'\n') {
        match line {
            b"READY=1" => notification.ready = true,
            b"WATCHDOG=1" => notification.watchdog = true,
            _ => {
                if let Some(status) = line.strip_prefix(b"STATUS=") {
                    notification.status = Some(super::output::printable(status));
                }
            }
        }
    }
    notification
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_main_says_is_understood_in_any_order() {
        let said = parse(b"STATUS=warming \x1bup\nWATCHDOG=1\nREADY=1\nMAINPID=7");
        assert!(said.ready && said.watchdog);
        assert_eq!(said.status.as_deref(), Some("warming \\u{1b}up"));
        assert_eq!(parse(b"READY=0\nSTOPPING=1"), Notification::default());
    }

    #[test]
    fn an_outer_socket_is_a_path_or_an_abstract_name() {
        assert!(outer(b"/run/systemd/notify").unwrap().path().is_some());
        assert_eq!(outer(b"@abc").unwrap().as_abstract(), Some(&b"abc"[..]));
        assert!(outer(b"vsock:2:1234").is_none());
        assert!(outer(b"").is_none());
    }
}
