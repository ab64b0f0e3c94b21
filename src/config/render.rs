//! A config after templating, for people to look at. Comments and layout stay; secrets are not resolved:
//! `env_from_files` shows its paths.

use std::path::Path;

use super::context::Context;
use super::load::{Document, read};
use super::parse::Syntax;
use super::report::Report;
use super::tree::{Node, Span, Value};

/// The text of a config file with every template replaced by what it stands for, in the file's own language.
///
/// # Errors
/// It can't be read, can't be parsed, or a template can't be rendered. Other mistakes are `check`'s to tell.
pub fn render(file: &Path, context: &Context) -> Result<String, Report> {
    render_text(&read(file)?, file, context)
}

pub(crate) fn render_text(text: &str, file: &Path, context: &Context) -> Result<String, Report> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut document = Document::parse(text, Syntax::of(file, text), &context.variables);
    Report::of(file, text, document.take_problems())?;
    // What stands for a number becomes one; what is wrong stays as it is.
    document.check_shape();
    let mut rendered = Vec::new();
    gather(document.root(), &mut rendered);
    // What is left out is read no further, and its templates stay as they are.
    let out = document.left_out().iter().filter(|out| out.templated);
    rendered.extend(out.map(|out| (out.span.clone(), "false".to_owned())));
    // From the end, so that the places before stay where they are.
    rendered.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for (span, value) in rendered {
        text.replace_range(span, &value);
    }
    Ok(text)
}

fn gather(node: &Node, rendered: &mut Vec<(Span, String)>) {
    match &node.value {
        Value::Array(elements) => elements.iter().for_each(|element| gather(element, rendered)),
        Value::Table(table) => table.entries.iter().for_each(|entry| gather(&entry.value, rendered)),
        Value::String(text) if node.templated => rendered.push((node.span.clone(), quote(text))),
        Value::Integer(number) if node.templated => rendered.push((node.span.clone(), number.to_string())),
        Value::Bool(value) if node.templated => rendered.push((node.span.clone(), value.to_string())),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) | Value::Other(_) => {}
    }
}

/// A string as JSON and TOML both read it. TOML takes no bare DEL.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, file: &str) -> Result<String, Report> {
        let variables = [("PORT", "8080"), ("TEXT", "a \"b\"\n\u{7f}ä"), ("YES", "true")].into_iter().collect();
        render_text(text, Path::new(file), &Context { variables, hostname: String::new() })
    }

    #[test]
    fn templates_are_replaced_and_all_else_stays() {
        let toml = "# the port\nservice = [{ port = '{{ env.PORT }}' }] # here\n\
                    process.exec = [\"{{ env.TEXT }}\", \"\"\"x{{ env.PORT }}\"\"\"]\n\
                    control.signals = \"{{ env.YES }}\"\nbogus = \"{{ env.PORT }}\"\n";
        assert_eq!(
            render(toml, "t.toml").unwrap(),
            "# the port\nservice = [{ port = 8080 }] # here\nprocess.exec = [\"a \\\"b\\\"\\n\\u007fä\", \"x8080\"]\n\
             control.signals = true\nbogus = \"8080\"\n"
        );
        let json = r#"{"service": [{"port": "{{ env.PORT }}", "name": "{{ env.TEXT }}"}]}"#;
        assert_eq!(render(json, "t.json").unwrap(), r#"{"service": [{"port": 8080, "name": "a \"b\"\n\u007fä"}]}"#);
    }

    #[test]
    fn what_is_rendered_loads_as_the_same_config() {
        let text = include_str!("../../config-examples/web.toml");
        let context = Context::default();
        let load = |text: &str| {
            crate::config::Config::from_text(text, Path::new("t.toml"), None, &context).map(|loaded| loaded.config)
        };
        let rendered = render_text(text, Path::new("t.toml"), &context).unwrap();
        assert!(!rendered.contains("{{"));
        assert_eq!(load(&rendered), load(text));
    }

    #[test]
    fn what_is_left_out_says_so_and_its_own_templates_are_not_rendered() {
        let text = "[[service]]\nenabled = \"{{ env.NONE | default('') }}\"\nname = \"{{ env.NONE }}\"\n\
                    [[service]]\nenabled = \"{{ env.YES }}\"\nport = \"{{ env.PORT }}\"\n";
        let rendered = "[[service]]\nenabled = false\nname = \"{{ env.NONE }}\"\n\
                        [[service]]\nenabled = true\nport = 8080\n";
        assert_eq!(render(text, "t.toml").unwrap(), rendered);
    }

    #[test]
    fn a_template_that_cannot_be_rendered_is_reported() {
        assert!(render("a = \"{{ env.NONE }}\"", "t.toml").unwrap_err().to_string().contains("`NONE` is not set"));
    }

    #[test]
    fn secrets_stay_in_their_files() {
        let text = "process.env_from_files = { P = \"/run/secrets/{{ env.PORT }}\" }\n";
        assert_eq!(render(text, "t.toml").unwrap(), "process.env_from_files = { P = \"/run/secrets/8080\" }\n");
    }
}
