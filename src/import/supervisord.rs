//! A `supervisord.conf`: its programs, of which one is main and the others coprocesses.

mod expressions;
mod syntax;
mod values;

use std::path::Path;

use super::document::{Document, Note, Table, Value};
use super::go::Span;
use super::text::Text;
use expressions::{Expressions, Remark};
use syntax::{pairs, sections, variables};

/// Whether a text is such a file: it has a section that nobody else has.
pub(super) fn is(text: &str) -> bool {
    let begins =
        ["[program:", "[supervisord]", "[supervisorctl]", "[unix_http_server]", "[eventlistener:", "[fcgi-program:"];
    text.lines().any(|line| begins.iter().any(|begin| line.trim_start().starts_with(begin)))
}

/// A program that prints there prints to the container's own output.
const OWN_OUTPUT: [&str; 4] = ["/dev/stdout", "/dev/fd/1", "/dev/stderr", "/dev/fd/2"];

const BROKEN_PAIRS: &str = "holds what is no `NAME=value`, so that supervisord refuses the file; that part is left out";
const OPEN_QUOTE: &str = "has a quote or a backslash that nothing ends, so that supervisord refuses the file";

/// As many restarts within a minute as nothing comes to.
const NO_LIMIT: i64 = 1_000_000;

/// A section with its keys.
struct Section<'t> {
    name: &'t str,
    span: Span,
    /// In small letters, as Python reads them.
    keys: Vec<(String, String, Span)>,
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

/// What stands in `[supervisord]` and counts for every program.
struct Shared {
    user: Option<Text>,
    directory: Option<Text>,
    umask: Option<Text>,
    environment: Vec<(String, Text)>,
}

/// The document that a file comes to; or where it is broken, and how. It may stand where it is to be, or elsewhere.
pub(super) fn document(text: &str, file: &Path) -> Result<Document, (Span, String)> {
    let broken = |(span, what): (Span, String)| (span, format!("this isn't a supervisord.conf: {what}"));
    let mut sections = sections(text).map_err(broken)?;
    let mut document = Document::default();
    // As somebody names it who is elsewhere, it says nothing of where the programs look for it; nor does /dev/stdin.
    let is_there = |here: &&Path| here.is_absolute() && !here.starts_with("/dev");
    let here = file.parent().filter(is_there).and_then(Path::to_str);
    let shared = shared(&sections, here, &mut document.notes);
    values::expand(&mut sections, here, &shared);
    for section in &sections {
        document.notes.extend(values::unreadable(section));
    }
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
            "include" => {
                ("other files aren't read: put them together, cat FILE conf.d/*.conf | pilotfish import -", true)
            }
            "inet_http_server" => ("pilotfish has `[telemetry] listen` and its control socket; left out", true),
            "group" => ("programs have no groups here", false),
            "supervisord" | "unix_http_server" | "supervisorctl" | "rpcinterface" => continue,
            _ => ("no section of supervisord's is called so; left out", true),
        };
        document.notes.push(note(section.span.clone(), format!("[{}]", section.name), what, lost));
    }
    // Started in this order, and ended in the reverse.
    programs.sort_by(|one, other| place(one, &sections).cmp(&place(other, &sections)));
    // What only starts where a variable says so is no main, if there is another.
    let stays = |section: &&Section<'_>| section.is_on("autorestart") != Some(false);
    let starts = |section: &&Section<'_>| values::variable(section, "autostart").is_none();
    let can_be = |section: &&Section<'_>| section.get("command").is_some_and(|command| !command.trim().is_empty());
    let main = programs
        .iter()
        .rposition(|section| stays(section) && starts(section) && can_be(section))
        .or_else(|| programs.iter().rposition(|section| starts(section) && can_be(section)))
        .or_else(|| programs.iter().rposition(can_be));
    if main.is_none() {
        return Err(nothing_runs(&sections));
    }
    for (index, section) in programs.iter().enumerate() {
        let is_main = main == Some(index);
        let names = Names {
            group: group_of(section, &sections),
            here,
            shared: &shared,
            after: before(section, &programs, main, &sections),
        };
        program(section, is_main, programs.len() > 1, &names, &mut document);
    }
    if let Some(longest) = programs.iter().filter_map(|section| patience(section)).max().filter(|longest| *longest > 9)
    {
        document.one("stop").set("within", Value::text(format!("{}s", longest + 4)));
    }
    Ok(document)
}

/// Where it is seen that nothing could be main, and why.
fn nothing_runs(sections: &[Section<'_>]) -> (Span, String) {
    let section = |begin: &str| sections.iter().find(|section| section.name.starts_with(begin));
    let (section, why) = match (section("include"), section("program:")) {
        (Some(include), None) => (
            Some(include),
            "there is no program in this file: put those behind it that it includes, cat FILE conf.d/*.conf | pilotfish import -",
        ),
        (_, Some(program)) => {
            (Some(program), "nothing could be main: no program has a command and is started by itself")
        }
        (None, None) => (sections.first(), "there is no program in this file"),
    };
    (section.map_or(0..1, |section| section.span.clone()), why.to_owned())
}

/// What a program is told from outside its section.
struct Names<'n> {
    group: Option<&'n str>,
    here: Option<&'n str>,
    shared: &'n Shared,
    /// Coprocesses that are started before it, and stopped after it.
    after: Vec<&'n str>,
}

/// Those that are started before a program because of their priorities: supervisord ends one only once those of a higher one
/// are gone. Of equal ones only the names decide there, which is no order that anybody chose. Who runs once is not waited
/// for, and nobody waits for main, which is told first.
fn before<'t>(
    program: &Section<'_>,
    programs: &[&Section<'t>],
    main: Option<usize>,
    sections: &[Section<'t>],
) -> Vec<&'t str> {
    let stays = |other: &Section<'_>| other.is_on("autorestart") != Some(false) && other.get("command").is_some();
    let others = programs.iter().enumerate().filter(|(index, other)| main != Some(*index) && stays(other));
    let own = place(program, sections).0;
    let level = |other: &Section<'t>| Some(place(other, sections).0).filter(|level| *level < own);
    // Whoever comes before these, they name themselves.
    let last = others.clone().filter_map(|(_, other)| level(other)).max();
    let of_the_last = others.filter(|(_, other)| last.is_some() && level(other) == last);
    of_the_last.filter_map(|(_, other)| Some(other.name.split_once(':')?.1)).collect()
}

/// A program's place among all (supervisor/options.py, `Config.__lt__`, and process.py, `ProcessGroup.transition`): groups
/// come by their priorities, and of equals by their names; the programs of one in the order it names them. A program that no
/// group names is one of its own.
fn place<'t>(program: &Section<'t>, sections: &[Section<'t>]) -> (i64, &'t str, usize) {
    let (group, at) = group_section(program, sections).map_or((program, 0), |(group, at)| (group, at));
    let priority = group.get("priority").and_then(|text| text.parse().ok()).unwrap_or(999);
    (priority, group.name.split_once(':').map_or("", |(_, name)| name.trim()), at)
}

/// The group that names a program.
fn group_of<'t>(program: &Section<'_>, sections: &[Section<'t>]) -> Option<&'t str> {
    group_section(program, sections)?.0.name.split_once(':').map(|(_, group)| group.trim())
}

/// Its section, and the program's place in it.
fn group_section<'s, 't>(program: &Section<'_>, sections: &'s [Section<'t>]) -> Option<(&'s Section<'t>, usize)> {
    let (_, program) = program.name.split_once(':')?;
    let names = |section: &'s Section<'t>| {
        let at = section.get("programs")?.split(',').position(|name| name.trim() == program)?;
        Some((section, at))
    };
    sections.iter().filter(|section| section.name.starts_with("group:")).find_map(names)
}

/// What of `[supervisord]` counts for all that it starts.
fn shared(sections: &[Section<'_>], here: Option<&str>, notes: &mut Vec<Note>) -> Shared {
    let mut shared = Shared { user: None, directory: None, umask: None, environment: Vec::new() };
    let name = "supervisord";
    let mut names = Expressions { program: name, group: name, processes: (0, 1), here, environment: Vec::new() };
    for section in sections.iter().filter(|section| section.name == name) {
        let path = |key: &str| format!("[{name}] {key}");
        let mut expand = |names: &Expressions<'_>, key: &str| {
            let mut remarks = Vec::new();
            let text = section.get(key).map(|text| names.expand(text, &mut remarks));
            notes.extend(remarks.into_iter().map(|remark| remarked(section.span(key), path(key), remark)));
            text
        };
        let mut is_broken = false;
        if let Some(environment) = expand(&names, "environment") {
            let (environment, broken) = pairs(&environment);
            shared.environment.extend(environment);
            names.environment.clone_from(&shared.environment);
            is_broken = broken;
        }
        // Whom the container's first process is anyway, nobody has to become.
        let is_root = |user: &Text| matches!(user.as_plain(), Some("root" | "0"));
        shared.user = expand(&names, "user").filter(|user| !is_root(user)).or(shared.user);
        if is_broken {
            notes.push(note(section.span("environment"), path("environment"), BROKEN_PAIRS, true));
        }
        let mut of_daemons = |key: &str| {
            let counts = section.is_on("nodaemon") != Some(true);
            let what = match counts {
                true => "is every program's here; where supervisord runs with `--nodaemon` it did nothing",
                false => "did nothing: it counts only where supervisord goes into the background",
            };
            if section.get(key).is_some() {
                notes.push(note(section.span(key), path(key), what, false));
            }
            counts
        };
        if of_daemons("umask") {
            shared.umask = section.get("umask").map(|text| names.expand(text, &mut Vec::new())).or(shared.umask);
        }
        if of_daemons("directory") {
            let mut remarks = Vec::new();
            shared.directory =
                section.get("directory").map(|text| names.expand(text, &mut remarks)).or(shared.directory);
            notes.extend(
                remarks.into_iter().map(|remark| remarked(section.span("directory"), path("directory"), remark)),
            );
        }
        for (key, usual) in [("minfds", 1024), ("minprocs", 200)] {
            if section.get(key).and_then(|least| least.parse().ok()).is_some_and(|least: i64| least > usual) {
                let what = "a limit is set to a value here, not raised to a least one: `limits` of each program, if the \
                            container's is lower";
                notes.push(note(section.span(key), path(key), what, true));
            }
        }
    }
    shared
}

fn program(section: &Section<'_>, is_main: bool, several: bool, outside: &Names<'_>, document: &mut Document) {
    let (_, name) = section.name.split_once(':').unwrap_or_default();
    let path = |key: &str| format!("[{}] {key}", section.name);
    let number = |key: &str, usual: i64| section.get(key).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let shared = outside.shared;
    let mut names = Expressions {
        program: name,
        group: outside.group.unwrap_or(name),
        processes: (number("numprocs_start", 0), number("numprocs", 1)),
        here: outside.here,
        environment: shared.environment.clone(),
    };
    let mut notes = Vec::new();
    let mut expand = |names: &Expressions<'_>, key: &str| {
        let mut remarks = Vec::new();
        let text = section.get(key).map(|text| names.expand(text, &mut remarks));
        notes.extend(remarks.into_iter().map(|remark| remarked(section.span(key), path(key), remark)));
        text
    };
    // Its own variables are known to its command, and not to each other.
    let (own, broken_pairs) = expand(&names, "environment").map(|environment| pairs(&environment)).unwrap_or_default();
    names.environment.extend(own);
    let user = expand(&names, "user").or_else(|| shared.user.clone());
    let directory = expand(&names, "directory").or_else(|| shared.directory.clone());
    let (words, open_quote) = expand(&names, "command").map(|line| syntax::words(&line)).unwrap_or_default();
    let umask = expand(&names, "umask").or_else(|| shared.umask.clone());
    let stop_signal = expand(&names, "stopsignal");
    let autostart = values::variable(section, "autostart").map(|text| names.expand(text, &mut Vec::new()));
    let autorestart = values::variable(section, "autorestart").map(|text| names.expand(text, &mut Vec::new()));
    for (is, key, what) in [(broken_pairs, "environment", BROKEN_PAIRS), (open_quote, "command", OPEN_QUOTE)] {
        if is {
            notes.push(note(section.span(key), path(key), what, true));
        }
    }
    notes.extend(values::of_a_shell(&words).map(|what| note(section.span("command"), path("command"), &what, false)));
    if words.is_empty() {
        document.notes.push(note(section.span.clone(), path("command"), "is missing; left out", true));
        return;
    }
    let table: &mut Table =
        if is_main { document.one("process") } else { document.another("coprocess", section.span.start) };
    if is_main && several {
        let what = "is main here, and the container ends with it; there it ended with supervisord alone. To choose \
                    another one, exchange it with a `[[coprocess]]`";
        notes.insert(0, note(section.span.clone(), format!("[{}]", section.name), what, false));
    }
    if !is_main {
        // The same words mean yes and no here.
        table.maybe("enabled", autostart.clone().map(Value::Text));
        table.set("name", Value::text(name));
    } else if autostart.is_some() {
        let what = "main is always started: nothing else here could be main";
        notes.push(note(section.span("autostart"), path("autostart"), what, true));
    }
    table.set("exec", Value::words(&words));
    if !is_main && !outside.after.is_empty() {
        let names = outside.after.iter().map(|name| Value::text(*name)).collect();
        table.set("after", Value::List(names));
    }
    table.maybe("user", user.map(Value::Text));
    table.maybe("directory", directory.map(Value::Text));
    if !names.environment.is_empty() {
        table.set("env", Value::Inline(variables(names.environment)));
    }
    let policy = match section.get("autorestart").unwrap_or("unexpected") {
        "unexpected" => "on-failure",
        _ => match section.is_on("autorestart") {
            Some(true) => "always",
            Some(false) => "never",
            None => "on-failure",
        },
    };
    let restarts = restart(policy, autorestart.as_ref().and_then(values::policy));
    table.set("restart", Value::Inline(restarts));
    notes.extend(failed_starts(section, policy));
    // What is started to leave a daemon behind: supervisord leaves it alone.
    if policy == "never" && section.get("startsecs") == Some("0") {
        table.set("background", Value::text("follow"));
    }
    let is_kill = |signal: &Text| signal.as_plain().is_some_and(|signal| signal.trim_start_matches("SIG") == "KILL");
    let kills = stop_signal.as_ref().is_some_and(is_kill);
    table.maybe("stop_signal", stop_signal.filter(|_| !kills).map(Value::Text));
    if section.is_on("stopasgroup") == Some(true) {
        table.set("signal_scope", Value::text("group"));
    }
    if let Some(umask) = umask {
        table.set("limits", Value::Inline(vec![("umask".to_owned(), Value::Text(umask))]));
    }
    // Main's is never touched.
    let raw = section.get("stdout_logfile").is_some_and(|file| OWN_OUTPUT.contains(&file));
    if !is_main && raw {
        table.set("output", Value::text("raw"));
    }
    notes.extend(lost(section, kills));
    notes.extend(where_output_goes(section, is_main, raw));
    table.notes.extend(notes);
    if let Some(seconds) = patience(section) {
        table.set("stop_timeout", Value::text(format!("{seconds}s")));
    }
}

/// What of a program isn't carried over.
fn lost(section: &Section<'_>, kills: bool) -> Vec<Note> {
    let lost = [
        ("numprocs", "one process is started here", section.get("numprocs").is_some_and(|count| count != "1")),
        (
            "exitcodes",
            "only 0 is an expected end here",
            section.get("exitcodes").is_some_and(|codes| codes.trim() != "0"),
        ),
        ("stopsignal", "it is told to stop by TERM before it is killed here", kills),
    ];
    let told = lost.into_iter().filter(|(_, _, is)| *is);
    told.map(|(key, what, _)| note(section.span(key), format!("[{}] {key}", section.name), what, true)).collect()
}

/// What becomes of output that went to a file.
fn where_output_goes(section: &Section<'_>, is_main: bool, raw: bool) -> Vec<Note> {
    let mut notes = Vec::new();
    for key in ["stdout_logfile", "stderr_logfile"] {
        let to_a_file = section
            .get(key)
            .is_some_and(|file| !file.starts_with("/dev/") && !["NONE", "AUTO", "syslog"].contains(&file));
        // Main's is the container's own; a coprocess's is passed through as it is, or goes to the log, both of its streams.
        let where_to = match is_main || raw {
            true => "what it prints goes to the container's own output",
            false => "what it prints goes to pilotfish's log; `output = \"raw\"` passes it through as it is",
        };
        if to_a_file {
            notes.push(note(section.span(key), format!("[{}] {key}", section.name), where_to, false));
        }
    }
    notes
}

/// supervisord starts what has run for `startsecs` again without a limit, and gives up only on starts that fail (process.py,
/// `transition`): a worker that ends after each job lives for ever. It waits a second more at each of these; here a second
/// each time.
fn restart(policy: &str, unknown: Option<Text>) -> Vec<(String, Value)> {
    let is_known = unknown.is_none();
    let mut restart = vec![("policy".to_owned(), unknown.map_or(Value::text(policy), Value::Text))];
    if policy != "never" || !is_known {
        restart.push(("max".to_owned(), Value::Integer(NO_LIMIT)));
        restart.push(("backoff".to_owned(), Value::text("1s")));
    }
    restart
}

/// What a program says of starts that fail, which are ends like any other here.
fn failed_starts(section: &Section<'_>, policy: &str) -> Vec<Note> {
    let is_some_number = |key| section.get(key).is_some_and(|text| text.parse() != Ok(0));
    let tells = |key: &str, what: &str, lost| note(section.span(key), format!("[{}] {key}", section.name), what, lost);
    let mut notes = Vec::new();
    if policy == "never" && is_some_number("startretries") {
        let what = "a start that failed was tried again there; it is started once here";
        notes.push(tells("startretries", what, true));
    } else if policy != "never" && section.get("startretries").is_some() {
        let what = "it was given up there after so many starts in a row that failed; it is started again after each end \
                    here, without a limit: `max` and `within` of `restart` set one";
        notes.push(tells("startretries", what, false));
    }
    if policy == "on-failure" && is_some_number("startsecs") {
        let what = "an end within it was a failed start there, be its code 0; code 0 is an end that is expected here";
        notes.push(tells("startsecs", what, false));
    }
    notes
}

/// How long a program has to stop, where it says so.
fn patience(section: &Section<'_>) -> Option<i64> {
    let seconds = section.get("stopwaitsecs")?.parse::<i64>().ok()?;
    (1..86_400).contains(&seconds).then_some(seconds)
}

fn note(span: Span, key: String, what: &str, lost: bool) -> Note {
    Note { span, key, what: what.to_owned(), lost }
}

fn remarked(span: Span, key: String, remark: Remark) -> Note {
    Note { span, key, what: remark.what, lost: remark.lost }
}
