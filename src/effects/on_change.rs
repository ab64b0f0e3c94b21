//! The JSON that tells a change to `on_change`, on its standard input.

use serde::Serialize;

use crate::supervisor::vocabulary::{Announcement, Instance, Item};

#[derive(Serialize)]
struct Body<'a> {
    watch: &'a str,
    added: Vec<ItemBody<'a>>,
    removed: Vec<ItemBody<'a>>,
    changed: Vec<ItemBody<'a>>,
    instances: Vec<ItemBody<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ItemBody<'a> {
    Instance(&'a Instance),
    Key { key: &'a str, value: &'a str },
    Value { value: &'a str },
}

impl<'a> ItemBody<'a> {
    fn of(item: Item<'a>) -> ItemBody<'a> {
        match item {
            Item::Instance(instance) => ItemBody::Instance(instance),
            Item::Key { key, value } => ItemBody::Key { key, value },
            Item::Value { value } => ItemBody::Value { value },
        }
    }
}

fn item_bodies(items: Vec<Item<'_>>) -> Vec<ItemBody<'_>> {
    items.into_iter().map(ItemBody::of).collect()
}

/// `{watch, added, removed, changed, instances}`; a key watch's items are `{key, value}`.
pub fn json(announcement: &Announcement) -> String {
    let change = announcement.change();
    let body = Body {
        watch: &announcement.watch,
        added: item_bodies(change.added),
        removed: item_bodies(change.removed),
        changed: item_bodies(change.changed),
        instances: item_bodies(announcement.now.items()),
    };
    let mut json = serde_json::to_string(&body).expect("strings and numbers are JSON");
    json.push('\n');
    json
}

#[cfg(test)]
mod tests {
    use crate::supervisor::vocabulary::Observation;

    use super::*;

    #[test]
    fn keys_are_told_by_name_and_value() {
        let keys = |pairs: &[(&str, &str)]| {
            Observation::Keys(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let (before, now) = (keys(&[("a", "1"), ("b", "1")]), keys(&[("a", "2")]));
        assert_eq!(
            json(&Announcement { watch: "app".to_owned(), before, now }),
            concat!(
                r#"{"watch":"app","added":[],"removed":[{"key":"b","value":"1"}],"#,
                r#""changed":[{"key":"a","value":"2"}],"instances":[{"key":"a","value":"2"}]}"#,
                "\n"
            )
        );
    }
}
