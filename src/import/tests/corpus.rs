//! Files of a folder that IMPORT_CORPUS names: a look at them for people, not a test.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::{Config, Context};
use crate::import::import;

/// Mistakes of a config but for those that later versions don't make.
pub(super) fn mistakes(toml: &str, command: bool, variables: &[(&str, &str)]) -> Vec<String> {
    let context = Context { variables: variables.iter().copied().collect(), hostname: "host".to_owned() };
    let command = command.then(|| vec!["main".into()]);
    match Config::from_text(toml, Path::new("imported.toml"), command, &context) {
        Ok(_) => Vec::new(),
        Err(report) => report.mistakes().iter().map(|mistake| mistake.to_string()).collect(),
    }
}

#[test]
#[ignore = "looks at the files that IMPORT_CORPUS names"]
fn look_at_a_folder() {
    let Ok(folder) = std::env::var("IMPORT_CORPUS") else { return };
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        println!("=================== {}", file.display());
        match import(&text, &file, &BTreeMap::new()) {
            Ok(imported) => {
                println!("{}", imported.toml);
                imported.notes.iter().for_each(|note| println!("{note}"));
                let words: Vec<String> =
                    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map(str::to_owned).collect();
                let set: Vec<(&str, &str)> = words
                    .iter()
                    .filter(|word| word.chars().any(|c| c.is_ascii_uppercase()))
                    .map(|word| (word.as_str(), "1"))
                    .collect();
                let wrong = mistakes(&imported.toml, true, &set);
                wrong.iter().for_each(|wrong| println!("CHECK: {wrong}"));
                println!(
                    "RESULT {} {}",
                    if imported.is_lossy() { "lost" } else { "whole" },
                    if wrong.is_empty() { "ok" } else { "bad" }
                );
            }
            Err(report) => println!("{report}\nRESULT 78"),
        }
    }
}
