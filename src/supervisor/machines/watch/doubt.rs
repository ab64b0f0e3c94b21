//! Who is missing as a store comes back: it may have lost what it held, and who lives registers again. Until then they are
//! there, as far as is known.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::supervisor::vocabulary::{Instance, Observation, Time};

/// A store that has come back may have lost what it held; who lives has registered again after this, the longest pause
/// between two tries ([`Entry`](crate::supervisor::machines::entry::Entry)). Until then it is no news that somebody is
/// missing.
const REGISTERED_WITHIN: Duration = Duration::from_secs(10);

/// What a store that came back seems to have lost.
#[derive(Debug, Default)]
pub struct Doubt(Option<Doubted>);

/// Who may only have to register anew, and has until then: one time for all, however often the store goes away meanwhile.
#[derive(Debug)]
struct Doubted {
    until: Time,
    missing: Missing,
}

#[derive(Debug)]
enum Missing {
    These(Vec<Instance>),
    /// Whoever is in the file.
    Unknown,
}

/// What is known as a store comes back.
pub struct Known<'a> {
    /// Who was there.
    pub there: [Option<&'a Observation>; 2],
    /// The file is one of a life before: who is in it isn't known.
    pub is_kept: bool,
}

impl Doubt {
    /// So many are seen; by a store that is `back`, when something else was known before.
    pub fn sees(&mut self, now: Time, there: &[Instance], back: Option<Known<'_>>) {
        if back.is_none() && self.0.is_none() {
            return;
        }
        let unknown = there.is_empty() && back.as_ref().is_some_and(|known| known.is_kept);
        let there: BTreeSet<_> = there.iter().map(Instance::identity).collect();
        let is_missing = |instance: &&Instance| !there.contains(&instance.identity());
        let doubted = self.0.get_or_insert_with(|| Doubted {
            until: now + REGISTERED_WITHIN,
            missing: if unknown { Missing::Unknown } else { Missing::These(Vec::new()) },
        });
        let Missing::These(missing) = &mut doubted.missing else { return };
        missing.retain(|instance| is_missing(&instance));
        for before in back.into_iter().flat_map(|known| known.there).flatten() {
            if let Observation::Instances(before) = before {
                missing.extend(before.iter().filter(is_missing).cloned());
            }
        }
        missing.sort_by(|one, other| one.identity().cmp(&other.identity()));
        missing.dedup_by(|one, other| one.identity() == other.identity());
        if missing.is_empty() {
            self.0 = None;
        }
    }

    /// What there is, as far as is known: what is seen, and who is only missing as the store came back.
    pub fn believed(&self, seen: &Observation) -> Observation {
        match (seen, &self.0) {
            (Observation::Instances(instances), Some(Doubted { missing: Missing::These(missing), .. })) => {
                let mut all = [instances, missing.as_slice()].concat();
                all.sort_by(|one, other| one.identity().cmp(&other.identity()));
                Observation::Instances(all.into())
            }
            _ => seen.clone(),
        }
    }

    /// Until when there is one.
    pub fn until(&self) -> Option<Time> {
        self.0.as_ref().map(|doubted| doubted.until)
    }

    /// Until when nothing is known of anybody.
    pub fn is_of_all_until(&self) -> Option<Time> {
        let unknown = |doubted: &&Doubted| matches!(doubted.missing, Missing::Unknown);
        self.0.as_ref().filter(unknown).map(|doubted| doubted.until)
    }

    /// Ends it when its time is over; whether that is so.
    pub fn ends(&mut self, now: Time) -> bool {
        self.0.take_if(|doubted| doubted.until <= now).is_some()
    }
}
