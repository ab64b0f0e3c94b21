//! An address where nobody answers, as if its host were off: a listener with no room for one more.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket};

/// Nobody answers as long as this lives.
pub struct Off {
    ip: Ipv4Addr,
    #[allow(dead_code, reason = "they keep the place taken")]
    sockets: (OwnedFd, Vec<TcpStream>),
}

impl Off {
    /// At this address, which must be one of loopback's.
    pub fn new(at: SocketAddrV4) -> Off {
        let listener = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        bind(listener.as_raw_fd(), &SockaddrIn::from(at)).expect("a free port");
        listen(&listener, Backlog::new(1).expect("more than nothing")).expect("a listener");
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&SocketAddr::V4(at), Duration::from_millis(100)) {
            waiting.push(stream);
        }
        Off { ip: *at.ip(), sockets: (listener, waiting) }
    }

    /// Its address.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }
}
