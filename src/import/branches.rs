//! One JSON text for each way that the `{{ if }}`s between a file's values can go.
//!
//! A template inside a JSON string, or one that is a value, is a hole: a character of a private plane, so that JSON is
//! read with every place known. An `{{ if }}` around keys, elements or commas is gone both ways, and what is different
//! is put together again when it is known what it means. A template that leaves a string which it is in, or has several
//! words of a command, is gone both ways too. Where these are too many ways, [`Sampler`] goes some of them.

use std::collections::{BTreeMap, BTreeSet};

use super::go::{self, Environment, Expr, GoError, Kind, Node, Scope, Span};
use super::quoted;
use super::text::Template;

/// Ways that are gone at most; a file asks two or three things.
pub(super) const MOST_WAYS: usize = 64;
/// The first of the characters that stand for templates: private use, and more than a file has places for.
const FIRST_HOLE: u32 = 0xF_0000;
const LAST_HOLE: u32 = 0x10_FFFD;
/// Arrays and objects may stand in each other this deep.
const DEEPEST: usize = 64;

/// One way.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    /// What was asked, as an index into [`Branches::questions`], and the answer.
    pub(super) answers: BTreeMap<usize, bool>,
    pub(super) flat: Flat,
}

/// A JSON text with holes.
#[derive(Debug, Clone, Default)]
pub(super) struct Flat {
    pub(super) text: String,
    /// Where pieces of it stand in the source: its start here, its start there.
    places: Vec<(usize, usize)>,
    /// What each hole is, by its character's number.
    pub(super) holes: BTreeMap<u32, Template>,
}

impl Flat {
    /// The place in the source.
    pub(super) fn source(&self, at: usize) -> usize {
        let index = self.places.partition_point(|(here, _)| *here <= at);
        match index.checked_sub(1).and_then(|index| self.places.get(index)) {
            Some((here, there)) => there + (at - here),
            None => 0,
        }
    }

    pub(super) fn span(&self, span: Span) -> Span {
        let start = self.source(span.start);
        // The end of a value lies behind its last character, which may be in another piece.
        let end = if span.end > span.start { self.source(span.end - 1) + 1 } else { start };
        start..end.max(start)
    }
}

/// Something that `{{ if }}` asks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) expr: Expr,
    pub(super) span: Span,
    /// As a template asks it.
    pub(super) jinja: String,
}

/// A remark on the templates themselves.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Remark {
    pub(super) span: Span,
    pub(super) lost: bool,
    pub(super) what: String,
}

/// Ways through a file.
#[derive(Debug, Default)]
pub(super) struct Branches {
    pub(super) questions: Vec<Question>,
    pub(super) ways: Vec<Branch>,
    pub(super) remarks: Vec<Remark>,
    /// Whether there are more.
    pub(super) are_too_many: bool,
}

/// Goes every way, but for those past [`MOST_WAYS`]. What `set` names is known.
pub(super) fn branches(nodes: &[Node], set: &Environment) -> Result<Branches, GoError> {
    let mut all = Branches::default();
    let mut open: Vec<BTreeMap<usize, bool>> = vec![BTreeMap::new()];
    while let Some(answers) = open.pop() {
        let ways = all.ways.len() + open.len() + 1;
        let mut walk = Walk {
            all: &mut all,
            set,
            answers,
            flat: Flat::default(),
            state: State::default(),
            unknown: if ways >= MOST_WAYS { Unknown::LeftOut } else { Unknown::Asked },
        };
        match walk.nodes(nodes, &mut Scope::default()) {
            Ok(()) => {
                let Walk { answers, flat, .. } = walk;
                all.ways.push(Branch { answers, flat });
            }
            Err(Stop::Unknown(question)) => {
                // The way on which nothing is set is gone first.
                for answer in [true, false] {
                    let mut answers = walk.answers.clone();
                    answers.insert(question, answer);
                    open.push(answers);
                }
            }
            Err(Stop::Wrong(error)) => return Err(error),
        }
    }
    Ok(all)
}

/// Goes some of a file's ways: enough to see what depends on which question, and further ones to try that on.
pub(super) struct Sampler<'a> {
    nodes: &'a [Node],
    set: &'a Environment,
    pub(super) all: Branches,
    gone: BTreeSet<BTreeMap<usize, bool>>,
    random: u64,
    /// How many bytes of text may still be gone through.
    left: usize,
}

/// Bytes that are gone through at most, on all ways.
const MOST_TEXT: usize = 8 << 20;
/// Ways that are gone to begin with.
const MOST_SAMPLES: usize = 400;

impl<'a> Sampler<'a> {
    pub(super) fn new(nodes: &'a [Node], set: &'a Environment) -> Sampler<'a> {
        let random = 0x9e37_79b9_7f4a_7c15;
        Sampler { nodes, set, all: Branches::default(), gone: BTreeSet::new(), random, left: MOST_TEXT }
    }

    /// The way on which nothing is set, then those on which one thing or two are, and those on which all but one are.
    pub(super) fn first(&mut self) -> Result<Vec<Branch>, GoError> {
        let mut ways = Vec::new();
        for default in [false, true] {
            let begin = ways.len();
            ways.extend(self.way(&|_| default)?);
            let mut known = BTreeSet::new();
            let mut at = begin;
            // What is only asked on a way with another answer is answered otherwise there, too.
            while at < ways.len() && ways.len() < MOST_SAMPLES {
                let answers = ways[at].answers.clone();
                for question in answers.keys().filter(|question| at == begin || known.insert(**question)) {
                    ways.extend(self.flipped(&answers, &[*question], default)?);
                }
                known.extend(answers.keys().copied());
                at += 1;
            }
        }
        let Some(base) = ways.first().map(|way: &Branch| way.answers.clone()) else { return Ok(ways) };
        for first in base.keys() {
            for (second, _) in base.range(*first + 1..) {
                if ways.len() >= MOST_SAMPLES {
                    return Ok(ways);
                }
                ways.extend(self.flipped(&base, &[*first, *second], false)?);
            }
        }
        Ok(ways)
    }

    /// Ways on which it is chance what is set.
    pub(super) fn some(&mut self, number: usize) -> Result<Vec<Branch>, GoError> {
        let mut ways = Vec::new();
        for nth in 0..number {
            let seed = self.next();
            // Of four questions one, two or three are yes.
            let of_four = nth as u64 % 3 + 1;
            ways.extend(self.way(&|question| mixed(seed, question as u64) % 4 < of_four)?);
        }
        Ok(ways)
    }

    /// Those on which just one answer is another.
    pub(super) fn beside(&mut self, answers: &BTreeMap<usize, bool>) -> Result<Vec<Branch>, GoError> {
        let mut ways = Vec::new();
        for question in answers.keys() {
            ways.extend(self.flipped(answers, &[*question], false)?);
        }
        Ok(ways)
    }

    fn flipped(
        &mut self,
        answers: &BTreeMap<usize, bool>,
        flip: &[usize],
        default: bool,
    ) -> Result<Option<Branch>, GoError> {
        self.way(&|question| {
            let answer = answers.get(&question).copied().unwrap_or(default);
            answer != flip.contains(&question)
        })
    }

    /// One way, unless it has been gone or too much has been.
    fn way(&mut self, answers: &dyn Fn(usize) -> bool) -> Result<Option<Branch>, GoError> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut walk = Walk {
            all: &mut self.all,
            set: self.set,
            answers: BTreeMap::new(),
            flat: Flat::default(),
            state: State::default(),
            unknown: Unknown::Answered(answers),
        };
        match walk.nodes(self.nodes, &mut Scope::default()) {
            Err(Stop::Wrong(error)) => return Err(error),
            Ok(()) | Err(Stop::Unknown(_)) => {}
        }
        let Walk { answers, flat, .. } = walk;
        self.left = self.left.saturating_sub(flat.text.len());
        Ok(self.gone.insert(answers.clone()).then_some(Branch { answers, flat }))
    }

    /// Whether there is room for more ways.
    pub(super) fn may_go_on(&self) -> bool {
        self.left > 0
    }

    fn next(&mut self) -> u64 {
        self.random = mixed(self.random, 1);
        self.random
    }
}

/// Two numbers made one that looks like chance (splitmix64's steps).
fn mixed(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

enum Stop {
    Unknown(usize),
    Wrong(GoError),
}

impl From<GoError> for Stop {
    fn from(error: GoError) -> Stop {
        Stop::Wrong(error)
    }
}

/// Where a JSON text is: in a string of which quote, in a comment, and how deep in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct State {
    place: Place,
    escaped: bool,
    depth: usize,
    last: char,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Place {
    #[default]
    Between,
    String(char),
    Line,
    Block,
}

impl State {
    fn see(&mut self, text: &str) {
        for c in text.chars() {
            let last = std::mem::replace(&mut self.last, c);
            match self.place {
                Place::Between => match c {
                    '"' | '\'' => self.place = Place::String(c),
                    '/' if last == '/' => self.place = Place::Line,
                    '*' if last == '/' => {
                        self.place = Place::Block;
                        self.last = ' ';
                    }
                    '{' | '[' => self.depth += 1,
                    '}' | ']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                },
                Place::String(quote) => match c {
                    _ if self.escaped => self.escaped = false,
                    '\\' => self.escaped = true,
                    // A string that is broken off ends with its line; it is reported when it is read.
                    '\n' => self.place = Place::Between,
                    c if c == quote => self.place = Place::Between,
                    _ => {}
                },
                Place::Line if c == '\n' => self.place = Place::Between,
                Place::Block if c == '/' && last == '*' => {
                    self.place = Place::Between;
                    self.last = ' ';
                }
                Place::Line | Place::Block => {}
            }
        }
    }

    fn is_between(self) -> bool {
        self.place == Place::Between
    }
}

struct Walk<'a> {
    all: &'a mut Branches,
    set: &'a Environment,
    answers: BTreeMap<usize, bool>,
    flat: Flat,
    state: State,
    unknown: Unknown<'a>,
}

/// What becomes of a question that hasn't been answered.
#[derive(Clone, Copy)]
enum Unknown<'a> {
    /// Both ways are gone.
    Asked,
    /// No more ways may be gone.
    LeftOut,
    /// This answers.
    Answered(&'a dyn Fn(usize) -> bool),
}

impl Walk<'_> {
    fn nodes(&mut self, nodes: &[Node], scope: &mut Scope) -> Result<(), Stop> {
        for node in nodes {
            match &node.kind {
                Kind::Text(text) => self.text(text, node.span.start)?,
                Kind::Declare(name, value) => {
                    let value = scope.resolve(value);
                    scope.declare(name, value);
                }
                Kind::Print(_) => self.hole(node, scope)?,
                Kind::If(..) | Kind::With(..) | Kind::Range(..) if self.stays(node) => self.hole(node, scope)?,
                Kind::If(asked, then, otherwise) => {
                    let answer = self.answer(&scope.resolve(asked), &node.span)?;
                    self.nodes(if answer { then } else { otherwise }, &mut scope.clone())?;
                }
                Kind::With(name, value, then, otherwise) => {
                    let value = scope.resolve(value);
                    if self.answer(&value, &node.span)? {
                        let mut inside = scope.within(value.clone());
                        if let Some(name) = name {
                            inside.declare(name, value);
                        }
                        self.nodes(then, &mut inside)?;
                    } else {
                        self.nodes(otherwise, &mut scope.clone())?;
                    }
                }
                Kind::Range(..) => self.unroll(node, scope)?,
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str, at: usize) -> Result<(), Stop> {
        self.flat.places.push((self.flat.text.len(), at));
        self.flat.text.push_str(text);
        let mut seen = 0;
        for piece in text.split_inclusive(['{', '[', '}', ']']) {
            self.state.see(piece);
            seen += piece.len();
            if self.state.depth > DEEPEST {
                let what = format!("arrays and objects stand in each other more than {DEEPEST} deep");
                return Err(GoError::new(at + seen - 1..at + seen, what).into());
            }
        }
        Ok(())
    }

    /// Whether each branch leaves the text where it was, in the same string or comment, in one word.
    fn stays(&self, node: &Node) -> bool {
        match self.state.place {
            Place::Between => false,
            Place::Line | Place::Block => leaves(node, self.state).is_some_and(|end| end.place == self.state.place),
            Place::String(_) => {
                leaves(node, self.state).is_some_and(|end| end.place == self.state.place) && !has_space(node)
            }
        }
    }

    /// Puts a character for a template.
    fn hole(&mut self, node: &Node, scope: &Scope) -> Result<(), Stop> {
        if matches!(self.state.place, Place::Line | Place::Block) {
            return Ok(());
        }
        let mut resolved = scope.resolve_all(std::slice::from_ref(node));
        let is_known = |nodes: &[Node], set: &Environment| {
            let mut known = !nodes.iter().any(|node| matches!(node.kind, Kind::Range(..)));
            go::each_expr(nodes, &mut |expr, _| known &= go::known(expr, set));
            known
        };
        let nothing = Environment::default();
        if is_known(&resolved, &nothing) {
            let text = go::render(&resolved, &nothing)?;
            self.as_it_is(&text, node);
            return Ok(());
        }
        if let Place::String(quote) = self.state.place {
            if quoted::ends_the_string(&mut resolved, quote) {
                let what = format!(
                    "ContainerPilot read its `{quote}` as the string's end, and several values or none; it is one string \
                     here: write its values out"
                );
                self.remark(node.span.clone(), true, what);
            }
            quoted::unescape(&mut resolved);
        }
        // What is known is no template's to ask: another part of the file may have gone its way already.
        let resolved = go::decided(&resolved, self.set)?;
        let known = is_known(&resolved, self.set);
        let sample = match go::render(&resolved, self.set) {
            Ok(sample) => sample,
            Err(error) if known => return Err(error.into()),
            // What isn't known yet may well be no number, and its loop goes nowhere.
            Err(_) => String::new(),
        };
        if known {
            return self.known(&sample, node);
        }
        let template = match go::translate(&resolved) {
            Ok(go::Jinja { strict, lenient, needs }) => {
                Template { span: node.span.clone(), strict, lenient, sample, needs }
            }
            Err(error) => {
                let what =
                    format!("{}: it stands as it comes where nothing is set; give its variables by --set", error.what);
                self.remark(node.span.clone(), true, what);
                return self.known(&sample, node);
            }
        };
        let number = FIRST_HOLE + self.flat.holes.len() as u32;
        let Some(sign) = char::from_u32(number).filter(|_| number < LAST_HOLE) else {
            return Err(GoError::new(node.span.clone(), "there are too many templates in this file").into());
        };
        self.flat.holes.insert(number, template);
        self.flat.places.push((self.flat.text.len(), node.span.start));
        match self.state.is_between() {
            true => self.flat.text.extend(['"', sign, '"']),
            false => self.flat.text.push(sign),
        }
        self.state.escaped = false;
        Ok(())
    }

    /// Puts what a template comes to whatever is set. It is JSON of the file's own, as ContainerPilot read it.
    fn as_it_is(&mut self, text: &str, node: &Node) {
        self.flat.places.push((self.flat.text.len(), node.span.start));
        self.flat.text.push_str(text);
        self.state.see(text);
    }

    /// Puts what a template comes to, escaped as the string that it is in needs it.
    fn known(&mut self, text: &str, node: &Node) -> Result<(), Stop> {
        self.flat.places.push((self.flat.text.len(), node.span.start));
        let text: String = match self.state.place {
            Place::String(_) => text
                .chars()
                .map(|c| match c {
                    '"' => "\\\"".to_owned(),
                    '\'' => "\\u0027".to_owned(),
                    '\\' => "\\\\".to_owned(),
                    c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
                    c => c.to_string(),
                })
                .collect(),
            _ => text.to_owned(),
        };
        self.flat.text.push_str(&text);
        self.state.see(&text);
        Ok(())
    }

    /// Goes through a `range` around values, as far as it is known what it goes through.
    fn unroll(&mut self, node: &Node, scope: &Scope) -> Result<(), Stop> {
        let Kind::Range(over, then, otherwise) = &node.kind else { return Ok(()) };
        let list = scope.resolve(&over.over);
        let is_known = go::known(&list, self.set);
        let elements = match go::elements(&list, self.set, &node.span) {
            Ok(elements) => elements,
            Err(error) if is_known => return Err(error.into()),
            Err(_) => Vec::new(),
        };
        if !is_known {
            let what = match elements.is_empty() {
                true => {
                    "how often this `range` around values goes isn't known here, and nothing of it is imported; name its variables by --set"
                }
                false => "this `range` around values goes through what is known here; name its variables by --set",
            };
            self.remark(node.span.clone(), true, what.to_owned());
        }
        if elements.is_empty() {
            return self.nodes(otherwise, &mut scope.clone());
        }
        for (index, element) in elements.into_iter().enumerate() {
            let mut inside = scope.within(element.clone());
            if let Some(name) = &over.element {
                inside.declare(name, element);
            }
            if let Some(name) = &over.index {
                inside.declare(name, Expr::Integer(index as i64));
            }
            self.nodes(then, &mut inside)?;
            if self.flat.text.len() > super::LONGEST {
                return Err(GoError::new(node.span.clone(), "this goes on for too long").into());
            }
        }
        Ok(())
    }

    /// Whether a question's answer is yes, on this way.
    fn answer(&mut self, expr: &Expr, span: &Span) -> Result<bool, Stop> {
        if go::known(expr, self.set) {
            let answer = go::truth(expr, self.set, span)?;
            let word = if answer { "taken" } else { "left out" };
            self.remark(span.clone(), false, format!("{word}, as --set says"));
            return Ok(answer);
        }
        let expr = &go::simplified(expr, self.set, span);
        if let Expr::Call(function, args) = expr {
            match (function.as_str(), args.as_slice()) {
                ("not", [of]) => return Ok(!self.answer(of, span)?),
                ("and", [_, ..]) => {
                    for of in args {
                        if !self.answer(of, span)? {
                            return Ok(false);
                        }
                    }
                    return Ok(true);
                }
                ("or", [_, ..]) => {
                    for of in args {
                        if self.answer(of, span)? {
                            return Ok(true);
                        }
                    }
                    return Ok(false);
                }
                ("ne", [a, b]) => {
                    return Ok(!self.answer(&Expr::Call("eq".to_owned(), vec![a.clone(), b.clone()]), span)?);
                }
                ("eq", [a, b, rest @ ..]) if !rest.is_empty() => {
                    for other in std::iter::once(b).chain(rest) {
                        if self.answer(&Expr::Call("eq".to_owned(), vec![a.clone(), other.clone()]), span)? {
                            return Ok(true);
                        }
                    }
                    return Ok(false);
                }
                _ => {}
            }
        }
        if let Some(answer) = self.implied(expr) {
            return Ok(answer);
        }
        let jinja = go::condition(expr, span)?;
        // What can't be asked can't be answered.
        go::truth(expr, self.set, span)?;
        let known = self.all.questions.iter().position(|question| question.expr == *expr);
        let question = known.unwrap_or_else(|| {
            self.all.questions.push(Question { expr: expr.clone(), span: span.clone(), jinja });
            self.all.questions.len() - 1
        });
        match (self.answers.get(&question), self.unknown) {
            (Some(answer), _) => Ok(*answer),
            (None, Unknown::LeftOut) => {
                let what = "there are too many `if`s around values: this one is left out; decide others by --set";
                self.remark(span.clone(), true, what.to_owned());
                self.all.are_too_many = true;
                Ok(false)
            }
            (None, Unknown::Asked) => Err(Stop::Unknown(question)),
            (None, Unknown::Answered(answers)) => {
                let answer = answers(question);
                self.answers.insert(question, answer);
                Ok(answer)
            }
        }
    }

    /// The answer that follows from others: what is empty equals no text, and what equals one text equals no other.
    fn implied(&self, expr: &Expr) -> Option<bool> {
        let equal = |expr: &Expr| match expr {
            Expr::Call(function, args) if function == "eq" => match args.as_slice() {
                [of, Expr::Text(text)] | [Expr::Text(text), of] => Some((of.clone(), text.clone())),
                _ => None,
            },
            _ => None,
        };
        let asked = equal(expr);
        self.answers.iter().find_map(|(index, answer)| {
            let other = &self.all.questions.get(*index)?.expr;
            match (&asked, equal(other), answer) {
                (Some((of, text)), Some((same, another)), true) if *of == same => Some(*text == another),
                (Some((of, text)), None, false) if of == other => Some(text.is_empty()),
                (None, Some((of, text)), true) if of == *expr => Some(!text.is_empty()),
                _ => None,
            }
        })
    }

    fn remark(&mut self, span: Span, lost: bool, what: String) {
        let remark = Remark { span, lost, what };
        if !self.all.remarks.contains(&remark) {
            self.all.remarks.push(remark);
        }
    }
}

/// Where the text is behind each branch, if that is the same.
fn leaves(node: &Node, before: State) -> Option<State> {
    let through = |nodes: &[Node]| {
        let mut state = before;
        for node in nodes {
            match &node.kind {
                Kind::Text(text) => {
                    for c in text.chars() {
                        state.see(c.encode_utf8(&mut [0; 4]));
                        if state.place != before.place {
                            return None;
                        }
                    }
                }
                Kind::Print(_) | Kind::Declare(..) => {}
                Kind::If(..) | Kind::With(..) | Kind::Range(..) => state = leaves(node, state)?,
            }
        }
        Some(state)
    };
    match &node.kind {
        Kind::If(_, then, otherwise) | Kind::With(_, _, then, otherwise) | Kind::Range(_, then, otherwise) => {
            let (then, otherwise) = (through(then)?, through(otherwise)?);
            // A backslash at a branch's end would stand before what is only known elsewhere.
            (then.place == otherwise.place && !then.escaped && !otherwise.escaped).then_some(then)
        }
        Kind::Text(_) | Kind::Print(_) | Kind::Declare(..) => Some(before),
    }
}

fn has_space(node: &Node) -> bool {
    let any = |nodes: &[Node]| {
        nodes.iter().any(|node| match &node.kind {
            Kind::Text(text) => text.contains(' '),
            _ => has_space(node),
        })
    };
    match &node.kind {
        Kind::If(_, then, otherwise) | Kind::With(_, _, then, otherwise) => any(then) || any(otherwise),
        _ => false,
    }
}

/// The first character of a text that stands for holes here.
pub(super) fn taken(text: &str) -> Option<(usize, char)> {
    text.char_indices().find(|(_, c)| u32::from(*c) >= FIRST_HOLE)
}
