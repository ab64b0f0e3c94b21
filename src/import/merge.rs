//! One config of several, one for each way that a file's `{{ if }}`s can go.
//!
//! What is different becomes a template where a value can be one; a table in double brackets that is only there in some
//! ways, or can't be one table, says by `enabled` when it is there. What can be neither stands as it is where nothing is
//! set, and that is noted as lost.

use std::collections::BTreeMap;

use super::branches::Question;
use super::command::shell_line;
use super::document::{Document, Key, Note, Table, Value};
use super::go::{Expr, Span};
use super::text::Text;

/// A way's answers and what it comes to.
pub(super) struct Way {
    pub(super) answers: BTreeMap<usize, bool>,
    pub(super) document: Document,
}

/// Puts them together; the first is that on which nothing is set.
pub(super) fn merge(ways: Vec<Way>, questions: &[Question]) -> Document {
    let merger = Merger { ways: &ways, questions };
    let mut merged = Document::default();
    for id in merger.order() {
        let versions: Vec<Option<&Table>> = ways.iter().map(|way| id.find(&way.document)).collect();
        match id.many {
            true => merged.tables.extend(merger.several(&versions)),
            false => merged.tables.extend(merger.single(&versions)),
        }
    }
    merged.notes = merger.notes(ways.iter().map(|way| Some(way.document.notes.as_slice())).collect());
    merged
}

/// What tells one table from another.
#[derive(Debug, Clone, PartialEq)]
struct Id {
    path: &'static str,
    many: bool,
    origin: usize,
    /// Of several with one origin, which.
    nth: usize,
}

impl Id {
    fn all(document: &Document) -> Vec<Id> {
        let mut ids: Vec<Id> = Vec::new();
        for table in &document.tables {
            let same = |id: &&Id| id.path == table.path && id.many == table.many && id.origin == table.origin;
            let nth = ids.iter().filter(same).count();
            ids.push(Id { path: table.path, many: table.many, origin: table.origin, nth });
        }
        ids
    }

    fn find<'d>(&self, document: &'d Document) -> Option<&'d Table> {
        let is = |table: &&Table| table.path == self.path && table.many == self.many && table.origin == self.origin;
        document.tables.iter().filter(is).nth(self.nth)
    }
}

/// How something depends on the answers: on which of several kinds it is.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Leaf(usize),
    RequestId(usize, Box<Tree>, Box<Tree>),
}

struct Merger<'a> {
    ways: &'a [Way],
    questions: &'a [Question],
}

impl Merger<'_> {
    /// Every table, in an order that is each way's own.
    fn order(&self) -> Vec<Id> {
        let mut order: Vec<Id> = Vec::new();
        for way in self.ways {
            let mut before = None;
            for id in Id::all(&way.document) {
                let at = match order.iter().position(|known| *known == id) {
                    Some(at) => at,
                    None => {
                        let at = before.map_or(0, |before| before + 1);
                        order.insert(at, id);
                        at
                    }
                };
                before = Some(at);
            }
        }
        order
    }

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
                let notes = union(all.iter().map(|(_, key)| key.notes.as_slice()));
                Some(Key { name: (*name).to_owned(), value: self.value(&values)?, notes })
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
            let everywhere = there.len() == versions.len();
            let whole = if everywhere { self.value(&there) } else { None };
            let whole_is_none = whole.is_none();
            let value = match whole {
                Some(value) => Some(value),
                None if first.path == "process" && name == "exec" && everywhere => self.shell(&there),
                None if first.path == "hooks" => self.hook(&there),
                None => None,
            };
            if let Some(value) = value {
                let is_a_shell = whole_is_none && first.path == "process" && name == "exec";
                let what = "is a shell's choice here, which becomes main: the image needs an `sh`".to_owned();
                let of = |way: usize| there.iter().find(|(of, _)| *of == way).map(|(_, value)| *value);
                let span = self.first_question(|way| of(way) != of(0));
                notes.extend(is_a_shell.then(|| Note { span, key: "process.exec".to_owned(), what, lost: false }));
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
            Tree::RequestId(question, ..) => self.questions[question].span.clone(),
            Tree::Leaf(_) => 0..0,
        }
    }

    /// One value of several, if there can be one.
    fn value(&self, values: &[(usize, &Value)]) -> Option<Value> {
        let (_, first) = values.first()?;
        if values.iter().all(|(_, value)| value == first) {
            return Some((*first).clone());
        }
        if values.iter().all(|(_, value)| value.is_scalar()) {
            return Some(self.choice(values));
        }
        match first {
            Value::List(elements) => {
                let lists: Vec<(usize, &Vec<Value>)> = values
                    .iter()
                    .map(|(way, value)| match value {
                        Value::List(list) if list.len() == elements.len() => Some((*way, list)),
                        _ => None,
                    })
                    .collect::<Option<_>>()?;
                let nth = |index: usize| {
                    self.value(&lists.iter().map(|(way, list)| (*way, &list[index])).collect::<Vec<_>>())
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
                    Some((pairs[index].0.clone(), self.value(&values)?))
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
        self.written(&self.decide(&ways, &|way| of.get(&way).copied().unwrap_or_default(), &[]), &kinds)
    }

    fn written(&self, tree: &Tree, kinds: &[&Value]) -> Value {
        match tree {
            Tree::Leaf(kind) => kinds[*kind].clone(),
            Tree::RequestId(question, yes, no) => Value::Choice(
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

    /// A hook that is only there in some ways is `true` in the others, whatever its arguments.
    fn hook(&self, there: &[(usize, &Value)]) -> Option<Value> {
        let mut merged = self.value(there)?;
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

    /// A tree that asks as little as it can.
    fn decide(&self, ways: &[usize], kind: &dyn Fn(usize) -> usize, asked: &[usize]) -> Tree {
        let Some(first) = ways.first().map(|way| kind(*way)) else { return Tree::Leaf(0) };
        if ways.iter().all(|way| kind(*way) == first) {
            return Tree::Leaf(first);
        }
        let side = |question: usize, answer: bool| -> Vec<usize> {
            ways.iter().copied().filter(|way| self.ways[*way].answers.get(&question) != Some(&!answer)).collect()
        };
        let uniform = |side: &[usize]| side.windows(2).all(|pair| kind(pair[0]) == kind(pair[1]));
        let splits = |question: &usize| {
            let (yes, no) = (side(*question, true), side(*question, false));
            !asked.contains(question)
                && yes.len() < ways.len()
                && no.len() < ways.len()
                && !yes.is_empty()
                && !no.is_empty()
        };
        let best = (0..self.questions.len()).filter(splits).max_by_key(|question| {
            let even = usize::from(uniform(&side(*question, true))) + usize::from(uniform(&side(*question, false)));
            (even, std::cmp::Reverse(*question))
        });
        let Some(question) = best else { return Tree::Leaf(first) };
        let asked: Vec<usize> = asked.iter().copied().chain([question]).collect();
        let yes = self.decide(&side(question, true), kind, &asked);
        let no = self.decide(&side(question, false), kind, &asked);
        if yes == no { yes } else { Tree::RequestId(question, Box::new(yes), Box::new(no)) }
    }

    fn tree(&self, holds: impl Fn(usize) -> bool) -> Tree {
        let ways: Vec<usize> = (0..self.ways.len()).collect();
        self.decide(&ways, &|way| usize::from(holds(way)), &[])
    }

    /// What `enabled` says; nothing for what always is.
    fn when(&self, holds: impl Fn(usize) -> bool) -> Option<String> {
        // A comparison alone would be printed as the backend prints booleans, `True`.
        let condition = self.condition(&self.tree(holds))?;
        Some(format!("{{% if {condition} %}}true{{% endif %}}"))
    }

    /// A condition; nothing for what always holds.
    fn condition(&self, tree: &Tree) -> Option<String> {
        let Tree::RequestId(question, yes, no) = tree else {
            return None;
        };
        let (holds, fails) = self.asked(*question);
        let group = |text: String| if text.contains(" or ") { format!("({text})") } else { text };
        let constant = |tree: &Tree| match tree {
            Tree::Leaf(kind) => Some(*kind == 1),
            Tree::RequestId(..) => None,
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
        let Tree::RequestId(question, yes, no) = tree else { return None };
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
    let mut all: Vec<Note> = Vec::new();
    for note in lists.into_iter().flatten() {
        if !all.contains(note) {
            all.push(note.clone());
        }
    }
    all
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
