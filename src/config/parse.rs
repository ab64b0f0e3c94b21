//! Text to tree, for TOML and for JSON. It knows nothing of what the keys mean.

use std::collections::BTreeMap;
use std::path::Path;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions};
use toml::de::{DeTable, DeValue};

use super::report::{MOST_SHOWN, Problem};
use super::tree::{Entry, Node, Span, Table, Value};

/// The language a document is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// TOML.
    Toml,
    /// JSON, strict: no comments, no trailing commas.
    Json,
}

impl Syntax {
    /// A key and its value as this language writes them.
    pub(crate) fn pair(self, key: &str, value: &str) -> String {
        match self {
            Syntax::Toml => format!("{key} = {value}"),
            Syntax::Json => format!("\"{key}\": {value}"),
        }
    }

    /// By the file's extension; where that says nothing, JSON starts with a brace and TOML can't.
    pub fn of(file: &Path, text: &str) -> Syntax {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Syntax::Json,
            Some("toml") => Syntax::Toml,
            _ if text.trim_start().starts_with('{') => Syntax::Json,
            _ => Syntax::Toml,
        }
    }
}

/// What could be read of a document.
pub(crate) struct ParsedFile {
    pub(crate) root: Node,
    /// Whether that is all there is; otherwise what seems to be missing may just not have been understood. A key that
    /// is there twice is a mistake, but leaves nothing unread.
    pub(crate) whole: bool,
    /// Up to where what was read is what was meant: a bracket that isn't closed swallows what follows.
    pub(crate) sound_until: usize,
}

/// Reads a document as far as it can be read; of JSON, nothing is after the first error.
pub(crate) fn parse(text: &str, syntax: Syntax, problems: &mut Vec<Problem>) -> ParsedFile {
    match syntax {
        Syntax::Toml => parse_toml(text, problems),
        Syntax::Json => parse_json(text, problems),
    }
}

fn parse_toml(text: &str, problems: &mut Vec<Problem>) -> ParsedFile {
    // No TOML begins so.
    if let Some(start) = text.find(|c: char| !c.is_whitespace()).filter(|start| text[*start..].starts_with('{')) {
        let problem = Problem::error(start..start + 1, "this isn't TOML: it begins as JSON does");
        problems.push(problem.hint("give the file a name that ends in `.json`"));
        return nothing();
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    let root = Node::new(Value::Table(toml_table(document.into_inner())), 0..0);
    let whole = errors.iter().all(is_duplicate);
    let mut errors: Vec<(Span, toml::de::Error)> =
        errors.into_iter().map(|error| (error.span().unwrap_or(0..0), error)).collect();
    errors.sort_by_key(|(span, _)| span.start);
    let unclosed = errors.iter().any(|(_, error)| is_unclosed(error));
    let mut sound_until = usize::MAX;
    let lines = Lines::of(text);
    let mut last_line = None;
    for (span, error) in errors {
        if span.start >= sound_until || problems.len() >= MOST_SHOWN {
            break;
        }
        // The parser goes on in the middle of a line; what it finds there are echoes.
        let line = lines.line(span.start);
        if last_line == Some(line) {
            continue;
        }
        last_line = Some(line);
        if unclosed && !is_duplicate(&error) {
            sound_until = span.start;
        }
        let line = text.lines().nth(line).unwrap_or_default();
        let bare = bare_word(line).filter(|_| error.message().starts_with("invalid "));
        let problem = match bare {
            // The parser takes it for what its first letter could begin: `nan`, `inf`, `true`, `false`.
            Some(word) => Problem::error(span, format!("this isn't TOML: `{word}` is text without quotes"))
                .hint(format!("write `{}`", in_quotes(word))),
            None => {
                let message = error.message().trim_end_matches(", expected literal string");
                Problem::error(span, format!("this isn't TOML: {message}")).maybe_hint(toml_hint(&error, line))
            }
        };
        problems.push(problem);
    }
    ParsedFile { root, whole, sound_until }
}

/// Where the lines of a text end.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(text: &str) -> Lines {
        Lines(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The line of an offset, from 0.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset)
    }
}

/// Whether what follows an error is taken for a part of something else.
fn is_unclosed(error: &toml::de::Error) -> bool {
    error.message().contains("unclosed")
}

fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message().contains("duplicate key")
}

/// The value of a line, if that is one word that begins with a letter.
fn bare_word(line: &str) -> Option<&str> {
    let (_, value) = line.split_once('=')?;
    let word = value.trim().split([' ', '#', ',', ']', '}']).next()?;
    let is_word = word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:@".contains(c));
    Some(word).filter(|_| is_word)
}

/// Whether a text begins as TOML does: with a comment, a table or a key. An array of JSON's has no letter there.
fn looks_like_toml(text: &str) -> bool {
    let begins = |c: char| c == '#' || c.is_ascii_alphabetic();
    text.trim_start().trim_start_matches('[').starts_with(begins)
}

/// What a bare word was meant to be.
fn in_quotes(word: &str) -> String {
    match word.to_ascii_lowercase().as_str() {
        truth @ ("true" | "false") => truth.to_owned(),
        _ => format!("\"{word}\""),
    }
}

fn toml_hint(error: &toml::de::Error, line: &str) -> Option<String> {
    let hint = match error.message() {
        _ if line.contains("= {{") || line.contains("={{") => "a template stands in quotes: `\"{{ env.NAME }}\"`",
        _ if is_duplicate(error) => "keep one of the two; `[[...]]` is for several of a kind",
        message if message.contains("string values must be quoted") => "put it in quotes",
        message if message.contains("missing comma") => "add a comma here, or the closing bracket before",
        message if message.contains("key with no value") => "write `key = value`",
        message if message.contains("invalid basic string") => "close it with a quote",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn toml_table(table: DeTable<'_>) -> Table {
    let entries = table
        .into_iter()
        .map(|(key, value)| Entry {
            key_span: key.span(),
            key: key.into_inner().into_owned(),
            value: toml_value(value.span(), value.into_inner()),
        })
        .collect();
    Table { entries, meant: Vec::new() }
}

fn toml_value(span: Span, value: DeValue<'_>) -> Node {
    let value = match value {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number that is too large"),
        },
        DeValue::Float(float) => match float.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::Other("a number that is too large"),
        },
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(elements) => {
            Value::Array(elements.into_iter().map(|element| toml_value(element.span(), element.into_inner())).collect())
        }
        DeValue::Table(table) => Value::Table(toml_table(table)),
    };
    Node::new(value, span)
}

/// JSON, and nothing that others allow in it.
pub(crate) const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Of a document that couldn't be read at all.
fn nothing() -> ParsedFile {
    ParsedFile { root: Node::new(Value::Table(Table::default()), 0..0), whole: false, sound_until: 0 }
}

fn parse_json(text: &str, problems: &mut Vec<Problem>) -> ParsedFile {
    match jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &STRICT) {
        Ok(result) => match result.value {
            Some(value) => ParsedFile { root: json_value(&value, problems), whole: true, sound_until: usize::MAX },
            None => {
                problems
                    .push(Problem::error(0..0, "this isn't JSON: there is nothing in it").hint("write at least `{}`"));
                nothing()
            }
        },
        Err(error) => {
            let range = error.range();
            let mut what = error.kind().to_string();
            // Small letters, as everywhere else.
            if let Some(first) = what.get_mut(0..1) {
                first.make_ascii_lowercase();
            }
            let hint = looks_like_toml(text).then(|| "give the file a name that ends in `.toml`".to_owned());
            let problem = Problem::error(range.start..range.end, format!("this isn't JSON: {what}"));
            problems.push(problem.maybe_hint(hint));
            nothing()
        }
    }
}

fn json_value(value: &ast::Value<'_>, problems: &mut Vec<Problem>) -> Node {
    let range = value.range();
    let value = match value {
        ast::Value::StringLit(text) => Value::String(text.value.to_string()),
        ast::Value::NumberLit(number) => json_number(number.value),
        ast::Value::BooleanLit(boolean) => Value::Bool(boolean.value),
        ast::Value::NullKeyword(_) => Value::Other("null"),
        ast::Value::Array(array) => {
            Value::Array(array.elements.iter().map(|element| json_value(element, problems)).collect())
        }
        ast::Value::Object(object) => Value::Table(json_table(object, problems)),
    };
    Node::new(value, range.start..range.end)
}

fn json_number(text: &str) -> Value {
    if let Ok(number) = text.parse() {
        return Value::Integer(number);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && text.contains(['.', 'e', 'E']) => Value::Float(number),
        _ => Value::Other("a number that is too large"),
    }
}

fn json_table(object: &ast::Object<'_>, problems: &mut Vec<Problem>) -> Table {
    let mut table = Table::default();
    let mut seen = BTreeMap::new();
    for property in &object.properties {
        let range = match &property.name {
            ast::ObjectPropName::String(name) => name.range,
            ast::ObjectPropName::Word(word) => word.range,
        };
        let key_span = range.start..range.end;
        let key = property.name.as_str();
        if let Some(first) = seen.insert(key, key_span.clone()) {
            let problem = Problem::error(key_span, format!("`{key}` is there twice"));
            problems.push(problem.other(first.clone(), "first here").hint("keep one of the two"));
            seen.insert(key, first);
            continue;
        }
        let value = json_value(&property.value, problems);
        table.entries.push(Entry { key: key.to_owned(), key_span, value });
    }
    table
}
