//! What a template comes to in an environment, by Go's rules: what isn't set is empty, and what is empty is false.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use regex_lite::Regex;

use super::{Expr, GoError, Kind, Node, Span};

/// More than any config; a loop without end stops here.
const LONGEST: usize = 1 << 20;
/// Elements that loops may go through, all in all.
const MOST_STEPS: usize = 100_000;

/// The variables that are known.
pub(in crate::import) type Environment = BTreeMap<String, String>;

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Environment,
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Value>),
    Nil,
}

/// The text that pieces come to.
pub(in crate::import) fn render(nodes: &[Node], environment: &Environment) -> Result<String, GoError> {
    let mut run = Run { environment, output: String::new(), steps: 0 };
    run.nodes(nodes, &Value::Environment, &mut Vec::new())?;
    Ok(run.output)
}

/// Whether `{{ if }}` takes the branch.
pub(in crate::import) fn truth(expr: &Expr, environment: &Environment, span: &Span) -> Result<bool, GoError> {
    let mut run = Run { environment, output: String::new(), steps: 0 };
    Ok(run.value(expr, &Value::Environment, &[], span)?.is_true())
}

/// What an expression of nothing but what is known comes to, if that can be written as one.
pub(super) fn constant(expr: &Expr, environment: &Environment, span: &Span) -> Option<Expr> {
    let mut run = Run { environment, output: String::new(), steps: 0 };
    match run.value(expr, &Value::Environment, &[], span).ok()? {
        Value::Text(text) => Some(Expr::Text(text)),
        Value::Integer(number) => Some(Expr::Integer(number)),
        Value::Float(number) => Some(Expr::Float(number)),
        Value::Bool(value) => Some(Expr::Bool(value)),
        Value::Nil => Some(Expr::Nil),
        Value::Environment | Value::List(_) => None,
    }
}

/// What a `range` goes through, each as an expression.
pub(in crate::import) fn elements(expr: &Expr, environment: &Environment, span: &Span) -> Result<Vec<Expr>, GoError> {
    let mut run = Run { environment, output: String::new(), steps: 0 };
    match run.value(expr, &Value::Environment, &[], span)? {
        Value::List(elements) => Ok(elements
            .into_iter()
            .map(|element| match element {
                Value::Integer(number) => Expr::Integer(number),
                other => Expr::Text(other.text()),
            })
            .collect()),
        Value::Nil => Ok(Vec::new()),
        _ => Err(GoError::new(span.clone(), "`range` can't go through this: it isn't a list")),
    }
}

/// Whether an expression is made of nothing but what is known.
pub(in crate::import) fn known(expr: &Expr, environment: &Environment) -> bool {
    match expr {
        Expr::Text(_) | Expr::Integer(_) | Expr::Float(_) | Expr::Bool(_) | Expr::Nil => true,
        Expr::Dot | Expr::Root | Expr::Variable(_) => false,
        Expr::Field(..) => expr.variable().is_some_and(|name| environment.contains_key(name)),
        Expr::Call(function, args) if function == "env" => {
            expr.variable().is_some_and(|name| environment.contains_key(name)) && !args.is_empty()
        }
        Expr::Call(_, args) => args.iter().all(|arg| known(arg, environment)),
    }
}

struct Run<'e> {
    environment: &'e Environment,
    output: String,
    steps: usize,
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value, variables: &mut Vec<(String, Value)>) -> Result<(), GoError> {
        let outside = variables.len();
        for node in nodes {
            self.node(node, dot, variables)?;
            if self.output.len() > LONGEST {
                return Err(GoError::new(node.span.clone(), format!("this comes to more than {LONGEST} bytes")));
            }
        }
        variables.truncate(outside);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value, variables: &mut Vec<(String, Value)>) -> Result<(), GoError> {
        let outside = variables.len();
        match &node.kind {
            Kind::Text(text) => self.output.push_str(text),
            Kind::Print(expr) => {
                let value = self.value(expr, dot, variables, &node.span)?;
                value.print(&mut self.output);
            }
            Kind::Declare(name, expr) => {
                let value = self.value(expr, dot, variables, &node.span)?;
                variables.push((name.clone(), value));
                return Ok(());
            }
            Kind::If(expr, then, otherwise) => {
                let branch = if self.value(expr, dot, variables, &node.span)?.is_true() { then } else { otherwise };
                self.nodes(branch, dot, variables)?;
            }
            Kind::With(name, expr, then, otherwise) => {
                let value = self.value(expr, dot, variables, &node.span)?;
                if let Some(name) = name {
                    variables.push((name.clone(), value.clone()));
                }
                match value.is_true() {
                    true => self.nodes(then, &value, variables)?,
                    false => self.nodes(otherwise, dot, variables)?,
                }
            }
            Kind::Range(over, then, otherwise) => {
                let elements = match self.value(&over.over, dot, variables, &node.span)? {
                    Value::List(elements) => elements,
                    Value::Nil => Vec::new(),
                    _ => return Err(GoError::new(node.span.clone(), "`range` can't go through this: it isn't a list")),
                };
                if elements.is_empty() {
                    self.nodes(otherwise, dot, variables)?;
                }
                for (index, element) in elements.into_iter().enumerate() {
                    self.step(1, &node.span)?;
                    if let Some(name) = &over.index {
                        variables.push((name.clone(), Value::Integer(index as i64)));
                    }
                    if let Some(name) = &over.element {
                        variables.push((name.clone(), element.clone()));
                    }
                    self.nodes(then, &element, variables)?;
                    variables.truncate(outside);
                }
            }
        }
        variables.truncate(outside);
        Ok(())
    }

    fn step(&mut self, count: usize, span: &Span) -> Result<(), GoError> {
        self.steps = self.steps.saturating_add(count);
        match self.steps > MOST_STEPS {
            true => Err(GoError::new(span.clone(), format!("this goes through more than {MOST_STEPS} elements"))),
            false => Ok(()),
        }
    }

    fn value(
        &mut self,
        expr: &Expr,
        dot: &Value,
        variables: &[(String, Value)],
        span: &Span,
    ) -> Result<Value, GoError> {
        Ok(match expr {
            Expr::Dot => dot.clone(),
            Expr::Root => Value::Environment,
            Expr::Field(of, name) => match self.value(of, dot, variables, span)? {
                Value::Environment => Value::Text(self.environment.get(name).cloned().unwrap_or_default()),
                _ => return Err(GoError::new(span.clone(), format!("a text has no field `{name}`"))),
            },
            Expr::Variable(name) => match variables.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => value.clone(),
                None => return Err(GoError::new(span.clone(), format!("there is no variable `${name}`"))),
            },
            Expr::Text(text) => Value::Text(text.clone()),
            Expr::Integer(number) => Value::Integer(*number),
            Expr::Float(number) => Value::Float(*number),
            Expr::Bool(value) => Value::Bool(*value),
            Expr::Nil => Value::Nil,
            Expr::Call(function, args) => {
                let args: Vec<Value> =
                    args.iter().map(|arg| self.value(arg, dot, variables, span)).collect::<Result<_, _>>()?;
                self.call(function, args, span)?
            }
        })
    }

    fn call(&mut self, function: &str, args: Vec<Value>, span: &Span) -> Result<Value, GoError> {
        let wrong = |what: &str| GoError::new(span.clone(), format!("`{function}` {what}"));
        let text = |value: &Value| match value {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(wrong("wants a text")),
        };
        Ok(match (function, args.as_slice()) {
            ("not", [value]) => Value::Bool(!value.is_true()),
            ("and", [_, ..]) => args.iter().find(|value| !value.is_true()).unwrap_or(&args[args.len() - 1]).clone(),
            ("or", [_, ..]) => args.iter().find(|value| value.is_true()).unwrap_or(&args[args.len() - 1]).clone(),
            ("eq", [first, rest @ ..]) if !rest.is_empty() => {
                for other in rest {
                    if std::mem::discriminant(first) != std::mem::discriminant(other) {
                        return Err(wrong("compares values of different kinds"));
                    }
                }
                Value::Bool(rest.contains(first))
            }
            ("ne", [a, b]) => Value::Bool(a != b),
            ("lt" | "le" | "gt" | "ge", [a, b]) => {
                let order = match (a, b) {
                    (Value::Text(a), Value::Text(b)) => a.cmp(b),
                    (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
                    _ => return Err(wrong("compares values of different kinds")),
                };
                Value::Bool(match function {
                    "lt" => order.is_lt(),
                    "le" => order.is_le(),
                    "gt" => order.is_gt(),
                    _ => order.is_ge(),
                })
            }
            ("len", [Value::Text(text)]) => Value::Integer(text.len() as i64),
            ("len", [Value::List(list)]) => Value::Integer(list.len() as i64),
            ("index", [Value::List(list), Value::Integer(index)]) => usize::try_from(*index)
                .ok()
                .and_then(|index| list.get(index).cloned())
                .ok_or_else(|| wrong("goes beyond the list's end"))?,
            ("index", [Value::Environment, Value::Text(name)]) => {
                Value::Text(self.environment.get(name).cloned().unwrap_or_default())
            }
            ("print", _) => Value::Text(args.iter().map(Value::text).collect::<Vec<_>>().concat()),
            ("println", _) => Value::Text(args.iter().map(Value::text).collect::<Vec<_>>().join(" ") + "\n"),
            ("html", [value]) => Value::Text(value.text()),
            ("printf", [Value::Text(format), rest @ ..]) => Value::Text(printf(format, rest)),
            ("default", [default, value]) => match value {
                Value::Text(text) if !text.is_empty() => Value::Text(text.clone()),
                _ => Value::Text(default.text()),
            },
            ("env", [name]) => Value::Text(self.environment.get(&text(name)?).cloned().unwrap_or_default()),
            ("split", [separator, value]) => {
                let (separator, value) = (text(separator)?, text(value)?);
                let value = value.trim();
                let list: Vec<Value> = match (value.is_empty(), separator.is_empty()) {
                    (true, _) => Vec::new(),
                    (false, true) => value.chars().map(|c| Value::Text(c.to_string())).collect(),
                    (false, false) => {
                        value.split(separator.as_str()).map(|part| Value::Text(part.to_owned())).collect()
                    }
                };
                self.step(list.len(), span)?;
                Value::List(list)
            }
            ("join", [separator, Value::List(list)]) => {
                Value::Text(list.iter().map(Value::text).collect::<Vec<_>>().join(&text(separator)?))
            }
            ("replaceAll", [from, to, value]) => {
                let replaced = text(value)?.replace(&text(from)?, &text(to)?);
                if replaced.len() > LONGEST {
                    return Err(wrong("makes the text too long"));
                }
                Value::Text(replaced)
            }
            ("regexReplaceAll", [pattern, to, value]) => {
                let regex = Regex::new(&text(pattern)?).map_err(|_| wrong("can't read its regular expression"))?;
                Value::Text(regex.replace_all(&text(value)?, text(to)?.as_str()).into_owned())
            }
            ("loop", [Value::Integer(_) | Value::Text(_)] | [_, Value::Integer(_) | Value::Text(_)]) => {
                let bounds: Vec<i64> = args
                    .iter()
                    .map(|arg| match arg {
                        Value::Integer(number) => Ok(*number),
                        Value::Text(text) => text.parse().map_err(|_| wrong(&format!("wants numbers, not `{text}`"))),
                        _ => Err(wrong("wants numbers")),
                    })
                    .collect::<Result<_, _>>()?;
                let (start, stop) = if let [start, stop] = bounds[..] { (start, stop) } else { (0, bounds[0]) };
                self.step(usize::try_from(start.abs_diff(stop)).unwrap_or(usize::MAX), span)?;
                let list: Vec<i64> =
                    if stop < start { (stop + 1..=start).rev().collect() } else { (start..stop).collect() };
                Value::List(list.into_iter().map(Value::Integer).collect())
            }
            _ => return Err(wrong("can't take these arguments")),
        })
    }
}

impl Value {
    fn is_true(&self) -> bool {
        match self {
            Value::Environment => true,
            Value::Text(text) => !text.is_empty(),
            Value::Integer(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Bool(value) => *value,
            Value::List(list) => !list.is_empty(),
            Value::Nil => false,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        self.print(&mut text);
        text
    }

    fn print(&self, output: &mut String) {
        let _ = match self {
            Value::Environment => write!(output, "map[]"),
            Value::Text(text) => write!(output, "{text}"),
            Value::Integer(number) => write!(output, "{number}"),
            Value::Float(number) => write!(output, "{number}"),
            Value::Bool(value) => write!(output, "{value}"),
            Value::List(list) => {
                write!(output, "[{}]", list.iter().map(Value::text).collect::<Vec<_>>().join(" "))
            }
            Value::Nil => write!(output, "<nil>"),
        };
    }
}

/// `%s`, `%v`, `%d`, `%q` and `%%`; the rest stays as it is.
fn printf(format: &str, args: &[Value]) -> String {
    let mut output = String::new();
    let mut args = args.iter();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            output.push(c);
            continue;
        }
        match chars.next() {
            Some('s' | 'v' | 'd') => output.push_str(&args.next().map_or("%!s(MISSING)".to_owned(), Value::text)),
            Some('q') => output.push_str(&format!("{:?}", args.next().map(Value::text).unwrap_or_default())),
            Some('%') | None => output.push('%'),
            Some(other) => output.extend(['%', other]),
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn with(text: &str, pairs: &[(&str, &str)]) -> Result<String, GoError> {
        let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse(text).and_then(|nodes| render(&nodes, &environment))
    }

    #[test]
    fn templates_render_as_containerpilot_rendered_them() {
        let set = [("A", "a"), ("EMPTY", ""), ("LIST", "x,y"), ("N", "2"), ("SITE_1", "one"), ("SITE_2", "two")];
        for (template, expected) in [
            ("{{ .A }}-{{ .NONE }}-{{ .EMPTY }}", "a--"),
            ("{{ .NONE | default \"d\" }}{{ .EMPTY | default 10 }}{{ .A | default \"d\" }}", "d10a"),
            ("{{ if .A }}1{{ else }}2{{ end }}{{ if .EMPTY }}1{{ else if .A }}3{{ end }}", "13"),
            ("{{ if and .A (not .NONE) }}y{{ end }}{{ if or .NONE .EMPTY }}n{{ end }}", "y"),
            ("{{ if eq .A \"b\" \"a\" }}y{{ end }}{{ if ne .A \"b\" }}y{{ end }}", "yy"),
            ("{{ range $i, $v := split \",\" .LIST }}{{ $i }}{{ $v }};{{ end }}", "0x;1y;"),
            ("{{ split \",\" .LIST | join \"-\" }}", "x-y"),
            ("{{ range split \",\" .NONE }}x{{ else }}none{{ end }}", "none"),
            ("{{ range loop 1 3 }}{{ . }}{{ end }}{{ range loop 2 0 }}{{ . }}{{ end }}", "1221"),
            ("{{ range $i := loop 1 3 }}{{ env (printf \"SITE_%d\" $i) }} {{ end }}", "one two "),
            ("{{ $v := .A }}{{ $v }}{{ with .A }}<{{ . }}{{ $.N }}>{{ end }}", "a<a2>"),
            ("a  {{- .A -}}  b {{/* no */}}{{- /* no */ -}} c", "aab c"),
            ("{{ `{{ raw }}` }}{{ \"\\\"q\\\"\" }}", "{{ raw }}\"q\""),
            ("{{ .A | replaceAll \"a\" \"b\" }}{{ regexReplaceAll \"[ax]\" \"<$0>\" .A }}", "b<a>"),
        ] {
            assert_eq!(with(template, &set).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn a_template_without_an_end_is_given_up() {
        for template in [
            "{{ range loop 1000000000 }}x{{ end }}",
            "{{ range loop 300 }}{{ range loop 300 }}{{ range loop 300 }}{{ end }}{{ end }}{{ end }}",
            "{{ range loop 90000 }}xxxxxxxxxxxxxxxxxxxxxxxxxxxx{{ end }}",
            "{{ loop -9223372036854775808 9223372036854775807 }}",
        ] {
            assert!(with(template, &[]).is_err(), "{template}");
        }
        assert!(with("{{ .A.B }}", &[]).unwrap_err().what.contains("no field `B`"));
    }
}
