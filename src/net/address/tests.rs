//! Which address is picked from which network. The networks are the kernel's words; real ones are in
//! `tests/container/addresses`.

use super::network::AddressFlaw;
use super::*;

fn on(interface: &str, address: &str) -> Address {
    Address {
        interface: interface.to_owned(),
        label: None,
        address: address.parse().expect("an address"),
        running: true,
        loopback: interface == "lo",
        route: None,
        source: false,
        flaw: None,
        interface_place: 0,
        place: 0,
    }
}

/// In the kernel's order.
fn network(addresses: &[Address]) -> Vec<Address> {
    let mut interfaces: Vec<String> = Vec::new();
    let placed = addresses.iter().enumerate().map(|(place, address)| {
        if !interfaces.contains(&address.interface) {
            interfaces.push(address.interface.clone());
        }
        let interface_place = interfaces.iter().position(|i| *i == address.interface).expect("just added") as u32;
        Address { place: place as u64, interface_place, ..address.clone() }
    });
    placed.collect()
}

fn routed(interface: &str, address: &str, metric: u32) -> Address {
    Address { route: Some(metric), ..on(interface, address) }
}

fn flawed(flaw: AddressFlaw, address: Address) -> Address {
    Address { flaw: Some(flaw), ..address }
}

fn down(address: Address) -> Address {
    Address { running: false, ..address }
}

fn labelled(label: &str, address: Address) -> Address {
    Address { label: Some(label.to_owned()), ..address }
}

/// The address that is advertised, and why.
fn chosen(network: &[Address], texts: &[&str]) -> (String, String) {
    let found = select(&specs(texts), network).expect("a match");
    (found.address.to_string(), found.why)
}

fn says(address: &str, why: &str) -> (String, String) {
    (address.to_owned(), why.to_owned())
}

fn container() -> Vec<Address> {
    network(&[
        on("lo", "127.0.0.1"),
        on("lo", "::1"),
        on("eth0", "10.2.0.100"),
        on("eth0", "10.2.0.9"),
        on("eth0", "2001:db8::5"),
        on("eth0", "fe80::1"),
        on("eth1", "192.168.1.9"),
        on("br-lan", "172.17.0.2"),
        on("eth0.100", "10.9.9.9"),
    ])
}

fn specs(texts: &[&str]) -> Vec<AddressSpec> {
    texts.iter().map(|text| text.parse().expect("a spec")).collect()
}

fn first_of(network: &[Address], spec: &str) -> Option<String> {
    select(&specs(&[spec]), network).ok().map(|found| found.address.to_string())
}

fn first(spec: &str) -> Option<String> {
    first_of(&container(), spec)
}

#[test]
fn of_several_with_a_default_route_the_kernels_own_choice_counts_unless_something_speaks_against_it() {
    let sent_from = |address: Address| Address { source: true, ..address };
    // Equal metrics, a route of another table with a lower one, and two networks on one interface.
    for (other, source) in [
        (routed("ens3", "10.0.0.7", 100), routed("ens4", "10.0.1.7", 100)),
        (routed("ens3", "10.0.0.7", 50), routed("ens4", "10.0.1.7", 100)),
        (routed("ens3", "192.168.1.5", 100), routed("ens3", "10.0.1.7", 100)),
    ] {
        let network = network(&[other, sent_from(source)]);
        assert_eq!(chosen(&network, &["inet"]).0, "10.0.1.7");
    }
    let virtual_one = sent_from(flawed(AddressFlaw::Secondary, routed("ens3", "10.0.0.9", 100)));
    let network = network(&[routed("ens3", "10.0.0.7", 100), virtual_one]);
    assert_eq!(chosen(&network, &["inet"]).0, "10.0.0.7");
    assert_eq!(chosen(&network, &["ens3"]).0, "10.0.0.7");
}

#[test]
fn an_interface_gives_the_address_the_kernel_lists_first() {
    assert_eq!(first("eth0").as_deref(), Some("10.2.0.100"));
}

#[test]
fn an_interface_gives_no_link_local_address_for_inet6() {
    assert_eq!(first("eth0:inet6").as_deref(), Some("2001:db8::5"));
}

#[test]
fn interfaces_with_dots_and_dashes_are_found() {
    assert_eq!(first("br-lan").as_deref(), Some("172.17.0.2"));
    assert_eq!(first("eth0.100").as_deref(), Some("10.9.9.9"));
}

#[test]
fn an_index_counts_ipv4_before_ipv6_and_link_local_last() {
    assert_eq!(first("eth0[0]").as_deref(), Some("10.2.0.100"));
    assert_eq!(first("eth0[1]").as_deref(), Some("10.2.0.9"));
    assert_eq!(first("eth0[2]").as_deref(), Some("2001:db8::5"));
    assert_eq!(first("eth0[3]").as_deref(), Some("fe80::1"));
    assert_eq!(first("eth0[4]"), None);
}

#[test]
fn any_address_of_a_family_is_never_loopback() {
    assert_eq!(first("inet").as_deref(), Some("10.2.0.100"));
    assert_eq!(first("inet6").as_deref(), Some("2001:db8::5"));
}

#[test]
fn any_address_is_on_the_interface_of_the_default_route_with_the_least_metric() {
    let host = network(&[
        on("docker0", "172.17.0.1"),
        routed("wlan0", "10.0.0.8", 600),
        routed("ens3", "10.20.0.5", 100),
        on("br-4f1d2c3b4a59", "172.18.0.1"),
    ]);
    let found = select(&specs(&["eth0", "inet"]), &host).unwrap();
    assert_eq!(
        (found.address.to_string().as_str(), found.why.as_str()),
        ("10.20.0.5", "on ens3, which has the default route")
    );
}

#[test]
fn without_a_default_route_an_interface_without_a_carrier_comes_after_the_others() {
    let host = network(&[down(on("docker0", "172.17.0.1")), on("ens3", "10.20.0.5")]);
    let found = select(&specs(&["inet"]), &host).unwrap();
    assert_eq!(
        (found.address.to_string().as_str(), found.why.as_str()),
        ("10.20.0.5", "on ens3; there is no default route")
    );
}

#[test]
fn an_address_with_nothing_against_it_comes_before_all_others_of_its_interface() {
    for flaw in [
        AddressFlaw::Alone,
        AddressFlaw::Secondary,
        AddressFlaw::Deprecated,
        AddressFlaw::LinkLocal,
        AddressFlaw::Tentative,
    ] {
        let host = network(&[flawed(flaw, routed("ens3", "10.0.0.1", 0)), routed("ens3", "10.20.0.5", 0)]);
        for spec in ["inet", "ens3", "ens3[0]", "10.0.0.0/8"] {
            assert_eq!(first_of(&host, spec).as_deref(), Some("10.20.0.5"), "{flaw} {spec}");
        }
        let why = select(&specs(&["inet"]), &host).unwrap().why;
        assert_eq!(why, format!("on ens3, which has the default route; 10.0.0.1 is {flaw}"));
    }
}

#[test]
fn what_others_hardly_reach_is_passed_over_for_what_a_later_spec_matches() {
    let default = ["eth0", "inet", "inet6"];
    let out = || routed("ens4", "10.20.0.5", 0);
    for (eth0, what) in [
        (down(on("eth0", "10.9.9.9")), "10.9.9.9 on eth0 is down"),
        (down(flawed(AddressFlaw::Alone, on("eth0", "10.9.9.9"))), "10.9.9.9 on eth0 is down"),
        (flawed(AddressFlaw::LinkLocal, on("eth0", "169.254.7.7")), "169.254.7.7 on eth0 is link-local"),
    ] {
        let host = network(&[eth0, out()]);
        let why = format!("on ens4, which has the default route; {what}");
        assert_eq!(chosen(&host, &default), ("10.20.0.5".to_owned(), why));
    }
    let only_docker = network(&[down(on("docker0", "172.17.0.1")), on("eth0", "2001:db8::5")]);
    let why = "on eth0; there is no default route; 172.17.0.1 on docker0 is down";
    assert_eq!(chosen(&only_docker, &default), says("2001:db8::5", why));
    let tentative = network(&[flawed(AddressFlaw::Tentative, on("eth0", "2001:db8::5")), out()]);
    assert_eq!(chosen(&tentative, &["eth0:inet6", "static:192.0.2.7"]), says("192.0.2.7", "as configured"));
    // What is merely secondary, deprecated or alone is there to stay.
    let alone = network(&[flawed(AddressFlaw::Alone, on("eth0", "10.9.9.9")), out()]);
    assert_eq!(chosen(&alone, &default).0, "10.9.9.9");
}

#[test]
fn what_others_hardly_reach_is_taken_where_there_is_nothing_else() {
    let default = ["eth0", "inet", "inet6"];
    let lonely = network(&[down(on("eth0", "10.9.9.9")), flawed(AddressFlaw::LinkLocal, on("eth1", "169.254.7.7"))]);
    assert_eq!(chosen(&lonely, &default), says("10.9.9.9", "on eth0, by `eth0:inet`; it is down"));
    // A cable that is out for a second makes no bridge of Docker's the host's address.
    let cut = network(&[on("docker0", "172.17.0.1"), down(routed("ens3", "10.20.0.5", 0))]);
    let why = "on ens3, which has the default route; it is down";
    assert_eq!(chosen(&cut, &default), says("10.20.0.5", why));
    let two = network(&[down(routed("ens3", "10.20.0.5", 100)), routed("wlan0", "10.0.0.8", 600)]);
    assert_eq!(chosen(&two, &default).0, "10.0.0.8");
}

#[test]
fn a_cable_that_is_out_makes_no_address_the_hosts_that_has_no_default_route() {
    let default = ["eth0", "inet", "inet6"];
    let bridge = || [on("docker0", "172.17.0.1"), on("docker0", "fd00:d0cc::1")];
    let with = |others: &[Address]| network(&[others, &bridge()].concat());
    for interface in ["eth0", "ens3"] {
        let host = with(&[down(routed(interface, "10.20.0.5", 0))]);
        assert_eq!(chosen(&host, &default).0, "10.20.0.5", "{interface}");
        // Whose IPv6 has a way out is reached by that.
        let host = with(&[down(routed(interface, "10.20.0.5", 0)), routed("wlan0", "2001:db8::5", 600)]);
        assert_eq!(chosen(&host, &default).0, "2001:db8::5", "{interface}");
    }
    // What is out by either family is advertised as before it was.
    let host = with(&[down(on("eth0", "10.9.9.9")), down(routed("ens3", "10.20.0.5", 0)), on("wlan0", "2001:db8::9")]);
    assert_eq!(chosen(&host, &default).0, "10.20.0.5");
    // The config's own word counts.
    let host = with(&[down(routed("ens3", "10.20.0.5", 0)), on("ens4", "10.30.0.5")]);
    for spec in ["ens4", "10.30.0.0/16", "static:10.30.0.5"] {
        assert_eq!(chosen(&host, &["ens3", spec]).0, "10.30.0.5", "{spec}");
    }
    // Without a default route anywhere, what is up is all that there is to go by.
    let host = with(&[down(on("eth0", "10.20.0.5"))]);
    assert_eq!(chosen(&host, &["eth0", "inet6"]).0, "fd00:d0cc::1");
}

#[test]
fn of_both_families_the_one_that_leads_out_is_taken_before_a_bridge() {
    let default = ["eth0", "inet", "inet6"];
    let bridge = || on("docker0", "172.17.0.1");
    let host = network(&[bridge(), routed("ens3", "2001:db8::5", 1024)]);
    assert_eq!(chosen(&host, &default), says("2001:db8::5", "on ens3, which has the default route"));
    // A network whose router speaks IPv6 alone, of its own accord.
    let host = network(&[bridge(), on("ens3", "10.20.0.5"), routed("ens3", "2001:db8::5", 1024)]);
    assert_eq!(chosen(&host, &default).0, "10.20.0.5");
}

#[test]
fn a_link_local_address_is_taken_when_its_network_is_asked_for() {
    let host = network(&[flawed(AddressFlaw::LinkLocal, on("eth1", "169.254.7.7")), on("eth0", "10.2.0.9")]);
    assert_eq!(chosen(&host, &["169.254.0.0/16", "eth0"]).0, "169.254.7.7");
    assert_eq!(chosen(&host, &["inet"]).0, "10.2.0.9", "though it comes later");
}

#[test]
fn an_interface_is_known_by_its_name_and_by_the_labels_of_its_addresses() {
    let host = network(&[
        on("docker0", "172.17.0.1"),
        labelled("bo0:0", routed("bo0", "192.168.8.5", 0)),
        on("eth1", "10.1.0.5"),
        labelled("eth1:vip", flawed(AddressFlaw::Secondary, on("eth1", "10.1.0.9"))),
    ]);
    for (spec, address) in [
        ("bo0", "192.168.8.5"),
        ("bo0:0", "192.168.8.5"),
        ("inet", "192.168.8.5"),
        ("eth1", "10.1.0.5"),
        ("eth1:vip", "10.1.0.9"),
    ] {
        assert_eq!(first_of(&host, spec).as_deref(), Some(address), "{spec}");
    }
    let error = select(&specs(&["eth7"]), &host).expect_err("no eth7").to_string();
    assert!(error.contains("bo0:0 192.168.8.5, eth1 10.1.0.5, eth1:vip 10.1.0.9"), "{error}");
}

#[test]
fn without_a_default_route_the_address_that_the_kernel_speaks_from_comes_first() {
    let speaks_bgp = network(&[
        on("lo", "127.0.0.1"),
        Address { source: true, ..flawed(AddressFlaw::Alone, on("lo", "10.0.0.5")) },
        on("docker0", "172.17.0.1"),
    ]);
    let why = "on lo; the kernel sends from it; it is alone in its network";
    assert_eq!(chosen(&speaks_bgp, &["eth0", "inet"]), says("10.0.0.5", why));
}

#[test]
fn an_address_alone_in_its_network_is_taken_where_there_is_no_other() {
    let cloud = network(&[flawed(AddressFlaw::Alone, routed("ens4", "10.128.0.2", 0)), on("docker0", "172.17.0.1")]);
    let found = select(&specs(&["inet"]), &cloud).unwrap();
    assert_eq!(found.address.to_string(), "10.128.0.2");
    assert!(found.why.ends_with("; it is alone in its network"), "{}", found.why);
}

#[test]
fn an_address_on_a_loopback_interface_is_the_last_resort() {
    let behind_a_balancer = network(&[on("lo", "10.0.0.1"), on("eth0", "10.20.0.5")]);
    assert_eq!(first_of(&behind_a_balancer, "inet").as_deref(), Some("10.20.0.5"));
    let speaks_bgp = network(&[on("lo", "127.0.0.1"), on("lo", "10.0.0.1"), on("eth0", "fe80::1")]);
    assert_eq!(first_of(&speaks_bgp, "inet").as_deref(), Some("10.0.0.1"));
}

#[test]
fn a_network_gives_the_first_address_inside_it() {
    assert_eq!(first("192.168.0.0/16").as_deref(), Some("192.168.1.9"));
    assert_eq!(first("10.2.0.0/26").as_deref(), Some("10.2.0.9"));
    assert_eq!(first("2001:db8::/32").as_deref(), Some("2001:db8::5"));
    assert_eq!(first("10.3.0.0/16"), None);
    assert_eq!(first("0.0.0.0/0").as_deref(), Some("10.2.0.100"));
}

#[test]
fn the_first_spec_that_matches_wins_and_says_so() {
    let mut network = container();
    network[7].route = Some(0);
    let found = select(&specs(&["eth7", "eth1", "inet"]), &network).expect("a match");
    assert_eq!(found.address.to_string(), "192.168.1.9");
    assert_eq!(found.why, "on eth1, by `eth1:inet`; the default route is on br-lan");
}

#[test]
fn a_static_address_needs_no_interface() {
    let found = advertised(&specs(&["static:192.0.2.7"])).expect("static");
    assert_eq!((found.address.to_string().as_str(), found.why.as_str()), ("192.0.2.7", "as configured"));
    assert_eq!(select(&specs(&["eth7", "static:192.0.2.7"]), &[]).expect("static"), found);
    assert_eq!(by_route(&specs(&["eth7", "static:192.0.2.7"])), Some(found));
}

#[test]
fn an_error_lists_what_there_is() {
    let error = select(&specs(&["eth7"]), &container()).expect_err("no eth7").to_string();
    assert!(error.starts_with("eth7:inet matches none of lo 127.0.0.1, lo ::1, eth0 10.2.0.100"), "{error}");
}

#[test]
fn a_container_without_a_network_is_told_so() {
    let lonely = network(&[on("lo", "127.0.0.1"), on("lo", "::1")]);
    let error = select(&specs(&["inet"]), &lonely).expect_err("only loopback").to_string();
    assert!(error.contains("no network but loopback; inet can't match"), "{error}");
}

#[test]
fn loopback_is_advertised_when_it_is_asked_for_by_name() {
    assert_eq!(first("lo").as_deref(), Some("127.0.0.1"));
}

#[test]
fn the_kernel_lists_this_machines_loopback() {
    let found = advertised(&specs(&["127.0.0.0/8"])).expect("loopback is up here");
    assert!(found.address.is_loopback());
}
