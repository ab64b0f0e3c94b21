//! The flags of each address, as rtnetlink(7) tells them (`RTM_GETADDR`); getifaddrs(3) leaves them out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket};
use nix::sys::time::TimeVal;

/// The kernel answers at once; this is for one that isn't Linux's own.
const ANSWER_WITHIN: TimeVal = TimeVal::new(1, 0);
/// The kernel fills at most 32 KiB at once (netlink_dump in net/netlink/af_netlink.c).
const CHUNK: usize = 64 << 10;
/// 65,536 addresses with all the kernel says of each.
const CHUNKS_AT_MOST: usize = 256;
/// `struct nlmsghdr`, `struct ifaddrmsg`, `struct rtattr`.
const HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ATTRIBUTE_HEADER: usize = 4;

/// What the kernel says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Not the first of its network on its interface; for IPv6: temporary.
    pub secondary: bool,
    /// Not for new connections.
    pub deprecated: bool,
    /// Not known, or known not, to be this host's alone.
    pub tentative: bool,
    /// When it was added, in hundredths of a second since boot.
    pub created: u32,
}

/// The flags of every address, by interface index and address.
///
/// # Errors
/// There is no netlink, or it doesn't answer.
pub fn of_addresses() -> Result<HashMap<(u32, IpAddr), Flags>, Errno> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    setsockopt(&socket, ReceiveTimeout, &ANSWER_WITHIN)?;
    send(socket.as_raw_fd(), &question(), MsgFlags::empty())?;
    let (mut found, mut chunk) = (HashMap::new(), vec![0; CHUNK]);
    for _ in 0..CHUNKS_AT_MOST {
        let length = recv(socket.as_raw_fd(), &mut chunk, MsgFlags::empty())?;
        if read(&chunk[..length], &mut found)? {
            return Ok(found);
        }
    }
    Err(Errno::EMSGSIZE)
}

/// "Every address, of each family."
fn question() -> [u8; HEADER + ADDRESS_HEADER] {
    let mut question = [0; HEADER + ADDRESS_HEADER];
    question[..4].copy_from_slice(&((HEADER + ADDRESS_HEADER) as u32).to_ne_bytes());
    question[4..6].copy_from_slice(&libc::RTM_GETADDR.to_ne_bytes());
    question[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    question
}

/// Reads a part of the answer; whether it was the last.
fn read(mut part: &[u8], found: &mut HashMap<(u32, IpAddr), Flags>) -> Result<bool, Errno> {
    while let Some((length, kind)) = Option::zip(long(part, 0), short(part, 4)) {
        let length = length as usize;
        let Some(message) = part.get(HEADER..length) else { return Err(Errno::EBADMSG) };
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR => return Err(Errno::from_raw(-(long(message, 0).unwrap_or(0) as i32))),
            _ if kind == libc::RTM_NEWADDR => found.extend(address(message)),
            _ => {}
        }
        part = part.get(padded(length)..).unwrap_or_default();
    }
    Ok(false)
}

fn address(message: &[u8]) -> Option<((u32, IpAddr), Flags)> {
    let index = long(message, 4)?;
    let mut flags = u32::from(*message.get(2)?);
    let (mut far, mut near, mut created) = (None, None, 0);
    let mut rest = message.get(ADDRESS_HEADER..)?;
    while let Some((length, kind)) = Option::zip(short(rest, 0), short(rest, 2)) {
        let Some(value) = rest.get(ATTRIBUTE_HEADER..usize::from(length)) else { break };
        match kind {
            libc::IFA_ADDRESS => far = ip(value),
            libc::IFA_LOCAL => near = ip(value),
            // All 32 of them, where the header has room for eight.
            libc::IFA_FLAGS => flags = long(value, 0)?,
            // struct ifa_cacheinfo: preferred, valid, created, changed.
            libc::IFA_CACHEINFO => created = long(value, 8)?,
            _ => {}
        }
        rest = rest.get(padded(usize::from(length))..).unwrap_or_default();
    }
    // On a point-to-point link `IFA_ADDRESS` is the other end's.
    let address = near.or(far)?;
    let optimistic = flags & libc::IFA_F_OPTIMISTIC != 0;
    let told = Flags {
        secondary: flags & libc::IFA_F_SECONDARY != 0,
        deprecated: flags & libc::IFA_F_DEPRECATED != 0,
        tentative: flags & libc::IFA_F_DADFAILED != 0 || flags & libc::IFA_F_TENTATIVE != 0 && !optimistic,
        created,
    };
    Some(((index, address), told))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Messages and attributes begin at multiples of four.
fn padded(length: usize) -> usize {
    // Never zero: what is broken must not be read for ever.
    length.max(ATTRIBUTE_HEADER).next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(padded(bytes.len()), 0);
        bytes
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((ATTRIBUTE_HEADER + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(padded(bytes.len()), 0);
        bytes
    }

    #[test]
    fn the_flags_of_an_address_are_read_and_the_near_end_is_it() {
        let mut body = vec![2, 32, 0x80, 0];
        body.extend(7u32.to_ne_bytes());
        body.extend(attribute(libc::IFA_ADDRESS, &[10, 0, 0, 1]));
        body.extend(attribute(libc::IFA_LOCAL, &[10, 0, 0, 2]));
        body.extend(attribute(libc::IFA_LABEL, b"ppp0\0"));
        body.extend(attribute(libc::IFA_FLAGS, &libc::IFA_F_DEPRECATED.to_ne_bytes()));
        let mut answer = message(libc::RTM_NEWADDR, &body);
        answer.extend(message(libc::NLMSG_DONE as u16, &[0; 4]));
        let mut found = HashMap::new();
        assert_eq!(read(&answer, &mut found), Ok(true));
        let expected = Flags { deprecated: true, ..Flags::default() };
        assert_eq!(found, HashMap::from([((7, [10, 0, 0, 2].into()), expected)]));
    }

    #[test]
    fn a_broken_answer_ends() {
        let mut found = HashMap::new();
        assert_eq!(read(&[0; 64], &mut found), Err(Errno::EBADMSG));
        let mut cut = message(libc::RTM_NEWADDR, &[2, 24, 0, 0, 1, 0, 0, 0]);
        cut[0] += 40;
        assert_eq!(read(&cut, &mut found), Err(Errno::EBADMSG));
        let refused = message(libc::NLMSG_ERROR as u16, &(-(Errno::EPERM as i32)).to_ne_bytes());
        assert_eq!(read(&refused, &mut found), Err(Errno::EPERM));
        assert_eq!(read(&message(libc::RTM_NEWADDR, &[2, 24, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0]), &mut found), Ok(false));
        assert!(found.is_empty());
    }
}
