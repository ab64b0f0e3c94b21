//! JSON5 as ContainerPilot 3 read it (and JSON, which is a part of it), with the places in the source and with the
//! templates in its strings.

use std::collections::BTreeMap;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions};

use super::branches::Flat;
use super::go::Span;
use super::text::{Piece, Template, Text};
use crate::config::STRICT;

/// A value and where it stands in the source.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) span: Span,
}

/// What a file can hold.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(Text),
    List(Vec<Node>),
    Object(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) value: Node,
}

/// Why a text isn't JSON, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JsonError {
    pub(super) span: Span,
    pub(super) what: String,
    pub(super) hint: Option<&'static str>,
    /// How far it could be read.
    pub(super) at: usize,
}

const JSON5: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_loose_object_property_names: true,
    allow_trailing_commas: true,
    allow_missing_commas: false,
    allow_single_quoted_strings: true,
    allow_hexadecimal_numbers: true,
    allow_unary_plus_numbers: true,
    allow_bare_decimal_point_numbers: true,
    allow_non_finite_numbers: true,
    allow_extended_string_escapes: true,
};

/// Reads a text; tells the keys that are there twice, of which the last counts.
pub(super) fn read(flat: &Flat, doubles: &mut Vec<(String, Span)>) -> Result<Node, JsonError> {
    let broken = broken_string(&flat.text);
    let error = |start: usize, end: usize, what: String, hint| JsonError {
        span: flat.span(start..end),
        what,
        hint,
        at: flat.source(start),
    };
    let parsed = jsonc_parser::parse_to_ast(&flat.text, &CollectOptions::default(), &JSON5);
    if let Some(start) = broken {
        use jsonc_parser::errors::ParseErrorKind::{UnterminatedArray, UnterminatedObject};
        // What is wrong before it is the cause; a bracket is open because of it.
        if let Err(failed) = &parsed
            && !matches!(failed.kind(), UnterminatedArray | UnterminatedObject)
            && failed.range().start < start
        {
            let (start, end, what, hint) = explain(&flat.text, failed);
            return Err(error(start, end, what, hint));
        }
        let hint = Some("close it with a quote in the same line");
        return Err(error(start, start + 1, "a string isn't closed in its line".to_owned(), hint));
    }
    match parsed {
        Ok(parsed) => match parsed.value {
            Some(value) => {
                let mut reader = Reader { flat, doubles, too_many: None };
                let root = reader.node(&value);
                match reader.too_many {
                    Some(at) => {
                        let what = format!("there are more than {MOST_ELEMENTS} elements in this; that isn't a config");
                        Err(error(at, at + 1, what, None))
                    }
                    None => Ok(root),
                }
            }
            None => Err(error(0, 0, "there is nothing in it".to_owned(), None)),
        },
        Err(failed) => {
            let (start, end, what, hint) = explain(&flat.text, &failed);
            Err(error(start, end, what, hint))
        }
    }
}

/// Whether a text is JSON without what JSON5 allows.
pub(super) fn strict(flat: &Flat) -> Result<(), JsonError> {
    match jsonc_parser::parse_to_ast(&flat.text, &CollectOptions::default(), &STRICT) {
        Ok(_) => Ok(()),
        Err(failed) => {
            let (start, end, what, hint) = explain(&flat.text, &failed);
            Err(JsonError { span: flat.span(start..end), what, hint, at: flat.source(start) })
        }
    }
}

type Failure = (usize, usize, String, Option<&'static str>);

fn explain(text: &str, error: &jsonc_parser::errors::ParseError) -> Failure {
    let range = error.range();
    let mut what = error.kind().to_string();
    if let Some(first) = what.get_mut(0..1) {
        first.make_ascii_lowercase();
    }
    let there = &text[range.start.min(text.len())..];
    let hint = if there.starts_with("{%") || there.starts_with("{{") {
        Some("this looks like a template of another program; render it first")
    } else if text[..range.start.min(text.len())].trim_end().ends_with(':') && there.starts_with([',', '}', ']']) {
        Some("there is no value: is what its template names set?")
    } else if what.contains("comma") {
        Some("add a comma between the two")
    } else {
        None
    };
    (range.start, range.end, what, hint)
}

/// Where a string begins that isn't closed in its line.
fn broken_string(text: &str) -> Option<usize> {
    let (mut quote, mut escaped, mut last) = (None, false, ' ');
    let (mut line, mut block) = (false, false);
    for (at, c) in text.char_indices() {
        match quote {
            Some((start, _)) if c == '\n' && !escaped => return Some(start),
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some((_, open)) if c == open => quote = None,
            Some(_) => {}
            None if line => line = c != '\n',
            None if block => block = !(last == '*' && c == '/'),
            None => match c {
                '"' | '\'' => quote = Some((at, c)),
                '/' if last == '/' => line = true,
                '*' if last == '/' => block = true,
                _ => {}
            },
        }
        last = if quote.is_none() { c } else { ' ' };
    }
    None
}

/// Of an array: who writes a config has a dozen jobs.
const MOST_ELEMENTS: usize = 1_000;

struct Reader<'f> {
    flat: &'f Flat,
    doubles: &'f mut Vec<(String, Span)>,
    /// Where an array begins that has more than [`MOST_ELEMENTS`].
    too_many: Option<usize>,
}

impl Reader<'_> {
    fn node(&mut self, value: &ast::Value<'_>) -> Node {
        let range = value.range();
        let value = match value {
            ast::Value::StringLit(text) => Value::Text(text_of(&text.value, &self.flat.holes)),
            ast::Value::NumberLit(number) => Value::Number(number.value.to_owned()),
            ast::Value::BooleanLit(boolean) => Value::Bool(boolean.value),
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::Array(array) => {
                if array.elements.len() > MOST_ELEMENTS {
                    self.too_many.get_or_insert(range.start);
                }
                Value::List(array.elements.iter().take(MOST_ELEMENTS).map(|element| self.node(element)).collect())
            }
            ast::Value::Object(object) => Value::Object(self.entries(object)),
        };
        Node { value, span: self.flat.span(range.start..range.end) }
    }

    fn entries(&mut self, object: &ast::Object<'_>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for property in &object.properties {
            let range = match &property.name {
                ast::ObjectPropName::String(name) => name.range,
                ast::ObjectPropName::Word(word) => word.range,
            };
            let key_span = self.flat.span(range.start..range.end);
            let key = text_of(property.name.as_str(), &self.flat.holes).sample();
            if let Some(before) = entries.iter().position(|entry| entry.key == key) {
                self.doubles.push((key.clone(), key_span.clone()));
                entries.remove(before);
            }
            let value = self.node(&property.value);
            entries.push(Entry { key, key_span, value });
        }
        entries
    }
}

/// A string's text with the templates that its characters stand for.
fn text_of(text: &str, holes: &BTreeMap<u32, Template>) -> Text {
    let mut parts = Text::default();
    let mut plain = String::new();
    for c in text.chars() {
        match holes.get(&u32::from(c)) {
            Some(template) => {
                parts.push(Piece::Plain(std::mem::take(&mut plain)));
                parts.push(Piece::Template(template.clone()));
            }
            None => plain.push(c),
        }
    }
    parts.push(Piece::Plain(plain));
    parts
}

impl Node {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Object(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The words for what it is.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "an array",
            Value::Object(_) => "an object",
        }
    }
}
