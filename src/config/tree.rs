//! A document as a tree of values that know where they stand, the same for TOML and JSON, and serde's view of it.
//! It knows nothing of what the keys mean.

use std::fmt;
use std::ops::Range;

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{self, IntoDeserializer, Visitor};

/// Where something stands in the source, in bytes.
pub(crate) type Span = Range<usize>;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
    /// Whether it was a template: then its text may stand for a number, a boolean or a list of texts.
    pub(crate) templated: bool,
    /// Whether a mistake in it has been reported: it is left out from then on, and nothing is said about it twice.
    pub(crate) broken: bool,
}

/// What a document can hold.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(String),
    Array(Vec<Node>),
    Table(Table),
    /// What no key takes: a date, `null`, a number that is too large; in words.
    Other(&'static str),
}

/// Keys and values in the order of the parser.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
    /// Keys that are very likely meant by misspelt ones: asking for them would be a second report of one mistake.
    pub(crate) meant: Vec<String>,
}

/// One key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn new(value: Value, span: Span) -> Node {
        Node { value, span, templated: false, broken: false }
    }

    /// The words for what it is.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "a number",
            Value::Float(_) => "a number with a fraction",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
            Value::Other(kind) => kind,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Makes a table that stands at this path an array of that one.
    pub(crate) fn lists(&mut self, path: &[&str]) {
        let Value::Table(table) = &mut self.value else { return };
        match path {
            [] => self.value = Value::Array(vec![self.clone()]),
            [key, below @ ..] => {
                table.entries.iter_mut().filter(|entry| entry.key == *key).for_each(|entry| entry.value.lists(below));
            }
        }
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Table(table) => table.entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

/// A place in the tree where a value is or could be. Follows what the user wrote, so that a mistake found long after
/// parsing is still shown where it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'t> {
    node: Option<&'t Node>,
    /// Where its key stands, or what stands for it: the nearest key above.
    key: &'t Span,
}

impl<'t> Place<'t> {
    pub(crate) fn root(node: &'t Node) -> Place<'t> {
        Place { node: Some(node), key: &node.span }
    }

    /// The place of a key in this table.
    pub(crate) fn key(self, name: &str) -> Place<'t> {
        match self.node.and_then(|node| node.entry(name)) {
            Some(entry) => Place { node: Some(&entry.value), key: &entry.key_span },
            None => Place { node: None, key: self.key },
        }
    }

    /// The place of an element of this array.
    pub(crate) fn index(self, index: usize) -> Place<'t> {
        let node = match self.node.map(|node| &node.value) {
            Some(Value::Array(elements)) => elements.get(index),
            _ => None,
        };
        Place { node, key: node.map_or(self.key, |node| &node.span) }
    }

    /// Whether the user wrote something here, or most likely meant to.
    pub(crate) fn has(self, key: &str) -> bool {
        match self.node.map(|node| &node.value) {
            Some(Value::Table(table)) => {
                table.entries.iter().any(|entry| entry.key == key) || table.meant.iter().any(|meant| meant == key)
            }
            _ => false,
        }
    }

    /// Whether there is a value that has been reported as wrong.
    pub(crate) fn is_broken(self) -> bool {
        self.node.is_some_and(|node| node.broken)
    }

    /// The keys of this table that the user wrote, with their places.
    pub(crate) fn entries(self) -> impl Iterator<Item = (&'t str, Place<'t>)> {
        let entries = match self.node.map(|node| &node.value) {
            Some(Value::Table(table)) => table.entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|entry| (entry.key.as_str(), Place { node: Some(&entry.value), key: &entry.key_span }))
    }

    /// Where the value stands; where it is missing, the table it is missing from.
    pub(crate) fn span(self) -> Span {
        self.node.map_or(self.key, |node| &node.span).clone()
    }

    /// Where the key stands.
    pub(crate) fn key_span(self) -> Span {
        self.key.clone()
    }
}

/// Why serde couldn't read a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeError {
    pub(crate) message: String,
    /// The innermost value that was looked at.
    pub(crate) span: Option<Span>,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TreeError {}

impl de::Error for TreeError {
    fn custom<T: fmt::Display>(message: T) -> TreeError {
        TreeError { message: message.to_string(), span: None }
    }
}

impl<'t> IntoDeserializer<'t, TreeError> for &'t Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'t> Node {
    fn visit<V: Visitor<'t>>(&'t self, visitor: V) -> Result<V::Value, TreeError> {
        match &self.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            // Arguments, variables and paths all end up as C strings.
            Value::String(value) if value.contains('\0') => Err(de::Error::custom("a NUL character")),
            Value::String(value) => visitor.visit_borrowed_str(value),
            Value::Array(elements) => {
                SeqDeserializer::new(elements.iter().filter(|node| !node.broken)).deserialize_seq_into(visitor)
            }
            Value::Table(table) => {
                let sound = table.entries.iter().filter(|entry| !entry.value.broken);
                let pairs = sound.map(|entry| (StrDeserializer::new(entry.key.as_str()), &entry.value));
                visitor.visit_map(MapDeserializer::new(pairs))
            }
            Value::Other(kind) => Err(de::Error::custom(format_args!("unexpected {kind}"))),
        }
    }

    fn here<T>(&self, result: Result<T, TreeError>) -> Result<T, TreeError> {
        result.map_err(|error| TreeError { span: error.span.or_else(|| Some(self.span.clone())), ..error })
    }

    /// What a templated text stands for where a number is wanted.
    pub(crate) fn templated_integer(&self) -> Option<i64> {
        self.as_str().filter(|_| self.templated).and_then(|text| text.trim().parse().ok())
    }

    /// What a templated text stands for where a boolean is wanted.
    pub(crate) fn templated_bool(&self) -> Option<bool> {
        self.as_str().filter(|_| self.templated).and_then(|text| text.trim().parse().ok())
    }

    /// What a templated text stands for where a list of texts is wanted: what is between its commas.
    pub(crate) fn templated_list(&self) -> Option<Vec<Node>> {
        let text = self.as_str().filter(|_| self.templated)?;
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let element = |part: &str| Node {
            value: Value::String(part.to_owned()),
            span: self.span.clone(),
            templated: true,
            broken: false,
        };
        Some(parts.map(element).collect())
    }
}

/// `SeqDeserializer::deserialize_any` by a name that reads.
trait IntoSeq<'t> {
    fn deserialize_seq_into<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, TreeError>;
}

impl<'t, I: Iterator<Item = &'t Node>> IntoSeq<'t> for SeqDeserializer<I, TreeError> {
    fn deserialize_seq_into<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, TreeError> {
        visitor.visit_seq(self)
    }
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
            match self.templated_integer() {
                Some(number) => self.here(visitor.visit_i64(number)),
                None => self.here(self.visit(visitor)),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = TreeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        self.here(self.visit(visitor))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        match self.templated_bool() {
            Some(value) => self.here(visitor.visit_bool(value)),
            None => self.here(self.visit(visitor)),
        }
    }

    integers! { deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_i64 }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TreeError> {
        // A key that is there has a value: there is no null to stand for "not set".
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, TreeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TreeError> {
        match &self.value {
            Value::String(text) => self.here(visitor.visit_enum(StrDeserializer::new(text.as_str()))),
            _ => self.here(Err(de::Error::custom(format_args!("unexpected {}", self.kind())))),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}
