//! The schema as a list of sections and their keys, in the order they are written down: what the reference and the book
//! of keys are made of.

use serde_json::Value;

use super::Part;

/// A table of the config.
pub(super) struct Section<'s> {
    /// Its keys from the top.
    pub(super) path: Vec<&'s str>,
    /// Whether there may be several, or what it stands in may.
    pub(super) several: bool,
    /// Whether it itself is one of several: `[[so]]`.
    pub(super) listed: bool,
    pub(super) description: &'s str,
    pub(super) keys: Vec<Key<'s>>,
}

/// A key that is no table of its own.
pub(super) struct Key<'s> {
    pub(super) name: &'s str,
    pub(super) meaning: String,
    pub(super) reason: Option<String>,
    pub(super) fallback: Fallback<'s>,
    pub(super) example: Option<&'s Value>,
    /// The words it takes, if it is a choice.
    pub(super) choice: Option<Vec<&'s str>>,
}

/// What holds when a key isn't there.
pub(super) enum Fallback<'s> {
    /// It must be there.
    Required,
    /// This value.
    Value(&'s Value),
    /// No value, but what these words say.
    Words(&'s str),
    /// Nothing.
    Nothing,
}

impl Section<'_> {
    /// As its header is written, without brackets.
    pub(super) fn name(&self) -> String {
        self.path.join(".")
    }

    /// As its header is written.
    pub(super) fn header(&self) -> String {
        if self.listed { format!("[[{}]]", self.name()) } else { format!("[{}]", self.name()) }
    }
}

/// Every section below the top, each before those inside it.
pub(super) fn sections(schema: &Value) -> Vec<Section<'_>> {
    let mut sections = Vec::new();
    if let Some(top) = Part::of(schema) {
        for (name, part) in top.in_order() {
            section(vec![name], part, false, &mut sections);
        }
    }
    sections
}

fn section<'s>(path: Vec<&'s str>, part: Part<'s>, inside_several: bool, sections: &mut Vec<Section<'s>>) {
    let listed = part.is_list_of_sections();
    let inner = part.items().filter(|_| listed).unwrap_or(part);
    let several = listed || inside_several;
    let description = part.text("description").or(inner.text("description")).unwrap_or_default();
    let tables = |part: Part<'_>| part.is_section() || part.is_list_of_sections();
    let keys = inner.in_order().filter(|(_, part)| !tables(*part)).map(|(name, part)| key(name, part, inner)).collect();
    sections.push(Section { path: path.clone(), several, listed, description, keys });
    for (name, part) in inner.in_order().filter(|(_, part)| tables(*part)) {
        section([path.as_slice(), &[name]].concat(), part, several, sections);
    }
}

fn key<'s>(name: &'s str, part: Part<'s>, table: Part<'s>) -> Key<'s> {
    let description = part.text("description").unwrap_or_default();
    let (meaning, reason) = match description.split_once("\n\n") {
        Some((meaning, reason)) => (one_line(meaning), Some(one_line(reason))),
        None => (one_line(description), None),
    };
    let fallback = match (part.0.get("default"), part.text("x-default")) {
        _ if table.requires(name) => Fallback::Required,
        (_, Some(words)) => Fallback::Words(words),
        (Some(value), _) if !is_empty(value) => Fallback::Value(value),
        _ => Fallback::Nothing,
    };
    Key { name, meaning, reason, fallback, example: part.example(), choice: part.choice() }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
