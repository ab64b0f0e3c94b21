//! The generated files mean what they say.

use std::path::Path;

use serde::Deserialize;

use super::{json, toml, tree};
use crate::config::parse::{Syntax, parse};
use crate::config::{Config, Context, raw};

#[test]
fn every_example_in_toml_names_the_schema_for_editors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap();
    for entry in std::fs::read_dir(root.join("config-examples")).unwrap() {
        // Some are links into a folder of their own.
        let path = entry.unwrap().path().canonicalize().unwrap();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let above = path.strip_prefix(&root).unwrap().components().count() - 1;
            let schema = format!("#:schema {}pilotfish.schema.json", "../".repeat(above));
            assert_eq!(text.lines().next(), Some(&*schema), "{}", path.display());
        }
    }
}

#[test]
fn the_reference_itself_is_a_config_of_nothing_but_defaults() {
    let load = |text: &str| {
        Config::from_text(text, Path::new("t.toml"), None, &Context::default())
            .unwrap_or_else(|report| panic!("{report}"))
            .config
    };
    assert_eq!(load(&toml()), load("process.exec = [\"nginx\", \"-g\", \"daemon off;\"]"));
}

/// Whether a text has the shape of a config, be it a contradictory one.
fn shape(text: &str) -> Result<(), String> {
    let mut problems = Vec::new();
    let root = parse(text, Syntax::Toml, &mut problems).root;
    assert!(problems.is_empty(), "{problems:?}\n{text}");
    raw::Root::deserialize(&root).map(drop).map_err(|error| format!("{error}\n{text}"))
}

#[test]
fn every_line_of_the_reference_may_be_uncommented() {
    let (mut list, mut header) = (String::new(), String::new());
    let mut lines = 0;
    for line in toml().lines() {
        let bare = line.strip_prefix('#').unwrap_or(line);
        if bare.starts_with(' ') || bare.starts_with(":schema ") || bare.is_empty() {
            continue;
        }
        if bare.starts_with("[[") {
            (list, header) = (bare.to_owned(), String::new());
        } else if bare.starts_with('[') {
            let inside = bare.trim_start_matches('[').starts_with(list.trim_matches(['[', ']']));
            header = if inside && !list.is_empty() { format!("{list}\n{bare}") } else { bare.to_owned() };
        } else {
            let header = if header.is_empty() { &list } else { &header };
            shape(&format!("{header}\n{bare}\n")).unwrap();
            lines += 1;
        }
    }
    assert!(lines > 80, "{lines} lines");
}

#[test]
fn all_lines_of_the_reference_together_have_the_shape_of_a_config() {
    let all: Vec<String> = toml()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(bare) if !bare.starts_with(' ') && !bare.starts_with(":schema ") => bare.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    shape(&all.join("\n")).unwrap();
}

#[test]
fn a_default_in_the_reference_is_the_default_there_is() {
    // A section filled with what its reference says must be what it is when nothing is said.
    let text = "[process]\nexec = [\"a\"]\nstop_on = [\"TERM\", \"INT\"]\nsignal_scope = \"process\"\nbackground = \"kill\"\n\
                strays = \"kill\"\nrestart = { policy = \"never\", max = 5, within = \"1m\", backoff = \"200ms..30s\" }\n\
                [stop]\nwithin = \"9s\"\ndrain = \"0s\"\n";
    let load = |text: &str| Config::from_text(text, Path::new("t.toml"), None, &Context::default()).unwrap().config;
    assert_eq!(load(text), load("process.exec = [\"a\"]"));
}

#[test]
fn every_key_has_a_meaning_and_a_default_or_an_example() {
    for section in super::keys::sections(&super::tree()) {
        for key in section.keys {
            let name = format!("{} {}", section.path.join("."), key.name);
            assert!(!key.meaning.is_empty(), "{name} has no comment");
            let shown = matches!(key.fallback, super::keys::Fallback::Value(_)) || key.example.is_some();
            assert!(shown, "{name} has neither default nor example");
        }
    }
}

#[test]
fn the_schema_for_editors_takes_templates_for_numbers_and_has_no_marks_of_ours() {
    let schema: serde_json::Value = serde_json::from_str(&json()).unwrap();
    let port = &schema["properties"]["service"]["items"]["properties"]["port"];
    assert_eq!(port["anyOf"][0]["type"], "integer");
    assert_eq!(port["anyOf"][1]["type"], "string");
    assert_eq!(schema["properties"]["service"]["items"]["required"], serde_json::json!(["name", "port"]));
    assert!(!json().contains("x-order") && !json().contains("\"null\""));
}

/// Who reads the schema knows a choice of words by its `enum`. Comments on the variants of a raw enum turn it into
/// `oneOf`, which nobody here reads: every value would be refused.
#[test]
fn every_choice_of_words_is_an_enum() {
    let schema = tree().to_string();
    for unread in ["\"oneOf\"", "\"const\""] {
        assert!(!schema.contains(unread), "{unread} in {schema}");
    }
}

/// Any other mistake in the file makes the shape be checked: what is right stays right.
#[test]
fn leftovers_are_judged_by_their_own_words() {
    let told = |value: &str| {
        let text = format!(
            "nonsense = 1\nprocess.exec = [\"true\"]\n[hooks.post_stop]\nexec = [\"true\"]\nleftovers = \"{value}\"\n"
        );
        Config::from_text(&text, Path::new("t.toml"), None, &Context::default())
            .map(drop)
            .expect_err("a mistake")
            .to_string()
    };
    assert!(!told("keep").contains("leftovers"), "{}", told("keep"));
    assert!(told("kep").contains("did you mean `\"keep\"`"), "{}", told("kep"));
}
