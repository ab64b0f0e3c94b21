//! The schema for editors and other programs.

use serde_json::{Map, Value, json};

use super::{ALONE, ALSO, Part, tree};
use crate::config::raw::ORDER;

/// What a duration looks like. JSON Schema's own `duration` is another one (ISO 8601, `PT5S`).
const DURATION: &str = r"^([0-9]+ *(ns|us|ms|s|m|h|d)[a-z]* *)+$|^0$|\{\{|\{%";
/// What a backoff looks like.
const BACKOFF: &str = r"^[0-9a-z ]+(\.\.[0-9a-z ]+)?$|\{\{|\{%";
/// A value that is rendered before it is read may stand anywhere.
const TEMPLATE: &str = r"\{\{|\{%";

/// The JSON schema (draft 2020-12) of the config, pretty, with a newline at its end.
pub fn json() -> String {
    let mut schema = tree();
    publish(&mut schema);
    schema["title"] = json!("pilotfish");
    let mut text = serde_json::to_string_pretty(&schema).expect("a JSON value is always JSON");
    text.push('\n');
    text
}

fn publish(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    object.remove(ORDER);
    object.remove(ALSO);
    if let Some(Value::String(description)) = object.get_mut("description") {
        // Lines end where the source's do; only paragraphs mean something.
        *description = description.split("\n\n").map(|part| part.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
    if let Some(Value::String(words)) = object.remove("x-default")
        && let Some(Value::String(description)) = object.get_mut("description")
    {
        description.push_str(&format!("\n\nDefault: {words}."));
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(publish);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            publish(inner);
        }
    }
    if object.remove(ALONE).is_some()
        && let (Some(one), Some(kind)) = (object.get("items").cloned(), object.remove("type"))
    {
        object.remove("items");
        object.insert("anyOf".to_owned(), json!([one, { "type": kind, "items": one }]));
    }
    let pattern = match object.get("format").and_then(Value::as_str) {
        Some("duration") => Some(DURATION),
        Some("backoff") => Some(BACKOFF),
        _ => None,
    };
    if let Some(pattern) = pattern {
        object.remove("format");
        object.insert("pattern".to_owned(), json!(pattern));
    } else {
        or_template(object);
    }
}

/// Lets a template stand where a number, a boolean, one of some words or a list of texts is wanted.
fn or_template(object: &mut Map<String, Value>) {
    let takes = object.get("type").and_then(Value::as_str);
    let is_list = Part(object).is_list_of_texts();
    if !matches!(takes, Some("integer" | "boolean")) && !object.contains_key("enum") && !is_list {
        return;
    }
    let mut strict = Map::new();
    for key in ["type", "format", "minimum", "maximum", "enum", "items"] {
        if let Some(value) = object.remove(key) {
            strict.insert(key.to_owned(), value);
        }
    }
    object.insert("anyOf".to_owned(), json!([strict, { "type": "string", "pattern": TEMPLATE }]));
}
