//! What befalls an example's containers. Each kind is over when `strike` returns, or a restart policy takes it from there.

use std::thread::sleep;
use std::time::Duration;

use super::fleet::Fleet;
use crate::support::compose::docker;

/// A kind of misfortune.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    /// Returns whom it hit.
    strike: fn(&Fleet, &mut Deck) -> String,
}

const SECOND: Duration = Duration::from_secs(1);

const KINDS: &[Kind] = &[
    Kind { name: "killed", strike: |fleet, _| on_leader(fleet, |fleet, leader| fleet.kill(leader)) },
    Kind {
        name: "killed-30s",
        strike: |fleet, _| on_leader(fleet, |fleet, leader| fleet.away(&[leader], 30 * SECOND)),
    },
    Kind {
        name: "stopped",
        strike: |fleet, _| {
            on_leader(fleet, |fleet, leader| {
                docker(&["stop", &fleet.container(leader)]);
                sleep(5 * SECOND);
                docker(&["start", &fleet.container(leader)]);
            })
        },
    },
    Kind {
        name: "restarted",
        strike: |fleet, _| on_leader(fleet, |fleet, leader| drop(docker(&["restart", &fleet.container(leader)]))),
    },
    Kind { name: "main-killed", strike: |fleet, _| on_leader(fleet, |fleet, leader| fleet.kill_main(leader)) },
    Kind {
        name: "paused",
        strike: |fleet, _| {
            on_leader(fleet, |fleet, leader| {
                docker(&["pause", &fleet.container(leader)]);
                sleep(25 * SECOND);
                docker(&["unpause", &fleet.container(leader)]);
            })
        },
    },
    Kind {
        name: "cut-off",
        strike: |fleet, _| {
            on_leader(fleet, |fleet, leader| {
                fleet.disconnect(leader);
                sleep(30 * SECOND);
                fleet.connect(leader);
            })
        },
    },
    Kind {
        name: "deaf",
        strike: |fleet, _| {
            on_leader(fleet, |fleet, leader| {
                let pid = fleet.pid(leader);
                fleet.nft(pid, "add table inet cut; add chain inet cut in { type filter hook input priority 0; }; add rule inet cut in iif != lo drop");
                sleep(30 * SECOND);
                // Its container may have ended, and with it the rule.
                fleet.nft(pid, "delete table inet cut");
            })
        },
    },
    Kind {
        name: "no-store",
        // It leads on until its lease ends, and its replicas hear it: what they have now isn't all it will acknowledge.
        strike: |fleet, _| {
            on_leader(fleet, |fleet, leader| {
                let pid = fleet.pid(leader);
                let store = fleet.address(fleet.store());
                fleet.nft(pid, &format!("add table inet cut; add chain inet cut out {{ type filter hook output priority 0; }}; add rule inet cut out ip daddr {store} drop"));
                sleep(30 * SECOND);
                fleet.nft(pid, "delete table inet cut");
            })
        },
    },
    Kind {
        name: "replica-killed",
        strike: |fleet, deck| {
            let leader = fleet.leader();
            let replicas: Vec<&str> = fleet.servers().filter(|server| **server != leader).collect();
            let victim = replicas[deck.below(replicas.len())];
            fleet.kill(victim);
            victim.to_owned()
        },
    },
    Kind { name: "wiped", strike: |fleet, _| on_leader(fleet, |fleet, leader| fleet.wipe(leader)) },
    Kind {
        name: "two-killed",
        strike: |fleet, deck| {
            let leader = fleet.leader();
            let other = fleet.servers().filter(|server| **server != leader).nth(deck.below(2)).expect("three servers");
            fleet.away(&[&leader, other], 15 * SECOND);
            format!("{leader}+{other}")
        },
    },
    Kind {
        name: "all-killed",
        strike: |fleet, deck| {
            let mut order: Vec<&str> = fleet.servers().collect();
            fleet.kill_for_good(&order);
            deck.shuffle(&mut order);
            for server in &order {
                sleep(5 * SECOND);
                docker(&["start", &fleet.container(server)]);
            }
            order.join("+")
        },
    },
    Kind {
        name: "stale-alone",
        // A replica that missed the last writes comes back first, and the others don't.
        strike: |fleet, deck| {
            let leader = fleet.leader();
            let stale = fleet.servers().filter(|server| **server != leader).nth(deck.below(2)).expect("three servers");
            fleet.kill_for_good(&[stale]);
            sleep(5 * SECOND);
            let others: Vec<&str> = fleet.servers().filter(|server| **server != *stale).collect();
            fleet.kill_for_good(&others);
            docker(&["start", &fleet.container(stale)]);
            for _ in 0..30 {
                sleep(SECOND);
                let leads = fleet.example.keeper.promises() && !fleet.primaries().is_empty();
                assert!(!leads, "a stale replica leads alone");
            }
            for other in &others {
                docker(&["start", &fleet.container(other)]);
            }
            stale.to_owned()
        },
    },
    Kind {
        name: "store-killed",
        strike: |fleet, _| {
            fleet.kill(fleet.store());
            fleet.store().to_owned()
        },
    },
    Kind {
        name: "store-away",
        strike: |fleet, _| {
            let store = fleet.container(fleet.store());
            docker(&["pause", &store]);
            sleep(60 * SECOND);
            docker(&["unpause", &store]);
            fleet.store().to_owned()
        },
    },
    Kind { name: "step-down", strike: |fleet, _| on_leader(fleet, |fleet, leader| fleet.step_down(leader, None)) },
    Kind {
        name: "switchover",
        strike: |fleet, deck| {
            let leader = fleet.leader();
            let to = fleet.servers().filter(|server| **server != leader).nth(deck.below(2)).expect("three servers");
            fleet.step_down(&leader, Some(to));
            format!("{leader}>{to}")
        },
    },
    Kind {
        name: "upgrade",
        strike: |fleet, _| {
            for server in fleet.servers() {
                fleet.recreate(server);
                fleet.becomes_whole(super::heals_within());
            }
            "all".to_owned()
        },
    },
];

/// The leader gets it, and a moment to notice.
fn on_leader(fleet: &Fleet, what: impl FnOnce(&Fleet, &str)) -> String {
    let leader = fleet.leader();
    what(fleet, &leader);
    sleep(SECOND);
    leader
}

impl Kind {
    pub fn named(name: &str) -> Option<Kind> {
        KINDS.iter().copied().find(|kind| kind.name == name)
    }

    /// Those that an example must stand.
    pub fn all(remembers: bool) -> Vec<Kind> {
        let needs_memory = ["two-killed", "all-killed", "stale-alone"];
        KINDS.iter().copied().filter(|kind| remembers || !needs_memory.contains(&kind.name)).collect()
    }

    pub fn strike(&self, fleet: &Fleet, deck: &mut Deck) -> String {
        (self.strike)(fleet, deck)
    }
}

/// Deals each kind once, shuffled, before any of them again.
pub struct Deck {
    kinds: Vec<Kind>,
    left: Vec<Kind>,
    state: u64,
}

impl Deck {
    pub fn new(kinds: &[Kind], seed: u64) -> Deck {
        Deck { kinds: kinds.to_vec(), left: Vec::new(), state: seed }
    }

    pub fn deal(&mut self) -> Kind {
        if self.left.is_empty() {
            let mut all = self.kinds.clone();
            self.shuffle(&mut all);
            self.left = all;
        }
        self.left.pop().expect("there are kinds")
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a small number");
        usize::try_from(self.next() % bound).expect("smaller still")
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
