//! What an import comes to: files in every shape that published ones have (`tests/import/`), each with the TOML that it
//! becomes, judged by the parser of pilotfish's own config.

mod broken;
mod chains;
mod consul;
mod corpus;
mod jobs;
mod mutations;
mod notes;
mod set;
mod shapes;
mod supervisord;
mod supervisord_values;
mod templates;
mod values;
mod ways;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Imported, import};
use crate::config::{Config, Context, Report};

/// Files of a folder below `tests/import`, with what is in them.
fn files(below: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(below);
    // Where the module is built on its own, the files are named.
    let folder = std::env::var_os("IMPORT_FILES").map_or(folder, |files| Path::new(&files).join(below));
    let mut files: Vec<(PathBuf, String)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|file| {
            file.extension().is_some_and(|extension| ["json", "json5", "conf"].iter().any(|known| extension == *known))
        })
        .map(|file| (file.clone(), std::fs::read_to_string(&file).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn name(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

fn imported(text: &str) -> Imported {
    with(text, &[])
}

fn with(text: &str, set: &[(&str, &str)]) -> Imported {
    attempt(text, set).unwrap_or_else(|report| panic!("{report}"))
}

fn attempt(text: &str, set: &[(&str, &str)]) -> Result<Imported, Report> {
    let set: BTreeMap<String, String> = set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    import(text, Path::new("containerpilot.json5"), &set)
}

/// What is said of a key, and whether that is lost.
fn said(imported: &Imported, key: &str) -> (String, bool) {
    let note = imported.notes.iter().find(|note| note.key == key);
    let note = note.unwrap_or_else(|| panic!("nothing on {key}: {:#?}\n{}", imported.notes, imported.toml));
    (note.what.clone(), note.lost)
}

/// Mistakes of a config with these variables, but for keys that this version hasn't yet.
fn mistakes(toml: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let context = Context { variables: variables.iter().copied().collect(), hostname: "host".to_owned() };
    let command = toml.contains("a config of ContainerPilot 2").then(|| vec!["main".into()]);
    let later = |message: &str| message.contains("is not in this version");
    match Config::from_text(toml, Path::new("imported.toml"), command, &context) {
        Ok(_) => Vec::new(),
        Err(report) => report
            .mistakes()
            .iter()
            .filter(|mistake| !later(&mistake.message))
            .map(|mistake| mistake.picture().to_owned())
            .collect(),
    }
}
