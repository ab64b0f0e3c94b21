//! Values of an imported file as what ContainerPilot took them for. What can't be one is noted and left out; nothing is
//! ever silently another.

use std::time::Duration;

use super::document::{Note, Value as Out};
use super::go::Span;
use super::json::{Entry, Node, Value};
use super::text::{Piece, Text};
use crate::config::duration;

/// Notes on one value or many.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Vec<Note>);

impl Notes {
    pub(super) fn say(&mut self, span: &Span, key: impl Into<String>, what: impl Into<String>) {
        self.add(span, key, what, false);
    }

    pub(super) fn lose(&mut self, span: &Span, key: impl Into<String>, what: impl Into<String>) {
        self.add(span, key, what, true);
    }

    pub(super) fn add(&mut self, span: &Span, key: impl Into<String>, what: impl Into<String>, lost: bool) {
        let note = Note { span: span.clone(), key: key.into(), what: what.into(), lost };
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }

    pub(super) fn take(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.0)
    }
}

/// A table of the file with what it is called in notes.
#[derive(Debug, Clone)]
pub(super) struct At<'n> {
    pub(super) node: &'n Node,
    pub(super) path: String,
}

/// A span of time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Time {
    pub(super) text: Text,
    /// How long it is where nothing is set.
    pub(super) sample: Option<Duration>,
}

impl Time {
    pub(super) fn of(time: Duration) -> Time {
        Time { text: Text::plain(duration::print(time)), sample: Some(time) }
    }

    pub(super) fn value(&self) -> Out {
        Out::Text(self.text.clone())
    }

    /// Its seconds without their unit, where it is whole ones.
    pub(super) fn seconds(&self) -> Option<Text> {
        if !self.text.is_template() {
            return self.sample.map(|time| Text::plain(time.as_secs().to_string()));
        }
        let mut text = self.text.clone();
        match text.0.last_mut() {
            Some(Piece::Plain(unit)) if unit.ends_with('s') => drop(unit.pop()),
            _ => return None,
        }
        text.0.retain(|piece| *piece != Piece::Plain(String::new()));
        Some(text)
    }
}

/// Yes or no.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Flag {
    Is(bool),
    /// What its template comes to.
    Template(Text),
}

impl Flag {
    /// Whether it is yes where nothing is set.
    pub(super) fn usual(&self) -> bool {
        match self {
            Flag::Is(value) => *value,
            Flag::Template(text) => ["true", "1", "t"].contains(&text.sample().to_lowercase().as_str()),
        }
    }

    /// One word for yes and one for no.
    pub(super) fn either(&self, yes: &str, no: &str) -> Out {
        let usual = if self.usual() { yes } else { no };
        match self {
            Flag::Is(_) => Out::text(usual),
            Flag::Template(text) => {
                let made = format!("{{{{ '{yes}' if flag | lower in ['true', '1', 't'] else '{no}' }}}}");
                Out::Text(Text::computed(&[("flag", text)], &made, usual))
            }
        }
    }

    /// As a key that is true or false has it.
    pub(super) fn value(&self) -> Out {
        match self {
            Flag::Is(value) => Out::Bool(*value),
            Flag::Template(_) => self.either("true", "false"),
        }
    }
}

/// What is said of a template where only one value can stand.
pub(super) fn settled(text: &Text) -> String {
    format!("is settled here as where nothing is set, `{}`; choose by --set", text.sample())
}

impl<'n> At<'n> {
    pub(super) fn new(node: &'n Node, path: impl Into<String>) -> At<'n> {
        At { node, path: path.into() }
    }

    /// A key that is there and not null. Below the file's own keys ContainerPilot reads it in any letters (mapstructure).
    pub(super) fn get(&self, key: &str) -> Option<&'n Entry> {
        let in_any_letters = || self.node.entries().iter().find(|entry| self.is(&entry.key, key));
        self.node.get(key).or_else(in_any_letters).filter(|entry| !entry.value.is_null())
    }

    fn is(&self, written: &str, key: &str) -> bool {
        written == key || !self.path.is_empty() && written.eq_ignore_ascii_case(key)
    }

    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes the keys that ContainerPilot doesn't know.
    pub(super) fn only(&self, known: &[&str], notes: &mut Notes) {
        if !matches!(self.node.value, Value::Object(_)) {
            let what = format!("is {}, not an object; left out", self.node.kind());
            notes.lose(&self.node.span, self.path.clone(), what);
        }
        for entry in self.node.entries() {
            if !known.iter().any(|known| self.is(&entry.key, known)) {
                let what = "ContainerPilot has no such key and refuses the file; left out";
                notes.lose(&entry.key_span, self.key(&entry.key), what);
            }
        }
    }

    pub(super) fn table(&self, key: &str) -> Option<At<'n>> {
        self.get(key).map(|entry| At::new(&entry.value, self.key(key)))
    }

    /// The elements of an array of tables, each called by its name.
    pub(super) fn tables(&self, key: &str, notes: &mut Notes) -> Vec<At<'n>> {
        let Some(entry) = self.get(key) else { return Vec::new() };
        let Value::List(elements) = &entry.value.value else {
            let what = format!("is {}, not an array; left out", entry.value.kind());
            notes.lose(&entry.value.span, self.key(key), what);
            return Vec::new();
        };
        let named = |(index, node): (usize, &'n Node)| {
            let name = At::new(node, key).get("name").and_then(|name| as_text(&name.value)).map(|name| name.sample());
            At::new(
                node,
                format!("{}[{}]", self.key(key), name.filter(|name| !name.is_empty()).unwrap_or(index.to_string())),
            )
        };
        // ContainerPilot leaves null elements out.
        elements.iter().filter(|node| !node.is_null()).enumerate().map(named).collect()
    }

    pub(super) fn text(&self, key: &str, notes: &mut Notes) -> Option<Text> {
        let entry = self.get(key)?;
        let text = as_text(&entry.value);
        if text.is_none() {
            notes.lose(&entry.value.span, self.key(key), format!("is {}, not a string; left out", entry.value.kind()));
        }
        text
    }

    /// A text that isn't empty.
    pub(super) fn some_text(&self, key: &str, notes: &mut Notes) -> Option<Text> {
        self.text(key, notes).filter(|text| text.as_plain() != Some(""))
    }

    pub(super) fn flag(&self, key: &str, notes: &mut Notes) -> Option<Flag> {
        let entry = self.get(key)?;
        match (&entry.value.value, as_text(&entry.value).map(|text| text.sample().to_lowercase())) {
            (Value::Bool(value), _) => Some(Flag::Is(*value)),
            (Value::Text(text), _) if text.is_template() => Some(Flag::Template(text.clone())),
            (_, Some(text)) if ["true", "1"].contains(&text.as_str()) => Some(Flag::Is(true)),
            (_, Some(text)) if ["false", "0", ""].contains(&text.as_str()) => Some(Flag::Is(false)),
            _ => {
                notes.lose(&entry.value.span, self.key(key), "is neither true nor false; left out");
                None
            }
        }
    }

    /// A whole number, or a template that comes to one.
    pub(super) fn whole(&self, key: &str, notes: &mut Notes) -> Option<Out> {
        let entry = self.get(key)?;
        let value = match &entry.value.value {
            Value::Number(text) => number(text).map(Out::Integer),
            Value::Bool(value) => Some(Out::Integer(i64::from(*value))),
            Value::Text(text) if text.is_template() => Some(Out::Text(text.clone())),
            Value::Text(text) => number(text.sample().trim()).map(Out::Integer),
            _ => None,
        };
        if value.is_none() {
            notes.lose(&entry.value.span, self.key(key), "isn't a whole number; left out");
        }
        value
    }

    /// Seconds, written as a number.
    pub(super) fn seconds(&self, key: &str, notes: &mut Notes) -> Option<Time> {
        let entry = self.get(key)?;
        match self.whole(key, notes)? {
            Out::Integer(seconds) => match u64::try_from(seconds) {
                Ok(seconds @ 1..=31_536_000) => Some(Time::of(Duration::from_secs(seconds))),
                _ => {
                    notes.lose(&entry.value.span, self.key(key), format!("can't be {seconds} seconds; left out"));
                    None
                }
            },
            Out::Text(text) => {
                let sample = text.sample().trim().parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
                Some(Time { text: text.trimmed().and("s"), sample })
            }
            _ => None,
        }
    }

    /// A duration as Go reads it, or bare seconds.
    pub(super) fn duration(&self, key: &str, notes: &mut Notes) -> Option<Time> {
        let entry = self.get(key)?;
        let text = self.some_text(key, notes)?;
        if !text.is_template() {
            let written = text.sample();
            return match go_duration(&written) {
                Some(time) if time.is_zero() => None,
                Some(time) if duration::parse(&written) == Ok(time) => {
                    Some(Time { text: Text::plain(written), sample: Some(time) })
                }
                Some(time) if time < Duration::from_secs(31_536_000) => Some(Time::of(time)),
                _ => {
                    notes.lose(&entry.value.span, self.key(key), format!("`{written}` isn't a duration; left out"));
                    None
                }
            };
        }
        let sample = text.sample();
        if sample.trim().parse::<u64>().is_ok() {
            return Some(Time { text: text.trimmed().and("s"), sample: go_duration(&sample) });
        }
        // A unit behind the template is always there.
        let ends_plain = matches!(text.0.last(), Some(Piece::Plain(_)));
        if !ends_plain {
            let what = "must carry its unit (`10s`): a bare number counted as seconds";
            notes.say(&entry.value.span, self.key(key), what);
        }
        Some(Time { sample: go_duration(&sample), text })
    }

    /// Strings, of which a single one needs no brackets.
    pub(super) fn strings(&self, key: &str, notes: &mut Notes) -> Option<Vec<Text>> {
        let entry = self.get(key)?;
        match &entry.value.value {
            Value::List(elements) => {
                let mut strings = Vec::new();
                for element in elements {
                    match as_text(element) {
                        Some(text) => strings.push(text),
                        None => notes.lose(&element.span, self.key(key), format!("holds {}; left out", element.kind())),
                    }
                }
                Some(strings)
            }
            _ => self.text(key, notes).map(|text| vec![text]),
        }
    }
}

/// A string, or what is written like one.
pub(super) fn as_text(node: &Node) -> Option<Text> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(text) => Some(Text::plain(match (number(text), text.parse::<f64>()) {
            (_, Ok(fraction)) if fraction.fract() != 0.0 => fraction.to_string(),
            (Some(whole), _) => whole.to_string(),
            (None, _) => text.clone(),
        })),
        Value::Bool(value) => Some(Text::plain(value.to_string())),
        Value::Null | Value::List(_) | Value::Object(_) => None,
    }
}

/// A whole number as JSON5 writes it; Go cuts a fraction off.
fn number(text: &str) -> Option<i64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return i64::from_str_radix(digits, 16).ok();
    }
    text.parse()
        .ok()
        .or_else(|| text.parse::<f64>().ok().filter(|number| number.abs() < 1e15).map(|number| number as i64))
}

/// A duration of Go's: `1m30s`, `1.5h`; a number alone is seconds.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).filter(|end| *end > 0)?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        total += amount * seconds;
        rest = &rest[unit..];
    }
    // To the microsecond: what is finer is only the fraction's own error.
    let micros = (total * 1e6).round();
    (text.len() > 1 && micros.is_finite() && micros < 1e15).then(|| Duration::from_micros(micros as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_as_go_reads_it() {
        for (text, millis) in
            [("10s", 10_000), ("5", 5_000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("500ms", 500), ("0", 0)]
        {
            assert_eq!(go_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "1x", "-5s", "1", "5 s", "..s", "9999999999999h"] {
            assert!(text == "1" || go_duration(text).is_none(), "{text}");
        }
    }
}
