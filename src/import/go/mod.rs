//! Go's text/template, as far as ContainerPilot's files use it: read with places, rendered as ContainerPilot did, and
//! translated value by value. It knows nothing of JSON and reads no environment of its own.
//!
//! No maintained library reads these with places, and most of the language (`define`, methods, nested templates) never
//! occurs in a config.

mod eval;
mod jinja;
mod lex;
mod parse;
mod partial;

use std::ops::Range;

use eval::constant;
pub(super) use eval::{Environment, elements, known, render, truth};
pub(super) use jinja::{Jinja, condition, is_set_where, literal, translate};
pub(super) use parse::parse;
pub(super) use partial::{decided, simplified};

/// Where something stands in the source, in bytes.
pub(super) type Span = Range<usize>;

/// Why a template can't be read, rendered or translated, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GoError {
    pub(super) span: Span,
    pub(super) what: String,
}

impl GoError {
    pub(super) fn new(span: Span, what: impl Into<String>) -> GoError {
        GoError { span, what: what.into() }
    }
}

/// One piece of a template and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

/// What a piece is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Text as it is. What a trim marker has taken away is not in it, so it may be shorter than its span; it begins at
    /// the span's start.
    Text(String),
    /// A value.
    Print(Expr),
    /// `$name := value`.
    Declare(String, Expr),
    /// `{{ if }}`, with what an `{{ else }}` holds.
    If(Expr, Vec<Node>, Vec<Node>),
    /// `{{ range }}`.
    Range(Loop, Vec<Node>, Vec<Node>),
    /// `{{ with }}`; the name is that of `{{ with $x := … }}`.
    With(Option<String>, Expr, Vec<Node>, Vec<Node>),
}

/// What a `range` goes through, and what it calls each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Loop {
    pub(super) index: Option<String>,
    pub(super) element: Option<String>,
    pub(super) over: Expr,
}

/// An expression; `a | f x` is the call `f x a`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    /// `.`: the environment, or what `range` and `with` make of it.
    Dot,
    /// `$`: the environment.
    Root,
    Field(Box<Expr>, String),
    Variable(String),
    Call(String, Vec<Expr>),
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Nil,
}

impl Expr {
    /// The environment variable that it is, if it is just that.
    pub(super) fn variable(&self) -> Option<&str> {
        match self {
            Expr::Field(of, name) if matches!(**of, Expr::Dot | Expr::Root) => Some(name),
            Expr::Call(function, args) if function == "env" => match args.as_slice() {
                [Expr::Text(name)] => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// A variable whose name is put together of what is known, by its name.
    fn named(&self) -> Option<Expr> {
        let Expr::Call(function, args) = self else { return None };
        let [name] = args.as_slice() else { return None };
        let nothing = Environment::new();
        if function != "env" || matches!(name, Expr::Text(_)) || !known(name, &nothing) {
            return None;
        }
        let name = render(&[Node { kind: Kind::Print(name.clone()), span: 0..0 }], &nothing).ok()?;
        Some(Expr::Call(function.clone(), vec![Expr::Text(name)]))
    }

    /// The same with each part replaced that `with` knows better.
    fn map(&self, with: &dyn Fn(&Expr) -> Option<Expr>) -> Expr {
        if let Some(better) = with(self) {
            return better;
        }
        match self {
            Expr::Field(of, name) => Expr::Field(Box::new(of.map(with)), name.clone()),
            Expr::Call(function, args) => Expr::Call(function.clone(), args.iter().map(|arg| arg.map(with)).collect()),
            other => other.clone(),
        }
    }
}

/// What names stand for where a piece is read on its own.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    dot: Expr,
    variables: Vec<(String, Expr)>,
}

impl Default for Scope {
    fn default() -> Scope {
        Scope { dot: Expr::Root, variables: Vec::new() }
    }
}

impl Scope {
    pub(super) fn declare(&mut self, name: &str, value: Expr) {
        self.variables.push((name.to_owned(), value));
    }

    /// The scope of a `range`'s or `with`'s inside.
    pub(super) fn within(&self, dot: Expr) -> Scope {
        Scope { dot, ..self.clone() }
    }

    /// An expression that needs no scope.
    pub(super) fn resolve(&self, expr: &Expr) -> Expr {
        let resolved = expr.map(&|part| match part {
            Expr::Dot => Some(self.dot.clone()),
            Expr::Variable(name) => {
                self.variables.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            }
            _ => None,
        });
        resolved.map(&|part| part.named())
    }

    /// Pieces that need no scope. What they bind themselves stays.
    pub(super) fn resolve_all(&self, nodes: &[Node]) -> Vec<Node> {
        let mut scope = self.clone();
        let mut resolved = Vec::new();
        for node in nodes {
            let kind = match &node.kind {
                Kind::Text(text) => Kind::Text(text.clone()),
                Kind::Print(value) => Kind::Print(scope.resolve(value)),
                Kind::Declare(name, value) => {
                    let value = scope.resolve(value);
                    scope.declare(name, value);
                    continue;
                }
                Kind::If(condition, then, otherwise) => {
                    Kind::If(scope.resolve(condition), scope.resolve_all(then), scope.resolve_all(otherwise))
                }
                Kind::With(name, value, then, otherwise) => {
                    let value = scope.resolve(value);
                    let mut inside = scope.within(value.clone());
                    if let Some(name) = name {
                        inside.declare(name, value.clone());
                    }
                    Kind::If(value, inside.resolve_all(then), scope.resolve_all(otherwise))
                }
                Kind::Range(over, then, otherwise) => {
                    let element = over.element.clone().unwrap_or_else(|| "item".to_owned());
                    let mut inside = scope.within(Expr::Variable(element.clone()));
                    inside.variables.retain(|(name, _)| *name != element && Some(name) != over.index.as_ref());
                    let over =
                        Loop { index: over.index.clone(), element: Some(element), over: scope.resolve(&over.over) };
                    Kind::Range(over, inside.resolve_all(then), scope.resolve_all(otherwise))
                }
            };
            resolved.push(Node { kind, span: node.span.clone() });
        }
        resolved
    }
}

/// Goes through every expression of some pieces.
pub(super) fn each_expr<'n>(nodes: &'n [Node], see: &mut dyn FnMut(&'n Expr, &'n Span)) {
    for node in nodes {
        match &node.kind {
            Kind::Text(_) => {}
            Kind::Print(value) | Kind::Declare(_, value) => see(value, &node.span),
            Kind::If(value, then, otherwise) | Kind::With(_, value, then, otherwise) => {
                see(value, &node.span);
                each_expr(then, see);
                each_expr(otherwise, see);
            }
            Kind::Range(over, then, otherwise) => {
                see(&over.over, &node.span);
                each_expr(then, see);
                each_expr(otherwise, see);
            }
        }
    }
}
