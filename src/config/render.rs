//! A config after templating, for people to look at. Comments and layout stay; secrets are not resolved:
//! `env_from_files` shows its paths. What goes to others ([`masked`]) shows no value that may be one either.

use std::path::Path;

use super::context::Context;
use super::document::{Document, read};
use super::expand::LeftOut;
use super::parse::{Syntax, parse};
use super::redact::redact;
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
    Ok(replaced(text, replacements(document.root(), document.left_out(), Show::All)))
}

/// The same of a text that has been read, with stars for what may be secret: passwords in URLs, values of keys that are
/// called so, variables of commands and headers of requests, and what the environment puts into a command line. It is
/// still a config, of which the agent decides as of the other.
pub(super) fn masked(text: &str, syntax: Syntax, root: &Node, left_out: &[LeftOut]) -> String {
    let mut shown = replacements(root, left_out, Show::NoSecrets);
    if !left_out.is_empty() {
        // They are no part of the document any more, and may have secrets of their own.
        let whole = parse(text, syntax, &mut Vec::new()).root;
        let all = replacements(&whole, &[], Show::NoSecrets);
        let missing = all.into_iter().filter(|(span, _)| !shown.iter().any(|(known, _)| known == span));
        let missing: Vec<_> = missing.collect();
        shown.extend(missing);
    }
    redact(&replaced(text, shown))
}

/// What of a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    /// Everything.
    All,
    /// What isn't below a key that may hold secrets.
    NoSecrets,
    /// What was written as it stands, and not what a template made of it.
    AsWritten,
    /// Nothing.
    Nothing,
}

impl Show {
    fn below(self, key: &str) -> Show {
        match (self, key) {
            (Show::NoSecrets, "exec" | "check") => Show::AsWritten,
            (Show::NoSecrets, "env" | "headers") => Show::Nothing,
            (show, _) => show,
        }
    }
}

/// What comes in place of what.
fn replacements(root: &Node, left_out: &[LeftOut], show: Show) -> Vec<(Span, String)> {
    let mut rendered = Vec::new();
    gather(root, show, &mut rendered);
    // What is left out is read no further, and its templates stay as they are.
    let out = left_out.iter().filter(|out| out.templated);
    rendered.extend(out.map(|out| (out.span.clone(), "false".to_owned())));
    rendered
}

fn replaced(text: &str, mut parts: Vec<(Span, String)>) -> String {
    // From the end, so that the places before stay where they are.
    parts.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for (span, value) in parts {
        text.replace_range(span, &value);
    }
    text
}

fn gather(node: &Node, show: Show, rendered: &mut Vec<(Span, String)>) {
    match &node.value {
        // A template's, whose elements all stand where it does.
        Value::Array(elements) if node.templated => {
            let shown = |element: &Node| match show {
                Show::All | Show::NoSecrets => quote(element.as_str().unwrap_or_default()),
                Show::AsWritten | Show::Nothing => quote("***"),
            };
            let elements: Vec<String> = elements.iter().map(shown).collect();
            rendered.push((node.span.clone(), format!("[{}]", elements.join(", "))));
        }
        Value::Array(elements) => elements.iter().for_each(|element| gather(element, show, rendered)),
        Value::Table(table) => {
            table.entries.iter().for_each(|entry| gather(&entry.value, show.below(&entry.key), rendered))
        }
        Value::String(_) if show == Show::Nothing || (show == Show::AsWritten && node.templated) => {
            rendered.push((node.span.clone(), quote("***")))
        }
        // Only of a template's text it isn't asked whether it stands for a number.
        Value::String(text) if node.templated && show != Show::All && is_a_number_or_boolean(text) => {
            rendered.push((node.span.clone(), quote(&format!("{{{{ '{text}' }}}}"))))
        }
        Value::String(text) if node.templated => rendered.push((node.span.clone(), quote(text))),
        Value::Integer(number) if node.templated => rendered.push((node.span.clone(), number.to_string())),
        Value::Bool(value) if node.templated => rendered.push((node.span.clone(), value.to_string())),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) | Value::Other(_) => {}
    }
}

fn is_a_number_or_boolean(text: &str) -> bool {
    text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok()
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
    fn a_list_of_a_templates_making_is_shown_as_a_list() {
        let text = "process.exec = [\"a\"]\ncatalog.endpoints = \"http://u:{{ env.PASS }}@a:1, http://b:2,\" # here\n";
        let context = Context { variables: [("PASS", "s3cret")].into_iter().collect(), hostname: String::new() };
        assert_eq!(
            render_text(text, Path::new("t.toml"), &context).unwrap(),
            "process.exec = [\"a\"]\ncatalog.endpoints = [\"http://u:s3cret@a:1\", \"http://b:2\"] # here\n"
        );
        let text = "process.exec = [\"a\"]\nservice = [{ name = \"web\", port = 80, tags = \"{{ env.PASS }},1\" }]\n\
                    catalog = { backend = \"local\", directory = \"/shared\" }\n";
        let load = |text: &str| crate::config::Config::from_text(text, Path::new("t.toml"), None, &context).unwrap();
        let written = load(text).written.text;
        assert!(written.contains("tags = [\"s3cret\", \"1\"]"), "{written}");
        assert_eq!(load(&written).config.services[0].tags, ["s3cret", "1"]);
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
    fn what_is_masked_shows_no_secret_and_loads_as_a_config_all_the_same() {
        let text = "process.exec = [\"db\", \"-p{{ env.PASS }}\", \"--verbose\"]\nprocess.env = { A = \"{{ env.PASS }}\", B = 'b' }\n\
                    service = [{ name = \"{{ env.NAME }}\", port = \"{{ env.PORT }}\" }]\n\
                    health = [{ name = \"h\", http = \"http://localhost/\", headers = { X = \"pw\" } }]\n\
                    catalog = { backend = \"consul\", address = \"http://c:8500\" }\n\
                    watch = [{ enabled = false, name = \"w\", on_change = { exec = [\"a\"], env = { C = \"s3cret\" } } }]\n";
        let variables = [("PASS", "s3cret"), ("NAME", "web"), ("PORT", "80")].into_iter().collect();
        let context = Context { variables, hostname: "h".to_owned() };
        let written = crate::config::Config::from_text(text, Path::new("t.toml"), None, &context).unwrap().written;
        assert_eq!(
            written.text,
            "process.exec = [\"db\", \"***\", \"--verbose\"]\nprocess.env = { A = \"***\", B = \"***\" }\n\
             service = [{ name = \"web\", port = \"{{ '80' }}\" }]\n\
             health = [{ name = \"h\", http = \"http://localhost/\", headers = { X = \"***\" } }]\n\
             catalog = { backend = \"consul\", address = \"http://c:8500\" }\n\
             watch = [{ enabled = false, name = \"w\", on_change = { exec = [\"a\"], env = { C = \"***\" } } }]\n"
        );
        let again = crate::config::Config::from_text(&written.text, Path::new("t.toml"), None, &Context::default());
        assert_eq!(again.unwrap().config.services[0].port, 80);
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
