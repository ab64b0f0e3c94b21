//! `{{ env.NAME }}` in a config's string values, rendered after parsing, so that no value can break the syntax; and
//! `enabled`, by which a table in double brackets is there or not. Keys are never templates.

use std::fmt;

use super::context::Variables;
use super::report::Problem;
use super::template::{TemplateError, Values};
use super::tree::{Node, Span, Table, Value};

/// The key that says whether its table is there.
const ENABLED: &str = "enabled";
/// What leaves a table out, in any letters: what YAML, Go, Python and shells say for no.
const OUT: [&str; 5] = ["", "0", "false", "no", "off"];
/// What keeps it.
const IN: [&str; 4] = ["1", "true", "yes", "on"];

/// A table that isn't there, because its `enabled` says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// The keys that lead to it.
    pub(crate) section: String,
    /// What it would be called.
    pub(crate) name: Option<String>,
    /// Where it is said.
    pub(crate) span: Span,
    /// Whether a template says it.
    pub(crate) templated: bool,
    value: String,
}

/// For people.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[[{}]]", self.section)?;
        if let Some(name) = &self.name {
            write!(f, " `{name}`")?;
        }
        match self.value.as_str() {
            "" => write!(f, " is left out: its `{ENABLED}` is empty"),
            value => write!(f, " is left out: its `{ENABLED}` is `{value}`"),
        }
    }
}

/// Renders every string value below `root` in place, but of what is left out, which is taken away. What can't be rendered
/// is reported and broken.
pub(crate) fn expand(root: &mut Node, variables: &Variables, problems: &mut Vec<Problem>) -> Vec<LeftOut> {
    let mut expansion = Expansion { values: Values::new(variables), problems, path: Vec::new(), left_out: Vec::new() };
    expansion.node(root);
    expansion.left_out.sort_by_key(|out| out.span.start);
    expansion.left_out
}

struct Expansion<'a, 'p> {
    values: Values<'a>,
    problems: &'p mut Vec<Problem>,
    path: Vec<String>,
    left_out: Vec<LeftOut>,
}

impl Expansion<'_, '_> {
    fn node(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::String(_) => self.text(node),
            Value::Array(elements) => {
                // Before anything else of it: what is left out needs none of the variables that it names.
                elements.retain_mut(|element| match &mut element.value {
                    Value::Table(table) => self.is_enabled(table),
                    _ => true,
                });
                elements.iter_mut().for_each(|element| self.node(element));
                // The elements that are left would be taken for all there are.
                if elements.iter().any(|element| element.broken) {
                    node.broken = true;
                }
            }
            Value::Table(table) => {
                for entry in &mut table.entries {
                    self.path.push(entry.key.clone());
                    self.node(&mut entry.value);
                    self.path.pop();
                }
            }
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Other(_) => {}
        }
    }

    fn text(&mut self, node: &mut Node) {
        let Value::String(text) = &mut node.value else { return };
        if !Values::is_template(text) {
            return;
        }
        match self.values.render(text) {
            Ok(rendered) => {
                *text = rendered;
                node.templated = true;
            }
            Err(error) => {
                node.broken = true;
                self.problems.push(problem(node.span.clone(), &error));
            }
        }
    }

    /// Whether a table of several is there; from then on its `enabled` is a boolean.
    fn is_enabled(&mut self, table: &mut Table) -> bool {
        let name = table.entries.iter().find(|entry| entry.key == "name").and_then(|entry| entry.value.as_str());
        let name = name.map(str::to_owned);
        let Some(entry) = table.entries.iter_mut().find(|entry| entry.key == ENABLED) else { return true };
        let node = &mut entry.value;
        self.text(node);
        let (enabled, value) = match &node.value {
            _ if node.broken => return true,
            Value::Bool(enabled) => (*enabled, enabled.to_string()),
            Value::String(text) => match says(text) {
                Some(enabled) => (enabled, text.clone()),
                None => {
                    let here = if node.templated { " here" } else { "" };
                    let message = format!("`{ENABLED}` is `{text}`{here}, which says neither yes nor no");
                    node.broken = true;
                    let problem = Problem::error(node.span.clone(), message).label("expected `true` or `false`");
                    self.problems.push(problem.hint(
                        "`false`, `no`, `off`, `0` and nothing leave the table out, `true`, `yes`, `on` and `1` keep it",
                    ));
                    return true;
                }
            },
            // Its type is wrong, which is told with all else of the kind.
            _ => return true,
        };
        node.value = Value::Bool(enabled);
        if !enabled {
            let (span, templated) = (node.span.clone(), node.templated);
            self.left_out.push(LeftOut { section: self.path.join("."), name, span, templated, value });
        }
        enabled
    }
}

/// What a word means.
fn says(text: &str) -> Option<bool> {
    let word = text.trim().to_ascii_lowercase();
    match word.as_str() {
        word if OUT.contains(&word) => Some(false),
        word if IN.contains(&word) => Some(true),
        _ => None,
    }
}

fn problem(span: Span, error: &TemplateError) -> Problem {
    let problem = Problem::error(span, error.what());
    match error {
        TemplateError::NotSet { variables, .. } => {
            let name = variables.first().map_or("NAME", String::as_str);
            problem.label("set it, or give a default").hint(format!("`{{{{ env.{name} | default(\"...\") }}}}`"))
        }
        TemplateError::Runaway { .. } | TemplateError::TooLong { .. } => problem.label("in this template"),
        TemplateError::Undefined { .. } | TemplateError::Engine { .. } => problem
            .label("in this template")
            .hint("templates are written `{{ env.NAME }}` or `{{ env.NAME | default(\"x\") }}`"),
    }
}
