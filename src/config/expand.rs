//! `{{ env.NAME }}` in a config's string values, rendered after parsing, so that no value can break the syntax. Keys
//! are never templates.

use super::context::Variables;
use super::report::Problem;
use super::template::{TemplateError, Values};
use super::tree::{Node, Span, Value};

/// Renders every string value below `root` in place. What can't be rendered is reported and broken.
pub(crate) fn expand(root: &mut Node, variables: &Variables, problems: &mut Vec<Problem>) {
    each(root, &Values::new(variables), problems);
}

fn each(node: &mut Node, values: &Values<'_>, problems: &mut Vec<Problem>) {
    match &mut node.value {
        Value::String(text) if Values::is_template(text) => match values.render(text) {
            Ok(rendered) => {
                *text = rendered;
                node.templated = true;
            }
            Err(error) => {
                node.broken = true;
                problems.push(problem(node.span.clone(), &error));
            }
        },
        Value::Array(elements) => {
            for element in elements.iter_mut() {
                each(element, values, problems);
            }
            // The elements that are left would be taken for all there are.
            if elements.iter().any(|element| element.broken) {
                node.broken = true;
            }
        }
        Value::Table(table) => {
            for entry in &mut table.entries {
                each(&mut entry.value, values, problems);
            }
        }
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) | Value::Other(_) => {}
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
