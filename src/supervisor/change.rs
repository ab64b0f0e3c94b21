//! What changed between two looks at a dependency, and the JSON that tells it to `on_change`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::event::Observation;

/// The difference between two observations of one query.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Change {
    /// What came.
    pub added: Vec<Value>,
    /// What left.
    pub removed: Vec<Value>,
    /// What is not as it was, as it is now.
    pub changed: Vec<Value>,
}

impl Change {
    /// The difference from `before` to `after`.
    pub fn between(before: &Observation, after: &Observation) -> Change {
        let (before, after) = (items(before), items(after));
        let mut change = Change::default();
        for (id, item) in &after {
            match before.get(id) {
                None => change.added.push(item.clone()),
                Some(old) if old != item => change.changed.push(item.clone()),
                Some(_) => {}
            }
        }
        change.removed = before.into_iter().filter(|(id, _)| !after.contains_key(id)).map(|(_, item)| item).collect();
        change
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// What `on_change` reads on its standard input: `{watch, added, removed, changed, instances}`; a key watch's
    /// items are `{key, value}`.
    pub fn to_json(&self, watch: &str, now: &Observation) -> String {
        let instances: Vec<Value> = items(now).into_values().collect();
        let change = json!({
            "watch": watch,
            "added": self.added,
            "removed": self.removed,
            "changed": self.changed,
            "instances": instances,
        });
        format!("{change}\n")
    }
}

impl Observation {
    /// What an observation is of the same kind that sees nothing.
    pub fn emptied(&self) -> Observation {
        match self {
            Observation::Instances(_) => Observation::Instances(Vec::new()),
            Observation::Key(_) => Observation::Key(None),
            Observation::Keys(_) => Observation::Keys(Vec::new()),
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

fn items(seen: &Observation) -> BTreeMap<String, Value> {
    match seen {
        Observation::Instances(instances) => {
            instances.iter().map(|instance| (instance.id.clone(), json!(instance))).collect()
        }
        Observation::Key(value) => value.iter().map(|value| (String::new(), json!({ "value": value }))).collect(),
        Observation::Keys(keys) => {
            keys.iter().map(|(key, value)| (key.clone(), json!({ "key": key, "value": value }))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::event::Instance;

    fn instance(id: &str, port: u16) -> Instance {
        Instance {
            id: id.to_owned(),
            name: "app".to_owned(),
            address: "10.0.0.1".to_owned(),
            port,
            tags: Vec::new(),
            meta: BTreeMap::new(),
        }
    }

    #[test]
    fn what_came_left_and_changed_is_told_apart() {
        let before = Observation::Instances(vec![instance("a", 1), instance("b", 1)]);
        let after = Observation::Instances(vec![instance("b", 2), instance("c", 1)]);
        let change = Change::between(&before, &after);
        let ids = |items: &[Value]| items.iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(&change.added), ["c"]);
        assert_eq!(ids(&change.removed), ["a"]);
        assert_eq!(ids(&change.changed), ["b"]);
        let told: Value = serde_json::from_str(&change.to_json("app", &after)).unwrap();
        assert_eq!(told["instances"].as_array().unwrap().len(), 2);
        assert!(Change::between(&after, &after).is_empty());
    }
}
