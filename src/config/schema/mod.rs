//! The schema of the config, made from the raw types and their comments, and what is generated from it: the JSON
//! schema, the reference in TOML, the book of keys in Markdown. Made only when asked for, or when a config is wrong and
//! its mistakes are to be told.

mod command_line;
mod keys;
mod markdown;
mod publish;
mod reference;
mod shape;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

use super::raw::{self, ORDER};

pub use markdown::markdown;
pub use publish::json;
pub use reference::toml;

pub(crate) use shape::check_shape;

/// Marks an array of tables of which a single one may stand alone.
const ALONE: &str = "x-alone";
/// What a choice of words takes besides, all in any letters.
const ALSO: &str = "x-also";

/// The schema as the other parts of this layer use it: without references, and without `null`, which no config can
/// hold.
fn tree() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let settings = settings.with_transform(RecursiveTransform(as_written));
    settings.into_generator().into_root_schema_for::<raw::Root>().to_value()
}

/// `Option` means that a key may be left out, not that it may be null. Keys marked as required are; the types have a
/// default for each, so that one that is missing is reported with its place.
fn as_written(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    let mut required = Vec::new();
    for (key, property) in object.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        if property.as_object_mut().is_some_and(|property| property.remove("x-required").is_some()) {
            required.push(key.clone());
        }
    }
    if !required.is_empty() {
        object.insert("required".to_owned(), json!(required));
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(mut choices)) = object.remove("anyOf") {
        choices.retain(|choice| choice != &json!({ "type": "null" }));
        match choices.as_mut_slice() {
            [Value::Object(only)] => {
                let only = std::mem::take(only);
                for (key, value) in only {
                    // What the field says comes before what its type says.
                    object.entry(key).or_insert(value);
                }
            }
            _ => {
                object.insert("anyOf".to_owned(), Value::Array(choices));
            }
        }
    }
}

/// A part of the schema, with questions.
#[derive(Clone, Copy)]
pub(crate) struct Part<'s>(&'s Map<String, Value>);

impl<'s> Part<'s> {
    fn of(value: &'s Value) -> Option<Part<'s>> {
        value.as_object().map(Part)
    }

    fn text(self, key: &str) -> Option<&'s str> {
        self.0.get(key).and_then(Value::as_str)
    }

    /// Whether a value of this kind (`string`, `integer`, ...) may stand here.
    fn takes(self, kind: &str) -> bool {
        match self.0.get("type") {
            Some(Value::String(only)) => only == kind,
            Some(Value::Array(several)) => several.iter().any(|one| one == kind),
            _ => false,
        }
    }

    fn properties(self) -> impl Iterator<Item = (&'s str, Part<'s>)> {
        let properties = self.0.get("properties").and_then(Value::as_object).into_iter().flatten();
        properties.filter_map(|(key, value)| Some((key.as_str(), Part::of(value)?)))
    }

    /// The properties in the order they are written down.
    fn in_order(self) -> impl Iterator<Item = (&'s str, Part<'s>)> {
        let order = self.0.get(ORDER).and_then(Value::as_array).into_iter().flatten();
        order.filter_map(Value::as_str).filter_map(move |key| Some((key, self.property(key)?)))
    }

    /// Whether a key must be there.
    fn requires(self, key: &str) -> bool {
        self.0.get("required").and_then(Value::as_array).is_some_and(|required| required.iter().any(|one| one == key))
    }

    fn property(self, key: &str) -> Option<Part<'s>> {
        self.0.get("properties")?.get(key).and_then(Part::of)
    }

    /// What stands under any key, for tables whose keys are the user's.
    fn any_property(self) -> Option<Part<'s>> {
        self.0.get("additionalProperties").and_then(Part::of)
    }

    fn items(self) -> Option<Part<'s>> {
        self.0.get("items").and_then(Part::of)
    }

    /// The words that may stand here, if it is a choice of words.
    fn choice(self) -> Option<Vec<&'s str>> {
        self.0.get("enum")?.as_array()?.iter().map(Value::as_str).collect()
    }

    /// Whether a choice takes a word that isn't one of its own.
    fn takes_besides(self, text: &str) -> bool {
        let Some(also) = self.0.get(ALSO).and_then(Value::as_array) else { return false };
        let own = self.choice().into_iter().flatten();
        own.chain(also.iter().filter_map(Value::as_str)).any(|word| word.eq_ignore_ascii_case(text))
    }

    fn example(self) -> Option<&'s Value> {
        self.0.get("examples")?.get(0)
    }

    /// Whether it is a table with keys of its own.
    fn is_section(self) -> bool {
        self.0.contains_key("properties")
    }

    /// Whether one that stands alone need be in no array.
    fn may_stand_alone(self) -> bool {
        self.0.contains_key(ALONE)
    }

    /// Whether it is an array of texts, but no command: nothing splits one into words.
    fn is_list_of_texts(self) -> bool {
        let of_texts = self.takes("array") && self.items().is_some_and(|items| items.takes("string"));
        of_texts && !self.takes("string") && !self.may_stand_alone() && self.text("format") != Some("command")
    }

    /// Whether it is written `[[so]]`.
    fn is_list_of_sections(self) -> bool {
        self.items().is_some_and(Part::is_section)
    }
}

#[cfg(test)]
mod tests;
