//! Keeps the direction of imports: which layer of `src/` may name which, and what the pure ones may not name at
//! all. It reads the sources as text; it doesn't compile them, so a path built by a macro is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer with the layers it may name: the map of `src/lib.rs`, arrow by arrow.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", WITH_CLI),
    ("cli", ALL),
    ("agent", ALL),
    ("effects", ALL),
    // What tests make of the source, of every layer.
    ("generated", ALL),
    // What the fuzz targets call, of every layer.
    ("fuzzing", ALL),
    ("witness", &["catalog", "clock", "logging", "process", "supervisor", "config"]),
    ("clock", &["readable", "supervisor", "config"]),
    ("render", &["files", "process::users", "catalog", "supervisor", "config"]),
    ("survey", &["errors", "files", "process", "render", "config"]),
    ("process", &["errors", "exit_codes", "sabotage", "files", "plain", "readable", "logging", "supervisor", "config"]),
    ("catalog", &["errors", "sabotage", "files", "net", "readable", "supervisor", "config"]),
    ("probe", &["errors", "files", "net", "readable", "supervisor", "config"]),
    ("net", &["errors", "files", "supervisor", "config"]),
    // The endpoints tell dates, of which the core has none.
    ("endpoints", &["files", "metrics", "clock", "plain", "readable", "supervisor", "config"]),
    ("logging", &["files", "plain", "supervisor", "config"]),
    ("recorder", &["supervisor", "config"]),
    // A date, of which the core has none.
    ("metrics", &["clock", "plain", "supervisor", "config"]),
    // Descriptors the runtime waits for: below the layers that have some.
    ("readable", &[]),
    // Files that others may have a hand in: below the layers that open some.
    ("files", &[]),
    ("supervisor", &["exit_codes", "config"]),
    // Whether a name, a tag could steer a terminal.
    ("config", &["plain"]),
    // Rules broken on purpose: asked wherever one is kept, and knows nobody.
    ("sabotage", &[]),
    // How an error is told, and what the program ends with.
    ("errors", &["plain"]),
    ("exit_codes", &[]),
    ("names", &[]),
    // Another program's config becomes text of one's own.
    ("import", &["config"]),
    // Text that others wrote: made plain wherever it is shown.
    ("plain", &[]),
];

/// Where all threads meet: every layer but `main` and `cli`.
const ALL: &[&str] = &[
    "agent",
    "effects",
    "files",
    "clock",
    "render",
    "survey",
    "process",
    "catalog",
    "net",
    "probe",
    "endpoints",
    "errors",
    "exit_codes",
    "logging",
    "metrics",
    "recorder",
    "sabotage",
    "plain",
    "readable",
    "supervisor",
    "witness",
    "import",
    "config",
];

/// What `main` may name.
const WITH_CLI: &[&str] = &["cli", "exit_codes", "agent", "process", "logging", "supervisor", "config"];

/// What the core may not name: it is pure, so that scripts, properties and a model checker can drive it.
const NOT_IN_SUPERVISOR: &[&str] = &[
    "std::time::Instant",
    "std::time::SystemTime",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::io",
    "std::env",
    "tokio",
    "nix",
    "libc",
    "tracing",
];

#[test]
fn no_layer_names_one_to_its_left() {
    let mut wrong = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).expect("a source file is readable");
        let module = module_of(&file);
        let layer = module[0].as_str();
        let allowed = ARROWS.iter().find(|(name, _)| *name == layer).map(|(_, allowed)| *allowed);
        for path in paths(&text, &module) {
            let Some(target) = path.strip_prefix("crate::") else { continue };
            let first = target.split("::").next().expect("split gives at least one");
            if first == layer || !ARROWS.iter().any(|(name, _)| *name == first) {
                continue;
            }
            match allowed {
                None => wrong.push(format!("{}: src/{layer} is a layer without arrows in this test", file.display())),
                Some(allowed) if allowed.iter().any(|layer| starts_with(target, layer)) => {}
                Some(_) => wrong.push(format!("{}: {layer} → {path}", file.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "these arrows point the wrong way:\n{}", wrong.join("\n"));
}

#[test]
fn every_layer_has_its_arrows() {
    let layers: BTreeSet<String> = sources().iter().map(|file| module_of(file)[0].clone()).collect();
    let known: BTreeSet<String> =
        ARROWS.iter().map(|(layer, _)| (*layer).to_owned()).chain(["lib".to_owned()]).collect();
    let unknown: Vec<_> = layers.difference(&known).collect();
    assert!(unknown.is_empty(), "layers of src/ that have no arrows in this test: {unknown:?}");
}

#[test]
fn every_layer_is_on_the_map_for_contributors() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md"));
    let map = map.expect("the page is readable");
    let layers: BTreeSet<String> = sources().iter().map(|file| module_of(file)[0].clone()).collect();
    let named = |layer: &str| [".rs`", "/", "`"].iter().any(|end| map.contains(&format!("`src/{layer}{end}")));
    let missing: Vec<_> = layers.iter().filter(|layer| *layer != "lib" && !named(layer)).collect();
    assert!(missing.is_empty(), "docs/architecture.md has no line for {missing:?} of src/");
}

#[test]
fn signals_are_sent_in_one_file_of_all() {
    let sends = ["libc::kill(", "signal::kill(", "killpg(", "SYS_kill", "SYS_tgkill", "pidfd_send_signal"];
    for file in sources() {
        let text = fs::read_to_string(&file).expect("a source file is readable");
        let found = sends.iter().filter(|call| text.contains(*call)).count();
        assert_eq!(found > 0, file.ends_with("src/process/kill.rs"), "{}", file.display());
    }
}

#[test]
fn the_supervisor_names_no_clock_process_socket_file_or_task() {
    let mut wrong = Vec::new();
    for file in sources() {
        let module = module_of(&file);
        if module[0] != "supervisor" {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file is readable");
        for path in paths(&text, &module) {
            if NOT_IN_SUPERVISOR.iter().any(|banned| starts_with(&path, banned)) {
                wrong.push(format!("{}: {path}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "the core is not pure any more:\n{}", wrong.join("\n"));
}

/// The floors of the core: what each may not name of the others. Events carry what the election hears, so the words know
/// that one machine.
const NOT_ON_FLOOR: &[(&str, &[&str], &[&str])] = &[
    (
        "vocabulary",
        &["crate::supervisor::sequence", "crate::supervisor::machines"],
        &["crate::supervisor::machines::election"],
    ),
    ("machines", &["crate::supervisor::sequence", "crate::supervisor::Supervisor"], &[]),
];

#[test]
fn no_floor_of_the_core_names_one_above_it() {
    let mut wrong = Vec::new();
    for file in sources() {
        let module = module_of(&file);
        let Some((_, refused, but)) = NOT_ON_FLOOR
            .iter()
            .find(|(floor, ..)| module[0] == "supervisor" && module.get(1).is_some_and(|own| own == floor))
        else {
            continue;
        };
        let names = paths(&fs::read_to_string(&file).expect("a source"), &module);
        let is_wrong = |path: &&String| {
            refused.iter().any(|prefix| starts_with(path, prefix))
                && !but.iter().any(|prefix| starts_with(path, prefix))
        };
        wrong.extend(names.iter().filter(is_wrong).map(|path| format!("{}: {path}", file.display())));
    }
    assert!(wrong.is_empty(), "floors that look up:\n{}", wrong.join("\n"));
}

/// A circle of files can't be read one by one. A folder's `mod.rs` may name its parts and a part its folder: together they
/// are one thing, as the declaration of the part shows. Tests look where they like.
#[test]
fn no_files_name_one_another_in_a_circle() {
    let files: BTreeMap<String, PathBuf> = sources()
        .into_iter()
        .filter(|file| !file.components().any(|part| part.as_os_str() == "tests"))
        .map(|file| (format!("crate::{}", module_of(&file).join("::")), file))
        .collect();
    let names: BTreeMap<&str, BTreeSet<&str>> =
        files.iter().map(|(module, file)| (module.as_str(), neighbours(module, file, &files))).collect();
    let reach = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&str> = names[from].iter().copied().collect();
        while let Some(module) = next.pop() {
            if seen.insert(module) {
                next.extend(&names[module]);
            }
        }
        seen
    };
    let round: Vec<_> = names.keys().filter(|module| reach(module).contains(**module)).collect();
    assert!(round.is_empty(), "these files name one another in circles: {round:#?}");
}

/// The other files whose modules `file` names outside its tests, its own folder and parts left out.
fn neighbours<'a>(module: &str, file: &Path, files: &'a BTreeMap<String, PathBuf>) -> BTreeSet<&'a str> {
    let text = fs::read_to_string(file).expect("a source file is readable");
    let text = text.split("#[cfg(test)]\nmod tests {").next().expect("split gives at least one");
    let file_of = |path: &str| {
        let longest = files.keys().filter(|module| starts_with(path, module)).max_by_key(|module| module.len());
        longest.map(String::as_str)
    };
    let found = paths(text, &module_of(file));
    let others = found.iter().filter_map(|path| file_of(path));
    others.filter(|other| !starts_with(other, module) && !starts_with(module, other)).collect()
}

#[test]
fn an_arrow_is_found_however_it_is_written() {
    let module = ["supervisor".to_owned(), "watch".to_owned()];
    let found = |text: &str| paths(text, &module);
    assert!(found("use crate::agent::Agent;").contains("crate::agent::Agent"));
    assert!(found("use crate::{config::Config, agent::{self, Agent}};").contains("crate::agent::Agent"));
    assert!(found("use super::super::agent;").contains("crate::agent"));
    assert!(found("mod tests { use super::super::super::agent; }").contains("crate::agent"));
    assert!(found("fn f() -> std::time::Instant { todo() }").contains("std::time::Instant"));
    assert!(found("use std::{fmt, time::{Duration, SystemTime}};").contains("std::time::SystemTime"));
    assert!(found("use ::tokio::sync::mpsc;").contains("tokio::sync::mpsc"));
    assert!(found("pub(crate) use self::inner::Thing;").contains("crate::supervisor::watch::inner::Thing"));
}

#[test]
fn an_arrow_in_a_comment_or_a_string_is_none() {
    let module = ["config".to_owned()];
    let text = r##"
        //! [`crate::agent`] does it.
        /* crate::agent::a /* nested */ crate::agent::b */
        const A: &str = "crate::agent \" crate::agent";
        const B: &str = r#"crate::agent "quoted" crate::agent"#;
        const C: char = '"'; fn f<'a>(x: &'a str) { crate::config::seen(x) }
    "##;
    let found = paths(text, &module);
    assert!(!found.iter().any(|path| path.contains("agent")), "{found:?}");
    assert!(found.contains("crate::config::seen"), "{found:?}");
}

/// Whether `path` is `prefix` or something inside it.
fn starts_with(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every Rust file below `src/`.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src/ is readable") {
            let path = entry.expect("src/ is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 5, "src/ has only {files:?}");
    files
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are `["a", "b"]`.
fn module_of(file: &Path) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let relative = file.strip_prefix(root).expect("the file is below src/").with_extension("");
    let mut module: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.len() > 1 && module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// Every path that `text` names, whole: `use` groups spread out, `self` and `super` resolved to `crate`.
fn paths(text: &str, module: &[String]) -> BTreeSet<String> {
    let tokens = tokens(text);
    let mut found = BTreeSet::new();
    // The modules written inside this file that stand open, each with the brace depth it closes at.
    let mut inner: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if inner.last().is_some_and(|(_, opened)| *opened == depth) {
                    inner.pop();
                }
            }
            "mod" if tokens.get(at + 2).is_some_and(|next| next == "{") => {
                inner.push((tokens[at + 1].clone(), depth));
                at += 1;
            }
            token if is_name(token) => {
                let mut here: Vec<&str> = module.iter().map(String::as_str).collect();
                here.extend(inner.iter().map(|(name, _)| name.as_str()));
                let mut spread = Vec::new();
                at = spread_out(&tokens, at, Vec::new(), &mut spread);
                found.extend(spread.iter().map(|path| resolve(path, &here)));
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads one path from `at` on, with its groups, into `into`; gives the place behind it.
fn spread_out(tokens: &[String], mut at: usize, mut prefix: Vec<String>, into: &mut Vec<Vec<String>>) -> usize {
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    let next = spread_out(tokens, at, prefix.clone(), into);
                    at = if next == at { at + 1 } else { next };
                }
                return at + 1;
            }
            Some(name) if is_name(name) => prefix.push(name.to_owned()),
            Some("*") if !prefix.is_empty() => {}
            _ => return at,
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            into.push(prefix);
            return at;
        }
        at += 1;
        // A turbofish, `Vec::<u8>::new`: the path ends here for us, its arguments are read as paths of their own.
        if tokens.get(at).is_some_and(|token| token == "<") {
            into.push(prefix);
            return at;
        }
    }
}

/// `self::x` and `super::x`, written in module `here`, from the crate's root on.
fn resolve(path: &[String], here: &[&str]) -> String {
    let mut base = here.to_vec();
    let mut rest = path;
    let mut relative = false;
    while let Some((first, others)) = rest.split_first() {
        match first.as_str() {
            "self" => {}
            "super" => {
                base.pop();
            }
            _ => break,
        }
        relative = true;
        rest = others;
    }
    let rest = rest.iter().map(String::as_str).filter(|part| *part != "self");
    if relative {
        return ["crate"].into_iter().chain(base).chain(rest).collect::<Vec<_>>().join("::");
    }
    let whole = rest.collect::<Vec<_>>().join("::");
    // main.rs is a crate of its own and sees the crate from outside.
    match whole.strip_prefix("pilotfish::") {
        Some(inside) => format!("crate::{inside}"),
        None => whole,
    }
}

/// Whether a path can start with, or consist of, this token.
fn is_name(token: &str) -> bool {
    // In `use ::tokio` the keyword is no part of the path.
    !matches!(token, "use" | "as" | "dyn" | "impl" | "mut" | "return" | "for" | "in" | "where")
        && token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::` and single signs; comments, strings, characters and lifetimes left out.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    let is = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    while at < chars.len() {
        let c = chars[at];
        if is(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if is(at, "/*") {
            let mut open = 0;
            loop {
                if is(at, "/*") {
                    open += 1;
                    at += 2;
                } else if is(at, "*/") {
                    open -= 1;
                    at += 2;
                } else {
                    at += 1;
                }
                if open == 0 || at >= chars.len() {
                    break;
                }
            }
        } else if let Some(hashes) = raw_string(&chars, at) {
            let end = format!("\"{}", "#".repeat(hashes));
            while at < chars.len() && chars[at] != '"' {
                at += 1;
            }
            at += 1;
            while at < chars.len() && !is(at, &end) {
                at += 1;
            }
            at += end.len();
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' {
            // 'x' and '\n' are characters; 'name without a closing quote is a lifetime.
            if chars.get(at + 1) == Some(&'\\') {
                at += 3;
                while at < chars.len() && chars[at] != '\'' {
                    at += 1;
                }
                at += 1;
            } else if chars.get(at + 2) == Some(&'\'') {
                at += 3;
            } else {
                at += 1;
                while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                    at += 1;
                }
            }
        } else if c.is_alphanumeric() || c == '_' {
            let start = at;
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            tokens.push(chars[start..at].iter().collect());
        } else if is(at, "::") {
            tokens.push("::".to_owned());
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            at += 1;
        }
    }
    tokens
}

/// The number of hashes when a raw string (`r"`, `br#"`) starts at `at`.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map(|before| chars[before]);
    if before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
        return None;
    }
    let mut next = at;
    if matches!(chars.get(next), Some('b' | 'c')) {
        next += 1;
    }
    if chars.get(next) != Some(&'r') {
        return None;
    }
    next += 1;
    let hashes = chars[next..].iter().take_while(|c| **c == '#').count();
    (chars.get(next + hashes) == Some(&'"')).then_some(hashes)
}
