//! What must never happen, each by a name that a failing run prints.

use super::world::World;

/// Promises that orders broke on the way to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Broken(u16);

impl Broken {
    pub const UNGUARDED: Broken = Broken(1);
    pub const TERM_DID_NOT_GROW: Broken = Broken(1 << 1);
    pub const TOLD_TOO_LATE: Broken = Broken(1 << 2);
    pub const LED_ON_AFTER_LOSS: Broken = Broken(1 << 3);
    pub const SILENCE_WAS_LOSS: Broken = Broken(1 << 4);
    pub const ASKED_BEFORE_READING_BACK: Broken = Broken(1 << 5);
    pub const SESSION_USED_WHILE_UNSURE: Broken = Broken(1 << 6);
    pub const SESSION_SERVED_TWICE: Broken = Broken(1 << 7);
    pub const LEFT_TO_THE_GUARD: Broken = Broken(1 << 8);
    pub const DEADLINE_TAKEN_BACK: Broken = Broken(1 << 9);
    pub const LET_THE_LEASE_GO: Broken = Broken(1 << 10);
    pub const TOO_SHORT: Broken = Broken(1 << 11);
    pub const STOOD_FOR_TOO_LITTLE: Broken = Broken(1 << 12);

    pub const LED_UNFIT: Broken = Broken(1 << 13);
    pub const LOST_IN_ERROR: Broken = Broken(1 << 14);
    pub const LACKED_A_WRITE: Broken = Broken(1 << 15);

    pub fn bit(bit: u16) -> Broken {
        Broken(1 << bit)
    }

    pub fn set(&mut self, other: Broken) {
        self.0 |= other.0;
    }

    pub fn has(self, other: Broken) -> bool {
        self.0 & other.0 != 0
    }
}

pub const NEVER_TWO: &str = "never two acting leaders";
pub const TERMS_GROW: &str = "terms only grow";
pub const GUARDED: &str = "nobody acts unguarded";
pub const TOLD_IN_TIME: &str = "who must go is told in time to go in peace";
pub const LOSS_ENDS: &str = "who knows that it lost the lock leads no more";
pub const SILENCE: &str = "a store that fails to answer takes nothing away";
pub const READ_BACK: &str = "an acquire of unknown outcome is read back before another";
pub const ABANDONED: &str = "a session with an acquire under way is not used again";
pub const ONE_TERM: &str = "a session serves one term";
pub const OWN_KILL: &str = "an agent that isn't paused leaves nothing to its guard";
pub const NOT_TAKEN_BACK: &str = "a deadline that has passed stays passed";
pub const RENEWED: &str = "a lease is renewed while its leader goes in peace";
pub const TWO_LOST: &str = "two lost requests cost no leadership";
pub const ENOUGH: &str = "nobody stands for a lock it couldn't hold long enough";
pub const STANDS: &str = "nobody who is unhealthy becomes leader";
pub const NEEDLESS: &str = "nobody takes a lock for lost that is its own";
pub const HAS_ALL: &str = "who leads has every acknowledged write";
pub const EMERGES: &str = "once all is well a leader emerges, and everybody knows it";

/// The promises that orders keep or break.
pub const OF_ORDERS: [(&str, Broken); 16] = [
    (GUARDED, Broken::UNGUARDED),
    (TERMS_GROW, Broken::TERM_DID_NOT_GROW),
    (TOLD_IN_TIME, Broken::TOLD_TOO_LATE),
    (LOSS_ENDS, Broken::LED_ON_AFTER_LOSS),
    (SILENCE, Broken::SILENCE_WAS_LOSS),
    (READ_BACK, Broken::ASKED_BEFORE_READING_BACK),
    (ABANDONED, Broken::SESSION_USED_WHILE_UNSURE),
    (ONE_TERM, Broken::SESSION_SERVED_TWICE),
    (OWN_KILL, Broken::LEFT_TO_THE_GUARD),
    (NOT_TAKEN_BACK, Broken::DEADLINE_TAKEN_BACK),
    (RENEWED, Broken::LET_THE_LEASE_GO),
    (TWO_LOST, Broken::TOO_SHORT),
    (ENOUGH, Broken::STOOD_FOR_TOO_LITTLE),
    (STANDS, Broken::LED_UNFIT),
    (NEEDLESS, Broken::LOST_IN_ERROR),
    (HAS_ALL, Broken::LACKED_A_WRITE),
];

/// Whether at most one main acts as leader, one that outlives its agent included; on a host that sleeps nothing does.
pub fn at_most_one_acts(world: &World) -> bool {
    let acting = world.agents.iter().filter(|agent| agent.acting.is_some() && !agent.asleep).count();
    acting + world.remains.len() <= 1
}
