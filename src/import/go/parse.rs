//! From text to pieces.

use super::lex::{Token, lex};
use super::{Expr, GoError, Kind, Loop, Node, Span};

/// Nobody writes ifs deeper than this, and reading them takes the stack.
const DEEPEST: usize = 64;

const FUNCTIONS: [&str; 22] = [
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "len",
    "index",
    "print",
    "printf",
    "println",
    "default",
    "env",
    "split",
    "join",
    "replaceAll",
    "regexReplaceAll",
    "loop",
    "html",
];

/// Reads a template.
pub(in crate::import) fn parse(source: &str) -> Result<Vec<Node>, GoError> {
    let mut parser = Parser { source, at: 0, depth: 0 };
    let (nodes, end) = parser.block(None)?;
    match end {
        None => Ok(nodes),
        Some((word, _, span)) => Err(GoError::new(span, format!("`{word}` without an `if` before it"))),
    }
}

struct Parser<'s> {
    source: &'s str,
    at: usize,
    depth: usize,
}

/// What ends a block: `end` or `else`, what follows an `else`, and where.
type End = (String, Vec<(Token, Span)>, Span);

impl Parser<'_> {
    /// Pieces up to an `end` or `else`, or the end of the text.
    fn block(&mut self, opened: Option<Span>) -> Result<(Vec<Node>, Option<End>), GoError> {
        let mut nodes = Vec::new();
        loop {
            let Some(open) = self.source[self.at..].find("{{").map(|open| self.at + open) else {
                if let Some(span) = opened {
                    return Err(GoError::new(span, "this isn't closed by an `{{ end }}`"));
                }
                self.text(self.at..self.source.len(), false, &mut nodes);
                self.at = self.source.len();
                return Ok((nodes, None));
            };
            let trims = self.trims(open);
            self.text(self.at..open, trims, &mut nodes);
            let (inside, span) = self.action(open)?;
            let tokens = lex(self.source, inside)?;
            match tokens.first() {
                None if self.source[span.clone()].contains("/*") => {}
                None => return Err(GoError::new(span, "there is nothing between `{{` and `}}`")),
                Some((Token::Word(word), _)) if word == "end" || word == "else" => {
                    let (word, rest) = (word.clone(), tokens[1..].to_vec());
                    return Ok((nodes, Some((word, rest, span))));
                }
                Some((Token::Word(word), _)) if ["if", "with", "range"].contains(&word.as_str()) => {
                    let word = word.clone();
                    nodes.push(self.branches(&word, &tokens[1..], span)?);
                }
                Some((Token::Word(word), _))
                    if ["define", "template", "block", "break", "continue"].contains(&word.as_str()) =>
                {
                    return Err(GoError::new(span, format!("`{word}` isn't understood here")));
                }
                Some(_) => nodes.push(statement(&tokens, span)?),
            }
        }
    }

    /// `{{ if }}` and its like, to its `{{ end }}`.
    fn branches(&mut self, word: &str, tokens: &[(Token, Span)], span: Span) -> Result<Node, GoError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(GoError::new(span, "`if` and `range` stand in each other too deep"));
        }
        let (names, value) = declaration(tokens, &span)?;
        let (then, end) = self.block(Some(span.clone()))?;
        let otherwise = match end {
            Some((word, rest, at)) if word == "else" => match rest.first() {
                Some((Token::Word(next), _)) if next == "if" || next == "with" => {
                    let next = next.clone();
                    vec![self.branches(&next, &rest[1..], at)?]
                }
                Some((_, odd)) => return Err(GoError::new(odd.clone(), "only `if` can follow `else`")),
                None => {
                    let (nodes, end) = self.block(Some(at))?;
                    if let Some((word, _, at)) = end
                        && word == "else"
                    {
                        return Err(GoError::new(at, "a second `else`"));
                    }
                    nodes
                }
            },
            _ => Vec::new(),
        };
        self.depth -= 1;
        let kind = match (word, names.as_slice()) {
            ("if", []) => Kind::If(value, then, otherwise),
            ("if" | "with", [name]) => Kind::With(Some(name.clone()), value, then, otherwise),
            ("with", []) => Kind::With(None, value, then, otherwise),
            ("range", []) => Kind::Range(Loop { index: None, element: None, over: value }, then, otherwise),
            ("range", [element]) => {
                Kind::Range(Loop { index: None, element: Some(element.clone()), over: value }, then, otherwise)
            }
            ("range", [index, element]) => {
                let over = Loop { index: Some(index.clone()), element: Some(element.clone()), over: value };
                Kind::Range(over, then, otherwise)
            }
            _ => return Err(GoError::new(span, "too many variables before `:=`")),
        };
        Ok(Node { kind, span })
    }

    /// Whether an action takes the space before it away.
    fn trims(&self, open: usize) -> bool {
        let mut next = self.source[open + 2..].chars();
        next.next() == Some('-') && next.next().is_some_and(char::is_whitespace)
    }

    fn text(&self, span: Span, trims: bool, nodes: &mut Vec<Node>) {
        let text = &self.source[span.clone()];
        let text = if trims { text.trim_end() } else { text };
        if !text.is_empty() {
            nodes.push(Node { kind: Kind::Text(text.to_owned()), span });
        }
    }

    /// What stands between the brackets at `open`, and the whole; goes behind it.
    fn action(&mut self, open: usize) -> Result<(Span, Span), GoError> {
        let inside = open + 2;
        let start = if self.trims(open) { inside + 1 } else { inside };
        let rest = &self.source[start..];
        let blank = rest.len() - rest.trim_start().len();
        if rest[blank..].starts_with("/*") {
            let unclosed = || GoError::new(open..open + 2, "a comment isn't closed by `*/}}`");
            let close = rest.find("*/").ok_or_else(unclosed)? + start + 2;
            let after = &self.source[close..];
            let trimmed = after.trim_start();
            let (end, trims) = match (after.starts_with("}}"), trimmed.strip_prefix('-')) {
                (true, _) => (close + 2, false),
                (false, Some(tail)) if trimmed.len() < after.len() && tail.starts_with("}}") => {
                    (self.source.len() - tail.len() + 2, true)
                }
                _ => return Err(unclosed()),
            };
            self.behind(end, trims);
            return Ok((close..close, open..end));
        }
        let Some(close) = closing(rest).map(|close| start + close) else {
            return Err(GoError::new(open..open + 2, "`{{` isn't closed by `}}`"));
        };
        let text = &self.source[start..close];
        let trims = text.ends_with('-') && text[..text.len() - 1].ends_with(char::is_whitespace);
        let end = if trims { close - 1 } else { close };
        self.behind(close + 2, trims);
        Ok((start..end, open..close + 2))
    }

    fn behind(&mut self, end: usize, trims: bool) {
        let rest = &self.source[end..];
        self.at = if trims { self.source.len() - rest.trim_start().len() } else { end };
    }
}

/// Where `}}` is that isn't in a string.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            // A string ends with its line.
            Some('"') if c == '\n' => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    // Where a quote is left open, it is said at the quote.
    text.find("}}").filter(|_| quote.is_some())
}

fn statement(tokens: &[(Token, Span)], span: Span) -> Result<Node, GoError> {
    let (names, value) = declaration(tokens, &span)?;
    let kind = match names.into_iter().next() {
        Some(name) => Kind::Declare(name, value),
        None => Kind::Print(value),
    };
    Ok(Node { kind, span })
}

/// `$a, $b := value`, or the value alone.
fn declaration(tokens: &[(Token, Span)], span: &Span) -> Result<(Vec<String>, Expr), GoError> {
    let mut names = Vec::new();
    let mut at = 0;
    while let Some((Token::Variable(name), _)) = tokens.get(at)
        && !name.is_empty()
    {
        match tokens.get(at + 1) {
            Some((Token::Comma, _)) => {
                names.push(name.clone());
                at += 2;
            }
            Some((Token::Declare, _)) => {
                names.push(name.clone());
                return Ok((names, pipeline(&tokens[at + 2..], span)?));
            }
            Some((Token::Assign, at)) => {
                return Err(GoError::new(at.clone(), "setting a variable again isn't understood here"));
            }
            _ => break,
        }
    }
    Ok((Vec::new(), pipeline(tokens, span)?))
}

fn pipeline(tokens: &[(Token, Span)], span: &Span) -> Result<Expr, GoError> {
    let mut reader = Reader { tokens, at: 0, span, depth: 0 };
    let value = reader.pipeline()?;
    match reader.tokens.get(reader.at) {
        None => Ok(value),
        Some((_, odd)) => Err(GoError::new(odd.clone(), "this isn't understood in a template")),
    }
}

struct Reader<'t> {
    tokens: &'t [(Token, Span)],
    at: usize,
    span: &'t Span,
    depth: usize,
}

impl Reader<'_> {
    fn pipeline(&mut self) -> Result<Expr, GoError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(GoError::new(self.span.clone(), "brackets stand in each other too deep"));
        }
        let mut value = self.command(None)?;
        while matches!(self.tokens.get(self.at), Some((Token::Pipe, _))) {
            self.at += 1;
            value = self.command(Some(value))?;
        }
        self.depth -= 1;
        Ok(value)
    }

    /// A function with its arguments, or one value. `piped` is its last argument.
    fn command(&mut self, piped: Option<Expr>) -> Result<Expr, GoError> {
        let here = self.tokens.get(self.at).map_or(self.span.clone(), |(_, span)| span.clone());
        if let Some((Token::Word(word), _)) = self.tokens.get(self.at)
            && !matches!(word.as_str(), "true" | "false" | "nil")
        {
            if !FUNCTIONS.contains(&word.as_str()) {
                return Err(GoError::new(here, format!("no template function is called `{word}`")));
            }
            let function = word.clone();
            self.at += 1;
            let mut args = Vec::new();
            while let Some(arg) = self.operand()? {
                args.push(arg);
            }
            args.extend(piped);
            return Ok(Expr::Call(function, args));
        }
        let Some(value) = self.operand()? else {
            return Err(GoError::new(here, "a value is missing in this template"));
        };
        let (Some((_, odd)), false) = (self.tokens.get(self.at), self.at_end()) else {
            return match piped {
                None => Ok(value),
                Some(_) => Err(GoError::new(here, "what follows `|` must be a function")),
            };
        };
        Err(GoError::new(odd.clone(), "only a function takes arguments"))
    }

    fn at_end(&self) -> bool {
        matches!(self.tokens.get(self.at), None | Some((Token::Pipe | Token::Close, _)))
    }

    /// One value with the fields behind it; `None` at what can't be one.
    fn operand(&mut self) -> Result<Option<Expr>, GoError> {
        let Some((token, span)) = self.tokens.get(self.at) else { return Ok(None) };
        let mut value = match token {
            Token::Field(name, _) if name.is_empty() => Expr::Dot,
            Token::Field(name, _) => Expr::Field(Box::new(Expr::Dot), name.clone()),
            Token::Variable(name) if name.is_empty() => Expr::Root,
            Token::Variable(name) => Expr::Variable(name.clone()),
            Token::Text(text) => Expr::Text(text.clone()),
            Token::Integer(number) => Expr::Integer(*number),
            Token::Float(number) => Expr::Float(*number),
            Token::Word(word) => match word.as_str() {
                "true" => Expr::Bool(true),
                "false" => Expr::Bool(false),
                "nil" => Expr::Nil,
                function if FUNCTIONS.contains(&function) => Expr::Call(function.to_owned(), Vec::new()),
                word => return Err(GoError::new(span.clone(), format!("no template function is called `{word}`"))),
            },
            Token::Open => {
                self.at += 1;
                let value = self.pipeline()?;
                if !matches!(self.tokens.get(self.at), Some((Token::Close, _))) {
                    return Err(GoError::new(span.clone(), "this bracket isn't closed"));
                }
                value
            }
            Token::Pipe | Token::Close => return Ok(None),
            Token::Comma | Token::Declare | Token::Assign => {
                return Err(GoError::new(span.clone(), "this isn't understood in a template"));
            }
        };
        self.at += 1;
        while let Some((Token::Field(name, true), _)) = self.tokens.get(self.at)
            && !name.is_empty()
        {
            value = Expr::Field(Box::new(value), name.clone());
            self.at += 1;
        }
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_cannot_be_read_says_where() {
        for (text, at, what) in [
            ("a {{ if .X }} b", 2, "isn't closed by an `{{ end }}`"),
            ("a {{ end }}", 2, "without an `if`"),
            ("{{ .X", 0, "isn't closed by `}}`"),
            ("{{ }}", 0, "nothing between"),
            ("{{ service_name }}", 3, "no template function is called `service_name`"),
            ("{{ .X | default \"a }}", 16, "isn't closed"),
            ("{{ (.X }}", 3, "bracket isn't closed"),
            ("{{ .X | \"a\" }}", 8, "must be a function"),
            ("{{ .X .Y }}", 6, "only a function"),
            ("{{ define \"x\" }}{{ end }}", 0, "`define` isn't understood"),
            ("{{/* x }}", 0, "a comment isn't closed"),
            ("{{ 1x }}", 3, "isn't a number"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.span.start == at && error.what.contains(what), "{text}: {error:?}");
        }
    }

    #[test]
    fn ifs_may_not_stand_in_each_other_for_ever() {
        let deep = "{{ if .X }}".repeat(100_000);
        assert!(parse(&deep).unwrap_err().what.contains("too deep"));
        let deep = format!("{{{{ {}.X }}}}", "(".repeat(100_000));
        assert!(parse(&deep).unwrap_err().what.contains("too deep"));
        let chain = "{{ if .X }}{{ else if .Y }}".repeat(2_000);
        assert!(parse(&chain).is_err());
    }
}
