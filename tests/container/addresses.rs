//! Networks as containers and hosts have them, each in a namespace of its own, and which of its addresses is advertised
//! there, and why, as `pilotfish check` says it.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::process::Command;

use crate::support::namespace::pilotfish;

/// The link both ends of which are here has a carrier, so its addresses are usable.
const ETH0: &str = "ip link add eth0 type veth peer name far0; ip link set eth0 up; ip link set far0 up;";
const ETH1: &str = "ip link add eth1 type veth peer name far1; ip link set eth1 up; ip link set far1 up;";
const ENS3: &str = "ip link add ens3 type veth peer name far3; ip link set ens3 up; ip link set far3 up;";
/// What Docker adds to a host: a bridge by itself, one with a container, and one for a compose project.
const DOCKER: &str = "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up;
    ip link add veth1 type veth peer name c1; ip link set veth1 master docker0; ip link set veth1 up; ip link set c1 up;
    ip link add br-4f1d2c3b4a59 type bridge; ip addr add 172.18.0.1/16 dev br-4f1d2c3b4a59; ip link set br-4f1d2c3b4a59 up;";

/// Telemetry that listens at an interface's address is found there alone, follows it to another, and waits for it.
#[test]
fn telemetry_listens_at_the_address_that_an_interface_has() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("c.toml");
    let text =
        "[process]\nexec = [\"sleep\", \"1000\"]\n[telemetry]\nlisten = \"eth1:9090\"\n[control]\nsocket = \"\"\n";
    fs::write(&config, text).unwrap();
    let script = format!(
        "PATH=$PATH:/usr/sbin:/sbin; set -e; ip link set lo up; {ETH0} {ETH1} ip addr add 10.0.1.7/24 dev eth0
         ask() {{ \"$0\" probe --timeout 1s http://$1:9090/livez 2>/dev/null; }}
         until_there() {{ for _ in $(seq 300); do ask $1 && return; sleep 0.1; done; echo nothing at $1; exit 1; }}
         not_there() {{ ! ask $1 || exit 1; }}
         \"$0\" -c \"$1\" 2>\"$1.log\" & agent=$!
         until grep -q 'matches none of' \"$1.log\"; do sleep 0.1; done
         ip addr add 10.0.2.7/24 dev eth1; until_there 10.0.2.7; not_there 10.0.1.7; not_there 127.0.0.1
         ip addr del 10.0.2.7/24 dev eth1; ip addr add 10.0.2.8/24 dev eth1; until_there 10.0.2.8
         ip addr add 10.0.2.7/24 dev eth1; not_there 10.0.2.7
         kill $agent; wait $agent || [ $? = 143 ]"
    );
    let mut shell = Command::new("unshare");
    shell.args(["--net", "sh", "-c", &script]).arg(pilotfish()).arg(&config);
    let output = shell.output().unwrap();
    let log = fs::read_to_string(config.with_extension("toml.log")).unwrap_or_default();
    assert!(output.status.success(), "{output:?}\n{log}");
}

/// Runs commands, then `check`, in a network namespace; what check says of the service's address.
fn advertised(network: &str, address: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("c.toml");
    let spec = if address.is_empty() { String::new() } else { format!("address = {address}\n") };
    let text = format!(
        "[process]\nexec = [\"true\"]\n[[service]]\nname = \"web\"\nid = \"web\"\nport = 80\n{spec}[catalog]\n\
         backend = \"local\"\ndirectory = \"/nowhere\"\n[control]\nsocket = \"\"\n"
    );
    fs::write(&config, text).unwrap();
    let script = format!("PATH=$PATH:/usr/sbin:/sbin; set -e; ip link set lo up; {network}\nexec \"$0\" check \"$1\"");
    let mut shell = Command::new("unshare");
    shell.args(["--net", "sh", "-c", &script]).arg(pilotfish()).arg(&config);
    let output = shell.output().unwrap();
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{network}: {said}{errors}");
    let line = said.lines().find(|line| line.starts_with("web ")).unwrap_or_else(|| panic!("{said}{errors}"));
    line.trim_start_matches("web is advertised at ").to_owned()
}

fn check(rows: &[(&str, String, &str, &str)]) {
    for (what, network, address, expected) in rows {
        assert_eq!(advertised(network, address), *expected, "{what}");
    }
}

#[test]
fn each_kind_of_network_has_the_address_others_reach_advertised() {
    check(&[
        (
            "a container on a bridge",
            format!("{ETH0} ip addr add 172.17.0.9/16 dev eth0; ip route add default via 172.17.0.1"),
            "",
            "172.17.0.9: on eth0, by `eth0:inet`",
        ),
        (
            "a host with Docker's bridges and a virtual address that is numerically lower",
            format!(
                "{DOCKER} {ENS3} ip addr add 10.20.0.5/24 dev ens3; ip addr add 10.20.0.1/32 dev ens3;
                 ip route add default via 10.20.0.254"
            ),
            "",
            "10.20.0.5: on ens3, which has the default route; 10.20.0.1 is alone in its network",
        ),
        (
            "the same with a virtual address in the host's own network",
            format!(
                "{DOCKER} {ENS3} ip addr add 10.20.0.5/24 dev ens3; ip addr add 10.20.0.1/24 dev ens3;
                 ip route add default via 10.20.0.254"
            ),
            r#"["ens3"]"#,
            "10.20.0.5: on ens3, by `ens3:inet`; 10.20.0.1 is secondary",
        ),
        (
            "a host that holds its balancer's address on lo",
            format!(
                "{ENS3} ip addr add 10.20.0.1/32 dev lo; ip addr add 10.20.0.5/24 dev ens3;
                 ip route add default via 10.20.0.254"
            ),
            "",
            "10.20.0.5: on ens3, which has the default route",
        ),
        (
            "a container on two networks, of which the second leads out",
            format!(
                "{ETH0} {ETH1} ip addr add 10.0.1.7/24 dev eth0; ip addr add 172.18.0.3/16 dev eth1;
                 ip route add default via 172.18.0.1"
            ),
            "",
            "10.0.1.7: on eth0, by `eth0:inet`; the default route is on eth1",
        ),
        (
            "the same, where who leads out was asked for",
            format!(
                "{ETH0} {ETH1} ip addr add 10.0.1.7/24 dev eth0; ip addr add 172.18.0.3/16 dev eth1;
                 ip route add default via 172.18.0.1"
            ),
            r#"["inet"]"#,
            "172.18.0.3: on eth1, which has the default route",
        ),
        (
            "two ways out: the one with the lesser metric",
            format!(
                "{ETH0} {ETH1} ip addr add 10.0.1.7/24 dev eth0; ip addr add 172.18.0.3/16 dev eth1;
                 ip route add default via 10.0.1.1 metric 600; ip route add default via 172.18.0.1 metric 100"
            ),
            r#"["inet"]"#,
            "172.18.0.3: on eth1, which has the default route",
        ),
        (
            "a network that leads nowhere",
            format!("{ENS3} ip addr add 10.9.0.2/24 dev ens3"),
            "",
            "10.9.0.2: on ens3; there is no default route",
        ),
        (
            "a cloud's host, whose only address is alone in its network",
            format!(
                "{DOCKER} {ENS3} ip addr add 10.128.0.2/32 dev ens3; ip route add 10.128.0.1 dev ens3;
                 ip route add default via 10.128.0.1"
            ),
            "",
            "10.128.0.2: on ens3, which has the default route; it is alone in its network",
        ),
        (
            "macvlan",
            format!(
                "{ENS3} ip link add link ens3 name eth0 type macvlan mode bridge; ip link set eth0 up;
                 ip addr add 192.168.7.20/24 dev eth0; ip route add default via 192.168.7.1"
            ),
            r#"["inet"]"#,
            "192.168.7.20: on eth0, which has the default route",
        ),
    ]);
}

#[test]
fn an_address_that_nobody_reaches_is_passed_over() {
    let ens3 = format!("{ENS3} ip addr add 10.20.0.5/24 dev ens3; ip route add default via 10.20.0.254;");
    let passed = |what: &str| format!("10.20.0.5: on ens3, which has the default route; {what}");
    let (down, local) = (passed("10.9.9.9 on eth0 is down"), passed("169.254.7.7 on eth0 is link-local"));
    check(&[
        (
            "eth0 is switched off",
            format!("{ens3} {ETH0} ip addr add 10.9.9.9/24 dev eth0; ip link set eth0 down"),
            "",
            &down,
        ),
        (
            "eth0 has no carrier",
            format!("{ens3} {ETH0} ip addr add 10.9.9.9/24 dev eth0; ip link set far0 down"),
            "",
            &down,
        ),
        (
            "eth0 has the address it gave itself",
            format!("{ens3} {ETH0} ip addr add 169.254.7.7/16 dev eth0"),
            "",
            &local,
        ),
        (
            "there is no other",
            format!("{ETH0} ip addr add 10.9.9.9/24 dev eth0; ip link set eth0 down"),
            "",
            "10.9.9.9: on eth0, by `eth0:inet`; it is down",
        ),
    ]);
}

#[test]
fn a_label_and_a_route_by_an_ipv6_hop_hide_no_address() {
    let labelled = format!(
        "{DOCKER} {ENS3} ip addr add 192.168.8.5/24 dev ens3 label ens3:0; ip route add default via 192.168.8.1"
    );
    let unnumbered = format!(
        "{DOCKER} {ENS3} ip addr add 10.0.0.5/32 dev lo; ip route add default src 10.0.0.5 via inet6 fe80::1 dev ens3"
    );
    check(&[
        (
            "the only address of the interface that leads out has a label",
            labelled.clone(),
            "",
            "192.168.8.5: on ens3, which has the default route",
        ),
        ("the interface's name", labelled.clone(), r#"["ens3"]"#, "192.168.8.5: on ens3, by `ens3:inet`"),
        ("the label", labelled, r#"["ens3:0"]"#, "192.168.8.5: on ens3, by `ens3:0:inet`"),
        (
            "a host that speaks BGP, with no IPv4 but on lo and Docker's bridges",
            unnumbered,
            "",
            "10.0.0.5: on lo; the kernel sends from it; it is alone in its network",
        ),
    ]);
}

#[test]
fn a_network_of_ipv6_alone_has_the_address_the_kernel_prefers_advertised() {
    let quick = "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad;";
    check(&[
        (
            "IPv6 alone, with an address that is being given up",
            format!(
                "{ETH0} {quick} ip addr add 2001:db8::9/64 dev eth0 nodad;
                 ip addr add 2001:db8::5/64 dev eth0 nodad preferred_lft 0; ip -6 route add default via 2001:db8::1"
            ),
            "",
            "2001:db8::9: on eth0, which has the default route; 2001:db8::5 is deprecated",
        ),
        (
            "a virtual address that came later",
            format!(
                "{ETH0} {quick} ip addr add 2001:db8::9/64 dev eth0 nodad; sleep 0.1;
                 ip addr add 2001:db8::1:5/64 dev eth0 nodad; ip -6 route add default via 2001:db8::1"
            ),
            r#"["eth0:inet6"]"#,
            "2001:db8::9: on eth0, by `eth0:inet6`",
        ),
        (
            "both families: IPv4 first",
            format!(
                "{ETH0} {quick} ip addr add 2001:db8::9/64 dev eth0 nodad; ip addr add 10.0.0.7/24 dev eth0;
                 ip -6 route add default via 2001:db8::1"
            ),
            "",
            "10.0.0.7: on eth0, by `eth0:inet`",
        ),
        (
            "an address that somebody else has: it is not the first",
            format!(
                "{ETH0} {ETH1} echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad;
                 echo 30 >/proc/sys/net/ipv6/conf/eth0/dad_transmits;
                 ip addr add 2001:db8::2/64 dev eth0; ip addr add 2001:db8::9/64 dev eth0 nodad"
            ),
            r#"["eth0:inet6"]"#,
            "2001:db8::9: on eth0, by `eth0:inet6`; 2001:db8::2 is tentative",
        ),
    ]);
}

#[test]
fn where_there_is_nothing_but_loopback_check_says_so_and_what_to_write() {
    assert_eq!(
        advertised("", ""),
        "web has no address to advertise here: this container has no network but loopback; eth0:inet, inet, inet6 \
         can't match (set address = [\"static:IP\"])"
    );
    assert_eq!(advertised("", r#"["static:192.0.2.7"]"#), "192.0.2.7: as configured");
}
