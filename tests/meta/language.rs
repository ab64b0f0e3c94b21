//! Keeps the language: one name for one thing, and the field's words for it. It reads the sources and pages as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Words that were ours alone, or named two things, and what stands for each. A name is taken apart at its underscores and
/// capitals first, so `is_ill` is found as well as "ill".
const BANNED: &[(&str, &str)] = &[
    ("house", "module, or container"),
    ("door", "endpoint"),
    ("doors", "endpoints"),
    ("rooms", "layers"),
    ("fact", "event"),
    ("facts", "events"),
    ("wish", "desired"),
    ("wishes", "desired"),
    ("untold", "pending, or unannounced"),
    ("misrule", "sabotage"),
    ("wedge", "sabotage"),
    ("ill", "unhealthy"),
    ("seat", "lock file"),
    ("bequeath", "inherit"),
    ("heir", "inherited by"),
    ("heirs", "inherited by"),
    ("tenures", "sessions"),
    ("candidacy", "lock client"),
    ("contest", "candidate"),
    ("onlooker", "observer"),
    ("sightings", "observations"),
    ("surroundings", "context, or adapters"),
    ("he", "they"),
    ("him", "them"),
    ("his", "their"),
];

/// A signal's name, and the page that tells contributors of these words.
const EXCEPTIONS: &[(&str, &str)] =
    &[("src/config/signal.rs", "ill"), ("CONTRIBUTING.md", "ill"), ("CONTRIBUTING.md", "he")];

#[test]
fn no_type_has_the_name_of_another_of_its_layer() {
    let mut known: BTreeMap<(String, String), BTreeSet<PathBuf>> = BTreeMap::new();
    for file in files_of("src", "rs") {
        let text = fs::read_to_string(root().join(&file)).expect("a source file is readable");
        if file.iter().any(|part| part == "tests" || part == "tests.rs") {
            continue;
        }
        let product = text.split("#[cfg(test)]\nmod tests {").next().expect("split gives at least one");
        for name in product.lines().filter_map(declared) {
            known.entry((layer_of(&file), name.to_owned())).or_default().insert(file.clone());
        }
    }
    let of_two = |(_, files): &(_, BTreeSet<PathBuf>)| files.len() > 1;
    let twice: Vec<_> = known.into_iter().filter(of_two).filter(|((_, name), _)| name != "Error").collect();
    assert!(twice.is_empty(), "these names stand for two things in one layer: {twice:#?}");
}

#[test]
fn code_and_pages_use_the_words_of_the_field() {
    let mut wrong = Vec::new();
    let pages =
        files_of("docs", "md").into_iter().chain(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from));
    for file in files_of("src", "rs").into_iter().chain(pages) {
        let text = fs::read_to_string(root().join(&file)).expect("it is readable");
        for (number, line) in text.lines().enumerate() {
            for word in words(line) {
                let excepted = EXCEPTIONS.iter().any(|(path, of)| file == Path::new(path) && *of == word);
                if let Some((_, better)) = BANNED.iter().find(|(banned, _)| *banned == word).filter(|_| !excepted) {
                    wrong.push(format!("{}:{}: \"{word}\" (say: {better})", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn words_are_found_inside_names() {
    assert_eq!(words("let is_ill = HeIs(b_2);"), ["let", "is", "ill", "he", "is", "b"]);
    assert_eq!(words("HTTPServer"), ["httpserver"]);
    assert_eq!(declared("    pub(super) struct Held<T> {"), Some("Held"));
    assert_eq!(declared("    type Value = Held;"), None);
    assert_eq!(declared("type Value = Held;"), Some("Value"));
}

/// The type that a line declares; those that belong to an `impl` are named by their trait.
fn declared(line: &str) -> Option<&str> {
    let rest = line.trim_start();
    let rest = match rest.strip_prefix("pub") {
        Some(after) if after.starts_with('(') => after.split_once(") ")?.1,
        Some(after) => after.strip_prefix(' ')?,
        None => rest,
    };
    let (kind, rest) = rest.split_once(' ')?;
    let declares = match kind {
        "struct" | "enum" | "trait" | "union" => true,
        "type" => !line.starts_with(' '),
        _ => false,
    };
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    declares.then(|| &rest[..end])
}

/// Where names may not collide: a folder of `src/`; the core's floors and the config as it is written are layers of their own.
fn layer_of(file: &Path) -> String {
    let parts: Vec<&str> = file.iter().skip(1).filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["supervisor", floor, _, ..] => format!("supervisor/{floor}"),
        ["config", "raw", ..] => "config/raw".to_owned(),
        // Readers of foreign languages, each with that language's own words (a node, a value), which never meet.
        ["import", reader, ..] => format!("import/{reader}"),
        [layer, _, ..] => (*layer).to_owned(),
        _ => String::new(),
    }
}

/// Lower-case words, names taken apart.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_was_lower = false;
    for c in line.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && before_was_lower) {
            words.push(String::new());
        }
        if c.is_alphabetic() {
            words.last_mut().expect("one was pushed").extend(c.to_lowercase());
        }
        before_was_lower = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a folder of the repository, by their ending.
fn files_of(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("the folder is readable") {
            let path = folder.join(entry.expect("the folder is readable").file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}
