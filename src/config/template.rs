//! The template backend of config values and of watch templates: minijinja with `env`, strict about what isn't defined,
//! and limited, so that a runaway template ends with an error. It reads no file and no environment of its own.
//!
//! Filters that ContainerPilot's users know: `default`, `split`, `join`, `replace` (also by its old name,
//! `replaceAll`) and `regex_replace` (`regexReplaceAll`). docs/templates.md has them all.

mod bounded;
mod chains;
mod filters;
mod lines;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::machinery::Instructions;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, Serde};
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde::Serialize;

use bounded::Room;

use super::context::Variables;

/// So much is shown of the line that an error is in, in characters.
const LONGEST_LINE: usize = 200;
/// Steps of the backend for one file. A template over 1,000 instances takes some 50,000; this is well below a second.
const FILE_FUEL: u64 = 5_000_000;
/// Steps for one config value.
const VALUE_FUEL: u64 = 50_000;
/// The longest output of one file, in bytes.
const FILE_LIMIT: usize = 16 << 20;
/// The longest config value, in bytes.
const VALUE_LIMIT: usize = 128 << 10;

/// As many unset variables are remembered: to tell which of them is missed, the template is rendered once for each.
const UNSET_AT_MOST: usize = 32;

/// Why a template came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template refers to environment variables that aren't set.
    #[error("{}: {}", TemplatePlace(name, *line), NotSet(variables))]
    NotSet {
        /// The template's name.
        name: String,
        /// The line, from 1.
        line: Option<usize>,
        /// The variables.
        variables: Vec<String>,
    },
    /// The template refers to something else that isn't there.
    #[error("{}: {} in `{text}`", TemplatePlace(name, *line), NotDefined(names))]
    Undefined {
        /// The template's name.
        name: String,
        /// The line, from 1.
        line: Option<usize>,
        /// That line.
        text: String,
        /// What is defined nowhere; none where only a part of something is missing.
        names: Vec<String>,
    },
    /// The template takes too many steps.
    #[error("{}: gave up after {steps} steps; is there a loop without end?", TemplatePlace(name, *line))]
    Runaway {
        /// The template's name.
        name: String,
        /// The line, from 1.
        line: Option<usize>,
        /// How many were allowed.
        steps: u64,
    },
    /// The output is too long, or what it is made from.
    #[error("{name}: gave up: its output, or a value on the way to it, is longer than {limit} bytes")]
    TooLong {
        /// The template's name.
        name: String,
        /// How many bytes were allowed.
        limit: usize,
    },
    /// Syntax, an unknown filter, a filter's own error.
    #[error("{}: {what}", TemplatePlace(name, *line))]
    Engine {
        /// The template's name.
        name: String,
        /// The line, from 1.
        line: Option<usize>,
        /// What the backend says.
        what: String,
    },
}

/// `file:line`, as far as known.
struct TemplatePlace<'a>(&'a str, Option<usize>);

impl std::fmt::Display for TemplatePlace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            Some(line) => write!(f, "{}:{line}", self.0),
            None => f.write_str(self.0),
        }
    }
}

/// "`A` is not set", "`A`, `B` are not set".
struct NotSet<'a>(&'a [String]);

impl std::fmt::Display for NotSet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            write!(f, "{}`{name}`", if index == 0 { "" } else { ", " })?;
        }
        f.write_str(if self.0.len() == 1 { " is not set" } else { " are not set" })
    }
}

/// "`A` isn't defined", "`A`, `B` aren't defined".
struct NotDefined<'a>(&'a [String]);

impl std::fmt::Display for NotDefined<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = self.0.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match self.0.len() {
            0 => f.write_str("a value isn't defined"),
            1 => write!(f, "{named} isn't defined"),
            _ => write!(f, "{named} aren't defined"),
        }
    }
}

impl TemplateError {
    /// What went wrong, without the place.
    pub(crate) fn what(&self) -> String {
        match self {
            TemplateError::NotSet { variables, .. } => format!("{} in the environment", NotSet(variables)),
            TemplateError::Undefined { names, .. } => NotDefined(names).to_string(),
            TemplateError::Runaway { steps, .. } => format!("gave up after {steps} steps"),
            TemplateError::TooLong { limit, .. } => {
                format!("gave up: it, or a value on the way to it, is longer than {limit} bytes")
            }
            TemplateError::Engine { what, .. } => what.clone(),
        }
    }
}

/// Renders a template file. `context` is a map or struct; `env` is there beside it. Nothing is escaped; a line that
/// holds only blocks (`{% for … %}`) leaves no line behind, any other keeps its end; the file's last newline stays.
///
/// # Errors
/// With the template's name and line: bad syntax, an unknown filter, something undefined, a runaway.
pub fn render_file(
    source: &str,
    name: &str,
    context: impl Serialize,
    variables: &Variables,
) -> Result<String, TemplateError> {
    let program = lines::keep_ends(source);
    let job = Job { source, program: &program, name, variables, fuel: FILE_FUEL, limit: FILE_LIMIT };
    job.render(&Value::from(Serde(context)), &Engine::new(Env::new(variables.clone(), None), FILE_FUEL, FILE_LIMIT))
}

/// Whether a template file is one at all. What its filters and values come to shows only when it is rendered.
///
/// # Errors
/// With the template's name and line: bad syntax.
pub fn check_syntax(source: &str, name: &str) -> Result<(), TemplateError> {
    compile(name, &lines::keep_ends(source)).map(drop).map_err(|error| TemplateError::Engine {
        name: name.to_owned(),
        line: error.line(),
        what: in_words(&error),
    })
}

/// Renders config values; the backend is made when the first template comes, for most configs never.
pub(crate) struct Values<'a> {
    variables: &'a Variables,
    engine: OnceCell<Engine>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(variables: &'a Variables) -> Values<'a> {
        Values { variables, engine: OnceCell::new() }
    }

    /// Whether a text is a template at all. `{#` alone, a comment to the backend, isn't: shells have `${#name}`.
    pub(crate) fn is_template(text: &str) -> bool {
        text.contains("{{") || text.contains("{%")
    }

    /// Renders one value.
    pub(crate) fn render(&self, source: &str) -> Result<String, TemplateError> {
        let engine =
            self.engine.get_or_init(|| Engine::new(Env::new(self.variables.clone(), None), VALUE_FUEL, VALUE_LIMIT));
        engine.env.forget();
        engine.room.refill();
        let (program, name) = (source, "value");
        let job = Job { source, program, name, variables: self.variables, fuel: VALUE_FUEL, limit: VALUE_LIMIT };
        job.render(&Value::UNDEFINED, engine)
    }
}

/// A backend that sees `env`, and makes no more than there is room for.
struct Engine {
    env: Arc<Env>,
    room: Arc<Room>,
    engine: Environment<'static>,
}

impl Engine {
    fn new(env: Env, fuel: u64, limit: usize) -> Engine {
        let (env, room) = (Arc::new(env), Room::for_output(limit));
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_fuel(Some(fuel));
        filters::add(&mut engine);
        bounded::add(&mut engine, &room);
        engine.add_global("env", Value::from_dyn_object(Arc::clone(&env)));
        Engine { env, room, engine }
    }

    fn run(&self, name: &str, source: &str, context: &Value) -> Result<String, minijinja::Error> {
        bounded::run(&self.engine, &compile(name, source)?, context.clone())
    }
}

/// A block takes the newline behind it away, unless [`lines`] has it kept, and the last newline stays.
fn syntax() -> SyntaxConfig {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    syntax.expect("the default delimiters are sound")
}

fn compile<'s>(name: &'s str, source: &'s str) -> Result<Instructions<'s>, minijinja::Error> {
    let syntax = syntax();
    chains::check(name, source, syntax.clone())?;
    bounded::compile(name, source, syntax)
}

struct Job<'a> {
    /// As it was written.
    source: &'a str,
    /// As it is run, line by line the same.
    program: &'a str,
    name: &'a str,
    variables: &'a Variables,
    fuel: u64,
    limit: usize,
}

impl Job<'_> {
    fn render(&self, context: &Value, engine: &Engine) -> Result<String, TemplateError> {
        match engine.run(self.name, self.program, context) {
            Ok(output) if output.len() <= self.limit => Ok(output),
            Err(error) if !engine.room.is_used_up() => Err(self.explain(error, context, engine)),
            _ => Err(TemplateError::TooLong { name: self.name.to_owned(), limit: self.limit }),
        }
    }

    fn explain(&self, error: minijinja::Error, context: &Value, engine: &Engine) -> TemplateError {
        let (name, line) = (self.name.to_owned(), error.line());
        match error.kind() {
            ErrorKind::OutOfFuel => TemplateError::Runaway { name, line, steps: self.fuel },
            ErrorKind::UndefinedError => {
                let variables = self.culprits(context, &engine.env);
                if !variables.is_empty() {
                    return TemplateError::NotSet { name, line, variables };
                }
                let text = line.and_then(|line| self.source.lines().nth(line - 1)).unwrap_or(self.source);
                let text = text.char_indices().nth(LONGEST_LINE).map_or(text, |(end, _)| &text[..end]);
                TemplateError::Undefined {
                    name,
                    line,
                    text: text.trim().to_owned(),
                    names: self.unknown(context, engine),
                }
            }
            _ => TemplateError::Engine { name, line, what: in_words(&error) },
        }
    }

    /// Names that neither the context nor the language knows.
    fn unknown(&self, context: &Value, engine: &Engine) -> Vec<String> {
        let known = |name: &String| {
            context.get_attr(name).is_ok_and(|value| !value.is_undefined())
                || engine.engine.globals().any(|(global, _)| global == name)
        };
        let parsed = engine.engine.template_from_str(self.source);
        let names = parsed.map(|parsed| parsed.undeclared_variables(false)).unwrap_or_default();
        names.into_iter().filter(|name| !known(name)).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Which of the unset variables that were asked for are missed, and not caught by a `default`: those whose absence
    /// alone, with every other one empty, is an error.
    fn culprits(&self, context: &Value, env: &Env) -> Vec<String> {
        let missing = env.missing();
        let is_missed = |name: &String| {
            let alone = Env::new(self.variables.clone(), Some(name.clone()));
            let result = Engine::new(alone, self.fuel, self.limit).run(self.name, self.program, context);
            result.is_err_and(|error| error.kind() == ErrorKind::UndefinedError)
        };
        missing.iter().filter(|name| is_missed(name)).cloned().collect()
    }
}

fn in_words(error: &minijinja::Error) -> String {
    let kind = error.kind().to_string();
    match error.detail() {
        Some(detail) => format!("{kind}: {detail}"),
        None => kind,
    }
}

/// `env` as templates see it.
#[derive(Debug)]
struct Env {
    variables: Variables,
    /// If set, only this one may be missing: every other unset variable is empty.
    only: Option<String>,
    missing: Mutex<BTreeSet<String>>,
}

impl Env {
    fn new(variables: Variables, only: Option<String>) -> Env {
        Env { variables, only, missing: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The unset variables that were asked for, also those a `default` caught.
    fn missing(&self) -> BTreeSet<String> {
        self.lock().clone()
    }

    fn forget(&self) {
        self.lock().clear();
    }
}

impl Object for Env {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        if let Some(value) = self.variables.get(name) {
            return Some(match value.to_str() {
                Some(text) => Value::from(text),
                None => Value::from(minijinja::Error::new(
                    ErrorKind::InvalidOperation,
                    format!("environment variable `{name}` isn't UTF-8"),
                )),
            });
        }
        if self.only.as_deref().is_some_and(|only| only != name) {
            return Some(Value::from(""));
        }
        let mut missing = self.lock();
        if missing.len() < UNSET_AT_MOST {
            missing.insert(name.to_owned());
        }
        None
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.variables.names().filter_map(|name| name.to_str()).map(Value::from).collect())
    }
}

/// One config value, for tests elsewhere.
#[cfg(test)]
pub(crate) fn render_value(source: &str, variables: &Variables) -> Result<String, TemplateError> {
    Values::new(variables).render(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        [("PORT", "8080"), ("EMPTY", ""), ("DSN", "user=a=b pass==c"), ("HOSTS", "a,b,c")].into_iter().collect()
    }

    fn value(source: &str) -> String {
        Values::new(&variables()).render(source).unwrap_or_else(|error| panic!("{source}: {error}"))
    }

    fn error(source: &str) -> String {
        render_file(source, "t.j2", serde_json::json!({}), &variables()).expect_err(source).to_string()
    }

    #[derive(Serialize)]
    struct Instance {
        host_port: &'static str,
    }

    #[test]
    fn environment_variables_come_whole() {
        assert_eq!(value("{{ env.PORT }}"), "8080");
        assert_eq!(value("{{ env.DSN }}"), "user=a=b pass==c");
        assert_eq!(value("{{ env['PORT'] }}"), "8080");
        assert_eq!(value("{{ env.EMPTY | default('x') }}"), "", "an empty value is a value");
        assert_eq!(value("{{ env.NONE | default('x') }}"), "x");
    }

    #[test]
    fn the_filters_container_pilot_had_are_there() {
        assert_eq!(value("{{ env.HOSTS | split(',') | join(' ') }}"), "a b c");
        assert_eq!(value("{{ env.HOSTS | replaceAll(',', ';') }}"), "a;b;c");
        assert_eq!(value("{{ env.HOSTS | regexReplaceAll('[ab],', 'x') }}"), "xxc");
    }

    #[test]
    fn every_missing_variable_is_named_and_no_other() {
        assert_eq!(error("{{ env.NONE }}"), "t.j2:1: `NONE` is not set");
        assert_eq!(error("a\n{{ env.A | default('') }}{{ env.B ~ env.C }}"), "t.j2:2: `B`, `C` are not set");
    }

    #[test]
    fn what_else_is_undefined_is_shown_with_its_line() {
        assert_eq!(error("a\n  {{ instances }}\n"), "t.j2:2: `instances` isn't defined in `{{ instances }}`");
        assert_eq!(
            error("{{ namespace() }}{{ ENV.A }}"),
            "t.j2:1: `ENV` isn't defined in `{{ namespace() }}{{ ENV.A }}`"
        );
        assert!(error("{% for i in instances %}{% endfor %}").contains("isn't defined"));
    }

    #[test]
    fn bad_syntax_is_an_error_with_its_line() {
        for source in ["a\n{{ env.", "a\n{% for %}", "a\n{{ 'x }}", "a\n{% nothing %}"] {
            assert!(error(source).starts_with("t.j2:2: syntax error"), "{source}: {}", error(source));
        }
    }

    #[test]
    fn a_runaway_template_ends_with_an_error() {
        let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        assert!(error(source).contains("steps"));
        let source = "{% for a in range(9999) %}{{ '%9999s' | format('x') * 1 if false else 'x' * 9999 }}{% endfor %}";
        assert!(!error(source).is_empty());
    }

    #[test]
    fn unset_variables_without_number_take_no_time() {
        let unset = "{% for i in range(9999) %}{{ env['A' ~ i] | default('') }}{% endfor %}";
        let started = std::time::SystemTime::now();
        // Which of so many is meant isn't looked for any more.
        assert!(error(&format!("{unset}{{{{ nothing }}}}")).starts_with("t.j2:1: "));
        assert!(started.elapsed().is_ok_and(|took| took.as_secs() < 60));
    }

    #[test]
    fn a_template_that_makes_ever_longer_values_ends_with_an_error() {
        let doubled = |what: &str| format!("{{% set a = 'xxxxxxxx' %}}{}{{{{ a | length }}}}", what.repeat(60));
        for source in [
            doubled("{% set a = a ~ a %}"),
            doubled("{% set a = a + a %}"),
            doubled("{% set a = a * 2 %}"),
            doubled("{% set a %}{{ a }}{{ a }}{% endset %}"),
            doubled("{% set a = [a, a] | join('') %}"),
            doubled("{% set a = a | replace('x', 'xx') %}"),
            doubled("{% set a = a | replaceAll('', 'xx') %}"),
            doubled("{% set a = a | tojson | tojson %}"),
            doubled("{% set a = a | regex_replace('.', '$0$0') %}"),
            doubled("{% set a = a | b64encode %}"),
            doubled("{% set a = a | upper | indent(999, true) %}"),
            doubled("{% set a = [a, a] %}") + "{{ a }}",
            doubled("{% set a = {'a': a, 'b': a} %}") + "{{ a }}",
            doubled("{% set a = [a, a] %}") + "{{ a == [a] }}",
            doubled("{% set a = [a, a] %}") + "{{ a ~ '' }}",
            doubled("{% set a = [a, a] %}") + "{{ a | tojson }}",
            "{% set a = [1] %}".to_owned() + &"{% set a = a + a %}".repeat(60) + "{{ a | length }}",
            "{{ '%99999999s' | format('x') }}".to_owned(),
            "{{ '%*s' | format(99999999, 'x') }}".to_owned(),
            "{% for a in range(9999) %}{% set b %}{% for c in range(99) %}".to_owned()
                + &"x".repeat(1000)
                + "{% endfor %}{% endset %}{% endfor %}",
            "{% set a = ['x' * 999999] %}{% for b in range(999) %}{{ (a[0] ~ b) | length }}{% endfor %}".to_owned(),
        ] {
            // A value of the config has less room than a file, so that this takes no time.
            let error = Values::new(&variables()).render(&source).expect_err(&source).to_string();
            let told = ["longer than", "too long", "wider"].iter().any(|words| error.contains(words));
            assert!(told, "{source}: {error}");
        }
        assert!(error(&doubled("{% set a = a ~ a %}")).contains("longer than 16777216 bytes"));
    }

    #[test]
    fn what_is_nested_without_end_is_an_error_and_no_end_of_the_stack() {
        let again =
            |what: &str| format!("{{% set ns = namespace(x=1) %}}{{% for i in range(99999) %}}{what}{{% endfor %}}");
        for source in [
            again("{% set ns.x = [ns.x] %}"),
            again("{% set ns.x = {'a': ns.x} %}"),
            again("{% set ns.x = (ns.x,) %}"),
            again("{% set ns.x = [ns.x] | list %}"),
            again("{% set ns.x = [ns.x] | batch(1) | list %}"),
            again("{% set ns.x = dict(a=ns.x) %}"),
            again("{% set ns.x = ns.x | items | list if ns.x is mapping else {'a': ns.x} %}"),
            "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}".to_owned(),
            "{% set ns = namespace() %}{% set ns.me = [ns] %}{{ ns | tojson }}".to_owned(),
            "{% set ns = namespace() %}{% set other = namespace(a={'b': ns}) %}{% set ns.b = other %}".to_owned(),
            format!("{{{{ {}1 }}}}", "1 + ".repeat(20_000)),
            format!("{{{{ {}1 }}}}", "1 if 0 else ".repeat(20_000)),
            format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(20_000)),
        ] {
            let shown: String = source.chars().take(120).collect();
            let error = error(&source);
            let told = ["64 deep", "in a namespace", "hang on each other"].iter().any(|words| error.contains(words));
            assert!(told, "{shown}: {error}");
        }
        // On a stack as small as any thread's here.
        let deep = format!("{{{{ {}1 }}}}", "1 + ".repeat(999));
        assert_eq!(render_file(&deep, "t.j2", serde_json::json!({}), &variables()).unwrap(), "1000");
        let kept = "{% set ns = namespace(all=[]) %}{% for i in range(9) %}{% set ns.all = ns.all + [[i]] %}{% endfor %}{{ ns.all | length }}";
        assert_eq!(value(kept), "9");
    }

    #[test]
    fn what_is_within_bounds_is_made_as_ever() {
        let source = "{% for a in range(1000) %}{{ 'server 10.0.0.1:80;' ~ a ~ '\n' }}{% endfor %}";
        let output = render_file(source, "t.j2", serde_json::json!({}), &variables()).unwrap();
        assert_eq!(output.lines().count(), 1000);
        let sum = "{% if 1 + 2 == 3 and 2 * 3 == 6 and 'a' + 'b' == 'ab' and ([1] + [2])[1] == 2 %}{{ 5 - 2 + 1.5 }}{% endif %}";
        assert_eq!(value(sum), "4.5");
    }

    #[test]
    fn a_file_is_made_from_instances_without_stray_lines() {
        let source = "upstream app {\n  {% for i in instances %}\n  server {{ i.host_port }};\n  {% endfor %}\n}\n";
        let instances = [Instance { host_port: "10.0.0.1:80" }, Instance { host_port: "[2001:db8::5]:81" }];
        let context = serde_json::json!({ "instances": instances });
        let output = render_file(source, "t.j2", context, &variables()).unwrap();
        assert_eq!(output, "upstream app {\n  server 10.0.0.1:80;\n  server [2001:db8::5]:81;\n}\n");
    }

    #[test]
    fn the_example_for_nginx_makes_a_config_for_nginx() {
        let source = include_str!("../../config-examples/nginx/nginx.conf.j2");
        let upstream = |instances: &[Instance]| {
            let context = serde_json::json!({ "instances": instances, "watch": "app" });
            let output = render_file(source, "nginx.conf.j2", context, &variables()).unwrap();
            let from = output.find("    upstream").unwrap();
            output[from..output.find("    server {\n").unwrap()].to_owned()
        };
        assert_eq!(
            upstream(&[Instance { host_port: "10.0.0.1:80" }, Instance { host_port: "[2001:db8::5]:81" }]),
            "    upstream app {\n        server 10.0.0.1:80;\n        server [2001:db8::5]:81;\n    }\n\n"
        );
        assert!(upstream(&[]).contains("server 127.0.0.1:1 down;"));
    }

    #[test]
    fn nothing_is_escaped() {
        let output = render_file("{{ a }}", "t.html", serde_json::json!({ "a": "<&>" }), &variables()).unwrap();
        assert_eq!(output, "<&>");
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_no_text_is_an_error_that_names_it() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = std::ffi::OsString::from_vec(vec![0xff]);
        let variables: Variables = [("RAW", bytes)].into_iter().collect();
        let error = Values::new(&variables).render("{{ env.RAW }}").unwrap_err().to_string();
        assert!(error.contains("`RAW` isn't UTF-8"), "{error}");
    }
}
