//! A config as TOML that a person would have written, with each note as a comment where it belongs.

use super::document::{Document, Key, Note, Table, Value};

/// In the order of the key reference.
const ORDER: [&str; 15] = [
    "process",
    "stop",
    "hooks",
    "hooks.pre_start",
    "wait_for",
    "service",
    "health",
    "watch",
    "task",
    "coprocess",
    "catalog",
    "telemetry",
    "telemetry.sensor",
    "control",
    "log",
];
/// Where lines are broken.
const WIDTH: usize = 110;

/// The text. `line` tells a note's line in the source.
pub(super) fn toml(document: &Document, head: &str, line: &dyn Fn(&Note) -> usize) -> String {
    let mut writer = Writer { output: String::new(), line };
    writer.comment(head);
    for note in &document.notes {
        writer.note(note);
    }
    let mut tables: Vec<Table> = document.tables.clone();
    one_pre_start(&mut tables);
    for path in ORDER {
        for table in tables.iter().filter(|table| table.path == path) {
            writer.table(table);
        }
    }
    writer.output
}

/// A single `pre_start` that is always there stands in `[hooks]` like the others.
fn one_pre_start(tables: &mut Vec<Table>) {
    let is = |table: &Table| table.path == "hooks.pre_start";
    let (Some(at), 1) = (tables.iter().position(is), tables.iter().filter(|table| is(table)).count()) else { return };
    if tables[at].enabled.is_some() {
        return;
    }
    let Table { keys, notes, .. } = tables.remove(at);
    let notes = notes.into_iter().chain(keys.iter().flat_map(|key| key.notes.clone())).collect();
    let value = Value::Inline(keys.into_iter().map(|key| (key.name, key.value)).collect());
    let key = Key { name: "pre_start".to_owned(), value, notes };
    match tables.iter_mut().find(|table| table.path == "hooks") {
        Some(hooks) => hooks.keys.insert(0, key),
        None => tables.push(Table {
            path: "hooks",
            many: false,
            origin: 0,
            enabled: None,
            keys: vec![key],
            notes: Vec::new(),
        }),
    }
}

struct Writer<'w> {
    output: String,
    line: &'w dyn Fn(&Note) -> usize,
}

impl Writer<'_> {
    fn table(&mut self, table: &Table) {
        if table.keys.is_empty() && table.notes.is_empty() {
            return;
        }
        if !self.output.is_empty() {
            self.output.push('\n');
        }
        for note in &table.notes {
            self.note(note);
        }
        // What has nothing but notes is no table.
        if table.keys.is_empty() {
            return;
        }
        let brackets = if table.many { ("[[", "]]") } else { ("[", "]") };
        self.output.push_str(&format!("{}{}{}\n", brackets.0, table.path, brackets.1));
        if let Some(enabled) = &table.enabled {
            self.output.push_str(&format!("enabled = {}\n", quote(enabled)));
        }
        for key in &table.keys {
            for note in &key.notes {
                self.note(note);
            }
            self.key(&[&key.name], &key.value, table.enabled.is_some());
        }
    }

    /// A key, with those that it is below.
    fn key(&mut self, path: &[&str], value: &Value, lenient: bool) {
        let name = path.iter().map(|key| bare(key)).collect::<Vec<_>>().join(".");
        let line = format!("{name} = {}\n", one_line(value, lenient));
        match value {
            _ if line.chars().count() <= WIDTH => self.output.push_str(&line),
            Value::List(elements) => {
                self.output.push_str(&format!("{name} = [\n"));
                for element in elements {
                    self.output.push_str(&format!("    {},\n", one_line(element, lenient)));
                }
                self.output.push_str("]\n");
            }
            Value::Inline(pairs) => {
                for (key, value) in pairs {
                    self.key(&[path, &[key]].concat(), value, lenient);
                }
            }
            _ => self.output.push_str(&line),
        }
    }

    fn note(&mut self, note: &Note) {
        let lost = if note.lost { "not carried over: " } else { "" };
        self.comment(&format!("{lost}{} (line {}): {}", note.key, (self.line)(note), note.what));
    }

    /// A comment, with its lines broken.
    fn comment(&mut self, text: &str) {
        for paragraph in text.lines() {
            let mut line = String::from("#");
            for word in paragraph.split_whitespace() {
                if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
                    self.output.push_str(&line);
                    self.output.push('\n');
                    line = String::from("#");
                }
                line.push(' ');
                // A comment holds no control character (TOML 1.0).
                line.extend(word.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
            }
            self.output.push_str(&line);
            self.output.push('\n');
        }
    }
}

fn one_line(value: &Value, lenient: bool) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Text(_) | Value::Choice(..) => quote(&template(value, lenient)),
        Value::List(elements) => {
            format!("[{}]", elements.iter().map(|element| one_line(element, lenient)).collect::<Vec<_>>().join(", "))
        }
        Value::Inline(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{} = {}", bare(key), one_line(value, lenient))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

/// A key, in quotes if it needs them.
fn bare(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if plain { key.to_owned() } else { quote(key) }
}

/// A value as a text with templates.
fn template(value: &Value, lenient: bool) -> String {
    match value {
        Value::Text(text) => text.write(lenient),
        Value::Integer(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Choice(condition, yes, no) => {
            let mut output = format!("{{% if {condition} %}}{}", template(yes, lenient));
            let mut otherwise = &**no;
            while let Value::Choice(condition, yes, no) = otherwise {
                output.push_str(&format!("{{% elif {condition} %}}{}", template(yes, lenient)));
                otherwise = no;
            }
            let last = template(otherwise, lenient);
            if !last.is_empty() {
                output.push_str(&format!("{{% else %}}{last}"));
            }
            output + "{% endif %}"
        }
        Value::List(_) | Value::Inline(_) => String::new(),
    }
}

/// A string in the quotes that need the fewest escapes.
fn quote(text: &str) -> String {
    let control = text.chars().any(|c| c.is_control());
    if !control && text.contains(['"', '\\']) && !text.contains('\'') {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
