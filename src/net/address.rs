//! Which of the container's addresses is advertised, and why: interface specs against what the kernel says of its
//! network. Names are matched, never ranked: where a spec leaves a choice, the default route, the flags and the order
//! of the kernel decide. It looks up no names.

mod flags;
mod network;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;

use crate::config::{AddressSpec, Family};
use network::{Address, addresses, source};

/// The address to advertise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The address.
    pub address: IpAddr,
    /// Why it and no other, in one phrase.
    pub why: String,
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

/// The address to advertise now: the first spec that matches wins, but one that matches nothing others reach.
///
/// # Errors
/// The interfaces can't be listed, or none of their addresses matches.
pub fn advertised(specs: &[AddressSpec]) -> Result<Chosen, AddressError> {
    // An address given as such needs no interfaces, and works where they can't be listed.
    if let [AddressSpec::Static(address), ..] = specs {
        return Ok(fixed(*address));
    }
    match addresses() {
        Ok(all) => select(specs, &all),
        Err(source) => by_route(specs).ok_or(AddressError::List { source }),
    }
}

fn fixed(address: IpAddr) -> Chosen {
    Chosen { address, why: "as configured".to_owned() }
}

/// Where the interfaces can't be listed: the address the kernel would speak from to a host far away. Nothing is sent.
fn by_route(specs: &[AddressSpec]) -> Option<Chosen> {
    specs.iter().find_map(|spec| {
        let family = match spec {
            AddressSpec::Any(family) => *family,
            AddressSpec::Static(address) => return Some(fixed(*address)),
            AddressSpec::Interface { .. } | AddressSpec::Indexed { .. } | AddressSpec::Network { .. } => return None,
        };
        let address = source(family).filter(|address| is(*address, family))?;
        Some(Chosen { address, why: "the default route's; the interfaces can't be listed".to_owned() })
    })
}

/// The first spec that matches an address nothing speaks loudly against; if none does, the first that matches.
///
/// What has the default route is where others reach this host, and most often out for a moment only (a cable, a switch that
/// restarts): another is taken for it if it has a default route too, or is named by the config, and not any that is just there.
///
/// An IPv6 link-local address means nothing without the interface it is on, so it is advertised only when its network
/// or index is asked for by itself.
fn select(specs: &[AddressSpec], all: &[Address]) -> Result<Chosen, AddressError> {
    let picked: Vec<_> = specs.iter().map(|spec| (spec, pick(spec, all))).collect();
    let some_leads_out = picked.iter().any(|(_, found)| found.is_some_and(has_way_out));
    // Whatever else this spec matches is just there.
    let is_missed = |spec: &AddressSpec| matches!(spec, AddressSpec::Any(_)) && some_leads_out;
    let mut passed: Vec<(&AddressSpec, &Address)> = Vec::new();
    let found = picked.iter().find_map(|&(spec, found)| match (spec, found) {
        (AddressSpec::Static(address), _) => Some(fixed(*address)),
        (_, None) => None,
        (_, Some(found)) if trouble(spec, found).is_none() && (leads_out(found, all) || !is_missed(spec)) => {
            Some(Chosen {
                address: found.address,
                why: why(spec, found, passed.first().map(|(_, passed)| *passed), all),
            })
        }
        (_, Some(found)) => {
            passed.push((spec, found));
            None
        }
    });
    let any = || {
        let (spec, found) = passed.iter().find(|(_, passed)| has_way_out(passed)).or(passed.first())?;
        Some(Chosen { address: found.address, why: why(spec, found, None, all) })
    };
    let found = found.or_else(any);
    found.ok_or_else(|| {
        let wanted = list(specs.iter());
        if all.iter().all(|a| a.address.is_loopback()) {
            AddressError::OnlyLoopback { wanted }
        } else {
            AddressError::NoMatch { wanted, there: list(all.iter()) }
        }
    })
}

/// What speaks loudly against an address. Who asks for a link-local network wants what is in it.
fn trouble(spec: &AddressSpec, found: &Address) -> Option<&'static str> {
    let asked = matches!(spec, AddressSpec::Network { address: IpAddr::V4(network), .. } if network.is_link_local());
    found.trouble().filter(|_| !found.running || !asked)
}

/// Whether the interface is one that leads out, be it by the other family.
fn leads_out(found: &Address, all: &[Address]) -> bool {
    all.iter().any(|a| a.interface == found.interface && has_way_out(a))
}

fn has_way_out(address: &Address) -> bool {
    address.route.is_some() || address.source
}

fn pick<'a>(spec: &AddressSpec, all: &'a [Address]) -> Option<&'a Address> {
    match spec {
        AddressSpec::Interface { name, family } => all
            .iter()
            .filter(|a| a.is_on(name) && is(a.address, *family) && !is_link_local_v6(a.address))
            .min_by_key(|a| on_its_interface(a)),
        AddressSpec::Indexed { name, index } => {
            let mut of_it: Vec<&Address> = all.iter().filter(|a| a.is_on(name)).collect();
            of_it.sort_by_key(|a| (a.address.is_ipv6(), is_link_local_v6(a.address), on_its_interface(a)));
            of_it.get(*index).copied()
        }
        AddressSpec::Any(family) => all
            .iter()
            .filter(|a| is(a.address, *family) && !a.address.is_loopback() && !is_link_local_v6(a.address))
            .min_by_key(|a| anywhere(a, all)),
        AddressSpec::Network { address, prefix } => {
            all.iter().filter(|a| within(a.address, *address, *prefix)).min_by_key(|a| anywhere(a, all))
        }
        AddressSpec::Static(_) => None,
    }
}

/// The order of an interface's addresses of one family: what speaks against one counts first, so that one that comes
/// and goes (a virtual address) doesn't take the place of one that stays.
fn on_its_interface(address: &Address) -> impl Ord + use<> {
    (address.flaw, !address.source, address.place)
}

/// The order of all addresses of one family: where the default route goes out, then what others reach, in the kernel's
/// order. What is on a loopback interface is there for a load balancer's sake (direct server return), or, on a host
/// that speaks BGP, because there is nothing else; the kernel sends from it then.
fn anywhere(address: &Address, all: &[Address]) -> impl Ord + use<> {
    let is_only_source = address.source && address.route.is_none();
    // Of several default routes the kernel knows which one it takes: other tables' and rules' are among them.
    let is_taken = address.source && address.flaw.is_none();
    let routed = (address.route.is_none(), address.trouble().is_some(), !is_taken, address.route);
    // Addresses follow each other interface by interface, so the kernel's order holds across them.
    let place = (!leads_out(address, all), address.interface_place, on_its_interface(address));
    (!is_only_source, address.loopback, routed, place)
}

/// Why it was picked, and not what an earlier spec matches.
fn why(spec: &AddressSpec, found: &Address, passed: Option<&Address>, all: &[Address]) -> String {
    let alike = || all.iter().filter(|a| a.address.is_ipv4() == found.address.is_ipv4());
    let routed = alike().filter(|a| a.route.is_some()).min_by_key(|a| a.route);
    let on = &found.interface;
    let mut why = match (spec, routed) {
        (AddressSpec::Any(_), Some(_)) if found.route.is_some() => format!("on {on}, which has the default route"),
        (AddressSpec::Any(_), _) if found.source => format!("on {on}; the kernel sends from it"),
        (AddressSpec::Any(_), _) => format!("on {on}; there is no default route"),
        (_, Some(other)) if found.route.is_none() => {
            format!("on {on}, by `{spec}`; the default route is on {}", other.interface)
        }
        (_, _) => format!("on {on}, by `{spec}`"),
    };
    if !found.running {
        why += "; it is down";
    } else if let Some(flaw) = found.flaw {
        why += &format!("; it is {flaw}");
    }
    let flawed = alike().filter(|a| a.interface == *on && a.flaw > found.flaw && !is_link_local_v6(a.address));
    if let Some((passed, flaw)) = flawed.filter_map(|a| Some((a.address, a.flaw?))).next() {
        why += &format!("; {passed} is {flaw}");
    }
    // Of its own interface and family that has been said.
    let passed = passed.filter(|a| a.interface != *on || a.address.is_ipv4() != found.address.is_ipv4());
    if let Some((passed, trouble)) = passed.and_then(|a| Some((a, a.trouble()?))) {
        why += &format!("; {} on {} is {trouble}", passed.address, passed.interface);
    }
    why
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

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.label.as_ref().unwrap_or(&self.interface), self.address)
    }
}

#[cfg(test)]
mod tests;
