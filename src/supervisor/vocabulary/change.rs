//! What changed between two looks at a dependency, and the JSON that tells it to `on_change`.

use std::collections::BTreeMap;

use serde::Serialize;

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

/// One thing that is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
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

    /// What `on_change` reads on its standard input: `{watch, added, removed, changed, instances}`; a key watch's
    /// items are `{key, value}`.
    pub fn to_json(&self, watch: &str, now: &Observation) -> String {
        #[derive(Serialize)]
        struct Announcement<'a> {
            watch: &'a str,
            added: &'a [Item<'a>],
            removed: &'a [Item<'a>],
            changed: &'a [Item<'a>],
            instances: Vec<Item<'a>>,
        }
        let announcement = Announcement {
            watch,
            added: &self.added,
            removed: &self.removed,
            changed: &self.changed,
            instances: items(now).into_values().collect(),
        };
        let mut json = serde_json::to_string(&announcement).expect("strings and numbers are JSON");
        json.push('\n');
        json
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
    use serde_json::{Value, json};

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

    fn announcement(change: &Change<'_>, now: &Observation) -> Value {
        serde_json::from_str(&change.to_json("app", now)).unwrap()
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
        let announcement = announcement(&Change::between(&before, &after), &after);
        for (what, id) in [("added", "c"), ("removed", "a"), ("changed", "b")] {
            assert_eq!(
                (announcement[what].as_array().unwrap().len(), announcement[what][0]["id"].as_str()),
                (1, Some(id)),
                "{what}"
            );
        }
        assert_eq!(announcement["instances"].as_array().unwrap().len(), 2);
        assert!(Change::between(&after, &after).is_empty());
    }

    #[test]
    fn one_id_on_several_nodes_is_as_many_instances() {
        let two = seen(vec![on_node("redis", "n1"), on_node("redis", "n2")]);
        let three = seen(vec![on_node("redis", "n1"), on_node("redis", "n2"), on_node("redis", "n3")]);
        assert_eq!(Change::between(&two.emptied(), &two).added.len(), 2);
        let came = Change::between(&two, &three);
        let now = announcement(&came, &three);
        assert_eq!(now["instances"].as_array().unwrap().len(), 3);
        assert_eq!((now["added"].as_array().unwrap().len(), now["added"][0]["node"].as_str()), (1, Some("n3")));
        assert!(came.removed.is_empty() && came.changed.is_empty());
        let left = Change::between(&three, &two);
        assert_eq!((left.added.len(), left.removed.len(), left.changed.len()), (0, 1, 0));
        assert_eq!(announcement(&left, &two)["removed"][0]["node"], "n3");
    }

    #[test]
    fn an_instance_that_moves_to_another_address_is_changed_and_not_another_one() {
        let before = seen(vec![on_node("redis", "n1")]);
        let after = seen(vec![Instance { address: "10.0.0.2".to_owned(), ..on_node("redis", "n1") }]);
        let change = Change::between(&before, &after);
        assert_eq!((change.added.len(), change.removed.len(), change.changed.len()), (0, 0, 1));
    }

    #[test]
    fn keys_are_told_by_name_and_value() {
        let keys = |pairs: &[(&str, &str)]| {
            Observation::Keys(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let (before, after) = (keys(&[("a", "1"), ("b", "1")]), keys(&[("a", "2")]));
        let announcement = announcement(&Change::between(&before, &after), &after);
        assert_eq!(
            (&announcement["changed"][0]["key"], &announcement["changed"][0]["value"]),
            (&json!("a"), &json!("2"))
        );
        assert_eq!(announcement["removed"][0]["key"], "b");
    }
}
