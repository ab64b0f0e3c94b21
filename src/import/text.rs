//! A text with templates in it.

use super::go::{Span, literal};

/// A text of the imported file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Text(pub(super) Vec<Piece>);

/// A part of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Plain(String),
    Template(Template),
}

/// A template, translated.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// Where it stands in the source.
    pub(super) span: Span,
    /// As pilotfish's config has it; an unset variable is a mistake.
    pub(super) strict: String,
    /// The same with unset variables empty.
    pub(super) lenient: String,
    /// What it is where nothing is set.
    pub(super) sample: String,
    /// The variables that must be set.
    pub(super) needs: Vec<String>,
}

/// Two that say the same are the same, wherever they stand.
impl PartialEq for Template {
    fn eq(&self, other: &Template) -> bool {
        self.strict == other.strict && self.lenient == other.lenient
    }
}

impl Text {
    pub(super) fn plain(text: impl Into<String>) -> Text {
        Text(vec![Piece::Plain(text.into())])
    }

    /// The text, if there is no template in it.
    pub(super) fn as_plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Plain(text)] => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_template(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Template(_)))
    }

    /// What it is where nothing is set.
    pub(super) fn sample(&self) -> String {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Plain(text) => text.as_str(),
                Piece::Template(template) => template.sample.as_str(),
            })
            .collect()
    }

    /// What it is known by: of what is empty where nothing is set, the templates themselves, since two of them aren't one.
    pub(super) fn identity(&self) -> String {
        if self.templates().any(|template| template.sample.is_empty()) { self.write(true) } else { self.sample() }
    }

    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Template(template) => Some(template),
            Piece::Plain(_) => None,
        })
    }

    pub(super) fn push(&mut self, piece: Piece) {
        match (self.0.last_mut(), piece) {
            (_, Piece::Plain(text)) if text.is_empty() => {}
            (Some(Piece::Plain(before)), Piece::Plain(text)) => before.push_str(&text),
            (_, piece) => self.0.push(piece),
        }
    }

    /// With something plain behind it.
    pub(super) fn and(mut self, text: &str) -> Text {
        self.push(Piece::Plain(text.to_owned()));
        self
    }

    /// Without blanks at both ends.
    pub(super) fn trimmed(mut self) -> Text {
        if let Some(Piece::Plain(first)) = self.0.first_mut() {
            *first = first.trim_start().to_owned();
        }
        if let Some(Piece::Plain(last)) = self.0.last_mut() {
            *last = last.trim_end().to_owned();
        }
        self.0.retain(|piece| *piece != Piece::Plain(String::new()));
        self
    }

    /// With what its templates come to put through filters of the backend's.
    pub(super) fn filtered(&self, filters: &str) -> Text {
        let put_through = |text: &str| match text.strip_prefix("{{ ").and_then(|text| text.strip_suffix(" }}")) {
            // A filter counts for the last part of an `or`, a `~` or a condition alone.
            Some(one) if is_one(one) => format!("{{{{ {one} | {filters} }}}}"),
            _ => format!("{{% filter {filters} %}}{text}{{% endfilter %}}"),
        };
        let pieces = self.0.iter().cloned().map(|piece| match piece {
            Piece::Template(template) => Piece::Template(Template {
                strict: put_through(&template.strict),
                lenient: put_through(&template.lenient),
                ..template
            }),
            plain => plain,
        });
        Text(pieces.collect())
    }

    /// What a template makes of texts, which it knows by these names. `sample` is what that is where nothing is set.
    pub(super) fn computed(of: &[(&str, &Text)], made: &str, sample: impl Into<String>) -> Text {
        let whole = |lenient: bool| {
            let set = |(name, text): &(&str, &Text)| format!("{{% set {name} %}}{}{{% endset %}}", text.write(lenient));
            of.iter().map(set).collect::<String>() + made
        };
        let templates = || of.iter().flat_map(|(_, text)| text.templates());
        Text(vec![Piece::Template(Template {
            span: templates().next().map_or(0..0, |template| template.span.clone()),
            strict: whole(false),
            lenient: whole(true),
            sample: sample.into(),
            needs: templates().flat_map(|template| template.needs.clone()).collect(),
        })])
    }

    /// Its parts between single spaces that aren't in a template.
    pub(super) fn words(&self) -> Vec<Text> {
        let mut words = vec![Text::default()];
        for piece in &self.0 {
            match piece {
                Piece::Plain(text) => {
                    for (index, part) in text.split(' ').enumerate() {
                        if index > 0 {
                            words.push(Text::default());
                        }
                        if let Some(word) = words.last_mut() {
                            word.push(Piece::Plain(part.to_owned()));
                        }
                    }
                }
                template => {
                    if let Some(word) = words.last_mut() {
                        word.push(template.clone());
                    }
                }
            }
        }
        words
    }

    /// As pilotfish's config has it, before its quotes.
    pub(super) fn write(&self, lenient: bool) -> String {
        if let Some(text) = self.as_plain() {
            return if text.contains("{{") || text.contains("{%") { literal(text, false) } else { text.to_owned() };
        }
        let mut output = String::new();
        for (index, piece) in self.0.iter().enumerate() {
            match piece {
                Piece::Plain(text) => {
                    let text = literal(text, index + 1 < self.0.len());
                    // Only at the very start there is no block before it.
                    output.push_str(if index == 0 { text.trim_start_matches("{{ '\\n' }}") } else { &text });
                }
                Piece::Template(template) if lenient => output.push_str(&template.lenient),
                Piece::Template(template) => output.push_str(&template.strict),
            }
        }
        output
    }
}

/// Whether an expression is a variable with filters, and nothing around them.
fn is_one(expression: &str) -> bool {
    let outside_quotes = expression.split('\'').step_by(2).collect::<Vec<_>>().join("''");
    let operators = [" ~ ", " or ", " and ", " if ", "not ", "==", "!=", "<", ">", "{", "}", "\\"];
    !operators.iter().any(|operator| outside_quotes.contains(operator))
}
