//! What a fuzz target throws at the import: files of other programs, as they are and with something wrong in them.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Imported, as_it_runs, import, recognise, render};

/// A file: it becomes a config that is TOML, each note at a place of the file, or a report; with and without a variable
/// that is known, and as it is run.
pub(crate) fn file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = Path::new("file.json5");
    for set in [BTreeMap::new(), BTreeMap::from([("X".to_owned(), "1".to_owned())])] {
        match import(text, file, &set) {
            Ok(imported) => sound(&imported, text),
            Err(report) => assert!(!report.to_string().is_empty()),
        }
        let Ok(rendered) = render(text, file, &set) else { continue };
        if recognise(&rendered) == Some(2)
            && let Ok(imported) = as_it_runs(&rendered, file, &set)
        {
            sound(&imported, &rendered);
        }
    }
}

fn sound(imported: &Imported, text: &str) {
    if let Err(error) = imported.toml.parse::<toml::Table>() {
        panic!("{error}\n{}", imported.toml);
    }
    let lines = text.matches('\n').count() + 1;
    for note in &imported.notes {
        assert!((1..=lines).contains(&note.line) && note.column > 0 && !note.key.is_empty(), "{note}");
    }
}
