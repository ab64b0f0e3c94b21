//! What comes out of an import, before it is text: tables with keys, each with the notes that belong there.

use super::go::Span;
use super::text::Text;

/// Something to know about what was imported.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Note {
    /// Where in the source.
    pub(super) span: Span,
    /// The key it is about, as a path.
    pub(super) key: String,
    pub(super) what: String,
    /// Whether the config does less than before.
    pub(super) lost: bool,
}

/// A config.
#[derive(Debug, Clone, Default)]
pub(super) struct Document {
    pub(super) tables: Vec<Table>,
    /// What concerns no table.
    pub(super) notes: Vec<Note>,
}

/// `[path]`, or one of several `[[path]]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) path: &'static str,
    pub(super) many: bool,
    /// What tells it from others of its path: where it comes from.
    pub(super) origin: usize,
    /// When it is there; always without one.
    pub(super) enabled: Option<String>,
    pub(super) keys: Vec<Key>,
    pub(super) notes: Vec<Note>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) value: Value,
    pub(super) notes: Vec<Note>,
}

/// What a key can hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(Text),
    Integer(i64),
    Bool(bool),
    List(Vec<Value>),
    Inline(Vec<(String, Value)>),
    /// One value where a condition holds, another where it doesn't; both are texts, numbers or booleans.
    Choice(String, Box<Value>, Box<Value>),
}

impl Value {
    pub(super) fn text(text: impl Into<String>) -> Value {
        Value::Text(Text::plain(text))
    }

    pub(super) fn words(words: &[Text]) -> Value {
        Value::List(words.iter().cloned().map(Value::Text).collect())
    }

    pub(super) fn is_scalar(&self) -> bool {
        matches!(self, Value::Text(_) | Value::Integer(_) | Value::Bool(_) | Value::Choice(..))
    }
}

impl Table {
    pub(super) fn set(&mut self, name: &str, value: Value) -> &mut Key {
        if let Some(at) = self.keys.iter().position(|key| key.name == name) {
            self.keys[at].value = value;
            return &mut self.keys[at];
        }
        self.keys.push(Key { name: name.to_owned(), value, notes: Vec::new() });
        let last = self.keys.len() - 1;
        &mut self.keys[last]
    }

    pub(super) fn maybe(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }
}

impl Document {
    /// The one table of a path; made when it isn't there.
    pub(super) fn one(&mut self, path: &'static str) -> &mut Table {
        if let Some(at) = self.tables.iter().position(|table| table.path == path && !table.many) {
            return &mut self.tables[at];
        }
        self.add(path, false, 0)
    }

    /// One more of a path.
    pub(super) fn another(&mut self, path: &'static str, origin: usize) -> &mut Table {
        self.add(path, true, origin)
    }

    fn add(&mut self, path: &'static str, many: bool, origin: usize) -> &mut Table {
        self.tables.push(Table { path, many, origin, enabled: None, keys: Vec::new(), notes: Vec::new() });
        let last = self.tables.len() - 1;
        &mut self.tables[last]
    }
}
