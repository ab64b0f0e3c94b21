//! The same on a network that is really cut: three servers and the agent on hosts of their own (tests/support/netlab.rs).

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Cluster, LONGEST, OWN, Proof, TTL};
use crate::support::namespace::within;
use crate::support::netlab;
use crate::support::servers::{ConsulCluster, EtcdCluster};

const SERVERS: [&str; 3] = ["s0", "s1", "s2"];
const AGENT: &str = "a0";

/// Longer than the ttl, so that what isn't renewed goes.
const CUT: Duration = Duration::from_secs(10);

/// A cluster whose network can be cut.
struct Cut<C> {
    cluster: C,
    // Goes last.
    net: netlab::Lab,
}

/// What a cluster says of each entry, as one of its members has it.
trait Member {
    fn entries_at(&self, index: usize) -> Option<Vec<bool>>;
}

impl Member for ConsulCluster {
    fn entries_at(&self, index: usize) -> Option<Vec<bool>> {
        super::entries_at(self, index)
    }
}

impl Member for EtcdCluster {
    fn entries_at(&self, index: usize) -> Option<Vec<bool>> {
        let prefix = "pilotfish/services/web/";
        let list = ["--command-timeout=1s", "get", "--consistency=s", "--prefix", "--print-value-only", prefix];
        super::passing(&self.ctl(index, &list).ok()?)
    }
}

impl<C: Cluster + Member> Cluster for Cut<C> {
    /// What two of three say: one that is cut off may believe what was.
    fn entries(&self) -> Option<Vec<bool>> {
        let said: Vec<_> = (0..3).map(|index| self.cluster.entries_at(index)).collect();
        let agreed = |what: &Option<Vec<bool>>| said.iter().filter(|other| *other == what).count() > 1;
        said.iter().find(|what| what.is_some() && agreed(what)).cloned()?
    }

    fn down(&mut self, index: usize) {
        self.cluster.down(index);
    }

    fn spawn(&mut self, index: usize) {
        self.cluster.spawn(index);
    }

    fn wait_ready(&self, index: usize) {
        self.cluster.wait_ready(index);
    }

    fn wipe(&mut self, index: usize) {
        self.cluster.wipe(index);
    }

    fn signal(&self, index: usize, signal: Signal) {
        self.cluster.signal(index, signal);
    }

    fn leader(&self) -> usize {
        self.cluster.leader()
    }

    fn delete_entry(&self) {
        self.cluster.delete_entry();
    }

    fn revoke_lease(&self) -> bool {
        self.cluster.revoke_lease()
    }
}

/// What one host sends to each server, or each server to it.
fn each(from: Option<&'static str>, to: Option<&'static str>) -> Vec<(&'static str, &'static str)> {
    SERVERS.iter().map(|server| (from.unwrap_or(server), to.unwrap_or(server))).collect()
}

impl<C: Cluster + Member> Proof<Cut<C>> {
    /// A cut that the cluster and the agent get over; counted from its beginning.
    fn cut(&mut self, fault: &str, how: impl FnOnce(&netlab::Lab)) {
        self.blow(fault, |cluster| how(&cluster.net));
        self.cluster.net.heal();
        self.rest(&[]);
    }

    /// A cut that nobody gets over; counted from its end.
    fn cut_for_a_while(&mut self, fault: &str, how: impl FnOnce(&netlab::Lab)) {
        self.outage(fault, |cluster| how(&cluster.net), |cluster| cluster.net.heal());
        self.rest(&[]);
    }

    fn cuts_of_the_agent(&mut self) {
        self.cut_for_a_while("the agent's host is cut off", |net| net.isolate(&[AGENT]));
        self.cut_for_a_while("what the agent sends is lost", |net| net.one_way(&each(Some(AGENT), None)));
        self.cut_for_a_while("what is sent to the agent is lost", |net| net.one_way(&each(None, Some(AGENT))));
        self.cut("a third of what the agent sends and gets is lost", |net| net.loss(AGENT, 33));
    }

    fn cut_of_the_leader(&mut self) {
        self.own_does_not_lead();
        let leader = SERVERS[self.cluster.leader()];
        self.cut("the leader is cut off", |net| net.isolate(&[leader]));
    }
}

#[test]
#[ignore = "takes minutes: make faults"]
fn consul_on_a_network_that_is_cut() {
    let net = netlab::Lab::new(&[&SERVERS[..], &[AGENT]].concat());
    let cluster = ConsulCluster::start_in(&net, &SERVERS);
    let catalog = format!("backend = \"consul\"\naddress = \"http://{}\"\n", cluster.http[OWN]);
    println!("\nConsul 1.8, three servers on three hosts, the agent on a fourth, with one of them, ttl {TTL:?}");
    let network = net.namespace(AGENT);
    let mut proof = Proof::start_in(Cut { cluster, net }, &catalog, Some(&network), CUT);
    Proof::<ConsulCluster>::head();
    proof.cuts_of_the_agent();
    proof.cut_for_a_while("its own server is cut off from everyone", |net| net.isolate(&[SERVERS[OWN]]));
    let others = [(SERVERS[OWN], "s1"), (SERVERS[OWN], "s2")];
    proof.cut_for_a_while("its own server is cut off from the others", |net| net.cut(&others));
    proof.cut_of_the_leader();
    proof.never_ended();
}

#[test]
#[ignore = "takes minutes: make faults"]
fn etcd_on_a_network_that_is_cut() {
    let net = netlab::Lab::new(&[&SERVERS[..], &[AGENT]].concat());
    let cluster = EtcdCluster::start_in("etcd35", &net, &SERVERS);
    let members: Vec<String> = cluster.clients.iter().map(|at| format!("\"http://{at}\"")).collect();
    println!("\netcd 3.5, three members on three hosts, the agent on a fourth, ttl {TTL:?}");
    let catalog = format!("backend = \"etcd\"\nendpoints = [{}]\n", members.join(", "));
    let network = net.namespace(AGENT);
    let mut proof = Proof::start_in(Cut { cluster, net }, &catalog, Some(&network), CUT);
    Proof::<EtcdCluster>::head();
    proof.cuts_of_the_agent();
    let own = asked(&proof.cluster.net);
    proof.cut("the member it talks to is cut off from everyone", |net| net.isolate(&[own]));
    let own = asked(&proof.cluster.net);
    let others: Vec<(&str, &str)> =
        SERVERS.iter().filter(|server| **server != own).map(|server| (own, *server)).collect();
    proof.cut("the member it talks to is cut off from the others", |net| net.cut(&others));
    proof.cut_of_the_leader();
    proof.never_ended();
}

/// The member that the agent has a connection to.
fn asked(net: &netlab::Lab) -> &'static str {
    let connection = || {
        let ss = net.command(AGENT, "ss").args(["-Htn", "state", "established", "dport", "=", ":2379"]).output();
        let told = String::from_utf8(ss.expect("ss can be run").stdout).expect("text");
        SERVERS.into_iter().find(|server| told.contains(&format!("{}:", net.ip(server))))
    };
    within(LONGEST, "a connection of the agent", connection).unwrap()
}
