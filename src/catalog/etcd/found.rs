//! What is followed, as it is now: each key of a query, made into our own types as it comes. It asks nobody.

use std::collections::BTreeMap;

use crate::catalog::border::{Flaw, LeftOut};
use crate::catalog::bounds::{self, Allowance, TooMuch};
use crate::config::Query;
use crate::supervisor::vocabulary::{Instance, Observation};

use super::error::Error;
use super::layout::{EntryValue, Layout};

/// A query's keys.
#[derive(Debug)]
pub(super) struct Found<'a> {
    query: &'a Query,
    layout: &'a Layout,
    items: BTreeMap<Vec<u8>, Item>,
    allowance: Allowance,
}

#[derive(Debug)]
enum Item {
    Instance(Instance),
    /// A key's name and value.
    Key((String, String)),
    /// A key whose value can't be had, and why.
    Unusable(Flaw),
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Item::Instance(instance) => bounds::size(instance),
            Item::Key((key, value)) => bounds::in_json(key) + bounds::in_json(value),
            Item::Unusable(_) => 0,
        }
    }
}

impl<'a> Found<'a> {
    /// Nothing yet.
    pub(super) fn of(query: &'a Query, layout: &'a Layout) -> Found<'a> {
        Found { query, layout, items: BTreeMap::new(), allowance: Allowance::default() }
    }

    /// A key is there, or has another value.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8], left_out: &mut LeftOut) -> Result<(), TooMuch> {
        if value.len() > bounds::LARGEST_ITEM {
            return self.too_large(key, left_out);
        }
        self.gone(key);
        let item = match self.query {
            Query::Service { name, .. } => match self.instance(name, key, value) {
                Ok(Some(instance)) => Item::Instance(instance),
                Ok(None) => return Ok(()),
                Err((place, flaw)) => {
                    left_out.say(&place, &flaw);
                    return Ok(());
                }
            },
            Query::Key { .. } | Query::KeyPrefix { .. } | Query::Leader { .. } => match self.text(key, value) {
                Ok(pair) => Item::Key(pair),
                Err((name, flaw)) => {
                    // Of one key alone it is an error, and told as that.
                    if matches!(self.query, Query::KeyPrefix { .. }) {
                        left_out.say(&name, &flaw);
                        return Ok(());
                    }
                    Item::Unusable(flaw)
                }
            },
        };
        self.allowance.take(item.size())?;
        self.items.insert(key.to_vec(), item);
        Ok(())
    }

    /// A key is there, or has another value, which is longer than one that is taken in.
    pub(super) fn too_large(&mut self, key: &[u8], left_out: &mut LeftOut) -> Result<(), TooMuch> {
        self.gone(key);
        match self.query {
            Query::Key { .. } | Query::Leader { .. } => {}
            Query::Service { name, .. } => {
                left_out.say(&self.place(name, key), &Flaw::TooLarge);
            }
            Query::KeyPrefix { .. } => left_out.say(&self.name(key), &Flaw::TooLarge),
        }
        // It takes two questions to pass it over.
        self.allowance.take(0)?;
        self.items.insert(key.to_vec(), Item::Unusable(Flaw::TooLarge));
        Ok(())
    }

    /// A key is gone.
    pub(super) fn gone(&mut self, key: &[u8]) {
        if let Some(item) = self.items.remove(key) {
            self.allowance.give(item.size());
        }
    }

    /// What the query sees now.
    pub(super) fn observation(&self, want_a_value: bool) -> Result<Observation, Error> {
        match self.query {
            Query::Service { tag, .. } => {
                let instances = self.items.values().filter_map(|item| match item {
                    Item::Instance(instance) => Some(instance),
                    Item::Key(_) | Item::Unusable(_) => None,
                });
                let tagged = |instance: &&Instance| tag.as_ref().is_none_or(|tag| instance.tags.contains(tag));
                let mut instances: Vec<Instance> = instances.filter(tagged).cloned().collect();
                instances.sort();
                Ok(Observation::Instances(instances.into()))
            }
            Query::KeyPrefix { .. } => {
                let keys = self.items.values().filter_map(|item| match item {
                    Item::Key(key) => Some(key.clone()),
                    Item::Instance(_) | Item::Unusable(_) => None,
                });
                Ok(Observation::Keys(keys.collect()))
            }
            Query::Key { key } => match self.items.values().next() {
                None => Ok(Observation::Key(None)),
                Some(_) if !want_a_value => Ok(Observation::Key(Some(String::new()))),
                Some(Item::Key((_, value))) => Ok(Observation::Key(Some(value.clone()))),
                Some(Item::Unusable(Flaw::TooLarge)) => Err(Error::TooLarge { key: key.clone() }),
                Some(Item::Instance(_) | Item::Unusable(_)) => Err(Error::NotText { key: key.clone() }),
            },
            Query::Leader { .. } => unreachable!("Backend::follow watches locks itself"),
        }
    }

    /// Where an instance's entry stands.
    fn place(&self, service: &str, key: &[u8]) -> String {
        let key = String::from_utf8_lossy(key);
        key.strip_prefix(&self.layout.instances(service)).unwrap_or(&key).to_owned()
    }

    /// What a key is called without what stands before all of them.
    fn name(&self, key: &[u8]) -> String {
        let name = String::from_utf8_lossy(key);
        name.strip_prefix(&self.layout.key("")).unwrap_or(&name).to_owned()
    }

    /// The passing instance in an entry, or what it is called and what is wrong with it.
    fn instance(&self, service: &str, key: &[u8], value: &[u8]) -> Result<Option<Instance>, (String, Flaw)> {
        let place = self.place(service, key);
        let key = String::from_utf8_lossy(key);
        let entry: EntryValue = match serde_json::from_slice(value) {
            Ok(entry) => entry,
            Err(error) => return Err((place, Flaw::NoEntry(error.to_string()))),
        };
        let Some(words) = entry.passing() else { return Ok(None) };
        if self.layout.instance(service, &words.id) != key {
            return Err((place, Flaw::Misplaced(words.id)));
        }
        words.instance().map(Some).map_err(|flaw| (place, flaw))
    }

    /// A key's name and value, or its name and what is wrong with it.
    fn text(&self, key: &[u8], value: &[u8]) -> Result<(String, String), (String, Flaw)> {
        let name = self.name(key);
        match (std::str::from_utf8(key), std::str::from_utf8(value)) {
            (Ok(_), Ok(value)) => Ok((name, value.to_owned())),
            // A key that isn't text would have another's name.
            (Err(_), _) | (_, Err(_)) => Err((name, Flaw::NotText)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, port: &str) -> Vec<u8> {
        let json = r#"{"id": "ID", "name": "web", "address": "10.0.0.1", "port": PORT, "status": "passing"}"#;
        json.replace("ID", id).replace("PORT", port).into_bytes()
    }

    #[test]
    fn one_entry_that_is_none_leaves_the_others_and_is_replaced_by_one_that_is() {
        let (query, layout) = (Query::Service { name: "web".into(), tag: None, datacenter: None }, Layout::new("p"));
        let (mut found, mut left_out) = (Found::of(&query, &layout), LeftOut::unannounced());
        let mut ids = |found: &mut Found<'_>, key: &str, value: &[u8]| {
            found.put(key.as_bytes(), value, &mut left_out).unwrap();
            let Observation::Instances(seen) = found.observation(true).unwrap() else { panic!("no instances") };
            seen.iter().map(|instance| instance.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(&mut found, "p/services/web/a", &entry("a", "80")), ["a"]);
        for evil in [&entry("evil", "70000")[..], &entry("evil", "-1"), &entry("a", "80"), b"x", b"\xff"] {
            assert_eq!(ids(&mut found, "p/services/web/evil", evil), ["a"]);
        }
        assert_eq!(ids(&mut found, "p/services/web/evil", &entry("evil", "81")), ["a", "evil"]);
        assert_eq!(ids(&mut found, "p/services/web/a", &entry("a", "-1")), ["evil"]);
    }

    #[test]
    fn a_binary_value_is_left_out_below_a_prefix_and_enough_for_who_only_waits_for_the_key() {
        let layout = Layout::new("p");
        let below = Query::KeyPrefix { prefix: "app/".into() };
        let (mut found, mut left_out) = (Found::of(&below, &layout), LeftOut::unannounced());
        found.put(b"p/keys/app/a", b"1", &mut left_out).unwrap();
        found.put(b"p/keys/app/b", b"\xff", &mut left_out).unwrap();
        assert_eq!(found.observation(true).unwrap(), Observation::Keys([("app/a".into(), "1".into())].into()));
        let one = Query::Key { key: "app/b".into() };
        let mut found = Found::of(&one, &layout);
        found.put(b"p/keys/app/b", b"\xff", &mut left_out).unwrap();
        assert!(found.observation(true).is_err());
        assert_eq!(found.observation(false).unwrap(), Observation::Key(Some(String::new())));
    }

    #[test]
    fn what_goes_gives_its_room_back() {
        let (query, layout) = (Query::KeyPrefix { prefix: String::new() }, Layout::new("p"));
        let (mut found, mut left_out) = (Found::of(&query, &layout), LeftOut::unannounced());
        // Of control characters: eleven such values are more than the bound, six times their length each.
        let large = vec![1; bounds::LARGEST_ITEM - 100];
        for _ in 0..3 {
            found.put(b"p/keys/a", &large, &mut left_out).unwrap();
        }
        assert_eq!(found.put(b"p/keys/b", &large, &mut left_out), Err(TooMuch));
        let mut found = Found::of(&query, &layout);
        for key in ["p/keys/a", "p/keys/b"] {
            found.put(key.as_bytes(), &large, &mut left_out).unwrap();
            found.gone(key.as_bytes());
        }
    }

    #[test]
    fn a_value_that_is_too_large_costs_itself_only_and_is_enough_for_who_only_waits_for_the_key() {
        let (below, layout) = (Query::KeyPrefix { prefix: String::new() }, Layout::new("p"));
        let (mut found, mut left_out) = (Found::of(&below, &layout), LeftOut::unannounced());
        let large = vec![b'x'; bounds::LARGEST_ITEM + 1];
        found.put(b"p/keys/a", b"1", &mut left_out).unwrap();
        for _ in 0..100 {
            found.put(b"p/keys/b", &large, &mut left_out).unwrap();
            found.too_large(b"p/keys/c", &mut left_out).unwrap();
        }
        assert_eq!(found.observation(true).unwrap(), Observation::Keys([("a".into(), "1".into())].into()));
        found.put(b"p/keys/b", b"2", &mut left_out).unwrap();
        let both = [("a".into(), "1".into()), ("b".into(), "2".into())];
        assert_eq!(found.observation(true).unwrap(), Observation::Keys(both.into()));
        let one = Query::Key { key: "b".into() };
        let mut found = Found::of(&one, &layout);
        found.too_large(b"p/keys/b", &mut left_out).unwrap();
        assert!(matches!(found.observation(true), Err(Error::TooLarge { .. })));
        assert_eq!(found.observation(false).unwrap(), Observation::Key(Some(String::new())));
    }
}
