//! The words between `{{` and `}}`.

use super::{GoError, Span};

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `if`, `default`, `true`.
    Word(String),
    /// `.NAME`; `.` alone is the empty name. The flag tells whether it follows what is before it without a space.
    Field(String, bool),
    /// `$name`; `$` alone is the empty name.
    Variable(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Pipe,
    Open,
    Close,
    Comma,
    Declare,
    Assign,
}

/// Splits what stands at `span` of `source`.
pub(super) fn lex(source: &str, span: Span) -> Result<Vec<(Token, Span)>, GoError> {
    let mut tokens = Vec::new();
    let mut at = span.start;
    while at < span.end {
        let rest = &source[at..span.end];
        let Some(first) = rest.chars().next() else { break };
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) = one(rest, at, at > span.start && !ends_in_space(&source[span.start..at]))?;
        tokens.push((token, at..at + length));
        at += length;
    }
    Ok(tokens)
}

fn ends_in_space(text: &str) -> bool {
    text.ends_with(|c: char| c.is_whitespace() || c == '(' || c == '|')
}

fn one(rest: &str, at: usize, glued: bool) -> Result<(Token, usize), GoError> {
    let first = rest.chars().next().unwrap_or_default();
    let word = |from: usize| {
        let end = rest[from..].find(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(rest.len(), |end| from + end);
        (rest[from..end].to_owned(), end)
    };
    Ok(match first {
        '|' => (Token::Pipe, 1),
        '(' => (Token::Open, 1),
        ')' => (Token::Close, 1),
        ',' => (Token::Comma, 1),
        ':' if rest.starts_with(":=") => (Token::Declare, 2),
        '=' => (Token::Assign, 1),
        '"' => quoted(rest, at)?,
        '`' => match rest[1..].find('`') {
            Some(end) => (Token::Text(rest[1..=end].to_owned()), end + 2),
            None => return Err(GoError::new(at..at + 1, "a raw string isn't closed by a backquote")),
        },
        '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            let (name, end) = word(1);
            (Token::Field(name, glued), end)
        }
        '$' => {
            let (name, end) = word(1);
            (Token::Variable(name), end)
        }
        c if c.is_ascii_digit() || matches!(c, '.' | '+' | '-') => number(rest, at)?,
        c if c.is_alphabetic() || c == '_' => {
            let (name, end) = word(0);
            (Token::Word(name), end)
        }
        c => {
            return Err(GoError::new(
                at..at + c.len_utf8(),
                format!("unexpected `{}` in a template", c.escape_debug()),
            ));
        }
    })
}

fn number(rest: &str, at: usize) -> Result<(Token, usize), GoError> {
    let end = rest[1..]
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_')))
        .map_or(rest.len(), |end| end + 1);
    let text = &rest[..end];
    if let Ok(number) = text.parse() {
        return Ok((Token::Integer(number), end));
    }
    match text.parse() {
        Ok(number) => Ok((Token::Float(number), end)),
        Err(_) => Err(GoError::new(at..at + end, format!("`{text}` isn't a number"))),
    }
}

/// A string in double quotes, with Go's escapes.
fn quoted(rest: &str, at: usize) -> Result<(Token, usize), GoError> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(text), index + 1)),
            '\n' => break,
            '\\' => {
                let Some((_, escaped)) = chars.next() else { break };
                let wide = match escaped {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => 0,
                };
                if wide > 0 {
                    let digits: String = chars.by_ref().take(wide).map(|(_, c)| c).collect();
                    let sign = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    text.push(
                        sign.ok_or_else(|| GoError::new(at + index..at + index + 2, "no character has this number"))?,
                    );
                    continue;
                }
                text.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'v' => '\u{b}',
                    '\\' | '"' | '\'' => escaped,
                    other => {
                        let what = format!("`\\{}` isn't an escape of a Go string", other.escape_debug());
                        return Err(GoError::new(at + index..at + index + 1 + other.len_utf8(), what));
                    }
                });
            }
            c => text.push(c),
        }
    }
    Err(GoError::new(at..at + 1, "a string in a template isn't closed"))
}
