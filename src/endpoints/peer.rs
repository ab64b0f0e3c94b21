//! Who is at the other end of a unix socket, by what the kernel noted when it connected or began to listen. A file's
//! mode doesn't tell: who owns the directory puts what they like there; and an abstract name has no mode at all.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::net::UnixStream;
use tokio::net::unix::UCred;

/// A process at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// 0 when it is in no PID namespace that we see.
    pub pid: i32,
    /// Its user, as our user namespace has it.
    pub uid: u32,
}

impl Peer {
    /// `None` when the kernel doesn't say.
    pub fn of(stream: &UnixStream) -> Option<Peer> {
        stream.peer_cred().ok().map(|peer: UCred| Peer { pid: peer.pid().unwrap_or(0), uid: peer.uid() })
    }

    /// Whether it may give orders by an abstract socket: root or our own user, and in our container, for another one's
    /// root is a stranger.
    pub fn may_command(self) -> bool {
        self.pid > 0 && self.is_root_or_us()
    }

    /// Whether it is to be believed as an agent: root, our own user, or the init of our PID namespace, whoever that
    /// runs as. At an abstract name (`anyone_may_listen`) it must be of our container too.
    pub fn may_be_an_agent(self, anyone_may_listen: bool) -> bool {
        self.pid == 1 || (self.is_root_or_us() && (self.pid > 0 || !anyone_may_listen))
    }

    /// Whether it is in another container, or on the host, as far as PID namespaces tell.
    pub fn is_outside(self) -> bool {
        self.pid == 0
    }

    /// Whether it is the container's init, or runs this very program. Where others may rename, a socket of some other daemon
    /// of root's can be at the agent's place.
    pub fn runs_this_program(self) -> bool {
        self.pid == 1 || self.is_this_program()
    }

    /// Whether it runs this very program, as far as that may be seen.
    pub fn is_this_program(self) -> bool {
        let file = |process: &str| std::fs::metadata(format!("/proc/{process}/exe")).ok();
        let is = |(own, its): (std::fs::Metadata, std::fs::Metadata)| (own.dev(), own.ino()) == (its.dev(), its.ino());
        file("self").zip(file(&self.pid.to_string())).is_some_and(is)
    }

    fn is_root_or_us(self) -> bool {
        // A user that our user namespace has no number for may seem to be us, if we are its overflow user.
        self.uid == 0 || (self.pid > 0 && self.uid == nix::unistd::geteuid().as_raw())
    }
}

/// A socket to listen or connect with, without waiting.
pub(super) fn stream() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_types, reason = "a child of the test's own, which nobody else reaps")]
    fn who_runs_another_program_is_no_agent_for_being_roots() {
        let mut other = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let peer = |pid: u32| Peer { pid: pid as i32, uid: 0 };
        // Until its exec it is this program.
        let told_apart = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            !peer(other.id()).runs_this_program()
        });
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(told_apart && peer(std::process::id()).runs_this_program() && peer(1).runs_this_program());
        assert!(!peer(0).runs_this_program());
    }

    #[test]
    fn root_we_ourselves_and_the_containers_init_are_believed_and_nobody_else() {
        let peer = |pid, uid| Peer { pid, uid };
        let us = nix::unistd::geteuid().as_raw();
        for agent in [peer(7, 0), peer(7, us), peer(1, 4242)] {
            assert!(agent.may_be_an_agent(true) && agent.may_be_an_agent(false), "{agent:?}");
        }
        // Root of another container: at a path that both see it may be whom we ask, at an abstract name it is not.
        assert!(peer(0, 0).may_be_an_agent(false) && !peer(0, 0).may_be_an_agent(true));
        assert!(!peer(7, 4242).may_be_an_agent(false));
        assert!(peer(7, 0).may_command() && !peer(0, 0).may_command() && !peer(1, 4242).may_command());
    }
}
