//! What a watch's `on_change` knows: what the last run that succeeded was told, and what those were told since that failed or
//! were cut short, and that another command was told before it. These may have done something about it or not, so what has
//! left meanwhile is told as such, and what is there as new.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::supervisor::vocabulary::{Item, Observation};

/// What runs since the last that succeeded were told takes no more than this, or than the last of them was told: where each
/// one fails, who comes and goes for days is forgotten at last.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// What a command was told.
#[derive(Debug)]
pub struct Told {
    /// By its last run that succeeded.
    taken: Observation,
    /// In vain since, each thing as it was told last; also what has left.
    in_vain: Observation,
}

impl Told {
    /// One of whom nothing was seen yet of this kind.
    pub fn nothing(kind: &Observation) -> Told {
        Told { taken: kind.emptied(), in_vain: kind.emptied() }
    }

    /// Whether it has been told of anything.
    pub fn is_any(&self) -> bool {
        !self.taken.is_empty() || !self.in_vain.is_empty()
    }

    /// Whether what is seen now is of the same kind.
    pub fn is_like(&self, seen: &Observation) -> bool {
        std::mem::discriminant(&self.taken) == std::mem::discriminant(seen)
    }

    /// A run that was told this has succeeded.
    pub fn was_taken(&mut self, on: Observation) {
        (self.taken, self.in_vain) = (on.clone(), on.emptied());
    }

    /// A run that was told this has failed, was cut short, or is nobody's any more.
    pub fn was_in_vain(&mut self, on: &Observation) {
        let all = joined(&self.in_vain, on);
        self.in_vain = if size(&all) <= MOST_BYTES { all } else { on.clone() };
    }

    /// Another command is told from now on.
    pub fn begins_anew(&mut self) {
        let taken = std::mem::replace(&mut self.taken, self.in_vain.emptied());
        self.in_vain = joined(&taken, &self.in_vain);
    }

    /// From what a run is told the change to what is seen now.
    pub fn before(&self, now: &Observation) -> Observation {
        match (&self.taken, &self.in_vain, now) {
            (taken, in_vain, _) if in_vain.is_empty() => taken.clone(),
            (Observation::Instances(taken), Observation::Instances(in_vain), Observation::Instances(now)) => {
                Observation::Instances(changed(taken, in_vain, now, |instance| instance.identity()).into())
            }
            (Observation::Keys(taken), Observation::Keys(in_vain), Observation::Keys(now)) => {
                Observation::Keys(changed(taken, in_vain, now, |(key, _)| key.as_str()).into())
            }
            (Observation::Key(taken), Observation::Key(in_vain), Observation::Key(now)) => {
                Observation::Key(changed(taken.as_slice(), in_vain.as_slice(), now.as_slice(), |_| ()).pop())
            }
            (taken, ..) => taken.clone(),
        }
    }
}

/// What was taken, and what was told in vain and is gone now; each, if it was told as something else than it is now, as that.
fn changed<'a, T: Clone + PartialEq, K: Ord>(
    taken: &'a [T],
    in_vain: &'a [T],
    now: &'a [T],
    known_by: impl Fn(&'a T) -> K,
) -> Vec<T> {
    let now: BTreeMap<K, &T> = now.iter().map(|one| (known_by(one), one)).collect();
    let mut before: BTreeMap<K, &T> = taken.iter().map(|one| (known_by(one), one)).collect();
    for one in in_vain {
        let now = now.get(&known_by(one));
        match before.entry(known_by(one)) {
            Entry::Occupied(mut taken) if now.is_none_or(|now| *now == *taken.get()) => *taken.get_mut() = one,
            Entry::Vacant(gone) if now.is_none() => {
                gone.insert(one);
            }
            Entry::Occupied(_) | Entry::Vacant(_) => {}
        }
    }
    before.into_values().cloned().collect()
}

/// All that is in either, as the second has it.
fn joined(one: &Observation, other: &Observation) -> Observation {
    match (one, other) {
        (one, other) if one.is_empty() => other.clone(),
        (Observation::Instances(one), Observation::Instances(other)) => {
            Observation::Instances(all(one, other, |instance| instance.identity()).into())
        }
        (Observation::Keys(one), Observation::Keys(other)) => {
            Observation::Keys(all(one, other, |(key, _)| key.as_str()).into())
        }
        (Observation::Key(one), Observation::Key(other)) => Observation::Key(other.clone().or_else(|| one.clone())),
        (_, other) => other.clone(),
    }
}

fn all<'a, T: Clone, K: Ord>(one: &'a [T], other: &'a [T], known_by: impl Fn(&'a T) -> K) -> Vec<T> {
    let all: BTreeMap<K, &T> = one.iter().chain(other).map(|one| (known_by(one), one)).collect();
    all.into_values().cloned().collect()
}

fn size(seen: &Observation) -> usize {
    let of = |item: Item<'_>| match item {
        Item::Instance(instance) => {
            let words = [&instance.id, &instance.name, &instance.address].into_iter().chain(&instance.node);
            let words = words.chain(&instance.tags).chain(instance.meta.keys()).chain(instance.meta.values());
            size_of_val(instance) + words.map(|word| size_of::<String>() + word.len()).sum::<usize>()
        }
        Item::Key { key, value } => 2 * size_of::<String>() + key.len() + value.len(),
        Item::Value { value } => value.len(),
    };
    seen.items().into_iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::vocabulary::Change;

    fn keys(pairs: &[(&str, &str)]) -> Observation {
        Observation::Keys(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    fn words(told: &Told, now: &Observation) -> String {
        Change::between(&told.before(now), now).in_words()
    }

    fn having_taken(on: Observation) -> Told {
        let mut told = Told::nothing(&on);
        told.was_taken(on);
        told
    }

    #[test]
    fn what_was_told_in_vain_is_told_as_new_while_it_is_there_and_as_gone_once_it_has_left() {
        let mut told = having_taken(keys(&[("a", "1")]));
        told.was_in_vain(&keys(&[("a", "1"), ("b", "1")]));
        assert_eq!(words(&told, &keys(&[("a", "1"), ("b", "1")])), "b came");
        assert_eq!(words(&told, &keys(&[("a", "1")])), "b left");
        // So until one has taken it.
        told.was_in_vain(&keys(&[("a", "1")]));
        assert_eq!(words(&told, &keys(&[("a", "1")])), "b left");
        told.was_taken(keys(&[("a", "1")]));
        assert_eq!(words(&told, &keys(&[("a", "1")])), "");
    }

    #[test]
    fn what_was_changed_in_vain_and_is_changed_back_is_told_as_changed() {
        let mut told = having_taken(keys(&[("a", "1"), ("b", "1")]));
        told.was_in_vain(&keys(&[("a", "2")]));
        for value in ["1", "2", "3"] {
            assert_eq!(words(&told, &keys(&[("a", value), ("b", "1")])), "a changed", "{value}");
        }
        let value = |value: Option<&str>| Observation::Key(value.map(str::to_owned));
        let mut told = having_taken(value(Some("1")));
        told.was_in_vain(&value(Some("2")));
        assert_eq!(words(&told, &value(Some("1"))), "the value changed");
        told.was_in_vain(&value(None));
        assert_eq!(words(&told, &value(None)), "the value left");
    }

    #[test]
    fn another_command_is_told_all_there_is_and_what_has_left_of_what_was_told_before() {
        let mut told = having_taken(keys(&[("a", "1"), ("b", "1")]));
        told.was_in_vain(&keys(&[("a", "1"), ("c", "1")]));
        told.begins_anew();
        assert_eq!(words(&told, &keys(&[("a", "1"), ("d", "1")])), "a and d came, b and c left");
        assert!(told.is_any());
    }

    #[test]
    fn a_command_that_always_fails_is_told_of_ever_more_until_there_is_too_much() {
        let value = "x".repeat(1024 * 1024);
        let mut told = having_taken(keys(&[]));
        for number in 0..10 {
            told.was_in_vain(&keys(&[(&number.to_string(), &value)]));
        }
        assert_eq!(told.before(&keys(&[])).len(), 10);
        for number in 10..40 {
            told.was_in_vain(&keys(&[(&number.to_string(), &value)]));
            assert!(size(&told.in_vain) <= MOST_BYTES);
        }
        assert!(!told.before(&keys(&[])).is_empty());
    }
}
