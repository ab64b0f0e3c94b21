//! What the kernel says of this container's network: each address with its interface, whether the default route goes
//! out there, and what speaks against it. It chooses nothing.
//!
//! getifaddrs(3) lists the addresses in the kernel's own order. What it leaves out comes from elsewhere, and is only
//! missing where it can't be had (a sandbox without netlink, no /proc): the flags of an address from
//! [`flags`], the default routes from /proc/net.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, UdpSocket};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};

use super::flags::{self, Flags};
use crate::config::Family;

/// Of a table of routes; a router's may be longer than anybody wants to read at each heartbeat.
const ROUTES_AT_MOST: u64 = 1 << 20;
/// `RTF_UP` and `RTF_REJECT` of net/route.h.
const ROUTE_IS_UP: u32 = 0x1;
const ROUTE_REJECTS: u32 = 0x200;

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface's name.
    pub interface: String,
    /// What it is called besides, on its interface (`eth0:1`; ip-address(8)).
    pub label: Option<String>,
    /// The address.
    pub address: IpAddr,
    /// Whether the interface is up and has a carrier.
    pub running: bool,
    /// Whether it is a loopback interface, whatever the address.
    pub loopback: bool,
    /// The metric of the default route of the address's family that goes out of the interface, if one does.
    pub route: Option<u32>,
    /// Whether the kernel sends from it to hosts far away: of those that have the default route, or of all where none has.
    pub source: bool,
    /// What speaks against it.
    pub flaw: Option<AddressFlaw>,
    /// The interface's place among the others: the kernel's order.
    pub interface_place: u32,
    /// Its place among those of its interface and family: the kernel's order, oldest first.
    pub place: u64,
}

/// What speaks against an address; what comes later speaks louder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressFlaw {
    /// Its network is itself alone, as one that wanders from host to host is configured.
    Alone,
    /// It was added to a network that the interface had an address in; or it is temporary (RFC 8981).
    Secondary,
    /// Not for new connections any more (RFC 4862, 5.5.4).
    Deprecated,
    /// Chosen by the host itself where nobody gave it one (RFC 3927).
    LinkLocal,
    /// Perhaps somebody else's too, or surely (RFC 4862, 5.4).
    Tentative,
}

impl Address {
    /// Whether it is on the interface of this name, or has the label.
    pub fn is_on(&self, name: &str) -> bool {
        self.interface == name || self.label.as_deref() == Some(name)
    }

    /// Why others hardly reach it now, so that any other is better.
    pub fn trouble(&self) -> Option<&'static str> {
        match self.flaw {
            _ if !self.running => Some("down"),
            Some(flaw @ (AddressFlaw::LinkLocal | AddressFlaw::Tentative)) => Some(flaw.name()),
            Some(AddressFlaw::Alone | AddressFlaw::Secondary | AddressFlaw::Deprecated) | None => None,
        }
    }
}

impl AddressFlaw {
    fn name(self) -> &'static str {
        match self {
            AddressFlaw::Alone => "alone in its network",
            AddressFlaw::Secondary => "secondary",
            AddressFlaw::Deprecated => "deprecated",
            AddressFlaw::LinkLocal => "link-local",
            AddressFlaw::Tentative => "tentative",
        }
    }
}

impl fmt::Display for AddressFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Every address of every interface, in the kernel's order.
///
/// # Errors
/// The kernel doesn't list them.
pub fn addresses() -> Result<Vec<Address>, Errno> {
    let known = flags::of_addresses().unwrap_or_default();
    let (v4, v6) = (routes("route", default_v4), routes("ipv6_route", default_v6));
    let mut indexes: HashMap<String, u32> = HashMap::new();
    let mut found = Vec::new();
    for (place, entry) in getifaddrs()?.enumerate() {
        let Some(address) = entry.address.as_ref().and_then(ip) else { continue };
        let (name, label) = interface(entry.interface_name);
        let index = *indexes.entry(name.clone()).or_insert_with(|| if_nametoindex(name.as_str()).unwrap_or(0));
        let told = known.get(&(index, address)).copied();
        let alone = entry.netmask.as_ref().and_then(ip).is_some_and(|mask| match mask {
            IpAddr::V4(mask) => mask.to_bits() == u32::MAX,
            IpAddr::V6(mask) => mask.to_bits() == u128::MAX,
        });
        // Within IPv4 the kernel lists primary addresses first, each kind by age; within IPv6 the newest first.
        let age = told.filter(|_| address.is_ipv6()).map_or(0, |told| u64::from(told.created));
        found.push(Address {
            running: entry.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING),
            loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
            route: if address.is_ipv4() { v4.get(&name) } else { v6.get(&name) }.copied(),
            source: false,
            flaw: flaw(address, alone, told),
            place: age << 16 | place as u64 & 0xffff,
            interface_place: index,
            interface: name,
            label,
            address,
        });
    }
    for family in [Family::V4, Family::V6] {
        let is_of_it = |a: &Address| a.address.is_ipv6() == matches!(family, Family::V6);
        let is_routed = found.iter().any(|a| is_of_it(a) && a.route.is_some());
        let Some(source) = source(family).filter(|_| is_routed || matches!(family, Family::V4)) else { continue };
        // Of one interface's addresses of IPv6 the kernel takes the newest, and one that wanders from host to host is that.
        let interface = found.iter().find(|a| a.address == source).map(|a| a.interface.clone());
        let is_it = |a: &Address| match family {
            Family::V4 => a.address == source,
            Family::V6 => is_of_it(a) && Some(&a.interface) == interface.as_ref(),
        };
        // A network laid over the default route (a VPN's two halves) isn't where others are.
        let sends = |a: &&mut Address| is_it(a) && (a.route.is_some() || !is_routed);
        found.iter_mut().filter(sends).for_each(|a| a.source = true);
    }
    Ok(found)
}

/// The interface that an address is on, and its label. For IPv4 getifaddrs(3) tells the label in the interface's place;
/// they are the same unless somebody gave it one of its own.
fn interface(label: String) -> (String, Option<String>) {
    match label.split_once(':') {
        Some((name, _)) if if_nametoindex(name).is_ok() => (name.to_owned(), Some(label)),
        _ => (label, None),
    }
}

/// The address that the kernel would speak from to a host far away. Nothing is sent.
pub fn source(family: Family) -> Option<IpAddr> {
    let (from, far) = match family {
        Family::V4 => ("0.0.0.0:0", "192.0.2.1:9"),
        Family::V6 => ("[::]:0", "[2001:db8::1]:9"),
    };
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(far).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

fn ip(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
        (None, None) => None,
    }
}

fn flaw(address: IpAddr, alone: bool, told: Option<Flags>) -> Option<AddressFlaw> {
    let told = told.unwrap_or_default();
    if told.tentative {
        Some(AddressFlaw::Tentative)
    } else if matches!(address, IpAddr::V4(v4) if v4.is_link_local()) {
        Some(AddressFlaw::LinkLocal)
    } else if told.deprecated {
        Some(AddressFlaw::Deprecated)
    } else if told.secondary {
        Some(AddressFlaw::Secondary)
    } else {
        alone.then_some(AddressFlaw::Alone)
    }
}

/// The interfaces that a default route goes out of, with the least metric of each. The files are those of the thread's
/// network namespace.
fn routes(file: &str, read: fn(&str) -> Option<(&str, u32)>) -> HashMap<String, u32> {
    let table = text(&format!("/proc/thread-self/net/{file}")).or_else(|_| text(&format!("/proc/net/{file}")));
    let mut found = HashMap::new();
    for (interface, metric) in table.unwrap_or_default().lines().filter_map(read) {
        let least = found.entry(interface.to_owned()).or_insert(metric);
        *least = metric.min(*least);
    }
    found
}

fn text(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(ROUTES_AT_MOST).read_to_string(&mut text)?;
    Ok(text)
}

/// A default route of /proc/net/route: interface and metric.
fn default_v4(line: &str) -> Option<(&str, u32)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [interface, destination, _, flags, _, _, metric, mask, ..] = fields[..] else { return None };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let leads_out = destination == "00000000" && mask == "00000000" && is_open(flags);
    leads_out.then_some((interface, metric.parse().ok()?))
}

/// A default route of /proc/net/ipv6_route.
fn default_v6(line: &str) -> Option<(&str, u32)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [destination, length, source, _, _, metric, _, _, flags, interface] = fields[..] else { return None };
    let everything = |address: &str| address.bytes().all(|digit| digit == b'0');
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let leads_out = length == "00" && everything(destination) && everything(source) && is_open(flags);
    leads_out.then_some((interface, u32::from_str_radix(metric, 16).ok()?))
}

fn is_open(flags: u32) -> bool {
    flags & ROUTE_IS_UP != 0 && flags & ROUTE_REJECTS == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_is_told_from_others() {
        let header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
        assert_eq!(default_v4(header), None);
        assert_eq!(default_v4("ens3\t00000000\t0100140A\t0003\t0\t0\t100\t00000000\t0\t0\t0"), Some(("ens3", 100)));
        assert_eq!(default_v4("ens3\t0000140A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"), None);
        // What a VPN lays over the default route: half of all addresses.
        assert_eq!(default_v4("tun0\t00000000\t0100080A\t0003\t0\t0\t0\t00000080\t0\t0\t0"), None);
        assert_eq!(default_v4("*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0"), None);
        let zeros = "0".repeat(32);
        let v6 = |length: &str, flags: &str| format!("{zeros} {length} {zeros} 00 fe80 00000400 1 0 {flags} eth0");
        assert_eq!(default_v6(&v6("00", "00000003")), Some(("eth0", 1024)));
        assert_eq!(default_v6(&v6("40", "00000003")), None);
        // The entry that stands for no route at all.
        assert_eq!(default_v6(&v6("00", "00200200")), None);
    }

    #[test]
    fn what_speaks_loudest_against_an_address_is_named() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let told = |tentative, deprecated, secondary| Some(Flags { tentative, deprecated, secondary, created: 0 });
        assert_eq!(flaw(ip("10.0.0.1"), false, None), None);
        assert_eq!(flaw(ip("10.0.0.1"), true, None), Some(AddressFlaw::Alone));
        assert_eq!(flaw(ip("10.0.0.1"), true, told(false, false, true)), Some(AddressFlaw::Secondary));
        assert_eq!(flaw(ip("fd00::1"), true, told(false, true, true)), Some(AddressFlaw::Deprecated));
        assert_eq!(flaw(ip("169.254.7.7"), false, None), Some(AddressFlaw::LinkLocal));
        assert_eq!(flaw(ip("fd00::1"), false, told(true, true, true)), Some(AddressFlaw::Tentative));
    }

    #[test]
    fn a_label_is_no_interface() {
        let split = |label: &str| interface(label.to_owned());
        assert_eq!(split("lo"), ("lo".to_owned(), None));
        assert_eq!(split("lo:1:2"), ("lo".to_owned(), Some("lo:1:2".to_owned())));
        assert_eq!(split("nosuch0:1"), ("nosuch0:1".to_owned(), None));
    }

    #[test]
    fn the_kernel_lists_this_machines_loopback() {
        let found = addresses().expect("a kernel that tells its interfaces");
        assert!(found.iter().any(|a| a.address.is_loopback() && a.loopback), "{found:?}");
    }
}
