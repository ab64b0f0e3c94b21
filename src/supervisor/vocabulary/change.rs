//! What changed between two looks at a dependency.

use std::collections::BTreeMap;

use super::{Instance, Observation};

/// The difference between two observations of one query.
#[derive(Debug, Default)]
pub struct Change<'a> {
    /// What came.
    pub added: Vec<Item<'a>>,
    /// What left.
    pub removed: Vec<Item<'a>>,
    /// What is not as it was, as it is now.
    pub changed: Vec<Item<'a>>,
}

/// What a watch's `on_change` is told: the change from what it was told before to what is seen now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Whose.
    pub watch: String,
    /// What it was told before.
    pub before: Observation,
    /// What is seen now.
    pub now: Observation,
}

impl Announcement {
    /// What it tells.
    pub fn change(&self) -> Change<'_> {
        Change::between(&self.before, &self.now)
    }
}

/// One thing that is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// An instance.
    Instance(&'a Instance),
    /// A key below a prefix.
    Key {
        /// Its name.
        key: &'a str,
        /// Its value.
        value: &'a str,
    },
    /// The one key that is looked at.
    Value {
        /// Its value.
        value: &'a str,
    },
}

impl<'a> Change<'a> {
    /// The difference from `before` to `after`.
    pub fn between(before: &'a Observation, after: &'a Observation) -> Change<'a> {
        let (before, after) = (items(before), items(after));
        let mut change = Change::default();
        for (identity, item) in &after {
            match before.get(identity) {
                None => change.added.push(*item),
                Some(old) if old != item => change.changed.push(*item),
                Some(_) => {}
            }
        }
        let gone = before.into_iter().filter(|(identity, _)| !after.contains_key(identity));
        change.removed = gone.map(|(_, item)| item).collect();
        change
    }

    /// Who came, left or is not as before, in words.
    pub fn in_words(&self) -> String {
        let said = [(&self.added, "came"), (&self.removed, "left"), (&self.changed, "changed")];
        let said = said.iter().filter(|(items, _)| !items.is_empty());
        said.map(|(items, verb)| format!("{} {verb}", names(items))).collect::<Vec<_>>().join(", ")
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// A few by name, the others by number.
fn names(items: &[Item<'_>]) -> String {
    const MOST: usize = 3;
    let name = |item: &Item<'_>| match item {
        Item::Instance(instance) => instance.id.clone(),
        Item::Key { key, .. } => (*key).to_owned(),
        Item::Value { .. } => "the value".to_owned(),
    };
    let mut names: Vec<String> = items.iter().take(MOST).map(name).collect();
    if items.len() > MOST {
        names.push(format!("{} more", items.len() - MOST));
    }
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}

impl Observation {
    /// Each thing that is seen, sorted by what it is known by.
    pub fn items(&self) -> Vec<Item<'_>> {
        items(self).into_values().collect()
    }

    /// What an observation is of the same kind that sees nothing.
    pub fn emptied(&self) -> Observation {
        match self {
            Observation::Instances(_) => Observation::Instances([].into()),
            Observation::Key(_) => Observation::Key(None),
            Observation::Keys(_) => Observation::Keys([].into()),
        }
    }

    /// How many instances or keys it sees.
    pub fn len(&self) -> usize {
        match self {
            Observation::Instances(instances) => instances.len(),
            Observation::Key(value) => usize::from(value.is_some()),
            Observation::Keys(keys) => keys.len(),
        }
    }

    /// Whether it sees nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is seen, by what it is known by.
fn items(seen: &Observation) -> BTreeMap<(&str, Option<&str>), Item<'_>> {
    match seen {
        Observation::Instances(instances) => {
            instances.iter().map(|instance| (instance.identity(), Item::Instance(instance))).collect()
        }
        Observation::Key(value) => value.iter().map(|value| (("", None), Item::Value { value })).collect(),
        Observation::Keys(keys) => {
            keys.iter().map(|(key, value)| ((key.as_str(), None), Item::Key { key, value })).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, port: u16) -> Instance {
        Instance {
            id: id.to_owned(),
            node: None,
            name: "app".to_owned(),
            address: "10.0.0.1".to_owned(),
            port,
            tags: Vec::new(),
            meta: BTreeMap::new(),
        }
    }

    fn on_node(id: &str, node: &str) -> Instance {
        Instance { node: Some(node.to_owned()), ..instance(id, 1) }
    }

    fn seen(instances: Vec<Instance>) -> Observation {
        Observation::Instances(instances.into())
    }

    fn ids<'a>(items: &[Item<'a>]) -> Vec<&'a str> {
        let id = |item: &Item<'a>| match item {
            Item::Instance(instance) => Some(instance.id.as_str()),
            Item::Key { .. } | Item::Value { .. } => None,
        };
        items.iter().filter_map(id).collect()
    }

    #[test]
    fn who_came_and_left_is_named_and_of_many_a_few() {
        let seen = |ids: &[&str], port| Observation::Instances(ids.iter().map(|id| instance(id, port)).collect());
        let words = |before: &Observation, after: &Observation| Change::between(before, after).in_words();
        assert_eq!(words(&seen(&["a"], 1), &seen(&["b", "c"], 1)), "b and c came, a left");
        assert_eq!(words(&seen(&["a"], 1), &seen(&["a"], 2)), "a changed");
        assert_eq!(words(&seen(&[], 1), &seen(&["a", "b", "c", "d", "e"], 1)), "a, b, c and 2 more came");
        let keys = Observation::Keys([("app/x".to_owned(), "1".to_owned())].into());
        assert_eq!(words(&Observation::Keys([].into()), &keys), "app/x came");
    }

    #[test]
    fn what_came_left_and_changed_is_told_apart() {
        let before = seen(vec![instance("a", 1), instance("b", 1)]);
        let after = seen(vec![instance("b", 2), instance("c", 1)]);
        let change = Change::between(&before, &after);
        assert_eq!([&change.added, &change.removed, &change.changed].map(|items| ids(items)), [["c"], ["a"], ["b"]]);
        assert_eq!(ids(&after.items()), ["b", "c"]);
        assert!(Change::between(&after, &after).is_empty());
    }

    #[test]
    fn one_id_on_several_nodes_is_as_many_instances() {
        let two = seen(vec![on_node("redis", "n1"), on_node("redis", "n2")]);
        let three = seen(vec![on_node("redis", "n1"), on_node("redis", "n2"), on_node("redis", "n3")]);
        let node = |items: &[Item<'_>]| match items {
            [Item::Instance(instance)] => instance.node.clone(),
            _ => None,
        };
        assert_eq!(Change::between(&seen(Vec::new()), &two).added.len(), 2);
        let came = Change::between(&two, &three);
        assert_eq!((three.items().len(), came.added.len(), node(&came.added)), (3, 1, Some("n3".to_owned())));
        assert!(came.removed.is_empty() && came.changed.is_empty());
        let left = Change::between(&three, &two);
        assert_eq!((left.added.len(), left.removed.len(), left.changed.len()), (0, 1, 0));
        assert_eq!(node(&left.removed).as_deref(), Some("n3"));
    }

    #[test]
    fn an_instance_that_moves_to_another_address_is_changed_and_not_another_one() {
        let before = seen(vec![on_node("redis", "n1")]);
        let after = seen(vec![Instance { address: "10.0.0.2".to_owned(), ..on_node("redis", "n1") }]);
        let change = Change::between(&before, &after);
        assert_eq!((change.added.len(), change.removed.len(), change.changed.len()), (0, 0, 1));
    }
}
