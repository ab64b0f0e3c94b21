//! How a supervisord.conf is written: sections of an ini file, a shell's words, lists of variables.

use super::Section;
use crate::import::document::Value;
use crate::import::go::Span;
use crate::import::text::{Piece, Text};

/// What of a line is no comment: one begins with `;` or `#` at its beginning or behind a blank, be it in quotes.
fn without_comment(line: &str) -> &str {
    let begins = |(at, sign): (usize, char)| {
        let behind_blank = line[..at].chars().next_back().is_none_or(char::is_whitespace);
        (behind_blank && [';', '#'].contains(&sign)).then_some(at)
    };
    line.char_indices().find_map(begins).map_or(line, |at| &line[..at])
}

/// The sections of an ini file as supervisord reads it (Python's configparser): a line that stands further in than its
/// option goes on with its value.
pub(super) fn sections(text: &str) -> Result<Vec<Section<'_>>, (Span, String)> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let (mut at, mut indent) = (0, 0);
    // Nothing goes on with a section's name.
    let mut is_open = false;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let line = without_comment(line);
        let bare = line.trim();
        let own = line.len() - line.trim_start().len();
        let span = start + own..start + line.trim_end().len().max(1);
        if bare.is_empty() {
            continue;
        }
        let value = |text: &str| text.trim().to_owned();
        if is_open
            && own > indent
            && let Some((_, before, _)) = sections.last_mut().and_then(|section| section.keys.last_mut())
        {
            *before = format!("{before} {}", value(bare)).trim().to_owned();
            continue;
        }
        indent = own;
        if let Some(name) = bare.strip_prefix('[') {
            let Some((name, _)) = name.split_once(']') else {
                return Err((span, "a section's name isn't closed by `]`".to_owned()));
            };
            // Two of one name are one, as Python reads them.
            let known = sections.iter().position(|section| section.name == name);
            let section = known.map_or(Section { name, span, keys: Vec::new() }, |at| sections.remove(at));
            sections.push(section);
            is_open = false;
            continue;
        }
        let Some(section) = sections.last_mut() else {
            return Err((span, "this stands in no section".to_owned()));
        };
        match bare.split_once(['=', ':']) {
            Some((key, text)) => section.keys.push((key.trim().to_lowercase(), value(text), span)),
            None => return Err((span, "this isn't `key = value`".to_owned())),
        }
        is_open = true;
    }
    Ok(sections)
}

/// A command's words, as Python's shlex splits them, and whether a quote is left open.
pub(super) fn words(line: &Text) -> (Vec<Text>, bool) {
    let (mut words, mut word, mut quote, mut escaped, mut begun) = (Vec::new(), Text::default(), None, false, false);
    for piece in &line.0 {
        let Piece::Plain(plain) = piece else {
            begun = true;
            word.push(piece.clone());
            continue;
        };
        for c in plain.chars() {
            match (quote, c) {
                _ if escaped => {
                    escaped = false;
                    // Between quotes a backslash is one, unless it hides what would end something.
                    if quote.is_some() && !['"', '\\'].contains(&c) {
                        word.push(Piece::Plain("\\".to_owned()));
                    }
                    word.push(Piece::Plain(c.to_string()));
                }
                (Some('\''), '\'') | (Some('"'), '"') => quote = None,
                (None | Some('"'), '\\') => (escaped, begun) = (true, true),
                (None, '\'' | '"') => (quote, begun) = (Some(c), true),
                (None, c) if c.is_whitespace() => {
                    if std::mem::take(&mut begun) {
                        words.push(std::mem::take(&mut word));
                    }
                }
                (_, c) => {
                    begun = true;
                    word.push(Piece::Plain(c.to_string()));
                }
            }
        }
    }
    if begun {
        words.push(word);
    }
    (words, quote.is_some() || escaped)
}

/// `KEY="value",KEY2=value`, and whether something in it is none of these.
pub(super) fn pairs(text: &Text) -> (Vec<(String, Text)>, bool) {
    let (mut pairs, mut quote) = (Vec::new(), None);
    let (mut key, mut value): (String, Option<Text>) = (String::new(), None);
    let mut broken = false;
    let mut ends = |key: &mut String, value: &mut Option<Text>| {
        match value.take() {
            // No variable can be called so.
            Some(_) if key.contains('\u{0}') => broken = true,
            Some(value) => pairs.push((key.trim().to_owned(), value.trimmed())),
            // A comma may stand at the end.
            None => broken |= !key.trim().is_empty(),
        }
        key.clear();
    };
    for piece in &text.0 {
        let Piece::Plain(plain) = piece else {
            if let Some(value) = &mut value {
                value.push(piece.clone());
            }
            continue;
        };
        for c in plain.chars() {
            match (quote, c, &mut value) {
                (Some(open), c, _) if c == open => quote = None,
                (None, '"' | '\'', _) => quote = Some(c),
                (None, ',', _) => ends(&mut key, &mut value),
                (None, '=', None) => value = Some(Text::default()),
                (_, c, Some(value)) => value.push(Piece::Plain(c.to_string())),
                (_, c, None) => key.push(c),
            }
        }
    }
    ends(&mut key, &mut value);
    (pairs, broken || quote.is_some())
}

/// Of two of a name the later one counts, where the first stands.
pub(super) fn variables(pairs: Vec<(String, Text)>) -> Vec<(String, Value)> {
    let mut variables: Vec<(String, Value)> = Vec::new();
    for (name, value) in pairs {
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = Value::Text(value),
            None => variables.push((name, Value::Text(value))),
        }
    }
    variables
}
