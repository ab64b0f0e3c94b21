//! The same in pilotfish's templates: `{{ .X | default "a" }}` becomes `{{ env.X | default('a', true) }}`.
//!
//! To Go a variable that is set and empty is false and takes its default, so `default` is always given `true`, and
//! conditions compare with the empty text.

use super::{Expr, GoError, Kind, Node, Span};

/// A piece of a template translated.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::import) struct Jinja {
    /// An unset variable is a mistake in it, unless it has a default or is only asked for.
    pub(in crate::import) strict: String,
    /// An unset variable is empty, for what may be left out as a whole.
    pub(in crate::import) lenient: String,
    /// The variables that must be set.
    pub(in crate::import) needs: Vec<String>,
}

/// ContainerPilot set it before it read its config. A container's init is 1.
const OWN_PID: &str = "CONTAINERPILOT_PID";

/// How tightly an expression holds together.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Bond {
    Filter,
    Loose,
}

/// Translates pieces that need no scope.
pub(in crate::import) fn translate(nodes: &[Node]) -> Result<Jinja, GoError> {
    let mut strict = Writer { strict: true, output: String::new(), needs: Vec::new() };
    strict.nodes(nodes)?;
    let mut lenient = Writer { strict: false, output: String::new(), needs: Vec::new() };
    lenient.nodes(nodes)?;
    Ok(Jinja { strict: strict.output, lenient: lenient.output, needs: strict.needs })
}

/// What `{% if %}` asks.
pub(in crate::import) fn condition(expr: &Expr, span: &Span) -> Result<String, GoError> {
    let mut writer = Writer { strict: false, output: String::new(), needs: Vec::new() };
    writer.expr(expr, span).map(|(text, _)| text)
}

/// Whether a variable is set where a condition holds.
pub(in crate::import) fn is_set_where(condition: &str, name: &str) -> bool {
    let asked = format!("{} | default('')", variable(name));
    // One of several conditions need not hold.
    let all_hold = !condition.contains(" or ") && !condition.contains("not (");
    let negative = [format!("not {asked}"), format!("{asked} !="), format!("{asked} == ''")];
    all_hold && condition.contains(&asked) && !negative.iter().any(|negative| condition.contains(negative))
}

/// Text that is no template, as it stands in one; `before` is what it follows there.
pub(in crate::import) fn literal(text: &str, followed: bool) -> String {
    let mut output = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((_, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        match (c, next) {
            ('{', Some('{' | '%' | '#')) => output.push_str("{{ '{' }}"),
            ('{', None) if followed => output.push_str("{{ '{' }}"),
            // The backend takes a newline behind a block away.
            ('\n', _) if output.is_empty() => output.push_str("{{ '\\n' }}"),
            (c, _) => output.push(c),
        }
    }
    output
}

/// Words that mean something to the backend.
const RESERVED: [&str; 12] = ["env", "loop", "true", "false", "none", "not", "and", "or", "in", "if", "else", "is"];

fn name(name: &str) -> String {
    if RESERVED.contains(&name) { format!("{name}_") } else { name.to_owned() }
}

/// A text in the backend's single quotes.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

struct Writer {
    strict: bool,
    output: String,
    needs: Vec<String>,
}

impl Writer {
    fn nodes(&mut self, nodes: &[Node]) -> Result<(), GoError> {
        for (index, node) in nodes.iter().enumerate() {
            let span = &node.span;
            match &node.kind {
                Kind::Text(text) => self.output.push_str(&literal(text, index + 1 < nodes.len())),
                Kind::Print(expr) => {
                    let text = match expr.variable() {
                        Some(name) if self.strict && name != OWN_PID => {
                            self.needs.push(name.to_owned());
                            variable(name)
                        }
                        _ => self.expr(expr, span)?.0,
                    };
                    self.output.push_str(&format!("{{{{ {text} }}}}"));
                }
                Kind::If(..) => self.branches("if", node)?,
                Kind::Range(over, then, otherwise) => {
                    let list = self.tight(&over.over, span)?;
                    let element = name(over.element.as_deref().unwrap_or("item"));
                    self.block(&format!("for {element} in {list}"));
                    if let Some(index) = &over.index {
                        self.block(&format!("set {} = loop.index0", name(index)));
                    }
                    self.nodes(then)?;
                    if !otherwise.is_empty() {
                        self.block("else");
                        self.nodes(otherwise)?;
                    }
                    self.block("endfor");
                }
                Kind::Declare(..) | Kind::With(..) => {
                    return Err(GoError::new(span.clone(), "this can't be translated"));
                }
            }
        }
        Ok(())
    }

    fn branches(&mut self, word: &str, node: &Node) -> Result<(), GoError> {
        let Kind::If(expr, then, otherwise) = &node.kind else { return Ok(()) };
        let (asked, _) = self.expr(expr, &node.span)?;
        self.block(&format!("{word} {asked}"));
        let before = self.needs.len();
        self.nodes(then)?;
        // What is asked for before it is used is set where it is used.
        let guarded = asked.clone();
        let needs = self.needs.split_off(before);
        self.needs.extend(needs.into_iter().filter(|name| !guarded.contains(&format!("{} | default", variable(name)))));
        match otherwise.as_slice() {
            [] => {}
            [next @ Node { kind: Kind::If(..), .. }] => return self.branches("elif", next),
            otherwise => {
                self.block("else");
                self.nodes(otherwise)?;
            }
        }
        self.block("endif");
        Ok(())
    }

    fn block(&mut self, text: &str) {
        let line = self.output.rsplit('\n').next().unwrap_or_default();
        // The backend takes blanks before a block away that begin a line.
        let keep = if !line.is_empty() && line.trim().is_empty() { "+" } else { "" };
        self.output.push_str(&format!("{{%{keep} {text} %}}"));
    }

    /// An expression that has a filter put behind it or stands in a comparison.
    fn tight(&mut self, expr: &Expr, span: &Span) -> Result<String, GoError> {
        let (text, bond) = self.expr(expr, span)?;
        Ok(if bond == Bond::Loose { format!("({text})") } else { text })
    }

    fn expr(&mut self, expr: &Expr, span: &Span) -> Result<(String, Bond), GoError> {
        if let Some(name) = expr.variable() {
            let unset = if name == OWN_PID { "1" } else { "" };
            return Ok((format!("{} | default('{unset}')", variable(name)), Bond::Filter));
        }
        let text = match expr {
            Expr::Text(text) => quote(text),
            Expr::Integer(number) => number.to_string(),
            Expr::Float(number) => number.to_string(),
            Expr::Bool(value) => value.to_string(),
            Expr::Nil => "none".to_owned(),
            Expr::Variable(variable) => name(variable),
            Expr::Call(function, args) => return self.call(function, args, span),
            Expr::Dot | Expr::Root | Expr::Field(..) => {
                return Err(GoError::new(span.clone(), "this can't be translated"));
            }
        };
        Ok((text, Bond::Filter))
    }

    fn call(&mut self, function: &str, args: &[Expr], span: &Span) -> Result<(String, Bond), GoError> {
        let mut tight = Vec::new();
        for arg in args {
            tight.push(self.tight(arg, span)?);
        }
        let words: Vec<&str> = tight.iter().map(String::as_str).collect();
        let filter = |text: String| Ok((text, Bond::Filter));
        let loose = |text: String| Ok((text, Bond::Loose));
        match (function, words.as_slice()) {
            ("default", [_, value]) => {
                // A number is written as the text that it becomes.
                let default = match &args[0] {
                    Expr::Integer(number) => quote(&number.to_string()),
                    other => self.tight(other, span)?,
                };
                let value = match args[1].variable() {
                    Some(name) => variable(name),
                    None => (*value).to_owned(),
                };
                filter(format!("{value} | default({default}, true)"))
            }
            ("not", [value]) => loose(format!("not {value}")),
            ("and" | "or", [_, _, ..]) => loose(words.join(&format!(" {function} "))),
            ("and" | "or" | "print" | "html", [value]) => loose((*value).to_owned()),
            ("eq", [first, rest @ ..]) if !rest.is_empty() => {
                loose(rest.iter().map(|other| format!("{first} == {other}")).collect::<Vec<_>>().join(" or "))
            }
            ("ne", [a, b]) => loose(format!("{a} != {b}")),
            ("lt", [a, b]) => loose(format!("{a} < {b}")),
            ("le", [a, b]) => loose(format!("{a} <= {b}")),
            ("gt", [a, b]) => loose(format!("{a} > {b}")),
            ("ge", [a, b]) => loose(format!("{a} >= {b}")),
            ("len", [value]) => filter(format!("{value} | length")),
            ("index", [list, index]) if !matches!(args[0], Expr::Dot | Expr::Root) => {
                filter(format!("({list})[{index}]"))
            }
            ("print", [_, ..]) => loose(words.join(" ~ ")),
            ("printf", [_, ..]) => match &args[0] {
                Expr::Text(format) => loose(concatenation(format, &words[1..])),
                _ => Err(GoError::new(span.clone(), "this can't be translated")),
            },
            ("env", [name]) => filter(format!("env[{name}] | default('')")),
            ("split", [separator, value]) => {
                loose(format!("{value} | trim | split({separator}) if {value} | trim else []"))
            }
            ("join", [separator, list]) => filter(format!("{list} | join({separator})")),
            ("replaceAll", [from, to, value]) => filter(format!("{value} | replace({from}, {to})")),
            ("regexReplaceAll", [pattern, to, value]) => filter(format!("{value} | regex_replace({pattern}, {to})")),
            ("loop", [end]) => filter(format!("range({end} | int)")),
            ("loop", [start, end]) => filter(format!("range({start} | int, {end} | int)")),
            _ => Err(GoError::new(span.clone(), format!("`{function}` can't be translated"))),
        }
    }
}

/// `env.NAME`, or `env['NAME']` for what is no word.
fn variable(name: &str) -> String {
    let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty();
    if word { format!("env.{name}") } else { format!("env[{}]", quote(name)) }
}

/// `printf`'s format as texts and values put one behind the other.
fn concatenation(format: &str, args: &[&str]) -> String {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut args = args.iter();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => match chars.next() {
                Some('s' | 'v' | 'd' | 'q') => {
                    if !text.is_empty() {
                        parts.push(quote(&std::mem::take(&mut text)));
                    }
                    parts.push(args.next().map_or("''".to_owned(), |arg| (*arg).to_owned()));
                }
                Some('%') | None => text.push('%'),
                Some(other) => text.extend(['%', other]),
            },
            c => text.push(c),
        }
    }
    if !text.is_empty() || parts.is_empty() {
        parts.push(quote(&text));
    }
    parts.join(" ~ ")
}

#[cfg(test)]
mod tests {
    use super::super::{Scope, parse, render};
    use super::*;
    use crate::config::Variables;
    use crate::config::template::render_value;

    /// Both ways, with every variable unset, empty, set; what is unset and strict here may be a mistake.
    #[test]
    fn a_translated_template_comes_to_what_containerpilot_made_of_it() {
        for template in [
            "{{ .A }}",
            "x{{ .A | default \"d'\\\"\" }}y",
            "{{ .A | default 10 }}",
            "{{ if .A }}a {{ .A }}{{ else }}b{{ end }}",
            "{{ if .A }}{{ if .B }}ab{{ end }}{{ else if .B }}b{{ else }}none{{ end }}",
            "{{ if and .A (or .B .C) }}y{{ end }}{{ if not .A }}n{{ end }}",
            "{{ if eq .A \"1\" \"x\" }}y{{ end }}{{ if ne .A .B }}ne{{ end }}",
            "{{ .A | default .B | default \"c\" }}",
            "{{ env (printf \"%s_X\" .A) }}{{ env \"B\" }}",
            "{{ range $i, $v := split \",\" .A }}{{ $i }}={{ $v }};{{ else }}-{{ end }}",
            "{{ range split \",\" .A }}[{{ . }}{{ $.B }}]{{ end }}",
            "{{ split \",\" .A | join \"+\" }}",
            "{{ .A | replaceAll \"1\" \"one\" }}{{ regexReplaceAll \"[0-9]\" \"<$0>\" .A }}",
            "{{ $v := .A }}{{ $v }}{{ with .B }}<{{ . }}>{{ end }}",
            "{{ range $i := loop 1 3 }}{{ env (printf \"S%d\" $i) }},{{ end }}",
            "a{ {{ .A }} }{{ `{{` }} {% {# {{ .B }}{",
            "  {{ if .A }}\nx{{ end }}",
            "{{ printf \"%s:%s%%\" .A \"b\" }}{{ len .A }}",
        ] {
            let nodes = Scope::default().resolve_all(&parse(template).unwrap());
            let jinja = translate(&nodes).unwrap_or_else(|error| panic!("{template}: {error:?}"));
            for choice in 0..27 {
                let value = |at: u32| [None, Some(""), Some("1,x")][(choice / 3_usize.pow(at)) % 3];
                let set: Vec<(&str, &str)> =
                    ["A", "B", "S1"].iter().zip(0..).filter_map(|(name, at)| Some((*name, value(at)?))).collect();
                let environment = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                let theirs = render(&parse(template).unwrap(), &environment).unwrap();
                let variables: Variables = set.iter().copied().collect();
                let ours = |text: &str| {
                    if text.contains("{{") || text.contains("{%") {
                        render_value(text, &variables)
                    } else {
                        Ok(text.to_owned())
                    }
                };
                let lenient =
                    ours(&jinja.lenient).unwrap_or_else(|error| panic!("{template} → {}: {error}", jinja.lenient));
                assert_eq!(lenient, theirs, "{template} → {} with {set:?}", jinja.lenient);
                match ours(&jinja.strict) {
                    Ok(strict) => assert_eq!(strict, theirs, "{template} → {}", jinja.strict),
                    Err(error) => {
                        let missing = jinja.needs.iter().any(|name| !environment_has(&set, name));
                        assert!(missing, "{template} → {}: {error}", jinja.strict);
                    }
                }
            }
        }
    }

    fn environment_has(set: &[(&str, &str)], name: &str) -> bool {
        set.iter().any(|(known, _)| *known == name)
    }
}
