//! A `supervisord.conf`: its programs, of which one is main and the others coprocesses.

use super::document::{Document, Note, Table, Value};
use super::go::Span;
use super::text::{Piece, Template, Text};

/// Whether a text is such a file: sections in brackets, with a program among them.
pub(super) fn is(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("[program:") || line.starts_with("[supervisord]"))
}

/// A program that prints there prints to the container's own output.
const OWN_OUTPUT: [&str; 4] = ["/dev/stdout", "/dev/fd/1", "/dev/stderr", "/dev/fd/2"];

/// A section with its keys.
struct Section<'t> {
    name: &'t str,
    span: Span,
    keys: Vec<(&'t str, String, Span)>,
}

impl Section<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.keys.iter().rev().find(|(known, ..)| *known == key).map(|(_, value, _)| value.as_str())
    }

    fn span(&self, key: &str) -> Span {
        self.keys.iter().rev().find(|(known, ..)| *known == key).map_or(self.span.clone(), |(_, _, span)| span.clone())
    }

    fn is_on(&self, key: &str) -> Option<bool> {
        match self.get(key)?.to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        }
    }
}

/// The document that a file comes to; or where it is broken, and how.
pub(super) fn document(text: &str) -> Result<Document, (Span, String)> {
    let sections = sections(text)?;
    let mut document = Document::default();
    let mut programs: Vec<&Section<'_>> = Vec::new();
    for section in &sections {
        let (kind, _) = section.name.split_once(':').unwrap_or((section.name, ""));
        let (what, lost) = match kind {
            "program" if section.is_on("autostart") == Some(false) => ("isn't started by itself; left out", true),
            "program" => {
                programs.push(section);
                continue;
            }
            "eventlistener" => ("nothing speaks supervisord's protocol of events here; left out", true),
            "fcgi-program" => ("no socket is held open for a program; left out", true),
            "include" => ("other files aren't read; import them by themselves", true),
            "inet_http_server" => ("pilotfish has `[telemetry] listen` and its control socket; left out", true),
            "group" => ("programs have no groups here", false),
            "supervisord" | "unix_http_server" | "supervisorctl" | "rpcinterface" => continue,
            _ => ("no section of supervisord's is called so; left out", true),
        };
        document.notes.push(note(section.span.clone(), format!("[{}]", section.name), what, lost));
    }
    let priority =
        |section: &Section<'_>| section.get("priority").and_then(|text| text.parse().ok()).unwrap_or(999_i64);
    // Started in the order of their priorities, and ended in the reverse.
    programs.sort_by_key(|section| priority(section));
    let main = programs
        .iter()
        .rposition(|section| section.is_on("autorestart") != Some(false))
        .or(programs.len().checked_sub(1));
    for (index, section) in programs.iter().enumerate() {
        let is_main = main == Some(index);
        program(section, is_main, programs.len() > 1, &mut document);
    }
    if let Some(longest) = programs.iter().filter_map(|section| patience(section)).max().filter(|longest| *longest > 9)
    {
        document.one("stop").set("within", Value::text(format!("{}s", longest + 4)));
    }
    Ok(document)
}

fn program(section: &Section<'_>, is_main: bool, several: bool, document: &mut Document) {
    let (_, name) = section.name.split_once(':').unwrap_or_default();
    let path = |key: &str| format!("[{}] {key}", section.name);
    let mut notes = Vec::new();
    let words: Vec<Text> = section.get("command").map(|line| self::words(line, name)).unwrap_or_default();
    if words.is_empty() {
        document.notes.push(note(section.span.clone(), path("command"), "is missing; left out", true));
        return;
    }
    let table: &mut Table =
        if is_main { document.one("process") } else { document.another("coprocess", section.span.start) };
    if is_main && several {
        let what = "is main here, and the container ends with it; there it ended with supervisord alone. To choose \
                    another one, exchange it with a `[[coprocess]]`";
        notes.push(note(section.span.clone(), format!("[{}]", section.name), what, false));
    }
    if !is_main {
        table.set("name", Value::text(name));
    }
    table.set("exec", Value::words(&words));
    for key in ["user", "directory"] {
        if let Some(value) = section.get(key) {
            table.set(key, Value::Text(expanded(value, name)));
        }
    }
    if let Some(environment) = section.get("environment") {
        table.set("env", Value::Inline(pairs(environment, name)));
    }
    let retries = section.get("startretries").and_then(|text| text.parse().ok()).unwrap_or(3_i64).max(1);
    let policy = match section.get("autorestart").unwrap_or("unexpected") {
        "unexpected" => "on-failure",
        _ if section.is_on("autorestart") == Some(false) => "never",
        _ => "always",
    };
    let mut restart = vec![("policy".to_owned(), Value::text(policy))];
    if policy != "never" {
        restart.push(("max".to_owned(), Value::Integer(retries)));
    }
    table.set("restart", Value::Inline(restart));
    let kills = section.get("stopsignal").is_some_and(|signal| signal.trim_start_matches("SIG") == "KILL");
    if let Some(signal) = section.get("stopsignal").filter(|_| !kills) {
        table.set("stop_signal", Value::text(signal));
    }
    if section.is_on("stopasgroup") == Some(true) {
        table.set("signal_scope", Value::text("group"));
    }
    if let Some(umask) = section.get("umask") {
        table.set("limits", Value::Inline(vec![("umask".to_owned(), Value::text(umask))]));
    }
    // Main's is never touched.
    if !is_main && section.get("stdout_logfile").is_some_and(|file| OWN_OUTPUT.contains(&file)) {
        table.set("output", Value::text("raw"));
    }
    let lost = [
        ("numprocs", "one process is started here", section.get("numprocs").is_some_and(|count| count != "1")),
        (
            "exitcodes",
            "only 0 is an expected end here",
            section.get("exitcodes").is_some_and(|codes| codes.trim() != "0"),
        ),
        ("stopsignal", "it is told to stop by TERM before it is killed here", kills),
    ];
    for (key, what, is) in lost {
        if is {
            notes.push(note(section.span(key), path(key), what, true));
        }
    }
    for key in ["stdout_logfile", "stderr_logfile"] {
        let to_a_file = section
            .get(key)
            .is_some_and(|file| !file.starts_with("/dev/") && !["NONE", "AUTO", "syslog"].contains(&file));
        if to_a_file {
            notes.push(note(section.span(key), path(key), "what it prints goes to the container's own output", false));
        }
    }
    table.notes.extend(notes);
    if let Some(seconds) = patience(section) {
        table.set("stop_timeout", Value::text(format!("{seconds}s")));
    }
}

/// How long a program has to stop, where it says so.
fn patience(section: &Section<'_>) -> Option<i64> {
    let seconds = section.get("stopwaitsecs")?.parse::<i64>().ok()?;
    (1..86_400).contains(&seconds).then_some(seconds)
}

fn note(span: Span, key: String, what: &str, lost: bool) -> Note {
    Note { span, key, what: what.to_owned(), lost }
}

/// The sections of an ini file as Python's configparser reads it: `;` and `#` begin comments, a line that begins with a
/// blank goes on with the value before.
fn sections(text: &str) -> Result<Vec<Section<'_>>, (Span, String)> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let bare = line.trim();
        let span = start + (line.len() - line.trim_start().len())..start + line.trim_end().len().max(1);
        if bare.is_empty() || bare.starts_with([';', '#']) {
            continue;
        }
        let value = |text: &str| text.split(" ;").next().unwrap_or_default().trim().to_owned();
        if let Some(name) = line.strip_prefix('[') {
            let Some((name, _)) = name.split_once(']') else {
                return Err((span, "a section's name isn't closed by `]`".to_owned()));
            };
            sections.push(Section { name, span, keys: Vec::new() });
            continue;
        }
        let Some(section) = sections.last_mut() else {
            return Err((span, "this stands in no section".to_owned()));
        };
        if line.starts_with([' ', '\t']) {
            match section.keys.last_mut() {
                Some((_, before, _)) => *before = format!("{before} {}", value(bare)).trim().to_owned(),
                None => return Err((span, "this goes on with nothing".to_owned())),
            }
            continue;
        }
        match bare.split_once(['=', ':']) {
            Some((key, text)) => section.keys.push((key.trim(), value(text), span)),
            None => return Err((span, "this is no `key = value`".to_owned())),
        }
    }
    Ok(sections)
}

/// A command's words, as Python's shlex splits them.
fn words(line: &str, program: &str) -> Vec<Text> {
    let (mut words, mut word, mut quote, mut escaped, mut begun) = (Vec::new(), String::new(), None, false, false);
    for c in line.chars() {
        match (quote, c) {
            _ if escaped => {
                escaped = false;
                word.push(c);
            }
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None | Some('"'), '\\') => escaped = true,
            (None, '\'' | '"') => {
                quote = Some(c);
                begun = true;
            }
            (None, c) if c.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(expanded(&std::mem::take(&mut word), program));
                }
                begun = false;
            }
            (_, c) => word.push(c),
        }
    }
    if begun || !word.is_empty() {
        words.push(expanded(&word, program));
    }
    words
}

/// `KEY="value",KEY2=value`.
fn pairs(text: &str, program: &str) -> Vec<(String, Value)> {
    let (mut pairs, mut quote, mut part) = (Vec::new(), None, String::new());
    for c in text.chars().chain([',']) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ',') => {
                let whole = std::mem::take(&mut part);
                if let Some((key, value)) = whole.split_once('=') {
                    pairs.push((key.trim().to_owned(), Value::Text(expanded(value.trim(), program))));
                }
            }
            (_, c) => part.push(c),
        }
    }
    pairs
}

/// `%(ENV_NAME)s` as a template, `%(program_name)s` as what it is, `%%` as a percent sign.
fn expanded(text: &str, program: &str) -> Text {
    let mut output = Text::default();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        output.push(Piece::Plain(rest[..at].to_owned()));
        rest = &rest[at..];
        let inside = rest.strip_prefix("%(").and_then(|inside| inside.split_once(")s"));
        rest = match inside {
            Some((name, behind)) => {
                match name.strip_prefix("ENV_") {
                    Some(variable) if variable.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                        let strict = format!("{{{{ env.{variable} }}}}");
                        let lenient = format!("{{{{ env.{variable} | default('') }}}}");
                        let template =
                            Template { span: 0..0, strict, lenient, sample: String::new(), needs: Vec::new() };
                        output.push(Piece::Template(template));
                    }
                    _ if name == "program_name" => output.push(Piece::Plain(program.to_owned())),
                    _ => output.push(Piece::Plain(format!("%({name})s"))),
                }
                behind
            }
            None => {
                output.push(Piece::Plain("%".to_owned()));
                rest.strip_prefix("%%").unwrap_or(&rest[1..])
            }
        };
    }
    output.push(Piece::Plain(rest.to_owned()));
    output
}
