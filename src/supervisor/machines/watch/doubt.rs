//! Who is missing as a store comes back: it may have lost what it held, and who lives registers again. Until then they are
//! there, as far as is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::supervisor::vocabulary::bounds::{self, Allowance, TooMuch};
use crate::supervisor::vocabulary::{Instance, Observation, Time};

/// A store that has come back may have lost what it held; who lives has registered again after this, the longest pause
/// between two tries ([`Entry`](crate::supervisor::machines::entry::Entry)). Until then it is no news that somebody is
/// missing.
const REGISTERED_WITHIN: Duration = Duration::from_secs(10);

/// What a store that came back seems to have lost.
#[derive(Debug, Default)]
pub struct Doubt {
    /// Who is believed to be there and isn't seen.
    missing: Vec<Missing>,
    /// Until then nothing is known of who is in the file: it is one of a life before.
    of_all_until: Option<Time>,
    /// Since when the store doesn't answer, at which nobody can register: that counts for nothing.
    rests_since: Option<Time>,
}

/// One who may only have to register anew, and has until then at a store that answers, however often it goes away meanwhile.
#[derive(Debug)]
struct Missing {
    id: String,
    node: Option<String>,
    until: Time,
}

impl Missing {
    /// As an instance is known.
    fn identity(&self) -> (&str, Option<&str>) {
        (&self.id, self.node.as_deref())
    }
}

impl Doubt {
    /// Who is there, as far as is known: who is seen, and who was believed to be there before and is only missing as the
    /// store came `back`.
    ///
    /// # Errors
    /// They are more than is taken in of a query, so that those who are missing count as gone.
    pub fn believes(
        &mut self,
        now: Time,
        seen: &Arc<[Instance]>,
        before: &[Instance],
        back: bool,
    ) -> Result<Arc<[Instance]>, TooMuch> {
        if !back && self.missing.is_empty() {
            return Ok(seen.clone());
        }
        let here: BTreeSet<_> = seen.iter().map(Instance::identity).collect();
        let doubted: BTreeMap<_, _> = self.missing.iter().map(|missing| (missing.identity(), missing.until)).collect();
        let new = back.then_some(now + REGISTERED_WITHIN);
        let (mut missing, mut unseen) = (Vec::new(), Vec::new());
        for instance in before.iter().filter(|instance| !here.contains(&instance.identity())) {
            let until = doubted.get(&instance.identity()).copied().or(new);
            if let Some(until) = until.filter(|until| *until > now) {
                missing.push(Missing { id: instance.id.clone(), node: instance.node.clone(), until });
                unseen.push(instance.clone());
            }
        }
        self.missing = Vec::new();
        if unseen.is_empty() {
            return Ok(seen.clone());
        }
        let mut allowance = Allowance::default();
        seen.iter().chain(&unseen).try_for_each(|instance| allowance.take(bounds::size(instance)))?;
        self.missing = missing;
        let mut all = [seen, unseen.as_slice()].concat();
        all.sort_by(|one, other| one.identity().cmp(&other.identity()));
        Ok(all.into())
    }

    /// The store doesn't answer.
    pub fn rests(&mut self, now: Time) {
        self.rests_since.get_or_insert(now);
    }

    /// It does again: all have as much time left as they had.
    pub fn goes_on(&mut self, now: Time) {
        let Some(since) = self.rests_since.take() else { return };
        let later = now.since(since);
        let times = self.missing.iter_mut().map(|missing| &mut missing.until);
        times.chain(&mut self.of_all_until).for_each(|until| *until = *until + later);
    }

    /// Nothing is known of who is in the file, and it has time.
    pub fn is_of_all(&mut self, now: Time) {
        self.of_all_until = Some(now + REGISTERED_WITHIN);
    }

    /// Until when nothing is known of who is in the file.
    pub fn is_of_all_until(&self) -> Option<Time> {
        self.of_all_until
    }

    /// What is in the file is known.
    pub fn knows_the_file(&mut self) {
        self.of_all_until = None;
    }

    /// How many are believed to be there, and aren't seen.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// When the first of it is over.
    pub fn until(&self) -> Option<Time> {
        if self.rests_since.is_some() {
            return None;
        }
        self.missing.iter().map(|missing| missing.until).chain(self.of_all_until).min()
    }

    /// Whose time is over is gone; whether anything is known now that wasn't.
    pub fn ends(&mut self, now: Time, believed: &mut Option<Observation>) -> bool {
        if self.rests_since.is_some() {
            return false;
        }
        let knows = self.of_all_until.take_if(|until| *until <= now).is_some();
        let (over, missing): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.missing).into_iter().partition(|missing| missing.until <= now);
        self.missing = missing;
        if over.is_empty() {
            return knows;
        }
        if let Some(Observation::Instances(all)) = believed {
            let over: BTreeSet<_> = over.iter().map(Missing::identity).collect();
            *all = all.iter().filter(|instance| !over.contains(&instance.identity())).cloned().collect();
        }
        true
    }
}
