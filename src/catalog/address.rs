//! Which of the container's addresses is advertised: interface specs against what getifaddrs(3) lists. It looks up no
//! names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;

use crate::config::{AddressSpec, Family};

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    /// The interface's name.
    pub name: String,
    /// One of its addresses.
    pub address: IpAddr,
}

/// Why no address can be advertised.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The kernel doesn't tell its interfaces.
    #[error("can't list the network interfaces")]
    List {
        /// Why.
        #[source]
        source: Errno,
    },
    /// There is no network.
    #[error("this container has no network but loopback; {wanted} can't match (set address = [\"static:IP\"])")]
    OnlyLoopback {
        /// The specs.
        wanted: String,
    },
    /// There are addresses, but none is wanted.
    #[error("{wanted} matches none of {there}")]
    NoMatch {
        /// The specs.
        wanted: String,
        /// What there is instead.
        there: String,
    },
}

/// The address to advertise now: the first spec that matches wins.
///
/// # Errors
/// The interfaces can't be listed, or none of their addresses matches.
pub fn advertised(specs: &[AddressSpec]) -> Result<IpAddr, AddressError> {
    // An address given as such needs no interfaces, and works where they can't be listed.
    if let [AddressSpec::Static(address), ..] = specs {
        return Ok(*address);
    }
    select(specs, interfaces().map_err(|source| AddressError::List { source })?)
}

/// Every address of every interface, in no order.
fn interfaces() -> Result<Vec<Interface>, Errno> {
    let found = getifaddrs()?.filter_map(|entry| {
        let address = entry.address?;
        let address = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) => IpAddr::V6(v6.ip()),
            (None, None) => return None,
        };
        Some(Interface { name: entry.interface_name, address })
    });
    Ok(found.collect())
}

/// The first spec that matches, over the interfaces sorted by name, then address bytes, IPv4 before IPv6.
///
/// An IPv6 link-local address means nothing without the interface it is on, so it is advertised only when its network
/// or index is asked for by itself.
fn select(specs: &[AddressSpec], mut interfaces: Vec<Interface>) -> Result<IpAddr, AddressError> {
    interfaces.sort();
    let found = specs.iter().find_map(|spec| pick(spec, &interfaces));
    found.ok_or_else(|| {
        let wanted = list(specs.iter());
        if interfaces.iter().all(|i| i.address.is_loopback()) {
            AddressError::OnlyLoopback { wanted }
        } else {
            AddressError::NoMatch { wanted, there: list(interfaces.iter()) }
        }
    })
}

fn pick(spec: &AddressSpec, interfaces: &[Interface]) -> Option<IpAddr> {
    let mut all = interfaces.iter();
    match spec {
        AddressSpec::Interface { name, family } => {
            all.find(|i| i.name == *name && is(i.address, *family) && !is_link_local_v6(i.address)).map(|i| i.address)
        }
        AddressSpec::Indexed { name, index } => all.filter(|i| i.name == *name).nth(*index).map(|i| i.address),
        AddressSpec::Any(family) => {
            all.map(|i| i.address).find(|a| is(*a, *family) && !a.is_loopback() && !is_link_local_v6(*a))
        }
        AddressSpec::Network { address, prefix } => all.map(|i| i.address).find(|a| within(*a, *address, *prefix)),
        AddressSpec::Static(address) => Some(*address),
    }
}

fn is(address: IpAddr, family: Family) -> bool {
    matches!((address, family), (IpAddr::V4(_), Family::V4) | (IpAddr::V6(_), Family::V6))
}

fn is_link_local_v6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Whether the first `prefix` bits are the same.
fn within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let differ = Ipv4Addr::to_bits(a) ^ Ipv4Addr::to_bits(n);
            differ.leading_zeros() >= u32::from(prefix.min(32))
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let differ = Ipv6Addr::to_bits(a) ^ Ipv6Addr::to_bits(n);
            differ.leading_zeros() >= u32::from(prefix.min(128))
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// No more than a screenful: a host's network namespace can hold a thousand interfaces.
fn list<T: fmt::Display>(items: impl ExactSizeIterator<Item = T>) -> String {
    const MOST: usize = 20;
    let (total, mut shown) = (items.len(), items.take(MOST).map(|i| i.to_string()).collect::<Vec<_>>());
    if total == 0 {
        return "no spec".to_owned();
    }
    if total > MOST {
        shown.push(format!("and {} more", total - MOST));
    }
    shown.join(", ")
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(name: &str, address: &str) -> Interface {
        Interface { name: name.to_owned(), address: address.parse().expect("an address") }
    }

    fn container() -> Vec<Interface> {
        vec![
            on("lo", "127.0.0.1"),
            on("lo", "::1"),
            on("eth1", "192.168.1.9"),
            on("eth0", "fe80::1"),
            on("eth0", "2001:db8::5"),
            on("eth0", "10.2.0.100"),
            on("eth0", "10.2.0.9"),
            on("br-lan", "172.17.0.2"),
            on("eth0.100", "10.9.9.9"),
        ]
    }

    fn first(spec: AddressSpec) -> Option<String> {
        select(&[spec], container()).ok().map(|a| a.to_string())
    }

    fn interface(name: &str, family: Family) -> AddressSpec {
        AddressSpec::Interface { name: name.to_owned(), family }
    }

    fn network(address: &str, prefix: u8) -> AddressSpec {
        AddressSpec::Network { address: address.parse().expect("an address"), prefix }
    }

    #[test]
    fn an_interface_gives_its_least_address_by_bytes() {
        assert_eq!(first(interface("eth0", Family::V4)).as_deref(), Some("10.2.0.9"));
    }

    #[test]
    fn an_interface_gives_no_link_local_address_for_inet6() {
        assert_eq!(first(interface("eth0", Family::V6)).as_deref(), Some("2001:db8::5"));
    }

    #[test]
    fn interfaces_with_dots_and_dashes_are_found() {
        assert_eq!(first(interface("br-lan", Family::V4)).as_deref(), Some("172.17.0.2"));
        assert_eq!(first(interface("eth0.100", Family::V4)).as_deref(), Some("10.9.9.9"));
    }

    #[test]
    fn an_index_counts_over_all_sorted_addresses_of_the_interface() {
        let indexed = |index| first(AddressSpec::Indexed { name: "eth0".to_owned(), index });
        assert_eq!(indexed(0).as_deref(), Some("10.2.0.9"));
        assert_eq!(indexed(1).as_deref(), Some("10.2.0.100"));
        assert_eq!(indexed(2).as_deref(), Some("2001:db8::5"));
        assert_eq!(indexed(3).as_deref(), Some("fe80::1"));
        assert_eq!(indexed(4), None);
    }

    #[test]
    fn any_address_of_a_family_is_never_loopback() {
        assert_eq!(first(AddressSpec::Any(Family::V4)).as_deref(), Some("172.17.0.2"));
        assert_eq!(first(AddressSpec::Any(Family::V6)).as_deref(), Some("2001:db8::5"));
    }

    #[test]
    fn a_network_gives_the_first_address_inside_it() {
        assert_eq!(first(network("192.168.0.0", 16)).as_deref(), Some("192.168.1.9"));
        assert_eq!(first(network("10.2.0.64", 26)).as_deref(), Some("10.2.0.100"));
        assert_eq!(first(network("2001:db8::", 32)).as_deref(), Some("2001:db8::5"));
        assert_eq!(first(network("10.3.0.0", 16)), None);
        assert_eq!(first(network("0.0.0.0", 0)).as_deref(), Some("172.17.0.2"));
    }

    #[test]
    fn the_first_spec_that_matches_wins() {
        let specs = [interface("eth7", Family::V4), interface("eth1", Family::V4), AddressSpec::Any(Family::V4)];
        assert_eq!(select(&specs, container()).expect("a match").to_string(), "192.168.1.9");
    }

    #[test]
    fn a_static_address_needs_no_interface() {
        let address: IpAddr = "192.0.2.7".parse().expect("an address");
        assert_eq!(advertised(&[AddressSpec::Static(address)]).expect("static"), address);
        let later = [interface("eth7", Family::V4), AddressSpec::Static(address)];
        assert_eq!(select(&later, vec![]).expect("static"), address);
    }

    #[test]
    fn an_error_lists_what_there_is() {
        let error = select(&[interface("eth7", Family::V4)], container()).expect_err("no eth7").to_string();
        assert!(error.starts_with("eth7:inet matches none of br-lan 172.17.0.2, eth0 10.2.0.9"), "{error}");
    }

    #[test]
    fn a_container_without_a_network_is_told_so() {
        let lonely = vec![on("lo", "127.0.0.1"), on("lo", "::1")];
        let error = select(&[AddressSpec::Any(Family::V4)], lonely).expect_err("only loopback").to_string();
        assert!(error.contains("no network but loopback; inet can't match"), "{error}");
    }

    #[test]
    fn loopback_is_advertised_when_it_is_asked_for_by_name() {
        assert_eq!(first(interface("lo", Family::V4)).as_deref(), Some("127.0.0.1"));
    }

    #[test]
    fn the_kernel_lists_this_machines_loopback() {
        let found = advertised(&[network("127.0.0.0", 8)]).expect("loopback is up here");
        assert!(found.is_loopback());
    }
}
