//! A template with the variables that are known put in: what depends on them alone is worked out, and the rest stays a
//! template of what isn't known.

use super::{Environment, Expr, GoError, Kind, Loop, Node, Scope, Span, constant, elements, known, truth};

/// More pieces than a config has come of a loop in a loop.
const MOST_PIECES: usize = 10_000;

/// Pieces that need no scope, as far as `set` decides them.
pub(in crate::import) fn decided(nodes: &[Node], set: &Environment) -> Result<Vec<Node>, GoError> {
    if set.is_empty() {
        return Ok(nodes.to_vec());
    }
    Deciding { set, pieces: 0 }.nodes(nodes)
}

/// An expression that needs no scope, as far as `set` decides it.
pub(in crate::import) fn simplified(expr: &Expr, set: &Environment, span: &Span) -> Expr {
    if set.is_empty() { expr.clone() } else { simple(expr, set, span) }
}

struct Deciding<'s> {
    set: &'s Environment,
    pieces: usize,
}

impl Deciding<'_> {
    fn nodes(&mut self, nodes: &[Node]) -> Result<Vec<Node>, GoError> {
        let mut decided = Vec::new();
        for node in nodes {
            self.node(node, &mut decided)?;
            self.pieces += 1;
            if self.pieces > MOST_PIECES {
                return Err(GoError::new(node.span.clone(), "this goes on for too long"));
            }
        }
        Ok(decided)
    }

    fn node(&mut self, node: &Node, decided: &mut Vec<Node>) -> Result<(), GoError> {
        let span = &node.span;
        let kind = match &node.kind {
            Kind::Print(value) => match simple(value, self.set, span) {
                Expr::Text(text) => Kind::Text(text),
                value => Kind::Print(value),
            },
            Kind::If(asked, then, otherwise) => {
                let asked = simple(asked, self.set, span);
                if known(&asked, self.set) {
                    let taken = if truth(&asked, self.set, span)? { then } else { otherwise };
                    decided.extend(self.nodes(taken)?);
                    return Ok(());
                }
                Kind::If(asked, self.nodes(then)?, self.nodes(otherwise)?)
            }
            Kind::Range(over, then, otherwise) if known(&over.over, self.set) => {
                let elements = elements(&over.over, self.set, span)?;
                if elements.is_empty() {
                    decided.extend(self.nodes(otherwise)?);
                }
                for (index, element) in elements.into_iter().enumerate() {
                    let mut inside = Scope::default();
                    if let Some(name) = &over.index {
                        inside.declare(name, Expr::Integer(index as i64));
                    }
                    if let Some(name) = &over.element {
                        inside.declare(name, element);
                    }
                    decided.extend(self.nodes(&inside.resolve_all(then))?);
                }
                return Ok(());
            }
            Kind::Range(over, then, otherwise) => {
                let over = Loop { over: simple(&over.over, self.set, span), ..over.clone() };
                Kind::Range(over, self.nodes(then)?, self.nodes(otherwise)?)
            }
            // These are gone where no scope is needed.
            Kind::Text(_) | Kind::Declare(..) | Kind::With(..) => node.kind.clone(),
        };
        decided.push(Node { kind, span: span.clone() });
        Ok(())
    }
}

fn simple(expr: &Expr, set: &Environment, span: &Span) -> Expr {
    if known(expr, set)
        && let Some(value) = constant(expr, set, span)
    {
        return value;
    }
    let Expr::Call(function, args) = expr else { return expr.clone() };
    // A variable by its name is asked for as it is.
    if function == "env" && expr.variable().is_some() {
        return expr.clone();
    }
    let args: Vec<Expr> = args.iter().map(|arg| simple(arg, set, span)).collect();
    let is = |arg: &Expr| known(arg, set).then(|| truth(arg, set, span).ok()).flatten();
    match (function.as_str(), args.as_slice()) {
        ("default", [_, value]) if is(value) == Some(true) => value.clone(),
        // What it falls back on becomes a text.
        ("default", [Expr::Integer(number), value]) if is(value) == Some(false) => Expr::Text(number.to_string()),
        ("default", [default, value]) if is(value) == Some(false) => default.clone(),
        // The first that is false decides `and`, the first that is true decides `or`; else it is the last.
        ("and" | "or", [_, ..]) => {
            let decides = Some(function == "or");
            let mut left = Vec::new();
            for (at, arg) in args.iter().enumerate() {
                let last = at + 1 == args.len();
                match is(arg) {
                    answer if answer == decides => {
                        left.push(arg.clone());
                        break;
                    }
                    Some(_) if !last => {}
                    _ => left.push(arg.clone()),
                }
            }
            match left.len() {
                1 => left.remove(0),
                _ => Expr::Call(function.clone(), left),
            }
        }
        _ => Expr::Call(function.clone(), args),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{parse, render, translate};
    use super::*;

    const NAMES: [&str; 3] = ["A", "B", "C"];

    fn environment(values: [Option<&str>; 3]) -> Environment {
        let pairs = NAMES.iter().zip(values);
        pairs.filter_map(|(name, value)| Some(((*name).to_owned(), value?.to_owned()))).collect()
    }

    /// Whatever is known and whatever the rest comes to: it renders to the same, and nothing known is asked for.
    #[test]
    fn what_is_decided_comes_to_the_same_and_is_asked_no_more() {
        for template in [
            "{{ if .A }}a{{ else }}{{ .B | default \"c\" }}{{ end }}",
            "{{ if .A }}{{ if .B }}ab{{ end }}{{ else if .B }}b{{ else }}{{ .C }}{{ end }}",
            "{{ if and .A .B }}y{{ else }}{{ .C }}{{ end }}{{ if or .A (not .B) .C }}z{{ end }}",
            "{{ and .A .B }}{{ or .A .B \"x\" }}{{ .A | default .B | default 10 }}",
            "{{ if eq .A .B \"1\" }}y{{ end }}{{ if ne .A .C }}n{{ end }}",
            "{{ if eq (.A | default 10) \"10\" }}y{{ end }}{{ env \"B\" }}{{ env (printf \"%s\" \"C\") }}",
            "{{ range $i, $v := split \",\" .A }}{{ $i }}{{ $v }}{{ $.B }};{{ else }}{{ .C }}{{ end }}",
            "{{ with .A }}<{{ . }}{{ $.B }}>{{ end }}{{ split \",\" .C | join \"+\" }}",
            "{{ range split \",\" .B }}{{ if $.A }}{{ . }}{{ end }}{{ end }}",
        ] {
            let nodes = Scope::default().resolve_all(&parse(template).unwrap());
            for choice in 0..256_usize {
                let known: [Option<&str>; 3] =
                    [0, 2, 4].map(|bit| [None, Some(""), Some("1"), Some("x,1")][(choice >> bit) & 3]);
                let decided = decided(&nodes, &environment(known)).unwrap();
                if let Ok(jinja) = translate(&decided) {
                    for (name, value) in NAMES.iter().zip(known) {
                        let asks = jinja.strict.contains(&format!("env.{name}"));
                        assert!(value.is_none() || !asks, "{template} with {known:?}: {}", jinja.strict);
                    }
                }
                for rest in [None, Some(""), Some("1"), Some("y")] {
                    let all = environment(known.map(|value| value.or(rest)));
                    assert_eq!(render(&decided, &all), render(&nodes, &all), "{template} with {known:?} and {rest:?}");
                }
            }
        }
    }

    #[test]
    fn a_loop_of_known_loops_is_given_up() {
        let text = "{{ range loop 300 }}{{ range loop 300 }}{{ $.B }}{{ end }}{{ end }}";
        let nodes = Scope::default().resolve_all(&parse(text).unwrap());
        assert!(decided(&nodes, &environment([Some("1"), None, None])).is_err());
    }
}
