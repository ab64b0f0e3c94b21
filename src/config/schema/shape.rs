//! Every mistake of shape in a document at once: unknown keys, wrong types, unreadable values. serde stops at the
//! first, so this runs when serde has refused. What is wrong is marked broken, so that the rest can still be read and
//! judged.

use super::command_line::words;
use super::{Part, tree};
use crate::config::format::check;
use crate::config::parse::Syntax;
use crate::config::planned;
use crate::config::report::Problem;
use crate::config::suggest::nearest;
use crate::config::tree::{Node, Table, Value};

/// Compares a document with the schema. Templated values that stand for numbers, booleans and lists become those.
pub(crate) fn check_shape(root: &mut Node, syntax: Syntax, problems: &mut Vec<Problem>) {
    let schema = tree();
    let Some(top) = Part::of(&schema) else { return };
    let mut walk = Walk { top, syntax, path: Vec::new(), in_array: false, problems };
    walk.node(root, top);
}

struct Walk<'s, 'p> {
    top: Part<'s>,
    syntax: Syntax,
    path: Vec<String>,
    /// Whether this is an element of what the path leads to.
    in_array: bool,
    problems: &'p mut Vec<Problem>,
}

impl Walk<'_, '_> {
    /// The keys above the last, as `later` names sections.
    fn section(&self) -> String {
        self.path[..self.path.len().saturating_sub(1)].join(".")
    }

    /// What the value is called in messages.
    fn name(&self) -> &str {
        self.path.last().map_or("the config", String::as_str)
    }

    /// The subject of a message.
    fn subject(&self) -> String {
        match self.path.last() {
            Some(name) if self.in_array => format!("an element of `{name}`"),
            Some(name) => format!("`{name}`"),
            None => "the config".to_owned(),
        }
    }

    fn wrong(&mut self, node: &mut Node, problem: Problem) {
        node.broken = true;
        self.problems.push(problem);
    }

    fn node(&mut self, node: &mut Node, part: Part<'_>) {
        if node.broken {
            return;
        }
        if part.takes("integer")
            && let Some(number) = node.templated_integer()
        {
            node.value = Value::Integer(number);
        } else if part.takes("boolean")
            && let Some(value) = node.templated_bool()
        {
            node.value = Value::Bool(value);
        } else if part.is_list_of_texts()
            && let Some(elements) = node.templated_list()
        {
            node.value = Value::Array(elements);
        }
        match &mut node.value {
            Value::Table(table) if part.takes("object") => self.table(table, part),
            // A command in a table's place.
            Value::Array(elements)
                if part.may_stand_alone() && elements.iter().any(|e| matches!(e.value, Value::String(_))) =>
            {
                self.type_mistake(node, part)
            }
            Value::Array(elements) if part.takes("array") => {
                let outer = std::mem::replace(&mut self.in_array, true);
                for element in elements.iter_mut() {
                    if let Some(items) = part.items() {
                        self.node(element, items);
                    }
                }
                self.in_array = outer;
                // The elements that are left would be taken for all there are.
                if elements.iter().any(|element| element.broken) {
                    node.broken = true;
                } else if part.text("format") == Some("command") {
                    self.command(node);
                }
            }
            Value::String(_) if part.takes("string") => self.text(node, part),
            Value::Integer(number) if part.takes("integer") => {
                let number = *number;
                self.number(node, number, part);
            }
            Value::Bool(_) if part.takes("boolean") => {}
            Value::Float(_) | Value::Integer(_) if part.takes("number") => {}
            _ => self.type_mistake(node, part),
        }
    }

    fn table(&mut self, table: &mut Table, part: Part<'_>) {
        for index in 0..table.entries.len() {
            let key = table.entries[index].key.clone();
            self.path.push(key.clone());
            let outer = std::mem::replace(&mut self.in_array, false);
            match part.property(&key).or(part.any_property()) {
                Some(property) => self.node(&mut table.entries[index].value, property),
                None => self.unknown_key(table, index, &key, part),
            }
            self.in_array = outer;
            self.path.pop();
        }
    }

    fn unknown_key(&mut self, table: &mut Table, index: usize, key: &str, part: Part<'_>) {
        let span = table.entries[index].key_span.clone();
        table.entries[index].value.broken = true;
        if planned::key(&self.section(), key) {
            let problem = Problem::error(span, format!("`{key}` is not in this version"));
            self.problems.push(problem.label("comes later").hint("leave it out"));
            return;
        }
        let problem = Problem::error(span, format!("unknown key `{key}`"));
        let problem = if key == "enabled" {
            problem.label("not a key here").hint("`enabled` is for tables in double brackets")
        } else if let Some(home) = self.home_of(key, part).filter(|_| !is_plural(key, part)) {
            problem.label("not a key here").hint(format!("`{key}` belongs in {home}"))
        } else if let Some((near, _)) = near_property(key, part) {
            let free = !table.entries.iter().any(|entry| entry.key == near);
            if free {
                table.meant.push(near.to_owned());
            }
            problem
                .label(if free { "not a key here" } else { "not a key here, and the right one is there too" })
                .hint(format!("did you mean `{near}`?"))
        } else {
            let mut known: Vec<&str> = part.properties().map(|(key, _)| key).collect();
            known.sort_unstable();
            problem.label("not a key here").hint(format!("known are {}", list(&known)))
        };
        self.problems.push(problem);
    }

    /// The sections that have this key, as their headers are written: one inside this one, and the first at the top.
    fn home_of(&self, key: &str, part: Part<'_>) -> Option<String> {
        // The key itself is the path's last part.
        let outside = self.path.split_last().map(|(_, outside)| outside).filter(|outside| !outside.is_empty());
        let inside = part.in_order().find(|(_, inner)| inner.is_section() && inner.property(key).is_some());
        let inside = outside.zip(inside).map(|(outside, (name, _))| format!("[{}.{name}]", outside.join(".")));
        let home = |(section, part): (&str, Part<'_>)| {
            if part.property(key).is_some() {
                return Some(format!("[{section}]"));
            }
            part.items()?.property(key).map(|_| format!("[[{section}]]"))
        };
        let homes: Vec<String> = inside.into_iter().chain(self.top.in_order().find_map(home)).collect();
        Some(homes.iter().map(|home| format!("`{home}`")).collect::<Vec<_>>().join(" or "))
            .filter(|all| !all.is_empty())
    }

    fn text(&mut self, node: &mut Node, part: Part<'_>) {
        let text = node.as_str().unwrap_or_default().to_owned();
        if let Some(choice) = part.choice() {
            if choice.contains(&text.as_str()) || part.takes_besides(&text) {
                return;
            }
            let span = node.span.clone();
            if planned::value(&self.section(), self.name(), &text) {
                let problem = Problem::error(span, format!("`{} = \"{text}\"` is not in this version", self.name()));
                return self.wrong(node, problem.label("comes later").hint(one_of(&choice)));
            }
            let near = nearest(&text, choice.iter().copied());
            let hint = near.map(|near| format!("did you mean `\"{near}\"`?"));
            let problem = Problem::error(span, format!("{} can't be `\"{}\"`", self.subject(), shorten(&text)));
            return self.wrong(node, problem.label(one_of(&choice)).maybe_hint(hint));
        }
        if text.contains('\0') {
            let problem = Problem::error(node.span.clone(), format!("{} has a NUL character in it", self.subject()));
            return self.wrong(node, problem.label("the kernel takes none"));
        }
        let Some(check) = part.text("format").and_then(check) else { return };
        // A URL may hold what nobody else should read.
        let show = node.templated && part.text("format") != Some("http-url");
        let shown = if show { format!(" (it is `{}` here)", shorten(&text)) } else { String::new() };
        if let Err(wrong) = (check.check)(&text) {
            let problem = Problem::error(node.span.clone(), format!("{} {}{shown}", self.subject(), wrong.what));
            let problem = problem.label(format!("expected {}", check.what)).maybe_hint(wrong.hint);
            self.wrong(node, problem);
        }
    }

    fn number(&mut self, node: &mut Node, number: i64, part: Part<'_>) {
        let most = match part.text("format") {
            Some("uint8") => i64::from(u8::MAX),
            Some("uint16") => i64::from(u16::MAX),
            Some("uint32") => i64::from(u32::MAX),
            _ => i64::MAX,
        };
        if !(0..=most).contains(&number) {
            let problem = Problem::error(node.span.clone(), format!("{} can't be {number}", self.subject()));
            let problem = problem.label(match most {
                i64::MAX => "expected 0 or more".to_owned(),
                most => format!("expected a number from 0 to {most}"),
            });
            self.wrong(node, problem);
        }
    }

    fn command(&mut self, node: &mut Node) {
        let Value::Array(words) = &node.value else { return };
        let problem = match words.first().map(|word| word.as_str().unwrap_or_default()) {
            None => Problem::error(node.span.clone(), format!("`{}` is empty", self.name())),
            Some("") => Problem::error(node.span.clone(), format!("`{}` starts with an empty word", self.name())),
            Some(_) => return,
        };
        self.wrong(
            node,
            problem
                .label("expected a program and its arguments")
                .hint(format!("for example `{}`", self.pair(self.name(), "[\"nginx\", \"-g\", \"daemon off;\"]"))),
        );
    }

    fn type_mistake(&mut self, node: &mut Node, part: Part<'_>) {
        let expected = expected(part);
        let message = if node.templated {
            let text = shorten(node.as_str().unwrap_or_default());
            format!("{} is `{text}` here, not {expected}", self.subject())
        } else {
            format!("{} is {}, not {expected}", self.subject(), node.kind())
        };
        let hint = self.type_hint(node, part);
        let problem = Problem::error(node.span.clone(), message).label(format!("expected {expected}")).maybe_hint(hint);
        self.wrong(node, problem);
    }

    /// What to write instead of a value of the wrong type.
    fn type_hint(&self, node: &Node, part: Part<'_>) -> Option<String> {
        let name = self.name();
        let write = |value: String| Some(format!("write `{}`", self.pair(name, &value)));
        let format = part.text("format");
        let part = part.items().filter(|_| part.may_stand_alone()).unwrap_or(part);
        match &node.value {
            Value::String(line) if format == Some("command") => {
                Some(format!("there is no hidden shell: write `{}`", self.pair(name, &command(line))))
            }
            Value::String(text) if part.takes("integer") && text.trim().parse::<i64>().is_ok() => {
                write(text.trim().to_owned())
            }
            Value::String(text) if part.takes("boolean") && matches!(text.trim(), "true" | "false") => {
                write(text.trim().to_owned())
            }
            Value::String(text) if part.items().is_some_and(|items| items.takes("string")) => {
                write(format!("[{}]", quote(text)))
            }
            Value::Integer(number) if format == Some("duration") => {
                Some(format!("write the unit: `{}` for seconds", self.pair(name, &format!("\"{number}s\""))))
            }
            Value::Integer(_) if format == Some("umask") => write("\"022\"".to_owned()),
            Value::Integer(number) if matches!(format, Some("listen" | "listen-on")) => {
                write(format!("\"0.0.0.0:{number}\""))
            }
            Value::Integer(number) if format == Some("host-port") => write(format!("\"127.0.0.1:{number}\"")),
            Value::Integer(number)
                if part.takes("string") && !part.takes("boolean") && part.choice().is_none() && format.is_none() =>
            {
                write(format!("\"{number}\""))
            }
            Value::Bool(value) if part.takes("string") && part.choice().is_none() && format.is_none() => {
                write(format!("\"{value}\""))
            }
            Value::Array(elements)
                if part.is_section()
                    && self.syntax == Syntax::Toml
                    && elements.iter().any(|element| matches!(element.value, Value::Table(_))) =>
            {
                let name = self.path.join(".");
                Some(format!("there is only one: write `[{name}]`, not `[[{name}]]`"))
            }
            Value::String(line) if part.property("exec").is_some() => write(self.table_of("exec", &command(line))),
            Value::Array(_) if part.property("exec").is_some() => {
                Some(format!("write `{}`", self.pair(name, &self.table_of("exec", "[...]"))))
            }
            Value::Table(_) if part.is_list_of_sections() => Some(match self.syntax {
                Syntax::Toml => format!("there may be several: write `[[{name}]]`, not `[{name}]`"),
                Syntax::Json => format!("there may be several: write `\"{name}\": [{{...}}]`"),
            }),
            Value::String(_) if part.takes("boolean") => Some("`true` or `false`, without quotes".to_owned()),
            Value::String(text) if part.property("policy").is_some() => write(self.table_of("policy", &quote(text))),
            Value::Other("null") => Some("leave the key out".to_owned()),
            _ => part
                .example()
                .map(|example| format!("for example `{}`", self.pair(name, &in_one_line(example, self.syntax)))),
        }
    }

    /// A key and its value in the document's language; for an element, the value.
    fn pair(&self, key: &str, value: &str) -> String {
        if self.in_array { value.to_owned() } else { self.syntax.pair(key, value) }
    }

    /// A table of one key in the document's language.
    fn table_of(&self, key: &str, value: &str) -> String {
        match self.syntax {
            Syntax::Toml => format!("{{ {} }}", self.syntax.pair(key, value)),
            Syntax::Json => format!("{{{}}}", self.syntax.pair(key, value)),
        }
    }
}

/// Whether it is a key of this section but for a last letter.
fn is_plural(key: &str, part: Part<'_>) -> bool {
    part.properties().any(|(known, _)| known.strip_suffix('s') == Some(key) || key.strip_suffix('s') == Some(known))
}

fn near_property<'s>(key: &str, part: Part<'s>) -> Option<(&'s str, Part<'s>)> {
    let near = nearest(key, part.properties().map(|(known, _)| known))?;
    Some((near, part.property(near)?))
}

/// What may stand here, for people.
fn expected(part: Part<'_>) -> String {
    if let Some(check) = part.text("format").and_then(check) {
        return check.what.to_owned();
    }
    if let Some(choice) = part.choice() {
        return one_of(&choice);
    }
    let part = part.items().filter(|_| part.may_stand_alone()).unwrap_or(part);
    let words = if part.text("format") == Some("command") {
        "an array of strings"
    } else if part.is_list_of_sections() {
        "an array of tables"
    } else if part.takes("array") {
        match part.items() {
            Some(items) if items.takes("integer") || items.takes("number") => "an array of numbers",
            _ => "an array of strings",
        }
    } else if part.takes("object") {
        "a table"
    } else if part.takes("integer") {
        "a whole number"
    } else if part.takes("number") {
        "a number"
    } else if part.takes("boolean") {
        "`true` or `false`"
    } else {
        "a string"
    };
    words.to_owned()
}

fn one_of(choice: &[&str]) -> String {
    let quoted: Vec<String> = choice.iter().map(|word| format!("\"{word}\"")).collect();
    let words: Vec<&str> = quoted.iter().map(String::as_str).collect();
    format!("one of {}", list(&words))
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// A command line as an array: its words, or what a shell makes of it.
fn command(line: &str) -> String {
    let words = words(line).unwrap_or_else(|| ["sh", "-c", line].map(str::to_owned).to_vec());
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", words.join(", "))
}

/// A string as JSON and TOML both write it.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST { text.to_owned() } else { text.chars().take(MOST).chain(['…']).collect() }
}

/// A value in one line of the document's language.
pub(super) fn in_one_line(value: &serde_json::Value, syntax: Syntax) -> String {
    match (value, syntax) {
        (serde_json::Value::Array(elements), _) => {
            let elements: Vec<String> = elements.iter().map(|element| in_one_line(element, syntax)).collect();
            format!("[{}]", elements.join(", "))
        }
        (serde_json::Value::Object(pairs), Syntax::Toml) => {
            let pair = |(key, value): (&String, &serde_json::Value)| {
                let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
                let key = if bare { key.clone() } else { quote(key) };
                format!("{key} = {}", in_one_line(value, syntax))
            };
            if pairs.is_empty() {
                return "{}".to_owned();
            }
            format!("{{ {} }}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        _ => value.to_string(),
    }
}
