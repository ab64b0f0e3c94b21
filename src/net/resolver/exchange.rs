//! One question to one name server: over UDP, over TCP when that was truncated. The messages' form is
//! simple-dns's; which answer may be believed is decided here.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::files::ResolvConf;

/// Addresses, none when there is no such name or none of this kind; or why nobody could say.
pub type Addresses = Result<Vec<IpAddr>, String>;

/// Which addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

/// Without EDNS no UDP answer is longer than 512 bytes (RFC 1035 §4.2.1); some servers don't know.
const UDP_BYTES: usize = 4096;
/// Over TCP: a thousand addresses. Each record may have a name of a hundred parts, which takes time.
const TCP_BYTES: u16 = 16 * 1024;
/// An alias of an alias of an alias: longer chains are loops.
pub const LONGEST_CHAIN: usize = 16;

/// Asks a server, which has as long as the config says.
pub async fn ask(name: &Name<'_>, kind: Kind, server: SocketAddr, conf: &ResolvConf) -> Addresses {
    match timeout(conf.timeout, ask_one(name, kind, server, conf.tcp)).await {
        Ok(Ok(Some(addresses))) => Ok(addresses),
        Ok(Ok(None)) => Err(format!("{server} can't say")),
        Ok(Err(error)) => Err(format!("{server}: {error}")),
        Err(_) => Err(format!("{server} doesn't answer")),
    }
}

/// `None` when the server answered that it can't.
async fn ask_one(name: &Name<'_>, kind: Kind, server: SocketAddr, tcp: bool) -> io::Result<Option<Vec<IpAddr>>> {
    // An id nobody can guess, from the kernel's getrandom(2) by way of std: it needs no /dev.
    let id = RandomState::new().build_hasher().finish() as u16;
    let qtype = QTYPE::TYPE(if kind == Kind::A { TYPE::A } else { TYPE::AAAA });
    let mut query = Packet::new_query(id);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    query.questions.push(Question::new(name.clone(), qtype, QCLASS::CLASS(CLASS::IN), false));
    let bytes = query.build_bytes_vec().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let believable = |message: &Packet<'_>| {
        message.id() == id
            && message.has_flags(PacketFlag::RESPONSE)
            && matches!(&message.questions[..], [q] if q.qname == *name && q.qtype == qtype)
    };

    if !tcp {
        let here: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((here, 0)).await?;
        socket.connect(server).await?;
        socket.send(&bytes).await?;
        let mut buffer = vec![0; UDP_BYTES];
        loop {
            let length = socket.recv(&mut buffer).await?;
            match Packet::parse(&buffer[..length]) {
                Ok(message) if !believable(&message) => {}
                Ok(message) if message.has_flags(PacketFlag::TRUNCATION) => break,
                Ok(message) => return Ok(addresses(&message, name, kind)),
                // A truncated message may end inside a record; the header says whether it is ours.
                Err(_) if length > 3 && buffer[..2] == id.to_be_bytes() && buffer[2] & 0x82 == 0x82 => break,
                Err(_) => {}
            }
        }
    }

    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), &bytes[..]].concat()).await?;
    let length = stream.read_u16().await?;
    if length > TCP_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("its answer is longer than {TCP_BYTES} bytes"),
        ));
    }
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    match Packet::parse(&buffer) {
        Ok(message) if believable(&message) => Ok(addresses(&message, name, kind)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "its answer makes no sense")),
    }
}

/// The addresses a message has for a name; `None` when the server says it can't answer.
pub fn addresses(message: &Packet<'_>, name: &Name<'_>, kind: Kind) -> Option<Vec<IpAddr>> {
    match message.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Some(Vec::new()),
        _ => return None,
    }
    let mut name = name;
    for _ in 0..LONGEST_CHAIN {
        let records = || message.answers.iter().filter(|record| record.class == CLASS::IN && record.name == *name);
        let found: Vec<IpAddr> = records()
            .filter_map(|record| match (&record.rdata, kind) {
                (RData::A(a), Kind::A) => Some(Ipv4Addr::from(a.address).into()),
                (RData::AAAA(aaaa), Kind::Aaaa) => Some(Ipv6Addr::from(aaaa.address).into()),
                _ => None,
            })
            .collect();
        let alias =
            records().find_map(|record| if let RData::CNAME(alias) = &record.rdata { Some(&alias.0) } else { None });
        match alias {
            Some(alias) if found.is_empty() => name = alias,
            _ => return Some(found),
        }
    }
    Some(Vec::new())
}
