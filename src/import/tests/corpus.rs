//! Files of a folder that IMPORT_CORPUS names: a look at them for people.

use std::collections::BTreeMap;

use super::mistakes;
use crate::import::import;

#[test]
#[ignore = "looks at the files that IMPORT_CORPUS names"]
fn look_at_a_folder() {
    let Ok(folder) = std::env::var("IMPORT_CORPUS") else { return };
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        println!("=================== {}", file.display());
        let imported = match import(&text, &file, &BTreeMap::new()) {
            Ok(imported) => imported,
            Err(report) => {
                println!("{report}\nRESULT 78");
                continue;
            }
        };
        println!("{}", imported.toml);
        imported.notes.iter().for_each(|note| println!("{note}"));
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let words = text.split(word).filter(|word| word.contains(|c: char| c.is_ascii_uppercase()));
        let wrong = mistakes(&imported.toml, &words.map(|word| (word, "1")).collect::<Vec<_>>());
        wrong.iter().for_each(|wrong| println!("CHECK: {wrong}"));
        let kind = if imported.is_lossy() { "lost" } else { "whole" };
        println!("RESULT {kind} {}", if wrong.is_empty() { "ok" } else { "bad" });
    }
}
