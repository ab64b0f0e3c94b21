//! One config of several, one for each way that a file's `{{ if }}`s can go.
//!
//! What is different becomes a template where a value can be one; a table in double brackets that is only there in some
//! ways, or can't be one table, says by `enabled` when it is there. What can be neither stands as it is where nothing is
//! set, and that is noted as lost.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::branches::Question;
use super::command::shell_line;
use super::document::{Document, Key, Note, Table, Value};
use super::go::{Expr, Span, is_set_where};
use super::text::{Piece, Template, Text};

/// A way's answers and what it comes to.
pub(super) struct Way {
    pub(super) answers: BTreeMap<usize, bool>,
    pub(super) document: Document,
}

/// Puts them together; the first is that on which nothing is set.
pub(super) fn merge(ways: &[Way], questions: &[Question]) -> Document {
    let samples = None;
    document(&Merger { ways, questions, samples })
}

/// The same of some of all ways: what is different is learned from the first `learned`, and tried on the others. Tells which
/// ways come to something else than that.
pub(super) fn merge_some(ways: &[Way], learned: usize, questions: &[Question]) -> (Document, Vec<usize>) {
    let samples = Samples { learned, beside: beside(&ways[..learned]), misjudged: RefCell::default() };
    let merger = Merger { ways, questions, samples: Some(samples) };
    let merged = document(&merger);
    let misjudged = merger.samples.map(|samples| samples.misjudged.into_inner()).unwrap_or_default();
    (merged, misjudged.into_iter().collect())
}

/// Each two ways that differ in the answer to just one question, of those that both ask.
fn beside(ways: &[Way]) -> Vec<(usize, usize, usize)> {
    let mut beside = Vec::new();
    for (index, one) in ways.iter().enumerate() {
        for (before, other) in ways[..index].iter().enumerate() {
            let mut differ = one
                .answers
                .iter()
                .filter(|(question, answer)| other.answers.get(question).is_some_and(|others| others != *answer));
            if let (Some((question, _)), None) = (differ.next(), differ.next()) {
                beside.push((*question, before, index));
            }
        }
    }
    beside
}

fn document(merger: &Merger<'_>) -> Document {
    let ways = merger.ways;
    let mut merged = Document::default();
    let tables: Vec<Vec<(Id, &Table)>> = ways.iter().map(|way| Id::all(&way.document)).collect();
    let found: Vec<HashMap<&Id, &Table>> =
        tables.iter().map(|tables| tables.iter().map(|(id, table)| (id, *table)).collect()).collect();
    for id in order(&tables) {
        let versions: Vec<Option<&Table>> = found.iter().map(|found| found.get(id).copied()).collect();
        match id.many {
            true => merged.tables.extend(merger.several(&versions)),
            false => merged.tables.extend(merger.single(&versions)),
        }
    }
    merged.notes = merger.notes(ways.iter().map(|way| Some(way.document.notes.as_slice())).collect());
    merged
}

/// What tells one table from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Id {
    path: &'static str,
    many: bool,
    origin: usize,
    /// Of several with one origin, which.
    nth: usize,
}

impl Id {
    fn all(document: &Document) -> Vec<(Id, &Table)> {
        let mut before: HashMap<(&str, bool, usize), usize> = HashMap::new();
        let id = |table: &Table| {
            let before = before.entry((table.path, table.many, table.origin)).or_default();
            *before += 1;
            Id { path: table.path, many: table.many, origin: table.origin, nth: *before - 1 }
        };
        let ids: Vec<Id> = document.tables.iter().map(id).collect();
        ids.into_iter().zip(&document.tables).collect()
    }
}

/// Every table, in an order that is each way's own.
fn order<'t>(ways: &'t [Vec<(Id, &Table)>]) -> Vec<&'t Id> {
    let mut order: Vec<&Id> = Vec::new();
    let mut known: HashSet<&Id> = HashSet::new();
    for way in ways {
        let mut next = 0;
        for (id, _) in way {
            if known.insert(id) {
                order.insert(next, id);
                next += 1;
            } else {
                // It mostly is the next one.
                let behind = order[next..].iter().position(|known| *known == id).map(|at| next + at);
                let at = behind.or_else(|| order.iter().position(|known| *known == id));
                next = at.unwrap_or(next) + 1;
            }
        }
    }
    sorted(&order, ways)
}

/// Those with each behind all that stand before it in any way; else, and where the ways don't agree, as they are.
fn sorted<'t>(order: &[&'t Id], ways: &'t [Vec<(Id, &Table)>]) -> Vec<&'t Id> {
    let at: HashMap<&Id, usize> = order.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let pairs: BTreeSet<(usize, usize)> =
        ways.iter().flat_map(|way| way.windows(2)).map(|pair| (at[&pair[0].0], at[&pair[1].0])).collect();
    let mut before = vec![0; order.len()];
    pairs.iter().for_each(|(_, later)| before[*later] += 1);
    let mut ready: BTreeSet<usize> = (0..order.len()).filter(|id| before[*id] == 0).collect();
    let mut sorted = Vec::new();
    while let Some(first) = ready.pop_first() {
        sorted.push(order[first]);
        for (_, later) in pairs.range((first, 0)..(first + 1, 0)) {
            before[*later] -= 1;
            if before[*later] == 0 {
                ready.insert(*later);
            }
        }
    }
    if sorted.len() == order.len() { sorted } else { order.to_vec() }
}

/// How something depends on the answers: on which of several kinds it is.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Leaf(usize),
    Asked(usize, Box<Tree>, Box<Tree>),
}

struct Merger<'a> {
    ways: &'a [Way],
    questions: &'a [Question],
    /// Where these aren't all ways.
    samples: Option<Samples>,
}

/// What is learned of ways that aren't all.
struct Samples {
    /// The first so many are learned from; the others are what it is tried on.
    learned: usize,
    /// A question, and two ways that differ in its answer alone.
    beside: Vec<(usize, usize, usize)>,
    /// Those that come to something else.
    misjudged: RefCell<BTreeSet<usize>>,
}

impl Merger<'_> {
    fn several(&self, versions: &[Option<&Table>]) -> Vec<Table> {
        let aligned = align(versions);
        let versions: &[Option<&Table>] = &aligned.iter().map(Option::as_ref).collect::<Vec<_>>();
        let Some(first) = versions.iter().flatten().next() else { return Vec::new() };
        if let Some(keys) = self.keys(versions) {
            let enabled = self.when(|way| versions[way].is_some());
            return vec![Table { keys, enabled, notes: self.table_notes(versions), ..(*first).clone() }];
        }
        let mut kinds: Vec<Vec<Key>> = Vec::new();
        let mut kind_of = Vec::new();
        for version in versions {
            kind_of.push(version.map(|table| {
                kinds.iter().position(|known| same_keys(known, &table.keys)).unwrap_or_else(|| {
                    kinds.push(table.keys.clone());
                    kinds.len() - 1
                })
            }));
        }
        (0..kinds.len())
            .map(|kind| {
                let only: Vec<Option<&Table>> =
                    versions.iter().zip(&kind_of).map(|(table, of)| table.filter(|_| *of == Some(kind))).collect();
                let keys = self.keys(&only).unwrap_or_else(|| kinds[kind].clone());
                let enabled = self.when(|way| kind_of[way] == Some(kind));
                // What is said of one of several tables isn't so of the others.
                let of_all = versions.iter().map(|table| table.map(|table| table.notes.as_slice())).collect();
                let own = union(only.iter().flatten().map(|table| table.notes.as_slice()));
                Table { keys, enabled, notes: self.labelled(own, of_all), ..(*first).clone() }
            })
            .collect()
    }

    /// The keys of one table, if it can be one.
    fn keys(&self, versions: &[Option<&Table>]) -> Option<Vec<Key>> {
        let there: Vec<(usize, &Table)> =
            versions.iter().enumerate().filter_map(|(way, table)| Some((way, (*table)?))).collect();
        let (_, first) = there.first()?;
        let names: Vec<&str> = first.keys.iter().map(|key| key.name.as_str()).collect();
        if there.iter().any(|(_, table)| table.keys.len() != names.len()) {
            return None;
        }
        names
            .iter()
            .map(|name| {
                let found = |table: &Table| table.keys.iter().find(|key| key.name == *name).cloned();
                let all: Vec<(usize, Key)> =
                    there.iter().map(|(way, table)| Some((*way, found(table)?))).collect::<Option<_>>()?;
                let values: Vec<(usize, &Value)> = all.iter().map(|(way, key)| (*way, &key.value)).collect();
                let mut notes = union(all.iter().map(|(_, key)| key.notes.as_slice()));
                let value = self.value(name, &values)?;
                notes.extend(self.shell_note(&format!("{}.{name}", first.path), &value, &values));
                Some(Key { name: (*name).to_owned(), value, notes })
            })
            .collect()
    }

    fn single(&self, versions: &[Option<&Table>]) -> Option<Table> {
        let first = (*versions.iter().flatten().next()?).clone();
        let mut names: Vec<String> = Vec::new();
        for key in versions.iter().flatten().flat_map(|table| &table.keys) {
            if !names.contains(&key.name) {
                names.push(key.name.clone());
            }
        }
        let mut notes = self.table_notes(versions);
        let mut keys = Vec::new();
        for name in names {
            let all: Vec<Option<&Key>> = versions
                .iter()
                .map(|table| table.and_then(|table| table.keys.iter().find(|key| key.name == name)))
                .collect();
            let there: Vec<(usize, &Value)> =
                all.iter().enumerate().filter_map(|(way, key)| Some((way, &(*key)?.value))).collect();
            let about = union(all.iter().flatten().map(|key| key.notes.as_slice()));
            let usual = there.first().and_then(|(_, value)| usual(first.path, &name, value));
            let there: Vec<(usize, &Value)> = match &usual {
                Some(usual) => all.iter().map(|key| key.map_or(usual, |key| &key.value)).enumerate().collect(),
                None => there,
            };
            let everywhere = there.len() == versions.len();
            let whole = if everywhere { self.value(&name, &there) } else { None };
            let value = match whole {
                Some(value) => Some(value),
                None if first.path == "process" && name == "exec" && everywhere => self.shell(&there),
                None if first.path == "hooks" => self.hook(&there),
                None => None,
            };
            if let Some(value) = value {
                notes.extend(self.shell_note(&format!("{}.{name}", first.path), &value, &there));
                keys.push(Key { name, value, notes: about });
                continue;
            }
            let differs = |way: usize| all[way].map(|key| &key.value) != all[0].map(|key| &key.value);
            let span = self.first_question(differs);
            let what = format!(
                "is different where {}: it stands as it is where nothing is set; choose by --set",
                self.in_words(differs)
            );
            notes.push(Note { span, key: format!("{}.{name}", first.path), what, lost: true });
            if let Some(key) = all[0] {
                keys.push(Key { name, value: key.value.clone(), notes: about });
            }
        }
        Some(Table { keys, notes, ..first })
    }

    /// Where it is asked first on what something depends.
    fn first_question(&self, holds: impl Fn(usize) -> bool) -> Span {
        match self.tree(holds) {
            Tree::Asked(question, ..) => self.questions[question].span.clone(),
            Tree::Leaf(_) => 0..0,
        }
    }

    /// What there is to know of a command that has become a shell's.
    fn shell_note(&self, key: &str, value: &Value, values: &[(usize, &Value)]) -> Option<Note> {
        let is_a_shells = is_a_shells(value) && !values.iter().any(|(_, value)| is_a_shells(value));
        is_a_shells.then(|| {
            let of = |way: usize| values.iter().find(|(of, _)| *of == way).map(|(_, value)| *value);
            let span = self.first_question(|way| of(way) != values.first().map(|(_, value)| *value));
            let becomes = if key == "process.exec" { ", which becomes main" } else { "" };
            let what = format!("is a shell's choice here{becomes}: the image needs an `sh`");
            Note { span, key: key.to_owned(), what, lost: false }
        })
    }

    /// One value of several, if there can be one. `name` is that of the key.
    fn value(&self, name: &str, values: &[(usize, &Value)]) -> Option<Value> {
        let (_, first) = values.first()?;
        if values.iter().all(|(_, value)| value == first) {
            return Some((*first).clone());
        }
        if values.iter().all(|(_, value)| value.is_scalar()) {
            return Some(self.choice(values));
        }
        match first {
            Value::List(elements) => {
                let of_one_length =
                    |(_, value): &(usize, &Value)| matches!(value, Value::List(list) if list.len() == elements.len());
                if name == "exec" && self.samples.is_some() && !values.iter().all(of_one_length) {
                    return self.optional_words(values);
                }
                let lists: Vec<(usize, &Vec<Value>)> = values
                    .iter()
                    .map(|(way, value)| match value {
                        Value::List(list) if list.len() == elements.len() => Some((*way, list)),
                        _ => None,
                    })
                    .collect::<Option<_>>()?;
                let nth = |index: usize| {
                    self.value("", &lists.iter().map(|(way, list)| (*way, &list[index])).collect::<Vec<_>>())
                };
                (0..elements.len()).map(nth).collect::<Option<_>>().map(Value::List)
            }
            Value::Inline(pairs) => {
                let tables: Vec<(usize, &Vec<(String, Value)>)> = values
                    .iter()
                    .map(|(way, value)| match value {
                        Value::Inline(table)
                            if table.iter().map(|(key, _)| key).eq(pairs.iter().map(|(key, _)| key)) =>
                        {
                            Some((*way, table))
                        }
                        _ => None,
                    })
                    .collect::<Option<_>>()?;
                let nth = |index: usize| {
                    let values: Vec<(usize, &Value)> =
                        tables.iter().map(|(way, table)| (*way, &table[index].1)).collect();
                    let name = &pairs[index].0;
                    Some((name.clone(), self.value(name, &values)?))
                };
                (0..pairs.len()).map(nth).collect::<Option<_>>().map(Value::Inline)
            }
            _ => None,
        }
    }

    fn choice(&self, values: &[(usize, &Value)]) -> Value {
        let mut kinds: Vec<&Value> = Vec::new();
        let mut of = BTreeMap::new();
        for (way, value) in values {
            let kind = kinds.iter().position(|known| known == value).unwrap_or_else(|| {
                kinds.push(value);
                kinds.len() - 1
            });
            of.insert(*way, kind);
        }
        let ways: Vec<usize> = of.keys().copied().collect();
        self.written(&self.decide(&ways, &|way| of.get(&way).copied().unwrap_or_default()), &kinds)
    }

    fn written(&self, tree: &Tree, kinds: &[&Value]) -> Value {
        match tree {
            Tree::Leaf(kind) => kinds[*kind].clone(),
            Tree::Asked(question, yes, no) => Value::Choice(
                self.questions[*question].jinja.clone(),
                Box::new(self.written(yes, kinds)),
                Box::new(self.written(no, kinds)),
            ),
        }
    }

    /// Main with other arguments: a shell that becomes it.
    fn shell(&self, values: &[(usize, &Value)]) -> Option<Value> {
        let lines: Vec<(usize, Value)> = values
            .iter()
            .map(|(way, value)| match value {
                Value::List(words) => Some((*way, Value::Text(becomes(words)?))),
                _ => None,
            })
            .collect::<Option<_>>()?;
        let borrowed: Vec<(usize, &Value)> = lines.iter().map(|(way, value)| (*way, value)).collect();
        Some(Value::List(vec![Value::text("sh"), Value::text("-c"), self.choice(&borrowed)]))
    }

    /// A command some words of which aren't always there: a shell's line, in which each stands in its place.
    fn optional_words(&self, values: &[(usize, &Value)]) -> Option<Value> {
        let mut lines: Vec<(usize, Vec<(&Text, usize)>)> = Vec::new();
        for (way, value) in values {
            let Value::List(words) = value else { return None };
            let mut line: Vec<(&Text, usize)> = Vec::new();
            for word in words {
                let Value::Text(word) = word else { return None };
                let nth = line.iter().filter(|(known, _)| *known == word).count();
                line.push((word, nth));
            }
            lines.push((*way, line));
        }
        let mut order: Vec<(&Text, usize)> = Vec::new();
        // The longest first: it has the most of the others' words in their order.
        let mut longest: Vec<&Vec<(&Text, usize)>> = lines.iter().map(|(_, line)| line).collect();
        longest.sort_by_key(|line| std::cmp::Reverse(line.len()));
        for line in longest {
            let mut next = 0;
            for word in line {
                next = 1 + order.iter().position(|known| known == word).unwrap_or_else(|| {
                    order.insert(next, *word);
                    next
                });
            }
        }
        let ways: Vec<usize> = lines.iter().map(|(way, _)| *way).collect();
        let has = |way: usize, word: &(&Text, usize)| {
            lines.binary_search_by_key(&way, |(way, _)| *way).is_ok_and(|at| lines[at].1.contains(word))
        };
        let in_order =
            |(way, line): &(usize, Vec<(&Text, usize)>)| order.iter().filter(|word| has(*way, word)).eq(line);
        if !lines.iter().all(in_order) {
            return None;
        }
        let condition = |word: &(&Text, usize)| {
            let is_there = |way: usize| usize::from(has(way, word));
            self.condition(&self.decide(&ways, &is_there))
        };
        let conditions: Vec<Option<String>> = order.iter().map(condition).collect();
        let mut shell = Text::plain("exec");
        let mut at = 0;
        while at < order.len() {
            let together = conditions[at..].iter().take_while(|condition| **condition == conditions[at]).count();
            let words: Vec<Text> = order[at..at + together].iter().map(|(word, _)| (*word).clone()).collect();
            let quoted = shell_line(&words);
            match &conditions[at] {
                None => {
                    shell.push(Piece::Plain(" ".to_owned()));
                    quoted.0.into_iter().for_each(|piece| shell.push(piece));
                }
                Some(condition) => {
                    let span = self.span_of(condition);
                    shell.push(Piece::Template(where_it_holds(condition, &quoted, span)));
                }
            }
            at += together;
        }
        Some(Value::List(vec![Value::text("sh"), Value::text("-c"), Value::Text(shell)]))
    }

    /// Where a condition's first question stands.
    fn span_of(&self, condition: &str) -> Span {
        let asked = self.questions.iter().find(|question| condition.contains(&question.jinja));
        asked.map_or(0..0, |question| question.span.clone())
    }

    /// A hook that is only there in some ways is `true` in the others, whatever its arguments.
    fn hook(&self, there: &[(usize, &Value)]) -> Option<Value> {
        let mut merged = self.value("", there)?;
        let Value::Inline(pairs) = &mut merged else { return None };
        let Some((_, Value::List(words))) = pairs.iter_mut().find(|(key, _)| key == "exec") else { return None };
        let program = words.first_mut()?;
        let nothing = Value::text("true");
        let absent = (0..self.ways.len()).filter(|way| !there.iter().any(|(of, _)| of == way));
        let there_with: Value = program.clone();
        if !program.is_scalar() || matches!(program, Value::Choice(..)) {
            return None;
        }
        let all: Vec<(usize, &Value)> =
            there.iter().map(|(way, _)| (*way, &there_with)).chain(absent.map(|way| (way, &nothing))).collect();
        *program = self.choice(&all);
        Some(merged)
    }

    /// A tree that asks as little as it can, tried on all ways, those that it isn't learned from among them.
    fn decide(&self, ways: &[usize], kind: &dyn Fn(usize) -> usize) -> Tree {
        let tree = self.learn(ways, kind);
        if let Some(samples) = &self.samples {
            let wrong = |way: &usize| !self.says(&tree, *way, kind(*way));
            samples.misjudged.borrow_mut().extend(ways.iter().copied().filter(wrong));
        }
        tree
    }

    /// Whether a tree says of a way that it is of a kind, whatever isn't asked on it.
    fn says(&self, tree: &Tree, way: usize, kind: usize) -> bool {
        match tree {
            Tree::Leaf(of) => *of == kind,
            Tree::Asked(question, yes, no) => match self.ways[way].answers.get(question) {
                Some(true) => self.says(yes, way, kind),
                Some(false) => self.says(no, way, kind),
                None => self.says(yes, way, kind) && self.says(no, way, kind),
            },
        }
    }

    fn learn(&self, ways: &[usize], kind: &dyn Fn(usize) -> usize) -> Tree {
        let Some(samples) = &self.samples else {
            return self.split(ways, kind, &|_| true, &[]);
        };
        let learned: Vec<usize> = ways.iter().copied().filter(|way| *way < samples.learned).collect();
        // A question by whose answer alone nothing is different is none of its.
        let counts = |(_, one, other): &&(usize, usize, usize)| {
            let both = ways.binary_search(one).is_ok() && ways.binary_search(other).is_ok();
            both && kind(*one) != kind(*other)
        };
        let of: BTreeSet<usize> = samples.beside.iter().filter(counts).map(|(question, ..)| *question).collect();
        self.split(&learned, kind, &|question| of.contains(&question), &[])
    }

    fn split(
        &self,
        ways: &[usize],
        kind: &dyn Fn(usize) -> usize,
        may_ask: &dyn Fn(usize) -> bool,
        asked: &[usize],
    ) -> Tree {
        let Some(first) = ways.first().map(|way| kind(*way)) else { return Tree::Leaf(0) };
        if ways.iter().all(|way| kind(*way) == first) {
            return Tree::Leaf(first);
        }
        let side = |question: usize, answer: bool| -> Vec<usize> {
            ways.iter().copied().filter(|way| self.ways[*way].answers.get(&question) != Some(&!answer)).collect()
        };
        let uniform = |side: &[usize]| side.windows(2).all(|pair| kind(pair[0]) == kind(pair[1]));
        let splits = |question: &usize| {
            if !may_ask(*question) || asked.contains(question) {
                return false;
            }
            let (yes, no) = (side(*question, true), side(*question, false));
            yes.len() < ways.len() && no.len() < ways.len() && !yes.is_empty() && !no.is_empty()
        };
        let best = (0..self.questions.len()).filter(splits).max_by_key(|question| {
            let even = usize::from(uniform(&side(*question, true))) + usize::from(uniform(&side(*question, false)));
            (even, std::cmp::Reverse(*question))
        });
        let Some(question) = best else { return Tree::Leaf(first) };
        let asked: Vec<usize> = asked.iter().copied().chain([question]).collect();
        let yes = self.split(&side(question, true), kind, may_ask, &asked);
        let no = self.split(&side(question, false), kind, may_ask, &asked);
        if yes == no { yes } else { Tree::Asked(question, Box::new(yes), Box::new(no)) }
    }

    fn all_ways(&self) -> Vec<usize> {
        (0..self.ways.len()).collect()
    }

    /// How it is told: nothing depends on that.
    fn tree(&self, holds: impl Fn(usize) -> bool) -> Tree {
        self.learn(&self.all_ways(), &|way| usize::from(holds(way)))
    }

    /// What `enabled` says; nothing for what always is.
    fn when(&self, holds: impl Fn(usize) -> bool) -> Option<String> {
        // A comparison alone would be printed as the backend prints booleans, `True`.
        let condition = self.holds(holds)?;
        Some(format!("{{% if {condition} %}}true{{% endif %}}"))
    }

    /// The condition under which something holds; nothing where it always does.
    fn holds(&self, holds: impl Fn(usize) -> bool) -> Option<String> {
        self.condition(&self.decide(&self.all_ways(), &|way| usize::from(holds(way))))
    }

    /// A condition; nothing for what always holds.
    fn condition(&self, tree: &Tree) -> Option<String> {
        let Tree::Asked(question, yes, no) = tree else {
            return None;
        };
        let (holds, fails) = self.asked(*question);
        let group = |text: String| if text.contains(" or ") { format!("({text})") } else { text };
        let constant = |tree: &Tree| match tree {
            Tree::Leaf(kind) => Some(*kind == 1),
            Tree::Asked(..) => None,
        };
        Some(match (constant(yes), constant(no)) {
            (Some(true), Some(_)) => holds,
            (Some(false), Some(_)) => fails,
            (Some(true), None) => format!("{holds} or {}", self.condition(no)?),
            (Some(false), None) => format!("{fails} and {}", group(self.condition(no)?)),
            (None, Some(true)) => format!("{fails} or {}", self.condition(yes)?),
            (None, Some(false)) => format!("{holds} and {}", group(self.condition(yes)?)),
            (None, None) => {
                let (with, without) = (group(self.condition(yes)?), group(self.condition(no)?));
                format!("{holds} and {with} or {fails} and {without}")
            }
        })
    }

    /// A question and its contrary.
    fn asked(&self, question: usize) -> (String, String) {
        let Question { expr, jinja, .. } = &self.questions[question];
        if expr.variable().is_some() {
            return (jinja.clone(), format!("not {jinja}"));
        }
        match expr {
            Expr::Call(function, _) if function == "eq" && jinja.matches(" == ").count() == 1 => {
                (jinja.clone(), jinja.replace(" == ", " != "))
            }
            _ => (format!("({jinja})"), format!("not ({jinja})")),
        }
    }

    /// The same for people.
    fn in_words(&self, holds: impl Fn(usize) -> bool) -> String {
        let tree = self.tree(holds);
        self.words(&tree).unwrap_or_else(|| "its `if`s say so".to_owned())
    }

    fn words(&self, tree: &Tree) -> Option<String> {
        let Tree::Asked(question, yes, no) = tree else { return None };
        let Question { expr, jinja, .. } = &self.questions[*question];
        let (is, isnt) = match expr.variable() {
            Some(name) => (format!("{name} is set"), format!("{name} is not set")),
            None => (format!("`{jinja}`"), format!("not `{jinja}`")),
        };
        match (&**yes, &**no) {
            (Tree::Leaf(1), Tree::Leaf(_)) => Some(is),
            (Tree::Leaf(_), Tree::Leaf(_)) => Some(isnt),
            (Tree::Leaf(0), inner) => Some(format!("{isnt} and {}", self.words(inner)?)),
            (Tree::Leaf(_), inner) => Some(format!("{is} or {}", self.words(inner)?)),
            (inner, Tree::Leaf(0)) => Some(format!("{is} and {}", self.words(inner)?)),
            (inner, _) => Some(format!("{isnt} or {}", self.words(inner)?)),
        }
    }

    fn table_notes(&self, versions: &[Option<&Table>]) -> Vec<Note> {
        self.notes(versions.iter().map(|table| table.map(|table| table.notes.as_slice())).collect())
    }

    /// All notes; what is only so in some of the ways says in which.
    fn notes(&self, of: Vec<Option<&[Note]>>) -> Vec<Note> {
        self.labelled(union(of.iter().flatten().copied()), of)
    }

    fn labelled(&self, notes: Vec<Note>, of: Vec<Option<&[Note]>>) -> Vec<Note> {
        notes
            .into_iter()
            .map(|note| {
                let has = |way: usize| of[way].is_some_and(|notes| notes.contains(&note));
                if (0..of.len()).all(|way| of[way].is_none() || has(way)) {
                    return note;
                }
                let what = format!("{} (where {})", note.what, self.in_words(has));
                Note { what, ..note }
            })
            .collect()
    }
}

/// What a key is where it isn't there, if that can be written as `like` is.
fn usual(path: &str, key: &str, like: &Value) -> Option<Value> {
    if let ("process", "restart", Value::Inline(pairs)) = (path, key, like) {
        let never = |(key, value): &(String, Value)| match key.as_str() {
            "policy" => (key.clone(), Value::text("never")),
            _ => (key.clone(), value.clone()),
        };
        return Some(Value::Inline(pairs.iter().map(never).collect()));
    }
    Some(Value::text(match (path, key) {
        ("log", "level") => "info",
        ("log", "format") => "text",
        ("control", "socket") => "/run/pilotfish.sock",
        ("stop", "within") => "9s",
        _ => return None,
    }))
}

/// A check that speaks for one service in some ways may say so in all.
fn align(versions: &[Option<&Table>]) -> Vec<Option<Table>> {
    let services =
        |table: &&Table| table.keys.iter().find(|key| table.path == "health" && key.name == "services").cloned();
    let said = versions.iter().flatten().find_map(services);
    let with = |table: &Table| {
        let mut table = table.clone();
        if let (Some(key), None) = (&said, services(&&table)) {
            table.keys.push(key.clone());
        }
        table
    };
    versions.iter().map(|table| table.map(with)).collect()
}

fn same_keys(a: &[Key], b: &[Key]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name == b.name && a.value == b.value)
}

fn union<'n>(lists: impl IntoIterator<Item = &'n [Note]>) -> Vec<Note> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for note in lists.into_iter().flatten() {
        if seen.insert((note.span.start, note.span.end, &note.key, &note.what, note.lost)) {
            all.push(note.clone());
        }
    }
    all
}

/// Whether a command, or that of a hook, is a shell's that becomes another.
fn is_a_shells(value: &Value) -> bool {
    match value {
        Value::List(words) => match words.as_slice() {
            [shell, flag, line] if *shell == Value::text("sh") && *flag == Value::text("-c") => begins(line, "exec"),
            _ => false,
        },
        Value::Inline(pairs) => pairs.iter().any(|(name, value)| name == "exec" && is_a_shells(value)),
        _ => false,
    }
}

fn begins(value: &Value, with: &str) -> bool {
    match value {
        Value::Text(text) => matches!(text.0.first(), Some(Piece::Plain(text)) if text.starts_with(with)),
        Value::Choice(_, yes, no) => begins(yes, with) && begins(no, with),
        _ => false,
    }
}

/// Words of a shell's line, with the blank before them, that are only there where a condition holds.
fn where_it_holds(condition: &str, words: &Text, span: Span) -> Template {
    let whole = |lenient: bool| format!("{{% if {condition} %}} {}{{% endif %}}", words.write(lenient));
    let needs = words.templates().flat_map(|template| &template.needs);
    Template {
        span,
        strict: whole(false),
        lenient: whole(true),
        sample: String::new(),
        needs: needs.filter(|name| !is_set_where(condition, name)).cloned().collect(),
    }
}

/// A command as a shell's line, which becomes it.
fn becomes(words: &[Value]) -> Option<Text> {
    let text = |word: &Value| match word {
        Value::Text(word) => Some(word.clone()),
        _ => None,
    };
    let words: Vec<Text> = words.iter().map(text).collect::<Option<_>>()?;
    let mut line = Text::plain("exec ");
    shell_line(&words).0.into_iter().for_each(|piece| line.push(piece));
    Some(line)
}
